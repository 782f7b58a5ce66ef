/* Before a training: rows that are unfit, rows as they are trained, what it takes, rows set
 * aside, and settings that choose themselves. */
#include <math.h>
#include <sys/stat.h>

#include "kit.h"
#include "peft_judge.h"

enum { ROWS = 60 };
static char model_dir[256], classes[256];

static peft_dataset *rows_of(peft_model *m, const char *path, const peft_dataset_opts *o)
{
    peft_dataset *d = NULL;
    OK(peft_dataset_load(m, path, o, &d));
    if (!d) GIVE_UP();
    return d;
}

static peft_model *model_of_labels(void)
{
    static const char *const names[] = { "a", "b", "c" };
    peft_load_opts lo = kit_opts();
    peft_model *m = NULL;
    peft_head_opts o = { .size = sizeof(o), .labels = 3, .names = names };
    OK(peft_model_load(model_dir, &lo, &m));
    if (!m) GIVE_UP();
    OK(peft_head_add(m, &o));
    return m;
}

static const peft_flaw *fault_of(const peft_checked *c, const char *name)
{
    for (int32_t i = 0; i < c->n; i++)
        if (!strcmp(c->flaws[i].name, name)) return &c->flaws[i];
    return NULL;
}

/* Rows of three classes; the last two are the texts of the first two, with other spaces. */
static void make_classes(void)
{
    char text[8192];
    size_t n = 0;
    for (int i = 0; i < ROWS; i++) {
        int same = i >= ROWS - 2 ? i - (ROWS - 2) : i;
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              "{\"text\": \"%sword%s%d is %d\", \"label\": \"%c\"}\n",
                              i == ROWS - 1 ? "  " : "", i == ROWS - 2 ? "\\n " : " ", same,
                              same % 3, "abc"[same % 3]);
    }
    snprintf(classes, sizeof(classes), "%s", put(in("classes.jsonl"), text));
}

static void test_lengths(void)
{
    static const char chats[] =
        "{\"prompt\": \"a\", \"completion\": \"b\"}\n"
        "{\"prompt\": \"a\", \"completion\": \"a long answer that does not end soon\"}\n"
        "{\"prompt\": \"a question that is itself so long\", \"completion\": \"b\"}\n"
        "{\"prompt\": \"a\", \"completion\": \"c\"}\n"
        "{\"prompt\": \"a\", \"completion\": \"d\"}\n";
    peft_load_opts lo = kit_opts();
    peft_model *m = NULL;
    const char *path = put(in("chats.jsonl"), chats);
    OK(peft_model_load(model_dir, &lo, &m));
    peft_dataset_opts read = { .size = sizeof(read), .max_len = 12 };
    peft_judge_opts o = { .size = sizeof(o), .path = path, .read = &read };
    peft_checked c = { .size = sizeof(c) };
    peft_dataset *d = rows_of(m, path, &read);
    OK(peft_judge_check(m, d, &o, &c));
    const peft_flaw *cut = fault_of(&c, "answer-cut"), *lost = fault_of(&c, "answer-lost");
    CHECK(c.rows == 5 && c.n == 2 && cut && lost && !c.refuses);
    if (cut && lost) {
        CHECK(cut->rows == 1 && cut->n == 1 && cut->lines[0] == 2 && !cut->refuses);
        CHECK(lost->rows == 1 && lost->n == 1 && lost->lines[0] == 3 && lost->max_len > 12);
        /* What it says would do, does. */
        peft_dataset_free(d);
        read.max_len = MAX(cut->max_len, lost->max_len);
        d = rows_of(m, path, &read);
        OK(peft_judge_check(m, d, &o, &c));
        CHECK_EQ(c.n, 0);
        peft_dataset_free(d);
        read.max_len--;
        d = rows_of(m, path, &read);
        OK(peft_judge_check(m, d, &o, &c));
        CHECK_EQ(c.n, 1);
    }
    peft_dataset_free(d);
    read.max_len = 12;
    d = rows_of(m, path, &read);
    OK(peft_judge_check(m, d, NULL, &c));               /* without the file: only counted */
    CHECK(c.n == 2 && c.flaws[0].n == 0 && c.flaws[1].n == 0);
    peft_dataset_free(d);
    peft_model_free(m);
}

static void test_most_are_cut(void)
{
    char text[4096];
    size_t n = 0;
    for (int i = 0; i < 9; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              "{\"prompt\": \"q%d\", \"completion\": \"%s\"}\n", i,
                              i % 3 ? "an answer that is cut off" : "yes");
    peft_load_opts lo = kit_opts();
    peft_model *m = NULL;
    const char *path = put(in("cut.jsonl"), text);
    OK(peft_model_load(model_dir, &lo, &m));
    peft_dataset_opts read = { .size = sizeof(read), .max_len = 10 };
    peft_judge_opts o = { .size = sizeof(o), .path = path, .read = &read };
    peft_checked c = { .size = sizeof(c) };
    peft_dataset *d = rows_of(m, path, &read);
    OK(peft_judge_check(m, d, &o, &c));
    const peft_flaw *cut = fault_of(&c, "answer-cut");
    CHECK(c.refuses && cut && cut->refuses && cut->rows == 6);
    peft_dataset_free(d);
    peft_model_free(m);
}

static void test_leaks(void)
{
    peft_model *m = model_of_labels();
    peft_dataset *d = rows_of(m, classes, NULL);
    const char *path = put(in("eval.jsonl"), "{\"text\": \"never seen\", \"label\": \"a\"}\n"
                           "{\"text\": \"word 7   is 1\", \"label\": \"b\"}\n"
                           "{\"text\": \" word\\t7 is 1\", \"label\": \"a\"}\n");
    peft_dataset *e = rows_of(m, path, NULL);
    peft_judge_opts o = { .size = sizeof(o), .eval = e };
    peft_checked c = { .size = sizeof(c) };
    OK(peft_judge_check(m, d, &o, &c));
    const peft_flaw *leak = fault_of(&c, "leak");
    CHECK(c.refuses && c.n == 1 && leak && leak->rows == 2 && leak->n == 2);
    if (leak) {
        CHECK(leak->lines[0] == 2 && leak->others[0] == 8);
        CHECK(leak->lines[1] == 3 && leak->others[1] == 8);
    }
    OK(peft_judge_check(m, d, NULL, &c));
    CHECK(c.n == 0 && !c.refuses && c.rows == ROWS);
    peft_dataset_free(e);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* Pictures are equal when their files are: one that was only saved anew is another one. */
static void test_picture_leaks(void)
{
    peft_load_opts lo = kit_opts();
    peft_model *m = NULL;
    OK(peft_model_load("tests/golden/tiny/vit", &lo, &m));
    if (!m) GIVE_UP();
    peft_dataset *d = NULL;
    if (peft_dataset_load(m, "tests/golden/tiny/vit/data.csv", NULL, &d) == PEFT_EUNSUPPORTED) {
        peft_model_free(m);                         /* a build without libpng */
        return;
    }
    struct bytes b = get("tests/golden/tiny/vit/c0.png");
    put_bytes(in("other-name.png"), b.at, b.n);
    put_bytes(in("saved-anew.png"), b.at, b.n + 1);     /* what is behind the end is not read */
    copy("tests/golden/vision/rgb.png", in("fresh.png"));
    free(b.at);
    peft_dataset *e = rows_of(m, put(in("pictures.csv"), "image,label\nfresh.png,0\n"
                                     "other-name.png,0\nsaved-anew.png,0\n"), NULL);
    peft_judge_opts o = { .size = sizeof(o), .eval = e };
    peft_checked c = { .size = sizeof(c) };
    OK(peft_judge_check(m, d, &o, &c));
    const peft_flaw *leak = fault_of(&c, "leak");
    CHECK(c.refuses && leak && leak->rows == 1 && leak->lines[0] == 3 && leak->others[0] == 4);
    OK(peft_judge_check(m, e, &(peft_judge_opts){ .size = sizeof(o), .eval = d }, &c));
    leak = fault_of(&c, "leak");
    CHECK(c.refuses && leak && leak->rows == 1 && leak->lines[0] == 4 && leak->others[0] == 3);
    peft_dataset_free(e);
    peft_dataset_free(d);
    peft_model_free(m);
}

static void test_aside(void)
{
    peft_model *m = model_of_labels();
    peft_dataset *d = rows_of(m, classes, NULL), *train, *eval, *again[2];
    peft_dataset_stats s = { .size = sizeof(s) };
    peft_row a = { .size = sizeof(a) }, b = { .size = sizeof(b) };
    OK(peft_judge_aside(m, d, NULL, &train, &eval));
    peft_judge_opts o = { .size = sizeof(o), .eval = eval };
    peft_checked c = { .size = sizeof(c) };
    OK(peft_judge_check(m, train, &o, &c));
    CHECK_EQ(c.n, 0);                       /* equal texts are on one side */
    OK(peft_dataset_info(eval, &s));
    CHECK_EQ(s.rows, 15);
    int each[3] = { 0 };
    for (int64_t i = 0; i < s.rows; i++) {
        OK(peft_dataset_row(eval, i, &a));
        each[a.label]++;
    }
    CHECK(each[0] == 5 && each[1] == 5 && each[2] == 5);
    OK(peft_judge_aside(m, d, NULL, &again[0], &again[1]));
    int same = 1;
    for (int64_t i = 0; i < s.rows; i++) {
        OK(peft_dataset_row(eval, i, &a));
        OK(peft_dataset_row(again[1], i, &b));
        same &= a.line == b.line;
    }
    CHECK(same);
    peft_dataset_free(again[0]);
    peft_dataset_free(again[1]);
    peft_dataset_free(train);
    peft_dataset_free(eval);
    peft_aside_opts half = { .size = sizeof(half), .share = 0.5, .seed = 4 };
    OK(peft_judge_aside(m, d, &half, &train, &eval));
    OK(peft_dataset_info(eval, &s));
    CHECK(s.rows >= 29 && s.rows <= 31);
    peft_dataset_free(train);
    peft_dataset_free(eval);
    peft_dataset_opts few = { .size = sizeof(few), .limit = 10 };
    peft_dataset_free(d);
    d = rows_of(m, classes, &few);
    OK(peft_judge_aside(m, d, NULL, &train, &eval));
    CHECK(train && !eval);
    peft_dataset_free(train);
    peft_dataset_free(d);
    half.share = 1;
    REFUSED(peft_judge_aside(m, NULL, NULL, &train, &eval), PEFT_EARG);
    peft_model_free(m);
}

static void test_row(void)
{
    char text[256];
    peft_load_opts lo = kit_opts();
    peft_model *m = NULL;
    OK(peft_model_load(model_dir, &lo, &m));
    peft_dataset *d = rows_of(m, put(in("one.jsonl"),
                                     "{\"prompt\": \"ask\", \"completion\": \"say it\"}\n"), NULL);
    int64_t n = peft_judge_row(m, d, 0, NULL, NULL, text, sizeof(text));
    CHECK(n > 0 && n < (int64_t)sizeof(text));
    text[MAX(n, 0)] = 0;
    CHECK(strstr(text, "ask[say it") && text[n - 1] == ']');
    CHECK_EQ(peft_judge_row(m, d, 0, "<<", ">>", NULL, 0), n + 2);
    REFUSED(peft_judge_row(m, d, 1, NULL, NULL, NULL, 0), PEFT_ENOTFOUND);
    REFUSED(peft_judge_row(m, NULL, 0, NULL, NULL, NULL, 0), PEFT_EARG);
    peft_dataset_free(d);
    peft_model_free(m);
    m = model_of_labels();
    d = rows_of(m, classes, NULL);
    n = peft_judge_row(m, d, 4, "*", "*", text, sizeof(text));
    text[MAX(n, 0)] = 0;
    CHECK(strstr(text, "word 4 is 1") && strstr(text, " => *b*"));
    peft_dataset_free(d);
    peft_model_free(m);
    lo = kit_opts();
    m = NULL;
    OK(peft_model_load("tests/golden/tiny/llama", &lo, &m));
    d = rows_of(m, put(in("ids.jsonl"),
                       "{\"input_ids\": [1, 7, 9, 8], \"labels\": [-100, -100, 9, 8]}\n"), NULL);
    n = peft_judge_row(m, d, 0, NULL, NULL, text, sizeof(text));
    text[MAX(n, 0)] = 0;
    CHECK(!strcmp(text, "1 7 [9 8]"));
    peft_dataset_free(d);
    peft_model_free(m);
}

static int64_t size_of(const char *path)
{
    struct stat s;
    return stat(path, &s) ? 0 : (int64_t)s.st_size;
}

static void near(int64_t said, int64_t is)
{
    CHECK(is > 0 && fabs((double)(said - is)) <= 0.01 * (double)is + 64);
}

/* What is told of files is what they have. */
static void test_cost(void)
{
    peft_load_opts lo = kit_opts();
    peft_model *m = NULL;
    peft_trainer *t = NULL;
    OK(peft_model_load("tests/golden/tiny/llama", &lo, &m));
    char text[4096];
    size_t at = 0;
    for (int i = 0; i < 10; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at,
                               "{\"input_ids\": [1, %d, 9, 8%s]}\n", i + 10, i % 2 ? ", 5" : "");
    peft_dataset *d = rows_of(m, put(in("ids.jsonl"), text), NULL);
    peft_train_opts o = { .size = sizeof(o), .epochs = 3, .batch = 4 };
    peft_cost_opts price = { .size = sizeof(price), .price = 0.5 };
    peft_cost c = { .size = sizeof(c) };
    OK(peft_adapter_add(m, "default", NULL));
    OK(peft_trainer_new(m, d, &o, &t));
    OK(peft_judge_cost(m, d, t, &price, &c));
    CHECK(c.steps == 9 && c.tokens == 3 * 45 && c.trained_tokens == 3 * 35);
    CHECK(c.seconds > 0 && c.price == 0.5 * 135 && c.model_bytes == 0);
    peft_step s = { .size = sizeof(s) };
    while (!peft_train_step(t, &s)) continue;
    CHECK_EQ(s.tokens_seen, c.tokens);
    OK(peft_trainer_save(t, in("checkpoint")));
    OK(peft_adapter_save(m, "default", in("adapter")));
    near(c.checkpoint_bytes, size_of(in("checkpoint/state.safetensors")) +
                                 size_of(in("checkpoint/trainer.json")));
    near(c.adapter_bytes, size_of(in("adapter/adapter_model.safetensors")) +
                              size_of(in("adapter/adapter_config.json")) +
                              size_of(in("adapter/README.md")));
    peft_trainer_free(t);
    OK(peft_adapter_remove(m, "default"));
    OK(peft_unfreeze(m, "*"));
    OK(peft_trainer_new(m, d, &o, &t));
    OK(peft_judge_cost(m, d, t, NULL, &c));
    peft_trainer_free(t);
    OK(peft_model_save(m, in("whole"), NULL));
    near(c.model_bytes, size_of(in("whole/model.safetensors")));
    CHECK(c.adapter_bytes == 0 && c.price == 0);
    price.price = -1;
    REFUSED(peft_judge_cost(m, d, NULL, NULL, &c), PEFT_EARG);
    peft_dataset_free(d);
    peft_model_free(m);
}

static const peft_chosen *chosen(const peft_choice *c, const char *name)
{
    static const peft_chosen none = { .name = "" };
    for (int32_t i = 0; i < c->n; i++)
        if (!strcmp(c->chosen[i].name, name)) return &c->chosen[i];
    return &none;
}

/* The bits of a training that follows. */
static double train_after(peft_model *m, peft_dataset *d, const peft_choice *c)
{
    peft_trainer *t = NULL;
    peft_step s = { .size = sizeof(s) };
    peft_train_opts o = { .size = sizeof(o), .lr = 1e-2f, .steps = 4 };
    OK(peft_auto_apply(m, c, NULL));
    OK(peft_trainer_new(m, d, &o, &t));
    while (t && !peft_train_step(t, &s)) continue;
    peft_trainer_free(t);
    return s.loss;
}

static int same_runs(const peft_choice *a, const peft_choice *b)
{
    int same = a->n_tried == b->n_tried;
    for (int32_t i = 0; i < a->n_tried && same; i++)
        same = a->tried[i].value == b->tried[i].value && a->tried[i].lr == b->tried[i].lr &&
               a->tried[i].epochs == b->tried[i].epochs &&
               !strcmp(a->tried[i].method, b->tried[i].method);
    return same;
}

/* The runs that a choice is made from: halves of them go on, each to twice the epochs, and the
 * one that was taken is among them. */
static void check_runs(const peft_choice *c, int32_t ways)
{
    int found = 0, longer = 0;
    for (int32_t i = 0; i < c->n_tried; i++) {
        const peft_tried *t = &c->tried[i];
        CHECK(t->epochs > 0 && t->seconds >= 0 && t->lr > 0 && t->value >= 0);
        found |= !strcmp(t->method, c->method) && t->lr == c->lr && t->epochs == c->epochs;
        longer += i > 0 && t->epochs == 2 * c->tried[0].epochs;
    }
    CHECK(found && c->n_tried > ways && longer > 0 && c->seconds > 0);
}

static void test_choice(const char *method)
{
    peft_model *m = model_of_labels(), *plain = model_of_labels();
    peft_dataset *d = rows_of(m, classes, NULL), *e = rows_of(plain, classes, NULL);
    peft_choice c = { .size = sizeof(c) }, twice = { .size = sizeof(twice) };
    peft_auto_opts o = { .size = sizeof(o), .method = method, .range_steps = 30 };
    OK(peft_auto(m, d, d, &o, &c));
    OK(peft_auto(m, d, d, &o, &twice));
    CHECK(c.lr > 0 && c.lr == twice.lr && c.n == twice.n && c.n_range == 30);
    CHECK(!memcmp(c.range_loss, twice.range_loss, sizeof(c.range_loss)) && same_runs(&c, &twice));
    for (int32_t i = 0; i < c.n; i++) CHECK(c.chosen[i].value[0] && c.chosen[i].why[0]);
    CHECK(chosen(&c, "method")->given == (method != NULL) && c.refit && !c.patience);
    check_runs(&c, 3);
    /* Nothing of it is left in the model. */
    double after = train_after(m, d, &c), without = train_after(plain, e, &c);
    CHECK(after == without && after > 0);
    peft_dataset_free(d);
    peft_dataset_free(e);
    peft_model_free(m);
    peft_model_free(plain);
}

/* Rules and range tests alone; rows that end the training. */
static void test_without_runs(void)
{
    peft_model *m = model_of_labels();
    peft_dataset *d = rows_of(m, classes, NULL);
    peft_choice c = { .size = sizeof(c) };
    peft_auto_opts o = { .size = sizeof(o), .no_runs = 1 };
    OK(peft_auto(m, d, d, &o, &c));
    CHECK(!c.n_tried && !c.refit && c.patience > 0 && c.n_range > 0 && !strcmp(c.method, "lora"));
    o = (peft_auto_opts){ .size = sizeof(o), .no_refit = 1, .metric = "accuracy", .method = "head",
                          .lr = 1e-2f };
    OK(peft_auto(m, d, d, &o, &c));
    CHECK(c.n_tried > 0 && !c.refit && c.patience > 0 && !strcmp(c.metric, "accuracy"));
    for (int32_t i = 0; i < c.n_tried; i++)             /* less is better */
        CHECK(c.tried[i].value <= 0 && c.tried[i].value >= -1);
    o = (peft_auto_opts){ .size = sizeof(o), .no_refit = 1, .method = "head" };
    OK(peft_auto(m, d, d, &o, &c));
    CHECK(!c.refit && c.patience == c.epochs && !strcmp(c.metric, "brier"));
    o = (peft_auto_opts){ .size = sizeof(o), .method = "head", .lr = 1e-2f, .epochs = 2 };
    OK(peft_auto(m, d, d, &o, &c));
    CHECK(!c.n_tried && !c.refit && c.epochs == 2);     /* nothing is left to compare */
    o = (peft_auto_opts){ .size = sizeof(o), .method = "ia3" };     /* whose rate is its own */
    OK(peft_auto(m, d, d, &o, &c));
    CHECK(!strcmp(c.method, "ia3") && c.n_tried > 1 && c.refit && !(c.lr > 0));
    peft_dataset_free(d);
    peft_model_free(m);
}

/* Pairs of texts, which have no classes, and pictures. */
static void test_tasks(void)
{
    char text[8192];
    size_t n = 0;
    for (int i = 0; i < 30; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              "{\"anchor\": \"word %d\", \"positive\": \"a word %d\"}\n", i, i);
    const char *const data[] = { put(in("near.jsonl"), text), "tests/golden/tiny/vit/data.csv" };
    const char *const models[] = { model_dir, "tests/golden/tiny/vit" };
    for (int i = 0; i < 2; i++) {
        peft_load_opts lo = kit_opts();
        peft_model *m = NULL;
        peft_choice c = { .size = sizeof(c) };
        peft_dataset_stats s = { .size = sizeof(s) };
        OK(peft_model_load(models[i], &lo, &m));
        if (!m) GIVE_UP();
        peft_dataset *d = rows_of(m, data[i], NULL);
        OK(peft_dataset_info(d, &s));
        OK(peft_auto(m, d, d, NULL, &c));
        CHECK(c.lr > 0 && c.epochs > 0 && c.batch > 0 && c.n_tried > 1 && s.rows > 0);
        OK(peft_auto_apply(m, &c, NULL));
        peft_dataset_free(d);
        peft_model_free(m);
    }
}

static int32_t stop(void *ctx, const char *doing, int64_t done, int64_t total)
{
    (void)doing;
    (void)total;
    return (*(int *)ctx)-- <= 0 || done < 0;
}

static void test_given(void)
{
    peft_model *m = model_of_labels();
    peft_dataset *d = rows_of(m, classes, NULL);
    peft_choice c = { .size = sizeof(c) };
    peft_auto_opts o = { .size = sizeof(o), .method = "head", .batch = 7, .epochs = 9,
                         .lr = 0.25f };
    OK(peft_auto(m, d, NULL, &o, &c));
    CHECK(!strcmp(c.method, "head") && c.batch == 7 && c.epochs == 9 && c.lr == 0.25f);
    CHECK(!c.patience && !c.n_range && chosen(&c, "lr")->given && chosen(&c, "batch")->given);
    o = (peft_auto_opts){ .size = sizeof(o), .rank = 3, .range_steps = -1 };
    OK(peft_auto(m, d, d, &o, &c));
    CHECK(c.rank == 3 && !strcmp(c.method, "lora") && !c.n_range && !c.n_tried);
    int calls = 3;
    o = (peft_auto_opts){ .size = sizeof(o), .progress = stop, .ctx = &calls };
    REFUSED(peft_auto(m, d, d, &o, &c), PEFT_ECANCELLED);
    o = (peft_auto_opts){ .size = sizeof(o), .method = "magic" };
    REFUSED(peft_auto(m, d, d, &o, &c), PEFT_EARG);
    o = (peft_auto_opts){ .size = sizeof(o), .memory = 1000 };
    REFUSED(peft_auto(m, d, d, &o, &c), PEFT_ENOMEM);
    o = (peft_auto_opts){ .size = sizeof(o), .range_steps = 1000 };
    REFUSED(peft_auto(m, d, d, &o, &c), PEFT_EARG);
    REFUSED(peft_auto(NULL, d, d, NULL, &c), PEFT_EARG);
    REFUSED(peft_auto(m, d, d, NULL, NULL), PEFT_EARG);
    peft_info info = { .size = sizeof(info) };
    OK(peft_model_info(m, &info));
    CHECK(info.n_adapters == 0 && info.trainable == info.params);
    OK(peft_adapter_add(m, "mine", NULL));
    REFUSED(peft_auto(m, d, d, NULL, &c), PEFT_ESTATE);
    peft_dataset_free(d);
    peft_dataset_opts few = { .size = sizeof(few), .limit = 9 };
    OK(peft_adapter_remove(m, "mine"));
    d = rows_of(m, classes, &few);
    OK(peft_auto(m, d, NULL, NULL, &c));
    CHECK(!strcmp(c.method, "head"));
    peft_dataset_free(d);
    peft_model_free(m);
}

static void test_choices(void)
{
    test_choice(NULL);
    test_choice("head");
    test_choice("last");
    test_choice("full");
}

int main(void)
{
    kit_begin();
    snprintf(model_dir, sizeof(model_dir), "%s", make_model("model", 1));
    make_classes();
    RUN(test_lengths);
    RUN(test_most_are_cut);
    RUN(test_leaks);
    RUN(test_picture_leaks);
    RUN(test_aside);
    RUN(test_row);
    RUN(test_cost);
    RUN(test_choices);
    RUN(test_without_runs);
    RUN(test_tasks);
    RUN(test_given);
    kit_end();
    CHECK_EQ(kit_mem.live, 0);
    return TEST_END();
}
