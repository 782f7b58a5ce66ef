/* y = a above b; the gradient is cut at the same row.
 * a [Na, D], b [Nb, D], y [Na + Nb, D]. */
#include "graph/op.h"

static int shape_concat_rows(struct tensor *t, struct graph *g)
{
    (void)g;
    t->rows = t->in[0]->rows + t->in[1]->rows;
    t->cols = t->in[0]->cols;
    if (t->in[1]->cols == t->cols) return PEFT_OK;
    return fail(PEFT_EARG, "%lld and %lld columns, expected equal", (long long)t->cols,
                (long long)t->in[1]->cols);
}

static void forward_concat_rows(const struct tensor *t, const struct run *r)
{
    int64_t n = tensor_len(t->in[0]);
    op_axpy(r, t->x, t->in[0]->x, 1.0f, 0, n);
    op_axpy(r, tensor_f32(t) + n, t->in[1]->x, 1.0f, 0, tensor_len(t->in[1]));
}

static void backward_concat_rows(const struct tensor *t, const struct run *r)
{
    const float *dy = t->g;
    for (int k = 0; k < 2; dy += tensor_len(t->in[k++]))
        if (wants(t, k)) op_axpy(r, t->in[k]->g, dy, 1.0f, adds(t, k), tensor_len(t->in[k]));
}

const struct op op_concat_rows = {
    .name = "concat_rows",
    .cheap = 1,
    .shape = shape_concat_rows,
    .forward = forward_concat_rows,
    .backward = backward_concat_rows,
};

tensor *g_concat_rows(graph *g, tensor *a, tensor *b)
{
    return graph_node(g, &op_concat_rows, (tensor *[]){ a, b }, 2, 0, NULL, 0);
}
