/* Runs that settings are compared by: successive halving (Jamieson & Talwalkar 2016) whose
 * runs double.  All methods make a short run, complete with a schedule that ends at zero; the
 * better half makes one of twice the length, at two rates, and so on; the last one goes on
 * alone for as long as twice the epochs gain more than the noise of the rows that judge.  Its
 * runs are the validation curve; of epochs that are the same but for that noise the most are
 * taken.
 *
 * Classifications are judged by the Brier score, sum over classes of (p - y)^2: unlike the
 * loss it is bounded, so that a few sure mistakes do not outweigh the rest, and unlike
 * accuracy it tells runs apart on some hundred rows.  Of the probabilities at their best
 * temperature (Guo et al. 2017), p^(1/T) / sum: longer runs are surer than they should be, which
 * says nothing of their answers. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "judge/auto.h"

enum { ARMS = 16, SHORTEST = 24, LESS = 3, SLOWEST = 32, LONGEST = 32 };
enum { JUDGES = 500, CLASSED = 2000 };      /* rows that judge, of them with classes */

struct racing {
    struct chooser *a;
    const peft_dataset *eval;
    peft_dataset *some;             /* of its rows, where there are many */
    int64_t n_rows, seen;
    float *now, *weight;            /* [n_rows] of the run at hand; terms of a row's loss */
    float *p;                       /* [n_rows, classes] probabilities, or NULL */
    int32_t *label;                 /* [n_rows] */
    struct arm arm[ARMS + 1];       /* the first n run, all - n did */
    struct arm *runs;               /* the one that does now */
    int32_t n, all;
};

static int32_t on_row(void *ctx, const peft_eval_row *row)
{
    struct racing *r = ctx;
    if (r->seen >= r->n_rows) return 0;
    if (r->p) {
        int64_t n = r->a->classes;
        memcpy(r->p + r->seen * n, row->scores, (size_t)MIN(n, row->n) * sizeof(*r->p));
        r->label[r->seen] = row->label;
    }
    r->weight[r->seen] = r->p ? 1 : (float)row->terms;
    r->now[r->seen++] = row->loss;
    return 0;
}

static double brier_at(const struct racing *r, int64_t row, double power)
{
    int64_t classes = r->a->classes;
    const float *p = r->p + row * classes;
    double sum = 0, square = 0;
    for (int64_t k = 0; k < classes; k++) sum += pow((double)p[k], power);
    for (int64_t k = 0; k < classes; k++) {
        double d = pow((double)p[k], power) / sum - (k == r->label[row]);
        square += d * d;
    }
    return isfinite(square) ? square : 2;
}

/* The rows' Brier scores at the temperature that makes their sum the least. */
static void brier_rows(const struct racing *r)
{
    double least = INFINITY, best = 1;
    for (double power = 2; power > 0.05; power /= 1.25) {
        double sum = 0;
        for (int64_t i = 0; i < r->seen; i++) sum += brier_at(r, i, power);
        if (sum < least) least = sum, best = power;
    }
    for (int64_t i = 0; i < r->seen; i++) r->now[i] = (float)brier_at(r, i, best);
}

static int32_t on_batch(void *ctx, int64_t done, int64_t rows)
{
    const peft_auto_opts *o = &((const struct racing *)ctx)->a->o;
    return o->progress ? o->progress(o->ctx, "judging a run", done, rows) : 0;
}

static double metric_of(const peft_evaluation *e, const char *name, double absent)
{
    for (int32_t i = 0; i < e->n_metrics; i++)
        if (!strcmp(e->metrics[i].name, name))
            return peft_metric_falls(name) ? e->metrics[i].value : -e->metrics[i].value;
    return absent;
}

/* The standard error of the difference of two runs' values on the same rows. */
static double noise(const struct racing *r, const float *x, const float *y)
{
    double sum = 0, weight = 0, square = 0;
    for (int64_t i = 0; i < r->seen; i++) {
        sum += (double)(x[i] - y[i]);
        weight += (double)r->weight[i];
    }
    for (int64_t i = 0; i < r->seen; i++) {
        double d = (double)(x[i] - y[i]) - sum / weight * (double)r->weight[i];
        square += d * d;
    }
    return weight > 0 ? sqrt(square) / weight : 0;
}

/* What a run is worth, and how much more than the arm's one before. */
static int judge(struct racing *r, struct arm *x)
{
    struct chooser *a = r->a;
    peft_eval_opts o = { .size = sizeof(o), .batch = a->c.batch, .objective = a->train.objective,
                         .on_row = on_row, .progress = on_batch, .ctx = r };
    peft_evaluation e = { .size = sizeof(e) };
    double sum = 0, weight = 0;
    r->seen = 0;
    int rc = peft_eval(a->model, r->eval, &o, &e);
    if (rc) return kit_failed(rc);
    if (r->p) brier_rows(r);
    for (int64_t i = 0; i < r->seen; i++) {
        sum += (double)r->now[i];
        weight += (double)r->weight[i];
    }
    x->loss = e.loss;
    x->gain = x->value;
    x->value = weight > 0 ? sum / weight : e.loss;
    if (a->o.metric) x->value = metric_of(&e, a->o.metric, e.loss);
    if (!isfinite(x->value)) x->value = INFINITY;
    x->gain -= x->value;
    x->se = noise(r, x->rows, r->now);
    memcpy(x->rows, r->now, (size_t)r->seen * sizeof(*r->now));
    if (x->value <= x->best + x->se) x->best_epochs = x->epochs;
    x->best = fmin(x->best, x->value);
    return PEFT_OK;
}

/* Weights that are not finite any more are worth nothing. */
static int walk(void *ctx, peft_trainer *t)
{
    struct racing *r = ctx;
    struct arm *x = r->runs;
    peft_step s = { .size = sizeof(s) };
    char doing[80];
    int rc = PEFT_OK;
    snprintf(doing, sizeof(doing), "comparing runs: %s at %.2g", x->way->name,
             (double)x->lr);
    while (!rc) rc = try_step(r->a, t, doing, &s);
    if (rc == PEFT_EEND) return judge(r, x);
    if (rc != PEFT_ENONFINITE) return rc;
    x->value = x->loss = INFINITY;
    x->gain = 0;
    return PEFT_OK;
}

static void note_run(struct chooser *a, const struct arm *x, double seconds)
{
    peft_choice *c = &a->c;
    if (c->n_tried == PEFT_TRIED) return;
    peft_tried *t = &c->tried[c->n_tried++];
    *t = (peft_tried){ .rank = x->way->rank, .last = x->way->last, .lr = x->lr,
                       .epochs = x->epochs, .value = x->value, .loss = x->loss,
                       .seconds = seconds };
    snprintf(t->method, sizeof(t->method), "%s", x->way->name);
}

/* One run of an arm; the model is as before it. */
static int run(struct racing *r, struct arm *x, int64_t steps)
{
    struct chooser *a = r->a;
    peft_train_opts o = a->train;
    double began = os_seconds();
    o.size = sizeof(o);
    o.lr = x->lr;
    o.schedule = a->c.schedule;
    o.warmup = a->c.warmup;
    o.batch = a->c.batch;
    o.accumulate = a->c.accumulate;
    o.epochs = 0;
    o.steps = (int32_t)steps;
    x->epochs = (double)steps / (double)updates_of(a);
    way_take(a, x->way);
    r->runs = x;
    int rc = try_run(a, a->data, &o, walk, r);
    if (!rc) note_run(a, x, os_seconds() - began);
    return rc;
}

/* Steps of a rung: half an epoch, one, or a few, that there are at least 24; of long epochs a
 * part.  `stretch` times as many of a method that takes so much less for each. */
static int64_t length_of(const struct chooser *a, int32_t rung, int64_t stretch)
{
    int64_t epoch = updates_of(a), first = div_up(MIN(epoch, CURVE), 2);
    if (first < SHORTEST) first = div_up(SHORTEST, epoch) * epoch;
    int64_t most = a->train.steps > 0 ? a->train.steps : a->o.epochs * epoch;
    int64_t n = MIN(stretch * first << rung, most ? most : LONGEST * first);
    return n > epoch && !(a->train.steps > 0) ? n / epoch * epoch : n;
}

/* The best first. */
static void sort_arms(struct racing *r)
{
    for (int32_t i = 1; i < r->n; i++) {
        struct arm x = r->arm[i];
        int32_t k = i;
        for (; k > 0 && x.value < r->arm[k - 1].value; k--) r->arm[k] = r->arm[k - 1];
        r->arm[k] = x;
    }
}

/* Another one that runs; those that were dropped lie behind. */
static int add_arm(struct racing *r, struct way *w, float lr)
{
    if (r->all == ARMS) return PEFT_OK;
    r->arm[r->all++] = r->arm[r->n];
    struct arm *x = &r->arm[r->n++];
    *x = (struct arm){ .way = w, .lr = lr, .value = INFINITY, .best = INFINITY };
    x->rows = mem_zalloc(&r->a->mem, r->n_rows * (int64_t)sizeof(*x->rows));
    return x->rows ? PEFT_OK : PEFT_ENOMEM;
}

/* Whether an arm beat faster ones of its way and a slower one might be better still. */
static int is_slowest(const struct racing *r, const struct arm *x)
{
    int faster = 0;
    for (int32_t i = 0; i < r->all; i++) {
        const struct arm *y = &r->arm[i];
        if (y->way == x->way && y->lr < x->lr) return 0;
        faster |= y->way == x->way && y->lr > x->lr;
    }
    return faster && x->lr / LESS > x->way->prior->lr / SLOWEST;
}

/* The better half goes on.  After the first rung, which compared methods, those that are left
 * come with a smaller rate too: the test's is often too fast for longer runs. */
static int halve(struct racing *r, int32_t rung, float lr)
{
    int32_t left = (r->n + 1) / 2;
    int rc = PEFT_OK, methods = !rung && r->a->n_ways > 1 && !(lr > 0);
    r->n = left;
    for (int32_t i = 0; i < left && !rc; i++)
        if (r->arm[i].lr > 0 && (methods || (!i && is_slowest(r, r->arm))))
            rc = add_arm(r, r->arm[i].way, r->arm[i].lr / LESS);
    return rc;
}

/* Rungs until one arm is left, then for as long as it gains.  *best: of the way that won, the
 * arm with the best run. */
static int climb(struct racing *r, float lr, struct arm *best)
{
    struct chooser *a = r->a;
    const int partial = updates_of(a) > CURVE;
    const double little = 0.005 * (a->brier ? 1 : a->before);
    int64_t steps, before = 0;
    int rc = PEFT_OK;
    for (int32_t rung = 0; !rc; rung++, before = steps) {
        if ((steps = length_of(a, rung, 1)) == before) break;
        for (int32_t i = 0; i < r->n && !rc; i++)
            rc = run(r, &r->arm[i], length_of(a, rung, r->arm[i].way->stretch));
        if (rc) return rc;
        sort_arms(r);
        *best = r->arm[0];
        if (r->n <= 2 && rung && !is_slowest(r, best) &&
            (partial || !(best->gain >= fmax(best->se, little))))
            break;
        rc = halve(r, rung, lr);
    }
    for (int32_t i = 0; i < r->all && !partial; i++)
        if (r->arm[i].way == best->way && r->arm[i].best < best->best) *best = r->arm[i];
    return rc;
}

static int begin(struct racing *r)
{
    struct chooser *a = r->a;
    peft_dataset_stats s;
    int64_t *rows = NULL;
    int rc = stats_get(a->eval, &s);
    if (rc) return rc;
    r->eval = a->eval;
    r->n_rows = MIN(s.rows, a->brier ? CLASSED : JUDGES);
    if (s.rows > r->n_rows) {
        if (!(rows = mem_array(&a->mem, r->n_rows, sizeof(*rows)))) return PEFT_ENOMEM;
        for (int64_t i = 0; i < r->n_rows; i++) rows[i] = i * s.rows / r->n_rows;
        rc = peft_dataset_subset(a->eval, rows, r->n_rows, &r->some);
        mem_free(&a->mem, rows);
        if (rc) return kit_failed(rc);
        r->eval = r->some;
    }
    r->now = mem_array(&a->mem, r->n_rows, sizeof(*r->now));
    r->weight = mem_array(&a->mem, r->n_rows, sizeof(*r->weight));
    if (!r->now || !r->weight) return PEFT_ENOMEM;
    if (!a->brier || !a->classes) return PEFT_OK;
    r->p = mem_zalloc(&a->mem, r->n_rows * a->classes * (int64_t)sizeof(*r->p));
    r->label = mem_array(&a->mem, r->n_rows, sizeof(*r->label));
    return r->p && r->label ? PEFT_OK : PEFT_ENOMEM;
}

static int make_arms(struct racing *r, float lr)
{
    struct chooser *a = r->a;
    int32_t rates = a->n_ways == 1 && !(lr > 0) && a->way->lr > 0 ? 3 : 1;
    int rc = PEFT_OK;
    for (int32_t i = 0; i < a->n_ways && !rc; i++)
        for (int32_t k = 0; k < rates && !rc; k++)
            rc = add_arm(r, &a->way[i], lr > 0 ? lr : a->way[i].lr / powf(LESS, (float)k));
    return rc;
}

int race(struct chooser *a, float lr, struct arm *best)
{
    struct racing r = { .a = a };
    int rc = begin(&r);
    if (!rc) rc = make_arms(&r, lr);
    if (!rc) rc = climb(&r, lr, best);
    for (int32_t i = 0; i < r.all; i++) mem_free(&a->mem, r.arm[i].rows);
    mem_free(&a->mem, r.now);
    mem_free(&a->mem, r.weight);
    mem_free(&a->mem, r.p);
    mem_free(&a->mem, r.label);
    peft_dataset_free(r.some);
    return rc;
}
