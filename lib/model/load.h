/* Private to model/: the steps of model_load. */
#ifndef MODEL_LOAD_H
#define MODEL_LOAD_H

#include "model/model.h"

/* --- settings.c */
int load_arch(struct model *m);
int load_settings(struct model *m);
/* What scores are divided by (its root) in GGUF files, which do not hold it: as
 * in llama.cpp dim / heads in the 27B models of Gemma, else head_dim. */
int64_t gguf_scalar(const struct hparams *hp);
/* Which layers are local, and which positions they have. */
int load_layers(struct model *m);
/* The folder that the model's files lie in; allocated, NULL = no memory. */
char *model_folder(struct model *m);
/* --- sentence.c: modules.json and what it names, if the folder has it */
int load_sentence(struct model *m);
/* The size that a slot's row or column has by the settings; 0 = any. */
int64_t slot_dim(const struct hparams *hp, uint8_t d);

#endif
