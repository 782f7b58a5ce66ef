/* Private to adapt/: what its files share. */
#ifndef ADAPT_IO_H
#define ADAPT_IO_H

#include "adapt/adapt.h"

#define PREFIX "base_model.model."
#define COMMON_PREFIX "base_model."    /* of tensors that all modules share */

/* Embeddings that give the logits too.  PEFT's copy of a module leaves the
 * other use as it was, unless ensure_weight_tying says that both change; then
 * the file holds it under both names. */
int adapter_is_shared(const struct model *m, const struct param *p);
const char *adapter_tied_name(const struct model *m, char *to, size_t cap);
/* Whether a module's name ends with these components. */
int adapter_has_ending(const char *module, const char *ending);

/* --- adapt.c: an adapter's copy of a parameter goes above the model's values, comes
 * off, or takes their place for good. */
void put_module(struct saved_module *s);
void take_module(struct model *m, const struct saved_module *s);
void give_module(struct model *m, const struct saved_module *s);

#endif
