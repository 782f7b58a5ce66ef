/* Several texts at once, each with an adapter of its own: peft_forward_batch,
 * peft_generate_batch. */
#include <math.h>
#include <stdlib.h>

#include "api/infer.h"

int acting_adapter(const struct model *m, const char *name, const struct adapter **out)
{
    *out = !name ? NULL : *name ? adapter_find(m, name) : &adapter_base;
    if (*out || !name) return PEFT_OK;
    return fail(PEFT_ENOTFOUND, "the model has no adapter \"%s\"", name);
}

struct choice { const struct adapter *a; int32_t key, text; };

static int by_key(const void *a, const void *b)
{
    const struct choice *x = a, *y = b;
    return x->key != y->key ? x->key - y->key : x->text - y->text;
}

/* Adapters count in the order in which they were added: addresses would let the bits
 * of a run depend on chance. */
static int choose_adapter(const struct model *m, const char *name, struct choice *to)
{
    int rc = acting_adapter(m, name, &to->a);
    to->key = to->a ? 1 : 0;
    for (const struct adapter *a = m->adapters; a && to->a && to->a != &adapter_base; a = a->next) {
        to->key++;
        if (a == to->a) break;
    }
    return rc;
}

int mix_new(struct model *m, const char *const *names, int32_t n, struct mix *out)
{
    struct mem *mem = &m->host.mem;
    struct choice *list = names ? mem_array(mem, n, sizeof(*list)) : NULL;
    int rc = PEFT_OK;
    out->acts = names ? mem_array(mem, n, sizeof(*out->acts)) : NULL;
    out->order = mem_array(mem, n, sizeof(*out->order));
    if (!out->order || (names && (!list || !out->acts))) rc = PEFT_ENOMEM;
    for (int32_t i = 0; i < n && !rc; i++) {
        if (names) rc = choose_adapter(m, names[i], &list[i]);
        if (names) list[i].text = i;
        else out->order[i] = i;
    }
    if (!rc && names) qsort(list, (size_t)n, sizeof(*list), by_key);
    for (int32_t i = 0; i < n && names && !rc; i++) {
        out->acts[i] = list[i].a;
        out->order[i] = list[i].text;
    }
    mem_free(mem, list);
    return rc;
}

void mix_free(struct model *m, struct mix *x)
{
    mem_free(&m->host.mem, x->acts);
    mem_free(&m->host.mem, x->order);
}

/* --- logits */

int32_t peft_forward_batch(peft_model *model, const int32_t *ids, const int32_t *lengths, int32_t n,
                           const char *const *adapters, float *logits)
{
    ARG(model && ids && lengths && logits && n > 0, "no model, ids, lengths or room for logits "
        "given");
    struct model *m = model_of(model);
    struct seqs t;
    struct mix mix;
    const struct tensor *z = NULL;
    int64_t all = 0, each = m->head && !head_kinds[m->kind].each_token;
    int rc = check_forward(m);
    for (int32_t i = 0; i < n && !rc; all += lengths[i++])
        rc = lengths[i] < 1 ? fail(PEFT_EARG, "text %d has no tokens", i)
                            : check_ids(m, ids + all, lengths[i]);
    if (!rc && all > INT32_MAX)
        rc = fail(PEFT_EARG, "%lld tokens, expected 2^31 at most", (long long)all);
    if (rc) return rc;
    seqs_init(&t, m);
    rc = mix_new(m, adapters, n, &mix);
    int64_t *from = rc ? NULL : mem_array(&m->host.mem, (int64_t)n + 1, sizeof(*from));
    if (!rc && !from) rc = PEFT_ENOMEM;
    for (int32_t i = 0; i < n && !rc; i++) from[i + 1] = from[i] + lengths[i];
    for (int32_t i = 0; i < n && !rc; i++)
        rc = seqs_add(&t, ids + from[mix.order[i]], lengths[mix.order[i]], 0);
    t.acts = mix.acts;
    if (!rc) rc = seqs_run(&t, m, head_output, NULL, &z);
    const float *x = rc ? NULL : tensor_f32(z);
    for (int32_t i = 0; i < n && !rc; i++) {
        int64_t at = mix.order[i], rows = each ? 1 : lengths[at];
        memcpy(logits + (each ? at : from[at]) * z->cols, x, (size_t)(rows * z->cols) * 4);
        x += rows * z->cols;
    }
    mem_free(&m->host.mem, from);
    mix_free(m, &mix);
    seqs_free(&t);
    return rc;
}

/* --- likelihoods */

struct ends { struct batch b; struct loss_stats stats; };

static struct tensor *ends_loss(struct pass *p, struct tensor *hidden, void *arg)
{
    struct ends *e = arg;
    const int32_t *rows = pass_rows(p, e->b.rows, e->b.n_target);
    return objective_lm.loss(p, &e->b, g_rows(p->g, hidden, rows, e->b.n_target), 1.0f, &e->stats);
}

static int check_next(const struct model *m)
{
    int rc = check_forward(m);
    if (rc || (!m->head && m->arch->style.causal && model_lm_head(m))) return rc;
    return fail(PEFT_ESTATE, "the model is no language model that predicts the next token");
}

static struct tensor *last_logits(struct pass *p, struct tensor *hidden, void *arg)
{
    return model_logits(p, g_rows(p->g, hidden, pass_rows(p, arg, 1), 1));
}

int32_t peft_logprob_next(peft_model *model, const int32_t *ids, int32_t n, const int32_t *next,
                          int32_t k, double *logp)
{
    ARG(model && ids && next && logp && n > 0 && k > 0, "no model, ids or room for results given");
    struct model *m = model_of(model);
    const struct tensor *z;
    struct seqs t;
    int32_t last = n - 1;
    int rc = check_next(m);
    if (!rc) rc = check_ids(m, ids, n);
    for (int32_t i = 0; i < k && !rc; i++) rc = check_ids(m, next + i, 1);
    if (rc) return rc;
    seqs_init(&t, m);
    rc = seqs_add(&t, ids, n, 0);
    if (!rc) rc = seqs_run(&t, m, last_logits, &last, &z);
    const float *x = rc ? NULL : tensor_f32(z);
    double top = 0, sum = 0;
    for (int64_t i = 0; x && i < z->cols; i++) top = i && top > (double)x[i] ? top : (double)x[i];
    for (int64_t i = 0; x && i < z->cols; i++) sum += exp((double)x[i] - top);
    for (int32_t i = 0; x && i < k; i++) logp[i] = (double)x[next[i]] - top - log(sum);
    seqs_free(&t);
    return rc;
}

int32_t peft_logprob(peft_model *model, const int32_t *ids, const int32_t *lengths,
                     const int32_t *from, int32_t n, double *logp, int32_t *right)
{
    ARG(model && ids && lengths && from && logp && n > 0,
        "no model, ids or room for results given");
    struct model *m = model_of(model);
    struct seqs t;
    struct ids rows, target;
    struct ends e = { .b.n = 0 };
    const struct tensor *z;
    int64_t all = 0, k = 0;
    int rc = check_next(m);
    if (rc) return rc;
    seqs_init(&t, m);
    ids_init(&rows, &m->host.mem);
    ids_init(&target, &m->host.mem);
    for (int32_t i = 0; i < n && !rc; all += lengths[i++]) {
        if (lengths[i] < 2 || from[i] < 1 || from[i] >= lengths[i] || lengths[i] > INT32_MAX - all)
            rc = fail(PEFT_EARG, "text %d: the ids from %d on of %d, expected 1 or more after "
                      "the first", i, from[i], lengths[i]);
        else rc = check_ids(m, ids + all, lengths[i]);
        if (!rc) rc = seqs_add(&t, ids + all, lengths[i], 0);
        for (int64_t j = all + from[i]; j < all + lengths[i] && !rc; j++) {
            ids_push(&rows, (int32_t)j - 1);
            ids_push(&target, ids[j]);
        }
    }
    if (!rc) rc = MIN(ids_check(&rows), ids_check(&target));
    e.stats.each = rc ? NULL : mem_array(&m->host.mem, target.n, sizeof(*e.stats.each));
    if (!rc && !e.stats.each) rc = PEFT_ENOMEM;
    e.b.rows = rows.v;
    e.b.target = target.v;
    e.b.n_target = target.n;
    if (!rc) rc = seqs_run(&t, m, ends_loss, &e, &z);
    for (int32_t i = 0; i < n && !rc; i++) {
        logp[i] = 0;
        if (right) right[i] = 0;
        for (int32_t j = from[i]; j < lengths[i]; j++, k++) {
            logp[i] -= e.stats.each[k].loss;
            if (right) right[i] += e.stats.each[k].right;
        }
    }
    mem_free(&m->host.mem, e.stats.each);
    ids_free(&rows);
    ids_free(&target);
    seqs_free(&t);
    return rc;
}

/* --- answers */

struct served {
    peft_request r;
    peft_generate_opts o;
    peft_generated out;
    struct ids prompt, answer;
};

/* Elements are as large as the caller's version of the struct. */
static const peft_request *request_at(const peft_request *list, int32_t i)
{
    return (const peft_request *)(const void *)((const char *)list + (size_t)i * list->size);
}

static int take_request(struct model *m, struct served *s, struct gen_request *to)
{
    const peft_request r = s->r;
    int rc = take_generate_opts(m, r.opts, &s->o);
    if (!rc && r.out) rc = check_result(r.out);
    if (!rc) rc = acting_adapter(m, r.adapter, &to->adapter);
    if (rc) return rc;
    if (r.n < 1 || (!r.messages && !r.ids) || (r.cap > 0 && !r.to))
        return fail(PEFT_EARG, "no messages, ids or room for ids given");
    if (r.messages) {
        rc = complete_messages(r.messages, r.n);
        if (!rc) rc = need_tokenizer(m);
        if (!rc) rc = render_prompt(m, r.messages, r.n, s->o.raw, &s->prompt);
    } else {
        rc = check_ids(m, r.ids, r.n);
        for (int32_t i = 0; i < r.n && !rc; i++) ids_push(&s->prompt, r.ids[i]);
        if (!rc) rc = ids_check(&s->prompt);
        if (!rc && !r.to) rc = need_tokenizer(m);
    }
    to->prompt = s->prompt.v;
    to->n = s->prompt.n;
    to->o = &s->o;
    to->out = &s->out;
    to->ids = r.to ? &s->answer : NULL;
    return rc;
}

static void give_answer(struct served *s)
{
    const peft_request *r = &s->r;
    int64_t n = MIN(s->answer.n, r->cap);
    if (n > 0) memcpy(r->to, s->answer.v, (size_t)n * sizeof(*r->to));
    if (r->out) give_result(r->out, &s->out, sizeof(s->out));
}

/* The adapters that are named stay until the end. */
static void hold(struct model *m, const struct gen_request *list, int32_t n, int change)
{
    for (struct adapter *a = m->adapters; a; a = a->next)
        for (int32_t i = 0; i < n; i++)
            if (list[i].adapter == a) a->users += change;
}

int32_t peft_generate_batch(peft_model *model, const peft_request *requests, int32_t n,
                            int32_t batch)
{
    ARG(model && requests && n > 0, "no model or requests given");
    ARG(batch >= 0 && batch <= 1 << 16, "batch %d, expected 1 to 65536", (int)batch);
    struct model *m = model_of(model);
    struct mem *mem = &m->host.mem;
    struct served *all = mem_array(mem, n, sizeof(*all));
    struct gen_request *list = mem_array(mem, n, sizeof(*list));
    int rc = all && list ? PEFT_OK : PEFT_ENOMEM;
    struct fp_mode fp = fp_enter();
    for (int32_t i = 0; i < n && all; i++) {
        ids_init(&all[i].prompt, mem);
        ids_init(&all[i].answer, mem);
        if (rc) continue;
        rc = take_options(&all[i].r, sizeof(all[i].r), request_at(requests, i));
        if (!rc && request_at(requests, i)->size != requests->size)
            rc = fail(PEFT_EARG, "its size is not that of the first");
        if (!rc) rc = take_request(m, &all[i], &list[i]);
        if (rc) fail_in(rc, "request %d: ", i);
    }
    if (!rc) {
        hold(m, list, n, 1);
        rc = model_serve(m, list, n, batch ? batch : 16);
        hold(m, list, n, -1);
    }
    for (int32_t i = 0; i < n && all; i++) {
        if (!rc) give_answer(&all[i]);
        ids_free(&all[i].prompt);
        ids_free(&all[i].answer);
    }
    fp_leave(fp);
    mem_free(mem, all);
    mem_free(mem, list);
    return rc;
}
