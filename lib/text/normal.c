/* Normalizers: what happens to a text before it is split.  Every byte that is
 * written remembers the bytes of the original that it stands for, when asked
 * to: a character that replaces others stands for the first of them, one that
 * is added for its neighbour before it (`tokenizers`, NormalizedString). */
#include "text/tok.h"

void draft_init(struct draft *d, struct mem *m)
{
    buf_init(&d->chars, m);
    buf_init(&d->spans, m);
}

void draft_free(struct draft *d)
{
    buf_free(&d->chars);
    buf_free(&d->spans);
}

void draft_clear(struct draft *d)
{
    buf_clear(&d->chars);
    buf_clear(&d->spans);
}

static void put_spans(struct draft *d, struct span x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) buf_put(&d->spans, &x, sizeof x);
}

void draft_put(struct draft *d, const struct aligned *in, int64_t src, const char *s, int64_t n)
{
    buf_put(&d->chars, s, n);
    if (in->at) put_spans(d, in->at[src], n);
}

void draft_copy(struct draft *d, const struct aligned *in, int64_t from, int64_t to)
{
    buf_put(&d->chars, in->s + from, to - from);
    if (in->at) buf_put(&d->spans, in->at + from, (to - from) * (int64_t)sizeof *in->at);
}

int draft_check(const struct draft *d)
{
    int rc = buf_check(&d->chars);
    return rc < 0 ? rc : buf_check(&d->spans);
}

struct aligned draft_text(struct draft *d, const struct aligned *in)
{
    const void *spans = in->at && d->spans.n ? d->spans.data : NULL;
    return (struct aligned){buf_str(&d->chars), d->chars.n, spans};
}

struct norm_step *norm_push(struct tokenizer *t, enum norm_kind kind)
{
    if (t->n_norm == STEPS_MAX) {
        fail(PEFT_EUNSUPPORTED, "more than %d normalizer steps", STEPS_MAX);
        return NULL;
    }
    struct norm_step *p = &t->norm[t->n_norm++];
    *p = (struct norm_step){.kind = kind};
    return p;
}

static int64_t ascii_end(const struct aligned *in, int64_t at)
{
    while (at < in->n && (uint8_t)in->s[at] < 0x80) at++;
    return at;
}

static int64_t other_end(const struct aligned *in, int64_t at)
{
    while (at < in->n && (uint8_t)in->s[at] >= 0x80) at++;
    return at;
}

/* Spans for the characters written from `at` on: each takes the next one of the
 * input; a change above 0 is a character more, below 0 as many fewer. */
static void put_changes(struct draft *out, const struct ids *changes, const struct aligned *in,
                        int64_t from, int64_t to, int64_t at)
{
    int64_t src = from;
    for (int64_t i = 0; i < changes->n && !out->chars.oom; i++) {
        int32_t cp;
        int len = uni_next(out->chars.data + at, &cp);
        bool added = changes->v[i] > 0;
        put_spans(out, in->at[added && src > 0 ? src - 1 : MIN(src, to - 1)], len);
        at += len;
        for (int64_t k = changes->v[i]; k <= 0 && src < to; k++) src += uni_next(in->s + src, &cp);
    }
}

static int form_run(struct draft *out, enum uni_form form, const struct aligned *in, int64_t from,
                    int64_t to)
{
    struct ids changes;
    ids_init(&changes, out->chars.mem);
    int64_t at = out->chars.n;
    int rc = uni_normalize(out->chars.mem, form, in->s + from, to - from, &out->chars,
                           in->at ? &changes : NULL);
    if (rc == PEFT_OK) put_changes(out, &changes, in, from, to, at);
    ids_free(&changes);
    return rc;
}

/* ASCII stays, but for the character that a mark may follow. */
static int normalize_form(struct draft *out, enum uni_form form, const struct aligned *in)
{
    bool composes = form == UNI_NFC || form == UNI_NFKC;
    for (int64_t at = 0; at < in->n;) {
        int64_t end = ascii_end(in, at), from = end;
        if (end < in->n && end > at && composes) from--;
        draft_copy(out, in, at, from);
        at = other_end(in, end);
        int rc = at > from ? form_run(out, form, in, from, at) : PEFT_OK;
        if (rc < 0) return rc;
    }
    return PEFT_OK;
}

static void norm_replace(struct draft *out, const struct norm_step *p, const struct aligned *in)
{
    for (int64_t at = 0; at < in->n;) {
        const char *hit = uni_find(in->s + at, in->n - at, p->from, p->n_from);
        int64_t end = hit ? hit - in->s : in->n;
        draft_copy(out, in, at, end);
        if (!hit) return;
        at = end + p->n_from;
        draft_put(out, in, at - 1, p->to, p->n_to);
    }
}

static void norm_lower(struct draft *out, const struct aligned *in)
{
    for (int64_t i = 0; i < in->n;) {
        int32_t cp;
        int64_t before = out->chars.n;
        int len = uni_next(in->s + i, &cp);
        uni_lower(&out->chars, cp);
        if (in->at) put_spans(out, in->at[i], out->chars.n - before);
        i += len;
    }
}

static void norm_marks(struct draft *out, bool (*drop)(int32_t), const struct aligned *in)
{
    for (int64_t i = 0; i < in->n;) {
        int32_t cp;
        int len = uni_next(in->s + i, &cp);
        if (!drop(cp)) draft_copy(out, in, i, i + len);
        i += len;
    }
}

static void norm_strip(struct draft *out, const struct norm_step *p, const struct aligned *in)
{
    int64_t from = 0, to = in->n;
    int32_t cp;
    while (p->left && from < to) {
        int len = uni_next(in->s + from, &cp);
        if (!uni_space(cp)) break;
        from += len;
    }
    while (p->right && to > from) {
        int64_t last = to - 1;
        while (((uint8_t)in->s[last] & 0xc0) == 0x80) last--;
        uni_next(in->s + last, &cp);
        if (!uni_space(cp)) break;
        to = last;
    }
    draft_copy(out, in, from, to);
}

/* --- BERT: control characters go, any white space becomes a space, Chinese
 * characters get spaces around them, marks go, and letters become small ones.
 * ASCII takes one pass; the rest, whose runs do not depend on each other, one
 * for each of these. */

/* Writes over its own copy of the run: nothing gets longer. */
static void bert_ascii(struct draft *out, const struct norm_step *p, const struct aligned *in,
                       int64_t from, int64_t to)
{
    int64_t before = out->chars.n;
    buf_put(&out->chars, in->s + from, to - from);
    if (out->chars.oom) return;
    char *w = out->chars.data + before;
    for (int64_t i = from; i < to; i++) {
        char c = in->s[i];
        if (p->clean && (c < ' ' || c == 0x7f)) {
            if (c != '\t' && c != '\n' && c != '\r') continue;
            c = ' ';
        }
        *w++ = p->lower && c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        if (in->at) put_spans(out, in->at[i], 1);
    }
    out->chars.n = w - out->chars.data;
}

static void bert_clean(struct draft *out, const struct norm_step *p, const struct aligned *in)
{
    for (int64_t i = 0; i < in->n;) {
        int32_t cp;
        int64_t at = i;
        i += uni_next(in->s + i, &cp);
        if (p->clean && (cp == 0xfffd || uni_control(cp))) continue;
        bool space = p->clean && uni_space(cp), apart = !space && p->han && uni_han(cp);
        if (space || apart) draft_put(out, in, at, " ", 1);
        if (!space) draft_copy(out, in, at, i);
        if (apart) draft_put(out, in, at, " ", 1);
    }
}

static int bert_other(struct draft *out, struct draft two[2], const struct norm_step *p,
                      struct aligned x)
{
    draft_clear(&two[0]);
    bert_clean(&two[0], p, &x);
    x = draft_text(&two[0], &x);
    int rc = draft_check(&two[0]);
    if (rc == PEFT_OK && p->accents && x.n > 0) {
        draft_clear(&two[1]);
        rc = form_run(&two[1], UNI_NFD, &x, 0, x.n);
        if (rc == PEFT_OK) rc = draft_check(&two[1]);
        if (rc < 0) return rc;
        x = draft_text(&two[1], &x);
        draft_clear(&two[0]);
        norm_marks(&two[0], uni_mark_nonspacing, &x);
        x = draft_text(&two[0], &x);
        rc = draft_check(&two[0]);
    }
    if (rc < 0) return rc;
    if (p->lower) norm_lower(out, &x);
    else draft_copy(out, &x, 0, x.n);
    return PEFT_OK;
}

static int norm_bert(struct draft *out, const struct norm_step *p, const struct aligned *in)
{
    struct draft two[2];
    draft_init(&two[0], out->chars.mem);
    draft_init(&two[1], out->chars.mem);
    int rc = PEFT_OK;
    for (int64_t at = 0; at < in->n && rc == PEFT_OK;) {
        int64_t end = ascii_end(in, at);
        bert_ascii(out, p, in, at, end);
        at = other_end(in, end);
        struct aligned run = {in->s + end, at - end, in->at ? in->at + end : NULL};
        if (at > end) rc = bert_other(out, two, p, run);
    }
    draft_free(&two[0]);
    draft_free(&two[1]);
    return rc;
}

/* The cleaning of neural machine translation in SentencePiece: control
 * characters go, other white space and U+2581 become spaces. */
static void norm_nmt(struct draft *out, const struct aligned *in)
{
    for (int64_t i = 0; i < in->n;) {
        int32_t cp;
        int len = uni_next(in->s + i, &cp);
        bool space = cp == 9 || cp == 10 || cp == 12 || cp == 13 || cp == 0x1680 ||
                     (cp >= 0x200b && cp <= 0x200f) || cp == 0x2028 || cp == 0x2029 ||
                     cp == 0x2581 || cp == 0xfeff || cp == 0xfffd;
        bool drop = (cp > 0 && cp < 32) || cp == 0x7f || cp == 0x8f || cp == 0x9f;
        if (space) draft_put(out, in, i, " ", 1);
        else if (!drop) draft_copy(out, in, i, i + len);
        i += len;
    }
}

static int norm_charsmap(struct draft *out, const struct charsmap *m, const struct aligned *in)
{
    struct ids changes;
    ids_init(&changes, out->chars.mem);
    int rc = charsmap_apply(m, in->s, in->n, &out->chars, in->at ? &changes : NULL);
    if (rc == PEFT_OK) put_changes(out, &changes, in, 0, in->n, 0);
    ids_free(&changes);
    return rc;
}

struct replacing { struct draft *out; const struct aligned *in; const struct norm_step *p; };

static int replace_span(void *ctx, int64_t from, int64_t to, bool match)
{
    struct replacing *r = ctx;
    if (match) draft_put(r->out, r->in, MAX(to - 1, 0), r->p->to, r->p->n_to);
    else draft_copy(r->out, r->in, from, to);
    return PEFT_OK;
}

static int norm_expr(struct draft *out, const struct norm_step *p, const struct aligned *in)
{
    struct replacing r = {out, in, p};
    return expr_scan(&p->expr, in->s, in->n, replace_span, &r);
}

static int norm_apply(struct draft *out, const struct norm_step *p, const struct aligned *in)
{
    int rc = PEFT_OK;
    draft_clear(out);
    switch (p->kind) {
    case NORM_FORM: rc = normalize_form(out, p->form, in); break;
    case NORM_BERT: rc = norm_bert(out, p, in); break;
    case NORM_CHARSMAP: rc = norm_charsmap(out, &p->charsmap, in); break;
    case NORM_NMT: norm_nmt(out, in); break;
    case NORM_BYTES: write_bytes(out, in); break;
    case NORM_LOWER: norm_lower(out, in); break;
    case NORM_STRIP: norm_strip(out, p, in); break;
    case NORM_STRIP_MARKS: norm_marks(out, uni_mark, in); break;
    case NORM_REPLACE:
        if (p->n_from == 0) rc = norm_expr(out, p, in);
        else norm_replace(out, p, in);
        break;
    case NORM_PREPEND:
        if (in->n > 0) draft_put(out, in, 0, p->to, p->n_to);
        draft_copy(out, in, 0, in->n);
        break;
    }
    return rc < 0 ? rc : draft_check(out);
}

/* *x becomes the normalized text, which lies in one of `two` when there is a
 * normalizer. */
int normalize(const struct tokenizer *t, struct draft two[2], struct aligned *x)
{
    for (int i = 0; i < t->n_norm; i++) {
        struct draft *out = &two[i & 1];
        int rc = norm_apply(out, &t->norm[i], x);
        if (rc < 0) return rc;
        *x = draft_text(out, x);
    }
    return PEFT_OK;
}
