/* Batches of an epoch.
 *
 * An epoch is a permutation of the examples drawn from (seed, epoch).  Without
 * packing, a batch is the next `batch` examples of it.  With packing, examples
 * go in that order to the first pack with room for them (first-fit), and a
 * batch is the next `batch` packs; each example remains a segment of its own.
 * Where batches are cut, the parts are what is given out, and no part has
 * examples of two batches.
 *
 * A tree of maxima over the free room of the packs finds the first fit in
 * O(log n): node i has the children 2i and 2i + 1, pack p is leaf width + p. */
#include "data/row.h"

#include <stdlib.h>

struct batcher {
    struct mem *mem;
    const struct dataset *d;
    struct batch_opts o;
    int64_t epoch;                  /* of order and end; -1 = none */
    int64_t n_batches;
    int32_t part;                   /* examples or packs in a part of a batch */
    int32_t *order;                 /* [n] examples, batch after batch */
    int64_t *end;                   /* [n_batches] of each batch in order */
    int32_t *targets;               /* [n] trained targets of each example */
    /* Packing. */
    int32_t *tree, *pack_of, *shuffled;
    int64_t width;                  /* leaves: a power of two >= n */
    struct batch_size most;         /* of any batch of any epoch */
    struct batch b;
    /* What b points to. */
    int32_t *ids, *pos, *types, *start, *rows, *target, *label, *example, *same;
    int32_t *span, *pick;           /* pick: [max_len] tokens of a row that may be masked */
    float *value, *dense, *patches;
    /* Of one picture. */
    float *pixels;
    uint8_t *raw, *changed;
};

static int by_size_down(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (y > x) - (y < x);
}

/* The sum of the k largest; sorts v. */
static int64_t sum_largest(int32_t *v, int64_t n, int64_t k)
{
    int64_t sum = 0;
    qsort(v, (size_t)n, sizeof *v, by_size_down);
    for (int64_t i = 0; i < MIN(n, k); i++) sum += v[i];
    return sum;
}

static int32_t first_text(const struct example *x) { return x->ends ? x->ends[0] : x->n; }

void batch_size_max(struct batch_size *to, const struct batch_size *x)
{
    to->tokens = MAX(to->tokens, x->tokens);
    to->targets = MAX(to->targets, x->targets);
    to->seqs = MAX(to->seqs, x->seqs);
    to->first = MAX(to->first, x->first);
    to->others = MAX(to->others, x->others);
}

/* Uses b->order as scratch. */
static struct batch_size find_bound(struct batcher *b)
{
    const struct dataset *d = b->d;
    struct batch_size most = {0};
    int64_t n = d->n, k = b->part;
    for (int64_t i = 0; i < n; i++) b->order[i] = b->targets[i];
    int64_t all_targets = sum_largest(b->order, n, n);
    most.targets = sum_largest(b->order, n, k);
    for (int64_t i = 0; i < n; i++) b->order[i] = first_text(&d->rows[i]);
    int64_t all_first = sum_largest(b->order, n, n);
    most.first = sum_largest(b->order, n, k);
    for (int64_t i = 0; i < n; i++) b->order[i] = d->rows[i].n - first_text(&d->rows[i]);
    int64_t all_others = sum_largest(b->order, n, n);
    most.others = sum_largest(b->order, n, k);
    for (int64_t i = 0; i < n; i++) b->order[i] = d->rows[i].n;
    int64_t all_tokens = sum_largest(b->order, n, n);
    most.tokens = sum_largest(b->order, n, k);
    int64_t rows = MIN(n, k);
    if (b->o.packing && n > 0) {
        int64_t room = MIN(k, n) * b->o.max_len, shortest = MAX(b->order[n - 1], 1);
        most.tokens = MIN(all_tokens, room);
        most.targets = MIN(all_targets, most.tokens);
        most.first = MIN(all_first, most.tokens);
        most.others = MIN(all_others, most.tokens);
        rows = MIN(n, most.tokens / shortest);
    }
    most.seqs = rows * d->texts;
    if (b->o.room) batch_size_max(&most, b->o.room);
    return most;
}

static int batcher_alloc(struct batcher *b)
{
    const struct dataset *d = b->d;
    struct mem *m = b->mem;
    int64_t n = d->n, first;
    b->order = mem_array(m, n, sizeof *b->order);
    b->end = mem_array(m, n, sizeof *b->end);
    b->targets = mem_array(m, n, sizeof *b->targets);
    if (!b->order || !b->end || !b->targets) return PEFT_ENOMEM;
    for (int64_t i = 0; i < n; i++)
        if (d->rows[i].labels) {
            int64_t k = count_trained(d->rows[i].labels, label_shift(d->task), d->rows[i].n,
                                      &first);
            b->targets[i] = d->masks ? mask_count(k) : (int32_t)k;
        }
    struct batch_size most = b->most = find_bound(b);
    if (most.tokens > INT32_MAX)
        return fail(PEFT_EARG, "a batch of %lld tokens, expected less than 2^31",
                    (long long)most.tokens);
    if (b->o.packing) {
        for (b->width = 1; b->width < n; b->width *= 2) {}
        b->tree = mem_array(m, 2 * b->width, sizeof *b->tree);
        b->pack_of = mem_array(m, n, sizeof *b->pack_of);
        b->shuffled = mem_array(m, n, sizeof *b->shuffled);
        if (!b->tree || !b->pack_of || !b->shuffled) return PEFT_ENOMEM;
    }
    b->ids = mem_array(m, most.tokens, sizeof *b->ids);
    b->pos = mem_array(m, most.tokens, sizeof *b->pos);
    b->types = mem_array(m, most.tokens, sizeof *b->types);
    b->start = mem_array(m, most.seqs + 1, sizeof *b->start);
    b->rows = mem_array(m, most.targets, sizeof *b->rows);
    b->target = mem_array(m, most.targets, sizeof *b->target);
    b->label = mem_array(m, most.seqs, sizeof *b->label);
    b->value = mem_array(m, most.seqs, sizeof *b->value);
    b->example = mem_array(m, most.seqs, sizeof *b->example);
    b->same = mem_array(m, most.seqs, sizeof *b->same);
    const struct vision *v = d->vision;
    if (v) {
        int64_t pictures = most.tokens / MAX(d->max_len, 1);
        b->patches = mem_array(m, (most.tokens - pictures) * vision_patch(v), sizeof(float));
        b->pixels = mem_array(m, vision_pixels(v), sizeof(float));
        b->raw = mem_array(m, 2, picture_bytes(v));
        if (!b->patches || !b->pixels || !b->raw) return PEFT_ENOMEM;
        b->changed = b->raw + picture_bytes(v);
    }
    int64_t rows = most.seqs / d->texts, width = d->task == TASK_MULTI ? d->n_labels : 0, cells;
    if (!mul_ok(rows, width, &cells)) return fail(PEFT_ENOMEM, "a batch of too many labels");
    b->dense = mem_array(m, cells, sizeof *b->dense);
    b->span = mem_array(m, 2 * rows, sizeof *b->span);
    b->pick = mem_array(m, d->max_len, sizeof *b->pick);
    bool all = b->dense && b->span && b->pick && b->ids && b->pos && b->types && b->start &&
               b->rows && b->target && b->label && b->value && b->example && b->same;
    b->b = (struct batch){ .ids = b->ids,
                           .pos = b->pos,
                           .types = b->types,
                           .start = b->start, .targets = b->dense, .span = b->span,
                           .rows = b->rows,
                           .target = b->target,
                           .label = b->label,
                           .value = b->value,
                           .example = b->example,
                           .patches = b->patches, .same = b->same };
    return all ? PEFT_OK : PEFT_ENOMEM;
}

int32_t batcher_cut(struct batcher *b, int32_t parts)
{
    b->part = (int32_t)div_up(b->o.batch, MAX(parts, 1));
    b->o.parts = (int32_t)div_up(b->o.batch, b->part);
    b->epoch = -1;
    if (b->targets) b->most = find_bound(b);
    return b->o.parts;
}

int batcher_new(const struct dataset *d, const struct batch_opts *o, struct batcher **out)
{
    *out = NULL;
    if (o->batch < 1) return fail(PEFT_EARG, "batch is %d, expected at least 1", (int)o->batch);
    if (o->packing && o->max_len > 0 && o->max_len < d->max_len)
        return fail(PEFT_EARG, "packs of %d tokens, expected at least %d as in the longest example",
                    (int)o->max_len, (int)d->max_len);
    struct batcher *b = mem_zalloc(&d->host->mem, sizeof *b);
    if (!b) return PEFT_ENOMEM;
    b->mem = &d->host->mem;
    b->d = d;
    b->o = *o;
    if (b->o.max_len <= 0) b->o.max_len = d->max_len;
    batcher_cut(b, o->parts);
    int rc = batcher_alloc(b);
    if (rc < 0) {
        batcher_free(b);
        return rc;
    }
    *out = b;
    return PEFT_OK;
}

void batcher_free(struct batcher *b)
{
    if (!b) return;
    void *const parts[] = { b->order,    b->end,    b->targets, b->tree,  b->pack_of,
                            b->shuffled, b->ids,    b->pos,     b->types, b->start,
                            b->rows,     b->target, b->label,   b->value, b->example,
                            b->patches,  b->pixels, b->raw,     b->dense, b->span,
                            b->pick,     b->same };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) mem_free(b->mem, parts[i]);
    mem_free(b->mem, b);
}

/* The first pack with room for n tokens, which are taken from it. */
static int32_t first_fit(struct batcher *b, int32_t n)
{
    int64_t i = 1;
    while (i < b->width) {
        i *= 2;
        if (b->tree[i] < n) i++;
    }
    b->tree[i] -= n;
    int32_t pack = (int32_t)(i - b->width);
    while (i > 1) {
        i /= 2;
        b->tree[i] = MAX(b->tree[2 * i], b->tree[2 * i + 1]);
    }
    return pack;
}

/* How many parts the batches of n examples or packs have. */
static int64_t count_parts(const struct batcher *b, int64_t n)
{
    return n / b->o.batch * b->o.parts + div_up(n % b->o.batch, b->part);
}

/* The example or pack, of n, that part j ends before. */
static int64_t part_end(const struct batcher *b, int64_t j, int64_t n)
{
    int64_t within = MIN((j % b->o.parts + 1) * b->part, b->o.batch);
    return MIN(j / b->o.parts * b->o.batch + within, n);
}

/* Reorders `order` pack after pack, and ends a part every so many packs. */
static void make_packs(struct batcher *b)
{
    int64_t n = b->d->n, packs = 0, before = 0;
    for (int64_t i = 0; i < 2 * b->width; i++) b->tree[i] = b->o.max_len;
    memset(b->end, 0, (size_t)n * sizeof *b->end);
    for (int64_t i = 0; i < n; i++) {
        b->shuffled[i] = b->order[i];
        b->pack_of[i] = first_fit(b, b->d->rows[b->order[i]].n);
        b->end[b->pack_of[i]]++;
        packs = MAX(packs, (int64_t)b->pack_of[i] + 1);
    }
    /* A counting sort by pack: counts, then beginnings, then ends. */
    for (int64_t p = 0; p < packs; p++) {
        int64_t count = b->end[p];
        b->end[p] = before;
        before += count;
    }
    for (int64_t i = 0; i < n; i++) b->order[b->end[b->pack_of[i]]++] = b->shuffled[i];
    b->n_batches = count_parts(b, packs);
    for (int64_t j = 0; j < b->n_batches; j++) b->end[j] = b->end[part_end(b, j, packs) - 1];
}

static void prepare(struct batcher *b, int64_t epoch)
{
    int64_t n = b->d->n;
    if (b->epoch == epoch) return;
    /* Only the order differs between epochs. */
    bool same = b->epoch >= 0 && !b->o.shuffle;
    b->epoch = epoch;
    if (same) return;
    for (int64_t i = 0; i < n; i++) b->order[i] = (int32_t)i;
    if (b->o.shuffle)
        rng_shuffle(b->order, n, b->o.seed, rng_stream(RNG_SHUFFLE, (uint32_t)epoch));
    if (b->o.packing) {
        make_packs(b);
        return;
    }
    b->n_batches = count_parts(b, n);
    for (int64_t j = 0; j < b->n_batches; j++) b->end[j] = part_end(b, j, n);
}

const int32_t *batcher_rows(struct batcher *b, int64_t epoch, int64_t i, int64_t *n)
{
    prepare(b, epoch);
    int64_t from = i > 0 ? b->end[i - 1] : 0;
    *n = b->end[i] - from;
    return b->order + from;
}

int64_t batcher_count(struct batcher *b, int64_t epoch)
{
    prepare(b, epoch);
    return b->n_batches;
}

void batcher_add_size(const struct batcher *b, int64_t example, struct batch_size *to)
{
    const struct example *x = &b->d->rows[example];
    to->tokens += x->n;
    to->targets += b->targets[example];
    to->seqs += b->d->texts;
    to->first += first_text(x);
    to->others += x->n - first_text(x);
}

void batcher_size(struct batcher *b, int64_t epoch, int64_t i, struct batch_size *out)
{
    int64_t n;
    const int32_t *rows = batcher_rows(b, epoch, i, &n);
    *out = (struct batch_size){0};
    for (int64_t k = 0; k < n; k++) batcher_add_size(b, rows[k], out);
}

static int by_size_up(const void *a, const void *b) { return by_size_down(b, a); }

/* Masked language modelling (Devlin et al. 2019): of the tokens that may be
 * masked 15 % are targets; 80 % of these become the mask, 10 % any token, 10 %
 * stay.  Drawn by (seed, epoch, row). */
static void mask_text(struct batcher *b, const struct example *x)
{
    struct batch *out = &b->b;
    int64_t row = x - b->d->rows, first = row << 24;
    uint64_t seed = b->o.seed + (uint64_t)row * 0x9E3779B97F4A7C15u;
    uint64_t stream = rng_stream(RNG_MASK, (uint32_t)b->epoch);
    int32_t n = 0, k;
    for (int32_t p = 0; p < x->n; p++)
        if (x->labels[p] != NOT_TRAINED) b->pick[n++] = p;
    rng_shuffle(b->pick, n, seed, stream);
    k = MIN(mask_count(n), n);
    qsort(b->pick, (size_t)k, sizeof *b->pick, by_size_up);
    for (int32_t i = 0; i < k; i++) {
        int32_t at = (int32_t)out->n + b->pick[i];
        uint64_t draw = (uint64_t)(first + b->pick[i]) * 2;
        float u = rng_uniform(b->o.seed, stream, draw);
        b->rows[out->n_target] = at;
        b->target[out->n_target++] = b->ids[at];
        if (u < 0.8f) b->ids[at] = b->d->mask_id;
        else if (u < 0.9f)
            b->ids[at] = (int32_t)(rng_u32(b->o.seed, stream, draw + 1) % (uint32_t)b->d->vocab);
    }
}

/* Appends text t of example x as the next sequence. */
static void add_text(struct batcher *b, const struct example *x, int32_t t)
{
    struct batch *out = &b->b;
    int32_t from = t ? x->ends[t - 1] : 0, n = (x->ends ? x->ends[t] : x->n) - from;
    int32_t shift = label_shift(b->d->task);
    b->start[out->n_seq++] = (int32_t)out->n;
    if (x->ids) memcpy(b->ids + out->n, x->ids + from, (size_t)n * sizeof *x->ids);
    for (int32_t p = 0; p < n; p++) {
        b->pos[out->n + p] = p;
        b->types[out->n + p] = x->second && p >= x->second;
    }
    for (int32_t p = 0; x->labels && !b->d->masks && p + shift < n; p++) {
        if (x->labels[from + p + shift] == NOT_TRAINED) continue;
        b->rows[out->n_target] = (int32_t)out->n + p;
        b->target[out->n_target++] = x->labels[from + p + shift];
    }
    if (b->d->masks) mask_text(b, x);
    out->n += n;
}

static void find_equal_texts(struct batcher *b)
{
    for (int64_t s = 0; s < b->b.n_seq; s++) {
        int64_t n = b->start[s + 1] - b->start[s], k = 0;
        while (k < s && (b->start[k + 1] - b->start[k] != n ||
                         memcmp(b->ids + b->start[k], b->ids + b->start[s],
                                (size_t)n * sizeof *b->ids)))
            k++;
        b->same[s] = (int32_t)k;
    }
}

/* The patches of the batch's k-th picture, row `row` of the data set. */
static int add_picture(struct batcher *b, int64_t k, int32_t row)
{
    const struct vision *v = b->d->vision;
    const struct example *x = &b->d->rows[row];
    const uint8_t *px = x->pixels;
    if (!px) {
        int rc = picture_open(b->d->host, v, x->picture, b->raw);
        if (rc) return rc;
        px = b->raw;
    }
    if (b->o.augment.on) {
        augment_picture(&b->o.augment, v, b->o.seed, b->epoch, row, px, b->changed);
        px = b->changed;
    }
    picture_pixels(v, px, b->pixels);
    vision_patches(v, b->pixels, b->patches + k * (x->n - 1) * vision_patch(v));
    return PEFT_OK;
}

/* What TASK_MULTI and TASK_SPAN want of the i-th row. */
static void add_targets(struct batcher *b, const struct example *x, int64_t i)
{
    float *y = b->dense + i * b->d->n_labels;
    for (int side = 0; side < 2; side++) b->span[2 * i + side] = b->start[i] + x->span[side];
    if (b->d->task != TASK_MULTI) return;
    memset(y, 0, (size_t)b->d->n_labels * sizeof *y);
    for (int32_t k = 0; k < x->n_classes; k++) {
        if (x->values) y[k] = x->values[k];
        else y[x->classes[k]] = 1;
    }
}

const struct batch *batcher_take(struct batcher *b, const int32_t *rows, int64_t n)
{
    struct batch *out = &b->b;
    out->n = out->n_seq = out->n_target = 0;
    out->n_rows = n;
    for (int32_t t = 0; t < b->d->texts; t++)
        for (int64_t k = 0; k < n; k++) add_text(b, &b->d->rows[rows[k]], t);
    for (int64_t k = 0; k < n; k++) {
        const struct example *x = &b->d->rows[rows[k]];
        b->example[k] = rows[k];
        b->label[k] = x->label;
        b->value[k] = x->value;
        add_targets(b, x, k);
    }
    b->start[out->n_seq] = (int32_t)out->n;
    if (b->d->task == TASK_MATCH) find_equal_texts(b);
    for (int64_t k = 0; k < n && b->d->vision; k++)
        if (add_picture(b, k, rows[k])) return NULL;
    return out;
}

const struct batch *batcher_get(struct batcher *b, int64_t epoch, int64_t i)
{
    int64_t n;
    const int32_t *rows = batcher_rows(b, epoch, i, &n);
    return batcher_take(b, rows, n);
}

void batcher_max(struct batcher *b, int64_t epochs, struct batch_size *out)
{
    enum { MOST_WORK = 1 << 24 };   /* rows to be shuffled: about a second */
    *out = b->most;
    if (!b->o.shuffle) epochs = MIN(epochs, 1);
    if (epochs > MOST_WORK / MAX(b->d->n, 1)) return;
    *out = (struct batch_size){0};
    for (int64_t e = 0; e < epochs; e++) {
        for (int64_t i = 0; i < batcher_count(b, e); i++) {
            struct batch_size s;
            batcher_size(b, e, i, &s);
            batch_size_max(out, &s);
        }
    }
}
