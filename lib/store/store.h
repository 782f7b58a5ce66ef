/* Rank 2: containers of named tensors and of settings.  GGUF and safetensors
 * look alike above this line. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/host.h"
#include "base/json.h"
#include "kernel/quant.h"

/* Sorts indices by heap sort: never quadratic, no memory. */
typedef bool index_less(const void *ctx, int64_t a, int64_t b);
void sort_index(int64_t *v, int64_t n, index_less *less, const void *ctx);

struct store_tensor {
    const char *name;               /* as in the file */
    const struct qtype *type;
    int32_t n_dims;                 /* 0..4 */
    int64_t dims[4];                /* slowest first ([out, in]), also for GGUF */
    int64_t count, bytes;
    const void *data;               /* into the mapped file; size proven */
};
enum store_format { STORE_GGUF, STORE_SAFETENSORS };
struct store;
/* A .gguf file, a .safetensors file, or a folder with config.json and
 * *.safetensors (model.safetensors, or the shards of
 * model.safetensors.index.json).  Told apart by content, not by name.  Pickles
 * (.bin, .pt, .pth, .ckpt) are PEFT_EUNSUPPORTED with a message that names
 * the way to convert.  Folder without weights: PEFT_ENOTFOUND. */
int store_open(struct host *h, const char *path, bool map, struct store **out);
/* One safetensors file without any config (adapters, checkpoints).  Its
 * __metadata__ strings are its settings.  The host must outlive the store. */
int store_open_safetensors(struct host *h, const char *path, bool map, struct store **out);
void store_close(struct store *s);
/* A tensor's bytes are not needed soon: mapped pages of them leave memory, and are read
 * again when they are. */
void store_forget(const struct store *s, const void *data, int64_t n);
/* Whether they could; and the bytes of mapped files that are no tensor's. */
bool store_mapped(const struct store *s, const void *data);
int64_t store_header(const struct store *s);
enum store_format store_format(const struct store *s);
const char *store_path(const struct store *s);
int64_t store_bytes(const struct store *s);          /* of its tensor files */
int64_t store_count(const struct store *s);
const struct store_tensor *store_at(const struct store *s, int64_t i);   /* NULL out of range */
const struct store_tensor *store_find(const struct store *s, const char *name);   /* or NULL */

/* --- settings.  Safetensors folder: config.json, dotted paths; GGUF: metadata
 * keys.  1 = found, 0 = absent (also a JSON null), < 0 = PEFT_EFORMAT when the
 * kind is wrong.  Strings end with a NUL; n may be NULL. */
int store_int(const struct store *s, const char *key, int64_t lo, int64_t hi, int64_t *out);
int store_number(const struct store *s, const char *key, double *out);
int store_bool(const struct store *s, const char *key, int *out);
int store_string(const struct store *s, const char *key, const char **out, int64_t *n);
const json *store_config(const struct store *s);     /* config.json's root, or NULL (GGUF) */

/* --- GGUF only */
enum gguf_type { GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL,
                 GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64 };
struct gguf_array { int type; int64_t n; const uint8_t *data; /* strings: see store_array_string */
                    const int64_t *offsets; };
/* An array of that type, or of any with type -1; 1, 0 and < 0 as above. */
int store_array(const struct store *s, const char *key, int type, struct gguf_array *out);
/* i-th string of an array of strings. */
void store_array_string(const struct gguf_array *a, int64_t i, const char **str, int64_t *n);
float store_array_f32(const struct gguf_array *a, int64_t i);
int64_t store_array_int(const struct gguf_array *a, int64_t i);   /* any integer type or bool */
/* Metadata in file order, to copy it: key, GGUF value type, raw value bytes as in the file. */
int64_t gguf_kv_count(const struct store *s);
void gguf_kv_at(const struct store *s, int64_t i, const char **key, int *type, const void **raw,
                int64_t *n);

/* --- writing.  Values come through a callback, so that no tensor is held whole
 * longer than needed: `put` appends exactly the tensor's bytes with writer_put. */
struct store_out {
    const char *name;
    const struct qtype *type;
    int32_t n_dims;
    int64_t dims[4];                /* slowest first */
    int (*put)(const struct store_out *t, struct writer *w);    /* NULL: `data` is written */
    const void *data;
    void *arg;
};
struct meta { const char *key, *value; };
/* Byte-equal to the reference writer: tensors sorted by dtype (descending
 * alignment) then name, header padded with spaces to 8. */
int safetensors_write(struct host *h, const char *path, const struct store_out *t, int64_t n,
                      const struct meta *meta, int64_t n_meta);
/* Shards of at most `shard_bytes` and model.safetensors.index.json into `dir`
 * (an existing folder); one file model.safetensors when it all fits. */
int safetensors_write_dir(struct host *h, const char *dir, const struct store_out *t, int64_t n,
                          int64_t shard_bytes);
/* A weight as bitsandbytes keeps it in 4 bits: the tensors, BNB_TENSORS at most, that
 * stand for it in a safetensors file, made in the arena from NF4 or FP4 blocks. */
enum { BNB_TENSORS = 6 };
struct bnb_out {
    const char *name;
    const struct qtype *type;       /* from bnb_type */
    int64_t rows, cols;
    const void *blocks;
    int nested;                     /* 1 = double quantisation */
};
/* The stored type for "nf4" or "fp4" of a weight that is held in that type. */
const struct qtype *bnb_type(const char *quant, const struct qtype *held);
int bnb_write(struct host *h, struct arena *a, const struct bnb_out *w, struct store_out *out,
              int64_t *n);
/* Raw bytes as in a file. */
struct gguf_kv { const char *key; int type; const void *raw; int64_t n; };
int gguf_write(struct host *h, const char *path, const struct gguf_kv *kv, int64_t n_kv,
               const struct store_out *t, int64_t n);
/* Raw bytes of values, appended to b, for gguf_kv. */
void gguf_raw_string(struct buf *b, const char *s, int64_t n);
void gguf_raw_u32(struct buf *b, uint32_t v);
void gguf_raw_f32(struct buf *b, float v);
void gguf_raw_bool(struct buf *b, int v);
/* An array's head (element type and count); the elements follow. */
void gguf_raw_array(struct buf *b, int type, int64_t n);

#endif
