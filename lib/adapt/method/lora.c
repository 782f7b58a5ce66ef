/* LoRA (Hu et al. 2021): y = W x + s B A dropout(x), s = alpha / r, or
 * alpha / sqrt(r) (rsLoRA, Kalajdzievski 2023).  A [r, in] starts as Hugging
 * Face PEFT's kaiming_uniform(a = sqrt 5), which is uniform within
 * 1 / sqrt(in); B [out, r] starts as zero, so the model begins unchanged.
 * Embeddings: row(id) + s B A[:, id] with A [r, vocab] zero and B [dim, r]
 * normal; A is held turned, so that its columns are rows to be looked up.  Where
 * the embedding is the output layer too and is kept tied, that layer's A is B
 * turned and its B is A turned.
 *
 * PiSSA (Meng et al. 2024) starts with s B A = the largest singular triples of W,
 * OLoRA (Bueyuekakyuez 2024) with B = the first columns of Q, A = of R's rows of W = Q R.
 * Where PEFT takes that out of the base, here the base stays as it is, quantised
 * or not, and s (B A - B0 A0) is added: the same numbers, and the file is the
 * rank-2r difference adapter that PEFT converts its own to.
 *
 * DoRA (Liu et al. 2024): y = m / |W + s B A| * (W x + s B A dropout(x)), the
 * length by rows and taken as a constant by the gradient (their section 4.3); m
 * starts as that length.  Of embeddings the lengths are those of the columns. */
#include <float.h>
#include <math.h>

#include "adapt/adapt.h"

enum { LORA_A, LORA_B, LORA_BIAS, LORA_EMBED_A, LORA_EMBED_B, LORA_A0 = LORA_A + START,
       LORA_B0 = LORA_B + START, LORA_M = LORA_BIAS };

/* A0 and B0 from the weight itself, whose product is what `how` says. */
static int lora_start(struct model *m, const struct adapted *a, enum lowrank how)
{
    const struct param *w = a->site->w;
    struct param *pa = a->part[LORA_A0], *pb = a->part[LORA_B0];
    const struct matrix weight = { w->type, w->data, w->rows, w->cols };
    int64_t r = a->rank;
    float *left = mem_array(&m->host.mem, r, w->rows * 4);
    float scale = how == LOWRANK_QR ? 1.0f : 1.0f / sqrtf(a->scale);
    int rc = left ? lowrank(m, &weight, how, r, left, pa->own) : PEFT_ENOMEM;
    for (int64_t i = 0; i < w->rows * r && !rc; i++)
        pb->own[i] = left[i % r * w->rows + i / r] * scale;
    if (!rc && how != LOWRANK_QR) m->compute.k->axpy(pa->own, pa->own, scale, 0, param_len(pa));
    mem_free(&m->host.mem, left);
    return rc;
}

static int starts_by_svd(const struct adapter *a) { return !strcmp(a->start, "pissa"); }

static int lora_restart(struct model *m, const struct adapted *a)
{
    return lora_start(m, a, starts_by_svd(a->adapter) ? LOWRANK_EXACT : LOWRANK_QR);
}

/* A and B from what quantising took from the weight. */
static int lora_loftq(struct model *m, const struct adapted *a)
{
    const struct param *w = a->site->w;
    struct param *pa = a->part[LORA_A], *pb = a->part[LORA_B];
    float *left = mem_array(&m->host.mem, a->rank, w->rows * 4), scale = 1.0f / sqrtf(a->scale);
    int rc = left ? loftq_factors(m, a, left, pa->own) : PEFT_ENOMEM;
    for (int64_t i = 0; i < param_len(pb) && !rc; i++)
        pb->own[i] = left[i % a->rank * w->rows + i / a->rank] * scale;
    if (!rc) m->compute.k->axpy(pa->own, pa->own, scale, 0, param_len(pa));
    mem_free(&m->host.mem, left);
    return rc;
}

/* The output layer that an adapted embedding is. */
static int is_twin(const struct adapted *a)
{
    return a->site->kind == SITE_LINEAR && a->part[LORA_EMBED_A];
}

static int lora_init(struct model *m, struct adapted *a, uint64_t seed, uint64_t stream)
{
    int embeds = a->site->kind == SITE_EMBED;
    struct param *p = a->part[embeds ? LORA_EMBED_B : LORA_A];
    if (is_twin(a)) return PEFT_OK;
    float bound = 1.0f / sqrtf((float)p->cols);
    if (!embeds) a->part[LORA_B]->lr_ratio = a->adapter->lr_ratio;
    if (a->part[LORA_A0]) {
        int rc = lora_start(m, a, starts_by_svd(a->adapter) ? LOWRANK_SVD : LOWRANK_QR);
        for (int k = LORA_A; k <= LORA_B && !rc; k++)
            memcpy(a->part[k]->own, a->part[k + START]->own, (size_t)param_len(a->part[k]) * 4);
        return rc;
    }
    if (a->adapter->floats && !embeds && !a->site->w->type->is_float) return lora_loftq(m, a);
    if (embeds) rng_fill_normal(p->own, param_len(p), 1.0f, seed, stream);
    else if (a->adapter->start && !a->adapter->floats)
        rng_fill_normal(p->own, param_len(p), 1.0f / (float)a->rank, seed, stream);
    else rng_fill_uniform(p->own, param_len(p), -bound, bound, seed, stream);
    if (embeds) p->lr_ratio = a->adapter->lr_ratio;
    return PEFT_OK;
}

static void lora_scale(struct adapted *a)
{
    a->scale = a->adapter->rslora ? a->alpha / sqrtf((float)a->rank) : a->alpha / (float)a->rank;
    a->scale *= a->adapter->weight;
}

static struct tensor *lora_after(struct pass *p, const struct adapted *a, struct tensor *x,
                                 struct tensor *y)
{
    if (a->part[LORA_A0])
        y = g_low_rank(p->g, y, x, nn_leaf(p, a->part[LORA_A0]), nn_leaf(p, a->part[LORA_B0]),
                       -a->scale);
    x = nn_dropout(p, x, a->adapter->dropout);
    int twin = is_twin(a);
    struct tensor *down = nn_leaf(p, a->part[twin ? LORA_EMBED_B : LORA_A]);
    struct tensor *up = nn_leaf(p, a->part[twin ? LORA_EMBED_A : LORA_B]);
    y = g_low_rank(p->g, y, x, twin ? g_turn(p->g, down) : down, up, a->scale);
    if (!(a->method->parts[LORA_BIAS].flags & PART_IF_BIAS) || !a->part[LORA_BIAS]) return y;
    return g_bias(p->g, y, g_scale(p->g, nn_leaf(p, a->part[LORA_BIAS]), a->scale));
}

static struct tensor *lora_embed(struct pass *p, const struct adapted *a, const int32_t *ids,
                                 int64_t n, struct tensor *y)
{
    struct tensor *low = g_embed(p->g, nn_leaf(p, a->part[LORA_EMBED_A]), ids, n);
    return g_linear_add(p->g, y, low, nn_leaf(p, a->part[LORA_EMBED_B]), a->scale);
}

static void lora_merge(struct model *m, const struct adapted *a, float *w, float *b)
{
    int embeds = a->site->kind == SITE_EMBED;
    const struct compute *c = &m->compute;
    /* W is [vocab, dim] += A^T B^T, or [out, in] += B A. */
    const struct param *left = a->part[embeds ? LORA_EMBED_A : LORA_B];
    const struct param *right = a->part[embeds ? LORA_EMBED_B : LORA_A];
    int64_t cols = embeds ? right->rows : right->cols;
    c->blas->sgemm(0, embeds, left->rows, cols, a->rank, a->scale, left->own, a->rank, right->own,
                   right->cols, 1.0f, w, cols);
    const struct param *a0 = a->part[LORA_A0], *b0 = a->part[LORA_B0];
    if (a0)
        c->blas->sgemm(0, 0, b0->rows, cols, a->rank, -a->scale, b0->own, a->rank, a0->own, cols,
                       1.0f, w, cols);
    if (b && (a->method->parts[LORA_BIAS].flags & PART_IF_BIAS) && a->part[LORA_BIAS])
        c->k->axpy(b, a->part[LORA_BIAS]->own, a->scale, 1, left->rows);
}

static const struct method_setting lora_settings[] = {
    { "r", 'i', offsetof(struct adapter, rank), 8, 1, 1 << 16 },
    { "lora_alpha", 'f', offsetof(struct adapter, alpha), 8, -FLT_MAX, FLT_MAX },
    { "lora_dropout", 'f', offsetof(struct adapter, dropout), 0, 0, 0.9999 },
    { "use_rslora", 'b', offsetof(struct adapter, rslora), 0, 0, 1 },
    { "lora_bias", 'b', offsetof(struct adapter, bias), 0, 0, 1 },
    { "fan_in_fan_out", 'b', offsetof(struct adapter, turned), 0, 0, 1 },
    { NULL, 0, 0, 0, 0, 0 }
};
static const char lora_config[] = "\"bias\": \"none\",\n  \"init_lora_weights\": true";

const struct method method_lora = {
    .name = "lora",
    .peft_type = "LORA",
    .about = "a product of two low-rank matrices is added to the weight",
    .config = lora_config,
    .settings = lora_settings,
    .parts = { { "lora_A.weight", PART_RANK, PART_IN, 0, 0 },
               { "lora_B.weight", PART_OUT, PART_RANK, 0, 0 },
               { "lora_B.bias", PART_ONE, PART_OUT, PART_IF_BIAS, 0 },
               { "lora_embedding_A", PART_OUT, PART_RANK, PART_TURNED, SITE_EMBED },
               { "lora_embedding_B", PART_IN, PART_RANK, 0, SITE_EMBED },
               { "lora_A.start", PART_RANK, PART_IN, PART_START, 0 },
               { "lora_B.start", PART_OUT, PART_RANK, PART_START, 0 } },
    .at = SITE_LINEAR | SITE_EMBED,
    .rank = 16,
    .lr = 2e-4f,
    .fused = 1,
    .patterns = PATTERN_NUMBER,
    .init = lora_init,
    .restart = lora_restart,
    .set_scale = lora_scale,
    .after = lora_after,
    .embed = lora_embed,
    .merge = lora_merge
};

/* --- DoRA */

static struct matrix dora_weight(const struct adapted *a)
{
    const struct param *w = a->site->w;
    return (struct matrix){ w->type, w->data, w->rows, w->cols };
}

struct dora_job {
    const struct compute *c;
    const struct adapted *a;
    struct matrix w;
    const float *pa, *pb;
    float *norm, *temp;
};

static void dora_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct dora_job *j = arg;
    lora_row_norms(j->c, j->norm, &j->w, j->pa, j->pb, j->a->rank, j->a->scale, begin, end,
                   j->temp + worker * LORA_NORM_ROWS * j->w.cols);
}

/* The lengths of the rows of W + s B A, or of an embedding's columns. */
static int dora_norms(struct model *m, const struct adapted *a, float *norm)
{
    int embeds = a->site->kind == SITE_EMBED, twin = is_twin(a);
    const struct param *pa = a->part[twin ? LORA_EMBED_B : embeds ? LORA_EMBED_A : LORA_A];
    const struct param *pb = a->part[twin ? LORA_EMBED_A : embeds ? LORA_EMBED_B : LORA_B];
    struct dora_job j = { &m->compute, a, dora_weight(a), pa->own, pb->own, norm, NULL };
    int64_t rows = pool_threads(m->pool) * LORA_NORM_ROWS, n = twin ? param_len(pa) : 0;
    j.temp = mem_array(&m->host.mem, embeds ? lora_col_temp(&j.w) : rows * j.w.cols + n, 4);
    if (!j.temp) return PEFT_ENOMEM;
    if (twin) j.pa = j.temp + rows * j.w.cols;
    for (int64_t i = 0; i < n; i++)
        j.temp[rows * j.w.cols + i % pa->cols * pa->rows + i / pa->cols] = pa->own[i];
    if (embeds) lora_col_norms(&m->compute, norm, &j.w, j.pa, j.pb, a->rank, a->scale, j.temp);
    else compute_rows(&m->compute, j.w.rows, LORA_NORM_ROWS, dora_rows, &j);
    mem_free(&m->host.mem, j.temp);
    return PEFT_OK;
}

static int dora_init(struct model *m, struct adapted *a, uint64_t seed, uint64_t stream)
{
    int rc = lora_init(m, a, seed, stream);
    return rc ? rc : dora_norms(m, a, a->part[LORA_M]->own);
}

static int64_t dora_len(const struct adapted *a) { return param_len(a->part[LORA_M]); }

static void dora_shape(const struct adapted *a, int k, int64_t *rows, int64_t *cols)
{
    (void)rows;
    if (k == LORA_M && a->site->kind == SITE_EMBED) *cols = a->site->w->cols;
}

static int dora_derive(struct model *m, struct adapted *a)
{
    int rc = dora_norms(m, a, a->derived);
    const float *mag = a->part[LORA_M]->own;
    for (int64_t i = 0; i < dora_len(a) && !rc; i++)
        a->derived[i] = a->derived[i] > 0 ? mag[i] / a->derived[i] : 0;
    return rc;
}

/* m / |W + s B A|: made before inference, and a node while training. */
static struct tensor *dora_factor(struct pass *p, const struct adapted *a)
{
    const struct param *w = a->site->w;
    int embeds = a->site->kind == SITE_EMBED, twin = is_twin(a);
    struct graph *g = p->g;
    if (!p->training)
        return graph_leaf(g, "dora", &qtype_f32, 1, dora_len(a), a->derived, NULL);
    struct tensor *m = nn_leaf(p, a->part[LORA_M]), *parts[2];
    struct tensor *weight = graph_leaf(g, w->name, w->type, w->rows, w->cols, w->data, NULL);
    for (int k = 0; k < 2; k++) {
        const struct param *q = a->part[(embeds || twin ? LORA_EMBED_A : LORA_A) + (twin ? !k : k)];
        parts[k] = graph_leaf(g, q->name, q->type, q->rows, q->cols, q->data, NULL);
    }
    if (embeds) return g_magnitude_cols(g, m, weight, parts[0], parts[1], a->scale);
    return g_magnitude(g, m, weight, twin ? g_turn(g, parts[0]) : parts[0], parts[1], a->scale);
}

static struct tensor *dora_after(struct pass *p, const struct adapted *a, struct tensor *x,
                                 struct tensor *y)
{
    return g_mul(p->g, lora_after(p, a, x, y), dora_factor(p, a));
}

static struct tensor *dora_embed(struct pass *p, const struct adapted *a, const int32_t *ids,
                                 int64_t n, struct tensor *y)
{
    return g_mul(p->g, lora_embed(p, a, ids, n, y), dora_factor(p, a));
}

static void dora_merge(struct model *m, const struct adapted *a, float *w, float *b)
{
    int64_t rows = a->site->w->rows, cols = a->site->w->cols;
    int embeds = a->site->kind == SITE_EMBED;
    lora_merge(m, a, w, b);
    for (int64_t i = 0; i < rows; i++)
        if (embeds) m->compute.k->mul(w + i * cols, w + i * cols, a->derived, 0, cols);
        else m->compute.k->axpy(w + i * cols, w + i * cols, a->derived[i], 0, cols);
}

const struct method method_dora = {
    .name = "dora",
    .peft_type = "LORA",
    .mark = "use_dora",
    .about = "LoRA on the weight's direction, and the length of each of its rows",
    .config = lora_config,
    .settings = lora_settings,
    .parts = { { "lora_A.weight", PART_RANK, PART_IN, 0, 0 },
               { "lora_B.weight", PART_OUT, PART_RANK, 0, 0 },
               { "lora_magnitude_vector", PART_ONE, PART_OUT, PART_EACH, SITE_LINEAR | SITE_EMBED },
               { "lora_embedding_A", PART_OUT, PART_RANK, PART_TURNED, SITE_EMBED },
               { "lora_embedding_B", PART_IN, PART_RANK, 0, SITE_EMBED } },
    .at = SITE_LINEAR | SITE_EMBED,
    .rank = 16,
    .lr = 2e-4f,
    .patterns = PATTERN_NUMBER,
    .shape = dora_shape,
    .init = dora_init,
    .set_scale = lora_scale,
    .derived_len = dora_len,
    .derive = dora_derive,
    .after = dora_after,
    .embed = dora_embed,
    .merge = dora_merge
};
