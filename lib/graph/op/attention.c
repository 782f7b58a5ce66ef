/* Softmax attention over key ranges: row i of a head gives
 * sum over lo[i] <= j < hi[i] of softmax(scale * q_i k_j) v_j.
 * Never T x T: see kernel.h's attn_forward.
 * q, y [nq, heads * head_dim], k and v [nk, kv_heads * head_dim], a bias of the
 * scores by distance [distances, heads] or none;
 * aux = log-sum-exp [nq, heads]. */
#include "graph/op.h"

static int check_attention(const struct tensor *t, const struct attn *a)
{
    if (a->heads < 1 || a->kv_heads < 1 || a->head_dim < 1 || a->heads % a->kv_heads)
        return fail(PEFT_EARG, "%d heads on %d key heads of %d", (int)a->heads, (int)a->kv_heads,
                    (int)a->head_dim);
    for (int k = 0; k < 3; k++) {
        const struct tensor *u = t->in[k];
        int64_t rows = k ? a->nk : a->nq;
        int64_t cols = (int64_t)(k ? a->kv_heads : a->heads) * a->head_dim;
        if (u->rows != rows || u->cols != cols)
            return fail(PEFT_EARG, "%c is [%lld, %lld], expected [%lld, %lld]", "qkv"[k],
                        (long long)u->rows, (long long)u->cols, (long long)rows, (long long)cols);
    }
    for (int64_t i = 0; i < a->nq; i++)
        if (a->lo[i] < 0 || a->hi[i] > a->nk)
            return fail(PEFT_EARG, "row %lld attends to [%d, %d), expected within %lld keys",
                        (long long)i, (int)a->lo[i], (int)a->hi[i], (long long)a->nk);
    return PEFT_OK;
}

/* Every distance that occurs has its row. */
static int check_bias(const struct tensor *b, const struct attn *a)
{
    if (!b != !a->distances || (b && (b->rows != a->distances || b->cols != a->heads)))
        return fail(PEFT_EARG, "the bias is [%lld, %lld], expected [%lld, %d]",
                    b ? (long long)b->rows : 0, b ? (long long)b->cols : 0,
                    (long long)a->distances, (int)a->heads);
    for (int64_t i = 0; b && i < a->nq; i++) {
        int64_t first = a->lo[i] - a->self[i] + a->origin, end = first + a->hi[i] - a->lo[i];
        if (end > first && (first < 0 || end > a->distances))
            return fail(PEFT_EARG, "row %lld needs the distances [%lld, %lld) of %lld",
                        (long long)i, (long long)first, (long long)end, (long long)a->distances);
    }
    return PEFT_OK;
}

static int shape_attention(struct tensor *t, struct graph *g)
{
    const struct attn *a = t->args;
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = t->in[0]->cols;
    t->aux_bytes = a->nq * a->heads * 4;
    t->work_bytes = attn_forward_work(a);
    t->temp_bytes = attn_backward_work(a);
    int rc = check_attention(t, a);
    return rc ? rc : check_bias(t->in[3], a);
}

/* Other queries on the same keys. */
static int gather_attention(struct graph *g, void *args, const int32_t *index, int64_t n)
{
    struct attn *a = args;
    int has_self = a->self != NULL;
    a->nq = n;
    a->lo = graph_pick(g, a->lo, index, n);
    a->hi = graph_pick(g, a->hi, index, n);
    a->self = graph_pick(g, a->self, index, n);
    return a->lo && a->hi && (a->self || !has_self) ? PEFT_OK : PEFT_ENOMEM;
}

static int64_t scratch_attention(const struct tensor *t)
{
    return attn_scratch(t->args);
}

static const float *bias_of(const struct tensor *t) { return t->in[3] ? t->in[3]->x : NULL; }

static void forward_attention(const struct tensor *t, const struct run *r)
{
    attn_forward(r->c, t->x, t->aux, t->in[0]->x, t->in[1]->x, t->in[2]->x, bias_of(t), t->args,
                 t->temp);
}

static float *attention_gradient(const struct tensor *t, int k)
{
    return wants(t, k) ? t->in[k]->g : NULL;
}

static void backward_attention(const struct tensor *t, const struct run *r)
{
    struct attn_grads g = {
        attention_gradient(t, 0), attention_gradient(t, 1), attention_gradient(t, 2),
        attention_gradient(t, 3), adds(t, 0), adds(t, 1), adds(t, 2), adds(t, 3)
    };
    attn_backward(r->c, &g, t->g, t->in[0]->x, t->in[1]->x, t->in[2]->x, bias_of(t), t->x, t->aux,
                  t->args, t->temp);
}

/* The two products q k^T and p v over the pairs that are attended to. */
static double flops_attention(const struct tensor *t)
{
    const struct attn *a = t->args;
    double pairs = 0;
    for (int64_t i = 0; i < a->nq; i++) pairs += MAX(0, a->hi[i] - a->lo[i]);
    return 4.0 * pairs * (double)t->cols;
}

/* Two products forward; back the scores once more, and the gradients of the scores and of
 * q, k and v. */
static void cost_attention(const struct tensor *t, int backward, struct cost *c)
{
    if (backward) c->flops = 2.5 * flops_attention(t);
}

enum { ATTENTION_SAVE = SAVE_IN0 | SAVE_IN1 | SAVE_IN2 | SAVE_IN3 | SAVE_OUT | SAVE_AUX };
const struct op op_attention = {
    .name = "attention",
    .rowwise = 1,
    .gather = gather_attention,
    .save = { ATTENTION_SAVE, ATTENTION_SAVE, ATTENTION_SAVE, ATTENTION_SAVE },
    .shape = shape_attention,
    .scratch = scratch_attention,
    .forward = forward_attention,
    .backward = backward_attention,
    .flops = flops_attention,
    .cost = cost_attention,
};

tensor *g_attention(graph *g, tensor *q, tensor *k, tensor *v, tensor *bias, const struct attn *a)
{
    return graph_node(g, &op_attention, (tensor *[]){ q, k, v, bias }, 4, 1 << 3, a, sizeof *a);
}
