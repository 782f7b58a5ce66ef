/* Stored types: bit for bit what GGML's reference reads and writes
 * (tests/golden/quant.bin, made by make_quant.py), at every processor level. */
#include "base/cpu.h"
#include "base/rng.h"
#include "kernel/quant.h"
#include "kernel/unpack.h"
#include "test.h"

#include <stdlib.h>

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
        free(values); free(got); free(data); free(made);
        records++;
    }
    CHECK_EQ(records, 15);
    if (f) fclose(f);
}

/* What a half float stands for, from its definition. */
static double half_value(unsigned h)
{
    int e = h >> 10 & 31, m = h & 1023;
    double v = e == 0 ? ldexp(m, -24) : ldexp(1024 + m, e - 25);
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
}

/* Odd lengths and unaligned data: vector loops must keep to their bounds. */
static void lengths(void)
{
    uint8_t data[2 * 67 + 1];
    float y[68], one;
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 37);
    const struct qtype *types[] = {&qtype_f16, &qtype_bf16};
    for (int t = 0; t < 2; t++) {
        for (int64_t n = 0; n <= 67; n++) {
            y[n] = 42;
            types[t]->to_f32(y, data + 1, n);
            CHECK(y[n] == 42);
            for (int64_t i = 0; i < n; i++) {
                types[t]->to_f32(&one, data + 1 + 2 * i, 1);
                CHECK(same(&one, y + i, 1));
            }
        }
    }
}

static void check_level(const struct unpack *u)
{
    static const struct { size_t at; int block, bytes; } part[] = {
        {offsetof(struct unpack, f16), 1, 2},     {offsetof(struct unpack, bf16), 1, 2},
        {offsetof(struct unpack, q4_0), 32, 18},  {offsetof(struct unpack, q4_1), 32, 20},
        {offsetof(struct unpack, q5_0), 32, 22},  {offsetof(struct unpack, q5_1), 32, 24},
        {offsetof(struct unpack, q8_0), 32, 34},  {offsetof(struct unpack, q4_k), 256, 144},
        {offsetof(struct unpack, q5_k), 256, 176}, {offsetof(struct unpack, q6_k), 256, 210},
    };
    uint8_t data[2048];
    float want[768], got[768];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)rng_u32(1, 2, i);
    for (size_t i = 0; i < ARRAY_LEN(part); i++) {
        expand_fn *a, *b;
        memcpy(&a, (const char *)&unpack_c + part[i].at, sizeof a);
        memcpy(&b, (const char *)u + part[i].at, sizeof b);
        a(want, data, 768);
        b(got, data, 768);
        CHECK(same(want, got, 768));
    }
}

static void levels_agree(void)
{
#if defined(__x86_64__) || defined(__i386__)
    if (cpu_has(CPU_AVX2)) check_level(&unpack_avx2);
    if (cpu_has(CPU_AVX512)) check_level(&unpack_avx512);
#endif
    check_level(&unpack_c);
}

/* Infinite and missing numbers are written as something, without undefined
 * conversions (the sanitizer would tell). */
static void nonfinite(void)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f};
    for (int i = 0; qtypes[i]; i++) {
        float x[32];
        uint8_t y[32 * 4];
        if (!qtypes[i]->from_f32) continue;
        for (int j = 0; j < 32; j++) x[j] = odd[j % 4];
        qtypes[i]->from_f32(y, x, 32);
        qtypes[i]->to_f32(x, y, 32);
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
        CHECK(t->block == 1 || !qtype_bytes(t, t->block + 1, &bytes));
        CHECK(t->bytes <= t->block || !qtype_bytes(t, INT64_MAX / t->block * t->block, &bytes));
    }
    CHECK(!qtype_by_ggml(-1) && !qtype_by_ggml(17) && !qtype_by_ggml(INT64_MAX));
    CHECK(!qtype_by_name("Q9_9") && !qtype_by_name(""));
    CHECK_STR(qtype_ggml_name(17), "IQ2_XS");
    CHECK_STR(qtype_ggml_name(39), "MXFP4");
    CHECK_STR(qtype_ggml_name(-1), "unknown");
    CHECK_STR(qtype_ggml_name(1000), "unknown");
}

int main(void)
{
    RUN(golden);
    RUN(every_half);
    RUN(half_rounding);
    RUN(bf16_rounding);
    RUN(lengths);
    RUN(levels_agree);
    RUN(nonfinite);
    RUN(table);
    return TEST_END();
}
