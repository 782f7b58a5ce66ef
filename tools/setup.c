/* From options to a trainer: the model, the data, what is trained.
 *
 * The order matters: an adapter may bring a classification head; the data's
 * classes make one where there is none; the method freezes; --freeze and
 * --unfreeze have the last word. */
#include <stdlib.h>
#include <string.h>

#include "train.h"

static const char head_tensors[] =
    "score.*,classifier.*,qa_outputs.*,pre_classifier.*,head.*";
static const char *const head_names[] = {"score.", "classifier.", "qa_outputs.", "pre_classifier.",
                                         "head."};

/* ------------------------------------------------------------ what trains */

static int add_head(struct run *run)
{
    const struct args *a = run->args;
    int32_t n = run->stats.labels;
    const char **names = grow(NULL, (size_t)n * sizeof *names);
    for (int32_t i = 0; i < n; i++)
        names[i] = peft_dataset_label(run->data, i);
    bool lora = is_adapter(run->method);
    const char *kind = a->head ? a->head : run->stats.head;
    peft_head_opts opts = {.size = sizeof opts, .labels = n, .names = n ? names : NULL,
                           .pool = a->pool, .kind = kind,
                           .dropout = lora ? 0 : (float)a->dropout, .seed = a->seed};
    int32_t rc = peft_head_add(run->model, &opts);
    free(names);
    if (!rc)
        rc = peft_model_info(run->model, &run->info);
    return rc ? library_error(rc, "cannot add a head") : 0;
}

/* The name of the output layer of a language model: its own tensor, or the
 * embedding when both are one. */
static char *output_layer(const struct run *run)
{
    char *name = NULL;
    peft_param p = {.size = sizeof p};
    for (int32_t i = 0; i < run->info.n_tensors && !peft_model_param(run->model, i, &p); i++) {
        bool own = !strcmp(p.name, "lm_head.weight");
        bool tied = !name && p.layer < 0 && p.rows == run->info.vocab;
        if (!own && !tied)
            continue;
        free(name);
        name = format("%s", p.name);
        if (own)
            break;
    }
    return name;
}

static int freeze_all_but(struct run *run, const char *glob)
{
    int32_t rc = peft_freeze(run->model, "*");
    if (!rc && glob)
        rc = peft_unfreeze(run->model, glob);
    return rc ? library_error(rc, "cannot choose what trains") : 0;
}

static int32_t on_eva(void *ctx, int64_t done, int64_t total)
{
    (void)ctx;
    if (stderr_is_live())
        progress(false, "eva: %lld of %lld inputs are known", (long long)done, (long long)total);
    return interrupted();
}

/* LoRA's start from the data; Ctrl-C ends it. */
static int start_from_data(struct run *run)
{
    peft_eva_opts opts = {.size = sizeof opts, .rho = (float)run->args->rho,
                          .batch = run->args->batch, .seed = run->args->seed,
                          .progress = on_eva};
    interrupt_catch(NULL);
    int32_t rc = peft_adapter_init_eva(run->model, "default", run->data, &opts);
    interrupt_release();
    progress_end();
    return rc ? library_error(rc, "--init eva") : 0;
}

peft_adapter_opts adapter_opts(const struct args *a)
{
    bool eva = a->init && !strcmp(a->init, "eva");
    return (peft_adapter_opts){
        .size = sizeof(peft_adapter_opts), .targets = a->targets, .rank = a->rank,
        .alpha = (float)a->alpha, .dropout = (float)a->dropout, .rslora = a->rslora,
        .seed = a->seed, .target_parameters = a->target_parameters, .method = a->method,
        .settings = a->settings, .init = eva ? NULL : a->init, .init_model = a->init_model,
        .lr_ratio = (float)a->lr_ratio, .trainable_tokens = a->trainable_tokens,
        .modules_to_save = a->modules_to_save};
}

static int method_adapter(struct run *run)
{
    const struct args *a = run->args;
    bool eva = a->init && !strcmp(a->init, "eva");
    if (a->adapter)
        return 0;
    peft_adapter_opts opts = adapter_opts(a);
    opts.method = run->method;
    if (run->choice.size && peft_freeze(run->model, "*"))    /* trials have had adapters */
        return library_error(PEFT_ESTATE, "cannot freeze the model");
    int32_t rc = peft_adapter_add(run->model, "default", &opts);
    if (rc)
        return library_error(rc, "cannot add the adapter");
    return eva ? start_from_data(run) : 0;
}

static int method_head(struct run *run)
{
    if (run->info.labels)
        return freeze_all_but(run, head_tensors);
    if (!run->info.causal)
        return usage_error("--method head needs data with labels for the encoder %s",
                           run->info.name);
    char *name = output_layer(run);
    int rc = name ? freeze_all_but(run, name) :
             runtime_error("the model has no output layer that could train");
    free(name);
    return rc;
}

static int method_full(struct run *run)
{
    (void)run;
    return 0;
}

static int method_last(struct run *run)
{
    peft_choice choice = {.size = sizeof choice, .method = "last",
                          .last = run->args->last ? run->args->last : 2};
    int32_t rc = peft_auto_apply(run->model, &choice, NULL);
    return rc ? library_error(rc, "cannot choose what trains") : 0;
}

static int method_none(struct run *run)
{
    if (!run->args->unfreeze.n)
        return usage_error("--method none trains nothing without --unfreeze GLOB");
    return freeze_all_but(run, NULL);
}

/* A head trains whole, as everywhere. */
static int method_bitfit(struct run *run)
{
    int rc = freeze_all_but(run, "*.bias");
    if (rc || !run->info.labels)
        return rc;
    rc = peft_unfreeze(run->model, head_tensors);
    return rc ? library_error(rc, "cannot choose what trains") : 0;
}

/* What is not an adapter; the library has the table of those. */
static const struct method {
    const char *name;
    int (*choose)(struct run *run);
} methods[] = {
    {"full", method_full}, {"head", method_head}, {"last", method_last},
    {"bitfit", method_bitfit}, {"none", method_none}};
enum { N_METHODS = sizeof methods / sizeof *methods, MAX_METHODS = 64 };

bool is_adapter(const char *method)
{
    peft_entry e = {.size = sizeof e};
    for (int32_t i = 0; !peft_list("methods", i, &e); i++)
        if (!strcmp(e.name, method))
            return true;
    return false;
}

static int (*find_method(const char *name))(struct run *)
{
    static peft_entry entries[MAX_METHODS];
    const char *names[N_METHODS + MAX_METHODS];
    int32_t n = 0;
    if (is_adapter(name))
        return method_adapter;
    for (; n < N_METHODS; n++) {
        names[n] = methods[n].name;
        if (!strcmp(name, names[n]))
            return methods[n].choose;
    }
    for (int32_t i = 0; i < MAX_METHODS; i++) {
        entries[i].size = sizeof *entries;
        if (peft_list("methods", i, &entries[i]))
            break;
        names[n++] = entries[i].name;
    }
    const char *hint = nearest(name, names, n);
    usage_error("--method is \"%s\", expected full, head, last, bitfit, none or an adapter of "
                "\"peft list methods\"%s%s", name, hint ? "; did you mean " : "",
                hint ? hint : "");
    return NULL;
}

/* One range of --freeze: "3", "0-11", "-2:-1". */
static int freeze_range(struct run *run, const char *text, const char **end)
{
    char *at;
    long first = strtol(text, &at, 10), last = first;
    bool good = at != text;
    if (good && (*at == '-' || *at == ':')) {
        const char *second = at + 1;
        last = strtol(second, &at, 10);
        good = at != second;
    }
    if (!good || (*at && *at != ',') || labs(first) > 1000000 || labs(last) > 1000000)
        return usage_error("--freeze is \"%s\", expected layers such as 0-11, 3 or -2:-1", text);
    *end = *at ? at + 1 : at;
    int32_t rc = peft_freeze_layers(run->model, (int32_t)first, (int32_t)last);
    return rc ? library_error(rc, "--freeze") : 0;
}

static int apply_globs(struct run *run)
{
    const struct args *a = run->args;
    for (int32_t i = 0; i < a->freeze.n; i++)
        for (const char *p = a->freeze.item[i]; *p;) {
            int rc = freeze_range(run, p, &p);
            if (rc)
                return rc;
        }
    for (int32_t i = 0; i < a->unfreeze.n; i++) {
        int32_t rc = peft_unfreeze(run->model, a->unfreeze.item[i]);
        if (rc == PEFT_ENOTFOUND)
            return usage_error("--unfreeze: %s", peft_errmsg());
        if (rc)
            return library_error(rc, "--unfreeze");
    }
    return 0;
}

static bool is_quantised(const char *type)
{
    static const char *const floats[] = {"F32", "F16", "BF16", "F64"};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        if (!strcmp(type, floats[i]))
            return false;
    return true;
}

/* Quantised tensors cannot train.  Says what turning them into floats costs,
 * and does it when --to-float is given. */
static int floats_for_training(struct run *run)
{
    int64_t bytes = 0;
    int32_t tensors = 0;
    peft_param p = {.size = sizeof p};
    for (int32_t i = 0; i < run->info.n_tensors && !peft_model_param(run->model, i, &p); i++) {
        int64_t cost = 0;
        if (!p.trainable || !is_quantised(p.type))
            continue;
        char *name = format("%s", p.name);
        int32_t rc = peft_to_float(run->model, name, !run->args->to_float, &cost);
        free(name);
        if (rc)
            return library_error(rc, "cannot turn a tensor into floats");
        bytes += cost;
        tensors++;
    }
    if (tensors && !run->args->to_float)
        return usage_error("%d quantised tensors would train, which only floats can: --to-float "
                           "turns them into float32 for %s of memory", tensors,
                           show_bytes(bytes));
    if (tensors)
        note("%d quantised tensors are float32 now: %s", tensors, show_bytes(bytes));
    return 0;
}

static bool of_head(const char *name)
{
    for (size_t i = 0; i < sizeof head_names / sizeof *head_names; i++)
        if (!strncmp(name, head_names[i], strlen(head_names[i])))
            return true;
    return false;
}

static void look_at_base(struct run *run)
{
    peft_param p = {.size = sizeof p};
    if (!is_adapter(run->method))
        return;
    for (int32_t i = 0; i < run->base_tensors && !peft_model_param(run->model, i, &p); i++)
        if (p.trainable && !of_head(p.name))
            run->base_trains = true;
}

/* ------------------------------------------------------------------- data */

/* Rows for a head that the model does not have yet.  Pairs of answers train a
 * reward model only when asked to. */
static bool wants_head(const struct run *run)
{
    const char *rows = run->stats.head;
    if (run->args->head)
        return !run->info.labels && strcmp(run->info.head, run->args->head) != 0;
    if (run->info.labels || !strcmp(rows, run->info.head) || !strcmp(rows, "reward"))
        return false;
    return strcmp(rows, "language-model") != 0;
}

static int open_training_data(struct run *run)
{
    const struct args *a = run->args;
    char *end = NULL;
    double share = a->eval ? strtod(a->eval, &end) : 0;
    bool ratio = a->eval && end != a->eval && !*end;
    if (ratio && !(share > 0 && share < 1))
        return usage_error("--eval is %s, expected a share between 0 and 1, or a file", a->eval);

    int rc = open_data(a, run->model, a->data, &run->data);
    if (!rc && ratio)
        rc = set_aside(run, share);
    run->stats.size = sizeof run->stats;
    if (!rc && (rc = peft_dataset_info(run->data, &run->stats)) != 0)
        return library_error(rc, "cannot use the data");
    if (!rc && wants_head(run))
        rc = add_head(run);
    if (!rc && a->eval && !ratio)
        rc = open_data(a, run->model, a->eval, &run->eval);
    run->eval_stats.size = sizeof run->eval_stats;
    if (!rc && run->eval)
        peft_dataset_info(run->eval, &run->eval_stats);
    return rc ? rc : forget_mix(run);
}

static int recompute_code(const char *name, int32_t *code)
{
    static const char *const names[] = {"auto", "none", "cheap", "layers"};
    for (int32_t i = 0; name && i < 4; i++)
        if (!strcmp(name, names[i])) {
            *code = i;
            return 0;
        }
    return name ? usage_error("--recompute is \"%s\", expected none, cheap or layers", name) : 0;
}

int train_opts(const struct args *a, peft_train_opts *opts)
{
    *opts = (peft_train_opts){
        .size = sizeof *opts, .optimizer = a->optimizer, .schedule = a->schedule,
        .lr = (float)a->lr, .weight_decay = (float)a->weight_decay, .no_decay = a->no_decay,
        .warmup = (float)a->warmup, .clip = a->clip > 0 ? (float)a->clip : -1,
        .batch = a->batch, .accumulate = a->accumulate, .packing = a->packing,
        .max_len = a->packing ? a->max_len : 0, .epochs = a->epochs, .steps = a->steps,
        .no_shuffle = a->no_shuffle, .seed = a->seed, .augment = a->augment,
        .objective = a->objective, .scale = (float)a->scale, .margin = (float)a->margin,
        .feature_cache = a->cache < 0 ? 0 : a->cache ? a->cache : a->cache_file ? 1 : -1,
        .cache_file = a->cache_file, .cache_file_limit = a->cache_file_limit,
        .optimizer_states = a->optim_states, .memory_limit = a->memory_limit,
        .manner = a->manner};
    return recompute_code(a->recompute, &opts->recompute);
}

static int make_trainer(struct run *run)
{
    peft_train_opts opts;
    int rc = train_opts(run->args, &opts);
    if (!rc)
        rc = forget_begin(run);
    if (rc)
        return rc;
    forget_opts(run, &opts);
    char *manner = run->args->resume && !opts.manner ? folder_manner(run) : NULL;
    opts.manner = manner ? manner : opts.manner;
    rc = peft_trainer_new(run->model, run->data, &opts, &run->trainer);
    free(manner);
    if (!rc) {
        run->plan.size = sizeof run->plan;
        rc = peft_trainer_plan(run->trainer, &run->plan);
    }
    if (!rc)
        rc = peft_model_info(run->model, &run->info);
    return rc ? library_error(rc, "cannot train") : 0;
}

static void predict(struct run *run)
{
    run->predicted_memory = run->plan.peak + (run->eval ? run->plan.evaluation : 0);
    run->predicted_seconds = run->plan.seconds;
    run->sys.size = sizeof run->sys;
    if (peft_system_info(&run->sys))
        return;
    run->threads = run->args->threads ? run->args->threads : run->sys.cores;
}

static int check_options(struct run *run)
{
    const struct args *a = run->args;
    run->method = a->method ? a->method : "lora";
    run->adapter = "default";
    if (!a->data)
        return usage_error("which data?  --data FILE");
    if (!find_method(run->method))
        return EXIT_USAGE;
    if (a->adapter && !is_adapter(run->method))
        return usage_error("--adapter goes on from an adapter: --method %s has none",
                           run->method);
    if (a->adapter && (a->rank || a->alpha > 0 || a->targets || a->target_parameters ||
                       a->rslora))
        return usage_error("--adapter brings its own rank, alpha, targets and rslora");
    if (a->epochs && a->steps)
        return usage_error("give --epochs or --steps, not both");
    return 0;
}

int run_open(struct run *run)
{
    int rc = check_options(run);
    if (!rc)
        rc = open_model(run->args, &run->model, &run->info);
    run->base_tensors = run->info.n_tensors;
    if (!rc)
        rc = open_adapter(run->args, run->model, &run->info);
    return rc ? rc : open_training_data(run);
}

int run_setup(struct run *run)
{
    int rc = run_open(run);
    if (!rc && run->checks)
        rc = before_check(run);
    if (!rc && run->checks && auto_wanted(run->args))
        rc = auto_choose(run);
    if (!rc)
        rc = find_method(run->method)(run);
    if (!rc && (rc = peft_model_info(run->model, &run->info)) != 0)
        rc = library_error(rc, "cannot look at the model");
    if (!rc)
        rc = apply_globs(run);
    if (!rc)
        rc = floats_for_training(run);
    if (!rc)
        rc = make_trainer(run);
    if (!rc) {
        look_at_base(run);
        predict(run);
    }
    return rc;
}

void run_release(struct run *run)
{
    for (int i = 0; i < run->settings.n; i++)
        free(run->settings.item[i].value);
    for (int i = 0; i < run->n_samples; i++) {
        free(run->sample[i].prompt);
        free(run->sample[i].before);
        free(run->sample[i].after);
    }
    free(run->sample);
    free(run->aside);
    history_free(&run->history);
    if (run->metrics)
        fclose(run->metrics);
    peft_watch_free(run->watch);
    peft_trainer_free(run->trainer);
    peft_dataset_free(run->probe);
    peft_dataset_free(run->eval);
    peft_dataset_free(run->data);
    peft_dataset_free(run->whole);
    peft_model_free(run->model);
}

/* --------------------------------------------------------------- settings */

static void add_setting(struct settings *s, const char *key, char *value, bool loose)
{
    s->item[s->n++] = (struct setting){key, value, loose};
}

static char *quoted(const char *text)
{
    char *s = NULL;
    size_t n;
    if (!text)
        return format("null");
    FILE *f = open_memstream(&s, &n);
    struct json j;
    if (!f)
        return format("null");
    json_begin(&j, f);
    json_text(&j, NULL, text);
    fclose(f);
    return s;
}

static char *joined(const struct list *list)
{
    char *all = format("%s", "");
    for (int32_t i = 0; i < list->n; i++) {
        char *more = format("%s%s%s", all, i ? "," : "", list->item[i]);
        free(all);
        all = more;
    }
    char *s = quoted(list->n ? all : NULL);
    free(all);
    return s;
}

static char *number_or_auto(double v)
{
    return v > 0 ? stored_number(v) : quoted("auto");
}

static void method_settings(struct settings *s, const struct run *run)
{
    const struct args *a = run->args;
    bool lora = !strcmp(run->method, "lora") || !strcmp(run->method, "dora");
    int32_t rank = a->rank ? a->rank : 16;
    add_setting(s, "method", quoted(run->method), false);
    add_setting(s, "freeze", joined(&a->freeze), false);
    add_setting(s, "unfreeze", joined(&a->unfreeze), false);
    if (is_adapter(run->method) && a->adapter)
        add_setting(s, "from_adapter", quoted(a->adapter), true);
    else if (is_adapter(run->method) && !lora) {
        add_setting(s, "rank", a->rank ? stored_number(a->rank) : quoted("auto"), false);
        add_setting(s, "settings", quoted(a->settings), false);
    } else if (lora) {
        add_setting(s, "rank", stored_number(rank), false);
        add_setting(s, "alpha", stored_number(a->alpha > 0 ? a->alpha : 2 * rank), false);
        add_setting(s, "rslora", format("%s", a->rslora < 0 ? "false" : "true"), false);
        add_setting(s, "targets", quoted(a->targets ? a->targets : "all linear layers"), false);
        add_setting(s, "init", quoted(a->init), false);
        add_setting(s, "rho", number_or_auto(a->rho), false);
        add_setting(s, "trainable_tokens", quoted(a->trainable_tokens), false);
        add_setting(s, "modules_to_save", quoted(a->modules_to_save), false);
        add_setting(s, "settings", quoted(a->settings), false);
    }
    add_setting(s, "dropout", stored_number(a->dropout), false);
    add_setting(s, "trainable_params", stored_number((double)run->plan.trainable_params), false);
}

/* What was chosen and not given: {"lr": "why"}. */
static char *chosen_names(const peft_choice *c)
{
    char *all = format("{");
    for (int32_t i = 0; i < c->n; i++) {
        char *why = quoted(c->chosen[i].why);
        char *more = format("%s%s\"%s\": %s", all, i ? ", " : "", c->chosen[i].name, why);
        free(why);
        free(all);
        all = more;
    }
    char *whole = format("%s}", all);
    free(all);
    return whole;
}

void settings_make(struct run *run)
{
    struct settings *s = &run->settings;
    const struct args *a = run->args;
    add_setting(s, "model", quoted(a->operand), true);
    add_setting(s, "data", quoted(a->data), true);
    add_setting(s, "eval", quoted(a->eval), true);
    add_setting(s, "rows", stored_number((double)run->stats.rows), false);
    add_setting(s, "tokens", stored_number((double)run->stats.tokens), false);
    add_setting(s, "system", quoted(a->system), false);
    add_setting(s, "prefix", quoted(a->prefix), false);
    add_setting(s, "train_on_prompt", format("%s", a->train_on_prompt ? "true" : "false"), false);
    method_settings(s, run);
    add_setting(s, "optimizer", quoted(a->optimizer ? a->optimizer : "adamw"), false);
    add_setting(s, "optim_states", quoted(a->optim_states ? a->optim_states : "f32"), false);
    add_setting(s, "learning_rate", number_or_auto(a->lr), false);
    add_setting(s, "schedule", quoted(a->schedule ? a->schedule : "cosine"), false);
    add_setting(s, "warmup", stored_number(a->warmup), false);
    add_setting(s, "weight_decay", stored_number(a->weight_decay), false);
    add_setting(s, "no_decay", quoted(a->no_decay), false);
    add_setting(s, "clip", stored_number(a->clip), false);
    add_setting(s, "batch", stored_number(a->batch ? a->batch : 4), false);
    add_setting(s, "accumulate", stored_number(a->accumulate ? a->accumulate : 1), false);
    add_setting(s, "max_len", number_or_auto(a->max_len), false);
    add_setting(s, "packing", format("%s", a->packing ? "true" : "false"), false);
    add_setting(s, "augment", quoted(a->augment), false);
    add_setting(s, "objective", quoted(a->objective), false);
    add_setting(s, "shuffle", format("%s", a->no_shuffle ? "false" : "true"), false);
    add_setting(s, "replay", quoted(a->replay), true);
    add_setting(s, "replayed", stored_number((double)run->replayed), false);
    add_setting(s, "probe", quoted(a->probe), true);
    add_setting(s, "drift_bound", stored_number(a->drift_bound), false);
    add_setting(s, "anchor_weight", stored_number(a->anchor_weight), false);
    add_setting(s, "steps", stored_number((double)run->plan.steps), false);
    if (run->choice.size)
        add_setting(s, "auto", chosen_names(&run->choice), true);
    add_setting(s, "seed", format("%llu", (unsigned long long)a->seed), false);
    if (run->eval) {
        add_setting(s, "keep", quoted(a->keep ? a->keep : "best"), true);
        add_setting(s, "metric", quoted(a->metric ? a->metric : "loss"), true);
        add_setting(s, "patience", stored_number(a->patience), true);
    }
    add_setting(s, "recompute", quoted(a->recompute ? a->recompute : "cheap"), true);
    if (a->cache >= 0)
        add_setting(s, "cache", stored_number((double)a->cache), true);
    if (a->cache_file)
        add_setting(s, "cache_file", quoted(a->cache_file), true);
    add_setting(s, "memory_limit", stored_number((double)a->memory_limit), true);
    if (a->memory_limit)
        add_setting(s, "memory_manner", quoted(run->plan.manner), true);
    add_setting(s, "threads", stored_number(run->threads), true);
    add_setting(s, "version", stored_number(peft_version()), true);
}
