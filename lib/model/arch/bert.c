/* BERT (Devlin et al. 2019) and sentence encoders of its shape (MiniLM, BGE,
 * E5): post-norm blocks, learned positions, bidirectional attention. */
#include "model/arch/rows.h"

static const struct key bert_keys[] = {
    KEYS_SIZES,
    KEY_FF,
    { AT(max_len), 'i', 'r', "max_position_embeddings", "context_length", 0, 1 << 30 },
    { AT(types), 'i', 'o', "type_vocab_size", "tokenizer.ggml.token_type_count", 2, 1 << 16 },
    { AT(eps), 'f', 'o', "layer_norm_eps", "attention.layer_norm_epsilon", 1e-12, 0 },
    KEYS_END
};

#define BERT_LAYER "bert.encoder.layer.%d."
#define BERT_EMBED "bert.embeddings."
static const struct slot_row bert_slots[] = {
    ROW_EMBED(BERT_EMBED "word_embeddings"),
    { SLOT_POS, SITE_EMBED, NB, DIM_POS, DIM_MODEL, BERT_EMBED "position_embeddings",
      "position_embd" },
    { SLOT_TYPE, SITE_EMBED, SLOT_OPTIONAL | NB, DIM_TYPES, DIM_MODEL,
      BERT_EMBED "token_type_embeddings", "token_types" },
    ROW_NORM(SLOT_EMBED_NORM, 0, DIM_MODEL, BERT_EMBED "LayerNorm", "token_embd_norm"),
    ROW_LINEAR(SLOT_Q, 0, DIM_Q, DIM_MODEL, BERT_LAYER "attention.self.query", "blk.%d.attn_q"),
    ROW_LINEAR(SLOT_K, 0, DIM_KV, DIM_MODEL, BERT_LAYER "attention.self.key", "blk.%d.attn_k"),
    ROW_LINEAR(SLOT_V, 0, DIM_KV, DIM_MODEL, BERT_LAYER "attention.self.value", "blk.%d.attn_v"),
    ROW_LINEAR(SLOT_O, 0, DIM_MODEL, DIM_Q, BERT_LAYER "attention.output.dense",
               "blk.%d.attn_output"),
    ROW_NORM(SLOT_ATTN_NORM, 0, DIM_MODEL, BERT_LAYER "attention.output.LayerNorm",
             "blk.%d.attn_output_norm"),
    ROW_LINEAR(SLOT_UP, 0, DIM_FF, DIM_MODEL, BERT_LAYER "intermediate.dense", "blk.%d.ffn_up"),
    ROW_LINEAR(SLOT_DOWN, 0, DIM_MODEL, DIM_FF, BERT_LAYER "output.dense", "blk.%d.ffn_down"),
    ROW_NORM(SLOT_FFN_NORM, 0, DIM_MODEL, BERT_LAYER "output.LayerNorm",
             "blk.%d.layer_output_norm"),
    ROW_LINEAR(SLOT_POOLER, SLOT_OPTIONAL | SLOT_HEAD, DIM_MODEL, DIM_MODEL, "bert.pooler.dense",
               NULL),
    ROW_OUTPUT(FOR_SEQUENCE | FOR(HEAD_TOKENS), "classifier"),
    ROW_SPAN,
    ROWS_MASKED("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm",
                "cls.predictions.decoder", "cls.predictions"),
    ROWS_END
};

const struct arch arch_bert = {
    "bert", "bert", NULL, NULL, "BertForSequenceClassification", "BertModel", "bert.",
    { .norm = NORM_LAYER, .norm_at = NORM_POST, .pos = POS_LEARNED, .act = ACT_GELU,
      .pool = POOL_CLS, .head_act = ACT_TANH, .tied = 1 },
    bert_keys, bert_slots, NULL, NULL
};
