/* Virtual tokens: what PEFT computes with its adapters on several families, and
 * its training traces (make_virtual.py); caches and beams; texts that share a
 * batch; plans, checkpoints, and what is refused. */
#include "trace.h"

#include "graph/plan.h"

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
    for (int k = 0; k < PARTS; k++) {
        int64_t n;
        if (!d->part[k]) continue;
        const float *x = floats(s, m->adapters->method->parts[k].suffix, &n);
        CHECK(x && n == param_len(d->part[k]));
        if (x && n == param_len(d->part[k])) memcpy(d->part[k]->own, x, (size_t)n * 4);
    }
    store_close(s);
}

static void check_trace(const char *name, const char *method, const char *settings)
{
    json *trace = read_json_file(at("tests/golden/virtual/trace_%s/trace.json", name));
    const char *init = at("tests/golden/virtual/trace_%s/init", name);
    peft_model *m = load_model(llama);
    peft_adapter_opts a = { .size = sizeof(a), .method = method, .settings = settings };
    if (settings) {
        CHECK_EQ(peft_adapter_add(m, "default", &a), PEFT_OK);
        set_parts(model_of(m), at("%s/encoder.safetensors", init));
    } else {
        CHECK_EQ(peft_adapter_load(m, "default", init), PEFT_OK);
    }
    trace_follow(m, trace, 1);
    peft_model_free(m);
    json_free(trace);
}

static void test_traces(void)
{
    check_trace("prompt", "prompt", NULL);
    check_trace("prefix", "prefix", NULL);
    check_trace("ptuning", "ptuning",
                "{\"num_virtual_tokens\": 5, \"encoder_hidden_size\": 12}");
    check_trace("lstm", "ptuning", "{\"num_virtual_tokens\": 5, \"encoder_hidden_size\": 6, "
                "\"encoder_reparameterization_type\": \"LSTM\"}");
    check_trace("projection", "prefix", "{\"num_virtual_tokens\": 5, \"encoder_hidden_size\": 6, "
                "\"prefix_projection\": true}");
}

/* --- how texts are run does not matter */

static const struct sample { const char *method, *settings; } samples[] = {
    { "prompt", "{\"prompt_tuning_init\": \"SAMPLE_VOCAB\", \"num_virtual_tokens\": 4}" },
    { "ptuning", "{\"num_virtual_tokens\": 4, \"encoder_hidden_size\": 12}" },
    { "ptuning", "{\"num_virtual_tokens\": 4, \"encoder_hidden_size\": 7, "
                 "\"encoder_num_layers\": 3, \"encoder_reparameterization_type\": \"LSTM\"}" },
    { "prefix", "{\"num_virtual_tokens\": 4}" },
    { "prefix", "{\"num_virtual_tokens\": 4, \"encoder_hidden_size\": 6, "
                "\"prefix_projection\": true}" },
};

static peft_model *with(const char *base, const struct sample *s)
{
    peft_model *m = load_model(base);
    peft_adapter_opts a = { .size = sizeof(a), .method = s->method, .settings = s->settings,
                            .seed = 3 };
    CHECK_EQ(peft_adapter_add(m, "default", &a), PEFT_OK);
    return m;
}

static peft_dataset *rows_for(peft_model *m, const char *text)
{
    peft_dataset *d = NULL;
    const char *path = at("%s/rows.jsonl", test_dir);
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
    CHECK_EQ(peft_dataset_load(m, path, NULL, &d), PEFT_OK);
    return d;
}

static const char texts[] =
    "{\"input_ids\": [3, 9, 27, 17, 31, 25], \"labels\": [-100, 9, 27, 17, 31, 25]}\n"
    "{\"input_ids\": [7, 1, 2, 39], \"labels\": [-100, 1, 2, 39]}\n"
    "{\"input_ids\": [4, 44, 6, 12, 9], \"labels\": [-100, -100, 6, 12, 9]}\n"
    "{\"input_ids\": [8, 13, 21], \"labels\": [-100, 13, 21]}\n";

/* Losses of a run, and its weights in the end. */
static double run_losses(const struct sample *s, const peft_train_opts *o, double loss[6],
                         const char *stop_at)
{
    peft_model *m = with(llama, s);
    peft_dataset *d = rows_for(m, texts);
    peft_trainer *t = NULL;
    peft_step step = { .size = sizeof(step) };
    peft_plan plan = { .size = sizeof(plan) };
    double sum = 0;
    CHECK_EQ(peft_trainer_new(m, d, o, &t), PEFT_OK);
    CHECK_EQ(peft_trainer_plan(t, &plan), PEFT_OK);
    for (int i = 0; i < 6 && t; i++) {
        if (stop_at && i == 3) {
            CHECK_EQ(peft_trainer_save(t, stop_at), PEFT_OK);
            peft_trainer_free(t);
            peft_dataset_free(d);
            peft_model_free(m);
            m = with(llama, s);
            d = rows_for(m, texts);
            CHECK_EQ(peft_trainer_new(m, d, o, &t), PEFT_OK);
            CHECK_EQ(peft_trainer_resume(t, stop_at), PEFT_OK);
        }
        CHECK_EQ(peft_train_step(t, &step), PEFT_OK);
        loss[i] = step.loss;
        CHECK(trainer_of(t)->graph->slab_bytes == plan.activations);
    }
    const struct adapted *a = model_of(m)->adapters->sites;
    for (int k = 0; k < PARTS; k++)
        for (int64_t i = 0; a->part[k] && i < param_len(a->part[k]); i++)
            sum += a->part[k]->own[i] * (double)(i % 7 + 1);
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
    return sum;
}

/* One by one, together or packed, recomputed or kept: the same loss.  Resumed: the
 * same bits. */
static void test_runs(void)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        double one[6], other[6];
        peft_train_opts o = { .size = sizeof(o), .lr = 0.01f, .batch = 4, .steps = 6,
                              .no_shuffle = 1 };
        double end = run_losses(&samples[i], &o, one, NULL);
        CHECK(one[5] < one[0]);
        CHECK_NEAR(run_losses(&samples[i], &o, other, at("%s/state", test_dir)), end, 0);
        for (int k = 0; k < 6; k++) CHECK_NEAR(other[k], one[k], 0);
        peft_train_opts more[] = { o, o, o, o };
        more[0].recompute = PEFT_RECOMPUTE_LAYERS;
        more[1].recompute = PEFT_RECOMPUTE_NONE;
        more[2].batch = 1, more[2].accumulate = 4;
        more[3].packing = 1, more[3].batch = 2, more[3].max_len = 11;
        for (size_t j = 0; j < ARRAY_LEN(more); j++) {
            run_losses(&samples[i], &more[j], other, NULL);
            for (int k = 0; k < 6; k++) CHECK_NEAR(rel(other[k], one[k]), 0, 2e-5);
        }
    }
}

/* Keys of GGUF's Llama are in another order. */
static void test_gguf(void)
{
    const char *file = at("%s/base.gguf", test_dir);
    peft_model *m = load_model("tests/golden/tiny/llama");
    peft_save_opts o = { .size = sizeof(o) };
    json *want = read_json_file("tests/golden/virtual/prefix_llama_projection/expect.json");
    CHECK_EQ(peft_model_save(m, file, &o), PEFT_OK);
    peft_model_free(m);
    m = load_model(file);
    CHECK_EQ(peft_adapter_load(m, "a", "tests/golden/virtual/prefix_llama_projection"), PEFT_OK);
    CHECK_NEAR(distance(m, want), 0, 2e-5);
    CHECK_EQ(peft_adapter_save(m, "a", at("%s/from_gguf", test_dir)), PEFT_OK);
    peft_model_free(m);
    m = load_model("tests/golden/tiny/llama");
    CHECK_EQ(peft_adapter_load(m, "a", at("%s/from_gguf", test_dir)), PEFT_OK);
    CHECK_NEAR(distance(m, want), 0, 2e-5);
    peft_model_free(m);
    json_free(want);
}

/* A prompt of more than one chunk: what comes next is the likeliest token of a pass
 * without a cache, with one beam and with several. */
static void check_chunks(const char *base, const struct sample *s)
{
    enum { LONG = 1030 };
    peft_model *m = with(base, s);
    struct model *own = model_of(m);
    int32_t ids[LONG + 8], got[8], n = LONG;
    own->hp.room = own->hp.max_len = 2000;
    float *z = malloc((LONG + 8) * (size_t)own->hp.vocab * 4);
    for (int i = 0; i < LONG; i++) ids[i] = (int32_t)(3 + i * 31 % (own->hp.vocab - 3));
    peft_generate_opts o = { .size = sizeof(o), .max_tokens = 4 };
    int64_t k = peft_generate_ids(m, ids, LONG, &o, got, 8, NULL);
    for (int64_t i = 0; i < k; i++, n++) {
        CHECK_EQ(peft_forward(m, ids, n, z), PEFT_OK);
        const float *row = z + (int64_t)(n - 1) * own->hp.vocab;
        ids[n] = 0;
        for (int32_t v = 1; v < own->hp.vocab; v++)
            if (row[v] > row[ids[n]]) ids[n] = v;
        CHECK_EQ(got[i], ids[n]);
    }
    o.num_beams = 2;
    CHECK(peft_generate_ids(m, ids, LONG, &o, got, 8, NULL) >= 0);
    free(z);
    peft_model_free(m);
}

static void test_chunks(void)
{
    check_chunks(llama, &samples[0]);
    check_chunks(llama, &samples[2]);
}

/* Several answers at once, which begin in different passes, are those that one after
 * the other has.  All texts of a batch have the virtual tokens, or none. */
static void test_serve(void)
{
    enum { N = 4 };
    static const int32_t prompts[N][6] = { { 5, 9, 1, 33 }, { 8, 2, 3, 4, 5, 6 }, { 40, 41, 7 },
                                           { 11, 12, 13, 14, 15 } };
    static const int32_t lengths[N] = { 4, 6, 3, 5 };
    for (size_t k = 0; k < ARRAY_LEN(samples); k++) {
        peft_model *m = with(llama, &samples[k]);
        int32_t got[N][12], one[12];
        peft_generated out[N];
        peft_request r[N];
        peft_generate_opts o[N];
        for (int i = 0; i < N; i++) {
            o[i] = (peft_generate_opts){ .size = sizeof(o[i]), .max_tokens = 12 - 2 * i };
            out[i] = (peft_generated){ .size = sizeof(out[i]) };
            r[i] = (peft_request){ .size = sizeof(r[i]), .ids = prompts[i], .n = lengths[i],
                                   .opts = &o[i], .to = got[i], .cap = 12, .out = &out[i] };
        }
        CHECK_EQ(peft_generate_batch(m, r, N, 2), PEFT_OK);
        for (int i = 0; i < N; i++) {
            int64_t n = peft_generate_ids(m, prompts[i], lengths[i], &o[i], one, 12, NULL);
            CHECK_EQ(out[i].tokens, n);
            CHECK(n > 0 && !memcmp(one, got[i], (size_t)n * 4));
        }
        r[1].adapter = PEFT_BASE;
        CHECK_EQ(peft_generate_batch(m, r, N, 2), PEFT_EUNSUPPORTED);
        CHECK(strstr(peft_errmsg(), "virtual tokens"));
        CHECK_EQ(peft_adapter_disable(m, "default"), PEFT_OK);
        CHECK_EQ(peft_generate_batch(m, r, N, 2), PEFT_OK);
        r[0].adapter = "default";
        CHECK_EQ(peft_generate_batch(m, r, N, 2), PEFT_EUNSUPPORTED);
        peft_model_free(m);
    }
}

/* --- together with other adapters, and what is refused */

static const int32_t prompt[] = { 1, 5, 9, 13, 2, 7 };
static float z[3][6 * 64];

static double apart(const float *a, const float *b)
{
    double worst = 0;
    for (int i = 0; i < 6 * 64; i++) worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

static void test_several(void)
{
    peft_model *m = load_model(llama);
    CHECK_EQ(peft_adapter_load(m, "a", "tests/golden/peft/prompt"), PEFT_OK);
    CHECK_EQ(peft_forward(m, prompt, 6, z[0]), PEFT_OK);
    CHECK_EQ(peft_adapter_load(m, "b", "tests/golden/peft/prefix"), PEFT_ESTATE);
    CHECK(strstr(peft_errmsg(), "\"a\""));
    CHECK_EQ(peft_adapter_disable(m, "a"), PEFT_OK);
    CHECK_EQ(peft_adapter_load(m, "b", "tests/golden/peft/prefix"), PEFT_OK);
    CHECK_EQ(peft_adapter_enable(m, "a"), PEFT_ESTATE);
    CHECK_EQ(peft_adapter_enable(m, "b"), PEFT_OK);
    CHECK_EQ(peft_forward(m, prompt, 6, z[1]), PEFT_OK);
    CHECK(apart(z[0], z[1]) > 0.1);
    CHECK_EQ(peft_adapter_load(m, "c", "tests/golden/peft/lora"), PEFT_OK);
    CHECK_EQ(peft_forward(m, prompt, 6, z[2]), PEFT_OK);
    CHECK(apart(z[1], z[2]) > 0.1);
    CHECK_EQ(peft_adapter_disable(m, "b"), PEFT_OK);
    CHECK_EQ(peft_adapter_disable(m, "c"), PEFT_OK);
    CHECK_EQ(peft_adapter_enable(m, "a"), PEFT_OK);
    CHECK_EQ(peft_forward(m, prompt, 6, z[1]), PEFT_OK);
    CHECK_NEAR(apart(z[0], z[1]), 0, 0);
    CHECK_EQ(peft_adapter_merge(m, "a"), PEFT_EUNSUPPORTED);
    CHECK(strstr(peft_errmsg(), "cannot be merged"));
    CHECK_EQ(peft_adapter_set_weight(m, "a", 2), PEFT_EUNSUPPORTED);
    peft_model_free(m);
}

static int refused(peft_model *m, const char *method, const char *settings, const char *targets)
{
    peft_adapter_opts o = { .size = sizeof(o), .method = method, .settings = settings,
                            .targets = targets };
    int rc = peft_adapter_add(m, "x", &o);
    peft_info info = { .size = sizeof(info) };
    CHECK_EQ(peft_model_info(m, &info), PEFT_OK);
    CHECK_EQ(info.n_adapters, !rc);
    return rc;
}

static void test_refused(void)
{
    peft_model *m = load_model(llama);
    CHECK_EQ(refused(m, "prompt", NULL, "q_proj"), PEFT_EARG);
    CHECK_EQ(refused(m, "prompt", "{\"num_virtual_tokens\": 64}", NULL), PEFT_EARG);
    CHECK_EQ(refused(m, "prompt", "{\"token_dim\": 8}", NULL), PEFT_EFORMAT);
    CHECK_EQ(refused(m, "prompt", "{\"num_transformer_submodules\": 2}", NULL), PEFT_EFORMAT);
    CHECK_EQ(refused(m, "prompt", "{\"prompt_tuning_init\": \"BEST\"}", NULL), PEFT_EARG);
    CHECK_EQ(refused(m, "prompt", "{\"prompt_tuning_init\": \"TEXT\"}", NULL), PEFT_EARG);
    CHECK_EQ(refused(m, "prompt", "{\"prompt_tuning_init\": \"TEXT\", "
                     "\"prompt_tuning_init_text\": \"x\"}", NULL), PEFT_ENOTFOUND);
    CHECK_EQ(refused(m, "prompt", "{\"prompt_tuning_init\": 3}", NULL), PEFT_EFORMAT);
    CHECK_EQ(refused(m, "prefix", "{\"num_layers\": 1}", NULL), PEFT_EFORMAT);
    CHECK_EQ(refused(m, "prefix", "{\"init_weights\": \"one\"}", NULL), PEFT_EARG);
    CHECK_EQ(refused(m, "ptuning", "{\"encoder_reparameterization_type\": \"GRU\"}", NULL),
             PEFT_EARG);
    CHECK_EQ(peft_adapter_load(m, "x", "tests/golden/virtual/prompt_gpt2"), PEFT_EFORMAT);
    CHECK_EQ(peft_adapter_load(m, "x", "tests/golden/virtual/prefix_t5"), PEFT_EFORMAT);
    /* The room is what the virtual tokens leave. */
    int32_t ids[64] = { 0 };
    float *all = malloc(64 * 64 * 4);
    CHECK_EQ(peft_forward(m, ids, 64, all), PEFT_OK);
    CHECK_EQ(peft_adapter_load(m, "x", "tests/golden/peft/prefix"), PEFT_OK);
    CHECK_EQ(peft_forward(m, ids, 60, all), PEFT_EARG);
    CHECK_EQ(peft_forward(m, ids, 59, all), PEFT_OK);
    CHECK_EQ(peft_generate_ids(m, ids, 59, NULL, NULL, 0, NULL), PEFT_EARG);
    CHECK_EQ(peft_adapter_disable(m, "x"), PEFT_OK);
    peft_dataset *d = rows_for(m, "{\"input_ids\": [1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,"
                               "6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,"
                               "3,4,5,6,7,8,9]}\n");
    peft_trainer *t = NULL;
    peft_evaluation e = { .size = sizeof(e) };
    CHECK_EQ(peft_adapter_enable(m, "x"), PEFT_OK);
    CHECK_EQ(peft_trainer_new(m, d, NULL, &t), PEFT_EARG);
    CHECK_EQ(peft_eval(m, d, NULL, &e), PEFT_EARG);
    CHECK(strstr(peft_errmsg(), "at most 59"));
    free(all);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* TEXT begins with the text's embeddings, repeated or cut; SAMPLE_VOCAB with some of
 * the model's; a projection that is zero with nothing. */
static void check_text(peft_model *m, const char *text, int32_t tokens)
{
    int32_t ids[64];
    struct model *own = model_of(m);
    int64_t n = peft_tokenize(m, text, strlen(text), PEFT_TOK_SPECIAL, ids, 64);
    char settings[160];
    snprintf(settings, sizeof(settings), "{\"prompt_tuning_init\": \"TEXT\", "
             "\"prompt_tuning_init_text\": \"%s\", \"num_virtual_tokens\": %d}", text, tokens);
    CHECK(n > 0);
    CHECK_EQ(refused(m, "prompt", settings, NULL), PEFT_OK);
    const struct param *p = own->adapters->sites->part[0];
    const float *w = own->global[SLOT_EMBED]->w->data;
    for (int64_t i = 0; i < param_len(p) && n > 0; i++)
        CHECK_NEAR(p->own[i], w[ids[i / p->cols % n] * p->cols + i % p->cols], 0);
    CHECK_EQ(peft_adapter_save(m, "x", at("%s/text", test_dir)), PEFT_OK);
    json *j = read_json_file(at("%s/text/adapter_config.json", test_dir));
    CHECK_STR(json_string(json_get(j, "prompt_tuning_init_text")), text);
    CHECK_STR(json_string(json_get(j, "tokenizer_name_or_path")), own->path);
    json_free(j);
    CHECK_EQ(peft_adapter_remove(m, "x"), PEFT_OK);
}

static void test_starts(void)
{
    struct sample zero = { "prefix", "{\"init_weights\": \"zero\", \"prefix_projection\": true}" };
    peft_model *m = with(llama, &zero);
    const struct adapted *d = model_of(m)->adapters->sites;
    for (int k = 3; k < 5; k++)
        for (int64_t i = 0; i < param_len(d->part[k]); i++) CHECK_NEAR(d->part[k]->own[i], 0, 0);
    peft_model_free(m);
    m = with(llama, &samples[0]);
    const struct param *p = model_of(m)->adapters->sites->part[0];
    const float *w = model_of(m)->global[SLOT_EMBED]->w->data;
    for (int64_t i = 0; i < p->rows; i++) {
        int found = 0;
        for (int64_t v = 0; v < 64; v++)
            found |= !memcmp(p->own + i * p->cols, w + v * p->cols, (size_t)p->cols * 4);
        CHECK(found);
    }
    peft_model_free(m);
    CHECK_EQ(system(at("cp -r tests/golden/tiny/bert %s/base && cp tests/golden/data/bert/* "
                       "%s/base", test_dir, test_dir)), 0);
    m = load_model(at("%s/base", test_dir));
    check_text(m, "the dog sleeps", 3);
    check_text(m, "cat", 7);
    peft_model_free(m);
}

int main(void)
{
    golden_begin();
    RUN(test_cases);
    RUN(test_traces);
    RUN(test_runs);
    RUN(test_gguf);
    RUN(test_chunks);
    RUN(test_serve);
    RUN(test_several);
    RUN(test_refused);
    RUN(test_starts);
    golden_end();
    return TEST_END();
}
