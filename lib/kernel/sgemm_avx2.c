/* Register tiles and the built-in matrix product for AVX2: 12 of the 16
 * registers hold sums. */
#include "base/base.h"
#ifdef __AVX2__
#define SGEMM sgemm_avx2
#define TILE tile_avx2
#define LANES 8
#define MR 4
#define NV 3
#include "kernel/sgemm.inc"
#endif
