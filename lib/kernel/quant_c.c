/* Expansion of stored types: any processor. */
#define UNPACK unpack_c
#include "kernel/quant.inc"
