/* peft data split. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const char *const sides[] = {"train", "valid", "test"};

struct class_rows { char *name; int64_t rows[PEFT_SIDES]; };
struct classes { struct class_rows *list; int64_t n; };

static void on_class(void *ctx, const char *name, const int64_t *rows)
{
    struct classes *c = ctx;
    c->list = grow(c->list, (size_t)(c->n + 1) * sizeof *c->list);
    c->list[c->n] = (struct class_rows){.name = format("%s", name)};
    memcpy(c->list[c->n++].rows, rows, sizeof c->list->rows);
}

/* "0.8,0.1,0.1", or whole numbers: 8,1,1.  Shares that leave a part of the rows out are
 * a mistake more often than they are meant. */
static int parse_ratio(const char *text, double ratio[PEFT_SIDES])
{
    double sum = 0;
    const char *at = text;
    int n = 0;
    bool whole = !strpbrk(text, ".eE");
    for (char *end; at && n < PEFT_SIDES; n++) {
        ratio[n] = strtod(at, &end);
        if (end == at || (*end && *end != ',') || !(ratio[n] >= 0))
            break;
        sum += ratio[n];
        at = *end ? end + 1 : NULL;
    }
    if (at || n < 2 || !(sum > 0))
        return usage_error("--ratio is \"%s\", expected two or three numbers, as 0.8,0.1,0.1",
                           text);
    if (!whole && (sum < 0.999 || sum > 1.001))
        return usage_error("--ratio %s: the shares add up to %g, expected 1", text, sum);
    return 0;
}

/* "text", a column, or both. */
static char *parse_group(const char *text, peft_split_opts *opts)
{
    char *copy = text ? format("%s", text) : NULL;
    for (char *at = copy, *next; at && *at; at = next) {
        next = at + strcspn(at, ",");
        if (*next)
            *next++ = 0;
        if (!strcmp(at, "text"))
            opts->group_text = 1;
        else
            opts->group = at;
    }
    return copy;
}

static void show_json(const peft_split *r, const struct classes *c)
{
    struct json j;
    json_begin(&j, stdout);
    json_open(&j, NULL, '{');
    for (int k = 0; k < PEFT_SIDES; k++)
        json_int(&j, sides[k], r->rows[k]);
    json_open(&j, "groups", '{');
    for (int k = 0; k < PEFT_SIDES; k++)
        json_int(&j, sides[k], r->groups[k]);
    json_close(&j);
    json_int(&j, "scarce_classes", r->scarce);
    json_int(&j, "shared_texts", r->shared);
    json_open(&j, "classes", '[');
    for (int64_t i = 0; i < c->n; i++) {
        json_open(&j, NULL, '{');
        json_text(&j, "name", c->list[i].name);
        for (int k = 0; k < PEFT_SIDES; k++)
            json_int(&j, sides[k], c->list[i].rows[k]);
        json_close(&j);
    }
    json_close(&j);
    json_close(&j);
}

static void show_row(const char *name, const int64_t rows[PEFT_SIDES])
{
    const char *cells[PEFT_SIDES + 2] = {name};
    char text[PEFT_SIDES + 1][64];
    int64_t all = rows[0] + rows[1] + rows[2];
    for (int k = 0; k < PEFT_SIDES; k++)
        snprintf(text[k], sizeof *text, "%s (%.1f %%)", show_count(rows[k]),
                 all ? 100.0 * (double)rows[k] / (double)all : 0.0);
    snprintf(text[PEFT_SIDES], sizeof *text, "%s", show_count(all));
    for (int k = 0; k <= PEFT_SIDES; k++)
        cells[k + 1] = text[k];
    table_row(cells);
}

static void show_table(const peft_split *r, const struct classes *c, bool groups)
{
    enum { SHOWN = 30 };
    static const char *const heads[] = {"", ">train", ">valid", ">test", ">all"};
    table_head(5, heads);
    for (int64_t i = 0; i < c->n && i < SHOWN; i++)
        show_row(c->list[i].name, c->list[i].rows);
    if (groups)
        show_row("groups", r->groups);
    show_row("rows", r->rows);
    table_end(stdout);
    if (c->n > SHOWN)
        note("%s classes, of which the first %d are shown; --json has all", show_count(c->n),
             SHOWN);
    if (r->shared)
        note("%swarning:%s %s texts are on more than one side: an evaluation then flatters; "
             "--group text keeps them together", paint(stderr, YELLOW), paint(stderr, PLAIN),
             show_count(r->shared));
}

int run_data_split(const struct args *args)
{
    peft_split_opts opts = {.size = sizeof opts, .stratify = args->stratify, .seed = args->seed,
                            .overwrite = args->overwrite, .on_class = on_class,
                            .memory = args->memory_limit};
    peft_split result = {.size = sizeof result};
    struct classes classes = {0};
    struct source source;
    int rc = args->ratio ? parse_ratio(args->ratio, opts.ratio) : 0;
    if (rc)
        return rc;
    char *group = parse_group(args->group, &opts);
    opts.ctx = &classes;
    source_begin(args, "splitting", &source);
    opts.source = &source.opts;
    rc = source_end(peft_data_split(args->operand, args->out, &opts, &result), "cannot split");
    if (!rc && args->json)
        show_json(&result, &classes);
    else if (!rc)
        show_table(&result, &classes, opts.group || opts.group_text);
    if (!rc && !args->out)
        note("nothing was written: --out DIR or --out PREFIX writes the rows");
    for (int64_t i = 0; i < classes.n; i++)
        free(classes.list[i].name);
    free(classes.list);
    free(group);
    return rc;
}
