/* The host's hooks, and paths. */
#include "base/file.h"
#include "base/pool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

/* The caller's structs may be older and shorter, or newer and longer. */
static void copy_sized(void *to, size_t n, const void *from, size_t from_size)
{
    memset(to, 0, n);
    memcpy(to, from, MIN(n, from_size));
    memcpy(to, &n, sizeof n);
}

static int check_io(const struct peft_io *io)
{
    if (!io->open || !io->length || !io->read || !io->write || !io->sync || !io->close ||
        !io->rename || !io->remove || !io->mkdir || !io->sync_dir || !io->kind || !io->list)
        return fail(PEFT_EARG, "peft_io: only map and unmap may be NULL");
    if (!io->map != !io->unmap)
        return fail(PEFT_EARG, "peft_io: map and unmap belong together");
    return PEFT_OK;
}

int host_init(struct host *h, const peft_load_opts *opts)
{
    peft_load_opts o = {.size = sizeof o};
    if (opts && opts->size < sizeof o.size)
        return fail(PEFT_EARG, "peft_load_opts: size is %lld, expected sizeof(peft_load_opts)",
                    (long long)opts->size);
    if (opts) copy_sized(&o, sizeof o, opts, opts->size);
    mem_init(&h->mem, o.alloc, o.alloc_ctx);
    h->log = o.log;
    h->log_ctx = o.log_ctx;
    h->io = (struct peft_io){.size = sizeof h->io};
    if (!o.io) return os_io_default(&h->io);
    if (o.io->size < sizeof h->io.size)
        return fail(PEFT_EARG, "peft_io: size is %lld, expected sizeof(peft_io)",
                    (long long)o.io->size);
    copy_sized(&h->io, sizeof h->io, o.io, o.io->size);
    return check_io(&h->io);
}

void host_log(const struct host *h, int level, const char *fmt, ...)
{
    if (!h->log) return;
    char line[1024];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (n < 0) return;
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
    h->log(h->log_ctx, level, line);
}

/* Not strerror: its text depends on the locale and the platform. */
static const struct { int err; const char *text; } reasons[] = {
    {ENOENT, "no such file or folder"},
    {EACCES, "permission denied"},
    {EPERM, "operation not permitted"},
    {ENOSPC, "no space left on device"},
    {EIO, "input/output error"},
    {EISDIR, "is a folder"},
    {ENOTDIR, "is not a folder"},
    {EEXIST, "exists already"},
    {ENOTEMPTY, "folder is not empty"},
    {EROFS, "file system is read-only"},
    {EMFILE, "too many open files"},
    {ENFILE, "too many open files in the system"},
    {EFBIG, "file is too large"},
    {ENAMETOOLONG, "name is too long"},
    {ENOMEM, "out of memory"},
    {EBUSY, "device or folder is busy"},
    {EXDEV, "lies on another file system"},
    {EINVAL, "invalid argument"},
    {ESPIPE, "is not a plain file"},
#ifdef EDQUOT
    {EDQUOT, "disk quota exceeded"},
#endif
#ifdef ELOOP
    {ELOOP, "too many symbolic links"},
#endif
};

int io_fail(int64_t err, const char *path, const char *what)
{
    int code = err == -ENOENT ? PEFT_ENOTFOUND : err == -ENOMEM ? PEFT_ENOMEM : PEFT_EIO;
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (reasons[i].err == -err)
            return fail(code, "%s: cannot %s: %s", path, what, reasons[i].text);
    return fail(code, "%s: cannot %s: error %lld", path, what, (long long)-err);
}

/* --- paths */

const char *path_base(const char *path)
{
    const char *base = path;
    for (const char *p = path; *p; p++)
        if (is_slash(*p)) base = p + 1;
    return base;
}

int path_kind(struct host *h, const char *path)
{
    int kind = h->io.kind(h->io.ctx, path);
    return kind > 0 ? kind : 0;
}

/* Refused on every system: a file must not mean another thing elsewhere. */
static bool name_is_safe(const char *name)
{
    if (name[0] == 0 || name[0] == '/' || name[0] == '\\') return false;
    if (name[1] == ':') return false;
    for (const char *p = name; *p;) {
        size_t n = strcspn(p, "/\\");
        if (n == 2 && p[0] == '.' && p[1] == '.') return false;
        p += n;
        if (*p) p++;
    }
    return true;
}

int path_join(struct host *h, const char *dir, const char *name, char **out)
{
    *out = NULL;
    if (!name_is_safe(name))
        return fail(PEFT_EFORMAT, "file name \"%s\": expected a relative one without \"..\"", name);
    size_t d = strlen(dir), n = strlen(name);
    bool slash = d > 0 && !is_slash(dir[d - 1]);
    char *path = mem_alloc(&h->mem, (int64_t)(d + n + 2));
    if (!path) return PEFT_ENOMEM;
    memcpy(path, dir, d);
    if (slash) path[d++] = '/';
    memcpy(path + d, name, n + 1);
    *out = path;
    return PEFT_OK;
}

char *path_parent(struct host *h, const char *path)
{
    const char *base = path_base(path);
    if (base == path) return mem_strdup(&h->mem, ".");
    int64_t n = base - path;
    while (n > 1 && is_slash(path[n - 1])) n--;
    return mem_strndup(&h->mem, path, n);
}

char *path_beside(struct host *h, const char *path, const char *kind)
{
    static _Atomic unsigned counter;
    char tail[64];
    snprintf(tail, sizeof tail, ".%s-%d-%u", kind, os_pid(), atomic_fetch_add(&counter, 1));
    size_t n = strlen(path), t = strlen(tail);
    char *beside = mem_alloc(&h->mem, (int64_t)(n + t + 1));
    if (!beside) return NULL;
    memcpy(beside, path, n);
    memcpy(beside + n, tail, t + 1);
    return beside;
}
