/* Loading a file into examples, and splitting them. */
#include "base/pool.h"
#include "base/sha256.h"
#include "data/shard.h"

#include <math.h>
#include <stdio.h>

enum { PROGRESS_ROWS = 256 };
/* Where prepared rows go instead of into memory. */
struct prepare {
    const char *to;
    int64_t rows;
    struct ids *counts;             /* of rows, by their lengths */
    int threads;
    bool failed;                    /* with several */
};
/* Where a load stands. */
struct loading {
    struct dataset *d;
    const char *path;
    struct row_source *source;
    const struct schema *schema;
    struct coder e;
    struct labels labels;
    int64_t line, read;             /* of the present row; rows so far */
    int64_t first_line;             /* of the row that settled the schema */
    struct shard_writer *shard;     /* instead of keeping rows; or NULL */
    struct prepare *prepare;        /* or NULL */
    int64_t cut;                    /* rows whose answer was cut off wholly */
    int64_t shortest, shortest_line, longest;
    int64_t empty_line;             /* first row with nothing to train, or 0 */
    char empty[100];                /* its beginning */
};

static int32_t *copy_ids(struct dataset *d, const struct ids *from)
{
    int64_t bytes = from->n * (int64_t)sizeof *from->v;
    int32_t *to = arena_alloc(&d->arena, bytes);
    if (to) memcpy(to, from->v, (size_t)bytes);
    return to;
}

int dataset_push(struct dataset *d, const struct example *x)
{
    if (d->n == d->cap) {
        int64_t cap = MAX(d->cap * 2, 64), size;
        if (d->n >= INT32_MAX / 2) return fail(PEFT_EUNSUPPORTED, "more than 2^30 rows");
        if (!mul_ok(cap, (int64_t)sizeof *x, &size)) return fail(PEFT_ENOMEM, "too many rows");
        struct example *rows = mem_realloc(&d->host->mem, d->rows, size);
        if (!rows) return PEFT_ENOMEM;
        d->rows = rows;
        d->cap = cap;
    }
    d->rows[d->n++] = *x;
    d->max_len = MAX(d->max_len, x->n);
    return PEFT_OK;
}

static int add_row(struct loading *l)
{
    struct dataset *d = l->d;
    struct coder *e = &l->e;
    struct example x = e->row;
    x.n = (int32_t)e->ids.n;
    x.ids = e->ids.v;
    x.ends = e->ends.n ? e->ends.v : NULL;
    x.labels = e->labels.n ? e->labels.v : NULL;
    if (x.labels && label_shift(d->task)) x.labels[0] = NOT_TRAINED;   /* nothing before it */
    if (l->shard) {
        struct ids *count = l->prepare->counts;
        while (count->n <= x.n && !count->oom) ids_push(count, 0);
        if (!count->oom) count->v[x.n]++;
        d->max_len = MAX(d->max_len, x.n);
        d->trained += x.labels ? count_trained(x.labels, 1, x.n, &(int64_t){0}) : 0;
        int rc = shard_put(l->shard, e, &x, d, l->read);
        return rc < 0 ? rc : ids_check(count);
    }
    if (!(x.ids = copy_ids(d, &e->ids))) return PEFT_ENOMEM;
    if (x.ends && !(x.ends = copy_ids(d, &e->ends))) return PEFT_ENOMEM;
    if (x.labels && !(x.labels = copy_ids(d, &e->labels))) return PEFT_ENOMEM;
    return dataset_push(d, &x);
}

/* Remembers why a row is left out. */
static void skip_row(struct loading *l, bool cut, int64_t prompt)
{
    l->d->skipped++;
    if (cut) {
        if (!l->cut++ || prompt < l->shortest) {
            l->shortest = prompt;
            l->shortest_line = l->line;
        }
    } else if (!l->empty_line) {
        l->empty_line = l->line;
        snprintf(l->empty, sizeof l->empty, "%s", source_excerpt(l->source));
    }
}

/* Cuts each text of the encoded row at max_len. */
static bool cut_texts(struct coder *e)
{
    int64_t from = 0, to = 0, all = e->ids.n;
    for (int64_t t = 0; t < MAX(e->ends.n, 1); t++) {
        int64_t end = e->ends.n ? e->ends.v[t] : all, n = MIN(end - from, e->o->max_len);
        if (n < end - from && e->keep_last) {
            e->ids.v[from + n - 1] = e->ids.v[end - 1];
            if (e->labels.n) e->labels.v[from + n - 1] = e->labels.v[end - 1];
        }
        if (n) memmove(e->ids.v + to, e->ids.v + from, (size_t)n * sizeof *e->ids.v);
        if (e->labels.n)
            memmove(e->labels.v + to, e->labels.v + from, (size_t)n * sizeof *e->labels.v);
        from = end;
        to += n;
        if (e->ends.n) e->ends.v[t] = (int32_t)to;
    }
    e->ids.n = to;
    if (e->labels.n) e->labels.n = to;
    return to < all;
}

/* Cuts the encoded row and keeps it when something of it trains. */
static int take_row(struct loading *l)
{
    struct coder *e = &l->e;
    int shift = label_shift(l->d->task);
    int64_t n = e->ids.n, first = 0, after;
    if (n > 1 && e->info && e->info->bos >= 0 && e->ids.v[0] == e->info->bos &&
        e->ids.v[1] == e->info->bos)
        return fail(PEFT_EDATA, "begins with two BOS tokens (id %d), expected one: %s",
                    (int)e->info->bos, source_excerpt(l->source));
    bool tokens = e->labels.n > 0;
    l->longest = MAX(l->longest, n);
    bool any = tokens ? count_trained(e->labels.v, shift, n, &first) > 0
                      : n > 0 && l->d->task != TASK_LM;
    bool cut = cut_texts(e);
    if (!any || (tokens && !count_trained(e->labels.v, shift, e->ids.n, &after))) {
        skip_row(l, any, first);
        return PEFT_OK;
    }
    l->d->truncated += cut;
    return add_row(l);
}

static int read_row(struct loading *l, const json *row)
{
    struct coder *e = &l->e;
    int rc = PEFT_OK;
    e->row = (struct example){.label = -1, .line = l->line};
    if (l->shard) arena_reset(e->arena);
    e->keep_last = 0;
    if (!l->schema) {
        if ((rc = schema_find(e->o, row, &l->schema)) < 0) return rc;
        l->first_line = l->line;
        snprintf(l->d->schema, sizeof l->d->schema, "%s", l->schema->name);
        if (l->schema->needs_tokenizer && !e->tok)
            return fail(PEFT_ENOTFOUND, "rows of \"%s\" need a tokenizer, and the model has none; "
                        "expected input_ids", l->schema->name);
    }
    if ((rc = schema_same(l->schema, row, l->first_line)) == PEFT_OK)
        rc = schema_encode(l->schema, e, row);
    if (rc < 0) return rc;
    int32_t texts = (int32_t)MAX(e->ends.n, 1);
    if (l->read == 0) {
        l->d->task = e->task;
        l->d->texts = texts;
        l->d->masks = e->masks;
        l->d->mask_id = e->info ? e->info->mask : -1;
        l->d->vocab = e->o->vocab;
    }
    if (e->task != l->d->task || e->masks != l->d->masks)
        return fail(PEFT_EFORMAT, "expected %s as in the first row", l->d->task == TASK_CLASS ?
                    "one label for the row" : label_shift(l->d->task) ?
                    "a label for each token, or none" : "the same columns");
    if (texts != l->d->texts)
        return fail(PEFT_EFORMAT, "expected %d texts as in the first row, found %d", l->d->texts,
                    texts);
    do rc = take_row(l);
    while (rc == PEFT_OK && e->more && (rc = e->more(e)) > 0);
    return rc;
}

/* A file that leaves no row at all. */
static int nothing_left(const struct loading *l)
{
    if (l->read == 0)
        return fail(PEFT_EDATA, "%s: no rows", l->path);
    if (l->cut)
        return fail(PEFT_EDATA, "%s: every answer is cut off at max_len %d: shortest prompt is "
                    "%lld tokens (%s line %lld), the longest row %lld", l->path,
                    (int)l->e.o->max_len, (long long)l->shortest, l->path,
                    (long long)l->shortest_line, (long long)l->longest);
    return fail(PEFT_EDATA, "%s: no row has anything to train, as line %lld: %s", l->path,
                (long long)l->empty_line, l->empty);
}

/* The name and hash of a file, or of rows in memory; a folder has none. */
static int name_file(struct dataset *d, const char *path, const struct source_opts *o)
{
    if (!o->text && path_kind(d->host, path) != 1) return PEFT_OK;
    snprintf(d->file, sizeof d->file, "%s", path_base(path));
    if (!o->text) return sha256_file(d->host, path, d->hash);
    sha256(o->text, o->text_n, d->hash);
    return PEFT_OK;
}

/* One with the settings of another, but for labels. */
static void coder_begin(struct coder *e, const struct coder *as)
{
    struct mem *m = &as->host->mem;
    *e = (struct coder){.host = as->host, .tok = as->tok, .info = as->info, .o = as->o};
    arena_init(&e->scratch, m);
    buf_init(&e->text, m);
    ids_init(&e->part, m);
    ids_init(&e->spans, m);
    ids_init(&e->ids, m);
    ids_init(&e->labels, m);
    ids_init(&e->ends, m);
    ids_init(&e->whole, m);
    token_spans_init(&e->spans_of, m);
}

static void coder_end(struct coder *e)
{
    json_free(e->made);
    arena_free(&e->scratch);
    buf_free(&e->text);
    ids_free(&e->part);
    ids_free(&e->spans);
    ids_free(&e->ids);
    ids_free(&e->labels);
    ids_free(&e->ends);
    ids_free(&e->whole);
    token_spans_free(&e->spans_of);
}

/* --- rows prepared by threads.  They encode one batch; one of them meanwhile takes what was made
 * of the batch before, with its labels, and reads the next one, so that rows keep their order
 * and files one thread.  Whatever fails here is told by reading all once more. */

enum { LANE_ROWS = 512, LANE_BYTES = 1 << 18 };
struct lane_row {
    int64_t at, n, line;            /* in the batch's text */
    json *row;
    struct ids ids, labels, ends;
    struct example made;
    int32_t keep_last;
    int rc;
};
struct lanes {
    struct loading *l;
    struct coder coder[POOL_MAX];
    struct lane_batch {
        struct buf text;
        int64_t n;
        struct lane_row row[LANE_ROWS];
    } batch[2], *now, *other;
    int more, rc;
};

static bool has_lanes(const struct loading *l)
{
    const unsigned tasks = 1u << TASK_LM | 1u << TASK_CLASS | 1u << TASK_PAIR | 1u << TASK_MASKED |
                           1u << TASK_SEQ2SEQ | 1u << TASK_MATCH | 1u << TASK_ALIKE;
    return l->prepare && l->prepare->threads > 1 && l->schema->needs_tokenizer &&
           tasks >> l->d->task & 1;
}

static void swap_ids(struct ids *a, struct ids *b)
{
    struct ids t = *a;
    *a = *b;
    *b = t;
}

static void swap_made(struct coder *e, struct lane_row *r)
{
    swap_ids(&e->ids, &r->ids);
    swap_ids(&e->labels, &r->labels);
    swap_ids(&e->ends, &r->ends);
}

static void lane_encode(struct lanes *p, struct lane_row *r, struct coder *e)
{
    const struct loading *l = p->l;
    e->row = (struct example){.label = -1, .line = r->line};
    e->keep_last = 0;
    r->rc = source_parse(l->path, p->now->text.data + r->at, r->n, r->line, &r->row);
    if (r->rc >= 0) r->rc = schema_same(l->schema, r->row, l->first_line);
    if (r->rc >= 0) r->rc = schema_encode(l->schema, e, r->row);
    if (e->task != l->d->task || e->masks != l->d->masks || MAX(e->ends.n, 1) != l->d->texts)
        r->rc = PEFT_EFORMAT;
    r->made = e->row;
    r->keep_last = e->keep_last;
    swap_made(e, r);
}

static int lane_take(struct loading *l, struct lane_row *r)
{
    int rc = r->rc;
    swap_made(&l->e, r);
    l->e.row = r->made;
    l->e.keep_last = r->keep_last;
    l->line = r->line;
    if (rc >= 0 && l->d->task == TASK_CLASS)
        rc = labels_read(&l->labels, json_get(r->row, l->schema->need[0]), &l->e.row);
    if (rc >= 0) rc = take_row(l);
    l->read++;
    return rc;
}

static void lane_turn(struct lanes *p, struct lane_batch *b)
{
    for (int64_t i = 0; i < b->n; i++) {
        if (p->rc >= 0) p->rc = lane_take(p->l, &b->row[i]);
        json_free(b->row[i].row);
        b->row[i].row = NULL;
    }
    buf_clear(&b->text);
    for (b->n = 0; b->n < LANE_ROWS && b->text.n < LANE_BYTES && p->rc >= 0; b->n++) {
        struct lane_row *r = &b->row[b->n];
        const char *text;
        p->more = p->more > 0 ? source_next_text(p->l->source, &text, &r->n, &r->line) : 0;
        if (p->more < 0) p->rc = p->more;
        if (p->more <= 0) break;
        r->at = b->text.n;
        buf_put(&b->text, text, r->n);
        buf_putc(&b->text, 0);
        p->rc = buf_check(&b->text);
    }
}

static void lane_task(void *arg, int64_t i, int worker)
{
    struct lanes *p = arg;
    if (i == 0) lane_turn(p, p->other);
    else lane_encode(p, &p->now->row[i - 1], &p->coder[worker]);
}

static int run_lanes(struct lanes *p, struct pool *pool)
{
    struct loading *l = p->l;
    const struct data_opts *o = l->e.o;
    do {
        pool_run(pool, p->now->n + 1, lane_task, p);
        struct lane_batch *encoded = p->now;
        p->now = p->other;
        p->other = encoded;
        if (p->rc >= 0 && o->progress && o->progress(o->ctx, l->read, source_bytes(l->source)))
            return fail(PEFT_ECANCELLED, "%s: reading was cancelled", l->path);
    } while (p->rc >= 0 && (p->now->n || p->other->n));
    l->prepare->failed = p->rc < 0;
    return p->rc;
}

static int read_lanes(struct loading *l)
{
    struct mem *m = &l->d->host->mem;
    struct lanes *p = mem_zalloc(m, sizeof *p);
    struct pool *pool = NULL;
    int rc = p ? pool_new(l->d->host, l->prepare->threads, &pool) : PEFT_ENOMEM;
    if (rc < 0) {
        mem_free(m, p);
        return rc;
    }
    p->l = l;
    p->more = 1;
    p->now = p->batch;
    p->other = p->batch + 1;
    for (int i = 0; i < POOL_MAX; i++) coder_begin(&p->coder[i], &l->e);
    for (int i = 0; i < 2 * LANE_ROWS; i++) {
        struct lane_batch *b = &p->batch[i & 1];
        struct lane_row *r = &b->row[i / 2];
        b->text.mem = r->ids.mem = r->labels.mem = r->ends.mem = m;
    }
    rc = run_lanes(p, pool);
    for (int i = 0; i < POOL_MAX; i++) coder_end(&p->coder[i]);
    for (int i = 0; i < 2 * LANE_ROWS; i++) {
        struct lane_batch *b = &p->batch[i & 1];
        struct lane_row *r = &b->row[i / 2];
        json_free(r->row);
        ids_free(&r->ids);
        ids_free(&r->labels);
        ids_free(&r->ends);
        buf_free(&b->text);
    }
    pool_free(pool);
    mem_free(m, p);
    return rc;
}

static int read_all(struct loading *l)
{
    const struct data_opts *o = l->e.o;
    json *row = NULL;
    int rc = source_open(l->d->host, l->path, &o->source, &l->source);
    while (rc >= 0) {
        if (l->read && has_lanes(l)) {
            rc = read_lanes(l);
            break;
        }
        rc = source_next(l->source, &row, &l->line);
        if (rc <= 0) break;
        rc = read_row(l, row);
        json_free(row);
        if (rc < 0) source_fail(l->source, rc);
        l->read++;
        if (rc >= 0 && o->progress && l->read % PROGRESS_ROWS == 0 &&
            o->progress(o->ctx, l->read, source_bytes(l->source)))
            rc = fail(PEFT_ECANCELLED, "%s: reading was cancelled", l->path);
    }
    if (rc >= 0 && (l->shard ? l->prepare->counts->n : l->d->n) == 0) rc = nothing_left(l);
    if (rc >= 0) rc = labels_check(&l->labels, l->path, l->d);
    source_close(l->source);
    return rc < 0 ? rc : PEFT_OK;
}

/* Reads the file: into memory, or from one of prepared rows, or into one. */
static int read_path(struct loading *l)
{
    const struct prepare *p = l->prepare;
    struct dataset *d = l->d;
    if (!p && !l->e.o->source.text && shard_known(d->host, l->path)) {
        int rc = fail_path(shard_load(d, &l->e, l->path), l->path);
        if (rc == PEFT_OK && !d->n) rc = fail(PEFT_EDATA, "%s: no rows", l->path);
        return rc == PEFT_OK ? labels_check(&l->labels, l->path, d) : rc;
    }
    int rc = p ? name_file(d, l->path, &l->e.o->source) : PEFT_OK;
    if (rc == PEFT_OK && p) rc = shard_create(d->host, p->to, p->rows, &l->shard);
    if (rc == PEFT_OK) rc = read_all(l);
    if (l->shard) rc = shard_close(l->shard, &l->e, d, rc);
    return rc == PEFT_OK && !p ? name_file(d, l->path, &l->e.o->source) : rc;
}

static struct dataset *dataset_new(struct host *h)
{
    struct dataset *d = mem_zalloc(&h->mem, sizeof *d);
    if (!d) return NULL;
    d->host = h;
    d->users = 1;
    arena_init(&d->arena, &h->mem);
    return d;
}

static int load_rows(struct host *h, const struct tokenizer *tok, const char *path,
                     const struct data_opts *o, struct prepare *p, struct dataset **out)
{
    *out = NULL;
    if (!o->vision && (o->max_len < 1 || o->vocab < 1))
        return fail(PEFT_EARG, "max_len %d, vocabulary %d: expected at least 1", (int)o->max_len,
                    (int)o->vocab);
    struct dataset *d = dataset_new(h);
    if (!d) return PEFT_ENOMEM;
    if (o->vision && p) {
        data_free(d);
        return fail(PEFT_EUNSUPPORTED, "pictures cannot be prepared: they are kept decoded anyway");
    }
    if (o->vision) {
        int done = pictures_load(d, path, o);
        if (done) data_free(d);
        else *out = d;
        return done;
    }
    struct loading l = {.d = d, .path = path, .prepare = p};
    struct arena rows;
    struct coder *e = &l.e;
    coder_begin(e, &(struct coder){.host = h, .tok = tok, .info = tok ? tok_info(tok) : NULL,
                                   .o = o});
    e->label_set = &l.labels;
    e->arena = p ? &rows : &d->arena;
    arena_init(&rows, &h->mem);
    int rc = labels_init(&l.labels, h, &d->arena, o);
    if (rc == PEFT_OK) rc = read_path(&l);
    if (rc == PEFT_OK) rc = labels_finish(&l.labels, d);
    if (tok) tok_rest(tok);
    labels_free(&l.labels);
    coder_end(e);
    arena_free(&rows);
    if (rc < 0) {
        data_free(d);
        return rc;
    }
    *out = d;
    return PEFT_OK;
}

static uint64_t next_serial(void)
{
    static _Atomic uint64_t last;
    return atomic_fetch_add(&last, 1) + 1;
}

int data_load(struct host *h, const struct tokenizer *tok, const char *path,
              const struct data_opts *o, struct dataset **out)
{
    int rc = load_rows(h, tok, path, o, NULL, out);
    if (!rc) (*out)->serial = next_serial();
    return rc;
}

int data_prepare(struct host *h, const struct tokenizer *tok, const char *path,
                 const struct data_opts *o, const char *to, int64_t rows, struct ids *counts,
                 struct dataset **out)
{
    struct prepare p = {to, rows, counts, o->threads, false};
    int rc = load_rows(h, tok, path, o, &p, out);
    if (!p.failed) return rc;
    p.threads = 1;
    counts->n = 0;
    return load_rows(h, tok, path, o, &p, out);
}

/* One user less of the arena. */
static void leave_arena(struct dataset *root)
{
    if (!root || atomic_fetch_sub(&root->users, 1) > 1) return;
    struct mem *m = &root->host->mem;
    for (struct shard_view *v = root->views; v; v = v->next) file_close_view(root->host, &v->view);
    arena_free(&root->arena);
    mem_free(m, root);
}

void data_free(struct dataset *d)
{
    if (!d) return;
    struct mem *m = &d->host->mem;
    struct dataset *root = d->parent ? d->parent : d, *second = d->second;
    mem_free(m, d->rows);
    d->rows = NULL;
    d->n = d->cap = 0;
    if (d != root) mem_free(m, d);
    leave_arena(root);
    leave_arena(second);
}

/* A data set without rows, but with room for k, whose arena is d's. */
static struct dataset *dataset_child(const struct dataset *d, int64_t k)
{
    struct mem *m = &d->host->mem;
    struct dataset *e = mem_zalloc(m, sizeof *e);
    struct example *rows = mem_array(m, k, sizeof *rows);
    if (!e || !rows) {
        mem_free(m, e);
        mem_free(m, rows);
        return NULL;
    }
    *e = (struct dataset){.host = d->host, .rows = rows, .cap = k, .labels = d->labels,
                          .n_labels = d->n_labels, .task = d->task, .masks = d->masks,
                          .mask_id = d->mask_id, .vocab = d->vocab, .texts = d->texts,
                          .vision = d->vision,
                          .parent = d->parent ? d->parent : (struct dataset *)(uintptr_t)d};
    arena_init(&e->arena, m);
    memcpy(e->schema, d->schema, sizeof e->schema);
    e->parent->users++;
    if ((e->second = d->second)) e->second->users++;
    e->serial = next_serial();
    return e;
}

static void add_example(struct dataset *d, const struct example *x)
{
    d->rows[d->n++] = *x;
    d->max_len = MAX(d->max_len, x->n);
}

int data_split(struct dataset *d, double share, uint64_t seed, struct dataset **eval)
{
    *eval = NULL;
    if (!(share > 0 && share < 1))
        return fail(PEFT_EARG, "share is %g, expected more than 0 and less than 1", share);
    if (d->trainers)
        return fail(PEFT_ESTATE, "a trainer is alive on this data set, expected it to be freed");
    if (d->n < 2)
        return fail(PEFT_EARG, "%lld row cannot be split, expected at least 2", (long long)d->n);
    int64_t n = d->n, k = llround(share * (double)n);
    k = MIN(MAX(k, 1), n - 1);
    struct mem *m = &d->host->mem;
    int32_t *order = mem_array(m, n, sizeof *order);
    uint8_t *moved = mem_zalloc(m, n);
    struct dataset *e = order && moved ? dataset_child(d, k) : NULL;
    if (e) {
        for (int64_t i = 0; i < n; i++) order[i] = (int32_t)i;
        rng_shuffle(order, n, seed, rng_stream(RNG_SPLIT, 0));
        for (int64_t i = 0; i < k; i++) moved[order[i]] = 1;
        d->n = d->max_len = 0;
        d->serial = next_serial();
        for (int64_t i = 0; i < n; i++) add_example(moved[i] ? e : d, &d->rows[i]);
    }
    mem_free(m, order);
    mem_free(m, moved);
    *eval = e;
    return e ? PEFT_OK : PEFT_ENOMEM;
}

int data_subset(const struct dataset *d, const int64_t *rows, int64_t n, struct dataset **out)
{
    *out = NULL;
    if (n < 1 || n > INT32_MAX / 2)
        return fail(PEFT_EARG, "%lld rows, expected 1 to 2^30", (long long)n);
    for (int64_t i = 0; i < n; i++)
        if (rows[i] < 0 || rows[i] >= d->n)
            return fail(PEFT_EARG, "row %lld, expected 0 to %lld", (long long)rows[i],
                        (long long)d->n - 1);
    struct dataset *e = dataset_child(d, n);
    if (!e) return PEFT_ENOMEM;
    for (int64_t i = 0; i < n; i++) add_example(e, &d->rows[rows[i]]);
    *out = e;
    return PEFT_OK;
}

static int same_labels(const struct dataset *a, const struct dataset *b)
{
    if (a->n_labels != b->n_labels || !a->labels != !b->labels) return 0;
    for (int32_t i = 0; a->labels && i < a->n_labels; i++)
        if (strcmp(a->labels[i], b->labels[i]) != 0) return 0;
    return 1;
}

int data_mix(const struct dataset *d, const struct dataset *other, int64_t n, uint64_t seed,
             struct dataset **out)
{
    *out = NULL;
    if (d->host != other->host)
        return fail(PEFT_EARG, "the data sets were made from different models");
    if (d->task != other->task || d->texts != other->texts || !same_labels(d, other))
        return fail(PEFT_EARG, "rows of %s and of %s with other labels or another task cannot be "
                    "mixed", d->schema, other->schema);
    if (n < 0 || n > other->n)
        return fail(PEFT_EARG, "%lld rows of the second data set, expected 0 to its %lld",
                    (long long)n, (long long)other->n);
    if (d->second || other->second)
        return fail(PEFT_ESTATE, "a data set is mixed already, expected two that are not");
    struct mem *m = &d->host->mem;
    int32_t *order = mem_array(m, other->n, sizeof *order);
    struct dataset *e = order ? dataset_child(d, d->n + n) : NULL;
    if (e) {
        for (int64_t i = 0; i < d->n; i++) add_example(e, &d->rows[i]);
        for (int64_t i = 0; i < other->n; i++) order[i] = (int32_t)i;
        rng_shuffle(order, other->n, seed, rng_stream(RNG_SPLIT, 1));
        for (int64_t i = 0; i < n; i++) add_example(e, &other->rows[order[i]]);
        e->second = other->parent ? other->parent : (struct dataset *)(uintptr_t)other;
        e->second->users++;
    }
    mem_free(m, order);
    *out = e;
    return e ? PEFT_OK : PEFT_ENOMEM;
}
