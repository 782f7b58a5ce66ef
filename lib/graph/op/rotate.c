/* y = x R, R block-diagonal: columns [g b, (g + 1) b) of x times block g.
 * dx = dy R^T,  dR[g] = x[:, g]^T dy[:, g].
 * x, y [N, blocks * b], R [blocks * b, b]. */
#include "graph/op.h"

static int shape_rotate(struct tensor *t, struct graph *g)
{
    const struct tensor *x = t->in[0], *w = t->in[1];
    (void)g;
    if (x->cols != w->rows || w->rows % w->cols)
        return fail(PEFT_EARG, "x is [%lld, %lld], R is [%lld, %lld], expected blocks as rows",
                    (long long)x->rows, (long long)x->cols, (long long)w->rows,
                    (long long)w->cols);
    t->rows = x->rows;
    t->cols = x->cols;
    return PEFT_OK;
}

static void rotate_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                        int worker)
{
    int64_t b = t->in[1]->cols, d = t->cols;
    (void)worker;
    for (int64_t i = begin * b; i < end * b; i += b)
        r->c->blas->sgemm(0, 0, t->rows, b, b, 1.0f, tensor_f32(t->in[0]) + i, d,
                          tensor_f32(t->in[1]) + i * b, b, 0.0f, tensor_f32(t) + i, d);
}

static void forward_rotate(const struct tensor *t, const struct run *r)
{
    op_parallel(t, r, t->cols / t->in[1]->cols, 1, rotate_part);
}

static void rotate_back_part(const struct tensor *t, const struct run *r, int64_t begin,
                             int64_t end, int worker)
{
    const struct tensor *x = t->in[0], *w = t->in[1];
    int64_t b = w->cols, d = t->cols;
    (void)worker;
    for (int64_t i = begin * b; i < end * b; i += b) {
        if (wants(t, 1))
            r->c->blas->sgemm(1, 0, b, b, t->rows, 1.0f, tensor_f32(x) + i, d, t->g + i, d,
                              adds(t, 1) ? 1.0f : 0.0f, w->g + i * b, b);
        if (wants(t, 0))
            r->c->blas->sgemm(0, 1, t->rows, b, b, 1.0f, t->g + i, d, tensor_f32(w) + i * b, b,
                              adds(t, 0) ? 1.0f : 0.0f, x->g + i, d);
    }
}

static void backward_rotate(const struct tensor *t, const struct run *r)
{
    op_parallel(t, r, t->cols / t->in[1]->cols, 1, rotate_back_part);
}

static double flops_rotate(const struct tensor *t)
{
    return 2.0 * (double)tensor_len(t) * (double)t->in[1]->cols;
}

const struct op op_rotate = {
    .name = "rotate",
    .rowwise = 1,
    .save = { SAVE_IN1, SAVE_IN0 },
    .shape = shape_rotate,
    .forward = forward_rotate,
    .backward = backward_rotate,
    .flops = flops_rotate,
};

tensor *g_rotate(graph *g, tensor *x, tensor *w)
{
    return graph_node(g, &op_rotate, (tensor *[]){ x, w }, 2, 0, NULL, 0);
}
