/* OPT (Zhang et al. 2022): GPT-2's block with separate q, k, v, ReLU, and
 * learned positions that begin at row 2 of their table. */
#include "model/arch/rows.h"

static const struct key opt_keys[] = {
    KEYS_SIZES,
    { AT(ff), 'i', 'r', "ffn_dim", NULL, 0, 1 << 24 },
    KEY_MAX_LEN,
    { AT(eps), 'f', 'o', NULL, NULL, 1e-5, 0 },
    { AT(pos_offset), 'i', 'o', NULL, NULL, 2, 2 },
    KEY_OFF("_remove_final_layer_norm"),
    KEYS_END
};

static int opt_settle(const struct store *s, struct hparams *hp)
{
    int before = 1;
    int64_t width = hp->dim;
    int rc = store_bool(s, "do_layer_norm_before", &before);
    if (rc >= 0) rc = store_int(s, "word_embed_proj_dim", 1, 1 << 20, &width);
    if (rc < 0) return rc;
    if (!before || width != hp->dim)
        return fail(PEFT_EUNSUPPORTED, "%s: an OPT with norms after its sub-layers or projected "
                    "embeddings (350M)", store_path(s));
    return PEFT_OK;
}

#define OPT_LAYER "model.decoder.layers.%d."
static const struct slot_row opt_slots[] = {
    ROW_EMBED("model.decoder.embed_tokens"),
    { SLOT_POS, SITE_EMBED, NB, DIM_POS, DIM_MODEL, "model.decoder.embed_positions", NULL },
    ROW_NORM(SLOT_ATTN_NORM, 0, DIM_MODEL, OPT_LAYER "self_attn_layer_norm", NULL),
    ROW_LINEAR(SLOT_Q, 0, DIM_Q, DIM_MODEL, OPT_LAYER "self_attn.q_proj", NULL),
    ROW_LINEAR(SLOT_K, 0, DIM_KV, DIM_MODEL, OPT_LAYER "self_attn.k_proj", NULL),
    ROW_LINEAR(SLOT_V, 0, DIM_KV, DIM_MODEL, OPT_LAYER "self_attn.v_proj", NULL),
    ROW_LINEAR(SLOT_O, 0, DIM_MODEL, DIM_Q, OPT_LAYER "self_attn.out_proj", NULL),
    ROW_NORM(SLOT_FFN_NORM, 0, DIM_MODEL, OPT_LAYER "final_layer_norm", NULL),
    ROW_LINEAR(SLOT_UP, 0, DIM_FF, DIM_MODEL, OPT_LAYER "fc1", NULL),
    ROW_LINEAR(SLOT_DOWN, 0, DIM_MODEL, DIM_FF, OPT_LAYER "fc2", NULL),
    ROW_FINAL_NORM(0, "model.decoder.final_layer_norm"),
    ROW_LM_HEAD(NB, "lm_head"),
    ROW_CLASSIFIER(NB, "score"),
    ROW_SPAN,
    ROWS_END
};

const struct arch arch_opt = {
    "opt", NULL, NULL, CLASSES("OPT"), "model.",
    { .norm = NORM_LAYER, .pos = POS_LEARNED, .act = ACT_RELU, .causal = 1, .pool = POOL_LAST,
      .tied = 1 },
    opt_keys, opt_slots, opt_settle
};
