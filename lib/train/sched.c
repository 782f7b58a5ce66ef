/* Learning-rate schedules with linear warm-up, as Hugging Face's
 * get_*_schedule_with_warmup: step i (from 0) of the warm-up has i / warmup. */
#include <math.h>

#include "train/train.h"

static double rest(int64_t i, int64_t n, int64_t warmup)
{
    return (double)(i - warmup) / (double)MAX(1, n - warmup);
}

static double constant(int64_t i, int64_t n, int64_t warmup)
{
    (void)n;
    return i < warmup ? (double)i / (double)warmup : 1.0;
}

static double linear(int64_t i, int64_t n, int64_t warmup)
{
    if (i < warmup) return (double)i / (double)warmup;
    return MAX(0.0, 1.0 - rest(i, n, warmup));
}

static double cosine(int64_t i, int64_t n, int64_t warmup)
{
    if (i < warmup) return (double)i / (double)warmup;
    return MAX(0.0, 0.5 * (1.0 + cos(3.14159265358979323846 * rest(i, n, warmup))));
}

/* For range tests (Smith 2017): from the root of a thousandth to that of a thousand. */
static double exponential(int64_t i, int64_t n, int64_t warmup)
{
    return pow(1000, rest(i, n - 1, warmup) - 0.5);
}

static const struct schedule table[] = {
    { "cosine", cosine }, { "linear", linear }, { "constant", constant },
    { "exponential", exponential }
};
const struct schedule *const schedules[] = { &table[0], &table[1], &table[2], &table[3], NULL };
