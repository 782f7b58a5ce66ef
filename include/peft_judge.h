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

#ifdef __cplusplus
}
#endif
#endif
