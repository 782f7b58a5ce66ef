/* The range test (Smith 2017): a few dozen steps in which the learning rate rises
 * geometrically around the method's usual one.  The loss of a step is set against
 * the loss that the same rows had before anything was trained, which takes the noise
 * of differing rows out of so short a run. */
#include <math.h>
#include <stdio.h>

#include "judge/auto.h"

struct ranging {
    struct chooser *a;
    peft_dataset *rows;             /* those of the test, in its order */
    int64_t n;
    int32_t batch, steps;
    struct way *way;                /* that is tested */
    double *loss, *terms;           /* [n] before anything was trained */
    double before;                  /* mean of them all */
};

static int32_t on_row(void *ctx, const peft_eval_row *row)
{
    struct ranging *r = ctx;
    if (row->row < 0 || row->row >= r->n) return 0;
    r->loss[row->row] += row->loss;
    r->terms[row->row] += (double)row->terms;
    return 0;
}

static int32_t on_batch(void *ctx, int64_t done, int64_t rows)
{
    const peft_auto_opts *o = &((const struct ranging *)ctx)->a->o;
    return o->progress ? o->progress(o->ctx, "measuring the loss before training", done, rows) : 0;
}

/* Mean loss of a step's rows before training; rows begin anew after the last. */
static double loss_before(const struct ranging *r, int64_t step)
{
    double loss = 0, terms = 0;
    int64_t per = (r->n + r->batch - 1) / r->batch, from = step % per * r->batch;
    for (int64_t i = from; i < MIN(from + r->batch, r->n); i++) {
        loss += r->loss[i];
        terms += r->terms[i];
    }
    return terms > 0 ? loss / terms : r->before;
}

/* Rows in a random order, as many as the steps read. */
static int choose_rows(struct ranging *r)
{
    struct chooser *a = r->a;
    int64_t all = a->stats.rows;
    int32_t *order = mem_array(&a->mem, all, sizeof(*order));
    int64_t *rows = mem_array(&a->mem, all, sizeof(*rows));
    int rc = order && rows ? PEFT_OK : PEFT_ENOMEM;
    r->n = MIN((int64_t)r->steps * r->batch, all);
    for (int64_t i = 0; i < all && !rc; i++) order[i] = (int32_t)i;
    if (!rc) rng_shuffle(order, all, a->train.seed, rng_stream(RNG_SPLIT, 2));
    for (int64_t i = 0; i < r->n && !rc; i++) rows[i] = order[i];
    if (!rc && (rc = peft_dataset_subset(a->data, rows, r->n, &r->rows)) != 0) rc = kit_failed(rc);
    mem_free(&a->mem, order);
    mem_free(&a->mem, rows);
    return rc;
}

static int measure_before(struct ranging *r)
{
    struct chooser *a = r->a;
    peft_eval_opts o = { .size = sizeof(o), .batch = r->batch, .progress = on_batch, .ctx = r,
                         .objective = a->train.objective, .on_row = on_row };
    peft_evaluation e = { .size = sizeof(e) };
    r->loss = mem_array(&a->mem, r->n, sizeof(*r->loss));
    r->terms = mem_array(&a->mem, r->n, sizeof(*r->terms));
    if (!r->loss || !r->terms) return PEFT_ENOMEM;
    int rc = peft_eval(a->model, r->rows, &o, &e);
    r->before = a->before = e.loss;
    return rc ? kit_failed(rc) : PEFT_OK;
}

/* One point a step, until the end or until nothing is left of the model. */
static int walk(void *ctx, peft_trainer *t)
{
    struct ranging *r = ctx;
    struct way *w = r->way;
    peft_step s = { .size = sizeof(s), .steps = r->steps };
    char doing[80];
    snprintf(doing, sizeof(doing), "range test of the learning rate of %s", w->name);
    for (int32_t i = 0; i < r->steps; i++) {
        int rc = try_step(r->a, t, doing, &s);
        if (rc == PEFT_ENONFINITE || rc == PEFT_EEND) break;
        if (rc) return rc;
        double change = s.loss - loss_before(r, i);
        w->range_lr[w->n_range] = (float)s.lr;
        w->range_loss[w->n_range++] = (float)change;
        if (change > 3 * fabs(r->before) + 1) break;
    }
    return PEFT_OK;
}

static int test_way(struct ranging *r, struct way *w)
{
    struct chooser *a = r->a;
    peft_train_opts o = a->train;
    o.size = sizeof(o);
    o.lr = w->prior->lr;
    o.schedule = "exponential";
    o.warmup = 0;
    o.batch = r->batch;
    o.accumulate = 1;
    o.packing = 0;
    o.max_len = 0;
    o.no_shuffle = 1;
    o.epochs = 0;
    o.steps = r->steps;
    o.cache_file = NULL;
    way_take(a, w);
    r->way = w;
    return try_run(a, r->rows, &o, walk, r);
}

/* Means of five neighbours, in place. */
static void smooth(float *x, int32_t n)
{
    float y[PEFT_RANGE];
    for (int32_t i = 0; i < n; i++) {
        int32_t from = MAX(i - 2, 0), to = MIN(i + 3, n);
        y[i] = 0;
        for (int32_t k = from; k < to; k++) y[i] += x[k] / (float)(to - from);
    }
    memcpy(x, y, (size_t)n * sizeof(*x));
}

static float decade(float lr, float prior)
{
    const float half = 3.1623f;
    return MIN(MAX(lr, prior / half), prior * half);
}

/* A quarter of the rate at which the loss was least, within the usual one's decade. */
static void read_test(struct way *w)
{
    int32_t low = 0;
    smooth(w->range_loss, w->n_range);
    for (int32_t i = 0; i < w->n_range; i++)
        if (w->range_loss[i] < w->range_loss[low]) low = i;
    if (w->n_range <= 4 || w->range_loss[low] >= 0) return;
    w->fastest = w->range_lr[low];
    w->lr = decade(w->fastest / 4, w->prior->lr);
}

int range_tests(struct chooser *a)
{
    struct ranging r = { .a = a, .batch = a->c.batch, .steps = a->o.range_steps };
    int rc = choose_rows(&r);
    if (!rc) rc = measure_before(&r);
    for (int32_t i = 0; i < a->n_ways && !rc; i++) {
        struct way *w = &a->way[i];
        if (!(w->prior->lr > 0)) continue;
        rc = test_way(&r, w);
        read_test(w);
    }
    peft_dataset_free(r.rows);
    mem_free(&a->mem, r.loss);
    mem_free(&a->mem, r.terms);
    return rc;
}
