/* Text of any bytes through several tokenizers; the first byte picks one. */
#include "fuzz/fuzz.h"

static const char *const folders[] = {
    "kinds/bert", "kinds/bert-accents", "kinds/bert-cased", "kinds/bert-words", "kinds/bloom",
    "kinds/cl100k", "kinds/falcon", "kinds/gemma", "kinds/gpt2", "kinds/gpt2-prefix",
    "kinds/llama2", "kinds/llama3", "kinds/metaspace", "kinds/metaspace-first", "kinds/nfkc",
    "kinds/nfkd", "kinds/qwen2", "kinds/roberta", "kinds/smollm", "kinds/spm-unk",
    "kinds/spm-unk-each",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *tok[ARRAY_LEN(folders)];
    static struct host tok_host;
    struct input in = { data, size };
    size_t i = take_byte(&in) % ARRAY_LEN(folders);
    heap_hooks();
    if (!tok[i]) {
        char path[128];
        snprintf(path, sizeof(path), GOLDEN "tokenizers/%s", folders[i]);
        RULE(host_init(&tok_host, NULL) == PEFT_OK);
        RULE(tok_open_folder(&tok_host, path, &tok[i]) == PEFT_OK);
    }
    struct host *h = begin_host();
    const char *text = (const char *)in.at;
    int64_t n = (int64_t)in.n;
    struct ids ids;
    ids_init(&ids, &h->mem);
    int rc = tok_encode(h, tok[i], text, n, 0, &ids);
    RULE(fine(rc) == (utf8_check(text, n) == n));
    ids_free(&ids);
    use_tokenizer(h, tok[i], text, n);
    end();
    return 0;
}
