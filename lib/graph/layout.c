/* Offsets: buffers that live at the same time must not overlap.
 *
 * Larger buffers are placed first, each into the smallest gap that is wide
 * enough between those already placed which live at the same time (Pisarchyk
 * and Lee 2020, "Efficient memory management for deep neural net inference",
 * greedy by size), or in the order of time.  `floor`, the most bytes that live at
 * once, is what no layout can undercut. */
#include "graph/plan.h"

/* The placed buffers in the order of their offsets; counted in PLAN_UNITs,
 * so that an entry is small. */
struct placed { uint32_t begin, end; int32_t first, last; };

static bool placed_before(const struct buffer *a, const struct buffer *b)
{
    if (a->size != b->size) return a->size > b->size;
    return a->first != b->first ? a->first < b->first : a->last > b->last;
}

static void sift_down(const struct buffer *b, int32_t *order, int64_t root, int64_t n)
{
    for (int64_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && placed_before(&b[order[child]], &b[order[child + 1]])) child++;
        if (!placed_before(&b[order[root]], &b[order[child]])) return;
        int32_t t = order[root];
        order[root] = order[child];
        order[child] = t;
    }
}

/* Heap sort: no memory, no recursion, no bad case. */
static void sort_by_size(const struct buffer *b, int32_t *order, int64_t n)
{
    for (int64_t i = 0; i < n; i++) order[i] = (int32_t)i;
    for (int64_t i = n / 2 - 1; i >= 0; i--) sift_down(b, order, i, n);
    for (int64_t i = n - 1; i > 0; i--) {
        int32_t t = order[0];
        order[0] = order[i];
        order[i] = t;
        sift_down(b, order, 0, i);
    }
}

/* Where the smallest gap that is wide enough begins, in PLAN_UNITs. */
static int64_t best_gap(const struct placed *at, int64_t n, const struct buffer *b)
{
    const int32_t first = b->first, last = b->last;
    const int64_t size = b->size / PLAN_UNIT;
    int64_t end = 0, best = -1, room = INT64_MAX;
    for (int64_t i = 0; i < n; i++) {
        if ((at[i].first > last) | (at[i].last < first)) continue;
        int64_t gap = at[i].begin - end;
        if (gap >= size && gap < room) {
            room = gap;
            best = end;
        }
        end = MAX(end, at[i].end);
    }
    return best >= 0 ? best : end;
}

static void insert_placed(struct placed *at, int64_t n, const struct buffer *b)
{
    int64_t lo = 0, hi = n;
    uint32_t begin = (uint32_t)(b->offset / PLAN_UNIT);
    while (lo < hi) {
        int64_t mid = (lo + hi) / 2;
        if (at[mid].begin < begin) lo = mid + 1;
        else hi = mid;
    }
    memmove(at + lo + 1, at + lo, (size_t)(n - lo) * sizeof *at);
    at[lo] = (struct placed){ begin, begin + (uint32_t)(b->size / PLAN_UNIT), b->first, b->last };
}

static void most_alive(struct plan *p, int64_t *change)
{
    int64_t now = 0;
    memset(change, 0, (size_t)(p->n_events + 2) * sizeof *change);
    for (int64_t i = 0; i < p->n_buffers; i++) {
        change[p->buffer[i].first] += p->buffer[i].size;
        change[p->buffer[i].last + 1] -= p->buffer[i].size;
    }
    p->floor = 0;
    for (int64_t e = 0; e <= p->n_events; e++) {
        now += change[e];
        p->floor = MAX(p->floor, now);
    }
}

/* Without a backward phase few buffers live at once, and there may be very many
 * in all: each is placed when it begins, among those that live then. */
static void place_in_time(struct plan *p, struct placed *at)
{
    int64_t alive = 0;
    for (int64_t i = 0; i < p->n_buffers; i++) {
        struct buffer *b = &p->buffer[i];
        int64_t kept = 0;
        for (int64_t k = 0; k < alive; k++)
            if (at[k].last >= b->first) at[kept++] = at[k];
        b->offset = best_gap(at, alive = kept, b) * PLAN_UNIT;
        insert_placed(at, alive++, b);
        p->slab = MAX(p->slab, b->offset + b->size);
    }
}

int64_t plan_layout_work(const struct plan *p)
{
    int64_t each = sizeof(struct placed) + sizeof(int32_t);
    return MAX((p->n_events + 2) * 8, p->n_buffers * each);
}

void plan_layout(struct plan *p)
{
    int64_t n = p->n_buffers;
    struct placed *at = p->work;
    int32_t *order = (int32_t *)(at + n);
    most_alive(p, p->work);
    p->slab = 0;
    if (p->loss < 0) {
        place_in_time(p, at);
        return;
    }
    sort_by_size(p->buffer, order, n);
    for (int64_t k = 0; k < n; k++) {
        struct buffer *b = &p->buffer[order[k]];
        b->offset = best_gap(at, k, b) * PLAN_UNIT;
        insert_placed(at, k, b);
        p->slab = MAX(p->slab, b->offset + b->size);
    }
}
