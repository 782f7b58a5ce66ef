/* Training of embeddings against sentence-transformers: ten steps under each
 * loss (golden files: tests/golden/make_embed.py). */
#include "golden.h"

#define EMBED "tests/golden/embed"

static void check_objective(const char *name, const char *file, const char *given)
{
    json *gold = read_json_file(EMBED "/golden.json");
    peft_model *m = load_model(EMBED);
    peft_dataset *d = NULL;
    peft_trainer *t = golden_trainer(m, file, 1e-3, 5, given, &d);
    peft_step s = { .size = sizeof(s) };
    for (int i = 0; i < 10 && t; i++) {
        double want = number_at(gold, name, i);
        CHECK_EQ(peft_train_step(t, &s), PEFT_OK);
        CHECK_NEAR(rel(s.loss, want), 0, 5e-5);
        if (!(rel(s.loss, want) <= 5e-5))
            printf("  %s step %d: %.7f, expected %.7f\n", name, i, s.loss, want);
    }
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
    json_free(gold);
}

static void test_match(void) { check_objective("match", EMBED "/match.jsonl", NULL); }
static void test_triplet(void) { check_objective("triplet", EMBED "/match.jsonl", "triplet"); }
static void test_cosent(void) { check_objective("cosent", EMBED "/alike.jsonl", NULL); }
static void test_cosine(void) { check_objective("cosine", EMBED "/alike.jsonl", "cosine"); }

static void test_objectives_that_do_not_fit(void)
{
    peft_model *m = load_model(EMBED);
    peft_dataset *d = NULL;
    peft_trainer *t = NULL;
    peft_train_opts o = { .size = sizeof(o), .objective = "cosent" };
    CHECK_EQ(peft_dataset_load(m, EMBED "/match.jsonl", NULL, &d), PEFT_OK);
    CHECK_EQ(peft_trainer_new(m, d, &o, &t), PEFT_EARG);
    CHECK(strstr(peft_errmsg(), "match, triplet") != NULL);
    peft_dataset_free(d);
    peft_model_free(m);
}

int main(void)
{
    golden_begin();
    RUN(test_match);
    RUN(test_triplet);
    RUN(test_cosent);
    RUN(test_cosine);
    RUN(test_objectives_that_do_not_fit);
    golden_end();
    return TEST_END();
}
