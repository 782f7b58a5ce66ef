/* Pictures against Pillow and transformers: decoding, resizing, image
 * processors, and models that have no golden training (make_vision.py). */
#include <dirent.h>

#include "data/image.h"
#include "golden.h"

#define DIR_ "tests/golden/vision/"
static struct store *want;

static int slurp(const char *path, struct file_view *v)
{
    int rc = file_open_view(&test_host, path, false, v);
    CHECK_EQ(rc, PEFT_OK);
    return rc;
}

static const struct store_tensor *expected(const char *name)
{
    const struct store_tensor *t = store_find(want, name);
    if (!t) printf("  no %s\n", name);
    CHECK(t);
    return t;
}

/* The largest difference of bytes; 256 when the shapes differ. */
static int byte_error(const struct image *im, const struct store_tensor *t)
{
    int worst = 0;
    const uint8_t *x = t ? t->data : NULL;
    if (!t || t->dims[0] != im->h || t->dims[1] != im->w) return 256;
    for (int64_t i = 0; i < t->count; i++) worst = MAX(worst, abs(im->px[i] - x[i]));
    return worst;
}

/* Other versions of libjpeg may round otherwise. */
static void test_decoding(void)
{
    DIR *d = opendir(DIR_);
    int n = 0, worst = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        int jpeg = strstr(e->d_name, ".jpg") != NULL;
        struct file_view v;
        if ((!jpeg && !strstr(e->d_name, ".png")) || slurp(at(DIR_ "%s", e->d_name), &v)) continue;
        for (int channels = 1; channels < 4; channels += 2) {
            struct image im;
            CHECK_EQ(image_decode(&test_host, v.data, v.n, channels, &im), PEFT_OK);
            const char *name = at(channels == 1 ? "%s.grey" : "%s", e->d_name);
            int error = im.px ? byte_error(&im, expected(name)) : 256;
            if (error > 2 * jpeg) printf("  %s: %d\n", name, error);
            CHECK(error <= 2 * jpeg);
            worst = MAX(worst, error);
            image_free(&test_host, &im);
            n++;
        }
        file_close_view(&test_host, &v);
    }
    if (d) closedir(d);
    CHECK_EQ(n, 28);
    printf("  %d decodings, at most %d levels from Pillow's\n", n, worst);
}

static void test_resizing(void)
{
    static const char *const names[] = { "nearest", "lanczos", "bilinear", "bicubic", "box",
                                         "hamming" };
    static const int sizes[][2] = { { 16, 16 }, { 50, 31 }, { 37, 9 } };
    struct file_view v;
    if (slurp(DIR_ "rgb.png", &v)) return;
    for (int how = 0; how < RESAMPLE_COUNT; how++)
        for (int s = 0; s < 3; s++) {
            struct image im;
            int w = sizes[s][0], h = sizes[s][1];
            CHECK_EQ(image_decode(&test_host, v.data, v.n, 3, &im), PEFT_OK);
            CHECK_EQ(image_resize(&test_host, &im, w, h, (enum resample)how), PEFT_OK);
            CHECK_EQ(byte_error(&im, expected(at("resize.%s.%dx%d", names[how], w, h))), 0);
            image_free(&test_host, &im);
        }
    file_close_view(&test_host, &v);
}

/* --- image processors */

static void copy(const char *from, const char *to)
{
    struct file_view v;
    if (slurp(from, &v)) return;
    CHECK_EQ(file_write(&test_host, to, v.data, v.n), PEFT_OK);
    file_close_view(&test_host, &v);
}

/* A folder with the tiny ViT and this preprocessor_config.json. */
static const char *folder_with(const char *processor)
{
    const char *dir = at("%s/with-%s", test_dir, processor);
    CHECK_EQ(test_host.io.mkdir(test_host.io.ctx, dir), 0);
    copy("tests/golden/tiny/vit/config.json", at("%s/config.json", dir));
    copy("tests/golden/tiny/vit/model.safetensors", at("%s/model.safetensors", dir));
    copy(at(DIR_ "%s.json", processor), at("%s/preprocessor_config.json", dir));
    return dir;
}

static void test_processors(void)
{
    static const char *const names[] = { "vit", "clip", "crop" };
    for (int i = 0; i < 3; i++) {
        peft_model *m = load_model(folder_with(names[i]));
        const struct store_tensor *t = expected(at("pixels.%s", names[i]));
        if (!m || !t) continue;
        float *x = calloc((size_t)t->count + 16 * 16 * 3, sizeof(float));
        if (i == 2) {
            CHECK_EQ(peft_image_read(m, DIR_ "rgb.png", NULL, 0, x), PEFT_EDATA);
            CHECK(strstr(peft_errmsg(), "15 x 16"));
            model_of(m)->vision->w = 15;
        }
        CHECK_EQ(peft_image_read(m, DIR_ "rgb.png", NULL, 0, x), PEFT_OK);
        double worst = 0;
        for (int64_t k = 0; k < t->count; k++)
            worst = fmax(worst, fabs(x[k] - ((const float *)t->data)[k]));
        CHECK_NEAR(worst, 0, 1e-6);
        free(x);
        peft_model_free(m);
    }
}

/* --- models */

static double output_error(peft_model *m, const char *name)
{
    int64_t n = 0, out = 0;
    const float *x = floats(want, at("%s.pixels", name), &n);
    const float *y = floats(want, at("%s.out", name), &out);
    float got[2 * 64];
    peft_info info = { .size = sizeof(info) };
    double worst = 0;
    peft_model_info(m, &info);
    CHECK_EQ(n, 2 * info.channels * info.image_height * info.image_width);
    CHECK_EQ(out, 2 * (info.labels ? info.labels : info.embed_dim));
    CHECK_EQ(info.labels ? peft_forward_pixels(m, x, 2, got) : peft_embed_pixels(m, x, 2, 0, got),
             PEFT_OK);
    for (int64_t i = 0; i < out; i++) worst = fmax(worst, fabs(got[i] - y[i]));
    return worst;
}

static void test_models(void)
{
    static const char *const names[] = { "clip", "odd", "bare" };
    for (int i = 0; i < 3; i++) {
        peft_save_opts o = { .size = sizeof(o) };
        peft_model *m = load_model(at(DIR_ "%s", names[i]));
        if (!m) continue;
        double worst = output_error(m, names[i]);
        CHECK_NEAR(worst, 0, 2e-5);
        printf("  %s: %.1e\n", names[i], worst);
        /* A saved copy has the same tensors of the same shapes, and outputs. */
        const char *saved = at("%s/saved-%s", test_dir, names[i]);
        CHECK_EQ(peft_model_save(m, saved, &o), PEFT_OK);
        CHECK_EQ(peft_model_save(m, at("%s/x.gguf", test_dir), &o), PEFT_EUNSUPPORTED);
        peft_model_free(m);
        struct store *a = open_st(at(DIR_ "%s/model.safetensors", names[i]));
        struct store *b = open_st(at("%s/model.safetensors", saved));
        CHECK_EQ(store_count(a), store_count(b));
        for (int64_t k = 0; k < store_count(a); k++) {
            const struct store_tensor *x = store_at(a, k), *y = store_find(b, x->name);
            CHECK(y && y->n_dims == x->n_dims && !memcmp(x->dims, y->dims, sizeof(x->dims)));
            CHECK(y && x->bytes == y->bytes && !memcmp(x->data, y->data, (size_t)x->bytes));
        }
        store_close(a);
        store_close(b);
        json *was = read_json_file(at(DIR_ "%s/config.json", names[i]));
        json *is = read_json_file(at("%s/config.json", saved));
        CHECK_STR(json_string(json_first(json_get(is, "architectures"))),
                  json_string(json_first(json_get(was, "architectures"))));
        json_free(was);
        json_free(is);
        m = load_model(saved);
        CHECK_NEAR(output_error(m, names[i]), worst, 0);
        CHECK(m && model_of(m)->vision->text);
        peft_model_free(m);
    }
}

/* Adapters have transformers' names in memory, and load by those of files too. */
static void test_adapter_names(void)
{
    static const char *const names[] = {
        "base_model.model.vit.layers.1.attention.q_proj.lora_B.weight",
        "base_model.model.vit.layers.0.attention.o_proj.lora_A.weight",
        "base_model.model.vit.layers.0.mlp.fc2.lora_A.weight", "base_model.model.classifier.bias"
    };
    peft_model *m = load_model("tests/golden/tiny/vit");
    const char *dir = at("%s/adapter", test_dir);
    peft_adapter_opts o = { .size = sizeof(o), .rank = 2, .targets = "q_proj,o_proj,output.dense" };
    CHECK_EQ(peft_adapter_add(m, "default", &o), PEFT_OK);
    CHECK_EQ(peft_adapter_save(m, "default", dir), PEFT_OK);
    struct store *s = open_st(at("%s/adapter_model.safetensors", dir));
    for (int i = 0; i < 4; i++) CHECK(store_find(s, names[i]));
    CHECK_EQ(store_count(s), 14);
    store_close(s);
    json *c = read_json_file(at("%s/adapter_config.json", dir));
    CHECK_STR(json_string(json_first(json_get(c, "target_modules"))), "fc2");
    json_free(c);
    peft_model_free(m);
    m = load_model("tests/golden/tiny/vit");
    CHECK_EQ(peft_adapter_load(m, "default", dir), PEFT_OK);
    peft_model_free(m);
    o.targets = "projection";
    m = load_model("tests/golden/tiny/vit");
    CHECK_EQ(peft_adapter_add(m, "default", &o), PEFT_ENOTFOUND);
    peft_model_free(m);
}

static void test_wrong_input(void)
{
    float x[3 * 16 * 16] = { 0 };
    int32_t id = 0;
    peft_model *m = load_model("tests/golden/tiny/vit");
    CHECK_EQ(peft_forward(m, &id, 1, x), PEFT_ESTATE);
    CHECK_EQ(peft_embed(m, &id, 1, 0, x), PEFT_ESTATE);
    CHECK_EQ(peft_image_read(m, DIR_ "vit.json", NULL, 0, x), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "vit.json"));
    CHECK_EQ(peft_image_read(m, DIR_ "none.png", NULL, 0, x), PEFT_ENOTFOUND);
    CHECK_EQ(peft_classify_image(m, DIR_ "rgb.jpg", NULL, 0, x), PEFT_OK);
    CHECK_NEAR(x[0] + x[1] + x[2] + x[3], 1, 1e-5);
    peft_model_free(m);
    m = load_model(DIR_ "clip");
    peft_head_opts o = { .size = sizeof(o), .labels = 2 };
    CHECK_EQ(peft_head_add(m, &o), PEFT_EUNSUPPORTED);
    CHECK_EQ(peft_forward_pixels(m, x, 1, x), PEFT_ESTATE);
    CHECK_EQ(peft_embed_image(m, DIR_ "rgb.jpg", NULL, 0, 1, x), PEFT_OK);
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += x[i] * x[i];
    CHECK_NEAR(sum, 1, 1e-5);
    peft_model_free(m);
    m = load_model("tests/golden/tiny/llama");
    CHECK_EQ(peft_forward_pixels(m, x, 1, x), PEFT_ESTATE);
    CHECK_EQ(peft_embed_image(m, DIR_ "rgb.jpg", NULL, 0, 1, x), PEFT_ESTATE);
    peft_model_free(m);
}

#if defined(PEFT_PNG) && defined(PEFT_JPEG)
enum { READS_ALL = 1 };
#else
enum { READS_ALL = 0 };             /* built without libpng or libjpeg */
#endif

int main(void)
{
    golden_begin();
    want = open_st(DIR_ "expected.safetensors");
    if (READS_ALL) {
        RUN(test_decoding);
        RUN(test_resizing);
        RUN(test_processors);
        RUN(test_wrong_input);
    }
    RUN(test_models);
    RUN(test_adapter_names);
    store_close(want);
    golden_end();
    return TEST_END();
}
