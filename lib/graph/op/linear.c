/* y = x W^T.   dx = dy W,  dW = dy^T x.
 * x [N, in], W [out, in] of any stored type, y [N, out]. */
#include "graph/op.h"

static int shape_linear(struct tensor *t, struct graph *g)
{
    const struct tensor *x = t->in[0], *w = t->in[1];
    (void)g;
    if (x->cols != w->cols)
        return fail(PEFT_EARG, "x is [%lld, %lld], W is [%lld, %lld], expected equal columns",
                    (long long)x->rows, (long long)x->cols, (long long)w->rows,
                    (long long)w->cols);
    t->rows = x->rows;
    t->cols = w->rows;
    return op_blockwise(w);
}

static int64_t scratch_linear(const struct tensor *t)
{
    (void)t;
    return linear_scratch();
}

static void forward_linear(const struct tensor *t, const struct run *r)
{
    const struct matrix w = op_matrix(t->in[1]);
    linear_forward(r->c, t->x, t->in[0]->x, &w, t->rows, 1.0f, 0.0f);
}

static void backward_linear(const struct tensor *t, const struct run *r)
{
    const struct tensor *x = t->in[0];
    const struct matrix w = op_matrix(t->in[1]);
    if (wants(t, 0)) linear_dx(r->c, x->g, t->g, &w, t->rows, 1.0f, adds(t, 0) ? 1.0f : 0.0f);
    if (!wants(t, 1)) return;
    op_clear(t, r, 1);
    linear_dw(r->c, t->in[1]->g, t->g, x->x, t->rows, t->cols, x->cols, 1.0f);
}

static double flops_linear(const struct tensor *t)
{
    return 2.0 * (double)tensor_len(t) * (double)t->in[0]->cols;
}

const struct op op_linear = {
    .name = "linear",
    .rowwise = 1,
    .packs = 1,
    .save = { SAVE_IN1, SAVE_IN0 },
    .stored = 1 << 1,
    .shape = shape_linear,
    .scratch = scratch_linear,
    .forward = forward_linear,
    .backward = backward_linear,
    .flops = flops_linear,
};

tensor *g_linear(graph *g, tensor *x, tensor *w)
{
    return graph_node(g, &op_linear, (tensor *[]){ x, w }, 2, 0, NULL, 0);
}
