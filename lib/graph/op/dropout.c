/* Inverted dropout (Srivastava et al. 2014): y = x * keep / (1 - p),
 * dx = dy * keep / (1 - p).   x, y [N, D].
 *
 * An element is kept when 16 random bits are not below p * 2^16; they depend
 * on its index alone, so a replay gives the same mask.  A piece of 512 elements
 * takes 64 blocks of Philox4x32-10 (base/rng.h): element q of piece i has the
 * half q / 256 of word q % 256 / 64 of the block with counter (64 i + q % 64,
 * stream) and key `seed`.  That order lets the compiler vectorise. */
#include "graph/op.h"

struct dropout_args { uint64_t seed, stream; float scale; uint32_t limit; };
enum { DROP_BLOCKS = 64, DROP_PIECE = 8 * DROP_BLOCKS };

static int shape_dropout(struct tensor *t, struct graph *g)
{
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = t->in[0]->cols;
    return PEFT_OK;
}

/* philox4x32 of many counters side by side: w[k][i] is word k of block first + i. */
static void philox_blocks(const struct dropout_args *a, uint64_t first,
                          uint32_t w[4][DROP_BLOCKS])
{
    uint32_t k0 = (uint32_t)a->seed, k1 = (uint32_t)(a->seed >> 32);
    for (int i = 0; i < DROP_BLOCKS; i++) {
        w[0][i] = (uint32_t)(first + (uint64_t)i);
        w[1][i] = (uint32_t)((first + (uint64_t)i) >> 32);
        w[2][i] = (uint32_t)a->stream;
        w[3][i] = (uint32_t)(a->stream >> 32);
    }
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        for (int i = 0; i < DROP_BLOCKS; i++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * w[0][i], p1 = (uint64_t)0xCD9E8D57u * w[2][i];
            w[0][i] = (uint32_t)(p1 >> 32) ^ w[1][i] ^ k0;
            w[2][i] = (uint32_t)(p0 >> 32) ^ w[3][i] ^ k1;
            w[1][i] = (uint32_t)p1;
            w[3][i] = (uint32_t)p0;
        }
    }
}

static void dropout_mask(const struct dropout_args *a, float *mask, int64_t piece)
{
    uint32_t w[4][DROP_BLOCKS];
    const uint32_t limit = a->limit;
    const float scale = a->scale;
    philox_blocks(a, (uint64_t)piece * DROP_BLOCKS, w);
    for (int k = 0; k < 4; k++, mask += DROP_BLOCKS) {
        for (int i = 0; i < DROP_BLOCKS; i++) {
            mask[i] = (w[k][i] & 0xffff) < limit ? 0.0f : scale;
            mask[i + DROP_PIECE / 2] = w[k][i] >> 16 < limit ? 0.0f : scale;
        }
    }
}

/* OP_TASK, and so every `begin`, is a multiple of DROP_PIECE. */
static void dropout_apply(const struct tensor *t, const struct run *r, float *y, const float *x,
                          int add, int64_t begin, int64_t end)
{
    float mask[DROP_PIECE];
    for (int64_t at = begin; at < end; at += DROP_PIECE) {
        dropout_mask(t->args, mask, at / DROP_PIECE);
        r->k->mul(y + at, x + at, mask, add, MIN(end - at, DROP_PIECE));
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
