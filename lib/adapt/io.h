/* Private to adapt/: what its files share. */
#ifndef ADAPT_IO_H
#define ADAPT_IO_H

#include "adapt/virtual.h"

#define PREFIX "base_model.model."
#define COMMON_PREFIX "base_model."    /* of tensors that all modules share, and of all where the
                                          adapter leaves the modules as they are */
static inline const char *adapter_prefix(const struct adapter *a)
{
    return a->method->virtual ? COMMON_PREFIX : PREFIX;
}

/* Embeddings that give the logits too.  PEFT's copy of a module leaves the
 * other use as it was, unless ensure_weight_tying says that both change; then
 * the file holds it under both names. */
int adapter_is_shared(const struct model *m, const struct param *p);
const char *adapter_tied_name(const struct model *m, char *to, size_t cap);
/* Whether a module's name ends with these components. */
int adapter_has_ending(const char *module, const char *ending);

/* One loading. */
struct load {
    struct model *m;
    struct adapter *a;
    struct store *st;
    const json *config;             /* in PEFT's words, whatever the format */
    const struct adapter_format *format;
    struct map sites;               /* module name -> index in m->sites */
    struct map modules;             /* the same by the names of another format */
    struct arena names;             /* these */
    int64_t *at;                    /* site -> 1 + index in a->sites, or 0 */
    char *parameters;               /* target_parameters, separated by commas, or NULL */
    int32_t rank;                   /* of the module to come where its tensor says it, else 0; */
    float alpha;                    /* and its alpha */
    double scale;                   /* alpha over rank, where the file says that; else 0 */
};
/* Takes in a tensor under PEFT's name for it, without the prefix; values [t->count]. */
int load_named(struct load *l, const struct store_tensor *t, const char *name);
struct param *load_find_param(const struct load *l, const char *name);   /* or NULL */

/* One saving. */
struct adapter_out {
    struct model *m;
    const struct adapter *a;
    const struct adapter_format *format;
    const struct qtype *type;       /* of matrices */
    struct arena t;                 /* everything below */
    struct store_out *out;
    int64_t n;
    double scale;                   /* the file's: what multiplies B A of a common module, */
    int32_t rank;                   /* and its rank; the largest where the file has one for all */
};
/* The list, which holds floats, is written as o->type. */
void adapter_cast(struct adapter_out *o);
int adapter_save_peft(struct adapter_out *o, const char *dir);
/* Writes o->out and adapter_config.json into a folder that appears whole. */
int adapter_put_folder(struct adapter_out *o, const char *dir, const struct buf *config,
                       const struct meta *meta, int n_meta);

/* A file format of adapters.  Those that hold LoRA under names of their own go
 * through foreign.c, for which the lower members say how. */
struct adapter_format {
    const char *name;
    const char *tensors;            /* the file in its folder; NULL = it is one file */
    const char *mark;               /* the member of adapter_config.json that tells it */
    /* Settings in PEFT's words from the file, or from what was adapter_config.json. */
    int (*settings)(struct load *l, const char *path, json **config);
    int (*give)(struct load *l, const struct store_tensor *t);
    int (*save)(struct adapter_out *o, const char *path);
    const char *methods[2];
    const char *endings[3];         /* of tensors: A, B and DoRA's m; NULL = none */
    uint8_t turned[2][2];           /* A, B [linear, embedding]: the transpose of PEFT's */
    uint8_t ordered;                /* rows of B as in GGUF files */
    uint8_t one_rank;               /* for all modules: smaller ones get zeros */
    uint8_t whole;                  /* can hold modules_to_save */
    uint8_t card;                   /* README.md lies beside it */
    /* The module's name, that of its layer's stack for an expert; 0 = it has none. */
    int (*module)(const struct model *m, const struct site *s, char *to, size_t cap);
};
extern const struct adapter_format format_peft, format_gguf, format_mlx;

/* --- foreign.c */
int foreign_begin(struct load *l);
int foreign_give(struct load *l, const struct store_tensor *t);
int foreign_collect(struct adapter_out *o);

/* --- base.c: the model that a file is for.  base_check: PEFT_EFORMAT when it is
 * another one than m, by what our own files carry; a name that differs is logged.
 * base_hint: rc, and why the file may not fit added to the message.
 * base_complete: modules that adapter_config.json names have tensors. */
int base_write(const struct model *m, struct buf *b);
const char *base_name(const struct model *m);
int base_check(const struct model *m, const struct adapter *a, const struct store *st);
int base_hint(const struct model *m, const struct adapter *a, const struct store *st, int rc);
int base_complete(const struct model *m, const struct adapter *a, const json *config);

/* --- card.c: README.md into `tmp`, which takes the place of `dir`: one there that is
 * not ours stays.  And a number that changes when any of the adapter's weights does. */
int card_write(struct model *m, const struct adapter *a, const char *dir, const char *tmp);
uint64_t card_weights(const struct adapter *a);

/* --- adapt.c: an adapter's copy of a parameter goes above the model's values, comes
 * off, or takes their place for good. */
void put_module(struct saved_module *s);
void take_module(struct model *m, const struct saved_module *s);
void give_module(struct model *m, const struct saved_module *s);

#endif
