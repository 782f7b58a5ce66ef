/* For fuzz_tokenizers.py: reads records from standard input, an int32 length
 * and the text, and writes for each the ids with special tokens, the begins
 * and the ends of what they stand for, the ids without special tokens and what
 * decoding these gives, each behind an int32 length.
 *
 *     tokenize FOLDER|FILE.gguf [SAVE_FOLDER] */
#include <stdio.h>
#include <stdlib.h>

#include "text/text.h"

static struct host host;

static void put(const void *data, int64_t n, int64_t size)
{
    int32_t head = (int32_t)n;
    fwrite(&head, 4, 1, stdout);
    fwrite(data ? data : "", (size_t)size, (size_t)n, stdout);
}

static int records(const struct tokenizer *t)
{
    int32_t n;
    while (fread(&n, 4, 1, stdin) == 1) {
        char *text = malloc((size_t)n + 1);
        if (!text || fread(text, 1, (size_t)n, stdin) != (size_t)n) return 1;
        struct ids a, b;
        struct buf x;
        struct token_spans spans;
        token_spans_init(&spans, &host.mem);
        ids_init(&a, &host.mem);
        ids_init(&b, &host.mem);
        buf_init(&x, &host.mem);
        if (tok_encode_spans(&host, t, text, n, TOK_SPECIAL, &a, &spans) < 0 ||
            tok_encode(&host, t, text, n, 0, &b) < 0 || tok_decode(t, b.v, b.n, 0, &x) < 0)
            fprintf(stderr, "%s\n", error_message());
        put(a.v, a.n, 4);
        put(spans.begin.v, spans.begin.n, 4);
        put(spans.end.v, spans.end.n, 4);
        put(b.v, b.n, 4);
        put(x.data, x.n, 1);
        token_spans_free(&spans);
        ids_free(&a);
        ids_free(&b);
        buf_free(&x);
        free(text);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct tokenizer *t = NULL;
    struct store *s = NULL;
    if (argc < 2 || host_init(&host, NULL) < 0) return 2;
    int rc = path_kind(&host, argv[1]) == 2 ? tok_open_folder(&host, argv[1], &t)
                                            : store_open(&host, argv[1], true, &s);
    if (rc == 0 && s) rc = tok_open_gguf(&host, s, &t);
    if (rc == 0 && argc > 2) rc = tok_save_folder(&host, t, argv[2]);
    if (rc == 0) rc = argc > 2 ? 0 : records(t);
    else fprintf(stderr, "%s\n", error_message());
    tok_free(t);
    store_close(s);
    return rc != 0;
}
