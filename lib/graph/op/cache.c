/* Puts x into a cache of the caller's: cache[at + i * stride] = x[i]; the value
 * is the rows [0, at + (N - 1) * stride + 1) of the cache.  Stride 1 appends,
 * another gives each row to a cache of its own.  Inference only.
 * x [N, D], cache [cap, D]. */
#include "graph/op.h"

struct cache_args { float *cache; int64_t at, stride; };

static int shape_cache(struct tensor *t, struct graph *g)
{
    const struct cache_args *a = t->args;
    int64_t span;
    (void)g;
    if (!a->cache || a->at < 0 || a->stride < 1 || t->in[0]->rows < 1 ||
        !mul_ok(t->in[0]->rows - 1, a->stride, &span) || !add_ok(a->at, span + 1, &t->rows))
        return fail(PEFT_EARG, "row %lld of %s cache", (long long)a->at, a->cache ? "the" : "no");
    t->cols = t->in[0]->cols;
    t->external = 1;
    t->x = a->cache;
    return PEFT_OK;
}

static void forward_cache(const struct tensor *t, const struct run *r)
{
    const struct cache_args *a = t->args;
    const struct tensor *x = t->in[0];
    int64_t each = a->stride == 1 ? x->rows : 1;
    for (int64_t i = 0; i < x->rows; i += each)
        op_axpy(r, a->cache + (a->at + i * a->stride) * t->cols, tensor_f32(x) + i * t->cols, 1.0f,
                0, each * t->cols);
}

const struct op op_cache = {
    .name = "cache",
    .shape = shape_cache,
    .forward = forward_cache,
};

tensor *g_cache(graph *g, tensor *x, float *cache, int64_t at, int64_t stride)
{
    return graph_node(g, &op_cache, (tensor *[]){ x }, 1, 0,
                      &(struct cache_args){ cache, at, stride }, sizeof(struct cache_args));
}
