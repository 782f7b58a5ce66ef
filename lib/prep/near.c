/* Rows and the search for rows that are alike. */
#include "prep/near.h"

#include <math.h>

void rows_init(struct rows *r, struct mem *mem, bool sketches)
{
    *r = (struct rows){.mem = mem, .sketches = sketches};
}

void rows_free(struct rows *r)
{
    for (int64_t i = 0; i < r->blocks; i++) {
        mem_free(r->mem, r->info[i]);
        if (r->sketch) mem_free(r->mem, r->sketch[i]);
        if (r->near) mem_free(r->mem, (void *)r->near[i]);
    }
    mem_free(r->mem, r->info);
    mem_free(r->mem, r->sketch);
    mem_free(r->mem, (void *)r->near);
}

/* Blocks, so that nothing is ever copied and no second copy is ever there. */
static int rows_block(struct rows *r)
{
    int64_t size = (r->blocks + 1) * (int64_t)sizeof(void *);
    void *info = mem_realloc(r->mem, r->info, size);
    if (info) r->info = info;
    void *sketch = info ? mem_realloc(r->mem, r->sketch, size) : NULL;
    if (sketch) r->sketch = sketch;
    void *near = sketch ? mem_realloc(r->mem, (void *)r->near, size) : NULL;
    if (!near) return PEFT_ENOMEM;
    r->near = near;
    int64_t b = r->blocks;
    r->info[b] = mem_array(r->mem, ROWS_BLOCK, sizeof **r->info);
    r->sketch[b] = r->sketches ? mem_array(r->mem, ROWS_BLOCK, sizeof **r->sketch) : NULL;
    r->near[b] = r->sketches ? mem_array(r->mem, ROWS_BLOCK, sizeof **r->near) : NULL;
    r->blocks++;
    return r->info[b] && (!r->sketches || (r->sketch[b] && r->near[b])) ? PEFT_OK : PEFT_ENOMEM;
}

int rows_add(struct rows *r, const struct row_info *info, const struct sketch *s)
{
    if (r->n >= NO_ROW - 1) return fail(PEFT_EUNSUPPORTED, "more than %u rows", NO_ROW - 1);
    int rc = r->n == r->blocks * ROWS_BLOCK ? rows_block(r) : PEFT_OK;
    if (rc < 0) return rc;
    int64_t b = r->n / ROWS_BLOCK, i = r->n % ROWS_BLOCK;
    r->info[b][i] = *info;
    if (r->sketches && info->sketched) r->sketch[b][i] = *s;
    if (r->sketches) r->near[b][i] = NO_ROW;
    r->n++;
    return PEFT_OK;
}

static const struct sketch *sketch_at(const struct rows *r, int64_t i)
{
    return &r->sketch[i / ROWS_BLOCK][i % ROWS_BLOCK];
}

static _Atomic uint32_t *near_at(const struct rows *r, int64_t i)
{
    return &r->near[i / ROWS_BLOCK][i % ROWS_BLOCK];
}

/* --- bands */

int band_bins(double alike)
{
    double equal = alike + (1 - alike) / 16;
    int bins = 1;
    for (int k = 2; k <= 16; k++)
        if (pow(1 - pow(equal, k), (double)(SKETCH_BINS / k)) <= 0.01) bins = k;
    return bins;
}

static uint64_t band_key(const struct sketch *s, int band, int bins)
{
    int from = band * bins, at = from / 16, shift = from % 16 * 4;
    uint64_t x = s->bins[at] >> shift;
    if (shift && at + 1 < SKETCH_WORDS) x |= s->bins[at + 1] << (64 - shift);
    if (bins < 16) x &= (1ull << 4 * bins) - 1;
    x = (x + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    return (x ^ x >> 32) * 0x94d049bb133111ebu;
}

/* --- the search.  A task is a band and a part of its keys, so that what is sorted at once
 * has a bounded size. */

enum { PART_ROWS = 1 << 20, RADIX = 11 };
struct entry { uint32_t key, row; };
struct near_worker { struct entry *list, *other; int64_t cap; };
struct search {
    struct rows *rows;
    struct host *host;
    int bins, least, parts_log;
    int64_t first, task;            /* `task`: of those that run now the first */
    struct near_worker worker[POOL_MAX];
    _Atomic int failed;
};

/* Stable, so that rows with one key stay in their order. */
static void sort_entries(struct near_worker *w, int64_t n)
{
    for (int shift = 0; shift < 32; shift += RADIX) {
        uint32_t start[(1 << RADIX) + 1] = {0}, mask = (1 << RADIX) - 1;
        for (int64_t i = 0; i < n; i++) start[(w->list[i].key >> shift & mask) + 1]++;
        for (uint32_t k = 0; k < mask; k++) start[k + 1] += start[k];
        for (int64_t i = 0; i < n; i++)
            w->other[start[w->list[i].key >> shift & mask]++] = w->list[i];
        struct entry *t = w->list;
        w->list = w->other;
        w->other = t;
    }
}

static bool is_like(const struct search *s, const struct row_info *b, const struct sketch *sb,
                    uint32_t i)
{
    const struct row_info *a = rows_at(s->rows, i);
    /* A row of the evaluation data is repeated whatever its label. */
    if (a->label != b->label && i >= s->first) return false;
    return sketch_equal(sketch_at(s->rows, i), sb) >= s->least;
}

/* Compares each row of a group with the first ones of it and with the last ones before it:
 * in a group so large that this leaves pairs out, all have a phrase in common, and other
 * bands tell which are alike. */
static void compare_group(const struct search *s, const struct entry *e, int64_t n)
{
    enum { FIRST = 16, LAST = 16 };
    for (int64_t j = 1; j < n; j++) {
        uint32_t row = e[j].row;
        if (row < s->first) continue;
        _Atomic uint32_t *near = near_at(s->rows, row);
        const struct row_info *b = rows_at(s->rows, row);
        const struct sketch *sb = sketch_at(s->rows, row);
        for (int64_t k = 0; k < j; k = k + 1 == FIRST ? MAX(FIRST, j - LAST) : k + 1) {
            uint32_t i = e[k].row, now = *near;
            if (i >= now) break;
            if (!is_like(s, b, sb, i)) continue;
            while (i < now && !atomic_compare_exchange_weak(near, &now, i)) {}
            break;
        }
    }
}

static int grow_entries(struct search *s, struct near_worker *w)
{
    int64_t cap = MAX(w->cap * 2, PART_ROWS), bytes = cap * (int64_t)sizeof *w->list;
    void *list = mem_realloc(&s->host->mem, w->list, bytes);
    if (list) w->list = list;
    void *other = list ? mem_realloc(&s->host->mem, w->other, bytes) : NULL;
    if (!other) return PEFT_ENOMEM;
    w->other = other;
    w->cap = cap;
    return PEFT_OK;
}

static void search_task(void *arg, int64_t task, int worker)
{
    struct search *s = arg;
    struct near_worker *w = &s->worker[worker];
    int log = s->parts_log, band = (int)((s->task + task) >> log);
    uint64_t part = (uint64_t)(s->task + task) & ((1u << log) - 1);
    int64_t n = 0;
    for (int64_t i = 0; i < s->rows->n && !s->failed; i++) {
        const struct row_info *info = rows_at(s->rows, i);
        if (!info->sketched || info->verdict != NO_VERDICT) continue;
        uint64_t key = band_key(sketch_at(s->rows, i), band, s->bins);
        if (log && key >> (64 - log) != part) continue;
        if (n == w->cap && grow_entries(s, w) < 0) s->failed = 1;
        if (n < w->cap) w->list[n++] = (struct entry){(uint32_t)key, (uint32_t)i};
    }
    if (s->failed) return;
    sort_entries(w, n);
    for (int64_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && w->list[end].key == w->list[i].key;) end++;
        if (end - i > 1) compare_group(s, w->list + i, end - i);
    }
}

/* In the order of the rows: a row whose like is dropped itself is compared with what that one
 * repeats. */
static void settle(struct search *s, int rule)
{
    for (int64_t j = s->first; j < s->rows->n; j++) {
        struct row_info *b = rows_at(s->rows, j);
        uint32_t i = b->sketched && b->verdict == NO_VERDICT ? *near_at(s->rows, j) : NO_ROW;
        if (i == NO_ROW) continue;
        if (rows_at(s->rows, i)->verdict == rule) i = rows_at(s->rows, i)->of;
        int equal = sketch_equal(sketch_at(s->rows, i), sketch_at(s->rows, j));
        if (equal < s->least) continue;
        b->of = i;
        b->equal = (uint8_t)equal;
        b->verdict = (uint8_t)rule;
    }
}

int rows_near(struct rows *r, struct host *h, int threads, double alike, int64_t first, int rule,
              int (*stop)(void *ctx), void *ctx)
{
    struct search s = {.rows = r, .host = h, .first = first, .bins = band_bins(alike)};
    struct pool *pool;
    int rc = pool_new(h, threads, &pool);
    if (rc < 0) return rc;
    while (r->n >> s.parts_log > PART_ROWS / 4 * 3) s.parts_log++;
    while (s.least < SKETCH_BINS && sketch_alike(s.least) < alike) s.least++;
    int64_t tasks = (int64_t)(SKETCH_BINS / s.bins) << s.parts_log, some = pool_threads(pool);
    /* A few at a time, so that the caller can end it. */
    for (int64_t at = 0; at < tasks && rc >= 0 && !s.failed; at += some) {
        rc = stop(ctx);
        s.task = at;
        if (rc >= 0) pool_run(pool, MIN(some, tasks - at), search_task, &s);
    }
    if (s.failed && rc >= 0) rc = PEFT_ENOMEM;
    if (rc >= 0) settle(&s, rule);
    for (int i = 0; i < POOL_MAX; i++) {
        mem_free(&h->mem, s.worker[i].list);
        mem_free(&h->mem, s.worker[i].other);
    }
    pool_free(pool);
    return rc;
}
