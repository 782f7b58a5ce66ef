/* An adapter's folder.  First byte: bit 0 the input is the tensors, else the
 * config; the rest which golden adapter the other file is of. */
#include "fuzz/fuzz.h"

static const char *const kinds[] = {
    "lora", "dora", "lora_bias", "lora_mts", "lora_pattern", "lora_seqcls", "rslora", "ia3", "ln",
    "loha", "lokr", "lora_embed", "oft", "vera",
};

static peft_model *base(void)
{
    peft_model *m = NULL;
    put_golden("base/config.json", GOLDEN "peft/base_llama/config.json");
    put_golden("base/model.safetensors", GOLDEN "peft/base_llama/model.safetensors");
    peft_load_opts o = *memory_opts();
    o.no_map = 1;
    RULE(peft_model_load("base/model.safetensors", &o, &m) == PEFT_OK);
    disk_clear();
    use_model(m);                   /* what it makes at its first use */
    return m;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct input config[ARRAY_LEN(kinds)], tensors[ARRAY_LEN(kinds)];
    static peft_model *m;
    struct input in = { data, size };
    uint8_t first = take_byte(&in);
    size_t i = first / 2 % ARRAY_LEN(kinds);
    heap_hooks();
    if (!m) m = base();
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
    int rc = peft_adapter_load(m, "x", "dir");
    if (read_file(rc, "dir", (int64_t)(c.n + t.n))) {
        use_model(m);
        RULE(peft_adapter_remove(m, "x") == PEFT_OK);
    }
    peft_adapter_report r = { .size = sizeof(r) };
    peft_check_opts o = { .size = sizeof(o), .base = m };
    rc = peft_adapter_check("dir", &o, &r);
    if (read_file(rc, "dir", (int64_t)(c.n + t.n))) RULE(r.n_readers == 3);
    peft_info info = { .size = sizeof(info) };
    RULE(peft_model_info(m, &info) == PEFT_OK && info.n_adapters == 0);
    disk_clear();
    return 0;
}
