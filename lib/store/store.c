/* Containers of named tensors: opening, looking up, and the checks that all
 * formats share.  A file is told by its first bytes, never by its name. */
#include "base/pool.h"
#include "store/impl.h"

/* --- opening and closing */

int store_new(struct host *h, const char *path, struct store **out)
{
    struct store *s = mem_zalloc(&h->mem, (int64_t)sizeof *s);
    if (!s) return PEFT_ENOMEM;
    s->h = h;
    arena_init(&s->arena, &h->mem);
    map_init(&s->names, &h->mem);
    map_init(&s->keys, &h->mem);
    s->path = arena_strndup(&s->arena, path, (int64_t)strlen(path));
    if (!s->path) {
        store_close(s);
        return PEFT_ENOMEM;
    }
    *out = s;
    return PEFT_OK;
}

/* The view whose pages the system holds and that has these bytes, or NULL. */
static const struct file_view *mapped_view(const struct store *s, const void *data)
{
    const uint8_t *at = data;
    peft_io os = { .size = sizeof os };
    if (os_io_default(&os) || s->h->io.map != os.map) return NULL;
    for (int64_t i = 0; i < s->n_views; i++) {
        const struct file_view *v = &s->views[i];
        if (v->mapped && at >= v->data && at < v->data + v->n) return v;
    }
    return NULL;
}

bool store_mapped(const struct store *s, const void *data)
{
    return mapped_view(s, data) != NULL;
}

/* A page that is read brings its neighbours along (Linux: those of the same 64 KB), so they
 * are forgotten too. */
void store_forget(const struct store *s, const void *data, int64_t n)
{
    enum { AROUND = 64 * 1024 };
    const struct file_view *v = mapped_view(s, data);
    const uint8_t *at = data;
    if (!v || n > v->data + v->n - at) return;
    int64_t begin = MAX(at - v->data - AROUND, 0), end = MIN(at - v->data + n + AROUND, v->n);
    os_forget(v->data + begin, end - begin);
}

int64_t store_header(const struct store *s)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < s->n_views; i++)
        if (store_mapped(s, s->views[i].data)) bytes += s->views[i].n;
    for (int64_t i = 0; i < store_count(s) && bytes > 0; i++)
        bytes -= store_at(s, i)->bytes;
    return MAX(bytes, 0);
}

void store_close(struct store *s)
{
    if (!s) return;
    struct mem *m = &s->h->mem;
    for (int64_t i = 0; i < s->n_views; i++) file_close_view(s->h, &s->views[i]);
    json_free(s->config);
    map_free(&s->names);
    map_free(&s->keys);
    arena_free(&s->arena);
    mem_free(m, s->views);
    mem_free(m, s->tensors);
    mem_free(m, s->settings);
    mem_free(m, s);
}

/* A safetensors file says nothing about the model: config.json beside it does. */
static int config_beside(struct store *s, const char *path)
{
    int64_t dir_n = path_base(path) - path;
    int64_t name_n = (int64_t)sizeof "config.json";
    char *config = arena_alloc(&s->arena, dir_n + name_n);
    if (!config) return PEFT_ENOMEM;
    memcpy(config, path, (size_t)dir_n);
    memcpy(config + dir_n, "config.json", (size_t)name_n);
    if (path_kind(s->h, config) != 1)
        return fail(PEFT_ENOTFOUND, "%s: there is no %s, which describes the model", path, config);
    return config_read(s, config);
}

static int open_any(struct host *h, const char *path, bool map, struct store **out)
{
    int kind = path_kind(h, path);
    if (kind < 0) return kind;
    if (kind == 0) return fail(PEFT_ENOTFOUND, "%s: no such file or folder", path);
    struct store *s;
    int rc = store_new(h, path, &s);
    if (rc < 0) return rc;
    if (kind == 2) {
        rc = folder_read(s, path, map);
    } else {
        rc = gguf_first_part(s, path, &path);
        if (rc == PEFT_OK) rc = store_read_file(s, path, map, ONLY_ANY);
        if (rc == PEFT_OK && s->format == STORE_SAFETENSORS) rc = config_beside(s, path);
    }
    if (rc == PEFT_OK && s->format == STORE_SAFETENSORS) rc = bnb_read(s);
    if (rc < 0) {
        store_close(s);
        return rc;
    }
    *out = s;
    return PEFT_OK;
}

static int open_safetensors(struct host *h, const char *path, bool map, struct store **out)
{
    struct store *s;
    int rc = store_new(h, path, &s);
    if (rc < 0) return rc;
    rc = store_read_file(s, path, map, ONLY_SAFETENSORS);
    if (rc < 0) {
        store_close(s);
        return rc;
    }
    *out = s;
    return PEFT_OK;
}

int store_open(struct host *h, const char *path, bool map, struct store **out)
{
    *out = NULL;
    bool began = mem_budget(&h->mem);
    int rc = open_any(h, path, map, out);
    mem_budget_end(&h->mem, began);
    return fail_path(rc, path);
}

int store_open_safetensors(struct host *h, const char *path, bool map, struct store **out)
{
    *out = NULL;
    bool began = mem_budget(&h->mem);
    int rc = open_safetensors(h, path, map, out);
    mem_budget_end(&h->mem, began);
    return fail_path(rc, path);
}

/* --- what a file is */

#define CONVERT_PICKLE \
    "holds Python pickles, which can run code and are not read; convert with Python: " \
    "from transformers import AutoModelForCausalLM as M; " \
    "M.from_pretrained('FOLDER').save_pretrained('NEW_FOLDER')"
#define CONVERT_OLD_GGML \
    "is in a GGML format older than GGUF; convert the original model with llama.cpp's " \
    "convert_hf_to_gguf.py"

static const struct foreign_content {
    const char *start;
    int32_t n, code;
    const char *message;
} foreign_contents[] = {
    {"PK\3\4", 4, PEFT_EUNSUPPORTED, "is a zip archive; if PyTorch wrote it, it " CONVERT_PICKLE},
    {"\x80\x02", 2, PEFT_EUNSUPPORTED, CONVERT_PICKLE},
    {"\x80\x03", 2, PEFT_EUNSUPPORTED, CONVERT_PICKLE},
    {"\x80\x04", 2, PEFT_EUNSUPPORTED, CONVERT_PICKLE},
    {"\x80\x05", 2, PEFT_EUNSUPPORTED, CONVERT_PICKLE},
    {"\x89HDF", 4, PEFT_EUNSUPPORTED, "is an HDF5 file, expected GGUF or safetensors"},
    {"lmgg", 4, PEFT_EUNSUPPORTED, CONVERT_OLD_GGML},
    {"fmgg", 4, PEFT_EUNSUPPORTED, CONVERT_OLD_GGML},
    {"tjgg", 4, PEFT_EUNSUPPORTED, CONVERT_OLD_GGML},
    {"algg", 4, PEFT_EUNSUPPORTED, CONVERT_OLD_GGML},
    {"version https://git-lfs", 23, PEFT_EFORMAT,
     "is a Git LFS pointer and not the file that it stands for; fetch it with 'git lfs pull'"},
    {"<", 1, PEFT_EFORMAT,
     "is an HTML or XML text, perhaps a download's error page; expected GGUF or safetensors"},
    {"{", 1, PEFT_EFORMAT, "is a JSON text, expected GGUF or safetensors"},
};

/* The format, or a failure that says what the file is instead.  Safetensors
 * has no magic number: a header length and then '{'. */
static int content_format(const char *path, const uint8_t *data, int64_t n)
{
    if (n == 0) return fail(PEFT_EFORMAT, "%s: is empty, expected GGUF or safetensors", path);
    if (n >= 4 && memcmp(data, "GGUF", 4) == 0) return STORE_GGUF;
    if (n >= 9 && data[8] == '{') return STORE_SAFETENSORS;
    for (size_t i = 0; i < ARRAY_LEN(foreign_contents); i++) {
        const struct foreign_content *c = &foreign_contents[i];
        if (n >= c->n && memcmp(data, c->start, (size_t)c->n) == 0)
            return fail(c->code, "%.200s: %s", path, c->message);
    }
    char start[3 * 8 + 1] = "";
    for (int64_t i = 0; i < MIN(n, 8); i++) {
        start[3 * i] = ' ';
        start[3 * i + 1] = "0123456789abcdef"[data[i] >> 4];
        start[3 * i + 2] = "0123456789abcdef"[data[i] & 15];
    }
    return fail(PEFT_EFORMAT, "%s: is neither GGUF nor safetensors, its bytes are%s%s", path, start,
                n > 8 ? " ..." : "");
}

int store_view(struct store *s, const char *path, bool map, struct file_view **out)
{
    struct file_view *views = mem_realloc(&s->h->mem, s->views,
                                          (s->n_views + 1) * (int64_t)sizeof *views);
    if (!views) return PEFT_ENOMEM;
    s->views = views;
    *out = &views[s->n_views];
    int rc = file_open_view(s->h, path, map, *out);
    if (rc == PEFT_OK) s->n_views++;
    return rc;
}

int store_read_file(struct store *s, const char *path, bool map, enum store_only only)
{
    struct file_view *v;
    int rc = store_view(s, path, map, &v);
    if (rc == PEFT_OK) rc = content_format(path, v->data, v->n);
    if (rc < 0) return rc;
    if (rc == STORE_GGUF && only == ONLY_SAFETENSORS)
        return fail(PEFT_EFORMAT, "%s: is a GGUF file, expected safetensors", path);
    s->format = (enum store_format)rc;
    /* Without JSON there is more for the rest. */
    bool gguf = s->format == STORE_GGUF;
    mem_budget_more(&s->h->mem, gguf ? JSON_MEMORY + (FILE_TIMES - 1) * v->n : v->n);
    if (!gguf) return safetensors_read(s, v, path);
    rc = gguf_read(s, s, v, path);
    return rc < 0 ? rc : gguf_read_parts(s, path, map);
}

/* --- adding */

int store_reserve(struct store *s, int64_t n)
{
    int64_t cap, bytes;
    if (!add_ok(s->n, n, &cap) || !mul_ok(cap, (int64_t)sizeof *s->tensors, &bytes))
        return fail(PEFT_ENOMEM, "%s: %lld more tensors do not fit", s->path, (long long)n);
    struct store_tensor *t = mem_realloc(&s->h->mem, s->tensors, bytes);
    if (!t) return PEFT_ENOMEM;
    s->tensors = t;
    s->cap = cap;
    return PEFT_OK;
}

int store_reserve_settings(struct store *s, int64_t n)
{
    int64_t cap, bytes;
    if (!add_ok(s->n_settings, n, &cap) || !mul_ok(cap, (int64_t)sizeof *s->settings, &bytes))
        return fail(PEFT_ENOMEM, "%s: %lld more settings do not fit", s->path, (long long)n);
    struct setting *v = mem_realloc(&s->h->mem, s->settings, bytes);
    if (!v) return PEFT_ENOMEM;
    s->settings = v;
    s->cap_settings = cap;
    return PEFT_OK;
}

int store_add_setting(struct store *s, const struct setting *v)
{
    if (s->n_settings == s->cap_settings) {
        int rc = store_reserve_settings(s, 1);
        if (rc < 0) return rc;
    }
    int rc = map_add(&s->keys, v->key, (int64_t)strlen(v->key), s->n_settings);
    if (rc < 0) return rc;
    if (rc == 0) return fail(PEFT_EFORMAT, "%s: key %.100s comes twice", s->path, v->key);
    s->settings[s->n_settings++] = *v;
    return PEFT_OK;
}

/* Kernels read numbers of 2, 4 and 8 bytes in place; a block begins with a
 * 16-bit scale. */
static int64_t needed_alignment(const struct qtype *t)
{
    return t->block == 1 ? t->bytes : 4;
}

int store_add(struct store *s, const struct store_tensor *t)
{
    if (s->n == s->cap) {
        int rc = store_reserve(s, 1);
        if (rc < 0) return rc;
    }
    int rc = map_add(&s->names, t->name, (int64_t)strlen(t->name), s->n);
    if (rc < 0) return rc;
    if (rc == 0) return fail(PEFT_EFORMAT, "%s: tensor %.100s comes twice", s->path, t->name);
    struct store_tensor *to = &s->tensors[s->n];
    *to = *t;
    if ((uintptr_t)t->data % (uintptr_t)needed_alignment(t->type) != 0) {
        void *copy = arena_alloc(&s->arena, t->bytes);
        if (!copy) return PEFT_ENOMEM;
        memcpy(copy, t->data, (size_t)t->bytes);
        to->data = copy;
    }
    s->n++;
    return PEFT_OK;
}

/* --- checks */

int shape_bytes(const struct qtype *type, int32_t n_dims, const int64_t *dims, int64_t *count,
                int64_t *bytes)
{
    int64_t n = 1;
    for (int32_t i = 0; i < n_dims; i++) {
        if (dims[i] < 0) return fail(PEFT_EFORMAT, "a dimension is %lld", (long long)dims[i]);
        if (!mul_ok(n, dims[i], &n))
            return fail(PEFT_EFORMAT, "the product of its dimensions overflows");
    }
    int64_t row = n_dims > 0 ? dims[n_dims - 1] : 1;
    if (row % type->block != 0)
        return fail(PEFT_EFORMAT, "rows of %lld values are no whole blocks of %d, as %s needs",
                    (long long)row, (int)type->block, type->name);
    if (!qtype_bytes(type, n, bytes))
        return fail(PEFT_EFORMAT, "its size in bytes overflows");
    *count = n;
    return PEFT_OK;
}

static void sift_index(int64_t *v, int64_t root, int64_t n, index_less *less, const void *ctx)
{
    for (int64_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && less(ctx, v[child], v[child + 1])) child++;
        if (!less(ctx, v[root], v[child])) return;
        int64_t swap = v[root];
        v[root] = v[child];
        v[child] = swap;
    }
}

void sort_index(int64_t *v, int64_t n, index_less *less, const void *ctx)
{
    int64_t i = 1;
    while (i < n && !less(ctx, v[i], v[i - 1])) i++;
    if (i >= n) return;                  /* files are nearly always in order */
    for (i = n / 2 - 1; i >= 0; i--) sift_index(v, i, n, less, ctx);
    for (i = n - 1; i > 0; i--) {
        int64_t swap = v[0];
        v[0] = v[i];
        v[i] = swap;
        sift_index(v, 0, i, less, ctx);
    }
}

static bool extent_less(const void *ctx, int64_t a, int64_t b)
{
    const struct extent *e = ctx;
    if (e[a].begin != e[b].begin) return e[a].begin < e[b].begin;
    return e[a].end < e[b].end;
}

int check_extents(struct store *s, const char *path, const struct extent *e, int64_t n,
                  int64_t total, bool holes)
{
    int64_t *order = mem_array(&s->h->mem, n, (int64_t)sizeof *order);
    if (!order) return PEFT_ENOMEM;
    for (int64_t i = 0; i < n; i++) order[i] = i;
    sort_index(order, n, extent_less, e);
    int64_t end = 0;
    int rc = PEFT_OK;
    for (int64_t i = 0; i < n && rc == PEFT_OK; i++) {
        const struct extent *x = &e[order[i]];
        if (x->begin < end)
            rc = fail(PEFT_EFORMAT, "%s: tensor %.100s at data byte %lld overlaps tensor %.100s, "
                      "which ends at %lld", path, x->name, (long long)x->begin,
                      e[order[i - 1]].name, (long long)end);
        else if (x->begin > end && !holes)
            rc = fail(PEFT_EFORMAT, "%s: tensor %.100s begins at data byte %lld, expected %lld: "
                      "there may be no hole", path, x->name, (long long)x->begin, (long long)end);
        end = x->end;
    }
    if (rc == PEFT_OK && !holes && end != total)
        rc = fail(PEFT_EFORMAT, "%s: the tensors end at data byte %lld, the file at %lld", path,
                  (long long)end, (long long)total);
    mem_free(&s->h->mem, order);
    return rc;
}

/* --- looking up */

enum store_format store_format(const struct store *s)
{
    return s->format;
}

const char *store_path(const struct store *s)
{
    return s->path;
}

int64_t store_bytes(const struct store *s)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->n_views; i++) n += s->views[i].n;
    return n;
}

int64_t store_count(const struct store *s)
{
    return s->n;
}

const struct store_tensor *store_at(const struct store *s, int64_t i)
{
    return i >= 0 && i < s->n ? &s->tensors[i] : NULL;
}

const struct store_tensor *store_find(const struct store *s, const char *name)
{
    return store_at(s, map_gets(&s->names, name, -1));
}
