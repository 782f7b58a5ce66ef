/* Counts in bounded memory, however many rows a file has. */
#ifndef PREP_SKETCH_H
#define PREP_SKETCH_H

#include "prep/prep.h"

/* --- lengths: exact below 65536, within a sixteenth beyond */
struct lengths {
    int64_t *count;
    int64_t n, least, most, most_line;
    double sum;
};
int lengths_init(struct lengths *l, struct mem *mem);
void lengths_free(struct lengths *l, struct mem *mem);
void lengths_add(struct lengths *l, int64_t length, int64_t line);
/* The least length that at least a share q of all rows do not exceed. */
int64_t lengths_quantile(const struct lengths *l, double q);
/* Rows of lengths from a up to, without it, b. */
int64_t lengths_between(const struct lengths *l, int64_t a, int64_t b);

/* --- how often a row was there before.  Exact up to three million different ones; beyond, of
 * those whose hash ends in `level` zeros (Gibbons, "Distinct Sampling", VLDB 2001). */
struct distinct {
    struct mem *mem;
    uint64_t *hash;                     /* [cap], 0 = free */
    uint32_t *again;                    /* [cap] */
    int64_t n, cap;
    int level;
};
void distinct_init(struct distinct *d, struct mem *mem);
void distinct_free(struct distinct *d);
int distinct_add(struct distinct *d, uint64_t hash);
/* Rows that were there before; an estimate when d->level > 0. */
int64_t distinct_again(const struct distinct *d);

/* FNV-1a, to be ended by hash_end. */
enum { HASH_BEGIN = 0 };
uint64_t hash_more(uint64_t h, const void *data, int64_t n);
uint64_t hash_end(uint64_t h);

#endif
