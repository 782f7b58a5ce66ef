/* Words, shingles, sketches. */
#include "prep/minhash.h"

#include "text/unicode.h"

/* Kinds of characters in `known`; a word's character is its small letter. */
enum { IS_GAP = -1, IS_MARK = -2, IS_ALONE = -3 };

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

static bool is_alone(int32_t c)
{
    return uni_han(c) || (c >= 0x3040 && c <= 0x30ff) || (c >= 0xe00 && c <= 0xeff) ||
           (c >= 0x1000 && c <= 0x109f) || (c >= 0x1780 && c <= 0x17ff);
}

static int32_t kind_of(int32_t c)
{
    if (uni_space(c) || c < 0x20 || c == 0x200b || c == 0xfeff) return IS_GAP;
    if (is_alone(c)) return IS_ALONE;
    return c < 0x80 ? (uni_letter(c) || uni_number(c) ? c : IS_MARK) : uni_word(c) ? c : IS_MARK;
}

void row_words_init(struct words *w, struct mem *mem)
{
    struct buf b;
    *w = (struct words){.mem = mem};
    buf_init(&b, mem);
    for (int32_t c = 0; c < KNOWN_CHARS; c++) {
        w->known[c] = kind_of(c);
        if (w->known[c] < 0) continue;
        buf_clear(&b);
        uni_lower(&b, c);
        if (b.n) uni_next(b.data, &w->known[c]);
    }
    w->oom = b.oom;
    buf_free(&b);
}

void row_words_free(struct words *w) { mem_free(w->mem, w->hash); }

void row_words_begin(struct words *w)
{
    w->n = w->chars = w->tokens = 0;
    w->exact = 0;
}

static void row_words_push(struct words *w, uint64_t hash)
{
    if (w->n == w->cap) {
        int64_t cap = MAX(2 * w->cap, 1024);
        uint64_t *now = mem_realloc(w->mem, w->hash, cap * (int64_t)sizeof *now);
        if (!now) w->oom = true;
        if (!now) return;
        w->hash = now;
        w->cap = cap;
    }
    w->hash[w->n++] = hash;
}

/* A word or mark goes into the hash of the whole text. */
static uint64_t chain(uint64_t h, uint64_t token)
{
    h = (h + token) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

void row_words_add(struct words *w, const char *s, int64_t n, bool count)
{
    enum { EMPTY = 0 };
    uint64_t word = EMPTY, exact = chain(w->exact, 1);
    int64_t chars = 0;
    for (int64_t i = 0; i <= n;) {
        int32_t c = ' ', kind;
        i += i < n ? uni_next(s + i, &c) : 1;
        chars++;
        kind = c < KNOWN_CHARS ? w->known[c] : kind_of(c);
        if (kind >= 0) {
            word = (word ^ (uint64_t)kind) * 0x100000001b3u + 1;
            continue;
        }
        if (word != EMPTY) {
            word = mix(word);
            exact = chain(exact, word);
            w->tokens++;
            if (count) row_words_push(w, word);
            word = EMPTY;
        }
        if (kind == IS_GAP) continue;
        exact = chain(exact, (uint64_t)c + 2);
        w->tokens++;
        if (kind == IS_ALONE && count) row_words_push(w, mix((uint64_t)c));
    }
    w->exact = exact;
    w->chars += chars - 1;
}

/* --- sketches */

enum { ROUNDS = SKETCH_BINS };
struct bins { uint32_t least[SKETCH_BINS]; int filled; };

/* One throw: the round stands above 24 bits of hash, so that an earlier one is less. */
static void throw_one(struct bins *b, uint64_t shingle, uint32_t round)
{
    uint64_t y = (shingle ^ round * 0xbf58476d1ce4e5b9u) * 0x94d049bb133111ebu;
    y ^= y >> 31;
    y *= 0x9e3779b97f4a7c15u;
    uint32_t bin = (uint32_t)(y >> 57), value = round << 24 | (uint32_t)(y >> 32 & 0xffffff);
    b->filled += b->least[bin] == UINT32_MAX;
    if (value < b->least[bin]) b->least[bin] = value;
}

static uint64_t shingle_at(const struct words *w, int64_t i, int64_t k)
{
    uint64_t h = 0;
    for (int64_t j = 0; j < k; j++) h = h * 0x9e3779b97f4a7c15u + w->hash[i + j];
    return h ^ h >> 32;
}

bool sketch_words(struct words *w, int shingle, struct sketch *out)
{
    struct bins b = {.filled = 0};
    int64_t k = MIN(shingle, w->n), n = w->n - k + 1;
    uint64_t *set = w->hash;
    *out = (struct sketch){{0}};
    if (!w->n) return false;
    memset(b.least, 0xff, sizeof b.least);
    for (int64_t i = 0; i < n; i++) set[i] = shingle_at(w, i, k);
    w->n = 0;
    for (uint32_t round = 0; round < ROUNDS && b.filled < SKETCH_BINS; round++)
        for (int64_t i = 0; i < n; i++) throw_one(&b, set[i], round);
    /* What a few shingles have not met by then gets the least of all directly. */
    for (uint32_t bin = 0; bin < SKETCH_BINS && b.filled < SKETCH_BINS; bin++) {
        if (b.least[bin] != UINT32_MAX) continue;
        for (int64_t i = 0; i < n; i++) {
            uint32_t v = (uint32_t)(mix(set[i] + bin * 0x9e3779b97f4a7c15u) >> 40);
            b.least[bin] = MIN(b.least[bin], (uint32_t)ROUNDS << 24 | v);
        }
    }
    for (int i = 0; i < SKETCH_BINS; i++)
        out->bins[i / 16] |= (uint64_t)(b.least[i] & 15) << i % 16 * 4;
    return true;
}
