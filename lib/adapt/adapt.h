/* Rank 5: what is added to a model: adapters by method, their files, merging. */
#ifndef ADAPT_ADAPT_H
#define ADAPT_ADAPT_H

#include "model/model.h"

const struct method *method_by_name(const char *name);          /* or NULL */
struct adapter *adapter_find(const struct model *m, const char *name);

int adapter_add(struct model *m, const char *name, const peft_adapter_opts *o);
int adapter_load(struct model *m, const char *name, const char *dir);
int adapter_save(struct model *m, const struct adapter *a, const char *dir);
void adapter_enable(struct model *m, struct adapter *a, int on);
void adapter_remove(struct model *m, struct adapter *a);
int adapter_merge(struct model *m, struct adapter *a);

/* For io.c: an adapter without tensors, not yet part of the model. */
int adapter_new(struct model *m, const char *name, const struct method *method,
                struct adapter **out);
/* Makes the parts of `a` at a site; the values are zero.  What does not run
 * along the outputs is `mate`'s where one is given. */
int adapter_attach(struct model *m, struct adapted *a, struct adapter *owner, struct site *s,
                   int32_t rank, float alpha, const struct adapted *mate);
/* Whether a list of targets names the module: its last component, a dotted
 * ending, or a glob over the whole name. */
int adapter_targets(const char *targets, const char *name);
/* Takes over `values` [param_len(p)] as the adapter's own copy of p. */
int adapter_keep_module(struct model *m, struct adapter *a, struct param *p, float *values);
/* Puts it into the model, enabled; the first one freezes the rest. */
void adapter_link(struct model *m, struct adapter *a);
void adapter_drop(struct model *m, struct adapter *a);          /* frees one that is not linked */

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
