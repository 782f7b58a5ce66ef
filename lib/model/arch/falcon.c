/* Falcon: rotary positions, no biases in the small ones, q heads grouped around
 * one key head (7B) or several (40B and later, which have a norm for each
 * branch); attention and feed-forward read the same input. */
#include "model/arch/rows.h"

static const struct key falcon_keys[] = {
    KEYS_SIZES,
    { AT(ff), 'i', 'o', "ffn_hidden_size", "feed_forward_length", 0, 1 << 24 },
    { AT(kv_heads), 'i', 'o', NULL, "attention.head_count_kv", 0, 1 << 16 },
    KEY_MAX_LEN, KEY_NORM_EPS("layer_norm_epsilon"), KEYS_THETA, KEY_ROT,
    { AT(parallel), 'b', 'o', "parallel_attn", NULL, 1, 0 },
    { AT(alibi), 'b', 'o', "alibi", NULL, 0, 0 },
    KEYS_END
};

/* How many key heads there are is told by two flags. */
static int falcon_settle(const struct store *s, struct hparams *hp)
{
    int many = 0, one = 1, rc;
    if (store_format(s) == STORE_GGUF) return PEFT_OK;
    hp->kv_heads = hp->heads;
    if ((rc = store_bool(s, "new_decoder_architecture", &many)) < 0) return rc;
    if ((rc = store_bool(s, "multi_query", &one)) < 0) return rc;
    if (many) {
        hp->parallel = 1;
        rc = store_int(s, "num_kv_heads", 1, 1 << 16, &hp->kv_heads);
    } else if (one) hp->kv_heads = 1;
    return MIN(rc, PEFT_OK);
}

/* Grouped heads are the general case. */
static void falcon_tell(const struct hparams *hp, const struct told *t, struct buf *b, int *n)
{
    put_member(b, "new_decoder_architecture", n);
    buf_printf(b, "true,\n  \"num_kv_heads\": %lld", (long long)hp->kv_heads);
    put_member(b, "num_ln_in_parallel_attn", n);
    buf_printf(b, "%d,\n  \"bias\": %s", t->two_norms ? 2 : 1, t->bias ? "true" : "false");
}

#define FALCON_LAYER "transformer.h.%d."
#define FALCON_NORM(slot, flags, hf, gguf) \
    ROW_NORM(slot, flags, DIM_MODEL, FALCON_LAYER hf, gguf)
static const struct slot_row falcon_slots[] = {
    ROW_EMBED("transformer.word_embeddings"),
    FALCON_NORM(SLOT_ATTN_NORM, SLOT_OPTIONAL, "ln_attn", "blk.%d.attn_norm_2"),
    FALCON_NORM(SLOT_ATTN_NORM, 0, "input_layernorm", "blk.%d.attn_norm"),
    ROW_LINEAR(SLOT_QKV, 0, DIM_QKV, DIM_MODEL, FALCON_LAYER "self_attention.query_key_value",
               "blk.%d.attn_qkv"),
    ROW_LINEAR(SLOT_O, 0, DIM_MODEL, DIM_Q, FALCON_LAYER "self_attention.dense",
               "blk.%d.attn_output"),
    FALCON_NORM(SLOT_FFN_NORM, SLOT_OPTIONAL, "ln_mlp", "blk.%d.attn_norm"),
    FALCON_NORM(SLOT_FFN_NORM, SLOT_OPTIONAL, "post_attention_layernorm", NULL),
    ROW_LINEAR(SLOT_UP, 0, DIM_FF, DIM_MODEL, FALCON_LAYER "mlp.dense_h_to_4h", "blk.%d.ffn_up"),
    ROW_LINEAR(SLOT_DOWN, 0, DIM_MODEL, DIM_FF, FALCON_LAYER "mlp.dense_4h_to_h",
               "blk.%d.ffn_down"),
    ROW_FINAL_NORM(0, "transformer.ln_f"),
    ROW_LM_HEAD(0, "lm_head"),
    ROW_CLASSIFIER(NB, "score"),
    ROW_TOKENS("classifier"),
    ROW_SPAN,
    ROWS_END
};

const struct arch arch_falcon = {
    "falcon", "falcon", NULL, CLASSES("Falcon"), "transformer.",
    { .norm = NORM_LAYER, .pos = POS_ROPE, .act = ACT_GELU, .causal = 1, .pool = POOL_LAST,
      .tied = 1, .qkv_groups = 1 },
    falcon_keys, falcon_slots, falcon_settle, falcon_tell
};
