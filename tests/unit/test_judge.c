/* Judgement: what evaluations tell of single rows, and systems compared. */
#include <math.h>

#include "kit.h"

/* ------------------------------------------------------------- single rows */

struct seen {
    int64_t rows, last, last_line, terms, right, chunks[3], stop;
    double loss, exact, f1, margin, reciprocal;
    int bad;
};

static int is_share(const float *p, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += (double)p[i];
    return fabs(sum - 1) < 1e-5;
}

static int32_t on_row(void *ctx, const peft_eval_row *r)
{
    struct seen *s = ctx;
    s->bad += r->size != sizeof(*r) || r->row <= s->last - !s->rows || r->line <= s->last_line;
    s->last = r->row;
    s->last_line = r->line;
    s->rows++;
    s->terms += r->terms;
    s->right += r->right;
    s->loss += r->loss;
    s->exact += r->exact;
    s->f1 += r->f1;
    s->margin += r->margin;
    s->reciprocal += r->rank ? 1.0 / (double)r->rank : 0;
    s->chunks[0] += r->chunks_right;
    s->chunks[1] += r->chunks_said;
    s->chunks[2] += r->chunks;
    if (r->n && !r->wanted)         /* one class */
        s->bad += !is_share(r->scores, r->n) || r->right != (r->label == r->said) ||
                  fabs(r->loss + log((double)r->scores[r->label])) > 1e-4;
    for (int32_t i = 0; r->wanted && i < r->n; i++) s->bad += !isfinite(r->scores[i]);
    int64_t same = 0;
    for (int64_t i = 0; r->tags && i < r->terms; i++) same += r->labels[i] == r->tags[i];
    s->bad += r->tags && same != r->right;
    s->bad += r->answer && (r->answer_n < 1 || !r->answer[0]);
    return s->rows == s->stop;
}

static double figure(const peft_evaluation *e, const char *name)
{
    for (int i = 0; i < e->n_metrics; i++)
        if (!strcmp(e->metrics[i].name, name)) return e->metrics[i].value;
    return NAN;
}

/* Evaluates with and without on_row, which changes nothing, and adds up to the whole. */
static struct seen rows_of(peft_model *m, const char *path, const char *objective,
                           peft_evaluation *e)
{
    peft_evaluation plain = { .size = sizeof(plain) };
    struct seen s = { 0 };
    peft_eval_opts o = { .size = sizeof(o), .batch = 2, .objective = objective };
    peft_dataset *d = data(m, path);
    *e = plain;
    OK(peft_eval(m, d, &o, &plain));
    o.on_row = on_row;
    o.ctx = &s;
    OK(peft_eval(m, d, &o, e));
    e->seconds = plain.seconds;
    CHECK(!memcmp(e, &plain, sizeof(plain)));
    CHECK_EQ(s.bad, 0);
    CHECK_EQ(s.terms, e->tokens);
    CHECK_NEAR(s.loss / (double)s.terms, e->loss, 1e-9);
    o.ctx = &(struct seen){ .stop = 1 };
    REFUSED(peft_eval(m, d, &o, &plain), PEFT_ECANCELLED);
    peft_dataset_free(d);
    return s;
}

static peft_model *with_head(const char *kind, int32_t labels, const char *const *names)
{
    peft_model *m = load(in("m"));
    peft_head_opts h = { .size = sizeof(h), .labels = labels, .names = names, .kind = kind,
                         .seed = 3 };
    OK(peft_head_add(m, &h));
    return m;
}

static void test_rows_language(void)
{
    peft_model *m = load(in("m"));
    peft_evaluation e;
    struct seen s = rows_of(m, rows_file(), NULL, &e);
    CHECK_EQ(s.rows, 10);
    CHECK_NEAR((double)s.right / (double)s.terms, e.token_accuracy, 1e-12);
    peft_model_free(m);
    m = load("tests/golden/tiny/t5");
    s = rows_of(m, put(in("pairs.jsonl"), "{\"input_ids\": [5, 6, 7], \"labels\": [8, 9, 1]}\n"
                                          "{\"input_ids\": [9, 4], \"labels\": [3, 1]}\n"
                                          "\n{\"input_ids\": [2, 4], \"labels\": [3, 5, 6, 1]}\n"),
                NULL, &e);
    CHECK(s.rows == 3 && s.terms == 9 && s.last_line == 4);
    peft_model_free(m);
}

static void test_rows_classes(void)
{
    peft_model *m = with_head(NULL, 3, kit_labels);
    peft_evaluation e;
    struct seen s = rows_of(m, label_file(), NULL, &e);
    CHECK_NEAR((double)s.right / 9, e.accuracy, 1e-12);
    peft_model_free(m);
    m = with_head("multi-label", 3, kit_labels);
    s = rows_of(m, put(in("many.jsonl"), "{\"text\": \"a\", \"labels\": [\"good\", \"bad\"]}\n"
                                         "{\"text\": \"b\", \"labels\": [\"so-so\"]}\n"
                                         "{\"text\": \"c\", \"labels\": []}\n"), NULL, &e);
    CHECK_NEAR((double)s.right / 3, e.accuracy, 1e-12);
    peft_model_free(m);
    m = with_head("regression", 2, NULL);
    rows_of(m, put(in("numbers.jsonl"), "{\"text\": \"a\", \"labels\": [1.5, 2]}\n"
                                        "{\"text\": \"b\", \"labels\": [0.5, -1]}\n"), NULL, &e);
    peft_model_free(m);
}

static void test_rows_tokens(void)
{
    static const char *const names[] = { "B-A", "I-A", "O" };
    peft_model *m = with_head("tokens", 3, names);
    peft_evaluation e;
    struct seen s = rows_of(m, put(in("tags.jsonl"),
        "{\"tokens\": [\"a\", \"b\", \"c\"], \"tags\": [\"O\", \"B-A\", \"I-A\"]}\n"
        "{\"tokens\": [\"d\", \"e\"], \"tags\": [\"B-A\", \"B-A\"]}\n"
        "{\"tokens\": [\"g\"], \"tags\": [\"O\"]}\n"), NULL, &e);
    CHECK_EQ(s.chunks[2], 3);
    CHECK_NEAR(s.chunks[1] ? (double)s.chunks[0] / (double)s.chunks[1] : 0,
               figure(&e, "precision"), 1e-12);
    peft_model_free(m);
}

static void test_rows_questions(void)
{
    char text[2048] = "{\"question\": \"who\", \"context\": \"";
    for (int i = 0; i < 40; i++) strcat(text, "user ");
    strcat(text, "hello\", \"answers\": {\"text\": [\"hello\"], \"answer_start\": [200]}}\n"
                 "{\"question\": \"a\", \"context\": \"hello user\", \"answers\": "
                 "{\"text\": [\"user\"], \"answer_start\": [6]}}\n");
    peft_model *m = with_head("question-answering", 2, NULL);
    peft_evaluation e;
    struct seen s = rows_of(m, put(in("asked.jsonl"), text), NULL, &e);
    CHECK(s.rows == 2 && e.rows > 2);                       /* windows */
    CHECK_NEAR(50 * s.f1, figure(&e, "f1"), 1e-9);
    CHECK_NEAR(50 * s.exact, figure(&e, "exact"), 1e-9);
    peft_model_free(m);
}

static void test_rows_pairs(void)
{
    peft_model *m = with_head("reward", 1, NULL);
    peft_evaluation e;
    struct seen s = rows_of(m, put(in("better.jsonl"), "{\"chosen\": \"a\", \"rejected\": \"b\"}\n"
                                   "{\"chosen\": \"hello\", \"rejected\": \"user\"}\n"
                                   "{\"chosen\": \"c\", \"rejected\": \"d\"}\n"), NULL, &e);
    CHECK_NEAR(s.margin / 3, figure(&e, "margin"), 1e-9);
    peft_model_free(m);
    m = load(in("m"));
    s = rows_of(m, put(in("near.jsonl"), "{\"anchor\": \"a\", \"positive\": \"b\"}\n"
                                         "{\"anchor\": \"hello\", \"positive\": \"user\"}\n"
                                         "{\"anchor\": \"c\", \"positive\": \"d\"}\n"), NULL, &e);
    CHECK_NEAR(s.reciprocal / 3, figure(&e, "mrr_10"), 1e-9);
    const char *alike = put(in("alike.jsonl"),
        "{\"sentence1\": \"a\", \"sentence2\": \"b\", \"score\": 1}\n"
        "{\"sentence1\": \"hello\", \"sentence2\": \"user\", \"score\": 0.5}\n"
        "{\"sentence1\": \"c\", \"sentence2\": \"d\", \"score\": 0}\n");
    rows_of(m, alike, "cosent", &e);
    rows_of(m, alike, "cosine", &e);
    peft_model_free(m);
}

int main(void)
{
    kit_begin();
    make_model("m", 1);
    RUN(test_rows_language);
    RUN(test_rows_classes);
    RUN(test_rows_tokens);
    RUN(test_rows_questions);
    RUN(test_rows_pairs);
    kit_end();
    return TEST_END();
}
