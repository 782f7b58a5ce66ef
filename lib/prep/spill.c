/* Lists, and sorting by runs: as many records as fit into memory are sorted at a time, and
 * what so lies in a file is merged (Knuth 5.4.1). */
#include "prep/spill.h"

#include <errno.h>

/* --- files */

int scratch_begin(struct scratch *s, struct host *h, const char *beside)
{
    int64_t n = (int64_t)strlen(beside);
    while (n > 1 && beside[n - 1] == '/') n--;
    *s = (struct scratch){.host = h, .beside = mem_strndup(&h->mem, beside, n)};
    return s->beside ? os_mutex_new(h, &s->mutex) : PEFT_ENOMEM;
}

void scratch_end(struct scratch *s)
{
    if (s->mutex) os_mutex_free(s->mutex);
    if (s->host) mem_free(&s->host->mem, s->beside);
}

static int file_failed(const struct scratch_file *f, int64_t err, const char *what)
{
    return io_fail(err, f->path, what);
}

static int file_create(struct scratch_file *f)
{
    struct host *h = f->to->host;
    peft_io own = {.size = sizeof own};
    int32_t err = -EIO;
    os_io_default(&own);
    if (!(f->path = path_beside(h, f->to->beside, "spill"))) return PEFT_ENOMEM;
    f->fleeting = h->io.open == own.open;
    f->file = f->fleeting ? os_temp(f->path, &err) : h->io.open(h->io.ctx, f->path, 1, &err);
    return f->file ? PEFT_OK : file_failed(f, err, "create");
}

static int file_put(struct scratch_file *f, const void *data, int64_t n)
{
    struct host *h = f->to->host;
    const char *from = data;
    os_lock(f->to->mutex);
    int rc = f->file ? PEFT_OK : file_create(f);
    while (n > 0 && rc >= 0) {
        int64_t put = h->io.write(h->io.ctx, f->file, from, n);
        if (put <= 0 || put > n) rc = file_failed(f, put < 0 ? put : -EIO, "write");
        from += put;
        n -= put;
        f->n += put;
    }
    os_unlock(f->to->mutex);
    return rc;
}

static int file_turn(struct scratch_file *f)
{
    struct peft_io *io = &f->to->host->io;
    int32_t err = -EIO;
    if (f->fleeting) return PEFT_OK;
    os_lock(f->to->mutex);
    int32_t closed = io->close(io->ctx, f->file);
    f->file = closed < 0 ? NULL : io->open(io->ctx, f->path, 0, &err);
    os_unlock(f->to->mutex);
    if (closed < 0) return file_failed(f, closed, "write");
    return f->file ? PEFT_OK : file_failed(f, err, "open");
}

static int file_get(struct scratch_file *f, int64_t at, void *to, int64_t n)
{
    struct peft_io *io = &f->to->host->io;
    int rc = PEFT_OK;
    os_lock(f->to->mutex);
    for (int64_t got; n > 0 && rc >= 0; at += got, to = (char *)to + got, n -= got) {
        got = io->read(io->ctx, f->file, at, to, n);
        if (got <= 0 || got > n) rc = file_failed(f, got < 0 ? got : -EIO, "read");
    }
    os_unlock(f->to->mutex);
    return rc;
}

static void file_end(struct scratch_file *f)
{
    if (!f->path) return;
    struct peft_io *io = &f->to->host->io;
    os_lock(f->to->mutex);
    if (f->file) io->close(io->ctx, f->file);
    if (!f->fleeting) io->remove(io->ctx, f->path);
    os_unlock(f->to->mutex);
    mem_free(&f->to->host->mem, f->path);
}

/* --- lists */

enum { BLOCK_MOST = 1 << 20, BLOCKS = 16 };     /* bytes; of what may be in memory */

void spill_begin(struct spill *s, struct scratch *to, int64_t size, int64_t most)
{
    *s = (struct spill){.f.to = to, .size = size, .most = most};
    s->block = MAX(MIN(BLOCK_MOST, most / BLOCKS) / size, 16);
    buf_init(&s->blocks, &to->host->mem);
}

static char *block_at(const struct spill *s, int64_t i)
{
    return ((char **)(void *)s->blocks.data)[i];
}

static int64_t count_blocks(const struct spill *s)
{
    return s->blocks.n / (int64_t)sizeof(char *);
}

/* A further block is needed: either memory has it, or what there is goes into the file and
 * the first block is used again. */
static int spill_block(struct spill *s)
{
    int64_t bytes = s->block * s->size, n = count_blocks(s);
    if (!s->f.path && (n + 1) * bytes <= MAX(s->most, bytes)) {
        char *block = mem_alloc(s->blocks.mem, bytes);
        if (!block) return PEFT_ENOMEM;
        buf_put(&s->blocks, &block, sizeof block);
        if (s->blocks.oom) mem_free(s->blocks.mem, block);
        return buf_check(&s->blocks);
    }
    int rc = PEFT_OK;
    for (int64_t i = 0; i < n && rc >= 0; i++) rc = file_put(&s->f, block_at(s, i), bytes);
    while (rc >= 0 && n > 1) mem_free(s->blocks.mem, block_at(s, --n));
    if (rc >= 0) s->blocks.n = (int64_t)sizeof(char *);
    return rc;
}

int spill_put(struct spill *s, const void *record)
{
    int64_t i = s->n % s->block;
    int rc = i ? PEFT_OK : spill_block(s);
    if (rc < 0) return rc;
    memcpy(block_at(s, count_blocks(s) - 1) + i * s->size, record, (size_t)s->size);
    s->n++;
    return PEFT_OK;
}

static void free_blocks(struct spill *s)
{
    for (int64_t i = 0; i < count_blocks(s); i++) mem_free(s->blocks.mem, block_at(s, i));
    buf_free(&s->blocks);
}

int spill_turn(struct spill *s)
{
    if (!s->f.path) return PEFT_OK;
    int64_t rest = (s->n - 1) % s->block + 1;
    int rc = file_put(&s->f, block_at(s, 0), rest * s->size);
    free_blocks(s);
    return rc < 0 ? rc : file_turn(&s->f);
}

const void *spill_at(struct spill *s, int64_t i, void *room)
{
    if (!s->f.path) return block_at(s, i / s->block) + i % s->block * s->size;
    return file_get(&s->f, i * s->size, room, s->size) < 0 ? NULL : room;
}

void spill_free(struct spill *s)
{
    if (!s->size) return;
    free_blocks(s);
    file_end(&s->f);
    *s = (struct spill){0};
}

void spill_read(struct spill_reader *r, struct spill *s)
{
    *r = (struct spill_reader){.s = s};
}

int spill_next(struct spill_reader *r, const void **record)
{
    struct spill *s = r->s;
    if (r->at == s->n) return 0;
    int64_t i = r->at++ - r->from;
    if (!s->f.path) return *record = spill_at(s, r->at - 1, NULL), 1;
    if (i == r->n) {
        r->from += r->n;
        r->n = MIN(s->block, s->n - r->from);
        i = 0;
        if (!r->data) r->data = mem_alloc(s->blocks.mem, s->block * s->size);
        int rc = r->data ? file_get(&s->f, r->from * s->size, r->data, r->n * s->size)
                         : PEFT_ENOMEM;
        if (rc < 0) return rc;
    }
    *record = r->data + i * s->size;
    return 1;
}

void spill_close(struct spill_reader *r)
{
    if (r->s) mem_free(r->s->blocks.mem, r->data);
    *r = (struct spill_reader){0};
}

/* --- sorting */

enum { RADIX = 11, LEAST = 1024 };
struct sorter_run { int64_t next, end; };       /* records of the file */
struct sorter_head { uint64_t key; const uint64_t *at, *end; int32_t run; };    /* in its room */

void sorter_begin(struct sorter *s, struct scratch *to, int words, int low, int64_t bytes)
{
    *s = (struct sorter){.f.to = to, .words = words, .low = low};
    s->most = MAX(bytes / (2 * 8 * words), LEAST);
    buf_init(&s->runs, &to->host->mem);
}

static struct sorter_run *run_at(const struct sorter *s, int64_t i)
{
    return (struct sorter_run *)(void *)s->runs.data + i;
}

/* By digits, the lowest first, each time stable. */
static void sort_list(struct sorter *s)
{
    int w = s->words;
    for (int shift = s->low; shift < 64; shift += RADIX) {
        uint32_t start[(1 << RADIX) + 1] = {0}, mask = (1 << RADIX) - 1;
        for (int64_t i = 0; i < s->n; i++) start[(s->list[i * w] >> shift & mask) + 1]++;
        if (s->n && start[(s->list[0] >> shift & mask) + 1] == s->n) continue;
        for (uint32_t k = 0; k < mask; k++) start[k + 1] += start[k];
        for (int64_t i = 0; i < s->n; i++) {
            const uint64_t *from = s->list + i * w;
            uint64_t *to = s->other + start[*from >> shift & mask]++ * (uint64_t)w;
            to[0] = from[0];
            if (w > 1) to[1] = from[1];
        }
        uint64_t *t = s->list;
        s->list = s->other;
        s->other = t;
    }
}

static int put_run(struct sorter *s)
{
    int64_t from = s->f.n / (8 * s->words);
    struct sorter_run run = {from, from + s->n};
    sort_list(s);
    buf_put(&s->runs, &run, sizeof run);
    int rc = buf_check(&s->runs);
    if (rc >= 0) rc = file_put(&s->f, s->list, s->n * 8 * s->words);
    s->n = 0;
    return rc;
}

static int sorter_grow(struct sorter *s)
{
    struct mem *mem = &s->f.to->host->mem;
    s->cap = MIN(MAX(2 * s->cap, LEAST), s->most);
    mem_free(mem, s->other);
    s->other = mem_alloc(mem, s->cap * 8 * s->words);
    uint64_t *list = s->other ? mem_realloc(mem, s->list, s->cap * 8 * s->words) : NULL;
    if (list) s->list = list;
    return list ? PEFT_OK : PEFT_ENOMEM;
}

int sorter_put(struct sorter *s, uint64_t a, uint64_t b)
{
    if (s->n == s->cap) {
        int rc = s->cap == s->most ? put_run(s) : sorter_grow(s);
        if (rc < 0) return rc;
    }
    s->list[s->n * s->words] = a;
    if (s->words > 1) s->list[s->n * s->words + 1] = b;
    s->n++;
    return PEFT_OK;
}

/* Of equal records that of the earlier run comes first, which was put before. */
static bool comes_before(const struct sorter_head *a, const struct sorter_head *b)
{
    return a->key != b->key ? a->key < b->key : a->run < b->run;
}

static void heap_down(struct sorter *s, int64_t i)
{
    struct sorter_head now = s->heap[i];
    for (int64_t k; (k = 2 * i + 1) < s->n_heap; i = k) {
        if (k + 1 < s->n_heap && comes_before(&s->heap[k + 1], &s->heap[k])) k++;
        if (!comes_before(&s->heap[k], &now)) break;
        s->heap[i] = s->heap[k];
    }
    s->heap[i] = now;
}

/* The run's next records: 1, 0 = it has none. */
static int fill_run(struct sorter *s, struct sorter_head *h)
{
    struct sorter_run *r = run_at(s, h->run);
    int64_t each = s->cap / (s->runs.n / (int64_t)sizeof *r), bytes = 8 * s->words;
    uint64_t *room = s->list + h->run * each * s->words;
    int64_t n = MIN(each, r->end - r->next);
    if (!n) return 0;
    int rc = file_get(&s->f, r->next * bytes, room, n * bytes);
    r->next += n;
    h->at = room;
    h->end = room + n * s->words;
    h->key = *room;
    return rc < 0 ? rc : 1;
}

/* All memory but the heap is room for the runs now. */
int sorter_turn(struct sorter *s)
{
    enum { ROOM = 64 };
    struct mem *mem = &s->f.to->host->mem;
    if (!s->runs.n) {
        sort_list(s);
        mem_free(mem, s->other);
        s->other = NULL;
        return PEFT_OK;
    }
    int rc = put_run(s);
    int64_t runs = s->runs.n / (int64_t)sizeof(struct sorter_run);
    mem_free(mem, s->other);
    mem_free(mem, s->list);
    s->cap = MAX(s->cap, ROOM * runs);
    s->other = NULL;
    s->list = mem_alloc(mem, s->cap * 8 * s->words);
    s->heap = mem_array(mem, runs, sizeof *s->heap);
    if (!s->list || !s->heap) return PEFT_ENOMEM;
    if (rc >= 0) rc = file_turn(&s->f);
    for (int64_t i = 0; i < runs && rc >= 0; i++) {
        s->heap[s->n_heap].run = (int32_t)i;
        if ((rc = fill_run(s, &s->heap[s->n_heap])) > 0) s->n_heap++;
    }
    for (int64_t i = s->n_heap / 2 - 1; i >= 0 && rc >= 0; i--) heap_down(s, i);
    return MIN(rc, PEFT_OK);
}

int sorter_next(struct sorter *s, uint64_t *record)
{
    size_t bytes = (size_t)s->words * 8;
    if (!s->runs.n) {
        if (s->at == s->n) return 0;
        memcpy(record, s->list + s->at++ * s->words, bytes);
        return 1;
    }
    if (!s->n_heap) return 0;
    struct sorter_head *first = s->heap;
    memcpy(record, first->at, bytes);
    first->at += s->words;
    if (first->at < first->end) {
        first->key = *first->at;
    } else {
        int rc = fill_run(s, first);
        if (rc < 0) return rc;
        if (!rc) *first = s->heap[--s->n_heap];
    }
    if (s->n_heap) heap_down(s, 0);
    return 1;
}

int sorter_rows(struct sorter_rows *r, struct sorter *s)
{
    *r = (struct sorter_rows){.s = s};
    int rc = sorter_turn(s);
    return rc < 0 ? rc : MIN(r->more = sorter_next(s, r->next), PEFT_OK);
}

int sorter_row(struct sorter_rows *r, int64_t row, uint64_t *record)
{
    if (r->more <= 0 || (int64_t)(r->next[0] >> 32) != row) return 0;
    memcpy(record, r->next, (size_t)r->s->words * sizeof *record);
    r->more = sorter_next(r->s, r->next);
    return r->more < 0 ? r->more : 1;
}

void sorter_free(struct sorter *s)
{
    if (!s->words) return;
    struct mem *mem = &s->f.to->host->mem;
    mem_free(mem, s->list);
    mem_free(mem, s->other);
    mem_free(mem, s->heap);
    buf_free(&s->runs);
    file_end(&s->f);
    *s = (struct sorter){0};
}
