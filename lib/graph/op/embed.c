/* y[i] = W[ids[i]].   dW[ids[i]] += dy[i], in the order of i.
 * W [V, D] of any stored type, y [N, D]. */
#include "graph/op.h"

struct embed_args { const int32_t *ids; int64_t n; };

static int shape_embed(struct tensor *t, struct graph *g)
{
    const struct embed_args *a = t->args;
    (void)g;
    t->rows = a->n;
    t->cols = t->in[0]->cols;
    int rc = op_blockwise(t->in[0]);
    return rc ? rc : op_index(a->ids, a->n, t->in[0]->rows, "id");
}

static void forward_embed(const struct tensor *t, const struct run *r)
{
    const struct embed_args *a = t->args;
    const struct matrix w = op_matrix(t->in[0]);
    op_gather(r, t->x, &w, a->ids, a->n);
}

static void backward_embed(const struct tensor *t, const struct run *r)
{
    const struct embed_args *a = t->args;
    op_clear(t, r, 0);
    op_scatter_add(r, t->in[0]->g, t->g, a->ids, a->n, t->cols, 1.0f);
}

const struct op op_embed = {
    .name = "embed",
    .part = 1,
    .stored = 1,
    .cheap = 1,
    .shape = shape_embed,
    .forward = forward_embed,
    .backward = backward_embed,
};

tensor *g_embed(graph *g, tensor *w, const int32_t *ids, int64_t n)
{
    return graph_node(g, &op_embed, (tensor *[]){ w }, 1, 0, &(struct embed_args){ ids, n },
                      sizeof(struct embed_args));
}
