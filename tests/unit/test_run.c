/* The public API as include/peft.h describes it: data, training, evaluation,
 * and what may happen at the same time. */
#include <pthread.h>
#include <time.h>

#include "kit.h"

static char base[64];

/* --- data */

static void test_dataset(void)
{
    peft_model *m = load(base);
    peft_dataset *d = data(m, rows_file()), *part = NULL, *more = NULL;
    peft_dataset_stats s = { .size = sizeof(s) };
    peft_row r = { .size = sizeof(r) };
    OK(peft_dataset_info(d, &s));
    CHECK_STR(s.schema, "input_ids");
    CHECK(s.rows == 10 && s.min_len == 4 && s.max_len == 7 && s.labels == 0);
    CHECK_EQ(s.tokens, 4 * 3 + 5 * 3 + 6 * 2 + 7 * 2);
    CHECK_EQ(s.trained_tokens, s.tokens - 10);          /* nothing comes before the first */
    CHECK_EQ(s.mean_len, s.tokens / 10);
    OK(peft_dataset_row(d, 2, &r));
    CHECK(r.line == 3 && r.n == 6 && r.ids[0] == 3 && r.labels[0] == -100 && r.label == -1);
    CHECK_EQ(r.labels[1], r.ids[1]);
    OK(peft_dataset_split(d, 0.25, 7, &part));
    peft_dataset_info(d, &s);
    CHECK(s.rows == 7 || s.rows == 8);
    int64_t left = s.rows;
    peft_dataset_info(part, &s);
    CHECK_EQ(s.rows + left, 10);
    uint32_t seen = 0;
    for (int64_t i = 0; i < left; i++) seen |= (peft_dataset_row(d, i, &r), 1u << r.line);
    for (int64_t i = 0; i < s.rows; i++) {
        OK(peft_dataset_row(part, i, &r));
        CHECK(!(seen >> r.line & 1));
        seen |= 1u << r.line;
    }
    CHECK_EQ(seen, 0x7fe);
    OK(peft_dataset_split(part, 0.01, 1, &more));       /* one row at least */
    peft_dataset_info(more, &s);
    CHECK_EQ(s.rows, 1);
    peft_dataset *never = part;
    REFUSED(peft_dataset_split(more, 0.5, 1, &never), PEFT_EARG);
    CHECK(!never);
    peft_dataset_free(d);                               /* in any order */
    peft_dataset_free(part);
    OK(peft_dataset_row(more, 0, &r));
    peft_dataset_free(more);
    peft_model_free(m);
}

static double loss_of(peft_model *m, const peft_dataset *d)
{
    peft_evaluation e = { .size = sizeof(e) };
    OK(peft_eval(m, d, NULL, &e));
    return e.loss * (double)e.tokens;
}

/* Rows in memory are those of a file with the same bytes. */
static void test_memory_rows(void)
{
    static const char csv[] = "text\n\"hello, you\"\nuser\n";
    peft_model *m = load(base);
    peft_dataset *d = data(m, rows_file()), *e = NULL;
    peft_row a = { .size = sizeof(a) }, b = a;
    struct bytes file = get(rows_file());
    peft_dataset_opts o = { .size = sizeof(o), .text = file.at, .text_n = file.n };
    OK(peft_dataset_load(m, "any.jsonl", &o, &e));
    for (int i = 0; i < 10; i++) {
        OK(peft_dataset_row(d, i, &a));
        OK(peft_dataset_row(e, i, &b));
        CHECK(a.n == b.n && a.line == b.line && !memcmp(a.ids, b.ids, (size_t)a.n * 4));
    }
    peft_dataset_free(e);
    o.text = csv;
    o.text_n = sizeof(csv) - 1;
    OK(peft_dataset_load(m, "any.csv", &o, &e));
    OK(peft_dataset_row(e, 1, &a));
    CHECK_EQ(a.line, 3);
    peft_dataset_free(e);
    o.text_n = 7;
    REFUSED(peft_dataset_load(m, "any.csv", &o, &e), PEFT_EFORMAT);
    o.text = "{\"text\": 5}";
    o.text_n = strlen(o.text);
    REFUSED(peft_dataset_load(m, "name.jsonl", &o, &e), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "name.jsonl line 1"));
    free(file.at);
    peft_dataset_free(d);
    peft_model_free(m);
}

static void test_mix(void)
{
    peft_model *m = load(base), *n = load(base);
    peft_dataset *d = data(m, rows_file()), *old = data(m, rows_file());
    peft_dataset *far = data(n, rows_file());
    peft_dataset *all = NULL, *again = NULL, *half = NULL, *never = NULL;
    peft_dataset_stats s = { .size = sizeof(s) };
    peft_row r = { .size = sizeof(r) }, q = r;
    OK(peft_dataset_mix(d, old, 4, 7, &all));
    OK(peft_dataset_mix(d, old, 4, 7, &again));
    OK(peft_dataset_info(all, &s));
    CHECK_EQ(s.rows, 14);
    uint32_t seen = 0;
    for (int i = 0; i < 14; i++) {
        OK(peft_dataset_row(all, i, &r));
        OK(peft_dataset_row(again, i, &q));
        CHECK(r.line == q.line && (i >= 10 || r.line == i + 1));
        CHECK(i < 10 || !(seen >> r.line & 1));
        if (i >= 10) seen |= 1u << r.line;
    }
    REFUSED(peft_dataset_mix(d, old, 11, 7, &never), PEFT_EARG);
    REFUSED(peft_dataset_mix(d, old, -1, 7, &never), PEFT_EARG);
    REFUSED(peft_dataset_mix(d, far, 1, 7, &never), PEFT_EARG);
    REFUSED(peft_dataset_mix(all, old, 1, 7, &never), PEFT_ESTATE);
    CHECK(!never);
    OK(peft_dataset_split(all, 0.5, 1, &half));
    peft_dataset_free(d);                               /* in any order */
    peft_dataset_free(again);
    peft_dataset_free(old);
    peft_dataset_free(all);
    OK(peft_dataset_row(half, 0, &r));
    CHECK(r.n >= 4);
    peft_dataset_free(half);
    peft_dataset_free(far);
    peft_model_free(m);
    peft_model_free(n);
}

static void test_subset(void)
{
    static const int64_t rows[] = { 7, 2, 2, 0 }, again[] = { 3, 1 }, none[] = { 1, 10 };
    peft_model *m = load(base);
    peft_dataset *d = data(m, rows_file()), *part = NULL, *more = NULL, *one = NULL;
    peft_dataset_stats s = { .size = sizeof(s) };
    peft_row r = { .size = sizeof(r) };
    double sum = 0;
    OK(peft_dataset_subset(d, rows, 4, &part));
    OK(peft_dataset_subset(part, again, 2, &more));     /* of a subset */
    for (int64_t i = 0; i < 4; i++) {
        OK(peft_dataset_row(part, i, &r));
        CHECK_EQ(r.line, rows[i] + 1);
        OK(peft_dataset_subset(d, rows + i, 1, &one));
        sum += loss_of(m, one);
        peft_dataset_free(one);
    }
    CHECK_NEAR(loss_of(m, part), sum, 1e-4);
    peft_dataset_info(part, &s);
    CHECK(s.rows == 4 && s.min_len == 4 && s.max_len == 7);
    CHECK_STR(s.schema, "input_ids");
    peft_dataset_info(d, &s);
    CHECK_EQ(s.rows, 10);
    REFUSED(peft_dataset_subset(d, none, 2, &one), PEFT_EARG);
    CHECK(!one);
    REFUSED(peft_dataset_subset(d, rows, 0, &one), PEFT_EARG);
    REFUSED(peft_dataset_subset(part, rows, 1, &one), PEFT_EARG);
    peft_train_opts o = { .size = sizeof(o), .batch = 2, .steps = 2 };
    peft_trainer *t = NULL;
    OK(peft_trainer_new(m, part, &o, &t));
    OK(peft_dataset_subset(d, rows, 1, &one));          /* a trainer alive is no hindrance */
    OK(peft_train_step(t, NULL));
    OK(peft_train_step(t, NULL));
    peft_trainer_free(t);
    peft_dataset_free(one);
    peft_dataset_free(d);                               /* in any order */
    peft_dataset_free(part);
    OK(peft_dataset_row(more, 1, &r));
    CHECK(r.line == 3 && r.n == 6);
    peft_dataset_free(more);
    peft_model_free(m);
}

static void test_dataset_options(void)
{
    peft_model *m = load(base);
    peft_dataset *d = NULL;
    peft_dataset_stats s = { .size = sizeof(s) }, p = { .size = sizeof(p) };
    peft_dataset_opts o = { .size = sizeof(o), .train_on_prompt = 1 };
    OK(peft_dataset_load(m, chat_file(), NULL, &d));
    OK(peft_dataset_info(d, &s));
    CHECK_STR(s.schema, "messages");
    peft_dataset_free(d);
    OK(peft_dataset_load(m, in("chat.jsonl"), &o, &d));
    OK(peft_dataset_info(d, &p));
    CHECK(p.tokens == s.tokens && p.trained_tokens > s.trained_tokens);
    peft_dataset_free(d);
    o = (peft_dataset_opts){ .size = sizeof(o), .system = "be kind" };
    OK(peft_dataset_load(m, in("chat.jsonl"), &o, &d));
    OK(peft_dataset_info(d, &p));
    CHECK(p.tokens > s.tokens && p.trained_tokens == s.trained_tokens);
    peft_dataset_free(d);
    o = (peft_dataset_opts){ .size = sizeof(o), .limit = 1 };
    OK(peft_dataset_load(m, in("chat.jsonl"), &o, &d));
    OK(peft_dataset_info(d, &p));
    CHECK_EQ(p.rows, 1);
    peft_dataset_free(d);
    o = (peft_dataset_opts){ .size = sizeof(o), .max_len = 5 };
    OK(peft_dataset_load(m, rows_file(), &o, &d));
    OK(peft_dataset_info(d, &p));
    CHECK(p.max_len == 5 && p.truncated == 4);
    peft_dataset_free(d);
    /* Names get ids in sorted order, or the head's. */
    OK(peft_dataset_load(m, label_file(), NULL, &d));
    OK(peft_dataset_info(d, &p));
    CHECK(p.labels == 3 && !strcmp(p.schema, "text-label"));
    CHECK_STR(peft_dataset_label(d, 0), "bad");
    CHECK_STR(peft_dataset_label(d, 2), "so-so");
    CHECK(!peft_dataset_label(d, 3));
    peft_row r = { .size = sizeof(r) };
    OK(peft_dataset_row(d, 1, &r));
    CHECK(r.label == 1 && !r.labels);
    peft_dataset_free(d);
    static const char *const turned[] = { "so-so", "bad", "good" };
    peft_head_opts h = { .size = sizeof(h), .labels = 3, .names = turned };
    OK(peft_head_add(m, &h));
    OK(peft_dataset_load(m, in("labels.jsonl"), NULL, &d));
    OK(peft_dataset_row(d, 1, &r));
    CHECK_EQ(r.label, 2);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* --- training */

static peft_train_opts train_opts(void)
{
    peft_train_opts o = { .size = sizeof(o), .batch = 2, .steps = 8, .lr = 0.01f, .seed = 3 };
    return o;
}

static void test_training(void)
{
    peft_model *m = load(base);
    peft_dataset *d = data(m, rows_file());
    peft_trainer *t = NULL;
    peft_train_opts o = train_opts();
    peft_plan p = { .size = sizeof(p) };
    peft_step s = { .size = sizeof(s) };
    OK(peft_freeze(m, "*"));
    REFUSED(peft_trainer_new(m, d, &o, &t), PEFT_ESTATE);
    OK(peft_adapter_add(m, "a", NULL));
    OK(peft_trainer_new(m, d, &o, &t));
    OK(peft_trainer_plan(t, &p));
    CHECK(p.steps == 8 && p.trainable_params == info_of(m).trainable);
    CHECK_EQ(p.total_params, info_of(m).params_total);
    CHECK(p.gradients >= p.trainable && p.optimizer == 2 * p.gradients && p.activations > 0);
    CHECK(p.peak >= p.weights + p.trainable + p.gradients + p.optimizer + p.activations);
    CHECK(p.flops_per_step > 0 && p.tokens_per_step > 0);
    double first = 0;
    for (int64_t i = 1; i <= 8; i++) {
        OK(peft_train_step(t, &s));
        CHECK(s.step == i && s.steps == 8 && s.more == 0 && s.tokens <= p.tokens_per_step);
        CHECK(s.loss > 0 && s.grad_norm > 0 && s.trained_tokens > 0 && s.tokens_seen >= s.tokens);
        if (i == 1) first = s.loss;
    }
    CHECK_NEAR(s.epoch, 8.0 / 5, 1e-9);
    CHECK(s.loss < first);
    REFUSED(peft_train_step(t, &s), PEFT_EEND);
    REFUSED(peft_train_run_for(t, 1000, &s), PEFT_EEND);
    peft_trainer_free(t);
    /* Epochs and steps together: what ends first. */
    o.epochs = 1;
    OK(peft_trainer_new(m, d, &o, &t));
    OK(peft_trainer_plan(t, &p));
    CHECK_EQ(p.steps, 5);
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
}

static void test_profile(void)
{
    peft_model *m = load(base);
    peft_dataset *d = data(m, rows_file());
    peft_trainer *t = NULL;
    peft_train_opts o = train_opts();
    peft_plan plan = { .size = sizeof(plan) };
    peft_work w = { .size = sizeof(w) };
    peft_peaks p = { .size = sizeof(p) };
    OK(peft_adapter_add(m, "a", NULL));
    OK(peft_trainer_new(m, d, &o, &t));
    REFUSED(peft_trainer_work(t, 0, &w), PEFT_ESTATE);
    OK(peft_trainer_plan(t, &plan));
    OK(peft_trainer_profile(t, 1));
    REFUSED(peft_trainer_work(t, 0, &w), PEFT_EEND);
    OK(peft_train_step(t, NULL));
    double flops = 0, before = INFINITY;
    int32_t n = 0, attention = 0, update = 0;
    for (; !peft_trainer_work(t, n, &w); n++) {
        CHECK(w.calls > 0 && w.seconds >= 0 && w.seconds <= before && w.flops >= 0);
        before = w.seconds;
        flops += w.flops;
        attention += !strcmp(w.name, "attention");
        update += !strcmp(w.name, "clip and optimizer") && w.bytes > 0;
    }
    CHECK(attention == 2 && update == 1 && flops > 0 && flops <= plan.flops_per_step);
    REFUSED(peft_trainer_work(t, n, &w), PEFT_EEND);
    OK(peft_trainer_profile(t, 0));
    REFUSED(peft_trainer_work(t, 0, &w), PEFT_ESTATE);
    OK(peft_train_run_for(t, 0, &(peft_step){ .size = sizeof(peft_step) }));
    REFUSED(peft_trainer_profile(t, 1), PEFT_ESTATE);
    OK(peft_model_peaks(m, &p));
    CHECK(p.gflops > 0 && p.gflops_blas > 0 && p.gbytes > 0 && p.kernels[0]);
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
}

static void test_trainer_alive(void)
{
    peft_model *m = load(base);
    peft_dataset *d = data(m, rows_file()), *part = NULL;
    peft_trainer *t = NULL;
    peft_head_opts h = { .size = sizeof(h), .labels = 2 };
    int64_t bytes;
    OK(peft_adapter_add(m, "a", NULL));
    OK(peft_trainer_new(m, d, NULL, &t));
    REFUSED(peft_freeze(m, "*"), PEFT_ESTATE);
    REFUSED(peft_unfreeze(m, "*"), PEFT_ESTATE);
    REFUSED(peft_freeze_layers(m, 0, 0), PEFT_ESTATE);
    REFUSED(peft_to_float(m, "*", 0, NULL), PEFT_ESTATE);
    OK(peft_to_float(m, "*", 1, &bytes));
    REFUSED(peft_head_add(m, &h), PEFT_ESTATE);
    REFUSED(peft_adapter_add(m, "b", NULL), PEFT_ESTATE);
    REFUSED(peft_adapter_load(m, "b", "x"), PEFT_ESTATE);
    REFUSED(peft_adapter_enable(m, "a"), PEFT_ESTATE);
    REFUSED(peft_adapter_disable(m, "a"), PEFT_ESTATE);
    REFUSED(peft_adapter_remove(m, "a"), PEFT_ESTATE);
    REFUSED(peft_adapter_merge(m, "a"), PEFT_ESTATE);
    REFUSED(peft_dataset_split(d, 0.5, 0, &part), PEFT_ESTATE);
    /* Looking, saving and evaluating are no changes. */
    peft_evaluation e = { .size = sizeof(e) };
    OK(peft_train_run_for(t, 0, NULL));
    OK(peft_adapter_save(m, "a", in("alive")));
    OK(peft_eval(m, d, NULL, &e));
    CHECK(e.rows == 10 && e.loss > 0 && e.token_accuracy >= 0 && e.token_accuracy <= 1);
    CHECK_NEAR(e.perplexity, exp(e.loss), 1e-6 * e.perplexity);
    OK(peft_generate(m, &(peft_message){ "user", "a" }, 1,
                     &(peft_generate_opts){ .size = sizeof(peft_generate_opts), .max_tokens = 2 },
                     NULL));
    peft_trainer_free(t);
    OK(peft_adapter_merge(m, "a"));
    OK(peft_dataset_split(d, 0.5, 0, &part));
    peft_dataset_free(part);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* The losses of a run of 8 steps; with what happens in between. */
enum happening { NOTHING, CANCEL_BETWEEN, CANCEL_WITHIN, SAVE_RESUME };
static void run(enum happening what, double *loss)
{
    peft_model *m = load(base);
    peft_dataset *d = data(m, rows_file());
    peft_adapter_opts a = { .size = sizeof(a), .rank = 2, .dropout = 0.1f };
    peft_trainer *t = NULL;
    peft_train_opts o = train_opts();
    peft_step s = { .size = sizeof(s) };
    OK(peft_adapter_add(m, "a", &a));
    OK(peft_trainer_new(m, d, &o, &t));
    for (int i = 0; i < 8; i++) {
        if (what == CANCEL_BETWEEN && i % 3) {
            OK(peft_trainer_cancel(t));
            REFUSED(peft_train_step(t, &s), PEFT_ECANCELLED);
        }
        if (what == CANCEL_WITHIN && i % 3) {
            OK(peft_train_run_for(t, 0, &s));
            CHECK_EQ(s.more, 1);
            OK(peft_trainer_cancel(t));
            REFUSED(peft_train_run_for(t, 0, &s), PEFT_ECANCELLED);
        }
        if (what == SAVE_RESUME && i % 3 == 1) {
            OK(peft_trainer_save(t, in("check")));
            OK(peft_train_step(t, NULL));
            OK(peft_trainer_resume(t, in("check")));
        }
        if (what == SAVE_RESUME && i == 5) {            /* in another process, as it were */
            OK(peft_train_run_for(t, 0, NULL));
            OK(peft_trainer_save(t, in("check")));
            REFUSED(peft_trainer_resume(t, in("check")), PEFT_ESTATE);
            peft_trainer_free(t);
            peft_dataset_free(d);
            peft_model_free(m);
            m = load(base);
            d = data(m, in("rows.jsonl"));
            OK(peft_adapter_add(m, "a", &a));
            OK(peft_trainer_new(m, d, &o, &t));
            OK(peft_trainer_resume(t, in("check")));
        }
        OK(peft_train_step(t, &s));
        CHECK_EQ(s.step, i + 1);
        loss[i] = s.loss;
    }
    REFUSED(peft_train_step(t, &s), PEFT_EEND);
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
}

static void test_interruptions(void)
{
    double first[8], loss[8];
    run(NOTHING, first);
    for (int what = CANCEL_BETWEEN; what <= SAVE_RESUME; what++) {
        run((enum happening)what, loss);
        CHECK(!memcmp(first, loss, sizeof(loss)));
    }
    /* A checkpoint of another run is refused. */
    peft_model *m = load(base);
    peft_dataset *d = data(m, rows_file());
    peft_trainer *t = NULL;
    peft_train_opts o = train_opts();
    o.batch = 3;
    OK(peft_adapter_add(m, "a", &(peft_adapter_opts){ .size = sizeof(peft_adapter_opts),
                                                      .rank = 2 }));
    OK(peft_trainer_new(m, d, &o, &t));
    REFUSED(peft_trainer_resume(t, in("check")), PEFT_ESTATE);
    CHECK(strstr(peft_errmsg(), "batch"));
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

struct canceller { peft_trainer *t; _Atomic int stop; };

/* Until told to stop: on a busy machine several calls may meet one step, or none. */
static void *cancel_often(void *arg)
{
    struct canceller *c = arg;
    while (!atomic_load(&c->stop)) {
        struct timespec ms = { 0, 1000000 };
        nanosleep(&ms, NULL);
        peft_trainer_cancel(c->t);
    }
    return NULL;
}

static void test_cancel_from_a_thread(void)
{
    peft_model *m = load(base);
    peft_dataset *d = data(m, rows_file());
    peft_trainer *t = NULL;
    peft_train_opts o = train_opts();
    pthread_t thread;
    int rc = 0, cancelled = 0;
    o.steps = 100000;
    OK(peft_adapter_add(m, "a", NULL));
    OK(peft_trainer_new(m, d, &o, &t));
    struct canceller c = { .t = t };
    pthread_create(&thread, NULL, cancel_often, &c);
    while (cancelled < 3 && (!(rc = peft_train_step(t, NULL)) || rc == PEFT_ECANCELLED))
        cancelled += rc == PEFT_ECANCELLED;
    CHECK_EQ(cancelled, 3);
    atomic_store(&c.stop, 1);
    pthread_join(thread, NULL);
    rc = peft_train_step(t, NULL);
    CHECK(!rc || rc == PEFT_ECANCELLED);
    OK(peft_train_step(t, NULL));
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* A part that is frozen is computed once per example, when memory allows. */
static void test_feature_cache(void)
{
    static const int64_t caches[] = { -1, 0, 100, 300 };
    double first[6] = { 0 };
    for (size_t k = 0; k < ARRAY_LEN(caches); k++) {
        peft_model *m = load(base);
        peft_head_opts h = { .size = sizeof(h), .labels = 3, .names = kit_labels };
        peft_train_opts o = { .size = sizeof(o), .lr = 0.05f, .batch = 3, .epochs = 2,
                              .feature_cache = caches[k] };
        peft_trainer *t = NULL;
        peft_plan p = { .size = sizeof(p) };
        peft_step s = { .size = sizeof(s) };
        OK(peft_freeze(m, "*"));
        OK(peft_head_add(m, &h));
        peft_dataset *d = data(m, label_file());
        OK(peft_trainer_new(m, d, &o, &t));
        OK(peft_trainer_plan(t, &p));
        CHECK((caches[k] < 0) == (p.features == 0));
        for (int i = 0; i < 6; i++) {
            OK(peft_train_step(t, &s));
            if (!k) first[i] = s.loss;
            CHECK_NEAR(s.loss, first[i], 1e-6);
        }
        peft_trainer_free(t);
        peft_dataset_free(d);
        peft_model_free(m);
    }
}

static int32_t stop_progress(void *ctx, int64_t done, int64_t rows)
{
    CHECK(done > 0 && done <= rows && rows == 9);
    return ++*(int *)ctx == 2;
}
static int32_t count_progress(void *ctx, int64_t done, int64_t rows)
{
    (void)done, (void)rows;
    ++*(int *)ctx;
    return 0;
}

static void test_eval_head(void)
{
    peft_model *m = load(base);
    peft_head_opts h = { .size = sizeof(h), .labels = 3, .names = kit_labels, .seed = 1 };
    peft_evaluation e = { .size = sizeof(e) };
    int64_t confusion[9] = { 0 };
    int calls = 0;
    peft_eval_opts o = { .size = sizeof(o), .batch = 2, .confusion = confusion,
                         .progress = count_progress, .ctx = &calls };
    peft_dataset *rows = data(m, rows_file());
    OK(peft_head_add(m, &h));
    peft_dataset *d = data(m, label_file());
    REFUSED(peft_eval(m, rows, &o, &e), PEFT_EARG);             /* tokens for a head */
    OK(peft_eval(m, d, &o, &e));
    CHECK(e.rows == 9 && calls == 5);
    double f1 = 0;
    int64_t hits = 0, true_class[3], seen[3];
    for (int i = 0; i < 3; i++) {
        true_class[i] = confusion[3 * i] + confusion[3 * i + 1] + confusion[3 * i + 2];
        seen[i] = confusion[i] + confusion[3 + i] + confusion[6 + i];
        CHECK_EQ(true_class[i], 3);                             /* row = true class */
        hits += confusion[4 * i];
        f1 += 2.0 * (double)confusion[4 * i] / (double)(true_class[i] + seen[i]) / 3;
    }
    CHECK_NEAR(e.accuracy, (double)hits / 9, 1e-12);
    CHECK_NEAR(e.f1, f1, 1e-12);
    /* What peft_forward says is what is counted. */
    int64_t counted[9] = { 0 };
    for (int64_t i = 0; i < 9; i++) {
        peft_row r = { .size = sizeof(r) };
        float z[3];
        OK(peft_dataset_row(d, i, &r));
        OK(peft_forward(m, r.ids, r.n, z));
        counted[r.label * 3 + (z[1] > z[0] ? z[2] > z[1] ? 2 : 1 : z[2] > z[0] ? 2 : 0)]++;
    }
    CHECK(!memcmp(counted, confusion, sizeof(counted)));
    calls = 0;
    o.progress = stop_progress;
    REFUSED(peft_eval(m, d, &o, &e), PEFT_ECANCELLED);
    CHECK_EQ(calls, 2);
    peft_dataset_free(rows);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* Regression: a head of one output, numbers as labels. */
static void test_regression(void)
{
    peft_model *m = load(base);
    peft_head_opts h = { .size = sizeof(h), .labels = 1 };
    peft_trainer *t = NULL;
    peft_step s = { .size = sizeof(s) };
    peft_train_opts o = { .size = sizeof(o), .lr = 0.02f, .steps = 20, .schedule = "constant" };
    peft_evaluation a = { .size = sizeof(a) }, b = { .size = sizeof(b) };
    OK(peft_freeze(m, "*"));
    OK(peft_head_add(m, &h));
    put(in("numbers.jsonl"), "{\"text\": \"a\", \"label\": 0.5}\n"
                             "{\"text\": \"b c\", \"label\": -1}\n"
                             "{\"text\": \"hello\", \"label\": 2}\n");
    peft_dataset *d = data(m, in("numbers.jsonl"));
    OK(peft_eval(m, d, NULL, &a));
    OK(peft_trainer_new(m, d, &o, &t));
    while (!peft_train_step(t, &s)) {}
    peft_trainer_free(t);
    OK(peft_eval(m, d, NULL, &b));
    CHECK(b.loss < a.loss && b.rows == 3);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* A diverged run says so and leaves finite weights. */
static void test_nonfinite(void)
{
    static float z[N_LOGITS];
    peft_model *m = load(base);
    peft_dataset *d = data(m, rows_file());
    peft_trainer *t = NULL;
    peft_train_opts o = { .size = sizeof(o), .steps = 4 };
    OK(peft_adapter_add(m, "a", NULL));
    OK(peft_trainer_new(m, d, &o, &t));
    OK(peft_train_step(t, NULL));
    float *w = model_of(m)->adapters->sites[0].part[1]->own, kept = w[3];
    w[3] = NAN;
    REFUSED(peft_train_step(t, NULL), PEFT_ENONFINITE);
    REFUSED(peft_train_step(t, NULL), PEFT_ENONFINITE);
    w[3] = kept;
    OK(peft_train_step(t, NULL));
    peft_trainer_free(t);
    logits(m, z);
    for (int i = 0; i < N_LOGITS; i++) CHECK(isfinite(z[i]));
    peft_dataset_free(d);
    peft_model_free(m);
}

/* --- threads */

static void *whole_life(void *arg)
{
    double *loss = arg;
    peft_load_opts l = { .size = sizeof(l), .threads = 2 };
    peft_adapter_opts a = { .size = sizeof(a), .rank = 2, .dropout = 0.1f };
    peft_train_opts o = train_opts();
    peft_model *m = NULL;
    peft_dataset *d = NULL;
    peft_trainer *t = NULL;
    peft_step s = { .size = sizeof(s) };
    peft_evaluation e = { .size = sizeof(e) };
    const peft_message ask = { "user", "hello" };
    peft_generate_opts g = { .size = sizeof(g), .max_tokens = 4 };
    if (peft_model_load(base, &l, &m) || peft_adapter_add(m, "a", &a) ||
        peft_dataset_load(m, in("rows.jsonl"), NULL, &d) || peft_trainer_new(m, d, &o, &t))
        return NULL;
    for (int i = 0; i < 8 && !peft_train_step(t, &s); i++) loss[i] = s.loss;
    peft_trainer_free(t);
    if (peft_eval(m, d, NULL, &e) || peft_generate(m, &ask, 1, &g, NULL) ||
        peft_model_load(in("absent"), NULL, &(peft_model *){ NULL }) != PEFT_ENOTFOUND)
        loss[0] = -1;
    peft_dataset_free(d);
    peft_model_free(m);
    return NULL;
}

static void test_two_models(void)
{
    static double loss[3][8];
    pthread_t t[2];
    rows_file();
    whole_life(loss[0]);
    for (int i = 0; i < 2; i++) pthread_create(&t[i], NULL, whole_life, loss[i + 1]);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    CHECK(loss[0][0] > 0);
    CHECK(!memcmp(loss[0], loss[1], sizeof(loss[0])) && !memcmp(loss[0], loss[2], sizeof(loss[0])));
}

/* Functions that take a const model run at the same time on one. */
static void *look(void *arg)
{
    const peft_model *m = arg;
    peft_info i = { .size = sizeof(i) };
    peft_param p = { .size = sizeof(p) };
    peft_dataset *d = NULL;
    int32_t ids[64];
    static _Thread_local float x[VOCAB * DIM];
    long bad = 0;
    for (int k = 0; k < 20; k++) {
        bad += peft_model_info(m, &i) != 0 || peft_model_param(m, k, &p) != 0;
        bad += peft_tokenize(m, "hello user, a <|im_end|>", 24, 0, ids, 64) < 1;
        bad += peft_model_read(m, "model.norm.weight", x, DIM) != DIM;
        bad += peft_dataset_load(m, in("chat.jsonl"), NULL, &d) != 0;
        peft_dataset_free(d);
    }
    bad += peft_adapter_save(m, "a", in("look%p", (void *)x)) != 0;
    bad += peft_model_save(m, in("look%p.gguf", (void *)x), NULL) != 0;
    return (void *)(intptr_t)bad;
}

static void test_const_functions(void)
{
    peft_model *m = load(base);
    pthread_t t[3];
    chat_file();
    OK(peft_adapter_add(m, "a", NULL));
    for (int i = 0; i < 3; i++) pthread_create(&t[i], NULL, look, m);
    for (int i = 0; i < 3; i++) {
        void *bad;
        pthread_join(t[i], &bad);
        CHECK_EQ((intptr_t)bad, 0);
    }
    peft_model_free(m);
}

int main(void)
{
    kit_begin();
    snprintf(base, sizeof(base), "%s", make_model("base", 1));
    RUN(test_dataset);
    RUN(test_subset);
    RUN(test_mix);
    RUN(test_memory_rows);
    RUN(test_dataset_options);
    RUN(test_training);
    RUN(test_profile);
    RUN(test_trainer_alive);
    RUN(test_interruptions);
    RUN(test_cancel_from_a_thread);
    RUN(test_feature_cache);
    RUN(test_eval_head);
    RUN(test_regression);
    RUN(test_nonfinite);
    RUN(test_two_models);
    RUN(test_const_functions);
    kit_end();
    return TEST_END();
}
