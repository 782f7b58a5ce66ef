/* Extractive question answering (Rajpurkar et al. 2016; Devlin et al. 2019):
 * for each segment s, the rows [start[s], start[s+1]) of x, the mean of
 *     -log softmax(x[.., 0])[span[2s]]  and  -log softmax(x[.., 1])[span[2s+1]],
 * summed and scaled.  dx = scale / 2 (softmax - onehot) dy, made by forward in
 * aux.   x [N, 2], value [1, 1]; span counts rows of x. */
#include <math.h>

#include "graph/op.h"

struct span_args {
    const int32_t *start, *span;
    int64_t n;
    float scale;
    struct loss_stats *stats;
};

static int shape_span(struct tensor *t, struct graph *g)
{
    const struct span_args *a = t->args;
    (void)g;
    op_loss_shape(t);
    t->aux_bytes = tensor_len(t->in[0]) * 4;
    if (t->in[0]->cols != 2)
        return fail(PEFT_EARG, "x has %lld columns, expected 2", (long long)t->in[0]->cols);
    if (a->start[0] != 0 || a->start[a->n] != t->in[0]->rows)
        return fail(PEFT_EARG, "the segments do not cover all rows");
    int rc = op_index(a->start, a->n + 1, t->in[0]->rows + 1, "segment start");
    return rc ? rc : op_index(a->span, 2 * a->n, t->in[0]->rows, "answer");
}

/* One column of one segment: its loss; *best is its largest row. */
static double span_side(const struct tensor *t, int64_t s, int64_t side, int64_t *best)
{
    const struct span_args *a = t->args;
    const float *x = t->in[0]->x;
    float *dx = t->aux;
    int64_t from = a->start[s], to = a->start[s + 1], target = a->span[2 * s + side];
    double sum = 0, top = -INFINITY;
    *best = from;
    for (int64_t i = from; i < to; i++) {
        if ((double)x[2 * i + side] <= top) continue;
        top = (double)x[2 * i + side];
        *best = i;
    }
    for (int64_t i = from; i < to; i++) sum += exp((double)x[2 * i + side] - top);
    for (int64_t i = from; i < to; i++)
        dx[2 * i + side] = 0.5f * a->scale *
            ((float)(exp((double)x[2 * i + side] - top) / sum) - (i == target ? 1.0f : 0.0f));
    return log(sum) + top - (double)x[2 * target + side];
}

static void forward_span(const struct tensor *t, const struct run *r)
{
    const struct span_args *a = t->args;
    int64_t hits = 0, best[2];
    double sum = 0;
    (void)r;
    for (int64_t s = 0; s < a->n; s++) {
        double before = sum;
        for (int64_t side = 0; side < 2; side++) sum += 0.5 * span_side(t, s, side, &best[side]);
        int hit = best[0] == a->span[2 * s] && best[1] == a->span[2 * s + 1];
        hits += hit;
        op_term(a->stats, s, sum - before, hit);
    }
    op_loss(t, a->scale, sum, a->n, hits, a->stats);
}

static void backward_span(const struct tensor *t, const struct run *r)
{
    op_axpy(r, t->in[0]->g, t->aux, t->g[0], adds(t, 0), tensor_len(t->in[0]));
}

const struct op op_span = {
    .name = "span",
    .save = { SAVE_AUX },
    .shape = shape_span,
    .forward = forward_span,
    .backward = backward_span,
};

tensor *g_span(graph *g, tensor *x, const int32_t *start, const int32_t *span, int64_t n,
               float scale, struct loss_stats *stats)
{
    return graph_node(g, &op_span, (tensor *[]){ x }, 1, 0,
                      &(struct span_args){ start, span, n, scale, stats },
                      sizeof(struct span_args));
}
