/* Files as streams of rows: every kind, new names of columns, and what is wrong with them. */
#include "test.h"

#include "data/row.h"

#include <sys/stat.h>
#include <unistd.h>
#ifdef PEFT_SQLITE
#include <sqlite3.h>
#endif

static struct host host;
static char root[] = "/tmp/libpeft-source-XXXXXX";

static const char *at(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static void put(const char *name, const char *data, size_t n)
{
    FILE *f = fopen(at(name), "wb");
    CHECK(f && fwrite(data, 1, n, f) == n);
    if (f) fclose(f);
}

/* Without blanks outside of strings. */
static const char *squeeze(char *text)
{
    char *to = text;
    int quoted = 0;
    for (const char *c = text; *c; c++) {
        if (*c == '"' && (c == text || c[-1] != '\\')) quoted = !quoted;
        if (quoted || *c != ' ') *to++ = *c;
    }
    *to = 0;
    return text;
}

/* All rows of a file, each behind its line, or the reason why not; both without the folder. */
static const char *rows_of(const char *name, const struct source_opts *o)
{
    static char all[4096];
    struct row_source *s = NULL;
    size_t used = 0;
    all[0] = 0;
    int rc = source_open(&host, at(name), o, &s);
    while (rc >= 0) {
        json *row;
        int64_t line;
        if ((rc = source_next(s, &row, &line)) <= 0) break;
        struct buf b;
        buf_init(&b, &host.mem);
        json_write(&b, row);
        buf_putc(&b, 0);
        used += (size_t)snprintf(all + used, sizeof all - used, "%lld%s\n", (long long)line,
                                 b.oom ? "" : squeeze(b.data));
        used = used < sizeof all ? used : sizeof all - 1;
        buf_free(&b);
        json_free(row);
    }
    source_close(s);
    if (rc < 0) {
        const char *why = strstr(error_message(), root);
        snprintf(all + used, sizeof all - used, "%d %s", rc,
                 why == error_message() ? why + strlen(root) + 1 : error_message());
    }
    return all;
}

static void expect(const char *name, const struct source_opts *o, const char *text, size_t n,
                   const char *rows)
{
    put(name, text, n);
    CHECK_STR(rows_of(name, o), rows);
    remove(at(name));
}
#define EXPECT(name, o, text, rows) expect(name, o, text, sizeof(text) - 1, rows)

static void test_kinds(void)
{
    EXPECT("a.jsonl", NULL, "{\"a\":1}\n\n \r\n{\"a\":2}", "1{\"a\":1}\n4{\"a\":2}\n");
    EXPECT("a.json", NULL, "{\"a\":1}\n{\"a\":2}\n", "1{\"a\":1}\n2{\"a\":2}\n");
    EXPECT("a", NULL, "{\"a\":\"}{\\\"\"}\n{\"a\":2}\n", "1{\"a\":\"}{\\\"\"}\n2{\"a\":2}\n");
    EXPECT("a.json", NULL, "[{\"a\":1},{\"a\":[2,\"]\\\\\"]}]",
           "1{\"a\":1}\n1{\"a\":[2,\"]\\\\\"]}\n");
    EXPECT("a.json", NULL, "\n [\n {\n  \"a\": 1\n },\n {\"a\": 2}\n]\n",
           "3{\"a\":1}\n6{\"a\":2}\n");
    EXPECT("a.json", NULL, "{\n \"a\": 1\n}\n{\n \"a\": 2\n}\n", "1{\"a\":1}\n4{\"a\":2}\n");
    EXPECT("a.json", NULL, "[]", "");
    EXPECT("a.csv", NULL, "a,b\n\"x,\"\"y\"\"\nz\",1\n,2",
           "2{\"a\":\"x,\\\"y\\\"\\nz\",\"b\":\"1\"}\n"
           "4{\"a\":\"\",\"b\":\"2\"}\n");
    EXPECT("a.TSV", NULL, "a\tlabel\nx, y\t1\n", "2{\"a\":\"x, y\",\"label\":1}\n");
    EXPECT("a.txt", NULL, "one\nmore\n\n\n two \r\n",
           "1{\"text\":\"one\\nmore\"}\n5{\"text\":\" two\"}\n");
    EXPECT("a.md", NULL, "", "");
}

static void test_encodings(void)
{
    EXPECT("a.jsonl", NULL, "\xef\xbb\xbf{\"a\":1}\n", "1{\"a\":1}\n");
    EXPECT("a.jsonl", NULL, "\xff\xfe{\0\"\0a\0\"\0:\0\"\0\xfc\0\x3d\xd8\0\xde\"\0}\0",
           "1{\"a\":\"\xc3\xbc\xf0\x9f\x98\x80\"}\n");
    EXPECT("a.csv", NULL, "\xfe\xff\0a\0\r\0\n\x20\xac", "2{\"a\":\"\xe2\x82\xac\"}\n");
    EXPECT("a.csv", NULL, "\xfe\xff\0a\0\n\xd8\x3d\0x",
           "-4 a.csv line 2 column 1: not valid UTF-8");
    EXPECT("a.csv", NULL, "\xff\xfe" "a\0\n", "-4 a.csv: ends inside a character of UTF-16");
    EXPECT("a.csv", NULL, "a\0\n\0", "-4 a.csv line 1 column 2: a NUL byte, expected text; UTF-16 "
           "needs a byte order mark at the file's beginning");
    EXPECT("a.json", NULL, "[{\"a\":\n\"\xff\"}]", "-4 a.json line 2 column 2: not valid UTF-8");
    EXPECT("a.txt", NULL, "a\n\nb\xc3(",
           "1{\"text\":\"a\"}\n-4 a.txt line 3 column 2: not valid UTF-8");
}

/* Rows as text lie on one line. */
static void test_text(void)
{
    struct row_source *s;
    const char *text;
    int64_t n, line;
    static const char file[] = "[{\n \"a\": [1,\r\n2]}\n]";
    put("a.json", file, sizeof file - 1);
    CHECK_EQ(source_open(&host, at("a.json"), NULL, &s), PEFT_OK);
    CHECK_EQ(source_next_text(s, &text, &n, &line), 1);
    CHECK(n == 16 && !memcmp(text, "{  \"a\": [1,\r 2]}", 16));
    CHECK_EQ(source_next_text(s, &text, &n, &line), 0);
    CHECK_STR(source_kind(s), "JSON array");
    source_close(s);
    remove(at("a.json"));
}

static void test_broken(void)
{
    EXPECT("a.jsonl", NULL, "{\"a\":1}\n{\"a\" 2}\n", "1{\"a\":1}\n-4 a.jsonl line 2 column 6: "
           "expected ':'");
    EXPECT("a.jsonl", NULL, "{\"a\":1}\n[2]\n",
           "1{\"a\":1}\n-4 a.jsonl line 2: expected a JSON object "
           "on each line, found an array");
    EXPECT("a.jsonl", NULL, "{\"a\":1,\"a\":2}\n", "-4 a.jsonl line 1: key \"a\" occurs twice");
    EXPECT("a.json", NULL, "[{\"a\":1},\n  {\"a\":\n1,}]", "1{\"a\":1}\n-4 a.json line 3 column 3: "
           "expected a key in quotes");
    EXPECT("a.json", NULL, "[{\"a\":1}, {\"a\":x}]",
           "1{\"a\":1}\n-4 a.json line 1 column 16: expected "
           "a value");
    EXPECT("a.json", NULL, "[{\"a\":1}\n{\"a\":2}]",
           "1{\"a\":1}\n-4 a.json line 2 column 1: expected "
           "',' or ']'");
    EXPECT("a.json", NULL, "[{\"a\":1},]",
           "1{\"a\":1}\n-4 a.json line 1 column 10: expected an object");
    EXPECT("a.json", NULL, "[{\"a\":1}",
           "1{\"a\":1}\n-4 a.json line 1 column 9: the file ends inside "
           "the array");
    EXPECT("a.json", NULL, "[{\"a\":1",
           "-4 a.json line 1 column 2: the file ends inside this object");
    EXPECT("a.json", NULL, "[]x", "-4 a.json line 1 column 3: expected nothing behind the array");
    EXPECT("a.json", NULL, "[1]", "-4 a.json line 1 column 2: expected an object");
    EXPECT("a.csv", NULL, "a,b\n1\n", "-4 a.csv line 2 column 2: expected 2 cells as in the header "
           "row, found 1");
    EXPECT("a.csv", NULL, "a,b\n\"x\" y,1\n",
           "-4 a.csv line 2 column 4: text behind a closing quote, "
           "expected a comma; quotes inside a cell are doubled");
    EXPECT("a.csv", NULL, "a,b\nx,\"y\n",
           "-4 a.csv line 2 column 3: a quoted cell is never closed");
    EXPECT("a.csv", NULL, "a,a\n",
           "-4 a.csv line 1 column 3: the header row has column \"a\" twice");
}

static void test_large(void)
{
    enum { LONG = 50 << 20, WIDE = 1000000, DEEP = 10000 };
    char *big = malloc(LONG);
    if (!big) return;
    int64_t before = host.mem.live;
    host.mem.peak = before;
    memset(big, 'x', LONG);
    memcpy(big, "{\"a\":\"", 6);
    expect("a.jsonl", NULL, big, LONG, "-4 a.jsonl line 1: longer than 16 MiB");
    expect("a.txt", NULL, big, LONG, "-4 a.txt line 1: longer than 16 MiB");
    big[0] = '[', big[1] = '{', big[2] = '"';
    expect("a.json", NULL, big, LONG, "-4 a.json line 1 column 2: an object of more than 16 MiB");
    /* An array on one line may be as long as it likes. */
    memset(big, ' ', LONG);
    big[0] = '[', big[LONG - 1] = ']';
    memcpy(big + LONG / 2, "{\"a\":1}", 7);
    expect("a.json", NULL, big, LONG, "1{\"a\":1}\n");
    CHECK(host.mem.peak - before < 48 << 20);
    CHECK_EQ(host.mem.live, before);
    memset(big, ',', WIDE);
    expect("a.csv", NULL, big, WIDE, "-4 a.csv line 1 column 1: 1000001 columns, expected at most "
           "65536");
    memset(big, '[', DEEP);
    memcpy(big, "{\"a\":", 5);
    memset(big + DEEP, ']', DEEP - 5);
    big[2 * DEEP - 5] = '}';
    expect("a.jsonl",
           NULL, big, 2 * DEEP - 4, "-4 a.jsonl line 1 column 69: nested deeper than 64");
    free(big);
}

static void test_columns(void)
{
    struct source_opts o = {.columns = "text=body,label=stars"};
    EXPECT("a.csv", &o, "body,stars,text\nx,1,gone\n", "2{\"text\":\"x\",\"label\":1}\n");
    EXPECT("a.jsonl",
           &o, " {\"stars\" : 1, \"body\":\"a,\\\"}\", \"z\":{\"body\":[1]}}\n{}\n{\"text\":1}\n",
           "1{\"label\":1,\"text\":\"a,\\\"}\",\"z\":{\"body\":[1]}}\n2{}\n3{}\n");
    EXPECT("a.jsonl", &o, "{\"stars\":1,\"body\":}",
           "-4 a.jsonl line 1 column 19: expected a value");
    EXPECT("a.jsonl", &o, "{\"body\":1}",
           "-6 a.jsonl: columns \"text=body,label=stars\": the first row "
           "has no \"stars\": {\"text\":1}");
    o.columns = "a=b,b=a";
    EXPECT("a.jsonl", &o, "{\"a\":1,\"b\":2}", "1{\"b\":1,\"a\":2}\n");
    static const char *const bad[] = { "a", "a=", "=a", "a=b,a=c", "a=b,c=b", "a=b,,c=d", "," };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        o.columns = bad[i];
        put("a.jsonl", "{}", 2);
        CHECK(strstr(rows_of("a.jsonl", &o), "expected new=old,new=old, each once"));
    }
    o = (struct source_opts){.limit = 1};
    EXPECT("a.csv", &o, "a\n1\n2\n", "2{\"a\":\"1\"}\n");
    o = (struct source_opts){.table = "t"};
    EXPECT("a.csv", &o, "a\n1\n",
           "-1 a.csv: table \"t\" is given, and this is no SQLite file but CSV");
}

static void test_folder(void)
{
    mkdir(at("d"), 0700);
    CHECK_STR(rows_of("d", NULL), "-11 d: expected files .txt, .md, .png or .jpg in this folder");
    mkdir(at("d/n"), 0700);
    put("d/b.md", "# One\n\ntwo\nthree\n\n\nfour\n\n", 25);
    put("d/a.txt", "\n\n", 2);
    put("d/n/c.TXT", "five", 4);
    put("d/n/p.png", "?", 1);
    put("d/x.bin", "?", 1);
    CHECK_STR(rows_of("d",
           NULL), "1{\"text\":\"# One\\n\\ntwo\\nthree\\n\\n\\nfour\",\"file\":\"b.md\"}\n"
              "1{\"text\":\"five\",\"file\":\"n/c.TXT\"}\n"
              "1{\"image\":\"n/p.png\",\"label\":\"n\"}\n");
    struct source_opts o = {.chunk = 17};
    remove(at("d/n/p.png"));
    CHECK_STR(rows_of("d", &o), "1{\"text\":\"# One\\n\\ntwo\\nthree\",\"file\":\"b.md\"}\n"
              "7{\"text\":\"four\",\"file\":\"b.md\"}\n"
              "1{\"text\":\"five\",\"file\":\"n/c.TXT\"}\n");
    o.chunk = 16;
    put("d/n/c.TXT", "0123456789ab cdef\xc3\xa4" "123456789abcdef\n\nx", 37);
    remove(at("d/b.md"));
    CHECK_STR(rows_of("d", &o), "1{\"text\":\"0123456789ab\",\"file\":\"n/c.TXT\"}\n1{\"text\":"
              "\"cdef\xc3\xa4" "123456789a\",\"file\":\"n/c.TXT\"}\n1{\"text\":\"bcdef\\n\\nx\","
              "\"file\":\"n/c.TXT\"}\n");
    put("d/a.txt", "ok\n\n\xff", 5);
    CHECK_STR(rows_of("d", NULL), "-4 d/a.txt line 3 column 1: not valid UTF-8");
    remove(at("d/a.txt"));
    remove(at("d/n/c.TXT"));
    remove(at("d/x.bin"));
    remove(at("d/n"));
    remove(at("d"));
}

static void test_sqlite(void)
{
#ifdef PEFT_SQLITE
    sqlite3 *db;
    CHECK(!sqlite3_open(at("a.db"), &db));
    CHECK(!sqlite3_exec(db, "CREATE TABLE posts(body TEXT, stars INT, x REAL, e BLOB);"
                        "INSERT INTO posts VALUES('nice \"one\"', 1, 0.5, x'00'), (NULL, -2, 3, "
                        "NULL),"
                        "('big', 9007199254740993, 1e300, NULL)", NULL, NULL, NULL));
    sqlite3_close(db);
    CHECK_STR(rows_of("a.db", NULL), "1{\"body\":\"nice \\\"one\\\"\",\"stars\":1,\"x\":0.5}\n"
              "2{\"stars\":-2,\"x\":3.0}\n"
              "3{\"body\":\"big\",\"stars\":\"9007199254740993\",\"x\":1e+300}\n");
    rename(at("a.db"), "/tmp/libpeft-source-moved");
    rename("/tmp/libpeft-source-moved", at("100%?#.x"));
    struct source_opts o = {.table = "posts", .columns = "text=body", .limit = 1};
    CHECK_STR(rows_of("100%?#.x", &o), "1{\"text\":\"nice \\\"one\\\"\",\"stars\":1,\"x\":0.5}\n");
    o = (struct source_opts){.table = "SELECT stars AS label FROM posts WHERE x < 1;"};
    CHECK_STR(rows_of("100%?#.x", &o), "1{\"label\":1}\n");
    static const char *const bad[] = {
        "DELETE FROM posts", "SELECT 1; SELECT 2", "ATTACH 'x' AS y", "PRAGMA user_version = 1",
        "CREATE TABLE t(x)", "VACUUM INTO 'x'"
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        o.table = bad[i];
        CHECK(strstr(rows_of("100%?#.x", &o), "expected one SELECT"));
    }
    o.table = "post\"s";
    CHECK_STR(rows_of("100%?#.x",
           &o), "-1 100%?#.x: no such table; has the tables posts, expected the "
              "option table to name one or to be a query");
    o.table = "SELECT nix FROM posts";
    CHECK_STR(rows_of("100%?#.x", &o), "-4 100%?#.x: no such column: nix");
    o.table = "SELECT CAST(x'61ff' AS TEXT) AS a";
    CHECK_STR(rows_of("100%?#.x", &o), "-4 100%?#.x row 1 column 2: not valid UTF-8");
    /* A page of another file in the middle. */
    remove(at("100%?#.x"));
    put("b.db", "SQLite format 3\0 and nothing more", 33);
    CHECK(!strncmp(rows_of("b.db", NULL), "-4 b.db: ", 9));
    remove(at("b.db"));
#else
    put("a.db", "SQLite format 3\0 and more", 25);
    CHECK(strstr(rows_of("a.db", NULL), "built without SQLite"));
    remove(at("a.db"));
#endif
}

static int64_t fail_at;
static void *failing_alloc(void *ctx, void *ptr, size_t old, size_t n)
{
    (void)ctx, (void)old;
    if (n) return fail_at-- == 0 ? NULL : realloc(ptr, n);
    free(ptr);
    return NULL;
}

static void test_no_memory(void)
{
    static const char *const names[] = { "m/a.csv", "m/a.json", "m/a.jsonl", "m/a.txt", "m" };
    struct source_opts o = {.columns = "label=b"};
    struct host whole = host;
    mkdir(at("m"), 0700);
    put("m/a.csv", "a,b\nx,1\n", 8);
    put("m/a.json", "[{\"b\":1}]", 9);
    put("m/a.jsonl", "{\"b\":1}", 7);
    put("m/a.txt", "x", 1);
    mem_init(&host.mem, failing_alloc, NULL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int n = 0;
        const char *got;
        do {
            fail_at = n++;
            got = rows_of(names[i], i < 3 ? &o : NULL);
            CHECK_EQ(host.mem.live, 0);
        } while (strstr(got, "-2 ") && n < 100);
        fail_at = -1;
        CHECK(n > 3 && n < 100);
    }
    host = whole;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) remove(at(names[i]));
}

int main(void)
{
    host_init(&host, NULL);
    if (!mkdtemp(root)) return 1;
    RUN(test_kinds);
    RUN(test_encodings);
    RUN(test_text);
    RUN(test_broken);
    RUN(test_large);
    RUN(test_columns);
    RUN(test_folder);
    RUN(test_sqlite);
    RUN(test_no_memory);
    CHECK_EQ(host.mem.live, 0);
    remove(at("a.jsonl"));
    CHECK(rmdir(root) == 0);
    return TEST_END();
}
