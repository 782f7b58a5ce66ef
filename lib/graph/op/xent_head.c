/* Language-model head, softmax and cross entropy in one: with z = h[rows] W^T
 * + b, the value is scale * sum over i of -log softmax(z_i)[target[i]].
 *
 * Forward takes the rows in chunks, so that z never exists as a whole, and
 * makes the gradients at once, dz = scale (softmax(z) - onehot(target)):
 *     dh = dz W  into aux [n, D], which backward scatters,
 *     dW += dz^T h[rows],  db += sum of dz  where they train.
 * The latter two are right only for a node that is the loss (`root`).
 * Where only dh is wanted, not even a chunk of z exists (kernel/head.c).
 * A run can stop between chunks, or within.  With a cap, z is
 * cap * tanh(z' / cap) and dz' = dz * (1 - tanh(z' / cap)^2); z' / cap of a row
 * waits in scratch.
 *
 * Rows E [K, D] may take the place of W's rows index[K]: their columns of z are
 * h[rows] E^T, and dE += dz^T h[rows] of these columns, which are zero for W.
 *
 * h [N, D], W [V, D] of any stored type, b [1, V] or absent, value [1, 1];
 * rows [n], or NULL for all of h: then n = N. */
#include "graph/op.h"

struct xent_head_args {
    const int32_t *rows, *target;
    int64_t n;
    float scale, cap;
    const int32_t *index;
    struct loss_stats *stats;
    int64_t chunk;                       /* rows at a time */
};
enum { HEAD_PUT = 3 };                   /* the operand E */

/* What a call works on, laid out in temp. */
struct head_chunk {
    double *sum;                         /* loss and hits so far */
    float *z, *put, *loss, *h;           /* [chunk, V], [chunk, K], [chunk], [chunk, D] */
    uint8_t *hit;
    void *work;
    int64_t begin, n;
};
enum { HEAD_SUMS = 64, HEAD_ROWS_MIN = 16, HEAD_BYTES = 64 << 20, HEAD_STEPS = 4 };

/* Nothing needs z. */
static bool head_alone(const struct tensor *t)
{
    const struct xent_head_args *a = t->args;
    return a->cap == 0 && !t->in[HEAD_PUT] && !wants(t, 1) && !wants(t, 2);
}

/* Rows at a time: equal chunks, few, since every chunk expands W anew. */
static int64_t head_chunk_rows(int64_t row_bytes, int64_t n)
{
    int64_t most = MAX(HEAD_ROWS_MIN, HEAD_BYTES / row_bytes);
    return MAX(1, div_up(n, MAX(1, div_up(n, most))));
}

static int64_t head_put_rows(const struct tensor *t)
{
    return t->in[HEAD_PUT] ? t->in[HEAD_PUT]->rows : 0;
}

static struct head_chunk head_chunk_of(const struct tensor *t, int64_t step)
{
    const struct xent_head_args *a = t->args;
    struct head_chunk c = { .sum = t->temp, .begin = step * a->chunk };
    int64_t d = t->in[0]->cols;
    c.z = (float *)t->temp + HEAD_SUMS / 4;
    c.put = c.z + (head_alone(t) ? 0 : a->chunk * t->in[1]->rows);
    c.loss = c.put + a->chunk * head_put_rows(t);
    c.h = a->rows ? c.loss + a->chunk : tensor_f32(t->in[0]) + c.begin * d;
    c.hit = (uint8_t *)(c.loss + a->chunk * (a->rows ? 1 + d : 1));
    c.work = (char *)t->temp + div_up((char *)c.hit + a->chunk - (char *)t->temp, 64) * 64;
    c.n = MIN(a->chunk, a->n - c.begin);
    return c;
}

static int shape_put(const struct tensor *t)
{
    const struct xent_head_args *a = t->args;
    const struct tensor *w = t->in[1], *e = t->in[HEAD_PUT];
    if (!e) return PEFT_OK;
    if (e->cols != w->cols || (wants(t, HEAD_PUT) && e->op))
        return fail(PEFT_EARG, "rows of %lld columns in a W of %lld, expected equal, and a leaf "
                    "when they train", (long long)e->cols, (long long)w->cols);
    return op_index(a->index, e->rows, w->rows, "row of W");
}

static int shape_xent_head(struct tensor *t, struct graph *g)
{
    struct xent_head_args *a = t->args;
    const struct tensor *h = t->in[0], *w = t->in[1], *b = t->in[2];
    int64_t v = w->rows;
    int rc = op_blockwise(w);
    if (!rc && h->cols != w->cols)
        rc = fail(PEFT_EARG, "h has %lld columns, W %lld, expected equal", (long long)h->cols,
                  (long long)w->cols);
    if (!rc && b) rc = op_vector(b, v);
    if (!rc) rc = shape_put(t);
    if (!rc && ((wants(t, 1) && w->op) || (wants(t, 2) && b->op)))
        rc = fail(PEFT_EARG, "W or b is computed, expected leaves when they train");
    if (!rc && (a->rows ? a->n < 0 : a->n != h->rows))
        rc = fail(PEFT_EARG, "%lld targets on %lld rows", (long long)a->n, (long long)h->rows);
    if (!rc && a->rows) rc = op_index(a->rows, a->n, h->rows, "row");
    if (!rc) rc = op_index(a->target, a->n, v, "target");
    if (rc) return rc;
    const struct matrix m = op_matrix(w);
    int alone = head_alone(t), gradient = wants(t, 0);
    int64_t row_bytes = alone ? head_work(&m, 64, gradient) / 64 : v * 4;
    a->chunk = graph_chunk_rows(g, head_chunk_rows(row_bytes, a->n), row_bytes);
    op_loss_shape(t);
    if (gradient) t->aux_bytes = a->n * h->cols * 4;
    int64_t columns = (alone ? 0 : v) + head_put_rows(t) + 1 + (a->rows ? h->cols : 0);
    t->work_bytes = HEAD_SUMS + a->chunk * (columns * 4 + 1) + 64 +
                    (alone ? head_work(&m, a->chunk, gradient) : 0);
    return PEFT_OK;
}

static int64_t scratch_xent_head(const struct tensor *t)
{
    const struct xent_head_args *a = t->args;
    const struct matrix w = op_matrix(t->in[1]);
    return MAX(linear_scratch(), head_alone(t) ? head_scratch(&w) : a->cap > 0 ? w.rows * 4 : 0);
}

static int64_t steps_xent_head(const struct tensor *t)
{
    const struct xent_head_args *a = t->args;
    return MAX(1, div_up(a->n, a->chunk)) * (head_alone(t) ? HEAD_STEPS : 1);
}

static void xent_head_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                           int worker)
{
    const struct xent_head_args *a = t->args;
    const struct head_chunk c = head_chunk_of(t, r->step);
    int64_t v = t->in[1]->rows;
    float scale = r->training ? a->scale : 0.0f;
    float *bare = a->cap > 0 ? compute_scratch(r->c, worker) : NULL;
    for (int64_t i = begin; i < end; i++) {
        float *z = c.z + i * v;
        if (t->in[2]) r->k->add(z, z, t->in[2]->x, v);
        if (bare) {
            r->k->axpy(bare, z, 1.0f / a->cap, 0, v);
            r->k->act(z, bare, v, ACT_TANH);
            r->k->axpy(z, z, a->cap, 0, v);
        }
        r->k->xent(z, c.loss + i, c.hit + i, a->target + c.begin + i, 1, v, v, scale);
        if (scale == 0.0f && r->training) r->k->fill(z, 0.0f, v);
        if (bare && scale != 0.0f) r->k->act_back(z, z, bare, 0, v, ACT_TANH);
    }
}

/* The columns of E in z: what they are, or (back) out of z, whose part they leave. */
static void head_put(const struct tensor *t, const struct head_chunk *c, int back)
{
    const struct xent_head_args *a = t->args;
    int64_t n = head_put_rows(t), v = t->in[1]->rows;
    for (int64_t i = 0; i < c->n; i++)
        for (int64_t k = 0; k < n; k++) {
            float *z = c->z + i * v + a->index[k], *put = c->put + i * n + k;
            if (!back) *z = *put;
            else {
                *put = *z;
                *z = 0.0f;
            }
        }
}

static void xent_head_gradients(const struct tensor *t, const struct run *r,
                                const struct head_chunk *c, const struct matrix *w)
{
    float *dh = (float *)t->aux + c->begin * w->cols;
    int64_t puts = head_put_rows(t);
    const struct matrix e = puts ? op_matrix(t->in[HEAD_PUT]) : *w;
    if (wants(t, 2)) op_sum_rows(r, t->in[2]->g, c->z, NULL, c->n, w->rows, 1);
    if (puts) head_put(t, c, 1);
    if (wants(t, 0)) linear_dx(r->c, dh, c->z, w, c->n, 1.0f, 0.0f);
    if (wants(t, 0) && puts) linear_dx(r->c, dh, c->put, &e, c->n, 1.0f, 1.0f);
    if (wants(t, HEAD_PUT))
        linear_dw(r->c, t->in[HEAD_PUT]->g, c->put, c->h, c->n, puts, w->cols, 1.0f);
    if (wants(t, 1))
        linear_dw(r->c, t->in[1]->g, c->z, c->h, c->n, w->rows, w->cols, 1.0f);
}

static void by_logits(const struct tensor *t, const struct run *r, const struct head_chunk *c,
                      const struct matrix *w)
{
    linear_forward(r->c, c->z, c->h, w, c->n, 1.0f, 0.0f);
    if (t->in[HEAD_PUT]) {
        const struct matrix e = op_matrix(t->in[HEAD_PUT]);
        linear_forward(r->c, c->put, c->h, &e, c->n, 1.0f, 0.0f);
        head_put(t, c, 0);
    }
    op_parallel(t, r, c->n, op_grain(w->rows), xent_head_part);
    if (r->training) xent_head_gradients(t, r, c, w);
}

static void without_logits(const struct tensor *t, const struct run *r,
                           const struct head_chunk *c, const struct matrix *w, int part)
{
    const struct xent_head_args *a = t->args;
    const struct head head = {
        .h = c->h, .bias = t->in[2] ? t->in[2]->x : NULL, .w = w, .target = a->target + c->begin,
        .n = c->n, .scale = a->scale, .loss = c->loss, .hit = c->hit,
        .dh = r->training && wants(t, 0) ? (float *)t->aux + c->begin * w->cols : NULL,
    };
    head_loss(r->c, &head, c->work, part, HEAD_STEPS);
}

static void forward_xent_head(const struct tensor *t, const struct run *r)
{
    const struct xent_head_args *a = t->args;
    int parts = head_alone(t) ? HEAD_STEPS : 1, part = (int)(r->step % parts);
    const struct head_chunk c = head_chunk_of(t, r->step / parts);
    const struct matrix h = op_matrix(t->in[0]), w = op_matrix(t->in[1]);
    if (!r->step) c.sum[0] = c.sum[1] = 0;
    if (a->rows && !part) op_gather(r, c.h, &h, a->rows + c.begin, c.n);
    if (parts > 1) without_logits(t, r, &c, &w, part);
    else by_logits(t, r, &c, &w);
    if (part < parts - 1) return;
    for (int64_t i = 0; i < c.n; i++) {
        c.sum[0] += (double)c.loss[i];
        c.sum[1] += c.hit[i];
        op_term(a->stats, c.begin + i, (double)c.loss[i], c.hit[i]);
    }
    if (c.begin + c.n < a->n) return;
    op_loss(t, a->scale, c.sum[0], a->n, (int64_t)c.sum[1], a->stats);
}

static void backward_xent_head(const struct tensor *t, const struct run *r)
{
    const struct xent_head_args *a = t->args;
    if (!wants(t, 0)) return;
    if (a->rows) {
        op_clear(t, r, 0);
        op_scatter_add(r, t->in[0]->g, t->aux, a->rows, a->n, t->in[0]->cols, t->g[0]);
    } else {
        op_axpy(r, t->in[0]->g, t->aux, t->g[0], adds(t, 0), tensor_len(t->in[0]));
    }
}

static double flops_xent_head(const struct tensor *t)
{
    const struct xent_head_args *a = t->args;
    return 2.0 * (double)a->n * (double)tensor_len(t->in[1]);
}

/* Forward makes the gradients too, and reads W anew for that of h. */
static void cost_xent_head(const struct tensor *t, int backward, struct cost *c)
{
    if (backward) {
        c->flops = 0;
        c->bytes = 3.0 * (double)t->aux_bytes;
        return;
    }
    double made = (wants(t, 0) ? 1 : 0) + (wants(t, 1) ? 1 : 0);
    c->flops *= 1 + made;
    c->bytes += made * 4.0 * (double)tensor_len(t->in[1]);
}

const struct op op_xent_head = {
    .name = "xent_head",
    .save = { SAVE_AUX },
    .stored = 1 << 1,
    .root = 1 << 1 | 1 << 2 | 1 << HEAD_PUT,
    .shape = shape_xent_head,
    .scratch = scratch_xent_head,
    .steps = steps_xent_head,
    .forward = forward_xent_head,
    .backward = backward_xent_head,
    .flops = flops_xent_head,
    .cost = cost_xent_head,
};

tensor *g_xent_head(graph *g, tensor *h, tensor *w, tensor *b, const int32_t *rows,
                    const int32_t *target, int64_t n, float scale, struct loss_stats *stats)
{
    return g_xent_head_with(g, h, w, b, rows, target, n, scale, (struct head_opts){ 0 }, stats);
}

tensor *g_xent_head_with(graph *g, tensor *h, tensor *w, tensor *b, const int32_t *rows,
                         const int32_t *target, int64_t n, float scale, struct head_opts o,
                         struct loss_stats *stats)
{
    const struct xent_head_args a = { rows, target, n, scale, o.cap, o.index, stats, 0 };
    return graph_node(g, &op_xent_head, (tensor *[]){ h, w, b, o.rows }, 4,
                      1 << 2 | 1 << HEAD_PUT, &a, sizeof a);
}
