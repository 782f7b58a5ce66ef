/* y = x + b for each row.   dx = dy,  db = sum of dy over the rows.
 * x, y [N, D], b [1, D]. */
#include "graph/op.h"

static int shape_bias(struct tensor *t, struct graph *g)
{
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = t->in[0]->cols;
    return op_vector(t->in[1], t->cols);
}

static void bias_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                      int worker)
{
    const float *x = t->in[0]->x;
    float *y = t->x;
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        r->k->add(y + i * t->cols, x + i * t->cols, t->in[1]->x, t->cols);
}

static void backward_bias(const struct tensor *t, const struct run *r)
{
    if (wants(t, 1)) op_sum_rows(r, t->in[1]->g, t->g, NULL, t->rows, t->cols, adds(t, 1));
    if (wants(t, 0)) op_axpy(r, t->in[0]->g, t->g, 1.0f, adds(t, 0), tensor_len(t));
}

const struct op op_bias = {
    .name = "bias",
    .rowwise = 1,
    .inplace = 1,
    .grad_same = 1,
    .cheap = 1,
    .shape = shape_bias,
    .rows = bias_part,
    .backward = backward_bias,
};

tensor *g_bias(graph *g, tensor *x, tensor *b)
{
    return graph_node(g, &op_bias, (tensor *[]){ x, b }, 2, 0, NULL, 0);
}
