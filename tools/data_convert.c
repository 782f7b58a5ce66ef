/* peft data convert. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static void show_json(const struct args *args, const peft_data_converted *r)
{
    struct json j;
    json_begin(&j, stdout);
    json_open(&j, NULL, '{');
    json_text(&j, "from", r->from);
    json_text(&j, "to", args->to);
    json_int(&j, "read", r->read);
    json_int(&j, "rows", r->rows);
    json_int(&j, "skipped", r->skipped);
    json_int(&j, args->drop ? "lost" : "kept", r->kept);
    json_text(&j, args->drop ? "lost_columns" : "kept_columns", r->columns);
    json_int(&j, "restored", r->restored);
    json_int(&j, "stale", r->stale);
    json_close(&j);
}

static void show_text(const struct args *args, const peft_data_converted *r)
{
    printf("%s: %s rows of %s from %s of %s\n", args->out, show_count(r->rows), args->to,
           show_count(r->read), r->from);
    if (r->kept && !args->drop)
        note("%s rows keep in the column \"kept\" what the way back needs%s%s; --drop leaves "
             "it out", show_count(r->kept), *r->columns ? ": " : "", r->columns);
    else if (r->kept && *r->columns)
        note("of %s rows is lost what %s cannot hold: %s", show_count(r->kept), args->to,
             r->columns);
    if (r->restored)
        note("%s rows got back what they had kept", show_count(r->restored));
    if (r->stale)
        note("%s rows have changed since: what they had kept is of no use any more",
             show_count(r->stale));
    if (r->skipped)
        note("%s rows were left out", show_count(r->skipped));
}

int run_data_convert(const struct args *args)
{
    struct source source;
    peft_data_convert_opts opts = {.size = sizeof opts, .to = args->to, .from = args->from,
                                   .skip = args->skip, .drop = args->drop,
                                   .overwrite = args->overwrite};
    peft_data_converted result = {.size = sizeof result};
    if (!args->to || !args->out)
        return usage_error("data convert needs --to FORMAT and --out FILE");
    char *layout = args->layout ? read_file(args->layout, NULL) : NULL;
    if (args->layout && !layout) {
        runtime_error("--template: %s cannot be read", args->layout);
        return EXIT_FILE;
    }
    opts.layout = layout;
    source_begin(args, "converting", &source);
    opts.source = &source.opts;
    int rc = source_end(peft_data_convert(args->operand, args->out, &opts, &result),
                        "cannot convert");
    free(layout);
    if (!rc && args->json)
        show_json(args, &result);
    else if (!rc)
        show_text(args, &result);
    return rc;
}
