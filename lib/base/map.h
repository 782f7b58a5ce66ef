/* Hash map from bytes to int64.  Keys are borrowed: the caller keeps them
 * alive.  Seeded per map, so that hostile names cannot make it linear. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

struct map {
    struct mem *mem;
    struct map_slot *slots;
    int64_t n, cap;
    uint64_t seed;
};
void map_init(struct map *m, struct mem *mem);
void map_free(struct map *m);
/* 1 = added, 0 = the key was there (its value is left alone), < 0 = failure. */
int map_add(struct map *m, const char *key, int64_t n, int64_t value);
/* The value, or `absent`. */
int64_t map_get(const struct map *m, const char *key, int64_t n, int64_t absent);
int64_t map_gets(const struct map *m, const char *key, int64_t absent);
/* A 64-bit hash of numbers, after `h` of those before them (HASH_FLOATS: there are none): FNV-1a
 * by words of 32 bits, each mixed downward. */
#define HASH_FLOATS UINT64_C(0xcbf29ce484222325)
uint64_t hash_floats(uint64_t h, const float *x, int64_t n);

#endif
