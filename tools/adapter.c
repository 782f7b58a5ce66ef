/* peft adapter check and adapter convert. */
#include <string.h>

#include "cli.h"

static const char *const verdicts[] = {"loads", "refuses", "misreads"};

static enum style verdict_style(int32_t verdict)
{
    return verdict == PEFT_LOADS ? GREEN : verdict == PEFT_REFUSES ? YELLOW : RED;
}

static void check_json(const struct args *args, const peft_adapter_report *r)
{
    struct json j;
    json_begin(&j, stdout);
    json_open(&j, NULL, '{');
    json_text(&j, "adapter", args->operand);
    json_text(&j, "method", r->method);
    json_int(&j, "rank", r->rank);
    json_int(&j, "tensors", r->tensors);
    json_open(&j, "readers", '[');
    for (int32_t i = 0; i < r->n_readers; i++) {
        json_open(&j, NULL, '{');
        json_text(&j, "reader", r->readers[i]);
        json_text(&j, "verdict", verdicts[r->verdicts[i]]);
        json_open(&j, "findings", '[');
        for (int32_t k = 0; k < r->n_findings; k++) {
            const peft_finding *f = &r->findings[k];
            if (f->reader != r->readers[i])
                continue;
            json_open(&j, NULL, '{');
            json_text(&j, "verdict", verdicts[f->verdict]);
            json_text(&j, "found", f->found);
            json_text(&j, "why", f->why);
            json_text(&j, "fix", f->fix);
            json_close(&j);
        }
        json_close(&j);
        json_close(&j);
    }
    json_close(&j);
    json_close(&j);
}

static void check_text(const peft_adapter_report *r)
{
    for (int32_t i = 0; i < r->n_readers; i++) {
        printf("%-10s %s%s%s\n", r->readers[i], paint(stdout, verdict_style(r->verdicts[i])),
               verdicts[r->verdicts[i]], paint(stdout, PLAIN));
        for (int32_t k = 0; k < r->n_findings; k++) {
            const peft_finding *f = &r->findings[k];
            if (f->reader != r->readers[i])
                continue;
            printf("  %-8s %s: %s", f->verdict ? verdicts[f->verdict] : "note", f->found, f->why);
            printf(*f->fix ? "; %s\n" : "\n", f->fix);
        }
    }
}

int run_adapter_check(const struct args *args)
{
    peft_adapter_report report = {.size = sizeof report};
    peft_check_opts opts = {.size = sizeof opts, .reader = args->reader};
    peft_model *base = NULL;
    peft_info info;
    int rc = args->base ? open_model_at(args, args->base, &base, &info) : 0;
    if (rc)
        return rc;
    opts.base = base;
    int32_t failed = peft_adapter_check(args->operand, &opts, &report);
    peft_model_free(base);
    if (failed == PEFT_EARG)
        return usage_error("%s", peft_errmsg());
    if (failed)
        return library_error(failed, "cannot check the adapter");
    if (args->json)
        check_json(args, &report);
    else
        check_text(&report);
    int32_t worst = PEFT_LOADS;
    for (int32_t i = 0; i < report.n_readers; i++)
        if (report.verdicts[i] > worst)
            worst = report.verdicts[i];
    return worst == PEFT_LOADS ? EXIT_OK : worst == PEFT_REFUSES ? EXIT_REFUSED : EXIT_MISREAD;
}

/* ---------------------------------------------------------------- convert */

enum { TEXTS_MAX = 64 };

/* The first lines of a file that are not empty. */
static int read_texts(const char *path, char **texts, int32_t *n)
{
    size_t size;
    char *text = read_file(path, &size);
    *n = 0;
    if (!text) {
        runtime_error("cannot read %s", path);
        return EXIT_FILE;
    }
    while (*text && *n < TEXTS_MAX) {
        size_t k = strcspn(text, "\r\n");
        if (k)
            texts[(*n)++] = text;
        text += k + (text[k] != 0);
        if (k)
            texts[*n - 1][k] = 0;
    }
    return *n ? 0 : usage_error("%s has no text", path);
}

static int convert_report(const struct args *args, const peft_converted *c)
{
    if (args->json) {
        struct json j;
        json_begin(&j, stdout);
        json_open(&j, NULL, '{');
        json_text(&j, "out", args->second);
        json_text(&j, "kind", c->kind);
        json_int(&j, "rank", c->rank);
        json_num(&j, "max_logit_diff", c->max_logit_diff);
        json_num(&j, "weight_error", c->weight_error);
        json_int(&j, "texts", c->texts);
        json_int(&j, "tokens", c->tokens);
        json_close(&j);
        return EXIT_OK;
    }
    if (c->rank)
        note("%s written: %s of rank %d", args->second, c->kind, c->rank);
    else
        note("%s written: %s", args->second, c->kind);
    if (c->weight_error > 0)
        note("by SVD: %.3g of the change of the weights is lost", c->weight_error);
    note("largest logit difference from %s: %.3g, on %d texts", args->operand, c->max_logit_diff,
         c->texts);
    return EXIT_OK;
}

static bool ends_in_gguf(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && !strcmp(path + n - 5, ".gguf");
}

int run_adapter_convert(const struct args *args)
{
    char *texts[TEXTS_MAX];
    peft_convert_opts opts = {.size = sizeof opts, .reader = args->reader, .format = args->to,
                              .dtype = args->dtype, .merge = args->merge, .rank = args->rank,
                              .limit = args->limit_diff};
    peft_converted result = {.size = sizeof result};
    peft_model *base = NULL;
    peft_info info;
    if (!args->base)
        return usage_error("of which base?  --base MODEL");
    if (!args->overwrite && is_occupied(args->second))
        return usage_error("%s is there already; --overwrite replaces it", args->second);
    if (args->to && !strcmp(args->to, "gguf") && !ends_in_gguf(args->second))
        return usage_error("--to gguf writes one file: OUT must end in .gguf");
    int rc = args->data ? read_texts(args->data, texts, &opts.n_texts) : 0;
    if (!rc)
        rc = open_model_at(args, args->base, &base, &info);
    if (rc)
        return rc;
    if (args->data)
        opts.texts = (const char *const *)texts;
    int32_t failed = peft_adapter_convert(base, args->operand, args->second, &opts, &result);
    peft_model_free(base);
    if (failed == PEFT_EARG)
        return usage_error("%s", peft_errmsg());
    return failed ? library_error(failed, "cannot convert the adapter")
                  : convert_report(args, &result);
}
