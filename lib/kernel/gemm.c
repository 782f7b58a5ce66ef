/* Linear layers: products of activations with a weight of any stored type.
 *
 * The result is cut into tiles, one task each.  A float32 weight goes to BLAS,
 * which copies both operands of every call into its own order; that costs about
 * as much as 16 rows or columns of the tile, so tiles are few and nearly square,
 * and their cut depends on the shape alone.  A weight that BLAS cannot read is
 * expanded straight into the order that the register tiles want (tile.h). */
#include "kernel/kernel.h"
#include "kernel/level.h"
#include "kernel/tile.h"

#include <math.h>

enum {
    TASKS = 8,                       /* for products of ordinary size */
    FEW_ROWS = 4,                    /* rows for which dot products win */
    /* A stored weight is worked off in blocks of the depth, of x's rows and of
     * columns; these bound a worker's scratch (in floats where not said). */
    DEPTH = 384,
    ROWS = 512,
    STRIPS = 65536,                  /* expanded columns of one block of depth */
    SCRATCH = ROWS * DEPTH + STRIPS + TILE_COLS * DEPTH + 64
};
/* Multiplications of a task: enough to pay for waking a thread, and few enough
 * that threads finish at about the same time. */
static const double task_min = 1 << 20, task_max = 1 << 28;

struct tiles { int64_t rows, cols, down, across; };

/* The tiles of the level that a table of kernels belongs to. */
static const struct tile *tile_of(const struct kernels *k)
{
#if defined(__x86_64__) || defined(__i386__)
    const struct level *l = level_of(k);
    if (l == level_avx512) return &tile_avx512;
    if (l == level_avx2) return &tile_avx2;
#endif
    (void)k;
    return &tile_c;
}

static int64_t even_out(int64_t n, int64_t pieces, int64_t unit)
{
    int64_t each = div_up(n, MAX(pieces, 1));
    return div_up(each, unit) * unit;
}

/* Cuts C[m,n] of a product over k into tiles as square as the shape allows. */
static struct tiles cut(int64_t m, int64_t n, int64_t k)
{
    double work = (double)m * (double)n * (double)k;
    double tasks = MIN(MAX(work / task_min, 1), TASKS);
    tasks = MAX(tasks, work / task_max);
    double area = (double)m * (double)n / tasks;
    double rows = MIN(sqrt(area), (double)m);
    double cols = MIN(area / rows, (double)n);
    rows = MIN(area / cols, (double)m);
    struct tiles t;
    t.rows = even_out(m, (int64_t)((double)m / rows + 0.5), 16);
    t.cols = even_out(n, (int64_t)((double)n / cols + 0.5), 32);
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
    qtype_expand(w->type, to, w->data, row * w->cols + col, n);
}

int64_t linear_scratch(const struct matrix *w, int64_t n)
{
    (void)n;
    return direct(w) ? 0 : SCRATCH * (int64_t)sizeof(float);
}

/* -------------------------------------------------- the large products */

/* C[n, cols] = alpha A[n, depth] op(W) + beta C.  Forward: A = x, op(W) = W^T,
 * depth = W's columns.  Back: A = dy, op(W) = W, depth = W's rows. */
struct product {
    const struct compute *c;
    const struct matrix *w;
    const struct tile *tile;
    float *out;
    const float *a;
    int64_t n, cols, depth;
    int transposed;
    float alpha, beta;
    struct tiles t;
    int64_t step, wide;              /* depth and columns of an expanded block */
};

static void product_tile(void *arg, int64_t task, int worker)
{
    const struct product *g = arg;
    int64_t i = task / g->t.across * g->t.rows, j = task % g->t.across * g->t.cols;
    int64_t rows = MIN(g->t.rows, g->n - i), cols = MIN(g->t.cols, g->cols - j);
    const float *w = (const float *)g->w->data + (g->transposed ? j * g->depth : j);
    (void)worker;
    g->c->blas->sgemm(0, g->transposed, rows, cols, g->depth, g->alpha, g->a + i * g->depth,
                      g->depth, w, g->w->cols, g->beta, g->out + i * g->cols + j, g->cols);
}

/* --- stored weights */

/* op(W)'s rows [p, p + depth) and columns [j, j + cols) as strips of the tiles'
 * columns: strip[p][nr], one strip after another. */
static void expand_strips(const struct product *g, float *to, float *temp, int64_t p,
                          int64_t depth, int64_t j, int64_t cols)
{
    int64_t nr = g->tile->nr, block = g->w->type->block;
    if (g->transposed) {
        for (int64_t s = 0; s < cols; s += nr, to += nr * depth) {
            int64_t n = MIN(nr, cols - s);
            for (int64_t i = 0; i < n; i++) expand(temp + i * depth, g->w, j + s + i, p, depth);
            g->tile->turn(to, temp, depth, n, depth);
        }
        return;
    }
    /* j is a multiple of the block; the end is rounded up to one. */
    int64_t whole = MIN(div_up(cols, block) * block, g->w->cols - j);
    for (int64_t i = 0; i < depth; i++) {
        expand(temp, g->w, p + i, j, whole);
        for (int64_t s = 0; s < cols; s += nr) {
            int64_t n = MIN(nr, cols - s);
            float *row = to + s * depth + i * nr;
            memcpy(row, temp + s, (size_t)n * sizeof *row);
            if (n < nr) memset(row + n, 0, (size_t)(nr - n) * sizeof *row);
        }
    }
}

static void stored_block(const struct product *g, float *scratch, int64_t i, int64_t rows,
                         int64_t j, int64_t cols)
{
    const struct tile *tile = g->tile;
    float *a = scratch, *b = a + ROWS * DEPTH, *temp = b + STRIPS;
    for (int64_t p = 0; p < g->depth; p += g->step) {
        int64_t depth = MIN(g->step, g->depth - p);
        float beta = p ? 1.0f : g->beta;
        tile->pack(a, g->a + i * g->depth + p, g->depth, rows, depth);
        for (int64_t q = 0; q < cols; q += g->wide) {
            int64_t n = MIN(g->wide, cols - q);
            expand_strips(g, b, temp, p, depth, j + q, n);
            for (int64_t s = 0; s < n; s += tile->nr)
                for (int64_t r = 0; r < rows; r += tile->mr)
                    tile->sum(depth, a + r * depth, b + s * depth,
                              g->out + (i + r) * g->cols + j + q + s, g->cols,
                              MIN(tile->mr, rows - r), MIN(tile->nr, n - s), g->alpha, beta);
        }
    }
}

static void stored_tile(void *arg, int64_t task, int worker)
{
    const struct product *g = arg;
    int64_t i = task / g->t.across * g->t.rows, j = task % g->t.across * g->t.cols;
    int64_t end = MIN(i + g->t.rows, g->n), cols = MIN(g->t.cols, g->cols - j);
    for (; i < end; i += ROWS)
        stored_block(g, compute_scratch(g->c, worker), i, MIN(ROWS, end - i), j, cols);
}

static int64_t multiple(int64_t a, int64_t b)
{
    int64_t x = a, y = b;
    while (y) {
        int64_t r = x % y;
        x = y;
        y = r;
    }
    return a / x * b;
}

/* Every element is summed in the order of the depth, wherever its tile lies, so
 * this cut may depend on the number of threads.  Each row of tasks expands the
 * weight anew and each column of tasks packs x anew; an element of either costs
 * about the same, so the cheapest cut is the one with the fewest of them. */
static void cut_stored(struct product *g)
{
    int64_t nr = g->tile->nr, block = g->w->type->block;
    double work = (double)g->n * (double)g->cols * (double)g->depth, best = INFINITY;
    int64_t most = (int64_t)MIN(2.0 * pool_threads(g->c->pool), work / task_min + 1);
    g->wide = g->transposed ? nr : multiple(nr, block);
    g->step = g->transposed ? MAX(DEPTH / block, 1) * block : MIN(DEPTH, STRIPS / g->wide / 8 * 8);
    g->step = even_out(g->depth, div_up(g->depth, g->step), g->transposed ? block : 8);
    for (int64_t across = 1; across <= most; across++) {
        int64_t down = div_up(most, across);
        int64_t rows = even_out(g->n, down, g->tile->mr);
        int64_t cols = even_out(g->cols, across, g->wide);
        double cost =
            (double)across * (double)g->n + (double)div_up(g->n, MIN(rows, ROWS)) * (double)g->cols;
        if (cost >= best) continue;
        best = cost;
        g->t = (struct tiles){ rows, cols, div_up(g->n, rows), div_up(g->cols, cols) };
    }
}

static void multiply(struct product *g)
{
    if (g->n <= 0 || g->cols <= 0) return;
    bool stored = !direct(g->w) && g->depth > 0;
    g->tile = tile_of(g->c->k);
    if (stored) cut_stored(g);
    else g->t = cut(g->n, g->cols, g->depth);
    pool_run(g->c->pool, g->t.down * g->t.across, stored ? stored_tile : product_tile, g);
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
    const int64_t most = STRIPS;
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
    struct product g = { c, w, NULL, y, x, n, w->rows, w->cols, 1, alpha, beta, { 0 }, 0, 0 };
    multiply(&g);
}

void linear_dx(const struct compute *c, float *dx, const float *dy, const struct matrix *w,
               int64_t n, float alpha, float beta)
{
    struct product g = { c, w, NULL, dx, dy, n, w->cols, w->rows, 0, alpha, beta, { 0 }, 0, 0 };
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
    struct gradient g = {c, dw, dy, x, n, out, in, alpha, cut(out, in, n)};
    pool_run(c->pool, g.t.down * g.t.across, gradient_tile, &g);
}
