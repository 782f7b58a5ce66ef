/* VeRA (Kopiczko et al. 2024): y = W x + b * (B (d * (A dropout(x)))).  A [r,
 * in] and B [out, r] are random, frozen and the same for all modules, which take
 * the first columns and rows of what the largest of them needs; b [out] starts
 * as zero and d [r] as d_initial. */
#include "adapt/adapt.h"

enum { VERA_B, VERA_D };
enum { VERA_COMMON_A, VERA_COMMON_B };

/* The rows of B are in Hugging Face's order. */
static int vera_begin(struct model *m, struct adapted *a)
{
    const struct param *w = a->site->w;
    if (w->order == ROWS_PLAIN) return PEFT_OK;
    if (!(a->index = arena_alloc(&a->adapter->arena, w->rows * 4))) return PEFT_ENOMEM;
    for (int64_t i = 0; i < w->rows; i++) a->index[param_row(m, w, i)] = (int32_t)i;
    return PEFT_OK;
}

static int vera_init(struct model *m, struct adapted *a, uint64_t seed, uint64_t stream)
{
    (void)seed;
    (void)stream;
    m->compute.k->fill(a->part[VERA_D]->own, a->adapter->d_initial, a->rank);
    return PEFT_OK;
}

static struct tensor *vera_after(struct pass *p, const struct adapted *a, struct tensor *x,
                                 struct tensor *y)
{
    const struct param *w = a->site->w, *pa = a->adapter->common[VERA_COMMON_A];
    const struct param *pb = a->adapter->common[VERA_COMMON_B];
    struct graph *g = p->g;
    struct tensor *ta = graph_leaf(g, pa->name, &qtype_f32, pa->rows, pa->cols, pa->own, NULL);
    struct tensor *tb = graph_leaf(g, pb->name, &qtype_f32, w->rows, pb->cols, pb->own, NULL);
    if (w->cols < pa->cols) ta = g_slice_cols(g, ta, 0, w->cols);
    if (a->index) tb = g_rows(g, tb, a->index, w->rows);
    x = g_linear(g, nn_dropout(p, x, a->adapter->dropout), ta);
    x = g_linear(g, g_mul(g, x, nn_leaf(p, a->part[VERA_D])), tb);
    return g_add(g, y, g_mul(g, x, nn_leaf(p, a->part[VERA_B])));
}

static void vera_merge(struct model *m, const struct adapted *a, float *w, float *b)
{
    const struct param *pa = a->adapter->common[VERA_COMMON_A];
    const float *lb = a->part[VERA_B]->own, *ld = a->part[VERA_D]->own;
    (void)b;
    for (int64_t i = 0; i < a->site->w->rows; i++, w += a->site->w->cols) {
        int64_t row = a->index ? a->index[i] : i;
        const float *r = a->adapter->common[VERA_COMMON_B]->own + row * a->rank;
        for (int32_t k = 0; k < a->rank; k++)
            m->compute.k->axpy(w, pa->own + k * pa->cols, lb[i] * r[k] * ld[k], 1,
                               a->site->w->cols);
    }
}

static const struct method_setting vera_settings[] = {
    { "r", 'i', offsetof(struct adapter, rank), 256, 1, 1 << 16 },
    { "vera_dropout", 'f', offsetof(struct adapter, dropout), 0, 0, 0.9999 },
    { "d_initial", 'f', offsetof(struct adapter, d_initial), 0.1, -1e6, 1e6 },
    { "fan_in_fan_out", 'b', offsetof(struct adapter, turned), 0, 0, 1 },
    { NULL, 0, 0, 0, 0, 0 }
};

const struct method method_vera = {
    .name = "vera",
    .peft_type = "VERA",
    .about = "two vectors a layer around random matrices that all layers share",
    .config = "\"bias\": \"none\",\n  \"projection_prng_key\": 0,\n  \"save_projection\": true",
    .settings = vera_settings,
    .parts = { { "vera_lambda_b", PART_ONE, PART_OUT, 0, 0 },
               { "vera_lambda_d", PART_ONE, PART_RANK, 0, 0 } },
    .common = { { "vera_A", PART_RANK, PART_IN, 0, 0 }, { "vera_B", PART_OUT, PART_RANK, 0, 0 } },
    .at = SITE_LINEAR,
    .rank = 256,
    .lr = 2e-2f,
    .begin = vera_begin,
    .init = vera_init,
    .after = vera_after,
    .merge = vera_merge
};
