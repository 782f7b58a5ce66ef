/* ModernBERT (Warner et al. 2024): pre-norm blocks with rotary positions and a
 * gated GELU, no biases; the first of every three layers sees all tokens, the
 * others those within half of local_attention to each side.  The first layer
 * has no norm before attention. */
#include "model/arch/rows.h"

static const struct key modernbert_keys[] = {
    KEYS_SIZES,
    KEY_FF,
    KEY_MAX_LEN,
    KEY_NORM_EPS("norm_eps"),
    { AT(window), 'i', 'o', "local_attention", "attention.sliding_window", 128, 1 << 30 },
    { AT(period), 'i', 'o', "global_attn_every_n_layers",
      "attention.sliding_window_pattern", 3, 4096 },
    { AT(theta), 'f', 'o', "rope_parameters.full_attention.rope_theta", "rope.freq_base", 0, 0 },
    { AT(theta), 'f', 'o', "global_rope_theta", NULL, 160000, 0 },
    { AT(local_theta), 'f', 'o', "rope_parameters.sliding_attention.rope_theta",
      "rope.freq_base_swa", 0, 0 },
    { AT(local_theta), 'f', 'o', "local_rope_theta", NULL, 10000, 0 },
    KEY_OFF("classifier_bias"),
    KEYS_END
};

#define MODERN_LAYER "model.layers.%d."
static const struct slot_row modernbert_slots[] = {
    ROW_EMBED("model.embeddings.tok_embeddings"),
    ROW_NORM(SLOT_EMBED_NORM, 0, DIM_MODEL, "model.embeddings.norm", "token_embd_norm"),
    ROW_NORM(SLOT_ATTN_NORM, SLOT_OPTIONAL, DIM_MODEL, MODERN_LAYER "attn_norm",
               "blk.%d.attn_norm"),
    ROW_LINEAR(SLOT_QKV, 0, DIM_QKV, DIM_MODEL, MODERN_LAYER "attn.Wqkv", "blk.%d.attn_qkv"),
    ROW_LINEAR(SLOT_O, 0, DIM_MODEL, DIM_Q, MODERN_LAYER "attn.Wo", "blk.%d.attn_output"),
    ROW_NORM(SLOT_FFN_NORM, 0, DIM_MODEL, MODERN_LAYER "mlp_norm", "blk.%d.ffn_norm"),
    ROW_LINEAR(SLOT_GATE_UP, 0, DIM_FF2, DIM_MODEL, MODERN_LAYER "mlp.Wi", "blk.%d.ffn_up"),
    ROW_LINEAR(SLOT_DOWN, 0, DIM_MODEL, DIM_FF, MODERN_LAYER "mlp.Wo", "blk.%d.ffn_down"),
    ROW_FINAL_NORM(0, "model.final_norm"),
    ROW_HEAD_DENSE(FOR_OUTPUT | FOR(HEAD_MASKED) | NB, "head.dense"),
    ROW_NORM(SLOT_HEAD_NORM, OF_HEAD | FOR_OUTPUT | FOR(HEAD_MASKED), DIM_MODEL, "head.norm",
             NULL),
    ROW_OUTPUT(FOR_OUTPUT, "classifier"),
    ROWS_MASKED_OUT("decoder", "decoder"),
    ROWS_END
};

const struct arch arch_modernbert = {
    "modernbert", "modern-bert", NULL, NULL, "ModernBertForSequenceClassification",
    "ModernBertModel", "model.",
    { .norm = NORM_LAYER, .pos = POS_ROPE, .act = ACT_GELU, .pool = POOL_CLS,
      .head_act = ACT_GELU, .global_first = 1, .gguf_bare = 1, .tied = 1 },
    modernbert_keys, modernbert_slots, NULL, NULL
};
