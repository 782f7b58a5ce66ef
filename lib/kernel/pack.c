/* Writing stored types: floats of fewer bits, and GGML's blocks of 32, which
 * round as its reference does (ggml-quants.c, quantize_row_*_ref).  Layouts are
 * in quant.inc. */
#include "kernel/pack.h"
#include "kernel/quant.h"

/* --- floats of fewer bits */

/* `top` is written for all that is larger, `nan` for what is no number. */
struct narrow { int bits, mantissa, bias; uint32_t top, nan; };

/* Round to nearest even.  Adding a suitable power of two in float arithmetic
 * rounds the subnormal numbers at the right bit. */
static inline uint32_t narrow_float(float f, struct narrow to)
{
    const int drop = 23 - to.mantissa;
    const uint32_t smallest = (uint32_t)(128 - to.bias) << 23;
    const uint32_t magic_bits = (uint32_t)(127 + 1 - to.bias + drop) << 23;
    uint32_t u, o, sign;
    memcpy(&u, &f, 4);
    sign = u >> 31;
    u &= 0x7fffffff;
    if (u > 255u << 23) {
        o = to.nan | (u >> drop & ((1u << to.mantissa) - 1));
    } else if (u < smallest) {
        float magic, small;
        memcpy(&magic, &magic_bits, 4);
        memcpy(&small, &u, 4);
        small += magic;
        memcpy(&o, &small, 4);
        o -= magic_bits;
    } else {
        uint32_t odd = u >> drop & 1;
        o = (u - ((uint32_t)(127 - to.bias) << 23) + (1u << (drop - 1)) - 1 + odd) >> drop;
        o = MIN(o, to.top);
    }
    return o | sign << (to.bits - 1);
}

static uint16_t half_from_float(float f)
{
    return (uint16_t)narrow_float(f, (struct narrow){16, 10, 15, 0x7c00, 0x7e00});
}

void f16_from_f32(void *y, const float *x, int64_t n)
{
    uint8_t *p = y;
    for (int64_t i = 0; i < n; i++) {
        uint16_t h = half_from_float(x[i]);
        memcpy(p + 2 * i, &h, 2);
    }
}

void bf16_from_f32(void *y, const float *x, int64_t n)
{
    uint8_t *p = y;
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, x + i, 4);
        uint32_t nan = (u >> 16) | 64, even = (u + 0x7fff + (u >> 16 & 1)) >> 16;
        uint16_t h = (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? nan : even);
        memcpy(p + 2 * i, &h, 2);
    }
}

/* Without infinities: what is too large becomes the largest number, 448. */
void f8_e4m3_from_f32(void *y, const float *x, int64_t n)
{
    uint8_t *p = y;
    for (int64_t i = 0; i < n; i++)
        p[i] = (uint8_t)narrow_float(x[i], (struct narrow){8, 3, 7, 0x7e, 0x7f});
}

void f8_e5m2_from_f32(void *y, const float *x, int64_t n)
{
    uint8_t *p = y;
    for (int64_t i = 0; i < n; i++)
        p[i] = (uint8_t)narrow_float(x[i], (struct narrow){8, 2, 15, 0x7c, 0x7f});
}

/* --- blocks of 32 */

float put_half(uint8_t *p, float f)
{
    uint16_t h = half_from_float(f);
    memcpy(p, &h, 2);
    qtype_f16.to_f32(&f, p, 1);
    return f;
}

/* v truncated into [lo, hi]; NaN gives lo. */
static int to_range(float v, int lo, int hi)
{
    return v >= (float)hi ? hi : v > (float)lo ? (int)v : lo;
}

void q8_0_from_f32(void *to, const float *x, int64_t n)
{
    for (uint8_t *p = to; n > 0; n -= 32, x += 32, p += 34) {
        float max = 0;
        for (int j = 0; j < 32; j++) {
            float a = x[j] < 0 ? -x[j] : x[j];
            max = a > max ? a : max;
        }
        float d = max / 127, id = d != 0 ? 1 / d : 0;
        put_half(p, d);
        for (int j = 0; j < 32; j++) {
            /* Halves are rounded away from zero, as roundf does. */
            float v = x[j] * id, whole = (float)to_range(v, -127, 127), rest = v - whole;
            int q = (int)whole + (rest >= 0.5f) - (rest <= -0.5f);
            p[2 + j] = (uint8_t)(int8_t)q;
        }
    }
}

/* (x - min) id + add, cut to integers of 4 or 5 bits: the fifth bits, if any,
 * and then nibbles. */
static inline void put_levels(uint8_t *p, const float *x, float min, float id, float add,
                              int bits)
{
    uint8_t q[32];
    for (int j = 0; j < 32; j++)
        q[j] = (uint8_t)to_range((x[j] - min) * id + add, 0, (1 << bits) - 1);
    for (int j = 0; bits == 5 && j < 4; j++, p++) {
        *p = 0;
        for (int k = 0; k < 8; k++) *p |= (uint8_t)(q[8 * j + k] >> 4 << k);
    }
    for (int j = 0; j < 16; j++) p[j] = (uint8_t)((q[j] & 15) | q[j + 16] << 4);
}

/* The number furthest from zero becomes the lowest level, which has no partner
 * of the other sign. */
static inline void symmetric(uint8_t *p, const float *x, int bits)
{
    float most = 0, max = 0, levels = (float)(1 << (bits - 1));
    for (int j = 0; j < 32; j++) {
        float a = x[j] < 0 ? -x[j] : x[j];
        if (a > most) most = a, max = x[j];
    }
    float d = max / -levels, id = d != 0 ? 1 / d : 0;
    put_half(p, d);
    put_levels(p + 2, x, 0, id, levels + 0.5f, bits);
}

static inline void affine(uint8_t *p, const float *x, int bits)
{
    float min = x[0], max = x[0];
    for (int j = 1; j < 32; j++) {
        if (x[j] < min) min = x[j];
        if (x[j] > max) max = x[j];
    }
    float d = (max - min) / (float)((1 << bits) - 1), id = d != 0 ? 1 / d : 0;
    put_half(p, d);
    put_half(p + 2, min);
    put_levels(p + 4, x, min, id, 0.5f, bits);
}

void q4_0_from_f32(void *to, const float *x, int64_t n)
{
    for (uint8_t *p = to; n > 0; n -= 32, x += 32, p += 18) symmetric(p, x, 4);
}

void q4_1_from_f32(void *to, const float *x, int64_t n)
{
    for (uint8_t *p = to; n > 0; n -= 32, x += 32, p += 20) affine(p, x, 4);
}

void q5_0_from_f32(void *to, const float *x, int64_t n)
{
    for (uint8_t *p = to; n > 0; n -= 32, x += 32, p += 22) symmetric(p, x, 5);
}

void q5_1_from_f32(void *to, const float *x, int64_t n)
{
    for (uint8_t *p = to; n > 0; n -= 32, x += 32, p += 24) affine(p, x, 5);
}
