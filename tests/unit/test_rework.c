/* Formats of training data turned into each other and back, and questions with answers
 * found in texts. */
#include "kit.h"
#include "peft_data.h"
#include "base/json.h"

static const char *const formats[] = { "alpaca", "sharegpt", "messages", "prompt-completion",
                                       "preference", "text" };

/* Rows of each format; the last member of all is a column of the user's. */
static const char alpaca[] =
    "{\"instruction\": \"Add\", \"input\": \"1 2\", \"output\": \"3\", \"id\": 7}\n"
    "{\"instruction\": \"Greet\", \"input\": \"\", \"output\": \"hi\", \"id\": \"x\"}\n"
    "{\"instruction\": \"Greet\", \"output\": \"hi\", \"system\": \"Be terse\", \"history\": "
    "[[\"a?\", \"b\"], [\"c?\", \"d\"]], \"id\": 1}\n"
    "{\"instruction\": \"A\\nB\", \"input\": \"C\\nD\", \"output\": \"y\", \"history\": [], "
    "\"id\": 2}\n";
static const char preference[] =
    "{\"prompt\": \"q\", \"chosen\": \"good\", \"rejected\": \"bad\", \"margin\": 2}\n"
    "{\"prompt\": [{\"role\": \"user\", \"content\": \"q\"}], \"chosen\": [{\"role\": "
    "\"assistant\", \"content\": \"a\"}], \"rejected\": [{\"role\": \"assistant\", "
    "\"content\": \"b\"}], \"id\": 3}\n"
    "{\"chosen\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", "
    "\"content\": \"a\"}], \"rejected\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": "
    "\"assistant\", \"content\": \"b\"}], \"id\": 4}\n"
    "{\"conversations\": [{\"from\": \"human\", \"value\": \"a\"}], \"chosen\": {\"from\": "
    "\"gpt\", \"value\": \"b\"}, \"rejected\": {\"from\": \"gpt\", \"value\": \"c\"}, \"id\": 5}\n"
    "{\"instruction\": \"do\", \"input\": \"it\", \"chosen\": \"ok\", \"rejected\": \"no\", "
    "\"id\": 6}\n";
static const char messages[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", "
    "\"content\": \"yo\"}], \"id\": [1, {\"a\": null}]}\n"
    "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", "
    "\"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}, {\"role\": \"user\", "
    "\"content\": \"c\"}, {\"role\": \"assistant\", \"content\": \"d\", \"train\": true}], "
    "\"id\": 1}\n"
    "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"e\"}]}, "
    "{\"role\": \"assistant\", \"content\": \"f\"}], \"id\": 2}\n";
static const char tools[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"w?\"}, {\"role\": \"assistant\", "
    "\"tool_calls\": [{\"id\": \"1\", \"type\": \"function\", \"function\": {\"name\": \"f\", "
    "\"arguments\": {\"x\": 1}}}]}, {\"role\": \"tool\", \"content\": \"5\"}, {\"role\": "
    "\"assistant\", \"content\": \"y\"}], \"id\": 3}\n";
static const char sharegpt[] =
    "{\"conversations\": [{\"from\": \"system\", \"value\": \"s\"}, {\"from\": \"human\", "
    "\"value\": \"a\"}, {\"from\": \"gpt\", \"value\": \"b\"}], \"id\": 0}\n"
    "{\"conversations\": [{\"from\": \"human\", \"value\": \"a\"}, {\"from\": \"gpt\", "
    "\"value\": \"b\"}], \"system\": \"S\", \"id\": 1}\n"
    "{\"conversations\": [{\"from\": \"user\", \"value\": \"a\"}, {\"from\": \"assistant\", "
    "\"value\": \"b\"}], \"id\": 2}\n";
static const char completion[] =
    "{\"prompt\": \"a\", \"completion\": \"b\", \"id\": 0}\n"
    "{\"prompt\": [{\"role\": \"user\", \"content\": \"a\"}], \"completion\": [{\"role\": "
    "\"assistant\", \"content\": \"b\"}], \"id\": 1}\n"
    "{\"prompt\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", "
    "\"content\": \"x\"}, {\"role\": \"user\", \"content\": \"y\"}], \"completion\": [{\"role\": "
    "\"assistant\", \"content\": \"b\"}], \"id\": 2}\n";
static const char text[] =
    "{\"text\": \"### Instruction:\\na\\n\\n### Input:\\nb\\n\\n### Response:\\nc\", \"id\": 0}\n"
    "{\"text\": \"### Instruction:\\na\\n\\n### Response:\\nc\", \"id\": 1}\n";

static const char *convert_with(const char *from, const char *to, peft_data_convert_opts *o,
                                peft_data_converted *r)
{
    static char out[256];
    static int n;
    snprintf(out, sizeof out, "%s/out%d.jsonl", kit_dir, n++);
    o->size = sizeof *o;
    o->to = to;
    r->size = sizeof *r;
    OK(peft_data_convert(from, out, o, r));
    return out;
}

/* Members of one object are in the other; lists in order. */
static int same(const json *a, const json *b)
{
    if (json_kind(a) != json_kind(b) || json_count(a) != json_count(b)) return 0;
    if (json_kind(a) == JSON_STRING) return !strcmp(json_string(a), json_string(b));
    if (json_kind(a) == JSON_NUMBER) return !(json_number(a, 0) != json_number(b, 0));
    const json *y = json_first(b);
    for (const json *x = json_first(a); x; x = json_next(x), y = json_next(y))
        if (!same(x, json_key(x) ? json_get(b, json_key(x)) : y)) return 0;
    return 1;
}

static int same_rows(const char *a, const char *b)
{
    int n = 0;
    while (*a && *b) {
        size_t i = strcspn(a, "\n"), k = strcspn(b, "\n");
        json *x = NULL, *y = NULL;
        if (json_parse(a, (int64_t)i, "a", &x) || json_parse(b, (int64_t)k, "b", &y)) return -1;
        int ok = same(x, y);
        if (!ok) printf("%.*s\n  came back as\n%.*s\n", (int)i, a, (int)k, b);
        json_free(x);
        json_free(y);
        if (!ok) return -1;
        n++;
        a += i + (a[i] == '\n');
        b += k + (b[k] == '\n');
    }
    return *a || *b ? -1 : n;
}

static void round_trip(const char *format, const char *rows, int64_t n, const char *cannot)
{
    char in_path[256];
    snprintf(in_path, sizeof in_path, "%s", put(in("rows.jsonl"), rows));
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        peft_data_convert_opts o = { 0 }, back = { .from = formats[i] };
        peft_data_converted r = { 0 };
        if (!strcmp(formats[i], format) || strstr(cannot, formats[i])) continue;
        char mid[256];
        snprintf(mid, sizeof mid, "%s", convert_with(in_path, formats[i], &o, &r));
        CHECK_STR(r.from, format);
        CHECK_EQ(r.rows, n);
        struct bytes b = get(convert_with(mid, format, &back, &r));
        CHECK_EQ(same_rows(rows, b.at), n);
        free(b.at);
    }
}

static void test_round_trips(void)
{
    round_trip("alpaca", alpaca, 4, "preference");
    round_trip("preference", preference, 5, "");
    round_trip("messages", messages, 3, "preference");
    round_trip("messages", tools, 1, "preference alpaca text");
    round_trip("sharegpt", sharegpt, 3, "preference");
    round_trip("prompt-completion", completion, 3, "preference");
    round_trip("text", text, 2, "preference");
}

static void test_what_is_written(void)
{
    peft_data_convert_opts o = { .drop = 1 };
    peft_data_converted r = { 0 };
    struct bytes b = get(convert_with(put(in("a.jsonl"), alpaca), "messages", &o, &r));
    CHECK(!strncmp(b.at, "{\"messages\": [{\"role\": \"user\", \"content\": \"Add\\n1 2\"}, "
                         "{\"role\": \"assistant\", \"content\": \"3\"}], \"id\": 7}\n", 60));
    CHECK(!strstr(b.at, "kept"));
    free(b.at);
    b = get(convert_with(put(in("p.jsonl"), preference), "prompt-completion", &o, &r));
    CHECK(!strncmp(b.at, "{\"prompt\": \"q\", \"completion\": \"good\", \"margin\": 2}\n", 51));
    CHECK(strstr(r.columns, "rejected") && r.kept == 5);
    free(b.at);
    o = (peft_data_convert_opts){ 0 };
    b = get(convert_with(put(in("t.jsonl"), tools), "sharegpt", &o, &r));
    CHECK(strstr(b.at, "{\"from\": \"function_call\", \"value\": \"{\\\"name\\\": \\\"f\\\", "
                       "\\\"arguments\\\": {\\\"x\\\": 1}}\"}, {\"from\": \"observation\""));
    free(b.at);
    b = get(convert_with(put(in("s.jsonl"), sharegpt), "text", &o, &r));
    CHECK(strstr(b.at, "{\"text\": \"S\\n\\n### Instruction:\\na\\n\\n### Response:\\nb\""));
    free(b.at);
}

static void test_changed_since(void)
{
    peft_data_convert_opts o = { 0 };
    peft_data_converted r = { 0 };
    struct bytes b = get(convert_with(put(in("p.jsonl"), preference), "messages", &o, &r));
    CHECK_EQ(r.kept, 5);
    char *at = strstr(b.at, "\"q\"");
    at[1] = 'Q';
    put(in("edited.jsonl"), b.at);
    free(b.at);
    o.skip = 1;
    b = get(convert_with(in("edited.jsonl"), "preference", &o, &r));
    CHECK(r.stale == 0 || r.stale == 1);
    CHECK(r.restored == 4 && r.skipped == 1);
    free(b.at);
}

static const char faq[] =
    "# FAQ\nIntro.\n\n## 1. How do I reset it?\nPress it.\n\n- long\n\n```\n# no heading?\n```\n\n"
    "### Is it safe?\n\nYes.\n\n## Contact\nMail us.\n\n**Can I return it?**\n\nIn 30 days.\n\n"
    "| No | Question | Answer |\n|---|:---|---|\n| 1 | Where? | Here \\| there |\n"
    "| 2 | When? | Now |\n\nQ: What is\nthis?\nA: A test.\nMore.\n\n"
    "**Q2:** Bold?\n**A2:** Indeed.\n\n"
    "Underlined?\n-----------\nOf course.\n";
static const char *const faq_pairs[][2] = {
    { "How do I reset it?", "Press it.\n\n- long\n\n```\n# no heading?\n```" },
    { "Is it safe?", "Yes." }, { "Can I return it?", "In 30 days." },
    { "Where?", "Here | there" }, { "When?", "Now" }, { "What is\nthis?", "A test.\nMore." },
    { "Bold?", "Indeed." }, { "Underlined?", "Of course." } };

static void test_faq(void)
{
    peft_data_convert_opts o = { 0 };
    peft_data_converted r = { 0 };
    struct bytes b = get(convert_with(put(in("faq.md"), faq), "prompt-completion", &o, &r));
    const char *at = b.at;
    CHECK_EQ(r.rows, ARRAY_LEN(faq_pairs));
    for (size_t i = 0; i < ARRAY_LEN(faq_pairs) && *at; i++) {
        json *row = NULL;
        size_t n = strcspn(at, "\n");
        OK(json_parse(at, (int64_t)n, "row", &row));
        CHECK_STR(json_string(json_get(row, "prompt")), faq_pairs[i][0]);
        CHECK_STR(json_string(json_get(row, "completion")), faq_pairs[i][1]);
        json_free(row);
        at += n + 1;
    }
    free(b.at);
    o.layout = "Frage: {question}\nAntwort: {answer}\n";
    b = get(convert_with(put(in("d.txt"), "Vorwort\n\nFrage: Was?\nAntwort: Das\nda.\n\nFrage: Und?"
                                          "\nAntwort: Ja\n"), "alpaca", &o, &r));
    CHECK_STR(b.at, "{\"instruction\": \"Was?\", \"input\": \"\", \"output\": \"Das\\nda.\"}\n"
                    "{\"instruction\": \"Und?\", \"input\": \"\", \"output\": \"Ja\"}\n");
    free(b.at);
    b = get(convert_with(put(in("c.csv"), "question,answer\nWhy?,So\n"), "text", &o, &r));
    CHECK_STR(b.at, "{\"text\": \"Frage: Why?\\nAntwort: So\"}\n");
    CHECK_STR(r.from, "question-answer");
    free(b.at);
}

static void test_refusals(void)
{
    const char *out = in("no.jsonl"), *rows = put(in("m.jsonl"), messages);
    peft_data_convert_opts o = { .size = sizeof o, .to = "preference" };
    REFUSED(peft_data_convert(rows, out, &o, NULL), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "line 1: preference cannot hold"));
    o.to = "alpaca";
    REFUSED(peft_data_convert(put(in("t.jsonl"), tools), out, &o, NULL), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "function calls"));
    o.to = "chatml";
    REFUSED(peft_data_convert(rows, out, &o, NULL), PEFT_EARG);
    o.to = "messages";
    REFUSED(peft_data_convert(rows, out, &o, NULL), PEFT_EARG);
    REFUSED(peft_data_convert(put(in("x.jsonl"), "{\"a\": 1}"), out, &o, NULL), PEFT_EFORMAT);
    REFUSED(peft_data_convert(put(in("e.jsonl"), ""), out, &o, NULL), PEFT_EDATA);
    REFUSED(peft_data_convert(put(in("n.txt"), "No question."), out, &o, NULL), PEFT_EDATA);
    put(in("mixed.jsonl"), "{\"instruction\": \"a\", \"output\": \"b\"}\n{\"messages\": []}\n");
    REFUSED(peft_data_convert(in("mixed.jsonl"), out, &o, NULL), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "line 2") && strstr(peft_errmsg(), "found messages"));
    put(in("bad.jsonl"), "{\"prompt\": \"a\", \"completion\": \"b\"}\n"
                         "{\"prompt\": \"a\", \"completion\": 3}\n");
    REFUSED(peft_data_convert(in("bad.jsonl"), out, &o, NULL), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "line 2: \"completion\": expected a string, found a number"));
    static const char *const wrong[] = { "{question}", "{question}{answer}", "none",
                                         "{question} {answer} {question}" };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        o.layout = wrong[i];
        REFUSED(peft_data_convert(in("n.txt"), out, &o, NULL), PEFT_EARG);
    }
    CHECK(access(out, F_OK));
    o = (peft_data_convert_opts){ .size = sizeof o, .to = "sharegpt" };
    put(out, "mine");
    REFUSED(peft_data_convert(rows, out, &o, NULL), PEFT_ESTATE);
}

int main(void)
{
    kit_begin();
    RUN(test_round_trips);
    RUN(test_what_is_written);
    RUN(test_changed_since);
    RUN(test_faq);
    RUN(test_refusals);
    kit_end();
    return TEST_END();
}
