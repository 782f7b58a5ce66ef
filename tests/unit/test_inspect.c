/* Inspection of data files: counts, lengths, scripts, labels, broken rows, examples. */
#define kit_end test_kit_end
#include "kit.h"
#undef kit_end
#include "peft_data.h"
#include "prep/sketch.h"

#include <math.h>

static peft_table find(const peft_tables *t, const char *name)
{
    peft_table table = { .size = sizeof(table) };
    if (peft_tables_find(t, name, &table)) table.n_rows = 0;
    return table;
}
static peft_cell cell(const peft_table *t, int64_t row, const char *column)
{
    for (int32_t c = 0; c < t->n_columns && row < t->n_rows; c++)
        if (strcmp(t->columns[c], column) == 0) return t->cells[row * t->n_columns + c];
    return (peft_cell){ "", -1 };
}
static double number(const peft_tables *t, const char *name, int64_t row, const char *column)
{
    peft_table table = find(t, name);
    return cell(&table, row, column).number;
}
static const char *text(const peft_tables *t, const char *name, int64_t row, const char *column)
{
    peft_table table = find(t, name);
    const char *s = cell(&table, row, column).text;
    return s ? s : "(a number)";
}
static peft_cell fact(const peft_tables *t, const char *name)
{
    peft_table table = find(t, "summary");
    for (int64_t i = 0; i < table.n_rows; i++)
        if (strcmp(table.cells[2 * i].text, name) == 0) return table.cells[2 * i + 1];
    return (peft_cell){ "", -1 };
}
static bool noted(const peft_tables *t, const char *part)
{
    peft_table notes = find(t, "notes");
    for (int64_t i = 0; i < notes.n_rows; i++)
        if (strstr(cell(&notes, i, "text").text, part)) return true;
    return false;
}

static void test_counts(void)
{
    peft_tables *t;
    const char *path = put(in("rows.jsonl"),
        "{\"text\": \"I love this\", \"label\": \"pos\"}\n"
        "{\"text\": \"I love this\", \"label\": \"pos\"}\n"
        "{\"text\": \"\xd1\x8f \xd0\xbb\xd1\x8e\xd0\xb1\xd0\xbb\xd1\x8e that\", "
        "\"label\": \"neg\"}\n"
        "\n"
        "{\"text\": \" \", \"label\": \"neg\"}\n"
        "{\"text\": \"broken\", \"label\": }\n"
        "{\"text\": \"\xe6\x97\xa5\xe6\x9c\xac\xe3\x81\xae\", \"label\": 1}\n"
        "{\"text\": \"bad \xff\"}\n"
        "{\"prompt\": \"a\", \"completion\": \"b c\", \"extra\": [1]}\n");
    OK(peft_data_inspect(path, NULL, &t));
    CHECK_EQ(fact(t, "rows").number, 6);
    CHECK_EQ(fact(t, "broken").number, 2);
    CHECK_EQ(fact(t, "empty").number, 1);
    CHECK_EQ(fact(t, "duplicates").number, 1);
    CHECK_EQ(fact(t, "mixed_scripts").number, 1);
    CHECK_EQ(fact(t, "labelled").number, 5);
    CHECK_STR(fact(t, "schema").text, "text-label");
    CHECK_STR(fact(t, "label_kind").text, "names and numbers");
    CHECK_STR(fact(t, "label_column").text, "label");
    CHECK(noted(t, "schemas") && noted(t, "without a label: 1 of 6") && noted(t, "is a number"));

    CHECK_EQ(number(t, "broken", 0, "line"), 6);
    CHECK_EQ(number(t, "broken", 1, "line"), 8);
    CHECK(strstr(text(t, "broken", 1, "reason"), "UTF-8"));
    CHECK_STR(text(t, "schemas", 1, "schema"), "prompt-completion");
    CHECK_EQ(number(t, "schemas", 1, "first_line"), 9);
    CHECK_STR(text(t, "columns", 0, "column"), "text");
    CHECK_STR(text(t, "columns", 1, "kind"), "mixed");
    CHECK_EQ(number(t, "columns", 0, "blank"), 1);
    CHECK(fabs(number(t, "columns", 0, "filled") - 4 / 6.0) < 1e-12);
    CHECK_STR(text(t, "columns", 4, "column"), "extra");
    CHECK_STR(text(t, "labels", 0, "label"), "pos");
    CHECK_EQ(number(t, "labels", 0, "rows"), 2);
    CHECK_EQ(number(t, "labels", 2, "rows"), 1);
    CHECK_STR(text(t, "scripts", 0, "script"), "Latin");
    CHECK_EQ(number(t, "scripts", 0, "rows"), 3);
    peft_table scripts = find(t, "scripts");
    CHECK_EQ(scripts.n_rows, 4);
    CHECK_STR(text(t, "lengths", 0, "of"), "words");
    CHECK_EQ(number(t, "lengths", 0, "most"), 3);
    CHECK_EQ(number(t, "lengths", 1, "most"), 12);
    CHECK_EQ(number(t, "lengths", 1, "longest_line"), 3);
    peft_table examples = find(t, "examples"), last = { .size = sizeof(last) };
    CHECK_EQ(examples.n_rows, 5);
    int32_t n = 0;
    while (!peft_tables_at(t, n, &last)) n++;
    CHECK(n > 8);
    CHECK_EQ(peft_tables_at(t, n, &last), PEFT_EEND);
    REFUSED(peft_tables_find(t, "nonsense", &last), PEFT_ENOTFOUND);
    peft_tables_free(t);
}

/* The same tables, whoever worked. */
static bool same(const peft_tables *a, const peft_tables *b)
{
    peft_table x = { .size = sizeof(x) }, y = { .size = sizeof(y) };
    for (int32_t i = 0; !peft_tables_at(a, i, &x); i++) {
        if (peft_tables_at(b, i, &y) || strcmp(x.name, y.name)) return false;
        if (x.n_rows != y.n_rows) return false;
        for (int64_t k = 0; k < x.n_rows * x.n_columns; k++) {
            const peft_cell *p = &x.cells[k], *q = &y.cells[k];
            if (!p->text != !q->text || (p->text && strcmp(p->text, q->text))) return false;
            if (!p->text && memcmp(&p->number, &q->number, sizeof(double))) return false;
        }
    }
    return true;
}

static void test_threads(void)
{
    const char *path = in("many.jsonl");
    FILE *f = fopen(path, "w");
    if (!f) GIVE_UP();
    for (int i = 0; i < 20000; i++) {
        if (i % 997 == 5) fputs("{\"text\": tru}\n", f);
        else if (i % 1499 == 7) fputs("{\"text\": \"\xff\"}\n", f);
        else fprintf(f, "{\"text\": \"row %d of %*s\", \"label\": %.3f, \"x%d\": 1}\n", i % 7000,
                     i % 61, "", i / 7.0, i % 300);
    }
    if (fclose(f)) GIVE_UP();
    peft_source_opts s = { .size = sizeof(s), .threads = 1 };
    peft_inspect_opts o = { .size = sizeof(o), .source = &s, .seed = 3 };
    peft_tables *one, *four;
    OK(peft_data_inspect(path, &o, &one));
    s.threads = 4;
    OK(peft_data_inspect(path, &o, &four));
    CHECK_STR(fact(one, "label_kind").text, "numbers");
    CHECK_EQ(fact(one, "broken").number, 21 + 14);
    CHECK(noted(one, "more than 256 different columns"));
    CHECK(same(one, four));
    s.limit = 10;
    peft_tables_free(four);
    OK(peft_data_inspect(path, &o, &four));
    CHECK_EQ(fact(four, "rows").number + fact(four, "broken").number, 10);
    peft_tables_free(one);
    peft_tables_free(four);
}

/* Objects of an array that stand on one line, text that is none, an end that is missing. */
static void test_broken(void)
{
    peft_tables *t;
    OK(peft_data_inspect(put(in("array.json"), "[{\"text\": \"a\"}, {\"text\": \"\xff\"}, "
                             "{\"text\": \"\xfe\"}, {\"text\": \"b\"}, {\"te"), NULL, &t));
    CHECK_EQ(fact(t, "rows").number, 2);
    CHECK_EQ(fact(t, "broken").number, 4);
    CHECK(strncmp(text(t, "broken", 0, "reason"), "column ", 7) == 0);
    peft_tables_free(t);
    OK(peft_data_inspect(put(in("cells.csv"), "text,label\na\xff,x\nb,y\nc\n\"d\"e,z\nf,x\n"), NULL,
                         &t));
    CHECK_EQ(fact(t, "rows").number, 2);
    CHECK_EQ(fact(t, "broken").number, 3);
    CHECK_EQ(number(t, "broken", 0, "line"), 2);
    CHECK_EQ(number(t, "broken", 2, "line"), 5);
    peft_tables_free(t);
    REFUSED(peft_data_inspect(put(in("twice.csv"), "text,text\na,b\n"), NULL, &t), PEFT_EFORMAT);
}

/* Decoded: sizes are told, broken ones are broken rows, the same file twice is a repetition. */
static void test_pictures(void)
{
    peft_tables *t;
    struct bytes b = get("tests/golden/tiny/vit/a0.png");
    if (b.n < 100) return;                              /* its content is not there */
    mkdir(in("pictures"), 0755);
    mkdir(in("pictures/cat"), 0755);
    mkdir(in("pictures/dog"), 0755);
    put_bytes(in("pictures/cat/a.png"), b.at, b.n);
    put_bytes(in("pictures/cat/b.png"), b.at, b.n);
    put_bytes(in("pictures/dog/c.png"), b.at, 60);
    free(b.at);
    OK(peft_data_inspect(in("pictures"), NULL, &t));
    peft_table broken = find(t, "broken");
    if (fact(t, "rows").number == 2) {
        CHECK_EQ(fact(t, "duplicates").number, 1);
        CHECK_EQ(fact(t, "empty").number, 0);
        CHECK_EQ(broken.n_rows, 1);
        CHECK(strstr(text(t, "broken", 0, "reason"), "dog/c.png"));
        CHECK_STR(text(t, "lengths", 0, "of"), "width");
        CHECK_EQ(number(t, "lengths", 0, "most"), 16);
        CHECK_STR(text(t, "labels", 0, "label"), "cat");
    } else {
        CHECK_EQ(fact(t, "rows").number, 3);            /* a build without libpng */
    }
    peft_tables_free(t);
}

static int32_t stop(void *ctx, int64_t done, int64_t total)
{
    (void)ctx;
    return done <= total;
}

static void test_refusals(void)
{
    peft_tables *t = (peft_tables *)&t;
    REFUSED(peft_data_inspect(in("missing.jsonl"), NULL, &t), PEFT_ENOTFOUND);
    CHECK(!t);
    REFUSED(peft_data_inspect(put(in("none.jsonl"), "\n\n"), NULL, &t), PEFT_EDATA);
    REFUSED(peft_data_inspect(NULL, NULL, &t), PEFT_EARG);
    peft_inspect_opts o = { .size = sizeof(o), .max_len = -1 };
    REFUSED(peft_data_inspect(in("rows.jsonl"), &o, &t), PEFT_EARG);
    peft_source_opts s = { .size = sizeof(s), .progress = stop };
    o = (peft_inspect_opts){ .size = sizeof(o), .source = &s };
    REFUSED(peft_data_inspect(in("many.jsonl"), &o, &t), PEFT_ECANCELLED);

    peft_load_opts host = kit_opts();
    s = (peft_source_opts){ .size = sizeof(s), .threads = 1, .host = &host };
    for (long at = 1, failed = 1; failed && at < 400; at++) {
        kit_mem = (struct kit_mem){ .fail_at = at };
        int32_t rc = peft_data_inspect(in("rows.jsonl"), &o, &t);
        failed = rc == PEFT_ENOMEM;
        if (!failed) OK(rc);
        peft_tables_free(t);
        CHECK_EQ(kit_mem.live, 0);
    }
    kit_mem = (struct kit_mem){ 0 };
}

/* As many tokens as training has. */
static void test_model(void)
{
    static const char *const files[] = {
        "{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}, {\"role\": \"assistant\", "
        "\"content\": \"Hello there, how are you?\"}]}\n{\"messages\": [{\"role\": \"user\", "
        "\"content\": \"A\"}, {\"role\": \"assistant\", \"content\": \"B\"}]}\n",
        "{\"text\": \"Hello world, this is a text\"}\n{\"text\": \"A\"}\n",
        "{\"prompt\": \"Hello\", \"completion\": \" world, this is a text\"}\n"
        "{\"prompt\": \"A\", \"completion\": \" B\"}\n",
        "{\"instruction\": \"Hello\", \"input\": \"world\", \"output\": \"this is a text\"}\n"
        "{\"instruction\": \"A\", \"output\": \"B\"}\n",
    };
    peft_model *m;
    if (peft_model_load("tools/tiny/model", NULL, &m)) return;
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        peft_tables *t;
        peft_dataset *d;
        peft_dataset_stats stats = { .size = sizeof(stats) };
        const char *path = put(in("rows%d.jsonl", (int)i), files[i]);
        OK(peft_dataset_load(m, path, NULL, &d));
        OK(peft_dataset_info(d, &stats));
        peft_inspect_opts o = { .size = sizeof(o), .model = m, .max_len = stats.max_len - 1 };
        OK(peft_data_inspect(path, &o, &t));
        CHECK_EQ(fact(t, "tokens").number, stats.tokens);
        CHECK_EQ(fact(t, "longer").number, 1);
        CHECK_STR(text(t, "lengths", 0, "of"), "tokens");
        CHECK_EQ(number(t, "lengths", 0, "most"), stats.max_len);
        peft_tables_free(t);
        peft_dataset_free(d);
    }
    peft_model_free(m);
}

static void test_sketches(void)
{
    struct mem mem;
    struct lengths l;
    struct distinct d;
    mem_init(&mem, NULL, NULL);
    if (lengths_init(&l, &mem)) GIVE_UP();
    for (int64_t i = 1; i <= 1000; i++) lengths_add(&l, i, i);
    CHECK_EQ(lengths_quantile(&l, 0.5), 500);
    CHECK_EQ(lengths_quantile(&l, 0.95), 950);
    CHECK_EQ(lengths_quantile(&l, 0), 1);
    CHECK_EQ(lengths_between(&l, 10, 20), 10);
    CHECK_EQ(lengths_between(&l, 990, INT64_MAX), 11);
    for (int bit = 0; bit < 63; bit++) lengths_add(&l, (int64_t)1 << bit, 1);
    lengths_add(&l, INT64_MAX, 7);
    CHECK_EQ(lengths_between(&l, 0, INT64_MAX), 1064);
    CHECK_EQ(l.most_line, 7);
    lengths_free(&l, &mem);

    /* Half of four million rows twice: beyond the exact count, within two per cent. */
    distinct_init(&d, &mem);
    for (uint64_t i = 0; i < 6000000; i++) {
        uint64_t key = i % 4000000;
        OK(distinct_add(&d, hash_end(hash_more(0, &key, sizeof(key)))));
    }
    CHECK(d.level > 0);
    CHECK(llabs(distinct_again(&d) - 2000000) < 40000);
    distinct_free(&d);
    CHECK_EQ(mem.live, 0);
}

int main(void)
{
    kit_begin();
    RUN(test_counts);
    RUN(test_threads);
    RUN(test_broken);
    RUN(test_pictures);
    RUN(test_refusals);
    RUN(test_model);
    RUN(test_sketches);
    test_kit_end();
    return TEST_END();
}
