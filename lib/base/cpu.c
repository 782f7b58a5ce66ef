/* What the processor can do and the operating system lets us use. */
#include "base/cpu.h"
#include "base/pool.h"

#if defined(__x86_64__) || defined(__i386__)
#define CPU_X86 1
#include <cpuid.h>
#include <xmmintrin.h>
#endif

const char *const cpu_level_names[CPU_LEVELS] = {"c", "avx2", "avx512", "neon"};

/* What is taken for the processor: its best level, and how many of the units. */
static struct { enum cpu_level level; int units; } cpu_most = {CPU_LEVELS, UNIT_AMX + 1};

#ifdef CPU_X86
enum {
    FMA_F16C_OSXSAVE = 1 << 12 | 1 << 29 | 1 << 27,            /* leaf 1 ecx */
    AVX2 = 1 << 5,                                             /* leaf 7 ebx */
    YMM_STATE = 0x06, ZMM_STATE = 0xe6                         /* xcr0 */
};
/* Leaf 7 ebx: F, DQ, CD, BW, VL. */
static const unsigned avx512_bits = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;

static int x86_has(enum cpu_level l)
{
    unsigned a, b, c, d, xcr0, high;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if ((c & FMA_F16C_OSXSAVE) != FMA_F16C_OSXSAVE) return 0;
    __asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if (!(b & AVX2) || (xcr0 & YMM_STATE) != YMM_STATE) return 0;
    if (l == CPU_AVX2) return 1;
    return (b & avx512_bits) == avx512_bits && (xcr0 & ZMM_STATE) == ZMM_STATE;
}

/* AVX512-BF16: leaf 7.1 eax.  AMX: tiles and their bfloat16, leaf 7.0 edx. */
static int x86_has_unit(enum cpu_unit u)
{
    const unsigned tiles = 1u << 22 | 1u << 24;
    unsigned a, b, c, d;
    if (!x86_has(CPU_AVX512) || !__get_cpuid_count(7, 1, &a, &b, &c, &d)) return 0;
    if (!(a & 1u << 5)) return 0;
    if (u == UNIT_PAIRS) return 1;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & tiles) == tiles && os_allow_amx();
}
#endif

int cpu_has_unit(enum cpu_unit u)
{
    if ((int)u >= cpu_most.units) return 0;
#ifdef CPU_X86
    return x86_has_unit(u);
#else
    (void)u;
    return 0;
#endif
}

/* Asked once: where a hypervisor answers, it takes its time. */
int cpu_has_sha(void)
{
    static _Atomic int known;
    if (!known) {
        int has = 0;
#ifdef __x86_64__
        unsigned a, b, c, d;
        has = cpu_has(CPU_AVX2) && __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & 1u << 29;
#endif
        known = 1 + has;
    }
    return known - 1;
}

int cpu_has(enum cpu_level l)
{
    if (l > cpu_most.level) return 0;
    switch (l) {
    case CPU_C: return 1;
#ifdef CPU_X86
    case CPU_AVX2:
    case CPU_AVX512: return x86_has(l);
#endif
#ifdef __aarch64__
    case CPU_NEON: return 1;
#endif
    default: return 0;
    }
}

enum cpu_level cpu_best(void)
{
    static const enum cpu_level order[] = {CPU_AVX512, CPU_AVX2, CPU_NEON};
    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        if (cpu_has(order[i])) return order[i];
    return CPU_C;
}

int cpu_pretend(const char *name)
{
    static const struct { const char *name; enum cpu_level level; int units; } kinds[] = {
        {"generic", CPU_C, 0},
        {"avx2", CPU_AVX2, 0},
        {"avx512", CPU_AVX512, 0},
        {"avx512bf16", CPU_AVX512, UNIT_PAIRS + 1},
        {"amx", CPU_AVX512, UNIT_AMX + 1},
        {"neon", CPU_NEON, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        int units = kinds[i].units;
        if (strcmp(kinds[i].name, name)) continue;
        if (!cpu_has(kinds[i].level)) return 0;
        if (units && !cpu_has_unit((enum cpu_unit)(units - 1))) return 0;
        cpu_most.level = kinds[i].level;
        cpu_most.units = units;
        return 1;
    }
    return 0;
}

void os_cpu_name(char *out, size_t cap)
{
    char text[49] = "";
#ifdef CPU_X86
    unsigned r[12];
    int ok = 1;
    for (unsigned i = 0; i < 3 && ok; i++)
        ok = __get_cpuid(0x80000002u + i, &r[i * 4], &r[i * 4 + 1], &r[i * 4 + 2], &r[i * 4 + 3]);
    if (ok) memcpy(text, r, sizeof r);
#elif defined(__aarch64__)
    memcpy(text, "64-bit ARM", 11);
#endif
    const char *from = text;
    while (*from == ' ') from++;
    size_t n = strlen(from);
    while (n > 0 && from[n - 1] == ' ') n--;
    if (n == 0) from = "unknown", n = 7;
    if (cap == 0) return;
    n = MIN(n, cap - 1);
    memcpy(out, from, n);
    out[n] = 0;
}

/* Round to nearest, all exceptions masked, no flush to zero. */
struct fp_mode fp_enter(void)
{
    struct fp_mode m = {0};
#ifdef CPU_X86
    m.csr = _mm_getcsr();
    _mm_setcsr(0x1f80);
#elif defined(__aarch64__)
    unsigned long old;
    __asm__ volatile("mrs %0, fpcr" : "=r"(old));
    __asm__ volatile("msr fpcr, %0" : : "r"(0ul));
    m.csr = (unsigned)old;
#endif
    return m;
}

void fp_leave(struct fp_mode m)
{
#ifdef CPU_X86
    _mm_setcsr(m.csr);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"((unsigned long)m.csr));
#else
    (void)m;
#endif
}
