/* What the tests of tokenizers share: a folder for scratch files, and texts with
 * their ids (tests/golden/tokenizers). */
#ifndef TESTS_TOK_CHECK_H
#define TESTS_TOK_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "text/text.h"
#include "test.h"

#define GOLDEN "tests/golden/tokenizers/"

static struct host host;
static char scratch[] = "/tmp/libpeft-text-XXXXXX";

static const char *in_scratch(const char *name)
{
    static char paths[4][256];
    static int at;
    char *p = paths[at++ & 3];
    snprintf(p, sizeof paths[0], "%s/%s", scratch, name);
    return p;
}

static void put_file(const char *name, const char *text)
{
    CHECK_EQ(file_write(&host, in_scratch(name), text, (int64_t)strlen(text)), 0);
}

static void clean_scratch(void)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "vocab.txt",
        "special_tokens_map.json", "vocab.json", "merges.txt", "generation_config.json",
        "chat_template.jinja", "t.gguf", "tokenizer.model", "spiece.model",
        "sentencepiece.bpe.model"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) remove(in_scratch(names[i]));
}

static struct tokenizer *open_folder(const char *dir)
{
    struct tokenizer *t = NULL;
    CHECK_EQ(tok_open_folder(&host, dir, &t), 0);
    return t;
}

/* --- comparing with goldens */

static bool ids_equal(const struct ids *got, const json *want)
{
    int64_t i = 0;
    for (const json *k = json_first(want); k; k = json_next(k), i++)
        if (i >= got->n || got->v[i] != (int32_t)json_number(k, -1)) return false;
    return i == got->n;
}

static bool encodes(const struct tokenizer *t, const char *text, int flags, const json *want)
{
    struct ids ids;
    ids_init(&ids, &host.mem);
    CHECK_EQ(tok_encode(&host, t, text, (int64_t)strlen(text), flags, &ids), 0);
    bool same = ids_equal(&ids, want);
    ids_free(&ids);
    return same;
}

static bool decodes(const struct tokenizer *t, const json *ids, int flags, const char *want)
{
    struct ids list;
    struct buf text;
    ids_init(&list, &host.mem);
    buf_init(&text, &host.mem);
    for (const json *k = json_first(ids); k; k = json_next(k))
        ids_push(&list, (int32_t)json_number(k, -1));
    CHECK_EQ(tok_decode(t, list.v, list.n, flags, &text), 0);
    bool same = !strcmp(buf_str(&text), want);
    ids_free(&list);
    buf_free(&text);
    return same;
}

/* Every line of a file through `each`; lines with \u0000, which our JSON
 * refuses, are left out and counted. */
static int64_t each_line(const char *path, bool (*each)(const struct tokenizer *, const json *),
                         const struct tokenizer *t, int64_t *n_zero)
{
    struct line_reader *r;
    char *line;
    int64_t n, number, count = 0, bad = 0;
    *n_zero = 0;
    if (!t || line_open(&host, path, &r) < 0) {
        CHECK(!"opened");
        return 0;
    }
    while (line_next(r, &line, &n, &number) > 0) {
        json *j;
        if (strstr(line, "\\u0000")) {
            ++*n_zero;
            continue;
        }
        if (json_parse(line, n, path, &j) < 0) {
            CHECK(!"parsed");
            continue;
        }
        count++;
        if (!each(t, j) && ++bad <= 5) printf("%s:%lld: differs\n", path, (long long)number);
        json_free(j);
    }
    line_close(r);
    CHECK_EQ(bad, 0);
    return count;
}

static bool same_as_golden(const struct tokenizer *t, const json *j)
{
    const char *text = json_string(json_get(j, "text"));
    const json *ids = json_get(j, "ids"), *plain = json_get(j, "ids_plain");
    return encodes(t, text, TOK_SPECIAL, ids) && encodes(t, text, 0, plain) &&
           decodes(t, plain, 0, json_string(json_get(j, "decoded"))) &&
           decodes(t, ids, DETOK_SKIP, json_string(json_get(j, "decoded_skip")));
}

/* Through a GGUF file, and from there through a folder. */
static struct tokenizer *through_gguf(const struct tokenizer *t, struct store **s)
{
    struct arena a;
    struct gguf_kv *kv;
    struct tokenizer *back = NULL;
    int64_t n;
    arena_init(&a, &host.mem);
    CHECK_EQ(tok_gguf_kv(&host, t, &a, &kv, &n), 0);
    CHECK_EQ(gguf_write(&host, in_scratch("t.gguf"), kv, n, NULL, 0), 0);
    arena_free(&a);
    CHECK_EQ(store_open(&host, in_scratch("t.gguf"), true, s), 0);
    if (*s) CHECK_EQ(tok_open_gguf(&host, *s, &back), 0);
    return back;
}

static int64_t countdown;

static void *failing(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    (void)ctx, (void)old_size;
    if (new_size == 0) return free(ptr), NULL;
    return countdown-- <= 0 ? NULL : realloc(ptr, new_size);
}

/* A million bytes of each unit are tokens in linear time. */
static void check_long_runs(const struct tokenizer *t, const char *const *units, size_t n_units)
{
    const int64_t size = 1 << 20;
    char *text = malloc((size_t)size + 16);
    for (size_t u = 0; u < n_units; u++) {
        int64_t len = (int64_t)strlen(units[u]), n = 0;
        for (; n < size; n += len) memcpy(text + n, units[u], (size_t)len);
        struct ids ids;
        ids_init(&ids, &host.mem);
        clock_t start = clock();
        CHECK_EQ(tok_encode(&host, t, text, n, TOK_SPECIAL, &ids), 0);
        CHECK(clock() - start < 20 * CLOCKS_PER_SEC);
        ids_free(&ids);
    }
    free(text);
}

/* The n-th allocation fails: an error, and nothing is lost.  `end` is another
 * code that may end it, or 0. */
static void check_starved(const char *dir, const char *text, int end)
{
    int rc = PEFT_ENOMEM;
    for (int64_t n = 0; n < 100000 && rc == PEFT_ENOMEM; n += n < 200 ? 1 : 7) {
        peft_load_opts opts = {.size = sizeof opts, .alloc = failing};
        struct host h;
        struct tokenizer *t = NULL;
        struct ids ids;
        struct buf b;
        countdown = INT64_MAX;
        CHECK_EQ(host_init(&h, &opts), 0);
        countdown = n;
        ids_init(&ids, &h.mem);
        buf_init(&b, &h.mem);
        rc = tok_open_folder(&h, dir, &t);
        if (rc == 0)
            rc = tok_encode(&h, t, text, (int64_t)strlen(text), TOK_SPECIAL, &ids);
        if (rc == 0) rc = tok_decode(t, ids.v, ids.n, 0, &b);
        CHECK(rc == 0 || rc == PEFT_ENOMEM || rc == end);
        ids_free(&ids);
        buf_free(&b);
        tok_free(t);
        CHECK_EQ(h.mem.live, 0);
    }
    CHECK(rc == 0 || rc == end);
}

#endif
