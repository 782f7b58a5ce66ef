/* BERT (Devlin et al. 2019) and sentence encoders of its shape (MiniLM, BGE,
 * E5): post-norm blocks, learned positions, bidirectional attention. */
#include "model/arch.h"

#define AT(field) offsetof(struct hparams, field)

static const struct key bert_keys[] = {
    { AT(layers), 'i', 'r', "num_hidden_layers", "block_count", 0, 4096 },
    { AT(dim), 'i', 'r', "hidden_size", "embedding_length", 0, 1 << 20 },
    { AT(heads), 'i', 'r', "num_attention_heads", "attention.head_count", 0, 1 << 16 },
    { AT(ff), 'i', 'r', "intermediate_size", "feed_forward_length", 0, 1 << 24 },
    { AT(max_len), 'i', 'r', "max_position_embeddings", "context_length", 0, 1 << 30 },
    { AT(types), 'i', 'o', "type_vocab_size", "tokenizer.ggml.token_type_count", 2, 1 << 16 },
    { AT(eps), 'f', 'o', "layer_norm_eps", "attention.layer_norm_epsilon", 1e-12, 0 },
    { UINT16_MAX, 0, 0, NULL, NULL, 0, 0 }
};

#define LAYER "bert.encoder.layer.%d."
static const struct slot_row bert_slots[] = {
    { SLOT_EMBED, SITE_EMBED, SLOT_NO_BIAS, DIM_VOCAB, DIM_MODEL, "bert.embeddings.word_embeddings",
      "token_embd" },
    { SLOT_POS, SITE_EMBED, SLOT_NO_BIAS, DIM_POS, DIM_MODEL, "bert.embeddings.position_embeddings",
      "position_embd" },
    { SLOT_TYPE, SITE_EMBED, SLOT_NO_BIAS, DIM_TYPES, DIM_MODEL,
      "bert.embeddings.token_type_embeddings", "token_types" },
    { SLOT_EMBED_NORM, SITE_NORM, 0, DIM_ONE, DIM_MODEL, "bert.embeddings.LayerNorm",
      "token_embd_norm" },
    { SLOT_Q, SITE_LINEAR, 0, DIM_Q, DIM_MODEL, LAYER "attention.self.query", "blk.%d.attn_q" },
    { SLOT_K, SITE_LINEAR, 0, DIM_KV, DIM_MODEL, LAYER "attention.self.key", "blk.%d.attn_k" },
    { SLOT_V, SITE_LINEAR, 0, DIM_KV, DIM_MODEL, LAYER "attention.self.value", "blk.%d.attn_v" },
    { SLOT_O, SITE_LINEAR, 0, DIM_MODEL, DIM_Q, LAYER "attention.output.dense",
      "blk.%d.attn_output" },
    { SLOT_ATTN_NORM, SITE_NORM, 0, DIM_ONE, DIM_MODEL, LAYER "attention.output.LayerNorm",
      "blk.%d.attn_output_norm" },
    { SLOT_UP, SITE_LINEAR, 0, DIM_FF, DIM_MODEL, LAYER "intermediate.dense", "blk.%d.ffn_up" },
    { SLOT_DOWN, SITE_LINEAR, 0, DIM_MODEL, DIM_FF, LAYER "output.dense", "blk.%d.ffn_down" },
    { SLOT_FFN_NORM, SITE_NORM, 0, DIM_ONE, DIM_MODEL, LAYER "output.LayerNorm",
      "blk.%d.layer_output_norm" },
    { SLOT_POOLER, SITE_LINEAR, SLOT_OPTIONAL | SLOT_HEAD, DIM_MODEL, DIM_MODEL,
      "bert.pooler.dense", NULL },
    { SLOT_CLASSIFIER, SITE_LINEAR, SLOT_OPTIONAL | SLOT_HEAD, DIM_LABELS, DIM_MODEL, "classifier",
      NULL },
    { 0, 0, 0, 0, 0, NULL, NULL }
};

const struct arch arch_bert = {
    "bert", "bert", NULL, "BertForSequenceClassification", "BertModel", "bert.",
    { NORM_LAYER, NORM_POST, POS_LEARNED, 0, 0, POOL_CLS, 0 }, bert_keys, bert_slots
};
