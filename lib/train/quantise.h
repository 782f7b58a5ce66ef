/* Comparing models, and choosing the types of weights by what the choice costs. */
#ifndef TRAIN_QUANTISE_H
#define TRAIN_QUANTISE_H

#include "model/quantise.h"
#include "train/train.h"

/* --- compare.c.  The reference's hidden states [rows, dim], and its head. */
struct reference { const float *hidden; int64_t dim; struct matrix head; };
struct reference reference_of(const struct model *m, const float *hidden);
/* 1 = by KL on next tokens; 0 = by the mean hidden state of each text. */
int compare_lm(const struct model *m);
/* The inference graph and rope tables for the data set's lengths. */
int compare_begin(struct model *m, const struct dataset *d);
int64_t compare_rows(const struct model *m, const struct batch *b);
struct tensor *compare_features(struct pass *p, const struct batch *b);
int compare_hidden(struct model *m, const struct batch *b, float *to);
/* What is summed: of language models kl, of others mse (of vectors of length 1). */
struct compared { struct kl_stats kl; struct loss_stats mse; };
/* scale * sum of KL(reference || model) over the batch's targets, or of 1 - cos over
 * its texts. */
struct tensor *compare_loss(struct pass *p, const struct batch *b, const struct reference *r,
                            float scale, struct compared *sum);
/* The mean of KL, or of 1 - cos. */
double compare_mean(const struct model *m, const struct compared *sum);
int compare_run(struct model *m, struct model *ref, const struct dataset *d,
                const peft_eval_opts *o, peft_comparison *out);

/* --- dynamic.c */
int quantise_run(struct model *m, const struct dataset *d, const peft_quantize_opts *o,
                 peft_quantized *out);

#endif
