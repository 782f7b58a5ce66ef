/* peft merge: an adapter goes into the weights; without one it converts. */
#include "cli.h"

static int merge(const struct args *args, peft_model *model, peft_info *info)
{
    int rc = open_adapter(args, model, info);
    if (rc)
        return rc;
    if (args->adapter) {
        rc = peft_adapter_merge(model, "default");
        if (rc)
            return library_error(rc, "cannot merge");
    }
    peft_save_opts opts = {.size = sizeof opts, .dtype = args->dtype};
    rc = peft_model_save(model, args->out, &opts);
    if (rc == PEFT_EARG)
        return library_error(rc, "cannot write the model");
    if (rc)
        return saving_error(rc, "cannot write the model");
    *info = (peft_info){.size = sizeof *info};
    peft_model_info(model, info);
    return 0;
}

int run_merge(const struct args *args)
{
    if (!args->out)
        return usage_error("where to?  --out FOLDER, or --out FILE.gguf");
    peft_model *model = NULL;
    peft_info info;
    int rc = open_model(args, &model, &info);
    if (!rc)
        rc = merge(args, model, &info);
    if (!rc && args->json) {
        struct json j;
        json_begin(&j, stdout);
        json_open(&j, NULL, '{');
        json_text(&j, "out", args->out);
        json_bool(&j, "merged", args->adapter != NULL);
        json_int(&j, "params", info.params);
        json_close(&j);
    } else if (!rc)
        note("%s written: %s parameters", args->out, show_count(info.params));
    peft_model_free(model);
    return rc;
}
