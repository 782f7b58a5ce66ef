/* Reuse of a frozen part: when nothing below the head trains, its output is
 * the same in every epoch and is computed once per example. */
#include "train/train.h"

/* Rows of features that example s of the batch has. */
static int64_t rows_of(const struct trainer *t, const struct batch *b, int64_t s, int64_t *row)
{
    int64_t n = 0;
    if (t->objective->rows(b) == b->n_seq && !b->n_target) {
        (*row)++;
        return 1;
    }
    while (*row < b->n_target && b->rows[*row] < b->start[s + 1]) {
        (*row)++;
        n++;
    }
    return n;
}

int features_plan(struct trainer *t)
{
    struct features *f = &t->features;
    int64_t limit = t->o.feature_cache ? t->o.feature_cache : (int64_t)256 << 20, rows = 0;
    if (!f->on) return PEFT_OK;
    for (int64_t i = 0; i < t->d->n; i++) {
        const struct example *e = &t->d->rows[i];
        if (!e->labels) rows++;
        else for (int32_t k = 1; k < e->n; k++) rows += e->labels[k] >= 0;
    }
    f->cap = limit < 0 ? 0 : MIN(rows * t->m->hp.embed, limit / 4);
    return PEFT_OK;
}

int features_begin(struct trainer *t, const struct batch *b)
{
    const struct features *f = &t->features;
    int64_t dim = t->m->hp.embed, row = 0;
    for (int64_t s = 0; s < b->n_seq; s++)
        if (f->at[b->example[s]] < 0) return 0;
    for (int64_t s = 0; s < b->n_seq; s++) {
        int64_t first = row, n = rows_of(t, b, s, &row);
        memcpy(t->gather + first * dim, f->data + f->at[b->example[s]], (size_t)(n * dim) * 4);
    }
    return 1;
}

void features_end(struct trainer *t, const struct batch *b)
{
    struct features *f = &t->features;
    int64_t dim = t->m->hp.embed, row = 0;
    for (int64_t s = 0; s < b->n_seq; s++) {
        int64_t first = row, n = rows_of(t, b, s, &row) * dim;
        if (f->at[b->example[s]] >= 0 || f->used + n > f->cap) continue;
        memcpy(f->data + f->used, t->gather + first * dim, (size_t)n * 4);
        f->at[b->example[s]] = f->used;
        f->used += n;
    }
}
