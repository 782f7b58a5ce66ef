/* Splitting a text into the pieces that the model sees: steps in a row, each
 * of which cuts or rewrites what the one before it gives. */
#include "text/tok.h"

struct split_step *split_push(struct tokenizer *t, enum split_kind kind)
{
    if (t->n_split == STEPS_MAX) {
        fail(PEFT_EUNSUPPORTED, "more than %d pre-tokenizer steps", STEPS_MAX);
        return NULL;
    }
    struct split_step *p = &t->split[t->n_split++];
    *p = (struct split_step){.kind = kind};
    return p;
}

int split_push_find(struct tokenizer *t, find_fn *find, enum split_how how)
{
    struct split_step *p = split_push(t, SPLIT_FIND);
    if (!p) return PEFT_EUNSUPPORTED;
    p->find = find;
    p->how = how;
    return PEFT_OK;
}

int split_push_byte_level(struct tokenizer *t, bool prefix_space, bool use_regex)
{
    if (prefix_space && !split_push(t, SPLIT_PREFIX_SPACE)) return PEFT_EUNSUPPORTED;
    int rc = use_regex ? split_push_find(t, find_gpt2, HOW_ISOLATED) : PEFT_OK;
    if (rc < 0) return rc;
    return split_push(t, SPLIT_BYTES) ? PEFT_OK : PEFT_EUNSUPPORTED;
}

/* How spans join: `held` is the span not yet given on. */
struct span_state {
    struct encoder *e;
    const struct split_step *p;
    int step;
    const char *s;
    int64_t from, to;
    bool holds, held_match, last;
};

static int span_emit(struct span_state *st)
{
    if (!st->holds) return PEFT_OK;
    st->holds = false;
    if (st->from == st->to) return PEFT_OK;
    if (st->from > 0) st->e->first = false;
    int rc = split_run(st->e, st->step + 1, st->s + st->from, st->to - st->from);
    st->e->first = false;
    return rc;
}

static int span_add(struct span_state *st, int64_t from, int64_t to, bool match)
{
    bool join = false;
    switch (st->p->how) {
    case HOW_REMOVED:
        if (match) return PEFT_OK;
        break;
    case HOW_CONTIGUOUS: join = st->holds && match == st->last; break;
    case HOW_MERGED_PREVIOUS: join = st->holds && match && !st->last; break;
    case HOW_MERGED_NEXT: join = st->holds && !match && st->held_match; break;
    case HOW_ISOLATED: break;
    }
    st->last = match;
    if (join) {
        st->to = to;
        st->held_match = false;
        return PEFT_OK;
    }
    int rc = span_emit(st);
    st->from = from, st->to = to, st->holds = true, st->held_match = match;
    return rc;
}

static int span_of_regex(void *ctx, int64_t from, int64_t to, bool match)
{
    struct span_state *st = ctx;
    return span_add(st, from, to, match != st->p->invert);
}

static int split_find(struct encoder *e, int step, const char *s, int64_t n)
{
    const struct split_step *p = &e->t->split[step];
    struct span_state st = {.e = e, .p = p, .step = step, .s = s};
    int rc = PEFT_OK;
    if (p->regex) {
        rc = expr_scan(&(struct expr){.regex = p->regex}, s, n, span_of_regex, &st);
        return rc < 0 ? rc : span_emit(&st);
    }
    for (int64_t at = 0; at < n && rc == PEFT_OK;) {
        bool match;
        int64_t end = p->find(p, s, n, at, &match);
        rc = span_add(&st, at, end, match != p->invert);
        at = end;
    }
    return rc < 0 ? rc : span_emit(&st);
}

void write_bytes(struct draft *d, const struct aligned *in)
{
    for (int64_t i = 0; i < in->n; i++) {
        char out[4];
        int len = uni_put(out, uni_of_byte((uint8_t)in->s[i]));
        draft_put(d, in, i, out, len);
    }
}

/* Spaces become the step's character, which also begins the text. */
static void write_metaspace(struct draft *d, const struct split_step *p, bool first,
                            const struct aligned *in)
{
    bool has = in->s[0] == ' ' ||
               (in->n >= p->n_text && !memcmp(in->s, p->text, (size_t)p->n_text));
    if (!has && (p->prepend == PREPEND_ALWAYS || (p->prepend == PREPEND_FIRST && first)))
        draft_put(d, in, 0, p->text, p->n_text);
    int64_t from = 0;
    for (int64_t i = 0; i < in->n; i++) {
        if (in->s[i] != ' ') continue;
        draft_copy(d, in, from, i);
        draft_put(d, in, i, p->text, p->n_text);
        from = i + 1;
    }
    draft_copy(d, in, from, in->n);
}

/* The pieces of a rewritten text point into that one. */
int split_rewrite(struct encoder *e, int step, const char *s, int64_t n)
{
    const struct split_step *p = &e->t->split[step];
    struct draft *d = &e->step[step];
    struct aligned was = e->now, in = {s, n, NULL};
    int rc = token_spans_of(e, &e->own[step], &in);
    if (rc < 0) return rc;
    draft_clear(d);
    if (p->kind == SPLIT_BYTES) write_bytes(d, &in);
    if (p->kind == SPLIT_METASPACE) write_metaspace(d, p, e->first, &in);
    if (p->kind == SPLIT_PREFIX_SPACE) draft_put(d, &in, 0, " ", 1), draft_copy(d, &in, 0, n);
    if ((rc = draft_check(d)) < 0) return rc;
    e->now = draft_text(d, &in);
    rc = split_run(e, step + 1, e->now.s, e->now.n);
    e->now = was;
    return rc;
}

int split_run(struct encoder *e, int step, const char *s, int64_t n)
{
    const struct tokenizer *t = e->t;
    if (n == 0) return PEFT_OK;
    if (step == t->n_pieces && !e->mapped) return words_encode(e, s, n);
    if (step == t->n_split) return bpe_encode(e, s, n);
    const struct split_step *p = &t->split[step];
    if (p->kind == SPLIT_FIND) return split_find(e, step, s, n);
    if (p->kind == SPLIT_PREFIX_SPACE && s[0] == ' ') return split_run(e, step + 1, s, n);
    return split_rewrite(e, step, s, n);
}
