/* R[g] = Cayley transform of block g's skew-symmetric matrix (kernel/cayley.c).
 * v [blocks, b (b - 1) / 2] -> R [blocks * b, b]. */
#include "graph/op.h"

struct cayley_args { int64_t block; int terms; };

static int shape_cayley(struct tensor *t, struct graph *g)
{
    const struct cayley_args *a = t->args;
    (void)g;
    if (a->block < 2 || t->in[0]->cols != a->block * (a->block - 1) / 2)
        return fail(PEFT_EARG, "v is [%lld, %lld], expected %lld columns for blocks of %lld",
                    (long long)t->in[0]->rows, (long long)t->in[0]->cols,
                    (long long)(a->block * (a->block - 1) / 2), (long long)a->block);
    t->rows = t->in[0]->rows * a->block;
    t->cols = a->block;
    return PEFT_OK;
}

static int64_t scratch_cayley(const struct tensor *t)
{
    const struct cayley_args *a = t->args;
    return cayley_temp(a->block, a->terms) * 4;
}

static void cayley_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                        int worker)
{
    const struct cayley_args *a = t->args;
    const struct tensor *v = t->in[0];
    for (int64_t i = begin; i < end; i++)
        cayley_forward(r->c, tensor_f32(t) + i * a->block * a->block,
                       tensor_f32(v) + i * v->cols, a->block, a->terms,
                       compute_scratch(r->c, worker));
}

static void forward_cayley(const struct tensor *t, const struct run *r)
{
    op_parallel(t, r, t->in[0]->rows, 1, cayley_part);
}

static void cayley_back_part(const struct tensor *t, const struct run *r, int64_t begin,
                             int64_t end, int worker)
{
    const struct cayley_args *a = t->args;
    const struct tensor *v = t->in[0];
    for (int64_t i = begin; i < end; i++)
        cayley_backward(r->c, v->g + i * v->cols, t->g + i * a->block * a->block,
                        tensor_f32(v) + i * v->cols, a->block, a->terms, adds(t, 0),
                        compute_scratch(r->c, worker));
}

static void backward_cayley(const struct tensor *t, const struct run *r)
{
    if (wants(t, 0)) op_parallel(t, r, t->in[0]->rows, 1, cayley_back_part);
}

static double flops_cayley(const struct tensor *t)
{
    const struct cayley_args *a = t->args;
    return 2.0 * a->terms * (double)tensor_len(t) * (double)a->block;
}

const struct op op_cayley = {
    .name = "cayley",
    .save = { SAVE_IN0 },
    .shape = shape_cayley,
    .scratch = scratch_cayley,
    .forward = forward_cayley,
    .backward = backward_cayley,
    .flops = flops_cayley,
};

tensor *g_cayley(graph *g, tensor *v, int64_t block, int terms)
{
    return graph_node(g, &op_cayley, (tensor *[]){ v }, 1, 0,
                      &(struct cayley_args){ block, terms }, sizeof(struct cayley_args));
}
