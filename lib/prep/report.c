/* What rules found, for people to look at. */
#include "prep/report.h"
#include "prep/tables.h"

#include <math.h>

static bool inside_char(const char *s, int64_t n, int64_t at)
{
    return at > 0 && at < n && ((unsigned char)s[at] & 0xc0) == 0x80;
}

void text_around(char *out, size_t cap, const char *s, int64_t n, int64_t at)
{
    static const char dots[] = "\xe2\x80\xa6";
    enum { BEFORE = 32, DOTS = sizeof dots - 1 };
    int64_t room = (int64_t)cap - 1 - 2 * DOTS;
    int64_t from = n <= room ? 0 : MAX(0, MIN(at - BEFORE, n - room));
    while (inside_char(s, n, from)) from++;
    int64_t to = MIN(n, from + room);
    while (inside_char(s, n, to)) to--;
    size_t k = 0;
    if (from > 0) memcpy(out, dots, DOTS), k = DOTS;
    memcpy(out + k, s + from, (size_t)(to - from));
    k += (size_t)(to - from);
    if (to < n) memcpy(out + k, dots, DOTS), k += DOTS;
    out[k] = 0;
}

struct shown example_of(const struct field *f, const char *before, int64_t n, const char *after,
                          int64_t m, int64_t at)
{
    struct shown e = {0};
    if (after)
        for (at = 0; at < n && at < m && before[at] == after[at];) at++;
    if (f) field_name(f, e.field, sizeof e.field);
    text_around(e.before, sizeof e.before, before, n, at);
    if (after) text_around(e.after, sizeof e.after, after, m, at);
    return e;
}

/* --- from `work` to `take` */

struct finding {
    int32_t rule, places;
    bool shown;                     /* an example follows */
};

void finding_add(struct flow_row *r, int rule, int64_t places, const struct shown *e)
{
    struct finding f = {rule, (int32_t)MIN(places, INT32_MAX), e != NULL};
    buf_put(r->more, &f, sizeof f);
    if (e) buf_put(r->more, e, sizeof *e);
}

void report_show(struct report *report, int rule, const struct shown *e)
{
    struct report_rule *q = &report->rule[rule];
    if (report_wants(report, rule)) q->example[q->n_examples++] = *e;
}

void findings_take(const struct flow_row *r, struct report *report)
{
    uint32_t seen = 0;
    int64_t at = r->more_at, end = at + r->more_n;
    while (at < end) {
        struct finding f;
        struct shown e;
        memcpy(&f, r->more->data + at, sizeof f);
        at += (int64_t)sizeof f;
        if (f.shown) memcpy(&e, r->more->data + at, sizeof e), at += (int64_t)sizeof e;
        bool first = !(seen >> f.rule & 1);
        seen |= 1u << f.rule;
        report->rule[f.rule].rows += first;
        report->rule[f.rule].places += f.places;
        e.line = r->line;
        if (f.shown && first) report_show(report, f.rule, &e);
    }
}

/* --- tables */

int report_tables(const struct host *h, const struct report *report, peft_tables **out)
{
    peft_tables *t;
    int rc = tables_new(h, &t);
    if (rc < 0) return rc;
    tables_add(t, PEFT_TABLE_FACTS, "summary", "Summary", "name value");
    tables_fact(t, "rows", (double)report->rows);
    tables_fact(t, "kept", (double)report->kept);
    tables_fact(t, "dropped", (double)(report->rows - report->kept));
    tables_fact(t, "changed", (double)report->changed);
    if (report->fixed) tables_fact(t, "left_alone", (double)report->fixed);
    tables_fact(t, "bytes", (double)report->bytes);
    tables_fact(t, "seconds", os_seconds() - report->began);
    tables_add(t, PEFT_TABLE_LIST, "rules", "Rules", "rule action rows places about");
    for (int i = 0; i < report->n; i++) {
        const struct report_rule *q = &report->rule[i];
        tables_text(t, q->name);
        tables_text(t, q->action);
        tables_number(t, (double)q->rows);
        tables_number(t, (double)q->places);
        tables_text(t, q->about);
    }
    tables_add(t, PEFT_TABLE_LIST, "examples", "Examples",
               "rule line of similarity field before after");
    for (int i = 0; i < report->n; i++)
        for (int k = 0; k < report->rule[i].n_examples; k++) {
            const struct shown *e = &report->rule[i].example[k];
            tables_text(t, report->rule[i].name);
            tables_number(t, (double)e->line);
            tables_number(t, e->of ? (double)e->of : NAN);
            tables_number(t, e->of ? e->similarity : NAN);
            tables_text(t, e->field);
            tables_text(t, e->before);
            tables_text(t, e->after);
        }
    if ((rc = tables_check(t)) < 0) peft_tables_free(t);
    else *out = t;
    return rc;
}
