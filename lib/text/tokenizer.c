/* Text to ids: the path through the parts of a tokenizer. */
#include "text/tok.h"

#include <stdatomic.h>

enum { KEPT_TEXT = 1 << 16 };

const struct tok_info *tok_info(const struct tokenizer *t)
{
    return &t->info;
}

int tok_is_eot(const struct tokenizer *t, int32_t id)
{
    for (int i = 0; i < t->n_eot; i++)
        if (t->eot[i] == id) return 1;
    return 0;
}

int tok_is_special(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n && (t->tokens[id].flags & TOKEN_SPECIAL) != 0;
}

int tok_goes_on(const struct tokenizer *t, int32_t id)
{
    if (t->model != MODEL_WORDPIECE) return -1;
    int64_t n = t->wp.n_prefix;
    return id >= 0 && id < t->n && t->tokens[id].s && t->tokens[id].n > n &&
           !memcmp(t->tokens[id].s, t->wp.prefix, (size_t)n);
}

int32_t tok_lookup(const struct tokenizer *t, const char *token)
{
    int64_t n = (int64_t)strlen(token);
    int64_t added = map_get(&t->added_ids, token, n, -1);
    return added >= 0 ? t->added[added].id : tok_model_id(t, token, n);
}

void token_spans_init(struct token_spans *x, struct mem *m)
{
    ids_init(&x->begin, m);
    ids_init(&x->end, m);
    ids_init(&x->part, m);
}

void token_spans_free(struct token_spans *x)
{
    ids_free(&x->begin);
    ids_free(&x->end);
    ids_free(&x->part);
}

static void spans_push(struct token_spans *x, struct span at, int32_t part)
{
    ids_push(&x->begin, at.from);
    ids_push(&x->end, at.to);
    ids_push(&x->part, part);
}

static void spans_cut(struct token_spans *x, int64_t n)
{
    x->begin.n = MIN(x->begin.n, n);
    x->end.n = MIN(x->end.n, n);
    x->part.n = MIN(x->part.n, n);
}

static int spans_check(const struct token_spans *x)
{
    int rc = ids_check(&x->begin);
    if (rc == PEFT_OK) rc = ids_check(&x->end);
    return rc < 0 ? rc : ids_check(&x->part);
}

static bool inside_char(char c)
{
    return ((uint8_t)c & 0xc0) == 0x80;
}

/* --- from pieces to the original text */

struct span token_span(const struct encoder *e, const char *s, int64_t n)
{
    int64_t from = s - e->now.s, to = from + n;
    if (e->now.at) return (struct span){e->now.at[from].from, e->now.at[to - 1].to};
    while (from > 0 && inside_char(e->text[from])) from--;
    while (to < e->n_text && inside_char(e->text[to])) to++;
    return (struct span){(int32_t)from, (int32_t)to};
}

int token_spans_of(struct encoder *e, struct buf *own, struct aligned *x)
{
    if (!e->spans) return PEFT_OK;
    if (e->now.at) {
        x->at = e->now.at + (x->s - e->now.s);
        return PEFT_OK;
    }
    buf_clear(own);
    for (int64_t i = 0; i < x->n; i++) {
        struct span at = token_span(e, x->s + i, 1);
        buf_put(own, &at, sizeof at);
    }
    x->at = (const void *)own->data;
    return buf_check(own);
}

/* Spaces at the ends of a token's text, in characters.  The character of a
 * space in byte-level vocabularies is one. */
static int64_t spaces_at(const char *s, int64_t n, bool end)
{
    int64_t count = 0;
    for (int32_t cp; n > 0; count++) {
        int64_t at = 0;
        if (end)
            for (at = n - 1; at > 0 && inside_char(s[at]);) at--;
        int len = uni_next(s + at, &cp);
        if (!uni_space(cp) && cp != 0x120) break;
        if (!end) s += len;
        n -= len;
    }
    return count;
}

static void trim_span(const struct encoder *e, struct trim p, bool first, const char *s, int64_t n,
                      struct span *x)
{
    int64_t left = spaces_at(s, n, false), right = spaces_at(s, n, true);
    if ((first || x->from == 0) && p.prefix_space && left == 1) left = 0;
    for (; left > 0 && x->from < x->to; left--) {
        do x->from++;
        while (x->from < e->n_text && inside_char(e->text[x->from]));
    }
    int32_t to = x->to;
    for (; right > 0 && to > 0; right--) {
        do to--;
        while (to > 0 && inside_char(e->text[to]));
    }
    if (right == 0) x->to = MAX(to, x->from);
}

static void push_span(struct encoder *e, bool first, const char *s, int64_t n, const char *token,
                      int64_t n_token)
{
    struct span x = token_span(e, s, n);
    for (int i = 0; i < e->t->n_trim; i++)
        trim_span(e, e->t->trim[i], first, token, n_token, &x);
    spans_push(e->spans, x, e->part);
}

void token_push_span(struct encoder *e, int32_t id, int64_t index, const char *s, int64_t n)
{
    const struct token *k = &e->t->tokens[id];
    push_span(e, index == e->first_id, s, n, k->s, k->n);
}

void token_push(struct encoder *e, int32_t id, const char *s, int64_t n)
{
    if (e->spans) token_push_span(e, id, e->out->n, s, n);
    ids_push(e->out, id);
    if (e->n_ends > WORD_IDS) return;
    int64_t from = s - e->word_at, before = e->n_ends ? e->ends[e->n_ends - 1] : 0;
    if (e->n_ends < WORD_IDS && from == before) e->ends[e->n_ends++] = from + n;
    else e->n_ends = WORD_IDS + 1;
}

void token_push_added(struct encoder *e, int32_t id, const char *s, int64_t n)
{
    if (e->spans) push_span(e, e->out->n == e->first_id, s, n, s, n);
    ids_push(e->out, id);
}

void token_drop(struct encoder *e, int64_t n)
{
    if (e->spans) spans_cut(e->spans, e->spans->begin.n - (e->out->n - n));
    e->out->n = n;
    e->n_ends = 0;
}

/* --- encoding */

static int encoder_new(const struct tokenizer *t, struct encoder **out)
{
    struct encoder *e = mem_zalloc(&t->host->mem, sizeof *e);
    *out = e;
    if (!e) return PEFT_ENOMEM;
    e->t = t;
    e->mem = &t->host->mem;
    for (int i = 0; i < 2; i++) draft_init(&e->norm[i], e->mem);
    for (int i = 0; i < STEPS_MAX; i++) draft_init(&e->step[i], e->mem);
    for (int i = 0; i <= STEPS_MAX; i++) buf_init(&e->own[i], e->mem);
    buf_init(&e->word, e->mem);
    return PEFT_OK;
}

/* All but the words. */
static void encoder_trim(struct encoder *e)
{
    for (int i = 0; i < 2; i++) draft_free(&e->norm[i]);
    for (int i = 0; i < STEPS_MAX; i++) draft_free(&e->step[i]);
    for (int i = 0; i <= STEPS_MAX; i++) buf_free(&e->own[i]);
    buf_free(&e->word);
    mem_free(e->mem, e->symbols);
    mem_free(e->mem, e->heap);
    mem_free(e->mem, e->best);
    e->symbols = NULL;
    e->heap = NULL;
    e->best = NULL;
    e->cap_symbols = e->cap_best = 0;
}

static void encoder_free(struct encoder *e)
{
    if (!e) return;
    encoder_trim(e);
    words_free(&e->words, e->mem);
    mem_free(e->mem, e);
}

void tok_rest(const struct tokenizer *t)
{
    for (int i = 0; t->idle && i < IDLE_MAX; i++)
        encoder_free(atomic_exchange(&t->idle->slot[i], NULL));
}

/* One that is idle, or a new one. */
static int encoder_take(const struct tokenizer *t, struct ids *out, struct token_spans *spans,
                        bool plain, struct encoder **e)
{
    *e = NULL;
    for (int i = 0; i < IDLE_MAX && !*e; i++) *e = atomic_exchange(&t->idle->slot[i], NULL);
    int rc = *e ? PEFT_OK : encoder_new(t, e);
    if (rc < 0) return rc;
    (*e)->out = out;
    (*e)->spans = spans;
    (*e)->plain = plain;
    return PEFT_OK;
}

/* A long text's memory is not kept. */
static void encoder_give(struct encoder *e)
{
    if (e->longest > KEPT_TEXT) encoder_trim(e);
    e->longest = 0;
    for (int i = 0; i < IDLE_MAX; i++) {
        struct encoder *none = NULL;
        if (atomic_compare_exchange_strong(&e->t->idle->slot[i], &none, e)) return;
    }
    encoder_free(e);
}

static int encode_piece(struct encoder *e, const char *s, int64_t n, bool first)
{
    e->first = e->first && first;
    int rc = split_run(e, 0, s, n);
    e->first = false;
    return rc;
}

static int encode_part(struct encoder *e, const char *s, int64_t n, bool first)
{
    struct aligned was = e->now, x = {s, n, NULL};
    int rc = PEFT_OK;
    e->first = first;
    if (e->t->n_norm > 0) {
        rc = token_spans_of(e, &e->own[STEPS_MAX], &x);
        if (rc == PEFT_OK) rc = normalize(e->t, e->norm, &x);
        if (rc < 0) return rc;
        e->now = x;
    }
    rc = added_cut(e, &e->t->normalized, x.s, x.n, encode_piece);
    e->now = was;
    return rc;
}

static int encode_text(struct encoder *e, const char *s, int64_t n, int32_t part)
{
    if (n < 0 || n > INT32_MAX / 8)
        return fail(PEFT_EARG, "a text of %lld bytes, at most %d are expected", (long long)n,
                    INT32_MAX / 8);
    int64_t bad = utf8_check(s, n);
    if (bad < n)
        return fail(PEFT_EFORMAT, "the text is not UTF-8: byte 0x%02x at offset %lld",
                    (uint8_t)s[bad], (long long)bad);
    e->text = s;
    e->n_text = n;
    e->longest = MAX(e->longest, n);
    e->now = (struct aligned){s, n, NULL};
    e->first_id = e->out->n;
    e->part = part;
    int rc = added_cut(e, &e->t->plain, s, n, encode_part);
    return rc < 0 ? rc : ids_check(e->out);
}

static void push_types(struct ids *types, int64_t upto, int32_t type)
{
    while (types && types->n < upto && !types->oom) ids_push(types, type);
}

/* Fills a template: text a, text b, and the tokens around them.  On failure
 * nothing stays appended. */
static int encode_post(struct encoder *e, const struct post *p, const char *const text[2],
                       const int64_t n[2], struct ids *types)
{
    int64_t before = e->out->n, before_types = types ? types->n : 0;
    int64_t before_spans = e->spans ? e->spans->begin.n : 0;
    int rc = PEFT_OK;
    for (int i = 0; i < p->n && rc == PEFT_OK; i++) {
        const struct post_item *it = &p->items[i];
        int32_t part = it->kind == POST_B;
        if (it->kind != POST_TOKEN) rc = encode_text(e, text[part], n[part], part);
        else ids_push(e->out, it->id);
        if (it->kind == POST_TOKEN && e->spans) spans_push(e->spans, (struct span){0, 0}, -1);
        push_types(types, before_types + e->out->n - before, it->type);
    }
    if (rc == PEFT_OK) rc = ids_check(e->out);
    if (rc == PEFT_OK && types) rc = ids_check(types);
    if (rc == PEFT_OK && e->spans) rc = spans_check(e->spans);
    if (rc < 0) {
        e->out->n = before;
        if (types) types->n = before_types;
        if (e->spans) spans_cut(e->spans, before_spans);
    }
    return rc;
}

int tok_encode_spans(struct host *h, const struct tokenizer *t, const char *text, int64_t n,
                     int flags, struct ids *out, struct token_spans *spans)
{
    static const struct post bare = {{{POST_A, 0, 0}}, 1};
    bool special = (flags & TOK_SPECIAL) && t->single.n > 0;
    struct encoder *e;
    (void)h;
    int rc = encoder_take(t, out, spans, (flags & TOK_PLAIN) != 0, &e);
    if (rc < 0) return rc;
    rc = encode_post(e, special ? &t->single : &bare, (const char *const[]){text, ""},
                         (const int64_t[]){n, 0}, NULL);
    encoder_give(e);
    return rc;
}

int tok_encode(struct host *h, const struct tokenizer *t, const char *text, int64_t n, int flags,
               struct ids *out)
{
    return tok_encode_spans(h, t, text, n, flags, out, NULL);
}

int tok_encode_pair_spans(struct host *h, const struct tokenizer *t, const char *a, int64_t na,
                          const char *b, int64_t nb, struct ids *out, struct ids *types,
                          struct token_spans *spans)
{
    static const struct post bare = {{{POST_A, 0, 0}, {POST_B, 0, 1}}, 2};
    struct encoder *e;
    (void)h;
    int rc = encoder_take(t, out, spans, false, &e);
    if (rc < 0) return rc;
    rc = encode_post(e, t->pair.n > 0 ? &t->pair : &bare, (const char *const[]){a, b},
                         (const int64_t[]){na, nb}, types);
    encoder_give(e);
    return rc;
}

int tok_encode_pair(struct host *h, const struct tokenizer *t, const char *a, int64_t na,
                    const char *b, int64_t nb, struct ids *out, struct ids *types)
{
    return tok_encode_pair_spans(h, t, a, na, b, nb, out, types, NULL);
}
