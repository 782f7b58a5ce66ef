/* A receipt: what a result was made of, by hashes, and with which words it is made again.
 *
 *   {"receipt": 1, "libpeft": "0.1.0", "kernels": "avx512", "blas": "...",
 *    "inputs": [{"role": "base", "path": "model.gguf", "sha256": "...", "bytes": 1}, ...],
 *    "words": ["train", "model.gguf", "--data", ...],
 *    "results": {"eval_loss": 1.5, ...},
 *    "files": [{"path": "adapter_model.safetensors", "sha256": "...", "bytes": 1}, ...]}
 *
 * The hash of a folder is that of its sorted entries' names and hashes. */
#include <stdio.h>
#include <stdlib.h>

#include "base/sha256.h"
#include "judge/judge.h"

enum { DEPTH_MAX = 16, WORDS_MAX = 4096, FILES_MAX = 4096 };

struct peft_receipt {
    struct host host;
    struct arena arena;
    peft_receipt_info info;
};

/* ----------------------------------------------------------------- hashes */

struct entries { struct arena *arena; char **name; int64_t n, cap; bool oom; };

static int32_t add_entry(void *ctx, const char *name)
{
    struct entries *e = ctx;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return 0;
    if (e->n == e->cap) {
        int64_t cap = e->cap ? 2 * e->cap : 64;
        char **wider = arena_alloc(e->arena, cap * (int64_t)sizeof *wider);
        if (!wider) return e->oom = true, 1;
        if (e->n) memcpy(wider, e->name, (size_t)e->n * sizeof *wider);
        e->name = wider;
        e->cap = cap;
    }
    e->name[e->n] = arena_strndup(e->arena, name, (int64_t)strlen(name));
    e->oom = !e->name[e->n++];
    return e->oom;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int file_bytes(struct host *h, const char *path, int64_t *bytes)
{
    int32_t err = 0;
    void *file = h->io.open(h->io.ctx, path, 0, &err);
    int64_t n = file ? h->io.length(h->io.ctx, file) : -1;
    if (file) h->io.close(h->io.ctx, file);
    if (n < 0) return fail(PEFT_EIO, "%s: cannot be read", path);
    *bytes += n;
    return PEFT_OK;
}

static int hash_path(struct host *h, const char *path, int depth, char hex[SHA256_HEX],
                     int64_t *bytes);

static int hash_folder(struct host *h, const char *path, int depth, char hex[SHA256_HEX],
                       int64_t *bytes)
{
    struct arena arena;
    struct buf all;
    arena_init(&arena, &h->mem);
    buf_init(&all, &h->mem);
    struct entries e = {.arena = &arena};
    int rc = depth < DEPTH_MAX ? h->io.list(h->io.ctx, path, add_entry, &e) : PEFT_EUNSUPPORTED;
    if (rc < 0) rc = fail(depth < DEPTH_MAX ? PEFT_EIO : rc, "%s: cannot be listed", path);
    if (e.oom) rc = PEFT_ENOMEM;
    if (rc >= 0 && e.n) qsort(e.name, (size_t)e.n, sizeof *e.name, by_name);
    for (int64_t i = 0; i < e.n && rc >= 0; i++) {
        char of[SHA256_HEX], *child = NULL;
        rc = path_join(h, path, e.name[i], &child);
        if (rc >= 0) rc = hash_path(h, child, depth + 1, of, bytes);
        if (rc >= 0) buf_printf(&all, "%s %s\n", of, e.name[i]);
        mem_free(&h->mem, child);
    }
    if (rc >= 0) rc = buf_check(&all);
    if (rc >= 0) sha256(buf_str(&all), all.n, hex);
    buf_free(&all);
    arena_free(&arena);
    return MIN(rc, 0);
}

static int hash_path(struct host *h, const char *path, int depth, char hex[SHA256_HEX],
                     int64_t *bytes)
{
    int kind = path_kind(h, path);
    if (kind == 2) return hash_folder(h, path, depth, hex, bytes);
    if (kind < 1) return fail(PEFT_ENOTFOUND, "%s: not found", path);
    int rc = sha256_file(h, path, hex);
    return rc < 0 ? rc : file_bytes(h, path, bytes);
}

int32_t peft_hash_path(const char *path, char hash[65], int64_t *bytes)
{
    struct host h;
    int64_t n = 0;
    KIT_ARG(path && *path && hash, "no path, or no place for the hash given");
    int rc = host_init(&h, NULL);
    if (rc >= 0) rc = hash_path(&h, path, 0, hash, &n);
    if (rc >= 0 && bytes) *bytes = n;
    return kit_end(rc);
}

/* ---------------------------------------------------------------- writing */

static void put_files(struct buf *b, const peft_receipt_file *files, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        buf_puts(b, i ? ",\n    {" : "\n    {");
        if (files[i].role) {
            buf_puts(b, "\"role\": ");
            buf_json(b, files[i].role, (int64_t)strlen(files[i].role));
            buf_puts(b, ", ");
        }
        buf_puts(b, "\"path\": ");
        buf_json(b, files[i].path, (int64_t)strlen(files[i].path));
        buf_printf(b, ", \"sha256\": \"%.64s\", \"bytes\": %lld}", files[i].hash,
                   (long long)files[i].bytes);
    }
    buf_puts(b, n ? "\n  ]" : "]");
}

static void put_receipt(struct buf *b, const peft_receipt_info *r)
{
    buf_puts(b, "{\n  \"receipt\": 1,\n  \"libpeft\": ");
    buf_json(b, r->version, (int64_t)strlen(r->version));
    buf_puts(b, ",\n  \"kernels\": ");
    buf_json(b, r->kernels, (int64_t)strlen(r->kernels));
    buf_puts(b, ",\n  \"blas\": ");
    buf_json(b, r->blas, (int64_t)strlen(r->blas));
    buf_puts(b, ",\n  \"inputs\": [");
    put_files(b, r->inputs, r->n_inputs);
    buf_puts(b, ",\n  \"words\": [");
    for (int32_t i = 0; i < r->n_words; i++) {
        buf_puts(b, i ? ", " : "");
        buf_json(b, r->words[i], (int64_t)strlen(r->words[i]));
    }
    buf_puts(b, "],\n  \"results\": {");
    for (int32_t i = 0; i < r->n_results; i++) {
        buf_puts(b, i ? ", " : "");
        buf_json(b, r->results[i].name, (int64_t)strlen(r->results[i].name));
        buf_puts(b, ": ");
        buf_number(b, r->results[i].value);
    }
    buf_puts(b, "},\n  \"files\": [");
    put_files(b, r->files, r->n_files);
    buf_puts(b, "\n}\n");
}

static int hash_files(struct host *h, struct arena *a, const char *folder,
                      const peft_receipt_file *from, int32_t n, const peft_receipt_file **out)
{
    peft_receipt_file *to = arena_alloc(a, (n + 1) * (int64_t)sizeof *to);
    int rc = to ? PEFT_OK : PEFT_ENOMEM;
    for (int32_t i = 0; i < n && rc >= 0; i++) {
        char *path = NULL;
        to[i] = from[i];
        to[i].bytes = 0;
        if (folder) rc = path_join(h, folder, from[i].path, &path);
        if (rc >= 0)
            rc = hash_path(h, path ? path : from[i].path, 0, to[i].hash, &to[i].bytes);
        mem_free(&h->mem, path);
    }
    *out = to;
    return rc;
}

int32_t peft_receipt_write(const char *path, const peft_receipt_info *info, const char *folder)
{
    KIT_ARG(path && *path && info, "no path or receipt given");
    struct host h;
    struct arena arena;
    struct buf b;
    peft_receipt_info r;
    peft_system sys = {.size = sizeof sys};
    int rc = take_options(&r, sizeof r, info);
    if (rc >= 0) rc = host_init(&h, NULL);
    if (rc < 0) return kit_end(rc);
    KIT_ARG(r.n_words >= 0 && r.n_words <= WORDS_MAX && r.n_inputs >= 0 && r.n_files >= 0 &&
            r.n_inputs <= FILES_MAX && r.n_files <= FILES_MAX && r.n_results >= 0,
            "%d words, %d inputs, %d files", r.n_words, r.n_inputs, r.n_files);
    arena_init(&arena, &h.mem);
    buf_init(&b, &h.mem);
    char version[32];
    int32_t v = peft_version();
    snprintf(version, sizeof version, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    if (!r.version) r.version = version;
    if ((!r.kernels || !r.blas) && peft_system_info(&sys) >= 0) {
        if (!r.kernels) r.kernels = sys.level;
        if (!r.blas) r.blas = sys.blas;
    }
    if (rc >= 0) rc = hash_files(&h, &arena, NULL, r.inputs, r.n_inputs, &r.inputs);
    if (rc >= 0) rc = hash_files(&h, &arena, folder, r.files, r.n_files, &r.files);
    if (rc >= 0) put_receipt(&b, &r);
    if (rc >= 0) rc = buf_check(&b);
    if (rc >= 0) rc = file_write(&h, path, b.data, b.n);
    buf_free(&b);
    arena_free(&arena);
    return kit_end(rc);
}

/* ---------------------------------------------------------------- reading */

static const char *text_of(struct arena *a, const json *j, const char *key, int *rc)
{
    const char *s = json_string(json_get(j, key));
    if (*rc < 0) return "";
    if (!s) *rc = fail(PEFT_EFORMAT, "\"%s\" of the receipt: expected a string, found %s", key,
                       json_kind_name(json_get(j, key)));
    char *copy = s ? arena_strndup(a, s, (int64_t)strlen(s)) : NULL;
    if (s && !copy) *rc = PEFT_ENOMEM;
    return copy ? copy : "";
}

static int read_files(struct arena *a, const json *list, int role, const peft_receipt_file **out,
                      int32_t *n)
{
    int64_t count = json_kind(list) == JSON_ARRAY ? json_count(list) : -1;
    if (count < 0 || count > FILES_MAX)
        return fail(PEFT_EFORMAT, "files of the receipt: expected a list, found %s",
                    json_kind_name(list));
    peft_receipt_file *to = arena_alloc(a, (count + 1) * (int64_t)sizeof *to);
    int rc = to ? PEFT_OK : PEFT_ENOMEM;
    *out = to;
    for (const json *j = json_first(list); j && rc >= 0; j = json_next(j)) {
        peft_receipt_file *f = &to[(*n)++];
        if (role) f->role = text_of(a, j, "role", &rc);
        f->path = text_of(a, j, "path", &rc);
        snprintf(f->hash, sizeof f->hash, "%s", text_of(a, j, "sha256", &rc));
        int found = json_int(j, "bytes", 0, INT64_C(1) << 53, &f->bytes);
        if (found < 0) rc = found;
    }
    return rc;
}

static int read_words(struct arena *a, const json *list, peft_receipt_info *r)
{
    int64_t count = json_kind(list) == JSON_ARRAY ? json_count(list) : -1;
    if (count < 1 || count > WORDS_MAX)
        return fail(PEFT_EFORMAT, "\"words\" of the receipt: expected a list of strings");
    const char **to = arena_alloc(a, (count + 1) * (int64_t)sizeof *to);
    if (!to) return PEFT_ENOMEM;
    r->words = to;
    for (const json *j = json_first(list); j; j = json_next(j)) {
        const char *s = json_string(j);
        if (!s) return fail(PEFT_EFORMAT, "\"words\" of the receipt: %s in it", json_kind_name(j));
        to[r->n_words] = arena_strndup(a, s, (int64_t)strlen(s));
        if (!to[r->n_words++]) return PEFT_ENOMEM;
    }
    return PEFT_OK;
}

static int read_results(struct arena *a, const json *all, peft_receipt_info *r)
{
    int64_t count = json_kind(all) == JSON_OBJECT ? json_count(all) : 0;
    peft_metric *to = arena_alloc(a, (count + 1) * (int64_t)sizeof *to);
    if (!to) return PEFT_ENOMEM;
    r->results = to;
    for (const json *j = json_first(all); count && j; j = json_next(j)) {
        const char *key = json_key(j);
        char *name = arena_strndup(a, key, (int64_t)strlen(key));
        if (!name) return PEFT_ENOMEM;
        to[r->n_results++] = (peft_metric){name, json_number(j, 0)};
    }
    return PEFT_OK;
}

static int read_receipt(struct peft_receipt *p, const json *j)
{
    struct arena *a = &p->arena;
    peft_receipt_info *r = &p->info;
    int64_t kind = 0;
    int rc = json_kind(j) == JSON_OBJECT ? json_int(j, "receipt", 1, 1, &kind) : 0;
    if (rc == 0) rc = fail(PEFT_EFORMAT, "no receipt: expected an object with \"receipt\": 1");
    if (rc < 0) return rc;
    r->size = sizeof *r;
    r->version = text_of(a, j, "libpeft", &rc);
    r->kernels = text_of(a, j, "kernels", &rc);
    r->blas = text_of(a, j, "blas", &rc);
    if (rc >= 0) rc = read_files(a, json_get(j, "inputs"), 1, &r->inputs, &r->n_inputs);
    if (rc >= 0) rc = read_files(a, json_get(j, "files"), 0, &r->files, &r->n_files);
    if (rc >= 0) rc = read_words(a, json_get(j, "words"), r);
    return rc < 0 ? rc : read_results(a, json_get(j, "results"), r);
}

int32_t peft_receipt_read(const char *path, peft_receipt **out)
{
    KIT_ARG(path && *path && out, "no path, or no place for the receipt given");
    struct host h;
    struct file_view v = {0};
    json *j = NULL;
    *out = NULL;
    int rc = host_init(&h, NULL);
    struct peft_receipt *p = rc < 0 ? NULL : mem_zalloc(&h.mem, sizeof *p);
    if (!p) return kit_end(rc < 0 ? rc : PEFT_ENOMEM);
    p->host = h;
    arena_init(&p->arena, &p->host.mem);
    rc = file_open_view(&p->host, path, false, &v);
    if (rc >= 0) rc = json_parse((const char *)v.data, v.n, "JSON", &j);
    if (rc >= 0) rc = read_receipt(p, j);
    json_free(j);
    file_close_view(&p->host, &v);
    if (rc < 0) {
        rc = fail_path(rc, path);
        peft_receipt_free(p);
        return kit_end(rc);
    }
    *out = p;
    return PEFT_OK;
}

const peft_receipt_info *peft_receipt_get(const peft_receipt *receipt)
{
    return receipt ? &receipt->info : NULL;
}

void peft_receipt_free(peft_receipt *receipt)
{
    if (!receipt) return;
    struct host h = receipt->host;
    arena_free(&receipt->arena);
    mem_free(&h.mem, receipt);
}
