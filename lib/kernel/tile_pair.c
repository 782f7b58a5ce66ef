/* Tiles of bfloat16 for AVX512-BF16, whose one instruction multiplies and adds
 * pairs. */
#include "base/base.h"

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
#define TILE tile_pair
#define TILE_NAME "avx512bf16"
#define LANES 16
#define MR 8
#define NV 3
#define DEEP 2
#include "kernel/round_avx512.inc"

typedef uint32_t words __attribute__((vector_size(64), aligned(4), may_alias));
#define add_pairs(s, a, b) \
    ((vec)_mm512_dpbf16_ps((__m512)(s), (__m512bh)_mm512_set1_epi32((int)(a)), (__m512bh)(b)))

#include "kernel/pair_tile.inc"
#else
#include "kernel/tile.h"
const struct tile tile_pair = { 0 };
#endif
