/* Rows and their labels: what labelling by hand, agreement and faults have in common. */
#ifndef PREP_LABELS_H
#define PREP_LABELS_H

#include "prep/fields.h"

/* Appends the row's texts, a line each: what people read, and what rows of several files are
 * the same by. */
int label_text(json *row, struct buf *out);
/* Appends the label as text: 1, or 0 where the row has none (none, null, or "").
 * PEFT_EDATA for what is no single label. */
int label_name(const json *row, struct buf *out);
/* Appends the row as JSON text, its label being `label`, and left open: further members
 * and the brace are the caller's. */
void label_open(struct buf *out, const json *row, const char *label);

/* Confident learning (Northcutt et al. 2021), in confident.c: p [n, labels] from models that
 * have not seen the row, labels as given -> what is found of each, and the rows in the order of
 * suspicion. */
struct judged {
    const float *p;
    const int32_t *given;
    int64_t n;
    int32_t labels;
};
int confident(struct mem *mem, const struct judged *j, const char *rank, peft_label_check *out,
              int64_t *order);

/* Hashed words, in bag.c: a text after the other, then weighed for heads of so many labels.
 * Row r has the features id[i] in 0 .. n - 1, with value[i], for end[r - 1] <= i < end[r]. */
struct bag {
    struct mem *mem;
    struct ids id, count, end, row;
    struct buf small;
    float *value;
    int32_t n;
};
void bag_init(struct bag *w, struct mem *mem);
int bag_add(struct bag *w, const char *text);
int bag_weigh(struct bag *w, int32_t labels);
void bag_free(struct bag *w);

/* Heads, in logistic.c: p [n, labels] of each row by a head that was fitted to the other
 * parts of the rows.  x [n, width] is standardised in place. */
struct heads {
    float *x;
    const struct bag *words;        /* more features; NULL = none */
    const int32_t *given;
    int64_t n;
    int32_t width, labels, folds, threads;
    uint64_t seed;
    double l2;                      /* 0 = found; then what it was */
    bool fixed;                     /* it was given */
    int32_t (*progress)(void *ctx, int64_t done, int64_t total);
    void *ctx;
};
/* Columns of a row of x for so many features: one more of ones, and padding. */
int32_t heads_width(int64_t features);
int heads_cross(struct host *h, struct heads *o, float *p);

#endif
