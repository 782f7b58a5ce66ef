/* A checkpoint's folder, resumed.  First byte: 0 the input is trainer.json,
 * else state.safetensors. */
#include <unistd.h>

#include "fuzz/fuzz.h"

static struct input position, state;

/* One step, saved to a real folder, whose files then live in memory. */
static peft_trainer *start(void)
{
    static const char rows[] = "{\"input_ids\": [1, 5, 9, 7]}\n{\"input_ids\": [1, 4, 8]}\n"
                               "{\"input_ids\": [1, 3]}\n{\"input_ids\": [1, 2, 6, 7, 8]}\n";
    peft_load_opts o = *memory_opts();
    peft_adapter_opts lora = { .size = sizeof(lora), .rank = 1, .targets = "q_proj" };
    peft_train_opts train = { .size = sizeof(train), .steps = 5, .batch = 2 };
    char dir[] = "/tmp/libpeft-fuzz-XXXXXX", path[64];
    peft_model *m = NULL;
    peft_dataset *d = NULL;
    peft_trainer *t = NULL;
    o.no_map = 1;
    put_golden("base/config.json", GOLDEN "peft/base_llama/config.json");
    put_golden("base/model.safetensors", GOLDEN "peft/base_llama/model.safetensors");
    disk_puts("rows.jsonl", rows);
    RULE(peft_model_load("base/model.safetensors", &o, &m) == PEFT_OK);
    RULE(peft_adapter_add(m, "x", &lora) == PEFT_OK);
    RULE(peft_dataset_load(m, "rows.jsonl", NULL, &d) == PEFT_OK);
    RULE(peft_trainer_new(m, d, &train, &t) == PEFT_OK && peft_train_step(t, NULL) == PEFT_OK);
    disk_clear();
    struct peft_io memory = model_of(m)->host.io, system = { .size = sizeof(system) };
    RULE(peft_io_default(&system) == PEFT_OK && mkdtemp(dir));
    model_of(m)->host.io = system;
    snprintf(path, sizeof(path), "%s/c", dir);
    RULE(peft_trainer_save(t, path) == PEFT_OK);
    snprintf(path, sizeof(path), "%s/c/trainer.json", dir);
    position = golden(path);
    remove(path);
    snprintf(path, sizeof(path), "%s/c/state.safetensors", dir);
    state = golden(path);
    remove(path);
    snprintf(path, sizeof(path), "%s/c", dir);
    RULE(!rmdir(path) && !rmdir(dir));
    model_of(m)->host.io = memory;
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static peft_trainer *t;
    struct input in = { data, size };
    int which = take_byte(&in);
    heap_hooks();
    if (!t) t = start();
    begin();
    struct input p = which ? position : in, s = which ? in : state;
    disk_put("dir/trainer.json", p.at, (int64_t)p.n);
    disk_put("dir/state.safetensors", s.at, (int64_t)s.n);
    int rc = peft_trainer_resume(t, "dir");
    if (read_file(rc, "dir", (int64_t)(p.n + s.n))) {
        RULE(trainer_of(t)->step <= trainer_of(t)->steps);
        rc = peft_train_step(t, NULL);
        fine(rc == PEFT_EEND ? PEFT_OK : rc);
    }
    end();
    return 0;
}
