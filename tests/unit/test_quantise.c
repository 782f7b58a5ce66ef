/* Comparing models, and types chosen by what they cost, on tiny models. */
#include "kit.h"

static const char llama[] = "tests/golden/tiny/llama";
static float one[16 * 256], other[16 * 256];
static int32_t ids[16];

/* One row, whose tokens are all trained. */
static const char *row_below(int vocab)
{
    FILE *f = fopen(in("row.jsonl"), "w");
    if (!f) GIVE_UP();
    fprintf(f, "{\"input_ids\": [");
    for (int i = 0; i < 16; i++) fprintf(f, "%s%d", i ? ", " : "", (int)ids[i] % vocab);
    fprintf(f, "]}\n");
    fclose(f);
    return in("row.jsonl");
}

static const char *row_file(void)
{
    return row_below(256);
}

static double log_sum_of(const float *z, int n)
{
    double most = (double)z[0], sum = 0;
    for (int i = 1; i < n; i++) most = fmax(most, (double)z[i]);
    for (int i = 0; i < n; i++) sum += exp((double)z[i] - most);
    return log(sum) + most;
}

static void same_as_by_hand(void)
{
    peft_model *ref = load(llama), *m = load_quant(llama, "nf4");
    peft_dataset *d = data(ref, row_file());
    peft_comparison c = { .size = sizeof(c) };
    peft_evaluation e = { .size = sizeof(e) };
    double kl = 0, most = 0;
    OK(peft_compare(m, ref, d, NULL, &c));
    OK(peft_forward(m, ids, 16, one));
    OK(peft_forward(ref, ids, 16, other));
    for (int r = 0; r < 15; r++) {
        const float *z = one + r * 256, *p = other + r * 256;
        double sum = log_sum_of(z, 256), ref_sum = log_sum_of(p, 256);
        for (int i = 0; i < 256; i++) {
            double lp = (double)p[i] - ref_sum;
            kl += exp(lp) * (lp - ((double)z[i] - sum)) / 15;
            most = fmax(most, fabs((double)z[i] - (double)p[i]));
        }
    }
    CHECK(c.tokens == 15 && c.kl > 1e-4);
    CHECK_NEAR(c.kl, kl, 1e-5 * kl + 1e-7);
    CHECK_NEAR(c.max_logit_diff, most, 1e-5);
    OK(peft_eval(ref, d, NULL, &e));
    CHECK_NEAR(c.reference_perplexity, e.perplexity, 1e-5 * e.perplexity);
    peft_dataset *own = data(m, row_file());
    OK(peft_eval(m, own, NULL, &e));
    peft_dataset_free(own);
    CHECK_NEAR(c.perplexity, e.perplexity, 1e-5 * e.perplexity);
    REFUSED(peft_compare(m, m, d, NULL, &c), PEFT_EARG);
    peft_dataset_free(d);
    peft_model_free(m);
    peft_model_free(ref);
}

/* Two texts of which an encoder has mean hidden states. */
static const char *texts_file(void)
{
    return put(in("texts.jsonl"), "{\"input_ids\": [5, 6, 7, 8], \"label\": 0}\n"
                                  "{\"input_ids\": [9, 6, 17, 28, 30], \"label\": 1}\n");
}

/* A model without a language-model head: the choice is by the cosine, beats one type at
 * its bytes, and leaves the pooler. */
static void encoders_chosen(void)
{
    static const char path[] = "tests/golden/tiny/bert";
    peft_model *ref = load(path), *m = load(path), *four = load_quant(path, "q4_0");
    peft_dataset *d = data(ref, texts_file());
    peft_comparison c = { .size = sizeof(c) }, all = c;
    peft_quantized q = { .size = sizeof(q) };
    peft_quantize_opts o = { .size = sizeof(o), .batch = 2 };
    const struct param *pooler = model_of(m)->global[SLOT_POOLER]->w;
    OK(peft_compare(four, ref, d, NULL, &all));
    o.budget = info_of(four).weight_bytes;
    OK(peft_quantize(m, d, &o, &q));
    OK(peft_compare(m, ref, d, NULL, &c));
    CHECK(q.bytes <= o.budget && q.bytes == info_of(m).weight_bytes);
    CHECK_NEAR(1 - c.cosine, q.kl, 1e-4 * q.kl + 1e-7);
    CHECK(q.kl < 1 - all.cosine && q.kl <= q.least_kl && q.perplexity == 0);
    CHECK_STR(pooler->type->name, "F32");
    peft_dataset_free(d);
    peft_model_free(four);
    peft_model_free(m);
    peft_model_free(ref);
}

static void encoders(void)
{
    static const char path[] = "tests/golden/tiny/bert";
    peft_model *ref = load(path), *m = load_quant(path, "q8_0"), *four = load_quant(path, "nf4");
    peft_dataset *d = data(ref, texts_file());
    peft_comparison c = { .size = sizeof(c) }, b = { .size = sizeof(b) };
    OK(peft_compare(m, ref, d, NULL, &c));
    OK(peft_compare(four, ref, d, NULL, &b));
    CHECK(c.cosine > 0.999 && c.cosine <= 1.0000001);
    CHECK(b.cosine < c.cosine && b.cosine > 0.9);
    peft_dataset_free(d);
    peft_model_free(m);
    peft_model_free(four);
    peft_model_free(ref);
}

/* At the bytes of one type for all, the choice costs no more; what is saved is what was
 * measured. */
static void chosen(void)
{
    static const char *const uniform[] = { "q4_0", "q5_0", "q8_0" };
    for (int i = 0; i < 3; i++) {
        peft_model *ref = load(llama), *m = load(llama);
        peft_dataset *d = data(ref, row_file());
        peft_save_opts so = { .size = sizeof(so), .dtype = uniform[i] };
        peft_comparison plain = { .size = sizeof(plain) }, again = plain;
        peft_quantized q = { .size = sizeof(q) };
        peft_quantize_opts o = { .size = sizeof(o), .batch = 2 };
        OK(peft_model_save(ref, in("uniform.gguf"), &so));
        peft_model *all = load(in("uniform.gguf"));
        OK(peft_compare(all, ref, d, NULL, &plain));
        o.budget = info_of(all).weight_bytes;
        peft_model_free(all);
        OK(peft_quantize(m, d, &o, &q));
        CHECK(q.bytes <= o.budget && q.bytes == info_of(m).weight_bytes && q.least <= q.bytes);
        CHECK(q.kl <= 1.001 * plain.kl && q.kl <= 1.001 * q.least_kl);
        OK(peft_model_save(m, in("chosen.gguf"), NULL));
        peft_model *saved = load(in("chosen.gguf"));
        CHECK_STR(info_of(saved).types, info_of(m).types);
        OK(peft_compare(saved, ref, d, NULL, &again));
        CHECK_NEAR(again.kl, q.kl, 1e-3 * q.kl + 1e-6);
        peft_model_free(saved);
        peft_dataset_free(d);
        peft_model_free(m);
        peft_model_free(ref);
    }
}

/* Groups of gradients of any size choose the same. */
static void saved_in_a_folder(const char *path)
{
    peft_model *ref = load(path), *m = load(path), *n = load(path);
    peft_dataset *d = data(ref, row_below(info_of(ref).vocab));
    peft_quantize_opts o = { .size = sizeof(o), .types = "nf4,bf16", .bits = 16 };
    peft_save_opts so = { .size = sizeof(so), .dtype = "held" };
    peft_comparison c = { .size = sizeof(c) };
    peft_quantized q = { .size = sizeof(q) }, r = q;
    OK(peft_quantize(m, d, &o, &q));
    o.gradient_bytes = 1;
    OK(peft_quantize(n, d, &o, &r));
    CHECK_STR(info_of(n).types, info_of(m).types);
    CHECK(strstr(info_of(m).types, "NF4 x") && strstr(info_of(m).types, "BF16 x"));
    OK(peft_model_save(m, in("held"), &so));
    peft_model *saved = load(in("held"));
    CHECK(strstr(info_of(saved).types, "NF4 x") != NULL);
    OK(peft_compare(saved, ref, d, NULL, &c));
    /* What the folder rounds, the norms, was rounded when it was measured. */
    CHECK_NEAR(c.kl, q.kl, 1e-3 * q.kl + 1e-7);
    peft_model_free(saved);
    peft_dataset_free(d);
    peft_model_free(n);
    peft_model_free(m);
    peft_model_free(ref);
}

static void in_a_folder(void)
{
    saved_in_a_folder(llama);
    saved_in_a_folder("tests/golden/tiny/gemma3");
    peft_model *m = load("tests/golden/tiny/gemma3");     /* in GGUF its norms exceed these by 1 */
    OK(peft_model_save(m, in("gemma3.gguf"), NULL));
    peft_model_free(m);
    saved_in_a_folder(in("gemma3.gguf"));
}

static int32_t stop(void *ctx, int64_t done, int64_t total)
{
    (void)total;
    return done >= *(int64_t *)ctx;
}

static void refused(void)
{
    peft_model *m = load(llama);
    peft_dataset *d = data(m, row_file());
    peft_quantize_opts o = { .size = sizeof(o), .bits = 2 };
    peft_adapter_opts a = { .size = sizeof(a), .rank = 2 };
    int64_t at[] = { 0, 20, 50, 400, 850, 950 };
    OK(peft_forward(m, ids, 16, one));
    REFUSED(peft_quantize(m, d, &o, NULL), PEFT_EARG);
    o.bits = 6;
    o.types = "q4_0,q9";
    REFUSED(peft_quantize(m, d, &o, NULL), PEFT_EARG);
    o.types = NULL;
    o.progress = stop;
    for (int i = 0; i < 6; i++) {
        o.ctx = &at[i];
        REFUSED(peft_quantize(m, d, &o, NULL), PEFT_ECANCELLED);
    }
    OK(peft_forward(m, ids, 16, other));
    CHECK(!memcmp(one, other, sizeof(one)));
    o.progress = NULL;
    OK(peft_adapter_add(m, "default", &a));
    REFUSED(peft_quantize(m, d, &o, NULL), PEFT_ESTATE);
    peft_dataset_free(d);
    peft_model_free(m);
}

int main(void)
{
    kit_begin();
    for (int i = 0; i < 16; i++) ids[i] = 3 + i * 37 % 250;
    RUN(same_as_by_hand);
    RUN(encoders);
    RUN(encoders_chosen);
    RUN(chosen);
    RUN(in_a_folder);
    RUN(refused);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
    kit_end();
    return TEST_END();
}
