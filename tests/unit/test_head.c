/* Cross entropy without logits against a loop in double: odd sizes, every level and
 * precision, stored types, outputs before guards, equal bits for any number of threads and for
 * a row alone. */
#include "base/rng.h"
#include "kernel/kernel.h"
#include "kernel/tile.h"
#include "test.h"

#include <stdlib.h>

struct shape { int64_t n, v, d; const struct qtype *type; int bias; float size; };
struct result { float *loss, *dh; uint8_t *hit; };

static struct host host;
static struct blas *blas[2];                 /* built in, best found */
static struct compute compute;
static const float guard = 12345.0f;
enum { GUARD = 8, STEPS = 4 };

static float *numbers(int64_t n, float size, uint64_t stream)
{
    float *x = malloc((size_t)MAX(n, 1) * sizeof *x);
    rng_fill_uniform(x, n, -size, size, 7, stream);
    return x;
}

static struct result result_new(int64_t n, int64_t d)
{
    struct result r = { malloc((size_t)(n + GUARD) * 4), malloc((size_t)(n * d + GUARD) * 4),
                        malloc((size_t)(n + GUARD)) };
    for (int64_t i = 0; i < n + GUARD; i++) r.loss[i] = guard, r.hit[i] = 77;
    for (int64_t i = 0; i < n * d + GUARD; i++) r.dh[i] = i < n * d ? NAN : guard;
    return r;
}

static void result_free(struct result *r)
{
    free(r->loss);
    free(r->dh);
    free(r->hit);
}

/* With scratch and work that hold no number before. */
static struct result run(struct head h, int threads, int gradient)
{
    struct result r = result_new(h.n, h.w->cols);
    int64_t work = head_work(h.w, h.n, gradient) / 64 * 64 + 64;
    compute.scratch_each = div_up(MAX(head_scratch(h.w), linear_scratch()), 64) * 64;
    compute.scratch = aligned_alloc(64, (size_t)(compute.scratch_each * threads));
    char *memory = aligned_alloc(64, (size_t)work + 64);
    memset(compute.scratch, 255, (size_t)(compute.scratch_each * threads));
    memset(memory, 255, (size_t)work);
    memset(memory + work, 78, 64);
    CHECK_EQ(pool_new(&host, threads, &compute.pool), 0);
    h.loss = r.loss;
    h.hit = r.hit;
    h.dh = gradient ? r.dh : NULL;
    for (int s = 0; s < STEPS; s++) head_loss(&compute, &h, memory, s, STEPS);
    for (int i = 0; i < GUARD; i++)
        CHECK(r.loss[h.n + i] == guard && r.hit[h.n + i] == 77 &&
              r.dh[h.n * h.w->cols + i] == guard && memory[work + i] == 78);
    pool_free(compute.pool);
    free(compute.scratch);
    free(memory);
    return r;
}

/* Row i against a loop: the largest errors of loss and gradient. */
static void row_errors(const struct head *h, const float *w, const struct result *r, int64_t i,
                       double *loss, double *gradient)
{
    int64_t v = h->w->rows, d = h->w->cols, best = 0;
    double *z = malloc((size_t)v * sizeof *z), *dh = calloc((size_t)d, sizeof *dh), sum = 0;
    for (int64_t k = 0; k < v; k++) {
        z[k] = h->bias ? (double)h->bias[k] : 0;
        for (int64_t j = 0; j < d; j++) z[k] += (double)h->h[i * d + j] * (double)w[k * d + j];
        if (z[k] > z[best]) best = k;
    }
    for (int64_t k = 0; k < v; k++) sum += exp(z[k] - z[best]);
    for (int64_t k = 0; k < v; k++) {
        double p = exp(z[k] - z[best]) / sum - (k == h->target[i]);
        for (int64_t j = 0; j < d; j++) dh[j] += (double)h->scale * p * (double)w[k * d + j];
    }
    double want = log(sum) + z[best] - z[h->target[i]];
    *loss = fmax(*loss, fabs((double)r->loss[i] - want));
    for (int64_t j = 0; j < d; j++)
        *gradient = fmax(*gradient, fabs((double)r->dh[i * d + j] - dh[j]));
    if (!compute_half(&compute)) CHECK_EQ(r->hit[i], best == h->target[i]);
    free(z);
    free(dh);
}

static int same(const struct result *a, const struct result *b, int64_t n, int64_t d)
{
    return !memcmp(a->loss, b->loss, (size_t)n * 4) && !memcmp(a->hit, b->hit, (size_t)n) &&
           !memcmp(a->dh, b->dh, (size_t)(n * d) * 4);
}

static void check(struct shape s)
{
    int64_t bytes = 0;
    float *x = numbers(s.n * s.d, s.size, 1), *w = numbers(s.v * s.d, 1, 2);
    float *b = numbers(s.v, 1, 3);
    int32_t *target = malloc((size_t)s.n * sizeof *target);
    for (int64_t i = 0; i < s.n; i++) target[i] = (int32_t)((i * 7001 + i * i) % s.v);
    if (s.n > 2) target[1] = 0, target[2] = (int32_t)s.v - 1;
    CHECK(qtype_bytes(s.type, s.v * s.d, &bytes));
    void *stored = s.type == &qtype_f32 ? memcpy(malloc((size_t)bytes), w, (size_t)bytes)
                                        : malloc((size_t)bytes);
    if (s.type != &qtype_f32) {
        s.type->from_f32(stored, w, s.v * s.d);
        qtype_expand(s.type, w, stored, 0, s.v * s.d);
    }
    /* A row of W as h[0]: its logit is the largest by far, and a loss near 0. */
    for (int64_t j = 0; j < s.d; j++) x[j] = 4 * w[(int64_t)target[0] * s.d + j];
    const struct matrix m = { s.type, stored, s.v, s.d };
    struct head h = { .h = x, .bias = s.bias ? b : NULL, .w = &m, .target = target, .n = s.n,
                      .scale = 0.5f };
    struct result r = run(h, 1, 1);
    double loss = 0, gradient = 0;
    for (int64_t i = 0; i < s.n; i++) row_errors(&h, w, &r, i, &loss, &gradient);
    double near = (compute_half(&compute) ? 8e-3 : 1e-6) * sqrt((double)s.d) *
                  (double)MAX(s.size, 1);
    CHECK_NEAR(loss, 0, near * 4);
    CHECK_NEAR(gradient, 0, near);
    static const int threads[] = { 2, 3, 8 };
    for (size_t k = 0; k < ARRAY_LEN(threads); k++) {
        struct result other = run(h, threads[k], 1);
        CHECK(same(&r, &other, s.n, s.d));
        result_free(&other);
    }
    struct result only = run(h, 2, 0);
    CHECK(!memcmp(r.loss, only.loss, (size_t)s.n * 4) && !memcmp(r.hit, only.hit, (size_t)s.n));
    result_free(&only);
    h.h += (s.n - 1) * s.d;
    h.target += s.n - 1;
    h.n = 1;
    only = run(h, 2, 1);
    const struct result last = { r.loss + s.n - 1, r.dh + (s.n - 1) * s.d, r.hit + s.n - 1 };
    if (!compute.blas->lib || compute.k != kernels_get(CPU_C))
        CHECK(same(&last, &only, 1, s.d));
    result_free(&only);
    result_free(&r);
    free(x); free(w); free(b); free(target); free(stored);
}

static void shapes(void)
{
    static const struct shape list[] = {
        { 1, 2, 1, &qtype_f32, 0, 1 },     { 3, 31, 5, &qtype_f32, 1, 1 },
        { 17, 257, 33, &qtype_f32, 0, 2 }, { 130, 515, 64, &qtype_f32, 1, 1 },
        { 70, 4099, 97, &qtype_f32, 0, 1 }, { 9, 13001, 200, &qtype_f32, 0, 3 },
        { 33, 1000, 416, &qtype_bf16, 0, 1 }, { 12, 700, 96, &qtype_f16, 1, 1 },
    };
    for (size_t i = 0; i < ARRAY_LEN(list); i++) check(list[i]);
    const struct qtype *q = qtype_by_name("Q4_1");
    check((struct shape){ 40, 901, 64, q, 0, 1 });
}

/* Of equal logits the first is the likeliest; where h is no number, so is the loss. */
static void ties(void)
{
    enum { N = 3, V = 600, D = 4 };
    float w[V * D], x[N * D] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, NAN, 1, 1 };
    int32_t target[N] = { 0, 1, 0 };
    for (int i = 0; i < V * D; i++) w[i] = 1;
    const struct matrix m = { &qtype_f32, w, V, D };
    struct result r = run((struct head){ .h = x, .w = &m, .target = target, .n = N, .scale = 1 }, 2,
                          1);
    CHECK_NEAR(r.loss[0], log(V), 1e-5);
    CHECK(r.hit[0] == 1 && r.hit[1] == 0);
    CHECK(isnan(r.loss[2]) && isnan(r.dh[2 * D]));
    result_free(&r);
}

static void all_levels(void)
{
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!cpu_has((enum cpu_level)l) || !(compute.k = kernels_get((enum cpu_level)l))) continue;
        shapes();
        ties();
    }
}

/* Every set of tiles beside the levels' that this processor has, and the twin of those of
 * bfloat16. */
static void unit_tiles(void)
{
    const struct tile *all[] = { &tile_pair_c, &tile_pair, &tile_amx, &tile_split };
    int amx = cpu_has_unit(UNIT_AMX), has[] = { 1, cpu_has_unit(UNIT_PAIRS), amx, amx };
    compute.k = kernels_get(cpu_best());
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (!has[i] || !all[i]->sum) continue;
        compute.tile = all[i];
        shapes();
    }
    compute.tile = NULL;
}

int main(void)
{
    char advice[320];
    host_init(&host, NULL);
    CHECK_EQ(blas_open(&host, "none", &blas[0], advice, sizeof advice), 0);
    CHECK_EQ(blas_open(&host, NULL, &blas[1], advice, sizeof advice), 0);
    for (int i = 0; i < 2; i++) {
        compute.blas = blas[i];
        RUN(all_levels);
        if (!i) RUN(unit_tiles);
        blas_close(&host, blas[i]);
    }
    CHECK_EQ(atomic_load(&host.mem.live), 0);
    return TEST_END();
}
