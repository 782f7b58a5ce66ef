/* Evaluation: mean loss, and the figures of the task.  Nothing is trained;
 * dropout is off; masks of a masked language model are those of epoch 0. */
#include <math.h>

#include "train/train.h"

static int run_batch(struct measure *s, const struct objective *o, const struct batch *b)
{
    struct model *m = (struct model *)(uintptr_t)s->m;
    struct pass p = { .m = m, .g = m->graph, .mem = m->mem };
    batch_pass(&p, b, 0);
    int rc = pass_begin(&p);
    if (rc) return rc;
    struct tensor *x = o->features(&p, b);
    if (o->output) x = o->output(&p, b, x);
    if (x && o->note) graph_keep(x);
    struct tensor *y = o->loss(&p, b, x, 1.0f, &s->stats);
    if (y) graph_keep(y);
    rc = graph_forward(p.g);
    return rc || !o->note ? rc : o->note(s, b, tensor_f32(x));
}

static int run_all(struct measure *s, const struct objective *o, struct batcher *b)
{
    int64_t n = batcher_count(b, 0), done = 0;
    int rc = PEFT_OK;
    for (int64_t i = 0; i < n && !rc; i++) {
        const struct batch *batch = batcher_get(b, 0, i);
        if (!batch) return PEFT_EDATA;
        rc = run_batch(s, o, batch);
        done += batch->n_rows;
        if (!rc && s->o->progress && s->o->progress(s->o->ctx, done, s->d->n))
            rc = fail(PEFT_ECANCELLED, "cancelled by the host");
    }
    return rc;
}

static void report(struct measure *s, const struct objective *o, peft_evaluation *out)
{
    double n = (double)MAX(s->stats.count, 1);
    out->task = head_kinds[s->m->kind].name;
    out->rows = s->d->n;
    out->tokens = s->stats.count;
    out->loss = s->stats.loss / n;
    out->perplexity = exp(out->loss);
    out->token_accuracy = (double)s->stats.hits / n;
    if (o->report) {
        o->report(s, out);
    } else {
        metric_add(out, "perplexity", out->perplexity);
        metric_add(out, "token_accuracy", out->token_accuracy);
    }
}

int eval_run(struct model *m, const struct dataset *d, const peft_eval_opts *o,
             peft_evaluation *out)
{
    const struct objective *objective = objective_for(m, d, o->objective);
    struct measure s = { .host = &m->host, .m = m, .d = d, .o = o };
    struct batcher *b = NULL;
    double begin = os_seconds();
    if (!objective) return PEFT_EARG;
    if (o->batch < 0) return fail(PEFT_EARG, "batch %d, expected 1 or more", o->batch);
    struct batch_opts bo = { .batch = o->batch ? o->batch : 4 };
    int rc = model_graph(m);
    if (!rc) rc = model_fits(m, d->max_len);
    if (!rc) rc = rope_reserve(m, d->max_len);
    if (!rc) rc = measure_new(&s);
    if (!rc) rc = batcher_new(d, &bo, &b);
    if (!rc) rc = run_all(&s, objective, b);
    if (!rc) report(&s, objective, out);
    if (!rc) card_metrics(m, out);
    out->seconds = os_seconds() - begin;
    batcher_free(b);
    measure_free(&s);
    return rc;
}
