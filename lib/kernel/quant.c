/* The table of stored types, and writing them.  Rounding is that of GGML's
 * reference (ggml-quants.c). */
#include "kernel/quant.h"
#include "base/cpu.h"
#include "kernel/unpack.h"

/* The expanders for this processor.  Asking the processor is slow under
 * virtual machines, so the answer is kept; every thread finds the same. */
static const struct unpack *unpack(void)
{
    static const struct unpack *_Atomic known;
    const struct unpack *u = atomic_load_explicit(&known, memory_order_relaxed);
    if (u) return u;
    u = &unpack_c;
#if defined(__x86_64__) || defined(__i386__)
    if (cpu_has(CPU_AVX512)) u = &unpack_avx512;
    else if (cpu_has(CPU_AVX2)) u = &unpack_avx2;
#endif
    atomic_store_explicit(&known, u, memory_order_relaxed);
    return u;
}

#define EXPAND(t) \
    static void t##_to_f32(float *y, const void *x, int64_t n) { unpack()->t(y, x, n); }
EXPAND(f16)
EXPAND(bf16)
EXPAND(q4_0)
EXPAND(q4_1)
EXPAND(q5_0)
EXPAND(q5_1)
EXPAND(q8_0)
EXPAND(q4_k)
EXPAND(q5_k)
EXPAND(q6_k)

static void f32_to_f32(float *y, const void *x, int64_t n)
{
    memcpy(y, x, (size_t)n * 4);
}

static void f32_from_f32(void *y, const float *x, int64_t n)
{
    memcpy(y, x, (size_t)n * 4);
}

static void f64_to_f32(float *y, const void *x, int64_t n)
{
    const uint8_t *p = x;
    for (int64_t i = 0; i < n; i++) {
        double d;
        memcpy(&d, p + 8 * i, 8);
        y[i] = (float)d;
    }
}

/* Round to nearest even.  Adding a suitable power of two in float arithmetic
 * rounds the subnormal half floats at the right bit. */
static uint16_t half_from_float(float f)
{
    const uint32_t inf = 255u << 23, too_big = (127u + 16) << 23, smallest = 113u << 23;
    const uint32_t magic_bits = ((127u - 15) + (23 - 10) + 1) << 23;
    uint32_t u, sign, o;
    memcpy(&u, &f, 4);
    sign = u & 0x80000000u;
    u ^= sign;
    if (u > inf) {
        o = 0x7e00 | (u >> 13 & 0x1ff);
    } else if (u >= too_big) {
        o = 0x7c00;
    } else if (u < smallest) {
        float magic, small;
        memcpy(&magic, &magic_bits, 4);
        memcpy(&small, &u, 4);
        small += magic;
        memcpy(&o, &small, 4);
        o -= magic_bits;
    } else {
        uint32_t odd = u >> 13 & 1;
        o = (u - ((127u - 15) << 23) + 0xfff + odd) >> 13;
    }
    return (uint16_t)(o | sign >> 16);
}

static void f16_from_f32(void *y, const float *x, int64_t n)
{
    uint8_t *p = y;
    for (int64_t i = 0; i < n; i++) {
        uint16_t h = half_from_float(x[i]);
        memcpy(p + 2 * i, &h, 2);
    }
}

static void bf16_from_f32(void *y, const float *x, int64_t n)
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

static void put_half(uint8_t *p, float f)
{
    uint16_t h = half_from_float(f);
    memcpy(p, &h, 2);
}

/* v truncated into [lo, hi]; NaN gives lo. */
static int to_range(float v, int lo, int hi)
{
    return v >= (float)hi ? hi : v > (float)lo ? (int)v : lo;
}

static void q8_0_from_f32(void *to, const float *x, int64_t n)
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

static void q4_0_from_f32(void *to, const float *x, int64_t n)
{
    for (uint8_t *p = to; n > 0; n -= 32, x += 32, p += 18) {
        float most = 0, max = 0;
        for (int j = 0; j < 32; j++) {
            float a = x[j] < 0 ? -x[j] : x[j];
            if (a > most) most = a, max = x[j];
        }
        float d = max / -8, id = d != 0 ? 1 / d : 0;
        put_half(p, d);
        for (int j = 0; j < 16; j++) {
            int a = to_range(x[j] * id + 8.5f, 0, 15);
            int b = to_range(x[j + 16] * id + 8.5f, 0, 15);
            p[2 + j] = (uint8_t)(a | b << 4);
        }
    }
}

static void q4_1_from_f32(void *to, const float *x, int64_t n)
{
    for (uint8_t *p = to; n > 0; n -= 32, x += 32, p += 20) {
        float min = x[0], max = x[0];
        for (int j = 1; j < 32; j++) {
            if (x[j] < min) min = x[j];
            if (x[j] > max) max = x[j];
        }
        float d = (max - min) / 15, id = d != 0 ? 1 / d : 0;
        put_half(p, d);
        put_half(p + 2, min);
        for (int j = 0; j < 16; j++) {
            int a = to_range((x[j] - min) * id + 0.5f, 0, 15);
            int b = to_range((x[j + 16] - min) * id + 0.5f, 0, 15);
            p[4 + j] = (uint8_t)(a | b << 4);
        }
    }
}

const struct qtype qtype_f32 = {"F32", 0, 1, 4, 1, f32_to_f32, f32_from_f32};
const struct qtype qtype_f16 = {"F16", 1, 1, 2, 1, f16_to_f32, f16_from_f32};
const struct qtype qtype_bf16 = {"BF16", 30, 1, 2, 1, bf16_to_f32, bf16_from_f32};
static const struct qtype others[] = {
    {"F64", 28, 1, 8, 1, f64_to_f32, NULL},
    {"Q4_0", 2, 32, 18, 0, q4_0_to_f32, q4_0_from_f32},
    {"Q4_1", 3, 32, 20, 0, q4_1_to_f32, q4_1_from_f32},
    {"Q5_0", 6, 32, 22, 0, q5_0_to_f32, NULL},
    {"Q5_1", 7, 32, 24, 0, q5_1_to_f32, NULL},
    {"Q8_0", 8, 32, 34, 0, q8_0_to_f32, q8_0_from_f32},
    {"Q4_K", 12, 256, 144, 0, q4_k_to_f32, NULL},
    {"Q5_K", 13, 256, 176, 0, q5_k_to_f32, NULL},
    {"Q6_K", 14, 256, 210, 0, q6_k_to_f32, NULL},
    {"I64", 27, 1, 8, 0, NULL, NULL},
    {"I32", 26, 1, 4, 0, NULL, NULL},
    {"I16", 25, 1, 2, 0, NULL, NULL},
    {"I8", 24, 1, 1, 0, NULL, NULL},
    {"U8", -1, 1, 1, 0, NULL, NULL},
    {"BOOL", -1, 1, 1, 0, NULL, NULL},
};
const struct qtype *const qtypes[] = {
    &qtype_f32, &qtype_f16, &qtype_bf16, &others[0], &others[1], &others[2], &others[3],
    &others[4], &others[5], &others[6], &others[7], &others[8], &others[9], &others[10],
    &others[11], &others[12], &others[13], &others[14], NULL,
};

/* ggml.h, enum ggml_type; some of them are no longer written. */
static const char *const ggml_names[] = {
    "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K",
    "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL",
    "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16", "Q4_0_4_4",
    "Q4_0_4_8", "Q4_0_8_8", "TQ1_0", "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8",
    "MXFP4", "NVFP4", "Q1_0",
};

const struct qtype *qtype_by_ggml(int64_t id)
{
    for (int i = 0; qtypes[i]; i++)
        if (id >= 0 && qtypes[i]->ggml_id == id) return qtypes[i];
    return NULL;
}

const struct qtype *qtype_by_name(const char *name)
{
    for (int i = 0; qtypes[i]; i++)
        if (!strcmp(qtypes[i]->name, name)) return qtypes[i];
    return NULL;
}

const char *qtype_ggml_name(int64_t id)
{
    return id >= 0 && id < (int64_t)ARRAY_LEN(ggml_names) ? ggml_names[id] : "unknown";
}

bool qtype_bytes(const struct qtype *t, int64_t n, int64_t *bytes)
{
    return n >= 0 && n % t->block == 0 && mul_ok(n / t->block, t->bytes, bytes);
}
