/* What lies below the cut: found, computed in groups, kept, and taken again. */
#include <stdio.h>

#include "train/train.h"

/* Where a text of a batch has its rows: in which stack's values, and from which
 * row on in those that were just computed. */
struct kept_piece { int32_t stack; int64_t n, first; };

/* --- the cut */

static int at_features(const struct prefix *x)
{
    return !x->layer[STACK_MAIN] && !x->layer[STACK_ENCODER];
}

/* A layer of the stack must lie below: embeddings are looked up as fast as values
 * that are kept. */
static int64_t cut_of(const struct pass *p, int which)
{
    int64_t at = p->still[which];
    return at > p->m->stack[which].first ? at : 0;
}

void prefix_find(struct prefix *x, const struct pass *p, const struct tensor *features)
{
    const struct model *m = p->m;
    x->on = 0;
    x->why = "";
    memset(x->layer, 0, sizeof(x->layer));
    if (!features) return;
    x->width = m->hp.embed;
    if (features->needs_grad || p->dropouts) {
        for (int k = 0; k < STACKS; k++) x->layer[k] = p->stream[k].n ? cut_of(p, k) : 0;
        x->width = m->hp.dim;
        if (at_features(x)) {
            const struct site *embed = m->global[SLOT_EMBED];
            if (p->drawn) x->why = "dropout acts below what trains";
            else if (embed && embed->w->trainable) x->why = "the embedding trains";
            return;
        }
        if (model_virtual(m)) {
            x->why = "virtual tokens stand before the texts";
            return;
        }
    }
    x->on = 1;
}

struct tensor *prefix_cut(const struct prefix *x, struct pass *p, const struct batch *b,
                          const float *values)
{
    int64_t rows = per_rows(x->objective->per, b->n, b->n_target, b->n_seq);
    if (at_features(x))
        return graph_leaf(p->g, "features", &qtype_f32, rows, x->width, values, NULL);
    for (int k = STACKS - 1; k >= 0; k--) {         /* the encoder's come first */
        p->cut[k] = (struct cut){ x->layer[k], values };
        if (x->layer[k] && values) values += p->stream[k].n * x->width;
    }
    struct tensor *y = x->objective->features(p, b);
    memset(p->cut, 0, sizeof(p->cut));
    return y;
}

void prefix_below(struct prefix *x, struct pass *p, const struct batch *b)
{
    memset(x->below, 0, sizeof(x->below));
    if (at_features(x)) x->below[STACK_MAIN] = x->objective->features(p, b);
    for (int k = STACKS - 1; k >= 0; k--)
        if (x->layer[k]) x->below[k] = model_below(p, k, x->layer[k]);
    for (int k = 0; k < STACKS; k++) graph_keep(x->below[k]);
}

/* --- tables */

int64_t prefix_gather_rows(const struct prefix *x, const struct batch_size *s)
{
    const struct model *m = x->m;
    int two = m->stack[STACK_ENCODER].end > 0;
    if (at_features(x)) return per_rows(x->objective->per, s->tokens, s->targets, s->seqs);
    if (!two) return s->tokens;
    return (x->layer[STACK_ENCODER] ? s->first : 0) + (x->layer[STACK_MAIN] ? s->others : 0);
}

static void cut_groups(struct kept_rows *k, const struct batcher *b, struct batch_size *room)
{
    struct batch_size now = { 0 };
    k->n_groups = 0;
    for (int64_t i = 0; i < k->n; i++) {
        struct batch_size with = now;
        batcher_add_size(b, i, &with);
        if (!i || with.tokens > GROUP_TOKENS || with.seqs > GROUP_ROWS * k->d->texts) {
            k->first[k->n_groups++] = i;
            with = (struct batch_size){ 0 };
            batcher_add_size(b, i, &with);
        }
        k->group[i] = (int32_t)(k->n_groups - 1);
        now = with;
        batch_size_max(room, &now);
    }
    k->first[k->n_groups] = k->n;
}

static void rows_free(struct prefix *x, struct kept_rows *k)
{
    struct mem *mem = &x->m->host.mem;
    void *const parts[] = { k->first, k->group, k->at,   k->in_file, k->state,
                            k->digest, k->data, k->list, k->piece };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) mem_free(mem, parts[i]);
    batcher_free(k->batcher);
    *k = (struct kept_rows){ 0 };
}

static int rows_alloc(struct prefix *x, struct kept_rows *k)
{
    struct mem *mem = &x->m->host.mem;
    k->first = mem_array(mem, k->n + 1, 8);
    k->group = mem_array(mem, k->n, 4);
    k->at = mem_array(mem, k->n + 1, 8);
    k->state = mem_array(mem, k->n, 1);
    if (x->path) k->in_file = mem_array(mem, k->n, 8);
    int ok = k->first && k->group && k->at && k->state && (k->in_file || !x->path);
    return ok ? PEFT_OK : PEFT_ENOMEM;
}

int prefix_rows(struct prefix *x, const struct dataset *d, const struct batch_size *most,
                int64_t bytes, struct kept_rows *k)
{
    struct mem *mem = &x->m->host.mem;
    struct batcher *b = NULL;
    rows_free(x, k);
    k->d = d;
    k->n = d->n;
    int rc = rows_alloc(x, k);
    if (!rc) rc = batcher_new(d, &(struct batch_opts){ .batch = 1 }, &b);
    if (rc) return rc;
    cut_groups(k, b, &k->room);
    for (int64_t i = 0; i < k->n; i++) {
        struct batch_size one = { 0 };
        batcher_add_size(b, i, &one);
        k->at[i + 1] = k->at[i] + prefix_gather_rows(x, &one) * x->width;
        if (k->at[i + 1] <= bytes / 4) k->cap = k->at[i + 1];
        else if (!x->path) k->state[i] = KEPT_NOT;
    }
    batcher_free(b);
    if (k->at[k->n] > k->cap) batch_size_max(&k->room, most);
    k->list = mem_array(mem, MAX(k->room.seqs, most->seqs), 4);
    k->piece = mem_array(mem, MAX(k->room.seqs, most->seqs), sizeof(*k->piece));
    struct batch_size room = k->room;
    batch_size_max(&room, most);
    if (!k->list || !k->piece) return PEFT_ENOMEM;
    rc = batcher_new(d, &(struct batch_opts){ .batch = 1, .room = &room }, &k->batcher);
    if (!rc) k->serial = d->serial;
    return rc;
}

/* The tables are there already. */
int64_t prefix_bytes(const struct prefix *x, const struct batch_size *most)
{
    return x->on ? (x->train.cap + prefix_gather_rows(x, most) * x->width) * 4 : 0;
}

static void digest_example(struct sha256 *s, const struct prefix *x, const struct kept_rows *k,
                           int64_t i)
{
    const struct example *e = &k->d->rows[i];
    int32_t head[4] = { e->n, e->second, k->d->texts, (int32_t)k->d->task };
    sha256_add(s, head, sizeof(head));
    if (e->ends) sha256_add(s, e->ends, k->d->texts * 4);
    if (e->ids) sha256_add(s, e->ids, (int64_t)e->n * 4);
    if (e->pixels) sha256_add(s, e->pixels, picture_bytes(k->d->vision));
    /* They say which rows are features. */
    if (at_features(x) && x->objective->per == PER_TARGET && e->labels)
        sha256_add(s, e->labels, (int64_t)e->n * 4);
}

static int digest_groups(struct prefix *x, struct kept_rows *k)
{
    struct sha256 s;
    if (!(k->digest = mem_array(&x->m->host.mem, k->n_groups, SHA256_BYTES))) return PEFT_ENOMEM;
    for (int64_t g = 0; g < k->n_groups; g++) {
        sha256_begin(&s);
        for (int64_t i = k->first[g]; i < k->first[g + 1]; i++) digest_example(&s, x, k, i);
        sha256_end(&s, k->digest + g * SHA256_BYTES);
    }
    return PEFT_OK;
}

/* Pictures that are read anew for each batch may change. */
static int has_all(const struct dataset *d)
{
    for (int64_t i = 0; i < d->n; i++)
        if (!d->rows[i].ids && !d->rows[i].pixels) return 0;
    return 1;
}

static void without_file(struct kept_rows *k)
{
    for (int64_t i = 0; i < k->n; i++)
        if (k->at[i + 1] > k->cap && k->state[i] == KEPT_ABSENT) k->state[i] = KEPT_NOT;
}

static int reserve_spare(struct prefix *x, const struct kept_rows *k)
{
    int64_t n = 0;
    for (int64_t i = 0; i < k->n; i++)
        if (k->at[i + 1] > k->cap) n = MAX(n, k->at[i + 1] - k->at[i]);
    if (n <= x->spare_n) return PEFT_OK;
    mem_free(&x->m->host.mem, x->spare);
    x->spare = mem_alloc(&x->m->host.mem, n * 4);
    x->spare_n = x->spare ? n : 0;
    return x->spare ? PEFT_OK : PEFT_ENOMEM;
}

int prefix_begin(struct prefix *x, struct kept_rows *k)
{
    int rc = PEFT_OK;
    if (!x->begun) {
        if (x->path && (rc = kept_file_open(x, &x->file))) return rc;
        x->edits = x->m->edits;
        x->begun = 1;
    }
    if (k->data) return PEFT_OK;
    if (x->file && has_all(k->d)) {
        rc = reserve_spare(x, k);
        if (!rc) rc = digest_groups(x, k);
        if (!rc) rc = kept_file_find(x, k);
    } else {
        without_file(k);
    }
    if (!rc && !(k->data = mem_alloc(&x->m->host.mem, k->cap * 4))) rc = PEFT_ENOMEM;
    return rc;
}

static void forget(struct kept_rows *k)
{
    for (int64_t i = 0; i < k->n; i++)
        k->state[i] = k->at[i + 1] <= k->cap ? KEPT_ABSENT : KEPT_NOT;
}

void prefix_check(struct prefix *x)
{
    if (!x->begun || x->edits == x->m->edits) return;
    kept_file_close(x->file);
    x->file = NULL;
    forget(&x->train);
    forget(&x->eval);
    x->edits = x->m->edits;
}

/* --- rows of a batch */

/* Fills k->piece; the sequences are the first text of every example, then the second of
 * every example. */
static void lay_out(const struct prefix *x, struct kept_rows *k, const struct batch *b)
{
    int64_t next[STACKS] = { 0 }, target = 0;
    int two = x->m->stack[STACK_ENCODER].end > 0, features = at_features(x);
    for (int64_t s = 0; s < b->n_seq; s++) {
        struct kept_piece *y = &k->piece[s];
        int64_t n = b->start[s + 1] - b->start[s];
        y->stack = two && !features && s < b->n_rows ? STACK_ENCODER : STACK_MAIN;
        if (!features) y->n = x->layer[y->stack] ? n : 0;
        else if (x->objective->per == PER_TEXT) y->n = 1;
        else if (x->objective->per == PER_TOKEN) y->n = n;
        else
            for (y->n = 0; target < b->n_target && b->rows[target] < b->start[s + 1]; target++)
                y->n++;
        y->first = next[y->stack];
        next[y->stack] += y->n;
    }
}

int64_t prefix_next(struct prefix *x, const struct kept_rows *k, const int32_t *rows, int64_t n,
                    int rest)
{
    int64_t job = PREFIX_READY;
    for (int64_t i = 0; i < n; i++) {
        int state = k->state[rows[i]];
        if (state == KEPT_ABSENT) return k->group[rows[i]];
        if (state == KEPT_NOT && !rest) job = PREFIX_REST;
    }
    if (job == PREFIX_READY) x->used += n;
    return job;
}

const struct batch *prefix_batch(struct kept_rows *k, int64_t job, const int32_t *rows, int64_t n)
{
    int64_t count = 0;
    if (job == PREFIX_REST) {
        for (int64_t i = 0; i < n; i++)
            if (k->state[rows[i]] == KEPT_NOT) k->list[count++] = rows[i];
    } else {
        for (int64_t i = k->first[job]; i < k->first[job + 1]; i++) k->list[count++] = (int32_t)i;
    }
    return k->batch = batcher_take(k->batcher, k->list, count);
}

static void put_away(struct prefix *x, struct kept_rows *k, int64_t example, const float *values)
{
    int64_t n = k->at[example + 1] - k->at[example], place = -1;
    int fits = k->at[example + 1] <= k->cap;
    /* Values that are not finite are not worth keeping, and a file with such is broken. */
    if (!x->m->compute.k->finite(values, n)) {
        k->state[example] = KEPT_NOT;
        return;
    }
    if (x->file && k->digest) place = kept_file_put(x, k, example, values);
    if (place >= 0) k->in_file[example] = place;
    k->state[example] = fits ? KEPT_MEMORY : place >= 0 ? KEPT_FILE : KEPT_NOT;
    if (fits && values != k->data + k->at[example])
        memcpy(k->data + k->at[example], values, (size_t)n * 4);
}

/* Room for one example that has none of its own; it is put in order there. */
static float *room_of(const struct prefix *x, struct kept_rows *k, int64_t example)
{
    return k->at[example + 1] <= k->cap ? k->data + k->at[example] : x->spare;
}

void prefix_store(struct prefix *x, struct kept_rows *k, int64_t job)
{
    const struct batch *b = k->batch;
    x->made += b->n_rows;
    if (job == PREFIX_REST) return;
    lay_out(x, k, b);
    for (int64_t r = 0; r < b->n_rows; r++) {
        int64_t e = b->example[r];
        if (k->state[e] != KEPT_ABSENT) continue;
        float *block = room_of(x, k, e), *to = block;
        for (int64_t s = r; s < b->n_seq; s += b->n_rows) {
            const struct kept_piece *y = &k->piece[s];
            if (!y->n) continue;
            memcpy(to, tensor_f32(x->below[y->stack]) + y->first * x->width,
                   (size_t)(y->n * x->width) * 4);
            to += y->n * x->width;
        }
        put_away(x, k, e, block);
    }
}

/* An example's values in order; NULL = the file lacks them. */
static const float *values_of(struct prefix *x, struct kept_rows *k, int64_t e)
{
    float *block = room_of(x, k, e);
    if (k->state[e] == KEPT_MEMORY) return block;
    if (kept_file_get(x, k, e, block)) {
        if (block != x->spare) k->state[e] = KEPT_MEMORY;
        return block;
    }
    k->state[e] = k->at[e + 1] <= k->cap || x->file ? KEPT_ABSENT : KEPT_NOT;
    return NULL;
}

int prefix_gather(struct prefix *x, struct kept_rows *k, const struct batch *b, float *to)
{
    float *of[STACKS];
    int64_t rest[STACKS] = { 0 }, all[STACKS] = { 0 };
    lay_out(x, k, b);
    for (int64_t s = 0; s < b->n_seq; s++) all[k->piece[s].stack] += k->piece[s].n;
    of[STACK_ENCODER] = to;
    of[STACK_MAIN] = to + all[STACK_ENCODER] * x->width;
    for (int64_t s = 0; s < b->n_seq; s++) {        /* what was computed for this batch */
        const struct kept_piece *y = &k->piece[s];
        if (k->state[b->example[s % b->n_rows]] != KEPT_NOT || !y->n) continue;
        memcpy(of[y->stack] + y->first * x->width,
               tensor_f32(x->below[y->stack]) + rest[y->stack] * x->width,
               (size_t)(y->n * x->width) * 4);
        rest[y->stack] += y->n;
    }
    for (int64_t r = 0; r < b->n_rows; r++) {
        if (k->state[b->example[r]] == KEPT_NOT) continue;
        const float *from = values_of(x, k, b->example[r]);
        if (!from) return 0;
        for (int64_t s = r; s < b->n_seq; s += b->n_rows) {
            const struct kept_piece *y = &k->piece[s];
            if (!y->n) continue;
            memcpy(of[y->stack] + y->first * x->width, from, (size_t)(y->n * x->width) * 4);
            from += y->n * x->width;
        }
    }
    return 1;
}

/* --- evaluation */

/* At most a quarter of what the training data takes, so that the plan can tell. */
int64_t prefix_eval_bytes(const struct prefix *x)
{
    int64_t all = x->train.cap * 4;
    return x->on ? MAX(0, MIN(x->limit - all, all / 4)) : 0;
}

struct kept_rows *prefix_eval(struct prefix *x, const struct dataset *d,
                              const struct objective *o, const struct batch_size *most, int *rc)
{
    *rc = PEFT_OK;
    if (!x || !x->on || x->busy || d->masks || d->host != &x->m->host) return NULL;
    if (at_features(x) && (o->features != x->objective->features || o->per != x->objective->per))
        return NULL;
    prefix_check(x);
    struct kept_rows *k = d->serial == x->train.serial ? &x->train : &x->eval;
    if (k->serial != d->serial) *rc = prefix_rows(x, d, most, prefix_eval_bytes(x), k);
    if (!*rc) *rc = prefix_begin(x, k);
    if (*rc) rows_free(x, &x->eval);
    return *rc ? NULL : k;
}

/* --- looking */

static void say_what(const struct prefix *x, char *to, size_t cap)
{
    const struct stack *main = &x->m->stack[STACK_MAIN], *enc = &x->m->stack[STACK_ENCODER];
    int64_t a = x->layer[STACK_ENCODER], b = x->layer[STACK_MAIN];
    char encoder[32] = "", decoder[40] = "";
    if (at_features(x)) {
        snprintf(to, cap, "what the head reads");
        return;
    }
    if (a > enc->end) snprintf(encoder, sizeof(encoder), "the encoder");
    else if (a) snprintf(encoder, sizeof(encoder), "%d encoder layers", (int)(a - enc->first));
    if (b) snprintf(decoder, sizeof(decoder), "%d layers",
                    (int)(MIN(b, main->end) - main->first));
    snprintf(to, cap, "the output of %s%s%s", encoder, a && b ? " and " : "", decoder);
}

void prefix_info(const struct prefix *x, peft_cache *out)
{
    const struct kept_rows *k = &x->train;
    out->why = x->on ? "" : x->why;
    if (!x->on) return;
    say_what(x, out->what, sizeof(out->what));
    out->rows = k->n;
    out->bytes = k->at[k->n] * 4;
    out->memory = k->cap * 4;
    for (int64_t i = 0; i < k->n; i++)
        out->kept += k->state[i] == KEPT_MEMORY || k->state[i] == KEPT_FILE;
    out->file = x->file ? kept_file_bytes(x->file) : 0;
    out->used = x->used;
    out->made = x->made;
}

void prefix_free(struct prefix *x)
{
    if (!x->m) return;
    kept_file_close(x->file);
    rows_free(x, &x->train);
    rows_free(x, &x->eval);
    mem_free(&x->m->host.mem, x->gather);
    mem_free(&x->m->host.mem, x->spare);
}
