/* Trainable tokens: chosen rows of an embedding, or of the output layer, train as
 * rows of their own that take the place of the model's (PEFT's TRAINABLE_TOKENS,
 * and trainable_token_indices beside LoRA).  The gradient is [n, dim]; where the
 * embedding is the output layer, both see the same rows. */
#include "adapt/adapt.h"

static int tokens_init(struct model *m, struct adapted *a, uint64_t seed, uint64_t stream)
{
    const struct param *w = a->site->w;
    (void)m;
    (void)seed;
    (void)stream;
    for (int64_t k = 0; k < a->rank && adapted_owns(a, 0); k++)
        qtype_expand(w->type, a->part[0]->own + k * w->cols, w->data, a->index[k] * w->cols,
                     w->cols);
    return PEFT_OK;
}

static struct tensor *tokens_after(struct pass *p, const struct adapted *a, struct tensor *x,
                                   struct tensor *y)
{
    return g_swap_cols(p->g, y, g_linear(p->g, x, nn_leaf(p, a->part[0])), a->index);
}

static struct tensor *tokens_embed(struct pass *p, const struct adapted *a, const int32_t *ids,
                                   int64_t n, struct tensor *y)
{
    (void)n;
    return g_swap_rows(p->g, y, nn_leaf(p, a->part[0]), ids, a->index);
}

static void tokens_merge(struct model *m, const struct adapted *a, float *w, float *b)
{
    int64_t cols = a->site->w->cols;
    (void)m;
    (void)b;
    for (int64_t k = 0; k < a->rank; k++)
        memcpy(w + a->index[k] * cols, a->part[0]->own + k * cols, (size_t)cols * 4);
}

#define TOKENS(suffix)                                                                       \
    .parts = { { suffix, PART_RANK, PART_IN, 0, SITE_LINEAR | SITE_EMBED } },                \
    .at = SITE_LINEAR | SITE_EMBED, .puts_rows = 1, .init = tokens_init,                     \
    .after = tokens_after, .embed = tokens_embed, .merge = tokens_merge

const struct method method_tokens = {
    .name = "tokens",
    .peft_type = "TRAINABLE_TOKENS",
    .about = "chosen rows of the embedding, in the place of the model's",
    .config = "\"init_weights\": true",
    .lr = 1e-3f,
    TOKENS("trainable_tokens_delta")
};

/* The same beside another method, in its files. */
const struct method method_tokens_beside = {
    .name = "tokens",
    TOKENS("token_adapter.trainable_tokens_delta")
};
