/* CoSENT (Su 2022): pairs that should be more alike score higher.
 * scale * log(1 + sum over i, j with target[i] < target[j] of exp(s[i] - s[j])).
 * ds[i] += w, ds[j] -= w with w = scale * exp(s[i] - s[j] - that logarithm),
 * made by forward in aux.   s [n, 1], target [n], value [1, 1]. */
#include "graph/op.h"

#include <math.h>

struct cosent_args { const float *target; float scale; struct loss_stats *stats; };

static int shape_cosent(struct tensor *t, struct graph *g)
{
    (void)g;
    op_loss_shape(t);
    t->aux_bytes = t->in[0]->rows * 4;
    if (t->in[0]->cols == 1) return PEFT_OK;
    return fail(PEFT_EARG, "scores have %lld columns, expected 1", (long long)t->in[0]->cols);
}

static void forward_cosent(const struct tensor *t, const struct run *r)
{
    const struct cosent_args *a = t->args;
    const float *s = t->in[0]->x;
    int64_t n = t->in[0]->rows;
    double top = 0, sum = 0;
    float *ds = t->aux;
    r->k->fill(ds, 0.0f, n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            if (a->target[i] < a->target[j]) top = fmax(top, (double)s[i] - (double)s[j]);
    sum = exp(-top);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            if (a->target[i] < a->target[j]) sum += exp((double)s[i] - (double)s[j] - top);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            if (!(a->target[i] < a->target[j])) continue;
            float w = a->scale * (float)(exp((double)s[i] - (double)s[j] - top) / sum);
            ds[i] += w;
            ds[j] -= w;
        }
    tensor_f32(t)[0] = (float)(a->scale * (top + log(sum)));
    if (!a->stats) return;
    a->stats->loss += (top + log(sum)) * (double)n;
    a->stats->count += n;
    for (int64_t i = 0; i < n; i++) op_term(a->stats, i, top + log(sum), 0);
}

static void backward_cosent(const struct tensor *t, const struct run *r)
{
    op_axpy(r, t->in[0]->g, t->aux, t->g[0], adds(t, 0), t->in[0]->rows);
}

const struct op op_cosent = {
    .name = "cosent",
    .save = { SAVE_AUX },
    .shape = shape_cosent,
    .forward = forward_cosent,
    .backward = backward_cosent,
};

tensor *g_cosent(graph *g, tensor *s, const float *target, float scale, struct loss_stats *stats)
{
    return graph_node(g, &op_cosent, (tensor *[]){ s }, 1, 0,
                      &(struct cosent_args){ target, scale, stats }, sizeof(struct cosent_args));
}
