/* bitsandbytes' types and checkpoints, against what bitsandbytes and transformers
 * wrote (tests/golden/make_bnb.py). */
#include "kit.h"

#define GOLDEN "tests/golden/bnb/"

static const char *quant_file = GOLDEN "quant.safetensors";
static struct host host;
static struct store *quant;

static const struct store_tensor *piece(const char *fmt, ...)
{
    char name[96];
    va_list v;
    va_start(v, fmt);
    vsnprintf(name, sizeof(name), fmt, v);
    va_end(v);
    return store_find(quant, name);
}

/* The packed codes and scales of our blocks. */
static int same_blocks(const uint8_t *blocks, int64_t n, const struct store_tensor *packed,
                       const struct store_tensor *absmax)
{
    int wrong = 0;
    for (int64_t i = 0; i < packed->count; i++)
        wrong += blocks[i / 32 * 36 + 4 + i % 32] != ((const uint8_t *)packed->data)[i];
    for (int64_t i = 0; i < absmax->count; i++)
        wrong += memcmp(blocks + i * 36, (const float *)absmax->data + i, 4) != 0;
    return !wrong && packed->count == (n + 1) / 2 && absmax->count == div_up(n, 64);
}

static void check_double(const char *src, const struct store_tensor *absmax)
{
    uint8_t q[256];
    float largest[2], level[256];
    const struct store_tensor *u8 = piece("%s.nf4dq.absmax_u8", src);
    float mean = scales_pack(q, largest, absmax->data, absmax->count);
    CHECK(absmax->count <= 256 && !memcmp(q, u8->data, (size_t)u8->count));
    /* torch's sum depends on the processor's vectors, by a bit or two. */
    CHECK_NEAR(mean, *(const float *)piece("%s.nf4dq.offset", src)->data, 2e-7 * (double)mean);
    CHECK(!memcmp(largest, piece("%s.nf4dq.absmax2", src)->data, 4));
    tree_levels(level, 0);
    CHECK(!memcmp(level, piece("code.dynamic8")->data, sizeof(level)));
}

/* Bytes and values are bitsandbytes', also from any element on. */
static void blocks(void)
{
    static const char *const sources[] = { "even", "ragged", "edge", "q", "down" };
    static const char *const kinds[] = { "nf4", "fp4" };
    static const struct { const char *type, *suffix; const struct qtype *as; } forms[] = {
        { "", "", &qtype_f32 }, { "_F16", "_f16", &qtype_f16 }, { "_BF16", "_bf16", &qtype_bf16 }
    };
    int seen = 0;
    for (size_t i = 0; i < ARRAY_LEN(sources); i++)
        for (int k = 0; k < 2; k++) {
            const struct store_tensor *src = piece("%s.src", sources[i]), *want;
            if (!src) continue;
            const struct store_tensor *absmax = piece("%s.%s.absmax", sources[i], kinds[k]);
            int64_t n = src->count, bytes = 0;
            for (size_t f = 0; f < ARRAY_LEN(forms); f++) {
                char name[16];
                snprintf(name, sizeof(name), "%s%s", k ? "FP4" : "NF4", forms[f].type);
                const struct qtype *t = qtype_by_name(name);
                want = piece("%s.%s.dequant%s", sources[i], kinds[k], forms[f].suffix);
                if (!want) continue;
                CHECK(qtype_bytes(t, n, &bytes) && bytes == div_up(n, 64) * 36);
                uint8_t *b = malloc((size_t)bytes);
                float *y = malloc((size_t)n * 4), *z = malloc((size_t)n * 4);
                t->from_f32(b, src->data, n);
                CHECK(same_blocks(b, n, piece("%s.%s.packed", sources[i], kinds[k]), absmax));
                qtype_expand(t, y, b, 0, n);
                forms[f].as->to_f32(z, want->data, n);
                CHECK(!memcmp(y, z, (size_t)n * 4));
                for (int64_t at = 0; at < n; at += 29) {
                    int64_t some = MIN(n - at, 1 + at % 150);
                    qtype_expand(t, y, b, at, some);
                    CHECK(!memcmp(y, z + at, (size_t)some * 4));
                }
                free(b), free(y), free(z);
                seen++;
            }
            if (!k) check_double(sources[i], absmax);
        }
    CHECK(seen >= 6);
}

static void forward(peft_model *m, float *logits)
{
    int32_t ids[16];
    for (int i = 0; i < 16; i++) ids[i] = i + 3;
    OK(peft_forward(m, ids, 16, logits));
}

static const struct { const char *name, *type; } saved[] = {
    { "nf4", "NF4 x7" }, { "nf4_dq_bf16", "NF4_BF16 x7" }, { "fp4_dq", "FP4 x7" },
    { "fp4_f16", "FP4_F16 x7" }, { "gpt2_nf4", "NF4 x4" }, { "int8", "LLM_INT8 x7" },
};

static void models(void)
{
    struct store *want = NULL;
    char path[96];
    OK(store_open_safetensors(&host, GOLDEN "logits.safetensors", true, &want));
    for (size_t i = 0; i < ARRAY_LEN(saved) && want; i++) {
        peft_info info = { .size = sizeof(info) };
        float z[16 * 40];
        snprintf(path, sizeof(path), GOLDEN "%s", saved[i].name);
        peft_model *m = load(path);
        OK(peft_model_info(m, &info));
        CHECK(strstr(info.types, saved[i].type) != NULL);
        forward(m, z);
        snprintf(path, sizeof(path), "%s.logits", saved[i].name);
        const struct store_tensor *t = store_find(want, path);
        double off = distance(z, t->data, 16 * 40);
        CHECK(off < 2e-5);
        if (off >= 2e-5) printf("  (%s: %g)\n", saved[i].name, off);
        peft_model_free(m);
    }
    store_close(want);
}

/* Saved as floats, and again as bitsandbytes keeps them: same values. */
static void save_again(void)
{
    for (size_t i = 0; i < ARRAY_LEN(saved); i++) {
        static const char *const dtypes[] = { NULL, "nf4", "fp4" };
        float z[16 * 40], y[16 * 40];
        char path[96];
        snprintf(path, sizeof(path), GOLDEN "%s", saved[i].name);
        peft_model *m = load(path);
        forward(m, z);
        for (int k = 0; k < 3; k++) {
            peft_save_opts o = { .size = sizeof(o), .dtype = dtypes[k] };
            if (k && strncmp(saved[i].name, dtypes[k], 3)) continue;
            OK(peft_model_save(m, in("again"), &o));
            peft_model *again = load(in("again"));
            forward(again, y);
            CHECK(!memcmp(y, z, sizeof(z)));
            peft_model_free(again);
        }
        if (i != 4) {
            OK(peft_model_save(m, in("again.gguf"), NULL));
            peft_model *again = load(in("again.gguf"));
            forward(again, y);
            CHECK(distance(y, z, 16 * 40) < 2e-5);
            peft_model_free(again);
        }
        peft_model_free(m);
    }
}

/* From floats: every file of bitsandbytes' as transformers would write it. */
static void quantise(void)
{
    static const char *const dtypes[] = { "nf4", "nf4_dq", "fp4", "fp4_dq" };
    peft_model *m = load("tests/golden/tiny/llama");
    for (int i = 0; i < 4; i++) {
        peft_save_opts o = { .size = sizeof(o), .dtype = dtypes[i] };
        peft_info info = { .size = sizeof(info) };
        OK(peft_model_save(m, in("quantised"), &o));
        peft_model *q = load(in("quantised"));
        OK(peft_model_info(q, &info));
        CHECK(strstr(info.types, i < 2 ? "NF4 x" : "FP4 x") != NULL);
        peft_model_free(q);
        REFUSED(peft_model_save(m, in("never.gguf"), &o), PEFT_EARG);
    }
    peft_model_free(m);
}

/* What is [in, out] in GPT-2's files is [out, in] where it is quantised. */
static void quantise_turned(void)
{
    static float z[16 * 512], y[16 * 512];
    peft_model *m = load("tests/golden/tiny/gpt2");
    peft_save_opts o = { .size = sizeof(o), .dtype = "nf4" };
    int n = 16 * info_of(m).vocab;
    double most = 0;
    if (n > 16 * 512) GIVE_UP();
    forward(m, z);
    OK(peft_model_save(m, in("turned"), &o));
    peft_model_free(m);
    m = load(in("turned"));
    forward(m, y);
    for (int i = 0; i < n; i++) most = fmax(most, fabs((double)z[i]));
    CHECK(distance(y, z, n) < 0.3 * most && distance(y, z, n) > 0);
    peft_model_free(m);
}

/* LoRA on such a base needs nothing more; the base stays as it is. */
static void train(void)
{
    static const char rows[] =
        "{\"input_ids\": [3, 9, 4, 8, 5, 7]}\n{\"input_ids\": [11, 9, 13, 8, 15, 7]}\n";
    peft_model *m = load(GOLDEN "nf4_dq_bf16");
    peft_adapter_opts a = { .size = sizeof(a), .rank = 4 };
    peft_train_opts o = { .size = sizeof(o), .lr = 1e-2f, .steps = 12, .batch = 2 };
    peft_step step = { .size = sizeof(step) };
    peft_dataset *d = NULL;
    peft_trainer *t = NULL;
    double first = 0;
    OK(peft_adapter_add(m, "default", &a));
    OK(peft_dataset_load(m, put(in("rows.jsonl"), rows), NULL, &d));
    OK(peft_trainer_new(m, d, &o, &t));
    for (int i = 0; i < 12; i++) {
        OK(peft_train_step(t, &step));
        if (!i) first = step.loss;
    }
    CHECK(step.loss < 0.9 * first);
    peft_trainer_free(t);
    peft_dataset_free(d);
    OK(peft_adapter_merge(m, "default"));
    peft_model_free(m);
}

/* --- broken checkpoints */

static struct store_out out[64];
static int64_t n_out;
static struct store *from;

static struct store_out *find_out(const char *end)
{
    for (int64_t i = 0; i < n_out; i++) {
        size_t n = strlen(out[i].name), k = strlen(end);
        if (n >= k && !strcmp(out[i].name + n - k, end)) return &out[i];
    }
    GIVE_UP();
}

static void begin(const char *folder)
{
    char path[96];
    snprintf(path, sizeof(path), GOLDEN "%s/config.json", folder);
    mkdir(in("broken"), 0777);
    copy(path, in("broken/config.json"));
    snprintf(path, sizeof(path), GOLDEN "%s/model.safetensors", folder);
    OK(store_open_safetensors(&host, path, true, &from));
    n_out = store_count(from);
    for (int64_t i = 0; i < n_out; i++) {
        const struct store_tensor *t = store_at(from, i);
        out[i] = (struct store_out){ .name = t->name, .type = t->type, .n_dims = t->n_dims,
                                     .data = t->data };
        memcpy(out[i].dims, t->dims, sizeof(t->dims));
    }
}

static void refuse(int code, const char *says)
{
    peft_load_opts o = kit_opts();
    peft_model *m = NULL;
    OK(safetensors_write(&host, in("broken/model.safetensors"), out, n_out, NULL, 0));
    REFUSED(peft_model_load(in("broken"), &o, &m), code);
    CHECK(strstr(peft_errmsg(), says) != NULL);
    if (!strstr(peft_errmsg(), says)) printf("  (%s)\n", peft_errmsg());
    store_close(from);
}

static void state(const char *text, int code, const char *says)
{
    begin("nf4_dq_bf16");
    struct store_out *o = find_out("q_proj.weight.quant_state.bitsandbytes__nf4");
    o->data = text;
    o->dims[0] = (int64_t)strlen(text);
    refuse(code, says);
}

static void hostile(void)
{
#define STATE(block, dtype, shape, rest) \
    "{\"quant_type\": \"nf4\", \"blocksize\": " block ", \"dtype\": \"" dtype "\", " \
    "\"shape\": " shape rest "}"
    state("{", PEFT_EFORMAT, "q_proj.weight");
    state("[]", PEFT_EFORMAT, "blocksize");
    state(STATE("0", "float32", "[40, 40]", ""), PEFT_EFORMAT, "blocksize");
    state(STATE("32", "float32", "[40, 40]", ""), PEFT_EUNSUPPORTED, "blocks of 32");
    state(STATE("64", "float64", "[40, 40]", ""), PEFT_EUNSUPPORTED, "float64");
    state(STATE("64", "float32", "[40]", ""), PEFT_EUNSUPPORTED, "shape");
    state(STATE("64", "float32", "[40, -1]", ""), PEFT_EUNSUPPORTED, "shape");
    state(STATE("64", "float32", "[999999999, 999999999]", ""), PEFT_EFORMAT, "bytes");
    state(STATE("64", "float32", "[40, 41]", ""), PEFT_EFORMAT, "820");
    state(STATE("64", "float32", "[40, 40]", ""), PEFT_EFORMAT, "nested_offset");
    state(STATE("64", "float32", "[40, 40]", ", \"nested_offset\": 1, \"nested_blocksize\": 8"),
          PEFT_EFORMAT, "nested_absmax");
    state(STATE("64", "float32", "[20, 80]", ", \"nested_offset\": 0.5"), PEFT_EFORMAT,
          "expected [40, 40]");
    static const float bad[64] = { NAN };
    begin("nf4");
    find_out("o_proj.weight.absmax")->data = bad;
    refuse(PEFT_EFORMAT, "not finite");
    begin("nf4");
    find_out("o_proj.weight.absmax")->dims[0] = 3;
    refuse(PEFT_EFORMAT, "absmax holds 3");
    begin("nf4");
    find_out("o_proj.weight.absmax")->name = "elsewhere";
    refuse(PEFT_EFORMAT, "has no absmax");
    begin("nf4");
    *find_out("o_proj.weight") = out[n_out - 1];
    n_out--;
    refuse(PEFT_EFORMAT, "has no weight");
    begin("int8");
    find_out("up_proj.SCB")->dims[0] = 5;
    refuse(PEFT_EFORMAT, "5 scales");
    begin("int8");
    find_out("up_proj.weight_format")->data = "\1";
    refuse(PEFT_EUNSUPPORTED, "by rows");
    begin("nf4");
    put(in("broken/config.json"), "{\"model_type\": \"llama\", \"quantization_config\": "
        "{\"quant_method\": \"gptq\"}}");
    refuse(PEFT_EUNSUPPORTED, "gptq");
}

/* Any byte of the file may be any other. */
static void flips(void)
{
    static const char *const folders[] = { "nf4_dq_bf16", "int8" };
    for (int f = 0; f < 2; f++) {
        char path[96];
        snprintf(path, sizeof(path), GOLDEN "%s/config.json", folders[f]);
        mkdir(in("flipped"), 0777);
        copy(path, in("flipped/config.json"));
        snprintf(path, sizeof(path), GOLDEN "%s/model.safetensors", folders[f]);
        struct bytes b = get(path);
        for (uint64_t i = 0; i < 600; i++) {
            /* Most of them where names, shapes and states are. */
            uint64_t at = rng_u32(1, 2, 2 * i) % (i % 4 ? MIN(b.n, 3400) : b.n);
            if (i % 5 == 0) at = b.n - 1 - at;
            char old = b.at[at];
            peft_load_opts o = kit_opts();
            peft_model *m = NULL;
            b.at[at] ^= (char)(1 + rng_u32(1, 2, 2 * i + 1) % 255);
            put_bytes(in("flipped/model.safetensors"), b.at, b.n);
            int rc = peft_model_load(in("flipped"), &o, &m);
            CHECK(rc == PEFT_OK || is_failure(rc));
            if (!rc) {
                float z[16 * 40];
                forward(m, z);
            }
            peft_model_free(m);
            b.at[at] = old;
        }
        free(b.at);
    }
}

static void no_memory(void)
{
    peft_load_opts o = kit_opts();
    peft_save_opts s = { .size = sizeof(s), .dtype = "fp4_dq" };
    int rc = PEFT_ENOMEM;
    for (long i = 1; rc && i < 5000; i += 1 + i / 50) {
        peft_model *m = NULL;
        long live = atomic_load(&kit_mem.live);
        atomic_store(&kit_mem.fail_at, atomic_load(&kit_mem.calls) + i);
        rc = peft_model_load(GOLDEN "nf4_dq_bf16", &o, &m);
        if (!rc) rc = peft_model_save(m, in("scarce"), &s);
        CHECK(rc == PEFT_OK || rc == PEFT_ENOMEM);
        peft_model_free(m);
        CHECK_EQ(atomic_load(&kit_mem.live), live);
    }
    atomic_store(&kit_mem.fail_at, 0);
    CHECK_EQ(rc, PEFT_OK);
}

int main(int argc, char **argv)
{
    if (argc > 1) quant_file = argv[1];
    kit_begin();
    if (host_init(&host, NULL) || store_open_safetensors(&host, quant_file, true, &quant)) return 1;
    RUN(blocks);
    RUN(models);
    RUN(save_again);
    RUN(quantise);
    RUN(quantise_turned);
    RUN(train);
    RUN(hostile);
    RUN(flips);
    RUN(no_memory);
    store_close(quant);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
    kit_end();
    return TEST_END();
}
