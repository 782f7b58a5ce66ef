/* Settings by themselves: what the user did not give is chosen, told, and stored. */
#include <stdlib.h>
#include <string.h>

#include "train.h"

bool auto_wanted(const struct args *a)
{
    if (a->auto_on)
        return a->auto_on > 0;
    bool given = a->method || a->rank || a->alpha > 0 || a->targets || a->settings || a->adapter ||
                 a->freeze.n || a->unfreeze.n || a->target_parameters || a->lr > 0 || a->schedule ||
                 a->warmup > 0 || a->batch || a->accumulate || a->packing || a->epochs ||
                 a->steps || a->init || a->trainable_tokens || a->modules_to_save ||
                 a->lr_ratio > 0;
    return !given;
}

static int32_t look_at_rows(struct run *run)
{
    run->stats.size = sizeof run->stats;
    run->eval_stats = (peft_dataset_stats){.size = sizeof run->eval_stats};
    int32_t rc = peft_dataset_info(run->data, &run->stats);
    return rc || !run->eval ? rc : peft_dataset_info(run->eval, &run->eval_stats);
}

int set_aside(struct run *run, double share)
{
    peft_aside_opts opts = {.size = sizeof opts, .seed = run->args->seed, .share = share};
    peft_dataset *train = NULL;
    int32_t rc = peft_judge_aside(run->model, run->data, &opts, &train, &run->eval);
    if (!rc && share > 0 && !run->eval)
        return usage_error("--eval %s leaves no row for evaluation, or none for training",
                           run->args->eval);
    if (!rc) {
        if (share > 0)
            peft_dataset_free(run->data);
        else
            run->whole = run->data;
        run->data = train;
        rc = look_at_rows(run);
    }
    return rc ? library_error(rc, "cannot set evaluation data aside") : 0;
}

/* The rows that were set aside train too: what they were to tell is known. */
static int take_all_rows(struct run *run)
{
    char *why = format("%lld of %lld rows were set aside to choose by%s; the training has all",
                       (long long)run->eval_stats.rows, (long long)run->eval_stats.rows +
                       (long long)run->stats.rows,
                       run->stats.labels > 1 ? ", of each label its share" : "");
    free(run->aside);
    run->aside = why;
    peft_dataset_free(run->data);
    peft_dataset_free(run->eval);
    run->data = run->whole;
    run->eval = run->whole = NULL;
    int32_t rc = look_at_rows(run);
    return rc ? library_error(rc, "cannot use the data") : 0;
}

/* Rows for evaluation, where the user named none. */
static int rows_for_judging(struct run *run)
{
    long long all = (long long)run->stats.rows;
    int rc = run->eval ? 0 : set_aside(run, 0);
    if (rc || run->args->eval)
        return rc;
    run->aside = !run->eval ?
        format("%lld rows are too few to set any aside for evaluation", all) :
        format("%lld of %lld rows are set aside for evaluation%s",
               (long long)run->eval_stats.rows, all,
               run->stats.labels > 1 ? ", of each label its share" : "");
    return 0;
}

static int32_t on_choice(void *ctx, const char *doing, int64_t done, int64_t total)
{
    (void)ctx;
    if (stderr_is_live())
        progress(false, "%s: %lld of %lld", doing, (long long)done, (long long)total);
    return interrupted();
}

/* What a run chose when it began, from its auto.json: a resumed one chooses nothing. */
static bool choice_read(struct run *run)
{
    char *path = folder_path(run, "auto.json"), *text = read_file(path, NULL);
    static const char *const keys[] = {"method", "rank", "last", "batch", "accumulate", "epochs",
                                       "patience", "refit", "lr", "warmup", "schedule",
                                       "metric"};
    enum { N = sizeof keys / sizeof *keys };
    char *v[N];
    free(path);
    if (!text)
        return false;
    for (int i = 0; i < N; i++)
        v[i] = stored_value(text, keys[i]);
    bool whole = true;
    for (int i = 0; i < N; i++)
        whole = whole && v[i];
    peft_choice *c = &run->choice;
    if (whole) {
        snprintf(c->method, sizeof c->method, "%.*s", (int)strcspn(v[0] + 1, "\""), v[0] + 1);
        int32_t *to[] = {&c->rank, &c->last, &c->batch, &c->accumulate, &c->epochs, &c->patience,
                         &c->refit};
        for (int i = 0; i < 7; i++)
            *to[i] = (int32_t)strtol(v[i + 1], NULL, 10);
        c->size = sizeof *c;
        c->lr = strtof(v[8], NULL);
        c->warmup = strtof(v[9], NULL);
        snprintf(c->schedule, sizeof c->schedule, "%.*s", (int)strcspn(v[10] + 1, "\""), v[10] + 1);
        snprintf(c->metric, sizeof c->metric, "%.*s", (int)strcspn(v[11] + 1, "\""), v[11] + 1);
    }
    for (int i = 0; i < N; i++)
        free(v[i]);
    free(text);
    return whole;
}

/* What is chosen becomes what was given. */
static int choice_take(struct run *run)
{
    struct args *a = &run->chosen;
    const peft_choice *c = &run->choice;
    a->method = c->method;
    a->last = c->last;
    a->rank = c->rank;
    a->batch = c->batch;
    if (!a->accumulate)
        a->accumulate = c->accumulate;
    if (!a->steps)
        a->epochs = c->epochs;
    a->patience = c->patience;
    if (c->refit)
        a->metric = NULL;
    else if (!a->metric && run->eval)
        a->metric = c->metric;
    if (!(a->lr > 0))
        a->lr = c->lr;
    if (!a->schedule)
        a->schedule = c->schedule;
    if (!(a->warmup > 0))
        a->warmup = c->warmup;
    run->args = a;
    run->method = a->method;
    return c->refit ? take_all_rows(run) : 0;
}

int auto_choose(struct run *run)
{
    const struct args *a = run->args;
    peft_train_opts train;
    peft_adapter_opts adapter = adapter_opts(a);
    int rc = train_opts(a, &train);
    train.manner = NULL;       /* that of the run, not of its trials */
    if (!rc)
        rc = rows_for_judging(run);
    run->chosen = *a;
    if (rc)
        return rc;
    if (a->resume && choice_read(run))
        return choice_take(run);
    peft_auto_opts opts = {.size = sizeof opts, .method = a->method, .rank = a->rank,
                           .last = a->last, .batch = a->batch, .epochs = a->epochs,
                           .patience = a->patience, .metric = a->metric, .lr = (float)a->lr,
                           .adapter = &adapter,
                           .train = &train, .memory = a->memory_limit, .progress = on_choice,
                           .no_runs = run->plans && a->auto_on <= 0,
                           .no_refit = !run->whole || a->refit < 0 || a->keep};
    run->choice.size = sizeof run->choice;
    interrupt_catch(NULL);
    int32_t code = peft_auto(run->model, run->data, run->eval, &opts, &run->choice);
    bool stopped = interrupted();
    interrupt_release();
    progress_end();
    if (stopped) {
        fprintf(stderr, "interrupted while settings were chosen; nothing to resume\n");
        return EXIT_INTERRUPTED;
    }
    if (code)
        return library_error(code, "cannot choose settings");
    return choice_take(run);
}

void auto_show(const struct run *run)
{
    const peft_choice *c = &run->choice;
    if (run->aside)
        note("%s", run->aside);
    for (int32_t i = 0; i < c->n; i++)
        note("  %-10s %-10s %s", c->chosen[i].name, c->chosen[i].value, c->chosen[i].why);
}

int auto_write(const struct run *run)
{
    const peft_choice *c = &run->choice;
    char *path = folder_path(run, "auto.json");
    FILE *f = folder_create(path);
    struct json j;
    if (f) {
        fprintf(f, "{\n  \"method\": \"%s\",\n  \"rank\": %d,\n  \"last\": %d,\n  \"batch\": %d,\n"
                "  \"accumulate\": %d,\n  \"epochs\": %d,\n  \"patience\": %d,\n  \"refit\": %d,\n"
                "  \"lr\": %.9g,\n  \"warmup\": %.9g,\n  \"schedule\": \"%s\",\n"
                "  \"metric\": \"%s\",\n  \"why\": ", c->method, c->rank, c->last, c->batch,
                c->accumulate, c->epochs, c->patience, c->refit, (double)c->lr,
                (double)c->warmup, c->schedule, c->metric);
        json_begin(&j, f);
        auto_json(run, &j, NULL);
        fprintf(f, "}\n");
    }
    int rc = folder_close(f, path);
    free(path);
    return rc;
}

/* The reasons, the range test and the runs. */
void auto_json(const struct run *run, struct json *j, const char *key)
{
    const peft_choice *c = &run->choice;
    json_open(j, key, '{');
    if (run->aside)
        json_text(j, "evaluation", run->aside);
    for (int32_t i = 0; i < c->n; i++) {
        json_open(j, c->chosen[i].name, '{');
        json_text(j, "value", c->chosen[i].value);
        json_bool(j, "given", c->chosen[i].given);
        json_text(j, "why", c->chosen[i].why);
        json_close(j);
    }
    json_open(j, "range_test", '[');
    for (int32_t i = 0; i < c->n_range; i++) {
        json_open(j, NULL, '[');
        json_num(j, NULL, (double)c->range_lr[i]);
        json_num(j, NULL, (double)c->range_loss[i]);
        json_close(j);
    }
    json_close(j);
    json_open(j, "tried", '[');
    for (int32_t i = 0; i < c->n_tried; i++) {
        const peft_tried *t = &c->tried[i];
        json_open(j, NULL, '{');
        json_text(j, "method", t->method);
        json_num(j, "rank", t->rank);
        json_num(j, "lr", (double)t->lr);
        json_num(j, "epochs", t->epochs);
        json_num(j, "value", t->value);
        json_num(j, "loss", t->loss);
        json_num(j, "seconds", t->seconds);
        json_close(j);
    }
    json_close(j);
    json_num(j, "seconds", c->seconds);
    json_close(j);
}
