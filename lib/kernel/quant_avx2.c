/* Expansion of stored types: AVX2.  Empty for other processors. */
#include "base/base.h"
#ifdef __AVX2__
#define UNPACK unpack_avx2
#include "kernel/quant.inc"
#endif
