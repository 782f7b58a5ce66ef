/* peft_compare, peft_quantize. */
#include "api/api.h"
#include "train/quantise.h"

int32_t peft_compare(peft_model *model, peft_model *reference, const peft_dataset *data,
                     const peft_eval_opts *opts, peft_comparison *out)
{
    peft_eval_opts o;
    peft_comparison c = { 0 };
    ARG(model && reference && data, "no model, reference or data set given");
    ARG(model != reference, "the model is its own reference");
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc) rc = check_result(out);
    if (rc) return rc;
    struct fp_mode fp = fp_enter();
    rc = compare_run(model_of(model), model_of(reference), dataset_of(data), &o, &c);
    fp_leave(fp);
    if (!rc) give_result(out, &c, sizeof(c));
    return rc;
}

int32_t peft_quantize(peft_model *model, const peft_dataset *data, const peft_quantize_opts *opts,
                      peft_quantized *out)
{
    peft_quantize_opts o;
    peft_quantized q = { 0 };
    ARG(model && data, "no model or data set given");
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc && out) rc = check_result(out);
    if (!rc) rc = no_trainers(model_of(model));
    if (rc) return rc;
    struct fp_mode fp = fp_enter();
    rc = quantise_run(model_of(model), dataset_of(data), &o, &q);
    fp_leave(fp);
    if (!rc && out) give_result(out, &q, sizeof(q));
    return rc;
}
