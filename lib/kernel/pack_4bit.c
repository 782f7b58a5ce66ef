/* Writing bitsandbytes' 4-bit types bit for bit as its reference does
 * (bitsandbytes, backends/default/ops.py, quantize_4bit).  A block of 64 is divided
 * by its largest magnitude, and each quotient gets the code of the nearest level.
 * The layout is in quant.inc. */
#include <math.h>

#include "kernel/pack.h"
#include "kernel/quant.h"

/* Quantiles of the normal distribution (Dettmers et al. 2023, appendix E). */
const float nf4_levels[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f,
};
/* A sign, two bits of exponent and one of mantissa, scaled so that the largest is 1. */
const float fp4_levels[16] = {
    0.0f, 0.0052083335f, 0.6666667f, 1.0f, 0.33333334f, 0.5f, 0.16666667f, 0.25f,
    0.0f, -0.0052083335f, -0.6666667f, -1.0f, -0.33333334f, -0.5f, -0.16666667f, -0.25f,
};
/* Codes by ascending level. */
static const uint8_t nf4_order[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const uint8_t fp4_order[16] = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3};

static float largest_of(const float *x, int64_t n)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

/* Full blocks are multiplied by the inverse; the reference divides the last one. */
static float quotient(float x, float most, bool full)
{
    float v = full ? x * (1.0f / most) : x / most;
    return v > 1 ? 1 : v < -1 ? -1 : v;
}

static void pack_codes(uint8_t *p, const float *x, int64_t n, const float *level,
                       const uint8_t *order)
{
    float bound[15];
    for (int i = 0; i < 15; i++) bound[i] = (level[order[i]] + level[order[i + 1]]) / 2;
    for (; n > 0; n -= 64, x += 64, p += 36) {
        int64_t here = MIN(n, 64);
        float v[64];
        int rank[64] = { 0 };
        float scale = largest_of(x, here), most = scale > 1e-38f ? scale : 1e-38f;
        if (here < 64) scale = most;
        memcpy(p, &scale, 4);
        for (int j = 0; j < 64; j++)
            v[j] = j < here ? quotient(x[j], most, here == 64) : 0;
        for (int i = 0; i < 15; i++)
            for (int j = 0; j < 64; j++) rank[j] += !(v[j] <= bound[i]);
        for (int j = 0; j < 32; j++)
            p[4 + j] = (uint8_t)(order[rank[2 * j]] << 4 | order[rank[2 * j + 1]]);
    }
}

void nf4_from_f32(void *y, const float *x, int64_t n)
{
    pack_codes(y, x, n, nf4_levels, nf4_order);
}

void fp4_from_f32(void *y, const float *x, int64_t n)
{
    pack_codes(y, x, n, fp4_levels, fp4_order);
}

/* --- double quantisation */

/* Point k of n + 1 from 0.1 to 1, in the arithmetic of torch.linspace: the step is
 * a float, and a product and its sum are rounded together. */
static float tenth_to_one(int k, int n)
{
    double step = (double)((1.0f - 0.1f) / (float)n);
    return (float)(k < (n + 1) / 2 ? (double)0.1f + step * k : 1.0 - step * (n - k));
}

/* Powers of ten from 1e-6 on, each cut finer than the one before (Dettmers et al.
 * 2022, dynamic tree quantisation). */
void tree_levels(float level[256], int plain)
{
    static const float tens[7] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
    float *up = level + (plain ? 1 : 128), *down = level + 126;
    level[plain ? 0 : 127] = 0;
    for (int i = 0; i < 7; i++)
        for (int k = 0, n = (plain ? 2 : 1) << i; k < n; k++) {
            float middle = (tenth_to_one(k, n) + tenth_to_one(k + 1, n)) / 2.0f;
            *up++ = tens[i] * middle;
            if (!plain) *down-- = -(tens[i] * middle);
        }
    level[255] = 1;
}

float scales_pack(uint8_t *q, float *largest, const float *scale, int64_t n)
{
    float level[256], bound[255];
    double sum = 0;
    tree_levels(level, 0);
    for (int i = 0; i < 255; i++) bound[i] = (level[i] + level[i + 1]) / 2;
    for (int64_t i = 0; i < n; i++) sum += (double)scale[i];
    float mean = n > 0 ? (float)sum / (float)n : 0;
    for (int64_t i = 0; i < n; i += SCALES_BLOCK) {
        int64_t end = MIN(i + SCALES_BLOCK, n);
        float most = 0;
        for (int64_t k = i; k < end; k++) {
            float a = fabsf(scale[k] - mean);
            most = a > most ? a : most;
        }
        largest[i / SCALES_BLOCK] = most;
        for (int64_t k = i; k < end; k++) {
            float v = most > 0 ? (scale[k] - mean) / most : 0;
            int lo = 0, hi = 255;
            while (lo < hi) {
                int mid = (lo + hi) / 2;
                if (v <= bound[mid]) hi = mid;
                else lo = mid + 1;
            }
            q[k] = (uint8_t)lo;
        }
    }
    return mean;
}
