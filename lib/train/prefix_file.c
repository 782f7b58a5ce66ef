/* The file of a cache, so that later runs begin with what this one has computed.
 *
 *     0   8  "PEFTKEPT"
 *     8   4  version of this layout, 1
 *    12   4  floats of a row
 *    16  32  SHA-256 of all that the values depend on besides the examples
 *    48      records
 * and a record, all numbers little-endian:
 *     0  32  SHA-256 of the group's examples
 *    32   4  which of them
 *    36   4  0
 *    40   8  rows
 *    48   8  checksum of the 48 bytes before and the values
 *    56      values [rows, width] float32
 *
 * Records are only ever appended, by the one process that made the file: what a
 * kill tears off fails its checksum and ends the file.  A process that finds a
 * file lacking something, or made for other weights, writes one of its own beside
 * it and puts that in its place; others go on with theirs, which has no name then. */
#include <stdio.h>

#include "kernel/tile.h"
#include "train/train.h"

enum { HEADER = 48, RECORD = 56, LAYOUT = 1 };
static const char magic[] = "PEFTKEPT";

struct kept_file {
    struct host *host;
    const char *path;
    char *tmp;                      /* while it is not at `path` */
    void *in, *out;                 /* `in` NULL: nothing can be read */
    int64_t end, limit;             /* bytes written, or read; the most to be written, 0 = any */
    int64_t width;
    uint8_t header[HEADER];
    int broken;                     /* writing has failed */
};

/* Eight bytes at a time, in the manner of FNV-1a with a turn: it finds accidents. */
static uint64_t checksum(uint64_t h, const uint8_t *data, int64_t n)
{
    for (int64_t i = 0; i + 8 <= n; i += 8) {
        uint64_t x;
        memcpy(&x, data + i, 8);
        h = (h ^ x) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    for (int64_t i = n / 8 * 8; i < n; i++) h = (h ^ data[i]) * 0x100000001B3u;
    return h;
}

static void put_word(uint8_t *to, uint64_t x, int n)
{
    for (int i = 0; i < n; i++) to[i] = (uint8_t)(x >> 8 * i);
}
static uint64_t get_word(const uint8_t *from, int n)
{
    uint64_t x = 0;
    for (int i = 0; i < n; i++) x |= (uint64_t)from[i] << 8 * i;
    return x;
}

/* --- what the values depend on */

enum { PIECE = 1 << 20 };
struct below { const uint8_t *data; int64_t n; uint8_t *digest; };

static void digest_piece(void *arg, int64_t task, int worker)
{
    const struct below *t = arg;
    struct sha256 s;
    int64_t from = task * PIECE;
    (void)worker;
    sha256_begin(&s);
    sha256_add(&s, t->data + from, MIN(PIECE, t->n - from));
    sha256_end(&s, t->digest + task * SHA256_BYTES);
}

struct context { struct model *m; struct sha256 s; int rc; };

/* The hash of the hashes of its pieces, which all threads make. */
static void add_data(struct context *c, const void *data, int64_t n)
{
    int64_t tasks = div_up(n, PIECE);
    struct below t = { data, n, mem_array(&c->m->host.mem, tasks, SHA256_BYTES) };
    if (!t.digest) {
        c->rc = PEFT_ENOMEM;
        return;
    }
    pool_run(c->m->pool, tasks, digest_piece, &t);
    sha256_add(&c->s, t.digest, tasks * SHA256_BYTES);
    mem_free(&c->m->host.mem, t.digest);
}

static void hash_text(struct context *c, const char *text)
{
    sha256_add(&c->s, text ? text : "", text ? (int64_t)strlen(text) + 1 : 1);
}

static void add_leaf(void *ctx, const struct tensor *t)
{
    struct context *c = ctx;
    int64_t shape[2] = { t->rows, t->cols };
    hash_text(c, t->name);
    hash_text(c, t->type->name);
    sha256_add(&c->s, shape, sizeof(shape));
    add_data(c, t->x, div_up(tensor_len(t), t->type->block) * t->type->bytes);
}

/* One text for each stack, of any tokens, or a picture of any pixels. */
static int make_probe(const struct prefix *x, struct arena *a, struct batch *b)
{
    const struct model *m = x->m;
    const struct vision *v = m->vision;
    int64_t texts = m->stack[STACK_ENCODER].end > 0 ? 2 : 1;
    int64_t each = v ? vision_tokens(v) : MIN(24, m->hp.room), n = each * texts;
    int32_t *ids = arena_alloc(a, n * 4), *pos = arena_alloc(a, n * 4);
    int32_t *start = arena_alloc(a, (texts + 1) * 4), *row = arena_alloc(a, 4);
    int64_t cells = v ? (n - 1) * vision_patch(v) : 0;
    float *patches = arena_alloc(a, cells * 4);
    if (!ids || !pos || !start || !row || !patches) return PEFT_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        ids[i] = (int32_t)((i * 7919 + 13) % MAX(m->hp.vocab, 1));
        pos[i] = (int32_t)(i % each);
    }
    for (int64_t i = 0; i < cells; i++) patches[i] = (float)(i * 37 % 101) / 50.0f - 1.0f;
    for (int64_t t = 0; t <= texts; t++) start[t] = (int32_t)(t * each);
    *row = (int32_t)(n - 1);
    *b = (struct batch){ .n = n, .n_rows = 1, .n_seq = texts, .ids = ids, .pos = pos,
                         .start = start, .rows = row, .target = ids, .n_target = 1, .label = ids,
                         .example = ids, .same = ids, .patches = v ? patches : NULL };
    return PEFT_OK;
}

/* What a text of its own gives tells of settings, scales, kernels and arithmetic, whatever
 * they are; and the graph that does it which weights there are. */
static int add_probe(struct prefix *x, struct context *c)
{
    struct model *m = x->m;
    struct arena a;
    struct batch b;
    arena_init(&a, &m->host.mem);
    int rc = model_graph(m);
    if (!rc) rc = make_probe(x, &a, &b);
    if (!rc) {
        struct pass p = { .m = m, .g = m->graph, .mem = m->mem, .training = 1 };
        batch_pass(&p, &b, 0);
        rc = rope_reserve(m, b.n);
        if (!rc) rc = pass_begin(&p);
        if (!rc) prefix_below(x, &p, &b);
        if (!rc) rc = graph_forward(m->graph);
    }
    if (!rc) graph_leaves(m->graph, add_leaf, c);
    for (int k = 0; k < STACKS && !rc; k++)
        if (x->below[k]) sha256_add(&c->s, x->below[k]->x, tensor_len(x->below[k]) * 4);
    arena_free(&a);
    return rc ? rc : c->rc;
}

static int make_context(struct prefix *x, uint8_t out[SHA256_BYTES])
{
    struct model *m = x->m;
    const struct hparams *hp = &m->hp;
    /* What only long texts would show. */
    const int64_t numbers[] = { LAYOUT, peft_version(), x->width, x->layer[0], x->layer[1],
                                x->objective->per, m->pool_kind, m->sentence.pool, hp->window,
                                hp->full_layers, hp->period, hp->nope_period, hp->far,
                                hp->buckets, hp->room, GROUP_TOKENS, GROUP_ROWS };
    struct context c = { .m = m };
    sha256_begin(&c.s);
    sha256_add(&c.s, numbers, sizeof(numbers));
    hash_text(&c, m->arch->name);
    hash_text(&c, m->compute.k->name);
    hash_text(&c, m->compute.tile ? m->compute.tile->name : NULL);
    hash_text(&c, m->blas ? m->blas->name : NULL);
    hash_text(&c, m->blas ? m->blas->core : NULL);
    int rc = add_probe(x, &c);
    sha256_end(&c.s, out);
    return rc;
}

/* --- reading */

static int64_t read_at(const struct kept_file *f, int64_t at, void *to, int64_t n)
{
    struct peft_io *io = &f->host->io;
    int64_t done = 0;
    while (done < n) {
        int64_t got = io->read(io->ctx, f->in, at + done, (char *)to + done, n - done);
        if (got <= 0 || got > n - done) break;
        done += got;
    }
    return done;
}

static void close_in(struct kept_file *f)
{
    if (f->in) f->host->io.close(f->host->io.ctx, f->in);
    f->in = NULL;
}

/* A file that is no cache is somebody's, and stays; an old or torn one goes. */
static int open_old(struct kept_file *f)
{
    struct peft_io *io = &f->host->io;
    uint8_t head[HEADER];
    int32_t err = 0;
    if (path_kind(f->host, f->path) == 2)
        return fail(PEFT_EARG, "%s: is a folder, expected a cache or nothing", f->path);
    if (!(f->in = io->open(io->ctx, f->path, 0, &err))) return PEFT_OK;
    int64_t n = read_at(f, 0, head, HEADER);
    if (memcmp(head, magic, (size_t)MIN(n, 8))) {
        close_in(f);
        return fail(PEFT_EFORMAT, "%s: is no cache of this library, expected one or no file",
                    f->path);
    }
    if (n == HEADER && !memcmp(head, f->header, HEADER)) f->end = io->length(io->ctx, f->in);
    else close_in(f);
    return PEFT_OK;
}

int kept_file_open(struct prefix *x, struct kept_file **out)
{
    struct mem *mem = &x->m->host.mem;
    struct kept_file *f = mem_zalloc(mem, sizeof(*f));
    if (!f) return PEFT_ENOMEM;
    *f = (struct kept_file){ .host = &x->m->host, .path = x->path, .limit = x->file_limit,
                             .width = x->width };
    memcpy(f->header, magic, 8);
    put_word(f->header + 8, LAYOUT, 4);
    put_word(f->header + 12, (uint64_t)x->width, 4);
    int rc = make_context(x, f->header + 16);
    if (!rc) rc = open_old(f);
    if (rc) {
        mem_free(mem, f);
        return rc;
    }
    *out = f;
    return PEFT_OK;
}

/* The example that a record is of, or -1. */
static int64_t example_of(const struct kept_file *f, const struct kept_rows *k,
                          const struct map *groups, const uint8_t *record)
{
    int64_t g = map_get(groups, (const char *)record, SHA256_BYTES, -1);
    int64_t which = (int64_t)get_word(record + 32, 4), rows = (int64_t)get_word(record + 40, 8);
    if (g < 0 || which >= k->first[g + 1] - k->first[g]) return -1;
    int64_t e = k->first[g] + which, n = k->at[e + 1] - k->at[e];
    return rows == n / f->width ? e : -1;
}

int kept_file_find(struct prefix *x, struct kept_rows *k)
{
    struct kept_file *f = x->file;
    struct map groups;
    uint8_t record[RECORD];
    int rc = PEFT_OK;
    int64_t at = HEADER, bytes, next;
    map_init(&groups, &x->m->host.mem);
    for (int64_t g = 0; g < k->n_groups && rc >= 0; g++)
        rc = map_add(&groups, (char *)k->digest + g * SHA256_BYTES, SHA256_BYTES, g);
    while (rc >= 0 && f->in && read_at(f, at, record, RECORD) == RECORD) {
        int64_t rows = (int64_t)get_word(record + 40, 8), e;
        if (rows < 0 || !mul_ok(rows, f->width * 4, &bytes) || !add_ok(bytes, RECORD, &bytes) ||
            !add_ok(at, bytes, &next) || next > f->end)
            break;
        if ((e = example_of(f, k, &groups, record)) >= 0) {
            k->in_file[e] = at;
            if (k->state[e] == KEPT_ABSENT) k->state[e] = KEPT_FILE;
        }
        at = next;
    }
    map_free(&groups);
    return MIN(rc, PEFT_OK);
}

static void make_record(const struct kept_rows *k, int64_t e, int64_t width, const float *values,
                        uint8_t to[RECORD])
{
    int64_t g = k->group[e], n = k->at[e + 1] - k->at[e];
    memcpy(to, k->digest + g * SHA256_BYTES, SHA256_BYTES);
    put_word(to + 32, (uint64_t)(e - k->first[g]), 8);
    put_word(to + 40, (uint64_t)(n / width), 8);
    put_word(to + 48, checksum(checksum(0, to, 48), (const uint8_t *)values, n * 4), 8);
}

int kept_file_get(struct prefix *x, const struct kept_rows *k, int64_t e, float *to)
{
    const struct kept_file *f = x->file;
    uint8_t record[RECORD], expected[RECORD];
    int64_t n = (k->at[e + 1] - k->at[e]) * 4;
    if (!f || !f->in || read_at(f, k->in_file[e], record, RECORD) != RECORD ||
        read_at(f, k->in_file[e] + RECORD, to, n) != n)
        return 0;
    make_record(k, e, f->width, to, expected);
    return !memcmp(record, expected, RECORD) && x->m->compute.k->finite(to, n / 4);
}

/* --- writing */

static int put_bytes(struct kept_file *f, const void *data, int64_t n)
{
    struct peft_io *io = &f->host->io;
    const char *from = data;
    for (int64_t put; n > 0 && !f->broken; from += put, n -= put)
        if ((put = io->write(io->ctx, f->out, from, n)) <= 0 || put > n) f->broken = 1;
    return !f->broken;
}

/* The old file's records of these examples go into the new one. */
static void take_rows(struct prefix *x, struct kept_rows *k, void *old)
{
    struct kept_file *f = x->file;
    void *now = f->in;
    for (int64_t e = 0; e < k->n && k->digest && k->in_file; e++) {
        int64_t n = k->at[e + 1] - k->at[e];
        uint8_t record[RECORD];
        if (!k->in_file[e]) continue;
        float *values = mem_alloc(&x->m->host.mem, MAX(n, 1) * 4);
        f->in = old;
        int there = values && kept_file_get(x, k, e, values);
        f->in = now;
        k->in_file[e] = 0;
        if (there) {
            make_record(k, e, f->width, values, record);
            if (put_bytes(f, record, RECORD) && put_bytes(f, values, n * 4)) {
                k->in_file[e] = f->end;
                f->end += RECORD + n * 4;
            }
        }
        mem_free(&x->m->host.mem, values);
        if (!k->in_file[e] && k->state[e] == KEPT_FILE) k->state[e] = KEPT_ABSENT;
    }
}

/* A file of our own, which takes the place of the other at once where the system lets
 * it while it is open, else at the end. */
static void begin_writing(struct prefix *x)
{
    struct kept_file *f = x->file;
    struct peft_io *io = &f->host->io;
    void *old = f->in;
    int32_t err = 0;
    if (!(f->tmp = path_beside(f->host, f->path, "tmp")) ||
        !(f->out = io->open(io->ctx, f->tmp, 1, &err))) {
        f->broken = 1;
        host_log(f->host, LOG_WARN, "%s: the cache cannot be written", f->path);
        return;
    }
    f->in = io->open(io->ctx, f->tmp, 0, &err);
    put_bytes(f, f->header, HEADER);
    f->end = HEADER;
    if (old) {
        take_rows(x, &x->train, old);
        take_rows(x, &x->eval, old);
        io->close(io->ctx, old);
    }
    if (io->rename(io->ctx, f->tmp, f->path) < 0) return;
    mem_free(&f->host->mem, f->tmp);
    f->tmp = NULL;
}

int64_t kept_file_put(struct prefix *x, const struct kept_rows *k, int64_t e, const float *values)
{
    struct kept_file *f = x->file;
    uint8_t record[RECORD];
    int64_t n = (k->at[e + 1] - k->at[e]) * 4, at;
    if (!f->out && !f->broken) begin_writing(x);
    if (f->broken || (f->limit && f->end + RECORD + n > f->limit)) return -1;
    make_record(k, e, f->width, values, record);
    at = f->end;
    if (!put_bytes(f, record, RECORD) || !put_bytes(f, values, n)) {
        host_log(f->host, LOG_WARN, "%s: the cache cannot be written further", f->path);
        return -1;
    }
    f->end += RECORD + n;
    return f->in ? at : -1;
}

int64_t kept_file_bytes(const struct kept_file *f) { return f->in || f->out ? f->end : 0; }

void kept_file_close(struct kept_file *f)
{
    if (!f) return;
    struct peft_io *io = &f->host->io;
    close_in(f);
    if (f->out) io->close(io->ctx, f->out);
    if (f->tmp && f->out && io->rename(io->ctx, f->tmp, f->path) < 0) io->remove(io->ctx, f->tmp);
    mem_free(&f->host->mem, f->tmp);
    mem_free(&f->host->mem, f);
}
