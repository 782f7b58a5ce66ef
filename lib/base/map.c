/* Hash map with open addressing and linear probing, at most 5/8 full.  The
 * hash is SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input
 * PRF", 2012) under the map's own key. */
#include "base/base.h"
#include "base/pool.h"

struct map_slot {
    const char *key;       /* NULL = free */
    int64_t value;
    uint32_t n, hash;      /* of the hash its lower half */
};

static uint64_t mix64(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline uint64_t rotl64(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

#define SIP_ROUND(a, b, c, d) \
    (a += b, c += d, b = rotl64(b, 13) ^ a, d = rotl64(d, 16) ^ c, a = rotl64(a, 32), \
     c += b, a += d, b = rotl64(b, 17) ^ c, d = rotl64(d, 21) ^ a, c = rotl64(c, 32))

static uint64_t siphash(uint64_t seed, const char *s, int64_t n)
{
    uint64_t k0 = seed, k1 = mix64(seed);
    uint64_t a = k0 ^ 0x736f6d6570736575u, b = k1 ^ 0x646f72616e646f6du;
    uint64_t c = k0 ^ 0x6c7967656e657261u, d = k1 ^ 0x7465646279746573u, word;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, s + i, 8);
        d ^= word;
        SIP_ROUND(a, b, c, d);
        a ^= word;
    }
    word = 0;
    if (n > i) memcpy(&word, s + i, (size_t)(n - i));
    word ^= (uint64_t)n << 56;
    d ^= word;
    SIP_ROUND(a, b, c, d);
    a ^= word;
    c ^= 0xff;
    SIP_ROUND(a, b, c, d);
    SIP_ROUND(a, b, c, d);
    SIP_ROUND(a, b, c, d);
    return a ^ b ^ c ^ d;
}

void map_init(struct map *m, struct mem *mem)
{
    double now = os_seconds();
    uint64_t clock;
    memcpy(&clock, &now, sizeof clock);
    *m = (struct map){.mem = mem};
    m->seed = mix64(clock ^ mix64((uint64_t)(uintptr_t)m ^ mix64((uint64_t)(uintptr_t)&clock)));
}

void map_free(struct map *m)
{
    mem_free(m->mem, m->slots);
    *m = (struct map){.mem = m->mem, .seed = m->seed};
}

/* The slot of the key, or the free one where it would go. */
static struct map_slot *map_find(const struct map *m, const char *key, int64_t n, uint32_t hash)
{
    uint64_t mask = (uint64_t)m->cap - 1;
    for (uint64_t i = hash & mask;; i = (i + 1) & mask) {
        struct map_slot *s = &m->slots[i];
        if (!s->key) return s;
        if (s->hash == hash && s->n == n && memcmp(s->key, key, (size_t)n) == 0) return s;
    }
}

static int map_grow(struct map *m)
{
    struct map wider = {.mem = m->mem, .n = m->n, .seed = m->seed};
    wider.cap = m->cap ? m->cap * 2 : 16;
    wider.slots = mem_array(m->mem, wider.cap, sizeof *wider.slots);
    if (!wider.slots) return PEFT_ENOMEM;
    uint64_t mask = (uint64_t)wider.cap - 1;
    for (int64_t i = 0; i < m->cap; i++) {
        if (!m->slots[i].key) continue;
        uint64_t at = m->slots[i].hash & mask;
        while (wider.slots[at].key) at = (at + 1) & mask;
        wider.slots[at] = m->slots[i];
    }
    mem_free(m->mem, m->slots);
    *m = wider;
    return PEFT_OK;
}

int map_add(struct map *m, const char *key, int64_t n, int64_t value)
{
    if (!key) key = "", n = 0;
    if ((m->n + 1) * 8 > m->cap * 5) {
        int rc = map_grow(m);
        if (rc < 0) return rc;
    }
    if (n > UINT32_MAX) return fail(PEFT_EUNSUPPORTED, "a name of %lld bytes", (long long)n);
    uint32_t hash = (uint32_t)siphash(m->seed, key, n);
    struct map_slot *s = map_find(m, key, n, hash);
    if (s->key) return 0;
    *s = (struct map_slot){key, value, (uint32_t)n, hash};
    m->n++;
    return 1;
}

int64_t map_get(const struct map *m, const char *key, int64_t n, int64_t absent)
{
    if (m->n == 0) return absent;
    if (!key) key = "", n = 0;
    const struct map_slot *s = map_find(m, key, n, (uint32_t)siphash(m->seed, key, n));
    return s->key ? s->value : absent;
}

int64_t map_gets(const struct map *m, const char *key, int64_t absent)
{
    return map_get(m, key, (int64_t)strlen(key), absent);
}

uint64_t hash_floats(uint64_t h, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, x + i, 4);
        h = (h ^ word) * 0x100000001b3u;
        h ^= h >> 29;
    }
    return h;
}
