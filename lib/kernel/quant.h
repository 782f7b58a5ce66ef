/* Stored types of weights.  Block formats are GGML's (gguf.md, ggml-quants.c's
 * layouts) and bitsandbytes' (Dettmers et al. 2023, QLoRA); one row of the table
 * per type. */
#ifndef KERNEL_QUANT_H
#define KERNEL_QUANT_H

#include "base/base.h"

/* Types whose dot products with floats need no expanded copy (quant_vec.inc). */
#define DOTS(X) \
    X(f16) X(bf16) X(q4_0) X(q4_1) X(q5_0) X(q5_1) X(q8_0) X(q4_k) X(q5_k) X(q6_k) X(iq4_nl) \
    X(iq4_xs) X(mxfp4) X(nf4) X(nf4_f16) X(nf4_bf16) X(fp4) X(fp4_f16) X(fp4_bf16)
#define DOT_NAME(t) DOT_##t,
enum dot { DOT_NONE, DOTS(DOT_NAME) DOT_COUNT };
#undef DOT_NAME

struct qtype {
    const char *name;               /* "F32", "Q4_1"; safetensors and GGUF spelling */
    int32_t ggml_id;                /* -1 = not in GGUF */
    int32_t block, bytes;           /* elements and bytes of one block */
    int32_t is_float;               /* may be turned into trainable weights freely */
    /* n elements, a multiple of block.  to_f32 is NULL for types that are only
     * carried (I64, U8). */
    void (*to_f32)(float *y, const void *x, int64_t n);
    void (*from_f32)(void *y, const float *x, int64_t n);    /* NULL = cannot be written */
    /* 1 = blocks run over the whole tensor: a row may begin within one, and the
     * last need not be full (from_f32 takes any n). */
    int32_t flat;
    const struct qtype *exact;      /* a float type below F32 that holds all values; or NULL */
    enum dot dot;
};
extern const struct qtype *const qtypes[];     /* NULL-terminated */
extern const struct qtype qtype_f32, qtype_f16, qtype_bf16;
const struct qtype *qtype_by_ggml(int64_t id);          /* or NULL */
const struct qtype *qtype_by_name(const char *name);    /* or NULL */
/* GGML's name of a type we cannot read, for messages ("IQ2_XS"); else "unknown". */
const char *qtype_ggml_name(int64_t id);
/* Bytes of n elements; false when n is no multiple of the block (and the type
 * is not flat) or it overflows. */
bool qtype_bytes(const struct qtype *t, int64_t n, int64_t *bytes);
/* Elements [at, at + n) of the data, wherever blocks begin. */
void qtype_expand(const struct qtype *t, float *y, const void *data, int64_t at, int64_t n);

/* The levels of NF4 and FP4, by code. */
extern const float nf4_levels[16], fp4_levels[16];

/* --- scales of NF4 and FP4 blocks in 8 bits (double quantisation): blocks of 256
 * of them, less their mean, as one of 256 levels times the block's largest. */
enum { SCALES_BLOCK = 256 };
/* bitsandbytes' dynamic map, ascending; plain: without negative numbers. */
void tree_levels(float level[256], int plain);
/* q [n], largest [n / 256 rounded up]; returns the mean, which may differ from torch's
 * in the last bit: its sum depends on the width of the processor's vectors. */
float scales_pack(uint8_t *q, float *largest, const float *scale, int64_t n);

#endif
