/* Gated linear unit (Shazeer 2020, "GLU variants improve transformer"):
 * y = act(gate) * up.   dgate = dy * up * act'(gate),  dup = dy * act(gate).
 * gate, up, y [N, D]. */
#include "graph/op.h"

static int shape_glu(struct tensor *t, struct graph *g)
{
    const struct glu_args *a = t->args;
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = t->in[0]->cols;
    if ((unsigned)a->kind >= ACT_COUNT)
        return fail(PEFT_EARG, "activation %d, expected below %d", (int)a->kind, (int)ACT_COUNT);
    return op_same(t->in[0], t->in[1]);
}

static void glu_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                     int worker)
{
    const struct glu_args *a = t->args;
    int64_t at = begin * t->cols;
    (void)worker;
    r->k->glu(tensor_f32(t) + at, tensor_f32(t->in[0]) + at, tensor_f32(t->in[1]) + at,
              (end - begin) * t->cols, a->kind);
}

static void glu_back_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                          int worker)
{
    const struct glu_args *a = t->args;
    const struct tensor *gate = t->in[0], *up = t->in[1];
    (void)worker;
    r->k->glu_back(wants(t, 0) ? gate->g + begin : NULL, wants(t, 1) ? up->g + begin : NULL,
                   NULL, t->g + begin, tensor_f32(gate) + begin, tensor_f32(up) + begin, adds(t, 0),
                   adds(t, 1), end - begin, a->kind);
}

static void backward_glu(const struct tensor *t, const struct run *r)
{
    op_parallel(t, r, tensor_len(t), OP_TASK, glu_back_part);
}

const struct op op_glu = {
    .name = "glu",
    .rowwise = 1 | 2,
    .save = { SAVE_IN0 | SAVE_IN1, SAVE_IN0 | SAVE_IN1 },
    .inplace = 1 | 2,
    .grad_inplace = 1 | 2,
    .cheap = 1,
    .shape = shape_glu,
    .rows = glu_part,
    .backward = backward_glu,
};

tensor *g_glu(graph *g, tensor *gate, tensor *up, enum act kind)
{
    return graph_node(g, &op_glu, (tensor *[]){ gate, up }, 2, 0, &(struct glu_args){ kind },
                      sizeof(struct glu_args));
}
