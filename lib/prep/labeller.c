/* A session of labelling by hand.  The output file is its whole state: rows whose texts it has
 * are decided, its last line is the last decision. */
#include "prep/flow.h"
#include "prep/labels.h"

enum { ITEM_LABELS = 256 };
enum { ITEM_OPEN, ITEM_LABELLED, ITEM_SKIPPED };

struct item {
    const char *json, *text, *given, *likely;
    int64_t json_n, line;
    int32_t state;
};
struct peft_labeller {
    struct host host;
    peft_source_opts source;
    char *path, *out, *by;
    struct arena arena;
    struct map keys;                /* text, and the how manieth of equal ones -> row */
    struct map seen;
    struct buf text, lines;         /* lines: the output file */
    const char *label[ITEM_LABELS];
    int32_t labels;
    bool fixed;                     /* labels were named */
    struct item *items;
    int64_t n, cap, now;            /* now: the row to label; n = none */
    int64_t *done;                  /* [n] rows with a decision, in their order */
    int64_t n_done, counts[3];
    int64_t on_disk;                /* bytes of the output file as this session knows it */
};


static void set_state(struct peft_labeller *l, int64_t row, int32_t state)
{
    l->counts[l->items[row].state]--;
    l->counts[state]++;
    l->items[row].state = state;
}

static void advance(struct peft_labeller *l)
{
    for (l->now = 0; l->now < l->n && l->items[l->now].state != ITEM_OPEN;) l->now++;
}

static int decide(struct peft_labeller *l, int32_t state)
{
    set_state(l, l->now, state);
    l->done[l->n_done++] = l->now;
    advance(l);
    return PEFT_OK;
}

/* --- rows */

static int32_t label_at(const struct peft_labeller *l, const char *name)
{
    for (int32_t i = 0; i < l->labels; i++)
        if (!strcmp(l->label[i], name)) return i;
    return -1;
}

static int add_label(struct peft_labeller *l, const char *name, int64_t n)
{
    char *copy = arena_strndup(&l->arena, name, n);
    if (!copy) return PEFT_ENOMEM;
    if (label_at(l, copy) >= 0) return PEFT_OK;
    if (l->labels == ITEM_LABELS)
        return fail(PEFT_EDATA, "more than %d different labels, expected classes", ITEM_LABELS);
    l->label[l->labels++] = copy;
    return PEFT_OK;
}

/* The row's key in l->text: its texts, and how many of them came before. */
static int item_key(struct peft_labeller *l, json *row)
{
    buf_clear(&l->text);
    int rc = label_text(row, &l->text);
    if (rc < 0) return rc;
    int64_t at = map_get(&l->seen, buf_str(&l->text), l->text.n, 0);
    int64_t *count = (int64_t *)(intptr_t)at;
    if (!at) {
        char *copy = arena_strndup(&l->arena, l->text.data, l->text.n);
        count = arena_alloc(&l->arena, sizeof *count);
        if (!copy || !count) return PEFT_ENOMEM;
        rc = map_add(&l->seen, copy, l->text.n, (int64_t)(intptr_t)count);
        if (rc < 0) return rc;
    }
    buf_printf(&l->text, "%c%lld", 0, (long long)(*count)++);
    return buf_check(&l->text);
}

static int add_item(struct peft_labeller *l, const struct flow_row *r)
{
    if (l->n == l->cap) {
        int64_t cap = MAX(2 * l->cap, 256);
        struct item *items = mem_realloc(&l->host.mem, l->items, cap * (int64_t)sizeof *items);
        if (!items) return PEFT_ENOMEM;
        l->items = items;
        l->cap = cap;
    }
    struct item *t = &l->items[l->n];
    *t = (struct item){.json_n = r->n, .line = r->line};
    t->json = arena_strndup(&l->arena, r->text, r->n);
    t->text = arena_strndup(&l->arena, l->text.data, l->text.n);
    int rc = t->json && t->text ? map_add(&l->keys, t->text, l->text.n, l->n) : PEFT_ENOMEM;
    const char *likely = json_string(json_get(r->row, "likely"));
    if (likely && !(t->likely = arena_strndup(&l->arena, likely, (int64_t)strlen(likely))))
        rc = PEFT_ENOMEM;
    buf_clear(&l->text);
    if (rc >= 0) rc = label_name(r->row, &l->text);
    if (rc > 0 && !(t->given = arena_strndup(&l->arena, l->text.data, l->text.n))) rc = PEFT_ENOMEM;
    if (rc > 0 && !l->fixed) rc = add_label(l, l->text.data, l->text.n);
    if (rc < 0) return rc;
    l->n++;
    l->counts[ITEM_OPEN]++;
    return PEFT_OK;
}

static int take_decision(struct peft_labeller *l, const struct flow_row *r)
{
    int64_t at = map_get(&l->keys, l->text.data, l->text.n, -1);
    if (at < 0)
        return fail(PEFT_ESTATE, "is no row of %s: name a new file to begin anew", l->path);
    set_state(l, at, ITEM_LABELLED);
    l->done[l->n_done++] = at;
    buf_put(&l->lines, r->text, r->n);
    buf_putc(&l->lines, '\n');
    return buf_check(&l->lines);
}

static int item_take(void *ctx, struct flow_row *r)
{
    struct peft_labeller *l = ctx;
    int rc = flow_parse(r);
    if (rc >= 0) {
        rc = item_key(l, r->row);
        if (rc >= 0) rc = l->done ? take_decision(l, r) : add_item(l, r);
        if (rc < 0) fail_in(rc, "%s line %lld: ", r->path, (long long)r->line);
    }
    json_free(r->row);
    r->row = NULL;
    return rc;
}

static int item_rows(struct peft_labeller *l, const char *path, const peft_source_opts *source)
{
    struct flow flow = {.host = &l->host, .path = path, .source = source, .ctx = l,
                        .take = item_take};
    map_init(&l->seen, &l->host.mem);
    int rc = flow_run(&flow);
    map_free(&l->seen);
    return rc;
}

static int name_labels(struct peft_labeller *l, const char *names)
{
    int rc = PEFT_OK;
    for (const char *s = names; s && !rc; ) {
        const char *end = strchr(s, ',');
        int64_t n = end ? end - s : (int64_t)strlen(s);
        for (; n && *s == ' '; s++) n--;
        while (n && s[n - 1] == ' ') n--;
        if (n) rc = add_label(l, s, n);
        s = end ? end + 1 : NULL;
    }
    l->fixed = l->labels > 0;
    return rc;
}

/* Bytes of the output file; -1 = there is none. */
static int64_t size_on_disk(struct peft_labeller *l)
{
    int32_t err = 0;
    struct peft_io *io = &l->host.io;
    void *file = path_kind(&l->host, l->out) ? io->open(io->ctx, l->out, 0, &err) : NULL;
    int64_t n = file ? io->length(io->ctx, file) : -1;
    if (file) io->close(io->ctx, file);
    return n;
}

static int open_session(struct peft_labeller *l, const char *names)
{
    int rc = name_labels(l, names);
    if (!rc) rc = item_rows(l, l->path, &l->source);
    if (!rc && l->n == 0) rc = fail(PEFT_EDATA, "%s: no rows", l->path);
    if (!rc && l->labels < 2)
        rc = fail(PEFT_EARG, "labels to choose from: %d, expected 2 or more", (int)l->labels);
    if (!rc && !(l->done = mem_array(&l->host.mem, l->n, sizeof *l->done))) rc = PEFT_ENOMEM;
    if (!rc && path_kind(&l->host, l->out) == 1) rc = item_rows(l, l->out, NULL);
    l->on_disk = size_on_disk(l);
    advance(l);
    return rc;
}

static char *kept(struct peft_labeller *l, const char *s)
{
    return arena_strndup(&l->arena, s, (int64_t)strlen(s));
}

int32_t peft_labeller_open(const char *path, const char *out, const peft_label_opts *opts,
                           peft_labeller **labeller)
{
    static const char ending[] = ".jsonl";
    size_t n = out ? strlen(out) : 0, m = sizeof ending - 1;
    KIT_ARG(path && *path && labeller, "no file or place for the session given");
    KIT_ARG(n > m && !strcmp(out + n - m, ending), "labels go to \"%.200s\", expected a name that "
            "ends in %s", out ? out : "", ending);
    peft_label_opts o;
    peft_source_opts source;
    struct host host;
    *labeller = NULL;
    int rc = take_options(&o, sizeof o, opts);
    if (!rc) rc = take_options(&source, sizeof source, o.source);
    if (!rc) rc = host_init(&host, source.host);
    if (rc) return kit_end(rc);
    struct peft_labeller *l = mem_zalloc(&host.mem, sizeof *l);
    if (!l) return kit_end(PEFT_ENOMEM);
    l->host = host;
    l->source = source;
    l->source.progress = NULL;
    arena_init(&l->arena, &l->host.mem);
    map_init(&l->keys, &l->host.mem);
    buf_init(&l->text, &l->host.mem);
    buf_init(&l->lines, &l->host.mem);
    l->path = kept(l, path);
    l->out = kept(l, out);
    l->by = o.by && *o.by ? kept(l, o.by) : NULL;
    if (!l->path || !l->out || (o.by && *o.by && !l->by)) rc = PEFT_ENOMEM;
    if (!rc) rc = open_session(l, o.labels);
    if (rc) peft_labeller_free(l);
    else *labeller = l;
    return kit_end(rc);
}

void peft_labeller_free(peft_labeller *l)
{
    if (!l) return;
    struct mem mem = l->host.mem;
    mem_free(&l->host.mem, l->items);
    mem_free(&l->host.mem, l->done);
    buf_free(&l->text);
    buf_free(&l->lines);
    map_free(&l->keys);
    arena_free(&l->arena);
    mem_free(&mem, l);
}

/* --- decisions */

const char *peft_labeller_label(const peft_labeller *l, int32_t i)
{
    return l && i >= 0 && i < l->labels ? l->label[i] : NULL;
}

int32_t peft_labeller_row(peft_labeller *l, peft_label_row *out)
{
    KIT_ARG(l, "no session given");
    peft_label_row r = {.size = sizeof r, .labelled = l->counts[ITEM_LABELLED],
                        .skipped = l->counts[ITEM_SKIPPED], .rows = l->n, .row = l->now};
    int rc = check_result(out);
    if (rc) return kit_end(rc);
    if (l->now < l->n) {
        const struct item *t = &l->items[l->now];
        r.line = t->line;
        r.text = t->text;
        r.given = t->given;
        r.likely = t->likely;
    }
    give_result(out, &r, sizeof r);
    return l->now < l->n ? PEFT_OK : kit_end(fail(PEFT_EEND, "no row is left to label"));
}

/* The output file becomes l->lines, unless another session has written it meanwhile. */
static int write_lines(struct peft_labeller *l)
{
    int rc = buf_check(&l->lines);
    if (!rc && size_on_disk(l) != l->on_disk)
        return fail(PEFT_ESTATE, "%s was changed by another program: open it again", l->out);
    if (!rc) rc = file_write(&l->host, l->out, l->lines.data, l->lines.n);
    if (!rc) l->on_disk = l->lines.n;
    return rc;
}

static int put_item(struct peft_labeller *l, const struct item *t, const char *label)
{
    json *row = NULL;
    int rc = json_parse(t->json, t->json_n, l->path, &row);
    if (rc) return rc;
    label_open(&l->lines, row, label);
    json_free(row);
    if (l->by) {
        buf_puts(&l->lines, ", \"labeller\": ");
        buf_json(&l->lines, l->by, (int64_t)strlen(l->by));
    }
    buf_puts(&l->lines, "}\n");
    return write_lines(l);
}

int32_t peft_labeller_give(peft_labeller *l, const char *label)
{
    KIT_ARG(l && label, "no session or label given");
    KIT_ARG(label_at(l, label) >= 0, "label \"%.100s\", expected one of the session's", label);
    if (l->now == l->n) return kit_end(fail(PEFT_EEND, "no row is left to label"));
    int64_t before = l->lines.n;
    int rc = put_item(l, &l->items[l->now], label);
    if (rc) {
        l->lines.n = before;
        l->lines.oom = false;
        return kit_end(rc);
    }
    return decide(l, ITEM_LABELLED);
}

int32_t peft_labeller_skip(peft_labeller *l)
{
    KIT_ARG(l, "no session given");
    if (l->now == l->n) return kit_end(fail(PEFT_EEND, "no row is left to label"));
    return decide(l, ITEM_SKIPPED);
}

int32_t peft_labeller_undo(peft_labeller *l)
{
    KIT_ARG(l, "no session given");
    if (!l->n_done) return kit_end(fail(PEFT_EEND, "there is no decision to take back"));
    int64_t row = l->done[l->n_done - 1], before = l->lines.n;
    if (l->items[row].state == ITEM_LABELLED) {
        int64_t at = before - 1;
        while (at > 0 && l->lines.data[at - 1] != '\n') at--;
        l->lines.n = at;
        int rc = write_lines(l);
        l->lines.n = rc ? before : at;
        if (rc) return kit_end(rc);
    }
    set_state(l, row, ITEM_OPEN);
    l->n_done--;
    l->now = row;
    return PEFT_OK;
}
