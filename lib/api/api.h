/* Rank 7: the only files that define peft_* functions.  They check arguments,
 * take options of any size, and put the processor into default floating-point
 * modes while the library computes. */
#ifndef API_API_H
#define API_API_H

#include "base/opts.h"
#include "train/train.h"

/* The handles are the library's own structs under their public names. */
static inline struct model *model_of(const peft_model *m) { return (struct model *)(uintptr_t)m; }
static inline struct dataset *dataset_of(const peft_dataset *d)
{
    return (struct dataset *)(uintptr_t)d;
}
static inline struct trainer *trainer_of(const peft_trainer *t)
{
    return (struct trainer *)(uintptr_t)t;
}

/* Refuses changes of what trains while a trainer is alive. */
int no_trainers(const struct model *m);

#endif
