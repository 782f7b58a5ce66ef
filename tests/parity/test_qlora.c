/* Quantising while loading, against bitsandbytes and torch (tests/golden/make_qlora.py):
 * bytes, logits and the losses of QLoRA; and training on the blocks of every type, which
 * must be training on the floats that they stand for. */
#include "golden.h"

static const char llama[] = "tests/golden/tiny/llama";
static struct store *gold, *inputs;

static peft_model *load_as(const char *path, const char *quant)
{
    peft_load_opts o = { .size = sizeof(o), .threads = 2, .quant = quant };
    peft_model *m = NULL;
    CHECK_EQ(peft_model_load(path, &o, &m), PEFT_OK);
    if (!m) exit(1);
    return m;
}

static const struct param *weight(peft_model *m, const char *module)
{
    return model_param(model_of(m), at("model.layers.%s.weight", module));
}

/* Codes and scales as bitsandbytes has them. */
static void same_bytes(peft_model *m, const char *module, const char *name, const char *kind)
{
    const struct param *p = weight(m, module);
    const struct store_tensor *codes = store_find(gold, at("%s.%s.packed", name, kind));
    const float *absmax = floats(gold, at("%s.%s.absmax", name, kind), NULL);
    const struct store_tensor *q = store_find(gold, at("%s.%s.absmax_u8", name, kind));
    const uint8_t *blocks = p->data;
    float level[256];
    int64_t wrong = 0;
    tree_levels(level, 0);
    CHECK_EQ(codes->count * 2, param_len(p));
    for (int64_t i = 0; i < codes->count; i++)
        wrong += blocks[i / 32 * 36 + 4 + i % 32] != ((const uint8_t *)codes->data)[i];
    for (int64_t i = 0; i < codes->count / 32; i++) {
        float scale;
        memcpy(&scale, blocks + i * 36, 4);
        if (absmax) {
            wrong += scale != absmax[i];
        } else {
            float most = floats(gold, at("%s.%s.absmax2", name, kind), NULL)[0];
            float mean = floats(gold, at("%s.%s.offset", name, kind), NULL)[0];
            float want = level[((const uint8_t *)q->data)[i]] * most + mean;
            wrong += !(rel(scale, want) < 1e-6);
        }
    }
    CHECK_EQ(wrong, 0);
}

static void test_bytes(void)
{
    static const char *const kinds[][2] = { { "nf4", "nf4" }, { "fp4", "fp4" },
                                            { "nf4_dq", "nf4dq" } };
    for (int i = 0; i < 3; i++) {
        peft_model *m = load_as(llama, kinds[i][0]);
        same_bytes(m, "0.self_attn.q_proj", "q", kinds[i][1]);
        same_bytes(m, "1.mlp.down_proj", "down", kinds[i][1]);
        CHECK_STR(model_param(model_of(m), "model.embed_tokens.weight")->type->name, "F32");
        CHECK_STR(model_param(model_of(m), "lm_head.weight")->type->name, "F32");
        peft_model_free(m);
    }
}

static const int64_t *ints(char batch, const char *what, int64_t *cols)
{
    const struct store_tensor *t = store_find(inputs, at("%c.%s", batch, what));
    if (t) *cols = t->dims[t->n_dims - 1];
    return t ? t->data : NULL;
}

static int32_t row_ids(char batch, int row, int32_t *ids)
{
    int64_t cols = 0;
    const int64_t *x = ints(batch, "input_ids", &cols);
    const int64_t *mask = ints(batch, "attention_mask", &cols);
    int32_t n = 0;
    for (int64_t i = 0; i < cols; i++)
        if (mask[row * cols + i]) ids[n++] = (int32_t)x[row * cols + i];
    return n;
}

static const char *data_file(void)
{
    static char path[160];
    snprintf(path, sizeof(path), "%s/rows.jsonl", test_dir);
    FILE *f = fopen(path, "w");
    for (const char *b = "ac"; *b; b++)
        for (int r = 0; r < 2; r++) {
            int32_t ids[64], n = row_ids(*b, r, ids);
            int64_t cols = 0;
            const int64_t *labels = ints(*b, "labels", &cols);
            fprintf(f, "{\"input_ids\": [");
            for (int i = 0; i < n; i++) fprintf(f, "%s%d", i ? ", " : "", ids[i]);
            fprintf(f, "], \"labels\": [");
            for (int i = 0; i < n; i++)
                fprintf(f, "%s%d", i ? ", " : "", (int)labels[r * cols + i]);
            fprintf(f, "]}\n");
        }
    fclose(f);
    return path;
}

/* transformers' logits of a batch, whose second row is padded to the right. */
static void check_logits(peft_model *m, double limit)
{
    static float got[64 * 256];
    const struct store_tensor *want = store_find(gold, "qlora.base_logits");
    double worst = 0;
    for (int r = 0; r < 2; r++) {
        int32_t ids[64], n = row_ids('a', r, ids);
        const float *z = (const float *)want->data + r * want->dims[1] * want->dims[2];
        CHECK_EQ(peft_forward(m, ids, n, got), PEFT_OK);
        for (int64_t i = 0; i < n * want->dims[2]; i++) worst = fmax(worst, fabs(got[i] - z[i]));
    }
    CHECK_NEAR(worst, 0, limit);
}

static void test_losses(void)
{
    json *run = read_json_file("tests/golden/bnb/qlora.json");
    peft_model *m = load_as(llama, "nf4");
    peft_dataset *d = NULL;
    peft_trainer *t = NULL;
    peft_train_opts o = { .size = sizeof(o), .schedule = "constant", .clip = -1, .batch = 2,
                          .weight_decay = 0.01f, .steps = 10, .no_shuffle = 1,
                          .lr = (float)json_number(json_get(run, "lr"), 0) };
    peft_step s = { .size = sizeof(s) };
    check_logits(m, 2e-5);
    CHECK_EQ(peft_adapter_load(m, "default", at("%s/lora_step0", llama)), PEFT_OK);
    CHECK_EQ(peft_dataset_load(m, data_file(), NULL, &d), PEFT_OK);
    CHECK_EQ(peft_trainer_new(m, d, &o, &t), PEFT_OK);
    for (int i = 0; i < 10 && t; i++) {
        CHECK_EQ(peft_train_step(t, &s), PEFT_OK);
        CHECK_NEAR(rel(s.loss, number_at(run, "losses", i)), 0, 5e-5);
        CHECK_NEAR(rel(s.grad_norm, number_at(run, "grad_norm_before_clip", i)), 0, 1e-3);
    }
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
    json_free(run);
}

/* What was quantised at loading is saved as blocks and as floats, from rows in any order. */
static void test_saved(void)
{
    static const char *const orders[] = { "tests/golden/tiny/llama", "tests/golden/tiny/gpt2",
                                          "tests/golden/tiny/falcon" };
    static float y[16 * 512], z[16 * 512];
    int32_t ids[16];
    for (int i = 0; i < 16; i++) ids[i] = 3 + i;
    for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
        peft_save_opts o = { .size = sizeof(o), .dtype = "nf4" };
        peft_model *m = load_as(orders[i], "nf4");
        int64_t n = 16 * model_of(m)->hp.vocab;
        if (n > 16 * 512) exit(1);
        CHECK_EQ(peft_forward(m, ids, 16, z), PEFT_OK);
        const char *saved[] = { at("%s/blocks", test_dir), at("%s/floats", test_dir),
                                at("%s/floats.gguf", test_dir) };
        for (int k = 0; k < 3; k++) {
            double worst = 0;
            CHECK_EQ(peft_model_save(m, saved[k], k ? NULL : &o), PEFT_OK);
            peft_model *again = load_as(saved[k], NULL);
            CHECK_EQ(peft_forward(again, ids, 16, y), PEFT_OK);
            for (int64_t j = 0; j < n; j++) worst = fmax(worst, fabs(y[j] - z[j]));
            CHECK_NEAR(worst, 0, k ? 2e-5 : 0);
            peft_model_free(again);
        }
        peft_model_free(m);
    }
    /* Rows of q and k that GGUF has in its own order. */
    peft_model *m = load_as(at("%s", llama), NULL);
    CHECK_EQ(peft_model_save(m, at("%s/plain.gguf", test_dir), NULL), PEFT_OK);
    peft_model_free(m);
    m = load_as(at("%s/plain.gguf", test_dir), "nf4");
    check_logits(m, 2e-5);
    peft_save_opts o = { .size = sizeof(o), .dtype = "nf4" };
    CHECK_EQ(peft_model_save(m, at("%s/ordered", test_dir), &o), PEFT_OK);
    peft_model_free(m);
    m = load_as(at("%s/ordered", test_dir), NULL);
    check_logits(m, 2e-5);
    same_bytes(m, "0.self_attn.q_proj", "q", "nf4");
    peft_model_free(m);
}

static void test_refused(void)
{
    peft_load_opts o = { .size = sizeof(o), .quant = "nf5" };
    peft_model *m = NULL;
    CHECK_EQ(peft_model_load(llama, &o, &m), PEFT_EARG);
    CHECK(strstr(peft_errmsg(), "nf4_dq") && !m);
    o.quant = "q8_0";
    CHECK_EQ(peft_model_load("tests/golden/bnb/nf4", &o, &m), PEFT_EUNSUPPORTED);
    CHECK(strstr(peft_errmsg(), "NF4") && !m);
}

/* --- memory: the result, and no copy of a tensor in floats but a task's */

static void test_memory(void)
{
    peft_model *m = load_as(llama, NULL), *q = load_as(llama, "nf4_dq");
    int64_t blocks = 0, plain = atomic_load(&model_of(m)->host.mem.live);
    for (int64_t i = 0; i < model_of(q)->n_params; i++)
        if (model_of(q)->params[i]->packed) blocks += param_bytes(model_of(q)->params[i]);
    CHECK(blocks > 0);
    CHECK(atomic_load(&model_of(q)->host.mem.live) - plain - blocks < 4096);
    CHECK(atomic_load(&model_of(q)->host.mem.peak) - plain - blocks < 2 * 65536 * 4 + 65536);
    peft_model_free(m);
    peft_model_free(q);
}

/* --- training on blocks */

enum { WIDE = 256 };
static const char wide_config[] =
    "{\"model_type\": \"llama\", \"hidden_size\": 256, \"intermediate_size\": 256,\n"
    " \"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"num_key_value_heads\": 4,\n"
    " \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0,\n"
    " \"hidden_act\": \"silu\", \"tie_word_embeddings\": true, \"vocab_size\": 64}\n";

static const char *wide_model(void)
{
    static const char *const names[] = {
        "embed_tokens", "layers.0.self_attn.q_proj", "layers.0.self_attn.k_proj",
        "layers.0.self_attn.v_proj", "layers.0.self_attn.o_proj", "layers.0.mlp.gate_proj",
        "layers.0.mlp.up_proj", "layers.0.mlp.down_proj", "layers.0.input_layernorm",
        "layers.0.post_attention_layernorm", "norm" };
    struct store_out t[ARRAY_LEN(names)];
    static char full[ARRAY_LEN(names)][64];
    static float x[8][WIDE * WIDE], ones[WIDE];
    const char *dir = at("%s/wide", test_dir);
    for (int i = 0; i < WIDE; i++) ones[i] = 1;
    for (int i = 0; i < 8; i++) rng_fill_normal(x[i], WIDE * WIDE, 0.08f, 3, (uint64_t)i);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(full[i], sizeof(full[i]), "model.%s.weight", names[i]);
        t[i] = (struct store_out){ .name = full[i], .type = &qtype_f32, .n_dims = i < 8 ? 2 : 1,
                                   .dims = { i ? WIDE : 64, WIDE }, .data = i < 8 ? x[i] : ones };
    }
    CHECK_EQ(test_host.io.mkdir(test_host.io.ctx, dir), 0);
    CHECK_EQ(file_write(&test_host, at("%s/config.json", dir), wide_config,
                        (int64_t)strlen(wide_config)), PEFT_OK);
    CHECK_EQ(safetensors_write(&test_host, at("%s/model.safetensors", dir), t,
                               ARRAY_LEN(names), NULL, 0), PEFT_OK);
    return dir;
}

/* Types that have no writer here: any codes, and sane scales (halves, at these places). */
static const struct { const char *type; int at[2]; float half; } random_types[] = {
    { "Q2_K", { 80, 82 }, 2e-3f }, { "Q3_K", { 108, -1 }, 1e-3f }, { "IQ4_NL", { 0, -1 }, 1e-3f },
    { "IQ4_XS", { 0, -1 }, 5e-5f }, { "TQ1_0", { 52, -1 }, 0.05f }, { "TQ2_0", { 64, -1 }, 0.05f },
};

static void any_blocks(const struct qtype *t, uint8_t *to, int64_t n, uint64_t stream)
{
    uint32_t u = (uint32_t)stream * 2654435761u + 1;
    for (int64_t i = 0; i < n / t->block * t->bytes; i++) {
        u = u * 1664525u + 1013904223u;
        to[i] = (uint8_t)(u >> 24);
    }
    for (size_t k = 0; k < ARRAY_LEN(random_types); k++)
        for (int h = 0; h < 2 && !strcmp(random_types[k].type, t->name); h++)
            for (int64_t b = 0; b < n / t->block && random_types[k].at[h] >= 0; b++)
                qtype_f16.from_f32(to + b * t->bytes + random_types[k].at[h],
                                   &random_types[k].half, 1);
}

static struct run { double loss[4], norm[4]; float adapter[1 << 17]; int64_t n; } runs[2];

/* The linear layers as blocks of the type, or as the floats of those blocks. */
static void train_on(const char *dir, const struct qtype *t, int as_floats, struct run *r)
{
    static uint8_t made[8][WIDE * WIDE * 4];
    peft_model *m = load_as(dir, NULL);
    struct param *p;
    int used = 0;
    for (int64_t i = 0; i < model_of(m)->n_sites; i++) {
        const struct site *s = model_of(m)->sites[i];
        if (s->kind != SITE_LINEAR) continue;
        uint8_t *to = made[used++];
        if (t->from_f32) t->from_f32(to, s->w->data, WIDE * WIDE);
        else any_blocks(t, to, WIDE * WIDE, (uint64_t)i);
        s->w->data = to;
        s->w->type = t;
        if (as_floats) CHECK_EQ(param_own(model_of(m), s->w), PEFT_OK);
    }
    CHECK_EQ(used, 7);
    peft_adapter_opts a = { .size = sizeof(a), .rank = 4, .seed = 3 };
    peft_train_opts o = { .size = sizeof(o), .lr = 0.01f, .batch = 2, .steps = 4, .clip = -1,
                          .recompute = PEFT_RECOMPUTE_LAYERS };
    peft_step step = { .size = sizeof(step) };
    peft_dataset *d = NULL;
    peft_trainer *tr = NULL;
    CHECK_EQ(peft_adapter_add(m, "default", &a), PEFT_OK);
    CHECK_EQ(peft_dataset_load(m, at("%s/wide.jsonl", test_dir), NULL, &d), PEFT_OK);
    CHECK_EQ(peft_trainer_new(m, d, &o, &tr), PEFT_OK);
    for (int i = 0; i < 4 && tr; i++) {
        CHECK_EQ(peft_train_step(tr, &step), PEFT_OK);
        r->loss[i] = step.loss;
        r->norm[i] = step.grad_norm;
    }
    r->n = 0;
    for (int64_t i = 0; (p = model_nth_param(model_of(m), i)); i++)
        if (p->adapter) {
            memcpy(r->adapter + r->n, p->grad, (size_t)param_len(p) * 4);
            r->n += param_len(p);
        }
    peft_trainer_free(tr);
    peft_dataset_free(d);
    peft_model_free(m);
}

static void test_blocks_train(void)
{
    const char *dir = at("%s", wide_model());
    static const char rows[] = "{\"input_ids\": [3, 9, 4, 8, 5, 7, 50, 60]}\n"
                               "{\"input_ids\": [11, 9, 13, 8, 15, 7, 33]}\n";
    char kept[160];
    int seen = 0;
    snprintf(kept, sizeof(kept), "%s", dir);
    CHECK_EQ(file_write(&test_host, at("%s/wide.jsonl", test_dir), rows, sizeof(rows) - 1),
             PEFT_OK);
    for (int k = 0; qtypes[k]; k++) {
        int random = 0;
        for (size_t i = 0; i < ARRAY_LEN(random_types); i++)
            random |= !strcmp(random_types[i].type, qtypes[k]->name);
        if (!random && !qtypes[k]->from_f32) continue;
        train_on(kept, qtypes[k], 0, &runs[0]);
        train_on(kept, qtypes[k], 1, &runs[1]);
        double worst = 0, most = 0;
        for (int i = 0; i < 4; i++) {
            CHECK_NEAR(rel(runs[0].loss[i], runs[1].loss[i]), 0, 5e-6);
            CHECK_NEAR(rel(runs[0].norm[i], runs[1].norm[i]), 0, 5e-5);
        }
        for (int64_t i = 0; i < runs[0].n; i++) {
            worst = fmax(worst, fabs((double)runs[0].adapter[i] - (double)runs[1].adapter[i]));
            most = fmax(most, fabs((double)runs[1].adapter[i]));
        }
        CHECK(most > 0 && isfinite(runs[0].loss[3]));
        CHECK_NEAR(worst / most, 0, 2e-4);
        if (worst / most > 2e-4) printf("  %s: %g\n", qtypes[k]->name, worst / most);
        seen++;
    }
    CHECK(seen >= 22);
}

int main(void)
{
    golden_begin();
    gold = open_st("tests/golden/bnb/qlora.safetensors");
    inputs = open_st("tests/golden/tiny/llama/inputs.safetensors");
    RUN(test_bytes);
    RUN(test_losses);
    RUN(test_saved);
    RUN(test_refused);
    RUN(test_memory);
    RUN(test_blocks_train);
    store_close(gold);
    store_close(inputs);
    golden_end();
    return TEST_END();
}
