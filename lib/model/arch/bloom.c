/* BLOOM (Le Scao et al. 2022): ALiBi instead of positions, a norm of the
 * embeddings, and q, k, v of a head after each other in one module. */
#include "model/arch/rows.h"

static const struct key bloom_keys[] = {
    { AT(layers), 'i', 'o', "n_layer", "block_count", 0, 4096 },
    { AT(layers), 'i', 'r', "num_hidden_layers", NULL, 0, 4096 },
    { AT(dim), 'i', 'o', "hidden_size", "embedding_length", 0, 1 << 20 },
    { AT(dim), 'i', 'r', "n_embed", NULL, 0, 1 << 20 },
    { AT(heads), 'i', 'o', "n_head", "attention.head_count", 0, 1 << 16 },
    { AT(heads), 'i', 'r', "num_attention_heads", NULL, 0, 1 << 16 },
    { AT(ff), 'i', 'o', NULL, "feed_forward_length", 0, 1 << 24 },
    { AT(max_len), 'i', 'o', "seq_length", "context_length", 2048, 1 << 30 },
    KEY_NORM_EPS("layer_norm_epsilon"),
    KEY_OFF("apply_residual_connection_post_layernorm"),
    KEYS_END
};

#define BLOOM_LAYER "transformer.h.%d."
static const struct slot_row bloom_slots[] = {
    ROW_EMBED("transformer.word_embeddings"),
    ROW_NORM(SLOT_EMBED_NORM, 0, DIM_MODEL, "transformer.word_embeddings_layernorm",
             "token_embd_norm"),
    ROW_NORM(SLOT_ATTN_NORM, 0, DIM_MODEL, BLOOM_LAYER "input_layernorm", "blk.%d.attn_norm"),
    ROW_LINEAR(SLOT_QKV, 0, DIM_QKV, DIM_MODEL, BLOOM_LAYER "self_attention.query_key_value",
               "blk.%d.attn_qkv"),
    ROW_LINEAR(SLOT_O, 0, DIM_MODEL, DIM_Q, BLOOM_LAYER "self_attention.dense",
               "blk.%d.attn_output"),
    ROW_NORM(SLOT_FFN_NORM, 0, DIM_MODEL, BLOOM_LAYER "post_attention_layernorm",
             "blk.%d.ffn_norm"),
    ROW_LINEAR(SLOT_UP, 0, DIM_FF, DIM_MODEL, BLOOM_LAYER "mlp.dense_h_to_4h", "blk.%d.ffn_up"),
    ROW_LINEAR(SLOT_DOWN, 0, DIM_MODEL, DIM_FF, BLOOM_LAYER "mlp.dense_4h_to_h",
               "blk.%d.ffn_down"),
    ROW_FINAL_NORM(0, "transformer.ln_f"),
    ROW_LM_HEAD(0, "lm_head"),
    ROW_CLASSIFIER(NB, "score"),
    ROW_TOKENS("classifier"),
    ROW_SPAN,
    ROWS_END
};

const struct arch arch_bloom = {
    "bloom", "bloom", NULL, CLASSES("Bloom"), "transformer.",
    { .norm = NORM_LAYER, .pos = POS_ALIBI, .act = ACT_GELU_TANH, .causal = 1, .pool = POOL_LAST,
      .tied = 1, .qkv_groups = 1 },
    bloom_keys, bloom_slots, NULL, NULL
};
