/* Words of texts and pairs of neighbouring words as features, hashed into buckets: log(1 + count)
 * times 1 + log(rows / rows with it), and each row scaled to one length.  They say what a model's
 * states, means over a text, do not: single words.  What stands in one row alone is left out.
 * A word is a run of letters and digits in small letters; a Han character or a mark is one by
 * itself. */
#include "prep/labels.h"
#include "prep/sketch.h"
#include "text/unicode.h"

#include <math.h>
#include <stdlib.h>

enum { BAG_BUCKETS = 1 << 15, BAG_WEIGHTS = 1 << 20 };
static const double bag_length = 4;    /* of a row: as of one of states, see logistic.c */

void bag_init(struct bag *w, struct mem *mem)
{
    *w = (struct bag){.mem = mem};
    ids_init(&w->id, mem);
    ids_init(&w->count, mem);
    ids_init(&w->end, mem);
    ids_init(&w->row, mem);
    buf_init(&w->small, mem);
}

void bag_free(struct bag *w)
{
    ids_free(&w->id);
    ids_free(&w->count);
    ids_free(&w->end);
    ids_free(&w->row);
    buf_free(&w->small);
    mem_free(w->mem, w->value);
}

static void bag_word(struct bag *w, uint64_t *before)
{
    uint64_t h = hash_more(HASH_BEGIN, w->small.data, w->small.n);
    uint64_t pair = (*before * 31 + h) * UINT64_C(0x9e3779b97f4a7c15);
    if (w->small.n) {
        ids_push(&w->row, (int32_t)((h ^ h >> 32) % BAG_BUCKETS));
        ids_push(&w->row, (int32_t)((pair >> 32) % BAG_BUCKETS));
        *before = h;
    }
    buf_clear(&w->small);
}

static int by_bucket(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

int bag_add(struct bag *w, const char *text)
{
    uint64_t before = 0;
    int32_t c;
    w->row.n = 0;
    while (*text) {
        text += uni_next(text, &c);
        bool alone = !uni_word(c) || uni_han(c);
        if (alone) bag_word(w, &before);
        if (!uni_space(c)) uni_lower(&w->small, c);
        if (alone) bag_word(w, &before);
    }
    bag_word(w, &before);
    int rc = MIN(ids_check(&w->row), buf_check(&w->small));
    if (rc) return rc;
    if (w->row.n) qsort(w->row.v, (size_t)w->row.n, sizeof *w->row.v, by_bucket);
    for (int64_t i = 0; i < w->row.n; i++) {
        bool again = i && w->row.v[i] == w->row.v[i - 1];
        if (!again) ids_push(&w->id, w->row.v[i]);
        if (!again) ids_push(&w->count, 0);
        if (!ids_check(&w->count)) w->count.v[w->count.n - 1]++;
    }
    if (w->id.n > INT32_MAX) return fail(PEFT_EUNSUPPORTED, "more than 2^31 words");
    ids_push(&w->end, (int32_t)w->id.n);
    return MIN(MIN(ids_check(&w->id), ids_check(&w->count)), ids_check(&w->end));
}

/* Buckets that two rows have or more are numbered anew, the fuller ones as there is room. */
static void number_buckets(struct bag *w, int32_t *rows, int32_t labels)
{
    int32_t most = MAX(BAG_WEIGHTS / labels, 256), least = 2;
    for (int32_t n = INT32_MAX; n > most; least *= 2) {
        n = 0;
        for (int32_t k = 0; k < BAG_BUCKETS; k++) n += rows[k] >= least;
        if (n <= most) break;
    }
    for (int32_t k = 0; k < BAG_BUCKETS; k++) rows[k] = rows[k] >= least ? w->n++ : -1;
}

int bag_weigh(struct bag *w, int32_t labels)
{
    int32_t *number = mem_array(w->mem, BAG_BUCKETS, sizeof *number);
    float *idf = mem_array(w->mem, BAG_BUCKETS, sizeof *idf);
    w->value = mem_array(w->mem, MAX(w->id.n, 1), sizeof *w->value);
    int rc = number && idf && w->value ? PEFT_OK : PEFT_ENOMEM;
    for (int64_t i = 0; !rc && i < w->id.n; i++) number[w->id.v[i]]++;
    for (int32_t k = 0; !rc && k < BAG_BUCKETS; k++)
        idf[k] = (float)(1 + log((double)w->end.n / MAX(number[k], 1)));
    if (!rc) number_buckets(w, number, labels);
    int64_t i = 0, to = 0;
    for (int64_t r = 0; !rc && r < w->end.n; r++) {
        int64_t from = to;
        double sum = 0;
        for (; i < w->end.v[r]; i++) {
            int32_t k = w->id.v[i];
            if (number[k] < 0) continue;
            w->value[to] = log1pf((float)w->count.v[i]) * idf[k];
            sum += (double)w->value[to] * (double)w->value[to];
            w->id.v[to++] = number[k];
        }
        for (int64_t k = from; k < to; k++) w->value[k] *= (float)(bag_length / sqrt(sum));
        w->end.v[r] = (int32_t)to;
    }
    mem_free(w->mem, number);
    mem_free(w->mem, idf);
    return rc;
}
