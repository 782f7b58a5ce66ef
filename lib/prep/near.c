/* Likeness in three steps, each of which reads rows in order or a few by their numbers, so that
 * they may lie in a file: rows with the same band are neighbours once they are sorted by it,
 * and are compared, first by 16 other bins, which tell nearly all that meet by chance; what is
 * alike is sorted by its rows; in their order it is settled which ones stay. */
#include "prep/near.h"

#include "base/pool.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>

void near_begin(struct near *n, struct scratch *to, int64_t memory)
{
    n->to = to;
    n->memory = memory;
    spill_begin(&n->rows, to, sizeof(struct near_row), memory / 8 * 5);
    buf_init(&n->stays, &to->host->mem);
}

void near_end(struct near *n)
{
    if (!n->to) return;
    spill_free(&n->rows);
    buf_free(&n->stays);
}

static bool near_stays(const struct near *n, int64_t i)
{
    return n->stays.data[i / 8] >> i % 8 & 1;
}

void near_leave_out(struct near *n, int64_t i)
{
    n->stays.data[i / 8] &= (char)~(1 << i % 8);
}

int near_add(struct near *n, const struct near_row *row)
{
    int64_t i = n->rows.n;
    if (i >= NO_ROW - 1) return fail(PEFT_EUNSUPPORTED, "more than %u rows", NO_ROW - 1);
    if (i % 8 == 0) buf_putc(&n->stays, 0);
    if (buf_check(&n->stays) < 0) return PEFT_ENOMEM;
    if (row) n->stays.data[i / 8] |= (char)(1 << i % 8);
    return spill_put(&n->rows, row ? row : &(struct near_row){.label = 0});
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

/* Of 16 bins so many are equal in nearly all rows that are so alike: fewer in one of a
 * thousand. */
static int glance_bins(double alike)
{
    double equal = MIN(alike + (1 - alike) / 16, 0.999), chance = 1, below = 0;
    int bins = 0;
    for (int i = 0; i < 16; i++) chance *= 1 - equal;
    for (; bins < 16 && (below += chance) <= 0.001; bins++)
        chance *= (16 - bins) / (bins + 1.0) * equal / (1 - equal);
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

/* --- the search.  A task is a band. */

enum { FIRST = 16, LAST = 16, POLL = 1 << 14 };
struct search {
    struct near *n;
    int bins, least, glance;        /* bins that are equal at least, of all, of the 16 */
    struct sorter alike;            /* row << 32 | the row before that it is like */
    struct os_mutex *mutex;         /* of these: */
    _Atomic int rc;
    _Atomic int64_t seen;           /* rows and entries of all bands */
    char reason[256];
};

static void search_failed(struct search *s, int rc)
{
    os_lock(s->mutex);
    if (!s->rc) {
        s->rc = rc;
        snprintf(s->reason, sizeof s->reason, "%s", error_message());
    }
    os_unlock(s->mutex);
}

/* Rows of the group at hand that others are compared with: its first ones, and the last ones. */
struct member { uint32_t row; uint64_t bits; const struct near_row *at; struct near_row room; };
struct group { struct member member[FIRST + LAST + 1]; int64_t n; };

static struct member *member_at(struct group *g, int64_t i)
{
    return &g->member[i < FIRST ? i : FIRST + (i - FIRST) % (LAST + 1)];
}

static bool load_member(const struct search *s, struct member *m)
{
    if (!m->at) m->at = spill_at(&s->n->rows, m->row, &m->room);
    return m->at;
}

static bool is_like(const struct search *s, const struct member *a, const struct member *b)
{
    /* A row of the evaluation data is repeated whatever its label. */
    if (a->at->label != b->at->label && a->row >= s->n->first) return false;
    return sketch_equal(&a->at->sketch, &b->at->sketch) >= s->least;
}

/* The group's next row, compared with the first ones of it and with the last ones before: in
 * a group so large that this leaves pairs out, all have a phrase in common, and other bands
 * tell which are alike. */
static int compare_row(struct search *s, struct group *g, uint32_t row, uint64_t bits)
{
    int64_t n = g->n++;
    struct member *b = member_at(g, n);
    b->row = row;
    b->bits = bits;
    b->at = NULL;
    if (!n || row < s->n->first) return PEFT_OK;
    for (int64_t k = 0; k < n; k = k + 1 == FIRST ? MAX(FIRST, n - LAST) : k + 1) {
        struct member *a = member_at(g, k);
        if (equal_bins(a->bits, bits) < s->glance) continue;
        if (!load_member(s, a) || !load_member(s, b)) return PEFT_EIO;
        if (!is_like(s, a, b)) continue;
        os_lock(s->mutex);
        int rc = sorter_put(&s->alike, (uint64_t)row << 32 | a->row, 0);
        os_unlock(s->mutex);
        return rc;
    }
    return PEFT_OK;
}

/* Whether to go on; the caller's thread asks. */
static int search_poll(struct search *s, int64_t at, int worker)
{
    if (at % POLL || s->rc) return s->rc;
    int64_t seen = atomic_fetch_add(&s->seen, POLL);
    double all = 2.0 * (double)s->n->rows.n * (SKETCH_BINS / s->bins);
    return worker ? PEFT_OK : s->n->stop(s->n->ctx, MIN((double)seen / all, 1));
}

static int sort_band(struct search *s, int band, int worker, struct sorter *entries)
{
    struct near *n = s->n;
    struct spill_reader rows;
    const void *row;
    int rc, glance = (band * s->bins / 16 + SKETCH_WORDS / 2) % SKETCH_WORDS;
    spill_read(&rows, &n->rows);
    while ((rc = spill_next(&rows, &row)) > 0) {
        int64_t i = rows.at - 1;
        if ((rc = search_poll(s, i, worker)) < 0) break;
        if (!near_stays(n, i)) continue;
        const struct sketch *sketch = &((const struct near_row *)row)->sketch;
        uint64_t key = band_key(sketch, band, s->bins), bits = sketch->bins[glance];
        if ((rc = sorter_put(entries, key << 32 | (uint64_t)i, bits)) < 0) break;
    }
    spill_close(&rows);
    return rc < 0 ? rc : sorter_turn(entries);
}

static void search_band(void *arg, int64_t band, int worker)
{
    struct search *s = arg;
    struct group g = {.n = 0};
    struct sorter entries;
    uint64_t now = 0, e[2];
    sorter_begin(&entries, s->n->to, 2, 32, s->n->memory / 4 / s->n->threads);
    int rc = s->rc ? s->rc : sort_band(s, (int)band, worker, &entries);
    for (int64_t at = 0; rc >= 0 && (rc = sorter_next(&entries, e)) > 0; at++) {
        if (e[0] >> 32 != now >> 32) g.n = 0;
        now = e[0];
        rc = search_poll(s, at, worker);
        if (rc >= 0) rc = compare_row(s, &g, (uint32_t)e[0], e[1]);
    }
    sorter_free(&entries);
    if (rc < 0) search_failed(s, rc);
}

/* --- which rows stay */

/* Of each row the first one that it is alike to, whether or not that one stays. */
static int list_alike(struct search *s, struct spill *out)
{
    struct sorter_rows alike;
    uint64_t e;
    int rc = sorter_rows(&alike, &s->alike);
    spill_begin(out, s->n->to, sizeof(uint32_t), s->n->memory / 16);
    for (int64_t i = 0; i < s->n->rows.n && rc >= 0; i++) {
        uint32_t of = NO_ROW;
        while (rc >= 0 && (rc = sorter_row(&alike, i, &e)) > 0) of = MIN(of, (uint32_t)e);
        if (rc >= 0) rc = spill_put(out, &of);
    }
    return rc < 0 ? rc : spill_turn(out);
}

/* The row that stays for `of`: itself, or what it was dropped for. */
static int find_kept(const struct near *n, struct spill *alike, uint32_t *of)
{
    uint32_t room;
    while (!near_stays(n, *of)) {
        const uint32_t *next = spill_at(alike, *of, &room);
        if (!next) return PEFT_EIO;
        *of = *next;
    }
    return PEFT_OK;
}

static int settle_row(const struct search *s, struct spill *alike, int64_t i, struct near_like *to)
{
    struct near_row room[2];
    int rc = find_kept(s->n, alike, &to->of);
    if (rc < 0) return rc;
    const struct near_row *a = spill_at(&s->n->rows, to->of, &room[0]);
    const struct near_row *b = spill_at(&s->n->rows, i, &room[1]);
    if (!a || !b) return PEFT_EIO;
    to->equal = (uint32_t)sketch_equal(&a->sketch, &b->sketch);
    if ((int)to->equal < s->least) to->of = NO_ROW;
    else near_leave_out(s->n, i);
    return PEFT_OK;
}

/* In the order of the rows: a row whose like is dropped itself is compared with what that one
 * repeats. */
static int settle(struct search *s, struct spill *out)
{
    struct near *n = s->n;
    struct spill alike;
    struct spill_reader rows;
    const void *of;
    int rc = list_alike(s, &alike);
    spill_read(&rows, &alike);
    while (rc >= 0 && (rc = spill_next(&rows, &of)) > 0) {
        struct near_like like = {.of = *(const uint32_t *)of};
        if (rows.at % POLL == 0) rc = n->stop(n->ctx, 1);
        if (rc >= 0 && like.of != NO_ROW) rc = settle_row(s, &alike, rows.at - 1, &like);
        if (rc >= 0) rc = spill_put(out, &like);
    }
    spill_close(&rows);
    spill_free(&alike);
    return rc < 0 ? rc : spill_turn(out);
}

int near_search(struct near *n, struct spill *out)
{
    struct search s = {.n = n, .bins = band_bins(n->alike), .glance = glance_bins(n->alike)};
    struct pool *pool = NULL;
    spill_begin(out, n->to, sizeof(struct near_like), n->memory / 16);
    sorter_begin(&s.alike, n->to, 1, 0, n->memory / 16);
    while (s.least < SKETCH_BINS && sketch_alike(s.least) < n->alike) s.least++;
    int rc = spill_turn(&n->rows);
    if (rc >= 0) rc = os_mutex_new(n->to->host, &s.mutex);
    if (rc >= 0) rc = pool_new(n->to->host, n->threads, &pool);
    if (rc >= 0) pool_run(pool, SKETCH_BINS / s.bins, search_band, &s);
    pool_free(pool);
    if (rc >= 0 && s.rc) rc = fail(s.rc, "%s", s.reason);
    if (rc >= 0) rc = settle(&s, out);
    sorter_free(&s.alike);
    if (s.mutex) os_mutex_free(s.mutex);
    return rc;
}
