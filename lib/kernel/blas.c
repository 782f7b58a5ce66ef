/* The only door to BLAS: finds an OpenBLAS at run time, or uses the built-in
 * product of sgemm.inc.
 *
 * OpenBLAS is called by many of our threads at once, each on its own piece of a
 * product, so it must be a build with locks (pthreads; the serial flavour has
 * none, the OpenMP one is not meant for foreign threads) that works with one
 * thread.  The thread count is process-wide: we set it only in a copy that lies
 * in our own `libpeft` folder, never in a library that the host may share.
 * A library once taken stays loaded; it costs no more than its mapping. */
#include "kernel/kernel.h"
#include "kernel/sgemm.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#if defined(__unix__) || defined(__APPLE__)
#include <sched.h>
#include <sys/mman.h>
#endif

#if defined(_WIN32)
#define DLL ".dll"
#define DLL_0 ".dll"
#elif defined(__APPLE__)
#define DLL ".dylib"
#define DLL_0 ".dylib"
#else
#define DLL ".so"
#define DLL_0 ".so.0"
#endif

/* cblas.h: row-major order and the two transpositions. */
enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };
typedef void cblas_fn(int order, int ta, int tb, int m, int n, int k, float alpha,
                      const float *a, int lda, const float *b, int ldb, float beta, float *c,
                      int ldc);

/* ------------------------------------------------------------- calling */

static void sgemm_builtin(int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha,
                          const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
                          float *c, int64_t ldc)
{
    static sgemm_fn *_Atomic known;
    sgemm_fn *fn = atomic_load_explicit(&known, memory_order_relaxed);
    if (!fn) {
        fn = sgemm_c;
#if defined(__x86_64__) || defined(__i386__)
        if (cpu_has(CPU_AVX512)) fn = sgemm_avx512;
        else if (cpu_has(CPU_AVX2)) fn = sgemm_avx2;
#elif defined(__aarch64__)
        if (cpu_has(CPU_NEON)) fn = sgemm_neon;
#endif
        atomic_store_explicit(&known, fn, memory_order_relaxed);
    }
    fn(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

/* C = beta C, for a product over nothing. */
static void scale(int64_t m, int64_t n, float beta, float *c, int64_t ldc)
{
    for (int64_t i = 0; i < m; i++, c += ldc)
        for (int64_t j = 0; j < n; j++) c[j] = beta == 0 ? 0 : beta * c[j];
}

static void sgemm_none(int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha,
                       const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
                       float *c, int64_t ldc)
{
    if (m <= 0 || n <= 0) return;
    if (k <= 0) scale(m, n, beta, c, ldc);
    else sgemm_builtin(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

/* One door per loaded library, because a sgemm pointer carries no context.
 * OpenBLAS has a fixed number of buffers and crashes with several hundred
 * callers, so a door lets few in at a time. */
enum { DOORS = 4, CALLERS_MAX = 48 };
static struct door { cblas_fn *_Atomic fn; _Atomic int callers; } doors[DOORS];

static void door_enter(struct door *d)
{
    while (atomic_fetch_add(&d->callers, 1) >= CALLERS_MAX) {
        atomic_fetch_sub(&d->callers, 1);
#if defined(__unix__) || defined(__APPLE__)
        sched_yield();
#endif
    }
}

/* OpenBLAS's integers are 32 bits, and to a bad argument it answers by printing
 * and returning, so what it would refuse goes to the built-in product. */
static void sgemm_door(struct door *d, int ta, int tb, int64_t m, int64_t n, int64_t k,
                       float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                       float beta, float *c, int64_t ldc)
{
    if (m <= 0 || n <= 0) return;
    if (k <= 0) {
        scale(m, n, beta, c, ldc);
        return;
    }
    bool fits = MAX(MAX(m, n), k) <= INT32_MAX && MAX(MAX(lda, ldb), ldc) <= INT32_MAX;
    if (!fits || lda < (ta ? m : k) || ldb < (tb ? k : n) || ldc < n) {
        sgemm_builtin(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    cblas_fn *fn = atomic_load(&d->fn);
    door_enter(d);
    fn(ROW_MAJOR, ta ? TRANS : NO_TRANS, tb ? TRANS : NO_TRANS, (int)m, (int)n, (int)k, alpha, a,
       (int)lda, b, (int)ldb, beta, c, (int)ldc);
    atomic_fetch_sub(&d->callers, 1);
}

#define DOOR(i) \
    static void sgemm_door##i(int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, \
                              const float *a, int64_t lda, const float *b, int64_t ldb, \
                              float beta, float *c, int64_t ldc) \
    { \
        sgemm_door(&doors[i], ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc); \
    }
DOOR(0)
DOOR(1)
DOOR(2)
DOOR(3)

static sgemm_fn *door_for(cblas_fn *fn)
{
    static sgemm_fn *const entry[DOORS] = {sgemm_door0, sgemm_door1, sgemm_door2, sgemm_door3};
    for (int i = 0; i < DOORS; i++) {
        cblas_fn *now = NULL;
        if (atomic_compare_exchange_strong(&doors[i].fn, &now, fn) || now == fn) return entry[i];
    }
    return NULL;
}

/* -------------------------------------------------------------- finding */

/* What we ask of a library.  `why` is "" when it may be used. */
struct found {
    void *lib;
    cblas_fn *sgemm;
    char config[160], core[32], why[160];
    int version;                     /* 0.3.28 = 328, 0 = not OpenBLAS */
    bool weak;                       /* old kernels on a newer processor */
};

/* A function named `name` or "scipy_" + name, as PyPI's scipy-openblas32. */
typedef void any_fn(void);
static any_fn *symbol(void *lib, const char *name)
{
    char with[64];
    snprintf(with, sizeof with, "scipy_%s", name);
    void *p = os_dlsym(lib, with);
    if (!p) p = os_dlsym(lib, name);
    any_fn *f;
    memcpy(&f, &p, sizeof f);
    return f;
}

/* "OpenBLAS 0.3.28 ..." -> 328. */
static int version_of(const char *config)
{
    const char *p = strstr(config, "OpenBLAS ");
    int part[3] = {0};
    if (!p) return 0;
    p += 9;
    for (int i = 0; i < 3; i++) {
        while (*p >= '0' && *p <= '9' && part[i] < 100) part[i] = part[i] * 10 + (*p++ - '0');
        if (*p == '.') p++;
    }
    return part[0] * 10000 + part[1] * 100 + part[2];
}

/* OpenBLAS before 0.3.28 takes some new Intel processors for a Pentium 4. */
static bool core_is_weak(const char *core)
{
    static const char *const old[] = {"Prescott", "Core2", "Penryn", "Dunnington", "Nehalem",
                                      "Sandybridge", "Atom", "Nano", "Northwood", "Katmai",
                                      "Banias", "Athlon", "Opteron", "Barcelona", "Bobcat"};
    if (!cpu_has(CPU_AVX2)) return false;
    for (size_t i = 0; i < ARRAY_LEN(old); i++)
        if (!strcmp(core, old[i])) return true;
    return false;
}

static void describe(struct found *f)
{
    union { any_fn *any; char *(*text)(void); } config, core;
    config.any = symbol(f->lib, "openblas_get_config");
    core.any = symbol(f->lib, "openblas_get_corename");
    if (!config.any) return;
    snprintf(f->config, sizeof f->config, "%s", config.text());
    f->version = version_of(f->config);
    if (core.any) snprintf(f->core, sizeof f->core, "%s", core.text());
    f->weak = core_is_weak(f->core);
}

/* Fills f->why with the reason against the library, if there is one. */
static void judge(struct found *f, bool ours)
{
    union { any_fn *any; int (*number)(void); void (*set)(int); } parallel, get, set;
    parallel.any = symbol(f->lib, "openblas_get_parallel");
    get.any = symbol(f->lib, "openblas_get_num_threads");
    set.any = symbol(f->lib, "openblas_set_num_threads");
    describe(f);
    const char *why = NULL;
    if (!f->sgemm) why = "has no cblas_sgemm";
    else if (!f->version || !parallel.any || !get.any || !set.any) why = "is not OpenBLAS";
    else if (f->version == 330) why = "is OpenBLAS 0.3.30, whose products can be wrong";
    else if (strstr(f->config, "USE64BITINT")) why = "has 64-bit integers";
    else if (parallel.number() != 1) why = "is not the pthreads flavour of OpenBLAS";
    if (why) {
        snprintf(f->why, sizeof f->why, "%s", why);
        return;
    }
    if (ours && get.number() != 1) set.set(1);
    if (get.number() != 1)
        snprintf(f->why, sizeof f->why, "is shared and works with %d threads", get.number());
}

/* OpenBLAS maps 128 MiB for each thread that calls it, and before 0.3.31 retries
 * for ever when it cannot.  So where the address space is limited (ulimit -v) it
 * must have room for all callers and a model besides, which this asks by a
 * mapping that takes no memory. */
static bool address_space_left(void)
{
#if defined(__unix__) || defined(__APPLE__)
    const uint64_t need = (uint64_t)2 * POOL_MAX * (128 << 20);
    if (need > SIZE_MAX / 2) return false;
    void *p = mmap(NULL, (size_t)need, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (p == MAP_FAILED) return false;
    munmap(p, (size_t)need);
#endif
    return true;
}
static const char no_space[] = "the address space is limited (ulimit -v) to less than "
                               "OpenBLAS needs";

/* Opens and judges.  Our own copy without a symbol prefix would be mixed up
 * with a BLAS that the host has linked, so it is not taken then. */
static bool try_library(struct found *f, const char *path, bool ours)
{
    memset(f, 0, sizeof *f);
    f->lib = os_dlopen(path);
    if (!f->lib) return false;
    any_fn *fn = symbol(f->lib, "cblas_sgemm");
    memcpy(&f->sgemm, &fn, sizeof f->sgemm);
    if (ours && !os_dlsym(f->lib, "scipy_cblas_sgemm")) {
        void *host = os_dlopen(NULL);
        bool clash = host && os_dlsym(host, "cblas_sgemm");
        os_dlclose(host);
        if (clash) snprintf(f->why, sizeof f->why, "would meet the host's own BLAS");
    }
    if (!f->why[0]) judge(f, ours);
    if (f->why[0]) os_dlclose(f->lib);
    return !f->why[0];
}

static void use(struct blas *b, const struct found *f)
{
    b->lib = f->lib;
    b->sgemm = door_for(f->sgemm);
    snprintf(b->core, sizeof b->core, "%s", f->core);
    snprintf(b->name, sizeof b->name, "OpenBLAS %d.%d.%d", f->version / 10000,
             f->version / 100 % 100, f->version % 100);
}

static void use_built_in(struct blas *b)
{
    b->lib = NULL;
    b->sgemm = sgemm_none;
    snprintf(b->name, sizeof b->name, "built-in");
    snprintf(b->core, sizeof b->core, "%s", cpu_level_names[cpu_best()]);
}

static const char better[] = "run `make deps` or install OpenBLAS 0.3.28 or later";

/* Takes the library if it is good; else notes the first reason against one.
 * Even the built-in product beats OpenBLAS's kernels for a processor of 2004. */
static void take_if_good(struct blas *b, const char *path, bool ours, char *advice, size_t cap)
{
    struct found f;
    if (b->sgemm) return;
    bool usable = try_library(&f, path, ours);
    if (usable && !f.weak) {
        use(b, &f);
        return;
    }
    if (!f.lib || (cap > 0 && advice[0])) return;
    if (usable) {
        os_dlclose(f.lib);
        snprintf(advice, cap, "OpenBLAS %d.%d.%d picked %s kernels on this processor: %s",
                 f.version / 10000, f.version / 100 % 100, f.version % 100, f.core, better);
    } else {
        snprintf(advice, cap, "%s %s: %s", path_base(path), f.why, better);
    }
}

static void open_best(struct blas *b, char *advice, size_t cap)
{
    static const char *const beside[] = {"/libpeft/", "/../lib/libpeft/", "/../lib64/libpeft/",
                                         "/../lib/x86_64-linux-gnu/libpeft/",
                                         "/../lib/aarch64-linux-gnu/libpeft/",
                                         "/../deps/libpeft/"};
    char self[1024], path[1200];
    if (!address_space_left()) {
        snprintf(advice, cap, "%s: using the built-in matrix product", no_space);
        return;
    }
    os_self_dir(self, sizeof self);
    for (size_t i = 0; self[0] && i < ARRAY_LEN(beside); i++) {
        snprintf(path, sizeof path, "%s%slibopenblas" DLL, self, beside[i]);
        take_if_good(b, path, true, advice, cap);
    }
    take_if_good(b, "libopenblas" DLL_0, false, advice, cap);
    if (b->sgemm) {
        if (cap > 0) advice[0] = 0;
    } else if (cap > 0 && !advice[0]) {
        snprintf(advice, cap, "no OpenBLAS was found: %s", better);
    }
}

/* A path is a copy for our use; a bare name is what others may share. */
static int open_file(struct blas *b, const char *path, char *advice, size_t cap)
{
    struct found f;
    if (!address_space_left())
        return fail(PEFT_ENOMEM, "BLAS %s: %s", path, no_space);
    if (!try_library(&f, path, strchr(path, '/') != NULL)) {
        if (!f.lib) return fail(PEFT_ENOTFOUND, "BLAS %s: cannot be loaded", path);
        return fail(PEFT_EUNSUPPORTED, "BLAS %s: %s", path, f.why);
    }
    use(b, &f);
    if (!b->sgemm) return fail(PEFT_ESTATE, "BLAS %s: %d others are in use", path, DOORS);
    if (f.weak)
        snprintf(advice, cap, "%s picked %s kernels on this processor: %s", b->name, f.core,
                 better);
    return PEFT_OK;
}

int blas_open(struct host *h, const char *wish, struct blas **out, char *advice, size_t cap)
{
    int rc = PEFT_OK;
    struct blas *b = mem_zalloc(&h->mem, sizeof *b);
    *out = NULL;
    if (cap > 0) advice[0] = 0;
    if (!b) return PEFT_ENOMEM;
    if (wish && strcmp(wish, "none")) rc = open_file(b, wish, advice, cap);
    else if (!wish) open_best(b, advice, cap);
    if (rc < 0) {
        mem_free(&h->mem, b);
        return rc;
    }
    if (!b->sgemm) use_built_in(b);
    *out = b;
    return PEFT_OK;
}

void blas_close(struct host *h, struct blas *b)
{
    if (b) mem_free(&h->mem, b);
}
