/* y = x with b in the place of its rows from `first` on, in x's memory when
 * nobody else reads x.  Inference only.
 * x [N, D], b [n, D], y [N, D]. */
#include "graph/op.h"

struct put_rows_args { int64_t first; };

static int shape_put_rows(struct tensor *t, struct graph *g)
{
    const struct put_rows_args *a = t->args;
    const struct tensor *x = t->in[0], *b = t->in[1];
    (void)g;
    t->rows = x->rows;
    t->cols = x->cols;
    if (a->first >= 0 && a->first < x->rows && b->rows <= x->rows - a->first && b->cols == x->cols)
        return PEFT_OK;
    return fail(PEFT_EARG, "[%lld, %lld] at row %lld of [%lld, %lld]", (long long)b->rows,
                (long long)b->cols, (long long)a->first, (long long)x->rows, (long long)x->cols);
}

static void forward_put_rows(const struct tensor *t, const struct run *r)
{
    const struct put_rows_args *a = t->args;
    const struct tensor *b = t->in[1];
    op_axpy(r, t->x, t->in[0]->x, 1.0f, 0, tensor_len(t));
    op_axpy(r, tensor_f32(t) + a->first * t->cols, b->x, 1.0f, 0, tensor_len(b));
}

const struct op op_put_rows = {
    .name = "put_rows",
    .inplace = 1 << 0,
    .shape = shape_put_rows,
    .forward = forward_put_rows,
};

tensor *g_put_rows(graph *g, tensor *x, tensor *b, int64_t first)
{
    return graph_node(g, &op_put_rows, (tensor *[]){ x, b }, 2, 0, &(struct put_rows_args){ first },
                      sizeof(struct put_rows_args));
}
