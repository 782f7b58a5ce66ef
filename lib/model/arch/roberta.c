/* RoBERTa (Liu et al. 2019) and XLM-RoBERTa: BERT's block; positions begin
 * after the padding token's id, and the classification head has a layer of its
 * own instead of the body's pooler.  In GGUF it is a BERT, whose table of
 * positions lacks the rows that come before the first. */
#include "model/arch/rows.h"

static const struct key roberta_keys[] = {
    KEYS_SIZES,
    KEY_FF,
    { AT(max_len), 'i', 'r', "max_position_embeddings", "context_length", 0, 1 << 30 },
    { AT(types), 'i', 'o', "type_vocab_size", "tokenizer.ggml.token_type_count", 2, 1 << 16 },
    { AT(eps), 'f', 'o', "layer_norm_eps", "attention.layer_norm_epsilon", 1e-12, 0 },
    KEYS_END
};

/* max_position_embeddings counts the rows before the first position too. */
static int roberta_settle(const struct store *s, struct hparams *hp)
{
    int64_t pad = 1;
    int rc = store_int(s, "pad_token_id", 0, INT32_MAX - 1, &pad);
    if (rc < 0) return rc;
    hp->pos_offset = pad + 1;
    hp->max_len -= hp->pos_offset;
    return PEFT_OK;
}

#define ROBERTA_LAYER "roberta.encoder.layer.%d."
#define ROBERTA_EMBED "roberta.embeddings."
static const struct slot_row roberta_slots[] = {
    ROW_EMBED(ROBERTA_EMBED "word_embeddings"),
    { SLOT_POS, SITE_EMBED, NB, DIM_POS, DIM_MODEL, ROBERTA_EMBED "position_embeddings",
      "position_embd" },
    { SLOT_TYPE, SITE_EMBED, SLOT_OPTIONAL | NB, DIM_TYPES, DIM_MODEL,
      ROBERTA_EMBED "token_type_embeddings", "token_types" },
    ROW_NORM(SLOT_EMBED_NORM, 0, DIM_MODEL, ROBERTA_EMBED "LayerNorm", "token_embd_norm"),
    ROW_LINEAR(SLOT_Q, 0, DIM_Q, DIM_MODEL, ROBERTA_LAYER "attention.self.query",
               "blk.%d.attn_q"),
    ROW_LINEAR(SLOT_K, 0, DIM_KV, DIM_MODEL, ROBERTA_LAYER "attention.self.key", "blk.%d.attn_k"),
    ROW_LINEAR(SLOT_V, 0, DIM_KV, DIM_MODEL, ROBERTA_LAYER "attention.self.value",
               "blk.%d.attn_v"),
    ROW_LINEAR(SLOT_O, 0, DIM_MODEL, DIM_Q, ROBERTA_LAYER "attention.output.dense",
               "blk.%d.attn_output"),
    ROW_NORM(SLOT_ATTN_NORM, 0, DIM_MODEL, ROBERTA_LAYER "attention.output.LayerNorm",
             "blk.%d.attn_output_norm"),
    ROW_LINEAR(SLOT_UP, 0, DIM_FF, DIM_MODEL, ROBERTA_LAYER "intermediate.dense", "blk.%d.ffn_up"),
    ROW_LINEAR(SLOT_DOWN, 0, DIM_MODEL, DIM_FF, ROBERTA_LAYER "output.dense", "blk.%d.ffn_down"),
    ROW_NORM(SLOT_FFN_NORM, 0, DIM_MODEL, ROBERTA_LAYER "output.LayerNorm",
             "blk.%d.layer_output_norm"),
    ROW_HEAD_DENSE(FOR_SEQUENCE, "classifier.dense"),
    ROW_CLASSIFIER(0, "classifier.out_proj"),
    ROW_TOKENS("classifier"),
    ROW_SPAN,
    ROWS_MASKED("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head"),
    ROWS_END
};

#define ROBERTA_STYLE \
    { .norm = NORM_LAYER, .norm_at = NORM_POST, .pos = POS_LEARNED, .act = ACT_GELU, \
      .pool = POOL_CLS, .head_act = ACT_TANH, .tied = 1 }

const struct arch arch_roberta = {
    "roberta", "bert", NULL, NULL, "RobertaForSequenceClassification", "RobertaModel", "roberta.",
    ROBERTA_STYLE, roberta_keys, roberta_slots, roberta_settle, NULL
};
const struct arch arch_xlm_roberta = {
    "xlm-roberta", "bert", NULL, NULL, "XLMRobertaForSequenceClassification", "XLMRobertaModel",
    "roberta.", ROBERTA_STYLE, roberta_keys, roberta_slots, roberta_settle, NULL
};
