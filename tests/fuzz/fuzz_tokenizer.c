/* tokenizer.json. */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct host *h = begin_host();
    disk_put("dir/tokenizer.json", data, (int64_t)size);
    run_tokenizer_folder(h, (int64_t)size);
    end();
    return 0;
}
