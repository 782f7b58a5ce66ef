/* A data set's rows, dealt out to training, validation and test.
 *
 * Two passes over the file.  The first counts: rows of each class, and of each group's
 * classes.  Between them every class gets its seats on each side, by largest remainders
 * (Hamilton's method).  The second deals: a row without a group takes one of its class's
 * seats that are left, all equally likely (selection sampling, Knuth 3.4.2 algorithm S); a
 * group's side was settled between the passes. */
#include "prep/fields.h"
#include "prep/files.h"
#include "prep/flow.h"
#include "prep/groups.h"
#include "prep/keys.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const side_files[] = {"train.jsonl", "valid.jsonl", "test.jsonl"};
static const char *const side_names[] = {"train", "valid", "test"};
enum { SIDES = PEFT_SIDES, NAMED = 10, MEMORY = 128 /* MiB */, CLASSES = 1 << 20 };
static const double alike_least = 0.7;    /* texts with that share of shingles in common */

struct class_share {
    const char *name;
    int64_t n, seats[SIDES];        /* of its rows; what each side is to have */
    int64_t rows[SIDES];            /* has got */
};
struct split {
    struct host host;
    peft_split_opts o;
    peft_source_opts source;
    const char *path;
    double share[SIDES];
    bool again, texts;              /* the second pass; whether it looks at them */
    struct arena names;
    struct keys class_keys;
    struct buf classes;             /* of struct class_share */
    struct scratch scratch;
    struct groups groups;
    struct sorter placed;           /* texts: (hash, side) */
    struct words *words;            /* [threads] */
    struct writer *to[SIDES];
    int64_t rows;
    peft_split result;
};

static struct class_share *class_at(const struct split *s, int64_t i)
{
    return (struct class_share *)(void *)s->classes.data + i;
}
static bool is_grouped(const struct split *s) { return s->o.group || s->o.group_text; }

/* --- what a row is: hashes, made by any thread */

struct row_keys {
    uint64_t class, group, text;
    int side;                       /* in the second pass, of a group's row */
    struct near_row near;           /* its words, to find texts that are nearly equal */
    bool sketched;
};

static int no_column(const json *row, const char *column)
{
    char has[160] = "";
    size_t n = 0;
    for (const json *v = json_first(row); v && n < sizeof has; v = json_next(v))
        n += (size_t)snprintf(has + n, sizeof has - n, "%s%s", n ? ", " : "", json_key(v));
    return fail(PEFT_EFORMAT, "no column \"%s\", expected it in every row; this one has %s", column,
                *has ? has : "none");
}

/* The value of a column as text; numbers and words are those of JSON. */
static int column_text(const json *row, const char *column, struct buf *out)
{
    const json *v = row_member(row, column);
    if (!v) return no_column(row, column);
    if (json_kind(v) == JSON_STRING) buf_puts(out, json_string(v));
    else json_write(out, v);
    return buf_check(out);
}

static void find_sketch(struct split *s, json *row, struct row_keys *k, int worker)
{
    enum { FIELDS = 64, SHINGLE = 3 };
    struct field f[FIELDS];
    struct words *w = &s->words[worker];
    int64_t n = MIN(fields_of(row, f, FIELDS), FIELDS);
    row_words_begin(w);
    for (int64_t i = 0; i < n; i++) {
        const char *text = json_string(f[i].node);
        if (f[i].role == FIELD_TEXT || f[i].role == FIELD_INPUT)
            row_words_add(w, text, (int64_t)strlen(text), true);
    }
    k->sketched = sketch_words(w, SHINGLE, &k->near.sketch);
}

/* In the first pass the row's class stays in r->out for `take`. */
static int find_keys(struct split *s, struct flow_row *r, int worker)
{
    struct row_keys *k = r->note;
    struct buf *b = r->out;
    int64_t at = b->n;
    int rc = flow_parse(r);
    if (rc) return rc;
    buf_putc(b, 0);
    b->n = at;
    if (!rc && s->texts) rc = text_key_of(r->row, b, &k->text);
    if (!rc && s->words) find_sketch(s, r->row, k, worker);
    if (!rc && s->o.group && !s->again) {
        rc = column_text(r->row, s->o.group, b);
        if (!rc) k->group = key_of(0, b->data + at, b->n - at);
        b->n = at;
    }
    if (!rc && s->o.stratify && !(s->again && is_grouped(s))) {
        rc = column_text(r->row, s->o.stratify, b);
        if (!rc) k->class = key_of(2, b->data + at, b->n - at);
    }
    return rc ? fail_in(rc, "%s line %lld: ", r->path, (long long)r->line) : PEFT_OK;
}

static int keys_first(void *ctx, struct flow_row *r, int worker)
{
    return find_keys(ctx, r, worker);
}
static int keys_again(void *ctx, struct flow_row *r, int worker)
{
    int64_t at = r->out->n;
    int rc = find_keys(ctx, r, worker);
    r->out->n = at;
    return rc;
}

static int file_changed(const struct split *s)
{
    return fail(PEFT_EIO, "%s: not the rows that were here before: the file has changed", s->path);
}

static int know_side(void *ctx, struct flow_row *r)
{
    struct split *s = ctx;
    int rc = groups_side(&s->groups, &((struct row_keys *)r->note)->side);
    return rc ? MIN(rc, PEFT_OK) : file_changed(s);
}

static int run_pass(struct split *s, int (*work)(void *, struct flow_row *, int),
                    int (*take)(void *, struct flow_row *))
{
    struct flow f = {.host = &s->host, .path = s->path, .source = &s->source, .ctx = s,
                     .note = sizeof(struct row_keys), .work = work, .take = take};
    if (s->again && is_grouped(s)) f.know = know_side;
    s->rows = 0;
    return flow_run(&f);
}

/* --- the first pass */

static int class_id(struct split *s, const struct flow_row *r, uint32_t *id)
{
    const struct row_keys *k = r->note;
    *id = 0;
    if (!s->o.stratify) return PEFT_OK;
    int rc = keys_add(&s->class_keys, k->class, id);
    if (rc <= 0) return rc;
    if (*id == CLASSES)
        return fail(PEFT_EDATA, "%s: \"%s\" has more than %d values, expected classes of several "
                    "rows", s->path, s->o.stratify, (int)CLASSES);
    const char *name = r->out_n ? r->out->data + r->out_at : "";
    struct class_share c = {.name = arena_strndup(&s->names, name, r->out_n)};
    buf_put(&s->classes, &c, sizeof c);
    return c.name ? buf_check(&s->classes) : PEFT_ENOMEM;
}

static int count_row(void *ctx, struct flow_row *r)
{
    struct split *s = ctx;
    const struct row_keys *k = r->note;
    uint32_t class;
    int rc = class_id(s, r, &class);
    if (rc) return rc;
    s->rows++;
    class_at(s, class)->n++;
    if (!is_grouped(s)) return PEFT_OK;
    return groups_add(&s->groups, k->group, k->text, k->sketched ? &k->near : NULL, class);
}

static int tell_nothing(void *ctx, double share)
{
    (void)share;
    struct split *s = ctx;
    bool stop = s->source.progress && s->source.progress(s->source.ctx, 0, 1);
    return stop ? fail(PEFT_ECANCELLED, "cancelled") : PEFT_OK;
}

/* --- seats */

/* Largest remainders; of equal ones the side that all classes so far left furthest behind. */
static void give_seats(const struct split *s, struct class_share *c, double behind[SIDES])
{
    int64_t left = c->n;
    double rest[SIDES];
    for (int k = 0; k < SIDES; k++) {
        double due = s->share[k] * (double)c->n, whole = floor(due + 1e-9);
        c->seats[k] = (int64_t)whole;
        rest[k] = due - whole;
        behind[k] += rest[k];
        left -= c->seats[k];
    }
    for (; left > 0; left--) {
        int best = 0;
        for (int k = 1; k < SIDES; k++)
            if (rest[k] > rest[best] + 1e-9 ||
                (rest[k] > rest[best] - 1e-9 && behind[k] > behind[best] + 1e-9))
                best = k;
        c->seats[best]++;
        rest[best]--;
        behind[best]--;
    }
}

/* Where a group makes the squared distances from the seats, in shares of them, least; the last
 * `left` groups, this one counted, go to sides without any. */
static int best_side(const struct split *s, const struct cell *cells, int64_t n, int64_t left)
{
    int best = -1, empty = 0;
    double least = 0;
    for (int k = 0; k < SIDES; k++) empty += s->share[k] > 0 && !s->result.groups[k];
    for (int k = 0; k < SIDES; k++) {
        double cost = 0;
        if (!(s->share[k] > 0) || (left <= empty && s->result.groups[k])) continue;
        for (int64_t i = 0; i < n; i++) {
            const struct class_share *x = class_at(s, cells[i].class);
            double off = (double)(x->rows[k] - x->seats[k]), rows = cells[i].n;
            cost += rows * (2 * off + rows) / (s->share[k] * (double)x->n);
        }
        if (best < 0 || cost < least) {
            best = k;
            least = cost;
        }
    }
    return best;
}

static int deal_group(void *ctx, const struct cell *cells, int64_t n, int64_t left)
{
    struct split *s = ctx;
    int side = best_side(s, cells, n, left);
    s->result.groups[side]++;
    for (int64_t i = 0; i < n; i++) class_at(s, cells[i].class)->rows[side] += cells[i].n;
    return side;
}

/* --- the second pass */

/* A seat of the row's class among those that are left. */
static int draw_side(const struct split *s, const struct class_share *c)
{
    int64_t left = 0;
    for (int k = 0; k < SIDES; k++) left += c->seats[k] - c->rows[k];
    int64_t row = s->result.rows[0] + s->result.rows[1] + s->result.rows[2];
    uint64_t draw = rng_u32(s->o.seed, rng_stream(RNG_SPLIT, 0), (uint64_t)row);
    int64_t seat = (int64_t)(draw * (uint64_t)left >> 32);
    for (int k = 0; k < SIDES; k++)
        if ((seat -= c->seats[k] - c->rows[k]) < 0) return k;
    return -1;
}

/* Counts texts that are on several sides. */
static int count_shared(struct split *s)
{
    uint64_t e[2], text = 0;
    int sides = 0, rc = sorter_turn(&s->placed);
    while (rc >= 0 && (rc = sorter_next(&s->placed, e)) > 0) {
        int had = e[0] == text ? sides : 0;
        text = e[0];
        sides = had | 1 << e[1];
        s->result.shared += had && had != sides && !(had & (had - 1));
    }
    return rc;
}

static int deal_row(void *ctx, struct flow_row *r)
{
    struct split *s = ctx;
    const struct row_keys *k = r->note;
    uint32_t class;
    int64_t classes = s->classes.n;
    int rc = PEFT_OK, side = k->side;
    if (!is_grouped(s)) {
        rc = class_id(s, r, &class);
        if (!rc && classes != s->classes.n) rc = file_changed(s);
        if (rc) return rc;
        side = draw_side(s, class_at(s, class));
        if (side < 0) return file_changed(s);
        class_at(s, class)->rows[side]++;
    }
    if (!s->o.group_text) rc = sorter_put(&s->placed, k->text, (uint64_t)side);
    if (rc) return rc;
    s->result.rows[side]++;
    s->rows++;
    if (s->to[side]) flow_put(s->to[side], r);
    return PEFT_OK;
}

/* --- all of it */

static int take_shares(struct split *s)
{
    double sum = 0, *r = s->o.ratio;
    if (!(r[0] != 0) && !(r[1] != 0) && !(r[2] != 0)) r[0] = 8, r[1] = 1, r[2] = 1;
    for (int k = 0; k < SIDES; k++) {
        if (!(r[k] >= 0 && r[k] <= 1e12))
            return fail(PEFT_EARG, "a ratio of %g, expected 0 or more", r[k]);
        sum += r[k];
    }
    if (!(sum > 0)) return fail(PEFT_EARG, "all ratios are 0, expected one above");
    for (int k = 0; k < SIDES; k++) s->share[k] = r[k] / sum;
    return PEFT_OK;
}

static int give_all_seats(struct split *s)
{
    double behind[SIDES] = {0};
    int64_t seats[SIDES] = {0}, n = s->classes.n / (int64_t)sizeof(struct class_share);
    if (!s->rows) return fail(PEFT_EDATA, "%s: no rows", s->path);
    for (int64_t i = 0; i < n; i++) {
        give_seats(s, class_at(s, i), behind);
        for (int k = 0; k < SIDES; k++) seats[k] += class_at(s, i)->seats[k];
    }
    if (s->o.stratify && n > 10 && n * 2 > s->rows)
        return fail(PEFT_EDATA, "%s: \"%s\" has %lld values in %lld rows, expected classes of "
                    "several rows", s->path, s->o.stratify, (long long)n, (long long)s->rows);
    int rc = is_grouped(s) ? groups_deal(&s->groups, s->o.seed, s, deal_group) : PEFT_OK;
    for (int k = 0; k < SIDES && !rc; k++)
        if (s->share[k] > 0 && !(is_grouped(s) ? s->result.groups[k] : seats[k]))
            rc = fail(PEFT_EDATA, "%s: %lld rows%s are too few to leave one for %s; more of them "
                      "or a larger ratio is needed, or the ratio 0", s->path, (long long)s->rows,
                      is_grouped(s) ? " in these groups" : "", side_names[k]);
    return rc;
}

static void tell_classes(struct split *s)
{
    int64_t n = s->classes.n / (int64_t)sizeof(struct class_share);
    s->result.classes = s->o.stratify ? n : 0;
    for (int64_t i = 0; i < n && s->o.stratify; i++) {
        const struct class_share *c = class_at(s, i);
        int none = 0;
        while (none < SIDES && (c->rows[none] || !(s->share[none] > 0))) none++;
        if (none < SIDES && s->result.scarce++ < NAMED)
            host_log(&s->host, LOG_WARN, "class \"%s\" has too few rows, %lld: none for %s",
                     c->name, (long long)c->n, side_names[none]);
        if (s->o.on_class) s->o.on_class(s->o.ctx, c->name, c->rows);
    }
    if (s->result.scarce > NAMED)
        host_log(&s->host, LOG_WARN, "%lld classes have too few rows for every side",
                 (long long)s->result.scarce);
}

static void begin_groups(struct split *s, int64_t memory)
{
    struct groups *g = &s->groups;
    g->by_column = s->o.group;
    g->by_text = s->o.group_text;
    groups_begin(g, &s->scratch, memory);
    g->near.alike = alike_least;
    g->near.threads = flow_threads(&s->source);
    g->near.stop = tell_nothing;
    g->near.ctx = s;
}

static int begin_sketches(struct split *s)
{
    int n = flow_threads(&s->source);
    if (!(s->words = mem_array(&s->host.mem, n, sizeof *s->words))) return PEFT_ENOMEM;
    for (int i = 0; i < n; i++) row_words_init(&s->words[i], &s->host.mem);
    return PEFT_OK;
}

/* The second pass does without. */
static void end_sketches(struct split *s)
{
    for (int i = 0; s->words && i < flow_threads(&s->source); i++) row_words_free(&s->words[i]);
    mem_free(&s->host.mem, s->words);
    s->words = NULL;
}

static int split_file(struct split *s, const char *out)
{
    const char *names[SIDES];
    struct files files;
    int n = 0;
    buf_put(&s->classes, &(struct class_share){.name = ""},
            s->o.stratify ? 0 : sizeof(struct class_share));
    int rc = take_shares(s);
    s->texts = s->o.group_text;
    for (int k = 0; k < SIDES && !rc; k++)
        if (s->share[k] > 0) names[n++] = side_files[k];
    if (!rc && s->o.group_text) rc = begin_sketches(s);
    if (!rc) rc = run_pass(s, keys_first, count_row);
    if (!rc && is_grouped(s)) rc = groups_find(&s->groups);
    end_sketches(s);
    if (!rc) rc = give_all_seats(s);
    if (!rc && out) rc = files_open(&files, &s->host, out, names, n, s->o.overwrite);
    if (rc) return rc;
    for (int k = 0, i = 0; k < SIDES && out; k++)
        if (s->share[k] > 0) s->to[k] = files.to[i++];
    int64_t rows = s->rows;
    s->again = s->texts = true;
    rc = run_pass(s, s->o.group_text ? NULL : keys_again, deal_row);
    if (!rc && rows != s->rows) rc = file_changed(s);
    if (!rc) rc = count_shared(s);
    if (rc && out) files_abort(&files);
    else if (out) rc = files_commit(&files);
    if (!rc) tell_classes(s);
    if (!rc && !is_grouped(s)) memcpy(s->result.groups, s->result.rows, sizeof s->result.groups);
    return rc;
}

int32_t peft_data_split(const char *path, const char *out, const peft_split_opts *opts,
                        peft_split *result)
{
    struct split s = {.path = path, .result.size = sizeof s.result};
    KIT_ARG(path, "no file given");
    int rc = take_options(&s.o, sizeof s.o, opts);
    if (!rc) rc = take_options(&s.source, sizeof s.source, s.o.source);
    if (!rc && result) rc = check_result(result);
    if (!rc) rc = host_init(&s.host, s.source.host);
    if (rc) return kit_end(rc);
    struct mem *m = &s.host.mem;
    rc = scratch_begin(&s.scratch, &s.host, out ? out : path);
    if (rc) {
        scratch_end(&s.scratch);
        return kit_end(rc);
    }
    int64_t memory = s.o.memory > 0 ? s.o.memory : (int64_t)MEMORY << 20;
    sorter_begin(&s.placed, &s.scratch, 2, 0, memory / 2);
    begin_groups(&s, memory);
    arena_init(&s.names, m);
    keys_init(&s.class_keys, m);
    buf_init(&s.classes, m);
    rc = split_file(&s, out);
    buf_free(&s.classes);
    keys_free(&s.class_keys);
    groups_end(&s.groups);
    arena_free(&s.names);
    sorter_free(&s.placed);
    scratch_end(&s.scratch);
    if (!rc && result) give_result(result, &s.result, sizeof s.result);
    return kit_end(rc);
}
