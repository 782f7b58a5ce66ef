/* Data sets: schemas, masks and errors. */
#include "test.h"

#include <stdlib.h>
#include <unistd.h>

#include "data/data.h"

static struct host host;
static struct tokenizer *chat, *plain, *bert;
static char path[64];

/* --- helpers */

static void put_file(const char *ext, const void *data, size_t n)
{
    snprintf(path, sizeof path, "/tmp/peft-data-%d.%s", (int)getpid(), ext);
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(data, 1, n, f) == n);
    if (f) fclose(f);
}

static struct data_opts options(int32_t max_len)
{
    return (struct data_opts){.max_len = max_len, .vocab = 300, .causal = 1};
}

static int load_as(const struct tokenizer *t, const char *ext, const char *text,
                   const struct data_opts *o, struct dataset **d)
{
    put_file(ext, text, strlen(text));
    error_clear();
    int rc = data_load(&host, t, path, o, d);
    remove(path);
    return rc;
}

static struct dataset *load(const struct tokenizer *t, const char *text)
{
    struct dataset *d;
    struct data_opts o = options(1000);
    CHECK_EQ(load_as(t, "jsonl", text, &o, &d), PEFT_OK);
    return d;
}

/* Loading fails with this code, and the message has both parts. */
static void refuse_as(const struct tokenizer *t, const char *ext, const char *text,
                      const struct data_opts *o, int code, const char *a, const char *b)
{
    struct dataset *d;
    int rc = load_as(t, ext, text, o, &d);
    if (rc != code || d || !strstr(error_message(), a) || !strstr(error_message(), b)) {
        test_bad++;
        printf("%d, \"%s\"; expected %d with \"%s\" and \"%s\"\n", rc, error_message(), code, a, b);
    }
    data_free(d);
}

static void refuse(const struct tokenizer *t, const char *text, int code, const char *a,
                   const char *b)
{
    struct data_opts o = options(1000);
    refuse_as(t, "jsonl", text, &o, code, a, b);
}

/* Row i as text, with what is trained in [ ]. */
static const char *marked(const struct tokenizer *t, const struct dataset *d, int64_t i)
{
    static char out[2000];
    struct buf b;
    buf_init(&b, &host.mem);
    const struct example *x = &d->rows[i];
    int on = 0;
    for (int32_t p = 0; p < x->n; p++) {
        int now = x->labels && x->labels[p] != -100;
        if (now) CHECK_EQ(x->labels[p], x->ids[p]);
        if (now != on) buf_puts(&b, now ? "[" : "]");
        on = now;
        tok_piece(t, x->ids[p], &b);
    }
    if (on) buf_puts(&b, "]");
    snprintf(out, sizeof out, "%s", buf_str(&b));
    buf_free(&b);
    return out;
}

static void one_row(const struct tokenizer *t, const char *row, const char *schema,
                    const char *expected)
{
    struct dataset *d = load(t, row);
    if (!d) return;
    CHECK_STR(d->schema, schema);
    CHECK_EQ(d->n, 1);
    CHECK_STR(marked(t, d, 0), expected);
    data_free(d);
}

#define S "<|im_start|>"
#define E "<|im_end|>"

/* --- schemas */

static void test_mask_by_hand(void)
{
    struct dataset *d = load(chat, "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"},"
                             "{\"role\":\"assistant\",\"content\":\"hi\"}]}\n");
    /* Bytes are 3 + byte; "hello" 262, "user" 267. */
    static const int32_t ids[] = {1, 267, 13, 262, 2, 13, 1, 100, 118, 118, 108, 118, 119, 100, 113,
                                  119, 13, 107, 108, 2, 13};
    CHECK_EQ(d->rows[0].n, (int)ARRAY_LEN(ids));
    for (int32_t i = 0; i < d->rows[0].n; i++) {
        CHECK_EQ(d->rows[0].ids[i], ids[i]);
        CHECK_EQ(d->rows[0].labels[i], i >= 17 && i <= 19 ? ids[i] : -100);
    }
    CHECK_EQ(d->rows[0].line, 1);
    CHECK_EQ(d->rows[0].label, -1);
    CHECK_EQ(d->task, TASK_LM);
    data_free(d);
}

static void test_messages(void)
{
    one_row(chat, "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},"
            "{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"},"
            "{\"role\":\"user\",\"content\":\"c\"},{\"role\":\"assistant\",\"content\":\"d\\n\"}]}",
            "messages",
            S "system\nS" E "\n" S "user\na" E "\n" S "assistant\n[b" E "]\n"
            S "user\nc" E "\n" S "assistant\n[d\n" E "]\n");
    one_row(chat, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
            "{\"role\":\"assistant\",\"content\":\"b\",\"train\":false},"
            "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"c\"},"
            "{\"type\":\"text\",\"text\":\"d\"}]},"
            "{\"role\":\"assistant\",\"content\":\"e\",\"train\":true}],\"more\":[{}],\"x\":null}",
            "messages",
            S "user\na" E "\n" S "assistant\nb" E "\n" S "user\ncd" E "\n" S "assistant\n[e" E
            "]\n");
    /* The first message may be an answer; the last one need not be. */
    one_row(chat, "{\"messages\":[{\"role\":\"assistant\",\"content\":\"b\"},"
            "{\"role\":\"user\",\"content\":\"a\"}]}", "messages",
            S "assistant\n[b" E "]\n" S "user\na" E "\n");
}

static void write_text(const char *dir, const char *name, const char *text, size_t n)
{
    char file[128];
    snprintf(file, sizeof file, "%s/%s", dir, name);
    FILE *f = fopen(file, "wb");
    CHECK(f && fwrite(text, 1, n, f) == n);
    if (f) fclose(f);
}

/* The chat tokenizer with another template. */
static struct tokenizer *with_template(const char *jinja)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json",
                                        "chat_template.jinja"};
    static char text[8192];
    char dir[] = "/tmp/peft-template-XXXXXX", file[128];
    struct tokenizer *t = NULL;
    CHECK(mkdtemp(dir) != NULL);
    for (int i = 0; i < 2; i++) {
        snprintf(file, sizeof file, "tests/golden/data/chat/%s", names[i]);
        FILE *f = fopen(file, "rb");
        size_t n = f ? fread(text, 1, sizeof text, f) : 0;
        if (f) fclose(f);
        write_text(dir, names[i], text, n);
    }
    write_text(dir, names[2], jinja, strlen(jinja));
    CHECK_EQ(tok_open_folder(&host, dir, &t), 0);
    for (int i = 0; i < 3; i++) {
        snprintf(file, sizeof file, "%s/%s", dir, names[i]);
        remove(file);
    }
    rmdir(dir);
    return t;
}

#define TURNS "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}," \
    "{\"role\":\"assistant\",\"content\":\"b\",\"train\":false}," \
    "{\"role\":\"user\",\"content\":\"c\"},{\"role\":\"assistant\",\"content\":\"d\"}," \
    "{\"role\":\"user\",\"content\":\"e\"},{\"role\":\"assistant\",\"content\":\"f\"}]}"

static void test_templates(void)
{
    /* Marks that take the role in and leave the end of the turn out. */
    struct tokenizer *t = with_template(
        "{% for m in messages %}<|im_start|>{% if m.role == 'assistant' %}{% generation %}"
        "assistant\n{{ m.content }}{% endgeneration %}"
        "{% else %}{{ m.role ~ '\n' ~ m.content }}{% endif %}"
        "<|im_end|>{% endfor %}");
    one_row(t, TURNS, "messages", S "user\na" E S "assistant\nb" E S "user\nc" E
            S "[assistant\nd]" E S "user\ne" E S "[assistant\nf]" E);
    tok_free(t);
    /* A last answer that is written otherwise than an earlier one. */
    t = with_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if loop.last and m.role == 'assistant' %}<think>"
        "{% endif %}{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}");
    one_row(t, TURNS, "messages", S "user\na" E S "assistant\nb" E S "user\nc" E
            S "assistant\n[d" E "]" S "user\ne" E S "assistant\n[<think>f" E "]");
    tok_free(t);
    /* Tools, and a call of one without content. */
    t = with_template(
        "{{ tools|map(attribute='name')|join }}{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content or '' }}{% for c in m.tool_calls or [] %}{{ c.args|tojson }}{% endfor %}"
        "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}");
    one_row(t, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
            "\"content\":null,\"tool_calls\":[{\"args\":{\"x\":1}}]},{\"role\":\"tool\","
            "\"content\":\"r\"}],\"tools\":[{\"name\":\"T\"}]}", "messages",
            "T" S "user\na" E S "assistant\n[{\"x\": 1}" E "]" S "tool\nr" E);
    tok_free(t);
    t = with_template("{{ raise_exception('no such turns') }}");
    refuse(t, TURNS, PEFT_EDATA, "line 1", "no such turns");
    tok_free(t);
}

static void test_system_and_prompt(void)
{
    const char *text = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
                       "{\"role\":\"assistant\",\"content\":\"b\"}]}\n"
                       "{\"messages\":[{\"role\":\"system\",\"content\":\"own\"},"
                       "{\"role\":\"assistant\",\"content\":\"b\"}]}\n";
    struct dataset *d;
    struct data_opts o = options(1000);
    o.system = "sys";
    CHECK_EQ(load_as(chat, "jsonl", text, &o, &d), PEFT_OK);
    CHECK_STR(marked(chat, d, 0), S "system\nsys" E "\n" S "user\na" E "\n" S "assistant\n[b" E
              "]\n");
    CHECK_STR(marked(chat, d, 1), S "system\nown" E "\n" S "assistant\n[b" E "]\n");
    data_free(d);
    o.system = NULL;
    o.train_on_prompt = 1;
    CHECK_EQ(load_as(chat, "jsonl", text, &o, &d), PEFT_OK);
    CHECK_STR(marked(chat, d, 0), S "[user\na" E "\n" S "assistant\nb" E "\n]");
    data_free(d);
}

static void test_other_schemas(void)
{
    one_row(chat, "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},"
            "{\"from\":\"gpt\",\"value\":\"b\"}],\"system\":\"s\"}", "sharegpt",
            S "system\ns" E "\n" S "user\na" E "\n" S "assistant\n[b" E "]\n");
    one_row(chat, "{\"prompt\":[{\"role\":\"user\",\"content\":\"a\"}],"
            "\"completion\":[{\"role\":\"assistant\",\"content\":\"b\"}]}", "prompt-completion",
            S "user\na" E "\n" S "assistant\n[b" E "]\n");
    one_row(chat, "{\"instruction\":\"do\",\"input\":\"it\",\"output\":\"b\"}", "alpaca",
            S "user\ndo\nit" E "\n" S "assistant\n[b" E "]\n");
    one_row(plain, "{\"instruction\":\"do\",\"input\":\"it\",\"output\":\"b\",\"system\":\"s\"}",
            "alpaca", "<s>s\n\n### Instruction:\ndo\n\n### Input:\nit\n\n### Response:\n[b</s>]");
    one_row(plain, "{\"instruction\":\"do\",\"input\":\"\",\"output\":\"b\"}", "alpaca",
            "<s>### Instruction:\ndo\n\n### Response:\n[b</s>]");
    one_row(plain, "{\"prompt\":\"2 + 2 =\",\"completion\":\" 4\"}", "prompt-completion",
            "<s>2 + 2 =[ 4</s>]");
    /* Strings have no template, and EOS is not doubled. */
    one_row(chat, "{\"prompt\":\"x\",\"completion\":\" y" E "\"}", "prompt-completion",
            "x[ y" E "]");
    /* "he" + "llo" is one token. */
    one_row(plain, "{\"prompt\":\"he\",\"completion\":\"llo you\"}", "prompt-completion",
            "<s>[hello you</s>]");
    one_row(plain, "{\"text\":\"hello \xc3\xa9\"}", "text", "<s>[hello \xc3\xa9</s>]");
    one_row(chat, "{\"text\":\"hello you\"}", "text", "hello[ you" E "]");
}

static void test_plain_chat(void)
{
    struct dataset *d = load(plain, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
                             "{\"role\":\"assistant\",\"content\":\"b\"}]}\n");
    const char *m = marked(plain, d, 0);
    /* Without end-of-turn token the answer ends with EOS. */
    CHECK(strncmp(m, "<s>", 3) == 0 && strstr(m, "b") && strstr(m, "</s>]"));
    data_free(d);
}

static void test_ids(void)
{
    struct dataset *d;
    struct data_opts o = options(1000);
    const char *text = "{\"input_ids\":[5,6,7,8],\"labels\":[5,-100,7,8]}\n\n"
                       "{\"input_ids\":[5,6,7,8],\"attention_mask\":[1,1,1,0]}\r\n  \n"
                       "{\"input_ids\":[5,6,7,8,9],\"labels\":[5,6,7,-100,8],"
                       "\"attention_mask\":[1,1,1,0,0]}";
    CHECK_EQ(load_as(NULL, "jsonl", text, &o, &d), PEFT_OK);
    CHECK_STR(d->schema, "input_ids");
    CHECK_EQ(d->n, 3);
    CHECK_EQ(d->rows[0].n, 4);
    CHECK_EQ(d->rows[0].labels[0], -100);
    CHECK_EQ(d->rows[0].labels[1], -100);
    CHECK_EQ(d->rows[0].labels[3], 8);
    CHECK_EQ(d->rows[1].n, 3);
    CHECK_EQ(d->rows[1].labels[2], 7);
    CHECK_EQ(d->rows[1].line, 3);
    CHECK_EQ(d->rows[2].n, 3);
    CHECK_EQ(d->rows[2].line, 5);
    data_free(d);
    CHECK_EQ(load_as(NULL, "jsonl", "{\"input_ids\":[1,2],\"labels\":1}\n"
                     "{\"input_ids\":[1],\"labels\":0}\n", &o, &d), PEFT_OK);
    CHECK_EQ(d->task, TASK_CLASS);
    CHECK_EQ(d->n_labels, 2);
    CHECK(d->rows[0].labels == NULL);
    CHECK_EQ(d->rows[0].label, 1);
    CHECK_STR(d->labels[1], "1");
    data_free(d);
    CHECK_EQ(load_as(NULL, "csv", "input_ids,labels\n\"[5, 6]\",\"[-100,6]\"\n[7],1\n", &o, &d),
             PEFT_EFORMAT);
    CHECK_EQ(load_as(NULL, "csv", "input_ids,labels\n\"[5, 6]\",\"[-100,6]\"\n", &o, &d), PEFT_OK);
    CHECK_EQ(d->rows[0].labels[1], 6);
    data_free(d);
}

/* --- classes */

static void test_labels(void)
{
    struct dataset *d;
    struct data_opts o = options(1000);
    const char *names = "text,label\nthe cat,good\na dog,bad\n\"a, dog\",so so\n";
    CHECK_EQ(load_as(plain, "csv", names, &o, &d), PEFT_OK);
    CHECK_STR(d->schema, "text-label");
    CHECK_EQ(d->task, TASK_CLASS);
    CHECK_EQ(d->n_labels, 3);
    CHECK_STR(d->labels[0], "bad");
    CHECK_STR(d->labels[2], "so so");
    CHECK_EQ(d->rows[0].label, 1);
    CHECK_EQ(d->rows[1].label, 0);
    CHECK_EQ(d->rows[2].label, 2);
    CHECK_EQ(d->rows[0].ids[0], 0);     /* BOS */
    data_free(d);

    static const char *const head[] = {"good", "so so", "bad"};
    o.labels = head;
    o.n_labels = 3;
    CHECK_EQ(load_as(plain, "csv", names, &o, &d), PEFT_OK);
    CHECK_EQ(d->rows[0].label, 0);
    CHECK_EQ(d->rows[1].label, 2);
    CHECK_STR(d->labels[0], "good");
    data_free(d);
    CHECK_EQ(load_as(plain, "csv", "text,label\na,2\nb,good\n", &o, &d), PEFT_OK);
    CHECK_EQ(d->rows[0].label, 2);
    CHECK_EQ(d->rows[1].label, 0);
    data_free(d);
    refuse_as(plain, "csv", "label,text\ngood,x\nugly,y\n", &o, PEFT_EDATA, "line 3",
              "unknown label \"ugly\", expected one of: good, so so, bad");
    refuse_as(plain, "csv", "label,text\n3,x\n", &o, PEFT_EDATA, "line 2", "0 to 2");
    static const char *const stars[] = {"1", "2", "3"};
    o.labels = stars;
    CHECK_EQ(load_as(plain, "csv", "label,text\n3,x\n1,y\n", &o, &d), PEFT_OK);
    CHECK_EQ(d->rows[0].label, 2);
    CHECK_EQ(d->rows[1].label, 0);
    data_free(d);
    o.labels = NULL;
    o.n_labels = 2;
    refuse_as(plain, "csv", names, &o, PEFT_EDATA, "3 different labels", "2");
}

static void test_numbers_as_labels(void)
{
    struct dataset *d = load(plain, "{\"sentence\":\"a\",\"label\":2}\n"
                             "{\"sentence\":\"b\",\"label\":true}\n");
    CHECK_EQ(d->n_labels, 3);
    CHECK_EQ(d->rows[0].label, 2);
    CHECK_EQ(d->rows[1].label, 1);
    data_free(d);
    d = load(plain, "{\"text\":\"a\",\"label\":2}\n{\"text\":\"b\",\"label\":-0.5}\n");
    CHECK_EQ(d->n_labels, 0);
    CHECK_EQ(d->rows[0].label, -1);
    CHECK_NEAR(d->rows[0].value, 2, 0);
    CHECK_NEAR(d->rows[1].value, -0.5, 0);
    data_free(d);
    struct data_opts o = options(100);
    o.n_labels = 1;
    CHECK_EQ(load_as(plain, "csv", "text,label\na,1e1\nb,-7\n", &o, &d), PEFT_OK);
    CHECK_EQ(d->rows[0].label, -1);
    CHECK_NEAR(d->rows[0].value, 10, 0);
    CHECK_NEAR(d->rows[1].value, -7, 0);
    data_free(d);
    refuse(plain, "{\"text\":\"a\",\"label\":0}\n{\"text\":\"a\",\"label\":-1}\n", PEFT_EDATA,
           "line 2", "label -1");
    refuse(plain, "{\"text\":\"a\",\"label\":0}\n{\"text\":\"a\",\"label\":\"x\"}\n", PEFT_EFORMAT,
           "line 2", "expected a number");
    refuse(plain, "{\"text\":\"a\",\"label\":[]}\n", PEFT_EFORMAT, "line 1",
           "expected a string or");
}

static void test_encoder(void)
{
    struct dataset *d;
    struct data_opts o = options(100);
    o.causal = 0;
    CHECK_EQ(load_as(bert, "csv", "text,label\nThe cat sleeps.,0\n", &o, &d), PEFT_OK);
    static const int32_t ids[] = {2, 5, 7, 10, 15, 3};
    CHECK_EQ(d->rows[0].n, 6);
    for (int32_t i = 0; i < 6; i++) CHECK_EQ(d->rows[0].ids[i], ids[i]);
    data_free(d);
    o.max_len = 4;
    CHECK_EQ(load_as(bert, "csv", "text,label\nThe cat sleeps.,0\nthe dog,1\n", &o, &d), PEFT_OK);
    CHECK_EQ(d->truncated, 1);
    CHECK_EQ(d->rows[0].n, 4);
    CHECK_EQ(d->rows[0].ids[2], 7);
    CHECK_EQ(d->rows[0].ids[3], 3);     /* the closing [SEP] stays */
    data_free(d);
    o.max_len = 100;
    CHECK_EQ(load_as(bert, "csv", "text,text_pair,label\nthe cat,a dog,1\n", &o, &d), PEFT_OK);
    static const int32_t pair[] = {2, 5, 7, 3, 6, 8, 3};
    CHECK_EQ(d->rows[0].n, 7);
    for (int32_t i = 0; i < 7; i++) CHECK_EQ(d->rows[0].ids[i], pair[i]);
    data_free(d);
    o.causal = 1;
    refuse_as(plain, "csv", "text,text_pair,label\nthe cat,a dog,1\n", &o, PEFT_EUNSUPPORTED,
              "line 2", "encoder");
}

/* --- CSV */

static void test_csv(void)
{
    struct dataset *d;
    struct data_opts o = options(1000);
    CHECK_EQ(load_as(plain, "csv",
                     "\xef\xbb\xbf,prompt,extra,completion\r\n"
                     "0,\"a \"\"b\"\"\",,\"c,\r\nd\"\r\n"
                     "\r\n"
                     "1,5\" wide,x,{\"y\": [\n", &o, &d), PEFT_OK);
    CHECK_EQ(d->n, 2);
    CHECK_STR(marked(plain, d, 0), "<s>a \"b\"[c,\nd</s>]");
    CHECK_EQ(d->rows[0].line, 2);
    CHECK_STR(marked(plain, d, 1), "<s>5\" wide[{\"y\": [</s>]");
    CHECK_EQ(d->rows[1].line, 5);
    data_free(d);
    CHECK_EQ(load_as(plain, "csv", "text\n\"\"\"\"\n\"\n\"", &o, &d), PEFT_OK);
    CHECK_STR(marked(plain, d, 0), "<s>[\"</s>]");
    CHECK_STR(marked(plain, d, 1), "<s>[\n</s>]");
    data_free(d);
    CHECK_EQ(load_as(chat, "csv", "messages\n\"[{\"\"role\"\":\"\"assistant\"\","
                     "\"\"content\"\":\"\"b\"\"}]\"\n", &o, &d), PEFT_OK);
    CHECK_STR(marked(chat, d, 0), S "assistant\n[b" E "]\n");
    data_free(d);
    refuse_as(plain, "csv", "prompt,completion\na,b\n\na,b,c\n", &o, PEFT_EFORMAT, "line 4",
              "expected 2 cells as in the header row, found 3");
    refuse_as(plain, "csv", "prompt,completion\na,b\na\n", &o, PEFT_EFORMAT, "line 3", "found 1");
    refuse_as(plain, "csv", "prompt,completion\na,b\n\"c,\nd\n", &o, PEFT_EFORMAT, "line 3",
              "never closed");
    refuse_as(plain, "csv", "prompt,completion\n\"a\"b,c\n", &o, PEFT_EFORMAT, "line 2",
              "closing quote");
    refuse_as(plain, "csv", "text,text\na,b\n", &o, PEFT_EFORMAT, "line 1", "twice");
    refuse_as(plain, "csv", "a,b\n1,2\n", &o, PEFT_EFORMAT, "line 2", "found a, b");
    refuse_as(plain, "csv", "", &o, PEFT_EDATA, "no rows", "");
    refuse_as(plain, "csv", "text,label\n\n", &o, PEFT_EDATA, "no rows", "");
    refuse_as(NULL, "csv", "input_ids\n\"[1,2\"\n", &o, PEFT_EFORMAT, "line 2", "input_ids");
    refuse_as(NULL, "csv", "input_ids\n\"[1],\"\"labels\"\":[2]\"\n", &o, PEFT_EFORMAT, "line 2",
              "");
}

/* --- errors */

static void test_format_errors(void)
{
    const char *good = "{\"prompt\":\"a\",\"completion\":\"b\"}\n";
    char text[400];
    static const struct { const char *row; int code; const char *says; } bad[] = {
        {"{\"prompt\":\"a\"}", PEFT_EFORMAT,
         "expected prompt and completion as in the first row (prompt-completion, line 1); "
         "found prompt (prompt)"},
        {"{\"prompt\":1,\"completion\":\"b\"}", PEFT_EFORMAT,
         "\"prompt\": expected a string, found a number"},
        {"{\"prompt\":\"a\",\"completion\":[]}", PEFT_EFORMAT, "\"completion\": expected a string"},
        {"{\"prompt\":[],\"completion\":[]}", PEFT_EFORMAT, "found an empty one"},
        {"{\"prompt\":[1],\"completion\":[1]}", PEFT_EFORMAT, "expected a list of objects"},
        {"{\"prompt\":\"a\",\"completion\":\"b\"", PEFT_EFORMAT, ""},
        {"{\"prompt\":\"a\",\"prompt\":\"b\"}", PEFT_EFORMAT, ""},
        {"{\"prompt\":\"a\\u0000\",\"completion\":\"b\"}", PEFT_EFORMAT, ""},
        {"[1]", PEFT_EFORMAT, "expected a JSON object on each line, found an array"},
        {"nonsense", PEFT_EFORMAT, ""},
        {"{\"prompt\":\"a\xff\",\"completion\":\"b\"}", PEFT_EFORMAT, "column 13: not valid UTF-8"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        snprintf(text, sizeof text, "%s\n%s%s\n", good, good, bad[i].row);
        refuse(plain, text, bad[i].code, " line 4", bad[i].says);
    }
    static const char *const chats[] = {
        "{\"messages\":\"x\"}", "{\"messages\":[]}", "{\"messages\":[3]}",
        "{\"messages\":[{\"role\":\"user\"}]}", "{\"messages\":[{\"content\":\"a\"}]}",
        "{\"messages\":[{\"role\":\"king\",\"content\":\"a\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":null}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"train\":1}]}",
        "{\"conversations\":[{\"role\":\"user\",\"content\":\"a\"}]}",
        "{\"conversations\":[{\"from\":\"gpt\",\"value\":{}}]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(chats); i++)
        refuse(chat, chats[i], PEFT_EFORMAT, " line 1: ", "");
    refuse(chat, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}",
           PEFT_EUNSUPPORTED, "line 1", "image");
    refuse(chat, "{\"a\":1,\"chosen\":2}", PEFT_EFORMAT, "line 1", "found a, chosen");
    refuse(chat, "{}", PEFT_EFORMAT, "line 1", "no columns");
}

static void test_ids_errors(void)
{
    static const struct { const char *row, *says; } bad[] = {
        {"{\"input_ids\":[300]}", "element 0 is 300, expected an integer of 0 to 299"},
        {"{\"input_ids\":[1,-1]}", "element 1 is -1"},
        {"{\"input_ids\":[1.5]}", "element 0 is 1.5"},
        {"{\"input_ids\":[1e300]}", "element 0"},
        {"{\"input_ids\":[\"a\"]}", "expected an integer, found a string"},
        {"{\"input_ids\":7}", "expected a list of integers, found a number"},
        {"{\"input_ids\":[1,2],\"labels\":[1]}", "1 elements, expected 2"},
        {"{\"input_ids\":[1,2],\"labels\":[1,-99]}", "element 1 is -99"},
        {"{\"input_ids\":[1,2],\"labels\":[1,300]}", "element 1 is 300"},
        {"{\"input_ids\":[1,2],\"attention_mask\":[0,1]}", "element 0 is 0 before a 1"},
        {"{\"input_ids\":[1,2],\"attention_mask\":[1]}", "1 elements, expected 2"},
        {"{\"input_ids\":[1,2],\"attention_mask\":[1,2]}", "element 1 is 2"},
        {"{\"input_ids\":[1,2],\"label\":1}", "expected a label for each token"},
    };
    char text[200];
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        snprintf(text, sizeof text, "{\"input_ids\":[1,2]}\n%s\n", bad[i].row);
        refuse(NULL, text, PEFT_EFORMAT, " line 2: ", bad[i].says);
    }
    refuse(NULL, "{\"input_ids\":[1,2],\"label\":1}\n{\"input_ids\":[1,2]}\n", PEFT_EFORMAT,
           " line 2: ", "expected one label for the row");
    refuse(NULL, "{\"text\":\"a\"}", PEFT_ENOTFOUND, "line 1", "tokenizer");
    struct dataset *d;
    struct data_opts o = options(10);
    CHECK_EQ(data_load(&host, NULL, "/nonexistent.jsonl", &o, &d), PEFT_ENOTFOUND);
    o.max_len = 0;
    CHECK_EQ(data_load(&host, NULL, "/nonexistent.jsonl", &o, &d), PEFT_EARG);
}

static void test_nothing_to_train(void)
{
    struct dataset *d;
    struct data_opts o = options(1000);
    refuse(plain, "", PEFT_EDATA, "no rows", "");
    refuse(plain, "\n \n", PEFT_EDATA, "no rows", "");
    refuse(chat, "\n{\"messages\":[{\"role\":\"user\",\"content\":\"abc\"},"
           "{\"role\":\"assistant\",\"content\":\"\"}]}\n", PEFT_EDATA, "line 2", "abc");
    refuse(plain, "{\"text\":\"\"}", PEFT_EDATA, "line 1", "");
    refuse(NULL, "{\"input_ids\":[]}", PEFT_EDATA, "line 1", "");
    refuse(NULL, "{\"input_ids\":[4]}", PEFT_EDATA, "line 1", "");
    refuse(NULL, "{\"input_ids\":[4,5],\"labels\":[4,-100]}", PEFT_EDATA, "line 1", "");
    refuse(plain, "{\"text\":\"a\"}\n{\"text\":\"<s>a\"}\n", PEFT_EDATA, "line 2", "two BOS");
    const char *text = "{\"prompt\":\"abcdef\",\"completion\":\"xy\"}\n"
                       "{\"prompt\":\"abcd\",\"completion\":\"xy\"}\n"
                       "{\"prompt\":\"abcd\",\"completion\":\"\"}\n"
                       "{\"prompt\":\"a\",\"completion\":\"xy\"}\n";
    o.max_len = 3;      /* <s> a x */
    CHECK_EQ(load_as(plain, "jsonl", text, &o, &d), PEFT_OK);
    CHECK_EQ(d->n, 1);
    CHECK_EQ(d->skipped, 3);
    CHECK_EQ(d->truncated, 1);
    CHECK_STR(marked(plain, d, 0), "<s>a[x]");
    CHECK_EQ(d->rows[0].line, 4);
    data_free(d);
    o.source.limit = 3;
    refuse_as(plain, "jsonl", text, &o, PEFT_EDATA,
              "every answer is cut off at max_len 3: shortest prompt is 5 tokens", "line 2)");
    o.source.limit = 1;
    o.max_len = 100;
    CHECK_EQ(load_as(plain, "jsonl", text, &o, &d), PEFT_OK);
    CHECK_EQ(d->n, 1);
    data_free(d);
    /* A long conversation is cut within its answers. */
    o = options(30);
    CHECK_EQ(load_as(chat, "jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
                     "{\"role\":\"assistant\",\"content\":\"bcdefghijklmnopqrstuvwxyz\"},"
                     "{\"role\":\"user\",\"content\":\"a\"},"
                     "{\"role\":\"assistant\",\"content\":\"b\"}]}\n", &o, &d), PEFT_OK);
    CHECK_EQ(d->rows[0].n, 30);
    CHECK_STR(marked(chat, d, 0), S "user\na" E "\n" S "assistant\n[bcdefghijklmn]");
    data_free(d);
}

/* --- hostile rows, failing memory */

static void test_long_rows(void)
{
    struct dataset *d;
    struct data_opts o = options(64);
    struct buf b;
    buf_init(&b, &host.mem);
    buf_puts(&b, "{\"input_ids\":[1");
    for (int i = 0; i < 200000; i++) buf_puts(&b, ",2");
    buf_puts(&b, "]}\n");
    put_file("jsonl", b.data, (size_t)b.n);
    CHECK_EQ(data_load(&host, NULL, path, &o, &d), PEFT_OK);
    CHECK_EQ(d->rows[0].n, 64);
    CHECK_EQ(d->truncated, 1);
    data_free(d);
    /* Many short turns: only those before the cut are rendered one by one. */
    buf_clear(&b);
    buf_puts(&b, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}");
    for (int i = 0; i < 20000; i++) buf_puts(&b, ",{\"role\":\"assistant\",\"content\":\"b\"}");
    buf_puts(&b, "]}\n");
    put_file("jsonl", b.data, (size_t)b.n);
    CHECK_EQ(data_load(&host, chat, path, &o, &d), PEFT_OK);
    CHECK_EQ(d->rows[0].n, 64);
    data_free(d);
    buf_clear(&b);
    for (int i = 0; i < 100000; i++) buf_puts(&b, "[");
    put_file("jsonl", b.data, (size_t)b.n);
    CHECK_EQ(data_load(&host, NULL, path, &o, &d), PEFT_EFORMAT);
    buf_clear(&b);
    buf_puts(&b, "text\n\"");
    for (int i = 0; i < 9000000; i++) buf_puts(&b, "a\n");
    put_file("csv", b.data, (size_t)b.n);
    CHECK_EQ(data_load(&host, plain, path, &o, &d), PEFT_EFORMAT);
    CHECK(strstr(error_message(), "line 2 column 1: a quoted cell is never closed"));
    remove(path);
    snprintf(path, sizeof path, "/tmp/peft-data-%d.jsonl", (int)getpid());
    remove(path);
    buf_free(&b);
}

static const char *const fuzz_seeds[][2] = {
    {"jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"},{\"role\":\"assistant\","
     "\"content\":\"hi <|im_end|> \\u00e9\",\"train\":true}]}\n\n{\"messages\":[{\"role\":"
     "\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"b\"}]}]}\n"},
    {"jsonl", "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":\"c\",\"completion\":\"d\"}\n"},
    {"jsonl", "{\"input_ids\":[1,2,3],\"labels\":[-100,2,3],\"attention_mask\":[1,1,0]}\n"},
    {"csv", "text,label,x\r\n\"a \"\"b\"\" c\",1,\n\"d\ne\",0.5,q\n"},
    {"csv", "label,input_ids\n1,\"[1,2]\"\n0,[3]\n"},
};

static void test_mutations(void)
{
    static const char bytes[] = "\"\"\\{}[],:\n\r\0\xff\xc3 0-9eau<|";
    struct data_opts o = options(20);
    int64_t before = host.mem.live;
    int loaded = 0;
    for (uint32_t k = 0; k < 4000; k++) {
        const char *const *seed = fuzz_seeds[k % ARRAY_LEN(fuzz_seeds)];
        char text[512];
        size_t n = strlen(seed[1]);
        memcpy(text, seed[1], n + 1);
        uint32_t times = 1 + rng_u32(1, k, 0) % 4;
        for (uint32_t i = 1; i <= times; i++) {
            size_t at = rng_u32(1, k, 3 * i) % n;
            if (rng_u32(1, k, 3 * i + 1) % 3) text[at] = bytes[rng_u32(1, k, 3 * i + 2) %
                                                               (sizeof bytes - 1)];
            else if (n > 2) memmove(text + at, text + at + 1, n - at), n--;
        }
        put_file(seed[0], text, n);
        struct dataset *d;
        int rc = data_load(&host, chat, path, &o, &d);
        CHECK(rc == PEFT_OK || rc == PEFT_EFORMAT || rc == PEFT_EDATA || rc == PEFT_EUNSUPPORTED);
        CHECK((rc == PEFT_OK) == (d != NULL));
        loaded += rc == PEFT_OK;
        data_free(d);
        remove(path);
    }
    CHECK(loaded > 100);
    CHECK_EQ(host.mem.live, before);
}

static int64_t fail_at, failing;
static void *failing_alloc(void *ctx, void *ptr, size_t old, size_t n)
{
    (void)ctx, (void)old;
    if (n == 0) {
        free(ptr);
        return NULL;
    }
    return failing && fail_at-- == 0 ? NULL : realloc(ptr, n);
}

static void test_no_memory(void)
{
    struct host h = host;
    mem_init(&h.mem, failing_alloc, NULL);
    struct data_opts o = options(100);
    for (size_t k = 0; k < ARRAY_LEN(fuzz_seeds); k++) {
        put_file(fuzz_seeds[k][0], fuzz_seeds[k][1], strlen(fuzz_seeds[k][1]));
        int rc = PEFT_ENOMEM;
        for (int64_t n = 0; rc == PEFT_ENOMEM && n < 1000; n++) {
            struct dataset *d = NULL, *e = NULL;
            struct batcher *b = NULL;
            fail_at = n;
            failing = 1;
            rc = data_load(&h, chat, path, &o, &d);
            if (rc == PEFT_OK) rc = batcher_new(d, &(struct batch_opts){.batch = 2, .packing = 1},
                                                &b);
            if (rc == PEFT_OK && d->n > 1) rc = data_split(d, 0.5, 1, &e);
            failing = 0;
            batcher_free(b);
            data_free(e);
            data_free(d);
            CHECK_EQ(h.mem.live, 0);
        }
        CHECK_EQ(rc, PEFT_OK);
        remove(path);
    }
}

/* --- the files that come with the library */

static void test_own_files(void)
{
    static const struct { const char *path, *schema; int64_t rows; int classes; } files[] = {
        {"examples/data/support.jsonl", "messages", 211, 0},
        {"examples/data/support_eval.jsonl", "messages", 20, 0},
        {"examples/data/sentiment.csv", "text-label", 120, 3},
        {"examples/data/sentiment_eval.csv", "text-label", 30, 3},
        {"tools/tiny/corpus.jsonl", "messages", 3095, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct dataset *d;
        struct data_opts o = options(1024);
        CHECK_EQ(data_load(&host, chat, files[i].path, &o, &d), PEFT_OK);
        if (!d) continue;
        CHECK_STR(d->schema, files[i].schema);
        CHECK_EQ(d->n, files[i].rows);
        CHECK_EQ(d->n_labels, files[i].classes);
        CHECK_EQ(d->skipped, 0);
        CHECK_EQ(d->truncated, 0);
        data_free(d);
    }
}

static void test_nothing_is_left(void)
{
    tok_free(chat);
    tok_free(plain);
    tok_free(bert);
    CHECK_EQ(host.mem.live, 0);
}

int main(void)
{
    host_init(&host, NULL);
    if (tok_open_folder(&host, "tests/golden/data/chat", &chat) < 0 ||
        tok_open_folder(&host, "tests/golden/data/plain", &plain) < 0 ||
        tok_open_folder(&host, "tests/golden/data/bert", &bert) < 0) {
        printf("%s\n", error_message());
        return 1;
    }
    RUN(test_mask_by_hand);
    RUN(test_messages);
    RUN(test_templates);
    RUN(test_system_and_prompt);
    RUN(test_other_schemas);
    RUN(test_plain_chat);
    RUN(test_ids);
    RUN(test_labels);
    RUN(test_numbers_as_labels);
    RUN(test_encoder);
    RUN(test_csv);
    RUN(test_format_errors);
    RUN(test_ids_errors);
    RUN(test_nothing_to_train);
    RUN(test_long_rows);
    RUN(test_mutations);
    RUN(test_no_memory);
    RUN(test_own_files);
    RUN(test_nothing_is_left);
    return TEST_END();
}
