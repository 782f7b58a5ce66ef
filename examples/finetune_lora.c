/* Fine-tunes a model with LoRA and saves an adapter for Hugging Face PEFT.
 *
 *   cc finetune_lora.c $(pkg-config --cflags --libs libpeft)
 *   ./a.out model.gguf chats.jsonl adapter */
#include <peft.h>
#include <stdio.h>

static int train(peft_model *model, peft_trainer *trainer, const char *out)
{
    peft_step s = {.size = sizeof s};
    int32_t rc;
    while (!(rc = peft_train_step(trainer, &s)))
        printf("step %lld of %lld: loss %.4f, %.0f tokens/s\n", (long long)s.step,
               (long long)s.steps, s.loss, (double)s.tokens / s.seconds);
    return rc == PEFT_EEND ? peft_adapter_save(model, "default", out) : rc;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: finetune_lora MODEL DATA.jsonl ADAPTER_FOLDER\n");
        return 2;
    }
    peft_model *model = NULL;
    peft_dataset *data = NULL;
    peft_trainer *trainer = NULL;
    peft_plan plan = {.size = sizeof plan};
    peft_adapter_opts lora = {.size = sizeof lora, .rank = 8};
    peft_train_opts opts = {.size = sizeof opts, .epochs = 2, .lr = 2e-4f, .warmup = 0.1f};

    int32_t rc = peft_model_load(argv[1], NULL, &model);
    if (!rc)
        rc = peft_adapter_add(model, "default", &lora);
    if (!rc)
        rc = peft_dataset_load(model, argv[2], NULL, &data);
    if (!rc)
        rc = peft_trainer_new(model, data, &opts, &trainer);
    if (!rc)
        rc = peft_trainer_plan(trainer, &plan);
    if (!rc) {
        printf("%lld of %lld weights train, in %lld MB\n", (long long)plan.trainable_params,
               (long long)plan.total_params, (long long)plan.peak / 1000000);
        rc = train(model, trainer, argv[3]);
    }
    if (rc)
        fprintf(stderr, "%s: %s\n", peft_errname(rc), peft_errmsg());
    peft_trainer_free(trainer);
    peft_dataset_free(data);
    peft_model_free(model);
    return rc != 0;
}
