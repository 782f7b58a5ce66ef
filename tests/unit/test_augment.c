/* Added rows: edits of texts, thesauri, what evaluation rows are spared, translation by a
 * model, pictures. */
#include "kit.h"
#include "base/json.h"
#include "data/image.h"
#include "peft_data.h"

static const char rows[] =
    "{\"text\": \"The film was really good, and I quickly liked the big plot.\", \"label\": "
    "\"pos\"}\n"
    "{\"text\": \"An awful film; the plot makes no sense\", \"label\": \"neg\", \"n\": 1e2}\n"
    "{\"text\": \"Good big film for the test\", \"label\": 3, \"split\": \"test\"}\n"
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be good.\"}, {\"role\": \"user\", "
    "\"content\": \"Is the big film good?\"}, {\"role\": \"assistant\", \"content\": "
    "\"A good film.\"}]}\n"
    "{\"tokens\": [\"Big\", \"Ben\", \"was\", \"good\", \"film\"], \"tags\": [\"B\", \"I\", \"O\", "
    "\"O\", \"O\"]}\n"
    "{\"text\": \"Big good film\", \"spans\": [[0, 3, \"X\"]]}\n";
static const char mythes[] =
    "UTF-8\ngood|2\n(adj)|bad (antonym)|better (related term)\n(adj)|fine (similar term)|Bon\n"
    "big|1\n(adj)|large|of size (generic term)\nfilm|1\n(noun)|movie|picture show\n";

struct found { int n; json *row[64]; char *text; };
static void free_found(struct found *f)
{
    for (int i = 0; i < f->n; i++) json_free(f->row[i]);
    free(f->text);
}
/* Runs, and reads the added rows. */
static struct found added(const char *path, peft_augment_opts *o, peft_augmented *r)
{
    struct found f = { 0 };
    char out[256];
    snprintf(out, sizeof out, "%s", in("out.jsonl"));
    o->size = sizeof *o;
    o->overwrite = 1;
    *r = (peft_augmented){ .size = sizeof *r };
    OK(peft_data_augment(path, out, o, r));
    struct bytes b = get(out);
    f.text = b.at;
    for (char *at = b.at; *at && f.n < 64;) {
        size_t n = strcspn(at, "\n");
        json *row = NULL;
        OK(json_parse(at, (int64_t)n, "row", &row));
        if (row && json_get(row, "augmented")) f.row[f.n++] = row;
        else json_free(row);
        at += n + 1;
    }
    CHECK_EQ(f.n, r->added);
    return f;
}
static const char *text_of_row(const json *row) { return json_string(json_get(row, "text")); }

static int count_words(const char *s)
{
    int n = 0;
    for (; *s; s++) n += *s != ' ' && (s[1] == ' ' || !s[1]);
    return n;
}

static void test_edits(void)
{
    char path[256], words[256];
    snprintf(path, sizeof path, "%s", put(in("rows.jsonl"), rows));
    snprintf(words, sizeof words, "%s", put(in("th.dat"), mythes));
    peft_augmented r;
    peft_augment_opts o = { .methods = "delete", .strength = 0.2 };
    struct found f = added(path, &o, &r);
    CHECK(r.rows == 6 && r.guarded == 1 && f.n == 3);
    CHECK_NEAR(r.share, 3.0 / 9, 1e-12);
    CHECK_EQ(count_words(text_of_row(f.row[0])), 12 - 2);
    CHECK_STR(json_string(json_get(f.row[0], "label")), "pos");
    CHECK_STR(json_string(json_get(f.row[0], "augmented")), "delete");
    CHECK(strstr(f.text, rows + 0) || strstr(f.text, "\"n\": 1e2}\n"));
    /* Answers and system messages stay. */
    const json *m = json_first(json_get(f.row[2], "messages"));
    CHECK_STR(json_string(json_get(m, "content")), "Be good.");
    CHECK_EQ(count_words(json_string(json_get(json_next(m), "content"))), 4);
    CHECK_STR(json_string(json_get(json_next(json_next(m)), "content")), "A good film.");
    free_found(&f);
    o.methods = "synonyms";
    o.thesaurus = words;
    o.strength = 1;
    f = added(path, &o, &r);
    CHECK_EQ(f.n, 4);
    const char *s = f.n ? text_of_row(f.row[0]) : "";
    CHECK(strstr(s, "was really fine, and") || strstr(s, "was really Bon, and"));
    CHECK(strstr(s, "The movie was") || strstr(s, "The picture show was"));
    CHECK(strstr(s, "the large plot."));
    /* Of a list of words one word stays one, and names stay. */
    const json *t = f.n == 4 ? json_first(json_get(f.row[3], "tokens")) : NULL;
    CHECK(t && !strcmp(json_string(t), "Big") && json_count(json_get(f.row[3], "tokens")) == 5);
    CHECK_STR(json_string(json_next(json_next(json_next(json_next(t))))), "movie");
    free_found(&f);
    o.fixed = "film,big";
    f = added(path, &o, &r);
    CHECK(f.n && strstr(text_of_row(f.row[0]), "The film was") &&
          strstr(text_of_row(f.row[0]), "big plot"));
    free_found(&f);
    o = (peft_augment_opts){ .methods = "swap", .strength = 0.1, .answers = 1 };
    f = added(path, &o, &r);
    CHECK_EQ(count_words(text_of_row(f.row[0])), 12);
    CHECK_EQ(strlen(text_of_row(f.row[0])), 59);
    free_found(&f);
    o.methods = "insert";
    f = added(path, &o, &r);
    CHECK_EQ(count_words(text_of_row(f.row[0])), 13);
    free_found(&f);
    o.methods = "noise";
    f = added(path, &o, &r);
    CHECK_EQ(count_words(text_of_row(f.row[0])), 12);
    CHECK(strcmp(text_of_row(f.row[0]), "The film was really good, and I quickly liked the big "
                                        "plot."));
    free_found(&f);
}

/* The same for any number of threads; other seeds give others; copies differ. */
static void test_draws(void)
{
    char path[256];
    snprintf(path, sizeof path, "%s", in("many.jsonl"));
    FILE *out = fopen(path, "w");
    if (!out) GIVE_UP();
    for (int i = 0; i < 2000; i++)
        fprintf(out, "{\"text\": \"one two three four five six %d seven eight\", \"id\": %d}\n",
                i % 1000, i);
    fclose(out);
    peft_source_opts one = { .size = sizeof one, .threads = 1 }, four = one;
    four.threads = 4;
    peft_augment_opts o = { .size = sizeof o, .source = &one, .share = 0.3, .copies = 3 };
    peft_augmented r = { .size = sizeof r };
    OK(peft_data_augment(path, in("one.jsonl"), &o, &r));
    CHECK(r.added > 1500 && r.added < 2000 && r.by_method[2] > 600 && r.by_method[3] > 600);
    o.source = &four;
    OK(peft_data_augment(path, in("four.jsonl"), &o, &r));
    struct bytes a = get(in("one.jsonl")), b = get(in("four.jsonl"));
    CHECK(a.n == b.n && !memcmp(a.at, b.at, a.n));
    o.seed = 1;
    OK(peft_data_augment(path, in("seed.jsonl"), &o, &r));
    free(b.at);
    b = get(in("seed.jsonl"));
    CHECK(a.n != b.n || memcmp(a.at, b.at, a.n));
    /* Those of the first run get no copies in a second one. */
    int64_t before = r.added;
    OK(peft_data_augment(in("seed.jsonl"), in("again.jsonl"), &o, &r));
    CHECK_EQ(r.guarded, before);
    free(a.at);
    free(b.at);
}

static void test_evaluation(void)
{
    char path[256], eval[256];
    snprintf(path, sizeof path, "%s", put(in("t.jsonl"),
        "{\"text\": \"a b\", \"label\": 1}\n{\"text\": \"kept apart\", \"label\": 1}\n"
        "{\"text\": \"x y\", \"split\": \"validation\"}\n"
        "{\"text\": \"c d\", \"split\": \"train\"}\n"));
    snprintf(eval, sizeof eval, "%s", put(in("e.jsonl"),
        "{\"text\": \"B, a!\", \"label\": 1}\n{\"text\": \"Kept  apart.\", \"label\": 0}\n"));
    peft_augmented r;
    peft_augment_opts o = { .methods = "swap", .eval = eval };
    struct found f = added(path, &o, &r);
    CHECK(r.guarded == 2 && r.dropped == 1 && f.n == 1);
    CHECK_STR(text_of_row(f.row[0]), "d c");
    free_found(&f);
}

static void test_thesauri(void)
{
    char path[256];
    snprintf(path, sizeof path, "%s", put(in("t.jsonl"),
                                            "{\"text\": \"Gr\u00f6\u00dfe STRASSE\"}\n"));
    peft_augmented r;
    peft_augment_opts o = { .methods = "synonyms", .strength = 1 };
    o.thesaurus = put(in("own.txt"), "# mine\ngr\u00f6\u00dfe\tumfang , gr\u00f6\u00dfe\n"
                                         "strasse\tweg\n");
    struct found f = added(path, &o, &r);
    CHECK_STR(f.n ? text_of_row(f.row[0]) : "", "Umfang WEG");
    free_found(&f);
    o.thesaurus = put(in("th_de.dat"), "ISO8859-1\ngr\xf6\xdf" "e|1\n-|H\xf6he|x (antonym)\n");
    f = added(path, &o, &r);
    CHECK_STR(f.n ? text_of_row(f.row[0]) : "", "H\u00f6he STRASSE");
    free_found(&f);
    put(in("th_de.idx"), "");
    o.thesaurus = in("th_de.idx");
    f = added(path, &o, &r);
    CHECK_EQ(f.n, 1);
    free_found(&f);
    static const char *const wrong[] = { "word without tab\n", "UTF-8\nword\n", "UTF-8\nword|x\n",
                                         "KOI8-R\n\xc1|1\n", "" };
    o.size = sizeof o;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        o.thesaurus = put(in("wrong.dat"), wrong[i]);
        REFUSED(peft_data_augment(path, in("no.jsonl"), &o, NULL), PEFT_EFORMAT);
    }
    /* An entry that ends in the middle of its meanings. */
    o.thesaurus = put(in("cut.dat"), "UTF-8\nstrasse|9\n(noun)");
    f = added(path, &o, &r);
    CHECK_EQ(f.n, 0);
    CHECK_EQ(r.unchanged, 1);
    free_found(&f);
}

static void test_translation(void)
{
    peft_model *m = load(make_model("m", 1));
    char path[256];
    snprintf(path, sizeof path, "%s", put(in("few.jsonl"),
        "{\"text\": \"hello\"}\n{\"text\": \"a user\", \"label\": 1}\n"
        "{\"text\": \"kept\", \"split\": \"test\"}\n{\"text\": \"assistant\"}\n"
        "{\"text\": \"much too long for a model that has room for no more than a few letters, "
        "sixty or so\"}\n{\"text\": \"end\"}\n"));
    peft_generate_opts g = { .size = sizeof g, .max_tokens = 6, .temperature = 1, .seed = 2 };
    peft_augment_opts o = { .through = m, .generate = &g, .batch = 2, .through_prompt = "{text}?",
                            .back_prompt = "say {text}" };
    peft_augmented r;
    struct found f = added(path, &o, &r);
    CHECK(r.rows == 6 && r.added + r.unchanged == 5 && r.added > 0);
    for (int i = 0; i < f.n; i++)
        CHECK_STR(json_string(json_get(f.row[i], "augmented")), "back-translation");
    /* Rows are in order, the copy behind its own. */
    CHECK(strstr(f.text, "hello") < strstr(f.text, "a user"));
    CHECK(strstr(f.text, "kept") < strstr(f.text, "much too"));
    free_found(&f);
    o.methods = "delete,back-translation";
    o.copies = 4;
    f = added(path, &o, &r);
    CHECK(r.by_method[5] > 0 && r.by_method[2] > 0);
    free_found(&f);
    o.through_prompt = "no slot";
    o.size = sizeof o;
    REFUSED(peft_data_augment(path, in("no.jsonl"), &o, NULL), PEFT_EARG);
    peft_model_free(m);
}

static void test_pictures(void)
{
    mkdir(in("pics"), 0777);
    mkdir(in("pics/cat"), 0777);
    mkdir(in("pics/dog"), 0777);
    copy("tests/golden/vision/rgb.png", in("pics/cat/a.png"));
    copy("tests/golden/vision/rgb.jpg", in("pics/dog/b.jpg"));
    copy("tests/golden/vision/grey.png", in("pics/dog/c.png"));
    put(in("pics/dog/broken.png"), "no picture");
    peft_augmented r = { .size = sizeof r };
    peft_augment_opts o = { .size = sizeof o, .copies = 2 };
    int32_t rc = peft_data_augment(in("pics"), in("more"), &o, &r);
    if (rc == PEFT_EUNSUPPORTED) return;            /* a build without libpng */
    OK(rc);
    CHECK(r.rows == 3 && r.added == 6 && r.broken == 1 && r.by_method[0] == 6);
    struct bytes a = get(in("pics/dog/b.jpg")), b = get(in("more/dog/b.jpg"));
    CHECK(a.n == b.n && !memcmp(a.at, b.at, a.n));
    free(a.at);
    free(b.at);
    CHECK(access(in("more/dog/broken.png"), F_OK));
    /* A flip alone, pixel for pixel. */
    o = (peft_augment_opts){ .size = sizeof o, .pictures = "flip=1" };
    OK(peft_data_augment(in("pics"), in("flip"), &o, &r));
    struct host h;
    struct image x, y;
    OK(host_init(&h, NULL));
    a = get(in("flip/cat/a.png"));
    b = get(in("flip/cat/a-aug1.png"));
    OK(image_decode(&h, (uint8_t *)a.at, (int64_t)a.n, 3, &x));
    OK(image_decode(&h, (uint8_t *)b.at, (int64_t)b.n, 3, &y));
    CHECK(x.w == y.w && x.h == y.h);
    int bad = 0;
    for (int i = 0; i < x.h; i++)
        for (int k = 0; k < x.w; k++)
            bad += memcmp(x.px + (i * x.w + k) * 3, y.px + (i * x.w + x.w - 1 - k) * 3, 3) != 0;
    CHECK_EQ(bad, 0);
    image_free(&h, &x);
    image_free(&h, &y);
    free(a.at);
    free(b.at);
    /* A list: labels are kept, evaluation pictures are spared. */
    put(in("pics/list.csv"), "image,label\ncat/a.png,1\ndog/b.jpg,2\n");
    put(in("pics/eval.jsonl"), "{\"image\": \"cat/a.png\"}\n");
    char eval[256];
    snprintf(eval, sizeof eval, "%s", in("pics/eval.jsonl"));
    o.eval = eval;
    OK(peft_data_augment(in("pics/list.csv"), in("listed"), &o, &r));
    CHECK(r.guarded == 1 && r.added == 1);
    a = get(in("listed/list.jsonl"));
    CHECK_STR(a.at, "{\"image\": \"cat/a.png\", \"label\": 1}\n"
                    "{\"image\": \"dog/b.jpg\", \"label\": 2}\n"
                    "{\"image\": \"dog/b-aug1.png\", \"label\": 2, \"augmented\": \"picture\"}\n");
    free(a.at);
    REFUSED(peft_data_augment(in("pics"), in("flip"), &o, NULL), PEFT_ESTATE);
    put(in("pics/away.jsonl"), "{\"image\": \"../rows.jsonl\"}\n");
    REFUSED(peft_data_augment(in("pics/away.jsonl"), in("away"), &o, NULL), PEFT_EFORMAT);
    CHECK(access(in("away"), F_OK));
}

static void test_refusals(void)
{
    char path[256];
    snprintf(path, sizeof path, "%s", put(in("rows.jsonl"), rows));
    static const peft_augment_opts wrong[] = {
        { .methods = "translate" }, { .methods = "synonyms" }, { .methods = "back-translation" },
        { .strength = 2 }, { .share = -1 }, { .copies = 33 }, { .methods = "" } };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        peft_augment_opts o = wrong[i];
        o.size = sizeof o;
        REFUSED(peft_data_augment(path, in("no.jsonl"), &o, NULL), PEFT_EARG);
    }
    REFUSED(peft_data_augment(put(in("bad.jsonl"), "{\"text\": \"a b\"}\n{\"text\"\n"),
                              in("no.jsonl"), NULL, NULL), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "line 2"));
    REFUSED(peft_data_augment(put(in("empty.jsonl"), ""), in("no.jsonl"), NULL, NULL), PEFT_EDATA);
    CHECK(access(in("no.jsonl"), F_OK));
}

int main(void)
{
    kit_begin();
    RUN(test_edits);
    RUN(test_draws);
    RUN(test_evaluation);
    RUN(test_thesauri);
    RUN(test_translation);
    RUN(test_pictures);
    RUN(test_refusals);
    kit_end();
    return TEST_END();
}
