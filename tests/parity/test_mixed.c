/* Several adapters on one model: a batch in which each text has another one gives
 * what single runs give, for every method, decoders and encoders with heads, floats
 * and blocks; switching while an answer is made; what an adapter costs in memory. */
#include <math.h>
#include <stdatomic.h>

#include "golden.h"

static const struct sample { const char *method, *settings, *targets, *modules; } samples[] = {
    { "lora", NULL, NULL, NULL },
    { "lora", "{\"use_rslora\": false}", "embed_tokens,word_embeddings,q_proj,query", NULL },
    { "lora", NULL, "q_proj,query", "lm_head,score,classifier" },
    { "lora", NULL, "v_proj,value", "embed_tokens,word_embeddings" },
    { "dora", NULL, NULL, NULL },
    { "ia3", NULL, NULL, NULL },
    { "ln", NULL, NULL, NULL },
    { "vera", "{\"d_initial\": 0.3}", NULL, NULL },
    { "oft", "{\"oft_block_size\": 8}", NULL, NULL },
    { "loha", NULL, NULL, NULL },
    { "lokr", NULL, NULL, NULL },
};
enum { SAMPLES = ARRAY_LEN(samples), TEXTS = SAMPLES + 6, LONGEST = 9, WIDEST = 128 };

static const struct base { const char *path, *head; } bases[] = {
    { "tests/golden/peft/base_llama", NULL },
    { "tests/golden/bnb/nf4", NULL },
    { "tests/golden/tiny/bert", NULL },
    { "tests/golden/tiny/modernbert", NULL },
    { "tests/golden/heads/bert_tokens", NULL },
    { "tests/golden/heads/bert_mlm", NULL },
    { "tests/golden/tiny/gpt2", NULL },
    { "tests/golden/tiny/gemma3", NULL },
    { "tests/golden/tiny/qwen3_moe", NULL },
    { "tests/golden/tiny/llama", "reward" },
};

static const char *name_of(int i) { return at("a%d", i); }

/* Values away from the start, where most adapters change nothing. */
static void stir(peft_model *model)
{
    struct model *m = model_of(model);
    int64_t i = m->n_params;
    for (struct param *p; (p = model_nth_param(m, i)); i++)
        for (int64_t k = 0; p->trainable && k < param_len(p); k++)
            p->own[k] += 0.2f * rng_normal(11, (uint64_t)i, (uint64_t)k);
    for (struct adapter *a = m->adapters; a; a = a->next)
        for (int64_t k = 0; k < a->n_saved; k++)
            for (int64_t j = 0; j < param_len(a->saved[k].p); j++)
                a->saved[k].mine[j] += 0.1f * rng_normal(12, (uint64_t)k, (uint64_t)j);
    m->edits++;
}

/* All samples that the family has modules for, disabled; returns their number. */
static int add_samples(peft_model *m, const char **names)
{
    int n = 0;
    for (int i = 0; i < SAMPLES; i++) {
        const struct sample *s = &samples[i];
        const struct method *method = method_by_name(s->method);
        peft_adapter_opts o = { .size = sizeof(o), .method = s->method, .settings = s->settings,
                                .targets = s->targets, .modules_to_save = s->modules, .seed = 3,
                                .rank = method->rank ? 4 : 0 };
        int rc = peft_adapter_add(m, name_of(i), &o);
        if (rc == PEFT_ENOTFOUND || rc == PEFT_EUNSUPPORTED) continue;
        CHECK_EQ(rc, PEFT_OK);
        names[n++] = adapter_find(model_of(m), name_of(i))->name;
    }
    stir(m);
    for (int i = 0; i < n; i++) CHECK_EQ(peft_adapter_disable(m, names[i]), PEFT_OK);
    return n;
}

static int32_t ids[TEXTS * LONGEST], lengths[TEXTS];
static float mixed[TEXTS * LONGEST * WIDEST], single[LONGEST * WIDEST];

static void make_texts(int n, int32_t vocab)
{
    int32_t *to = ids;
    for (int i = 0; i < n; i++) {
        lengths[i] = 1 + (i * 5 + 3) % LONGEST;
        for (int32_t k = 0; k < lengths[i]; k++) *to++ = (3 + i * 7 + k * 5) % vocab;
    }
}

static void check_rows(peft_model *m, const char *const *names, int n, const char *enabled)
{
    peft_info info = { .size = sizeof(info) };
    CHECK_EQ(peft_model_info(m, &info), PEFT_OK);
    make_texts(n, info.vocab);
    CHECK_EQ(peft_forward_batch(m, ids, lengths, n, names, mixed), PEFT_OK);
    if (enabled) CHECK_EQ(peft_adapter_disable(m, enabled), PEFT_OK);
    const int32_t *at = ids;
    const float *row = mixed;
    double worst = 0;
    for (int i = 0; i < n; at += lengths[i++]) {
        const char *own = names[i] ? names[i] : enabled;
        if (own && *own) CHECK_EQ(peft_adapter_enable(m, own), PEFT_OK);
        CHECK_EQ(peft_forward(m, at, lengths[i], single), PEFT_OK);
        if (own && *own) CHECK_EQ(peft_adapter_disable(m, own), PEFT_OK);
        int64_t len = (int64_t)info.outputs * (info.labels && !info.each_token ? 1 : lengths[i]);
        double most = 1;
        for (int64_t k = 0; k < len; k++) most = fmax(most, fabs((double)single[k]));
        for (int64_t k = 0; k < len; k++)
            worst = fmax(worst, fabs((double)single[k] - (double)row[k]) / most);
        row += len;
    }
    CHECK_NEAR(worst, 0, 1e-5);
    if (enabled) CHECK_EQ(peft_adapter_enable(m, enabled), PEFT_OK);
}

static void test_rows(void)
{
    for (size_t b = 0; b < ARRAY_LEN(bases); b++) {
        int before = test_bad;
        const char *names[TEXTS] = { NULL };
        peft_model *m = load_model(bases[b].path);
        peft_head_opts head = { .size = sizeof(head), .labels = 3, .kind = bases[b].head };
        if (bases[b].head && !strcmp(bases[b].head, "reward")) head.labels = 1;
        if (bases[b].head) CHECK_EQ(peft_head_add(m, &head), PEFT_OK);
        int n = add_samples(m, names);
        CHECK(n >= 7);
        names[n] = PEFT_BASE;       /* the base; adapters that stand apart; and the enabled one */
        names[n + 1] = names[0];
        names[n + 2] = NULL;
        names[n + 3] = PEFT_BASE;
        names[n + 4] = names[n - 1];
        check_rows(m, names, n + 5, NULL);
        CHECK_EQ(peft_adapter_enable(m, names[0]), PEFT_OK);
        check_rows(m, names, n + 5, names[0]);
        CHECK_EQ(peft_adapter_disable(m, names[0]), PEFT_OK);
        check_rows(m, names + n, 1, NULL);
        if (test_bad > before) printf("  on %s %s\n", bases[b].path, bases[b].head);
        peft_model_free(m);
    }
}

int main(void)
{
    golden_begin();
    RUN(test_rows);
    golden_end();
    return TEST_END();
}
