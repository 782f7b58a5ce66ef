/* Blocks of every stored type, expanded and packed again.  First byte: the
 * type. */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    size_t n_types = 0;
    while (qtypes[n_types]) n_types++;
    const struct qtype *t = qtypes[take_byte(&in) % n_types];
    int64_t blocks = (int64_t)in.n / t->bytes, n = blocks * t->block, bytes = 0;
    RULE(qtype_bytes(t, n, &bytes) && bytes == blocks * t->bytes);
    if (!t->to_f32 || !blocks) return 0;
    void *x = malloc((size_t)bytes);
    float *y = malloc((size_t)n * 4);
    if (!x || !y) abort();
    memcpy(x, in.at, (size_t)bytes);
    t->to_f32(y, x, n);
    touch(y, n * 4);
    if (t->from_f32) t->from_f32(x, y, n);
    touch(x, bytes);
    free(x);
    free(y);
    return 0;
}
