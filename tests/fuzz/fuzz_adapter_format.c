/* Adapters of other formats.  First byte: 0 the input is a GGUF file; else of MLX-LM's
 * folder bit 0 the tensors or the config, the rest which golden one the other is of. */
#include "fuzz/fuzz.h"

static const char *const kinds[] = { "mlx_lora", "mlx_keys", "mlx_dora", "mlx_full" };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct input kept[ARRAY_LEN(kinds)][2];
    static peft_model *m;
    struct input in = { data, size };
    uint8_t first = take_byte(&in);
    size_t i = first / 2 % ARRAY_LEN(kinds);
    heap_hooks();
    if (!m) m = golden_base();
    char dir[64];
    snprintf(dir, sizeof(dir), "formats/%s", kinds[i]);
    golden_adapter(dir, "adapters.safetensors", kept[i]);
    begin();
    if (!first) {
        disk_put("a.gguf", in.at, (int64_t)in.n);
        use_adapter(m, "a.gguf", (int64_t)in.n);
    } else {
        int64_t n = put_adapter("adapters.safetensors", first & 1, in, kept[i]);
        use_adapter(m, "dir", n);
    }
    disk_clear();
    return 0;
}
