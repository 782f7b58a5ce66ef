/* Routing to experts: with p = softmax(x) the k largest of a row keep their p,
 * divided by their sum when `norm` is set, and the others become 0 (Shazeer et
 * al. 2017; Jiang et al. 2024).  Of equal ones the first counts.
 * With s = y, C the chosen, d = sum over C of dy_c s_c:
 *     norm:  dx_i = s_i (dy_i - d) for i in C, else 0
 *     else:  dx_i = p_i ((i in C) dy_i - d)
 * x, y [N, experts]. */
#include "graph/op.h"

#include <math.h>

struct route_args { int64_t k; int norm; };

static int shape_route(struct tensor *t, struct graph *g)
{
    const struct route_args *a = t->args;
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = t->in[0]->cols;
    if (a->k >= 1 && a->k <= t->cols) return PEFT_OK;
    return fail(PEFT_EARG, "%lld of %lld experts", (long long)a->k, (long long)t->cols);
}

/* The largest entry of x that y does not have yet. */
static int64_t next_best(const float *x, const float *y, int64_t n)
{
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++)
        if (y[i] < 0.0f && (best < 0 || x[i] > x[best])) best = i;
    return best;
}

static void route_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                       int worker)
{
    const struct route_args *a = t->args;
    int64_t n = t->cols;
    (void)r;
    (void)worker;
    for (int64_t row = begin; row < end; row++) {
        const float *x = tensor_f32(t->in[0]) + row * n;
        float *y = tensor_f32(t) + row * n, top = x[0];
        double all = 0, chosen = 0;
        for (int64_t i = 0; i < n; i++) {
            top = MAX(top, x[i]);
            y[i] = -1.0f;
        }
        for (int64_t i = 0; i < n; i++) all += exp((double)(x[i] - top));
        for (int64_t j = 0, i; j < a->k && (i = next_best(x, y, n)) >= 0; j++) {
            y[i] = (float)exp((double)(x[i] - top));
            chosen += (double)y[i];
        }
        float scale = (float)(1.0 / (a->norm ? chosen : all));
        for (int64_t i = 0; i < n; i++) y[i] = y[i] < 0.0f ? 0.0f : y[i] * scale;
    }
}

static void route_back_part(const struct tensor *t, const struct run *r, int64_t begin,
                            int64_t end, int worker)
{
    const struct route_args *a = t->args;
    int64_t n = t->cols;
    (void)worker;
    for (int64_t row = begin; row < end; row++) {
        const float *x = tensor_f32(t->in[0]) + row * n, *s = tensor_f32(t) + row * n;
        const float *dy = t->g + row * n;
        float *dx = t->in[0]->g + row * n, top = x[0];
        float d = r->k->dot(dy, s, n);
        double all = 0;
        for (int64_t i = 0; i < n; i++) top = MAX(top, x[i]);
        for (int64_t i = 0; i < n; i++) all += exp((double)(x[i] - top));
        for (int64_t i = 0; i < n; i++) {
            float p = a->norm ? s[i] : (float)(exp((double)(x[i] - top)) / all);
            float v = s[i] * dy[i] - p * d;
            dx[i] = adds(t, 0) ? dx[i] + v : v;
        }
    }
}

static void backward_route(const struct tensor *t, const struct run *r)
{
    op_parallel(t, r, t->rows, op_grain(t->cols), route_back_part);
}

const struct op op_route = {
    .name = "route",
    .rowwise = 1,
    .save = { SAVE_IN0 | SAVE_OUT },
    .shape = shape_route,
    .rows = route_part,
    .backward = backward_route,
};

tensor *g_route(graph *g, tensor *x, int64_t k, int norm)
{
    return graph_node(g, &op_route, (tensor *[]){ x }, 1, 0, &(struct route_args){ k, norm },
                      sizeof(struct route_args));
}
