/* Encoder-decoder models: what their rows mean, that training does not depend
 * on how it is done, what stays frozen, plans, and their encoder alone. */
#include "kit.h"

#include "data/data.h"

static const char golden[] = "tests/golden/tiny/t5";

/* --- rows */

static struct host host;
static struct tokenizer *plain, *bert;

static struct dataset *rows_of(const struct tokenizer *t, const char *text,
                               const struct data_opts *more)
{
    struct data_opts o = more ? *more : (struct data_opts){ 0 };
    struct dataset *d = NULL;
    o.max_len = o.max_len ? o.max_len : 100;
    o.vocab = 400;
    o.causal = o.seq2seq = 1;
    o.start = 7;
    put(in("pairs.jsonl"), text);
    error_clear();
    data_load(&host, t, in("pairs.jsonl"), &o, &d);
    return d;
}

/* A row's text as the tokenizer has it, without special tokens. */
static void text_is(const struct tokenizer *t, const struct example *x, int which,
                    const char *expected)
{
    int32_t from = which ? x->ends[0] + 1 : 0;
    struct buf b;
    buf_init(&b, &host.mem);
    tok_decode(t, x->ids + from, x->ends[which] - from, DETOK_SKIP, &b);
    CHECK_STR(buf_str(&b), expected);
    buf_free(&b);
}

/* One row of this schema has these two texts; the target is what trains. */
static void pair_is(const char *row, const struct data_opts *o, const char *schema,
                    const char *source, const char *target)
{
    struct dataset *d = rows_of(plain, row, o);
    CHECK(d != NULL);
    if (!d) {
        printf("  %s: %s\n", schema, error_message());
        return;
    }
    const struct example *x = d->rows;
    CHECK_STR(d->schema, schema);
    CHECK(d->n == 1 && d->texts == 2 && d->task == TASK_SEQ2SEQ && x->ends[1] == x->n);
    text_is(plain, x, 0, source);
    text_is(plain, x, 1, target);
    CHECK_EQ(x->ids[x->ends[0]], 7);
    CHECK_EQ(x->ids[x->n - 1], tok_info(plain)->eos);
    for (int32_t i = 0; i < x->n; i++)
        CHECK_EQ(x->labels[i], i > x->ends[0] ? x->ids[i] : -100);
    data_free(d);
}

static void test_schemas(void)
{
    struct data_opts prefix = { .prefix = "sum: " }, system = { .system = "be brief" };
    pair_is("{\"prompt\":\"ab\",\"completion\":\"c\"}", NULL, "prompt-completion", "ab", "c");
    pair_is("{\"instruction\":\"ab\",\"output\":\"c\"}", NULL, "alpaca", "ab", "c");
    pair_is("{\"instruction\":\"ab\",\"input\":\"x\",\"output\":\"c\"}", NULL, "alpaca", "ab\nx",
            "c");
    pair_is("{\"text\":\"ab\",\"summary\":\"c\"}", &prefix, "summary", "sum: ab", "c");
    pair_is("{\"document\":\"ab\",\"summary\":\"c\"}", NULL, "summary", "ab", "c");
    pair_is("{\"dialogue\":\"ab\",\"summary\":\"c\"}", NULL, "summary", "ab", "c");
    pair_is("{\"article\":\"ab\",\"highlights\":\"c\"}", NULL, "summary", "ab", "c");
    pair_is("{\"translation\":{\"en\":\"ab\",\"fr\":\"c\"}}", &prefix, "translation", "sum: ab",
            "c");
    pair_is("{\"source\":\"ab\",\"target\":\"c\"}", NULL, "source-target", "ab", "c");
    pair_is("{\"question\":\"q\",\"context\":\"ab\",\"answer\":\"c\"}", NULL, "question-answer",
            "question: q context: ab", "c");
    pair_is("{\"question\":\"q\",\"answers\":{\"text\":[\"c\",\"d\"]}}", NULL, "question-answer",
            "question: q", "c");
    pair_is("{\"messages\":[{\"role\":\"user\",\"content\":\"ab\"},"
            "{\"role\":\"assistant\",\"content\":\"c\"}]}", NULL, "messages", "ab", "c");
    pair_is("{\"messages\":[{\"role\":\"user\",\"content\":\"ab\"},"
            "{\"role\":\"assistant\",\"content\":\"c\"}]}", &system, "messages",
            "system: be brief\nuser: ab", "c");
    pair_is("{\"conversations\":[{\"from\":\"human\",\"value\":\"ab\"},"
            "{\"from\":\"gpt\",\"value\":\"c\"}]}", NULL, "sharegpt", "ab", "c");
}

static void refuse(const char *row, const char *part)
{
    struct dataset *d = rows_of(plain, row, NULL);
    CHECK(!d && strstr(error_message(), part));
    if (d || !strstr(error_message(), part)) printf("  %s: %s\n", part, error_message());
    data_free(d);
}

static void test_refused(void)
{
    refuse("{\"text\":\"ab\"}", "are for language models");
    refuse("{\"translation\":{\"en\":\"ab\"}}", "two texts");
    refuse("{\"translation\":\"ab\"}", "two texts");
    refuse("{\"question\":\"q\",\"answers\":{\"text\":[]}}", "answers");
    refuse("{\"messages\":[{\"role\":\"user\",\"content\":\"ab\"}]}", "assistant");
    refuse("{\"input_ids\":[1,2],\"labels\":[-100]}", "anything to train");
    refuse("{\"input_ids\":[],\"labels\":[3]}", "empty");
    refuse("{\"input_ids\":[1,2],\"labels\":[400]}", "399");
}

/* As Hugging Face shifts labels: behind the start token, padding dropped. */
static void test_ids(void)
{
    static const int32_t ids[] = { 4, 5, 7, 9, 7, 8 }, labels[] = { -100, -100, -100, 9, -100, 8 };
    struct dataset *d = rows_of(NULL, "{\"input_ids\":[4,5,0,0],\"attention_mask\":[1,1,0,0],"
                                "\"labels\":[9,-100,8,-100,-100]}", NULL);
    CHECK(d && d->rows[0].n == 6 && d->rows[0].ends[0] == 2);
    if (!d) return;
    CHECK(!memcmp(d->rows[0].ids, ids, sizeof(ids)));
    CHECK(!memcmp(d->rows[0].labels, labels, sizeof(labels)));
    data_free(d);
}

/* Each text is cut by itself, and both keep their end. */
static void test_cut(void)
{
    struct data_opts o = { .max_len = 4 };
    struct dataset *d = rows_of(bert, "{\"source\":\"the the the the the\",\"target\":"
                                "\"the the the the the\"}", &o);
    CHECK(d && d->truncated == 1 && d->rows[0].ends[0] == 4 && d->rows[0].n == 8);
    if (!d) return;
    CHECK_EQ(d->rows[0].ids[3], tok_info(bert)->sep);
    CHECK_EQ(d->rows[0].labels[7], d->rows[0].ids[7]);
    data_free(d);
}

/* Sources come first in a batch, then targets. */
static void test_batches(void)
{
    struct batcher *b = NULL;
    struct batch_opts o = { .batch = 2 };
    struct batch_size size;
    struct dataset *d = rows_of(NULL, "{\"input_ids\":[4,5],\"labels\":[9]}\n"
                                "{\"input_ids\":[6],\"labels\":[8,3]}\n", NULL);
    static const int32_t ids[] = { 4, 5, 6, 7, 9, 7, 8, 3 }, start[] = { 0, 2, 3, 5, 8 },
                         rows[] = { 3, 5, 6 }, target[] = { 9, 8, 3 };
    CHECK(d && !batcher_new(d, &o, &b));
    if (!b) return;
    const struct batch *x = batcher_get(b, 0, 0);
    CHECK(x->n == 8 && x->n_rows == 2 && x->n_seq == 4 && x->n_target == 3);
    CHECK(!memcmp(x->ids, ids, sizeof(ids)) && !memcmp(x->start, start, sizeof(start)));
    CHECK(!memcmp(x->rows, rows, sizeof(rows)) && !memcmp(x->target, target, sizeof(target)));
    batcher_max(b, 1, &size);
    CHECK(size.first == 3 && size.others == 5 && size.tokens == 8 && size.targets == 3);
    batcher_free(b);
    data_free(d);
}

/* --- training */

static const char *pairs_file(void)
{
    const char *path = in("ids.jsonl");
    FILE *f = fopen(path, "w");
    if (!f) GIVE_UP();
    for (int r = 0; r < 12; r++) {
        fprintf(f, "{\"input_ids\": [%d", r + 2);
        for (int i = 0; i < r * 5 % 13; i++) fprintf(f, ", %d", 2 + (r * 31 + i * 17) % 90);
        fprintf(f, "], \"labels\": [%d", 50 - r);
        for (int i = 0; i < r * 7 % 9; i++) fprintf(f, ", %d", 2 + (r * 13 + i * 29) % 90);
        fprintf(f, ", 1]}\n");
    }
    fclose(f);
    return path;
}

struct result { double loss[6], evaluated; };

static peft_model *load_with(int threads)
{
    peft_load_opts o = kit_opts();
    peft_model *m = NULL;
    o.threads = threads;
    OK(peft_model_load(golden, &o, &m));
    if (!m) GIVE_UP();
    return m;
}

static struct result train(int threads, const peft_train_opts *o, int adapter, int64_t slice)
{
    struct result r = { 0 };
    peft_model *m = load_with(threads);
    peft_dataset *d = data(m, pairs_file());
    peft_trainer *t = NULL;
    peft_step s = { .size = sizeof(s) };
    peft_plan p = { .size = sizeof(p) };
    peft_evaluation e = { .size = sizeof(e) };
    if (adapter) OK(peft_adapter_add(m, "default", NULL));
    OK(peft_trainer_new(m, d, o, &t));
    OK(peft_trainer_plan(t, &p));
    struct mem *mem = &model_of(m)->host.mem;
    int64_t before = atomic_load(&mem->live);
    for (int i = 0; i < 6; i++) {
        if (!slice) OK(peft_train_step(t, &s));
        else
            do OK(peft_train_run_for(t, slice, &s));
            while (s.more);
        r.loss[i] = s.loss;
    }
    int64_t made = atomic_load(&mem->peak) - before;
    CHECK(made >= p.activations && made <= p.gradients + p.optimizer + p.activations + p.scratch +
          p.trainable + 65536);
    peft_trainer_free(t);
    OK(peft_eval(m, d, NULL, &e));
    r.evaluated = e.loss;
    CHECK(e.token_accuracy >= 0 && e.rows == 12);
    peft_dataset_free(d);
    peft_model_free(m);
    return r;
}

static peft_train_opts train_opts(void)
{
    return (peft_train_opts){ .size = sizeof(peft_train_opts), .batch = 3, .steps = 6,
                              .lr = 0.01f, .seed = 5 };
}

/* Threads, slices and what is computed again change no bit. */
static void test_same_bits(void)
{
    for (int adapter = 0; adapter < 2; adapter++) {
        peft_train_opts o = train_opts();
        struct result first = train(1, &o, adapter, 0), other;
        CHECK(first.loss[5] < first.loss[0] && first.evaluated > 0);
        for (int threads = 2; threads <= 3; threads++) {
            other = train(threads, &o, adapter, 0);
            CHECK(!memcmp(&first, &other, sizeof(first)));
        }
        other = train(2, &o, adapter, 1);
        CHECK(!memcmp(&first, &other, sizeof(first)));
        for (o.recompute = PEFT_RECOMPUTE_NONE; o.recompute <= PEFT_RECOMPUTE_LAYERS;
             o.recompute++) {
            other = train(2, &o, adapter, 0);
            CHECK(!memcmp(&first, &other, sizeof(first)));
        }
    }
}

/* Packs hold whole examples, and each reads its own source only. */
static void test_packing(void)
{
    double loss[2];
    for (int packing = 0; packing < 2; packing++) {
        peft_train_opts o = train_opts();
        o.packing = packing;
        o.max_len = packing ? 400 : 0;
        o.batch = packing ? 1 : 12;
        o.steps = 1;
        peft_model *m = load_with(1);
        peft_dataset *d = data(m, pairs_file());
        peft_trainer *t = NULL;
        peft_step s = { .size = sizeof(s) };
        OK(peft_trainer_new(m, d, &o, &t));
        OK(peft_train_step(t, &s));
        loss[packing] = s.loss;
        peft_trainer_free(t);
        peft_dataset_free(d);
        peft_model_free(m);
    }
    CHECK_NEAR(loss[0], loss[1], 1e-6);
}

/* Layers count from the encoder's first to the decoder's last. */
static void test_frozen(void)
{
    peft_model *m = load_with(1);
    peft_param p = { .size = sizeof(p) };
    peft_info info = info_of(m);
    CHECK(info.layers == 3 && info.encoder_layers == 1 && info.decoder_start == 0);
    OK(peft_freeze_layers(m, 0, 0));
    OK(peft_freeze_layers(m, -1, -1));
    for (int i = 0; i < info.n_tensors; i++) {
        OK(peft_model_param(m, i, &p));
        int frozen = !strncmp(p.name, "encoder.block.0.", 16) ||
                     !strncmp(p.name, "decoder.block.1.", 16);
        CHECK_EQ(p.trainable, !frozen);
        CHECK_EQ(p.layer, strstr(p.name, "encoder.block.0.")   ? 0
                          : strstr(p.name, "decoder.block.0.") ? 1
                          : strstr(p.name, "decoder.block.1.") ? 2 : -1);
    }
    peft_model_free(m);
}

/* Head alone: what lies below is computed once for each example. */
static void test_features(void)
{
    double loss[2][8];
    for (int cached = 0; cached < 2; cached++) {
        peft_load_opts lo = kit_opts();
        peft_model *m = NULL;
        peft_train_opts o = train_opts();
        peft_trainer *t = NULL;
        peft_plan p = { .size = sizeof(p) };
        peft_step s = { .size = sizeof(s) };
        o.steps = 8;
        o.feature_cache = cached ? 0 : -1;
        OK(peft_model_load("tests/golden/tiny/t5_gated", &lo, &m));
        OK(peft_freeze(m, "*"));
        OK(peft_unfreeze(m, "lm_head.*"));
        peft_dataset *d = data(m, pairs_file());
        OK(peft_trainer_new(m, d, &o, &t));
        OK(peft_trainer_plan(t, &p));
        CHECK_EQ(p.features > 0, cached);
        for (int i = 0; i < 8; i++) {
            OK(peft_train_step(t, &s));
            loss[cached][i] = s.loss;
        }
        peft_trainer_free(t);
        peft_dataset_free(d);
        peft_model_free(m);
    }
    for (int i = 0; i < 8; i++) CHECK_NEAR(loss[0][i], loss[1][i], 1e-6);
}

/* --- files and answers */

static void test_adapter_files(void)
{
    static const int32_t source[] = { 5, 6, 7, 1 }, target[] = { 0, 9 };
    float z[3][2 * 96];
    peft_model *m = load_with(1);
    peft_adapter_opts a = { .size = sizeof(a), .rank = 2, .modules_to_save = "shared" };
    peft_train_opts o = train_opts();
    peft_trainer *t = NULL;
    OK(peft_adapter_add(m, "default", &a));
    peft_dataset *d = data(m, pairs_file());
    OK(peft_trainer_new(m, d, &o, &t));
    while (!peft_train_step(t, NULL)) {}
    peft_trainer_free(t);
    peft_dataset_free(d);
    OK(peft_forward_pair(m, source, 4, target, 2, z[0]));
    OK(peft_adapter_save(m, "default", in("adapter")));
    OK(peft_adapter_merge(m, "default"));
    OK(peft_forward_pair(m, source, 4, target, 2, z[1]));
    peft_model_free(m);
    m = load_with(1);
    OK(peft_adapter_load(m, "default", in("adapter")));
    OK(peft_forward_pair(m, source, 4, target, 2, z[2]));
    peft_model_free(m);
    CHECK(distance(z[0], z[1], 2 * 96) < 1e-5 && !memcmp(z[0], z[2], sizeof(z[0])));
    struct bytes b = get(in("adapter/adapter_config.json"));
    CHECK(strstr(b.at, "\"SEQ_2_SEQ_LM\""));
    free(b.at);
}

/* The encoder alone, from a folder of its class, gives the same embedding. */
static void test_encoder(void)
{
    static const int32_t ids[] = { 5, 6, 7, 8, 1 };
    float x[3][32];
    peft_save_opts o = { .size = sizeof(o) };
    peft_model *m = load_with(1);
    OK(peft_embed(m, ids, 5, 0, x[0]));
    peft_model_free(m);
    struct bytes b = get("tests/golden/tiny/t5/config.json");
    char *class = strstr(b.at, "T5ForConditionalGeneration");
    if (!class) GIVE_UP();
    memcpy(class, "T5EncoderModel\"           ", 26);
    class[26] = ' ';
    mkdir(in("encoder"), 0777);
    put(in("encoder/config.json"), b.at);
    free(b.at);
    copy("tests/golden/tiny/t5/model.safetensors", in("encoder/model.safetensors"));
    m = load(in("encoder"));
    peft_info info = info_of(m);
    CHECK(!info.causal && info.layers == 1 && !info.encoder_layers && info.decoder_start == -1);
    OK(peft_embed(m, ids, 5, 0, x[1]));
    OK(peft_model_save(m, in("encoder.gguf"), &o));
    peft_model_free(m);
    m = load(in("encoder.gguf"));
    OK(peft_embed(m, ids, 5, 0, x[2]));
    peft_model_free(m);
    CHECK(!memcmp(x[0], x[1], sizeof(x[0])) && !memcmp(x[0], x[2], sizeof(x[0])));
}

static void test_calls(void)
{
    static const int32_t ids[] = { 5, 6, 1 };
    float z[3 * 300];
    int32_t to[8];
    peft_model *m = load_with(1), *llama = load(make_model("llama", 1));
    REFUSED(peft_forward(m, ids, 3, z), PEFT_ESTATE);
    REFUSED(peft_forward_pair(llama, ids, 3, ids, 3, z), PEFT_ESTATE);
    REFUSED(peft_forward_pair(m, ids, 0, ids, 3, z), PEFT_EARG);
    REFUSED(peft_forward_pair(m, ids, 3, (int32_t[]){ 96 }, 1, z), PEFT_EARG);
    peft_generate_opts o = { .size = sizeof(o), .max_tokens = 8 };
    CHECK(peft_generate_ids(m, ids, 3, &o, to, 8, NULL) >= 0);
    static const peft_generate_opts bad[] = {
        { .num_beams = -1 }, { .num_beams = PEFT_BEAMS_MAX + 1 }, { .early_stopping = 3 },
        { .length_penalty = NAN }, { .num_beams = 2, .temperature = 1 }, { .num_beams = 60 },
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        o = bad[i];
        o.size = sizeof(o);
        REFUSED(peft_generate_ids(m, ids, 3, &o, to, 8, NULL), PEFT_EARG);
    }
    /* A decoder alone searches with beams too. */
    peft_message said = { "user", "hello" };
    peft_generated out = { .size = sizeof(out) };
    o = (peft_generate_opts){ .size = sizeof(o), .num_beams = 3, .max_tokens = 9 };
    OK(peft_generate(llama, &said, 1, &o, &out));
    CHECK(out.tokens <= 9 && out.prompt_tokens > 0);
    peft_model_free(llama);
    peft_model_free(m);
}

int main(void)
{
    kit_begin();
    if (host_init(&host, NULL) || tok_open_folder(&host, "tests/golden/data/plain", &plain) ||
        tok_open_folder(&host, "tests/golden/data/bert", &bert))
        GIVE_UP();
    RUN(test_schemas);
    RUN(test_refused);
    RUN(test_ids);
    RUN(test_cut);
    RUN(test_batches);
    RUN(test_same_bits);
    RUN(test_packing);
    RUN(test_frozen);
    RUN(test_features);
    RUN(test_adapter_files);
    RUN(test_encoder);
    RUN(test_calls);
    tok_free(plain);
    tok_free(bert);
    kit_end();
    return TEST_END();
}
