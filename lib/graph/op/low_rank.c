/* A linear layer with a low-rank term (LoRA, Hu et al. 2021), whose factors see x and
 * dy in the same pass as W does:
 *     low = s x A^T,  y = x W^T + low B^T
 *     dlow = s dy B,  dx = dy W + dlow A,  dA = dlow^T x,  dB = dy^T low
 * x [N, in], W [out, in] of any stored type, A [r, in], B [out, r], y [N, out];
 * aux: low [N, r], temp: dlow [N, r]. */
#include "graph/op.h"

struct low_rank_args { float scale; };
enum { LOW_X, LOW_W, LOW_A, LOW_B };

static int shape_low_rank(struct tensor *t, struct graph *g)
{
    const struct tensor *x = t->in[LOW_X], *w = t->in[LOW_W], *a = t->in[LOW_A], *b = t->in[LOW_B];
    (void)g;
    if (x->cols != w->cols || a->cols != w->cols || b->rows != w->rows || b->cols != a->rows)
        return fail(PEFT_EARG, "x has %lld columns, W is [%lld, %lld], A [%lld, %lld], B [%lld, "
                    "%lld]", (long long)x->cols, (long long)w->rows, (long long)w->cols,
                    (long long)a->rows, (long long)a->cols, (long long)b->rows,
                    (long long)b->cols);
    t->rows = x->rows;
    t->cols = w->rows;
    t->aux_bytes = t->temp_bytes = x->rows * a->rows * 4;
    return op_blockwise(w);
}

static int64_t scratch_low_rank(const struct tensor *t)
{
    (void)t;
    return linear_scratch();
}

static void forward_low_rank(const struct tensor *t, const struct run *r)
{
    const struct low_rank_args *args = t->args;
    const struct matrix w = op_matrix(t->in[LOW_W]), a = op_matrix(t->in[LOW_A]),
                        b = op_matrix(t->in[LOW_B]);
    low_rank_forward(r->c, t->x, t->aux, t->in[LOW_X]->x, &w, &a, &b, t->rows, args->scale);
}

static void backward_low_rank(const struct tensor *t, const struct run *r)
{
    const struct low_rank_args *args = t->args;
    const struct tensor *x = t->in[LOW_X];
    const struct matrix w = op_matrix(t->in[LOW_W]), a = op_matrix(t->in[LOW_A]),
                        b = op_matrix(t->in[LOW_B]);
    int64_t n = t->rows, rank = a.rows;
    if (wants(t, LOW_X))
        low_rank_dx(r->c, x->g, t->temp, t->g, &w, &a, &b, n, args->scale,
                    adds(t, LOW_X) ? 1.0f : 0.0f);
    else if (wants(t, LOW_A)) linear_dx(r->c, t->temp, t->g, &b, n, args->scale, 0.0f);
    for (int k = LOW_W; k <= LOW_B; k++)
        if (wants(t, k)) op_clear(t, r, k);
    if (wants(t, LOW_W)) linear_dw(r->c, t->in[LOW_W]->g, t->g, x->x, n, w.rows, w.cols, 1.0f);
    if (wants(t, LOW_A)) linear_dw(r->c, t->in[LOW_A]->g, t->temp, x->x, n, rank, w.cols, 1.0f);
    if (wants(t, LOW_B)) linear_dw(r->c, t->in[LOW_B]->g, t->g, t->aux, n, w.rows, rank, 1.0f);
}

static double base_flops(const struct tensor *t)
{
    return 2.0 * (double)tensor_len(t) * (double)t->in[LOW_X]->cols;
}

static double side_flops(const struct tensor *t)
{
    const struct tensor *a = t->in[LOW_A], *b = t->in[LOW_B];
    return 2.0 * (double)t->rows * (double)(tensor_len(a) + tensor_len(b));
}

static double flops_low_rank(const struct tensor *t)
{
    return base_flops(t) + side_flops(t);
}

/* Each factor's gradient costs a half of the low-rank term, and so does dlow. */
static void cost_low_rank(const struct tensor *t, int backward, struct cost *c)
{
    int halves = (wants(t, LOW_X) ? 2 : wants(t, LOW_A)) + wants(t, LOW_A) + wants(t, LOW_B);
    if (!backward) return;
    c->flops = (wants(t, LOW_X) + wants(t, LOW_W)) * base_flops(t) + halves * side_flops(t) / 2;
}

const struct op op_low_rank = {
    .name = "low_rank",
    .rowwise = 1,
    .save = { [LOW_X] = SAVE_IN1 | SAVE_IN2 | SAVE_IN3, [LOW_W] = SAVE_IN0,
              [LOW_A] = SAVE_IN0 | SAVE_IN3, [LOW_B] = SAVE_AUX },
    .stored = 1 << LOW_W,
    .shape = shape_low_rank,
    .scratch = scratch_low_rank,
    .forward = forward_low_rank,
    .backward = backward_low_rank,
    .flops = flops_low_rank,
    .cost = cost_low_rank,
};

/* A product of x that y is already takes the term in; its node is then read by nobody. */
tensor *g_low_rank(graph *g, tensor *y, tensor *x, tensor *a, tensor *b, float scale)
{
    if (!y || !x || !a || y->op != &op_linear || y->in[0] != x)
        return g_linear_add(g, y, g_linear(g, x, a), b, scale);
    return graph_node(g, &op_low_rank, (tensor *[]){ x, y->in[1], a, b }, 4, 0,
                      &(struct low_rank_args){ scale }, sizeof(struct low_rank_args));
}
