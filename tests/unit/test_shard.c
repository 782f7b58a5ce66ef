/* Prepared rows: every task's are the same from a file of tokens as from its text; other
 * settings, other heads, broken files. */
#include "full.h"

#include "data/row.h"

static struct host host;
static struct tokenizer *chat, *plain, *bert;
static struct data_opts options(const struct tokenizer *t, int causal)
{
    return (struct data_opts){.max_len = 64, .vocab = (int32_t)tok_info(t)->n_vocab,
                              .causal = causal, .window = 24, .stride = 4};
}

static int prepare_on(struct host *h, const struct tokenizer *t, const struct data_opts *o,
                      const char *from, const char *to, int64_t rows)
{
    struct dataset *d = NULL;
    struct ids len;
    ids_init(&len, &h->mem);
    int rc = data_prepare(h, t, in("%s", from), o, in("%s", to), rows, &len, &d);
    if (rc == PEFT_OK) CHECK(d && d->n == 0 && len.n > 0);
    data_free(d);
    ids_free(&len);
    return rc;
}

static int prepare(const struct tokenizer *t, const struct data_opts *o, const char *from,
                   const char *to, int64_t rows)
{
    return prepare_on(&host, t, o, from, to, rows);
}

static bool same_ints(const void *a, const void *b, int64_t n)
{
    return !a == !b && (!a || !memcmp(a, b, (size_t)n * 4));
}

static bool same_question(const struct question *a, const struct question *b)
{
    bool same = !a == !b && (!a || (a->n == b->n && a->context_n == b->context_n &&
                                    a->n_answers == b->n_answers && !strcmp(a->id, b->id) &&
                                    !strcmp(a->context, b->context) &&
                                    same_ints(a->begin, b->begin, a->n) &&
                                    same_ints(a->end, b->end, a->n)));
    for (int32_t i = 0; a && same && i < a->n_answers; i++)
        same = !strcmp(a->answers[i], b->answers[i]);
    return same;
}

/* Everything that training could see. */
static void check_same(const struct dataset *a, const struct dataset *b)
{
    CHECK(a->n == b->n && a->task == b->task && a->texts == b->texts && a->masks == b->masks &&
          a->max_len == b->max_len && a->n_labels == b->n_labels && a->vocab == b->vocab &&
          a->mask_id == b->mask_id && a->truncated == b->truncated && a->skipped == b->skipped);
    CHECK_STR(a->schema, b->schema);
    CHECK_STR(a->file, b->file);
    CHECK_STR(a->hash, b->hash);
    for (int32_t i = 0; i < a->n_labels && i < b->n_labels; i++)
        if (a->labels) CHECK_STR(a->labels[i], b->labels[i]);
    for (int64_t i = 0; i < a->n && i < b->n; i++) {
        const struct example *x = &a->rows[i], *y = &b->rows[i];
        bool same = x->n == y->n && x->second == y->second && x->label == y->label &&
                    x->n_classes == y->n_classes && x->first == y->first &&
                    x->before == y->before && x->line == y->line &&
                    !memcmp(&x->value, &y->value, 4) && !memcmp(x->span, y->span, 8) &&
                    same_ints(x->ids, y->ids, x->n) && same_ints(x->labels, y->labels, x->n) &&
                    same_ints(x->ends, y->ends, a->texts) &&
                    same_ints(x->classes, y->classes, x->n_classes) &&
                    same_ints(x->values, y->values, x->n_classes) &&
                    same_question(x->question, y->question);
        CHECK(same);
        if (!same) printf("  %s, row %lld\n", a->schema, (long long)i);
    }
}

static const struct { const char *text; char tok; int seq2seq; } files[] = {
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
     "\"content\":\"b\"}]}\n"
     "{\"messages\":[{\"role\":\"user\",\"content\":\"long\"},{\"role\":\"assistant\",\"content\":"
     "\"and so on and so on and so on and so on and so on and so on and so on and so on\"}]}\n",
     'c', 0},
    {"{\"text\":\"one\"}\n{\"text\":\"\"}\n{\"text\":\"two\"}\n", 'p', 0},
    {"{\"text\":\"one\"}\n{\"text\":\"the cat sleeps\"}\n", 'b', 0},
    {"{\"input_ids\":[1,2,3],\"labels\":[-100,2,3]}\n{\"input_ids\":[4,5]}\n", 'p', 0},
    {"{\"text\":\"x\",\"label\":\"z\"}\n{\"text\":\"y\",\"label\":\"a\"}\n{\"text\":\"\","
     "\"label\":\"m\"}\n", 'b', 0},
    {"{\"text\":\"x\",\"text_pair\":\"y\",\"label\":3}\n{\"text\":\"y\",\"label\":0}\n", 'b', 0},
    {"{\"text\":\"x\",\"label\":0.5}\n{\"text\":\"y\",\"label\":-3}\n", 'b', 0},
    {"{\"text\":\"x\",\"labels\":[\"z\",\"a\"]}\n{\"text\":\"y\",\"labels\":[]}\n", 'b', 0},
    {"{\"text\":\"x\",\"labels\":[0,1,1]}\n{\"text\":\"y\",\"labels\":[1,0,0.5]}\n", 'b', 0},
    {"{\"tokens\":[\"the\",\"cat\"],\"tags\":[\"O\",\"B-X\"]}\n{\"tokens\":[\"a\"],"
     "\"tags\":[\"A\"]}\n", 'b', 0},
    {"{\"tokens\":[\"the\",\"cat\"],\"tags\":[0,4]}\n", 'b', 0},
    {"{\"id\":\"q\",\"question\":\"a dog\","
     "\"context\":\"the cat and the dog and the cat and the dog and "
     "the cat and the dog\",\"answers\":{\"text\":[\"dog\",\"cat\"],\"answer_start\":[16,4]}}\n"
     "{\"question\":\"who\",\"context\":\"the cat\",\"is_impossible\":true}\n", 'b', 0},
    {"{\"prompt\":\"p\",\"chosen\":\"good\",\"rejected\":\"bad\",\"margin\":0.25}\n", 'p', 0},
    {"{\"anchor\":\"a\",\"positive\":\"b\",\"negative\":\"c\"}\n{\"anchor\":\"d\","
     "\"positive\":\"e\","
     "\"negative\":\"f\"}\n", 'b', 0},
    {"{\"sentence1\":\"a\",\"sentence2\":\"b\",\"score\":0.5}\n", 'b', 0},
    {"{\"source\":\"a b\",\"target\":\"c\"}\n", 'p', 1},
};

static const struct tokenizer *tok_of(size_t i)
{
    return files[i].tok == 'c' ? chat : files[i].tok == 'p' ? plain : bert;
}

static struct data_opts options_of(size_t i)
{
    struct data_opts o = options(tok_of(i), files[i].tok != 'b');
    o.seq2seq = files[i].seq2seq;
    return o;
}

static void test_tasks(void)
{
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct data_opts o = options_of(i);
        struct dataset *a = NULL, *b = NULL, *c = NULL;
        put_bytes(in("rows.jsonl"), files[i].text, strlen(files[i].text));
        CHECK_EQ(data_load(&host, tok_of(i), in("rows.jsonl"), &o, &a), PEFT_OK);
        CHECK_EQ(prepare(tok_of(i), &o, "rows.jsonl", "rows.shard", 0), PEFT_OK);
        CHECK_EQ(data_load(&host, tok_of(i), in("rows.shard"), &o, &b), PEFT_OK);
        if (a && b) check_same(a, b);
        CHECK_EQ(prepare(tok_of(i), &o, "rows.jsonl", "parts", 1), PEFT_OK);
        CHECK_EQ(data_load(&host, tok_of(i), in("parts"), &o, &c), PEFT_OK);
        if (a && c) check_same(a, c);
        if (!a || !b || !c) printf("  %s", files[i].text);
        struct dataset *e = NULL;
        if (c && c->n > 1) CHECK_EQ(data_split(c, 0.5, 1, &e), PEFT_OK);
        data_free(c);
        if (e) CHECK(e->rows[0].ids[0] >= 0);
        data_free(e);
        data_free(a);
        data_free(b);
        for (int k = 1; k < 9; k++) {
            char part[40];
            snprintf(part, sizeof part, "parts/part-%05d.shard", k);
            remove(in("%s", part));
        }
        remove(in("parts"));
    }
}

/* Names are given the ids of whatever head there is when they are read. */
static void test_heads(void)
{
    static const char *const names[] = {"m", "z", "a"}, *const few[] = {"m", "z"};
    struct data_opts o = options(bert, 0);
    struct dataset *a = NULL, *b = NULL;
    put_bytes(in("rows.jsonl"), files[4].text, strlen(files[4].text));
    CHECK_EQ(prepare(bert, &o, "rows.jsonl", "rows.shard", 0), PEFT_OK);
    o.labels = names;
    o.n_labels = 3;
    CHECK_EQ(data_load(&host, bert, in("rows.jsonl"), &o, &a), PEFT_OK);
    CHECK_EQ(data_load(&host, bert, in("rows.shard"), &o, &b), PEFT_OK);
    if (a && b) check_same(a, b);
    CHECK(b && b->rows[0].label == 1 && b->rows[1].label == 2);
    data_free(a);
    data_free(b);
    o.labels = few;
    o.n_labels = 2;
    CHECK_EQ(data_load(&host, bert, in("rows.shard"), &o, &b), PEFT_EDATA);
    CHECK(strstr(error_message(), "unknown label \"a\""));
}

/* Several threads write the same bytes, and tell of a bad row what one does. */
static void test_threads(void)
{
    enum { ROWS = 3000 };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct data_opts o = options_of(i);
        struct buf b;
        buf_init(&b, &host.mem);
        for (int r = 0; r < ROWS; r++) buf_puts(&b, files[i].text);
        put_bytes(in("many.jsonl"), b.data, (size_t)b.n);
        CHECK_EQ(prepare(tok_of(i), &o, "many.jsonl", "many.shard", 0), PEFT_OK);
        struct bytes one = get(in("many.shard"));
        for (o.threads = 2; o.threads < 5; o.threads++) {
            CHECK_EQ(prepare(tok_of(i), &o, "many.jsonl", "many.shard", 0), PEFT_OK);
            struct bytes now = get(in("many.shard"));
            CHECK(now.n == one.n && !memcmp(now.at, one.at, one.n));
            free(now.at);
        }
        free(one.at);
        o.source.limit = 2000;
        buf_puts(&b, "{\"other\": 1}\n");
        put_bytes(in("many.jsonl"), b.data, (size_t)b.n);
        CHECK_EQ(prepare(tok_of(i), &o, "many.jsonl", "many.shard", 0), PEFT_OK);
        o.source.limit = 0;
        CHECK_EQ(prepare(tok_of(i), &o, "many.jsonl", "bad.shard", 0), PEFT_EFORMAT);
        char reason[512];
        snprintf(reason, sizeof reason, "%s", error_message());
        CHECK(strstr(reason, "many.jsonl line ") != NULL);
        o.threads = 1;
        CHECK_EQ(prepare(tok_of(i), &o, "many.jsonl", "bad.shard", 0), PEFT_EFORMAT);
        CHECK_STR(error_message(), reason);
        CHECK(access(in("bad.shard"), F_OK) != 0);
        buf_free(&b);
    }
    remove(in("many.jsonl"));
    remove(in("many.shard"));
}

static void refused(const struct tokenizer *t, const struct data_opts *o, const char *why)
{
    struct dataset *d = NULL;
    CHECK_EQ(data_load(&host, t, in("rows.shard"), o, &d), PEFT_EDATA);
    if (!strstr(error_message(), why)) printf("  %s\n", error_message());
    CHECK(strstr(error_message(), why) && !d);
    data_free(d);
}

static void test_settings(void)
{
    struct data_opts o = options(chat, 1), other = o;
    struct dataset *d = NULL;
    put_bytes(in("rows.jsonl"), files[0].text, strlen(files[0].text));
    CHECK_EQ(prepare(chat, &o, "rows.jsonl", "rows.shard", 0), PEFT_OK);
    other.max_len = 65;
    refused(chat, &other, "prepared with max_len 64, and here it is 65");
    other.any_len = 100;
    CHECK_EQ(data_load(&host, chat, in("rows.shard"), &other, &d), PEFT_OK);
    CHECK(d && d->n == 2 && d->max_len == 64 && d->truncated == 1);
    data_free(d);
    other.any_len = 63;
    refused(chat, &other, "prepared with max_len 64");
    other = o;
    other.system = "be kind";
    refused(chat, &other, "prepared with system message \"\", and here it is \"be kind\"");
    other = o;
    other.train_on_prompt = 1;
    refused(chat, &other, "train_on_prompt 0");
    refused(plain, &o, "prepared with another tokenizer than the model's");
    o.source.limit = 1;
    CHECK_EQ(data_load(&host, chat, in("rows.shard"), &o, &d), PEFT_OK);
    CHECK(d && d->n == 1);
    data_free(d);
    /* Nothing stays of what could not be prepared. */
    remove(in("rows.shard"));
    put_bytes(in("rows.jsonl"), "{\"text\":\"a\"}\n{\"text\":1}\n", 24);
    o = options(chat, 1);
    CHECK_EQ(prepare(chat, &o, "rows.jsonl", "rows.shard", 0), PEFT_EFORMAT);
    CHECK_EQ(prepare(chat, &o, "rows.jsonl", "parts", 1), PEFT_EFORMAT);
    CHECK(access(in("rows.shard"), F_OK) && access(in("parts"), F_OK));
}

static int32_t stop(void *ctx, int64_t rows, int64_t bytes)
{
    (void)bytes;
    return ++*(int *)ctx == 2 || rows < 0;
}

static void test_stopped(void)
{
    int calls = 0;
    struct data_opts o = options(plain, 1);
    struct buf b;
    buf_init(&b, &host.mem);
    for (int i = 0; i < 2000; i++) buf_puts(&b, "{\"text\":\"a\"}\n");
    put_bytes(in("rows.jsonl"), b.data, (size_t)b.n);
    buf_free(&b);
    /* A full disk leaves nothing either, be it a file or the second one of a folder. */
    struct host full = host;
    int before = files_there();
    real = full.io;
    full.io.write = write_some;
    for (int64_t left = 0; left < 200000; left += 40000)
        for (int64_t rows = 0; rows <= 1000; rows += 1000) {
            room = left;
            CHECK_EQ(prepare_on(&full, plain, &o, "rows.jsonl", "full", rows), PEFT_EIO);
            CHECK(strstr(error_message(), "no space left") != NULL);
            CHECK_EQ(files_there(), before);
        }
    o.progress = stop;
    o.ctx = &calls;
    for (o.threads = 0; o.threads < 3; o.threads += 2, calls = 0) {
        CHECK_EQ(prepare(plain, &o, "rows.jsonl", "rows.shard", 0), PEFT_ECANCELLED);
        CHECK_EQ(calls, 2);
    }
    CHECK(access(in("rows.shard"), F_OK) != 0);
}

/* Cut and flipped files are refused, or are rows that stand all checks. */
static void test_broken(void)
{
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct data_opts o = options_of(i);
        struct file_view v;
        put_bytes(in("rows.jsonl"), files[i].text, strlen(files[i].text));
        CHECK_EQ(prepare(tok_of(i), &o, "rows.jsonl", "rows.shard", 0), PEFT_OK);
        CHECK_EQ(file_open_view(&host, in("rows.shard"), false, &v), PEFT_OK);
        uint8_t *copy = malloc((size_t)v.n);
        for (int64_t k = 0; copy && k < v.n; k++) {
            struct dataset *d = NULL;
            memcpy(copy, v.data, (size_t)v.n);
            copy[k] ^= (uint8_t)(k % 3 == 0 ? 0x80 : k % 3 == 1 ? 1 : 0xff);
            put_bytes(in("bad.shard"), copy, (size_t)v.n);
            int rc = data_load(&host, tok_of(i), in("bad.shard"), &o, &d);
            CHECK(rc == PEFT_OK || rc == PEFT_EFORMAT || rc == PEFT_EDATA);
            for (int64_t r = 0; d && r < d->n; r++)
                for (int32_t t = 0; t < d->rows[r].n; t++)
                    CHECK(d->rows[r].ids[t] >= 0 && d->rows[r].ids[t] < o.vocab);
            data_free(d);
            if (k < 8 || k % 7) continue;
            put_bytes(in("bad.shard"), v.data, (size_t)k);
            CHECK_EQ(data_load(&host, tok_of(i), in("bad.shard"), &o, &d), PEFT_EFORMAT);
        }
        free(copy);
        file_close_view(&host, &v);
    }
    remove(in("bad.shard"));
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
    kit_begin();
    RUN(test_tasks);
    RUN(test_threads);
    RUN(test_heads);
    RUN(test_settings);
    RUN(test_stopped);
    RUN(test_broken);
    tok_free(chat);
    tok_free(plain);
    tok_free(bert);
    CHECK_EQ(host.mem.live, 0);
    CHECK_EQ(files_there(), 2);             /* the last rows, in text and prepared */
    kit_end();
    return TEST_END();
}
