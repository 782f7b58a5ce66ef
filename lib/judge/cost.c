/* What a run takes beside memory: tokens, time, disk, money.  Files are counted as they
 * will be written: 8 bytes, a JSON header, the values. */
#include <stdio.h>

#include "judge/rows.h"

/* Of a file's header. */
enum {
    ADAPTER_NAME = 17 + 60,         /* "base_model.model.", type, braces: without numbers */
    MODEL_NAME = 60,
    STATE_NAME = 72,
    ADAPTER_REST = 290 + 640 + 1200,    /* metadata; adapter_config.json; README.md */
    STATE_REST = 320                /* trainer.json */
};

struct sizes { int64_t tensors, name_bytes, values, held; };

static int64_t digits(int64_t n) { return snprintf(NULL, 0, "%lld", (long long)n); }

/* A type as a folder holds it: float types stay, blocks become float32. */
static int64_t held_bytes(const peft_param *p)
{
    int half = !strcmp(p->type, "F16") || !strcmp(p->type, "BF16");
    return p->rows * p->cols * (half ? 2 : 4);
}

/* All tensors of the model, or those that train. */
static int sum_tensors(const peft_model *model, int32_t n, int trained, struct sizes *s)
{
    peft_param p = { .size = sizeof(p) };
    for (int32_t i = 0; i < n; i++) {
        int rc = peft_model_param(model, i, &p);
        if (rc) return kit_failed(rc);
        if (trained && !p.trainable) continue;
        s->tensors++;
        s->values += p.rows * p.cols * 4;
        s->name_bytes += (int64_t)strlen(p.name) + digits(p.rows) + digits(p.cols) +
                         digits(s->held) + digits(s->held + held_bytes(&p));
        s->held += held_bytes(&p);
    }
    return PEFT_OK;
}

int32_t peft_judge_cost(const peft_model *model, const peft_dataset *data,
                        const peft_trainer *trainer, const peft_cost_opts *opts, peft_cost *out)
{
    KIT_ARG(model && data && trainer, "no model, data set or trainer given");
    peft_cost_opts o;
    peft_info info;
    peft_dataset_stats stats;
    peft_plan plan = { .size = sizeof(plan) };
    peft_cache cache = { .size = sizeof(cache) };
    struct sizes all = { 0 }, trained = { 0 };
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc) rc = check_result(out);
    if (!rc && (o.price < 0 || o.price_hour < 0))
        rc = fail(PEFT_EARG, "a price of %g, expected 0 or more", MIN(o.price, o.price_hour));
    if (!rc) rc = info_get(model, &info);
    if (!rc) rc = stats_get(data, &stats);
    if (!rc && (rc = peft_trainer_plan(trainer, &plan)) != 0) rc = kit_failed(rc);
    if (!rc && (rc = peft_trainer_cache(trainer, &cache)) != 0) rc = kit_failed(rc);
    if (!rc) rc = sum_tensors(model, info.n_tensors, 0, &all);
    if (!rc) rc = sum_tensors(model, info.n_tensors, 1, &trained);
    if (rc) return kit_end(rc);
    double share = stats.tokens ? (double)stats.trained_tokens / (double)stats.tokens : 0;
    peft_cost c = { .size = sizeof(c), .steps = plan.steps, .tokens = plan.tokens,
                    .trained_tokens = (int64_t)(share * (double)plan.tokens + 0.5),
                    .seconds = plan.seconds, .cache_bytes = cache.bytes };
    c.checkpoint_bytes = plan.trainable + plan.optimizer + 3 * trained.name_bytes +
                         3 * STATE_NAME * trained.tensors + STATE_REST;
    if (info.n_adapters)
        c.adapter_bytes = trained.values + trained.name_bytes + ADAPTER_NAME * trained.tensors +
                          ADAPTER_REST;
    else
        c.model_bytes = all.held + all.name_bytes + MODEL_NAME * all.tensors;
    c.price = o.price * (double)c.tokens + o.price_hour * c.seconds / 3600;
    give_result(out, &c, sizeof(c));
    return kit_end(PEFT_OK);
}
