/* Inverted dropout (Srivastava et al. 2014): y = x * keep / (1 - p),
 * dx = dy * keep / (1 - p).  Element i is kept when 16 bits of Philox, half
 * word i % 8 of the block with counter (i / 8, stream) and key `seed`, are not
 * below p * 2^16; so p is exact to 2^-17, and a replay gives the same mask.
 * x, y [N, D]. */
#include "base/rng.h"
#include "graph/op.h"

struct dropout_args { uint64_t seed, stream; float scale; uint32_t limit; };
enum { DRAWS = 8, DROPOUT_MASK = 512 };          /* elements of a block, of a piece */

static int shape_dropout(struct tensor *t, struct graph *g)
{
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = t->in[0]->cols;
    return PEFT_OK;
}

/* The factors of elements [at, at + n); `at` is a multiple of DRAWS. */
static void dropout_mask(const struct dropout_args *a, float *mask, int64_t at, int64_t n)
{
    const uint32_t key[2] = { (uint32_t)a->seed, (uint32_t)(a->seed >> 32) };
    uint32_t u[4];
    for (int64_t i = 0; i < n; i += DRAWS) {
        uint64_t block = (uint64_t)(at + i) / DRAWS;
        const uint32_t counter[4] = { (uint32_t)block, (uint32_t)(block >> 32),
                                      (uint32_t)a->stream, (uint32_t)(a->stream >> 32) };
        philox4x32(counter, key, u);
        for (int64_t j = 0; j < MIN(DRAWS, n - i); j++)
            mask[i + j] = (u[j / 2] >> 16 * (j & 1) & 0xffff) < a->limit ? 0.0f : a->scale;
    }
}

static void dropout_apply(const struct tensor *t, const struct run *r, float *y, const float *x,
                          int add, int64_t begin, int64_t end)
{
    float mask[DROPOUT_MASK];
    for (int64_t at = begin, n; at < end; at += n) {
        n = MIN(end - at, DROPOUT_MASK);
        dropout_mask(t->args, mask, at, n);
        r->k->mul(y + at, x + at, mask, add, n);
    }
}

static void dropout_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                         int worker)
{
    (void)worker;
    dropout_apply(t, r, t->x, t->in[0]->x, 0, begin, end);
}

static void forward_dropout(const struct tensor *t, const struct run *r)
{
    op_parallel(t, r, tensor_len(t), OP_TASK, dropout_part);
}

static void dropout_back_part(const struct tensor *t, const struct run *r, int64_t begin,
                              int64_t end, int worker)
{
    (void)worker;
    dropout_apply(t, r, t->in[0]->g, t->g, adds(t, 0), begin, end);
}

static void backward_dropout(const struct tensor *t, const struct run *r)
{
    op_parallel(t, r, tensor_len(t), OP_TASK, dropout_back_part);
}

const struct op op_dropout = {
    .name = "dropout",
    .inplace = 1,
    .grad_inplace = 1,
    .cheap = 1,
    .shape = shape_dropout,
    .forward = forward_dropout,
    .backward = backward_dropout,
};

tensor *g_dropout(graph *g, tensor *x, float p, uint64_t seed, uint64_t stream)
{
    if (p == 0.0f) return x;
    if (!(p > 0.0f && p < 1.0f))
        return graph_fail(g, PEFT_EARG, "dropout of %g, expected 0 <= p < 1", (double)p);
    const struct dropout_args a = { seed, stream, 1.0f / (1.0f - p),
                                    (uint32_t)(p * 65536.0f + 0.5f) };
    return graph_node(g, &op_dropout, (tensor *[]){ x }, 1, 0, &a, sizeof a);
}
