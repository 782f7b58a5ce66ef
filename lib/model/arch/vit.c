/* Encoders of pictures: ViT (Dosovitskiy et al. 2020) and the image tower of
 * CLIP (Radford et al. 2021).  Both are the pre-norm block over the rows of a
 * class token and of patches; CLIP has a norm before the layers, no bias at
 * its patches, and a projection into the space it shares with texts. */
#include "model/arch/rows.h"

/* A size that config.json gives as a number or as [height, width]. */
static int read_pair(const struct store *s, const char *key, int64_t absent, int64_t out[2])
{
    const json *list = json_get(store_config(s), key);
    out[0] = out[1] = absent;
    if (json_kind(list) != JSON_ARRAY) {
        int rc = store_int(s, key, 1, 1 << 14, out);
        out[1] = out[0];
        return MIN(rc, PEFT_OK);
    }
    const json *h = json_first(list), *w = json_next(h);
    double y = json_number(h, 0), x = json_number(w, 0);
    if (json_count(list) != 2 || !(y >= 1 && y <= 1 << 14 && x >= 1 && x <= 1 << 14) ||
        y != (double)(int64_t)y || x != (double)(int64_t)x)
        return fail(PEFT_EFORMAT, "%s: \"%s\", expected a number or [height, width] of 1 to %d",
                    store_path(s), key, 1 << 14);
    out[0] = (int64_t)y;
    out[1] = (int64_t)x;
    return PEFT_OK;
}

/* As in transformers, what is left beside whole patches is not read. */
static int settle_sizes(const struct store *s, struct hparams *hp, int64_t patch)
{
    int rc = read_pair(s, "image_size", 224, hp->image);
    if (!rc) rc = read_pair(s, "patch_size", patch, hp->patch);
    if (rc) return rc;
    int64_t n = hp->image[0] / hp->patch[0] * (hp->image[1] / hp->patch[1]);
    if (n < 1 || n > 1 << 20 || hp->channels < 1)
        return fail(PEFT_EFORMAT, "%s: images of %d x %d and %d channels in patches of %d x %d, "
                    "expected 1 to %d patches", store_path(s), (int)hp->image[0],
                    (int)hp->image[1], (int)hp->channels, (int)hp->patch[0], (int)hp->patch[1],
                    1 << 20);
    hp->max_len = n + 1;
    return PEFT_OK;
}

#define KEY_CHANNELS { AT(channels), 'i', 'o', "num_channels", NULL, 3, 64 }

/* --- ViT */

static int settle_vit(const struct store *s, struct hparams *hp) { return settle_sizes(s, hp, 16); }

static const struct key vit_keys[] = {
    KEYS_SIZES,
    KEY_FF,
    KEY_CHANNELS,
    { AT(eps), 'f', 'o', "layer_norm_eps", NULL, 1e-12, 0 },
    KEYS_END
};

#define VIT_LAYER "vit.encoder.layer.%d."
#define VIT_EMBED "vit.embeddings."
#define ONE_TENSOR (SLOT_TENSOR | SLOT_FOLDED | NB)
static const struct slot_row vit_slots[] = {
    { SLOT_PATCH, SITE_CONV, SLOT_FOLDED | SLOT_HEAD, DIM_MODEL, DIM_PATCH,
      VIT_EMBED "patch_embeddings.projection", NULL },
    { SLOT_CLASS, SITE_EMBED, ONE_TENSOR, DIM_ONE, DIM_MODEL, VIT_EMBED "cls_token", NULL },
    { SLOT_POS, SITE_EMBED, ONE_TENSOR, DIM_POS, DIM_MODEL, VIT_EMBED "position_embeddings", NULL },
    ROW_NORM(SLOT_ATTN_NORM, 0, DIM_MODEL, VIT_LAYER "layernorm_before", NULL),
    ROW_LINEAR(SLOT_Q, 0, DIM_Q, DIM_MODEL, VIT_LAYER "attention.attention.query", NULL),
    ROW_LINEAR(SLOT_K, 0, DIM_KV, DIM_MODEL, VIT_LAYER "attention.attention.key", NULL),
    ROW_LINEAR(SLOT_V, 0, DIM_KV, DIM_MODEL, VIT_LAYER "attention.attention.value", NULL),
    ROW_LINEAR(SLOT_O, 0, DIM_MODEL, DIM_Q, VIT_LAYER "attention.output.dense", NULL),
    ROW_NORM(SLOT_FFN_NORM, 0, DIM_MODEL, VIT_LAYER "layernorm_after", NULL),
    ROW_LINEAR(SLOT_UP, 0, DIM_FF, DIM_MODEL, VIT_LAYER "intermediate.dense", NULL),
    ROW_LINEAR(SLOT_DOWN, 0, DIM_MODEL, DIM_FF, VIT_LAYER "output.dense", NULL),
    ROW_NORM(SLOT_FINAL_NORM, 0, DIM_MODEL, "vit.layernorm", NULL),
    ROW_LINEAR(SLOT_POOLER, SLOT_OPTIONAL | SLOT_HEAD | SLOT_IDLE, DIM_MODEL, DIM_MODEL,
               "vit.pooler.dense", NULL),
    ROW_CLASSIFIER(0, "classifier"),
    ROWS_END
};

static const char *const vit_renames[][2] = {
    { "encoder.layer.", "layers." },
    { "attention.attention.query", "attention.q_proj" },
    { "attention.attention.key", "attention.k_proj" },
    { "attention.attention.value", "attention.v_proj" },
    { "attention.output.dense", "attention.o_proj" },
    { "intermediate.dense", "mlp.fc1" },
    { "output.dense", "mlp.fc2" },
    { NULL, NULL }
};

const struct arch arch_vit = {
    "vit", NULL, NULL, NULL, "ViTForImageClassification", "ViTModel", "vit.",
    { .norm = NORM_LAYER, .pos = POS_LEARNED, .act = ACT_GELU, .pool = POOL_CLS,
      .image = IMAGE_VIT, .renames = vit_renames },
    vit_keys, vit_slots, settle_vit, NULL
};

/* --- CLIP */

static int settle_clip(const struct store *s, struct hparams *hp)
{
    return settle_sizes(s, hp, 32);
}

static const struct key clip_vision_model_keys[] = {
    KEYS_SIZES,
    KEY_FF,
    KEY_CHANNELS,
    { AT(projection), 'i', 'o', "projection_dim", NULL, 512, 1 << 20 },
    { AT(eps), 'f', 'o', "layer_norm_eps", NULL, 1e-5, 0 },
    KEYS_END
};

#define CLIP "vision_model."
#define CLIP_LAYER CLIP "encoder.layers.%d."
static const struct slot_row clip_vision_model_slots[] = {
    { SLOT_PATCH, SITE_CONV, SLOT_FOLDED | SLOT_HEAD | NB, DIM_MODEL, DIM_PATCH,
      CLIP "embeddings.patch_embedding", NULL },
    { SLOT_CLASS, SITE_EMBED, ONE_TENSOR, DIM_ONE, DIM_MODEL, CLIP "embeddings.class_embedding",
      NULL },
    { SLOT_POS, SITE_EMBED, NB, DIM_POS, DIM_MODEL, CLIP "embeddings.position_embedding", NULL },
    ROW_NORM(SLOT_EMBED_NORM, 0, DIM_MODEL, CLIP "pre_layrnorm", NULL),
    ROW_NORM(SLOT_ATTN_NORM, 0, DIM_MODEL, CLIP_LAYER "layer_norm1", NULL),
    ROW_LINEAR(SLOT_Q, 0, DIM_Q, DIM_MODEL, CLIP_LAYER "self_attn.q_proj", NULL),
    ROW_LINEAR(SLOT_K, 0, DIM_KV, DIM_MODEL, CLIP_LAYER "self_attn.k_proj", NULL),
    ROW_LINEAR(SLOT_V, 0, DIM_KV, DIM_MODEL, CLIP_LAYER "self_attn.v_proj", NULL),
    ROW_LINEAR(SLOT_O, 0, DIM_MODEL, DIM_Q, CLIP_LAYER "self_attn.out_proj", NULL),
    ROW_NORM(SLOT_FFN_NORM, 0, DIM_MODEL, CLIP_LAYER "layer_norm2", NULL),
    ROW_LINEAR(SLOT_UP, 0, DIM_FF, DIM_MODEL, CLIP_LAYER "mlp.fc1", NULL),
    ROW_LINEAR(SLOT_DOWN, 0, DIM_MODEL, DIM_FF, CLIP_LAYER "mlp.fc2", NULL),
    ROW_NORM(SLOT_FINAL_NORM, 0, DIM_MODEL, CLIP "post_layernorm", NULL),
    ROW_LINEAR(SLOT_PROJECTION, SLOT_OPTIONAL | SLOT_HEAD | NB, DIM_PROJECTION, DIM_MODEL,
               "visual_projection", NULL),
    ROWS_END
};

const struct arch arch_clip_vision_model = {
    "clip_vision_model", NULL, NULL, NULL, NULL, "CLIPVisionModel", CLIP,
    { .norm = NORM_LAYER, .pos = POS_LEARNED, .act = ACT_QUICK_GELU, .pool = POOL_CLS,
      .image = IMAGE_CLIP, .class_projection = "CLIPVisionModelWithProjection" },
    clip_vision_model_keys, clip_vision_model_slots, settle_clip, NULL
};
