/* Register tiles: the inner loops of a matrix product, one set a processor
 * level (tile.inc).  gemm.c drives them over weights that BLAS cannot read,
 * sgemm.inc over float32. */
#ifndef KERNEL_TILE_H
#define KERNEL_TILE_H

#include "base/base.h"

enum { TILE_COLS = 48 };            /* no level's tile is wider */
struct tile {
    int mr, nr;                     /* rows and columns of a tile of C */
    /* to[panel][p][mr] <- x[rows, depth]: rows of a panel beside each other for
     * each p; zeros past `rows`. */
    void (*pack)(float *to, const float *x, int64_t ld, int64_t rows, int64_t depth);
    /* to[p][nr] <- w[rows <= nr, depth], zeros past `rows`. */
    void (*turn)(float *to, const float *w, int64_t ld, int64_t rows, int64_t depth);
    /* C[rows <= mr, cols <= nr] = alpha sum over p of a[p][mr] b[p][nr] + beta C.
     * C is not read when beta is 0.  Every element is summed in the order of p,
     * wherever it lies in a tile. */
    void (*sum)(int64_t depth, const float *a, const float *b, float *c, int64_t ldc,
                int64_t rows, int64_t cols, float alpha, float beta);
};
extern const struct tile tile_c, tile_avx2, tile_avx512;

#endif
