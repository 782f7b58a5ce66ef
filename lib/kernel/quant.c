/* The table of stored types: a type is one row here, an expander in quant.inc
 * and, if it can be written, a writer in pack*.c. */
#include "kernel/quant.h"
#include "base/cpu.h"
#include "kernel/pack.h"
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
#elif defined(__aarch64__)
    if (cpu_has(CPU_NEON)) u = &unpack_neon;
#endif
    atomic_store_explicit(&known, u, memory_order_relaxed);
    return u;
}

#define EXPAND(t) \
    static void t##_to_f32(float *y, const void *x, int64_t n) { unpack()->t(y, x, n); }
EXPANDERS(EXPAND)

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

const struct qtype qtype_f32 = {"F32", 0, 1, 4, 1, f32_to_f32, f32_from_f32, 0, NULL,
                                 DOT_NONE};
const struct qtype qtype_f16 = {"F16", 1, 1, 2, 1, f16_to_f32, f16_from_f32, 0, NULL,
                                 DOT_f16};
const struct qtype qtype_bf16 = {"BF16", 30, 1, 2, 1, bf16_to_f32, bf16_from_f32, 0, NULL,
                                  DOT_bf16};
#define ROW(...) &(const struct qtype){__VA_ARGS__}
#define TYPE(...) ROW(__VA_ARGS__, 0, NULL, DOT_NONE)
#define FUSED(t, name, id, block, bytes, from) \
    ROW(name, id, block, bytes, 0, t##_to_f32, from, 0, NULL, DOT_##t)
const struct qtype *const qtypes[] = {
    &qtype_f32, &qtype_f16, &qtype_bf16,
    TYPE("F64", 28, 1, 8, 1, f64_to_f32, NULL),
    ROW("F8_E4M3", -1, 1, 1, 1, f8_e4m3_to_f32, f8_e4m3_from_f32, 0, &qtype_f16, DOT_NONE),
    ROW("F8_E5M2", -1, 1, 1, 1, f8_e5m2_to_f32, f8_e5m2_from_f32, 0, &qtype_f16, DOT_NONE),
    FUSED(q4_0, "Q4_0", 2, 32, 18, q4_0_from_f32),
    FUSED(q4_1, "Q4_1", 3, 32, 20, q4_1_from_f32),
    FUSED(q5_0, "Q5_0", 6, 32, 22, q5_0_from_f32),
    FUSED(q5_1, "Q5_1", 7, 32, 24, q5_1_from_f32),
    FUSED(q8_0, "Q8_0", 8, 32, 34, q8_0_from_f32),
    TYPE("Q2_K", 10, 256, 84, 0, q2_k_to_f32, NULL),
    TYPE("Q3_K", 11, 256, 110, 0, q3_k_to_f32, NULL),
    FUSED(q4_k, "Q4_K", 12, 256, 144, q4_k_from_f32),
    FUSED(q5_k, "Q5_K", 13, 256, 176, q5_k_from_f32),
    FUSED(q6_k, "Q6_K", 14, 256, 210, q6_k_from_f32),
    FUSED(iq4_nl, "IQ4_NL", 20, 32, 18, NULL),
    FUSED(iq4_xs, "IQ4_XS", 23, 256, 136, NULL),
    TYPE("TQ1_0", 34, 256, 54, 0, tq1_0_to_f32, NULL),
    TYPE("TQ2_0", 35, 256, 66, 0, tq2_0_to_f32, NULL),
    FUSED(mxfp4, "MXFP4", 39, 32, 17, NULL),
    ROW("NF4", -1, 64, 36, 0, nf4_to_f32, nf4_from_f32, 1, NULL, DOT_nf4),
    ROW("NF4_F16", -1, 64, 36, 0, nf4_f16_to_f32, nf4_from_f32, 1, &qtype_f16, DOT_nf4_f16),
    ROW("NF4_BF16", -1, 64, 36, 0, nf4_bf16_to_f32, nf4_from_f32, 1, &qtype_bf16, DOT_nf4_bf16),
    ROW("FP4", -1, 64, 36, 0, fp4_to_f32, fp4_from_f32, 1, NULL, DOT_fp4),
    ROW("FP4_F16", -1, 64, 36, 0, fp4_f16_to_f32, fp4_from_f32, 1, &qtype_f16, DOT_fp4_f16),
    ROW("FP4_BF16", -1, 64, 36, 0, fp4_bf16_to_f32, fp4_from_f32, 1, &qtype_bf16, DOT_fp4_bf16),
    TYPE("LLM_INT8", -1, 32, 36, 0, llm_int8_to_f32, NULL),
    TYPE("I64", 27, 1, 8, 0, NULL, NULL),
    TYPE("I32", 26, 1, 4, 0, NULL, NULL),
    TYPE("I16", 25, 1, 2, 0, NULL, NULL),
    TYPE("I8", 24, 1, 1, 0, NULL, NULL),
    TYPE("U8", -1, 1, 1, 0, NULL, NULL),
    TYPE("BOOL", -1, 1, 1, 0, NULL, NULL),
    NULL,
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
    int64_t rest = n % t->block;
    return n >= 0 && (!rest || t->flat) && mul_ok(n / t->block + (rest > 0), t->bytes, bytes);
}

/* A block that is wanted in part: elements [skip, skip + n). */
static void expand_part(const struct qtype *t, float *y, const char *x, int64_t skip, int64_t n)
{
    float block[256];
    t->to_f32(block, x, t->block);
    memcpy(y, block + skip, (size_t)n * sizeof *y);
}

void qtype_expand(const struct qtype *t, float *y, const void *data, int64_t at, int64_t n)
{
    const char *x = (const char *)data + at / t->block * t->bytes;
    int64_t skip = at % t->block, first = MIN(n, t->block - skip), rest;
    if (skip) {
        expand_part(t, y, x, skip, first);
        x += t->bytes;
        y += first;
        n -= first;
    }
    rest = n % t->block;
    t->to_f32(y, x, n - rest);
    if (rest) expand_part(t, y + n - rest, x + n / t->block * t->bytes, 0, rest);
}
