/* Processor level, chosen at run time. */
#ifndef BASE_CPU_H
#define BASE_CPU_H

enum cpu_level { CPU_C, CPU_AVX2, CPU_AVX512, CPU_NEON, CPU_LEVELS };
extern const char *const cpu_level_names[CPU_LEVELS];   /* "c", "avx2", ... */
int cpu_has(enum cpu_level l);         /* processor and operating system */
enum cpu_level cpu_best(void);
/* Products of bfloat16: AVX512-BF16, and AMX, for which the operating system is
 * asked to keep the registers of this process's threads. */
enum cpu_unit { UNIT_PAIRS, UNIT_AMX };
int cpu_has_unit(enum cpu_unit u);
int cpu_has_sha(void);                 /* rounds of SHA-256 */
/* For tests and benchmarks, before anything else: the processor counts as one that has
 * no more than "generic", "avx2", "avx512" (its base), "avx512bf16", "amx" or "neon".
 * 0 = it has less than that, or there is no such name. */
int cpu_pretend(const char *most);

/* Floating point modes: the library computes in the default ones and gives the
 * host its own back (game engines run with flush-to-zero on). */
struct fp_mode { unsigned csr; };
struct fp_mode fp_enter(void);
void fp_leave(struct fp_mode m);

#endif
