/* peft eval: the loss, the figures of the model's task, and the confusion matrix
 * of classes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static int32_t on_batch(void *ctx, int64_t done, int64_t rows)
{
    (void)ctx;
    if (stderr_is_live())
        progress(false, "evaluating %lld of %lld rows", (long long)done, (long long)rows);
    return interrupted();
}

/* How sure a classifier is of each row, and whether it is right. */
struct sure {
    double *confidence;
    int32_t *right;
    int64_t n;
};

static int32_t on_row(void *ctx, const peft_eval_row *row)
{
    struct sure *s = ctx;
    if (!(s->n & (s->n - 1))) {
        size_t cap = s->n ? 2 * (size_t)s->n : 1;
        s->confidence = grow(s->confidence, cap * sizeof *s->confidence);
        s->right = grow(s->right, cap * sizeof *s->right);
    }
    s->confidence[s->n] = (double)row->scores[row->said];
    s->right[s->n++] = row->said == row->label;
    return 0;
}

static void eval_json(const peft_model *model, const peft_evaluation *e, const int64_t *confusion,
                      int32_t labels, const double *ece)
{
    struct json j;
    json_begin(&j, stdout);
    json_open(&j, NULL, '{');
    json_text(&j, "task", e->task);
    json_int(&j, "rows", e->rows);
    json_int(&j, "tokens", e->tokens);
    json_num(&j, "loss", e->loss);
    for (int i = 0; i < e->n_metrics; i++)
        json_num(&j, e->metrics[i].name, e->metrics[i].value);
    if (ece)
        json_num(&j, "ece", *ece);
    if (labels > 1) {
        json_open(&j, "labels", '[');
        for (int32_t i = 0; i < labels; i++)
            json_text(&j, NULL, peft_label_name(model, i));
        json_close(&j);
        json_open(&j, "confusion", '[');
        for (int32_t i = 0; i < labels; i++) {
            json_open(&j, NULL, '[');
            for (int32_t k = 0; k < labels; k++)
                json_int(&j, NULL, confusion[i * labels + k]);
            json_close(&j);
        }
        json_close(&j);
    }
    json_num(&j, "seconds", e->seconds);
    json_close(&j);
}

static void confusion_table(const peft_model *model, const int64_t *confusion, int32_t labels)
{
    const char *cells[16];
    char text[16][24];
    printf("\nrows: the true class, columns: what the model said\n");
    cells[0] = "";
    for (int32_t i = 0; i < labels; i++) {
        char *head = format(">%s", peft_label_name(model, i));
        cells[i + 1] = head;
    }
    table_head(labels + 1, cells);
    for (int32_t i = 0; i < labels; i++)
        free((char *)cells[i + 1]);
    for (int32_t i = 0; i < labels; i++) {
        cells[0] = peft_label_name(model, i);
        for (int32_t k = 0; k < labels; k++) {
            snprintf(text[k], sizeof text[k], "%lld", (long long)confusion[i * labels + k]);
            cells[k + 1] = text[k];
        }
        table_row(cells);
    }
    table_end(stdout);
}

static void eval_table(const peft_model *model, const peft_evaluation *e,
                       const int64_t *confusion, int32_t labels, const double *ece)
{
    printf("rows             %s\nloss             %.4f\n", show_count(e->rows), e->loss);
    for (int i = 0; i < e->n_metrics; i++)
        printf("%-16s %.4f\n", e->metrics[i].name, e->metrics[i].value);
    if (ece)
        printf("%-16s %.4f\n", "ece", *ece);
    if (labels > 1 && labels < 16)
        confusion_table(model, confusion, labels);
    else if (labels > 1)
        printf("--json shows the confusion matrix of the %d classes\n", labels);
}

static int evaluate(const struct args *args, peft_model *model, const peft_info *info,
                    const peft_dataset *data)
{
    bool classes = !strcmp(info->head, "classification") || !strcmp(info->head, "tokens");
    int32_t labels = classes ? info->labels : 0;
    int64_t *confusion = NULL;
    struct sure sure = {0};
    bool one = !strcmp(info->head, "classification");
    if (labels > 1)
        confusion = grow(NULL, (size_t)labels * (size_t)labels * sizeof *confusion);
    peft_eval_opts opts = {.size = sizeof opts, .batch = args->batch, .confusion = confusion,
                           .progress = on_batch, .on_row = one ? on_row : NULL,
                           .ctx = &sure};
    peft_evaluation result = {.size = sizeof result};
    interrupt_catch(NULL);
    int32_t rc = peft_eval(model, data, &opts, &result);
    interrupt_release();
    if (stderr_is_live())
        fprintf(stderr, "\r\033[K");
    double error = sure.n ? peft_calibration_error(sure.confidence, sure.right, sure.n, 0) : 0;
    const double *ece = sure.n ? &error : NULL;
    if (rc)
        rc = library_error(rc, "cannot evaluate");
    else if (args->json)
        eval_json(model, &result, confusion, labels, ece);
    else
        eval_table(model, &result, confusion, labels, ece);
    free(sure.confidence);
    free(sure.right);
    free(confusion);
    return rc;
}

int run_eval(const struct args *args)
{
    if (!args->data)
        return usage_error("which data?  --data FILE");
    if (eval_compares(args))
        return run_comparison(args);
    peft_model *model = NULL;
    peft_dataset *data = NULL;
    peft_dataset_stats stats = {.size = sizeof stats};
    peft_info info;
    int rc = open_model(args, &model, &info);
    if (!rc)
        rc = open_adapter(args, model, &info);
    if (!rc)
        rc = open_data(args, model, args->data, &data);
    if (!rc)
        rc = peft_dataset_info(data, &stats);
    if (!rc && stats.labels && !info.labels) {
        rc = EXIT_FILE;
        runtime_error("the data has %d classes, but the model has no classification head; "
                      "train one, or name its --adapter", stats.labels);
    } else if (!rc)
        rc = evaluate(args, model, &info, data);
    peft_dataset_free(data);
    peft_model_free(model);
    return rc;
}
