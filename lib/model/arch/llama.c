/* Llama 1-3, SmolLM2, TinyLlama, Mistral, SmolLM 3, and Qwen 2 and 3, which add
 * biases (Qwen 2) or norms of q and k (Qwen 3): pre-norm RMS blocks with rotary
 * positions, grouped heads and a gated SiLU feed-forward; Mixtral and Qwen 3's
 * mixtures of experts. */
#include "model/arch/rows.h"

/* config.json of a Llama may carry a sliding_window that the model does not
 * use; in GGUF a llama with a window is Mistral. */
static const struct key llama_keys[] = { KEYS_LLAMA, KEYS_END };
static const struct key mistral_keys[] = { KEY_WINDOW, KEYS_LLAMA, KEYS_END };

/* Layers from max_window_layers on have the window, if it is used at all. */
static const struct key qwen_keys[] = {
    { AT(window), 'i', 'o', "sliding_window", NULL, 0, 1 << 30 },
    { AT(full_layers), 'i', 'o', "max_window_layers", NULL, 28, 1 << 30 },
    KEYS_LLAMA,
    KEYS_END
};

static int qwen_settle(const struct store *s, struct hparams *hp)
{
    int on = 0;
    int rc = store_config(s) ? store_bool(s, "use_sliding_window", &on) : 0;
    if (!on || hp->full_layers >= hp->layers) hp->window = 0;
    return MIN(rc, PEFT_OK);
}

/* Every fourth layer has no rotary positions, or as no_rope_layers says. */
static const struct key smollm3_keys[] = {
    KEYS_LLAMA_OR(1e-6, 2e6),
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
    ROWS_ROPE_DIVISORS,
    ROWS_END
};

/* Mixtral and Qwen 3's mixtures have experts instead of the feed-forward.
 * llama.cpp always scales Qwen's shares. */
#define KEYS_EXPERTS \
    { AT(experts), 'i', 'o', "num_local_experts", "expert_count", 0, 4096 }, \
    { AT(experts), 'i', 'r', "num_experts", NULL, 0, 4096 }, \
    { AT(experts_used), 'i', 'r', "num_experts_per_tok", "expert_used_count", 0, 4096 }
static const struct key mixtral_keys[] = {
    KEY_WINDOW,
    KEYS_LLAMA_OR(1e-5, 1e6),
    KEYS_EXPERTS,
    { AT(experts_norm), 'b', 'o', NULL, NULL, 1, 0 },
    KEYS_END
};
static const struct key qwen3_moe_keys[] = {
    { AT(window), 'i', 'o', "sliding_window", NULL, 0, 1 << 30 },
    { AT(full_layers), 'i', 'o', "max_window_layers", NULL, 28, 1 << 30 },
    KEYS_LLAMA,
    KEYS_EXPERTS,
    { AT(expert_ff), 'i', 'r', "moe_intermediate_size", "expert_feed_forward_length", 0, 1 << 24 },
    { AT(experts_norm), 'b', 'o', "norm_topk_prob", NULL, 0, 0 },
    KEYS_END
};

static int mixtral_settle(const struct store *s, struct hparams *hp)
{
    (void)s;
    hp->expert_ff = hp->ff;
    return PEFT_OK;
}

static int qwen3_moe_settle(const struct store *s, struct hparams *hp)
{
    if (!store_config(s)) hp->experts_norm = 1;
    return qwen_settle(s, hp);
}

#define ROWS_MIXTURE(layer, gate, up, down) \
    ROW_EMBED("model.embed_tokens"), \
    LLAMA_NORM(SLOT_ATTN_NORM, "input_layernorm", "attn_norm"), \
    ROWS_LLAMA_QKV(SLOT_ROPE_ROWS), \
    ROWS_LLAMA_QK_NORM(DIM_HEAD, DIM_HEAD), \
    ROW_LLAMA_O, \
    LLAMA_NORM(SLOT_FFN_NORM, "post_attention_layernorm", "ffn_norm"), \
    ROW_LINEAR(SLOT_ROUTER, SLOT_HEAD | NB, DIM_EXPERTS, DIM_MODEL, LLAMA_LAYER layer "gate", \
               "blk.%d.ffn_gate_inp"), \
    ROW_LINEAR(SLOT_X_GATE, NB, DIM_EXPERT_FF, DIM_MODEL, LLAMA_LAYER layer "experts.%d." gate, \
               "blk.%d.ffn_gate_exps"), \
    ROW_LINEAR(SLOT_X_UP, NB, DIM_EXPERT_FF, DIM_MODEL, LLAMA_LAYER layer "experts.%d." up, \
               "blk.%d.ffn_up_exps"), \
    ROW_LINEAR(SLOT_X_DOWN, NB, DIM_MODEL, DIM_EXPERT_FF, LLAMA_LAYER layer "experts.%d." down, \
               "blk.%d.ffn_down_exps"), \
    ROWS_LLAMA_TOP
static const struct slot_row mixtral_slots[] = {
    ROWS_MIXTURE("block_sparse_moe.", "w1", "w3", "w2"), ROWS_ROPE_DIVISORS, ROWS_END
};
static const struct slot_row qwen3_moe_slots[] = {
    ROWS_MIXTURE("mlp.", "gate_proj", "up_proj", "down_proj"), ROWS_END
};

static const struct fused_row fused_experts[] = {
    { LLAMA_LAYER "mlp.experts", "gate_up_proj", { SLOT_X_GATE, SLOT_X_UP } },
    { LLAMA_LAYER "mlp.experts", "down_proj", { SLOT_X_DOWN, 0 } },
    { NULL, NULL, { 0, 0 } }
};

/* What most of these families call the body below a head for answers. */
#define SPAN "transformer."
#define LLAMA_STYLE(pair, span) \
    { .norm = NORM_RMS, .pos = POS_ROPE, .act = ACT_SILU, .causal = 1, \
      .pool = POOL_LAST, .gguf_pair = pair, .span_prefix = span }
#define MIXTURE_STYLE(pair, ...) \
    { .norm = NORM_RMS, .pos = POS_ROPE, .act = ACT_SILU, .causal = 1, \
      .pool = POOL_LAST, .gguf_pair = pair, .fused = fused_experts, __VA_ARGS__ }

const struct arch arch_llama = {
    "llama", "llama", NULL, CLASSES("Llama"), "model.", LLAMA_STYLE(1, SPAN), llama_keys,
    llama_slots, NULL, NULL
};
const struct arch arch_mistral = {
    "mistral", "llama", "attention.sliding_window", CLASSES("Mistral"), "model.",
    LLAMA_STYLE(1, NULL), mistral_keys, llama_slots, NULL, NULL
};
const struct arch arch_smollm3 = {
    "smollm3", "smollm3", NULL, CLASSES("SmolLM3"), "model.", LLAMA_STYLE(1, SPAN), smollm3_keys,
    llama_slots, NULL, NULL
};
const struct arch arch_qwen2 = {
    "qwen2", "qwen2", NULL, CLASSES("Qwen2"), "model.", LLAMA_STYLE(0, SPAN), qwen_keys,
    llama_slots, qwen_settle, NULL
};
const struct arch arch_qwen3 = {
    "qwen3", "qwen3", NULL, CLASSES("Qwen3"), "model.", LLAMA_STYLE(0, SPAN), qwen_keys,
    llama_slots, qwen_settle, NULL
};
static const char *const mixtral_renames[][2] = { { ".block_sparse_moe.", ".mlp." },
                                                  { NULL, NULL } };
const struct arch arch_mixtral = {
    "mixtral", "llama", "expert_count", CLASSES("Mixtral"), "model.",
    MIXTURE_STYLE(1, .renames = mixtral_renames), mixtral_keys, mixtral_slots,
    mixtral_settle, NULL
};
const struct arch arch_qwen3_moe = {
    "qwen3_moe", "qwen3moe", NULL, CLASSES("Qwen3Moe"), "model.",
    MIXTURE_STYLE(0, .renames = NULL, .span_prefix = SPAN), qwen3_moe_keys, qwen3_moe_slots,
    qwen3_moe_settle, NULL
};
