/* peft adapter check and adapter convert. */
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

int run_adapter_convert(const struct args *args)
{
    return usage_error("x %s", args->operand);
}
