/* StarCoder 2: rotary positions and grouped heads in a block of LayerNorms,
 * biases and a plain GELU feed-forward; all layers are windowed. */
#include "model/arch/rows.h"

static const struct key starcoder2_keys[] = {
    KEYS_SIZES, KEY_KV_HEADS, KEYS_HEAD_DIM, KEY_FF, KEY_MAX_LEN, KEY_ROT, KEY_WINDOW, KEYS_THETA,
    KEY_NORM_EPS("norm_epsilon"), KEYS_END
};

static const struct slot_row starcoder2_slots[] = {
    ROW_EMBED("model.embed_tokens"),
    ROW_NORM(SLOT_ATTN_NORM, 0, DIM_MODEL, LLAMA_LAYER "input_layernorm", "blk.%d.attn_norm"),
    ROWS_LLAMA_QKV(0),
    ROW_LLAMA_O,
    ROW_NORM(SLOT_FFN_NORM, 0, DIM_MODEL, LLAMA_LAYER "post_attention_layernorm",
             "blk.%d.ffn_norm"),
    ROW_LINEAR(SLOT_UP, 0, DIM_FF, DIM_MODEL, LLAMA_LAYER "mlp.c_fc", "blk.%d.ffn_up"),
    ROW_LINEAR(SLOT_DOWN, 0, DIM_MODEL, DIM_FF, LLAMA_LAYER "mlp.c_proj", "blk.%d.ffn_down"),
    ROW_FINAL_NORM(0, "model.norm"),
    ROW_LM_HEAD(0, "lm_head"),
    ROW_CLASSIFIER(NB, "score"),
    ROW_TOKENS("score"),
    ROWS_END
};

const struct arch arch_starcoder2 = {
    "starcoder2", "starcoder2", NULL, CLASSES("Starcoder2"), "model.",
    { .norm = NORM_LAYER, .pos = POS_ROPE, .act = ACT_GELU_TANH, .causal = 1, .pool = POOL_LAST,
      .tied = 1 },
    starcoder2_keys, starcoder2_slots, NULL, NULL
};
