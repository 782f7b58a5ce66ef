/* Judgement: what evaluations tell of single rows, and systems compared. */
#include <math.h>

#include "judge/board.h"
#define kit_end kit_remove           /* prep.h has one too */
#include "kit.h"

/* ------------------------------------------------------------- single rows */

struct seen {
    int64_t rows, last, last_line, terms, right, chunks[3], stop;
    double loss, exact, f1, margin, reciprocal;
    int bad;
};

static int is_share(const float *p, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += (double)p[i];
    return fabs(sum - 1) < 1e-5;
}

static int32_t on_row(void *ctx, const peft_eval_row *r)
{
    struct seen *s = ctx;
    s->bad += r->size != sizeof(*r) || r->row <= s->last - !s->rows || r->line <= s->last_line;
    s->last = r->row;
    s->last_line = r->line;
    s->rows++;
    s->terms += r->terms;
    s->right += r->right;
    s->loss += r->loss;
    s->exact += r->exact;
    s->f1 += r->f1;
    s->margin += r->margin;
    s->reciprocal += r->rank ? 1.0 / (double)r->rank : 0;
    s->chunks[0] += r->chunks_right;
    s->chunks[1] += r->chunks_said;
    s->chunks[2] += r->chunks;
    if (r->n && !r->wanted)         /* one class */
        s->bad += !is_share(r->scores, r->n) || r->right != (r->label == r->said) ||
                  fabs(r->loss + log((double)r->scores[r->label])) > 1e-4;
    for (int32_t i = 0; r->wanted && i < r->n; i++) s->bad += !isfinite(r->scores[i]);
    int64_t same = 0;
    for (int64_t i = 0; r->tags && i < r->terms; i++) same += r->labels[i] == r->tags[i];
    s->bad += r->tags && same != r->right;
    s->bad += r->answer && (r->answer_n < 1 || !r->answer[0]);
    return s->rows == s->stop;
}

static double figure(const peft_evaluation *e, const char *name)
{
    for (int i = 0; i < e->n_metrics; i++)
        if (!strcmp(e->metrics[i].name, name)) return e->metrics[i].value;
    return NAN;
}

/* Evaluates with and without on_row, which changes nothing, and adds up to the whole. */
static struct seen rows_of(peft_model *m, const char *path, const char *objective,
                           peft_evaluation *e)
{
    peft_evaluation plain = { .size = sizeof(plain) };
    struct seen s = { 0 };
    peft_eval_opts o = { .size = sizeof(o), .batch = 2, .objective = objective };
    peft_dataset *d = data(m, path);
    *e = plain;
    OK(peft_eval(m, d, &o, &plain));
    o.on_row = on_row;
    o.ctx = &s;
    OK(peft_eval(m, d, &o, e));
    e->seconds = plain.seconds;
    CHECK(!memcmp(e, &plain, sizeof(plain)));
    CHECK_EQ(s.bad, 0);
    CHECK_EQ(s.terms, e->tokens);
    CHECK_NEAR(s.loss / (double)s.terms, e->loss, 1e-9);
    o.ctx = &(struct seen){ .stop = 1 };
    REFUSED(peft_eval(m, d, &o, &plain), PEFT_ECANCELLED);
    peft_dataset_free(d);
    return s;
}

static peft_model *with_head(const char *kind, int32_t labels, const char *const *names)
{
    peft_model *m = load(in("m"));
    peft_head_opts h = { .size = sizeof(h), .labels = labels, .names = names, .kind = kind,
                         .seed = 3 };
    OK(peft_head_add(m, &h));
    return m;
}

static void test_rows_language(void)
{
    peft_model *m = load(in("m"));
    peft_evaluation e;
    struct seen s = rows_of(m, rows_file(), NULL, &e);
    CHECK_EQ(s.rows, 10);
    CHECK_NEAR((double)s.right / (double)s.terms, e.token_accuracy, 1e-12);
    peft_model_free(m);
    m = load("tests/golden/tiny/t5");
    s = rows_of(m, put(in("pairs.jsonl"), "{\"input_ids\": [5, 6, 7], \"labels\": [8, 9, 1]}\n"
                                          "{\"input_ids\": [9, 4], \"labels\": [3, 1]}\n"
                                          "\n{\"input_ids\": [2, 4], \"labels\": [3, 5, 6, 1]}\n"),
                NULL, &e);
    CHECK(s.rows == 3 && s.terms == 9 && s.last_line == 4);
    peft_model_free(m);
}

static void test_rows_classes(void)
{
    peft_model *m = with_head(NULL, 3, kit_labels);
    peft_evaluation e;
    struct seen s = rows_of(m, label_file(), NULL, &e);
    CHECK_NEAR((double)s.right / 9, e.accuracy, 1e-12);
    peft_model_free(m);
    m = with_head("multi-label", 3, kit_labels);
    s = rows_of(m, put(in("many.jsonl"), "{\"text\": \"a\", \"labels\": [\"good\", \"bad\"]}\n"
                                         "{\"text\": \"b\", \"labels\": [\"so-so\"]}\n"
                                         "{\"text\": \"c\", \"labels\": []}\n"), NULL, &e);
    CHECK_NEAR((double)s.right / 3, e.accuracy, 1e-12);
    peft_model_free(m);
    m = with_head("regression", 2, NULL);
    rows_of(m, put(in("numbers.jsonl"), "{\"text\": \"a\", \"labels\": [1.5, 2]}\n"
                                        "{\"text\": \"b\", \"labels\": [0.5, -1]}\n"), NULL, &e);
    peft_model_free(m);
}

static void test_rows_tokens(void)
{
    static const char *const names[] = { "B-A", "I-A", "O" };
    peft_model *m = with_head("tokens", 3, names);
    peft_evaluation e;
    struct seen s = rows_of(m, put(in("tags.jsonl"),
        "{\"tokens\": [\"a\", \"b\", \"c\"], \"tags\": [\"O\", \"B-A\", \"I-A\"]}\n"
        "{\"tokens\": [\"d\", \"e\"], \"tags\": [\"B-A\", \"B-A\"]}\n"
        "{\"tokens\": [\"g\"], \"tags\": [\"O\"]}\n"), NULL, &e);
    CHECK_EQ(s.chunks[2], 3);
    CHECK_NEAR(s.chunks[1] ? (double)s.chunks[0] / (double)s.chunks[1] : 0,
               figure(&e, "precision"), 1e-12);
    peft_model_free(m);
}

static void test_rows_questions(void)
{
    char text[2048] = "{\"question\": \"who\", \"context\": \"";
    for (int i = 0; i < 40; i++) strcat(text, "user ");
    strcat(text, "hello\", \"answers\": {\"text\": [\"hello\"], \"answer_start\": [200]}}\n"
                 "{\"question\": \"a\", \"context\": \"hello user\", \"answers\": "
                 "{\"text\": [\"user\"], \"answer_start\": [6]}}\n");
    peft_model *m = with_head("question-answering", 2, NULL);
    peft_evaluation e;
    struct seen s = rows_of(m, put(in("asked.jsonl"), text), NULL, &e);
    CHECK(s.rows == 2 && e.rows > 2);                       /* windows */
    CHECK_NEAR(50 * s.f1, figure(&e, "f1"), 1e-9);
    CHECK_NEAR(50 * s.exact, figure(&e, "exact"), 1e-9);
    peft_model_free(m);
}

static void test_rows_pairs(void)
{
    peft_model *m = with_head("reward", 1, NULL);
    peft_evaluation e;
    struct seen s = rows_of(m, put(in("better.jsonl"), "{\"chosen\": \"a\", \"rejected\": \"b\"}\n"
                                   "{\"chosen\": \"hello\", \"rejected\": \"user\"}\n"
                                   "{\"chosen\": \"c\", \"rejected\": \"d\"}\n"), NULL, &e);
    CHECK_NEAR(s.margin / 3, figure(&e, "margin"), 1e-9);
    peft_model_free(m);
    m = load(in("m"));
    s = rows_of(m, put(in("near.jsonl"), "{\"anchor\": \"a\", \"positive\": \"b\"}\n"
                                         "{\"anchor\": \"hello\", \"positive\": \"user\"}\n"
                                         "{\"anchor\": \"c\", \"positive\": \"d\"}\n"), NULL, &e);
    CHECK_NEAR(s.reciprocal / 3, figure(&e, "mrr_10"), 1e-9);
    const char *alike = put(in("alike.jsonl"),
        "{\"sentence1\": \"a\", \"sentence2\": \"b\", \"score\": 1}\n"
        "{\"sentence1\": \"hello\", \"sentence2\": \"user\", \"score\": 0.5}\n"
        "{\"sentence1\": \"c\", \"sentence2\": \"d\", \"score\": 0}\n");
    rows_of(m, alike, "cosent", &e);
    rows_of(m, alike, "cosine", &e);
    peft_model_free(m);
}

/* ------------------------------------------------- figures and their intervals */

static double said_by(peft_board *b, int32_t system, const char *name, peft_figure *f)
{
    f->size = sizeof(*f);
    for (int32_t i = 0; !peft_board_figure(b, system, i, f); i++)
        if (!strcmp(f->name, name)) return f->value;
    return NAN;
}

static struct system *add_system(peft_board *b, const char *name)
{
    struct system **list = mem_realloc(&b->host.mem, b->systems, (b->n + 1) * 8);
    struct system *s = mem_zalloc(&b->host.mem, sizeof(*s));
    if (!list || !s) GIVE_UP();
    arena_init(&s->arena, &b->host.mem);
    s->name = mem_strdup(&b->host.mem, name);
    s->known = 1u << KNOWN_CLASS;
    b->systems = list;
    b->cap = b->n + 1;
    return b->systems[b->n++] = s;
}

static void add_guess(peft_board *b, struct system *s, int64_t line, int is, int said, double sure)
{
    struct found *f = system_row(b, s, line);
    if (!f) GIVE_UP();
    f->label = is;
    f->said = said;
    f->confidence = sure;
    f->terms = 1;
    f->right = is == said;
}

/* A case of make_judge.py: both draw anew, so intervals and p agree but for chance. */
static void check_case(FILE *in_file, int n, int classes)
{
    enum { HEAD = 14, MOST = 200 };
    double want[HEAD], sure[MOST], step = 1.0 / n + 0.002;
    int32_t right[MOST];
    peft_board *b = NULL;
    peft_board_opts o = { .size = sizeof(o), .samples = 8000, .seed = 4 };
    peft_figure f;
    peft_versus v = { .size = sizeof(v) };
    OK(peft_board_new("none.jsonl", &o, &b));
    for (int i = 0; i < HEAD; i++)
        if (fscanf(in_file, "%lf", &want[i]) != 1) GIVE_UP();
    for (int i = 0; i < classes; i++) board_label(b, (char[]){ (char)('a' + i), 0 });
    struct system *one = add_system(b, "a"), *two = add_system(b, "b");
    for (int i = 0; i < n; i++) {
        int is, x, y;
        if (fscanf(in_file, "%d %d %d %lf", &is, &x, &y, &sure[i]) != 4) GIVE_UP();
        add_guess(b, one, i + 1, is, x, sure[i]);
        right[i] = is == x;
        add_guess(b, two, i + 1, is, y, sure[i]);
    }
    CHECK_NEAR(said_by(b, 0, "accuracy", &f), want[0], 1e-9);
    CHECK_NEAR(f.low, want[3], step);
    CHECK_NEAR(f.high, want[4], step);
    CHECK_NEAR(said_by(b, 0, "f1", &f), want[1], 1e-9);
    CHECK_NEAR(f.low, want[5], 0.015);
    CHECK_NEAR(f.high, want[6], 0.015);
    CHECK_NEAR(said_by(b, 0, "ece", &f), want[2], 1e-9);
    CHECK_NEAR(peft_calibration_error(sure, right, n, 0), want[2], 1e-9);
    OK(peft_board_versus(b, 0, 1, "accuracy", &v));
    CHECK_NEAR(v.other, want[7], 1e-9);
    CHECK_NEAR(v.low, want[9], step);
    CHECK_NEAR(v.high, want[10], step);
    CHECK_NEAR(v.p, want[13], 0.02);
    CHECK_EQ(v.rows, n);
    CHECK_EQ(v.verdict, v.low > 0 && v.p < 0.05 ? 1 : v.high < 0 && v.p < 0.05 ? -1 : 0);
    CHECK(strstr(v.words, "accuracy") && strstr(v.words, v.verdict ? "than" : "beyond chance"));
    OK(peft_board_versus(b, 0, 1, "f1", &v));
    CHECK_NEAR(v.other, want[8], 1e-9);
    CHECK_NEAR(v.low, want[11], 0.015);
    CHECK_NEAR(v.high, want[12], 0.015);
    peft_board_free(b);
}

static void test_figures(void)
{
    FILE *f = fopen("tests/golden/judge.txt", "rb");
    int n, classes, cases = 0;
    if (!f) GIVE_UP();
    for (; fscanf(f, "%d %d", &n, &classes) == 2; cases++) check_case(f, n, classes);
    CHECK_EQ(cases, 4);
    fclose(f);
}

/* Exchanging 8 rows has 256 outcomes: the exact p.  The normal interval of 400 rows. */
static void test_closed_forms(void)
{
    static const double a[8] = { 0.1, 0.5, 0.4, 0.9, 0.2, 0.3, 0.6, 0.1 };
    static const double b[8] = { 0.4, 0.6, 0.3, 1.0, 0.6, 0.5, 0.9, 0.2 };
    const struct figure mean = { "mean", 1, 1, figure_mean, NULL };
    struct draws d = { 20000, 0.95, 1 };
    struct interval range;
    double p, apart = 0, many[400];
    int as_far = 0;
    struct mem mem;
    mem_init(&mem, NULL, NULL);
    for (int i = 0; i < 8; i++) apart += b[i] - a[i];
    for (int signs = 0; signs < 256; signs++) {
        double sum = 0;
        for (int i = 0; i < 8; i++) sum += signs >> i & 1 ? a[i] - b[i] : b[i] - a[i];
        as_far += fabs(sum) >= apart - 1e-12;
    }
    OK(bootstrap_pair(&mem, &mean, a, b, 8, &d, &range, &p));
    CHECK_NEAR(p, as_far / 256.0, 0.005);
    for (int i = 0; i < 400; i++) many[i] = i < 300;
    d.samples = 4000;
    OK(bootstrap(&mem, &mean, many, 400, &d, &range));
    double half = 1.96 * sqrt(0.75 * 0.25 / 400);
    CHECK_NEAR(range.low, 0.75 - half, 0.006);
    CHECK_NEAR(range.high, 0.75 + half, 0.006);
    d.samples = -1;
    REFUSED(draws_check(&d), PEFT_EARG);
    REFUSED(peft_calibration_error((double[]){ 2 }, (int32_t[]){ 1 }, 1, 0), PEFT_EARG);
}

/* -------------------------------------------------------------------- systems */

static peft_board *board(const char *path, peft_board_opts o)
{
    peft_board *b = NULL;
    o.size = sizeof(o);
    OK(peft_board_new(path, &o, &b));
    if (!b) GIVE_UP();
    return b;
}

/* What is told is what peft_eval tells, and the model is as it was. */
static void test_systems_classes(void)
{
    peft_model *m = with_head(NULL, 3, kit_labels), *other = load(in("m"));
    peft_board *b = board(label_file(), (peft_board_opts){ .shots = label_file(),
                                                                       .question = "?" });
    peft_evaluation e = { .size = sizeof(e) };
    int64_t is[9], counted[9];
    peft_eval_opts o = { .size = sizeof(o), .confusion = is };
    peft_judged told = { .size = sizeof(told) };
    peft_prediction p = { .size = sizeof(p) };
    peft_versus v = { .size = sizeof(v) };
    peft_figure f;
    peft_dataset *d = data(m, label_file());
    OK(peft_eval(m, d, &o, &e));
    CHECK_EQ(peft_board_run(b, m, "head", 0, &told), 0);
    CHECK(told.rows == 9 && told.labels == 3 && !told.how[0]);
    CHECK_NEAR(said_by(b, 0, "accuracy", &f), e.accuracy, 1e-12);
    CHECK(f.low <= f.value && f.value <= f.high && !f.lower);
    CHECK_NEAR(said_by(b, 0, "f1", &f), e.f1, 1e-12);
    CHECK_NEAR(said_by(b, 0, "log_loss", &f), e.loss, 1e-9);
    CHECK_EQ(peft_board_confusion(b, 0, counted), 3);
    for (int i = 0; i < 9; i++) CHECK_EQ(counted[i], is[i]);
    /* A language model is asked; as likely as its own likelihoods say. */
    CHECK_EQ(peft_board_run(b, other, "asked", 0, &told), 1);
    CHECK(told.how[0] && told.prompt_tokens > 27);
    CHECK_EQ(peft_board_run(b, NULL, "majority", 0, &told), 2);
    CHECK_NEAR(said_by(b, 2, "accuracy", &f), 1.0 / 3, 1e-12);
    CHECK_NEAR(said_by(b, 2, "log_loss", &f), log(3), 1e-6);
    OK(peft_board_versus(b, 2, 0, "f1", &v));
    CHECK_NEAR(v.gain, e.f1 - said_by(b, 2, "f1", &f), 1e-12);
    for (int i = 0; i < 9; i++) {
        OK(peft_board_row(b, 0, i, &p));
        CHECK(p.line == i + 1 && p.confidence > 0.33 && strchr("bgs", p.wanted[0]));
    }
    CHECK_EQ(peft_board_row(b, 0, 9, &p), PEFT_EEND);
    REFUSED(peft_board_run(b, m, "head", 0, NULL), PEFT_EARG);
    REFUSED(peft_board_run(b, m, "shots", 2, NULL), PEFT_EUNSUPPORTED);
    REFUSED(peft_board_versus(b, 0, 1, "rougeL", &v), PEFT_ENOTFOUND);
    REFUSED(peft_board_figure(b, 3, 0, &f), PEFT_EARG);
    /* A run that fails leaves no trace. */
    CHECK_EQ(peft_board_run(b, other, "two", 1, &told), 3);
    peft_board_free(b);
    peft_dataset_free(d);
    peft_model_free(m);
    peft_model_free(other);
}

static int32_t stop(void *ctx, const char *doing, int64_t done, int64_t rows)
{
    (void)doing, (void)done, (void)rows;
    return ++*(int *)ctx > 1;
}

static void test_systems_language(void)
{
    peft_model *m = load(in("m"));
    int calls = 0;
    peft_board *b = board(chat_file(), (peft_board_opts){ .generate = 1, .max_tokens = 5,
                                                          .shots = in("shots.jsonl") });
    put(in("shots.jsonl"), "{\"messages\": [{\"role\": \"user\", \"content\": \"hello\"}, "
                           "{\"role\": \"assistant\", \"content\": \"user\"}]}\n");
    peft_judged told = { .size = sizeof(told) };
    peft_evaluation e = { .size = sizeof(e) };
    peft_prediction p = { .size = sizeof(p) };
    peft_versus v = { .size = sizeof(v) };
    peft_figure f;
    peft_dataset *d = data(m, chat_file());
    OK(peft_eval(m, d, NULL, &e));
    CHECK_EQ(peft_board_run(b, m, "base", 0, &told), 0);
    CHECK(told.rows == 2 && told.answers == 2 && told.tokens <= 10);
    CHECK_NEAR(said_by(b, 0, "perplexity", &f), e.perplexity, 1e-6 * e.perplexity);
    CHECK(f.lower);
    CHECK_NEAR(said_by(b, 0, "token_accuracy", &f), e.token_accuracy, 1e-12);
    CHECK(said_by(b, 0, "rougeL", &f) >= 0 && said_by(b, 0, "chrf", &f) >= 0);
    OK(peft_board_row(b, 0, 0, &p));
    CHECK(!strcmp(p.wanted, "a") && p.said);
    CHECK_EQ(peft_board_run(b, m, "shown", 1, &told), 1);
    CHECK(told.shots == 1 && told.how[0]);
    OK(peft_board_versus(b, 0, 1, "perplexity", &v));
    CHECK_EQ(v.rows, 2);
    peft_board_free(b);
    b = board(chat_file(), (peft_board_opts){ .progress = stop, .ctx = &calls, .batch = 1 });
    REFUSED(peft_board_run(b, m, "base", 0, &told), PEFT_ECANCELLED);
    REFUSED(peft_board_run(b, m, "base", 1, &told), PEFT_EARG);
    peft_board_free(b);
    b = board(rows_file(), (peft_board_opts){ .generate = 1 });
    REFUSED(peft_board_run(b, m, "base", 0, &told), PEFT_EUNSUPPORTED);  /* all is trained */
    peft_board_free(b);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* p(ab), p(acd) and p(ace) up to where the last two part. */
static void by_hand(peft_board *b, peft_model *m, const struct ask *a, double logp[3])
{
    struct prompt x[3];
    double first[2], second[2];
    int64_t d = 0;
    for (int i = 0; i < 3; i++) {
        prompt_init(&x[i], &b->host.mem);
        OK(prompt_make(b, m, a, 0, peft_board_label(b, i), 64, &x[i]));
    }
    while (x[0].ids.v[d] == x[1].ids.v[d]) d++;
    int64_t e = d;
    while (x[1].ids.v[e] == x[2].ids.v[e]) e++;
    CHECK(e > d);
    int32_t next[2] = { x[0].ids.v[d], x[1].ids.v[d] }, last[2] = { x[1].ids.v[e], x[2].ids.v[e] };
    OK(peft_logprob_next(m, x[0].ids.v, (int32_t)d, next, 2, first));
    OK(peft_logprob_next(m, x[1].ids.v, (int32_t)e, last, 2, second));
    logp[0] = first[0];
    logp[1] = first[1] + second[0];
    logp[2] = first[1] + second[1];
    for (int i = 0; i < 3; i++) prompt_free(&x[i]);
}

/* Labels are scored by the tokens where they part, less what any text would give them. */
static void test_guesses(void)
{
    peft_model *m = load(in("m"));
    const char *path = put(in("parts.jsonl"), "{\"text\": \"a\", \"label\": \"ab\"}\n"
        "{\"text\": \"b\", \"label\": \"acd\"}\n{\"text\": \"c\", \"label\": \"ace\"}\n");
    peft_board *b = board(path, (peft_board_opts){ .question = "?" });
    peft_prediction p = { .size = sizeof(p) };
    const peft_message nothing = { "user", "N/A" };
    double x[3], prior[3], sum = 0;
    int best = 0;
    CHECK_EQ(peft_board_run(b, m, "asked", 0, NULL), 0);
    by_hand(b, m, &b->rows.v[1], x);
    by_hand(b, m, &(struct ask){ 0, ASK_CLASS, &nothing, 1, "" }, prior);
    for (int i = 0; i < 3; i++) {
        x[i] -= prior[i];
        sum += exp(x[i]);
        best = x[i] > x[best] ? i : best;
    }
    OK(peft_board_row(b, 0, 1, &p));
    CHECK(!strcmp(p.said, peft_board_label(b, best)) && !strcmp(p.wanted, "acd"));
    CHECK_NEAR(p.confidence, exp(x[best]) / sum, 1e-5);
    CHECK_NEAR(p.loss, -log(exp(x[1]) / sum), 1e-5);
    peft_board_free(b);
    peft_model_free(m);
}

/* A tiny model of the goldens with a tokenizer of a few words. */
static peft_model *with_words(const char *family)
{
    static const char words[] =
        "{\"version\": \"1.0\", \"model\": {\"type\": \"WordLevel\", \"unk_token\": \"<unk>\", "
        "\"vocab\": {\"<pad>\": 0, \"</s>\": 1, \"<unk>\": 2, \"red\": 11, \"green\": 12, "
        "\"blue\": 13, \"dog\": 21, \"cat\": 22, \"cow\": 23}}, \"normalizer\": null, "
        "\"pre_tokenizer\": {\"type\": \"WhitespaceSplit\"}, \"decoder\": null, "
        "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": ["
        "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, {\"SpecialToken\": {\"id\": \"</s>\", "
        "\"type_id\": 0}}], \"pair\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], "
        "\"special_tokens\": {\"</s>\": {\"id\": \"</s>\", \"ids\": [1], "
        "\"tokens\": [\"</s>\"]}}}, "
        "\"added_tokens\": [{\"id\": 0, \"content\": \"<pad>\", \"special\": true}, "
        "{\"id\": 1, \"content\": \"</s>\", \"special\": true}]}";
    static const char *const files[] = { "config.json", "model.safetensors" };
    char from[128];
    mkdir(in("%s", family), 0777);
    for (int i = 0; i < 2; i++) {
        snprintf(from, sizeof(from), "tests/golden/tiny/%s/%s", family, files[i]);
        copy(from, in("%s/%s", family, files[i]));
    }
    put(in("%s/tokenizer.json", family), words);
    return load(in("%s", family));
}

/* An encoder-decoder model answers its sources. */
static void test_sources(void)
{
    peft_model *m = with_words("t5");
    peft_board *b = board(put(in("sources.jsonl"),
                              "{\"source\": \"red dog\", \"target\": \"blue cat\"}\n"
                              "{\"source\": \"green\", \"target\": \"cow\"}\n"),
                          (peft_board_opts){ .generate = 1, .max_tokens = 4 });
    peft_generate_opts g = { .size = sizeof(g), .max_tokens = 4 };
    peft_prediction p = { .size = sizeof(p) };
    int32_t ids[3] = { 11, 21, 1 }, said[4];
    char text[64];
    CHECK_EQ(peft_board_run(b, m, "t5", 0, NULL), 0);
    OK(peft_board_row(b, 0, 0, &p));
    CHECK_STR(p.wanted, "blue cat");
    int64_t n = peft_generate_ids(m, ids, 3, &g, said, 4, NULL);
    int64_t bytes = peft_detokenize(m, said, n, PEFT_DETOK_SKIP, text, 63);
    text[MAX(bytes, 0)] = 0;
    while (bytes > 0 && text[bytes - 1] == ' ') text[--bytes] = 0;
    CHECK_STR(p.said, text + strspn(text, " "));
    REFUSED(peft_board_run(b, m, "shown", 1, NULL), PEFT_EARG);
    peft_board_free(b);
    peft_model_free(m);
}

/* An encoder without a head takes the label of the nearest examples. */
static void test_nearest(void)
{
    peft_model *m = load("tests/golden/embed");
    peft_board *b = board(put(in("animals.jsonl"), "{\"text\": \"red\", \"label\": \"colour\"}\n"
                              "{\"text\": \"dog cat\", \"label\": \"animal\"}\n"),
                          (peft_board_opts){ .shots = put(in("known.jsonl"),
        "{\"text\": \"red\", \"label\": \"colour\"}\n{\"text\": \"dog cat\", "
        "\"label\": \"animal\"}\n{\"text\": \"dog cat\", \"label\": \"animal\"}\n") });
    peft_figure f;
    REFUSED(peft_board_run(b, m, "none", 0, NULL), PEFT_EUNSUPPORTED);
    CHECK_EQ(peft_board_run(b, m, "nearest", 3, NULL), 0);
    CHECK_NEAR(said_by(b, 0, "accuracy", &f), 1, 1e-12);
    CHECK(said_by(b, 0, "log_loss", &f) < log(2));
    peft_board_free(b);
    peft_model_free(m);
}

/* Every task's first figure is peft_eval's. */
static void check_task(peft_model *m, const char *path, const char *figure_name)
{
    peft_evaluation e = { .size = sizeof(e) };
    peft_board *b = board(path, (peft_board_opts){ .samples = 50 });
    peft_dataset *d = data(m, path);
    peft_figure f;
    OK(peft_eval(m, d, NULL, &e));
    CHECK_EQ(peft_board_run(b, m, "m", 0, NULL), 0);
    CHECK_NEAR(said_by(b, 0, figure_name, &f), figure(&e, figure_name), 1e-6);
    peft_dataset_free(d);
    peft_board_free(b);
    peft_model_free(m);
}

static void test_systems_tasks(void)
{
    static const char *const names[] = { "B-A", "I-A", "O" }, *const plain[] = { "x", "y", "z" };
    check_task(with_head("multi-label", 3, kit_labels), in("many.jsonl"), "f1");
    check_task(with_head("regression", 2, NULL), in("numbers.jsonl"), "mse");
    check_task(with_head("regression", 2, NULL), in("numbers.jsonl"), "pearson");
    check_task(with_head("tokens", 3, names), in("tags.jsonl"), "f1");
    check_task(with_head("tokens", 3, plain), put(in("plain.jsonl"),
        "{\"tokens\": [\"a\", \"b\", \"c\"], \"tags\": [\"x\", \"y\", \"z\"]}\n"
        "{\"tokens\": [\"d\", \"e\"], \"tags\": [\"x\", \"x\"]}\n"), "f1");
    check_task(with_head("question-answering", 2, NULL), in("asked.jsonl"), "f1");
    check_task(with_head("reward", 1, NULL), in("better.jsonl"), "margin");
    check_task(load(in("m")), in("near.jsonl"), "ndcg_10");
}

/* The likelihoods of ends are those of peft_forward's logits. */
static void test_logprob(void)
{
    peft_model *m = load(in("m"));
    static float z[N_LOGITS];
    int32_t lengths[2] = { 6, 3 }, from[2] = { 2, 1 }, ids[9], right[2];
    double logp[2], want[2] = { 0, 0 };
    memcpy(ids, kit_ids, sizeof(kit_ids));
    memcpy(ids + 6, kit_ids, 3 * sizeof(*ids));
    logits(m, z);
    for (int i = 1; i < 6; i++) {
        double sum = 0, p;
        for (int k = 0; k < VOCAB; k++) sum += exp((double)z[(i - 1) * VOCAB + k]);
        p = (double)z[(i - 1) * VOCAB + ids[i]] - log(sum);
        want[0] += i >= 2 ? p : 0;
        want[1] += i < 3 ? p : 0;
    }
    OK(peft_logprob(m, ids, lengths, from, 2, logp, right));
    for (int i = 0; i < 2; i++) CHECK_NEAR(logp[i], want[i], 1e-4);
    CHECK(right[0] >= 0 && right[0] <= 4);
    OK(peft_logprob_next(m, ids, 1, ids + 1, 2, want));
    OK(peft_logprob_next(m, ids, 2, ids + 2, 1, want + 1));
    CHECK_NEAR(want[0] + want[1], logp[1], 1e-5);
    REFUSED(peft_logprob_next(m, ids, 2, (int32_t[]){ VOCAB }, 1, want), PEFT_EARG);
    from[1] = 3;
    REFUSED(peft_logprob(m, ids, lengths, from, 2, logp, right), PEFT_EARG);
    peft_model_free(m);
    m = with_head(NULL, 3, kit_labels);
    REFUSED(peft_logprob(m, ids, lengths, lengths + 1, 1, logp, right), PEFT_ESTATE);
    peft_model_free(m);
}

int main(void)
{
    kit_begin();
    make_model("m", 1);
    RUN(test_rows_language);
    RUN(test_rows_classes);
    RUN(test_rows_tokens);
    RUN(test_rows_questions);
    RUN(test_rows_pairs);
    RUN(test_figures);
    RUN(test_closed_forms);
    RUN(test_systems_classes);
    RUN(test_systems_language);
    RUN(test_systems_tasks);
    RUN(test_logprob);
    RUN(test_guesses);
    RUN(test_sources);
    RUN(test_nearest);
    kit_end();
    return TEST_END();
}
