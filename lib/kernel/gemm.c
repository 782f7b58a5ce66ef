/* Linear layers: products of activations with a weight of any stored type.
 *
 * The result is cut into tiles, one task each; the cut depends on the shape
 * alone.  OpenBLAS copies both operands of every call into its own order, which
 * costs about as much as 16 rows or columns of the tile, so tiles are few and
 * nearly square.  A weight that BLAS cannot read is expanded in panels of at
 * most PANEL bytes into the worker's scratch; a tile that is taller than wide
 * then makes up for expanding the same panel once for each row of tiles. */
#include "kernel/kernel.h"

#include <math.h>

enum {
    PANEL = 1 << 20,                 /* bytes of expanded weights */
    TASKS = 8,                       /* for products of ordinary size */
    FEW_ROWS = 4                          /* rows for which dot products win */
};
/* Multiplications of a task: enough to pay for waking a thread, and few enough
 * that threads finish at about the same time. */
static const double task_min = 1 << 20, task_max = 1 << 28;

struct tiles { int64_t rows, cols, down, across; };

static int64_t even_out(int64_t n, int64_t pieces, int64_t unit)
{
    int64_t each = div_up(n, MAX(pieces, 1));
    return div_up(each, unit) * unit;
}

/* Cuts C[m,n] of a product over k; columns in multiples of `unit`, tiles
 * `aspect` times as tall as wide where the shape allows it. */
static struct tiles cut(int64_t m, int64_t n, int64_t k, int64_t unit, double aspect)
{
    double work = (double)m * (double)n * (double)k;
    double tasks = MIN(MAX(work / task_min, 1), TASKS);
    tasks = MAX(tasks, work / task_max);
    double area = (double)m * (double)n / tasks;
    double rows = MIN(sqrt(area * aspect), (double)m);
    double cols = MIN(area / rows, (double)n);
    rows = MIN(area / cols, (double)m);
    struct tiles t;
    t.rows = even_out(m, (int64_t)((double)m / rows + 0.5), 16);
    t.cols = even_out(n, (int64_t)((double)n / cols + 0.5), unit);
    t.down = div_up(m, t.rows);
    t.across = div_up(n, t.cols);
    return t;
}

/* BLAS reads float32 that is aligned; a safetensors file need not hold it
 * so. */
static bool direct(const struct matrix *w)
{
    return w->type == &qtype_f32 && (uintptr_t)w->data % sizeof(float) == 0;
}

static void expand(float *to, const struct matrix *w, int64_t row, int64_t col, int64_t n)
{
    int64_t at = (row * w->cols + col) / w->type->block;
    w->type->to_f32(to, (const char *)w->data + at * w->type->bytes, n);
}

int64_t linear_scratch(const struct matrix *w, int64_t n)
{
    (void)n;
    return direct(w) ? 0 : PANEL;
}

/* -------------------------------------------------- the large products */

/* C[n, cols] = alpha A[n, depth] op(W) + beta C.  Forward: A = x, op(W) = W^T,
 * depth = W's columns.  Back: A = dy, op(W) = W, depth = W's rows. */
struct product {
    const struct compute *c;
    const struct matrix *w;
    float *out;
    const float *a;
    int64_t n, cols, depth;
    int transposed;
    float alpha, beta;
    struct tiles t;
};

/* The part of op(W) for `depth` from p and `cols` from j, expanded. */
static void expand_panel(const struct product *g, float *to, int64_t p, int64_t depth, int64_t j,
                         int64_t cols)
{
    if (g->transposed)
        for (int64_t i = 0; i < cols; i++) expand(to + i * depth, g->w, j + i, p, depth);
    else
        for (int64_t i = 0; i < depth; i++) expand(to + i * cols, g->w, p + i, j, cols);
}

static void product_tile(void *arg, int64_t task, int worker)
{
    const struct product *g = arg;
    const struct blas *blas = g->c->blas;
    int64_t i = task / g->t.across * g->t.rows, j = task % g->t.across * g->t.cols;
    int64_t rows = MIN(g->t.rows, g->n - i), cols = MIN(g->t.cols, g->cols - j);
    const float *a = g->a + i * g->depth;
    float *out = g->out + i * g->cols + j;
    if (direct(g->w) || g->depth == 0) {
        const float *w = (const float *)g->w->data + (g->transposed ? j * g->depth : j);
        blas->sgemm(0, g->transposed, rows, cols, g->depth, g->alpha, a, g->depth, w,
                    g->w->cols, g->beta, out, g->cols);
        return;
    }
    float *panel = compute_scratch(g->c, worker), beta = g->beta;
    int64_t block = g->transposed ? g->w->type->block : 1;
    int64_t most = MAX(PANEL / (int64_t)sizeof(float) / cols / block, 1) * block;
    for (int64_t p = 0; p < g->depth; p += most, beta = 1) {
        int64_t depth = MIN(most, g->depth - p);
        expand_panel(g, panel, p, depth, j, cols);
        blas->sgemm(0, g->transposed, rows, cols, depth, g->alpha, a + p, g->depth, panel,
                    g->transposed ? depth : cols, beta, out, g->cols);
    }
}

static void multiply(struct product *g)
{
    bool expands = !direct(g->w);
    if (g->n <= 0 || g->cols <= 0) return;
    g->t = cut(g->n, g->cols, g->depth, expands && !g->transposed ? MAX(g->w->type->block, 32) : 32,
               expands ? 2 : 1);
    /* A panel must hold the tile's columns for one block of depth at least. */
    int64_t widest = PANEL / (int64_t)sizeof(float) / 256;
    if (expands && g->t.cols > widest) {
        g->t.cols = widest;
        g->t.across = div_up(g->cols, widest);
    }
    pool_run(g->c->pool, g->t.down * g->t.across, product_tile, g);
}

/* ------------------------------------------------------------ few rows */

struct decode {
    const struct compute *c;
    const struct matrix *w;
    float *y;
    const float *x;
    int64_t n;
    float alpha, beta;
};

/* y[:, o] for outputs [begin, end): each row of W is read and expanded once. */
static void decode_outputs(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct decode *d = arg;
    int64_t in = d->w->cols, out = d->w->rows;
    const int64_t most = PANEL / (int64_t)sizeof(float);
    bool as_is = direct(d->w);
    for (int64_t o = begin; o < end; o++) {
        float sum[FEW_ROWS] = {0};
        for (int64_t p = 0; p < in; p += most) {
            int64_t depth = MIN(most, in - p);
            const float *row = (const float *)d->w->data + o * in + p;
            if (!as_is) {
                float *to = compute_scratch(d->c, worker);
                expand(to, d->w, o, p, depth);
                row = to;
            }
            for (int64_t i = 0; i < d->n; i++)
                sum[i] += d->c->k->dot(row, d->x + i * in + p, depth);
        }
        for (int64_t i = 0; i < d->n; i++) {
            float *y = d->y + i * out + o;
            *y = d->beta == 0 ? d->alpha * sum[i] : d->alpha * sum[i] + d->beta * *y;
        }
    }
}

/* ------------------------------------------------------------- the doors */

void linear_forward(const struct compute *c, float *y, const float *x, const struct matrix *w,
                    int64_t n, float alpha, float beta)
{
    if (n <= FEW_ROWS) {
        struct decode d = {c, w, y, x, n, alpha, beta};
        int64_t grain = (int64_t)(task_min / 4) / MAX(w->cols, 1) + 1;
        if (n > 0) compute_rows(c, w->rows, grain, decode_outputs, &d);
        return;
    }
    struct product g = {c, w, y, x, n, w->rows, w->cols, 1, alpha, beta, {0}};
    multiply(&g);
}

void linear_dx(const struct compute *c, float *dx, const float *dy, const struct matrix *w,
               int64_t n, float alpha, float beta)
{
    struct product g = {c, w, dx, dy, n, w->cols, w->rows, 0, alpha, beta, {0}};
    multiply(&g);
}

struct gradient {
    const struct compute *c;
    float *dw;
    const float *dy, *x;
    int64_t n, out, in;
    float alpha;
    struct tiles t;
};

static void gradient_tile(void *arg, int64_t task, int worker)
{
    const struct gradient *g = arg;
    (void)worker;
    int64_t o = task / g->t.across * g->t.rows, j = task % g->t.across * g->t.cols;
    int64_t rows = MIN(g->t.rows, g->out - o), cols = MIN(g->t.cols, g->in - j);
    g->c->blas->sgemm(1, 0, rows, cols, g->n, g->alpha, g->dy + o, g->out, g->x + j, g->in, 1,
                      g->dw + o * g->in + j, g->in);
}

void linear_dw(const struct compute *c, float *dw, const float *dy, const float *x, int64_t n,
               int64_t out, int64_t in, float alpha)
{
    if (n <= 0 || out <= 0 || in <= 0) return;
    struct gradient g = {c, dw, dy, x, n, out, in, alpha, cut(out, in, n, 32, 1)};
    pool_run(c->pool, g.t.down * g.t.across, gradient_tile, &g);
}
