/* A linear softmax head on frozen features and words, fitted to all parts of the rows but one
 * and asked about that one: the mean of -log p(given) plus l2 / 2 |W|^2, which is convex.
 * Of two classes the first one's weights are minus the other's, which alone are kept.
 * Accelerated gradient descent (Nesterov; restarts of O'Donoghue and Candes, 2015) with steps
 * of 1 / L, L = lambda_max(X'X / n) / 2 + l2 (Boehning 1992).
 * The weight l2 is the one under which the given labels of held out rows are likeliest; too
 * small a one lets heads learn the wrong labels too.  Then the rows whose labels are the least
 * likely are left out and the heads fitted again.  Sums have a fixed order. */
#include "prep/labels.h"

#include <math.h>
#include <stdlib.h>

enum { HEAD_LANES = 16, HEAD_ROUNDS = 200, POWER_ROUNDS = 30 };
/* From strong to weak: each begins where the one before ended. */
static const double head_weights[] = {0.1, 0.03, 0.01, 0.003, 0.001, 0.0003};
static const double worth = 0.99;       /* a weaker one must make the loss so much smaller */
static const double left_out = 0.1;     /* at most such a share of the rows in the end */

struct fold {
    struct heads *o;
    const int32_t *part;            /* of each row; */
    const bool *out;                /* those that no head is fitted to */
    int64_t size;                   /* [vectors, width + words] */
    int32_t index;
    int64_t n;                      /* rows that it is fitted to */
    float *w, *ahead, *grad, *z;    /* [size]; z [labels] */
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

static int64_t columns_of(const struct heads *o)
{
    int32_t words = o->words ? o->words->n : 0;
    return o->width + (words + HEAD_LANES - 1) / HEAD_LANES * HEAD_LANES;
}

static int32_t vectors_of(const struct heads *o) { return o->labels == 2 ? 1 : o->labels; }

/* The class that the k-th vector is of. */
static int32_t class_of(const struct heads *o, int32_t k) { return o->labels == 2 ? 1 : k; }

static int64_t first_word(const struct heads *o, int64_t row)
{
    return o->words && row ? o->words->end.v[row - 1] : 0;
}

static int64_t end_of_words(const struct heads *o, int64_t row)
{
    return o->words ? o->words->end.v[row] : 0;
}

/* A row times one of [columns], and so much of the row to it. */
static float row_dot(const struct heads *o, int64_t row, const float *w)
{
    float sum = head_dot(o->x + row * o->width, w, o->width);
    for (int64_t i = first_word(o, row); i < end_of_words(o, row); i++)
        sum += o->words->value[i] * w[o->width + o->words->id.v[i]];
    return sum;
}

static void add_row(const struct heads *o, int64_t row, float *to, float by)
{
    add_scaled(to, o->x + row * o->width, by, o->width);
    for (int64_t i = first_word(o, row); i < end_of_words(o, row); i++)
        to[o->width + o->words->id.v[i]] += by * o->words->value[i];
}

/* Each column to mean zero and one variance, so that the mean squared length is 16; then the
 * column of ones. */
static int standardise(struct mem *mem, struct heads *o)
{
    double *mean = mem_array(mem, 2 * (int64_t)o->width, sizeof *mean), sum = 0;
    double *square = mean + o->width, used = 0;
    if (!mean) return PEFT_ENOMEM;
    o->standard = true;
    for (int64_t i = 0; i < o->n; i++)
        for (int32_t d = 0; d < o->width; d++)
            mean[d] += (double)o->x[i * o->width + d] / (double)o->n;
    for (int64_t i = 0; i < o->n; i++)
        for (int32_t d = 0; d < o->width; d++) {
            double x = (double)o->x[i * o->width + d] - mean[d];
            square[d] += x * x;
        }
    for (int32_t d = 0; d < o->width; d++) {
        sum += square[d];
        used += square[d] > 0;
    }
    for (int32_t d = 0; d < o->width; d++)
        square[d] = square[d] > 0 ? 4 / sqrt(square[d] * used / (double)o->n) : 0;
    for (int64_t i = 0; i < o->n; i++)
        for (int32_t d = 0; d < o->width; d++) {
            float *x = &o->x[i * o->width + d];
            *x = (float)(((double)*x - mean[d]) * square[d]);
        }
    for (int64_t i = 0; i < o->n; i++) o->x[(i + 1) * o->width - 1] = 1;
    mem_free(mem, mean);
    return isfinite(sum) ? PEFT_OK :
           fail(PEFT_ENONFINITE, "the model's outputs are not finite");
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
    for (int32_t k = 0; k < vectors_of(o); k++)
        p[class_of(o, k)] = row_dot(o, row, w + k * columns_of(o));
    if (o->labels == 2) p[0] = -p[1];
    head_softmax(p, o->labels);
}

static bool is_fitted(const struct fold *f, int64_t row)
{
    return f->part[row] != f->index && !f->out[row];
}

static void head_gradient(struct fold *f, double l2)
{
    struct heads *o = f->o;
    int64_t columns = columns_of(o);
    memset(f->grad, 0, (size_t)f->size * sizeof *f->grad);
    for (int64_t i = 0; i < o->n; i++) {
        if (!is_fitted(f, i)) continue;
        probabilities(o, f->ahead, i, f->z);
        f->z[o->given[i]] -= 1;
        for (int32_t k = 0; k < vectors_of(o); k++)
            add_row(o, i, f->grad + k * columns, f->z[class_of(o, k)]);
    }
    for (int64_t i = 0; i < f->size; i++) {
        bool bias = i % columns == o->width - 1;
        f->grad[i] = f->grad[i] / (float)f->n + (bias ? 0 : (float)l2 * f->ahead[i]);
    }
}

/* The largest eigenvalue of X'X / n, of the fold's rows, by the power method. */
static double largest(struct fold *f)
{
    struct heads *o = f->o;
    float *v = f->ahead, *next = f->grad;
    int32_t n = (int32_t)columns_of(o);
    double norm = 1;
    for (int32_t d = 0; d < n; d++) v[d] = 1 + (float)(d % 7);
    for (int r = 0; r < POWER_ROUNDS && norm > 0; r++) {
        double s = sqrt((double)head_dot(v, v, n));
        for (int32_t d = 0; d < n; d++) v[d] /= (float)s;
        memset(next, 0, (size_t)n * sizeof *next);
        for (int64_t i = 0; i < o->n; i++)
            if (is_fitted(f, i)) add_row(o, i, next, row_dot(o, i, v));
        norm = sqrt((double)head_dot(next, next, n)) / (double)f->n;
        memcpy(v, next, (size_t)n * sizeof *v);
    }
    return norm;
}

static void head_fit(struct fold *f)
{
    if (!(f->lipschitz > 0)) f->lipschitz = 1.1 * largest(f) / 2;
    float step = (float)(1 / (f->lipschitz + f->l2));
    double t = 1, worst = 1;
    memcpy(f->ahead, f->w, (size_t)f->size * sizeof *f->w);
    for (int r = 0; r < HEAD_ROUNDS && worst > 1e-3; r++) {
        double next = (1 + sqrt(1 + 4 * t * t)) / 2, along = 0;
        head_gradient(f, f->l2);
        worst = 0;
        for (int64_t i = 0; i < f->size; i++) {
            float w = f->ahead[i] - step * f->grad[i], moved = w - f->w[i];
            along += (double)f->grad[i] * (double)moved;
            worst = fmax(worst, fabs((double)f->grad[i]));
            f->ahead[i] = w + (float)((t - 1) / next) * moved;
            f->w[i] = w;
        }
        t = next;
        if (along <= 0) continue;
        t = 1;
        memcpy(f->ahead, f->w, (size_t)f->size * sizeof *f->w);
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
        if (!f->out[i]) f->loss -= log(fmax((double)p[o->given[i]], 1e-12));
    }
}

int deal_parts(struct mem *mem, const struct heads *o, int32_t *part)
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
    f->size = vectors_of(f->o) * columns_of(f->o);
    f->w = mem_array(mem, f->size, sizeof *f->w);
    f->ahead = mem_array(mem, f->size, sizeof *f->ahead);
    f->grad = mem_array(mem, f->size, sizeof *f->grad);
    f->z = mem_array(mem, f->o->labels, sizeof *f->z);
    return f->w && f->ahead && f->grad && f->z ? PEFT_OK : PEFT_ENOMEM;
}

/* All folds for one weight after the other, from o->l2 on, as long as that helps; the best
 * one's p. */
static int heads_search(struct mem *mem, struct heads *o, struct fold *fold, struct pool *pool,
                        float *p)
{
    int64_t bytes = o->n * o->labels * (int64_t)sizeof *p, tries = ARRAY_LEN(head_weights);
    float *trial = mem_alloc(mem, bytes);
    double best = HUGE_VAL, from = o->l2;
    int rc = trial ? PEFT_OK : PEFT_ENOMEM;
    for (int32_t k = 0; k < o->folds; k++) {
        fold[k].p = trial;
        fold[k].lipschitz = 0;
        fold[k].n = 0;
        for (int64_t i = 0; i < o->n; i++) fold[k].n += is_fitted(&fold[k], i);
    }
    for (int64_t i = 0; !rc && i < tries; i++) {
        double loss = 0;
        if (from > 0 && !o->fixed && head_weights[i] > from) continue;
        for (int32_t k = 0; k < o->folds; k++) fold[k].l2 = o->fixed ? from : head_weights[i];
        pool_run(pool, o->folds, run_fold, fold);
        for (int32_t k = 0; k < o->folds; k++) loss += fold[k].loss;
        if (!(loss < worth * best)) break;
        if (o->fixed) tries = 1;
        best = loss;
        o->l2 = fold[0].l2;
        memcpy(p, trial, (size_t)bytes);
        if (o->progress && o->progress(o->ctx, i + 1, tries))
            rc = fail(PEFT_ECANCELLED, "cancelled while heads were fitted");
    }
    mem_free(mem, trial);
    return rc;
}

static int by_likelihood(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The rows whose labels are the least likely, of those of which another label is likelier. */
static int leave_out(struct mem *mem, const struct heads *o, const float *p, bool *out)
{
    float *given = mem_array(mem, o->n, sizeof *given);
    int64_t n = 0, most = (int64_t)(left_out * (double)o->n);
    if (!given) return PEFT_ENOMEM;
    for (int64_t i = 0; i < o->n; i++) {
        const float *q = p + i * o->labels;
        for (int32_t k = 0; k < o->labels; k++) out[i] |= q[k] > q[o->given[i]];
        if (out[i]) given[n++] = q[o->given[i]];
    }
    qsort(given, (size_t)n, sizeof *given, by_likelihood);
    for (int64_t i = 0; n > most && i < o->n; i++)
        out[i] &= p[i * o->labels + o->given[i]] < given[most];
    mem_free(mem, given);
    return PEFT_OK;
}

int heads_cross(struct host *h, struct heads *o, float *p)
{
    struct mem *mem = &h->mem;
    struct pool *pool = NULL;
    int32_t *part = mem_array(mem, o->n, sizeof *part);
    struct fold *fold = mem_array(mem, o->folds, sizeof *fold);
    bool *out = mem_zalloc(mem, o->n);
    int rc = part && fold && out ? PEFT_OK : PEFT_ENOMEM;
    if (!rc && !o->standard) rc = standardise(mem, o);
    if (!rc) rc = deal_parts(mem, o, part);
    for (int32_t k = 0; !rc && k < o->folds; k++) {
        fold[k] = (struct fold){.o = o, .part = part, .out = out, .index = k};
        rc = fold_init(mem, &fold[k]);
    }
    if (!rc) rc = pool_new(h, o->threads, &pool);
    o->fixed = o->l2 > 0;
    if (!rc) rc = heads_search(mem, o, fold, pool, p);
    if (!rc) rc = leave_out(mem, o, p, out);
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
    mem_free(mem, out);
    return rc;
}
