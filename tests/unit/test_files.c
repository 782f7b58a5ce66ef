/* Rank 0: views, lines, paths, and files and folders that appear whole. */
#include "kit.h"

#include "base/file.h"

#include <errno.h>

static struct host host;
static int32_t count_each(void *arg, const char *name)
{
    (void)name;
    ++*(int *)arg;
    return 0;
}

static int entries(const char *dir)
{
    int n = 0;
    host.io.list(host.io.ctx, dir, count_each, &n);
    return n;
}

static int holds(const char *path, const char *text)
{
    struct file_view v;
    if (file_open_view(&host, path, false, &v) < 0) return 0;
    int same = v.n == (int64_t)strlen(text) && memcmp(v.data, text, (size_t)v.n) == 0;
    file_close_view(&host, &v);
    return same;
}

/* --------------------------------------------------------------- reading */

static void test_host(void)
{
    struct host h;
    CHECK_EQ(host_init(&h, NULL), PEFT_OK);
    CHECK(h.io.open && h.io.size == sizeof h.io);
    peft_load_opts opts = {0};
    CHECK_EQ(host_init(&h, &opts), PEFT_EARG);
    opts.size = sizeof opts.size;
    opts.io = (const peft_io *)1;              /* beyond the given size */
    CHECK_EQ(host_init(&h, &opts), PEFT_OK);
    peft_io io = host.io;
    opts.size = sizeof opts;
    opts.io = &io;
    io.map = NULL;
    io.unmap = NULL;
    CHECK_EQ(host_init(&h, &opts), PEFT_OK);
    io.read = NULL;
    CHECK_EQ(host_init(&h, &opts), PEFT_EARG);
    io = host.io;
    io.size = offsetof(peft_io, list);
    CHECK_EQ(host_init(&h, &opts), PEFT_EARG);
}

static void test_path(void)
{
    static const char *const bad[] = {"", "/x", "\\x", "..", "../x", "a/..", "a/../b", "a\\..\\b",
                                      "c:x", "C:\\x"};
    char *p;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK_EQ(path_join(&host, "dir", bad[i], &p), PEFT_EFORMAT);
        CHECK(!p);
    }
    static const char *const good[][3] = {
        {"dir", "x", "dir/x"}, {"dir/", "x", "dir/x"}, {"/", "x", "/x"}, {"", "x", "x"},
        {"d", "a/b..c/..d", "d/a/b..c/..d"},
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        CHECK_EQ(path_join(&host, good[i][0], good[i][1], &p), PEFT_OK);
        CHECK_STR(p, good[i][2]);
        mem_free(&host.mem, p);
    }
    CHECK_STR(path_base("a/b/c"), "c");
    CHECK_STR(path_base("c"), "c");
    static const char *const parents[][2] = {
        {"x", "."}, {"/x", "/"}, {"a/x", "a"}, {"a//x", "a"}, {"/a/b/x", "/a/b"},
    };
    for (size_t i = 0; i < ARRAY_LEN(parents); i++) {
        p = path_parent(&host, parents[i][0]);
        CHECK_STR(p, parents[i][1]);
        mem_free(&host.mem, p);
    }
    CHECK_EQ(path_kind(&host, kit_dir), 2);
    CHECK_EQ(path_kind(&host, in("nothing")), 0);
}

static int64_t short_read(void *ctx, void *file, int64_t offset, void *to, int64_t n)
{
    return host.io.read(ctx, file, offset, to, MIN(n, 1));
}

static int64_t longer(void *ctx, void *file)
{
    return host.io.length(ctx, file) + 5;
}

static void test_view(void)
{
    struct file_view v;
    put_bytes(in("v"), "hello", 5);
    put_bytes(in("empty"), "", 0);
    for (int map = 0; map < 2; map++) {
        CHECK_EQ(file_open_view(&host, in("v"), map, &v), PEFT_OK);
        CHECK(v.n == 5 && memcmp(v.data, "hello", 5) == 0 && v.mapped == map);
        file_close_view(&host, &v);
        CHECK_EQ(file_open_view(&host, in("empty"), map, &v), PEFT_OK);
        CHECK(v.n == 0 && v.data);
        file_close_view(&host, &v);
        file_close_view(&host, &v);
    }
    CHECK_EQ(file_open_view(&host, in("nothing"), true, &v), PEFT_ENOTFOUND);
    CHECK(strstr(error_message(), "no such file"));
    CHECK_EQ(file_open_view(&host, kit_dir, true, &v), PEFT_EIO);
    CHECK(strstr(error_message(), "is a folder"));
    struct host h;
    host_init(&h, NULL);
    h.io.read = short_read;
    CHECK_EQ(file_open_view(&h, in("v"), false, &v), PEFT_OK);
    CHECK(memcmp(v.data, "hello", 5) == 0);
    file_close_view(&h, &v);
    h.io.length = longer;
    CHECK_EQ(file_open_view(&h, in("v"), false, &v), PEFT_EIO);
    CHECK(strstr(error_message(), "expected 10 bytes"));
    CHECK_EQ(h.mem.live, 0);
}

/* Reads `text` and joins its lines with '|'. */
static const char *lines_of(struct host *h, const char *text, size_t size)
{
    static char out[256];
    out[0] = 0;
    put_bytes(in("lines"), text, size);
    struct line_reader *r;
    if (line_open(h, in("lines"), &r) < 0) return "failed";
    char *line;
    int64_t n, number, expected = 0;
    int rc;
    while ((rc = line_next(r, &line, &n, &number)) == 1) {
        CHECK_EQ(number, ++expected);
        CHECK_EQ(strlen(line), n);
        snprintf(out + strlen(out), sizeof out - strlen(out), "%s|", line);
    }
    CHECK_EQ(rc, 0);
    CHECK_EQ(line_next(r, &line, &n, &number), 0);
    line_close(r);
    return out;
}

static void test_lines(void)
{
    static const char *const cases[][2] = {
        {"", ""}, {"a", "a|"}, {"a\n", "a|"}, {"a\nb", "a|b|"}, {"\n\n", "||"},
        {"a\r\nb\r\n", "a|b|"}, {"a\rb\r\n\r\n", "a\rb||"}, {"\xef\xbb\xbf" "a\nb\n", "a|b|"},
        {"\xef\xbb\xbf", ""}, {"\xef\xbb", "\xef\xbb|"}, {"\xef\xbb\xbf\n", "|"},
        {"a\xef\xbb\xbf", "a\xef\xbb\xbf|"}, {"x\r", "x\r|"},
    };
    struct host slow;
    host_init(&slow, NULL);
    slow.io.read = short_read;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = strlen(cases[i][0]);
        CHECK_STR(lines_of(&host, cases[i][0], n), cases[i][1]);
        CHECK_STR(lines_of(&slow, cases[i][0], n), cases[i][1]);
    }
    /* Lines around the buffer's size. */
    FILE *f = fopen(in("long"), "wb");
    int64_t size = 1;
    for (int i = 0; i < 60; i++, size = size * 5 / 4 + 1) {
        for (int64_t k = 0; k < size; k++) fputc('a' + i % 26, f);
        fputc('\n', f);
    }
    fclose(f);
    struct line_reader *r;
    CHECK_EQ(line_open(&host, in("long"), &r), PEFT_OK);
    char *line;
    int64_t n, number;
    size = 1;
    for (int i = 0; i < 60; i++, size = size * 5 / 4 + 1) {
        CHECK_EQ(line_next(r, &line, &n, &number), 1);
        CHECK_EQ(n, size);
        CHECK(line[0] == 'a' + i % 26 && line[n - 1] == 'a' + i % 26 && line[n] == 0);
    }
    CHECK_EQ(line_next(r, &line, &n, &number), 0);
    line_close(r);
    line_close(NULL);
    CHECK_EQ(line_open(&host, in("nothing"), &r), PEFT_ENOTFOUND);
    slow.io.length = longer;
    CHECK_EQ(line_open(&slow, in("v"), &r), PEFT_OK);
    CHECK_EQ(line_next(r, &line, &n, &number), PEFT_EIO);
    line_close(r);
    CHECK_EQ(slow.mem.live, 0);
}

static int64_t endless_length(void *ctx, void *file)
{
    (void)ctx, (void)file;
    return (int64_t)1 << 40;
}

static int64_t endless_read(void *ctx, void *file, int64_t offset, void *to, int64_t n)
{
    (void)ctx, (void)file, (void)offset;
    memset(to, 'x', (size_t)n);
    return n;
}

static void test_line_limit(void)
{
    struct host h;
    host_init(&h, NULL);
    h.io.length = endless_length;
    h.io.read = endless_read;
    struct line_reader *r;
    put_bytes(in("endless"), "x", 1);
    CHECK_EQ(line_open(&h, in("endless"), &r), PEFT_OK);
    char *line;
    int64_t n, number;
    CHECK_EQ(line_next(r, &line, &n, &number), PEFT_EFORMAT);
    CHECK(strstr(error_message(), "line 1: longer than 16 MiB"));
    CHECK(h.mem.peak < (int64_t)40 << 20);
    line_close(r);
}

/* --------------------------------------------------------------- writing */

/* An io whose n-th changing call fails. */
struct faulty {
    int64_t fail_at, calls;
    int err, renamed;
};

static int trip(void *ctx)
{
    struct faulty *f = ctx;
    return ++f->calls == f->fail_at ? -f->err : 0;
}

static void *f_open(void *ctx, const char *path, int32_t write, int32_t *err)
{
    *err = write ? trip(ctx) : 0;
    return *err ? NULL : host.io.open(NULL, path, write, err);
}

static int64_t f_write(void *ctx, void *file, const void *from, int64_t n)
{
    int err = trip(ctx);
    if (!err) return host.io.write(NULL, file, from, MIN(n, 100000));
    host.io.write(NULL, file, from, n / 2);
    return err;
}

static int32_t f_sync(void *ctx, void *file)
{
    int err = trip(ctx);
    return err ? err : host.io.sync(NULL, file);
}

static int32_t f_close(void *ctx, void *file)
{
    int err = trip(ctx), rc = host.io.close(NULL, file);
    return err ? err : rc;
}

static int32_t f_rename(void *ctx, const char *from, const char *to)
{
    int err = trip(ctx);
    if (err) return err;
    ((struct faulty *)ctx)->renamed = 1;
    return host.io.rename(NULL, from, to);
}

static int32_t f_mkdir(void *ctx, const char *path)
{
    int err = trip(ctx);
    return err ? err : host.io.mkdir(NULL, path);
}

static int32_t f_sync_dir(void *ctx, const char *path)
{
    int err = trip(ctx);
    return err ? err : host.io.sync_dir(NULL, path);
}

static void faulty_host(struct host *h, struct faulty *f)
{
    host_init(h, NULL);
    h->io.ctx = f;
    h->io.open = f_open;
    h->io.write = f_write;
    h->io.sync = f_sync;
    h->io.close = f_close;
    h->io.rename = f_rename;
    h->io.mkdir = f_mkdir;
    h->io.sync_dir = f_sync_dir;
}

static void test_writer(void)
{
    mkdir(in("w"), 0777);
    struct writer *w;
    CHECK_EQ(file_write(&host, in("w/a"), "one", 3), PEFT_OK);
    CHECK(holds(in("w/a"), "one"));
    CHECK_EQ(file_write(&host, in("w/a"), "three", 5), PEFT_OK);
    CHECK(holds(in("w/a"), "three"));
    CHECK_EQ(writer_open(&host, in("w/a"), &w), PEFT_OK);
    writer_put(w, "xx", 2);
    CHECK_EQ(writer_at(w), 2);
    CHECK_EQ(entries(in("w")), 2);
    writer_abort(w);
    writer_abort(NULL);
    CHECK_EQ(entries(in("w")), 1);
    CHECK(holds(in("w/a"), "three"));
    CHECK_EQ(writer_open(&host, in("no/such"), &w), PEFT_ENOTFOUND);
    CHECK_EQ(file_write(&host, in("w"), "x", 1), PEFT_EIO);
    CHECK_EQ(path_kind(&host, in("w")), 2);

    /* Sizes around the buffer's, in pieces. */
    enum { BIG = 900001 };
    unsigned char *data = mem_alloc(&host.mem, BIG);
    for (int i = 0; i < BIG; i++) data[i] = (unsigned char)(i * 131 >> 3);
    CHECK_EQ(writer_open(&host, in("w/big"), &w), PEFT_OK);
    for (int64_t i = 0, n = 1; i < BIG; i += n, n = MIN(n * 3, BIG - i)) {
        n = MIN(n, BIG - i);
        writer_put(w, data + i, n);
    }
    CHECK_EQ(writer_at(w), BIG);
    CHECK_EQ(writer_commit(w), PEFT_OK);
    struct file_view v;
    CHECK_EQ(file_open_view(&host, in("w/big"), true, &v), PEFT_OK);
    CHECK(v.n == BIG && memcmp(v.data, data, BIG) == 0);
    file_close_view(&host, &v);
    unlink(in("w/big"));

    /* Every call fails in turn: the old file stays, or the new one is whole. */
    int ended = 0;
    for (int64_t n = 1; n < 100 && !ended; n++) {
        struct faulty fault = {.fail_at = n, .err = ENOSPC};
        struct host h;
        faulty_host(&h, &fault);
        CHECK_EQ(file_write(&host, in("w/f"), "old", 3), PEFT_OK);
        int rc = file_write(&h, in("w/f"), data, BIG);
        ended = fault.calls < n;
        CHECK_EQ(rc, ended ? PEFT_OK : PEFT_EIO);
        if (rc < 0) CHECK(strstr(error_message(), "no space left on device"));
        CHECK_EQ(holds(in("w/f"), "old"), !fault.renamed);
        CHECK_EQ(entries(in("w")), 2);
        CHECK_EQ(h.mem.live, 0);
    }
    CHECK(ended);
    mem_free(&host.mem, data);
}

static int save_dir(struct host *h, const char *path, const char *text)
{
    char *tmp, *name;
    int rc = dir_begin(h, path, &tmp);
    if (rc < 0) return rc;
    rc = path_join(h, tmp, "config.json", &name);
    if (rc >= 0) rc = file_write(h, name, text, (int64_t)strlen(text));
    mem_free(&h->mem, name);
    if (rc < 0) {
        dir_abort(h, tmp);
        return rc;
    }
    return dir_commit(h, path, tmp);
}

static void test_dir(void)
{
    mkdir(in("d"), 0777);
    CHECK_EQ(save_dir(&host, in("d/m"), "one"), PEFT_OK);
    CHECK(holds(in("d/m/config.json"), "one"));
    put_bytes(in("d/m/README"), "x", 1);
    mkdir(in("d/m/sub"), 0777);
    put_bytes(in("d/m/sub/file"), "x", 1);
    mkdir(in("d/other"), 0777);
    put_bytes(in("d/other/keep"), "kept", 4);
    char link[256];
    snprintf(link, sizeof link, "%s", in("d/m/link"));
    CHECK_EQ(symlink("../other", link), 0);
    CHECK_EQ(save_dir(&host, in("d/m/"), "two"), PEFT_OK);
    CHECK(holds(in("d/m/config.json"), "two"));
    CHECK_EQ(entries(in("d/m")), 1);
    CHECK_EQ(entries(in("d")), 2);
    CHECK(holds(in("d/other/keep"), "kept"));

    /* A folder with other things is not ours to delete. */
    CHECK_EQ(save_dir(&host, in("d/other"), "x"), PEFT_EIO);
    CHECK(strstr(error_message(), "holds other files"));
    CHECK(holds(in("d/other/keep"), "kept"));
    CHECK_EQ(entries(in("d")), 2);
    mkdir(in("d/void"), 0777);
    CHECK_EQ(save_dir(&host, in("d/void"), "three"), PEFT_OK);
    CHECK(holds(in("d/void/config.json"), "three"));

    put_bytes(in("d/plain"), "x", 1);
    CHECK_EQ(save_dir(&host, in("d/plain"), "x"), PEFT_EIO);
    CHECK_EQ(save_dir(&host, in("no/such/parent"), "x"), PEFT_ENOTFOUND);
    CHECK_EQ(entries(in("d")), 4);

    int ended = 0;
    for (int64_t n = 1; n < 100 && !ended; n++) {
        struct faulty fault = {.fail_at = n, .err = EIO};
        struct host h;
        faulty_host(&h, &fault);
        CHECK_EQ(save_dir(&host, in("d/m"), "old"), PEFT_OK);
        int rc = save_dir(&h, in("d/m"), "new");
        ended = fault.calls < n;
        CHECK_EQ(rc, ended ? PEFT_OK : PEFT_EIO);
        CHECK(holds(in("d/m/config.json"), ended ? "new" : "old"));
        CHECK_EQ(entries(in("d")), 4);
        CHECK_EQ(h.mem.live, 0);
    }
    CHECK(ended);
    CHECK(holds(in("d/m/config.json"), "new"));
}

/* --------------------------------------------------------- out of memory */

struct heap {
    int64_t fail_at, calls;
};

static void *failing_alloc(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    struct heap *heap = ctx;
    (void)old_size;
    if (new_size == 0) {
        free(ptr);
        return NULL;
    }
    return ++heap->calls == heap->fail_at ? NULL : realloc(ptr, new_size);
}

static int use_all(struct host *h)
{
    struct file_view v;
    struct line_reader *r;
    char *line;
    int64_t n, number;
    int rc = file_open_view(h, in("long"), false, &v);
    if (rc < 0) return rc;
    file_close_view(h, &v);
    rc = line_open(h, in("long"), &r);
    if (rc < 0) return rc;
    while ((rc = line_next(r, &line, &n, &number)) == 1) {}
    line_close(r);
    return rc < 0 ? rc : save_dir(h, in("o/m"), "new");
}

static void test_out_of_memory(void)
{
    mkdir(in("o"), 0777);
    int rc = PEFT_ENOMEM;
    for (int64_t n = 1; n < 100 && rc != PEFT_OK; n++) {
        CHECK_EQ(save_dir(&host, in("o/m"), "old"), PEFT_OK);
        struct heap heap = {.fail_at = n};
        peft_load_opts opts = {.size = sizeof opts, .alloc = failing_alloc, .alloc_ctx = &heap};
        struct host h;
        host_init(&h, &opts);
        rc = use_all(&h);
        if (heap.calls >= n) CHECK_EQ(rc, PEFT_ENOMEM);
        CHECK(strstr(error_message(), "out of memory"));
        CHECK_EQ(h.mem.live, 0);
        CHECK_EQ(entries(in("o/m")), 1);
        CHECK_EQ(entries(in("o")), 1);
        CHECK(holds(in("o/m/config.json"), rc < 0 ? "old" : "new"));
    }
    CHECK_EQ(rc, PEFT_OK);
    CHECK(holds(in("o/m/config.json"), "new"));
}

int main(void)
{
    if (host_init(&host, NULL) < 0) return 2;
    kit_begin();
    RUN(test_host);
    RUN(test_path);
    RUN(test_view);
    RUN(test_lines);
    RUN(test_line_limit);
    RUN(test_writer);
    RUN(test_dir);
    RUN(test_out_of_memory);
    CHECK_EQ(host.mem.live, 0);
    kit_end();
    return TEST_END();
}
