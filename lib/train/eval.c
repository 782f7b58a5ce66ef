/* Evaluation: mean loss, and accuracy of tokens or classes.  Nothing is
 * trained; dropout is off. */
#include <math.h>

#include "train/train.h"

struct eval {
    struct model *m;
    const struct objective *objective;
    struct loss_stats stats;
    int64_t *confusion;             /* the host's [labels * labels], or NULL */
    int64_t *is, *said, *both;      /* rows of each class, by label, answer, both */
};

static int run_batch(struct eval *e, const struct batch *b)
{
    struct pass p = { .m = e->m, .g = e->m->graph, .mem = e->m->mem };
    batch_pass(&p, b, 0);
    int rc = pass_begin(&p);
    if (rc) return rc;
    struct tensor *x = e->objective->features(&p, b), *y;
    if (e->objective == &objective_classify) {
        x = model_classify(&p, x);
        if (x) graph_keep(x);
        y = g_xent(p.g, x, b->label, 1.0f, &e->stats);
    } else {
        y = e->objective->loss(&p, b, x, 1.0f, &e->stats);
    }
    if (y) graph_keep(y);
    rc = graph_forward(p.g);
    if (rc || e->objective != &objective_classify) return rc;
    for (int64_t s = 0; s < b->n_rows; s++) {
        const float *z = tensor_f32(x) + s * x->cols;
        int64_t best = 0;
        for (int64_t c = 1; c < x->cols; c++)
            if (z[c] > z[best]) best = c;
        e->is[b->label[s]]++;
        e->said[best]++;
        e->both[best] += best == b->label[s];
        if (e->confusion) e->confusion[b->label[s] * x->cols + best]++;
    }
    return PEFT_OK;
}

/* Accuracy, and F1 as the mean over the classes that occur (macro). */
static void score(const struct eval *e, int64_t n, peft_evaluation *out)
{
    int64_t right = 0, all = 0, classes = 0;
    double f1 = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t sum = e->is[i] + e->said[i];
        right += e->both[i];
        all += e->is[i];
        classes += sum > 0;
        if (sum) f1 += 2.0 * (double)e->both[i] / (double)sum;
    }
    out->accuracy = all ? (double)right / (double)all : 0;
    out->f1 = classes ? f1 / (double)classes : 0;
}

static int run_all(struct eval *e, struct batcher *b, const peft_eval_opts *o, int64_t rows)
{
    int64_t n = batcher_count(b, 0), done = 0;
    int rc = PEFT_OK;
    for (int64_t i = 0; i < n && !rc; i++) {
        const struct batch *batch = batcher_get(b, 0, i);
        if (!batch) return PEFT_EDATA;
        rc = run_batch(e, batch);
        done += batch->n_rows;
        if (!rc && o->progress && o->progress(o->ctx, done, rows))
            rc = fail(PEFT_ECANCELLED, "cancelled by the host");
    }
    return rc;
}

int eval_run(struct model *m, const struct dataset *d, const peft_eval_opts *o,
             peft_evaluation *out)
{
    struct eval e = { .m = m, .objective = objective_for(m, d), .confusion = o->confusion };
    struct batcher *b = NULL;
    double begin = os_seconds();
    int64_t n = m->hp.labels;
    if (!e.objective) return PEFT_EARG;
    if (o->batch < 0) return fail(PEFT_EARG, "batch %d, expected 1 or more", o->batch);
    struct batch_opts bo = { .batch = o->batch ? o->batch : 4 };
    int rc = model_graph(m);
    if (!rc) rc = rope_reserve(m, d->max_len);
    if (!rc && !(e.is = mem_array(&m->host.mem, 3 * n, 8))) rc = PEFT_ENOMEM;
    if (!rc) rc = batcher_new(d, &bo, &b);
    if (!rc) {
        e.said = e.is + n;
        e.both = e.said + n;
        if (o->confusion && n > 0) memset(o->confusion, 0, (size_t)(n * n) * 8);
    }
    if (!rc) rc = run_all(&e, b, o, d->n);
    if (!rc) {
        out->rows = d->n;
        out->tokens = e.stats.count;
        out->loss = e.stats.count ? e.stats.loss / (double)e.stats.count : 0;
        out->perplexity = exp(out->loss);
        out->token_accuracy = e.stats.count ? (double)e.stats.hits / (double)e.stats.count : 0;
        if (e.objective == &objective_classify) score(&e, n, out);
        out->seconds = os_seconds() - begin;
    }
    batcher_free(b);
    mem_free(&m->host.mem, e.is);
    return rc;
}
