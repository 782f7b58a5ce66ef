/* What is kept of each row to find repeated ones: 24 bytes, and 68 for likeness.
 *
 * Rows that are alike are found by locality-sensitive hashing (Indyk and Motwani 1998): a
 * sketch is cut into bands of a few bins, and rows that have some band in common are compared
 * by their sketches.  A row is a near duplicate of the first row that stays and that is as
 * alike as asked for, so that what is dropped always has its like among what is kept. */
#ifndef PREP_NEAR_H
#define PREP_NEAR_H

#include "base/pool.h"
#include "prep/minhash.h"

enum { NO_ROW = UINT32_MAX, ROWS_BLOCK = 1 << 16, NO_VERDICT = 0xff };
struct row_info {
    uint64_t text;                  /* hash of all its texts */
    uint32_t label;                 /* hash; 0 = none */
    uint32_t line;
    uint32_t of;                    /* the row that it repeats, or NO_ROW */
    uint8_t verdict;                /* the rule that has caught it, or NO_VERDICT */
    uint8_t equal;                  /* bins in common with `of` */
    bool sketched, changed;
};
struct rows {
    struct mem *mem;
    struct row_info **info;         /* blocks */
    struct sketch **sketch;
    _Atomic uint32_t **near;
    int64_t n, blocks;
    bool sketches;
};
void rows_init(struct rows *r, struct mem *mem, bool sketches);
void rows_free(struct rows *r);
int rows_add(struct rows *r, const struct row_info *info, const struct sketch *s);
static inline struct row_info *rows_at(const struct rows *r, int64_t i)
{
    return &r->info[i / ROWS_BLOCK][i % ROWS_BLOCK];
}
/* For each row without a verdict the first such that is alike by `least` bins and has the
 * same label, into `of`; a row that has one gets the verdict `rule`.  Rows before `first`
 * get none.  The same for any number of threads. */
int rows_near(struct rows *r, struct host *h, int threads, double alike, int64_t first, int rule,
              int (*stop)(void *ctx), void *ctx);
/* Bins that a band should have for rows of this likeness, so that at most one in a hundred
 * is missed. */
int band_bins(double alike);

#endif
