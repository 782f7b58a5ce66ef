/* Kernels for x86-64-v4: AVX-512 F, BW, DQ, VL, CD. */
#include "kernel/level.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && \
    defined(__AVX512DQ__) && defined(__AVX512VL__)
#define LEVEL avx512
#include "kernel/vec.inc"
#include "kernel/state.inc"
#include "kernel/few.inc"
#include "kernel/row.inc"
#else
const struct level *const level_avx512 = NULL;
#endif
