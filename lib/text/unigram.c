/* Unigram (Kudo, "Subword Regularization", ACL 2018): of all ways to write a
 * text as pieces, the one whose scores, logarithms of probabilities, have the
 * largest sum.  Viterbi's algorithm over the bytes; a character that is no
 * piece costs the lowest score less 10, and a run of such is one token.
 *
 * Pieces lie in a trie whose nodes are in breadth-first order, so the children
 * of a node follow each other.  A node that only one piece reaches has no
 * children: the rest of that piece is compared at once. */
#include "text/tok.h"

#include <math.h>
#include <stdlib.h>

/* A piece's length bounds the time for each byte of a text. */
enum { PIECE_MAX = 1024 };

struct unigram_node {
    int32_t child, id;          /* id: of the piece that ends here, or -1 */
    uint16_t n_child;           /* 0 = the piece `id` may go on */
    uint8_t byte;
};
struct unigram_best {
    double score;
    int32_t from, id;           /* from -1 = not reached */
};

/* --- the trie */

struct sorted_piece { const char *s; int32_t n, id; };

static int by_piece(const void *a, const void *b)
{
    const struct sorted_piece *x = a, *y = b;
    int order = memcmp(x->s, y->s, (size_t)MIN(x->n, y->n));
    if (order == 0) order = (x->n > y->n) - (x->n < y->n);
    return order ? order : (x->id > y->id) - (x->id < y->id);
}

/* The pieces in order; of equal ones the last.  A row of an embedding that GGUF
 * names only to have a name for it is none. */
static int64_t sort_pieces(const struct tokenizer *t, struct sorted_piece *v)
{
    int64_t n = 0, kept = 0;
    for (int64_t i = 0; i < t->n; i++)
        if (t->tokens[i].n > 0 && t->uni.score[i] != -INFINITY)
            v[n++] = (struct sorted_piece){t->tokens[i].s, t->tokens[i].n, (int32_t)i};
    qsort(v, (size_t)n, sizeof *v, by_piece);
    for (int64_t i = 0; i < n; i++) {
        bool same = kept > 0 && v[kept - 1].n == v[i].n &&
                    !memcmp(v[kept - 1].s, v[i].s, (size_t)v[i].n);
        v[same ? kept - 1 : kept++] = v[i];
    }
    return kept;
}

struct node_range { int32_t lo, hi, depth; };
struct trie_build {
    struct unigram_node *nodes;
    struct node_range *ranges;
    int64_t n, cap;
};

static int push_node(struct mem *m, struct trie_build *b, uint8_t byte, struct node_range r)
{
    if (b->n == b->cap) {
        int64_t cap = b->cap ? b->cap * 2 : 256;
        if (cap > INT32_MAX) return fail(PEFT_EUNSUPPORTED, "a vocabulary too large for its trie");
        void *nodes = mem_realloc(m, b->nodes, cap * (int64_t)sizeof *b->nodes);
        if (nodes) b->nodes = nodes;
        void *ranges = nodes ? mem_realloc(m, b->ranges, cap * (int64_t)sizeof *b->ranges) : NULL;
        if (!ranges) return PEFT_ENOMEM;
        b->ranges = ranges;
        b->cap = cap;
    }
    b->nodes[b->n] = (struct unigram_node){.id = -1, .byte = byte};
    b->ranges[b->n++] = r;
    return PEFT_OK;
}

/* Gives node i its children: the groups of its pieces by their next byte. */
static int add_children(struct mem *m, struct trie_build *b, const struct sorted_piece *v,
                        int64_t i)
{
    struct node_range r = b->ranges[i];
    int32_t k = r.lo, first = (int32_t)b->n;
    int rc = PEFT_OK;
    if (r.hi - r.lo == 1) {
        b->nodes[i].id = v[k].id;
        return PEFT_OK;
    }
    if (k < r.hi && v[k].n == r.depth) b->nodes[i].id = v[k++].id;
    while (k < r.hi && rc == PEFT_OK) {
        int32_t end = k;
        char byte = v[k].s[r.depth];
        while (end < r.hi && v[end].s[r.depth] == byte) end++;
        rc = push_node(m, b, (uint8_t)byte, (struct node_range){k, end, r.depth + 1});
        k = end;
    }
    b->nodes[i].child = first;
    b->nodes[i].n_child = (uint16_t)(b->n - first);
    return rc;
}

int unigram_build(struct tokenizer *t)
{
    struct mem *m = &t->host->mem;
    struct trie_build b = {0};
    struct sorted_piece *v = mem_array(m, t->n, sizeof *v);
    if (!v) return PEFT_ENOMEM;
    double lowest = INFINITY;
    int64_t n = sort_pieces(t, v);
    int rc = n < INT32_MAX ? push_node(m, &b, 0, (struct node_range){0, (int32_t)n, 0})
                           : PEFT_EUNSUPPORTED;
    for (int64_t i = 0; i < n && rc == PEFT_OK; i++)
        if (v[i].n > PIECE_MAX)
            rc = fail(PEFT_EUNSUPPORTED, "a piece of %d bytes, at most %d are expected", v[i].n,
                      PIECE_MAX);
    for (int64_t i = 0; i < t->n && rc == PEFT_OK; i++) {
        if (t->uni.score[i] == -INFINITY) continue;
        lowest = fmin(lowest, t->uni.score[i]);
        if (!isfinite(t->uni.score[i]))
            rc = fail(PEFT_EFORMAT, "the score of piece %lld is not finite", (long long)i);
    }
    t->uni.unk_score = lowest - 10;
    for (int64_t i = 0; i < b.n && rc == PEFT_OK; i++) rc = add_children(m, &b, v, i);
    mem_free(m, b.ranges);
    mem_free(m, v);
    t->uni.nodes = b.nodes;
    return rc;
}

void unigram_free(struct tokenizer *t)
{
    mem_free(&t->host->mem, t->uni.nodes);
    mem_free(&t->host->mem, t->uni.score);
}

static const struct unigram_node *child_of(const struct unigram *u, const struct unigram_node *x,
                                           uint8_t byte)
{
    const struct unigram_node *lo = u->nodes + x->child;
    int32_t n = x->n_child;
    while (n > 0) {
        int32_t half = n / 2;
        if (lo[half].byte == byte) return lo + half;
        if (lo[half].byte < byte) lo += half + 1, n -= half + 1;
        else n = half;
    }
    return NULL;
}

/* --- the best path */

static void offer(struct unigram_best *to, double score, int64_t from, int32_t id)
{
    if (to->from >= 0 && !(score > to->score)) return;
    *to = (struct unigram_best){score, (int32_t)from, id};
}

/* Offers every piece that begins at `at`; whether one is the first character. */
static bool offer_pieces(struct encoder *e, const char *s, int64_t n, int64_t at, int len)
{
    const struct tokenizer *t = e->t;
    const struct unigram *u = &t->uni;
    const struct unigram_node *x = u->nodes;
    bool single = false;
    for (int64_t end = at; x; end++) {
        const struct token *k = x->id >= 0 ? &t->tokens[x->id] : NULL;
        int64_t stop = x->n_child == 0 && k ? at + k->n : end;
        bool fits = k && stop <= n && !(e->plain && (k->flags & TOKEN_SPECIAL)) &&
                    !memcmp(s + end, k->s + (end - at), (size_t)(stop - end));
        if (fits) offer(&e->best[stop], e->best[at].score + u->score[x->id], at, x->id);
        single |= fits && stop == at + len;
        x = x->n_child && end < n ? child_of(u, x, (uint8_t)s[end]) : NULL;
    }
    return single;
}

static int best_path(struct encoder *e, const char *s, int64_t n)
{
    const struct unigram *u = &e->t->uni;
    if (n >= e->cap_best) {
        struct unigram_best *v = mem_realloc(e->mem, e->best, (n + 1) * (int64_t)sizeof *v);
        if (!v) return PEFT_ENOMEM;
        e->best = v;
        e->cap_best = n + 1;
    }
    for (int64_t i = 0; i <= n; i++) e->best[i] = (struct unigram_best){0, -1, 0};
    for (int64_t at = 0; at < n;) {
        int32_t cp;
        int len = uni_next(s + at, &cp);
        if (!offer_pieces(e, s, n, at, len)) {
            if (u->unk < 0)
                return fail(PEFT_EDATA, "the character U+%04X is no piece, and the vocabulary "
                            "names no unknown token", (unsigned)cp);
            offer(&e->best[at + len], e->best[at].score + u->unk_score, at, u->unk);
        }
        at += len;
    }
    return PEFT_OK;
}

/* Links run from the end to the begin; afterwards from each end to the next,
 * and 0 ends them.  Returns the first piece's end. */
static int64_t turn_links(struct unigram_best *best, int64_t n)
{
    int32_t next = 0;
    for (int64_t end = n; end > 0;) {
        int64_t from = best[end].from;
        best[end].from = next;
        next = (int32_t)end;
        end = from;
    }
    return next;
}

static void push_unknown_run(struct encoder *e, const char *s, int64_t n)
{
    const struct tokenizer *t = e->t;
    int32_t id = tok_model_id(t, s, n);
    bool bytes = id < 0 && t->uni.byte_fallback;
    for (int64_t i = 0; i < n && bytes; i++) bytes = t->bpe.of_byte[(uint8_t)s[i]] >= 0;
    for (int64_t i = 0; i < n && bytes; i++) token_push(e, t->bpe.of_byte[(uint8_t)s[i]], s, n);
    if (id >= 0 && e->plain && (t->tokens[id].flags & TOKEN_SPECIAL)) id = t->uni.unk;
    if (!bytes) token_push(e, id >= 0 ? id : t->uni.unk, s, n);
}

int unigram_encode(struct encoder *e, const char *s, int64_t n)
{
    int rc = best_path(e, s, n);
    if (rc < 0) return rc;
    int32_t unk = e->t->uni.unk;
    int64_t begin = 0, end = turn_links(e->best, n);
    while (end > 0) {
        int32_t id = e->best[end].id;
        int64_t next = e->best[end].from;
        if (id != unk) {
            token_push(e, id, s + begin, end - begin);
        } else if (next == 0 || e->best[next].id != unk) {
            push_unknown_run(e, s + begin, end - begin);
        } else {
            end = next;
            continue;
        }
        begin = end;
        end = next;
    }
    return PEFT_OK;
}
