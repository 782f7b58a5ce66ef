/* peft_trainer_*, peft_train_*, peft_eval. */
#include "api/api.h"

int32_t peft_trainer_new(peft_model *model, peft_dataset *data, const peft_train_opts *opts,
                         peft_trainer **out)
{
    peft_train_opts o;
    ARG(model && data, "no model or data set given");
    ARG(out, "no place for the trainer given");
    *out = NULL;
    int rc = take_options(&o, sizeof(o), opts);
    if (rc) return rc;
    struct fp_mode fp = fp_enter();
    struct trainer *t = NULL;
    rc = trainer_new(model_of(model), dataset_of(data), &o, &t);
    fp_leave(fp);
    if (!rc) *out = (peft_trainer *)t;
    return rc;
}

void peft_trainer_free(peft_trainer *trainer) { trainer_free(trainer_of(trainer)); }

int32_t peft_trainer_plan(const peft_trainer *trainer, peft_plan *out)
{
    ARG(trainer, "no trainer given");
    int rc = check_result(out);
    if (rc) return rc;
    peft_plan p = { 0 };
    struct fp_mode fp = fp_enter();
    rc = predict_run(trainer_of(trainer));
    fp_leave(fp);
    if (!rc) rc = trainer_plan(trainer_of(trainer), &p);
    if (!rc) give_result(out, &p, sizeof(p));
    return rc;
}

int32_t peft_trainer_cache(const peft_trainer *trainer, peft_cache *out)
{
    ARG(trainer, "no trainer given");
    int rc = check_result(out);
    if (rc) return rc;
    peft_cache c = { 0 };
    prefix_info(&trainer_of(trainer)->prefix, &c);
    give_result(out, &c, sizeof(c));
    return PEFT_OK;
}

static int run(peft_trainer *trainer, double deadline, peft_step *out)
{
    ARG(trainer, "no trainer given");
    peft_step s = { 0 };
    int rc = out ? check_result(out) : PEFT_OK;
    if (rc) return rc;
    struct fp_mode fp = fp_enter();
    rc = trainer_run(trainer_of(trainer), deadline, &s);
    fp_leave(fp);
    if (rc < 0) return rc;
    s.more = rc == 0;
    if (out) give_result(out, &s, sizeof(s));
    return PEFT_OK;
}

int32_t peft_train_step(peft_trainer *trainer, peft_step *out) { return run(trainer, 0, out); }

int32_t peft_train_run_for(peft_trainer *trainer, int64_t microseconds, peft_step *out)
{
    ARG(microseconds >= 0, "a budget of %lld microseconds, expected 0 or more",
        (long long)microseconds);
    return run(trainer, os_seconds() + (double)microseconds * 1e-6, out);
}

int32_t peft_trainer_cancel(peft_trainer *trainer)
{
    ARG(trainer, "no trainer given");
    atomic_store(&trainer_of(trainer)->cancel, 1);
    return PEFT_OK;
}

int32_t peft_trainer_save(const peft_trainer *trainer, const char *dir)
{
    ARG(trainer && dir && *dir, "no trainer or folder given");
    return trainer_save(trainer_of(trainer), dir);
}

int32_t peft_trainer_resume(peft_trainer *trainer, const char *dir)
{
    ARG(trainer && dir && *dir, "no trainer or folder given");
    return trainer_resume(trainer_of(trainer), dir);
}

int32_t peft_trainer_keep(peft_trainer *trainer)
{
    ARG(trainer, "no trainer given");
    return trainer_keep(trainer_of(trainer));
}

int32_t peft_trainer_back(peft_trainer *trainer)
{
    ARG(trainer, "no trainer given");
    return trainer_back(trainer_of(trainer));
}

int32_t peft_eval(peft_model *model, const peft_dataset *data, const peft_eval_opts *opts,
                  peft_evaluation *out)
{
    peft_eval_opts o;
    peft_evaluation e = { 0 };
    ARG(model && data, "no model or data set given");
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc) rc = check_result(out);
    if (rc) return rc;
    struct fp_mode fp = fp_enter();
    rc = eval_run(model_of(model), dataset_of(data), &o, &e);
    fp_leave(fp);
    if (!rc) give_result(out, &e, sizeof(e));
    return rc;
}
