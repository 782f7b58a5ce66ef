/* Whole files as views, and large files line by line. */
#include "base/file.h"

#include <errno.h>

/* Reads exactly n bytes; a file that became shorter is a failure. */
static int read_exactly(struct host *h, void *file, const char *path, uint8_t *to, int64_t n)
{
    for (int64_t at = 0; at < n;) {
        int64_t got = h->io.read(h->io.ctx, file, at, to + at, n - at);
        if (got < 0) return io_fail(got, path, "read");
        if (got == 0 || got > n - at)
            return fail(PEFT_EIO, "%s: ends at byte %lld, expected %lld bytes", path,
                        (long long)at, (long long)n);
        at += got;
    }
    return PEFT_OK;
}

static int open_to_read(struct host *h, const char *path, void **file, int64_t *n)
{
    int32_t err = -EIO;
    *file = h->io.open(h->io.ctx, path, 0, &err);
    if (!*file) return io_fail(err, path, "open");
    *n = h->io.length(h->io.ctx, *file);
    if (*n >= 0) return PEFT_OK;
    h->io.close(h->io.ctx, *file);
    return io_fail(*n, path, "read");
}

int file_open_view(struct host *h, const char *path, bool map, struct file_view *out)
{
    *out = (struct file_view){0};
    void *file;
    int64_t n;
    int rc = open_to_read(h, path, &file, &n);
    if (rc < 0) return rc;
    mem_budget_more(&h->mem, n);
    if (map && h->io.map && n > 0) {
        const void *at = h->io.map(h->io.ctx, file, n);
        if (at) {
            *out = (struct file_view){at, n, true, file};
            return PEFT_OK;
        }
    }
    uint8_t *data = mem_alloc(&h->mem, n);
    rc = data ? read_exactly(h, file, path, data, n) : fail_in(PEFT_ENOMEM, "%s: ", path);
    h->io.close(h->io.ctx, file);
    if (rc < 0) {
        mem_free(&h->mem, data);
        return rc;
    }
    *out = (struct file_view){data, n, false, NULL};
    return PEFT_OK;
}

void file_close_view(struct host *h, struct file_view *v)
{
    if (v->mapped) {
        h->io.unmap(h->io.ctx, v->data, v->n);
        h->io.close(h->io.ctx, v->file);
    } else {
        mem_free(&h->mem, (void *)(uintptr_t)v->data);
    }
    *v = (struct file_view){0};
}

/* --- lines: data[start, end) is read but not yet given out; a line's end is
 * overwritten with the NUL, and one byte after `end` is kept for that. */

enum { LINE_FIRST = 64 * 1024, LINE_LIMIT = 16 * 1024 * 1024, WIDE_BLOCK = 4096 };
enum byte_order { ORDER_NONE, ORDER_LITTLE, ORDER_BIG };
struct line_reader {
    struct host *host;
    void *file;                   /* or NULL: */
    const char *text;             /* [length] in memory */
    char *path;
    char *data;
    int64_t cap, start, end;
    int64_t offset;               /* in the file, of what was not read yet */
    int64_t length, number;
    enum byte_order wide;         /* UTF-16, which becomes UTF-8 here */
    uint32_t high;                /* its first half of a pair, or 0 */
};

int line_open_text(struct host *h, const char *path, const char *text, int64_t n,
                   struct line_reader **out)
{
    *out = NULL;
    struct line_reader *r = mem_zalloc(&h->mem, sizeof *r);
    if (!r) return PEFT_ENOMEM;
    r->host = h;
    r->text = text;
    r->length = n;
    r->cap = LINE_FIRST;
    r->path = mem_strdup(&h->mem, path);
    r->data = mem_alloc(&h->mem, r->cap);
    int rc = r->path && r->data ? PEFT_OK : PEFT_ENOMEM;
    if (rc == PEFT_OK && !text) rc = open_to_read(h, path, &r->file, &r->length);
    if (rc < 0) {
        r->file = NULL;
        line_close(r);
        return rc;
    }
    *out = r;
    return PEFT_OK;
}

int line_open(struct host *h, const char *path, struct line_reader **out)
{
    return line_open_text(h, path, NULL, 0, out);
}

void line_close(struct line_reader *r)
{
    if (!r) return;
    struct host *h = r->host;
    if (r->file) h->io.close(h->io.ctx, r->file);
    mem_free(&h->mem, r->data);
    mem_free(&h->mem, r->path);
    mem_free(&h->mem, r);
}

static int line_long(const struct line_reader *r)
{
    return fail(PEFT_EFORMAT, "%s line %lld: longer than %d MiB", r->path,
                (long long)r->number + 1, LINE_LIMIT / (1024 * 1024));
}

/* Makes room for n bytes and a NUL, by moving the line's beginning to the front
 * or else by growing. */
static int line_room(struct line_reader *r, int64_t n)
{
    if (r->end + n < r->cap) return PEFT_OK;
    if (r->start > 0) {
        memmove(r->data, r->data + r->start, (size_t)(r->end - r->start));
        r->end -= r->start;
        r->start = 0;
        if (r->end + n < r->cap) return PEFT_OK;
    }
    if (r->end - r->start > LINE_LIMIT) return line_long(r);
    char *wider = mem_realloc(&r->host->mem, r->data, r->cap * 2);
    if (!wider) return fail_in(PEFT_ENOMEM, "%s line %lld: ", r->path, (long long)r->number + 1);
    r->data = wider;
    r->cap *= 2;
    return PEFT_OK;
}

/* At most n bytes of the file. */
static int64_t line_read(struct line_reader *r, void *to, int64_t n)
{
    struct peft_io *io = &r->host->io;
    int64_t want = MIN(n, r->length - r->offset);
    int64_t got = r->text ? want : io->read(io->ctx, r->file, r->offset, to, want);
    if (r->text) memcpy(to, r->text + r->offset, (size_t)want);
    if (got < 0) return io_fail(got, r->path, "read");
    if (got == 0 || got > want)
        return fail(PEFT_EIO, "%s: ends at byte %lld, expected %lld bytes", r->path,
                    (long long)r->offset, (long long)r->length);
    r->offset += got;
    return got;
}

static void put_char(struct line_reader *r, uint32_t c)
{
    int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t first[] = { 0, 0xc0, 0xe0, 0xf0 };
    r->data[r->end++] = (char)(first[more] | c >> 6 * more);
    while (more-- > 0) r->data[r->end++] = (char)(0x80 | (c >> 6 * more & 0x3f));
}

/* One block of UTF-16.  A half of a pair by itself is written as it is, which
 * is not valid UTF-8: whoever reads the line tells where. */
static int fill_wide(struct line_reader *r)
{
    uint8_t block[WIDE_BLOCK];
    int rc = line_room(r, WIDE_BLOCK * 3 / 2 + 6);
    int64_t n = 0, got;
    for (; rc == PEFT_OK && n < WIDE_BLOCK && r->offset < r->length; n += got)
        if ((got = line_read(r, block + n, WIDE_BLOCK - n)) < 0) return (int)got;
    if (rc < 0) return rc;
    if (n % 2)
        return fail(PEFT_EFORMAT, "%s: ends inside a character of UTF-16", r->path);
    for (int64_t i = 0; i < n; i += 2) {
        int upper = r->wide == ORDER_LITTLE;
        uint32_t c = block[i + upper] * 256u + block[i + !upper];
        bool low = c >= 0xdc00 && c <= 0xdfff;
        if (r->high && low) c = 0x10000 + ((r->high - 0xd800) << 10) + (c - 0xdc00);
        else if (r->high) put_char(r, r->high);
        r->high = c >= 0xd800 && c <= 0xdbff ? c : 0;
        if (!r->high) put_char(r, c);
    }
    if (r->offset == r->length && r->high) put_char(r, r->high);
    return 1;
}

/* The mark at a file's beginning says what the text is. */
static void take_mark(struct line_reader *r)
{
    if (r->end >= 3 && memcmp(r->data, "\xef\xbb\xbf", 3) == 0) r->start = 3;
    if (r->end < 2) return;
    if (memcmp(r->data, "\xff\xfe", 2) == 0) r->wide = ORDER_LITTLE;
    if (memcmp(r->data, "\xfe\xff", 2) == 0) r->wide = ORDER_BIG;
    if (r->wide) r->offset = 2, r->end = 0;
}

/* 1 = more bytes, 0 = end of file. */
static int line_fill(struct line_reader *r)
{
    if (r->offset == r->length) return 0;
    if (r->wide) return fill_wide(r);
    bool first = r->offset == 0;
    int rc = line_room(r, 1);
    do {
        int64_t got = rc < 0 ? rc : line_read(r, r->data + r->end, r->cap - r->end - 1);
        if (got < 0) return (int)got;
        r->end += got;
    } while (first && r->end < 3 && r->offset < r->length);
    if (first) take_mark(r);
    return r->wide ? line_fill(r) : 1;
}

int line_peek(struct line_reader *r, const char **at, int64_t *n)
{
    int rc = 1;
    while (rc > 0 && r->start == r->end) {
        r->start = r->end = 0;
        rc = line_fill(r);
    }
    *at = r->data + r->start;
    *n = r->end - r->start;
    return rc;
}

int64_t line_bytes(const struct line_reader *r)
{
    return r->offset;
}

void line_skip(struct line_reader *r, int64_t n)
{
    r->start += n;
}

int line_next(struct line_reader *r, char **line, int64_t *n, int64_t *number)
{
    int64_t seen = 0;             /* bytes of this line known to hold no LF */
    const char *at;
    char *lf = NULL;
    int rc = line_peek(r, &at, n);
    if (rc <= 0) return rc;
    for (;;) {
        int64_t have = r->end - r->start;
        if (have > seen)
            lf = memchr(r->data + r->start + seen, '\n', (size_t)(have - seen));
        if (lf) break;
        seen = have;
        rc = line_fill(r);
        if (rc < 0) return rc;
        if (rc == 0) break;
    }
    char *from = r->data + r->start;
    int64_t size = lf ? lf - from : r->end - r->start;
    r->start += size + (lf ? 1 : 0);
    if (lf && size > 0 && from[size - 1] == '\r') size--;
    if (size > LINE_LIMIT) return line_long(r);
    from[size] = 0;
    *line = from;
    *n = size;
    *number = ++r->number;
    return 1;
}
