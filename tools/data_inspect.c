/* peft data inspect: what a data file holds. */
#include "tables.h"

static int32_t on_progress(void *ctx, int64_t done, int64_t total)
{
    (void)ctx;
    progress(false, "read %s of %s", show_bytes(done), show_bytes(total));
    return interrupted();
}

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

int run_data_inspect(const struct args *args)
{
    peft_model *model = NULL;
    peft_info info;
    int rc = args->model ? open_model_at(args, args->model, &model, &info) : EXIT_OK;
    if (rc)
        return rc;
    peft_source_opts source = {.size = sizeof source, .limit = args->limit,
                               .threads = args->threads, .progress = on_progress};
    peft_inspect_opts opts = {.size = sizeof opts, .source = &source, .model = model,
                              .max_len = args->max_len, .examples = args->examples,
                              .seed = args->seed};
    peft_tables *tables = NULL;
    interrupt_catch(NULL);
    int32_t bad = peft_data_inspect(args->operand, &opts, &tables);
    interrupt_release();
    progress_end();
    if (bad)
        rc = library_error(bad, "cannot inspect");
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
