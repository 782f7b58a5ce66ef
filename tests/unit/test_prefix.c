/* What is frozen is computed once: the same results wherever values are kept, in
 * whatever order they are asked for, and never from a file that does not fit. */
#include <math.h>
#include <signal.h>
#include <sys/wait.h>

#include "kit.h"

enum { STEPS = 12, ROWS = 52 };         /* 14 rows at a time: three epochs */

/* Paths that outlive the few of in(). */
static const char *keep(const char *path)
{
    static char kept[64][128];
    static int n;
    snprintf(kept[n % 64], sizeof(kept[0]), "%s", path);
    return kept[n++ % 64];
}

static const char *base, *rows;

/* Some of them long, so that they are several groups. */
static const char *long_rows(void)
{
    const char *path = keep(in("long.jsonl"));
    FILE *f = fopen(path, "w");
    if (!f) GIVE_UP();
    for (int r = 0; r < ROWS; r++) {
        fprintf(f, "{\"input_ids\": [3");
        for (int i = 0; i < 20 + r * 7 % 40; i++) fprintf(f, ", %d", 5 + (r * 31 + i * 17) % 200);
        fprintf(f, "]}\n");
    }
    fclose(f);
    return path;
}

/* A run, and what came of it. */
struct job {
    const char *model, *data, *unfreeze, *targets, *level, *compute, *eval;
    int threads, head, resume, packing, seed, epochs, batch;
    float dropout;
    int64_t cache, file_limit;
    const char *file;
    void (*prepare)(peft_model *m);
};
struct outcome {
    double loss[STEPS], eval[3];
    int n;
    peft_cache cache;
    peft_plan plan;
    float *w;                       /* what trained */
    int64_t n_w, calls;             /* allocations from the fifth step on */
};

static peft_model *open_model(const struct job *j)
{
    peft_load_opts o = kit_opts();
    peft_model *m = NULL;
    o.threads = j->threads ? j->threads : 1;
    o.level = j->level;
    o.compute = j->compute;
    OK(peft_model_load(j->model ? j->model : base, &o, &m));
    if (!m) GIVE_UP();
    peft_adapter_opts a = { .size = sizeof(a), .targets = j->targets, .rank = 2,
                            .dropout = j->dropout };
    peft_head_opts h = { .size = sizeof(h), .labels = 3, .names = kit_labels, .seed = 4 };
    if (j->targets) OK(peft_adapter_add(m, "default", &a));
    else OK(peft_freeze(m, "*"));
    if (j->head) OK(peft_head_add(m, &h));
    if (j->unfreeze) OK(peft_unfreeze(m, j->unfreeze));
    if (j->prepare) j->prepare(m);
    return m;
}

static void take_weights(peft_model *m, struct outcome *r)
{
    struct param *p;
    for (int64_t i = 0; (p = model_nth_param(model_of(m), i)); i++) {
        if (!p->trainable || !p->own) continue;
        r->w = realloc(r->w, (size_t)(r->n_w + param_len(p)) * 4);
        memcpy(r->w + r->n_w, p->own, (size_t)param_len(p) * 4);
        r->n_w += param_len(p);
    }
}

static struct outcome run(const struct job *j)
{
    struct outcome r = { .cache = { .size = sizeof(r.cache) }, .plan = { .size = sizeof(r.plan) } };
    peft_train_opts o = { .size = sizeof(o), .lr = 0.02f, .batch = j->batch ? j->batch : 14,
                          .epochs = j->epochs ? j->epochs : 3, .seed = (uint64_t)j->seed,
                          .packing = j->packing, .feature_cache = j->cache,
                          .cache_file = j->file, .cache_file_limit = j->file_limit };
    peft_model *m = open_model(j);
    peft_dataset *d = data(m, j->data ? j->data : rows), *e = NULL;
    peft_trainer *t = NULL;
    peft_step s = { .size = sizeof(s) };
    if (j->eval) e = data(m, j->eval);
    OK(peft_trainer_new(m, d, &o, &t));
    if (!t) GIVE_UP();
    OK(peft_trainer_plan(t, &r.plan));
    while (r.n < STEPS) {
        if (j->resume && r.n == j->resume) {
            OK(peft_trainer_save(t, in("checkpoint")));
            peft_trainer_free(t);
            OK(peft_trainer_new(m, d, &o, &t));
            OK(peft_trainer_resume(t, in("checkpoint")));
        }
        if (e && r.n % 4 == 0 && r.n / 4 < 3) {
            peft_evaluation v = { .size = sizeof(v) };
            OK(peft_eval(m, e, NULL, &v));
            r.eval[r.n / 4] = v.loss;
        }
        int64_t calls = atomic_load(&kit_mem.calls);
        int rc = peft_train_step(t, &s);
        if (rc) {
            CHECK_EQ(rc, PEFT_EEND);
            break;
        }
        if (r.n > 4) r.calls += atomic_load(&kit_mem.calls) - calls;
        r.loss[r.n++] = s.loss;
    }
    OK(peft_trainer_cache(t, &r.cache));
    take_weights(m, &r);
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_dataset_free(e);
    peft_model_free(m);
    return r;
}

static int same_bits(const struct outcome *a, const struct outcome *b)
{
    return a->n == b->n && a->n_w == b->n_w && !memcmp(a->loss, b->loss, sizeof(a->loss)) &&
           !memcmp(a->eval, b->eval, sizeof(a->eval)) &&
           !memcmp(a->w, b->w, (size_t)a->n_w * 4);
}

static void check_near(const struct outcome *a, const struct outcome *b)
{
    CHECK_EQ(a->n, b->n);
    for (int i = 0; i < a->n; i++) CHECK_NEAR(a->loss[i], b->loss[i], 1e-6 * fabs(a->loss[i]));
    for (int i = 0; i < 3; i++) CHECK_NEAR(a->eval[i], b->eval[i], 2e-6 * fabs(a->eval[i]));
    for (int64_t i = 0; i < a->n_w; i++) CHECK_NEAR(a->w[i], b->w[i], 2e-4);
}

/* The same job in another manner, freed. */
static struct outcome ran(const struct job *j)
{
    struct outcome r = run(j);
    free(r.w);
    r.w = NULL;
    return r;
}

static const struct job last_layer = { .unfreeze = "model.layers.3.*" };
static const struct job last_lora = { .targets = "model.layers.3.*" };

static const char *pairs(void)
{
    const char *path = keep(in("pairs.jsonl"));
    FILE *f = fopen(path, "w");
    if (!f) GIVE_UP();
    for (int r = 0; r < ROWS; r++) {
        fprintf(f, "{\"input_ids\": [%d", r + 2);
        for (int i = 0; i < r * 5 % 13; i++) fprintf(f, ", %d", 2 + (r * 31 + i * 17) % 90);
        fprintf(f, "], \"labels\": [%d", 90 - r);
        for (int i = 0; i < r * 7 % 9; i++) fprintf(f, ", %d", 2 + (r * 13 + i * 29) % 90);
        fprintf(f, ", 1]}\n");
    }
    fclose(f);
    return path;
}

/* --- the cut, and that it changes nothing */

static void test_cut(void)
{
    static const char t5[] = "tests/golden/tiny/t5_gated";
    const char *labels = keep(label_file()), *two = pairs();
    const struct { struct job job; const char *what; } cases[] = {
        { last_layer, "the output of 3 layers" },
        { last_lora, "the output of 3 layers" },
        { { .unfreeze = "model.layers.3.*", .packing = 1 }, "the output of 3 layers" },
        { { .unfreeze = "model.norm.weight" }, "the output of 4 layers" },
        { { .targets = "model.layers.1.*.q_proj,model.layers.3.*" }, "the output of 1 layers" },
        { { .head = 1, .data = labels }, "what the head reads" },
        { { .head = 1, .data = labels, .unfreeze = "model.layers.2.*" },
          "the output of 2 layers" },
        { { .model = t5, .data = two, .targets = "decoder.*" }, "the output of the encoder" },
        { { .model = t5, .data = two, .unfreeze = "encoder.block.1.*" },
          "the output of 1 encoder layers" },
        { { .model = "tests/golden/tiny/t5", .data = two, .unfreeze = "decoder.block.1.*" },
          "the output of the encoder and 1 layers" },
        { { .targets = "*" }, "" },
        { { .unfreeze = "*" }, "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct job j = cases[i].job;
        struct outcome kept = run(&j);
        j.cache = -1;
        struct outcome not = run(&j);
        if (strcmp(kept.cache.what, cases[i].what))
            printf("case %d: \"%s\", expected \"%s\"\n", (int)i, kept.cache.what, cases[i].what);
        CHECK(!strcmp(kept.cache.what, cases[i].what));
        CHECK(!not.cache.what[0] && !not.plan.features);
        CHECK_EQ(kept.plan.features > 0, cases[i].what[0] != 0);
        if (kept.plan.features) {
            CHECK(kept.cache.kept == kept.cache.rows && kept.cache.made == kept.cache.rows);
            CHECK(kept.cache.used >= 2 * kept.cache.rows && !kept.cache.why[0]);
            CHECK(kept.calls == 0);
        }
        check_near(&kept, &not);
        free(kept.w);
        free(not.w);
    }
}

/* In one epoch nothing is seen twice; the graph alone leaves out what is frozen. */
static void test_nothing_below(void)
{
    int64_t slab[3];
    double flops[3];
    for (int k = 0; k < 3; k++) {
        struct job j = { .model = keep(make_layers(k ? k > 1 ? "deep12" : "deep5" : "deep2",
                                                   k ? k > 1 ? 12 : 5 : 2)), .epochs = 1,
                         .unfreeze = k ? k > 1 ? "model.layers.11.*" : "model.layers.4.*"
                                       : "model.layers.1.*" };
        struct outcome one = ran(&j);
        CHECK(!strcmp(one.cache.why, "no example is seen twice") && !one.plan.features);
        slab[k] = one.plan.activations;
        j.epochs = 2;
        struct outcome more = ran(&j);
        CHECK(more.plan.activations <= slab[k] + 65536 && more.plan.features > 0);
        flops[k] = more.plan.flops_per_step;
    }
    CHECK_EQ(slab[0], slab[1]);
    CHECK_EQ(slab[0], slab[2]);
    CHECK(flops[2] < 8 * flops[0]);
}

static void test_reasons(void)
{
    static const char dropped[] = "dropout acts below what trains";
    struct job j = { .targets = "model.layers.*", .dropout = 0.1f };
    struct outcome r = ran(&j);
    CHECK(!r.cache.what[0] && !r.cache.why[0]);           /* nothing is frozen */
    peft_model *m = open_model(&j);
    peft_dataset *d = data(m, rows);
    peft_train_opts o = { .size = sizeof(o), .epochs = 2 };
    peft_cache c = { .size = sizeof(c) };
    peft_trainer *t = NULL;
    OK(peft_freeze_layers(m, 0, 2));
    OK(peft_trainer_new(m, d, &o, &t));
    OK(peft_trainer_cache(t, &c));
    CHECK(!c.what[0] && !strcmp(c.why, dropped));
    REFUSED(peft_freeze_layers(m, 3, 3), PEFT_ESTATE);    /* what is frozen stays so */
    REFUSED(peft_unfreeze(m, "*"), PEFT_ESTATE);
    REFUSED(peft_adapter_set_merged(m, "default", 1), PEFT_ESTATE);
    REFUSED(peft_adapter_set_weight(m, "default", 2), PEFT_ESTATE);
    REFUSED(peft_adapter_disable(m, "default"), PEFT_ESTATE);
    REFUSED(peft_trainer_cache(NULL, &c), PEFT_EARG);
    REFUSED(peft_trainer_cache(t, NULL), PEFT_EARG);
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* --- the same bits */

static void test_bits(void)
{
    const struct job *const jobs[] = { &last_layer, &last_lora };
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
        struct outcome first = run(jobs[i]);
        struct job others[] = { *jobs[i], *jobs[i], *jobs[i], *jobs[i], *jobs[i], *jobs[i] };
        others[0].threads = 3;
        others[1].resume = 6;
        others[2].file = keep(in("bits%d", (int)i));            /* all in memory and the file, */
        others[3].file = others[2].file;                  /* from the file, */
        others[4].cache = 60000;                           /* part of it in memory only */
        others[4].file = keep(in("part%d", (int)i));
        others[5].cache = 4;                              /* nothing in memory, and resumed */
        others[5].file = others[4].file;
        others[5].resume = 5;
        for (size_t k = 0; k < ARRAY_LEN(others); k++) {
            struct outcome r = run(&others[k]);
            CHECK(same_bits(&first, &r));
            CHECK_EQ(r.cache.kept, ROWS);
            free(r.w);
        }
        /* Without a file what is beyond the memory is computed again, in the same way. */
        struct job small = *jobs[i];
        small.cache = 60000;
        struct outcome a = run(&small), not;
        CHECK(a.cache.kept > 0 && a.cache.kept < ROWS && a.cache.memory <= 60000);
        CHECK(a.cache.made > ROWS);
        check_near(&first, &a);
        small.resume = 7;
        small.threads = 2;
        struct outcome b = run(&small);
        CHECK(same_bits(&a, &b));
        small = *jobs[i];
        small.file = keep(in("limited%d", (int)i));
        small.cache = 4;
        small.file_limit = 60000;
        not = run(&small);
        CHECK(not.cache.file <= 60000 && not.cache.kept < ROWS);
        check_near(&first, &not);
        free(first.w);
        free(a.w);
        free(b.w);
        free(not.w);
    }
}

/* --- evaluations */

static const char *other_rows(void)
{
    const char *path = keep(in("other.jsonl"));
    FILE *f = fopen(path, "w");
    if (!f) GIVE_UP();
    for (int r = 0; r < 7; r++) {
        fprintf(f, "{\"input_ids\": [3");
        for (int i = 0; i < 4 + r % 3; i++) fprintf(f, ", %d", 5 + (r * 53 + i * 29) % 200);
        fprintf(f, "]}\n");
    }
    fclose(f);
    return path;
}

static void test_eval(void)
{
    const char *labels = keep(label_file());
    const struct job jobs[] = {
        { .unfreeze = "model.layers.3.*", .eval = other_rows() },
        { .unfreeze = "model.layers.3.*", .eval = keep(rows) },       /* what trains */
        { .head = 1, .data = labels, .eval = keep(put(in("l2.jsonl"),
          "{\"text\": \"hello b\", \"label\": \"good\"}\n"
          "{\"text\": \"a\", \"label\": \"bad\"}\n")) },
    };
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
        struct job j = jobs[i];
        struct outcome kept = run(&j);
        j.cache = -1;
        struct outcome not = run(&j);
        check_near(&kept, &not);
        CHECK(kept.cache.made > 0 && kept.cache.used > kept.cache.made);
        CHECK(kept.plan.evaluation > not.plan.evaluation);
        free(kept.w);
        free(not.w);
    }
}

/* A data set that is no more is not taken for one that lies in its place. */
static void test_eval_changes(void)
{
    peft_model *m = open_model(&last_layer);
    peft_dataset *d = data(m, rows);
    peft_train_opts o = { .size = sizeof(o), .epochs = 2, .lr = 0 };
    peft_trainer *t = NULL;
    double loss[2][3];
    for (int k = 0; k < 2; k++) {
        o.feature_cache = k ? 0 : -1;
        OK(peft_trainer_new(m, d, &o, &t));
        for (int i = 0; i < 3; i++) {
            char text[64];
            peft_evaluation v = { .size = sizeof(v) };
            snprintf(text, sizeof(text), "{\"input_ids\": [3, %d, 60, 70]}\n", 20 + 7 * i);
            peft_dataset *e = data(m, put(in("e.jsonl"), text));
            OK(peft_eval(m, e, NULL, &v));
            loss[k][i] = v.loss;
            peft_dataset_free(e);
        }
        peft_trainer_free(t);
    }
    for (int i = 0; i < 3; i++) CHECK_NEAR(loss[0][i], loss[1][i], 1e-6);
    CHECK(fabs(loss[0][0] - loss[0][1]) > 1e-6);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* --- files */

static void change_embedding(peft_model *m)
{
    struct param *p = model_param(model_of(m), "model.embed_tokens.weight");
    OK(param_own(model_of(m), p));
    p->own[271 * DIM] += 0.01f;
}
static void change_low_adapter(peft_model *m)
{
    struct param *p;
    for (int64_t i = 0; (p = model_nth_param(model_of(m), i)); i++)
        if (p->adapter && p->layer == 0) p->own[0] += 0.5f;
    OK(peft_freeze_layers(m, 0, 2));
}
static void freeze_low(peft_model *m) { OK(peft_freeze_layers(m, 0, 2)); }
static void scale_low(peft_model *m)
{
    struct adapter *a = model_of(m)->adapters;
    struct param *p;
    for (int64_t i = 0; (p = model_nth_param(model_of(m), i)); i++)
        if (p->adapter && p->layer == 0 && p->own[0] == 0) p->own[0] = 0.5f;
    for (int64_t i = 0; i < a->n_sites; i++) a->sites[i].scale *= 2;
    OK(peft_freeze_layers(m, 0, 2));
}
static void nudge_low(peft_model *m)
{
    struct param *p;
    for (int64_t i = 0; (p = model_nth_param(model_of(m), i)); i++)
        if (p->adapter && p->layer == 0 && p->own[0] == 0) p->own[0] = 0.5f;
    OK(peft_freeze_layers(m, 0, 2));
}
static void change_upper(peft_model *m)
{
    struct param *p = model_param(model_of(m), "model.layers.3.mlp.up_proj.weight");
    OK(param_own(model_of(m), p));
    p->own[3] += 0.01f;
}

static const char *changed_rows(void)
{
    struct bytes b = get(rows);
    char *x = strstr(b.at, "]}");
    for (; x[-1] >= '0' && x[-1] <= '9'; x--) {}
    x[0] = x[0] == '1' ? '2' : '1';
    const char *path = keep(put(in("changed.jsonl"), b.at));
    free(b.at);
    return path;
}

/* Whatever the values depend on makes a file another one. */
static void test_stale(void)
{
    static const struct job adapted = { .targets = "model.layers.*", .prepare = freeze_low };
    static const struct job nudged = { .targets = "model.layers.*", .prepare = nudge_low };
    const struct { struct job from, to; int64_t made; /* -1: one group */ } cases[] = {
        { last_layer, last_layer, 0 },
        { last_layer, { .unfreeze = "model.layers.3.*", .seed = 9, .batch = 11 }, 0 },
        { last_layer, { .unfreeze = "model.layers.3.*", .prepare = change_upper }, 0 },
        { last_layer, last_lora, 0 },
        { last_layer, { .unfreeze = "model.layers.3.*", .prepare = change_embedding }, ROWS },
        { last_layer, { .unfreeze = "model.layers.2.*" }, ROWS },
        { last_layer, { .unfreeze = "model.layers.3.*", .level = "c" }, ROWS },
        { last_layer, { .unfreeze = "model.layers.3.*", .compute = "bf16" }, ROWS },
        { last_layer, { .unfreeze = "model.layers.3.*", .data = changed_rows() }, -1 },
        { adapted, adapted, 0 },
        { adapted, { .targets = "model.layers.*", .prepare = change_low_adapter }, ROWS },
        { nudged, { .targets = "model.layers.*", .prepare = scale_low }, ROWS },
        { nudged, nudged, 0 },
    };
    peft_system sys = { .size = sizeof(sys) };
    OK(peft_system_info(&sys));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct job from = cases[i].from, to = cases[i].to;
        peft_load_opts o = kit_opts();
        peft_model *m = NULL;
        o.compute = to.compute;
        if (to.compute && peft_model_load(base, &o, &m)) continue;     /* no such processor */
        peft_model_free(m);
        if (to.level && !strcmp(sys.level, to.level)) continue;
        from.file = to.file = keep(in("stale%d", (int)i));
        struct outcome a = ran(&from), b = ran(&to), c = run(&to);
        CHECK_EQ(a.cache.made, ROWS);
        int64_t made = b.cache.made, part = made > 0 && made < ROWS;
        if (cases[i].made < 0 ? !part : made != cases[i].made) printf("case %d\n", (int)i);
        CHECK(cases[i].made < 0 ? part : made == cases[i].made);
        CHECK_EQ(c.cache.made, 0);
        to.file = NULL;
        struct outcome d = run(&to);
        CHECK(same_bits(&c, &d));
        free(c.w);
        free(d.w);
    }
}

/* Rows that came to the data are computed, the others stay in a new file. */
static void test_partial(void)
{
    struct job j = last_layer;
    struct bytes b = get(rows);
    char text[16384], *half = b.at;
    for (int i = 0; i < 32; i++) half = strchr(half, '\n') + 1;
    snprintf(text, sizeof(text), "%.*s", (int)(half - b.at), b.at);
    j.data = keep(put(in("half.jsonl"), text));
    j.file = keep(in("partial"));
    j.batch = 1;
    ran(&j);
    j.data = NULL;
    struct outcome a = run(&j);
    CHECK(a.cache.made > 8 && a.cache.made < ROWS);       /* the group at the seam anew */
    j.file = NULL;
    struct outcome c = run(&j);
    CHECK(same_bits(&a, &c));
    free(b.at);
    free(a.w);
    free(c.w);
}

/* Cut short, or with a byte changed: computed again where it matters, and healed. */
static void test_damage(void)
{
    struct job j = last_layer;
    j.file = keep(in("whole"));
    struct outcome whole = run(&j);
    struct bytes b = get(j.file);
    int64_t made = 0;
    j.file = keep(in("damaged"));
    CHECK_EQ(whole.cache.file, (int64_t)b.n);
    for (size_t k = 0; k < 40; k++) {
        size_t n = k < 20 ? b.n * k / 20 : b.n, at = k < 20 ? 0 : (b.n - 1) * (k - 20) / 19;
        if (k == 1) n = 5;
        if (k == 2) n = 47;
        if (k >= 20 && k < 30) at = 8 + (k - 20) * 12;      /* header and first record */
        char was = b.at[at];
        if (k >= 20) b.at[at] ^= 0x41;
        put_bytes(j.file, b.at, n);
        b.at[at] = was;
        j.cache = k % 2 ? 4 : 0;
        struct outcome r = run(&j), again = ran(&j);
        CHECK(same_bits(&whole, &r));
        CHECK_EQ(again.cache.made, 0);
        made += r.cache.made;
        free(r.w);
    }
    CHECK(made > 5 * ROWS && made < 36 * ROWS);
    /* A record that says it has very many rows. */
    for (int i = 0; i < 8; i++) {
        char was = b.at[48 + 40 + i];
        b.at[48 + 40 + i] = (char)0xff;
        put_bytes(j.file, b.at, b.n);
        b.at[48 + 40 + i] = was;
        struct outcome r = run(&j);
        CHECK(same_bits(&whole, &r));
        free(r.w);
    }
    free(b.at);
    free(whole.w);
}

static void test_foreign(void)
{
    peft_model *m = open_model(&last_layer);
    peft_dataset *d = data(m, rows);
    peft_train_opts o = { .size = sizeof(o), .epochs = 2 };
    peft_trainer *t = NULL;
    const char *mine = keep(put(in("letter.txt"), "Dear reader"));
    o.cache_file = mine;
    OK(peft_trainer_new(m, d, &o, &t));
    REFUSED(peft_train_step(t, NULL), PEFT_EFORMAT);
    REFUSED(peft_train_step(t, NULL), PEFT_EFORMAT);
    peft_trainer_free(t);
    struct bytes b = get(mine);
    CHECK(b.n == 11);
    free(b.at);
    o.cache_file = kit_dir;
    OK(peft_trainer_new(m, d, &o, &t));
    REFUSED(peft_train_step(t, NULL), PEFT_EARG);
    peft_trainer_free(t);
    o.cache_file = in("no/such/folder");                  /* a warning, and no file */
    OK(peft_trainer_new(m, d, &o, &t));
    for (int i = 0; i < 4; i++) OK(peft_train_step(t, NULL));
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* Two at once, and one that is killed: the file stays one that can be used. */
static void test_processes(void)
{
    struct job j = last_layer;
    struct outcome alone = run(&j);
    int bad = 0;
    j.file = keep(in("shared"));
    for (int round = 0; round < 6; round++) {
        pid_t child[3];
        for (int c = 0; c < 3; c++) {
            if ((child[c] = fork())) continue;
            struct outcome r = run(&j);
            _exit(!same_bits(&alone, &r));
        }
        usleep((useconds_t)(round * 1500));
        kill(child[2], SIGKILL);
        for (int c = 0; c < 3; c++) {
            int status;
            waitpid(child[c], &status, 0);
            bad += c < 2 && status;
        }
        struct outcome r = run(&j);
        CHECK(same_bits(&alone, &r));
        free(r.w);
        if (round % 2) remove(j.file);
    }
    CHECK_EQ(bad, 0);
    free(alone.w);
}

/* A step that is cancelled or cut in slices, and weights that others changed. */
static void test_steps(void)
{
    struct outcome whole = run(&last_layer);
    peft_model *m = open_model(&last_layer);
    peft_dataset *d = data(m, rows);
    peft_train_opts o = { .size = sizeof(o), .lr = 0.02f, .batch = 14, .epochs = 3 };
    peft_trainer *t = NULL;
    peft_step s = { .size = sizeof(s) };
    peft_cache c = { .size = sizeof(c) };
    OK(peft_trainer_new(m, d, &o, &t));
    for (int i = 0; i < STEPS; i++) {
        OK(peft_train_run_for(t, 0, &s));
        if (i == 5) OK(peft_trainer_cancel(t));
        peft_evaluation v = { .size = sizeof(v) };
        for (int k = 0; s.more && i != 5; k++) {
            if (k % 40 == 7) OK(peft_eval(m, d, NULL, &v));       /* within the step */
            OK(peft_train_run_for(t, 0, &s));
        }
        if (i == 3) OK(peft_eval(m, d, NULL, &v));
        if (i == 5) {
            REFUSED(peft_train_run_for(t, 0, &s), PEFT_ECANCELLED);
            OK(peft_train_step(t, &s));
        }
        CHECK(s.loss == whole.loss[i]);
    }
    OK(peft_trainer_cache(t, &c));
    CHECK_EQ(c.made, ROWS);
    peft_trainer_free(t);
    OK(peft_trainer_new(m, d, &o, &t));
    for (int i = 0; i < 5; i++) OK(peft_train_step(t, &s));
    change_embedding(m);
    model_of(m)->edits++;
    for (int i = 5; i < 9; i++) OK(peft_train_step(t, &s));
    OK(peft_trainer_cache(t, &c));
    CHECK(c.made > ROWS + ROWS / 2);
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
    free(whole.w);
}

int main(void)
{
    kit_begin();
    base = keep(make_layers("base", 4));
    rows = long_rows();
    copy("tests/golden/data/chat/tokenizer.json", in("base/tokenizer.json"));
    copy("tests/golden/data/chat/tokenizer_config.json", in("base/tokenizer_config.json"));
    RUN(test_cut);
    RUN(test_nothing_below);
    RUN(test_reasons);
    RUN(test_bits);
    RUN(test_eval);
    RUN(test_eval_changes);
    RUN(test_stale);
    RUN(test_partial);
    RUN(test_damage);
    RUN(test_foreign);
    RUN(test_processes);
    RUN(test_steps);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
    kit_end();
    return TEST_END();
}
