/* peft plan: the memory and time of a training that is not started. */
#include <stddef.h>

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
    json_close(&j);
}

static void plan_table(const struct run *run)
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
    if (*p->choice)
        printf("\nwithin %s: %s\nat least %s are needed\n", show_bytes(run->args->memory_limit),
               p->choice, show_bytes(p->memory_least));
    if (run->sys.memory_available)
        printf("\n%s are available now%s\n", show_bytes(run->sys.memory_available),
               p->peak > run->sys.memory_available ? ": not enough" : "");
}

int run_plan(const struct args *args)
{
    struct run run = {.args = args};
    int rc = run_setup(&run);
    if (!rc && args->json)
        plan_json(&run);
    else if (!rc)
        plan_table(&run);
    run_release(&run);
    return rc;
}
