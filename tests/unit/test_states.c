/* Optimizer states in fewer bits: the kernels of every level against plain loops, AdamW
 * against bitsandbytes' (tests/golden/make_optim8.py), and training with them: memory as
 * planned, the same bits for any number of threads and after a resume, losses as with
 * float32. */
#include "kit.h"

enum { GUARD = 64, MOST = 1500 };
static const int64_t sizes[] = { 1, 2, 15, 16, 17, 127, 128, 129, 255, 256, 257, 700, 1300 };
static const struct kernels *k;
static float maps[2][256];

/* Magnitudes of all decades, of either sign unless plain. */
static void fill(float *x, int64_t n, uint64_t seed, int plain)
{
    for (int64_t i = 0; i < n; i++) {
        double size = pow(10, -9.5 * (double)rng_uniform(seed, 1, (uint64_t)i));
        int zero = rng_u32(seed, 2, (uint64_t)i) % 50 == 0;
        int minus = !plain && rng_u32(seed, 3, (uint64_t)i) % 2;
        x[i] = zero ? 0 : (float)(minus ? -3 * size : 3 * size);
    }
}

/* --- 8 bits */

static void check_code(float v, uint8_t code, int plain)
{
    double best = 9, got = fabs((double)v - (double)maps[plain][code]);
    for (int i = 0; i < 256; i++) best = fmin(best, fabs((double)v - (double)maps[plain][i]));
    if (plain && v > 0 && v <= maps[1][1]) CHECK_EQ(code, 1);
    else CHECK(got <= best + 1e-6 * (double)fabsf(v));
}

static void check_pack(int64_t n, int plain)
{
    static float x[MOST], y[MOST + 2 * GUARD], largest[16];
    static uint8_t q[MOST + 2 * GUARD];
    fill(x, n, (uint64_t)n, plain);
    memset(q, 0xa5, sizeof(q));
    memset(y, 0xa5, sizeof(y));
    memset(largest, 0xa5, sizeof(largest));
    k->pack8(q + GUARD, largest + 1, x, n, plain);
    for (int64_t i = 0; i < MOST + 2 * GUARD; i++)
        if (i < GUARD || i >= GUARD + n) CHECK_EQ(q[i], 0xa5);
    for (int64_t b = 0; b * STATE_BLOCK < n; b++) {
        float most = 0;
        for (int64_t i = b * STATE_BLOCK; i < MIN(n, (b + 1) * STATE_BLOCK); i++)
            most = MAX(most, fabsf(x[i]));
        CHECK(largest[1 + b] == most);
        for (int64_t i = b * STATE_BLOCK; i < MIN(n, (b + 1) * STATE_BLOCK) && most > 0; i++)
            check_code(x[i] / most, q[GUARD + i], plain);
    }
    CHECK(!memcmp(&largest[0], "\xa5\xa5\xa5\xa5", 4));
    CHECK(!memcmp(&largest[1 + div_up(n, STATE_BLOCK)], "\xa5\xa5\xa5\xa5", 4));
    k->unpack8(y + GUARD, q + GUARD, largest + 1, maps[plain], n);
    for (int64_t i = 0; i < n; i++)
        CHECK(y[GUARD + i] == maps[plain][q[GUARD + i]] * largest[1 + i / STATE_BLOCK]);
    CHECK(!memcmp(&y[GUARD - 1], "\xa5\xa5\xa5\xa5", 4));
    CHECK(!memcmp(&y[GUARD + n], "\xa5\xa5\xa5\xa5", 4));
}

static void test_8bit(void)
{
    float zeros[300] = { 0 }, largest[2], back[300];
    uint8_t q[300];
    for (int plain = 0; plain < 2; plain++) {
        for (size_t s = 0; s < ARRAY_LEN(sizes); s++) check_pack(sizes[s], plain);
        k->pack8(q, largest, zeros, 300, plain);
        k->unpack8(back, q, largest, maps[plain], 300);
        for (int i = 0; i < 300; i++) CHECK(back[i] == 0);
    }
}

/* --- 16 bits */

static void test_16bit(void)
{
    static float x[MOST];
    static uint16_t y[MOST + 2 * GUARD];
    const uint64_t seed = 77, stream = 5, first = (uint64_t)3 << 32 | 8;
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
        int64_t n = sizes[s];
        fill(x, n, 9, 0);
        memset(y, 0xa5, sizeof(y));
        k->round16(y + GUARD, x, n, seed, stream, first);
        for (int64_t i = 0; i < MOST + 2 * GUARD; i++)
            if (i < GUARD || i >= GUARD + n) CHECK_EQ(y[i], 0xa5a5);
        for (int64_t i = 0; i < n; i++) {
            uint64_t lane = (uint64_t)i % 16, part = (uint64_t)i % STATE_DRAWS / 16;
            uint64_t block = first + (uint64_t)i / STATE_DRAWS * 16 + lane;
            uint32_t draw = rng_u32(seed, stream, block * 4 + part % 4) >> part / 4 * 16 & 0xffff;
            uint32_t bits;
            memcpy(&bits, &x[i], 4);
            CHECK_EQ(y[GUARD + i], (bits + draw) >> 16);
        }
    }
}

/* --- AdamW as bitsandbytes */

static const void *golden(const struct store *s, const char *name)
{
    const struct store_tensor *t = store_find(s, name);
    if (!t) GIVE_UP();
    return t->data;
}

static struct store *open_golden(struct host *h)
{
    struct store *s = NULL;
    OK(host_init(h, NULL));
    OK(store_open_safetensors(h, "tests/golden/optim8/golden.safetensors", true, &s));
    if (!s) GIVE_UP();
    return s;
}

static void test_map(void)
{
    struct host h;
    struct store *s = open_golden(&h);
    CHECK(!memcmp(golden(s, "maps"), maps, sizeof(maps)));
    store_close(s);
}

enum { N = 700 };
/* lost: whose mean of squares became 0 there. */
static void check_step(const struct store *s, int step, const float *w, uint8_t q[2][N],
                       float largest[2][3], uint8_t *lost)
{
    char name[32];
    snprintf(name, sizeof(name), "w%d", step);
    const float *want = golden(s, name);
    for (int i = 0; i < N; i++) CHECK_NEAR(w[i], want[i], lost[i] ? 1e-3 : 2e-6);
    for (int p = 0; p < 2; p++) {
        snprintf(name, sizeof(name), "code%d.%d", step, p);
        const uint8_t *code = golden(s, name);
        snprintf(name, sizeof(name), "scale%d.%d", step, p);
        const float *scale = golden(s, name);
        for (int i = 0; i < 3; i++) CHECK_NEAR(largest[p][i], scale[i], 1e-6 * (double)scale[i]);
        for (int i = 0; i < N; i++) {
            lost[i] |= p && !code[i];
            CHECK_EQ(q[p][i], p && !code[i] ? 1 : code[i]);
        }
    }
}

static void test_adamw(void)
{
    struct host h;
    struct store *s = open_golden(&h);
    float w[N], state[2][N], largest[2][3] = { { 0 } };
    uint8_t q[2][N] = { { 0 } }, lost[N] = { 0 };
    char name[32];
    memcpy(w, golden(s, "w0"), sizeof(w));
    for (int step = 1; step <= 4; step++) {
        const struct adamw a = { 1e-2f, 0.9f, 0.999f, 1e-8f, 0.1f, 0.5f, 1 - pow(0.9, step),
                                 1 - pow(0.999, step) };
        snprintf(name, sizeof(name), "g%d", step);
        for (int p = 0; p < 2; p++) k->unpack8(state[p], q[p], largest[p], maps[p], N);
        k->adamw(w, golden(s, name), state[0], state[1], N, &a);
        for (int p = 0; p < 2; p++) k->pack8(q[p], largest[p], state[p], N, p);
        check_step(s, step, w, q, largest, lost);
    }
    store_close(s);
}

/* --- training */

static char base[64];
enum { STEPS_ALL = 12 };

static peft_trainer *start(peft_model **m, peft_dataset **d, const char *states, int threads)
{
    peft_load_opts o = kit_opts();
    peft_train_opts t = { .size = sizeof(t), .batch = 2, .steps = STEPS_ALL, .lr = 0.01f,
                          .seed = 3, .schedule = "constant", .optimizer_states = states };
    peft_trainer *out = NULL;
    o.threads = threads;
    *m = NULL;
    OK(peft_model_load(base, &o, m));
    if (!*m) GIVE_UP();
    *d = data(*m, in("rows.jsonl"));
    OK(peft_trainer_new(*m, *d, &t, &out));
    if (!out) GIVE_UP();
    return out;
}

static double steps(peft_trainer *t, int n)
{
    peft_step s = { .size = sizeof(s) };
    for (int i = 0; i < n; i++) OK(peft_train_step(t, &s));
    return s.loss;
}

static void stop(peft_model *m, peft_dataset *d, peft_trainer *t)
{
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

static int same_file(const char *a, const char *b)
{
    struct bytes x = get(a), y = get(b);
    int same = x.n == y.n && !memcmp(x.at, y.at, x.n);
    free(x.at);
    free(y.at);
    return same;
}

static void check_training(const char *states, double tol)
{
    peft_model *m;
    peft_dataset *d;
    peft_trainer *t = start(&m, &d, NULL, 1);
    double want = steps(t, STEPS_ALL);
    stop(m, d, t);
    t = start(&m, &d, states, 1);
    steps(t, 5);
    OK(peft_trainer_save(t, in("half-%s", states)));
    CHECK_NEAR(steps(t, STEPS_ALL - 5), want, tol);
    OK(peft_trainer_save(t, in("one-%s", states)));
    stop(m, d, t);
    t = start(&m, &d, states, 3);
    OK(peft_trainer_resume(t, in("half-%s", states)));
    steps(t, STEPS_ALL - 5);
    OK(peft_trainer_save(t, in("three-%s", states)));
    CHECK(same_file(in("one-%s/state.safetensors", states),
                    in("three-%s/state.safetensors", states)));
    stop(m, d, t);
}

static void test_training(void)
{
    check_training("f32", 0);
    check_training("bf16", 0.05);
    check_training("8bit", 0.05);
}

/* Only the embedding, 272 x 16, is large enough for fewer bits. */
static void test_memory(void)
{
    static const struct { const char *states; int64_t bytes; } cases[] = {
        { "f32", VOCAB * DIM * 4 }, { "bf16", VOCAB * DIM * 2 },
        { "8bit", VOCAB * DIM + 17 * 4 + 60 }
    };
    peft_model *m;
    peft_dataset *d;
    int64_t rest = 0;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        peft_trainer *t = start(&m, &d, cases[i].states, 1);
        peft_plan before = { .size = sizeof(before) }, after = { .size = sizeof(after) };
        OK(peft_trainer_plan(t, &before));
        if (!i) rest = before.optimizer - 2 * cases[i].bytes;
        CHECK_EQ(before.optimizer, 2 * cases[i].bytes + rest);
        int64_t live = atomic_load(&model_of(m)->host.mem.live);
        steps(t, 1);
        live = atomic_load(&model_of(m)->host.mem.live) - live;
        int64_t norms = div_up(before.gradients / 4, NORM_GRAIN) * 8;
        /* Predicting the time may have made what a step works in. */
        live -= before.trainable + before.gradients + before.optimizer + norms;
        CHECK(live >= 0 && live <= before.activations + before.scratch);
        OK(peft_trainer_plan(t, &after));
        CHECK_EQ(before.optimizer, after.optimizer);
        stop(m, d, t);
    }
}

static void test_refused(void)
{
    peft_model *m;
    peft_dataset *d;
    peft_trainer *t = start(&m, &d, "8bit", 1), *none = NULL;
    peft_train_opts o = { .size = sizeof(o), .optimizer_states = "int3" };
    steps(t, 2);
    OK(peft_trainer_save(t, in("saved")));
    stop(m, d, t);
    t = start(&m, &d, "bf16", 1);
    REFUSED(peft_trainer_resume(t, in("saved")), PEFT_ESTATE);
    CHECK(strstr(peft_errmsg(), "state_bits 8"));
    REFUSED(peft_trainer_new(m, d, &o, &none), PEFT_EARG);
    stop(m, d, t);
}

int main(void)
{
    kit_begin();
    for (int plain = 0; plain < 2; plain++) tree_levels(maps[plain], plain);
    RUN(test_map);
    for (int l = 0; l < CPU_LEVELS; l++) {
        k = kernels_get((enum cpu_level)l);
        if (!k || !cpu_has((enum cpu_level)l)) continue;
        RUN(test_8bit);
        RUN(test_16bit);
        RUN(test_adamw);
    }
    snprintf(base, sizeof(base), "%s", make_model("base", 1));
    rows_file();
    RUN(test_training);
    RUN(test_memory);
    RUN(test_refused);
    kit_end();
    return TEST_END();
}
