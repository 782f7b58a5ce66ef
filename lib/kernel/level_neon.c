/* Kernels for 64-bit ARM, where NEON is always there. */
#include "kernel/level.h"

#if defined(__aarch64__)
#define LEVEL neon
#include "kernel/vec.inc"
#include "kernel/state.inc"
#include "kernel/few.inc"
#include "kernel/row.inc"
#else
const struct level *const level_neon = NULL;
#endif
