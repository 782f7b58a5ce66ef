/* Philox4x32-10 and what is drawn from it.  Draw `index` of a stream is word
 * index % 4 of the block with counter (index / 4, stream) and key `seed`. */
#include "base/rng.h"

#include <math.h>

void philox4x32(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t x0 = ctr[0], x1 = ctr[1], x2 = ctr[2], x3 = ctr[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * x0, p1 = (uint64_t)0xCD9E8D57u * x2;
        x0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0;
        x1 = (uint32_t)p1;
        x2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
        x3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = x0, out[1] = x1, out[2] = x2, out[3] = x3;
}

/* Draws 4 * block .. 4 * block + 3. */
static void draw4(uint64_t seed, uint64_t stream, uint64_t block, uint32_t out[4])
{
    const uint32_t ctr[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)stream,
                             (uint32_t)(stream >> 32)};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    philox4x32(ctr, key, out);
}

static inline float to_uniform(uint32_t u)
{
    return (float)(u >> 8) * 0x1p-24f;
}

/* z[0], z[1] from two draws; the first is moved into (0, 1] for the logarithm. */
static void box_muller(const uint32_t u[2], float z[2])
{
    double r = sqrt(-2.0 * log(((double)u[0] + 1.0) * 0x1p-32));
    double angle = 6.283185307179586476925 * ((double)u[1] * 0x1p-32);
    z[0] = (float)(r * cos(angle));
    z[1] = (float)(r * sin(angle));
}

uint32_t rng_u32(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t u[4];
    draw4(seed, stream, index / 4, u);
    return u[index % 4];
}

float rng_uniform(uint64_t seed, uint64_t stream, uint64_t index)
{
    return to_uniform(rng_u32(seed, stream, index));
}

float rng_normal(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t u[4];
    float z[2];
    draw4(seed, stream, index / 4, u);
    box_muller(u + (index & 2), z);
    return z[index & 1];
}

void rng_fill_uniform(float *x, int64_t n, float lo, float hi, uint64_t seed, uint64_t stream)
{
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t u[4];
        draw4(seed, stream, (uint64_t)i / 4, u);
        for (int64_t j = 0; j < MIN(4, n - i); j++)
            x[i + j] = lo + (hi - lo) * to_uniform(u[j]);
    }
}

void rng_fill_normal(float *x, int64_t n, float std, uint64_t seed, uint64_t stream)
{
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t u[4];
        float z[4];
        draw4(seed, stream, (uint64_t)i / 4, u);
        box_muller(u, z);
        box_muller(u + 2, z + 2);
        for (int64_t j = 0; j < MIN(4, n - i); j++) x[i + j] = std * z[j];
    }
}

/* The bounded draw is a multiplication and a shift; its bias is below n / 2^32. */
void rng_shuffle(int32_t *v, int64_t n, uint64_t seed, uint64_t stream)
{
    for (int64_t i = n - 1; i > 0; i--) {
        uint64_t draw = rng_u32(seed, stream, (uint64_t)i);
        int64_t j = (int64_t)((draw * (uint64_t)(i + 1)) >> 32);
        int32_t t = v[i];
        v[i] = v[j];
        v[j] = t;
    }
}
