/* peft classify --image: classes of pictures. */
#include <stdlib.h>

#include "cli.h"

struct guess { int32_t label; float share; };

static int by_share(const void *a, const void *b)
{
    const struct guess *x = a, *y = b;
    return x->share == y->share ? x->label - y->label : x->share < y->share ? 1 : -1;
}

/* The classes of one picture, the likeliest first. */
static int32_t guess_picture(peft_model *model, const char *file, int32_t labels, float *shares,
                             struct guess *guesses)
{
    int32_t rc = peft_classify_image(model, file, NULL, 0, shares);
    for (int32_t i = 0; i < labels && !rc; i++)
        guesses[i] = (struct guess){i, shares[i]};
    if (!rc)
        qsort(guesses, (size_t)labels, sizeof *guesses, by_share);
    return rc;
}

static void picture_json(struct json *j, const peft_model *model, const char *file,
                         const struct guess *g, int32_t top)
{
    json_open(j, NULL, '{');
    json_text(j, "image", file);
    json_text(j, "label", peft_label_name(model, g->label));
    json_open(j, "classes", '[');
    for (int32_t i = 0; i < top; i++) {
        json_open(j, NULL, '{');
        json_text(j, "label", peft_label_name(model, g[i].label));
        json_num(j, "probability", (double)g[i].share);
        json_close(j);
    }
    json_close(j);
    json_close(j);
}

int classify_pictures(const struct args *args, peft_model *model, const peft_info *info)
{
    int32_t n = info->labels, top = args->top ? args->top : 1, rc = 0;
    float *shares = grow(NULL, (size_t)(n + 1) * sizeof *shares);
    struct guess *g = grow(NULL, (size_t)(n + 1) * sizeof *g);
    struct json j;
    json_begin(&j, stdout);
    if (args->json)
        json_open(&j, NULL, '[');
    for (int32_t i = 0; i < args->image.n && !rc; i++) {
        const char *file = args->image.item[i];
        rc = guess_picture(model, file, n, shares, g);
        if (!rc && args->json)
            picture_json(&j, model, file, g, top < n ? top : n);
        for (int32_t k = 0; k < top && k < n && !rc && !args->json; k++)
            printf("%s\t%s\t%.4f\n", file, peft_label_name(model, g[k].label),
                   (double)g[k].share);
    }
    if (args->json)
        json_close(&j);
    free(shares);
    free(g);
    return rc ? library_error(rc, "cannot classify") : 0;
}
