/* peft data augment. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* One model, or two with a comma between. */
static int open_models(const struct args *args, peft_model *models[2])
{
    peft_info info;
    char *names = format("%s", args->back_translate), *second = strchr(names, ',');
    if (second)
        *second++ = 0;
    int rc = open_model_at(args, names, &models[0], &info);
    if (!rc && second)
        rc = open_model_at(args, second, &models[1], &info);
    free(names);
    return rc;
}

static void show_json(const peft_augmented *r)
{
    struct json j;
    json_begin(&j, stdout);
    json_open(&j, NULL, '{');
    json_int(&j, "rows", r->rows);
    json_int(&j, "added", r->added);
    json_num(&j, "share", r->share);
    json_open(&j, "methods", '{');
    for (int i = 0; i < PEFT_AUGMENTS; i++)
        if (r->by_method[i])
            json_int(&j, r->method[i], r->by_method[i]);
    json_close(&j);
    json_int(&j, "guarded", r->guarded);
    json_int(&j, "dropped", r->dropped);
    json_int(&j, "unchanged", r->unchanged);
    json_int(&j, "broken", r->broken);
    json_close(&j);
}

static void show_text(const struct args *args, const peft_augmented *r)
{
    printf("%s: %s rows and %s added to them, %.1f %% of all\n", args->out, show_count(r->rows),
           show_count(r->added), 100 * r->share);
    for (int i = 0; i < PEFT_AUGMENTS; i++)
        if (r->by_method[i])
            printf("  %-18s %s\n", r->method[i], show_count(r->by_method[i]));
    if (r->guarded)
        note("%s rows are evaluation data or copies already: they got none",
             show_count(r->guarded));
    if (r->dropped)
        note("%s copies had become an evaluation row and were dropped", show_count(r->dropped));
    if (r->unchanged)
        note("%s copies would have been nothing new and were left out", show_count(r->unchanged));
    if (r->broken)
        note("%s pictures cannot be read and were left out", show_count(r->broken));
}

int run_data_augment(const struct args *args)
{
    struct source source;
    peft_model *models[2] = {NULL, NULL};
    peft_generate_opts generate;
    peft_augmented result = {.size = sizeof result};
    if (!args->out)
        return usage_error("data augment needs --out FILE");
    int rc = args->back_translate ? open_models(args, models) : 0;
    if (!rc) {
        generate_setup(args, &generate);
        peft_augment_opts opts = {
            .size = sizeof opts, .methods = args->methods, .thesaurus = args->thesaurus,
            .strength = args->strength, .share = args->share, .copies = args->copies,
            .answers = args->answers, .fixed = args->fixed_words, .eval = args->eval,
            .through = models[0], .back = models[1], .through_prompt = args->prompt,
            .back_prompt = args->back_prompt, .generate = &generate, .batch = args->batch,
            .pictures = args->augment, .seed = args->seed, .overwrite = args->overwrite};
        source_begin(args, "augmenting", &source);
        opts.source = &source.opts;
        rc = source_end(peft_data_augment(args->operand, args->out, &opts, &result),
                        "cannot augment");
    }
    peft_model_free(models[1]);
    peft_model_free(models[0]);
    if (!rc && args->json)
        show_json(&result);
    else if (!rc)
        show_text(args, &result);
    return rc;
}
