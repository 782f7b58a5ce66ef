/* The expanders of one processor level; private to quant*.c. */
#ifndef KERNEL_UNPACK_H
#define KERNEL_UNPACK_H

#include "base/base.h"

typedef void expand_fn(float *y, const void *x, int64_t n);
struct unpack {
    expand_fn *f16, *bf16, *q4_0, *q4_1, *q5_0, *q5_1, *q8_0, *q4_k, *q5_k, *q6_k;
};
extern const struct unpack unpack_c, unpack_avx2, unpack_avx512;

#endif
