/* The test framework: one program per file, one line at the end. */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "peft.h"

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
