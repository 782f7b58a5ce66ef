/* A linear softmax head on frozen features, fitted to all parts of the rows but one and
 * asked about that one: the mean of -log p(given) plus l2 / 2 |W|^2, which is convex.
 * Accelerated gradient descent (Nesterov; restarts of O'Donoghue and Candes, 2015) with steps
 * of 1 / L, L = lambda_max(X'X / n) / 2 + l2 (Boehning 1992).
 * The weight l2 is the one under which the given labels of held out rows are likeliest; too
 * small a one lets heads learn the wrong labels too.  Sums have a fixed order. */
#include "prep/labels.h"

#include <math.h>

enum { HEAD_LANES = 16, HEAD_ROUNDS = 200, POWER_ROUNDS = 30 };
/* From strong to weak: each begins where the one before ended. */
static const double head_weights[] = {0.1, 0.03, 0.01, 0.003, 0.001, 0.0003};
static const double worth = 0.99;       /* a weaker one must make the loss so much smaller */

struct fold {
    struct heads *o;
    const int32_t *part;            /* of each row */
    int32_t index;
    int64_t n;                      /* rows that it is fitted to */
    float *w, *ahead, *grad, *z;    /* [labels, width]; z [labels] */
    double lipschitz;               /* without l2 */
    double l2, loss;                /* sum of -log p over the rows held out */
    float *p;
};

int32_t heads_width(int64_t features)
{
    return (int32_t)((features + HEAD_LANES) / HEAD_LANES * HEAD_LANES);
}

static float head_dot(const float *a, const float *b, int32_t n)
{
    float s[HEAD_LANES] = {0}, sum = 0;
    for (int32_t i = 0; i < n; i += HEAD_LANES)
        for (int k = 0; k < HEAD_LANES; k++) s[k] += a[i + k] * b[i + k];
    for (int k = 0; k < HEAD_LANES; k++) sum += s[k];
    return sum;
}

static void add_scaled(float *to, const float *x, float by, int32_t n)
{
    for (int32_t i = 0; i < n; i += HEAD_LANES)
        for (int k = 0; k < HEAD_LANES; k++) to[i + k] += by * x[i + k];
}

/* Means to zero, the mean squared length to one; then the column of ones. */
static int standardise(struct mem *mem, struct heads *o)
{
    double *mean = mem_array(mem, o->width, sizeof *mean), sum = 0;
    if (!mean) return PEFT_ENOMEM;
    for (int64_t i = 0; i < o->n; i++)
        for (int32_t d = 0; d < o->width; d++) mean[d] += (double)o->x[i * o->width + d];
    for (int64_t i = 0; i < o->n; i++)
        for (int32_t d = 0; d < o->width; d++) {
            float *x = &o->x[i * o->width + d];
            *x -= (float)(mean[d] / (double)o->n);
            sum += (double)*x * (double)*x;
        }
    mem_free(mem, mean);
    if (!isfinite(sum)) return fail(PEFT_ENONFINITE, "the model's outputs are not finite");
    float scale = sum > 0 ? (float)(4 / sqrt(sum / (double)o->n)) : 1;
    for (int64_t i = 0; i < o->n * o->width; i++) o->x[i] *= scale;
    for (int64_t i = 0; i < o->n; i++) o->x[(i + 1) * o->width - 1] = 1;
    return PEFT_OK;
}

static void head_softmax(float *z, int32_t n)
{
    float most = z[0], sum = 0;
    for (int32_t k = 1; k < n; k++) most = MAX(most, z[k]);
    for (int32_t k = 0; k < n; k++) sum += z[k] = expf(z[k] - most);
    for (int32_t k = 0; k < n; k++) z[k] /= sum;
}

static void probabilities(const struct heads *o, const float *w, int64_t row, float *p)
{
    for (int32_t k = 0; k < o->labels; k++)
        p[k] = head_dot(o->x + row * o->width, w + (int64_t)k * o->width, o->width);
    head_softmax(p, o->labels);
}

static void head_gradient(struct fold *f, double l2)
{
    struct heads *o = f->o;
    int64_t size = (int64_t)o->labels * o->width;
    memset(f->grad, 0, (size_t)size * sizeof *f->grad);
    for (int64_t i = 0; i < o->n; i++) {
        if (f->part[i] == f->index) continue;
        probabilities(o, f->ahead, i, f->z);
        f->z[o->given[i]] -= 1;
        for (int32_t k = 0; k < o->labels; k++)
            add_scaled(f->grad + (int64_t)k * o->width, o->x + i * o->width, f->z[k], o->width);
    }
    for (int64_t i = 0; i < size; i++) {
        bool bias = i % o->width == o->width - 1;
        f->grad[i] = f->grad[i] / (float)f->n + (bias ? 0 : (float)l2 * f->ahead[i]);
    }
}

/* The largest eigenvalue of X'X / n, of the fold's rows, by the power method. */
static double largest(struct fold *f)
{
    struct heads *o = f->o;
    float *v = f->ahead, *next = f->grad;
    double norm = 1;
    for (int32_t d = 0; d < o->width; d++) v[d] = 1 + (float)(d % 7);
    for (int r = 0; r < POWER_ROUNDS && norm > 0; r++) {
        double s = sqrt((double)head_dot(v, v, o->width));
        for (int32_t d = 0; d < o->width; d++) v[d] /= (float)s;
        memset(next, 0, (size_t)o->width * sizeof *next);
        for (int64_t i = 0; i < o->n; i++)
            if (f->part[i] != f->index)
                add_scaled(next, o->x + i * o->width, head_dot(o->x + i * o->width, v, o->width),
                           o->width);
        norm = sqrt((double)head_dot(next, next, o->width)) / (double)f->n;
        memcpy(v, next, (size_t)o->width * sizeof *v);
    }
    return norm;
}

static void head_fit(struct fold *f)
{
    struct heads *o = f->o;
    int64_t size = (int64_t)o->labels * o->width;
    if (!(f->lipschitz > 0)) f->lipschitz = 1.1 * largest(f) / 2;
    float step = (float)(1 / (f->lipschitz + f->l2));
    double t = 1, worst = 1;
    memcpy(f->ahead, f->w, (size_t)size * sizeof *f->w);
    for (int r = 0; r < HEAD_ROUNDS && worst > 1e-3; r++) {
        double next = (1 + sqrt(1 + 4 * t * t)) / 2, along = 0;
        head_gradient(f, f->l2);
        worst = 0;
        for (int64_t i = 0; i < size; i++) {
            float w = f->ahead[i] - step * f->grad[i], moved = w - f->w[i];
            along += (double)f->grad[i] * (double)moved;
            worst = fmax(worst, fabs((double)f->grad[i]));
            f->ahead[i] = w + (float)((t - 1) / next) * moved;
            f->w[i] = w;
        }
        t = next;
        if (along <= 0) continue;
        t = 1;
        memcpy(f->ahead, f->w, (size_t)size * sizeof *f->w);
    }
}

static void run_fold(void *arg, int64_t task, int worker)
{
    struct fold *f = (struct fold *)arg + task;
    struct heads *o = f->o;
    (void)worker;
    head_fit(f);
    f->loss = 0;
    for (int64_t i = 0; i < o->n; i++) {
        if (f->part[i] != f->index) continue;
        float *p = f->p + i * o->labels;
        probabilities(o, f->w, i, p);
        f->loss -= log(fmax((double)p[o->given[i]], 1e-12));
    }
}

/* Rows in an order by seed are dealt to the parts, those of each label in turn. */
static int deal_parts(struct mem *mem, const struct heads *o, int32_t *part)
{
    int32_t *order = mem_array(mem, o->n, sizeof *order);
    int64_t *seen = mem_array(mem, o->labels, sizeof *seen);
    int rc = order && seen ? PEFT_OK : PEFT_ENOMEM;
    for (int64_t i = 0; !rc && i < o->n; i++) order[i] = (int32_t)i;
    if (!rc) rng_shuffle(order, o->n, o->seed, rng_stream(RNG_SPLIT, 1));
    for (int64_t i = 0; !rc && i < o->n; i++) {
        int32_t k = o->given[order[i]];
        part[order[i]] = (int32_t)((seen[k]++ + k) % o->folds);
    }
    mem_free(mem, order);
    mem_free(mem, seen);
    return rc;
}

static int fold_init(struct mem *mem, struct fold *f)
{
    struct heads *o = f->o;
    int64_t size = (int64_t)o->labels * o->width;
    for (int64_t i = 0; i < o->n; i++) f->n += f->part[i] != f->index;
    f->w = mem_array(mem, size, sizeof *f->w);
    f->ahead = mem_array(mem, size, sizeof *f->ahead);
    f->grad = mem_array(mem, size, sizeof *f->grad);
    f->z = mem_array(mem, o->labels, sizeof *f->z);
    return f->w && f->ahead && f->grad && f->z ? PEFT_OK : PEFT_ENOMEM;
}

/* All folds for one weight after the other, as long as that helps; the best one's p. */
static int heads_search(struct mem *mem, struct heads *o, struct fold *fold, struct pool *pool,
                        float *p)
{
    int64_t bytes = o->n * o->labels * (int64_t)sizeof *p, tries = ARRAY_LEN(head_weights);
    float *trial = mem_alloc(mem, bytes);
    double best = HUGE_VAL, given = o->l2;
    int rc = trial ? PEFT_OK : PEFT_ENOMEM;
    if (given > 0) tries = 1;
    for (int64_t i = 0; !rc && i < tries; i++) {
        double loss = 0;
        for (int32_t k = 0; k < o->folds; k++) {
            fold[k].p = trial;
            fold[k].l2 = given > 0 ? given : head_weights[i];
        }
        pool_run(pool, o->folds, run_fold, fold);
        for (int32_t k = 0; k < o->folds; k++) loss += fold[k].loss;
        if (!(loss < worth * best)) break;
        best = loss;
        o->l2 = fold[0].l2;
        memcpy(p, trial, (size_t)bytes);
        if (o->progress && o->progress(o->ctx, i + 1, tries))
            rc = fail(PEFT_ECANCELLED, "cancelled while heads were fitted");
    }
    mem_free(mem, trial);
    return rc;
}

int heads_cross(struct host *h, struct heads *o, float *p)
{
    struct mem *mem = &h->mem;
    struct pool *pool = NULL;
    int32_t *part = mem_array(mem, o->n, sizeof *part);
    struct fold *fold = mem_array(mem, o->folds, sizeof *fold);
    int rc = part && fold ? standardise(mem, o) : PEFT_ENOMEM;
    if (!rc) rc = deal_parts(mem, o, part);
    for (int32_t k = 0; !rc && k < o->folds; k++) {
        fold[k] = (struct fold){.o = o, .part = part, .index = k};
        rc = fold_init(mem, &fold[k]);
    }
    if (!rc) rc = pool_new(h, o->threads, &pool);
    if (!rc) rc = heads_search(mem, o, fold, pool, p);
    pool_free(pool);
    for (int32_t k = 0; fold && k < o->folds; k++) {
        mem_free(mem, fold[k].w);
        mem_free(mem, fold[k].ahead);
        mem_free(mem, fold[k].grad);
        mem_free(mem, fold[k].z);
    }
    mem_free(mem, fold);
    mem_free(mem, part);
    return rc;
}
