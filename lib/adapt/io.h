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
 * off, or takes their place for good; and the copy that is `mine`, or above `old`. */
struct saved_module *copy_where(struct model *m, const struct param *p, const float *mine,
                                const float *old);
void put_module(struct saved_module *s);
void take_module(struct model *m, const struct saved_module *s);
void give_module(struct model *m, const struct saved_module *s);

#endif
