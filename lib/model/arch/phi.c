/* Phi 1, 1.5 and 2: attention and feed-forward read one norm of the input, half
 * of each head turns, everything has a bias, the head too. */
#include "model/arch/rows.h"

static const struct key phi_keys[] = {
    KEYS_SIZES, KEY_KV_HEADS, KEY_FF, KEY_MAX_LEN, KEY_NORM_EPS("layer_norm_eps"), KEYS_THETA,
    KEYS_ROT_SHARE("partial_rotary_factor", 0.5), KEY_OFF("qk_layernorm"),
    { AT(parallel), 'b', 'o', NULL, NULL, 1, 0 },
    KEYS_END
};

static const struct slot_row phi_slots[] = {
    ROW_EMBED("model.embed_tokens"),
    ROW_NORM(SLOT_ATTN_NORM, 0, DIM_MODEL, LLAMA_LAYER "input_layernorm", "blk.%d.attn_norm"),
    ROWS_LLAMA_QKV(0),
    ROW_LINEAR(SLOT_O, 0, DIM_MODEL, DIM_Q, LLAMA_LAYER "self_attn.dense", "blk.%d.attn_output"),
    ROW_LINEAR(SLOT_UP, 0, DIM_FF, DIM_MODEL, LLAMA_LAYER "mlp.fc1", "blk.%d.ffn_up"),
    ROW_LINEAR(SLOT_DOWN, 0, DIM_MODEL, DIM_FF, LLAMA_LAYER "mlp.fc2", "blk.%d.ffn_down"),
    ROW_FINAL_NORM(0, "model.final_layernorm"),
    ROW_LM_HEAD(0, "lm_head"),
    ROW_CLASSIFIER(NB, "score"),
    ROW_TOKENS("score"),
    ROWS_END
};

const struct arch arch_phi = {
    "phi", "phi2", NULL, CLASSES("Phi"), "model.",
    { .norm = NORM_LAYER, .pos = POS_ROPE, .act = ACT_GELU_TANH, .causal = 1, .pool = POOL_LAST },
    phi_keys, phi_slots, NULL, NULL
};
