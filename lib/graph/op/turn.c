/* y = x^T, dx = dy^T.  For small matrices: adapters' own. */
#include "graph/op.h"

static int shape_turn(struct tensor *t, struct graph *g)
{
    (void)g;
    t->rows = t->in[0]->cols;
    t->cols = t->in[0]->rows;
    return PEFT_OK;
}

static void forward_turn(const struct tensor *t, const struct run *r)
{
    const float *x = tensor_f32(t->in[0]);
    (void)r;
    for (int64_t i = 0; i < t->rows; i++)
        for (int64_t j = 0; j < t->cols; j++) tensor_f32(t)[i * t->cols + j] = x[j * t->rows + i];
}

static void backward_turn(const struct tensor *t, const struct run *r)
{
    float *dx = t->in[0]->g;
    op_clear(t, r, 0);
    for (int64_t j = 0; j < t->cols; j++)
        for (int64_t i = 0; i < t->rows; i++) dx[j * t->rows + i] += t->g[i * t->cols + j];
}

const struct op op_turn = {
    .name = "turn",
    .cheap = 1,
    .shape = shape_turn,
    .forward = forward_turn,
    .backward = backward_turn,
};

tensor *g_turn(graph *g, tensor *x)
{
    return graph_node(g, &op_turn, (tensor *[]){ x }, 1, 0, NULL, 0);
}
