/* Rows that repeat others: exactly, with another label, nearly. */
#include "prep/clean.h"

#include <stdlib.h>

/* --- equal texts.  A table of the first row of each text and label; labels of one text
 * follow each other by linear probing. */

struct table { uint32_t *slot; uint64_t mask; };

/* A row of a text that has several labels: the first row of the text, and that of the label. */
struct vote { uint32_t text, label, row; };
struct votes { struct mem *mem; struct vote *v; int64_t n, cap; };

static int vote_add(struct votes *l, uint32_t text, uint32_t label, uint32_t row)
{
    if (l->n == l->cap) {
        int64_t cap = MAX(2 * l->cap, 256);
        struct vote *now = mem_realloc(l->mem, l->v, cap * (int64_t)sizeof *now);
        if (!now) return PEFT_ENOMEM;
        l->v = now;
        l->cap = cap;
    }
    l->v[l->n++] = (struct vote){text, label, row};
    return PEFT_OK;
}

struct match { uint32_t text, label; uint64_t slot; };  /* first rows of these, or NO_ROW */

static struct match look_up(const struct clean *c, const struct table *t, const struct row_info *a)
{
    enum { LABELS = 64 };               /* beyond, a text's further labels count as the first */
    struct match m = {NO_ROW, NO_ROW, a->text & t->mask};
    for (int seen = 0; t->slot[m.slot] != NO_ROW; m.slot = (m.slot + 1) & t->mask) {
        uint32_t i = t->slot[m.slot];
        const struct row_info *b = rows_at(&c->rows, i);
        if (b->text != a->text) continue;
        if (m.text == NO_ROW) m.text = i;
        if (b->label == a->label || ++seen == LABELS) {
            m.label = i;
            break;
        }
    }
    return m;
}

/* Marks rows that are equal in text, and label where both have one; collects those of texts
 * with several labels. */
static int find_equal(struct clean *c, struct table *t, struct votes *votes)
{
    int rc = PEFT_OK;
    for (int64_t i = 0; i < c->rows.n && rc >= 0; i++) {
        struct row_info *a = rows_at(&c->rows, i);
        if (a->verdict != NO_VERDICT) continue;
        struct match m = look_up(c, t, a);
        bool leak = m.text < c->first && i >= c->first;
        if (leak && c->act[RULE_LEAK]) {
            a->verdict = RULE_LEAK;
            a->of = m.text;
            a->equal = SKETCH_BINS;
            continue;
        }
        if (m.label == NO_ROW) t->slot[m.slot] = (uint32_t)i;
        if (i < c->first) continue;
        if (m.label != NO_ROW && m.label >= c->first && c->act[RULE_EXACT]) {
            a->verdict = RULE_EXACT;
            a->of = m.label;
            a->equal = SKETCH_BINS;
        }
        /* A row without a label contradicts none. */
        if (m.text == NO_ROW || m.text < c->first || !a->label || !rows_at(&c->rows, m.text)->label)
            continue;
        uint32_t label = m.label == NO_ROW ? (uint32_t)i : m.label;
        if (c->act[RULE_CONTRADICTION]) rc = vote_add(votes, m.text, label, (uint32_t)i);
    }
    return rc;
}

/* --- contradicting labels */

static int by_text(const void *a, const void *b)
{
    const struct vote *x = a, *y = b;
    if (x->text != y->text) return x->text < y->text ? -1 : 1;
    if (x->label != y->label) return x->label < y->label ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* The rows of one text, of which the first is not among them: 1 vote more for its label. */
static void judge_text(struct clean *c, const struct vote *v, int64_t n)
{
    uint32_t winner = v[0].text;
    int64_t most = 0;
    bool several = false, tie = false;
    for (int64_t i = 0, end; i < n; i = end) {
        for (end = i; end < n && v[end].label == v[i].label;) end++;
        several |= v[i].label != v[0].text;
        int64_t count = end - i + (v[i].label == v[0].text);
        /* The first row's own label may have no further vote. */
        if (i == 0 && v[i].label != v[0].text) most = 1;
        tie = count == most ? true : count > most ? false : tie;
        if (count > most) winner = v[i].label, most = count;
    }
    if (!several) return;
    enum action act = c->act[RULE_CONTRADICTION];
    bool keep = act == ACT_MAJORITY && !tie;
    for (int64_t i = -1; i < n; i++) {
        uint32_t row = i < 0 ? v[0].text : v[i].row, label = i < 0 ? v[0].text : v[i].label;
        struct row_info *a = rows_at(&c->rows, row);
        if (keep && label == winner) continue;
        if (act == ACT_FLAG && a->verdict == RULE_EXACT) continue;
        a->verdict = RULE_CONTRADICTION;
        a->of = i < 0 ? NO_ROW : v[0].text;
        a->equal = SKETCH_BINS;
    }
}

static void judge_labels(struct clean *c, struct votes *votes)
{
    if (votes->n) qsort(votes->v, (size_t)votes->n, sizeof *votes->v, by_text);
    for (int64_t i = 0, end; i < votes->n; i = end) {
        for (end = i; end < votes->n && votes->v[end].text == votes->v[i].text;) end++;
        judge_text(c, votes->v + i, end - i);
    }
}

/* --- likeness */

/* No bytes are read meanwhile. */
static int tell_search(void *ctx)
{
    struct clean *c = ctx;
    const peft_source_opts *o = &c->source;
    if (!o->progress || !o->progress(o->ctx, c->done, c->total)) return PEFT_OK;
    return fail(PEFT_ECANCELLED, "cancelled while searching for rows that are alike");
}

/* Rows like one of the evaluation data leak. */
static int find_near(struct clean *c)
{
    int rc = rows_near(&c->rows, &c->host, flow_threads(&c->source), c->near, c->first, RULE_NEAR,
                       tell_search, c);
    for (int64_t i = c->first; i < c->rows.n && rc >= 0; i++) {
        struct row_info *a = rows_at(&c->rows, i);
        if (a->verdict == RULE_NEAR && a->of < c->first)
            a->verdict = c->act[RULE_LEAK] ? RULE_LEAK : NO_VERDICT;
    }
    return rc;
}

int clean_repeats(struct clean *c)
{
    struct mem *mem = &c->host.mem;
    struct votes votes = {.mem = mem};
    struct table t;
    uint64_t slots = 1024;
    while ((int64_t)slots * 2 < c->rows.n * 3) slots *= 2;
    t.mask = slots - 1;
    t.slot = mem_alloc(mem, (int64_t)(slots * sizeof *t.slot));
    if (!t.slot) return PEFT_ENOMEM;
    memset(t.slot, 0xff, slots * sizeof *t.slot);
    int rc = find_equal(c, &t, &votes);
    mem_free(mem, t.slot);
    if (rc >= 0) judge_labels(c, &votes);
    mem_free(mem, votes.v);
    return rc >= 0 && c->act[RULE_NEAR] ? find_near(c) : rc;
}
