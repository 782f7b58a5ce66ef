/* Every method of the table: gradients against finite differences, what is
 * saved reads back, merging changes nothing and refuses what is not finite, the plan
 * counts what trains, a quantised base gives what its float copy gives, and threads,
 * packs and interruptions leave a run as it is. */
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
    { "adalora", "{\"tinit\": 90000, \"total_step\": 100000}", NULL, NULL },
    { "ia3", NULL, NULL, NULL },
    { "ia3", "{\"feedforward_modules\": [\"up_proj\"]}", "up_proj,q_proj", NULL },
    { "ln", NULL, NULL, NULL },
    { "vera", "{\"d_initial\": 0.3}", NULL, NULL },
    { "oft", "{\"oft_block_size\": 8}", NULL, NULL },
    { "loha", NULL, NULL, NULL },
    { "lokr", NULL, NULL, NULL },
    { "lokr", "{\"r\": 2}", "down_proj,q_proj", NULL },
    { "lokr", "{\"r\": 1, \"decompose_both\": true, \"decompose_factor\": 4}", NULL, NULL },
    { "prompt", NULL, NULL, NULL },
    { "prompt", "{\"prompt_tuning_init\": \"SAMPLE_VOCAB\", \"num_virtual_tokens\": 3}",
      NULL, NULL },
    { "ptuning", "{\"encoder_hidden_size\": 12}", NULL, NULL },
    { "prefix", NULL, NULL, NULL },
    { "prefix", "{\"prefix_projection\": true, \"encoder_hidden_size\": 12}", NULL, NULL },
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

static float logits[2][64 * 256], before[64 * 256];
static const int32_t prompt[] = { 1, 5, 9, 13, 2, 7 };

static double apart(const float *a, const float *b)
{
    double worst = 0;
    for (int i = 0; i < 6 * 64; i++) worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

/* PEFT wants what is adapted at its input among what is adapted. */
static void check_config(const char *path)
{
    json *c = read_json_file(path);
    for (const json *j = json_first(json_get(c, "feedforward_modules")); j; j = json_next(j)) {
        const json *t = json_first(json_get(c, "target_modules"));
        while (t && strcmp(json_string(t), json_string(j))) t = json_next(t);
        CHECK(t != NULL);
    }
    json_free(c);
}

static void check_files(const struct sample *s)
{
    peft_model *m = load_model(llama), *m2 = load_model(llama);
    const char *dir = at("%s/saved", test_dir);
    CHECK_EQ(peft_forward(m, prompt, 6, before), PEFT_OK);
    CHECK_EQ(add(m, s), PEFT_OK);
    CHECK_EQ(peft_forward(m, prompt, 6, logits[0]), PEFT_OK);
    int virtual = method_by_name(s->method)->virtual;
    if (!virtual) CHECK_NEAR(apart(logits[0], before), 0, 2e-5);
    stir(m);
    CHECK_EQ(peft_forward(m, prompt, 6, logits[0]), PEFT_OK);
    CHECK(apart(logits[0], before) > 1e-3);
    CHECK_EQ(peft_adapter_save(m, "default", dir), PEFT_OK);
    check_config(at("%s/adapter_config.json", dir));
    CHECK_EQ(peft_adapter_load(m2, "other", dir), PEFT_OK);
    CHECK_EQ(peft_forward(m2, prompt, 6, logits[1]), PEFT_OK);
    CHECK_NEAR(apart(logits[0], logits[1]), 0, s->init || virtual ? 5e-5 : 0);
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

/* LoftQ on NF4 made at loading: PEFT's B A, and as little is left of W - Q; the floats are
 * named where the file itself is quantised. */
static void test_loftq(void)
{
    json *want = read_json_file("tests/golden/peft/loftq.json");
    peft_load_opts l = { .size = sizeof(l), .threads = 2, .quant = "nf4" };
    peft_adapter_opts o = { .size = sizeof(o), .rank = 4, .init = "loftq" };
    peft_model *m = NULL, *full = load_model(llama);
    CHECK_EQ(peft_model_load(llama, &l, &m), PEFT_OK);
    CHECK_EQ(peft_adapter_add(m, "a", &o), PEFT_OK);
    CHECK_EQ(peft_forward(m, prompt, 6, logits[1]), PEFT_OK);
    const struct adapter *a = model_of(m)->adapters;
    for (const json *j = json_first(json_get(want, "product")); j; j = json_next(j))
        for (int64_t i = 0; i < a->n_sites; i++) {
            const struct adapted *d = &a->sites[i];
            const json *x = json_first(j);
            const float *w = model_param(model_of(full), d->site->w->name)->data;
            float q[64 * 64];
            double rest = 0;
            if (strcmp(d->site->name, json_key(j))) continue;
            qtype_expand(d->site->w->type, q, d->site->w->data, 0, param_len(d->site->w));
            for (int64_t e = 0; e < param_len(d->site->w); e++, x = json_next(x)) {
                double sum = 0;
                for (int k = 0; k < 4; k++)
                    sum += (double)d->part[1]->own[e / d->site->w->cols * 4 + k] *
                        (double)d->part[0]->own[k * d->site->w->cols + e % d->site->w->cols];
                CHECK_NEAR(sum * (double)d->scale, json_number(x, NAN), 1e-4);
                rest += pow((double)(w[e] - q[e]) - sum * (double)d->scale, 2);
            }
            const json *left = json_first(json_get(want, "left"));
            while (left && strcmp(json_key(left), json_key(j))) left = json_next(left);
            CHECK_NEAR(sqrt(rest), json_number(json_next(json_first(left)), NAN), 1e-4);
        }
    CHECK_EQ(peft_adapter_save(m, "a", at("%s/loftq", test_dir)), PEFT_OK);
    CHECK_EQ(peft_adapter_remove(m, "a"), PEFT_OK);
    CHECK_EQ(peft_adapter_load(m, "b", at("%s/loftq", test_dir)), PEFT_OK);
    CHECK_EQ(peft_forward(m, prompt, 6, before), PEFT_OK);
    CHECK_NEAR(apart(before, logits[1]), 0, 0);
    CHECK_EQ(peft_adapter_add(full, "a", &o), PEFT_EARG);
    CHECK(strstr(peft_errmsg(), "quant"));
    peft_model_free(m);
    m = load_model(nf4);
    CHECK_EQ(peft_adapter_add(m, "a", &o), PEFT_EARG);
    CHECK(strstr(peft_errmsg(), "init_model"));
    o.init_model = nf4;
    CHECK_EQ(peft_adapter_add(m, "a", &o), PEFT_EUNSUPPORTED);
    o.init_model = "tests/golden/none";
    CHECK_EQ(peft_adapter_add(m, "a", &o), PEFT_ENOTFOUND);
    o.init_model = at("%s/float", test_dir);
    CHECK_EQ(peft_model_save(m, o.init_model, NULL), PEFT_OK);
    CHECK_EQ(peft_adapter_add(m, "a", &o), PEFT_OK);      /* nothing is missing */
    for (int64_t i = 0; i < model_of(m)->adapters->n_sites; i++)
        for (int k = 0; k < 4; k++)
            CHECK_NEAR(model_of(m)->adapters->sites[i].part[1]->own[k], 0, 1e-3);
    o = (peft_adapter_opts){ .size = sizeof(o), .init_model = llama };
    CHECK_EQ(peft_adapter_add(m, "c", &o), PEFT_EARG);
    peft_model_free(m);
    peft_model_free(full);
    json_free(want);
}

/* In and out again: the same logits in, the same bits out. */
static void check_unmerge(const struct sample *s)
{
    peft_model *m = load_model(llama);
    CHECK_EQ(peft_forward(m, prompt, 6, before), PEFT_OK);
    CHECK_EQ(add(m, s), PEFT_OK);
    stir(m);
    CHECK_EQ(peft_forward(m, prompt, 6, logits[0]), PEFT_OK);
    int rc = peft_adapter_set_merged(m, "default", 1);
    int none = !strcmp(s->method, "ln") || method_by_name(s->method)->virtual;
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

/* --- a few training steps, in other ways that must not matter */

static peft_model *load_with(const char *path, int32_t threads, const char *quant)
{
    peft_load_opts o = { .size = sizeof(o), .threads = threads, .quant = quant };
    peft_model *m = NULL;
    CHECK_EQ(peft_model_load(path, &o, &m), PEFT_OK);
    return m;
}

struct run { int32_t threads, packing, stop; };
struct trace { double loss[4], norm[4]; uint64_t bits; };

/* FNV-1a over the bits of what trains. */
static uint64_t bits_of(struct model *m)
{
    struct param *p;
    uint64_t h = 0xcbf29ce484222325u;
    for (int64_t i = 0; (p = model_nth_param(m, i)); i++)
        for (int64_t k = 0; p->trainable && k < param_len(p) * 4; k++)
            h = (h ^ ((const uint8_t *)p->own)[k]) * 0x100000001b3u;
    return h;
}

/* Four steps; with `stop` they end after so many, and another model and trainer go on
 * from their checkpoint. */
static struct trace trace_of(const struct sample *s, struct run run)
{
    struct trace t = { { 0 }, { 0 }, 0 };
    const char *dir = at("%s/checkpoint", test_dir);
    for (int i = 0; i < 4;) {
        peft_model *m = load_with(llama, run.threads, NULL);
        peft_dataset *d = rows_of(m);
        peft_trainer *tr = NULL;
        peft_step step = { .size = sizeof(step) };
        peft_train_opts o = { .size = sizeof(o), .lr = 0.01f, .steps = 4, .no_shuffle = 1,
                              .batch = run.packing ? 1 : 2, .packing = run.packing, .max_len = 16 };
        CHECK_EQ(add(m, s), PEFT_OK);
        CHECK_EQ(peft_trainer_new(m, d, &o, &tr), PEFT_OK);
        if (i) CHECK_EQ(peft_trainer_resume(tr, dir), PEFT_OK);
        do {
            CHECK_EQ(peft_train_step(tr, &step), PEFT_OK);
            t.loss[i] = step.loss;
            t.norm[i] = step.grad_norm;
        } while (++i < 4 && i != run.stop);
        if (i < 4) CHECK_EQ(peft_trainer_save(tr, dir), PEFT_OK);
        t.bits = bits_of(model_of(m));
        peft_trainer_free(tr);
        peft_dataset_free(d);
        peft_model_free(m);
    }
    return t;
}

static void check_runs(const struct sample *s)
{
    static const struct run same[] = { { 2, 0, 0 }, { 3, 0, 0 }, { 8, 0, 0 }, { 1, 0, 2 } };
    struct trace one = trace_of(s, (struct run){ 1, 0, 0 });
    for (size_t k = 0; k < ARRAY_LEN(same); k++) {
        struct trace other = trace_of(s, same[k]);
        CHECK(!memcmp(&one, &other, sizeof(one)));
    }
    struct trace packed = trace_of(s, (struct run){ 1, 1, 0 });
    for (int i = 0; i < 4; i++) {
        CHECK_NEAR(rel(packed.loss[i], one.loss[i]), 0, 1e-5);
        CHECK_NEAR(rel(packed.norm[i], one.norm[i]), 0, 1e-4);
    }
}
static void test_runs(void) { for_all(check_runs); }

static void answer(peft_model *m, float to[64 * 256])
{
    memset(to, 0, sizeof(before));
    CHECK_EQ(peft_forward(m, prompt, 6, to), PEFT_OK);
}

/* On blocks as on floats: in, out, and for good, with the same logits. */
static void merge_on(const struct sample *s, peft_model *m)
{
    answer(m, before);
    CHECK_EQ(add(m, s), PEFT_OK);
    stir(m);
    answer(m, logits[0]);
    CHECK(apart(logits[0], before) > 1e-3);
    int rc = model_of(m)->adapters->method->merge ? peft_adapter_set_merged(m, "default", 1) : 1;
    if (rc == PEFT_EUNSUPPORTED) CHECK(strstr(peft_errmsg(), "so it cannot be merged"));
    else if (rc != 1) {
        CHECK_EQ(rc, PEFT_OK);
        answer(m, logits[1]);
        CHECK_NEAR(apart(logits[0], logits[1]), 0, 2e-4);
        CHECK_EQ(peft_adapter_set_merged(m, "default", 0), PEFT_OK);
        answer(m, logits[1]);
        CHECK_NEAR(apart(logits[0], logits[1]), 0, 0);
        CHECK_EQ(peft_adapter_merge(m, "default"), PEFT_OK);
        answer(m, logits[1]);
        CHECK_NEAR(apart(logits[0], logits[1]), 0, 2e-4);
    }
    peft_model_free(m);
}
static void check_merge_blocks(const struct sample *s)
{
    merge_on(s, load_with(nf4, 2, NULL));
    merge_on(s, load_with("tests/golden/tiny/llama", 2, "q8_0"));
}
static void test_merge_blocks(void) { for_all(check_merge_blocks); }

/* Values that training let overflow stay out of the weights. */
static void check_not_finite(const struct sample *s)
{
    static const float bad[] = { INFINITY, NAN };
    for (int k = 0; k < 2; k++) {
        peft_model *m = load_model(llama);
        struct model *own = model_of(m);
        struct param *p;
        CHECK_EQ(peft_forward(m, prompt, 6, before), PEFT_OK);
        CHECK_EQ(add(m, s), PEFT_OK);
        stir(m);
        for (int64_t i = 0; (p = model_nth_param(own, i)); i++)
            if (p->trainable) p->own[param_len(p) - 1] = bad[k];
        own->edits++;
        if (own->adapters->method->merge || own->adapters->method->keeps)
            CHECK_EQ(peft_adapter_merge(m, "default"), PEFT_ENONFINITE);
        if (own->adapters->method->merge)
            CHECK_EQ(peft_adapter_set_merged(m, "default", 1), PEFT_ENONFINITE);
        CHECK_EQ(peft_adapter_disable(m, "default"), PEFT_OK);
        CHECK_EQ(peft_forward(m, prompt, 6, logits[1]), PEFT_OK);
        CHECK_NEAR(apart(before, logits[1]), 0, 0);
        peft_model_free(m);
    }
}
static void test_not_finite(void) { for_all(check_not_finite); }

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
    RUN(test_loftq);
    RUN(test_gradients);
    RUN(test_files);
    RUN(test_quantised);
    RUN(test_unmerge);
    RUN(test_runs);
    RUN(test_merge_blocks);
    RUN(test_not_finite);
    RUN(test_several);
    RUN(test_combine);
    golden_end();
    return TEST_END();
}
