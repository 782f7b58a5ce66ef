/* Training under a memory limit: the same steps in any manner, and never more resident
 * memory than was allowed, from generous limits to the smallest one that works. */
#include "kit.h"

/* ------------------------------------------------------------ a model of 60 MB */

enum { BIG_VOCAB = 4096, BIG = 512, BIG_FF = 1536, BIG_LAYERS = 8, BIG_HEADS = 8 };

struct weights { FILE *f; char *names; size_t n; int64_t at; };

/* Names first, then, when names is NULL, values: bfloat16 of about 0.02. */
static void put_tensor(struct weights *w, const char *name, int64_t rows, int64_t cols)
{
    int64_t n = rows * MAX(cols, 1);
    if (w->names) {
        w->n += (size_t)sprintf(w->names + w->n, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%lld",
                                w->n > 1 ? "," : "", name, (long long)rows);
        if (cols) w->n += (size_t)sprintf(w->names + w->n, ",%lld", (long long)cols);
        w->n += (size_t)sprintf(w->names + w->n, "],\"data_offsets\":[%lld,%lld]}",
                                (long long)w->at, (long long)(w->at + 2 * n));
        w->at += 2 * n;
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        uint16_t x = cols ? (uint16_t)(0x3c00 + (i * 7919 % 256) + (i * 31 % 2 << 15)) : 0x3f80;
        fwrite(&x, 2, 1, w->f);
    }
}

static void put_tensors(struct weights *w)
{
    static const struct { const char *name; int rows, cols; } of_layer[] = {
        { "self_attn.q_proj", BIG, BIG }, { "self_attn.k_proj", BIG, BIG },
        { "self_attn.v_proj", BIG, BIG }, { "self_attn.o_proj", BIG, BIG },
        { "mlp.gate_proj", BIG_FF, BIG }, { "mlp.up_proj", BIG_FF, BIG },
        { "mlp.down_proj", BIG, BIG_FF }, { "input_layernorm", BIG, 0 },
        { "post_attention_layernorm", BIG, 0 } };
    char name[96];
    put_tensor(w, "model.embed_tokens.weight", BIG_VOCAB, BIG);
    for (int l = 0; l < BIG_LAYERS; l++)
        for (size_t i = 0; i < ARRAY_LEN(of_layer); i++) {
            snprintf(name, sizeof(name), "model.layers.%d.%s.weight", l, of_layer[i].name);
            put_tensor(w, name, of_layer[i].rows, of_layer[i].cols);
        }
    put_tensor(w, "model.norm.weight", BIG, 0);
}

static const char *make_big(void)
{
    static char names[32768];
    char config[512];
    struct weights w = { .names = names, .n = 1 };
    mkdir(in("big"), 0777);
    snprintf(config, sizeof(config),
             "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\","
             "\"hidden_size\":%d,\"intermediate_size\":%d,\"num_hidden_layers\":%d,"
             "\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"vocab_size\":%d,"
             "\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"max_position_embeddings\":2048,"
             "\"hidden_act\":\"silu\",\"tie_word_embeddings\":true}",
             BIG, BIG_FF, BIG_LAYERS, BIG_HEADS, BIG_HEADS, BIG_VOCAB);
    put(in("big/config.json"), config);
    names[0] = '{';
    put_tensors(&w);
    names[w.n++] = '}';
    while (w.n % 8) names[w.n++] = ' ';
    uint64_t n = w.n;
    w.f = fopen(in("big/model.safetensors"), "wb");
    if (!w.f) GIVE_UP();
    fwrite(&n, 8, 1, w.f);
    fwrite(names, 1, w.n, w.f);
    w.names = NULL;
    put_tensors(&w);
    fclose(w.f);
    return in("big");
}

/* Twelve rows of 20 to 64 tokens below `vocab`. */
static const char *make_rows(int vocab)
{
    FILE *f = fopen(in("rows.jsonl"), "w");
    if (!f) GIVE_UP();
    for (int i = 0; i < 12; i++) {
        fprintf(f, "{\"input_ids\":[%d", i % vocab);
        for (int k = 1; k < 20 + 4 * i; k++) fprintf(f, ",%d", (i * 37 + k * 11) % vocab);
        fputs("]}\n", f);
    }
    fclose(f);
    return in("rows.jsonl");
}

/* ----------------------------------------------------------- one run of training */

struct asked {
    int64_t limit;
    int32_t recompute, stop;             /* stop: after so many steps; 0 = at the end */
    const char *from, *to;               /* checkpoints to resume and to save */
    const char *manner;
};
struct outcome { int rc; double loss[16], norm[16]; int64_t steps; peft_plan plan; };

static int train(const char *path, const char *data, const struct asked *l, struct outcome *o)
{
    peft_load_opts lo = { .size = sizeof(lo), .threads = 2 };
    peft_dataset_opts so = { .size = sizeof(so), .max_len = 64 };
    peft_adapter_opts ao = { .size = sizeof(ao), .rank = 4, .dropout = 0 };
    peft_train_opts to = { .size = sizeof(to), .batch = 4, .epochs = 2, .lr = 1e-3f, .seed = 3,
                           .memory_limit = l->limit, .recompute = l->recompute,
                           .manner = l->manner };
    peft_model *m = NULL;
    peft_dataset *d = NULL;
    peft_trainer *t = NULL;
    *o = (struct outcome){ .plan = { .size = sizeof(o->plan) } };
    OK(o->rc = peft_model_load(path, &lo, &m));
    if (!o->rc) OK(o->rc = peft_dataset_load(m, data, &so, &d));
    if (!o->rc) OK(o->rc = peft_adapter_add(m, "a", &ao));
    if (!o->rc) o->rc = peft_trainer_new(m, d, &to, &t);
    if (!o->rc) OK(peft_trainer_plan(t, &o->plan));
    if (!o->rc && l->from) OK(o->rc = peft_trainer_resume(t, l->from));
    while (!o->rc && (!l->stop || o->steps < l->stop)) {
        peft_step s = { .size = sizeof(s) };
        peft_evaluation e = { .size = sizeof(e) };
        if (peft_train_step(t, &s)) break;
        o->loss[s.step] = s.loss;
        o->norm[s.step] = s.grad_norm;
        o->steps++;
        if (s.step % 2) continue;
        OK(peft_eval(m, d, NULL, &e));
        CHECK(e.loss > 0);
    }
    if (!o->rc && l->to) OK(peft_trainer_save(t, l->to));
    if (!o->rc) OK(peft_adapter_save(m, "a", in("adapter")));
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
    return o->rc;
}

/* A sanitizer keeps what was freed, so that a process holds more with every run. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { KEPT = 256 << 20 };
#else
enum { KEPT = 0 };
#endif

/* What the message of a refusal says that would work. */
static int64_t told_least(void)
{
    const char *at = strstr(peft_errmsg(), "smallest that works is ");
    return at ? strtoll(at + strlen("smallest that works is "), NULL, 10) * 1000000 + KEPT : 0;
}

/* ------------------------------------------------------------------ what is tested */

static char small[256], rows[256];

static void same_losses(const struct outcome *a, const struct outcome *b, int from, int to)
{
    for (int i = from; i <= to; i++) {
        CHECK(fabs(a->loss[i] - b->loss[i]) <= 1e-5 * fabs(a->loss[i]));
        CHECK(fabs(a->norm[i] - b->norm[i]) <= 1e-4 * fabs(a->norm[i]));
    }
}

static void test_same_steps(void)
{
    struct asked l = { 0 };
    struct outcome whole, some, least;
    OK(train(small, rows, &l, &whole));
    CHECK_EQ(whole.steps, 6);
    CHECK(!whole.plan.choice[0] && whole.plan.micro_batch == 4 && !whole.plan.memory_least);
    /* Enough of it changes nothing, not a bit. */
    l.limit = (int64_t)1 << 40;
    OK(train(small, rows, &l, &some));
    CHECK(!memcmp(whole.loss, some.loss, sizeof(whole.loss)));
    CHECK(some.plan.micro_batch == 4 && some.plan.recompute_layers == 0 && some.plan.choice[0]);
    /* As little as possible: the message tells how much that is, and then it works. */
    l.limit = 1;
    REFUSED(train(small, rows, &l, &least), PEFT_ENOMEM);
    CHECK((l.limit = told_least()) > 1000000);
    OK(train(small, rows, &l, &least));
    /* The process may hold a megabyte or two more than when it was told. */
    CHECK(least.plan.peak <= l.limit);
    CHECK(least.plan.memory_least <= l.limit + 2000000);
    same_losses(&whole, &least, 1, 6);
    l.limit = -1;
    REFUSED(train(small, rows, &l, &least), PEFT_EARG);
    l.limit = INT64_MAX;
    OK(train(small, rows, &l, &least));
}

/* What was chosen, by timings, can be taken again, and then the bits are the same. */
static void test_same_manner(void)
{
    struct asked l = { .limit = 1 };
    struct outcome first, again;
    REFUSED(train(small, rows, &l, &first), PEFT_ENOMEM);
    l.limit = told_least();
    OK(train(small, rows, &l, &first));
    l.manner = first.plan.manner;
    OK(train(small, rows, &l, &again));
    CHECK(!memcmp(first.loss, again.loss, sizeof first.loss));
    CHECK(!strcmp(first.plan.manner, again.plan.manner));
    l = (struct asked){ .limit = (int64_t)1 << 40, .manner = "4/1/1048576/1/0" };
    OK(train(small, rows, &l, &again));
    CHECK(again.plan.micro_batch == 1 && again.plan.recompute_layers == 1);
    CHECK(!strcmp(again.plan.manner, l.manner));
    static const char *const bad[] = { "", "4", "x", "5/1/0/0/0", "0/1/0/0/0", "1/-2/0/0/0",
                                       "1/1/0/0/0/", "1/1/-1/0/0", "1 1 1 1 1" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        l.manner = bad[i];
        REFUSED(train(small, rows, &l, &again), PEFT_EARG);
    }
}

/* Each manner by itself, whatever the planner would choose. */
static void test_manners(void)
{
    static const struct manner manners[] = {
        { 4, RECOMPUTE_CHEAP, 0, 0 }, { 2, (enum recompute)1, 1, 1 }, { 3, RECOMPUTE_NONE, 64, 0 },
        { 4, RECOMPUTE_LAYERS, 1, 1 } };
    struct asked none = { 0 };
    struct outcome whole;
    OK(train(small, rows, &none, &whole));
    for (size_t i = 0; i < ARRAY_LEN(manners); i++) {
        peft_dataset_opts so = { .size = sizeof(so), .max_len = 64 };
        peft_adapter_opts ao = { .size = sizeof(ao), .rank = 4 };
        peft_train_opts to = { .size = sizeof(to), .batch = 4, .epochs = 2, .lr = 1e-3f,
                               .seed = 3 };
        peft_model *m;
        peft_dataset *d;
        peft_trainer *h;
        OK(peft_model_load(small, NULL, &m));
        OK(peft_dataset_load(m, rows, &so, &d));
        OK(peft_adapter_add(m, "a", &ao));
        OK(peft_trainer_new(m, d, &to, &h));
        struct trainer *t = trainer_of(h);
        t->how = manners[i];
        t->how.parts = batcher_cut(t->batcher, manners[i].parts);
        batcher_max(t->batcher, t->epochs, &t->max);
        OK(trainer_size(t));
        struct outcome o = { 0 };
        peft_step s = { .size = sizeof(s) };
        while (!peft_train_step(h, &s)) o.loss[s.step] = s.loss, o.norm[s.step] = s.grad_norm;
        same_losses(&whole, &o, 1, 6);
        peft_trainer_free(h);
        peft_dataset_free(d);
        peft_model_free(m);
    }
}

/* A checkpoint counts in whole batches, so the limit may change. */
static void test_resume(void)
{
    struct asked l = { 0 };
    struct outcome whole, first, second;
    OK(train(small, rows, &l, &whole));
    l.limit = 1;
    REFUSED(train(small, rows, &l, &first), PEFT_ENOMEM);
    int64_t least = told_least();
    for (int way = 0; way < 2; way++) {
        struct asked a = { .limit = way ? 0 : least, .stop = 2, .to = in("check-%d", way) };
        struct asked b = { .limit = way ? least : 0, .from = a.to };
        OK(train(small, rows, &a, &first));
        OK(train(small, rows, &b, &second));
        same_losses(&whole, &first, 1, 2);
        same_losses(&whole, &second, 3, 6);
    }
}

/* -------------------------------------------------------- resident memory of a child */

static const char *program;

/* The child's own account: its exit's peak, and what it had planned. */
static int child(char **arg)
{
    struct asked l = { .limit = atoll(arg[2]), .stop = 2 };
    struct outcome o;
    snprintf(kit_dir, sizeof(kit_dir), "%s", arg[3]);
    if (train(arg[0], arg[1], &l, &o)) {
        printf("refused %lld\n", (long long)told_least());
        return 0;
    }
    printf("peak %lld plan %lld %s\n", (long long)os_rss_peak(), (long long)o.plan.peak,
           o.plan.choice);
    return 0;
}

/* The first number that a child with this limit prints; *refused by its word. */
static int64_t run_child(const char *model, int64_t limit, int *refused)
{
    char cmd[1024], line[512] = "", word[16] = "";
    long long n = 0;
    snprintf(cmd, sizeof(cmd), "%s child %s %s %lld %s", program, model, rows, (long long)limit,
             kit_dir);
    FILE *f = popen(cmd, "r");
    if (!f || !fgets(line, sizeof(line), f)) GIVE_UP();
    CHECK_EQ(pclose(f), 0);
    CHECK_EQ(sscanf(line, "%15s %lld", word, &n), 2);
    *refused = !strcmp(word, "refused");
    if (limit && !*refused) printf("limit %lld: %s", (long long)limit, line);
    return n;
}

static void test_resident(void)
{
    char model[256];
    int refused;
    snprintf(model, sizeof(model), "%s", make_big());
    int64_t free_peak = run_child(model, 0, &refused);
    int64_t least = run_child(model, 1000000, &refused);
    CHECK(refused && least > 1000000 && least < free_peak);
    for (int i = 0; i <= 3; i++) {
        int64_t limit = least + (free_peak + 8000000 - least) * i / 3;
        int64_t peak = run_child(model, limit, &refused);
        CHECK(!refused);
        CHECK(peak <= limit);
    }
    run_child(model, least - 6000000, &refused);
    CHECK(refused);
}

int main(int argc, char **argv)
{
    if (argc == 6 && !strcmp(argv[1], "child")) return child(argv + 2);
    program = argv[0];
    kit_begin();
    snprintf(small, sizeof(small), "%s", make_model("small", 0));
    snprintf(rows, sizeof(rows), "%s", make_rows(64));
    RUN(test_same_steps);
    RUN(test_same_manner);
    RUN(test_manners);
    RUN(test_resume);
#if !defined(__SANITIZE_ADDRESS__) && defined(__linux__)
    RUN(test_resident);
#endif
    kit_end();
    return TEST_END();
}
