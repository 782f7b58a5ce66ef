/* C = alpha op(A) op(B) + beta C on one thread, by the usual blocking (Goto & van
 * de Geijn 2008): a block of A and a strip of B are packed, then the tiles of C
 * are summed in registers. */
#include "kernel/sgemm.h"

enum { BLOCK = 96 * 192 * 4, STRIP = 192 * TILE_COLS * 4 };    /* bytes, on the stack */

void tile_multiply(const struct tile *t, int ta, int tb, int64_t m, int64_t n, int64_t k,
                   float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                   float beta, float *c, int64_t ldc)
{
    _Alignas(64) char block[BLOCK], strip[STRIP];
    int64_t most = STRIP / t->size / TILE_COLS, high = BLOCK / (most * t->size);
    if (t->begin) t->begin();
    for (int64_t p = 0; p < k; p += most, beta = 1) {
        int64_t depth = MIN(most, k - p), panel = tile_deep(t, depth) * t->size;
        for (int64_t i = 0; i < m; i += high) {
            int64_t rows = MIN(high, m - i);
            if (ta) t->pack_turned(block, a + p * lda + i, lda, rows, depth);
            else t->pack(block, a + i * lda + p, lda, rows, depth);
            for (int64_t j = 0; j < n; j += t->nr) {
                int64_t cols = MIN(t->nr, n - j);
                if (tb) t->turn(strip, b + j * ldb + p, ldb, cols, depth);
                else t->put(strip, 0, b + p * ldb + j, ldb, depth, cols);
                if (!tb) tile_fill(t, strip, depth);
                for (int64_t r = 0; r < rows; r += t->mr)
                    t->sum(&(struct tile_part){ .depth = depth, .a = block + r * panel,
                                                .b = strip }, 1, c + (i + r) * ldc + j, ldc,
                           MIN(t->mr, rows - r), cols, alpha, beta, NULL);
            }
        }
    }
    if (t->end) t->end();
}

#define SGEMM(level) \
    void sgemm_##level(int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, \
                       const float *a, int64_t lda, const float *b, int64_t ldb, float beta, \
                       float *c, int64_t ldc) \
    { \
        tile_multiply(&tile_##level, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc); \
    }
SGEMM(c)
#if defined(__x86_64__) || defined(__i386__)
SGEMM(avx2)
SGEMM(avx512)
#endif
#ifdef __aarch64__
SGEMM(neon)
#endif
