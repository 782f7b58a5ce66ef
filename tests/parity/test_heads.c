/* Every kind of head against transformers and PEFT: outputs, loss, gradients,
 * ten AdamW steps of full, LoRA and head-only tuning, and saved folders and
 * adapters read back. */
#include <dirent.h>

#include "golden.h"

static const char *head;
static json *gold;
static double worst_logit, worst_grad, worst_loss;

static peft_model *base(void) { return load_model(at("tests/golden/heads/%s", head)); }
static const char *data_file(void) { return at("tests/golden/heads/%s/data.jsonl", head); }

/* The outputs of batch a, whose rows are the first two of the file. */
static void check_outputs(peft_model *m)
{
    peft_dataset *d = NULL;
    if (!m) return;
    CHECK_EQ(peft_dataset_load(m, data_file(), NULL, &d), PEFT_OK);
    if (!d) return;
    struct dataset *data = dataset_of(d);
    const json *want = json_first(json_get(gold, "logits"));
    float *got = malloc(64 * 64 * sizeof(float));
    for (int t = 0; t < data->texts; t++)
        for (int r = 0; r < 2; r++, want = json_next(want)) {
            const struct example *x = &data->rows[r];
            int from = t ? x->ends[t - 1] : 0, to = x->ends ? x->ends[t] : x->n, i = 0;
            CHECK_EQ(peft_forward(m, x->ids + from, to - from, got), PEFT_OK);
            double worst = 0;
            for (const json *j = json_first(want); j; j = json_next(j), i++)
                worst = fmax(worst, fabs(got[i] - json_number(j, NAN)));
            CHECK_NEAR(worst, 0, 2e-5);
            worst_logit = fmax(worst_logit, worst);
        }
    free(got);
    peft_dataset_free(d);
}

static peft_trainer *trainer(peft_model *m, peft_dataset **d, const char *part)
{
    double lr = json_number(json_get(gold, at("%s.lr", part)), 0);
    return golden_trainer(m, data_file(), lr, 2, NULL, d);
}

static void check_losses(const char *part, peft_model *m)
{
    peft_dataset *d = NULL;
    peft_trainer *t = m ? trainer(m, &d, part) : NULL;
    peft_step s = { .size = sizeof(s) };
    for (int i = 0; i < 10 && t; i++) {
        double want = number_at(gold, at("%s.losses", part), i);
        CHECK_EQ(peft_train_step(t, &s), PEFT_OK);
        CHECK_NEAR(rel(s.loss, want), 0, 5e-5);
        worst_loss = fmax(worst_loss, rel(s.loss, want));
        if (rel(s.loss, want) > 5e-5)
            printf("  %s %s step %d: %.7f, expected %.7f\n", head, part, i, s.loss, want);
    }
    peft_trainer_free(t);
    peft_dataset_free(d);
}

static void check_gradients(void)
{
    peft_model *m = base();
    peft_dataset *d = NULL;
    peft_trainer *pt = m ? trainer(m, &d, "full") : NULL;
    peft_step s = { .size = sizeof(s) };
    if (!pt) return;
    CHECK_EQ(peft_train_step(pt, &s), PEFT_OK);
    CHECK_NEAR(rel(s.loss, json_number(json_get(gold, "loss"), 0)), 0, 1e-5);
    struct trainer *t = trainer_of(pt);
    int64_t count = 0;
    for (const json *j = json_first(json_get(gold, "grad_norms")); j; j = json_next(j), count++) {
        const struct param *p = model_param(t->m, json_key(j));
        double sum = 0, want = json_number(j, NAN);
        CHECK(p && p->grad);
        if (!p || !p->grad) printf("  %s has no %s\n", head, json_key(j));
        if (!p || !p->grad || want < 1e-6) continue;      /* a key's bias: zero but for rounding */
        for (int64_t i = 0; i < param_len(p); i++) sum += (double)p->grad[i] * p->grad[i];
        CHECK_NEAR(rel(sqrt(sum), want), 0, 1e-4);
        worst_grad = fmax(worst_grad, rel(sqrt(sum), want));
    }
    CHECK_EQ(count, t->n_list);
    peft_trainer_free(pt);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* What was saved gives the same outputs, from a folder and, with the head among
 * its modules, from an adapter on the model without its head. */
static void check_saved(void)
{
    char dir[160];
    peft_info a = { .size = sizeof(a) }, b = a;
    peft_model *m = base();
    snprintf(dir, sizeof(dir), "%s/%s", test_dir, head);
    CHECK_EQ(peft_model_save(m, dir, NULL), PEFT_OK);
    peft_model_info(m, &a);
    peft_model_free(m);
    m = load_model(dir);
    peft_model_info(m, &b);
    CHECK(!strcmp(a.head, b.head));
    check_outputs(m);
    peft_model_free(m);
    m = base();
    CHECK_EQ(peft_adapter_load(m, "x", at("tests/golden/heads/%s/lora_step0", head)), PEFT_OK);
    check_outputs(m);
    CHECK_EQ(peft_adapter_save(m, "x", at("%s.adapter", dir)), PEFT_OK);
    peft_model_free(m);
    m = base();
    CHECK_EQ(peft_adapter_load(m, "x", at("%s.adapter", dir)), PEFT_OK);
    check_outputs(m);
    peft_model_free(m);
}

static void test_head(void)
{
    gold = read_json_file(at("tests/golden/heads/%s/golden.json", head));
    worst_logit = worst_grad = worst_loss = 0;
    peft_model *m = base();
    check_outputs(m);
    peft_model_free(m);
    check_gradients();
    m = base();
    check_losses("full", m);
    peft_model_free(m);
    m = base();
    CHECK_EQ(peft_adapter_load(m, "x", at("tests/golden/heads/%s/lora_step0", head)), PEFT_OK);
    check_losses("lora", m);
    peft_model_free(m);
    if (json_get(gold, "head")) {
        m = base();
        CHECK_EQ(peft_freeze(m, "*"), PEFT_OK);
        CHECK_EQ(peft_unfreeze(m, "classifier.*,score.*,qa_outputs.*"), PEFT_OK);
        check_losses("head", m);
        peft_model_free(m);
    }
    check_saved();
    printf("  %-18s outputs %.1e, gradients %.1e, losses %.1e\n", head, worst_logit, worst_grad,
           worst_loss);
    json_free(gold);
}

int main(int argc, char **argv)
{
    golden_begin();
    DIR *d = opendir("tests/golden/heads");
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' || (argc > 1 && strcmp(argv[1], e->d_name))) continue;
        head = e->d_name;
        RUN(test_head);
    }
    if (d) closedir(d);
    golden_end();
    return TEST_END();
}
