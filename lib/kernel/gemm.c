/* Linear layers: products of activations with a weight of any stored type, by
 * register tiles (tile.h).
 *
 * The activations are packed once into panels that all workers share, a block of
 * rows and of the depth at a time; of products that follow each other with the same
 * x (q, k and v) only the first one packs it.  Then every task expands its own columns of the
 * weight straight into the order that the tiles want and runs over the panels.  A
 * low-rank term (LoRA) has the same panels: its narrow product comes first, and
 * what follows rides along with the last block of the depth, while a tile of the
 * result is at hand.
 *
 * Every element is summed in the order of the depth, in blocks that depend on
 * neither the number of rows nor that of threads.
 *
 * Processors for which there are only the plain tiles leave float32 to BLAS. */
#include "kernel/decode.h"
#include "kernel/level.h"
#include "kernel/tile.h"

#include <math.h>

enum {
    TASKS = 8,                       /* for products by BLAS of ordinary size */
    /* These bound the panels and a worker's scratch, in floats where not said. */
    ROWS = 1024,                     /* of a block of panels */
    PANELS = ROWS * 1024,            /* its rows times its depth */
    WIDE = 96, WIDEST = 288,         /* columns of a task, and whole blocks of the type */
    MOST_WIDE = WIDEST + TILE_COLS,  /* in whole strips */
    STRIPS = MOST_WIDE * 768,        /* they expanded */
    LINE = TILE_COLS * 1536,         /* what lies between */
    BLOCKS = 8,                      /* of the depth, at most, that they are of */
    SPLIT_ROWS = 256,                /* with fewer, a task would expand too much for too little */
    NEAR = 5 << 18,                  /* bytes of panels that the second cache holds */
    PAST = 1 << 17,                  /* numbers of a result that leaves the caches before it is */
    PAST_BACK = 1 << 20,             /* read; most gradients are soon added to */
    SUM_ROWS = 128,                  /* that go through them; whole panels of all tiles */
    NARROW = 32,                     /* rows at a time of a narrow product; whole panels */
    NARROW_COLS = 96,                /* of it, which tiles of all kinds divide */
    LINES = 32,                      /* at most, and an even number */
    PACK_ROWS = 64,                  /* of a task that packs; whole panels of all tiles */
    SIDE_STRIPS = MOST_WIDE * LOW_RANK * TILE_SIZE / 4,
    HEADING = 64,                    /* bytes: struct heading */
    SCRATCH = STRIPS + LINE + SIDE_STRIPS + 64
};
_Static_assert((int)FEW_SCRATCH <= (int)SCRATCH, "scratch is shared with decode.c");
/* Multiplications of a task: enough to pay for waking a thread, and few enough
 * that threads finish at about the same time. */
static const double task_min = 1 << 20, task_max = 1 << 28;

const struct tile *tile_float(const struct compute *c)
{
#if defined(__x86_64__) || defined(__i386__)
    const struct level *l = level_of(c->k);
    if (l == level_avx512) return &tile_avx512;
    if (l == level_avx2) return &tile_avx2;
#elif defined(__aarch64__)
    if (level_of(c->k) == level_neon) return &tile_neon;
#endif
    return &tile_c;
}

const struct tile *tile_of(const struct compute *c)
{
    return c->tile ? c->tile : tile_float(c);
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

const struct tile *tile_full(enum cpu_level level)
{
#ifdef __x86_64__
    if (level == CPU_AVX512 && tile_split.sum && cpu_has_unit(UNIT_AMX)) return &tile_split;
#endif
    (void)level;
    return NULL;
}

static int64_t even_out(int64_t n, int64_t pieces, int64_t unit)
{
    int64_t each = div_up(n, MAX(pieces, 1));
    return div_up(each, unit) * unit;
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
    if (has_floats(w)) return (const float *)w->data + row * w->cols + col;
    for (int64_t i = 0; i < rows; i++) expand(line + i * cols, w, row + i, col, cols);
    *ld = cols;
    return line;
}

/* What is read next, into the second cache.  Inline, since gcc takes a function that does
 * nothing else for one without effect. */
static inline __attribute__((always_inline)) void ask_rows(const float *x, int64_t ld,
                                                           int64_t rows, int64_t cols)
{
    for (; rows > 0; rows--, x += ld)
        for (int64_t s = 0; s < cols; s += 16) __builtin_prefetch(x + s, 0, 2);
}

int64_t linear_scratch(void) { return SCRATCH * (int64_t)sizeof(float); }

/* A few rows and a little depth more than there are, and a low-rank term's. */
int64_t linear_panels(int64_t n, int64_t in, int64_t out)
{
    int64_t rows = MIN(n, PANELS) + PACK_ROWS, depth = MIN(MAX(in, out), PANELS) + PACK_ROWS;
    int64_t most = MIN(rows * depth, PANELS) + MIN(rows, ROWS) * LOW_RANK;
    return MAX(most * TILE_SIZE + HEADING, PANELS_MIN);
}

/* --------------------------------------------------- products by tiles */

/* op(A)[n, depth] and the matrix op(W) that it meets.  Forward: A = x, op(W) =
 * W^T, depth = W's columns.  Back: A = dy, op(W) = W, depth = W's rows.  For the
 * gradient of a weight: op(A) = dy^T, W = x. */
struct term {
    const float *a, *up;             /* up: op(A) is act(a) * up */
    int64_t lda, depth;
    enum act act;
    struct matrix w;
    int turned, transposed;          /* of A; of W */
    int64_t step;                    /* depth of a block that is expanded at once */
    char *panels;                    /* by blocks, each with all rows of the product */
};

/* C[n, cols] = beta C + alpha times the sum of op(A) op(W).  A second term has one block. */
struct product {
    const struct compute *c;
    float *out;
    int64_t n, cols;
    float alpha, beta;
    struct term term[2];
    int terms;
    const struct tile *tile;
    int64_t row, from, depth;        /* the part at work: n rows, the first term's depth */
    int64_t rows, wide, down;        /* of a task; tasks in a column */
    int64_t blocks;                  /* expanded at once */
    const struct thin_product *thin; /* of the first term's A besides, or NULL */
};

/* Bytes of the panels of n rows over a depth. */
static int64_t panel_bytes(const struct tile *t, int64_t n, int64_t depth)
{
    return div_up(n, t->mr) * t->mr * tile_deep(t, depth) * t->size;
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

/* No deeper than that a task's columns, expanded, have room. */
static int64_t step_of(const struct tile *tile, const struct term *t)
{
    int64_t unit = multiple(tile->deep, t->transposed ? t->w.type->block : 8);
    int64_t most = MIN(tile->block, STRIPS * 4 / (WIDEST * tile->size));
    most = MAX(most / unit, 1) * unit;
    return even_out(t->depth, div_up(t->depth, most), unit);
}

/* What does not pay for waking a thread is done at once. */
static void run_tasks(const struct compute *c, double work, int64_t tasks, pool_fn *fn, void *arg)
{
    if (work >= task_min) pool_run(c->pool, tasks, fn, arg);
    else for (int64_t i = 0; i < tasks; i++) fn(arg, i, 0);
}

/* Columns of a task, a multiple of `unit`: as many as leave all threads the same share. */
static int64_t width(const struct compute *c, int64_t cols, int64_t unit, int64_t widest)
{
    int64_t threads = pool_threads(c->pool), best = div_up(WIDE, unit) * unit, share = INT64_MAX;
    for (int64_t wide = best, step = best; wide <= widest; wide += step) {
        int64_t most = div_up(div_up(cols, wide), threads) * wide;
        if (most > share) continue;
        best = wide;
        share = most;
    }
    return best;
}

/* --- panels */

/* Those of act(a) * up, made in whole rows, as many numbers of them as have room. */
static void gated_panels(const struct product *g, int64_t i, int64_t rows, float *y)
{
    const struct term *t = &g->term[0];
    int64_t most = SCRATCH / PACK_ROWS / t->step * t->step;
    for (int64_t q = 0, wide; q < g->depth; q += wide) {
        wide = MIN(most, g->depth - q);
        for (int64_t k = 0; k < rows; k++) {
            int64_t at = (g->row + i + k) * t->lda + g->from + q;
            g->c->k->glu(y + k * wide, t->a + at, t->up + at, wide, t->act);
        }
        for (int64_t p = q; p < q + wide; p += t->step) {
            int64_t depth = MIN(t->step, g->depth - p);
            char *to = t->panels + panel_bytes(g->tile, g->n, p) + panel_bytes(g->tile, i, depth);
            g->tile->pack(to, y + p - q, wide, rows, depth);
        }
    }
}

static void panel_task(void *arg, int64_t task, int worker)
{
    const struct product *g = arg;
    const struct term *t = &g->term[g->terms - 1];
    int64_t i = task * PACK_ROWS, rows = MIN(PACK_ROWS, g->n - i);
    int64_t from = g->terms == 1 ? g->from : 0, all = g->terms == 1 ? g->depth : t->depth;
    if (t->up) {
        gated_panels(g, i, rows, compute_scratch(g->c, worker));
        return;
    }
    for (int64_t p = 0; p < all; p += t->step) {
        int64_t depth = MIN(t->step, all - p), row = g->row + i, ld = t->lda;
        const float *a = t->a + (t->turned ? (from + p) * ld + row : row * ld + from + p);
        char *to = t->panels + panel_bytes(g->tile, g->n, p) + panel_bytes(g->tile, i, depth);
        (t->turned ? g->tile->pack_turned : g->tile->pack)(to, a, ld, rows, depth);
    }
}

/* Columns [p, p + depth) of the first term's panels, of some rows: whole panels, and columns
 * that share a word. */
static void panel_columns(const struct product *g, int64_t i, int64_t rows, int64_t p,
                          int64_t depth)
{
    const struct term *t = &g->term[0];
    int64_t mr = g->tile->mr, end = p + depth;
    for (int64_t block; p < end; p = block + t->step) {
        block = p / t->step * t->step;
        int64_t n = MIN(block + t->step, end) - p, whole = MIN(t->step, g->depth - block);
        char *to = t->panels + panel_bytes(g->tile, g->n, block) + (p - block) * mr * g->tile->size;
        for (int64_t r = i; r < i + rows; r += mr)
            g->tile->pack(to + panel_bytes(g->tile, r, whole),
                          t->a + (g->row + r) * t->lda + g->from + p, t->lda,
                          MIN(mr, i + rows - r), n);
    }
}

/* --- narrow products */

/* C[r, cols] += alpha thin^T wide over n rows, or C^T, of some thin operands; r is small.  The
 * wide one is read where it is and once, so this is in float32 always.  Where it is the A of
 * a product besides, its panels are made meanwhile. */
struct thin_product {
    const struct compute *c;
    const struct tile *tile;
    struct thin thin[THINS];
    int thins, flipped;
    const float *wide;
    int64_t n, cols, ld, each;       /* ld: of wide and of C; each: columns of a task */
    float alpha;
    const struct product *product;
};

/* Rows of the sums of one of them: whole panels. */
static int64_t sum_rows(const struct thin_product *g, int k)
{
    return div_up(g->thin[k].r, g->tile->mr) * g->tile->mr;
}

static void narrow_rows(const struct thin_product *g, float *sum, float *panels, int64_t i,
                        int64_t rows, int64_t j, int64_t cols)
{
    const struct tile *t = g->tile;
    const float *b = g->wide + i * g->ld + j;
    int64_t all = 0;
    for (int k = 0; k < g->thins; all += sum_rows(g, k++)) {
        const struct thin *o = &g->thin[k];
        t->pack_turned(panels + all * rows, o->dy + i * o->r, o->r, o->r, rows);
    }
    for (int64_t k = 0; k < all * rows && g->alpha != 1; k++) panels[k] *= g->alpha;
    for (int64_t s = 0; s < cols; s += t->nr) {
        int64_t wide = MIN(t->nr, cols - s);
        ask_rows(b + rows * g->ld + s, g->ld, MIN(NARROW, g->n - i - rows), wide);
        for (int64_t r = 0; r < all; r += t->mr)
            t->sum_rows(rows, panels + r * rows, b + s, g->ld, sum + r * cols + s, cols, t->mr,
                        wide);
    }
}

/* C's columns [j, j + cols) are taken, or brought back. */
static void narrow_sums(const struct thin_product *g, float *sum, int64_t j, int64_t cols,
                        bool back)
{
    for (int k = 0; k < g->thins; sum += sum_rows(g, k++) * cols) {
        int64_t n = g->thin[k].r;
        float *c = g->thin[k].dw + (g->flipped ? j * n : j);
        for (int64_t r = 0; r < n && !g->flipped; r++)
            memcpy(back ? c + r * g->ld : sum + r * cols, back ? sum + r * cols : c + r * g->ld,
                   (size_t)cols * sizeof *c);
        for (int64_t s = 0; s < cols && g->flipped; s++, c += n)
            for (int64_t r = 0; r < n; r++)
                if (back) c[r] = sum[r * cols + s];
                else sum[r * cols + s] = c[r];
    }
}

/* The sums begin with C, so that they are the same in however many parts the rows come. */
static void narrow_task(void *arg, int64_t task, int worker)
{
    const struct thin_product *g = arg;
    int64_t j = task * g->each, cols = MIN(g->each, g->cols - j);
    float *sum = compute_scratch(g->c, worker), *panels = sum + STRIPS;
    narrow_sums(g, sum, j, cols, false);
    for (int64_t i = 0; i < g->n; i += NARROW) {
        if (g->product) panel_columns(g->product, i, MIN(NARROW, g->n - i), j, cols);
        narrow_rows(g, sum, panels, i, MIN(NARROW, g->n - i), j, cols);
    }
    narrow_sums(g, sum, j, cols, true);
}

static void narrow_product(struct thin_product *g)
{
    int64_t r = 0;
    g->tile = tile_float(g->c);
    for (int k = 0; k < g->thins; k++) r += sum_rows(g, k);
    g->each = MIN(width(g->c, g->cols, NARROW_COLS, WIDEST),
                  STRIPS / r / NARROW_COLS * NARROW_COLS);
    double work = (double)g->n * (double)(r + (g->product ? 16 : 0)) * (double)g->cols;
    run_tasks(g->c, work, div_up(g->cols, g->each), narrow_task, g);
}

/* Of the last term, and for the first of the part at work. */
static void make_panels(struct product *g)
{
    const struct term *t = &g->term[0];
    double work = 16.0 * (double)g->n * (double)(g->terms == 1 ? g->depth : g->term[1].depth);
    if (g->terms > 1 || !g->thin) {
        run_tasks(g->c, work, div_up(g->n, PACK_ROWS), panel_task, g);
        return;
    }
    struct thin_product part = *g->thin;
    part.product = g;
    part.wide += g->row * t->lda + g->from;
    part.thin[0].dy += g->row * part.thin[0].r;
    part.thin[0].dw += g->from * (part.flipped ? part.thin[0].r : 1);
    part.n = g->n;
    part.cols = g->depth;
    narrow_product(&part);
}

/* --- strips */

/* op(W)'s rows [p, p + depth) and columns [j, j + cols) as strips of the tiles'
 * columns, one after another. */
static void expand_strips(const struct tile *tile, const struct term *t, char *to, float *line,
                          int64_t p, int64_t depth, int64_t j, int64_t cols)
{
    int64_t nr = tile->nr, block = t->w.type->block;
    int64_t strip = nr * tile_deep(tile, depth) * tile->size;
    if (t->transposed) {
        for (int64_t s = 0; s < cols; s += nr, to += strip) {
            int64_t n = MIN(nr, cols - s), ld;
            const float *w = floats(&t->w, j + s, p, n, depth, line, &ld);
            tile->turn(to, w, ld, n, depth);
        }
        return;
    }
    /* j is a multiple of the block; the end is rounded up to one. */
    int64_t whole = MIN(div_up(cols, block) * block, t->w.cols - j), ld;
    int64_t lines = MIN(LINES, MAX(LINE / whole / tile->together, 1) * tile->together);
    for (int64_t i = 0; i < depth; i += lines) {
        int64_t rows = MIN(lines, depth - i);
        const float *w = floats(&t->w, p + i, j, rows, whole, line, &ld);
        if (has_floats(&t->w)) ask_rows(w + rows * ld, ld, MIN(lines, depth - i - rows), cols);
        for (int64_t s = 0; s < cols; s += nr)
            tile->put(to + s / nr * strip, i, w + s, ld, rows, MIN(nr, cols - s));
    }
    for (int64_t s = 0; s < cols; s += nr) tile_fill(tile, to + s / nr * strip, depth);
}

/* Blocks of the depth: the panels of all rows, and the strips of a task. */
struct block { const char *panels, *strips; int64_t depth, each; };

/* Block p of term k, whose strips are expanded to `strips`; returns their end. */
static char *block_of(const struct product *g, int k, int64_t p, char *strips, float *line,
                      int64_t j, int64_t cols, struct block *b)
{
    const struct term *t = &g->term[k];
    int64_t depth = MIN(t->step, (k ? t->depth : g->depth) - p);
    expand_strips(g->tile, t, strips, line, (k ? 0 : g->from) + p, depth, j, cols);
    *b = (struct block){ t->panels + panel_bytes(g->tile, g->n, p), strips, depth,
                         tile_deep(g->tile, depth) * g->tile->size };
    return strips + div_up(cols, g->tile->nr) * g->tile->nr * b->each;
}

/* Where a task's part of C lies, and the rows of it at work. */
struct corner { float *c; int64_t ld, row, rows, cols; };

/* One block, or two at once. */
static void sum_blocks(const struct tile *t, const struct block *b, int n, const struct corner *at,
                       float alpha, float beta, struct tile_past *past)
{
    struct tile_part part[2];
    for (int64_t s = 0; s < at->cols; s += t->nr)
        for (int64_t r = 0; r < at->rows; r += t->mr) {
            for (int k = 0; k < n; k++)
                part[k] = (struct tile_part){ .depth = b[k].depth,
                                              .a = b[k].panels + (at->row + r) * b[k].each,
                                              .b = b[k].strips + s * b[k].each };
            t->sum(part, n, at->c + r * at->ld + s, at->ld, MIN(t->mr, at->rows - r),
                   MIN(t->nr, at->cols - s), alpha, beta, past);
        }
}

/* Few rows at a time go through all blocks, so that C stays in the cache. */
static void product_task(void *arg, int64_t task, int worker)
{
    const struct product *g = arg;
    const struct tile *t = g->tile;
    int64_t i = task % g->down * g->rows, j = task / g->down * g->wide, step = g->term[0].step;
    int64_t end = MIN(i + g->rows, g->n), cols = MIN(g->wide, g->cols - j);
    float *scratch = compute_scratch(g->c, worker), *line = scratch + STRIPS, *more = line + LINE;
    float *to = g->out + (g->row + i) * g->cols + j, beta = g->from ? 1.0f : g->beta;
    int64_t most = g->blocks * step;
    bool leaves = g->depth <= step && beta == 0 &&
                  g->n * g->cols >= (g->term[0].transposed ? PAST : PAST_BACK);
    struct tile_past past;
    struct block b[BLOCKS + 1];
    past.at = past.rows = 0;
    if (t->begin) t->begin();
    for (int64_t p = 0; p < g->depth; p += most, beta = 1.0f) {
        char *strips = (char *)scratch;
        int n = 0, side = g->terms > 1 && p + most >= g->depth;
        for (int64_t q = p; q < MIN(p + most, g->depth); q += step)
            strips = block_of(g, 0, q, strips, line, j, cols, &b[n++]);
        if (side) block_of(g, 1, 0, (char *)more, line, j, cols, &b[n]);
        for (int64_t r = i; r < end; r += SUM_ROWS) {
            const struct corner at = { to + (r - i) * g->cols, g->cols, r,
                                       MIN(SUM_ROWS, end - r), cols };
            for (int k = 0; k < n; k++)
                sum_blocks(t, &b[k], 1 + (side && k == n - 1), &at, g->alpha, k ? 1.0f : beta,
                           leaves ? &past : NULL);
        }
    }
    tile_past_end(&past);
    if (t->end) t->end();
}

/* The part at work.  Columns that are expanded by one task only cost least, but there
 * should be tasks for all threads; many small ones where the panels are near. */
static void run_part(struct product *g)
{
    int64_t threads = pool_threads(g->c->pool);
    bool near = panel_bytes(g->tile, g->n, g->depth) <= NEAR;
    g->wide = width(g->c, g->cols, g->term[0].transposed ? 1 : g->term[0].w.type->block,
                    near ? WIDE : WIDEST);
    int64_t across = div_up(g->cols, g->wide);
    int64_t more = MIN(div_up(2 * threads, across), g->n / SPLIT_ROWS);
    g->down = threads > 1 ? MAX(div_up(threads, across), more) : 1;
    g->rows = even_out(g->n, g->down, g->tile->mr);
    g->down = div_up(g->n, g->rows);
    int64_t columns = div_up(MIN(g->wide, g->cols), g->tile->nr) * g->tile->nr;
    int64_t strips = columns * tile_deep(g->tile, g->term[0].step) * g->tile->size;
    g->blocks = MIN(MAX(STRIPS * 4 / strips, 1), BLOCKS);
    double work = (double)g->n * (double)g->cols * (double)g->depth;
    run_tasks(g->c, work, g->down * across, product_task, g);
}

/* Rows and blocks of the depth that the panels have room for, besides a second term's. */
static int64_t panel_room(const struct product *g, int64_t *blocks)
{
    int64_t rows = MIN(g->n, ROWS), more = g->term[1].depth, step = g->term[0].step, each;
    int64_t room = g->c->panels_bytes - HEADING;
    while (each = panel_bytes(g->tile, rows, step),
           each + panel_bytes(g->tile, rows, more) > room && rows > g->tile->mr)
        rows = div_up(rows / 2, g->tile->mr) * g->tile->mr;
    *blocks = MAX((room - panel_bytes(g->tile, rows, more)) / each, 1);
    return rows;
}

/* What the panels behind it hold: the whole of a product's A as it is, or nothing (NULL). */
struct heading { const float *a; const struct tile *tile; int64_t n, depth, step; };
_Static_assert(sizeof(struct heading) <= HEADING, "lies before the panels");

static bool panels_are_there(const struct product *g, int64_t rows, int64_t blocks)
{
    const struct term *t = &g->term[0];
    struct heading *held = (struct heading *)(void *)g->c->panels, now;
    bool whole = rows >= g->n && blocks * t->step >= t->depth && !t->up && !t->turned;
    now = (struct heading){ whole ? t->a : NULL, g->tile, g->n, t->depth, t->step };
    bool same = whole && g->c->again && !memcmp(held, &now, sizeof now);
    *held = now;
    return same;
}

/* With `low` the narrow product of the same A, whose result is the second term's A. */
static void by_tiles(struct product *g, struct product *low)
{
    int64_t n = g->n, depth = g->term[0].depth, blocks;
    for (int k = 0; k < 2; k++) g->term[k].step = step_of(g->tile, &g->term[k]);
    int64_t most = panel_room(g, &blocks), step = g->term[0].step;
    bool packed = panels_are_there(g, most, blocks);
    g->term[0].panels = (char *)g->c->panels + HEADING;
    g->term[1].panels = g->term[0].panels + panel_bytes(g->tile, most, step) * blocks;
    for (g->row = 0; g->row < n; g->row += most) {
        g->n = MIN(most, n - g->row);
        for (g->from = 0; g->from < depth; g->from += g->depth) {
            g->depth = MIN(blocks * step, depth - g->from);
            g->terms = 1;
            if (!packed) make_panels(g);
            if (low) {
                low->row = g->row, low->n = g->n, low->from = g->from, low->depth = g->depth;
                low->term[0].step = step;
                low->term[0].panels = g->term[0].panels;
                run_part(low);
            }
            if (low && g->from + g->depth == depth) {
                g->terms = 2;
                make_panels(g);
            }
            run_part(g);
        }
    }
}

/* ------------------------------------------------------ products by BLAS */

struct tiles { int64_t rows, cols, down, across; };

/* BLAS copies both operands of every call into its own order; that costs about as
 * much as 16 rows or columns of a tile, so tiles are few and as square as the
 * shape allows.  Their cut depends on the shape alone. */
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

struct blas_product { const struct product *g; struct tiles t; };

static void blas_task(void *arg, int64_t task, int worker)
{
    const struct blas_product *b = arg;
    const struct product *g = b->g;
    const struct term *t = &g->term[0];
    int64_t i = task / b->t.across * b->t.rows, j = task % b->t.across * b->t.cols;
    int64_t rows = MIN(b->t.rows, g->n - i), cols = MIN(b->t.cols, g->cols - j);
    const float *w = (const float *)t->w.data + (t->transposed ? j * t->depth : j);
    (void)worker;
    g->c->blas->sgemm(t->turned, t->transposed, rows, cols, t->depth, g->alpha,
                      t->a + i * (t->turned ? 1 : t->lda), t->lda, w, t->w.cols, g->beta,
                      g->out + i * g->cols + j, g->cols);
}

static void by_blas(const struct product *g)
{
    struct blas_product b = { g, cut(g->n, g->cols, g->term[0].depth) };
    if (g->c->panels) memset(g->c->panels, 0, HEADING);
    pool_run(g->c->pool, b.t.down * b.t.across, blas_task, &b);
}

static bool by_blas_is_better(const struct product *g)
{
    return g->tile == &tile_c && has_floats(&g->term[0].w) && g->c->blas->lib;
}

static void multiply(struct product *g)
{
    const struct term *t = &g->term[0];
    if (g->n <= 0 || g->cols <= 0) return;
    g->tile = tile_of(g->c);
    if (by_blas_is_better(g) || t->depth <= 0) by_blas(g);
    else by_tiles(g, NULL);
}

/* ------------------------------------------------------------- the doors */

static struct term forward_term(const float *x, const struct matrix *w)
{
    return (struct term){ .a = x, .lda = w->cols, .depth = w->cols, .w = *w, .transposed = 1 };
}

static struct term back_term(const float *dy, const struct matrix *w)
{
    return (struct term){ .a = dy, .lda = w->rows, .depth = w->rows, .w = *w };
}

void linear_forward(const struct compute *c, float *y, const float *x, const struct matrix *w,
                    int64_t n, float alpha, float beta)
{
    if (n <= few_rows(c)) {
        linear_few(c, y, x, w, n, alpha, beta);
        return;
    }
    struct product g = { .c = c, .out = y, .n = n, .cols = w->rows, .alpha = alpha, .beta = beta,
                         .term = { forward_term(x, w) } };
    multiply(&g);
}

void linear_dx(const struct compute *c, float *dx, const float *dy, const struct matrix *w,
               int64_t n, float alpha, float beta)
{
    struct product g = { .c = c, .out = dx, .n = n, .cols = w->cols, .alpha = alpha, .beta = beta,
                         .term = { back_term(dy, w) } };
    multiply(&g);
}

/* The same product the thinner way round. */
static struct thin_product thin_dw(const struct compute *c, float *dw, const float *dy,
                                   const float *x, int64_t n, int64_t out, int64_t in, float alpha)
{
    bool flipped = in < out;
    return (struct thin_product){
        .c = c, .thin = { { dw, flipped ? x : dy, MIN(in, out) } }, .thins = 1, .alpha = alpha,
        .wide = flipped ? dy : x, .n = n, .cols = MAX(in, out), .ld = MAX(in, out),
        .flipped = flipped };
}

static bool is_thin(const struct compute *c, int64_t r)
{
    return r <= LOW_RANK && tile_of(c) != &tile_c;
}

void linear_dw(const struct compute *c, float *dw, const float *dy, const float *x, int64_t n,
               int64_t out, int64_t in, float alpha)
{
    if (n <= 0) return;
    struct product g = { .c = c, .out = dw, .n = out, .cols = in, .alpha = alpha, .beta = 1,
                         .term = { { .a = dy, .lda = out, .depth = n, .turned = 1,
                                     .w = { &qtype_f32, x, n, in } } } };
    struct thin_product s = thin_dw(c, dw, dy, x, n, out, in, alpha);
    if (is_thin(c, s.thin[0].r)) narrow_product(&s);
    else multiply(&g);
}

void thin_dws(const struct compute *c, const struct thin *t, int thins, const float *x, int64_t n,
              int64_t in)
{
    struct thin_product s = { .c = c, .alpha = 1, .wide = x, .n = n, .cols = in, .ld = in };
    bool alone[THINS];
    for (int k = 0; k < thins; k++) {
        alone[k] = !is_thin(c, t[k].r) || t[k].r > in;
        for (int i = 0; i < s.thins; i++) alone[k] |= s.thin[i].dw == t[k].dw;
        if (!alone[k]) s.thin[s.thins++] = t[k];
    }
    if (s.thins && n > 0) narrow_product(&s);
    for (int k = 0; k < thins; k++)
        if (alone[k]) linear_dw(c, t[k].dw, t[k].dy, x, n, t[k].r, in, 1.0f);
}

/* g's product, and low = s a op(first), of which low op(after) is added to it; whether that
 * was one pass. */
static bool with_low(struct product *g, float *low, const struct matrix *first,
                     const struct matrix *after, float s)
{
    bool forward = g->term[0].transposed;
    const float *a = g->term[0].a;
    int64_t rank = forward ? first->rows : first->cols;
    struct product down = { .c = g->c, .out = low, .n = g->n, .cols = rank, .alpha = s };
    down.term[0] = forward ? forward_term(a, first) : back_term(a, first);
    g->term[1] = forward ? forward_term(low, after) : back_term(low, after);
    down.tile = g->tile = tile_of(g->c);
    if (rank <= LOW_RANK && has_floats(first) && has_floats(after) && !by_blas_is_better(g)) {
        by_tiles(g, &down);
        return true;
    }
    g->thin = NULL;
    multiply(g);
    multiply(&down);
    g->term[0] = g->term[1];
    g->beta = 1;
    multiply(g);
    return false;
}

void low_rank_forward(const struct compute *c, float *y, float *low, const float *x,
                      const struct matrix *w, const struct matrix *a, const struct matrix *b,
                      int64_t n, float s)
{
    if (n <= few_rows(c)) {
        linear_forward(c, y, x, w, n, 1.0f, 0.0f);
        linear_forward(c, low, x, a, n, s, 0.0f);
        linear_forward(c, y, low, b, n, 1.0f, 1.0f);
        return;
    }
    struct product g = { .c = c, .out = y, .n = n, .cols = w->rows, .alpha = 1,
                         .term = { forward_term(x, w) } };
    with_low(&g, low, a, b, s);
}

int low_rank_gated(const struct compute *c, int64_t r)
{
    return is_thin(c, r);
}

void gated_forward(const struct compute *c, float *y, float *low, const struct gated *x,
                   const struct matrix *w, const struct matrix *a, const struct matrix *b,
                   int64_t n, float s)
{
    struct product g = { .c = c, .out = y, .n = n, .cols = w->rows, .alpha = 1,
                         .term = { forward_term(x->gate, w) } };
    g.term[0].up = x->up;
    g.term[0].act = x->kind;
    with_low(&g, low, a, b, s);
}

void low_rank_dx(const struct compute *c, float *dx, float *dlow, const float *dy,
                 const struct matrix *w, const struct matrix *a, const struct matrix *b,
                 int64_t n, float s, float beta, float *db, const float *low)
{
    struct product g = { .c = c, .out = dx, .n = n, .cols = w->cols, .alpha = 1, .beta = beta,
                         .term = { back_term(dy, w) } };
    struct thin_product thin = thin_dw(c, db, dy, low, n, b->rows, b->cols, 1.0f);
    if (db && thin.flipped) g.thin = &thin;
    bool done = with_low(&g, dlow, b, a, s) && g.thin;
    if (db && !done) linear_dw(c, db, dy, low, n, b->rows, b->cols, 1.0f);
}
