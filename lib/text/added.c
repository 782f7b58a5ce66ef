/* Added tokens: found in the text by a trie over bytes, the leftmost and then
 * the longest first.  A token is at most ADDED_MAX bytes long, so the search
 * takes linear time. */
#include "text/tok.h"

enum { ADDED_MAX = 512 };

static int32_t trie_node(struct tokenizer *t, struct trie *r, uint8_t byte)
{
    if (r->n + 1 >= r->cap) {
        int32_t cap = r->cap ? r->cap * 2 : 64;
        struct trie_node *nodes = mem_realloc(&t->host->mem, r->nodes,
                                              cap * (int64_t)sizeof *nodes);
        if (!nodes) return PEFT_ENOMEM;
        r->nodes = nodes;
        r->cap = cap;
    }
    r->nodes[++r->n] = (struct trie_node){.added = -1, .byte = byte};
    return r->n;
}

static int32_t trie_child(const struct trie *r, int32_t node, uint8_t byte)
{
    int32_t at = r->nodes[node].child;
    while (at && r->nodes[at].byte != byte) at = r->nodes[at].sibling;
    return at;
}

int trie_add(struct tokenizer *t, struct trie *r, const char *s, int64_t n, int32_t added)
{
    if (n <= 0) return PEFT_OK;
    if (n > ADDED_MAX)
        return fail(PEFT_EUNSUPPORTED, "an added token of %lld bytes, at most %d are expected",
                    (long long)n, ADDED_MAX);
    int32_t at = r->root[(uint8_t)s[0]];
    if (!at) {
        if ((at = trie_node(t, r, (uint8_t)s[0])) < 0) return at;
        r->root[(uint8_t)s[0]] = at;
    }
    for (int64_t i = 1; i < n; i++) {
        int32_t next = trie_child(r, at, (uint8_t)s[i]);
        if (!next) {
            if ((next = trie_node(t, r, (uint8_t)s[i])) < 0) return next;
            r->nodes[next].sibling = r->nodes[at].child;
            r->nodes[at].child = next;
        }
        at = next;
    }
    r->nodes[at].added = added;
    return PEFT_OK;
}

int32_t trie_match(const struct trie *r, const char *s, int64_t n, int64_t *len)
{
    int32_t found = -1;
    int32_t at = r->root[(uint8_t)s[0]];
    for (int64_t i = 0; at;) {
        if (r->nodes[at].added >= 0) found = r->nodes[at].added, *len = i + 1;
        if (++i == n) break;
        at = trie_child(r, at, (uint8_t)s[i]);
    }
    return found;
}

static int64_t char_before(const char *s, int64_t at, int32_t *cp)
{
    do at--;
    while (((uint8_t)s[at] & 0xc0) == 0x80);
    uni_next(s + at, cp);
    return at;
}

/* Neither the character before nor the one after is of a word. */
static bool stands_alone(const char *s, int64_t n, int64_t from, int64_t to)
{
    int32_t cp;
    if (from > 0) {
        char_before(s, from, &cp);
        if (uni_word(cp)) return false;
    }
    if (to == n) return true;
    uni_next(s + to, &cp);
    return !uni_word(cp);
}

int added_cut(struct encoder *e, const struct trie *r, const char *s, int64_t n,
              int (*part)(struct encoder *e, const char *s, int64_t n, bool first))
{
    int64_t done = 0, len = 0;
    int rc;
    for (int64_t at = 0; at < n && r->n > 0; at += len) {
        while (at < n && !r->root[(uint8_t)s[at]]) at++;
        int32_t i = at < n ? trie_match(r, s + at, n - at, &len) : -1;
        if (i < 0) {
            len = 1;
            continue;
        }
        const struct added *a = &e->t->added[i];
        int64_t from = at, to = at + len;
        int32_t cp;
        if (a->special && e->plain) continue;
        if (a->single_word && !stands_alone(s, n, from, to)) continue;
        while (a->lstrip && from > done) {
            int64_t before = char_before(s, from, &cp);
            if (!uni_space(cp)) break;
            from = before;
        }
        while (a->rstrip && to < n) {
            int k = uni_next(s + to, &cp);
            if (!uni_space(cp)) break;
            to += k;
        }
        if (done < from && (rc = part(e, s + done, from - done, done == 0)) < 0) return rc;
        token_push_added(e, a->id, s + from, to - from);
        done = to;
    }
    return done < n ? part(e, s + done, n - done, done == 0) : PEFT_OK;
}
