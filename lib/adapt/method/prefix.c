/* Prefix tuning (Li & Liang 2021): keys and values of n tokens before a text in
 * every layer, [n, layers * (keys, values)]; keys as they are after the rotation.
 * With prefix_projection a network of two layers makes them of n trained vectors;
 * files hold what it makes. */
#include "adapt/virtual.h"

/* PEFT's normal numbers of deviation 1 are far from any keys and values, and take
 * many steps to come near. */
#define PREFIX_STD 0.02f

static int prefix_init(struct model *m, struct adapted *d, uint64_t seed, uint64_t stream)
{
    const char *init = d->adapter->virtual.init;
    struct param *p = d->part[0];
    int rc = virtual_init(m, d, seed, stream);
    if (!rc && !d->part[1]) rng_fill_normal(p->own, param_len(p), PREFIX_STD, seed, stream);
    if (!init || rc) return rc;
    if (strcmp(init, "zero"))
        return fail(PEFT_EARG, "init_weights \"%.40s\", expected \"zero\"", init);
    /* What comes last; 3 and 4 are the second layer's. */
    for (int k = d->part[3] ? 3 : 0; k < PARTS && d->part[k]; k++)
        m->compute.k->fill(d->part[k]->own, 0.0f, param_len(d->part[k]));
    return PEFT_OK;
}

static const struct method_setting prefix_settings[] = {
    VIRTUAL_SETTINGS,
    VIRTUAL_HIDDEN,
    { "prefix_projection", 'b', offsetof(struct adapter, virtual.projects), 0, 0, 1 },
    { "init_weights", 's', offsetof(struct adapter, virtual.init), 0, 0, 0 },
    { NULL, 0, 0, 0, 0, 0 }
};

const struct method method_prefix = {
    .name = "prefix",
    .peft_type = "PREFIX_TUNING",
    .about = "keys and values of tokens before each text, in every layer",
    .settings = prefix_settings,
    .parts = { { VIRTUAL_NAME, PART_RANK, PART_IN, 0, SITE_EMBED },
               { "transform.0.weight", PART_RANK, PART_IN, 0, SITE_EMBED },
               { "transform.0.bias", PART_ONE, PART_IN, 0, SITE_EMBED },
               { "transform.2.weight", PART_RANK, PART_IN, 0, SITE_EMBED },
               { "transform.2.bias", PART_ONE, PART_IN, 0, SITE_EMBED } },
    .virtual = VIRTUAL_KEYS,
    .act = ACT_TANH,
    .rank = 20,
    .encoder_lr = 1e-3f,
    .lr = 3e-2f,
    .shape = virtual_shape,
    .begin = virtual_begin_at,
    .init = prefix_init,
    .tokens = virtual_tokens
};
