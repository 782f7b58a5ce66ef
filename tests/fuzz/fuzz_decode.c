/* Ids of any value through several tokenizers; the first byte picks one, the
 * second bit 0 the flag and a shift: small ids need fewer bytes. */
#include "fuzz/fuzz.h"

static const char *const folders[] = {
    "kinds/bert", "kinds/bloom", "kinds/cl100k", "kinds/gemma", "kinds/gpt2", "kinds/llama2",
    "kinds/llama3", "kinds/metaspace", "kinds/roberta", "kinds/spm-unk", "kinds/spm-unk-each",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *tok[ARRAY_LEN(folders)];
    static struct host tok_host;
    struct input in = { data, size };
    size_t i = take_byte(&in) % ARRAY_LEN(folders);
    uint8_t how = take_byte(&in);
    heap_hooks();
    if (!tok[i]) {
        char path[128];
        snprintf(path, sizeof(path), GOLDEN "tokenizers/%s", folders[i]);
        RULE(host_init(&tok_host, NULL) == PEFT_OK);
        RULE(tok_open_folder(&tok_host, path, &tok[i]) == PEFT_OK);
    }
    struct host *h = begin_host();
    int64_t width = how & 2 ? 4 : 2, n = (int64_t)in.n / width;
    int32_t *ids = malloc((size_t)n * sizeof(*ids) + 1);
    struct buf b;
    buf_init(&b, &h->mem);
    for (int64_t k = 0; k < n; k++) {
        ids[k] = 0;
        memcpy(&ids[k], in.at + k * width, (size_t)width);
    }
    if (fine(tok_decode(tok[i], ids, n, how & 1, &b))) touch(b.data, b.n);
    buf_clear(&b);
    for (int64_t k = 0; k < n; k++) fine(tok_piece(tok[i], ids[k], &b));
    free(ids);
    buf_free(&b);
    end();
    return 0;
}
