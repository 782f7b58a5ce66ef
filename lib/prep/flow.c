/* A ring of batches.  The caller's thread reads rows into free ones and takes finished ones
 * in their order; all threads, its own too when it has nothing else to do, work on those
 * in between.
 *
 *   place  taken ............ next .............. read
 *          finished or at work | read, not begun  | free
 */
#include "prep/flow.h"

#include <stdio.h>

enum { BATCH_BYTES = 256 << 10, BATCH_ROWS = 1024, RING_MAX = 2 * POOL_MAX + 2 };

struct portion {
    struct buf text, out, more;
    struct flow_row *rows;
    int64_t n, failed;              /* rows before the one that failed, n = none */
    int rc;
    char reason[512];               /* errors are a thread's own */
    char *notes;
    bool done;
};

struct run {
    struct flow *f;
    struct row_source *source;
    struct portion ring[RING_MAX];
    int ring_n, threads, workers;
    struct os_mutex *mutex;
    struct os_cond *changed;
    /* Under the mutex: counts of batches, each at least the next one's. */
    int64_t read, next, taken;
    bool quit;
    struct { struct run *run; struct os_thread *thread; int index; } worker[POOL_MAX];
    int64_t rows, bytes, size, limit;
    int end;                        /* 1 = all is read; < 0 = why no more could be */
    char reason[512], broken[512];  /* why the last broken row was one */
};

int flow_threads(const peft_source_opts *source)
{
    int n = source && source->threads > 0 ? source->threads : os_cores();
    return MIN(n, POOL_MAX);
}

/* --- rows */

int flow_parse(struct flow_row *r)
{
    return r->row ? PEFT_OK : source_parse(r->path, r->text, r->n, r->line, &r->row);
}

int flow_change(struct flow_row *r)
{
    json_write(r->out, r->row);
    return buf_check(r->out);
}

const char *flow_text(const struct flow_row *r, int64_t *n)
{
    *n = r->out_n ? r->out_n : r->n;
    return r->out_n ? r->out->data + r->out_at : r->text;
}

void flow_put(struct writer *w, const struct flow_row *r)
{
    int64_t n;
    const char *text = flow_text(r, &n);
    writer_put(w, text, n);
    writer_put(w, "\n", 1);
}

/* --- batches */

static int work_row(struct run *run, struct flow_row *r, int worker)
{
    r->out_at = r->out->n;
    r->more_at = r->more->n;
    int rc = run->f->work(run->f->ctx, r, worker);
    json_free(r->row);
    r->row = NULL;
    r->out_n = r->out->n - r->out_at;
    r->more_n = r->more->n - r->more_at;
    if (rc >= 0) rc = buf_check(r->out);
    return rc < 0 ? rc : buf_check(r->more);
}

static void work_batch(struct run *run, struct portion *b, int worker)
{
    for (int64_t i = 0; i < b->n && run->f->work; i++) {
        int rc = work_row(run, &b->rows[i], worker);
        if (rc >= 0) continue;
        b->rc = rc;
        b->failed = i;
        snprintf(b->reason, sizeof b->reason, "%s", error_message());
        return;
    }
}

/* Works on the next batch that nobody has begun; with the mutex held. */
static bool work_next(struct run *run, int worker)
{
    if (run->next == run->read) return false;
    struct portion *b = &run->ring[run->next++ % run->ring_n];
    os_unlock(run->mutex);
    work_batch(run, b, worker);
    os_lock(run->mutex);
    b->done = true;
    os_cond_broadcast(run->changed);
    return true;
}

static void *flow_worker(void *arg)
{
    struct run *run = *(struct run **)arg;
    int index = (int)(((char *)arg - (char *)run->worker) / (ptrdiff_t)sizeof run->worker[0]);
    os_lock(run->mutex);
    while (!run->quit)
        if (!work_next(run, index)) os_cond_wait(run->changed, run->mutex);
    os_unlock(run->mutex);
    return NULL;
}

static void end_reading(struct run *run, int rc)
{
    run->end = rc < 0 ? rc : 1;
    if (rc < 0) snprintf(run->reason, sizeof run->reason, "%s", error_message());
}

/* Tells of a row that cannot be read: 1 = the next one may be, 0 = the reader is stuck. */
static int tell_broken(struct run *run, int64_t line)
{
    if (strcmp(run->broken, error_message()) == 0) return 0;
    snprintf(run->broken, sizeof run->broken, "%s", error_message());
    run->rows++;
    int rc = run->f->broken(run->f->ctx, line);
    return rc < 0 ? rc : 1;
}

/* Texts are found by their offsets while the buffer may still move. */
static int read_batch(struct run *run, struct portion *b)
{
    b->n = b->rc = 0;
    b->done = false;
    buf_clear(&b->text);
    buf_clear(&b->out);
    buf_clear(&b->more);
    while (b->n < BATCH_ROWS && b->text.n < BATCH_BYTES && !run->end) {
        struct flow_row *r = &b->rows[b->n];
        const char *text;
        int64_t n, line;
        int rc = run->limit && run->rows == run->limit ?
                     0 : source_next_text(run->source, &text, &n, &line);
        if (rc == PEFT_EFORMAT && run->f->broken && line > 0 && (rc = tell_broken(run, line)) > 0)
            continue;
        if (rc <= 0) {
            end_reading(run, rc);
            break;
        }
        *r = (struct flow_row){.n = n, .line = line, .index = run->rows++, .out = &b->out,
                               .more = &b->more, .path = run->f->path};
        if (run->f->note)
            r->note = memset(b->notes + b->n * run->f->note, 0, (size_t)run->f->note);
        if (run->f->know && (rc = run->f->know(run->f->ctx, r)) < 0) {
            end_reading(run, rc);
            break;
        }
        b->n++;
        buf_put(&b->text, text, n);
        buf_putc(&b->text, 0);
        run->bytes += n + 1;
    }
    b->failed = b->n;
    if (buf_check(&b->text) < 0) return PEFT_ENOMEM;
    const char *at = b->text.data;
    for (int64_t i = 0; i < b->n; at += b->rows[i++].n + 1) b->rows[i].text = at;
    return PEFT_OK;
}

static int take_batch(struct run *run, struct portion *b)
{
    int rc = PEFT_OK;
    for (int64_t i = 0; i < b->failed && run->f->take && rc >= 0; i++)
        rc = run->f->take(run->f->ctx, &b->rows[i]);
    return rc >= 0 && b->rc < 0 ? fail(b->rc, "%s", b->reason) : rc;
}

static int tell_progress(struct run *run)
{
    const peft_source_opts *o = run->f->source;
    if (!o || !o->progress) return PEFT_OK;
    int64_t at = MIN(run->bytes, run->size);
    int64_t total = run->f->total ? run->f->total : run->size;
    if (!o->progress(o->ctx, run->f->done + at, total)) return PEFT_OK;
    return fail(PEFT_ECANCELLED, "%s: cancelled at row %lld", run->f->path, (long long)run->rows);
}

/* The caller's part, with the mutex held: takes what is finished first, so that memory
 * becomes free, then reads, then helps. */
static int run_caller(struct run *run)
{
    int rc = PEFT_OK;
    while (rc >= 0) {
        struct portion *first = &run->ring[run->taken % run->ring_n];
        struct portion *empty = &run->ring[run->read % run->ring_n];
        if (run->taken < run->next && first->done) {
            os_unlock(run->mutex);
            rc = take_batch(run, first);
            if (rc >= 0) rc = tell_progress(run);
            os_lock(run->mutex);
            run->taken++;
        } else if (!run->end && run->read - run->taken < run->ring_n) {
            os_unlock(run->mutex);
            rc = read_batch(run, empty);
            os_lock(run->mutex);
            run->read++;
            os_cond_broadcast(run->changed);
        } else if (run->taken == run->read) {
            return run->end < 0 ? fail(run->end, "%s", run->reason) : PEFT_OK;
        } else if (!work_next(run, 0)) {
            os_cond_wait(run->changed, run->mutex);
        }
    }
    return rc;
}

/* --- beginning and end */

int64_t flow_size(struct host *h, const char *path)
{
    int32_t err = 0;
    void *file = path_kind(h, path) == 1 ? h->io.open(h->io.ctx, path, 0, &err) : NULL;
    int64_t n = file ? h->io.length(h->io.ctx, file) : 0;
    if (file) h->io.close(h->io.ctx, file);
    return MAX(n, 0);
}

static int open_run(struct run *run)
{
    struct flow *f = run->f;
    struct mem *mem = &f->host->mem;
    struct source_opts o = source_of(f->source);
    int rc = source_open(f->host, f->path, &o, &run->source);
    if (rc >= 0) rc = os_mutex_new(f->host, &run->mutex);
    if (rc >= 0) rc = os_cond_new(f->host, &run->changed);
    if (rc < 0) return rc;
    run->limit = f->source ? f->source->limit : 0;
    run->size = flow_size(f->host, f->path);
    run->threads = flow_threads(f->source);
    run->ring_n = run->threads == 1 ? 1 : 2 * run->threads + 2;
    for (int i = 0; i < run->ring_n; i++) {
        struct portion *b = &run->ring[i];
        buf_init(&b->text, mem);
        buf_init(&b->out, mem);
        buf_init(&b->more, mem);
        b->rows = mem_array(mem, BATCH_ROWS, sizeof *b->rows);
        b->notes = f->note ? mem_array(mem, BATCH_ROWS, f->note) : NULL;
        if (!b->rows || (f->note && !b->notes)) return PEFT_ENOMEM;
    }
    /* With fewer threads than asked for the work is done all the same. */
    for (int i = 1; i < run->threads && f->work; i++) {
        run->worker[i].run = run;
        if (os_thread_start(f->host, flow_worker, &run->worker[i], &run->worker[i].thread) < 0)
            break;
        run->workers = i;
    }
    return PEFT_OK;
}

static void close_run(struct run *run)
{
    struct mem *mem = &run->f->host->mem;
    if (run->workers) {
        os_lock(run->mutex);
        run->quit = true;
        os_cond_broadcast(run->changed);
        os_unlock(run->mutex);
        for (int i = 1; i <= run->workers; i++) os_thread_join(run->worker[i].thread);
    }
    for (int i = 0; i < run->ring_n; i++) {
        struct portion *b = &run->ring[i];
        if (b->text.mem) buf_free(&b->text);
        if (b->out.mem) buf_free(&b->out);
        if (b->more.mem) buf_free(&b->more);
        mem_free(mem, b->rows);
        mem_free(mem, b->notes);
    }
    if (run->changed) os_cond_free(run->changed);
    if (run->mutex) os_mutex_free(run->mutex);
    source_close(run->source);
    mem_free(mem, run);
}

int flow_run(struct flow *f)
{
    struct run *run = mem_zalloc(&f->host->mem, sizeof *run);
    if (!run) return PEFT_ENOMEM;
    run->f = f;
    int rc = open_run(run);
    if (rc >= 0) {
        os_lock(run->mutex);
        rc = run_caller(run);
        os_unlock(run->mutex);
    }
    close_run(run);
    return rc;
}
