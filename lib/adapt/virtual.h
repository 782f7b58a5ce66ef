/* Private to adapt/: methods whose adapters put tokens before a text. */
#ifndef ADAPT_VIRTUAL_H
#define ADAPT_VIRTUAL_H

#include "adapt/adapt.h"

#define VIRTUAL_NAME "prompt_embeddings"

/* What these methods have in common of struct method. */
int virtual_begin_at(struct model *m, struct adapted *d);
void virtual_shape(const struct adapted *d, int k, int64_t *rows, int64_t *cols);
int virtual_init(struct model *m, struct adapted *d, uint64_t seed, uint64_t stream);
struct tensor *virtual_tokens(struct pass *p, const struct adapted *d);
#define VIRTUAL_SETTINGS \
    { "num_virtual_tokens", 'i', offsetof(struct adapter, rank), 20, 1, 1 << 16 }, \
    { "token_dim", 'i', offsetof(struct adapter, virtual.width), 0, 0, 1 << 20 }, \
    { "num_layers", 'i', offsetof(struct adapter, virtual.layers), 0, 0, 1 << 16 }, \
    { "num_attention_heads", 'i', offsetof(struct adapter, virtual.heads), 0, 0, 1 << 16 }, \
    { "num_transformer_submodules", 'i', offsetof(struct adapter, virtual.stacks), 0, 0, 2 }
#define VIRTUAL_HIDDEN \
    { "encoder_hidden_size", 'i', offsetof(struct adapter, virtual.hidden), 0, 0, 1 << 16 }

/* The tensor of files, from the parts and into them. */
int virtual_out(const struct model *m, const struct adapted *d, struct arena *t,
                struct store_out *out);
int virtual_in(struct model *m, struct adapted *d, const struct store_tensor *t);

#endif
