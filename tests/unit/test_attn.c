/* Attention against plain loops in double, which are checked against finite
 * differences themselves: every mask shape, grouped heads, softcap, gradients
 * stored over NaN or added, and equal bits for any number of threads. */
#include <stdlib.h>

#include "base/host.h"
#include "kernel/kernel.h"
#include "kernel/tile.h"
#include "test.h"

enum mask { FULL, CAUSAL, WINDOW, PACKED, PACKED_WINDOW, CROSS, CACHED, HOLES, MASKS };
struct shape { int nq, nk, heads, kv, dim; enum mask mask; float softcap, size; int bias; };

/* Everything of one call, and its reference. */
struct run {
    struct attn a;
    int64_t n_q, n_k, n_lse, n_b;            /* elements */
    int32_t *lo, *hi, *self;
    float *q, *k, *v, *bias, *dout, *out, *lse, *dq, *dk, *dv, *db, *old_q, *old_k, *old_b;
    double *r_out, *r_lse, *r_dq, *r_dk, *r_dv, *r_db;
};

static struct host host;
static struct blas *blas[2];                 /* built in, best found */
static const struct kernels *kernels;
static const struct tile *tile;              /* of the calls; NULL = the level's */
static uint32_t seed = 1;

static float rnd(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 8388608.0f - 1.0f;
}

static float *randoms(int64_t n, float size)
{
    float *x = malloc((size_t)MAX(n, 1) * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = size * rnd();
    return x;
}

static double *zeros(int64_t n)
{
    return calloc((size_t)MAX(n, 1), sizeof(double));
}

/* Packed: segments of uneven length, each seeing itself causally. */
static void set_ranges(struct run *r, enum mask mask)
{
    static const int lengths[] = {5, 1, 70, 33, 64, 2, 130};
    int start = 0, length = lengths[0], at = 0;
    for (int i = 0; i < r->a.nq; i++) {
        if (i == start + length) {
            start = i;
            length = lengths[++at % 7];
        }
        int nk = (int)r->a.nk, past = nk - (int)r->a.nq, lo = 0, hi = nk;
        switch (mask) {
        case CAUSAL: hi = i + 1; break;
        case WINDOW: lo = MAX(0, i - 20), hi = i + 1; break;
        case PACKED: lo = start, hi = i + 1; break;
        case PACKED_WINDOW: lo = MAX(start, i - 9), hi = MIN(i + 10, start + length); break;
        case CROSS: lo = start * nk / (int)r->a.nq, hi = lo + at % 3 * 7 + 1; break;
        case CACHED: hi = MAX(past - 10, 0) + i + 1; break;   /* the cache has room left */
        case HOLES: lo = i / 3 * 3, hi = i % 7 ? i + 1 : lo; break;
        default: break;
        }
        r->lo[i] = MIN(lo, nk);
        r->hi[i] = MIN(hi, nk);
    }
}

static void run_new(struct run *r, const struct shape *s)
{
    *r = (struct run){
        .a = {.nq = s->nq, .nk = s->nk, .heads = s->heads, .kv_heads = s->kv, .head_dim = s->dim,
              .scale = 1 / sqrtf((float)s->dim), .softcap = s->softcap},
    };
    r->n_q = (int64_t)s->nq * s->heads * s->dim;
    r->n_k = (int64_t)s->nk * s->kv * s->dim;
    r->n_lse = (int64_t)s->nq * s->heads;
    r->a.lo = r->lo = calloc((size_t)s->nq + 1, sizeof *r->lo);
    r->a.hi = r->hi = calloc((size_t)s->nq + 1, sizeof *r->hi);
    set_ranges(r, s->mask);
    /* As if the keys before the queries' own were a cache; the bias fits exactly. */
    int past = MAX(0, s->nk - s->nq), least = 0, most = 0;
    r->a.self = r->self = calloc((size_t)s->nq + 1, sizeof *r->self);
    for (int i = 0; i < s->nq; i++) {
        r->self[i] = i + past;
        if (r->lo[i] >= r->hi[i]) continue;
        least = MIN(least, r->lo[i] - r->self[i]);
        most = MAX(most, r->hi[i] - 1 - r->self[i]);
    }
    r->a.origin = -least;
    r->a.distances = s->bias ? most - least + 1 : 0;
    r->n_b = r->a.distances * s->heads;
    r->bias = randoms(r->n_b, 2 * s->size);
    r->old_b = randoms(r->n_b, 1);
    r->db = randoms(r->n_b, NAN);
    r->r_db = zeros(r->n_b);
    r->q = randoms(r->n_q, s->size);
    r->k = randoms(r->n_k, s->size);
    r->v = randoms(r->n_k, 1);
    r->dout = randoms(r->n_q, 1);
    r->old_q = randoms(r->n_q, 1);
    r->old_k = randoms(r->n_k, 1);
    r->out = randoms(r->n_q, NAN);
    r->lse = randoms(r->n_lse, NAN);
    r->dq = randoms(r->n_q, NAN);
    r->dk = randoms(r->n_k, NAN);
    r->dv = randoms(r->n_k, NAN);
    r->r_out = zeros(r->n_q);
    r->r_lse = zeros(r->n_lse);
    r->r_dq = zeros(r->n_q);
    r->r_dk = zeros(r->n_k);
    r->r_dv = zeros(r->n_k);
    int used = 0;
    for (int i = 0; i < s->nq; i++) used = MAX(used, r->hi[i]);
    for (int64_t i = (int64_t)used * s->kv * s->dim; i < r->n_k; i++) r->k[i] = r->v[i] = NAN;
}

static void run_free(struct run *r)
{
    void *all[] = {r->lo, r->hi, r->q, r->k, r->v, r->dout, r->out, r->lse, r->dq, r->dk,
                   r->dv, r->old_q, r->old_k, r->r_out, r->r_lse, r->r_dq, r->r_dk, r->r_dv,
                   r->self, r->bias, r->db, r->old_b, r->r_db};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) free(all[i]);
}

/* --- reference */
static double ref_score(const struct attn *a, const float *q, const float *k, const float *bias)
{
    double s = 0;
    for (int e = 0; e < a->head_dim; e++) s += (double)q[e] * k[e];
    s = s * (double)a->scale + (bias ? (double)*bias : 0);
    return a->softcap > 0 ? a->softcap * tanh(s / a->softcap) : s;
}

static void ref_row(struct run *r, int64_t i, int h, double *p)
{
    const struct attn *a = &r->a;
    const int dim = a->head_dim, ldk = a->kv_heads * dim, kh = h / (a->heads / a->kv_heads) * dim;
    const int64_t at = (i * a->heads + h) * dim;
    const int64_t from = (a->origin - a->self[i]) * a->heads + h;    /* of key 0 in the bias */
    double max = -INFINITY, sum = 0, delta = 0;
    for (int j = a->lo[i]; j < a->hi[i]; j++) {
        p[j] = ref_score(a, r->q + at, r->k + (int64_t)j * ldk + kh,
                         r->n_b ? &r->bias[from + j * a->heads] : NULL);
        max = MAX(max, p[j]);
    }
    for (int j = a->lo[i]; j < a->hi[i]; j++) sum += exp(p[j] - max);
    double lse = r->r_lse[i * a->heads + h] = max + log(sum);
    for (int j = a->lo[i]; j < a->hi[i]; j++)
        for (int e = 0; e < dim; e++)
            r->r_out[at + e] += exp(p[j] - lse) * r->v[(int64_t)j * ldk + kh + e];
    for (int e = 0; e < dim; e++) delta += r->dout[at + e] * r->r_out[at + e];
    for (int j = a->lo[i]; j < a->hi[i]; j++) {
        const int64_t kt = (int64_t)j * ldk + kh;
        double w = exp(p[j] - lse), dp = 0, t = a->softcap > 0 ? p[j] / a->softcap : 0;
        for (int e = 0; e < dim; e++) dp += (double)r->dout[at + e] * r->v[kt + e];
        double ds = w * (dp - delta) * (1 - t * t);
        if (r->n_b) r->r_db[from + j * a->heads] += ds;
        ds *= (double)a->scale;
        for (int e = 0; e < dim; e++) {
            r->r_dv[kt + e] += w * r->dout[at + e];
            r->r_dq[at + e] += ds * r->k[kt + e];
            r->r_dk[kt + e] += ds * r->q[at + e];
        }
    }
}

static void ref_run(struct run *r)
{
    double *p = zeros(r->a.nk);
    for (int64_t i = 0; i < r->a.nq; i++)
        for (int h = 0; h < r->a.heads; h++) ref_row(r, i, h, p);
    free(p);
}

/* --- the code under test */
static void attn_run(struct run *r, int threads, int which, int backward, int add)
{
    struct compute c = {.k = kernels, .blas = blas[which], .scratch_each = attn_scratch(&r->a),
                        .tile = tile};
    CHECK_EQ(pool_new(&host, threads, &c.pool), PEFT_OK);
    c.scratch = mem_alloc(&host.mem, c.scratch_each * pool_threads(c.pool));
    const float *bias = r->n_b ? r->bias : NULL;
    void *work = malloc((size_t)MAX(attn_forward_work(&r->a), attn_backward_work(&r->a)));
    attn_forward(&c, r->out, r->lse, r->q, r->k, r->v, bias, &r->a, work);
    if (add) {
        memcpy(r->dq, r->old_q, (size_t)r->n_q * sizeof *r->dq);
        memcpy(r->dk, r->old_k, (size_t)r->n_k * sizeof *r->dk);
        memcpy(r->dv, r->old_k, (size_t)r->n_k * sizeof *r->dv);
        if (r->n_b) memcpy(r->db, r->old_b, (size_t)r->n_b * sizeof *r->db);
    }
    struct attn_grads g = {r->dq, r->dk, r->dv, r->n_b ? r->db : NULL, add, add, add, add};
    if (backward)
        attn_backward(&c, &g, r->dout, r->q, r->k, r->v, bias, r->out, r->lse, &r->a, work);
    free(work);
    mem_free(&host.mem, c.scratch);
    pool_free(c.pool);
}

/* `old` (may be NULL) is what was there before an addition. */
static void compare(const char *what, const struct shape *s, const float *got, const double *want,
                    const float *old, int64_t n, double tol)
{
    double worst = 0, size = 1;
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) size = MAX(size, fabs(want[i]));
    for (int64_t i = 0; i < n; i++) {
        double e = fabs(got[i] - want[i] - (old ? old[i] : 0));
        if (e <= worst) continue;            /* a NaN goes on */
        worst = e;
        at = i;
        if (isnan(e)) break;
    }
    if (worst <= tol * size) return;
    test_bad++;
    printf("%s %s nq %d nk %d heads %d/%d dim %d mask %d cap %g: %s[%lld] is %.9g, expected %.9g\n",
           kernels->name, old ? "add" : "store", s->nq, s->nk, s->heads, s->kv, s->dim,
           (int)s->mask, (double)s->softcap, what, (long long)at, (double)got[at], want[at]);
}

static void check_shape(const struct shape *s, double tol)
{
    struct run r;
    run_new(&r, s);
    ref_run(&r);
    for (int which = 0; which < 2; which++) {
        for (int add = 0; add < 2; add++) {
            attn_run(&r, 2, which, 1, add);
            compare("out", s, r.out, r.r_out, NULL, r.n_q, tol);
            compare("dq", s, r.dq, r.r_dq, add ? r.old_q : NULL, r.n_q, tol);
            compare("dk", s, r.dk, r.r_dk, add ? r.old_k : NULL, r.n_k, tol);
            compare("dv", s, r.dv, r.r_dv, add ? r.old_k : NULL, r.n_k, tol);
            compare("dbias", s, r.db, r.r_db, add ? r.old_b : NULL, r.n_b, tol);
        }
        for (int64_t i = 0; i < r.n_lse; i++) {
            int64_t row = i / s->heads;
            if (r.lo[row] >= r.hi[row]) CHECK(r.lse[i] < -1e30f);
            else if (fabs(r.lse[i] - r.r_lse[i]) > tol * (1 + fabs(r.r_lse[i])))
                CHECK_NEAR(r.lse[i], r.r_lse[i], tol);
        }
    }
    run_free(&r);
}

static void test_masks(void)
{
    static const int sizes[][2] = {{1, 1}, {2, 2}, {3, 3}, {63, 63}, {64, 64}, {65, 65}, {130, 130},
                                   {305, 305}};
    for (int mask = 0; mask < MASKS; mask++)
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            struct shape s = {sizes[i][0], sizes[i][1], 2, 1, 16, (enum mask)mask, 0, 1, 0};
            if (mask == CROSS) s.nk = s.nk * 2 + 3;
            if (mask == CACHED) s.nk += 300;
            check_shape(&s, 5e-6);
        }
}

static void test_heads_and_dims(void)
{
    static const int dims[] = {1, 3, 8, 16, 33, 64, 80, 128};
    static const int heads[][2] = {{1, 1}, {3, 3}, {6, 2}, {5, 1}};
    for (size_t d = 0; d < ARRAY_LEN(dims); d++)
        for (size_t h = 0; h < ARRAY_LEN(heads); h++) {
            struct shape s = {70, 70, heads[h][0], heads[h][1], dims[d], CAUSAL, 0, 1, 0};
            check_shape(&s, 5e-6);
        }
}

static void test_softcap(void)
{
    for (int mask = 0; mask < MASKS; mask++) {
        struct shape s = {70, 90, 4, 2, 8, (enum mask)mask, 2.5f, 3, 0};
        check_shape(&s, 5e-6);
    }
}

/* A learned bias by distance, with every mask, and with soft caps. */
static void test_bias(void)
{
    static const int sizes[][2] = {{1, 1}, {3, 1}, {65, 3}, {130, 2}, {305, 5}};
    for (int mask = 0; mask < MASKS; mask++)
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            int n = sizes[i][0], heads = sizes[i][1];
            struct shape s = {n, n, heads, heads, 12, (enum mask)mask, i == 2 ? 3.0f : 0, 1, 1};
            if (mask == CROSS) s.nk = s.nk * 2 + 3;
            if (mask == CACHED) s.nk += 300;
            check_shape(&s, 1e-5);
        }
}

/* Groups of heads whose keys' gradients are summed at once or head by head, and groups too
 * large for a block; empty rows between texts. */
static void test_groups(void)
{
    static const struct shape shapes[] = {
        {305, 305, 12, 4, 20, PACKED, 0, 1, 0}, {305, 305, 12, 4, 20, HOLES, 0, 1, 0},
        {130, 130, 200, 1, 4, CAUSAL, 0, 1, 0}, {400, 500, 21, 7, 8, CROSS, 0, 1, 0},
        {300, 300, 300, 2, 3, PACKED_WINDOW, 0, 1, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) check_shape(&shapes[i], 5e-6);
}

/* By tiles beside the levels': in bfloat16, whose numbers have 8 bits, and in float32. */
static void test_units(void)
{
    const struct tile *tiles[] = {&tile_pair_c, tile_half(cpu_best()), tile_full(cpu_best()),
                                  tile_pair.sum && cpu_has_unit(UNIT_PAIRS) ? &tile_pair : NULL};
    for (size_t k = 0; k < ARRAY_LEN(tiles); k++)
        for (int mask = 0; mask < MASKS && tiles[k]; mask++) {
            struct shape s = {200, 200, 6, 2, mask % 2 ? 64 : 33, (enum mask)mask, 0, 1,
                              mask % 3 == 0};
            tile = tiles[k];
            check_shape(&s, tile->rounds ? 2e-2 : 5e-6);
            tile = NULL;
        }
}

/* One or two queries on a long cache go another way than blocks. */
static void test_decode(void)
{
    for (int nq = 1; nq <= 3; nq++) {
        struct shape s = {nq, 1111, 6, 2, 64, CACHED, 0, 1, 0};
        check_shape(&s, 5e-6);
        s.softcap = 30;
        check_shape(&s, 5e-6);
    }
}

static void test_empty(void)
{
    struct shape s = {0, 9, 2, 1, 8, FULL, 0, 1, 0};
    check_shape(&s, 0);                      /* no queries: dk and dv become 0 */
    s = (struct shape){9, 0, 2, 1, 8, FULL, 0, 1, 0};
    check_shape(&s, 0);
}

/* Scores of +-1e4: float keeps four digits of exp's argument at best. */
static void test_extreme(void)
{
    for (int mask = 0; mask < MASKS; mask++) {
        struct shape s = {100, 100, 2, 1, 16, (enum mask)mask, 0, 120, 0};
        check_shape(&s, 1e-2);
    }
}

/* Some gradients may be left out; the others keep their bits. */
static void test_partial(void)
{
    struct shape s = {100, 100, 2, 1, 16, CAUSAL, 0, 1, 1};
    struct run r;
    run_new(&r, &s);
    attn_run(&r, 1, 0, 1, 0);
    for (int which = 0; which < 4; which++) {
        float *g[] = {r.dq, r.dk, r.dv, r.db};
        int64_t n = which == 3 ? r.n_b : which ? r.n_k : r.n_q;
        float *kept = randoms(n, 0), *one = g[which];
        memcpy(kept, one, (size_t)n * sizeof *kept);
        float *dq = r.dq, *dk = r.dk, *dv = r.dv, *db = r.db;
        r.dq = which == 0 ? dq : NULL;
        r.dk = which == 1 ? dk : NULL;
        r.dv = which == 2 ? dv : NULL;
        r.db = which == 3 ? db : NULL;
        attn_run(&r, 1, 0, 1, 0);
        CHECK(!memcmp(kept, one, (size_t)n * sizeof *kept));
        r.dq = dq, r.dk = dk, r.dv = dv, r.db = db;
        free(kept);
    }
    run_free(&r);
}

static void test_threads(void)
{
    static const int threads[] = {1, 2, 3, 8};
    struct shape s = {305, 305, 6, 2, 32, PACKED, 0, 1, 1};
    for (int which = 0; which < 2; which++) {
        struct run r, first;
        seed = 7;
        run_new(&first, &s);
        attn_run(&first, 1, which, 1, 0);
        for (size_t t = 0; t < ARRAY_LEN(threads); t++) {
            seed = 7;
            run_new(&r, &s);
            attn_run(&r, threads[t], which, 1, 0);
            CHECK(!memcmp(r.out, first.out, (size_t)r.n_q * sizeof *r.out));
            CHECK(!memcmp(r.lse, first.lse, (size_t)r.n_lse * sizeof *r.lse));
            CHECK(!memcmp(r.dq, first.dq, (size_t)r.n_q * sizeof *r.dq));
            CHECK(!memcmp(r.dk, first.dk, (size_t)r.n_k * sizeof *r.dk));
            CHECK(!memcmp(r.dv, first.dv, (size_t)r.n_k * sizeof *r.dv));
            CHECK(!memcmp(r.db, first.db, (size_t)r.n_b * sizeof *r.db));
            run_free(&r);
        }
        run_free(&first);
    }
}

/* A NaN among the inputs must come out. */
static void test_nan(void)
{
    struct shape s = {80, 80, 1, 1, 16, CAUSAL, 0, 1, 0};
    struct run r;
    run_new(&r, &s);
    r.k[40 * 16] = NAN;
    attn_run(&r, 2, 0, 0, 0);
    CHECK(isnan(r.out[40 * 16]) && isnan(r.out[79 * 16]));
    run_free(&r);
}

/* The reference's own gradients, by central differences of sum dout * out. */
static double ref_loss(struct run *r)
{
    double loss = 0;
    memset(r->r_out, 0, (size_t)r->n_q * sizeof *r->r_out);
    ref_run(r);
    for (int64_t i = 0; i < r->n_q; i++) loss += r->dout[i] * r->r_out[i];
    return loss;
}

static void test_reference(void)
{
    struct shape s = {5, 5, 2, 1, 4, CAUSAL, 1.5f, 1, 1};
    struct run r;
    run_new(&r, &s);
    ref_run(&r);
    float *x[] = {r.q, r.k, r.v, r.bias};
    double *dx[] = {r.r_dq, r.r_dk, r.r_dv, r.r_db}, *kept[4];
    const int64_t n[] = {r.n_q, r.n_k, r.n_k, r.n_b};
    for (int which = 0; which < 4; which++) {
        kept[which] = zeros(n[which]);
        memcpy(kept[which], dx[which], (size_t)n[which] * sizeof(double));
    }
    const float h = 1.0f / 128;
    for (int which = 0; which < 4; which++) {
        for (int64_t i = 0; i < n[which]; i++) {
            float was = x[which][i];
            x[which][i] = was + h;
            double up = ref_loss(&r), step = x[which][i];
            x[which][i] = was - h;
            step -= x[which][i];
            CHECK_NEAR((up - ref_loss(&r)) / step, kept[which][i], 1e-4);
            x[which][i] = was;
        }
        free(kept[which]);
    }
    run_free(&r);
}

int main(void)
{
    char advice[512];
    if (host_init(&host, NULL) < 0) return 1;
    if (blas_open(&host, "none", &blas[0], advice, sizeof advice) < 0) return 1;
    if (blas_open(&host, NULL, &blas[1], advice, sizeof advice) < 0) return 1;
    RUN(test_reference);
    for (int l = 0; l < CPU_LEVELS; l++) {
        kernels = kernels_get((enum cpu_level)l);
        if (!kernels || !cpu_has((enum cpu_level)l)) continue;
        RUN(test_masks);
        RUN(test_heads_and_dims);
        RUN(test_softcap);
        RUN(test_bias);
        RUN(test_groups);
        RUN(test_units);
        RUN(test_decode);
        RUN(test_empty);
        RUN(test_extreme);
        RUN(test_partial);
        RUN(test_threads);
        RUN(test_nan);
    }
    blas_close(&host, blas[0]);
    blas_close(&host, blas[1]);
    return TEST_END();
}
