/* peft_data_clean: the rules, the passes, the files. */
#include "prep/clean.h"

#include <stdio.h>

enum { MEMORY = 160 };                  /* MiB */
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

static int has_changed(const char *path)
{
    return fail(PEFT_EIO, "%s: has changed while it was read", path);
}

/* What the first pass knows of the next row. */
static int next_known(struct clean *c, int64_t line, struct row_info *out)
{
    const void *info;
    int rc = spill_next(&c->known, &info);
    if (rc < 0) return rc;
    if (rc) *out = *(const struct row_info *)info;
    return rc && out->line == (uint32_t)line ? PEFT_OK : has_changed(c->in);
}

static int clean_broken(void *ctx, int64_t line)
{
    struct clean *c = ctx;
    struct clean_late late = {.line = line};
    if (c->act[RULE_BROKEN] == ACT_FAIL) return PEFT_EFORMAT;
    snprintf(late.reason, sizeof late.reason, "%s", error_message());
    int rc = c->again ? next_known(c, line, &late.info) : PEFT_OK;
    buf_put(&c->late, &late, sizeof late);
    return rc < 0 ? rc : buf_check(&c->late);
}

/* The next of them that stands before the row of this line, if there is one. */
static bool late_before(struct clean *c, int64_t line, struct clean_late *out)
{
    if (c->late_at == c->late.n) return false;
    memcpy(out, c->late.data + c->late_at, sizeof *out);
    if (out->line > line) return false;
    c->late_at += (int64_t)sizeof *out;
    if (c->late_at == c->late.n) buf_clear(&c->late), c->late_at = 0;
    return true;
}

/* --- the first pass */

static int keep_row(struct clean *c, const struct row_info *info, const struct near_row *near)
{
    int rc = spill_put(&c->infos, info);
    return rc < 0 ? rc : near_add(&c->near_rows, near);
}

static int keep_late(struct clean *c, int64_t line)
{
    struct clean_late late;
    int rc = PEFT_OK;
    while (rc >= 0 && late_before(c, line, &late)) {
        struct row_info info = {.line = (uint32_t)late.line, .of = NO_ROW,
                                .verdict = RULE_BROKEN};
        rc = keep_row(c, &info, NULL);
    }
    return rc;
}

static int take_note(void *ctx, struct flow_row *r)
{
    struct clean *c = ctx;
    const struct clean_note *note = r->note;
    int rc = keep_late(c, r->line);
    if (rc >= 0 && !c->evaluation) findings_take(r, &c->report);
    if (rc >= 0 && note->asks)
        rc = sorter_put(&c->inputs, note->input, (uint64_t)c->infos.n);
    return rc < 0 ? rc : keep_row(c, &note->info, note->sketched ? &note->near : NULL);
}

static int know_row(void *ctx, struct flow_row *r)
{
    return next_known(ctx, r->line, r->note);
}

/* One file through `work` and `take`. */
static int clean_pass(struct clean *c, const char *path, peft_source_opts *source,
                      int (*work)(void *, struct flow_row *, int),
                      int (*take)(void *, struct flow_row *))
{
    struct flow f = {.host = &c->host, .path = path, .source = source, .ctx = c, .work = work,
                     .take = take, .note = (int64_t)sizeof(struct clean_note),
                     .broken = clean_broken, .done = c->done, .total = c->total};
    if (c->again) f.know = know_row;
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
        c->first = c->infos.n;
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
    if (info->of) {
        buf_printf(&b, ", \"of\": %u, \"similarity\": ", info->of);
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
        e.of = info->of;
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
        c->report.rows++;
        drop_row(c, &late.info, late.reason, (int64_t)strlen(late.reason));
    }
}

static int take_clean(void *ctx, struct flow_row *r)
{
    struct clean *c = ctx;
    drop_late(c, r->line);
    c->report.rows++;
    if (drop_row(c, r->note, r->text, r->n)) return PEFT_OK;
    c->report.kept++;
    c->report.changed += r->out_n > 0;
    if (c->to) flow_put(c->to, r);
    return PEFT_OK;
}

static int write_rows(struct clean *c)
{
    const void *more;
    c->again = true;
    spill_read(&c->known, &c->infos);
    int rc = clean_pass(c, c->in, &c->source, clean_again, take_clean);
    if (rc >= 0 && (rc = spill_next(&c->known, &more)) > 0) rc = has_changed(c->in);
    if (rc >= 0) drop_late(c, INT64_MAX);
    return rc;
}

static int commit(struct writer **w)
{
    struct writer *to = *w;
    *w = NULL;
    return to ? writer_commit(to) : PEFT_OK;
}

/* Whether it can be written; nothing is there before rows are. */
static int try_writer(struct clean *c, const char *path)
{
    struct writer *w = NULL;
    int rc = path ? writer_open(&c->host, path, &w) : PEFT_OK;
    writer_abort(w);
    return rc;
}

static int clean(struct clean *c, const char *out)
{
    int64_t size = flow_size(&c->host, c->in);
    int rc = clean_options(c);
    if (rc < 0) return rc;
    c->search = c->act[RULE_NEAR] ? size : 0;
    c->total = 2 * size + c->search + (c->o.against ? flow_size(&c->host, c->o.against) : 0);
    rc = try_writer(c, out);
    if (rc >= 0) rc = try_writer(c, c->o.dropped);
    if (rc >= 0) rc = read_rows(c, c->in);
    if (rc >= 0) rc = clean_repeats(c);
    if (rc >= 0 && out) rc = writer_open(&c->host, out, &c->to);
    if (rc >= 0 && c->o.dropped) rc = writer_open(&c->host, c->o.dropped, &c->dropped);
    if (rc >= 0) rc = write_rows(c);
    if (rc < 0) return rc;
    c->report.bytes = c->to ? writer_at(c->to) : 0;
    rc = commit(&c->to);
    return rc < 0 ? rc : commit(&c->dropped);
}

static int clean_begin(struct clean *c, const char *out)
{
    struct mem *mem = &c->host.mem;
    int rc = scratch_begin(&c->scratch, &c->host, out ? out : c->in);
    if (rc < 0) return rc;
    c->memory = c->o.memory > 0 ? c->o.memory : (int64_t)MEMORY << 20;
    spill_begin(&c->infos, &c->scratch, sizeof(struct row_info), c->memory / 16);
    sorter_begin(&c->inputs, &c->scratch, 2, 0, c->memory / 16);
    near_begin(&c->near_rows, &c->scratch, c->memory / 8 * 7);
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
    spill_close(&c->known);
    spill_free(&c->infos);
    sorter_free(&c->inputs);
    near_end(&c->near_rows);
    scratch_end(&c->scratch);
    if (c->late.mem) buf_free(&c->late);
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
    c->in = in;
    rc = clean_begin(c, out);
    if (rc >= 0) rc = clean(c, out);
    if (rc >= 0 && report) rc = report_tables(&c->host, &c->report, report);
    clean_end(c);
    mem_free(&host.mem, c);
    return kit_end(rc);
}
