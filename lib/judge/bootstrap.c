/* Confidence intervals and paired tests of figures (figure.h).  Draw k of sample s
 * is number s * rows + k of a Philox stream, so that a seed gives the same interval
 * everywhere. */
#include <math.h>
#include <stdlib.h>

#include "judge/figure.h"

enum { DRAW = 0, EXCHANGE = 1 };       /* streams */

double figure_mean(const struct figure *f, const double *sum, double rows)
{
    (void)f;
    return rows > 0 ? sum[0] / rows : 0;
}

static double value_of(const struct figure *f, const double *sum, int64_t n)
{
    double x = f->value(f, sum, (double)n);
    return isfinite(x) ? x : 0;
}

static void add_row(const struct figure *f, double *sum, const double *rows, int64_t i)
{
    const double *row = rows + i * f->width;
    if (f->add) f->add(f, sum, row);
    else
        for (int64_t k = 0; k < f->sums; k++) sum[k] += row[k];
}

int figure_of(struct mem *mem, const struct figure *f, const double *rows, int64_t n, double *out)
{
    double *sum = mem_array(mem, f->sums, sizeof(*sum));
    if (!sum) return PEFT_ENOMEM;
    for (int64_t i = 0; i < n; i++) add_row(f, sum, rows, i);
    *out = value_of(f, sum, n);
    mem_free(mem, sum);
    return PEFT_OK;
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

int draws_check(struct draws *d)
{
    if (!d->samples) d->samples = 1000;
    if (!(d->level != 0)) d->level = 0.95;
    if (d->samples < 0 || d->samples > 1 << 20)
        return fail(PEFT_EARG, "%lld samples, expected 1 to 1048576", (long long)d->samples);
    if (!(d->level > 0 && d->level < 1))
        return fail(PEFT_EARG, "a level of %g, expected one between 0 and 1", d->level);
    return PEFT_OK;
}

/* Sums of rows drawn of both systems, and of their rows exchanged at random. */
struct drawn { double *sum[4]; };

static void draw(const struct figure *f, const double *a, const double *b, int64_t n, int64_t s,
                 uint64_t seed, struct drawn *d)
{
    memset(d->sum[0], 0, (size_t)(4 * f->sums) * sizeof(double));
    for (int64_t k = 0; k < n; k++) {
        uint64_t at = (uint64_t)(s * n + k);
        uint64_t x = rng_u32(seed, rng_stream(RNG_BOOTSTRAP, DRAW), at);
        int64_t i = (int64_t)((x * (uint64_t)n) >> 32);
        add_row(f, d->sum[0], a, i);
        if (!b) continue;
        add_row(f, d->sum[1], b, i);
        int other = rng_u32(seed, rng_stream(RNG_BOOTSTRAP, EXCHANGE), at) & 1;
        add_row(f, d->sum[2 + other], a, k);
        add_row(f, d->sum[2 + !other], b, k);
    }
}

int bootstrap_pair(struct mem *mem, const struct figure *f, const double *a, const double *b,
                   int64_t n, const struct draws *o, struct interval *out, double *p)
{
    int64_t draws, as_far = 0;
    double apart[2] = { 0, 0 };
    if (!mul_ok(n, o->samples, &draws)) return fail(PEFT_EARG, "too many samples for these rows");
    double *x = mem_array(mem, o->samples, sizeof(*x));
    double *sums = mem_array(mem, 4 * f->sums, sizeof(*sums));
    int rc = x && sums ? PEFT_OK : PEFT_ENOMEM;
    if (!rc && b) rc = figure_of(mem, f, a, n, &apart[0]);
    if (!rc && b) rc = figure_of(mem, f, b, n, &apart[1]);
    for (int64_t s = 0; s < o->samples && !rc; s++) {
        struct drawn d;
        for (int k = 0; k < 4; k++) d.sum[k] = sums + k * f->sums;
        draw(f, a, b, n, s, o->seed, &d);
        x[s] = value_of(f, d.sum[0], n);
        if (!b) continue;
        x[s] = value_of(f, d.sum[1], n) - x[s];
        double by_chance = fabs(value_of(f, d.sum[3], n) - value_of(f, d.sum[2], n));
        as_far += by_chance >= fabs(apart[1] - apart[0]) - 1e-12;
    }
    if (!rc) *out = middle(x, o->samples, o->level);
    if (!rc && p) *p = (double)(as_far + 1) / (double)(o->samples + 1);
    mem_free(mem, x);
    mem_free(mem, sums);
    return rc;
}

int bootstrap(struct mem *mem, const struct figure *f, const double *rows, int64_t n,
              const struct draws *d, struct interval *out)
{
    return bootstrap_pair(mem, f, rows, NULL, n, d, out, NULL);
}
