/* Squared error: scale * sum over rows of the mean of (x - target)^2.
 * dx = 2 scale / C (x - target) dy.   x and target [n, C], value [1, 1]. */
#include "graph/op.h"

struct mse_args { const float *target; float scale; struct loss_stats *stats; };

static int shape_mse(struct tensor *t, struct graph *g)
{
    (void)g;
    op_loss_shape(t);
    return PEFT_OK;
}

static void forward_mse(const struct tensor *t, const struct run *r)
{
    const struct mse_args *a = t->args;
    const float *x = t->in[0]->x;
    int64_t cols = t->in[0]->cols;
    double sum = 0;
    (void)r;
    for (int64_t i = 0; i < tensor_len(t->in[0]);) {
        double before = sum;
        for (int64_t end = i + cols; i < end; i++) {
            double d = (double)x[i] - (double)a->target[i];
            sum += d * d;
        }
        op_term(a->stats, i / cols - 1, (sum - before) / (double)cols, 0);
    }
    sum /= (double)cols;
    op_loss(t, a->scale, sum, t->in[0]->rows, 0, a->stats);
}

static void backward_mse(const struct tensor *t, const struct run *r)
{
    const struct mse_args *a = t->args;
    const float *x = t->in[0]->x;
    float *dx = t->in[0]->g, scale = 2.0f * a->scale / (float)t->in[0]->cols * t->g[0];
    (void)r;
    for (int64_t i = 0; i < tensor_len(t->in[0]); i++) {
        float d = scale * (x[i] - a->target[i]);
        dx[i] = adds(t, 0) ? dx[i] + d : d;
    }
}

const struct op op_mse = {
    .name = "mse",
    .save = { SAVE_IN0 },
    .shape = shape_mse,
    .forward = forward_mse,
    .backward = backward_mse,
};

tensor *g_mse(graph *g, tensor *x, const float *target, float scale, struct loss_stats *stats)
{
    return graph_node(g, &op_mse, (tensor *[]){ x }, 1, 0,
                      &(struct mse_args){ target, scale, stats }, sizeof(struct mse_args));
}
