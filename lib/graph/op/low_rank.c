/* A linear layer with a low-rank term (LoRA, Hu et al. 2021), whose factors see x and
 * dy in the same pass as W does:
 *     low = s x A^T,  y = x W^T + low B^T
 *     dlow = s dy B,  dx = dy W + dlow A,  dA = dlow^T x,  dB = dy^T low
 * x [N, in], W [out, in] of any stored type, A [r, in], B [out, r], y [N, out];
 * aux: low [N, r], temp: dlow [N, r].
 *
 * low_rank_glu: x is a gated linear unit (glu.c) that is made where it is read and stored
 * nowhere, of gate and up [N, in]. */
#include "graph/op.h"

struct low_rank_args { float scale; enum act kind; };
enum { LOW_X, LOW_W, LOW_A, LOW_B, LOW_UP, LOW_GATE = LOW_X, SOME_ROWS = 64 };

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
    return t->in[LOW_UP] && op_same(x, t->in[LOW_UP]) ? PEFT_EARG : op_blockwise(w);
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

/* That of A, and with it those of others with the same x. */
static void low_rank_da(const struct tensor *t, const struct run *r, const float *x)
{
    struct thin a[THINS];
    int n = 0;
    for (const struct tensor *u = t; u; u = u->left)
        a[n++] = (struct thin){ u->in[LOW_A]->g, u->temp, u->in[LOW_A]->rows };
    thin_dws(r->c, a, n, x, t->rows, t->in[LOW_X]->cols);
}

static void backward_low_rank(const struct tensor *t, const struct run *r)
{
    const struct low_rank_args *args = t->args;
    const struct tensor *x = t->in[LOW_X];
    const struct matrix w = op_matrix(t->in[LOW_W]), a = op_matrix(t->in[LOW_A]),
                        b = op_matrix(t->in[LOW_B]);
    int64_t n = t->rows, rank = a.rows;
    float *db = wants(t, LOW_B) ? t->in[LOW_B]->g : NULL;
    for (int k = LOW_W; k <= LOW_B; k++)
        if (wants(t, k)) op_clear(t, r, k);
    if (wants(t, LOW_X))
        low_rank_dx(r->c, x->g, t->temp, t->g, &w, &a, &b, n, args->scale,
                    adds(t, LOW_X) ? 1.0f : 0.0f, db, t->aux);
    else {
        if (wants(t, LOW_A)) linear_dx(r->c, t->temp, t->g, &b, n, args->scale, 0.0f);
        if (db) linear_dw(r->c, db, t->g, t->aux, n, w.rows, rank, 1.0f);
    }
    if (wants(t, LOW_W)) linear_dw(r->c, t->in[LOW_W]->g, t->g, x->x, n, w.rows, w.cols, 1.0f);
    if (wants(t, LOW_A) && !t->leaves) low_rank_da(t, r, x->x);
}

static struct gated gated_at(const struct tensor *t, int64_t row)
{
    const struct low_rank_args *args = t->args;
    int64_t at = row * t->in[LOW_GATE]->cols;
    return (struct gated){ tensor_f32(t->in[LOW_GATE]) + at, tensor_f32(t->in[LOW_UP]) + at,
                           args->kind };
}

static void forward_low_rank_glu(const struct tensor *t, const struct run *r)
{
    const struct low_rank_args *args = t->args;
    const struct gated x = gated_at(t, 0);
    const struct matrix w = op_matrix(t->in[LOW_W]), a = op_matrix(t->in[LOW_A]),
                        b = op_matrix(t->in[LOW_B]);
    gated_forward(r->c, t->x, t->aux, &x, &w, &a, &b, t->rows, args->scale);
}

/* Behind what a product needs: a gradient of x, where gate's has no room for it. */
static int64_t scratch_low_rank_glu(const struct tensor *t)
{
    return linear_scratch() + SOME_ROWS * t->in[LOW_GATE]->cols * 4;
}

static void backward_low_rank_glu(const struct tensor *t, const struct run *r)
{
    const struct low_rank_args *args = t->args;
    const struct matrix w = op_matrix(t->in[LOW_W]), a = op_matrix(t->in[LOW_A]),
                        b = op_matrix(t->in[LOW_B]);
    int64_t cols = w.cols, rank = a.rows, each = adds(t, LOW_GATE) ? SOME_ROWS : t->rows;
    for (int k = LOW_A; k <= LOW_B; k++)
        if (wants(t, k)) op_clear(t, r, k);
    for (int64_t i = 0; i < t->rows; i += each) {
        int64_t n = MIN(each, t->rows - i);
        const struct gated x = gated_at(t, i);
        float *low = (float *)t->temp + i * rank, *dx = t->in[LOW_GATE]->g + i * cols;
        const struct gated_grads g = {
            .gate = dx, .up = t->in[LOW_UP]->g + i * cols, .a = t->in[LOW_A]->g, .low = low,
            .x = adds(t, LOW_GATE) ? compute_scratch(r->c, 0) + linear_scratch() / 4 : dx,
            .add_gate = adds(t, LOW_GATE), .add_up = adds(t, LOW_UP),
        };
        low_rank_dx(r->c, (float *)g.x, low, t->g + i * w.rows, &w, &a, &b, n, args->scale, 0.0f,
                    wants(t, LOW_B) ? t->in[LOW_B]->g : NULL, (const float *)t->aux + i * rank);
        gated_backward(r->c, &x, &g, n, cols, rank);
    }
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
    .packs = 1,
    .later = 1 << LOW_A,
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

const struct op op_low_rank_glu = {
    .name = "low_rank_glu",
    .rowwise = 1 << LOW_GATE | 1 << LOW_UP,
    .save = { [LOW_GATE] = SAVE_IN0 | SAVE_IN1 | SAVE_IN2 | SAVE_IN3 | SAVE_IN4,
              [LOW_A] = SAVE_IN0 | SAVE_IN3 | SAVE_IN4, [LOW_B] = SAVE_AUX,
              [LOW_UP] = SAVE_IN0 | SAVE_IN1 | SAVE_IN2 | SAVE_IN3 | SAVE_IN4 },
    .stored = 1 << LOW_W,
    .shape = shape_low_rank,
    .scratch = scratch_low_rank_glu,
    .forward = forward_low_rank_glu,
    .backward = backward_low_rank_glu,
    .flops = flops_low_rank,
    .cost = cost_low_rank,
};

/* Of a glu on the way back of which everything is wanted but W's gradient. */
static bool takes_glu(graph *g, const tensor *x, const tensor *w, const tensor *a)
{
    return x->op == &op_glu && wants(x, 0) && wants(x, 1) && !w->needs_grad &&
           low_rank_gated(graph_compute(g), a->rows);
}

/* A product of x that y is already takes the term in, and a glu that x is; their nodes are
 * then read by nobody. */
tensor *g_low_rank(graph *g, tensor *y, tensor *x, tensor *a, tensor *b, float scale)
{
    struct low_rank_args args = { scale, ACT_NONE };
    if (!y || !x || !a || y->op != &op_linear || y->in[0] != x)
        return g_linear_add(g, y, g_linear(g, x, a), b, scale);
    if (!takes_glu(g, x, y->in[1], a))
        return graph_node(g, &op_low_rank, (tensor *[]){ x, y->in[1], a, b }, 4, 0, &args,
                          sizeof args);
    args.kind = ((const struct glu_args *)x->args)->kind;
    return graph_node(g, &op_low_rank_glu, (tensor *[]){ x->in[0], y->in[1], a, b, x->in[1] }, 5,
                      0, &args, sizeof args);
}
