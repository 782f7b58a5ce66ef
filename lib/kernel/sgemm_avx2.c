/* Built-in matrix product: AVX2, 12 of 16 registers hold sums. */
#include "base/base.h"
#ifdef __AVX2__
#define SGEMM sgemm_avx2
#define LANES 8
#define MR 6
#include "kernel/sgemm.inc"
#endif
