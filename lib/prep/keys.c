/* The table of hashes, and the hash: 8 bytes at a time through the finaliser of
 * SplitMix64 (Steele et al. 2014). */
#include "prep/keys.h"
#include "prep/fields.h"
#include "text/unicode.h"

void keys_init(struct keys *k, struct mem *m) { *k = (struct keys){.mem = m}; }

void keys_free(struct keys *k)
{
    mem_free(k->mem, k->hash);
    mem_free(k->mem, k->slot);
    keys_init(k, k->mem);
}

/* The slot of a hash, or the free one where it would go. */
static uint32_t *keys_find(const struct keys *k, uint64_t hash)
{
    uint64_t mask = (uint64_t)k->slots - 1, i = hash & mask;
    while (k->slot[i] && k->hash[k->slot[i] - 1] != hash) i = (i + 1) & mask;
    return &k->slot[i];
}

static int keys_grow(struct keys *k)
{
    int64_t cap = k->cap ? k->cap + k->cap / 2 : 1024;
    if (cap >= UINT32_MAX) return fail(PEFT_EUNSUPPORTED, "more than %u texts", UINT32_MAX);
    uint64_t *hash = mem_realloc(k->mem, k->hash, cap * (int64_t)sizeof *hash);
    if (!hash) return PEFT_ENOMEM;
    k->hash = hash;
    k->cap = cap;
    if (cap * 4 <= k->slots * 3) return PEFT_OK;
    int64_t slots = k->slots ? k->slots : 1024;
    while (cap * 4 > slots * 3) slots *= 2;
    uint32_t *slot = mem_array(k->mem, slots, sizeof *slot);
    if (!slot) return PEFT_ENOMEM;
    mem_free(k->mem, k->slot);
    k->slot = slot;
    k->slots = slots;
    for (int64_t i = 0; i < k->n; i++) *keys_find(k, k->hash[i]) = (uint32_t)i + 1;
    return PEFT_OK;
}

bool keys_has(const struct keys *k, uint64_t hash) { return k->n && *keys_find(k, hash); }

int keys_add(struct keys *k, uint64_t hash, uint32_t *id)
{
    int rc = k->n == k->cap ? keys_grow(k) : PEFT_OK;
    if (rc) return rc;
    uint32_t *at = keys_find(k, hash);
    if (*at) {
        *id = *at - 1;
        return 0;
    }
    *id = (uint32_t)k->n++;
    k->hash[*id] = hash;
    *at = *id + 1;
    return 1;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t key_of(uint64_t seed, const char *s, int64_t n)
{
    uint64_t h = mix(seed + 0x9e3779b97f4a7c15u * ((uint64_t)n + 1)), word;
    for (; n >= 8; n -= 8, s += 8) {
        memcpy(&word, s, 8);
        h = mix(h ^ word) + 0x9e3779b97f4a7c15u;
    }
    word = 0;
    if (n) memcpy(&word, s, (size_t)n);
    return mix(h ^ word);
}

void plain_text(struct buf *out, const char *s, int64_t n)
{
    for (int64_t i = 0; i < n;) {
        int32_t c;
        i += uni_next(s + i, &c);
        if (c < 0x80) {
            if (c >= 'A' && c <= 'Z') c |= 0x20;
            if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) buf_putc(out, (char)c);
        } else if (!uni_space(c) && !uni_punct(c)) {
            uni_lower(out, c);
        }
    }
}

int text_key_of(json *row, struct buf *b, uint64_t *key)
{
    enum { FIELDS = 64 };
    struct field f[FIELDS];
    int64_t n = MIN(fields_of(row, f, FIELDS), FIELDS), at = b->n, used = 0;
    for (int all = 0; all < 2 && !used; all++)
        for (int64_t i = 0; i < n; i++) {
            if (!all && f[i].role != FIELD_TEXT && f[i].role != FIELD_INPUT) continue;
            const char *s = json_string(f[i].node);
            plain_text(b, s, (int64_t)strlen(s));
            buf_putc(b, ' ');
            used++;
        }
    int rc = buf_check(b);
    if (!rc) *key = key_of(1, b->data + at, b->n - at);
    b->n = at;
    return rc;
}
