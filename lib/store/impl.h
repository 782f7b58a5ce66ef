/* What the files of this folder share: the store itself, and the checks that
 * hold for every container. */
#ifndef STORE_IMPL_H
#define STORE_IMPL_H

#include "store/store.h"

/* Weights are used as they lie in the file. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian processors only");

/* Longest JSON text and safetensors header that is read. */
enum { JSON_LIMIT = 100000000 };

/* A metadata value.  Strings are copied, to end with a NUL; all else points
 * into the file. */
struct setting {
    const char *key;
    int type;                       /* enum gguf_type */
    const char *text;               /* a string */
    const uint8_t *raw;             /* as in the GGUF file */
    int64_t raw_n, text_n;
    struct gguf_array array;        /* an array */
};

struct store {
    struct host *h;
    struct arena arena;             /* names, strings, realigned tensors */
    enum store_format format;
    const char *path;
    struct file_view *views;
    int64_t n_views;
    struct store_tensor *tensors;
    int64_t n, cap;
    struct map names;               /* tensor name -> index */
    struct setting *settings;
    int64_t n_settings, cap_settings;
    struct map keys;                /* setting's key -> index */
    json *config;
    const char *config_path;
};

/* --- store.c */
/* Room for n more tensors or settings.  The caller has bounded n by the size
 * of the file. */
int store_reserve(struct store *s, int64_t n);
int store_reserve_settings(struct store *s, int64_t n);
/* Adds a copy of *t, whose name lies in the store's arena and whose bytes are
 * proven to be in the file.  Data that is not aligned for its type is copied. */
int store_add(struct store *s, const struct store_tensor *t);
/* Adds a copy of *v, whose key lies in the store's arena. */
int store_add_setting(struct store *s, const struct setting *v);
/* Opens one file and adds its tensors.  With `only` set, it must be a
 * safetensors file. */
enum store_only { ONLY_ANY, ONLY_SAFETENSORS };
int store_read_file(struct store *s, const char *path, bool map, enum store_only only);
int store_new(struct host *h, const char *path, struct store **out);
/* One more file of the store. */
int store_view(struct store *s, const char *path, bool map, struct file_view **out);
/* Elements and bytes of a tensor; PEFT_EFORMAT on overflow, negative dims and
 * rows that are not whole blocks. */
int shape_bytes(const struct qtype *type, int32_t n_dims, const int64_t *dims, int64_t *count,
                int64_t *bytes);
/* Where tensors lie in the data section.  With `holes` 0 they must fill it
 * without a gap; they may never overlap. */
struct extent {
    int64_t begin, end;
    const char *name;
};
int check_extents(struct store *s, const char *path, const struct extent *e, int64_t n,
                  int64_t total, bool holes);

/* --- folder.c */
int folder_read(struct store *s, const char *dir, bool map);
/* config.json, at this path. */
int config_read(struct store *s, const char *path);

/* --- gguf.c, safetensors.c: one file's tensors and settings into the store */
/* GGUF: tensors go into s, metadata into `keys`, which may be s. */
int gguf_read(struct store *s, struct store *keys, const struct file_view *v, const char *path);
int safetensors_read(struct store *s, const struct file_view *v, const char *path);
const char *gguf_type_name(int type);
/* Element i of packed integers or booleans; U64 beyond INT64_MAX saturates. */
int64_t gguf_integer(int type, const uint8_t *data, int64_t i);

/* --- bnb.c: bitsandbytes' weights become one tensor each */
int bnb_read(struct store *s);

/* --- gguf_split.c */
/* Is this the name of part *no (from 1) of *count? */
bool gguf_part(const char *path, int *no, int *count);
/* The first part of the file that `path` names, kept by the store; else `path`. */
int gguf_first_part(struct store *s, const char *path, const char **out);
/* Adds what the other parts hold, if the file that was read is the first of some. */
int gguf_read_parts(struct store *s, const char *path, bool map);

/* --- write.c */
/* Checks the tensors to be written, and that no name comes twice. */
int check_out(struct host *h, const struct store_out *t, int64_t n);
/* Of a tensor that was checked. */
int64_t out_bytes(const struct store_out *t);
int put_out(const struct store_out *t, struct writer *w);

#endif
