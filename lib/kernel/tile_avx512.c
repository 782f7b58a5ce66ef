/* Register tiles for AVX-512: 24 of the 32
 * registers hold sums. */
#include "base/base.h"
#ifdef __AVX512F__
#define TILE tile_avx512
#define TILE_NAME "avx512"
#define LANES 16
#define MR 8
#define NV 3
#include "kernel/tile.inc"
#endif
