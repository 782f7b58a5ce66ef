/* Rank 6: the training loop.  data -> batch -> graph -> loss -> gradients ->
 * clip -> optimizer; nothing in the loop knows an objective. */
#ifndef TRAIN_TRAIN_H
#define TRAIN_TRAIN_H

#include "adapt/adapt.h"
#include "train/prefix.h"

struct trainer;

/* What is minimised.  `features` is the part that may be frozen and cached
 * ([rows, dim], as many as `per` says), `loss` stands on it. */
enum per { PER_TARGET, PER_TEXT, PER_TOKEN, PER_ROW };
struct measure;
struct objective {
    const char *name;
    enum task task;                                 /* of the data that it takes */
    enum per per, term;                             /* features; terms of the mean */
    /* 1 = this one; 0 = another of the same task; < 0 = model and data do not fit. */
    int (*fits)(const struct model *m, const struct dataset *d);
    struct tensor *(*features)(struct pass *p, const struct batch *b);
    /* What the loss and the metrics read; NULL: the loss reads the features. */
    struct tensor *(*output)(struct pass *p, const struct batch *b, struct tensor *features);
    /* Value: scale * sum of the terms' losses. */
    struct tensor *(*loss)(struct pass *p, const struct batch *b, struct tensor *output,
                           float scale, struct loss_stats *stats);
    /* Notes a batch's outputs [rows, cols] for the metrics; NULL: the loss is all. */
    int (*note)(struct measure *s, const struct batch *b, const float *output);
    void (*report)(struct measure *s, peft_evaluation *out);
    /* What is told of the i-th row, whose terms begin at `first`; NULL: nothing more than its
     * loss, or where there is a `note`, that one gives the rows. */
    void (*row)(struct measure *s, const struct batch *b, const float *output, int64_t i,
                int64_t first, peft_eval_row *row);
};
extern const struct objective objective_lm, objective_classify, objective_regress, objective_labels,
    objective_numbers, objective_tokens, objective_span, objective_reward, objective_masked,
    objective_match, objective_triplet, objective_cosent, objective_cosine,
    objective_seq2seq;
extern const struct objective *const objectives[];          /* NULL-terminated */
/* By name, or with NULL by the model's head and the data; NULL with a message
 * when they do not fit. */
const struct objective *objective_for(const struct model *m, const struct dataset *d,
                                      const char *name);
/* Whether the loss of a row may depend on the others of its batch, which cannot be cut then. */
static inline int objective_compares(const struct objective *o)
{
    return o->task == TASK_MATCH || o->task == TASK_ALIKE;
}
/* What objectives are told besides the batch. */
struct loss_opts { float scale, margin; };
static inline const struct loss_opts *loss_opts(const struct pass *p)
{
    static const struct loss_opts usual = { 20, 5 };
    return p->loss ? p->loss : &usual;
}
/* The loss from the features. */
static inline struct tensor *objective_loss(const struct objective *o, struct pass *p,
                                            const struct batch *b, struct tensor *x, float scale,
                                            struct loss_stats *stats)
{
    return o->loss(p, b, o->output ? o->output(p, b, x) : x, scale, stats);
}
static inline int64_t per_rows(enum per per, int64_t tokens, int64_t targets, int64_t seqs)
{
    return per == PER_TARGET ? targets : per == PER_TEXT ? seqs : tokens;
}
/* Ids, positions and segments; no text of any batch is longer than `reach`. */
void batch_pass(struct pass *p, const struct batch *b, int64_t reach);

/* bias: 1 - beta^t at step t, from 1. */
struct hyper { float lr, beta1, beta2, eps, decay, gscale; double bias1, bias2; };
enum { STATES = 2 };
struct optimizer {
    const char *name;
    int states;                     /* numbers for each of the parameter's, at most STATES */
    int plain;                      /* bit k: state k is never below zero */
    /* n elements of a parameter. */
    void (*step)(const struct kernels *k, float *w, const float *g, float *const *state, int64_t n,
                 const struct hyper *h);
};
extern const struct optimizer *const optimizers[];
/* Learning rate's factor at step i (0-based) of n, after `warmup` steps. */
struct schedule {
    const char *name;
    double (*factor)(int64_t i, int64_t n, int64_t warmup);
};
extern const struct schedule *const schedules[];

/* --- states.c: what an optimizer keeps.  A state of n elements lies in one or two parts, one
 * after the other, each a tensor of the checkpoint. */
struct states { const struct kernels *k; const float *level[2]; uint64_t seed; int64_t step; };
struct state_at {
    void *part[2];
    int64_t first;                  /* element; a multiple of STATE_BLOCK */
    uint32_t stream;
    int plain;
};
struct storage_part { const char *type; int bytes, per; };      /* one for `per` elements */
struct storage {
    const char *name;
    int bits;
    struct storage_part part[2];
    /* NULL: the floats as they are. */
    void (*load)(const struct states *s, float *y, const struct state_at *at, int64_t n);
    void (*store)(const struct states *s, const struct state_at *at, const float *x, int64_t n);
};
enum { STATE_SMALL = 4096, STATE_CHUNK = 4 * STATE_BLOCK,
       UPDATE_BLOCKS = 64 };                   /* of a task */
const struct storage *storage_for(const char *name);            /* NULL = there is none */
const struct storage *storage_of(const struct storage *wish, int64_t n);
int64_t storage_count(const struct storage_part *p, int64_t n);
int64_t storage_bytes(const struct storage *s, int64_t n);

/* One trainable parameter's share of the arenas. */
struct trained {
    struct param *p;
    int64_t at, n;                  /* in grads; elements */
    int64_t block, state_at;        /* the first of its STATE_BLOCKs; bytes in each state */
    const struct storage *storage;
    float decay;
};
void *state_part(const struct trainer *t, const struct trained *p, int k, int part);
/* One step of the optimizer on all of them. */
void states_update(struct trainer *t, const struct hyper *h);

/* What a memory limit may change of how a step is made, none of it what it computes. */
struct manner {
    int32_t parts;                  /* of each batch, worked off one after another */
    enum recompute policy;
    int64_t chunks;                 /* bytes of logits at a time; 0 = as the loss likes */
    int32_t lean;                   /* mapped weights leave memory when they have been read */
};

/* --- compare.c.  The reference's hidden states [rows, dim], and its head. */
struct reference { const float *hidden; int64_t dim; struct matrix head; };
struct reference reference_of(const struct model *m, const float *hidden);
/* 1 = by KL on next tokens; 0 = by the mean hidden state of each text. */
int compare_lm(const struct model *m);
/* The inference graph and rope tables for the data set's lengths. */
int compare_begin(struct model *m, const struct dataset *d);
int64_t compare_rows(const struct model *m, const struct batch *b);
struct tensor *compare_features(struct pass *p, const struct batch *b);
int compare_hidden(struct model *m, const struct batch *b, float *to);
/* What is summed: of language models kl, of others mse (of vectors of length 1). */
struct compared { struct kl_stats kl; struct loss_stats mse; };
/* scale * sum of KL(reference || model) over the batch's targets, or of 1 - cos over
 * its texts. */
struct tensor *compare_loss(struct pass *p, const struct batch *b, const struct reference *r,
                            float scale, struct compared *sum);
/* The mean of KL, or of 1 - cos. */
double compare_mean(const struct model *m, const struct compared *sum);

/* --- anchor.c: texts on which the model shall stay as it was */
struct anchor {
    struct dataset *d;              /* or NULL */
    struct batcher *batcher;
    struct batch_size max;
    int64_t rows;                   /* tokens that are compared, of all texts */
    float *hidden;                  /* before the run: the head if it trains, and hidden states
                                       [rows, dim]; made at the first step */
    int64_t at, first;              /* the row of this step, and what is compared before it */
    struct compared sum;            /* of the step in flight */
    double weight, smooth;          /* smooth: KL, smoothed over steps */
};

enum stage { STAGE_IDLE, STAGE_MICRO, STAGE_BELOW, STAGE_RUN, STAGE_ANCHOR };
struct trainer {
    struct model *m;
    struct dataset *d;
    peft_train_opts o;              /* with its defaults filled in */
    struct augment augment;
    const struct objective *objective;
    struct loss_opts loss;
    const struct optimizer *optimizer;
    const struct schedule *schedule;
    struct batcher *batcher;
    struct graph *graph;
    struct pass_mem *mem;
    struct arena arena;
    struct trained *list;
    int64_t n_list, n_floats;       /* trainable tensors, and their elements */
    float *grads;                   /* [n_floats], made at the first step */
    char *state[STATES];            /* [state_bytes] each, then too */
    int64_t n_blocks, state_bytes;
    const struct storage *storage;  /* of large tensors' states */
    float levels[2][256];           /* tree_levels */
    float *own;                     /* [n_own], what methods keep: param.state */
    int64_t n_own;
    char *kept;                     /* [n_kept] trainer_keep's, or NULL */
    int64_t n_kept;
    double *norm_parts;             /* [n_floats / NORM_GRAIN] */
    struct prefix prefix;           /* what is frozen below all that trains */
    struct anchor anchor;
    struct batch_size max;          /* of any batch */
    int64_t slab, scratch, panels;  /* of the largest graph */
    int64_t eval_slab;              /* of evaluating one as large */
    int has_tables;                 /* of the prefix, which stay while sizes are tried */
    struct manner how;
    int64_t whole;                  /* tokens of the largest batch before it is cut */
    int64_t held;                   /* bytes of mapped weights that stay when they are lean */
    int64_t least;                  /* the smallest memory limit; 0 = none was given */
    char choice[240];               /* what was chosen for it, for people */
    char manner[64];                /* and for another run */
    double flops;                   /* of the largest step */
    struct pace *pace;              /* how fast nodes are; NULL = not measured */
    double each, once, beside;      /* by it: of the largest batch; of its frozen part; of the
                                       anchor's */
    double planning;                /* seconds that building and planning a graph took */
    double mean_seconds, first_seconds;     /* of a step on average; of what is done only once */
    double mean_tokens;             /* of a step, by the batches of an epoch */
    struct profile *profile;        /* or NULL */
    int64_t steps, step, epochs;    /* of the run; done; epochs begun in the run */
    int64_t epoch, index;           /* next batch */
    int64_t tokens_seen, terms_seen;
    _Atomic int cancel;
    /* the step in flight */
    enum stage stage;
    struct pass pass;
    int64_t epoch0, index0;         /* where it began */
    int32_t micro, micros;
    int64_t terms, tokens;
    struct loss_stats stats;
    int64_t job;                    /* of STAGE_BELOW */
    int rest;                       /* 1 = what the batch has that is not kept was computed */
    double seconds;
    int64_t rows;
    int anchored;                   /* the step has had its anchor */
};

enum { NORM_GRAIN = 65536 };        /* elements of one partial sum of the norm */
/* The batches under t->how. */
int trainer_batches(struct trainer *t);
/* Sizes of the graphs under t->how, and of the batch that is largest then. */
int trainer_size(struct trainer *t);
/* Parts of a step. */
static inline int64_t trainer_micros(const struct trainer *t)
{
    return (int64_t)t->o.accumulate * t->how.parts;
}
/* Float copies, gradients and states: made at the first step. */
int trainer_prepare(struct trainer *t);
/* Zeros by all threads: the first touch of a page is what takes its time. */
void trainer_zero(const struct trainer *t, void *p, int64_t bytes);
int trainer_new(struct model *m, struct dataset *d, const peft_train_opts *o, struct trainer **out);
void trainer_free(struct trainer *t);
int trainer_plan(const struct trainer *t, peft_plan *out);
/* Until the end of a step or the deadline (os_seconds; <= 0 none): 1 = step done. */
int trainer_run(struct trainer *t, double deadline, peft_step *out);
int trainer_profile(struct trainer *t, int on);         /* on: begins anew */
int trainer_save(struct trainer *t, const char *dir);
int trainer_resume(struct trainer *t, const char *dir);
int trainer_keep(struct trainer *t);
int trainer_back(struct trainer *t);

/* --- metric.c: what evaluations count.  Figures are those of scikit-learn,
 * scipy, seqeval and SQuAD's script. */
struct measure {
    struct host *host;
    const struct model *m;
    const struct dataset *d;
    const peft_eval_opts *o;
    struct loss_stats stats;
    int64_t n;                      /* classes */
    int64_t *is, *said, *both;      /* [n] how often each class is true, said, both */
    struct pair_of *x;              /* [used] numbers: said, true */
    int64_t used, cap;
    int64_t chunks[3];              /* TASK_TOKEN: right, said, true */
    double sum;                     /* TASK_PAIR: differences; TASK_CLASS: Brier scores */
    struct answers *answers;        /* TASK_SPAN */
    float *texts;                   /* TASK_MATCH: embeddings [texts, rows, dim], of length 1 */
    /* with on_row, else NULL */
    float *scores, *wanted;         /* [n] of a row, at least 1 */
    int32_t *tags;                  /* TASK_TOKEN: of a batch's terms */
    struct loss_term *losses;       /* TASK_MATCH: of all rows */
    int rc;                         /* PEFT_ECANCELLED by on_row */
};
struct pair_of { double a, b; };
int measure_new(struct measure *s);
void measure_free(struct measure *s);
void metric_add(peft_evaluation *out, const char *name, double value);
/* --- eval_row.c: rows for on_row.  `most` is the size of the largest batch. */
int rows_new(struct measure *s, const struct batch_size *most);
int rows_note(struct measure *s, const struct objective *o, const struct batch *b, const float *z);
void row_give(struct measure *s, peft_eval_row *row);
void row_class(struct measure *s, const struct batch *b, const float *z, int64_t i, int64_t first,
               peft_eval_row *row);
void row_labels(struct measure *s, const struct batch *b, const float *z, int64_t i, int64_t first,
                peft_eval_row *row);
void row_numbers(struct measure *s, const struct batch *b, const float *z, int64_t i, int64_t first,
                 peft_eval_row *row);
void row_pair(struct measure *s, const struct batch *b, const float *z, int64_t i, int64_t first,
              peft_eval_row *row);
/* --- metric.c again */
void row_tokens(struct measure *s, const struct batch *b, const float *z, int64_t i, int64_t first,
                peft_eval_row *row);
/* Of classes, from the confusion matrix. */
int note_classes(struct measure *s, const struct batch *b, const float *z);
void report_classes(struct measure *s, peft_evaluation *out);
int note_labels(struct measure *s, const struct batch *b, const float *z);
void report_labels(struct measure *s, peft_evaluation *out);
int note_number(struct measure *s, double said, double is);
int note_numbers(struct measure *s, const struct batch *b, const float *z);
void report_numbers(struct measure *s, peft_evaluation *out);
int note_tokens(struct measure *s, const struct batch *b, const float *z);
void report_tokens(struct measure *s, peft_evaluation *out);
int note_pairs(struct measure *s, const struct batch *b, const float *z);
void report_pairs(struct measure *s, peft_evaluation *out);
int note_spans(struct measure *s, const struct batch *b, const float *z);
void report_spans(struct measure *s, peft_evaluation *out);

/* --- retrieve.c: embeddings [texts of the batch, dim] */
int note_alike(struct measure *s, const struct batch *b, const float *x);
int note_texts(struct measure *s, const struct batch *b, const float *x);
void report_texts(struct measure *s, peft_evaluation *out);

/* --- answer.c */
struct span_score { int32_t begin, end; float score; };
int32_t spans_best(const float *z, int64_t from, int64_t to, int64_t most, struct span_score *out,
                   int32_t n);
/* Exact match and F1 of what was said, n bytes; `two` are working memory. */
int squad_scores(struct buf two[2], const struct question *q, const char *said, int64_t n,
                 double *exact, double *f1);
int answers_new(struct measure *s);
void answers_free(struct measure *s);

int eval_run(struct model *m, const struct dataset *d, const peft_eval_opts *o,
             peft_evaluation *out);

/* --- eva.c: LoRA's A from the data */
int eva_init(struct model *m, struct adapter *a, const struct dataset *d, const peft_eva_opts *o);

/* --- budget.c: t->how, as fast as t->o.memory_limit allows; nothing without one. */
int budget_choose(struct trainer *t);
/* When the first step begins; and when the trainer ends. */
void budget_begin(struct trainer *t);
void budget_end(struct trainer *t);
/* Between steps the model's other work has the memory of a step, and has given it
 * back when the next step begins. */
void budget_lend(struct trainer *t);
void budget_take(struct trainer *t);

int anchor_new(struct trainer *t, struct dataset *d);    /* d NULL: nothing */
void anchor_free(struct trainer *t);
int64_t anchor_bytes(const struct trainer *t);
/* Notes the model as it is; once. */
int anchor_begin(struct trainer *t);
const struct batch *anchor_batch(struct trainer *t, const float **hidden);
/* NULL with a message. */
struct tensor *anchor_loss(struct trainer *t, const struct batch *b, const float *hidden);
void anchor_stepped(struct trainer *t, peft_step *out);

/* --- predict.c: measures nodes, and then tells the seconds of a step of the largest batches,
 * and of the mean ones for the plan. */
int predict_begin(struct trainer *t);
double predict_step(const struct trainer *t);
int predict_run(struct trainer *t);
int trainer_measure(struct trainer *t, const char *only, double deadline, int64_t memory);
/* Mapped weights that training reads, in bytes. */
int64_t trainer_mapped(const struct trainer *t);

/* --- card.c: what README.md of the enabled adapters says of a run. */
void card_step(struct trainer *t, const peft_step *s);
void card_metrics(struct model *m, const peft_evaluation *e);

#endif
