/* LoHa (Hyeon-Woo et al. 2022, LyCORIS): W + alpha / r (A1 B1) * (A2 B2), the
 * product of two low-rank matrices by elements.  Starts as PEFT's: A1 normal of
 * deviation 0.1, B1 and B2 of 1, A2 zero.  B is held turned, as [in, r]. */
#include <float.h>

#include "adapt/adapt.h"

enum { LOHA_1A, LOHA_1B, LOHA_2A, LOHA_2B };

static int loha_init(struct model *m, struct adapted *a, uint64_t seed, uint64_t stream)
{
    static const float deviation[] = { 0.1f, 1.0f, 0.0f, 1.0f };
    (void)m;
    for (int k = 0; k < 4; k++)
        rng_fill_normal(a->part[k]->own, param_len(a->part[k]), deviation[k], seed,
                        stream + ((uint64_t)k << 40));
    return PEFT_OK;
}

static void loha_scale(struct adapted *a)
{
    a->scale = a->adapter->weight * a->alpha / (float)a->rank;
}

static struct tensor *loha_after(struct pass *p, const struct adapted *a, struct tensor *x,
                                 struct tensor *y)
{
    struct tensor *l[4];
    for (int k = 0; k < 4; k++) l[k] = nn_leaf(p, a->part[k]);
    struct tensor *w = g_mul(p->g, g_linear(p->g, l[LOHA_1A], l[LOHA_1B]),
                             g_linear(p->g, l[LOHA_2A], l[LOHA_2B]));
    return g_linear_add(p->g, y, x, w, a->scale);
}

static void loha_merge(struct model *m, const struct adapted *a, float *w, float *b)
{
    int64_t rows = a->site->w->rows, cols = a->site->w->cols, r = a->rank;
    const float *l[4];
    (void)b;
    for (int k = 0; k < 4; k++) l[k] = a->part[k]->own;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            w[i * cols + j] += a->scale *
                m->compute.k->dot(l[LOHA_1A] + i * r, l[LOHA_1B] + j * r, r) *
                m->compute.k->dot(l[LOHA_2A] + i * r, l[LOHA_2B] + j * r, r);
}

static const struct method_setting loha_settings[] = {
    { "r", 'i', offsetof(struct adapter, rank), 8, 1, 1 << 16 },
    { "alpha", 'f', offsetof(struct adapter, alpha), 8, -FLT_MAX, FLT_MAX },
    { NULL, 0, 0, 0, 0, 0 }
};

const struct method method_loha = {
    .name = "loha",
    .peft_type = "LOHA",
    .about = "the product by elements of two low-rank matrices is added to the weight",
    .config = "\"init_weights\": true",
    .settings = loha_settings,
    .parts = { { "hada_w1_a", PART_OUT, PART_RANK, 0, 0 },
               { "hada_w1_b", PART_IN, PART_RANK, PART_TURNED, 0 },
               { "hada_w2_a", PART_OUT, PART_RANK, 0, 0 },
               { "hada_w2_b", PART_IN, PART_RANK, PART_TURNED, 0 } },
    .at = SITE_LINEAR,
    .rank = 8,
    .lr = 1e-3f,
    .patterns = PATTERN_NUMBER,
    .init = loha_init,
    .set_scale = loha_scale,
    .after = loha_after,
    .merge = loha_merge
};
