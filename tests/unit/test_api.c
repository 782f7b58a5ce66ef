/* The public API as include/peft.h describes it, function by function: what
 * each promises, and the errors that it names. */
#include <errno.h>
#include <pthread.h>

#include "kit.h"

static char base[64];

static peft_param param_of(const peft_model *m, const char *name)
{
    peft_param p = { .size = sizeof(p) };
    for (int32_t i = 0; !peft_model_param(m, i, &p); i++)
        if (!strcmp(p.name, name)) return p;
    p.name = NULL;
    return p;
}
static int trains(const peft_model *m, const char *name)
{
    peft_param p = param_of(m, name);
    CHECK(p.name != NULL);
    return p.name && p.trainable;
}
/* Fills an adapter's second factors, so that it changes what the model says. */
static void shake(peft_model *m, const char *adapter, float by)
{
    for (struct adapter *a = model_of(m)->adapters; a; a = a->next) {
        if (strcmp(a->name, adapter)) continue;
        for (int64_t s = 0; s < a->n_sites; s++)
            for (int64_t i = 0; i < param_len(a->sites[s].part[1]); i++)
                a->sites[s].part[1]->own[i] = by * (float)(i % 5 - 2);
        for (int64_t s = 0; s < a->n_saved; s++)
            for (int64_t i = 0; i < param_len(a->saved[s].p); i++)
                a->saved[s].mine[i] += by * (float)(i % 3);
    }
}

/* --- version, names, messages, host, system */

static void *other_message(void *arg)
{
    char *text = arg;
    snprintf(text, 256, "%s|", peft_errmsg());
    peft_model_load(in("other-thread"), NULL, &(peft_model *){ NULL });
    snprintf(text + strlen(text), 200, "%s", peft_errmsg());
    return NULL;
}

static void test_names_and_messages(void)
{
    static const char *const names[] = {
        "PEFT_OK", "PEFT_EARG", "PEFT_ENOMEM", "PEFT_EIO", "PEFT_EFORMAT", "PEFT_EUNSUPPORTED",
        "PEFT_ENOTFOUND", "PEFT_ESTATE", "PEFT_ENONFINITE", "PEFT_ECANCELLED", "PEFT_EEND",
        "PEFT_EDATA" };
    CHECK_EQ(peft_version(), PEFT_VERSION);
    for (int32_t i = 0; i < (int32_t)ARRAY_LEN(names); i++) CHECK_STR(peft_errname(-i), names[i]);
    CHECK_STR(peft_errname(1), "PEFT_E?");
    CHECK_STR(peft_errname(-12), "PEFT_E?");
    CHECK_STR(peft_errname(INT32_MIN), "PEFT_E?");
    /* Messages belong to threads. */
    char theirs[256];
    pthread_t t;
    peft_model *m = NULL;
    REFUSED(peft_model_load(in("this-thread"), NULL, &m), PEFT_ENOTFOUND);
    pthread_create(&t, NULL, other_message, theirs);
    pthread_join(t, NULL);
    CHECK(theirs[0] == '|' && strstr(theirs, "other-thread"));
    CHECK(strstr(peft_errmsg(), "this-thread") && !strstr(peft_errmsg(), "other-thread"));
    /* Control characters of a file name do not break the line. */
    REFUSED(peft_model_load("a\nb\tc", NULL, &m), PEFT_ENOTFOUND);
}

static int32_t count_entry(void *arg, const char *name)
{
    (void)name;
    return ++*(int *)arg == 2;
}

static void test_io_default(void)
{
    peft_io io = { .size = sizeof(io) };
    int32_t err = 0, n = 0;
    char text[8] = "";
    OK(peft_io_default(&io));
    CHECK_EQ(io.size, sizeof(io));
    CHECK(!io.open(io.ctx, in("absent"), 0, &err));
    CHECK_EQ(err, -ENOENT);
    CHECK_EQ(io.kind(io.ctx, in("absent")), 0);
    CHECK_EQ(io.mkdir(io.ctx, in("io")), 0);
    CHECK_EQ(io.mkdir(io.ctx, in("io")), -EEXIST);
    CHECK_EQ(io.kind(io.ctx, in("io")), 2);
    void *f = io.open(io.ctx, in("io/a"), 1, &err);
    CHECK(f != NULL);
    CHECK_EQ(io.write(io.ctx, f, "hello", 5), 5);
    CHECK_EQ(io.sync(io.ctx, f), 0);
    CHECK_EQ(io.close(io.ctx, f), 0);
    CHECK_EQ(io.rename(io.ctx, in("io/a"), in("io/b")), 0);
    CHECK_EQ(io.kind(io.ctx, in("io/b")), 1);
    f = io.open(io.ctx, in("io/b"), 0, &err);
    CHECK_EQ(io.length(io.ctx, f), 5);
    CHECK_EQ(io.read(io.ctx, f, 1, text, 7), 4);
    CHECK_STR(text, "ello");
    const void *at = io.map(io.ctx, f, 5);
    CHECK(at && !memcmp(at, "hello", 5));
    io.unmap(io.ctx, at, 5);
    CHECK_EQ(io.close(io.ctx, f), 0);
    put(in("io/c"), "");
    put(in("io/d"), "");
    CHECK(io.list(io.ctx, in("io"), count_entry, &n) >= 0);
    CHECK_EQ(n, 2);
    CHECK(io.remove(io.ctx, in("io")) < 0);             /* not empty */
    CHECK_EQ(io.remove(io.ctx, in("io/b")), 0);
    CHECK_EQ(io.remove(io.ctx, in("io/c")), 0);
    CHECK_EQ(io.remove(io.ctx, in("io/d")), 0);
    CHECK_EQ(io.sync_dir(io.ctx, in("io")), 0);
    CHECK_EQ(io.remove(io.ctx, in("io")), 0);
    CHECK_EQ(io.remove(io.ctx, in("io")), -ENOENT);
    CHECK_EQ(io.list(io.ctx, in("io"), count_entry, &n), -ENOENT);
}

static void test_system_info(void)
{
    peft_system s = { .size = sizeof(s) };
    OK(peft_system_info(&s));
    CHECK(s.cpu[0] && s.blas[0]);
    CHECK(!strcmp(s.level, "c") || !strcmp(s.level, "avx2") || !strcmp(s.level, "avx512") ||
          !strcmp(s.level, "neon"));
    CHECK(s.cores >= 1 && s.cores < 100000);
    CHECK(s.gflops > 0.001 && s.gflops < 1e5);
    CHECK(s.memory_total > 1 << 20 && s.memory_available > 0);
    CHECK(s.memory_available <= s.memory_total);
}

static int32_t logged;
static void count_log(void *ctx, int32_t level, const char *line)
{
    (void)ctx;
    logged += (level == 1 || level == 2) && line[0] && !strchr(line, '\n');
}

/* --- model */

static void test_load(void)
{
    static float first[N_LOGITS], z[N_LOGITS];
    static const char *const levels[] = { "c", "avx2", "avx512" };
    peft_model *m = load(base);
    logits(m, first);
    peft_model_free(m);
    const char *paths[] = { base, in("base/"), in("base/model.safetensors"), in("base.gguf") };
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        for (int no_map = 0; no_map < 2; no_map++) {
            peft_load_opts o = { .size = sizeof(o), .no_map = no_map, .log = count_log };
            OK(peft_model_load(paths[i], &o, &m));
            logits(m, z);
            CHECK_NEAR(distance(first, z, N_LOGITS), 0, 1e-4);
            peft_info x = info_of(m);
            CHECK(x.has_tokenizer && x.has_chat_template);
            CHECK_STR(x.format, i == 3 ? "gguf" : "safetensors");
            peft_model_free(m);
        }
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
        peft_load_opts o = { .size = sizeof(o), .level = levels[i], .blas = "none" };
        int rc = peft_model_load(base, &o, &m);
        if (rc) {
            REFUSED(rc, PEFT_EARG);                     /* not this processor's */
            continue;
        }
        logits(m, z);
        CHECK_NEAR(distance(first, z, N_LOGITS), 0, 1e-4);
        peft_model_free(m);
    }
    m = (peft_model *)base;
    REFUSED(peft_model_load(in("none"), NULL, &m), PEFT_ENOTFOUND);
    CHECK(!m);
}

static void test_info(void)
{
    peft_model *m = load(base);
    peft_info i = info_of(m);
    CHECK_STR(i.family, "llama");
    CHECK_STR(i.name, "base");
    CHECK_STR(i.types, "F32 x20");
    CHECK(i.layers == LAYERS && i.dim == DIM && i.heads == 2 && i.kv_heads == 1);
    CHECK(i.head_dim == 8 && i.ff_dim == 24 && i.vocab == VOCAB && i.max_len == LEN);
    CHECK(i.labels == 0 && i.causal == 1 && i.n_tensors == 20 && i.n_adapters == 0);
    int64_t layer = 2 * 16 + 16 * 16 * 2 + 8 * 16 * 2 + 3 * 24 * 16, all = VOCAB * 16 + 16;
    CHECK_EQ(i.params, all + 2 * layer);
    CHECK(i.trainable == i.params && i.params_total == i.params);
    CHECK_EQ(i.weight_bytes, i.params * 4);
    CHECK(i.bos == 1 && i.eos == 2);
    peft_model_free(m);
    m = load(make_without("tests/golden/tiny/bert", "bert", "classifier"));
    i = info_of(m);
    CHECK(!strcmp(i.family, "bert") && !i.causal && !i.has_tokenizer && i.bos == -1);
    static float z[VOCAB];
    REFUSED(peft_forward(m, kit_ids, 3, z), PEFT_ESTATE);       /* an encoder has no logits */
    OK(peft_embed(m, kit_ids, 3, 1, z));
    peft_model_free(m);
}

static void test_params(void)
{
    static float x[VOCAB * DIM];
    peft_model *m = load(base), *g = load(in("base.gguf"));
    peft_adapter_opts o = { .size = sizeof(o), .rank = 3, .targets = "q_proj" };
    peft_param p = { .size = sizeof(p) };
    OK(peft_model_param(m, 0, &p));
    CHECK_STR(p.name, "model.embed_tokens.weight");
    CHECK(!strcmp(p.type, "F32") && p.rows == VOCAB && p.cols == DIM && p.layer == -1);
    p = param_of(m, "model.layers.1.mlp.down_proj.weight");
    CHECK(p.name && p.rows == DIM && p.cols == 24 && p.layer == 1 && p.trainable);
    p = param_of(m, "model.norm.weight");
    CHECK(p.name && p.rows == 1 && p.cols == DIM && p.layer == -1);
    REFUSED(peft_model_param(m, 20, &p), PEFT_ENOTFOUND);
    OK(peft_adapter_add(m, "a", &o));
    CHECK_EQ(info_of(m).n_tensors, 24);
    OK(peft_model_param(m, 20, &p));
    CHECK_STR(p.name, "model.layers.0.self_attn.q_proj.lora_A.weight");
    CHECK(p.rows == 3 && p.cols == DIM && p.layer == 0 && p.trainable);
    CHECK_EQ(peft_model_read(m, p.name, x, 48), 48);
    for (int i = 0; i < 48; i++) CHECK(fabsf(x[i]) <= 0.25f);    /* within 1 / sqrt(in) */
    CHECK_EQ(peft_model_read(m, "model.norm.weight", NULL, 0), DIM);
    REFUSED(peft_model_read(m, "model.norm.weight", x, DIM - 1), PEFT_EARG);
    REFUSED(peft_model_read(m, "lm_head.weight", x, 1), PEFT_ENOTFOUND);
    /* The order of rows is Hugging Face's, whatever the file. */
    static float y[16 * 16];
    const char *q = "model.layers.0.self_attn.q_proj.weight";
    CHECK_EQ(peft_model_read(m, q, x, 256), 256);
    CHECK_EQ(peft_model_read(g, q, y, 256), 256);
    CHECK(!memcmp(x, y, sizeof(y)));
    peft_model_free(g);
    peft_model_free(m);
}

/* --- what trains */

static void test_freeze(void)
{
    peft_model *m = load(base);
    int64_t all = info_of(m).params;
    OK(peft_freeze_layers(m, 0, 0));
    CHECK(!trains(m, "model.layers.0.mlp.up_proj.weight"));
    CHECK(trains(m, "model.layers.1.mlp.up_proj.weight") && trains(m, "model.norm.weight"));
    OK(peft_freeze_layers(m, -1, -1));
    CHECK(!trains(m, "model.layers.1.mlp.up_proj.weight"));
    CHECK_EQ(info_of(m).trainable, VOCAB * DIM + DIM);
    OK(peft_unfreeze(m, "*"));
    CHECK_EQ(info_of(m).trainable, all);
    OK(peft_freeze_layers(m, 0, -1));
    CHECK_EQ(info_of(m).trainable, VOCAB * DIM + DIM);
    REFUSED(peft_freeze_layers(m, 0, 2), PEFT_EARG);
    REFUSED(peft_freeze_layers(m, -3, 0), PEFT_EARG);
    REFUSED(peft_freeze_layers(m, 1, 0), PEFT_EARG);
    OK(peft_freeze(m, "*"));
    CHECK_EQ(info_of(m).trainable, 0);
    OK(peft_unfreeze(m, "model.norm.*, *.layers.?.mlp.*"));
    CHECK_EQ(info_of(m).trainable, DIM + 2 * 3 * 24 * DIM);
    OK(peft_freeze(m, "*up_proj*,*1.mlp*"));
    CHECK_EQ(info_of(m).trainable, DIM + 2 * 24 * DIM);
    REFUSED(peft_freeze(m, "model.layers"), PEFT_ENOTFOUND);    /* a glob names all of it */
    REFUSED(peft_unfreeze(m, "*.bias"), PEFT_ENOTFOUND);
    REFUSED(peft_freeze(m, " , "), PEFT_ENOTFOUND);
    CHECK_EQ(info_of(m).trainable, DIM + 2 * 24 * DIM);
    peft_model_free(m);
}

static void test_to_float(void)
{
    peft_save_opts q = { .size = sizeof(q), .dtype = "bf16" };
    peft_model *m = load(base);
    int64_t bytes = -1;
    OK(peft_to_float(m, "*", 1, &bytes));
    CHECK_EQ(bytes, 0);
    OK(peft_model_save(m, in("half"), &q));
    peft_model_free(m);
    m = load(in("half"));
    int64_t before = atomic_load(&kit_mem.live);
    OK(peft_to_float(m, "*.q_proj.*", 1, &bytes));
    CHECK_EQ(bytes, 2 * 16 * 16 * 4);
    CHECK_EQ(atomic_load(&kit_mem.live), before);
    CHECK_STR(param_of(m, "model.layers.0.self_attn.q_proj.weight").type, "BF16");
    OK(peft_to_float(m, "*.q_proj.*", 0, &bytes));
    CHECK_EQ(bytes, 2 * 16 * 16 * 4);
    CHECK_STR(param_of(m, "model.layers.0.self_attn.q_proj.weight").type, "F32");
    CHECK_STR(param_of(m, "model.layers.0.self_attn.k_proj.weight").type, "BF16");
    OK(peft_to_float(m, "*.q_proj.*", 1, &bytes));
    CHECK_EQ(bytes, 0);
    REFUSED(peft_to_float(m, "nothing", 0, &bytes), PEFT_ENOTFOUND);
    peft_model_free(m);
}

/* Quantised weights do not train, adapters on them and float copies do. */
static void test_quantised(void)
{
    peft_model *m = load("tests/golden/tiny/llama");
    peft_save_opts q = { .size = sizeof(q), .dtype = "q8_0" };
    peft_trainer *t = NULL;
    peft_step s = { .size = sizeof(s) };
    OK(peft_model_save(m, in("q8.gguf"), &q));
    peft_model_free(m);
    m = load(in("q8.gguf"));
    CHECK(strstr(info_of(m).types, "Q8_0"));
    peft_dataset *d = data(m, rows_file());
    REFUSED(peft_trainer_new(m, d, NULL, &t), PEFT_EUNSUPPORTED);
    OK(peft_to_float(m, "*.q_proj.*", 0, NULL));
    OK(peft_freeze(m, "*"));
    OK(peft_unfreeze(m, "*.q_proj.*"));
    OK(peft_trainer_new(m, d, NULL, &t));
    OK(peft_train_step(t, &s));
    CHECK(s.grad_norm > 0);
    peft_trainer_free(t);
    OK(peft_adapter_add(m, "a", NULL));
    OK(peft_trainer_new(m, d, NULL, &t));
    OK(peft_train_step(t, &s));
    peft_trainer_free(t);
    OK(peft_adapter_merge(m, "a"));
    peft_dataset_free(d);
    peft_model_free(m);
}

static void test_head(void)
{
    static float z[VOCAB];
    peft_head_opts o = { .size = sizeof(o), .labels = 3, .names = kit_labels, .seed = 4 };
    peft_model *m = load(base);
    OK(peft_freeze(m, "*"));
    CHECK(!peft_label_name(m, 0));
    OK(peft_head_add(m, &o));
    CHECK(trains(m, "score.weight") && info_of(m).trainable == 3 * DIM);
    CHECK_EQ(info_of(m).labels, 3);
    CHECK_STR(peft_label_name(m, 1), "good");
    CHECK(!peft_label_name(m, 3) && !peft_label_name(m, -1));
    z[3] = 77;
    OK(peft_forward(m, kit_ids, 6, z));
    CHECK(z[0] != z[1] && z[3] == 77);
    REFUSED(peft_head_add(m, &o), PEFT_ESTATE);
    REFUSED(peft_generate(m, &(peft_message){ "user", "a" }, 1, NULL, NULL), PEFT_ESTATE);
    /* Saved and loaded it is the same head. */
    OK(peft_model_save(m, in("headed"), NULL));
    peft_model *b = load(in("headed"));
    static float y[VOCAB];
    OK(peft_forward(b, kit_ids, 6, y));
    CHECK(!memcmp(y, z, 3 * sizeof(float)));
    CHECK_STR(peft_label_name(b, 2), "so-so");
    REFUSED(peft_model_save(m, in("headed.gguf"), NULL), PEFT_EUNSUPPORTED);
    peft_model_free(b);
    peft_model_free(m);
    static const char *const pools[] = { "last", "cls", "mean" };
    for (int i = 0; i < 3; i++) {
        o = (peft_head_opts){ .size = sizeof(o), .labels = 2, .pool = pools[i] };
        m = load(in("bert"));
        OK(peft_head_add(m, &o));
        CHECK_STR(peft_label_name(m, 1), "LABEL_1");
        CHECK(trains(m, "classifier.bias"));
        OK(peft_forward(m, kit_ids, 2, z));
        peft_model_free(m);
    }
}

/* --- adapters */

static void test_adapter(void)
{
    static float plain[N_LOGITS], with[N_LOGITS], z[N_LOGITS];
    peft_model *m = load(base);
    peft_adapter_opts o = { .size = sizeof(o), .rank = 2, .seed = 1 };
    logits(m, plain);
    OK(peft_freeze(m, "model.norm.weight"));
    OK(peft_adapter_add(m, "a", &o));
    logits(m, z);
    CHECK(!memcmp(plain, z, sizeof(z)));                /* B is zero */
    /* The first one freezes the rest ... */
    peft_info i = info_of(m);
    CHECK(i.trainable == i.params_total - i.params && i.n_adapters == 1);
    CHECK(!trains(m, "model.embed_tokens.weight"));
    /* ... and only the first. */
    OK(peft_unfreeze(m, "model.norm.weight"));
    OK(peft_adapter_add(m, "b", NULL));
    CHECK(trains(m, "model.norm.weight"));
    REFUSED(peft_adapter_add(m, "a", &o), PEFT_ESTATE);
    REFUSED(peft_adapter_add(m, "a b", &o), PEFT_EARG);
    shake(m, "a", 0.05f);
    shake(m, "b", -0.02f);
    logits(m, with);
    CHECK(distance(plain, with, N_LOGITS) > 1e-3);
    /* Enabled and disabled in any order; each call may be repeated. */
    OK(peft_adapter_disable(m, "a"));
    OK(peft_adapter_disable(m, "a"));
    logits(m, z);
    CHECK(distance(z, with, N_LOGITS) > 1e-3);
    OK(peft_adapter_disable(m, "b"));
    logits(m, z);
    CHECK(!memcmp(plain, z, sizeof(z)));
    OK(peft_adapter_enable(m, "b"));
    OK(peft_adapter_enable(m, "a"));
    OK(peft_adapter_enable(m, "a"));
    logits(m, z);
    CHECK(!memcmp(with, z, sizeof(z)));
    /* Saved while disabled it is the same. */
    OK(peft_adapter_save(m, "b", in("b1")));
    OK(peft_adapter_disable(m, "b"));
    OK(peft_adapter_save(m, "b", in("b2")));
    struct bytes x = get(in("b1/adapter_model.safetensors"));
    struct bytes y = get(in("b2/adapter_model.safetensors"));
    CHECK(x.n == y.n && !memcmp(x.at, y.at, x.n));
    free(x.at);
    free(y.at);
    OK(peft_adapter_remove(m, "b"));
    OK(peft_adapter_load(m, "b", in("b2")));
    logits(m, z);
    CHECK_NEAR(distance(with, z, N_LOGITS), 0, 1e-6);
    OK(peft_adapter_remove(m, "a"));
    OK(peft_adapter_remove(m, "b"));
    logits(m, z);
    CHECK(!memcmp(plain, z, sizeof(z)));
    CHECK_EQ(info_of(m).n_adapters, 0);
    REFUSED(peft_adapter_enable(m, "a"), PEFT_ENOTFOUND);
    REFUSED(peft_adapter_disable(m, "a"), PEFT_ENOTFOUND);
    REFUSED(peft_adapter_remove(m, "a"), PEFT_ENOTFOUND);
    REFUSED(peft_adapter_merge(m, "a"), PEFT_ENOTFOUND);
    REFUSED(peft_adapter_save(m, "a", in("a")), PEFT_ENOTFOUND);
    peft_model_free(m);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
}

static void test_merge(void)
{
    static float with[N_LOGITS], z[N_LOGITS];
    for (int format = 0; format < 2; format++)
        for (int rslora = -1; rslora <= 1; rslora++) {
            peft_model *m = load(format ? in("base.gguf") : base);
            peft_adapter_opts o = { .size = sizeof(o), .rank = 4, .alpha = 3, .rslora = rslora,
                                    .modules_to_save = "model.norm", .seed = 3 };
            OK(peft_adapter_add(m, "a", &o));
            o.modules_to_save = NULL;
            o.targets = "q_proj, *.mlp.*";
            OK(peft_adapter_add(m, "b", &o));
            shake(m, "a", 0.05f);
            shake(m, "b", 0.03f);
            logits(m, with);
            OK(peft_adapter_merge(m, "a"));
            logits(m, z);
            CHECK_NEAR(distance(with, z, N_LOGITS), 0, 1e-4);
            OK(peft_adapter_merge(m, "b"));
            logits(m, z);
            CHECK_NEAR(distance(with, z, N_LOGITS), 0, 1e-4);
            CHECK_EQ(info_of(m).n_adapters, 0);
            OK(peft_model_save(m, in("merged"), NULL));
            OK(peft_model_save(m, in("merged.gguf"), NULL));
            peft_model_free(m);
            m = load(in("merged"));
            logits(m, z);
            CHECK_NEAR(distance(with, z, N_LOGITS), 0, 1e-4);
            peft_model_free(m);
            m = load(in("merged.gguf"));
            logits(m, z);
            CHECK_NEAR(distance(with, z, N_LOGITS), 0, 1e-4);
            peft_model_free(m);
        }
}

/* Adapters that keep whole modules, stacked: the one enabled last counts, and
 * any order of enabling, removing and merging loses no memory. */
static void test_stacked_modules(void)
{
    static float own[3], out[3][3], z[VOCAB];
    static const char *const names[] = { "a", "b", "c" };
    static const int orders[6][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
                                      { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };
    for (int merge = 0; merge < 3; merge++)
        for (int k = 0; k < 6; k++) {
            peft_model *m = load(base);
            peft_head_opts h = { .size = sizeof(h), .labels = 3, .seed = 9 };
            peft_adapter_opts o = { .size = sizeof(o), .rank = 1 };
            OK(peft_head_add(m, &h));
            OK(peft_forward(m, kit_ids, 6, own));
            for (int i = 0; i < 3; i++) {
                OK(peft_adapter_add(m, names[i], &o));
                CHECK(trains(m, "score.weight"));
                for (int j = 0; j < 3 * DIM; j++)
                    model_of(m)->adapters[0].saved[0].p->own[j] += 0.5f * (float)(i + j % 5);
                OK(peft_forward(m, kit_ids, 6, out[i]));
            }
            OK(peft_adapter_disable(m, names[orders[k][0]]));
            OK(peft_forward(m, kit_ids, 6, z));
            int top = orders[k][0] == 2 ? 1 : 2;
            CHECK(!memcmp(z, out[top], sizeof(own)));
            OK(peft_adapter_enable(m, names[orders[k][0]]));
            OK(peft_forward(m, kit_ids, 6, z));
            CHECK(!memcmp(z, out[orders[k][0]], sizeof(own)));
            for (int i = 0; i < 3; i++) {
                const char *name = names[orders[k][i]];
                OK(peft_adapter_save(m, name, in("stacked")));
                if (merge == 1 || (merge == 2 && i == 1)) OK(peft_adapter_merge(m, name));
                else OK(peft_adapter_remove(m, name));
            }
            OK(peft_forward(m, kit_ids, 6, z));
            if (!merge) CHECK(!memcmp(z, own, sizeof(own)));
            /* The sums over adapters that add nothing may take another order. */
            for (size_t j = 0; merge == 1 && j < sizeof(own) / sizeof(*own); j++)
                CHECK_NEAR(z[j], out[orders[k][2]][j], 1e-6);
            if (merge == 2) CHECK(!memcmp(z, out[orders[k][1]], sizeof(own)));
            peft_model_free(m);
            CHECK_EQ(atomic_load(&kit_mem.live), 0);
        }
}

/* A model that is freed with adapters in every state. */
static void test_free_with_adapters(void)
{
    for (int k = 0; k < 8; k++) {
        peft_model *m = load(base);
        peft_adapter_opts o = { .size = sizeof(o), .rank = 1, .modules_to_save = "model.norm" };
        OK(peft_adapter_add(m, "a", &o));
        OK(peft_adapter_add(m, "b", &o));
        OK(peft_adapter_add(m, "c", &o));
        if (k & 1) OK(peft_adapter_disable(m, "a"));
        if (k & 2) OK(peft_adapter_disable(m, "b"));
        if (k & 4) OK(peft_adapter_disable(m, "c"));
        peft_model_free(m);
        CHECK_EQ(atomic_load(&kit_mem.live), 0);
    }
}

static void test_head_adapter(void)
{
    static float with[VOCAB], z[VOCAB];
    peft_model *m = load(base);
    peft_head_opts h = { .size = sizeof(h), .labels = 3, .names = kit_labels, .pool = "mean" };
    OK(peft_head_add(m, &h));
    OK(peft_adapter_add(m, "a", NULL));
    CHECK(trains(m, "score.weight"));
    shake(m, "a", 0.1f);
    OK(peft_forward(m, kit_ids, 6, with));
    OK(peft_adapter_save(m, "a", in("cls_adapter")));
    peft_model_free(m);
    /* The head and its names come along. */
    m = load(base);
    OK(peft_adapter_load(m, "x", in("cls_adapter")));
    CHECK_EQ(info_of(m).labels, 3);
    CHECK_STR(peft_label_name(m, 0), "bad");
    OK(peft_forward(m, kit_ids, 6, z));
    CHECK_NEAR(distance(with, z, 3), 0, 1e-5);
    peft_model_free(m);
}

/* --- text */

static void test_text(void)
{
    peft_model *m = load(base), *none = load("tests/golden/tiny/llama");
    int32_t ids[32] = { 0 }, two[2];
    char text[128];
    static const char hello[] = "<|im_start|>hello";
    int64_t n = peft_tokenize(m, hello, strlen(hello), 0, NULL, 0);
    CHECK_EQ(n, 2);
    CHECK_EQ(peft_tokenize(m, hello, strlen(hello), 0, ids, 32), 2);
    CHECK_EQ(ids[0], 1);
    CHECK(peft_tokenize(m, hello, strlen(hello), PEFT_TOK_PLAIN, ids, 32) > 2);
    int32_t offsets[8] = {0};
    offsets[4] = -7;
    CHECK_EQ(peft_tokenize_offsets(m, hello, strlen(hello), 0, ids, offsets, 2), 2);
    CHECK(offsets[0] == 0 && offsets[1] == 12 && offsets[2] == 12 && offsets[3] == 17);
    CHECK_EQ(peft_tokenize_offsets(m, "\xe6\x97\xa5", 3, 0, NULL, offsets, 1), 3);
    CHECK(offsets[0] == 0 && offsets[1] == 3 && offsets[2] == 12 && offsets[4] == -7);
    two[0] = two[1] = -7;
    CHECK(peft_tokenize(m, "x y z", 5, 0, two, 1) > 1);
    CHECK(two[0] >= 0 && two[1] == -7);
    n = peft_tokenize(m, hello, strlen(hello), 0, ids, 32);
    CHECK_EQ(peft_detokenize(m, ids, n, 0, NULL, 0), (int64_t)strlen(hello));
    CHECK_EQ(peft_detokenize(m, ids, n, 0, text, 128), (int64_t)strlen(hello));
    CHECK(!memcmp(text, hello, strlen(hello)));
    CHECK_EQ(peft_detokenize(m, ids, n, PEFT_DETOK_SKIP, text, 128), 5);
    memset(text, '#', sizeof(text));
    CHECK_EQ(peft_detokenize(m, ids, n, PEFT_DETOK_SKIP, text, 3), 5);
    CHECK(!memcmp(text, "hel#", 4));
    const peft_message chat[] = { { "user", "hi" }, { "assistant", "yo" } };
    static const char want[] = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";
    CHECK_EQ(peft_chat_render(m, chat, 1, 1, NULL, 0), (int64_t)strlen(want));
    CHECK_EQ(peft_chat_render(m, chat, 1, 1, text, 128), (int64_t)strlen(want));
    CHECK(!memcmp(text, want, strlen(want)));
    CHECK(peft_chat_render(m, chat, 2, 0, text, 128) > 0);
    REFUSED(peft_tokenize(none, "a", 1, 0, ids, 1), PEFT_ENOTFOUND);
    REFUSED(peft_detokenize(none, ids, 1, 0, text, 1), PEFT_ENOTFOUND);
    REFUSED(peft_chat_render(none, chat, 1, 0, text, 1), PEFT_ENOTFOUND);
    REFUSED(peft_generate(none, chat, 1, NULL, NULL), PEFT_ENOTFOUND);
    peft_model_free(none);
    peft_model_free(m);
}

static void test_embed(void)
{
    float a[DIM], b[DIM];
    double sum = 0;
    peft_model *m = load(base);
    OK(peft_embed(m, kit_ids, 6, 0, a));
    OK(peft_embed(m, kit_ids, 6, 1, b));
    for (int i = 0; i < DIM; i++) sum += (double)b[i] * b[i];
    CHECK_NEAR(sum, 1, 1e-5);
    for (int i = 1; i < DIM; i++) CHECK_NEAR(a[i] * b[0], a[0] * b[i], 1e-5);
    peft_model_free(m);
}

struct heard { char text[512]; size_t n; int calls, stop_at; };
static int32_t hear(void *ctx, const char *piece, size_t n)
{
    struct heard *h = ctx;
    if (h->n + n < sizeof(h->text)) memcpy(h->text + h->n, piece, n);
    h->n += n;
    CHECK_EQ(utf8_check(piece, (int64_t)n), (int64_t)n);
    return ++h->calls == h->stop_at;
}

static void test_generate(void)
{
    peft_model *m = load(base);
    const peft_message ask = { "user", "hello" };
    peft_generated out = { .size = sizeof(out) };
    struct heard a = { .n = 0 }, b = { .n = 0 };
    peft_generate_opts o = { .size = sizeof(o), .max_tokens = 12, .temperature = 1, .seed = 5,
                             .on_text = hear, .ctx = &a };
    OK(peft_generate(m, &ask, 1, &o, &out));
    CHECK(out.tokens <= 12 && out.prompt_tokens > 3 && out.seconds >= out.prompt_seconds);
    CHECK(out.reason == PEFT_STOP_LENGTH || out.reason == PEFT_STOP_EOS);
    o.ctx = &b;
    OK(peft_generate(m, &ask, 1, &o, NULL));
    CHECK(a.n == b.n && !memcmp(a.text, b.text, MIN(a.n, sizeof(a.text))));   /* by its seed */
    /* Greedy: the first token is the best of peft_forward. */
    static float z[LEN * VOCAB];
    int32_t ids[LEN];
    peft_message raw = { "user", "hello user" };
    int64_t n = peft_tokenize(m, raw.content, strlen(raw.content), PEFT_TOK_SPECIAL, ids, LEN);
    OK(peft_forward(m, ids, (int32_t)n, z));
    int32_t best = 0;
    for (int32_t i = 1; i < VOCAB; i++)
        if (z[(n - 1) * VOCAB + i] > z[(n - 1) * VOCAB + best]) best = i;
    char piece[32];
    int64_t k = peft_detokenize(m, &best, 1, 0, piece, sizeof(piece));
    struct heard g = { .n = 0 };
    o = (peft_generate_opts){ .size = sizeof(o), .max_tokens = 1, .raw = 1, .on_text = hear,
                              .ctx = &g };
    OK(peft_generate(m, &raw, 1, &o, &out));
    CHECK_EQ(out.prompt_tokens, n);
    if (out.tokens == 1 && utf8_check(piece, k) == k)
        CHECK(g.n == (size_t)k && !memcmp(g.text, piece, (size_t)k));
    /* The callback stops, the context ends, a string stops and is not emitted. */
    struct heard c = { .stop_at = 1 };
    o = (peft_generate_opts){ .size = sizeof(o), .max_tokens = 50, .temperature = 2, .seed = 1,
                              .on_text = hear, .ctx = &c };
    OK(peft_generate(m, &ask, 1, &o, &out));
    CHECK(out.reason == PEFT_STOP_CALLBACK ? c.calls == 1 : c.calls <= 1);
    int full = 0;
    for (uint64_t seed = 0; seed < 30 && !full; seed++) {
        o = (peft_generate_opts){ .size = sizeof(o), .max_tokens = 1000, .temperature = 1,
                                  .seed = seed };
        OK(peft_generate(m, &ask, 1, &o, &out));
        full = out.reason == PEFT_STOP_CONTEXT;
        if (full) CHECK_EQ(out.tokens + out.prompt_tokens, LEN);
    }
    CHECK(full);
    int stopped = 0;
    static const char *const stop[] = { "a", "b", "c", "d", "e" };
    for (uint64_t seed = 0; seed < 30 && !stopped; seed++) {
        struct heard s = { .n = 0 };
        o = (peft_generate_opts){ .size = sizeof(o), .temperature = 1, .seed = seed, .stop = stop,
                                  .n_stop = 5, .on_text = hear, .ctx = &s };
        OK(peft_generate(m, &ask, 1, &o, &out));
        stopped = out.reason == PEFT_STOP_STRING;
        for (size_t i = 0; i < MIN(s.n, sizeof(s.text)); i++) CHECK(!strchr("abcde", s.text[i]));
    }
    CHECK(stopped);
    peft_model_free(m);
}

static void make_files(void)
{
    snprintf(base, sizeof(base), "%s", make_model("base", 1));
    peft_model *m = load(base);
    OK(peft_model_save(m, in("base.gguf"), NULL));
    peft_model_free(m);
}

int main(void)
{
    kit_begin();
    RUN(make_files);
    RUN(test_names_and_messages);
    RUN(test_io_default);
    RUN(test_system_info);
    RUN(test_load);
    RUN(test_info);
    RUN(test_params);
    RUN(test_freeze);
    RUN(test_to_float);
    RUN(test_quantised);
    RUN(test_head);
    RUN(test_adapter);
    RUN(test_merge);
    RUN(test_stacked_modules);
    RUN(test_free_with_adapters);
    RUN(test_head_adapter);
    RUN(test_text);
    RUN(test_embed);
    RUN(test_generate);
    kit_end();
    return TEST_END();
}
