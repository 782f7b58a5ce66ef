/* Register tiles: the inner loops of a matrix product, one set a processor
 * level and precision (tile.inc, pair_tile.inc, amx.inc).  gemm.c drives them
 * over linear layers, sgemm.c over float32.
 *
 * Both operands are packed first.  A panel is mr rows of A, a strip nr columns
 * of B, over a depth that is filled up with zeros to a multiple of `deep`. */
#ifndef KERNEL_TILE_H
#define KERNEL_TILE_H

#include "base/base.h"

enum {
    TILE_COLS = 48,                 /* no level's tile is wider */
    TILE_SIZE = 6                   /* bytes of a packed number, at most */
};
/* A panel and a strip.  lda: instead of a panel rows of A as they lie, so far apart; only for
 * tiles that have sum_rows. */
struct tile_part { int64_t depth; const void *a, *b; int64_t lda; };
/* Rows [at, rows) of a tile that are still to be written. */
enum { PAST_SIDE = 32 };
struct tile_past {
    _Alignas(64) float copy[PAST_SIDE * PAST_SIDE];
    float *c;
    int64_t ldc, at, rows;
};
static inline void tile_past_end(struct tile_past *p)
{
    for (; p->at < p->rows; p->at++)
        memcpy(p->c + p->at * p->ldc, p->copy + p->at * PAST_SIDE, PAST_SIDE * sizeof *p->c);
}
struct tile {
    const char *name;               /* "avx512", "amx" */
    int mr, nr;                     /* rows and columns of a tile of C */
    int size;                       /* bytes of a packed number */
    int rounds;                     /* to bfloat16 */
    int deep, together;             /* rows that share a word of a strip */
    int block;                      /* depth of a strip that the first cache holds, at most */
    /* Panels of x[rows, depth], of which element (i, p) is x[i * ld + p]; zeros
     * past `rows`.  pack_turned: element (i, p) is x[p * ld + i]. */
    void (*pack)(void *to, const float *x, int64_t ld, int64_t rows, int64_t depth);
    void (*pack_turned)(void *to, const float *x, int64_t ld, int64_t rows, int64_t depth);
    /* A strip of columns that are w's rows [cols <= nr, depth]. */
    void (*turn)(void *to, const float *w, int64_t ld, int64_t cols, int64_t depth);
    /* Rows [p, p + rows) of a strip, which are b[rows, cols]; p is a multiple of
     * `together`, and so is `rows` but for the last ones.  In the order of the depth. */
    void (*put)(void *to, int64_t p, const float *b, int64_t ld, int64_t rows, int64_t cols);
    /* C[rows <= mr, cols <= nr] = alpha sum over p of a[.][p] b[p][.] + beta C, over the
     * depth of some parts, one after another.  C is not read when beta is 0.  Every element
     * is summed in the order of p, wherever it lies in a tile.  past, if not NULL: C is
     * not read again soon, so that it may be written past the caches, the last of it while
     * the next tile is summed or by tile_past_end. */
    void (*sum)(const struct tile_part *part, int parts, float *c, int64_t ldc, int64_t rows,
                int64_t cols, float alpha, float beta, struct tile_past *past);
    /* C += a b, where b is no strip: row p of B is at b + p * ldb.  NULL: not by
     * these tiles. */
    void (*sum_rows)(int64_t depth, const float *a, const float *b, int64_t ldb, float *c,
                     int64_t ldc, int64_t rows, int64_t cols);
    /* Around the calls of `sum` in a thread; or NULL. */
    void (*begin)(void);
    void (*end)(void);
};
/* The depth of panels and strips in memory. */
static inline int64_t tile_deep(const struct tile *t, int64_t depth)
{
    return div_up(depth, t->deep) * t->deep;
}
/* Rows of x as operand A, without a strip yet: where they lie, or packed. */
static inline struct tile_part tile_rows(const struct tile *t, void *panels, const float *x,
                                         int64_t ld, int64_t rows, int64_t depth)
{
    if (t->sum_rows) return (struct tile_part){ .depth = depth, .a = x, .lda = ld };
    t->pack(panels, x, ld, rows, depth);
    return (struct tile_part){ .depth = depth, .a = panels };
}
/* Bytes from a row of those to the next, of which tiles take mr. */
static inline int64_t tile_row(const struct tile *t, const struct tile_part *part)
{
    return part->lda ? part->lda * (int64_t)sizeof(float) : tile_deep(t, part->depth) * t->size;
}
/* Zeros in a strip behind the rows that `put` brought. */
static inline void tile_fill(const struct tile *t, void *strip, int64_t depth)
{
    static const float none[TILE_COLS];
    int64_t end = div_up(depth, t->together) * t->together, all = tile_deep(t, depth);
    if (end < all) t->put(strip, end, none, 0, all - end, t->nr);
}
extern const struct tile tile_c, tile_avx2, tile_avx512, tile_neon;
/* Numbers rounded to bfloat16, products and sums in float32; and split: numbers of float32
 * as sums of three of bfloat16.  All zero where the compiler has no such instructions. */
extern const struct tile tile_pair_c, tile_pair, tile_amx, tile_split;

/* Those of the linear layers: compute's own, else its level's. */
struct compute;
const struct tile *tile_of(const struct compute *c);
/* Those of float32 that take numbers as they are. */
const struct tile *tile_float(const struct compute *c);

#endif
