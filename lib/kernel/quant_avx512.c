/* Expansion of stored types: AVX-512.  Empty for other processors. */
#include "base/base.h"
#ifdef __AVX512F__
#define UNPACK unpack_avx512
#include "kernel/quant.inc"
#endif
