/* Attention of few queries over many keys, as in decoding: keys and values are read
 * once, as they lie, since packing them would cost more than it saves.  Where there are
 * few tasks the keys are cut into slices, by their number alone, whose sums are joined
 * at the end (Dao et al. 2023, Flash-Decoding). */
#include "kernel/attn_few.h"

#include <float.h>
#include <math.h>

enum {
    SLICES = 8,                     /* at most */
    SLICE_KEYS = 64,                /* at least */
    FEW_TASKS = 12,                     /* that keep threads busy */
    HEADS = 64                      /* that share keys and are worked off at once */
};

static float half_slope(const struct attn *a, float x)
{
    uint16_t half;
    qtype_bf16.from_f32(&half, &x, 1);
    qtype_bf16.to_f32(&x, &half, 1);
    return x * a->scale;
}

void attn_add_bias(const struct attn *a, const float *bias, int64_t row, int64_t head,
                   int64_t from, int64_t to, float *s, int64_t apart)
{
    for (int64_t k = from; a->slopes && k < to; k++) {
        float *at = &s[(k - from) * apart], slope = a->slopes[head];
        if (a->half_slopes) *at += half_slope(a, slope * (float)(k - a->lo[row]));
        else *at += slope * (float)(k + 1 - a->hi[row]);
    }
    for (int64_t k = from; bias && k < to; k++)
        s[(k - from) * apart] += bias[(attn_distance(a, row) + k) * a->heads + head];
}

float attn_log_sum(float max, float sum)
{
    return sum == 0.0f ? -FLT_MAX : (float)((double)max + log((double)sum));
}

/* What a slice leaves of a query and head; those of neighbouring heads follow. */
struct slice_sums { float *max, *sum, *out; };
static struct slice_sums sums_at(const struct attn_few *f, int64_t at, int64_t slice)
{
    int64_t all = f->a->nq * f->a->heads, i = slice * all + at, n = SLICES * all;
    return (struct slice_sums){ f->slice + i, f->slice + n + i,
                                f->slice + 2 * n + i * f->a->head_dim };
}

int64_t attn_few_work(const struct attn *a)
{
    return a->nq * a->heads * SLICES * (a->head_dim + 2) * (int64_t)sizeof(float);
}

void attn_few_slices(struct attn_few *f, int64_t tasks, void *work)
{
    const struct attn *a = f->a;
    int64_t keys = 0;
    for (int64_t i = 0; i < a->nq; i++) keys = MAX(keys, a->hi[i] - a->lo[i]);
    if (tasks < FEW_TASKS) f->slices = MAX(MIN(SLICES, keys / SLICE_KEYS), 1);
    f->slice = work;
}

/* Sums over the keys [key, end), not yet divided. */
static void add_keys(const struct attn_few *f, int64_t row, int64_t head, int64_t heads,
                     int64_t key, int64_t end, struct slice_sums to, float *s)
{
    const struct attn *a = f->a;
    const struct kernels *kernels = f->c->k;
    int64_t dim = a->head_dim, ld = a->kv_heads * dim, most = FEW_SCORES / heads;
    int64_t first = head / (a->heads / a->kv_heads) * dim;
    for (int64_t n; key < end; key += n) {
        n = MIN(most, end - key);
        f->level->dots(s, n, f->k + key * ld + first, ld, n, f->q + (row * a->heads + head) * dim,
                       dim, heads, dim);
        kernels->axpy(s, s, a->scale, 0, heads * n);
        for (int64_t h = 0; h < heads; h++) {
            float *score = s + h * n, *out = to.out + h * dim;
            attn_add_bias(a, f->bias, row, head + h, key, key + n, score, 1);
            float fix = f->level->score_row(score, n, a->softcap, &to.max[h], &to.sum[h]);
            if (fix != 1.0f) kernels->axpy(out, out, fix, 0, dim);
            f->level->mix(out, score, f->v + key * ld + first, ld, n, dim);
        }
    }
}

static void finish(const struct attn_few *f, int64_t at, float max, float sum)
{
    float *out = f->out + at * f->a->head_dim;
    f->lse[at] = attn_log_sum(max, sum);
    if (sum != 0.0f) f->c->k->axpy(out, out, 1.0f / sum, 0, f->a->head_dim);
}

static void few_heads(const struct attn_few *f, int64_t row, int64_t head, int64_t n,
                      int64_t slice, float *scratch)
{
    const struct attn *a = f->a;
    int64_t at = row * a->heads + head, lo = a->lo[row], keys = MAX(a->hi[row] - lo, 0);
    float max[HEADS], sum[HEADS];
    struct slice_sums to = { max, sum, f->out + at * a->head_dim };
    if (f->slices > 1) to = sums_at(f, at, slice);
    f->c->k->fill(to.out, 0.0f, n * a->head_dim);
    f->c->k->fill(to.max, -FLT_MAX, n);
    f->c->k->fill(to.sum, 0.0f, n);
    add_keys(f, row, head, n, lo + keys * slice / f->slices,
             lo + keys * (slice + 1) / f->slices, to, scratch);
    for (int64_t h = 0; h < n && f->slices == 1; h++) finish(f, at + h, max[h], sum[h]);
}

void attn_few_row(const struct attn_few *f, int64_t row, int64_t head, int64_t n, int64_t slice,
                  float *scratch)
{
    for (int64_t h = 0; h < n; h += HEADS)
        few_heads(f, row, head + h, MIN(HEADS, n - h), slice, scratch);
}

void attn_few_join(const struct attn_few *f)
{
    int64_t dim = f->a->head_dim;
    for (int64_t at = 0; at < f->a->nq * f->a->heads; at++) {
        float max = -FLT_MAX, sum = 0.0f, *out = f->out + at * dim;
        for (int64_t i = 0; i < f->slices; i++) max = MAX(max, *sums_at(f, at, i).max);
        for (int64_t i = 0; i < f->slices; i++) {
            struct slice_sums s = sums_at(f, at, i);
            float share = (float)exp((double)(*s.max - max));
            sum += share * *s.sum;
            f->c->k->axpy(out, s.out, share, i > 0, dim);
        }
        finish(f, at, max, sum);
    }
}
