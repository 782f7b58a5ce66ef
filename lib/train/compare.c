/* Two models on the same text: how far the answers of one are from the other's.
 * Language models: KL(reference || model) of the next token's distribution.
 * Others: 1 - cos of the mean hidden states x and r, which is |u(x) - u(r)|^2 / 2 with
 * u(x) = x / |x|: so it has a gradient, and is exact where it is small. */
#include <math.h>

#include "train/quantise.h"

int compare_lm(const struct model *m)
{
    return m->kind == HEAD_LM && model_lm_head(m);
}

int compare_begin(struct model *m, const struct dataset *d)
{
    const struct site *head = model_lm_head(m);
    for (const struct adapter *a = head && compare_lm(m) ? m->adapters : NULL; a; a = a->next)
        if (a->enabled && adapted_at(a, head) && (head->kind & a->method->at))
            return fail(PEFT_ESTATE, "adapter \"%s\" reaches %s, expected it merged first",
                        a->name, head->name);
    int rc = model_graph(m);
    if (!rc) rc = model_fits(m, d->max_len);
    return rc ? rc : rope_reserve(m, d->max_len);
}

int64_t compare_rows(const struct model *m, const struct batch *b)
{
    return compare_lm(m) ? b->n_target : b->n_seq;
}

struct tensor *compare_features(struct pass *p, const struct batch *b)
{
    struct tensor *x = model_hidden(p);
    if (!compare_lm(p->m)) return g_unit(p->g, g_pool_mean(p->g, x, b->start, b->n_seq, 0));
    x = g_rows(p->g, x, pass_rows(p, b->rows, b->n_target), b->n_target);
    return model_before_lm(p, x);
}

int compare_hidden(struct model *m, const struct batch *b, float *to)
{
    struct pass p = { .m = m, .g = m->graph, .mem = m->mem };
    batch_pass(&p, b, 0);
    int rc = pass_begin(&p);
    if (rc) return rc;
    struct tensor *x = compare_features(&p, b);
    graph_keep(x);
    rc = graph_forward(p.g);
    if (!rc) memcpy(to, tensor_f32(x), (size_t)tensor_len(x) * 4);
    return rc;
}

struct tensor *compare_loss(struct pass *p, const struct batch *b, const struct reference *r,
                            float scale, struct compared *sum)
{
    const struct site *head = model_lm_head(p->m), *bias = p->m->global[SLOT_LM_BIAS];
    struct tensor *x = compare_features(p, b);
    if (!compare_lm(p->m))
        return g_mse(p->g, x, r->hidden, scale * 0.5f * (float)x->cols, &sum->mse);
    struct tensor *ref = graph_leaf(p->g, "reference", &qtype_f32, compare_rows(p->m, b), r->dim,
                                    r->hidden, NULL);
    struct tensor *w = graph_leaf(p->g, "reference's head", r->head.type, r->head.rows,
                                  r->head.cols, r->head.data, NULL);
    graph_name(p->g, head->name);
    return g_kl_head(p->g, x, nn_leaf(p, head->w), nn_leaf(p, bias ? bias->w : head->b),
                     ref, w, b->target, scale, (float)p->m->hp.logit_cap, &sum->kl);
}

double compare_mean(const struct model *m, const struct compared *sum)
{
    if (compare_lm(m)) return sum->kl.kl / (double)MAX(1, sum->kl.count);
    return 0.5 * (double)m->hp.embed * sum->mse.loss / (double)MAX(1, sum->mse.count);
}

static int compare_batch(struct model *m, struct model *ref, const struct batch *b, float *hidden,
                         struct compared *sum)
{
    struct reference r = reference_of(ref, hidden);
    int rc = compare_rows(m, b) ? compare_hidden(ref, b, hidden) : PEFT_OK;
    if (rc || !compare_rows(m, b)) return rc;
    struct pass p = { .m = m, .g = m->graph, .mem = m->mem };
    batch_pass(&p, b, 0);
    if ((rc = pass_begin(&p))) return rc;
    graph_keep(compare_loss(&p, b, &r, 1.0f, sum));
    return graph_forward(p.g);
}

struct reference reference_of(const struct model *m, const float *hidden)
{
    const struct site *head = compare_lm(m) ? model_lm_head(m) : NULL;
    struct reference r = { .hidden = hidden, .dim = m->hp.embed };
    if (head)
        r.head = (struct matrix){ head->w->type, head->w->data, head->w->rows, head->w->cols };
    return r;
}

int compare_run(struct model *m, struct model *ref, const struct dataset *d,
                const peft_eval_opts *o, peft_comparison *out)
{
    struct compared sum = { 0 };
    struct batcher *b = NULL;
    struct batch_opts bo = { .batch = o->batch ? o->batch : 4 };
    struct batch_size size = { 0 };
    int64_t done = 0;
    double begin = os_seconds();
    float *hidden = NULL;
    if (o->batch < 0) return fail(PEFT_EARG, "batch %d, expected 1 or more", o->batch);
    if (compare_lm(m) != compare_lm(ref) || m->hp.vocab != ref->hp.vocab ||
        (!compare_lm(m) && m->hp.embed != ref->hp.embed))
        return fail(PEFT_EARG, "models of another kind, vocabulary or width cannot be compared");
    int rc = compare_begin(m, d);
    if (!rc) rc = compare_begin(ref, d);
    if (!rc) rc = batcher_new(d, &bo, &b);
    if (!rc) {
        batcher_max(b, 1, &size);
        hidden = mem_alloc(&m->host.mem, MAX(size.targets, size.seqs) * ref->hp.embed * 4);
        if (!hidden) rc = PEFT_ENOMEM;
    }
    for (int64_t i = 0; !rc && i < batcher_count(b, 0); i++) {
        const struct batch *batch = batcher_get(b, 0, i);
        if (!batch) rc = PEFT_EDATA;
        if (rc) break;
        rc = compare_batch(m, ref, batch, hidden, &sum);
        done += batch->n_rows;
        if (!rc && o->progress && o->progress(o->ctx, done, d->n))
            rc = fail(PEFT_ECANCELLED, "cancelled by the host");
    }
    batcher_free(b);
    mem_free(&m->host.mem, hidden);
    if (rc) return rc;
    *out = (peft_comparison){ .rows = d->n, .seconds = os_seconds() - begin };
    if (!compare_lm(m)) {
        out->cosine = 1 - compare_mean(m, &sum);
        return PEFT_OK;
    }
    double n = (double)MAX(1, sum.kl.count);
    out->tokens = sum.kl.count;
    out->kl = compare_mean(m, &sum);
    out->max_logit_diff = sum.kl.most;
    out->same_token = (double)sum.kl.same / n;
    out->perplexity = exp(sum.kl.loss / n);
    out->reference_perplexity = exp(sum.kl.ref_loss / n);
    return PEFT_OK;
}
