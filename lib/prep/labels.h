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
/* Appends the row as JSON text, its label being `label`, or with NULL the one that it has, and
 * left open: further members and the brace are the caller's. */
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
/* order [n]: the least confidence, or margin, first. */
int rank_checks(struct mem *mem, const peft_label_check *found, int64_t n, bool margin,
                int64_t *order);

/* A row with labels: given[the end of the row before .. end). */
struct labelled {
    const char *json, *text;        /* the row, and its texts or its picture's path */
    int64_t json_n, line, end;
};

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
 * parts of the rows.  x [n, width] is standardised in place, once. */
struct heads {
    float *x;
    const struct bag *words;        /* more features; NULL = none */
    const int32_t *given;
    int64_t n;
    int32_t width, labels, folds, threads;
    uint64_t seed;
    double l2;                      /* 0 = found; then what it was */
    bool fixed;                     /* it was given */
    bool standard;                  /* x is standardised */
    int32_t (*progress)(void *ctx, int64_t done, int64_t total);
    void *ctx;
};
/* Columns of a row of x for so many features: one more of ones, and padding. */
int32_t heads_width(int64_t features);
int heads_cross(struct host *h, struct heads *o, float *p);
/* part [n]: rows in an order by seed are dealt to the parts, those of each label in turn. */
int deal_parts(struct mem *mem, const struct heads *o, int32_t *part);

/* The same by LoRA and a head, in tuned.c: p [n, labels] of each row by a model that was tuned
 * on the other parts.  The model keeps a head. */
struct tuned {
    peft_model *model;
    const struct labelled *rows;
    const int32_t *given, *part;    /* part [n] */
    const char *const *name;        /* [labels] */
    int64_t n, done;                /* done: of tuned_work */
    int32_t labels, folds, epochs, max_len;
    bool several;                   /* any number of labels a row: p of each */
    uint64_t seed;
    int32_t (*progress)(void *ctx, int64_t done);
    void *ctx;
};
int64_t tuned_work(int64_t rows, int32_t folds, int32_t epochs);
int tuned_cross(struct host *h, struct tuned *o, float *p);
/* p [n, labels] of two sources become the square roots of their products, of sum 1. */
void tuned_join(float *p, const float *other, int64_t n, int32_t labels);

/* Any number of labels a row, in several.c: has [n, labels] -> cell [n, labels], what heads and
 * confident learning say of each (its `likely` is 1 or 0); of a row out [n] is its worst cell,
 * with `likely` that cell's label, and flagged where any cell is. */
struct several {
    const uint8_t *has;
    const float *tuned;             /* p [n, labels] by tuned_cross, or NULL */
    peft_label_check *cell;
    int32_t labels, rare;           /* rare: labels that are not judged */
    bool margin;                    /* the worst is of the least margin, not confidence */
    double f1;                      /* of what heads say, micro */
};
int several(struct host *h, struct heads *o, struct several *s, peft_label_check *out,
            int64_t *order);

#endif
