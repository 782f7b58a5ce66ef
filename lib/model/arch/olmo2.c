/* OLMo 2: Llama's block with the norms after the sub-layers instead of before
 * them, and norms of q and k over all heads at once. */
#include "model/arch/rows.h"

static const struct key olmo2_keys[] = { KEYS_LLAMA_OR(1e-5, 10000), KEYS_END };

static const struct slot_row olmo2_slots[] = {
    ROW_EMBED("model.embed_tokens"),
    ROWS_LLAMA_QKV(0),
    ROWS_LLAMA_QK_NORM(DIM_Q, DIM_KV),
    ROW_LLAMA_O,
    ROW_NORM(SLOT_ATTN_POST, NB, DIM_MODEL, LLAMA_LAYER "post_attention_layernorm",
             "blk.%d.post_attention_norm"),
    ROWS_LLAMA_FFN,
    ROW_NORM(SLOT_FFN_POST, NB, DIM_MODEL, LLAMA_LAYER "post_feedforward_layernorm",
             "blk.%d.post_ffw_norm"),
    ROWS_LLAMA_TOP,
    ROWS_END
};

const struct arch arch_olmo2 = {
    "olmo2", "olmo2", NULL, CLASSES("Olmo2"), "model.",
    { .norm = NORM_RMS, .pos = POS_ROPE, .act = ACT_SILU, .causal = 1,
      .pool = POOL_LAST },
    olmo2_keys, olmo2_slots, NULL, NULL
};
