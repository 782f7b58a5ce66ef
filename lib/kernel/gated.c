/* The way back through x = act(gate) * up in front of a low-rank product: what forward made
 * while it packed x is made again a few rows at a time, for both gates' gradients and for
 * dA += dlow^T x.  A task owns some columns and takes the rows in order. */
#include "kernel/tile.h"
#include "kernel/kernel.h"

enum {
    GATED_ROWS = 64, GATED_COLS = 384,
    GATED_AHEAD = 8                       /* rows that are asked for before */
};

struct gated_job {
    const struct compute *c;
    const struct tile *tile;
    const struct gated *x;
    const struct gated_grads *g;
    int64_t n, cols, each, r;
};

/* Rows [row, row + rows) of columns [col, col + cols): y <- x, and the gates' gradients. */
static void gated_rows(const struct gated_job *j, float *y, int64_t row, int64_t rows, int64_t col,
                       int64_t cols)
{
    const struct kernels *k = j->c->k;
    const struct gated_grads *g = j->g;
    for (int64_t i = 0; i < rows; i++, y += cols) {
        int64_t at = (row + i) * j->cols + col;
        const float *gate = j->x->gate + at, *up = j->x->up + at;
        int64_t ahead = row + i + GATED_AHEAD < j->n ? at + GATED_AHEAD * j->cols : at;
        for (int64_t p = ahead; p < ahead + cols; p += 16) {
            __builtin_prefetch(j->x->gate + p, 0, 2);
            __builtin_prefetch(j->x->up + p, 0, 2);
            __builtin_prefetch(g->x + p, 1, 2);
            __builtin_prefetch(g->up + p, 1, 2);
        }
        k->glu_back(g->gate + at, g->up + at, y, g->x + at, gate, up, g->add_gate, g->add_up, cols,
                    j->x->kind);
    }
}

static void gated_task(void *arg, int64_t task, int worker)
{
    const struct gated_job *j = arg;
    const struct tile *t = j->tile;
    int64_t col = task * j->each, cols = MIN(j->each, j->cols - col), r = j->g->a ? j->r : 0;
    float *sum = compute_scratch(j->c, worker), *y = sum + j->r * cols;
    float *panels = y + GATED_ROWS * cols;
    memset(sum, 0, (size_t)(r * cols) * sizeof *sum);
    for (int64_t p = 0; p < j->n; p += GATED_ROWS) {
        int64_t depth = MIN(GATED_ROWS, j->n - p);
        gated_rows(j, y, p, depth, col, cols);
        if (r) t->pack_turned(panels, j->g->low + p * r, r, r, depth);
        for (int64_t s = 0; s < cols; s += t->nr)
            for (int64_t i = 0; i < r; i += t->mr)
                t->sum_rows(depth, panels + i * depth, y + s, cols, sum + i * cols + s, cols,
                            MIN(t->mr, r - i), MIN(t->nr, cols - s));
    }
    for (int64_t i = 0; i < r; i++)
        j->c->k->add(j->g->a + i * j->cols + col, j->g->a + i * j->cols + col, sum + i * cols,
                     cols);
}

void gated_backward(const struct compute *c, const struct gated *x, const struct gated_grads *g,
                    int64_t n, int64_t cols, int64_t r)
{
    int64_t tasks = 2 * pool_threads(c->pool);
    struct gated_job j = { .c = c, .tile = tile_float(c), .x = x, .g = g, .n = n, .cols = cols,
                           .r = r };
    j.each = MIN(div_up(div_up(cols, tasks), TILE_COLS) * TILE_COLS, GATED_COLS);
    pool_run(c->pool, div_up(cols, j.each), gated_task, &j);
}
