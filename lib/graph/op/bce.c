/* Binary cross entropy of independent labels, from logits (torch's
 * BCEWithLogitsLoss): scale * sum over rows of the mean over columns of
 *     max(x, 0) - x y + log(1 + exp(-|x|)).
 * dx = scale / C (sigmoid(x) - y) dy.   x and y [n, C], value [1, 1]; a hit is a
 * row whose labels are all on the right side of 1/2. */
#include <math.h>

#include "graph/op.h"

struct bce_args { const float *target; float scale; struct loss_stats *stats; };

static int shape_bce(struct tensor *t, struct graph *g)
{
    (void)g;
    op_loss_shape(t);
    return PEFT_OK;
}

static void forward_bce(const struct tensor *t, const struct run *r)
{
    const struct bce_args *a = t->args;
    const float *x = t->in[0]->x, *y = a->target;
    int64_t cols = t->in[0]->cols, hits = 0;
    double sum = 0;
    (void)r;
    for (int64_t i = 0; i < t->in[0]->rows; i++) {
        double before = sum;
        int right = 1;
        for (int64_t c = 0; c < cols; c++, x++, y++) {
            sum += MAX((double)*x, 0) - (double)*x * (double)*y + log1p(exp(-fabs((double)*x)));
            right &= (*x > 0) == (*y > 0.5f);
        }
        hits += right;
        op_term(a->stats, i, (sum - before) / (double)cols, right);
    }
    sum /= (double)cols;
    op_loss(t, a->scale, sum, t->in[0]->rows, hits, a->stats);
}

static void backward_bce(const struct tensor *t, const struct run *r)
{
    const struct bce_args *a = t->args;
    const float *x = t->in[0]->x;
    float *dx = t->in[0]->g, scale = a->scale / (float)t->in[0]->cols * t->g[0];
    (void)r;
    for (int64_t i = 0; i < tensor_len(t->in[0]); i++) {
        float d = scale * (1.0f / (1.0f + expf(-x[i])) - a->target[i]);
        dx[i] = adds(t, 0) ? dx[i] + d : d;
    }
}

const struct op op_bce = {
    .name = "bce",
    .save = { SAVE_IN0 },
    .shape = shape_bce,
    .forward = forward_bce,
    .backward = backward_bce,
};

tensor *g_bce(graph *g, tensor *x, const float *target, float scale, struct loss_stats *stats)
{
    return graph_node(g, &op_bce, (tensor *[]){ x }, 1, 0,
                      &(struct bce_args){ target, scale, stats }, sizeof(struct bce_args));
}
