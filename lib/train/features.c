/* Reuse of a frozen part: when nothing below the head trains, its output is
 * the same in every epoch and is computed once per example. */
#include "train/train.h"

/* Rows of features that text s of the batch has; *row is the first of them and
 * moves behind the last. */
static int64_t rows_of(const struct trainer *t, const struct batch *b, int64_t s, int64_t *row)
{
    int64_t first = *row;
    switch (t->objective->per) {
    case PER_TEXT: *row += 1; break;
    case PER_TOKEN: *row = b->start[s + 1]; break;
    default:
        while (*row < b->n_target && b->rows[*row] < b->start[s + 1]) (*row)++;
    }
    return *row - first;
}

/* Where the features of the batch's text s are noted. */
static int64_t *place_of(const struct trainer *t, const struct batch *b, int64_t s)
{
    return &t->features.at[b->example[s % b->n_rows] * (int64_t)t->d->texts + s / b->n_rows];
}

int features_plan(struct trainer *t)
{
    struct features *f = &t->features;
    int64_t limit = t->o.feature_cache ? t->o.feature_cache : (int64_t)256 << 20, rows = 0;
    struct batch_size s;
    if (!f->on) return PEFT_OK;
    for (int64_t i = 0; i < batcher_count(t->batcher, 0); i++) {
        batcher_size(t->batcher, 0, i, &s);
        rows += per_rows(t->objective->per, s.tokens, s.targets, s.seqs);
    }
    f->cap = limit < 0 ? 0 : MIN(rows * t->m->hp.embed, limit / 4);
    return PEFT_OK;
}

int features_begin(struct trainer *t, const struct batch *b)
{
    int64_t dim = t->m->hp.embed, row = 0;
    for (int64_t s = 0; s < b->n_seq; s++)
        if (*place_of(t, b, s) < 0) return 0;
    for (int64_t s = 0; s < b->n_seq; s++) {
        int64_t first = row, n = rows_of(t, b, s, &row);
        memcpy(t->gather + first * dim, t->features.data + *place_of(t, b, s),
               (size_t)(n * dim) * 4);
    }
    return 1;
}

void features_end(struct trainer *t, const struct batch *b)
{
    struct features *f = &t->features;
    int64_t dim = t->m->hp.embed, row = 0;
    for (int64_t s = 0; s < b->n_seq; s++) {
        int64_t first = row, n = rows_of(t, b, s, &row) * dim, *at = place_of(t, b, s);
        if (*at >= 0 || f->used + n > f->cap) continue;
        memcpy(f->data + f->used, t->gather + first * dim, (size_t)n * 4);
        *at = f->used;
        f->used += n;
    }
}
