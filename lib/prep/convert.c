/* From one format of training data to another.
 *
 * A row is read as a conversation and written anew.  What is written is read and turned
 * back at once: the members that do not come back as they were are kept in the column
 * "kept", so that the way back gives the same row whatever the two formats are.
 *
 *   "kept": {"format": "alpaca",       whose members these are
 *            "style": 1,               how that format was written, if not as usual
 *            "input": "...",           how its last question ended
 *            "of": "91c4...",          hash of the texts that the columns belong to
 *            "columns": {"name": ..}}  members as they were; null = was not there
 *
 * Columns are of no use once the texts have been changed; the hash tells. */
#include "prep/flow.h"
#include "prep/keys.h"
#include "prep/talk.h"

#include <stdio.h>

static const char kept_key[] = "kept", second_key[] = "rejected";
enum { OWN_MAX = 7, NAMED = 5, MANY = 1000 };

struct convert {
    struct host host;
    peft_data_convert_opts o;
    peft_source_opts source;
    const char *path;
    const struct form *from, *to;
    struct writer *out;
    int64_t lost[OWN_MAX];          /* rows in which a column of `from` was kept, or lost */
    peft_data_converted result;
};

/* What `work` tells `take` of a row. */
struct row_told {
    int32_t rows;                   /* written */
    uint8_t kept, restored, stale;
    uint8_t skipped;
    uint8_t columns;                /* of from->own, as bits */
    char why[160];                  /* it was skipped */
};

/* --- whether two values are the same; null counts as absent */

/* A member by its very name, which may have a dot. */
static const json *member_of(const json *object, const char *key)
{
    const json *v = json_first(object);
    while (v && strcmp(json_key(v), key) != 0) v = json_next(v);
    return v;
}

static bool is_null(const json *v) { return !v || json_kind(v) == JSON_NULL; }

static int64_t count_members(const json *j)
{
    int64_t n = 0;
    for (const json *c = json_first(j); c; c = json_next(c)) n += !is_null(c);
    return n;
}

/* Recursion is bounded by the parser's depth. */
static bool is_same(const json *a, const json *b)
{
    if (is_null(a) || is_null(b)) return is_null(a) && is_null(b);
    if (json_kind(a) != json_kind(b)) return false;
    switch (json_kind(a)) {
    case JSON_STRING: return !strcmp(json_string(a), json_string(b));
    case JSON_NUMBER: return !(json_number(a, 0) < json_number(b, 0)) &&
                             !(json_number(a, 0) > json_number(b, 0));
    case JSON_BOOL: return json_bool(a, 0) == json_bool(b, 0);
    default: break;
    }
    const json *x = json_first(a), *y = json_first(b);
    if (json_kind(a) == JSON_ARRAY) {
        for (; x && y && is_same(x, y); y = json_next(y)) x = json_next(x);
        return !x && !y;
    }
    /* Usually in one order; of very many members only that is looked for. */
    int64_t n = count_members(a), m = count_members(b);
    for (; x && n == m; x = json_next(x), y = y ? json_next(y) : NULL) {
        bool here = y && !strcmp(json_key(x), json_key(y));
        if (is_null(x)) continue;
        if (!is_same(x, here ? y : n > MANY ? NULL : member_of(b, json_key(x)))) return false;
    }
    return n == m;
}

/* --- one row */

struct job {
    struct convert *c;
    struct flow_row *r;
    struct arena arena;
    struct row_told *told;
    struct buf row, back;           /* what is written, and turned back */
    bool lent;                      /* for which it had to be told how the question ends */
};

static int read_form(const struct form *f, const json *row, struct talk *t)
{
    if (!row_member(row, f->need[0]) || (f->need[1] && !row_member(row, f->need[1]))) {
        const struct form *other = form_of(row);
        return fail(PEFT_EFORMAT, "expected a row of %s, as the first one; found %s", f->name,
                    other ? other->name : "none of the formats");
    }
    return f->read(row, t);
}

/* Members without braces. */
static int write_form(const struct job *j, const struct form *f, struct buf *b,
                      const struct talk *t, int style)
{
    if (f->write) return f->write(b, t, style);
    struct buf text;
    buf_init(&text, b->mem);
    int rc = text_of(&text, t, j->c->o.layout);
    buf_puts(b, "\"text\": ");
    buf_json(b, buf_str(&text), text.n);
    buf_free(&text);
    return rc ? rc : buf_check(b);
}

static void pass_on(const struct form *from, const struct form *to, const json *row, struct buf *b)
{
    for (const json *v = json_first(row); v; v = json_next(v)) {
        const char *key = json_key(v);
        if (form_owns(from, key) || form_owns(to, key) || !strcmp(key, kept_key)) continue;
        buf_puts(b, ", ");
        buf_json(b, key, (int64_t)strlen(key));
        buf_puts(b, ": ");
        json_write(b, v);
    }
}

static void hash_of(const struct form *f, const json *row, struct buf *scratch, char hex[17])
{
    buf_clear(scratch);
    for (size_t i = 0; i < OWN_MAX && f->own[i]; i++) {
        const json *v = row_member(row, f->own[i]);
        if (v) json_write(scratch, v);
        buf_putc(scratch, 0);
    }
    uint64_t h = key_of(0, buf_str(scratch), scratch->n);
    snprintf(hex, 17, "%016llx", (unsigned long long)h);
}

/* A text's one pair, as a conversation. */
struct one { struct talk *t; int64_t n; };
static int take_one(void *ctx, const char *question, const char *input, const char *answer)
{
    struct one *o = ctx;
    struct talk *t = o->t;
    if (o->n++) return PEFT_OK;
    char *q = talk_text(t, question, input ? "\n" : "", input ? input : "");
    char *a = talk_text(t, answer, "", "");
    if (!q || !a) return PEFT_ENOMEM;
    t->input = input ? q + strlen(question) + 1 : NULL;
    t->prompt = 1;
    int rc = turn_add(t, &t->all, USER, q, NULL);
    return rc ? rc : turn_add(t, &t->all, ASSISTANT, a, NULL);
}

static int read_text(struct job *j, const json *row, struct talk *t)
{
    const char *text;
    struct one one = {t, 0};
    struct pairs to = {take_one, &one};
    int rc = row_text(row, "text", false, &text);
    if (!rc)
        rc = pairs_find(&j->c->host.mem, text, (int64_t)strlen(text), j->c->o.layout, &to);
    if (!rc && one.n != 1)
        rc = fail(PEFT_EFORMAT, "a text with %lld questions, expected one", (long long)one.n);
    return rc;
}

static int read_any(struct job *j, const struct form *f, const json *row, struct talk *t)
{
    t->arena = &j->arena;
    return f->read ? read_form(f, row, t) : read_text(j, row, t);
}

/* How a row differs from what comes back, as members of "columns" in *b: their number; only
 * counted without b.  The second answer of two only came back because it was lent. */
static int differences(const struct form *f, const json *row, const json *now, bool lacks_second,
                       struct buf *b, uint8_t *columns)
{
    int n = 0;
    for (int i = 0; i < OWN_MAX && f->own[i]; i++) {
        const json *was = row_member(row, f->own[i]);
        bool lost = lacks_second && !strcmp(f->own[i], second_key);
        if (!lost && is_same(was, row_member(now, f->own[i]))) continue;
        if (b) {
            if (n) buf_puts(b, ", ");
            buf_json(b, f->own[i], (int64_t)strlen(f->own[i]));
            buf_puts(b, ": ");
            if (was) json_write(b, was);
            else buf_puts(b, "null");
        }
        if (columns && was) *columns |= (uint8_t)(1 << i);
        n++;
    }
    const json *nested = row_member(row, kept_key);
    if (nested && b) {
        buf_printf(b, "%s\"%s\": ", n ? ", " : "", kept_key);
        json_write(b, nested);
    }
    return n + (nested != NULL);
}

/* The row in b, turned back in this style; NULL when it cannot be. */
static int turn_back(struct job *j, const json *b, const struct talk *was, int style, json **out)
{
    struct talk t = {0};
    *out = NULL;
    buf_clear(&j->back);
    buf_putc(&j->back, '{');
    int rc = read_any(j, j->c->to, b, &t);
    j->lent = was->input && !t.input;
    if (j->lent) t.input = was->input;
    if (!t.rejected.n) t.rejected = was->rejected;
    if (!rc) rc = write_form(j, j->c->from, &j->back, &t, style);
    buf_putc(&j->back, '}');
    if (!rc) rc = json_parse(buf_str(&j->back), j->back.n, "the row turned back", out);
    if (rc != PEFT_EFORMAT) return rc;
    error_clear();
    return PEFT_OK;
}

/* Appends what the way back needs to the row in j->row, which lacks its closing brace. */
static int keep(struct job *j, const json *row, const struct talk *was)
{
    const struct form *from = j->c->from, *to = j->c->to;
    json *b = NULL, *best = NULL, *now;
    int style = 0, least = -1;
    bool from_text = !from->read;
    if (!from->write && !from_text) return PEFT_OK;
    bool lacks = was->rejected.n && !form_owns(to, second_key);
    buf_putc(&j->row, '}');
    int rc = json_parse(buf_str(&j->row), j->row.n, "the new row", &b);
    j->row.n--;
    for (int s = 0; s < from->styles && !rc && least; s++) {
        rc = turn_back(j, b, was, s, &now);
        int n = rc ? 0 : differences(from, row, now, lacks, NULL, NULL);
        if (!rc && (least < 0 || n < least)) {
            json_free(best);
            best = now;
            least = n;
            style = s;
        } else {
            json_free(now);
        }
    }
    /* A text that pairs were found in was more than they are. */
    if (from_text) least = 0;
    if (!rc && (least || style || j->lent)) {
        char of[17];
        hash_of(to, b, &j->back, of);
        buf_clear(&j->back);
        if (least) differences(from, row, best, lacks, &j->back, &j->told->columns);
        j->told->kept = 1;
        if (!j->c->o.drop) {
            buf_printf(&j->row, ", \"%s\": {\"format\": \"%s\"", kept_key, from->name);
            if (style) buf_printf(&j->row, ", \"style\": %d", style);
            if (j->lent) {
                buf_puts(&j->row, ", \"input\": ");
                buf_json(&j->row, was->input, (int64_t)strlen(was->input));
            }
            if (least)
                buf_printf(&j->row, ", \"of\": \"%s\", \"columns\": {%s}", of, buf_str(&j->back));
            buf_putc(&j->row, '}');
        }
    }
    json_free(best);
    json_free(b);
    return rc ? rc : buf_check(&j->row);
}

/* --- the way back */

/* Members of the row in j->row are replaced by those that were kept. */
static int restore(struct job *j, const json *columns)
{
    json *row = NULL;
    const char *sep = "{";
    buf_putc(&j->row, '}');
    int rc = json_parse(buf_str(&j->row), j->row.n, "the new row", &row);
    if (rc) return rc;
    buf_clear(&j->row);
    for (const json *v = json_first(row); v; v = json_next(v)) {
        const json *kept = member_of(columns, json_key(v));
        if ((kept && is_null(kept)) || !strcmp(json_key(v), kept_key)) continue;
        buf_puts(&j->row, sep);
        sep = ", ";
        buf_json(&j->row, json_key(v), (int64_t)strlen(json_key(v)));
        buf_puts(&j->row, ": ");
        json_write(&j->row, kept ? kept : v);
    }
    for (const json *v = json_first(columns); v; v = json_next(v)) {
        if (is_null(v) || member_of(row, json_key(v))) continue;
        buf_puts(&j->row, sep);
        sep = ", ";
        buf_json(&j->row, json_key(v), (int64_t)strlen(json_key(v)));
        buf_puts(&j->row, ": ");
        json_write(&j->row, v);
    }
    if (*sep == '{') buf_puts(&j->row, sep);
    json_free(row);
    return buf_check(&j->row);
}

/* What the row keeps for the format that is wanted, or NULL. */
static const json *kept_for(const struct job *j, const json *row, const json **columns)
{
    const json *kept = row_member(row, kept_key);
    const char *format = json_string(json_get(kept, "format"));
    const char *of = json_string(json_get(kept, "of"));
    char hex[17];
    struct buf scratch;
    *columns = NULL;
    if (!format || strcmp(format, j->c->to->name) != 0) return NULL;
    if (!of) return kept;
    buf_init(&scratch, &j->c->host.mem);
    hash_of(j->c->from, row, &scratch, hex);
    buf_free(&scratch);
    if (!strcmp(of, hex)) *columns = json_get(kept, "columns");
    else j->told->stale = 1;
    return kept;
}

static int write_row(struct job *j, const json *row, struct talk *t)
{
    const struct form *from = j->c->from, *to = j->c->to;
    const json *columns, *kept = kept_for(j, row, &columns);
    int64_t style = 0;
    int rc = kept ? json_int(kept, "style", 0, to->styles - 1, &style) : 0;
    const char *input = json_string(json_get(kept, "input"));
    if (rc < 0) return rc;
    if (input) t->input = input;
    if (!t->rejected.n && row_member(columns, second_key)) rc = talk_rejected(t, columns);
    if (rc < 0) return rc;
    buf_clear(&j->row);
    buf_putc(&j->row, '{');
    rc = write_form(j, to, &j->row, t, (int)style);
    if (rc == PEFT_EFORMAT && columns) {
        buf_clear(&j->row);         /* columns are all of it */
        buf_puts(&j->row, "{\"kept\": null");
        error_clear();
        rc = PEFT_OK;
    }
    if (rc) return rc;
    pass_on(from, to, row, &j->row);
    if (columns) rc = restore(j, columns);
    else if (!kept) rc = keep(j, row, t);
    j->told->restored = columns != NULL;
    buf_putc(&j->row, '}');
    buf_putc(&j->row, '\n');
    return rc ? rc : buf_check(&j->row);
}

/* --- texts, which may have many pairs */

static int take_pair(void *ctx, const char *question, const char *input, const char *answer)
{
    struct job *j = ctx;
    struct talk t = {.arena = &j->arena};
    struct one one = {&t, 0};
    int rc = take_one(&one, question, input, answer);
    buf_clear(&j->row);
    buf_putc(&j->row, '{');
    if (!rc) rc = write_form(j, j->c->to, &j->row, &t, 0);
    if (!rc) pass_on(j->c->from, j->c->to, j->r->row, &j->row);
    buf_puts(&j->row, "}\n");
    if (!rc) buf_put(j->r->out, j->row.data, j->row.n);
    j->told->rows++;
    return rc ? rc : buf_check(j->r->out);
}

static int convert_text(struct job *j)
{
    const json *columns, *kept = kept_for(j, j->r->row, &columns);
    struct pairs to = {take_pair, j};
    const char *text;
    struct talk t = {.arena = &j->arena};
    int rc = read_text(j, j->r->row, &t);
    if (!rc || kept) {
        if (rc == PEFT_EFORMAT && columns) {
            t = (struct talk){.arena = &j->arena};
            error_clear();
            rc = PEFT_OK;
        }
        if (!rc) rc = write_row(j, j->r->row, &t);
        if (!rc) buf_put(j->r->out, j->row.data, j->row.n);
        j->told->rows = 1;
        return rc;
    }
    if (rc != PEFT_EFORMAT) return rc;
    error_clear();
    rc = row_text(j->r->row, "text", false, &text);
    return rc ? rc : pairs_find(&j->c->host.mem, text, (int64_t)strlen(text), j->c->o.layout, &to);
}

static int convert_talk(struct job *j)
{
    struct talk t = {0};
    int rc = read_any(j, j->c->from, j->r->row, &t);
    if (!rc) rc = write_row(j, j->r->row, &t);
    if (!rc) buf_put(j->r->out, j->row.data, j->row.n);
    j->told->rows = 1;
    return rc ? rc : buf_check(j->r->out);
}

static int convert_row(void *ctx, struct flow_row *r, int worker)
{
    struct convert *c = ctx;
    struct job j = {.c = c, .r = r, .told = r->note};
    int64_t at = r->out->n;
    (void)worker;
    arena_init(&j.arena, &c->host.mem);
    buf_init(&j.row, &c->host.mem);
    buf_init(&j.back, &c->host.mem);
    int rc = flow_parse(r);
    if (!rc) {
        rc = c->from->read ? convert_talk(&j) : convert_text(&j);
        if (rc == PEFT_EFORMAT && c->o.skip) {
            *j.told = (struct row_told){.skipped = 1};
            snprintf(j.told->why, sizeof j.told->why, "%.150s", error_message());
            r->out->n = at;
            rc = PEFT_OK;
        }
        if (rc) fail_in(rc, "%s line %lld: ", r->path, (long long)r->line);
    }
    buf_free(&j.back);
    buf_free(&j.row);
    arena_free(&j.arena);
    return rc;
}

static int take_row(void *ctx, struct flow_row *r)
{
    struct convert *c = ctx;
    const struct row_told *t = r->note;
    peft_data_converted *sum = &c->result;
    if (t->skipped && sum->skipped++ < NAMED)
        host_log(&c->host, LOG_WARN, "%s line %lld is left out: %s", c->path, (long long)r->line,
                 t->why);
    writer_put(c->out, r->out->data + r->out_at, r->out_n);
    sum->read++;
    sum->rows += t->skipped ? 0 : t->rows;
    sum->kept += t->kept;
    sum->restored += t->restored;
    sum->stale += t->stale;
    for (int i = 0; i < OWN_MAX; i++) c->lost[i] += t->columns >> i & 1;
    return PEFT_OK;
}

/* --- all of it */

static int find_forms(struct convert *c)
{
    struct source_opts how = {.columns = c->source.columns, .table = c->source.table,
                              .chunk = c->source.chunk};
    struct row_source *rows = NULL;
    json *row = NULL;
    int64_t line;
    c->to = form_named(c->o.to ? c->o.to : "");
    if (!c->to || (!c->to->write && strcmp(c->to->name, "text") != 0))
        return fail(PEFT_EARG, "format \"%.40s\", expected alpaca, sharegpt, messages, "
                    "prompt-completion, preference or text", c->o.to ? c->o.to : "");
    if (c->o.from && !(c->from = form_named(c->o.from)))
        return fail(PEFT_EARG, "format \"%.40s\", expected alpaca, sharegpt, messages, "
                    "prompt-completion, preference, question-answer or text", c->o.from);
    int rc = c->o.layout ? layout_check(c->o.layout) : PEFT_OK;
    if (!rc) rc = source_open(&c->host, c->path, &how, &rows);
    if (rc) return rc;
    rc = source_next(rows, &row, &line);
    source_close(rows);
    if (rc == 0) return fail(PEFT_EDATA, "%s: no rows", c->path);
    if (rc < 0) return rc;
    if (!c->from) c->from = form_of(row);
    rc = c->from ? PEFT_OK
                 : fail(PEFT_EFORMAT, "%s line %lld: no format has these columns; "
                        "expected messages, conversations, prompt and completion, instruction and "
                        "output, chosen and rejected, question and answer, or text", c->path,
                        (long long)line);
    json_free(row);
    if (!rc && c->from == c->to)
        rc = fail(PEFT_EARG, "%s has the format %s already", c->path, c->to->name);
    return rc;
}

static void tell(struct convert *c)
{
    peft_data_converted *r = &c->result;
    snprintf(r->from, sizeof r->from, "%s", c->from->name);
    size_t n = 0;
    for (int i = 0; i < OWN_MAX && c->from->own[i]; i++)
        if (c->lost[i] && n < sizeof r->columns)
            n += (size_t)snprintf(r->columns + n, sizeof r->columns - n, "%s%s", n ? ", " : "",
                                  c->from->own[i]);
    if (r->skipped > NAMED)
        host_log(&c->host, LOG_WARN, "%lld rows are left out", (long long)r->skipped);
}

static int convert_file(struct convert *c, const char *out)
{
    enum { WHOLE = 16 << 20 };      /* a question and its answer may be paragraphs apart */
    if (!c->source.chunk) c->source.chunk = WHOLE;
    struct flow f = {.host = &c->host, .path = c->path, .source = &c->source, .ctx = c,
                     .note = sizeof(struct row_told), .work = convert_row, .take = take_row};
    int rc = find_forms(c);
    if (!rc && !c->o.overwrite && path_kind(&c->host, out))
        rc = fail(PEFT_ESTATE, "%s exists already", out);
    if (!rc) rc = writer_open(&c->host, out, &c->out);
    if (rc) return rc;
    rc = flow_run(&f);
    if (!rc && !c->result.rows)
        rc = c->from->read ? fail(PEFT_EDATA, "%s: no row could be converted", c->path)
                           : fail(PEFT_EDATA, "%s: no questions with answers found: expected lines "
                                  "Q: and A:, headings that end in \"?\", a table, or a template",
                                  c->path);
    if (rc) writer_abort(c->out);
    else rc = writer_commit(c->out);
    if (!rc) tell(c);
    return rc;
}

int32_t peft_data_convert(const char *path, const char *out, const peft_data_convert_opts *opts,
                          peft_data_converted *result)
{
    struct convert c = {.path = path, .result.size = sizeof c.result};
    KIT_ARG(path && out, "no file or no place to write to given");
    int rc = take_options(&c.o, sizeof c.o, opts);
    if (!rc) rc = take_options(&c.source, sizeof c.source, c.o.source);
    if (!rc && result) rc = check_result(result);
    if (!rc) rc = host_init(&c.host, c.source.host);
    if (!rc) rc = convert_file(&c, out);
    if (!rc && result) give_result(result, &c.result, sizeof c.result);
    return kit_end(rc);
}
