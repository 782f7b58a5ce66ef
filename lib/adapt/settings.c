/* A method's settings: its table of { key, kind, field } against
 * adapter_config.json and against the `settings` of
 * peft_adapter_opts, which is JSON with the same members. */
#include <float.h>
#include <math.h>
#include <stdio.h>

#include "adapt/io.h"

static void *field(struct adapter *a, const struct method_setting *s) { return (char *)a + s->at; }

static void put_number(struct adapter *a, const struct method_setting *s, double v)
{
    if (s->kind == 'i') *(int32_t *)field(a, s) = (int32_t)v;
    else if (s->kind == 'f') *(float *)field(a, s) = (float)v;
    else if (s->kind == 'b') *(uint8_t *)field(a, s) = v != 0;
}

static double get_number(const struct adapter *a, const struct method_setting *s)
{
    const char *at = (const char *)a + s->at;
    if (s->kind == 'i') return *(const int32_t *)(const void *)at;
    return s->kind == 'f' ? (double)*(const float *)(const void *)at : *(const uint8_t *)at;
}

static int in_range(const struct method_setting *s, double v)
{
    return v >= s->lo && v <= s->hi && (s->kind == 'f' || v == floor(v));
}

void settings_default(struct adapter *a)
{
    for (const struct method_setting *s = a->method->settings; s && s->key; s++)
        put_number(a, s, s->absent);
}

static int keep_names(struct adapter *a, const struct method_setting *s, struct buf *b)
{
    int rc = buf_check(b);
    if (!rc && !(*(char **)field(a, s) = arena_strndup(&a->arena, b->n ? b->data : "", b->n)))
        rc = PEFT_ENOMEM;
    buf_free(b);
    return rc;
}

static int read_names(struct model *m, struct adapter *a, const struct method_setting *s,
                      const json *list)
{
    struct buf b;
    buf_init(&b, &m->host.mem);
    for (const json *j = json_first(list); j; j = json_next(j)) {
        if (!json_string(j)) {
            buf_free(&b);
            return fail(PEFT_EFORMAT, "setting %s holds %s, expected names", s->key,
                        json_kind_name(j));
        }
        buf_printf(&b, "%s%s", b.n ? "," : "", json_string(j));
    }
    return keep_names(a, s, &b);
}

/* rank_pattern and alpha_pattern: the key is a module's name or its ending. */
static double pattern(const json *config, const char *key, const char *module, const char *other,
                      double absent)
{
    for (const json *j = json_first(json_get(config, key)); j; j = json_next(j)) {
        const char *k = json_key(j);
        k += *k == '^';
        k += strncmp(k, ".*\\.", 4) ? 0 : 4;
        if (adapter_has_ending(module, k) || adapter_has_ending(other, k))
            return json_number(j, absent);
    }
    return absent;
}

static int check_pattern(const json *config, const char *key)
{
    const json *j = json_get(config, key), *k;
    int ok = !j || json_kind(j) == JSON_NULL || json_kind(j) == JSON_OBJECT;
    for (k = json_first(j); k; k = json_next(k)) ok = ok && json_kind(k) == JSON_NUMBER;
    return ok ? PEFT_OK : fail(PEFT_EFORMAT, "%s has the wrong kind of value, expected numbers by "
                               "module", key);
}

int settings_check_patterns(const json *config)
{
    int rc = check_pattern(config, "rank_pattern");
    return rc ? rc : check_pattern(config, "alpha_pattern");
}

int settings_read(struct model *m, struct adapter *a, const json *config)
{
    int mask = a->method->patterns == PATTERN_MASK;
    int rc = mask ? PEFT_OK : settings_check_patterns(config);
    for (const struct method_setting *s = a->method->settings; s && s->key && !rc; s++) {
        const json *j = json_get(config, s->key);
        enum json_kind want = s->kind == 'n'   ? JSON_ARRAY
                              : s->kind == 'b' ? JSON_BOOL
                              : s->kind == 's' ? JSON_STRING
                                               : JSON_NUMBER;
        if (!j || json_kind(j) == JSON_NULL) continue;
        if ((s->kind == 'n' || s->kind == 's') && json_string(j)) {
            struct buf b;
            buf_init(&b, &m->host.mem);
            buf_puts(&b, json_string(j));
            rc = keep_names(a, s, &b);
            continue;
        }
        if (json_kind(j) != want)
            return fail(PEFT_EFORMAT, "setting %s has the wrong kind of value", s->key);
        double v = want == JSON_BOOL ? json_bool(j, 0) : json_number(j, 0);
        if (want != JSON_ARRAY && !in_range(s, v))
            return fail(PEFT_EFORMAT, "setting %s is %g, expected %g to %g", s->key, v, s->lo,
                        s->hi);
        if (want == JSON_ARRAY) rc = read_names(m, a, s, j);
        else put_number(a, s, v);
    }
    return rc ? rc : tokens_read(m, a, config);
}

/* The members of AdaLoRA's rank_pattern are called "<module>.lora_E" (and the adapter's
 * name in files of old) and hold a boolean for each rank at first. */
static int mask_rank(const struct adapter *a, const json *config, const char *module,
                     const char *other, int32_t *rank)
{
    static const char ending[] = ".lora_E";
    for (const json *j = json_first(json_get(config, "rank_pattern")); j; j = json_next(j)) {
        const char *key = json_key(j), *end = key ? strstr(key, ending) : NULL;
        char name[240];
        if (!end) return fail(PEFT_EFORMAT, "rank_pattern names %s, expected a module%s",
                              key ? key : "nothing", ending);
        snprintf(name, sizeof(name), "%.*s", (int)MIN(end - key, 239), key);
        if (!adapter_has_ending(name, module) && !adapter_has_ending(name, other)) continue;
        *rank = 0;
        if (json_kind(j) != JSON_ARRAY || json_count(j) != a->rank)
            return fail(PEFT_EFORMAT, "rank_pattern of %s is %s of %lld members, expected %d "
                        "booleans", module, json_kind_name(j), (long long)json_count(j), a->rank);
        for (const json *b = json_first(j); b; b = json_next(b)) *rank += json_bool(b, 0);
        return PEFT_OK;
    }
    return PEFT_OK;
}

int settings_rank(const struct adapter *a, const json *config, const char *module,
                  const char *other, int32_t *rank, float *alpha)
{
    double r = pattern(config, "rank_pattern", module, other, a->rank);
    double al = pattern(config, "alpha_pattern", module, other, a->alpha);
    *rank = a->rank;
    *alpha = a->alpha;
    if (!a->method->patterns || !config) return PEFT_OK;
    if (a->method->patterns == PATTERN_MASK) return mask_rank(a, config, module, other, rank);
    if (!(r >= 1 && r <= 1 << 16 && r == floor(r) && fabs(al) < FLT_MAX))
        return fail(PEFT_EFORMAT, "%s is given rank %g and alpha %g", module, r, al);
    *rank = (int32_t)r;
    *alpha = (float)al;
    return PEFT_OK;
}

/* 1 = the key is one of the method's. */
static int is_known(const struct method *m, const char *key)
{
    const struct method_setting *s = m->settings;
    while (s && s->key && strcmp(s->key, key)) s++;
    const char *tokens = tokens_key(m);
    if ((s && s->key) || (tokens && !strcmp(tokens, key))) return 1;
    if (m->patterns && !strcmp(key, "ensure_weight_tying")) return 1;
    return m->patterns == PATTERN_NUMBER && strstr("rank_pattern alpha_pattern", key) != NULL;
}

int settings_parse(struct model *m, struct adapter *a, const char *text, json **out)
{
    if (!text) return PEFT_OK;
    int rc = json_parse(text, (int64_t)strlen(text), "settings", out);
    if (rc) return rc;
    if (json_kind(*out) != JSON_OBJECT)
        return fail(PEFT_EARG, "settings are %s, expected a JSON object", json_kind_name(*out));
    for (const json *j = json_first(*out); j; j = json_next(j))
        if (!is_known(a->method, json_key(j)))
            return fail(PEFT_EARG, "method %s has no setting \"%s\", expected one such as \"%s\"",
                        a->method->name, json_key(j),
                        a->method->settings ? a->method->settings->key : "(none)");
    a->ties = (uint8_t)json_bool(json_get(*out, "ensure_weight_tying"), a->ties);
    return settings_read(m, a, *out);
}

void settings_write(const struct adapter *a, struct buf *b, int *n)
{
    for (const struct method_setting *s = a->method->settings; s && s->key; s++) {
        put_member(b, s->key, n);
        if (s->kind == 'b') buf_puts(b, get_number(a, s) != 0 ? "true" : "false");
        else if (!strchr("ns", s->kind)) buf_number(b, get_number(a, s));
        if (!strchr("ns", s->kind)) continue;
        const char *names = *(const char *const *)(const void *)((const char *)a + s->at);
        if (s->kind == 's') {
            if (names) buf_json(b, names, (int64_t)strlen(names));
            else buf_puts(b, "null");
            continue;
        }
        buf_puts(b, "[");
        for (const char *t = names; t && *t;) {
            size_t k = strcspn(t, ",");
            buf_json(b, t, (int64_t)k);
            t += k + (t[k] == ',');
            buf_puts(b, *t ? ", " : "");
        }
        buf_puts(b, "]");
    }
}
