/* What `peft train` and `peft plan` tell of the data before anything runs: what is wrong
 * with its rows, and a row as it is trained. */
#include <stdlib.h>
#include <string.h>

#include "train.h"

static char *lines_of(const peft_flaw *f)
{
    char *all = format("%s", f->n ? f->rows > f->n ? " (the first in lines" : " (lines" : "");
    for (int32_t i = 0; i < f->n; i++) {
        char *other = f->others[i] ? format("=%lld", (long long)f->others[i]) : format("%s", "");
        char *more = format("%s%s %lld%s", all, i ? "," : "", (long long)f->lines[i], other);
        free(other);
        free(all);
        all = more;
    }
    char *whole = format("%s%s", all, f->n ? ")" : "");
    free(all);
    return whole;
}

/* A fault in words, with what helps. */
static char *fault_text(const peft_flaw *f)
{
    char *lines = lines_of(f), *help = format("%s", "");
    if (f->max_len) {
        free(help);
        help = format("; --max-len %d would hold them", f->max_len);
    }
    char *text = format("%s%s%s", f->text, lines, help);
    free(lines);
    free(help);
    return text;
}

static bool is_leak(const peft_flaw *f) { return !strcmp(f->name, "leak"); }

static int refuse(const struct run *run, const peft_flaw *f)
{
    char *text = fault_text(f);
    runtime_error("%s: %s%s", run->args->data, text, is_leak(f) ?
                  ": what is measured on them says nothing; take them out of one file, or give "
                  "--allow-leak" : "");
    free(text);
    return EXIT_FILE;
}

int before_check(struct run *run)
{
    const struct args *a = run->args;
    peft_dataset_opts read = data_opts(a);
    peft_judge_opts opts = {.size = sizeof opts, .eval = run->eval, .path = a->data,
                            .read = &read};
    run->checked.size = sizeof run->checked;
    int32_t rc = peft_judge_check(run->model, run->data, &opts, &run->checked);
    if (rc)
        return library_error(rc, "cannot look through the data");
    for (int32_t i = 0; i < run->checked.n; i++) {
        peft_flaw *f = &run->checked.flaws[i];
        if (is_leak(f) && a->allow_leak)
            f->refuses = 0;
        if (f->refuses)
            return refuse(run, f);
    }
    return 0;
}

void before_notes(const struct run *run)
{
    for (int32_t i = 0; i < run->checked.n; i++) {
        char *text = fault_text(&run->checked.flaws[i]);
        note("%swarning:%s %s: %s", paint(stderr, YELLOW), paint(stderr, PLAIN), run->args->data,
             text);
        free(text);
    }
}

char *before_row(const struct run *run, FILE *to)
{
    bool colours = *paint(to, GREEN) != 0;
    const char *open = colours ? paint(to, GREEN) : "[", *close = colours ? paint(to, PLAIN) : "]";
    int64_t row = run->args->show_row ? run->args->show_row - 1 : 0;
    int64_t n = peft_judge_row(run->model, run->data, row, open, close, NULL, 0);
    if (n < 0)
        return NULL;
    char *text = grow(NULL, (size_t)n + 1);
    n = peft_judge_row(run->model, run->data, row, open, close, text, n);
    text[n < 0 ? 0 : n] = 0;
    return text;
}

int before_show(const struct run *run, FILE *to)
{
    char *text = before_row(run, to);
    if (!text)
        return usage_error("--show-row %d: %s", run->args->show_row, peft_errmsg());
    peft_row row = {.size = sizeof row};
    peft_dataset_row(run->data, run->args->show_row ? run->args->show_row - 1 : 0, &row);
    fprintf(to, "%sline %lld, %d tokens%s\n%s\n", paint(to, BOLD), (long long)row.line, row.n,
            paint(to, PLAIN), text);
    free(text);
    return 0;
}

void before_json(const struct run *run, struct json *j)
{
    json_open(j, "flaws", '[');
    for (int32_t i = 0; i < run->checked.n; i++) {
        const peft_flaw *f = &run->checked.flaws[i];
        json_open(j, NULL, '{');
        json_text(j, "name", f->name);
        json_int(j, "rows", f->rows);
        json_text(j, "text", f->text);
        if (f->max_len)
            json_int(j, "max_len", f->max_len);
        json_open(j, "lines", '[');
        for (int32_t k = 0; k < f->n; k++)
            json_int(j, NULL, f->lines[k]);
        json_close(j);
        json_close(j);
    }
    json_close(j);
}
