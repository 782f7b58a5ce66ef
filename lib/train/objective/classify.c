/* Sequence classification (cross entropy over the head's classes) and, with a
 * single output, regression (squared error). */
#include <math.h>

#include "train/train.h"

static struct tensor *class_features(struct pass *p, const struct batch *b)
{
    (void)b;
    return model_pooled(p, model_hidden(p));
}

static struct tensor *classify(struct pass *p, const struct batch *b, struct tensor *x, float scale,
                               struct loss_stats *stats)
{
    return g_xent(p->g, model_classify(p, x), b->label, scale, stats);
}

static struct tensor *regress(struct pass *p, const struct batch *b, struct tensor *x, float scale,
                              struct loss_stats *stats)
{
    return g_mse(p->g, model_classify(p, x), b->value, scale, stats);
}

static int class_fits(const struct model *m, const struct dataset *d)
{
    if (!m->head)
        return fail(PEFT_EARG, "the data set has labels but the model has no head, expected "
                    "peft_head_add first");
    if (d->n_labels > m->hp.labels)
        return fail(PEFT_EARG, "the data set has %d classes, the model's head %d", d->n_labels,
                    (int)m->hp.labels);
    if (!d->n_labels)
        return fail(PEFT_EARG, "the data set's labels are no classes, the model's head has %d",
                    (int)m->hp.labels);
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

const struct objective objective_classify = {
    "classify", TASK_CLASS, PER_TEXT, PER_ROW, class_fits, class_features, classify
};
const struct objective objective_regress = {
    "regress", TASK_CLASS, PER_TEXT, PER_ROW, regress_fits, class_features, regress
};
