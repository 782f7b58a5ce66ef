/* peft_adapter_check and peft_adapter_convert: every rule over a small made-up folder, files that
 * are broken, and conversions that are proven or refused. */
#include "kit.h"

static const char *base_dir;

/* --- folders: a LoRA of rank 2 on two modules, with members put over its own */

#define LAYER "base_model.model.model.layers.0."
static const char plain[] =
    "\"base_model_name_or_path\": \"base\", \"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4,"
    "\"target_modules\": [\"q_proj\", \"v_proj\"]";

struct made { const char *name; int32_t n_dims; int64_t rows, cols; };

static void put_tensors(const char *dir, const struct made *list, int n)
{
    static float values[4096];
    struct store_out t[16];
    struct host h;
    for (int i = 0; i < 4096; i++) values[i] = (float)(i % 7 - 3) * 0.01f;
    for (int i = 0; i < n; i++)
        t[i] = (struct store_out){ .name = list[i].name, .type = &qtype_f32,
            .n_dims = list[i].n_dims,
            .dims = { list[i].rows, list[i].cols }, .data = values };
    if (host_init(&h, NULL) ||
        safetensors_write(&h, in("%s/adapter_model.safetensors", dir), t, n, NULL, 0))
        GIVE_UP();
}

static const char *make_adapter(const char *dir, const char *config, const struct made *more, int n)
{
    struct made list[16] = { { LAYER "self_attn.q_proj.lora_A.weight", 2, 2, 16 },
                             { LAYER "self_attn.q_proj.lora_B.weight", 2, 16, 2 },
                             { LAYER "self_attn.v_proj.lora_A.weight", 2, 2, 16 },
                             { LAYER "self_attn.v_proj.lora_B.weight", 2, 8, 2 } };
    char text[2048];
    mkdir(in("%s", dir), 0777);
    snprintf(text, sizeof(text), "{%s}", config);
    put(in("%s/adapter_config.json", dir), text);
    for (int i = 0; i < n; i++) list[4 + i] = more[i];
    put_tensors(dir, list, 4 + n);
    return in("%s", dir);
}

static const char verdict_letters[] = "lrm";
/* Verdicts of peft, vllm and llama.cpp as three letters. */
static const char *verdicts(const char *dir, const peft_model *base)
{
    static char text[8];
    peft_adapter_report r = { .size = sizeof(r) };
    peft_check_opts o = { .size = sizeof(o), .base = base };
    peft_load_opts host = kit_opts();
    o.host = &host;
    text[0] = 0;
    OK(peft_adapter_check(dir, &o, &r));
    if (r.n_readers != 3) return "none";
    for (int i = 0; i < 3; i++) text[i] = verdict_letters[r.verdicts[i]];
    for (int i = 0; i < r.n_findings; i++)
        CHECK(r.findings[i].why[0] && r.findings[i].fix && r.findings[i].found[0]);
    text[3] = 0;
    return text;
}

static void settings(void)
{
    /* What is added to the plain config, and what the three make of it. */
    static const struct { const char *more, *want; } cases[] = {
        { "", "lll" }, { ", \"use_rslora\": true", "llm" },
        { ", \"use_rslora\": false, \"bias\": \"none\", \"modules_to_save\": null", "lll" },
        { ", \"alpha_pattern\": {\"q_proj\": 8}", "lmm" },
        { ", \"alpha_pattern\": {\"k_proj\": 8}", "lll" },
        { ", \"rank_pattern\": {\"q_proj\": 4}", "rml" }, { ", \"use_dora\": true", "lrr" },
        { ", \"lora_bias\": true", "lrr" }, { ", \"bias\": \"all\"", "lrr" },
        { ", \"modules_to_save\": [\"lm_head\"]", "rrl" },
        { ", \"trainable_token_indices\": [1]", "lrr" },
        { ", \"target_parameters\": [\"mlp.experts\"]", "llr" },
        { ", \"alora_invocation_tokens\": [1]", "lml" }, { ", \"fan_in_fan_out\": true", "llr" },
        { ", \"use_qalora\": true", "lmm" }, { ", \"layer_replication\": [[0, 1]]", "lmm" },
        { ", \"init_lora_weights\": \"pissa\"", "lmm" },
        { ", \"init_lora_weights\": \"olora\"", "lmm" },
        { ", \"init_lora_weights\": \"pissa_niter_4\"", "mmm" },
        { ", \"init_lora_weights\": \"corda\"", "mmm" },
        { ", \"init_lora_weights\": \"gaussian\"", "lll" },
        { ", \"exclude_modules\": [\"q_proj\"]", "mll" },
        { ", \"layers_to_transform\": [1]", "mll" }, { ", \"layers_to_transform\": 0", "lll" } };
    char text[1024];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        snprintf(text, sizeof(text), "%s%s", plain, cases[i].more);
        int bad = test_bad;
        CHECK_STR(verdicts(make_adapter("a", text, NULL, 0), NULL), cases[i].want);
        if (test_bad != bad) printf("  with %s\n", cases[i].more);
    }
}

static void absent(void)
{
    static const struct { const char *config, *want; } cases[] = {
        { "\"r\": 2, \"lora_alpha\": 4, \"target_modules\": [\"q_proj\", \"v_proj\"]", "rll" },
        { "\"peft_type\": \"LORA\", \"lora_alpha\": 4, \"target_modules\": \"all-linear\"", "rrl" },
        { "\"peft_type\": \"LORA\", \"r\": 2, \"target_modules\": \".*(q|v)_proj\"", "mrr" },
        { "\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4", "lrl" },
        { "\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4, \"target_modules\": [\"q_proj\"]",
          "mll" },
        { "\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 4, \"target_modules\": [\"v_proj\","
          " \"self_attn.q_proj\"]", "rml" },
        { "\"peft_type\": \"IA3\"", "lrr" }, { "\"peft_type\": \"PROMPT_TUNING\"", "lrr" },
        { "\"peft_type\": \"NEW\", \"r\": 2, \"lora_alpha\": 4, \"target_modules\": [\"q_proj\","
          " \"v_proj\"]", "rll" },
        { "\"fine_tune_type\": \"lora\", \"lora_parameters\": {\"rank\": 2}", "rrr" } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int bad = test_bad;
        CHECK_STR(verdicts(make_adapter("b", cases[i].config, NULL, 0), NULL), cases[i].want);
        if (test_bad != bad) printf("  with %s\n", cases[i].config);
    }
}

static void names(void)
{
    static const struct { struct made t; const char *want; } cases[] = {
        { { LAYER "self_attn.q_proj.lora_magnitude_vector", 1, 16, 0 }, "mrr" },
        { { LAYER "self_attn.q_proj.lora_B.bias", 1, 16, 0 }, "mrr" },
        { { "base_model.model.lm_head.weight", 2, 8, 16 }, "lrr" },
        { { "base_model.model.model.norm.weight", 1, 16, 0 }, "lrm" },
        { { "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", 2, 1, 16 },
          "mrr" },
        { { "base_model.model.model.embed_tokens.base_layer.weight", 2, 4, 16 }, "lll" },
        { { LAYER "self_attn.k_proj.lora_A.weight", 2, 2, 16 }, "mrr" },
        { { LAYER "self_attn.q_proj.lora_A.default.weight", 2, 2, 16 }, "lrr" },
        { { "other.thing", 1, 4, 0 }, "mrr" } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int bad = test_bad;
        CHECK_STR(verdicts(make_adapter("c", plain, &cases[i].t, 1), NULL), cases[i].want);
        if (test_bad != bad) printf("  with %s\n", cases[i].t.name);
    }
}

static void with_base(void)
{
    peft_model *m = load(base_dir);
    char all[600];
    CHECK_STR(verdicts(make_adapter("d", plain, NULL, 0), m), "lll");
    struct made more[] = { { LAYER "self_attn.k_proj.lora_A.weight", 2, 2, 12 },
                           { LAYER "self_attn.k_proj.lora_B.weight", 2, 8, 2 } };
    snprintf(all, sizeof(all), "%.*s, \"k_proj\", \"lm_head\"]", (int)strlen(plain) - 1, plain);
    CHECK_STR(verdicts(make_adapter("d", all, more, 2), NULL), "lll");
    CHECK_STR(verdicts(in("d"), m), "rrr");
    more[0].name = "base_model.model.model.layers.7.self_attn.k_proj.lora_A.weight";
    more[1].name = "base_model.model.model.layers.7.self_attn.k_proj.lora_B.weight";
    CHECK_STR(verdicts(make_adapter("d", all, more, 2), m), "mmr");
    more[0] = (struct made){ "base_model.model.lm_head.lora_A.weight", 2, 2, DIM };
    more[1] = (struct made){ "base_model.model.lm_head.lora_B.weight", 2, VOCAB, 2 };
    CHECK_STR(verdicts(make_adapter("d", all, more, 2), m), "llr");
    more[0] = (struct made){ "base_model.model.layers.1.self_attn.k_proj.lora_A.weight", 2, 2, 16 };
    more[1] = (struct made){ "base_model.model.layers.1.self_attn.k_proj.lora_B.weight", 2, 8, 2 };
    CHECK_STR(verdicts(make_adapter("d", all, more, 2), m), "mml");
    peft_model_free(m);
}

static void files(void)
{
    peft_adapter_report r = { .size = sizeof(r) };
    peft_check_opts o = { .size = sizeof(o), .reader = "vllm" };
    make_adapter("e", plain, NULL, 0);
    OK(peft_adapter_check(in("e"), &o, &r));
    CHECK_EQ(r.n_readers, 1);
    CHECK_STR(r.readers[0], "vllm");
    CHECK_STR(r.method, "lora");
    CHECK_EQ(r.rank, 2);
    CHECK_EQ(r.tensors, 4);
    o.reader = "ollama";
    REFUSED(peft_adapter_check(in("e"), &o, &r), PEFT_EARG);
    REFUSED(peft_adapter_check(in("nowhere"), NULL, &r), PEFT_ENOTFOUND);
    REFUSED(peft_adapter_check(NULL, NULL, &r), PEFT_EARG);
    REFUSED(peft_adapter_check(in("e"), NULL, NULL), PEFT_EARG);
    static const char *const broken[] = { "", "{", "[]", "5", "{\"r\": 2, \"r\": 3}",
        "{\"r\": 1e400}",
        "{\"peft_type\": \"LORA\", \"rank_pattern\": [1]}",
        "{\"peft_type\": \"LORA\", \"rank_pattern\": {\"q_proj\": \"x\"}}",
        "{\"peft_type\": \"LORA\", \"alpha_pattern\": {\"q_proj\": null}}" };
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        put(in("e/adapter_config.json"), broken[i]);
        REFUSED(peft_adapter_check(in("e"), NULL, &r), PEFT_EFORMAT);
    }
    /* Odd, but JSON. */
    static const char *const odd[] = { "{}", "{\"peft_type\": 5}", "{\"peft_type\": \"LORA\"}",
        "{\"peft_type\": \"LORA\", \"r\": -1e300, \"lora_alpha\": [], \"target_modules\": {}}",
        "{\"peft_type\": \"LORA\", \"r\": {}, \"target_modules\": [1, null, \"\"]}",
        "{\"peft_type\": \"LORA\", \"layers_to_transform\": [\"x\", {}], \"bias\": 7}" };
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        put(in("e/adapter_config.json"), odd[i]);
        int32_t rc = peft_adapter_check(in("e"), NULL, &r);
        CHECK(rc == PEFT_OK || (rc == PEFT_EFORMAT && is_failure(rc)));
    }
    make_adapter("e", plain, NULL, 0);
    struct bytes t = get(in("e/adapter_model.safetensors"));
    for (size_t n = 0; n < t.n; n += 37) {
        put_bytes(in("e/adapter_model.safetensors"), t.at, n);
        REFUSED(peft_adapter_check(in("e"), NULL, &r), PEFT_EFORMAT);
    }
    free(t.at);
    remove(in("e/adapter_model.safetensors"));
    CHECK_STR(verdicts(in("e"), NULL), "rrr");
    put(in("e/adapter_model.bin"), "x");
    CHECK_STR(verdicts(in("e"), NULL), "lll");
    remove(in("e/adapter_model.bin"));
    put(in("e/adapter_model.safetensors.index.json"), "{}");
    CHECK_STR(verdicts(in("e"), NULL), "rrr");
    make_adapter("e", plain, NULL, 0);
    remove(in("e/adapter_config.json"));
    CHECK_STR(verdicts(in("e"), NULL), "rrr");
}

/* --- convert */

static const char *trained(const char *settings, const char *method, const char *init)
{
    peft_model *m = load(base_dir);
    peft_adapter_opts o = { .size = sizeof(o), .rank = 4, .rslora = -1, .settings = settings,
                            .method = method, .init = init, .seed = 3 };
    OK(peft_adapter_add(m, "x", &o));
    for (struct adapter *a = model_of(m)->adapters; a; a = a->next)
        for (int64_t i = 0; i < a->n_sites; i++)
            for (int k = 0; k < START; k++) {
                struct param *p = a->sites[i].part[k];
                if (!p) continue;
                float *x = malloc((size_t)param_len(p) * 4);
                rng_fill_normal(x, param_len(p), 0.05f, 5, (uint64_t)(i * PARTS + k));
                for (int64_t j = 0; j < param_len(p); j++) p->own[j] += x[j];
                free(x);
            }
    OK(peft_adapter_save(m, "x", in("from")));
    peft_model_free(m);
    return in("from");
}

static void folds(void)
{
    static const struct { const char *settings, *reader, *want; int rank; } cases[] = {
        { NULL, NULL, "lll", 4 }, { "{\"use_rslora\": true}", NULL, "lll", 4 },
        { "{\"use_rslora\": true, \"rank_pattern\": {\"q_proj\": 7}}", "vllm", "lll", 7 },
        { "{\"rank_pattern\": {\"q_proj\": 2}, \"alpha_pattern\": {\"v_proj\": 3}}", "llama.cpp",
          "lll", 4 },
        { "{\"alpha_pattern\": {\"v_proj\": 3}}", "peft", "lmm", 4 } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *from = trained(cases[i].settings, NULL, NULL);
        peft_model *m = load(base_dir);
        peft_convert_opts o = { .size = sizeof(o), .reader = cases[i].reader };
        peft_converted c = { .size = sizeof(c) };
        OK(peft_adapter_convert(m, from, in("to%d", (int)i), &o, &c));
        CHECK_STR(c.kind, "lora");
        CHECK_EQ(c.rank, cases[i].rank);
        CHECK(c.max_logit_diff <= 1e-5 && c.texts == 4 && c.tokens > 40);
        CHECK_STR(verdicts(in("to%d", (int)i), m), cases[i].want);
        CHECK(!adapter_find(model_of(m), "convert-from") && !model_of(m)->adapters);
        peft_model_free(m);
    }
}

static void merges(void)
{
    const char *from = trained(NULL, "dora", NULL);
    peft_convert_opts o = { .size = sizeof(o) };
    peft_converted c = { .size = sizeof(c) };
    peft_model *m = load(base_dir);
    REFUSED(peft_adapter_convert(m, from, in("merged"), &o, &c), PEFT_EUNSUPPORTED);
    struct stat s;
    CHECK(stat(in("merged"), &s) != 0);
    o.rank = 16;
    OK(peft_adapter_convert(m, from, in("near"), &o, &c));
    CHECK(c.weight_error < 1e-5 && c.max_logit_diff < 1e-4 && c.rank == 16);
    o.rank = 1;
    OK(peft_adapter_convert(m, from, in("far"), &o, &c));
    CHECK(c.weight_error > 0.1 && c.max_logit_diff > 1e-3);
    CHECK_STR(verdicts(in("far"), m), "lll");
    o.limit = 1e-6;
    REFUSED(peft_adapter_convert(m, from, in("none"), &o, &c), PEFT_EUNSUPPORTED);
    CHECK(stat(in("none"), &s) != 0);
    o = (peft_convert_opts){ .size = sizeof(o), .merge = 1 };
    OK(peft_adapter_convert(m, from, in("merged"), &o, &c));
    CHECK_STR(c.kind, "merged");
    CHECK(c.max_logit_diff < 1e-4);
    peft_model_free(m);
    m = load(base_dir);
    OK(peft_adapter_convert(m, from, in("merged.gguf"), &o, &c));
    CHECK(stat(in("merged.gguf"), &s) == 0);
    peft_model_free(m);
}

static void formats(void)
{
    const char *from = trained("{\"use_rslora\": true}", NULL, NULL);
    static const char *const texts[] = { "one text", "another" };
    peft_convert_opts o = { .size = sizeof(o), .texts = texts, .n_texts = 2 };
    peft_converted c = { .size = sizeof(c) };
    peft_model *m = load(base_dir);
    OK(peft_adapter_convert(m, from, in("lora.gguf"), &o, &c));
    CHECK_EQ(c.texts, 2);
    CHECK_STR(verdicts(in("lora.gguf"), m), "rrl");
    o.format = "mlx";
    OK(peft_adapter_convert(m, from, in("mlx"), &o, &c));
    CHECK_STR(verdicts(in("mlx"), m), "rrr");
    o.format = "peft";
    OK(peft_adapter_convert(m, in("mlx"), in("back"), &o, &c));
    CHECK_STR(verdicts(in("back"), m), "lll");
    o.dtype = "bf16";
    REFUSED(peft_adapter_convert(m, from, in("half"), &o, &c), PEFT_EUNSUPPORTED);
    o.limit = 10;
    OK(peft_adapter_convert(m, from, in("half"), &o, &c));
    CHECK(c.max_logit_diff > 1e-4);
    o.dtype = "q4_0";
    REFUSED(peft_adapter_convert(m, from, in("q"), &o, &c), PEFT_EARG);
    o = (peft_convert_opts){ .size = sizeof(o), .reader = "x" };
    REFUSED(peft_adapter_convert(m, from, in("q"), &o, &c), PEFT_EARG);
    REFUSED(peft_adapter_convert(m, in("nowhere"), in("q"), NULL, &c), PEFT_ENOTFOUND);
    peft_adapter_opts add = { .size = sizeof(add) };
    OK(peft_adapter_add(m, "y", &add));
    REFUSED(peft_adapter_convert(m, from, in("q"), NULL, &c), PEFT_ESTATE);
    peft_model_free(m);
    m = load(in("merged.gguf"));
    REFUSED(peft_adapter_convert(m, in("e"), in("q"), NULL, &c), PEFT_ENOTFOUND);
    peft_model_free(m);
}

/* A file as PEFT saves it: the factors that were trained, of a base less the first ones. */
static void starts(void)
{
    static const char *const inits[] = { "pissa", "olora" };
    static int32_t ids[] = { 5, 9, 100, 41, 7, 30 };
    static float want[6 * VOCAB], got[6 * VOCAB];
    for (int k = 0; k < 2; k++) {
        peft_model *m = load(base_dir);
        peft_adapter_opts o = { .size = sizeof(o), .rank = 4, .rslora = -1, .init = inits[k],
                                .targets = "q_proj,down_proj" };
        OK(peft_forward(m, ids, 6, want));
        OK(peft_adapter_add(m, "x", &o));
        struct adapter *a = model_of(m)->adapters;
        a->shifts = 0;              /* as if there were no initial values */
        struct param *start[32][2];
        for (int64_t i = 0; i < a->n_sites; i++)
            for (int j = 0; j < 2; j++) {
                start[i][j] = a->sites[i].part[START + j];
                a->sites[i].part[START + j] = NULL;
            }
        OK(peft_adapter_save(m, "x", in("plain")));
        for (int64_t i = 0; i < a->n_sites; i++)
            for (int j = 0; j < 2; j++) a->sites[i].part[START + j] = start[i][j];
        peft_model_free(m);
        struct bytes c = get(in("plain/adapter_config.json"));
        char text[4096], *at = strstr(c.at, "\"init_lora_weights\": true");
        if (!at) GIVE_UP();
        snprintf(text, sizeof(text), "%.*s\"init_lora_weights\": \"%s\"%s", (int)(at - c.at), c.at,
                 inits[k], at + strlen("\"init_lora_weights\": true"));
        free(c.at);
        put(in("plain/adapter_config.json"), text);
        m = load(base_dir);
        CHECK_STR(verdicts(in("plain"), m), "lmm");
        OK(peft_adapter_load(m, "x", in("plain")));
        OK(peft_forward(m, ids, 6, got));
        for (int i = 0; i < 6 * VOCAB; i++) CHECK_NEAR(got[i], want[i], 2e-3);
        OK(peft_adapter_remove(m, "x"));
        peft_converted done = { .size = sizeof(done) };
        OK(peft_adapter_convert(m, in("plain"), in("diff%d", k), NULL, &done));
        CHECK_EQ(done.rank, 8);
        CHECK_STR(verdicts(in("diff%d", k), m), "lll");
        /* Another base has other initial values. */
        peft_model_free(m);
        make_model("other", 0);
        struct store *st = NULL;
        struct host h;
        struct store_out t[64];
        static float other[VOCAB * DIM];
        if (host_init(&h, NULL) ||
            store_open_safetensors(&h, in("other/model.safetensors"), false, &st))
            GIVE_UP();
        int64_t n = store_count(st);
        rng_fill_normal(other, VOCAB * DIM, 0.2f, 99, 1);
        for (int64_t i = 0; i < n; i++) {
            const struct store_tensor *e = store_at(st, i);
            t[i] = (struct store_out){ .name = e->name, .type = e->type, .n_dims = e->n_dims,
                                       .dims = { e->dims[0], e->dims[1] }, .data = other };
        }
        if (safetensors_write(&h, in("other/model.safetensors"), t, n, NULL, 0)) GIVE_UP();
        store_close(st);
        /* Our own file knows its base; without that, the initial values tell. */
        m = load(in("other"));
        REFUSED(peft_adapter_load(m, "x", in("plain")), PEFT_EFORMAT);
        peft_model_free(m);
        peft_load_opts any = kit_opts();
        any.any_base = 1;
        OK(peft_model_load(in("other"), &any, &m));
        REFUSED(peft_adapter_load(m, "x", in("plain")), PEFT_EUNSUPPORTED);
        CHECK(!model_of(m)->adapters);
        peft_model_free(m);
    }
}

int main(void)
{
    kit_begin();
    base_dir = make_model("base", 1);
    char kept[128];
    snprintf(kept, sizeof(kept), "%s", base_dir);
    base_dir = kept;
    RUN(settings);
    RUN(absent);
    RUN(names);
    RUN(with_base);
    RUN(files);
    RUN(folds);
    RUN(merges);
    RUN(formats);
    RUN(starts);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
    kit_end();
    return TEST_END();
}
