/* What goes along with the weights when a model becomes a folder or a GGUF file:
 * generation_config.json, progress, warnings; and the tables of what works. */
#include "kit.h"

static char warning[512];

static void on_log(void *ctx, int32_t level, const char *line)
{
    (void)ctx;
    if (level == 1) snprintf(warning, sizeof(warning), "%s", line);
}

static peft_model *load_loud(const char *path)
{
    peft_load_opts o = kit_opts();
    peft_model *m = NULL;
    o.log = on_log;
    OK(peft_model_load(path, &o, &m));
    if (!m) GIVE_UP();
    return m;
}

/* --- generation_config.json */

static peft_generate_opts defaults_of(const peft_model *m)
{
    peft_generate_opts o = { .size = sizeof(o), .max_tokens = 5 };
    OK(peft_generate_defaults(m, &o));
    CHECK_EQ(o.max_tokens, 5);
    return o;
}

static void sampling(void)
{
    static const char text[] = "{\"do_sample\": true, \"temperature\": 0.6, \"top_p\": 0.95,\n"
        " \"top_k\": 20, \"repetition_penalty\": 1.1, \"eos_token_id\": [9, 70000], \"x\": null}";
    make_model("gen", 1);
    peft_model *m = load(in("gen"));
    peft_generate_opts o = defaults_of(m);
    CHECK(o.temperature == 0 && o.top_k == 0 && o.top_p == 0 && o.repeat_penalty == 0);
    CHECK(!gen_ends((struct model *)m, 9));
    peft_model_free(m);
    put(in("gen/generation_config.json"), text);
    m = load(in("gen"));
    o = defaults_of(m);
    CHECK(o.temperature == 0.6f && o.top_k == 20 && o.top_p == 0.95f && o.min_p == 0);
    CHECK(o.repeat_penalty == 1.1f);
    CHECK(gen_ends((struct model *)m, 9) && !gen_ends((struct model *)m, 10));
    OK(peft_model_save(m, in("kept"), NULL));
    struct bytes b = get(in("kept/generation_config.json"));
    CHECK(b.n == strlen(text) && !memcmp(b.at, text, b.n));
    free(b.at);
    peft_model_free(m);
    /* Without do_sample: greedy, whatever the rest says. */
    put(in("gen/generation_config.json"), "{\"temperature\": 0.6, \"top_k\": 50}");
    m = load(in("gen"));
    o = defaults_of(m);
    CHECK(o.temperature == 0 && o.top_k == 0);
    peft_model_free(m);
}

static void bad_sampling(void)
{
    static const char *const bad[] = {
        "[]", "{", "{\"temperature\": \"hot\"}", "{\"top_k\": 1.5}", "{\"top_p\": -1}",
        "{\"eos_token_id\": \"end\"}", "{\"eos_token_id\": [1, \"end\"]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        peft_load_opts o = kit_opts();
        peft_model *m = NULL;
        put(in("gen/generation_config.json"), bad[i]);
        REFUSED(peft_model_load(in("gen"), &o, &m), PEFT_EFORMAT);
        CHECK(strstr(peft_errmsg(), "generation_config.json") != NULL);
    }
}

/* An answer ends at an id of the file that the tokenizer knows nothing of. */
static void ends(void)
{
    static const peft_message hello = { "user", "hello" };
    peft_generate_opts o = { .size = sizeof(o), .max_tokens = 4, .raw = 1 };
    peft_generated free_run = { .size = sizeof(free_run) }, stopped = free_run;
    char text[64];
    put(in("gen/generation_config.json"), "{}");
    peft_model *m = load(in("gen"));
    OK(peft_generate(m, &hello, 1, &o, &free_run));
    CHECK_EQ(free_run.tokens, 4);
    /* The likeliest first token is made an end. */
    int32_t ids[8];
    int64_t n = peft_tokenize(m, "hello", 5, PEFT_TOK_SPECIAL, ids, 8);
    float *z = malloc((size_t)n * VOCAB * 4);
    int32_t best = 0;
    OK(peft_forward(m, ids, (int32_t)n, z));
    for (int32_t i = 1; i < VOCAB; i++)
        if (z[(n - 1) * VOCAB + i] > z[(n - 1) * VOCAB + best]) best = i;
    free(z);
    peft_model_free(m);
    snprintf(text, sizeof(text), "{\"eos_token_id\": %d}", best);
    put(in("gen/generation_config.json"), text);
    m = load(in("gen"));
    OK(peft_generate(m, &hello, 1, &o, &stopped));
    CHECK(stopped.tokens == 0 && stopped.reason == PEFT_STOP_EOS);
    peft_model_free(m);
}

/* A folder made from GGUF gets one with all the tokenizer's ends. */
static void from_gguf(void)
{
    put(in("gen/generation_config.json"), "{}");
    peft_model *m = load(in("gen"));
    OK(peft_model_save(m, in("gen.gguf"), NULL));
    peft_model_free(m);
    m = load(in("gen.gguf"));
    OK(peft_model_save(m, in("made"), NULL));
    struct bytes b = get(in("made/generation_config.json"));
    CHECK(strstr(b.at, "\"eos_token_id\": [") != NULL);
    free(b.at);
    peft_model_free(m);
    m = load(in("made"));
    int ends_turn = 0;
    for (int32_t i = 0; i < VOCAB; i++) ends_turn += gen_ends((struct model *)m, i);
    CHECK(ends_turn > 0);
    peft_model_free(m);
}

/* --- saving */

struct watch { int64_t last, total; int calls, stop_at; };

static int32_t on_progress(void *ctx, int64_t done, int64_t total)
{
    struct watch *w = ctx;
    CHECK(done >= w->last && done <= total);
    w->last = done;
    w->total = total;
    return ++w->calls == w->stop_at;
}

static void progress(void)
{
    static const char *const paths[] = { "watched", "watched.gguf" };
    peft_model *m = load(in("gen"));
    for (int i = 0; i < 2; i++) {
        struct watch w = { 0 };
        peft_save_opts o = { .size = sizeof(o), .progress = on_progress, .ctx = &w };
        OK(peft_model_save(m, in("%s", paths[i]), &o));
        CHECK(w.calls == 20 && w.last == w.total && w.total > 0);
        w = (struct watch){ .stop_at = 3 };
        REFUSED(peft_model_save(m, in("%s", paths[i]), &o), PEFT_ECANCELLED);
        CHECK_EQ(w.calls, 3);
        peft_model_free(load(in("%s", paths[i])));     /* the old one is still there */
    }
    peft_model_free(m);
}

/* transformers' classes pool in one way; another is told. */
static void pooling(void)
{
    static const struct { const char *model, *pool; int warned; } all[] = {
        { "tests/golden/tiny/llama", "mean", 1 }, { "tests/golden/tiny/llama", NULL, 0 },
        { "tests/golden/tiny/mistral", "cls", 1 },
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        peft_head_opts o = { .size = sizeof(o), .labels = 3, .pool = all[i].pool };
        peft_model *m = load_loud(all[i].model);
        OK(peft_head_add(m, &o));
        *warning = 0;
        OK(peft_model_save(m, in("pooled"), NULL));
        CHECK_EQ(*warning != 0, all[i].warned);
        CHECK(!*warning || strstr(warning, all[i].pool));
        struct bytes b = get(in("pooled/config.json"));
        CHECK(!all[i].pool || strstr(b.at, all[i].pool));
        free(b.at);
        peft_model_free(m);
    }
}

/* --- adapters: modules that a removed one kept train no more */

static void kept_modules(void)
{
    peft_model *m = load(in("gen"));
    peft_adapter_opts a = { .size = sizeof(a), .modules_to_save = "norm" }, b = a;
    const struct param *norm = model_param((struct model *)m, "model.norm.weight");
    OK(peft_adapter_add(m, "a", &a));
    CHECK(norm->trainable);
    OK(peft_adapter_add(m, "b", &b));
    OK(peft_adapter_remove(m, "a"));
    CHECK(norm->trainable);
    OK(peft_adapter_remove(m, "b"));
    CHECK(!norm->trainable);
    OK(peft_unfreeze(m, "model.norm.weight"));
    OK(peft_adapter_add(m, "plain", NULL));
    CHECK(!norm->trainable);
    OK(peft_unfreeze(m, "model.norm.weight"));
    OK(peft_adapter_add(m, "a", &a));
    OK(peft_adapter_remove(m, "a"));
    CHECK(norm->trainable);
    OK(peft_adapter_add(m, "a", &a));
    OK(peft_adapter_add(m, "b", &b));
    OK(peft_adapter_remove(m, "b"));
    OK(peft_adapter_remove(m, "a"));
    CHECK(norm->trainable);
    peft_model_free(m);
}

/* --- tables */

static int32_t rows_of(const char *table, const char *name)
{
    peft_entry e = { .size = sizeof(e) };
    int32_t n = 0, seen = 0;
    for (; peft_list(table, n, &e) == PEFT_OK; n++) {
        CHECK(e.name[0] && strlen(e.name) < sizeof(e.name) - 1);
        CHECK(strlen(e.hf) < sizeof(e.hf) - 1 && strlen(e.about) < sizeof(e.about) - 1);
        seen += !strcmp(e.name, name);
    }
    CHECK_EQ(peft_list(table, n, &e), PEFT_EEND);
    CHECK_EQ(seen, 1);
    return n;
}

static void tables(void)
{
    int32_t families = 0, types = 0;
    peft_entry e = { .size = sizeof(e) };
    while (archs[families]) families++;
    while (qtypes[types]) types++;
    CHECK_EQ(rows_of("families", "llama"), families);
    CHECK_EQ(rows_of("types", "NF4"), types);
    CHECK(rows_of("formats", "GGUF") >= 3);
    CHECK(rows_of("tokenizers", "WordPiece") >= 3);
    CHECK(rows_of("heads", "classification") >= 2);
    for (int32_t i = 0; i < families; i++) {
        OK(peft_list("families", i, &e));
        CHECK(e.hf[0] && e.kind[0]);
    }
    REFUSED(peft_list("nothing", 0, &e), PEFT_EARG);
    REFUSED(peft_list(NULL, 0, &e), PEFT_EARG);
    REFUSED(peft_list("heads", -1, &e), PEFT_EARG);
    REFUSED(peft_list("heads", 0, NULL), PEFT_EARG);
    REFUSED(peft_generate_defaults(NULL, NULL), PEFT_EARG);
}

int main(void)
{
    kit_begin();
    RUN(sampling);
    RUN(bad_sampling);
    RUN(ends);
    RUN(from_gguf);
    RUN(progress);
    RUN(pooling);
    RUN(kept_modules);
    RUN(tables);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
    kit_end();
    return TEST_END();
}
