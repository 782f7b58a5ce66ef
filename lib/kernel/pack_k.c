/* Writing GGML's blocks of 256, bit for bit as its reference does without an
 * importance matrix (ggml-quants.c, quantize_row_q*_K_ref).  Layouts are in
 * quant.inc.
 *
 * Every part of a block gets the scale (and minimum) that makes the weighted
 * squared error least among some starts: for each, the levels are rounded and
 * the scale is then the least-squares one for those levels.  Scales are then
 * quantised themselves, and the levels are rounded again with what a reader
 * will see.  Sums are taken in the reference's order. */
#include <math.h>

#include "kernel/pack.h"
#include "kernel/quant.h"
#include "kernel/unpack.h"

/* Half to even, for |v| < 2^22; anything for other numbers. */
static int nearest(float v)
{
    uint32_t u;
    v += 12582912.0f;                /* 1.5 * 2^23: its last bit is the one of units */
    memcpy(&u, &v, 4);
    return (int)(u & 0x7fffff) - 0x400000;
}

static int cut_to(int v, int lo, int hi)
{
    return MAX(lo, MIN(hi, v));
}

/* --- Q4_K and Q5_K: parts of 32, x = scale level - min, 0 <= level <= top */

/* The starts are the scales that spread top + first + step k levels over the
 * range, k <= steps. */
struct search { int bits, steps; float first; };

struct k_part { float x[32], weight[32], scale, min; uint8_t level[32]; };

static float error_of(const struct k_part *p, const uint8_t *level, float scale, float min)
{
    float sum = 0;
    for (int i = 0; i < 32; i++) {
        float off = scale * (float)level[i] + min - p->x[i];
        sum += p->weight[i] * (off * off);
    }
    return sum;
}

static void round_part(const struct k_part *p, uint8_t *level, float inverse, float min, int top)
{
    for (int i = 0; i < 32; i++)
        level[i] = (uint8_t)cut_to(nearest(inverse * (p->x[i] - min)), 0, top);
}

/* Least squares for the levels given; a minimum above 0 cannot be stored. */
static bool fit(const struct k_part *p, const uint8_t *level, float sum_w, float sum_x,
                float *scale, float *min)
{
    float sum_l = 0, sum_l2 = 0, sum_xl = 0;
    for (int i = 0; i < 32; i++) {
        float l = (float)level[i], wl = p->weight[i] * l;
        sum_l += wl;
        sum_l2 += wl * l;
        sum_xl += wl * p->x[i];
    }
    float det = sum_w * sum_l2 - sum_l * sum_l;
    if (!(det > 0)) return false;
    *scale = (sum_w * sum_xl - sum_x * sum_l) / det;
    *min = (sum_l2 * sum_x - sum_l * sum_xl) / det;
    if (*min > 0) {
        *min = 0;
        *scale = sum_xl / sum_l2;
    }
    return true;
}

static void search_part(struct k_part *p, const struct search *s)
{
    const int top = (1 << s->bits) - 1;
    float min = p->x[0], max = p->x[0], sum_w = p->weight[0], sum_x = sum_w * p->x[0];
    for (int i = 1; i < 32; i++) {
        if (p->x[i] < min) min = p->x[i];
        if (p->x[i] > max) max = p->x[i];
        sum_w += p->weight[i];
        sum_x += p->weight[i] * p->x[i];
    }
    if (min > 0) min = 0;
    p->scale = 0;
    p->min = -min;
    memset(p->level, 0, sizeof p->level);
    if (max == min) return;
    float inverse = (float)top / (max - min);
    p->scale = 1 / inverse;
    round_part(p, p->level, inverse, min, top);
    float best = error_of(p, p->level, p->scale, min);
    for (int k = 0; k <= s->steps; k++) {
        uint8_t level[32];
        float scale, least, off;
        inverse = (s->first + 0.1f * (float)k + (float)top) / (max - min);
        round_part(p, level, inverse, min, top);
        if (!fit(p, level, sum_w, sum_x, &scale, &least)) continue;
        off = error_of(p, level, scale, least);
        if (!(off < best)) continue;
        memcpy(p->level, level, sizeof level);
        best = off;
        p->scale = scale;
        min = least;                 /* also where the next starts begin */
    }
    p->min = -min;
}

static void weigh(struct k_part *p, const float *x)
{
    float sum = 0;
    memcpy(p->x, x, sizeof p->x);
    for (int i = 0; i < 32; i++) sum += x[i] * x[i];
    float usual = sqrtf(sum / 32);
    for (int i = 0; i < 32; i++) p->weight[i] = usual + fabsf(x[i]);
}

/* The inverse of six_bits. */
static void put_six_bits(uint8_t *s, int i, int scale, int min)
{
    if (i < 4) {
        s[i] = (uint8_t)scale;
        s[i + 4] = (uint8_t)min;
    } else {
        s[i + 4] = (uint8_t)((scale & 15) | (min & 15) << 4);
        s[i - 4] |= (uint8_t)(scale >> 4 << 6);
        s[i] |= (uint8_t)(min >> 4 << 6);
    }
}

/* Writes d, m and the eight scales and minima; leaves the levels in the parts. */
static void pack_parts(uint8_t *p, const float *x, struct k_part *part, const struct search *s)
{
    float scale = 0, min = 0;
    for (int i = 0; i < 8; i++) {
        weigh(&part[i], x + 32 * i);
        search_part(&part[i], s);
        if (part[i].scale > scale) scale = part[i].scale;
        if (part[i].min > min) min = part[i].min;
    }
    float by_scale = scale > 0 ? 63 / scale : 0, by_min = min > 0 ? 63 / min : 0;
    for (int i = 0; i < 8; i++)
        put_six_bits(p + 4, i, cut_to(nearest(by_scale * part[i].scale), 0, 63),
                     cut_to(nearest(by_min * part[i].min), 0, 63));
    float d = put_half(p, scale / 63), m = put_half(p + 2, min / 63);
    for (int i = 0; i < 8; i++) {
        int six_scale, six_min;
        six_bits(p + 4, i, &six_scale, &six_min);
        float step = d * (float)six_scale, least = m * (float)six_min;
        if (step == 0) continue;
        for (int j = 0; j < 32; j++)
            part[i].level[j] = (uint8_t)cut_to(nearest((part[i].x[j] + least) / step), 0,
                                               (1 << s->bits) - 1);
    }
}

static void put_nibbles(uint8_t *q, const struct k_part *part)
{
    for (int i = 0; i < 8; i += 2)
        for (int j = 0; j < 32; j++)
            *q++ = (uint8_t)((part[i].level[j] & 15) | part[i + 1].level[j] << 4);
}

void q4_k_from_f32(void *to, const float *x, int64_t n)
{
    static const struct search search = {4, 20, -1};
    struct k_part part[8];
    for (uint8_t *p = to; n > 0; n -= 256, x += 256, p += 144) {
        pack_parts(p, x, part, &search);
        put_nibbles(p + 16, part);
    }
}

void q5_k_from_f32(void *to, const float *x, int64_t n)
{
    static const struct search search = {5, 15, -0.5f};
    struct k_part part[8];
    for (uint8_t *p = to; n > 0; n -= 256, x += 256, p += 176) {
        pack_parts(p, x, part, &search);
        memset(p + 16, 0, 32);
        for (int i = 0; i < 8; i++)
            for (int j = 0; j < 32; j++)
                p[16 + j] |= (uint8_t)(part[i].level[j] >> 4 << i);
        put_nibbles(p + 48, part);
    }
}

/* --- Q6_K: parts of 16, x = scale (level - 32), 0 <= level < 64 */

static const float tiny = 1e-15f;    /* parts below count as zeros */

/* Rounds the levels of a part; the sums, weighted by x^2, of x l and l l. */
static void round_16(const float *x, int *level, float inverse, float *sum_xl, float *sum_l2)
{
    *sum_xl = *sum_l2 = 0;
    for (int i = 0; i < 16; i++) {
        level[i] = cut_to(nearest(inverse * x[i]), -32, 31);
        float l = (float)level[i], w = x[i] * x[i];
        *sum_xl += w * x[i] * l;
        *sum_l2 += w * l * l;
    }
}

static float search_16(const float *x, int *level)
{
    float max = 0, most = 0, sum_xl, sum_l2;
    for (int i = 0; i < 16; i++)
        if (fabsf(x[i]) > most) most = fabsf(x[i]), max = x[i];
    for (int i = 0; i < 16; i++) level[i] = -32;
    if (most < tiny) return 0;
    round_16(x, level, -32 / max, &sum_xl, &sum_l2);
    float scale = sum_l2 != 0 ? sum_xl / sum_l2 : 0, best = scale * sum_xl;
    for (int k = -9; k <= 9; k++) {
        int other[16];
        if (k == 0) continue;
        round_16(x, other, -(32 + 0.1f * (float)k) / max, &sum_xl, &sum_l2);
        if (!(sum_l2 > 0 && sum_xl * sum_xl > best * sum_l2)) continue;
        memcpy(level, other, sizeof other);
        scale = sum_xl / sum_l2;
        best = scale * sum_xl;
    }
    return scale;
}

/* Writes d and the scales; false when all is zero. */
static bool pack_16s(uint8_t *p, const float *x, int *level)
{
    float scale[16], max = 0, most = 0;
    for (int i = 0; i < 16; i++) {
        scale[i] = search_16(x + 16 * i, level + 16 * i);
        if (fabsf(scale[i]) > most) most = fabsf(scale[i]), max = scale[i];
    }
    if (most < tiny) return false;
    float inverse = -128 / max, d = put_half(p + 208, 1 / inverse);
    for (int i = 0; i < 16; i++) {
        int s = cut_to(nearest(inverse * scale[i]), -128, 127);
        float step = d * (float)s;
        p[192 + i] = (uint8_t)s;
        if (step == 0) continue;
        for (int j = 16 * i; j < 16 * i + 16; j++)
            level[j] = cut_to(nearest(x[j] / step), -32, 31);
    }
    return true;
}

void q6_k_from_f32(void *to, const float *x, int64_t n)
{
    int level[256];
    for (uint8_t *p = to; n > 0; n -= 256, x += 256, p += 210) {
        memset(p, 0, 210);
        if (!pack_16s(p, x, level)) continue;
        for (int half = 0; half < 2; half++) {
            const int *l = level + 128 * half;
            uint8_t *q = p + 64 * half, *high = p + 128 + 32 * half;
            for (int j = 0; j < 32; j++) {
                int a = l[j] + 32, b = l[j + 32] + 32, c = l[j + 64] + 32, d = l[j + 96] + 32;
                q[j] = (uint8_t)((a & 15) | (c & 15) << 4);
                q[j + 32] = (uint8_t)((b & 15) | (d & 15) << 4);
                high[j] = (uint8_t)(a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6);
            }
        }
    }
}
