/* Checkpoints: a folder with state.safetensors (weights, optimizer states) and
 * trainer.json (position, and what must be the same to go on).  Random numbers
 * are functions of the position, so no generator state is kept.  Resuming
 * gives the bits of an uninterrupted run.  trainer_keep does the same in memory. */
#include <math.h>
#include <stdio.h>

#include "train/train.h"

/* The tensors of a trained parameter: its values, and the parts of its states. */
enum { KINDS = 1 + 2 * STATES };
static const char *const kinds[KINDS] = { "weight", "state0", "scale0", "state1", "scale1" };

/* Its memory, elements and type; NULL where the storage has no such part. */
static void *kind_at(const struct trainer *t, const struct trained *p, int kind, int64_t *n,
                     const struct qtype **type)
{
    int k = (kind - 1) / 2, part = (kind - 1) % 2;
    const struct storage_part *s = kind ? &p->storage->part[part] : NULL;
    *n = s ? storage_count(s, p->n) : p->n;
    *type = s && s->type ? qtype_by_name(s->type) : &qtype_f32;
    if (!s) return p->p->own;
    return s->type && k < t->optimizer->states ? state_part(t, p, k, part) : NULL;
}

/* What must agree between the run that saved and the one that resumes. */
static int64_t fingerprint(const struct trainer *t, int i)
{
    switch (i) {
    case 0: return t->d->n;
    case 1: return t->n_list;
    case 2: return t->n_floats;
    case 3: return t->o.batch;
    case 4: return t->o.accumulate;
    case 5: return (int64_t)(t->o.seed & INT64_C(0xfffffffffffff));
    case 6: return t->steps;
    case 7: return t->o.packing;
    case 8: return t->o.no_shuffle;
    case 9: return t->whole;
    case 10: return compute_half(&t->m->compute) ? 16 : 32;
    case 11: return t->storage->bits;
    default: return -1;
    }
}
static const char *const fingerprint_names[] = { "rows", "tensors", "floats", "batch", "accumulate",
    "seed", "steps", "packing", "no_shuffle", "max_tokens",
    "compute_bits", "state_bits" };

static int put_json(const struct trainer *t, const char *path)
{
    int busy = t->stage != STAGE_IDLE, rc;
    struct buf b;
    buf_init(&b, &t->m->host.mem);
    buf_printf(&b,
               "{\n  \"version\": 1,\n  \"step\": %lld,\n  \"epoch\": %lld,\n  \"index\": %lld,\n"
               "  \"tokens_seen\": %lld,\n  \"terms_seen\": %lld",
               (long long)t->step, (long long)(busy ? t->epoch0 : t->epoch),
               (long long)div_up(busy ? t->index0 : t->index, t->how.parts),
               (long long)t->tokens_seen,
               (long long)t->terms_seen);
    if (t->anchor.d) {
        buf_puts(&b, ",\n  \"anchor_weight\": ");
        buf_real(&b, t->anchor.weight);
        buf_puts(&b, ",\n  \"drift\": ");
        buf_real(&b, t->anchor.smooth);
    }
    for (int i = 0; i < (int)ARRAY_LEN(fingerprint_names); i++)
        buf_printf(&b, ",\n  \"%s\": %lld", fingerprint_names[i], (long long)fingerprint(t, i));
    buf_puts(&b, "\n}\n");
    rc = buf_check(&b);
    if (!rc) rc = file_write(&t->m->host, path, b.data, b.n);
    buf_free(&b);
    return rc;
}

/* Modules whose method keeps something while it trains: its index is part of that. */
static struct adapted *indexed(const struct trainer *t, int64_t i)
{
    for (struct adapter *a = t->m->adapters; a; a = a->next) {
        if (!a->enabled || !a->method->states) continue;
        if (i < a->n_sites) return &a->sites[i];
        i -= a->n_sites;
    }
    return NULL;
}

static int put_own(const struct trainer *t, struct arena *a, struct store_out *out, int64_t *n)
{
    struct adapted *d;
    char name[300];
    float *x;
    for (int64_t i = 0; i < t->n_list; i++) {
        const struct param *p = t->list[i].p;
        if (!p->states) continue;
        int len = snprintf(name, sizeof(name), "own.%lld.%s", (long long)i, p->name);
        out[*n] = (struct store_out){ .name = arena_strndup(a, name, len), .type = &qtype_f32,
                                      .n_dims = 2, .dims = { p->states, param_len(p) },
                                      .data = p->state };
        if (!out[(*n)++].name) return PEFT_ENOMEM;
    }
    for (int64_t i = 0; (d = indexed(t, i)); i++) {
        int len = snprintf(name, sizeof(name), "index.%lld.%s", (long long)i, d->site->name);
        char *kept = arena_strndup(a, name, len);
        if (!kept || !(x = arena_alloc(a, d->rank * 4))) return PEFT_ENOMEM;
        for (int32_t k = 0; k < d->rank; k++) x[k] = (float)d->index[k];
        out[(*n)++] = (struct store_out){ .name = kept, .type = &qtype_f32, .n_dims = 1,
                                          .dims = { d->rank }, .data = x };
    }
    return PEFT_OK;
}

static int put_state(const struct trainer *t, const char *path)
{
    struct arena a;
    int rc = PEFT_OK;
    arena_init(&a, &t->m->host.mem);
    int64_t n = 0, most = t->n_list * (KINDS + 1);
    while (indexed(t, n)) n++;
    struct store_out *out = arena_alloc(&a, (most + n) * (int64_t)sizeof(*out));
    n = 0;
    if (!out) rc = PEFT_ENOMEM;
    for (int64_t i = 0; i < t->n_list && !rc; i++)
        for (int k = 0; k < KINDS && !rc; k++) {
            char name[300];
            const struct trained *p = &t->list[i];
            const struct qtype *type;
            int64_t count;
            const void *at = kind_at(t, p, k, &count, &type);
            if (!at) continue;
            int len =
                snprintf(name, sizeof(name), "%s.%lld.%s", kinds[k], (long long)i, p->p->name);
            char *kept = arena_strndup(&a, name, len);
            out[n++] = (struct store_out){ .name = kept, .type = type, .n_dims = 1,
                                           .dims = { count }, .data = at };
            if (!kept) rc = PEFT_ENOMEM;
        }
    if (!rc) rc = put_own(t, &a, out, &n);
    if (!rc) rc = safetensors_write(&t->m->host, path, out, n, NULL, 0);
    arena_free(&a);
    return rc;
}

static int in_dir(struct host *h, const char *dir, const char *name, const struct trainer *t,
                  int (*put)(const struct trainer *, const char *))
{
    char *path;
    int rc = path_join(h, dir, name, &path);
    if (rc) return rc;
    rc = put(t, path);
    mem_free(&h->mem, path);
    return rc;
}

int trainer_save(struct trainer *t, const char *dir)
{
    struct host *h = &t->m->host;
    char *tmp;
    int rc = trainer_prepare(t);
    if (!rc) rc = dir_begin(h, dir, &tmp);
    if (rc) return rc;
    rc = in_dir(h, tmp, "state.safetensors", t, put_state);
    if (!rc) rc = in_dir(h, tmp, "trainer.json", t, put_json);
    if (rc) dir_abort(h, tmp);
    else rc = dir_commit(h, dir, tmp);
    return rc;
}

/* --- reading */

struct position { int64_t step, epoch, index, tokens_seen, terms_seen; double weight, drift; };

/* Batches of an epoch, in which a checkpoint counts: a memory limit may cut them into parts. */
static int64_t count_batches(const struct trainer *t, int64_t epoch)
{
    return div_up(batcher_count(t->batcher, epoch), t->how.parts);
}

/* A step that was not made must not be skipped, and an epoch beyond the run
 * would have batches that nothing was planned for. */
static int check_position(const struct trainer *t, const struct position *p)
{
    int64_t before = 0, of_epoch, each = t->o.accumulate;
    int ok = p->step <= t->steps && p->epoch <= p->step && p->epoch < t->epochs;
    for (int64_t e = 0; ok && e < p->epoch; e += of_epoch) {
        of_epoch = t->o.packing ? 1 : p->epoch;       /* without packing all are alike */
        before += of_epoch * div_up(count_batches(t, e), each);
    }
    int64_t batches = ok ? count_batches(t, p->epoch) : 0;
    ok = ok && p->index <= batches && (p->index % each == 0 || p->index == batches);
    if (ok && before + div_up(p->index, each) == p->step) return PEFT_OK;
    return fail(PEFT_EFORMAT, "trainer.json: step %lld, epoch %lld, index %lld is no place in this "
                "run", (long long)p->step, (long long)p->epoch, (long long)p->index);
}

static int read_json(const struct trainer *t, const char *path, struct position *p)
{
    struct file_view v;
    json *j = NULL;
    struct { const char *name; int64_t *to; } fields[] = {
        { "step", &p->step }, { "epoch", &p->epoch }, { "index", &p->index },
        { "tokens_seen", &p->tokens_seen }, { "terms_seen", &p->terms_seen }
    };
    int rc = file_open_view(&t->m->host, path, false, &v);
    if (rc) return rc;
    rc = json_parse((const char *)v.data, v.n, "trainer.json", &j);
    file_close_view(&t->m->host, &v);
    for (size_t i = 0; i < ARRAY_LEN(fields) && !rc; i++) {
        rc = json_int(j, fields[i].name, 0, INT64_C(1) << 53, fields[i].to);
        rc = rc == 1 ? 0 : rc ? rc : fail(PEFT_EFORMAT, "trainer.json has no %s", fields[i].name);
    }
    for (int i = 0; i < (int)ARRAY_LEN(fingerprint_names) && !rc; i++) {
        int64_t found = -1;
        rc = json_int(j, fingerprint_names[i], 0, INT64_C(1) << 53, &found);
        if (rc >= 0 && found != fingerprint(t, i))
            rc = fail(PEFT_ESTATE, "the checkpoint was made with %s %lld, this run has %lld",
                      fingerprint_names[i], (long long)found, (long long)fingerprint(t, i));
        rc = MIN(rc, 0);
    }
    p->weight = rc ? 0 : json_number(json_get(j, "anchor_weight"), 0);
    p->drift = rc ? 0 : json_number(json_get(j, "drift"), -1);
    if (!rc && t->anchor.d && !(p->weight > 0 && p->weight < 1e10 && p->drift >= 0))
        rc = fail(PEFT_ESTATE, "the checkpoint was made without an anchor, this run has one");
    if (!rc) rc = check_position(t, p);
    json_free(j);
    return rc;
}

/* NULL with a message when it is not there. */
static const void *find_data(const struct store *s, const char *name, const struct qtype *type,
                             int64_t n)
{
    const struct store_tensor *x = store_find(s, name);
    if (x && x->type == type && x->count == n) return x->data;
    fail(PEFT_EFORMAT, "the checkpoint has no tensor %s of %lld numbers of type %s", name,
         (long long)n, type->name);
    return NULL;
}

static const float *find_floats(const struct store *s, const char *name, int64_t n)
{
    return find_data(s, name, &qtype_f32, n);
}

static int read_own(struct trainer *t, const struct store *s, int copy)
{
    struct adapted *d;
    const float *x;
    char name[300];
    for (int64_t i = 0; i < t->n_list; i++) {
        const struct param *p = t->list[i].p;
        int64_t n = p->states * param_len(p);
        snprintf(name, sizeof(name), "own.%lld.%s", (long long)i, p->name);
        if (!n) continue;
        if (!(x = find_floats(s, name, n))) return PEFT_EFORMAT;
        if (copy) memcpy(p->state, x, (size_t)n * 4);
    }
    for (int64_t i = 0; (d = indexed(t, i)); i++) {
        snprintf(name, sizeof(name), "index.%lld.%s", (long long)i, d->site->name);
        if (!(x = find_floats(s, name, d->rank))) return PEFT_EFORMAT;
        for (int32_t k = 0; k < d->rank && copy; k++) d->index[k] = x[k] != 0;
    }
    return PEFT_OK;
}

/* The change was ours: what is kept of the frozen part stays. */
static void weights_set(struct trainer *t)
{
    t->m->edits++;
    t->prefix.edits = t->m->edits;
}

static int read_state(struct trainer *t, const struct store *s, int copy)
{
    for (int64_t i = 0; i < t->n_list; i++)
        for (int k = 0; k < KINDS; k++) {
            char name[300];
            const struct trained *p = &t->list[i];
            const struct qtype *type;
            int64_t n;
            void *at = kind_at(t, p, k, &n, &type);
            if (!at) continue;
            snprintf(name, sizeof(name), "%s.%lld.%s", kinds[k], (long long)i, p->p->name);
            const void *x = find_data(s, name, type, n);
            if (!x) return PEFT_EFORMAT;
            if (copy) memcpy(at, x, (size_t)(n * type->bytes));
        }
    weights_set(t);
    return read_own(t, s, copy);
}

static int check_idle(const struct trainer *t)
{
    if (t->stage == STAGE_IDLE) return PEFT_OK;
    return fail(PEFT_ESTATE, "a step is in flight, expected none");
}

static int resume(struct trainer *t, const char *dir)
{
    struct host *h = &t->m->host;
    struct store *s = NULL;
    struct position p = { 0 };
    char *path;
    int rc = check_idle(t);
    if (!rc) rc = path_join(h, dir, "trainer.json", &path);
    if (rc) return rc;
    rc = read_json(t, path, &p);
    mem_free(&h->mem, path);
    if (!rc) rc = trainer_prepare(t);
    if (!rc) rc = path_join(h, dir, "state.safetensors", &path);
    if (rc) return rc;
    rc = store_open_safetensors(h, path, true, &s);
    mem_free(&h->mem, path);
    if (!rc) rc = read_state(t, s, 0);                /* all of it is there */
    if (!rc) rc = read_state(t, s, 1);
    store_close(s);
    if (rc) return rc;
    t->step = p.step;
    t->epoch = p.epoch;
    t->index = MIN(p.index * t->how.parts, batcher_count(t->batcher, p.epoch));
    t->tokens_seen = p.tokens_seen;
    t->terms_seen = p.terms_seen;
    const int64_t batches = batcher_count(t->batcher, t->epoch);
    card_step(t, &(peft_step){ .step = t->step, .loss = NAN,
                               .epoch = (double)t->epoch + (double)t->index / (double)batches });
    if (t->anchor.d) t->anchor.weight = p.weight, t->anchor.smooth = p.drift;
    return PEFT_OK;
}

int trainer_resume(struct trainer *t, const char *dir)
{
    return fail_path(resume(t, dir), dir);
}

/* --- in memory */

struct state_copy { char *kept; int64_t n; int back; };        /* kept NULL: bytes are counted */

static void copy_stretch(struct state_copy *w, void *at, int64_t n)
{
    char *kept = w->kept ? w->kept + w->n : NULL;
    if (kept && n) memcpy(w->back ? at : kept, w->back ? kept : at, (size_t)n);
    w->n += n;
}

/* All that steps change. */
static int64_t copy_all(struct trainer *t, char *kept, int back)
{
    struct state_copy w = { kept, 0, back };
    const struct qtype *type;
    struct adapted *d;
    int64_t *position[] = { &t->step, &t->epoch, &t->index, &t->tokens_seen, &t->terms_seen }, n;
    for (size_t i = 0; i < ARRAY_LEN(position); i++) copy_stretch(&w, position[i], sizeof(int64_t));
    copy_stretch(&w, &t->anchor.weight, sizeof(double));
    copy_stretch(&w, &t->anchor.smooth, sizeof(double));
    for (int64_t i = 0; i < t->n_list; i++) {
        struct param *p = t->list[i].p;
        for (int k = 0; k < KINDS; k++) {
            void *at = kind_at(t, &t->list[i], k, &n, &type);
            if (at) copy_stretch(&w, at, n * type->bytes);
        }
        copy_stretch(&w, p->state, p->states * param_len(p) * 4);
    }
    for (int64_t i = 0; (d = indexed(t, i)); i++) copy_stretch(&w, d->index, d->rank * 4);
    for (struct adapter *a = t->m->adapters; a; a = a->next)
        if (a->card) copy_stretch(&w, a->card, sizeof(*a->card));
    return w.n;
}

int trainer_keep(struct trainer *t)
{
    struct mem *mem = &t->m->host.mem;
    int rc = check_idle(t);
    if (!rc) rc = trainer_prepare(t);
    for (struct adapter *a = t->m->adapters; a && !rc; a = a->next)
        if (!a->card && !(a->card = arena_alloc(&a->arena, sizeof(*a->card)))) rc = PEFT_ENOMEM;
    if (rc) return rc;
    int64_t n = copy_all(t, NULL, 0);
    char *kept = n == t->n_kept ? t->kept : mem_alloc(mem, n);
    if (!kept) return PEFT_ENOMEM;
    if (kept != t->kept) mem_free(mem, t->kept);
    t->kept = kept;
    t->n_kept = n;
    copy_all(t, kept, 0);
    return PEFT_OK;
}

int trainer_back(struct trainer *t)
{
    int rc = check_idle(t);
    if (rc) return rc;
    if (!t->kept || copy_all(t, NULL, 0) != t->n_kept)
        return fail(PEFT_ESTATE, "nothing was kept of what trains now, expected "
                    "peft_trainer_keep before");
    copy_all(t, t->kept, 1);
    weights_set(t);
    return PEFT_OK;
}
