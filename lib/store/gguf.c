/* GGUF reader, versions 2 and 3, little-endian.
 *
 *   "GGUF" u32:version u64:n_tensors u64:n_kv
 *   n_kv      x { string:key u32:type value }
 *   n_tensors x { string:name u32:n_dims u64:dims[n_dims] u32:type u64:offset }
 *   padding to general.alignment (32)
 *   data: offsets count from here and are multiples of the alignment
 *
 * string = u64:n bytes[n]; array = u32:type u64:n items; dims are fastest
 * first.  Source: docs/gguf.md of the ggml project.
 *
 * Nothing in the file is believed: a count is compared with the bytes that are
 * left before memory is taken, all names go through a hash map, and so reading
 * is linear in the size of the file. */
#include "store/impl.h"

static const struct gguf_kind {
    const char *name;
    int32_t bytes;                  /* 0 = of its own length */
} gguf_kinds[] = {
    [GGUF_U8] = {"uint8", 1},     [GGUF_I8] = {"int8", 1},      [GGUF_U16] = {"uint16", 2},
    [GGUF_I16] = {"int16", 2},    [GGUF_U32] = {"uint32", 4},   [GGUF_I32] = {"int32", 4},
    [GGUF_F32] = {"float32", 4},  [GGUF_BOOL] = {"bool", 1},    [GGUF_STRING] = {"string", 0},
    [GGUF_ARRAY] = {"array", 0},  [GGUF_U64] = {"uint64", 8},   [GGUF_I64] = {"int64", 8},
    [GGUF_F64] = {"float64", 8},
};

enum {
    GGUF_NAME_LIMIT = 65535,                /* bytes of a key or tensor name */
    GGUF_SMALLEST_KV = 8 + 1 + 4 + 1,       /* bytes in the file */
    GGUF_SMALLEST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8,
};

const char *gguf_type_name(int type)
{
    return type >= 0 && type < (int)ARRAY_LEN(gguf_kinds) ? gguf_kinds[type].name : "unknown";
}

/* --- bytes, with a sticky failure: read on, check once */

struct gguf_cursor {
    const char *path;
    const uint8_t *data;
    int64_t n, at;
    int rc;
};

static const uint8_t *take_bytes(struct gguf_cursor *c, int64_t n, const char *what)
{
    if (c->rc < 0) return NULL;
    if (n < 0 || n > c->n - c->at) {
        c->rc = fail(PEFT_EFORMAT, "%s: %s at byte %lld needs %lld bytes, but the file ends "
                     "at %lld", c->path, what, (long long)c->at, (long long)n, (long long)c->n);
        return NULL;
    }
    const uint8_t *p = c->data + c->at;
    c->at += n;
    return p;
}

static uint32_t take_u32(struct gguf_cursor *c, const char *what)
{
    uint32_t v = 0;
    const uint8_t *p = take_bytes(c, 4, what);
    if (p) memcpy(&v, p, 4);
    return v;
}

static uint64_t take_u64(struct gguf_cursor *c, const char *what)
{
    uint64_t v = 0;
    const uint8_t *p = take_bytes(c, 8, what);
    if (p) memcpy(&v, p, 8);
    return v;
}

/* Refuses a number of things, each at least `unit` bytes long, that the rest
 * of the file cannot hold. */
static int64_t check_count(struct gguf_cursor *c, uint64_t v, int64_t unit, const char *what)
{
    if (c->rc < 0) return 0;
    int64_t most = (c->n - c->at) / unit;
    if (v <= (uint64_t)most) return (int64_t)v;
    c->rc = fail(PEFT_EFORMAT, "%s: %s at byte %lld is %llu, but the rest of the file holds at "
                 "most %lld", c->path, what, (long long)(c->at - 8), (unsigned long long)v,
                 (long long)most);
    return 0;
}

static int64_t take_count(struct gguf_cursor *c, int64_t unit, const char *what)
{
    return check_count(c, take_u64(c, what), unit, what);
}

/* A key or tensor name, without the NUL and bad UTF-8 that would make one name
 * look like another. */
static const char *take_name(struct gguf_cursor *c, int64_t *n, const char *what)
{
    int64_t at = c->at, len = take_count(c, 1, what);
    const char *p = (const char *)take_bytes(c, len, what);
    if (!p) return NULL;
    if (len < 1 || len > GGUF_NAME_LIMIT) {
        c->rc = fail(PEFT_EFORMAT, "%s: %s at byte %lld is %lld bytes long, expected 1 to %d",
                     c->path, what, (long long)at, (long long)len, (int)GGUF_NAME_LIMIT);
        return NULL;
    }
    if (memchr(p, 0, (size_t)len) || utf8_check(p, len) != len) {
        c->rc = fail(PEFT_EFORMAT, "%s: %s at byte %lld is no UTF-8 text", c->path, what,
                     (long long)at);
        return NULL;
    }
    *n = len;
    return p;
}

/* --- metadata */

/* Offsets of the items, and of the end, counted from the array's data: reading
 * them once makes every later look-up constant. */
static int take_strings(struct store *s, struct gguf_cursor *c, struct gguf_array *a)
{
    int64_t bytes;
    if (!mul_ok(a->n + 1, (int64_t)sizeof *a->offsets, &bytes))
        return fail(PEFT_ENOMEM, "%s: too many strings", c->path);
    int64_t *offsets = arena_alloc(&s->arena, bytes);
    if (!offsets) return PEFT_ENOMEM;
    int64_t start = c->at;
    for (int64_t i = 0; i < a->n; i++) {
        offsets[i] = c->at - start;
        take_bytes(c, take_count(c, 1, "a string's length"), "a string");
        if (c->rc < 0) return c->rc;
    }
    offsets[a->n] = c->at - start;
    a->offsets = offsets;
    return PEFT_OK;
}

static int take_array(struct store *s, struct gguf_cursor *c, struct gguf_array *a)
{
    uint32_t type = take_u32(c, "an array's type");
    if (c->rc < 0) return c->rc;
    if (type >= ARRAY_LEN(gguf_kinds))
        return fail(PEFT_EFORMAT, "%s: array of the unknown type %u at byte %lld", c->path,
                    (unsigned)type, (long long)(c->at - 4));
    if (type == GGUF_ARRAY)
        return fail(PEFT_EUNSUPPORTED, "%s: array of arrays at byte %lld", c->path,
                    (long long)(c->at - 4));
    int64_t unit = gguf_kinds[type].bytes;
    a->type = (int)type;
    a->n = take_count(c, unit ? unit : 8, "an array's length");
    a->data = c->data + c->at;
    if (c->rc < 0) return c->rc;
    if (type == GGUF_STRING) return take_strings(s, c, a);
    take_bytes(c, a->n * unit, "an array");
    return c->rc;
}

static int take_value(struct store *s, struct gguf_cursor *c, struct setting *v)
{
    uint32_t type = take_u32(c, "a value's type");
    if (c->rc < 0) return c->rc;
    if (type >= ARRAY_LEN(gguf_kinds))
        return fail(PEFT_EFORMAT, "%s: key %.100s has the unknown type %u at byte %lld", c->path,
                    v->key, (unsigned)type, (long long)(c->at - 4));
    int64_t start = c->at;
    v->type = (int)type;
    if (type == GGUF_ARRAY) {
        int rc = take_array(s, c, &v->array);
        if (rc < 0) return rc;
    } else if (type == GGUF_STRING) {
        v->text_n = take_count(c, 1, "a string's length");
        const uint8_t *p = take_bytes(c, v->text_n, "a string");
        if (!p) return c->rc;
        v->text = arena_strndup(&s->arena, (const char *)p, v->text_n);
        if (!v->text) return PEFT_ENOMEM;
    } else {
        const uint8_t *p = take_bytes(c, gguf_kinds[type].bytes, "a value");
        if (p && type == GGUF_BOOL && *p > 1)
            return fail(PEFT_EFORMAT, "%s: key %.100s is a bool of value %d, expected 0 or 1",
                        c->path, v->key, (int)*p);
    }
    v->raw = c->data + start;
    v->raw_n = c->at - start;
    return c->rc;
}

static int read_metadata(struct store *s, struct gguf_cursor *c, int64_t n)
{
    int rc = store_reserve_settings(s, n);
    for (int64_t i = 0; i < n && rc == PEFT_OK; i++) {
        struct setting v = {0};
        int64_t key_n = 0;
        const char *key = take_name(c, &key_n, "a key");
        if (!key) return c->rc;
        v.key = arena_strndup(&s->arena, key, key_n);
        if (!v.key) return PEFT_ENOMEM;
        rc = take_value(s, c, &v);
        if (rc == PEFT_OK) rc = store_add_setting(s, &v);
    }
    return rc;
}

/* --- tensors */

static int read_tensor(struct store *s, struct gguf_cursor *c, struct store_tensor *t,
                       int64_t *offset)
{
    int64_t name_n = 0;
    const char *name = take_name(c, &name_n, "a tensor's name");
    if (!name) return c->rc;
    t->name = arena_strndup(&s->arena, name, name_n);
    if (!t->name) return PEFT_ENOMEM;
    uint32_t n_dims = take_u32(c, "a number of dimensions");
    if (c->rc < 0) return c->rc;
    if (n_dims < 1 || n_dims > 4)
        return fail(PEFT_EFORMAT, "%s: tensor %.100s has %u dimensions, expected 1 to 4", c->path,
                    t->name, (unsigned)n_dims);
    t->n_dims = (int32_t)n_dims;
    for (uint32_t i = 0; i < n_dims; i++) {
        uint64_t d = take_u64(c, "a dimension");
        t->dims[n_dims - 1 - i] = d <= INT64_MAX ? (int64_t)d : -1;
    }
    uint32_t type = take_u32(c, "a tensor's type");
    uint64_t at = take_u64(c, "a tensor's offset");
    if (c->rc < 0) return c->rc;
    t->type = qtype_by_ggml(type);
    if (!t->type)
        return fail(PEFT_EUNSUPPORTED, "%s: tensor %.100s is of type %s (%u), which is not "
                    "supported", c->path, t->name, qtype_ggml_name(type), (unsigned)type);
    int rc = shape_bytes(t->type, t->n_dims, t->dims, &t->count, &t->bytes);
    if (rc < 0) return fail_in(rc, "%s: tensor %.100s: ", c->path, t->name);
    if (at > (uint64_t)c->n)
        return fail(PEFT_EFORMAT, "%s: tensor %.100s lies at data byte %llu, but the file ends at "
                    "%lld", c->path, t->name, (unsigned long long)at, (long long)c->n);
    *offset = (int64_t)at;
    return PEFT_OK;
}

static int read_alignment(const struct store *s, const char *path, int64_t *out)
{
    *out = 32;
    int rc = store_int(s, "general.alignment", 1, UINT32_MAX, out);
    if (rc < 0) return rc;
    if ((*out & (*out - 1)) != 0)
        return fail(PEFT_EFORMAT, "%s: general.alignment is %lld, expected a power of two", path,
                    (long long)*out);
    return PEFT_OK;
}

/* Puts the tensors [0, n) of `t` into the store once their places are known
 * to be inside the file and apart from each other. */
static int place_tensors(struct store *s, const struct store *keys, struct gguf_cursor *c,
                         struct store_tensor *t, struct extent *e, int64_t n)
{
    int64_t alignment, start, used = 0;
    int rc = read_alignment(keys, c->path, &alignment);
    if (rc < 0) return rc;
    if (!align_ok(c->at, alignment, &start) || start > c->n) start = c->n;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = e[i].begin;
        if (at % alignment != 0)
            return fail(PEFT_EFORMAT, "%s: tensor %.100s lies at data byte %lld, expected a "
                        "multiple of %lld", c->path, t[i].name, (long long)at,
                        (long long)alignment);
        if (at > c->n - start || t[i].bytes > c->n - start - at)
            return fail(PEFT_EFORMAT, "%s: tensor %.100s needs %lld bytes at data byte %lld, but "
                        "there are %lld in all", c->path, t[i].name, (long long)t[i].bytes,
                        (long long)at, (long long)(c->n - start));
        t[i].data = c->data + start + at;
        if (t[i].bytes > 0) e[used++] = (struct extent){at, at + t[i].bytes, t[i].name};
    }
    rc = check_extents(s, c->path, e, used, c->n - start, true);
    for (int64_t i = 0; i < n && rc == PEFT_OK; i++) rc = store_add(s, &t[i]);
    return rc;
}

static int read_tensors(struct store *s, const struct store *keys, struct gguf_cursor *c,
                        int64_t n)
{
    struct mem *m = &s->h->mem;
    struct store_tensor *t = mem_array(m, n, (int64_t)sizeof *t);
    struct extent *e = mem_array(m, n, (int64_t)sizeof *e);
    int rc = t && e ? store_reserve(s, n) : PEFT_ENOMEM;
    for (int64_t i = 0; i < n && rc == PEFT_OK; i++) rc = read_tensor(s, c, &t[i], &e[i].begin);
    if (rc == PEFT_OK) rc = place_tensors(s, keys, c, t, e, n);
    mem_free(m, t);
    mem_free(m, e);
    return rc;
}

/* --- the file */

static int read_version(struct gguf_cursor *c)
{
    take_bytes(c, 4, "the magic number");
    uint32_t version = take_u32(c, "the version");
    if (c->rc < 0 || version == 2 || version == 3) return c->rc;
    if (version == 1)
        return fail(PEFT_EUNSUPPORTED, "%s: GGUF version 1, expected 2 or 3; convert the original "
                    "model again", c->path);
    if ((version & 0xffff) == 0 && version != 0)
        return fail(PEFT_EUNSUPPORTED, "%s: a big-endian GGUF file, expected little-endian; "
                    "convert it with gguf_convert_endian.py of the gguf package", c->path);
    return fail(version == 0 ? PEFT_EFORMAT : PEFT_EUNSUPPORTED,
                "%s: GGUF version %u, expected 2 or 3", c->path, (unsigned)version);
}

int gguf_read(struct store *s, struct store *keys, const struct file_view *v, const char *path)
{
    struct gguf_cursor c = {.path = path, .data = v->data, .n = v->n};
    int rc = read_version(&c);
    if (rc < 0) return rc;
    uint64_t tensors = take_u64(&c, "the number of tensors");
    int64_t n_kv = take_count(&c, GGUF_SMALLEST_KV, "the number of metadata keys");
    int64_t n = check_count(&c, tensors, GGUF_SMALLEST_TENSOR, "the number of tensors");
    if (c.rc < 0) return c.rc;
    rc = read_metadata(keys, &c, n_kv);
    if (rc < 0) return rc;
    n = check_count(&c, (uint64_t)n, GGUF_SMALLEST_TENSOR, "the number of tensors");
    return c.rc < 0 ? c.rc : read_tensors(s, keys, &c, n);
}

/* --- values */

int64_t gguf_integer(int type, const uint8_t *data, int64_t i)
{
    union { uint16_t u16; int16_t i16; uint32_t u32; int32_t i32; uint64_t u64; } v = {0};
    int32_t bytes = gguf_kinds[type].bytes;
    const uint8_t *p = data + i * bytes;
    if (bytes > 1) memcpy(&v, p, (size_t)bytes);
    switch (type) {
    case GGUF_U8: return *p;
    case GGUF_I8: return (int8_t)*p;
    case GGUF_BOOL: return *p != 0;
    case GGUF_U16: return v.u16;
    case GGUF_I16: return v.i16;
    case GGUF_U32: return v.u32;
    case GGUF_I32: return v.i32;
    case GGUF_I64: return (int64_t)v.u64;
    case GGUF_U64: return v.u64 <= INT64_MAX ? (int64_t)v.u64 : INT64_MAX;
    default: return 0;
    }
}

void store_array_string(const struct gguf_array *a, int64_t i, const char **str, int64_t *n)
{
    *str = (const char *)a->data + a->offsets[i] + 8;
    *n = a->offsets[i + 1] - a->offsets[i] - 8;
}

float store_array_f32(const struct gguf_array *a, int64_t i)
{
    float v;
    memcpy(&v, a->data + i * 4, 4);
    return v;
}

int64_t store_array_int(const struct gguf_array *a, int64_t i)
{
    return gguf_integer(a->type, a->data, i);
}
