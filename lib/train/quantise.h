/* Comparing models, and choosing the types of weights by what the choice costs. */
#ifndef TRAIN_QUANTISE_H
#define TRAIN_QUANTISE_H

#include "model/quantise.h"
#include "train/train.h"

/* --- compare.c */
int compare_run(struct model *m, struct model *ref, const struct dataset *d,
                const peft_eval_opts *o, peft_comparison *out);

/* --- dynamic.c */
int quantise_run(struct model *m, const struct dataset *d, const peft_quantize_opts *o,
                 peft_quantized *out);

#endif
