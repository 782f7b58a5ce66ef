/* Linear layers for a few rows, as in decoding: private to gemm.c and its tests. */
#ifndef KERNEL_DECODE_H
#define KERNEL_DECODE_H

#include "kernel/kernel.h"

enum { FEW_ROWS = 8 };               /* for which this is faster than the register tiles */
/* y = alpha x W^T + beta y for n <= FEW_ROWS, in float32. */
void linear_few(const struct compute *c, float *y, const float *x, const struct matrix *w,
                int64_t n, float alpha, float beta);

#endif
