/* Unigram and SentencePiece models, character maps, and the components that
 * few tokenizers have, against Hugging Face's `tokenizers` and transformers
 * (tests/golden/make_tok.py); expressions through PCRE2; hostile files. */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tok_check.h"
#include "text/tok.h"

static const struct { const char *name; bool regex, gguf; } kinds[] = {
    {"t5", false, true}, {"t5-spaces", false, true}, {"xlmr", false, true},
    {"unigram-bytes", false, true}, {"unigram-unk", false, false}, {"old-gpt", false, false},
    {"words", false, false}, {"ctc", false, false}, {"chars", true, false},
    {"norm-bytes", false, false}, {"o200k", true, false}, {"deepseek", true, false},
    {"regex", true, false}, {"spm-t5", false, true}, {"spm-xlmr", false, true},
    {"spm-camembert", false, false}, {"spm-albert", false, false}, {"spm-llama", false, true},
    {"spm-gemma", false, true},
};

#ifdef PEFT_PCRE2
static const bool has_regex = true;
#else
static const bool has_regex = false;
#endif

static const char *kind_dir(const char *name)
{
    static char dir[128];
    snprintf(dir, sizeof dir, GOLDEN "kinds/%s", name);
    return dir;
}

static void test_kinds(void)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        char path[160];
        int64_t zero;
        struct tokenizer *t = NULL;
        snprintf(path, sizeof path, "%s/texts.jsonl", kind_dir(kinds[i].name));
        int rc = tok_open_folder(&host, kind_dir(kinds[i].name), &t);
        CHECK_EQ(rc, kinds[i].regex && !has_regex ? PEFT_EUNSUPPORTED : 0);
        if (t) CHECK(each_line(path, same_as_golden, t, &zero) > 50);
        tok_free(t);
    }
}

/* Added tokens with options are beyond GGUF, and so are Llama's space only where
 * the text begins, and U+0085 as a character and not white space. */
static bool same_plain(const struct tokenizer *t, const json *j)
{
    static const char *const beyond[] = {"self", "<left>", "\xe2\x96\x81", "<unk>", "\xc2\x85"};
    const char *text = json_string(json_get(j, "text"));
    for (size_t i = 0; i < ARRAY_LEN(beyond); i++)
        if (strstr(text, beyond[i])) return true;
    if (text[0] == ' ' || (!strcmp(tok_info(t)->kind, "bpe") && strstr(text, "s>"))) return true;
    return encodes(t, text, 0, json_get(j, "ids_plain"));
}

static bool same_special(const struct tokenizer *t, const json *j)
{
    const char *text = json_string(json_get(j, "text"));
    return same_plain(t, j) && (text[0] == ' ' || strchr(text, '<') || strstr(text, "self") ||
           strstr(text, "\xe2\x96\x81") || encodes(t, text, TOK_SPECIAL, json_get(j, "ids")));
}

/* Folder to GGUF to folder. */
static void test_saved(void)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        char path[160];
        int64_t zero;
        struct store *s = NULL;
        /* Only a folder with a class says which tokens are BOS and EOS. */
        bool spm = !strncmp(kinds[i].name, "spm-", 4);
        if (!kinds[i].gguf) continue;
        snprintf(path, sizeof path, "%s/texts.jsonl", kind_dir(kinds[i].name));
        struct tokenizer *t = open_folder(kind_dir(kinds[i].name));
        struct tokenizer *g = t ? through_gguf(t, &s) : NULL;
        if (g) {
            CHECK(each_line(path, spm ? same_special : same_plain, g, &zero) > 50);
            CHECK_EQ(tok_save_folder(&host, g, scratch), 0);
            struct tokenizer *f = open_folder(scratch);
            CHECK(each_line(path, spm ? same_special : same_plain, f, &zero) > 50);
            CHECK_EQ(tok_info(f)->n_vocab, tok_info(t)->n_vocab);
            tok_free(f);
            clean_scratch();
        }
        tok_free(g);
        store_close(s);
        /* And the folder as it was. */
        CHECK_EQ(tok_save_folder(&host, t, scratch), 0);
        struct tokenizer *same = open_folder(scratch);
        CHECK(each_line(path, same_as_golden, same, &zero) > 50);
        tok_free(same);
        tok_free(t);
        clean_scratch();
    }
    struct arena a;
    struct gguf_kv *kv;
    int64_t n;
    arena_init(&a, &host.mem);
    static const char *const unable[] = {"unigram-unk", "spm-albert", "words"};
    for (size_t i = 0; i < ARRAY_LEN(unable); i++) {
        struct tokenizer *t = open_folder(kind_dir(unable[i]));
        CHECK_EQ(tok_gguf_kv(&host, t, &a, &kv, &n), PEFT_EUNSUPPORTED);
        tok_free(t);
    }
    arena_free(&a);
}

/* Rows beyond the vocabulary get names in GGUF, which match no text. */
static void test_rows(void)
{
    struct arena a;
    struct gguf_kv *kv;
    struct store *s = NULL;
    struct tokenizer *t = open_folder(kind_dir("t5")), *g = NULL, *f;
    int64_t n, rows = tok_info(t)->n_vocab + 9;
    struct ids want, got;
    ids_init(&want, &host.mem);
    ids_init(&got, &host.mem);
    arena_init(&a, &host.mem);
    CHECK_EQ(tok_gguf_kv_rows(&host, t, rows, &a, &kv, &n), 0);
    CHECK_EQ(gguf_write(&host, in_scratch("t.gguf"), kv, n, NULL, 0), 0);
    CHECK_EQ(store_open(&host, in_scratch("t.gguf"), true, &s), 0);
    CHECK_EQ(tok_open_gguf(&host, s, &g), 0);
    CHECK_EQ(tok_info(g)->n_vocab, rows);
    char text[64];
    int len = snprintf(text, sizeof text, "the [PAD%d] \xf0\x9f\x98\x80", (int)rows - 1);
    CHECK_EQ(tok_save_folder(&host, g, scratch), 0);
    f = open_folder(scratch);
    CHECK_EQ(tok_encode(&host, t, text, len, 0, &want), 0);
    struct tokenizer *const both[] = {g, f};
    for (int i = 0; i < 2; i++) {
        got.n = 0;
        CHECK_EQ(tok_encode(&host, both[i], text, len, 0, &got), 0);
        CHECK(got.n == want.n && !memcmp(got.v, want.v, (size_t)want.n * sizeof *want.v));
    }
    ids_free(&want);
    ids_free(&got);
    tok_free(f);
    tok_free(g);
    tok_free(t);
    store_close(s);
    arena_free(&a);
    clean_scratch();
}

/* Special tokens as text stay text, also where they are pieces. */
static void test_plain(void)
{
    static const char *const dirs[] = {"spm-t5", "spm-xlmr", "spm-llama"};
    static const char text[] = "a</s>b<s> <unk> <extra_id_3><mask>";
    for (size_t d = 0; d < ARRAY_LEN(dirs); d++) {
        struct tokenizer *t = open_folder(kind_dir(dirs[d]));
        struct ids ids;
        ids_init(&ids, &host.mem);
        CHECK_EQ(tok_encode(&host, t, text, sizeof text - 1, TOK_PLAIN, &ids), 0);
        CHECK(ids.n > 10);
        for (int64_t i = 0; i < ids.n; i++)
            CHECK(!tok_is_special(t, ids.v[i]) || ids.v[i] == tok_info(t)->unk);
        ids_free(&ids);
        tok_free(t);
    }
}

static void test_info(void)
{
    struct tokenizer *t = open_folder(kind_dir("spm-xlmr"));
    const struct tok_info *i = tok_info(t);
    CHECK_STR(i->kind, "unigram");
    CHECK(i->bos == 0 && i->cls == 0 && i->pad == 1 && i->eos == 2 && i->sep == 2 && i->unk == 3);
    CHECK_EQ(i->mask, i->n_vocab - 1);
    CHECK(i->adds_bos && i->adds_eos);
    tok_free(t);
    t = open_folder(kind_dir("spm-t5"));
    CHECK_EQ(tok_lookup(t, "<extra_id_0>"), tok_info(t)->n_vocab - 1);
    CHECK(!tok_info(t)->adds_bos && tok_info(t)->adds_eos);
    tok_free(t);
    for (int n = 0; n <= MODEL_WORDLEVEL; n++) CHECK(tok_kinds[n].name && tok_kinds[n].about);
    CHECK(!tok_kinds[MODEL_WORDLEVEL + 1].name);
}

/* --- SentencePiece without a class, and other classes */

static void copy_model(const char *name, const char *config)
{
    struct file_view v;
    CHECK_EQ(file_open_view(&host, name, true, &v), 0);
    CHECK_EQ(file_write(&host, in_scratch("tokenizer.model"), v.data, v.n), 0);
    file_close_view(&host, &v);
    put_file("tokenizer_config.json", config);
}

static void test_spm_class(void)
{
    struct tokenizer *t;
    struct ids ids;
    ids_init(&ids, &host.mem);
    copy_model(GOLDEN "kinds/spm-t5/spiece.model", "{}");
    t = open_folder(scratch);
    CHECK_EQ(tok_encode(&host, t, "the   the", 9, TOK_SPECIAL, &ids), 0);
    CHECK_EQ(ids.n, 2);
    CHECK_EQ(tok_info(t)->eos, 1);
    CHECK_EQ(tok_info(t)->unk, 2);
    tok_free(t);
    put_file("tokenizer_config.json", "{\"tokenizer_class\":\"XyzTokenizer\"}");
    CHECK_EQ(tok_open_folder(&host, scratch, &t), PEFT_EUNSUPPORTED);
    CHECK(strstr(error_message(), "XyzTokenizer"));
    put_file("tokenizer_config.json", "{\"tokenizer_class\":\"LlamaTokenizer\"}");
    CHECK_EQ(tok_open_folder(&host, scratch, &t), PEFT_EUNSUPPORTED);
    put_file("tokenizer_config.json", "{\"tokenizer_class\":\"T5TokenizerFast\",\"extra_ids\":3,"
             "\"additional_special_tokens\":[\"<new>\",{\"content\":\"<old>\",\"rstrip\":true}]}");
    t = open_folder(scratch);
    CHECK_EQ(tok_lookup(t, "<old>"), tok_info(t)->n_vocab - 1);
    CHECK_EQ(tok_lookup(t, "<extra_id_0>"), tok_info(t)->n_vocab - 3);
    tok_free(t);
    ids_free(&ids);
    clean_scratch();
}

/* --- hostile models */

/* The first pieces of a model, and its settings. */
static int64_t shrink(const struct file_view *v, int pieces, uint8_t *out)
{
    int64_t n = 0;
    for (int64_t at = 0; at < v->n;) {
        int64_t size = 0, from = at++, shift = 0;
        do size |= (int64_t)(v->data[at] & 127) << shift, shift += 7;
        while (v->data[at++] & 128);
        at += size;
        if (v->data[from] == 0x0a && pieces-- <= 0) continue;
        memcpy(out + n, v->data + from, (size_t)(at - from));
        n += at - from;
    }
    return n;
}

static void try_model(const uint8_t *data, int64_t n, const json *config)
{
    static const char text[] = "The \xef\xac\x81sh \xe2\x84\xa2\xe2\x80\x8b \xc3\xa9 e\xcc\x81";
    struct file_view view = {.data = data, .n = n};
    struct tokenizer *t;
    struct ids ids;
    ids_init(&ids, &host.mem);
    CHECK_EQ(tok_new(&host, &t), 0);
    int rc = tok_read_spm(t, &view, config, NULL, NULL);
    if (rc == 0) rc = tok_finish(t);
    if (rc == 0) rc = tok_encode(&host, t, text, sizeof text - 1, TOK_SPECIAL, &ids);
    CHECK(rc == 0 || rc == PEFT_EFORMAT || rc == PEFT_EUNSUPPORTED || rc == PEFT_EDATA);
    tok_free(t);
    ids_free(&ids);
}

static void test_hostile_models(void)
{
    static const struct { const char *path, *config; int pieces; } files[] = {
        {GOLDEN "kinds/spm-t5/spiece.model", "{\"tokenizer_class\":\"T5Tokenizer\"}", 25},
        {GOLDEN "kinds/spm-llama/tokenizer.model", "{\"tokenizer_class\":\"LlamaTokenizer\"}", 40},
    };
    for (size_t k = 0; k < ARRAY_LEN(files); k++) {
        struct file_view v;
        json *config;
        CHECK_EQ(json_parse(files[k].config, (int64_t)strlen(files[k].config), "x", &config), 0);
        CHECK_EQ(file_open_view(&host, files[k].path, true, &v), 0);
        uint8_t *small = malloc((size_t)v.n);
        int64_t n = shrink(&v, files[k].pieces, small);
        try_model(v.data, v.n, config);
        for (int64_t i = 0; i < n; i++) {
            uint8_t *cut = malloc((size_t)i + 1);   /* so that reading on is seen */
            memcpy(cut, small, (size_t)i);
            try_model(cut, i, config);
            free(cut);
            for (int bit = 0; bit < 8; bit++) {
                small[i] ^= (uint8_t)(1 << bit);
                try_model(small, n, config);
                small[i] ^= (uint8_t)(1 << bit);
            }
        }
        for (int64_t i = 0; i < v.n; i += 61) try_model(v.data, i, config);
        free(small);
        file_close_view(&host, &v);
        json_free(config);
    }
}

#define UNIGRAM "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"u\",0],[\"a\",-1.5]]}"
static const struct { const char *text; int rc; } hostile[] = {
    {"{" UNIGRAM "}", 0},
    {"{\"model\":{\"vocab\":[[\"u\",0]]}}", 0},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":{}}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":1,\"vocab\":[[\"u\",0]]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":-1,\"vocab\":[[\"u\",0]]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"u\"]]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"u\",\"1\"]]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[\"u\"]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"Magic\",\"vocab\":{}}}", PEFT_EUNSUPPORTED},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}," UNIGRAM "}",
     PEFT_EFORMAT},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA\"}," UNIGRAM "}",
     PEFT_EFORMAT},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"A*AA\"}," UNIGRAM "}",
     PEFT_EFORMAT},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////////w==\"},"
     UNIGRAM "}", PEFT_EFORMAT},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"BAAAAAAAAAD/\"},"
     UNIGRAM "}", PEFT_EFORMAT},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"BAAAAP////9h\"},"
     UNIGRAM "}", 0},
    {"{\"pre_tokenizer\":{\"type\":\"FixedLength\",\"length\":0}," UNIGRAM "}", PEFT_EFORMAT},
    {"{\"pre_tokenizer\":{\"type\":\"CharDelimiterSplit\"}," UNIGRAM "}", PEFT_EFORMAT},
    {"{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," UNIGRAM "}", PEFT_EUNSUPPORTED},
    {"{\"decoder\":{\"type\":\"BPEDecoder\"}," UNIGRAM "}", PEFT_EFORMAT},
};

static void test_hostile_json(void)
{
    for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
        struct tokenizer *t = NULL;
        struct ids ids;
        ids_init(&ids, &host.mem);
        put_file("tokenizer.json", hostile[i].text);
        int rc = tok_open_folder(&host, scratch, &t);
        if (rc != hostile[i].rc) printf("row %d: %s\n", (int)i, hostile[i].text);
        CHECK_EQ(rc, hostile[i].rc);
        if (t) {
            rc = tok_encode(&host, t, "aab", 3, 0, &ids);
            CHECK(rc == 0 || rc == PEFT_EDATA);
        }
        ids_free(&ids);
        tok_free(t);
    }
    clean_scratch();
}

/* --- expressions */

static int open_regex(const char *regex, struct tokenizer **t)
{
    struct buf b;
    buf_init(&b, &host.mem);
    buf_puts(&b, "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":"
             "{\"Regex\":");
    buf_json(&b, regex, (int64_t)strlen(regex));
    buf_puts(&b, "}}," UNIGRAM "}");
    put_file("tokenizer.json", buf_str(&b));
    buf_free(&b);
    return tok_open_folder(&host, scratch, t);
}

static void test_regex(void)
{
    static const char *const refused[] = {
        "[a&&b]", "[a[bc]]", "[[:alpha:]]", "[\\W]", "(?m:.)", "(?~a)", "a{1,2}+", "a{,3}", "\\K",
        "\\Qa\\E", "\\N", "\\y", "\\g<1>", "(?R)", "(?1)", "(*UTF)a", "(?|a)", "\\pL",
        "\\p{Letter}", "[]a]", "(", "a\\", "[a", "(?<n", "\\p{", "(?C1)a", "\\C",
    };
    static const char *const taken[] = {"\\p{Han}+|\\p{^Lu}", "(?i)x(?-i:y)", "(?<n>a)\\k<n>",
                                        "[^\\S\\n]", "a++|b*?|(?>c)", "\\x{41}|\\u0042|\\h", "$|^"};
    struct tokenizer *t = NULL;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        int rc = open_regex(refused[i], &t);
        if (rc != PEFT_EUNSUPPORTED) printf("not refused: %s\n", refused[i]);
        CHECK_EQ(rc, PEFT_EUNSUPPORTED);
    }
    CHECK(strstr(error_message(), has_regex ? "\\C" : "libpcre2"));
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        CHECK_EQ(open_regex(taken[i], &t), has_regex ? 0 : PEFT_EUNSUPPORTED);
        tok_free(t);
    }
    CHECK_EQ(open_regex("(a+)+$", &t), has_regex ? 0 : PEFT_EUNSUPPORTED);
    struct ids ids;
    ids_init(&ids, &host.mem);
    static const char text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
    if (t) CHECK_EQ(tok_encode(&host, t, text, sizeof text - 1, 0, &ids), PEFT_EDATA);
    CHECK_EQ(ids.n, 0);
    ids_free(&ids);
    tok_free(t);
    clean_scratch();
}

/* --- long texts, and no memory */

static void test_long_runs(void)
{
    static const char *const units[] = {"a", " ", "\n", "7", "\xcc\x81", "\xe6\x97\xa5", "ab\n",
        "\xf0\x9f\x98\x80", "<", "\xe2\x96\x81", "<0x41>", "\xef\xac\x81", "the "};
    static const char *const dirs[] = {"t5", "unigram-bytes", "unigram-unk", "spm-llama", "words",
                                       "o200k", "deepseek"};
    for (size_t d = 0; d < ARRAY_LEN(dirs); d++) {
        struct tokenizer *t = NULL;
        int rc = tok_open_folder(&host, kind_dir(dirs[d]), &t);
        CHECK(rc == 0 || !has_regex);
        if (t) check_long_runs(t, units, ARRAY_LEN(units));
        tok_free(t);
    }
}

static void test_out_of_memory(void)
{
    static const char *const dirs[] = {"t5", "spm-llama", "spm-xlmr", "o200k", "chars"};
    for (size_t d = 0; d < ARRAY_LEN(dirs); d++)
        check_starved(kind_dir(dirs[d]), "Caf\xc3\xa9 \xef\xac\x81 12 don't \xe6\x97\xa5",
                      has_regex ? 0 : PEFT_EUNSUPPORTED);
}

int main(void)
{
    if (!mkdtemp(scratch) || host_init(&host, NULL) < 0) return 2;
    RUN(test_kinds);
    RUN(test_saved);
    RUN(test_rows);
    RUN(test_plain);
    RUN(test_info);
    RUN(test_spm_class);
    RUN(test_hostile_models);
    RUN(test_hostile_json);
    RUN(test_regex);
    RUN(test_long_runs);
    RUN(test_out_of_memory);
    CHECK_EQ(host.mem.live, 0);
    rmdir(scratch);
    return TEST_END();
}
