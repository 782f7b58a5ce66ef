/* What an evaluation tells of single rows (peft_eval_opts.on_row). */
#include <math.h>

#include "train/train.h"

int rows_new(struct measure *s, const struct batch_size *most)
{
    struct mem *mem = &s->host->mem;
    int64_t terms = MAX(most->targets, most->seqs), n = MAX(s->n, 1);
    if (!s->o->on_row) return PEFT_OK;
    s->stats.each = mem_array(mem, terms, sizeof(*s->stats.each));
    s->scores = mem_array(mem, 2 * n, sizeof(*s->scores));
    if (!s->stats.each || !s->scores) return PEFT_ENOMEM;
    s->wanted = s->scores + n;
    if (s->d->task == TASK_TOKEN && !(s->tags = mem_array(mem, terms, sizeof(*s->tags))))
        return PEFT_ENOMEM;
    if (s->d->task == TASK_MATCH && !(s->losses = mem_array(mem, s->d->n, sizeof(*s->losses))))
        return PEFT_ENOMEM;
    return PEFT_OK;
}

void row_give(struct measure *s, peft_eval_row *row)
{
    row->size = sizeof(*row);
    row->line = s->d->rows[row->row].line;
    if (!s->rc && s->o->on_row && s->o->on_row(s->o->ctx, row))
        s->rc = fail(PEFT_ECANCELLED, "cancelled by the host");
}

int rows_note(struct measure *s, const struct objective *o, const struct batch *b, const float *z)
{
    if (!s->o->on_row || (o->note && !o->row)) return s->rc;
    int64_t texts = b->n_seq - b->n_rows, k = 0;        /* before the last one of each row */
    for (int64_t i = 0; i < b->n_rows && !s->rc; i++) {
        int64_t first = k, end = o->term == PER_ROW ? i + 1 : b->n_target;
        peft_eval_row row = { .row = b->example[i] };
        for (; k < end && (o->term == PER_ROW || b->rows[k] < b->start[texts + i + 1]); k++) {
            row.loss += s->stats.each[k].loss;
            row.right += s->stats.each[k].right;
        }
        row.terms = k - first;
        if (o->row) o->row(s, b, z, i, first, &row);
        row_give(s, &row);
    }
    return s->rc;
}

void row_class(struct measure *s, const struct batch *b, const float *z, int64_t i, int64_t first,
               peft_eval_row *row)
{
    (void)first;
    memcpy(s->scores, z + i * s->n, (size_t)s->n * sizeof(*z));
    s->m->compute.k->softmax(s->scores, 1, s->n, s->n);
    row->label = b->label[i];
    for (int32_t c = 1; c < s->n; c++)
        if (z[i * s->n + c] > z[i * s->n + row->said]) row->said = c;
    row->n = (int32_t)s->n;
    row->scores = s->scores;
}

void row_labels(struct measure *s, const struct batch *b, const float *z, int64_t i, int64_t first,
                peft_eval_row *row)
{
    (void)first;
    for (int64_t c = 0; c < s->n; c++) s->scores[c] = 1.0f / (1.0f + expf(-z[i * s->n + c]));
    row->n = (int32_t)s->n;
    row->scores = s->scores;
    row->wanted = b->targets + i * s->n;
}

/* The pairs of numbers that were noted last are this batch's. */
void row_numbers(struct measure *s, const struct batch *b, const float *z, int64_t i, int64_t first,
                 peft_eval_row *row)
{
    int64_t n = MAX(s->n, 1);
    const struct pair_of *x = s->x + s->used + (i - b->n_rows) * n;
    (void)z;
    (void)first;
    for (int64_t c = 0; c < n; c++) {
        s->scores[c] = (float)x[c].a;
        s->wanted[c] = (float)x[c].b;
    }
    row->n = (int32_t)n;
    row->scores = s->scores;
    row->wanted = s->wanted;
}

void row_pair(struct measure *s, const struct batch *b, const float *z, int64_t i, int64_t first,
              peft_eval_row *row)
{
    (void)s;
    (void)first;
    row->margin = (double)z[i] - (double)z[b->n_rows + i];
}
