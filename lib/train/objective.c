/* Which objective a model and a data set have. */
#include <stdio.h>

#include "train/train.h"

const struct objective *const objectives[] = {
    &objective_lm,     &objective_regress, &objective_classify, &objective_labels,
    &objective_numbers, &objective_tokens,  &objective_span,     &objective_reward,
    &objective_masked, &objective_match,   &objective_triplet,  &objective_cosent,
    &objective_cosine, &objective_seq2seq, NULL
};

static int unknown_objective(const struct dataset *d, const char *name)
{
    char list[160] = "";
    size_t n = 0;
    for (int i = 0; objectives[i] && n < sizeof(list) - 32; i++)
        if (objectives[i]->task == d->task)
            n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "",
                                  objectives[i]->name);
    return fail(PEFT_EARG, "objective \"%.40s\", expected for rows of %s one of: %s", name,
                d->schema, list);
}

const struct objective *objective_for(const struct model *m, const struct dataset *d,
                                      const char *name)
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
        if (objectives[i]->task != d->task || (name && strcmp(name, objectives[i]->name))) continue;
        int fits = objectives[i]->fits(m, d);
        if (fits) return fits > 0 ? objectives[i] : NULL;
    }
    if (name) {
        unknown_objective(d, name);
        return NULL;
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
