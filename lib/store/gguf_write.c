/* GGUF writer, version 3, alignment 32; the format is described in gguf.c. */
#include "store/impl.h"

enum { GGUF_VERSION = 3, GGUF_ALIGNMENT = 32 };

static void gguf_put_u32(struct writer *w, uint32_t v)
{
    writer_put(w, &v, sizeof v);
}

static void gguf_put_u64(struct writer *w, uint64_t v)
{
    writer_put(w, &v, sizeof v);
}

static void gguf_put_string(struct writer *w, const char *s)
{
    uint64_t n = strlen(s);
    gguf_put_u64(w, n);
    writer_put(w, s, (int64_t)n);
}

static void gguf_put_padding(struct writer *w)
{
    static const char zeros[GGUF_ALIGNMENT];
    writer_put(w, zeros, -writer_at(w) & (GGUF_ALIGNMENT - 1));
}

/* Metadata is often copied from another file, whose alignment need not be
 * ours. */
static bool is_alignment(const struct gguf_kv *kv)
{
    return strcmp(kv->key, "general.alignment") == 0;
}

static int check_kv(struct host *h, const struct gguf_kv *kv, int64_t n)
{
    struct map keys;
    map_init(&keys, &h->mem);
    int rc = PEFT_OK;
    for (int64_t i = 0; i < n && rc == PEFT_OK; i++) {
        rc = map_add(&keys, kv[i].key, (int64_t)strlen(kv[i].key), i);
        if (rc == 0) rc = fail(PEFT_EARG, "key %.100s would be written twice", kv[i].key);
        else if (rc > 0) rc = PEFT_OK;
    }
    map_free(&keys);
    return rc;
}

static int check_gguf(struct host *h, const struct gguf_kv *kv, int64_t n_kv,
                      const struct store_out *t, int64_t n)
{
    int64_t end = 0;
    int rc = check_kv(h, kv, n_kv);
    if (rc == PEFT_OK) rc = check_out(h, t, n);
    if (rc < 0) return rc;
    for (int64_t i = 0; i < n; i++) {
        if (t[i].type->ggml_id < 0)
            return fail(PEFT_EUNSUPPORTED, "tensor %.100s is of type %s, which GGUF does not have",
                        t[i].name, t[i].type->name);
        if (t[i].name[0] == 0) return fail(PEFT_EARG, "a tensor has no name");
        if (!add_ok(end, out_bytes(&t[i]), &end) || !align_ok(end, GGUF_ALIGNMENT, &end))
            return fail(PEFT_EARG, "the tensors' sizes overflow");
    }
    return PEFT_OK;
}

/* A scalar is written as a vector of one, since GGUF has no rank 0. */
static void put_tensor_info(struct writer *w, const struct store_out *t, int64_t at)
{
    gguf_put_string(w, t->name);
    gguf_put_u32(w, (uint32_t)MAX(t->n_dims, 1));
    if (t->n_dims == 0) gguf_put_u64(w, 1);
    for (int32_t k = t->n_dims - 1; k >= 0; k--) gguf_put_u64(w, (uint64_t)t->dims[k]);
    gguf_put_u32(w, (uint32_t)t->type->ggml_id);
    gguf_put_u64(w, (uint64_t)at);
}

static int gguf_put_file(struct writer *w, const struct gguf_kv *kv, int64_t n_kv,
                         const struct store_out *t, int64_t n)
{
    int64_t written = n_kv, at = 0;
    for (int64_t i = 0; i < n_kv; i++) written -= is_alignment(&kv[i]);
    writer_put(w, "GGUF", 4);
    gguf_put_u32(w, GGUF_VERSION);
    gguf_put_u64(w, (uint64_t)n);
    gguf_put_u64(w, (uint64_t)written);
    for (int64_t i = 0; i < n_kv; i++) {
        if (is_alignment(&kv[i])) continue;
        gguf_put_string(w, kv[i].key);
        gguf_put_u32(w, (uint32_t)kv[i].type);
        writer_put(w, kv[i].raw, kv[i].n);
    }
    for (int64_t i = 0; i < n; i++) {
        put_tensor_info(w, &t[i], at);
        at += out_bytes(&t[i]);
        at += -at & (GGUF_ALIGNMENT - 1);
    }
    gguf_put_padding(w);
    for (int64_t i = 0; i < n; i++) {
        int rc = put_out(&t[i], w);
        if (rc < 0) return rc;
        gguf_put_padding(w);
    }
    return PEFT_OK;
}

int gguf_write(struct host *h, const char *path, const struct gguf_kv *kv, int64_t n_kv,
               const struct store_out *t, int64_t n)
{
    int rc = check_gguf(h, kv, n_kv, t, n);
    if (rc < 0) return fail_in(rc, "%s: ", path);
    struct writer *w;
    rc = writer_open(h, path, &w);
    if (rc < 0) return rc;
    rc = gguf_put_file(w, kv, n_kv, t, n);
    if (rc == PEFT_OK) return writer_commit(w);
    writer_abort(w);
    return rc;
}

/* --- raw values */

void gguf_raw_string(struct buf *b, const char *s, int64_t n)
{
    buf_put(b, &n, sizeof n);
    buf_put(b, s, n);
}

void gguf_raw_u32(struct buf *b, uint32_t v)
{
    buf_put(b, &v, sizeof v);
}

void gguf_raw_f32(struct buf *b, float v)
{
    buf_put(b, &v, sizeof v);
}

void gguf_raw_bool(struct buf *b, int v)
{
    buf_putc(b, v ? 1 : 0);
}

void gguf_raw_array(struct buf *b, int type, int64_t n)
{
    gguf_raw_u32(b, (uint32_t)type);
    buf_put(b, &n, sizeof n);
}
