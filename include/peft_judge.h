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

#ifdef __cplusplus
}
#endif
#endif
