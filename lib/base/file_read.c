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

enum { LINE_FIRST = 64 * 1024, LINE_LIMIT = 256 * 1024 * 1024 };
struct line_reader {
    struct host *host;
    void *file;
    char *path;
    char *data;
    int64_t cap, start, end;
    int64_t offset;               /* of data[end] in the file */
    int64_t length, number;
};

int line_open(struct host *h, const char *path, struct line_reader **out)
{
    *out = NULL;
    struct line_reader *r = mem_zalloc(&h->mem, sizeof *r);
    if (!r) return PEFT_ENOMEM;
    r->host = h;
    r->cap = LINE_FIRST;
    r->path = mem_strdup(&h->mem, path);
    r->data = mem_alloc(&h->mem, r->cap);
    int rc = r->path && r->data ? open_to_read(h, path, &r->file, &r->length) : PEFT_ENOMEM;
    if (rc < 0) {
        r->file = NULL;
        line_close(r);
        return rc;
    }
    *out = r;
    return PEFT_OK;
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

/* Makes room for a byte at least, by moving the line's beginning to the front
 * or else by growing. */
static int line_room(struct line_reader *r)
{
    if (r->end + 1 < r->cap) return PEFT_OK;
    if (r->start > 0) {
        memmove(r->data, r->data + r->start, (size_t)(r->end - r->start));
        r->end -= r->start;
        r->start = 0;
        return PEFT_OK;
    }
    if (r->cap >= LINE_LIMIT)
        return fail(PEFT_EFORMAT, "%s line %lld: longer than %d MiB", r->path,
                    (long long)r->number + 1, LINE_LIMIT / (1024 * 1024));
    char *wider = mem_realloc(&r->host->mem, r->data, r->cap * 2);
    if (!wider) return fail_in(PEFT_ENOMEM, "%s line %lld: ", r->path, (long long)r->number + 1);
    r->data = wider;
    r->cap *= 2;
    return PEFT_OK;
}

/* 1 = more bytes, 0 = end of file. */
static int line_fill(struct line_reader *r)
{
    if (r->offset == r->length) return 0;
    int rc = line_room(r);
    if (rc < 0) return rc;
    struct peft_io *io = &r->host->io;
    int64_t want = MIN(r->cap - r->end - 1, r->length - r->offset);
    int64_t got = io->read(io->ctx, r->file, r->offset, r->data + r->end, want);
    if (got < 0) return io_fail(got, r->path, "read");
    if (got == 0 || got > want)
        return fail(PEFT_EIO, "%s: ends at byte %lld, expected %lld bytes", r->path,
                    (long long)r->offset, (long long)r->length);
    bool mark_possible = r->offset < 3;
    r->end += got;
    r->offset += got;
    if (mark_possible && r->offset >= 3 && memcmp(r->data, "\xef\xbb\xbf", 3) == 0) r->start = 3;
    return 1;
}

int line_next(struct line_reader *r, char **line, int64_t *n, int64_t *number)
{
    int64_t seen = 0;             /* bytes of this line known to hold no LF */
    char *lf = NULL;
    while (r->offset < 3 && r->offset < r->length) {
        int rc = line_fill(r);
        if (rc < 0) return rc;
    }
    for (;;) {
        int64_t have = r->end - r->start;
        if (have > seen)
            lf = memchr(r->data + r->start + seen, '\n', (size_t)(have - seen));
        if (lf) break;
        seen = have;
        int rc = line_fill(r);
        if (rc < 0) return rc;
        if (rc == 0) break;
    }
    char *from = r->data + r->start;
    int64_t size = lf ? lf - from : r->end - r->start;
    if (!lf && size == 0) return 0;
    r->start += size + (lf ? 1 : 0);
    if (lf && size > 0 && from[size - 1] == '\r') size--;
    from[size] = 0;
    *line = from;
    *n = size;
    *number = ++r->number;
    return 1;
}
