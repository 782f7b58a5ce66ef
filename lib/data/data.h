/* Rank 5: from files to batches.  file -> rows -> schema -> tokens -> batches. */
#ifndef DATA_DATA_H
#define DATA_DATA_H

#include "base/rng.h"
#include "model/arch.h"
#include "model/vision.h"
#include "text/text.h"

/* What the rows are, and so what can be trained on them. */
enum task {
    TASK_LM,                        /* labels: the next token */
    TASK_CLASS,                     /* one class or number a row */
    TASK_SEQ2SEQ,                   /* a source, and a target with its next tokens as labels */
    TASK_MULTI,                     /* any number of classes, or several numbers, a row */
    TASK_TOKEN,                     /* labels: a class of each token */
    TASK_SPAN,                      /* where in its text the answer to a question stands */
    TASK_PAIR,                      /* two texts, the first of which is better */
    TASK_MASKED,                    /* labels: the token itself, where it is masked */
    TASK_MATCH,                     /* a text, one that fits it, and some that do not */
    TASK_ALIKE                      /* two texts and how alike they are */
};

/* A question and its context, of which each window is a row. */
struct question {
    const char *id, *context;
    int64_t context_n;              /* bytes */
    const char **answers;           /* [n_answers], that evaluation accepts; none = no answer */
    int32_t n_answers, n;           /* n: tokens of the context */
    const int32_t *begin, *end;     /* [n] their bytes */
};

/* One row: one text, or as many as all rows of its data set have. */
struct example {
    int32_t *ids;                   /* [n], its texts one after the other */
    int32_t *labels;                /* [n], -100 = not trained; NULL without labels of tokens */
    const int32_t *ends;            /* [texts] where each text ends; NULL = one text */
    int32_t n;
    int32_t second;                 /* where the second text of a pair begins; 0 = no pair */
    int32_t label;                  /* class; -1 = none */
    float value;                    /* regression target; NAN = the label is a name; TASK_PAIR: by
                                       how much the first text is to be better */
    int32_t *classes;               /* TASK_MULTI: [n_classes], or NULL */
    float *values;                  /* TASK_MULTI: [n_classes], one for each label, or NULL */
    int32_t n_classes;
    int32_t span[2];                /* TASK_SPAN: first and last token of the answer */
    const struct question *question;/* or NULL: rows of ids */
    int32_t first, before;          /* of the context, the token that is token `before` here */
    const char *picture;            /* its file; NULL = a row of text */
    const uint8_t *pixels;          /* at the model's size; NULL = decoded for each batch */
    int64_t line;
};
struct dataset {
    struct host *host;
    struct arena arena;             /* all examples and names */
    struct example *rows;
    int64_t n, cap;
    char schema[32];
    char file[96], hash[65];        /* its name and SHA-256; "" for a folder */
    const char **labels;            /* class names, sorted or as given */
    int32_t n_labels;
    int32_t max_len;                /* tokens of the longest example */
    int32_t texts;                  /* of each row, 1 or more */
    int64_t truncated, skipped;
    int64_t trained;                /* tokens, of data_prepare */
    enum task task;
    const struct vision *vision;    /* of the model, when the rows are pictures */
    int32_t masks;                  /* TASK_MASKED: tokens are chosen anew each epoch */
    int32_t mask_id, vocab;         /* what takes their place */
    struct shard_view *views;       /* mapped files that rows point into */
    struct dataset *parent;         /* of a split: its arena holds the rows */
    struct dataset *second;         /* of a mixture: the other arena; or NULL */
    _Atomic int32_t users;          /* of the arena: itself and its splits */
    int32_t trainers;               /* alive: the rows must stay */
    uint64_t serial;                /* of these rows: no others have it while the process lives */
};
struct shard_view { struct file_view view; struct shard_view *next; };
/* How rows of a file are read. */
struct source_opts {
    const char *columns;            /* "text=body,label=stars": new names of columns; or NULL */
    const char *table;              /* of SQLite: its name, or a query; NULL = the only one */
    int64_t limit;                  /* rows; 0 = all */
    int64_t chunk;                  /* of plain texts: bytes of a row at most; 0 = paragraphs of
                                       one file, whole files of a folder */
    const char *text;               /* in place of a file, whose name the path is then; or NULL */
    int64_t text_n;                 /* bytes */
};
struct data_opts {
    int32_t max_len;                /* tokens an example; > 0 */
    int32_t any_len;                /* > 0: prepared rows may be up to that long instead */
    int32_t vocab;                  /* ids must be below */
    int32_t train_on_prompt;
    struct source_opts source;
    int32_t causal;                 /* 0: encoder */
    int32_t seq2seq, start;         /* encoder-decoder, whose targets begin with token `start` */
    const char *prefix;             /* of every source text, or NULL */
    const char *system;
    const char *const *labels;      /* names of an existing head, or NULL */
    int32_t n_labels;
    const struct vision *vision;    /* a model of pictures: rows are files */
    int32_t any_path;               /* a list may name files outside of its folder */
    enum head_id head;              /* of the model: what input_ids are for */
    int32_t window, stride;         /* questions: tokens of a row, and that two rows share */
    int32_t label_all;              /* every piece of a word has its label */
    int32_t threads;                /* of data_prepare */
    int32_t (*progress)(void *ctx, int64_t rows, int64_t bytes);    /* non-zero: ends; or NULL */
    void *ctx;
};
/* `tok` may be NULL: then only input_ids rows work, and others are
 * PEFT_ENOTFOUND with "no tokenizer". */
int data_load(struct host *h, const struct tokenizer *tok, const char *path,
              const struct data_opts *o, struct dataset **out);
/* A conversation as the source of an encoder-decoder model: by its chat template
 * if it has one, a single message as it is, else "role: content" in lines. */
int data_source_text(const struct tokenizer *tok, const struct message *m, int64_t n,
                     struct buf *out);
/* A data set and its splits are freed in any order: the last one frees the
 * examples. */
void data_free(struct dataset *d);
/* Writes the rows as tokens into a file that data_load maps, or with `rows` > 0
 * a folder of files with so many each; counts[n] gets how many rows of n tokens there
 * are.  *out has no rows, but all else that is told of them.  The same bytes for any number of
 * threads. */
int data_prepare(struct host *h, const struct tokenizer *tok, const char *path,
                 const struct data_opts *o, const char *to, int64_t rows, struct ids *counts,
                 struct dataset **out);
/* Moves round(share * n) rows, at least one and not all, into *eval; both keep
 * their rows in file order. */
int data_split(struct dataset *d, double share, uint64_t seed, struct dataset **eval);
/* A data set of d's rows rows[0..n), which it shares, in this order and any of them any
 * number of times. */
int data_subset(const struct dataset *d, const int64_t *rows, int64_t n, struct dataset **out);
/* All rows of the one, and n of the other, chosen by seed. */
int data_mix(const struct dataset *d, const struct dataset *other, int64_t n, uint64_t seed,
             struct dataset **out);

/* --- pictures */
enum { PICTURES_KEPT = 1 << 30 };   /* bytes of decoded pictures that a data set holds */
int64_t picture_bytes(const struct vision *v);
/* Brings a file's content, or a file, to the model's size: [h, w, channels].
 * Broken content is PEFT_EFORMAT, a wrong size PEFT_EDATA. */
int picture_read(struct host *h, const struct vision *v, const uint8_t *data, int64_t n,
                 uint8_t *to);
int picture_open(struct host *h, const struct vision *v, const char *path, uint8_t *to);
/* Bytes -> normalised pixels [channels, h, w]. */
void picture_pixels(const struct vision *v, const uint8_t *px, float *to);

/* Strengths of random changes; 0 = none. */
struct augment {
    float flip;                     /* probability */
    float rotate;                   /* degrees to both sides */
    float crop;                     /* share of the sides that is cut off at most */
    float shift;                    /* share of the sides to all directions */
    float brightness, contrast, saturation; /* share of change, both ways */
    float hue;                      /* share of the circle, both ways */
    int on;
};
/* "flip,rotate=10,crop=0.1,shift=0.1,brightness=0.2,contrast=0.2,saturation=0.2,hue=0.05";
 * NULL = none. */
int augment_parse(const char *text, struct augment *out);
/* Factors, 1 = as it is; hue: a turn of 0 to 1.  x [channels], 0 to 255. */
struct colour { double brightness, contrast, saturation, hue; };
void change_colour(const struct colour *c, double *x, int32_t channels);
void augment_picture(const struct augment *o, const struct vision *v, uint64_t seed, int64_t epoch,
                     int64_t row, const uint8_t *from, uint8_t *to);

/* --- batches.  The order of an epoch is a permutation by (seed, epoch), so a
 * position (epoch, index) is all that a checkpoint needs. */
struct batch {
    int64_t n;                      /* tokens of all its examples */
    int64_t n_rows;                 /* examples */
    int64_t n_seq;                  /* texts: the first of every example, then the second of every
                                       example, ... */
    const int32_t *ids, *pos;       /* [n]; pos from 0 in each text */
    const int32_t *types;           /* [n], 1 = of the second text of a pair */
    const int32_t *start;           /* [n_seq + 1] first token of each text */
    /* language model: rows whose next token is trained, and that token */
    const int32_t *rows, *target;   /* [n_target] */
    int64_t n_target;
    const int32_t *label;           /* [n_rows], classification */
    const float *value;             /* [n_rows], regression; margins of pairs */
    const float *targets;           /* [n_rows, n_labels] TASK_MULTI */
    const int32_t *span;            /* [n_rows, 2] TASK_SPAN, as tokens of the batch */
    const int32_t *example;         /* [n_rows] index into the data set */
    const int32_t *same;            /* [n_seq] the first text of the batch that is equal; of
                                       TASK_MATCH */
    const float *patches;           /* [n - n_seq, patch] of pictures, else NULL */
};
struct batcher;
struct batch_opts {
    int32_t batch;                  /* examples, or packs with `packing` */
    int32_t packing, max_len;       /* pack length; 0 = longest example */
    int32_t shuffle;
    uint64_t seed;
    struct augment augment;
    int32_t parts;                  /* each batch is given out as so many smaller ones; 0 = 1 */
    const struct batch_size *room;  /* batcher_take's batches are up to that large; or NULL */
};
/* Makes the batches of any epoch; holds one batch at a time, in memory that is
 * allocated once for the largest. */
int batcher_new(const struct dataset *d, const struct batch_opts *o, struct batcher **out);
void batcher_free(struct batcher *b);
/* Batches in epoch `epoch` (>= 0), in which each example occurs exactly once. */
int64_t batcher_count(struct batcher *b, int64_t epoch);
/* Cuts batches into `parts` from now on, or a few less where sizes would not be even; how
 * many.  For a batcher that was made for one part. */
int32_t batcher_cut(struct batcher *b, int32_t parts);
/* The size of a batch without making it. */
struct batch_size {
    int64_t tokens, targets, seqs;  /* targets: trained ones */
    int64_t first;                  /* tokens of the rows' first texts, and of the others */
    int64_t others;
};
void batch_size_max(struct batch_size *to, const struct batch_size *x);     /* each one's larger */
void batcher_size(struct batcher *b, int64_t epoch, int64_t i, struct batch_size *out);
/* Adds one example's size. */
void batcher_add_size(const struct batcher *b, int64_t example, struct batch_size *to);
/* The i-th batch's examples, *n of them; valid until another epoch is asked for. */
const int32_t *batcher_rows(struct batcher *b, int64_t epoch, int64_t i, int64_t *n);
/* A batch of any n examples, within the options' `room`; as batcher_get otherwise. */
const struct batch *batcher_take(struct batcher *b, const int32_t *rows, int64_t n);
/* The i-th batch; valid until the next call.  NULL when a picture's file has
 * become unreadable. */
const struct batch *batcher_get(struct batcher *b, int64_t epoch, int64_t i);
/* Upper bounds over all batches of the epochs [0, epochs): the exact maxima
 * unless it would take too long to go through all of them. */
void batcher_max(struct batcher *b, int64_t epochs, struct batch_size *out);

#endif
