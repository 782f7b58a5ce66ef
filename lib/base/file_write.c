/* Files and folders that appear whole or not at all: everything is written
 * under a temporary name beside the target, synced, and renamed over it.  A
 * failed fsync is never repeated, since the kernel may have dropped the data
 * and would report success. */
#include "base/file.h"

#include <errno.h>

enum { WRITER_BUFFER = 256 * 1024 };
struct writer {
    struct host *host;
    void *file;
    char *path, *tmp, *parent;
    uint8_t *data;
    int64_t used, at;
    int64_t err;                  /* the first negative errno value, or 0 */
    const char *what;             /* what was tried then */
};

static void writer_free(struct writer *w)
{
    struct mem *m = &w->host->mem;
    mem_free(m, w->data);
    mem_free(m, w->parent);
    mem_free(m, w->tmp);
    mem_free(m, w->path);
    mem_free(m, w);
}

int writer_open(struct host *h, const char *path, struct writer **out)
{
    *out = NULL;
    struct writer *w = mem_zalloc(&h->mem, sizeof *w);
    if (!w) return PEFT_ENOMEM;
    w->host = h;
    w->path = mem_strdup(&h->mem, path);
    w->tmp = path_beside(h, path, "tmp");
    w->parent = path_parent(h, path);
    w->data = mem_alloc(&h->mem, WRITER_BUFFER);
    int rc = PEFT_ENOMEM;
    if (w->path && w->tmp && w->parent && w->data) {
        int32_t err = -EIO;
        w->file = h->io.open(h->io.ctx, w->tmp, 1, &err);
        if (w->file) {
            *out = w;
            return PEFT_OK;
        }
        rc = io_fail(err, path, "create");
    }
    writer_free(w);
    return rc;
}

static void writer_sticky(struct writer *w, int64_t err, const char *what)
{
    if (w->err || err >= 0) return;
    w->err = err;
    w->what = what;
}

static void write_through(struct writer *w, const uint8_t *from, int64_t n)
{
    struct peft_io *io = &w->host->io;
    while (n > 0 && !w->err) {
        int64_t put = io->write(io->ctx, w->file, from, n);
        if (put <= 0 || put > n) {
            writer_sticky(w, put < 0 ? put : -EIO, "write");
            return;
        }
        from += put;
        n -= put;
    }
}

void writer_put(struct writer *w, const void *data, int64_t n)
{
    const uint8_t *from = data;
    w->at += n;
    while (n > 0 && !w->err) {
        if (w->used == 0 && n >= WRITER_BUFFER) {
            write_through(w, from, n);
            return;
        }
        int64_t part = MIN(n, WRITER_BUFFER - w->used);
        memcpy(w->data + w->used, from, (size_t)part);
        w->used += part;
        from += part;
        n -= part;
        if (w->used == WRITER_BUFFER) {
            write_through(w, w->data, w->used);
            w->used = 0;
        }
    }
}

int64_t writer_at(const struct writer *w)
{
    return w->at;
}

int writer_finish(struct writer *w)
{
    struct peft_io *io = &w->host->io;
    if (w->file) {
        write_through(w, w->data, w->used);
        if (!w->err) writer_sticky(w, io->sync(io->ctx, w->file), "sync");
        writer_sticky(w, io->close(io->ctx, w->file), "close");
        w->file = NULL;
    }
    return w->err ? io_fail(w->err, w->path, w->what) : PEFT_OK;
}

int writer_commit(struct writer *w)
{
    struct peft_io *io = &w->host->io;
    writer_finish(w);
    if (!w->err) writer_sticky(w, io->rename(io->ctx, w->tmp, w->path), "replace");
    if (w->err) io->remove(io->ctx, w->tmp);
    else writer_sticky(w, io->sync_dir(io->ctx, w->parent), "sync the folder of");
    int rc = w->err ? io_fail(w->err, w->path, w->what) : PEFT_OK;
    writer_free(w);
    return rc;
}

void writer_abort(struct writer *w)
{
    if (!w) return;
    struct peft_io *io = &w->host->io;
    if (w->file) io->close(io->ctx, w->file);
    io->remove(io->ctx, w->tmp);
    writer_free(w);
}

int file_write(struct host *h, const char *path, const void *data, int64_t n)
{
    struct writer *w;
    int rc = writer_open(h, path, &w);
    if (rc < 0) return rc;
    writer_put(w, data, n);
    return writer_commit(w);
}

/* --- folders */

enum { TREE_DEPTH = 16, TREE_PATH = 4096, TREE_NAME = 1024 };
struct tree {
    size_t n;
    char path[TREE_PATH];
};

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int32_t take_first(void *arg, const char *name)
{
    char *first = arg;
    size_t n = strlen(name);
    if (is_dots(name) || n >= TREE_NAME) return 0;
    memcpy(first, name, n + 1);
    return 1;
}

/* Removes what t->path names, entry by entry, without asking for memory: this
 * is also how a failure for want of memory cleans up.  A plain remove comes
 * first, so a symbolic link to a folder is removed and not followed. */
static bool remove_entry(struct host *h, struct tree *t, int depth)
{
    struct peft_io *io = &h->io;
    if (io->remove(io->ctx, t->path) >= 0) return true;
    if (depth == TREE_DEPTH) return false;
    for (;;) {
        char first[TREE_NAME] = "";
        if (io->list(io->ctx, t->path, take_first, first) < 0) return false;
        size_t n = t->n, add = strlen(first);
        if (add == 0 || n + 1 + add >= TREE_PATH) break;
        t->path[n] = '/';
        memcpy(t->path + n + 1, first, add + 1);
        t->n = n + 1 + add;
        bool gone = remove_entry(h, t, depth + 1);
        t->n = n;
        t->path[n] = 0;
        if (!gone) return false;
    }
    return io->remove(io->ctx, t->path) >= 0;
}

static void remove_tree(struct host *h, const char *path)
{
    struct tree t = {.n = strlen(path)};
    if (t.n >= TREE_PATH) return;
    memcpy(t.path, path, t.n + 1);
    remove_entry(h, &t, 0);
}

/* "dir/" names the same folder as "dir". */
static char *without_slash(struct host *h, const char *path)
{
    int64_t n = (int64_t)strlen(path);
    while (n > 1 && is_slash(path[n - 1])) n--;
    return mem_strndup(&h->mem, path, n);
}

int dir_begin(struct host *h, const char *path, char **tmp)
{
    *tmp = NULL;
    if (path_kind(h, path) == 1)
        return fail(PEFT_EIO, "%s: is a file, expected a folder or nothing", path);
    char *plain = without_slash(h, path);
    if (!plain) return PEFT_ENOMEM;
    char *name = path_beside(h, plain, "tmp");
    mem_free(&h->mem, plain);
    if (!name) return PEFT_ENOMEM;
    int rc = h->io.mkdir(h->io.ctx, name);
    if (rc < 0) {
        mem_free(&h->mem, name);
        return io_fail(rc, path, "create");
    }
    *tmp = name;
    return PEFT_OK;
}

struct common {
    struct host *host;
    const char *tmp;
    bool empty, found;
    int rc;
};

static int32_t look_for(void *arg, const char *name)
{
    struct common *c = arg;
    if (is_dots(name)) return 0;
    c->empty = false;
    char *same;
    c->rc = path_join(c->host, c->tmp, name, &same);
    if (c->rc == PEFT_EFORMAT) c->rc = PEFT_OK;
    c->found = same && path_kind(c->host, same) != 0;
    mem_free(&c->host->mem, same);
    return c->found || c->rc < 0;
}

/* What was saved here before has names in common with what is saved now; a
 * folder that has none is someone else's and must not be deleted. */
static int check_replaceable(struct host *h, const char *path, const char *tmp)
{
    struct common c = {.host = h, .tmp = tmp, .empty = true};
    int rc = h->io.list(h->io.ctx, path, look_for, &c);
    if (rc < 0) return io_fail(rc, path, "list");
    if (c.rc < 0 || c.empty || c.found) return c.rc;
    return fail(PEFT_EIO, "%s: holds other files, expected an earlier save, an empty folder "
                "or nothing", path);
}

/* Between the first two renames neither name is there; the old folder is then
 * found beside, under its ".old" name. */
static int replace_dir(struct host *h, const char *path, const char *tmp, const char *parent)
{
    struct peft_io *io = &h->io;
    int rc = check_replaceable(h, path, tmp);
    if (rc < 0) return rc;
    char *old = path_beside(h, path, "old");
    if (!old) return PEFT_ENOMEM;
    int32_t err = io->rename(io->ctx, path, old);
    if (err >= 0) {
        err = io->rename(io->ctx, tmp, path);
        if (err >= 0) {
            err = io->sync_dir(io->ctx, parent);
            if (err < 0) io->rename(io->ctx, path, tmp);
        }
        if (err < 0) io->rename(io->ctx, old, path);
    }
    if (err >= 0) remove_tree(h, old);
    mem_free(&h->mem, old);
    return err < 0 ? io_fail(err, path, "replace") : PEFT_OK;
}

static int put_dir(struct host *h, const char *path, const char *tmp, const char *parent)
{
    struct peft_io *io = &h->io;
    int kind = path_kind(h, path);
    if (kind == 1) return fail(PEFT_EIO, "%s: is a file, expected a folder or nothing", path);
    int32_t err = io->sync_dir(io->ctx, tmp);
    if (err < 0) return io_fail(err, path, "sync");
    if (kind == 2) return replace_dir(h, path, tmp, parent);
    err = io->rename(io->ctx, tmp, path);
    if (err < 0) return io_fail(err, path, "create");
    err = io->sync_dir(io->ctx, parent);
    if (err >= 0) return PEFT_OK;
    io->rename(io->ctx, path, tmp);
    return io_fail(err, path, "sync the folder of");
}

int dir_commit(struct host *h, const char *path, char *tmp)
{
    char *plain = without_slash(h, path);
    char *parent = plain ? path_parent(h, plain) : NULL;
    int rc = parent ? put_dir(h, plain, tmp, parent) : PEFT_ENOMEM;
    mem_free(&h->mem, parent);
    mem_free(&h->mem, plain);
    if (rc >= 0) mem_free(&h->mem, tmp);
    else dir_abort(h, tmp);
    return rc;
}

void dir_abort(struct host *h, char *tmp)
{
    if (!tmp) return;
    remove_tree(h, tmp);
    mem_free(&h->mem, tmp);
}
