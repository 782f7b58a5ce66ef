/* An adapter's folder.  First byte: bit 0 the input is the tensors, else the
 * config; the rest which golden adapter the other file is of. */
#include "fuzz/fuzz.h"

static const char *const kinds[] = {
    "lora", "dora", "lora_bias", "lora_mts", "lora_pattern", "lora_seqcls", "rslora", "ia3", "ln",
    "loha", "lokr", "lora_embed", "oft", "vera", "prompt", "ptuning", "prefix",
};

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
        snprintf(path, sizeof(path), GOLDEN "peft/%s/adapter_config.json", kinds[i]);
        config[i] = golden(path);
        snprintf(path, sizeof(path), GOLDEN "peft/%s/adapter_model.safetensors", kinds[i]);
        tensors[i] = golden(path);
    }
    begin();
    struct input c = first & 1 ? config[i] : in, t = first & 1 ? in : tensors[i];
    disk_put("dir/adapter_config.json", c.at, (int64_t)c.n);
    disk_put("dir/adapter_model.safetensors", t.at, (int64_t)t.n);
    use_adapter(m, "dir", (int64_t)(c.n + t.n));
    peft_adapter_report r = { .size = sizeof(r) };
    peft_check_opts o = { .size = sizeof(o), .base = m };
    int rc = peft_adapter_check("dir", &o, &r);
    if (read_file(rc, "dir", (int64_t)(c.n + t.n))) RULE(r.n_readers == 3);
    disk_clear();
    return 0;
}
