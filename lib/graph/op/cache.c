/* Appends x to a cache of the caller's: cache[at + i] = x[i]; the value is the
 * rows [0, at + N) of the cache.  Inference only.
 * x [N, D], cache [cap, D], y [at + N, D]. */
#include "graph/op.h"

struct cache_args { float *cache; int64_t at; };

static int shape_cache(struct tensor *t, struct graph *g)
{
    const struct cache_args *a = t->args;
    (void)g;
    if (!a->cache || a->at < 0 || !add_ok(a->at, t->in[0]->rows, &t->rows))
        return fail(PEFT_EARG, "row %lld of %s cache", (long long)a->at, a->cache ? "the" : "no");
    t->cols = t->in[0]->cols;
    t->external = 1;
    t->x = a->cache;
    return PEFT_OK;
}

static void forward_cache(const struct tensor *t, const struct run *r)
{
    const struct cache_args *a = t->args;
    op_axpy(r, a->cache + a->at * t->cols, t->in[0]->x, 1.0f, 0, tensor_len(t->in[0]));
}

const struct op op_cache = {
    .name = "cache",
    .shape = shape_cache,
    .forward = forward_cache,
};

tensor *g_cache(graph *g, tensor *x, float *cache, int64_t at)
{
    return graph_node(g, &op_cache, (tensor *[]){ x }, 1, 0, &(struct cache_args){ cache, at },
                      sizeof(struct cache_args));
}
