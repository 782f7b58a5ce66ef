/* Rows that belong together: with the same value of a column, or texts that are equal or
 * nearly so, or either.  Nothing is kept in memory beyond a budget but one bit a row. */
#ifndef PREP_GROUPS_H
#define PREP_GROUPS_H

#include "prep/near.h"

struct groups {
    struct scratch *to;
    int64_t memory, n;              /* rows so far */
    bool by_column, by_text;
    struct sorter columns, texts;   /* (hash, row) */
    struct near near;
    struct spill classes;           /* of uint32_t: each row's class */
    struct spill of;                /* of uint32_t: the first row of each row's group */
    struct spill sides;             /* of uint8_t: of a group, at its first row */
    struct spill_reader next;       /* of `of` */
};
/* The caller has set by_column and by_text, and what the search for near texts asks of
 * g->near: alike, threads, stop, ctx. */
void groups_begin(struct groups *g, struct scratch *to, int64_t memory);
void groups_end(struct groups *g);
/* The next row, by the hashes of what makes it one of a group; `near` NULL = no words. */
int groups_add(struct groups *g, uint64_t column, uint64_t text, const struct near_row *near,
               uint32_t class);
/* All rows are there: which of them belong together. */
int groups_find(struct groups *g);

struct cell { uint32_t class, n; };     /* rows of one class in a group */
/* Calls `deal` for each group, the large ones first and of equal ones by random numbers of
 * `seed`: it returns the group's side, 0 to 255;
 * `left`: groups from this one on. */
int groups_deal(struct groups *g, uint64_t seed, void *ctx,
                int (*deal)(void *ctx, const struct cell *cells, int64_t n, int64_t left));
/* The side of the next row, from the first one on: 1, 0 = there is none. */
int groups_side(struct groups *g, int *side);

#endif
