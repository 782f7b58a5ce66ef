/* Settings by themselves.  Each setting is one function that looks at the rows, the
 * model and what was chosen before it, and says why. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "judge/auto.h"

enum { RANGE_STEPS = 40, FEW_ROWS = 8, SMALL_MODEL = 150000000 };

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
    char why[200];
    int32_t b = BATCH_LEAST;
    if (a->o.batch) {
        a->c.batch = a->o.batch;
        return;
    }
    while (b < BATCH_MOST && a->stats.rows / (2 * b) >= UPDATES) b *= 2;
    while (b > 1 && (int64_t)b * a->stats.p95_len > BATCH_TOKENS) b /= 2;
    a->c.batch = b;
    (void)why;
}

static void tell_batch(struct chooser *a)
{
    char why[200];
    snprintf(why, sizeof(why), "%lld rows are %lld updates an epoch; 95 of 100 rows have at most "
             "%d tokens", (long long)a->stats.rows,
             (long long)((a->stats.rows + a->c.batch - 1) / a->c.batch), (int)a->stats.p95_len);
    chose_int(a, "batch", a->o.batch > 0, a->c.batch, why);
}

/* --- method: what fits, in the order of the rules */

static int fits(struct chooser *a, const char *method, int32_t last, int64_t *bytes,
                int64_t *params)
{
    snprintf(a->c.method, sizeof(a->c.method), "%s", method);
    a->c.last = last;
    a->prior = prior_of(method);
    int rc = try_memory(a, bytes, params);
    if (rc) return rc;
    return *bytes >= 0 && *bytes <= a->memory;
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

static int choose_method(struct chooser *a)
{
    static const char *const order[] = { "full", "lora", "last", "head" };
    const int whole = !a->info.causal && a->info.params <= SMALL_MODEL;
    int64_t bytes = 0, params = 0, least = 0;
    char value[40], memory[64];
    int rc = smallest_class(a, &least);
    if (rc) return rc;
    if (a->o.method) {
        rc = fits(a, a->o.method, a->o.last ? a->o.last : 2, &bytes, &params);
        if (rc < 0) return rc;
        chose(a, "method", 1, a->o.method, "given");
        return PEFT_OK;
    }
    int few = a->info.labels && least < FEW_ROWS, k = few ? 3 : !whole;
    for (rc = 0; k < 4; k++)
        if ((rc = fits(a, order[k], MAX(a->info.layers / 4, 1), &bytes, &params)) != 0) break;
    if (rc < 0) return rc;
    if (!rc) return fail(PEFT_ENOMEM, "no method fits into %lld bytes of memory",
                         (long long)a->memory);
    snprintf(value, sizeof(value), "%s", order[k]);
    snprintf(memory, sizeof(memory), "%.0f of %.0f MB", (double)bytes / 1e6,
             (double)a->memory / 1e6);
    if (few) chose(a, "method", 0, value, "the smallest class has %lld rows, too few for more "
                     "than a head", (long long)least);
    else if (!k) chose(a, "method", 0, value, "an encoder of %lld weights is small enough to be "
                       "trained whole, in %s of memory", (long long)params, memory);
    else if (k == 1) chose(a, "method", 0, value, "%lld rows, %lld weights train, %s of memory",
                           (long long)a->stats.rows, (long long)params, memory);
    else chose(a, "method", 0, value, "LoRA on all layers does not fit; this takes %s", memory);
    return PEFT_OK;
}

/* --- rank: a weight for each bit that the rows tell */

static int choose_rank(struct chooser *a)
{
    int64_t bytes = 0, params = 0, bits;
    char why[200];
    int adapter = strcmp(a->c.method, "head") && strcmp(a->c.method, "last") &&
                  strcmp(a->c.method, "full");
    int lora = !strcmp(a->c.method, "lora") || !strcmp(a->c.method, "dora");
    if (!adapter) return PEFT_OK;
    if (a->o.rank || !lora) {
        a->c.rank = a->o.rank;
        if (a->o.rank) chose_int(a, "rank", 1, a->o.rank, "given");
        return PEFT_OK;
    }
    a->c.rank = 8;
    int rc = try_memory(a, &bytes, &params);
    if (rc) return rc;
    bits = a->classes ? (int64_t)((double)a->stats.rows * log2((double)a->classes + 1))
                      : a->stats.trained_tokens;
    int64_t one = MAX(params / 8, 1);
    while (a->c.rank < 64 && one * a->c.rank < bits) a->c.rank *= 2;
    snprintf(why, sizeof(why), "%lld weights, and the rows tell about %lld bits: one a weight is "
             "enough", (long long)(one * a->c.rank), (long long)bits);
    chose_int(a, "rank", 0, a->c.rank, why);
    return PEFT_OK;
}

/* --- memory: smaller batches, more of them a step */

static int fit_batch(struct chooser *a)
{
    int64_t bytes = 0, params = 0;
    char why[120];
    a->c.accumulate = 1;
    for (;;) {
        int rc = try_memory(a, &bytes, &params);
        if (rc) return rc;
        if (a->o.batch || a->c.batch == 1 || (bytes >= 0 && bytes <= a->memory)) break;
        a->c.batch /= 2;
        a->c.accumulate *= 2;
    }
    tell_batch(a);
    if (a->c.accumulate == 1) return PEFT_OK;
    snprintf(why, sizeof(why), "a larger batch at once does not fit into %.0f MB",
             (double)a->memory / 1e6);
    chose_int(a, "accumulate", 0, a->c.accumulate, why);
    return PEFT_OK;
}

/* --- learning rate */

/* Means of five neighbours, in place. */
static void smooth(float *x, int32_t n)
{
    float y[PEFT_RANGE];
    for (int32_t i = 0; i < n; i++) {
        int32_t from = MAX(i - 2, 0), to = MIN(i + 3, n);
        y[i] = 0;
        for (int32_t k = from; k < to; k++) y[i] += x[k] / (float)(to - from);
    }
    memcpy(x, y, (size_t)n * sizeof(*x));
}

static float decade(float lr, float prior)
{
    const float half = 3.1623f;
    return MIN(MAX(lr, prior / half), prior * half);
}

static int choose_lr(struct chooser *a)
{
    char value[40];
    float usual = a->prior->lr;
    if (a->o.lr > 0) {
        a->c.lr = a->o.lr;
        snprintf(value, sizeof(value), "%.3g", (double)a->o.lr);
        chose(a, "lr", 1, value, "given");
        return PEFT_OK;
    }
    a->c.lr = usual;
    int rc = a->o.range_steps > 0 && usual > 0 ? range_test(a) : PEFT_OK;
    if (rc) return rc;
    int32_t n = a->c.n_range, low = 0;
    smooth(a->c.range_loss, n);
    for (int32_t i = 0; i < n; i++)
        if (a->c.range_loss[i] < a->c.range_loss[low]) low = i;
    if (n > 4 && a->c.range_loss[low] < 0) {
        float wish = a->c.range_lr[low] / 4;
        a->c.lr = decade(wish, usual);
        snprintf(value, sizeof(value), "%.3g", (double)a->c.lr);
        chose(a, "lr", 0, value, "range test: the loss falls fastest until %.2g, a quarter of it%s",
              (double)a->c.range_lr[low], wish != a->c.lr ? ", kept within what is usual" : "");
        return PEFT_OK;
    }
    snprintf(value, sizeof(value), usual > 0 ? "%.3g" : "the method's", (double)usual);
    chose(a, "lr", 0, value, n ? "the range test showed nothing: what is usual for %s"
                               : "no range test: what is usual for %s", a->prior->why);
    return PEFT_OK;
}

/* --- epochs: by the validation curve */

enum { UPDATES_CURVE = 500, EPOCHS = 3, PATIENCE = 2 };

static int choose_epochs(struct chooser *a)
{
    int64_t updates = MAX(a->stats.rows / ((int64_t)a->c.batch * a->c.accumulate), 1);
    char value[24];
    int best = 0;
    a->c.epochs = a->o.epochs ? a->o.epochs : EPOCHS;
    a->c.warmup = 0.06f;
    snprintf(a->c.schedule, sizeof(a->c.schedule), "linear");
    if (a->train.steps > 0) {
        a->c.epochs = 0;
        return PEFT_OK;
    }
    if (a->eval && !a->o.epochs && a->o.range_steps > 0 && updates <= UPDATES_CURVE &&
        (best = curve(a)) < 0)
        return best;
    if (best) a->c.epochs = MAX(2 * best, 2);
    snprintf(value, sizeof(value), "%d", (int)a->c.epochs);
    if (best)
        chose(a, "epochs", 0, value, "validation curve: the loss at a constant rate is least, "
              "%.4g, after epoch %d; a rate that falls to zero goes as far in twice as many",
              (double)a->c.curve_loss[best], best);
    else
        chose(a, "epochs", a->o.epochs > 0, value, "%s", !a->eval
              ? "there are no rows to evaluate on" : updates > UPDATES_CURVE
              ? "so many rows need few" : "no validation curve was asked for, or it never fell");
    return PEFT_OK;
}

static void choose_end(struct chooser *a)
{
    peft_dataset_stats eval = { .size = sizeof(eval) };
    if (!a->eval) return;
    peft_dataset_info(a->eval, &eval);
    a->c.patience = a->o.patience ? a->o.patience : PATIENCE;
    snprintf(a->c.metric, sizeof(a->c.metric), "%s", a->o.metric ? a->o.metric : "loss");
    chose_int(a, "patience", a->o.patience > 0, a->c.patience,
              "evaluations in a row without a better one end the training");
    chose(a, "metric", a->o.metric != NULL, a->c.metric, "of %lld rows; the weights with the "
          "best one are kept", (long long)eval.rows);
}

/* --- all of them */

static int choose(struct chooser *a)
{
    choose_batch(a);
    int rc = choose_method(a);
    if (!rc) rc = choose_rank(a);
    if (!rc) rc = fit_batch(a);
    if (!rc) rc = choose_lr(a);
    if (!rc) rc = choose_epochs(a);
    if (!rc) choose_end(a);
    return rc;
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
