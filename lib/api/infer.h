/* Inside api/: texts through the model, several at a time. */
#ifndef API_INFER_H
#define API_INFER_H

#include "api/api.h"

/* Sequences, one after the other. */
struct seqs {
    struct host *host;
    struct ids ids, pos, types, start;
    int32_t n;
    /* Both as a pass has them, which they are handed to; NULL = none. */
    const struct adapter *const *acts;      /* [n] what acts on each */
    struct tensor **enters;                 /* [layers] receives what enters each layer */
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
/* What acts on each of several texts, and an order in which equal ones stand
 * together: acts[i] is for the text order[i]. */
struct mix {
    const struct adapter **acts;    /* NULL without names */
    int32_t *order;
};
int mix_new(struct model *m, const char *const *names, int32_t n, struct mix *out);
void mix_free(struct model *m, struct mix *x);
/* NULL and PEFT_BASE give NULL and &adapter_base. */
int acting_adapter(const struct model *m, const char *name, const struct adapter **out);
/* What the head says: of every token, or of each text. */
struct tensor *head_output(struct pass *p, struct tensor *hidden, void *unused);
/* Ids that fit the model and its room, of a model that reads one text and has a head
 * or vocabulary. */
int check_ids(const struct model *m, const int32_t *ids, int32_t n);
int check_forward(const struct model *m);
int complete_messages(const peft_message *messages, int32_t n);
/* Options with their defaults, for a model that can generate. */
int take_generate_opts(const struct model *m, const peft_generate_opts *opts,
                       peft_generate_opts *o);
/* A conversation of n messages as ids. */
int render_prompt(struct model *m, const peft_message *messages, int32_t n, int raw,
                  struct ids *ids);
/* 0 = the model's; else checked against it. */
int check_max_len(const struct model *m, int32_t *max_len);

#endif
