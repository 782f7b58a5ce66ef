/* What the fuzz targets share: files in memory (disk.h), memory that is
 * counted, and the rules that hold for every input:
 *
 *   a failure has a code and a message of one line;
 *   what was taken is given back;
 *   a file takes at most eight times its size and 32 MiB.
 *
 * A broken rule ends the program, as a crash does. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <malloc.h>
#include <stdlib.h>

#include <cJSON.h>

#include "api/api.h"
#include "disk.h"

#define GOLDEN "tests/golden/"

static int64_t heap_live, heap_peak;

static inline void heap_count(int64_t change)
{
    heap_live += change;
    heap_peak = MAX(heap_peak, heap_live);
}
static inline void *heap_alloc(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    (void)ctx;
    if (new_size == 0) {
        heap_count(-(int64_t)old_size);
        free(ptr);
        return NULL;
    }
    void *now = new_size > (size_t)1 << 30 ? NULL : realloc(ptr, new_size);
    if (now) heap_count((int64_t)new_size - (int64_t)(ptr ? old_size : 0));
    return now;
}
static inline void *tree_alloc(size_t n)
{
    void *p = malloc(n);
    if (p) heap_count((int64_t)malloc_usable_size(p));
    return p;
}
static inline void tree_free(void *p)
{
    if (p) heap_count(-(int64_t)malloc_usable_size(p));
    free(p);
}

#define RULE(cond) \
    do { \
        if (!(cond)) { \
            fprintf(stderr, "%s:%d: broken: %s [%s]\n", __FILE__, __LINE__, #cond, \
                    error_message()); \
            abort(); \
        } \
    } while (0)

/* cJSON has one allocator for the whole program, so each target sets its own
 * whenever it is about to run. */
static inline void heap_hooks(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){ .malloc_fn = tree_alloc, .free_fn = tree_free });
}

/* --- one input */

static int64_t heap_before;

static inline const peft_load_opts *memory_opts(void)
{
    static const peft_load_opts o = { .size = sizeof(o), .threads = 1, .blas = "none",
                                      .alloc = heap_alloc, .io = &disk_io };
    return &o;
}
static inline void begin(void)
{
    heap_hooks();
    error_clear();
    heap_before = heap_peak = heap_live;
}
/* A host whose files are those of disk.h. */
static inline struct host *begin_host(void)
{
    static struct host h;
    begin();
    RULE(host_init(&h, memory_opts()) == PEFT_OK);
    return &h;
}
/* Checks a result; 1 = it is a success. */
static inline int fine(int64_t rc)
{
    const char *s = error_message();
    if (rc >= 0) return 1;
    RULE(rc >= PEFT_EDATA && s[0] && !strchr(s, '\n'));
    return 0;
}
/* The result of reading the file or folder `path` with n bytes in all: what it
 * took, and whether a message names it; the arguments are right. */
static inline int read_file(int64_t rc, const char *path, int64_t n)
{
    RULE(heap_peak - heap_before <= 8 * n + (32 << 20));
    RULE(rc >= 0 || (rc != PEFT_EARG && strstr(error_message(), path)));
    return fine(rc);
}
static inline void end(void)
{
    RULE(heap_live == heap_before);
    disk_clear();
}

/* --- cutting an input: parts of texts end with a NUL, the last with the input */

struct input { const uint8_t *at; size_t n; };

static inline uint8_t take_byte(struct input *in)
{
    if (!in->n) return 0;
    in->n--;
    return *in->at++;
}
/* The next part as a file, unless it is empty. */
static inline void take_file(struct input *in, const char *name)
{
    const uint8_t *nul = in->n ? memchr(in->at, 0, in->n) : NULL;
    size_t n = nul ? (size_t)(nul - in->at) : in->n;
    if (n) disk_put(name, in->at, (int64_t)n);
    in->at += n + (nul != NULL);
    in->n -= n + (nul != NULL);
}

/* A file of the repository, with a NUL behind it; kept for the whole run. */
static inline struct input golden(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct input b = { 0 };
    char *data = NULL;
    if (f && !fseek(f, 0, SEEK_END)) b.n = (size_t)ftell(f);
    if (f) rewind(f), data = calloc(b.n + 1, 1);
    if (!data || fread(data, 1, b.n, f) != b.n) {
        fprintf(stderr, "%s: cannot be read; run from the top folder\n", path);
        abort();
    }
    fclose(f);
    b.at = (const uint8_t *)data;
    return b;
}
static inline void put_golden(const char *name, const char *path)
{
    struct input b = golden(path);
    disk_put(name, b.at, (int64_t)b.n);
    free((void *)(uintptr_t)b.at);
}

/* --- using what was opened */

static volatile uint32_t sink;

static inline void touch(const void *data, int64_t n)
{
    for (int64_t i = 0; i < n; i++) sink += ((const uint8_t *)data)[i];
}
static inline void touch_store(const struct store *s)
{
    for (int64_t i = 0; i < store_count(s); i++) {
        const struct store_tensor *t = store_at(s, i);
        int64_t count = 1, bytes;
        for (int32_t k = 0; k < t->n_dims; k++) RULE(mul_ok(count, t->dims[k], &count));
        RULE(t->n_dims <= 4 && count == t->count);
        RULE(qtype_bytes(t->type, count, &bytes) && bytes == t->bytes);
        RULE(t->type->block > 1 || (uintptr_t)t->data % (uintptr_t)t->type->bytes == 0);
        RULE(store_find(s, t->name) == t);
        touch(t->data, t->bytes);
    }
}
/* Encodes, decodes and looks up; `text` need not be UTF-8. */
static inline void use_tokenizer(struct host *h, const struct tokenizer *t, const char *text,
                                 int64_t n)
{
    struct ids ids, types;
    struct buf b;
    ids_init(&ids, &h->mem);
    ids_init(&types, &h->mem);
    buf_init(&b, &h->mem);
    for (int flags = 0; flags < 4; flags++) {
        ids.n = 0;
        if (!fine(tok_encode(h, t, text, n, flags, &ids))) break;
        for (int64_t i = 0; i < ids.n; i++) {
            RULE(ids.v[i] >= 0 && ids.v[i] < tok_info(t)->n_vocab);
            if (i < 64) fine(tok_piece(t, ids.v[i], &b));
        }
        buf_clear(&b);
        fine(tok_decode(t, ids.v, ids.n, flags & DETOK_SKIP, &b));
    }
    fine(tok_encode_pair(h, t, text, n, text, MIN(n, 5), &ids, &types));
    ids_free(&ids);
    ids_free(&types);
    buf_free(&b);
}
static const char sample[] = "Hello, the cat's 12345 d\xc3\xb6gs <s></s>\n\n  \xe2\x96\x81 "
                             "\xe4\xbd\xa0\xe5\xa5\xbd [MASK]<|im_end|> runs! e\xcc\x81";

static inline int32_t list_kv(struct host *h, const struct tokenizer *t)
{
    struct arena a;
    struct gguf_kv *kv;
    int64_t n;
    arena_init(&a, &h->mem);
    int rc = tok_gguf_kv(h, t, &a, &kv, &n);
    for (int64_t i = 0; fine(rc) && i < n; i++) touch(kv[i].raw, kv[i].n);
    arena_free(&a);
    return rc;
}
/* The tokenizer of the folder "dir": opened, used, closed. */
static inline void run_tokenizer_folder(struct host *h, int64_t size)
{
    struct tokenizer *t;
    struct buf b;
    int rc = tok_open_folder(h, "dir", &t);
    if (read_file(rc, "dir", size)) {
        const struct message m[] = { { "user", "hello" }, { "assistant", "a" } };
        use_tokenizer(h, t, sample, (int64_t)sizeof sample - 1);
        list_kv(h, t);
        buf_init(&b, &h->mem);
        fine(chat_render(t, m, 2, 0, &b));
        fine(chat_render(t, m, 1, 1, &b));
        buf_free(&b);
    }
    tok_free(rc ? NULL : t);
}
/* A model that was loaded: some logits and all names. */
static inline void use_model(peft_model *m)
{
    static float z[8 * 1024];
    int32_t ids[8];
    peft_info i = { .size = sizeof(i) };
    RULE(peft_model_info(m, &i) == PEFT_OK && i.vocab > 0 && i.layers > 0);
    int32_t n = MIN(i.max_len, 8);
    for (int32_t k = 0; k < n; k++) ids[k] = (int32_t)((int64_t)k * 37 % i.vocab);
    if (i.vocab > 1024 || i.labels > 1024 || i.dim > 1024 || i.layers > 16) return;
    fine(peft_forward(m, ids, n, z));
    if (i.dim <= 1024) fine(peft_embed(m, ids, n, 1, z));
}

/* --- help for libFuzzer where the format has lengths */
#ifdef FUZZING
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
#endif
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- adapters */

/* The base of the golden adapters. */
static inline peft_model *golden_base(void)
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

/* A golden adapter's config and tensors, read once. */
static inline void golden_adapter(const char *dir, const char *tensors, struct input out[2])
{
    char path[128];
    if (out[0].at) return;
    snprintf(path, sizeof(path), GOLDEN "%s/adapter_config.json", dir);
    out[0] = golden(path);
    snprintf(path, sizeof(path), GOLDEN "%s/%s", dir, tensors);
    out[1] = golden(path);
}

/* A folder whose config (which 0) or tensors (1) are the input, the other golden; returns
 * its bytes. */
static inline int64_t put_adapter(const char *tensors, int which, struct input in,
                                  const struct input other[2])
{
    struct input c = which ? other[0] : in, t = which ? in : other[1];
    char path[128];
    snprintf(path, sizeof(path), "dir/%s", tensors);
    disk_put("dir/adapter_config.json", c.at, (int64_t)c.n);
    disk_put(path, t.at, (int64_t)t.n);
    return (int64_t)(c.n + t.n);
}

/* The adapter at `path`, of n bytes: loaded, used, removed. */
static inline void use_adapter(peft_model *m, const char *path, int64_t n)
{
    int rc = peft_adapter_load(m, "x", path);
    if (read_file(rc, path, n)) {
        use_model(m);
        RULE(peft_adapter_remove(m, "x") == PEFT_OK);
    }
    peft_info info = { .size = sizeof(info) };
    RULE(peft_model_info(m, &info) == PEFT_OK && info.n_adapters == 0);
}

#endif
