/* A model in GGUF by its metadata and tensor table alone: zeros follow, so that
 * inputs stay small. */
#include "fuzz/fuzz.h"
#include "fuzz/gguf_mutate.h"

enum { ZEROS = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    peft_model *m = NULL;
    size_t whole = size + ZEROS;
    uint8_t *file = calloc(whole, 1);
    if (!file) return 0;
    begin();
    if (size) memcpy(file, data, size);
    disk_put("f.gguf", file, (int64_t)whole);
    free(file);
    int rc = peft_model_load("f.gguf", memory_opts(), &m);
    if (read_file(rc, "f.gguf", (int64_t)whole)) use_model(m);
    peft_model_free(m);
    end();
    return 0;
}
