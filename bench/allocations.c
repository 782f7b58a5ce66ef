/* How often a training step asks for memory, as JSON:
 *
 *     bench_allocations MODEL ROWS
 *
 * LoRA on 2 x 64 tokens, which are written to the file ROWS; the second and later steps count. */
#include <stdio.h>
#include <stdlib.h>

#include "peft.h"

enum { STEPS = 4, LENGTH = 64 };

static void *counted(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    int64_t *calls = ctx;
    (void)old_size;
    if (!new_size) {
        free(ptr);
        return NULL;
    }
    ++*calls;
    return realloc(ptr, new_size);
}

static void need(int32_t rc)
{
    if (!rc) return;
    fprintf(stderr, "bench_allocations: %s\n", peft_errmsg());
    exit(1);
}

static void write_rows(const char *path)
{
    FILE *f = fopen(path, "w");
    for (int i = 0; f && i < 2 * STEPS; i++) {
        fputs("{\"input_ids\": [300", f);
        for (int k = 1; k < LENGTH; k++) fprintf(f, ", %d", 300 + (i * 131 + k * 17) % 20000);
        fputs("]}\n", f);
    }
    if (!f || fclose(f)) exit(1);
}

int main(int argc, char **argv)
{
    int64_t calls = 0, first = 0;
    peft_load_opts load = { .size = sizeof(load), .alloc = counted, .alloc_ctx = &calls };
    peft_train_opts o = { .size = sizeof(o), .batch = 2 };
    peft_model *m = NULL;
    peft_dataset *d = NULL;
    peft_trainer *t = NULL;
    if (argc < 3) return 2;
    write_rows(argv[2]);
    need(peft_model_load(argv[1], &load, &m));
    need(peft_dataset_load(m, argv[2], NULL, &d));
    need(peft_adapter_add(m, "a", NULL));
    need(peft_trainer_new(m, d, &o, &t));
    for (int i = 0; i < STEPS; i++) {
        need(peft_train_step(t, NULL));
        if (i == 0) first = calls;
    }
    printf("{\"allocations_before\": %lld, \"allocations_per_step\": %.2f}\n", (long long)first,
           (double)(calls - first) / (STEPS - 1));
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
    return 0;
}
