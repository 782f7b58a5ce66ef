/* A SentencePiece model.  First byte: its file's name, which tells the kind; then
 * tokenizer_config.json, a NUL, and the model. */
#include "fuzz/fuzz.h"

static const char *const names[] = { "tokenizer.model", "spiece.model",
                                     "sentencepiece.bpe.model" };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    struct host *h = begin_host();
    char path[64];
    snprintf(path, sizeof(path), "dir/%s", names[take_byte(&in) % ARRAY_LEN(names)]);
    take_file(&in, "dir/tokenizer_config.json");
    disk_put(path, in.at, (int64_t)in.n);
    run_tokenizer_folder(h, (int64_t)size);
    end();
    return 0;
}
