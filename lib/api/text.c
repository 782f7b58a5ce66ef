/* Text, logits and generation. */
#include <math.h>

#include "api/infer.h"

int complete_messages(const peft_message *messages, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (!messages[i].role || !messages[i].content)
            return fail(PEFT_EARG, "message %d has no role or content", i);
    return PEFT_OK;
}

/* Copies what fits; the result is the whole length. */
static int64_t give_bytes(struct buf *b, int rc, char *text, int64_t cap)
{
    int64_t n = b->n;
    if (!rc) rc = buf_check(b);
    if (!rc && text && cap > 0) memcpy(text, b->data, (size_t)MIN(n, cap));
    buf_free(b);
    return rc ? rc : n;
}

int64_t peft_tokenize_offsets(const peft_model *model, const char *text, size_t n, int32_t flags,
                              int32_t *ids, int32_t *offsets, int64_t cap)
{
    ARG(model && (text || !n), "no model or text given");
    ARG(n <= INT32_MAX, "a text of %zu bytes, expected at most 2 GB", n);
    struct model *m = model_of(model);
    struct ids out;
    struct token_spans spans;
    int rc = need_tokenizer(m);
    if (rc) return rc;
    ids_init(&out, &m->host.mem);
    token_spans_init(&spans, &m->host.mem);
    rc = tok_encode_spans(&m->host, m->tok, text, (int64_t)n, flags, &out,
                          offsets ? &spans : NULL);
    int64_t total = out.n, fits = rc ? 0 : MIN(total, cap);
    if (ids && fits > 0) memcpy(ids, out.v, (size_t)fits * sizeof(*ids));
    for (int64_t i = 0; offsets && i < fits; i++) {
        offsets[2 * i] = spans.begin.v[i];
        offsets[2 * i + 1] = spans.end.v[i];
    }
    token_spans_free(&spans);
    ids_free(&out);
    return rc ? rc : total;
}

int64_t peft_tokenize(const peft_model *model, const char *text, size_t n, int32_t flags,
                      int32_t *ids, int64_t cap)
{
    return peft_tokenize_offsets(model, text, n, flags, ids, NULL, cap);
}

int64_t peft_detokenize(const peft_model *model, const int32_t *ids, int64_t n, int32_t flags,
                        char *text, int64_t cap)
{
    ARG(model && (ids || !n) && n >= 0, "no model or ids given");
    struct model *m = model_of(model);
    struct buf b;
    int rc = need_tokenizer(m);
    if (rc) return rc;
    buf_init(&b, &m->host.mem);
    return give_bytes(&b, tok_decode(m->tok, ids, n, flags, &b), text, cap);
}

int64_t peft_chat_render(const peft_model *model, const peft_message *messages, int32_t n,
                         int32_t prompt, char *text, int64_t cap)
{
    ARG(model && messages && n > 0, "no model or messages given");
    struct model *m = model_of(model);
    struct buf b;
    int rc = complete_messages(messages, n);
    if (!rc) rc = need_tokenizer(m);
    if (rc) return rc;
    buf_init(&b, &m->host.mem);
    return give_bytes(&b, chat_render(m->tok, (const struct message *)messages, n, prompt, &b),
                      text, cap);
}

/* --- one sequence, or a source and its target, through the model */

enum output { OUT_LOGITS, OUT_EMBED };

struct tensor *head_output(struct pass *p, struct tensor *x, void *unused)
{
    (void)unused;
    if (!p->m->head) return model_logits(p, x);
    return model_classify(p, head_kinds[p->m->kind].each_token ? x : model_pooled(p, x));
}

static struct tensor *output_of(struct pass *p, enum output kind)
{
    int encode = kind == OUT_EMBED && p->n_source;
    struct tensor *x = encode ? model_encoded(p) : model_hidden(p);
    return kind == OUT_EMBED ? model_pool(p, x, POOL_MEAN) : head_output(p, x, NULL);
}

/* ids: n_source of a source, then n. */
static int run_once(struct model *m, const int32_t *ids, int32_t n_source, int32_t n,
                    enum output kind, float *out)
{
    int rc = model_graph(m);
    int64_t all = (int64_t)n_source + n;
    if (!rc) rc = rope_reserve(m, all);
    int32_t starts[3] = { 0, n_source, (int32_t)all };
    int32_t *pos = rc ? NULL : mem_array(&m->host.mem, all, sizeof(*pos));
    if (!pos) return rc ? rc : PEFT_ENOMEM;
    for (int32_t i = 0; i < all; i++) pos[i] = i < n_source ? i : i - n_source;
    struct pass p = { .m = m,
                      .g = m->graph,
                      .mem = m->mem,
                      .n = all,
                      .n_seq = (n_source > 0) + (n > 0),
                      .n_source = n_source > 0,
                      .ids = ids,
                      .pos = pos,
                      .start = starts + !n_source };
    rc = pass_begin(&p);
    if (!rc) {
        struct tensor *x = output_of(&p, kind);
        if (x) graph_keep(x);
        rc = graph_forward(p.g);
        if (!rc) memcpy(out, x->x, (size_t)tensor_len(x) * sizeof(float));
    }
    mem_free(&m->host.mem, pos);
    return rc;
}

int check_ids(const struct model *m, const int32_t *ids, int32_t n)
{
    if (m->vision) return fail(PEFT_ESTATE, "this model reads pictures, expected pixels");
    if (n > model_room(m))
        return fail(PEFT_EARG, "%d tokens, the model has room for %d", n, (int)model_room(m));
    for (int32_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= m->hp.vocab)
            return fail(PEFT_EARG, "token id %d at %d, expected 0 to %d", ids[i], i,
                        (int)m->hp.vocab - 1);
    return PEFT_OK;
}

int check_forward(const struct model *m)
{
    if (!m->head && !model_lm_head(m))
        return fail(PEFT_ESTATE, "this encoder has no head, expected peft_head_add or peft_embed");
    if (m->stack[STACK_ENCODER].end)
        return fail(PEFT_ESTATE, "the model reads a source and a target, expected "
                    "peft_forward_pair");
    return PEFT_OK;
}

int32_t peft_forward(peft_model *model, const int32_t *ids, int32_t n, float *logits)
{
    ARG(model && ids && logits && n > 0, "no model, ids or room for logits given");
    struct model *m = model_of(model);
    int rc = check_ids(m, ids, n);
    if (!rc) rc = check_forward(m);
    if (rc) return rc;
    struct fp_mode fp = fp_enter();
    rc = run_once(m, ids, 0, n, OUT_LOGITS, logits);
    fp_leave(fp);
    return rc;
}

int32_t peft_forward_pair(peft_model *model, const int32_t *source, int32_t n_source,
                          const int32_t *ids, int32_t n, float *logits)
{
    ARG(model && source && ids && logits && n_source > 0 && n > 0,
        "no model, ids or room for logits given");
    struct model *m = model_of(model);
    if (!m->stack[STACK_ENCODER].end)
        return fail(PEFT_ESTATE, "the model has no encoder beside a decoder, expected "
                    "peft_forward");
    int rc = check_ids(m, source, n_source);
    if (!rc) rc = check_ids(m, ids, n);
    if (rc) return rc;
    int32_t *both = mem_array(&m->host.mem, (int64_t)n_source + n, sizeof(*both));
    if (!both) return PEFT_ENOMEM;
    memcpy(both, source, (size_t)n_source * sizeof(*both));
    memcpy(both + n_source, ids, (size_t)n * sizeof(*both));
    struct fp_mode fp = fp_enter();
    rc = run_once(m, both, n_source, n, OUT_LOGITS, logits);
    fp_leave(fp);
    mem_free(&m->host.mem, both);
    return rc;
}

int32_t peft_embed(peft_model *model, const int32_t *ids, int32_t n, int32_t normalize,
                   float *embedding)
{
    ARG(model && ids && embedding && n > 0, "no model, ids or room for the embedding given");
    struct model *m = model_of(model);
    int rc = check_ids(m, ids, n);
    if (rc) return rc;
    struct fp_mode fp = fp_enter();
    int two = m->stack[STACK_ENCODER].end > 0;
    rc = run_once(m, ids, two ? n : 0, two ? 0 : n, OUT_EMBED, embedding);
    double sum = rc ? 0 : m->compute.k->sum_squares(embedding, m->hp.embed);
    if (!rc && normalize && sum > 0)
        m->compute.k->axpy(embedding, embedding, (float)(1.0 / sqrt(sum)), 0, m->hp.embed);
    fp_leave(fp);
    return rc;
}

/* --- generation */

int render_prompt(struct model *m, const peft_message *messages, int32_t n, int raw,
                  struct ids *ids)
{
    struct buf b;
    int rc = PEFT_OK, two = m->stack[STACK_ENCODER].end > 0;
    buf_init(&b, &m->host.mem);
    if (raw) buf_puts(&b, messages[n - 1].content);
    else if (two) rc = data_source_text(m->tok, (const struct message *)messages, n, &b);
    else rc = chat_render(m->tok, (const struct message *)messages, n, 1, &b);
    if (!rc) rc = buf_check(&b);
    if (!rc) rc = tok_encode(&m->host, m->tok, b.data, b.n, TOK_SPECIAL, ids);
    /* What is to be continued does not end with an end of sequence. */
    if (!rc && !two && ids->n > 1 && tok_info(m->tok)->adds_eos &&
        ids->v[ids->n - 1] == tok_info(m->tok)->eos)
        ids->n--;
    /* A template that writes BOS itself must not meet another one. */
    if (!rc && !raw && ids->n > 1 && ids->v[0] == ids->v[1] && ids->v[0] == tok_info(m->tok)->bos) {
        memmove(ids->v, ids->v + 1, (size_t)(ids->n - 1) * sizeof(*ids->v));
        ids->n--;
    }
    if (!rc) rc = ids_check(ids);
    buf_free(&b);
    return rc;
}

int take_generate_opts(const struct model *m, const peft_generate_opts *opts,
                       peft_generate_opts *o)
{
    int rc = take_options(o, sizeof(*o), opts);
    if (rc) return rc;
    if (!m->arch->style.causal || m->head)
        return fail(PEFT_ESTATE, "this model has no language-model head to generate with");
    if (!(o->temperature >= 0 && o->top_p >= 0 && o->min_p >= 0 && o->repeat_penalty >= 0) ||
        o->max_tokens < 0 || o->top_k < 0 || o->n_stop < 0 || (o->n_stop && !o->stop))
        return fail(PEFT_EARG, "a generation option is negative or missing");
    if (o->num_beams < 0 || o->num_beams > PEFT_BEAMS_MAX || o->early_stopping < 0 ||
        o->early_stopping > 2 || !isfinite(o->length_penalty))
        return fail(PEFT_EARG, "%d beams, early stopping %d, length penalty %g: expected 0 to %d, "
                    "0 to 2, and a number", o->num_beams, o->early_stopping,
                    (double)o->length_penalty, PEFT_BEAMS_MAX);
    if (o->num_beams > 1 && o->temperature > 0)
        return fail(PEFT_EARG, "a temperature of %g with %d beams, which do not sample",
                    (double)o->temperature, o->num_beams);
    for (int32_t i = 0; i < o->n_stop; i++)
        if (!o->stop[i]) return fail(PEFT_EARG, "stop string %d is NULL", i);
    if (o->length_penalty == 0) o->length_penalty = 1;
    return PEFT_OK;
}

int32_t peft_generate_defaults(const peft_model *model, peft_generate_opts *opts)
{
    peft_generate_opts o;
    ARG(model && opts, "no model or options given");
    int rc = take_options(&o, sizeof(o), opts);
    if (rc) return rc;
    gen_sampling(model_of(model), &o);
    give_result(opts, &o, sizeof(o));
    return PEFT_OK;
}

int32_t peft_generate(peft_model *model, const peft_message *messages, int32_t n,
                      const peft_generate_opts *opts, peft_generated *out)
{
    peft_generate_opts o;
    peft_generated result = { 0 };
    struct ids ids;
    ARG(model && messages && n > 0, "no model or messages given");
    struct model *m = model_of(model);
    int rc = complete_messages(messages, n);
    if (!rc && out) rc = check_result(out);
    if (!rc) rc = need_tokenizer(m);
    if (!rc) rc = take_generate_opts(m, opts, &o);
    if (rc) return rc;
    struct fp_mode fp = fp_enter();
    ids_init(&ids, &m->host.mem);
    rc = render_prompt(m, messages, n, o.raw, &ids);
    if (!rc) rc = model_generate(m, &(struct gen_request){ ids.v, ids.n, &o, NULL, &result, NULL });
    ids_free(&ids);
    fp_leave(fp);
    if (!rc && out) give_result(out, &result, sizeof(result));
    return rc;
}

int64_t peft_generate_ids(peft_model *model, const int32_t *ids, int32_t n,
                          const peft_generate_opts *opts, int32_t *to, int64_t cap,
                          peft_generated *out)
{
    peft_generate_opts o;
    peft_generated result = { 0 };
    struct ids answer;
    ARG(model && ids && n > 0 && (to || cap <= 0), "no model, ids or room for ids given");
    struct model *m = model_of(model);
    int rc = check_ids(m, ids, n);
    if (!rc && out) rc = check_result(out);
    if (!rc) rc = take_generate_opts(m, opts, &o);
    if (rc) return rc;
    struct fp_mode fp = fp_enter();
    ids_init(&answer, &m->host.mem);
    rc = model_generate(m, &(struct gen_request){ ids, n, &o, NULL, &result, &answer });
    int64_t total = answer.n;
    if (!rc && total && cap > 0) memcpy(to, answer.v, (size_t)MIN(total, cap) * sizeof(*to));
    ids_free(&answer);
    fp_leave(fp);
    if (!rc && out) give_result(out, &result, sizeof(result));
    return rc ? rc : total;
}
