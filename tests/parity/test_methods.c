/* Every method of the table: gradients against finite differences, what is
 * saved reads back, merging changes nothing, the plan counts what trains, and a
 * quantised base gives what its float copy gives. */
#include "golden.h"

static const struct sample { const char *method, *settings, *targets, *init; } samples[] = {
    { "lora", NULL, NULL, NULL },
    { "lora", "{\"rank_pattern\": {\"q_proj\": 2}, \"alpha_pattern\": {\"mlp.up_proj\": 3}}",
      NULL, NULL },
    { "lora", NULL, "embed_tokens,q_proj", NULL },
    { "lora", NULL, NULL, "gaussian" },
    { "lora", "{\"rank_pattern\": {\"q_proj\": 2}}", NULL, "pissa" },
    { "lora", "{\"use_rslora\": false}", "q_proj,v_proj", "olora" },
    { "dora", NULL, NULL, NULL },
    { "dora", NULL, "embed_tokens,q_proj", NULL },
    { "tokens", "{\"token_indices\": [9, 1, 31, 17]}", NULL, NULL },
    { "tokens", "{\"token_indices\": {\"lm_head\": [9, 1, 31, 17]}}", NULL, NULL },
    { "lora", "{\"trainable_token_indices\": [17, 9, 2]}", "q_proj", NULL },
    { "dora", "{\"trainable_token_indices\": {\"lm_head\": [9, 1, 31], \"embed_tokens\": [7, 3]}}",
      "q_proj", NULL },
    { "ia3", NULL, NULL, NULL },
    { "ia3", "{\"feedforward_modules\": [\"up_proj\"]}", "up_proj,q_proj", NULL },
    { "ln", NULL, NULL, NULL },
    { "vera", "{\"d_initial\": 0.3}", NULL, NULL },
    { "oft", "{\"oft_block_size\": 8}", NULL, NULL },
    { "loha", NULL, NULL, NULL },
    { "lokr", NULL, NULL, NULL },
    { "lokr", "{\"r\": 1, \"decompose_both\": true, \"decompose_factor\": 4}", NULL, NULL },
};

static const char llama[] = "tests/golden/peft/base_llama", nf4[] = "tests/golden/bnb/nf4";

static peft_dataset *rows_of(peft_model *m)
{
    peft_dataset *d = NULL;
    const char *path = at("%s/rows.jsonl", test_dir);
    FILE *f = fopen(path, "w");
    fputs("{\"input_ids\": [3, 9, 27, 17, 31, 25], \"labels\": [-100, 9, 27, 17, 31, 25]}\n"
          "{\"input_ids\": [7, 1, 2, 39], \"labels\": [-100, 1, 2, 39]}\n", f);
    fclose(f);
    CHECK_EQ(peft_dataset_load(m, path, NULL, &d), PEFT_OK);
    return d;
}

static int add(peft_model *m, const struct sample *s)
{
    peft_adapter_opts o = { .size = sizeof(o), .method = s->method, .settings = s->settings,
                            .targets = s->targets, .init = s->init, .seed = 3 };
    const struct method *method = method_by_name(s->method);
    if (method && method->rank) o.rank = 4;
    return peft_adapter_add(m, "default", &o);
}

/* Values away from the start, where most gradients are zero. */
static void stir(peft_model *model)
{
    struct model *m = model_of(model);
    struct param *p;
    for (int64_t i = 0; (p = model_nth_param(m, i)); i++)
        for (int64_t k = 0; p->trainable && k < param_len(p); k++)
            p->own[k] += 0.2f * rng_normal(11, (uint64_t)i, (uint64_t)k);
    m->edits++;
}

static double loss_of(peft_trainer *t)
{
    peft_step s = { .size = sizeof(s) };
    CHECK_EQ(peft_train_step(t, &s), PEFT_OK);
    return s.loss;
}

/* DoRA's lengths are constants to the gradient, so only its magnitudes can agree. */
static int differs(const struct sample *s, const struct param *p)
{
    return !strcmp(s->method, "dora") && !strstr(p->name, "magnitude");
}

static void check_gradient(const struct sample *s, peft_trainer *tr, struct param *p)
{
    struct model *m = trainer_of(tr)->m;
    const float h = 0.001f;
    float grad[8];
    int64_t at[8], n = MIN(param_len(p), 5);
    loss_of(tr);
    for (int64_t i = 0; i < n; i++) {
        at[i] = rng_u32(1, 2, (uint64_t)i) % param_len(p);
        grad[i] = p->grad[at[i]];
    }
    for (int64_t i = 0; i < n && !differs(s, p); i++) {
        float kept = p->own[at[i]];
        p->own[at[i]] = kept + h;
        m->edits++;
        double up = loss_of(tr);
        p->own[at[i]] = kept - h;
        m->edits++;
        double slope = (up - loss_of(tr)) / (2.0 * h);
        p->own[at[i]] = kept;
        if (fabs(slope - grad[i]) > 1e-3 + 0.02 * fabs(slope)) {
            printf("%s: %s[%lld]\n", s->method, p->name, (long long)at[i]);
            CHECK_NEAR(grad[i], slope, 1e-3 + 0.02 * fabs(slope));
        }
    }
}

static void check_gradients(const struct sample *s)
{
    peft_model *m = load_model(llama);
    peft_dataset *d = rows_of(m);
    peft_trainer *t = NULL;
    peft_train_opts o = { .size = sizeof(o), .lr = 1e-30f, .clip = -1, .batch = 2, .epochs = 100000,
                          .no_shuffle = 1, .schedule = "constant" };
    CHECK_EQ(add(m, s), PEFT_OK);
    stir(m);
    CHECK_EQ(peft_trainer_new(m, d, &o, &t), PEFT_OK);
    if (t) {
        int64_t trained = 0;
        peft_plan plan = { .size = sizeof(plan) };
        CHECK_EQ(peft_trainer_plan(t, &plan), PEFT_OK);
        for (int64_t i = 0; i < trainer_of(t)->n_list; i++) {
            trained += param_len(trainer_of(t)->list[i].p);
            check_gradient(s, t, trainer_of(t)->list[i].p);
        }
        CHECK_EQ(plan.trainable_params, trained);
    }
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

static float logits[2][64 * 64], before[64 * 64];
static const int32_t prompt[] = { 1, 5, 9, 13, 2, 7 };

static double apart(const float *a, const float *b)
{
    double worst = 0;
    for (int i = 0; i < 6 * 64; i++) worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

static void check_files(const struct sample *s)
{
    peft_model *m = load_model(llama), *m2 = load_model(llama);
    const char *dir = at("%s/saved", test_dir);
    CHECK_EQ(peft_forward(m, prompt, 6, before), PEFT_OK);
    CHECK_EQ(add(m, s), PEFT_OK);
    CHECK_EQ(peft_forward(m, prompt, 6, logits[0]), PEFT_OK);
    CHECK_NEAR(apart(logits[0], before), 0, 2e-5);
    stir(m);
    CHECK_EQ(peft_forward(m, prompt, 6, logits[0]), PEFT_OK);
    CHECK(apart(logits[0], before) > 1e-3);
    CHECK_EQ(peft_adapter_save(m, "default", dir), PEFT_OK);
    CHECK_EQ(peft_adapter_load(m2, "other", dir), PEFT_OK);
    CHECK_EQ(peft_forward(m2, prompt, 6, logits[1]), PEFT_OK);
    CHECK_NEAR(apart(logits[0], logits[1]), 0, s->init ? 5e-5 : 0);
    if (model_of(m)->adapters->method->merge || model_of(m)->adapters->method->keeps) {
        CHECK_EQ(peft_adapter_merge(m, "default"), PEFT_OK);
        CHECK_EQ(peft_forward(m, prompt, 6, logits[1]), PEFT_OK);
        CHECK_NEAR(apart(logits[0], logits[1]), 0, 5e-5);
    }
    CHECK_EQ(peft_adapter_remove(m2, "other"), PEFT_OK);
    CHECK_EQ(peft_forward(m2, prompt, 6, logits[1]), PEFT_OK);
    CHECK_NEAR(apart(before, logits[1]), 0, 0);
    peft_model_free(m);
    peft_model_free(m2);
}

static void train(const struct sample *s, int to_float, double losses[4])
{
    peft_model *m = load_model(nf4);
    peft_dataset *d = rows_of(m);
    peft_trainer *t = NULL;
    peft_train_opts o = { .size = sizeof(o), .lr = 0.01f, .batch = 2, .steps = 4, .no_shuffle = 1 };
    if (to_float) CHECK_EQ(peft_to_float(m, "*", 0, NULL), PEFT_OK);
    CHECK_EQ(add(m, s), PEFT_OK);
    CHECK_EQ(peft_trainer_new(m, d, &o, &t), PEFT_OK);
    for (int i = 0; i < 4 && t; i++) losses[i] = loss_of(t);
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

static void check_quantised(const struct sample *s)
{
    double a[4] = { 0 }, b[4] = { 0 };
    train(s, 0, a);
    train(s, 1, b);
    for (int i = 0; i < 4; i++) CHECK_NEAR(rel(a[i], b[i]), 0, 2e-5);
    CHECK(a[3] < a[0]);
}

static void for_all(void (*check)(const struct sample *))
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        int bad = test_bad;
        check(&samples[i]);
        if (test_bad > bad) printf("  in method %s, sample %d\n", samples[i].method, (int)i);
    }
}

static void test_gradients(void) { for_all(check_gradients); }
static void test_files(void) { for_all(check_files); }
static void test_quantised(void) { for_all(check_quantised); }

/* Every method of the library has a sample. */
static void test_complete(void)
{
    for (int i = 0; methods[i]; i++) {
        int found = 0;
        for (size_t k = 0; k < ARRAY_LEN(samples); k++)
            found |= !strcmp(samples[k].method, methods[i]->name);
        CHECK(found);
    }
}

static void test_settings(void)
{
    peft_model *m = load_model(llama);
    peft_adapter_opts o = { .size = sizeof(o), .settings = "{\"r\": 3, \"lora_alpha\": 5}",
                            .lr_ratio = 16, .init = "gaussian" };
    CHECK_EQ(peft_adapter_add(m, "one", &o), PEFT_OK);
    const struct adapter *a = model_of(m)->adapters;
    CHECK_EQ(a->rank, 3);
    CHECK_NEAR(a->alpha, 5, 0);
    CHECK_NEAR(a->sites[0].part[1]->lr_ratio, 16, 0);
    o.settings = "{\"rr\": 3}";
    CHECK_EQ(peft_adapter_add(m, "two", &o), PEFT_EARG);
    CHECK(strstr(peft_errmsg(), "\"rr\""));
    o.settings = "{\"r\": 0}";
    CHECK_EQ(peft_adapter_add(m, "two", &o), PEFT_EFORMAT);
    o.settings = "{\"rank_pattern\": {\"q_proj\": 0.5}}";
    CHECK_EQ(peft_adapter_add(m, "two", &o), PEFT_EFORMAT);
    o.settings = "[1]";
    CHECK_EQ(peft_adapter_add(m, "two", &o), PEFT_EARG);
    o.settings = NULL;
    o.init = "pisa";
    CHECK_EQ(peft_adapter_add(m, "two", &o), PEFT_EARG);
    o.init = NULL;
    o.method = "dorra";
    CHECK_EQ(peft_adapter_add(m, "two", &o), PEFT_EUNSUPPORTED);
    peft_model_free(m);
}

/* PiSSA's B A is the best approximation of the weight of that rank, as a whole
 * decomposition has it: what is left is orthogonal to it on both sides. */
static void test_starts(void)
{
    static const char *const inits[] = { "pissa", "olora" };
    for (int k = 0; k < 2; k++) {
        peft_model *m = load_model(llama);
        peft_adapter_opts o = { .size = sizeof(o), .rank = 4, .init = inits[k],
                                .targets = "gate_proj" };
        CHECK_EQ(peft_adapter_add(m, "a", &o), PEFT_OK);
        const struct adapted *d = model_of(m)->adapters->sites;
        const struct param *w = d->site->w, *pa = d->part[0], *pb = d->part[1];
        for (int r = 0; r < 4; r++)
            for (int64_t i = 0; i < w->rows; i++) {
                double sum = 0, base = 0;
                for (int64_t j = 0; j < w->cols; j++) {
                    double v = ((const float *)w->data)[i * w->cols + j];
                    base += v * pa->own[r * w->cols + j];
                    for (int q = 0; q < 4; q++)
                        sum += d->scale * pb->own[i * 4 + q] * pa->own[q * w->cols + j] *
                            pa->own[r * w->cols + j];
                }
                if (!k) CHECK_NEAR(sum, base, 1e-4);
                if (k) CHECK_NEAR(pb->own[i * 4] * pa->own[0],
                                  ((const float *)w->data)[i * w->cols], 1e-5);
            }
        o.rank = 17;
        CHECK_EQ(peft_adapter_add(m, "b", &o), PEFT_EARG);
        peft_model_free(m);
    }
}

/* In and out again: the same logits in, the same bits out. */
static void check_unmerge(const struct sample *s)
{
    peft_model *m = load_model(llama);
    CHECK_EQ(peft_forward(m, prompt, 6, before), PEFT_OK);
    CHECK_EQ(add(m, s), PEFT_OK);
    stir(m);
    CHECK_EQ(peft_forward(m, prompt, 6, logits[0]), PEFT_OK);
    int rc = peft_adapter_set_merged(m, "default", 1), none = !strcmp(s->method, "ln");
    CHECK(none ? rc == PEFT_EUNSUPPORTED : rc == PEFT_OK);
    CHECK_EQ(peft_forward(m, prompt, 6, logits[1]), PEFT_OK);
    CHECK_NEAR(apart(logits[0], logits[1]), 0, 5e-5);
    if (!none) {
        CHECK_EQ(peft_adapter_disable(m, "default"), PEFT_ESTATE);
        CHECK_EQ(peft_adapter_remove(m, "default"), PEFT_ESTATE);
    }
    CHECK_EQ(peft_adapter_set_merged(m, "default", 0), PEFT_OK);
    CHECK_EQ(peft_forward(m, prompt, 6, logits[1]), PEFT_OK);
    CHECK_NEAR(apart(logits[0], logits[1]), 0, 0);
    CHECK_EQ(peft_adapter_disable(m, "default"), PEFT_OK);
    CHECK_EQ(peft_forward(m, prompt, 6, logits[1]), PEFT_OK);
    CHECK_NEAR(apart(before, logits[1]), 0, 0);
    peft_model_free(m);
}
static void test_unmerge(void) { for_all(check_unmerge); }

/* Two adapters on one model: their sum, one against itself, orders of merging. */
static void test_several(void)
{
    peft_model *m = load_model(llama);
    const char *dir = "tests/golden/peft/lora";
    CHECK_EQ(peft_forward(m, prompt, 6, before), PEFT_OK);
    CHECK_EQ(peft_adapter_load(m, "one", dir), PEFT_OK);
    CHECK_EQ(peft_adapter_set_weight(m, "one", 2), PEFT_OK);
    CHECK_EQ(peft_forward(m, prompt, 6, logits[0]), PEFT_OK);
    CHECK_EQ(peft_adapter_set_weight(m, "one", 1), PEFT_OK);
    CHECK_EQ(peft_adapter_load(m, "two", dir), PEFT_OK);
    CHECK_EQ(peft_forward(m, prompt, 6, logits[1]), PEFT_OK);
    CHECK_NEAR(apart(logits[0], logits[1]), 0, 2e-5);
    CHECK_EQ(peft_adapter_set_weight(m, "two", -1), PEFT_OK);
    CHECK_EQ(peft_forward(m, prompt, 6, logits[1]), PEFT_OK);
    CHECK_NEAR(apart(before, logits[1]), 0, 2e-5);
    CHECK_EQ(peft_adapter_set_merged(m, "one", 1), PEFT_OK);
    CHECK_EQ(peft_adapter_set_merged(m, "two", 1), PEFT_OK);
    CHECK_EQ(peft_forward(m, prompt, 6, logits[1]), PEFT_OK);
    CHECK_NEAR(apart(before, logits[1]), 0, 2e-5);
    CHECK_EQ(peft_adapter_set_merged(m, "one", 0), PEFT_ESTATE);
    CHECK_EQ(peft_adapter_set_weight(m, "two", 3), PEFT_ESTATE);
    CHECK_EQ(peft_adapter_set_merged(m, "two", 0), PEFT_OK);
    CHECK_EQ(peft_adapter_set_merged(m, "one", 0), PEFT_OK);
    CHECK_EQ(peft_adapter_set_weight(m, "two", NAN), PEFT_EARG);
    CHECK_EQ(peft_adapter_set_merged(m, "two", 1), PEFT_OK);      /* freed with the model */
    peft_model_free(m);
}

/* As PEFT's add_weighted_adapter (make_combine.py). */
static void test_combine(void)
{
    static const char *const names[] = { "a", "b" };
    static const float weights[] = { 0.8f, -0.5f };
    static const char *const hows[] = { "linear", "cat", "svd", "ties", "magnitude_prune" };
    json *want = read_json_file("tests/golden/peft/combine.json");
    peft_model *m = load_model(llama);
    struct model *own = model_of(m);
    CHECK_EQ(peft_adapter_load(m, "a", "tests/golden/peft/lora"), PEFT_OK);
    CHECK_EQ(peft_adapter_load(m, "b", "tests/golden/peft/rslora"), PEFT_OK);
    for (int64_t i = 0; i < own->adapters->next->n_sites; i++)
        for (int k = 0; k < 2; k++) {
            struct param *p = own->adapters->next->sites[i].part[k];
            for (int64_t r = 0; r < p->rows / 2; r++)
                for (int64_t c = 0; c < p->cols; c++) {
                    float *x = p->own + r * p->cols + c, y = *x;
                    float *z = p->own + (p->rows - 1 - r) * p->cols + c;
                    *x = *z * 0.7f;
                    *z = y * 0.7f;
                }
        }
    CHECK_EQ(peft_adapter_disable(m, "a"), PEFT_OK);
    CHECK_EQ(peft_adapter_disable(m, "b"), PEFT_OK);
    for (size_t k = 0; k < ARRAY_LEN(hows); k++) {
        peft_combine_opts o = { .size = sizeof(o), .how = hows[k], .density = 0.5f, .rank = 6 };
        CHECK_EQ(peft_adapter_combine(m, "c", names, weights, 2, &o), PEFT_OK);
        CHECK_EQ(peft_forward(m, prompt, 6, logits[0]), PEFT_OK);
        double worst = 0;
        for (int i = 0; i < 64; i++)
            worst = fmax(worst, fabs(logits[0][5 * 64 + i] -
                                     number_at(want, at("logits.%s", hows[k]), i)));
        CHECK_NEAR(worst, 0, 2e-5);
        CHECK_EQ(peft_adapter_remove(m, "c"), PEFT_OK);
    }
    peft_combine_opts o = { .size = sizeof(o), .how = "dare_ties", .density = 0.5f };
    CHECK_EQ(peft_adapter_combine(m, "c", names, weights, 2, &o), PEFT_OK);
    o.how = "dare_linear";
    CHECK_EQ(peft_adapter_combine(m, "d", names, weights, 2, &o), PEFT_OK);
    o.how = "sum";
    CHECK_EQ(peft_adapter_combine(m, "e", names, weights, 2, &o), PEFT_EARG);
    CHECK_EQ(peft_adapter_combine(m, "a", names, weights, 2, NULL), PEFT_ESTATE);
    json_free(want);
    peft_model_free(m);
}

int main(void)
{
    golden_begin();
    RUN(test_complete);
    RUN(test_settings);
    RUN(test_starts);
    RUN(test_gradients);
    RUN(test_files);
    RUN(test_quantised);
    RUN(test_unmerge);
    RUN(test_several);
    RUN(test_combine);
    golden_end();
    return TEST_END();
}
