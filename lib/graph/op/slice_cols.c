/* y = columns [first, first + n) of x; the gradient of the others is zero.
 * x [N, D], y [N, n]. */
#include "graph/op.h"

struct slice_cols_args { int64_t first, n; };

static int shape_slice_cols(struct tensor *t, struct graph *g)
{
    const struct slice_cols_args *a = t->args;
    int64_t cols = t->in[0]->cols;
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = a->n;
    if (a->first >= 0 && a->first < cols && a->n <= cols - a->first) return PEFT_OK;
    return fail(PEFT_EARG, "columns [%lld, %lld), expected within %lld", (long long)a->first,
                (long long)(a->first + a->n), (long long)cols);
}

static void slice_cols_part(const struct tensor *t, const struct run *r, int64_t begin,
                            int64_t end, int worker)
{
    const struct slice_cols_args *a = t->args;
    const float *x = tensor_f32(t->in[0]) + a->first;
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        r->k->axpy(tensor_f32(t) + i * a->n, x + i * t->in[0]->cols, 1.0f, 0, a->n);
}

static void slice_cols_back_part(const struct tensor *t, const struct run *r, int64_t begin,
                                 int64_t end, int worker)
{
    const struct slice_cols_args *a = t->args;
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        r->k->axpy(t->in[0]->g + i * t->in[0]->cols + a->first, t->g + i * a->n, 1.0f, 1, a->n);
}

static void backward_slice_cols(const struct tensor *t, const struct run *r)
{
    op_clear(t, r, 0);
    op_parallel(t, r, t->rows, op_grain(t->cols), slice_cols_back_part);
}

const struct op op_slice_cols = {
    .name = "slice_cols",
    .rowwise = 1,
    .part = 1,
    .cheap = 1,
    .shape = shape_slice_cols,
    .rows = slice_cols_part,
    .backward = backward_slice_cols,
};

tensor *g_slice_cols(graph *g, tensor *x, int64_t first, int64_t n)
{
    return graph_node(g, &op_slice_cols, (tensor *[]){ x }, 1, 0,
                      &(struct slice_cols_args){ first, n }, sizeof(struct slice_cols_args));
}
