/* Rows and their changed copies.  Threads make the copies of each row; those that a model
 * shall write wait until there are enough for a batch, and the rows behind them too. */
#include "prep/augment.h"
#include "prep/fields.h"
#include "prep/flow.h"

#include <stdio.h>

enum { FIELDS = 512, TEXTS = 16 };
static const char marker[] = "augmented", translated[] = "back-translation";

static const char *method_name(int i) { return i < EDITS ? edit_names[i] : translated; }

/* What `work` tells `take` of a row. */
struct row_copies {
    int32_t made[PEFT_AUGMENTS];    /* by method */
    uint32_t asked;                 /* copies that are to be translated, as bits */
    int32_t dropped, unchanged;
    uint8_t guarded;
};

struct draws augment_draws(const struct augment_run *a, int64_t row, int64_t copy)
{
    return (struct draws){.seed = a->o.seed, .stream = rng_stream(RNG_AUGMENT, (uint32_t)copy),
                          .index = (uint64_t)row << 20};
}

bool is_chosen(const struct augment_run *a, int64_t row)
{
    struct draws d = augment_draws(a, row, UINT32_MAX);
    return !(a->o.share > 0) || draw_below(&d, 1 << 30) < a->o.share * (1 << 30);
}

bool is_guarded(const json *row)
{
    static const char *const sides[] = {"validation", "valid", "val", "dev", "eval", "evaluation",
                                        "test"};
    const char *side = json_string(json_get(row, "split"));
    for (size_t i = 0; side && i < ARRAY_LEN(sides); i++)
        if (!strcmp(side, sides[i])) return true;
    return row_member(row, marker) != NULL;
}

/* --- a row's texts */

struct row_texts { struct field *f; int64_t n; };

static int texts_of(struct arena *a, json *row, struct row_texts *t)
{
    if (!(t->f = arena_alloc(a, FIELDS * (int64_t)sizeof *t->f))) return PEFT_ENOMEM;
    t->n = MIN(fields_of(row, t->f, FIELDS), FIELDS);
    return PEFT_OK;
}

static bool may_change(const struct augment_run *a, const struct field *f)
{
    bool asked = f->role == FIELD_ANSWER && a->o.answers;
    return !f->fixed && (asked || f->role == FIELD_TEXT || f->role == FIELD_INPUT);
}

/* Of all that may change, letter by letter. */
static uint64_t exact_key(const struct augment_run *a, const struct row_texts *t)
{
    uint64_t h = 0;
    for (int64_t i = 0; i < t->n; i++) {
        const char *s = json_string(t->f[i].node);
        if (may_change(a, &t->f[i])) h = key_of(h, s, (int64_t)strlen(s));
    }
    return h;
}

static bool in_eval(const struct augment_run *a, json *row, struct buf *scratch, int *rc)
{
    uint64_t key;
    if (!a->eval.n || *rc) return false;
    *rc = text_key_of(row, scratch, &key);
    return !*rc && keys_has(&a->eval, key);
}

/* The row as it is now, with the method's name. */
static int put_copy(struct buf *b, const json *row, int method)
{
    json_write(b, row);
    if (b->n) b->n--;
    buf_printf(b, ", \"%s\": \"%s\"}\n", marker, method_name(method));
    return buf_check(b);
}

/* --- copies by edits */

struct copying {
    struct augment_run *a;
    struct flow_row *r;
    struct row_copies *told;
    struct arena arena;
    struct buf text;
    uint64_t seen[AUGMENT_COPIES + 1];
    int n_seen;
};

static int edit_fields(struct copying *c, const struct row_texts *t, int method, struct draws *d)
{
    int changed = 0;
    for (int64_t i = 0; i < t->n; i++) {
        const char *s = json_string(t->f[i].node);
        bool word = t->f[i].word;
        double luck = word ? (double)draw_below(d, 1 << 20) / (1 << 20) : 0;
        if (!may_change(c->a, &t->f[i]) || (word && !(luck < c->a->editor.strength))) continue;
        buf_clear(&c->text);
        int rc = edit_text(&c->a->editor, (enum edit)method, d, s, (int64_t)strlen(s), word,
                           &c->text);
        if (rc < 0) return rc;
        if (rc) rc = json_set_string(t->f[i].node, c->text.data, c->text.n);
        if (rc < 0) return rc;
        changed += c->text.n > 0;
    }
    return changed;
}

/* A copy by one method: 1 = made, 0 = it would be nothing new. */
static int try_copy(struct copying *c, int method, struct draws *d)
{
    json *row = NULL;
    struct row_texts t;
    int rc = json_parse(c->r->text, c->r->n, "JSON", &row), made = 0;
    if (!rc) rc = texts_of(&c->arena, row, &t);
    if (!rc) rc = edit_fields(c, &t, method, d);
    if (rc > 0) {
        uint64_t key = exact_key(c->a, &t);
        bool known = false;
        for (int i = 0; i < c->n_seen; i++) known |= c->seen[i] == key;
        rc = PEFT_OK;
        bool leaks = !known && in_eval(c->a, row, &c->text, &rc);
        c->told->dropped += leaks;
        made = !known && !leaks && !rc;
        if (made) c->seen[c->n_seen++] = key;
        if (made) rc = put_copy(c->r->out, row, method);
    }
    json_free(row);
    return rc ? rc : made;
}

/* All methods in turn, from one drawn at random on, until one makes something new. */
static int make_copy(struct copying *c, int copy)
{
    const struct augment_run *a = c->a;
    struct draws d = augment_draws(a, c->r->index, copy);
    int first = (int)draw_below(&d, a->n_methods), rc = 0;
    for (int i = 0; i < a->n_methods; i++) {
        int method = a->methods[(first + i) % a->n_methods];
        if (method == BACK_TRANSLATION) {
            c->told->asked |= 1u << copy;
            return PEFT_OK;
        }
        if ((rc = try_copy(c, method, &d)) < 0) return rc;
        c->told->made[method] += rc;
        if (rc) return PEFT_OK;
    }
    c->told->unchanged++;
    return PEFT_OK;
}

static int copy_row(struct copying *c)
{
    struct row_texts t;
    int rc = flow_parse(c->r);
    if (rc) return rc;
    c->told->guarded = is_guarded(c->r->row) || in_eval(c->a, c->r->row, &c->text, &rc);
    if (rc || c->told->guarded || !is_chosen(c->a, c->r->index)) return rc;
    rc = texts_of(&c->arena, c->r->row, &t);
    if (!rc) c->seen[c->n_seen++] = exact_key(c->a, &t);
    for (int i = 0; i < MAX(c->a->o.copies, 1) && !rc; i++) rc = make_copy(c, i);
    return rc;
}

static int augment_row(void *ctx, struct flow_row *r, int worker)
{
    struct copying c = {.a = ctx, .r = r, .told = r->note};
    (void)worker;
    arena_init(&c.arena, &c.a->host.mem);
    buf_init(&c.text, &c.a->host.mem);
    int rc = copy_row(&c);
    buf_free(&c.text);
    arena_free(&c.arena);
    return rc ? fail_in(rc, "%s line %lld: ", r->path, (long long)r->line) : PEFT_OK;
}

/* --- copies by a model */

struct waiting_row { char *text, *copies; int64_t n, copies_n; uint32_t asked; };

static struct waiting_row *waiting_at(const struct augment_run *a, int64_t i)
{
    return (struct waiting_row *)(void *)a->waiting.data + i;
}
static int64_t count_waiting(const struct augment_run *a)
{
    return a->waiting.n / (int64_t)sizeof(struct waiting_row);
}

/* The row's texts in `texts`, from n on; returns how many there are then, or < 0. */
static int32_t list_texts(const struct augment_run *a, json *row, struct arena *arena,
                          struct row_texts *t, const char **texts, int32_t n)
{
    int rc = texts_of(arena, row, t);
    for (int64_t i = 0; i < t->n && !rc; i++) {
        const char *s = json_string(t->f[i].node);
        if (may_change(a, &t->f[i]) && !t->f[i].word && *s) {
            if (texts) texts[n] = s;
            n++;
        }
    }
    return rc ? rc : n;
}

/* Puts what came back into the row's texts and writes the copy. */
static int put_translated(struct augment_run *a, struct waiting_row *w, struct arena *arena,
                          const char *const *back)
{
    json *row = NULL;
    struct row_texts t;
    struct buf line;
    int32_t n = 0, changed = 0;
    buf_init(&line, &a->host.mem);
    int rc = json_parse(w->text, w->n, "JSON", &row);
    if (!rc) rc = texts_of(arena, row, &t);
    for (int64_t i = 0; !rc && i < t.n; i++) {
        const char *s = json_string(t.f[i].node);
        if (!may_change(a, &t.f[i]) || t.f[i].word || !*s) continue;
        const char *now = back[n++];
        if (!*now || !strcmp(now, s)) continue;
        rc = json_set_string(t.f[i].node, now, (int64_t)strlen(now));
        changed++;
    }
    bool leaks = changed && in_eval(a, row, &line, &rc);
    a->result.dropped += leaks;
    a->result.unchanged += !changed;
    if (!rc && changed && !leaks) {
        buf_clear(&line);
        rc = put_copy(&line, row, BACK_TRANSLATION);
        writer_put(a->out, line.data, line.n);
        a->result.by_method[BACK_TRANSLATION]++;
    }
    buf_free(&line);
    json_free(row);
    return rc;
}

static int translate_waiting(struct augment_run *a, struct arena *arena)
{
    int64_t rows = count_waiting(a);
    const char **texts = arena_alloc(arena, (a->n_waiting + 1) * (int64_t)sizeof *texts);
    const char **back = arena_alloc(arena, (a->n_waiting + 1) * (int64_t)sizeof *back);
    json **parsed = arena_alloc(arena, (rows + 1) * (int64_t)sizeof *parsed);
    struct row_texts t;
    int32_t n = 0, at = 0;
    int rc = texts && back && parsed ? PEFT_OK : PEFT_ENOMEM;
    for (int64_t i = 0; i < rows && !rc; i++) {
        struct waiting_row *w = waiting_at(a, i);
        if (!w->asked) continue;
        rc = json_parse(w->text, w->n, "JSON", &parsed[i]);
        if (!rc) n = list_texts(a, parsed[i], arena, &t, texts, n);
        if (n < 0) rc = n;
    }
    if (!rc && n) rc = translate_texts(a, texts, n, arena, back);
    for (int64_t i = 0; i < rows && !rc; i++) {
        struct waiting_row *w = waiting_at(a, i);
        writer_put(a->out, w->text, w->n);
        writer_put(a->out, "\n", 1);
        writer_put(a->out, w->copies, w->copies_n);
        if (!w->asked) continue;
        rc = put_translated(a, w, arena, back + at);
        at = rc ? at : list_texts(a, parsed[i], arena, &t, NULL, at);
    }
    for (int64_t i = 0; i < rows && parsed; i++) json_free(parsed[i]);
    return rc;
}

/* Writes what waits; frees it in any case. */
static int flush_waiting(struct augment_run *a, bool write)
{
    struct arena arena;
    arena_init(&arena, &a->host.mem);
    int rc = write ? translate_waiting(a, &arena) : PEFT_OK;
    arena_free(&arena);
    for (int64_t i = 0; i < count_waiting(a); i++) {
        mem_free(&a->host.mem, waiting_at(a, i)->text);
        mem_free(&a->host.mem, waiting_at(a, i)->copies);
    }
    buf_clear(&a->waiting);
    a->n_waiting = 0;
    return rc;
}

static int wait_for_model(struct augment_run *a, const struct flow_row *r, uint32_t asked)
{
    struct arena arena;
    struct row_texts t;
    json *row = NULL;
    struct waiting_row w = {.n = r->n, .copies_n = r->out_n, .asked = asked};
    w.text = mem_strndup(&a->host.mem, r->text, r->n);
    w.copies = mem_strndup(&a->host.mem, r->out_n ? r->out->data + r->out_at : "", r->out_n);
    buf_put(&a->waiting, &w, sizeof w);
    if (!w.text || !w.copies || buf_check(&a->waiting)) {
        if (!a->waiting.oom) return PEFT_ENOMEM;
        mem_free(&a->host.mem, w.text);
        mem_free(&a->host.mem, w.copies);
        return PEFT_ENOMEM;
    }
    arena_init(&arena, &a->host.mem);
    int rc = asked ? json_parse(w.text, w.n, "JSON", &row) : PEFT_OK;
    int32_t n = !rc && asked ? list_texts(a, row, &arena, &t, NULL, a->n_waiting) : a->n_waiting;
    if (n < 0) rc = n;
    else a->n_waiting = n;
    json_free(row);
    arena_free(&arena);
    int32_t enough = a->o.batch > 0 ? a->o.batch : TEXTS;
    return rc || a->n_waiting < enough ? rc : flush_waiting(a, true);
}

static int take_row(void *ctx, struct flow_row *r)
{
    struct augment_run *a = ctx;
    const struct row_copies *t = r->note;
    a->result.rows++;
    a->result.guarded += t->guarded;
    a->result.dropped += t->dropped;
    a->result.unchanged += t->unchanged;
    for (int i = 0; i < PEFT_AUGMENTS; i++) a->result.by_method[i] += t->made[i];
    if (t->asked || a->waiting.n) return wait_for_model(a, r, t->asked);
    writer_put(a->out, r->text, r->n);
    writer_put(a->out, "\n", 1);
    if (r->out_n) writer_put(a->out, r->out->data + r->out_at, r->out_n);
    return PEFT_OK;
}

/* --- what is asked for */

static int take_methods(struct augment_run *a)
{
    const char *list = a->o.methods;
    if (!list && a->o.through) list = translated;
    if (!list) list = a->o.thesaurus ? "synonyms,insert,delete,swap" : "delete,swap";
    for (const char *at = list; *at;) {
        int i = 0;
        size_t n = strcspn(at, ",");
        while (i < PEFT_AUGMENTS &&
               (strlen(method_name(i)) != n || memcmp(method_name(i), at, n) != 0))
            i++;
        if (i == PEFT_AUGMENTS)
            return fail(PEFT_EARG, "method \"%.*s\", expected synonyms, insert, delete, swap, "
                        "noise or back-translation", (int)MIN(n, 40), at);
        bool twice = false;
        for (int k = 0; k < a->n_methods; k++) twice |= a->methods[k] == i;
        if (!twice) a->methods[a->n_methods++] = i;
        if (i == EDIT_SYNONYMS && !a->o.thesaurus)
            return fail(PEFT_EARG, "synonyms need a thesaurus");
        if (i == BACK_TRANSLATION && !a->o.through)
            return fail(PEFT_EARG, "back-translation needs a model");
        at += n + (at[n] == ',');
    }
    const char *const prompts[] = {a->o.through_prompt, a->o.back_prompt};
    for (size_t i = 0; i < ARRAY_LEN(prompts); i++)
        if (prompts[i] && *prompts[i] && !strstr(prompts[i], "{text}"))
            return fail(PEFT_EARG, "the prompt \"%.60s\" has no {text}", prompts[i]);
    return a->n_methods ? PEFT_OK : fail(PEFT_EARG, "no methods");
}

static int check_numbers(const peft_augment_opts *o)
{
    if (!(o->strength >= 0 && o->strength <= 1))
        return fail(PEFT_EARG, "a strength of %g, expected 0 to 1", o->strength);
    if (!(o->share >= 0 && o->share <= 1))
        return fail(PEFT_EARG, "a share of %g, expected 0 to 1", o->share);
    if (o->copies < 0 || o->copies > AUGMENT_COPIES)
        return fail(PEFT_EARG, "%d copies, expected 1 to %d", (int)o->copies, (int)AUGMENT_COPIES);
    return PEFT_OK;
}

/* --- evaluation data */

static int eval_key(void *ctx, struct flow_row *r, int worker)
{
    struct augment_run *a = ctx;
    struct buf scratch;
    (void)worker;
    buf_init(&scratch, &a->host.mem);
    int rc = flow_parse(r);
    if (!rc) rc = text_key_of(r->row, &scratch, r->note);
    buf_free(&scratch);
    return rc;
}

static int take_eval(void *ctx, struct flow_row *r)
{
    struct augment_run *a = ctx;
    uint32_t id;
    return MIN(keys_add(&a->eval, *(uint64_t *)r->note, &id), PEFT_OK);
}

static int read_eval(struct augment_run *a)
{
    peft_source_opts all = a->source;
    all.limit = 0;
    all.columns = NULL;
    struct flow f = {.host = &a->host, .path = a->o.eval, .source = &all, .ctx = a,
                     .note = sizeof(uint64_t), .work = eval_key, .take = take_eval};
    return flow_run(&f);
}

/* --- all of it */

static int augment_texts(struct augment_run *a, const char *out)
{
    struct flow f = {.host = &a->host, .path = a->path, .source = &a->source, .ctx = a,
                     .note = sizeof(struct row_copies), .work = augment_row, .take = take_row};
    int rc = take_methods(a);
    if (!rc && a->o.thesaurus) rc = thesaurus_open(&a->host, a->o.thesaurus, &a->thesaurus);
    if (!rc && a->o.eval) rc = read_eval(a);
    a->editor = (struct editor){.mem = &a->host.mem, .fixed = a->o.fixed,
                                .words = a->o.thesaurus ? &a->thesaurus : NULL,
                                .strength = a->o.strength > 0 ? a->o.strength : 0.1};
    if (!rc && !a->o.overwrite && path_kind(&a->host, out))
        rc = fail(PEFT_ESTATE, "%s exists already", out);
    if (!rc) rc = writer_open(&a->host, out, &a->out);
    if (rc) return rc;
    rc = flow_run(&f);
    int last = flush_waiting(a, !rc);
    if (!rc) rc = last;
    if (!rc && !a->result.rows) rc = fail(PEFT_EDATA, "%s: no rows", a->path);
    if (rc) writer_abort(a->out);
    return rc ? rc : writer_commit(a->out);
}

/* Whether the first row is a picture's. */
static int find_kind(struct augment_run *a, bool *pictures)
{
    struct source_opts how = {.columns = a->source.columns, .table = a->source.table};
    struct row_source *rows = NULL;
    json *row = NULL;
    int64_t line;
    int rc = source_open(&a->host, a->path, &how, &rows);
    if (!rc) rc = source_next(rows, &row, &line);
    source_close(rows);
    *pictures = rc > 0 && row_member(row, "image") && !row_member(row, "text");
    json_free(row);
    return MIN(rc, PEFT_OK);
}

int32_t peft_data_augment(const char *path, const char *out, const peft_augment_opts *opts,
                          peft_augmented *result)
{
    struct augment_run a = {.path = path, .result.size = sizeof a.result};
    bool pictures = false;
    KIT_ARG(path && out, "no file or no place to write to given");
    int rc = take_options(&a.o, sizeof a.o, opts);
    if (!rc) rc = take_options(&a.source, sizeof a.source, a.o.source);
    if (!rc && result) rc = check_result(result);
    if (!rc) rc = host_init(&a.host, a.source.host);
    if (rc) return kit_end(rc);
    keys_init(&a.eval, &a.host.mem);
    buf_init(&a.waiting, &a.host.mem);
    for (int i = 0; i < PEFT_AUGMENTS; i++) a.result.method[i] = method_name(i);
    rc = check_numbers(&a.o);
    if (!rc) rc = find_kind(&a, &pictures);
    if (!rc) rc = pictures ? augment_pictures(&a, out) : augment_texts(&a, out);
    for (int i = 0; i < PEFT_AUGMENTS; i++) a.result.added += a.result.by_method[i];
    if (a.result.added)
        a.result.share = (double)a.result.added / (double)(a.result.rows + a.result.added);
    thesaurus_close(&a.thesaurus);
    keys_free(&a.eval);
    buf_free(&a.waiting);
    if (!rc && result) give_result(result, &a.result, sizeof a.result);
    return kit_end(rc);
}
