/* What the host gives a model: memory, files, a log.  Everything that needs
 * one of these takes a `struct host *`. */
#ifndef BASE_HOST_H
#define BASE_HOST_H

#include "base.h"

struct host {
    struct mem mem;
    struct peft_io io;
    void (*log)(void *ctx, int32_t level, const char *line);
    void *log_ctx;
};
/* From options (NULL = defaults). */
int host_init(struct host *h, const peft_load_opts *opts);
enum { LOG_WARN = 1, LOG_INFO = 2 };
void host_log(const struct host *h, int level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* --- reading */
struct file_view {
    const uint8_t *data;
    int64_t n;
    bool mapped;
    void *file;                       /* kept open while mapped, else NULL */
};
int file_open_view(struct host *h, const char *path, bool map, struct file_view *out);
void file_close_view(struct host *h, struct file_view *v);
/* Streams lines: for data files larger than memory. */
struct line_reader;
int line_open(struct host *h, const char *path, struct line_reader **out);
/* Of n bytes in memory, whose name `path` is; NULL = of the file. */
int line_open_text(struct host *h, const char *path, const char *text, int64_t n,
                   struct line_reader **out);
/* 1 = a line (without its end, NUL-terminated), 0 = end of file, < 0 failure.
 * A byte order mark at the start and a CR before LF are dropped; what the mark
 * says is UTF-16 becomes UTF-8. */
int line_next(struct line_reader *r, char **line, int64_t *n, int64_t *number);
/* The same file as blocks: bytes that were read and not given out, of which
 * there are some unless the file ends (0), and giving out n of them. */
int line_peek(struct line_reader *r, const char **at, int64_t *n);
void line_skip(struct line_reader *r, int64_t n);
int64_t line_bytes(const struct line_reader *r);       /* read of the file so far */
void line_close(struct line_reader *r);
int path_kind(struct host *h, const char *path);       /* 0, 1 file, 2 folder */
/* dir + "/" + name into an allocated string.  A name from a file that is
 * absolute or has ".." is PEFT_EFORMAT. */
int path_join(struct host *h, const char *dir, const char *name, char **out);
const char *path_base(const char *path);               /* after the last '/' */
/* "path: cannot read: no space left on device" for a negative errno value.
 * PEFT_ENOTFOUND for ENOENT, PEFT_ENOMEM for ENOMEM, else PEFT_EIO. */
int io_fail(int64_t err, const char *path, const char *what);
/* path + "." + kind + a number no other writer of this machine uses; allocated. */
char *path_beside(struct host *h, const char *path, const char *kind);

/* --- writing: a temporary name, fsync, rename, fsync of the folder */
struct writer;                        /* errors are sticky until commit */
int writer_open(struct host *h, const char *path, struct writer **out);
void writer_put(struct writer *w, const void *data, int64_t n);   /* buffered */
int64_t writer_at(const struct writer *w);             /* bytes so far */
int writer_finish(struct writer *w);  /* all is on the disk, under the temporary name */
int writer_commit(struct writer *w);  /* frees w; on failure the old file stays */
void writer_abort(struct writer *w);                   /* NULL allowed */
int file_write(struct host *h, const char *path, const void *data, int64_t n);

/* A folder that appears whole or not at all: write files into *tmp, commit
 * renames it to `path` (an older folder there is replaced) . */
int dir_begin(struct host *h, const char *path, char **tmp);
int dir_commit(struct host *h, const char *path, char *tmp);      /* frees tmp */
void dir_abort(struct host *h, char *tmp);                        /* frees tmp */

#endif
