/* What tests of kernels share. */
#ifndef TESTS_APART_H
#define TESTS_APART_H

#include <math.h>
#include <stdint.h>

/* The largest distance of two numbers, relative to those beyond 1; not a number stays one. */
static double apart(const float *a, const float *b, int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double off = fabs((double)a[i] - (double)b[i]) / (1 + fabs((double)b[i]));
        worst = off <= worst ? worst : off;
    }
    return worst;
}

#endif
