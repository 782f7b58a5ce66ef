/* Labelling by hand, and agreement: scikit-learn's and statsmodels' values on the cases of
 * tests/golden/make_labels.py. */
#include <sys/stat.h>
#include <unistd.h>

#include "peft_data.h"
#include "test.h"

/* --- files */

static char dir[64];

static const char *in(const char *name)
{
    static char ring[16][128];
    static int next;
    char *s = ring[next++ % 16];
    snprintf(s, sizeof *ring, "%s/%s", dir, name);
    return s;
}
static const char *put(const char *name, const char *text)
{
    const char *path = in(name);
    FILE *f = fopen(path, "wb");
    CHECK(f && fputs(text, f) >= 0 && !fclose(f));
    return path;
}
static const char *get(const char *name)
{
    static char text[1 << 16];
    FILE *f = fopen(in(name), "rb");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = 0;
    if (f) fclose(f);
    return f ? text : "(none)";
}

/* --- memory that fails */

static struct { long live, calls, fail_at; } heap;

static void *failing(void *ctx, void *ptr, size_t old_size, size_t n)
{
    (void)ctx;
    if (!n) {
        heap.live -= (long)old_size;
        free(ptr);
        return NULL;
    }
    if (++heap.calls == heap.fail_at) return NULL;
    void *now = realloc(ptr, n);
    if (now) heap.live += (long)n - (long)(ptr ? old_size : 0);
    return now;
}
static const peft_load_opts host = {.size = sizeof host, .alloc = failing};
static const peft_source_opts source = {.size = sizeof source, .threads = 1, .host = &host};

/* --- by hand */

static const char rows[] =
    "{\"text\": \"good\", \"id\": 7}\n"
    "{\"text\": \"bad\", \"label\": \"pos\"}\n"
    "{\"text\": \"same\"}\n"
    "{\"text\": \"same\", \"id\": 9, \"likely\": \"neg\"}\n";

static peft_labeller *session(const char *out, const char *labels)
{
    peft_labeller *l = NULL;
    peft_label_opts o = {.size = sizeof o, .labels = labels, .by = "ann", .source = &source};
    CHECK_EQ(peft_labeller_open(in("rows.jsonl"), in(out), &o, &l), PEFT_OK);
    return l;
}

static peft_label_row row_of(peft_labeller *l, int32_t code)
{
    peft_label_row r = {.size = sizeof r};
    CHECK_EQ(peft_labeller_row(l, &r), code);
    return r;
}

static void test_session(void)
{
    put("rows.jsonl", rows);
    peft_labeller *l = session("out.jsonl", " neg, pos");
    CHECK_STR(peft_labeller_label(l, 0), "neg");
    CHECK_STR(peft_labeller_label(l, 1), "pos");
    CHECK(!peft_labeller_label(l, 2) && !peft_labeller_label(l, -1));
    CHECK_EQ(peft_labeller_undo(l), PEFT_EEND);
    CHECK_STR(row_of(l, 0).text, "good");
    CHECK_EQ(peft_labeller_give(l, "odd"), PEFT_EARG);
    CHECK_EQ(peft_labeller_give(l, "pos"), PEFT_OK);
    static const char one[] = "{\"text\": \"good\", \"id\": 7, \"label\": \"pos\", "
                              "\"labeller\": \"ann\"}\n";
    CHECK_STR(get("out.jsonl"), one);
    CHECK_STR(row_of(l, 0).given, "pos");
    CHECK_EQ(peft_labeller_give(l, "neg"), PEFT_OK);
    CHECK_EQ(peft_labeller_skip(l), PEFT_OK);
    peft_label_row r = row_of(l, 0);
    CHECK(r.row == 3 && r.line == 4 && r.labelled == 2 && r.skipped == 1 && r.rows == 4);
    CHECK(!r.given);
    CHECK_STR(r.likely, "neg");
    CHECK_EQ(peft_labeller_give(l, "neg"), PEFT_OK);
    CHECK_EQ(row_of(l, PEFT_EEND).labelled, 3);
    CHECK_EQ(peft_labeller_give(l, "neg"), PEFT_EEND);
    CHECK_EQ(peft_labeller_skip(l), PEFT_EEND);
    for (int i = 3; i > 0; i--) {
        CHECK_EQ(peft_labeller_undo(l), PEFT_OK);
        CHECK_EQ(row_of(l, 0).row, i);
    }
    CHECK_STR(get("out.jsonl"), one);
    CHECK_EQ(peft_labeller_give(l, "pos"), PEFT_OK);
    peft_labeller_free(l);
    CHECK_EQ(heap.live, 0);
}

/* The file is all there is to a session; of equal texts the first is the one that has a label. */
static void test_resume(void)
{
    peft_labeller *l = session("out.jsonl", "neg,pos");
    CHECK_EQ(row_of(l, 0).row, 2);
    CHECK_EQ(peft_labeller_give(l, "neg"), PEFT_OK);
    peft_labeller_free(l);
    l = NULL;                                           /* the rows have one label, pos */
    CHECK_EQ(peft_labeller_open(in("rows.jsonl"), in("out.jsonl"), NULL, &l), PEFT_EARG);
    CHECK(!l && strstr(peft_errmsg(), "from: 1"));
    l = session("out.jsonl", "neg,pos");
    peft_label_row r = row_of(l, 0);
    CHECK(r.row == 3 && r.labelled == 3);
    CHECK_EQ(peft_labeller_undo(l), PEFT_OK);           /* of the session before */
    CHECK_EQ(row_of(l, 0).row, 2);
    /* Another session on the same file: neither overwrites what the other has done. */
    peft_labeller *other = session("out.jsonl", "neg,pos");
    CHECK_EQ(peft_labeller_give(other, "neg"), PEFT_OK);
    CHECK_EQ(peft_labeller_give(l, "pos"), PEFT_ESTATE);
    CHECK_EQ(row_of(l, 0).row, 2);
    peft_labeller_free(other);
    peft_labeller_free(l);
    CHECK_EQ(heap.live, 0);
}

static void test_no_session(void)
{
    peft_labeller *l = NULL;
    peft_label_opts o = {.size = sizeof o, .labels = "a,b"};
    CHECK_EQ(peft_labeller_open(in("rows.jsonl"), in("out.csv"), &o, &l), PEFT_EARG);
    CHECK_EQ(peft_labeller_open(in("none.jsonl"), in("n.jsonl"), &o, &l), PEFT_ENOTFOUND);
    CHECK_EQ(peft_labeller_open(NULL, in("n.jsonl"), &o, &l), PEFT_EARG);
    put("other.jsonl", "{\"text\": \"else\", \"label\": \"a\"}\n");
    CHECK_EQ(peft_labeller_open(in("rows.jsonl"), in("other.jsonl"), &o, &l), PEFT_ESTATE);
    CHECK(strstr(peft_errmsg(), "other.jsonl line 1: is no row of"));
    put("broken.jsonl", "{\"text\": \"good\", \"label\": \"a\"}\n{\"te");
    CHECK_EQ(peft_labeller_open(in("rows.jsonl"), in("broken.jsonl"), &o, &l), PEFT_EFORMAT);
    o.labels = "a, ,a";
    CHECK_EQ(peft_labeller_open(in("rows.jsonl"), in("n.jsonl"), &o, &l), PEFT_EARG);
    CHECK(!l);
    /* A folder that is not there: the decision is not taken, and the session goes on. */
    o.labels = "a,b";
    CHECK_EQ(peft_labeller_open(in("rows.jsonl"), in("no/n.jsonl"), &o, &l), PEFT_OK);
    CHECK(peft_labeller_give(l, "a") < 0);
    CHECK_EQ(row_of(l, 0).labelled, 0);
    mkdir(in("no"), 0777);
    CHECK_EQ(peft_labeller_give(l, "a"), PEFT_OK);
    CHECK_STR(get("no/n.jsonl"), "{\"text\": \"good\", \"id\": 7, \"label\": \"a\"}\n");
    peft_labeller_free(l);
}

static int32_t label_all(void)
{
    peft_labeller *l = NULL;
    peft_label_opts o = {.size = sizeof o, .labels = "a,b", .by = "me", .source = &source};
    remove(in("mem.jsonl"));
    int32_t rc = peft_labeller_open(in("rows.jsonl"), in("mem.jsonl"), &o, &l);
    if (!rc) rc = peft_labeller_give(l, "a");
    if (!rc) rc = peft_labeller_undo(l);
    peft_labeller_free(l);
    return rc;
}

/* --- agreement */

enum { NUMBERS = 4096 };
static double number[NUMBERS];

static int numbers(FILE *f)
{
    static char line[1 << 16];
    int n = 0;
    char *at = fgets(line, sizeof line, f) ? line : NULL;
    for (char *end; at && n < NUMBERS; at = end) {
        number[n] = strtod(at, &end);
        if (end == at) break;
        n++;
    }
    return n;
}

struct pairs { double kappa[16]; int n; int64_t sum; };

static int32_t on_pair(void *ctx, const peft_agree_pair *p)
{
    struct pairs *s = ctx;
    s->kappa[s->n++] = p->kappa;
    s->sum = 0;
    for (int32_t i = 0; i < p->n_labels * p->n_labels; i++) s->sum += p->confusion[i];
    CHECK_EQ(s->sum, p->rows);
    return 0;
}

static void test_golden(void)
{
    FILE *f = fopen("tests/golden/labels.txt", "r");
    int raters, n, labels, cases = 0;
    CHECK(f);
    while (f && fscanf(f, "agree %d %d %d\n", &raters, &n, &labels) == 3) {
        const char *paths[8];
        struct pairs got = {.n = 0};
        peft_agree_opts o = {.size = sizeof o, .on_pair = on_pair, .ctx = &got};
        peft_agreement a = {.size = sizeof a};
        for (int r = 0; r < raters; r++) {
            char name[32];
            snprintf(name, sizeof name, "r%d.jsonl", r);
            FILE *to = fopen(paths[r] = in(name), "w");
            CHECK_EQ(numbers(f), n);
            /* Each in another order: rows are found by their texts. */
            for (int i = 0; to && i < n; i++) {
                int k = r % 2 ? n - 1 - i : i;
                fprintf(to, "{\"text\": \"row %d\", \"label\": %g}\n", k, number[k]);
            }
            if (to) fclose(to);
        }
        CHECK_EQ(peft_data_agree(paths, raters, &o, &a), PEFT_OK);
        CHECK_EQ(numbers(f), raters * (raters - 1) / 2);
        for (int i = 0; i < got.n; i++) CHECK_NEAR(got.kappa[i], number[i], 1e-12);
        CHECK_EQ(got.n, raters * (raters - 1) / 2);
        CHECK_EQ(numbers(f), 2);
        CHECK_NEAR(a.fleiss, number[0], 1e-12);
        CHECK_NEAR(a.percent, number[1], 1e-12);
        CHECK(a.rows == n && a.all == n && a.shared == n && a.labels == labels);
        cases++;
    }
    CHECK_EQ(cases, 3);
    if (f) fclose(f);
}

static int32_t on_row(void *ctx, const peft_agree_row *r)
{
    char *to = ctx;
    size_t at = strlen(to);
    at += (size_t)snprintf(to + at, 256 - at, "%lld %s:", (long long)r->line, r->text);
    for (int32_t i = 0; i < r->n; i++)
        at += (size_t)snprintf(to + at, 256 - at, " %s", r->labels[i] ? r->labels[i] : "-");
    snprintf(to + at, 256 - at, " = %s; ", r->majority ? r->majority : "?");
    return 0;
}

static void test_majority(void)
{
    char seen[256] = "";
    const char *paths[] = {
        put("a.csv", "text,label,n\nx,p,1\ny,p,2\nz,q,3\nx,q,4\nw,,5\n"),
        put("b.jsonl", "{\"text\": \"y\", \"label\": \"q\", \"labeller\": \"b\"}\n"
                       "{\"text\": \"x\", \"label\": \"p\"}\n"
                       "{\"text\": \"w\", \"label\": \"p\"}\n"),
        put("c.jsonl", "{\"text\": \"x\", \"label\": \"q\"}\n{\"text\": \"x\", \"label\": \"q\"}\n"
                       "{\"text\": \"v\", \"label\": null}\n{\"text\": \"z\", \"label\": \"q\"}\n")
    };
    peft_agree_opts o = {.size = sizeof o, .on_row = on_row, .ctx = seen, .out = in("most.jsonl")};
    peft_agreement a = {.size = sizeof a};
    CHECK_EQ(peft_data_agree(paths, 3, &o, &a), PEFT_OK);
    CHECK_STR(seen, "2 x: p p q = p; 3 y: p q - = ?; ");
    CHECK(a.rows == 5 && a.shared == 4 && a.all == 1 && a.same == 2 && a.ties == 1);
    CHECK_EQ(a.written, 3);
    CHECK_STR(get("most.jsonl"),
              "{\"text\": \"x\", \"n\": \"1\", \"label\": \"p\", \"agreement\": 0.6667}\n"
              "{\"text\": \"z\", \"n\": \"3\", \"label\": \"q\", \"agreement\": 1}\n"
              "{\"text\": \"x\", \"n\": \"4\", \"label\": \"q\", \"agreement\": 1}\n");
    /* Chance alone: no kappa. */
    paths[0] = put("p.jsonl", "{\"text\": \"x\", \"label\": true}\n");
    paths[1] = put("q.jsonl", "{\"text\": \"x\", \"label\": true}\n");
    CHECK_EQ(peft_data_agree(paths, 2, NULL, &a), PEFT_OK);
    CHECK(isnan(a.fleiss) && a.percent == 1);
    paths[1] = put("q.jsonl", "{\"text\": \"y\", \"label\": true}\n");
    CHECK_EQ(peft_data_agree(paths, 2, NULL, &a), PEFT_EDATA);
    paths[1] = put("q.jsonl", "{\"text\": \"y\", \"label\": [1, 2]}\n");
    CHECK_EQ(peft_data_agree(paths, 2, NULL, &a), PEFT_EDATA);
    CHECK(strstr(peft_errmsg(), "q.jsonl line 1: label: expected one"));
    CHECK_EQ(peft_data_agree(paths, 1, NULL, &a), PEFT_EARG);
    CHECK_EQ(peft_data_agree(paths, 17, NULL, &a), PEFT_EARG);
}

static int32_t agree_two(void)
{
    const char *paths[] = {in("a.csv"), in("c.jsonl")};
    peft_agree_opts o = {.size = sizeof o, .out = in("m.jsonl"), .source = &source};
    peft_agreement a = {.size = sizeof a};
    return peft_data_agree(paths, 2, &o, &a);
}

static void test_memory(void)
{
    int32_t (*const calls[])(void) = {label_all, agree_two};
    for (int i = 0; i < 2; i++) {
        int32_t rc = PEFT_ENOMEM;
        long n = 0;
        for (; rc == PEFT_ENOMEM && n < 3000; n++) {
            heap.calls = 0;
            heap.fail_at = n + 1;
            rc = calls[i]();
            heap.fail_at = 0;
            CHECK_EQ(heap.live, 0);
        }
        CHECK_EQ(rc, PEFT_OK);
        CHECK(n > 10);
    }
}

int main(void)
{
    snprintf(dir, sizeof dir, "/tmp/libpeft-label-XXXXXX");
    if (!mkdtemp(dir)) return 1;
    RUN(test_session);
    RUN(test_resume);
    RUN(test_no_session);
    RUN(test_golden);
    RUN(test_majority);
    RUN(test_memory);
    char cmd[96];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd) ? 1 : TEST_END();
}
