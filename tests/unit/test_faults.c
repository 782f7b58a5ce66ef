/* Suspected label errors: cleanlab's verdicts on the cases of tests/golden/make_labels.py, and
 * labels that were flipped on purpose found again through a small model. */
#include "kit.h"
#include "peft_data.h"

/* --- confident learning on given probabilities */

enum { ROWS_MAX = 64, LABELS_MAX = 8 };

static void read_longs(FILE *f, int64_t *to, int n)
{
    for (int i = 0; i < n; i++) CHECK_EQ(fscanf(f, "%ld", (long *)&to[i]), 1);
}

static void check_case(FILE *f, int n, int labels)
{
    static const char *const ranks[] = { NULL, "margin" };
    int64_t x[ROWS_MAX], order[ROWS_MAX], flagged = 0;
    int32_t given[ROWS_MAX];
    float p[ROWS_MAX * LABELS_MAX];
    peft_label_check found[ROWS_MAX];
    read_longs(f, x, n);
    for (int i = 0; i < n; i++) given[i] = (int32_t)x[i];
    for (int i = 0; i < n * labels; i++) CHECK_EQ(fscanf(f, "%f", &p[i]), 1);
    read_longs(f, x, n);
    OK(peft_label_faults(p, given, n, labels, NULL, found, NULL));
    for (int i = 0; i < n; i++) {
        CHECK_EQ(found[i].flagged, x[i]);
        CHECK_EQ(found[i].flagged != 0, found[i].flagged && found[i].likely != given[i]);
        CHECK(found[i].confidence == p[i * labels + given[i]]);
        flagged += x[i];
    }
    for (int r = 0; r < 2; r++) {
        read_longs(f, x, (int)flagged);
        OK(peft_label_faults(p, given, n, labels, ranks[r], found, order));
        for (int i = 0, k = 0; i < n; i++)
            if (found[order[i]].flagged) CHECK_EQ(order[i], x[k++]);
    }
}

static void test_golden(void)
{
    static char line[1 << 16];
    FILE *f = fopen("tests/golden/labels.txt", "r");
    int n, labels, cases = 0;
    CHECK(f);
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "faults %d %d", &n, &labels) != 2) continue;
        check_case(f, n, labels);
        cases++;
    }
    CHECK_EQ(cases, 4);
    if (f) fclose(f);
}

static void test_refusals(void)
{
    float p[] = { 0.5f, 0.5f, 1.5f, 0 };
    int32_t given[] = { 0, 2 };
    peft_label_check found[2];
    REFUSED(peft_label_faults(NULL, given, 1, 2, NULL, found, NULL), PEFT_EARG);
    REFUSED(peft_label_faults(p, given, 0, 2, NULL, found, NULL), PEFT_EARG);
    REFUSED(peft_label_faults(p, given, 1, 1, NULL, found, NULL), PEFT_EARG);
    REFUSED(peft_label_faults(p, given, 2, 2, NULL, found, NULL), PEFT_EARG);
    given[1] = 1;
    REFUSED(peft_label_faults(p, given, 2, 2, NULL, found, NULL), PEFT_EARG);
    p[2] = NAN;
    REFUSED(peft_label_faults(p, given, 2, 2, NULL, found, NULL), PEFT_EARG);
    REFUSED(peft_label_faults(p, given, 1, 2, "size", found, NULL), PEFT_EARG);
}

/* --- flipped labels: three classes that differ in how often they use which letters */

enum { ROWS = 300, FLIPS = 30, FIRST = 45 };
static const char *const classes[] = { "low", "mid", "high" };

static bool is_flipped(int i) { return i % 10 == 3; }

static const char *flipped_file(void)
{
    const char *path = in("flipped.jsonl");
    FILE *f = fopen(path, "w");
    if (!f) GIVE_UP();
    for (int i = 0; i < ROWS; i++) {
        int truth = (int)(rng_u32(1, 0, (uint64_t)i) % 3);
        int label = is_flipped(i) ? (truth + 1 + i / 10 % 2) % 3 : truth;
        fprintf(f, "{\"id\": %d, \"text\": \"", i);
        for (int k = 0; k < 12; k++) {
            uint32_t r = rng_u32(2, (uint64_t)i, (uint64_t)k);
            fputc('a' + (int)(r % 10 < 7 ? 8 * (uint32_t)truth + r / 10 % 8 : r / 10 % 24), f);
        }
        fprintf(f, "\", \"label\": \"%s\"}\n", classes[label]);
    }
    fprintf(f, "{\"text\": \"none\"}\n");
    fclose(f);
    return path;
}

struct caught { int flips, rows; };

static int32_t on_fault(void *ctx, const peft_label_fault *x)
{
    struct caught *c = ctx;
    CHECK_EQ(x->rank, ++c->rows);
    CHECK(!x->flagged || strcmp(x->given, x->likely) != 0);
    CHECK_EQ(x->suspect, x->rank <= FIRST);
    if (x->rank <= FIRST && is_flipped((int)x->line - 1)) c->flips++;
    return 0;
}

static void test_flips(void)
{
    peft_model *m = load(make_model("model", 1));
    const char *path = flipped_file(), *out = in("out.jsonl"), *rest = in("rest.jsonl");
    struct caught c = { 0 };
    peft_source_opts source = { .size = sizeof source, .threads = 1 };
    peft_faults_opts o = { .size = sizeof o, .share = 0.15, .on_fault = on_fault, .ctx = &c,
                           .out = out, .clean = rest, .source = &source };
    peft_faults r = { .size = sizeof r }, again = r;
    OK(peft_data_faults(path, m, &o, &r));
    CHECK(r.rows == ROWS && r.unlabelled == 1 && r.labels == 3 && c.rows == ROWS);
    CHECK(r.accuracy > 0.6 && r.accuracy < 0.95);
    CHECK_EQ(r.suspects, FIRST);
    CHECK(c.flips >= FLIPS * 7 / 10);
    printf("%d of %d flips among the first 15 %%, %ld flagged, l2 %g\n", c.flips, FLIPS,
           (long)r.flagged, r.l2);
    struct bytes a = get(out), b = get(rest);
    int64_t lines = 0;
    for (size_t i = 0; i < a.n; i++) lines += a.at[i] == '\n';
    CHECK_EQ(lines, r.suspects);
    for (size_t i = 0; i < b.n; i++) lines += b.at[i] == '\n';
    CHECK_EQ(lines, ROWS);
    CHECK(strstr(a.at, "\"likely\": \"") && !strstr(b.at, "\"likely\""));
    free(b.at);
    /* The same bits for any number of threads; other parts by another seed. */
    source.threads = 3;
    c = (struct caught){ 0 };
    OK(peft_data_faults(path, m, &o, &again));
    CHECK(!memcmp(&r, &again, sizeof r));
    b = get(out);
    CHECK(a.n == b.n && !memcmp(a.at, b.at, a.n));
    free(b.at);
    o.seed = 5;
    o.rank = "margin";
    c = (struct caught){ 0 };
    OK(peft_data_faults(path, m, &o, &again));
    b = get(out);
    CHECK(c.flips >= FLIPS * 7 / 10);
    CHECK(a.n != b.n || memcmp(a.at, b.at, a.n));
    free(a.at);
    free(b.at);
    peft_model_free(m);
}

/* --- several labels a row: which of three groups of letters a text has much of */

static bool truly(int i, int k) { return rng_u32(3, (uint64_t)i, (uint64_t)k) % 5 < 2; }
static int flipped_label(int i) { return is_flipped(i) ? i / 10 % 3 : -1; }
static bool given_as(int i, int k) { return truly(i, k) != (k == flipped_label(i)); }

static const char *several_file(bool numbers)
{
    const char *path = in(numbers ? "numbers.jsonl" : "several.jsonl");
    FILE *f = fopen(path, "w");
    if (!f) GIVE_UP();
    for (int i = 0; i < ROWS; i++) {
        fprintf(f, "{\"text\": \"");
        for (int k = 0; k < 24; k++) {
            uint32_t r = rng_u32(4, (uint64_t)i, (uint64_t)k), group = (uint32_t)k % 3;
            bool own = truly(i, (int)group) && r % 10 < 8;
            fprintf(f, "%c ", 'a' + (int)(own ? 6 * group + r / 10 % 6 : 18 + r / 10 % 8));
        }
        fprintf(f, "\", \"labels\": [");
        for (int k = 0, n = 0; k < 3; k++)
            if (numbers) fprintf(f, "%s%d", k ? ", " : "", given_as(i, k));
            else if (given_as(i, k)) fprintf(f, "%s\"%s\"", n++ ? ", " : "", classes[k]);
        fprintf(f, "]}\n");
    }
    fclose(f);
    return path;
}

struct doubted { int flips, named, rows; bool numbers; double confidence[ROWS]; };

static int32_t on_doubt(void *ctx, const peft_label_fault *x)
{
    struct doubted *c = ctx;
    int i = (int)x->line - 1, k = flipped_label(i);
    char number[2] = { (char)('0' + k), 0 };
    c->confidence[c->rows] = x->confidence;
    CHECK_EQ(x->rank, ++c->rows);
    CHECK(!x->flagged || x->n_missing + x->n_wrong > 0);
    CHECK((strcmp(x->given, x->likely) != 0) == (x->n_missing + x->n_wrong > 0));
    if (!x->suspect || k < 0) return 0;
    c->flips++;
    int32_t n = truly(i, k) ? x->n_missing : x->n_wrong;
    for (int32_t j = 0; j < n; j++)
        c->named += !strcmp((truly(i, k) ? x->missing : x->wrong)[j],
                            c->numbers ? number : classes[k]);
    return 0;
}

static void test_several(void)
{
    peft_model *m = load(make_model("model", 1));
    const char *out = in("out.jsonl"), *rest = in("rest.jsonl");
    struct doubted *c = calloc(2, sizeof *c);
    peft_source_opts source = { .size = sizeof source, .threads = 1 };
    peft_faults_opts o = { .size = sizeof o, .share = 0.15, .on_fault = on_doubt, .ctx = c,
                           .out = out, .clean = rest, .source = &source };
    peft_faults r = { .size = sizeof r }, again = r;
    OK(peft_data_faults(several_file(false), m, &o, &r));
    CHECK(r.rows == ROWS && r.labels == 3 && r.several == 1 && r.rare == 0 && c->rows == ROWS);
    CHECK(r.suspects == FIRST && r.accuracy > 0.9 && r.accuracy < 1);
    CHECK(c->flips >= FLIPS * 7 / 10);
    CHECK(c->named >= c->flips * 9 / 10);
    printf("%d of %d rows with a flipped label among the first 15 %%, %d of these labels named, "
           "F1 %.2f\n", c->flips, FLIPS, c->named, r.accuracy);
    struct bytes a = get(out);
    CHECK(strstr(a.at, "\"labels\": [") && strstr(a.at, "\"likely\": ["));
    CHECK(!strstr(a.at, "\"label\":"));
    free(a.at);
    /* Numbers tell the same; three threads do. */
    c[1].numbers = true;
    o.ctx = &c[1];
    source.threads = 3;
    OK(peft_data_faults(several_file(true), m, &o, &again));
    CHECK_EQ(again.flagged, r.flagged);
    CHECK_EQ(c[1].named, c->named);
    CHECK(!memcmp(c[0].confidence, c[1].confidence, sizeof c->confidence));
    a = get(out);
    CHECK(strstr(a.at, "\"likely\": [1, 0, ") || strstr(a.at, "\"likely\": [0, "));
    free(a.at);
    free(c);
    peft_model_free(m);
}

static void test_several_refused(void)
{
    static const char *const rows[] = {
        "\"labels\": [\"a\"]}\n{\"text\": \"b\", \"label\": \"a\"",
        "\"labels\": [\"a\"]}\n{\"text\": \"b\", \"labels\": [0, 1]",
        "\"labels\": [0, 1]}\n{\"text\": \"b\", \"labels\": [0, 1, 1]",
        "\"labels\": [0, 1]}\n{\"text\": \"b\", \"labels\": []",
        "\"labels\": [0.5, 1]", "\"labels\": [\"a\", 1]", "\"labels\": [[\"a\"]]",
    };
    char text[256];
    peft_model *m = load(make_model("model", 1));
    peft_faults r = { .size = sizeof r };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(text, sizeof text, "{\"text\": \"a\", %s}\n", rows[i]);
        REFUSED(peft_data_faults(put(in("x.jsonl"), text), m, NULL, &r), PEFT_EDATA);
        CHECK(strstr(peft_errmsg(), i < 4 ? "x.jsonl line 2: label: " : "x.jsonl line 1: label: "));
    }
    REFUSED(peft_data_faults(put(in("x.jsonl"), "{\"tokens\": [\"a\"], \"tags\": [\"O\"]}\n"), m,
                             NULL, &r), PEFT_EDATA);
    CHECK(strstr(peft_errmsg(), "labels of words"));
    /* Labels of less rows than parts are not judged. */
    FILE *f = fopen(in("x.jsonl"), "w");
    for (int i = 0; f && i < 20; i++)
        fprintf(f, "{\"text\": \"%s\", \"labels\": [%s]}\n", i % 2 ? "aaaa" : "zzzz",
                i == 4 ? "\"rare\"" : i % 2 ? "\"a\"" : "");
    if (f) fclose(f);
    OK(peft_data_faults(in("x.jsonl"), m, NULL, &r));
    CHECK(r.rare == 1 && r.labels == 2 && r.flagged == 0);
    peft_model_free(m);
}

/* LoRA beside the heads: what both say is joined, the same for any number of threads. */
static void test_tuned(void)
{
    peft_source_opts source = { .size = sizeof source, .threads = 1 };
    for (int several = 0; several < 2; several++) {
        struct caught c = { 0 };
        struct doubted *d = calloc(1, sizeof *d);
        const char *path = several ? several_file(false) : flipped_file();
        peft_faults_opts o = { .size = sizeof o, .share = 0.15, .source = &source, .tune = 1,
                               .ctx = several ? (void *)d : &c, .max_len = 32,
                               .on_fault = several ? on_doubt : on_fault };
        peft_faults r[2] = { { .size = sizeof *r }, { .size = sizeof *r } };
        for (int k = 0; k < 2; k++) {
            peft_model *m = load(make_model("model", 1));
            source.threads = 1 + 2 * k;
            c = (struct caught){ 0 };
            d->rows = d->flips = 0;
            OK(peft_data_faults(path, m, &o, &r[k]));
            CHECK((several ? d->flips : c.flips) >= FLIPS * 7 / 10);
            peft_info info = { .size = sizeof info };
            OK(peft_model_info(m, &info));
            CHECK(info.n_adapters == 0 && info.labels == 3);
            REFUSED(peft_data_faults(path, m, &o, &r[k]), PEFT_EARG);
            peft_model_free(m);
        }
        CHECK(!memcmp(&r[0], &r[1], sizeof *r));
        free(d);
    }
}

static void test_unfit(void)
{
    peft_model *m = load(make_model("model", 1));
    peft_faults r = { .size = sizeof r };
    peft_faults_opts o = { .size = sizeof o, .folds = 1 };
    REFUSED(peft_data_faults(NULL, m, NULL, &r), PEFT_EARG);
    REFUSED(peft_data_faults(in("flipped.jsonl"), NULL, NULL, &r), PEFT_EARG);
    REFUSED(peft_data_faults(in("flipped.jsonl"), m, NULL, NULL), PEFT_EARG);
    REFUSED(peft_data_faults(in("flipped.jsonl"), m, &o, &r), PEFT_EARG);
    o = (peft_faults_opts){ .size = sizeof o, .pool = "odd" };
    REFUSED(peft_data_faults(in("flipped.jsonl"), m, &o, &r), PEFT_EARG);
    REFUSED(peft_data_faults(in("none.jsonl"), m, NULL, &r), PEFT_ENOTFOUND);
    REFUSED(peft_data_faults(put(in("x.jsonl"), "{\"text\": \"a\", \"label\": 1}\n"), m, NULL, &r),
            PEFT_EDATA);
    REFUSED(peft_data_faults(put(in("x.jsonl"), "{\"text\": \"a\", \"label\": 1}\n"
                                 "{\"text\": \"b\", \"label\": 2}\n"), m, NULL, &r), PEFT_EDATA);
    peft_model_free(m);
}

static void short_of_memory(const char *name, int32_t tune, long step)
{
    struct kit_mem *k = &kit_mem;
    peft_load_opts host = kit_opts();
    peft_source_opts source = { .size = sizeof source, .threads = 1, .host = &host, .limit = 30 };
    peft_faults_opts o = { .size = sizeof o, .source = &source, .tune = tune };
    peft_faults r = { .size = sizeof r };
    int32_t rc = PEFT_ENOMEM;
    long n = 0;
    peft_model *m = load(make_model("model", 1));
    bool failed = true;
    for (; failed && n < 6000; n += step) {
        o.out = in("m.jsonl");
        k->calls = 0;
        k->fail_at = n + 1;
        rc = peft_data_faults(in(name), m, &o, &r);
        failed = k->calls > n;
        k->fail_at = 0;
        CHECK(rc == PEFT_OK || rc == PEFT_ENOMEM);
        if (!tune) continue;
        peft_model_free(m);
        CHECK_EQ(k->live, 0);
        m = load(make_model("model", 1));
    }
    CHECK_EQ(rc, PEFT_OK);
    CHECK(n > 20);
    peft_model_free(m);
    CHECK_EQ(k->live, 0);
}

static void test_memory(void)
{
    short_of_memory("flipped.jsonl", 0, 1);
    short_of_memory("several.jsonl", 0, 1);
    short_of_memory("several.jsonl", 1, 41);
}

int main(void)
{
    kit_begin();
    RUN(test_golden);
    RUN(test_refusals);
    RUN(test_flips);
    RUN(test_several);
    RUN(test_several_refused);
    RUN(test_tuned);
    RUN(test_unfit);
    RUN(test_memory);
    kit_end();
    return TEST_END();
}
