/* The same memory with other rows and columns; so is the gradient. */
#include "graph/op.h"

struct reshape_args { int64_t rows, cols; };

static int shape_reshape(struct tensor *t, struct graph *g)
{
    const struct reshape_args *a = t->args;
    const struct tensor *x = t->in[0];
    int64_t n;
    (void)g;
    t->rows = a->rows;
    t->cols = a->cols;
    if (mul_ok(a->rows, a->cols, &n) && n == tensor_len(x)) return PEFT_OK;
    return fail(PEFT_EARG, "[%lld, %lld] as [%lld, %lld], expected as many elements",
                (long long)x->rows, (long long)x->cols, (long long)a->rows, (long long)a->cols);
}

const struct op op_reshape = {
    .name = "reshape",
    .view = 1,
    .shape = shape_reshape,
};

tensor *g_reshape(graph *g, tensor *x, int64_t rows, int64_t cols)
{
    return graph_node(g, &op_reshape, (tensor *[]){ x }, 1, 0,
                      &(struct reshape_args){ rows, cols }, sizeof(struct reshape_args));
}
