/* A training step after the first allocates nothing: neither through the host's hook nor,
 * where the C library lets a program take malloc's place, in any other way.  Batches of many
 * lengths, epochs in different orders, packs, accumulated batches, cached features. */
#include <stdint.h>

#include "kit.h"

static atomic_long mallocs;          /* of the whole process */

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
enum { SEES_ALL = 1 };
extern void *__libc_malloc(size_t), *__libc_realloc(void *, size_t), *__libc_calloc(size_t, size_t);
void *malloc(size_t n)
{
    atomic_fetch_add(&mallocs, 1);
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t size)
{
    atomic_fetch_add(&mallocs, 1);
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n)
{
    atomic_fetch_add(&mallocs, 1);
    return __libc_realloc(p, n);
}
#else
enum { SEES_ALL = 0 };
#endif

enum { ROWS = 24 };
static char base[64];

static void make_data(void)
{
    FILE *f = fopen(in("lengths.jsonl"), "w"), *g = fopen(in("classes.jsonl"), "w");
    if (!f || !g) GIVE_UP();
    for (int r = 0; r < ROWS; r++) {
        fprintf(f, "{\"input_ids\": [3");
        fprintf(g, "{\"label\": \"%s\", \"text\": \"", r % 3 ? "good" : "bad");
        for (int i = 0; i < 2 + r * 7 % 31; i++) {
            fprintf(f, ", %d", 5 + (r * 31 + i * 17) % 80);
            fprintf(g, "%c", 'a' + (r * 5 + i * 3) % 26);
        }
        fprintf(f, "]}\n");
        fprintf(g, "\"}\n");
    }
    fclose(f);
    fclose(g);
}

enum what { LORA, FULL, HEAD };
static const struct {
    const char *name;
    enum what what;
    int threads, batch, accumulate, packing, recompute;
    int64_t cache;
    const char *states;
} cases[] = {
    { "LoRA", LORA, 1, 4, 1, 0, 0, 0, NULL },
    { "LoRA, threads", LORA, 3, 4, 1, 0, 0, 0, NULL },
    { "LoRA, packs", LORA, 1, 2, 1, 1, 0, 0, NULL },
    { "LoRA, accumulated", LORA, 1, 2, 3, 0, 0, 0, NULL },
    { "LoRA, layers again", LORA, 1, 4, 1, 0, PEFT_RECOMPUTE_LAYERS, 0, NULL },
    { "LoRA, nothing again", LORA, 1, 4, 1, 0, PEFT_RECOMPUTE_NONE, 0, NULL },
    { "full", FULL, 1, 4, 1, 0, 0, 0, NULL },
    { "full, 8 bits", FULL, 2, 4, 2, 0, 0, 0, "8bit" },
    { "full, packs, 16 bits", FULL, 2, 2, 1, 1, 0, 0, "bf16" },
    { "head", HEAD, 1, 4, 1, 0, 0, 0, NULL },
    { "head, accumulated", HEAD, 2, 2, 2, 0, 0, 0, NULL },
    { "head, small cache", HEAD, 1, 4, 1, 0, 0, 64 * 5, NULL },
    { "head, no cache", HEAD, 1, 4, 1, 0, 0, -1, NULL },
};

static void prepare(peft_model *m, enum what what)
{
    peft_head_opts h = { .size = sizeof(h), .labels = 3, .names = kit_labels };
    peft_adapter_opts a = { .size = sizeof(a), .rank = 2, .dropout = 0.1f };
    if (what == LORA) OK(peft_adapter_add(m, "a", &a));
    if (what != HEAD) return;
    OK(peft_head_add(m, &h));
    OK(peft_freeze(m, "*"));
    OK(peft_unfreeze(m, "score*"));
}

/* All steps of a run, whose first may allocate. */
static void check_run(peft_model *m, const char *path, const peft_train_opts *opts,
                      const char *name)
{
    peft_step s = { .size = sizeof(s) };
    peft_dataset *d = data(m, path);
    peft_trainer *t = NULL;
    int64_t steps = 0;
    OK(peft_trainer_new(m, d, opts, &t));
    if (!t) GIVE_UP();
    long hook = atomic_load(&kit_mem.calls), all = atomic_load(&mallocs);
    OK(peft_train_step(t, &s));
    CHECK(atomic_load(&kit_mem.calls) > hook && (!SEES_ALL || atomic_load(&mallocs) > all));
    hook = atomic_load(&kit_mem.calls);
    all = atomic_load(&mallocs);
    while (!peft_train_step(t, &s)) steps++;
    hook = atomic_load(&kit_mem.calls) - hook;
    all = atomic_load(&mallocs) - all;
    CHECK(steps >= 7);
    CHECK_EQ(hook, 0);
    if (SEES_ALL) CHECK_EQ(all, 0);
    if (hook || all) printf("  (%s: %ld, %ld in %d steps)\n", name, hook, all, (int)steps);
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

static peft_model *open_model(const char *path, int threads, const char *blas)
{
    peft_load_opts o = kit_opts();
    peft_model *m = NULL;
    o.threads = threads;
    o.blas = blas;
    OK(peft_model_load(path, &o, &m));
    if (!m) GIVE_UP();
    return m;
}

static void check_case(size_t i, const char *blas)
{
    peft_train_opts opts = { .size = sizeof(opts), .batch = cases[i].batch, .epochs = 4,
                             .accumulate = cases[i].accumulate, .packing = cases[i].packing,
                             .recompute = cases[i].recompute, .optimizer_states = cases[i].states,
                             .feature_cache = cases[i].cache, .lr = 0.01f };
    peft_model *m = open_model(base, cases[i].threads, blas);
    prepare(m, cases[i].what);
    check_run(m, in(cases[i].what == HEAD ? "classes.jsonl" : "lengths.jsonl"), &opts,
              cases[i].name);
}

static void check_adapter(const char *path, const char *method)
{
    peft_train_opts opts = { .size = sizeof(opts), .batch = 3, .epochs = 3, .lr = 0.01f };
    peft_adapter_opts a = { .size = sizeof(a), .method = method };
    if (!strcmp(method, "tokens")) a.settings = "{\"token_indices\": [5, 9, 7]}";
    peft_model *m = open_model(path, 2, "none");
    OK(peft_adapter_add(m, "a", &a));
    check_run(m, in("lengths.jsonl"), &opts, method);
}

static void test_methods(void)
{
    for (int i = 0; methods[i]; i++) check_adapter(base, methods[i]->name);
}

static void test_families(void)
{
    static const char *const names[] = { "bloom", "gemma2", "gpt2", "mixtral", "phi3", "qwen3_moe",
                                         "qwen2_window" };
    char path[64];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "tests/golden/tiny/%s", names[i]);
        check_adapter(path, "lora");
    }
}

static void test_built_in(void)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) check_case(i, "none");
}

/* The BLAS that is found, if there is one. */
static void test_blas(void)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) check_case(i, NULL);
}

int main(void)
{
    kit_begin();
    snprintf(base, sizeof(base), "%s", make_model("base", 1));
    make_data();
    RUN(test_built_in);
    RUN(test_blas);
    RUN(test_methods);
    RUN(test_families);
    kit_end();
    return TEST_END();
}
