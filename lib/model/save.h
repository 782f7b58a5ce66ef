/* Private to model/: one saving of a model. */
#ifndef MODEL_SAVE_H
#define MODEL_SAVE_H

#include "model/model.h"

/* What `dtype` may be, and where.  A tensor whose rows are no whole blocks gets
 * the type `instead`, as in llama.cpp.  `bnb`: the linear layers that transformers
 * would quantise become bitsandbytes' 4-bit weights. */
enum { IN_FOLDER = 1, IN_GGUF = 2, IN_BOTH = 3 };
struct wish {
    const char *name, *type, *instead;
    int where;
    const char *bnb;
    int nested;
};
struct save {
    struct model *m;
    const struct wish *wish;        /* or NULL */
    const struct qtype *dtype;      /* its type for float tensors, or NULL */
    int gguf;
    const peft_save_opts *opts;
    int64_t done, total;            /* bytes of tensors, for opts->progress */
    struct arena arena;
    struct store_out *out;
    int64_t n;
    float *row;
    void *packed;
};

/* --- save.c */
/* Whether bitsandbytes keeps the site's weight. */
int save_as_bnb(const struct save *s, const struct site *site);

/* --- save_config.c */
int save_config(const struct save *s, const char *dir);

#endif
