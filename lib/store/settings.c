/* Settings of a store: config.json's members, GGUF's metadata, or the strings
 * of a safetensors file's __metadata__.  A value of another kind than asked
 * for is an error and never converted in silence; a JSON null counts as
 * absent, since that is how Python writes an unset option. */
#include "store/impl.h"

/* What both kinds of settings answer to a look-up: at most one is not NULL. */
struct setting_found {
    const json *j;
    const struct setting *v;
};

static struct setting_found find_setting(const struct store *s, const char *key)
{
    struct setting_found f = {0};
    if (s->config) {
        f.j = json_get(s->config, key);
        if (f.j && json_kind(f.j) == JSON_NULL) f.j = NULL;
        return f;
    }
    int64_t i = map_gets(&s->keys, key, -1);
    if (i >= 0) f.v = &s->settings[i];
    return f;
}

static int wrong_kind(const struct store *s, const char *key, struct setting_found f,
                      const char *expected)
{
    if (f.j)
        return fail(PEFT_EFORMAT, "%s: \"%s\" is %s, expected %s", s->config_path, key,
                    json_kind_name(f.j), expected);
    return fail(PEFT_EFORMAT, "%s: key %s is of type %s%s, expected %s", s->path, key,
                f.v->type == GGUF_ARRAY ? "array of " : "",
                gguf_type_name(f.v->type == GGUF_ARRAY ? f.v->array.type : f.v->type), expected);
}

static bool is_gguf_integer(int type)
{
    return type <= GGUF_I32 || type == GGUF_U64 || type == GGUF_I64;
}

int store_int(const struct store *s, const char *key, int64_t lo, int64_t hi, int64_t *out)
{
    struct setting_found f = find_setting(s, key);
    if (f.j) {
        int rc = json_int(s->config, key, lo, hi, out);
        return rc < 0 ? fail_in(rc, "%s: ", s->config_path) : rc;
    }
    if (!f.v) return 0;
    if (!is_gguf_integer(f.v->type)) return wrong_kind(s, key, f, "an integer");
    int64_t x = gguf_integer(f.v->type, f.v->raw, 0);
    if (x < lo || x > hi)
        return fail(PEFT_EFORMAT, "%s: key %s is %lld, expected %lld to %lld", s->path, key,
                    (long long)x, (long long)lo, (long long)hi);
    *out = x;
    return 1;
}

int store_number(const struct store *s, const char *key, double *out)
{
    struct setting_found f = find_setting(s, key);
    if (!f.j && !f.v) return 0;
    if (f.j ? json_kind(f.j) != JSON_NUMBER
            : f.v->type != GGUF_F32 && f.v->type != GGUF_F64 && !is_gguf_integer(f.v->type))
        return wrong_kind(s, key, f, "a number");
    if (f.j) {
        *out = json_number(f.j, 0);
    } else if (f.v->type == GGUF_F32) {
        float x;
        memcpy(&x, f.v->raw, sizeof x);
        *out = (double)x;
    } else if (f.v->type == GGUF_F64) {
        memcpy(out, f.v->raw, sizeof *out);
    } else {
        *out = (double)gguf_integer(f.v->type, f.v->raw, 0);
    }
    return 1;
}

int store_bool(const struct store *s, const char *key, int *out)
{
    struct setting_found f = find_setting(s, key);
    if (!f.j && !f.v) return 0;
    if (f.j ? json_kind(f.j) != JSON_BOOL : f.v->type != GGUF_BOOL)
        return wrong_kind(s, key, f, "a boolean");
    *out = f.j ? json_bool(f.j, 0) : *f.v->raw != 0;
    return 1;
}

int store_string(const struct store *s, const char *key, const char **out, int64_t *n)
{
    struct setting_found f = find_setting(s, key);
    if (!f.j && !f.v) return 0;
    if (f.j ? json_kind(f.j) != JSON_STRING : f.v->type != GGUF_STRING)
        return wrong_kind(s, key, f, "a string");
    *out = f.j ? json_string(f.j) : f.v->text;
    if (n) *n = f.j ? (int64_t)strlen(*out) : f.v->text_n;
    return 1;
}

const json *store_config(const struct store *s)
{
    return s->config;
}

int store_array(const struct store *s, const char *key, int type, struct gguf_array *out)
{
    struct setting_found f = find_setting(s, key);
    if (!f.v) return 0;
    if (f.v->type != GGUF_ARRAY) return wrong_kind(s, key, f, "an array");
    if (type >= 0 && f.v->array.type != type)
        return fail(PEFT_EFORMAT, "%s: key %s is an array of %s, expected one of %s", s->path, key,
                    gguf_type_name(f.v->array.type), gguf_type_name(type));
    *out = f.v->array;
    return 1;
}

int64_t gguf_kv_count(const struct store *s)
{
    return s->format == STORE_GGUF ? s->n_settings : 0;
}

void gguf_kv_at(const struct store *s, int64_t i, const char **key, int *type, const void **raw,
                int64_t *n)
{
    const struct setting *v = &s->settings[i];
    *key = v->key;
    *type = v->type;
    *raw = v->raw;
    *n = v->raw_n;
}
