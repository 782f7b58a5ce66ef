/* LoRA on experts that are one parameter, against PEFT: its adapter files,
 * logits, ten steps, also with a router that trains; written back as read. */
#include "golden.h"

static const char *name;
static const json *gold;
static struct store *in, *out;

static peft_model *base(void)
{
    return load_model(at("tests/golden/tiny/%s", json_string(json_get(gold, "base"))));
}

/* The last tokens of batch a's first row. */
static void check_logits(peft_model *m, const char *which)
{
    int64_t count = 0, vocab = 96;
    const float *want = floats(out, which, &count);
    const int64_t *x = store_find(in, "a.input_ids")->data;
    static float got[16 * 96];
    int32_t ids[16];
    double worst = 0;
    for (int i = 0; i < 16; i++) ids[i] = (int32_t)x[i];
    CHECK_EQ(peft_forward(m, ids, 16, got), PEFT_OK);
    for (int64_t i = 0; i < count; i++)
        worst = fmax(worst, fabs(got[16 * vocab - count + i] - want[i]));
    CHECK_NEAR(worst, 0, 2e-5);
    printf("  %-24s %s %.1e\n", name, which, worst);
}

static const char *data_file(void)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/moe.jsonl", test_dir);
    FILE *f = fopen(path, "w");
    for (const char *b = "ac"; *b; b++) {
        const int64_t *x = store_find(in, at("%c.input_ids", *b))->data;
        const int64_t *y = store_find(in, at("%c.labels", *b))->data;
        const int64_t *mask = store_find(in, at("%c.attention_mask", *b))->data;
        for (int r = 0; r < 2; r++)
            for (int k = 0; k < 2; k++) {
                fprintf(f, k ? "], \"labels\": [" : "{\"input_ids\": [");
                for (int i = r * 16; i < r * 16 + 16 && mask[i]; i++)
                    fprintf(f, "%s%d", i % 16 ? ", " : "", (int)(k ? y : x)[i]);
                if (k) fprintf(f, "]}\n");
            }
    }
    fclose(f);
    return path;
}

static void check_losses(peft_model *m)
{
    peft_train_opts o = { .size = sizeof(o), .lr = 2e-3f, .schedule = "constant", .clip = -1,
                          .weight_decay = 0.01f, .batch = 2, .steps = 10, .no_shuffle = 1 };
    peft_dataset *d = NULL;
    peft_trainer *t = NULL;
    peft_step s = { .size = sizeof(s) };
    double worst = 0;
    CHECK_EQ(peft_dataset_load(m, data_file(), NULL, &d), PEFT_OK);
    CHECK_EQ(peft_trainer_new(m, d, &o, &t), PEFT_OK);
    for (int i = 0; i < 10 && t; i++) {
        CHECK_EQ(peft_train_step(t, &s), PEFT_OK);
        double want = number_at(gold, "losses", i), norm = number_at(gold, "grad_norms", i);
        CHECK_NEAR(rel(s.loss, want), 0, 5e-5);
        CHECK_NEAR(rel(s.grad_norm, norm), 0, 1e-3);
        worst = fmax(worst, rel(s.loss, want));
    }
    printf("  %-24s losses %.1e\n", name, worst);
    peft_trainer_free(t);
    peft_dataset_free(d);
}

/* Saved at once, the file has the tensors that it was read from. */
static void check_file(const peft_model *m, const char *dir)
{
    struct store *a = open_st(at("%s/adapter_model.safetensors", dir)), *b;
    CHECK_EQ(peft_adapter_save(m, "default", at("%s/again", test_dir)), PEFT_OK);
    b = open_st(at("%s/again/adapter_model.safetensors", test_dir));
    CHECK_EQ(store_count(a), store_count(b));
    for (int64_t i = 0; i < store_count(a); i++) {
        const struct store_tensor *t = store_at(a, i), *u = store_find(b, t->name);
        CHECK(u && u->n_dims == t->n_dims && u->bytes == t->bytes);
        CHECK(u && !memcmp(u->data, t->data, (size_t)t->bytes));
        if (!u) printf("  %s: no %s\n", name, t->name);
    }
    store_close(a);
    store_close(b);
}

static void test_case(void)
{
    const char *dir = at("tests/golden/moe/%s/step0", name);
    char again[96];
    peft_model *m = base();
    out = open_st(at("tests/golden/moe/%s/outputs.safetensors", name));
    CHECK_EQ(peft_adapter_load(m, "default", dir), PEFT_OK);
    check_logits(m, "a.logits0");
    check_file(m, dir);
    peft_model_free(m);
    m = base();
    snprintf(again, sizeof(again), "%s/again", test_dir);
    CHECK_EQ(peft_adapter_load(m, "default", again), PEFT_OK);
    check_logits(m, "a.logits0");
    if (json_bool(json_get(gold, "train_router"), 0))
        CHECK_EQ(peft_unfreeze(m, "*mlp.gate.weight,*block_sparse_moe.gate.weight"), PEFT_OK);
    check_losses(m);
    check_logits(m, "a.logits10");
    CHECK_EQ(peft_adapter_merge(m, "default"), PEFT_OK);
    check_logits(m, "a.logits10");
    peft_model_free(m);
    store_close(out);
}

/* New adapters: what target_parameters names, and how PEFT starts it. */
static void test_add(void)
{
    peft_model *m = load_model("tests/golden/tiny/qwen3_moe");
    peft_adapter_opts o = { .size = sizeof(o), .rank = 3, .targets = "q_proj",
                            .target_parameters = "experts.gate_up_proj" };
    const struct param *a, *b;
    o.dropout = 0.1f;
    CHECK_EQ(peft_adapter_add(m, "x", &o), PEFT_EARG);
    o.dropout = 0;
    o.target_parameters = "experts.w1";
    CHECK_EQ(peft_adapter_add(m, "x", &o), PEFT_ENOTFOUND);
    o.target_parameters = "experts.gate_up_proj";
    CHECK_EQ(peft_adapter_add(m, "x", &o), PEFT_OK);
    a = model_param(model_of(m), "model.layers.1.mlp.experts.2.gate_proj.lora_A.weight");
    b = model_param(model_of(m), "model.layers.1.mlp.experts.2.up_proj.lora_B.weight");
    CHECK(a && b && a->rows == 3 && b->cols == 3 && b->own[0] == 0 && a->own[0] != 0);
    CHECK(!model_param(model_of(m), "model.layers.1.mlp.experts.2.down_proj.lora_A.weight"));
    peft_info i = { .size = sizeof(i) };
    CHECK_EQ(peft_model_info(m, &i), PEFT_OK);
    CHECK_EQ(i.trainable, 2 * (3 * (32 + 64) + 4 * 3 * (32 + 2 * 32)));
    CHECK_EQ(peft_adapter_save(m, "x", at("%s/new", test_dir)), PEFT_OK);
    CHECK_EQ(peft_adapter_remove(m, "x"), PEFT_OK);
    CHECK_EQ(peft_adapter_load(m, "x", at("%s/new", test_dir)), PEFT_OK);
    CHECK_EQ(peft_adapter_remove(m, "x"), PEFT_OK);
    o.targets = NULL;                   /* every linear layer but those */
    CHECK_EQ(peft_adapter_add(m, "x", &o), PEFT_OK);
    CHECK(model_param(model_of(m), "model.layers.1.mlp.experts.2.down_proj.lora_A.weight"));
    peft_model_free(m);
}

int main(void)
{
    golden_begin();
    json *cases = read_json_file("tests/golden/moe/cases.json");
    in = open_st("tests/golden/tiny/mixtral/inputs.safetensors");
    for (gold = json_first(cases); gold; gold = json_next(gold)) {
        name = json_key(gold);
        RUN(test_case);
    }
    RUN(test_add);
    store_close(in);
    json_free(cases);
    golden_end();
    return TEST_END();
}
