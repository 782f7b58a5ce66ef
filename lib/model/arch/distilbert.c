/* DistilBERT (Sanh et al. 2019): BERT's block without token types; the
 * classification head has a ReLU layer before the classifier. */
#include "model/arch/rows.h"

static const struct key distilbert_keys[] = {
    { AT(layers), 'i', 'r', "n_layers", "block_count", 0, 4096 },
    { AT(dim), 'i', 'r', "dim", "embedding_length", 0, 1 << 20 },
    { AT(heads), 'i', 'r', "n_heads", "attention.head_count", 0, 1 << 16 },
    { AT(ff), 'i', 'r', "hidden_dim", "feed_forward_length", 0, 1 << 24 },
    KEY_MAX_LEN,
    { AT(eps), 'f', 'o', NULL, "attention.layer_norm_epsilon", 1e-12, 0 },
    KEYS_END
};

#define DISTILBERT_LAYER "distilbert.transformer.layer.%d."
#define DISTILBERT_EMBED "distilbert.embeddings."
static const struct slot_row distilbert_slots[] = {
    ROW_EMBED(DISTILBERT_EMBED "word_embeddings"),
    { SLOT_POS, SITE_EMBED, NB, DIM_POS, DIM_MODEL, DISTILBERT_EMBED "position_embeddings",
      "position_embd" },
    ROW_NORM(SLOT_EMBED_NORM, 0, DIM_MODEL, DISTILBERT_EMBED "LayerNorm", "token_embd_norm"),
    ROW_LINEAR(SLOT_Q, 0, DIM_Q, DIM_MODEL, DISTILBERT_LAYER "attention.q_lin", "blk.%d.attn_q"),
    ROW_LINEAR(SLOT_K, 0, DIM_KV, DIM_MODEL, DISTILBERT_LAYER "attention.k_lin", "blk.%d.attn_k"),
    ROW_LINEAR(SLOT_V, 0, DIM_KV, DIM_MODEL, DISTILBERT_LAYER "attention.v_lin", "blk.%d.attn_v"),
    ROW_LINEAR(SLOT_O, 0, DIM_MODEL, DIM_Q, DISTILBERT_LAYER "attention.out_lin",
               "blk.%d.attn_output"),
    ROW_NORM(SLOT_ATTN_NORM, 0, DIM_MODEL, DISTILBERT_LAYER "sa_layer_norm",
             "blk.%d.attn_output_norm"),
    ROW_LINEAR(SLOT_UP, 0, DIM_FF, DIM_MODEL, DISTILBERT_LAYER "ffn.lin1", "blk.%d.ffn_up"),
    ROW_LINEAR(SLOT_DOWN, 0, DIM_MODEL, DIM_FF, DISTILBERT_LAYER "ffn.lin2", "blk.%d.ffn_down"),
    ROW_NORM(SLOT_FFN_NORM, 0, DIM_MODEL, DISTILBERT_LAYER "output_layer_norm",
             "blk.%d.layer_output_norm"),
    ROW_HEAD_DENSE(FOR_SEQUENCE, "pre_classifier"),
    ROW_OUTPUT(FOR_SEQUENCE | FOR(HEAD_TOKENS), "classifier"),
    ROW_SPAN,
    ROWS_MASKED("vocab_transform", "vocab_layer_norm", "vocab_projector", "vocab_projector"),
    ROWS_END
};

const struct arch arch_distilbert = {
    "distilbert", "bert", "!token_types.weight", NULL, "DistilBertForSequenceClassification",
    "DistilBertModel", "distilbert.",
    { .norm = NORM_LAYER, .norm_at = NORM_POST, .pos = POS_LEARNED, .act = ACT_GELU,
      .pool = POOL_CLS, .head_act = ACT_RELU, .tied = 1 },
    distilbert_keys, distilbert_slots, NULL, NULL
};
