/* Worker threads that claim tasks from a shared counter.
 *
 * `gate` is the number of workers inside a job, plus GATE_OPEN while the caller
 * still lets them in.  A worker that wakes too late finds the gate closed and
 * sleeps again, so the caller waits only for workers that took part. */
#include "base/pool.h"
#include "base/cpu.h"

#include <stdatomic.h>

enum { GATE_OPEN = 1 << 30 };
/* A thread that waits keeps its core for a while, then lends it to whoever wants it, and sleeps at
 * last: a core without work is given away by the host of a virtual machine, and comes back late. */
static const double spin_seconds = 20e-6, awake_seconds = 1e-3;

struct pool_worker {
    struct pool *pool;
    struct os_thread *thread;
    int index;
};

struct pool {
    struct host *host;
    int threads;                     /* workers, the caller counted */
    int pid;                         /* a forked child has no threads */
    bool awake;                      /* no more threads than cores: waiting awake costs nobody */
    pool_fn *fn;                     /* the job; written while the gate is shut */
    void *arg;
    int64_t tasks;
    _Atomic int64_t next;            /* first task not yet claimed */
    _Atomic int gate;
    _Atomic unsigned round;          /* jobs so far */
    _Atomic bool quit;
    struct os_mutex *mutex;
    struct os_cond *wake, *done;
    int asleep;                      /* workers in `wake`; under the mutex */
    struct pool_worker worker[POOL_MAX];
};

static void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void pool_work(struct pool *p, int worker)
{
    for (;;) {
        int64_t task = atomic_fetch_add(&p->next, 1);
        if (task >= p->tasks) return;
        p->fn(p->arg, task, worker);
    }
}

static bool job_is_new(struct pool *p, unsigned seen)
{
    return atomic_load(&p->round) != seen || atomic_load(&p->quit);
}

static bool all_have_left(struct pool *p, unsigned seen)
{
    (void)seen;
    return atomic_load(&p->gate) == 0;
}

/* Whether what is waited for came before it is time to sleep. */
static bool wait_awake(struct pool *p, bool (*came)(struct pool *, unsigned), unsigned seen)
{
    double begin = p->awake ? os_seconds() : 0, waited = 0;
    while (p->awake && waited < awake_seconds) {
        for (int i = 0; i < 64; i++) {
            if (came(p, seen)) return true;
            pause_cpu();
        }
        waited = os_seconds() - begin;
        if (waited > spin_seconds) os_yield();
    }
    return false;
}

static void wait_for_job(struct pool *p, unsigned seen)
{
    if (wait_awake(p, job_is_new, seen)) return;
    os_lock(p->mutex);
    p->asleep++;
    while (!job_is_new(p, seen)) os_cond_wait(p->wake, p->mutex);
    p->asleep--;
    os_unlock(p->mutex);
}

static bool gate_enter(struct pool *p)
{
    int gate = atomic_load(&p->gate);
    while (gate & GATE_OPEN)
        if (atomic_compare_exchange_weak(&p->gate, &gate, gate + 1)) return true;
    return false;
}

static void gate_leave(struct pool *p)
{
    if (atomic_fetch_sub(&p->gate, 1) != 1) return;
    os_lock(p->mutex);
    os_cond_broadcast(p->done);
    os_unlock(p->mutex);
}

static void *worker_main(void *arg)
{
    struct pool_worker *w = arg;
    struct pool *p = w->pool;
    struct fp_mode fp = fp_enter();
    unsigned seen = 0;
    for (;;) {
        wait_for_job(p, seen);
        if (atomic_load(&p->quit)) break;
        seen = atomic_load(&p->round);
        if (!gate_enter(p)) continue;
        pool_work(p, w->index);
        gate_leave(p);
    }
    fp_leave(fp);
    return NULL;
}

static void stop_threads(struct pool *p)
{
    if (p->threads == 1) return;
    os_lock(p->mutex);
    atomic_store(&p->quit, true);
    os_cond_broadcast(p->wake);
    os_unlock(p->mutex);
    for (int i = 1; i < p->threads; i++) os_thread_join(p->worker[i].thread);
}

int pool_new(struct host *h, int threads, struct pool **out)
{
    *out = NULL;
    int cores = os_cores();
    if (threads <= 0) threads = cores;
    threads = MIN(threads, POOL_MAX);
    struct pool *p = mem_zalloc(&h->mem, sizeof *p);
    if (!p) return PEFT_ENOMEM;
    p->host = h;
    p->threads = 1;
    p->pid = os_pid();
    p->awake = threads <= cores;
    int rc = os_mutex_new(h, &p->mutex);
    if (rc >= 0) rc = os_cond_new(h, &p->wake);
    if (rc >= 0) rc = os_cond_new(h, &p->done);
    if (rc < 0) {
        pool_free(p);
        return rc;
    }
    /* A thread that cannot be had makes the pool smaller, not unusable. */
    for (int i = 1; i < threads; i++) {
        struct pool_worker *w = &p->worker[i];
        w->pool = p;
        w->index = i;
        if (os_thread_start(h, worker_main, w, &w->thread) < 0) {
            host_log(h, LOG_WARN, "%d of %d threads could be started", i, threads);
            break;
        }
        p->threads++;
    }
    *out = p;
    return PEFT_OK;
}

void pool_free(struct pool *p)
{
    if (!p) return;
    struct host *h = p->host;
    /* A forked child has no threads to join, and what they held or waited for
     * when the process was copied cannot be destroyed. */
    if (p->pid == os_pid()) {
        stop_threads(p);
        os_cond_free(p->done);
        os_cond_free(p->wake);
        os_mutex_free(p->mutex);
    }
    mem_free(&h->mem, p);
}

int pool_threads(const struct pool *p)
{
    return p->threads;
}

/* Waits until the last worker has left the closed gate. */
static void wait_for_workers(struct pool *p)
{
    if (atomic_fetch_and(&p->gate, ~GATE_OPEN) == GATE_OPEN) return;
    if (wait_awake(p, all_have_left, 0)) return;
    os_lock(p->mutex);
    while (!all_have_left(p, 0)) os_cond_wait(p->done, p->mutex);
    os_unlock(p->mutex);
}

void pool_run(struct pool *p, int64_t tasks, pool_fn *fn, void *arg)
{
    if (tasks <= 1 || p->threads == 1 || p->pid != os_pid()) {
        for (int64_t i = 0; i < tasks; i++) fn(arg, i, 0);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    p->tasks = tasks;
    atomic_store(&p->next, 0);
    atomic_store(&p->gate, GATE_OPEN);
    atomic_fetch_add(&p->round, 1);
    os_lock(p->mutex);
    if (p->asleep > 0) os_cond_broadcast(p->wake);
    os_unlock(p->mutex);
    pool_work(p, 0);
    wait_for_workers(p);
}
