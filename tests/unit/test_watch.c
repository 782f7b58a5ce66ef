/* A run that is watched: smooth losses by hand, every kind of notice from rows that are made
 * up and none from a healthy one, the best evaluation and patience; dead, broken and
 * poisoned runs of a tiny model. */
#include "kit.h"
#include "peft_judge.h"

static peft_watch *watch_of(const peft_watch_opts *o)
{
    peft_watch *w = NULL;
    OK(peft_watch_new(o, &w));
    if (!w) GIVE_UP();
    return w;
}

static peft_watched state(const peft_watch *w)
{
    peft_watched s = { .size = sizeof(s) };
    OK(peft_watch_info(w, &s));
    return s;
}

static void tell(peft_watch *w, int64_t step, int64_t steps, double loss)
{
    peft_step s = { .size = sizeof(s), .step = step, .steps = steps, .loss = loss, .grad_norm = 1,
                    .lr = 1e-3 };
    OK(peft_watch_step(w, &s));
}

static void judge(peft_watch *w, int64_t step, double loss, double accuracy)
{
    peft_evaluation e = { .size = sizeof(e), .loss = loss, .n_metrics = 1,
                          .metrics = { { "accuracy", accuracy } } };
    OK(peft_watch_eval(w, step, &e));
}

/* The notice of a kind; its step is 0 when there is none. */
static peft_notice found(const peft_watch *w, const char *kind)
{
    peft_notice n = { .size = sizeof(n) }, none = { 0 };
    for (int32_t i = 0; !peft_watch_notice(w, i, &n); i++)
        if (!strcmp(n.kind, kind)) {
            CHECK(n.what[0] && n.advice[0] && !strchr(n.what, '\n'));
            return n;
        }
    return none;
}

/* Noise within -1 and 1. */
static double noise(int64_t i) { return 2 * (double)rng_uniform(7, 1, (uint64_t)i) - 1; }

static void test_smooth(void)
{
    peft_watch *w = watch_of(NULL);
    double sum = 0, weight = 0;
    CHECK(!(state(w).smooth != 0));
    for (int i = 1; i <= 30; i++) {
        double loss = 2 + noise(i) * 0.1;
        sum = 0.9 * sum + 0.1 * loss;
        weight = 0.9 * weight + 0.1;
        tell(w, i, 30, loss);
        CHECK_NEAR(state(w).smooth, sum / weight, 1e-12);
    }
    CHECK_EQ(state(w).steps, 30);
    peft_watch_free(w);
    peft_watch_free(NULL);
}

/* Falling losses of batches that differ much: nothing is found. */
static void test_healthy(void)
{
    static const struct { double from, to, spread, chance; } runs[] = {
        { 3.1, 1.2, 0.3, 10.8 }, { 1.1, 0.2, 0.5, 1.1 }, { 0.7, 0.4, 0.35, 0.69 },
        { 11, 4, 0.1, 10.8 },
    };
    for (size_t r = 0; r < ARRAY_LEN(runs); r++) {
        peft_watch_opts o = { .size = sizeof(o), .chance = runs[r].chance };
        peft_watch *w = watch_of(&o);
        judge(w, 0, runs[r].from, 0.3);
        for (int64_t i = 1; i <= 300; i++) {
            double t = (double)i / 300, level = runs[r].to + (runs[r].from - runs[r].to) *
                                                              exp(-6 * t);
            tell(w, i, 300, level * (1 + runs[r].spread * noise(i)));
            if (i % 50 == 0) judge(w, i, level * (1 + 0.004 * noise(i)), 0.5);
        }
        peft_notice n = { .size = sizeof(n) };
        if (state(w).n_notices) {
            peft_watch_notice(w, 0, &n);
            printf("run %d: %s at %lld: %s\n", (int)r, n.kind, (long long)n.step, n.what);
        }
        CHECK_EQ(state(w).n_notices, 0);
        CHECK_EQ(peft_watch_notice(w, 0, &n), PEFT_EEND);
        peft_watch_free(w);
    }
}

static void test_diverged(void)
{
    peft_watch *w = watch_of(NULL);
    for (int64_t i = 1; i <= 10; i++) tell(w, i, 100, i < 4 ? 2.5 : 9 + noise(i));
    CHECK(found(w, "diverged").step > 0 && found(w, "diverged").step <= 7);
    CHECK_EQ(found(w, "diverged").since, 4);
    CHECK_EQ(state(w).n_notices, 1);
    peft_watch_free(w);
    w = watch_of(NULL);                         /* late, and slowly */
    for (int64_t i = 1; i <= 200; i++)
        tell(w, i, 200, i < 100 ? 1 + 0.2 * noise(i) : 1 + 0.1 * (double)(i - 100));
    CHECK(found(w, "diverged").step > 105 && found(w, "diverged").step < 135);
    peft_watch_free(w);
    w = watch_of(NULL);
    for (int64_t i = 1; i <= 60; i++) tell(w, i, 200, i == 40 ? 9 : 2 + 0.2 * noise(i));
    CHECK_EQ(found(w, "spike").step, 40);
    CHECK_EQ(state(w).n_notices, 1);
    tell(w, 61, 200, NAN);
    CHECK_EQ(found(w, "nonfinite").step, 61);
    peft_watch_free(w);
}

static void test_dead(void)
{
    peft_step s = { .size = sizeof(s), .steps = 100, .loss = 2, .grad_norm = 1, .lr = 1e-3 };
    for (int kind = 0; kind < 3; kind++) {
        peft_watch *w = watch_of(NULL);
        for (s.step = 1; s.step <= 10; s.step++) {
            s.loss = kind == 2 ? 2 : 2 + 0.1 * noise(s.step);
            s.grad_norm = kind == 0 ? 0 : 1;
            s.lr = kind == 1 ? 0 : 1e-3;
            OK(peft_watch_step(w, &s));
        }
        CHECK(found(w, "dead").step > 0);
        CHECK(strstr(found(w, "dead").what, kind == 0 ? "gradient" : kind == 1 ? "rate" : "flat"));
        CHECK_EQ(state(w).n_notices, 1);
        peft_watch_free(w);
    }
    peft_watch_opts o = { .size = sizeof(o), .chance = 1.0986 };
    peft_watch *w = watch_of(&o);
    for (int64_t i = 1; i <= 50; i++) tell(w, i, 50, 1.12 + 0.05 * noise(i));
    CHECK_EQ(found(w, "chance").step, 10);
    peft_watch_free(w);
}

/* Train falls, the evaluation rises. */
static void test_overfitting(void)
{
    static const double loss[] = { 2, 1.5, 1.3, 1.32, 1.36, 1.5 };
    peft_watch_opts o = { .size = sizeof(o), .patience = 2 };
    peft_watch *w = watch_of(&o);
    for (int64_t k = 0; k < 6; k++) {
        if (k) for (int64_t i = 10 * k - 9; i <= 10 * k; i++) tell(w, i, 100, 2 / (double)(k + 1));
        judge(w, 10 * k, loss[k], 0.5 + 0.05 * (double)k);
        CHECK_EQ(state(w).stop, k >= 4);
        CHECK_EQ(state(w).improved, k == 1 || k == 2);
    }
    CHECK_EQ(found(w, "overfitting").step, 40);
    CHECK_EQ(found(w, "overfitting").since, 20);
    CHECK(strstr(found(w, "overfitting").what, "since step 20"));
    CHECK_EQ(state(w).best_step, 20);
    CHECK(!(state(w).best != 1.3) && !(state(w).first_loss != 2));
    peft_watch_free(w);
    o.metric = "accuracy";                      /* by another figure it still gets better */
    w = watch_of(&o);
    for (int64_t k = 0; k < 6; k++) {
        if (k) tell(w, 10 * k, 100, 1);
        judge(w, 10 * k, loss[k], 0.5 + 0.05 * (double)k);
        CHECK_EQ(state(w).improved, k > 0);
    }
    CHECK_EQ(state(w).best_step, 50);
    CHECK(!state(w).stop);
    CHECK_EQ(peft_watch_eval(w, 60, &(peft_evaluation){ .size = sizeof(peft_evaluation) }),
             PEFT_ENOTFOUND);
    peft_watch_free(w);
    w = watch_of(NULL);
    judge(w, 0, 1, 0);
    for (int64_t i = 1; i <= 40; i++) tell(w, i, 100, 1);
    judge(w, 40, 1.4, 0);
    CHECK_EQ(found(w, "worse").step, 40);
    CHECK(peft_metric_falls("perplexity") && !peft_metric_falls("f1") && !peft_metric_falls(NULL));
    peft_watch_free(w);
}

static void test_arguments(void)
{
    peft_watch *w = NULL;
    peft_watch_opts o = { .size = sizeof(o), .smoothing = 1 };
    REFUSED(peft_watch_new(&o, &w), PEFT_EARG);
    REFUSED(peft_watch_new(NULL, NULL), PEFT_EARG);
    REFUSED(peft_watch_step(NULL, NULL), PEFT_EARG);
    o = (peft_watch_opts){ .size = sizeof(o), .patience = -1 };
    REFUSED(peft_watch_new(&o, &w), PEFT_EARG);
}

/* ------------------------------------------------------------ a tiny model */

static char base[64], broken[64];

struct made { peft_model *m; peft_dataset *d; peft_trainer *t; };

static struct made make(const char *model, const char *method, float lr)
{
    struct made x = { 0 };
    peft_train_opts o = { .size = sizeof(o), .batch = 2, .steps = 30, .lr = lr, .clip = -1,
                          .schedule = "constant" };
    peft_adapter_opts a = { .size = sizeof(a), .rank = 4 };
    x.m = load(model);
    if (method) OK(peft_adapter_add(x.m, "default", &a));
    x.d = data(x.m, in("rows.jsonl"));
    OK(peft_trainer_new(x.m, x.d, &o, &x.t));
    if (!x.t) GIVE_UP();
    return x;
}

static void end(struct made *x)
{
    peft_trainer_free(x->t);
    peft_dataset_free(x->d);
    peft_model_free(x->m);
}

/* The notice within ten steps of a run, "" when there is none. */
static peft_notice ten_steps(const char *method, float lr)
{
    struct made x = make(base, method, lr);
    peft_watch_opts o = { .size = sizeof(o), .model = x.m };
    peft_watch *w = watch_of(&o);
    peft_step s = { .size = sizeof(s) };
    peft_notice n = { .size = sizeof(n), .kind = "" };
    for (int i = 0; i < 10; i++) {
        int32_t rc = peft_train_step(x.t, &s);
        if (rc == PEFT_ENONFINITE) s = (peft_step){ .size = sizeof(s), .step = i + 1, .loss = NAN };
        OK(peft_watch_step(w, &s));
        if (rc) break;
    }
    peft_watch_notice(w, 0, &n);
    peft_watch_free(w);
    end(&x);
    return n;
}

static void test_runs(void)
{
    CHECK(!*ten_steps("lora", 1e-2f).kind);
    CHECK(!*ten_steps(NULL, 1e-3f).kind);
    peft_notice n = ten_steps("lora", 1e-12f);
    CHECK(!strcmp(n.kind, "dead") && strstr(n.what, "hardly moved"));
    n = ten_steps("lora", 1e-38f);
    CHECK(!strcmp(n.kind, "dead"));
    n = ten_steps(NULL, 1e-20f);
    CHECK(!strcmp(n.kind, "dead") && strstr(n.what, "unchanged"));
    n = ten_steps("lora", 10);
    CHECK(!strcmp(n.kind, "diverged") || !strcmp(n.kind, "nonfinite"));
    n = ten_steps(NULL, 10);
    CHECK(!strcmp(n.kind, "diverged") || !strcmp(n.kind, "nonfinite"));
}

/* A copy of the model with a NaN at the end of one tensor. */
static void poison(const char *name)
{
    struct store *s = NULL;
    struct host h;
    make_model("broken", 1);
    snprintf(broken, sizeof(broken), "%s", in("broken"));
    const char *path = in("broken/model.safetensors");
    OK(host_init(&h, NULL));
    OK(store_open_safetensors(&h, path, true, &s));
    const struct store_tensor *x = store_find(s, name);
    if (!x) GIVE_UP();
    char last[16];
    memcpy(last, (const char *)x->data + x->count * 4 - 16, 16);
    struct bytes all = get(path);
    store_close(s);
    const float bad = NAN;
    for (size_t i = 0; i + 16 <= all.n; i++)
        if (!memcmp(all.at + i, last, 16)) {
            memcpy(all.at + i + 12, &bad, 4);
            break;
        }
    put_bytes(path, all.at, all.n);
    free(all.at);
}

static void check_poison(const char *name, const char *method, const char *layer)
{
    poison(name);
    struct made x = make(broken, method, 1e-3f);
    peft_step s = { .size = sizeof(s) };
    REFUSED(peft_train_step(x.t, &s), PEFT_ENONFINITE);
    CHECK(strstr(peft_errmsg(), "step 1: the loss is not finite"));
    CHECK(strstr(peft_errmsg(), name) && strstr(peft_errmsg(), "the weight"));
    CHECK(!layer || strstr(peft_errmsg(), layer));
    end(&x);
}

static void test_poison(void)
{
    check_poison("model.layers.1.mlp.up_proj.weight", NULL, ", layer 1");
    check_poison("model.layers.1.mlp.up_proj.weight", "lora", ", layer 1");
    check_poison("model.layers.0.self_attn.q_proj.weight", "lora", ", layer 0");
    check_poison("model.norm.weight", "lora", NULL);
}

/* Weights so large that values overflow: the op and its layer. */
static void test_overflow(void)
{
    struct made x = make(base, NULL, 9e5f);
    peft_step s = { .size = sizeof(s) };
    int32_t rc = 0;
    for (int i = 0; i < 4 && !rc; i++) rc = peft_train_step(x.t, &s);
    CHECK_EQ(rc, PEFT_ENONFINITE);
    CHECK(strstr(peft_errmsg(), "first seen in the"));
    CHECK(strstr(peft_errmsg(), "layer 0") || strstr(peft_errmsg(), "weight"));
    end(&x);
}

int main(void)
{
    kit_begin();
    RUN(test_smooth);
    RUN(test_healthy);
    RUN(test_diverged);
    RUN(test_dead);
    RUN(test_overfitting);
    RUN(test_arguments);
    snprintf(base, sizeof(base), "%s", make_model("base", 1));
    rows_file();
    RUN(test_runs);
    RUN(test_poison);
    RUN(test_overflow);
    kit_end();
    return TEST_END();
}
