/* Kernels for any processor: no flags beyond the compiler's own target. */
#include "kernel/level.h"

#define LEVEL c
#include "kernel/vec.inc"
#include "kernel/state.inc"
#include "kernel/few.inc"
#include "kernel/row.inc"
