/* Matrix products and linear layers against a double-precision loop: every
 * transposition, odd sizes, leading dimensions with guarded borders, every
 * stored type, and equal bits for any number of threads. */
#include "base/rng.h"
#include "kernel/kernel.h"
#include "kernel/decode.h"
#include "kernel/sgemm.h"
#include "kernel/tile.h"
#include "apart.h"
#include "test.h"

#include <stdlib.h>

static struct host host;
static const struct blas *blas;      /* the one under test */
static const struct kernels *kernels;

static float *numbers(int64_t n, uint64_t stream)
{
    float *x = malloc((size_t)MAX(n, 1) * sizeof *x);
    rng_fill_uniform(x, n, -1, 1, 7, stream);
    return x;
}

/* --- sgemm */

struct shape { int ta, tb; int64_t m, n, k; float alpha, beta; };

/* Borders of 3 columns and one row hold `guard`, and so must they after. */
static void check_sgemm(struct shape s)
{
    const float guard = 12345.0f;
    int64_t ar = s.ta ? s.k : s.m, ac = s.ta ? s.m : s.k, br = s.tb ? s.n : s.k,
            bc = s.tb ? s.k : s.n, lda = ac + 3, ldb = bc + 3, ldc = s.n + 3;
    float *a = numbers(ar * lda, 1), *b = numbers(br * ldb, 2), *c = numbers((s.m + 1) * ldc, 3);
    float *old = malloc((size_t)((s.m + 1) * ldc) * 4);
    for (int64_t i = 0; i < ar; i++) for (int64_t j = ac; j < lda; j++) a[i * lda + j] = NAN;
    for (int64_t i = 0; i < br; i++) for (int64_t j = bc; j < ldb; j++) b[i * ldb + j] = NAN;
    for (int64_t i = 0; i <= s.m; i++)
        for (int64_t j = i < s.m ? s.n : 0; j < ldc; j++) c[i * ldc + j] = guard;
    if (s.beta == 0)
        for (int64_t i = 0; i < s.m; i++) for (int64_t j = 0; j < s.n; j++) c[i * ldc + j] = NAN;
    memcpy(old, c, (size_t)((s.m + 1) * ldc) * 4);
    blas->sgemm(s.ta, s.tb, s.m, s.n, s.k, s.alpha, a, lda, b, ldb, s.beta, c, ldc);
    double worst = 0;
    int borders = 1;
    for (int64_t i = 0; i <= s.m; i++) {
        for (int64_t j = 0; j < ldc; j++) {
            if (i == s.m || j >= s.n) {
                borders &= c[i * ldc + j] == guard;
                continue;
            }
            double sum = 0;
            for (int64_t p = 0; p < s.k; p++)
                sum += (double)(s.ta ? a[p * lda + i] : a[i * lda + p]) *
                       (s.tb ? b[j * ldb + p] : b[p * ldb + j]);
            double want = s.alpha * sum + (s.beta == 0 ? 0 : s.beta * (double)old[i * ldc + j]);
            double off = fabs(c[i * ldc + j] - want);
            worst = off <= worst ? worst : off;
        }
    }
    CHECK(borders);
    CHECK_NEAR(worst, 0, 1e-6 * (double)(s.k + 8));
    free(a); free(b); free(c); free(old);
}

static void sgemm_is_right(void)
{
    static const int64_t sizes[] = {1, 2, 5, 16, 33, 67};
    static const float alphas[] = {1, -0.5f}, betas[] = {0, 1, 0.25f};
    int turn = 0;
    for (size_t m = 0; m < ARRAY_LEN(sizes); m++)
        for (size_t n = 0; n < ARRAY_LEN(sizes); n++)
            for (size_t k = 0; k < ARRAY_LEN(sizes); k++, turn++)
                for (int t = 0; t < 4; t++)
                    check_sgemm((struct shape){t & 1, t >> 1, sizes[m], sizes[n], sizes[k],
                                               alphas[turn % 2], betas[(turn + t) % 3]});
    for (int t = 0; t < 4; t++) check_sgemm((struct shape){t & 1, t >> 1, 129, 100, 401, 1, 0});
}

/* The built-in product of every level that this processor has. */
static void builtin_levels(void)
{
    struct blas b = {0};
    const struct blas *was = blas;
    blas = &b;
    b.sgemm = sgemm_c;
    sgemm_is_right();
#if defined(__x86_64__) || defined(__i386__)
    b.sgemm = sgemm_avx2;
    if (cpu_has(CPU_AVX2)) sgemm_is_right();
    b.sgemm = sgemm_avx512;
    if (cpu_has(CPU_AVX512)) sgemm_is_right();
#elif defined(__aarch64__)
    b.sgemm = sgemm_neon;
    sgemm_is_right();
#endif
    blas = was;
}

static void sgemm_of_nothing(void)
{
    float c[6] = {1, 2, 3, 4, NAN, 6}, x[4] = {0};
    blas->sgemm(0, 0, 0, 3, 2, 1, x, 2, x, 3, 0, c, 3);
    blas->sgemm(0, 0, 2, 0, 2, 1, x, 2, x, 1, 0, c, 3);
    CHECK(c[0] == 1 && c[5] == 6);
    blas->sgemm(0, 0, 1, 3, 0, 1, x, 1, x, 3, 2, c, 3);
    CHECK(c[0] == 2 && c[1] == 4 && c[2] == 6 && c[3] == 4);
    blas->sgemm(0, 0, 2, 3, 0, 1, x, 1, x, 3, 0, c, 3);
    for (int i = 0; i < 6; i++) CHECK(c[i] == 0);
}

/* --- linear layers */

struct bench { struct compute c; };
static const struct tile *tile;      /* by these; NULL: by the level's */
static int64_t panels_bytes = PANELS_MIN;

static struct bench bench_new(int threads, int64_t scratch)
{
    struct bench b = {{.k = kernels, .blas = blas, .tile = tile,
                        .scratch_each = (scratch + 63) & ~63}};
    CHECK_EQ(pool_new(&host, threads, &b.c.pool), 0);
    b.c.scratch = malloc((size_t)(b.c.scratch_each * POOL_MAX + 64));
    b.c.panels_bytes = panels_bytes;
    b.c.panels = malloc((size_t)panels_bytes);
    return b;
}

static void bench_free(struct bench *b)
{
    pool_free(b->c.pool);
    free(b->c.scratch);
    free(b->c.panels);
}

/* A weight in a stored type and what it stands for.  Types that cannot be
 * written get random blocks, with the scales in them kept small. */
struct weight { struct matrix w; float *value; };

static void tame_scales(uint8_t *p, const struct qtype *t, int64_t blocks)
{
    static const struct { const char *name; int at[2]; } where[] = {
        {"Q2_K", {80, 82}}, {"Q3_K", {108, 108}}, {"IQ4_NL", {0, 0}}, {"IQ4_XS", {0, 0}},
        {"TQ1_0", {52, 52}}, {"TQ2_0", {64, 64}},
    };
    if (!strcmp(t->name, "MXFP4"))
        for (int64_t b = 0; b < blocks; b++) p[b * t->bytes] = 122;      /* 2^-6 */
    for (int64_t b = 0; b < blocks && !strcmp(t->name, "LLM_INT8"); b++)
        memcpy(p + b * t->bytes, &(float){0.5f}, 4);
    for (size_t i = 0; i < ARRAY_LEN(where); i++) {
        if (strcmp(where[i].name, t->name)) continue;
        for (int64_t b = 0; b < blocks; b++) {
            float d = 0.01f / (t->block == 256 ? 30 : 1);
            qtype_f16.from_f32(p + b * t->bytes + where[i].at[0], &d, 1);
            qtype_f16.from_f32(p + b * t->bytes + where[i].at[1], &d, 1);
        }
    }
}

static struct weight weight_new(const struct qtype *t, int64_t rows, int64_t cols)
{
    struct weight g = {{t, NULL, rows, cols}, numbers(rows * cols, 11)};
    int64_t bytes = 0;
    CHECK(qtype_bytes(t, rows * cols, &bytes));
    uint8_t *data = malloc((size_t)bytes);
    if (t->from_f32) {
        t->from_f32(data, g.value, rows * cols);
    } else if (!strcmp(t->name, "F64")) {
        for (int64_t i = 0; i < rows * cols; i++) {
            double d = g.value[i];
            memcpy(data + 8 * i, &d, 8);
        }
    } else {
        for (int64_t i = 0; i < bytes; i++) data[i] = (uint8_t)rng_u32(5, 6, (uint64_t)i);
        tame_scales(data, t, bytes / t->bytes);
    }
    t->to_f32(g.value, data, rows * cols);
    g.w.data = data;
    return g;
}

static void weight_free(struct weight *g)
{
    free((void *)g->w.data);
    free(g->value);
}

static double worst_of(const float *got, const double *want, int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double off = fabs(got[i] - want[i]) / (1 + fabs(want[i]));
        worst = off <= worst ? worst : off;
    }
    return worst;
}

/* What products of bfloat16 see of n numbers. */
static float *seen(const float *x, int64_t n, int rounds)
{
    float *to = malloc((size_t)n * 4);
    memcpy(to, x, (size_t)n * 4);
    uint16_t *h = malloc((size_t)n * 2);
    if (rounds) {
        qtype_bf16.from_f32(h, to, n);
        qtype_bf16.to_f32(to, h, n);
    }
    free(h);
    return to;
}

static void check_linear(const struct qtype *t, int64_t n, int64_t out, int64_t in)
{
    const float alpha = 0.5f, beta = n % 2 ? 0 : 2;
    int bad = test_bad;
    struct weight g = weight_new(t, out, in);
    struct bench b = bench_new(2, linear_scratch());
    float *x = numbers(n * in, 21), *y = numbers(n * out, 22), *dx = numbers(n * in, 23);
    float *dw = numbers(out * in, 24);
    double *wy = malloc((size_t)(n * out) * 8), *wx = malloc((size_t)(n * in) * 8);
    double *ww = malloc((size_t)(out * in) * 8);
    float *dy = numbers(n * out, 25);
    bool half = tile && tile->rounds, rounds = half && n > FEW_ROWS_HALF;
    float *sx = seen(x, n * in, half), *sy = seen(dy, n * out, half);
    float *sw = seen(g.value, in * out, half);
    float *fx = rounds ? sx : x, *fw = rounds ? sw : g.value;
    int narrow = MIN(in, out) <= LOW_RANK;       /* in float32 always */
    float *gx = narrow ? x : sx, *gy = narrow ? dy : sy;
    for (int64_t i = 0; i < n; i++)
        for (int64_t o = 0; o < out; o++) {
            double s = 0;
            for (int64_t j = 0; j < in; j++) s += (double)fx[i * in + j] * fw[o * in + j];
            wy[i * out + o] = alpha * s + beta * (double)y[i * out + o];
        }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < in; j++) {
            double s = 0;
            for (int64_t o = 0; o < out; o++) s += (double)sy[i * out + o] * sw[o * in + j];
            wx[i * in + j] = alpha * s + beta * (double)dx[i * in + j];
        }
    for (int64_t o = 0; o < out; o++)
        for (int64_t j = 0; j < in; j++) {
            double s = 0;
            for (int64_t i = 0; i < n; i++) s += (double)gy[i * out + o] * gx[i * in + j];
            ww[o * in + j] = alpha * s + (double)dw[o * in + j];
        }
    if (beta == 0) {
        for (int64_t i = 0; i < n * out; i++) y[i] = NAN;
        for (int64_t i = 0; i < n * in; i++) dx[i] = NAN;
    }
    linear_forward(&b.c, y, x, &g.w, n, alpha, beta);
    linear_dx(&b.c, dx, dy, &g.w, n, alpha, beta);
    linear_dw(&b.c, dw, dy, x, n, out, in, alpha);
    CHECK_NEAR(worst_of(y, wy, n * out), 0, 2e-5);
    CHECK_NEAR(worst_of(dx, wx, n * in), 0, 2e-5);
    CHECK_NEAR(worst_of(dw, ww, out * in), 0, 2e-5);
    if (test_bad > bad) printf("  (%s n %d out %d in %d, %s)\n", t->name, (int)n, (int)out, (int)in,
                               blas->name);
    bench_free(&b);
    weight_free(&g);
    free(x); free(y); free(dx); free(dw); free(wy); free(wx); free(ww); free(dy);
    free(sx); free(sy); free(sw);
}

static void linear_every_type(void)
{
    for (int i = 0; qtypes[i]; i++) {
        if (!qtypes[i]->to_f32) continue;
        int64_t in = qtypes[i]->block == 1 ? 33 : qtypes[i]->block * 2;
        check_linear(qtypes[i], 1, 37, in);
        check_linear(qtypes[i], 4, 8, in);
        check_linear(qtypes[i], 70, 67, in);
        if (!qtypes[i]->flat) continue;
        check_linear(qtypes[i], 1, 37, 75);       /* rows that are no whole blocks */
        check_linear(qtypes[i], 70, 67, 75);
        check_linear(qtypes[i], 40, 70, 500);
    }
}

/* Shapes that make several tiles and several panels. */
static void linear_large(void)
{
    check_linear(&qtype_f32, 130, 160, 192);
    check_linear(&qtype_bf16, 260, 192, 320);
    check_linear(qtype_by_name("Q8_0"), 129, 600, 512);
    check_linear(qtype_by_name("Q4_K"), 40, 2100, 512);
    check_linear(&qtype_f32, 300, 16, 96);
    check_linear(&qtype_f32, 300, 96, 16);
}

static void linear_unaligned(void)
{
    struct weight g = weight_new(&qtype_f32, 40, 24);
    char *odd = malloc(40 * 24 * 4 + 1);
    memcpy(odd + 1, g.w.data, 40 * 24 * 4);
    struct matrix w = {&qtype_f32, odd + 1, 40, 24};
    struct bench b = bench_new(1, linear_scratch());
    float *x = numbers(9 * 24, 1), y[9 * 40], z[9 * 40];
    linear_forward(&b.c, y, x, &g.w, 9, 1, 0);
    linear_forward(&b.c, z, x, &w, 9, 1, 0);
    CHECK(!memcmp(y, z, sizeof y));
    linear_forward(&b.c, y, x, &g.w, 2, 1, 0);
    linear_forward(&b.c, z, x, &w, 2, 1, 0);
    CHECK(!memcmp(y, z, sizeof y));
    bench_free(&b);
    weight_free(&g);
    free(odd);
    free(x);
}

/* --- a low-rank term: in one pass as step by step */

static void check_low_rank(const struct qtype *t, int64_t n, int64_t out, int64_t in, int64_t r)
{
    const float s = 0.75f;
    struct weight g = weight_new(t, out, in);
    float *fa = numbers(r * in, 41), *fb = numbers(out * r, 42), *x = numbers(n * in, 43);
    const struct matrix a = { &qtype_f32, fa, r, in }, b = { &qtype_f32, fb, out, r };
    float *dy = numbers(n * out, 44), *y = numbers(n * out, 45), *low = numbers(n * r, 46);
    float *dx = numbers(n * in, 47), *y2 = numbers(n * out, 48), *low2 = numbers(n * r, 49);
    float *dx2 = numbers(n * in, 47), *db = numbers(out * r, 50), *db2 = numbers(out * r, 50);
    struct bench c = bench_new(2, linear_scratch());
    low_rank_forward(&c.c, y, low, x, &g.w, &a, &b, n, s);
    linear_forward(&c.c, y2, x, &g.w, n, 1, 0);
    linear_forward(&c.c, low2, x, &a, n, s, 0);
    linear_forward(&c.c, y2, low2, &b, n, 1, 1);
    CHECK_NEAR(apart(low, low2, n * r), 0, 2e-5);
    CHECK_NEAR(apart(y, y2, n * out), 0, 1e-4);
    low_rank_dx(&c.c, dx, low, dy, &g.w, &a, &b, n, s, 1, db, low2);
    linear_dw(&c.c, db2, dy, low2, n, out, r, 1);
    linear_dx(&c.c, dx2, dy, &g.w, n, 1, 1);
    linear_dx(&c.c, low2, dy, &b, n, s, 0);
    linear_dx(&c.c, dx2, low2, &a, n, 1, 1);
    CHECK_NEAR(apart(low, low2, n * r), 0, 2e-5);
    CHECK_NEAR(apart(dx, dx2, n * in), 0, 1e-4);
    CHECK_NEAR(apart(db, db2, out * r), 0, 5e-5);
    bench_free(&c);
    weight_free(&g);
    free(fa); free(fb); free(x); free(dy); free(y); free(low); free(dx); free(y2); free(low2);
    free(dx2); free(db); free(db2);
}

static void low_rank_in_one_pass(void)
{
    check_low_rank(&qtype_f32, 70, 67, 33, 5);
    check_low_rank(&qtype_f32, 3, 40, 24, 4);
    check_low_rank(qtype_by_name("Q4_1"), 300, 200, 608, 16);
    check_low_rank(qtype_by_name("Q4_K"), 130, 70, 512, 128);
    check_low_rank(&qtype_bf16, 1100, 100, 90, 8);
    check_low_rank(&qtype_f32, 60, 150, 140, 130);      /* beyond LOW_RANK */
}

/* --- with x = act(gate) * up that is not stored: the same bits as with one that is */

static void check_gated(const struct qtype *t, int64_t n, int64_t out, int64_t in, int64_t r,
                        int threads)
{
    struct weight g = weight_new(t, out, in);
    float *fa = numbers(r * in, 41), *fb = numbers(out * r, 42), *gate = numbers(n * in, 43);
    float *up = numbers(n * in, 44), *x = numbers(n * in, 45), *dx = numbers(n * in, 46);
    const struct matrix a = { &qtype_f32, fa, r, in }, b = { &qtype_f32, fb, out, r };
    float *y = numbers(n * out, 47), *y2 = numbers(n * out, 48), *low = numbers(n * r, 49);
    float *low2 = numbers(n * r, 50), *da = numbers(r * in, 51), *da2 = numbers(r * in, 51);
    float *du = numbers(n * in, 52), *dg2 = numbers(n * in, 53), *du2 = numbers(n * in, 52);
    struct bench c = bench_new(threads, linear_scratch());
    const struct gated both = { gate, up, ACT_SILU };
    c.c.k->glu(x, gate, up, n * in, ACT_SILU);
    low_rank_forward(&c.c, y, low, x, &g.w, &a, &b, n, 0.5f);
    gated_forward(&c.c, y2, low2, &both, &g.w, &a, &b, n, 0.5f);
    CHECK_NEAR(apart(y, y2, n * out), 0, n <= FEW_ROWS ? 1e-2 : 0);
    CHECK_NEAR(apart(low, low2, n * r), 0, n <= FEW_ROWS ? 1e-2 : 0);
    linear_dw(&c.c, da, low, x, n, r, in, 1);
    c.c.k->glu_back(dg2, du2, NULL, dx, gate, up, 0, 1, n * in, ACT_SILU);
    const struct gated_grads d = { dx, du, da2, dx, low, 0, 1 };
    gated_backward(&c.c, &both, &d, n, in, r);
    CHECK(!memcmp(dg2, dx, (size_t)(n * in) * 4) && !memcmp(du2, du, (size_t)(n * in) * 4));
    CHECK_NEAR(apart(da, da2, r * in), 0, 1e-5);
    bench_free(&c);
    weight_free(&g);
    free(fa); free(fb); free(gate); free(up); free(x); free(dx); free(y); free(y2); free(low);
    free(low2); free(da); free(da2); free(du); free(dg2); free(du2);
}

static void gated_as_stored(void)
{
    static const int threads[] = { 1, 2, 3, 8 };
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        struct compute c = { .k = kernels, .blas = blas, .tile = tile };
        if (!low_rank_gated(&c, 1)) return;
        check_gated(&qtype_f32, 70, 67, 33, 5, threads[i]);
        check_gated(&qtype_f32, 3, 40, 24, 4, threads[i]);
        check_gated(qtype_by_name("Q4_1"), 300, 200, 3040, 16, threads[i]);
        check_gated(&qtype_bf16, 1100, 100, 401, 128, threads[i]);
    }
}

/* Gradients that share x, two of them of one factor, have the bits of each by itself. */
static void thin_at_once(void)
{
    enum { ROWS = 75, IN = 203, RANK = 16 };
    static const int64_t rank[THINS] = { 5, RANK, RANK, 8 };
    float *x = numbers(ROWS * IN, 51), *dy = numbers(THINS * ROWS * RANK, 52);
    float *got = numbers(THINS * RANK * IN, 53), *want = numbers(THINS * RANK * IN, 53);
    struct bench c = bench_new(3, linear_scratch());
    struct thin t[THINS];
    for (int k = 0; k < THINS; k++) {
        int64_t at = (k == 2 ? 1 : k) * RANK * IN;
        t[k] = (struct thin){ got + at, dy + k * ROWS * RANK, rank[k] };
    }
    for (int k = 0; k < THINS; k++)
        linear_dw(&c.c, want + (t[k].dw - got), t[k].dy, x, ROWS, rank[k], IN, 1);
    thin_dws(&c.c, t, THINS, x, ROWS, IN);
    CHECK(!memcmp(got, want, THINS * RANK * IN * sizeof *got));
    bench_free(&c);
    free(x); free(dy); free(got); free(want);
}

/* --- threads */

/* Nor do they on how much room the panels have. */
static void same_bits(const struct qtype *t, int64_t n, int64_t out, int64_t in)
{
    static const int threads[] = {1, 2, 3, 8, 2};
    struct weight g = weight_new(t, out, in);
    int64_t side = n * out + n * in, total = 2 * side + out * (in + 8), most = MAX(n, MAX(in, out));
    float *x = numbers(n * in, 31), *dy = numbers(n * out, 32), *low = numbers(8 * most, 36);
    float *fa = numbers(8 * in, 34), *fb = numbers(out * 8, 35), *first = NULL;
    float *dlow = numbers(8 * most, 37);
    const struct matrix ma = { &qtype_f32, fa, 8, in }, mb = { &qtype_f32, fb, out, 8 };
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        panels_bytes = i + 1 < ARRAY_LEN(threads) ? PANELS_MIN : linear_panels(n, in, out);
        struct bench b = bench_new(threads[i], linear_scratch());
        float *r = numbers(total, 33), *more = r + side + out * in;
        linear_forward(&b.c, r, x, &g.w, n, 1, 0);
        linear_dx(&b.c, r + n * out, dy, &g.w, n, 1, 1);
        linear_dw(&b.c, r + side, dy, x, n, out, in, 1);
        low_rank_forward(&b.c, more, low, x, &g.w, &ma, &mb, n, 0.5f);
        low_rank_dx(&b.c, more + n * out, dlow, dy, &g.w, &ma, &mb, n, 0.5f, 0, more + side, low);
        if (first) CHECK(!memcmp(first, r, (size_t)total * 4));
        if (first) free(r);
        else first = r;
        bench_free(&b);
    }
    panels_bytes = PANELS_MIN;
    free(first); free(x); free(dy); free(low); free(dlow); free(fa);
    free(fb);
    weight_free(&g);
}

static void bits_do_not_depend_on_threads(void)
{
    same_bits(&qtype_f32, 256, 288, 192);
    same_bits(&qtype_f16, 200, 288, 192);
    same_bits(qtype_by_name("Q4_K"), 100, 320, 512);
    same_bits(&qtype_f32, 512, 16, 200);
    same_bits(&qtype_f32, 1100, 200, 600);
    same_bits(qtype_by_name("Q4_1"), 3, 700, 512);
}

static void mark(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    for (int64_t i = begin; i < end; i++) ((int *)arg)[i]++;
}

static void rows_are_shared_out(void)
{
    int seen[100] = {0};
    struct bench b = bench_new(3, 64);
    compute_rows(&b.c, 100, 7, mark, seen);
    compute_rows(&b.c, 0, 7, mark, seen);
    compute_rows(&b.c, 100, 0, mark, seen);
    for (int i = 0; i < 100; i++) CHECK_EQ(seen[i], 2);
    CHECK((char *)compute_scratch(&b.c, 2) == (char *)b.c.scratch + 128);
    bench_free(&b);
}

/* --- finding */

static void wishes(void)
{
    struct blas *b = NULL;
    char advice[320];
    CHECK(blas_open(&host, "./no/such/blas.so", &b, advice, sizeof advice) < 0);
    CHECK(b == NULL);
    CHECK(blas_open(&host, "libm.so.6", &b, advice, sizeof advice) < 0);
    CHECK_EQ(blas_open(&host, "none", &b, advice, sizeof advice), 0);
    CHECK(b && !b->lib && !advice[0]);
    CHECK_STR(b ? b->name : "", "built-in");
    blas_close(&host, b);
    blas_close(&host, NULL);
}

/* One row and several, whole blocks and not, by every level's kernels. */
static void few_rows_at_every_level(void)
{
    const struct kernels *best = kernels;
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!cpu_has((enum cpu_level)l) || !kernels_get((enum cpu_level)l)) continue;
        kernels = kernels_get((enum cpu_level)l);
        for (int64_t n = 1; n <= FEW_ROWS; n += n < 5 ? 1 : 4) {
            check_linear(&qtype_f32, n, 37, 75);
            check_linear(&qtype_f16, n, 9, 75);
            check_linear(qtype_by_name("NF4"), n, 37, 75);
            check_linear(qtype_by_name("Q4_1"), n, 70, 96);
            check_linear(qtype_by_name("Q6_K"), n, 11, 4608);
        }
    }
    kernels = best;
}

static void run_all(void)
{
    RUN(sgemm_is_right);
    RUN(sgemm_of_nothing);
    RUN(linear_every_type);
    RUN(few_rows_at_every_level);
    RUN(linear_large);
    RUN(linear_unaligned);
    RUN(low_rank_in_one_pass);
    RUN(thin_at_once);
    RUN(gated_as_stored);
    RUN(bits_do_not_depend_on_threads);
    RUN(rows_are_shared_out);
}

/* Every set of tiles beside the levels' that this processor has, and the twin of those of
 * bfloat16. */
static void unit_tiles(void)
{
    const struct tile *all[] = { &tile_pair_c, &tile_pair, &tile_amx, &tile_split };
    int amx = cpu_has_unit(UNIT_AMX), has[] = { 1, cpu_has_unit(UNIT_PAIRS), amx, amx };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (!has[i] || !all[i]->sum) continue;
        tile = all[i];
        int bad = test_bad;
        linear_every_type();
        linear_large();
        low_rank_in_one_pass();
        gated_as_stored();
        bits_do_not_depend_on_threads();
        if (test_bad > bad) printf("  (%s)\n", tile->name);
    }
    tile = NULL;
}

int main(void)
{
    struct blas *b;
    char advice[320];
    host_init(&host, NULL);
    kernels = kernels_get(cpu_best());
    RUN(wishes);
    RUN(builtin_levels);
    CHECK_EQ(blas_open(&host, "none", &b, advice, sizeof advice), 0);
    blas = b;
    run_all();
    blas_close(&host, b);
    CHECK_EQ(blas_open(&host, NULL, &b, advice, sizeof advice), 0);
    blas = b;
    printf("%s %s%s%s\n", b->name, b->core, advice[0] ? ": " : "", advice);
    if (b->lib) run_all();
    RUN(unit_tiles);
    blas_close(&host, b);
    CHECK_EQ(atomic_load(&host.mem.live), 0);
    return TEST_END();
}
