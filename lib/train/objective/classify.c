/* Sequence classification (cross entropy over the head's classes) and, with a
 * single output, regression (squared error). */
#include <math.h>

#include "train/train.h"

static int64_t class_terms(const struct batch *b) { return b->n_seq; }

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

const struct objective objective_classify = {
    "classify", class_terms, class_terms, class_features, classify
};
const struct objective objective_regress = {
    "regress", class_terms, class_terms, class_features, regress
};

const struct objective *objective_for(const struct model *m, const struct dataset *d)
{
    if (d->host != &m->host) fail(PEFT_EARG, "the data set was made from another model");
    else if (!d->n) fail(PEFT_EARG, "the data set has no rows");
    else if (d->classify && !m->head)
        fail(PEFT_EARG,
             "the data set has labels but the model has no head, expected peft_head_add first");
    else if (!d->classify && m->head)
        fail(PEFT_EARG, "the model has a head with %d labels, but the data set has none",
             (int)m->hp.labels);
    else if (!d->classify && !m->arch->style.causal)
        fail(PEFT_EARG, "an encoder trains on labelled text, expected rows with text and label");
    else if (d->classify && m->hp.labels > 1 && d->n_labels > m->hp.labels)
        fail(PEFT_EARG, "the data set has %d classes, the model's head %d", d->n_labels,
             (int)m->hp.labels);
    else if (d->classify && m->hp.labels > 1 && !d->n_labels)
        fail(PEFT_EARG, "the data set's labels are no classes, the model's head has %d",
             (int)m->hp.labels);
    else if (d->classify && m->hp.labels == 1 && isnan(d->rows[0].value))
        fail(PEFT_EARG, "the data set's labels are names, the model's head gives one number");
    else if (!d->classify) return &objective_lm;
    else return m->hp.labels == 1 ? &objective_regress : &objective_classify;
    return NULL;
}

void batch_pass(struct pass *p, const struct batch *b)
{
    p->n = b->n;
    p->n_seq = b->n_seq;
    p->ids = b->ids;
    p->pos = b->pos;
    p->types = b->types;
    p->start = b->start;
}
