/* Rank 0: what every file may include.  Knows nothing of tensors. */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "peft.h"

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* A row of a table that is only told of. */
struct named { const char *name, *about; };

/* Size arithmetic on numbers that come from a file: false on overflow. */
static inline bool mul_ok(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool add_ok(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}
/* Smallest multiple of `to` (a power of two) that is >= n; false on overflow. */
static inline bool align_ok(int64_t n, int64_t to, int64_t *out)
{
    if (!add_ok(n, to - 1, out)) return false;
    *out &= ~(to - 1);
    return true;
}
static inline int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

#include "error.h"
#include "mem.h"
#include "buf.h"
#include "map.h"

#endif
