/* A chat template: parsed and rendered; after a NUL the variables as JSON. */
#include "fuzz/fuzz.h"
#include "text/jinja.h"

static const char variables[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"be brief\"},"
    "{\"role\": \"user\", \"content\": \"<b>h\\u00e9llo</b> 12\"},"
    "{\"role\": \"assistant\", \"content\": \"a\", \"tool_calls\": [{\"id\": \"x\", \"function\":"
    "{\"name\": \"f\", \"arguments\": {\"k\": [1, 2.5, null, true]}}}]}],"
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\"}}],"
    "\"add_generation_prompt\": true, \"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}";
static const struct date friday = { 2024, 7, 26, 13, 5, 9, 5, 208 };

static void render(struct host *h, const struct jinja *t, const json *vars)
{
    struct jrun r;
    struct buf out;
    struct ids spans;
    buf_init(&out, &h->mem);
    ids_init(&spans, &h->mem);
    jinja_begin(&r, &h->mem);
    r.now = &friday;
    for (const json *v = json_first(vars); v; v = json_next(v))
        jinja_var(&r, json_key(v), jv_json(&r, v));
    int rc = r.rc ? r.rc : jinja_render(t, &r, &out, &spans);
    if (fine(rc)) {
        RULE(utf8_check(out.data, out.n) == out.n && out.n <= JINJA_OUTPUT);
        for (int64_t i = 0; i < spans.n; i++) RULE(spans.v[i] >= 0 && spans.v[i] <= out.n);
    }
    jinja_end(&r);
    buf_free(&out);
    ids_free(&spans);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct host *h = begin_host();
    const char *text = (const char *)data, *nul = size ? memchr(data, 0, size) : NULL;
    int64_t n = nul ? nul - text : (int64_t)size;
    const char *given = nul ? nul + 1 : variables;
    int64_t given_n = nul ? (int64_t)size - n - 1 : (int64_t)sizeof variables - 1;
    struct arena a;
    struct jinja *t;
    json *vars = NULL;
    arena_init(&a, &h->mem);
    if (utf8_check(text, n) == n &&
        read_file(jinja_parse(&a, text, n, &t), "chat template", (int64_t)size)) {
        if (json_parse(given, given_n, "variables", &vars) || json_kind(vars) == JSON_OBJECT)
            render(h, t, vars);
    }
    json_free(vars);
    arena_free(&a);
    end();
    return 0;
}
