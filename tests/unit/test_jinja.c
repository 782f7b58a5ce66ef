/* The Jinja interpreter: templates of known families against the output of
 * Python's jinja2 (tests/golden/make_jinja.py), and templates that mean harm. */
#include <stdlib.h>

#include "test.h"
#include "text/jinja.h"

#define GOLDEN "tests/golden/jinja.jsonl"
enum { MOST = 64 };

static struct mem mem;
static const char *names[MOST], *templates[MOST];
static const json *chats[MOST], *rows[MOST * MOST];
static json *lines[MOST * MOST + 2 * MOST];
static int n_lines, n_templates, n_chats, n_rows;

static void read_golden(void)
{
    static char line[1 << 17];
    FILE *f = fopen(GOLDEN, "r");
    CHECK(f != NULL);
    while (f && fgets(line, sizeof line, f) && n_lines < MOST * MOST) {
        json *j = NULL;
        CHECK_EQ(json_parse(line, (int64_t)strlen(line), GOLDEN, &j), 0);
        lines[n_lines++] = j;
        if (json_get(j, "template")) {
            names[n_templates] = json_string(json_get(j, "name"));
            templates[n_templates++] = json_string(json_get(j, "template"));
        } else if (json_get(j, "chat")) {
            chats[n_chats++] = json_get(j, "chat");
        } else {
            rows[n_rows++] = j;
        }
    }
    if (f) fclose(f);
}

static const struct date friday = {2024, 7, 26, 13, 5, 9, 5, 208};

/* Renders with the members of `vars` as variables; the result's code. */
static int render(const char *text, const json *vars, struct buf *out, struct ids *spans)
{
    struct arena a;
    struct jinja *t;
    struct jrun r;
    arena_init(&a, &mem);
    buf_clear(out);
    int rc = jinja_parse(&a, text, (int64_t)strlen(text), &t);
    if (rc == PEFT_OK) {
        jinja_begin(&r, &mem);
        r.now = &friday;
        jinja_var(&r, "tools", jv_none());
        jinja_var(&r, "documents", jv_none());
        for (const json *v = json_first(vars); v; v = json_next(v))
            jinja_var(&r, json_key(v), jv_json(&r, v));
        rc = r.rc ? r.rc : jinja_render(t, &r, out, spans);
        jinja_end(&r);
    }
    arena_free(&a);
    return rc;
}

static bool same_spans(const struct ids *spans, const json *want)
{
    int64_t i = 0;
    for (const json *j = json_first(want); j; j = json_next(j), i++)
        if (i >= spans->n || spans->v[i] != (int32_t)json_number(j, -1)) return false;
    return i == spans->n;
}

static void test_families(void)
{
    struct buf out;
    struct ids spans;
    int same = 0, refused = 0;
    buf_init(&out, &mem);
    ids_init(&spans, &mem);
    for (int i = 0; i < n_rows; i++) {
        int t = (int)json_number(json_get(rows[i], "t"), 0);
        int c = (int)json_number(json_get(rows[i], "c"), 0);
        const char *want = json_string(json_get(rows[i], "out"));
        spans.n = 0;
        int rc = render(templates[t], chats[c], &out, &spans);
        bool ok = want ? rc == PEFT_OK && !strcmp(buf_str(&out), want) &&
                         same_spans(&spans, json_get(rows[i], "spans"))
                       : rc == PEFT_EDATA;
        same += ok && want;
        refused += ok && !want;
        if (ok) continue;
        printf("template %s, chat %d: %d [%s]\n  got  %s\n  want %s\n", names[t], c, rc,
               peft_errmsg(), rc ? "" : buf_str(&out), want ? want : "(refusal)");
        CHECK(ok);
    }
    CHECK_EQ(same + refused, n_templates * n_chats);
    CHECK(n_templates >= 40 && n_chats == 10 && refused > 50);
    ids_free(&spans);
    buf_free(&out);
    CHECK_EQ(mem.live, 0);
}

struct one { const char *text; int rc; const char *want; };

static void check_ones(const struct one *v, size_t n)
{
    struct buf out;
    buf_init(&out, &mem);
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ(render(v[i].text, NULL, &out, NULL), v[i].rc);
        if (v[i].rc) CHECK(strstr(peft_errmsg(), v[i].want) != NULL);
        else CHECK_STR(buf_str(&out), v[i].want);
    }
    buf_free(&out);
}

static void test_values(void)
{
    static const struct one v[] = {
        {"{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }}", 0,
         "3 -4 2 3.5 1024 0.5"},
        {"{{ 1e16 }} {{ 1e15 }} {{ 0.0001 }} {{ 0.00001 }} {{ 1/3 }} {{ -0.0 }}", 0,
         "1e+16 1000000000000000.0 0.0001 1e-05 0.3333333333333333 -0.0"},
        {"{{ 'a\\n\\'\\u00e9\\x41' }}{{ \"x\" 'y' }}", 0, "a\n'\xc3\xa9""Axy"},
        {"{{ ['it\\'s', \"q\\\"\", '\\n', 'é', '\\u200b'] }}", 0,
         "[\"it's\", 'q\"', '\\n', '\xc3\xa9', '\\u200b']"},
        {"{{ 1 < 2 < 3 }}{{ 1 < 3 < 2 }}{{ 'a' in 'cat' }}{{ 2 not in [1] }}{{ not 1 == 1.0 }}", 0,
         "TrueFalseTrueTrueFalse"},
        {"{{ 'h\xc3\xa9llo'[1] }}{{ 'h\xc3\xa9llo'[-4:] }}{{ 'h\xc3\xa9llo'[::-2] }}", 0,
         "\xc3\xa9\xc3\xa9lloolh"},
        {"{{ x }}{{ x is defined }}{{ x|default('d') }}{{ [x, none] }}{{ x == y }}", 0,
         "Falsed[Undefined, None]True"},
        {"{{ ''.__class__ }}{{ {}.pop }}{{ [].append }}{{ 'x'['__len__'] }}", 0, ""},
        {"{{ '<a>' ~ '<b>'|e }} {{ '<a>' + '<b>'|e }}", 0, "<a>&lt;b&gt; &lt;a&gt;&lt;b&gt;"},
        {"{{ strftime_now('%d %b %Y %H:%M:%S %A %B %Y-%m-%d') }}", 0,
         "26 Jul 2024 13:05:09 Friday July 2024-07-26"},
        {"{% set ns = namespace(n=0) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}"
         "{% set z = 1 %}{% endfor %}{{ ns.n }}{{ z is defined }}", 0, "6False"},
        {"{% macro f(a, b='B') %}[{{ a }}{{ b }}{{ varargs }}{{ kwargs }}]{% endmacro %}"
         "{{ f(1, 2, 3, k=4) }}{{ f(b=1) }}", 0, "[12(3,){'k': 4}][1(){}]"},
        {"{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{% endfor %}"
         "{% for a, (b, c) in [[1, [2, 3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}", 0, "a1b2123"},
        {"{% set g = [1, 2]|map('string') %}{{ g|join }}{{ g|join }}", 0, "12"},
        {"  {% if true %}\n a\n  {%- endif %}\n{#- c #}\n b {%+ if true +%}\nc{% endif %}\n", 0,
         " a b \nc"},
        {"{{ {'b': 1, 'a': [1.0, none, true, '\\x7f\\x01\"']}|tojson(sort_keys=true) }}", 0,
         "{\"a\": [1.0, null, true, \"\x7f\\u0001\\\"\"], \"b\": 1}"},
        {"{{ 2.5|round }}{{ 2.675|round(2) }}{{ -1.5|round(0, 'floor') }}{{ '42.9'|int }}"
         "{{ 'x'|int(7) }}{{ '1_0'|float }}", 0, "2.02.67-2.042710.0"},
    };
    check_ones(v, ARRAY_LEN(v));
}

static void test_errors(void)
{
    static const struct one v[] = {
        {"\n{{ x.y }}", PEFT_EDATA, "line 2: \"x\" is undefined"},
        {"{{ raise_exception('no\\nway ' ~ 1) }}", PEFT_EDATA, "no?way 1 (line 1"},
        {"{{ 1 + 'a' }}", PEFT_EDATA, "int and str"},
        {"{{ [1] < 1 }}", PEFT_EDATA, "no order"},
        {"{{ 9223372036854775807 + 1 }}", PEFT_EDATA, "63 bits"},
        {"{{ 99999999999999999999 }}", PEFT_EFORMAT, "63 bits"},
        {"{{ 1 // 0 }}", PEFT_EDATA, "zero"},
        {"{{ x|nothing }}", PEFT_EUNSUPPORTED, "no filter named \"nothing\""},
        {"{{ x is nothing }}", PEFT_EUNSUPPORTED, "no test named \"nothing\""},
        {"{% include 'file' %}", PEFT_EUNSUPPORTED, "include"},
        {"{% import 'os' as os %}", PEFT_EUNSUPPORTED, "import"},
        {"a\nb{% if x %}", PEFT_EFORMAT, "line 2: the template ends without {% endif %}"},
        {"{% for x in y %}{% endif %}", PEFT_EFORMAT, "endif"},
        {"{{ 'abc }}", PEFT_EFORMAT, "never closed"},
        {"{# abc", PEFT_EFORMAT, "never closed"},
        {"{{ (1] }}", PEFT_EFORMAT, "bracket"},
        {"{{ a b }}", PEFT_EFORMAT, "expected"},
        {"{{ $ }}", PEFT_EFORMAT, "\"$\""},
        {"{% break %}", PEFT_EFORMAT, "outside a loop"},
        {"{% set 1 = 2 %}", PEFT_EFORMAT, "assigned"},
        {"{% set a.b = 2 %}", PEFT_EDATA, "assigned"},
        {"\xff", PEFT_EFORMAT, "UTF-8"},
    };
    check_ones(v, ARRAY_LEN(v));
    CHECK_EQ(mem.live, 0);
}

/* `head`, then `part` n times, then `tail` n times. */
static char *repeated(const char *head, const char *part, const char *tail, int n)
{
    size_t size = strlen(head) + (size_t)n * (strlen(part) + strlen(tail)) + 1, at = strlen(head);
    char *s = malloc(size);
    memcpy(s, head, at);
    for (int i = 0; i < 2 * n; i++) {
        const char *add = i < n ? part : tail;
        memcpy(s + at, add, strlen(add));
        at += strlen(add);
    }
    s[at] = 0;
    return s;
}

static void test_limits(void)
{
    static const struct one v[] = {
        {"{% for i in range(100001) %}{% endfor %}", PEFT_EDATA, "range"},
        {"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
         PEFT_EDATA, "steps"},
        {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", PEFT_EDATA, "too deep"},
        {"{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", PEFT_EDATA, "too deep"},
        {"{{ 'x' * 100000000 }}", PEFT_EDATA, "MiB"},
        {"{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(99) %}"
         "{% set ns.s = ns.s + ns.s %}{% endfor %}", PEFT_EDATA, "MiB"},
        {"{% set ns = namespace(s=['xxxxxxxx']) %}{% for i in range(99) %}"
         "{% set ns.s = ns.s + ns.s %}{% endfor %}", PEFT_EDATA, "more than"},
        {"{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", PEFT_EDATA, "MiB"},
        {"{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}", PEFT_EDATA, "too deep"},
        {"{% set ns = namespace(a=[]) %}{% for i in range(2000) %}{% set ns.a = [ns.a] %}"
         "{% endfor %}{{ ns.a|tojson }}", PEFT_EDATA, "too deep"},
        {"{% set ns = namespace(a=[]) %}{% for i in range(40) %}{% set ns.a = [ns.a, ns.a] %}"
         "{% endfor %}{{ ns.a == [ns.a] }}{{ ns.a }}", PEFT_EDATA, "steps"},
        {"{{ range(-9223372036854775807, 9223372036854775807) }}", PEFT_EDATA, "range"},
        {"{{ 'ab'.replace('', 'x' * 16000000) }}", PEFT_EDATA, "MiB"},
        {"{{ (range(99999)|list|tojson(indent=60) * 9) }}", PEFT_EDATA, "M"},
    };
    static const struct { const char *head, *part, *tail; int rc; } deep[] = {
        {"{{ ", "(", ")", PEFT_EFORMAT}, {"{{ ", "[", "]", PEFT_EFORMAT},
        {"{{ ", "not ", "", PEFT_EFORMAT}, {"{{ ", "- ", "", PEFT_EFORMAT},
        {"{{ x", ".a", " ", PEFT_EFORMAT}, {"{{ x", "|e", " ", PEFT_EFORMAT},
        {"", "{% if 1 %}", "{% endif %}", PEFT_EFORMAT},
        {"", "{% for a in b %}", "", PEFT_EFORMAT},
        {"", "{% macro a() %}", "", PEFT_EFORMAT}, {"{{ ", "1 if ", "", PEFT_EFORMAT},
        {"{{ ", "{1:", "}", PEFT_EFORMAT}, {"{{ ", "a(", ")", PEFT_EFORMAT},
        {"", "{#", "", PEFT_EFORMAT}, {"", "{% raw %}", "", PEFT_EFORMAT},
        {"{{ 1 ", "+1", "", PEFT_EFORMAT}, {"{% if 1 %}", "{% elif 1 %}", "", PEFT_EFORMAT},
    };
    struct buf out;
    buf_init(&out, &mem);
    check_ones(v, ARRAY_LEN(v));
    for (size_t i = 0; i < ARRAY_LEN(deep); i++) {
        for (int n = 3; n < 50000; n *= 6) {
            char *s = repeated(deep[i].head, deep[i].part, deep[i].tail, n);
            CHECK(render(s, NULL, &out, NULL) <= 0);
            if (n > 1000) CHECK_EQ(render(s, NULL, &out, NULL), deep[i].rc);
            free(s);
        }
    }
    /* Long chains are not deep until they are worked through. */
    char *s = repeated("{% set x = {} %}{{ 1", "+1", "", 20000);
    size_t n = strlen(s);
    s = realloc(s, n + 4);
    memcpy(s + n, " }}", 4);
    CHECK_EQ(render(s, NULL, &out, NULL), 0);
    CHECK_STR(buf_str(&out), "20001");
    free(s);
    s = repeated("", "x", "", 1 << 20);
    CHECK_EQ(render(s, NULL, &out, NULL), 0);
    CHECK_EQ(out.n, 1 << 20);
    free(s);
    s = repeated("y", "x", "", 1 << 20);
    CHECK_EQ(render(s, NULL, &out, NULL), PEFT_EFORMAT);
    free(s);
    buf_free(&out);
    CHECK_EQ(mem.live, 0);
}

/* Every beginning of templates, and with any byte replaced, ends in some
 * answer; what is wrong with them is not compared. */
static void test_broken(void)
{
    static const char marks[] = "{}%#-'\"([])|. \n\\";
    static const char *const which[] = {"llama3.1", "smollm3", "qwen3"};
    struct buf out;
    int64_t n_ok = 0;
    buf_init(&out, &mem);
    for (int t = 0; t < n_templates; t++) {
        bool chosen = false;
        for (size_t k = 0; k < ARRAY_LEN(which); k++) chosen |= !strcmp(names[t], which[k]);
        if (!chosen) continue;
        size_t n = strlen(templates[t]);
        for (size_t i = 0; i < n; i++) {
            char *s = malloc(n + 1);
            memcpy(s, templates[t], i);
            s[i] = 0;
            n_ok += render(s, chats[i % 10], &out, NULL) == PEFT_OK;
            memcpy(s, templates[t], n + 1);
            s[i] = marks[(i * 7) % (sizeof marks - 1)];
            n_ok += render(s, chats[i % 10], &out, NULL) == PEFT_OK;
            free(s);
        }
    }
    CHECK(n_ok > 0);
    buf_free(&out);
    CHECK_EQ(mem.live, 0);
}

/* Without memory at any point: the failure is reported and nothing is left. */
static int64_t allowed;
static void *scarce(void *ctx, void *ptr, size_t old, size_t size)
{
    (void)ctx;
    (void)old;
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    return allowed-- > 0 ? realloc(ptr, size) : NULL;
}

static void test_no_memory(void)
{
    struct buf out;
    int rc = PEFT_ENOMEM;
    mem_init(&mem, scarce, NULL);
    for (int64_t n = 0; n < 4000 && rc == PEFT_ENOMEM; n++) {
        buf_init(&out, &mem);
        allowed = n;
        rc = render(templates[6], chats[6], &out, NULL);
        if (rc == PEFT_OK) rc = buf_check(&out);
        buf_free(&out);
        CHECK_EQ(mem.live, 0);
    }
    CHECK_EQ(rc, 0);
    mem_init(&mem, NULL, NULL);
}

int main(void)
{
    mem_init(&mem, NULL, NULL);
    read_golden();
    RUN(test_families);
    RUN(test_values);
    RUN(test_errors);
    RUN(test_limits);
    RUN(test_broken);
    RUN(test_no_memory);
    for (int i = 0; i < n_lines; i++) json_free(lines[i]);
    return TEST_END();
}
