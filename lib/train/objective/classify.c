/* Sequence classification (cross entropy over the head's classes), several
 * labels a text (binary cross entropy of each), and regression (squared error
 * of one number or of several). */
#include <math.h>

#include "train/train.h"

static struct tensor *class_features(struct pass *p, const struct batch *b)
{
    (void)b;
    return model_pooled(p, model_hidden(p));
}

static struct tensor *class_output(struct pass *p, const struct batch *b, struct tensor *x)
{
    (void)b;
    return model_classify(p, x);
}

static struct tensor *classify(struct pass *p, const struct batch *b, struct tensor *z, float scale,
                               struct loss_stats *stats)
{
    return g_xent(p->g, z, b->label, scale, stats);
}

static struct tensor *regress(struct pass *p, const struct batch *b, struct tensor *z, float scale,
                              struct loss_stats *stats)
{
    return g_mse(p->g, z, b->value, scale, stats);
}

static struct tensor *labels_loss(struct pass *p, const struct batch *b, struct tensor *z,
                                  float scale, struct loss_stats *stats)
{
    return g_bce(p->g, z, b->targets, scale, stats);
}

static struct tensor *numbers_loss(struct pass *p, const struct batch *b, struct tensor *z,
                                   float scale, struct loss_stats *stats)
{
    return g_mse(p->g, z, b->targets, scale, stats);
}

static int needs_head(const struct model *m, const char *rows)
{
    if (m->head && !head_kinds[m->kind].each_token) return 1;
    return fail(PEFT_EARG, "the data set has %s but the model has %s, expected peft_head_add first",
                rows, m->head ? "a head for tokens" : "no head");
}

static int class_fits(const struct model *m, const struct dataset *d)
{
    int rc = needs_head(m, "labels");
    if (rc < 0) return rc;
    if (d->n_labels > m->hp.labels)
        return fail(PEFT_EARG, "the data set has %d classes, the model's head %d", d->n_labels,
                    (int)m->hp.labels);
    if (!d->n_labels)
        return fail(PEFT_EARG, "the data set's labels are no classes, the model's head has %d",
                    (int)m->hp.labels);
    if (m->kind != HEAD_CLASS)
        return fail(PEFT_EARG, "the rows have one label each, the model's head is for \"%s\"",
                    head_kinds[m->kind].name);
    return 1;
}

static int regress_fits(const struct model *m, const struct dataset *d)
{
    if (!m->head || m->hp.labels != 1) return 0;
    if (isnan(d->rows[0].value))
        return fail(PEFT_EARG,
                    "the data set's labels are names, the model's head gives one number");
    return 1;
}

/* Rows with a list: labels, or numbers where the head says so. */
static int list_fits(const struct model *m, const struct dataset *d, enum head_id kind)
{
    int rc = needs_head(m, "lists of labels");
    if (rc < 0 || (m->kind != kind && m->kind == HEAD_REGRESS)) return MIN(rc, 0);
    if (m->kind != kind)
        return fail(PEFT_EARG, "the rows have lists of labels, the model's head is for \"%s\"",
                    head_kinds[m->kind].name);
    if (d->n_labels != m->hp.labels)
        return fail(PEFT_EARG, "the data set has %d labels, the model's head %d", d->n_labels,
                    (int)m->hp.labels);
    return 1;
}
static int labels_fits(const struct model *m, const struct dataset *d)
{
    return list_fits(m, d, HEAD_MULTI);
}
static int numbers_fits(const struct model *m, const struct dataset *d)
{
    return list_fits(m, d, HEAD_REGRESS);
}

const struct objective objective_classify = {
    "classify", TASK_CLASS, PER_TEXT, PER_ROW, class_fits, class_features, class_output, classify,
    note_classes, report_classes, row_class
};
const struct objective objective_regress = {
    "regress", TASK_CLASS, PER_TEXT, PER_ROW, regress_fits, class_features, class_output, regress,
    note_numbers, report_numbers, row_numbers
};
const struct objective objective_labels = {
    "labels", TASK_MULTI, PER_TEXT, PER_ROW, labels_fits, class_features, class_output, labels_loss,
    note_labels, report_labels, row_labels
};
const struct objective objective_numbers = {
    "numbers", TASK_MULTI, PER_TEXT, PER_ROW, numbers_fits, class_features, class_output,
    numbers_loss, note_numbers, report_numbers, row_numbers
};
