/* Softmax and cross entropy: scale * sum over rows of -log softmax(z)[target].
 * dz = scale (softmax(z) - onehot(target)) dy, made by forward in aux.
 * z [n, C], value [1, 1]; temp = loss and hit of each row. */
#include "graph/op.h"

struct xent_args { const int32_t *target; float scale; struct loss_stats *stats; };

static int shape_xent(struct tensor *t, struct graph *g)
{
    const struct xent_args *a = t->args;
    const struct tensor *z = t->in[0];
    (void)g;
    op_loss_shape(t);
    t->aux_bytes = tensor_len(z) * 4;
    t->work_bytes = z->rows * 5;
    return op_index(a->target, z->rows, z->cols, "target");
}

static void xent_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                      int worker)
{
    const struct xent_args *a = t->args;
    const struct tensor *z = t->in[0];
    int64_t at = begin * z->cols, n = (end - begin) * z->cols;
    float *dz = (float *)t->aux + at, *loss = t->temp;
    uint8_t *hit = (uint8_t *)(loss + z->rows);
    float scale = r->training ? a->scale : 0.0f;
    (void)worker;
    memcpy(dz, tensor_f32(z) + at, (size_t)n * sizeof *dz);
    r->k->xent(dz, loss + begin, hit + begin, a->target + begin, end - begin, z->cols, z->cols,
               scale);
    if (r->training && scale == 0.0f) r->k->fill(dz, 0.0f, n);
}

static void forward_xent(const struct tensor *t, const struct run *r)
{
    const struct xent_args *a = t->args;
    int64_t n = t->in[0]->rows, hits = 0;
    const float *loss = t->temp;
    const uint8_t *hit = (const uint8_t *)(loss + n);
    double sum = 0;
    op_parallel(t, r, n, op_grain(t->in[0]->cols), xent_part);
    for (int64_t i = 0; i < n; i++) {
        sum += (double)loss[i];
        hits += hit[i];
        op_term(a->stats, i, (double)loss[i], hit[i]);
    }
    op_loss(t, a->scale, sum, n, hits, a->stats);
}

static void backward_xent(const struct tensor *t, const struct run *r)
{
    op_axpy(r, t->in[0]->g, t->aux, t->g[0], adds(t, 0), tensor_len(t->in[0]));
}

const struct op op_xent = {
    .name = "xent",
    .save = { SAVE_AUX },
    .shape = shape_xent,
    .forward = forward_xent,
    .backward = backward_xent,
};

tensor *g_xent(graph *g, tensor *logits, const int32_t *target, float scale,
               struct loss_stats *stats)
{
    return graph_node(g, &op_xent, (tensor *[]){ logits }, 1, 0,
                      &(struct xent_args){ target, scale, stats }, sizeof(struct xent_args));
}
