/* Tiles of bfloat16 for AMX. */
#include "base/base.h"

#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__AVX512BF16__)
#define LANES 16
#define MR 32
#define NV 2
#define DEEP 32
#define PLANES 1
#include "kernel/round_avx512.inc"
#include "kernel/pair.inc"

static inline void cut_pairs(word *to, int64_t apart, const float *x, int64_t n)
{
    (void)apart;
    pair_row(to, x, n);
}

static inline void cut_rows(word *to, int64_t apart, const float *a, const float *b, int64_t n)
{
    (void)apart;
    round_rows(to, a, b, n);
}

static inline int planes_of(const word *strip)
{
    (void)strip;
    return 1;
}

#include "kernel/amx.inc"

const struct tile tile_amx = { "amx", MR, NR, sizeof(word) / 2, 1, DEEP, 2, 1536, amx_pack,
                               amx_pack_turned, pair_turn, pair_put, amx_sum, NULL, amx_begin,
                               amx_end };
#else
#include "kernel/tile.h"
const struct tile tile_amx = { 0 };
#endif
