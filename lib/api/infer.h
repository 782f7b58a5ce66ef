/* Inside api/: texts through the model, several at a time. */
#ifndef API_INFER_H
#define API_INFER_H

#include "api/api.h"

/* Sequences, one after the other. */
struct seqs {
    struct host *host;
    struct ids ids, pos, types, start;
    int32_t n;
};
void seqs_init(struct seqs *t, struct model *m);
void seqs_free(struct seqs *t);
void seqs_clear(struct seqs *t);
/* Appends a sequence; what follows its token `second` is of the second text (0 = none). */
int seqs_add(struct seqs *t, const int32_t *ids, int64_t n, int64_t second);
/* Tokenizes a text, or a pair, cut to max_len, and appends it. */
int seqs_encode(struct seqs *t, const struct model *m, const char *text, const char *pair,
                 int64_t max_len);
typedef struct tensor *seqs_output(struct pass *p, struct tensor *hidden, void *arg);
/* Runs all of them; what `output` makes of the hidden states stays in *out
 * until the next run. */
int seqs_run(struct seqs *t, struct model *m, seqs_output *output, void *arg,
              const struct tensor **out);
int need_tokenizer(const struct model *m);
/* 0 = the model's; else checked against it. */
int check_max_len(const struct model *m, int32_t *max_len);

#endif
