/* Limits: a size at each limit is read and one beyond it is refused by a
 * message that says so; and files whose small parts would take much memory.
 * Both sides and all of these keep the rule of fuzz/fuzz.h: at most eight times
 * the file and 32 MiB. */
#include "fuzz/fuzz.h"
#include "../test.h"

/* --- loaders: the file is in place; the result's code */

static struct host host;

static int load_tokenizer(void)
{
    struct tokenizer *t;
    int rc = tok_open_folder(&host, "dir", &t);
    if (!rc) tok_free(t);
    return rc;
}
static int load_store(void)
{
    struct store *s;
    int rc = store_open(&host, "dir", true, &s);
    if (!rc) store_close(s);
    return rc;
}
static int load_gguf(void)
{
    struct store *s;
    struct tokenizer *t = NULL;
    int rc = store_open(&host, "dir/f.gguf", true, &s);
    if (rc) return rc;
    rc = tok_open_gguf(&host, s, &t);
    tok_free(t);
    store_close(s);
    return rc;
}
static int load_model(void)
{
    peft_model *m;
    int rc = peft_model_load("dir", memory_opts(), &m);
    if (!rc) peft_model_free(m);
    return rc;
}
static int load_data(void)
{
    struct data_opts o = { .max_len = 64, .vocab = 300, .causal = 1 };
    struct dataset *d = NULL;
    int rc = data_load(&host, NULL, file_at("dir/f.csv") ? "dir/f.csv" : "dir/f.jsonl", &o, &d);
    data_free(d);
    return rc;
}

/* Loads what is in "dir" and forgets it; the rules hold. */
static int load(int (*loader)(void))
{
    int64_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(disk); i++) n += disk[i].data ? disk[i].n : 0;
    begin();
    int rc = loader(), keeps = heap_peak - heap_before <= 8 * n + (32 << 20);
    if (!keeps)
        printf("%lld bytes of memory for %lld of files\n", (long long)(heap_peak - heap_before),
               (long long)n);
    CHECK(keeps);
    CHECK(rc >= 0 || strstr(error_message(), "dir"));
    fine(rc);
    end();
    return rc;
}

/* --- both sides of a limit */

/* head, then `piece` n times ("%d" in it is the number from 0) or n itself,
 * then `close` n times, then tail. */
struct text { const char *head, *piece, *close, *tail; };

static void repeat(struct buf *b, const char *piece, int64_t n)
{
    const char *mark = strstr(piece, "%d");
    for (int64_t i = 0; i < n; i++) {
        if (mark) buf_put(b, piece, mark - piece), buf_printf(b, "%lld", (long long)i);
        buf_puts(b, mark ? mark + 2 : piece);
    }
}

static void put_text(const char *file, const struct text *t, int64_t n)
{
    struct buf b;
    struct mem m;
    mem_init(&m, NULL, NULL);
    buf_init(&b, &m);
    buf_puts(&b, t->head);
    if (t->piece) repeat(&b, t->piece, n);
    else buf_printf(&b, "%lld", (long long)n);
    if (t->close) repeat(&b, t->close, n);
    buf_puts(&b, t->tail);
    disk_put(file, b.data, b.n);
    buf_free(&b);
}

#define VOCAB "{\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{"
#define WORDS "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"a\",\"vocab\":{\"a\":0}"
#define TOKENIZER "dir/tokenizer.json"
#define GOOD WORDS "}}"

static const struct limit {
    const char *label;
    int (*load)(void);
    const char *file;
    struct text text;
    int64_t most;
    const char *part;           /* of the message beyond it */
} limits[] = {
    { "depth of JSON", load_tokenizer, "dir/tokenizer_config.json",
      { "{\"a\":", "[", "]", "}" }, 63, "nested deeper than 64" },
    { "digits of a number", load_tokenizer, "dir/tokenizer_config.json",
      { "{\"a\":0.", "1", NULL, "}" }, 61, "too many digits" },
    { "bytes of a token", load_tokenizer, TOKENIZER,
      { VOCAB "\"", "a", NULL, "\":0}}}" }, 1 << 20, "1048577 bytes long" },
    { "an id in a small vocabulary", load_tokenizer, TOKENIZER,
      { VOCAB "\"a\":", NULL, NULL, "}}}" }, 65539, "token id 65540 in a vocabulary of 1" },
    { "bytes of an added token", load_tokenizer, TOKENIZER,
      { WORDS "},\"added_tokens\":[{\"id\":1,\"content\":\"", "b", NULL, "\"}]}" }, 512,
      "513 bytes, at most 512" },
    { "bytes of a prefix", load_tokenizer, TOKENIZER,
      { WORDS ",\"continuing_subword_prefix\":\"", "#", NULL, "\"}}" }, 32, "33 bytes long" },
    { "characters of a word", load_tokenizer, TOKENIZER,
      { WORDS ",\"max_input_chars_per_word\":", NULL, NULL, "}}" }, 1000, "1001, expected 1" },
    { "normalizers", load_tokenizer, TOKENIZER,
      { WORDS "},\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}",
        ",{\"type\":\"NFC\"}", NULL, "]}}" }, 11, "more than 12 normalizer steps" },
    { "pre-tokenizers", load_tokenizer, TOKENIZER,
      { WORDS "},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":"
        "[{\"type\":\"Whitespace\"}", ",{\"type\":\"WhitespaceSplit\"}", NULL, "]}}" }, 11,
      "more than 12 pre-tokenizer steps" },
    { "sequences in sequences", load_tokenizer, TOKENIZER,
      { WORDS "},\"normalizer\":", "{\"type\":\"Sequence\",\"normalizers\":[", "]}", "}" }, 9,
      "normalizer too deep" },
    { "bytes of a row", load_data, "dir/f.jsonl",
      { "{\"input_ids\":[1,2]}", " ", NULL, "\n" }, (16 << 20) - 19, "longer than 16 MiB" },
    { "bytes of a JSON file", load_store, "dir/model.safetensors.index.json",
      { "{\"weight_map\":{\"x\":\"a.safetensors\"}}", " ", NULL, "" }, 100000000 - 36,
      "has 100000001 bytes, expected at most 100000000" },
};

static void test_limits(void)
{
    static const char shard[] = "\x3a\0\0\0\0\0\0\0{\"x\":{\"dtype\":\"F32\",\"shape\":[1],"
                                "\"data_offsets\":[0,4]}}    abcd";
    for (size_t i = 0; i < ARRAY_LEN(limits); i++)
        for (int beyond = 0; beyond < 2; beyond++) {
            const struct limit *l = &limits[i];
            disk_puts("dir/config.json", "{}");
            disk_put("dir/a.safetensors", shard, sizeof shard - 1);
            disk_puts(TOKENIZER, GOOD);
            put_text(l->file, &l->text, l->most + beyond);
            int rc = load(l->load);
            if (beyond ? rc < 0 && strstr(error_message(), l->part) : rc == 0) continue;
            test_bad++;
            printf("%s, %s: %d \"%s\"\n", l->label, beyond ? "one more" : "the most", rc,
                   error_message());
        }
}

/* --- much memory for few bytes */

static const struct greedy {
    const char *label;
    int (*load)(void);
    const char *file;
    struct text text;
    int64_t n;
} greedy[] = {
    { "numbers in config.json", load_model, "dir/config.json",
      { "{\"a\":[0", ",0", NULL, "]}" }, 4000000 },
    { "keys in config.json", load_model, "dir/config.json",
      { "{\"a\":{\"\":0", ",\"%d\":0", NULL, "}}" }, 600000 },
    { "lists in an index", load_store, "dir/model.safetensors.index.json",
      { "{\"weight_map\":[[]", ",[]", NULL, "]}" }, 2500000 },
    { "shards in an index", load_store, "dir/model.safetensors.index.json",
      { "{\"weight_map\":{\"\":\"a.safetensors\"", ",\"%d\":\"a.safetensors\"", NULL, "}}" },
      300000 },
    { "tokens", load_tokenizer, TOKENIZER,
      { VOCAB "\"\":0", ",\"%d\":%d", NULL, "}}}" }, 600000 },
    { "merges", load_tokenizer, TOKENIZER,
      { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"a a\"",
        ",\"a a\"", NULL, "]}}" }, 1000000 },
    { "numbers in one merge", load_tokenizer, TOKENIZER,
      { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[[0",
        ",0", NULL, "]]}}" }, 4000000 },
    { "added tokens", load_tokenizer, TOKENIZER,
      { WORDS "},\"added_tokens\":[{\"id\":1,\"content\":\"b\"}",
        ",{\"id\":1,\"content\":\"%d\"}", NULL, "]}" }, 200000 },
    { "empty lines of vocab.txt", load_tokenizer, "dir/vocab.txt",
      { "[UNK]\n", "\n", NULL, "" }, 8000000 },
    { "short lines of vocab.txt", load_tokenizer, "dir/vocab.txt",
      { "[UNK]\n", "%d\n", NULL, "" }, 1000000 },
    { "ends of a turn", load_tokenizer, "dir/generation_config.json",
      { "{\"eos_token_id\":[0", ",0", NULL, "]}" }, 2000000 },
    { "a template that multiplies", load_tokenizer, "dir/chat_template.jinja",
      { "{% set x = 'abcdefgh' * 100000 %}", "{% set x = x + x %}", NULL,
        "{{ x }}{% for i in range(9999) %}{{ x ~ i }}{% endfor %}" }, 3 },
    { "a template of parts", load_tokenizer, "dir/chat_template.jinja",
      { "{{ [0", ",0", NULL, "] }}" }, 500000 },
    { "rows of one id", load_data, "dir/f.jsonl",
      { "", "{\"input_ids\":[1,2]}\n", NULL, "" }, 200000 },
    { "ids of a row", load_data, "dir/f.jsonl", { "{\"input_ids\":[1", ",1", NULL, "]}\n" },
      4000000 },
    { "columns", load_data, "dir/f.csv", { "a", ",", NULL, "\n" }, 4000000 },
};

static void test_greedy(void)
{
    for (size_t i = 0; i < ARRAY_LEN(greedy); i++) {
        disk_puts("dir/config.json", "{}");
        if (strstr(greedy[i].file, "vocab.txt") == NULL) disk_puts(TOKENIZER, GOOD);
        put_text(greedy[i].file, &greedy[i].text, greedy[i].n);
        int before = test_bad, rc = load(greedy[i].load);
        if (test_bad > before) printf("%s: %d %s\n", greedy[i].label, rc, error_message());
    }
}

/* --- the same in GGUF: many keys, tensors, tokens; `n` of each kind */

static void put_gguf(int64_t keys, int64_t tensors, int64_t tokens)
{
    static const uint32_t version = 3, bool_type = GGUF_BOOL, array_type = GGUF_ARRAY, one = 1;
    static const uint64_t zero;
    struct buf b;
    struct mem m;
    char name[32];
    int64_t n_keys = keys + (tokens ? 3 : 0);
    mem_init(&m, NULL, NULL);
    buf_init(&b, &m);
    buf_puts(&b, "GGUF");
    buf_put(&b, &version, 4);
    buf_put(&b, &tensors, 8);
    buf_put(&b, &n_keys, 8);
    for (int64_t i = 0; i < keys; i++) {
        gguf_raw_string(&b, name, snprintf(name, sizeof name, "%llx", (long long)i));
        buf_put(&b, &bool_type, 4);
        buf_putc(&b, 0);
    }
    if (tokens) {
        static const uint32_t string_type = GGUF_STRING;
        gguf_raw_string(&b, "tokenizer.ggml.model", 20);
        buf_put(&b, &string_type, 4);
        gguf_raw_string(&b, "llama", 5);
        gguf_raw_string(&b, "tokenizer.ggml.tokens", 21);
        buf_put(&b, &array_type, 4);
        gguf_raw_array(&b, GGUF_STRING, tokens);
        for (int64_t i = 0; i < tokens; i++)
            gguf_raw_string(&b, name, snprintf(name, sizeof name, "%llx", (long long)i));
        gguf_raw_string(&b, "tokenizer.ggml.scores", 21);
        buf_put(&b, &array_type, 4);
        gguf_raw_array(&b, GGUF_F32, tokens);
        for (int64_t i = 0; i < tokens; i++) gguf_raw_f32(&b, 1);
    }
    for (int64_t i = 0; i < tensors; i++) {
        gguf_raw_string(&b, name, snprintf(name, sizeof name, "%llx", (long long)i));
        buf_put(&b, &one, 4);
        buf_put(&b, &zero, 8);
        buf_put(&b, &(uint32_t){ 0 }, 4);
        buf_put(&b, &zero, 8);
    }
    disk_put("dir/f.gguf", b.data, b.n);
    buf_free(&b);
}

static void test_greedy_gguf(void)
{
    static const int64_t n[][3] = { { 400000, 0, 0 }, { 0, 300000, 0 }, { 0, 0, 600000 },
                                    { 0, 0, 1000 } };
    for (size_t i = 0; i < ARRAY_LEN(n); i++) {
        put_gguf(n[i][0], n[i][1], n[i][2]);
        int rc = load(load_gguf);
        if (i == ARRAY_LEN(n) - 1) CHECK_EQ(rc, 0);
    }
}

static void test_greedy_safetensors(void)
{
    struct text t = { "12345678{\"x\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}",
                      ",\"%d\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}", NULL,
                      "}" };
    disk_puts("dir/config.json", "{}");
    put_text("dir/model.safetensors", &t, 150000);
    struct file *f = file_at("dir/model.safetensors");
    uint64_t n = (uint64_t)f->n - 8;
    memcpy(f->data, &n, 8);
    load(load_store);
}

/* Settings that multiply. */
static void test_greedy_settings(void)
{
    static const char *const edits[][2] = {
        { "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4096" },
        { "\"num_local_experts\": 4", "\"num_local_experts\": 4096" },
        { "\"max_position_embeddings\": ", "\"max_position_embeddings\": 9" },
        { "\"vocab_size\": ", "\"vocab_size\": 9" } };
    struct input config = golden(GOLDEN "tiny/mixtral/config.json");
    for (size_t i = 0; i < ARRAY_LEN(edits); i++) {
        char text[4096];
        const char *c = (const char *)config.at, *at = strstr(c, edits[i][0]);
        CHECK(at != NULL);
        if (!at) continue;
        size_t rest = config.n - (size_t)(at - c) - strlen(edits[i][0]);
        snprintf(text, sizeof text, "%.*s%s%.*s", (int)(at - c), c, edits[i][1], (int)rest,
                 at + strlen(edits[i][0]));
        put_golden("dir/model.safetensors", GOLDEN "tiny/mixtral/model.safetensors");
        disk_puts("dir/config.json", text);
        load(load_model);
    }
    free((void *)(uintptr_t)config.at);
}

int main(void)
{
    heap_hooks();
    if (host_init(&host, memory_opts()) < 0) return 1;
    RUN(test_limits);
    RUN(test_greedy);
    RUN(test_greedy_gguf);
    RUN(test_greedy_safetensors);
    RUN(test_greedy_settings);
    return TEST_END();
}
