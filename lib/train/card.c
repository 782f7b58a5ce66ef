/* Notes for the model card of the adapters that a run trains. */
#include "train/train.h"

void card_step(struct trainer *t, const peft_step *s)
{
    for (struct adapter *a = t->m->adapters; a; a = a->next) {
        if (!a->enabled || a->n_merged) continue;
        if (!a->card && !(a->card = arena_alloc(&a->arena, sizeof(*a->card)))) continue;
        struct card *c = a->card;
        *c = (struct card){ .optimizer = t->optimizer->name, .schedule = t->schedule->name,
                            .rows = t->d->n, .steps = s->step, .batch = t->o.batch,
                            .accumulate = t->o.accumulate, .seed = t->o.seed, .loss = s->loss,
                            .epochs = s->epoch, .lr = t->o.lr, .decay = t->o.weight_decay };
        memcpy(c->data, t->d->file, sizeof(c->data));
        memcpy(c->hash, t->d->hash, sizeof(c->hash));
    }
}

void card_metrics(struct model *m, const peft_evaluation *e)
{
    for (struct adapter *a = m->adapters; a; a = a->next) {
        struct card *c = a->card;
        if (!a->enabled || !c) continue;
        c->eval_rows = e->rows;
        c->eval_loss = e->loss;
        c->n_metrics = MIN(e->n_metrics, (int32_t)ARRAY_LEN(c->metrics));
        for (int32_t i = 0; i < c->n_metrics; i++) c->metrics[i] = e->metrics[i];
    }
}
