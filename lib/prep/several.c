/* Rows with any number of labels: each label is a question of its own, has it or has it not,
 * with heads and a confident joint of two classes (one against the rest, as cleanlab's
 * multilabel filter: Thyagarajan et al., "Identifying Incorrect Annotations in Multi-Label
 * Classification Data", 2022).  What a head thinks likely before it has read anything says
 * nothing of a row, and hides labels that are missing behind those that are wrong, for most rows
 * have few labels; hence the margin: the probability of what is given had it been even before.
 * With c the head's and q the share of rows that are given the same,
 *     margin = c (1 - q) / (c (1 - q) + (1 - c) q)
 * A label that fewer rows have, or lack, than there are parts is
 * not judged: heads that have hardly seen it know nothing of it. */
#include "prep/labels.h"

static float evened(float c, double q)
{
    double is = (double)c * (1 - q), not = (1 - (double)c) * q;
    return (float)(is / MAX(is + not, 1e-30));
}

static bool says(const peft_label_check *c, bool has)
{
    return (c->confidence >= 0.5f) == has;
}

/* The k-th label's cells. */
static int judge_label(struct host *h, struct heads *o, struct several *s, int32_t k, int32_t *has,
                       float *p, peft_label_check *found)
{
    int64_t rows = 0;
    for (int64_t i = 0; i < o->n; i++) rows += has[i] = s->has[i * s->labels + k];
    bool rare = MIN(rows, o->n - rows) < o->folds;
    struct judged j = {p, has, o->n, 2};
    o->given = has;
    int rc = rare ? PEFT_OK : heads_cross(h, o, p);
    for (int64_t i = 0; s->tuned && i < o->n; i++) {
        float t = s->tuned[i * s->labels + k], both[2] = {1 - t, t};
        tuned_join(p + 2 * i, both, 1, 2);
    }
    if (!rc && !rare) rc = confident(&h->mem, &j, NULL, found, NULL);
    s->rare += rare;
    for (int64_t i = 0; !rc && i < o->n; i++) {
        peft_label_check c = {.likely = has[i], .confidence = 1, .margin = 1};
        if (!rare) c = found[i];
        if (!rare) c.margin = evened(c.confidence, (double)(has[i] ? rows : o->n - rows) /
                                     (double)o->n);
        s->cell[i * s->labels + k] = c;
    }
    return rc;
}

/* A row's worst cell. */
static peft_label_check worst_of(const struct several *s, const peft_label_check *cell)
{
    int32_t at = 0, flagged = 0;
    for (int32_t k = 0; k < s->labels; k++) {
        flagged |= cell[k].flagged;
        if (s->margin ? cell[k].margin < cell[at].margin :
            cell[k].confidence < cell[at].confidence) at = k;
    }
    peft_label_check worst = cell[at];
    worst.likely = at;
    worst.flagged = flagged;
    return worst;
}

static void sum_up(struct several *s, int64_t n, peft_label_check *out)
{
    int64_t right = 0, said = 0, given = 0;
    for (int64_t i = 0; i < n; i++) {
        const peft_label_check *cell = s->cell + i * s->labels;
        const uint8_t *has = s->has + i * s->labels;
        out[i] = worst_of(s, cell);
        for (int32_t k = 0; k < s->labels; k++) {
            right += has[k] && says(&cell[k], true);
            said += says(&cell[k], has[k]);
            given += has[k];
        }
    }
    s->f1 = said + given ? 2.0 * (double)right / (double)(said + given) : 0;
}

int several(struct host *h, struct heads *o, struct several *s, peft_label_check *out,
            int64_t *order)
{
    int32_t *has = mem_array(&h->mem, o->n, sizeof *has);
    float *p = mem_array(&h->mem, o->n, 2 * (int64_t)sizeof *p);
    int rc = has && p ? PEFT_OK : PEFT_ENOMEM;
    double l2 = o->l2;
    o->labels = 2;
    for (int32_t k = 0; !rc && k < s->labels; k++) {
        o->l2 = l2;
        rc = judge_label(h, o, s, k, has, p, out);
    }
    o->l2 = l2;
    if (!rc) sum_up(s, o->n, out);
    if (!rc) rc = rank_checks(&h->mem, out, o->n, s->margin, order);
    mem_free(&h->mem, has);
    mem_free(&h->mem, p);
    return rc;
}
