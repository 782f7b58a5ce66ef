/* Llama 1-3, SmolLM2, TinyLlama, Mistral, SmolLM 3, and Qwen 2 and 3, which add
 * biases (Qwen 2) or norms of q and k (Qwen 3): pre-norm RMS blocks with rotary
 * positions, grouped heads and a gated SiLU feed-forward. */
#include "model/arch/rows.h"

static const struct key llama_keys[] = { KEY_WINDOW, KEYS_LLAMA, KEYS_END };

/* Qwen's config.json carries a sliding_window that is used only on request. */
static const struct key qwen_keys[] = { KEYS_LLAMA, KEY_OFF("use_sliding_window"), KEYS_END };

/* Every fourth layer has no rotary positions, or as no_rope_layers says. */
static const struct key smollm3_keys[] = {
    KEYS_LLAMA,
    KEY_OFF("use_sliding_window"),
    { AT(nope_period), 'i', 'o', "no_rope_layer_interval", NULL, 4, 4096 },
    KEYS_END
};

#define LLAMA_NORM(slot, hf, gguf) ROW_NORM(slot, NB, DIM_MODEL, LLAMA_LAYER hf, "blk.%d." gguf)

static const struct slot_row llama_slots[] = {
    ROW_EMBED("model.embed_tokens"),
    LLAMA_NORM(SLOT_ATTN_NORM, "input_layernorm", "attn_norm"),
    ROWS_LLAMA_QKV(SLOT_ROPE_ROWS),
    ROWS_LLAMA_QK_NORM(DIM_HEAD, DIM_HEAD),
    ROW_LLAMA_O,
    LLAMA_NORM(SLOT_FFN_NORM, "post_attention_layernorm", "ffn_norm"),
    ROWS_LLAMA_FFN,
    ROWS_LLAMA_TOP,
    ROW_NORM(SLOT_ROPE_FREQS, SLOT_OPTIONAL | NB | SLOT_NOT_A_WEIGHT, DIM_ROT_HALF, NULL,
             "rope_freqs"),
    ROWS_END
};

#define LLAMA_STYLE(pair) \
    { .norm = NORM_RMS, .pos = POS_ROPE, .gated = 1, .act = ACT_SILU, .causal = 1, \
      .pool = POOL_LAST, .gguf_pair = pair }

const struct arch arch_llama = {
    "llama", "llama", CLASSES("Llama"), "model.", LLAMA_STYLE(1), llama_keys, llama_slots, NULL
};
const struct arch arch_mistral = {
    "mistral", "llama", CLASSES("Mistral"), "model.", LLAMA_STYLE(1), llama_keys, llama_slots, NULL
};
const struct arch arch_smollm3 = {
    "smollm3", "smollm3", CLASSES("SmolLM3"), "model.", LLAMA_STYLE(1), smollm3_keys, llama_slots,
    NULL
};
const struct arch arch_qwen2 = {
    "qwen2", "qwen2", CLASSES("Qwen2"), "model.", LLAMA_STYLE(0), qwen_keys, llama_slots, NULL
};
const struct arch arch_qwen3 = {
    "qwen3", "qwen3", CLASSES("Qwen3"), "model.", LLAMA_STYLE(0), qwen_keys, llama_slots, NULL
};
