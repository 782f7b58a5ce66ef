/* Trains a classifier: a new last layer on a frozen model.
 *
 * The data has the columns text and label (CSV or JSONL).  The frozen part is
 * computed once per row, so all epochs but the first cost next to nothing.
 *
 *   ./classify_head encoder reviews.csv test.csv classifier */
#include <peft.h>
#include <stdio.h>

/* A head for the classes that the data has. */
static int32_t add_head(peft_model *model, const peft_dataset *data)
{
    enum { MOST = 64 };
    const char *names[MOST];
    peft_dataset_stats stats = {.size = sizeof stats};
    peft_head_opts opts = {.size = sizeof opts, .names = names};
    int32_t rc = peft_dataset_info(data, &stats);
    if (rc)
        return rc;
    for (int32_t i = 0; i < stats.labels && i < MOST; i++)
        names[i] = peft_dataset_label(data, i);
    opts.labels = stats.labels < MOST ? stats.labels : MOST;
    rc = peft_head_add(model, &opts);
    if (!rc)
        rc = peft_freeze(model, "*");
    return rc ? rc : peft_unfreeze(model, "score.*,classifier.*");
}

static int32_t train(peft_trainer *trainer)
{
    peft_step s = {.size = sizeof s};
    int32_t rc;
    while (!(rc = peft_train_step(trainer, &s)))
        if (s.step % 20 == 0 || s.step == s.steps)
            printf("step %lld of %lld: loss %.4f\n", (long long)s.step, (long long)s.steps,
                   s.loss);
    return rc == PEFT_EEND ? 0 : rc;
}

static int32_t measure(peft_model *model, const char *path)
{
    peft_dataset *test = NULL;
    peft_evaluation e = {.size = sizeof e};
    int32_t rc = peft_dataset_load(model, path, NULL, &test);
    if (!rc)
        rc = peft_eval(model, test, NULL, &e);
    if (!rc)
        printf("%lld test rows: accuracy %.1f %%, F1 %.3f\n", (long long)e.rows,
               100 * e.accuracy, e.f1);
    peft_dataset_free(test);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: classify_head MODEL TRAIN.csv TEST.csv OUT_FOLDER\n");
        return 2;
    }
    peft_model *model = NULL;
    peft_dataset *data = NULL;
    peft_trainer *trainer = NULL;
    peft_train_opts opts = {.size = sizeof opts, .epochs = 20, .lr = 5e-3f, .batch = 8};

    int32_t rc = peft_model_load(argv[1], NULL, &model);
    if (!rc)
        rc = peft_dataset_load(model, argv[2], NULL, &data);
    if (!rc)
        rc = add_head(model, data);
    if (!rc)
        rc = peft_trainer_new(model, data, &opts, &trainer);
    if (!rc)
        rc = train(trainer);
    if (!rc)
        rc = measure(model, argv[3]);
    if (!rc)
        rc = peft_model_save(model, argv[4], NULL);
    if (rc)
        fprintf(stderr, "%s: %s\n", peft_errname(rc), peft_errmsg());
    peft_trainer_free(trainer);
    peft_dataset_free(data);
    peft_model_free(model);
    return rc != 0;
}
