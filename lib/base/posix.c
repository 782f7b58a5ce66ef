/* POSIX: files, threads, shared libraries.  posix_info.c tells about the
 * machine. */
#ifndef _WIN32

#include "base/pool.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* --- files: the handle is the descriptor plus one, so that 0 is not NULL */

static int fd_of(void *file)
{
    return (int)(intptr_t)file - 1;
}

static void *posix_open(void *ctx, const char *path, int32_t write, int32_t *err)
{
    (void)ctx;
    int flags = write ? O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW : O_RDONLY;
    int fd;
    do fd = open(path, flags | O_CLOEXEC, 0644);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        *err = -errno;
        return NULL;
    }
    return (void *)(intptr_t)(fd + 1);
}

/* Between the two calls the file is empty. */
void *os_temp(const char *path, int32_t *err)
{
    int fd;
    do fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    while (fd < 0 && errno == EINTR);
    if (fd >= 0 && unlink(path) == 0) return (void *)(intptr_t)(fd + 1);
    *err = -errno;
    if (fd >= 0) close(fd);
    return NULL;
}

static int64_t posix_length(void *ctx, void *file)
{
    (void)ctx;
    struct stat st;
    if (fstat(fd_of(file), &st) < 0) return -errno;
    if (S_ISDIR(st.st_mode)) return -EISDIR;
    if (!S_ISREG(st.st_mode)) return -ESPIPE;
    return st.st_size;
}

/* Systems refuse single transfers beyond 2 GiB. */
enum { TRANSFER = 1 << 30 };

static int64_t posix_read(void *ctx, void *file, int64_t offset, void *to, int64_t n)
{
    (void)ctx;
    int64_t at = 0;
    while (at < n) {
        ssize_t got = pread(fd_of(file), (char *)to + at, (size_t)MIN(n - at, TRANSFER),
                            (off_t)(offset + at));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -errno;
        if (got == 0) break;
        at += got;
    }
    return at;
}

static int64_t posix_write(void *ctx, void *file, const void *from, int64_t n)
{
    (void)ctx;
    int64_t at = 0;
    while (at < n) {
        ssize_t put = write(fd_of(file), (const char *)from + at, (size_t)MIN(n - at, TRANSFER));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return -errno;
        if (put == 0) return -EIO;
        at += put;
    }
    return at;
}

static int32_t posix_sync(void *ctx, void *file)
{
    (void)ctx;
#ifdef F_FULLFSYNC
    if (fcntl(fd_of(file), F_FULLFSYNC) == 0) return 0;
#endif
    return fsync(fd_of(file)) < 0 ? -errno : 0;
}

static int32_t posix_close(void *ctx, void *file)
{
    (void)ctx;
    return close(fd_of(file)) < 0 && errno != EINTR ? -errno : 0;
}

static const void *posix_map(void *ctx, void *file, int64_t n)
{
    (void)ctx;
    if (n <= 0 || (uint64_t)n > SIZE_MAX) return NULL;
    void *at = mmap(NULL, (size_t)n, PROT_READ, MAP_PRIVATE, fd_of(file), 0);
    return at == MAP_FAILED ? NULL : at;
}

static void posix_unmap(void *ctx, const void *at, int64_t n)
{
    (void)ctx;
    munmap((void *)(uintptr_t)at, (size_t)n);
}

/* Of the whole pages of [at, at + n). */
static void advise(const void *at, int64_t n, int what)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)at;
    uintptr_t first = (begin + page - 1) / page * page, end = (begin + (uintptr_t)n) / page * page;
    if (first < end) madvise((void *)first, end - first, what);
}

void os_forget(const void *at, int64_t n)
{
    advise(at, n, MADV_DONTNEED);
}

void os_large_pages(void *at, int64_t n)
{
#ifdef MADV_HUGEPAGE
    advise(at, n, MADV_HUGEPAGE);
#else
    (void)at, (void)n;
#endif
}

void *os_pages(void *p, size_t old, size_t n)
{
#ifdef __linux__
    if (p && n) {
        void *moved = mremap(p, old, n, MREMAP_MAYMOVE);
        return moved == MAP_FAILED ? NULL : moved;
    }
#endif
    void *to = NULL;
    if (n) {
        to = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
        if (to == MAP_FAILED) return NULL;
        if (p) memcpy(to, p, MIN(old, n));
    }
    if (p) munmap(p, old);
    return to;
}

static int32_t posix_rename(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    return rename(from, to) < 0 ? -errno : 0;
}

static int32_t posix_remove(void *ctx, const char *path)
{
    (void)ctx;
    if (unlink(path) == 0) return 0;
    if (errno != EISDIR && errno != EPERM) return -errno;
    return rmdir(path) < 0 ? -errno : 0;
}

static int32_t posix_mkdir(void *ctx, const char *path)
{
    (void)ctx;
    return mkdir(path, 0777) < 0 ? -errno : 0;
}

/* Some file systems cannot sync a folder and say EINVAL. */
static int32_t posix_sync_dir(void *ctx, const char *path)
{
    (void)ctx;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int rc = fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
    close(fd);
    return rc;
}

static int32_t posix_kind(void *ctx, const char *path)
{
    (void)ctx;
    struct stat st;
    if (stat(path, &st) < 0) return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    return S_ISDIR(st.st_mode) ? 2 : 1;
}

static int32_t posix_list(void *ctx, const char *path,
                          int32_t (*each)(void *arg, const char *name), void *arg)
{
    (void)ctx;
    DIR *dir = opendir(path);
    if (!dir) return -errno;
    int32_t rc = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            rc = -errno;
            break;
        }
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
        if (each(arg, name)) break;
    }
    closedir(dir);
    return rc;
}

int os_io_default(peft_io *out)
{
    const peft_io io = {
        .open = posix_open, .length = posix_length, .read = posix_read, .write = posix_write,
        .sync = posix_sync, .close = posix_close, .map = posix_map, .unmap = posix_unmap,
        .rename = posix_rename, .remove = posix_remove, .mkdir = posix_mkdir,
        .sync_dir = posix_sync_dir, .kind = posix_kind, .list = posix_list,
    };
    size_t size = out->size;
    if (size < sizeof size)
        return fail(PEFT_EARG, "peft_io: size is %lld, expected sizeof(peft_io)",
                    (long long)size);
    memcpy(out, &io, MIN(size, sizeof io));
    out->size = size;
    return PEFT_OK;
}

/* --- threads */

struct os_thread {
    pthread_t id;
    struct host *host;
};
struct os_mutex {
    pthread_mutex_t m;
    struct host *host;
};
struct os_cond {
    pthread_cond_t c;
    struct host *host;
};

/* The C libraries' defaults range from 128 KiB to 8 MiB. */
enum { STACK = 2 * 1024 * 1024 };

/* The thread is born with all signals blocked: they belong to the host. */
static int start_blocked(pthread_t *id, void *(*fn)(void *), void *arg)
{
    pthread_attr_t attr;
    sigset_t all, old;
    int err = pthread_attr_init(&attr);
    if (err) return err;
    pthread_attr_setstacksize(&attr, STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    err = pthread_create(id, &attr, fn, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return err;
}

int os_thread_start(struct host *h, void *(*fn)(void *), void *arg, struct os_thread **out)
{
    *out = NULL;
    struct os_thread *t = mem_zalloc(&h->mem, sizeof *t);
    if (!t) return PEFT_ENOMEM;
    t->host = h;
    int err = start_blocked(&t->id, fn, arg);
    if (err) {
        mem_free(&h->mem, t);
        return fail(PEFT_ENOMEM, "a thread cannot be started: error %d", err);
    }
    *out = t;
    return PEFT_OK;
}

void os_thread_join(struct os_thread *t)
{
    if (!t) return;
    pthread_join(t->id, NULL);
    mem_free(&t->host->mem, t);
}

void os_yield(void) { sched_yield(); }

int os_mutex_new(struct host *h, struct os_mutex **out)
{
    struct os_mutex *m = mem_zalloc(&h->mem, sizeof *m);
    *out = m;
    if (!m) return PEFT_ENOMEM;
    m->host = h;
    pthread_mutex_init(&m->m, NULL);
    return PEFT_OK;
}

void os_mutex_free(struct os_mutex *m)
{
    if (!m) return;
    pthread_mutex_destroy(&m->m);
    mem_free(&m->host->mem, m);
}

void os_lock(struct os_mutex *m)
{
    pthread_mutex_lock(&m->m);
}

void os_unlock(struct os_mutex *m)
{
    pthread_mutex_unlock(&m->m);
}

int os_cond_new(struct host *h, struct os_cond **out)
{
    struct os_cond *c = mem_zalloc(&h->mem, sizeof *c);
    *out = c;
    if (!c) return PEFT_ENOMEM;
    c->host = h;
    pthread_cond_init(&c->c, NULL);
    return PEFT_OK;
}

void os_cond_free(struct os_cond *c)
{
    if (!c) return;
    pthread_cond_destroy(&c->c);
    mem_free(&c->host->mem, c);
}

void os_cond_wait(struct os_cond *c, struct os_mutex *m)
{
    pthread_cond_wait(&c->c, &m->m);
}

void os_cond_broadcast(struct os_cond *c)
{
    pthread_cond_broadcast(&c->c);
}

/* --- shared libraries */

void *os_dlopen(const char *path)
{
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

void *os_dlsym(void *lib, const char *name)
{
    return dlsym(lib, name);
}

void os_dlclose(void *lib)
{
    if (lib) dlclose(lib);
}

void os_self_dir(char *out, size_t cap)
{
    static const char here;
    Dl_info info;
    char path[PATH_MAX];
    if (cap == 0) return;
    out[0] = 0;
    if (!dladdr(&here, &info) || !info.dli_fname) return;
    const char *name = strchr(info.dli_fname, '/') ? realpath(info.dli_fname, path) : NULL;
#ifdef __linux__
    if (!name) {
        ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
        path[MAX(n, 0)] = 0;
        name = path;
    }
#endif
    const char *slash = name ? strrchr(name, '/') : NULL;
    if (!slash || (size_t)(slash - name) >= cap) return;
    memcpy(out, name, (size_t)(slash - name));
    out[slash - name] = 0;
}

#else
typedef int posix_is_empty;
#endif
