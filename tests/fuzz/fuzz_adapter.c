/* An adapter's folder.  First byte: bit 0 the input is the tensors, else the
 * config; the rest which golden adapter the other file is of. */
#include "fuzz/fuzz.h"

static const char *const kinds[] = {
    "lora", "dora", "lora_bias", "lora_mts", "lora_pattern", "lora_seqcls", "rslora", "ia3", "ln",
    "loha", "lokr", "lora_embed", "oft", "vera", "prompt", "ptuning", "prefix",
};

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
    snprintf(dir, sizeof(dir), "peft/%s", kinds[i]);
    golden_adapter(dir, "adapter_model.safetensors", kept[i]);
    begin();
    int64_t n = put_adapter("adapter_model.safetensors", first & 1, in, kept[i]);
    use_adapter(m, "dir", n);
    peft_adapter_report r = { .size = sizeof(r) };
    peft_check_opts o = { .size = sizeof(o), .base = m };
    int rc = peft_adapter_check("dir", &o, &r);
    if (read_file(rc, "dir", n)) RULE(r.n_readers == 3);
    disk_clear();
    return 0;
}
