/* Rank 5: what is added to a model: adapters by method, their files, merging. */
#ifndef ADAPT_ADAPT_H
#define ADAPT_ADAPT_H

#include "model/model.h"

const struct method *method_by_name(const char *name);          /* or NULL */
/* The method that an adapter_config.json is of. */
int method_of_config(const json *config, const struct method **out);
struct adapter *adapter_find(const struct model *m, const char *name);

int adapter_add(struct model *m, const char *name, const peft_adapter_opts *o);
/* In any of the formats of io.h. */
int adapter_load(struct model *m, const char *name, const char *path);
int adapter_save(struct model *m, const struct adapter *a, const char *path,
                 const peft_adapter_save_opts *opts);
void adapter_enable(struct model *m, struct adapter *a, int on);
void adapter_remove(struct model *m, struct adapter *a);
/* --- merge.c: for good; so that it can be taken back; and how much it counts. */
int adapter_merge(struct model *m, struct adapter *a);
int adapter_set_merged(struct model *m, struct adapter *a, int on);
int adapter_set_weight(struct adapter *a, float weight);

/* --- virtual.c: whether it may be enabled beside the adapters that are */
int virtual_alone(const struct model *m, const struct adapter *a);

/* For io.c: an adapter without tensors, not yet part of the model. */
int adapter_new(struct model *m, const char *name, const struct method *method,
                struct adapter **out);
/* Room for n adapted modules, before the first is attached. */
int adapter_room(struct model *m, struct adapter *a, int64_t n);
/* Makes the parts of `a` at a site; the values are zero.  What does not run
 * along the outputs is `mate`'s where one is given. */
int adapter_attach(struct model *m, struct adapted *a, struct adapter *owner, struct site *s,
                   int32_t rank, float alpha, const struct adapted *mate);
/* The same by another method than the adapter's; and the output layer that the
 * embedding of `mate` is, where both are to be adapted as one. */
int adapter_attach_as(struct model *m, struct adapted *a, const struct method *method,
                      struct adapter *owner, struct site *s, int32_t rank, float alpha,
                      const struct adapted *mate);
int adapter_attach_twin(struct model *m, struct adapter *a, const struct adapted *mate);
/* Makes the k-th tensor that all modules share, of zeros. */
int adapter_common(struct model *m, struct adapter *a, int k, int64_t rows, int64_t cols);
/* Whether a list of targets names the module: its last component, a dotted
 * ending, or a glob over the whole name. */
int adapter_targets(const char *targets, const char *name);
/* Takes over `values` [param_len(p)] as the adapter's own copy of p. */
int adapter_keep_module(struct model *m, struct adapter *a, struct param *p, float *values);
/* Puts it into the model, enabled; the first one freezes the rest. */
void adapter_link(struct model *m, struct adapter *a);
void adapter_drop(struct model *m, struct adapter *a);          /* frees one that is not linked */

/* --- settings.c: the members of adapter_config.json that are the method's own */
void settings_default(struct adapter *a);
int settings_read(struct model *m, struct adapter *a, const json *config);
int settings_check_patterns(const json *config);    /* that they are numbers by module */
/* The settings of peft_adapter_opts; *out is the caller's, also after an error. */
int settings_parse(struct model *m, struct adapter *a, const char *text, json **out);
/* Rank and alpha of a module, by its patterns and its names in files and in
 * memory; config may be NULL. */
int settings_rank(const struct adapter *a, const json *config, const char *module,
                  const char *other, int32_t *rank, float *alpha);
void settings_write(const struct adapter *a, struct buf *b, int *n);

/* --- tokens.c: rows that train beside the adapter's modules, or alone. */
extern const struct method method_tokens_beside;
/* The member of adapter_config.json that lists them; NULL = the method takes none. */
const char *tokens_key(const struct method *method);
const struct method *tokens_method(const struct adapter *a);
int tokens_read(struct model *m, struct adapter *a, const json *config);
/* Names or ids, separated by commas, of `module`; NULL = the input embedding. */
int tokens_parse(struct model *m, struct adapter *a, const char *text, const char *module);
int tokens_attach(struct model *m, struct adapter *a);
void tokens_write(const struct model *m, const struct adapter *a, struct buf *b, int *n);
/* --- ranks.c: gives the modules of a LoRA adapter other ranks, [n_sites]; 0 takes a module
 * out.  The parts of those that change are zero.  alpha 1: theirs keep alpha / rank. */
int adapter_set_ranks(struct model *m, struct adapter *a, const int32_t *ranks, int alpha);

/* --- combine.c: a new adapter, enabled, of several LoRA adapters. */
int adapter_combine(struct model *m, const char *name, struct adapter *const *from,
                    const float *weights, int32_t n, const peft_combine_opts *o);

/* --- lowrank.c: left [r, out] and right [r, in] with left^T right = the best
 * approximation of W of rank r, nearly or to rounding (PEFT_EUNSUPPORTED where that is not
 * unique), or W's first r columns as Q of QR and R's rows. */
enum lowrank { LOWRANK_QR, LOWRANK_SVD, LOWRANK_EXACT };
int lowrank(struct model *m, const struct matrix *w, enum lowrank how, int64_t r, float *left,
            float *right);

/* --- fold.c: adapters as a LoRA that has one rank, one scale alpha / r, and no base of its own */
/* NULL, or why `a` cannot be folded without loss: a part of a sentence. */
const char *adapter_unfoldable(const struct adapter *a);
/* `how` is `from` so, or with rank > 0 the best LoRA of that rank for what merging would change;
 * *error is then |W' - W - s B A| / |W' - W| over all modules.  Disabled. */
int adapter_fold(struct model *m, const char *name, const struct adapter *from, int32_t rank,
                 struct adapter **out, double *error);
/* The initial values that init_lora_weights "pissa" or "olora" took out of the base. */
int adapter_restart(struct model *m, struct adapter *a);

/* --- readers.c: which programs load an adapter's folder, refuse or misread it; the base m
 * may be NULL, and so may the reader's name for all. */
int adapter_check(struct host *h, const struct model *m, const char *dir, const char *reader,
                  peft_adapter_report *out);

/* --- loftq.c: the model at `path`, or (NULL) the base's own file, as it is stored; and the
 * best left [r, out] and right [r, in] for what quantising took from the weight. */
int loftq_open(struct model *m, const char *path, struct model **out);
int loftq_factors(struct model *m, const struct adapted *a, float *left, float *right);

/* --- fused.c: experts that are one parameter in transformers 5 */
const struct fused_row *fused_rows(const struct model *m);      /* ended by param == NULL */
void fused_name(const struct fused_row *row, int64_t layer, char *to, size_t cap);
int64_t fused_sites(const struct model *m, const struct fused_row *row);   /* of one layer */
/* Adds the adapted modules of one layer, [fused_sites], to a->sites. */
int fused_attach(struct model *m, struct adapter *a, const struct fused_row *row, int64_t layer,
                 int32_t rank, float alpha);
/* 1 = a file's module name is that of a parameter among `targets`. */
int fused_find(const struct model *m, const char *module, const char *targets, int64_t *layer,
               const struct fused_row **found);
/* For d, the first of its layer's: the module's name in files, the size of part
 * k's tensor there (returns the columns), and its values to or from `all`. */
void fused_module(const struct model *m, const struct adapted *d, char *to, size_t cap);
int64_t fused_shape(const struct model *m, const struct adapted *d, int k, int64_t *rows);
void fused_move(const struct model *m, const struct adapted *d, int k, float *all, int write);

#endif
