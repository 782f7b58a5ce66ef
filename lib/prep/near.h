/* The search for rows that are alike.
 *
 * Rows that are alike are found by locality-sensitive hashing (Indyk and Motwani 1998): a
 * sketch is cut into bands of a few bins, and rows that have some band in common are compared
 * by their sketches.  A row is a near duplicate of the first row that stays and that is as
 * alike as asked for, so that what is dropped always has its like among what is kept. */
#ifndef PREP_NEAR_H
#define PREP_NEAR_H

#include "prep/minhash.h"
#include "prep/spill.h"

enum { NO_ROW = UINT32_MAX };
struct near_row { struct sketch sketch; uint64_t label; };
struct near {
    struct scratch *to;
    int64_t memory;                 /* bytes, besides one bit a row */
    struct spill rows;              /* of struct near_row */
    struct buf stays;               /* a bit for each row that is searched and stays */
    double alike;
    int threads;
    int64_t first;                  /* rows before it only are what others are alike to */
    /* Called now and then by the caller's thread, with the share of the search that is done. */
    int (*stop)(void *ctx, double share);
    void *ctx;
};
/* The caller has set the other members. */
void near_begin(struct near *n, struct scratch *to, int64_t memory);
void near_end(struct near *n);
/* NULL for a row without words, which is not searched. */
int near_add(struct near *n, const struct near_row *row);
/* Of rows that were added, and before the search. */
void near_leave_out(struct near *n, int64_t row);
/* For each row in order the first one that stays, is alike and has the same label, of rows
 * before `first` any label; NO_ROW = none, this one stays itself.  `out` is ready to be read.
 * The same for any number of threads and any memory. */
struct near_like { uint32_t of; uint32_t equal; };      /* equal: bins in common */
int near_search(struct near *n, struct spill *out);
/* Bins that a band should have for rows of this likeness, so that at most one in a hundred
 * is missed. */
int band_bins(double alike);

#endif
