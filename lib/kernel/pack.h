/* Writers of stored types: n floats, a multiple of the type's block; private to
 * quant.c and pack*.c. */
#ifndef KERNEL_PACK_H
#define KERNEL_PACK_H

#include "base/base.h"

typedef void pack_fn(void *y, const float *x, int64_t n);
pack_fn f16_from_f32, bf16_from_f32, f8_e4m3_from_f32, f8_e5m2_from_f32;
pack_fn q4_0_from_f32, q4_1_from_f32, q5_0_from_f32, q5_1_from_f32, q8_0_from_f32;
pack_fn q4_k_from_f32, q5_k_from_f32, q6_k_from_f32;
pack_fn nf4_from_f32, fp4_from_f32;

/* Writes a half float and returns what a reader will see. */
float put_half(uint8_t *p, float f);

#endif
