/* Rows of tokens, embeddings that are the output layer too, and DoRA on
 * embeddings, as Hugging Face PEFT has them (make_tokens.py). */
#include "trace.h"

static const char llama[] = "tests/golden/peft/base_llama", tied[] = "tests/golden/peft/base_tied";

static const struct fixture {
    const char *name, *base;
    int merges;                     /* 0: PEFT would part what is one tensor */
    int trace;
} fixtures[] = {
    { "tokens", llama, 1, 0 },
    { "tokens_lora", llama, 1, 1 },
    { "tokens_dict", llama, 1, 0 },
    { "tokens_tied", tied, 1, 1 },
    { "tied_lora", tied, 0, 0 },
    { "tied_lora_ensured", tied, 1, 1 },
    { "tied_dora_ensured", tied, 0, 0 },
    { "tied_saved", tied, 0, 0 },
    { "tied_saved_both", tied, 0, 0 },
    { "tied_saved_ensured", tied, 1, 0 },
    { "dora_embed", llama, 1, 1 },
    { "dora_gpt2", "tests/golden/tiny/gpt2", 0, 0 },
};

/* Tensors of the file, without the base's own, which PEFT adds. */
static int64_t count_tensors(const char *dir)
{
    struct store *st = open_st(at("%s/adapter_model.safetensors", dir));
    int64_t n = 0;
    for (int64_t i = 0; st && i < store_count(st); i++)
        n += !strstr(store_at(st, i)->name, ".base_layer.");
    store_close(st);
    return n;
}

static void check_fixture(const struct fixture *f)
{
    peft_model *m = load_model(f->base), *m2 = load_model(f->base);
    const char *dir = at("tests/golden/peft/%s", f->name);
    char saved[128];
    json *expect = read_json_file(at("%s/expect.json", dir));
    snprintf(saved, sizeof(saved), "%s/%s", test_dir, f->name);
    CHECK(last_apart(m, expect) > 1e-2);
    double base = last_apart(m, expect);
    CHECK_EQ(peft_adapter_load(m, "default", dir), PEFT_OK);
    CHECK_NEAR(last_apart(m, expect), 0, 2e-5);
    CHECK_EQ(peft_adapter_disable(m, "default"), PEFT_OK);
    CHECK_NEAR(last_apart(m, expect), base, 0);
    CHECK_EQ(peft_adapter_enable(m, "default"), PEFT_OK);
    CHECK_NEAR(last_apart(m, expect), 0, 2e-5);
    CHECK_EQ(peft_adapter_save(m, "default", saved), PEFT_OK);
    CHECK_EQ(count_tensors(saved), count_tensors(dir));
    CHECK_EQ(peft_adapter_load(m2, "again", saved), PEFT_OK);
    CHECK_NEAR(last_apart(m2, expect), 0, 2e-5);
    CHECK_EQ(peft_adapter_remove(m2, "again"), PEFT_OK);
    CHECK_NEAR(last_apart(m2, expect), base, 0);
    int rc = f->merges && !strstr(f->name, "saved") ? peft_adapter_set_merged(m, "default", 1) : 1;
    CHECK(rc == PEFT_OK || rc == 1);
    CHECK_NEAR(last_apart(m, expect), 0, 2e-5);
    if (!rc) CHECK_EQ(peft_adapter_set_merged(m, "default", 0), PEFT_OK);
    CHECK_NEAR(last_apart(m, expect), 0, 2e-5);
    CHECK_EQ(peft_adapter_merge(m, "default"), f->merges ? PEFT_OK : PEFT_EUNSUPPORTED);
    CHECK_NEAR(last_apart(m, expect), 0, 2e-5);
    json_free(expect);
    peft_model_free(m);
    peft_model_free(m2);
}

/* Ten steps of AdamW with clipping from what PEFT began with. */
static void check_trace(const struct fixture *f)
{
    json *trace = read_json_file(at("tests/golden/peft/trace_%s/trace.json", f->name));
    peft_model *m = load_model(f->base);
    CHECK_EQ(peft_adapter_load(m, "default", at("tests/golden/peft/trace_%s/init", f->name)),
             PEFT_OK);
    trace_follow(m, trace, 1);
    peft_model_free(m);
    json_free(trace);
}

/* Names of tokens, and what is refused. */
static void test_options(void)
{
    static const struct { const char *method, *tokens, *settings, *targets; int rc; } bad[] = {
        { "lora", "3,nonsense", NULL, NULL, PEFT_ENOTFOUND },
        { "lora", "3,64", NULL, NULL, PEFT_EARG },
        { "lora", "3,5,3", NULL, NULL, PEFT_EARG },
        { "lora", "3", NULL, "embed_tokens", PEFT_EARG },
        { "ia3", "3", NULL, NULL, PEFT_EARG },
        { "tokens", NULL, NULL, NULL, PEFT_EARG },
        { "tokens", "3", "{\"token_indices\": [4]}", NULL, PEFT_EARG },
        { "lora", NULL, "{\"trainable_token_indices\": [1.5]}", NULL, PEFT_EARG },
        { "lora", NULL, "{\"trainable_token_indices\": {\"nose\": [1]}}", NULL, PEFT_EARG },
        { "lora", NULL, "{\"trainable_token_indices\": 3}", NULL, PEFT_EFORMAT },
        { "lora", NULL, "{\"trainable_token_indices\": []}", NULL, PEFT_EARG },
    };
    peft_model *m = load_model(tied);
    peft_info info = { .size = sizeof(info) };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        peft_adapter_opts o = { .size = sizeof(o), .method = bad[i].method,
                                .trainable_tokens = bad[i].tokens, .settings = bad[i].settings,
                                .targets = bad[i].targets };
        CHECK_EQ(peft_adapter_add(m, "a", &o), bad[i].rc);
    }
    peft_adapter_opts o = { .size = sizeof(o), .method = "tokens", .trainable_tokens = "63,0" };
    CHECK_EQ(peft_adapter_add(m, "a", &o), PEFT_OK);
    CHECK_EQ(peft_model_info(m, &info), PEFT_OK);
    CHECK_EQ(info.trainable, 2 * info.dim);
    o = (peft_adapter_opts){ .size = sizeof(o), .rank = 2, .trainable_tokens = "5" };
    CHECK_EQ(peft_adapter_add(m, "b", &o), PEFT_OK);
    peft_model_free(m);
}

/* What is kept tied by default, and what training then counts. */
static void test_ties(void)
{
    static const struct { const char *targets, *save, *settings; int64_t more; } rows[] = {
        { "embed_tokens", NULL, NULL, 2 * (64 + 16) },
        { "lm_head", NULL, NULL, 2 * (64 + 16) },
        { "lm_head,embed_tokens", NULL, "{\"ensure_weight_tying\": false}", 4 * (64 + 16) },
        { "q_proj", "lm_head", NULL, 2 * 2 * 32 + 64 * 16 },
        { "q_proj", "lm_head,embed_tokens", "{\"ensure_weight_tying\": false}",
          2 * 2 * 32 + 2 * 64 * 16 },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        peft_model *m = load_model(tied);
        peft_info info = { .size = sizeof(info) };
        peft_adapter_opts o = { .size = sizeof(o), .rank = 2, .targets = rows[i].targets,
                                .modules_to_save = rows[i].save, .settings = rows[i].settings };
        CHECK_EQ(peft_adapter_add(m, "a", &o), PEFT_OK);
        CHECK_EQ(peft_model_info(m, &info), PEFT_OK);
        CHECK_EQ(info.trainable, rows[i].more);
        CHECK_EQ(peft_adapter_remove(m, "a"), PEFT_OK);
        peft_model_free(m);
    }
}

static void for_all(void (*check)(const struct fixture *), int traced)
{
    for (size_t i = 0; i < ARRAY_LEN(fixtures); i++) {
        int bad = test_bad;
        if (!traced || fixtures[i].trace) check(&fixtures[i]);
        if (test_bad > bad) printf("  in %s\n", fixtures[i].name);
    }
}

static void test_fixtures(void) { for_all(check_fixture, 0); }
static void test_traces(void) { for_all(check_trace, 1); }

int main(void)
{
    golden_begin();
    RUN(test_fixtures);
    RUN(test_traces);
    RUN(test_options);
    RUN(test_ties);
    golden_end();
    return TEST_END();
}
