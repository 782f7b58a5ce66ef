/* LoRA (Hu et al. 2021): y = W x + s B A dropout(x), s = alpha / r, or
 * alpha / sqrt(r) (rsLoRA, Kalajdzievski 2023).  A [r, in] starts as Hugging
 * Face PEFT's kaiming_uniform(a = sqrt 5), which is uniform within
 * 1 / sqrt(in); B [out, r] starts as zero, so the model begins unchanged. */
#include <math.h>

#include "adapt/adapt.h"

enum { A, B, B_BIAS };

static void init(struct adapted *a, uint64_t seed, uint64_t stream)
{
    const struct param *p = a->part[A];
    float bound = 1.0f / sqrtf((float)p->cols);
    rng_fill_uniform(p->own, param_len(p), -bound, bound, seed, stream);
}

static void set_scale(struct adapted *a)
{
    a->scale = a->adapter->rslora ? a->alpha / sqrtf((float)a->rank) : a->alpha / (float)a->rank;
}

static struct tensor *after(struct pass *p, const struct adapted *a, struct tensor *x,
                            struct tensor *y)
{
    x = nn_dropout(p, x, a->adapter->dropout);
    struct tensor *low = g_linear(p->g, x, nn_leaf(p, a->part[A]));
    y = g_linear_add(p->g, y, low, nn_leaf(p, a->part[B]), a->scale);
    if (!a->part[B_BIAS]) return y;
    return g_bias(p->g, y, g_scale(p->g, nn_leaf(p, a->part[B_BIAS]), a->scale));
}

static void merge(const struct adapted *a, const struct compute *c, float *w, float *b, float sign)
{
    const struct param *pa = a->part[A], *pb = a->part[B];
    float s = sign * a->scale;
    c->blas->sgemm(0, 0, pb->rows, pa->cols, a->rank, s, pb->own, a->rank, pa->own, pa->cols, 1.0f,
                   w, pa->cols);
    if (b) c->k->axpy(b, a->part[B_BIAS]->own, s, 1, pb->rows);
}

const struct method method_lora = {
    "lora", "LORA", SITE_LINEAR,
    { { "lora_A.weight", PART_RANK, PART_IN, 0 },
      { "lora_B.weight", PART_OUT, PART_RANK, 0 },
      { "lora_B.bias", PART_ONE, PART_OUT, 1 } },
    init, set_scale, NULL, after, merge, 1
};
