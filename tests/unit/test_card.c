/* What is written beside an adapter's tensors, and what they tell when they are
 * loaded elsewhere: the model card, the base, weights that never changed. */
#include "../parity/golden.h"
#include "adapt/io.h"
#include "base/sha256.h"

static const char llama[] = "tests/golden/peft/base_llama";
static char logged[512];

static void take_line(void *ctx, int32_t level, const char *line)
{
    (void)ctx;
    if (level == 1) snprintf(logged, sizeof(logged), "%s", line);
}

static peft_model *open_logged(const char *path, int any_base)
{
    peft_load_opts o = { .size = sizeof(o), .threads = 1, .log = take_line, .any_base = any_base };
    peft_model *m = NULL;
    *logged = 0;
    CHECK_EQ(peft_model_load(path, &o, &m), PEFT_OK);
    return m;
}

static char *file_text(const char *path)
{
    static char text[8192];
    FILE *f = fopen(path, "rb");
    text[f ? fread(text, 1, sizeof(text) - 1, f) : 0] = 0;
    if (f) fclose(f);
    return text;
}

static void put_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    fputs(text, f);
    fclose(f);
}

/* The vectors of FIPS 180-4's examples, and lengths around a block. */
static void test_sha256(void)
{
    char hex[SHA256_HEX], million[1000];
    sha256("abc", 3, hex);
    CHECK_STR(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256("", 0, hex);
    CHECK_STR(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hex);
    CHECK_STR(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    memset(million, 'a', sizeof(million));
    put_text(at("%s/a", test_dir), "");
    FILE *f = fopen(at("%s/a", test_dir), "wb");
    for (int i = 0; i < 1000; i++) fwrite(million, 1, sizeof(million), f);
    fclose(f);
    CHECK_EQ(sha256_file(&test_host, at("%s/a", test_dir), hex), PEFT_OK);
    CHECK_STR(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    /* The processor's own rounds say what plain C does. */
    uint8_t text[1000], sum[2][SHA256_BYTES];
    for (int n = 0; n < 1000; n++) text[n] = (uint8_t)(n * n * 7);
    for (int64_t n = 0; n < 1000; n += 37) {
        for (int fast = 0; fast < 2; fast++) {
            struct sha256 h;
            sha256_begin(&h);
            h.fast = h.fast && fast;
            sha256_add(&h, text, n);
            sha256_end(&h, sum[fast]);
        }
        CHECK(!memcmp(sum[0], sum[1], sizeof sum[0]));
    }
}

static void train(peft_model *m)
{
    peft_dataset *d = NULL;
    peft_trainer *t = NULL;
    peft_train_opts o = { .size = sizeof(o), .steps = 2, .lr = 0.01f };
    peft_step s = { .size = sizeof(s) };
    peft_evaluation e = { .size = sizeof(e) };
    put_text(at("%s/rows.jsonl", test_dir),
             "{\"input_ids\": [3, 9, 27], \"labels\": [3, 9, 27]}\n");
    CHECK_EQ(peft_dataset_load(m, at("%s/rows.jsonl", test_dir), NULL, &d), PEFT_OK);
    CHECK_EQ(peft_trainer_new(m, d, &o, &t), PEFT_OK);
    CHECK_EQ(peft_train_step(t, &s), PEFT_OK);
    CHECK_EQ(peft_eval(m, d, NULL, &e), PEFT_OK);
    peft_trainer_free(t);
    peft_dataset_free(d);
}

static void test_card(void)
{
    peft_model *m = open_logged(llama, 0);
    peft_adapter_opts o = { .size = sizeof(o), .rank = 3, .trainable_tokens = "5" };
    const char *dir = at("%s/card", test_dir), *card = at("%s/card/README.md", test_dir);
    CHECK_EQ(peft_adapter_add(m, "default", &o), PEFT_OK);
    CHECK_EQ(peft_adapter_save(m, "default", dir), PEFT_OK);
    CHECK(strstr(logged, "none of its weights has changed"));
    CHECK(!strstr(file_text(card), "## Training"));
    train(m);
    *logged = 0;
    CHECK_EQ(peft_adapter_save(m, "default", dir), PEFT_OK);
    CHECK_STR(logged, "");
    const char *text = file_text(card);
    CHECK(!strncmp(text, "---\nbase_model: \"", 17));
    CHECK(strstr(text, "\nlibrary_name: peft\npipeline_tag: text-generation\ntags:\n- \"base_mod"));
    CHECK(strstr(text, "- data: `rows.jsonl`, SHA-256 `"));
    CHECK(strstr(text, "- evaluation on 1 rows: loss"));
    CHECK(strstr(text, "{\n  \"r\": 3,") && strstr(text, "\"trainable_token_indices\": [5]"));
    put_text(card, "# Mine\n");
    CHECK_EQ(peft_adapter_save(m, "default", dir), PEFT_OK);
    CHECK_STR(file_text(card), "# Mine\n");
    peft_model_free(m);
    /* A loaded one is saved without a word. */
    m = open_logged(llama, 0);
    CHECK_EQ(peft_adapter_load(m, "default", dir), PEFT_OK);
    CHECK_EQ(peft_adapter_save(m, "default", at("%s/again", test_dir)), PEFT_OK);
    CHECK_STR(logged, "");
    peft_model_free(m);
}

/* Other weights of the same size, other types of the same weights. */
static void test_base(void)
{
    peft_model *m = open_logged(llama, 0), *others[3];
    const char *dir = at("%s/base", test_dir);
    CHECK_EQ(peft_adapter_add(m, "default", NULL), PEFT_OK);
    CHECK_EQ(peft_adapter_save(m, "default", dir), PEFT_OK);
    CHECK_EQ(peft_adapter_remove(m, "default"), PEFT_OK);
    peft_save_opts s = { .size = sizeof(s), .dtype = "q8_0" };
    CHECK_EQ(peft_model_save(m, at("%s/m.gguf", test_dir), &s), PEFT_OK);
    s.dtype = "nf4";
    CHECK_EQ(peft_model_save(m, at("%s/nf4", test_dir), &s), PEFT_OK);
    for (int k = 0; k < 2; k++) {
        others[k] = open_logged(at(k ? "%s/nf4" : "%s/m.gguf", test_dir), 0);
        CHECK_EQ(peft_adapter_load(others[k], "default", dir), PEFT_OK);
        peft_model_free(others[k]);
    }
    for (int k = 0; k < 2; k++) {
        others[k] = open_logged(llama, k);
        struct model *own = model_of(others[k]);
        for (int64_t i = 0; i < own->n_params; i++) {
            CHECK_EQ(param_own(own, own->params[i]), PEFT_OK);
            rng_fill_normal(own->params[i]->own, param_len(own->params[i]), 0.1f, 5, (uint64_t)i);
        }
        CHECK_EQ(peft_adapter_load(others[k], "default", dir), k ? PEFT_OK : PEFT_EFORMAT);
        if (!k) CHECK(strstr(peft_errmsg(), "any_base"));
        peft_model_free(others[k]);
    }
    peft_model_free(m);
}

/* PEFT's files carry a name only: hints come from names and shapes. */
static void test_hints(void)
{
    static const struct { const char *base, *adapter, *hint; } rows[] = {
        { "tests/golden/tiny/llama", "tests/golden/peft/lora", "hidden size 16, this one has 64" },
        { "tests/golden/peft/base_llama", "tests/golden/tiny/llama/lora_step0",
          "hidden size 64, this one has 16" },
        { "tests/golden/tiny/gpt2", "tests/golden/peft/lora", "fits no module" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        peft_model *m = open_logged(rows[i].base, 0);
        CHECK_EQ(peft_adapter_load(m, "default", rows[i].adapter), PEFT_EFORMAT);
        if (!strstr(peft_errmsg(), rows[i].hint)) CHECK_STR(peft_errmsg(), rows[i].hint);
        peft_model_free(m);
    }
}

/* As many layers as the adapter has, and one more or one less. */
static void test_layers(void)
{
    const char *dir = "tests/golden/peft/lora";
    peft_model *m = open_logged(llama, 0);
    struct model *own = model_of(m);
    own->hp.layers = 1;
    for (int64_t i = 0; i < own->n_sites; i++)
        if (own->sites[i]->layer == 1) own->sites[i]->name = own->sites[i]->peft_name = "gone";
    CHECK_EQ(peft_adapter_load(m, "default", dir), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "made for 2 layers, this model has 1"));
    own->hp.layers = 2;
    peft_model_free(m);
    /* A file of fewer layers than its target_modules name. */
    m = open_logged(llama, 0);
    peft_adapter_opts o = { .size = sizeof(o), .targets = "*layers.0.*q_proj" };
    CHECK_EQ(peft_adapter_add(m, "default", &o), PEFT_OK);
    CHECK_EQ(peft_adapter_save(m, "default", at("%s/few", test_dir)), PEFT_OK);
    char *text = file_text(at("%s/few/adapter_config.json", test_dir));
    char *name = strstr(text, "[\"0.self_attn.q_proj\"]");
    if (!name) name = strstr(text, "[\"layers.0.self_attn.q_proj\"]");
    CHECK(name != NULL);
    if (name) {
        size_t n = (size_t)(strchr(name, ']') - name) + 1;
        memset(name, ' ', n);
        memcpy(name, "[\"q_proj\"]", 10);
    }
    put_text(at("%s/few/adapter_config.json", test_dir), text);
    CHECK_EQ(peft_adapter_remove(m, "default"), PEFT_OK);
    CHECK_EQ(peft_adapter_load(m, "default", at("%s/few", test_dir)), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "no tensors of model.layers.1.self_attn.q_proj"));
    peft_model_free(m);
}

int main(void)
{
    golden_begin();
    RUN(test_sha256);
    RUN(test_card);
    RUN(test_base);
    RUN(test_hints);
    RUN(test_layers);
    golden_end();
    return TEST_END();
}
