/* Figures of evaluations against scikit-learn, scipy, seqeval and SQuAD's
 * script on the same numbers. */
#include <math.h>

#include "train/train.h"
#include "test.h"

static struct host host;
static struct model model;
static struct dataset data;
static peft_eval_opts opts;
static peft_evaluation found;

static struct measure begin(enum task task, int64_t labels)
{
    struct measure s = { .host = &host, .m = &model, .d = &data, .o = &opts };
    data.task = task;
    model.hp.labels = labels;
    memset(&found, 0, sizeof(found));
    CHECK_EQ(measure_new(&s), PEFT_OK);
    return s;
}
static void is(const char *name, double want)
{
    for (int i = 0; i < found.n_metrics; i++)
        if (!strcmp(found.metrics[i].name, name)) {
            CHECK_NEAR(found.metrics[i].value, want, 1e-6);
            return;
        }
    printf("  no figure %s\n", name);
    CHECK(0);
}
static void one_hot(float *z, int64_t n, const int32_t *said, int64_t rows)
{
    memset(z, 0, (size_t)(rows * n) * 4);
    for (int64_t i = 0; i < rows; i++) z[i * n + said[i]] = 1;
}

static void test_classes(void)
{
    static const int32_t y[] = { 2, 0, 1, 1, 0, 0, 0, 1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 2, 0, 0,
                                 0, 1, 1, 2, 0, 2, 1, 2, 2, 2, 2, 1, 0, 1, 1, 2, 1, 0, 2, 1 },
                         p[] = { 2, 3, 1, 3, 1, 0, 0, 1, 1, 0, 0, 1, 1, 3, 2, 1, 0, 3, 0, 0,
                                 0, 1, 3, 2, 0, 0, 0, 2, 2, 2, 2, 3, 3, 1, 3, 2, 1, 2, 0, 1 };
    float z[160];
    struct measure s = begin(TASK_CLASS, 4);
    one_hot(z, 4, p, 40);
    CHECK_EQ(note_classes(&s, &(struct batch){ .n_rows = 40, .label = y }, z), PEFT_OK);
    report_classes(&s, &found);
    is("accuracy", 0.6);
    is("f1", 0.4992536199432751);
    is("precision", 0.5744949494949495);
    is("recall", 0.4555555555555555);
    is("f1_micro", 0.6);
    is("f1_weighted", 0.6752798925212719);
    is("matthews", 0.48186782375466886);
    is("brier", 0.607377884001);         /* (p - y)^2 of softmax(one-hot): 24 right, 16 wrong */
    measure_free(&s);
}

static void test_labels(void)
{
    static const char y[] = "101000010000000001011000001000",
                      p[] = "101001110001100111011101000100";
    float t[30], z[30];
    struct measure s = begin(TASK_MULTI, 3);
    for (int i = 0; i < 30; i++) {
        t[i] = y[i] == '1';
        z[i] = p[i] == '1' ? 1 : -1;
    }
    CHECK_EQ(note_labels(&s, &(struct batch){ .n_rows = 10, .targets = t }, z), PEFT_OK);
    report_labels(&s, &found);
    is("f1", 0.561904761904762);
    is("f1_micro", 0.5454545454545454);
    is("precision_micro", 0.4);
    is("recall_micro", 0.8571428571428571);
    is("f1_weighted", 0.6122448979591837);
    measure_free(&s);
}

static void test_numbers(void)
{
    static const float y[] = { 0.25, 0.0, 0.25, 0.75, 1.0, 1.25, 1.25, 0.0, 0.0, 1.5,
                               1.25, 1.75, 0.25, 0.5, 1.25, 0.5, 0.5, 1.5, 1.25, 0.5 },
                       p[] = { 1.0, 0.75, 0.5, 0.75, 1.75, 0.75, 0.75, 0.5, 0.25, 1.75,
                               1.75, 2.5, -0.25, 0.75, 1.0, 1.25, 1.0, 1.75, 0.5, 0.25 };
    struct measure s = begin(TASK_CLASS, 1);
    CHECK_EQ(note_numbers(&s, &(struct batch){ .n_rows = 20, .value = y }, p), PEFT_OK);
    report_numbers(&s, &found);
    is("mse", 0.265625);
    is("mae", 0.4625);
    is("pearson", 0.6877054540088561);
    is("spearman", 0.647172734314485);
    measure_free(&s);
}

/* O, B-X, I-X, B-Y, I-Y as digits; one text a row. */
static void test_chunks(void)
{
    static const char *const names[] = { "O", "B-X", "I-X", "B-Y", "I-Y" };
    static const char y[] = "413042304232" "202023234242" "243404401424" "240342113010",
                      p[] = "433042304332" "202224234242" "241404402424" "240322012020";
    int32_t is_[48], said[48], rows[48], start[5] = { 0, 12, 24, 36, 48 };
    float z[48 * 5];
    model.labels = (const char **)(uintptr_t)names;
    struct measure s = begin(TASK_TOKEN, 5);
    for (int i = 0; i < 48; i++) {
        is_[i] = y[i] - '0';
        said[i] = p[i] - '0';
        rows[i] = i;
    }
    one_hot(z, 5, said, 48);
    struct batch b = { .n_seq = 4, .start = start, .rows = rows, .target = is_, .n_target = 48 };
    CHECK_EQ(note_tokens(&s, &b, z), PEFT_OK);
    report_tokens(&s, &found);
    is("f1", 0.7352941176470589);
    is("precision", 0.7575757575757576);
    is("recall", 0.7142857142857143);
    measure_free(&s);
}

static void test_squad(void)
{
    static const struct { const char *said, *wanted; double exact, f1; } cases[] = {
        { "The  Eiffel Tower!", "eiffel tower", 1, 1 }, { "in the tower", "tower", 0, 2.0 / 3 },
        { "a b b c", "b c d", 0, 4.0 / 6 }, { "", "x", 0, 0 }, { "paris", "london", 0, 0 },
    };
    struct buf two[2];
    double exact, f1;
    buf_init(&two[0], &host.mem);
    buf_init(&two[1], &host.mem);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *answers[] = { "zzz", cases[i].wanted };
        struct question q = { .answers = answers, .n_answers = 2 };
        CHECK_EQ(squad_scores(two, &q, cases[i].said, (int64_t)strlen(cases[i].said), &exact, &f1),
                 PEFT_OK);
        CHECK_NEAR(exact, cases[i].exact, 1e-9);
        CHECK_NEAR(f1, cases[i].f1, 1e-9);
    }
    CHECK_EQ(squad_scores(two, &(struct question){ .n_answers = 0 }, "", 0, &exact, &f1), PEFT_OK);
    CHECK_NEAR(exact + f1, 2, 0);
    buf_free(&two[0]);
    buf_free(&two[1]);
}

static void test_best_spans(void)
{
    static const float z[] = { 9, 9, 1, 0, 3, 1, 0, 4, 2, 2 };
    struct span_score best[3];
    CHECK_EQ(spans_best(z, 1, 5, 2, best, 3), 3);
    CHECK_EQ(best[0].begin, 2);
    CHECK_EQ(best[0].end, 3);
    CHECK_NEAR(best[0].score, 7, 0);
    CHECK_NEAR(best[1].score, 4, 0);
}

int main(void)
{
    host_init(&host, NULL);
    RUN(test_classes);
    RUN(test_labels);
    RUN(test_numbers);
    RUN(test_chunks);
    RUN(test_squad);
    RUN(test_best_spans);
    return TEST_END();
}
