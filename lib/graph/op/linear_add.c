/* z = y + s x W^T, in y's memory when nobody else reads y.
 * dy = dz,  dx = s dz W,  dW = s dz^T x.
 * y, z [N, out], x [N, in], W [out, in] of any stored type. */
#include "graph/op.h"

struct linear_add_args { float scale; };

static int shape_linear_add(struct tensor *t, struct graph *g)
{
    const struct tensor *y = t->in[0], *x = t->in[1], *w = t->in[2];
    (void)g;
    if (x->cols != w->cols || y->rows != x->rows || y->cols != w->rows)
        return fail(PEFT_EARG, "y is [%lld, %lld], x is [%lld, %lld], W is [%lld, %lld]",
                    (long long)y->rows, (long long)y->cols, (long long)x->rows,
                    (long long)x->cols, (long long)w->rows, (long long)w->cols);
    t->rows = y->rows;
    t->cols = y->cols;
    return op_blockwise(w);
}

static int64_t scratch_linear_add(const struct tensor *t)
{
    (void)t;
    return linear_scratch();
}

static void forward_linear_add(const struct tensor *t, const struct run *r)
{
    const struct linear_add_args *a = t->args;
    const struct matrix w = op_matrix(t->in[2]);
    op_axpy(r, t->x, t->in[0]->x, 1.0f, 0, tensor_len(t));
    linear_forward(r->c, t->x, t->in[1]->x, &w, t->rows, a->scale, 1.0f);
}

static void backward_linear_add(const struct tensor *t, const struct run *r)
{
    const struct linear_add_args *a = t->args;
    const struct tensor *x = t->in[1];
    const struct matrix w = op_matrix(t->in[2]);
    if (wants(t, 1)) linear_dx(r->c, x->g, t->g, &w, t->rows, a->scale, adds(t, 1) ? 1.0f : 0.0f);
    if (wants(t, 2)) {
        op_clear(t, r, 2);
        linear_dw(r->c, t->in[2]->g, t->g, x->x, t->rows, t->cols, x->cols, a->scale);
    }
    if (wants(t, 0)) op_axpy(r, t->in[0]->g, t->g, 1.0f, adds(t, 0), tensor_len(t));
}

static double flops_linear_add(const struct tensor *t)
{
    return 2.0 * (double)tensor_len(t) * (double)t->in[1]->cols;
}

const struct op op_linear_add = {
    .name = "linear_add",
    .rowwise = 1 | 2,
    .save = { 0, SAVE_IN2, SAVE_IN1 },
    .inplace = 1,
    .grad_same = 1,
    .stored = 1 << 2,
    .shape = shape_linear_add,
    .scratch = scratch_linear_add,
    .forward = forward_linear_add,
    .backward = backward_linear_add,
    .flops = flops_linear_add,
};

tensor *g_linear_add(graph *g, tensor *y, tensor *x, tensor *w, float scale)
{
    return graph_node(g, &op_linear_add, (tensor *[]){ y, x, w }, 3, 0,
                      &(struct linear_add_args){ scale }, sizeof(struct linear_add_args));
}
