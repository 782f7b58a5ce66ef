/* GPT-NeoX and Pythia (Black et al. 2022): attention and feed-forward read the
 * same input through norms of their own, a quarter of each head turns, and q,
 * k, v of a head follow each other in one module. */
#include "model/arch/rows.h"

static const struct key neox_keys[] = {
    KEYS_SIZES, KEY_FF, KEY_MAX_LEN, KEY_NORM_EPS("layer_norm_eps"),
    { AT(theta), 'f', 'o', "rope_parameters.rope_theta", "rope.freq_base", 0, 0 },
    { AT(theta), 'f', 'o', "rotary_emb_base", NULL, 10000, 0 },
    KEYS_ROT_SHARE("rotary_pct", 0.25),
    { AT(parallel), 'b', 'o', "use_parallel_residual", "use_parallel_residual", 1, 0 },
    KEYS_END
};

#define NEOX_LAYER "gpt_neox.layers.%d."
static const struct slot_row neox_slots[] = {
    ROW_EMBED("gpt_neox.embed_in"),
    ROW_NORM(SLOT_ATTN_NORM, 0, DIM_MODEL, NEOX_LAYER "input_layernorm", "blk.%d.attn_norm"),
    ROW_LINEAR(SLOT_QKV, 0, DIM_QKV, DIM_MODEL, NEOX_LAYER "attention.query_key_value",
               "blk.%d.attn_qkv"),
    ROW_LINEAR(SLOT_O, 0, DIM_MODEL, DIM_Q, NEOX_LAYER "attention.dense", "blk.%d.attn_output"),
    ROW_NORM(SLOT_FFN_NORM, 0, DIM_MODEL, NEOX_LAYER "post_attention_layernorm",
             "blk.%d.ffn_norm"),
    ROW_LINEAR(SLOT_UP, 0, DIM_FF, DIM_MODEL, NEOX_LAYER "mlp.dense_h_to_4h", "blk.%d.ffn_up"),
    ROW_LINEAR(SLOT_DOWN, 0, DIM_MODEL, DIM_FF, NEOX_LAYER "mlp.dense_4h_to_h", "blk.%d.ffn_down"),
    ROW_FINAL_NORM(0, "gpt_neox.final_layer_norm"),
    ROW_LM_HEAD(0, "embed_out"),
    ROW_CLASSIFIER(NB, "score"),
    ROW_TOKENS("classifier"),
    ROW_SPAN,
    ROWS_END
};

const struct arch arch_gpt_neox = {
    "gpt_neox", "gptneox", NULL, CLASSES("GPTNeoX"), "gpt_neox.",
    { .norm = NORM_LAYER, .pos = POS_ROPE, .act = ACT_GELU, .causal = 1, .pool = POOL_LAST,
      .qkv_groups = 1 },
    neox_keys, neox_slots, NULL, NULL
};
