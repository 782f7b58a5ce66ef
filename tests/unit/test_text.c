/* Tokenizers and chat templates, against Hugging Face's `tokenizers` (the
 * files of tests/golden/tokenizers, made by tests/golden/make_tok.py). */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tok_check.h"

/* Ids alone, and of texts without the added tokens that GGUF cannot express:
 * those that are looked for in normalized text. */
static bool same_plain_ids(const struct tokenizer *t, const json *j)
{
    const char *text = json_string(json_get(j, "text"));
    if (strstr(text, "self") || strstr(text, "\xe2\x96\x81")) return true;
    return encodes(t, json_string(json_get(j, "text")), 0, json_get(j, "ids_plain"));
}

static void check_golden(const struct tokenizer *t, const char *path)
{
    int64_t zero;
    CHECK_EQ(each_line(path, same_as_golden, t, &zero) + zero, 500);
}

static void round_trip(const char *dir, const char *golden)
{
    struct store *s = NULL, *s2 = NULL;
    struct tokenizer *t = open_folder(dir);
    check_golden(t, golden);

    struct tokenizer *g = t ? through_gguf(t, &s) : NULL;
    if (g) {
        check_golden(g, golden);
        CHECK_EQ(tok_info(g)->n_vocab, tok_info(t)->n_vocab);
        CHECK_EQ(tok_info(g)->eos, tok_info(t)->eos);
        CHECK_EQ(tok_save_folder(&host, g, scratch), 0);
        struct tokenizer *f = open_folder(scratch);
        check_golden(f, golden);
        if (f) CHECK_EQ(tok_info(f)->pad, tok_info(t)->pad);
        tok_free(f);
        struct tokenizer *again = through_gguf(g, &s2);
        if (again) CHECK_EQ(tok_info(again)->n_vocab, tok_info(t)->n_vocab);
        tok_free(again);
    }
    tok_free(g);
    tok_free(t);
    store_close(s);
    store_close(s2);
    clean_scratch();
}

static void test_smollm2(void) { round_trip(GOLDEN "smollm2", GOLDEN "smollm2.jsonl"); }
static void test_minilm(void) { round_trip(GOLDEN "minilm", GOLDEN "minilm.jsonl"); }

static void test_nul(void)
{
    static const char *const dirs[] = {GOLDEN "smollm2", GOLDEN "minilm"};
    static const int32_t want[2][3] = {{81, 190, 82}, {11113, -1, -1}};
    for (int i = 0; i < 2; i++) {
        struct tokenizer *t = open_folder(dirs[i]);
        struct ids ids;
        ids_init(&ids, &host.mem);
        CHECK_EQ(tok_encode(&host, t, "a\0b", 3, 0, &ids), 0);
        for (int64_t k = 0; k < ids.n && k < 3; k++) CHECK_EQ(ids.v[k], want[i][k]);
        CHECK_EQ(ids.n, i == 0 ? 3 : 1);
        ids_free(&ids);
        tok_free(t);
    }
}

static bool same_pair(const struct tokenizer *t, const json *j)
{
    struct ids ids, types;
    ids_init(&ids, &host.mem);
    ids_init(&types, &host.mem);
    const char *a = json_string(json_get(j, "a")), *b = json_string(json_get(j, "b"));
    CHECK_EQ(tok_encode_pair(&host, t, a, (int64_t)strlen(a), b, (int64_t)strlen(b), &ids,
                             &types), 0);
    bool same = ids_equal(&ids, json_get(j, "ids")) && ids_equal(&types, json_get(j, "type_ids"));
    ids_free(&ids);
    ids_free(&types);
    return same;
}

static void test_pairs(void)
{
    int64_t zero;
    struct tokenizer *t = open_folder(GOLDEN "minilm");
    CHECK_EQ(each_line(GOLDEN "minilm_pairs.jsonl", same_pair, t, &zero) + zero, 30);
    tok_free(t);
}

/* --- every kind of component */

static const char *const kinds[] = {
    "gpt2", "gpt2-prefix", "smollm", "llama3", "cl100k", "qwen2", "nfkc", "nfkd", "bloom",
    "falcon", "roberta", "llama2", "metaspace", "metaspace-first", "gemma", "spm-unk",
    "spm-unk-each", "bert", "bert-cased", "bert-accents", "bert-words",
};

static void test_kinds(void)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        char dir[128], path[160];
        int64_t zero;
        snprintf(dir, sizeof dir, GOLDEN "kinds/%s", kinds[i]);
        snprintf(path, sizeof path, "%s/texts.jsonl", dir);
        struct tokenizer *t = open_folder(dir);
        CHECK(each_line(path, same_as_golden, t, &zero) > 50);
        tok_free(t);
    }
}

/* What GGUF can express keeps its ids. */
static void test_kinds_gguf(void)
{
    static const char *const able[] = {"gpt2", "smollm", "llama3", "qwen2", "llama2", "gemma"};
    for (size_t i = 0; i < ARRAY_LEN(able); i++) {
        char dir[128], path[160];
        int64_t zero;
        struct store *s = NULL;
        snprintf(dir, sizeof dir, GOLDEN "kinds/%s", able[i]);
        snprintf(path, sizeof path, "%s/texts.jsonl", dir);
        struct tokenizer *t = open_folder(dir), *g = t ? through_gguf(t, &s) : NULL;
        /* GGUF knows no stripping, no whole words and no normalized tokens. */
        bool simple = !strcmp(able[i], "llama2") || !strcmp(able[i], "gemma");
        if (g && simple) {
            CHECK(each_line(path, same_plain_ids, g, &zero) > 50);
            CHECK_EQ(tok_save_folder(&host, g, scratch), 0);
            struct tokenizer *f = open_folder(scratch);
            CHECK(each_line(path, same_plain_ids, f, &zero) > 50);
            tok_free(f);
        }
        tok_free(g);
        tok_free(t);
        store_close(s);
        clean_scratch();
    }
    struct arena a;
    struct gguf_kv *kv;
    int64_t n;
    arena_init(&a, &host.mem);
    struct tokenizer *t = open_folder(GOLDEN "kinds/bert-cased");
    CHECK_EQ(tok_gguf_kv(&host, t, &a, &kv, &n), PEFT_EUNSUPPORTED);
    tok_free(t);
    t = open_folder(GOLDEN "kinds/bloom");
    CHECK_EQ(tok_gguf_kv(&host, t, &a, &kv, &n), PEFT_EUNSUPPORTED);
    tok_free(t);
    arena_free(&a);
}

/* --- information */

static void test_info(void)
{
    struct tokenizer *t = open_folder(GOLDEN "smollm2");
    const struct tok_info *i = tok_info(t);
    CHECK_STR(i->kind, "bpe");
    CHECK_EQ(i->n_vocab, 49152);
    CHECK_EQ(i->bos, 1);
    CHECK_EQ(i->eos, 2);
    CHECK_EQ(i->pad, 2);
    CHECK_EQ(i->unk, 0);
    CHECK_EQ(i->mask, -1);
    CHECK_EQ(i->adds_bos, 0);
    CHECK(tok_is_eot(t, 2) && tok_is_eot(t, 0) && !tok_is_eot(t, 1) && !tok_is_eot(t, -1));
    CHECK(tok_is_special(t, 1) && !tok_is_special(t, 17) && !tok_is_special(t, 1 << 30));
    CHECK_EQ(tok_lookup(t, "<|im_end|>"), 2);
    CHECK_EQ(tok_lookup(t, "no such token"), -1);
    struct buf b;
    buf_init(&b, &host.mem);
    CHECK_EQ(tok_piece(t, tok_lookup(t, "\xc4\xa0the"), &b), 0);
    CHECK_EQ(tok_piece(t, -1, &b), 0);
    CHECK_EQ(tok_piece(t, 1 << 30, &b), 0);
    CHECK_STR(buf_str(&b), " the");
    buf_free(&b);
    tok_free(t);

    t = open_folder(GOLDEN "minilm");
    i = tok_info(t);
    CHECK_STR(i->kind, "wordpiece");
    CHECK_EQ(i->cls, 101);
    CHECK_EQ(i->sep, 102);
    CHECK_EQ(i->mask, 103);
    CHECK_EQ(i->pad, 0);
    CHECK(i->adds_bos && i->adds_eos);
    tok_free(t);

    t = open_folder(GOLDEN "kinds/llama3");
    CHECK(tok_info(t)->adds_bos && !tok_info(t)->adds_eos);
    tok_free(t);
}

/* Special tokens as text. */
static void test_plain(void)
{
    struct tokenizer *t = open_folder(GOLDEN "smollm2");
    struct ids ids;
    struct buf b;
    ids_init(&ids, &host.mem);
    buf_init(&b, &host.mem);
    CHECK_EQ(tok_encode(&host, t, "<|im_end|>", 10, TOK_PLAIN, &ids), 0);
    CHECK(ids.n > 1);
    for (int64_t i = 0; i < ids.n; i++) {
        CHECK(!tok_is_special(t, ids.v[i]));
        CHECK_EQ(tok_piece(t, ids.v[i], &b), 0);
    }
    CHECK_STR(buf_str(&b), "<|im_end|>");
    ids_free(&ids);
    buf_free(&b);
    tok_free(t);
}

/* --- chat templates */

static bool same_chat(const struct tokenizer *t, const json *j)
{
    struct message m[8];
    struct buf b;
    int64_t n = 0;
    for (const json *k = json_first(json_get(j, "messages")); k && n < 8; k = json_next(k))
        m[n++] = (struct message){json_string(json_get(k, "role")),
                                  json_string(json_get(k, "content"))};
    buf_init(&b, &host.mem);
    CHECK_EQ(chat_render(t, m, n, json_bool(json_get(j, "add_generation_prompt"), 0), &b), 0);
    bool same = !strcmp(buf_str(&b), json_string(json_get(j, "text"))) &&
                encodes(t, buf_str(&b), TOK_SPECIAL, json_get(j, "ids"));
    buf_free(&b);
    return same;
}

static void test_chat_golden(void)
{
    int64_t zero;
    struct tokenizer *t = open_folder(GOLDEN "smollm2");
    CHECK_EQ(each_line(GOLDEN "smollm2_chat.jsonl", same_chat, t, &zero), 14);
    CHECK(chat_known(t));
    tok_free(t);
}

/* A tokenizer of three tokens, bos, eos and x, with a chat template. */
static struct tokenizer *with_template(const char *jinja)
{
    struct buf b;
    buf_init(&b, &host.mem);
    put_file("tokenizer.json", "{\"added_tokens\":[{\"id\":1,\"content\":\"<b>\",\"special\":true},"
             "{\"id\":2,\"content\":\"<e>\",\"special\":true}],\"model\":{\"type\":\"BPE\","
             "\"vocab\":{\"x\":0},\"merges\":[]}}");
    buf_puts(&b, "{\"bos_token\":\"<b>\",\"eos_token\":{\"content\":\"<e>\"},\"chat_template\":");
    if (jinja) buf_json(&b, jinja, (int64_t)strlen(jinja));
    else buf_puts(&b, "null");
    buf_puts(&b, "}");
    put_file("tokenizer_config.json", buf_str(&b));
    buf_free(&b);
    struct tokenizer *t = open_folder(scratch);
    clean_scratch();
    return t;
}

static const struct message turns[] = {{"system", "S "}, {"user", " U"}, {"assistant", "A\n"},
                                       {"user", "V"}};

/* The variables that templates see, and models without a template. */
static void test_chat_variables(void)
{
    static const struct { const char *jinja; int from, n, prompt; const char *text; } cases[] = {
        {NULL, 0, 4, 1, "System: S \nUser:  U\nAssistant: A\n\nUser: V\nAssistant:"},
        {"{{ bos_token }}{% for m in messages %}[{{ m.role }}:{{ m['content']|trim }}]{% endfor %}"
         "{{ eos_token if not add_generation_prompt }}", 0, 2, 0, "<b>[system:S][user:U]<e>"},
        {"{{ messages }}{{ add_generation_prompt }}{{ tools }}{{ documents }}{{ unk_token }}", 3,
         1, 1, "[{'role': 'user', 'content': 'V'}]TrueNoneNone"},
        {"{{ pad_token is defined }}{{ tools is defined }}{{ x is defined }}", 3, 1, 0,
         "FalseTrueFalse"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tokenizer *t = with_template(cases[i].jinja);
        struct buf b;
        buf_init(&b, &host.mem);
        CHECK_EQ(chat_render(t, turns + cases[i].from, cases[i].n, cases[i].prompt, &b), 0);
        CHECK_STR(buf_str(&b), cases[i].text);
        CHECK_EQ(chat_known(t), cases[i].jinja != NULL);
        buf_free(&b);
        tok_free(t);
    }
}

/* What else a message has, its reasoning's other name, tools, and lists as
 * content, which only some templates take. */
static void test_chat_fields(void)
{
    static const char row[] = "{\"tools\":[{\"name\":\"f\"}],\"m\":{\"role\":\"human\","
                              "\"reasoning\":\"r\",\"content\":[{\"type\":\"text\",\"text\":\"x\"},"
                              "{\"type\":\"text\",\"text\":\"y\"}]}}";
    static const struct { const char *jinja, *text; } cases[] = {
        {"{% set m = messages[0] %}{{ m.role }} {{ m.content }} {{ m.thinking }}"
         "{{ m.reasoning_content }} {{ tools[0].name }}", "user xy rr f"},
        {"{% set c = messages[0].content %}{% if c is string %}{{ c }}{% else %}{% for p in c %}"
         "<{{ p.text }}>{% endfor %}{% endif %}", "<x><y>"},
        {"{% for m in messages %}.{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}",
         ".user"},
    };
    json *j;
    CHECK_EQ(json_parse(row, (int64_t)sizeof row - 1, "row", &j), 0);
    struct message m = {"user", "xy"};
    const json *fields[] = {json_get(j, "m")};
    struct chat_input in = {.m = &m, .fields = fields, .n = 1, .tools = json_get(j, "tools")};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tokenizer *t = with_template(cases[i].jinja);
        struct buf b;
        struct ids spans;
        buf_init(&b, &host.mem);
        ids_init(&spans, &host.mem);
        CHECK_EQ(chat_render_input(t, &in, &b, &spans), 0);
        CHECK_STR(buf_str(&b), cases[i].text);
        CHECK_EQ(chat_marks_answers(t), i == 2);
        CHECK_EQ(spans.n, i == 2 ? 2 : 0);
        if (spans.n) CHECK(spans.v[0] == 1 && spans.v[1] == 5);
        ids_free(&spans);
        buf_free(&b);
        tok_free(t);
    }
    json_free(j);
}

static void test_chat_errors(void)
{
    struct buf b;
    buf_init(&b, &host.mem);
    struct tokenizer *t = with_template("{{ messages }");
    CHECK_EQ(chat_render(t, turns, 1, 0, &b), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "chat template line 1") != NULL);
    CHECK(chat_known(t) && !chat_marks_answers(t));
    tok_free(t);
    t = with_template("{% if messages[0].role == 'system' %}"
                      "{{ raise_exception('System role not supported') }}{% endif %}");
    CHECK_EQ(chat_render(t, turns, 2, 0, &b), PEFT_EDATA);
    CHECK(strstr(peft_errmsg(), "System role not supported") != NULL);
    CHECK_EQ(chat_render(t, turns + 1, 0, 0, &b), PEFT_EARG);
    struct message bad[] = {{"user", "\xff"}}, none[] = {{"user", NULL}};
    CHECK_EQ(chat_render(t, bad, 1, 0, &b), PEFT_EFORMAT);
    CHECK_EQ(chat_render(t, none, 1, 0, &b), PEFT_EARG);
    tok_free(t);
    t = with_template(NULL);
    struct message tool[] = {{"tool", "x"}};
    CHECK_EQ(chat_render(t, tool, 1, 0, &b), PEFT_EDATA);
    tok_free(t);
    buf_free(&b);
}

/* --- files beside tokenizer.json */

#define TINY_MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2}," \
                   "\"merges\":[\"a b\"]}"

static void test_folder_settings(void)
{
    put_file("tokenizer.json", "{\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true},"
             "{\"id\":4,\"content\":\"<|eot_id|>\",\"special\":true}]," TINY_MODEL "}");
    put_file("tokenizer_config.json", "{\"tokenizer_class\":\"LlamaTokenizerFast\","
             "\"add_bos_token\":true,\"added_tokens_decoder\":{\"5\":{\"content\":\"<x>\","
             "\"special\":false}},\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"T\"},"
             "{\"name\":\"default\",\"template\":\"D\"}]}");
    put_file("special_tokens_map.json", "{\"bos_token\":{\"content\":\"<s>\"}}");
    put_file("generation_config.json", "{\"eos_token_id\":[2,1],\"pad_token_id\":99}");
    struct tokenizer *t = open_folder(scratch);
    const struct tok_info *i = tok_info(t);
    CHECK_EQ(i->bos, 3);
    CHECK_EQ(i->eos, 2);
    CHECK_EQ(i->pad, -1);
    CHECK_EQ(i->adds_bos, 1);
    CHECK_EQ(i->n_vocab, 6);
    CHECK_STR(i->chat_template, "D");
    CHECK(tok_is_eot(t, 1) && tok_is_eot(t, 2) && tok_is_eot(t, 4) && !tok_is_eot(t, 0));
    struct ids ids;
    ids_init(&ids, &host.mem);
    CHECK_EQ(tok_encode(&host, t, "ab<x>b", 6, TOK_SPECIAL, &ids), 0);
    static const int32_t want[] = {3, 2, 5, 1};
    CHECK_EQ(ids.n, 4);
    for (int64_t k = 0; k < ids.n && k < 4; k++) CHECK_EQ(ids.v[k], want[k]);
    ids_free(&ids);

    put_file("chat_template.jinja", "from the file");
    struct tokenizer *u = open_folder(scratch);
    CHECK_STR(tok_info(u)->chat_template, "from the file");
    char copy[] = "/tmp/libpeft-copy-XXXXXX";
    CHECK(mkdtemp(copy) != NULL);
    CHECK_EQ(tok_save_folder(&host, u, copy), 0);
    struct tokenizer *v = open_folder(copy);
    CHECK_STR(tok_info(v)->chat_template, "from the file");
    tok_free(v);
    tok_free(u);
    tok_free(t);
    char rm[300];
    snprintf(rm, sizeof rm, "rm -r %s", copy);
    CHECK_EQ(system(rm), 0);
    clean_scratch();
}

static void test_vocab_merges(void)
{
    put_file("vocab.json", "{\"a\":0,\"b\":1,\"ab\":2,\"<|endoftext|>\":3,\"\xc4\xa0\":4}");
    put_file("merges.txt", "#version: 0.2\na b\n");
    struct tokenizer *t = open_folder(scratch);
    struct ids ids;
    ids_init(&ids, &host.mem);
    CHECK_EQ(tok_encode(&host, t, "ab a<|endoftext|>", 17, TOK_SPECIAL, &ids), 0);
    static const int32_t want[] = {2, 4, 0, 3};
    CHECK_EQ(ids.n, 4);
    for (int64_t k = 0; k < ids.n && k < 4; k++) CHECK_EQ(ids.v[k], want[k]);
    ids_free(&ids);
    tok_free(t);
    put_file("tokenizer_config.json", "{\"tokenizer_class\":\"XyzTokenizer\"}");
    CHECK_EQ(tok_open_folder(&host, scratch, &t), PEFT_EUNSUPPORTED);
    CHECK(strstr(error_message(), "XyzTokenizer"));
    clean_scratch();
    CHECK_EQ(tok_open_folder(&host, scratch, &t), PEFT_ENOTFOUND);
}

/* --- hostile input */

static const struct { const char *text; int rc; } hostile[] = {
    {"", PEFT_EFORMAT}, {"[]", PEFT_EFORMAT}, {"{}", PEFT_EFORMAT}, {"{\"model\":3}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\"}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1e300},\"merges\":[]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":2147483646},\"merges\":[]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0.5},\"merges\":[]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"x\"},\"merges\":[]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[7]}}", PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"unk_token\":\"u\",\"vocab\":{\"a\":0},\"merges\":[]}}",
     PEFT_EFORMAT},
    {"{\"model\":{\"type\":\"BPE\",\"dropout\":0.1,\"vocab\":{\"a\":0},\"merges\":[]}}",
     PEFT_EUNSUPPORTED},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", PEFT_EFORMAT},
    {"{\"added_tokens\":[{}]," TINY_MODEL "}", PEFT_EFORMAT},
    {"{\"added_tokens\":[{\"id\":1,\"content\":\"a\"}]," TINY_MODEL "}", PEFT_EFORMAT},
    {"{\"added_tokens\":[{\"id\":1,\"content\":\"x\"}]," TINY_MODEL "}", PEFT_EFORMAT},
    {"{\"added_tokens\":[{\"id\":3000000,\"content\":\"x\"}]," TINY_MODEL "}", PEFT_EFORMAT},
    {"{\"pre_tokenizer\":{\"type\":\"Magic\"}," TINY_MODEL "}", PEFT_EUNSUPPORTED},
    {"{\"pre_tokenizer\":{}," TINY_MODEL "}", PEFT_EFORMAT},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\K[a-z]+\"},"
     "\"behavior\":\"Isolated\"}," TINY_MODEL "}", PEFT_EUNSUPPORTED},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},"
     "\"behavior\":\"Isolated\"}," TINY_MODEL "}", PEFT_EUNSUPPORTED},
    {"{\"normalizer\":{\"type\":\"Precompiled\"}," TINY_MODEL "}", PEFT_EFORMAT},
    {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(*UTF)x\"},\"content\":\"\"},"
     TINY_MODEL "}", PEFT_EUNSUPPORTED},
    {"{\"decoder\":{\"type\":\"CTC\"}," TINY_MODEL "}", PEFT_EFORMAT},
    {"{\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"a\",77],\"sep\":[\"b\",1]},"
     TINY_MODEL "}", PEFT_EFORMAT},
    {"{\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":7}," TINY_MODEL "}", PEFT_EFORMAT},
    {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
     "{\"id\":\"q\"}}],\"special_tokens\":[1]}," TINY_MODEL "}", PEFT_EFORMAT},
    {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[7]}," TINY_MODEL "}",
     PEFT_EFORMAT},
};

static void test_hostile_json(void)
{
    for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
        struct tokenizer *t;
        put_file("tokenizer.json", hostile[i].text);
        int rc = tok_open_folder(&host, scratch, &t);
        if (rc != hostile[i].rc) printf("row %d: %s\n", (int)i, hostile[i].text);
        CHECK_EQ(rc, hostile[i].rc);
        tok_free(t);
    }
    /* A sequence in a sequence, deeper than any file has it. */
    struct buf b;
    buf_init(&b, &host.mem);
    buf_puts(&b, "{" TINY_MODEL ",\"normalizer\":");
    for (int i = 0; i < 20; i++) buf_puts(&b, "{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 20; i++) buf_puts(&b, "]}");
    buf_puts(&b, "}");
    struct tokenizer *t;
    put_file("tokenizer.json", buf_str(&b));
    CHECK_EQ(tok_open_folder(&host, scratch, &t), PEFT_EUNSUPPORTED);
    buf_free(&b);
    clean_scratch();
}

/* A GGUF file with only these keys. */
static int open_kv(const struct gguf_kv *kv, int64_t n)
{
    struct store *s = NULL;
    struct tokenizer *t = NULL;
    CHECK_EQ(gguf_write(&host, in_scratch("t.gguf"), kv, n, NULL, 0), 0);
    CHECK_EQ(store_open(&host, in_scratch("t.gguf"), true, &s), 0);
    int rc = s ? tok_open_gguf(&host, s, &t) : 0;
    tok_free(t);
    store_close(s);
    return rc;
}

/* The keys of a good file with one left out, or another's value in its place:
 * an error or not, but no crash. */
static void test_hostile_gguf(void)
{
    static const char *const dirs[] = {GOLDEN "kinds/smollm", GOLDEN "kinds/llama2",
                                       GOLDEN "kinds/bert"};
    for (size_t d = 0; d < ARRAY_LEN(dirs); d++) {
        struct arena a;
        struct gguf_kv *kv, other[32];
        int64_t n;
        arena_init(&a, &host.mem);
        struct tokenizer *t = open_folder(dirs[d]);
        CHECK_EQ(tok_gguf_kv(&host, t, &a, &kv, &n), 0);
        CHECK_EQ(open_kv(kv, n), 0);
        for (int64_t i = 0; i < n && n <= 32; i++) {
            memcpy(other, kv, (size_t)n * sizeof *kv);
            other[i] = other[n - 1];
            int rc = open_kv(other, n - 1);
            CHECK(rc == 0 || rc == PEFT_EFORMAT || rc == PEFT_EUNSUPPORTED ||
                  rc == PEFT_ENOTFOUND);
            for (int64_t k = 0; k < n; k++) {
                memcpy(other, kv, (size_t)n * sizeof *kv);
                other[i].type = kv[k].type, other[i].raw = kv[k].raw, other[i].n = kv[k].n;
                rc = open_kv(other, n);
                CHECK(rc == 0 || rc == PEFT_EFORMAT || rc == PEFT_EUNSUPPORTED ||
                      rc == PEFT_ENOTFOUND);
            }
        }
        tok_free(t);
        arena_free(&a);
        clean_scratch();
    }
}

/* Megabytes of one character, or two in turn: linear time. */
static void test_long_runs(void)
{
    static const char *const units[] = {"a", " ", "\n", "\t ", "7", "'", "\xcc\x81",
        "\xcc\x81\xcc\xa3", "\xe6\x97\xa5", "<|im_end|>", "<", "[CLS]", "\xe2\x96\x81", "<0x41>"};
    static const char *const dirs[] = {GOLDEN "smollm2", GOLDEN "minilm", GOLDEN "kinds/llama3",
        GOLDEN "kinds/llama2", GOLDEN "kinds/qwen2", GOLDEN "kinds/falcon", GOLDEN "kinds/nfkc"};
    for (size_t d = 0; d < ARRAY_LEN(dirs); d++) {
        struct tokenizer *t = open_folder(dirs[d]);
        if (t) check_long_runs(t, units, ARRAY_LEN(units));
        tok_free(t);
    }
}

static void test_bad_text(void)
{
    static const char *const bad[] = {"\xff", "a\xc3", "\xc0\x80", "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80", "ok \x80"};
    struct tokenizer *t = open_folder(GOLDEN "smollm2");
    struct ids ids;
    ids_init(&ids, &host.mem);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK_EQ(tok_encode(&host, t, bad[i], (int64_t)strlen(bad[i]), 0, &ids), PEFT_EFORMAT);
        CHECK_EQ(ids.n, 0);
    }
    CHECK_EQ(tok_encode(&host, t, "x", -1, 0, &ids), PEFT_EARG);
    CHECK_EQ(tok_encode(&host, t, "", 0, TOK_SPECIAL, &ids), 0);
    CHECK_EQ(ids.n, 0);
    struct buf b;
    buf_init(&b, &host.mem);
    const int32_t odd[] = {-5, 1 << 30, 49152, 2};
    CHECK_EQ(tok_decode(t, odd, 4, 0, &b), 0);
    CHECK_STR(buf_str(&b), "<|im_end|>");
    buf_free(&b);
    ids_free(&ids);
    tok_free(t);
}

/* --- memory */

static void test_out_of_memory(void)
{
    static const char *const dirs[] = {GOLDEN "kinds/qwen2", GOLDEN "kinds/bert",
                                       GOLDEN "kinds/llama2"};
    for (size_t d = 0; d < ARRAY_LEN(dirs); d++)
        check_starved(dirs[d], "Caf\xc3\xa9 <|eot|> 12 don't \xe6\x97\xa5", 0);
}

int main(void)
{
    if (!mkdtemp(scratch) || host_init(&host, NULL) < 0) return 2;
    RUN(test_smollm2);
    RUN(test_minilm);
    RUN(test_nul);
    RUN(test_pairs);
    RUN(test_kinds);
    RUN(test_kinds_gguf);
    RUN(test_info);
    RUN(test_plain);
    RUN(test_chat_golden);
    RUN(test_chat_variables);
    RUN(test_chat_fields);
    RUN(test_chat_errors);
    RUN(test_folder_settings);
    RUN(test_vocab_merges);
    RUN(test_hostile_json);
    RUN(test_hostile_gguf);
    RUN(test_bad_text);
    RUN(test_long_runs);
    RUN(test_out_of_memory);
    CHECK_EQ(host.mem.live, 0);
    rmdir(scratch);
    return TEST_END();
}
