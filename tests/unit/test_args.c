/* Impossible arguments at the public API: NULL for every pointer of every
 * function, options and results of other sizes, numbers out of their range.
 * Each must fail with a code and one line; nothing may crash, leak or be
 * written. */
#include "kit.h"

static char good[64];                           /* folder of the tiny model */

static void test_adapter_options(void)
{
    peft_model *m = load(good);
    peft_adapter_opts bad[] = {
        { .rank = -1 }, { .rank = 65537 }, { .rank = INT32_MAX }, { .dropout = -0.1f },
        { .dropout = 1 }, { .dropout = NAN }, { .alpha = NAN }, { .alpha = INFINITY } };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        bad[i].size = sizeof(bad[i]);
        REFUSED(peft_adapter_add(m, "x", &bad[i]), PEFT_EARG);
    }
    peft_adapter_opts o = { .size = sizeof(o), .method = "magic" };
    REFUSED(peft_adapter_add(m, "x", &o), PEFT_EUNSUPPORTED);
    o = (peft_adapter_opts){ .size = sizeof(o), .targets = "nothing_proj" };
    REFUSED(peft_adapter_add(m, "x", &o), PEFT_ENOTFOUND);
    o.targets = "";
    REFUSED(peft_adapter_add(m, "x", &o), PEFT_ENOTFOUND);
    o = (peft_adapter_opts){ .size = sizeof(o), .modules_to_save = "nothing" };
    REFUSED(peft_adapter_add(m, "x", &o), PEFT_ENOTFOUND);
    static const char *const names[] = { "", "a/b", "..", "a b", "a.b", "\xc3\xa4",
        "0123456789012345678901234567890123456789012345678901234567890123456789" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        REFUSED(peft_adapter_add(m, names[i], NULL), PEFT_EARG);
    peft_head_opts h = { .size = sizeof(h) };
    static const int32_t counts[] = { 0, -1, INT32_MIN, INT32_MAX };
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        h.labels = counts[i];
        REFUSED(peft_head_add(m, &h), PEFT_EARG);
    }
    h = (peft_head_opts){ .size = sizeof(h), .labels = 2, .pool = "max" };
    REFUSED(peft_head_add(m, &h), PEFT_EARG);
    h = (peft_head_opts){ .size = sizeof(h), .labels = 2, .dropout = NAN };
    REFUSED(peft_head_add(m, &h), PEFT_EARG);
    peft_info i = { .size = sizeof(i) };
    OK(peft_model_info(m, &i));
    CHECK(i.n_adapters == 0 && i.labels == 0 && i.trainable == i.params);
    peft_model_free(m);
}

static void test_ids_and_text(void)
{
    static float z[LEN * VOCAB];
    static int32_t ids[LEN + 1];
    static char big[4096];
    peft_model *m = load(good);
    for (int i = 0; i <= LEN; i++) ids[i] = i;
    OK(peft_forward(m, ids, LEN, z));
    REFUSED(peft_forward(m, ids, LEN + 1, z), PEFT_EARG);
    REFUSED(peft_forward(m, ids, INT32_MAX, z), PEFT_EARG);
    REFUSED(peft_forward(m, ids, 0, z), PEFT_EARG);
    REFUSED(peft_forward(m, ids, -1, z), PEFT_EARG);
    REFUSED(peft_embed(m, ids, 0, 0, z), PEFT_EARG);
    REFUSED(peft_embed(m, ids, LEN + 1, 0, z), PEFT_EARG);
    static const int32_t odd[] = { -1, VOCAB, INT32_MIN, INT32_MAX };
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        ids[3] = odd[i];
        REFUSED(peft_forward(m, ids, 5, z), PEFT_EARG);
        REFUSED(peft_embed(m, ids, 5, 1, z), PEFT_EARG);
        int64_t n = peft_detokenize(m, ids, 5, 0, big, sizeof(big));
        CHECK(n >= 0 || is_failure(n));
    }
    static const char *const bad[] = { "\xff", "a\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                       "\xc0\xaf" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        REFUSED(peft_tokenize(m, bad[i], strlen(bad[i]), 0, ids, LEN), PEFT_EFORMAT);
        peft_message x = { "user", bad[i] };
        peft_generate_opts raw = { .size = sizeof(raw), .raw = 1 };
        REFUSED(peft_generate(m, &x, 1, &raw, NULL), PEFT_EFORMAT);
    }
    REFUSED(peft_tokenize(m, "a", SIZE_MAX, 0, ids, LEN), PEFT_EARG);
    CHECK_EQ(peft_tokenize(m, NULL, 0, 0, NULL, 0), 0);
    CHECK_EQ(peft_tokenize(m, "hello", 5, 0, ids, -5), 1);
    CHECK_EQ(peft_detokenize(m, NULL, 0, 0, NULL, 0), 0);

    peft_generate_opts o = { .size = sizeof(o), .raw = 1, .max_tokens = 3 };
    peft_message empty = { "user", "" };
    REFUSED(peft_generate(m, &empty, 1, &o, NULL), PEFT_EARG);
    memset(big, 'x', sizeof(big) - 1);
    peft_message lots = { "user", big };
    REFUSED(peft_generate(m, &lots, 1, &o, NULL), PEFT_EARG);
    o.raw = 0;
    REFUSED(peft_generate(m, &lots, 1, &o, NULL), PEFT_EARG);
    peft_message role = { "wizard", "hello" }, none = { NULL, NULL };
    int rc = peft_generate(m, &role, 1, &o, NULL);
    CHECK(!rc || is_failure(rc));
    REFUSED(peft_generate(m, &none, 1, &o, NULL), PEFT_EARG);
    REFUSED(peft_chat_render(m, &none, 1, 1, big, sizeof(big)), PEFT_EARG);
    REFUSED(peft_chat_render(m, &empty, 0, 1, big, sizeof(big)), PEFT_EARG);
    static const char *const stop[] = { "", NULL };
    peft_generate_opts odd_opts[] = {
        { .max_tokens = -1 }, { .temperature = -1 }, { .temperature = NAN }, { .top_k = -1 },
        { .top_p = -1 }, { .top_p = NAN }, { .min_p = -1 }, { .repeat_penalty = -2 },
        { .n_stop = -1 }, { .n_stop = 1 }, { .n_stop = 2, .stop = stop } };
    peft_message ask = { "user", "hello" };
    for (size_t i = 0; i < ARRAY_LEN(odd_opts); i++) {
        odd_opts[i].size = sizeof(o);
        REFUSED(peft_generate(m, &ask, 1, &odd_opts[i], NULL), PEFT_EARG);
    }
    o = (peft_generate_opts){ .size = sizeof(o), .max_tokens = INT32_MAX, .temperature = 1e30f,
                              .top_k = INT32_MAX, .top_p = 5, .min_p = 3, .repeat_penalty = 1e30f,
                              .n_stop = 1, .stop = stop };
    OK(peft_generate(m, &ask, 1, &o, NULL));
    peft_model_free(m);
}

static void test_train_options(void)
{
    peft_model *m = load(good);
    peft_dataset *d = NULL;
    peft_trainer *t = NULL;
    OK(peft_adapter_add(m, "x", NULL));
    OK(peft_dataset_load(m, rows_file(), NULL, &d));
    peft_train_opts bad[] = {
        { .optimizer = "magic" }, { .schedule = "" }, { .lr = -1 }, { .lr = NAN },
        { .lr = INFINITY }, { .beta1 = 1 }, { .beta2 = -1 }, { .beta1 = NAN }, { .eps = -1 },
        { .eps = INFINITY }, { .weight_decay = -1 }, { .weight_decay = INFINITY },
        { .warmup = -1 }, { .warmup = NAN }, { .warmup = 1e30f }, { .clip = NAN },
        { .clip = INFINITY }, { .batch = -1 }, { .accumulate = -1 }, { .accumulate = INT32_MAX },
        { .epochs = -1 }, { .steps = -1 }, { .epochs = INT32_MAX }, { .max_len = -1 },
        { .packing = 1, .max_len = 2 }, { .recompute = -1 }, { .recompute = 4 } };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        bad[i].size = sizeof(bad[i]);
        REFUSED(peft_trainer_new(m, d, &bad[i], &t), PEFT_EARG);
    }
    /* A long run is planned at once. */
    peft_train_opts o = { .size = sizeof(o), .batch = INT32_MAX, .epochs = 1 << 24 };
    peft_plan p = { .size = sizeof(p) };
    OK(peft_trainer_new(m, d, &o, &t));
    OK(peft_trainer_plan(t, &p));
    CHECK_EQ(p.steps, 1 << 24);
    REFUSED(peft_trainer_resume(t, in("nowhere")), PEFT_ENOTFOUND);
    REFUSED(peft_train_run_for(t, -1, NULL), PEFT_EARG);
    OK(peft_train_step(t, NULL));
    peft_trainer_free(t);
    o = (peft_train_opts){ .size = sizeof(o), .packing = 1, .steps = INT32_MAX };
    OK(peft_trainer_new(m, d, &o, &t));
    peft_trainer_free(t);
    peft_eval_opts e = { .size = sizeof(e), .batch = -1 };
    peft_evaluation got = { .size = sizeof(got) };
    REFUSED(peft_eval(m, d, &e, &got), PEFT_EARG);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* NULL for every pointer of every function. */
static void test_null(void)
{
    peft_model *m = load(good), *no = NULL;
    peft_dataset *d = NULL, *part = NULL;
    peft_trainer *t = NULL;
    int32_t ids[4] = { 1, 2, 3, 4 };
    char text[64];
    float x[4 * VOCAB];
    const char *file = rows_file();
    peft_message ask = { "user", "hello" };
    peft_info info = { .size = sizeof(info) };
    peft_param param = { .size = sizeof(param) };
    peft_head_opts head = { .size = sizeof(head), .labels = 2 };
    peft_row row = { .size = sizeof(row) };
    peft_plan plan = { .size = sizeof(plan) };
    peft_dataset_stats stats = { .size = sizeof(stats) };
    peft_evaluation e = { .size = sizeof(e) };
    OK(peft_dataset_load(m, file, NULL, &d));

    REFUSED(peft_io_default(NULL), PEFT_EARG);
    REFUSED(peft_system_info(NULL), PEFT_EARG);
    REFUSED(peft_model_load(NULL, NULL, &no), PEFT_EARG);
    REFUSED(peft_model_load("", NULL, &no), PEFT_EARG);
    REFUSED(peft_model_load(good, NULL, NULL), PEFT_EARG);
    REFUSED(peft_model_save(NULL, "x", NULL), PEFT_EARG);
    REFUSED(peft_model_save(m, NULL, NULL), PEFT_EARG);
    REFUSED(peft_model_save(m, "", NULL), PEFT_EARG);
    REFUSED(peft_model_info(NULL, &info), PEFT_EARG);
    REFUSED(peft_model_info(m, NULL), PEFT_EARG);
    REFUSED(peft_model_param(NULL, 0, &param), PEFT_EARG);
    REFUSED(peft_model_param(m, 0, NULL), PEFT_EARG);
    REFUSED(peft_model_param(m, -1, &param), PEFT_ENOTFOUND);
    REFUSED(peft_model_param(m, INT32_MAX, &param), PEFT_ENOTFOUND);
    REFUSED(peft_model_read(NULL, "x", x, 1), PEFT_EARG);
    REFUSED(peft_model_read(m, NULL, x, 1), PEFT_EARG);
    REFUSED(peft_model_read(m, "x", x, 1), PEFT_ENOTFOUND);
    REFUSED(peft_model_read(m, "model.norm.weight", x, 15), PEFT_EARG);
    REFUSED(peft_model_read(m, "model.norm.weight", x, -1), PEFT_EARG);
    REFUSED(peft_freeze_layers(NULL, 0, 0), PEFT_EARG);
    REFUSED(peft_freeze_layers(m, INT32_MIN, INT32_MAX), PEFT_EARG);
    REFUSED(peft_freeze(NULL, "*"), PEFT_EARG);
    REFUSED(peft_freeze(m, NULL), PEFT_EARG);
    REFUSED(peft_freeze(m, ""), PEFT_EARG);
    REFUSED(peft_unfreeze(NULL, "*"), PEFT_EARG);
    REFUSED(peft_unfreeze(m, NULL), PEFT_EARG);
    REFUSED(peft_to_float(NULL, "*", 0, NULL), PEFT_EARG);
    OK(peft_to_float(m, NULL, 1, NULL));
    REFUSED(peft_head_add(NULL, &head), PEFT_EARG);
    REFUSED(peft_head_add(m, NULL), PEFT_EARG);
    CHECK(!peft_label_name(NULL, 0) && !peft_label_name(m, 0));
    REFUSED(peft_adapter_add(NULL, "a", NULL), PEFT_EARG);
    REFUSED(peft_adapter_add(m, NULL, NULL), PEFT_EARG);
    REFUSED(peft_adapter_load(NULL, "a", "b"), PEFT_EARG);
    REFUSED(peft_adapter_load(m, NULL, "tests/golden/tiny/llama/lora_step0"), PEFT_EARG);
    REFUSED(peft_adapter_load(m, "a", NULL), PEFT_EARG);
    REFUSED(peft_adapter_save(NULL, "a", "b"), PEFT_EARG);
    REFUSED(peft_adapter_save(m, NULL, "b"), PEFT_ENOTFOUND);
    REFUSED(peft_adapter_save(m, "a", NULL), PEFT_EARG);
    REFUSED(peft_adapter_enable(NULL, "a"), PEFT_EARG);
    REFUSED(peft_adapter_enable(m, NULL), PEFT_ENOTFOUND);
    REFUSED(peft_adapter_disable(NULL, "a"), PEFT_EARG);
    REFUSED(peft_adapter_disable(m, NULL), PEFT_ENOTFOUND);
    REFUSED(peft_adapter_remove(NULL, "a"), PEFT_EARG);
    REFUSED(peft_adapter_remove(m, NULL), PEFT_ENOTFOUND);
    REFUSED(peft_adapter_merge(NULL, "a"), PEFT_EARG);
    REFUSED(peft_adapter_merge(m, NULL), PEFT_ENOTFOUND);
    REFUSED(peft_tokenize(NULL, "a", 1, 0, ids, 4), PEFT_EARG);
    REFUSED(peft_tokenize(m, NULL, 1, 0, ids, 4), PEFT_EARG);
    REFUSED(peft_detokenize(NULL, ids, 1, 0, text, 4), PEFT_EARG);
    REFUSED(peft_detokenize(m, NULL, 1, 0, text, 4), PEFT_EARG);
    REFUSED(peft_detokenize(m, ids, -1, 0, text, 4), PEFT_EARG);
    REFUSED(peft_chat_render(NULL, &ask, 1, 0, text, 4), PEFT_EARG);
    REFUSED(peft_chat_render(m, NULL, 1, 0, text, 4), PEFT_EARG);
    REFUSED(peft_forward(NULL, ids, 4, x), PEFT_EARG);
    REFUSED(peft_forward(m, NULL, 4, x), PEFT_EARG);
    REFUSED(peft_forward(m, ids, 4, NULL), PEFT_EARG);
    REFUSED(peft_embed(NULL, ids, 4, 0, x), PEFT_EARG);
    REFUSED(peft_embed(m, NULL, 4, 0, x), PEFT_EARG);
    REFUSED(peft_embed(m, ids, 4, 0, NULL), PEFT_EARG);
    REFUSED(peft_generate(NULL, &ask, 1, NULL, NULL), PEFT_EARG);
    REFUSED(peft_generate(m, NULL, 1, NULL, NULL), PEFT_EARG);
    REFUSED(peft_generate(m, &ask, 0, NULL, NULL), PEFT_EARG);
    REFUSED(peft_generate(m, &ask, -1, NULL, NULL), PEFT_EARG);
    REFUSED(peft_dataset_load(NULL, file, NULL, &part), PEFT_EARG);
    REFUSED(peft_dataset_load(m, NULL, NULL, &part), PEFT_EARG);
    REFUSED(peft_dataset_load(m, file, NULL, NULL), PEFT_EARG);
    REFUSED(peft_dataset_split(NULL, 0.5, 0, &part), PEFT_EARG);
    REFUSED(peft_dataset_split(d, 0.5, 0, NULL), PEFT_EARG);
    REFUSED(peft_dataset_mix(d, NULL, 1, 0, &part), PEFT_EARG);
    REFUSED(peft_dataset_mix(NULL, d, 1, 0, &part), PEFT_EARG);
    REFUSED(peft_dataset_mix(d, d, 1, 0, NULL), PEFT_EARG);
    REFUSED(peft_dataset_subset(NULL, (const int64_t[]){ 0 }, 1, &part), PEFT_EARG);
    REFUSED(peft_dataset_subset(d, NULL, 1, &part), PEFT_EARG);
    REFUSED(peft_dataset_subset(d, (const int64_t[]){ 0 }, 1, NULL), PEFT_EARG);
    REFUSED(peft_dataset_subset(d, (const int64_t[]){ -1 }, 1, &part), PEFT_EARG);
    REFUSED(peft_dataset_info(NULL, &stats), PEFT_EARG);
    REFUSED(peft_dataset_info(d, NULL), PEFT_EARG);
    CHECK(!peft_dataset_label(NULL, 0) && !peft_dataset_label(d, -1));
    REFUSED(peft_dataset_row(NULL, 0, &row), PEFT_EARG);
    REFUSED(peft_dataset_row(d, 0, NULL), PEFT_EARG);
    REFUSED(peft_trainer_new(NULL, d, NULL, &t), PEFT_EARG);
    REFUSED(peft_trainer_new(m, NULL, NULL, &t), PEFT_EARG);
    REFUSED(peft_trainer_new(m, d, NULL, NULL), PEFT_EARG);
    REFUSED(peft_trainer_plan(NULL, &plan), PEFT_EARG);
    REFUSED(peft_train_step(NULL, NULL), PEFT_EARG);
    REFUSED(peft_train_run_for(NULL, 1, NULL), PEFT_EARG);
    REFUSED(peft_trainer_cancel(NULL), PEFT_EARG);
    REFUSED(peft_trainer_save(NULL, "x"), PEFT_EARG);
    REFUSED(peft_trainer_resume(NULL, "x"), PEFT_EARG);
    OK(peft_trainer_new(m, d, NULL, &t));
    REFUSED(peft_trainer_plan(t, NULL), PEFT_EARG);
    REFUSED(peft_trainer_save(t, NULL), PEFT_EARG);
    REFUSED(peft_trainer_resume(t, NULL), PEFT_EARG);
    REFUSED(peft_eval(NULL, d, NULL, &e), PEFT_EARG);
    REFUSED(peft_eval(m, NULL, NULL, &e), PEFT_EARG);
    REFUSED(peft_eval(m, d, NULL, NULL), PEFT_EARG);
    peft_trainer_free(t);
    peft_trainer_free(NULL);
    peft_dataset_free(d);
    peft_dataset_free(NULL);
    peft_model_free(m);
    peft_model_free(NULL);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
}

/* --- structs of other sizes */

/* All functions with options, given `o`, which is of a wrong size. */
static void options_refused(void *o, int code)
{
    peft_model *m = load(good), *no = NULL;
    peft_dataset *d = NULL, *part = NULL;
    peft_trainer *t = NULL;
    peft_message ask = { "user", "hello" };
    peft_evaluation e = { .size = sizeof(e) };
    OK(peft_dataset_load(m, rows_file(), NULL, &d));
    REFUSED(peft_model_load(good, o, &no), code);
    REFUSED(peft_model_save(m, in("never"), o), code);
    REFUSED(peft_head_add(m, o), code);
    REFUSED(peft_adapter_add(m, "a", o), code);
    REFUSED(peft_generate(m, &ask, 1, o, NULL), code);
    REFUSED(peft_dataset_load(m, in("rows.jsonl"), o, &part), code);
    REFUSED(peft_trainer_new(m, d, o, &t), code);
    REFUSED(peft_eval(m, d, o, &e), code);
    CHECK(!no && !part && !t);
    peft_dataset_free(d);
    peft_model_free(m);
}

static void results_refused(void *r)
{
    peft_model *m = load(good);
    peft_dataset *d = NULL;
    peft_trainer *t = NULL;
    peft_message ask = { "user", "hello" };
    OK(peft_dataset_load(m, rows_file(), NULL, &d));
    OK(peft_trainer_new(m, d, NULL, &t));
    REFUSED(peft_system_info(r), PEFT_EARG);
    REFUSED(peft_model_info(m, r), PEFT_EARG);
    REFUSED(peft_model_param(m, 0, r), PEFT_EARG);
    REFUSED(peft_generate(m, &ask, 1, NULL, r), PEFT_EARG);
    REFUSED(peft_dataset_info(d, r), PEFT_EARG);
    REFUSED(peft_dataset_row(d, 0, r), PEFT_EARG);
    REFUSED(peft_trainer_plan(t, r), PEFT_EARG);
    REFUSED(peft_train_step(t, r), PEFT_EARG);
    REFUSED(peft_train_run_for(t, 1, r), PEFT_EARG);
    REFUSED(peft_eval(m, d, NULL, r), PEFT_EARG);
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* Fills results of `size` bytes and checks that no byte behind is touched. */
static void sized_results(size_t size, size_t real)
{
    static _Alignas(16) unsigned char r[8192];
    peft_model *m = load(good);
    peft_dataset *d = NULL;
    peft_trainer *t = NULL;
    peft_message ask = { "user", "hello" };
    peft_generate_opts g = { .size = sizeof(g), .max_tokens = 1 };
    OK(peft_dataset_load(m, rows_file(), NULL, &d));
    OK(peft_trainer_new(m, d, NULL, &t));
    for (int k = 0; k < 9; k++) {
        memset(r, 0xAB, sizeof(r));
        memcpy(r, &size, sizeof(size));
        int rc = k == 0   ? peft_model_info(m, (void *)r)
                 : k == 1 ? peft_model_param(m, 0, (void *)r)
                 : k == 2 ? peft_generate(m, &ask, 1, &g, (void *)r)
                 : k == 3 ? peft_dataset_info(d, (void *)r)
                 : k == 4 ? peft_dataset_row(d, 0, (void *)r)
                 : k == 5 ? peft_trainer_plan(t, (void *)r)
                 : k == 6 ? peft_train_step(t, (void *)r)
                 : k == 7 ? peft_eval(m, d, NULL, (void *)r)
                          : peft_system_info((void *)r);
        OK(rc);
        CHECK(!memcmp(r, &size, sizeof(size)));
        for (size_t i = MIN(size, real); i < sizeof(r); i++)
            if (r[i] != 0xAB) {
                CHECK(r[i] == 0xAB);
                break;
            }
    }
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

static void test_sizes(void)
{
    static _Alignas(16) unsigned char big[1 << 17];
    static const size_t wrong[] = { 0, 1, 4, 7, (1 << 16) + 1, SIZE_MAX / 2, SIZE_MAX };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        memset(big, 0, sizeof(big));
        memcpy(big, &wrong[i], sizeof(size_t));
        options_refused(big, PEFT_EARG);
        results_refused(big);
    }
    /* A newer struct: unknown fields must be zero. */
    size_t newer = 4096;
    memset(big, 0, sizeof(big));
    memcpy(big, &newer, sizeof(newer));
    big[4095] = 1;
    options_refused(big, PEFT_EUNSUPPORTED);
    sized_results(sizeof(size_t), sizeof(size_t));
    sized_results(sizeof(size_t) + 4, sizeof(size_t) + 4);
    sized_results(4096, sizeof(peft_system));
    /* An older, shorter one has its first fields. */
    peft_adapter_opts o = { .size = offsetof(peft_adapter_opts, rank), .targets = "q_proj",
                            .rank = -5 };
    peft_model *m = load(good);
    OK(peft_adapter_add(m, "a", &o));
    peft_model_free(m);
    peft_io io = { .size = 3 };
    REFUSED(peft_io_default(&io), PEFT_EARG);
    io = (peft_io){ .size = sizeof(io) };
    peft_load_opts l = { .size = sizeof(l), .io = &io };
    REFUSED(peft_model_load(good, &l, &m), PEFT_EARG);
    OK(peft_io_default(&io));
    io.unmap = NULL;
    REFUSED(peft_model_load(good, &l, &m), PEFT_EARG);
    io.map = NULL;
    OK(peft_model_load(good, &l, &m));
    peft_model_free(m);
    static const struct { int32_t threads; const char *level, *blas; int code; } load_opts[] = {
        { -1, NULL, NULL, PEFT_EARG }, { 33, NULL, NULL, PEFT_EARG },
        { 0, "sse9", NULL, PEFT_EARG }, { 0, "", NULL, PEFT_EARG } };
    for (size_t i = 0; i < ARRAY_LEN(load_opts); i++) {
        l = (peft_load_opts){ .size = sizeof(l), .threads = load_opts[i].threads,
                              .level = load_opts[i].level, .blas = load_opts[i].blas };
        REFUSED(peft_model_load(good, &l, &m), load_opts[i].code);
    }
    l = (peft_load_opts){ .size = sizeof(l), .blas = "/nowhere/libblas.so" };
    int rc = peft_model_load(good, &l, &m);
    CHECK(is_failure(rc) && !m);
}

static void test_saving(void)
{
    peft_model *m = load(good);
    peft_save_opts bad[] = { { .dtype = "f64" }, { .dtype = "" }, { .shard_bytes = -1 } };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        bad[i].size = sizeof(bad[i]);
        REFUSED(peft_model_save(m, in("never"), &bad[i]), PEFT_EARG);
    }
    peft_save_opts q = { .size = sizeof(q), .dtype = "q8_0" };
    REFUSED(peft_model_save(m, in("never"), &q), PEFT_EARG);
    REFUSED(peft_model_save(m, in("no/such/folder"), NULL), PEFT_ENOTFOUND);
    REFUSED(peft_model_save(m, in("no/such/file.gguf"), NULL), PEFT_ENOTFOUND);
    mkdir(in("void"), 0777);
    put(in("a.txt"), "text");
    REFUSED(peft_model_save(m, in("a.txt"), NULL), PEFT_EIO);
    REFUSED(peft_model_save(m, in("void/.."), NULL), PEFT_EIO);     /* others' files in it */
    mkdir(in("dir.gguf"), 0777);
    REFUSED(peft_model_save(m, in("dir.gguf"), NULL), PEFT_EIO);
    OK(peft_adapter_add(m, "a", NULL));
    REFUSED(peft_adapter_save(m, "a", in("a.txt")), PEFT_EIO);
    REFUSED(peft_adapter_save(m, "b", in("b")), PEFT_ENOTFOUND);
    struct stat st;
    CHECK(stat(in("never"), &st) && stat(in("b"), &st));
    peft_model_free(m);
}

int main(void)
{
    kit_begin();
    snprintf(good, sizeof(good), "%s", make_model("good", 1));
    RUN(test_adapter_options);
    RUN(test_ids_and_text);
    RUN(test_train_options);
    RUN(test_null);
    RUN(test_sizes);
    RUN(test_saving);
    kit_end();
    return TEST_END();
}
