/* safetensors reader.
 *
 *   u64:N  header: N bytes of JSON, padded with spaces  data
 *   {"__metadata__": {string: string},
 *    name: {"dtype": "F32", "shape": [out, in], "data_offsets": [begin, end]}}
 *
 * Source: the format's README and the checks of its reference reader.  The
 * tensors must fill the data section exactly, so that no bytes can hide. */
#include "store/impl.h"

static const double exact_limit = 9007199254740992.0;    /* 2^53 */

static bool exact_size(const json *j, int64_t *out)
{
    double x = json_number(j, -1);
    if (!(x >= 0 && x < exact_limit)) return false;
    *out = (int64_t)x;
    return (double)*out == x;
}

/* Reads an array of at most `cap` sizes. */
static int read_sizes(const json *m, const char *key, int64_t *to, int32_t cap, int32_t *n)
{
    const json *list = json_get(m, key);
    if (!list || json_kind(list) != JSON_ARRAY)
        return fail(PEFT_EFORMAT, "%s is %s, expected an array", key, json_kind_name(list));
    *n = 0;
    for (const json *j = json_first(list); j; j = json_next(j)) {
        if (*n == cap)
            return fail(PEFT_EUNSUPPORTED, "%s has more than %d members", key, (int)cap);
        if (!exact_size(j, &to[(*n)++]))
            return fail(PEFT_EFORMAT, "%s holds %s, expected integers from 0 to 2^53", key,
                        json_kind(j) == JSON_NUMBER ? "another number" : json_kind_name(j));
    }
    return PEFT_OK;
}

static int read_entry(const json *m, struct store_tensor *t, struct extent *e)
{
    if (json_kind(m) != JSON_OBJECT)
        return fail(PEFT_EFORMAT, "its entry is %s, expected an object", json_kind_name(m));
    const json *dtype = json_get(m, "dtype");
    const char *type = json_string(dtype);
    if (!type)
        return fail(PEFT_EFORMAT, "dtype is %s, expected a string", json_kind_name(dtype));
    t->type = qtype_by_name(type);
    if (!t->type || t->type->block != 1)
        return fail(PEFT_EUNSUPPORTED, "dtype %.40s is not supported", type);
    int rc = read_sizes(m, "shape", t->dims, 4, &t->n_dims);
    if (rc < 0) return rc;
    rc = shape_bytes(t->type, t->n_dims, t->dims, &t->count, &t->bytes);
    if (rc < 0) return rc;
    int64_t offsets[2];
    int32_t n;
    rc = read_sizes(m, "data_offsets", offsets, 2, &n);
    if (rc < 0) return rc;
    if (n != 2 || offsets[0] > offsets[1])
        return fail(PEFT_EFORMAT, "data_offsets is no pair of increasing numbers");
    e->begin = offsets[0];
    e->end = offsets[1];
    if (e->end - e->begin != t->bytes)
        return fail(PEFT_EFORMAT, "data_offsets span %lld bytes, but dtype and shape need %lld",
                    (long long)(e->end - e->begin), (long long)t->bytes);
    return PEFT_OK;
}

/* Kept for a file that is opened by itself; shards repeat each other's. */
static int read_file_metadata(struct store *s, const json *m, const char *path)
{
    if (json_kind(m) == JSON_NULL) return PEFT_OK;
    if (json_kind(m) != JSON_OBJECT)
        return fail(PEFT_EFORMAT, "%s: __metadata__ is %s, expected an object", path,
                    json_kind_name(m));
    bool keep = s->n_views == 1;
    int rc = keep ? store_reserve_settings(s, json_count(m)) : PEFT_OK;
    for (const json *j = json_first(m); j && rc == PEFT_OK; j = json_next(j)) {
        const char *key = json_key(j), *text = json_string(j);
        if (!text)
            return fail(PEFT_EFORMAT, "%s: __metadata__ member %.100s is %s, expected a string",
                        path, key, json_kind_name(j));
        if (!keep) continue;
        struct setting v = {.type = GGUF_STRING, .text_n = (int64_t)strlen(text)};
        v.key = arena_strndup(&s->arena, key, (int64_t)strlen(key));
        v.text = arena_strndup(&s->arena, text, v.text_n);
        rc = v.key && v.text ? store_add_setting(s, &v) : PEFT_ENOMEM;
    }
    return rc;
}

struct data_part {
    const char *path;
    const uint8_t *data;            /* the data section */
    int64_t n;
};

static int read_entries(struct store *s, const struct data_part *p, const json *root,
                        struct extent *e)
{
    int64_t n = 0;
    for (const json *m = json_first(root); m; m = json_next(m)) {
        const char *name = json_key(m);
        int rc;
        if (strcmp(name, "__metadata__") == 0) {
            rc = read_file_metadata(s, m, p->path);
            if (rc < 0) return rc;
            continue;
        }
        struct store_tensor t = {0};
        rc = read_entry(m, &t, &e[n]);
        if (rc < 0) return fail_in(rc, "%s: tensor %.100s: ", p->path, name);
        if (e[n].end > p->n)
            return fail(PEFT_EFORMAT, "%s: tensor %.100s ends at data byte %lld, but there are "
                        "%lld", p->path, name, (long long)e[n].end, (long long)p->n);
        t.data = p->data + e[n].begin;
        t.name = arena_strndup(&s->arena, name, (int64_t)strlen(name));
        if (!t.name) return PEFT_ENOMEM;
        e[n++].name = t.name;
        rc = store_add(s, &t);
        if (rc < 0) return rc;
    }
    return check_extents(s, p->path, e, n, p->n, false);
}

static int read_json_header(struct store *s, const struct data_part *p, const char *text,
                            int64_t n)
{
    json *root = NULL;
    int rc = json_parse(text, n, p->path, &root);
    if (rc < 0) return rc;
    int64_t members = json_count(root);
    struct extent *e = mem_array(&s->h->mem, members, (int64_t)sizeof *e);
    rc = e ? store_reserve(s, members) : PEFT_ENOMEM;
    if (rc == PEFT_OK) rc = read_entries(s, p, root, e);
    mem_free(&s->h->mem, e);
    json_free(root);
    return rc;
}

int safetensors_read(struct store *s, const struct file_view *v, const char *path)
{
    uint64_t n = 0;
    if (v->n < 8)
        return fail(PEFT_EFORMAT, "%s: has %lld bytes, expected at least 8", path,
                    (long long)v->n);
    memcpy(&n, v->data, 8);
    if (n > JSON_LIMIT)
        return fail(PEFT_EFORMAT, "%s: header of %llu bytes, expected at most %d", path,
                    (unsigned long long)n, (int)JSON_LIMIT);
    if ((int64_t)n > v->n - 8)
        return fail(PEFT_EFORMAT, "%s: header of %llu bytes in a file of %lld", path,
                    (unsigned long long)n, (long long)v->n);
    const char *text = (const char *)v->data + 8;
    if (n < 2 || text[0] != '{')
        return fail(PEFT_EFORMAT, "%s: the header does not begin with '{'", path);
    struct data_part p = {path, v->data + 8 + n, v->n - 8 - (int64_t)n};
    return read_json_header(s, &p, text, (int64_t)n);
}
