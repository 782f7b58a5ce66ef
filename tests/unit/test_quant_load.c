/* Weights quantised while loading, in families of every shape: training on the blocks
 * is training on the floats that they stand for, and needs no memory for those. */
#include "kit.h"

#include "train/train.h"

static const char text_rows[] =
    "{\"input_ids\": [3, 9, 4, 8, 5, 7, 50, 60], \"labels\": [3, 9, 4, 8, 5, 7, 50, 60]}\n"
    "{\"input_ids\": [11, 9, 13, 8, 15, 7, 33], \"labels\": [11, 9, 13, 8, 15, 7, 33]}\n";
static const char pair_rows[] = "{\"input_ids\": [3, 9, 4, 8, 5, 1], \"labels\": [7, 50, 60, 1]}\n"
                                "{\"input_ids\": [11, 9, 1], \"labels\": [8, 15, 7, 33, 1]}\n";
static const char class_rows[] = "{\"input_ids\": [5, 6, 7, 8], \"label\": 0}\n"
                                 "{\"input_ids\": [9, 6, 17, 28, 30], \"label\": 1}\n";

static const struct { const char *path, *rows; } families[] = {
    { "tests/golden/tiny/t5", pair_rows },
    { "tests/golden/tiny/t5_gated", pair_rows },
    { "tests/golden/tiny/vit", NULL },
    { "tests/golden/tiny/gpt2", text_rows },
    { "tests/golden/tiny/bert", class_rows },
};
static const char *const quants[] = { "nf4", "fp4_dq", "q8_0", "q4_0" };

enum { WIDE = 768 };

/* A llama of one layer. */
static const char *llama_of(int dim, int ff, int heads)
{
    static const char *const names[] = {
        "embed_tokens", "layers.0.self_attn.q_proj", "layers.0.self_attn.k_proj",
        "layers.0.self_attn.v_proj", "layers.0.self_attn.o_proj", "layers.0.mlp.gate_proj",
        "layers.0.mlp.up_proj", "layers.0.mlp.down_proj", "layers.0.input_layernorm",
        "layers.0.post_attention_layernorm", "norm" };
    struct store_out t[ARRAY_LEN(names)];
    struct host h;
    static char full[ARRAY_LEN(names)][64], dir[160], config[512];
    static float x[WIDE * WIDE], ones[WIDE];
    snprintf(dir, sizeof(dir), "%s", in("llama%d", dim));
    for (int i = 0; i < WIDE; i++) ones[i] = 1;
    rng_fill_normal(x, WIDE * WIDE, 0.03f, 3, 1);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(full[i], sizeof(full[i]), "model.%s.weight", names[i]);
        t[i] = (struct store_out){ .name = full[i], .type = &qtype_f32, .n_dims = i < 8 ? 2 : 1,
                                   .dims = { !i ? 64 : i == 5 || i == 6 ? ff : dim,
                                             i == 7 ? ff : dim },
                                   .data = i < 8 ? x : ones };
    }
    CHECK_EQ(host_init(&h, NULL), PEFT_OK);
    CHECK_EQ(mkdir(dir, 0777), 0);
    snprintf(config, sizeof(config),
        "{\"model_type\": \"llama\", \"hidden_size\": %d, \"intermediate_size\": %d,\n"
        " \"num_hidden_layers\": 1, \"num_attention_heads\": %d, \"num_key_value_heads\": %d,\n"
        " \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0,\n"
        " \"hidden_act\": \"silu\", \"tie_word_embeddings\": true, \"vocab_size\": 64}\n",
        dim, ff, heads, heads);
    put(in("llama%d/config.json", dim), config);
    CHECK_EQ(safetensors_write(&h, in("llama%d/model.safetensors", dim), t, ARRAY_LEN(names),
                               NULL, 0), PEFT_OK);
    return dir;
}

enum { STEPS = 4 };
struct run { double loss[STEPS], norm[STEPS]; };

static struct run train(peft_model *m, const char *rows)
{
    struct run r = { 0 };
    peft_adapter_opts a = { .size = sizeof(a), .rank = 4, .seed = 3 };
    peft_train_opts o = { .size = sizeof(o), .lr = 0.01f, .batch = 2, .steps = STEPS, .clip = -1,
                          .no_shuffle = 1, .schedule = "constant" };
    peft_step step = { .size = sizeof(step) };
    peft_trainer *t = NULL;
    peft_dataset *d = data(m, rows ? put(in("rows.jsonl"), rows)
                                   : "tests/golden/tiny/vit/data.csv");
    OK(peft_adapter_add(m, "default", &a));
    OK(peft_trainer_new(m, d, &o, &t));
    for (int i = 0; i < STEPS && t; i++) {
        OK(peft_train_step(t, &step));
        r.loss[i] = step.loss;
        r.norm[i] = step.grad_norm;
    }
    peft_trainer_free(t);
    peft_dataset_free(d);
    return r;
}

/* The values of `from`'s blocks as floats of `to`. */
static int64_t expand(peft_model *to, peft_model *from)
{
    struct model *a = model_of(to), *b = model_of(from);
    int64_t n = 0;
    for (int64_t i = 0; i < a->n_sites; i++) {
        struct param *p = a->sites[i]->w;
        const struct param *q = b->sites[i]->w;
        CHECK(p && q && param_len(p) == param_len(q));
        if (!q->packed) continue;
        OK(param_own(a, p));
        qtype_expand(q->type, p->own, q->data, 0, param_len(p));
        n++;
    }
    return n;
}

static void same_training_of(const char *path, const char *rows)
{
    for (size_t k = 0; k < ARRAY_LEN(quants); k++) {
        peft_model *few = load_quant(path, quants[k]), *full = load(path);
        CHECK(expand(full, few) > 4);
        struct run a = train(few, rows), b = train(full, rows);
        double worst = 0;
        for (int i = 0; i < STEPS; i++) {
            worst = fmax(worst, fabs(a.loss[i] / b.loss[i] - 1));
            worst = fmax(worst, 0.1 * fabs(a.norm[i] / b.norm[i] - 1));
        }
        CHECK(a.loss[0] > 0 && a.norm[0] > 0);
        CHECK_NEAR(worst, 0, 2e-5);
        if (worst > 2e-5) printf("  %s %s: %g\n", path, quants[k], worst);
        peft_model_free(few);
        peft_model_free(full);
    }
}

static void same_training(void)
{
    for (size_t f = 0; f < ARRAY_LEN(families); f++)
        same_training_of(families[f].path, families[f].rows);
    /* Blocks of 64 run over the ends of rows, and the last one is not full. */
    same_training_of(llama_of(36, 50, 3), text_rows);
}

/* CLIP's image encoder, which embeds. */
static void same_embedding(void)
{
    static const char path[] = "tests/golden/vision/clip";
    static float x[8192], y[512], z[512];
    peft_model *few = load_quant(path, "nf4"), *full = load(path);
    peft_info i = info_of(full);
    int n = i.channels * i.image_height * i.image_width;
    if (n > 8192 || i.embed_dim > 512) GIVE_UP();
    rng_fill_normal(x, n, 1.0f, 5, 1);
    OK(peft_embed_pixels(full, x, 1, 0, z));
    OK(peft_embed_pixels(few, x, 1, 0, y));
    CHECK(distance(y, z, i.embed_dim) > 1e-4);
    CHECK(expand(full, few) > 4);
    OK(peft_embed_pixels(full, x, 1, 0, z));
    CHECK_NEAR(distance(y, z, i.embed_dim), 0, 1e-5);
    peft_model_free(few);
    peft_model_free(full);
}

/* --- no copy of a weight in floats, forward or backward */

static void no_expansion(void)
{
    static const char *const types[] = { "nf4", "fp4_dq", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0",
                                         "q4_k", "q5_k", "q6_k" };
    const char *dir = llama_of(WIDE, WIDE, 4);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        peft_model *m = load_quant(dir, types[i]);
        struct mem *mem = &model_of(m)->host.mem;
        peft_adapter_opts a = { .size = sizeof(a), .rank = 1 };
        peft_train_opts o = { .size = sizeof(o), .lr = 0.01f, .batch = 1, .steps = 2 };
        peft_step step = { .size = sizeof(step) };
        peft_plan plan = { .size = sizeof(plan) };
        peft_trainer *t = NULL;
        peft_dataset *d = data(m, put(in("rows.jsonl"), "{\"input_ids\": [3, 9, 4, 8]}\n"));
        OK(peft_adapter_add(m, "default", &a));
        OK(peft_trainer_new(m, d, &o, &t));
        OK(peft_trainer_plan(t, &plan));
        int64_t before = atomic_load(&mem->live);
        atomic_store(&mem->peak, before);
        OK(peft_train_step(t, &step));
        OK(peft_train_step(t, &step));
        int64_t more = atomic_load(&mem->peak) - before;
        CHECK(isfinite(step.loss) && step.grad_norm > 0);
        CHECK(more < WIDE * WIDE * 4);
        if (more >= WIDE * WIDE * 4) printf("  %s: %lld bytes\n", types[i], (long long)more);
        peft_trainer_free(t);
        peft_dataset_free(d);
        peft_model_free(m);
    }
}

int main(void)
{
    kit_begin();
    RUN(same_training);
    RUN(same_embedding);
    RUN(no_expansion);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
    kit_end();
    return TEST_END();
}
