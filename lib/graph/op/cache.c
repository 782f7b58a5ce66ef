/* Puts x into a cache of the caller's: cache[at[i]] = x[i]; the value is the
 * whole cache, of which attention reads what its ranges tell, so that a graph
 * keeps its shape from token to token.  Inference only.
 * x [N, D], cache [rows, D]. */
#include "graph/op.h"

struct cache_args { float *cache; const int32_t *at; int64_t rows; };

static int shape_cache(struct tensor *t, struct graph *g)
{
    const struct cache_args *a = t->args;
    (void)g;
    if (!a->cache) return fail(PEFT_EARG, "no cache");
    t->rows = a->rows;
    t->cols = t->in[0]->cols;
    t->external = 1;
    t->x = a->cache;
    return op_index(a->at, t->in[0]->rows, a->rows, "row");
}

static void forward_cache(const struct tensor *t, const struct run *r)
{
    const struct cache_args *a = t->args;
    const struct tensor *x = t->in[0];
    for (int64_t i = 0, n; i < x->rows; i += n) {
        for (n = 1; i + n < x->rows && a->at[i + n] == a->at[i] + n;) n++;
        op_axpy(r, a->cache + a->at[i] * t->cols, tensor_f32(x) + i * t->cols, 1.0f, 0,
                n * t->cols);
    }
}

const struct op op_cache = {
    .name = "cache",
    .shape = shape_cache,
    .forward = forward_cache,
};

tensor *g_cache(graph *g, tensor *x, float *cache, const int32_t *at, int64_t rows)
{
    return graph_node(g, &op_cache, (tensor *[]){ x }, 1, 0,
                      &(struct cache_args){ cache, at, rows }, sizeof(struct cache_args));
}
