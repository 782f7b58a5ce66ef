/* Rows dealt out to training, validation and test: exact counts, groups, seeds, and what
 * happens when something is wrong. */
#include <errno.h>

#include "kit.h"
#include "peft_data.h"

enum { ROWS = 1000, CLASSES = 3 };
static const char *const side_names[] = { "train", "valid", "test" };

/* Class i % 10: five times pos, three times neg, two times neu; texts occur twice or not. */
static const char *class_name(int i)
{
    return i % 10 < 5 ? "pos" : i % 10 < 8 ? "neg" : "neu";
}
static const char *rows_of(int n, int users, int copies)
{
    const char *path = in("rows.jsonl");
    FILE *f = fopen(path, "w");
    if (!f) GIVE_UP();
    for (int i = 0; i < n; i++)
        fprintf(f, "{\"text\": \"%s No. %d%s\", \"label\": \"%s\", \"user\": %d, \"row\": %d}\n",
                i % copies ? "Review," : "review", i / copies, i % copies ? "!" : "",
                class_name(i), i * 7 % users, i);
    fclose(f);
    return path;
}

/* Side of each row as found in the files; also checks that rows are in order and whole. */
static int sides_of(const char *dir, int n, int *side)
{
    int found = 0;
    for (int i = 0; i < n; i++) side[i] = -1;
    for (int k = 0; k < 3; k++) {
        char line[512];
        int last = -1;
        FILE *f = fopen(in("%s/%s.jsonl", dir, side_names[k]), "r");
        if (!f) continue;
        while (fgets(line, sizeof line, f)) {
            const char *at = strstr(line, "\"row\": ");
            int row = at ? (int)strtol(at + 7, NULL, 10) : -1;
            CHECK(row > last && row < n && side[row] < 0 && line[strlen(line) - 1] == '\n');
            if (row < 0 || row >= n) break;
            last = row;
            side[row] = k;
            found++;
        }
        fclose(f);
    }
    return found;
}

static struct { int n; char name[8][16]; int64_t rows[8][3]; } told;
static void on_class(void *ctx, const char *name, const int64_t *rows)
{
    CHECK(ctx == &told);
    if (told.n == 8) return;
    snprintf(told.name[told.n], sizeof told.name[0], "%s", name);
    memcpy(told.rows[told.n++], rows, sizeof told.rows[0]);
}
static char logged[2048];
static void on_log(void *ctx, int32_t level, const char *line)
{
    (void)ctx, (void)level;
    strncat(logged, line, sizeof logged - strlen(logged) - 1);
}

static void test_counts(void)
{
    static int a[ROWS], b[ROWS];
    const char *path = rows_of(ROWS, 10, 1);
    peft_split r = { .size = sizeof r };
    peft_split_opts o = { .size = sizeof o, .stratify = "label", .on_class = on_class,
                          .ctx = &told, .seed = 4 };
    told.n = 0;
    OK(peft_data_split(path, in("a"), &o, &r));
    CHECK(r.rows[0] == 800 && r.rows[1] == 100 && r.rows[2] == 100);
    CHECK(r.classes == 3 && !r.scarce && !r.shared && told.n == 3);
    CHECK_STR(told.name[0], "pos");
    for (int i = 0; i < told.n; i++) {
        int n = i == 0 ? 500 : i == 1 ? 300 : 200;
        CHECK(told.rows[i][0] == n * 8 / 10 && told.rows[i][1] == n / 10);
    }
    CHECK_EQ(sides_of("a", ROWS, a), ROWS);
    int counts[3][3] = { { 0 } };
    for (int i = 0; i < ROWS; i++) counts[i % 10 < 5 ? 0 : i % 10 < 8 ? 1 : 2][a[i]]++;
    CHECK(counts[0][1] == 50 && counts[1][1] == 30 && counts[2][2] == 20);
    /* The same again; other rows with another seed. */
    OK(peft_data_split(path, in("b"), &o, &r));
    CHECK_EQ(sides_of("b", ROWS, b), ROWS);
    CHECK(!memcmp(a, b, sizeof a));
    o.seed = 5;
    o.overwrite = 1;
    OK(peft_data_split(path, in("b"), &o, &r));
    sides_of("b", ROWS, b);
    CHECK(memcmp(a, b, sizeof a) != 0 && r.rows[1] == 100);
}

static void test_remainders(void)
{
    /* 3 rows of each of 10 classes: 2.4, 0.3, 0.3 give all to training; 5 rows: 4 and a tie,
     * which goes to each side in turn. */
    FILE *f = fopen(in("few.jsonl"), "w");
    if (!f) GIVE_UP();
    for (int i = 0; i < 50; i++) fprintf(f, "{\"text\": \"t %d\", \"label\": %d}\n", i, i % 10);
    fclose(f);
    peft_split r = { .size = sizeof r };
    peft_source_opts source = { .size = sizeof source };
    peft_load_opts host = kit_opts();
    host.log = on_log;
    source.host = &host;
    peft_split_opts o = { .size = sizeof o, .stratify = "label", .source = &source };
    logged[0] = 0;
    OK(peft_data_split(in("few.jsonl"), in("few"), &o, &r));
    CHECK(r.rows[0] == 40 && r.rows[1] == 5 && r.rows[2] == 5);
    CHECK_EQ(r.scarce, 10);
    CHECK(strstr(logged, "class \"0\" has too few rows, 5: none for test"));
    /* Two sides; names by a prefix; a limit. */
    source.limit = 20;
    o = (peft_split_opts){ .size = sizeof o, .ratio = { 3, 1 }, .source = &source };
    OK(peft_data_split(in("few.jsonl"), in("few-"), &o, &r));
    CHECK(r.rows[0] == 15 && r.rows[1] == 5 && r.rows[2] == 0);
    CHECK(!access(in("few-valid.jsonl"), R_OK) && access(in("few-test.jsonl"), R_OK));
}

static void test_groups(void)
{
    static int a[ROWS];
    peft_split r = { .size = sizeof r };
    peft_split_opts o = { .size = sizeof o, .group = "user", .stratify = "label" };
    OK(peft_data_split(rows_of(ROWS, 97, 1), in("g"), &o, &r));
    CHECK_EQ(sides_of("g", ROWS, a), ROWS);
    for (int i = 97; i < ROWS; i++) CHECK_EQ(a[i], a[i - 97]);
    CHECK_EQ(r.groups[0] + r.groups[1] + r.groups[2], 97);
    CHECK(llabs(r.rows[0] - 800) <= 12 && llabs(r.rows[1] - 100) <= 12);
    int pos[3] = { 0 };
    for (int i = 0; i < ROWS; i++) pos[a[i]] += i % 10 < 5;
    CHECK_NEAR((double)pos[1] / (double)r.rows[1], 0.5, 0.08);
    /* One group with half of the rows belongs to training. */
    OK(peft_data_split(rows_of(ROWS, 2, 1), in("h"),
                       &(peft_split_opts){ .size = sizeof o, .ratio = { 6, 4 }, .group = "user" },
                       &r));
    CHECK(r.rows[0] == 500 && r.rows[1] == 500);
}

static void test_texts(void)
{
    static int a[ROWS];
    peft_split r = { .size = sizeof r };
    peft_split_opts o = { .size = sizeof o, .seed = 1 };
    const char *path = rows_of(ROWS, 10, 2);
    OK(peft_data_split(path, in("t"), &o, &r));
    CHECK(r.shared > 100 && r.shared < 260);
    o.group_text = 1;
    o.overwrite = 1;
    OK(peft_data_split(path, in("t"), &o, &r));
    CHECK_EQ(r.shared, 0);
    CHECK_EQ(sides_of("t", ROWS, a), ROWS);
    for (int i = 1; i < ROWS; i += 2) CHECK_EQ(a[i], a[i - 1]);
    CHECK(r.rows[0] == 800 && r.groups[1] == 50);
    /* Nearly equal: one word of thirty. */
    FILE *f = fopen(in("near.jsonl"), "w");
    if (!f) GIVE_UP();
    for (int i = 0; i < ROWS; i++) {
        fprintf(f, "{\"row\": %d, \"text\": \"", i);
        for (int w = 0; w < 30; w++)
            fprintf(f, "w%d ", i % 2 && w == i % 30 ? 9999
                               : (int)rng_u32(1, 1, (uint64_t)(i / 2 * 30 + w)) & 0x3fff);
        fprintf(f, "\"}\n");
    }
    fclose(f);
    OK(peft_data_split(in("near.jsonl"), in("n"), &o, &r));
    CHECK_EQ(sides_of("n", ROWS, a), ROWS);
    for (int i = 1; i < ROWS; i += 2) CHECK_EQ(a[i], a[i - 1]);
    CHECK_EQ(r.groups[0] + r.groups[1] + r.groups[2], ROWS / 2);
    /* Chains of texts and users become one group; of few groups no side stays empty. */
    f = fopen(in("chain.jsonl"), "w");
    if (!f) GIVE_UP();
    for (int i = 0; i < 900; i++)
        fprintf(f, "{\"row\": %d, \"text\": \"t%d\", \"user\": \"%d\"}\n", i,
                i % 3 * 1000 + (899 - i) / 3 / 2, i % 3 * 1000 + (902 - i) / 3 / 2);
    fclose(f);
    o.group = "user";
    OK(peft_data_split(in("chain.jsonl"), in("c"), &o, &r));
    CHECK_EQ(r.groups[0], 1);
    CHECK_EQ(r.groups[1], 1);
    CHECK_EQ(r.groups[2], 1);
    CHECK_EQ(r.rows[0] + r.rows[1] + r.rows[2], 900);
    CHECK_EQ(r.rows[0], 300);
    /* Texts and users are joined: with 10 users no text is on its own. */
    o.group = "user";
    OK(peft_data_split(path, in("u"), &o, &r));
    sides_of("u", ROWS, a);
    for (int i = 1; i < ROWS; i += 2) CHECK_EQ(a[i], a[i - 1]);
    for (int i = 10; i < ROWS; i++) CHECK_EQ(a[i], a[i - 10]);
}

static int32_t stop(void *ctx, int64_t done, int64_t total)
{
    (void)done, (void)total;
    return --*(int *)ctx < 0;
}

/* What is kept of texts in files, and nothing of it is left. */
static void test_spill(void)
{
    char path[256];
    snprintf(path, sizeof path, "%s", rows_of(5000, 1250, 2));
    for (size_t i = 0; i < 4; i++) {
        peft_split_opts o = { .size = sizeof o, .group_text = i & 1, .stratify = "label",
                              .group = i & 2 ? "user" : NULL };
        peft_split big = { .size = sizeof big }, small = big;
        OK(peft_data_split(path, in("big%zu", i), &o, &big));
        o.memory = 1;
        OK(peft_data_split(path, in("small%zu-", i), &o, &small));
        CHECK(!memcmp(&big, &small, sizeof big));
        for (int k = 0; k < 3; k++) {
            struct bytes a = get(in("big%zu/%s.jsonl", i, side_names[k]));
            struct bytes b = get(in("small%zu-%s.jsonl", i, side_names[k]));
            CHECK(a.n == b.n && !memcmp(a.at, b.at, a.n));
            free(a.at);
            free(b.at);
        }
    }
}

static void test_refusals(void)
{
    peft_split_opts o = { .size = sizeof o };
    const char *path = rows_of(20, 3, 1), *out = in("no");
    o.stratify = "stars";
    REFUSED(peft_data_split(path, out, &o, NULL), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "line 1: no column \"stars\"") && strstr(peft_errmsg(), "user"));
    o.stratify = "row";
    REFUSED(peft_data_split(path, out, &o, NULL), PEFT_EDATA);
    o = (peft_split_opts){ .size = sizeof o, .ratio = { 1, -1, 0 } };
    REFUSED(peft_data_split(path, out, &o, NULL), PEFT_EARG);
    o = (peft_split_opts){ .size = sizeof o, .ratio = { 98, 1, 1 } };
    REFUSED(peft_data_split(path, out, &o, NULL), PEFT_EDATA);
    CHECK(strstr(peft_errmsg(), "valid"));
    REFUSED(peft_data_split(put(in("empty.jsonl"), ""), out, NULL, NULL), PEFT_EDATA);
    REFUSED(peft_data_split(in("none.jsonl"), out, NULL, NULL), PEFT_ENOTFOUND);
    REFUSED(peft_data_split(path, in("no/where/else"), NULL, NULL), PEFT_EIO);
    REFUSED(peft_data_split(put(in("bad.jsonl"), "{\"text\": \"a\"}\n{\"text\": \n"), out, NULL,
                            NULL), PEFT_EFORMAT);
    CHECK(strstr(peft_errmsg(), "line 2"));
    REFUSED(peft_data_split(NULL, out, NULL, NULL), PEFT_EARG);
    int calls = 0;
    peft_source_opts s = { .size = sizeof s, .progress = stop, .ctx = &calls };
    o = (peft_split_opts){ .size = sizeof o, .source = &s };
    REFUSED(peft_data_split(path, out, &o, NULL), PEFT_ECANCELLED);
    CHECK(access(out, F_OK));
    /* What is there stays. */
    mkdir(out, 0777);
    put(in("no/valid.jsonl"), "mine");
    REFUSED(peft_data_split(path, out, NULL, NULL), PEFT_ESTATE);
    CHECK(access(in("no/train.jsonl"), F_OK) && !access(in("no/valid.jsonl"), F_OK));
}

/* A disk that is full after so many writes, or whose n-th renaming fails. */
static peft_io real_io;
static int writes_left, renames_left;
static int64_t full_write(void *ctx, void *file, const void *from, int64_t n)
{
    return writes_left-- > 0 ? real_io.write(ctx, file, from, n) : -ENOSPC;
}
static int32_t poor_rename(void *ctx, const char *from, const char *to)
{
    return renames_left-- == 0 ? -EACCES : real_io.rename(ctx, from, to);
}

static int32_t count_name(void *arg, const char *name)
{
    *(int *)arg += *name != '.';
    return 0;
}

static void test_together(void)
{
    const char *path = rows_of(200, 3, 1);
    real_io.size = sizeof real_io;
    OK(peft_io_default(&real_io));
    peft_io io = real_io;
    io.write = full_write;
    io.rename = poor_rename;
    peft_load_opts host = kit_opts();
    host.io = &io;
    peft_source_opts s = { .size = sizeof s, .host = &host };
    peft_split_opts o = { .size = sizeof o, .source = &s };
    for (int left = 0; left < 3; left++) {
        writes_left = left;
        renames_left = 99;
        REFUSED(peft_data_split(path, in("full"), &o, NULL), PEFT_EIO);
        CHECK(access(in("full"), F_OK));
    }
    /* Old files are back where the new ones could not be. */
    writes_left = renames_left = 99;
    OK(peft_data_split(path, in("full"), &o, NULL));
    struct bytes old = get(in("full/test.jsonl"));
    o.overwrite = 1;
    o.seed = 1;
    for (int left = 0; left < 6; left++) {
        writes_left = 99;
        renames_left = left;
        REFUSED(peft_data_split(path, in("full"), &o, NULL), PEFT_EIO);
        struct bytes now = get(in("full/test.jsonl"));
        CHECK(now.n == old.n && !memcmp(now.at, old.at, old.n));
        free(now.at);
    }
    free(old.at);
    int files = 0;
    CHECK(real_io.list(real_io.ctx, in("full"), count_name, &files) >= 0);
    CHECK_EQ(files, 3);
}

/* Every allocation that can fail, does. */
static void test_memory(void)
{
    char path[256];
    snprintf(path, sizeof path, "%s", rows_of(40, 5, 2));
    peft_load_opts host = kit_opts();
    peft_source_opts s = { .size = sizeof s, .host = &host, .threads = 1 };
    peft_split_opts o = { .size = sizeof o, .source = &s, .group_text = 1,
                          .stratify = "label", .ratio = { 1, 1 } };
    int32_t rc = PEFT_ENOMEM;
    long live = atomic_load(&kit_mem.live);
    for (long at = 1; rc == PEFT_ENOMEM && at < 2000; at++) {
        atomic_store(&kit_mem.calls, 0);
        atomic_store(&kit_mem.fail_at, at);
        rc = peft_data_split(path, in("mem%ld", at), &o, NULL);
        CHECK_EQ(atomic_load(&kit_mem.live), live);
        if (rc) CHECK(access(in("mem%ld", at), F_OK));
    }
    atomic_store(&kit_mem.fail_at, 0);
    CHECK_EQ(rc, PEFT_OK);
}

int main(void)
{
    kit_begin();
    RUN(test_counts);
    RUN(test_remainders);
    RUN(test_groups);
    RUN(test_texts);
    RUN(test_spill);
    RUN(test_refusals);
    RUN(test_together);
    RUN(test_memory);
    kit_end();
    return TEST_END();
}
