/* EVA: LoRA's A from the data. */
#ifndef TRAIN_EVA_H
#define TRAIN_EVA_H

#include "train/train.h"

int eva_init(struct model *m, struct adapter *a, const struct dataset *d, const peft_eva_opts *o);

#endif
