/* A search for settings: its space, the same trials again, halving by hand, going on after a
 * cancellation and after a file was cut, the budget, and a model that is as it was. */
#define kit_end judge_end                /* the kit's; the tests have one of that name */
#include "judge/tune.h"
#undef kit_end
#include "kit.h"
#include "peft_judge.h"

/* --- the space */

static void test_space(void)
{
    struct space s;
    OK(space_parse("lr=1e-5..1e-3,rank=4|8|16|32,targets=all|q_proj,v_proj|k_proj+o_proj,"
                   "epochs=1..5,weight_decay=0.1", &s));
    CHECK_EQ(s.n, 5);
    CHECK_EQ(s.axis[1].n, 4);
    CHECK_EQ(s.axis[2].n, 3);
    CHECK(!strcmp(s.axis[2].choice[1], "q_proj,v_proj"));
    CHECK(!strcmp(s.axis[4].choice[0], "0.1"));
    peft_trial a, b;
    int low = 0, epochs[6] = { 0 };
    for (int i = 0; i < 100; i++) {
        a = b = (peft_trial){ .size = sizeof(a) };
        space_draw(&s, 3, i, &a);
        space_draw(&s, 3, i, &b);
        CHECK(!memcmp(&a, &b, sizeof(a)));
        double lr = trial_number(&a, "lr", 0);
        CHECK(lr >= 1e-5 && lr <= 1e-3);
        low += lr < 1e-4;
        int e = (int)trial_number(&a, "epochs", 0);
        CHECK(e >= 1 && e <= 5);
        epochs[e % 6]++;
    }
    CHECK(low >= 45 && low <= 55);                /* by the logarithm, evenly */
    for (int e = 1; e <= 5; e++) CHECK(epochs[e] >= 15 && epochs[e] <= 25);
    space_draw(&s, 3, 0, &a);                     /* the usual one */
    CHECK_NEAR(trial_number(&a, "lr", 0), 1e-3, 1e-12);
    CHECK_NEAR(trial_number(&a, "rank", 0), 16, 0);
    CHECK(!strcmp(trial_text(&a, "targets"), "all"));
    space_draw(&s, 3, 1, &a);
    space_draw(&s, 4, 1, &b);
    CHECK(memcmp(&a, &b, sizeof(a)));
}

static void test_bad_space(void)
{
    static const char *const bad[] = {
        "", "lr", "lr=", "lr=x", "lr=1..", "lr=2..1", "rank=1.5", "rank=0", "speed=3", "lr=1e-4|",
        "lr=1e-4,lr=1e-3", "epochs=1..1", "targets=", "=", "lr=nan", "lr=1e400", ",",
        "rank=1|2|3|4|5|6|7|8|9|10|11|12|13|14|15|16|17"
    };
    struct space s;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        error_clear();
        CHECK_EQ(space_parse(bad[i], &s), PEFT_EARG);
        CHECK(strstr(error_message(), "search"));
    }
}

/* --- searches on a tiny model */

static char base[64];
struct bench { peft_model *m; peft_dataset *d, *e; };

static struct bench bench_of(int labels)
{
    struct bench b = { .m = load(base) };
    peft_head_opts h = { .size = sizeof(h), .labels = 3, .names = kit_labels };
    if (labels) OK(peft_head_add(b.m, &h));
    b.d = data(b.m, labels ? label_file() : rows_file());
    OK(peft_dataset_split(b.d, 0.3, 1, &b.e));
    return b;
}

static void bench_end(struct bench *b)
{
    peft_dataset_free(b->e);
    peft_dataset_free(b->d);
    peft_model_free(b->m);
}

struct seen { int runs, stop_after; peft_trial trial[64]; };

static int32_t on_trial(void *ctx, const peft_trial *t)
{
    struct seen *s = ctx;
    if (s->runs < 64) s->trial[s->runs] = *t;
    s->runs++;
    return s->stop_after && s->runs >= s->stop_after;
}

static int32_t tune(struct bench *b, const char *dir, const char *method, int trials,
                    struct seen *seen, peft_tuned *out)
{
    static const peft_train_opts train = { .size = sizeof(train), .batch = 2 };
    peft_tune_opts o = { .size = sizeof(o), .method = method, .trials = trials, .dir = dir,
                         .train = &train, .on_trial = on_trial, .ctx = seen, .last = 1,
                         .search = "lr=1e-3..1e-1,epochs=4..9" };
    *out = (peft_tuned){ .size = sizeof(*out) };
    return peft_tune(b->m, b->d, b->e, &o, out);
}

static void read_all(peft_model *m, float *to)
{
    peft_param p = { .size = sizeof(p) };
    int64_t at = 0;
    for (int32_t i = 0; !peft_model_param(m, i, &p) && at < 30000; i++)
        at += peft_model_read(m, p.name, to + at, 60000 - at);
    to[at] = (float)info_of(m).trainable;
}

/* The usual settings whole, 8 trials, the best 3 of them, the best of those; and the model is
 * as before. */
static void check_search(const char *method, int labels)
{
    static float before[60000], after[60000];
    struct bench b = bench_of(labels);
    struct seen seen = { 0 }, again = { 0 }, part = { .stop_after = 5 };
    peft_tuned out, same;
    read_all(b.m, before);
    OK(tune(&b, in("%s", method), method, 9, &seen, &out));
    read_all(b.m, after);
    CHECK(!memcmp(before, after, sizeof(before)));
    CHECK_EQ(info_of(b.m).n_adapters, 0);
    CHECK_EQ(seen.runs, 13);
    CHECK_EQ(out.trials, 9);
    CHECK(out.whole);
    for (int i = 0; i < 13; i++) {
        int rung = !i || i == 12 ? 2 : i < 9 ? 0 : 1;
        CHECK(!i == !seen.trial[i].trial);
        CHECK_EQ(seen.trial[i].rung, rung);
        CHECK(seen.trial[i].steps <= 9 * 5);
        CHECK(rung == 2 ? seen.trial[i].share >= 1 : seen.trial[i].share < 1);
    }
    double worst = 0;                             /* of those that went on */
    for (int i = 9; i < 12; i++) worst = fmax(worst, seen.trial[seen.trial[i].trial].loss);
    CHECK(seen.trial[0].loss >= out.best.loss);
    for (int i = 1; i < 9; i++) {
        int on = 0;
        for (int k = 9; k < 12; k++) on |= seen.trial[k].trial == i;
        CHECK(on || seen.trial[i].loss >= worst);
        CHECK(seen.trial[i].loss >= out.best.loss);
    }
    CHECK(labels || out.best.loss < out.first_loss);
    CHECK_EQ(access(in("%s/best/%s.safetensors", method, !strcmp(method, "lora") ? "adapter_model"
                                                                                 : "model"), 0), 0);
    OK(tune(&b, in("%s", method), method, 9, &again, &same));         /* nothing is left to do */
    CHECK_EQ(again.runs, 13);
    CHECK(again.trial[12].before && !(same.best.loss != out.best.loss));
    char parted[64];
    snprintf(parted, sizeof(parted), "%s-parts", method);
    CHECK_EQ(tune(&b, in("%s", parted), method, 9, &part, &same), PEFT_ECANCELLED);
    CHECK_EQ(part.runs, 5);
    again = (struct seen){ 0 };
    OK(tune(&b, in("%s", parted), method, 9, &again, &same));
    CHECK(again.trial[4].before && !again.trial[5].before);
    CHECK(!(same.best.loss != out.best.loss) && same.best.trial == out.best.trial);
    for (int i = 0; i < 13; i++) CHECK(!(again.trial[i].loss != seen.trial[i].loss));
    bench_end(&b);
}

static void test_lora(void) { check_search("lora", 0); }
static void test_full(void) { check_search("full", 0); }
static void test_head(void) { check_search("head", 1); }
static void test_last(void) { check_search("last", 0); }

/* What lies in best is the adapter of the best evaluation, and training makes it again. */
static void test_best(void)
{
    struct bench b = bench_of(0);
    struct seen seen = { 0 };
    peft_tuned out;
    peft_evaluation e = { .size = sizeof(e) };
    OK(tune(&b, in("again"), "lora", 3, &seen, &out));
    OK(peft_adapter_load(b.m, "best", in("again/best")));
    OK(peft_eval(b.m, b.e, NULL, &e));
    CHECK_NEAR(e.loss, out.best.loss, 1e-6);
    REFUSED(tune(&b, in("other"), "lora", 3, &seen, &out), PEFT_ESTATE);   /* it has an adapter */
    bench_end(&b);
}

static void test_file(void)
{
    struct bench b = bench_of(0);
    struct seen seen = { 0 };
    peft_tuned out;
    OK(tune(&b, in("cut"), "lora", 3, &seen, &out));
    struct bytes all = get(in("cut/trials.jsonl"));
    put_bytes(in("cut/trials.jsonl"), all.at, all.n - 20);       /* as if the disk had lost it */
    free(all.at);
    seen = (struct seen){ 0 };
    OK(tune(&b, in("cut"), "lora", 3, &seen, &out));
    CHECK_EQ(seen.runs, 4);
    CHECK(seen.trial[2].before && !seen.trial[3].before);
    REFUSED(tune(&b, in("cut"), "lora", 4, &seen, &out), PEFT_ESTATE);
    CHECK(strstr(peft_errmsg(), "another search"));
    mkdir(in("bad"), 0777);
    put(in("bad/trials.jsonl"), "{\"search\": 1}\n");
    REFUSED(tune(&b, in("bad"), "lora", 3, &seen, &out), PEFT_ESTATE);
    bench_end(&b);
}

/* A budget of no time at all still has one result; trials that diverge are no winners. */
static void test_budget(void)
{
    struct bench b = bench_of(0);
    peft_train_opts train = { .size = sizeof(train), .batch = 2 };
    peft_tune_opts o = { .size = sizeof(o), .train = &train, .dir = in("none"), .seconds = 1e-3,
                         .search = "lr=1e-3..1e-1,epochs=200" };
    peft_tuned out = { .size = sizeof(out) };
    OK(peft_tune(b.m, b.d, b.e, &o, &out));
    CHECK(!out.whole && out.runs == 1 && out.best.best_step > 0);
    o.dir = in("time");
    o.seconds = 1.5;
    OK(peft_tune(b.m, b.d, b.e, &o, &out));
    CHECK(out.seconds <= 6);                      /* the last step may be a slow one */
    CHECK(out.runs >= 1);
    o.dir = in("wild");
    o.seconds = 0;
    o.trials = 3;
    o.search = "lr=1e-2|300|500,epochs=8";
    OK(peft_tune(b.m, b.d, b.e, &o, &out));
    CHECK(out.lr < 1);
    bench_end(&b);
}

static void test_refused(void)
{
    struct bench b = bench_of(0);
    peft_tuned out = { .size = sizeof(out) };
    peft_tune_opts o = { .size = sizeof(o), .dir = in("refused") };
    REFUSED(peft_tune(b.m, b.d, NULL, &o, &out), PEFT_EARG);
    REFUSED(peft_tune(b.m, b.d, b.e, NULL, &out), PEFT_EARG);
    o.method = "lorra";
    REFUSED(peft_tune(b.m, b.d, b.e, &o, &out), PEFT_EARG);
    o.method = NULL;
    o.search = "targets=all|nothing_here";
    CHECK(peft_tune(b.m, b.d, b.e, &o, &out) < 0);
    o.search = NULL;
    o.metric = "beauty";
    REFUSED(peft_tune(b.m, b.d, b.e, &o, &out), PEFT_ENOTFOUND);
    CHECK_EQ(info_of(b.m).n_adapters, 0);
    bench_end(&b);
}

int main(void)
{
    kit_begin();
    RUN(test_space);
    RUN(test_bad_space);
    snprintf(base, sizeof(base), "%s", make_model("base", 1));
    RUN(test_lora);
    RUN(test_full);
    RUN(test_head);
    RUN(test_last);
    RUN(test_best);
    RUN(test_file);
    RUN(test_budget);
    RUN(test_refused);
    CHECK_EQ(kit_mem.live, 0);
    kit_end();
    return TEST_END();
}
