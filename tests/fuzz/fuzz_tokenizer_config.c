/* The files beside tokenizer.json, each ended by a NUL. */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct input vocab;
    struct input in = { data, size };
    struct host *h = begin_host();
    if (!vocab.at) vocab = golden(GOLDEN "data/chat/tokenizer.json");
    disk_put("dir/tokenizer.json", vocab.at, (int64_t)vocab.n);
    take_file(&in, "dir/tokenizer_config.json");
    take_file(&in, "dir/special_tokens_map.json");
    take_file(&in, "dir/generation_config.json");
    take_file(&in, "dir/config.json");
    take_file(&in, "dir/chat_template.jinja");
    run_tokenizer_folder(h, (int64_t)(vocab.n + size));
    end();
    return 0;
}
