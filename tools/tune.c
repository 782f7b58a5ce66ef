/* peft tune: searches for settings within a number of trials or a time, tells every run as
 * it ends, and leaves the best adapter in --out/best, with the command that makes it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train.h"

struct tuning {
    struct run run;
    peft_trial *trial;         /* [n] runs, in their order */
    int n;
    peft_tuned result;
    char *command;             /* that trains the best one */
};

/* "20m", "1h30m", "90s", "90": seconds; < 0 = no time. */
static double parse_time(const char *text)
{
    static const char units[] = "smhd";
    static const double seconds[] = {1, 60, 3600, 86400};
    double sum = 0;
    while (*text) {
        char *end;
        double v = strtod(text, &end);
        const char *unit = *end ? strchr(units, *end) : units;
        if (end == text || !unit || !(v >= 0 && v < 1e9))
            return -1;
        sum += v * seconds[unit - units];
        text = *end ? end + 1 : end;
    }
    return sum;
}

/* -------------------------------------------------------------- one after another */

static const char *show_value(const peft_trial *t, char text[24])
{
    if (t->best_step > 0)
        snprintf(text, 24, "%.4f", t->value_best);
    else
        snprintf(text, 24, "%s", t->ended);
    return text;
}

static char *settings_words(const peft_trial *t)
{
    char *all = format("%s", "");
    for (int32_t i = 0; i < t->n; i++) {
        char *more = format("%s%s%s %s", all, i ? "  " : "", t->name[i], t->value[i]);
        free(all);
        all = more;
    }
    return all;
}

static void write_trial(struct json *j, const peft_trial *t)
{
    json_open(j, NULL, '{');
    json_int(j, "trial", t->trial);
    json_int(j, "rung", t->rung);
    json_open(j, "settings", '{');
    for (int32_t i = 0; i < t->n; i++)
        json_text(j, t->name[i], t->value[i]);
    json_close(j);
    json_num(j, "share", t->share);
    json_int(j, "steps", t->steps);
    json_int(j, "best_step", t->best_step);
    json_num(j, "loss", t->loss);
    json_num(j, "value", t->value_best);
    json_num(j, "seconds", t->seconds);
    json_text(j, "ended", t->ended);
    json_close(j);
}

static int32_t on_trial(void *ctx, const peft_trial *t)
{
    struct tuning *x = ctx;
    char value[24], *words = settings_words(t);
    x->trial = grow(x->trial, (size_t)(x->n + 1) * sizeof *x->trial);
    x->trial[x->n++] = *t;
    progress_end();
    note("trial %-3d rung %d  %-8s %s  %lld steps, %s%s%s%s", t->trial, t->rung,
         show_value(t, value), words, (long long)t->steps, show_seconds(t->seconds),
         *t->ended ? ", " : "", t->ended, t->before ? ", before" : t->best ? ", the best" : "");
    free(words);
    return interrupted();
}

static int32_t on_progress(void *ctx, const peft_trial *t, int64_t done, int64_t steps)
{
    (void)ctx;
    if (stderr_is_live() && t)
        progress(false, "trial %d, rung %d: step %lld of %lld", t->trial, t->rung,
                 (long long)done, (long long)steps);
    return interrupted();
}

/* ---------------------------------------------------------------- the command */

/* Options of tune that are not train's, or that the trial gives. */
static const struct { const char *name; bool value; } dropped[] = {
    {"search", true}, {"trials", true}, {"budget", true}, {"eta", true}, {"out", true},
    {"search-seed", true}, {"json", false}, {"quiet", false}, {"overwrite", false},
    {"epochs", true}, {"steps", true}};

static bool is_setting(const peft_trial *t, const char *name, size_t n)
{
    for (int32_t i = 0; i < t->n; i++)
        if (strlen(t->name[i]) == n && !strncmp(t->name[i], name, n))
            return true;
    return false;
}

/* 0 = it stays, 1 = it goes, 2 = its value too. */
static int drops(const peft_trial *t, const char *word)
{
    if (strncmp(word, "--", 2))
        return 0;
    size_t n = strcspn(word + 2, "=");
    bool has = word[2 + n] == '=';
    for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++)
        if (strlen(dropped[i].name) == n && !strncmp(dropped[i].name, word + 2, n) &&
            (t->share < 1 || is_setting(t, "epochs", 6) || (strncmp(word, "--epochs", n + 2) &&
                                                             strncmp(word, "--steps", n + 2))))
            return dropped[i].value && !has ? 2 : 1;
    return is_setting(t, word + 2, n) ? has ? 1 : 2 : 0;
}

static void put_setting(FILE *to, const char *name, const char *value)
{
    char *text = format("%s", !strcmp(value, "attention") ? "*attn*,*attention*,*Attention*" :
                        value);
    if (!strcmp(name, "targets") && !strcmp(value, "all")) {
        free(text);
        return;
    }
    for (char *p = text; *p; p++)
        if (*p == '+' && !strcmp(name, "targets"))
            *p = ',';
    fprintf(to, " --%s ", name);
    put_shell_word(to, text);
    free(text);
}

static char *make_command(const struct args *a, const peft_trial *t)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    if (!to)
        return format("%s", "");
    fputs("peft train", to);
    for (int i = 2; i < a->argc; i++) {
        int n = drops(t, a->argv[i]);
        if (n) {
            i += n - 1;
            continue;
        }
        putc(' ', to);
        put_shell_word(to, a->argv[i]);
    }
    for (int32_t i = 0; i < t->n; i++)
        if (strcmp(t->name[i], "epochs") || t->share >= 1)
            put_setting(to, t->name[i], t->value[i]);
    if (t->share < 1)
        fprintf(to, " --steps %lld", (long long)t->steps);
    if (!a->patience)
        fputs(" --patience 2", to);
    fputs(" --out run", to);
    fclose(to);
    return text;
}

/* ------------------------------------------------------------------ the table */

/* Whether a trial's run is better than another's. */
static bool is_better(bool falls, const peft_trial *a, const peft_trial *b)
{
    if (isnan(a->value_best) || isnan(b->value_best))
        return isnan(b->value_best) && !isnan(a->value_best);
    if (!(a->value_best < b->value_best) && !(a->value_best > b->value_best))
        return a->loss < b->loss;
    return falls ? a->value_best < b->value_best : a->value_best > b->value_best;
}

/* Of each trial its best run; the best value first. */
static const peft_trial **ranked(const struct tuning *x, int *count)
{
    const char *metric = x->run.args->metric;
    bool falls = peft_metric_falls(metric ? metric : "loss");
    const peft_trial **list = grow(NULL, (size_t)(x->n + 1) * sizeof *list);
    int n = 0;
    for (int i = 0; i < x->n; i++) {
        int k = 0;
        while (k < n && list[k]->trial != x->trial[i].trial)
            k++;
        if (k == n || is_better(falls, &x->trial[i], list[k]))
            list[k] = &x->trial[i];
        n += k == n;
    }
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && is_better(falls, list[k], list[k - 1]); k--) {
            const peft_trial *swap = list[k];
            list[k] = list[k - 1];
            list[k - 1] = swap;
        }
    *count = n;
    return list;
}

static void show_table(const struct tuning *x)
{
    const char *heads[PEFT_KNOBS + 7], *cells[PEFT_KNOBS + 7];
    const peft_trial *t = x->trial;
    const char *metric = x->run.args->metric;
    char *value_head = format(">%s", metric ? metric : "loss");
    int n = 0, rows, columns = 0;
    const peft_trial **list = ranked(x, &rows);
    heads[columns++] = ">trial";
    for (int32_t i = 0; i < t->n; i++)
        heads[columns++] = t->name[i];
    heads[columns++] = ">run";
    heads[columns++] = ">steps";
    heads[columns++] = value_head;
    heads[columns++] = ">time";
    heads[columns++] = "";
    table_head(columns, heads);
    for (int i = 0; i < rows; i++) {
        char text[5][24];
        t = list[i];
        snprintf(text[0], 24, "%d", t->trial);
        snprintf(text[1], 24, "%.0f%%", 100 * t->share);
        snprintf(text[2], 24, "%lld", (long long)t->steps);
        snprintf(text[4], 24, "%.1f s", t->seconds);
        n = 0;
        cells[n++] = text[0];
        for (int32_t k = 0; k < t->n; k++)
            cells[n++] = t->value[k];
        cells[n++] = text[1];
        cells[n++] = text[2];
        cells[n++] = show_value(t, text[3]);
        cells[n++] = text[4];
        cells[n++] = t->trial == x->result.best.trial && t->rung == x->result.best.rung ?
                     "best" : t->best_step ? t->ended : "";
        table_row(cells);
    }
    table_end(stdout);
    free(value_head);
    free(list);
}

static void write_json(const struct tuning *x)
{
    const peft_tuned *r = &x->result;
    const char *metric = x->run.args->metric;
    struct json j;
    json_begin(&j, stdout);
    json_open(&j, NULL, '{');
    json_text(&j, "metric", metric ? metric : "loss");
    json_num(&j, "before", r->first_value);
    json_num(&j, "best", r->best.value_best);
    json_int(&j, "best_trial", r->best.trial);
    json_int(&j, "trials", r->trials);
    json_int(&j, "runs", r->runs);
    json_bool(&j, "whole", r->whole);
    json_num(&j, "seconds", r->seconds);
    json_text(&j, "command", x->command);
    json_open(&j, "all", '[');
    for (int i = 0; i < x->n; i++)
        write_trial(&j, &x->trial[i]);
    json_close(&j);
    json_close(&j);
}

/* --------------------------------------------------------------------- tune */

static int tell_result(struct tuning *x)
{
    const struct args *a = x->run.args;
    const peft_tuned *r = &x->result;
    const char *metric = a->metric ? a->metric : "loss";
    if (!r->best.best_step) {
        runtime_error("no trial came to an evaluation: %s", r->whole ? "all were broken" :
                      "the budget is too small");
        return EXIT_RUNTIME;
    }
    x->command = make_command(a, &r->best);
    char *path = format("%s/tune.html", a->out);
    FILE *to = folder_create(path);
    if (to)
        tune_report(to, &x->run, r, x->trial, x->n, x->command);
    int rc = folder_close(to, path);
    if (a->json)
        write_json(x);
    else
        show_table(x);
    note("\n%s %.4f before, %.4f with trial %d; %d trials, %d runs, %s%s", metric,
         r->first_value, r->best.value_best, r->best.trial, r->trials, r->runs,
         show_seconds(r->seconds), r->whole ? "" : "; the budget ended the search");
    bool falls = peft_metric_falls(metric);
    if (falls ? r->best.value_best >= r->first_value : r->best.value_best <= r->first_value)
        note("%sno trial is better than the model before it:%s other rows, or another method",
             paint(stderr, YELLOW), paint(stderr, PLAIN));
    note("%s in %s/best, report in %s", is_adapter(x->run.method) ? "adapter" : "model", a->out,
         path);
    note("to make it again:\n  %s", x->command);
    free(path);
    return rc;
}

static int check_arguments(const struct args *a)
{
    if (!a->data)
        return usage_error("which data?  --data FILE");
    if (!a->eval)
        return usage_error("trials are compared on evaluation data: --eval FILE, or a share");
    if (!a->out)
        return usage_error("where to?  --out DIR");
    if (a->adapter || a->init || a->freeze.n || a->unfreeze.n)
        return usage_error("tune begins each trial anew: --adapter, --init, --freeze and "
                           "--unfreeze are options of peft train");
    if (a->budget && parse_time(a->budget) <= 0)
        return usage_error("--budget is \"%s\", expected a time such as 90s, 20m or 1h30m",
                           a->budget);
    return 0;
}

static int search(struct tuning *x)
{
    const struct args *a = x->run.args;
    peft_adapter_opts adapter = adapter_opts(a);
    peft_train_opts train;
    int rc = train_opts(a, &train);
    if (rc)
        return rc;
    char *cache = a->cache_file || a->cache == 0 ? NULL : format("%s/frozen.cache", a->out);
    if (cache)
        train.cache_file = cache;
    peft_tune_opts opts = {.size = sizeof opts, .search = a->search, .method = x->run.method,
                           .last = a->last, .adapter = &adapter, .train = &train,
                           .trials = a->trials, .eta = a->eta, .metric = a->metric,
                           .seconds = a->budget ? parse_time(a->budget) : 0,
                           .patience = a->patience, .eval_batch = a->batch,
                           .seed = a->search_seed, .dir = a->out, .on_trial = on_trial,
                           .progress = on_progress, .ctx = x};
    x->result.size = sizeof x->result;
    interrupt_catch(NULL);
    int32_t code = peft_tune(x->run.model, x->run.data, x->run.eval, &opts, &x->result);
    bool stopped = interrupted();
    interrupt_release();
    progress_end();
    free(cache);
    if (stopped) {
        fprintf(stderr, "interrupted after %d runs; the same command goes on\n", x->n);
        return EXIT_INTERRUPTED;
    }
    if (code == PEFT_ESTATE)
        return usage_error("%s; --overwrite begins anew", peft_errmsg());
    return code ? library_error(code, "cannot search") : tell_result(x);
}

static int make_folder(const struct args *a)
{
    int rc = make_folders(a->out);
    char *path = format("%s/trials.jsonl", a->out);
    if (!rc && a->overwrite)
        remove(path);
    free(path);
    return rc;
}

int run_tune(const struct args *args)
{
    struct tuning x = {.run = {.args = args, .checks = true}};
    int rc = check_arguments(args);
    warnings_hold();
    if (!rc)
        rc = run_open(&x.run);
    if (!rc)
        rc = before_check(&x.run);
    if (!rc)
        rc = make_folder(args);
    if (!rc) {
        note("%s%s%s  %s rows, %s for evaluation, method %s", paint(stderr, BOLD),
             x.run.info.name, paint(stderr, PLAIN), show_count(x.run.stats.rows),
             show_count(x.run.eval_stats.rows), x.run.method);
        warnings_show();
        rc = search(&x);
    }
    warnings_show();
    free(x.trial);
    free(x.command);
    run_release(&x.run);
    return rc;
}
