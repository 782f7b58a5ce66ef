/* y[s] = mean of the rows start[s] <= i < start[s+1] of x (zero when there are
 * none).   dx[i] = dy[s] / rows of s.   x [N, D], y [n, D].
 * Weighted: the i-th of n rows counts 2 i / (n (n + 1)), i from 1 (SGPT,
 * Muennighoff 2022). */
#include "graph/op.h"

struct pool_mean_args { const int32_t *start; int64_t n; int weighted; };
static float pool_share(const struct pool_mean_args *a, int64_t s, int64_t i)
{
    double n = (double)(a->start[s + 1] - a->start[s]), at = (double)(i - a->start[s] + 1);
    return a->weighted ? (float)(2 * at / (n * (n + 1))) : 1.0f / (float)n;
}

static int shape_pool_mean(struct tensor *t, struct graph *g)
{
    const struct pool_mean_args *a = t->args;
    (void)g;
    t->rows = a->n;
    t->cols = t->in[0]->cols;
    for (int64_t s = 0; s < a->n; s++)
        if (a->start[s] > a->start[s + 1])
            return fail(PEFT_EARG, "segment %lld ends before it begins", (long long)s);
    return a->n < 1 ? PEFT_OK : op_index(a->start, a->n + 1, t->in[0]->rows + 1, "segment start");
}

static void pool_mean_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                           int worker)
{
    const struct pool_mean_args *a = t->args;
    int64_t d = t->cols;
    (void)worker;
    for (int64_t s = begin; s < end; s++) {
        float *y = tensor_f32(t) + s * d;
        int64_t n = a->start[s + 1] - a->start[s];
        r->k->fill(y, 0.0f, d);
        for (int64_t i = a->start[s]; i < a->start[s + 1]; i++) {
            const float *x = tensor_f32(t->in[0]) + i * d;
            if (a->weighted) r->k->axpy(y, x, pool_share(a, s, i), 1, d);
            else r->k->add(y, y, x, d);
        }
        if (!a->weighted) r->k->axpy(y, y, n ? 1.0f / (float)n : 0.0f, 0, d);
    }
}

static void forward_pool_mean(const struct tensor *t, const struct run *r)
{
    op_parallel(t, r, t->rows, 1, pool_mean_part);
}

static void pool_mean_back_part(const struct tensor *t, const struct run *r, int64_t begin,
                                int64_t end, int worker)
{
    const struct pool_mean_args *a = t->args;
    int64_t d = t->cols;
    (void)worker;
    for (int64_t s = begin; s < end; s++)
        for (int64_t i = a->start[s]; i < a->start[s + 1]; i++)
            r->k->axpy(t->in[0]->g + i * d, t->g + s * d,
                       pool_share(a, s, i), 1, d);
}

static void backward_pool_mean(const struct tensor *t, const struct run *r)
{
    op_clear(t, r, 0);
    op_parallel(t, r, t->rows, 1, pool_mean_back_part);
}

const struct op op_pool_mean = {
    .name = "pool_mean",
    .shape = shape_pool_mean,
    .forward = forward_pool_mean,
    .backward = backward_pool_mean,
};

tensor *g_pool_mean(graph *g, tensor *x, const int32_t *start, int64_t n, int weighted)
{
    return graph_node(g, &op_pool_mean, (tensor *[]){ x }, 1, 0,
                      &(struct pool_mean_args){ start, n, weighted },
                      sizeof(struct pool_mean_args));
}
