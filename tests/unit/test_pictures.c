/* Pictures: hostile files, data sets of folders and lists, augmentation, and
 * that training on them repeats to the bit. */
#include <stdlib.h>

#include "data/image.h"
#include "kit.h"

#define PICTURES "tests/golden/vision/"
#define MODEL "tests/golden/tiny/vit"
static struct host host;

static void make_dir(const char *path) { CHECK_EQ(mkdir(path, 0777), 0); }

static uint8_t *slurp(const char *path, int64_t *n)
{
    struct file_view v;
    CHECK_EQ(file_open_view(&host, path, false, &v), PEFT_OK);
    uint8_t *copy = malloc((size_t)v.n);
    memcpy(copy, v.data, (size_t)v.n);
    *n = v.n;
    file_close_view(&host, &v);
    return copy;
}

static void put_file(const char *path, const void *data, int64_t n)
{
    CHECK_EQ(file_write(&host, path, data, n), PEFT_OK);
}
static void copy_file(const char *from, const char *to)
{
    int64_t n;
    uint8_t *data = slurp(from, &n);
    put_file(to, data, n);
    free(data);
}

/* --- hostile files */

/* Decodes; whatever comes of it is a picture or a failure with its reason. */
static int try(const uint8_t *data, int64_t n)
{
    struct image im;
    int64_t live = atomic_load(&host.mem.live);
    error_clear();
    /* In memory of its exact size, so that sanitizers see reading beyond it. */
    uint8_t *exact = malloc((size_t)n + !n);
    memcpy(exact, data, (size_t)n);
    int rc = image_decode(&host, exact, n, 3, &im);
    if (rc) {
        CHECK(error_message()[0] && !im.px);
        CHECK(rc == PEFT_EFORMAT);
    } else {
        unsigned sum = 0;
        for (int64_t i = 0; i < (int64_t)im.w * im.h * 3; i++) sum += im.px[i];
        CHECK(sum < 1u << 31 && im.w > 0 && im.h > 0);
    }
    image_free(&host, &im);
    free(exact);
    CHECK_EQ(atomic_load(&host.mem.live), live);
    return rc;
}

static const char *const kinds[] = { "rgb.png", "palette.png", "interlaced.png", "turned.png",
                                     "one_bit.png", "rgb.jpg", "grey.jpg", "cmyk.jpg",
                                     "progressive.jpg", "turned.jpg" };

static void test_truncated(void)
{
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        int64_t n, whole = 0;
        char path[96];
        snprintf(path, sizeof(path), PICTURES "%s", kinds[k]);
        uint8_t *data = slurp(path, &n);
        for (int64_t cut = 0; cut < n; cut++) whole += !try(data, cut);
        /* Only what stands behind the last pixel may lack. */
        CHECK(whole <= 24);
        free(data);
    }
}

static void test_bit_flips(void)
{
    int64_t accepted = 0, refused = 0;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        int64_t n;
        char path[96];
        snprintf(path, sizeof(path), PICTURES "%s", kinds[k]);
        uint8_t *data = slurp(path, &n);
        for (int i = 0; i < 600; i++) {
            uint32_t r = rng_u32(7, k, (uint64_t)i), at = r % (uint32_t)n, bit = r >> 28 & 7;
            if (i < 100) at = (uint32_t)(i % MIN(n, 100));       /* headers above all */
            data[at] ^= (uint8_t)(1 << bit);
            if (try(data, n)) refused++;
            else accepted++;
            data[at] ^= (uint8_t)(1 << bit);
        }
        free(data);
    }
    CHECK(refused > 100 && accepted > 100);
}

static void test_claimed_sizes(void)
{
    int64_t n;
    uint8_t *data = slurp(PICTURES "rgb.jpg", &n), *sof = data;
    while (sof < data + n - 9 && !(sof[0] == 0xff && sof[1] == 0xc0)) sof++;
    static const uint8_t sizes[][4] = { { 0xff, 0xff, 0xff, 0xff }, { 0x40, 0, 0x40, 0 },
                                        { 0, 0, 0, 9 }, { 0, 9, 0, 0 } };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        memcpy(sof + 5, sizes[i], 4);
        CHECK_EQ(try(data, n), PEFT_EFORMAT);
    }
    free(data);
    struct image im;
    CHECK_EQ(image_alloc(&host, 1 << 14, 1 << 14, 3, INT64_MAX, &im), PEFT_EFORMAT);
    CHECK_EQ(image_alloc(&host, 1 << 12, 1 << 12, 3, 100, &im), PEFT_EFORMAT);
    CHECK_EQ(image_alloc(&host, -1, 5, 3, 100, &im), PEFT_EFORMAT);
    static const uint8_t exif[][24] = {
        { 'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 8, 0, 0, 0 },
        { 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 3, 0, 0 },
        { 'I', 'I', 42, 0, 0xff, 0xff, 0xff, 0xff }, { 'M', 'I', 42 },
        { 'I', 'I', 42, 0, 8, 0, 0, 0, 0xff, 0xff, 0x12, 2 } };
    static const int32_t turned[] = { 8, 3, 1, 1, 1 };
    for (size_t i = 0; i < ARRAY_LEN(exif); i++)
        CHECK_EQ(exif_orientation(exif[i], sizeof(exif[i])), turned[i]);
    for (int64_t i = 0; i < 22; i++) CHECK_EQ(exif_orientation(exif[0], i), 1);
}

static void test_bad_settings(void)
{
    static const char *const bad[] = {
        "{\"size\": {\"height\": 16}}", "{\"size\": {\"shortest_edge\": 0}}", "{\"size\": \"x\"}",
        "{\"image_mean\": [0.5]}x", "{\"image_std\": [0, 0, 0]}", "{\"image_mean\": [1, 2]}",
        "{\"resample\": 6}", "{\"do_resize\": 3}", "{\"image_std\": [1e999, 1, 1]}",
        "{\"size\": {\"shortest_edge\": 9, \"longest_edge\": 20}}", "{\"rescale_factor\": 1e300}" };
    static const char *const fine[] = {
        "{\"size\": 16}", "{\"size\": {\"width\": 16, \"height\": 16}, \"crop_size\": 16}",
        "{\"do_center_crop\": true, \"size\": 16, \"crop_size\": 16, \"image_mean\": 0.5}",
        "{\"do_normalize\": false, \"resample\": 0, \"image_std\": [1]}", "{}" };
    float x[3 * 16 * 16];
    make_dir(in("m"));
    copy_file(MODEL "/config.json", in("m/config.json"));
    copy_file(MODEL "/model.safetensors", in("m/model.safetensors"));
    for (size_t i = 0; i < ARRAY_LEN(bad) + ARRAY_LEN(fine); i++) {
        int good = i >= ARRAY_LEN(bad);
        const char *text = good ? fine[i - ARRAY_LEN(bad)] : bad[i];
        peft_model *m = NULL;
        put_file(in("m/preprocessor_config.json"), text, (int64_t)strlen(text));
        int rc = peft_model_load(in("m"), NULL, &m);
        if (!good && rc != PEFT_EFORMAT && rc != PEFT_EUNSUPPORTED) printf("  %s\n", text);
        if (good) CHECK_EQ(rc, PEFT_OK);
        else CHECK(rc == PEFT_EFORMAT || rc == PEFT_EUNSUPPORTED);
        if (good) CHECK_EQ(peft_image_read(m, PICTURES "rgb.png", NULL, 0, x), PEFT_OK);
        peft_model_free(m);
    }
}

/* --- data sets */

static peft_model *model(void)
{
    peft_model *m = NULL;
    CHECK_EQ(peft_model_load(MODEL, NULL, &m), PEFT_OK);
    return m;
}

static int logged;
static void count_log(void *ctx, int32_t level, const char *line)
{
    (void)ctx;
    logged += level == 1 && strstr(line, "broken.png") != NULL;
}

/* A folder of three classes with 3, 2 and 1 pictures, one more of them broken. */
static void make_folder(void)
{
    static const char *const files[][2] = {
        { "LABEL_1/a.png", "rgb.png" }, { "LABEL_1/b.JPG", "halved.jpg" },
        { "LABEL_1/c.jpeg", "progressive.jpg" }, { "LABEL_3/x.png", "grey.png" },
        { "LABEL_3/y.png", "palette.png" }, { "LABEL_0/z.jpg", "cmyk.jpg" },
        { "LABEL_0/note.txt", "vit.json" }, { "LABEL_0/.hidden.png", "vit.json" },
        { "LABEL_3/broken.png", "vit.json" } };
    char from[96];
    make_dir(in("f"));
    for (int i = 0; i < 4; i++) make_dir(in("f/LABEL_%d", i));
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(from, sizeof(from), PICTURES "%s", files[i][1]);
        copy_file(from, in("f/%s", files[i][0]));
    }
}

static void test_folder(void)
{
    peft_load_opts lo = { .size = sizeof(lo), .log = count_log };
    peft_model *m = NULL;
    peft_dataset *d = NULL, *e = NULL;
    peft_dataset_opts o = { .size = sizeof(o) };
    peft_dataset_stats s = { .size = sizeof(s) };
    peft_row r = { .size = sizeof(r) };
    static const int32_t labels[] = { 0, 1, 1, 1, 3, 3 };
    CHECK_EQ(peft_model_load(MODEL, &lo, &m), PEFT_OK);
    CHECK_EQ(peft_dataset_load(m, in("f"), &o, &d), PEFT_OK);
    CHECK_EQ(peft_dataset_info(d, &s), PEFT_OK);
    CHECK_EQ(s.rows, 6);
    CHECK_EQ(s.skipped, 1);
    CHECK_EQ(logged, 1);
    CHECK_EQ(s.max_len, 17);
    CHECK_STR(s.schema, "image folder");
    for (int i = 0; i < 6; i++) {
        CHECK_EQ(peft_dataset_row(d, i, &r), PEFT_OK);
        CHECK_EQ(r.label, labels[i]);
        CHECK(r.n == 17 && !r.ids);
    }
    CHECK_EQ(peft_dataset_split(d, 0.5, 1, &e), PEFT_OK);
    peft_dataset_free(d);
    CHECK_EQ(peft_dataset_info(e, &s), PEFT_OK);
    CHECK_EQ(s.rows, 3);
    peft_dataset_free(e);
    o.limit = 5;                    /* one, two, two, of which one is broken */
    CHECK_EQ(peft_dataset_load(m, in("f"), &o, &d), PEFT_OK);
    static const int32_t few[] = { 0, 1, 1, 3 };
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(peft_dataset_row(d, i, &r), PEFT_OK);
        CHECK_EQ(r.label, few[i]);
    }
    peft_dataset_free(d);
    make_dir(in("none"));
    CHECK_EQ(peft_dataset_load(m, in("none"), NULL, &d), PEFT_EDATA);
    CHECK_EQ(peft_dataset_load(m, in("absent"), NULL, &d), PEFT_ENOTFOUND);
    make_dir(in("other"));
    make_dir(in("other/cat"));
    copy_file(PICTURES "rgb.png", in("other/cat/a.png"));
    CHECK_EQ(peft_dataset_load(m, in("other"), NULL, &d), PEFT_EDATA);
    CHECK(strstr(peft_errmsg(), "unknown label \"cat\""));
    copy_file(PICTURES "vit.json", in("other/cat/a.png"));
    rename(in("other/cat"), in("other/LABEL_0"));
    CHECK_EQ(peft_dataset_load(m, in("other"), NULL, &d), PEFT_EDATA);
    CHECK(strstr(peft_errmsg(), "every picture is broken") && strstr(peft_errmsg(), "a.png"));
    peft_model_free(m);
}

static int load_list(const peft_model *m, const char *name, const char *text, int any,
                     peft_dataset **d)
{
    peft_dataset_opts o = { .size = sizeof(o), .any_path = any };
    put_file(in(name), text, (int64_t)strlen(text));
    return peft_dataset_load(m, in(name), &o, d);
}

static void test_list(void)
{
    peft_model *m = model();
    peft_dataset *d = NULL;
    peft_row r = { .size = sizeof(r) };
    char text[256];
    CHECK_EQ(load_list(m, "l.csv", "image,label\nf/LABEL_1/a.png,LABEL_2\nf/LABEL_0/z.jpg,3\n", 0,
                       &d), PEFT_OK);
    peft_dataset_free(d);
    CHECK_EQ(load_list(m, "l.csv", "image,label\nf/LABEL_1/a.png,2\nf/LABEL_0/z.jpg,3\n", 0, &d),
             PEFT_OK);
    CHECK_EQ(peft_dataset_row(d, 1, &r), PEFT_OK);
    CHECK(r.label == 3 && r.line == 3);
    peft_dataset_free(d);
    CHECK_EQ(load_list(m, "l.jsonl", "{\"label\": \"LABEL_3\", \"image\": \"f/LABEL_3/x.png\"}\n",
                       0, &d), PEFT_OK);
    peft_dataset_free(d);
    CHECK_EQ(load_list(m, "l.jsonl", "{\"label\": 1, \"text\": \"f/LABEL_3/x.png\"}\n", 0, &d),
             PEFT_EFORMAT);
    CHECK_EQ(load_list(m, "l.jsonl", "{\"label\": 1, \"image\": \"f/none.png\"}\n", 0, &d),
             PEFT_ENOTFOUND);
    CHECK(strstr(peft_errmsg(), "line 1") && strstr(peft_errmsg(), "none.png"));
    snprintf(text, sizeof(text), "{\"label\": 1, \"image\": \"%s\"}\n", in("f/LABEL_3/x.png"));
    CHECK_EQ(load_list(m, "l.jsonl", text, 0, &d), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "pictures of a list lie in its folder"));
    CHECK_EQ(load_list(m, "l.jsonl", text, 1, &d), PEFT_OK);
    peft_dataset_free(d);
    CHECK_EQ(load_list(m, "f/l.jsonl", "{\"label\": 1, \"image\": \"../f/LABEL_3/x.png\"}\n", 0,
                       &d), PEFT_EFORMAT);
    CHECK_EQ(load_list(m, "f/l.jsonl", "{\"label\": 1, \"image\": \"../f/LABEL_3/x.png\"}\n", 1,
                       &d), PEFT_OK);
    peft_dataset_free(d);
    remove(in("f/l.jsonl"));
    peft_model_free(m);
}

/* --- augmentation */

static void test_augment(void)
{
    static const char *const bad[] = { "flop", "flip=2", "rotate=", "rotate=-3", "crop=1",
                                       "flip,,crop=0.1x", "brightness=1e3", "hue=0.6",
                                       "saturation=1.5" };
    struct vision v = { .w = 37, .h = 23, .channels = 3 };
    struct augment a;
    uint8_t x[37 * 23 * 3], y[sizeof(x)], z[sizeof(x)];
    struct image im;
    int64_t n;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) CHECK_EQ(augment_parse(bad[i], &a), PEFT_EARG);
    uint8_t *data = slurp(PICTURES "rgb.png", &n);
    CHECK_EQ(image_decode(&host, data, n, 3, &im), PEFT_OK);
    memcpy(x, im.px, sizeof(x));
    image_free(&host, &im);
    free(data);
    /* Nothing and mirroring are exact. */
    CHECK_EQ(augment_parse(NULL, &a), PEFT_OK);
    CHECK(!a.on);
    augment_picture(&a, &v, 1, 0, 0, x, y);
    CHECK(!memcmp(x, y, sizeof(x)));
    CHECK_EQ(augment_parse("flip=1", &a), PEFT_OK);
    augment_picture(&a, &v, 1, 0, 0, x, y);
    int wrong = 0;
    for (int r = 0; r < 23; r++)
        for (int c = 0; c < 37; c++)
            wrong += memcmp(x + (r * 37 + c) * 3, y + (r * 37 + 36 - c) * 3, 3) != 0;
    CHECK_EQ(wrong, 0);
    CHECK_EQ(augment_parse("flip,rotate=10,crop=0.2,shift=0.05,brightness=.3,contrast", &a),
             PEFT_OK);
    CHECK(a.on && fabsf(a.brightness - 0.3f) < 1e-6f && fabsf(a.contrast - 0.2f) < 1e-6f);
    for (int64_t row = 0; row < 50; row++) {
        augment_picture(&a, &v, 9, 3, row, x, y);
        augment_picture(&a, &v, 9, 3, row, x, z);
        CHECK(!memcmp(y, z, sizeof(x)) && memcmp(x, y, sizeof(x)));
        augment_picture(&a, &v, 9, 4, row, x, z);
        CHECK(memcmp(y, z, sizeof(x)));
        double mean = 0;
        for (size_t i = 0; i < sizeof(x); i++) mean += abs(x[i] - y[i]);
        CHECK(mean / sizeof(x) < 90);
    }
}

/* Values of torchvision's, see make_colour.py; what is grey has no hue. */
static void test_colour(void)
{
    FILE *f = fopen("tests/golden/colour.txt", "r");
    char which[16], line[160];
    double factor, x[3], want[3], grey = 100;
    int rows = 0, wrong = 0;
    CHECK(f != NULL);
    while (f && fgets(line, sizeof(line), f)) {
        CHECK_EQ(sscanf(line, "%15s %lf %lf %lf %lf %lf %lf %lf", which, &factor, &x[0], &x[1],
                        &x[2], &want[0], &want[1], &want[2]), 8);
        struct colour c = { 1, 1, 1, 0 };
        if (!strcmp(which, "hue")) c.hue = factor < 0 ? factor + 1 : factor;
        else c.saturation = factor;
        change_colour(&c, x, 3);
        for (int k = 0; k < 3; k++) wrong += !(fabs(x[k] - want[k]) < 2e-3);
        rows++;
    }
    if (f) fclose(f);
    CHECK_EQ(rows, 11 * 24);
    CHECK_EQ(wrong, 0);
    change_colour(&(struct colour){ 1, 1, 0, 0.3 }, &grey, 1);
    CHECK_NEAR(grey, 100, 1e-9);

    /* Drawn anew for each row and epoch, and apart from other draws. */
    struct vision v = { .w = 4, .h = 4, .channels = 3 };
    struct augment a, b;
    uint8_t from[48], one[48], two[48];
    for (int i = 0; i < 48; i++) from[i] = (uint8_t)(37 * i);
    OK(augment_parse("hue=0.5", &a));
    OK(augment_parse("hue=0.5,saturation,flip=1", &b));
    CHECK_NEAR((double)b.saturation, 0.2, 1e-6);
    augment_picture(&a, &v, 1, 0, 0, from, one);
    augment_picture(&a, &v, 1, 0, 1, from, two);
    CHECK(memcmp(from, one, 48) && memcmp(one, two, 48));
    for (int i = 0; i < 48; i += 3) {               /* value and chroma stay */
        int was = MAX(MAX(from[i], from[i + 1]), from[i + 2]);
        CHECK(abs(MAX(MAX(one[i], one[i + 1]), one[i + 2]) - was) <= 1);
    }
    augment_picture(&b, &v, 1, 0, 0, from, two);
    CHECK(memcmp(one, two, 48));
    OK(augment_parse("flip=1,brightness=0.3,hue=0,saturation=0", &a));
    OK(augment_parse("flip=1,brightness=0.3", &b));
    augment_picture(&a, &v, 1, 0, 0, from, one);
    augment_picture(&b, &v, 1, 0, 0, from, two);
    CHECK(!memcmp(one, two, 48));
}

/* Losses of some steps; `cut` = save and resume in another trainer there. */
static void losses(const char *augment, int threads, int cut, int64_t cache, int head, double *out)
{
    peft_load_opts lo = { .size = sizeof(lo), .threads = threads };
    peft_train_opts o = { .size = sizeof(o), .augment = augment, .batch = 3, .epochs = 4,
                          .lr = 1e-3f, .seed = 5, .feature_cache = cache };
    peft_model *m = NULL;
    peft_dataset *d = NULL;
    peft_trainer *t = NULL;
    peft_step s = { .size = sizeof(s) };
    CHECK_EQ(peft_model_load(MODEL, &lo, &m), PEFT_OK);
    if (head) CHECK_EQ(peft_freeze(m, "vit.*"), PEFT_OK);
    CHECK_EQ(peft_dataset_load(m, in("f"), NULL, &d), PEFT_OK);
    CHECK_EQ(peft_trainer_new(m, d, &o, &t), PEFT_OK);
    for (int i = 0; i < 8; i++) {
        if (cut == i && i) {
            CHECK_EQ(peft_trainer_save(t, in("checkpoint")), PEFT_OK);
            peft_trainer_free(t);
            CHECK_EQ(peft_trainer_new(m, d, &o, &t), PEFT_OK);
            CHECK_EQ(peft_trainer_resume(t, in("checkpoint")), PEFT_OK);
        }
        CHECK_EQ(peft_train_step(t, &s), PEFT_OK);
        out[i] = s.loss;
    }
    CHECK_EQ(peft_train_step(t, &s), PEFT_EEND);
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

static void test_training(void)
{
    static const char all[] = "flip,rotate,crop,shift,brightness,contrast";
    double a[8], b[8], plain[8];
    losses(all, 1, 0, 0, 0, a);
    losses(all, 3, 5, 0, 0, b);
    for (int i = 0; i < 8; i++) CHECK_NEAR(a[i], b[i], 0);
    losses(NULL, 1, 0, 0, 0, plain);
    CHECK(fabs(a[0] - plain[0]) > 1e-6);
    /* The cache of the frozen part's outputs changes nothing. */
    losses(NULL, 2, 0, 0, 1, a);
    losses(NULL, 1, 4, -1, 1, b);
    for (int i = 0; i < 8; i++) CHECK_NEAR(a[i], b[i], 1e-6);
    losses(all, 2, 0, 0, 1, a);
    losses(all, 1, 0, -1, 1, b);
    for (int i = 0; i < 8; i++) CHECK_NEAR(a[i], b[i], 0);
}

/* Beyond PICTURES_KEPT pictures are read again, and may have gone. */
static void test_not_kept(void)
{
    peft_model *m = model();
    peft_dataset *d = NULL;
    peft_eval_opts o = { .size = sizeof(o) };
    peft_evaluation a = { .size = sizeof(a) }, b = { .size = sizeof(b) };
    CHECK_EQ(peft_dataset_load(m, in("f"), NULL, &d), PEFT_OK);
    CHECK_EQ(peft_eval(m, d, &o, &a), PEFT_OK);
    struct dataset *data = (struct dataset *)d;
    for (int64_t i = 0; i < data->n; i++) data->rows[i].pixels = NULL;
    CHECK_EQ(peft_eval(m, d, &o, &b), PEFT_OK);
    CHECK_NEAR(a.loss, b.loss, 0);
    remove(in("f/LABEL_3/x.png"));
    CHECK_EQ(peft_eval(m, d, &o, &b), PEFT_EDATA);
    CHECK(strstr(peft_errmsg(), "x.png"));
    peft_dataset_free(d);
    peft_model_free(m);
}

/* Each allocation fails once: a failure, never a picture left out, no leak. */
static void test_no_memory(void)
{
    peft_load_opts o = kit_opts();
    peft_model *m = NULL;
    float shares[4];
    OK(peft_model_load(MODEL, &o, &m));
    OK(peft_classify_image(m, PICTURES "rgb.png", NULL, 0, shares));
    for (int what = 0; what < 3; what++)
        for (long at = 1, rc = -1; rc && at < 2000; at++) {
            peft_dataset *d = NULL;
            long live = atomic_load(&kit_mem.live);
            atomic_store(&kit_mem.fail_at, atomic_load(&kit_mem.calls) + at);
            rc = what == 0   ? peft_dataset_load(m, MODEL "/data.csv", NULL, &d)
                 : what == 1 ? peft_dataset_load(m, in("f"), NULL, &d)
                             : peft_classify_image(m, PICTURES "cmyk.jpg", NULL, 0, shares);
            atomic_store(&kit_mem.fail_at, 0);
            CHECK(rc == PEFT_OK || rc == PEFT_ENOMEM);
            peft_dataset_stats s = { .size = sizeof(s) };
            if (d) {
                OK(peft_dataset_info(d, &s));
                CHECK_EQ(s.skipped, what == 1);
            }
            peft_dataset_free(d);
            CHECK(atomic_load(&kit_mem.live) <= live + (what == 2) * (1 << 20));
        }
    peft_model_free(m);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
}

int main(void)
{
#if !defined(PEFT_PNG) || !defined(PEFT_JPEG)
    printf("built without libpng or libjpeg: skipped\n");
    return TEST_END();
#endif
    kit_begin();
    host_init(&host, NULL);
    RUN(test_truncated);
    RUN(test_bit_flips);
    RUN(test_claimed_sizes);
    RUN(test_bad_settings);
    make_folder();
    RUN(test_folder);
    RUN(test_list);
    RUN(test_augment);
    RUN(test_colour);
    RUN(test_training);
    RUN(test_not_kept);
    RUN(test_no_memory);
    kit_end();
    return TEST_END();
}
