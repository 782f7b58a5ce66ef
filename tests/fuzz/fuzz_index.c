/* A sharded folder.  First byte: 0 the input is the index, else a shard. */
#include "fuzz/fuzz.h"

static const struct { const char *name, *path; } files[] = {
    { "dir/model.safetensors.index.json", GOLDEN "store/sharded/model.safetensors.index.json" },
    { "dir/config.json", GOLDEN "store/sharded/config.json" },
    { "dir/model-00001-of-00004.safetensors",
      GOLDEN "store/sharded/model-00001-of-00004.safetensors" },
    { "dir/model-00002-of-00004.safetensors",
      GOLDEN "store/sharded/model-00002-of-00004.safetensors" },
    { "dir/model-00003-of-00004.safetensors",
      GOLDEN "store/sharded/model-00003-of-00004.safetensors" },
    { "dir/model-00004-of-00004.safetensors",
      GOLDEN "store/sharded/model-00004-of-00004.safetensors" },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct input kept[ARRAY_LEN(files)];
    struct input in = { data, size };
    size_t which = take_byte(&in) % ARRAY_LEN(files);
    struct host *h = begin_host();
    struct store *s = NULL;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        if (!kept[i].at) kept[i] = golden(files[i].path);
        disk_put(files[i].name, kept[i].at, (int64_t)kept[i].n);
    }
    disk_put(files[which].name, in.at, (int64_t)in.n);
    int rc = store_open(h, "dir", true, &s);
    if (read_file(rc, "dir", (int64_t)size)) touch_store(s);
    store_close(s);
    end();
    return 0;
}
