/* Windows: files, threads, shared libraries, and what the machine has.  Paths
 * are UTF-8 and become UTF-16 here. */
#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#include "base/pool.h"

#include <errno.h>
#include <windows.h>
#include <psapi.h>

/* --- files */

static int errno_of(DWORD e)
{
    switch (e) {
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND: return -ENOENT;
    case ERROR_ACCESS_DENIED:
    case ERROR_SHARING_VIOLATION: return -EACCES;
    case ERROR_DISK_FULL:
    case ERROR_HANDLE_DISK_FULL: return -ENOSPC;
    case ERROR_ALREADY_EXISTS:
    case ERROR_FILE_EXISTS: return -EEXIST;
    case ERROR_DIR_NOT_EMPTY: return -ENOTEMPTY;
    case ERROR_NOT_ENOUGH_MEMORY:
    case ERROR_OUTOFMEMORY: return -ENOMEM;
    case ERROR_INVALID_NAME:
    case ERROR_INVALID_PARAMETER: return -EINVAL;
    case ERROR_NOT_SAME_DEVICE: return -EXDEV;
    default: return -EIO;
    }
}

static int last_error(void)
{
    return errno_of(GetLastError());
}

enum { WIDE_CAP = 4096 };

static bool widen(const char *path, wchar_t out[WIDE_CAP])
{
    return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, out, WIDE_CAP) > 0;
}

static void *win_open(void *ctx, const char *path, int32_t write, int32_t *err)
{
    (void)ctx;
    wchar_t wide[WIDE_CAP];
    if (!widen(path, wide)) {
        *err = -EINVAL;
        return NULL;
    }
    HANDLE file = CreateFileW(wide, write ? GENERIC_WRITE : GENERIC_READ,
                              write ? 0 : FILE_SHARE_READ | FILE_SHARE_DELETE, NULL,
                              write ? CREATE_ALWAYS : OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file != INVALID_HANDLE_VALUE) return file;
    *err = last_error();
    return NULL;
}

void *os_temp(const char *path, int32_t *err)
{
    wchar_t wide[WIDE_CAP];
    HANDLE file = INVALID_HANDLE_VALUE;
    *err = -EINVAL;
    if (!widen(path, wide)) return NULL;
    file = CreateFileW(wide, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_DELETE, NULL, CREATE_ALWAYS,
                       FILE_ATTRIBUTE_TEMPORARY | FILE_FLAG_DELETE_ON_CLOSE, NULL);
    if (file != INVALID_HANDLE_VALUE) return file;
    *err = last_error();
    return NULL;
}

static int64_t win_length(void *ctx, void *file)
{
    (void)ctx;
    LARGE_INTEGER n;
    return GetFileSizeEx(file, &n) ? (int64_t)n.QuadPart : last_error();
}

enum { TRANSFER = 1 << 30 };

static int64_t win_read(void *ctx, void *file, int64_t offset, void *to, int64_t n)
{
    (void)ctx;
    int64_t at = 0;
    while (at < n) {
        uint64_t from = (uint64_t)(offset + at);
        OVERLAPPED where = {.Offset = (DWORD)from, .OffsetHigh = (DWORD)(from >> 32)};
        DWORD got = 0;
        if (!ReadFile(file, (char *)to + at, (DWORD)MIN(n - at, TRANSFER), &got, &where)) {
            if (GetLastError() == ERROR_HANDLE_EOF) break;
            return last_error();
        }
        if (got == 0) break;
        at += got;
    }
    return at;
}

static int64_t win_write(void *ctx, void *file, const void *from, int64_t n)
{
    (void)ctx;
    int64_t at = 0;
    while (at < n) {
        DWORD put = 0;
        if (!WriteFile(file, (const char *)from + at, (DWORD)MIN(n - at, TRANSFER), &put, NULL))
            return last_error();
        if (put == 0) return -EIO;
        at += put;
    }
    return at;
}

static int32_t win_sync(void *ctx, void *file)
{
    (void)ctx;
    return FlushFileBuffers(file) ? 0 : last_error();
}

static int32_t win_close(void *ctx, void *file)
{
    (void)ctx;
    return CloseHandle(file) ? 0 : last_error();
}

static const void *win_map(void *ctx, void *file, int64_t n)
{
    (void)ctx;
    if (n <= 0 || (uint64_t)n > SIZE_MAX) return NULL;
    HANDLE mapping = CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL);
    if (!mapping) return NULL;
    const void *at = MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, (SIZE_T)n);
    CloseHandle(mapping);
    return at;
}

static void win_unmap(void *ctx, const void *at, int64_t n)
{
    (void)ctx, (void)n;
    UnmapViewOfFile(at);
}

/* Windows takes pages of views by itself when memory is short. */
void os_forget(const void *at, int64_t n)
{
    (void)at, (void)n;
}

/* Large pages are a privilege there. */
void os_large_pages(void *at, int64_t n)
{
    (void)at, (void)n;
}

void *os_pages(void *p, size_t old, size_t n)
{
    void *to = n ? VirtualAlloc(NULL, n, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE) : NULL;
    if (to && p) memcpy(to, p, MIN(old, n));
    if (p && (to || !n)) VirtualFree(p, 0, MEM_RELEASE);
    return to;
}

static int32_t win_rename(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    wchar_t a[WIDE_CAP], b[WIDE_CAP];
    if (!widen(from, a) || !widen(to, b)) return -EINVAL;
    DWORD flags = MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH;
    return MoveFileExW(a, b, flags) ? 0 : last_error();
}

static int32_t win_remove(void *ctx, const char *path)
{
    (void)ctx;
    wchar_t wide[WIDE_CAP];
    if (!widen(path, wide)) return -EINVAL;
    return DeleteFileW(wide) || RemoveDirectoryW(wide) ? 0 : last_error();
}

static int32_t win_mkdir(void *ctx, const char *path)
{
    (void)ctx;
    wchar_t wide[WIDE_CAP];
    if (!widen(path, wide)) return -EINVAL;
    return CreateDirectoryW(wide, NULL) ? 0 : last_error();
}

/* Renames are written through; a folder cannot be flushed. */
static int32_t win_sync_dir(void *ctx, const char *path)
{
    (void)ctx, (void)path;
    return 0;
}

static int32_t win_kind(void *ctx, const char *path)
{
    (void)ctx;
    wchar_t wide[WIDE_CAP];
    if (!widen(path, wide)) return -EINVAL;
    DWORD attributes = GetFileAttributesW(wide);
    if (attributes != INVALID_FILE_ATTRIBUTES)
        return attributes & FILE_ATTRIBUTE_DIRECTORY ? 2 : 1;
    int err = last_error();
    return err == -ENOENT ? 0 : err;
}

static int32_t win_list(void *ctx, const char *path,
                        int32_t (*each)(void *arg, const char *name), void *arg)
{
    (void)ctx;
    wchar_t wide[WIDE_CAP + 2];
    char name[MAX_PATH * 4];
    if (!widen(path, wide)) return -EINVAL;
    size_t n = wcslen(wide);
    memcpy(wide + n, L"\\*", 3 * sizeof *wide);
    WIN32_FIND_DATAW entry;
    HANDLE find = FindFirstFileW(wide, &entry);
    if (find == INVALID_HANDLE_VALUE) return last_error();
    do {
        int size = WideCharToMultiByte(CP_UTF8, 0, entry.cFileName, -1, name, sizeof name, NULL,
                                       NULL);
        if (size == 0) continue;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
        if (each(arg, name)) break;
    } while (FindNextFileW(find, &entry));
    FindClose(find);
    return 0;
}

int os_io_default(peft_io *out)
{
    const peft_io io = {
        .open = win_open, .length = win_length, .read = win_read, .write = win_write,
        .sync = win_sync, .close = win_close, .map = win_map, .unmap = win_unmap,
        .rename = win_rename, .remove = win_remove, .mkdir = win_mkdir,
        .sync_dir = win_sync_dir, .kind = win_kind, .list = win_list,
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
    HANDLE handle;
    void *(*fn)(void *);
    void *arg;
    struct host *host;
};
struct os_mutex {
    SRWLOCK lock;
    struct host *host;
};
struct os_cond {
    CONDITION_VARIABLE c;
    struct host *host;
};

static DWORD WINAPI thread_main(void *arg)
{
    struct os_thread *t = arg;
    t->fn(t->arg);
    return 0;
}

int os_thread_start(struct host *h, void *(*fn)(void *), void *arg, struct os_thread **out)
{
    *out = NULL;
    struct os_thread *t = mem_zalloc(&h->mem, sizeof *t);
    if (!t) return PEFT_ENOMEM;
    t->host = h;
    t->fn = fn;
    t->arg = arg;
    t->handle = CreateThread(NULL, 2 * 1024 * 1024, thread_main, t, 0, NULL);
    if (!t->handle) {
        DWORD e = GetLastError();
        mem_free(&h->mem, t);
        return fail(PEFT_ENOMEM, "a thread cannot be started: error %lu", (unsigned long)e);
    }
    *out = t;
    return PEFT_OK;
}

void os_thread_join(struct os_thread *t)
{
    if (!t) return;
    WaitForSingleObject(t->handle, INFINITE);
    CloseHandle(t->handle);
    mem_free(&t->host->mem, t);
}

void os_yield(void) { SwitchToThread(); }

int os_mutex_new(struct host *h, struct os_mutex **out)
{
    struct os_mutex *m = mem_zalloc(&h->mem, sizeof *m);
    *out = m;
    if (!m) return PEFT_ENOMEM;
    m->host = h;
    InitializeSRWLock(&m->lock);
    return PEFT_OK;
}

void os_mutex_free(struct os_mutex *m)
{
    if (m) mem_free(&m->host->mem, m);
}

void os_lock(struct os_mutex *m)
{
    AcquireSRWLockExclusive(&m->lock);
}

void os_unlock(struct os_mutex *m)
{
    ReleaseSRWLockExclusive(&m->lock);
}

int os_cond_new(struct host *h, struct os_cond **out)
{
    struct os_cond *c = mem_zalloc(&h->mem, sizeof *c);
    *out = c;
    if (!c) return PEFT_ENOMEM;
    c->host = h;
    InitializeConditionVariable(&c->c);
    return PEFT_OK;
}

void os_cond_free(struct os_cond *c)
{
    if (c) mem_free(&c->host->mem, c);
}

void os_cond_wait(struct os_cond *c, struct os_mutex *m)
{
    SleepConditionVariableSRW(&c->c, &m->lock, INFINITE, 0);
}

void os_cond_broadcast(struct os_cond *c)
{
    WakeAllConditionVariable(&c->c);
}

/* --- the machine */

int os_pid(void)
{
    return (int)GetCurrentProcessId();
}

/* Windows keeps them for whoever asks by EnableProcessOptionalXStateFeatures. */
int os_allow_amx(void) { return 0; }

int os_cores(void)
{
    DWORD_PTR mine, all;
    int cores = 0;
    if (GetProcessAffinityMask(GetCurrentProcess(), &mine, &all))
        for (; mine; mine &= mine - 1) cores++;
    return MAX(cores, 1);
}

static MEMORYSTATUSEX memory_now(void)
{
    MEMORYSTATUSEX m = {.dwLength = sizeof m};
    GlobalMemoryStatusEx(&m);
    return m;
}

int64_t os_memory_total(void)
{
    return (int64_t)memory_now().ullTotalPhys;
}

int64_t os_memory_available(void)
{
    return (int64_t)memory_now().ullAvailPhys;
}

int64_t os_rss(void)
{
    PROCESS_MEMORY_COUNTERS c;
    if (!GetProcessMemoryInfo(GetCurrentProcess(), &c, sizeof c)) return 0;
    return (int64_t)c.WorkingSetSize;
}

int64_t os_rss_private(void) { return 0; }

int64_t os_rss_peak(void) { return 0; }

void os_date(struct date *out)
{
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    SYSTEMTIME t;
    GetLocalTime(&t);
    bool leap = t.wYear % 4 == 0 && (t.wYear % 100 != 0 || t.wYear % 400 == 0);
    *out = (struct date){t.wYear, t.wMonth, t.wDay, t.wHour, t.wMinute, t.wSecond, t.wDayOfWeek,
                         before[t.wMonth - 1] + t.wDay + (leap && t.wMonth > 2)};
}

double os_seconds(void)
{
    LARGE_INTEGER ticks, frequency;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&frequency);
    return (double)ticks.QuadPart / (double)frequency.QuadPart;
}

/* --- shared libraries */

void *os_dlopen(const char *path)
{
    wchar_t wide[WIDE_CAP];
    return widen(path, wide) ? (void *)LoadLibraryW(wide) : NULL;
}

void *os_dlsym(void *lib, const char *name)
{
    return (void *)(uintptr_t)GetProcAddress(lib, name);
}

void os_dlclose(void *lib)
{
    if (lib) FreeLibrary(lib);
}

void os_self_dir(char *out, size_t cap)
{
    static const char here;
    HMODULE module;
    wchar_t wide[WIDE_CAP];
    char path[WIDE_CAP];
    DWORD flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS |
                  GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
    if (cap == 0) return;
    out[0] = 0;
    if (!GetModuleHandleExW(flags, (const wchar_t *)(const void *)&here, &module)) return;
    DWORD got = GetModuleFileNameW(module, wide, WIDE_CAP);
    if (got == 0 || got == WIDE_CAP) return;
    if (!WideCharToMultiByte(CP_UTF8, 0, wide, -1, path, sizeof path, NULL, NULL)) return;
    const char *slash = strrchr(path, '\\');
    if (!slash || (size_t)(slash - path) >= cap) return;
    memcpy(out, path, (size_t)(slash - path));
    out[slash - path] = 0;
}

#else
typedef int windows_is_empty;
#endif
