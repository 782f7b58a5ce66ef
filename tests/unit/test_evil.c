/* Hostile input at the public API: broken files, settings that disagree with
 * the tensors, impossible arguments.  Each must fail with a code and one line,
 * or give an object that works; nothing may crash, leak or be written. */
#include "../disk.h"
#include "kit.h"

/* --- models: opened and, when that succeeds, used */

static int use(peft_model *m)
{
    static float z[8 * 4096];
    int32_t ids[8];
    peft_info i = { .size = sizeof(i) };
    peft_param p = { .size = sizeof(p) };
    OK(peft_model_info(m, &i));
    CHECK(i.vocab > 0 && i.layers > 0);
    for (int32_t k = 0; k < i.n_tensors; k++) {
        OK(peft_model_param(m, k, &p));
        CHECK(p.rows > 0 && p.cols > 0 && strlen(p.name) > 0 && strlen(p.type) > 0);
        CHECK_EQ(peft_model_read(m, p.name, NULL, 0), p.rows * p.cols);
    }
    int32_t n = MIN(i.max_len, 8);
    for (int32_t k = 0; k < n; k++) ids[k] = (int32_t)((int64_t)k * 37 % i.vocab);
    if (i.vocab <= 4096) {
        int rc = peft_forward(m, ids, n, z);
        CHECK(!rc || is_failure(rc));
    }
    if (i.has_tokenizer) {
        int64_t k = peft_tokenize(m, "hello <|im_end|>", 16, PEFT_TOK_SPECIAL, ids, 8);
        CHECK(k >= 0 || is_failure(k));
        char text[64];
        k = peft_detokenize(m, ids, MIN(MAX(k, 0), 8), 0, text, sizeof(text));
        CHECK(k >= 0 || is_failure(k));
        peft_message ask = { "user", "hi" };
        peft_generate_opts o = { .size = sizeof(o), .max_tokens = 2 };
        int rc = peft_generate(m, &ask, 1, &o, NULL);
        CHECK(!rc || is_failure(rc));
    }
    return PEFT_OK;
}

static const peft_io *from;                     /* the files: NULL = the system's */

static int open_model(const char *path)
{
    peft_load_opts o = kit_opts();
    peft_model *m = (peft_model *)&o;
    o.io = from;
    int rc = peft_model_load(path, &o, &m);
    if (rc) CHECK(is_failure(rc) && !m);
    else use(m);
    peft_model_free(m);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
    atomic_store(&kit_mem.live, 0);
    return rc;
}
/* `code` 0: any failure.  `part`: what the message must name. */
static void refused(const char *what, const char *path, int code, const char *part)
{
    int rc = open_model(path);
    if (rc < 0 && (!code || rc == code) && strstr(peft_errmsg(), part)) return;
    test_bad++;
    printf("%s: %d \"%s\", expected %d and \"%s\"\n", what, rc, peft_errmsg(), code, part);
}

static char good[64];                           /* folder of the tiny model */

static void test_kinds_of_files(void)
{
    static const struct { const char *name, *bytes; size_t n; int code; const char *part; } f[] = {
        { "a.txt", "just some text\n", 15, PEFT_EFORMAT, "neither" },
        { "a.png", "\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16, PEFT_EFORMAT, "neither" },
        { "a.bin", "\x80\x02}q\0X\5\0\0\0hello", 15, PEFT_EUNSUPPORTED, "pickle" },
        { "a.pt", "PK\3\4\0\0\0\0\0\0\0\0", 12, PEFT_EUNSUPPORTED, "zip" },
        { "a.html", "<!DOCTYPE html><html>404</html>", 31, PEFT_EFORMAT, "HTML" },
        { "empty", "", 0, PEFT_EFORMAT, "empty" },
        { "a.json", "{\"model_type\": \"llama\"}", 23, PEFT_EFORMAT, "" },
        { "a.gguf", "GGUF", 4, PEFT_EFORMAT, "" },
        { "b.gguf", "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24, PEFT_EFORMAT, "" },
        { "lfs.safetensors", "version https://git-lfs.github.com/spec/v1\n", 43, PEFT_EFORMAT,
          "LFS" } };
    refused("missing", in("nothing"), PEFT_ENOTFOUND, "no such file");
    refused("missing gguf", in("no/thing.gguf"), PEFT_ENOTFOUND, "no such file");
    mkdir(in("void"), 0777);
    refused("folder without files", in("void"), PEFT_ENOTFOUND, "");
    make_model("bare", 0);
    remove(in("bare/config.json"));
    refused("no config", in("bare"), PEFT_ENOTFOUND, "config.json");
    refused("no config beside", in("bare/model.safetensors"), PEFT_ENOTFOUND, "config.json");
    for (size_t i = 0; i < ARRAY_LEN(f); i++)
        refused(f[i].name, put_bytes(in("%s", f[i].name), f[i].bytes, f[i].n), f[i].code,
                f[i].part);
    mkdir(in("pickled"), 0777);
    put(in("pickled/config.json"), kit_config);
    put(in("pickled/pytorch_model.bin"), "PK\3\4");
    refused("pickled folder", in("pickled"), PEFT_EUNSUPPORTED, "pickle");
    refused("a device", "/dev/null", 0, "");
    refused("config.json itself", in("void/../pickled/config.json"), PEFT_EFORMAT, "");
}

/* --- truncation and single bits, on files in memory */

static struct bytes gguf, tensors, config, tokenizer;

static void put_folder(void)
{
    disk_clear();
    disk_put("dir/config.json", config.at, (int64_t)config.n);
    disk_put("dir/model.safetensors", tensors.at, (int64_t)tensors.n);
    disk_put("dir/tokenizer.json", tokenizer.at, (int64_t)tokenizer.n);
}

static void test_truncation(void)
{
    from = &disk_io;
    put_folder();
    OK(open_model("dir"));
    for (int i = 0; i < 100; i++) {
        disk_put("m.gguf", gguf.at, (int64_t)gguf.n * i / 100);
        refused("truncated gguf", "m.gguf", PEFT_EFORMAT, "");
        disk_put("dir/model.safetensors", tensors.at, (int64_t)tensors.n * i / 100);
        refused("truncated safetensors", "dir", PEFT_EFORMAT, "");
    }
    disk_put("dir/model.safetensors", tensors.at, (int64_t)tensors.n);
    for (int i = 0; i < 100; i++) {
        disk_put("dir/config.json", config.at, (int64_t)config.n * i / 101);
        refused("truncated config", "dir", PEFT_EFORMAT, "");
    }
    disk_put("dir/config.json", config.at, (int64_t)config.n);
    for (int i = 0; i < 100; i += 3) {
        disk_put("dir/tokenizer.json", tokenizer.at, (int64_t)tokenizer.n * i / 100);
        refused("truncated tokenizer", "dir", PEFT_EFORMAT, "");
    }
    disk_clear();
    from = NULL;
}

/* Bits of b's first `n` bytes, every `stride`-th; in place in the disk's copy. */
static int flip(const char *name, const char *path, struct bytes b, size_t n, size_t stride)
{
    int opened = 0;
    disk_put(name, b.at, (int64_t)b.n);
    uint8_t *data = file_at(name)->data;
    for (size_t bit = stride / 2; bit < MIN(n, b.n) * 8; bit += stride) {
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        opened += !open_model(path);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    return opened;
}

static size_t header_of(struct bytes b)
{
    uint64_t n;
    memcpy(&n, b.at, 8);
    return 8 + (size_t)n;
}

static void test_bits(void)
{
#ifdef __SANITIZE_ADDRESS__
    enum { SKIP = 11 };
#else
    enum { SKIP = 5 };
#endif
    from = &disk_io;
    put_folder();
    /* The first bytes are counts and settings: all of their bits. */
    CHECK(flip("m.gguf", "m.gguf", gguf, 160, 1) >= 0);
    CHECK(flip("m.gguf", "m.gguf", gguf, gguf.n - tensors.n + header_of(tensors), SKIP) > 0);
    CHECK_EQ(flip("dir/model.safetensors", "dir", tensors, 8, 1), 0);
    CHECK_EQ(flip("dir/model.safetensors", "dir", tensors, header_of(tensors), SKIP), 0);
    put_folder();
    CHECK(flip("dir/config.json", "dir", config, config.n, SKIP / 6 + 1) > 0);
    put_folder();
    CHECK(flip("dir/tokenizer.json", "dir", tokenizer, tokenizer.n, 5 * SKIP) > 0);
    disk_clear();
    from = NULL;
}

/* --- config.json against its tensors */

/* The config with the value of `key` replaced, or the member added. */
static void edit_config(const char *key, const char *value)
{
    char text[2048], quoted[64];
    snprintf(quoted, sizeof(quoted), "\"%s\":", key);
    const char *at = strstr(kit_config, quoted);
    if (at) {
        const char *end = at + strcspn(at, ",\n");
        snprintf(text, sizeof(text), "%.*s\"%s\": %s%s", (int)(at - kit_config), kit_config, key,
                 value, end);
    } else {
        snprintf(text, sizeof(text), "{\"%s\": %s,%s", key, value, kit_config + 1);
    }
    disk_puts("dir/config.json", text);
}

static void test_settings(void)
{
    static const struct { const char *key, *other; } keys[] = {
        { "hidden_size", "32" }, { "intermediate_size", "25" }, { "num_hidden_layers", "3" },
        { "num_attention_heads", "4" }, { "num_key_value_heads", "2" }, { "head_dim", "4" },
        { "vocab_size", "271" } };
    static const char *const bad[] = { "-1", "0.5", "1e30", "4294967296", "9007199254740993",
                                       "\"16\"", "[16]", "{}", "true" };
    from = &disk_io;
    put_folder();
    for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
        edit_config(keys[k].key, keys[k].other);
        refused(keys[k].key, "dir", PEFT_EFORMAT, "");
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
            edit_config(keys[k].key, bad[i]);
            refused(keys[k].key, "dir", PEFT_EFORMAT, "");
        }
        edit_config(keys[k].key, "0");
        if (open_model("dir") == PEFT_OK)      /* optional ones have a default */
            CHECK(!strcmp(keys[k].key, "head_dim"));
        edit_config(keys[k].key, "1000000");
        refused(keys[k].key, "dir", PEFT_EFORMAT, "");
    }
    /* Fewer layers than there are tensors is a model, as in Hugging Face. */
    edit_config("num_hidden_layers", "1");
    OK(open_model("dir"));
    static const struct { const char *key, *value; int code; } more[] = {
        { "model_type", "\"gpt_neo\"", PEFT_EUNSUPPORTED },
        { "model_type", "\"\"", PEFT_EUNSUPPORTED },
        { "model_type", "null", PEFT_EFORMAT },
        { "model_type", "7", PEFT_EFORMAT },
        { "model_type", "\"bert\"", PEFT_EFORMAT },
        { "hidden_act", "\"mish\"", PEFT_EUNSUPPORTED },
        { "hidden_act", "7", PEFT_EFORMAT },
        { "rms_norm_eps", "-1", PEFT_EFORMAT },
        { "rms_norm_eps", "1e300", PEFT_EFORMAT },
        { "rms_norm_eps", "\"x\"", PEFT_EFORMAT },
        { "rope_theta", "-5", PEFT_EFORMAT },
        { "rope_theta", "[]", PEFT_EFORMAT },
        { "rope_scaling", "{\"rope_type\": \"axial\", \"factor\": 2}", PEFT_EUNSUPPORTED },
        { "rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": \"2\"}", PEFT_EFORMAT },
        { "rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 2, \"beta_fast\": -1}",
          PEFT_EFORMAT },
        { "rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 2, \"attention_factor\": -1}",
          PEFT_EFORMAT },
        { "rope_scaling", "{\"rope_type\": \"dynamic\", \"factor\": 0}", PEFT_EFORMAT },
        { "rope_scaling", "{\"rope_type\": \"longrope\", \"factor\": 4}", PEFT_EFORMAT },
        { "rope_scaling", "{\"type\": \"su\", \"short_factor\": [1], \"long_factor\": [1]}",
          PEFT_EFORMAT },
        { "rope_scaling", "{\"rope_type\": \"linear\"}", PEFT_EFORMAT },
        { "rope_scaling", "{\"rope_type\": \"linear\", \"factor\": -1}", PEFT_EFORMAT },
        { "rope_scaling", "{\"rope_type\": \"llama3\", \"factor\": 8}", PEFT_EFORMAT },
        { "rope_scaling", "{\"rope_type\": 5}", PEFT_EFORMAT },
        { "rope_scaling", "\"linear\"", PEFT_EFORMAT },
        { "rope_parameters", "[1, 2]", PEFT_EFORMAT },
        { "max_position_embeddings", "-3", PEFT_EFORMAT },
        { "max_position_embeddings", "\"many\"", PEFT_EFORMAT },
        { "tie_word_embeddings", "false", PEFT_EFORMAT },
        { "tie_word_embeddings", "\"no\"", PEFT_EFORMAT } };
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        edit_config(more[i].key, more[i].value);
        refused(more[i].value, "dir", more[i].code, "");
    }
    disk_puts("dir/config.json", "[]");
    refused("config is a list", "dir", PEFT_EFORMAT, "");
    disk_puts("dir/config.json", "{}");
    refused("config is empty", "dir", PEFT_EFORMAT, "model_type");
    disk_puts("dir/config.json", "{\"a\": 1, \"a\": 2}");
    refused("config has a key twice", "dir", PEFT_EFORMAT, "twice");
    disk_clear();
    from = NULL;
}

/* Labels of a classification model. */
static void test_label_settings(void)
{
    static const char *const bad[] = {
        "[\"a\", \"b\", \"c\"]", "{\"0\": 1}", "{\"x\": \"a\"}", "{\"\": \"a\"}", "{\"7\": \"a\"}",
        "{\"99999999999999999999\": \"a\"}", "{\"-1\": \"a\"}" };
    struct bytes c, t;
    peft_model *m = load(good);
    peft_head_opts h = { .size = sizeof(h), .labels = 3 };
    peft_load_opts o = kit_opts();
    OK(peft_head_add(m, &h));
    OK(peft_model_save(m, in("cls"), NULL));
    peft_model_free(m);
    c = get(in("cls/config.json"));
    t = get(in("cls/model.safetensors"));
    char *at = strstr(c.at, "\"id2label\": "), text[4096];
    if (!at) GIVE_UP();
    from = o.io = &disk_io;
    disk_put("dir/model.safetensors", t.at, (int64_t)t.n);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        snprintf(text, sizeof(text), "%.*s\"id2label\": %s%s", (int)(at - c.at), c.at, bad[i],
                 strchr(at, '}') + 1);
        disk_puts("dir/config.json", text);
        refused(bad[i], "dir", PEFT_EFORMAT, "id2label");
    }
    snprintf(text, sizeof(text), "%.*s\"id2label\": {\"1\": \"one\"}%s", (int)(at - c.at), c.at,
             strchr(at, '}') + 1);
    disk_puts("dir/config.json", text);
    OK(peft_model_load("dir", &o, &m));
    CHECK_STR(peft_label_name(m, 1), "one");
    CHECK_STR(peft_label_name(m, 2), "LABEL_2");
    peft_model_free(m);
    disk_clear();
    from = NULL;
    free(c.at);
    free(t.at);
}

/* --- tensors: missing, further ones, of other shapes and types */

/* The safetensors file with `old` in its header replaced, the length kept. */
static void edit_tensors(const char *old, const char *now)
{
    char *data = malloc(tensors.n), *at = NULL;
    size_t n = strlen(old);
    memcpy(data, tensors.at, tensors.n);
    for (size_t i = 8; i + n < header_of(tensors) && !at; i++)
        if (!memcmp(data + i, old, n)) at = data + i;
    if (!at || strlen(now) != n) GIVE_UP();
    memcpy(at, now, n);
    disk_put("dir/model.safetensors", data, (int64_t)tensors.n);
    free(data);
}

static void test_tensors(void)
{
    from = &disk_io;
    put_folder();
    edit_tensors("model.norm.weight", "model.form.weight");
    refused("no final norm", "dir", PEFT_EFORMAT, "model.norm.weight");
    edit_tensors("layers.1.mlp.up_proj", "layers.1.mlp.up_prok");
    refused("no up_proj", "dir", PEFT_EFORMAT, "layers.1.mlp.up_proj");
    edit_tensors("model.embed_tokens", "model.embed_tokenz");
    refused("no embedding", "dir", PEFT_EFORMAT, "embed_tokens");
    edit_tensors("\"shape\":[272,16]", "\"shape\":[16,272]");
    refused("transposed", "dir", PEFT_EFORMAT, "embed_tokens");
    edit_tensors("\"shape\":[272,16]", "\"shape\":[ 4352 ]");
    refused("flat", "dir", PEFT_EFORMAT, "dimensions");
    edit_tensors("\"shape\":[16,16]", "\"shape\":[32,8] ");
    refused("another shape", "dir", PEFT_EFORMAT, "expected [16, 16]");
    edit_tensors("\"F32\"", "\"I32\"");
    refused("integers", "dir", PEFT_EUNSUPPORTED, "I32");
    edit_tensors("\"shape\":[16]", "\"shape\":[61]");
    refused("size and shape", "dir", PEFT_EFORMAT, "");
    disk_clear();
    from = NULL;
    /* A tensor more than the family knows is left alone. */
    struct store_out t[64];
    struct store *s = NULL;
    struct host h;
    float x[4] = { 1, 2, 3, 4 };
    OK(host_init(&h, NULL));
    OK(store_open_safetensors(&h, in("good/model.safetensors"), true, &s));
    int64_t n = store_count(s);
    for (int64_t i = 0; i < n; i++) {
        const struct store_tensor *e = store_at(s, i);
        t[i] = (struct store_out){ .name = e->name, .type = e->type, .n_dims = e->n_dims,
                                   .dims = { e->dims[0], e->dims[1] }, .data = e->data };
    }
    t[n++] = (struct store_out){ .name = "visual.proj", .type = &qtype_f32, .n_dims = 2,
                                 .dims = { 2, 2 }, .data = x };
    make_model("extra", 1);
    OK(safetensors_write(&h, in("extra/model.safetensors"), t, n, NULL, 0));
    store_close(s);
    OK(open_model(in("extra")));
}

static void test_tokenizers(void)
{
    static const char *const bad[] = {
        "", "[]", "{}", "{\"model\": 5}", "{\"model\": {\"type\": \"Magic\"}}",
        "{\"model\": {\"type\": \"BPE\", \"vocab\": [], \"merges\": []}}",
        "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}}",
        "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1e18}, \"merges\": []}}",
        "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}}",
        "{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": \"0\"}}}" };
    from = &disk_io;
    put_folder();
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        disk_puts("dir/tokenizer.json", bad[i]);
        int rc = open_model("dir");
        if (rc >= 0 || (rc != PEFT_EFORMAT && rc != PEFT_EUNSUPPORTED)) {
            test_bad++;
            printf("tokenizer %s: %d \"%s\"\n", bad[i], rc, peft_errmsg());
        }
    }
    disk_clear();
    from = NULL;
    /* 268 tokens on the 256 rows of another model. */
    mkdir(in("wrong"), 0777);
    copy("tests/golden/tiny/llama/config.json", in("wrong/config.json"));
    copy("tests/golden/tiny/llama/model.safetensors", in("wrong/model.safetensors"));
    OK(open_model(in("wrong")));
    copy("tests/golden/data/chat/tokenizer.json", in("wrong/tokenizer.json"));
    refused("tokenizer of another model", in("wrong"), PEFT_EFORMAT, "wrong tokenizer");
}

/* --- adapters */

static void adapter_refused(peft_model *m, const char *what, int code)
{
    int rc = peft_adapter_load(m, "x", in("ad"));
    if (rc >= 0 || (code && rc != code) || !is_failure(rc)) {
        test_bad++;
        printf("adapter %s: %d \"%s\", expected %d\n", what, rc, peft_errmsg(), code);
        if (!rc) peft_adapter_remove(m, "x");
    }
}

/* Every 7th bit of the file; what is loaded in spite of it must work. */
static void flip_adapter(peft_model *m, const char *file, struct bytes b, size_t n)
{
    for (size_t bit = 0; bit < n * 8; bit += 7) {
        static float z[6 * VOCAB];
        b.at[bit / 8] = (char)(b.at[bit / 8] ^ 1 << bit % 8);
        put_bytes(in("ad/%s", file), b.at, b.n);
        int rc = peft_adapter_load(m, "x", in("ad"));
        CHECK(!rc || is_failure(rc));
        if (!rc) OK(peft_forward(m, kit_ids, 6, z));
        if (!rc) OK(peft_adapter_remove(m, "x"));
        b.at[bit / 8] = (char)(b.at[bit / 8] ^ 1 << bit % 8);
    }
    put_bytes(in("ad/%s", file), b.at, b.n);
}

static void test_adapters(void)
{
    static const struct { const char *old, *now; int code; } edits[] = {
        { "\"LORA\"", "\"POLY\"", PEFT_EUNSUPPORTED },
        { "\"LORA\"", "5", PEFT_EUNSUPPORTED },
        { "\"r\": 2", "\"r\": 0", PEFT_EFORMAT },
        { "\"r\": 2", "\"r\": -2", PEFT_EFORMAT },
        { "\"r\": 2", "\"r\": 3", PEFT_EFORMAT },
        { "\"r\": 2", "\"r\": 1000000", PEFT_EFORMAT },
        { "\"r\": 2", "\"r\": 65536", PEFT_EFORMAT },
        { "\"r\": 2", "\"r\": \"2\"", PEFT_EFORMAT },
        { "\"r\": 2", "\"r\": 2.5", PEFT_EFORMAT },
        { "\"lora_alpha\": 4", "\"lora_alpha\": 1e300", PEFT_EFORMAT },
        { "\"lora_alpha\": 4", "\"lora_alpha\": \"big\"", PEFT_EFORMAT },
        { "\"lora_dropout\": 0", "\"lora_dropout\": 1", PEFT_EFORMAT },
        { "\"lora_dropout\": 0", "\"lora_dropout\": -0.5", PEFT_EFORMAT },
        { "\"lora_dropout\": 0", "\"lora_dropout\": [0]", PEFT_EFORMAT },
        { "\"lora_bias\": false", "\"lora_bias\": true", PEFT_EFORMAT },
        { "\"lora_bias\": false", "\"lora_bias\": \"x\"", PEFT_EFORMAT },
        { "\"use_rslora\": true", "\"use_rslora\": 1", PEFT_EFORMAT },
        { "\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": 3}", PEFT_EFORMAT },
        { "\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": 0}", PEFT_EFORMAT },
        { "\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": 1e300}", PEFT_EFORMAT },
        { "\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": -1e300}", PEFT_EFORMAT },
        { "\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": \"2\"}", PEFT_EFORMAT },
        { "\"alpha_pattern\": {}", "\"alpha_pattern\": {\"q_proj\": 1e300}", PEFT_EFORMAT },
        { "\"alpha_pattern\": {}", "\"alpha_pattern\": [1]", PEFT_EFORMAT },
        { "\"bias\": \"none\"", "\"use_dora\": true", PEFT_EFORMAT },
        { "\"bias\": \"none\"", "\"use_dora\": \"yes\"", PEFT_EFORMAT },
        { "\"fan_in_fan_out\": false", "\"fan_in_fan_out\": true", PEFT_EUNSUPPORTED },
        { "\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa\"", PEFT_EUNSUPPORTED } };
    peft_model *m = load(good);
    peft_adapter_opts o = { .size = sizeof(o), .rank = 2, .rslora = 1 };
    char text[8192];
    OK(peft_adapter_add(m, "w", &o));
    OK(peft_adapter_save(m, "w", in("ad")));
    struct bytes c = get(in("ad/adapter_config.json")), t = get(in("ad/adapter_model.safetensors"));
    OK(peft_adapter_load(m, "x", in("ad")));
    OK(peft_adapter_remove(m, "x"));
    for (size_t i = 0; i < ARRAY_LEN(edits); i++) {
        char *at = strstr(c.at, edits[i].old);
        if (!at) {
            printf("no %s in %s\n", edits[i].old, c.at);
            GIVE_UP();
        }
        snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - c.at), c.at, edits[i].now,
                 at + strlen(edits[i].old));
        put(in("ad/adapter_config.json"), text);
        adapter_refused(m, edits[i].now, edits[i].code);
    }
    for (int i = 0; i < 40; i++) {
        put_bytes(in("ad/adapter_config.json"), c.at, c.n * (size_t)i / 40);
        adapter_refused(m, "truncated config", PEFT_EFORMAT);
    }
    put_bytes(in("ad/adapter_config.json"), c.at, c.n);
    for (int i = 0; i < 100; i++) {
        put_bytes(in("ad/adapter_model.safetensors"), t.at, t.n * (size_t)i / 100);
        adapter_refused(m, "truncated tensors", PEFT_EFORMAT);
    }
    /* Names and shapes, changed in place in the header. */
    static const struct { const char *old, *now; } names[] = {
        { "q_proj.lora_A", "q_proj.lora_C" }, { "layers.1.self_attn.q", "layers.9.self_attn.q" },
        { "base_model.model.model.layers.0.mlp.down_proj.lora_A",
          "base_model_model.model.layers.0.mlp.down_proj.lora_A" },
        { "q_proj.lora_A", "q_prok.lora_A" }, { "[2,16]", "[16,2]" }, { "[16,2]", "[32]  " },
        { "\"F32\"", "\"I32\"" }, { "mlp.up_proj", "mlp.no_proj" } };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *data = malloc(t.n), *at = NULL;
        size_t n = strlen(names[i].old);
        memcpy(data, t.at, t.n);
        for (size_t k = 8; k + n < header_of(t) && !at; k++)
            if (!memcmp(data + k, names[i].old, n)) at = data + k;
        if (!at) GIVE_UP();
        memcpy(at, names[i].now, n);
        put_bytes(in("ad/adapter_model.safetensors"), data, t.n);
        adapter_refused(m, names[i].now, 0);
        free(data);
    }
    static const float odd[] = { NAN, INFINITY, -INFINITY };
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        char *data = malloc(t.n);
        memcpy(data, t.at, t.n);
        memcpy(data + t.n - 8, &odd[i], 4);
        put_bytes(in("ad/adapter_model.safetensors"), data, t.n);
        adapter_refused(m, "not finite", PEFT_EFORMAT);
        free(data);
    }
    put_bytes(in("ad/adapter_model.safetensors"), t.at, t.n);
    flip_adapter(m, "adapter_config.json", c, c.n);
    flip_adapter(m, "adapter_model.safetensors", t, header_of(t));
    put(in("ad/adapter_model.safetensors"), "\x80\x02}q");
    adapter_refused(m, "pickle", PEFT_EUNSUPPORTED);
    remove(in("ad/adapter_model.safetensors"));
    adapter_refused(m, "no tensors", PEFT_ENOTFOUND);
    remove(in("ad/adapter_config.json"));
    adapter_refused(m, "no config", PEFT_ENOTFOUND);
    REFUSED(peft_adapter_load(m, "x", in("nowhere")), PEFT_ENOTFOUND);
    /* An adapter of a wider model, and one with a head that makes no sense. */
    REFUSED(peft_adapter_load(m, "x", "tests/golden/tiny/llama/lora_step0"), PEFT_EFORMAT);
    peft_info i = { .size = sizeof(i) };
    OK(peft_model_info(m, &i));
    CHECK_EQ(i.n_adapters, 1);
    use(m);
    peft_model_free(m);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
    free(c.at);
    free(t.at);
}

/* --- data */

static void data_refused(const peft_model *m, const char *name, const char *text, int code,
                         const char *part)
{
    peft_dataset *d = (peft_dataset *)(uintptr_t)m;
    int rc = peft_dataset_load(m, put(in("%s", name), text), NULL, &d);
    if (rc != code || d || !is_failure(rc) || !strstr(peft_errmsg(), part)) {
        test_bad++;
        printf("data %.60s: %d \"%s\", expected %d and \"%s\"\n", text, rc, peft_errmsg(), code,
               part);
    }
    peft_dataset_free(rc ? NULL : d);
}

static void test_data(void)
{
    peft_model *m = load(good);
    peft_dataset *d = NULL;
    data_refused(m, "d.jsonl", "", PEFT_EDATA, "no rows");
    data_refused(m, "d.jsonl", "\n\n", PEFT_EDATA, "no rows");
    data_refused(m, "d.csv", "", PEFT_EDATA, "no rows");
    data_refused(m, "d.jsonl", "{\"text\": \"hello\"}\n{\"text\": \n", PEFT_EFORMAT, "line 2");
    data_refused(m, "d.jsonl", "{\"text\": \"hello\"}\n\n[1]\n", PEFT_EFORMAT, "line 3");
    data_refused(m, "d.jsonl", "{\"text\": \"hello\"}\n{\"text\": 7}\n", PEFT_EFORMAT, "line 2");
    data_refused(m, "d.jsonl", "{\"text\": \"\xff\"}\n", PEFT_EFORMAT, "UTF-8");
    data_refused(m, "d.jsonl", "{\"question\": \"a\"}\n", PEFT_EFORMAT, "line 1");
    data_refused(m, "d.jsonl", "{\"input_ids\": [1, 272]}\n", PEFT_EFORMAT, "272");
    data_refused(m, "d.jsonl", "{\"input_ids\": [1, -1]}\n", PEFT_EFORMAT, "line 1");
    data_refused(m, "d.jsonl", "{\"input_ids\": [1, 1e30]}\n", PEFT_EFORMAT, "line 1");
    data_refused(m, "d.jsonl", "{\"input_ids\": \"abc\"}\n", PEFT_EFORMAT, "line 1");
    data_refused(m, "d.jsonl", "{\"input_ids\": []}\n", PEFT_EDATA, "");
    data_refused(m, "d.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1]}\n", PEFT_EFORMAT,
                 "line 1");
    data_refused(m, "d.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1, 500]}\n", PEFT_EFORMAT,
                 "500");
    data_refused(m, "d.csv", "text,label\n\"a\n", PEFT_EFORMAT, "line 2");
    REFUSED(peft_dataset_load(m, in("nothing.jsonl"), NULL, &d), PEFT_ENOTFOUND);
    REFUSED(peft_dataset_load(m, kit_dir, NULL, &d), PEFT_EFORMAT);
    peft_dataset_opts bad[] = { { .max_len = -1 }, { .max_len = LEN + 1 }, { .max_len = INT32_MAX },
                                { .limit = -1 } };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        bad[i].size = sizeof(bad[i]);
        REFUSED(peft_dataset_load(m, rows_file(), &bad[i], &d), PEFT_EARG);
    }
    peft_dataset_opts one = { .size = sizeof(one), .max_len = 1 };
    REFUSED(peft_dataset_load(m, rows_file(), &one, &d), PEFT_EDATA);
    OK(peft_dataset_load(m, rows_file(), NULL, &d));
    peft_dataset *part = NULL;
    static const double shares[] = { 0, 1, -0.1, 2, NAN, INFINITY };
    for (size_t i = 0; i < ARRAY_LEN(shares); i++)
        REFUSED(peft_dataset_split(d, shares[i], 0, &part), PEFT_EARG);
    peft_row r = { .size = sizeof(r) };
    REFUSED(peft_dataset_row(d, -1, &r), PEFT_ENOTFOUND);
    REFUSED(peft_dataset_row(d, 10, &r), PEFT_ENOTFOUND);
    REFUSED(peft_dataset_row(d, INT64_MAX, &r), PEFT_ENOTFOUND);
    CHECK(!peft_dataset_label(d, 0));
    peft_dataset_free(d);

    peft_head_opts h = { .size = sizeof(h), .labels = 3, .names = kit_labels };
    OK(peft_head_add(m, &h));
    data_refused(m, "d.jsonl", "{\"text\": \"a\", \"label\": \"good\"}\n"
                 "{\"text\": \"a\", \"label\": \"ugly\"}\n", PEFT_EDATA, "line 2");
    data_refused(m, "d.jsonl", "{\"text\": \"a\", \"label\": 3}\n", PEFT_EDATA, "0 to 2");
    data_refused(m, "d.jsonl", "{\"text\": \"a\", \"label\": -1}\n", PEFT_EDATA, "0 to 2");
    data_refused(m, "d.jsonl", "{\"text\": \"a\", \"label\": 0.5}\n", PEFT_EDATA, "0 to 2");
    data_refused(m, "d.jsonl", "{\"text\": \"a\", \"label\": [0]}\n", PEFT_EFORMAT, "line 1");
    peft_model_free(m);
    m = load("tests/golden/tiny/llama");
    data_refused(m, "d.jsonl", "{\"text\": \"hello\"}\n", PEFT_ENOTFOUND, "tokenizer");
    peft_model_free(m);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
}

/* Labels that are no classes, or come from another model. */
static void test_data_and_head(void)
{
    peft_model *m = load(good), *other = load(good);
    peft_dataset *half = NULL, *names = NULL;
    peft_trainer *t = NULL;
    peft_evaluation e = { .size = sizeof(e) };
    put(in("half.jsonl"), "{\"text\": \"a\", \"label\": 0.5}\n{\"text\": \"b\", \"label\": 2}\n");
    OK(peft_dataset_load(m, in("half.jsonl"), NULL, &half));
    OK(peft_dataset_load(m, label_file(), NULL, &names));
    peft_head_opts h = { .size = sizeof(h), .labels = 3 };
    OK(peft_head_add(m, &h));
    REFUSED(peft_trainer_new(m, half, NULL, &t), PEFT_EARG);
    REFUSED(peft_eval(m, half, NULL, &e), PEFT_EARG);
    OK(peft_eval(m, names, NULL, &e));
    h.labels = 1;
    OK(peft_head_add(other, &h));
    REFUSED(peft_eval(other, names, NULL, &e), PEFT_EARG);
    CHECK(strstr(peft_errmsg(), "another model"));
    peft_dataset_free(half);
    peft_dataset_free(names);
    peft_model_free(other);
    other = load(good);
    OK(peft_dataset_load(other, in("labels.jsonl"), NULL, &names));
    OK(peft_head_add(other, &h));
    REFUSED(peft_eval(other, names, NULL, &e), PEFT_EARG);
    CHECK(strstr(peft_errmsg(), "names"));
    peft_dataset_free(names);
    peft_model_free(other);
    peft_model_free(m);
}

/* Checkpoints that are damaged. */
static void test_checkpoints(void)
{
    peft_model *m = load(good);
    peft_dataset *d = NULL;
    peft_trainer *t = NULL;
    peft_train_opts o = { .size = sizeof(o), .steps = 5, .batch = 2 };
    OK(peft_adapter_add(m, "x", NULL));
    OK(peft_dataset_load(m, rows_file(), NULL, &d));
    OK(peft_trainer_new(m, d, &o, &t));
    OK(peft_train_step(t, NULL));
    OK(peft_trainer_save(t, in("ckpt")));
    struct bytes j = get(in("ckpt/trainer.json")), s = get(in("ckpt/state.safetensors"));
    for (int i = 0; i < 50; i++) {
        put_bytes(in("ckpt/trainer.json"), j.at, j.n * (size_t)i / 51);
        REFUSED(peft_trainer_resume(t, in("ckpt")), PEFT_EFORMAT);
    }
    static const struct { const char *old, *now; int code; } edits[] = {
        { "\"step\": 1", "\"step\": 6", PEFT_EFORMAT },
        { "\"step\": 1", "\"step\": -1", PEFT_EFORMAT },
        { "\"step\": 1", "\"step\": 2", PEFT_EFORMAT },
        { "\"epoch\": 0", "\"epoch\": 1", PEFT_EFORMAT },
        { "\"index\": 1", "\"index\": 0", PEFT_EFORMAT },
        { "\"step\": 1", "\"step\": \"1\"", PEFT_EFORMAT },
        { "\"epoch\": 0", "\"epoch\": 900000000000", PEFT_EFORMAT },
        { "\"index\": 1", "\"index\": 6", PEFT_EFORMAT },
        { "\"index\": 1", "\"index\": 1.5", PEFT_EFORMAT },
        { "\"rows\": 10", "\"rows\": 11", PEFT_ESTATE },
        { "\"seed\": 0", "\"seed\": 1", PEFT_ESTATE } };
    for (size_t i = 0; i < ARRAY_LEN(edits); i++) {
        char text[2048], *at = strstr(j.at, edits[i].old);
        if (!at) GIVE_UP();
        snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - j.at), j.at, edits[i].now,
                 at + strlen(edits[i].old));
        put(in("ckpt/trainer.json"), text);
        REFUSED(peft_trainer_resume(t, in("ckpt")), edits[i].code);
    }
    put_bytes(in("ckpt/trainer.json"), j.at, j.n);
    for (int i = 0; i < 100; i++) {
        put_bytes(in("ckpt/state.safetensors"), s.at, s.n * (size_t)i / 100);
        REFUSED(peft_trainer_resume(t, in("ckpt")), PEFT_EFORMAT);
    }
    remove(in("ckpt/state.safetensors"));
    REFUSED(peft_trainer_resume(t, in("ckpt")), PEFT_ENOTFOUND);
    put_bytes(in("ckpt/state.safetensors"), s.at, s.n);
    OK(peft_trainer_resume(t, in("ckpt")));
    while (!peft_train_step(t, NULL)) {}
    free(j.at);
    free(s.at);
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
}

static void make_files(void)
{
    snprintf(good, sizeof(good), "%s", make_model("good", 1));
    peft_model *m = load(good);
    OK(peft_model_save(m, in("good.gguf"), NULL));
    peft_model_free(m);
    gguf = get(in("good.gguf"));
    tensors = get(in("good/model.safetensors"));
    config = get(in("good/config.json"));
    tokenizer = get(in("good/tokenizer.json"));
}

int main(void)
{
    kit_begin();
    RUN(make_files);
    RUN(test_kinds_of_files);
    RUN(test_truncation);
    RUN(test_bits);
    RUN(test_settings);
    RUN(test_label_settings);
    RUN(test_tensors);
    RUN(test_tokenizers);
    RUN(test_adapters);
    RUN(test_data);
    RUN(test_data_and_head);
    RUN(test_checkpoints);
    free(gguf.at);
    free(tensors.at);
    free(config.at);
    free(tokenizer.at);
    kit_end();
    return TEST_END();
}
