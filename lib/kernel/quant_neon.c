/* Expansion of stored types: 64-bit ARM.  Empty for other processors. */
#include "base/base.h"
#ifdef __aarch64__
#define UNPACK unpack_neon
#include "kernel/quant.inc"
#endif
