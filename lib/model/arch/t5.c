/* T5 and its relatives (Raffel et al. 2020): an encoder and a decoder of one
 * block, RMS norms, scores without a scale but with a learned bias by distance
 * that all layers of a stack share, and, from version 1.1 on (FLAN-T5, mT5), a
 * gated feed-forward. */
#include "model/arch/rows.h"

#define KEYS_T5(layers_at) \
    { AT(layers_at), 'i', 'r', "num_layers", "block_count", 0, 4096 }, \
    { AT(dim), 'i', 'r', "d_model", "embedding_length", 0, 1 << 20 }, \
    { AT(heads), 'i', 'r', "num_heads", "attention.head_count", 0, 1 << 16 }, \
    { AT(head_dim), 'i', 'r', "d_kv", "attention.key_length", 0, 1 << 16 }, \
    { AT(head_dim), 'i', 'o', NULL, "attention.value_length", 0, 1 << 16 }, \
    { AT(ff), 'i', 'r', "d_ff", "feed_forward_length", 0, 1 << 24 }, \
    { AT(max_len), 'i', 'o', "n_positions", "context_length", 512, 1 << 30 }, \
    { AT(buckets), 'i', 'o', "relative_attention_num_buckets", \
      "attention.relative_buckets_count", 32, 1 << 16 }, \
    { AT(far), 'i', 'o', "relative_attention_max_distance", NULL, 128, 1 << 30 }, \
    { AT(eps), 'f', 'o', "layer_norm_epsilon", "attention.layer_norm_rms_epsilon", 1e-6, 0 }, \
    { AT(attn_scalar), 'i', 'o', NULL, NULL, 1, 1 }

#define KEYS_T5_DECODER \
    KEYS_T5(enc_layers), \
    { AT(dec_layers), 'i', 'o', "num_decoder_layers", "decoder_block_count", 0, 4096 }, \
    { AT(start_id), 'd', 'o', "decoder_start_token_id", "decoder_start_token_id", 0, INT32_MAX }, \
    { AT(encdec), 'b', 'o', "is_encoder_decoder", NULL, 1, 1 }

enum { UNSAID = 2 };                /* neither of a boolean's values */
static const struct key t5_keys[] = {
    KEYS_T5_DECODER,
    { AT(scale_out), 'b', 'o', "scale_decoder_outputs", "scale_decoder_outputs", UNSAID, 1 },
    KEYS_END
};
static const struct key mt5_keys[] = {
    KEYS_T5_DECODER,
    { AT(scale_out), 'b', 'o', NULL, "scale_decoder_outputs", 0, 1 },
    KEYS_END
};
static const struct key t5_encoder_keys[] = { KEYS_T5(layers), KEYS_END };

/* Half of the buckets, of both sides, must be at least one, and less than far. */
static int check_buckets(const struct store *s, struct hparams *hp)
{
    if (hp->buckets < 4 || hp->buckets % 2 || hp->far <= hp->buckets / 2)
        return fail(PEFT_EFORMAT, "%s: %d buckets of distances up to %d, expected an even number "
                    "from 4 on and less than twice the distance", store_path(s), (int)hp->buckets,
                    (int)hp->far);
    return PEFT_OK;
}

static int decoder_settle(const struct store *s, struct hparams *hp)
{
    if (!hp->dec_layers) hp->dec_layers = hp->enc_layers;
    if (hp->enc_layers < 1)
        return fail(PEFT_EFORMAT, "%s: an encoder without layers", store_path(s));
    hp->layers = hp->enc_layers + hp->dec_layers;
    return check_buckets(s, hp);
}

/* Where nothing else is said, the decoder's output is scaled when the
 * embeddings give the logits too. */
static int t5_settle(const struct store *s, struct hparams *hp)
{
    int tied = !store_find(s, "output.weight"), rc = 0;
    if (store_config(s)) {
        tied = 1;
        rc = store_bool(s, "tie_word_embeddings", &tied);
    }
    if (rc < 0) return rc;
    if (hp->scale_out == UNSAID) hp->scale_out = tied;
    return decoder_settle(s, hp);
}

/* `from` is SLOT_ENCODER for the encoder of two.  Gated where wi_0 is there. */
#define SELF_ROWS(from, hf, gguf) \
    { SLOT_BIAS, SITE_EMBED, SLOT_OPTIONAL | NB | (from), DIM_BUCKETS, DIM_HEADS, \
      hf "0.SelfAttention.relative_attention_bias", gguf "attn_rel_b" }, \
    ROW_NORM(SLOT_ATTN_NORM, NB | (from), DIM_MODEL, hf "0.layer_norm", gguf "attn_norm"), \
    ROW_LINEAR(SLOT_Q, NB | (from), DIM_Q, DIM_MODEL, hf "0.SelfAttention.q", gguf "attn_q"), \
    ROW_LINEAR(SLOT_K, NB | (from), DIM_Q, DIM_MODEL, hf "0.SelfAttention.k", gguf "attn_k"), \
    ROW_LINEAR(SLOT_V, NB | (from), DIM_Q, DIM_MODEL, hf "0.SelfAttention.v", gguf "attn_v"), \
    ROW_LINEAR(SLOT_O, NB | (from), DIM_MODEL, DIM_Q, hf "0.SelfAttention.o", gguf "attn_o")
#define FFN_ROWS(from, hf, gguf) \
    ROW_NORM(SLOT_FFN_NORM, NB | (from), DIM_MODEL, hf "layer_norm", gguf "ffn_norm"), \
    ROW_LINEAR(SLOT_GATE, SLOT_OPTIONAL | NB | (from), DIM_FF, DIM_MODEL, \
               hf "DenseReluDense.wi_0", gguf "ffn_gate"), \
    ROW_LINEAR(SLOT_UP, SLOT_GATED | NB | (from), DIM_FF, DIM_MODEL, hf "DenseReluDense.wi_1", \
               gguf "ffn_up"), \
    ROW_LINEAR(SLOT_UP, NB | (from), DIM_FF, DIM_MODEL, hf "DenseReluDense.wi", gguf "ffn_up"), \
    ROW_LINEAR(SLOT_DOWN, NB | (from), DIM_MODEL, DIM_FF, hf "DenseReluDense.wo", gguf "ffn_down")

#define CROSS_LINEAR(slot, out, in, name) \
    ROW_LINEAR(slot, NB, out, in, DEC "1.EncDecAttention." name, "dec.blk.%d.cross_attn_" name)
#define ENC "encoder.block.%d.layer."
#define DEC "decoder.block.%d.layer."
/* Files may hold the embeddings under any of their names. */
#define ROWS_EMBED \
    { SLOT_EMBED, SITE_EMBED, SLOT_OPTIONAL | NB, DIM_VOCAB, DIM_MODEL, "shared", "token_embd" }, \
    ROW_EMBED("encoder.embed_tokens")
static const struct slot_row t5_slots[] = {
    ROWS_EMBED,
    SELF_ROWS(SLOT_ENCODER, ENC, "enc.blk.%d."),
    FFN_ROWS(SLOT_ENCODER, ENC "1.", "enc.blk.%d."),
    ROW_NORM(SLOT_ENC_NORM, NB, DIM_MODEL, "encoder.final_layer_norm", "enc.output_norm"),
    SELF_ROWS(0, DEC, "dec.blk.%d."),
    ROW_NORM(SLOT_CROSS_NORM, NB, DIM_MODEL, DEC "1.layer_norm", "dec.blk.%d.cross_attn_norm"),
    CROSS_LINEAR(SLOT_CROSS_Q, DIM_Q, DIM_MODEL, "q"),
    CROSS_LINEAR(SLOT_CROSS_K, DIM_Q, DIM_MODEL, "k"),
    CROSS_LINEAR(SLOT_CROSS_V, DIM_Q, DIM_MODEL, "v"),
    CROSS_LINEAR(SLOT_CROSS_O, DIM_MODEL, DIM_Q, "o"),
    FFN_ROWS(0, DEC "2.", "dec.blk.%d."),
    ROW_NORM(SLOT_FINAL_NORM, NB, DIM_MODEL, "decoder.final_layer_norm", "dec.output_norm"),
    ROW_LM_HEAD(NB, "lm_head"),
    ROWS_END
};

static const struct slot_row t5_encoder_slots[] = {
    ROWS_EMBED,
    SELF_ROWS(0, ENC, "enc.blk.%d."),
    FFN_ROWS(0, ENC "1.", "enc.blk.%d."),
    ROW_NORM(SLOT_FINAL_NORM, NB, DIM_MODEL, "encoder.final_layer_norm", "enc.output_norm"),
    ROWS_END
};

#define STYLE \
    .norm = NORM_RMS, .pos = POS_DISTANCE, .act = ACT_RELU, .gated_act = ACT_GELU_TANH, \
    .act_key = "feed_forward_proj"
#define STYLE_DECODER { STYLE, .causal = 1, .tied = 1 }
const struct arch arch_t5_encoder = {
    "t5", "t5encoder", NULL, NULL, NULL, "T5EncoderModel", NULL,
    { STYLE, .pool = POOL_MEAN, .hf_class = "T5EncoderModel" },
    t5_encoder_keys, t5_encoder_slots, check_buckets, NULL
};

const struct arch arch_t5 = {
    "t5", "t5", NULL, "T5ForConditionalGeneration", NULL, "T5Model", NULL, STYLE_DECODER,
    t5_keys, t5_slots, t5_settle, NULL
};

/* The same without the scale.  In GGUF it is a T5, as which it is read. */
const struct arch arch_mt5 = {
    "mt5", "t5", NULL, "MT5ForConditionalGeneration", NULL, "MT5Model", NULL, STYLE_DECODER,
    mt5_keys, t5_slots, decoder_settle, NULL
};
