/* libpeft_kit: judgement.  Settings chosen, runs watched, results compared.
 *
 * A library of its own above libpeft; the rules of peft.h hold here too: threads, ownership,
 * errors (reasons are read by peft_errmsg), options that begin with their size.
 */
#ifndef PEFT_JUDGE_H
#define PEFT_JUDGE_H

#include "peft.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------- before a training */

enum { PEFT_NAMED = 8, PEFT_FLAWS = 8 };
/* What is wrong with some rows:
 * answer-lost  the answer lies wholly beyond max_len, the row is left out
 * answer-cut   the answer loses its end at max_len, so its end is never learnt
 * cut          a text is cut at max_len
 * empty        nothing of the row trains, it is left out
 * leak         a row of the evaluation data is a training row too */
typedef struct peft_flaw {
    const char *name;         /* static */
    int32_t refuses;          /* 1 = the training, or its evaluation, would be worth nothing:
                                 answers of more than half of the rows cut or lost, more than
                                 half of the rows empty, any leak */
    int64_t rows;
    int32_t n;                /* lines below, of the first such rows; 0 = they are not known */
    int64_t lines[PEFT_NAMED];        /* in the file, from 1; of leaks the evaluation data's */
    int64_t others[PEFT_NAMED];       /* leaks: the training data's */
    int32_t max_len;          /* that would do for all of them; 0 = the model's is too small, or
                                 that is not what is wrong */
    char text[200];           /* the same in words */
} peft_flaw;
typedef struct peft_checked {
    size_t size;
    int64_t rows;             /* that were looked at, those that were left out too */
    int32_t refuses;          /* 1 = one of the flaws does */
    int32_t n;
    peft_flaw flaws[PEFT_FLAWS];
} peft_checked;
typedef struct peft_judge_opts {
    size_t size;
    const peft_dataset *eval; /* whose rows must not be among the data's; NULL = none */
    const char *path;         /* where the data was loaded from, and how, to find the rows that */
    const peft_dataset_opts *read;    /* max_len cuts: they are read again, only if there are
                                         some; NULL = such rows are just counted */
} peft_judge_opts;
/* Whether a data set is fit to be trained on.  Rows are the same when their texts are, but
 * for white space (without a tokenizer: their ids).  That something is wrong is no failure of
 * the call.  Two flaws never get here: a BOS that the template and the tokenizer both add,
 * and rows of which none trains, are refused by peft_dataset_load. */
PEFT_API int32_t peft_judge_check(const peft_model *model, const peft_dataset *data,
                                  const peft_judge_opts *opts, peft_checked *out);
/* Row i of a data set as text, with `open` before and `close` behind each stretch of tokens
 * that train (NULL = "[" and "]"; or colours of a terminal), and the label of the row behind
 * " => ".  Without a tokenizer the ids.  Returns the bytes and writes at most `cap` of them,
 * no NUL. */
PEFT_API int64_t peft_judge_row(const peft_model *model, const peft_dataset *data, int64_t i,
                                const char *open, const char *close, char *text, int64_t cap);

typedef struct peft_cost_opts {
    size_t size;
    double price;             /* of a token, or */
    double price_hour;        /* of an hour of this machine; both add up */
} peft_cost_opts;
/* What a run takes beside memory. */
typedef struct peft_cost {
    size_t size;
    int64_t steps, tokens;    /* tokens: as often as they are read */
    int64_t trained_tokens;   /* of these */
    double seconds;           /* predicted */
    int64_t adapter_bytes;    /* on disk: the adapter's folder; 0 = there is none */
    int64_t model_bytes;      /* the model's folder where its own weights train; else 0 */
    int64_t checkpoint_bytes; /* of one */
    int64_t cache_bytes;      /* of a cache_file */
    double price;
} peft_cost;
PEFT_API int32_t peft_judge_cost(const peft_model *model, const peft_dataset *data,
                                 const peft_trainer *trainer, const peft_cost_opts *opts,
                                 peft_cost *out);

/* --------------------------------------------------- settings by themselves */

typedef struct peft_aside_opts {
    size_t size;
    double share;             /* of the rows that are set aside, 0 to 1; 0 = a tenth, at least 250
                                 rows or a quarter, at most 2000; none of less than 20 */
    uint64_t seed;
} peft_aside_opts;
/* Two data sets of the rows of one, which stays: those set aside for evaluation have each
 * label's share (the stated one, at least one row where there are 5), and rows with the same text
 * (as peft_judge_check compares them) are all on one side.  *eval is NULL where there are too
 * few rows. */
PEFT_API int32_t peft_judge_aside(const peft_model *model, const peft_dataset *data,
                                  const peft_aside_opts *opts, peft_dataset **train,
                                  peft_dataset **eval);

/* One setting: what it is, and why. */
typedef struct peft_chosen {
    const char *name;         /* "method", "rank", "batch", "lr", "epochs" ...; static */
    char value[40];
    int32_t given;            /* 1 = by the caller: it is as it was given */
    char why[240];
} peft_chosen;
/* One run that settings were compared by: complete, with a schedule that ends. */
typedef struct peft_tried {
    char method[32];
    int32_t rank, last;
    float lr;
    double epochs;
    double value;             /* what they were compared by, less is better: the Brier score of a
                                 classification, else the loss; or the metric that was given */
    double loss;
    double seconds;
} peft_tried;
enum { PEFT_CHOSEN = 12, PEFT_RANGE = 64, PEFT_TRIED = 32 };
typedef struct peft_auto_opts {
    size_t size;
    /* What is given (not 0 or NULL) stays, the rest is chosen. */
    const char *method;       /* "head": a new last layer or the output layer alone; "last": the
                                 last layers, and those; "full": all; else an adapter's */
    int32_t rank;             /* of adapters */
    int32_t last;             /* layers of "last" */
    int32_t batch, epochs, patience;
    float lr;
    const peft_adapter_opts *adapter; /* everything else about an adapter, or NULL */
    const peft_train_opts *train;     /* everything else about training, or NULL */
    const char *metric;       /* that tells which evaluation is best */
    int64_t memory;           /* bytes that training may take; 0 = 4/5 of what is available */
    int32_t range_steps;      /* of the range test; 0 = 40; < 0: no test, the method's usual rate */
    /* Called now and then; non-zero ends with PEFT_ECANCELLED. */
    int32_t (*progress)(void *ctx, const char *doing, int64_t done, int64_t total);
    void *ctx;
    int32_t no_runs;          /* 1 = nothing is compared by runs: rules and range test alone */
    int32_t no_refit;         /* 1 = rows of `eval` are not to train: they end the training */
} peft_auto_opts;
typedef struct peft_choice {
    size_t size;
    char method[32];
    int32_t rank, last;
    int32_t batch, accumulate;
    int32_t epochs;           /* at most: an evaluation after each, and an end when `patience` */
    int32_t patience;         /* of them in a row were no better; 0 = nothing to evaluate on */
    float lr, warmup;
    char schedule[16];
    char metric[16];          /* that tells which evaluation is best, as in peft_watch_opts */
    int32_t n;                /* of the settings, as they are to be told */
    peft_chosen chosen[PEFT_CHOSEN];
    int32_t n_range;          /* the range test: learning rates, the loss's change, smoothed */
    float range_lr[PEFT_RANGE], range_loss[PEFT_RANGE];
    int32_t n_tried;
    peft_tried tried[PEFT_TRIED];
    double seconds;           /* of range tests and of those runs */
    int32_t refit;            /* 1 = the epochs are those of the best complete run, so that the
                                 rows of `eval` may train too, and nothing is evaluated */
} peft_choice;
/* Chooses settings by rules, which docs/judgement.md tells, from the rows, the task and memory,
 * a range test of the learning rate (Smith 2017) on `data` for each method that may be, and,
 * where there is `eval` (else NULL), successive halving of runs that double: method, learning
 * rate and epochs are those of the run after which `eval` was best.  The model has the head
 * that the data needs and no adapter, and is as it was when the call returns. */
PEFT_API int32_t peft_auto(peft_model *model, peft_dataset *data, const peft_dataset *eval,
                           const peft_auto_opts *opts, peft_choice *choice);
/* Makes what the choice says trainable; an adapter is called "default". */
PEFT_API int32_t peft_auto_apply(peft_model *model, const peft_choice *choice,
                                 const peft_adapter_opts *adapter);

/* --------------------------------------------------------- texts, compared */

typedef struct peft_score_opts {
    size_t size;
    const char *const *other; /* [n] what a second system wrote for the same rows, or NULL */
    int64_t samples;          /* of the bootstrap; 0 = 1000 */
    double level;             /* of the intervals; 0 = 0.95 */
    uint64_t seed;
} peft_score_opts;
typedef struct peft_score {
    const char *name;         /* "rougeL"; static */
    double value, low, high;  /* of `said`, and its confidence interval */
    double other;             /* of the second system */
    double gain, gain_low, gain_high; /* other - value, and its interval on the same rows */
    double p;                 /* of a gain as far from 0 by chance; small: the systems differ */
} peft_score;
enum { PEFT_SCORES = 8 };
typedef struct peft_scores {
    size_t size;
    int32_t n;
    peft_score scores[PEFT_SCORES];
} peft_scores;
/* How near n written texts are to the wanted ones (UTF-8): exact_match and f1 (SQuAD's,
 * normalised), rouge1, rouge2, rougeL (the mean F1, as the package rouge-score without a
 * stemmer), bleu and chrf (of all rows together, as sacrebleu).  Intervals are
 * percentiles of a bootstrap over rows (Koehn 2004), p is of approximate randomisation
 * (Riezler & Maxwell 2005).  The same seed gives the same intervals.  Any thread. */
PEFT_API int32_t peft_score_texts(const char *const *said, const char *const *wanted, int64_t n,
                                  const peft_score_opts *opts, peft_scores *out);

/* The expected calibration error (Guo et al. 2017) of n classifications: confidence[i], the
 * probability of the class that was chosen, and whether it was right, in `bins` (0 = 15) of
 * equal width, (k / bins, (k + 1) / bins]: the mean over rows of |share right - mean
 * confidence| of their bin.  Negative on a wrong argument. */
PEFT_API double peft_calibration_error(const double *confidence, const int32_t *right, int64_t n,
                                       int32_t bins);

/* ----------------------------------------------------------- runs, watched */

typedef struct peft_watch peft_watch;
typedef struct peft_watch_opts {
    size_t size;
    const peft_model *model;  /* whose trained weights are looked at twice in the first ten steps;
                                 NULL = not.  It must outlive the watch */
    const char *metric;       /* that decides which evaluation is best; NULL = "loss".  Least is
                                 best of loss, perplexity, mse and mae, most of all others */
    int32_t patience;         /* evaluations in a row that may be no better; 0 = any */
    double chance;            /* the loss of guessing; 0 = by the model: ln(classes), ln(vocab) */
    double smoothing;         /* weight of the past in the smooth loss; 0 = 0.9 */
    int64_t resumed;          /* of a run that goes on, the last step that was made before:
                                 weights are looked at after it */
} peft_watch_opts;
/* What was found.  Kinds: "nonfinite"; "diverged"; "spike"; "dead": the loss is flat, the
 * gradient or the learning rate zero, or weights (LoRA's B) stay as they were; "chance": no
 * better than guessing; "overfitting": the training loss falls and that of the evaluation
 * rises; "worse": an evaluation is worse than before the training. */
typedef struct peft_notice {
    size_t size;
    const char *kind;         /* static */
    int64_t step, since;      /* when it was found; where it began */
    char what[200], advice[200];
} peft_notice;
typedef struct peft_watched {
    size_t size;
    double smooth;            /* training loss: exponential mean, corrected for its start */
    int64_t steps, evaluations; /* that it was told */
    int64_t best_step;        /* of the best evaluation after step 0; -1 = there is none */
    double best;              /* its value of the metric */
    double best_loss;
    double first_loss;        /* of the evaluation at step 0; NaN = there was none */
    int32_t improved;         /* 1 = the last evaluation is the best: peft_trainer_keep now */
    int32_t waited;           /* evaluations since the best one */
    int32_t stop;             /* 1 = patience has ended */
    int32_t n_notices;
} peft_watched;
/* Looks at a run while it is made: told of every step and evaluation, it says what goes
 * wrong, at most once of each kind (of spikes: once in 20 steps), and when to stop.  The same
 * steps give the same notices, so that a run that is resumed can tell those it made before. */
PEFT_API int32_t peft_watch_new(const peft_watch_opts *opts, peft_watch **out);
PEFT_API void peft_watch_free(peft_watch *watch);
PEFT_API int32_t peft_watch_step(peft_watch *watch, const peft_step *step);
/* After `step` steps; 0 = before the training.  PEFT_ENOTFOUND when there is no such metric. */
PEFT_API int32_t peft_watch_eval(peft_watch *watch, int64_t step, const peft_evaluation *e);
PEFT_API int32_t peft_watch_info(const peft_watch *watch, peft_watched *out);
/* Notice i, from 0; PEFT_EEND after the last. */
PEFT_API int32_t peft_watch_notice(const peft_watch *watch, int32_t i, peft_notice *out);
/* 1 = a smaller value of that metric is better. */
PEFT_API int32_t peft_metric_falls(const char *metric);
/* ------------------------------------------------------ systems, side by side */

typedef struct peft_board peft_board;
typedef struct peft_board_opts {
    size_t size;
    const peft_dataset_opts *data; /* how rows are read; NULL = defaults */
    const char *shots;        /* a file of examples for few-shot prompts; NULL = none */
    const char *question;     /* below a text that a language model shall classify; NULL =
                                 "Which of these is it: A, B or C?" */
    int32_t generate;         /* 1 = the prompts of the rows are answered, greedily */
    int32_t max_tokens;       /* of an answer; 0 = 128 */
    int32_t batch;            /* rows at a time; 0 = 4, of answers 16 */
    int64_t samples;          /* of the bootstrap; 0 = 1000 */
    double level;             /* of the intervals; 0 = 0.95 */
    uint64_t seed;            /* of the samples, and of the choice of examples */
    /* Called now and then of a run; non-zero ends it with PEFT_ECANCELLED. */
    int32_t (*progress)(void *ctx, const char *doing, int64_t done, int64_t rows);
    void *ctx;
} peft_board_opts;
/* Measures systems, models with or without adapters, on the rows of one file.  Strings of
 * the options are copied; `data` and its strings must stay. */
PEFT_API int32_t peft_board_new(const char *path, const peft_board_opts *opts, peft_board **out);
PEFT_API void peft_board_free(peft_board *board);

typedef struct peft_judged {
    size_t size;
    const char *name;
    char how[120];            /* what was done, in words; "" = as peft_eval does */
    int64_t rows;             /* that were measured */
    int64_t answers;          /* that were generated */
    int64_t prompt_tokens;    /* read for them, or for likelihoods */
    int64_t tokens;           /* that were written */
    double seconds;
    int32_t shots;            /* examples before each row */
    int32_t labels;           /* classes that were told apart, else 0 */
} peft_judged;
/* Measures the model as it is now, with the adapters that are enabled, and returns the
 * system's number, from 0; the model is not kept.  Rows of text and label go to the model's
 * head, or to a language model without one as a question whose answers are the labels, by
 * their likelihood over that for the text "N/A" (Zhao et al. 2021).  With `shots` so many
 * examples (as many as there is room for) are turns before each row; an encoder without a
 * head takes the label whose examples, `shots` of each, have the nearest mean embedding
 * (cosine).  Model NULL: the label that is most frequent among the examples, else in the
 * data.  PEFT_EARG for shots without a file of examples, PEFT_EUNSUPPORTED where a model has
 * no answer to such rows. */
PEFT_API int32_t peft_board_run(peft_board *board, peft_model *model, const char *name,
                                int32_t shots, peft_judged *out);

typedef struct peft_figure {
    size_t size;
    const char *name;         /* "rougeL"; static */
    double value, low, high;  /* and its confidence interval */
    int32_t lower;            /* 1 = the smaller the better */
} peft_figure;
/* Figure i of a system, from 0, the most telling first; PEFT_EEND after the last.  Language
 * models: perplexity, token_accuracy, bits_per_byte, and with answers exact_match, answer_f1,
 * rouge1, rouge2, rougeL, bleu, chrf (as peft_score_texts); classes: accuracy, f1 (macro), ece
 * (the expected calibration error of the likeliest class's probability, in 15 bins; Guo et al.
 * 2017), log_loss; others as in peft_eval, those that sums over rows can tell. */
PEFT_API int32_t peft_board_figure(peft_board *board, int32_t system, int32_t i, peft_figure *out);

typedef struct peft_versus {
    size_t size;
    const char *name;         /* of the figure */
    int64_t rows;             /* that both have */
    double value, other;      /* of a, and of b, on these rows */
    double gain, low, high;   /* b's less a's, and its interval */
    double p;                 /* of a gain as far from 0 by chance */
    int32_t verdict;          /* 1 = b is better, -1 = worse, 0 = chance could be all of it */
    char words[240];          /* "run1 is better than base: rougeL +0.12 [+0.05, +0.19],
                                 p 0.002, 210 rows" */
} peft_versus;
/* Two systems by a figure that both have (else PEFT_ENOTFOUND), on the rows of both.  Better
 * or worse is what has an interval without 0 and p < 1 - level.  Perplexities are compared
 * where the same tokens are counted (else PEFT_EUNSUPPORTED: then bits_per_byte tells). */
PEFT_API int32_t peft_board_versus(peft_board *board, int32_t a, int32_t b, const char *figure,
                                   peft_versus *out);

typedef struct peft_prediction {
    size_t size;
    int64_t line;             /* of the row, from 1; its number in a folder of pictures */
    double loss;              /* a sum over */
    int64_t terms;            /* so many tokens, or rows */
    const char *wanted;       /* label or answer; NULL = is no text */
    const char *said;
    double confidence;        /* of the label */
    double exact, f1;         /* of the answer, 0..1 */
} peft_prediction;
/* What a system said of row i, from 0; PEFT_EEND after the last.  Strings live as long as
 * the board. */
PEFT_API int32_t peft_board_row(peft_board *board, int32_t system, int64_t i,
                                peft_prediction *out);
/* Classes of all systems, by name; NULL = there is none of this number. */
PEFT_API const char *peft_board_label(const peft_board *board, int32_t i);
/* counts [labels * labels], labels as in peft_board_label, row = true class; returns how many
 * labels there are, also when `counts` is NULL (to ask). */
PEFT_API int32_t peft_board_confusion(const peft_board *board, int32_t system, int64_t *counts);

/* ----------------------------------------------------- settings, searched for */

enum { PEFT_KNOBS = 8 };
/* One run of a trial. */
typedef struct peft_trial {
    size_t size;
    int32_t trial, rung;      /* from 0; trial 0 has the usual settings */
    int32_t n;                /* of its settings: */
    const char *name[PEFT_KNOBS];       /* "lr", "rank", ...; static */
    char value[PEFT_KNOBS][64];         /* as a search is given: "0.000312", "attention" */
    double share;             /* of the trial's own steps that this run had */
    int64_t steps;            /* that were made */
    int64_t best_step;        /* of its best evaluation; 0 = there was none */
    double loss, value_best;  /* there, and the metric; NaN */
    double seconds;
    char ended[16];           /* "": all steps were made; "diverged", "dead", "nonfinite",
                                 "patience", "budget" */
    int32_t before;           /* 1 = read from trials.jsonl */
    int32_t best;             /* 1 = the best so far: it is what `dir`/best holds */
} peft_trial;
typedef struct peft_tune_opts {
    size_t size;
    /* "lr=1e-5..1e-3,rank=4|8|16|32,targets=all|attention,epochs=1..5": a range (of lr and
     * rank by its logarithm), or a choice, each of lr, rank, alpha, dropout, targets (modules
     * or globs joined by '+'), epochs, batch, warmup, weight-decay.  NULL = by the method. */
    const char *search;
    const char *method;       /* as in peft_auto_opts; NULL = "lora" */
    int32_t last;             /* layers of "last"; 0 = 2 */
    const peft_adapter_opts *adapter; /* everything else about an adapter, or NULL */
    const peft_train_opts *train;     /* everything else about training, or NULL */
    int32_t trials;           /* 0 = 9; with a budget, as many as it allows */
    double seconds;           /* the budget, of all runs; 0 = none */
    int32_t eta;              /* one of so many trials goes on; 0 = 3 */
    const char *metric;       /* as in peft_watch_opts */
    int32_t patience;         /* the same, in each run; 0 = 2, < 0 = none */
    int32_t eval_batch;       /* 0 = 4 */
    uint64_t seed;            /* of the search; that of training is in `train` */
    const char *dir;          /* trials.jsonl, and best: the best adapter, or model.  Needed */
    const peft_load_opts *host; /* files and memory of these, or NULL */
    /* Called after every run; non-zero ends with PEFT_ECANCELLED. */
    int32_t (*on_trial)(void *ctx, const peft_trial *trial);
    /* Called now and then within one: its steps; trial NULL: in an evaluation.  The same. */
    int32_t (*progress)(void *ctx, const peft_trial *trial, int64_t done, int64_t steps);
    void *ctx;
} peft_tune_opts;
typedef struct peft_tuned {
    size_t size;
    peft_trial best;          /* best.steps and best.share make it again */
    int32_t trials, runs;     /* trials that began; runs of them that ended */
    int32_t whole;            /* 1 = the best of them made a whole run, before the budget ended */
    double seconds;           /* of all runs, also earlier ones */
    double first_loss, first_value; /* before any training */
    float lr;                 /* of the best one */
} peft_tuned;
/* Searches for settings by successive halving (Jamieson & Talwalkar 2016): all trials make a
 * short run, complete with its own schedule, the best third makes one three times as long,
 * and so on up to a whole one.  Settings come from a low-discrepancy sequence (Roberts'
 * R, shifted at random by seed); the first trial has the usual ones, and a whole run at once, so
 * that what is found is no worse on these data, but for a budget that ends before.  Runs share
 * the data sets, what is cached of a frozen part (train->cache_file), and the model, which is as
 * it was when the call returns.  A trial's value is its best evaluation; the best of all is saved
 * at once.  Every run that ended is a line of trials.jsonl, and another call with the same
 * options goes on after them, also after a kill; PEFT_ESTATE when that file is of another
 * search. */
PEFT_API int32_t peft_tune(peft_model *model, peft_dataset *data, const peft_dataset *eval,
                           const peft_tune_opts *opts, peft_tuned *out);
/* -------------------------------------------------------------- forgetting */

/* Texts on which drift is measured: a file as peft_dataset_load reads it, or (path NULL) some
 * 600 tokens that are built in: prose, talk, facts, sums, code, other languages.  The same data
 * set is the `anchor` of peft_train_opts. */
PEFT_API int32_t peft_probe_load(const peft_model *model, const char *path,
                                 const peft_dataset_opts *opts, peft_dataset **out);
typedef struct peft_drift {
    size_t size;
    double kl;                /* KL(base || model) a token of the probe, in nats */
    double before;            /* the same as trained */
    double weight;            /* of what was trained; 1 = it stayed as it was */
} peft_drift;
/* Makes sure that a language model has not drifted from its base by more than `bound` on the
 * probe: where it has, what was trained gets the largest weight that keeps it (found by halves
 * to 1/256), on the way from the base to the tuned model (Wortsman et al. 2022, WiSE-FT).  Of
 * an adapter that is peft_adapter_set_weight, and peft_adapter_combine makes one with that weight
 * for files; PEFT_EUNSUPPORTED for adapters without weights.  `adapter` NULL: the model's own
 * tensors that train, of which memory holds a copy meanwhile; PEFT_ESTATE while their trainer is
 * alive. */
PEFT_API int32_t peft_drift_hold(peft_model *model, const char *adapter, peft_model *base,
                                 const peft_dataset *probe, double bound, peft_drift *out);

/* --------------------------------------------------------------- receipts */

/* SHA-256 of a file in hexadecimal, or of a folder: of the lines "HASH NAME" of its entries,
 * sorted.  *bytes (may be NULL) gets the bytes of all files.  Any thread. */
PEFT_API int32_t peft_hash_path(const char *path, char hash[65], int64_t *bytes);

typedef struct peft_receipt_file {
    const char *role;         /* of inputs: "base", "data", "eval", "replay" ... */
    const char *path;         /* file or folder */
    char hash[65];            /* peft_receipt_write fills it in, */
    int64_t bytes;            /* and this */
} peft_receipt_file;
/* What a result was made of. */
typedef struct peft_receipt_info {
    size_t size;
    const char *version, *kernels, *blas; /* of the library; NULL = the running one's */
    const peft_receipt_file *inputs;
    int32_t n_inputs;
    const char *const *words; /* a command line, or whatever makes the result again */
    int32_t n_words;
    const peft_metric *results;
    int32_t n_results;
    const peft_receipt_file *files; /* the result's, by their names in its folder */
    int32_t n_files;
} peft_receipt_info;
typedef struct peft_receipt peft_receipt;
/* Writes a receipt as JSON, with the hashes of all files as they are now.  What is made again
 * with the same words has the same bytes, on any number of threads; other kernels or another
 * BLAS may round differently. */
PEFT_API int32_t peft_receipt_write(const char *path, const peft_receipt_info *info,
                                    const char *folder);
PEFT_API int32_t peft_receipt_read(const char *path, peft_receipt **out);
PEFT_API const peft_receipt_info *peft_receipt_get(const peft_receipt *receipt);
PEFT_API void peft_receipt_free(peft_receipt *receipt);

#ifdef __cplusplus
}
#endif
#endif
