/* A model that bitsandbytes quantised.  First byte: which, and in bit 3 what the
 * input is: the text of a quant_state (0), or places and values of bytes, three
 * at a time, that are changed in the tensors' file. */
#include "fuzz/fuzz.h"

static const char *const kinds[] = { "fp4_dq", "fp4_f16", "gpt2_nf4", "int8", "nf4",
                                     "nf4_dq_bf16" };

/* The first quant_state's place in the file; 0 = none. */
static size_t state_place(struct input file, size_t *n)
{
    struct store *s = NULL;
    size_t at = 0;
    struct host *h = begin_host();
    disk_put("f.safetensors", file.at, (int64_t)file.n);
    RULE(store_open_safetensors(h, "f.safetensors", true, &s) == PEFT_OK);
    for (int64_t i = 0; i < store_count(s) && !at; i++) {
        const struct store_tensor *t = store_at(s, i);
        if (!strstr(t->name, "quant_state")) continue;
        at = (size_t)((const uint8_t *)t->data - file_at("f.safetensors")->data);
        *n = (size_t)t->bytes;
    }
    store_close(s);
    disk_clear();
    return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct input config[ARRAY_LEN(kinds)], tensors[ARRAY_LEN(kinds)];
    static size_t place[ARRAY_LEN(kinds)], room[ARRAY_LEN(kinds)];
    struct input in = { data, size };
    uint8_t first = take_byte(&in);
    size_t i = first % 8 % ARRAY_LEN(kinds);
    peft_model *m = NULL;
    if (!config[i].at) {
        char path[128];
        snprintf(path, sizeof(path), GOLDEN "bnb/%s/config.json", kinds[i]);
        config[i] = golden(path);
        snprintf(path, sizeof(path), GOLDEN "bnb/%s/model.safetensors", kinds[i]);
        tensors[i] = golden(path);
        place[i] = state_place(tensors[i], &room[i]);
    }
    begin();
    disk_put("dir/config.json", config[i].at, (int64_t)config[i].n);
    disk_put("dir/model.safetensors", tensors[i].at, (int64_t)tensors[i].n);
    uint8_t *file = file_at("dir/model.safetensors")->data;
    if (!(first & 8) && place[i] && in.n) {
        memset(file + place[i], ' ', room[i]);
        memcpy(file + place[i], in.at, MIN(in.n, room[i]));
    }
    for (size_t k = 0; (first & 8) && k + 3 <= in.n; k += 3)
        file[(in.at[k] + 256u * in.at[k + 1]) % tensors[i].n] = in.at[k + 2];
    int rc = peft_model_load("dir", memory_opts(), &m);
    if (read_file(rc, "dir", (int64_t)(config[i].n + tensors[i].n))) use_model(m);
    peft_model_free(m);
    end();
    return 0;
}
