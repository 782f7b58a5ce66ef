/* Stored types of weights.  Block formats are GGML's (gguf.md, ggml-quants.c's
 * layouts); one row of the table per type. */
#ifndef KERNEL_QUANT_H
#define KERNEL_QUANT_H

#include "base/base.h"

struct qtype {
    const char *name;               /* "F32", "Q4_1"; safetensors and GGUF spelling */
    int32_t ggml_id;                /* -1 = not in GGUF */
    int32_t block, bytes;           /* elements and bytes of one block */
    int32_t is_float;               /* may be turned into trainable weights freely */
    /* n elements, a multiple of block.  to_f32 is NULL for types that are only
     * carried (I64, U8). */
    void (*to_f32)(float *y, const void *x, int64_t n);
    void (*from_f32)(void *y, const float *x, int64_t n);    /* NULL = cannot be written */
};
extern const struct qtype *const qtypes[];     /* NULL-terminated */
extern const struct qtype qtype_f32, qtype_f16, qtype_bf16;
const struct qtype *qtype_by_ggml(int64_t id);          /* or NULL */
const struct qtype *qtype_by_name(const char *name);    /* or NULL */
/* GGML's name of a type we cannot read, for messages ("IQ2_XS"); else "unknown". */
const char *qtype_ggml_name(int64_t id);
/* Bytes of n elements; false when n is no multiple of the block or it overflows. */
bool qtype_bytes(const struct qtype *t, int64_t n, int64_t *bytes);

#endif
