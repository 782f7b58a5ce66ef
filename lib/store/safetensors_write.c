/* safetensors writer; the format is described in safetensors.c.
 *
 * The bytes are those of the reference writer: tensors by descending dtype and
 * then by name, a header without spaces, padded with spaces to 8 bytes. */
#include "store/impl.h"

#include <stdio.h>

/* Ascending in the reference's order, which is mostly that of the width. */
static const char *const dtype_order[] = {
    "BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "F16", "BF16", "I32", "F32", "F64", "I64",
};

static int dtype_rank(const struct qtype *t)
{
    for (size_t i = 0; i < ARRAY_LEN(dtype_order); i++)
        if (strcmp(t->name, dtype_order[i]) == 0) return (int)i;
    return -1;
}

static bool out_before(const void *ctx, int64_t a, int64_t b)
{
    const struct store_out *t = ctx;
    int ra = dtype_rank(t[a].type), rb = dtype_rank(t[b].type);
    return ra != rb ? ra > rb : strcmp(t[a].name, t[b].name) < 0;
}

static void put_json_key(struct buf *b, const char *key)
{
    buf_json(b, key, (int64_t)strlen(key));
    buf_putc(b, ':');
}

static void put_json_header(struct buf *b, const struct store_out *t, const int64_t *order,
                            int64_t n, const struct meta *meta, int64_t n_meta)
{
    buf_putc(b, '{');
    if (n_meta > 0) {
        buf_puts(b, "\"__metadata__\":{");
        for (int64_t i = 0; i < n_meta; i++) {
            if (i) buf_putc(b, ',');
            put_json_key(b, meta[i].key);
            buf_json(b, meta[i].value, (int64_t)strlen(meta[i].value));
        }
        buf_putc(b, '}');
    }
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        const struct store_out *o = &t[order[i]];
        int64_t end = at + out_bytes(o);
        if (i > 0 || n_meta > 0) buf_putc(b, ',');
        put_json_key(b, o->name);
        buf_printf(b, "{\"dtype\":\"%s\",\"shape\":[", o->type->name);
        for (int32_t k = 0; k < o->n_dims; k++)
            buf_printf(b, "%s%lld", k ? "," : "", (long long)o->dims[k]);
        buf_printf(b, "],\"data_offsets\":[%lld,%lld]}", (long long)at, (long long)end);
        at = end;
    }
    buf_putc(b, '}');
    while (b->n % 8 != 0 && !b->oom) buf_putc(b, ' ');
}

static int write_file(struct host *h, const char *path, const struct store_out *t,
                      const int64_t *order, int64_t n, const struct buf *header)
{
    struct writer *w;
    int rc = writer_open(h, path, &w);
    if (rc < 0) return rc;
    uint64_t size = (uint64_t)header->n;
    writer_put(w, &size, 8);
    writer_put(w, header->data, header->n);
    for (int64_t i = 0; i < n && rc == PEFT_OK; i++) rc = put_out(&t[order[i]], w);
    if (rc == PEFT_OK) return writer_commit(w);
    writer_abort(w);
    return rc;
}

/* Sums must not overflow either; dtype and name must be what a reader takes. */
static int check_safetensors(struct host *h, const struct store_out *t, int64_t n)
{
    int64_t total = 0;
    int rc = check_out(h, t, n);
    if (rc < 0) return rc;
    for (int64_t i = 0; i < n; i++) {
        if (dtype_rank(t[i].type) < 0)
            return fail(PEFT_EUNSUPPORTED, "tensor %.100s is of type %s, which safetensors does "
                        "not have", t[i].name, t[i].type->name);
        if (strcmp(t[i].name, "__metadata__") == 0)
            return fail(PEFT_EARG, "a tensor cannot have the name __metadata__");
        if (!add_ok(total, out_bytes(&t[i]), &total))
            return fail(PEFT_EARG, "the tensors' sizes overflow");
    }
    return PEFT_OK;
}

int safetensors_write(struct host *h, const char *path, const struct store_out *t, int64_t n,
                      const struct meta *meta, int64_t n_meta)
{
    int rc = check_safetensors(h, t, n);
    if (rc < 0) return fail_in(rc, "%s: ", path);
    int64_t *order = mem_array(&h->mem, n, (int64_t)sizeof *order);
    if (!order) return PEFT_ENOMEM;
    for (int64_t i = 0; i < n; i++) order[i] = i;
    sort_index(order, n, out_before, t);
    struct buf header;
    buf_init(&header, &h->mem);
    put_json_header(&header, t, order, n, meta, n_meta);
    rc = buf_check(&header);
    if (rc == PEFT_OK && header.n > JSON_LIMIT)
        rc = fail(PEFT_EARG, "%s: the header would have %lld bytes, the format allows %d", path,
                  (long long)header.n, (int)JSON_LIMIT);
    if (rc == PEFT_OK) rc = write_file(h, path, t, order, n, &header);
    buf_free(&header);
    mem_free(&h->mem, order);
    return rc;
}

/* --- folders */

/* The end of the shard that begins at `first`: as many tensors as fit, and at
 * least one. */
static int64_t shard_end(const struct store_out *t, int64_t n, int64_t first, int64_t most)
{
    int64_t i = first, left = most;
    do left -= out_bytes(&t[i++]);
    while (i < n && out_bytes(&t[i]) <= left);
    return i;
}

enum { SHARD_NAME_CAP = 64 };
static void shard_name(char *to, int64_t k, int64_t shards)
{
    if (shards == 1) snprintf(to, SHARD_NAME_CAP, "model.safetensors");
    else snprintf(to, SHARD_NAME_CAP, "model-%05lld-of-%05lld.safetensors", (long long)k + 1,
                  (long long)shards);
}

static bool name_before(const void *ctx, int64_t a, int64_t b)
{
    const struct store_out *t = ctx;
    return strcmp(t[a].name, t[b].name) < 0;
}

/* The index as huggingface_hub writes it: indented by 2, keys sorted. */
static int write_index(struct host *h, const char *dir, const struct store_out *t, int64_t n,
                       const int64_t *shard_of, int64_t shards)
{
    char *path;
    int rc = path_join(h, dir, "model.safetensors.index.json", &path);
    if (rc < 0) return rc;
    int64_t *order = mem_array(&h->mem, n, (int64_t)sizeof *order), total = 0;
    struct buf b;
    buf_init(&b, &h->mem);
    for (int64_t i = 0; order && i < n; i++) {
        order[i] = i;
        total += out_bytes(&t[i]);
    }
    if (order) sort_index(order, n, name_before, t);
    buf_printf(&b, "{\n  \"metadata\": {\n    \"total_size\": %lld\n  },\n  \"weight_map\": {",
               (long long)total);
    for (int64_t i = 0; order && i < n; i++) {
        char file[SHARD_NAME_CAP];
        shard_name(file, shard_of[order[i]], shards);
        buf_puts(&b, i ? ",\n    " : "\n    ");
        buf_json(&b, t[order[i]].name, (int64_t)strlen(t[order[i]].name));
        buf_printf(&b, ": \"%s\"", file);
    }
    buf_puts(&b, "\n  }\n}\n");
    rc = order ? buf_check(&b) : PEFT_ENOMEM;
    if (rc == PEFT_OK) rc = file_write(h, path, b.data, b.n);
    buf_free(&b);
    mem_free(&h->mem, order);
    mem_free(&h->mem, path);
    return rc;
}

static int write_shard(struct host *h, const char *dir, const struct store_out *t, int64_t n,
                       int64_t k, int64_t shards)
{
    static const struct meta pytorch = {"format", "pt"};    /* transformers asks for it */
    char file[SHARD_NAME_CAP], *path;
    shard_name(file, k, shards);
    int rc = path_join(h, dir, file, &path);
    if (rc < 0) return rc;
    rc = safetensors_write(h, path, t, n, &pytorch, 1);
    mem_free(&h->mem, path);
    return rc;
}

int safetensors_write_dir(struct host *h, const char *dir, const struct store_out *t, int64_t n,
                          int64_t shard_bytes)
{
    int rc = check_safetensors(h, t, n);
    if (rc < 0) return fail_in(rc, "%s: ", dir);
    int64_t *shard_of = mem_array(&h->mem, n, (int64_t)sizeof *shard_of);
    if (!shard_of) return PEFT_ENOMEM;
    int64_t shards = 0;
    for (int64_t i = 0, end; i < n; shards++)
        for (end = shard_end(t, n, i, shard_bytes); i < end; i++) shard_of[i] = shards;
    if (n == 0) rc = write_shard(h, dir, t, 0, 0, 1);
    for (int64_t i = 0, end, k = 0; i < n && rc == PEFT_OK; i = end, k++) {
        end = shard_end(t, n, i, shard_bytes);
        rc = write_shard(h, dir, t + i, end - i, k, shards);
    }
    if (rc == PEFT_OK && shards > 1) rc = write_index(h, dir, t, n, shard_of, shards);
    mem_free(&h->mem, shard_of);
    return rc;
}
