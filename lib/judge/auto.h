/* Settings by themselves: what a choice is made from, and its parts. */
#ifndef JUDGE_AUTO_H
#define JUDGE_AUTO_H

#include "judge/rows.h"

/* What a method is tried with and what it usually bears. */
struct prior {
    const char *name;
    float lr;                       /* usual learning rate */
    const char *why;                /* in a few words */
};
struct chooser {
    struct mem mem;
    peft_model *model;
    peft_dataset *data;
    const peft_dataset *eval;
    peft_auto_opts o;
    peft_adapter_opts adapter;
    peft_train_opts train;
    peft_info info;
    peft_dataset_stats stats;
    int64_t memory, classes;        /* classes: 0 = the rows have none */
    uint8_t *trains;                /* [tensors] which of them trained when we came */
    int32_t n_trains;
    const struct prior *prior;
    peft_choice c;
};
const struct prior *prior_of(const char *method);

/* --- apply.c: what trains */
int trains_note(struct chooser *a);
/* As it was when it was noted; the choice's adapter goes.  Returns rc, whose reason stays. */
int trains_restore(struct chooser *a, int rc);
/* The choice's method and a trainer for it, whose schedule and steps are given; undone by
 * trains_restore once the trainer is freed. */
int try_begin(struct chooser *a, peft_dataset *data, const peft_train_opts *opts,
              peft_trainer **out);
/* Memory of a training with the choice's method and batch, < 0 = it cannot be. */
int try_memory(struct chooser *a, int64_t *bytes, int64_t *params);

/* --- range.c: the range test of the learning rate, into a->c. */
int range_test(struct chooser *a);

/* The validation curve at the rate that was chosen, until it no longer falls, into a->c.
 * Returns the epoch of its least point, 0 = there is none. */
int curve(struct chooser *a);

/* A setting that was chosen or given. */
void chose(struct chooser *a, const char *name, int given, const char *value, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

#endif
