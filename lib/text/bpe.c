/* Byte pair encoding (Sennrich et al., ACL 2016): neighbouring symbols merge,
 * the pair of lowest rank first and of equal ones the leftmost.  Candidates
 * wait in a heap, symbols form a linked list: n log n for a text of n.
 *
 * Two kinds of model share this.  With merges, a pair of ids has a rank.
 * With SentencePiece's scores (GGUF), a pair may merge when the joined text
 * is a token, and that token's place in the order of scores is the rank. */
#include "text/tok.h"

#include <math.h>
#include <stdlib.h>

static uint64_t pair_hash(const struct bpe *b, uint64_t key)
{
    uint64_t x = key ^ b->seed;
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
    return x ^ x >> 33;
}

static struct merge_slot *pair_slot(const struct bpe *b, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint64_t mask = (uint64_t)b->cap - 1;
    for (uint64_t i = pair_hash(b, key) & mask;; i = (i + 1) & mask) {
        struct merge_slot *s = &b->slots[i];
        if (s->id < 0 || s->key == key) return s;
    }
}

int bpe_reserve(struct tokenizer *t, int64_t n_merges)
{
    struct bpe *b = &t->bpe;
    if (n_merges > INT32_MAX / 4)
        return fail(PEFT_EFORMAT, "%lld merges are too many", (long long)n_merges);
    int64_t cap = 16;
    while (cap < n_merges * 2) cap *= 2;
    b->seed = t->vocab.seed;
    b->slots = mem_array(&t->host->mem, cap, sizeof *b->slots);
    b->pairs = mem_array(&t->host->mem, n_merges, 2 * sizeof *b->pairs);
    if (!b->slots || !b->pairs) return PEFT_ENOMEM;
    b->cap = cap;
    for (int64_t i = 0; i < cap; i++) b->slots[i].id = -1;
    return PEFT_OK;
}

static int unknown_merge(const char *a, int64_t na, const char *b, int64_t nb, const char *what)
{
    return fail(PEFT_EFORMAT, "merge \"%.*s\" + \"%.*s\": %s is not in the vocabulary",
                (int)MIN(na, 60), a, (int)MIN(nb, 60), b, what);
}

int bpe_add_merge(struct tokenizer *t, const char *a, int64_t na, const char *b, int64_t nb)
{
    struct bpe *bpe = &t->bpe;
    int32_t left = tok_model_id(t, a, na), right = tok_model_id(t, b, nb);
    if (left < 0) return unknown_merge(a, na, b, nb, "the left part");
    if (right < 0) return unknown_merge(a, na, b, nb, "the right part");
    int64_t skip = bpe->prefix ? (int64_t)strlen(bpe->prefix) : 0, n;
    if (skip > nb || memcmp(b, bpe->prefix ? bpe->prefix : "", (size_t)skip) != 0) skip = 0;
    char small[256], *text = small;
    if (!add_ok(na, nb - skip, &n)) return fail(PEFT_EFORMAT, "a merge is too long");
    if (n > (int64_t)sizeof small && !(text = mem_alloc(&t->host->mem, n))) return PEFT_ENOMEM;
    memcpy(text, a, (size_t)na);
    memcpy(text + na, b + skip, (size_t)(nb - skip));
    int32_t id = tok_model_id(t, text, n);
    if (text != small) mem_free(&t->host->mem, text);
    if (id < 0) return unknown_merge(a, na, b, nb, "the joined token");
    struct merge_slot *s = pair_slot(bpe, left, right);
    *s = (struct merge_slot){(uint64_t)(uint32_t)left << 32 | (uint32_t)right,
                             (int32_t)bpe->n_pairs, id};
    bpe->pairs[2 * bpe->n_pairs] = left;
    bpe->pairs[2 * bpe->n_pairs + 1] = right;
    bpe->n_pairs++;
    return PEFT_OK;
}

int32_t bpe_merged(const struct tokenizer *t, int32_t left, int32_t right)
{
    return t->bpe.cap ? pair_slot(&t->bpe, left, right)->id : -1;
}

struct scored { float score; int32_t id; };

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

int bpe_set_scores(struct tokenizer *t, const float *score)
{
    struct bpe *b = &t->bpe;
    struct mem *m = &t->host->mem;
    struct scored *order = mem_array(m, t->n, sizeof *order);
    b->rank = mem_array(m, t->n, sizeof *b->rank);
    int64_t n = 0;
    if (!order || !b->rank) {
        mem_free(m, order);
        return PEFT_ENOMEM;
    }
    for (int64_t i = 0; i < t->n; i++) {
        b->rank[i] = -1;
        if (isnan(score[i])) continue;
        order[n++] = (struct scored){score[i], (int32_t)i};
        b->max_bytes = MAX(b->max_bytes, t->tokens[i].n);
    }
    qsort(order, (size_t)n, sizeof *order, by_score);
    int32_t rank = 0;
    for (int64_t i = 0; i < n; i++) {
        if (i > 0 && order[i].score != order[i - 1].score) rank++;
        b->rank[order[i].id] = rank;
    }
    mem_free(m, order);
    return PEFT_OK;
}

/* What two neighbours would become, or -1. */
static int32_t merge_of(const struct encoder *e, const char *s, int32_t left, int32_t right,
                          int32_t *rank)
{
    const struct bpe *b = &e->t->bpe;
    const struct symbol *x = &e->symbols[left], *y = &e->symbols[right];
    if (e->t->model == MODEL_SCORES) {
        if ((int64_t)x->len + y->len > b->max_bytes) return -1;
        int32_t id = tok_model_id(e->t, s + x->at, x->len + y->len);
        if (id >= 0) *rank = b->rank[id];
        return id >= 0 && *rank >= 0 ? id : -1;
    }
    if (x->id < 0 || y->id < 0 || b->cap == 0) return -1;
    const struct merge_slot *slot = pair_slot(b, x->id, y->id);
    *rank = slot->rank;
    return slot->id;
}

static bool merge_before(struct pair_merge a, struct pair_merge b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

/* Pairs are pushed at most once for each symbol and twice for each merge, so
 * room for 3 n is enough. */
static void heap_push(struct encoder *e, struct pair_merge x)
{
    struct pair_merge *h = e->heap;
    int64_t i = e->n_heap++;
    for (; i > 0 && merge_before(x, h[(i - 1) / 2]); i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = x;
}

static struct pair_merge heap_pop(struct encoder *e)
{
    struct pair_merge *h = e->heap, top = h[0], x = h[--e->n_heap];
    int64_t i = 0, n = e->n_heap;
    for (int64_t k = 1; k < n; k = 2 * i + 1) {
        if (k + 1 < n && merge_before(h[k + 1], h[k])) k++;
        if (!merge_before(h[k], x)) break;
        h[i] = h[k];
        i = k;
    }
    h[i] = x;
    return top;
}

static void consider(struct encoder *e, const char *s, int32_t left)
{
    int32_t right = left < 0 ? -1 : e->symbols[left].next, rank = 0;
    if (right < 0) return;
    int32_t id = merge_of(e, s, left, right, &rank);
    if (id >= 0) heap_push(e, (struct pair_merge){rank, left, id});
}

static void merge_all(struct encoder *e, const char *s)
{
    struct symbol *v = e->symbols;
    e->n_heap = 0;
    for (int64_t i = 0; i + 1 < e->n_symbols; i++) consider(e, s, (int32_t)i);
    while (e->n_heap > 0) {
        struct pair_merge top = heap_pop(e);
        struct symbol *x = &v[top.at];
        int32_t rank;
        /* The symbol may be gone, or have another neighbour by now. */
        if (x->len == 0 || x->next < 0) continue;
        if (merge_of(e, s, top.at, x->next, &rank) != top.id) continue;
        struct symbol *y = &v[x->next];
        x->id = top.id;
        x->len += y->len;
        x->next = y->next;
        y->len = 0;
        if (x->next >= 0) v[x->next].prev = top.at;
        consider(e, s, x->prev);
        consider(e, s, top.at);
    }
}

static int room_for(struct encoder *e, int64_t n)
{
    if (n <= e->cap_symbols) return PEFT_OK;
    n = MAX(n, 64);
    struct symbol *v = mem_realloc(e->mem, e->symbols, n * (int64_t)sizeof *v);
    if (!v) return PEFT_ENOMEM;
    e->symbols = v;
    struct pair_merge *h = mem_realloc(e->mem, e->heap, 3 * n * (int64_t)sizeof *h);
    if (!h) return PEFT_ENOMEM;
    e->heap = h;
    e->cap_symbols = n;
    return PEFT_OK;
}

static void symbol_add(struct encoder *e, int32_t id, int64_t at, int64_t len)
{
    int32_t i = (int32_t)e->n_symbols++;
    e->symbols[i] = (struct symbol){id, i - 1, i + 1, (int32_t)at, (int32_t)len};
}

/* The id of one character, with what the model puts around it. */
static int32_t char_id(const struct encoder *e, const char *s, int64_t n, int64_t at, int len)
{
    const struct bpe *b = &e->t->bpe;
    bool last = at + len == n;
    const char *prefix = at > 0 && b->prefix ? b->prefix : "";
    const char *suffix = last && b->end_suffix ? b->end_suffix : "";
    int32_t cp;
    if (!*prefix && !*suffix) {
        uni_next(s + at, &cp);
        if (cp < (int32_t)ARRAY_LEN(b->of_char)) return b->of_char[cp];
        return tok_model_id(e->t, s + at, len);
    }
    char text[80];
    size_t np = strlen(prefix), ns = strlen(suffix);
    memcpy(text, prefix, np);
    memcpy(text + np, s + at, (size_t)len);
    memcpy(text + np + (size_t)len, suffix, ns);
    return tok_model_id(e->t, text, (int64_t)(np + ns) + len);
}

static bool bytes_known(const struct bpe *b, const char *s, int len)
{
    for (int k = 0; k < len; k++)
        if (b->of_byte[(uint8_t)s[k]] < 0) return false;
    return b->byte_fallback;
}

/* Characters, or bytes if the model takes them, become symbols; unknown ones
 * become bytes, or the unknown token (a run of them only one when fuse_unk), or
 * nothing. */
static void first_symbols(struct encoder *e, const char *s, int64_t n)
{
    const struct bpe *b = &e->t->bpe;
    bool raw = b->raw && !e->mapped;
    int64_t unk_len = 0, unk_at = 0;
    e->n_symbols = 0;
    for (int64_t at = 0; at < n;) {
        int32_t cp;
        int len = raw ? 1 : uni_next(s + at, &cp);
        int32_t id = raw ? b->of_raw[(uint8_t)s[at]] : char_id(e, s, n, at, len);
        bool scores = e->t->model == MODEL_SCORES;
        if (id < 0 && !scores && bytes_known(b, s + at, len)) {
            for (int k = 0; k < len; k++)
                symbol_add(e, b->of_byte[(uint8_t)s[at + k]], at + k, 1);
        } else if (id < 0 && !scores && b->unk >= 0) {
            if (unk_len && !b->fuse_unk) symbol_add(e, b->unk, unk_at, unk_len), unk_len = 0;
            if (!unk_len) unk_at = at;
            unk_len += len;
        } else if (id >= 0 || scores) {
            if (unk_len) symbol_add(e, b->unk, unk_at, unk_len), unk_len = 0;
            symbol_add(e, id, at, len);
        }
        at += len;
    }
    if (unk_len) symbol_add(e, b->unk, unk_at, unk_len);
    if (e->n_symbols) e->symbols[e->n_symbols - 1].next = -1;
}

static void push_unknown(struct encoder *e, const char *s, int64_t len)
{
    const struct bpe *b = &e->t->bpe;
    bool bytes = bytes_known(b, s, (int)len);
    for (int64_t k = 0; bytes && k < len; k++)
        token_push(e, b->of_byte[(uint8_t)s[k]], s + k, 1);
    if (!bytes && b->unk >= 0) token_push(e, b->unk, s, len);
}

/* The token that is the whole piece, or -1. */
static int32_t whole_id(struct encoder *e, const char *s, int64_t n)
{
    if (!e->t->bpe.raw || e->mapped) return tok_model_id(e->t, s, n);
    struct buf *word = &e->word;
    buf_clear(word);
    for (int64_t i = 0; i < n; i++) uni_append(word, uni_of_byte((uint8_t)s[i]));
    return word->oom ? -1 : tok_model_id(e->t, word->data, word->n);
}

int bpe_encode(struct encoder *e, const char *s, int64_t n)
{
    const struct bpe *b = &e->t->bpe;
    if (b->ignore_merges) {
        int32_t id = whole_id(e, s, n);
        if (id >= 0) {
            token_push(e, id, s, n);
            return PEFT_OK;
        }
    }
    int rc = room_for(e, n);
    if (rc < 0) return rc;
    first_symbols(e, s, n);
    if (e->n_symbols > 1) merge_all(e, s);
    /* Characters that are neither known nor replaced are not counted, as in
     * `tokenizers`. */
    int64_t at = 0;
    for (int64_t i = 0; i >= 0 && i < e->n_symbols; i = e->symbols[i].next) {
        const struct symbol *x = &e->symbols[i];
        if (x->id >= 0) token_push(e, x->id, s + at, x->len);
        else push_unknown(e, s + x->at, x->len);
        at += x->len;
    }
    return PEFT_OK;
}
