/* Linear layers: products of activations with a weight of any stored type.
 *
 * The result is cut into tiles, one task each.  A float32 weight goes to BLAS,
 * which copies both operands of every call into its own order; that costs about
 * as much as 16 rows or columns of the tile, so tiles are few and nearly square,
 * and their cut depends on the shape alone.  A weight that BLAS cannot read is
 * expanded straight into the order that the register tiles want (tile.h), and so
 * is every operand of a product in bfloat16. */
#include "kernel/kernel.h"
#include "kernel/level.h"
#include "kernel/tile.h"

#include <math.h>

enum {
    TASKS = 8,                       /* for products of ordinary size */
    FEW_ROWS = 4,                    /* rows for which dot products win */
    /* A stored weight is worked off in blocks of the depth, of A's rows and of
     * columns; these bound a worker's scratch (in floats where not said). */
    DEPTH = 384,
    ROWS = 512,
    STRIPS = 65536,                  /* expanded columns of one block of depth */
    LINE = TILE_COLS * 2 * DEPTH,    /* what is expanded at a time */
    LINES = 32,                      /* at most, and an even number */
    SCRATCH = ROWS * DEPTH + STRIPS + LINE + 64
};
/* Multiplications of a task: enough to pay for waking a thread, and few enough
 * that threads finish at about the same time. */
static const double task_min = 1 << 20, task_max = 1 << 28;

struct tiles { int64_t rows, cols, down, across; };

const struct tile *tile_of(const struct compute *c)
{
    if (c->half) return c->half;
#if defined(__x86_64__) || defined(__i386__)
    const struct level *l = level_of(c->k);
    if (l == level_avx512) return &tile_avx512;
    if (l == level_avx2) return &tile_avx2;
#endif
    return &tile_c;
}

const struct tile *tile_half(enum cpu_level level)
{
#ifdef __x86_64__
    if (level == CPU_AVX512 && tile_amx.sum && cpu_has_unit(UNIT_AMX)) return &tile_amx;
    if (level == CPU_AVX512 && tile_pair.sum && cpu_has_unit(UNIT_PAIRS)) return &tile_pair;
#endif
    (void)level;
    return NULL;
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

/* w[rows, cols) from (row, col) on as floats: where they are, or expanded. */
static const float *floats(const struct matrix *w, int64_t row, int64_t col, int64_t rows,
                           int64_t cols, float *line, int64_t *ld)
{
    *ld = w->cols;
    if (direct(w)) return (const float *)w->data + row * w->cols + col;
    for (int64_t i = 0; i < rows; i++) expand(line + i * cols, w, row + i, col, cols);
    *ld = cols;
    return line;
}

int64_t linear_scratch(void) { return SCRATCH * (int64_t)sizeof(float); }

/* -------------------------------------------------- the large products */

/* C[n, cols] = alpha op(A)[n, depth] op(W) + beta C.  Forward: A = x, op(W) =
 * W^T, depth = W's columns.  Back: A = dy, op(W) = W, depth = W's rows.  For the
 * gradient of a weight: op(A) = dy^T, W = x. */
struct product {
    const struct compute *c;
    struct matrix w;
    float *out;
    const float *a;
    int64_t lda, n, cols, depth;
    int turned, transposed;          /* of A; of W */
    float alpha, beta;
    const struct tile *tile;
    struct tiles t;
    int64_t step, wide;              /* depth and columns of an expanded block */
};

static const float *a_at(const struct product *g, int64_t i, int64_t p)
{
    return g->a + (g->turned ? p * g->lda + i : i * g->lda + p);
}

static void product_tile(void *arg, int64_t task, int worker)
{
    const struct product *g = arg;
    int64_t i = task / g->t.across * g->t.rows, j = task % g->t.across * g->t.cols;
    int64_t rows = MIN(g->t.rows, g->n - i), cols = MIN(g->t.cols, g->cols - j);
    const float *w = (const float *)g->w.data + (g->transposed ? j * g->depth : j);
    (void)worker;
    g->c->blas->sgemm(g->turned, g->transposed, rows, cols, g->depth, g->alpha, a_at(g, i, 0),
                      g->lda, w, g->w.cols, g->beta, g->out + i * g->cols + j, g->cols);
}

/* --- stored weights */

/* op(W)'s rows [p, p + depth) and columns [j, j + cols) as strips of the tiles'
 * columns, one after another. */
static void expand_strips(const struct product *g, char *to, float *line, int64_t p,
                          int64_t depth, int64_t j, int64_t cols)
{
    const struct tile *t = g->tile;
    int64_t nr = t->nr, block = g->w.type->block, strip = nr * tile_deep(t, depth) * t->size;
    if (g->transposed) {
        for (int64_t s = 0; s < cols; s += nr, to += strip) {
            int64_t n = MIN(nr, cols - s), ld;
            const float *w = floats(&g->w, j + s, p, n, depth, line, &ld);
            t->turn(to, w, ld, n, depth);
        }
        return;
    }
    /* j is a multiple of the block; the end is rounded up to one. */
    int64_t whole = MIN(div_up(cols, block) * block, g->w.cols - j), ld;
    int64_t lines = MIN(LINES, MAX(LINE / whole / t->together, 1) * t->together);
    for (int64_t i = 0; i < depth; i += lines) {
        int64_t rows = MIN(lines, depth - i);
        const float *w = floats(&g->w, p + i, j, rows, whole, line, &ld);
        for (int64_t s = 0; s < cols; s += nr)
            t->put(to + s / nr * strip, i, w + s, ld, rows, MIN(nr, cols - s));
    }
    for (int64_t s = 0; s < cols; s += nr) tile_fill(t, to + s / nr * strip, depth);
}

static void stored_block(const struct product *g, float *scratch, int64_t i, int64_t rows,
                         int64_t j, int64_t cols)
{
    const struct tile *t = g->tile;
    char *a = (char *)scratch, *b = (char *)(scratch + ROWS * DEPTH);
    float *line = scratch + ROWS * DEPTH + STRIPS;
    for (int64_t p = 0; p < g->depth; p += g->step) {
        int64_t depth = MIN(g->step, g->depth - p), each = tile_deep(t, depth) * t->size;
        float beta = p ? 1.0f : g->beta;
        (g->turned ? t->pack_turned : t->pack)(a, a_at(g, i, p), g->lda, rows, depth);
        for (int64_t q = 0; q < cols; q += g->wide) {
            int64_t n = MIN(g->wide, cols - q);
            expand_strips(g, b, line, p, depth, j + q, n);
            for (int64_t s = 0; s < n; s += t->nr)
                for (int64_t r = 0; r < rows; r += t->mr)
                    t->sum(depth, a + r * each, b + s * each,
                           g->out + (i + r) * g->cols + j + q + s, g->cols,
                           MIN(t->mr, rows - r), MIN(t->nr, n - s), g->alpha, beta);
        }
    }
}

static void stored_tile(void *arg, int64_t task, int worker)
{
    const struct product *g = arg;
    int64_t i = task / g->t.across * g->t.rows, j = task % g->t.across * g->t.cols;
    int64_t end = MIN(i + g->t.rows, g->n), cols = MIN(g->t.cols, g->cols - j);
    if (g->tile->begin) g->tile->begin();
    for (; i < end; i += ROWS)
        stored_block(g, compute_scratch(g->c, worker), i, MIN(ROWS, end - i), j, cols);
    if (g->tile->end) g->tile->end();
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
    int64_t nr = g->tile->nr, block = g->w.type->block, deep = g->tile->deep;
    int64_t most_deep = DEPTH * 4 / g->tile->size, unit = multiple(deep, g->transposed ? block : 8);
    double work = (double)g->n * (double)g->cols * (double)g->depth, best = INFINITY;
    int64_t most = (int64_t)MIN(2.0 * pool_threads(g->c->pool), work / task_min + 1);
    g->wide = g->transposed ? nr : multiple(nr, block);
    g->step = g->transposed ? most_deep
                            : MIN(most_deep, STRIPS * 4 / g->tile->size / g->wide);
    g->step = MAX(g->step / unit, 1) * unit;
    g->step = even_out(g->depth, div_up(g->depth, g->step), unit);
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
    bool stored = (g->c->half || !direct(&g->w)) && g->depth > 0;
    g->tile = tile_of(g->c);
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
    struct product g = { .c = c, .w = *w, .out = y, .a = x, .lda = w->cols, .n = n,
                         .cols = w->rows, .depth = w->cols, .transposed = 1, .alpha = alpha,
                         .beta = beta };
    multiply(&g);
}

void linear_dx(const struct compute *c, float *dx, const float *dy, const struct matrix *w,
               int64_t n, float alpha, float beta)
{
    struct product g = { .c = c, .w = *w, .out = dx, .a = dy, .lda = w->rows, .n = n,
                         .cols = w->cols, .depth = w->rows, .alpha = alpha, .beta = beta };
    multiply(&g);
}

void linear_dw(const struct compute *c, float *dw, const float *dy, const float *x, int64_t n,
               int64_t out, int64_t in, float alpha)
{
    if (n <= 0) return;
    struct product g = { .c = c, .w = { &qtype_f32, x, n, in }, .out = dw, .a = dy, .lda = out,
                         .n = out, .cols = in, .depth = n, .turned = 1, .alpha = alpha,
                         .beta = 1 };
    multiply(&g);
}
