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

static void scale_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                       int worker)
{
    const struct scale_args *a = t->args;
    int64_t at = begin * t->cols;
    (void)worker;
    r->k->axpy(tensor_f32(t) + at, tensor_f32(t->in[0]) + at, a->s, 0, (end - begin) * t->cols);
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
    .rows = scale_part,
    .backward = backward_scale,
};

tensor *g_scale(graph *g, tensor *x, float s)
{
    return graph_node(g, &op_scale, (tensor *[]){ x }, 1, 0, &(struct scale_args){ s },
                      sizeof(struct scale_args));
}
