/* peft_data_normalize: what each rule makes of a text, what it leaves alone, and that a file
 * appears whole or not at all. */

#include "full.h"
#include "peft_data.h"

static const struct { const char *rules, *form, *row, *want; } cases[] = {
    /* lines, control, space: on by themselves. */
    {NULL, NULL, "{\"text\":\"a\\r\\nb\\rc\\u2028d\\fe\"}", "a\nb\nc\nd\ne"},
    {NULL, NULL, "{\"text\":\"a\\u0001b\\u200bc\\ufeffd\\u202ee\\u00adf\\u0085g\"}", "abcdef\ng"},
    {NULL, NULL, "{\"text\":\"\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7 x\"}",
     "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7 x"},
    {NULL, NULL, "{\"text\":\"a\xf3\xa0\x81\x81\xf3\xa0\x81\x82\"}", "a"},
    {NULL, NULL, "{\"text\":\"\xf0\x9f\x8f\xb4\xf3\xa0\x81\xa7\xf3\xa0\x81\xbf\"}",
     "\xf0\x9f\x8f\xb4\xf3\xa0\x81\xa7\xf3\xa0\x81\xbf"},
    {NULL, NULL, "{\"text\":\"  a  b\\t\\u00a0c \\n\\n\\n\\n    d\\n\\te \\n\"}",
     "a b c\n\n    d\n\te"},
    {"-space", NULL, "{\"text\":\" a  b \"}", " a  b "},
    {NULL, NULL, "{\"prompt\":\"Q:  x \\n\",\"completion\":\" y\"}", "Q: x \n"},
    /* Normal forms. */
    {NULL, NULL, "{\"text\":\"Cafe\\u0301 \\ufb01 \\u212b\"}",
     "Caf\xc3\xa9 \xef\xac\x81 \xc3\x85"},
    {NULL, "nfkc", "{\"text\":\"\\ufb01 \\u00b2 \\uff21\"}", "fi 2 A"},
    {NULL, "none", "{\"text\":\"Cafe\xcc\x81\"}", "Cafe\xcc\x81"},
    /* HTML. */
    {"html", NULL, "{\"text\":\"<p class='a>b'>x &amp; y</p><br/><!-- c -->z\"}", "x & y\nz"},
    {"html", NULL, "{\"text\":\"<script>if (a</b) x</script >a<style>p{}</style>b\"}", "ab"},
    {"html", NULL, "{\"text\":\"a < b, List<String>, x<y>z &c; &amp &#x; &#0; AT&T\"}",
     "a < b, List<String>, x<y>z &c; &amp &#x; &#0; AT&T"},
    {"html", NULL, "{\"text\":\"&lt;b&gt; &#233;&#xE9;&eacute; &#150; &frac12;\"}",
     "<b> \xc3\xa9\xc3\xa9\xc3\xa9 \xe2\x80\x93 \xc2\xbd"},
    {"html", NULL, "{\"text\":\"<!-- never ends <b>x</b>\"}", "<!-- never ends x"},
    {"html", NULL, "{\"text\":\"<td>1</td><td>2</td> <div\"}", "1 2 <div"},
    /* Markdown. */
    {"markdown", NULL, "{\"text\":\"## T\\n\\n**b** *i* _u_ ~~s~~ `c` ***x***\"}",
     "T\n\nb i u s c x"},
    {"markdown", NULL, "{\"text\":\"[a *b*](http://c) ![d](e.png) <http://f> \\\\*g\\\\*\"}",
     "a b d http://f *g*"},
    {"markdown", NULL, "{\"text\":\"2*3*4 snake_case_x a * b * c 5 > 4 #no [x] **open\"}",
     "2*3*4 snake_case_x a * b * c 5 > 4 #no [x] **open"},
    {"markdown", NULL, "{\"text\":\"> q\\n---\\n```py\\n**x** = [a](b)\\n```\\nend\"}",
     "q\n**x** = [a](b)\nend"},
    /* Boilerplate. */
    {"boilerplate", NULL, "{\"text\":\"Skip to main content\\nReal text.\\nWe use cookies!\\n"
     "\\u00a9 2024 X. All Rights Reserved\"}", "Real text."},
    {"boilerplate", NULL, "{\"text\":\"Privacy Policy\\nAll rights reserved.\"}",
     "Privacy Policy\nAll rights reserved."},
    {"boilerplate", NULL, "{\"text\":\"All rights reserved.\"}", "All rights reserved."},
    /* Other schemas; what is no text, or what positions point into, stays. */
    {NULL, NULL, "{\"messages\":[{\"role\":\"user\",\"content\":\"a  b\"}],\"id\":\"x  y\"}",
     "a b"},
    {NULL, NULL, "{\"text\":\"a  b\",\"spans\":[[0,1,\"X\"]]}", "a  b"},
    {"html", NULL, "{\"tokens\":[\"<b>\",\"x\"],\"tags\":[0,1]}", "<b>"},
};

/* The first string behind the first key but "role", of the first row. */
static char *first_text(char *row)
{
    char *at = strstr(row, "\"content\"");
    at = at ? at + 9 : strchr(strchr(row + 2, '"'), ':');
    while (*at != '"') at++;
    char *to = ++at, *start = at;
    for (; *at != '"'; at++) {
        if (*at == '\\') {
            at++;
            *to++ = *at == 'n' ? '\n' : *at == 't' ? '\t' : *at;
        } else {
            *to++ = *at;
        }
    }
    *to = 0;
    return start;
}

static void test_rules(void)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        peft_normalize_opts o = {.size = sizeof o, .form = cases[i].form, .rules = cases[i].rules};
        put(in("a.jsonl"), cases[i].row);
        OK(peft_data_normalize(in("a.jsonl"), in("b.jsonl"), &o, NULL));
        struct bytes b = get(in("b.jsonl"));
        CHECK_STR(first_text(b.at), cases[i].want);
        if (cases[i].rules) {
            free(b.at);
            continue;
        }
        /* Twice is as once. */
        free(b.at);
        OK(peft_data_normalize(in("b.jsonl"), in("c.jsonl"), &o, NULL));
        b = get(in("b.jsonl"));
        struct bytes c = get(in("c.jsonl"));
        CHECK_STR(c.at, b.at);
        free(b.at);
        free(c.at);
    }
}

static double fact(const peft_tables *t, const char *name)
{
    peft_table s = {.size = sizeof s};
    OK(peft_tables_find(t, "summary", &s));
    for (int64_t i = 0; i < s.n_rows; i++)
        if (!strcmp(s.cells[2 * i].text, name)) return s.cells[2 * i + 1].number;
    return -1;
}

static double rule_rows(const peft_tables *t, const char *name)
{
    peft_table s = {.size = sizeof s};
    OK(peft_tables_find(t, "rules", &s));
    for (int64_t i = 0; i < s.n_rows; i++)
        if (!strcmp(s.cells[5 * i].text, name)) return s.cells[5 * i + 2].number;
    return -1;
}

/* Lines of many rows, rows that stay byte for byte, counts, and any number of threads. */
static void test_file(void)
{
    struct bytes first = {0};
    peft_table t = {.size = sizeof t};
    FILE *f = fopen(in("rows.jsonl"), "w");
    for (int i = 0; i < 4000; i++)
        fprintf(f, "{ \"text\": \"Site %s\\nStory number %d %s\", \"n\": %d.0 }\n",
                i % 2 ? "menu" : "map", i, i % 3 ? "is told." : "is  told.", i);
    fclose(f);
    for (int threads = 1; threads <= 3; threads++) {
        peft_source_opts s = {.size = sizeof s, .threads = threads};
        peft_normalize_opts o = {.size = sizeof o, .source = &s, .repeated = 0.4};
        peft_tables *report = NULL;
        OK(peft_data_normalize(in("rows.jsonl"), in("out.jsonl"), &o, &report));
        CHECK_EQ(fact(report, "rows"), 4000);
        CHECK_EQ(fact(report, "changed"), 4000);
        CHECK_EQ(rule_rows(report, "repeated"), 4000);
        CHECK_EQ(rule_rows(report, "space"), 1334);
        OK(peft_tables_find(report, "examples", &t));
        CHECK_EQ(t.n_rows, 8);
        CHECK_EQ(t.cells[1].number, 1);
        CHECK_EQ(t.cells[8].number, 2);
        peft_tables_free(report);
        struct bytes now = get(in("out.jsonl"));
        if (!first.at) first = now;
        else {
            CHECK(now.n == first.n && !memcmp(now.at, first.at, now.n));
            free(now.at);
        }
    }
    CHECK(!strncmp(first.at, "{\"text\": \"Story number 0 is told.\", \"n\": 0.0}\n", 46));
    free(first.at);
    /* Nothing to do: the same bytes. */
    OK(peft_data_normalize(in("out.jsonl"), in("again.jsonl"), NULL, NULL));
    struct bytes a = get(in("out.jsonl")), b = get(in("again.jsonl"));
    CHECK(a.n == b.n && !memcmp(a.at, b.at, a.n));
    free(a.at);
    free(b.at);
}

/* --- failures */

static int32_t stop_later(void *ctx, int64_t done, int64_t total)
{
    (void)total;
    return ++*(int *)ctx > 3 && done > 0;
}

static void test_failures(void)
{
    real.size = sizeof real;
    os_io_default(&real);
    peft_io full = real;
    full.write = write_some;
    peft_load_opts host = {.size = sizeof host, .io = &full, .alloc = kit_alloc,
                           .alloc_ctx = &kit_mem};
    peft_source_opts s = {.size = sizeof s, .threads = 2, .host = &host};
    peft_normalize_opts o = {.size = sizeof o, .source = &s, .rules = "repeated"};
    int before = files_there(), calls = 0;
    room = 30000;
    REFUSED(peft_data_normalize(in("rows.jsonl"), in("full.jsonl"), &o, NULL), PEFT_EIO);
    CHECK_EQ(files_there(), before);
    room = 1 << 30;
    s.progress = stop_later;
    s.ctx = &calls;
    REFUSED(peft_data_normalize(in("rows.jsonl"), in("out.jsonl"), &o, NULL), PEFT_ECANCELLED);
    CHECK_EQ(files_there(), before);
    s.progress = NULL;
    put(in("bad.jsonl"), "{\"text\":\"a\"}\n{\"text\":\"b\"\n");
    REFUSED(peft_data_normalize(in("bad.jsonl"), in("x.jsonl"), &o, NULL), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "bad.jsonl line 2") != NULL);
    REFUSED(peft_data_normalize(NULL, NULL, NULL, NULL), PEFT_EARG);
    o.rules = "lines,nope";
    REFUSED(peft_data_normalize(in("bad.jsonl"), NULL, &o, NULL), PEFT_EARG);
    o.rules = NULL;
    o.form = "nfd";
    REFUSED(peft_data_normalize(in("bad.jsonl"), NULL, &o, NULL), PEFT_EARG);
    o.form = NULL;
    put(in("few.jsonl"), "{\"text\":\"a  b\\nc\"}\n{\"text\":\"<b>\"}\n");
    o.rules = "html,repeated,boilerplate";
    s.threads = 1;
    for (long at = 1; at < 10000; at++) {
        kit_mem.calls = 0;
        kit_mem.fail_at = at;
        int32_t rc = peft_data_normalize(in("few.jsonl"), in("x.jsonl"), &o, NULL);
        kit_mem.fail_at = 0;
        CHECK_EQ(kit_mem.live, 0);
        if (rc != PEFT_ENOMEM) break;
        CHECK_EQ(files_there(), before + 2);
    }
    CHECK_EQ(files_there(), before + 3);
}

int main(void)
{
    kit_begin();
    RUN(test_rules);
    RUN(test_file);
    RUN(test_failures);
    kit_end();
    return TEST_END();
}
