/* Gemma 1, 2 and 3 (text): Llama's block with embeddings scaled by the root of
 * dim, norms of 1 + w (GGUF holds them with the 1 added), a tanh GELU, and
 * tied embeddings.  Gemma 2 adds norms after each sub-layer, soft caps and
 * local layers; Gemma 3 norms of q and k and another rope base in local layers,
 * and drops the caps. */
#include "model/arch/rows.h"

static const struct key gemma_keys[] = { KEYS_LLAMA, KEYS_END };

static const struct key gemma2_keys[] = {
    KEYS_LLAMA,
    KEY_WINDOW,
    { AT(period), 'i', 'o', NULL, NULL, 2, 4096 },
    { AT(attn_scalar), 'i', 'o', "query_pre_attn_scalar", NULL, 0, 1 << 20 },
    { AT(attn_cap), 'f', 'o', "attn_logit_softcapping", "attn_logit_softcapping", 0, 0 },
    { AT(logit_cap), 'f', 'o', "final_logit_softcapping", "final_logit_softcapping", 0, 0 },
    KEYS_END
};

static const struct key gemma3_keys[] = {
    { AT(theta), 'f', 'o', "rope_parameters.full_attention.rope_theta", "rope.freq_base", 0, 0 },
    { AT(theta), 'f', 'o', "rope_theta", NULL, 1e6, 0 },
    { AT(local_theta), 'f', 'o', "rope_parameters.sliding_attention.rope_theta",
      "rope.freq_base_swa", 0, 0 },
    { AT(local_theta), 'f', 'o', "rope_local_base_freq", NULL, 10000, 0 },
    KEYS_SIZES, KEY_KV_HEADS, KEYS_HEAD_DIM, KEY_FF, KEY_MAX_LEN, KEY_ROT, KEY_RMS_EPS(1e-6),
    KEY_WINDOW,
    { AT(period), 'i', 'o', "sliding_window_pattern", "attention.sliding_window_pattern", 0, 4096 },
    { AT(period), 'i', 'o', "_sliding_window_pattern", NULL, 6, 4096 },
    { AT(attn_scalar), 'i', 'o', "query_pre_attn_scalar", NULL, 0, 1 << 20 },
    { AT(attn_cap), 'f', 'o', "attn_logit_softcapping", NULL, 0, 0 },
    { AT(logit_cap), 'f', 'o', "final_logit_softcapping", NULL, 0, 0 },
    KEY_OFF("use_bidirectional_attention"),
    KEYS_END
};

#define GEMMA_NORM(slot, hf, gguf) ROW_NORM(slot, NB, DIM_MODEL, LLAMA_LAYER hf, "blk.%d." gguf)

static const struct slot_row gemma_slots[] = {
    ROW_EMBED("model.embed_tokens"),
    GEMMA_NORM(SLOT_ATTN_NORM, "input_layernorm", "attn_norm"),
    ROWS_LLAMA_QKV(0),
    ROW_LLAMA_O,
    GEMMA_NORM(SLOT_FFN_NORM, "post_attention_layernorm", "ffn_norm"),
    ROWS_LLAMA_FFN,
    ROWS_LLAMA_TOP,
    ROWS_END
};

static const struct slot_row gemma2_slots[] = {
    ROW_EMBED("model.embed_tokens"),
    GEMMA_NORM(SLOT_ATTN_NORM, "input_layernorm", "attn_norm"),
    ROWS_LLAMA_QKV(0),
    ROWS_LLAMA_QK_NORM(DIM_HEAD, DIM_HEAD),
    ROW_LLAMA_O,
    GEMMA_NORM(SLOT_ATTN_POST, "post_attention_layernorm", "post_attention_norm"),
    GEMMA_NORM(SLOT_FFN_NORM, "pre_feedforward_layernorm", "ffn_norm"),
    ROWS_LLAMA_FFN,
    GEMMA_NORM(SLOT_FFN_POST, "post_feedforward_layernorm", "post_ffw_norm"),
    ROWS_LLAMA_TOP,
    ROWS_END
};

#define GEMMA_STYLED(...) \
    { .norm = NORM_RMS, .norm_plus = 1, .embed_scale = 1, .pos = POS_ROPE, \
      .act = ACT_GELU_TANH, .causal = 1, .pool = POOL_LAST, .tied = 1, __VA_ARGS__ }
#define GEMMA_STYLE GEMMA_STYLED(.scalar = 0)
#define GEMMA2_STYLE GEMMA_STYLED(.scalar = 1)

const struct arch arch_gemma = {
    "gemma", "gemma", NULL, CLASSES("Gemma"), "model.", GEMMA_STYLE, gemma_keys, gemma_slots,
    NULL, NULL
};
const struct arch arch_gemma2 = {
    "gemma2", "gemma2", NULL, CLASSES("Gemma2"), "model.", GEMMA2_STYLE, gemma2_keys, gemma2_slots,
    NULL, NULL
};
const struct arch arch_gemma3_text = {
    "gemma3_text", "gemma3", NULL, "Gemma3ForCausalLM", "Gemma3TextForSequenceClassification",
    "Gemma3TextModel", "model.", GEMMA2_STYLE, gemma3_keys, gemma2_slots, NULL, NULL
};
