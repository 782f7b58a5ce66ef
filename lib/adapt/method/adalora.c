/* AdaLoRA (Zhang et al. 2023): y = W x + s B (E * (A dropout(x))), s = alpha / (r + 1e-5),
 * with A [r, in] and B [out, r] normal of deviation 0.02 and E [r] zero at first.  Beside
 * the loss A and B are drawn to orthogonal rows and columns:
 *
 *     weight / (2 modules) * sum of |A A^T - I|_F + |B^T B - I|_F
 *
 * and from step to step the budget, the sum of the ranks of all modules, falls from r to
 * target_r each: between step tinit and total - tfinal as the cube of what is left of that
 * time.  Every deltaT steps the triplets (column of B, E, row of A) that matter least have
 * their E set to zero.  A weight w with gradient g matters
 *
 *     I = |w g|,  S = beta1 S + (1 - beta1) I,  U = beta2 U + (1 - beta2) |I - S|,  S U,
 *
 * a triplet the sum of that of E and of the means over the row and the column.  All as
 * Hugging Face PEFT's RankAllocator, which works between the optimizer's step and the
 * zeroing of gradients.  a->index [r] says which triplets are left. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "adapt/adapt.h"

enum { ADA_A, ADA_B, ADA_E, ADA_PARTS };

static int ada_begin(struct model *m, struct adapted *a)
{
    struct ranks *s = &a->adapter->ranks;
    (void)m;
    if (!s->target) s->target = MAX(1, a->adapter->rank * 2 / 3);
    if (s->target > a->adapter->rank)
        return fail(PEFT_EARG, "target_r is %d, expected at most init_r, %d", s->target,
                    a->adapter->rank);
    if (!s->total) {
        s->by_run = 1;
        s->total = (int32_t)MIN((int64_t)s->first + s->last + 1, INT32_MAX);
    }
    if (!(a->index = arena_alloc(&a->adapter->arena, a->rank * 4))) return PEFT_ENOMEM;
    for (int32_t k = 0; k < a->rank; k++) a->index[k] = 1;
    return PEFT_OK;
}

static int ada_init(struct model *m, struct adapted *a, uint64_t seed, uint64_t stream)
{
    struct param *pa = a->part[ADA_A], *pb = a->part[ADA_B];
    (void)m;
    rng_fill_normal(pa->own, param_len(pa), 0.02f, seed, stream);
    rng_fill_normal(pb->own, param_len(pb), 0.02f, seed, stream | UINT64_C(1) << 31);
    return PEFT_OK;
}

/* By the rank at the beginning, however few are left. */
static void ada_scale(struct adapted *a)
{
    float r = (float)a->adapter->rank;
    a->scale = (a->alpha > 0 ? a->alpha : r) / (r + 1e-5f) * a->adapter->weight;
}

static struct tensor *ada_after(struct pass *p, const struct adapted *a, struct tensor *x,
                                struct tensor *y)
{
    x = nn_dropout(p, x, a->adapter->dropout);
    x = g_mul(p->g, g_linear(p->g, x, nn_leaf(p, a->part[ADA_A])), nn_leaf(p, a->part[ADA_E]));
    return g_linear_add(p->g, y, x, nn_leaf(p, a->part[ADA_B]), a->scale);
}

static void ada_merge(struct model *m, const struct adapted *a, float *w, float *b)
{
    const struct param *pa = a->part[ADA_A];
    const float *pb = a->part[ADA_B]->own, *e = a->part[ADA_E]->own;
    (void)b;
    for (int64_t i = 0; i < a->site->w->rows; i++, w += pa->cols, pb += a->rank)
        for (int32_t k = 0; k < a->rank; k++)
            m->compute.k->axpy(w, pa->own + k * pa->cols, a->scale * pb[k] * e[k], 1, pa->cols);
}

/* --- training */

static int64_t ada_ranks(const struct adapter *a)
{
    int64_t n = 0;
    for (int64_t i = 0; i < a->n_sites; i++) n += a->sites[i].rank;
    return n;
}

/* Memory for the scores of all triplets, twice, or for one Gram matrix. */
static int ada_run(struct model *m, struct adapter *a, int64_t steps)
{
    struct ranks *s = &a->ranks;
    (void)m;
    if (s->by_run) s->total = (int32_t)MIN(steps, INT32_MAX);
    if ((int64_t)s->first + s->last >= s->total)
        return fail(PEFT_EARG, "tinit %d and tfinal %d leave none of total_step %d to choose ranks "
                    "in, expected less", s->first, s->last, s->total);
    if (s->room) return PEFT_OK;
    int64_t room = MAX(2 * ada_ranks(a), (int64_t)a->rank * a->rank);
    s->room = arena_alloc(&a->arena, room * 4);
    return s->room ? PEFT_OK : PEFT_ENOMEM;
}

/* |G|_F for G = P P^T - I (or P^T P - I), and its gradient times `weight`: 2 G P / |G|. */
static double ada_orthogonal(struct model *m, const struct param *p, int by_rows, double weight,
                             float *gram)
{
    const struct compute *c = &m->compute;
    int64_t r = by_rows ? p->rows : p->cols, n = by_rows ? p->cols : p->rows;
    c->blas->sgemm(!by_rows, by_rows, r, r, n, 1.0f, p->own, p->cols, p->own, p->cols, 0.0f, gram,
                   r);
    for (int64_t i = 0; i < r; i++) gram[i * r + i] -= 1.0f;
    double norm = sqrt(c->k->sum_squares(gram, r * r));
    float scale = norm > 0 ? (float)(2 * weight / norm) : 0.0f;
    if (p->grad && by_rows)
        c->blas->sgemm(0, 0, r, n, r, scale, gram, r, p->own, n, 1.0f, p->grad, n);
    else if (p->grad)
        c->blas->sgemm(0, 0, n, r, r, scale, p->own, r, gram, r, 1.0f, p->grad, r);
    return norm;
}

static double ada_regularise(struct model *m, struct adapter *a)
{
    double weight = (double)a->ranks.orthogonal / (double)(2 * a->n_sites), sum = 0;
    for (int64_t i = 0; i < a->n_sites && weight > 0; i++)
        for (int k = ADA_A; k <= ADA_B; k++)
            sum += ada_orthogonal(m, a->sites[i].part[k], k == ADA_A, weight, a->ranks.room);
    return weight * sum;
}

struct ada_job { const struct param *p; const struct ranks *s; float gscale; };

static void ada_note(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct ada_job *j = arg;
    const float *w = j->p->own, *g = j->p->grad, b1 = j->s->beta1, b2 = j->s->beta2;
    float *mean = j->p->state, *spread = mean + param_len(j->p);
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        float now = fabsf(w[i] * (g[i] * j->gscale));
        mean[i] = b1 * mean[i] + (1 - b1) * now;
        spread[i] = b2 * spread[i] + (1 - b2) * fabsf(now - mean[i]);
    }
}

/* The mean score of row k, or of column k. */
static double ada_score(const struct param *p, int by_rows, int64_t k)
{
    const float *mean = p->state, *spread = mean ? mean + param_len(p) : NULL;
    int64_t n = by_rows ? p->cols : p->rows, step = by_rows ? 1 : p->cols;
    double sum = 0;
    for (int64_t i = 0, at = by_rows ? k * n : k; i < n && mean; i++, at += step)
        sum += (double)(mean[at] * spread[at]);
    return sum / (double)n;
}

static int ada_compare(const void *x, const void *y)
{
    float a = *(const float *)x, b = *(const float *)y;
    return (a > b) - (a < b);
}

/* The triplets that are not among the `budget` most important ones are dropped. */
static void ada_choose(struct adapter *a, int64_t budget)
{
    int64_t n = ada_ranks(a), at = 0;
    float *score = a->ranks.room, *sorted = score + n;
    if (budget >= n) return;
    for (int64_t i = 0; i < a->n_sites; i++) {
        struct param *const *part = a->sites[i].part;
        for (int32_t k = 0; k < a->sites[i].rank; k++)
            score[at++] = (float)(ada_score(part[ADA_A], 1, k) + ada_score(part[ADA_B], 0, k) +
                                  ada_score(part[ADA_E], 0, k));
    }
    memcpy(sorted, score, (size_t)n * 4);
    qsort(sorted, (size_t)n, sizeof(*sorted), ada_compare);
    float least = sorted[n - budget - 1];
    at = 0;
    for (int64_t i = 0; i < a->n_sites; i++)
        for (int32_t k = 0; k < a->sites[i].rank; k++) a->sites[i].index[k] = score[at++] > least;
}

static void ada_mask(struct adapter *a)
{
    for (int64_t i = 0; i < a->n_sites; i++)
        for (int32_t k = 0; k < a->sites[i].rank; k++)
            if (!a->sites[i].index[k]) a->sites[i].part[ADA_E]->own[k] = 0;
}

/* Float32 as torch has it; without a gradient a weight does not matter. */
static void ada_watch(struct model *m, struct adapter *a, float gscale)
{
    for (int64_t i = 0; i < a->n_sites; i++)
        for (int k = 0; k < ADA_PARTS; k++) {
            struct ada_job j = { a->sites[i].part[k], &a->ranks, gscale };
            if (j.p->grad && j.p->state)
                compute_rows(&m->compute, param_len(j.p), 1 << 16, ada_note, &j);
        }
}

/* The last step masks too, so that the adapter is what its file holds.  Ranks that came
 * from a file stay. */
static void ada_stepped(struct model *m, struct adapter *a, const struct made_step *at)
{
    const struct ranks *s = &a->ranks;
    int64_t n = ada_ranks(a), end = (int64_t)s->total - s->last, step = at->step;
    int64_t least = s->target * a->n_sites;
    if (step < end && !s->fixed) ada_watch(m, a, at->gscale);
    int due = step == end || (step < end && step > s->first && step % s->every == 0);
    if (due && !s->fixed) {
        double left = pow(1 - (double)(step - s->first) / (double)(end - s->first), 3);
        ada_choose(a, (int64_t)((double)(n - least) * left + (double)least));
    }
    if (due || step > end || step + 1 == at->steps || s->fixed) ada_mask(a);
}

static const struct method_setting ada_settings[] = {
    { "init_r", 'i', offsetof(struct adapter, rank), 12, 1, 1 << 16 },
    { "target_r", 'i', offsetof(struct adapter, ranks.target), 0, 0, 1 << 16 },
    { "tinit", 'i', offsetof(struct adapter, ranks.first), 0, 0, INT32_MAX },
    { "tfinal", 'i', offsetof(struct adapter, ranks.last), 0, 0, INT32_MAX },
    { "deltaT", 'i', offsetof(struct adapter, ranks.every), 1, 1, INT32_MAX },
    { "beta1", 'f', offsetof(struct adapter, ranks.beta1), 0.85, 1e-6, 1 - 1e-6 },
    { "beta2", 'f', offsetof(struct adapter, ranks.beta2), 0.85, 1e-6, 1 - 1e-6 },
    { "orth_reg_weight", 'f', offsetof(struct adapter, ranks.orthogonal), 0.5, 0, 1e6 },
    { "total_step", 'i', offsetof(struct adapter, ranks.total), 0, 0, INT32_MAX },
    { "lora_alpha", 'f', offsetof(struct adapter, alpha), 8, -FLT_MAX, FLT_MAX },
    { "lora_dropout", 'f', offsetof(struct adapter, dropout), 0, 0, 0.9999 },
    { "fan_in_fan_out", 'b', offsetof(struct adapter, turned), 0, 0, 1 },
    { NULL, 0, 0, 0, 0, 0 }
};

const struct method method_adalora = {
    .name = "adalora",
    .peft_type = "ADALORA",
    .about = "as lora, with the ranks moved to the modules where they matter",
    .config = "\"bias\": \"none\",\n  \"init_lora_weights\": true",
    .settings = ada_settings,
    .parts = { { "lora_A", PART_RANK, PART_IN, 0, 0 },
               { "lora_B", PART_OUT, PART_RANK, 0, 0 },
               { "lora_E", PART_ONE, PART_RANK, PART_TURNED | PART_MATRIX, 0 } },
    .at = SITE_LINEAR,
    .rank = 12,
    .lr = 1e-2f,
    .patterns = PATTERN_MASK,
    .states = 2,
    .begin = ada_begin,
    .init = ada_init,
    .set_scale = ada_scale,
    .after = ada_after,
    .run = ada_run,
    .regularise = ada_regularise,
    .stepped = ada_stepped,
    .merge = ada_merge
};
