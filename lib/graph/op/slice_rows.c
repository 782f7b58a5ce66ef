/* y = rows [first, first + n) of x.  Inference only, as its counterpart.
 * x [N, D], y [n, D]. */
#include "graph/op.h"

struct slice_rows_args { int64_t first, n; };

static int shape_slice_rows(struct tensor *t, struct graph *g)
{
    const struct slice_rows_args *a = t->args;
    int64_t rows = t->in[0]->rows;
    (void)g;
    t->rows = a->n;
    t->cols = t->in[0]->cols;
    if (a->first >= 0 && a->first < rows && a->n <= rows - a->first) return PEFT_OK;
    return fail(PEFT_EARG, "rows [%lld, %lld), expected within %lld", (long long)a->first,
                (long long)(a->first + a->n), (long long)rows);
}

static void forward_slice_rows(const struct tensor *t, const struct run *r)
{
    const struct slice_rows_args *a = t->args;
    op_axpy(r, t->x, tensor_f32(t->in[0]) + a->first * t->cols, 1.0f, 0, tensor_len(t));
}

const struct op op_slice_rows = {
    .name = "slice_rows",
    .part = 1,
    .shape = shape_slice_rows,
    .forward = forward_slice_rows,
};

tensor *g_slice_rows(graph *g, tensor *x, int64_t first, int64_t n)
{
    return graph_node(g, &op_slice_rows, (tensor *[]){ x }, 1, 0,
                      &(struct slice_rows_args){ first, n }, sizeof(struct slice_rows_args));
}
