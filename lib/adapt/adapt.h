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
/* Makes the parts of `a` at a site; the values are zero. */
int adapter_attach(struct model *m, struct adapted *a, struct adapter *owner, struct site *s,
                   int32_t rank, float alpha);
/* Takes over `values` [param_len(p)] as the adapter's own copy of p. */
int adapter_keep_module(struct model *m, struct adapter *a, struct param *p, float *values);
/* Puts it into the model, enabled; the first one freezes the rest. */
void adapter_link(struct model *m, struct adapter *a);
void adapter_drop(struct model *m, struct adapter *a);          /* frees one that is not linked */

#endif
