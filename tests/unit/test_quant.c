/* Stored types: bit for bit what GGML's reference reads and writes
 * (tests/golden/quant.bin, made by make_quant.py), at every processor level. */
#include "base/cpu.h"
#include "base/rng.h"
#include "kernel/quant.h"
#include "kernel/unpack.h"
#include "test.h"

#include <stdlib.h>

/* Which rows of the table have been compared with something from elsewhere. */
enum { READS = 1, WRITES = 2, MOST_TYPES = 64 };
static int checked[MOST_TYPES];

static void mark(const struct qtype *t, int what)
{
    for (int i = 0; qtypes[i] && i < MOST_TYPES; i++)
        if (qtypes[i] == t) checked[i] |= what;
}

struct record { char name[8]; int32_t writes, elements, bytes; };

static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static int same(const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (bits(a[i]) != bits(b[i]) && !(isnan(a[i]) && isnan(b[i]))) return 0;
    return 1;
}

static void golden(void)
{
    struct record r;
    int records = 0;
    FILE *f = fopen("tests/golden/quant.bin", "rb");
    CHECK(f != NULL);
    while (f && fread(&r, sizeof r, 1, f) == 1) {
        const struct qtype *t = qtype_by_name(r.name);
        float *values = malloc((size_t)r.elements * 4), *got = malloc((size_t)r.elements * 4);
        uint8_t *data = malloc((size_t)r.bytes), *made = malloc((size_t)r.bytes);
        int64_t bytes = 0;
        CHECK(fread(values, 4, (size_t)r.elements, f) == (size_t)r.elements);
        CHECK(fread(data, 1, (size_t)r.bytes, f) == (size_t)r.bytes);
        CHECK(t && qtype_bytes(t, r.elements, &bytes) && bytes == r.bytes);
        int ok;
        if (r.writes) {
            t->from_f32(made, values, r.elements);
            ok = !memcmp(made, data, (size_t)r.bytes);
        } else {
            t->to_f32(got, data, r.elements);
            ok = same(got, values, r.elements);
        }
        CHECK(ok);
        if (!ok) printf("  (%s %s)\n", r.writes ? "writing" : "reading", r.name);
        mark(t, r.writes ? WRITES : READS);
        free(values); free(got); free(data); free(made);
        records++;
    }
    CHECK_EQ(records, 27);
    if (f) fclose(f);
}

/* What a positive float of few bits stands for, from the definition. */
static double narrow_value(int u, int mantissa, int bias)
{
    int e = u >> mantissa, one = 1 << mantissa, m = u & (one - 1);
    return ldexp(e == 0 ? m : one + m, MAX(e, 1) - bias - mantissa);
}

static double half_value(unsigned h)
{
    double v = narrow_value(h & 0x7fff, 10, 15);
    return h & 0x8000 ? -v : v;
}

static void every_half(void)
{
    int wrong = 0;
    for (unsigned h = 0; h < 65536; h++) {
        uint16_t from = (uint16_t)h, back;
        float f;
        qtype_f16.to_f32(&f, &from, 1);
        qtype_f16.from_f32(&back, &f, 1);
        if ((h & 0x7fff) > 0x7c00) wrong += !isnan(f) || (back & 0x7fff) <= 0x7c00;
        else if ((h & 0x7fff) == 0x7c00) wrong += !isinf(f) || back != h;
        else wrong += f != (float)half_value(h) || !!signbit(f) != (int)(h >> 15) ||
                      back != h;
    }
    CHECK_EQ(wrong, 0);
}

/* Halfway between neighbours the even one is taken, a bit more or less decides. */
static void half_rounding(void)
{
    int wrong = 0;
    for (unsigned h = 0; h < 0x7bff; h++) {
        float middle = (float)((half_value(h) + half_value(h + 1)) / 2);
        float in[3] = {from_bits(bits(middle) - 1), middle, from_bits(bits(middle) + 1)};
        uint16_t out[3];
        qtype_f16.from_f32(out, in, 3);
        wrong += out[0] != h || out[1] != (h & 1 ? h + 1 : h) || out[2] != h + 1;
    }
    CHECK_EQ(wrong, 0);
    mark(&qtype_f16, READS | WRITES);
    float big[4] = {65519.0f, 65520.0f, -1e30f, INFINITY};
    uint16_t out[4];
    qtype_f16.from_f32(out, big, 4);
    CHECK(out[0] == 0x7bff && out[1] == 0x7c00 && out[2] == 0xfc00 && out[3] == 0x7c00);
}

static void bf16_rounding(void)
{
    int wrong = 0;
    for (uint32_t h = 0; h < 65536; h++) {
        uint32_t next = h + 1;
        float in[4] = {from_bits(h << 16), from_bits(h << 16 | 0x7fff), from_bits(h << 16 | 0x8000),
                       from_bits(h << 16 | 0x8001)}, back;
        uint16_t out[4];
        qtype_bf16.from_f32(out, in, 4);
        qtype_bf16.to_f32(&back, out, 1);
        if (isnan(in[0])) {
            wrong += !isnan(back);
        } else if (!isnan(in[3])) {
            wrong += out[0] != h || back != in[0] || out[1] != h ||
                     out[2] != (h & 1 ? next : h) || out[3] != next;
        }
    }
    CHECK_EQ(wrong, 0);
    mark(&qtype_bf16, READS | WRITES);
}

/* The larger halves of the 256 are the negative ones. */
static const struct f8 {
    const char *name;
    int mantissa, bias;
    int last, over;                 /* the largest number, and what still larger ones become */
} f8s[] = {{"F8_E4M3", 3, 7, 126, 126}, {"F8_E5M2", 2, 15, 123, 124}};

static void every_f8(void)
{
    for (size_t k = 0; k < ARRAY_LEN(f8s); k++) {
        const struct f8 *w = &f8s[k];
        const struct qtype *t = qtype_by_name(w->name);
        int wrong = 0;
        for (int u = 0; u < 256; u++) {
            uint8_t from = (uint8_t)u, back;
            int a = u & 127;
            float f, v = (float)narrow_value(a, w->mantissa, w->bias);
            t->to_f32(&f, &from, 1);
            t->from_f32(&back, &f, 1);
            if (a > w->last) v = a == w->over ? INFINITY : NAN;
            if (isnan(v)) wrong += !isnan(f) || back != (u | 127);
            else wrong += f != (u > 127 ? -v : v) || !!signbit(f) != u >> 7 || back != u;
        }
        CHECK_EQ(wrong, 0);
        mark(t, READS | WRITES);
    }
}

/* Halfway between neighbours the even one is taken.  E4M3, which has no
 * infinity, is cut to its largest number, as in PyTorch. */
static void f8_rounding(void)
{
    for (size_t k = 0; k < ARRAY_LEN(f8s); k++) {
        const struct f8 *w = &f8s[k];
        const struct qtype *t = qtype_by_name(w->name);
        int wrong = 0;
        for (int u = 0; u <= w->last; u++) {
            int next = u == w->last ? w->over : u + 1;
            float middle = (float)((narrow_value(u, w->mantissa, w->bias) +
                                    narrow_value(u + 1, w->mantissa, w->bias)) / 2);
            float in[4] = {from_bits(bits(middle) - 1), middle, from_bits(bits(middle) + 1),
                           -middle};
            uint8_t out[4];
            t->from_f32(out, in, 4);
            int even = u & 1 ? next : u;
            wrong += out[0] != u || out[1] != even || out[2] != next || out[3] != (even | 128);
        }
        CHECK_EQ(wrong, 0);
        float big[4] = {1e30f, INFINITY, -1e30f, -INFINITY};
        uint8_t out[4];
        t->from_f32(out, big, 4);
        CHECK(out[0] == w->over && out[1] == w->over);
        CHECK(out[2] == (w->over | 128) && out[3] == (w->over | 128));
    }
}

/* float32 is copied, float64 rounded. */
static void wide_floats(void)
{
    const struct qtype *f64 = qtype_by_name("F64");
    double in[4] = {0.1, -3, 1e300, 16777217};
    float want[4] = {0.1f, -3, INFINITY, 16777216}, got[4], copy[4];
    f64->to_f32(got, in, 4);
    CHECK(same(got, want, 4));
    qtype_f32.from_f32(copy, want, 4);
    CHECK(same(copy, want, 4));
    qtype_f32.to_f32(got, copy, 4);
    CHECK(same(got, want, 4));
    mark(f64, READS);
    mark(&qtype_f32, READS | WRITES);
}

/* More bits, less error: root mean squares over normal numbers, each of which
 * must lie below its bound and all below that of the type before. */
static void errors(void)
{
    static const struct { const char *name; double most; } order[] = {
        {"Q4_0", 0.09}, {"Q4_1", 0.08}, {"Q4_K", 0.075}, {"Q5_0", 0.045}, {"Q5_1", 0.038},
        {"Q5_K", 0.036}, {"Q6_K", 0.02}, {"Q8_0", 0.006},
    };
    enum { N = 8192 };
    static float x[N], y[N];
    static uint8_t data[N * 2];
    double before = 1;
    for (int i = 0; i < N; i++) {
        double a = (rng_u32(3, 4, 2 * (uint64_t)i) + 1.0) / 4294967297.0;
        double b = rng_u32(3, 4, 2 * (uint64_t)i + 1) / 4294967296.0;
        x[i] = (float)(sqrt(-2 * log(a)) * cos(6.283185307179586 * b));
    }
    for (size_t k = 0; k < ARRAY_LEN(order); k++) {
        const struct qtype *t = qtype_by_name(order[k].name);
        double sum = 0;
        t->from_f32(data, x, N);
        t->to_f32(y, data, N);
        for (int i = 0; i < N; i++) sum += ((double)y[i] - x[i]) * ((double)y[i] - x[i]);
        double error = sqrt(sum / N);
        CHECK(error < before && error < order[k].most);
        before = error;
    }
}

/* Odd lengths and unaligned data: vector loops must keep to their bounds. */
static void lengths(void)
{
    uint8_t data[2 * 67 + 1];
    float y[68], one;
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 37);
    for (int k = 0; qtypes[k]; k++) {
        const struct qtype *t = qtypes[k];
        if (t->block != 1 || t->bytes > 2 || !t->to_f32) continue;
        for (int64_t n = 0; n <= 67; n++) {
            y[n] = 42;
            t->to_f32(y, data + 1, n);
            CHECK(y[n] == 42);
            for (int64_t i = 0; i < n; i++) {
                t->to_f32(&one, data + 1 + t->bytes * i, 1);
                CHECK(same(&one, y + i, 1));
            }
        }
    }
}

static void check_level(const struct unpack *u)
{
#define PART(t) {#t, unpack_c.t, u->t},
    const struct { const char *name; expand_fn *plain, *level; } parts[] = {EXPANDERS(PART)};
#undef PART
    uint8_t data[2048];
    float want[768], got[768];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)rng_u32(1, 2, i);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        parts[i].plain(want, data, 768);
        parts[i].level(got, data, 768);
        CHECK(same(want, got, 768));
        if (!same(want, got, 768)) printf("  (%s)\n", parts[i].name);
    }
}

/* A dot product is that of the expanded numbers, and reads no float behind the last. */
static void check_dots(const struct unpack *u)
{
    static const int lengths[] = {0, 1, 31, 32, 33, 64, 75, 256, 512};
    uint8_t data[2048];
    float w[512], x[513], from[512];
    for (int i = 0; i < 512; i++) from[i] = (float)(int32_t)rng_u32(1, 3, (uint64_t)i) * 1e-9f;
    for (int k = 0; qtypes[k]; k++) {
        const struct qtype *t = qtypes[k];
        dot_fn *dot = u->dot[t->dot];
        if (!dot) continue;
        memset(data, 0x35, sizeof data);
        if (t->from_f32) t->from_f32(data, from, 512);
        for (size_t l = 0; l < ARRAY_LEN(lengths); l++) {
            int n = lengths[l];
            double sum = 0, size = 1e-6;
            if (n % t->block) continue;
            t->to_f32(w, data, n);
            for (int i = 0; i < n; i++) {
                x[i] = (float)(int32_t)rng_u32(1, 4, (uint64_t)i) * 1e-9f;
                sum += (double)w[i] * x[i];
                size += fabs((double)w[i] * x[i]);
            }
            x[n] = NAN;
            CHECK_NEAR((dot(data, x, n) - sum) / size, 0, 1e-6);
        }
    }
}

static void levels_agree(void)
{
#if defined(__x86_64__) || defined(__i386__)
    if (cpu_has(CPU_AVX2)) check_level(&unpack_avx2), check_dots(&unpack_avx2);
    if (cpu_has(CPU_AVX512)) check_level(&unpack_avx512), check_dots(&unpack_avx512);
#endif
#ifdef __aarch64__
    check_level(&unpack_neon), check_dots(&unpack_neon);
#endif
    check_level(&unpack_c);
}

/* Infinite and missing numbers are written as something, without undefined
 * conversions (the sanitizer would tell). */
static void nonfinite(void)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f};
    for (int i = 0; qtypes[i]; i++) {
        float x[256];
        uint8_t y[256 * 4];
        if (!qtypes[i]->from_f32) continue;
        for (int j = 0; j < 256; j++) x[j] = odd[j % 4];
        qtypes[i]->from_f32(y, x, 256);
        qtypes[i]->to_f32(x, y, 256);
        CHECK(!isfinite(x[0]) || qtypes[i]->block > 1);
    }
}

static void table(void)
{
    int64_t bytes;
    for (int i = 0; qtypes[i]; i++) {
        const struct qtype *t = qtypes[i];
        CHECK(qtype_by_name(t->name) == t);
        CHECK(t->ggml_id < 0 || qtype_by_ggml(t->ggml_id) == t);
        if (t->ggml_id >= 0) CHECK_STR(qtype_ggml_name(t->ggml_id), t->name);
        CHECK(qtype_bytes(t, 0, &bytes) && bytes == 0);
        CHECK(qtype_bytes(t, 3 * t->block, &bytes) && bytes == 3 * t->bytes);
        CHECK(!qtype_bytes(t, -t->block, &bytes));
        CHECK(t->block == 1 || qtype_bytes(t, t->block + 1, &bytes) == t->flat);
        CHECK(!t->flat || bytes == 2 * t->bytes);
        CHECK(t->bytes <= t->block || !qtype_bytes(t, INT64_MAX / t->block * t->block, &bytes));
    }
    CHECK(!qtype_by_ggml(-1) && !qtype_by_ggml(17) && !qtype_by_ggml(INT64_MAX));
    CHECK(!qtype_by_name("Q9_9") && !qtype_by_name(""));
    CHECK_STR(qtype_ggml_name(17), "IQ2_XS");
    CHECK_STR(qtype_ggml_name(39), "MXFP4");
    CHECK_STR(qtype_ggml_name(-1), "unknown");
    CHECK_STR(qtype_ggml_name(1000), "unknown");
}

/* Every code with some scale; test_bnb compares with bitsandbytes itself. */
static void scaled_levels(void)
{
    static const struct { const char *name; const float *levels; const struct qtype *as; } all[] = {
        {"NF4", nf4_levels, &qtype_f32}, {"NF4_F16", nf4_levels, &qtype_f16},
        {"NF4_BF16", nf4_levels, &qtype_bf16}, {"FP4", fp4_levels, &qtype_f32},
        {"FP4_F16", fp4_levels, &qtype_f16}, {"FP4_BF16", fp4_levels, &qtype_bf16},
    };
    static const float scales[] = {0, 1, 0.37f, 1e-7f, 4e-6f, 6e4f, 7e4f, 3e38f};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        for (size_t s = 0; s < ARRAY_LEN(scales); s++) {
            const struct qtype *t = qtype_by_name(all[i].name);
            uint8_t block[36], again[36];
            float want[64], got[64], narrow[64];
            memcpy(block, &scales[s], 4);
            for (int j = 0; j < 32; j++) block[4 + j] = (uint8_t)(j % 8 * 0x22 + 1);
            for (int j = 0; j < 64; j++) want[j] = all[i].levels[j % 16] * scales[s];
            t->from_f32(again, want, 64);
            all[i].as->from_f32(narrow, want, 64);
            all[i].as->to_f32(want, narrow, 64);
            t->to_f32(got, block, 64);
            CHECK(same(got, want, 64));
            t->to_f32(got, again, 64);
            CHECK(scales[s] == 0 || same(got, want, 64));    /* no -0 is written */
            mark(t, READS | WRITES);
        }
    const struct qtype *t = qtype_by_name("LLM_INT8");
    uint8_t block[36];
    float d = 2.54f, y[32];
    memcpy(block, &d, 4);
    for (int j = 0; j < 32; j++) block[4 + j] = (uint8_t)(8 * j);
    t->to_f32(y, block, 32);
    for (int j = 0; j < 32; j++) CHECK_NEAR(y[j], 0.02 * (int8_t)(8 * j), 1e-6);
    mark(t, READS);
}

/* A row without a case above fails here. */
static void every_type_was_checked(void)
{
    for (int i = 0; qtypes[i]; i++) {
        const struct qtype *t = qtypes[i];
        int need = (t->to_f32 ? READS : 0) | (t->from_f32 ? WRITES : 0);
        int ok = i < MOST_TYPES && (checked[i] & need) == need;
        CHECK(ok);
        if (!ok) printf("  (%s)\n", t->name);
    }
}

int main(void)
{
    RUN(golden);
    RUN(every_half);
    RUN(half_rounding);
    RUN(bf16_rounding);
    RUN(every_f8);
    RUN(f8_rounding);
    RUN(wide_floats);
    RUN(errors);
    RUN(lengths);
    RUN(levels_agree);
    RUN(nonfinite);
    RUN(scaled_levels);
    RUN(table);
    RUN(every_type_was_checked);
    return TEST_END();
}
