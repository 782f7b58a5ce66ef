/* Texts as sets of shingles, and how alike two of them are.
 *
 * The likeness of two sets is Jaccard's J = |A and B| / |A or B| (Broder, "On the resemblance
 * and containment of documents", 1997).  A sketch of 128 bins estimates it without bias: each
 * element is thrown into a random bin, round by round until every bin holds one, and a bin
 * keeps the least hash of its first round ("Fast Similarity Sketching", Dahlgaard, Knudsen and
 * Thorup 2017: one permutation hashing, Li, Owen and Zhang 2012, whose empty bins are filled
 * by further rounds and not by copies).  Of each bin 4 bits stay (Li and Konig, "b-Bit
 * Minwise Hashing", 2010): equal bins are a share 1/16 + 15/16 J. */
#ifndef PREP_MINHASH_H
#define PREP_MINHASH_H

#include "prep/prep.h"

enum { SKETCH_BINS = 128, SKETCH_WORDS = SKETCH_BINS / 16, KNOWN_CHARS = 0x600 };
struct sketch { uint64_t bins[SKETCH_WORDS]; };

/* Words of texts: runs of letters, marks and digits in small letters; of writing without
 * spaces, single characters. */
struct words {
    struct mem *mem;
    uint64_t *hash;                 /* [n] */
    int64_t n, cap, chars, tokens;  /* tokens: words and marks */
    uint64_t exact;                 /* of all but white space and case */
    bool oom;
    int32_t known[KNOWN_CHARS];     /* what a character is: see minhash.c */
};
void row_words_init(struct words *w, struct mem *mem);
void row_words_free(struct words *w);
void row_words_begin(struct words *w);
/* A text of the row; `count` false: it counts for `exact` alone. */
void row_words_add(struct words *w, const char *s, int64_t n, bool count);
/* Uses the words up.  False: there is none.  Fewer than a shingle has are one shingle. */
bool sketch_words(struct words *w, int shingle, struct sketch *out);

/* Bins that are equal, 0 to 16 of a word, 0 to 128, and the likeness that this stands for. */
static inline int equal_bins(uint64_t a, uint64_t b)
{
    uint64_t x = a ^ b;
    x |= x >> 2;
    x |= x >> 1;
    return 16 - __builtin_popcountll(x & 0x1111111111111111u);
}
static inline int sketch_equal(const struct sketch *a, const struct sketch *b)
{
    int n = 0;
    for (int i = 0; i < SKETCH_WORDS; i++) n += equal_bins(a->bins[i], b->bins[i]);
    return n;
}
static inline double sketch_alike(int equal)
{
    double j = (equal / (double)SKETCH_BINS - 1 / 16.0) * (16 / 15.0);
    return j > 0 ? j : 0;
}

#endif
