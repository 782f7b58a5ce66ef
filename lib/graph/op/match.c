/* Ranking within the batch (multiple negatives ranking loss, Henderson et al.
 * 2017): row i of z holds how well its text fits each of C candidates, of which
 * candidate i is its own.  scale * sum over i of -log softmax(z[i])[i].
 * Candidates that are the same text as its own are no negatives and left out.
 * dz = scale (softmax(z) - onehot(i)) dy, made by forward in aux.
 * z [n, C], n <= C, value [1, 1]; temp = own candidate, loss and hit of each row. */
#include "graph/op.h"

struct match_args { const int32_t *same; float scale; struct loss_stats *stats; };

static int shape_match(struct tensor *t, struct graph *g)
{
    const struct tensor *z = t->in[0];
    (void)g;
    op_loss_shape(t);
    t->aux_bytes = tensor_len(z) * 4;
    t->work_bytes = z->rows * 9;
    if (z->rows <= z->cols) return PEFT_OK;
    return fail(PEFT_EARG, "%lld texts and %lld candidates, expected one or more for each",
                (long long)z->rows, (long long)z->cols);
}

static void forward_match(const struct tensor *t, const struct run *r)
{
    const struct match_args *a = t->args;
    const struct tensor *z = t->in[0];
    int64_t n = z->rows, c = z->cols, hits = 0;
    int32_t *own = t->temp;
    float *loss = (float *)(own + n), *dz = t->aux;
    uint8_t *hit = (uint8_t *)(loss + n);
    double sum = 0;
    memcpy(dz, z->x, (size_t)tensor_len(z) * 4);
    for (int64_t i = 0; i < n; i++) {
        own[i] = (int32_t)i;
        for (int64_t j = 0; j < c; j++)
            if (j != i && a->same[j] == a->same[i]) dz[i * c + j] = -1e30f;
    }
    r->k->xent(dz, loss, hit, own, n, c, c, a->scale);
    if (a->scale == 0.0f) r->k->fill(dz, 0.0f, tensor_len(z));
    for (int64_t i = 0; i < n; i++) {
        sum += (double)loss[i];
        hits += hit[i];
        op_term(a->stats, i, (double)loss[i], hit[i]);
    }
    op_loss(t, a->scale, sum, n, hits, a->stats);
}

static void backward_match(const struct tensor *t, const struct run *r)
{
    op_axpy(r, t->in[0]->g, t->aux, t->g[0], adds(t, 0), tensor_len(t->in[0]));
}

const struct op op_match = {
    .name = "match",
    .save = { SAVE_AUX },
    .shape = shape_match,
    .forward = forward_match,
    .backward = backward_match,
};

tensor *g_match(graph *g, tensor *z, const int32_t *same, float scale, struct loss_stats *stats)
{
    return graph_node(g, &op_match, (tensor *[]){ z }, 1, 0,
                      &(struct match_args){ same, scale, stats }, sizeof(struct match_args));
}
