/* Normalizers: what happens to a text before it is split. */
#include "text/tok.h"

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

static void norm_replace(struct buf *out, const struct norm_step *p, const char *s, int64_t n)
{
    for (int64_t at = 0; at < n;) {
        const char *hit = uni_find(s + at, n - at, p->from, p->n_from);
        int64_t end = hit ? hit - s : n;
        buf_put(out, s + at, end - at);
        if (!hit) return;
        buf_put(out, p->to, p->n_to);
        at = end + p->n_from;
    }
}

static void norm_lower(struct buf *out, const char *s, int64_t n)
{
    for (int64_t i = 0; i < n;) {
        int32_t cp;
        i += uni_next(s + i, &cp);
        uni_lower(out, cp);
    }
}

static void norm_marks(struct buf *out, bool (*drop)(int32_t), const char *s, int64_t n)
{
    for (int64_t i = 0; i < n;) {
        int32_t cp;
        int len = uni_next(s + i, &cp);
        if (!drop(cp)) buf_put(out, s + i, len);
        i += len;
    }
}

static void norm_strip(struct buf *out, const struct norm_step *p, const char *s, int64_t n)
{
    int64_t from = 0, to = n;
    int32_t cp;
    while (p->left && from < to) {
        int len = uni_next(s + from, &cp);
        if (!uni_space(cp)) break;
        from += len;
    }
    while (p->right && to > from) {
        int64_t last = to - 1;
        while (((uint8_t)s[last] & 0xc0) == 0x80) last--;
        uni_next(s + last, &cp);
        if (!uni_space(cp)) break;
        to = last;
    }
    buf_put(out, s + from, to - from);
}

/* Control characters go, any white space becomes a space, Chinese characters
 * get spaces around them. */
static void bert_clean(struct buf *out, const struct norm_step *p, const char *s, int64_t n)
{
    for (int64_t i = 0; i < n;) {
        int32_t cp;
        int len = uni_next(s + i, &cp);
        const char *at = s + i;
        i += len;
        if (p->clean && (cp == 0 || cp == 0xfffd || uni_control(cp))) continue;
        if (p->clean && uni_space(cp)) {
            buf_putc(out, ' ');
            continue;
        }
        bool apart = p->han && uni_han(cp);
        if (apart) buf_putc(out, ' ');
        buf_put(out, at, len);
        if (apart) buf_putc(out, ' ');
    }
}

static int norm_bert(struct buf *out, const struct norm_step *p, const char *s, int64_t n)
{
    struct buf a, b;
    buf_init(&a, out->mem);
    buf_init(&b, out->mem);
    bert_clean(&a, p, s, n);
    int rc = buf_check(&a);
    if (rc == PEFT_OK && p->accents) {
        rc = uni_normalize(out->mem, UNI_NFD, a.data, a.n, &b);
        buf_clear(&a);
        if (rc == PEFT_OK) norm_marks(&a, uni_mark_nonspacing, b.data, b.n), rc = buf_check(&a);
    }
    if (rc == PEFT_OK && p->lower) norm_lower(out, a.data, a.n);
    if (rc == PEFT_OK && !p->lower) buf_put(out, a.data, a.n);
    buf_free(&a);
    buf_free(&b);
    return rc < 0 ? rc : buf_check(out);
}

/* The cleaning of neural machine translation in SentencePiece: control
 * characters go, other white space and U+2581 become spaces. */
static void norm_nmt(struct buf *out, const char *s, int64_t n)
{
    for (int64_t i = 0; i < n;) {
        int32_t cp;
        int len = uni_next(s + i, &cp);
        bool space = cp == 9 || cp == 10 || cp == 12 || cp == 13 || cp == 0x1680 ||
                     (cp >= 0x200b && cp <= 0x200f) || cp == 0x2028 || cp == 0x2029 ||
                     cp == 0x2581 || cp == 0xfeff || cp == 0xfffd;
        bool drop = (cp > 0 && cp < 32) || cp == 0x7f || cp == 0x8f || cp == 0x9f;
        if (space) buf_putc(out, ' ');
        else if (!drop) buf_put(out, s + i, len);
        i += len;
    }
}

static int norm_apply(struct buf *out, const struct norm_step *p, const char *s, int64_t n)
{
    buf_clear(out);
    switch (p->kind) {
    case NORM_FORM: return uni_normalize(out->mem, p->form, s, n, out);
    case NORM_BERT: return norm_bert(out, p, s, n);
    case NORM_CHARSMAP: return charsmap_apply(&p->charsmap, s, n, out);
    case NORM_NMT: norm_nmt(out, s, n); break;
    case NORM_BYTES: write_bytes(out, s, n); break;
    case NORM_LOWER: norm_lower(out, s, n); break;
    case NORM_STRIP: norm_strip(out, p, s, n); break;
    case NORM_STRIP_MARKS: norm_marks(out, uni_mark, s, n); break;
    case NORM_REPLACE:
        if (p->n_from == 0) return expr_replace(&p->expr, p->to, p->n_to, s, n, out);
        norm_replace(out, p, s, n);
        break;
    case NORM_PREPEND:
        if (n > 0) buf_put(out, p->to, p->n_to);
        buf_put(out, s, n);
        break;
    }
    return buf_check(out);
}

/* *s and *n become the normalized text, which lies in one of `two` when there
 * is a normalizer. */
int normalize(const struct tokenizer *t, struct buf two[2], const char **s, int64_t *n)
{
    for (int i = 0; i < t->n_norm; i++) {
        struct buf *out = &two[i & 1];
        int rc = norm_apply(out, &t->norm[i], *s, *n);
        if (rc < 0) return rc;
        *s = buf_str(out);
        *n = out->n;
    }
    return PEFT_OK;
}
