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
/* A method as it would be trained: it fits, and what its range test said. */
struct way {
    const char *name;
    const struct prior *prior;
    int32_t rank, last;
    int32_t stretch;                /* epochs in the time of one of all layers, about */
    int64_t bytes, params;          /* memory of a training; numbers that train */
    float lr, fastest;              /* the test's; where the loss was least, 0 = nowhere */
    int32_t n_range;
    float range_lr[PEFT_RANGE], range_loss[PEFT_RANGE];
};
enum { WAYS = 4, CURVE = 64 };      /* CURVE: updates an epoch that leave time for whole runs */
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
    struct way way[WAYS];           /* those that fit, the rules' favourite first */
    int32_t n_ways;
    double before;                  /* the loss before training, where a range test saw it */
    int compares, few;              /* runs may be compared; rows are too few without */
    int brier;                      /* by what: the Brier score, or the loss */
    peft_choice c;
};
const struct prior *prior_of(const char *method);

/* --- apply.c: what trains */
int trains_note(struct chooser *a);
/* Makes a trainer of the choice's method, whose schedule and steps are given.  What `use` trains
 * with it is undone, and the model as when it was noted; `use` may return more than 0. */
int try_run(struct chooser *a, peft_dataset *data, const peft_train_opts *opts,
            int (*use)(void *ctx, peft_trainer *trainer), void *ctx);
/* What a training with these options would take; nothing is trained. */
int try_plan(struct chooser *a, const peft_train_opts *opts, peft_plan *out);
/* A step, before which progress is told; PEFT_EEND and PEFT_ENONFINITE are the caller's. */
int try_step(const struct chooser *a, peft_trainer *trainer, const char *doing, peft_step *s);
/* Memory of a training with the choice's method and batch, < 0 = it cannot be. */
int try_memory(struct chooser *a, int64_t *bytes, int64_t *params);

void way_take(struct chooser *a, const struct way *w);  /* its method becomes the choice's */
int64_t updates_of(const struct chooser *a);            /* an epoch's */

/* --- range.c: the range test of the learning rate, of each way. */
int range_tests(struct chooser *a);

/* --- race.c: runs that are compared. */
struct arm {
    struct way *way;
    float lr;
    double epochs, value, loss;     /* of its last run */
    double gain, se;                /* over the run before, and its standard error */
    double best, best_epochs;       /* the least value; the most epochs that reached it, but for */
                                    /* the noise */
    float *rows;                    /* [rows of eval] what it was judged by */
};
/* The best of ways and rates; `lr` > 0 is the only rate. */
int race(struct chooser *a, float lr, struct arm *best);

/* A setting that was chosen or given. */
void chose(struct chooser *a, const char *name, int given, const char *value, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

#endif
