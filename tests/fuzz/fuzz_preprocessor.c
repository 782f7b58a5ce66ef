/* preprocessor_config.json of a model of pictures.  First byte: 0 the input is
 * that file, else config.json. */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct input tensors, config;
    struct input in = { data, size };
    int which = take_byte(&in);
    peft_model *m = NULL;
    if (!tensors.at) {
        tensors = golden(GOLDEN "vision/odd/model.safetensors");
        config = golden(GOLDEN "vision/odd/config.json");
    }
    begin();
    disk_put("dir/model.safetensors", tensors.at, (int64_t)tensors.n);
    disk_put("dir/config.json", config.at, (int64_t)config.n);
    disk_put(which ? "dir/config.json" : "dir/preprocessor_config.json", in.at, (int64_t)in.n);
    int rc = peft_model_load("dir", memory_opts(), &m);
    if (read_file(rc, "dir", (int64_t)(tensors.n + config.n + in.n))) {
        peft_info i = { .size = sizeof(i) };
        RULE(peft_model_info(m, &i) == PEFT_OK);
    }
    peft_model_free(m);
    end();
    return 0;
}
