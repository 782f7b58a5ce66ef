/* Attention in blocks with an online softmax (Dao et al. 2022, 2023).
 *
 * Forward, for a block of queries and one head, over blocks of keys:
 *     S = scale Q K^T;  m' = max(m, max S);  P = exp(S - m')
 *     O = exp(m - m') O + P V,  at the end O / sum and lse = m + log(sum)
 * Backward, from lse and delta = rowsum(dO * O), P being recomputed:
 *     dP = dO V^T;  dS = P (dP - delta)
 *     dQ = scale dS K;  dK = scale dS^T Q;  dV = P^T dO
 * dQ is summed over keys and dK, dV over queries, so they are two passes, in
 * each of which a task owns what it writes: two products of seven are made
 * twice, and nothing depends on the number of threads. */
#include "kernel/level.h"
#include "kernel/sgemm.h"

#include <float.h>
#include <math.h>

/* A tile of scores is SIDE of what a task owns times SPAN of what it sums
 * over.  Up to FEW queries, as in decoding, a product is a memory-bound pass
 * over the keys, and BLAS would only pack them first. */
enum { SIDE = 64, SPAN = 256, FEW = 2 };

struct attn_job {
    const struct compute *c;
    const struct level *level;
    const struct attn *a;
    const float *q, *k, *v, *bias;
    float *new_out, *new_lse;              /* forward */
    const float *dout, *out, *lse;         /* backward */
    float *delta;
    struct attn_grads d;
};

/* Where a tile lies: `rows` queries from `row`, `keys` keys from `key`. */
struct attn_tile {
    int64_t row, rows, key, keys;
    int64_t q, k;                /* offset of its first query and first key */
    int64_t ldq, ldk, dim;
};

int64_t attn_scratch(const struct attn *a)
{
    return 2 * SIDE * SPAN * (int64_t)sizeof(float) + a->distances * (int64_t)sizeof(double);
}

static struct attn_tile tile_at(const struct attn *a, int64_t row, int64_t rows, int64_t key,
                                int64_t keys, int64_t head)
{
    struct attn_tile t = { .row = row, .rows = rows, .key = key, .keys = keys };
    t.dim = a->head_dim;
    t.ldq = a->heads * t.dim;
    t.ldk = a->kv_heads * t.dim;
    t.q = row * t.ldq + head * t.dim;
    t.k = key * t.ldk + head / (a->heads / a->kv_heads) * t.dim;
    return t;
}

/* Row i of the tile takes part with its columns [*from, *to). */
static void tile_range(const struct attn *a, const struct attn_tile *t, int64_t i, int64_t *from,
                       int64_t *to)
{
    *from = MAX(a->lo[t->row + i] - t->key, 0);
    *to = MIN(a->hi[t->row + i] - t->key, t->keys);
}

/* The keys that any of the rows [row, row + rows) attends to. */
static void touched_keys(const struct attn *a, int64_t row, int64_t rows, int64_t *from,
                         int64_t *to)
{
    *from = a->nk;
    *to = 0;
    for (int64_t i = row; i < row + rows; i++) {
        if (a->lo[i] >= a->hi[i]) continue;
        *from = MIN(*from, a->lo[i]);
        *to = MAX(*to, a->hi[i]);
    }
}

static bool row_touches(const struct attn *a, int64_t i, int64_t key, int64_t keys)
{
    return a->lo[i] < a->hi[i] && a->lo[i] < key + keys && a->hi[i] > key;
}

/* The next at most SPAN rows from *row on that begin and end with one that
 * attends to keys [key, key + keys); 0 = there are none. */
static int64_t touching_rows(const struct attn *a, int64_t key, int64_t keys, int64_t *row)
{
    int64_t i = *row;
    while (i < a->nq && !row_touches(a, i, key, keys)) i++;
    *row = i;
    int64_t end = MIN(i + SPAN, a->nq);
    while (end > i && !row_touches(a, end - 1, key, keys)) end--;
    return end - i;
}

static void product(const struct attn_job *j, int ta, int tb, int64_t m, int64_t n, int64_t k,
                    float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                    float beta, float *c, int64_t ldc)
{
    const struct tile *half = j->c->half;
    if (half) tile_multiply(half, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    else j->c->blas->sgemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

/* s [rows, keys] = alpha x y^T, x placed like q and y like k. */
static void tile_scores(const struct attn_job *j, const struct attn_tile *t, float *s,
                        float alpha, const float *x, const float *y)
{
    x += t->q;
    y += t->k;
    if (t->rows > FEW) {
        product(j, 0, 1, t->rows, t->keys, t->dim, alpha, x, t->ldq, y, t->ldk, 0.0f, s,
                t->keys);
        return;
    }
    for (int64_t r = 0; r < t->rows; r++)
        for (int64_t i = 0; i < t->keys; i++)
            *s++ = alpha * j->c->k->dot(x + r * t->ldq, y + i * t->ldk, t->dim);
}

/* y += alpha s x, y placed like q and x like k. */
static void tile_to_rows(const struct attn_job *j, const struct attn_tile *t, float *y,
                         float alpha, const float *s, const float *x)
{
    y += t->q;
    x += t->k;
    if (t->rows > FEW) {
        product(j, 0, 0, t->rows, t->dim, t->keys, alpha, s, t->keys, x, t->ldk, 1.0f, y,
                t->ldq);
        return;
    }
    for (int64_t r = 0; r < t->rows; r++, s += t->keys)
        for (int64_t i = 0; i < t->keys; i++)
            if (s[i] != 0.0f)
                j->c->k->axpy(y + r * t->ldq, x + i * t->ldk, alpha * s[i], 1, t->dim);
}

/* y += alpha s^T x, y placed like k and x like q. */
static void tile_to_keys(const struct attn_job *j, const struct attn_tile *t, float *y,
                         float alpha, const float *s, const float *x)
{
    product(j, 1, 0, t->keys, t->dim, t->rows, alpha, s, t->keys, x + t->q, t->ldq, 1.0f,
            y + t->k, t->ldk);
}

static float half_slope(const struct attn *a, float x)
{
    uint16_t half;
    qtype_bf16.from_f32(&half, &x, 1);
    qtype_bf16.to_f32(&x, &half, 1);
    return x * a->scale;
}

/* The row of the bias that belongs to column 0 of row r of the tile. */
static int64_t first_distance(const struct attn *a, const struct attn_tile *t, int64_t r)
{
    return t->key - a->self[t->row + r] + a->origin;
}

/* s += ALiBi's bias of the head, relative to the last key of each row, and the
 * learned one. */
static void tile_bias(const struct attn_job *j, const struct attn_tile *t, float *s, int64_t head)
{
    const struct attn *a = j->a;
    for (int64_t r = 0; a->slopes && r < t->rows; r++)
        for (int64_t i = 0; i < t->keys; i++) {
            int64_t key = t->key + i, row = t->row + r;
            float *at = &s[r * t->keys + i], slope = a->slopes[head];
            if (a->half_slopes) *at += half_slope(a, slope * (float)(key - a->lo[row]));
            else *at += slope * (float)(key + 1 - a->hi[row]);
        }
    for (int64_t r = 0; j->bias && r < t->rows; r++) {
        int64_t from, to, first = first_distance(a, t, r);
        tile_range(a, t, r, &from, &to);
        for (int64_t i = from; i < to; i++)
            s[r * t->keys + i] += j->bias[(first + i) * a->heads + head];
    }
}

static void clear_rows(const struct attn_job *j, float *y, int64_t rows, int64_t n, int64_t ld)
{
    for (int64_t r = 0; r < rows; r++) j->c->k->fill(y + r * ld, 0.0f, n);
}

/* Task -> head and block of queries; the last blocks come first, since under
 * a causal mask they are the longest. */
static struct attn_tile query_tile(const struct attn *a, int64_t task, int64_t *head)
{
    int64_t block = div_up(a->nq, SIDE) - 1 - task / a->heads;
    *head = task % a->heads;
    int64_t row = block * SIDE;
    return tile_at(a, row, MIN(SIDE, a->nq - row), 0, 0, *head);
}

/* --- forward */
static void forward_tile(const struct attn_job *j, const struct attn_tile *t, int64_t head,
                         float *s, float *max, float *sum)
{
    tile_scores(j, t, s, j->a->scale, j->q, j->k);
    tile_bias(j, t, s, head);
    for (int64_t r = 0; r < t->rows; r++) {
        int64_t from, to;
        tile_range(j->a, t, r, &from, &to);
        float fix = j->level->score_row(s + r * t->keys, t->keys, from, to, j->a->softcap,
                                        &max[r], &sum[r]);
        float *o = j->new_out + t->q + r * t->ldq;
        if (fix != 1.0f) j->c->k->axpy(o, o, fix, 0, t->dim);
    }
    tile_to_rows(j, t, j->new_out, 1.0f, s, j->v);
}

/* The rows from `row` on, before `end`, each of which shares keys with the one before;
 * those of another text share none, and between them may lie many. */
static int64_t related_rows(const struct attn *a, int64_t row, int64_t end)
{
    int64_t i = row + 1;
    while (i < end && a->lo[i] < a->hi[i - 1] && a->lo[i - 1] < a->hi[i]) i++;
    return i - row;
}

static void forward_block(const struct attn_job *j, struct attn_tile block, int64_t head,
                          float *scratch)
{
    const struct attn *a = j->a;
    float max[SIDE], sum[SIDE];
    int64_t from, to;
    for (int64_t r = 0; r < block.rows; r++) {
        max[r] = -FLT_MAX;
        sum[r] = 0.0f;
    }
    clear_rows(j, j->new_out + block.q, block.rows, block.dim, block.ldq);
    touched_keys(a, block.row, block.rows, &from, &to);
    for (int64_t key = from; key < to; key += SPAN) {
        struct attn_tile t = tile_at(a, block.row, block.rows, key, MIN(SPAN, to - key), head);
        forward_tile(j, &t, head, scratch, max, sum);
    }
    for (int64_t r = 0; r < block.rows; r++) {
        float *o = j->new_out + block.q + r * block.ldq;
        float *lse = &j->new_lse[(block.row + r) * a->heads + head];
        *lse = -FLT_MAX;
        if (sum[r] == 0.0f) continue;
        *lse = (float)((double)max[r] + log((double)sum[r]));
        j->c->k->axpy(o, o, 1.0f / sum[r], 0, block.dim);
    }
}

static void forward_task(const struct attn_job *j, int64_t task, float *scratch)
{
    int64_t head;
    const struct attn_tile all = query_tile(j->a, task, &head);
    for (int64_t r = 0, n; r < all.rows; r += n) {
        n = related_rows(j->a, all.row + r, all.row + all.rows);
        forward_block(j, tile_at(j->a, all.row + r, n, 0, 0, head), head, scratch);
    }
}

static void forward_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct attn_job *j = arg;
    for (int64_t task = begin; task < end; task++)
        forward_task(j, task, compute_scratch(j->c, worker));
}

void attn_forward(const struct compute *c, float *out, float *lse, const float *q, const float *k,
                  const float *v, const float *bias, const struct attn *a)
{
    struct attn_job j = {
        .c = c, .level = level_of(c->k), .a = a, .q = q, .k = k, .v = v, .bias = bias,
        .new_out = out, .new_lse = lse,
    };
    compute_rows(c, div_up(a->nq, SIDE) * a->heads, 1, forward_range, &j);
}

/* --- backward */
/* s = P and ds = dS, which still lacks the factor scale. */
static void backward_tile(const struct attn_job *j, const struct attn_tile *t, int64_t head,
                          float *s, float *ds)
{
    const struct attn *a = j->a;
    tile_scores(j, t, s, a->scale, j->q, j->k);
    tile_bias(j, t, s, head);
    tile_scores(j, t, ds, 1.0f, j->dout, j->v);
    for (int64_t r = 0; r < t->rows; r++) {
        int64_t from, to, at = (t->row + r) * a->heads + head;
        tile_range(a, t, r, &from, &to);
        j->level->score_back(s + r * t->keys, ds + r * t->keys, t->keys, from, to, a->softcap,
                             j->lse[at], j->delta[at]);
    }
}

static void delta_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct attn_job *j = arg;
    const int64_t dim = j->a->head_dim;
    (void)worker;
    for (int64_t i = begin * j->a->heads; i < end * j->a->heads; i++)
        j->delta[i] = j->c->k->dot(j->dout + i * dim, j->out + i * dim, dim);
}

/* sum[d] += what ds says of the bias at distance d. */
static void tile_to_bias(const struct attn *a, const struct attn_tile *t, double *sum,
                         const float *ds)
{
    for (int64_t r = 0; r < t->rows; r++) {
        int64_t from, to, first = first_distance(a, t, r);
        tile_range(a, t, r, &from, &to);
        for (int64_t i = from; i < to; i++) sum[first + i] += (double)ds[r * t->keys + i];
    }
}

static void query_task(const struct attn_job *j, int64_t task, float *scratch)
{
    int64_t head, from, to;
    struct attn_tile block = query_tile(j->a, task, &head);
    float *s = scratch, *ds = scratch + SIDE * SPAN;
    double *sum = (double *)(void *)(ds + SIDE * SPAN);
    if (j->d.q && !j->d.add_q)
        clear_rows(j, j->d.q + block.q, block.rows, block.dim, block.ldq);
    touched_keys(j->a, block.row, block.rows, &from, &to);
    for (int64_t key = from; key < to; key += SPAN) {
        struct attn_tile t =
            tile_at(j->a, block.row, block.rows, key, MIN(SPAN, to - key), head);
        backward_tile(j, &t, head, s, ds);
        if (j->d.q) tile_to_rows(j, &t, j->d.q, j->a->scale, ds, j->k);
        if (j->d.bias) tile_to_bias(j->a, &t, sum, ds);
    }
}

static void query_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct attn_job *j = arg;
    for (int64_t task = begin; task < end; task++)
        query_task(j, task, compute_scratch(j->c, worker));
}

/* With a bias to learn a task is a whole head, which owns its column. */
static void head_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct attn_job *j = arg;
    const struct attn *a = j->a;
    float *scratch = compute_scratch(j->c, worker);
    double *sum = (double *)(void *)(scratch + 2 * SIDE * SPAN);
    for (int64_t head = begin; head < end; head++) {
        for (int64_t d = 0; d < a->distances; d++) sum[d] = 0;
        for (int64_t b = 0; b < div_up(a->nq, SIDE); b++)
            query_task(j, b * a->heads + head, scratch);
        for (int64_t d = 0; d < a->distances; d++) {
            float *g = &j->d.bias[d * a->heads + head];
            *g = (float)sum[d] + (j->d.add_bias ? *g : 0.0f);
        }
    }
}

static void key_task(const struct attn_job *j, int64_t task, float *scratch)
{
    const struct attn *a = j->a;
    const int64_t group = a->heads / a->kv_heads, first = task % a->kv_heads * group;
    const int64_t key = task / a->kv_heads * SIDE, keys = MIN(SIDE, a->nk - key);
    struct attn_tile block = tile_at(a, 0, 0, key, keys, first);
    if (j->d.k && !j->d.add_k) clear_rows(j, j->d.k + block.k, keys, block.dim, block.ldk);
    if (j->d.v && !j->d.add_v) clear_rows(j, j->d.v + block.k, keys, block.dim, block.ldk);
    int64_t row = 0, rows;
    for (; (rows = touching_rows(a, key, keys, &row)) > 0; row += rows) {
        for (int64_t head = first; head < first + group; head++) {
            struct attn_tile t = tile_at(a, row, rows, key, keys, head);
            float *s = scratch, *ds = scratch + SIDE * SPAN;
            backward_tile(j, &t, head, s, ds);
            if (j->d.k) tile_to_keys(j, &t, j->d.k, a->scale, ds, j->q);
            if (j->d.v) tile_to_keys(j, &t, j->d.v, 1.0f, s, j->dout);
        }
    }
}

static void key_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct attn_job *j = arg;
    for (int64_t task = begin; task < end; task++)
        key_task(j, task, compute_scratch(j->c, worker));
}

void attn_backward(const struct compute *c, const struct attn_grads *g, const float *dout,
                   const float *q, const float *k, const float *v, const float *bias,
                   const float *out, const float *lse, float *delta, const struct attn *a)
{
    struct attn_job j = {
        .c = c, .level = level_of(c->k), .a = a, .q = q, .k = k, .v = v, .bias = bias,
        .dout = dout, .out = out, .lse = lse, .delta = delta, .d = *g,
    };
    compute_rows(c, a->nq, SIDE, delta_range, &j);
    if (g->bias) compute_rows(c, a->heads, 1, head_range, &j);
    else if (g->q) compute_rows(c, div_up(a->nq, SIDE) * a->heads, 1, query_range, &j);
    if (g->k || g->v) compute_rows(c, div_up(a->nk, SIDE) * a->kv_heads, 1, key_range, &j);
}
