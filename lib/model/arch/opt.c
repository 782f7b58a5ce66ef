/* OPT (Zhang et al. 2022): GPT-2's block with separate q, k, v, ReLU, and
 * learned positions that begin at row 2 of their table.  The one of 350M has its
 * norms after the sums and embeddings narrower than the model, with a
 * projection on both sides.  llama.cpp has no such family. */
#include "model/arch/rows.h"

static const struct key opt_keys[] = {
    KEYS_SIZES,
    { AT(ff), 'i', 'r', "ffn_dim", NULL, 0, 1 << 24 },
    KEY_MAX_LEN,
    { AT(eps), 'f', 'o', NULL, NULL, 1e-5, 0 },
    { AT(pos_offset), 'i', 'o', NULL, NULL, 2, 2 },
    { AT(embed), 'i', 'o', "word_embed_proj_dim", NULL, 0, 1 << 20 },
    KEYS_END
};

static int opt_settle(const struct store *s, struct hparams *hp)
{
    int before = 1;
    int rc = store_bool(s, "do_layer_norm_before", &before);
    hp->post_norm = !before;
    return MIN(rc, PEFT_OK);
}

#define OPT_LAYER "model.decoder.layers.%d."
static const struct slot_row opt_slots[] = {
    { SLOT_EMBED, SITE_EMBED, NB, DIM_VOCAB, DIM_EMBED, "model.decoder.embed_tokens", NULL },
    ROW_LINEAR(SLOT_EMBED_IN, SLOT_OPTIONAL | NB, DIM_MODEL, DIM_EMBED, "model.decoder.project_in",
               NULL),
    { SLOT_POS, SITE_EMBED, NB, DIM_POS, DIM_MODEL, "model.decoder.embed_positions", NULL },
    ROW_NORM(SLOT_ATTN_NORM, 0, DIM_MODEL, OPT_LAYER "self_attn_layer_norm", NULL),
    ROW_LINEAR(SLOT_Q, 0, DIM_Q, DIM_MODEL, OPT_LAYER "self_attn.q_proj", NULL),
    ROW_LINEAR(SLOT_K, 0, DIM_KV, DIM_MODEL, OPT_LAYER "self_attn.k_proj", NULL),
    ROW_LINEAR(SLOT_V, 0, DIM_KV, DIM_MODEL, OPT_LAYER "self_attn.v_proj", NULL),
    ROW_LINEAR(SLOT_O, 0, DIM_MODEL, DIM_Q, OPT_LAYER "self_attn.out_proj", NULL),
    ROW_NORM(SLOT_FFN_NORM, 0, DIM_MODEL, OPT_LAYER "final_layer_norm", NULL),
    ROW_LINEAR(SLOT_UP, 0, DIM_FF, DIM_MODEL, OPT_LAYER "fc1", NULL),
    ROW_LINEAR(SLOT_DOWN, 0, DIM_MODEL, DIM_FF, OPT_LAYER "fc2", NULL),
    ROW_FINAL_NORM(SLOT_OPTIONAL, "model.decoder.final_layer_norm"),
    ROW_LINEAR(SLOT_EMBED_OUT, SLOT_OPTIONAL | NB, DIM_EMBED, DIM_MODEL,
               "model.decoder.project_out", NULL),
    ROW_LINEAR(SLOT_LM_HEAD, SLOT_OPTIONAL | SLOT_HEAD | NB, DIM_VOCAB, DIM_EMBED, "lm_head", NULL),
    ROW_LINEAR(SLOT_CLASSIFIER, OF_HEAD | FOR_SEQUENCE | NB, DIM_LABELS, DIM_EMBED, "score", NULL),
    ROW_LINEAR(SLOT_CLASSIFIER, OF_HEAD | FOR(HEAD_SPAN), DIM_LABELS, DIM_EMBED,
               "qa_outputs", NULL),
    ROWS_END
};

const struct arch arch_opt = {
    "opt", NULL, NULL, CLASSES("OPT"), "model.",
    { .norm = NORM_LAYER, .pos = POS_LEARNED, .act = ACT_RELU, .causal = 1, .pool = POOL_LAST,
      .tied = 1 },
    opt_keys, opt_slots, opt_settle, NULL
};
