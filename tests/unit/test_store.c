/* Containers: what the reference writers wrote is read, and written again with
 * the same bytes (tests/golden/make_store.py). */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store.h"
#include "test.h"

#define GOLDEN "tests/golden/store/"

static struct host host;
static char folder[64];              /* for what is written; removed at the end */

static const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static struct store *open_ok(const char *path, bool map)
{
    struct store *s = NULL;
    CHECK_EQ(store_open(&host, path, map, &s), PEFT_OK);
    return s;
}

static bool same_files(const char *a, const char *b)
{
    struct file_view x, y;
    if (file_open_view(&host, a, false, &x) < 0) return false;
    if (file_open_view(&host, b, false, &y) < 0) {
        file_close_view(&host, &x);
        return false;
    }
    bool same = x.n == y.n && memcmp(x.data, y.data, (size_t)x.n) == 0;
    file_close_view(&host, &x);
    file_close_view(&host, &y);
    return same;
}

/* The tensors of a store in another order, as something to write. */
static struct store_out *outs_of(const struct store *s)
{
    int64_t n = store_count(s);
    struct store_out *t = calloc((size_t)n + 1, sizeof *t);
    for (int64_t i = 0; i < n; i++) {
        const struct store_tensor *from = store_at(s, n - 1 - i);
        t[i] = (struct store_out){.name = from->name, .type = from->type, .n_dims = from->n_dims,
                                  .data = from->data};
        memcpy(t[i].dims, from->dims, sizeof t[i].dims);
    }
    return t;
}

/* --- safetensors */

static void test_safetensors_read(void)
{
    for (int map = 0; map < 2; map++) {
        struct store *s = NULL;
        CHECK_EQ(store_open_safetensors(&host, GOLDEN "all.safetensors", map, &s), PEFT_OK);
        if (!s) return;
        CHECK_EQ(store_format(s), STORE_SAFETENSORS);
        CHECK_STR(store_path(s), GOLDEN "all.safetensors");
        CHECK_EQ(store_count(s), 17);
        CHECK(!store_at(s, -1) && !store_at(s, 17) && !store_find(s, "a"));
        const struct store_tensor *t = store_find(s, "b.f32");
        CHECK(t && t->n_dims == 2 && t->dims[0] == 3 && t->dims[1] == 5 && t->count == 15);
        for (int i = 0; t && i < 15; i++) CHECK_EQ(((const float *)t->data)[i], i);
        t = store_find(s, "scalar");
        CHECK(t && t->n_dims == 0 && t->count == 1 && *(const float *)t->data == 7);
        t = store_find(s, "none");
        CHECK(t && t->n_dims == 2 && t->count == 0 && t->bytes == 0);
        t = store_find(s, "i.i64");
        CHECK(t && ((const int64_t *)t->data)[3] == 3);
        for (int k = 0; k < 2; k++) {
            float y[5] = {0};
            t = store_find(s, k ? "f.f8" : "e.f8");
            CHECK(t && t->type->is_float && t->bytes == 5);
            if (t) t->type->to_f32(y, t->data, 5);
            for (int i = 0; i < 5; i++) CHECK_EQ(y[i], i);
        }
        t = store_find(s, "flag");
        CHECK(t && t->bytes == 3 && ((const uint8_t *)t->data)[0] == 1);
        CHECK(store_find(s, "q\"uote\\back/\xc3\xa9\x01\n") != NULL);
        const char *text = NULL;
        int64_t n = 0;
        CHECK_EQ(store_string(s, "format", &text, &n), 1);
        CHECK(text && n == 2 && strcmp(text, "pt") == 0);
        CHECK_EQ(gguf_kv_count(s), 0);
        store_close(s);
    }
}

static void test_safetensors_write(void)
{
    static const struct meta meta = {"format", "pt"};
    struct store *s = NULL;
    CHECK_EQ(store_open_safetensors(&host, GOLDEN "all.safetensors", true, &s), PEFT_OK);
    if (!s) return;
    struct store_out *t = outs_of(s);
    CHECK_EQ(safetensors_write(&host, in_folder("w.safetensors"), t, store_count(s), &meta, 1), 0);
    CHECK(same_files(in_folder("w.safetensors"), GOLDEN "all.safetensors"));
    CHECK_EQ(safetensors_write(&host, in_folder("none.safetensors"), NULL, 0, NULL, 0), 0);
    struct store *none = NULL;
    CHECK_EQ(store_open_safetensors(&host, in_folder("none.safetensors"), true, &none), 0);
    CHECK_EQ(none ? store_count(none) : -1, 0);
    store_close(none);
    free(t);
    store_close(s);
}

static int put_short(const struct store_out *t, struct writer *w)
{
    writer_put(w, "abc", *(const int *)t->arg);
    return PEFT_OK;
}

static int put_fails(const struct store_out *t, struct writer *w)
{
    (void)t, (void)w;
    return fail(PEFT_ENOTFOUND, "nothing to put");
}

static void test_write_refusals(void)
{
    static const float x[4];
    int three = 3, two = 2;
    const char *path = in_folder("old");
    CHECK_EQ(file_write(&host, path, "old", 3), 0);
    struct store_out t[2] = {{.name = "a", .type = &qtype_f32, .n_dims = 1, .dims = {4}, .data = x},
                             {.name = "a", .type = &qtype_f32, .n_dims = 1, .dims = {4},
                              .data = x}};
    CHECK_EQ(safetensors_write(&host, path, t, 2, NULL, 0), PEFT_EARG);
    CHECK_EQ(gguf_write(&host, path, NULL, 0, t, 2), PEFT_EARG);
    t[1].name = "__metadata__";
    CHECK_EQ(safetensors_write(&host, path, t, 2, NULL, 0), PEFT_EARG);
    t[1] = (struct store_out){.name = "b", .type = qtype_by_name("U8"), .n_dims = 1, .dims = {2},
                              .put = put_short, .arg = &three};
    CHECK_EQ(safetensors_write(&host, path, t, 2, NULL, 0), PEFT_ESTATE);
    CHECK_EQ(gguf_write(&host, path, NULL, 0, t, 2), PEFT_EUNSUPPORTED);
    t[1].put = put_fails;
    CHECK_EQ(safetensors_write(&host, path, t, 2, NULL, 0), PEFT_ENOTFOUND);
    t[1].dims[0] = -1;
    CHECK_EQ(safetensors_write(&host, path, t, 2, NULL, 0), PEFT_EFORMAT);
    t[1].n_dims = 5;
    CHECK_EQ(safetensors_write(&host, path, t, 2, NULL, 0), PEFT_EARG);
    t[1] = (struct store_out){.name = "q", .type = qtype_by_name("Q8_0"), .n_dims = 1,
                              .dims = {32}, .data = x};
    CHECK_EQ(safetensors_write(&host, path, t, 2, NULL, 0), PEFT_EUNSUPPORTED);
    t[1].dims[0] = 33;
    CHECK_EQ(gguf_write(&host, path, NULL, 0, t, 2), PEFT_EFORMAT);
    struct gguf_kv kv[2] = {{"k", GGUF_BOOL, "", 1}, {"k", GGUF_BOOL, "", 1}};
    CHECK_EQ(gguf_write(&host, path, kv, 2, t, 1), PEFT_EARG);
    struct file_view v;
    CHECK_EQ(file_open_view(&host, path, false, &v), 0);
    CHECK(v.n == 3 && memcmp(v.data, "old", 3) == 0);
    file_close_view(&host, &v);
    t[1] = (struct store_out){.name = "b", .type = qtype_by_name("U8"), .n_dims = 1, .dims = {2},
                              .put = put_short, .arg = &two};
    CHECK_EQ(safetensors_write(&host, path, t, 2, NULL, 0), 0);
}

/* --- folders */

static void test_folder(void)
{
    struct store *s = open_ok(GOLDEN "sharded", true);
    if (!s) return;
    CHECK_EQ(store_count(s), 8);
    const struct store_tensor *t = store_find(s, "layer.3.bias");
    CHECK(t && t->dims[0] == 7 && t->dims[1] == 8 && ((const float *)t->data)[55] == 55);
    int64_t n = -1;
    double x = 0;
    int tie = 0;
    const char *text = NULL;
    CHECK_EQ(store_int(s, "hidden_size", 1, 100, &n), 1);
    CHECK_EQ(n, 8);
    CHECK_EQ(store_int(s, "hidden_size", 1, 7, &n), PEFT_EFORMAT);
    CHECK_EQ(store_int(s, "sliding_window", 1, 7, &n), 0);
    CHECK_EQ(store_int(s, "model_type", 1, 7, &n), PEFT_EFORMAT);
    CHECK_EQ(store_int(s, "absent", 1, 7, &n), 0);
    CHECK_EQ(store_number(s, "rope_scaling.factor", &x), 1);
    CHECK_NEAR(x, 2.5, 0);
    CHECK_EQ(store_number(s, "rms_norm_eps", &x), 1);
    CHECK_NEAR(x, 1e-5, 0);
    CHECK_EQ(store_number(s, "tie", &x), PEFT_EFORMAT);
    CHECK_EQ(store_bool(s, "tie", &tie), 1);
    CHECK_EQ(tie, 1);
    CHECK_EQ(store_bool(s, "hidden_size", &tie), PEFT_EFORMAT);
    CHECK_EQ(store_string(s, "model_type", &text, &n), 1);
    CHECK(text && strcmp(text, "none") == 0 && n == 4);
    CHECK_EQ(store_string(s, "tie", &text, NULL), PEFT_EFORMAT);
    CHECK(store_config(s) && json_get(store_config(s), "hidden_size"));
    struct gguf_array a;
    CHECK_EQ(store_array(s, "hidden_size", GGUF_I32, &a), 0);
    store_close(s);

    struct store *one = open_ok(GOLDEN "sharded/model-00002-of-00004.safetensors", true);
    CHECK(one && store_count(one) == 2 && store_config(one));
    store_close(one);
}

static void test_shards_write(void)
{
    static const char *const files[] = {
        "model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
        "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors"};
    char path[256], other[256];
    struct store *s = open_ok(GOLDEN "sharded", true);
    if (!s) return;
    struct store_out t[8];
    for (int i = 0; i < 8; i++) {
        char name[32];
        snprintf(name, sizeof name, "layer.%d.%s", i / 2, i % 2 ? "bias" : "weight");
        const struct store_tensor *from = store_find(s, name);
        t[i] = (struct store_out){.name = from->name, .type = from->type, .n_dims = 2,
                                  .dims = {from->dims[0], from->dims[1]}, .data = from->data};
    }
    snprintf(path, sizeof path, "%s/shards", folder);
    mkdir(path, 0777);
    CHECK_EQ(safetensors_write_dir(&host, path, t, 8, 500), 0);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/shards/%s", folder, files[i]);
        snprintf(other, sizeof other, GOLDEN "sharded/%s", files[i]);
        CHECK(same_files(path, other));
    }
    snprintf(path, sizeof path, "%s/shards/config.json", folder);
    CHECK_EQ(file_write(&host, path, "{}", 2), 0);
    snprintf(path, sizeof path, "%s/shards", folder);
    struct store *again = open_ok(path, false);
    CHECK_EQ(again ? store_count(again) : 0, 8);
    store_close(again);
    CHECK_EQ(safetensors_write_dir(&host, path, t, 8, 1), 0);        /* one tensor each */
    snprintf(other, sizeof other, "%s/shards/model-00008-of-00008.safetensors", folder);
    CHECK_EQ(path_kind(&host, other), 1);
    CHECK_EQ(safetensors_write_dir(&host, path, t, 8, 1408), 0);     /* all in one */
    snprintf(other, sizeof other, "%s/shards/model.safetensors", folder);
    CHECK_EQ(path_kind(&host, other), 1);
    CHECK_EQ(safetensors_write_dir(&host, path, t, 0, 1408), 0);
    store_close(s);
}

/* --- GGUF */

static void check_gguf_values(const struct store *s)
{
    static const struct { const char *key; int64_t value; } ints[] = {
        {"v.u8", 200}, {"v.i8", -100}, {"v.u16", 60000}, {"v.i16", -30000},
        {"v.u32", 4000000000}, {"v.i32", -2000000000}, {"v.u64", INT64_MAX},
        {"v.i64", -((int64_t)1 << 62)}};
    int64_t n;
    double x;
    for (size_t i = 0; i < ARRAY_LEN(ints); i++) {
        CHECK_EQ(store_int(s, ints[i].key, INT64_MIN, INT64_MAX, &n), 1);
        CHECK_EQ(n, ints[i].value);
        CHECK_EQ(store_number(s, ints[i].key, &x), 1);
        CHECK_NEAR(x, (double)ints[i].value, 0);
    }
    CHECK_EQ(store_int(s, "v.u64", 0, INT64_MAX - 1, &n), PEFT_EFORMAT);
    CHECK_EQ(store_int(s, "v.f32", 0, 1, &n), PEFT_EFORMAT);
    CHECK_EQ(store_int(s, "v.bool", 0, 1, &n), PEFT_EFORMAT);
    CHECK_EQ(store_int(s, "absent", 0, 1, &n), 0);
    CHECK_EQ(store_number(s, "v.f32", &x), 1);
    CHECK_NEAR(x, 0.25, 0);
    CHECK_EQ(store_number(s, "v.f64", &x), 1);
    CHECK_NEAR(x, 1e-5, 0);
    CHECK_EQ(store_number(s, "v.string", &x), PEFT_EFORMAT);
    int flag = 0;
    CHECK_EQ(store_bool(s, "v.bool", &flag), 1);
    CHECK_EQ(flag, 1);
    CHECK_EQ(store_bool(s, "v.u8", &flag), PEFT_EFORMAT);
    const char *text = NULL;
    CHECK_EQ(store_string(s, "v.string", &text, &n), 1);
    CHECK_STR(text, "gr\xc3\xbc\xc3\x9f" "e");
    CHECK_EQ(n, 7);
    CHECK_EQ(store_string(s, "a.i32", &text, &n), PEFT_EFORMAT);
}

static void check_gguf_arrays(const struct store *s)
{
    static const char *const strings[] = {"", "b", "\xe4\xb8\xad\xe6\x96\x87", "last"};
    struct gguf_array a;
    CHECK_EQ(store_array(s, "a.strings", GGUF_STRING, &a), 1);
    CHECK_EQ(a.n, 4);
    for (int64_t i = 0; i < 4; i++) {
        const char *str;
        int64_t n;
        store_array_string(&a, i, &str, &n);
        CHECK(n == (int64_t)strlen(strings[i]) && memcmp(str, strings[i], (size_t)n) == 0);
    }
    CHECK_EQ(store_array(s, "a.f32", GGUF_F32, &a), 1);
    CHECK_NEAR(store_array_f32(&a, 1), -1.5, 0);
    CHECK_EQ(store_array(s, "a.i32", GGUF_I32, &a), 1);
    CHECK_EQ(store_array_int(&a, 1), -2);
    CHECK_EQ(store_array(s, "a.bool", -1, &a), 1);
    CHECK(a.type == GGUF_BOOL && store_array_int(&a, 0) == 1 && store_array_int(&a, 1) == 0);
    CHECK_EQ(store_array(s, "a.i32", GGUF_F32, &a), PEFT_EFORMAT);
    CHECK_STR(error_message(), GOLDEN "all.gguf: key a.i32 is an array of int32, expected one of "
              "float32");
    CHECK_EQ(store_array(s, "v.u8", GGUF_U8, &a), PEFT_EFORMAT);
    CHECK_EQ(store_array(s, "absent", GGUF_U8, &a), 0);
}

static void test_gguf_read(void)
{
    struct store *s = open_ok(GOLDEN "all.gguf", true);
    if (!s) return;
    CHECK_EQ(store_format(s), STORE_GGUF);
    CHECK(!store_config(s));
    CHECK_EQ(store_count(s), 5);
    check_gguf_values(s);
    check_gguf_arrays(s);
    const struct store_tensor *t = store_find(s, "Q8_0");
    CHECK(t && t->n_dims == 2 && t->dims[0] == 2 && t->dims[1] == 32 && t->bytes == 68);
    float y[64];
    if (t) t->type->to_f32(y, t->data, 64);
    for (int i = 0; t && i < 64; i++) CHECK_NEAR(y[i], i, 0.3);
    t = store_find(s, "last");
    CHECK(t && t->n_dims == 1 && t->dims[0] == 3 && ((const float *)t->data)[2] == 2);
    store_close(s);
}

static void test_gguf_write(void)
{
    struct store *s = open_ok(GOLDEN "all.gguf", false);
    if (!s) return;
    enum { MOST = 32 };
    struct gguf_kv kv[MOST];
    int64_t n_kv = gguf_kv_count(s);
    CHECK(n_kv < MOST);
    for (int64_t i = 0; i < n_kv; i++)
        gguf_kv_at(s, i, &kv[i].key, &kv[i].type, &kv[i].raw, &kv[i].n);
    struct store_out t[5] = {0};
    for (int64_t i = 0; i < 5; i++) {
        const struct store_tensor *from = store_at(s, i);
        t[i] = (struct store_out){.name = from->name, .type = from->type, .n_dims = from->n_dims,
                                  .dims = {from->dims[0], from->dims[1]}, .data = from->data};
    }
    /* The file's alignment is the writer's own, whatever the metadata says. */
    static const uint32_t alignment = 1024;
    kv[n_kv] = (struct gguf_kv){"general.alignment", GGUF_U32, &alignment, 4};
    CHECK_EQ(gguf_write(&host, in_folder("w.gguf"), kv, n_kv + 1, t, 5), 0);
    CHECK(same_files(in_folder("w.gguf"), GOLDEN "all.gguf"));
    store_close(s);
}

static void test_gguf_raw(void)
{
    struct buf b[5];
    for (size_t i = 0; i < ARRAY_LEN(b); i++) buf_init(&b[i], &host.mem);
    gguf_raw_string(&b[0], "text", 4);
    gguf_raw_u32(&b[1], 77);
    gguf_raw_f32(&b[2], 1.5f);
    gguf_raw_bool(&b[3], 5);
    gguf_raw_array(&b[4], GGUF_STRING, 2);
    gguf_raw_string(&b[4], "x", 1);
    gguf_raw_string(&b[4], "", 0);
    static const struct { const char *key; int type; } keys[] = {
        {"s", GGUF_STRING}, {"u", GGUF_U32}, {"f", GGUF_F32}, {"b", GGUF_BOOL}, {"a", GGUF_ARRAY}};
    struct gguf_kv kv[ARRAY_LEN(b)];
    for (size_t i = 0; i < ARRAY_LEN(b); i++)
        kv[i] = (struct gguf_kv){keys[i].key, keys[i].type, b[i].data, b[i].n};
    static const float seven = 7;
    struct store_out t = {.name = "scalar", .type = &qtype_f32, .data = &seven};
    CHECK_EQ(gguf_write(&host, in_folder("raw.gguf"), kv, ARRAY_LEN(kv), &t, 1), 0);
    for (size_t i = 0; i < ARRAY_LEN(b); i++) buf_free(&b[i]);
    struct store *s = open_ok(in_folder("raw.gguf"), true);
    if (!s) return;
    const char *text = NULL;
    int64_t n = 0;
    double x = 0;
    int flag = 0;
    struct gguf_array a;
    CHECK(store_string(s, "s", &text, &n) == 1 && strcmp(text, "text") == 0);
    CHECK(store_int(s, "u", 0, 100, &n) == 1 && n == 77);
    CHECK(store_number(s, "f", &x) == 1 && x == 1.5);
    CHECK(store_bool(s, "b", &flag) == 1 && flag == 1);
    CHECK(store_array(s, "a", GGUF_STRING, &a) == 1 && a.n == 2);
    CHECK(store_at(s, 0)->n_dims == 1 && *(const float *)store_at(s, 0)->data == 7);
    store_close(s);
}

/* A folder with one GGUF file and no safetensors stands for it. */
static void test_gguf_folder(void)
{
    char path[256];
    struct store *s = NULL;
    snprintf(path, sizeof path, "%s/g", folder);
    mkdir(path, 0777);
    CHECK_EQ(store_open(&host, path, true, &s), PEFT_ENOTFOUND);
    CHECK(!s);
    s = open_ok(GOLDEN "all.gguf", true);
    if (!s) return;
    struct store_out *t = outs_of(s);
    snprintf(path, sizeof path, "%s/g/one.gguf", folder);
    CHECK_EQ(gguf_write(&host, path, NULL, 0, t, 5), 0);
    snprintf(path, sizeof path, "%s/g", folder);
    struct store *g = open_ok(path, true);
    CHECK(g && store_count(g) == 5);
    store_close(g);
    snprintf(path, sizeof path, "%s/g/two.gguf", folder);
    CHECK_EQ(gguf_write(&host, path, NULL, 0, t, 5), 0);
    snprintf(path, sizeof path, "%s/g", folder);
    CHECK_EQ(store_open(&host, path, true, &g), PEFT_ENOTFOUND);
    free(t);
    store_close(s);
}

/* One part of a GGUF file: two of the tensors, and what its metadata tell. */
static void put_part(int file, int count, int no, int told, int64_t tensors)
{
    static const float x[6] = {0, 1, 2, 3, 4, 5};
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};
    char path[256];
    uint16_t of = (uint16_t)told, at = (uint16_t)no;
    int32_t all = (int32_t)tensors;
    uint32_t seven = 7;
    const struct gguf_kv kv[] = {{"split.no", GGUF_U16, &at, 2}, {"split.count", GGUF_U16, &of, 2},
                                 {"split.tensors.count", GGUF_I32, &all, 4},
                                 {"seven", GGUF_U32, &seven, 4}};
    struct store_out t[2];
    for (int i = 0; i < 2; i++)
        t[i] = (struct store_out){.name = names[2 * file + i], .type = &qtype_f32, .n_dims = 1,
                                  .dims = {1}, .data = x + 2 * file + i};
    snprintf(path, sizeof path, "%s/p/m-%05d-of-%05d.gguf", folder, file + 1, count);
    CHECK_EQ(gguf_write(&host, path, kv, file ? 3 : 4, t, 2), 0);
}

static void check_parts(const char *name, int rc, const char *says)
{
    char path[256];
    struct store *s = NULL;
    int64_t n = 0;
    snprintf(path, sizeof path, "%s/p%s", folder, name);
    CHECK_EQ(store_open(&host, path, true, &s), rc);
    if (rc) CHECK(strstr(error_message(), says) != NULL);
    if (!s) return;
    CHECK_EQ(store_count(s), 6);
    CHECK(store_find(s, "f") && *(const float *)store_find(s, "f")->data == 5);
    CHECK(store_int(s, "seven", 0, 9, &n) == 1 && store_int(s, "split.no", 0, 0, &n) == 1);
    store_close(s);
}

/* Any part opens all of them, and so does their folder. */
static void test_gguf_parts(void)
{
    char path[256], other[256];
    snprintf(path, sizeof path, "%s/p", folder);
    mkdir(path, 0777);
    for (int i = 0; i < 3; i++) put_part(i, 3, i, 3, 6);
    check_parts("/m-00001-of-00003.gguf", 0, "");
    check_parts("/m-00003-of-00003.gguf", 0, "");
    check_parts("", 0, "");
    check_parts("/m-00004-of-00003.gguf", PEFT_ENOTFOUND, "no such file");
    put_part(1, 3, 0, 3, 6);
    check_parts("", PEFT_EFORMAT, "split.no is 0");
    put_part(1, 3, 1, 4, 6);
    check_parts("", PEFT_EFORMAT, "split.count 4");
    put_part(1, 3, 1, 3, 6);
    put_part(0, 3, 0, 3, 7);
    check_parts("", PEFT_EFORMAT, "hold 6 tensors, expected 7");
    put_part(0, 3, 0, 60000, 6);
    check_parts("", PEFT_EFORMAT, "split.count 60000");
    snprintf(path, sizeof path, "%s/p/m-00001-of-00003.gguf", folder);
    snprintf(other, sizeof other, "%s/p/other.gguf", folder);
    put_part(0, 3, 0, 3, 6);
    CHECK_EQ(rename(path, other), 0);
    check_parts("/other.gguf", PEFT_EFORMAT, "-00001-of-00003.gguf");
    check_parts("/m-00002-of-00003.gguf", PEFT_ENOTFOUND, "first of 3");
    CHECK_EQ(rename(other, path), 0);
    snprintf(other, sizeof other, "%s/p/m-00002-of-00003.gguf", folder);
    CHECK_EQ(unlink(other), 0);
    check_parts("/m-00001-of-00003.gguf", PEFT_ENOTFOUND, "this part of 3");
    CHECK_EQ(file_write(&host, other, "junk", 4), 0);
    check_parts("/m-00001-of-00003.gguf", PEFT_EFORMAT, "no GGUF");
}

/* Memory that runs out at each allocation in turn: no file is ever half
 * written.  (Past the rename, a failure can no longer bring the old one back.) */
static int64_t calls, fail_at;

static void *failing_alloc(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    (void)ctx, (void)old_size;
    if (new_size == 0) {
        free(ptr);
        return NULL;
    }
    return ++calls == fail_at ? NULL : realloc(ptr, new_size);
}

static int write_one_way(struct host *h, int way, const struct store_out *t, const char *path)
{
    static const uint32_t seven = 7;
    static const struct gguf_kv kv = {"k", GGUF_U32, &seven, 4};
    static const struct meta meta = {"format", "pt"};
    switch (way) {
    case 0: return safetensors_write(h, path, t, 2, &meta, 1);
    case 1: return gguf_write(h, path, &kv, 1, t, 2);
    default: return safetensors_write_dir(h, folder, t, 2, 16);
    }
}

static void test_write_no_memory(void)
{
    static const float x[4];
    const struct store_out t[2] = {
        {.name = "a", .type = &qtype_f32, .n_dims = 1, .dims = {4}, .data = x},
        {.name = "b", .type = &qtype_f32, .n_dims = 1, .dims = {4}, .data = x}};
    peft_load_opts opts = {.size = sizeof opts, .alloc = failing_alloc};
    static const int64_t whole[] = {184, 192, 3};
    char path[256];
    snprintf(path, sizeof path, "%s/old", folder);
    for (int way = 0; way < 3; way++) {
        int rc = PEFT_ENOMEM;
        CHECK_EQ(file_write(&host, path, "old", 3), 0);
        for (fail_at = 1; rc == PEFT_ENOMEM && fail_at < 200; fail_at++) {
            struct host small;
            struct file_view v;
            calls = 0;
            if (host_init(&small, &opts) < 0) return;
            rc = write_one_way(&small, way, t, path);
            CHECK_EQ(small.mem.live, 0);
            if (rc == PEFT_OK || file_open_view(&host, path, false, &v) < 0) continue;
            CHECK(v.n == 3 || v.n == whole[way]);
            file_close_view(&host, &v);
        }
        CHECK_EQ(rc, PEFT_OK);
        CHECK(fail_at > 4);
    }
}

static void remove_folder(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0) printf("%s: left behind\n", folder);
}

int main(void)
{
    snprintf(folder, sizeof folder, "%s/libpeft-store-XXXXXX", P_tmpdir);
    if (!mkdtemp(folder) || host_init(&host, NULL) < 0) return 1;
    RUN(test_safetensors_read);
    RUN(test_safetensors_write);
    RUN(test_write_refusals);
    RUN(test_folder);
    RUN(test_shards_write);
    RUN(test_gguf_read);
    RUN(test_gguf_write);
    RUN(test_gguf_raw);
    RUN(test_gguf_folder);
    RUN(test_gguf_parts);
    RUN(test_write_no_memory);
    CHECK_EQ(host.mem.live, 0);
    remove_folder();
    return TEST_END() || test_bad;
}
