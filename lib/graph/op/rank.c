/* Pairwise ranking loss of reward models (Bradley & Terry 1952; Ouyang et al.
 * 2022): scale * sum over i < n of -log sigmoid(d), d = x[i] - x[n + i] -
 * margin[i].  dx[i] = -scale (1 - sigmoid(d)) dy, dx[n + i] its negative.
 * x [2n, 1]: the better one of each pair, then the worse ones; value [1, 1]. */
#include <math.h>

#include "graph/op.h"

struct rank_args { const float *margin; float scale; struct loss_stats *stats; };

static int shape_rank(struct tensor *t, struct graph *g)
{
    (void)g;
    op_loss_shape(t);
    if (t->in[0]->cols == 1 && t->in[0]->rows % 2 == 0) return PEFT_OK;
    return fail(PEFT_EARG, "x is [%lld, %lld], expected one column and an even number of rows",
                (long long)t->in[0]->rows, (long long)t->in[0]->cols);
}

static void forward_rank(const struct tensor *t, const struct run *r)
{
    const struct rank_args *a = t->args;
    const float *x = t->in[0]->x;
    int64_t n = t->in[0]->rows / 2, hits = 0;
    double sum = 0;
    (void)r;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)x[n + i] - (a->margin ? (double)a->margin[i] : 0);
        double loss = MAX(-d, 0) + log1p(exp(-fabs(d)));
        sum += loss;
        hits += x[i] > x[n + i];
        op_term(a->stats, i, loss, x[i] > x[n + i]);
    }
    op_loss(t, a->scale, sum, n, hits, a->stats);
}

static void backward_rank(const struct tensor *t, const struct run *r)
{
    const struct rank_args *a = t->args;
    const float *x = t->in[0]->x;
    int64_t n = t->in[0]->rows / 2;
    float *dx = t->in[0]->g;
    (void)r;
    for (int64_t i = 0; i < n; i++) {
        float d = x[i] - x[n + i] - (a->margin ? a->margin[i] : 0);
        float g = -a->scale * t->g[0] / (1.0f + expf(d));
        dx[i] = adds(t, 0) ? dx[i] + g : g;
        dx[n + i] = adds(t, 0) ? dx[n + i] - g : -g;
    }
}

const struct op op_rank = {
    .name = "rank",
    .save = { SAVE_IN0 },
    .shape = shape_rank,
    .forward = forward_rank,
    .backward = backward_rank,
};

tensor *g_rank(graph *g, tensor *x, const float *margin, float scale, struct loss_stats *stats)
{
    return graph_node(g, &op_rank, (tensor *[]){ x }, 1, 0,
                      &(struct rank_args){ margin, scale, stats }, sizeof(struct rank_args));
}
