/* The metadata tokenizer.* of GGUF.  An input is a list of lines that are made
 * into keys with right lengths, so that the fuzzer meets the tokenizer and not
 * the container:
 *
 *   KEY text   KEY #integer   KEY !1 or !0   KEY [item TAB item ...
 *
 * The items are strings, integers after "[#" or quarters after "[~". */
#include "fuzz/fuzz.h"

static void put_key(struct buf *b, const char *key, int64_t n, uint32_t type)
{
    gguf_raw_string(b, key, n);
    buf_put(b, &type, 4);
}

static int32_t integer(const char *s, const char *end)
{
    uint32_t x = 0;
    int minus = s < end && *s == '-';
    for (s += minus; s < end && *s >= '0' && *s <= '9'; s++) x = x * 10 + (uint32_t)(*s - '0');
    return (int32_t)(minus ? 0 - x : x);
}

static void put_item(struct buf *b, int type, const char *s, const char *end)
{
    int32_t i = integer(s, end);
    float f = (float)i / 4;
    if (type == GGUF_STRING) gguf_raw_string(b, s, end - s);
    else buf_put(b, type == GGUF_F32 ? (const void *)&f : &i, 4);
}

/* Items between \t; a first item of "#" or "~" gives the type. */
static void put_array(struct buf *b, const char *s, const char *end)
{
    int type = s < end && *s == '#' ? GGUF_I32 : s < end && *s == '~' ? GGUF_F32 : GGUF_STRING;
    int64_t count = s < end;
    s += type != GGUF_STRING;
    for (const char *c = s; c < end; c++) count += *c == '\t';
    gguf_raw_array(b, type, count);
    for (int64_t i = 0; i < count; i++) {
        const char *tab = s < end ? memchr(s, '\t', (size_t)(end - s)) : NULL;
        if (!tab) tab = end;
        put_item(b, type, s, tab);
        s = tab + 1;
    }
}

static int64_t put_line(struct buf *b, const char *s, const char *end)
{
    const char *space = memchr(s, ' ', (size_t)(end - s));
    if (!space || space == s) return 0;
    const char *v = space + 1;
    int kind = v < end ? *v : 0, type = kind == '[' ? GGUF_ARRAY : kind == '#' ? GGUF_U32 :
               kind == '!' ? GGUF_BOOL : GGUF_STRING;
    put_key(b, s, space - s, (uint32_t)type);
    if (type == GGUF_ARRAY) put_array(b, v + 1, end);
    else if (type == GGUF_U32) gguf_raw_u32(b, (uint32_t)integer(v + 1, end));
    else if (type == GGUF_BOOL) gguf_raw_bool(b, v + 1 < end && v[1] == '1');
    else gguf_raw_string(b, v, end - v);
    return 1;
}

static void build(struct buf *file, const char *s, const char *end)
{
    static const uint32_t version = 3;
    static const uint64_t zero;
    int64_t n = 0;
    buf_puts(file, "GGUF");
    buf_put(file, &version, 4);
    buf_put(file, &zero, 8);
    buf_put(file, &zero, 8);
    while (s < end) {
        const char *lf = memchr(s, '\n', (size_t)(end - s));
        if (!lf) lf = end;
        n += put_line(file, s, lf);
        s = lf + 1;
    }
    memcpy(file->data + 16, &n, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct host *h = begin_host();
    struct store *s = NULL;
    struct tokenizer *t = NULL;
    struct buf file;
    buf_init(&file, &h->mem);
    build(&file, (const char *)data, (const char *)data + size);
    int64_t n = file.n;
    disk_put("f.gguf", file.data, n);
    buf_free(&file);
    heap_peak = heap_live;
    if (fine(store_open(h, "f.gguf", true, &s))) {
        int rc = tok_open_gguf(h, s, &t);
        if (read_file(rc, "f.gguf", n)) {
            use_tokenizer(h, t, sample, (int64_t)sizeof sample - 1);
            list_kv(h, t);
        }
    }
    tok_free(t);
    store_close(s);
    end();
    return 0;
}
