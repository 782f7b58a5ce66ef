/* peft data inspect: what a data file holds. */
#include "tables.h"

/* Every table, but of the three histograms that of the best measure. */
static void print_tables(const peft_tables *tables)
{
    static const char *const order[] = {"summary", "notes", "schemas", "columns", "lengths",
                                        "tokens", "words", "labels", "scripts", "broken",
                                        "examples"};
    peft_table t = {.size = sizeof t}, tokens = t;
    bool counted = !peft_tables_find(tables, "tokens", &tokens);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (!(i == 6 && counted) && !peft_tables_find(tables, order[i], &t))
            table_print(stdout, &t);
}

void tables_json(struct json *j, const peft_tables *tables)
{
    peft_table t = {.size = sizeof t};
    for (int32_t i = 0; !peft_tables_at(tables, i, &t); i++)
        table_json(j, &t);
}

int32_t inspect_file(const struct args *args, const char *path, const peft_model *model,
                     const peft_source_opts *source, peft_tables **out)
{
    peft_inspect_opts opts = {.size = sizeof opts, .source = source, .model = model,
                              .max_len = args->max_len, .examples = args->examples,
                              .seed = args->seed};
    return peft_data_inspect(path, &opts, out);
}

int run_data_inspect(const struct args *args)
{
    peft_model *model = NULL;
    peft_info info;
    int rc = args->model ? open_model_at(args, args->model, &model, &info) : EXIT_OK;
    if (rc)
        return rc;
    struct source source;
    peft_tables *tables = NULL;
    source_begin(args, "inspecting", &source);
    rc = source_end(inspect_file(args, args->operand, model, &source.opts, &tables),
                    "cannot inspect");
    if (!tables)
        rc = rc ? rc : EXIT_RUNTIME;
    else if (args->json) {
        struct json j;
        json_begin(&j, stdout);
        json_open(&j, NULL, '{');
        tables_json(&j, tables);
        json_close(&j);
    } else
        print_tables(tables);
    peft_tables_free(tables);
    peft_model_free(model);
    return rc;
}
