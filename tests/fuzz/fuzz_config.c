/* config.json of a whole model.  First byte: whose tensors lie beside it. */
#include "fuzz/fuzz.h"

static const char *const families[] = {
    "bert", "bloom", "distilbert", "falcon", "falcon_grouped", "gemma", "gemma2", "gemma3", "gpt2",
    "gpt_neox", "llama_cls", "mistral", "mixtral", "modernbert", "olmo2", "opt", "phi", "phi3",
    "qwen2_window", "qwen3", "qwen3_moe", "roberta", "smollm3", "starcoder2", "xlm_roberta",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct input kept[ARRAY_LEN(families)];
    struct input in = { data, size };
    size_t i = take_byte(&in) % ARRAY_LEN(families);
    peft_model *m = NULL;
    char path[128];
    snprintf(path, sizeof(path), GOLDEN "tiny/%s/model.safetensors", families[i]);
    if (!kept[i].at) kept[i] = golden(path);
    begin();
    disk_put("dir/model.safetensors", kept[i].at, (int64_t)kept[i].n);
    disk_put("dir/config.json", in.at, (int64_t)in.n);
    int rc = peft_model_load("dir", memory_opts(), &m);
    if (read_file(rc, "dir", (int64_t)(kept[i].n + in.n))) use_model(m);
    peft_model_free(m);
    end();
    return 0;
}
