/* Models saved in every `dtype`: which tensor gets which type, and FP8 folders. */
#include "kit.h"

enum { WIDTH = 32, WIDE = 256 };     /* rows of one block of 32, and one of 256 */
static const char *const names[] = {
    "model.embed_tokens", "model.norm", "model.layers.0.input_layernorm",
    "model.layers.0.post_attention_layernorm", "model.layers.0.self_attn.q_proj",
    "model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.v_proj",
    "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.gate_proj",
    "model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj",
};
static const int shapes[][2] = {
    {VOCAB, WIDTH}, {1, WIDTH}, {1, WIDTH}, {1, WIDTH}, {WIDTH, WIDTH}, {8, WIDTH}, {8, WIDTH},
    {WIDTH, WIDTH}, {WIDE, WIDTH}, {WIDE, WIDTH}, {WIDTH, WIDE},
};
static struct host host;

/* Matrices in the type given; `extra`, if any, is one more tensor. */
static const char *write_folder(const char *name, const char *type, const char *extra)
{
    struct store_out t[16];
    int64_t n = 0;
    static float one = 1;
    char text[96];
    mkdir(in("%s", name), 0777);
    put(in("%s/config.json", name),
        "{\"model_type\": \"llama\", \"hidden_size\": 32, \"intermediate_size\": 256,"
        " \"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"num_key_value_heads\": 1,"
        " \"head_dim\": 8, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-05,"
        " \"rope_theta\": 10000.0, \"hidden_act\": \"silu\","
        " \"tie_word_embeddings\": true, \"vocab_size\": 272}");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(text, sizeof(text), "%s.weight", names[i]);
        kit_tensor(t, &n, text, shapes[i][0], shapes[i][1]);
        if (shapes[i][0] == 1) continue;
        struct store_out *o = &t[n - 1];
        void *data = (void *)(uintptr_t)o->data;
        o->type = qtype_by_name(type);
        if (o->type != &qtype_f32)
            o->type->from_f32(data, o->data, o->dims[0] * o->dims[1]);  /* shrinks in place */
    }
    if (extra)
        t[n++] = (struct store_out){ .name = extra, .type = &qtype_f32, .data = &one };
    OK(safetensors_write(&host, in("%s/model.safetensors", name), t, n, NULL, 0));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        free((void *)(uintptr_t)t[i].name);
        free((void *)(uintptr_t)t[i].data);
    }
    return in("%s", name);
}

static const char *type_of(const struct store *s, const char *name)
{
    const struct store_tensor *t = store_find(s, name);
    return t ? t->type->name : "absent";
}

/* Saves as GGUF and loads again. */
static void check_saved(const char *from, const char *dtype, const char *narrow, const char *wide)
{
    peft_save_opts o = { .size = sizeof(o), .dtype = dtype };
    const char *path = in("saved.gguf");
    struct store *s = NULL;
    int bad = test_bad;
    peft_model *m = load(from);
    OK(peft_model_save(m, path, &o));
    peft_model_free(m);
    OK(store_open(&host, path, true, &s));
    if (!s) return;
    CHECK_STR(type_of(s, "token_embd.weight"), narrow);
    CHECK_STR(type_of(s, "blk.0.attn_q.weight"), narrow);
    CHECK_STR(type_of(s, "blk.0.ffn_up.weight"), narrow);
    CHECK_STR(type_of(s, "blk.0.ffn_down.weight"), wide);
    CHECK_STR(type_of(s, "blk.0.attn_norm.weight"), "F32");
    store_close(s);
    peft_model_free(load(path));
    if (test_bad > bad) printf("  (%s as %s)\n", from, dtype ? dtype : "held");
}

static void gguf_types(void)
{
    static const struct { const char *dtype, *narrow, *wide; } all[] = {
        { NULL, "F32", "F32" },     { "f32", "F32", "F32" },    { "f16", "F16", "F16" },
        { "bf16", "BF16", "BF16" }, { "q8_0", "Q8_0", "Q8_0" }, { "q6_k", "Q8_0", "Q6_K" },
        { "q5_k", "Q5_1", "Q5_K" }, { "q5_1", "Q5_1", "Q5_1" }, { "q5_0", "Q5_0", "Q5_0" },
        { "q4_k", "Q5_0", "Q4_K" }, { "q4_1", "Q4_1", "Q4_1" }, { "q4_0", "Q4_0", "Q4_0" },
    };
    const char *plain = write_folder("plain", "F32", NULL);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        check_saved(plain, all[i].dtype, all[i].narrow, all[i].wide);
    /* Rows of 16 and 24 are no whole blocks of any type. */
    peft_model *m = load(make_model("small", 0));
    peft_save_opts o = { .size = sizeof(o), .dtype = "q5_k" };
    struct store *s = NULL;
    OK(peft_model_save(m, in("small.gguf"), &o));
    OK(store_open(&host, in("small.gguf"), true, &s));
    CHECK_STR(s ? type_of(s, "blk.1.ffn_down.weight") : "", "F16");
    store_close(s);
    peft_model_free(m);
}

static void refused_types(void)
{
    static const char *const folder[] = { "q8_0", "q4_k", "F32", "f8_e4m3", "" };
    peft_model *m = load(in("plain"));
    for (size_t i = 0; i < ARRAY_LEN(folder); i++) {
        peft_save_opts o = { .size = sizeof(o), .dtype = folder[i] };
        REFUSED(peft_model_save(m, in("never"), &o), PEFT_EARG);
        if (i > 1) REFUSED(peft_model_save(m, in("never.gguf"), &o), PEFT_EARG);
    }
    CHECK(strstr(peft_errmsg(), "q6_k"));
    peft_model_free(m);
}

static void fp8(void)
{
    static const char *const types[] = { "F8_E4M3", "F8_E5M2" };
    for (int i = 0; i < 2; i++) {
        const char *path = write_folder("fp8", types[i], NULL);
        struct store *s = NULL;
        check_saved(path, NULL, "F16", "F16");
        check_saved(path, "q4_k", "Q5_0", "Q4_K");
        peft_model *m = load(path);
        OK(peft_model_save(m, in("fp8_again"), NULL));
        peft_model_free(m);
        OK(store_open(&host, in("fp8_again"), true, &s));
        CHECK_STR(s ? type_of(s, "model.layers.0.mlp.down_proj.weight") : "", types[i]);
        store_close(s);
        peft_load_opts o = kit_opts();
        write_folder("scaled", types[i], "model.layers.0.mlp.up_proj.weight_scale_inv");
        REFUSED(peft_model_load(in("scaled"), &o, &m), PEFT_EUNSUPPORTED);
    }
}

int main(void)
{
    kit_begin();
    if (host_init(&host, NULL)) return 1;
    RUN(gguf_types);
    RUN(refused_types);
    RUN(fp8);
    kit_end();
    return TEST_END();
}
