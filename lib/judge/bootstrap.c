/* Confidence intervals and paired tests of figures (figure.h).  Draw k of sample s
 * is number s * rows + k of a Philox stream, so that a seed gives the same interval
 * everywhere. */
#include <math.h>
#include <stdlib.h>

#include "judge/figure.h"

enum { DRAW = 0, EXCHANGE = 1 };       /* streams */

static double value_of(const struct figure *f, const double *sum, int64_t n)
{
    double x = f->value(sum, (double)n);
    return isfinite(x) ? x : 0;
}

static void draw_row(const struct figure *f, double *sum, const double *rows, int64_t i)
{
    for (int k = 0; k < f->n; k++) sum[k] += rows[i * f->n + k];
}

double figure_of(const struct figure *f, const double *rows, int64_t n)
{
    double sum[OVERLAP_SUMS] = { 0 };
    for (int64_t i = 0; i < n; i++) draw_row(f, sum, rows, i);
    return value_of(f, sum, n);
}

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

/* The middle `level` of what the samples gave, sorted here. */
static struct interval middle(double *x, int64_t n, double level)
{
    qsort(x, (size_t)n, sizeof(*x), by_value);
    double tail = (1 - level) / 2 * (double)n;
    int64_t low = MIN((int64_t)tail, n - 1), high = MAX(n - 1 - (int64_t)tail, 0);
    return (struct interval){ x[low], x[high] };
}

int bootstrap_pair(struct mem *mem, const struct figure *f, const double *a, const double *b,
                   int64_t n, int64_t samples, double level, uint64_t seed, struct interval *out,
                   double *p)
{
    int64_t draws, as_far = 0;
    if (!mul_ok(n, samples, &draws)) return fail(PEFT_EARG, "too many samples for these rows");
    double *x = mem_array(mem, samples, sizeof(*x));
    if (!x) return PEFT_ENOMEM;
    double apart = b ? fabs(figure_of(f, b, n) - figure_of(f, a, n)) : 0;
    for (int64_t s = 0; s < samples; s++) {
        double drawn[2][OVERLAP_SUMS] = { { 0 } }, mixed[2][OVERLAP_SUMS] = { { 0 } };
        for (int64_t k = 0; k < n; k++) {
            uint64_t at = (uint64_t)(s * n + k);
            int64_t i = (int64_t)(((uint64_t)rng_u32(seed, rng_stream(RNG_BOOTSTRAP, DRAW), at) *
                                   (uint64_t)n) >> 32);
            draw_row(f, drawn[0], a, i);
            if (!b) continue;
            draw_row(f, drawn[1], b, i);
            int other = rng_u32(seed, rng_stream(RNG_BOOTSTRAP, EXCHANGE), at) & 1;
            draw_row(f, mixed[other], a, k);
            draw_row(f, mixed[!other], b, k);
        }
        x[s] = value_of(f, drawn[0], n);
        if (!b) continue;
        x[s] = value_of(f, drawn[1], n) - x[s];
        double by_chance = fabs(value_of(f, mixed[1], n) - value_of(f, mixed[0], n));
        as_far += by_chance >= apart - 1e-12;
    }
    *out = middle(x, samples, level);
    if (p) *p = (double)(as_far + 1) / (double)(samples + 1);
    mem_free(mem, x);
    return PEFT_OK;
}

int bootstrap(struct mem *mem, const struct figure *f, const double *rows, int64_t n,
              int64_t samples, double level, uint64_t seed, struct interval *out)
{
    return bootstrap_pair(mem, f, rows, NULL, n, samples, level, seed, out, NULL);
}
