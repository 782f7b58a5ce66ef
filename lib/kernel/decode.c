/* Linear layers for a few rows.  What bounds them is the weight, which is read
 * once: one row of x meets it in registers (quant_vec.inc), several meet a few of
 * its rows expanded in the cache.  Always in float32, since there is nothing to
 * gain from rounding x.  A result depends on its own two rows alone. */
#include "kernel/decode.h"
#include "kernel/level.h"
#include "kernel/unpack.h"

enum {
    OUTPUTS = 8,                     /* rows of W at a time */
    FEW_DEPTH = 4096,                /* and columns of them; whole blocks of every type */
    AHEAD = 4096                     /* bytes that are fetched before they are needed */
};
_Static_assert((int)FEW_SCRATCH >= (int)OUTPUTS * (int)FEW_DEPTH,
               "scratch is sized for expanded rows");
/* Multiplications that pay for waking a thread. */
static const double few_task_min = 1 << 16;

struct few {
    const struct compute *c;
    const struct level *level;
    dot_fn *dot;                     /* NULL = expand first */
    const struct matrix *w;
    float *y;
    const float *x;
    int64_t n;
    float alpha, beta;
};

static dot_fn *dot_of(const struct level *l, const struct matrix *w)
{
    const struct unpack *u = &unpack_c;
    if (w->cols % w->type->block) return NULL;
#if defined(__x86_64__) || defined(__i386__)
    if (l == level_avx512) u = &unpack_avx512;
    else if (l == level_avx2) u = &unpack_avx2;
#elif defined(__aarch64__)
    if (l == level_neon) u = &unpack_neon;
#endif
    (void)l;
    return u->dot[w->type->dot];
}

static int64_t row_bytes(const struct matrix *w)
{
    return div_up(w->cols * w->type->bytes, w->type->block);
}

/* Processors do not look far enough ahead by themselves. */
static void fetch(const char *p, int64_t n)
{
    for (int64_t i = 0; i < n; i += 64) __builtin_prefetch(p + i);
}

/* sum[n][OUTPUTS] for the outputs [o, o + rows). */
static void sum_outputs(const struct few *f, float *sum, int64_t o, int64_t rows, float *scratch)
{
    const struct matrix *w = f->w;
    bool as_is = has_floats(w);
    float part[FEW_ROWS * OUTPUTS];
    fetch((const char *)w->data + o * row_bytes(w) + AHEAD, rows * row_bytes(w));
    for (int64_t p = 0; p < w->cols; p += FEW_DEPTH) {
        int64_t depth = MIN(FEW_DEPTH, w->cols - p), ld = as_is ? w->cols : depth;
        const float *from = as_is ? (const float *)w->data + o * w->cols + p : scratch;
        for (int64_t i = 0; i < rows && !as_is; i++)
            qtype_expand(w->type, scratch + i * depth, w->data, (o + i) * w->cols + p, depth);
        f->level->dots(part, OUTPUTS, from, ld, rows, f->x + p, w->cols, f->n, depth);
        for (int64_t i = 0; i < f->n * OUTPUTS; i++) sum[i] = p ? sum[i] + part[i] : part[i];
    }
}

static void few_outputs(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct few *f = arg;
    const char *data = f->w->data;
    int64_t each = row_bytes(f->w);
    fetch(data + begin * each, MIN((end - begin) * each, AHEAD));
    for (int64_t o = begin; o < end; o += OUTPUTS) {
        float sum[FEW_ROWS * OUTPUTS] = { 0 };
        int64_t rows = MIN(OUTPUTS, end - o);
        if (f->n == 1 && f->dot)
            for (int64_t i = 0; i < rows; i++)
                sum[i] = f->dot(data + (o + i) * each, f->x, f->w->cols);
        else sum_outputs(f, sum, o, rows, compute_scratch(f->c, worker));
        for (int64_t i = 0; i < f->n; i++)
            for (int64_t k = 0; k < rows; k++) {
                float *y = f->y + i * f->w->rows + o + k, v = f->alpha * sum[i * OUTPUTS + k];
                *y = f->beta == 0 ? v : v + f->beta * *y;
            }
    }
}

void linear_few(const struct compute *c, float *y, const float *x, const struct matrix *w,
                int64_t n, float alpha, float beta)
{
    const struct level *level = level_of(c->k);
    struct few f = { c, level, dot_of(level, w), w, y, x, n, alpha, beta };
    double work = (double)n * (double)w->rows * (double)w->cols;
    int64_t tasks = (int64_t)MIN(2.0 * pool_threads(c->pool), work / few_task_min + 1);
    int64_t grain = div_up(div_up(w->rows, tasks), OUTPUTS) * OUTPUTS;
    if (n > 0) compute_rows(c, w->rows, grain, few_outputs, &f);
}
