/* Rows of tasks beside language modelling: what they become, with MiniLM's
 * tokenizer, and what a batch makes of them. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "data/row.h"
#include "test.h"

static struct host host;
static struct tokenizer *tok;
static char path[64];

static struct dataset *load(const char *text, struct data_opts o)
{
    struct dataset *d = NULL;
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
    if (!o.max_len) o.max_len = 128;
    o.vocab = (int32_t)tok_info(tok)->n_vocab;
    if (!o.window) o.window = 128;
    CHECK_EQ(data_load(&host, tok, path, &o, &d), PEFT_OK);
    return d;
}
static int labels_are(const struct dataset *d, int row, const char *want)
{
    char text[256] = "";
    for (int32_t i = 0; i < d->rows[row].n; i++) {
        int32_t y = d->rows[row].labels[i];
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s ",
                 y == NOT_TRAINED ? "-" : d->labels[y]);
    }
    if (strcmp(text, want)) printf("  %s\n", text);
    return !strcmp(text, want);
}

/* The first piece of a word has its tag; marked stretches have one on each. */
static void test_tokens(void)
{
    const char *row = "{\"tokens\": [\"Headquarters\", \"of\", \"Falkenberg\", \".\"],"
                      " \"tags\": [\"O\", \"O\", \"B-LOC\", \"O\"]}\n";
    struct dataset *d = load(row, (struct data_opts){ 0 });
    CHECK_EQ(d->task, TASK_TOKEN);
    CHECK_EQ(d->n_labels, 2);
    CHECK(labels_are(d, 0, "- O O B-LOC - - O - "));
    data_free(d);
    d = load("{\"text\": \"In M\\u00fcnchen lives Falkenberg.\", \"spans\": ["
             "{\"start\": 3, \"end\": 10, \"label\": \"LOC\"}, [17, 27, \"PER\"]]}\n",
             (struct data_opts){ 0 });
    CHECK_EQ(d->n_labels, 5);
    CHECK(labels_are(d, 0, "- O B-LOC O B-PER I-PER I-PER O - ") ||
          labels_are(d, 0, "- O B-LOC I-LOC O B-PER I-PER I-PER O - "));
    data_free(d);
}

static void test_labels(void)
{
    struct dataset *d = load("{\"text\": \"a\", \"labels\": [\"z\", \"b\"]}\n"
                             "{\"text\": \"c\", \"labels\": []}\n", (struct data_opts){ 0 });
    struct batcher *b = NULL;
    CHECK_EQ(d->task, TASK_MULTI);
    CHECK_EQ(batcher_new(d, &(struct batch_opts){ .batch = 2 }, &b), PEFT_OK);
    const struct batch *x = batcher_get(b, 0, 0);
    for (int i = 0; i < 4; i++) CHECK_NEAR(x->targets[i], i < 2, 0);
    CHECK(!strcmp(d->labels[0], "b"));
    batcher_free(b);
    data_free(d);
    d = load("{\"text\": \"a\", \"labels\": [0, 1, 0.5]}\n", (struct data_opts){ 0 });
    CHECK_EQ(d->n_labels, 3);
    CHECK_NEAR(d->rows[0].values[2], 0.5, 0);
    data_free(d);
}

/* Every window's answer is the answer, or at its first token. */
static void test_questions(void)
{
    char row[4096] = "{\"question\": \"Who?\", \"context\": \"";
    for (int i = 0; i < 40; i++) strcat(row, "m\xc3\xbc""de ");
    strcat(row, "Goethe");
    for (int i = 0; i < 40; i++) strcat(row, " and");
    strcat(row, "\", \"answers\": {\"text\": [\"Goethe\"], \"answer_start\": [200]}}\n"
                "{\"question\": \"Who?\", \"context\": \"Nobody.\", \"answers\": {\"text\": [],"
                " \"answer_start\": []}}\n");
    struct dataset *d = load(row, (struct data_opts){ .window = 32, .stride = 8 });
    int found = 0, windows = 0;
    for (int64_t i = 0; i < d->n; i++) {
        const struct example *x = &d->rows[i];
        const struct question *q = x->question;
        CHECK(x->n <= 32);
        windows += q->n_answers;
        if (!x->span[0]) continue;
        int32_t from = q->begin[x->first + x->span[0] - x->before];
        int32_t to = q->end[x->first + x->span[1] - x->before];
        CHECK(to - from == 6 && !memcmp(q->context + from, "Goethe", 6));
        found++;
    }
    CHECK(found >= 1 && windows > 3);
    CHECK_EQ(d->rows[d->n - 1].span[1], 0);
    data_free(d);
}

static void test_pairs(void)
{
    struct dataset *d = load("{\"prompt\": \"Hi \", \"chosen\": \"Hello there\", \"rejected\": "
                             "\"Go\", \"margin\": 0.5}\n", (struct data_opts){ 0 });
    CHECK_EQ(d->task, TASK_PAIR);
    CHECK_EQ(d->texts, 2);
    CHECK_NEAR(d->rows[0].value, 0.5, 0);
    CHECK_EQ(d->rows[0].ends[1], d->rows[0].n);
    data_free(d);
}

/* The count of masks is fixed, the choice is anew each epoch and repeats. */
static void test_masks(void)
{
    struct dataset *d = load("{\"text\": \"one two three four five six seven eight nine ten one "
                             "two three four five six seven eight nine ten\"}\n",
                             (struct data_opts){ 0 });
    struct batcher *b = NULL;
    int32_t first[8] = { 0 }, differs = 0;
    CHECK_EQ(d->task, TASK_MASKED);
    CHECK_EQ(batcher_new(d, &(struct batch_opts){ .batch = 1, .seed = 3 }, &b), PEFT_OK);
    for (int epoch = 0; epoch < 6; epoch++) {
        const struct batch *x = batcher_get(b, epoch % 3, 0);
        CHECK_EQ(x->n_target, 3);
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(x->target[i], d->rows[0].ids[x->rows[i]]);
            CHECK(!i || x->rows[i] > x->rows[i - 1]);
            if (epoch == 0) first[i] = x->rows[i];
            if (epoch == 3) CHECK_EQ(first[i], x->rows[i]);
            differs += epoch < 3 && first[i] != x->rows[i];
        }
    }
    CHECK(differs > 0);
    batcher_free(b);
    data_free(d);
}

static void test_refused(void)
{
    static const char *const rows[] = {
        "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"O\"]}",
        "{\"tokens\": \"a\", \"tags\": [\"O\"]}",
        "{\"text\": \"abc\", \"spans\": [[0, 9, \"X\"]]}", "{\"text\": \"abc\", \"spans\": 3}",
        "{\"text\": \"a\", \"labels\": [1, \"x\"]}", "{\"text\": \"a\", \"labels\": [\"x\", 1]}",
        "{\"question\": \"q\", \"context\": \"c d\", \"answers\": {\"text\": [\"zz\"]}}",
        "{\"question\": \"q\", \"context\": \"\", \"answers\": []}",
        "{\"question\": \"q\", \"context\": \"c\", \"answers\": [3]}",
        "{\"chosen\": \"a\", \"rejected\": 3}", "{\"chosen\": \"a\", \"rejected\": \"b\", "
        "\"margin\": \"x\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct dataset *d = NULL;
        struct data_opts o = { .max_len = 64, .window = 64, .vocab = 40000 };
        FILE *f = fopen(path, "w");
        fprintf(f, "%s\n", rows[i]);
        fclose(f);
        CHECK(data_load(&host, tok, path, &o, &d) < 0);
        if (d) printf("  %s\n", rows[i]);
        data_free(d);
    }
}

int main(void)
{
    host_init(&host, NULL);
    snprintf(path, sizeof(path), "/tmp/libpeft-tasks-%d.jsonl", (int)getpid());
    CHECK_EQ(tok_open_folder(&host, "tests/golden/tokenizers/minilm", &tok), PEFT_OK);
    RUN(test_tokens);
    RUN(test_labels);
    RUN(test_questions);
    RUN(test_pairs);
    RUN(test_masks);
    RUN(test_refused);
    tok_free(tok);
    remove(path);
    return TEST_END();
}
