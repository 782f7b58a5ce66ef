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

enum { PEFT_NAMED = 8, PEFT_FAULTS = 8 };
/* What is wrong with some rows:
 * answer-lost  the answer lies wholly beyond max_len, the row is left out
 * answer-cut   the answer loses its end at max_len, so its end is never learnt
 * cut          a text is cut at max_len
 * empty        nothing of the row trains, it is left out
 * leak         a row of the evaluation data is a training row too */
typedef struct peft_fault {
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
} peft_fault;
typedef struct peft_checked {
    size_t size;
    int64_t rows;             /* that were looked at, those that were left out too */
    int32_t refuses;          /* 1 = one of the faults does */
    int32_t n;
    peft_fault faults[PEFT_FAULTS];
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
 * the call.  Two faults never get here: a BOS that the template and the tokenizer both add,
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

#ifdef __cplusplus
}
#endif
#endif
