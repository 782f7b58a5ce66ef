/* A mutator for GGUF: changes one string or array of the metadata and the
 * length before it; one time in four bytes anywhere. */
#ifndef TESTS_GGUF_MUTATE_H
#define TESTS_GGUF_MUTATE_H

#ifdef FUZZING
static uint64_t gguf_at(const uint8_t *data, size_t size, size_t at, size_t bytes)
{
    uint64_t v = 0;
    if (at + bytes <= size) memcpy(&v, data + at, bytes);
    return v;
}

/* Places of strings' lengths: keys, values, items of arrays, tensor names. */
static size_t gguf_strings(const uint8_t *data, size_t size, size_t *place, size_t cap)
{
    static const uint8_t width[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    uint64_t tensors = gguf_at(data, size, 8, 8), keys = gguf_at(data, size, 16, 8);
    size_t at = 24, n = 0;
#define SKIP_STRING() \
    do { \
        uint64_t len = gguf_at(data, size, at, 8); \
        if (at + 8 > size || len > size - at - 8 || n == cap) return n; \
        place[n++] = at; \
        at += 8 + (size_t)len; \
    } while (0)
    for (uint64_t i = 0; i < keys; i++) {
        SKIP_STRING();
        uint64_t type = gguf_at(data, size, at, 4), count = 1;
        at += 4;
        if (type == 9) {
            type = gguf_at(data, size, at, 4);
            count = gguf_at(data, size, at + 4, 8);
            at += 12;
        }
        if (type > 12 || type == 9 || count > size) return n;
        for (uint64_t k = 0; k < count && type == 8; k++) SKIP_STRING();
        at += (size_t)count * width[type];
    }
    for (uint64_t i = 0; i < tensors; i++) {
        SKIP_STRING();
        uint64_t dims = gguf_at(data, size, at, 4);
        if (dims > 4) return n;
        at += 4 + 8 * (size_t)dims + 12;
    }
#undef SKIP_STRING
    return n;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    static size_t place[4096];
    size_t n = seed % 4 ? gguf_strings(data, size, place, 4096) : 0;
    if (!n) return LLVMFuzzerMutate(data, size, max_size);
    size_t at = place[seed / 4 % n];
    uint64_t len = gguf_at(data, size, at, 8);
    size_t tail = size - at - 8 - (size_t)len, room = max_size - at - 8 - tail;
    uint8_t *kept = malloc(tail + 1), *text = malloc(room + 1);
    memcpy(kept, data + at + 8 + len, tail);
    memcpy(text, data + at + 8, (size_t)len);
    len = LLVMFuzzerMutate(text, (size_t)len, MIN(room, (size_t)len + 64));
    memcpy(data + at, &len, 8);
    memcpy(data + at + 8, text, (size_t)len);
    memcpy(data + at + 8 + len, kept, tail);
    free(kept);
    free(text);
    return at + 8 + (size_t)len + tail;
}
#endif
#endif
