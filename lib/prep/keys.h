/* Hashes of texts, numbered in the order in which they come: a hash table with open addressing.
 * Two texts with one hash are taken for equal, which among ten million happens in one file
 * of 300,000. */
#ifndef PREP_KEYS_H
#define PREP_KEYS_H

#include "prep/prep.h"

struct keys {
    struct mem *mem;
    uint64_t *hash;                 /* [n] */
    uint32_t *slot;                 /* [slots]: a number plus one, 0 = free */
    int64_t n, cap, slots;
};
void keys_init(struct keys *k, struct mem *m);
void keys_free(struct keys *k);
/* 1 = new, 0 = known, < 0 failure; its number in *id. */
int keys_add(struct keys *k, uint64_t hash, uint32_t *id);
bool keys_has(const struct keys *k, uint64_t hash);

/* The same everywhere and always, so that nothing random hangs on the process. */
uint64_t key_of(uint64_t seed, const char *s, int64_t n);
/* What is left of a text without case, spaces and punctuation, appended. */
void plain_text(struct buf *out, const char *s, int64_t n);
/* Of what a row asks, or says without being asked; of a row without either, of all its
 * texts.  Case, spaces and punctuation do not count.  `scratch` stays as it was. */
int text_key_of(json *row, struct buf *scratch, uint64_t *key);

#endif
