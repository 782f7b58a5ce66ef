/* peft plan: the memory and time of a training that is not started. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "train.h"

static const struct {
    const char *name, *says;
    size_t at;
} kinds[] = {
    {"weights", "the model's files", offsetof(peft_plan, weights)},
    {"trainable", "what trains, as float32", offsetof(peft_plan, trainable)},
    {"gradients", "", offsetof(peft_plan, gradients)},
    {"optimizer", "two moments a weight", offsetof(peft_plan, optimizer)},
    {"activations", "kept for the way back", offsetof(peft_plan, activations)},
    {"scratch", "", offsetof(peft_plan, scratch)},
    {"data", "tokens of all rows", offsetof(peft_plan, data)},
    {"features", "cached outputs of the frozen part", offsetof(peft_plan, features)},
    {"process", "already resident", offsetof(peft_plan, process)},
    {"peak", "the sum", offsetof(peft_plan, peak)},
    {"evaluation", "added while --eval data is measured", offsetof(peft_plan, evaluation)}};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static int64_t bytes_of(const peft_plan *p, int i)
{
    return *(const int64_t *)((const char *)p + kinds[i].at);
}

/* --- what it takes beside memory */

static const struct {
    const char *name, *says;
    size_t at;
} files[] = {
    {"adapter", "what is written at the end", offsetof(peft_cost, adapter_bytes)},
    {"model", "what is written at the end", offsetof(peft_cost, model_bytes)},
    {"checkpoint", "each, the newest two are kept", offsetof(peft_cost, checkpoint_bytes)},
    {"cache", "where --cache-file asks for it", offsetof(peft_cost, cache_bytes)}};
enum { N_FILES = sizeof files / sizeof *files };

static int64_t file_bytes(const peft_cost *c, int i)
{
    return *(const int64_t *)((const char *)c + files[i].at);
}

/* "0.5/M", "2e-6", "30/K": of a token; "1.20/h": of an hour. */
static int parse_price(const char *text, peft_cost_opts *out)
{
    static const struct { const char *unit; double tokens; } units[] = {
        {"", 1}, {"/K", 1e3}, {"/k", 1e3}, {"/M", 1e6}, {"/G", 1e9}, {"/h", 0}};
    char *end = NULL;
    double price = text ? strtod(text, &end) : 0;
    if (!text)
        return 0;
    for (size_t i = 0; end != text && price >= 0 && price < 1e12 &&
                       i < sizeof units / sizeof *units; i++) {
        if (strcmp(end, units[i].unit))
            continue;
        *(units[i].tokens > 0 ? &out->price : &out->price_hour) =
            units[i].tokens > 0 ? price / units[i].tokens : price;
        return 0;
    }
    return usage_error("--price is \"%s\", expected a price of tokens as 0.5/M or 2e-6, or of "
                       "an hour as 1.20/h", text);
}

static void cost_json(const struct run *run, struct json *j)
{
    const peft_cost *c = &run->cost;
    json_int(j, "tokens_of_run", c->tokens);
    json_int(j, "trained_tokens_of_run", c->trained_tokens);
    json_open(j, "disk", '{');
    for (int i = 0; i < N_FILES; i++)
        json_int(j, files[i].name, file_bytes(c, i));
    json_close(j);
    if (run->args->price)
        json_num(j, "price", c->price);
}

static void cost_table(const struct run *run)
{
    const peft_cost *c = &run->cost;
    printf("\n");
    table_head(3, (const char *const[]){"disk", ">bytes", ""});
    for (int i = 0; i < N_FILES; i++)
        if (file_bytes(c, i))
            table_row((const char *const[]){files[i].name, show_bytes(file_bytes(c, i)),
                                            files[i].says});
    table_end(stdout);
    printf("\n%s tokens are read, %s of them trained\n", show_count(c->tokens),
           show_count(c->trained_tokens));
    if (run->args->price)
        printf("price %.6g, at %s\n", c->price, run->args->price);
}

static void plan_json(const struct run *run)
{
    const peft_plan *p = &run->plan;
    struct json j;
    json_begin(&j, stdout);
    json_open(&j, NULL, '{');
    json_text(&j, "model", run->info.name);
    json_text(&j, "method", run->method);
    json_int(&j, "trainable_params", p->trainable_params);
    json_int(&j, "total_params", p->total_params);
    json_int(&j, "rows", run->stats.rows);
    json_int(&j, "tokens", run->stats.tokens);
    json_open(&j, "bytes", '{');
    for (int i = 0; i < N_KINDS; i++)
        json_int(&j, kinds[i].name, bytes_of(p, i));
    json_close(&j);
    json_int(&j, "peak_bytes", p->peak);
    json_int(&j, "memory_available", run->sys.memory_available);
    json_int(&j, "steps", p->steps);
    json_int(&j, "tokens_per_step", p->tokens_per_step);
    json_num(&j, "flops_per_step", p->flops_per_step);
    json_num(&j, "seconds_per_step", p->seconds_per_step);
    json_int(&j, "micro_batch", p->micro_batch);
    json_int(&j, "recompute_layers", p->recompute_layers);
    if (p->memory_least) {
        json_int(&j, "memory_least", p->memory_least);
        json_text(&j, "choice", p->choice);
    }
    json_int(&j, "threads", run->threads);
    json_num(&j, "seconds", run->predicted_seconds);
    cost_json(run, &j);
    if (run->choice.n)
        auto_json(run, &j, "auto");
    before_json(run, &j);
    char *row = before_row(run, stdout);
    if (row) {
        json_text(&j, "row", row);
        free(row);
    }
    json_close(&j);
}

static int plan_table(const struct run *run)
{
    const peft_plan *p = &run->plan;
    printf("%s, method %s\n", run->info.name, run->method);
    printf("trainable params: %s || all params: %s || trainable%%: %.4f\n",
           show_count(p->trainable_params), show_count(p->total_params),
           p->total_params ? 100.0 * (double)p->trainable_params / (double)p->total_params : 0.0);
    printf("%lld steps of up to %s tokens, about %s on %d threads\n\n", (long long)p->steps,
           show_count(p->tokens_per_step), show_seconds(run->predicted_seconds), run->threads);
    table_head(3, (const char *const[]){"memory", ">bytes", ""});
    for (int i = 0; i < N_KINDS; i++)
        table_row((const char *const[]){kinds[i].name, show_bytes(bytes_of(p, i)),
                                        kinds[i].says});
    table_end(stdout);
    cost_table(run);
    if (*p->choice)
        printf("\nwithin %s: %s\nat least %s are needed\n", show_bytes(run->args->memory_limit),
               p->choice, show_bytes(p->memory_least));
    if (run->sys.memory_available)
        printf("\n%s are available now%s\n", show_bytes(run->sys.memory_available),
               p->peak > run->sys.memory_available ? ": not enough" : "");
    printf("\n");
    auto_show(run);
    before_notes(run);
    return before_show(run, stdout);
}

int run_plan(const struct args *args)
{
    struct run run = {.args = args, .checks = true, .plans = true};
    peft_cost_opts price = {.size = sizeof price};
    int rc = parse_price(args->price, &price);
    if (!rc)
        rc = run_setup(&run);
    run.cost.size = sizeof run.cost;
    int32_t code = rc ? 0 : peft_judge_cost(run.model, run.data, run.trainer, &price, &run.cost);
    if (code)
        rc = library_error(code, "cannot tell what it takes");
    if (!rc && args->json)
        plan_json(&run);
    else if (!rc)
        rc = plan_table(&run);
    run_release(&run);
    return rc;
}
