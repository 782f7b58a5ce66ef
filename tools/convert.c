/* peft convert and peft merge: a model becomes a folder or a GGUF file; with
 * merge an adapter goes into its weights first. */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"

/* A file, or a folder with something in it. */
static bool is_occupied(const char *path)
{
    struct stat s;
    if (stat(path, &s))
        return false;
    DIR *d = S_ISDIR(s.st_mode) ? opendir(path) : NULL;
    if (!d)
        return true;
    int n = 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n > 2;
}

static int32_t on_progress(void *ctx, int64_t done, int64_t total)
{
    if (stderr_is_live())
        progress(done == total, "%s: %s of %s written", (const char *)ctx, show_bytes(done),
                 show_bytes(total));
    return interrupted();
}

static int write_model(const struct args *args, peft_model *model, peft_info *info)
{
    int rc = open_adapter(args, model, info);
    if (rc)
        return rc;
    if (args->adapter) {
        rc = peft_adapter_merge(model, "default");
        if (rc)
            return library_error(rc, "cannot merge");
    }
    peft_save_opts opts = {.size = sizeof opts, .dtype = args->dtype,
                           .ctx = (void *)(uintptr_t)args->out};
    if (!args->json)
        opts.progress = on_progress;
    interrupt_catch(NULL);
    rc = peft_model_save(model, args->out, &opts);
    interrupt_release();
    progress_end();
    if (rc == PEFT_ECANCELLED)
        return EXIT_INTERRUPTED;
    if (rc == PEFT_EARG)
        return library_error(rc, "cannot write the model");
    return rc ? saving_error(rc, "cannot write the model") : 0;
}

/* What was written is opened again: the result is known to be readable, and the
 * figures are its own. */
static int report(const struct args *args)
{
    struct args again = *args;
    peft_model *model = NULL;
    peft_info info;
    again.operand = args->out;
    int rc = open_model(&again, &model, &info);
    peft_model_free(model);
    if (rc)
        return rc;
    if (args->json) {
        struct json j;
        json_begin(&j, stdout);
        json_open(&j, NULL, '{');
        json_text(&j, "out", args->out);
        json_text(&j, "format", info.format);
        json_bool(&j, "merged", args->adapter != NULL);
        json_int(&j, "params", info.params);
        json_int(&j, "tensors", info.n_tensors);
        json_text(&j, "types", info.types);
        json_int(&j, "weight_bytes", info.weight_bytes);
        json_close(&j);
    } else
        note("%s written: %s in %d tensors as %s: %s", args->out, show_bytes(info.weight_bytes),
             info.n_tensors, info.format, info.types);
    return 0;
}

int run_convert(const struct args *args)
{
    if (!args->out)
        return usage_error("where to?  --out FOLDER, or --out FILE.gguf");
    if (!args->overwrite && is_occupied(args->out))
        return usage_error("%s is there already; --overwrite replaces it", args->out);
    peft_model *model = NULL;
    peft_info info;
    int rc = open_model(args, &model, &info);
    if (!rc)
        rc = write_model(args, model, &info);
    peft_model_free(model);
    return rc ? rc : report(args);
}
