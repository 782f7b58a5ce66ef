/* The test framework: one program per file, one line at the end. */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "peft.h"

/* PEFT_CPU=generic|avx2|avx512|avx512bf16|amx|neon: the test runs as on such a
 * processor; on one that is less it ends at once with status 77. */
__attribute__((constructor)) static void pretend_cpu(void)
{
    const char *most = getenv("PEFT_CPU");
    if (!most || !*most || cpu_pretend(most)) return;
    printf("PEFT_CPU=%s: not on this processor\n0 passed, 0 failed\n", most);
    exit(77);
}

static int test_passed, test_failed, test_bad;

#define CHECK(cond) \
    do { \
        if (!(cond)) { \
            test_bad++; \
            printf("%s:%d: not true: %s [%s]\n", __FILE__, __LINE__, #cond, peft_errmsg()); \
        } \
    } while (0)
#define CHECK_EQ(a, b) \
    do { \
        long long a_ = (long long)(a), b_ = (long long)(b); \
        if (a_ != b_) { \
            test_bad++; \
            printf("%s:%d: %s is %lld, expected %lld [%s]\n", __FILE__, __LINE__, #a, a_, b_, \
                   peft_errmsg()); \
        } \
    } while (0)
#define CHECK_STR(a, b) \
    do { \
        const char *a_ = (a), *b_ = (b); \
        if (!a_ || strcmp(a_, b_)) { \
            test_bad++; \
            printf("%s:%d: %s is \"%s\", expected \"%s\"\n", __FILE__, __LINE__, #a, \
                   a_ ? a_ : "(null)", b_); \
        } \
    } while (0)
#define CHECK_NEAR(a, b, tol) \
    do { \
        double a_ = (a), b_ = (b); \
        if (!(fabs(a_ - b_) <= (tol))) { \
            test_bad++; \
            printf("%s:%d: %s is %.9g, expected %.9g within %g\n", __FILE__, __LINE__, #a, a_, \
                   b_, (double)(tol)); \
        } \
    } while (0)
/* Runs one test function and counts it. */
#define RUN(fn) \
    do { \
        int before_ = test_bad; \
        fn(); \
        if (test_bad == before_) test_passed++; \
        else { test_failed++; printf("FAILED %s\n", #fn); } \
        fflush(stdout); \
    } while (0)
#define TEST_END() \
    (printf("%d passed, %d failed\n", test_passed, test_failed), test_failed ? 1 : 0)

#endif
