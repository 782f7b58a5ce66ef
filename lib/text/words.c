/* Pieces to ids, and what makes it fast: long pieces are cut where no merge can
 * join, and short ones are looked up among those met before.
 *
 * The memory of words is a table without chains: a word has one place, by its
 * hash, and takes it from the word before.  An entry is a cache line: */
#include "text/tok.h"

enum { WORD_MAX = 27, WORDS_FIRST = 256, WORDS_MOST = 1 << 17 };
struct word {
    char key[WORD_MAX];
    uint8_t n, n_ids, end[WORD_IDS];    /* n 0 = free; where ids end in the word */
    int32_t id[WORD_IDS];
};

void words_free(struct words *w, struct mem *m)
{
    mem_free(m, w->v);
    *w = (struct words){0};
}

static uint64_t word_hash(uint64_t seed, const char *s, int64_t n)
{
    uint64_t a = 0, b = 0, c = 0;
    if (n >= 8) {
        memcpy(&a, s, 8);
        memcpy(&b, s + n - 8, 8);
        if (n > 16) memcpy(&c, s + 8, 8), c *= 0x9e3779b97f4a7c15u;
    } else {
        memcpy(&a, s, (size_t)n);
    }
    uint64_t x = (a ^ seed) * 0xff51afd7ed558ccdu;
    x = (x ^ x >> 32 ^ b ^ c ^ (uint64_t)n << 56) * 0xc4ceb9fe1a85ec53u;
    return x ^ x >> 33;
}

static struct word *word_place(const struct words *w, uint64_t seed, const char *s, int64_t n)
{
    return &w->v[word_hash(seed, s, n) & (uint64_t)(w->cap - 1)];
}

/* Twice the places.  Without memory for them the words there are stay. */
static void words_grow(struct encoder *e)
{
    struct words *w = &e->words, wider = {.cap = w->cap ? w->cap * 2 : WORDS_FIRST};
    if (w->cap == WORDS_MOST) return;
    wider.v = mem_array(e->mem, wider.cap, sizeof *wider.v);
    if (!wider.v) return;
    for (int64_t i = 0; i < w->cap; i++) {
        const struct word *x = &w->v[i];
        if (x->n) *word_place(&wider, e->t->vocab.seed, x->key, x->n) = *x;
    }
    mem_free(e->mem, w->v);
    *w = wider;
}

static bool merges_pairs(const struct tokenizer *t)
{
    return t->model == MODEL_BPE || t->model == MODEL_SCORES;
}

/* Bytes of which one is unknown are written out: what that means depends on the
 * lengths of the characters that stand for bytes. */
static int model_encode(struct encoder *e, const char *s, int64_t n)
{
    e->word_at = s;
    e->n_ends = 0;
    if (!merges_pairs(e->t)) return tok_models[e->t->model].encode(e, s, n);
    bool known = true;
    for (int64_t i = 0; e->t->bpe.raw && known && i < n; i++)
        known = e->t->bpe.of_raw[(uint8_t)s[i]] >= 0;
    if (known) return bpe_encode(e, s, n);
    e->n_ends = WORD_IDS + 1;
    e->mapped = true;
    int rc = split_rewrite(e, e->t->n_pieces, s, n);
    e->mapped = false;
    return rc;
}

static void word_recall(struct encoder *e, const struct word *x, const char *s)
{
    int64_t from = 0;
    ids_put(e->out, x->id, x->n_ids);
    for (int i = 0; e->spans && i < x->n_ids; from = x->end[i++])
        token_push_span(e, x->id[i], e->out->n - x->n_ids + i, s + from, x->end[i] - from);
}

static int word_encode(struct encoder *e, const char *s, int64_t n)
{
    struct words *w = &e->words;
    /* Unigram's pieces are others where special tokens are text. */
    if (n > WORD_MAX || (e->plain && e->t->model == MODEL_UNIGRAM)) return model_encode(e, s, n);
    if (w->met >= w->cap / 2) words_grow(e), w->met = 0;
    if (w->cap == 0) return model_encode(e, s, n);
    struct word *x = word_place(w, e->t->vocab.seed, s, n);
    if (x->n == n && memcmp(x->key, s, (size_t)n) == 0) {
        word_recall(e, x, s);
        return PEFT_OK;
    }
    int64_t before = e->out->n;
    int rc = model_encode(e, s, n);
    int64_t count = e->out->n - before;
    if (rc < 0 || e->out->oom || e->n_ends != count || count > WORD_IDS) return rc;
    w->met += w->cap < WORDS_MOST;
    memcpy(x->key, s, (size_t)n);
    x->n = (uint8_t)n;
    x->n_ids = (uint8_t)count;
    for (int64_t i = 0; i < count; i++) {
        x->end[i] = (uint8_t)e->ends[i];
        x->id[i] = e->out->v[before + i];
    }
    return PEFT_OK;
}

/* --- where pieces may be cut */

/* A place between characters in 16 bits. */
static uint32_t joint(const char *s, int64_t at, int64_t n)
{
    uint32_t next = (uint8_t)s[at];
    for (int64_t k = at + 1; k < n && k < at + 4 && ((uint8_t)s[k] & 0xc0) == 0x80; k++)
        next = next * 31 + (uint8_t)s[k];
    return (uint32_t)(uint8_t)s[at - 1] << 8 | (next & 255);
}

static void note_joints(uint32_t *joints, const struct token *k)
{
    for (int64_t i = 1; i < k->n; i++) {
        if (((uint8_t)k->s[i] & 0xc0) == 0x80) continue;
        uint32_t j = joint(k->s, i, k->n);
        joints[j >> 5] |= 1u << (j & 31);
    }
}

/* A merge across a place leaves a token with the characters around it next to
 * each other.  Where no result of a merge has them so, neither side can tell
 * what the other is.  Unknown characters must become bytes, each for itself,
 * and bytes must not merge. */
int words_prepare(struct tokenizer *t)
{
    const struct bpe *b = &t->bpe;
    bool bytes = b->byte_fallback && !b->prefix && !b->end_suffix && !b->ignore_merges;
    if (!merges_pairs(t) || !bytes || t->n_pieces < t->n_split) return PEFT_OK;
    for (int i = 0; i < 256; i++)
        if (b->of_byte[i] < 0) return PEFT_OK;
    uint32_t *joints = arena_alloc(&t->arena, (1 << 16) / 8);
    if (!joints) return PEFT_ENOMEM;
    for (int64_t i = 0; i < b->n_pairs; i++) {
        int32_t left = b->pairs[2 * i], right = b->pairs[2 * i + 1];
        for (int k = 0; k < 256; k++)
            if (left == b->of_byte[k] || right == b->of_byte[k]) return PEFT_OK;
        note_joints(joints, &t->tokens[bpe_merged(t, left, right)]);
    }
    for (int64_t i = 0; t->model == MODEL_SCORES && i < t->n; i++)
        if (b->rank[i] >= 0) note_joints(joints, &t->tokens[i]);
    t->bpe.joints = joints;
    return PEFT_OK;
}

int words_encode(struct encoder *e, const char *s, int64_t n)
{
    const uint32_t *joints = e->t->bpe.joints;
    int64_t from = 0;
    for (int64_t at = 1; joints && at < n; at++) {
        if (((uint8_t)s[at] & 0xc0) == 0x80) continue;
        uint32_t j = joint(s, at, n);
        if (joints[j >> 5] >> (j & 31) & 1) continue;
        int rc = word_encode(e, s + from, at - from);
        if (rc < 0) return rc;
        from = at;
    }
    return word_encode(e, s + from, n - from);
}
