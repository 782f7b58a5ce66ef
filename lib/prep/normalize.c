/* peft_data_normalize: every text of every row through the rules of tidy.c, in their order. */
#include "prep/report.h"
#include "prep/tidy.h"

#include <stdlib.h>

enum { TIDY_RULES = 16, FORM_NONE = -1 };

/* What one thread needs. */
struct tidy_worker {
    struct tidy tidy;
    struct field *fields;
    int64_t cap;
    struct buf text[2], hashes;
};
struct normalize {
    struct host host;
    peft_normalize_opts o;
    peft_source_opts source;
    bool on[TIDY_RULES];
    int form;
    struct tidy_worker worker[POOL_MAX];
    struct line_counts lines;
    struct report report;
    struct writer *to;
};

/* --- rows */

struct text_rules { struct normalize *z; struct tidy_worker *w; struct flow_row *r; };

/* All rules for one text: 1 = it has changed. */
static int tidy_field(struct text_rules *x, struct field *f)
{
    struct tidy_worker *w = x->w;
    const char *s = json_string(f->node);
    int64_t n = (int64_t)strlen(s);
    int changed = 0;
    w->tidy.field = f;
    for (int i = 0; tidy_rules[i].name; i++) {
        const struct tidy_rule *rule = &tidy_rules[i];
        struct buf *out = &w->text[changed & 1];
        if (!x->z->on[i] || (f->word && rule->whole) || !n) continue;
        buf_clear(out);
        int64_t places = rule->apply(&w->tidy, s, n, out);
        int rc = buf_check(out);
        if (rc < 0) return rc;
        if (!places || (f->word && !out->n)) continue;
        struct shown e;
        bool wanted = report_wants(&x->z->report, i);
        if (wanted) e = example_of(f, s, n, buf_str(out), out->n, 0);
        finding_add(x->r, i, places, wanted ? &e : NULL);
        s = buf_str(out);
        n = out->n;
        changed++;
    }
    if (!changed) return 0;
    int rc = json_set_string(f->node, s, n);
    return rc < 0 ? rc : 1;
}

static int normalize_row(void *ctx, struct flow_row *r, int worker)
{
    struct normalize *z = ctx;
    struct tidy_worker *w = &z->worker[worker];
    struct text_rules x = {z, w, r};
    int64_t n;
    int *fixed = r->note, changed = 0;
    int rc = flow_parse(r);
    if (rc >= 0) rc = fields_list(&z->host.mem, r->row, &w->fields, &w->cap, &n);
    for (int64_t i = 0; rc >= 0 && i < n; i++) {
        if (w->fields[i].fixed) {
            ++*fixed;
            continue;
        }
        rc = tidy_field(&x, &w->fields[i]);
        changed |= rc;
    }
    return rc < 0 ? rc : changed ? flow_change(r) : PEFT_OK;
}

static int take_normal(void *ctx, struct flow_row *r)
{
    struct normalize *z = ctx;
    struct report *report = &z->report;
    findings_take(r, report);
    report->rows++;
    report->kept++;
    report->changed += r->out_n > 0;
    report->fixed += *(int *)r->note;
    if (z->to) flow_put(z->to, r);
    return PEFT_OK;
}

/* --- the pass that counts lines */

static int by_hash(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

/* The hashes of a row's lines, each once. */
static int lines_of_row(void *ctx, struct flow_row *r, int worker)
{
    struct normalize *z = ctx;
    struct tidy_worker *w = &z->worker[worker];
    int64_t n;
    int rc = flow_parse(r);
    if (rc >= 0) rc = fields_list(&z->host.mem, r->row, &w->fields, &w->cap, &n);
    if (rc < 0) return rc;
    buf_clear(&w->hashes);
    for (int64_t i = 0; i < n; i++) {
        const char *s = json_string(w->fields[i].node);
        if (!w->fields[i].word) line_hashes(&w->tidy.line, s, (int64_t)strlen(s), &w->hashes);
    }
    n = w->hashes.n / (int64_t)sizeof(uint64_t);
    if (n > 1) qsort(w->hashes.data, (size_t)n, sizeof(uint64_t), by_hash);
    const char *v = w->hashes.data;
    for (int64_t i = 0; i < n; i++)
        if (!i || memcmp(v + 8 * i, v + 8 * i - 8, 8) != 0) buf_put(r->more, v + 8 * i, 8);
    return buf_check(&w->hashes);
}

static int take_lines(void *ctx, struct flow_row *r)
{
    struct normalize *z = ctx;
    for (int64_t i = 0; i < r->more_n; i += 8) {
        uint64_t hash;
        memcpy(&hash, r->more->data + r->more_at + i, 8);
        line_count(&z->lines, hash);
    }
    z->report.rows++;
    return PEFT_OK;
}

static int count_lines(struct normalize *z, struct flow *f)
{
    z->lines.count = mem_array(&z->host.mem, LINE_DEPTH * LINE_WIDTH, sizeof(uint32_t));
    if (!z->lines.count) return PEFT_ENOMEM;
    f->work = lines_of_row;
    f->take = take_lines;
    int rc = flow_run(f);
    double at = z->o.repeated, share = at > 0 ? at : 0.02;
    int64_t least = share < 1 ? (int64_t)(share * (double)z->report.rows + 0.999) : (int64_t)share;
    for (int i = 0; i < POOL_MAX; i++) {
        z->worker[i].tidy.lines = z->lines;
        /* In a small file two rows are a share too, and no habit. */
        z->worker[i].tidy.repeated = share < 1 ? MAX(least, 5) : least;
    }
    z->report.rows = 0;
    return rc;
}

/* --- the call */

static int rule_named(const char *name, int64_t n)
{
    for (int i = 0; tidy_rules[i].name; i++)
        if ((int64_t)strlen(tidy_rules[i].name) == n &&
            !memcmp(tidy_rules[i].name, name, (size_t)n))
            return i;
    return -1;
}

static int read_rules(struct normalize *z)
{
    static const struct { const char *name; int form; } forms[] = {
        {"nfc", UNI_NFC}, {"nfkc", UNI_NFKC}, {"none", FORM_NONE}};
    const char *form = z->o.form ? z->o.form : "nfc";
    bool known = false;
    for (int i = 0; tidy_rules[i].name; i++) z->on[i] = tidy_rules[i].by_default;
    for (const char *s = z->o.rules; s && *s;) {
        bool off = *s == '-';
        s += off;
        int64_t n = (int64_t)strcspn(s, ",");
        int i = rule_named(s, n);
        if (i < 0)
            return fail(PEFT_EARG, "rule \"%.*s\", expected lines, control, html, markdown, "
                        "boilerplate, repeated, unicode or space, or one of these behind '-'",
                        (int)MIN(n, 40), s);
        z->on[i] = !off;
        s += n + (s[n] == ',');
    }
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        if (strcmp(form, forms[i].name) != 0) continue;
        known = true;
        z->form = forms[i].form;
    }
    if (!known) return fail(PEFT_EARG, "form \"%.40s\", expected nfc, nfkc or none", form);
    if (z->form == FORM_NONE) z->on[rule_named("unicode", 7)] = false;
    if (z->o.repeated > 0) z->on[rule_named("repeated", 8)] = true;
    if (!(z->o.repeated >= 0 && z->o.repeated < 1e15))
        return fail(PEFT_EARG, "repeated is %g, expected a number of rows or a share",
                    z->o.repeated);
    return PEFT_OK;
}

static void normalize_begin(struct normalize *z)
{
    struct mem *mem = &z->host.mem;
    for (int i = 0; i < POOL_MAX; i++) {
        struct tidy_worker *w = &z->worker[i];
        w->tidy = (struct tidy){.mem = mem, .form = (enum uni_form)MAX(z->form, 0)};
        buf_init(&w->tidy.line, mem);
        buf_init(&w->text[0], mem);
        buf_init(&w->text[1], mem);
        buf_init(&w->hashes, mem);
    }
    for (int i = 0; tidy_rules[i].name; i++)
        z->report.rule[z->report.n++] = (struct report_rule){
            .name = tidy_rules[i].name, .about = tidy_rules[i].about,
            .action = !z->on[i] ? "off" : "fix"};
}

static void normalize_end(struct normalize *z)
{
    struct mem *mem = &z->host.mem;
    for (int i = 0; i < POOL_MAX; i++) {
        struct tidy_worker *w = &z->worker[i];
        if (!w->tidy.mem) break;
        buf_free(&w->tidy.line);
        buf_free(&w->text[0]);
        buf_free(&w->text[1]);
        buf_free(&w->hashes);
        mem_free(mem, w->fields);
    }
    writer_abort(z->to);
    mem_free(mem, z->lines.count);
}

static int normalize(struct normalize *z, const char *in, const char *out)
{
    struct flow f = {.host = &z->host, .path = in, .source = &z->source, .note = sizeof(int),
                     .ctx = z};
    int rc = read_rules(z);
    if (rc < 0) return rc;
    normalize_begin(z);
    if (out) rc = writer_open(&z->host, out, &z->to);
    if (rc >= 0 && z->on[rule_named("repeated", 8)]) rc = count_lines(z, &f);
    f.work = normalize_row;
    f.take = take_normal;
    if (rc >= 0) rc = flow_run(&f);
    if (rc < 0 || !out) return rc;
    z->report.bytes = writer_at(z->to);
    rc = writer_commit(z->to);
    z->to = NULL;
    return rc;
}

int32_t peft_data_normalize(const char *in, const char *out, const peft_normalize_opts *opts,
                            peft_tables **report)
{
    KIT_ARG(in, "no input given, expected a file");
    struct host host;
    peft_normalize_opts o;
    if (report) *report = NULL;
    peft_source_opts source;
    int rc = take_options(&o, sizeof o, opts);
    if (rc >= 0) rc = take_options(&source, sizeof source, o.source);
    if (rc >= 0) rc = host_init(&host, source.host);
    if (rc < 0) return kit_end(rc);
    struct normalize *z = mem_zalloc(&host.mem, sizeof *z);
    if (!z) return kit_end(PEFT_ENOMEM);
    z->host = host;
    z->o = o;
    z->source = source;
    z->report.began = os_seconds();
    rc = normalize(z, in, out);
    if (rc >= 0 && report) rc = report_tables(&z->host, &z->report, report);
    normalize_end(z);
    mem_free(&host.mem, z);
    return kit_end(rc);
}
