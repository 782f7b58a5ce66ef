/* Attention of few queries, as in decoding; private to attn*.c. */
#ifndef KERNEL_ATTN_FEW_H
#define KERNEL_ATTN_FEW_H

#include "kernel/level.h"

struct attn_few {
    const struct compute *c;
    const struct level *level;
    const struct attn *a;
    const float *q, *k, *v, *bias;
    float *out, *lse;
    /* The keys are cut into so many slices, each of which leaves its sums in `slice`. */
    int64_t slices;
    float *slice;
};
enum { FEW_SCORES = 8192 };         /* floats of scratch that attn_few_row needs */
int64_t attn_few_work(const struct attn *a);         /* bytes for the sums of slices */
/* Cuts the keys where there are so few tasks that threads would be idle. */
void attn_few_slices(struct attn_few *f, int64_t tasks, void *work);
/* One slice of a row's heads [head, head + n), which share keys. */
void attn_few_row(const struct attn_few *f, int64_t row, int64_t head, int64_t n, int64_t slice,
                  float *scratch);
void attn_few_join(const struct attn_few *f);        /* after all of them, when there are several */

/* Adds ALiBi's bias, relative to the row's last key or, half, to its first, and the learned
 * one (or NULL) to the scores of keys [from, to), which lie `apart` floats apart. */
void attn_add_bias(const struct attn *a, const float *bias, int64_t row, int64_t head,
                   int64_t from, int64_t to, float *s, int64_t apart);
/* The row of the learned bias that belongs to a query and key 0. */
static inline int64_t attn_distance(const struct attn *a, int64_t row)
{
    return a->origin - a->self[row];
}
float attn_log_sum(float max, float sum);

#endif
