/* peft_data_clean: each rule on rows made for it, recall and precision of near duplicates on
 * pairs of known likeness, the same bytes for any number of threads, files whole or not at all. */

#include <signal.h>
#include <sys/wait.h>

#include "base/pool.h"
#include "base/rng.h"
#define kit_end kit_folder_end
#include "full.h"
#undef kit_end
#include "text/unicode.h"
#include "prep/damage.h"
#include "prep/near.h"
#include "prep/personal.h"

static struct mem mem;

/* --- personal data */

static const struct { const char *text, *masked; } personal_cases[] = {
    {"write to bob.smith+x@mail.example.co.uk.", "write to [MAIL]."},
    {"a@b, @home, x@y.z1, foo@bar.c", NULL},
    {"call +49 171 2345678 or +1 (555) 010-9999 now", "call [PHONE] or [PHONE] now"},
    {"(555) 234-5678, 555-234-5678, 1-800-555-0199", "[PHONE], [PHONE], [PHONE]"},
    {"030 1234567, 01 23 45 67 89, 0171/2345678", "[PHONE], [PHONE], [PHONE]"},
    {"13812345678", "[PHONE]"},
    {"on 2024-01-15, 01.02.2024 at 10:30, 192.168.0.1, 3.14159265, 12345678", NULL},
    {"1,234,567,890 or 1234567890123 or id-0171-2345678 or x0171 2345678", NULL},
    {"4111 1111 1111 1111, 4111111111111111; 3782-822463-10005", "[CARD], [CARD]; [CARD]"},
    {"4111 1111 1111 1112, 4111111111111112", NULL},
    {"DE89 3704 0044 0532 0130 00 and GB82WEST12345698765432.", "[IBAN] and [IBAN]."},
    {"DE88 3704 0044 0532 0130 00, DE12", NULL},
    {"sk-abcdEFGH1234567890ijkl AKIAIOSFODNN7EXAMPLE", "[KEY] [KEY]"},
    {"password: hunter2x9, secret word, token economy, API_KEY=\"ab12cd34ef56\"",
     "password: [KEY], secret word, token economy, API_KEY=\"[KEY]\""},
    {"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- x", "[KEY] x"},
    {"sk-learn is a library, hf_hub too, risk-based", NULL},
};

static void test_personal(void)
{
    struct personal p;
    personal_init(&p);
    for (size_t i = 0; i < ARRAY_LEN(personal_cases); i++) {
        const char *s = personal_cases[i].text;
        struct personal_place at = {.to = 0};
        struct buf out;
        int64_t from = 0, n = (int64_t)strlen(s);
        buf_init(&out, &mem);
        while (personal_next(&p, s, n, 31, at.to, &at)) {
            buf_put(&out, s + from, at.from - from);
            buf_puts(&out, personal_masks[at.kind]);
            from = at.to;
        }
        buf_put(&out, s + from, n - from);
        CHECK_STR(buf_str(&out), personal_cases[i].masked ? personal_cases[i].masked : s);
        buf_free(&out);
    }
}

/* --- encodings */

/* Bytes as Windows-1252 shows them, encoded: what one wrong reading makes of UTF-8. */
static void encode_again(struct buf *out, const char *s)
{
    static const int32_t page[32] = {
        0x20ac, 0x81, 0x201a, 0x192, 0x201e, 0x2026, 0x2020, 0x2021, 0x2c6, 0x2030, 0x160,
        0x2039, 0x152, 0x8d, 0x17d, 0x8f, 0x90, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013,
        0x2014, 0x2dc, 0x2122, 0x161, 0x203a, 0x153, 0x9d, 0x17e, 0x178};
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        uni_append(out, c >= 0x80 && c < 0xa0 ? page[c - 0x80] : c);
    }
}

static void test_damage(void)
{
    static const char *const good[] = {
        "Caf\xc3\xa9 na\xc3\xafve \xe2\x80\x9cquoted\xe2\x80\x9d \xe2\x80\x93 5 \xe2\x82\xac",
        "\xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82, "
        "\xce\xba\xce\xb1\xce\xbb\xce\xb7\xce\xbc",
        "\xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x98\x80 \xea\xb0\x80 \xe3\x81\x82",
        "ma\xc3\xb1" "ana gr\xc3\xbc\xc3\x9f" "e \xc5\x82\xc3\xb3" "d\xc5\xba",
    };
    static const char *const fine[] = {
        "CAF\xc3\x89\xc2\xbb", "\xc2\xab\xc3\x89\xc2\xbb",
        "\xc3\x84\xe2\x80\x9c und \xc3\x85\xc2\xbb",
        "S\xc3\xa3o, ESPA\xc3\x91\xc2\xbb", "\xc3\x80\xc3\x89\xc3\x8e", "a\xc2\xa0z", "plain"};
    struct damage d;
    struct buf once, twice, out;
    buf_init(&once, &mem);
    buf_init(&twice, &mem);
    buf_init(&out, &mem);
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        buf_clear(&once), buf_clear(&twice);
        encode_again(&once, good[i]);
        encode_again(&twice, buf_str(&once));
        for (int k = 0; k < 2; k++) {
            const struct buf *b = k ? &twice : &once;
            buf_clear(&out);
            damage_find(b->data, b->n, &d, &out);
            CHECK(d.twice > 0);
            CHECK_STR(buf_str(&out), good[i]);
        }
        buf_clear(&out);
        damage_find(good[i], (int64_t)strlen(good[i]), &d, &out);
        CHECK_EQ(d.twice + d.control + d.lost, 0);
        CHECK_EQ(out.n, 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(fine); i++) {
        damage_find(fine[i], (int64_t)strlen(fine[i]), &d, NULL);
        CHECK_EQ(d.twice + d.control + d.lost, 0);
    }
    damage_find("it\xc2\x92s \xef\xbf\xbd", 9, &d, &out);
    CHECK_EQ(d.control, 1);
    CHECK_EQ(d.lost, 1);
    CHECK_EQ(d.at, 2);
    CHECK_STR(buf_str(&out), "it\xe2\x80\x99s \xef\xbf\xbd");
    buf_free(&once), buf_free(&twice), buf_free(&out);
}

/* --- likeness.  Texts of 200 words, of which the second one's last m are others: shingles of
 * 3 words, 198 in each, 198 - m in common. */

static void put_words(struct buf *b, int id, int from, int to)
{
    for (int i = from; i < to; i++)
        buf_printf(b, "w%x ", (unsigned)rng_u32((uint64_t)id, 1, (uint64_t)i));
}

static void sketch_text(struct words *w, struct buf *b, struct sketch *out)
{
    row_words_begin(w);
    row_words_add(w, b->data, b->n, true);
    CHECK(sketch_words(w, 3, out));
}

static void test_sketch(void)
{
    enum { WORDS = 200, PAIRS = 200 };
    static struct words w;
    struct buf a;
    row_words_init(&w, &mem);
    buf_init(&a, &mem);
    for (int m = 0; m < 200; m += 22) {
        double same = 198 - m, j = same / (2 * 198 - same), sum = 0, square = 0;
        for (int p = 0; p < PAIRS; p++) {
            struct sketch x, y;
            buf_clear(&a);
            put_words(&a, p, 0, WORDS);
            sketch_text(&w, &a, &x);
            buf_clear(&a);
            put_words(&a, p, 0, WORDS - m);
            put_words(&a, p, 1000, 1000 + m);
            sketch_text(&w, &a, &y);
            double e = (sketch_equal(&x, &y) / 128.0 - 1 / 16.0) * 16 / 15.0;
            sum += e;
            square += (e - j) * (e - j);
        }
        CHECK_NEAR(sum / PAIRS, j, 0.012);
        CHECK(sqrt(square / PAIRS) < 0.055);
    }
    /* Case, spaces and punctuation do not count, and few words are few shingles. */
    struct sketch x, y;
    row_words_begin(&w);
    row_words_add(&w, "Hello,  WORLD\n", 14, true);
    CHECK(sketch_words(&w, 3, &x));
    uint64_t exact = w.exact;
    row_words_begin(&w);
    row_words_add(&w, "hello world", 11, true);
    CHECK(sketch_words(&w, 3, &y));
    CHECK_EQ(sketch_equal(&x, &y), 128);
    CHECK(exact != w.exact);
    row_words_begin(&w);
    row_words_add(&w, "?! ", 3, true);
    CHECK(!sketch_words(&w, 3, &y));
    CHECK_EQ(w.tokens, 2);
    CHECK_EQ(band_bins(0.8), 7);
    CHECK(band_bins(0.5) < band_bins(0.95));
    row_words_free(&w);
    buf_free(&a);
}

/* --- files */

static double cell(const peft_tables *t, const char *table, const char *name, int column)
{
    peft_table s = {.size = sizeof s};
    OK(peft_tables_find(t, table, &s));
    for (int64_t i = 0; i < s.n_rows; i++)
        if (!strcmp(s.cells[s.n_columns * i].text, name))
            return s.cells[s.n_columns * i + column].number;
    return -1;
}
static double fact(const peft_tables *t, const char *name) { return cell(t, "summary", name, 1); }
static double hits(const peft_tables *t, const char *rule) { return cell(t, "rules", rule, 2); }

static const char rows[] =
    "{\"text\":\"Hello   World\",\"label\":\"a\"}\n"                        /* 1 */
    "{\"text\":\"hello world\",\"label\":\"a\"}\n"
    "{ \"text\" : \"hello world\", \"label\": \"b\", \"n\": 1.50 }\n"
    "{\"text\":\"hello world\",\"label\":\"b\"}\n"
    "{\"text\":\"HELLO WORLD\",\"label\":\"b\"}\n"
    "{\"text\":\"  \",\"label\":\"b\"}\n"                                   /* 6 */
    "not json\n"
    "{\"text\":\"\xff\"}\n"
    "\n"
    "{\"text\":\"mail me: a.b@c.org\",\"id\":\"a.b@c.org\"}\n"              /* 10 */
    "{\"text\":\"Caf\xc3\x83\xc2\xa9\"}\n"
    "{\"prompt\":\"Which of these five is right?\",\"completion\":\"One.\"}\n"
    "{\"context\":\"by a.b@c.org\",\"question\":\"Who?\",\"answers\":{\"text\":[\"a.b@c.org\"],"
    "\"answer_start\":[3]}}\n"
    "{\"input_ids\":[1,2,3]}\n";                                            /* 14 */

static char *cleaned(const char *actions, const char *against, peft_tables **report)
{
    peft_clean_opts o = {.size = sizeof o, .actions = actions, .against = against,
                         .dropped = in("dropped.jsonl")};
    put(in("rows.jsonl"), rows);
    OK(peft_data_clean(in("rows.jsonl"), in("out.jsonl"), &o, report));
    return get(in("out.jsonl")).at;
}

static void test_rules(void)
{
    peft_tables *t = NULL;
    char *s = cleaned("mail=mask,encoding=fix", NULL, &t);
    CHECK_STR(s, "{\"text\":\"Hello   World\",\"label\":\"a\"}\n"
                 "{ \"text\" : \"hello world\", \"label\": \"b\", \"n\": 1.50 }\n"
                 "{\"text\": \"mail me: [MAIL]\", \"id\": \"a.b@c.org\"}\n"
                 "{\"text\": \"Caf\xc3\xa9\"}\n"
                 "{\"prompt\":\"Which of these five is right?\",\"completion\":\"One.\"}\n"
                 "{\"context\": \"by *********\", \"question\": \"Who?\", \"answers\": {\"text\": "
                 "[\"*********\"], \"answer_start\": [3]}}\n"
                 "{\"input_ids\":[1,2,3]}\n");
    CHECK_EQ(fact(t, "rows"), 13);
    CHECK_EQ(fact(t, "kept"), 7);
    CHECK_EQ(fact(t, "changed"), 3);
    CHECK_EQ(hits(t, "broken"), 2);
    CHECK_EQ(hits(t, "empty"), 1);
    CHECK_EQ(hits(t, "exact"), 3);
    CHECK_EQ(hits(t, "contradiction"), 2);
    CHECK_EQ(hits(t, "mail"), 2);
    CHECK_EQ(cell(t, "rules", "mail", 3), 3);
    peft_tables_free(t);
    free(s);
    struct bytes d = get(in("dropped.jsonl"));
    CHECK(strstr(d.at, "{\"line\": 2, \"rule\": \"exact\", \"of\": 1, \"similarity\": 1, \"row\": "
                       "{\"text\":\"hello world\",\"label\":\"a\"}}\n") == d.at);
    CHECK(strstr(d.at, "{\"line\": 7, \"rule\": \"broken\", \"row\": \"not json\"}\n") != NULL);
    CHECK(strstr(d.at, "{\"line\": 8, \"rule\": \"broken\", \"row\": \"") != NULL);
    free(d.at);
    /* Three rows of label b against two of a. */
    s = cleaned("contradiction=majority", NULL, &t);
    CHECK(strstr(s, "\"label\":\"a\"") == NULL);
    CHECK(strstr(s, "1.50") != NULL);
    CHECK_EQ(hits(t, "contradiction"), 2);
    CHECK_EQ(hits(t, "exact"), 2);
    peft_tables_free(t);
    free(s);
    s = cleaned("contradiction=drop,mail=drop,encoding=drop", NULL, &t);
    CHECK(strstr(s, "label") == NULL && strstr(s, "a.b") == NULL && !strstr(s, "Caf"));
    CHECK_EQ(hits(t, "contradiction"), 5);
    CHECK_EQ(hits(t, "mail"), 2);
    peft_tables_free(t);
    free(s);
    s = cleaned("exact=off,contradiction=off,near=off,empty=flag", NULL, &t);
    CHECK_EQ(fact(t, "kept"), 11);
    peft_tables_free(t);
    free(s);
    put(in("eval.jsonl"), "{\"prompt\":\"which of these five is RIGHT?\",\"completion\":\"Two.\"}\n"
                          "{\"text\":\"hello world\",\"label\":\"a\"}\n");
    s = cleaned("contradiction=flag", in("eval.jsonl"), &t);
    CHECK_EQ(hits(t, "leak"), 6);
    CHECK(strstr(s, "ello") == NULL && strstr(s, "Which") == NULL);
    peft_tables_free(t);
    free(s);
}

/* Groups of a text, an exact copy, and variants of known likeness; other texts between. */
static void test_near(void)
{
    enum { GROUPS = 400 };
    static const int others[] = {2, 8, 14, 34, 50};     /* J = .98 .92 .87 .71 .60 */
    struct buf b;
    FILE *f = fopen(in("near.jsonl"), "w");
    buf_init(&b, &mem);
    for (int g = 0; g < GROUPS; g++)
        for (int v = -1; v < (int)ARRAY_LEN(others); v++) {
            int m = v < 0 ? 0 : others[v];
            buf_clear(&b);
            put_words(&b, g, 0, 200 - m);
            put_words(&b, g, 1000 * (v + 2), 1000 * (v + 2) + m);
            fprintf(f, "{\"text\": \"%s\", \"v\": %d}\n", buf_str(&b), v);
        }
    fclose(f);
    buf_free(&b);
    peft_clean_opts o = {.size = sizeof o, .dropped = in("near-dropped.jsonl")};
    char *first = NULL, *kept = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        peft_source_opts s = {.size = sizeof s, .threads = threads};
        o.source = &s;
        OK(peft_data_clean(in("near.jsonl"), in("near-out.jsonl"), &o, NULL));
        char *now = get(in("near-dropped.jsonl")).at, *out = get(in("near-out.jsonl")).at;
        if (first) {
            CHECK(!strcmp(now, first) && !strcmp(out, kept));
            free(now);
            free(out);
        } else {
            first = now;
            kept = out;
        }
    }
    int count[8] = {0};
    for (const char *at = first; (at = strstr(at, "\"v\": ")) != NULL; at += 5)
        count[atoi(at + 5) + 1]++;
    printf("near duplicates at 0.8 found: J .98 %d, .92 %d, .87 %d, .71 %d, .60 %d of %d\n",
           count[1], count[2], count[3], count[4], count[5], GROUPS);
    CHECK_EQ(count[0], 0);
    CHECK(count[1] == GROUPS && count[2] >= GROUPS * 99 / 100 && count[3] >= GROUPS * 93 / 100);
    CHECK(count[4] <= GROUPS * 4 / 100 && count[5] == 0);
    free(first);
    free(kept);
}

/* --- lists and sorted sequences, in memory and in files */

/* Where files are the host's own, they have names as long as they are there. */
static void spill_in(struct host *h, int named)
{
    enum { N = 5000 };
    struct scratch to;
    OK(scratch_begin(&to, h, in("list")));
    int before = files_there();
    for (int words = 1; words <= 2; words++)
        for (int64_t memory = 1; memory < 1 << 24; memory <<= 20) {
            struct sorter s;
            uint64_t e[2] = {0}, last[2] = {0};
            int64_t n = 0;
            sorter_begin(&s, &to, words, 0, memory);
            for (int64_t i = 0; i < N; i++)
                OK(sorter_put(&s, (uint64_t)rng_u32(1, 2, (uint64_t)i) << (i % 2 * 29) & ~7ull,
                              (uint64_t)i));
            CHECK_EQ(files_there() - before, memory == 1 && named);
            OK(sorter_turn(&s));
            for (; sorter_next(&s, e) == 1; n++, memcpy(last, e, sizeof e))
                CHECK(e[0] > last[0] || (e[0] == last[0] && (words == 1 || !n || e[1] > last[1])));
            CHECK_EQ(n, N);
            CHECK_EQ(sorter_next(&s, e), 0);
            sorter_free(&s);
            struct spill l;
            struct spill_reader r;
            int32_t v[3], back[3];
            const void *at;
            spill_begin(&l, &to, sizeof v, memory);
            for (int32_t i = 0; i < N; i++) {
                v[0] = v[2] = i;
                OK(spill_put(&l, v));
            }
            OK(spill_turn(&l));
            spill_read(&r, &l);
            for (int32_t i = 0; i < N; i++) {
                CHECK(spill_next(&r, &at) == 1 && ((const int32_t *)at)[2] == i);
                at = spill_at(&l, N - 1 - i, back);
                CHECK(at && ((const int32_t *)at)[0] == N - 1 - i);
            }
            CHECK_EQ(spill_next(&r, &at), 0);
            spill_close(&r);
            spill_free(&l);
            CHECK_EQ(files_there(), before);
        }
    scratch_end(&to);
}

static peft_io system_io;
static void *own_open(void *ctx, const char *path, int32_t write, int32_t *err)
{
    return system_io.open(ctx, path, write, err);
}

static void test_spill(void)
{
    struct host h;
    host_init(&h, NULL);
    spill_in(&h, 0);
    system_io = h.io;
    h.io.open = own_open;
    spill_in(&h, 1);
}

/* A process that is killed leaves nothing. */
static void test_killed(void)
{
    int before = files_there(), status = 0;
    pid_t child = fork();
    if (!child) {
        struct host h;
        struct scratch to;
        struct spill l;
        struct sorter s;
        host_init(&h, NULL);
        scratch_begin(&to, &h, in("list"));
        spill_begin(&l, &to, 8, 1);
        sorter_begin(&s, &to, 1, 0, 1);
        for (uint64_t i = 0; i < 5000; i++)
            if (spill_put(&l, &i) || sorter_put(&s, i, 0)) _exit(1);
        if (!l.f.file || !s.f.file) _exit(1);
        raise(SIGKILL);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK_EQ(files_there(), before);
}

/* --- more rows than fit into memory: all that is kept of rows lies in files */

/* The rows of near.jsonl with labels that contradict each other, and some once more. */
static void put_labelled(const char *path, int from, int step)
{
    struct bytes b = get(in("near.jsonl"));
    FILE *f = fopen(path, "w");
    int i = 0;
    for (char *at = b.at, *end; (end = strchr(at, '\n')); at = end + 1, i++)
        for (int copy = 0; i >= from && i % step == 0 && copy <= i % 3; copy++)
            fprintf(f, "%.*s, \"label\": \"%s\"}\n", (int)(end - at) - 1, at,
                    i % 5 && copy != 1 ? "a" : "b");
    fclose(f);
    free(b.at);
}

static void test_memory(void)
{
    static const char *const actions[] = {"contradiction=majority", "leak=flag,contradiction=drop",
                                          "exact=off,leak=off"};
    put_labelled(in("many.jsonl"), 0, 1);
    put_labelled(in("many-eval.jsonl"), 2000, 3);
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        char *all[2][2];
        for (int small = 0; small < 2; small++) {
            peft_source_opts s = {.size = sizeof s, .threads = 1 + small};
            peft_clean_opts o = {.size = sizeof o, .source = &s, .actions = actions[i],
                                 .against = in("many-eval.jsonl"), .dropped = in("m-dropped.jsonl"),
                                 .memory = small};
            OK(peft_data_clean(in("many.jsonl"), in("m-out.jsonl"), &o, NULL));
            all[small][0] = get(in("m-out.jsonl")).at;
            all[small][1] = get(in("m-dropped.jsonl")).at;
        }
        for (int k = 0; k < 2; k++) {
            CHECK(*all[0][k] && !strcmp(all[0][k], all[1][k]));
            free(all[0][k]);
            free(all[1][k]);
        }
    }
}

/* --- failures */

static int64_t progress_last;
static int32_t stop_at(void *ctx, int64_t done, int64_t total)
{
    int *left = ctx;
    CHECK(done >= progress_last && done <= total);
    progress_last = done;
    return --*left == 0;
}

static void test_failures(void)
{
    real.size = sizeof real;
    os_io_default(&real);
    peft_io full = real;
    full.write = write_some;
    peft_load_opts host = {.size = sizeof host, .io = &full, .alloc = kit_alloc,
                           .alloc_ctx = &kit_mem};
    peft_source_opts s = {.size = sizeof s, .threads = 2, .host = &host};
    char dropped[128];
    snprintf(dropped, sizeof dropped, "%s", in("x-dropped.jsonl"));
    peft_clean_opts o = {.size = sizeof o, .source = &s, .dropped = dropped};
    int before = files_there(), calls;
    for (int part = 1; part < 4; part++) {
        room = part * 500000;
        REFUSED(peft_data_clean(in("near.jsonl"), in("x.jsonl"), &o, NULL), PEFT_EIO);
        CHECK_EQ(files_there(), before);
    }
    /* The same where it is the temporary files that become too long, or memory is. */
    o.memory = 1;
    room = INT64_MAX;
    OK(peft_data_clean(in("near.jsonl"), NULL, &o, NULL));
    int64_t needed = INT64_MAX - room;
    for (int part = 0; part < 16; part++) {
        room = part * needed / 16;
        REFUSED(peft_data_clean(in("near.jsonl"), NULL, &o, NULL), PEFT_EIO);
        CHECK(strstr(peft_errmsg(), "no space left") != NULL);
        CHECK_EQ(files_there(), before + 1);
    }
    room = INT64_MAX;
    for (long at = 1; at < 100000; at += at / 4 + 1) {
        kit_mem.calls = 0;
        kit_mem.fail_at = at;
        int32_t rc = peft_data_clean(in("near.jsonl"), NULL, &o, NULL);
        kit_mem.fail_at = 0;
        CHECK(rc == PEFT_OK || rc == PEFT_ENOMEM);
        CHECK_EQ(kit_mem.live, 0);
        CHECK_EQ(files_there(), before + 1);
        if (rc == PEFT_OK) break;
    }
    before++;
    s.progress = stop_at;
    s.ctx = &calls;
    for (int at = 1; at < 40; at += 6) {
        calls = at;
        progress_last = 0;
        REFUSED(peft_data_clean(in("near.jsonl"), in("x.jsonl"), &o, NULL), PEFT_ECANCELLED);
        CHECK_EQ(files_there(), before);
    }
    s.progress = NULL;
    o.memory = 0;
    static const char *const wrong[] = {"nope=drop", "exact", "exact=mask", "broken=off",
                                        "mail=majority"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        o.actions = wrong[i];
        REFUSED(peft_data_clean(in("rows.jsonl"), NULL, &o, NULL), PEFT_EARG);
    }
    o.actions = "broken=fail";
    REFUSED(peft_data_clean(in("rows.jsonl"), NULL, &o, NULL), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "rows.jsonl line 7") != NULL);
    o.actions = NULL;
    o.near = 2;
    REFUSED(peft_data_clean(in("rows.jsonl"), NULL, &o, NULL), PEFT_EARG);
    o.near = 0;
    o.min_tokens = 3;
    REFUSED(peft_data_clean(in("rows.jsonl"), NULL, &o, NULL), PEFT_EARG);
    o.min_tokens = 0;
    o.actions = "mail=mask,encoding=fix";
    char against[128];
    snprintf(against, sizeof against, "%s", in("eval.jsonl"));
    o.against = against;
    s.threads = 1;
    for (long at = 1; at < 10000; at++) {
        kit_mem.calls = 0;
        kit_mem.fail_at = at;
        int32_t rc = peft_data_clean(in("rows.jsonl"), in("x.jsonl"), &o, NULL);
        kit_mem.fail_at = 0;
        CHECK_EQ(kit_mem.live, 0);
        if (rc != PEFT_ENOMEM) break;
        CHECK_EQ(files_there(), before);
    }
    CHECK_EQ(files_there(), before + 1);
}

int main(void)
{
    kit_begin();
    mem_init(&mem, NULL, NULL);
    RUN(test_personal);
    RUN(test_damage);
    RUN(test_sketch);
    RUN(test_rules);
    RUN(test_near);
    RUN(test_spill);
    RUN(test_killed);
    RUN(test_memory);
    RUN(test_failures);
    kit_folder_end();
    return TEST_END();
}
