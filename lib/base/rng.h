/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011).  Counter-based: a draw is a function of (seed, stream, index), so
 * it does not depend on threads, order or interruption. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include "base.h"

void philox4x32(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4]);
/* Streams keep uses apart: RNG_INIT + adapter tensor, RNG_DROPOUT + node ... */
enum { RNG_INIT = 1, RNG_DROPOUT = 2, RNG_SHUFFLE = 3, RNG_SPLIT = 4, RNG_SAMPLE = 5,
       RNG_AUGMENT = 6, RNG_MASK = 7, RNG_BOOTSTRAP = 8, RNG_STATE = 9 };
static inline uint64_t rng_stream(uint32_t use, uint32_t which)
{
    return (uint64_t)use << 32 | which;
}
uint32_t rng_u32(uint64_t seed, uint64_t stream, uint64_t index);
float rng_uniform(uint64_t seed, uint64_t stream, uint64_t index);  /* [0,1) */
/* Element i of a stream of standard normals (Box-Muller, pairs by index). */
float rng_normal(uint64_t seed, uint64_t stream, uint64_t index);
void rng_fill_uniform(float *x, int64_t n, float lo, float hi, uint64_t seed, uint64_t stream);
void rng_fill_normal(float *x, int64_t n, float std, uint64_t seed, uint64_t stream);
/* Fisher-Yates over v[0..n). */
void rng_shuffle(int32_t *v, int64_t n, uint64_t seed, uint64_t stream);

#endif
