/* JSON: what is read, is written and read again as the same. */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct host *h = begin_host();
    struct buf a, b;
    json *j, *k;
    buf_init(&a, &h->mem);
    buf_init(&b, &h->mem);
    int rc = json_parse((const char *)data, (int64_t)size, "text", &j);
    if (read_file(rc, "text", (int64_t)size)) {
        json_write(&a, j);
        RULE(fine(json_parse(a.data, a.n, "written", &k)));
        json_write(&b, k);
        RULE(a.n == b.n && !memcmp(a.data, b.data, (size_t)a.n));
        RULE(json_count(j) == json_count(k) && json_kind(j) == json_kind(k));
        json_free(j);
        json_free(k);
    }
    buf_free(&a);
    buf_free(&b);
    end();
    return 0;
}
