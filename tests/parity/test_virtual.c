/* Virtual tokens: what PEFT computes with its adapters on several families, and
 * its training traces (make_virtual.py); caches and beams; texts that share a
 * batch; plans, checkpoints, and what is refused. */
#include "golden.h"

static const char *const cases[] = {
    "prompt_gpt2", "prefix_gpt2", "prompt_gemma2", "prefix_gemma2", "prompt_bloom", "prefix_bloom",
    "prefix_qwen3", "ptuning_opt", "prefix_llama_projection", "prefix_falcon", "prompt_bert",
    "prefix_bert", "prompt_llama_cls", "prefix_llama_cls", "prompt_bert_tokens",
    "prefix_bert_tokens", "prompt_t5", "ptuning_t5", "prefix_t5"
};
static const char llama[] = "tests/golden/peft/base_llama";

static int32_t ids_of(const json *j, const char *key, int32_t to[64])
{
    int32_t n = 0;
    for (const json *k = json_first(json_get(j, key)); k; k = json_next(k))
        to[n++] = (int32_t)json_number(k, -1);
    return n;
}

/* Worst distance of the logits, of the last token where there are more. */
static double distance(peft_model *m, const json *want)
{
    static float got[64 * 256];
    int32_t ids[64], target[64], n = ids_of(want, "ids", ids), k = ids_of(want, "target", target);
    const struct model *own = model_of(m);
    int64_t count = json_count(json_get(want, "logits")), all = own->hp.vocab * (k ? k : n), i = 0;
    if (own->head) all = count;
    if (k) CHECK_EQ(peft_forward_pair(m, ids, n, target, k, got), PEFT_OK);
    else CHECK_EQ(peft_forward(m, ids, n, got), PEFT_OK);
    double worst = 0;
    for (const json *j = json_first(json_get(want, "logits")); j; j = json_next(j), i++)
        worst = fmax(worst, fabs(got[all - count + i] - json_number(j, NAN)));
    return i ? worst : 1e9;
}

static void said(peft_model *m, const json *want, const char *key, int32_t beams)
{
    int32_t ids[64], expected[64], got[64], n = ids_of(want, "ids", ids);
    int32_t k = ids_of(want, key, expected);
    peft_generate_opts o = { .size = sizeof(o), .max_tokens = 10, .num_beams = beams };
    if (!json_get(want, key)) return;
    CHECK_EQ(peft_generate_ids(m, ids, n, &o, got, 64, NULL), k);
    CHECK(!memcmp(got, expected, (size_t)k * 4));
}

static void check_case(const char *name)
{
    json *want = read_json_file(at("tests/golden/virtual/%s/expect.json", name));
    const char *base = json_string(json_get(want, "base"));
    base = at("tests/golden/%s/%s", strcmp(base, "bert_tokens") ? "tiny" : "heads", base);
    peft_model *m = load_model(base), *m2 = load_model(base);
    const char *dir = at("tests/golden/virtual/%s", name), *saved = at("%s/%s", test_dir, name);
    CHECK_EQ(peft_adapter_load(m, "default", dir), PEFT_OK);
    CHECK_NEAR(distance(m, want), 0, 2e-5);
    said(m, want, "greedy", 0);
    said(m, want, "beams", 3);
    CHECK_EQ(peft_adapter_disable(m, "default"), PEFT_OK);
    CHECK(distance(m, want) > 1e-3);
    CHECK_EQ(peft_adapter_enable(m, "default"), PEFT_OK);
    CHECK_EQ(peft_adapter_save(m, "default", saved), PEFT_OK);
    CHECK_EQ(peft_adapter_load(m2, "again", saved), PEFT_OK);
    CHECK_NEAR(distance(m2, want), 0, 2e-5);
    json_free(want);
    peft_model_free(m);
    peft_model_free(m2);
}

static void test_cases(void)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int bad = test_bad;
        check_case(cases[i]);
        if (test_bad > bad) printf("  in %s\n", cases[i]);
    }
}

/* --- ten-step traces */

/* The golden run's own start of what makes the tokens. */
static void set_parts(struct model *m, const char *file)
{
    struct store *s = open_st(file);
    const struct adapted *d = m->adapters->sites;
    for (int k = 0; k < PARTS && d->part[k]; k++) {
        int64_t n;
        const float *x = floats(s, m->adapters->method->parts[k].suffix, &n);
        CHECK(x && n == param_len(d->part[k]));
        if (x && n == param_len(d->part[k])) memcpy(d->part[k]->own, x, (size_t)n * 4);
    }
    store_close(s);
}

static void write_rows(const json *list, const char *path)
{
    FILE *f = fopen(path, "w");
    struct buf b;
    buf_init(&b, &test_host.mem);
    for (const json *j = json_first(list); j; j = json_next(j)) {
        json_write(&b, j);
        buf_putc(&b, '\n');
    }
    fwrite(b.data, 1, (size_t)b.n, f);
    fclose(f);
    buf_free(&b);
}

static void check_trace(const char *name, const char *method, const char *settings)
{
    json *trace = read_json_file(at("tests/golden/virtual/trace_%s/trace.json", name));
    const char *init = at("tests/golden/virtual/trace_%s/init", name);
    const char *path = at("%s/trace.jsonl", test_dir);
    peft_model *m = load_model(llama);
    peft_dataset *d = NULL;
    peft_trainer *t = NULL;
    peft_adapter_opts a = { .size = sizeof(a), .method = method, .settings = settings };
    peft_train_opts o = { .size = sizeof(o), .lr = 0.01f, .weight_decay = 0.01f, .clip = 1.0f,
                          .schedule = "constant", .batch = 4, .steps = 10, .no_shuffle = 1 };
    peft_step s = { .size = sizeof(s) };
    write_rows(json_get(trace, "rows"), path);
    if (settings) {
        CHECK_EQ(peft_adapter_add(m, "default", &a), PEFT_OK);
        set_parts(model_of(m), at("%s/encoder.safetensors", init));
    } else {
        CHECK_EQ(peft_adapter_load(m, "default", init), PEFT_OK);
    }
    CHECK_EQ(peft_dataset_load(m, path, NULL, &d), PEFT_OK);
    if (d) CHECK_EQ(peft_trainer_new(m, d, &o, &t), PEFT_OK);
    for (int i = 0; i < 10 && t; i++) {
        CHECK_EQ(peft_train_step(t, &s), PEFT_OK);
        CHECK_NEAR(rel(s.loss, number_at(trace, "loss", i)), 0, 2e-5);
        CHECK_NEAR(rel(s.grad_norm, number_at(trace, "grad_norm", i)), 0, 1e-4);
    }
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
    json_free(trace);
}

static void test_traces(void)
{
    check_trace("prompt", "prompt", NULL);
    check_trace("prefix", "prefix", NULL);
    check_trace("ptuning", "ptuning",
                "{\"num_virtual_tokens\": 5, \"encoder_hidden_size\": 12}");
    check_trace("projection", "prefix", "{\"num_virtual_tokens\": 5, \"encoder_hidden_size\": 6, "
                "\"prefix_projection\": true}");
}

int main(void)
{
    golden_begin();
    RUN(test_cases);
    RUN(test_traces);
    golden_end();
    return TEST_END();
}
