/* What ids stand for in the text, against Hugging Face's `tokenizers` (the
 * *.spans and hashes of tests/golden/tokenizers), and what encoders keep: words
 * met before, and each other, between threads.  Linear time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/pool.h"
#include "text/text.h"
#include "test.h"

#define GOLDEN "tests/golden/tokenizers/"

static struct host host;

static const char *const kinds[] = {
    "gpt2", "gpt2-prefix", "smollm", "llama3", "cl100k", "qwen2", "nfkc", "nfkd", "bloom",
    "falcon", "roberta", "llama2", "metaspace", "metaspace-first", "gemma", "spm-unk",
    "spm-unk-each", "bert", "bert-cased", "bert-accents", "bert-words", "t5", "t5-spaces", "xlmr",
    "unigram-bytes", "unigram-unk", "old-gpt", "words", "ctc", "norm-bytes", "spm-t5", "spm-xlmr",
    "spm-camembert", "spm-albert", "spm-llama", "spm-gemma",
#ifdef PEFT_PCRE2
    "chars", "o200k", "deepseek", "regex",
#endif
};

static struct tokenizer *open_kind(const char *name)
{
    struct tokenizer *t = NULL;
    char dir[128];
    snprintf(dir, sizeof dir, GOLDEN "%s", name);
    CHECK_EQ(tok_open_folder(&host, dir, &t), 0);
    return t;
}

struct encoding { struct ids ids, types; struct token_spans spans; };

static void encoding_init(struct encoding *e)
{
    ids_init(&e->ids, &host.mem);
    ids_init(&e->types, &host.mem);
    token_spans_init(&e->spans, &host.mem);
}

static void encoding_free(struct encoding *e)
{
    ids_free(&e->ids);
    ids_free(&e->types);
    token_spans_free(&e->spans);
}

static void encode(struct encoding *e, const struct tokenizer *t, const char *a, const char *b)
{
    int64_t n = (int64_t)strlen(a);
    encoding_init(e);
    int rc = b ? tok_encode_pair_spans(&host, t, a, n, b, (int64_t)strlen(b), &e->ids, &e->types,
                                       &e->spans)
               : tok_encode_spans(&host, t, a, n, TOK_SPECIAL, &e->ids, &e->spans);
    CHECK_EQ(rc, 0);
    CHECK_EQ(e->spans.begin.n, e->ids.n);
    CHECK_EQ(e->spans.end.n, e->ids.n);
    CHECK_EQ(e->spans.part.n, e->ids.n);
}

/* --- lengths, with "@begin " where it is not the end of the id before */

static bool spans_equal(const struct token_spans *x, const char *line)
{
    long last = 0;
    int64_t i = 0;
    for (char *end; *line && *line != '\n'; line = end + (*end == ' '), i++) {
        if (*line == '@') last = strtol(line + 1, &end, 10), line = end;
        long from = last;
        last += strtol(line, &end, 10);
        if (end == line || i >= x->begin.n || x->begin.v[i] != from || x->end.v[i] != last)
            return false;
    }
    return i == x->begin.n;
}

static void check_spans(const char *folder, const char *texts, const char *spans, int64_t count)
{
    struct tokenizer *t = open_kind(folder);
    struct line_reader *r;
    FILE *want = fopen(spans, "rb");
    static char line_of_spans[1 << 16];
    char *line;
    int64_t n, number, bad = 0, same = 0;
    CHECK(want && t);
    CHECK_EQ(line_open(&host, texts, &r), 0);
    while (line_next(r, &line, &n, &number) > 0) {
        json *j;
        struct encoding e;
        if (strstr(line, "\\u0000")) continue;
        CHECK(json_parse(line, n, texts, &j) == 0);
        CHECK(fgets(line_of_spans, sizeof line_of_spans, want) != NULL);
        const char *a = json_string(json_get(j, "a"));
        encode(&e, t, a ? a : json_string(json_get(j, "text")), json_string(json_get(j, "b")));
        if (spans_equal(&e.spans, line_of_spans)) same++;
        else if (++bad < 5) printf("%s:%lld: differs\n", texts, (long long)number);
        for (int64_t i = 0; a && i < e.ids.n; i++) {
            bool added = e.spans.part.v[i] < 0, special = tok_is_special(t, e.ids.v[i]);
            CHECK(added ? special : special || e.spans.part.v[i] == e.types.v[i]);
        }
        encoding_free(&e);
        json_free(j);
    }
    CHECK_EQ(bad, 0);
    CHECK_EQ(same, count);
    line_close(r);
    if (want) fclose(want);
    tok_free(t);
}

static void test_spans(void)
{
    check_spans("smollm2", GOLDEN "smollm2.jsonl", GOLDEN "smollm2.spans", 498);
    check_spans("minilm", GOLDEN "minilm.jsonl", GOLDEN "minilm.spans", 498);
    check_spans("minilm", GOLDEN "minilm_pairs.jsonl", GOLDEN "minilm_pairs.spans", 30);
}

/* --- every kind of component */

static uint32_t fnv1a(uint32_t h, const struct ids *v)
{
    for (int64_t i = 0; i < v->n; i++)
        for (int k = 0; k < 32; k += 8)
            h = (h ^ ((uint32_t)v->v[i] >> k & 255)) * 0x01000193u;
    return h;
}

static uint32_t encoding_hash(const struct tokenizer *t, const char *text)
{
    struct encoding e;
    encode(&e, t, text, NULL);
    uint32_t h = fnv1a(fnv1a(fnv1a(0x811c9dc5u, &e.ids), &e.spans.begin), &e.spans.end);
    struct ids again;
    ids_init(&again, &host.mem);
    CHECK_EQ(tok_encode(&host, t, text, (int64_t)strlen(text), TOK_SPECIAL, &again), 0);
    CHECK(again.n == e.ids.n && fnv1a(0, &again) == fnv1a(0, &e.ids));
    ids_free(&again);
    encoding_free(&e);
    return h;
}

static void test_kinds(void)
{
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        char name[64], path[160], *line;
        snprintf(name, sizeof name, "kinds/%s", kinds[k]);
        snprintf(path, sizeof path, GOLDEN "%s/hashes", name);
        struct tokenizer *t = open_kind(name);
        struct line_reader *r;
        FILE *hashes = fopen(path, "rb");
        int64_t n, number, same = 0;
        CHECK(hashes && t);
        CHECK_EQ(line_open(&host, GOLDEN "kinds.txt", &r), 0);
        while (line_next(r, &line, &n, &number) > 0) {
            json *j;
            char want[16] = "";
            CHECK_EQ(json_parse(line, n, "kinds.txt", &j), 0);
            CHECK(fgets(want, sizeof want, hashes) != NULL);
            bool equal = encoding_hash(t, json_string(j)) == (uint32_t)strtoul(want, NULL, 16);
            if (!equal) printf("%s, text %lld: differs\n", kinds[k], (long long)number);
            same += equal;
            json_free(j);
        }
        CHECK_EQ(same, 500);
        line_close(r);
        if (hashes) fclose(hashes);
        tok_free(t);
    }
}

/* --- bounds */

/* A run of one character: in quadratic time these would take minutes. */
static void test_runs(void)
{
    static const char *const units[] = {"a", " ", "7", "!", "\n", "\xcc\x81", "\xf0\x9f\x98\x80",
                                        "\xe6\x97\xa5"};
    const int64_t size = 1 << 17;
    char *text = malloc((size_t)size + 4);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        char name[64];
        snprintf(name, sizeof name, "kinds/%s", kinds[k]);
        struct tokenizer *t = open_kind(name);
        for (size_t u = 0; u < ARRAY_LEN(units) && t && text; u++) {
            int64_t len = (int64_t)strlen(units[u]), n = 0;
            for (; n + len <= size; n += len) memcpy(text + n, units[u], (size_t)len);
            text[n] = 0;
            struct encoding e;
            clock_t start = clock();
            encode(&e, t, text, NULL);
            CHECK(clock() - start < 5 * CLOCKS_PER_SEC);
            encoding_free(&e);
        }
        tok_free(t);
    }
    free(text);
}

static void test_bad_utf8(void)
{
    static const struct { const char *text, *message; } rows[] = {
        {"ok \xff", "0xff at offset 3"}, {"a\xc3", "0xc3 at offset 1"},
        {"\xed\xa0\x80", "0xed at offset 0"}, {"\xe6\x97\xa5\x80", "0x80 at offset 3"},
        {"\xf4\x90\x80\x80", "0xf4 at offset 0"}, {"\xc0\x80", "0xc0 at offset 0"},
    };
    struct tokenizer *t = open_kind("smollm2");
    struct encoding e;
    encoding_init(&e);
    for (size_t i = 0; i < ARRAY_LEN(rows) && t; i++) {
        int64_t n = (int64_t)strlen(rows[i].text);
        CHECK_EQ(tok_encode_spans(&host, t, rows[i].text, n, 0, &e.ids, &e.spans), PEFT_EFORMAT);
        CHECK(strstr(error_message(), rows[i].message) != NULL);
        CHECK_EQ(tok_encode_pair_spans(&host, t, "good", 4, rows[i].text, n, &e.ids, &e.types,
                                       &e.spans), PEFT_EFORMAT);
        CHECK(e.ids.n == 0 && e.types.n == 0 && e.spans.begin.n == 0 && e.spans.part.n == 0);
    }
    encoding_free(&e);
    tok_free(t);
}

/* --- one tokenizer, many threads */

enum { TASKS = 64 };
static struct { const struct tokenizer *t; uint32_t hash[TASKS]; } shared;

static uint32_t task_hash(int64_t task)
{
    struct ids ids;
    char text[400];
    uint32_t h = 0x811c9dc5u;
    ids_init(&ids, &host.mem);
    for (int k = 0; k < 50; k++) {
        int64_t word = (task * 7 + k * k) % 997;
        int n = snprintf(text, sizeof text,
                         "task %lld don't w\xc3\xb6rd%lld %lldth\n\n <|im_end|>x",
                         (long long)(task % 5), (long long)word, (long long)(word * word));
        ids.n = 0;
        if (tok_encode(&host, shared.t, text, n, TOK_SPECIAL, &ids) < 0) return 0;
        h = fnv1a(h, &ids);
    }
    ids_free(&ids);
    return h;
}

static void hash_task(void *ctx, int64_t task, int worker)
{
    (void)ctx, (void)worker;
    shared.hash[task] = task_hash(task);
}

static void test_threads(void)
{
    struct pool *pool;
    struct tokenizer *t = open_kind("smollm2");
    shared.t = t;
    CHECK_EQ(pool_new(&host, 6, &pool), 0);
    pool_run(pool, TASKS, hash_task, NULL);
    pool_free(pool);
    tok_free(t);
    t = open_kind("smollm2");
    shared.t = t;
    for (int64_t i = 0; i < TASKS; i++) CHECK_EQ(task_hash(i), shared.hash[i]);
    tok_free(t);
}

int main(void)
{
    if (host_init(&host, NULL) < 0) return 2;
    RUN(test_spans);
    RUN(test_kinds);
    RUN(test_runs);
    RUN(test_bad_utf8);
    RUN(test_threads);
    CHECK_EQ(host.mem.live, 0);
    return TEST_END();
}
