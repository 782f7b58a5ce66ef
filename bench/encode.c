/* How fast tok_encode is, on one thread:
 *
 *     bench_encode FOLDER|FILE.gguf TEXTS ROUNDS
 *
 * TEXTS holds records of an int32 length and that many bytes.  Prints one JSON
 * object: the bytes and ids of a round and the seconds of the best. */
#include <stdio.h>
#include <stdlib.h>

#include "base/pool.h"
#include "text/text.h"

static struct host host;

static int encode_all(const struct tokenizer *t, const struct file_view *v, int64_t *n_ids,
                      int64_t *n_bytes)
{
    struct ids ids;
    int rc = 0;
    ids_init(&ids, &host.mem);
    *n_ids = *n_bytes = 0;
    for (int64_t at = 0; at + 4 <= v->n && rc == 0;) {
        int32_t n;
        memcpy(&n, v->data + at, 4);
        at += 4;
        if (n < 0 || n > v->n - at) break;
        ids.n = 0;
        rc = tok_encode(&host, t, (const char *)v->data + at, n, 0, &ids);
        *n_ids += ids.n;
        *n_bytes += n;
        at += n;
    }
    ids_free(&ids);
    return rc;
}

int main(int argc, char **argv)
{
    struct tokenizer *t = NULL;
    struct store *s = NULL;
    struct file_view texts = {0};
    int64_t n_ids = 0, n_bytes = 0;
    double best = 1e30;
    if (argc < 4 || host_init(&host, NULL) < 0) return 2;
    int rc = path_kind(&host, argv[1]) == 2 ? tok_open_folder(&host, argv[1], &t)
                                            : store_open(&host, argv[1], true, &s);
    if (rc == 0 && s) rc = tok_open_gguf(&host, s, &t);
    if (rc == 0) rc = file_open_view(&host, argv[2], true, &texts);
    for (long i = 0, n = strtol(argv[3], NULL, 10); i < n && rc == 0; i++) {
        double start = os_seconds();
        rc = encode_all(t, &texts, &n_ids, &n_bytes);
        best = MIN(best, os_seconds() - start);
    }
    if (rc == 0)
        printf("{\"bytes\": %lld, \"ids\": %lld, \"seconds\": %.6f}\n", (long long)n_bytes,
               (long long)n_ids, best);
    else fprintf(stderr, "%s\n", error_message());
    file_close_view(&host, &texts);
    tok_free(t);
    store_close(s);
    return rc != 0;
}
