/* vocab.txt, and after a NUL tokenizer_config.json. */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    struct host *h = begin_host();
    take_file(&in, "dir/vocab.txt");
    take_file(&in, "dir/tokenizer_config.json");
    run_tokenizer_folder(h, (int64_t)size);
    end();
    return 0;
}
