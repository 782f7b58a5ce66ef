/* Everything is on the disk under temporary names before the first one is renamed; what
 * stood there waits aside until all are in place. */
#include "prep/files.h"

static char *joined(struct host *h, const char *a, const char *b, const char *c)
{
    struct buf text;
    buf_init(&text, &h->mem);
    buf_printf(&text, "%s%s%s", a, b, c);
    char *s = buf_check(&text) ? NULL : mem_strdup(&h->mem, text.data);
    buf_free(&text);
    return s;
}

static void files_free(struct files *f)
{
    for (int i = 0; i < f->n; i++) mem_free(&f->host->mem, f->path[i]);
    mem_free(&f->host->mem, f->dir);
    *f = (struct files){.host = f->host};
}

void files_abort(struct files *f)
{
    struct peft_io *io = &f->host->io;
    for (int i = 0; i < f->n; i++) writer_abort(f->to[i]);
    if (f->made) io->remove(io->ctx, f->dir);
    files_free(f);
}

static int open_one(struct files *f, const char *out, const char *between, const char *name,
                    bool overwrite)
{
    char *path = joined(f->host, out, between, name);
    if (!path) return PEFT_ENOMEM;
    f->path[f->n++] = path;
    if (!overwrite && path_kind(f->host, path))
        return fail(PEFT_ESTATE, "%s exists already", path);
    return writer_open(f->host, path, &f->to[f->n - 1]);
}

int files_open(struct files *f, struct host *h, const char *out, const char *const *names, int n,
               bool overwrite)
{
    *f = (struct files){.host = h};
    size_t len = strlen(out);
    bool prefix = len && strchr("-_.", out[len - 1]) && path_kind(h, out) != 2;
    bool slash = len && strchr("/\\", out[len - 1]);
    int rc = len ? PEFT_OK : fail(PEFT_EARG, "no name to write to, expected a folder");
    if (!rc && !prefix && !path_kind(h, out)) {
        int32_t err = h->io.mkdir(h->io.ctx, out);
        if (err < 0) rc = fail(PEFT_EIO, "%s: the folder cannot be made", out);
        else if (!(f->dir = mem_strdup(&h->mem, out))) rc = PEFT_ENOMEM;
        if (err >= 0 && rc) h->io.remove(h->io.ctx, out);
        f->made = !rc;
    }
    for (int i = 0; i < n && !rc; i++)
        rc = open_one(f, out, prefix || slash ? "" : "/", names[i], overwrite);
    if (rc) files_abort(f);
    return rc;
}

static void rename_back(struct files *f, char *const *old, int done)
{
    struct peft_io *io = &f->host->io;
    for (int i = 0; i < done; i++) io->remove(io->ctx, f->path[i]);
    for (int i = 0; i < f->n; i++)
        if (old[i]) io->rename(io->ctx, old[i], f->path[i]);
}

/* What stands at the path goes aside. */
static int set_aside(struct files *f, int i, char **old)
{
    struct peft_io *io = &f->host->io;
    if (!path_kind(f->host, f->path[i])) return PEFT_OK;
    char *name = path_beside(f->host, f->path[i], "old");
    if (!name) return PEFT_ENOMEM;
    if (io->rename(io->ctx, f->path[i], name) >= 0) {
        *old = name;
        return PEFT_OK;
    }
    mem_free(&f->host->mem, name);
    return fail(PEFT_EIO, "%s: cannot be replaced", f->path[i]);
}

int files_commit(struct files *f)
{
    struct peft_io *io = &f->host->io;
    char *old[FILES_MAX] = {NULL};
    int rc = PEFT_OK, done = 0;
    for (int i = 0; i < f->n && !rc; i++) rc = writer_finish(f->to[i]);
    for (int i = 0; i < f->n && !rc; i++) rc = set_aside(f, i, &old[i]);
    for (int i = 0; i < f->n && !rc; i++) {
        rc = writer_commit(f->to[i]);
        f->to[i] = NULL;
        done = i + 1;
    }
    if (rc) rename_back(f, old, done);
    for (int i = 0; i < f->n; i++) {
        if (old[i] && !rc) io->remove(io->ctx, old[i]);
        mem_free(&f->host->mem, old[i]);
    }
    if (rc) files_abort(f);
    else files_free(f);
    return rc;
}
