/* What types weights can be turned into, when a model is loaded (quant) and when it
 * is saved (dtype), and the turning. */
#ifndef MODEL_QUANTISE_H
#define MODEL_QUANTISE_H

#include "model/model.h"

/* A tensor whose rows are no whole blocks gets the type `instead`, as in llama.cpp.
 * `bnb`: the linear layers that transformers would quantise become bitsandbytes'
 * 4-bit weights. */
enum { IN_FOLDER = 1, IN_GGUF = 2, IN_FILES = 3, IN_MEMORY = 4 };
struct wish {
    const char *name, *type, *instead;
    int where;
    const char *bnb;
    int nested;
};
/* By name, for use in `where`; `what` begins the message of a failure. */
int wish_find(const char *name, int where, const char *what, const struct wish **out);
/* t, or what takes its place in rows of `cols`. */
const struct qtype *wish_fit(const struct qtype *t, int64_t cols);
/* Whether bitsandbytes would keep the site's weight (wish NULL: no). */
int wish_bnb(const struct wish *w, const struct site *site);
const struct qtype *wish_bnb_type(const struct wish *w, const struct param *p);

/* --- the values in memory */
/* p's values as blocks of the type, in place of what they were; `nested`: the scales
 * of NF4 and FP4 have passed through double quantisation. */
int param_quantise(struct model *m, struct param *p, const struct qtype *to, int nested);
/* What m->quant wants of the sites from `first` on: linear layers of floats. */
int quantise_sites(struct model *m, int64_t first);
/* After the last of them: there was one. */
int quantise_check(const struct model *m);

#endif
