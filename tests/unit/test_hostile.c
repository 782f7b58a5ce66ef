/* Hostile containers: hand-made files for each class of known parser bugs,
 * truncation at every length, every bit of every header flipped, and random
 * damage.  Opening must fail with a reason, or give a store whose every byte
 * lies in the file.  Files live in memory at their exact size, so that the
 * address sanitizer sees a read one byte beyond. */
#include <stdlib.h>

#include "base/rng.h"
#include "disk.h"
#include "store/store.h"
#include "test.h"

#define GOLDEN "tests/golden/store/"
enum { RANDOM_DAMAGE = 50000, MANY = 100000 };

static struct host host;

/* --- opening, and touching all that an open store shows */

static uint32_t sum_bytes(const void *data, int64_t n)
{
    uint32_t sum = 0;
    for (int64_t i = 0; i < n; i++) sum += ((const uint8_t *)data)[i];
    return sum;
}

static volatile uint32_t sink;

static void touch_array(const struct gguf_array *a)
{
    for (int64_t i = 0; i < a->n; i++) {
        const char *str;
        int64_t n;
        if (a->type == GGUF_STRING) {
            store_array_string(a, i, &str, &n);
            sink += sum_bytes(str, n);
        } else if (a->type == GGUF_F32) {
            float x = store_array_f32(a, i);
            sink += sum_bytes(&x, sizeof x);
        } else {
            sink += (uint32_t)store_array_int(a, i);
        }
    }
}

static void touch(const struct store *s)
{
    for (int64_t i = 0; i < store_count(s); i++) {
        const struct store_tensor *t = store_at(s, i);
        int64_t count = 1, bytes;
        for (int32_t k = 0; k < t->n_dims; k++) CHECK(mul_ok(count, t->dims[k], &count));
        CHECK(t->n_dims <= 4 && count == t->count);
        CHECK(qtype_bytes(t->type, count, &bytes) && bytes == t->bytes);
        CHECK(t->type->block > 1 || (uintptr_t)t->data % (uintptr_t)t->type->bytes == 0);
        CHECK(store_find(s, t->name) == t);
        sink += sum_bytes(t->data, t->bytes);
    }
    for (int64_t i = 0; i < gguf_kv_count(s); i++) {
        const char *key, *text;
        const void *raw;
        int type;
        int64_t n;
        double x;
        struct gguf_array a;
        gguf_kv_at(s, i, &key, &type, &raw, &n);
        sink += sum_bytes(raw, n);
        if (store_string(s, key, &text, &n) == 1) sink += sum_bytes(text, n + 1);
        if (store_number(s, key, &x) == 1) sink += x > 0;
        if (store_array(s, key, -1, &a) == 1) touch_array(&a);
    }
}

static bool one_line(const char *s)
{
    return s[0] && !strchr(s, '\n');
}

static int open_file(const char *path)
{
    struct store *s = NULL;
    error_clear();
    int rc = store_open(&host, path, true, &s);
    if (rc == PEFT_OK) touch(s);
    else CHECK(rc < 0 && !s && one_line(error_message()));
    store_close(s);
    CHECK_EQ(host.mem.live, 0);
    return rc;
}

/* Opens and compares; `label` says which case it is when that fails. */
static void expect(const char *label, const char *path, int code, const char *part)
{
    int rc = open_file(path);
    if (rc == code && strstr(error_message(), part)) return;
    test_bad++;
    printf("%s: %d \"%s\", expected %d and \"%s\"\n", label, rc, error_message(), code, part);
}

/* --- GGUF: one file, of which each case changes one number */

struct gg {
    uint64_t version, n_tensors, n_kv;
    uint64_t alignment, alignment_type;
    uint64_t key_n, value_type, text_n, flag;
    uint64_t item_type, items, strings;
    uint64_t name_n, n_dims, dim0, dim1, type, offset0, offset1;
    uint64_t same_key, same_name, bad_name, split, data_n;
};
static const struct gg gg_good = {
    .version = 3, .n_tensors = 2, .n_kv = 6, .alignment = 32, .alignment_type = GGUF_U32,
    .key_n = 1, .value_type = GGUF_STRING, .text_n = 5, .flag = 1, .item_type = GGUF_I32,
    .items = 3, .strings = 2, .name_n = 2, .n_dims = 2, .dim0 = 32, .dim1 = 2, .type = 8,
    .offset0 = 0, .offset1 = 32, .split = 1, .data_n = 32 + 68};

static void put_n(struct buf *b, uint64_t v, int64_t n) { buf_put(b, &v, n); }

static void put_key(struct buf *b, const char *key, uint64_t type)
{
    gguf_raw_string(b, key, (int64_t)strlen(key));
    put_n(b, type, 4);
}

static void gg_metadata(struct buf *b, const struct gg *g)
{
    put_key(b, "general.alignment", g->alignment_type);
    put_n(b, g->alignment, 4);
    put_n(b, g->key_n, 8);
    buf_puts(b, "s");
    put_n(b, g->value_type, 4);
    put_n(b, g->text_n, 8);
    buf_puts(b, "hello");
    put_key(b, g->same_key ? "s" : "flag", GGUF_BOOL);
    put_n(b, g->flag, 1);
    put_key(b, "ints", GGUF_ARRAY);
    put_n(b, g->item_type, 4);
    put_n(b, g->items, 8);
    for (uint64_t i = 0; i < 3; i++) put_n(b, i, 4);
    put_key(b, "strings", GGUF_ARRAY);
    put_n(b, GGUF_STRING, 4);
    put_n(b, g->strings, 8);
    gguf_raw_string(b, "x", 1);
    gguf_raw_string(b, "yy", 2);
    put_key(b, "split.count", GGUF_U16);
    put_n(b, g->split, 2);
}

static void gg_build(struct buf *b, const struct gg *g)
{
    buf_clear(b);
    buf_puts(b, "GGUF");
    put_n(b, g->version, 4);
    put_n(b, g->n_tensors, 8);
    put_n(b, g->n_kv, 8);
    gg_metadata(b, g);
    gguf_raw_string(b, "t0", 2);
    put_n(b, 1, 4);
    put_n(b, 8, 8);
    put_n(b, 0, 4);
    put_n(b, g->offset0, 8);
    put_n(b, g->name_n, 8);
    buf_puts(b, g->same_name ? "t0" : g->bad_name ? "t\xff" : "t1");
    put_n(b, g->n_dims, 4);
    put_n(b, g->dim0, 8);
    put_n(b, g->dim1, 8);
    put_n(b, g->type, 4);
    put_n(b, g->offset1, 8);
    while (b->n % 32) buf_putc(b, 0);
    for (uint64_t i = 0; i < g->data_n; i++) buf_putc(b, (char)i);
}

#define F(field) offsetof(struct gg, field)
#define BIG(n) ((uint64_t)1 << (n))
static const struct gg_case {
    const char *label;
    size_t field;
    uint64_t value;
    int code;
    const char *part;
} gg_cases[] = {
    {"good", F(version), 3, 0, ""},
    {"version 2", F(version), 2, 0, ""},
    {"version 0", F(version), 0, PEFT_EFORMAT, "version 0, expected 2 or 3"},
    {"version 1", F(version), 1, PEFT_EUNSUPPORTED, "version 1"},
    {"version 4", F(version), 4, PEFT_EUNSUPPORTED, "version 4"},
    {"big-endian", F(version), 0x03000000, PEFT_EUNSUPPORTED, "big-endian"},
    {"G1 tensors", F(n_tensors), UINT64_MAX, PEFT_EFORMAT, "the number of tensors"},
    {"G1 tensors 2^61", F(n_tensors), BIG(61) + 1, PEFT_EFORMAT, "the number of tensors"},
    {"G1 tensors 2^32", F(n_tensors), BIG(32), PEFT_EFORMAT, "the number of tensors"},
    {"G1 one more tensor", F(n_tensors), 3, PEFT_EFORMAT, "a tensor's name"},
    {"G2 keys", F(n_kv), UINT64_MAX, PEFT_EFORMAT, "the number of metadata keys"},
    {"G2 keys 2^60", F(n_kv), BIG(60), PEFT_EFORMAT, "the number of metadata keys"},
    {"G2 one more key", F(n_kv), 7, PEFT_EFORMAT, "a tensor's name"},
    {"G3 key length", F(key_n), UINT64_MAX, PEFT_EFORMAT, "a key"},
    {"G3 key length 2^63", F(key_n), BIG(63), PEFT_EFORMAT, "a key"},
    {"G3 string length", F(text_n), UINT64_MAX, PEFT_EFORMAT, "a string's length"},
    {"G3 string length 2^31", F(text_n), BIG(31), PEFT_EFORMAT, "a string's length"},
    {"G3 name length", F(name_n), UINT64_MAX - 7, PEFT_EFORMAT, "a tensor's name"},
    {"G3 name empty", F(name_n), 0, PEFT_EFORMAT, "is 0 bytes long"},
    {"G4 items", F(items), BIG(62), PEFT_EFORMAT, "an array's length"},
    {"G4 items wrap", F(items), BIG(62) + 3, PEFT_EFORMAT, "an array's length"},
    {"G4 strings", F(strings), BIG(61), PEFT_EFORMAT, "an array's length"},
    {"G4 one more string", F(strings), 3, PEFT_EFORMAT, ""},
    {"array of arrays", F(item_type), GGUF_ARRAY, PEFT_EUNSUPPORTED, "array of arrays"},
    {"array of unknown", F(item_type), 13, PEFT_EFORMAT, "unknown type 13"},
    {"array type 2^31", F(item_type), BIG(31), PEFT_EFORMAT, "unknown type 2147483648"},
    {"value type", F(value_type), 13, PEFT_EFORMAT, "key s has the unknown type 13"},
    {"value type -1", F(value_type), UINT32_MAX, PEFT_EFORMAT, "unknown type 4294967295"},
    {"bool of 2", F(flag), 2, PEFT_EFORMAT, "bool of value 2"},
    {"G5 no dims", F(n_dims), 0, PEFT_EFORMAT, "0 dimensions"},
    {"G5 5 dims", F(n_dims), 5, PEFT_EFORMAT, "5 dimensions"},
    {"G5 2^32-1 dims", F(n_dims), UINT32_MAX, PEFT_EFORMAT, "4294967295 dimensions"},
    {"G6 dim 0", F(dim1), 0, 0, ""},
    {"G6 dim -1", F(dim1), UINT64_MAX, PEFT_EFORMAT, "dimension is -1"},
    {"G6 dim 2^63", F(dim1), BIG(63), PEFT_EFORMAT, "dimension is -1"},
    {"G7 product", F(dim1), BIG(62), PEFT_EFORMAT, "overflows"},
    {"G7 bytes", F(dim1), BIG(58) - 1, PEFT_EFORMAT, "overflows"},
    {"G7 largest product", F(dim1), BIG(57) / 34, PEFT_EFORMAT, "bytes at data byte 32"},
    {"G11 rows", F(dim1), 3, PEFT_EFORMAT, "needs 102 bytes at data byte 32, but there are 100"},
    {"row of 33", F(dim0), 33, PEFT_EFORMAT, "no whole blocks of 32"},
    {"G9 offset -4", F(offset1), UINT64_MAX - 3, PEFT_EFORMAT, "data byte 18446744073709551612"},
    {"G9 offset -32", F(offset1), UINT64_MAX - 31, PEFT_EFORMAT, "the file ends at"},
    {"G9 offset 2^63-32", F(offset1), INT64_MAX - 31, PEFT_EFORMAT, "the file ends at"},
    {"G9 alignment 2^31", F(alignment), BIG(31), PEFT_EFORMAT, "there are 0 in all"},
    {"G10 alignment 0", F(alignment), 0, PEFT_EFORMAT, "general.alignment is 0"},
    {"G10 alignment 48", F(alignment), 48, PEFT_EFORMAT, "expected a power of two"},
    {"G10 alignment 16", F(alignment), 16, PEFT_OK, ""},
    {"G10 alignment kind", F(alignment_type), GGUF_F32, PEFT_EFORMAT, "expected an integer"},
    {"G11 offset 36", F(offset1), 36, PEFT_EFORMAT, "expected a multiple of 32"},
    {"G11 offset 64", F(offset1), 64, PEFT_EFORMAT, "there are 100 in all"},
    {"G11 same place", F(offset1), 0, PEFT_EFORMAT, "overlaps tensor t"},
    {"G11 overlap", F(offset0), 32, PEFT_EFORMAT, "overlaps tensor t"},
    {"G11 no data", F(data_n), 0, PEFT_EFORMAT, "there are 0 in all"},
    {"G11 a byte short", F(data_n), 99, PEFT_EFORMAT, "there are 99 in all"},
    {"more data", F(data_n), 200, 0, ""},
    {"G19 same key", F(same_key), 1, PEFT_EFORMAT, "key s comes twice"},
    {"G19 empty key", F(key_n), 0, PEFT_EFORMAT, "a key at byte 57 is 0 bytes long"},
    {"G19 same name", F(same_name), 1, PEFT_EFORMAT, "tensor t0 comes twice"},
    {"name no UTF-8", F(bad_name), 1, PEFT_EFORMAT, "no UTF-8"},
    {"type removed", F(type), 4, PEFT_EUNSUPPORTED, "tensor t1 is of type "},
    {"type IQ2_XXS", F(type), 16, PEFT_EUNSUPPORTED, "IQ2_XXS (16)"},
    {"type unknown", F(type), 999, PEFT_EUNSUPPORTED, "unknown (999)"},
    {"type -1", F(type), UINT32_MAX, PEFT_EUNSUPPORTED, "unknown (4294967295)"},
    {"split", F(split), 2, PEFT_EFORMAT, "one of 2 parts"},
};

static void test_gguf_cases(void)
{
    struct buf b;
    buf_init(&b, &host.mem);
    for (size_t i = 0; i < ARRAY_LEN(gg_cases); i++) {
        const struct gg_case *c = &gg_cases[i];
        struct gg g = gg_good;
        memcpy((char *)&g + c->field, &c->value, sizeof c->value);
        gg_build(&b, &g);
        disk_put("f", b.data, b.n);
        buf_free(&b);
        atomic_store(&host.mem.peak, 0);
        expect(c->label, "f", c->code, c->part);
        /* G22: nothing is allocated on the word of the file. */
        CHECK(host.mem.peak < 256 * 1024);
    }
    disk_clear();
}

/* A tensor whose name has n bytes, of which the file holds all. */
static int open_long_name(int64_t n)
{
    struct buf b;
    buf_init(&b, &host.mem);
    buf_puts(&b, "GGUF");
    put_n(&b, 3, 4);
    put_n(&b, 1, 8);
    put_n(&b, 0, 8);
    put_n(&b, (uint64_t)n, 8);
    for (int64_t i = 0; i < n; i++) buf_putc(&b, 'n');
    put_n(&b, 1, 4);
    put_n(&b, 0, 8);
    put_n(&b, 0, 4);
    put_n(&b, 0, 8);
    disk_put("f", b.data, b.n);
    buf_free(&b);
    int rc = open_file("f");
    disk_clear();
    return rc;
}

static void test_name_limit(void)
{
    CHECK_EQ(open_long_name(1), 0);
    CHECK_EQ(open_long_name(65535), 0);
    CHECK_EQ(open_long_name(65536), PEFT_EFORMAT);
}

/* G21: names by the hundred thousand, placed backwards, in linear time. */
static void test_many(void)
{
    struct buf b;
    buf_init(&b, &host.mem);
    buf_puts(&b, "GGUF");
    put_n(&b, 3, 4);
    put_n(&b, MANY, 8);
    put_n(&b, MANY, 8);
    for (int i = 0; i < MANY; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        put_key(&b, key, GGUF_BOOL);
        put_n(&b, 0, 1);
    }
    for (int i = 0; i < MANY; i++) {
        char name[16];
        int64_t n = snprintf(name, sizeof name, "t%d", i);
        gguf_raw_string(&b, name, n);
        put_n(&b, 1, 4);
        put_n(&b, 8, 8);
        put_n(&b, 0, 4);
        put_n(&b, (uint64_t)(MANY - 1 - i) * 32, 8);
    }
    while (b.n % 32) buf_putc(&b, 0);
    for (int i = 0; i < MANY; i++) buf_put(&b, "01234567890123456789012345678901", 32);
    disk_put("f", b.data, b.n);
    buf_free(&b);
    CHECK_EQ(open_file("f"), 0);
    disk_clear();
}

/* --- safetensors */

static void put_safetensors(const char *name, const char *header, uint64_t header_n,
                            int64_t data_n)
{
    struct buf b;
    buf_init(&b, &host.mem);
    put_n(&b, header_n, 8);
    buf_puts(&b, header);
    for (int64_t i = 0; i < data_n; i++) buf_putc(&b, (char)i);
    disk_put(name, b.data, b.n);
    buf_free(&b);
}

#define T(shape, from, to) \
    "{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}"
static const struct st_case {
    const char *header;
    int64_t data_n;
    int code;
    const char *part;
} st_cases[] = {
    {"{}", 0, 0, ""},
    {"{}      ", 0, 0, ""},
    {"{\"a\":" T("[2]", "0", "8") "}", 8, 0, ""},
    {"{\"a\":" T("[]", "0", "4") "}", 4, 0, ""},
    {"{\"a\":" T("[0]", "0", "0") "}", 0, 0, ""},
    {"{\"b\":" T("[1]", "4", "8") ",\"a\":" T("[1]", "0", "4") "}", 8, 0, ""},
    {"{\"a\":" T("[2]", "0", "8") "}", 9, PEFT_EFORMAT, "the tensors end at data byte 8"},
    {"{}", 1, PEFT_EFORMAT, "the tensors end at data byte 0"},
    {"{\"a\":" T("[2]", "0", "8") "}", 7, PEFT_EFORMAT, "ends at data byte 8, but there are 7"},
    {"{\"a\":" T("[1]", "4", "8") "}", 8, PEFT_EFORMAT, "no hole"},
    {"{\"a\":" T("[1]", "0", "4") ",\"b\":" T("[1]", "8", "12") "}", 12, PEFT_EFORMAT, "no hole"},
    {"{\"a\":" T("[2]", "0", "8") ",\"b\":" T("[2]", "4", "12") "}", 12, PEFT_EFORMAT, "overlaps"},
    {"{\"a\":" T("[2]", "0", "8") ",\"b\":" T("[2]", "0", "8") "}", 8, PEFT_EFORMAT, "overlaps"},
    {"{\"a\":" T("[2]", "0", "8") ",\"a\":" T("[2]", "0", "8") "}", 8, PEFT_EFORMAT, "twice"},
    {"{\"a\":" T("[3]", "0", "8") "}", 8, PEFT_EFORMAT, "dtype and shape need 12"},
    {"{\"a\":" T("[2]", "8", "0") "}", 8, PEFT_EFORMAT, "increasing"},
    {"{\"a\":" T("[-1]", "0", "8") "}", 8, PEFT_EFORMAT, "shape holds another number"},
    {"{\"a\":" T("[1.5]", "0", "8") "}", 8, PEFT_EFORMAT, "shape holds another number"},
    {"{\"a\":" T("[\"2\"]", "0", "8") "}", 8, PEFT_EFORMAT, "shape holds a string"},
    {"{\"a\":" T("2", "0", "8") "}", 8, PEFT_EFORMAT, "shape is a number"},
    {"{\"a\":" T("[1,1,1,2]", "0", "8") "}", 8, 0, ""},
    {"{\"a\":" T("[1,1,1,1,2]", "0", "8") "}", 8, PEFT_EUNSUPPORTED, "more than 4"},
    {"{\"a\":" T("[4294967296,4294967296]", "0", "8") "}", 8, PEFT_EFORMAT, "overflows"},
    {"{\"a\":" T("[4503599627370496,1024]", "0", "8") "}", 8, PEFT_EFORMAT, "overflows"},
    {"{\"a\":" T("[9007199254740991]", "0", "8") "}", 8, PEFT_EFORMAT, "need 36028797018963964"},
    {"{\"a\":" T("[9007199254740992]", "0", "8") "}", 8, PEFT_EFORMAT, "another number"},
    {"{\"a\":" T("[1e400]", "0", "8") "}", 8, PEFT_EFORMAT, ""},
    {"{\"a\":" T("[2]", "0", "8,8") "}", 8, PEFT_EUNSUPPORTED, "more than 2"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, PEFT_EFORMAT, "pair"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, PEFT_EFORMAT, "data_offsets is nothing"},
    {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, PEFT_EFORMAT, "dtype is nothing"},
    {"{\"a\":{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, PEFT_EFORMAT, "a number"},
    {"{\"a\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, PEFT_EUNSUPPORTED,
     "tensor a: dtype C64 is not supported"},
    {"{\"a\":{\"dtype\":\"Q8_0\",\"shape\":[32],\"data_offsets\":[0,34]}}", 34, PEFT_EUNSUPPORTED,
     "dtype Q8_0"},
    {"{\"a\":[]}", 0, PEFT_EFORMAT, "an array, expected an object"},
    {"{\"__metadata__\":{\"k\":\"v\"}}", 0, 0, ""},
    {"{\"__metadata__\":null}", 0, 0, ""},
    {"{\"__metadata__\":{\"k\":1}}", 0, PEFT_EFORMAT, "member k is a number"},
    {"{\"__metadata__\":[]}", 0, PEFT_EFORMAT, "__metadata__ is an array"},
    {"{\"__metadata__\":{\"k\":\"v\",\"k\":\"w\"}}", 0, PEFT_EFORMAT, "twice"},
    {"{} x", 0, PEFT_EFORMAT, "more text"},
    {"{\"a\\u0000b\":1}", 0, PEFT_EFORMAT, "u0000"},
    {"{\"a\xff\":1}", 0, PEFT_EFORMAT, "UTF-8"},
    {"{\"a\":", 0, PEFT_EFORMAT, ""},
    {" {}", 0, PEFT_EFORMAT, "neither GGUF nor safetensors"},
};

static void test_safetensors_cases(void)
{
    disk_puts("config.json", "{}");
    for (size_t i = 0; i < ARRAY_LEN(st_cases); i++) {
        const struct st_case *c = &st_cases[i];
        put_safetensors("f", c->header, strlen(c->header), c->data_n);
        expect(c->header, "f", c->code, c->part);
    }
    static const uint64_t lengths[] = {3, 100000000, 100000001, BIG(31), BIG(63), UINT64_MAX};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        put_safetensors("f", "{}", lengths[i], 0);
        expect("header length", "f", PEFT_EFORMAT,
               lengths[i] > 100000000 ? "expected at most 100000000" : "in a file of 10");
    }
    put_safetensors("f", "{}", 1, 0);
    expect("header length 1", "f", PEFT_EFORMAT, "does not begin");
    disk_clear();
}

/* A header of an odd length puts all data on odd addresses. */
static void test_misaligned(void)
{
    for (int pad = 0; pad < 8; pad++) {
        char header[128];
        int n = snprintf(header, sizeof header, "{\"a\":%s,\"b\":%s}%.*s",
                         T("[2]", "0", "8"), "{\"dtype\":\"I64\",\"shape\":[1],"
                         "\"data_offsets\":[8,16]}", pad, "        ");
        put_safetensors("f", header, (uint64_t)n, 16);
        struct store *s = NULL;
        CHECK_EQ(store_open_safetensors(&host, "f", true, &s), 0);
        if (!s) continue;
        touch(s);
        CHECK_EQ(*(const int64_t *)store_find(s, "b")->data, 0x0f0e0d0c0b0a0908);
        store_close(s);
    }
    disk_clear();
}

/* --- folders, and files of other kinds */

static const struct { const char *index; int code; const char *part; } index_cases[] = {
    {"{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\"}}", 0, ""},
    {"{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"gone.safetensors\"}}", PEFT_ENOTFOUND,
     "dir/gone.safetensors: this shard is missing"},
    {"{\"weight_map\":{\"x\":\"../a.safetensors\"}}", PEFT_EFORMAT, ".."},
    {"{\"weight_map\":{\"x\":\"/a.safetensors\"}}", PEFT_EFORMAT, "/a.safetensors"},
    {"{\"weight_map\":{\"x\":\"b.safetensors\",\"y\":\"a.safetensors\"}}", PEFT_EFORMAT,
     "tensor x is not in b.safetensors"},
    {"{\"weight_map\":{\"x\":\"a.safetensors\",\"z\":\"b.safetensors\"}}", PEFT_EFORMAT,
     "tensor z is not in b.safetensors"},
    {"{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"c.safetensors\"}}", PEFT_EFORMAT,
     "tensor x comes twice"},
    {"{\"weight_map\":{\"x\":\"config.json\"}}", PEFT_EFORMAT, "config.json: is a JSON text"},
    {"{\"weight_map\":{\"x\":7}}", PEFT_EFORMAT, "tensor x lies in a number"},
    {"{\"weight_map\":{\"x\":\"a.safetensors\",\"x\":\"b.safetensors\"}}", PEFT_EFORMAT, "twice"},
    {"{\"weight_map\":{}}", PEFT_EFORMAT, "weight_map is an object"},
    {"{\"weight_map\":[]}", PEFT_EFORMAT, "weight_map is an array"},
    {"{}", PEFT_EFORMAT, "weight_map is nothing"},
    {"[]", PEFT_EFORMAT, "expected an object"},
    {"", PEFT_EFORMAT, ""},
};

static void put_shards(void)
{
    static const char x[] = "{\"x\":" T("[1]", "0", "4") "}";
    static const char y[] = "{\"y\":" T("[1]", "0", "4") "}";
    put_safetensors("dir/a.safetensors", x, sizeof x - 1, 4);
    put_safetensors("dir/b.safetensors", y, sizeof y - 1, 4);
    put_safetensors("dir/c.safetensors", x, sizeof x - 1, 4);
    disk_puts("dir/config.json", "{}");
}

static void test_index_cases(void)
{
    put_shards();
    for (size_t i = 0; i < ARRAY_LEN(index_cases); i++) {
        disk_puts("dir/model.safetensors.index.json", index_cases[i].index);
        expect(index_cases[i].index, "dir", index_cases[i].code, index_cases[i].part);
    }
    disk_clear();
}

static void test_folder_cases(void)
{
    expect("nothing", "f", PEFT_ENOTFOUND, "f: no such file or folder");
    expect("empty folder", "dir", PEFT_ENOTFOUND, "dir: holds no weights");
    disk_puts("dir/config.json", "{}");
    disk_puts("dir/pytorch_model.bin", "PK");
    expect("pickles", "dir", PEFT_EUNSUPPORTED, "save_pretrained");
    disk_clear();
    disk_puts("dir/adapter_config.json", "{}");
    disk_puts("dir/adapter_model.safetensors", "{}");
    expect("adapter", "dir", PEFT_ENOTFOUND, "is an adapter");
    disk_clear();
    put_safetensors("dir/model.safetensors", "{}", 2, 0);
    expect("no config", "dir", PEFT_ENOTFOUND, "no config.json");
    expect("no config", "dir/model.safetensors", PEFT_ENOTFOUND, "dir/config.json");
    disk_puts("dir/config.json", "{]");
    expect("bad config", "dir", PEFT_EFORMAT, "config.json line 1 column 2");
    disk_puts("dir/config.json", "[]");
    expect("config array", "dir", PEFT_EFORMAT, "config.json: is an array");
    disk_puts("dir/config.json", "{}");
    expect("good", "dir", 0, "");
    disk_puts("dir/model.safetensors", "GGUF");
    expect("GGUF inside", "dir", PEFT_EFORMAT, "expected safetensors");
    disk_clear();
}

static const struct { const char *data; int64_t n; int code; const char *part; } contents[] = {
    {"", 0, PEFT_EFORMAT, "is empty"},
    {"PK\3\4....", 8, PEFT_EUNSUPPORTED, "zip archive"},
    {"\x80\x02}q\0X......", 12, PEFT_EUNSUPPORTED, "Python pickles"},
    {"\x80\x04\x95....", 7, PEFT_EUNSUPPORTED, "Python pickles"},
    {"\x89HDF\r\n\x1a\n....", 12, PEFT_EUNSUPPORTED, "HDF5"},
    {"tjgg\1\0\0\0", 8, PEFT_EUNSUPPORTED, "older than GGUF"},
    {"version https://git-lfs.github.com/spec/v1\n", 43, PEFT_EFORMAT, "git lfs pull"},
    {"<!DOCTYPE html>", 15, PEFT_EFORMAT, "HTML"},
    {"{\"a\":1}", 7, PEFT_EFORMAT, "JSON"},
    {"GGU", 3, PEFT_EFORMAT, "its bytes are 47 47 55"},
    {"GGUF", 4, PEFT_EFORMAT, "the version"},
    {"text of some kind", 17, PEFT_EFORMAT, "its bytes are 74 65 78 74 20 6f 66 20 ..."},
};

static void test_contents(void)
{
    for (size_t i = 0; i < ARRAY_LEN(contents); i++) {
        disk_put("f", contents[i].data, contents[i].n);
        expect(contents[i].part, "f", contents[i].code, contents[i].part);
    }
    disk_clear();
}

/* --- damage */

struct seed {
    uint8_t *data;
    int64_t n, header;              /* bytes before the data section */
};

static struct seed seed_copy(const void *data, int64_t n, int64_t header)
{
    struct seed s = {malloc((size_t)n), n, header};
    memcpy(s.data, data, (size_t)n);
    return s;
}

static struct seed seed_file(const char *path, int64_t header)
{
    struct host real;
    struct file_view v;
    struct seed s = {0};
    if (host_init(&real, NULL) < 0 || file_open_view(&real, path, false, &v) < 0) return s;
    s = seed_copy(v.data, v.n, header);
    file_close_view(&real, &v);
    return s;
}

static void truncate_everywhere(const char *path, const char *name, struct seed s)
{
    for (int64_t n = 0; n <= s.n; n++) {
        disk_put(name, s.data, n);
        int rc = open_file(path);
        CHECK(n < s.n || rc == PEFT_OK);
    }
}

static void flip_every_bit(const char *path, const char *name, struct seed s)
{
    disk_put(name, s.data, s.n);
    uint8_t *data = file_at(name)->data;
    for (int64_t i = 0; i < s.header * 8; i++) {
        data[i / 8] ^= (uint8_t)(1 << i % 8);
        open_file(path);
        data[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    CHECK_EQ(open_file(path), PEFT_OK);
}

/* One to four changes: a bit, a byte, an extreme number, or bytes moved from
 * elsewhere in the file. */
static void damage(uint8_t *data, int64_t n, int64_t header, uint64_t stream)
{
    static const uint64_t extremes[] = {0, 1, 0x7f, 0xff, 0x7fffffff, 0xffffffff, BIG(32), BIG(61),
                                        BIG(62), INT64_MAX, BIG(63), UINT64_MAX - 31, UINT64_MAX};
    uint32_t changes = 1 + rng_u32(1, stream, 0) % 4;
    for (uint64_t i = 1; i <= changes; i++) {
        int64_t at = rng_u32(2, stream, i) % header, from = rng_u32(3, stream, i) % n;
        uint32_t what = rng_u32(4, stream, i);
        int64_t left = MIN(n - MAX(at, from), (int64_t)(1 + what / 16 % 16));
        switch (what % 4) {
        case 0: data[at] ^= (uint8_t)(1 << what / 4 % 8); break;
        case 1: data[at] = (uint8_t)(what >> 8); break;
        case 2: memcpy(data + at, &extremes[what / 4 % ARRAY_LEN(extremes)],
                       (size_t)MIN(n - at, 8)); break;
        default: memmove(data + at, data + from, (size_t)left); break;
        }
    }
}

static void damage_at_random(const char *path, const char *name, struct seed s, int times)
{
    disk_put(name, s.data, s.n);
    uint8_t *data = file_at(name)->data;
    int opened = 0;
    for (int i = 0; i < times; i++) {
        damage(data, s.n, s.header, (uint64_t)i);
        opened += open_file(path) == PEFT_OK;
        memcpy(data, s.data, (size_t)s.n);
    }
    CHECK(opened < times / 2);
}

static void damage_all_ways(const char *path, const char *name, struct seed s, int times)
{
    CHECK(s.data != NULL);
    if (!s.data) return;
    truncate_everywhere(path, name, s);
    flip_every_bit(path, name, s);
    damage_at_random(path, name, s, times);
    free(s.data);
}

static void test_damaged_gguf(void)
{
    struct buf b;
    buf_init(&b, &host.mem);
    gg_build(&b, &gg_good);
    struct seed s = seed_copy(b.data, b.n, b.n - (int64_t)gg_good.data_n);
    buf_free(&b);
    damage_all_ways("f", "f", s, RANDOM_DAMAGE);
    damage_all_ways("f", "f", seed_file(GOLDEN "all.gguf", 736), RANDOM_DAMAGE);
    disk_clear();
}

static void test_damaged_safetensors(void)
{
    disk_puts("config.json", "{}");
    damage_all_ways("f", "f", seed_file(GOLDEN "all.safetensors", 984), RANDOM_DAMAGE);
    static const char small[] = "\x38\0\0\0\0\0\0\0{\"a\":" T("[1]", "0", "4") "}  abcd";
    damage_all_ways("f", "f", seed_copy(small, sizeof small - 1, 64), RANDOM_DAMAGE);
    disk_clear();
}

static void test_damaged_index(void)
{
    static const char index[] =
        "{\"metadata\":{\"total_size\":8},"
        "\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\"}}";
    put_shards();
    disk_puts("dir/model.safetensors.index.json", index);
    damage_all_ways("dir", "dir/model.safetensors.index.json",
                    seed_copy(index, sizeof index - 1, sizeof index - 1), RANDOM_DAMAGE / 5);
    disk_clear();
}

/* --- memory that runs out, at every allocation */

static int64_t calls, fail_at;
static bool fail_on;

static void *failing_alloc(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    (void)ctx, (void)old_size;
    if (new_size == 0) {
        free(ptr);
        return NULL;
    }
    calls++;
    if (calls == fail_at || (fail_on && calls > fail_at)) return NULL;
    return realloc(ptr, new_size);
}

static void exhaust(const char *path)
{
    struct host small;
    peft_load_opts opts = {.size = sizeof opts, .alloc = failing_alloc, .io = &disk_io};
    for (int on = 0; on < 2; on++) {
        int rc = PEFT_ENOMEM;
        fail_on = on;
        for (fail_at = 1; rc == PEFT_ENOMEM && fail_at < 1000; fail_at++) {
            struct store *s = NULL;
            calls = 0;
            if (host_init(&small, &opts) < 0) return;
            rc = store_open(&small, path, true, &s);
            CHECK(rc == PEFT_ENOMEM ? !s : s != NULL);
            store_close(s);
            CHECK_EQ(small.mem.live, 0);
        }
        CHECK_EQ(rc, PEFT_OK);
        CHECK(fail_at > 5);
    }
}

static void test_no_memory(void)
{
    struct buf b;
    buf_init(&b, &host.mem);
    gg_build(&b, &gg_good);
    disk_put("f", b.data, b.n);
    buf_free(&b);
    exhaust("f");
    put_shards();
    disk_puts("dir/model.safetensors.index.json", index_cases[0].index);
    exhaust("dir");
    disk_clear();
}

int main(void)
{
    peft_load_opts opts = {.size = sizeof opts, .io = &disk_io};
    if (host_init(&host, &opts) < 0) return 1;
    RUN(test_gguf_cases);
    RUN(test_name_limit);
    RUN(test_many);
    RUN(test_safetensors_cases);
    RUN(test_misaligned);
    RUN(test_index_cases);
    RUN(test_folder_cases);
    RUN(test_contents);
    RUN(test_damaged_gguf);
    RUN(test_damaged_safetensors);
    RUN(test_damaged_index);
    RUN(test_no_memory);
    return TEST_END();
}
