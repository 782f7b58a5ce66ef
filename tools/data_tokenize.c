/* peft data tokenize: rows as the trainer's tokens, in a file that it maps. */
#include <string.h>

#include "cli.h"

static int32_t on_rows(void *ctx, int64_t rows, int64_t bytes)
{
    (void)ctx;
    progress(false, "tokenizing: %s rows, %s", show_count(rows), show_bytes(bytes));
    return interrupted();
}

static void show_tokens(const struct args *args, const peft_dataset_stats *s)
{
    struct json j;
    if (!args->json) {
        printf("%s: %s rows of %s, %s tokens (%s trained), %s to %s a row, median %s\n", args->out,
               show_count(s->rows), s->schema, show_count(s->tokens),
               show_count(s->trained_tokens), show_count(s->min_len), show_count(s->max_len),
               show_count(s->median_len));
        if (s->truncated)
            note("%s rows were cut at --max-len", show_count(s->truncated));
        if (s->skipped)
            note("%s rows have nothing to train and were left out", show_count(s->skipped));
        return;
    }
    json_begin(&j, stdout);
    json_open(&j, NULL, '{');
    json_text(&j, "out", args->out);
    json_text(&j, "schema", s->schema);
    json_text(&j, "head", s->head);
    json_int(&j, "rows", s->rows);
    json_int(&j, "tokens", s->tokens);
    json_int(&j, "trained_tokens", s->trained_tokens);
    json_int(&j, "min_len", s->min_len);
    json_int(&j, "median_len", s->median_len);
    json_int(&j, "mean_len", s->mean_len);
    json_int(&j, "p95_len", s->p95_len);
    json_int(&j, "max_len", s->max_len);
    json_int(&j, "truncated", s->truncated);
    json_int(&j, "skipped", s->skipped);
    json_int(&j, "labels", s->labels);
    json_close(&j);
}

int run_data_tokenize(const struct args *args)
{
    peft_model *model;
    peft_info info;
    peft_dataset_stats stats = {.size = sizeof stats};
    peft_dataset_opts opts = data_opts(args);
    if (!args->data || !args->out)
        return usage_error("data tokenize needs --data FILE and --out FILE.shard");
    if (is_occupied(args->out) && !args->overwrite)
        return usage_error("%s is there already: --overwrite replaces it", args->out);
    int rc = open_model(args, &model, &info);
    if (rc)
        return rc;
    opts.shard_rows = args->shard_rows;
    opts.progress = on_rows;
    interrupt_catch(NULL);
    rc = source_end(peft_dataset_prepare(model, args->data, &opts, args->out, &stats),
                    "cannot tokenize the data");
    if (!rc)
        show_tokens(args, &stats);
    peft_model_free(model);
    return rc;
}
