/* What was seen of a file as tables, and what of it deserves a look. */
#include "prep/inspect.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum { HISTOGRAM_BARS = 15, LABELS_SHOWN = 1000, COLUMNS_SHOWN = 256 };

/* ------------------------------------------------------------------- lengths */

/* 1, 2 or 5 times a power of ten. */
static int64_t bar_width(int64_t least)
{
    int64_t power = 1;
    while (power * 10 <= least && power < INT64_MAX / 100) power *= 10;
    int64_t lead = div_up(least, power);
    return power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
}

/* Bars of one width up to what hardly a row exceeds; the last one holds those. */
static void histogram(struct peft_tables *t, const char *name, const char *title,
                      const struct lengths *l)
{
    if (!l->n) return;
    int64_t high = lengths_quantile(l, 0.995);
    int64_t width = bar_width(MAX(div_up(high + 1 - l->least, HISTOGRAM_BARS), 1));
    int64_t from = l->least / width * width;
    tables_add(t, PEFT_TABLE_HISTOGRAM, name, title, "from to rows");
    for (; from <= l->most; from += width) {
        bool last = from + width > high;
        tables_number(t, (double)from);
        tables_number(t, (double)(last ? MAX(l->most, from + width - 1) : from + width - 1));
        tables_number(t, (double)lengths_between(l, from, last ? INT64_MAX : from + width));
        if (last) break;
    }
}

static void length_row(struct peft_tables *t, const char *of, const struct lengths *l)
{
    if (!l->n) return;
    tables_text(t, of);
    tables_number(t, round(10 * l->sum / (double)l->n) / 10);
    tables_number(t, (double)lengths_quantile(l, 0.5));
    tables_number(t, (double)lengths_quantile(l, 0.95));
    tables_number(t, (double)l->least);
    tables_number(t, (double)l->most);
    tables_number(t, (double)l->most_line);
}

static void put_lengths(const struct inspection *x, struct peft_tables *t)
{
    if (!x->rows) return;
    tables_add(t, PEFT_TABLE_LIST, "lengths", "Lengths of the rows",
               "of mean median p95 least most longest_line");
    length_row(t, "tokens", &x->tokens);
    if (x->chars.most) length_row(t, "words", &x->words);
    if (x->chars.most) length_row(t, "characters", &x->chars);
    length_row(t, "width", &x->width);
    length_row(t, "height", &x->height);
    if (!x->chars.most && !x->o.model) return;
    histogram(t, "tokens", "Length in tokens", &x->tokens);
    histogram(t, "words", "Length in words", &x->words);
    histogram(t, "characters", "Length in characters", &x->chars);
}

/* ------------------------------------------------------------------- columns */

static const char *kind_of(const struct tally_column *c)
{
    static const struct { int kind; const char *name; } names[] = {
        {JSON_STRING, "text"}, {JSON_NUMBER, "number"}, {JSON_ARRAY, "list"},
        {JSON_OBJECT, "object"}, {JSON_BOOL, "true or false"},
    };
    const char *found = NULL;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (!c->kinds[names[i].kind]) continue;
        if (found) return "mixed";
        found = names[i].name;
    }
    return found ? found : "null";
}

static void put_columns(const struct inspection *x, struct peft_tables *t)
{
    const struct tally *y = x->tally;
    if (!y->n_columns) return;
    tables_add(t, PEFT_TABLE_LIST, "columns", "Columns",
               "column kind filled texts numbers lists others blank mean_bytes least most");
    for (int64_t i = 0; i < MIN(y->n_columns, COLUMNS_SHOWN); i++) {
        const struct tally_column *c = &y->column[i];
        int64_t all = 0;
        for (int k = 0; k < KINDS; k++) all += k == JSON_NULL ? 0 : c->kinds[k];
        bool text = c->kinds[JSON_STRING] > 0, number = c->kinds[JSON_NUMBER] > 0;
        tables_text(t, c->name);
        tables_text(t, kind_of(c));
        tables_number(t, (double)(all - c->blank) / (double)x->rows);
        tables_number(t, (double)c->kinds[JSON_STRING]);
        tables_number(t, (double)c->kinds[JSON_NUMBER]);
        tables_number(t, (double)c->kinds[JSON_ARRAY]);
        tables_number(t, (double)(c->kinds[JSON_OBJECT] + c->kinds[JSON_BOOL]));
        tables_number(t, (double)c->blank);
        tables_number(t, text ? round((double)c->bytes / (double)c->kinds[JSON_STRING]) : NAN);
        tables_number(t, number ? c->least : NAN);
        tables_number(t, number ? c->most : NAN);
    }
}

/* -------------------------------------------------------------------- labels */

/* Numbers that do not stand for classes. */
static bool is_measure(const struct inspection *x)
{
    const struct tally *y = x->tally;
    return y->label_line[1] && !y->label_line[0] &&
           (x->label_fraction || y->n_labels > 100 || y->more_labels);
}

static const char *label_kind(const struct inspection *x)
{
    const struct tally *y = x->tally;
    return !y->labelled ? "none" : is_measure(x) ? "numbers" :
           y->label_line[0] && y->label_line[1] ? "names and numbers" : "classes";
}

static void put_labels(const struct inspection *x, struct peft_tables *t)
{
    const struct tally *y = x->tally;
    int64_t all = y->more_labels;
    if (!y->n_labels || is_measure(x)) return;
    for (int64_t i = 0; i < y->n_labels; i++) all += y->label[i].rows;
    tables_add(t, PEFT_TABLE_BARS, "labels", "Labels", "label rows share");
    for (int64_t i = 0; i < MIN(y->n_labels, LABELS_SHOWN); i++) {
        tables_text(t, y->label[i].name);
        tables_number(t, (double)y->label[i].rows);
        tables_number(t, (double)y->label[i].rows / (double)all);
    }
}

/* ------------------------------------------------------- scripts and schemas */

static void put_scripts(const struct inspection *x, struct peft_tables *t)
{
    if (!x->chars.most) return;
    tables_add(t, PEFT_TABLE_BARS, "scripts", "Scripts", "script rows share");
    for (int64_t before = INT64_MAX, next; ; before = next) {
        next = 0;
        for (int i = 0; i <= SCRIPTS; i++)
            if (x->script[i] < before) next = MAX(next, x->script[i]);
        for (int i = 0; next && i <= SCRIPTS; i++) {
            if (x->script[i] != next) continue;
            tables_text(t, script_name(i < SCRIPTS ? i : -1));
            tables_number(t, (double)next);
            tables_number(t, (double)next / (double)x->rows);
        }
        if (!next) break;
    }
}

/* Counts a schema at the first of its shapes; 0 for the others. */
static int64_t schema_rows(const struct tally *y, int64_t i)
{
    int64_t n = 0;
    for (int64_t k = 0; k < y->n_shapes; k++) {
        if (strcmp(y->shape[k].schema.name, y->shape[i].schema.name) != 0) continue;
        if (k < i) return 0;
        n += y->shape[k].rows;
    }
    return n;
}

static const char *schema_name(const struct tally_shape *s)
{
    return *s->schema.name ? s->schema.name : "unknown";
}

/* "columns label and text", or what it nearly is. */
static void schema_why(const struct tally_shape *s, char *out, size_t cap)
{
    bool known = *s->schema.name;
    snprintf(out, cap, "%s%s", known ? "columns " : *s->schema.near ? "nearly " : "columns of none",
             known ? s->schema.why : s->schema.near);
}

static void put_schemas(const struct inspection *x, struct peft_tables *t)
{
    const struct tally *y = x->tally;
    if (!y->n_shapes) return;
    tables_add(t, PEFT_TABLE_LIST, "schemas", "Schemas", "schema rows first_line why for near");
    for (int64_t i = 0; i < y->n_shapes; i++) {
        int64_t n = schema_rows(y, i);
        char why[300];
        if (!n) continue;
        schema_why(&y->shape[i], why, sizeof why);
        tables_text(t, schema_name(&y->shape[i]));
        tables_number(t, (double)n);
        tables_number(t, (double)y->shape[i].first_line);
        tables_text(t, why);
        tables_text(t, y->shape[i].schema.use);
        tables_text(t, *y->shape[i].schema.name ? y->shape[i].schema.near : "");
    }
}

/* --------------------------------------------------------------------- notes */

static void say(struct peft_tables *t, bool warning, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void say(struct peft_tables *t, bool warning, const char *fmt, ...)
{
    char text[600];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    tables_text(t, warning ? "warning" : "note");
    tables_text(t, text);
}

static void notes_of_labels(const struct inspection *x, struct peft_tables *t)
{
    const struct tally *y = x->tally;
    const struct tally_label *most = &y->label[0], *least = &y->label[MAX(y->n_labels, 1) - 1];
    if (!y->labelled) return;
    if (y->labelled < x->rows)
        say(t, true, "rows without a label: %lld of %lld", (long long)(x->rows - y->labelled),
             (long long)x->rows);
    if (y->label_line[0] && y->label_line[1])
        say(t, true, "\"%s\" is a number in some rows (first in line %lld) and a name in others "
             "(line %lld): make them of one kind", y->label_key, (long long)y->label_line[1],
             (long long)y->label_line[0]);
    if (is_measure(x) || y->n_labels < 2) return;
    if (most->rows >= 10 * least->rows && y->n_labels <= LABELS_SHOWN)
        say(t, true, "labels are uneven: \"%.60s\" has %lld rows, \"%.60s\" %lld; judge by macro "
             "F1, not by accuracy alone", most->name, (long long)most->rows, least->name,
             (long long)least->rows);
}

static void notes_of_schemas(const struct inspection *x, struct peft_tables *t)
{
    const struct tally *y = x->tally;
    int64_t kinds = 0, unknown = 0, line = 0;
    for (int64_t i = 0; i < y->n_shapes; i++) {
        const struct schema_match *s = &y->shape[i].schema;
        int64_t n = schema_rows(y, i);
        kinds += n > 0;
        if (n && *s->name && !s->trains && !x->width.n)
            say(t, true, "rows of \"%s\": %lld; they are for %s, and nothing here learns from them",
                s->name, (long long)n, s->use);
        if (*s->name) continue;
        if (!unknown) line = y->shape[i].first_line;
        unknown += y->shape[i].rows;
    }
    if (kinds > 1)
        say(t, true, "rows of %lld schemas: training takes that of the first row and refuses "
            "others", (long long)kinds);
    if (unknown)
        say(t, true, "rows that fit no schema: %lld (the first in line %lld); --columns gives "
            "columns other names", (long long)unknown, (long long)line);
    if (y->n_columns > COLUMNS_SHOWN)
        say(t, true, "more than %d different columns", (int)COLUMNS_SHOWN);
}

static void put_all_notes(const struct inspection *x, struct peft_tables *t)
{
    int64_t again = distinct_again(&x->distinct);
    tables_add(t, PEFT_TABLE_LIST, "notes", "What deserves a look", "level text");
    if (x->broken)
        say(t, true, "broken rows: %lld; the first in line %lld: %.300s", (long long)x->broken,
             (long long)x->broken_row[0].line, x->broken_row[0].why);
    if (x->empty)
        say(t, true, "empty rows: %lld (the first in line %lld)", (long long)x->empty,
             (long long)x->empty_line);
    notes_of_schemas(x, t);
    notes_of_labels(x, t);
    if (again)
        say(t, again * 20 > x->rows, "rows that repeat another one exactly: %s%lld (%.3g %%); "
             "peft data clean removes them", x->distinct.level ? "about " : "", (long long)again,
             100.0 * (double)again / (double)x->rows);
    int64_t over = x->o.max_len ? lengths_between(&x->tokens, x->o.max_len + 1, INT64_MAX) : 0;
    if (over)
        say(t, over * 20 > x->rows, "rows longer than %d tokens, which would be cut: %lld (%.3g "
             "%%)", (int)x->o.max_len, (long long)over, 100.0 * (double)over / (double)x->rows);
    if (x->mixed * 100 > x->rows)
        say(t, false, "rows that mix scripts: %lld (the first in line %lld)", (long long)x->mixed,
             (long long)x->mixed_line);
    if (x->rows && x->rows < 50)
        say(t, false, "few rows: %lld; little to learn from, and to judge by",
             (long long)x->rows);
}

/* ----------------------------------------------------------------------- all */

static void put_summary(const struct inspection *x, struct peft_tables *t)
{
    const struct tally *y = x->tally;
    tables_add(t, PEFT_TABLE_FACTS, "summary", "Summary", "name value");
    tables_fact_text(t, "file", x->path);
    if (x->bytes) tables_fact(t, "bytes", (double)x->bytes);
    tables_fact(t, "rows", (double)x->rows);
    if (y->n_shapes) {
        char why[300];
        schema_why(&y->shape[0], why, sizeof why);
        tables_fact_text(t, "schema", schema_name(&y->shape[0]));
        tables_fact_text(t, "why", why);
        tables_fact_text(t, "for", y->shape[0].schema.use);
    }
    tables_fact(t, "broken", (double)x->broken);
    tables_fact(t, "empty", (double)x->empty);
    tables_fact(t, "duplicates", (double)distinct_again(&x->distinct));
    tables_fact(t, "duplicates_exact", !x->distinct.level);
    tables_fact(t, "mixed_scripts", (double)x->mixed);
    if (x->o.model) tables_fact(t, "tokens", x->tokens.sum);
    if (x->o.model && x->o.max_len) {
        tables_fact(t, "max_len", x->o.max_len);
        tables_fact(t, "longer",
                    (double)lengths_between(&x->tokens, x->o.max_len + 1, INT64_MAX));
    }
    tables_fact_text(t, "label_kind", label_kind(x));
    if (!y->labelled) return;
    tables_fact_text(t, "label_column", y->label_key);
    tables_fact(t, "labelled", (double)y->labelled);
    tables_fact(t, "labels", (double)y->n_labels);
    if (!is_measure(x)) return;
    tables_fact(t, "label_mean", x->label_sum / (double)y->labelled);
    tables_fact(t, "label_least", x->label_least);
    tables_fact(t, "label_most", x->label_most);
}

int inspect_tables(const struct inspection *x, struct peft_tables *t)
{
    put_summary(x, t);
    put_all_notes(x, t);
    put_schemas(x, t);
    put_columns(x, t);
    put_lengths(x, t);
    put_labels(x, t);
    put_scripts(x, t);
    for (int64_t i = 0; i < MIN(x->broken, x->o.examples); i++) {
        if (!i) tables_add(t, PEFT_TABLE_LIST, "broken", "Broken rows", "line reason");
        tables_number(t, (double)x->broken_row[i].line);
        tables_text(t, x->broken_row[i].why);
    }
    for (int64_t i = 0; i < MIN(x->rows, EXAMPLES); i++) {
        if (!i) tables_add(t, PEFT_TABLE_LIST, "examples", "Some rows", "line label text");
        tables_number(t, (double)x->example[i].line);
        tables_text(t, x->example[i].label);
        tables_text(t, x->example[i].text);
    }
    return tables_check(t);
}
