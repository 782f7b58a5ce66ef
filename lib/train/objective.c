/* Which objective a model and a data set have. */
#include "train/train.h"

const struct objective *const objectives[] = {
    &objective_lm, &objective_seq2seq, &objective_regress, &objective_classify, NULL
};

const struct objective *objective_for(const struct model *m, const struct dataset *d)
{
    if (d->host != &m->host) {
        fail(PEFT_EARG, "the data set was made from another model");
        return NULL;
    }
    if (!d->n) {
        fail(PEFT_EARG, "the data set has no rows");
        return NULL;
    }
    for (int i = 0; objectives[i]; i++) {
        int fits = objectives[i]->task == d->task ? objectives[i]->fits(m, d) : 0;
        if (fits) return fits > 0 ? objectives[i] : NULL;
    }
    fail(PEFT_EARG, "nothing trains a model of the family %s on rows of %s", m->arch->name,
         d->schema);
    return NULL;
}

void batch_pass(struct pass *p, const struct batch *b, int64_t reach)
{
    p->n = b->n;
    p->n_seq = b->n_seq;
    p->ids = b->ids;
    p->pos = b->pos;
    p->types = b->types;
    p->start = b->start;
    p->patches = b->patches;
    p->n_source = p->m->stack[STACK_ENCODER].end ? b->n_rows : 0;
    p->reach = reach;
}
