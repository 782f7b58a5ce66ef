/* What a choice makes trainable, and how it is undone. */
#include <stdio.h>

#include "judge/auto.h"

static const char heads[] = "score.*,classifier.*,qa_outputs.*,pre_classifier.*,head.*";

static int is_adapter(const char *method)
{
    peft_entry e = { .size = sizeof(e) };
    for (int32_t i = 0; !peft_list("methods", i, &e); i++)
        if (!strcmp(e.name, method)) return 1;
    return 0;
}

/* The tensors of a language model's output: its own, or the embedding when both are one. */
static int unfreeze_output(peft_model *model, const peft_info *info)
{
    char name[160] = "";
    peft_param p = { .size = sizeof(p) };
    for (int32_t i = 0; i < info->n_tensors && !peft_model_param(model, i, &p); i++) {
        int own = !strcmp(p.name, "lm_head.weight");
        if (!own && (*name || p.layer >= 0 || p.rows != info->vocab)) continue;
        snprintf(name, sizeof(name), "%s", p.name);
        if (own) break;
    }
    if (!*name) return fail(PEFT_ENOTFOUND, "the model has no output layer that could train");
    int rc = peft_unfreeze(model, name);
    return rc ? kit_failed(rc) : PEFT_OK;
}

static int freeze_all(peft_model *model)
{
    int rc = peft_freeze(model, "*");
    return rc ? kit_failed(rc) : PEFT_OK;
}

static int apply_head(peft_model *model, const peft_info *info)
{
    int rc = freeze_all(model);
    if (rc || !info->labels) return rc ? rc : unfreeze_output(model, info);
    rc = peft_unfreeze(model, heads);
    return rc ? kit_failed(rc) : PEFT_OK;
}

/* The last n layers and, where there is one, the head. */
static int apply_last(peft_model *model, const peft_info *info, int32_t n)
{
    peft_param p = { .size = sizeof(p) };
    char name[256];
    int rc = info->labels ? apply_head(model, info) : freeze_all(model);
    for (int32_t i = 0; i < info->n_tensors && !rc; i++) {
        if (peft_model_param(model, i, &p) || p.layer < info->layers - n) continue;
        snprintf(name, sizeof(name), "%s", p.name);
        if ((rc = peft_unfreeze(model, name)) != 0) rc = kit_failed(rc);
    }
    return rc;
}

static int apply(peft_model *model, const peft_choice *c, const peft_adapter_opts *adapter)
{
    peft_info info;
    peft_adapter_opts o;
    int rc = info_get(model, &info);
    if (rc) return rc;
    if (!strcmp(c->method, "full")) return PEFT_OK;
    if (!strcmp(c->method, "head")) return apply_head(model, &info);
    if (!strcmp(c->method, "last")) return apply_last(model, &info, c->last);
    if (!is_adapter(c->method))
        return fail(PEFT_EARG, "method \"%s\", expected head, last, full or an adapter's",
                    c->method);
    if ((rc = take_options(&o, sizeof(o), adapter)) != 0) return rc;
    o.size = sizeof(o);
    o.method = c->method;
    o.rank = c->rank;
    rc = peft_adapter_add(model, "default", &o);
    return rc ? kit_failed(rc) : PEFT_OK;
}

int32_t peft_auto_apply(peft_model *model, const peft_choice *choice,
                        const peft_adapter_opts *adapter)
{
    KIT_ARG(model && choice, "no model or choice given");
    return kit_end(apply(model, choice, adapter));
}

int trains_note(struct chooser *a)
{
    peft_param p = { .size = sizeof(p) };
    a->n_trains = a->info.n_tensors;
    if (!(a->trains = mem_zalloc(&a->mem, a->n_trains + 1))) return PEFT_ENOMEM;
    for (int32_t i = 0; i < a->n_trains; i++) {
        int rc = peft_model_param(a->model, i, &p);
        if (rc) return kit_failed(rc);
        a->trains[i] = p.trainable != 0;
    }
    return PEFT_OK;
}

static int restore(struct chooser *a)
{
    peft_param p = { .size = sizeof(p) };
    char name[256];
    if (is_adapter(a->c.method)) peft_adapter_remove(a->model, "default");
    for (int32_t i = 0; i < a->n_trains; i++) {
        int rc = peft_model_param(a->model, i, &p);
        if (rc) return kit_failed(rc);
        if ((p.trainable != 0) == a->trains[i]) continue;
        snprintf(name, sizeof(name), "%s", p.name);
        rc = (a->trains[i] ? peft_unfreeze : peft_freeze)(a->model, name);
        if (rc) return kit_failed(rc);
    }
    return PEFT_OK;
}

/* `keep`: what trains is put back.  The reason of the first failure stays. */
static int with_trainer(struct chooser *a, peft_dataset *data, const peft_train_opts *opts,
                        int keep, int (*use)(void *ctx, peft_trainer *trainer), void *ctx)
{
    peft_trainer *t = NULL;
    char why[256];
    int rc = apply(a->model, &a->c, &a->adapter), kept = 0, back = PEFT_OK;
    if (!rc && (rc = peft_trainer_new(a->model, data, opts, &t)) != 0) rc = kit_failed(rc);
    if (!rc && keep && (rc = peft_trainer_keep(t)) != 0) rc = kit_failed(rc);
    kept = !rc && keep;
    if (!rc) rc = use(ctx, t);
    snprintf(why, sizeof(why), "%s", rc < 0 ? error_message() : "");
    if (kept && (back = peft_trainer_back(t)) != 0) back = kit_failed(back);
    peft_trainer_free(t);
    back = MIN(restore(a), back);
    return rc < 0 ? fail(rc, "%s", why) : back < 0 ? back : rc;
}

int try_run(struct chooser *a, peft_dataset *data, const peft_train_opts *opts,
            int (*use)(void *ctx, peft_trainer *trainer), void *ctx)
{
    return with_trainer(a, data, opts, 1, use, ctx);
}

static int plan_of(void *out, peft_trainer *t)
{
    int rc = peft_trainer_plan(t, out);
    return rc ? kit_failed(rc) : PEFT_OK;
}

int try_plan(struct chooser *a, const peft_train_opts *opts, peft_plan *out)
{
    *out = (peft_plan){ .size = sizeof(*out) };
    return with_trainer(a, a->data, opts, 0, plan_of, out);
}

int try_step(const struct chooser *a, peft_trainer *trainer, const char *doing, peft_step *s)
{
    const peft_auto_opts *o = &a->o;
    if (o->progress && o->progress(o->ctx, doing, s->step, s->steps))
        return fail(PEFT_ECANCELLED, "cancelled while settings were chosen");
    int rc = peft_train_step(trainer, s);
    return !rc || rc == PEFT_EEND || rc == PEFT_ENONFINITE ? rc : kit_failed(rc);
}

int try_memory(struct chooser *a, int64_t *bytes, int64_t *params)
{
    peft_plan plan;
    peft_train_opts o = a->train;
    o.size = sizeof(o);
    o.batch = a->c.batch;
    o.accumulate = 1;
    o.epochs = 2;
    o.steps = 0;
    int rc = try_plan(a, &o, &plan);
    int never = rc == PEFT_EUNSUPPORTED || rc == PEFT_ESTATE || rc == PEFT_ENOMEM;
    *bytes = never ? -1 : plan.peak + (a->eval ? plan.evaluation : 0);
    if (!never && a->o.range_steps > 0)                 /* what peft_trainer_keep takes */
        *bytes += 4 * plan.trainable_params + plan.optimizer;
    *params = plan.trainable_params;
    return never ? PEFT_OK : rc;
}
