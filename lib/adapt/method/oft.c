/* OFT (Qiu et al. 2023; Liu et al. 2024): y = W (x R), R block-diagonal of
 * orthogonal blocks that PEFT approximates by the first terms of the Cayley
 * transform (kernel/cayley.c).  The skew-symmetric numbers start as zero: R = I. */
#include "adapt/adapt.h"

/* The block's size: as asked for, or the nearest divisor of the columns. */
static int64_t oft_block(const struct adapted *a)
{
    int64_t n = a->site->w->cols, up, down;
    int64_t want = a->adapter->block ? a->adapter->block
                   : a->rank           ? MAX(1, n / a->rank)
                                       : 32;
    if (want >= n) return n;
    for (up = want; n % up; up++) {}
    for (down = want; n % down; down--) {}
    return want - down <= up - want ? down : up;
}

static void oft_shape(const struct adapted *a, int k, int64_t *rows, int64_t *cols)
{
    int64_t b = oft_block(a);
    (void)k;
    *rows = a->site->w->cols / b;
    *cols = b * (b - 1) / 2;
}

static int oft_begin(struct model *m, struct adapted *a)
{
    (void)m;
    if (oft_block(a) > 1 && oft_block(a) <= 4096) return PEFT_OK;
    return fail(PEFT_EARG, "%s has %lld inputs, for which OFT would have blocks of %lld, expected "
                "2 to 4096: set oft_block_size", a->site->name, (long long)a->site->w->cols,
                (long long)oft_block(a));
}

static int oft_init(struct model *m, struct adapted *a, uint64_t seed, uint64_t stream)
{
    (void)m;
    (void)a;
    (void)seed;
    (void)stream;
    return PEFT_OK;
}

/* R, and a row of temporary memory for the merge. */
static int64_t oft_len(const struct adapted *a)
{
    return a->site->w->cols * (oft_block(a) + 1);
}

static int oft_derive(struct model *m, struct adapted *a)
{
    const struct param *v = a->part[0];
    int64_t b = oft_block(a);
    float *temp = mem_array(&m->host.mem, cayley_temp(b, a->adapter->terms), 4);
    if (!temp) return PEFT_ENOMEM;
    for (int64_t i = 0; i < v->rows; i++)
        cayley_forward(&m->compute, a->derived + i * b * b, v->own + i * v->cols, b,
                       a->adapter->terms, temp);
    mem_free(&m->host.mem, temp);
    return PEFT_OK;
}

static struct tensor *oft_before(struct pass *p, const struct adapted *a, struct tensor *x)
{
    int64_t b = oft_block(a), in = a->site->w->cols;
    struct tensor *r = p->training ? g_cayley(p->g, nn_leaf(p, a->part[0]), b, a->adapter->terms)
                                   : graph_leaf(p->g, "oft", &qtype_f32, in, b, a->derived, NULL);
    return g_rotate(p->g, x, r);
}

/* W[:, block] becomes W[:, block] R^T. */
static void oft_merge(struct model *m, const struct adapted *a, float *w, float *bias)
{
    int64_t b = oft_block(a), in = a->site->w->cols;
    float *row = a->derived + in * b;
    (void)bias;
    for (int64_t i = 0; i < a->site->w->rows; i++, w += in) {
        for (int64_t k = 0; k < in; k++)
            row[k] = m->compute.k->dot(a->derived + k * b, w + k / b * b, b);
        m->compute.k->axpy(w, row, 1.0f, 0, in);
    }
}

static const struct method_setting oft_settings[] = {
    { "r", 'i', offsetof(struct adapter, rank), 0, 0, 1 << 16 },
    { "oft_block_size", 'i', offsetof(struct adapter, block), 32, 0, 4096 },
    { "num_cayley_neumann_terms", 'i', offsetof(struct adapter, terms), 5, 1, 64 },
    { "use_cayley_neumann", 'b', offsetof(struct adapter, neumann), 1, 1, 1 },
    { "fan_in_fan_out", 'b', offsetof(struct adapter, turned), 0, 0, 1 },
    { NULL, 0, 0, 0, 0, 0 }
};

const struct method method_oft = {
    .name = "oft",
    .peft_type = "OFT",
    .about = "the inputs are turned by orthogonal blocks",
    .config = "\"bias\": \"none\",\n  \"block_share\": false,\n  \"coft\": false,\n"
              "  \"init_weights\": true",
    .settings = oft_settings,
    .parts = { { "oft_R.weight", PART_IN, PART_ONE, 0, 0 } },
    .at = SITE_LINEAR,
    .lr = 1e-3f,
    .begin = oft_begin,
    .shape = oft_shape,
    .init = oft_init,
    .derived_len = oft_len,
    .derive = oft_derive,
    .before = oft_before,
    .merge = oft_merge
};
