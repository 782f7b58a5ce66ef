/* What the tests of the public API share: a temporary folder, files, a tiny
 * model with a tokenizer, and memory that counts and fails on demand. */
#ifndef TESTS_KIT_H
#define TESTS_KIT_H

#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api.h"
#include "../test.h"

/* --- memory */

struct kit_mem {
    atomic_long live, calls, fail_at;   /* the fail_at-th call fails; 0 = none */
    int forever;                        /* and all after it */
};

static void *kit_alloc(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    struct kit_mem *k = ctx;
    if (new_size == 0) {
        atomic_fetch_sub(&k->live, (long)old_size);
        free(ptr);
        return NULL;
    }
    long call = atomic_fetch_add(&k->calls, 1) + 1, at = atomic_load(&k->fail_at);
    if (at && (call == at || (k->forever && call > at))) return NULL;
    /* Sizes that a hostile file asks for are not what is tested here. */
    void *now = new_size > (size_t)1 << 31 ? NULL : realloc(ptr, new_size);
    if (now) atomic_fetch_add(&k->live, (long)new_size - (long)(ptr ? old_size : 0));
    return now;
}

static struct kit_mem kit_mem;

static peft_load_opts kit_opts(void)
{
    peft_load_opts o = { .size = sizeof(o), .threads = 1, .blas = "none", .alloc = kit_alloc,
                         .alloc_ctx = &kit_mem };
    return o;
}

/* --- failures: a code, and one line that is not empty */

static inline int is_failure(int64_t rc)
{
    const char *s = peft_errmsg();
    return rc < 0 && rc >= PEFT_EDATA && s[0] && !strchr(s, '\n') && strlen(s) > 8;
}
#define REFUSED(call, code) \
    do { \
        long long rc_ = (long long)(call); \
        if (rc_ != (code) || !is_failure(rc_)) { \
            test_bad++; \
            printf("%s:%d: %s is %lld \"%s\", expected %d\n", __FILE__, __LINE__, #call, rc_, \
                   peft_errmsg(), (int)(code)); \
        } \
    } while (0)
#define OK(call) CHECK_EQ(call, PEFT_OK)

/* For what these tests cannot do without. */
#define GIVE_UP() (printf("%s:%d: cannot go on\n", __FILE__, __LINE__), fflush(stdout), exit(1))

/* --- files in a temporary folder */

static char kit_dir[64];

static void kit_begin(void)
{
    snprintf(kit_dir, sizeof(kit_dir), "/tmp/libpeft-test-XXXXXX");
    if (!mkdtemp(kit_dir)) GIVE_UP();
}
static void kit_end(void)
{
    char cmd[96];
    snprintf(cmd, sizeof(cmd), "rm -rf %s", kit_dir);
    if (system(cmd)) GIVE_UP();
}
/* A path in it; a few live at a time. */
static const char *in(const char *fmt, ...)
{
    static _Thread_local char ring[16][256];
    static _Thread_local int next;
    char *s = ring[next++ % 16];
    int n = snprintf(s, 256, "%s/", kit_dir);
    va_list v;
    va_start(v, fmt);
    vsnprintf(s + n, 256 - (size_t)n, fmt, v);
    va_end(v);
    return s;
}
static const char *put_bytes(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) GIVE_UP();
    return path;
}
static inline const char *put(const char *path, const char *text)
{
    return put_bytes(path, text, strlen(text));
}
struct bytes { char *at; size_t n; };
static inline struct bytes get(const char *path)
{
    struct bytes b = { 0 };
    FILE *f = fopen(path, "rb");
    if (!f) GIVE_UP();
    fseek(f, 0, SEEK_END);
    b.n = (size_t)ftell(f);
    rewind(f);
    b.at = calloc(b.n + 1, 1);
    if (!b.at || fread(b.at, 1, b.n, f) != b.n || fclose(f)) GIVE_UP();
    return b;
}
static inline void copy(const char *from, const char *to)
{
    struct bytes b = get(from);
    put_bytes(to, b.at, b.n);
    free(b.at);
}

/* --- a model of 2 layers, 16 wide, with the ChatML tokenizer */

enum { VOCAB = 272, DIM = 16, LEN = 64, LAYERS = 2 };
static const char kit_config[] =
    "{\n  \"model_type\": \"llama\",\n  \"hidden_size\": 16,\n  \"intermediate_size\": 24,\n"
    "  \"num_hidden_layers\": 2,\n  \"num_attention_heads\": 2,\n  \"num_key_value_heads\": 1,\n"
    "  \"head_dim\": 8,\n  \"max_position_embeddings\": 64,\n  \"rms_norm_eps\": 1e-05,\n"
    "  \"rope_theta\": 10000.0,\n  \"hidden_act\": \"silu\",\n"
    "  \"tie_word_embeddings\": true,\n  \"vocab_size\": 272\n}\n";

static void kit_tensor(struct store_out *t, int64_t *n, const char *name, int64_t rows,
                       int64_t cols)
{
    int64_t len = rows * cols;
    float *x = malloc((size_t)len * 4);
    char *kept = strdup(name);
    if (!x || !kept) GIVE_UP();
    rng_fill_normal(x, len, rows == 1 ? 0.01f : 0.2f, 7, (uint64_t)*n);
    for (int64_t i = 0; i < len && rows == 1; i++) x[i] += 1;
    t[(*n)++] = (struct store_out){ .name = kept, .type = &qtype_f32,
        .n_dims = rows == 1 ? 1 : 2, .dims = { rows == 1 ? cols : rows, cols }, .data = x };
}

/* Writes the folder `name`, a model of so many layers; returns its path. */
static inline const char *make_layers(const char *name, int layers)
{
    static const struct { const char *name; int rows, cols; } parts[] = {
        { "input_layernorm", 1, DIM }, { "self_attn.q_proj", 16, DIM },
        { "self_attn.k_proj", 8, DIM }, { "self_attn.v_proj", 8, DIM },
        { "self_attn.o_proj", DIM, 16 }, { "post_attention_layernorm", 1, DIM },
        { "mlp.gate_proj", 24, DIM }, { "mlp.up_proj", 24, DIM }, { "mlp.down_proj", DIM, 24 } };
    struct store_out *t = calloc((size_t)layers * ARRAY_LEN(parts) + 2, sizeof(*t));
    int64_t n = 0;
    struct host h;
    char text[1024];
    const char *dir = in("%s", name), *at = strstr(kit_config, "_layers\": 2");
    if (!t || !at) GIVE_UP();
    mkdir(dir, 0777);
    snprintf(text, sizeof(text), "%.*s_layers\": %d%s", (int)(at - kit_config), kit_config, layers,
             at + 11);
    put(in("%s/config.json", name), text);
    kit_tensor(t, &n, "model.embed_tokens.weight", VOCAB, DIM);
    for (int l = 0; l < layers; l++)
        for (size_t k = 0; k < ARRAY_LEN(parts); k++) {
            snprintf(text, sizeof(text), "model.layers.%d.%s.weight", l, parts[k].name);
            kit_tensor(t, &n, text, parts[k].rows, parts[k].cols);
        }
    kit_tensor(t, &n, "model.norm.weight", 1, DIM);
    if (host_init(&h, NULL) ||
        safetensors_write(&h, in("%s/model.safetensors", name), t, n, NULL, 0))
        GIVE_UP();
    for (int64_t i = 0; i < n; i++) {
        free((void *)(uintptr_t)t[i].name);
        free((void *)(uintptr_t)t[i].data);
    }
    free(t);
    return dir;
}

/* The same of LAYERS, with the tokenizer when `tok`. */
static inline const char *make_model(const char *name, int tok)
{
    const char *dir = make_layers(name, LAYERS);
    if (tok) {
        copy("tests/golden/data/chat/tokenizer.json", in("%s/tokenizer.json", name));
        copy("tests/golden/data/chat/tokenizer_config.json", in("%s/tokenizer_config.json", name));
    }
    return dir;
}

/* The folder `from` as `name`, without the tensors whose names begin so. */
static inline const char *make_without(const char *from, const char *name, const char *start)
{
    struct store_out t[256];
    struct store *s = NULL;
    struct host h;
    char path[256];
    int64_t n = 0;
    mkdir(in("%s", name), 0777);
    snprintf(path, sizeof(path), "%s/config.json", from);
    copy(path, in("%s/config.json", name));
    snprintf(path, sizeof(path), "%s/model.safetensors", from);
    if (host_init(&h, NULL) || store_open_safetensors(&h, path, true, &s)) GIVE_UP();
    for (int64_t i = 0; i < store_count(s); i++) {
        const struct store_tensor *e = store_at(s, i);
        if (strncmp(e->name, start, strlen(start)))
            t[n++] = (struct store_out){ .name = e->name, .type = e->type, .n_dims = e->n_dims,
                                         .dims = { e->dims[0], e->dims[1] }, .data = e->data };
    }
    if (safetensors_write(&h, in("%s/model.safetensors", name), t, n, NULL, 0)) GIVE_UP();
    store_close(s);
    return in("%s", name);
}

/* quant: what linear layers become, or NULL. */
static inline peft_model *load_quant(const char *path, const char *quant)
{
    peft_load_opts o = kit_opts();
    peft_model *m = NULL;
    o.quant = quant;
    OK(peft_model_load(path, &o, &m));
    if (!m) GIVE_UP();
    return m;
}
static inline peft_model *load(const char *path) { return load_quant(path, NULL); }

/* --- data */

static inline const char *rows_file(void)
{
    const char *path = in("rows.jsonl");
    FILE *f = fopen(path, "w");
    if (!f) GIVE_UP();
    for (int r = 0; r < 10; r++) {
        fprintf(f, "{\"input_ids\": [3");
        for (int i = 0; i < 3 + r % 4; i++) fprintf(f, ", %d", 5 + (r * 31 + i * 17) % 200);
        fprintf(f, "]}\n");
    }
    fclose(f);
    return path;
}
static inline const char *chat_file(void)
{
    return put(in("chat.jsonl"),
               "{\"messages\": [{\"role\": \"user\", \"content\": \"hello\"}, "
               "{\"role\": \"assistant\", \"content\": \"a\"}]}\n"
               "{\"messages\": [{\"role\": \"user\", \"content\": \"user\"}, "
               "{\"role\": \"assistant\", \"content\": \"b\"}]}\n");
}
static inline const char *label_file(void)
{
    const char *path = in("labels.jsonl");
    FILE *f = fopen(path, "w");
    if (!f) GIVE_UP();
    for (int r = 0; r < 9; r++)
        fprintf(f, "{\"text\": \"hello %c%c\", \"label\": \"%s\"}\n", 'a' + r, 'k' + r,
                r % 3 == 0 ? "bad" : r % 3 == 1 ? "good" : "so-so");
    fclose(f);
    return path;
}
static const char *const kit_labels[] = { "bad", "good", "so-so" };

static inline peft_dataset *data(const peft_model *m, const char *path)
{
    peft_dataset *d = NULL;
    OK(peft_dataset_load(m, path, NULL, &d));
    if (!d) GIVE_UP();
    return d;
}

/* --- looking */

static inline peft_info info_of(const peft_model *m)
{
    peft_info i = { .size = sizeof(i) };
    OK(peft_model_info(m, &i));
    return i;
}

static const int32_t kit_ids[6] = { 3, 50, 100, 150, 200, 250 };

static inline void logits(peft_model *m, float *z) { OK(peft_forward(m, kit_ids, 6, z)); }

enum { N_LOGITS = 6 * VOCAB };
static inline double distance(const float *a, const float *b, int n)
{
    double worst = 0;
    for (int i = 0; i < n; i++) worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

#endif
