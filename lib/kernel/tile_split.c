/* Products of float32 by the tiles of bfloat16 that AMX has: a number of 24 bits is the sum of
 * three of 8 (Henry, Tang & Heinecke 2019),
 *     x = h + m + l,  |m| <= 2^-8 |x|,  |l| <= 2^-16 |x|,
 * and of the nine products of two such sums the six down to h l and m m are made.  Each product of
 * bfloat16 is exact, and all are summed in float32, 32 at a time.  What is left out is below 2^-23
 * of |x| |y|, on average about what rounding x y takes; sums of 32 and more are nearer to
 * float64's than plain ones of float32.  But numbers below 2^-126 count as zeros, those below
 * 2^-110 lose bits, and an infinity, or what rounds to one, makes NaN.
 *
 * Weights often need fewer: bfloat16 one, many quantised types two.  Where a block of a strip has
 * no second or third part, the first word of this holds two negative zeros, and it is passed
 * over.  Sums have the same bits then. */
#include "base/base.h"

#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__AVX512F__)
#include <immintrin.h>

#define LANES 16
#define MR 32
#define NV 2
#define DEEP 32
#define PLANES 3
#include "kernel/turn.inc"
#include "kernel/store.inc"

typedef uint32_t word __attribute__((aligned(4), may_alias));
enum { WORDS = 16 };
static const word nothing = 0x80008000;

/* The upper halves of both, rounded, in one word each; what is left of them stays. */
static inline __m512i cut(__m512 *low, __m512 *high)
{
    const __m512i top = _mm512_set1_epi32((int)0xffff0000), half = _mm512_set1_epi32(0x8000);
    __m512i a = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(*low), half), top);
    __m512i b = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(*high), half), top);
    *low = _mm512_sub_ps(*low, _mm512_castsi512_ps(a));
    *high = _mm512_sub_ps(*high, _mm512_castsi512_ps(b));
    return _mm512_or_si512(_mm512_srli_epi32(a, 16), b);
}

static inline __mmask16 first_of(int64_t n)
{
    return n < LANES ? (__mmask16)((1u << n) - 1) : 0xffff;
}

static inline void cut_pairs(word *to, int64_t apart, const float *x, int64_t n)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28,
                                           30), odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    __m512 one = _mm512_maskz_loadu_ps(first_of(n), x);
    __m512 two = _mm512_maskz_loadu_ps(first_of(MAX(n - LANES, 0)), x + LANES);
    __m512 low = _mm512_permutex2var_ps(one, even, two);
    __m512 high = _mm512_permutex2var_ps(one, odd, two);
    for (int q = 0; q < PLANES; q++, to += apart) _mm512_storeu_si512(to, cut(&low, &high));
}

static inline void cut_rows(word *to, int64_t apart, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < NR; i += LANES, to += LANES) {
        __mmask16 some = first_of(MAX(n - i, 0));
        __m512 low = _mm512_maskz_loadu_ps(some, a + i), high = _mm512_maskz_loadu_ps(some, b + i);
        for (int q = 0; q < PLANES; q++) _mm512_storeu_si512(to + q * apart, cut(&low, &high));
    }
}

static inline int planes_of(const word *strip)
{
    return strip[WORDS * NR] == nothing ? 1 : strip[2 * WORDS * NR] == nothing ? 2 : 3;
}

#include "kernel/amx.inc"

/* Whether any of these words is not zero is told in the first word of the plane. */
static inline void tell(word *plane, const word *from, int64_t n, int begins)
{
    __m512i any = _mm512_setzero_si512();
    for (int64_t i = 0; i < n; i += LANES)
        any = _mm512_or_si512(any, _mm512_loadu_si512(from + i));
    int none = !_mm512_test_epi32_mask(any, any);
    if (none ? begins : *plane == nothing) *plane = none ? nothing : 0;
}

static void split_put(void *out, int64_t p, const float *b, int64_t ld, int64_t rows, int64_t cols)
{
    static const float none[NR];
    for (int64_t n; rows > 0; rows -= n, p += n, b += n * ld) {
        n = MIN(DEEP - p % DEEP, rows);
        word *to = (word *)out + p / DEEP * PLANES * PLANE_B, *row = to + p % DEEP / 2 * NR;
        for (int64_t k = 0; k < n; k += 2)
            cut_rows(row + k / 2 * NR, PLANE_B, b + k * ld, k + 1 < n ? b + (k + 1) * ld : none,
                     cols);
        for (int q = 1; q < PLANES; q++)
            tell(to + q * PLANE_B, row + q * PLANE_B, div_up(n, 2) * NR, p % DEEP == 0);
    }
}

static void split_turn(void *out, const float *w, int64_t ld, int64_t cols, int64_t depth)
{
    float *to = out, some[PLANES * PLANE_B];
    for (int64_t p = 0; p < depth; p += DEEP, to += PLANES * PLANE_B) {
        for (int64_t i = 0; i < cols; i++)
            cut_pairs((word *)(void *)(some + i * WORDS), PLANE_B, w + i * ld + p,
                      MIN(DEEP, depth - p));
        for (int q = 0; q < PLANES * PLANE_B; q += PLANE_B) {
            turn_rows(to + q, some + q, WORDS, cols, WORDS, NR);
            word *plane = (word *)(void *)(to + q);
            if (q) tell(plane, plane, PLANE_B, 1);
        }
    }
}

const struct tile tile_split = { "amx, split", MR, NR, TILE_SIZE, 0, DEEP, 2, 576, amx_pack,
                                 amx_pack_turned, split_turn, split_put, amx_sum, NULL, amx_begin,
                                 amx_end };
#else
#include "kernel/tile.h"
const struct tile tile_split = { 0 };
#endif
