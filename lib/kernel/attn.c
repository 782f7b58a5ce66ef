/* Attention in blocks with an online softmax (Dao et al. 2022, 2023).
 *
 * A block is some rows of queries, and of each the heads that share a head of
 * keys.  Its scores lie turned, S^T [keys, columns], so that a softmax works on
 * vectors of columns, and every operand is packed for the register tiles once,
 * keys for all heads of a group.  Forward, over tiles of keys:
 *     S = scale Q K^T;  m' = max(m, max S);  P = exp(S - m')
 *     O = exp(m - m') O + P V,  at the end O / sum and lse = m + log(sum)
 * Backward, from lse and delta = rowsum(dO * O), P being recomputed:
 *     dP = dO V^T;  dS = P (dP - delta)
 *     dQ = scale dS K;  dK = scale dS^T Q;  dV = P^T dO
 * What no row attends to is left out of all these products, tile by tile.
 *
 * A task of forward is a block; one of backward is a chain, rows whose keys no
 * other row attends to, so that it owns what it writes.  Where those are few,
 * every query head makes its own dK and dV, which are then added up.  All of
 * this follows from the shapes, so nothing depends on the number of threads. */
#include "kernel/attn_few.h"
#include "kernel/level.h"
#include "kernel/tile.h"

#include <float.h>
#include <math.h>

enum {
    COLS = 192,         /* columns of a block; a multiple of every tile's width */
    KEYS = 128,         /* keys of a tile of scores */
    UNIT = 32,          /* no tile has more rows, nor fills a depth up to more */
    FEW = 2,            /* queries that pass over keys as they lie, as in decoding */
    CHAINS = 12         /* chains and heads of keys that keep threads busy */
};

struct attn_job {
    const struct compute *c;
    const struct level *level;
    const struct tile *tile;
    const struct attn *a;
    const float *q, *k, *v, *bias;
    float *new_out, *new_lse;              /* forward */
    const float *dout, *out, *lse;         /* backward */
    struct attn_grads d;
    int32_t *start;                        /* first rows of blocks or chains, and the end */
    int64_t n_start;
    int64_t group, parts;                  /* query heads of a block; such parts of a group */
    struct attn_few few;
    bool by_head;                          /* dK and dV by query heads first: */
    float *part_k, *part_v;                /* [heads, nk, head_dim] */
};

/* A worker's memory; operands are packed in the order of the tiles. */
struct area {
    float *s, *ds;                         /* [KEYS, COLS] */
    float *some, *sum;                     /* [COLS, head_dim] */
    char *k, *v, *k_put, *v_put;           /* panels of keys; strips, keys in the depth */
    char *q, *o, *q_put, *o_put;           /* strips of columns; columns in the depth */
    char *panel;
    double *bias;
};

/* Column c is row c / g and head c % g of those from `row` and `head` on. */
struct attn_block {
    const struct attn_job *j;
    struct area m;
    int64_t row, rows, head, g, cols;
    float max[COLS], sum[COLS], fix[COLS], lse[COLS], delta[COLS];
    /* The keys [key, key + keys), and of them what columns and strips attend to. */
    int64_t key, keys;
    int32_t lo[COLS], hi[COLS], from[COLS], to[COLS];
};

static int64_t area_of(const struct attn *a, float *at, struct area *m)
{
    int64_t d = div_up(a->head_dim, UNIT) * UNIT, w = div_up(d + TILE_COLS, 16) * 16, n = 0;
    const int64_t size[] = { KEYS * COLS * 4, KEYS * COLS * 4, COLS * d * 4, COLS * d * 4,
                             KEYS * d * TILE_SIZE, KEYS * d * TILE_SIZE, KEYS * w * TILE_SIZE,
                             KEYS * w * TILE_SIZE, COLS * d * TILE_SIZE, COLS * d * TILE_SIZE,
                             COLS * w * TILE_SIZE, COLS * w * TILE_SIZE, UNIT * COLS * TILE_SIZE };
    char *p[ARRAY_LEN(size)];
    for (size_t i = 0; i < ARRAY_LEN(size); n += size[i++]) p[i] = at ? (char *)at + n : NULL;
    if (at)
        *m = (struct area){ at, (float *)(void *)p[1], (float *)(void *)p[2],
                            (float *)(void *)p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10],
                            p[11], p[12], (double *)(void *)((char *)at + n) };
    return n;
}

int64_t attn_scratch(const struct attn *a)
{
    return div_up(area_of(a, NULL, NULL) + a->distances * (int64_t)sizeof(double), 64) * 64;
}

/* --- which rows belong together */

static bool sees_none(const struct attn *a, int64_t i) { return a->lo[i] >= a->hi[i]; }

/* The keys that any of the rows attends to. */
static void touched_keys(const struct attn *a, int64_t row, int64_t rows, int64_t *from,
                         int64_t *to)
{
    *from = a->nk;
    *to = 0;
    for (int64_t i = row; i < row + rows; i++) {
        if (sees_none(a, i)) continue;
        *from = MIN(*from, a->lo[i]);
        *to = MAX(*to, a->hi[i]);
    }
}

/* The rows from `row` on, each of which shares keys with the one before. */
static int64_t related_rows(const struct attn *a, int64_t row)
{
    int64_t i = row + 1;
    while (i < a->nq && a->lo[i] < a->hi[i - 1] && a->lo[i - 1] < a->hi[i]) i++;
    return i - row;
}

/* Rows that share keys, cut into equal blocks. */
static void find_blocks(struct attn_job *j)
{
    const struct attn *a = j->a;
    for (int64_t row = 0, rows; row < a->nq; row += rows) {
        rows = related_rows(a, row);
        int64_t each = div_up(rows, div_up(rows, COLS / j->group));
        for (int64_t i = 0; i < rows; i += each) j->start[j->n_start++] = (int32_t)(row + i);
    }
    j->start[j->n_start] = (int32_t)a->nq;
}

/* A chain begins where all keys from here on lie behind those from before. */
static void find_chains(struct attn_job *j)
{
    const struct attn *a = j->a;
    int32_t least = INT32_MAX, most = 0, *start = j->start;
    for (int64_t i = a->nq - 1; i >= 0; i--) {
        if (!sees_none(a, i)) least = MIN(least, a->lo[i]);
        start[i] = least;
    }
    for (int64_t i = 0; i < a->nq; i++) {
        bool begins = most && start[i] >= most && !sees_none(a, i);
        if (!sees_none(a, i)) most = MAX(most, a->hi[i]);
        if (begins || !i) start[j->n_start++] = (int32_t)i;
    }
    if (!a->nq) start[j->n_start++] = 0;
    start[j->n_start] = (int32_t)a->nq;
}

/* --- products of a block, beginning with what is left out */

/* The next keys of the block. */
static void take_keys(struct attn_block *b, int64_t key, int64_t keys)
{
    const struct attn *a = b->j->a;
    int64_t nr = b->j->tile->nr;
    b->key = key;
    b->keys = keys;
    for (int64_t c = 0; c < COLS; c++) {
        int64_t row = b->row + c / b->g;
        b->lo[c] = c < b->cols ? (int32_t)MAX(a->lo[row] - key, 0) : 0;
        b->hi[c] = c < b->cols ? (int32_t)MIN(a->hi[row] - key, keys) : 0;
    }
    for (int64_t s = 0; s < b->cols; s += nr) {
        int32_t from = (int32_t)keys, to = 0;
        for (int64_t c = s; c < s + nr; c++) {
            if (b->lo[c] >= b->hi[c]) continue;
            from = MIN(from, b->lo[c]);
            to = MAX(to, b->hi[c]);
        }
        b->from[s] = from;
        b->to[s] = to;
    }
}

static int64_t key_at(const struct attn_block *b)
{
    const struct attn *a = b->j->a;
    return (b->key * a->kv_heads + b->head / (a->heads / a->kv_heads)) * a->head_dim;
}

/* s [keys, columns] = alpha times the keys' rows of x by strips of columns. */
static void by_columns(const struct attn_block *b, float *s, float alpha, const float *x,
                       const char *strips)
{
    const struct tile *t = b->j->tile;
    int64_t dim = b->j->a->head_dim, each = tile_deep(t, dim) * t->size;
    struct tile_part all = tile_rows(t, b->m.k, x + key_at(b), dim * b->j->a->kv_heads, b->keys,
                                     dim), part = all;
    int64_t row = tile_row(t, &all);
    for (int64_t c = 0; c < b->cols; c += t->nr)
        for (int64_t k = b->from[c] / t->mr * t->mr; k < b->to[c]; k += t->mr) {
            part.a = (const char *)all.a + k * row;
            part.b = strips + c * each;
            t->sum(&part, 1, s + k * COLS + c, COLS, MIN(t->mr, b->keys - k), t->nr, alpha,
                         0.0f, NULL);
        }
}

/* y[rows, head_dim] += alpha times part's A by strips, of whose depth a part is left out. */
static void by_dims(const struct attn_block *b, float *y, int64_t ld, int64_t rows,
                    struct tile_part part, float alpha, const char *strips, int64_t all,
                    int64_t first)
{
    const struct tile *t = b->j->tile;
    int64_t dim = b->j->a->head_dim, each = tile_deep(t, all) * t->size;
    strips += first * t->nr * t->size;
    for (int64_t i = 0; i < dim; i += t->nr) {
        part.b = strips + i * each;
        t->sum(&part, 1, y + i, ld, rows, MIN(t->nr, dim - i), alpha, 1.0f, NULL);
    }
}

/* y[columns, head_dim] += alpha s^T times what lies in the strips, by keys. */
static void to_columns(const struct attn_block *b, float *y, float alpha, const float *s,
                       const char *strips)
{
    const struct tile *t = b->j->tile;
    int64_t dim = b->j->a->head_dim;
    for (int64_t c = 0; c < b->cols; c += t->mr) {
        int64_t rows = MIN(t->mr, b->cols - c), from = b->keys, to = 0;
        for (int64_t i = c / t->nr * t->nr; i < c + rows; i += t->nr) {
            from = MIN(from, b->from[i] / t->deep * t->deep);
            to = MAX(to, b->to[i]);
        }
        if (from >= to) continue;
        t->pack_turned(b->m.panel, s + from * COLS + c, COLS, rows, to - from);
        const struct tile_part part = { .depth = to - from, .a = b->m.panel };
        by_dims(b, y + c * dim, dim, rows, part, alpha, strips, b->keys, from);
    }
}

/* y[keys, head_dim] += alpha s times what lies in the strips, by columns. */
static void to_keys(const struct attn_block *b, float *y, int64_t ld, float alpha, const float *s,
                    const char *strips)
{
    const struct tile *t = b->j->tile;
    for (int64_t k = 0; k < b->keys; k += t->mr) {
        int64_t rows = MIN(t->mr, b->keys - k), from = b->cols, to = 0;
        for (int64_t c = 0; c < b->cols; c += t->nr) {
            if (b->from[c] >= k + rows || b->to[c] <= k) continue;
            from = MIN(from, c);
            to = MIN(c + t->nr, b->cols);
        }
        if (from >= to) continue;
        by_dims(b, y + k * ld, ld, rows,
                tile_rows(t, b->m.panel, s + k * COLS + from, COLS, rows, to - from), alpha,
                strips, b->cols, from);
    }
}

/* --- packing */

static int64_t column_at(const struct attn_block *b, int64_t c)
{
    const struct attn *a = b->j->a;
    return ((b->row + c / b->g) * a->heads + b->head + c % b->g) * a->head_dim;
}

/* Rows of x in the depth of strips. */
static void put_strips(const struct attn_block *b, char *to, const float *x, int64_t ld,
                       int64_t rows)
{
    const struct tile *t = b->j->tile;
    int64_t dim = b->j->a->head_dim, each = tile_deep(t, rows) * t->size;
    for (int64_t i = 0; i < dim; i += t->nr) {
        t->put(to + i * each, 0, x + i, ld, rows, MIN(t->nr, dim - i));
        tile_fill(t, to + i * each, rows);
    }
}

static void put_keys(const struct attn_block *b, char *to, const float *x)
{
    const struct attn *a = b->j->a;
    put_strips(b, to, x + key_at(b), (int64_t)a->kv_heads * a->head_dim, b->keys);
}

/* Strips of columns, and where it is wanted with columns in the depth. */
static void pack_columns(const struct attn_block *b, char *to, char *to_put, const float *x)
{
    const struct tile *t = b->j->tile;
    int64_t dim = b->j->a->head_dim, each = tile_deep(t, dim) * t->size;
    float *some = b->m.some;
    for (int64_t c = 0; c < b->cols; c += b->g)
        memcpy(some + c * dim, x + column_at(b, c), (size_t)(b->g * dim) * sizeof *x);
    for (int64_t c = 0; c < b->cols; c += t->nr)
        t->turn(to + c * each, some + c * dim, dim, MIN(t->nr, b->cols - c), dim);
    if (to_put) put_strips(b, to_put, some, dim, b->cols);
}

/* --- biases of the scores */

/* s <- scores but for the factor that is returned. */
static float scores(const struct attn_block *b, float *s)
{
    const struct attn *a = b->j->a;
    bool biased = a->slopes || b->j->bias;
    by_columns(b, s, biased ? a->scale : 1.0f, b->j->k, b->m.q);
    for (int64_t c = 0; biased && c < b->cols; c++)
        attn_add_bias(a, b->j->bias, b->row + c / b->g, b->head + c % b->g,
                      b->key + b->lo[c], b->key + b->hi[c], s + b->lo[c] * COLS + c, COLS);
    return biased ? 1.0f : a->scale;
}

/* sum[d] += what ds says of the bias at distance d. */
static void bias_gradient(const struct attn_block *b, const float *ds)
{
    for (int64_t c = 0; c < b->cols; c++) {
        double *sum = b->m.bias + attn_distance(b->j->a, b->row + c / b->g) + b->key;
        for (int64_t k = b->lo[c]; k < b->hi[c]; k++) sum[k] += (double)ds[k * COLS + c];
    }
}

static void begin_block(struct attn_block *b, const struct attn_job *j, int64_t row, int64_t rows,
                        int64_t unit)
{
    const struct attn *a = j->a;
    int64_t all = a->heads / a->kv_heads, first = unit % j->parts * j->group;
    b->j = j;
    b->row = row;
    b->rows = rows;
    b->head = unit / j->parts * all + first;
    b->g = MIN(j->group, all - first);
    b->cols = rows * b->g;
}

/* --- forward */
static void forward_tile(struct attn_block *b, bool first)
{
    const struct attn_job *j = b->j;
    const struct area *m = &b->m;
    int64_t dim = j->a->head_dim;
    put_keys(b, m->v_put, j->v);
    float scale = scores(b, m->s);
    j->level->score_block(m->s, COLS, b->keys, b->cols, b->lo, b->hi, scale, j->a->softcap,
                          b->max, b->sum, b->fix);
    for (int64_t c = 0; c < b->cols && !first; c++)
        if (b->fix[c] != 1.0f) j->c->k->axpy(m->sum + c * dim, m->sum + c * dim, b->fix[c], 0, dim);
    to_columns(b, m->sum, 1.0f, m->s, m->v_put);
}

static void forward_block(struct attn_block *b)
{
    const struct attn_job *j = b->j;
    const struct attn *a = j->a;
    int64_t from, to, dim = a->head_dim;
    for (int64_t c = 0; c < COLS; c++) {
        b->max[c] = -FLT_MAX;
        b->sum[c] = 0.0f;
    }
    pack_columns(b, b->m.q, NULL, j->q);
    j->c->k->fill(b->m.sum, 0.0f, b->cols * dim);
    touched_keys(a, b->row, b->rows, &from, &to);
    for (int64_t key = from; key < to; key += KEYS) {
        take_keys(b, key, MIN(KEYS, to - key));
        forward_tile(b, key == from);
    }
    for (int64_t c = 0; c < b->cols; c++) {
        int64_t at = column_at(b, c);
        float sum = b->sum[c];
        j->new_lse[at / dim] = attn_log_sum(b->max[c], sum);
        j->c->k->axpy(j->new_out + at, b->m.sum + c * dim, sum == 0.0f ? 0.0f : 1.0f / sum, 0, dim);
    }
}

static void forward_task(void *arg, int64_t task, int worker)
{
    const struct attn_job *j = arg;
    int64_t units = j->a->kv_heads * j->parts, slice = task % j->few.slices;
    task /= j->few.slices;
    int64_t i = j->n_start - 1 - task / units;
    struct attn_block b;
    area_of(j->a, compute_scratch(j->c, worker), &b.m);
    begin_block(&b, j, j->start[i], j->start[i + 1] - j->start[i], task % units);
    if (b.rows <= FEW) {
        for (int64_t r = 0; r < b.rows; r++)
            attn_few_row(&j->few, b.row + r, b.head, b.g, slice, b.m.s);
        return;
    }
    if (j->tile->begin) j->tile->begin();
    forward_block(&b);
    if (j->tile->end) j->tile->end();
}

static int64_t starts_bytes(const struct attn *a)
{
    return div_up((a->nq + 2) * (int64_t)sizeof(int32_t), 64) * 64;
}

int64_t attn_forward_work(const struct attn *a)
{
    return starts_bytes(a) + (a->nq <= FEW ? attn_few_work(a) : 0);
}

void attn_forward(const struct compute *c, float *out, float *lse, const float *q, const float *k,
                  const float *v, const float *bias, const struct attn *a, void *work)
{
    int64_t all = a->heads / a->kv_heads, group = MIN(all, COLS), units;
    struct attn_job j = {
        .c = c, .level = level_of(c->k), .tile = tile_of(c), .a = a, .q = q, .k = k, .v = v,
        .bias = bias, .new_out = out, .new_lse = lse, .start = work, .group = group,
        .parts = div_up(all, group),
    };
    find_blocks(&j);
    units = j.n_start * a->kv_heads * j.parts;
    j.few = (struct attn_few){ c, j.level, a, q, k, v, bias, out, lse, 1, NULL };
    if (a->nq <= FEW) attn_few_slices(&j.few, units, (char *)work + starts_bytes(a));
    pool_run(c->pool, units * j.few.slices, forward_task, &j);
    if (j.few.slices > 1) attn_few_join(&j.few);
}

/* --- backward */

/* Where the gradients of a block's keys are summed. */
struct key_grads { float *k, *v; int64_t ld; };

static void backward_tile(struct attn_block *b, const struct key_grads *g)
{
    const struct attn_job *j = b->j;
    const struct area *m = &b->m;
    float scale = scores(b, m->s);
    by_columns(b, m->ds, 1.0f, j->v, m->o);
    j->level->score_back(m->s, m->ds, COLS, b->keys, b->cols, b->lo, b->hi, scale, j->a->softcap,
                         b->lse, b->delta);
    scale = j->a->scale;
    if (g->v) to_keys(b, g->v + b->key * g->ld, g->ld, 1.0f, m->s, m->o_put);
    if (g->k) to_keys(b, g->k + b->key * g->ld, g->ld, scale, m->ds, m->q_put);
    if (j->d.bias) bias_gradient(b, m->ds);
    if (!j->d.q) return;
    put_keys(b, m->k_put, j->k);
    to_columns(b, m->sum, scale, m->ds, m->k_put);
}

static void backward_block(struct attn_block *b, const struct key_grads *g)
{
    const struct attn_job *j = b->j;
    const struct attn *a = j->a;
    const struct kernels *k = j->c->k;
    int64_t from, to, dim = a->head_dim;
    for (int64_t c = 0; c < COLS; c++) {
        int64_t at = c < b->cols ? column_at(b, c) : 0;
        b->lse[c] = c < b->cols ? j->lse[at / dim] : 0.0f;
        b->delta[c] = c < b->cols ? k->dot(j->dout + at, j->out + at, dim) : 0.0f;
    }
    pack_columns(b, b->m.q, b->m.q_put, j->q);
    pack_columns(b, b->m.o, b->m.o_put, j->dout);
    k->fill(b->m.sum, 0.0f, b->cols * dim);
    touched_keys(a, b->row, b->rows, &from, &to);
    for (int64_t key = from; key < to; key += KEYS) {
        take_keys(b, key, MIN(KEYS, to - key));
        backward_tile(b, g);
    }
    for (int64_t c = 0; c < b->cols && j->d.q; c++)
        k->axpy(j->d.q + column_at(b, c), b->m.sum + c * dim, 1.0f, j->d.add_q, dim);
}

/* Those of keys [from, to) that an owner has, cleared where they are to be. */
static struct key_grads key_grads(const struct attn_job *j, int64_t owner, int64_t from, int64_t to)
{
    const struct attn *a = j->a;
    int64_t dim = a->head_dim, at = j->by_head ? owner * a->nk * dim : owner * dim;
    struct key_grads g = { .ld = j->by_head ? dim : a->kv_heads * dim };
    if (j->d.k) g.k = (j->by_head ? j->part_k : j->d.k) + at;
    if (j->d.v) g.v = (j->by_head ? j->part_v : j->d.v) + at;
    for (int64_t i = from; i < to; i++) {
        if (g.k && (j->by_head || !j->d.add_k)) j->c->k->fill(g.k + i * g.ld, 0.0f, dim);
        if (g.v && (j->by_head || !j->d.add_v)) j->c->k->fill(g.v + i * g.ld, 0.0f, dim);
    }
    return g;
}

/* Chain i, and the query head or the group that is the owner of gradients of keys. */
static void backward_chain(const struct attn_job *j, struct attn_block *b, int64_t i, int64_t owner)
{
    int64_t row = j->start[i], rows = j->start[i + 1] - row, from, to, end;
    int64_t parts = j->by_head ? 1 : j->parts;
    touched_keys(j->a, row, rows, &from, &to);
    if (i + 1 == j->n_start) to = j->a->nk;
    else touched_keys(j->a, row + rows, j->start[i + 2] - row - rows, &to, &end);
    const struct key_grads g = key_grads(j, owner, i ? from : 0, to);
    int64_t each = div_up(rows, MAX(1, div_up(rows, COLS / j->group)));
    for (int64_t at = 0; at < rows; at += each)
        for (int64_t k = 0; k < parts; k++) {
            begin_block(b, j, row + at, MIN(each, rows - at), owner * parts + k);
            backward_block(b, &g);
        }
}

static void backward_task(void *arg, int64_t task, int worker)
{
    const struct attn_job *j = arg;
    int64_t owners = j->by_head ? j->a->heads : j->a->kv_heads;
    struct attn_block b;
    area_of(j->a, compute_scratch(j->c, worker), &b.m);
    if (j->tile->begin) j->tile->begin();
    backward_chain(j, &b, task / owners, task % owners);
    if (j->tile->end) j->tile->end();
}

/* With a bias to learn a task is a whole head, which owns its column. */
static void head_task(void *arg, int64_t head, int worker)
{
    const struct attn_job *j = arg;
    const struct attn *a = j->a;
    struct attn_block b;
    area_of(a, compute_scratch(j->c, worker), &b.m);
    for (int64_t d = 0; d < a->distances; d++) b.m.bias[d] = 0;
    if (j->tile->begin) j->tile->begin();
    for (int64_t i = 0; i < j->n_start; i++) backward_chain(j, &b, i, head);
    if (j->tile->end) j->tile->end();
    for (int64_t d = 0; d < a->distances; d++) {
        float *g = &j->d.bias[d * a->heads + head];
        *g = (float)b.m.bias[d] + (j->d.add_bias ? *g : 0.0f);
    }
}

/* Keys [begin, end) of g (+)= what the query heads of each group have made. */
static void add_heads(const struct attn_job *j, float *g, const float *part, int add, int64_t begin,
                      int64_t end)
{
    const struct attn *a = j->a;
    int64_t dim = a->head_dim, all = a->heads / a->kv_heads;
    for (int64_t i = begin; i < end; i++)
        for (int64_t h = 0; h < a->heads; h++)
            j->c->k->axpy(g + (i * a->kv_heads + h / all) * dim, part + (h * a->nk + i) * dim,
                          1.0f, add || h % all, dim);
}

static void add_heads_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct attn_job *j = arg;
    (void)worker;
    if (j->d.k) add_heads(j, j->d.k, j->part_k, j->d.add_k, begin, end);
    if (j->d.v) add_heads(j, j->d.v, j->part_v, j->d.add_v, begin, end);
}

static int64_t part_len(const struct attn *a) { return a->heads * a->nk * a->head_dim; }

int64_t attn_backward_work(const struct attn *a)
{
    bool may = a->heads > a->kv_heads && (a->kv_heads < CHAINS || a->distances);
    return attn_forward_work(a) + (may ? 2 * part_len(a) * (int64_t)sizeof(float) : 0);
}

void attn_backward(const struct compute *c, const struct attn_grads *g, const float *dout,
                   const float *q, const float *k, const float *v, const float *bias,
                   const float *out, const float *lse, const struct attn *a, void *work)
{
    int64_t all = a->heads / a->kv_heads;
    struct attn_job j = {
        .c = c, .level = level_of(c->k), .tile = tile_of(c), .a = a, .q = q, .k = k, .v = v,
        .bias = bias, .dout = dout, .out = out, .lse = lse, .d = *g, .start = work,
    };
    find_chains(&j);
    j.by_head = all > 1 && (g->bias || j.n_start * a->kv_heads < CHAINS);
    j.group = j.by_head ? 1 : MIN(all, COLS);
    j.parts = div_up(all, j.group);
    j.part_k = (float *)(void *)((char *)work + attn_forward_work(a));
    j.part_v = j.part_k + part_len(a);
    if (g->bias) pool_run(c->pool, a->heads, head_task, &j);
    else pool_run(c->pool, j.n_start * (j.by_head ? a->heads : a->kv_heads), backward_task, &j);
    if (j.by_head) compute_rows(c, a->nk, 16, add_heads_range, &j);
}
