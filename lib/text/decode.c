/* Ids to text: a list of token texts passes the decoder's steps. */
#include "text/tok.h"

struct decode_step *decode_push(struct tokenizer *t, enum decode_kind kind)
{
    if (t->n_decode == STEPS_MAX) {
        fail(PEFT_EUNSUPPORTED, "more than %d decoder steps", STEPS_MAX);
        return NULL;
    }
    struct decode_step *p = &t->decode[t->n_decode++];
    *p = (struct decode_step){.kind = kind};
    return p;
}

/* SentencePiece: U+2581 to space, byte tokens to bytes, and the space that was
 * put before the text goes. */
int decode_push_spm(struct tokenizer *t, bool strip)
{
    struct decode_step *d = decode_push(t, DECODE_REPLACE);
    if (!d) return PEFT_EUNSUPPORTED;
    d->from = SPM_SPACE, d->n_from = 3, d->to = " ", d->n_to = 1;
    if (!decode_push(t, DECODE_BYTE_FALLBACK)) return PEFT_EUNSUPPORTED;
    if (!decode_push(t, DECODE_FUSE)) return PEFT_EUNSUPPORTED;
    t->has_decoder = true;
    if (!strip) return PEFT_OK;
    if (!(d = decode_push(t, DECODE_STRIP))) return PEFT_EUNSUPPORTED;
    d->from = " ", d->n_from = 1, d->start = 1;
    return PEFT_OK;
}

/* Texts one after the other; `ends` are int64 in a byte buffer. */
struct texts { struct buf chars, ends; };

static void texts_init(struct texts *x, struct mem *m)
{
    buf_init(&x->chars, m);
    buf_init(&x->ends, m);
}

static void texts_free(struct texts *x)
{
    buf_free(&x->chars);
    buf_free(&x->ends);
}

static int64_t texts_count(const struct texts *x)
{
    return x->ends.oom ? 0 : x->ends.n / (int64_t)sizeof(int64_t);
}

static int64_t texts_end(const struct texts *x, int64_t i)
{
    int64_t end = 0;
    if (i >= 0) memcpy(&end, x->ends.data + i * (int64_t)sizeof end, sizeof end);
    return end;
}

/* Without any text there are no chars to point into. */
static const char *texts_at(const struct texts *x, int64_t i, int64_t *n)
{
    int64_t at = texts_end(x, i - 1);
    *n = texts_end(x, i) - at;
    return *n ? x->chars.data + at : "";
}

/* The text appended to `chars` since the last call becomes one more. */
static void texts_close(struct texts *x)
{
    int64_t end = x->chars.n;
    buf_put(&x->ends, &end, sizeof end);
}

/* Byte-level: the bytes that the characters stand for, or the token's own
 * when one stands for none. */
static void piece_bytes(struct buf *out, const char *s, int64_t n)
{
    int64_t before = out->n;
    for (int64_t i = 0; i < n;) {
        int32_t cp;
        i += uni_next(s + i, &cp);
        int byte = uni_to_byte(cp);
        if (byte < 0) {
            out->n = before;
            buf_put(out, s, n);
            return;
        }
        buf_putc(out, (char)byte);
    }
}

static void piece_replace(struct buf *out, const char *from, int64_t n_from, const char *to,
                          int64_t n_to, const char *s, int64_t n)
{
    for (int64_t i = 0; i < n;) {
        const char *hit = uni_find(s + i, n - i, from, n_from);
        int64_t end = hit ? hit - s : n;
        buf_put(out, s + i, end - i);
        if (!hit) return;
        buf_put(out, to, n_to);
        i = end + n_from;
    }
}

struct piece_edit { struct buf *out; const char *s; const struct decode_step *d; };

static int piece_span(void *ctx, int64_t from, int64_t to, bool match)
{
    struct piece_edit *x = ctx;
    if (match) buf_put(x->out, x->d->to, x->d->n_to);
    else buf_put(x->out, x->s + from, to - from);
    return PEFT_OK;
}

static int piece_expr(struct buf *out, const struct decode_step *d, const char *s, int64_t n)
{
    struct piece_edit x = {out, s, d};
    return expr_scan(&d->expr, s, n, piece_span, &x);
}

static bool same_start(const char *s, int64_t n, const char *with, int64_t n_with)
{
    return n >= n_with && memcmp(s, with, (size_t)n_with) == 0;
}

/* Joins what English spelling joins, as BERT's decoder does. */
static void wordpiece_cleanup(struct buf *out, const char *s, int64_t n)
{
    static const char *const rows[][2] = {
        {" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"},
        {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    struct buf a, b;
    buf_init(&a, out->mem);
    buf_init(&b, out->mem);
    buf_put(&a, s, n);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        buf_clear(&b);
        piece_replace(&b, rows[i][0], (int64_t)strlen(rows[i][0]), rows[i][1],
                      (int64_t)strlen(rows[i][1]), buf_str(&a), a.n);
        struct buf swap = a;
        a = b, b = swap;
    }
    buf_put(out, buf_str(&a), a.n);
    out->oom |= a.oom || b.oom;
    buf_free(&a);
    buf_free(&b);
}

static void piece_wordpiece(struct buf *out, const struct decode_step *d, bool first,
                            const char *s, int64_t n)
{
    struct buf word;
    buf_init(&word, out->mem);
    if (!first && same_start(s, n, d->from, d->n_from)) s += d->n_from, n -= d->n_from;
    else if (!first) buf_putc(&word, ' ');
    buf_put(&word, s, n);
    out->oom |= word.oom;
    if (d->cleanup && memchr(buf_str(&word), ' ', (size_t)word.n))
        wordpiece_cleanup(out, buf_str(&word), word.n);
    else buf_put(out, buf_str(&word), word.n);
    buf_free(&word);
}

static void piece_metaspace(struct buf *out, const struct decode_step *d, bool first,
                            const char *s, int64_t n)
{
    bool drop = first && d->prepend != PREPEND_NEVER;
    piece_replace(out, d->from, d->n_from, " ", drop ? 0 : 1, s, n);
}

static void piece_strip(struct buf *out, const struct decode_step *d, const char *s, int64_t n)
{
    for (int64_t k = 0; k < d->start && same_start(s, n, d->from, d->n_from); k++)
        s += d->n_from, n -= d->n_from;
    for (int64_t k = 0; k < d->stop && n >= d->n_from &&
                        same_start(s + n - d->n_from, d->n_from, d->from, d->n_from); k++)
        n -= d->n_from;
    buf_put(out, s, n);
}

/* The byte of "<0x41>", or -1. */
static int byte_token(const char *s, int64_t n)
{
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
    int value = 0;
    for (int i = 3; i < 5; i++) {
        char c = s[i];
        int digit = c >= '0' && c <= '9' ? c - '0'
                    : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* A run of byte tokens that is no UTF-8 becomes one U+FFFD for each. */
static void flush_bytes(struct texts *out, struct buf *run)
{
    if (run->n == 0) return;
    if (utf8_check(run->data, run->n) == run->n) {
        buf_put(&out->chars, run->data, run->n);
        texts_close(out);
    } else {
        for (int64_t i = 0; i < run->n; i++) {
            buf_puts(&out->chars, "\xef\xbf\xbd");
            texts_close(out);
        }
    }
    buf_clear(run);
}

static void decode_bytes_of(struct texts *out, const struct texts *in)
{
    struct buf run;
    buf_init(&run, out->chars.mem);
    for (int64_t i = 0; i < texts_count(in); i++) {
        int64_t n;
        const char *s = texts_at(in, i, &n);
        int byte = byte_token(s, n);
        if (byte >= 0) {
            buf_putc(&run, (char)byte);
            continue;
        }
        flush_bytes(out, &run);
        buf_put(&out->chars, s, n);
        texts_close(out);
    }
    flush_bytes(out, &run);
    out->chars.oom |= run.oom;
    buf_free(&run);
}

/* Connectionist temporal classification: repeated tokens count once, the
 * padding goes, a delimiter is a space. */
static void decode_ctc(struct texts *out, const struct decode_step *d, const struct texts *in)
{
    struct buf a, b;
    buf_init(&a, out->chars.mem);
    buf_init(&b, out->chars.mem);
    for (int64_t i = 0; i < texts_count(in); i++) {
        int64_t last = texts_end(in, i - 2), at = texts_end(in, i - 1), n = texts_end(in, i) - at;
        const char *s = in->chars.data + at;
        if (i > 0 && at - last == n && !memcmp(in->chars.data + last, s, (size_t)n)) continue;
        buf_clear(&a);
        piece_replace(&a, d->from, d->n_from, "", 0, s, n);
        if (d->cleanup) {
            buf_clear(&b);
            wordpiece_cleanup(&b, buf_str(&a), a.n);
            buf_clear(&a);
            piece_replace(&a, d->to, d->n_to, " ", 1, buf_str(&b), b.n);
        }
        if (a.n == 0) continue;
        buf_put(&out->chars, a.data, a.n);
        texts_close(out);
    }
    out->chars.oom |= a.oom || b.oom;
    buf_free(&a);
    buf_free(&b);
}

static int decode_apply(struct texts *out, const struct decode_step *d, const struct texts *in)
{
    int rc = PEFT_OK;
    if (d->kind == DECODE_BYTE_FALLBACK || d->kind == DECODE_CTC) {
        if (d->kind == DECODE_CTC) decode_ctc(out, d, in);
        else decode_bytes_of(out, in);
        return PEFT_OK;
    }
    struct buf bytes;
    buf_init(&bytes, out->chars.mem);
    for (int64_t i = 0; i < texts_count(in) && rc == PEFT_OK; i++) {
        int64_t n;
        const char *s = texts_at(in, i, &n);
        switch (d->kind) {
        case DECODE_BYTES: piece_bytes(&bytes, s, n); break;
        case DECODE_WORDPIECE: piece_wordpiece(&out->chars, d, i == 0, s, n); break;
        case DECODE_METASPACE: piece_metaspace(&out->chars, d, i == 0, s, n); break;
        case DECODE_STRIP: piece_strip(&out->chars, d, s, n); break;
        case DECODE_REPLACE:
            if (d->n_from == 0) rc = piece_expr(&out->chars, d, s, n);
            else piece_replace(&out->chars, d->from, d->n_from, d->to, d->n_to, s, n);
            break;
        case DECODE_SUFFIX:
            piece_replace(&out->chars, d->from, d->n_from, " ", i + 1 < texts_count(in), s, n);
            break;
        case DECODE_CTC: break;
        case DECODE_FUSE: case DECODE_BYTE_FALLBACK: buf_put(&out->chars, s, n); break;
        }
        if (d->kind != DECODE_BYTES && d->kind != DECODE_FUSE) texts_close(out);
    }
    if (d->kind == DECODE_BYTES) uni_append_lossy(&out->chars, buf_str(&bytes), bytes.n);
    if (d->kind == DECODE_BYTES || d->kind == DECODE_FUSE) texts_close(out);
    out->chars.oom |= bytes.oom;
    buf_free(&bytes);
    return rc;
}

/* The text that decoding starts from, NULL for no token.  Added tokens that are
 * looked for in normalized text also come back from it. */
static const char *decoded_text(const struct tokenizer *t, int32_t id, int64_t *n)
{
    if (id < 0 || id >= t->n) return NULL;
    const struct token *k = &t->tokens[id];
    *n = k->n;
    if (!(k->flags & TOKEN_NORMALIZED)) return k->s;
    const struct added *a = &t->added[map_get(&t->added_ids, k->s, k->n, 0)];
    *n = a->n_match;
    return a->match;
}

int tok_decode(const struct tokenizer *t, const int32_t *ids, int64_t n, int flags,
               struct buf *out)
{
    struct texts a, b;
    texts_init(&a, out->mem);
    texts_init(&b, out->mem);
    for (int64_t i = 0; i < n; i++) {
        int64_t size;
        const char *s = decoded_text(t, ids[i], &size);
        if (!s || ((flags & DETOK_SKIP) && tok_is_special(t, ids[i]))) continue;
        if (!t->has_decoder && texts_count(&a) > 0) buf_putc(&a.chars, ' ');
        buf_put(&a.chars, s, size);
        texts_close(&a);
    }
    bool oom = a.chars.oom || a.ends.oom;
    int rc = PEFT_OK;
    for (int i = 0; i < t->n_decode && !oom && rc == PEFT_OK; i++) {
        buf_clear(&b.chars);
        buf_clear(&b.ends);
        rc = decode_apply(&b, &t->decode[i], &a);
        oom = b.chars.oom || b.ends.oom;
        struct texts swap = a;
        a = b, b = swap;
    }
    if (!oom && rc == PEFT_OK) buf_put(out, buf_str(&a.chars), a.chars.n);
    texts_free(&a);
    texts_free(&b);
    if (rc < 0 && !oom) return rc;
    return oom ? fail(PEFT_ENOMEM, "out of memory for the text of %lld tokens", (long long)n)
               : buf_check(out);
}

int tok_piece(const struct tokenizer *t, int32_t id, struct buf *out)
{
    int64_t n;
    const char *s = decoded_text(t, id, &n);
    if (!s) return PEFT_OK;
    for (int i = 0; i < t->n_decode; i++) {
        const struct decode_step *d = &t->decode[i];
        if (d->kind == DECODE_BYTES) return piece_bytes(out, s, n), buf_check(out);
        if (d->kind == DECODE_WORDPIECE)
            return piece_wordpiece(out, d, false, s, n), buf_check(out);
        if (d->kind == DECODE_BYTE_FALLBACK && byte_token(s, n) >= 0)
            return buf_putc(out, (char)byte_token(s, n)), buf_check(out);
    }
    for (int i = 0; i < t->n_decode; i++) {
        const struct decode_step *d = &t->decode[i];
        if ((d->kind != DECODE_REPLACE || d->n_from == 0) && d->kind != DECODE_METASPACE) continue;
        bool meta = d->kind == DECODE_METASPACE;
        piece_replace(out, d->from, d->n_from, meta ? " " : d->to, meta ? 1 : d->n_to, s, n);
        return buf_check(out);
    }
    buf_put(out, s, n);
    return buf_check(out);
}
