/* Tiles of bfloat16 for AMX: two by two registers of 16 rows hold the sums of 32
 * by 32, and each instruction adds the products of 16 rows by 16 words by 16
 * columns. */
#include "base/base.h"

#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__AVX512BF16__)
#define LANES 16
#define MR 32
#define NV 2
#define DEEP 32
#include "kernel/round_avx512.inc"
#include "kernel/pair.inc"

enum { SIDE = 16, BLOCK = SIDE * WORDS };      /* rows and words of a register */

/* A panel is panel[p / 32][2][SIDE][WORDS] words: one register after another. */
static void amx_pack(void *out, const float *x, int64_t ld, int64_t rows, int64_t depth)
{
    word *to = out;
    for (int64_t i = 0; i < rows; i += MR)
        for (int64_t p = 0; p < depth; p += DEEP, to += 2 * BLOCK) {
            int64_t n = MIN(MR, rows - i), some = MIN(DEEP, depth - p);
            if (n < MR || some < DEEP) memset(to, 0, 2 * BLOCK * sizeof *to);
            for (int64_t k = 0; k < n; k++) pair_row(to + k * WORDS, x + (i + k) * ld + p, some);
        }
}

static void amx_pack_turned(void *out, const float *x, int64_t ld, int64_t rows, int64_t depth)
{
    static const float none[MR];
    float *to = out, turned[2 * BLOCK];
    for (int64_t i = 0; i < rows; i += MR)
        for (int64_t p = 0; p < depth; p += DEEP, to += 2 * BLOCK) {
            int64_t n = MIN(MR, rows - i), some = MIN(DEEP, depth - p);
            if (n < MR || some < DEEP) memset(turned, 0, sizeof turned);
            for (int64_t k = 0; k < some; k += 2) {
                const float *row = x + (p + k) * ld + i;
                round_rows((word *)(void *)(turned + k / 2 * MR), row,
                           k + 1 < some ? row + ld : none, n);
            }
            for (int r = 0; r < WORDS; r += 8)
                for (int c = 0; c < MR; c += 8)
                    turn_block(to + c * WORDS + r, WORDS, turned + r * MR + c, MR);
        }
}

/* Palette 1, and eight registers of 16 rows by 64 bytes. */
static void amx_begin(void)
{
    static const struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = { 1, 0, { 0 }, { 64, 64, 64, 64, 64, 64, 64, 64 },
                 { 16, 16, 16, 16, 16, 16, 16, 16 } };
    _tile_loadconfig(&config);
}

static void amx_end(void)
{
    _tile_release();
    _mm_sfence();
}

/* 2 x 2 registers of sums, or the left or upper ones only; constants at every call. */
static inline __attribute__((always_inline)) void load_sums(const float *c, int64_t ld, int two,
                                                            int wide)
{
    _tile_loadd(0, c, (size_t)ld * 4);
    if (wide) _tile_loadd(1, c + SIDE, (size_t)ld * 4);
    if (two) _tile_loadd(2, c + SIDE * ld, (size_t)ld * 4);
    if (two && wide) _tile_loadd(3, c + SIDE * ld + SIDE, (size_t)ld * 4);
}

static inline __attribute__((always_inline)) void store_sums(float *c, int64_t ld, int two,
                                                             int wide)
{
    _tile_stored(0, c, (size_t)ld * 4);
    if (wide) _tile_stored(1, c + SIDE, (size_t)ld * 4);
    if (two) _tile_stored(2, c + SIDE * ld, (size_t)ld * 4);
    if (two && wide) _tile_stored(3, c + SIDE * ld + SIDE, (size_t)ld * 4);
}

/* once: the panel passes through the first cache, where the strip stays. */
static inline __attribute__((always_inline)) void load_panel(int right, const word *a, int once)
{
    if (right && once) _tile_stream_loadd(5, a, 64);
    else if (right) _tile_loadd(5, a, 64);
    else if (once) _tile_stream_loadd(4, a, 64);
    else _tile_loadd(4, a, 64);
}

/* Some rows of a tile, past the caches. */
static inline void drain(struct tile_past *p, int64_t rows)
{
    for (; rows > 0 && p->at < p->rows; rows--, p->at++)
        for (int j = 0; j < NR; j += LANES)
            _mm512_stream_ps(p->c + p->at * p->ldc + j, _mm512_load_ps(p->copy + p->at * NR + j));
}

/* Meanwhile rows of C are asked for, some at each step: of this tile, or where it has been
 * read, of the next; or rows of the last one are written. */
static inline __attribute__((always_inline)) void add_part(const struct tile_part *part, int once,
                                                           int two, int wide, const float *c,
                                                           int64_t ldc, int64_t rows,
                                                           struct tile_past *past)
{
    const word *a = part->a, *b = part->b;
    int64_t each = div_up(rows * DEEP, part->depth);
    for (int64_t p = 0; p < part->depth; p += DEEP, a += 2 * BLOCK, b += WORDS * NR) {
        if (past) drain(past, each);
        else fetch_tile(c, ldc, MIN(each, rows), wide ? NV : 1);
        c += each * ldc;
        rows -= each;
        load_panel(0, a, once);
        _tile_loadd(6, b, NR * 4);
        if (wide) _tile_loadd(7, b + LANES, NR * 4);
        _tile_dpbf16ps(0, 4, 6);
        if (wide) _tile_dpbf16ps(1, 4, 7);
        if (two) load_panel(1, a + BLOCK, once);
        if (two) _tile_dpbf16ps(2, 5, 6);
        if (two && wide) _tile_dpbf16ps(3, 5, 7);
    }
}

_Static_assert((int)PAST_SIDE == (int)MR && (int)PAST_SIDE == (int)NR, "whole tiles go past");

/* Sums that are added to C begin with it; an incomplete tile has a copy, and so has one that
 * goes past the caches. */
static inline __attribute__((always_inline)) void sum_sides(
    const struct tile_part *part, int parts, float *c, int64_t ldc, int64_t rows, int64_t cols,
    float alpha, float beta, int once, struct tile_past *past, int two, int wide)
{
    vec s[MR][NV] __attribute__((aligned(64)));
    float *copy = (float *)(void *)s;
    int plain = alpha == 1 && (beta == 0 || beta == 1);
    int whole = plain && rows == (two ? MR : SIDE) && cols == (wide ? NR : SIDE);
    if (!whole || !two || !wide || ((uintptr_t)c | (uintptr_t)ldc * 4) % 64) past = NULL;
    for (int64_t i = 0; i < rows && plain && !whole && beta != 0; i++)
        memcpy(copy + i * NR, c + i * ldc, (size_t)cols * sizeof *c);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    if (plain && beta != 0) load_sums(whole ? c : copy, whole ? ldc : NR, two, wide);
    const float *ask = plain && beta != 0 ? c + MR * ldc : c;
    for (int k = 0; k < parts; k++)
        add_part(part + k, once, two, wide, ask, ldc, k ? 0 : rows, past);
    if (past) {
        drain(past, MR);
        store_sums(past->copy, NR, 1, 1);
        past->c = c, past->ldc = ldc, past->at = 0, past->rows = MR;
        return;
    }
    if (whole) {
        store_sums(c, ldc, two, wide);
        return;
    }
    store_sums(copy, NR, two, wide);
    if (!plain) store_tile(s, c, ldc, rows, cols, NV, alpha, beta);
    for (int64_t i = 0; i < rows && plain; i++)
        memcpy(c + i * ldc, copy + i * NR, (size_t)cols * sizeof *c);
}

static void sum_some(const struct tile_part *part, int parts, float *c, int64_t ldc, int64_t rows,
                     int64_t cols, float alpha, float beta, int once, struct tile_past *past)
{
    if (cols <= SIDE) sum_sides(part, parts, c, ldc, rows, cols, alpha, beta, once, past, 1, 0);
    else if (rows <= SIDE)
        sum_sides(part, parts, c, ldc, rows, cols, alpha, beta, once, past, 0, 1);
    else sum_sides(part, parts, c, ldc, rows, cols, alpha, beta, once, past, 1, 1);
}

static void amx_sum_parts(const struct tile_part *part, int parts, float *c, int64_t ldc,
                          int64_t rows, int64_t cols, float alpha, float beta,
                          struct tile_past *past)
{
    sum_some(part, parts, c, ldc, rows, cols, alpha, beta, 1, past);
}

static void amx_sum(int64_t depth, const void *a, const void *b, float *c, int64_t ldc,
                    int64_t rows, int64_t cols, float alpha, float beta)
{
    sum_some(&(struct tile_part){ depth, a, b, 0 }, 1, c, ldc, rows, cols, alpha, beta, 0, NULL);
}

const struct tile tile_amx = { "amx", MR, NR, sizeof(word) / 2, DEEP, 2, 1536, amx_pack,
                               amx_pack_turned, pair_turn, pair_put, amx_sum, amx_sum_parts, NULL,
                               amx_begin, amx_end };
#else
#include "kernel/tile.h"
const struct tile tile_amx = { 0 };
#endif
