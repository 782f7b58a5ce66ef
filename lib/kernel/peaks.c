/* The machine's own limits, by what the library's inner loops reach at their best. */
#include "kernel/kernel.h"
#include "kernel/tile.h"

enum { TRY_ROUNDS = 5, TRY_TASKS = 4, TRY_DEPTH = 192, TRY_SIDE = 512, TRY_ROWS = 64 };
static const double round_seconds = 0.03;

struct trial {
    const struct compute *c;
    const struct tile *tile;
    char *memory;
    int64_t repeat, tasks;
};

/* A tile of C again and again. */
static void try_tile(void *arg, int64_t task, int worker)
{
    const struct trial *t = arg;
    _Alignas(64) char a[TRY_ROWS * TRY_DEPTH * TILE_SIZE] = { 0 };
    _Alignas(64) char b[TILE_COLS * TRY_DEPTH * TILE_SIZE] = { 0 };
    float c[TRY_ROWS * TILE_COLS];
    const struct tile_part part = { .depth = TRY_DEPTH, .a = a, .b = b };
    (void)task;
    (void)worker;
    if (t->tile->begin) t->tile->begin();
    for (int64_t i = 0; i < t->repeat; i++)
        t->tile->sum(&part, 1, c, t->tile->nr, t->tile->mr, t->tile->nr, 1.0f, 0.0f, NULL);
    if (t->tile->end) t->tile->end();
}

/* The operands are everybody's, the result the worker's own. */
static void try_blas(void *arg, int64_t task, int worker)
{
    const struct trial *t = arg;
    const float *a = (const float *)(void *)t->memory, *b = a + TRY_SIDE * TRY_SIDE;
    float *c = (float *)(void *)t->memory + (worker + 2) * TRY_SIDE * TRY_SIDE;
    (void)task;
    for (int64_t i = 0; i < t->repeat; i++)
        t->c->blas->sgemm(0, 1, TRY_SIDE, TRY_SIDE, TRY_SIDE, 1.0f, a, TRY_SIDE, b, TRY_SIDE, 0.0f,
                          c, TRY_SIDE);
}

static void try_copy(void *arg, int64_t task, int worker)
{
    const struct trial *t = arg;
    int64_t half = PEAKS_MEMORY / 2, each = half / t->tasks;
    (void)worker;
    memcpy(t->memory + half + task * each, t->memory + task * each, (size_t)each);
}

/* Units a second of tasks that are `units` each, times the repetitions; `grow`: as many that
 * a round is long enough to be measured. */
static double best_rate(struct trial *t, pool_fn *fn, double units, int grow)
{
    double best = 0;
    t->repeat = 1;
    for (int i = 0; i < TRY_ROUNDS; i++) {
        double begin = os_seconds();
        pool_run(t->c->pool, t->tasks, fn, t);
        double took = MAX(os_seconds() - begin, 1e-9);
        best = MAX(best, units * (double)t->repeat * (double)t->tasks / took);
        if (!grow || took >= round_seconds / 2) continue;
        t->repeat = (int64_t)((double)t->repeat * MIN(round_seconds / took, 1000)) + 1;
        i = -1;
    }
    return best;
}

static double tile_rate(struct trial *t, const struct tile *tile)
{
    t->tile = tile;
    return best_rate(t, try_tile, 2.0 * tile->mr * tile->nr * TRY_DEPTH, 1);
}

void peaks_measure(const struct compute *c, const struct tile *full, const struct tile *half,
                   void *memory, struct peaks *out)
{
    struct trial t = { .c = c, .memory = memory, .tasks = TRY_TASKS * pool_threads(c->pool) };
    memset(memory, 0, PEAKS_MEMORY);
    out->tile = tile_rate(&t, full);
    out->half = half ? tile_rate(&t, half) : 0;
    out->blas = best_rate(&t, try_blas, 2.0 * TRY_SIDE * TRY_SIDE * TRY_SIDE, 1);
    out->copy = best_rate(&t, try_copy, (double)PEAKS_MEMORY / (double)t.tasks, 0);
}
