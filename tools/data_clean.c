/* peft data normalize, peft data clean: both tell what rules did, with examples. */
#include <stdlib.h>
#include <string.h>

#include "tables.h"

/* What nobody sees on a terminal is written as an escape: what rules change is often that. */
static void print_visible(FILE *to, const char *s)
{
    while (*s) {
        size_t used;
        uint32_t c = utf8_next(s, strlen(s), &used);
        if (c == '\n')
            fputs("\\n", to);
        else if (c == '\t')
            fputs("\\t", to);
        else if (c < 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0xad || c == 0x3000 || c == 0xfeff ||
                 (c >= 0x2000 && c <= 0x200f) || (c >= 0x2028 && c <= 0x202f) ||
                 (c >= 0x205f && c <= 0x206f) || c >= 0xe0000)
            fprintf(to, "\\u%04x", (unsigned)c);
        else
            fwrite(s, 1, used, to);
        s += used;
    }
}

static void print_part(FILE *to, enum style style, const char *sign, const char *text)
{
    fprintf(to, "    %s%s ", paint(to, style), sign);
    print_visible(to, text);
    fprintf(to, "%s\n", paint(to, PLAIN));
}

static void print_examples(FILE *to, const peft_table *t)
{
    const char *before = "";
    for (int64_t i = 0; i < t->n_rows; i++) {
        const peft_cell *rule = table_cell(t, i, "rule"), *of = table_cell(t, i, "of");
        const char *field = table_cell(t, i, "field")->text;
        const char *after = table_cell(t, i, "after")->text;
        if (strcmp(rule->text, before))
            fprintf(to, "\n%s%s%s\n", paint(to, BOLD), rule->text, paint(to, PLAIN));
        before = rule->text;
        fprintf(to, "  line %s", show_count((int64_t)table_cell(t, i, "line")->number));
        if (*field)
            fprintf(to, " %s", field);
        if (of->number >= 1)
            fprintf(to, ", as line %s: %.2f", show_count((int64_t)of->number),
                    table_cell(t, i, "similarity")->number);
        fputc('\n', to);
        print_part(to, *after ? RED : PLAIN, *after ? "-" : " ", table_cell(t, i, "before")->text);
        if (*after)
            print_part(to, GREEN, "+", after);
    }
}

/* Rules that found nothing, and those that are off, are of no interest to people. */
static void print_rules(FILE *to, const peft_table *t)
{
    static const char *const heads[] = {"rule", "action", ">rows", ">places", "what"};
    int64_t found = 0;
    for (int64_t i = 0; i < t->n_rows; i++)
        found += table_cell(t, i, "rows")->number > 0;
    if (!found) {
        fprintf(to, "\nno rule found anything\n");
        return;
    }
    fputc('\n', to);
    table_head(5, heads);
    for (int64_t i = 0; i < t->n_rows; i++) {
        char rows[32], places[32];
        snprintf(rows, sizeof rows, "%s", show_count((int64_t)table_cell(t, i, "rows")->number));
        snprintf(places, sizeof places, "%s",
                 show_count((int64_t)table_cell(t, i, "places")->number));
        const char *cells[] = {table_cell(t, i, "rule")->text, table_cell(t, i, "action")->text,
                               rows, places, table_cell(t, i, "about")->text};
        if (table_cell(t, i, "rows")->number > 0)
            table_row(cells);
    }
    table_end(to);
}

static int show_report(const struct args *args, const peft_tables *tables)
{
    peft_table t = {.size = sizeof t};
    if (args->json) {
        struct json j;
        json_begin(&j, stdout);
        json_open(&j, NULL, '{');
        tables_json(&j, tables);
        json_close(&j);
        return EXIT_OK;
    }
    if (!peft_tables_find(tables, "summary", &t))
        table_print(stdout, &t);
    if (!peft_tables_find(tables, "rules", &t))
        print_rules(stdout, &t);
    if (!args->quiet && !peft_tables_find(tables, "examples", &t))
        print_examples(stdout, &t);
    if (!args->out)
        note("nothing was written: --out FILE writes the rows");
    return EXIT_OK;
}

static int check_out(const struct args *args, const char *path)
{
    if (path && is_occupied(path) && !args->overwrite)
        return usage_error("%s exists: --overwrite replaces it", path);
    return 0;
}

int run_data_normalize(const struct args *args)
{
    struct source source;
    peft_tables *report = NULL;
    int rc = check_out(args, args->out);
    if (rc)
        return rc;
    source_begin(args, "normalizing", &source);
    peft_normalize_opts opts = {.size = sizeof opts, .source = &source.opts, .form = args->form,
                                .rules = args->rules, .repeated = args->repeated};
    rc = source_end(peft_data_normalize(args->operand, args->out, &opts, &report),
                    "cannot normalize");
    if (!rc)
        rc = show_report(args, report);
    peft_tables_free(report);
    return rc;
}

/* The options as one list of actions; what --rule says counts last. */
static char *actions_of(const struct args *args)
{
    char *s = format("%s%s", args->repair ? "encoding=fix," : "",
                     args->mask ? "mail=mask,phone=mask,card=mask,iban=mask,key=mask," : "");
    if (args->contradictions) {
        char *more = format("%scontradiction=%s,", s, args->contradictions);
        free(s);
        s = more;
    }
    for (int32_t i = 0; i < args->rule.n; i++) {
        char *more = format("%s%s,", s, args->rule.item[i]);
        free(s);
        s = more;
    }
    return s;
}

int run_data_clean(const struct args *args)
{
    struct source source;
    peft_tables *report = NULL;
    peft_model *model = NULL;
    peft_info info;
    int rc = check_out(args, args->out);
    if (!rc)
        rc = check_out(args, args->dropped);
    if (!rc && args->model)
        rc = open_model_at(args, args->model, &model, &info);
    if (rc)
        return rc;
    char *actions = actions_of(args);
    source_begin(args, "cleaning", &source);
    peft_clean_opts opts = {.size = sizeof opts, .source = &source.opts, .actions = actions,
                            .against = args->against, .dropped = args->dropped,
                            .near = args->near, .shingle = args->shingle,
                            .min_chars = args->min_chars, .max_chars = args->max_chars,
                            .model = model, .min_tokens = args->min_tokens,
                            .max_tokens = args->max_tokens, .memory = args->memory_limit};
    rc = source_end(peft_data_clean(args->operand, args->out, &opts, &report), "cannot clean");
    if (!rc)
        rc = show_report(args, report);
    peft_tables_free(report);
    peft_model_free(model);
    free(actions);
    return rc;
}
