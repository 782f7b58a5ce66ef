/* y[i] = a[i] . b[i].   da[i] = dy[i] b[i], db[i] = dy[i] a[i].
 * a, b [N, D], y [N, 1]. */
#include "graph/op.h"

static int shape_dot_rows(struct tensor *t, struct graph *g)
{
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = 1;
    return op_same(t->in[0], t->in[1]);
}

static void forward_dot_rows(const struct tensor *t, const struct run *r)
{
    int64_t d = t->in[0]->cols;
    for (int64_t i = 0; i < t->rows; i++)
        tensor_f32(t)[i] = r->k->dot(tensor_f32(t->in[0]) + i * d, tensor_f32(t->in[1]) + i * d, d);
}

static void backward_dot_rows(const struct tensor *t, const struct run *r)
{
    int64_t d = t->in[0]->cols;
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; wants(t, k) && i < t->rows; i++)
            r->k->axpy(t->in[k]->g + i * d, tensor_f32(t->in[!k]) + i * d, t->g[i], adds(t, k), d);
}

const struct op op_dot_rows = {
    .name = "dot_rows",
    .save = { SAVE_IN1, SAVE_IN0 },
    .shape = shape_dot_rows,
    .forward = forward_dot_rows,
    .backward = backward_dot_rows,
};

tensor *g_dot_rows(graph *g, tensor *a, tensor *b)
{
    return graph_node(g, &op_dot_rows, (tensor *[]){ a, b }, 2, 0, NULL, 0);
}
