/* A GGUF file: its tensors and every value of its metadata. */
#include "fuzz/fuzz.h"
#include "fuzz/gguf_mutate.h"

static void touch_array(const struct gguf_array *a)
{
    for (int64_t i = 0; i < a->n; i++) {
        const char *str;
        int64_t n;
        if (a->type == GGUF_STRING) {
            store_array_string(a, i, &str, &n);
            touch(str, n);
        } else if (a->type == GGUF_F32) {
            float x = store_array_f32(a, i);
            touch(&x, sizeof x);
        } else {
            sink += (uint32_t)store_array_int(a, i);
        }
    }
}

static void touch_settings(const struct store *s)
{
    for (int64_t i = 0; i < gguf_kv_count(s); i++) {
        const char *key, *text;
        const void *raw;
        int type, on;
        int64_t n;
        double x;
        struct gguf_array a;
        gguf_kv_at(s, i, &key, &type, &raw, &n);
        touch(raw, n);
        if (fine(store_string(s, key, &text, &n)) && type == GGUF_STRING) touch(text, n + 1);
        fine(store_number(s, key, &x));
        fine(store_int(s, key, -5, 1 << 20, &n));
        fine(store_bool(s, key, &on));
        if (fine(store_array(s, key, -1, &a)) && type == GGUF_ARRAY) touch_array(&a);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct host *h = begin_host();
    struct store *s = NULL;
    disk_put("f.gguf", data, (int64_t)size);
    int rc = store_open(h, "f.gguf", true, &s);
    if (read_file(rc, "f.gguf", (int64_t)size)) touch_store(s), touch_settings(s);
    store_close(s);
    end();
    return 0;
}
