/* peft data report: all that the steps of data preparation say of a file, on one page without
 * scripts or network, or as JSON.  Nothing of the data is changed. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tables.h"
#include "train.h"

enum { SHEETS = 4 };

/* What a step found: tables of the library, of its own, or the reason why there are none. */
struct part {
    peft_tables *tables;
    struct sheet sheet[SHEETS];
    int n_sheets;
    char *why;
};
struct page {
    const struct args *args;
    char *label;               /* the column with classes, or NULL */
    peft_model *model;         /* or NULL */
    struct source source;
};
/* A step of data preparation in the report. */
struct section {
    const char *name, *doing, *title, *about;
    bool (*wanted)(const struct page *p);         /* NULL = always */
    int32_t (*make)(struct page *p, struct part *to);
};

/* ------------------------------------------------------------------ sections */

static int32_t make_inspect(struct page *p, struct part *to)
{
    int32_t rc = inspect_file(p->args, p->args->operand, p->model, &p->source.opts, &to->tables);
    peft_table t = {.size = sizeof t};
    if (rc || peft_tables_find(to->tables, "summary", &t))
        return rc;
    const peft_cell *kind = table_fact(&t, "label_kind"), *column = table_fact(&t, "label_column");
    if (kind && kind->text && !strcmp(kind->text, "classes") && column && column->text)
        p->label = format("%s", column->text);
    return rc;
}

static bool has_eval(const struct page *p)
{
    return p->args->eval != NULL;
}

static int32_t make_eval(struct page *p, struct part *to)
{
    return inspect_file(p->args, p->args->eval, p->model, &p->source.opts, &to->tables);
}

static int32_t make_normalize(struct page *p, struct part *to)
{
    peft_normalize_opts opts = {.size = sizeof opts, .source = &p->source.opts};
    return peft_data_normalize(p->args->operand, NULL, &opts, &to->tables);
}

static int32_t make_clean(struct page *p, struct part *to)
{
    peft_clean_opts opts = {.size = sizeof opts, .source = &p->source.opts,
                            .against = p->args->eval, .model = p->model,
                            .max_tokens = p->model ? p->args->max_len : 0};
    return peft_data_clean(p->args->operand, NULL, &opts, &to->tables);
}

static bool has_labels(const struct page *p)
{
    return p->model && p->label;
}

static int32_t take_fault(void *ctx, const peft_label_fault *f)
{
    enum { MOST = 50 };
    struct sheet *s = ctx;
    if (!f->suspect || f->rank > MOST)
        return 1;
    sheet_number(s, (double)f->line);
    sheet_text(s, f->given);
    sheet_text(s, f->likely);
    sheet_number(s, f->margin);
    sheet_text(s, f->text);
    return 0;
}

static int32_t on_rows(void *ctx, int64_t done, int64_t rows)
{
    (void)ctx;
    progress(false, "the model reads: row %s of %s", show_count(done), show_count(rows));
    return interrupted();
}

static int32_t make_faults(struct page *p, struct part *to)
{
    static const char *const facts[] = {"name", "value"};
    static const char *const heads[] = {"line", "given", "likely", "margin", "text"};
    struct sheet *sum = &to->sheet[0], *list = &to->sheet[1];
    peft_faults found = {.size = sizeof found};
    peft_source_opts source = p->source.opts;
    source.progress = on_rows;
    peft_faults_opts opts = {.size = sizeof opts, .source = &source, .ctx = list,
                             .seed = p->args->seed, .max_len = p->args->max_len,
                             .on_fault = take_fault};
    to->n_sheets = 2;
    sheet_begin(sum, PEFT_TABLE_FACTS, "summary", "Summary", facts, 2);
    sheet_begin(list, PEFT_TABLE_LIST, "faults", "The worst first", heads, 5);
    int32_t rc = peft_data_faults(p->args->operand, p->model, &opts, &found);
    if (rc)
        return rc;
    sheet_fact(sum, "rows", (double)found.rows);
    sheet_fact(sum, "unlabelled", (double)found.unlabelled);
    sheet_fact(sum, "flagged", (double)found.flagged);
    sheet_fact(sum, "suspects", (double)found.suspects);
    sheet_fact(sum, "accuracy", found.accuracy);
    return PEFT_OK;
}

static void take_class(void *ctx, const char *name, const int64_t *rows)
{
    enum { MOST = 100 };
    struct sheet *s = ctx;
    if (sheet_view(s)->n_rows == MOST)
        return;
    sheet_text(s, name);
    for (int k = 0; k < PEFT_SIDES; k++)
        sheet_number(s, (double)rows[k]);
}

/* By label, and with rows together that say nearly the same. */
static int32_t make_split(struct page *p, struct part *to)
{
    static const char *const heads[] = {"side", "rows", "share", "groups"};
    static const char *const labels[] = {"label", "train", "valid", "test"};
    struct sheet *sizes = &to->sheet[0], *classes = &to->sheet[1];
    peft_split r = {.size = sizeof r};
    peft_split_opts opts = {.size = sizeof opts, .source = &p->source.opts, .stratify = p->label,
                            .group_text = 1, .seed = p->args->seed, .on_class = take_class,
                            .ctx = classes};
    to->n_sheets = p->label ? 2 : 1;
    sheet_begin(sizes, PEFT_TABLE_LIST, "sizes", "Sizes", heads, 4);
    if (p->label)
        sheet_begin(classes, PEFT_TABLE_LIST, "labels", "Labels by side", labels, 4);
    int32_t rc = peft_data_split(p->args->operand, NULL, &opts, &r);
    double all = (double)(r.rows[0] + r.rows[1] + r.rows[2]);
    for (int k = 0; k < PEFT_SIDES && !rc; k++) {
        sheet_text(sizes, labels[k + 1]);
        sheet_number(sizes, (double)r.rows[k]);
        sheet_number(sizes, (double)r.rows[k] / all);
        sheet_number(sizes, (double)r.groups[k]);
    }
    return rc;
}

/* In the order of the page. */
static const struct section sections[] = {
    {"inspect", "inspecting", "What the file holds", "peft data inspect", NULL, make_inspect},
    {"eval", "inspecting", "The evaluation file", "peft data inspect, of --eval", has_eval,
     make_eval},
    {"normalize", "normalizing", "What normalizing would change", "peft data normalize", NULL,
     make_normalize},
    {"clean", "looking for repetitions", "What cleaning would find", "peft data clean; leaks are "
     "rows that stand in --eval too", NULL, make_clean},
    {"split", "splitting", "How rows would be dealt out", "peft data split --group text, with "
     "--stratify where there are labels: 8 parts to train on, 1 to validate, 1 to test; rows that "
     "are nearly equal stay together, as a group", NULL, make_split},
    {"faults", "reading", "Suspected label errors", "peft data faults: by heads that have not seen "
     "the row, on what the model makes of it", has_labels, make_faults},
};
enum { SECTIONS = sizeof sections / sizeof *sections };

/* --------------------------------------------------------------------- parts */

/* The i-th table of a part, the library's first; false after the last. */
static bool part_table(struct part *part, int32_t i, peft_table *t)
{
    int32_t n = 0;
    *t = (peft_table){.size = sizeof *t};
    while (part->tables && n <= i && !peft_tables_at(part->tables, n, t))
        n++;
    if (n > i)
        return true;
    if (i - n >= part->n_sheets)
        return false;
    *t = *sheet_view(&part->sheet[i - n]);
    return true;
}

static void parts_free(struct part *parts)
{
    for (int i = 0; i < SECTIONS; i++) {
        peft_tables_free(parts[i].tables);
        for (int k = 0; k < parts[i].n_sheets; k++)
            sheet_free(&parts[i].sheet[k]);
        free(parts[i].why);
    }
}

static bool part_made(const struct part *part)
{
    return part->tables || part->n_sheets || part->why;
}

/* The first section must succeed; a later one that does not is told on the page. */
static int32_t parts_make(struct page *p, struct part *parts)
{
    for (int i = 0; i < SECTIONS; i++) {
        const struct section *s = &sections[i];
        if (s->wanted && !s->wanted(p))
            continue;
        p->source.doing = s->doing;
        p->source.done = 0;
        p->source.began = 0;
        int32_t rc = s->make(p, &parts[i]);
        if (rc && (!i || rc == PEFT_ECANCELLED || rc == PEFT_ENOMEM))
            return rc;
        if (rc)
            parts[i].why = format("%s", peft_errmsg());
    }
    return PEFT_OK;
}

/* -------------------------------------------------------------------- output */

static void put_json(FILE *to, struct part *parts)
{
    struct json j;
    peft_table t;
    json_begin(&j, to);
    json_open(&j, NULL, '{');
    for (int i = 0; i < SECTIONS; i++) {
        if (!part_made(&parts[i]))
            continue;
        json_open(&j, sections[i].name, '{');
        if (parts[i].why)
            json_text(&j, "failed", parts[i].why);
        for (int32_t k = 0; part_table(&parts[i], k, &t); k++)
            table_json(&j, &t);
        json_close(&j);
    }
    json_close(&j);
}

static void put_head(FILE *to, const char *path, const struct part *parts)
{
    char date[40] = "";
    time_t now = time(NULL);
    struct tm utc;
    int32_t v = peft_version();
    if (gmtime_r(&now, &utc))
        strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &utc);
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
          "<meta name=\"color-scheme\" content=\"light dark\"><title>", to);
    html_text(to, path);
    fprintf(to, ": data report</title><style>\n%s</style></head><body><main>\n<h1>", page_style);
    html_text(to, path);
    fprintf(to, "</h1>\n<p>Nothing was changed. %s, libpeft %d.%d.%d.</p>\n<nav>", date,
            v / 10000, v / 100 % 100, v % 100);
    for (int i = 0; i < SECTIONS; i++)
        if (part_made(&parts[i]))
            fprintf(to, "<a href=\"#%s\">%s</a>", sections[i].name, sections[i].title);
    fputs("</nav>\n", to);
}

/* Lists take the page's width; facts and bars stand side by side. */
static void put_part(FILE *to, const struct section *s, struct part *part)
{
    peft_table t;
    bool grid = false;
    fprintf(to, "<h2 id=\"%s\">%s</h2>\n<p>%s</p>\n", s->name, s->title, s->about);
    if (part->why) {
        fputs("<p class=\"bad\">", to);
        html_text(to, part->why);
        fputs("</p>\n", to);
    }
    for (int32_t i = 0; part_table(part, i, &t); i++) {
        bool small = t.kind != PEFT_TABLE_LIST;
        if (small != grid)
            fputs(small ? "<div class=\"grid2 part\">\n" : "</div>\n", to);
        grid = small;
        table_html(to, &t);
    }
    if (grid)
        fputs("</div>\n", to);
}

static int put_page(const char *path, const char *data, struct part *parts)
{
    FILE *to = folder_create(path);
    if (to) {
        put_head(to, data, parts);
        for (int i = 0; i < SECTIONS; i++)
            if (part_made(&parts[i]))
                put_part(to, &sections[i], &parts[i]);
        fputs("</main></body></html>\n", to);
    }
    return folder_close(to, path);
}

/* Another file than a page would be lost. */
static bool is_page(const char *path)
{
    char begin[16] = "";
    FILE *f = fopen(path, "rb");
    bool yes = !f || !fread(begin, 1, sizeof begin - 1, f) || !strncmp(begin, "<!DOCTYPE html", 14);
    if (f)
        fclose(f);
    return yes;
}

int run_data_report(const struct args *args)
{
    struct page p = {.args = args};
    struct part parts[SECTIONS] = {0};
    peft_info info;
    if (!args->out && !args->json)
        return usage_error("data report needs --out FILE.html, or --json");
    if (args->out && !args->overwrite && !is_page(args->out))
        return usage_error("%s is there and no page: --overwrite replaces it", args->out);
    int rc = args->model ? open_model_at(args, args->model, &p.model, &info) : EXIT_OK;
    if (rc)
        return rc;
    source_begin(args, "inspecting", &p.source);
    rc = source_end(parts_make(&p, parts), "cannot report");
    if (!rc && args->out)
        rc = put_page(args->out, args->operand, parts);
    if (!rc && args->json)
        put_json(stdout, parts);
    else if (!rc)
        note("%s", args->out);
    parts_free(parts);
    free(p.label);
    peft_model_free(p.model);
    return rc;
}
