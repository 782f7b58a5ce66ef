/* Sharing rows out among the workers. */
#include "kernel/tile.h"
#include "kernel/kernel.h"

struct rows_job { range_fn *fn; void *arg; int64_t n, grain; };

static void rows_task(void *arg, int64_t task, int worker)
{
    const struct rows_job *j = arg;
    int64_t begin = task * j->grain;
    j->fn(j->arg, begin, MIN(begin + j->grain, j->n), worker);
}

bool compute_half(const struct compute *c) { return c->tile && c->tile->rounds; }

float *compute_scratch(const struct compute *c, int worker)
{
    return (float *)(void *)((char *)c->scratch + worker * c->scratch_each);
}

void compute_rows(const struct compute *c, int64_t n, int64_t grain, range_fn *fn, void *arg)
{
    struct rows_job j = {fn, arg, n, MAX(grain, 1)};
    if (n > 0) pool_run(c->pool, div_up(n, j.grain), rows_task, &j);
}
