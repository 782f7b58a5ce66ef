/* Private to model/: one saving of a model. */
#ifndef MODEL_SAVE_H
#define MODEL_SAVE_H

#include "model/quantise.h"

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

/* --- save_config.c */
int save_config(const struct save *s, const char *dir);

#endif
