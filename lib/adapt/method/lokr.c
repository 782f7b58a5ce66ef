/* LoKr (LyCORIS): W + alpha / r kron(W1, W2), W1 [a, b], W2 [c, d] with a c =
 * out and b d = in, the factors as near to the root as they can be.  W2, and with
 * decompose_both W1, is a product of rank r where that is smaller.  W1, or the
 * left factor of its product, starts as zero.  Right factors are held turned. */
#include <float.h>
#include <math.h>

#include "adapt/adapt.h"

enum { LOKR_1, LOKR_1A, LOKR_1B, LOKR_2, LOKR_2A, LOKR_2B };

/* n = *small * *large: small is `factor` where that divides n, else the divisor
 * nearest to the root and not above the factor (-1: no bound), as PEFT's
 * factorization(). */
static void lokr_factors(int64_t n, int64_t factor, int64_t *small, int64_t *large)
{
    *small = 1;
    if (factor > 0 && n % factor == 0) *small = factor;
    else
        for (int64_t k = 2; k * k <= n && (factor < 0 || k <= factor); k++)
            if (n % k == 0) *small = k;
    *large = n / *small;
}

struct lokr_size { int64_t a, b, c, d; int whole1, whole2; };
static struct lokr_size lokr_size(const struct adapted *a)
{
    struct lokr_size s;
    lokr_factors(a->site->w->rows, a->adapter->factor, &s.a, &s.c);
    lokr_factors(a->site->w->cols, a->adapter->factor, &s.b, &s.d);
    s.whole1 = !(a->adapter->both && 2 * a->rank < MAX(s.a, s.b));
    s.whole2 = 2 * a->rank >= MAX(s.c, s.d);
    return s;
}

static void lokr_shape(const struct adapted *a, int k, int64_t *rows, int64_t *cols)
{
    struct lokr_size s = lokr_size(a);
    int second = k >= LOKR_2, whole = second ? s.whole2 : s.whole1;
    int64_t left = second ? s.c : s.a, right = second ? s.d : s.b;
    *rows = k % 3 == 2 ? right : left;
    *cols = k % 3 ? a->rank : right;
    if (whole != (k % 3 == 0)) *rows = 0;
}

/* W1 x W2 as an outer product has rows (i, j, k) of d columns; in the Kronecker
 * product row (i, k) of W has j before them. */
static int lokr_begin(struct model *m, struct adapted *a)
{
    struct lokr_size s = lokr_size(a);
    const struct param *w = a->site->w;
    if (w->rows * s.b > INT32_MAX)
        return fail(PEFT_EUNSUPPORTED, "%s is too large for LoKr", a->site->name);
    if (!(a->index = arena_alloc(&a->adapter->arena, w->rows * s.b * 4))) return PEFT_ENOMEM;
    for (int64_t o = 0; o < w->rows; o++)
        for (int64_t j = 0; j < s.b; j++)
            a->index[param_row(m, w, o) * s.b + j] =
                (int32_t)((o / s.c * s.b + j) * s.c + o % s.c);
    return PEFT_OK;
}

static int lokr_init(struct model *m, struct adapted *a, uint64_t seed, uint64_t stream)
{
    (void)m;
    for (int k = 0; k < PARTS; k++) {
        struct param *p = a->part[k];
        if (!p || k == LOKR_1 || k == LOKR_1A) continue;
        float bound = 1.0f / sqrtf((float)(p->turned ? p->rows : p->cols));
        rng_fill_uniform(p->own, param_len(p), -bound, bound, seed, stream + ((uint64_t)k << 40));
    }
    return PEFT_OK;
}

static void lokr_scale(struct adapted *a)
{
    a->scale = a->adapter->weight * a->alpha / (float)a->rank;
}

/* One of the two matrices as a column. */
static struct tensor *lokr_column(struct pass *p, const struct adapted *a, int first)
{
    struct tensor *w = a->part[first]
                           ? nn_leaf(p, a->part[first])
                           : g_linear(p->g, nn_leaf(p, a->part[first + 1]),
                                      nn_leaf(p, a->part[first + 2]));
    return w ? g_reshape(p->g, w, tensor_len(w), 1) : NULL;
}

static struct tensor *lokr_after(struct pass *p, const struct adapted *a, struct tensor *x,
                                 struct tensor *y)
{
    struct lokr_size s = lokr_size(a);
    struct graph *g = p->g;
    struct tensor *w = g_linear(g, lokr_column(p, a, LOKR_1), lokr_column(p, a, LOKR_2));
    w = g_rows(g, g_reshape(g, w, s.a * s.b * s.c, s.d), a->index, s.a * s.b * s.c);
    return g_linear_add(g, y, x, g_reshape(g, w, s.a * s.c, s.b * s.d), a->scale);
}

static float lokr_value(const struct adapted *a, int first, int64_t i, int64_t j)
{
    const struct param *w = a->part[first], *l = a->part[first + 1], *r = a->part[first + 2];
    float sum = 0;
    if (w) return w->own[i * w->cols + j];
    for (int64_t k = 0; k < a->rank; k++)
        sum += l->own[i * a->rank + k] * r->own[j * a->rank + k];
    return sum;
}

static void lokr_merge(struct model *m, const struct adapted *a, float *w, float *b)
{
    struct lokr_size s = lokr_size(a);
    (void)b;
    for (int64_t k = 0; k < s.c; k++)
        for (int64_t l = 0; l < s.d; l++) {
            float v = a->scale * lokr_value(a, LOKR_2, k, l);
            for (int64_t i = 0; i < s.a; i++) {
                float *row = w + param_row(m, a->site->w, i * s.c + k) * a->site->w->cols;
                for (int64_t j = 0; j < s.b; j++)
                    row[j * s.d + l] += v * lokr_value(a, LOKR_1, i, j);
            }
        }
}

static const struct method_setting lokr_settings[] = {
    { "r", 'i', offsetof(struct adapter, rank), 8, 1, 1 << 16 },
    { "alpha", 'f', offsetof(struct adapter, alpha), 8, -FLT_MAX, FLT_MAX },
    { "decompose_both", 'b', offsetof(struct adapter, both), 0, 0, 1 },
    { "decompose_factor", 'i', offsetof(struct adapter, factor), -1, -1, 1 << 20 },
    { NULL, 0, 0, 0, 0, 0 }
};

const struct method method_lokr = {
    .name = "lokr",
    .peft_type = "LOKR",
    .about = "a Kronecker product of two small matrices is added to the weight",
    .config = "\"init_weights\": true",
    .settings = lokr_settings,
    .parts = { { "lokr_w1", PART_ONE, PART_ONE, PART_MATRIX, 0 },
               { "lokr_w1_a", PART_ONE, PART_ONE, PART_MATRIX, 0 },
               { "lokr_w1_b", PART_ONE, PART_ONE, PART_MATRIX | PART_TURNED, 0 },
               { "lokr_w2", PART_ONE, PART_ONE, PART_MATRIX, 0 },
               { "lokr_w2_a", PART_ONE, PART_ONE, PART_MATRIX, 0 },
               { "lokr_w2_b", PART_ONE, PART_ONE, PART_MATRIX | PART_TURNED, 0 } },
    .at = SITE_LINEAR,
    .rank = 8,
    .lr = 5e-3f,
    .patterns = PATTERN_NUMBER,
    .shape = lokr_shape,
    .begin = lokr_begin,
    .init = lokr_init,
    .set_scale = lokr_scale,
    .after = lokr_after,
    .merge = lokr_merge
};
