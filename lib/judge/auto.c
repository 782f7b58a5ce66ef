/* Settings by themselves: batch, methods that fit and their ranks by rules, learning rates by
 * range tests, and the best of them by runs; each is told with its reason. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "judge/auto.h"

enum { RANGE_STEPS = 40, FEW_ROWS = 8, SMALL_MODEL = 150000000, PATIENCE = 2 };
enum { EPOCHS = 3, LEAST_UPDATES = 48 };    /* where no runs tell */

static const struct prior priors[] = {
    { "head", 5e-3f, "a head alone" },
    { "last", 3e-4f, "layers of the model itself" },
    { "full", 1e-4f, "the model itself" },
    { "lora", 1e-3f, "LoRA with alpha = 2 r and rsLoRA" },
    { "dora", 1e-3f, "DoRA" },
    { "", 0, "its own default" }
};

const struct prior *prior_of(const char *method)
{
    const struct prior *p = priors;
    while (*p->name && strcmp(p->name, method)) p++;
    return p;
}

void chose(struct chooser *a, const char *name, int given, const char *value, const char *fmt, ...)
{
    va_list args;
    if (a->c.n == PEFT_CHOSEN) return;
    peft_chosen *c = &a->c.chosen[a->c.n++];
    *c = (peft_chosen){ .name = name, .given = given };
    snprintf(c->value, sizeof(c->value), "%s", value);
    va_start(args, fmt);
    vsnprintf(c->why, sizeof(c->why), fmt, args);
    va_end(args);
    if (given) snprintf(c->why, sizeof(c->why), "given");
}

static void chose_int(struct chooser *a, const char *name, int given, int64_t v, const char *why)
{
    char value[24];
    snprintf(value, sizeof(value), "%lld", (long long)v);
    chose(a, name, given, value, "%s", why);
}

/* --- batch: as many rows as 32 updates an epoch leave, 4 to 32, of up to 4096 tokens */

enum { UPDATES = 32, BATCH_LEAST = 4, BATCH_MOST = 32, BATCH_TOKENS = 4096 };

static void choose_batch(struct chooser *a)
{
    int32_t b = BATCH_LEAST;
    while (b < BATCH_MOST && a->stats.rows / (2 * b) >= UPDATES) b *= 2;
    while (b > 1 && (int64_t)b * a->stats.p95_len > BATCH_TOKENS) b /= 2;
    a->c.batch = a->o.batch ? a->o.batch : b;
    a->c.accumulate = 1;
}

int64_t updates_of(const struct chooser *a)
{
    return MAX(div_up(a->stats.rows, (int64_t)a->c.batch * a->c.accumulate), 1);
}

static void tell_batch(struct chooser *a)
{
    char why[200];
    snprintf(why, sizeof(why), "%lld rows are %lld updates an epoch; 95 of 100 rows have at most "
             "%d tokens", (long long)a->stats.rows,
             (long long)updates_of(a), (int)a->stats.p95_len);
    chose_int(a, "batch", a->o.batch > 0, a->c.batch, why);
    if (a->c.accumulate == 1) return;
    snprintf(why, sizeof(why), "a larger batch at once does not fit into %.0f MB",
             (double)a->memory / 1e6);
    chose_int(a, "accumulate", 0, a->c.accumulate, why);
}

/* --- method: those that fit, in the order of the rules */

static int is_lora(const char *method)
{
    return !strcmp(method, "lora") || !strcmp(method, "dora");
}

void way_take(struct chooser *a, const struct way *w)
{
    snprintf(a->c.method, sizeof(a->c.method), "%s", w->name);
    a->c.rank = w->rank;
    a->c.last = w->last;
}

static int measure(struct chooser *a, struct way *w)
{
    way_take(a, w);
    return try_memory(a, &w->bytes, &w->params);
}

/* The rank of LoRA: a weight for each bit that the rows tell. */
static int choose_rank(struct chooser *a, struct way *w)
{
    double bits = a->classes ? (double)a->stats.rows * log2((double)a->classes + 1)
                             : (double)a->stats.trained_tokens;
    w->rank = 8;
    int rc = measure(a, w);
    int64_t one = MAX(w->params / 8, 1);
    while (!rc && w->rank < 64 && (double)(one * w->rank) < bits) w->rank *= 2;
    return rc;
}

/* 1 = it fits, with a smaller rank than the rows ask for where it must. */
static int try_way(struct chooser *a, const char *method)
{
    struct way *w = &a->way[a->n_ways];
    *w = (struct way){ .name = method, .prior = prior_of(method), .rank = a->o.rank };
    w->lr = w->prior->lr;
    if (!strcmp(method, "last")) w->last = a->o.last ? a->o.last : MAX(a->info.layers / 3, 1);
    w->stretch = !strcmp(method, "head") ? 4 : w->last && 2 * w->last <= a->info.layers ? 2 : 1;
    if (strlen(method) >= sizeof(a->c.method))
        return fail(PEFT_EARG, "method \"%.40s\", expected head, last, full or an adapter's",
                    method);
    int rc = is_lora(method) && !w->rank ? choose_rank(a, w) : PEFT_OK;
    for (;; w->rank /= 2) {
        if (rc || (rc = measure(a, w)) != 0) return rc;
        if (w->bytes >= 0 && w->bytes <= a->memory) break;
        if (!is_lora(method) || a->o.rank || w->rank <= 8) return 0;
    }
    a->n_ways++;
    return 1;
}

/* The rows that the smallest class has, of those that occur. */
static int smallest_class(struct chooser *a, int64_t *rows)
{
    peft_row r;
    *rows = a->stats.rows;
    if (a->stats.labels < 2) return PEFT_OK;
    int64_t *n = mem_array(&a->mem, a->stats.labels, sizeof(*n));
    int rc = n ? PEFT_OK : PEFT_ENOMEM;
    for (int64_t i = 0; i < a->stats.rows && !rc; i++)
        if (!(rc = row_get(a->data, i, &r)) && !r.labels && r.label >= 0 &&
            r.label < a->stats.labels)
            n[r.label]++;
    int64_t most = 0;
    for (int32_t k = 0; k < a->stats.labels && !rc; k++) {
        if (n[k]) *rows = MIN(*rows, n[k]);
        most = MAX(most, n[k]);
    }
    if (!most) *rows = a->stats.rows;                   /* rows with several, or with none */
    mem_free(&a->mem, n);
    return rc;
}

/* With the batch that there is.  A head alone learns fast and not far: it is for classes of few
 * rows, and for want of memory. */
static int list_ways(struct chooser *a, int64_t least)
{
    const int whole = !a->info.causal && a->info.params <= SMALL_MODEL;
    static const char *const order[] = { "full", "lora", "last", "head" };
    int rc = 0;
    if (a->o.method) {
        if ((rc = try_way(a, a->o.method)) == 0) a->n_ways = 1;     /* as it was given */
        return MIN(rc, 0);
    }
    for (int32_t k = a->few ? 3 : !whole; k < 4 && rc >= 0; k++) {
        if (k >= 2 && a->n_ways && !(a->info.labels && a->compares)) break;
        if (k == 3 && a->n_ways && least >= FEW_ROWS) break;
        rc = try_way(a, order[k]);
    }
    return MIN(rc, 0);
}

/* Where nothing fits: smaller batches, more of them a step. */
static int choose_ways(struct chooser *a)
{
    int64_t least = 0;
    int rc = smallest_class(a, &least);
    a->few = !a->compares && a->info.labels && least < FEW_ROWS;
    while (!rc) {
        rc = list_ways(a, least);
        int fit = a->n_ways && a->way[0].bytes >= 0 && a->way[0].bytes <= a->memory;
        if (rc || fit || a->o.batch || a->c.batch == 1) break;
        a->n_ways = 0;
        a->c.batch /= 2;
        a->c.accumulate *= 2;
    }
    if (!rc && !a->n_ways)
        rc = fail(PEFT_ENOMEM, "no method fits into %lld bytes of memory", (long long)a->memory);
    return rc;
}

/* --- what is told of it */

static void tell_method(struct chooser *a, const struct way *w)
{
    char names[80] = "";
    for (int32_t i = 0; i < a->n_ways; i++)
        snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? ", " : "",
                 a->way[i].name);
    if (a->few)
        chose(a, "method", 0, w->name, "the smallest class has less than %d rows, too few "
              "for more than a head, and none is there to judge by", (int)FEW_ROWS);
    else if (a->n_ways > 1 && a->compares)
        chose(a, "method", 0, w->name, "the best of %s in runs that were compared; %lld "
              "weights train, %.0f of %.0f MB", names, (long long)w->params,
              (double)w->bytes / 1e6, (double)a->memory / 1e6);
    else
        chose(a, "method", a->o.method != NULL, a->c.method, "%s, and fits: %lld weights train, "
              "%.0f of %.0f MB", !strcmp(w->name, "full") ? "an encoder so small can be "
              "trained whole" : "few weights for a model so large", (long long)w->params,
              (double)w->bytes / 1e6, (double)a->memory / 1e6);
}

static void tell_rank(struct chooser *a, const struct way *w)
{
    char why[120];
    if (!w->rank) return;
    snprintf(why, sizeof(why), "%lld weights: about one for each bit that the rows tell is enough",
             (long long)w->params);
    chose_int(a, "rank", a->o.rank > 0, w->rank, why);
}

static void tell_lr(struct chooser *a, const struct way *w, int compared)
{
    char value[40];
    snprintf(value, sizeof(value), a->c.lr > 0 ? "%.3g" : "the method's", (double)a->c.lr);
    if (!(w->fastest > 0))
        chose(a, "lr", a->o.lr > 0, value, w->n_range ? "the range test showed nothing: %s %s"
              : "no range test: %s %s", "what is usual for", w->prior->why);
    else if (!compared)
        chose(a, "lr", 0, value, "range test: the loss falls fastest until %.2g, a quarter of it, "
              "within what is usual for %s", (double)w->fastest, w->prior->why);
    else
        chose(a, "lr", 0, value, "range test: the loss falls fastest until %.2g; of %.2g, a "
              "quarter of it within what is usual, and smaller rates the best in runs",
              (double)w->fastest, (double)w->lr);
}

/* The runs of what was chosen: the validation curve. */
static void tell_epochs(struct chooser *a, const struct arm *best)
{
    char value[24], curve[120] = "";
    snprintf(value, sizeof(value), "%d", (int)a->c.epochs);
    for (int32_t i = 0; i < a->c.n_tried; i++) {
        const peft_tried *t = &a->c.tried[i];
        if (!best->way || strcmp(t->method, a->c.method) || t->lr < a->c.lr || t->lr > a->c.lr)
            continue;
        snprintf(curve + strlen(curve), sizeof(curve) - strlen(curve), "%s%.3g: %.4g",
                 *curve ? ", " : "", t->epochs, t->value);
    }
    if (*curve && !a->o.epochs && updates_of(a) <= CURVE)
        chose(a, "epochs", 0, value, "validation curve, each point a complete run (epochs: %s): %s",
              a->o.metric ? a->o.metric : a->brier ? "Brier score" : "loss", curve);
    else
        chose(a, "epochs", a->o.epochs > 0, value, "%s", !a->eval
              ? "no rows to judge by: what is usual, or 48 updates" : updates_of(a) > CURVE
              ? "so many rows need few" : "what is usual, or 48 updates");
}

static void tell_cost(struct chooser *a, const struct arm *best)
{
    char value[24];
    double one = 0, epochs = 0;
    for (int32_t i = 0; i < a->c.n_tried && best->way; i++)
        if (!strcmp(a->c.tried[i].method, a->c.method)) {
            one += a->c.tried[i].seconds;
            epochs += a->c.tried[i].epochs;
        }
    if (!(epochs > 0)) return;
    one *= a->c.epochs / epochs;
    snprintf(value, sizeof(value), "%d", (int)a->c.n_tried);
    chose(a, "runs", 0, value, "and %d range tests took %.0f s, %.1f times of what the training "
          "itself takes", (int)a->n_ways, a->c.seconds, a->c.seconds / MAX(one, 1e-3));
}

/* By what an evaluation is best, and the training ends; where whole runs told how long it is,
 * nothing ends it. */
static void choose_end(struct chooser *a, int whole)
{
    peft_dataset_stats eval = { .size = sizeof(eval) };
    if (!a->eval || a->c.refit) return;
    peft_dataset_info(a->eval, &eval);
    a->c.patience = a->o.patience ? a->o.patience : whole ? a->c.epochs : PATIENCE;
    snprintf(a->c.metric, sizeof(a->c.metric), "%s",
             a->o.metric ? a->o.metric : whole && a->brier ? "brier" : "loss");
    chose_int(a, "patience", a->o.patience > 0, a->c.patience, whole
              ? "all: the runs that told how long were complete, with a rate that falls to zero"
              : "evaluations in a row without a better one end the training");
    chose(a, "metric", a->o.metric != NULL, a->c.metric, "of %lld rows; the weights with the "
          "best one are kept", (long long)eval.rows);
}

/* --- all of them */

static int choose(struct chooser *a)
{
    struct arm best = { .way = NULL };
    double began = os_seconds(), epochs = 0;
    a->compares = a->eval && !a->o.no_runs && a->o.range_steps > 0;
    snprintf(a->c.schedule, sizeof(a->c.schedule), "linear");
    a->c.warmup = 0.06f;
    choose_batch(a);
    int rc = choose_ways(a), one = a->n_ways == 1 && a->o.lr > 0;
    if (!rc && a->o.range_steps > 0 && !(a->o.lr > 0)) rc = range_tests(a);
    one = one && (a->o.epochs || a->train.steps > 0 || updates_of(a) > CURVE);
    if (!rc && a->compares && !one) rc = race(a, a->o.lr, &best);
    if (best.way && updates_of(a) <= CURVE && isfinite(best.best)) epochs = best.best_epochs;
    if (rc) return rc;
    struct way *w = best.way ? best.way : a->way;
    way_take(a, w);
    a->c.seconds = os_seconds() - began;
    a->c.lr = a->o.lr > 0 ? a->o.lr : best.way ? best.lr : w->lr;
    a->c.refit = epochs > 0 && !a->o.epochs && !(a->train.steps > 0) && !a->o.patience &&
                 !a->o.no_refit;
    a->c.epochs = a->o.epochs ? a->o.epochs : epochs > 0 ? MAX((int32_t)lround(epochs), 1) :
                  (int32_t)MAX(EPOCHS, div_up(LEAST_UPDATES, updates_of(a)));
    a->c.n_range = w->n_range;
    memcpy(a->c.range_lr, w->range_lr, sizeof(w->range_lr));
    memcpy(a->c.range_loss, w->range_loss, sizeof(w->range_loss));
    tell_method(a, w);
    tell_rank(a, w);
    tell_batch(a);
    tell_lr(a, w, best.way != NULL);
    if (a->train.steps > 0) a->c.epochs = 0;
    else tell_epochs(a, &best);
    choose_end(a, epochs > 0 && !a->o.epochs && !(a->train.steps > 0));
    tell_cost(a, &best);
    return PEFT_OK;
}

static int begin(struct chooser *a)
{
    peft_system sys = { .size = sizeof(sys) };
    int rc = info_get(a->model, &a->info);
    if (!rc) rc = stats_get(a->data, &a->stats);
    if (rc) return rc;
    if (a->info.n_adapters)
        return fail(PEFT_ESTATE, "the model has an adapter, expected none");
    if (a->o.range_steps > PEFT_RANGE)
        return fail(PEFT_EARG, "%d steps of a range test, expected at most %d",
                    (int)a->o.range_steps, (int)PEFT_RANGE);
    if (!a->o.range_steps) a->o.range_steps = RANGE_STEPS;
    a->memory = a->o.memory;
    if (!a->memory && !peft_system_info(&sys)) a->memory = sys.memory_available / 5 * 4;
    if (!a->memory) a->memory = INT64_MAX;
    a->classes = a->info.labels > 1 ? a->info.labels : 0;
    a->brier = !strcmp(a->stats.head, "classification");
    return trains_note(a);
}

int32_t peft_auto(peft_model *model, peft_dataset *data, const peft_dataset *eval,
                  const peft_auto_opts *opts, peft_choice *choice)
{
    KIT_ARG(model && data, "no model or data set given");
    struct chooser a = { .model = model, .data = data, .eval = eval };
    int rc = take_options(&a.o, sizeof(a.o), opts);
    if (!rc) rc = take_options(&a.adapter, sizeof(a.adapter), a.o.adapter);
    if (!rc) rc = take_options(&a.train, sizeof(a.train), a.o.train);
    if (!rc) rc = check_result(choice);
    if (rc) return kit_end(rc);
    a.adapter.size = sizeof(a.adapter);
    mem_init(&a.mem, NULL, NULL);
    rc = begin(&a);
    if (!rc) rc = choose(&a);
    mem_free(&a.mem, a.trains);
    a.c.size = sizeof(a.c);
    if (!rc) give_result(choice, &a.c, sizeof(a.c));
    return kit_end(rc);
}
