/* y = act(x).   dx = dy * act'(x).   x, y [N, D]. */
#include "graph/op.h"

struct act_args { enum act kind; };

static int shape_act(struct tensor *t, struct graph *g)
{
    const struct act_args *a = t->args;
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = t->in[0]->cols;
    if ((unsigned)a->kind < ACT_COUNT) return PEFT_OK;
    return fail(PEFT_EARG, "activation %d, expected below %d", (int)a->kind, (int)ACT_COUNT);
}

static void act_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                     int worker)
{
    const struct act_args *a = t->args;
    int64_t at = begin * t->cols;
    (void)worker;
    r->k->act(tensor_f32(t) + at, tensor_f32(t->in[0]) + at, (end - begin) * t->cols, a->kind);
}

static void act_back_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                          int worker)
{
    const struct act_args *a = t->args;
    const struct tensor *x = t->in[0];
    (void)worker;
    r->k->act_back(x->g + begin, t->g + begin, tensor_f32(x) + begin, adds(t, 0), end - begin,
                   a->kind);
}

static void backward_act(const struct tensor *t, const struct run *r)
{
    op_parallel(t, r, tensor_len(t), OP_TASK, act_back_part);
}

const struct op op_act = {
    .name = "act",
    .rowwise = 1,
    .save = { SAVE_IN0 },
    .inplace = 1,
    .grad_inplace = 1,
    .cheap = 1,
    .shape = shape_act,
    .rows = act_part,
    .backward = backward_act,
};

tensor *g_act(graph *g, tensor *x, enum act kind)
{
    return graph_node(g, &op_act, (tensor *[]){ x }, 1, 0, &(struct act_args){ kind },
                      sizeof(struct act_args));
}
