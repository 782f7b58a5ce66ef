/* peft convert, merge and quantize: a model becomes a folder or a GGUF file; with
 * merge an adapter goes into its weights first, with quantize the weights get fewer
 * bits.  --calibrate tells in numbers what that changed; a merge does it by itself. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"

bool is_path(const char *path)
{
    struct stat s;
    return !stat(path, &s);
}

bool is_folder(const char *path)
{
    struct stat s;
    return !stat(path, &s) && S_ISDIR(s.st_mode);
}

bool is_occupied(const char *path)
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

/* "1.2G", "300MB": bytes; "4.8", "4.8bpw": bits a weight. */
static int parse_budget(const char *text, peft_quantize_opts *opts)
{
    char *end;
    double v = strtod(text, &end);
    bool bits = !strcmp(end, "bpw") || (!*end && v <= 64);
    if (end == text || (bits ? !(v > 0 && v <= 64) : !size_parse(text, &opts->budget) ||
                                                              !opts->budget))
        return usage_error("--budget is \"%s\", expected bytes as 300M or 1.2G, or bits a weight "
                           "as 4.8 or 4.8bpw", text);
    if (bits)
        opts->bits = v;
    return 0;
}

static int32_t on_measure(void *ctx, int64_t done, int64_t total)
{
    (void)ctx;
    if (stderr_is_live())
        progress(done == total, "measuring: %.0f %%", 100.0 * (double)done / (double)total);
    return interrupted();
}

static bool is_dynamic(const struct args *args)
{
    return args->to && !strcmp(args->to, "dynamic");
}

static bool is_gguf(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && !strcmp(path + n - 5, ".gguf");
}

/* Types by what they cost on the calibration text. */
static int quantize_dynamic(const struct args *args, peft_model *model)
{
    peft_quantize_opts opts = {.size = sizeof opts, .batch = args->batch,
                               .types = is_gguf(args->out) ? NULL : "nf4,bf16",
                               .bits = args->bits};
    peft_quantized q = {.size = sizeof q};
    peft_dataset *data = NULL;
    int rc = args->budget ? parse_budget(args->budget, &opts) : 0;
    if (!rc)
        rc = open_data(args, model, args->calibrate, &data);
    if (rc)
        return rc;
    if (!args->json)
        opts.progress = on_measure;
    interrupt_catch(NULL);
    rc = peft_quantize(model, data, &opts, &q);
    interrupt_release();
    progress_end();
    peft_dataset_free(data);
    if (rc == PEFT_ECANCELLED)
        return EXIT_INTERRUPTED;
    if (rc)
        return library_error(rc, "cannot choose types");
    note("%d matrices in %s (%s with the smallest types); %s on the text %.6f (%.6f)", q.tensors,
         show_bytes(q.bytes), show_bytes(q.least),
         q.perplexity > 0 ? "KL a token" : "1 - cosine", q.kl, q.least_kl);
    return 0;
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
    const char *dtype = args->to ? args->to : args->dtype;
    if (is_dynamic(args)) {
        rc = quantize_dynamic(args, model);
        if (rc)
            return rc;
        dtype = is_gguf(args->out) ? NULL : "held";
    }
    peft_save_opts opts = {.size = sizeof opts, .dtype = dtype,
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

static void comparison_json(struct json *j, const peft_comparison *c)
{
    json_open(j, "difference", '{');
    json_int(j, "rows", c->rows);
    json_int(j, "tokens", c->tokens);
    json_num(j, "kl", c->kl);
    json_num(j, "max_logit_diff", c->max_logit_diff);
    json_num(j, "same_token", c->same_token);
    json_num(j, "perplexity", c->perplexity);
    json_num(j, "reference_perplexity", c->reference_perplexity);
    json_num(j, "cosine", c->cosine);
    json_close(j);
}

/* A few texts for a comparison that names none, in a file of its own; NULL = no room for
 * it. */
static char *probe_file(void)
{
    static const char rows[] =
        "{\"text\": \"The quick brown fox jumps over the lazy dog, and nobody was surprised.\"}\n"
        "{\"text\": \"def area(radius):\\n    return 3.14159 * radius ** 2\\n\"}\n"
        "{\"text\": \"In 1969 two people walked on the Moon; a third one stayed in orbit.\"}\n"
        "{\"text\": \"What is the capital of France? The capital of France is Paris.\"}\n";
    const char *dir = getenv("TMPDIR");
    char *path = format("%s/peft-XXXXXX.jsonl", dir && *dir ? dir : "/tmp");
    int fd = mkstemps(path, 6);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    bool ok = f && fwrite(rows, 1, sizeof rows - 1, f) == sizeof rows - 1;
    if (f && fclose(f))
        ok = false;
    if (ok)
        return path;
    free(path);
    return NULL;
}

/* The file that was written against the model it was made from, adapter on. */
static int compare(const struct args *args, peft_model *written, peft_comparison *c)
{
    peft_model *reference = NULL;
    peft_dataset *data = NULL;
    peft_info info;
    peft_eval_opts opts = {.size = sizeof opts, .batch = args->batch ? args->batch : 1};
    int rc = open_model(args, &reference, &info);
    if (!rc)
        rc = open_adapter(args, reference, &info);
    char *probe = rc || args->calibrate ? NULL : probe_file();
    if (!rc && (args->calibrate || probe))
        rc = open_data(args, reference, probe ? probe : args->calibrate, &data);
    if (probe)
        remove(probe);
    free(probe);
    if (!rc && data) {
        rc = peft_compare(written, reference, data, &opts, c);
        if (rc)
            rc = library_error(rc, "cannot compare");
    }
    peft_dataset_free(data);
    peft_model_free(reference);
    return rc;
}

/* What was written is opened again: the result is known to be readable, and the
 * figures are its own. */
static int report(const struct args *args)
{
    struct args again = *args;
    peft_model *model = NULL;
    peft_comparison c = {.size = sizeof c};
    peft_info info;
    again.operand = args->out;
    again.quant = NULL;
    int rc = open_model(&again, &model, &info);
    bool speaks = !rc && info.has_tokenizer && !strcmp(info.head, "language-model");
    bool told = args->calibrate || (args->adapter && speaks);
    if (!rc && told)
        rc = compare(args, model, &c);
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
        if (told)
            comparison_json(&j, &c);
        json_close(&j);
        return 0;
    }
    note("%s written: %s in %d tensors as %s: %s", args->out, show_bytes(info.weight_bytes),
         info.n_tensors, info.format, info.types);
    if (told && c.tokens)
        note("against %s%s: KL %.5f a token, largest logit difference %.3f, same token %.2f %%, "
             "perplexity %.4f (was %.4f), on %lld tokens", args->operand,
             args->adapter ? " with the adapter" : "", c.kl > 0 ? c.kl : 0.0, c.max_logit_diff,
             100 * c.same_token, c.perplexity, c.reference_perplexity, (long long)c.tokens);
    else if (told && c.rows)
        note("against %s: cosine %.6f, mean of %lld texts", args->operand, c.cosine,
             (long long)c.rows);
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

int run_quantize(const struct args *args)
{
    if (!args->to)
        return usage_error("to what?  --to dynamic, nf4, fp4, q4_k, q5_k, q6_k, q8_0, ...");
    if (is_dynamic(args) && !args->calibrate)
        return usage_error("--to dynamic needs --calibrate FILE: text as the model will see");
    if ((args->budget || args->bits > 0) && !is_dynamic(args))
        return usage_error("--budget and --bits are for --to dynamic");
    if (args->budget && args->bits > 0)
        return usage_error("--budget or --bits, not both");
    peft_quantize_opts opts = {.size = sizeof opts};
    int rc = args->budget ? parse_budget(args->budget, &opts) : 0;
    if (rc)
        return rc;
    return run_convert(args);
}
