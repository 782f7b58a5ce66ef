/* Texts against wanted ones: sacrebleu's and rouge-score's values on the cases of
 * tests/golden/make_scores.py, SQuAD's two by hand, intervals and paired tests. */
#include <stdlib.h>

#include "peft_judge.h"
#include "test.h"

enum { ROWS = 8, LINE = 1 << 16 };
static char line[LINE];

/* Fields of the line, unescaped in place. */
static int fields_of(char *s, char *field[], int most)
{
    int n = 0;
    for (char *to = s; n < most; to++) {
        field[n++] = to;
        while (*s && *s != '\t' && *s != '\n') {
            if (*s == '\\') {
                s++;
                *to++ = *s == 'n' ? '\n' : *s == 't' ? '\t' : '\\';
                s++;
            } else
                *to++ = *s++;
        }
        int last = *s != '\t';
        s++;
        *to = 0;
        if (last) break;
    }
    return n;
}

static const peft_score *score_of(const peft_scores *s, const char *name)
{
    static const peft_score none = { .name = "none", .value = -1 };
    for (int32_t i = 0; i < s->n; i++)
        if (!strcmp(s->scores[i].name, name)) return &s->scores[i];
    return &none;
}

static void test_references(void)
{
    static const char *const names[] = { "bleu", "chrf", "rouge1", "rouge2", "rougeL" };
    FILE *f = fopen("tests/golden/scores.txt", "rb");
    int cases = 0;
    CHECK(f);
    while (f && fgets(line, LINE, f)) {
        char *field[6 + 2 * ROWS];
        const char *said[ROWS], *wanted[ROWS];
        int n = fields_of(line, field, 6 + 2 * ROWS), rows = (int)strtol(field[0], NULL, 10);
        CHECK_EQ(n, 6 + 2 * rows);
        for (int i = 0; i < rows; i++) {
            said[i] = field[6 + 2 * i];
            wanted[i] = field[7 + 2 * i];
        }
        peft_scores s = { .size = sizeof s };
        peft_score_opts o = { .size = sizeof o, .samples = 10 };
        CHECK_EQ(peft_score_texts(said, wanted, rows, &o, &s), PEFT_OK);
        for (int i = 0; i < 5; i++)
            CHECK_NEAR(score_of(&s, names[i])->value, strtod(field[1 + i], NULL), 1e-9);
        cases++;
    }
    CHECK_EQ(cases, 100);
    if (f) fclose(f);
}

static void test_answers(void)
{
    const char *said[] = { "The Eiffel Tower!", "in Paris, France", "\xff\xfe" };
    const char *wanted[] = { "eiffel tower", "Paris", "x" };
    peft_scores s = { .size = sizeof s };
    CHECK_EQ(peft_score_texts(said, wanted, 3, NULL, &s), PEFT_OK);
    CHECK_NEAR(score_of(&s, "exact_match")->value, 1.0 / 3, 1e-12);
    CHECK_NEAR(score_of(&s, "f1")->value, (1 + 0.5) / 3, 1e-12);
}

static void test_pairs(void)
{
    enum { N = 40 };
    const char *good[N], *bad[N], *wanted[N];
    for (int i = 0; i < N; i++) {
        wanted[i] = "the cat sat on the mat today";
        good[i] = i % 4 ? wanted[i] : "a dog";
        bad[i] = i % 4 == 1 ? wanted[i] : "the cat";
    }
    peft_scores s = { .size = sizeof s }, again = s, same = s;
    peft_score_opts o = { .size = sizeof o, .other = good, .samples = 500, .seed = 3 };
    CHECK_EQ(peft_score_texts(bad, wanted, N, &o, &s), PEFT_OK);
    CHECK_EQ(peft_score_texts(bad, wanted, N, &o, &again), PEFT_OK);
    o.other = bad;
    CHECK_EQ(peft_score_texts(bad, wanted, N, &o, &same), PEFT_OK);
    for (int32_t i = 0; i < s.n; i++) {
        const peft_score *x = &s.scores[i];
        CHECK(x->low <= x->value && x->value <= x->high && x->low < x->high);
        CHECK(x->gain_low > 0 && x->gain_low <= x->gain && x->gain <= x->gain_high);
        CHECK_NEAR(x->p, 0, 0.02);
        CHECK(!memcmp(x, &again.scores[i], sizeof *x));
        CHECK(same.scores[i].gain == 0 && same.scores[i].p == 1);
        CHECK(same.scores[i].gain_low == 0 && same.scores[i].gain_high == 0);
    }
    /* Half right: the 95 % interval of a mean of 40 is near +-1.96 sqrt(.25 / 40). */
    for (int i = 0; i < N; i++) bad[i] = i % 2 ? wanted[i] : "no";
    o = (peft_score_opts){ .size = sizeof o, .samples = 4000 };
    CHECK_EQ(peft_score_texts(bad, wanted, N, &o, &s), PEFT_OK);
    CHECK_NEAR(score_of(&s, "exact_match")->low, 0.345, 0.03);
    CHECK_NEAR(score_of(&s, "exact_match")->high, 0.655, 0.03);
}

static void test_refusals(void)
{
    const char *x[] = { "a", NULL };
    peft_scores s = { .size = sizeof s };
    peft_score_opts o = { .size = sizeof o, .samples = -1 };
    CHECK_EQ(peft_score_texts(x, x, 0, NULL, &s), PEFT_EARG);
    CHECK_EQ(peft_score_texts(x, x, 2, NULL, &s), PEFT_EARG);
    CHECK_EQ(peft_score_texts(x, x, 1, &o, &s), PEFT_EARG);
    o = (peft_score_opts){ .size = sizeof o, .level = 1.5 };
    CHECK_EQ(peft_score_texts(x, x, 1, &o, &s), PEFT_EARG);
}

int main(void)
{
    RUN(test_references);
    RUN(test_answers);
    RUN(test_pairs);
    RUN(test_refusals);
    return TEST_END();
}
