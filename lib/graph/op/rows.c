/* y[i] = x[index[i]].   dx[index[i]] += dy[i], in the order of i.
 * x [M, D], y [N, D]; indices may repeat. */
#include "graph/op.h"

struct rows_args { const int32_t *index; int64_t n; };

static int shape_rows(struct tensor *t, struct graph *g)
{
    const struct rows_args *a = t->args;
    (void)g;
    t->rows = a->n;
    t->cols = t->in[0]->cols;
    return op_index(a->index, a->n, t->in[0]->rows, "row");
}

static void forward_rows(const struct tensor *t, const struct run *r)
{
    const struct rows_args *a = t->args;
    const struct matrix x = op_matrix(t->in[0]);
    op_gather(r, t->x, &x, a->index, a->n);
}

static void backward_rows(const struct tensor *t, const struct run *r)
{
    const struct rows_args *a = t->args;
    op_clear(t, r, 0);
    op_scatter_add(r, t->in[0]->g, t->g, a->index, a->n, t->cols, 1.0f);
}

const struct op op_rows = {
    .name = "rows",
    .part = 1,
    .cheap = 1,
    .shape = shape_rows,
    .forward = forward_rows,
    .backward = backward_rows,
};

tensor *graph_rows(graph *g, tensor *x, const int32_t *index, int64_t n)
{
    return graph_node(g, &op_rows, (tensor *[]){ x }, 1, 0, &(struct rows_args){ index, n },
                      sizeof(struct rows_args));
}

tensor *g_rows(graph *g, tensor *x, const int32_t *index, int64_t n)
{
    if (!x || op_index(index, n, x->rows, "row")) return graph_rows(g, x, index, n);
    while (x->op == &op_rows && index) {
        index = graph_pick(g, ((const struct rows_args *)x->args)->index, index, n);
        x = x->in[0];
    }
    if (!index) return graph_fail(g, PEFT_ENOMEM, "no memory to gather rows");
    tensor *y = graph_gather(g, x, index, n);
    return y ? y : graph_rows(g, x, index, n);
}
