/* Inside of the kernel tables: what each level_*.c defines.  Only kernels.c,
 * attn.c, gemm.c and the tests of these include this. */
#ifndef KERNEL_LEVEL_H
#define KERNEL_LEVEL_H

#include "kernel/kernel.h"

/* A level's table and the bodies that only attention needs.  cap as in struct attn. */
struct level {
    struct kernels kernels;
    /* y[i * ldy + o] = row o of w times row i of x, for `rows` rows and n of them; a
     * result depends on these two rows alone. */
    void (*dots)(float *y, int64_t ldy, const float *w, int64_t ldw, int64_t rows,
                 const float *x, int64_t ldx, int64_t n, int64_t cols);
    /* y [cols] += s [rows] times v. */
    void (*mix)(float *y, const float *s, const float *v, int64_t ldv, int64_t rows,
                int64_t cols);
    /* Online softmax (Milakov & Gimelshein 2018) of n scores: s <- exp(s - m), where m
     * is the maximum of these and *max.  Updates *max and *sum; returns exp(old *max - m),
     * by which what was accumulated before has to be scaled. */
    float (*score_row)(float *s, int64_t n, float cap, float *max, float *sum);
    /* The same for turned scores scale * s, [keys, cols]: column c takes part with its rows
     * [lo[c], hi[c]), the others become 0.  cols is rounded up to a multiple of
     * SCORE_COLS, which the arrays must allow. */
    void (*score_block)(float *s, int64_t ld, int64_t keys, int64_t cols, const int32_t *lo,
                        const int32_t *hi, float scale, float cap, float *max, float *sum,
                        float *fix);
    /* s holds such scores and dp the gradient of the probabilities p.
     * s <- p = exp(scale * s - lse);  dp <- p (dp - delta) = the gradient of the
     * scores, both 0 outside the range. */
    void (*score_back)(float *s, float *dp, int64_t ld, int64_t keys, int64_t cols,
                       const int32_t *lo, const int32_t *hi, float scale, float cap,
                       const float *lse, const float *delta);
};
enum { SCORE_COLS = 16 };
/* NULL where the compiler targets another processor. */
extern const struct level *const level_c, *const level_avx2, *const level_avx512,
    *const level_neon;
/* The level a table belongs to; level_c for an unknown one. */
const struct level *level_of(const struct kernels *k);

#endif
