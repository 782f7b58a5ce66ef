/* The expanders of one processor level; private to quant*.c. */
#ifndef KERNEL_UNPACK_H
#define KERNEL_UNPACK_H

#include "base/base.h"
#include "kernel/quant.h"

/* Every stored type that has one.  X(t) stands for the function t_expand in
 * quant.inc, the member t here and t_to_f32 in quant.c. */
#define EXPANDERS(X) \
    X(f16) X(bf16) X(f8_e4m3) X(f8_e5m2) X(q4_0) X(q4_1) X(q5_0) X(q5_1) X(q8_0) X(q2_k) X(q3_k) \
    X(q4_k) X(q5_k) X(q6_k) X(iq4_nl) X(iq4_xs) X(tq1_0) X(tq2_0) X(mxfp4) X(nf4) X(nf4_f16) \
    X(nf4_bf16) X(fp4) X(fp4_f16) X(fp4_bf16) X(llm_int8)

typedef void expand_fn(float *y, const void *x, int64_t n);
/* The sum over n elements, whole blocks of them, of w times x.  The weights are
 * those that an expander gives; their sum has an order of its own. */
typedef float dot_fn(const void *w, const float *x, int64_t n);
#define EXPANDER(t) expand_fn *t;
struct unpack {
    EXPANDERS(EXPANDER)
    dot_fn *dot[DOT_COUNT];         /* by qtype.dot; NULL = expand first */
};
#undef EXPANDER
extern const struct unpack unpack_c, unpack_avx2, unpack_avx512, unpack_neon;

/* Scale and minimum i of eight in Q4_K and Q5_K: the low six bits of bytes 0..3
 * and 4..7, then nibbles of bytes 8..11 with their top two bits above those of
 * bytes 0..7. */
static inline void six_bits(const uint8_t *s, int i, int *scale, int *min)
{
    if (i < 4) {
        *scale = s[i] & 63;
        *min = s[i + 4] & 63;
    } else {
        *scale = (s[i + 4] & 15) | (s[i - 4] >> 6) << 4;
        *min = (s[i + 4] >> 4) | (s[i] >> 6) << 4;
    }
}

#endif
