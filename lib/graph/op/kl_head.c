/* How far a language model is from a reference: with z = h W^T + b of the one and
 * z' = r W'^T + b of the other, p = softmax(z'), q = softmax(z), the value is
 * scale * sum over rows of KL(p || q) = sum_v p_v (log p_v - log q_v).
 *
 * As in xent_head, rows are taken in chunks, and forward makes the gradients at once:
 *     dz = scale (q - p),   dh = dz W into aux [N, D],   dW += dz^T h
 * With a cap both z are cap * tanh(z / cap).  The reference has no gradient.
 *
 * h [N, D], W [V, D], b [1, V] or absent, r [N, E], W' [V, E], value [1, 1]. */
#include <math.h>

#include "graph/op.h"

struct kl_head_args {
    const int32_t *target;
    float scale, cap;
    struct kl_stats *stats;
    int64_t chunk;                       /* rows at a time */
};
enum { KL_H, KL_W, KL_B, KL_REF, KL_REF_W };
enum { KL_SUMS = 6, KL_BYTES = 32 << 20 };

/* What a call works on, laid out in temp. */
struct kl_chunk { double *sum, *row; float *z, *p; int64_t begin, n; };

static struct kl_chunk kl_chunk_of(const struct tensor *t, int64_t step)
{
    const struct kl_head_args *a = t->args;
    struct kl_chunk c = { .sum = t->temp, .begin = step * a->chunk };
    c.row = c.sum + KL_SUMS;
    c.z = (float *)(c.row + a->chunk * KL_SUMS);
    c.p = c.z + a->chunk * t->in[KL_W]->rows;
    c.n = MIN(a->chunk, t->in[KL_H]->rows - c.begin);
    return c;
}

static int shape_kl_head(struct tensor *t, struct graph *g)
{
    struct kl_head_args *a = t->args;
    const struct tensor *h = t->in[KL_H], *w = t->in[KL_W], *b = t->in[KL_B], *r = t->in[KL_REF];
    const struct tensor *v = t->in[KL_REF_W];
    int rc = op_blockwise(w);
    (void)g;
    if (!rc) rc = op_blockwise(v);
    if (!rc && (h->cols != w->cols || r->cols != v->cols || h->rows != r->rows ||
                w->rows != v->rows))
        rc = fail(PEFT_EARG, "h [%lld, %lld] and W [%lld, %lld] beside [%lld, %lld] and [%lld, "
                  "%lld], expected equal rows", (long long)h->rows, (long long)h->cols,
                  (long long)w->rows, (long long)w->cols, (long long)r->rows, (long long)r->cols,
                  (long long)v->rows, (long long)v->cols);
    if (!rc && b) rc = op_vector(b, w->rows);
    if (!rc && wants(t, KL_W) && w->op)
        rc = fail(PEFT_EARG, "W is computed, expected a leaf when it trains");
    if (!rc && a->target) rc = op_index(a->target, h->rows, w->rows, "target");
    a->chunk = MAX(1, MIN(h->rows, KL_BYTES / (w->rows * 8)));
    op_loss_shape(t);
    if (wants(t, KL_H)) t->aux_bytes = tensor_len(h) * 4;
    t->work_bytes = (a->chunk + 1) * KL_SUMS * 8 + a->chunk * w->rows * 8;
    return rc;
}

static int64_t scratch_kl_head(const struct tensor *t)
{
    (void)t;
    return linear_scratch();
}

static int64_t steps_kl_head(const struct tensor *t)
{
    const struct kl_head_args *a = t->args;
    return MAX(1, div_up(t->in[KL_H]->rows, a->chunk));
}

/* log of the sum of exponentials; *best: where the largest is. */
static double kl_log_sum(const float *z, int64_t n, int64_t *best)
{
    double sum = 0;
    *best = 0;
    for (int64_t i = 1; i < n; i++)
        if (z[i] > z[*best]) *best = i;
    for (int64_t i = 0; i < n; i++) sum += (double)expf(z[i] - z[*best]);
    return log(sum) + (double)z[*best];
}

/* z becomes dz; s: KL, whether the likeliest is the same, furthest logit, and both
 * models' -log p(target). */
static void kl_row(const struct kl_head_args *a, double *s, float *z, const float *ref, int64_t n,
                   int32_t target)
{
    int64_t best, ref_best;
    double sum = kl_log_sum(z, n, &best), ref_sum = kl_log_sum(ref, n, &ref_best), kl = 0, most = 0;
    s[3] = target < 0 ? 0 : sum - (double)z[target];
    s[4] = target < 0 ? 0 : ref_sum - (double)ref[target];
    for (int64_t i = 0; i < n; i++) {
        double lq = (double)z[i] - sum, lp = (double)ref[i] - ref_sum;
        float p = expf((float)lp), q = expf((float)lq), slope = 1;
        kl += (double)p * (lp - lq);
        most = fmax(most, fabs((double)z[i] - (double)ref[i]));
        if (a->cap > 0) slope -= z[i] / a->cap * (z[i] / a->cap);
        z[i] = a->scale * (q - p) * slope;
    }
    s[0] = kl;
    s[1] = best == ref_best;
    s[2] = most;
}

static void kl_head_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                         int worker)
{
    const struct kl_head_args *a = t->args;
    const struct kl_chunk c = kl_chunk_of(t, r->step);
    int64_t v = t->in[KL_W]->rows;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        float *z = c.z + i * v, *p = c.p + i * v;
        if (t->in[KL_B]) {
            r->k->add(z, z, t->in[KL_B]->x, v);
            r->k->add(p, p, t->in[KL_B]->x, v);
        }
        for (int64_t k = 0; k < v && a->cap > 0; k++) {
            z[k] = a->cap * tanhf(z[k] / a->cap);
            p[k] = a->cap * tanhf(p[k] / a->cap);
        }
        kl_row(a, c.row + i * KL_SUMS, z, p, v, a->target ? a->target[c.begin + i] : -1);
    }
}

static void forward_kl_head(const struct tensor *t, const struct run *r)
{
    const struct kl_head_args *a = t->args;
    const struct kl_chunk c = kl_chunk_of(t, r->step);
    const struct matrix w = op_matrix(t->in[KL_W]), v = op_matrix(t->in[KL_REF_W]);
    const float *h = tensor_f32(t->in[KL_H]) + c.begin * w.cols;
    if (!r->step) memset(c.sum, 0, KL_SUMS * sizeof *c.sum);
    linear_forward(r->c, c.z, h, &w, c.n, 1.0f, 0.0f);
    linear_forward(r->c, c.p, tensor_f32(t->in[KL_REF]) + c.begin * v.cols, &v, c.n, 1.0f, 0.0f);
    op_parallel(t, r, c.n, op_grain(w.rows), kl_head_part);
    if (r->training && wants(t, KL_H))
        linear_dx(r->c, (float *)t->aux + c.begin * w.cols, c.z, &w, c.n, 1.0f, 0.0f);
    if (r->training && wants(t, KL_W))
        linear_dw(r->c, t->in[KL_W]->g, c.z, h, c.n, w.rows, w.cols, 1.0f);
    for (int64_t i = 0; i < c.n; i++)
        for (int k = 0; k < KL_SUMS - 1; k++) {
            double x = c.row[i * KL_SUMS + k];
            c.sum[k] = k == 2 ? fmax(c.sum[k], x) : c.sum[k] + x;
        }
    if (c.begin + c.n < t->in[KL_H]->rows) return;
    tensor_f32(t)[0] = (float)((double)a->scale * c.sum[0]);
    if (!a->stats) return;
    a->stats->kl += c.sum[0];
    a->stats->same += (int64_t)c.sum[1];
    a->stats->most = fmax(a->stats->most, c.sum[2]);
    a->stats->loss += c.sum[3];
    a->stats->ref_loss += c.sum[4];
    a->stats->count += t->in[KL_H]->rows;
}

static void backward_kl_head(const struct tensor *t, const struct run *r)
{
    if (wants(t, KL_H))
        op_axpy(r, t->in[KL_H]->g, t->aux, t->g[0], adds(t, KL_H), tensor_len(t->in[KL_H]));
}

static double flops_kl_head(const struct tensor *t)
{
    return 2.0 * (double)t->in[KL_H]->rows * (double)tensor_len(t->in[KL_W]);
}

/* Forward makes the gradients too, and reads W anew for that of h. */
static void cost_kl_head(const struct tensor *t, int backward, struct cost *c)
{
    if (backward) {
        c->flops = 0;
        c->bytes = 3.0 * (double)t->aux_bytes;
        return;
    }
    double made = (wants(t, KL_H) ? 1 : 0) + (wants(t, KL_W) ? 1 : 0);
    c->flops *= 2 + made;
    c->bytes += made * 4.0 * (double)tensor_len(t->in[KL_W]);
}

const struct op op_kl_head = {
    .name = "kl_head",
    .save = { SAVE_AUX },
    .stored = 1 << KL_W | 1 << KL_REF_W,
    .root = 1 << KL_W,
    .shape = shape_kl_head,
    .scratch = scratch_kl_head,
    .steps = steps_kl_head,
    .forward = forward_kl_head,
    .backward = backward_kl_head,
    .flops = flops_kl_head,
    .cost = cost_kl_head,
};

tensor *g_kl_head(graph *g, tensor *h, tensor *w, tensor *b, tensor *ref, tensor *ref_w,
                  const int32_t *target, float scale, float cap, struct kl_stats *stats)
{
    const struct kl_head_args a = { target, scale, cap, stats, 0 };
    return graph_node(g, &op_kl_head, (tensor *[]){ h, w, b, ref, ref_w }, 5, 1 << KL_B, &a,
                      sizeof a);
}
