/* Threads.  A job is split into tasks by its shape alone, never by the number
 * of threads, so results have the same bits for any number. */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include "host.h"

enum { POOL_MAX = 32 };  /* OpenBLAS is safe with that many callers */
struct pool;
typedef void pool_fn(void *arg, int64_t task, int worker);
int pool_new(struct host *h, int threads, struct pool **out);
void pool_free(struct pool *p);
int pool_threads(const struct pool *p);
/* Runs fn(arg, 0..tasks-1, worker) and returns when all are done.  The caller
 * is worker 0 and takes part.  Not reentrant.  Idle threads sleep after a millisecond. */
void pool_run(struct pool *p, int64_t tasks, pool_fn *fn, void *arg);

/* --- operating system (posix.c, windows.c) */
struct os_mutex;
int os_pid(void);
int os_cores(void);                    /* usable: affinity, cgroup quota */
int os_cores_at(const char *root);     /* Linux: with /proc and /sys in that folder */
int64_t os_memory_total(void), os_memory_available(void), os_rss(void);
/* Of what is resident what files do not hold, and the most that ever was; 0 = not known. */
int64_t os_rss_private(void), os_rss_peak(void);
struct date {
    int year, month, day;               /* month and day from 1 */
    int hour, minute, second;
    int week_day, year_day;             /* 0 = Sunday; from 1 */
};
void os_date(struct date *out);         /* local time */
double os_seconds(void);               /* monotonic */
void os_cpu_name(char *out, size_t cap);
int os_allow_amx(void);                /* 1 = this process's threads may use its registers */
int os_io_default(peft_io *out);
/* A file to write and read by the functions of os_io_default, which is gone when it is closed or
 * the process ends, however it does; NULL = failure. */
void *os_temp(const char *path, int32_t *err);
/* Takes pages that os_io_default mapped out of memory; touching them reads them again. */
void os_forget(const void *at, int64_t n);
/* Memory that will be used as a whole and again and again: fewer, larger pages if it can be. */
void os_large_pages(void *at, int64_t n);
/* Whole pages, resized as realloc does (p NULL: new ones) and given back with n = 0. */
void *os_pages(void *p, size_t old, size_t n);
struct os_thread;
int os_thread_start(struct host *h, void *(*fn)(void *), void *arg, struct os_thread **out);
void os_thread_join(struct os_thread *t);
void os_yield(void);                   /* the core to another thread that is ready, if any is */
int os_mutex_new(struct host *h, struct os_mutex **out);
void os_mutex_free(struct os_mutex *m);
void os_lock(struct os_mutex *m), os_unlock(struct os_mutex *m);
struct os_cond;
int os_cond_new(struct host *h, struct os_cond **out);
void os_cond_free(struct os_cond *c);
void os_cond_wait(struct os_cond *c, struct os_mutex *m);
void os_cond_broadcast(struct os_cond *c);
/* Shared libraries, for BLAS. */
void *os_dlopen(const char *path), *os_dlsym(void *lib, const char *name);
void os_dlclose(void *lib);
/* Folder of the library or program this code lies in; "" when unknown. */
void os_self_dir(char *out, size_t cap);

#endif
