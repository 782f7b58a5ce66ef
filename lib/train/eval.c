/* Evaluation: mean loss, and the figures of the task.  Nothing is trained;
 * dropout is off; masks of a masked language model are those of epoch 0. */
#include <math.h>

#include "train/train.h"

/* What an evaluation works with. */
struct eval {
    struct measure *s;
    const struct objective *o;
    struct batcher *batcher;
    struct prefix *prefix;          /* a trainer's; NULL = all of the model is run */
    struct kept_rows *kept;
    float *values;                  /* a batch's that are kept */
};

static int begin_pass(const struct eval *e, const struct batch *b, int training, struct pass *p)
{
    struct model *m = (struct model *)(uintptr_t)e->s->m;
    *p = (struct pass){ .m = m, .g = m->graph, .mem = m->mem, .training = training };
    batch_pass(p, b, 0);
    return pass_begin(p);
}

/* Brings the values of the i-th batch together, and computes those that are missing. */
static int find_values(struct eval *e, int64_t i)
{
    int64_t n, job;
    const int32_t *rows = batcher_rows(e->batcher, 0, i, &n);
    const struct batch *b;
    struct pass p;
    int rc = PEFT_OK, rest = 0;
    for (;;) {
        while ((job = prefix_next(e->prefix, e->kept, rows, n, rest)) != PREFIX_READY) {
            if (!(b = prefix_batch(e->kept, job, rows, n))) return PEFT_EDATA;
            if ((rc = begin_pass(e, b, 1, &p))) return rc;
            prefix_below(e->prefix, &p, b);
            if ((rc = graph_forward(p.g))) return rc;
            prefix_store(e->prefix, e->kept, job);
            rest = job == PREFIX_REST;
        }
        if (!(b = batcher_get(e->batcher, 0, i))) return PEFT_EDATA;
        if (prefix_gather(e->prefix, e->kept, b, e->values)) return PEFT_OK;
        rest = 0;
    }
}

static int run_batch(struct eval *e, const struct batch *b)
{
    struct measure *s = e->s;
    const struct objective *o = e->o;
    struct pass p;
    int rc = begin_pass(e, b, 0, &p);
    if (rc) return rc;
    struct tensor *x = e->kept ? prefix_cut(e->prefix, &p, b, e->values) : o->features(&p, b);
    if (o->output) x = o->output(&p, b, x);
    if (x && o->note) graph_keep(x);
    struct tensor *y = o->loss(&p, b, x, 1.0f, &s->stats);
    if (y) graph_keep(y);
    if ((rc = graph_forward(p.g))) return rc;
    const float *z = o->note ? tensor_f32(x) : NULL;
    if (o->note) rc = o->note(s, b, z);
    return rc ? rc : rows_note(s, o, b, z);
}

static int run_all(struct eval *e)
{
    struct measure *s = e->s;
    int64_t n = batcher_count(e->batcher, 0), done = 0;
    int rc = PEFT_OK;
    for (int64_t i = 0; i < n && !rc; i++) {
        if (e->kept && (rc = find_values(e, i))) return rc;
        const struct batch *batch = batcher_get(e->batcher, 0, i);
        if (!batch) return PEFT_EDATA;
        rc = run_batch(e, batch);
        done += batch->n_rows;
        if (!rc && s->o->progress && s->o->progress(s->o->ctx, done, s->d->n))
            rc = fail(PEFT_ECANCELLED, "cancelled by the host");
    }
    return rc;
}

/* Under a trainer's memory limit batches are cut until the graph of the largest one fits, or
 * there is nothing to cut. */
static int fit_room(struct eval *e, int32_t batch)
{
    const struct model *m = e->s->m;
    struct batch_size s, most = { 0 };
    int64_t largest = 0;
    int rc = PEFT_OK;
    for (int32_t parts = 1; m->limited.room && !rc; parts = MIN(2 * parts, batch)) {
        struct plan_report report;
        struct pass p;
        parts = batcher_cut(e->batcher, parts);
        most = (struct batch_size){ 0 };
        for (int64_t i = 0; i < batcher_count(e->batcher, 0); i++) {
            batcher_size(e->batcher, 0, i, &s);
            if (s.tokens > most.tokens) most = s, largest = i;
        }
        const struct batch *b = batcher_get(e->batcher, 0, largest);
        if (!b) return PEFT_EDATA;
        if ((rc = begin_pass(e, b, 0, &p))) return rc;
        struct tensor *x = objective_loss(e->o, &p, b, e->o->features(&p, b), 1.0f, NULL);
        if (x) graph_keep(x);
        rc = graph_plan(p.g, NULL, RECOMPUTE_NONE, &report);
        if (report.slab <= m->limited.room || parts == batch || objective_compares(e->o)) break;
    }
    return rc;
}

/* A trainer that is alive may keep what is frozen of this data set as well. */
static int take_prefix(struct eval *e, struct model *m, const struct dataset *d)
{
    struct batch_size most;
    int rc = PEFT_OK;
    batcher_max(e->batcher, 1, &most);
    e->prefix = m->prefix;
    if (e->prefix) e->kept = prefix_eval(e->prefix, d, e->o, &most, &rc);
    if (rc || !e->kept) return rc;
    e->values = mem_alloc(&m->host.mem,
                          prefix_gather_rows(e->prefix, &most) * e->prefix->width * 4);
    return e->values ? PEFT_OK : PEFT_ENOMEM;
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
    struct eval e = { .s = &s, .o = objective };
    double begin = os_seconds();
    if (!objective) return PEFT_EARG;
    if (o->batch < 0) return fail(PEFT_EARG, "batch %d, expected 1 or more", o->batch);
    struct batch_opts bo = { .batch = o->batch ? o->batch : 4 };
    int rc = model_graph(m);
    if (!rc) rc = model_fits(m, d->max_len);
    if (!rc) rc = rope_reserve(m, d->max_len);
    if (!rc) rc = measure_new(&s);
    if (!rc) rc = batcher_new(d, &bo, &e.batcher);
    if (!rc) {
        struct batch_size most;
        batcher_max(e.batcher, 1, &most);
        rc = rows_new(&s, &most);
    }
    if (!rc) rc = fit_room(&e, bo.batch);
    if (!rc) rc = take_prefix(&e, m, d);
    if (!rc) rc = run_all(&e);
    if (!rc) report(&s, objective, out);
    if (!rc) rc = s.rc;
    if (!rc) card_metrics(m, out);
    out->seconds = os_seconds() - begin;
    batcher_free(e.batcher);
    mem_free(&m->host.mem, e.values);
    measure_free(&s);
    return rc;
}
