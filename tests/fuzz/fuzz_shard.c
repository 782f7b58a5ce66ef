/* A file of prepared rows.  First byte: bit 0 an encoder, bit 1 a head with labels.  What the
 * end says is hashed, which no mutation would guess: the hash is made right here. */
#include "base/sha256.h"
#include "fuzz/fuzz.h"

enum { TRAILER = SHA256_BYTES + 16 };

static void mend_hash(uint8_t *data, int64_t n)
{
    struct sha256 s;
    int64_t size;
    if (n < 8 + TRAILER) return;
    memcpy(&size, data + n - 16, sizeof size);
    if (size < 0 || size > n - TRAILER) return;
    sha256_begin(&s);
    sha256_add(&s, data + n - TRAILER - size, size);
    sha256_end(&s, data + n - TRAILER);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const labels[] = { "bad", "good" };
    struct input in = { data, size };
    struct dataset *d = NULL;
    uint8_t bits = take_byte(&in);
    struct host *h = begin_host();
    struct data_opts o = { .max_len = 64, .any_len = 64, .vocab = 300, .causal = !(bits & 1),
                           .window = 64, .labels = bits & 2 ? labels : NULL,
                           .n_labels = bits & 2 ? 2 : 0 };
    uint8_t *copy = malloc(in.n + 1);
    if (!copy) return 0;
    memcpy(copy, in.at, in.n);
    mend_hash(copy, (int64_t)in.n);
    disk_put("f.shard", copy, (int64_t)in.n);
    free(copy);
    int rc = data_load(h, NULL, "f.shard", &o, &d);
    if (read_file(rc, "f.shard", (int64_t)size)) {
        for (int64_t i = 0; i < d->n; i++) {
            const struct example *x = &d->rows[i];
            RULE(x->n > 0 && x->second >= 0 && x->second <= x->n);
            RULE(d->task != TASK_CLASS || x->label < MAX(d->n_labels, 1));
            for (int32_t k = 0; k < x->n; k++) RULE(x->ids[k] >= 0 && x->ids[k] < 300);
        }
    }
    data_free(d);
    end();
    return 0;
}

#ifdef FUZZING
/* Changes the records, or the end, whose length the trailer has; what is behind them stays.
 * Records keep to multiples of 8. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    enum { HEAD = 1 + 8 };
    int64_t end = -1;
    if (size >= HEAD + TRAILER) memcpy(&end, data + size - 16, sizeof end);
    if (seed % 8 == 0 || end < 0 || end > (int64_t)(size - HEAD - TRAILER))
        return LLVMFuzzerMutate(data, size, max_size);
    bool records = seed % 8 < 5;
    size_t from = records ? HEAD : size - TRAILER - (size_t)end;
    size_t n = records ? size - HEAD - TRAILER - (size_t)end : (size_t)end;
    size_t tail = size - from - n, room = MIN(max_size - from - tail, n + 256) & ~7ull;
    uint8_t *kept = malloc(tail), *part = calloc(MAX(room, n) + 8, 1);
    if (!kept || !part) abort();
    memcpy(kept, data + from + n, tail);
    memcpy(part, data + from, n);
    if (room > n) n = LLVMFuzzerMutate(part, n, room);
    if (records) n = MIN((n + 7) & ~7ull, room);
    memcpy(data + from, part, n);
    memcpy(data + from + n, kept, tail);
    if (!records) end = (int64_t)n;
    memcpy(data + from + n + tail - 16, &end, sizeof end);
    free(kept);
    free(part);
    return from + n + tail;
}
#endif
