/* GPT-2 (Radford et al. 2019): learned positions, LayerNorms, a plain GELU
 * feed-forward, q, k, v in one module.  Hugging Face holds its weights as
 * [in, out] (Conv1D). */
#include "model/arch/rows.h"

static const struct key gpt2_keys[] = {
    { AT(layers), 'i', 'r', "n_layer", "block_count", 0, 4096 },
    { AT(dim), 'i', 'r', "n_embd", "embedding_length", 0, 1 << 20 },
    { AT(heads), 'i', 'r', "n_head", "attention.head_count", 0, 1 << 16 },
    { AT(ff), 'i', 'o', "n_inner", "feed_forward_length", 0, 1 << 24 },
    { AT(max_len), 'i', 'o', "n_positions", "context_length", 1024, 1 << 30 },
    KEY_NORM_EPS("layer_norm_epsilon"),
    KEY_OFF("scale_attn_by_inverse_layer_idx"),
    KEY_OFF("add_cross_attention"),
    KEYS_END
};

#define GPT2_LAYER "transformer.h.%d."
static const struct slot_row gpt2_slots[] = {
    ROW_EMBED("transformer.wte"),
    { SLOT_POS, SITE_EMBED, NB, DIM_POS, DIM_MODEL, "transformer.wpe", "position_embd" },
    ROW_NORM(SLOT_ATTN_NORM, 0, DIM_MODEL, GPT2_LAYER "ln_1", "blk.%d.attn_norm"),
    ROW_LINEAR(SLOT_QKV, SLOT_TRANSPOSED, DIM_QKV, DIM_MODEL, GPT2_LAYER "attn.c_attn",
               "blk.%d.attn_qkv"),
    ROW_LINEAR(SLOT_O, SLOT_TRANSPOSED, DIM_MODEL, DIM_Q, GPT2_LAYER "attn.c_proj",
               "blk.%d.attn_output"),
    ROW_NORM(SLOT_FFN_NORM, 0, DIM_MODEL, GPT2_LAYER "ln_2", "blk.%d.ffn_norm"),
    ROW_LINEAR(SLOT_UP, SLOT_TRANSPOSED, DIM_FF, DIM_MODEL, GPT2_LAYER "mlp.c_fc",
               "blk.%d.ffn_up"),
    ROW_LINEAR(SLOT_DOWN, SLOT_TRANSPOSED, DIM_MODEL, DIM_FF, GPT2_LAYER "mlp.c_proj",
               "blk.%d.ffn_down"),
    ROW_FINAL_NORM(0, "transformer.ln_f"),
    ROW_LM_HEAD(0, "lm_head"),
    ROW_CLASSIFIER(NB, "score"),
    ROW_TOKENS("classifier"),
    ROW_SPAN,
    ROWS_END
};

const struct arch arch_gpt2 = {
    "gpt2", "gpt2", NULL, "GPT2LMHeadModel", "GPT2ForSequenceClassification", "GPT2Model",
    "transformer.",
    { .norm = NORM_LAYER, .pos = POS_LEARNED, .act = ACT_GELU_TANH, .causal = 1,
      .pool = POOL_LAST, .tied = 1 },
    gpt2_keys, gpt2_slots, NULL, NULL
};
