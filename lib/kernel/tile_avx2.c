/* Register tiles for AVX2: 12 of the 16
 * registers hold sums. */
#include "base/base.h"
#ifdef __AVX2__
#define TILE tile_avx2
#define TILE_NAME "avx2"
#define LANES 8
#define MR 4
#define NV 3
#include "kernel/tile.inc"
#endif
