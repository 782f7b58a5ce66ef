/* A safetensors file.  The mutator keeps the header's length right. */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct host *h = begin_host();
    struct store *s = NULL;
    disk_put("f.safetensors", data, (int64_t)size);
    int rc = store_open_safetensors(h, "f.safetensors", true, &s);
    if (read_file(rc, "f.safetensors", (int64_t)size)) touch_store(s);
    store_close(s);
    end();
    return 0;
}

#ifdef FUZZING
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    uint64_t n = 0;
    if (size >= 8) memcpy(&n, data, 8);
    if (seed % 8 == 0 || size < 10 || n > size - 8) return LLVMFuzzerMutate(data, size, max_size);
    /* The header grows or shrinks in front of the data, which stay. */
    size_t tail = size - 8 - (size_t)n, room = max_size - 8 - tail;
    uint8_t *kept = malloc(tail + 1), *head = malloc(room + 1);
    memcpy(kept, data + 8 + n, tail);
    memcpy(head, data + 8, (size_t)n);
    n = LLVMFuzzerMutate(head, (size_t)n, room);
    memcpy(data, &n, 8);
    memcpy(data + 8, head, (size_t)n);
    memcpy(data + 8 + n, kept, tail);
    free(kept);
    free(head);
    return 8 + (size_t)n + tail;
}
#endif
