/* Rows as text: what makes two of them the same, and what of them trains. */
#include "text/unicode.h"
#include "judge/rows.h"

#include "base/sha256.h"

int row_text_init(struct row_text *t, const peft_model *model, struct mem *mem)
{
    peft_info info;
    int rc = info_get(model, &info);
    *t = (struct row_text){ .model = model, .has_tokenizer = info.has_tokenizer };
    buf_init(&t->text, mem);
    return rc;
}

void row_text_free(struct row_text *t) { buf_free(&t->text); }

int row_decode(struct row_text *t, const int32_t *ids, int64_t n)
{
    buf_clear(&t->text);
    if (!t->has_tokenizer) {
        buf_put(&t->text, ids, n * (int64_t)sizeof(*ids));
        return buf_check(&t->text);
    }
    int64_t bytes = peft_detokenize(t->model, ids, n, 0, NULL, 0);
    if (bytes < 0) return kit_failed((int32_t)bytes);
    char *room = mem_alloc(t->text.mem, bytes + 1);
    if (!room) return PEFT_ENOMEM;
    bytes = peft_detokenize(t->model, ids, n, 0, room, bytes);
    if (bytes >= 0) buf_put(&t->text, room, bytes);
    mem_free(t->text.mem, room);
    return bytes < 0 ? kit_failed((int32_t)bytes) : buf_check(&t->text);
}

/* One space for any stretch of white space, none at the ends; in its place. */
static void fold(struct buf *b)
{
    int64_t to = 0;
    int32_t c;
    for (int64_t i = 0, n; i < b->n; i += n) {
        n = uni_next(b->data + i, &c);
        if (uni_space(c)) {
            if (to && b->data[to - 1] != ' ') b->data[to++] = ' ';
            continue;
        }
        memmove(b->data + to, b->data + i, (size_t)n);
        to += n;
    }
    b->n = to && b->data[to - 1] == ' ' ? to - 1 : to;
}

/* Pictures are equal when their files are, byte for byte. */
static int picture_key(struct row_text *t, const char *path)
{
    struct host h;
    char hex[SHA256_HEX];
    int rc = host_init(&h, NULL);
    if (!rc) rc = sha256_file(&h, path, hex);
    buf_clear(&t->text);
    buf_puts(&t->text, rc ? "" : hex);
    return rc ? rc : buf_check(&t->text) ? PEFT_ENOMEM : 1;
}

int row_key(struct row_text *t, const peft_dataset *data, int64_t i)
{
    peft_row r;
    int rc = row_get(data, i, &r);
    if (!rc && r.picture) return picture_key(t, r.picture);
    if (rc || !r.ids || r.n < 1) return rc;
    if ((rc = row_decode(t, r.ids, r.n))) return rc;
    /* What a tokenizer's bytes give need not be UTF-8: such text is compared as it is. */
    if (t->has_tokenizer && utf8_check(t->text.data, t->text.n) == t->text.n) fold(&t->text);
    return 1;
}

static void put_ids(struct buf *out, const int32_t *ids, int64_t n)
{
    for (int64_t k = 0; k < n; k++) buf_printf(out, "%s%d", k ? " " : "", (int)ids[k]);
}

/* The tokens from..to of a row.  A piece alone may lack the space before it, or half of a
 * character, so it is what the row's beginning grows by. */
static int put_piece(struct row_text *t, struct buf *out, const peft_row *r, int64_t from,
                     int64_t to)
{
    if (!t->has_tokenizer) {
        put_ids(out, r->ids + from, to - from);
        return PEFT_OK;
    }
    int rc = row_decode(t, r->ids, from);
    int64_t before = t->text.n;
    if (!rc) rc = row_decode(t, r->ids, to);
    if (!rc && t->text.n >= before) buf_put(out, t->text.data + before, t->text.n - before);
    return rc;
}

static int put_row(struct row_text *t, struct buf *out, const peft_dataset *data, int64_t i,
                   const char *const mark[2])
{
    peft_row r;
    int rc = row_get(data, i, &r);
    int64_t to;
    if (!rc && !r.ids) buf_puts(out, "(a picture)");
    for (int64_t k = 0; !rc && r.ids && k < r.n; k = to) {
        int on = r.labels && r.labels[k] >= 0;
        for (to = k + 1; to < r.n && on == (r.labels && r.labels[to] >= 0);) to++;
        if (!t->has_tokenizer && k) buf_putc(out, ' ');
        if (on) buf_puts(out, mark[0]);
        rc = put_piece(t, out, &r, k, to);
        if (on) buf_puts(out, mark[1]);
    }
    const char *label = !rc && !r.labels ? peft_dataset_label(data, r.label) : NULL;
    if (label) buf_printf(out, " => %s%s%s", mark[0], label, mark[1]);
    return rc ? rc : buf_check(out);
}

int64_t peft_judge_row(const peft_model *model, const peft_dataset *data, int64_t i,
                       const char *open, const char *close, char *text, int64_t cap)
{
    KIT_ARG(model && data, "no model or data set given");
    KIT_ARG(cap >= 0 && (text || !cap), "%lld bytes of room, but no place for them",
            (long long)cap);
    const char *const mark[2] = { open ? open : "[", close ? close : "]" };
    struct mem mem;
    struct row_text t;
    struct buf out;
    mem_init(&mem, NULL, NULL);
    buf_init(&out, &mem);
    int rc = row_text_init(&t, model, &mem);
    if (!rc) rc = put_row(&t, &out, data, i, mark);
    if (!rc && MIN(out.n, cap) > 0) memcpy(text, out.data, (size_t)MIN(out.n, cap));
    int64_t n = out.n;
    row_text_free(&t);
    buf_free(&out);
    return rc ? kit_end(rc) : n;
}
