/* Rank 0: errors, memory, buffers, maps, threads, random numbers, JSON.  Files
 * are in test_files.c. */
#include "test.h"

#include "base/base.h"
#include "base/cpu.h"
#include "base/host.h"
#include "base/json.h"
#include "base/pool.h"
#include "base/rng.h"

#include <locale.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct host host;

/* ---------------------------------------------------------------- errors */

static void test_error(void)
{
    error_clear();
    CHECK_STR(error_message(), "");
    CHECK_EQ(fail(PEFT_EIO, "a %d\n\x01%s", 5, "x\ty"), PEFT_EIO);
    CHECK_STR(error_message(), "a 5??x?y");
    CHECK_EQ(fail_in(PEFT_EFORMAT, "line %d: ", 3), PEFT_EFORMAT);
    CHECK_STR(error_message(), "line 3: a 5??x?y");
    CHECK_EQ(fail(PEFT_EARG, "again: %s", error_message()), PEFT_EARG);
    CHECK_STR(error_message(), "again: line 3: a 5??x?y");
    char big[2000];
    for (size_t i = 0; i + 2 < sizeof big; i += 2) memcpy(big + i, "\xc3\xa9", 2);
    big[1998] = 0;
    fail(PEFT_EARG, "%s", big);
    size_t n = strlen(error_message());
    CHECK(n > 400 && n < 600);
    CHECK_EQ(utf8_check(error_message(), (int64_t)n), n);
    fail(PEFT_EARG, ".%s", big);
    n = strlen(error_message());
    CHECK_EQ(utf8_check(error_message(), (int64_t)n), n);
    CHECK_STR(peft_errname(PEFT_EIO), "PEFT_EIO");
    CHECK_STR(peft_errname(-12345), "PEFT_E?");
    CHECK_EQ(peft_version(), PEFT_VERSION);
}

/* ---------------------------------------------------------------- memory */

/* Blocks at addresses that are no multiples of 16; fails on demand. */
struct bad_heap {
    int64_t fail_at, calls, live;
};

static void *bad_alloc(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    struct bad_heap *b = ctx;
    char *old = ptr ? (char *)ptr - 8 : NULL;
    if (new_size == 0) {
        free(old);
        b->live -= (int64_t)old_size;
        return NULL;
    }
    if (++b->calls == b->fail_at) return NULL;
    char *p = malloc(new_size + 8);
    if (!p) return NULL;
    if (old) {
        memcpy(p + 8, old + 8, MIN(old_size, new_size));
        free(old);
    }
    b->live += (int64_t)new_size - (int64_t)old_size;
    return p + 8;
}

static void test_mem(void)
{
    struct bad_heap heap = {0};
    struct mem m;
    mem_init(&m, bad_alloc, &heap);
    unsigned char *p = NULL;
    for (int64_t n = 1; n < 200000; n = n * 3 + 1) {
        p = mem_realloc(&m, p, n);
        CHECK(p && (uintptr_t)p % 64 == 0);
        CHECK_EQ(m.live, n);
        if (n > 1)
            for (int64_t i = 0; i < n / 3; i++)
                if (p[i] != (unsigned char)(i * 7)) { CHECK(!"content moved"); break; }
        for (int64_t i = 0; i < n; i++) p[i] = (unsigned char)(i * 7);
    }
    p = mem_realloc(&m, p, 10);
    CHECK(p && p[9] == 63);
    heap.fail_at = heap.calls + 1;
    CHECK(!mem_realloc(&m, p, 1000000));
    CHECK(strstr(error_message(), "out of memory"));
    CHECK(p[9] == 63);
    mem_free(&m, p);
    mem_free(&m, NULL);
    CHECK_EQ(m.live, 0);
    CHECK_EQ(heap.live, 0);
    CHECK(m.peak >= 1000 && m.calls > 5);
    CHECK(!mem_alloc(&m, -1));
    CHECK(!mem_alloc(&m, INT64_MAX));
    CHECK(!mem_array(&m, INT64_MAX / 2, 3));
    CHECK(!mem_array(&m, -1, 3));
    CHECK(!mem_strndup(&m, "x", INT64_MAX));
    void *zero = mem_alloc(&m, 0);
    CHECK(zero);
    mem_free(&m, zero);
    char *s = mem_strdup(&m, "hello"), *t = mem_strndup(&m, "hello", 2);
    CHECK_STR(s, "hello");
    CHECK_STR(t, "he");
    mem_free(&m, s);
    mem_free(&m, t);
    int32_t *z = mem_array(&m, 100, 4);
    int64_t sum = 0;
    for (int i = 0; i < 100; i++) sum += z[i];
    CHECK_EQ(sum, 0);
    mem_free(&m, z);
    CHECK_EQ(heap.live, 0);
}

static int64_t use_arena(struct arena *a, int seed)
{
    int64_t sum = 0;
    for (int i = 0; i < 500; i++) {
        int64_t n = (i * 37 + seed * 911) % 5000 + (i % 100 == 99 ? 200000 : 0);
        char *p = arena_alloc(a, n);
        CHECK(p && (uintptr_t)p % 16 == 0);
        for (int64_t k = 0; k < n; k += 501) sum += p[k];
        if (p) memset(p, 1, (size_t)n);
    }
    return sum;
}

static void test_arena(void)
{
    struct mem m;
    mem_init(&m, NULL, NULL);
    struct arena a;
    arena_init(&a, &m);
    CHECK_EQ(use_arena(&a, 0), 0);
    arena_reset(&a);
    CHECK_EQ(use_arena(&a, 1), 0);
    int64_t calls = m.calls;
    for (int i = 0; i < 6; i++) {
        arena_reset(&a);
        CHECK_EQ(use_arena(&a, i % 2), 0);
        CHECK_EQ(m.calls, calls);
    }
    char *s = arena_strndup(&a, "abcdef", 3);
    CHECK_STR(s, "abc");
    CHECK(!arena_alloc(&a, -1));
    CHECK(!arena_alloc(&a, INT64_MAX));
    arena_free(&a);
    CHECK_EQ(m.live, 0);
    CHECK(arena_alloc(&a, 1));
    arena_free(&a);
    CHECK_EQ(m.live, 0);
}

/* --------------------------------------------------------------- buffers */

static const char *number(struct buf *b, double x)
{
    buf_clear(b);
    buf_number(b, x);
    return buf_str(b);
}

static void test_buf(void)
{
    struct buf b;
    buf_init(&b, &host.mem);
    CHECK_STR(buf_str(&b), "");
    for (int i = 0; i < 1000; i++) buf_printf(&b, "%d,", i);
    buf_putc(&b, 'x');
    buf_put(&b, "a\0b", 3);
    CHECK_EQ(b.n, 3894);
    CHECK_EQ(buf_check(&b), PEFT_OK);
    CHECK(b.data[b.n] == 0 && b.data[b.n - 2] == 0);
    buf_clear(&b);
    buf_json(&b, "a\"\\\n\r\t\x01\x7f/\xc3\xa9\xff\xed\xa0\x80z", 16);
    CHECK_STR(buf_str(&b), "\"a\\\"\\\\\\n\\r\\t\\u0001\\u007f/\xc3\xa9"
              "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"");
    CHECK_STR(number(&b, 0), "0");
    CHECK_STR(number(&b, 0.1), "0.1");
    CHECK_STR(number(&b, -2.5), "-2.5");
    CHECK_STR(number(&b, 1e300), "1e+300");
    CHECK_STR(number(&b, 1.0 / 3), "0.3333333333333333");
    CHECK_STR(number(&b, 9007199254740993.0), "9007199254740992");
    CHECK_STR(number(&b, NAN), "null");
    CHECK_STR(number(&b, -INFINITY), "null");
    if (setlocale(LC_NUMERIC, "de_DE.UTF-8") || setlocale(LC_NUMERIC, "fr_FR.UTF-8"))
        CHECK_STR(number(&b, 0.25), "0.25");
    setlocale(LC_NUMERIC, "C");
    for (uint64_t i = 0; i < 2000; i++) {
        uint64_t bits = (uint64_t)rng_u32(1, 2, 2 * i) << 32 | rng_u32(1, 2, 2 * i + 1);
        double x;
        memcpy(&x, &bits, 8);
        if (isfinite(x) && strtod(number(&b, x), NULL) != x) CHECK(!"number does not read back");
    }
    buf_free(&b);

    struct bad_heap heap = {.fail_at = 2};
    struct mem m;
    mem_init(&m, bad_alloc, &heap);
    buf_init(&b, &m);
    for (int i = 0; i < 100; i++) buf_puts(&b, "0123456789");
    CHECK_EQ(buf_check(&b), PEFT_ENOMEM);
    CHECK_STR(buf_str(&b), "");
    buf_free(&b);
    struct ids ids;
    ids_init(&ids, &m);
    for (int i = 0; i < 1000; i++) ids_push(&ids, i * i);
    CHECK_EQ(ids_check(&ids), PEFT_OK);
    CHECK(ids.n == 1000 && ids.v[999] == 999 * 999);
    heap.fail_at = heap.calls + 1;
    for (int i = 0; i < 1000; i++) ids_push(&ids, i);
    CHECK_EQ(ids_check(&ids), PEFT_ENOMEM);
    ids_free(&ids);
    CHECK_EQ(heap.live, 0);
}

/* ------------------------------------------------------------------- map */

static void test_map(void)
{
    enum { N = 100000 };
    struct map m;
    map_init(&m, &host.mem);
    CHECK_EQ(map_gets(&m, "x", -7), -7);
    char *keys = mem_zalloc(&host.mem, N * 16);
    for (int i = 0; i < N; i++) {
        snprintf(keys + i * 16, 16, "key%d", i);
        int64_t n = (int64_t)strlen(keys + i * 16);
        if (map_add(&m, keys + i * 16, n, i) != 1) CHECK(!"not added");
    }
    CHECK_EQ(m.n, N);
    CHECK_EQ(map_add(&m, "key5", 4, 99), 0);
    for (int i = 0; i < N; i++)
        if (map_gets(&m, keys + i * 16, -1) != i) CHECK(!"not found");
    CHECK_EQ(map_gets(&m, "key100000", -1), -1);
    CHECK_EQ(map_get(&m, "key5zzz", 4, -1), 5);
    CHECK_EQ(map_add(&m, "a\0b", 3, 1), 1);
    CHECK_EQ(map_add(&m, "a\0c", 3, 2), 1);
    CHECK_EQ(map_get(&m, "a\0c", 3, -1), 2);
    CHECK_EQ(map_get(&m, "", 0, -1), -1);
    CHECK_EQ(map_add(&m, NULL, 0, 3), 1);
    CHECK_EQ(map_get(&m, "", 0, -1), 3);
    map_free(&m);
    CHECK_EQ(map_gets(&m, "key5", -1), -1);
    mem_free(&host.mem, keys);

    struct bad_heap heap = {.fail_at = 3};
    struct mem mem;
    mem_init(&mem, bad_alloc, &heap);
    map_init(&m, &mem);
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEF";
    int added = 0, rc = 1;
    for (; added < 32 && rc == 1; added += rc == 1) rc = map_add(&m, letters + added, 1, added);
    CHECK_EQ(rc, PEFT_ENOMEM);
    CHECK_EQ(m.n, added);
    for (int i = 0; i < added; i++) CHECK_EQ(map_get(&m, letters + i, 1, -1), i);
    map_free(&m);
    CHECK_EQ(heap.live, 0);
}

/* --------------------------------------------------------------- threads */

struct job {
    _Atomic int64_t sum;
    _Atomic int bad;
    int threads;
    unsigned char seen[5000];
};

static void count_task(void *arg, int64_t task, int worker)
{
    struct job *j = arg;
    atomic_fetch_add(&j->sum, task);
    if (worker < 0 || worker >= j->threads || j->seen[task]++) atomic_store(&j->bad, 1);
}

static void test_pool(void)
{
    static const int threads[] = {1, 2, 3, 8, 100};
    static struct job job;
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        struct pool *p;
        CHECK_EQ(pool_new(&host, threads[i], &p), PEFT_OK);
        CHECK_EQ(pool_threads(p), MIN(threads[i], POOL_MAX));
        memset(&job, 0, sizeof job);
        job.threads = pool_threads(p);
        int64_t expected = 0;
        for (int round = 0; round < 300; round++) {
            int64_t tasks = round * 7 % 40 + (round == 299 ? 4000 : 0);
            memset(job.seen, 0, sizeof job.seen);
            pool_run(p, tasks, count_task, &job);
            expected += tasks * (tasks - 1) / 2;
            for (int64_t k = 0; k < tasks; k++)
                if (job.seen[k] != 1) job.bad = 1;
            if (round % 100 == 50) usleep(2000);
        }
        CHECK_EQ(job.sum, expected);
        CHECK_EQ(job.bad, 0);
        pool_free(p);
    }
    pool_free(NULL);
    struct pool *p;
    CHECK_EQ(pool_new(&host, 0, &p), PEFT_OK);
    CHECK_EQ(pool_threads(p), MIN(os_cores(), POOL_MAX));
    pool_free(p);
}

/* In a forked child the threads are gone; the pool must still work. */
static void test_pool_fork(void)
{
    struct pool *p;
    CHECK_EQ(pool_new(&host, 2, &p), PEFT_OK);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct job job = {.threads = 2};
        pool_run(p, 100, count_task, &job);
        pool_free(p);
        _exit(job.sum == 4950 ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    CHECK_EQ(status, 0);
    pool_free(p);
}

static void test_pool_oom(void)
{
    for (int64_t n = 1; n < 20; n++) {
        struct bad_heap heap = {.fail_at = n};
        peft_load_opts opts = {.size = sizeof opts, .alloc = bad_alloc, .alloc_ctx = &heap};
        struct host h;
        host_init(&h, &opts);
        struct pool *p = NULL;
        int rc = pool_new(&h, 3, &p);
        CHECK_EQ(rc, n <= 4 ? PEFT_ENOMEM : PEFT_OK);
        if (rc == PEFT_OK) CHECK_EQ(pool_threads(p), n >= 7 ? 3 : n - 4);
        pool_free(p);
        CHECK_EQ(heap.live, 0);
    }
}

static void test_system(void)
{
    CHECK(os_cores() >= 1 && os_cores() <= 100000);
    CHECK(os_memory_total() > 1 << 20);
    CHECK(os_memory_available() > 0 && os_memory_available() <= os_memory_total());
    CHECK(os_rss() > 1 << 16 && os_rss() < os_memory_total());
    double t = os_seconds();
    CHECK(os_seconds() >= t);
    char text[200];
    os_cpu_name(text, sizeof text);
    CHECK(strlen(text) > 2);
    os_cpu_name(text, 4);
    CHECK_EQ(strlen(text), 3);
    os_self_dir(text, sizeof text);
    CHECK_EQ(path_kind(&host, text), 2);
    CHECK(!os_dlopen("/no/such/library.so"));
    peft_io io = {.size = offsetof(peft_io, list)};
    CHECK_EQ(os_io_default(&io), PEFT_OK);
    CHECK(io.kind && !io.list);
    io.size = 0;
    CHECK_EQ(os_io_default(&io), PEFT_EARG);
}

static void test_cpu(void)
{
    CHECK(cpu_has(CPU_C));
    CHECK(cpu_has(cpu_best()));
    CHECK(!cpu_has(CPU_LEVELS));
    CHECK(!cpu_pretend("486"));
    CHECK_STR(cpu_level_names[CPU_AVX512], "avx512");
#if defined(__x86_64__)
    CHECK_EQ(cpu_has(CPU_AVX2), __builtin_cpu_supports("avx2") != 0);
    CHECK_EQ(cpu_has(CPU_AVX512), __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"));
    unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | 0x8040);
    struct fp_mode m = fp_enter();
    volatile float tiny = 1e-38f;
    CHECK(tiny * 0.01f > 0);
    CHECK_EQ(__builtin_ia32_stmxcsr() & ~0x3fu, 0x1f80);
    fp_leave(m);
    CHECK(tiny * 0.01f == 0);
    __builtin_ia32_ldmxcsr(before);
#endif
}

/* -------------------------------------------------------- random numbers */

static void test_rng(void)
{
    /* Known answers of the Random123 distribution (kat_vectors). */
    static const uint32_t kat[][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff,
         0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0,
         0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
    };
    for (size_t i = 0; i < ARRAY_LEN(kat); i++) {
        uint32_t out[4];
        philox4x32(kat[i], kat[i] + 4, out);
        for (int k = 0; k < 4; k++) CHECK_EQ(out[k], kat[i][6 + k]);
    }
    CHECK_EQ(rng_u32(0, 0, 2), 0xbc57ac4c);
    enum { N = 100003 };
    float *x = mem_array(&host.mem, N, sizeof *x);
    double sum = 0, square = 0;
    rng_fill_normal(x, N, 2, 42, rng_stream(RNG_INIT, 7));
    for (int i = 0; i < N; i++) {
        sum += x[i];
        square += (double)x[i] * x[i];
        if (x[i] != 2 * rng_normal(42, rng_stream(RNG_INIT, 7), (uint64_t)i))
            CHECK(!"fill differs from the single draw");
    }
    CHECK_NEAR(sum / N, 0, 0.03);
    CHECK_NEAR(square / N, 4, 0.1);
    sum = 0;
    rng_fill_uniform(x, N, -1, 3, 42, 1);
    for (int i = 0; i < N; i++) {
        sum += x[i];
        if (x[i] < -1 || x[i] > 3 || x[i] != -1 + 4 * rng_uniform(42, 1, (uint64_t)i))
            CHECK(!"uniform");
    }
    CHECK_NEAR(sum / N, 1, 0.02);
    mem_free(&host.mem, x);
    int32_t v[1000], w[1000], seen[1000] = {0};
    for (int i = 0; i < 1000; i++) v[i] = w[i] = i;
    rng_shuffle(v, 1000, 5, 1);
    rng_shuffle(w, 1000, 5, 2);
    int moved = 0, differ = 0;
    for (int i = 0; i < 1000; i++) {
        seen[v[i]]++;
        moved += v[i] != i;
        differ += v[i] != w[i];
    }
    for (int i = 0; i < 1000; i++) CHECK_EQ(seen[i], 1);
    CHECK(moved > 950 && differ > 950);
    rng_shuffle(NULL, 0, 1, 1);
}

/* ------------------------------------------------------------------ JSON */

static void test_json_strict(void)
{
    static const char *const bad[] = {
        "", " ", "{", "[", "[1,]", "{\"a\":1,}", "{\"a\"}", "{\"a\":}", "{a:1}", "{'a':1}",
        "[1 2]", "{\"a\":1 \"b\":2}", "{\"a\":1}}", "[1]x", "1 2", "[}", "{]", "[1}", "nul", "tru",
        "True", "NaN", "Infinity", "-", "+1", "01", "-01", ".5", "1.", "1e", "1e+", "0x10", "1e999",
        "-1e999", "\"a", "\"\\\"", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\u0000\"", "\"a\tb\"",
        "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\xff\"", "\"\xc0\xaf\"",
        "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xe2\x82\"", "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}", "[{\"x\":{\"k\":1,\"j\":2,\"k\":3}}]", "/**/1", "[1]//",
        "\x0b" "1",
        "{\"1\":1,",
        "1234567890123456789012345678901234567890123456789012345678901234567890",
        "{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"j\":1,\"b\":1}",
    };
    json *j;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        /* An exact copy on the heap, so that a sanitizer sees a read beyond. */
        size_t n = strlen(bad[i]);
        char *copy = malloc(n ? n : 1);
        memcpy(copy, bad[i], n);
        int rc = json_parse(copy, (int64_t)n, "t.json", &j);
        if (rc != PEFT_EFORMAT || j) {
            printf("accepted: %s\n", bad[i]);
            CHECK_EQ(rc, PEFT_EFORMAT);
        }
        CHECK(strncmp(error_message(), "t.json", 6) == 0);
        free(copy);
    }
    CHECK_EQ(json_parse("1\0", 2, "t", &j), PEFT_EFORMAT);
    CHECK_EQ(json_parse("\"a\0b\"", 5, "t", &j), PEFT_EFORMAT);
    json_parse("{\"a\": 1,\n \"b\" 2}", 16, "t.json", &j);
    CHECK_STR(error_message(), "t.json line 2 column 6: expected ':'");
    static const char *const good[] = {
        "1", "-0", " 0.5e-3 ", "true", "null", "\"\"", "[]", "{}", "[[],{}]", "{\"\":1}",
        "\xef\xbb\xbf{}", "\"\\u00e9\\ud83d\\ude00\\/\\b\\f\"", "{\"a\":{\"a\":1},\"A\":2}",
        "[1,2,\"x\",{\"k\":[true,false,null]}]\r\n\t ", "\"\x7f\"", "[0,0]",
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        CHECK_EQ(json_parse(good[i], (int64_t)strlen(good[i]), "t", &j), PEFT_OK);
        json_free(j);
    }
    for (int depth = 63; depth <= 66; depth++) {
        char text[200];
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        CHECK_EQ(json_parse(text, 2 * depth, "t", &j), depth <= 64 ? PEFT_OK : PEFT_EFORMAT);
        json_free(j);
    }
    char *deep = malloc(1 << 20);
    memset(deep, '[', 1 << 20);
    CHECK_EQ(json_parse(deep, 1 << 20, "t", &j), PEFT_EFORMAT);
    free(deep);
}

/* 200k keys must take linear time, also when the last one is a duplicate. */
static void test_json_large(void)
{
    struct buf b;
    buf_init(&b, &host.mem);
    buf_putc(&b, '{');
    for (int i = 0; i < 200000; i++) buf_printf(&b, "%s\"token%d\":%d", i ? "," : "", i, i);
    json *j;
    buf_puts(&b, ",\"token7\":0}");
    CHECK_EQ(json_parse(b.data, b.n, "vocab", &j), PEFT_EFORMAT);
    CHECK(strstr(error_message(), "\"token7\" occurs twice"));
    b.n -= 12;
    buf_putc(&b, '}');
    CHECK_EQ(json_parse(b.data, b.n, "vocab", &j), PEFT_OK);
    CHECK_EQ(json_count(j), 200000);
    int64_t i = 0;
    for (const json *k = json_first(j); k; k = json_next(k), i++)
        if (json_number(k, -1) != (double)i || strncmp(json_key(k), "token", 5)) CHECK(!"order");
    json_free(j);
    buf_free(&b);
}

static void test_json_access(void)
{
    static const char text[] =
        "{\"a\":{\"b\":{\"c\":7}},\"a.b\":5,\"s\":\"x\\u00e9\",\"t\":true,\"big\":9007199254740991,"
        "\"bigger\":9007199254740993,\"f\":1.5,\"n\":null,\"l\":[1,2,3],\"A\":1,\"neg\":-3}";
    json *j;
    int64_t v = 0;
    CHECK_EQ(json_parse(text, sizeof text - 1, "t", &j), PEFT_OK);
    CHECK_EQ(json_number(json_get(j, "a.b.c"), -1), 7);
    CHECK_EQ(json_number(json_get(j, "a.b"), -1), 5);
    CHECK_EQ(json_number(json_get(j, "A"), -1), 1);
    CHECK(!json_get(j, "B") && !json_get(j, "a.x") && !json_get(j, "s.x") && !json_get(NULL, "x"));
    CHECK(!json_get(j, "l.0") && !json_get(j, "."));
    CHECK_STR(json_string(json_get(j, "s")), "x\xc3\xa9");
    CHECK(!json_string(json_get(j, "t")) && !json_string(NULL));
    CHECK_EQ(json_bool(json_get(j, "t"), -1), 1);
    CHECK_EQ(json_bool(json_get(j, "n"), -1), -1);
    CHECK_EQ(json_kind(json_get(j, "n")), JSON_NULL);
    CHECK_EQ(json_kind(j), JSON_OBJECT);
    CHECK_STR(json_kind_name(json_get(j, "l")), "an array");
    CHECK_STR(json_kind_name(NULL), "nothing");
    CHECK_EQ(json_count(json_get(j, "l")), 3);
    CHECK(!json_key(json_first(json_get(j, "l"))) && !json_first(NULL) && !json_next(NULL));
    CHECK_EQ(json_int(j, "big", 0, INT64_MAX, &v), 1);
    CHECK_EQ(v, 9007199254740991);
    CHECK_EQ(json_int(j, "bigger", 0, INT64_MAX, &v), PEFT_EFORMAT);
    CHECK_EQ(json_int(j, "f", 0, 9, &v), PEFT_EFORMAT);
    CHECK_EQ(json_int(j, "neg", 0, 9, &v), PEFT_EFORMAT);
    CHECK_STR(error_message(), "\"neg\" is -3, expected 0 to 9");
    CHECK_EQ(json_int(j, "neg", -3, 9, &v), 1);
    CHECK_EQ(json_int(j, "s", 0, 9, &v), PEFT_EFORMAT);
    CHECK_EQ(json_int(j, "nothing", 0, 9, &v), 0);
    CHECK_EQ(json_int(j, "a.b.c", 0, 9, &v), 1);
    CHECK_EQ(v, 7);
    json_free(j);
    json_free(NULL);
    static const char written[] = "{\"a\": [1, -2.5, {}, []], \"b\": {\"c\": \"x\\ny\"}, "
                                  "\"d\": null, \"e\": [true, false]}";
    struct buf b;
    buf_init(&b, &host.mem);
    CHECK_EQ(json_parse(written, sizeof written - 1, "t", &j), PEFT_OK);
    json_write(&b, j);
    CHECK_STR(buf_str(&b), written);
    buf_free(&b);
    json_free(j);
}

/* Cut and altered texts never crash and never leave a tree behind. */
static void test_json_mangled(void)
{
    static const char text[] =
        "{\"a\":[1,-2.5e3,true,null,{\"k\":\"v\\u00e9\\n\xc3\xa9\"}],\"b\":{}}";
    json *j;
    for (size_t n = 0; n < sizeof text - 1; n++) {
        char *cut = malloc(n ? n : 1);
        memcpy(cut, text, n);
        CHECK_EQ(json_parse(cut, (int64_t)n, "t", &j), PEFT_EFORMAT);
        free(cut);
    }
    for (uint64_t i = 0; i < 20000; i++) {
        char copy[sizeof text];
        memcpy(copy, text, sizeof text);
        for (uint64_t k = 0; k <= i % 3; k++)
            copy[rng_u32(9, i, 2 * k) % (sizeof text - 1)] = (char)rng_u32(9, i, 2 * k + 1);
        int rc = json_parse(copy, sizeof text - 1, "t", &j);
        if (rc != PEFT_OK && (rc != PEFT_EFORMAT || j)) CHECK(!"unexpected code");
        json_free(j);
    }
}

static void test_utf8(void)
{
    static const struct { const char *s; int64_t n, ok; } cases[] = {
        {"", 0, 0}, {"abc", 3, 3}, {"\xc3\xa9", 2, 2}, {"\xc3", 1, 0}, {"a\xc1\x81", 3, 1},
        {"\xe2\x82\xac", 3, 3}, {"\xe0\x80\x80", 3, 0}, {"\xed\x9f\xbf", 3, 3},
        {"\xed\xa0\x80", 3, 0}, {"\xf0\x9f\x98\x80", 4, 4}, {"\xf0\x8f\xbf\xbf", 4, 0},
        {"\xf4\x8f\xbf\xbf", 4, 4}, {"\xf4\x90\x80\x80", 4, 0}, {"\xf5\x80\x80\x80", 4, 0},
        {"ab\x80", 3, 2}, {"a\xf0\x9f\x98", 4, 1}, {"\xe2\x28\xa1", 3, 0}, {"\xe2\x82\x28", 3, 0},
        {"a\0b", 3, 3},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        CHECK_EQ(utf8_check(cases[i].s, cases[i].n), cases[i].ok);
}

int main(void)
{
    if (host_init(&host, NULL) < 0) return 2;
    RUN(test_error);
    RUN(test_mem);
    RUN(test_arena);
    RUN(test_buf);
    RUN(test_map);
    RUN(test_pool);
    RUN(test_pool_fork);
    RUN(test_pool_oom);
    RUN(test_system);
    RUN(test_cpu);
    RUN(test_rng);
    RUN(test_utf8);
    RUN(test_json_strict);
    RUN(test_json_large);
    RUN(test_json_access);
    RUN(test_json_mangled);
    CHECK_EQ(host.mem.live, 0);
    return TEST_END();
}
