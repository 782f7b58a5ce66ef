/* Adapters in the formats of others: what llama.cpp's converter and MLX-LM wrote gives
 * the logits that PEFT and MLX gave; what we write reads back with the same bits; what
 * a format cannot say is refused (tests/golden/make_formats.py). */
#include "golden.h"
#include "base/rng.h"

#define BASE "tests/golden/peft/base_llama"
#define PEFT "tests/golden/peft/"
#define FORMATS "tests/golden/formats/"

static double distance(peft_model *m, const char *expect)
{
    json *e = read_json_file(expect);
    double worst = last_apart(m, e);
    json_free(e);
    return worst;
}

static int32_t save_as(peft_model *m, const char *path, const char *format, const char *dtype)
{
    peft_adapter_save_opts o = { .size = sizeof(o), .format = format, .dtype = dtype };
    return peft_adapter_save_as(m, "x", path, &o);
}

static void test_theirs(void)
{
    static const struct { const char *path, *expect; double off; } cases[] = {
        { "lora.gguf", PEFT "lora/expect.json", 2e-5 },
        { "lora_f16.gguf", PEFT "lora/expect.json", 2e-2 },
        { "mlx_lora", FORMATS "mlx_lora/expect.json", 2e-5 },
        { "mlx_keys", FORMATS "mlx_keys/expect.json", 2e-5 },
        { "mlx_dora", FORMATS "mlx_dora/expect.json", 2e-5 },
        { "mlx_full", FORMATS "mlx_full/expect.json", 2e-5 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        peft_model *m = load_model(BASE);
        CHECK(distance(m, cases[i].expect) > 0.05);
        CHECK_EQ(peft_adapter_load(m, "x", at(FORMATS "%s", cases[i].path)), PEFT_OK);
        CHECK_NEAR(distance(m, cases[i].expect), 0, cases[i].off);
        CHECK_EQ(peft_adapter_merge(m, "x"), PEFT_OK);
        CHECK_NEAR(distance(m, cases[i].expect), 0, cases[i].off);
        peft_model_free(m);
    }
}

/* Equal bytes: what we make of PEFT's adapter is what the converter made. */
static void test_same_tensors(void)
{
    struct store *a = NULL, *b = NULL;
    peft_model *m = load_model(BASE);
    CHECK_EQ(peft_adapter_load(m, "x", PEFT "lora"), PEFT_OK);
    for (int f16 = 0; f16 < 2; f16++) {
        CHECK_EQ(save_as(m, at("%s/a.gguf", test_dir), NULL, f16 ? "f16" : NULL), PEFT_OK);
        CHECK_EQ(store_open(&test_host, at("%s/a.gguf", test_dir), true, &a), PEFT_OK);
        CHECK_EQ(store_open(&test_host, f16 ? FORMATS "lora_f16.gguf" : FORMATS "lora.gguf", true,
                            &b), PEFT_OK);
        CHECK_EQ(store_count(a), store_count(b));
        for (int64_t i = 0; i < store_count(a); i++) {
            const struct store_tensor *x = store_at(a, i), *y = store_find(b, x->name);
            CHECK(y && x->type == y->type && x->bytes == y->bytes && x->n_dims == y->n_dims &&
                  !memcmp(x->dims, y->dims, sizeof(x->dims)) && !memcmp(x->data, y->data,
                                                                       (size_t)x->bytes));
        }
        store_close(a);
        store_close(b);
    }
    peft_model_free(m);
}

/* All tensors of two PEFT folders; 1 = the same bits. */
static int same_folders(const char *one, const char *two)
{
    struct store *a = open_st(at("%s/adapter_model.safetensors", one));
    struct store *b = open_st(at("%s/adapter_model.safetensors", two));
    int same = a && b && store_count(a) == store_count(b);
    for (int64_t i = 0; same && i < store_count(a); i++) {
        const struct store_tensor *x = store_at(a, i), *y = store_find(b, x->name);
        same = y && x->bytes == y->bytes && !memcmp(x->data, y->data, (size_t)x->bytes);
    }
    store_close(a);
    store_close(b);
    return same;
}

/* PEFT -> ours -> the format -> ours -> PEFT -> ours. */
static void round_trip(const char *name, const char *format, int bits)
{
    const char *expect = at(PEFT "%s/expect.json", name), *first = at("%s/first", test_dir);
    const char *mid = at("%s/mid_%s.%s", test_dir, name, format), *end = at("%s/end", test_dir);
    peft_model *m[3] = { load_model(BASE), load_model(BASE), load_model(BASE) };
    CHECK_EQ(peft_adapter_load(m[0], "x", at(PEFT "%s", name)), PEFT_OK);
    CHECK_EQ(save_as(m[0], first, "peft", NULL), PEFT_OK);
    CHECK_EQ(save_as(m[0], mid, format, NULL), PEFT_OK);
    CHECK_EQ(peft_adapter_load(m[1], "x", mid), PEFT_OK);
    CHECK_NEAR(distance(m[1], expect), 0, 2e-5);
    CHECK_EQ(save_as(m[1], end, NULL, NULL), PEFT_OK);
    CHECK_EQ(peft_adapter_load(m[2], "x", end), PEFT_OK);
    CHECK_NEAR(distance(m[2], expect), 0, 2e-5);
    if (bits) CHECK(same_folders(first, end));
    for (int i = 0; i < 3; i++) peft_model_free(m[i]);
}

static void test_round_trips(void)
{
    round_trip("lora", "gguf", 1);
    round_trip("rslora", "gguf", 1);
    round_trip("lora_pattern", "gguf", 0);
    round_trip("lora_embed", "gguf", 1);
    round_trip("lora", "mlx", 1);
    round_trip("rslora", "mlx", 1);
    round_trip("lora_pattern", "mlx", 0);
    round_trip("lora_mts", "mlx", 1);
    round_trip("lora_embed", "mlx", 1);
    round_trip("dora", "mlx", 1);
}

/* Random values for what is zero in a new adapter. */
static void fill(peft_model *m)
{
    struct adapter *a = adapter_find(model_of(m), "x");
    for (int64_t i = 0; a && i < a->n_sites; i++)
        for (int k = 0; k < START; k++)
            if (adapted_owns(&a->sites[i], k))
                rng_fill_normal(a->sites[i].part[k]->own, param_len(a->sites[i].part[k]), 0.2f, 5,
                                (uint64_t)(i * PARTS + k));
    model_of(m)->edits++;
}

static double apart(peft_model *a, peft_model *b)
{
    static float x[8 * 512], y[8 * 512];
    const int32_t ids[] = { 5, 9, 7, 11, 6, 8 };
    peft_info info = { .size = sizeof(info) };
    double worst = 0;
    CHECK_EQ(peft_model_info(a, &info), PEFT_OK);
    CHECK(info.vocab <= 512);
    CHECK_EQ(peft_forward(a, ids, 6, x), PEFT_OK);
    CHECK_EQ(peft_forward(b, ids, 6, y), PEFT_OK);
    for (int i = 0; i < 6 * info.vocab; i++) worst = fmax(worst, fabs((double)x[i] - y[i]));
    return worst;
}

/* Fused and permuted rows, transposed weights, experts; with a base from a folder and
 * from GGUF. */
static void family(const char *name, const peft_adapter_opts *o)
{
    char base[128], file[128];
    snprintf(base, sizeof(base), "tests/golden/tiny/%s", name);
    snprintf(file, sizeof(file), "%s/base.gguf", test_dir);
    peft_model *plain = load_model(base), *m = load_model(base), *g, *from[4];
    CHECK_EQ(peft_model_save(plain, file, NULL), PEFT_OK);
    CHECK_EQ(peft_adapter_add(m, "x", o), PEFT_OK);
    fill(m);
    CHECK(apart(plain, m) > 0.05);
    CHECK_EQ(save_as(m, at("%s/f.gguf", test_dir), NULL, NULL), PEFT_OK);
    CHECK_EQ(save_as(m, at("%s/f_mlx", test_dir), "mlx", NULL), PEFT_OK);
    for (int i = 0; i < 4; i++) {
        from[i] = load_model(i & 1 ? file : base);
        CHECK_EQ(peft_adapter_load(from[i], "x", at(i & 2 ? "%s/f_mlx" : "%s/f.gguf", test_dir)),
                 PEFT_OK);
        CHECK_NEAR(apart(from[i], m), 0, 2e-5);
    }
    /* The same file, whatever order the base has. */
    CHECK_EQ(save_as(from[1], at("%s/g.gguf", test_dir), NULL, NULL), PEFT_OK);
    g = load_model(base);
    CHECK_EQ(peft_adapter_load(g, "x", at("%s/g.gguf", test_dir)), PEFT_OK);
    CHECK_NEAR(apart(g, m), 0, 2e-5);
    for (int i = 0; i < 4; i++) peft_model_free(from[i]);
    peft_model_free(g);
    peft_model_free(plain);
    peft_model_free(m);
}

static void test_families(void)
{
    static const char *const names[] = { "llama", "mistral", "qwen3_moe", "mixtral", "phi3", "gpt2",
                                         "bloom", "falcon_grouped", "gpt_neox", "gemma3" };
    peft_adapter_opts o = { .size = sizeof(o), .rank = 3, .targets = "all-linear" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) family(names[i], &o);
    /* One expert of several, ranks that differ, and what starts from the weights. */
    o.targets = "experts.1.gate_proj,experts.0.down_proj,experts.2.down_proj";
    o.settings = "{\"rank_pattern\": {\"experts.2.down_proj\": 5}}";
    family("qwen3_moe", &o);
    o = (peft_adapter_opts){ .size = sizeof(o), .rank = 2, .init = "pissa", .rslora = -1 };
    family("llama", &o);
    o = (peft_adapter_opts){ .size = sizeof(o), .rank = 2, .targets = "q_proj",
                             .target_parameters = "mlp.experts.gate_up_proj" };
    family("qwen3_moe", &o);
}

/* Alpha 0 is a scale of 1 for llama.cpp. */
static void test_zero_alpha(void)
{
    peft_adapter_opts o = { .size = sizeof(o), .rank = 2, .settings = "{\"lora_alpha\": 0}" };
    peft_model *plain = load_model(BASE), *m = load_model(BASE);
    CHECK_EQ(peft_adapter_add(m, "x", &o), PEFT_OK);
    fill(m);
    CHECK_NEAR(apart(m, plain), 0, 0);
    CHECK_EQ(save_as(m, at("%s/zero.gguf", test_dir), NULL, NULL), PEFT_OK);
    CHECK_EQ(peft_adapter_remove(m, "x"), PEFT_OK);
    CHECK_EQ(peft_adapter_load(m, "x", at("%s/zero.gguf", test_dir)), PEFT_OK);
    CHECK_NEAR(apart(m, plain), 0, 0);
    peft_model_free(m);
    peft_model_free(plain);
}

static void test_refused(void)
{
    static const struct { const char *from, *format, *word; } cases[] = {
        { "dora", "gguf", "method dora" }, { "ia3", "gguf", "method ia3" },
        { "lora_bias", "gguf", "lora_bias" }, { "lora_mts", "gguf", "modules_to_save" },
        { "loha", "mlx", "method loha" }, { "lora_bias", "mlx", "lora_bias" },
        { "lora_seqcls", "mlx", "heads" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        peft_model *m = load_model(BASE);
        CHECK_EQ(peft_adapter_load(m, "x", at(PEFT "%s", cases[i].from)), PEFT_OK);
        CHECK_EQ(save_as(m, at("%s/no.gguf", test_dir), cases[i].format, NULL), PEFT_EUNSUPPORTED);
        CHECK(strstr(peft_errmsg(), cases[i].word) && strstr(peft_errmsg(), "merge"));
        CHECK_EQ(access(at("%s/no.gguf", test_dir), F_OK), -1);
        peft_model_free(m);
    }
    peft_model *m = load_model("tests/golden/tiny/qwen2");
    peft_adapter_opts o = { .size = sizeof(o), .targets = "embed_tokens" };
    CHECK_EQ(peft_adapter_add(m, "x", &o), PEFT_OK);
    CHECK_EQ(save_as(m, at("%s/no.gguf", test_dir), NULL, NULL), PEFT_EUNSUPPORTED);
    CHECK_EQ(save_as(m, at("%s/no", test_dir), "pickle", NULL), PEFT_EARG);
    CHECK_EQ(save_as(m, at("%s/no", test_dir), NULL, "q4_0"), PEFT_EARG);
    CHECK_EQ(peft_adapter_load(m, "y", FORMATS "lora.gguf"), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "general.architecture"));
    peft_model_free(m);
    peft_model *base = NULL;
    CHECK_EQ(peft_model_load(FORMATS "lora.gguf", NULL, &base), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "adapter"));
}

/* A folder with these settings and MLX-LM's own tensors. */
static int32_t load_mlx(peft_model *m, const char *config)
{
    const char *dir = at("%s/mlx_bad", test_dir);
    char cmd[400];
    snprintf(cmd, sizeof(cmd), "mkdir -p %s && cp " FORMATS "mlx_lora/adapters.safetensors %s", dir,
             dir);
    CHECK_EQ(system(cmd), 0);
    CHECK_EQ(file_write(&test_host, at("%s/adapter_config.json", dir), config,
                        (int64_t)strlen(config)), PEFT_OK);
    return peft_adapter_load(m, "x", dir);
}

static void test_settings(void)
{
    peft_model *m = load_model(BASE);
    CHECK_EQ(load_mlx(m, "{\"lora_parameters\": {\"rank\": 4}}"), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "scale"));
    CHECK_EQ(load_mlx(m, "{\"lora_parameters\": {\"scale\": \"big\"}}"), PEFT_EFORMAT);
    CHECK_EQ(load_mlx(m, "{\"lora_parameters\": {\"scale\": 1e300}}"), PEFT_EFORMAT);
    CHECK_EQ(load_mlx(m, "{\"lora_parameters\": {\"scale\": 1, \"dropout\": 7}}"), PEFT_EFORMAT);
    CHECK_EQ(load_mlx(m, "{\"fine_tune_type\": \"x\", \"lora_parameters\": {}}"),
             PEFT_EUNSUPPORTED);
    CHECK_EQ(load_mlx(m, "{\"fine_tune_type\": \"dora\", \"lora_parameters\": {\"scale\": 1}}"),
             PEFT_EFORMAT);
    CHECK_EQ(load_mlx(m, "{}"), PEFT_EUNSUPPORTED);
    /* Rank and keys do not matter: the tensors say them. */
    CHECK_EQ(load_mlx(m, "{\"lora_parameters\": {\"rank\": 9, \"scale\": 20, \"keys\": []}}"),
             PEFT_OK);
    CHECK_NEAR(distance(m, FORMATS "mlx_lora/expect.json"), 0, 2e-5);
    peft_model_free(m);
}

int main(void)
{
    golden_begin();
    RUN(test_theirs);
    RUN(test_same_tensors);
    RUN(test_round_trips);
    RUN(test_families);
    RUN(test_zero_alpha);
    RUN(test_refused);
    RUN(test_settings);
    golden_end();
    return TEST_END();
}
