/* Inside of the kernel tables: what each level_*.c defines.  Only kernels.c,
 * attn.c, gemm.c and the tests of these include this. */
#ifndef KERNEL_LEVEL_H
#define KERNEL_LEVEL_H

#include "kernel/kernel.h"

/* A level's table and the two row bodies that only attention needs.  A row of
 * n scores takes part with its columns [from, to); cap as in struct attn. */
struct level {
    struct kernels kernels;
    /* y[i * ldy + o] = row o of w times row i of x, for `rows` rows and n of them; a
     * result depends on these two rows alone. */
    void (*dots)(float *y, int64_t ldy, const float *w, int64_t ldw, int64_t rows,
                 const float *x, int64_t ldx, int64_t n, int64_t cols);
    /* y [cols] += s [rows] times v. */
    void (*mix)(float *y, const float *s, const float *v, int64_t ldv, int64_t rows,
                int64_t cols);
    /* Online softmax (Milakov & Gimelshein 2018): s <- exp(s - m) inside the
     * range and 0 outside, where m is the maximum of the row and *max.
     * Updates *max and *sum; returns exp(old *max - m), by which what was
     * accumulated before has to be scaled. */
    float (*score_row)(float *s, int64_t n, int64_t from, int64_t to, float cap, float *max,
                       float *sum);
    /* s holds scores and dp the gradient of the probabilities p.
     * s <- p = exp(s - lse);  dp <- p (dp - delta) = the gradient of s, both
     * 0 outside the range. */
    void (*score_back)(float *s, float *dp, int64_t n, int64_t from, int64_t to, float cap,
                       float lse, float delta);
};
/* NULL where the compiler targets another processor. */
extern const struct level *const level_c, *const level_avx2, *const level_avx512,
    *const level_neon;
/* The level a table belongs to; level_c for an unknown one. */
const struct level *level_of(const struct kernels *k);

#endif
