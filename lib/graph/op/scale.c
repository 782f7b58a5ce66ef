/* y = s x.   dx = s dy.   x, y [N, D]. */
#include "graph/op.h"

struct scale_args { float s; };

static int shape_scale(struct tensor *t, struct graph *g)
{
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = t->in[0]->cols;
    return PEFT_OK;
}

static void forward_scale(const struct tensor *t, const struct run *r)
{
    const struct scale_args *a = t->args;
    op_axpy(r, t->x, t->in[0]->x, a->s, 0, tensor_len(t));
}

static void backward_scale(const struct tensor *t, const struct run *r)
{
    const struct scale_args *a = t->args;
    op_axpy(r, t->in[0]->g, t->g, a->s, adds(t, 0), tensor_len(t));
}

const struct op op_scale = {
    .name = "scale",
    .rowwise = 1,
    .inplace = 1,
    .grad_inplace = 1,
    .cheap = 1,
    .shape = shape_scale,
    .forward = forward_scale,
    .backward = backward_scale,
};

tensor *g_scale(graph *g, tensor *x, float s)
{
    return graph_node(g, &op_scale, (tensor *[]){ x }, 1, 0, &(struct scale_args){ s },
                      sizeof(struct scale_args));
}
