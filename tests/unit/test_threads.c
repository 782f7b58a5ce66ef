/* How many threads this process may use, by affinity and cgroups' quotas, and that threads
 * without work take no time. */
#include <sched.h>
#include <time.h>

#include "kit.h"

#ifdef __linux__

/* --- quotas: files of the kernel in a folder of ours */

struct quota { const char *file, *text; };
static const struct {
    const char *name, *groups;         /* /proc/self/cgroup */
    struct quota quota[4];
    int cores;
} cases[] = {
    { "v2", "0::/\n", { { "cpu.max", "100000 100000\n" } }, 1 },
    { "v2-none", "0::/\n", { { "cpu.max", "max 100000\n" } }, 64 },
    { "v2-part", "0::/a\n", { { "a/cpu.max", "150000 100000\n" } }, 2 },
    { "v2-small", "0::/a\n", { { "a/cpu.max", "1000 100000\n" } }, 1 },
    { "v2-parent", "0::/a/b\n", { { "a/b/cpu.max", "max 100000\n" },
                                  { "a/cpu.max", "200000 100000\n" } }, 2 },
    { "v2-smallest", "0::/a/b\n", { { "a/b/cpu.max", "300000 100000\n" },
                                    { "a/cpu.max", "20000 10000\n" } }, 2 },
    { "v2-absent", "0::/elsewhere\n", { { "cpu.max", "100000 100000\n" } }, 1 },
    { "v1", "5:memory:/\n2:cpu,cpuacct:/job\n", { { "cpu/job/cpu.cfs_quota_us", "50000\n" },
                                                 { "cpu/job/cpu.cfs_period_us", "50000\n" } }, 1 },
    { "v1-none", "2:cpu:/\n", { { "cpu/cpu.cfs_quota_us", "-1\n" },
                                { "cpu/cpu.cfs_period_us", "100000\n" } }, 64 },
    { "v1-parent", "2:cpu:/job/x\n", { { "cpu/job/cpu.cfs_quota_us", "110000\n" },
                                      { "cpu/job/cpu.cfs_period_us", "100000\n" } }, 2 },
    { "odd", "no colons\n7::\n0::\n", { { "cpu.max", "" } }, 64 },
    { "junk", "0::/\n", { { "cpu.max", "-5 x\n" } }, 64 },
    { "zero", "0::/\n", { { "cpu.max", "100000 0\n" } }, 64 },
};

static void put_deep(const char *root, const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof(full), "%s/%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(full, 0777);
        *p = '/';
    }
    put(full, text);
}

static void test_quotas(void)
{
    int all = os_cores_at(in("nothing"));
    CHECK(all >= 1 && os_cores() <= all);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char root[256], path[128];
        snprintf(root, sizeof(root), "%s", in("%s", cases[i].name));
        mkdir(root, 0777);
        put_deep(root, "proc/self/cgroup", cases[i].groups);
        for (int k = 0; k < 4 && cases[i].quota[k].file; k++) {
            snprintf(path, sizeof(path), "sys/fs/cgroup/%s", cases[i].quota[k].file);
            put_deep(root, path, cases[i].quota[k].text);
        }
        int found = os_cores_at(root);
        if (found != MIN(all, cases[i].cores)) printf("  (%s)\n", cases[i].name);
        CHECK_EQ(found, MIN(all, cases[i].cores));
    }
}

/* As under `taskset`. */
static void test_affinity(void)
{
    cpu_set_t before, one;
    if (sched_getaffinity(0, sizeof(before), &before)) return;
    CPU_ZERO(&one);
    for (int c = 0; c < CPU_SETSIZE && !CPU_COUNT(&one); c++)
        if (CPU_ISSET(c, &before)) CPU_SET(c, &one);
    if (sched_setaffinity(0, sizeof(one), &one)) return;
    struct host h;
    struct pool *p = NULL;
    OK(host_init(&h, NULL));
    CHECK_EQ(os_cores(), 1);
    OK(pool_new(&h, 0, &p));
    CHECK_EQ(pool_threads(p), 1);
    pool_free(p);
    CHECK_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
}

#endif

/* --- idle threads */

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of a fifth of a second, once threads have stopped looking out for work: ours do for a
 * moment, OpenBLAS's for some hundredths of a second after it was loaded. */
static double idle_seconds(void)
{
    double used = 1;
    for (int i = 0; i < 10 && used > 0.002; i++) {
        used = cpu_seconds();
        usleep(200000);
        used = cpu_seconds() - used;
    }
    return used;
}

static void nothing(void *arg, int64_t task, int worker)
{
    (void)arg, (void)task, (void)worker;
}

static void test_idle_pool(void)
{
    static const int threads[] = { 2, 3, 16 };
    struct host h;
    OK(host_init(&h, NULL));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        struct pool *p = NULL;
        OK(pool_new(&h, threads[i], &p));
        for (int round = 0; round < 100; round++) pool_run(p, 64, nothing, NULL);
        CHECK(idle_seconds() <= 0.002);
        pool_free(p);
    }
}

/* Between two steps, and in the middle of one. */
static void test_idle_trainer(void)
{
    peft_load_opts o = kit_opts();
    peft_train_opts opts = { .size = sizeof(opts), .steps = 4 };
    peft_model *m = NULL;
    peft_trainer *t = NULL;
    o.threads = 3;
    o.blas = NULL;
    OK(peft_model_load(make_model("base", 1), &o, &m));
    if (!m) GIVE_UP();
    OK(peft_adapter_add(m, "a", NULL));
    peft_dataset *d = data(m, rows_file());
    OK(peft_trainer_new(m, d, &opts, &t));
    if (!t) GIVE_UP();
    OK(peft_train_step(t, NULL));
    CHECK(idle_seconds() <= 0.002);
    OK(peft_train_run_for(t, 1, NULL));
    CHECK(idle_seconds() <= 0.002);
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

int main(void)
{
    kit_begin();
#ifdef __linux__
    RUN(test_quotas);
    RUN(test_affinity);
#endif
    RUN(test_idle_pool);
    RUN(test_idle_trainer);
    kit_end();
    return TEST_END();
}
