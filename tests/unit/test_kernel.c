/* Every slot of every kernel table that this processor runs, against plain
 * loops in double: odd sizes, poisoned borders, gradients stored over NaN,
 * outputs in place of inputs. */
#include <float.h>
#include <stdlib.h>

#include "kernel/kernel.h"
#include "test.h"

enum { MAX_N = 8192, GUARD = 37, SLOTS = 8 };
static const int64_t sizes[] = {0, 1, 2, 3, 15, 16, 17, 31, 33, 100, 257, 1000};
static const struct kernels *k;          /* the table under test */
static uint32_t seed = 1;

static float rnd(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 8388608.0f - 1.0f;
}

/* --- buffers whose surroundings are watched */
static float pool[SLOTS][GUARD + MAX_N + GUARD];
static const uint32_t poison = 0x7fc0dead;

/* Slot s, all NaN. */
static float *nans(int s)
{
    for (size_t i = 0; i < ARRAY_LEN(pool[s]); i++) memcpy(&pool[s][i], &poison, 4);
    return pool[s] + GUARD;
}

static float *randoms(int s, int64_t n)
{
    float *x = nans(s);
    for (int64_t i = 0; i < n; i++) x[i] = 2.0f * rnd();
    return x;
}

static float *copy_of(int s, const float *x, int64_t n)
{
    float *y = nans(s);
    memcpy(y, x, (size_t)n * sizeof *y);
    return y;
}

static bool is_poison(const float *x)
{
    return !memcmp(x, &poison, 4);
}

static void check_border(int s, int64_t n, int line)
{
    int bad = 0;
    for (int64_t i = 0; i < (int64_t)ARRAY_LEN(pool[s]); i++)
        if ((i < GUARD || i >= GUARD + n) && !is_poison(&pool[s][i])) bad++;
    if (bad) {
        test_bad++;
        printf("line %d: %s wrote %d elements outside of %lld\n", line, k->name, bad, (long long)n);
    }
}
#define BORDER(s, n) check_border(s, n, __LINE__)

static void check_value(double got, double want, double tol, int line, int64_t n, int64_t i)
{
    if (fabs(got - want) <= tol * (1.0 + fabs(want))) return;
    test_bad++;
    printf("line %d: %s n %lld [%lld] is %.9g, expected %.9g\n", line, k->name, (long long)n,
           (long long)i, got, want);
}
#define VALUE(got, want, tol, n, i) check_value(got, want, tol, __LINE__, n, i)
#define EACH_SIZE(n) \
    for (size_t size_ = 0; size_ < ARRAY_LEN(sizes); size_++) \
        for (int64_t n = sizes[size_], once_ = 1; once_; once_ = 0)

/* --- vectors */
static void test_vectors(void)
{
    EACH_SIZE(n) {
        float *a = randoms(0, n), *b = randoms(1, n), *old = randoms(2, n), *y;
        k->fill(y = nans(3), 1.5f, n);
        for (int64_t i = 0; i < n; i++) VALUE(y[i], 1.5, 0, n, i);
        BORDER(3, n);
        k->add(y = nans(3), a, b, n);
        for (int64_t i = 0; i < n; i++) VALUE(y[i], (double)a[i] + b[i], 1e-7, n, i);
        BORDER(3, n);
        for (int add = 0; add < 2; add++) {
            k->axpy(y = add ? copy_of(3, old, n) : nans(3), a, 0.7f, add, n);
            for (int64_t i = 0; i < n; i++)
                VALUE(y[i], (add ? old[i] : 0) + 0.7 * a[i], 2e-7, n, i);
            BORDER(3, n);
            k->mul(y = add ? copy_of(3, old, n) : nans(3), a, b, add, n);
            for (int64_t i = 0; i < n; i++)
                VALUE(y[i], (add ? old[i] : 0) + (double)a[i] * b[i], 2e-7, n, i);
            BORDER(3, n);
        }
        y = copy_of(3, a, n);
        k->add(y, y, y, n);
        for (int64_t i = 0; i < n; i++) VALUE(y[i], 2.0 * a[i], 0, n, i);
        k->mul(y, y, b, 0, n);
        for (int64_t i = 0; i < n; i++) VALUE(y[i], 2.0 * a[i] * b[i], 1e-7, n, i);
    }
}

static void test_reductions(void)
{
    EACH_SIZE(n) {
        float *a = randoms(0, n), *b = randoms(1, n);
        double dot = 0, squares = 0;
        for (int64_t i = 0; i < n; i++) {
            dot += (double)a[i] * b[i];
            squares += (double)a[i] * a[i];
        }
        VALUE(k->dot(a, b, n), dot, 1e-5, n, 0);
        VALUE(k->sum_squares(a, n), squares, 1e-13, n, 0);
    }
}

static void test_finite(void)
{
    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    EACH_SIZE(n) {
        float *a = randoms(0, n);
        for (int64_t i = 0; i < n; i++) a[i] *= i % 3 ? 1e38f : 1e-42f;
        CHECK(k->finite(a, n));
        for (int64_t i = 0; i < n; i++) {
            float keep = a[i];
            a[i] = wrong[i % 3];
            if (k->finite(a, n)) VALUE(1, 0, 0, n, i);
            a[i] = keep;
        }
    }
}

/* --- activations */
static double ref_act(enum act kind, double x)
{
    double c = sqrt(2 / M_PI);
    switch (kind) {
    case ACT_SILU: return x / (1 + exp(-x));
    case ACT_GELU: return x * 0.5 * erfc(-x / sqrt(2));
    case ACT_GELU_TANH: return 0.5 * x * (1 + tanh(c * (x + 0.044715 * x * x * x)));
    case ACT_RELU: return x > 0 ? x : 0;
    case ACT_TANH: return tanh(x);
    case ACT_SIGMOID: return 1 / (1 + exp(-x));
    case ACT_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    default: return x;
    }
}

static double ref_slope(enum act kind, double x)
{
    double s = 1 / (1 + exp(-x)), c = sqrt(2 / M_PI);
    double t = tanh(c * (x + 0.044715 * x * x * x)), t2 = 1 - t * t;
    double q = 1 / (1 + exp(-1.702 * x));
    switch (kind) {
    case ACT_SILU: return s + x * s * (1 - s);
    case ACT_GELU: return 0.5 * erfc(-x / sqrt(2)) + x * exp(-0.5 * x * x) / sqrt(2 * M_PI);
    case ACT_GELU_TANH:
        return 0.5 * (1 + t) + (t2 > 0 ? 0.5 * x * t2 * c * (1 + 3 * 0.044715 * x * x) : 0);
    case ACT_RELU: return x > 0;
    case ACT_TANH: return 1 - tanh(x) * tanh(x);
    case ACT_SIGMOID: return s * (1 - s);
    case ACT_QUICK_GELU: return q + 1.702 * x * q * (1 - q);
    default: return 1;
    }
}

static void test_act_sizes(void)
{
    EACH_SIZE(n) for (int kind = 0; kind < ACT_COUNT; kind++) {
        enum act a = (enum act)kind;
        float *x = randoms(0, n), *dy = randoms(1, n), *old = randoms(2, n), *y;
        k->act(y = nans(3), x, n, a);
        for (int64_t i = 0; i < n; i++) VALUE(y[i], ref_act(a, x[i]), 5e-7, n, i);
        BORDER(3, n);
        y = copy_of(3, x, n);
        k->act(y, y, n, a);
        for (int64_t i = 0; i < n; i++) VALUE(y[i], ref_act(a, x[i]), 5e-7, n, i);
        for (int add = 0; add < 2; add++) {
            k->act_back(y = add ? copy_of(3, old, n) : nans(3), dy, x, add, n, a);
            for (int64_t i = 0; i < n; i++)
                VALUE(y[i], (add ? old[i] : 0) + dy[i] * ref_slope(a, x[i]), 1e-6, n, i);
            BORDER(3, n);
        }
        y = copy_of(3, dy, n);
        k->act_back(y, y, x, 0, n, a);
        for (int64_t i = 0; i < n; i++) VALUE(y[i], dy[i] * ref_slope(a, x[i]), 1e-6, n, i);
    }
}

/* The whole range: accuracy, saturation, NaN through. */
static void test_act_range(void)
{
    static const float far[] = {0, 1e-30f, 0.6f, 0.93f, 6, 29.9f, 30.1f, 43, 87.2f, 87.4f, 88.1f,
                                88.8f, 104, 200, 1e4f, 1e13f, 1e30f, 3e38f};
    int64_t n = 0;
    float *x = nans(0), *y, *d, *one = nans(1);
    for (float v = -20; v < 20; v += 0.01f) x[n++] = v + 0.001f * rnd();
    for (size_t i = 0; i < ARRAY_LEN(far); i++) {
        x[n++] = far[i];
        x[n++] = -far[i];
    }
    for (int64_t i = 0; i < n; i++) one[i] = 1;
    for (int kind = 0; kind < ACT_COUNT; kind++) {
        enum act a = (enum act)kind;
        k->act(y = nans(2), x, n, a);
        k->act_back(d = nans(3), one, x, 0, n, a);
        for (int64_t i = 0; i < n; i++) {
            VALUE(y[i], ref_act(a, x[i]), 2.5e-7, kind, i);
            VALUE(d[i], ref_slope(a, x[i]), 1e-6, kind, i);
        }
        float bad = NAN, out = 0;
        k->act(&out, &bad, 1, a);
        CHECK(isnan(out));
        for (int64_t i = 0; i < 32; i++) y[i] = NAN;
        k->act(y, y, 32, a);
        for (int64_t i = 0; i < 32; i++) CHECK(isnan(y[i]));
    }
}

static void test_glu(void)
{
    EACH_SIZE(n) for (int kind = 0; kind < ACT_COUNT; kind++) {
        enum act a = (enum act)kind;
        float *g = randoms(0, n), *u = randoms(1, n), *dy = randoms(2, n), *old = randoms(3, n);
        float *y, *dg, *du;
        k->glu(y = nans(4), g, u, n, a);
        for (int64_t i = 0; i < n; i++) VALUE(y[i], ref_act(a, g[i]) * u[i], 1e-6, n, i);
        BORDER(4, n);
        y = copy_of(4, u, n);
        k->glu(y, g, y, n, a);
        for (int64_t i = 0; i < n; i++) VALUE(y[i], ref_act(a, g[i]) * u[i], 1e-6, n, i);
        for (int mode = 0; mode < 8; mode++) {
            int ag = mode & 1, au = mode >> 1 & 1, skip = mode >> 2;
            dg = ag ? copy_of(4, old, n) : nans(4);
            du = au ? copy_of(5, old, n) : nans(5);
            y = mode % 3 ? NULL : nans(6);
            k->glu_back(skip && ag ? NULL : dg, skip && !ag ? NULL : du, y, dy, g, u, ag, au, n,
                        a);
            for (int64_t i = 0; i < n; i++) {
                if (y) VALUE(y[i], ref_act(a, g[i]) * u[i], 1e-6, n, i);
                double o = old[i], eg = dy[i] * ref_slope(a, g[i]) * u[i];
                if (!(skip && ag)) VALUE(dg[i], (ag ? o : 0) + eg, 2e-6, n, i);
                if (skip && !ag) continue;
                VALUE(du[i], (au ? o : 0) + dy[i] * ref_act(a, g[i]), 2e-6, n, i);
            }
            BORDER(4, n);
            BORDER(5, n);
        }
        dg = copy_of(4, g, n);
        du = copy_of(5, u, n);
        k->glu_back(dg, du, NULL, dy, dg, du, 0, 0, n, a);
        for (int64_t i = 0; i < n; i++) {
            VALUE(dg[i], dy[i] * ref_slope(a, g[i]) * u[i], 2e-6, n, i);
            VALUE(du[i], dy[i] * ref_act(a, g[i]), 2e-6, n, i);
        }
    }
}

static void test_adamw(void)
{
    EACH_SIZE(n) {
        float *w = randoms(0, n), *g = randoms(1, n), *m = nans(2), *v = nans(3);
        static double rw[1000], rm[1000], rv[1000];
        for (int64_t i = 0; i < n; i++) {
            m[i] = v[i] = 0;
            rw[i] = w[i];
            rm[i] = rv[i] = 0;
        }
        for (int t = 1; t <= 5; t++) {
            struct adamw h = {1e-2f, 0.9f, 0.999f, 1e-8f, 0.1f, 0.5f, 1 - pow(0.9, t),
                              1 - pow(0.999, t)};
            k->adamw(w, g, m, v, n, &h);
            for (int64_t i = 0; i < n; i++) {
                double gi = 0.5 * g[i];
                rw[i] *= 1 - 1e-2 * 0.1;
                rm[i] = 0.9 * rm[i] + 0.1 * gi;
                rv[i] = 0.999 * rv[i] + 0.001 * gi * gi;
                rw[i] -= 1e-2 / h.bias1 * rm[i] / (sqrt(rv[i]) / sqrt(h.bias2) + 1e-8);
                VALUE(w[i], rw[i], 5e-7, n, i);
                VALUE(m[i], rm[i], 5e-7, n, i);
                VALUE(v[i] * 1e3, rv[i] * 1e3, 1e-6, n, i);
            }
        }
        for (int s = 0; s < 4; s++) BORDER(s, n);
    }
}

/* --- norms.  Gradients are checked against central differences, in double,
 * of L = sum dy * norm(x). */
enum { ROWS = 3 };

static double norm_loss(const double *x, const float *dy, const float *w, const float *b,
                        int64_t n, double eps, double plus, int layer, double *y)
{
    double mean = 0, squares = 0, loss = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i] / (double)n;
    if (!layer) mean = 0;
    for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    double rstd = 1 / sqrt(squares / (double)n + eps);
    for (int64_t i = 0; i < n; i++) {
        double v = (x[i] - mean) * rstd * ((w ? w[i] : 1) + plus) + (b ? b[i] : 0);
        if (y) y[i] = v;
        loss += dy[i] * v;
    }
    return loss;
}

static double norm_slope(const float *x, const float *dy, const float *w, int64_t n, double eps,
                         double plus, int layer, int64_t i)
{
    static double v[1000];
    const double h = 1e-5;
    for (int64_t j = 0; j < n; j++) v[j] = x[j];
    v[i] += h;
    double up = norm_loss(v, dy, w, NULL, n, eps, plus, layer, NULL);
    v[i] -= 2 * h;
    return (up - norm_loss(v, dy, w, NULL, n, eps, plus, layer, NULL)) / (2 * h);
}

static double norm_value(const float *x, int64_t n, double eps, int layer, int64_t i)
{
    static double v[1000], y[1000];
    static float zero[1000];
    for (int64_t j = 0; j < n; j++) v[j] = x[j];
    norm_loss(v, zero, NULL, NULL, n, eps, 0, layer, y);
    return y[i];
}

static void check_norm_back(int layer, const float *x, const float *dy, const float *w,
                            const float *stats, int64_t n, float eps, float plus, int add)
{
    float *old = randoms(5, ROWS * n), *dx = add ? copy_of(6, old, ROWS * n) : nans(6);
    static float dw[1000], db[1000];
    for (int64_t i = 0; i < n; i++) dw[i] = 1, db[i] = 2;
    if (layer) k->layernorm_back(dx, w ? dw : NULL, db, dy, x, w, stats, add, ROWS, n);
    else k->rmsnorm_back(dx, dw, dy, x, w, stats, add, ROWS, n, plus);
    for (int64_t i = 0; i < n; i++) {
        double sw = 1, sb = 2;
        for (int64_t r = 0; r < ROWS; r++) {
            double o = add ? old[r * n + i] : 0;
            if (n <= 100 || i % 97 == 0) {
                double s = norm_slope(x + r * n, dy + r * n, w, n, eps, plus, layer, i);
                VALUE(dx[r * n + i], o + s, 5e-6, n, i);
            }
            if (n <= 33) sw += dy[r * n + i] * norm_value(x + r * n, n, eps, layer, i);
            sb += dy[r * n + i];
        }
        if (n <= 33 && w) VALUE(dw[i], sw, 2e-6, n, i);
        if (layer) VALUE(db[i], sb, 1e-6, n, i);
    }
    BORDER(6, ROWS * n);
    float *same = copy_of(6, dy, ROWS * n);
    static float apart[ROWS * 1000];
    if (layer) {
        k->layernorm_back(apart, NULL, NULL, dy, x, w, stats, 0, ROWS, n);
        k->layernorm_back(same, NULL, NULL, same, x, w, stats, 0, ROWS, n);
    } else {
        k->rmsnorm_back(apart, NULL, dy, x, w, stats, 0, ROWS, n, plus);
        k->rmsnorm_back(same, NULL, same, x, w, stats, 0, ROWS, n, plus);
    }
    CHECK(!memcmp(same, apart, (size_t)(ROWS * n) * sizeof *same));
}

static void check_norm(int layer, int64_t n, int with_w, int with_b, float plus, int add)
{
    float *x = randoms(0, ROWS * n), *dy = randoms(1, ROWS * n), *stats = nans(4), *y = nans(6);
    float *w = with_w ? randoms(2, n) : NULL, *b = with_b ? randoms(3, n) : NULL;
    const float eps = 1e-2f;
    static double xd[1000], yd[1000];
    if (layer) k->layernorm(y, stats, x, w, b, ROWS, n, eps);
    else k->rmsnorm(y, stats, x, w, ROWS, n, eps, plus);
    BORDER(6, ROWS * n);
    BORDER(4, layer ? 2 * ROWS : ROWS);
    for (int64_t r = 0; r < ROWS; r++) {
        for (int64_t i = 0; i < n; i++) xd[i] = x[r * n + i];
        norm_loss(xd, dy, w, b, n, (double)eps, (double)plus, layer, yd);
        for (int64_t i = 0; i < n; i++) VALUE(y[r * n + i], yd[i], 1e-6, n, i);
    }
    static float kept[ROWS * 1000];
    memcpy(kept, y, (size_t)(ROWS * n) * sizeof *y);
    y = copy_of(6, x, ROWS * n);
    if (layer) k->layernorm(y, stats, y, w, b, ROWS, n, eps);
    else k->rmsnorm(y, stats, y, w, ROWS, n, eps, plus);
    CHECK(!memcmp(kept, y, (size_t)(ROWS * n) * sizeof *y));
    if (n) check_norm_back(layer, x, dy, w, stats, n, eps, plus, add);
}

static void test_norms(void)
{
    EACH_SIZE(n) for (int add = 0; add < 2; add++) {
        check_norm(0, n, 1, 0, 0, add);
        check_norm(0, n, 1, 0, 1, add);
        for (int wb = 0; wb < 4; wb++) check_norm(1, n, wb & 1, wb >> 1, 0, add);
    }
}

/* --- softmax and cross-entropy */
static double ref_lse(const float *z, int64_t n)
{
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) max = MAX(max, (double)z[i]);
    for (int64_t i = 0; i < n; i++) sum += exp(z[i] - max);
    return max + log(sum);
}

static void test_softmax(void)
{
    EACH_SIZE(n) {
        int64_t stride = n + 3;
        float *x = randoms(0, ROWS * stride), *y = copy_of(1, x, ROWS * stride);
        for (int64_t i = 0; i < ROWS * stride; i++) y[i] = x[i] *= 10;
        k->softmax(y, ROWS, n, stride);
        for (int64_t r = 0; r < ROWS && n; r++) {
            double lse = ref_lse(x + r * stride, n);
            for (int64_t i = 0; i < n; i++)
                VALUE(y[r * stride + i], exp(x[r * stride + i] - lse), 4e-7, n, i);
            for (int64_t i = n; i < stride; i++) CHECK(y[r * stride + i] == x[r * stride + i]);
        }
        BORDER(1, ROWS * stride);
    }
}

/* Two scores 0 and v: the relative error of exp. */
static void test_exp(void)
{
    double worst = 0;
    for (float v = 0; v > -87.2f; v -= 0.0137f) {
        float p[2] = {0, v};
        k->softmax(p, 1, 2, 2);
        double want = 1 / (1 + exp(-(double)v));
        worst = MAX(worst, fabs(p[1] / want - 1));
    }
    CHECK_NEAR(worst, 0, 3e-7);
    float far[4] = {1e4f, -1e4f, 1e4f - 200, -INFINITY}, bad[3] = {0, NAN, 1};
    k->softmax(far, 1, 4, 4);
    CHECK(far[0] == 1 && far[1] == 0 && far[2] == 0 && far[3] == 0);
    k->softmax(bad, 1, 3, 3);
    CHECK(isnan(bad[0]));
}

static void test_xent(void)
{
    EACH_SIZE(n) {
        if (!n) continue;
        int64_t stride = n + 5;
        int32_t target[ROWS] = {0, (int32_t)(n / 2), (int32_t)(n - 1)};
        float *x = randoms(0, ROWS * stride), *z = copy_of(1, x, ROWS * stride), *loss = nans(2);
        uint8_t hit[ROWS];
        k->xent(z, loss, hit, target, ROWS, n, stride, 0.25f);
        for (int64_t r = 0; r < ROWS; r++) {
            const float *row = x + r * stride;
            double lse = ref_lse(row, n);
            int64_t best = 0;
            for (int64_t i = 1; i < n; i++)
                if (row[i] > row[best]) best = i;
            VALUE(loss[r], lse - row[target[r]], 2e-7, n, r);
            CHECK_EQ(hit[r], best == target[r]);
            for (int64_t i = 0; i < n; i++)
                VALUE(z[r * stride + i], 0.25 * (exp(row[i] - lse) - (i == target[r])), 1e-7, n, i);
            for (int64_t i = n; i < stride; i++) CHECK(z[r * stride + i] == row[i]);
        }
        BORDER(1, ROWS * stride);
        BORDER(2, ROWS);
        float same[ROWS];
        k->xent(copy_of(1, x, ROWS * stride), same, hit, target, ROWS, n, stride, 0);
        CHECK(!memcmp(same, loss, sizeof same));
    }
}

static void test_xent_edges(void)
{
    float loss;
    uint8_t hit;
    for (int32_t t = 0; t < 40; t++) {       /* ties: the first index wins */
        float z[40];
        for (int i = 0; i < 40; i++) z[i] = i >= 20 ? 3 : -1;
        k->xent(z, &loss, &hit, &t, 1, 40, 40, 1);
        CHECK_EQ(hit, t == 20);
    }
    const int64_t n = 262144;
    const int32_t last = (int32_t)n - 1;
    float *big = malloc((size_t)n * sizeof *big);
    for (int64_t i = 0; i < n; i++) big[i] = 3 * rnd();
    double want = ref_lse(big, n) - big[last];
    k->xent(big, &loss, &hit, &last, 1, n, n, 1);
    CHECK_NEAR(loss / want, 1, 2e-7);
    for (int64_t i = 0; i < n; i++) big[i] = i == last ? 21 : 0;   /* sure of it */
    want = log1p((double)(n - 1) * exp(-21));
    k->xent(big, &loss, &hit, &last, 1, n, n, 1);
    CHECK_NEAR(loss / want, 1, 1e-6);
    CHECK_NEAR(big[last] / expm1(-want), 1, 1e-6);
    free(big);
    float far[3] = {1e4f, -1e4f, -INFINITY}, bad[20] = {0};
    int32_t one = 1;
    k->xent(far, &loss, &hit, &one, 1, 3, 3, 1);
    CHECK(loss == 2e4f && far[0] == 1 && far[1] == -1 && far[2] == 0);
    bad[17] = NAN;
    k->xent(bad, &loss, &hit, &one, 1, 20, 20, 1);
    CHECK(isnan(loss));
}

/* --- rotary embedding */
static void check_rope(int64_t dim, int64_t rot, int pair, int dir, int add)
{
    const int64_t heads = 3, stride = heads * dim + 5, n = ROWS * stride, half = rot / 2;
    float *x = randoms(0, n), *old = randoms(1, n), *y = add ? copy_of(2, old, n) : nans(2);
    float *cs = randoms(3, ROWS * rot);
    const float *tab[ROWS];
    for (int64_t r = 0; r < ROWS; r++) {
        tab[r] = cs + (ROWS - 1 - r) * rot;
        for (int64_t i = 0; i < half; i++) {
            double angle = 3 * rnd();
            cs[r * rot + i] = (float)cos(angle);
            cs[r * rot + half + i] = (float)sin(angle);
        }
    }
    k->rope(y, x, tab, ROWS, heads, dim, rot, pair, dir, add, stride);
    for (int64_t i = 0; i < n; i++) {
        int64_t r = i / stride, c = i % stride, e = c % dim;
        if (c >= heads * dim) {
            CHECK(add ? y[i] == old[i] : is_poison(&y[i]));
            continue;
        }
        int64_t f = pair ? e / 2 : e % MAX(half, 1);
        int second = pair ? (int)(e % 2) : e >= half;
        double want = x[i];
        if (e < rot) {
            double cosine = tab[r][f], sine = dir * (double)tab[r][half + f];
            int64_t other = second ? i - (pair ? 1 : half) : i + (pair ? 1 : half);
            want = x[i] * cosine + x[other] * (second ? sine : -sine);
        }
        VALUE(y[i], want + (add ? old[i] : 0), 5e-7, dim, i);
    }
    BORDER(2, n);
    if (add) return;
    float *same = copy_of(4, x, n);
    k->rope(same, same, tab, ROWS, heads, dim, rot, pair, dir, 0, stride);
    for (int64_t i = 0; i < n; i++)
        if (i % stride < heads * dim) CHECK(same[i] == y[i]);
}

static void test_rope(void)
{
    static const int64_t dims[][2] = {{2, 2}, {3, 2}, {8, 8}, {16, 8}, {34, 34}, {64, 64}, {80, 32},
                                      {128, 128}, {6, 0}};
    for (size_t i = 0; i < ARRAY_LEN(dims); i++)
        for (int mode = 0; mode < 8; mode++)
            check_rope(dims[i][0], dims[i][1], mode & 1, mode & 2 ? -1 : 1, mode >> 2);
}

/* What the level gives is what plain C gives, up to rounding. */
static void test_like_c(void)
{
    const struct kernels *c = kernels_get(CPU_C);
    float *x = randoms(0, 1000), *w = randoms(1, 1000), *y = nans(2), *z = nans(3), s[2], loss[2];
    uint8_t hit;
    int32_t t = 77;
    for (int kind = 0; kind < ACT_COUNT; kind++) {
        k->act(y, x, 1000, (enum act)kind);
        c->act(z, x, 1000, (enum act)kind);
        for (int i = 0; i < 1000; i++) VALUE(y[i], z[i], 2.5e-7, kind, i);
    }
    k->rmsnorm(y, &s[0], x, w, 1, 1000, 1e-6f, 0);
    c->rmsnorm(z, &s[1], x, w, 1, 1000, 1e-6f, 0);
    for (int i = 0; i < 1000; i++) VALUE(y[i], z[i], 5e-7, 1000, i);
    k->xent(copy_of(2, x, 1000), &loss[0], &hit, &t, 1, 1000, 1000, 1);
    c->xent(copy_of(3, x, 1000), &loss[1], &hit, &t, 1, 1000, 1000, 1);
    VALUE(loss[0], loss[1], 1e-7, 1000, 0);
    for (int i = 0; i < 1000; i++) VALUE(y[i], z[i], 1e-7, 1000, i);
}

static void test_tables(void)
{
    CHECK(kernels_get(CPU_C) != NULL);
    CHECK(kernels_get(CPU_LEVELS) == NULL);
    for (int i = 0; i < ACT_COUNT; i++) CHECK(act_names[i] && act_names[i][0]);
    for (int l = 0; l < CPU_LEVELS; l++)
        if (kernels_get((enum cpu_level)l))
            CHECK_STR(kernels_get((enum cpu_level)l)->name, cpu_level_names[l]);
    CHECK(kernels_get(cpu_best()) != NULL);
}

int main(void)
{
    RUN(test_tables);
    for (int l = 0; l < CPU_LEVELS; l++) {
        k = kernels_get((enum cpu_level)l);
        if (!k || !cpu_has((enum cpu_level)l)) continue;
        RUN(test_vectors);
        RUN(test_reductions);
        RUN(test_finite);
        RUN(test_act_sizes);
        RUN(test_act_range);
        RUN(test_glu);
        RUN(test_adamw);
        RUN(test_norms);
        RUN(test_softmax);
        RUN(test_exp);
        RUN(test_xent);
        RUN(test_xent_edges);
        RUN(test_rope);
        RUN(test_like_c);
    }
    return TEST_END();
}
