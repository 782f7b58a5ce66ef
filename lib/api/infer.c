/* peft_classify, peft_tag_text, peft_fill_mask, peft_embed_text. */
#include "api/infer.h"

#include <math.h>

int need_tokenizer(const struct model *m)
{
    if (m->tok) return PEFT_OK;
    return fail(PEFT_ENOTFOUND,
                "%s has no tokenizer, expected tokenizer.json, vocab.txt or GGUF metadata",
                m->path);
}

int check_max_len(const struct model *m, int32_t *max_len)
{
    if (*max_len < 0 || *max_len > model_longest(m))
        return fail(PEFT_EARG, "max_len %d, expected at most the model's %d", *max_len,
                    (int)model_longest(m));
    if (!*max_len) *max_len = (int32_t)model_longest(m);
    return PEFT_OK;
}

void seqs_init(struct seqs *t, struct model *m)
{
    *t = (struct seqs){ .host = &m->host };
    struct ids *all[] = { &t->ids, &t->pos, &t->types, &t->start };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) ids_init(all[i], &m->host.mem);
}

void seqs_free(struct seqs *t)
{
    struct ids *all[] = { &t->ids, &t->pos, &t->types, &t->start };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) ids_free(all[i]);
}

void seqs_clear(struct seqs *t)
{
    t->ids.n = t->pos.n = t->types.n = t->start.n = 0;
    t->n = 0;
}

/* Closes the sequence of the last n ids. */
static int close_text(struct seqs *t, int64_t n, int64_t second)
{
    if (!n) return fail(PEFT_EARG, "text %d has no tokens", t->n);
    if (!t->n++) ids_push(&t->start, 0);
    for (int64_t i = 0; i < n; i++) {
        ids_push(&t->pos, (int32_t)i);
        ids_push(&t->types, second && i >= second);
    }
    ids_push(&t->start, (int32_t)t->ids.n);
    int rc = ids_check(&t->ids);
    if (!rc) rc = ids_check(&t->pos);
    if (!rc) rc = ids_check(&t->types);
    return rc ? rc : ids_check(&t->start);
}

int seqs_add(struct seqs *t, const int32_t *ids, int64_t n, int64_t second)
{
    for (int64_t i = 0; i < n; i++) ids_push(&t->ids, ids[i]);
    return close_text(t, n, second);
}

int seqs_encode(struct seqs *t, const struct model *m, const char *text, const char *pair,
                 int64_t max_len)
{
    struct ids types;
    int64_t from = t->ids.n, second = 0;
    ids_init(&types, &t->host->mem);
    int rc = pair ? tok_encode_pair(t->host, m->tok, text, (int64_t)strlen(text), pair,
                                    (int64_t)strlen(pair), &t->ids, &types)
                  : tok_encode(t->host, m->tok, text, (int64_t)strlen(text), TOK_SPECIAL, &t->ids);
    while (second < types.n && !types.v[second]) second++;
    ids_free(&types);
    if (rc) return rc;
    int32_t last = t->ids.n > from ? t->ids.v[t->ids.n - 1] : 0;
    if (t->ids.n - from > max_len) {
        t->ids.n = from + max_len;
        /* An encoder's text ends with its [SEP]. */
        if (!m->arch->style.causal && tok_is_special(m->tok, last))
            t->ids.v[t->ids.n - 1] = last;
    }
    return close_text(t, t->ids.n - from, second);
}

int seqs_run(struct seqs *t, struct model *m, seqs_output *output, void *arg,
              const struct tensor **out)
{
    struct fp_mode fp = fp_enter();
    int64_t longest = 0;
    for (int32_t i = 0; i < t->n; i++)
        longest = MAX(longest, t->start.v[i + 1] - t->start.v[i]);
    int rc = model_graph(m);
    if (!rc) rc = rope_reserve(m, longest);
    struct pass p = { .m = m, .g = m->graph, .mem = m->mem, .n = t->ids.n, .n_seq = t->n,
                      .ids = t->ids.v, .pos = t->pos.v, .start = t->start.v, .types = t->types.v,
                      .acts = t->acts, .enters = t->enters };
    if (!rc) rc = pass_begin(&p);
    if (!rc) {
        struct tensor *x = output(&p, model_hidden(&p), arg);
        if (x) graph_keep(x);
        rc = graph_forward(p.g);
        *out = x;
    }
    fp_leave(fp);
    return rc;
}

static int check_texts(const char *const *texts, const char *const *pairs, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (!texts[i] || (pairs && !pairs[i])) return fail(PEFT_EARG, "text %d is NULL", i);
    return PEFT_OK;
}

/* --- classes */

static struct tensor *class_of(struct pass *p, struct tensor *hidden, void *arg)
{
    (void)arg;
    return model_classify(p, model_pooled(p, hidden));
}

static int32_t best_label(const float *z, int64_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (z[i] > z[best]) best = i;
    return best;
}

static void to_scores(const struct model *m, float *z, int64_t rows)
{
    int64_t n = m->hp.labels;
    if (m->kind == HEAD_MULTI)
        for (int64_t i = 0; i < rows * n; i++) z[i] = 1.0f / (1.0f + expf(-z[i]));
    if (m->kind == HEAD_CLASS) m->compute.k->softmax(z, rows, n, n);
}

int32_t peft_classify(peft_model *model, const char *const *texts, int32_t n,
                      const peft_classify_opts *opts, float *scores, int32_t *labels)
{
    peft_classify_opts o;
    ARG(model && texts && scores && n > 0, "no model, texts or room for scores given");
    struct model *m = model_of(model);
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc) rc = check_texts(texts, o.pairs, n);
    if (!rc) rc = need_tokenizer(m);
    if (!rc) rc = check_max_len(m, &o.max_len);
    if (rc) return rc;
    if (!m->head || head_kinds[m->kind].each_token)
        return fail(PEFT_ESTATE, "the model's head is of the kind \"%s\", expected one for whole "
                    "texts", head_kinds[m->kind].name);
    if (o.batch < 0) return fail(PEFT_EARG, "batch %d, expected 1 or more", o.batch);
    struct seqs t;
    struct mix mix;
    const struct tensor *z = NULL;
    int64_t classes = m->hp.labels;
    seqs_init(&t, m);
    rc = mix_new(m, o.adapters, n, &mix);
    for (int32_t i = 0; i < n && !rc; i += t.n) {
        int32_t end = (int32_t)MIN(n, (int64_t)i + (o.batch ? o.batch : 8));
        const int32_t *text = mix.order + i;
        seqs_clear(&t);
        t.acts = mix.acts ? mix.acts + i : NULL;
        for (int32_t k = 0; k < end - i && !rc; k++)
            rc = seqs_encode(&t, m, texts[text[k]], o.pairs ? o.pairs[text[k]] : NULL, o.max_len);
        if (!rc) rc = seqs_run(&t, m, class_of, NULL, &z);
        for (int32_t k = 0; k < end - i && !rc; k++) {
            float *to = scores + text[k] * classes;
            memcpy(to, tensor_f32(z) + k * classes, (size_t)classes * sizeof(float));
            if (labels) labels[text[k]] = best_label(to, classes);
            if (!o.raw) to_scores(m, to, 1);
        }
    }
    mix_free(m, &mix);
    seqs_free(&t);
    return rc;
}

/* --- embeddings */

/* `n` depths, of which the last is the end. */
struct pooling { int32_t kind, n; struct tensor **z; };

static struct tensor *pooled_as(struct pass *p, struct tensor *hidden, void *arg)
{
    struct pooling *o = arg;
    struct tensor *last = o->z[o->n - 1] = model_pool(p, hidden, o->kind);
    for (int32_t j = 1; j < o->n; j++) {
        struct tensor *x = p->enters[p->m->stack[STACK_MAIN].first + j * p->m->hp.layers / o->n];
        o->z[j - 1] = model_pool(p, virtual_real(p, x), o->kind);
        graph_keep(o->z[j - 1]);
    }
    return last;
}

int32_t peft_embed_text(peft_model *model, const char *const *texts, int32_t n,
                        const peft_embed_opts *opts, float *embeddings)
{
    peft_embed_opts o;
    ARG(model && texts && embeddings && n > 0, "no model, texts or room for embeddings given");
    struct model *m = model_of(model);
    int rc = take_options(&o, sizeof(o), opts);
    struct pooling pool = { .kind = m->sentence.pool };
    int64_t dim = m->hp.embed;
    if (!rc) rc = check_texts(texts, NULL, n);
    if (!rc && o.pool) rc = pool_by_name(o.pool, &pool.kind);
    if (!rc) rc = need_tokenizer(m);
    if (!o.max_len) o.max_len = (int32_t)MIN(m->sentence.max_len, model_longest(m));
    if (!rc) rc = check_max_len(m, &o.max_len);
    if (rc) return rc;
    if (m->hp.enc_layers)
        return fail(PEFT_ESTATE, "the model has an encoder and a decoder, expected peft_embed");
    if (m->sentence.other && !o.pool)
        return fail(PEFT_EUNSUPPORTED, "%s: modules.json has the module %s, which is not "
                    "supported: name the pooling", m->path, m->sentence.other);
    pool.n = o.depths ? o.depths : 1;
    if (pool.n < 1 || pool.n > (dim == m->hp.dim ? m->hp.layers : 1))
        return fail(PEFT_EARG, "%d depths, expected 1 or at most the layers", o.depths);
    if (o.batch < 0) return fail(PEFT_EARG, "batch %d, expected 1 or more", o.batch);
    int normalize = o.normalize ? o.normalize > 0 : m->sentence.normalize;
    struct seqs t;
    struct mix mix;
    struct buf text;
    const struct tensor *z = NULL;
    seqs_init(&t, m);
    buf_init(&text, &m->host.mem);
    rc = mix_new(m, o.adapters, n, &mix);
    t.enters = mem_array(&m->host.mem, m->hp.layers + pool.n, sizeof(*t.enters));
    if (!rc && !t.enters) rc = PEFT_ENOMEM;
    if (!rc) pool.z = t.enters + m->hp.layers;
    for (int32_t i = 0; i < n && !rc; i += t.n) {
        int32_t end = (int32_t)MIN(n, (int64_t)i + (o.batch ? o.batch : 8));
        seqs_clear(&t);
        t.acts = mix.acts ? mix.acts + i : NULL;
        for (int32_t k = i; k < end && !rc; k++) {
            buf_clear(&text);
            if (o.prefix) buf_puts(&text, o.prefix);
            buf_puts(&text, texts[mix.order[k]]);
            rc = buf_check(&text);
            if (!rc) rc = seqs_encode(&t, m, buf_str(&text), NULL, o.max_len);
        }
        if (!rc) rc = seqs_run(&t, m, pooled_as, &pool, &z);
        for (int64_t k = (int64_t)i * pool.n; k < (int64_t)end * pool.n && !rc; k++) {
            int64_t j = k % pool.n, row = k / pool.n;
            float *x = embeddings + (mix.order[row] * pool.n + j) * dim;
            memcpy(x, tensor_f32(pool.z[j]) + (row - i) * dim, (size_t)dim * sizeof(float));
            double sum = normalize ? m->compute.k->sum_squares(x, dim) : 0;
            if (sum > 0) m->compute.k->axpy(x, x, (float)(1.0 / sqrt(sum)), 0, dim);
        }
    }
    mem_free(&m->host.mem, t.enters);
    mix_free(m, &mix);
    seqs_free(&t);
    buf_free(&text);
    return rc;
}

/* --- masks */

static struct tensor *logits_of(struct pass *p, struct tensor *hidden, void *arg)
{
    const struct ids *rows = arg;
    return model_logits(p, g_rows(p->g, hidden, rows->v, rows->n));
}

int64_t peft_fill_mask(peft_model *model, const char *text, size_t n, int32_t top_k,
                       peft_filled *filled, int64_t cap)
{
    ARG(model && (text || !n) && (filled || !cap), "no model, text or room given");
    ARG(top_k > 0 && n <= INT32_MAX, "top_k %d, expected 1 or more", top_k);
    struct model *m = model_of(model);
    struct seqs t;
    struct ids ids, rows;
    const struct tensor *z = NULL;
    int rc = need_tokenizer(m);
    if (rc) return rc;
    if (m->kind != HEAD_MASKED)
        return fail(PEFT_ESTATE, "the model is no masked language model");
    top_k = (int32_t)MIN(top_k, m->hp.vocab);
    seqs_init(&t, m);
    ids_init(&ids, &m->host.mem);
    ids_init(&rows, &m->host.mem);
    rc = tok_encode(&m->host, m->tok, text, (int64_t)n, TOK_SPECIAL, &ids);
    for (int64_t i = 0; i < ids.n; i++)
        if (ids.v[i] == tok_info(m->tok)->mask) ids_push(&rows, (int32_t)i);
    if (!rc && ids.n > model_longest(m))
        rc = fail(PEFT_EARG, "%lld tokens, the model has room for %d", (long long)ids.n,
                  (int)model_longest(m));
    if (!rc && !rows.n) rc = fail(PEFT_EARG, "the text has no mask token");
    if (!rc) rc = ids_check(&rows);
    if (!rc) rc = seqs_add(&t, ids.v, ids.n, 0);
    if (!rc) rc = seqs_run(&t, m, logits_of, &rows, &z);
    int64_t total = rows.n * top_k;
    for (int64_t r = 0; !rc && r < rows.n; r++) {
        float *p = tensor_f32(z) + r * z->cols;
        m->compute.k->softmax(p, 1, z->cols, z->cols);
        for (int32_t k = 0; k < top_k; k++) {
            int32_t best = best_label(p, z->cols);
            if (r * top_k + k < cap)
                filled[r * top_k + k] = (peft_filled){ (int32_t)r, best, p[best] };
            p[best] = -1;
        }
    }
    ids_free(&ids);
    ids_free(&rows);
    seqs_free(&t);
    return rc ? rc : total;
}
