/* Linear layers for a few rows, as in decoding: private to gemm.c and its tests. */
#ifndef KERNEL_DECODE_H
#define KERNEL_DECODE_H

#include "kernel/kernel.h"

enum {
    FEW_ROWS = 16,                   /* for which this is faster than the register tiles, */
    FEW_ROWS_HALF = 8,               /* and than those of bfloat16 */
    FEW_SCRATCH = 8 * 4096           /* floats of a worker */
};
static inline int64_t few_rows(const struct compute *c)
{
    return compute_half(c) ? FEW_ROWS_HALF : FEW_ROWS;
}
/* Float32 that is aligned, to be read where it is; a safetensors file need not hold it so. */
static inline bool has_floats(const struct matrix *w)
{
    return w->type == &qtype_f32 && (uintptr_t)w->data % sizeof(float) == 0;
}
/* y = alpha x W^T + beta y for n <= FEW_ROWS, in float32. */
void linear_few(const struct compute *c, float *y, const float *x, const struct matrix *w,
                int64_t n, float alpha, float beta);

#endif
