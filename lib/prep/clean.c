/* peft_data_clean: the rules, the passes, the files. */
#include "prep/clean.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const action_names[ACTIONS] = {"off", "flag", "drop", "fix", "mask", "majority",
                                                  "fail"};
/* What a rule can do; the first is what it does. */
static const struct { const char *name, *about; enum action can[5]; } rules[CLEAN_RULES] = {
    {"broken", "no JSON object, or no text", {ACT_DROP, ACT_FAIL}},
    {"empty", "rows without text", {ACT_DROP, ACT_FLAG, ACT_OFF}},
    {"encoding", "encoded twice, lost characters", {ACT_FLAG, ACT_FIX, ACT_DROP, ACT_OFF}},
    {"mail", "mail addresses", {ACT_FLAG, ACT_MASK, ACT_DROP, ACT_OFF}},
    {"phone", "phone numbers", {ACT_FLAG, ACT_MASK, ACT_DROP, ACT_OFF}},
    {"card", "numbers of payment cards", {ACT_FLAG, ACT_MASK, ACT_DROP, ACT_OFF}},
    {"iban", "bank accounts", {ACT_FLAG, ACT_MASK, ACT_DROP, ACT_OFF}},
    {"key", "keys and passwords", {ACT_FLAG, ACT_MASK, ACT_DROP, ACT_OFF}},
    {"short", "too short", {ACT_DROP, ACT_FLAG, ACT_OFF}},
    {"long", "too long", {ACT_DROP, ACT_FLAG, ACT_OFF}},
    {"leak", "also in the evaluation data", {ACT_DROP, ACT_FLAG, ACT_OFF}},
    {"exact", "repeats a row before", {ACT_DROP, ACT_FLAG, ACT_OFF}},
    {"contradiction", "the same text with another label",
     {ACT_FLAG, ACT_DROP, ACT_MAJORITY, ACT_OFF}},
    {"near", "almost repeats a row before", {ACT_DROP, ACT_FLAG, ACT_OFF}},
};

/* --- options */

static bool is_word(const char *s, int64_t n, const char *word)
{
    return (int64_t)strlen(word) == n && memcmp(s, word, (size_t)n) == 0;
}

static int set_action(struct clean *c, const char *s, int64_t n)
{
    const char *eq = memchr(s, '=', (size_t)n);
    int rule = 0;
    while (rule < CLEAN_RULES && !(eq && is_word(s, eq - s, rules[rule].name))) rule++;
    if (rule == CLEAN_RULES)
        return fail(PEFT_EARG, "action \"%.*s\", expected a rule and what it does: mail=mask",
                    (int)MIN(n, 60), s);
    for (size_t i = 0; i < ARRAY_LEN(rules[0].can); i++) {
        enum action a = rules[rule].can[i];
        if (i && a == ACT_OFF) i = ARRAY_LEN(rules[0].can);
        if (!is_word(eq + 1, s + n - eq - 1, action_names[a])) continue;
        if (a == ACT_OFF && rule == RULE_BROKEN) break;
        c->act[rule] = a;
        return PEFT_OK;
    }
    char can[64] = "";
    for (size_t i = 0; i < 4; i++) {
        if (i && rules[rule].can[i] == ACT_OFF && rule == RULE_BROKEN) break;
        snprintf(can + strlen(can), sizeof can - strlen(can), "%s%s", i ? ", " : "",
                 action_names[rules[rule].can[i]]);
        if (rules[rule].can[i] == ACT_OFF) break;
    }
    return fail(PEFT_EARG, "action \"%.*s\", expected %s to be one of %s", (int)MIN(n, 60), s,
                rules[rule].name, can);
}

static int clean_options(struct clean *c)
{
    const peft_clean_opts *o = &c->o;
    int rc = PEFT_OK;
    for (int i = 0; i < CLEAN_RULES; i++) c->act[i] = rules[i].can[0];
    for (const char *s = o->actions; s && *s && rc >= 0;) {
        int64_t n = (int64_t)strcspn(s, ",");
        rc = set_action(c, s, n);
        s += n + (s[n] == ',');
    }
    if (rc < 0) return rc;
    c->near = o->near != 0 ? o->near : 0.8;
    c->shingle = o->shingle ? o->shingle : 3;
    if (!(c->near >= 0.3 && c->near <= 1))
        return fail(PEFT_EARG, "near is %g, expected 0.3 to 1", c->near);
    if (c->shingle < 1 || c->shingle > 64)
        return fail(PEFT_EARG, "a shingle of %d words, expected 1 to 64", c->shingle);
    if (o->min_chars < 0 || o->max_chars < 0 || o->min_tokens < 0 || o->max_tokens < 0)
        return fail(PEFT_EARG, "a length below 0");
    if ((o->min_tokens || o->max_tokens) && !o->model)
        return fail(PEFT_EARG, "lengths in tokens are given and no model, expected both");
    if (!o->min_chars && !o->min_tokens) c->act[RULE_SHORT] = ACT_OFF;
    if (!o->max_chars && !o->max_tokens) c->act[RULE_LONG] = ACT_OFF;
    if (!o->against) c->act[RULE_LEAK] = ACT_OFF;
    for (int i = 0; i < CLEAN_RULES; i++)
        c->report.rule[c->report.n++] = (struct report_rule){
            .name = rules[i].name, .about = rules[i].about, .action = action_names[c->act[i]]};
    return PEFT_OK;
}

/* --- rows that are no text: the reader tells of them before it is their turn */

static int clean_broken(void *ctx, int64_t line)
{
    struct clean *c = ctx;
    struct clean_late late = {.line = line};
    if (c->act[RULE_BROKEN] == ACT_FAIL) return PEFT_EFORMAT;
    snprintf(late.reason, sizeof late.reason, "%s", error_message());
    buf_put(&c->late, &late, sizeof late);
    return buf_check(&c->late);
}

/* The next of them that stands before the row of this index, if there is one. */
static bool late_before(struct clean *c, int64_t line, struct clean_late *out)
{
    if (c->late_at == c->late.n) return false;
    memcpy(out, c->late.data + c->late_at, sizeof *out);
    if (out->line > line) return false;
    c->late_at += (int64_t)sizeof *out;
    return true;
}

/* --- the first pass */

static int keep_late(struct clean *c, int64_t line)
{
    struct clean_late late;
    int rc = PEFT_OK;
    while (rc >= 0 && late_before(c, line, &late)) {
        struct row_info info = {.line = (uint32_t)late.line, .of = NO_ROW,
                                .verdict = RULE_BROKEN};
        rc = rows_add(&c->rows, &info, NULL);
    }
    return rc;
}

static int take_note(void *ctx, struct flow_row *r)
{
    struct clean *c = ctx;
    const struct clean_note *note = r->note;
    int rc = keep_late(c, r->line);
    if (rc >= 0 && !c->evaluation) findings_take(r, &c->report);
    if (rc >= 0 && c->evaluation && r->more_n) {
        struct clean_input in = {.row = (uint32_t)c->rows.n};
        if (c->n_inputs == c->cap_inputs) {
            c->cap_inputs = MAX(2 * c->cap_inputs, 1024);
            void *now = mem_realloc(&c->host.mem, c->inputs,
                                    c->cap_inputs * (int64_t)sizeof *c->inputs);
            if (!now) return PEFT_ENOMEM;
            c->inputs = now;
        }
        memcpy(&in.hash, r->more->data + r->more_at, sizeof in.hash);
        c->inputs[c->n_inputs++] = in;
    }
    return rc < 0 ? rc : rows_add(&c->rows, &note->info, &note->sketch);
}

static int by_hash_and_row(const void *a, const void *b)
{
    const struct clean_input *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* Of rows that ask the same the first is enough. */
static void sort_inputs(struct clean *c)
{
    int64_t n = 0;
    if (c->n_inputs > 1)
        qsort(c->inputs, (size_t)c->n_inputs, sizeof *c->inputs, by_hash_and_row);
    for (int64_t i = 0; i < c->n_inputs; i++)
        if (!n || c->inputs[n - 1].hash != c->inputs[i].hash) c->inputs[n++] = c->inputs[i];
    c->n_inputs = n;
}

/* One file through `work` and `take`. */
static int clean_pass(struct clean *c, const char *path, peft_source_opts *source,
                      int (*work)(void *, struct flow_row *, int),
                      int (*take)(void *, struct flow_row *))
{
    struct flow f = {.host = &c->host, .path = path, .source = source, .ctx = c, .work = work,
                     .take = take, .note = (int64_t)sizeof(struct clean_note),
                     .broken = clean_broken, .done = c->done, .total = c->total};
    if (work == clean_again) f.note = 0;
    buf_clear(&c->late);
    c->late_at = 0;
    int rc = flow_run(&f);
    c->done += flow_size(&c->host, path);
    return rc;
}

static int read_rows(struct clean *c, const char *in)
{
    int rc = PEFT_OK;
    if (c->o.against) {
        peft_source_opts all = c->source;
        all.limit = 0;
        c->evaluation = true;
        rc = clean_pass(c, c->o.against, &all, clean_look, take_note);
        c->evaluation = false;
        c->first = c->rows.n;
        sort_inputs(c);
    }
    if (rc >= 0) rc = clean_pass(c, in, &c->source, clean_look, take_note);
    return rc < 0 ? rc : keep_late(c, INT64_MAX);
}

/* --- the second pass */

static void put_dropped(struct clean *c, const struct row_info *info, const char *row, int64_t n)
{
    struct buf b;
    if (!c->dropped) return;
    buf_init(&b, &c->host.mem);
    buf_printf(&b, "{\"line\": %u, \"rule\": \"%s\"", info->line, rules[info->verdict].name);
    if (info->of != NO_ROW) {
        buf_printf(&b, ", \"of\": %u, \"similarity\": ", rows_at(&c->rows, info->of)->line);
        buf_number(&b, (int)(sketch_alike(info->equal) * 1000 + 0.5) / 1000.0);
    }
    buf_puts(&b, ", \"row\": ");
    if (info->verdict == RULE_BROKEN) buf_json(&b, row, n);
    else buf_put(&b, row, n);
    buf_puts(&b, "}\n");
    if (!b.oom) writer_put(c->dropped, b.data, b.n);
    buf_free(&b);
}

/* Counts what has caught the row: true = it is dropped. */
static bool drop_row(struct clean *c, const struct row_info *info, const char *row, int64_t n)
{
    if (info->verdict == NO_VERDICT) return false;
    struct report_rule *q = &c->report.rule[info->verdict];
    bool flag = c->act[info->verdict] == ACT_FLAG;
    q->rows++;
    q->places++;
    if (report_wants(&c->report, info->verdict)) {
        struct shown e = example_of(NULL, row, n, NULL, 0, 0);
        e.line = info->line;
        e.of = info->of != NO_ROW ? rows_at(&c->rows, info->of)->line : 0;
        e.similarity = sketch_alike(info->equal);
        report_show(&c->report, info->verdict, &e);
    }
    if (!flag) put_dropped(c, info, row, n);
    return !flag;
}

static void drop_late(struct clean *c, int64_t line)
{
    struct clean_late late;
    while (late_before(c, line, &late)) {
        const struct row_info *info = rows_at(&c->rows, c->first + c->at++);
        c->report.rows++;
        drop_row(c, info, late.reason, (int64_t)strlen(late.reason));
    }
}

static int take_clean(void *ctx, struct flow_row *r)
{
    struct clean *c = ctx;
    drop_late(c, r->line);
    const struct row_info *info = rows_at(&c->rows, c->first + c->at++);
    c->report.rows++;
    if (info->line != (uint32_t)r->line)
        return fail(PEFT_EIO, "%s: has changed while it was read", r->path);
    if (drop_row(c, info, r->text, r->n)) return PEFT_OK;
    c->report.kept++;
    c->report.changed += r->out_n > 0;
    if (c->to) flow_put(c->to, r);
    return PEFT_OK;
}

static int commit(struct writer **w)
{
    struct writer *to = *w;
    *w = NULL;
    return to ? writer_commit(to) : PEFT_OK;
}

static int clean(struct clean *c, const char *in, const char *out)
{
    int64_t size = flow_size(&c->host, in);
    int rc = clean_options(c);
    if (rc < 0) return rc;
    c->rows.sketches = c->act[RULE_NEAR] != ACT_OFF;
    c->total = 2 * size + (c->o.against ? flow_size(&c->host, c->o.against) : 0);
    if (out) rc = writer_open(&c->host, out, &c->to);
    if (rc >= 0 && c->o.dropped) rc = writer_open(&c->host, c->o.dropped, &c->dropped);
    if (rc >= 0) rc = read_rows(c, in);
    if (rc >= 0) rc = clean_repeats(c);
    if (rc >= 0) rc = clean_pass(c, in, &c->source, clean_again, take_clean);
    if (rc < 0) return rc;
    drop_late(c, INT64_MAX);
    c->report.bytes = c->to ? writer_at(c->to) : 0;
    rc = commit(&c->to);
    return rc < 0 ? rc : commit(&c->dropped);
}

static int clean_begin(struct clean *c)
{
    struct mem *mem = &c->host.mem;
    rows_init(&c->rows, mem, true);
    personal_init(&c->personal);
    buf_init(&c->late, mem);
    for (int i = 0; i < flow_threads(&c->source); i++) {
        struct clean_worker *w = &c->worker[i];
        row_words_init(&w->words, mem);
        row_words_init(&w->input, mem);
        buf_init(&w->text[0], mem);
        buf_init(&w->text[1], mem);
        buf_init(&w->label, mem);
        if (w->words.oom || w->input.oom) return PEFT_ENOMEM;
    }
    return PEFT_OK;
}

static void clean_end(struct clean *c)
{
    for (int i = 0; i < POOL_MAX && c->worker[i].words.mem; i++) {
        struct clean_worker *w = &c->worker[i];
        row_words_free(&w->words);
        if (w->input.mem) row_words_free(&w->input);
        for (int k = 0; k < 2; k++)
            if (w->text[k].mem) buf_free(&w->text[k]);
        if (w->label.mem) buf_free(&w->label);
        mem_free(&c->host.mem, w->fields);
    }
    rows_free(&c->rows);
    buf_free(&c->late);
    mem_free(&c->host.mem, c->inputs);
    writer_abort(c->to);
    writer_abort(c->dropped);
}

int32_t peft_data_clean(const char *in, const char *out, const peft_clean_opts *opts,
                        peft_tables **report)
{
    KIT_ARG(in, "no input given, expected a file");
    struct host host;
    peft_clean_opts o;
    peft_source_opts source;
    if (report) *report = NULL;
    int rc = take_options(&o, sizeof o, opts);
    if (rc >= 0) rc = take_options(&source, sizeof source, o.source);
    if (rc >= 0) rc = host_init(&host, source.host);
    if (rc < 0) return kit_end(rc);
    struct clean *c = mem_zalloc(&host.mem, sizeof *c);
    if (!c) return kit_end(PEFT_ENOMEM);
    c->host = host;
    c->o = o;
    c->source = source;
    c->report.began = os_seconds();
    rc = clean_begin(c);
    if (rc >= 0) rc = clean(c, in, out);
    if (rc >= 0 && report) rc = report_tables(&c->host, &c->report, report);
    clean_end(c);
    mem_free(&host.mem, c);
    return kit_end(rc);
}
