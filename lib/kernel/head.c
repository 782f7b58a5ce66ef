/* Cross entropy of z = h W^T + b, which never exists as a whole (Wijmans et al. 2024): attention
 * with an online softmax (Dao et al. 2022) whose keys and values are both the rows of W.
 *
 * W's rows are cut into parts, a task each, which expands some of them at a time in both orders
 * that the tiles want, and meets all rows of h with them while they are in the cache:
 *     m' = max(m, max z);  p = exp(z - m');  s = exp(m - m') s + sum p
 *     o = exp(m - m') o + p W,  where p of the target is left out
 * At the end the parts are put together, loss = m + log s - z[target], and
 *     dh = scale (o / s + (p[target] - 1) W[target]),
 * whose last factor is expm1(-loss), so that nothing cancels where p is nearly 1.
 *
 * The parts follow from the shape of W alone, and every row has its own sums: the bits of a row
 * depend neither on threads nor on the other rows. */
#include "kernel/decode.h"
#include "kernel/level.h"
#include "kernel/tile.h"

#include <float.h>
#include <math.h>

enum {
    HEAD_PARTS = 16, HEAD_PART = 256,     /* parts, and rows of W that are worth one */
    KEYS_BYTES = 768,               /* of the numbers of a column of W that is expanded */
    KEYS_MOST = 384,                /* rows of W at a time, at most */
    HEAD_ROWS = 128                /* of h at a time; whole panels of all tiles */
};

struct head_job {
    const struct compute *c;
    const struct head *h;
    const struct tile *tile;
    int64_t n, d, v;                /* rows of h; columns and rows of W */
    int64_t parts, each, part, step, steps;
    int64_t depth, padded;          /* of h's panels; their rows */
    bool blas;
    /* [parts, n] but for the targets' logits [n] and o [parts, n, d] */
    double *sum;
    float *max, *logit, *o;
    uint8_t *first;                 /* the first of the largest is the target */
    char *panels;
};

/* A worker's: rows of W as floats, and in both orders; logits, and packed p. */
struct head_area { float *line; char *strips, *values; float *z; char *p; };

static int64_t area_of_head(const struct matrix *w, char *at, struct head_area *m)
{
    int64_t d = div_up(w->cols + TILE_COLS, 32) * 32, n = 0;
    const int64_t size[] = { TILE_COLS * d * 4, (KEYS_BYTES + TILE_COLS * TILE_SIZE) * d,
                             KEYS_BYTES * d, HEAD_ROWS * KEYS_MOST * 4, HEAD_ROWS * KEYS_BYTES };
    char *p[ARRAY_LEN(size)];
    for (size_t i = 0; i < ARRAY_LEN(size); n += size[i++]) p[i] = at ? at + n : NULL;
    if (at) *m = (struct head_area){ (void *)p[0], p[1], p[2], (void *)p[3], p[4] };
    return n;
}

int64_t head_scratch(const struct matrix *w) { return area_of_head(w, NULL, NULL); }

static int64_t parts_of(const struct matrix *w)
{
    return MIN(MAX(w->rows / HEAD_PART, 1), HEAD_PARTS);
}

int64_t head_work(const struct matrix *w, int64_t n, int gradient)
{
    return n * (parts_of(w) * (13 + (gradient ? w->cols * 4 : 0)) + 4) + 64 +
           (n + 32) * (w->cols + 32) * TILE_SIZE;
}

static int64_t equal(int64_t n, int64_t most, int64_t unit)
{
    return div_up(div_up(n, div_up(n, most)), unit) * unit;
}

static bool begins(const struct head_job *j, int64_t key) { return key == j->part * j->each; }

/* --- W's rows [key, key + keys) */

static const float *head_weights(const struct head_job *j, int64_t row, float *to)
{
    const struct matrix *w = j->h->w;
    if (has_floats(w)) return (const float *)w->data + row * w->cols;
    qtype_expand(w->type, to, w->data, row * w->cols, w->cols);
    return to;
}

/* Strips of W's rows by blocks of the depth, and with the rows in the depth. */
static void expand_keys(const struct head_job *j, const struct head_area *m, int64_t key,
                        int64_t keys)
{
    const struct tile *t = j->tile;
    int64_t wide = div_up(keys, t->nr) * t->nr, each = tile_deep(t, keys) * t->size;
    for (int64_t s = 0; s < keys; s += t->nr) {
        int64_t some = MIN(t->nr, keys - s);
        const float *w = head_weights(j, key + s, m->line);
        for (int64_t i = 1; i < some; i++) head_weights(j, key + s + i, m->line + i * j->d);
        for (int64_t p = 0; p < j->d; p += j->depth) {
            int64_t depth = MIN(j->depth, j->d - p);
            t->turn(m->strips + (p * wide + s * tile_deep(t, depth)) * t->size, w + p, j->d, some,
                    depth);
        }
        for (int64_t i = 0; j->o && i < j->d; i += t->nr)
            t->put(m->values + i * each, s, w + i, j->d, some, MIN(t->nr, j->d - i));
    }
    for (int64_t i = 0; j->o && i < j->d; i += t->nr) tile_fill(t, m->values + i * each, keys);
}

/* --- rows [row, row + rows) of h with them */

static void head_logits(const struct head_job *j, const struct head_area *m, int64_t row,
                        int64_t rows, int64_t keys)
{
    const struct tile *t = j->tile;
    int64_t wide = div_up(keys, t->nr) * t->nr;
    for (int64_t p = 0; p < j->d; p += j->depth) {
        int64_t depth = MIN(j->depth, j->d - p), each = tile_deep(t, depth) * t->size;
        const char *panels = j->panels + p * j->padded * t->size + row * each;
        const char *strips = m->strips + p * wide * t->size;
        for (int64_t s = 0; s < keys; s += t->nr)
            for (int64_t r = 0; r < rows; r += t->mr) {
                const struct tile_part part = { .depth = depth, .a = panels + r * each,
                                                .b = strips + s * each };
                t->sum(&part, 1, m->z + r * KEYS_MOST + s, KEYS_MOST, MIN(t->mr, rows - r),
                       MIN(t->nr, keys - s), 1.0f, p ? 1.0f : 0.0f, NULL);
            }
    }
}

/* z [keys] of a row becomes p, and what was summed before is scaled to the new maximum. */
static void head_scores(const struct head_job *j, float *z, int64_t row, int64_t key, int64_t keys)
{
    int64_t at = j->part * j->n + row, target = j->h->target[row] - key;
    bool has = target >= 0 && target < keys, none = begins(j, key), earlier = false;
    float max = none ? -FLT_MAX : j->max[at], old = max, sum = 0;
    float logit = has ? z[target] : 0;
    for (int64_t k = 0; has && k < target; k++) earlier |= z[k] == logit;
    float fix = level_of(j->c->k)->score_row(z, keys, 0, &max, &sum);
    if (none || max > old) j->first[at] = has && logit == max && !earlier;
    j->sum[at] = (none ? 0.0 : j->sum[at] * (double)fix) + (double)sum;
    j->max[at] = max;
    if (has) {
        j->logit[row] = logit;
        z[target] = 0;
    }
    float *o = j->o ? j->o + at * j->d : NULL;
    if (o && !none && fix != 1.0f) j->c->k->axpy(o, o, fix, 0, j->d);
}

static void head_values(const struct head_job *j, const struct head_area *m, int64_t row,
                        int64_t rows, int64_t key, int64_t keys)
{
    const struct tile *t = j->tile;
    int64_t each = tile_deep(t, keys) * t->size;
    float *o = j->o + (j->part * j->n + row) * j->d;
    struct tile_part all = tile_rows(t, m->p, m->z, KEYS_MOST, rows, keys), part = all;
    int64_t apart = tile_row(t, &all);
    for (int64_t i = 0; i < j->d; i += t->nr)
        for (int64_t r = 0; r < rows; r += t->mr) {
            part.a = (const char *)all.a + r * apart;
            part.b = m->values + i * each;
            t->sum(&part, 1, o + r * j->d + i, j->d, MIN(t->mr, rows - r),
                         MIN(t->nr, j->d - i), 1.0f, begins(j, key) ? 0.0f : 1.0f, NULL);
        }
}

static void head_block(const struct head_job *j, const struct head_area *m, int64_t row,
                       int64_t key, int64_t keys)
{
    int64_t rows = MIN(HEAD_ROWS, j->n - row), d = j->d;
    const float *w = j->blas ? head_weights(j, key, NULL) : NULL, *b = j->h->bias;
    if (w) j->c->blas->sgemm(0, 1, rows, keys, d, 1.0f, j->h->h + row * d, d, w, d, 0.0f, m->z,
                             KEYS_MOST);
    else head_logits(j, m, row, rows, keys);
    for (int64_t i = 0; i < rows; i++) {
        float *z = m->z + i * KEYS_MOST;
        if (b) j->c->k->add(z, z, b + key, keys);
        head_scores(j, z, row + i, key, keys);
    }
    if (j->o && w)
        j->c->blas->sgemm(0, 0, rows, d, keys, 1.0f, m->z, KEYS_MOST, w, d,
                          begins(j, key) ? 0.0f : 1.0f, j->o + (j->part * j->n + row) * d, d);
    else if (j->o) head_values(j, m, row, rows, key, keys);
}

static void head_part(void *arg, int64_t part, int worker)
{
    struct head_job j = *(const struct head_job *)arg;
    const struct tile *t = j.tile;
    struct head_area m = { 0 };
    j.part = part;
    area_of_head(j.h->w, (char *)compute_scratch(j.c, worker), &m);
    int64_t end = MIN(j.v, (part + 1) * j.each), some = equal(j.each, div_up(j.each, j.steps), 32);
    int64_t key = part * j.each + j.step * some, most = KEYS_BYTES / t->size;
    int64_t each = equal(some, most, 32);
    end = MIN(end, key + some);
    if (t->begin) t->begin();
    for (; key < end; key += each) {
        int64_t keys = MIN(each, end - key);
        if (!j.blas) expand_keys(&j, &m, key, keys);
        for (int64_t row = 0; row < j.n; row += HEAD_ROWS) head_block(&j, &m, row, key, keys);
    }
    if (t->end) t->end();
}

/* --- the beginning and the end */

static void head_pack(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct head_job *j = arg;
    const struct tile *t = j->tile;
    (void)worker;
    for (int64_t p = 0; p < j->d; p += j->depth) {
        int64_t depth = MIN(j->depth, j->d - p);
        t->pack(j->panels + (p * j->padded + begin * tile_deep(t, depth)) * t->size,
                j->h->h + begin * j->d + p, j->d, end - begin, depth);
    }
}

/* The parts of a row put together. */
static void head_join(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct head_job *j = arg;
    const struct head *h = j->h;
    for (int64_t i = begin; i < end; i++) {
        int64_t best = i;
        double sum = 0, loss, scale = (double)h->scale;
        for (int64_t p = i; p < j->parts * j->n; p += j->n)
            if (j->max[p] > j->max[best]) best = p;
        for (int64_t p = i; p < j->parts * j->n; p += j->n)
            sum += j->sum[p] * exp((double)j->max[p] - (double)j->max[best]);
        loss = log(sum) + ((double)j->max[best] - (double)j->logit[i]);
        h->loss[i] = (float)loss;
        h->hit[i] = j->first[best];
        if (!j->o) continue;
        float *dh = h->dh + i * j->d;
        const float *w = head_weights(j, h->target[i], compute_scratch(j->c, worker));
        j->c->k->axpy(dh, w, (float)(expm1(-loss) * scale), 0, j->d);
        for (int64_t p = i; p < j->parts * j->n; p += j->n)
            j->c->k->axpy(dh, j->o + p * j->d,
                          (float)(exp((double)j->max[p] - (double)j->max[best]) / sum * scale), 1,
                          j->d);
    }
}

void head_loss(const struct compute *c, const struct head *h, void *work, int step, int steps)
{
    const struct tile *t = tile_of(c);
    int64_t n = h->n, d = h->w->cols, parts = parts_of(h->w);
    struct head_job j = {
        .c = c, .h = h, .tile = t, .n = n, .d = d, .v = h->w->rows, .parts = parts,
        .each = div_up(h->w->rows, parts), .step = step, .steps = steps,
        .depth = equal(d, t->block, t->deep), .padded = div_up(n, t->mr) * t->mr,
        .blas = t == &tile_c && has_floats(h->w) && c->blas->lib, .sum = work,
    };
    j.max = (float *)(void *)(j.sum + parts * n);
    j.logit = j.max + parts * n;
    j.o = h->dh ? j.logit + n : NULL;
    j.panels = (char *)(j.logit + n + (h->dh ? parts * n * d : 0));
    j.first = (uint8_t *)j.panels + (n + 32) * (d + 32) * TILE_SIZE;
    if (n <= 0) return;
    if (!step && !j.blas) compute_rows(c, n, HEAD_ROWS, head_pack, &j);
    pool_run(c->pool, parts, head_part, &j);
    if (step == steps - 1) compute_rows(c, n, 16, head_join, &j);
}
