/* P-tuning (Liu et al. 2021): embeddings of n tokens before a text, which a
 * network makes of n trained vectors: three linear layers, or layers of LSTM and
 * two linear ones.  The network trains too; files hold what it makes. */
#include "adapt/virtual.h"

static int ptuning_begin(struct model *m, struct adapted *d)
{
    struct adapter *a = d->adapter;
    if (!a->virtual.kind) a->virtual.kind = "MLP";
    if (a->virtual.encodes && strcmp(a->virtual.kind, "MLP") &&
        strcmp(a->virtual.kind, "LSTM"))
        return fail(PEFT_EARG, "encoder_reparameterization_type \"%.40s\", expected MLP or LSTM",
                    a->virtual.kind);
    return virtual_begin_at(m, d);
}

static const struct method_setting ptuning_settings[] = {
    VIRTUAL_SETTINGS,
    VIRTUAL_HIDDEN,
    { "encoder_reparameterization_type", 's', offsetof(struct adapter, virtual.kind), 0, 0, 0 },
    { "encoder_num_layers", 'i', offsetof(struct adapter, virtual.depth), 2, 1, 1 << 10 },
    { "encoder_dropout", 'f', offsetof(struct adapter, dropout), 0, 0, 0.9999 },
    { NULL, 0, 0, 0, 0, 0 }
};

const struct method method_ptuning = {
    .name = "ptuning",
    .peft_type = "P_TUNING",
    .about = "tokens before each text, which a small network makes",
    .settings = ptuning_settings,
    .parts = { { VIRTUAL_NAME, PART_RANK, PART_IN, 0, SITE_EMBED },
               { "mlp_head.0.weight", PART_RANK, PART_IN, 0, SITE_EMBED },
               { "mlp_head.0.bias", PART_ONE, PART_IN, 0, SITE_EMBED },
               { "mlp_head.2.weight", PART_RANK, PART_IN, 0, SITE_EMBED },
               { "mlp_head.2.bias", PART_ONE, PART_IN, 0, SITE_EMBED },
               { "mlp_head.4.weight", PART_RANK, PART_IN, 0, SITE_EMBED },
               { "mlp_head.4.bias", PART_ONE, PART_IN, 0, SITE_EMBED },
               { "lstm_head", PART_ONE, PART_IN, 0, SITE_EMBED } },
    .virtual = VIRTUAL_ROWS,
    .act = ACT_RELU,
    .rank = 20,
    .encoder_lr = 1e-3f,
    .lr = 3e-2f,
    .shape = virtual_shape,
    .begin = ptuning_begin,
    .init = virtual_init,
    .tokens = virtual_tokens
};
