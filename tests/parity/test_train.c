/* Properties of training: the same bits for any number of threads, in slices,
 * after a resume; cancelled steps leave no trace; packing and accumulation
 * change nothing; memory is known and nothing is allocated after the first
 * step; a model that is saved is the model that was trained. */
#include "golden.h"

enum { STEPS = 6 };

/* 12 rows of 4 to 15 tokens. */
static const char *rows_file(void)
{
    static char path[160];
    snprintf(path, sizeof(path), "%s/rows.jsonl", test_dir);
    FILE *f = fopen(path, "w");
    for (int r = 0; r < 12; r++) {
        int n = 4 + (r * 7) % 12;
        fprintf(f, "{\"input_ids\": [");
        for (int i = 0; i < n; i++) fprintf(f, "%s%d", i ? ", " : "", 5 + (r * 31 + i * 17) % 50);
        fprintf(f, "], \"labels\": [");
        for (int i = 0; i < n; i++)
            fprintf(f, "%s%d", i ? ", " : "", i < 2 ? -100 : 5 + (r * 31 + i * 17) % 50);
        fprintf(f, "]}\n");
    }
    fclose(f);
    return path;
}
static const char *label_file(void)
{
    static char path[160];
    snprintf(path, sizeof(path), "%s/labels.jsonl", test_dir);
    FILE *f = fopen(path, "w");
    for (int r = 0; r < 12; r++)
        fprintf(f, "{\"input_ids\": [%d, %d, %d], \"label\": %d}\n", 5 + r, 6 + 2 * r, 7 + r % 5,
                r % 3);
    fclose(f);
    return path;
}

static const char *compute;         /* of the models that are loaded */
struct run { peft_model *m; peft_dataset *d; peft_trainer *t; };
static const char *method, *settings;   /* of the adapter that trains */

static void begin(struct run *r, int threads, const peft_train_opts *o, float dropout)
{
    peft_load_opts l = { .size = sizeof(l), .threads = threads, .compute = compute };
    peft_adapter_opts a = { .size = sizeof(a), .rank = 4, .dropout = dropout, .seed = 5,
                            .method = method, .settings = settings };
    memset(r, 0, sizeof(*r));
    CHECK_EQ(peft_model_load("tests/golden/peft/base_llama", &l, &r->m), PEFT_OK);
    CHECK_EQ(peft_adapter_add(r->m, "default", &a), PEFT_OK);
    CHECK_EQ(peft_dataset_load(r->m, rows_file(), NULL, &r->d), PEFT_OK);
    CHECK_EQ(peft_trainer_new(r->m, r->d, o, &r->t), PEFT_OK);
}
static void end(struct run *r)
{
    peft_trainer_free(r->t);
    peft_dataset_free(r->d);
    peft_model_free(r->m);
}
/* All adapter weights, one after another. */
static int64_t weights(const struct run *r, float *to)
{
    struct param *p;
    int64_t n = 0;
    for (int64_t i = 0; (p = model_nth_param(model_of(r->m), i)); i++)
        if (p->adapter) {
            memcpy(to + n, p->own, (size_t)param_len(p) * 4);
            n += param_len(p);
        }
    return n;
}
static float first[1 << 16], second[1 << 16];
static int64_t n_first;

static int same_as_first(const struct run *r)
{
    return weights(r, second) == n_first && !memcmp(first, second, (size_t)n_first * 4);
}
static peft_train_opts options(void)
{
    peft_train_opts o = {
        .size = sizeof(o), .lr = 0.01f, .batch = 2, .accumulate = 2, .steps = STEPS, .seed = 11
    };
    return o;
}
/* The run that others are compared with. */
static void reference(void)
{
    struct run r;
    peft_train_opts o = options();
    peft_step s = { .size = sizeof(s) };
    begin(&r, 1, &o, 0.1f);
    while (!peft_train_step(r.t, &s)) {}
    CHECK_EQ(s.step, STEPS);
    n_first = weights(&r, first);
    end(&r);
}

static void test_threads(void)
{
    static const int counts[] = { 2, 3, 8 };
    reference();
    for (int i = 0; i < 3; i++) {
        struct run r;
        peft_train_opts o = options();
        begin(&r, counts[i], &o, 0.1f);
        while (!peft_train_step(r.t, NULL)) {}
        CHECK(same_as_first(&r));
        end(&r);
    }
}

/* In bfloat16: the same bits for any number of threads, after resuming too, losses
 * near those of float32, and a checkpoint of the one does not go on as the other. */
static void test_half(void)
{
    static const int counts[] = { 1, 2, 3, 8 };
    struct run r;
    peft_train_opts o = options();
    peft_step s = { .size = sizeof(s) };
    double losses[STEPS];
    char dir[160];
    snprintf(dir, sizeof(dir), "%s/bfloat16", test_dir);
    begin(&r, 1, &o, 0.1f);
    for (int i = 0; i < STEPS; i++) {
        CHECK_EQ(peft_train_step(r.t, &s), PEFT_OK);
        losses[i] = s.loss;
    }
    end(&r);
    compute = "auto";
    begin(&r, 1, &o, 0.1f);
    int has = compute_half(&model_of(r.m)->compute);
    end(&r);
    if (!has) {
        peft_load_opts l = { .size = sizeof(l), .compute = "bf16" };
        CHECK_EQ(peft_model_load("tests/golden/peft/base_llama", &l, &r.m), PEFT_EUNSUPPORTED);
    }
    for (int i = 0; i < 4 && has; i++) {
        begin(&r, counts[i], &o, 0.1f);
        for (int k = 0; k < STEPS; k++) {
            CHECK_EQ(peft_train_step(r.t, &s), PEFT_OK);
            CHECK_NEAR(s.loss / losses[k], 1, 0.01);
            if (k == 2 && i == 3) CHECK_EQ(peft_trainer_save(r.t, dir), PEFT_OK);
        }
        if (!i) n_first = weights(&r, first);
        CHECK(same_as_first(&r));
        end(&r);
    }
    for (int i = 0; i < 2 && has; i++) {
        begin(&r, 2, &o, 0.1f);
        CHECK_EQ(peft_trainer_resume(r.t, dir), i ? PEFT_ESTATE : PEFT_OK);
        while (!i && !peft_train_step(r.t, NULL)) {}
        if (!i) CHECK(same_as_first(&r));
        end(&r);
        compute = NULL;
    }
    compute = NULL;
    reference();
}

static void test_recompute(void)
{
    for (int k = PEFT_RECOMPUTE_NONE; k <= PEFT_RECOMPUTE_LAYERS; k++) {
        struct run r;
        peft_train_opts o = options();
        o.recompute = k;
        begin(&r, 2, &o, 0.1f);
        while (!peft_train_step(r.t, NULL)) {}
        CHECK(same_as_first(&r));
        end(&r);
    }
}

static void test_slices(void)
{
    struct run r;
    peft_train_opts o = options();
    peft_step s = { .size = sizeof(s) };
    int rc, calls = 0, steps = 0;
    begin(&r, 2, &o, 0.1f);
    while (!(rc = peft_train_run_for(r.t, 0, &s))) {
        calls++;
        steps += !s.more;
    }
    CHECK_EQ(rc, PEFT_EEND);
    CHECK_EQ(steps, STEPS);
    CHECK(calls > 20 * STEPS);
    CHECK(same_as_first(&r));
    end(&r);
}

static void test_cancel(void)
{
    struct run r;
    peft_train_opts o = options();
    peft_step s = { .size = sizeof(s) };
    int i = 0, rc;
    begin(&r, 2, &o, 0.1f);
    /* Every third call of the first ones is cancelled somewhere in a step. */
    do {
        rc = peft_train_run_for(r.t, 0, &s);
        if (!rc && ++i < 400 && i % 41 == 40) {
            peft_trainer_cancel(r.t);
            CHECK_EQ(peft_train_step(r.t, &s), PEFT_ECANCELLED);
        }
    } while (!rc);
    CHECK_EQ(rc, PEFT_EEND);
    CHECK(same_as_first(&r));
    end(&r);
}

static void test_resume(void)
{
    for (int stop = 0; stop < STEPS; stop++) {
        struct run r;
        peft_train_opts o = options();
        begin(&r, 2, &o, 0.1f);
        for (int i = 0; i < stop; i++) CHECK_EQ(peft_train_step(r.t, NULL), PEFT_OK);
        CHECK_EQ(peft_train_run_for(r.t, 0, NULL), PEFT_OK);      /* in the middle of a step */
        CHECK_EQ(peft_trainer_save(r.t, at("%s/checkpoint", test_dir)), PEFT_OK);
        end(&r);
        begin(&r, 1, &o, 0.1f);
        CHECK_EQ(peft_trainer_resume(r.t, at("%s/checkpoint", test_dir)), PEFT_OK);
        while (!peft_train_step(r.t, NULL)) {}
        CHECK(same_as_first(&r));
        end(&r);
    }
    struct run r;
    peft_train_opts o = options();
    o.seed = 12;
    begin(&r, 1, &o, 0.1f);
    CHECK_EQ(peft_trainer_resume(r.t, at("%s/checkpoint", test_dir)), PEFT_ESTATE);
    CHECK(strstr(peft_errmsg(), "seed"));
    CHECK_EQ(peft_trainer_resume(r.t, at("%s/absent", test_dir)), PEFT_ENOTFOUND);
    end(&r);
}

/* AdaLoRA's importance and ranks are part of all that. */
static void test_ranks(void)
{
    struct run r;
    peft_train_opts o = options();
    peft_plan p = { .size = sizeof(p) };
    method = "adalora";
    settings = "{\"target_r\": 2, \"tinit\": 1, \"tfinal\": 2}";
    begin(&r, 1, &o, 0.1f);
    CHECK_EQ(peft_trainer_plan(r.t, &p), PEFT_OK);
    CHECK_EQ(p.optimizer, 8 * trainer_of(r.t)->n_floats + 8 * p.trainable_params);
    while (!peft_train_step(r.t, NULL)) {}
    int64_t left = 0, sites = model_of(r.m)->adapters->n_sites;
    for (int64_t i = 0; i < sites; i++)
        for (int k = 0; k < 4; k++) left += model_of(r.m)->adapters->sites[i].index[k];
    CHECK_EQ(left, 2 * sites);
    end(&r);
    test_threads();
    test_recompute();
    test_slices();
    test_cancel();
    test_resume();
    settings = "{\"tinit\": 4, \"tfinal\": 2}";
    CHECK_EQ(peft_model_load("tests/golden/peft/base_llama", NULL, &r.m), PEFT_OK);
    peft_adapter_opts a = { .size = sizeof(a), .method = method, .settings = settings };
    CHECK_EQ(peft_adapter_add(r.m, "default", &a), PEFT_OK);
    CHECK_EQ(peft_dataset_load(r.m, rows_file(), NULL, &r.d), PEFT_OK);
    CHECK_EQ(peft_trainer_new(r.m, r.d, &o, &r.t), PEFT_EARG);
    a.settings = "{\"target_r\": 13}";
    CHECK_EQ(peft_adapter_add(r.m, "other", &a), PEFT_EARG);
    end(&r);
    method = settings = NULL;
    reference();
}

static double first_loss(const peft_train_opts *o, double *norm)
{
    struct run r;
    peft_step s = { .size = sizeof(s) };
    begin(&r, 2, o, 0);
    CHECK_EQ(peft_train_step(r.t, &s), PEFT_OK);
    end(&r);
    *norm = s.grad_norm;
    return s.loss;
}

static void test_packing_and_accumulation(void)
{
    peft_train_opts o = {
        .size = sizeof(o), .lr = 0.01f, .batch = 12, .no_shuffle = 1, .steps = 3
    };
    double n0, n1, n2, whole = first_loss(&o, &n0);
    o.batch = 3;
    o.accumulate = 4;
    CHECK_NEAR(first_loss(&o, &n1), whole, 1e-6 * whole);
    CHECK_NEAR(n1, n0, 1e-6 * n0);
    o.batch = 12;
    o.accumulate = 1;
    o.packing = 1;
    o.max_len = 32;
    CHECK_NEAR(first_loss(&o, &n2), whole, 1e-6 * whole);
    CHECK_NEAR(n2, n0, 1e-6 * n0);
}

static void test_no_allocation(void)
{
    struct run r;
    peft_train_opts o = options();
    o.steps = 40;
    begin(&r, 2, &o, 0.1f);
    CHECK_EQ(peft_train_step(r.t, NULL), PEFT_OK);
    int64_t calls = atomic_load(&model_of(r.m)->host.mem.calls);
    for (int i = 0; i < 30; i++) CHECK_EQ(peft_train_step(r.t, NULL), PEFT_OK);
    CHECK_EQ(atomic_load(&model_of(r.m)->host.mem.calls), calls);
    end(&r);
}

static void test_nonfinite(void)
{
    struct run r;
    peft_train_opts o = options();
    begin(&r, 2, &o, 0);
    CHECK_EQ(peft_train_step(r.t, NULL), PEFT_OK);
    struct param *p = model_param(model_of(r.m), "model.layers.1.mlp.up_proj.lora_A.weight");
    p->own[3] = NAN;
    n_first = weights(&r, first);
    CHECK_EQ(peft_train_step(r.t, NULL), PEFT_ENONFINITE);
    CHECK(same_as_first(&r));
    CHECK(strstr(peft_errmsg(), "layers.1"));
    end(&r);
}

static void test_plan(void)
{
    struct run r;
    peft_train_opts o = options();
    peft_plan p = { .size = sizeof(p) };
    begin(&r, 2, &o, 0);
    struct mem *mem = &model_of(r.m)->host.mem;
    int64_t before = atomic_load(&mem->live);
    CHECK_EQ(peft_trainer_plan(r.t, &p), PEFT_OK);
    while (!peft_train_step(r.t, NULL)) {}
    int64_t made = atomic_load(&mem->peak) - before;
    int64_t told = p.gradients + p.optimizer + p.activations + p.scratch;
    CHECK(made >= told && made <= told + 131072);
    peft_info info = { .size = sizeof(info) };
    peft_model_info(r.m, &info);
    CHECK_EQ(p.total_params, info.params + p.trainable_params);
    end(&r);
}

/* The cached features of a frozen body give the steps of recomputing them. */
static void test_features(void)
{
    double loss[2][8];
    for (int cached = 0; cached < 2; cached++) {
        struct run r = { 0 };
        peft_head_opts h = { .size = sizeof(h), .labels = 3, .seed = 2 };
        peft_train_opts o = { .size = sizeof(o), .lr = 0.05f, .batch = 4, .epochs = 2, .seed = 1,
                              .feature_cache = cached ? 0 : -1 };
        peft_step s = { .size = sizeof(s) };
        int n = 0;
        CHECK_EQ(peft_model_load("tests/golden/peft/base_llama", NULL, &r.m), PEFT_OK);
        CHECK_EQ(peft_freeze(r.m, "*"), PEFT_OK);
        CHECK_EQ(peft_head_add(r.m, &h), PEFT_OK);
        CHECK_EQ(peft_dataset_load(r.m, label_file(), NULL, &r.d), PEFT_OK);
        CHECK_EQ(peft_trainer_new(r.m, r.d, &o, &r.t), PEFT_OK);
        CHECK_EQ(trainer_of(r.t)->prefix.on, cached);
        while (n < 8 && !peft_train_step(r.t, &s)) loss[cached][n++] = s.loss;
        CHECK_EQ(n, 6);
        peft_evaluation e = { .size = sizeof(e) };
        int64_t confusion[9] = { 0 }, sum = 0;
        peft_eval_opts eo = { .size = sizeof(eo), .confusion = confusion };
        CHECK_EQ(peft_eval(r.m, r.d, &eo, &e), PEFT_OK);
        for (int i = 0; i < 9; i++) sum += confusion[i];
        CHECK_EQ(sum, 12);
        CHECK_NEAR(e.accuracy, (double)(confusion[0] + confusion[4] + confusion[8]) / 12, 1e-12);
        end(&r);
    }
    for (int i = 0; i < 6; i++) CHECK_NEAR(loss[0][i], loss[1][i], 1e-6);
}

static void test_refused(void)
{
    struct run r = { 0 };
    peft_train_opts o = options();
    CHECK_EQ(peft_model_load("tests/golden/peft/base_llama", NULL, &r.m), PEFT_OK);
    CHECK_EQ(peft_dataset_load(r.m, label_file(), NULL, &r.d), PEFT_OK);
    CHECK_EQ(peft_trainer_new(r.m, r.d, &o, &r.t), PEFT_EARG);
    peft_dataset_free(r.d);
    CHECK_EQ(peft_dataset_load(r.m, rows_file(), NULL, &r.d), PEFT_OK);
    CHECK_EQ(peft_freeze(r.m, "*"), PEFT_OK);
    CHECK_EQ(peft_trainer_new(r.m, r.d, &o, &r.t), PEFT_ESTATE);
    CHECK_EQ(peft_freeze_layers(r.m, 0, 2), PEFT_EARG);
    CHECK_EQ(peft_unfreeze(r.m, "no.such"), PEFT_ENOTFOUND);
    o.size = 4096;                      /* a newer struct with an unknown field set */
    static unsigned char big[4096];
    memcpy(big, &o, sizeof(o));
    big[4000] = 1;
    CHECK_EQ(peft_trainer_new(r.m, r.d, (peft_train_opts *)big, &r.t), PEFT_EUNSUPPORTED);
    CHECK_EQ(peft_unfreeze(r.m, "*"), PEFT_OK);
    big[4000] = 0;
    CHECK_EQ(peft_trainer_new(r.m, r.d, (peft_train_opts *)big, &r.t), PEFT_OK);
    CHECK_EQ(peft_freeze(r.m, "*"), PEFT_ESTATE);
    end(&r);
}

/* --- a trained model in every container */

static double logits_distance(peft_model *a, peft_model *b)
{
    static float x[8 * 256], y[8 * 256];
    static const int32_t ids[8] = { 1, 5, 9, 13, 2, 7, 30, 41 };
    peft_info i = { .size = sizeof(i) };
    double worst = 0;
    CHECK_EQ(peft_model_info(a, &i), PEFT_OK);
    CHECK_EQ(peft_forward(a, ids, 8, x), PEFT_OK);
    CHECK_EQ(peft_forward(b, ids, 8, y), PEFT_OK);
    for (int k = 0; k < (i.labels ? i.labels : 8 * i.vocab); k++)
        worst = fmax(worst, fabs(x[k] - y[k]));
    return worst;
}

static void check_saved(const char *from, const char *name, const char *dtype, double tol)
{
    peft_save_opts o = { .size = sizeof(o), .dtype = dtype, .shard_bytes = 40000 };
    peft_model *a = load_model(from), *b;
    CHECK_EQ(peft_model_save(a, at("%s/%s", test_dir, name), &o), PEFT_OK);
    b = load_model(at("%s/%s", test_dir, name));
    if (b) CHECK_NEAR(logits_distance(a, b), 0, tol);
    peft_model_free(a);
    peft_model_free(b);
}

static void test_save(void)
{
    check_saved("tests/golden/tiny/llama", "folder", NULL, 0);
    check_saved("tests/golden/tiny/llama", "half", "bf16", 0.2);
    check_saved("tests/golden/tiny/llama", "llama.gguf", NULL, 1e-5);
    check_saved(at("%s/llama.gguf", test_dir), "back", NULL, 1e-5);
    check_saved(at("%s/llama.gguf", test_dir), "again.gguf", "q8_0", 0.2);
    check_saved("tests/golden/tiny/llama_tied_rope3", "rope3.gguf", NULL, 1e-4);
    check_saved("tests/golden/tiny/mistral", "mistral.gguf", NULL, 1e-5);
    check_saved("tests/golden/tiny/qwen3", "qwen3.gguf", NULL, 1e-5);
    check_saved("tests/golden/tiny/llama_cls", "cls", NULL, 0);
    check_saved("tests/golden/tiny/bert", "bert", NULL, 0);
    peft_model *m = load_model("tests/golden/tiny/llama_cls");
    CHECK_EQ(peft_model_save(m, at("%s/cls.gguf", test_dir), NULL), PEFT_EUNSUPPORTED);
    peft_model_free(m);
}

/* The same adapter on a Hugging Face folder and on the GGUF made from it,
 * whose q and k rows lie in another order. */
static void test_adapter_on_gguf(void)
{
    peft_model *a = load_model("tests/golden/tiny/llama"), *b;
    CHECK_EQ(peft_model_save(a, at("%s/base.gguf", test_dir), NULL), PEFT_OK);
    b = load_model(at("%s/base.gguf", test_dir));
    CHECK_EQ(peft_adapter_load(a, "x", "tests/golden/tiny/llama/lora_step0"), PEFT_OK);
    struct param *p = model_param(model_of(a), "model.layers.0.self_attn.q_proj.lora_B.weight");
    for (int64_t i = 0; i < param_len(p); i++) p->own[i] = 0.01f * (float)(i % 17);
    CHECK_EQ(peft_adapter_save(a, "x", at("%s/x", test_dir)), PEFT_OK);
    CHECK_EQ(peft_adapter_load(b, "x", at("%s/x", test_dir)), PEFT_OK);
    CHECK_NEAR(logits_distance(a, b), 0, 1e-5);
    CHECK_EQ(peft_adapter_save(b, "x", at("%s/y", test_dir)), PEFT_OK);
    CHECK_EQ(peft_adapter_remove(a, "x"), PEFT_OK);
    CHECK_EQ(peft_adapter_load(a, "y", at("%s/y", test_dir)), PEFT_OK);
    CHECK_NEAR(logits_distance(a, b), 0, 1e-5);
    CHECK_EQ(peft_adapter_merge(b, "x"), PEFT_OK);
    CHECK_NEAR(logits_distance(a, b), 0, 1e-5);
    peft_model_free(a);
    peft_model_free(b);
}

int main(void)
{
    golden_begin();
    RUN(test_threads);
    RUN(test_half);
    RUN(test_recompute);
    RUN(test_slices);
    RUN(test_cancel);
    RUN(test_resume);
    RUN(test_ranks);
    RUN(test_packing_and_accumulation);
    RUN(test_no_allocation);
    RUN(test_nonfinite);
    RUN(test_plan);
    RUN(test_features);
    RUN(test_refused);
    RUN(test_save);
    RUN(test_adapter_on_gguf);
    golden_end();
    return TEST_END();
}
