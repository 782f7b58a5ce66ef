/* Lengths as counts, and a sample of distinct rows. */
#include "prep/sketch.h"

enum {
    LENGTHS_EXACT = 1 << 16,
    LENGTHS_STEPS = 16,
    LENGTHS_SLOTS = LENGTHS_EXACT + LENGTHS_STEPS * 46
};

int lengths_init(struct lengths *l, struct mem *mem)
{
    *l = (struct lengths){.count = mem_zalloc(mem, LENGTHS_SLOTS * (int64_t)sizeof *l->count)};
    return l->count ? PEFT_OK : PEFT_ENOMEM;
}
void lengths_free(struct lengths *l, struct mem *mem) { mem_free(mem, l->count); }

/* Beyond LENGTHS_EXACT every power of two has LENGTHS_STEPS slots. */
static int64_t slot_of(int64_t length)
{
    if (length < LENGTHS_EXACT) return length;
    int high = 63 - __builtin_clzll((unsigned long long)length);
    int64_t step = (length >> (high - 4)) & (LENGTHS_STEPS - 1);
    return MIN(LENGTHS_EXACT + (int64_t)(high - 16) * LENGTHS_STEPS + step, LENGTHS_SLOTS - 1);
}
static int64_t length_of(int64_t slot)
{
    if (slot < LENGTHS_EXACT) return slot;
    int64_t beyond = slot - LENGTHS_EXACT;
    int64_t high = beyond / LENGTHS_STEPS + 16, step = beyond % LENGTHS_STEPS;
    return (LENGTHS_STEPS + step) << (high - 4);
}

void lengths_add(struct lengths *l, int64_t length, int64_t line)
{
    l->least = l->n ? MIN(l->least, length) : length;
    if (!l->n || length > l->most) {
        l->most = length;
        l->most_line = line;
    }
    l->n++;
    l->sum += (double)length;
    l->count[slot_of(length)]++;
}

int64_t lengths_quantile(const struct lengths *l, double q)
{
    int64_t seen = 0;
    for (int64_t i = 0; i < LENGTHS_SLOTS; i++)
        if ((double)(seen += l->count[i]) >= q * (double)l->n && seen) return length_of(i);
    return l->most;
}

int64_t lengths_between(const struct lengths *l, int64_t a, int64_t b)
{
    int64_t n = 0;
    for (int64_t i = slot_of(MAX(a, 0)); i < LENGTHS_SLOTS && length_of(i) < b; i++)
        if (length_of(i) >= a) n += l->count[i];
    return n;
}

/* ------------------------------------------------------------------ distinct */

enum { DISTINCT_FIRST = 1 << 12, DISTINCT_MOST = 1 << 22 };

void distinct_init(struct distinct *d, struct mem *mem) { *d = (struct distinct){.mem = mem}; }
void distinct_free(struct distinct *d)
{
    mem_free(d->mem, d->hash);
    mem_free(d->mem, d->again);
}

static int64_t distinct_place(const struct distinct *d, uint64_t hash)
{
    int64_t at = (int64_t)(hash >> 32) & (d->cap - 1);
    while (d->hash[at] && d->hash[at] != hash) at = (at + 1) & (d->cap - 1);
    return at;
}

/* Moves to a table of `cap` places what belongs to the present level. */
static int move_to(struct distinct *d, int64_t cap)
{
    struct distinct to = {.mem = d->mem, .cap = cap, .level = d->level};
    to.hash = mem_array(d->mem, cap, sizeof *to.hash);
    to.again = mem_array(d->mem, cap, sizeof *to.again);
    if (!to.hash || !to.again) {
        distinct_free(&to);
        return PEFT_ENOMEM;
    }
    for (int64_t i = 0; i < d->cap; i++) {
        if (!d->hash[i] || d->hash[i] & ((1ull << d->level) - 1)) continue;
        int64_t at = distinct_place(&to, d->hash[i]);
        to.hash[at] = d->hash[i];
        to.again[at] = d->again[i];
        to.n++;
    }
    distinct_free(d);
    *d = to;
    return PEFT_OK;
}

int distinct_add(struct distinct *d, uint64_t hash)
{
    if (hash & ((1ull << d->level) - 1)) return PEFT_OK;
    if (!hash) hash = 1ull << 63;
    if (d->n >= d->cap / 4 * 3) {
        d->level += d->cap == DISTINCT_MOST;
        int rc = move_to(d, MIN(MAX(2 * d->cap, DISTINCT_FIRST), DISTINCT_MOST));
        if (rc < 0) return rc;
    }
    int64_t at = distinct_place(d, hash);
    if (d->hash[at]) {
        d->again[at]++;
    } else {
        d->hash[at] = hash;
        d->n++;
    }
    return PEFT_OK;
}

int64_t distinct_again(const struct distinct *d)
{
    int64_t n = 0;
    for (int64_t i = 0; i < d->cap; i++) n += d->again[i];
    return n << d->level;
}

uint64_t hash_more(uint64_t h, const void *data, int64_t n)
{
    const uint8_t *p = data;
    h ^= 0xcbf29ce484222325u;
    for (int64_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}
/* The last bits of FNV are those of the last bytes: MurmurHash3's end mixes them. */
uint64_t hash_end(uint64_t h)
{
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdu;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 33;
}
