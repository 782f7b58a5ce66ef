/* Tiles of bfloat16 in plain C: what the others are tested against. */
#include "base/base.h"

#define TILE tile_pair_c
#define TILE_NAME "c"
#define LANES 4
#define MR 4
#define NV 2
#define DEEP 2
typedef uint32_t word __attribute__((aligned(4), may_alias));
typedef uint32_t words __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

/* To the nearest, ties to even; what is no number stays none. */
static inline uint32_t round_half(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if ((u & 0x7fffffff) > 0x7f800000) return u >> 16 | 0x40;
    return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

static inline void round_rows(word *to, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = round_half(a[i]) | round_half(b[i]) << 16;
}

static inline void round_pairs(word *to, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = round_half(x[2 * i]) | round_half(x[2 * i + 1]) << 16;
}

#define add_pairs(s, a, b) \
    ((s) + (vec)((words){ 0 } + ((a) << 16)) * (vec)((b) << 16) \
         + (vec)((words){ 0 } + ((a) & 0xffff0000u)) * (vec)((b) & 0xffff0000u))

#include "kernel/pair_tile.inc"
