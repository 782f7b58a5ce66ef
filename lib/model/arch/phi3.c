/* Phi 3: Llama's block with q, k, v in one module and gate, up in another. */
#include "model/arch/rows.h"

static const struct key phi3_keys[] = {
    KEYS_SIZES, KEY_KV_HEADS, KEY_FF, KEY_MAX_LEN, KEY_RMS_EPS(1e-5), KEY_WINDOW, KEYS_THETA,
    KEYS_ROT_SHARE("partial_rotary_factor", 1), KEYS_END
};

/* The original length lies beside the scaling, and has a default. */
static int phi3_settle(const struct store *s, struct hparams *hp)
{
    int64_t length = 4096;
    if (!store_config(s)) return PEFT_OK;
    int rc = store_int(s, "original_max_position_embeddings", 1, 1 << 30, &length);
    hp->rope[0].original = (double)length;
    return MIN(rc, PEFT_OK);
}

static const struct slot_row phi3_slots[] = {
    ROW_EMBED("model.embed_tokens"),
    ROW_NORM(SLOT_ATTN_NORM, NB, DIM_MODEL, LLAMA_LAYER "input_layernorm", "blk.%d.attn_norm"),
    ROW_LINEAR(SLOT_QKV, 0, DIM_QKV, DIM_MODEL, LLAMA_LAYER "self_attn.qkv_proj",
               "blk.%d.attn_qkv"),
    ROW_LLAMA_O,
    ROW_NORM(SLOT_FFN_NORM, NB, DIM_MODEL, LLAMA_LAYER "post_attention_layernorm",
             "blk.%d.ffn_norm"),
    ROW_LINEAR(SLOT_GATE_UP, 0, DIM_FF2, DIM_MODEL, LLAMA_LAYER "mlp.gate_up_proj",
               "blk.%d.ffn_up"),
    ROW_LINEAR(SLOT_DOWN, 0, DIM_MODEL, DIM_FF, LLAMA_LAYER "mlp.down_proj", "blk.%d.ffn_down"),
    ROWS_LLAMA_TOP,
    ROWS_ROPE_LONG,
    ROWS_END
};

const struct arch arch_phi3 = {
    "phi3", "phi3", NULL, CLASSES("Phi3"), "model.",
    { .norm = NORM_RMS, .pos = POS_ROPE, .act = ACT_SILU, .causal = 1,
      .pool = POOL_LAST },
    phi3_keys, phi3_slots, phi3_settle, NULL
};
