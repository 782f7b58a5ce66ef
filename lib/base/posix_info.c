/* POSIX: what the machine has, and what of it this process may use.  In a
 * container the cgroup's limits count, not the machine's. */
#ifndef _WIN32

#include "base/pool.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#include <time.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

int os_pid(void)
{
    return (int)getpid();
}

double os_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void os_date(struct date *out)
{
    time_t now = time(NULL);
    struct tm t = {.tm_mday = 1, .tm_year = 70};
    localtime_r(&now, &t);
    *out = (struct date){t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour,
                         t.tm_min, t.tm_sec, t.tm_wday, t.tm_yday + 1};
}

#ifdef __linux__

/* The start of a small file of the kernel; false when there is none. */
static bool slurp(const char *path, char *text, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, cap - 1);
    close(fd);
    text[MAX(n, 0)] = 0;
    return n > 0;
}

/* The number after `key` ("" = the first); -1 when there is none ("max"). */
static int64_t number_after(const char *text, const char *key)
{
    const char *p = strstr(text, key);
    if (!p) return -1;
    p += strlen(key);
    while (*p == ' ' || *p == '\t' || *p == ':') p++;
    return *p >= '0' && *p <= '9' ? strtoll(p, NULL, 10) : -1;
}

/* Whether a comma-separated list holds the word: "cpu,cpuacct" has "cpu". */
static bool list_has(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; *p;) {
        size_t part = strcspn(p, ",");
        if (part == n && memcmp(p, word, n) == 0) return true;
        p += part;
        if (*p) p++;
    }
    return false;
}

static bool slurp_in(const char *dir, const char *name, char *text, size_t cap)
{
    char path[1200];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    return n > 0 && (size_t)n < sizeof path && slurp(path, text, cap);
}

/* This process's cgroup as a file name: `controller` NULL = version 2.  Lines
 * are "id:controllers:/path"; version 2 is "0::/path".  `root` is "" but in tests. */
static bool cgroup_path(const char *root, const char *controller, char *out, size_t cap)
{
    char text[4096];
    if (!slurp_in(root, "proc/self/cgroup", text, sizeof text)) return false;
    for (char *line = text, *end; *line; line = end) {
        end = line + strcspn(line, "\n");
        if (*end) *end++ = 0;
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        names++;
        bool here = controller ? list_has(names, controller) : names[0] == 0;
        if (!here) continue;
        int n = snprintf(out, cap, "%s/sys/fs/cgroup%s%s%s", root, controller ? "/" : "",
                         controller ? controller : "", path);
        return n > 0 && (size_t)n < cap;
    }
    return false;
}

/* Walks from the process's cgroup up to the root and gives each folder to
 * `visit`; limits of all ancestors apply.  Inside a container the path may
 * not exist, and the root is then the container's own. */
static void cgroup_walk(const char *root, const char *controller,
                        void (*visit)(const char *dir, void *arg), void *arg)
{
    char dir[1024];
    if (!cgroup_path(root, controller, dir, sizeof dir)) return;
    size_t top = strlen(root) + strlen("/sys/fs/cgroup");
    if (controller) top += 1 + strlen(controller);
    for (;;) {
        size_t n = strlen(dir);
        while (n > top && dir[n - 1] == '/') dir[--n] = 0;
        visit(dir, arg);
        if (n <= top) return;
        while (n > top && dir[n - 1] != '/') n--;
        dir[n] = 0;
    }
}

static void limit_cores(int *cores, int64_t quota, int64_t period)
{
    if (quota <= 0 || period <= 0) return;
    int64_t usable = MAX(div_up(quota, period), 1);
    if (usable < *cores) *cores = (int)usable;
}

static void cores_v2(const char *dir, void *arg)
{
    char text[128];
    if (!slurp_in(dir, "cpu.max", text, sizeof text)) return;
    const char *space = strchr(text, ' ');
    limit_cores(arg, number_after(text, ""), space ? number_after(space, " ") : 100000);
}

static void cores_v1(const char *dir, void *arg)
{
    char quota[64], period[64];
    if (slurp_in(dir, "cpu.cfs_quota_us", quota, sizeof quota) &&
        slurp_in(dir, "cpu.cfs_period_us", period, sizeof period))
        limit_cores(arg, number_after(quota, ""), number_after(period, ""));
}

int os_cores_at(const char *root)
{
    cpu_set_t set;
    int cores = 0;
    if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
    if (cores < 1) cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    cores = MAX(cores, 1);
    cgroup_walk(root, NULL, cores_v2, &cores);
    cgroup_walk(root, "cpu", cores_v1, &cores);
    return cores;
}

int os_cores(void)
{
    return os_cores_at("");
}

/* Linux gives the 8 KB of a thread's tiles (state component 18) only to processes
 * that ask (Documentation/arch/x86/xstate.rst); asking again changes nothing. */
int os_allow_amx(void)
{
#if defined(__x86_64__) && defined(SYS_arch_prctl)
    enum { REQUEST = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#else
    return 0;
#endif
}

struct memory { int64_t total, available; };

/* Pages of files that were read once can be taken back, so they count as
 * available. */
static void limit_memory(struct memory *m, int64_t limit, int64_t used, int64_t cached)
{
    if (limit <= 0) return;
    m->total = MIN(m->total, limit);
    if (used < 0) return;
    used -= MIN(used, MAX(cached, 0));
    m->available = MIN(m->available, MAX(limit - used, 0));
}

static void memory_v2(const char *dir, void *arg)
{
    char limit[64], used[64], stat[4096] = "";
    if (!slurp_in(dir, "memory.max", limit, sizeof limit) ||
        !slurp_in(dir, "memory.current", used, sizeof used)) return;
    slurp_in(dir, "memory.stat", stat, sizeof stat);
    limit_memory(arg, number_after(limit, ""), number_after(used, ""),
                 number_after(stat, "\ninactive_file "));
}

static void memory_v1(const char *dir, void *arg)
{
    char limit[64], used[64], stat[4096] = "";
    if (!slurp_in(dir, "memory.limit_in_bytes", limit, sizeof limit) ||
        !slurp_in(dir, "memory.usage_in_bytes", used, sizeof used)) return;
    slurp_in(dir, "memory.stat", stat, sizeof stat);
    limit_memory(arg, number_after(limit, ""), number_after(used, ""),
                 number_after(stat, "\ntotal_inactive_file "));
}

static struct memory memory_now(void)
{
    char text[2048];
    struct memory m = {0, 0};
    if (slurp("/proc/meminfo", text, sizeof text)) {
        m.total = MAX(number_after(text, "MemTotal:"), 0) * 1024;
        m.available = MAX(number_after(text, "MemAvailable:"), 0) * 1024;
    }
    if (m.total == 0) {
        m.total = (int64_t)sysconf(_SC_PHYS_PAGES) * (int64_t)sysconf(_SC_PAGESIZE);
        m.available = m.total;
    }
    cgroup_walk("", NULL, memory_v2, &m);
    cgroup_walk("", "memory", memory_v1, &m);
    return m;
}

int64_t os_memory_total(void)
{
    return memory_now().total;
}

int64_t os_memory_available(void)
{
    return memory_now().available;
}

int64_t os_rss(void)
{
    char text[128];
    if (!slurp("/proc/self/statm", text, sizeof text)) return 0;
    const char *space = strchr(text, ' ');
    return space ? MAX(number_after(space, " "), 0) * (int64_t)sysconf(_SC_PAGESIZE) : 0;
}

/* A line of /proc/self/status, in bytes. */
static int64_t status_bytes(const char *key)
{
    char text[4096];
    return slurp("/proc/self/status", text, sizeof text)
               ? MAX(number_after(text, key), 0) * 1024 : 0;
}

int64_t os_rss_private(void) { return status_bytes("\nRssAnon:"); }

int64_t os_rss_peak(void) { return status_bytes("\nVmHWM:"); }

#else /* macOS, BSD */

int64_t os_rss_private(void) { return 0; }

int64_t os_rss_peak(void) { return 0; }

int os_allow_amx(void) { return 0; }

int os_cores(void)
{
    return MAX((int)sysconf(_SC_NPROCESSORS_ONLN), 1);
}

int64_t os_memory_total(void)
{
#ifdef __APPLE__
    int64_t bytes = 0;
    size_t n = sizeof bytes;
    if (sysctlbyname("hw.memsize", &bytes, &n, NULL, 0) == 0) return bytes;
#endif
#ifdef _SC_PHYS_PAGES
    return (int64_t)sysconf(_SC_PHYS_PAGES) * (int64_t)sysconf(_SC_PAGESIZE);
#else
    return 0;
#endif
}

int64_t os_memory_available(void)
{
    return os_memory_total();
}

/* The largest so far: there is no portable way to ask for the present one. */
int64_t os_rss(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) < 0) return 0;
#ifdef __APPLE__
    return (int64_t)u.ru_maxrss;
#else
    return (int64_t)u.ru_maxrss * 1024;
#endif
}

#endif
#else
typedef int posix_info_is_empty;
#endif
