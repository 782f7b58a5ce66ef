/* Adapters of other formats.  First byte: 0 the input is a GGUF file; else of MLX-LM's
 * folder bit 0 the tensors or the config, the rest which golden one the other is of. */
#include "fuzz/fuzz.h"

static const char *const kinds[] = { "mlx_lora", "mlx_keys", "mlx_dora", "mlx_full" };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct input config[ARRAY_LEN(kinds)], tensors[ARRAY_LEN(kinds)];
    static peft_model *m;
    struct input in = { data, size };
    uint8_t first = take_byte(&in);
    size_t i = first / 2 % ARRAY_LEN(kinds);
    heap_hooks();
    if (!m) m = golden_base();
    if (!config[i].at) {
        char path[128];
        snprintf(path, sizeof(path), GOLDEN "formats/%s/adapter_config.json", kinds[i]);
        config[i] = golden(path);
        snprintf(path, sizeof(path), GOLDEN "formats/%s/adapters.safetensors", kinds[i]);
        tensors[i] = golden(path);
    }
    begin();
    if (!first) {
        disk_put("a.gguf", in.at, (int64_t)in.n);
        use_adapter(m, "a.gguf", (int64_t)in.n);
    } else {
        struct input c = first & 1 ? config[i] : in, t = first & 1 ? in : tensors[i];
        disk_put("dir/adapter_config.json", c.at, (int64_t)c.n);
        disk_put("dir/adapters.safetensors", t.at, (int64_t)t.n);
        use_adapter(m, "dir", (int64_t)(c.n + t.n));
    }
    disk_clear();
    return 0;
}
