/* Figures of embeddings.  Pairs with a score: how well the cosine follows it.
 * Texts that fit each other: every first text of a row is a query, the other
 * texts of all rows are what is searched, each different one once, and the
 * query's own second text is what should be found.  With its rank r: recall at
 * k is the share with r <= k; the reciprocal rank 1 / r and the gain
 * 1 / log2(1 + r) count up to rank 10 (MRR@10, nDCG@10). */
#include <math.h>

#include "train/train.h"

static double dot(const struct measure *s, const float *a, const float *b)
{
    return (double)s->m->compute.k->dot(a, b, s->m->hp.embed);
}

static double length(const struct measure *s, const float *x)
{
    return fmax(sqrt(s->m->compute.k->sum_squares(x, s->m->hp.embed)), 1e-12);
}

int note_alike(struct measure *s, const struct batch *b, const float *x)
{
    int64_t dim = s->m->hp.embed;
    int rc = PEFT_OK;
    for (int64_t i = 0; i < b->n_rows && !rc; i++) {
        const float *u = x + i * dim, *v = x + (b->n_rows + i) * dim;
        rc = note_number(s, dot(s, u, v) / (length(s, u) * length(s, v)), b->value[i]);
    }
    return rc;
}

int note_texts(struct measure *s, const struct batch *b, const float *x)
{
    int64_t dim = s->m->hp.embed, n = s->d->n;
    if (!s->texts && !(s->texts = mem_array(&s->host->mem, n * s->d->texts, dim * 4)))
        return PEFT_ENOMEM;
    for (int64_t i = 0; i < b->n_seq; i++) {
        float *to = s->texts + (i / b->n_rows * n + b->example[i % b->n_rows]) * dim;
        s->m->compute.k->axpy(to, x + i * dim, (float)(1 / length(s, x + i * dim)), 0, dim);
    }
    for (int64_t i = 0; s->losses && i < b->n_rows; i++)
        s->losses[b->example[i]] = s->stats.each[i];
    return PEFT_OK;
}

/* For each text behind the queries 1 when it is the first one that is equal, and
 * for each row which of them equals its second text. */
static int find_different(const struct measure *s, struct map *m, uint8_t *first, int64_t *own)
{
    const struct dataset *d = s->d;
    for (int64_t t = 1; t < d->texts; t++)
        for (int64_t i = 0; i < d->n; i++) {
            const struct example *e = &d->rows[i];
            int64_t at = (t - 1) * d->n + i, n = e->ends[t] - e->ends[t - 1];
            const char *key = (const char *)(e->ids + e->ends[t - 1]);
            int rc = map_add(m, key, n * (int64_t)sizeof(*e->ids), at);
            if (rc < 0) return rc;
            first[at] = rc == 1;
            if (t == 1) own[i] = map_get(m, key, n * (int64_t)sizeof(*e->ids), at);
        }
    return PEFT_OK;
}

/* How many of the texts fit query i better than its own does, and 1. */
static int64_t rank_of(const struct measure *s, int64_t i, const uint8_t *first, int64_t own)
{
    int64_t dim = s->m->hp.embed, n = s->d->n, rank = 1;
    const float *query = s->texts + i * dim, *found = s->texts + n * dim;
    double mine = dot(s, query, found + own * dim);
    for (int64_t k = 0; k < n * (s->d->texts - 1); k++)
        rank += first[k] && k != own && dot(s, query, found + k * dim) > mine;
    return rank;
}

void report_texts(struct measure *s, peft_evaluation *out)
{
    struct mem *mem = &s->host->mem;
    int64_t n = s->d->n;
    double one = 0, five = 0, ten = 0, reciprocal = 0, gain = 0;
    struct map m;
    map_init(&m, mem);
    uint8_t *first = mem_array(mem, n, s->d->texts);
    int64_t *own = mem_array(mem, n, sizeof(*own));
    if (first && own && !find_different(s, &m, first, own)) {
        for (int64_t i = 0; i < n; i++) {
            int64_t rank = rank_of(s, i, first, own[i]);
            one += rank == 1;
            five += rank <= 5;
            ten += rank <= 10;
            reciprocal += rank <= 10 ? 1.0 / (double)rank : 0;
            gain += rank <= 10 ? 1.0 / log2(1.0 + (double)rank) : 0;
            if (!s->losses) continue;
            row_give(s, &(peft_eval_row){ .row = i, .terms = 1, .right = s->losses[i].right,
                                          .loss = s->losses[i].loss, .rank = rank });
        }
        metric_add(out, "ndcg_10", gain / (double)n);
        metric_add(out, "mrr_10", reciprocal / (double)n);
        metric_add(out, "recall_1", one / (double)n);
        metric_add(out, "recall_5", five / (double)n);
        metric_add(out, "recall_10", ten / (double)n);
    }
    map_free(&m);
    mem_free(mem, first);
    mem_free(mem, own);
}
