/* Tiles of bfloat16, and those of float32 by them, against their twin in plain C: depths round
 * the blocks that AMX takes at once, odd rows and columns within poisoned borders; and results
 * that go past the caches, which have the bits of those that do not, on every thread that reads
 * them. */
#include "base/rng.h"
#include "kernel/kernel.h"
#include "kernel/tile.h"
#include "apart.h"
#include "test.h"

static struct host host;
static const struct tile *kinds[] = { &tile_pair_c, &tile_pair, &tile_amx, &tile_split };

static bool has(const struct tile *t)
{
    int unit = t == &tile_pair ? UNIT_PAIRS : UNIT_AMX;
    return t == &tile_pair_c || (t->sum && cpu_has_unit(unit));
}

static const struct tile *twin(const struct tile *t) { return t->rounds ? &tile_pair_c : &tile_c; }

/* On whole cache lines, as the memory of graphs is. */
static float *room(int64_t n)
{
    return aligned_alloc(64, (size_t)div_up(MAX(n, 1), 16) * 64);
}

static float *numbers(int64_t n, uint64_t stream)
{
    float *x = room(n);
    rng_fill_uniform(x, n, -1, 1, 17, stream);
    return x;
}

/* --- one tile */

enum { SIDE = 64, LD = SIDE };
static const float guard = 12345.0f;

/* c[SIDE, LD] but for its upper left corner holds the guard. */
static void poison(float *c, const float *old, int64_t rows, int64_t cols, float beta)
{
    for (int64_t i = 0; i < SIDE; i++)
        for (int64_t j = 0; j < LD; j++)
            c[i * LD + j] = i >= rows || j >= cols ? guard : beta != 0 ? old[i * LD + j] : NAN;
}

/* c (+)= alpha a b by `t`, a panel and a strip at a time; as two parts where that can be. */
static void product(const struct tile *t, float *c, const float *a, const float *b, int64_t rows,
                    int64_t cols, int64_t depth, float alpha, float beta, struct tile_past *past)
{
    int64_t first = depth / 2 / t->deep * t->deep, n = first ? 2 : 1;
    int64_t all = (depth + 2 * t->deep) * t->size / 4 + 1;
    float *panel = room(t->mr * all), *strip = room(t->nr * all);
    for (int64_t i = 0; i < rows; i += t->mr)
        for (int64_t j = 0; j < cols; j += t->nr) {
            int64_t some = MIN(t->mr, rows - i), wide = MIN(t->nr, cols - j), at = 0;
            struct tile_part part[2];
            char *to = (char *)panel, *end = (char *)strip;
            for (int64_t k = 0; k < n; k++) {
                int64_t d = n == 1 ? depth : k ? depth - first : first;
                t->pack(to, a + i * depth + at, depth, some, d);
                t->turn(end, b + j * depth + at, depth, wide, d);
                part[k] = (struct tile_part){ .depth = d, .a = to, .b = end };
                to += t->mr * tile_deep(t, d) * t->size;
                end += t->nr * tile_deep(t, d) * t->size;
                at += d;
            }
            if (t->begin) t->begin();
            t->sum(part, (int)n, c + i * LD + j, LD, some, wide, alpha, beta, past);
            if (t->end) t->end();
        }
    if (past) tile_past_end(past);
    free(panel);
    free(strip);
}

static void check_tile(const struct tile *t, int64_t rows, int64_t cols, int64_t depth,
                       float alpha, float beta)
{
    float *a = numbers(rows * depth, 1), *b = numbers(cols * depth, 2);
    float *old = numbers(SIDE * LD, 3);
    float *want = room(SIDE * LD), *plain = room(SIDE * LD), *past = room(SIDE * LD);
    struct tile_past some = { .rows = 0 };
    poison(want, old, rows, cols, beta);
    memcpy(plain, want, SIDE * LD * sizeof *want);
    memcpy(past, want, SIDE * LD * sizeof *want);
    product(twin(t), want, a, b, rows, cols, depth, alpha, beta, NULL);
    product(t, plain, a, b, rows, cols, depth, alpha, beta, NULL);
    product(t, past, a, b, rows, cols, depth, alpha, beta, &some);
    CHECK_NEAR(apart(plain, want, SIDE * LD), 0, 2e-7 * (double)(depth + 8));
    CHECK(!memcmp(plain, past, SIDE * LD * sizeof *plain));
    poison(want, plain, rows, cols, 1);
    CHECK(!memcmp(plain, want, SIDE * LD * sizeof *plain));      /* nothing beyond was written */
    free(a); free(b); free(old); free(want); free(plain); free(past);
}

static void tiles_are_right(void)
{
    static const int64_t depths[] = { 1, 31, 32, 33, 576, 577, 1535, 1536, 1537, 3000 };
    static const int64_t sizes[] = { 1, 15, 16, 17, 31, 32, 33, 64 };
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        int bad = test_bad, turn = 0;
        if (!has(kinds[k])) continue;
        for (size_t d = 0; d < ARRAY_LEN(depths); d++)
            for (size_t i = 0; i < ARRAY_LEN(sizes); i++, turn++)
                check_tile(kinds[k], sizes[i], sizes[(i + d) % ARRAY_LEN(sizes)], depths[d],
                           turn % 3 == 2 ? -0.5f : 1, (float)(turn % 4 / 2 * (turn % 4)) / 2);
        for (float beta = 0; beta <= 1; beta++) check_tile(kinds[k], 64, 64, 1536, 1, beta);
        if (test_bad > bad) printf("  (%s)\n", kinds[k]->name);
    }
}

/* --- float32 by AMX */

/* Of all sizes, and whose last `zero` bits are 0. */
static float *spread(int64_t n, uint64_t stream, int zero)
{
    float *x = numbers(n, stream), *e = numbers(n, stream + 100);
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        x[i] = ldexpf(x[i], (int)(e[i] * 12));
        memcpy(&bits, x + i, 4);
        bits &= ~0u << zero;
        memcpy(x + i, &bits, 4);
    }
    free(e);
    return x;
}

/* Root mean square of what a product misses of float64's, over the sizes of what is added. */
static double missed(const struct tile *t, const float *a, const float *b, int64_t depth)
{
    float *c = room(SIDE * LD);
    double sum = 0;
    product(t, c, a, b, SIDE, SIDE, depth, 1, 0, NULL);
    for (int64_t i = 0; i < SIDE; i++)
        for (int64_t j = 0; j < SIDE; j++) {
            double want = 0, size = 0;
            for (int64_t p = 0; p < depth; p++) {
                double one = (double)a[i * depth + p] * (double)b[j * depth + p];
                want += one;
                size += one * one;
            }
            double miss = ((double)c[i * LD + j] - want) / sqrt(size);
            sum += miss * miss;
        }
    free(c);
    return sqrt(sum / (SIDE * SIDE));
}

/* No further from the truth than the plain sums of float32, however many bits are in use: what
 * the products miss, up to twice as much as by their rounding, is less than by that of sums. */
static void split_is_float32(void)
{
    static const int64_t depths[] = { 1, 32, 64, 577 };
    for (size_t i = 0; i < ARRAY_LEN(depths) && has(&tile_split); i++)
        for (int zero = 0; zero <= 16; zero += 8) {
            float *a = spread(SIDE * depths[i], 11, 0), *b = spread(SIDE * depths[i], 12, zero);
            double split = missed(&tile_split, a, b, depths[i]);
            CHECK(split <= missed(&tile_c, a, b, depths[i]) * (depths[i] < 32 ? 2.2 : 1));
            CHECK(split < 6e-8 + 1e-8 * sqrt((double)depths[i]));
            free(a); free(b);
        }
}

/* Strips of blocks with one, two and three parts; the first number of some is what could be
 * taken for the sign that there is no further part. */
static void parts_that_are_not_there(void)
{
    enum { DEPTH = 33 * 32 + 5, TIMES = 3 };
    const struct tile *t = &tile_split;
    if (!has(t)) return;
    int64_t words = t->nr * tile_deep(t, DEPTH) * t->size / 4;
    int64_t block = t->nr * t->deep * t->size / 4;
    float *w = numbers(DEPTH * t->nr, 13), *turned = room(DEPTH * t->nr);
    float *a = numbers(32 * DEPTH, 14);
    for (int64_t p = 0; p < DEPTH; p++)
        for (int64_t j = 0; j < t->nr; j++) {
            float *x = w + p * t->nr + j;
            uint32_t bits;
            memcpy(&bits, x, 4);
            bits &= ~0u << (p / 32 % 3 * 8);
            if (p / 32 % 4 == 1 && j == 0) bits = p % 64 ? 0x80000001 : 0x80000000;
            memcpy(x, &bits, 4);
            turned[j * DEPTH + p] = *x;
        }
    uint32_t *strip[TIMES];
    float *c[TIMES], *panel = room(32 * tile_deep(t, DEPTH) * t->size / 4);
    for (int k = 0; k < TIMES; k++) strip[k] = (void *)numbers(words, 15), c[k] = room(SIDE * LD);
    t->put(strip[0], 0, w, t->nr, DEPTH, t->nr);
    tile_fill(t, strip[0], DEPTH);
    for (int64_t p = 0, n; p < DEPTH; p += n) {
        n = MIN(p % 32 ? 32 - p % 32 : p / 32 % 16 * 2 + 2, DEPTH - p);
        t->put(strip[1], p, w + p * t->nr, t->nr, n, t->nr);
    }
    tile_fill(t, strip[1], DEPTH);
    t->turn(strip[2], turned, DEPTH, t->nr, DEPTH);
    t->pack(panel, a, DEPTH, 32, DEPTH);
    for (int k = 0; k < 2 * TIMES; k++) {
        const struct tile_part part = { .depth = DEPTH, .a = panel, .b = strip[k % TIMES] };
        int told = 0;
        for (int64_t i = 0; i < words && k >= TIMES; i += block / 3) {
            told += strip[k % TIMES][i] == 0x80008000;
            if (i % block) strip[k % TIMES][i] &= 0x7fff7fff;
        }
        if (k >= TIMES) CHECK(told > 11 + 11);
        t->begin();
        t->sum(&part, 1, c[k % TIMES], LD, 32, t->nr, 1, 0, NULL);
        t->end();
        CHECK(!memcmp(c[0], c[k % TIMES], (size_t)t->nr * sizeof(float)));
        for (int64_t i = 0; i < 32; i++)
            CHECK(!memcmp(c[0] + i * LD, c[k % TIMES] + i * LD, (size_t)t->nr * sizeof(float)));
    }
    for (int k = 0; k < TIMES; k++) free(strip[k]), free(c[k]);
    free(w); free(turned); free(a); free(panel);
}

/* --- layers */

struct setting { struct compute c; };

static struct setting setting_new(const struct tile *tile, int threads, int64_t panels)
{
    struct setting s = { { .k = kernels_get(cpu_best()), .tile = tile, .panels_bytes = panels,
                           .scratch_each = (linear_scratch() + 63) & ~63 } };
    struct blas *b = NULL;
    char advice[320];
    CHECK_EQ(blas_open(&host, "none", &b, advice, sizeof advice), 0);
    CHECK_EQ(pool_new(&host, threads, &s.c.pool), 0);
    s.c.blas = b;
    s.c.scratch = room(s.c.scratch_each * POOL_MAX / 4);
    s.c.panels = room(panels / 4);
    return s;
}

static void setting_free(struct setting *s)
{
    pool_free(s->c.pool);
    blas_close(&host, (struct blas *)s->c.blas);
    free(s->c.scratch);
    free(s->c.panels);
}

/* y = x W^T and dx (+)= dy W with all the room that is wanted, so that the depth is cut into
 * as few blocks as may be. */
struct layer { int64_t n, out, in; float *y, *dx; };

static void run_layer(const struct layer *l, const struct tile *tile, float beta, int threads)
{
    struct setting s = setting_new(tile, threads, linear_panels(l->n, l->in, l->out));
    float *x = numbers(l->n * l->in, 4), *w = numbers(l->out * l->in, 5);
    float *dy = numbers(l->n * l->out, 6);
    const struct matrix m = { &qtype_f32, w, l->out, l->in };
    rng_fill_uniform(l->dx, l->n * l->in, -1, 1, 17, 7);
    linear_forward(&s.c, l->y, x, &m, l->n, 1, 0);
    linear_dx(&s.c, l->dx, dy, &m, l->n, 1, beta);
    free(x); free(w); free(dy);
    setting_free(&s);
}

static void check_layer(const struct tile *t, int64_t n, int64_t out, int64_t in)
{
    struct layer a = { n, out, in, room(n * out), room(n * in) };
    struct layer b = { n, out, in, room(n * out), room(n * in) };
    int bad = test_bad;
    for (float beta = 0; beta <= 1; beta++) {
        run_layer(&a, t, beta, 2);
        run_layer(&b, twin(t), beta, 2);
        CHECK_NEAR(apart(a.y, b.y, n * out), 0, 2e-7 * (double)(in + 8));
        CHECK_NEAR(apart(a.dx, b.dx, n * in), 0, 2e-7 * (double)(out + 8));
    }
    if (test_bad > bad) printf("  (%s n %d out %d in %d)\n", t->name, (int)n, (int)out, (int)in);
    free(a.y); free(a.dx); free(b.y); free(b.dx);
}

static void blocks_of_the_depth(void)
{
    static const int64_t shapes[][3] = {
        { 31, 576, 1536 }, { 33, 1536, 576 }, { 65, 1537, 575 }, { 97, 47, 1537 },
        { 31, 40, 3072 }, { 129, 33, 3073 }, { 32, 1535, 31 }, { 300, 1537, 33 },
    };
    for (size_t k = 1; k < ARRAY_LEN(kinds); k++)
        for (size_t i = 0; i < ARRAY_LEN(shapes) && has(kinds[k]); i++)
            check_layer(kinds[k], shapes[i][0], shapes[i][1], shapes[i][2]);
}

/* --- results that leave the caches */

/* Sums what others wrote, lines of another order than they had. */
struct reading { const float *y; int64_t n, each; double *sum; };

static void read_some(void *arg, int64_t task, int worker)
{
    const struct reading *r = arg;
    double sum = 0;
    (void)worker;
    for (int64_t i = task; i < r->n; i += r->each) sum += (double)r->y[i];
    r->sum[task] = sum;
}

/* The same rows a few at a time stay near; where y begins within a line they do, too. */
static void past_is_as_near(void)
{
    enum { N = 1100, OUT = 576, IN = 1008, READERS = 16 };
    float *x = numbers(N * IN, 8), *dy = numbers(N * IN, 9), *w = numbers(OUT * IN, 10);
    float *near = room(N * IN), *far = room(N * IN), *odd = room(N * IN + 1);
    const struct matrix m = { &qtype_f32, w, OUT, IN }, back = { &qtype_f32, w, OUT, IN };
    for (size_t k = 1; k < ARRAY_LEN(kinds); k++) {
        if (!has(kinds[k])) continue;
        struct setting s = setting_new(kinds[k], 4, linear_panels(N, IN, OUT));
        for (int64_t i = 0; i < N; i += 100)
            linear_forward(&s.c, near + i * OUT, x + i * IN, &m, 100, 1, 0);
        linear_forward(&s.c, odd + 1, x, &m, N, 1, 0);
        CHECK(!memcmp(near, odd + 1, N * OUT * sizeof *near));
        double want[READERS], got[READERS];
        struct reading r = { near, N * OUT, READERS, want };
        pool_run(s.c.pool, READERS, read_some, &r);
        for (int round = 0; round < 20; round++) {
            memset(far, round, N * OUT * sizeof *far);
            linear_forward(&s.c, far, x, &m, N, 1, 0);
            r = (struct reading){ far, N * OUT, READERS, got };
            pool_run(s.c.pool, READERS, read_some, &r);
            CHECK(!memcmp(got, want, sizeof got));
        }
        CHECK(!memcmp(near, far, N * OUT * sizeof *near));
        for (int64_t i = 0; i < N; i += 100)
            linear_dx(&s.c, near + i * IN, dy + i * OUT, &back, 100, 1, 0);
        linear_dx(&s.c, far, dy, &back, N, 1, 0);
        CHECK(!memcmp(near, far, N * IN * sizeof *near));
        setting_free(&s);
    }
    free(x); free(dy); free(w); free(near); free(far); free(odd);
}

int main(void)
{
    host_init(&host, NULL);
    RUN(tiles_are_right);
    RUN(split_is_float32);
    RUN(parts_that_are_not_there);
    RUN(blocks_of_the_depth);
    RUN(past_is_as_near);
    CHECK_EQ(atomic_load(&host.mem.live), 0);
    return TEST_END();
}
