/* A data file.  First byte: bit 0 CSV, bit 1 an encoder, bit 2 a head with
 * labels, bit 3 no tokenizer, bit 4 prompts are trained, bit 5 short rows, bit 7
 * new names of columns; CSV with bit 3 is plain text in chunks. */
#include "fuzz/fuzz.h"

static void use_rows(struct dataset *d, int vocab)
{
    struct dataset *eval = NULL;
    struct batcher *b = NULL;
    struct batch_opts o = { .batch = 2, .packing = d->n % 2 == 0, .max_len = 64, .shuffle = 1 };
    for (int64_t i = 0; i < d->n; i++) {
        const struct example *x = &d->rows[i];
        RULE(x->n > 0 && x->n <= d->max_len && x->second >= 0 && x->second <= x->n);
        RULE(d->task != TASK_CLASS || x->label < MAX(d->n_labels, 1));
        RULE(x->n_classes >= 0 && x->span[0] <= x->span[1] && x->span[1] < x->n);
        for (int32_t k = 0; x->ends && k < d->texts; k++)
            RULE(x->ends[k] <= x->n && x->ends[k] >= (k ? x->ends[k - 1] : 0));
        for (int32_t k = 0; k < x->n; k++) {
            RULE(x->ids[k] >= 0 && x->ids[k] < vocab);
            RULE(!x->labels || (x->labels[k] >= -100 && x->labels[k] < vocab));
        }
    }
    if (fine(batcher_new(d, &o, &b))) {
        int64_t n = batcher_count(b, 0), rows = 0;
        for (int64_t i = 0; i < n; i++) rows += batcher_get(b, 0, i)->n_rows;
        RULE(rows == d->n);
        batcher_free(b);
    }
    if (fine(data_split(d, 0.3, 1, &eval))) data_free(eval);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const labels[] = { "bad", "good" };
    static struct tokenizer *tok[2];
    static struct host tok_host;
    struct input in = { data, size };
    struct dataset *d = NULL;
    uint8_t bits = take_byte(&in);
    int bert = bits >> 1 & 1;
    bool chunks = (bits & 9) == 9;
    const char *name = chunks ? "f.txt" : bits & 1 ? "f.csv" : "f.jsonl";
    if (!tok[0]) {
        heap_hooks();
        RULE(host_init(&tok_host, NULL) == PEFT_OK);
        RULE(tok_open_folder(&tok_host, GOLDEN "data/chat", &tok[0]) == PEFT_OK);
        RULE(tok_open_folder(&tok_host, GOLDEN "data/bert", &tok[1]) == PEFT_OK);
    }
    struct host *h = begin_host();
    struct data_opts o = { .max_len = bits & 32 ? 7 : 64, .vocab = 300, .causal = !bert,
                           .train_on_prompt = bits >> 4 & 1, .labels = bits & 4 ? labels : NULL,
                           .n_labels = bits & 4 ? 2 : 0, .system = bits & 64 ? "be brief" : NULL,
                           .source = { .chunk = chunks ? 20 : 0,
                                       .columns = bits & 128 ? "text=a,label=text" : NULL } };
    disk_put(name, in.at, (int64_t)in.n);
    int rc = data_load(h, bits & 8 && !chunks ? NULL : tok[bert], name, &o, &d);
    if (read_file(rc, name, (int64_t)size)) use_rows(d, 300);
    data_free(d);
    end();
    return 0;
}
