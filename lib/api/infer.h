/* Inside api/: texts through the model, several at a time. */
#ifndef API_INFER_H
#define API_INFER_H

#include "api/api.h"

/* Sequences, one after the other. */
struct texts {
    struct host *host;
    struct ids ids, pos, types, start;
    int32_t n;
};
void texts_init(struct texts *t, struct model *m);
void texts_free(struct texts *t);
void texts_clear(struct texts *t);
/* Appends a sequence; what follows its token `second` is of the second text (0 = none). */
int texts_add(struct texts *t, const int32_t *ids, int64_t n, int64_t second);
/* Tokenizes a text, or a pair, cut to max_len, and appends it. */
int texts_encode(struct texts *t, const struct model *m, const char *text, const char *pair,
                 int64_t max_len);
typedef struct tensor *texts_output(struct pass *p, struct tensor *hidden, void *arg);
/* Runs all of them; what `output` makes of the hidden states stays in *out
 * until the next run. */
int texts_run(struct texts *t, struct model *m, texts_output *output, void *arg,
              const struct tensor **out);
int need_tokenizer(const struct model *m);
/* 0 = the model's; else checked against it. */
int check_max_len(const struct model *m, int32_t *max_len);

#endif
