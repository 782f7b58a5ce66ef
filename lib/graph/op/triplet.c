/* Triplets (Schroff et al. 2015): an anchor is nearer to its positive than to
 * its negative.  scale * sum over i of max(0, d(a, p) - d(a, n) + margin), where
 * d(x, y) = |x - y + 1e-6| as in torch's pairwise_distance.
 * a, p, n [N, D], value [1, 1]; aux = distances [N, 2]. */
#include "graph/op.h"

#include <math.h>

struct triplet_args { float margin, scale; struct loss_stats *stats; };

static int shape_triplet(struct tensor *t, struct graph *g)
{
    (void)g;
    op_loss_shape(t);
    t->aux_bytes = t->in[0]->rows * 8;
    int rc = op_same(t->in[0], t->in[1]);
    return rc ? rc : op_same(t->in[0], t->in[2]);
}

static float apart(const struct tensor *t, int64_t i, int64_t k, int other)
{
    int64_t at = i * t->in[0]->cols + k;
    return tensor_f32(t->in[0])[at] - tensor_f32(t->in[other])[at] + 1e-6f;
}

static void forward_triplet(const struct tensor *t, const struct run *r)
{
    const struct triplet_args *a = t->args;
    int64_t n = t->in[0]->rows, hits = 0;
    float *d = t->aux;
    double total = 0;
    (void)r;
    for (int64_t i = 0; i < n; i++) {
        for (int other = 1; other < 3; other++) {
            double sum = 0;
            for (int64_t k = 0; k < t->in[0]->cols; k++) {
                double x = (double)apart(t, i, k, other);
                sum += x * x;
            }
            d[2 * i + other - 1] = (float)sqrt(sum);
        }
        double loss = fmax(0, (double)d[2 * i] - (double)d[2 * i + 1] + (double)a->margin);
        total += loss;
        hits += d[2 * i] < d[2 * i + 1];
        op_term(a->stats, i, loss, d[2 * i] < d[2 * i + 1]);
    }
    op_loss(t, a->scale, total, n, hits, a->stats);
}

/* d|x - y| / dx = (x - y) / |x - y|; nothing where the margin is kept. */
static void backward_triplet(const struct tensor *t, const struct run *r)
{
    const struct triplet_args *a = t->args;
    const float *d = t->aux;
    int64_t cols = t->in[0]->cols;
    for (int k = 0; k < 3; k++)
        if (wants(t, k)) op_clear(t, r, k);
    for (int64_t i = 0; i < t->in[0]->rows; i++) {
        if (!(d[2 * i] - d[2 * i + 1] + a->margin > 0)) continue;
        float w = a->scale * t->g[0];
        float near = d[2 * i] > 0 ? w / d[2 * i] : 0, far = d[2 * i + 1] > 0 ? w / d[2 * i + 1] : 0;
        for (int64_t k = 0; k < cols; k++) {
            float p = near * apart(t, i, k, 1), n = far * apart(t, i, k, 2);
            if (wants(t, 0)) t->in[0]->g[i * cols + k] += p - n;
            if (wants(t, 1)) t->in[1]->g[i * cols + k] -= p;
            if (wants(t, 2)) t->in[2]->g[i * cols + k] += n;
        }
    }
}

enum { TRIPLET_SAVE = SAVE_IN0 | SAVE_IN1 | SAVE_IN2 | SAVE_AUX };
const struct op op_triplet = {
    .name = "triplet",
    .save = { TRIPLET_SAVE, TRIPLET_SAVE, TRIPLET_SAVE },
    .shape = shape_triplet,
    .forward = forward_triplet,
    .backward = backward_triplet,
};

tensor *g_triplet(graph *g, tensor *a, tensor *p, tensor *n, float margin, float scale,
                  struct loss_stats *stats)
{
    return graph_node(g, &op_triplet, (tensor *[]){ a, p, n }, 3, 0,
                      &(struct triplet_args){ margin, scale, stats }, sizeof(struct triplet_args));
}
