/* The built-in matrix product: by any tiles, and as a function of each processor
 * level for blas.c.  m, n, k >= 1; C is not read when beta is 0. */
#ifndef KERNEL_SGEMM_H
#define KERNEL_SGEMM_H

#include "kernel/tile.h"

typedef void sgemm_fn(int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha,
                      const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
                      float *c, int64_t ldc);
void tile_multiply(const struct tile *t, int ta, int tb, int64_t m, int64_t n, int64_t k,
                   float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                   float beta, float *c, int64_t ldc);
sgemm_fn sgemm_c, sgemm_avx2, sgemm_avx512, sgemm_neon;

#endif
