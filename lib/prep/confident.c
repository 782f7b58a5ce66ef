/* Confident learning (Northcutt, Jiang, Chuang: "Confident Learning: Estimating Uncertainty
 * in Dataset Labels", JAIR 2021).  With t_k the mean of p(k) over the rows that are given k,
 * a row given i counts at (i, j) of the confident joint, j the likeliest class of those with
 * p(j) >= t_j.  Off the diagonal, and where the given label is not the likeliest all the
 * same, the label is flagged: cleanlab's filter "confident_learning". */
#include "prep/labels.h"

#include <stdlib.h>

static const double near_enough = 1e-6;

static int joint_thresholds(struct mem *mem, const struct judged *j, double **out)
{
    double *t = mem_array(mem, j->labels, sizeof *t);
    int64_t *n = mem_array(mem, j->labels, sizeof *n);
    for (int64_t i = 0; t && n && i < j->n; i++) {
        t[j->given[i]] += (double)j->p[i * j->labels + j->given[i]];
        n[j->given[i]]++;
    }
    for (int32_t k = 0; t && n && k < j->labels; k++)
        t[k] = n[k] ? MAX(t[k] / (double)n[k], 2 * near_enough) : 2;
    mem_free(mem, n);
    *out = t;
    return t && n ? PEFT_OK : PEFT_ENOMEM;
}

/* The class that the row is counted for: of several that reach their thresholds the
 * likeliest of all; -1 = none does. */
static int32_t counted_for(const float *p, const double *t, int32_t labels)
{
    int32_t first = -1, best = 0, found = 0;
    for (int32_t k = 0; k < labels; k++) {
        if (p[k] > p[best]) best = k;
        if ((double)p[k] < t[k] - near_enough) continue;
        if (!found++) first = k;
    }
    return found > 1 ? best : first;
}

static void check_row(const float *p, int32_t given, int32_t counted, int32_t labels,
                      peft_label_check *c)
{
    int32_t other = given ? 0 : 1;
    for (int32_t k = 0; k < labels; k++)
        if (k != given && p[k] > p[other]) other = k;
    bool likeliest = (double)p[given] + 1e-8 >= (double)p[other];
    *c = (peft_label_check){.likely = likeliest ? given : other, .confidence = p[given],
                            .margin = (p[given] - p[other] + 1) / 2};
    c->flagged = counted >= 0 && counted != given && !likeliest;
    if (c->flagged) c->likely = counted;
}

struct suspect { float score; int64_t row; };

static int by_suspicion(const void *a, const void *b)
{
    const struct suspect *x = a, *y = b;
    if (x->score < y->score || x->score > y->score) return x->score < y->score ? -1 : 1;
    return x->row < y->row ? -1 : 1;
}

int rank_checks(struct mem *mem, const peft_label_check *found, int64_t n, bool margin,
                int64_t *order)
{
    struct suspect *places = mem_array(mem, n, sizeof *places);
    if (!places) return PEFT_ENOMEM;
    for (int64_t i = 0; i < n; i++)
        places[i] = (struct suspect){margin ? found[i].margin : found[i].confidence, i};
    qsort(places, (size_t)n, sizeof *places, by_suspicion);
    for (int64_t i = 0; i < n; i++) order[i] = places[i].row;
    mem_free(mem, places);
    return PEFT_OK;
}

int confident(struct mem *mem, const struct judged *j, const char *rank, peft_label_check *out,
              int64_t *order)
{
    double *t = NULL;
    int rc = joint_thresholds(mem, j, &t);
    for (int64_t i = 0; !rc && i < j->n; i++) {
        const float *p = j->p + i * j->labels;
        check_row(p, j->given[i], counted_for(p, t, j->labels), j->labels, &out[i]);
    }
    bool margin = rank && !strcmp(rank, "margin");
    if (!rc && order) rc = rank_checks(mem, out, j->n, margin, order);
    mem_free(mem, t);
    return rc;
}

int32_t peft_label_faults(const float *p, const int32_t *given, int64_t n, int32_t labels,
                          const char *rank, peft_label_check *out, int64_t *order)
{
    KIT_ARG(p && given && out && n > 0, "no probabilities, labels or place for what is found");
    KIT_ARG(labels >= 2, "%d labels, expected at least 2", (int)labels);
    KIT_ARG(!rank || !strcmp(rank, "confidence") || !strcmp(rank, "margin"),
            "rank \"%s\", expected confidence or margin", rank);
    for (int64_t i = 0; i < n; i++)
        KIT_ARG(given[i] >= 0 && given[i] < labels, "label %d in row %lld, expected 0 to %d",
                (int)given[i], (long long)i, (int)labels - 1);
    for (int64_t i = 0; i < n * labels; i++)
        KIT_ARG(p[i] >= 0 && p[i] <= 1, "%g in row %lld, expected a probability", (double)p[i],
                (long long)(i / labels));
    struct mem mem;
    mem_init(&mem, NULL, NULL);
    struct judged j = {p, given, n, labels};
    return kit_end(confident(&mem, &j, rank, out, order));
}
