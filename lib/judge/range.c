/* Trainings that are undone.
 *
 * The range test (Smith 2017): a few dozen steps in which the learning rate rises
 * geometrically around the method's usual one.  The loss of a step is set against
 * the loss that the same rows had before anything was trained, which takes the noise
 * of differing rows out of so short a run.
 *
 * The validation curve: epochs at a constant rate until the loss of rows that are not
 * trained on has not fallen for some of them. */
#include <math.h>
#include <stdio.h>

#include "judge/auto.h"

struct ranging {
    struct chooser *a;
    peft_dataset *rows;             /* those of the test, in its order */
    int64_t n;
    int32_t batch, steps;
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
    r->before = e.loss;
    return rc ? kit_failed(rc) : PEFT_OK;
}

/* One point a step, until the end or until nothing is left of the model. */
static int walk(struct ranging *r, peft_trainer *t)
{
    struct chooser *a = r->a;
    const peft_auto_opts *o = &a->o;
    peft_choice *c = &a->c;
    for (int32_t i = 0; i < r->steps; i++) {
        peft_step s = { .size = sizeof(s) };
        if (o->progress && o->progress(o->ctx, "range test of the learning rate", i, r->steps))
            return fail(PEFT_ECANCELLED, "cancelled while settings were chosen");
        int rc = peft_train_step(t, &s);
        if (rc == PEFT_ENONFINITE || rc == PEFT_EEND) break;
        if (rc) return kit_failed(rc);
        double change = s.loss - loss_before(r, i);
        c->range_lr[c->n_range] = (float)s.lr;
        c->range_loss[c->n_range++] = (float)change;
        if (change > 3 * fabs(r->before) + 1) break;
    }
    return PEFT_OK;
}

/* The weights of before; the reason of rc stays. */
static int put_back(peft_trainer *t, int rc)
{
    char why[256];
    snprintf(why, sizeof(why), "%s", rc < 0 ? error_message() : "");
    int back = peft_trainer_back(t);
    if (rc < 0) return fail(rc, "%s", why);
    return back ? kit_failed(back) : PEFT_OK;
}

static int run_range(struct ranging *r)
{
    struct chooser *a = r->a;
    peft_trainer *t = NULL;
    peft_train_opts o = a->train;
    o.size = sizeof(o);
    o.lr = a->prior->lr;
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
    int rc = try_begin(a, r->rows, &o, &t);
    if (!rc && (rc = peft_trainer_keep(t)) != 0) rc = kit_failed(rc);
    int kept = !rc;
    if (!rc) rc = measure_before(r);
    if (!rc) rc = walk(r, t);
    if (kept) rc = put_back(t, rc);
    peft_trainer_free(t);
    return trains_restore(a, rc);
}

int range_test(struct chooser *a)
{
    struct ranging r = { .a = a, .batch = a->c.batch, .steps = a->o.range_steps };
    int rc = choose_rows(&r);
    if (!rc) rc = run_range(&r);
    peft_dataset_free(r.rows);
    mem_free(&a->mem, r.loss);
    mem_free(&a->mem, r.terms);
    return rc;
}

/* --- the validation curve */

static int evaluate(struct chooser *a, double *loss)
{
    peft_eval_opts o = { .size = sizeof(o), .batch = a->c.batch,
                         .objective = a->train.objective };
    peft_evaluation e = { .size = sizeof(e) };
    int rc = peft_eval(a->model, a->eval, &o, &e);
    *loss = e.loss;
    return rc ? kit_failed(rc) : PEFT_OK;
}

/* Steps of one epoch; 1 = done, 0 = the weights are not finite any more. */
static int one_epoch(struct chooser *a, peft_trainer *t, int32_t epoch)
{
    const peft_auto_opts *o = &a->o;
    peft_step s = { .size = sizeof(s) };
    do {
        if (o->progress && o->progress(o->ctx, "validation curve, epoch", epoch, PEFT_CURVE - 1))
            return fail(PEFT_ECANCELLED, "cancelled while settings were chosen");
        int rc = peft_train_step(t, &s);
        if (rc == PEFT_ENONFINITE || rc == PEFT_EEND) return 0;
        if (rc) return kit_failed(rc);
    } while (s.epoch < (double)epoch - 1e-6);
    return 1;
}

static int walk_curve(struct chooser *a, peft_trainer *t, int32_t most)
{
    enum { PATIENCE = 2 };
    float *loss = a->c.curve_loss;
    int32_t best = 0;
    double now;
    for (int32_t epoch = 0; epoch <= most && epoch - best <= PATIENCE; epoch++) {
        int rc = epoch ? one_epoch(a, t, epoch) : 1;
        int failed = rc > 0 ? evaluate(a, &now) : rc;
        if (failed < 0) return failed;
        if (!rc || !isfinite(now)) break;
        loss[a->c.n_curve++] = (float)now;
        if (now < (double)loss[best]) best = epoch;
    }
    return best;
}

int curve(struct chooser *a)
{
    peft_trainer *t = NULL;
    peft_train_opts o = a->train;
    o.size = sizeof(o);
    o.lr = a->c.lr;
    o.schedule = "constant";
    o.batch = a->c.batch;
    o.accumulate = a->c.accumulate;
    o.epochs = PEFT_CURVE - 1;
    o.steps = 0;
    int rc = try_begin(a, a->data, &o, &t);
    if (!rc && (rc = peft_trainer_keep(t)) != 0) rc = kit_failed(rc);
    int kept = !rc, best = 0;
    if (!rc && (rc = walk_curve(a, t, PEFT_CURVE - 1)) > 0) {
        best = rc;
        rc = 0;
    }
    if (kept) rc = put_back(t, rc);
    peft_trainer_free(t);
    rc = trains_restore(a, rc);
    return rc ? rc : best;
}
