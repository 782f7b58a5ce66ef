/* Built-in matrix product: AVX-512, 24 of 32 registers hold sums. */
#include "base/base.h"
#ifdef __AVX512F__
#define SGEMM sgemm_avx512
#define LANES 16
#define MR 12
#include "kernel/sgemm.inc"
#endif
