/* Kernels for x86-64-v3: AVX2, FMA, F16C. */
#include "kernel/level.h"

#if defined(__AVX2__) && defined(__FMA__)
#define LEVEL avx2
#include "kernel/vec.inc"
#include "kernel/state.inc"
#include "kernel/few.inc"
#include "kernel/row.inc"
#else
const struct level *const level_avx2 = NULL;
#endif
