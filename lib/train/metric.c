/* What evaluations count, and the figures made of it: those of scikit-learn
 * (accuracy_score, precision_recall_fscore_support with zero_division 0,
 * matthews_corrcoef), scipy (pearsonr, spearmanr) and seqeval in its default
 * mode. */
#include <math.h>
#include <stdlib.h>

#include "train/train.h"

int measure_new(struct measure *s)
{
    struct mem *mem = &s->host->mem;
    s->n = s->m->hp.labels;
    if (!(s->is = mem_array(mem, 3 * s->n, 8))) return PEFT_ENOMEM;
    s->said = s->is + s->n;
    s->both = s->said + s->n;
    if (s->o->confusion && s->n > 0) memset(s->o->confusion, 0, (size_t)(s->n * s->n) * 8);
    return s->d->task == TASK_SPAN ? answers_new(s) : PEFT_OK;
}

void measure_free(struct measure *s)
{
    mem_free(&s->host->mem, s->is);
    mem_free(&s->host->mem, s->x);
    mem_free(&s->host->mem, s->texts);
    mem_free(&s->host->mem, s->stats.each);
    mem_free(&s->host->mem, s->scores);
    mem_free(&s->host->mem, s->tags);
    mem_free(&s->host->mem, s->losses);
    answers_free(s);
}

void metric_add(peft_evaluation *out, const char *name, double value)
{
    if (out->n_metrics < PEFT_METRICS)
        out->metrics[out->n_metrics++] = (peft_metric){ name, isfinite(value) ? value : 0 };
}

static double ratio(double a, double b) { return b > 0 ? a / b : 0; }

/* --- classes */

static int64_t best_of(const float *z, int64_t n)
{
    int64_t best = 0;
    for (int64_t c = 1; c < n; c++)
        if (z[c] > z[best]) best = c;
    return best;
}

static void note_class(struct measure *s, int64_t is, int64_t said)
{
    s->is[is]++;
    s->said[said]++;
    s->both[said] += is == said;
    if (s->o->confusion) s->o->confusion[is * s->n + said]++;
}

int note_classes(struct measure *s, const struct batch *b, const float *z)
{
    for (int64_t i = 0; i < b->n_rows; i++, z += s->n) {
        int64_t said = best_of(z, s->n), is = b->label[i];
        double all = 0, squares = 0;
        for (int64_t c = 0; c < s->n; c++) {
            double e = exp((double)(z[c] - z[said]));
            all += e;
            squares += e * e;
        }
        note_class(s, is, said);
        s->sum += squares / (all * all) - 2 * exp((double)(z[is] - z[said])) / all + 1;
    }
    return PEFT_OK;
}

/* Means over the classes that occur (`all`: over all), sums, and means weighted
 * by how often a class is true. */
struct scores { double p, r, f, p_micro, r_micro, f_micro, f_weighted, accuracy, matthews, rows; };

static struct scores scores_of(const struct measure *s, int all)
{
    struct scores r = { 0 };
    double is = 0, said = 0, both = 0, cross = 0, is2 = 0, said2 = 0;
    int64_t classes = 0;
    for (int64_t i = 0; i < s->n; i++) {
        double t = (double)s->is[i], p = (double)s->said[i], tp = (double)s->both[i];
        double f = ratio(2 * tp, t + p);
        classes += all || t + p > 0;
        r.p += ratio(tp, p);
        r.r += ratio(tp, t);
        r.f += f;
        r.f_weighted += t * f;
        is += t;
        said += p;
        both += tp;
        cross += t * p;
        is2 += t * t;
        said2 += p * p;
    }
    r.p = ratio(r.p, (double)classes);
    r.r = ratio(r.r, (double)classes);
    r.f = ratio(r.f, (double)classes);
    r.f_weighted = ratio(r.f_weighted, is);
    r.p_micro = ratio(both, said);
    r.r_micro = ratio(both, is);
    r.f_micro = ratio(2 * both, is + said);
    r.rows = is;
    r.accuracy = ratio(both, is);
    r.matthews = ratio(both * is - cross, sqrt((is * is - said2) * (is * is - is2)));
    return r;
}

void report_classes(struct measure *s, peft_evaluation *out)
{
    struct scores r = scores_of(s, 0);
    out->accuracy = r.accuracy;
    out->f1 = r.f;
    metric_add(out, "accuracy", r.accuracy);
    metric_add(out, "f1", r.f);
    metric_add(out, "precision", r.p);
    metric_add(out, "recall", r.r);
    metric_add(out, "f1_micro", r.f_micro);
    metric_add(out, "f1_weighted", r.f_weighted);
    metric_add(out, "matthews", r.matthews);
    metric_add(out, "brier", ratio(s->sum, r.rows));
}

int note_labels(struct measure *s, const struct batch *b, const float *z)
{
    for (int64_t i = 0; i < b->n_rows * s->n; i++) {
        int is = b->targets[i] > 0.5f, said = z[i] > 0;
        s->is[i % s->n] += is;
        s->said[i % s->n] += said;
        s->both[i % s->n] += is && said;
    }
    return PEFT_OK;
}

void report_labels(struct measure *s, peft_evaluation *out)
{
    struct scores r = scores_of(s, 1);
    out->accuracy = ratio((double)s->stats.hits, (double)s->stats.count);
    out->f1 = r.f;
    metric_add(out, "f1", r.f);
    metric_add(out, "f1_micro", r.f_micro);
    metric_add(out, "precision_micro", r.p_micro);
    metric_add(out, "recall_micro", r.r_micro);
    metric_add(out, "f1_weighted", r.f_weighted);
    metric_add(out, "accuracy", out->accuracy);
}

/* --- numbers */

int note_number(struct measure *s, double said, double is)
{
    if (s->used == s->cap) {
        int64_t cap = MAX(2 * s->cap, 256), bytes;
        if (!mul_ok(cap, 2 * (int64_t)sizeof(*s->x), &bytes)) return PEFT_ENOMEM;
        struct pair_of *x = mem_realloc(&s->host->mem, s->x, bytes);
        if (!x) return PEFT_ENOMEM;
        s->x = x;
        s->cap = cap;
    }
    s->x[s->used++] = (struct pair_of){ said, is };
    return PEFT_OK;
}

int note_numbers(struct measure *s, const struct batch *b, const float *z)
{
    const float *y = s->d->task == TASK_MULTI ? b->targets : b->value;
    int rc = PEFT_OK;
    for (int64_t i = 0; i < b->n_rows * s->n && !rc; i++) rc = note_number(s, z[i], y[i]);
    return rc;
}

static double pearson(const struct pair_of *x, int64_t n)
{
    double mean[2] = { 0 }, cross = 0, square[2] = { 0 };
    for (int64_t i = 0; i < n; i++) {
        mean[0] += x[i].a / (double)n;
        mean[1] += x[i].b / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        double a = x[i].a - mean[0], b = x[i].b - mean[1];
        cross += a * b;
        square[0] += a * a;
        square[1] += b * b;
    }
    return square[0] > 0 && square[1] > 0 ? cross / sqrt(square[0] * square[1]) : 0;
}

static int by_first(const void *x, const void *y)
{
    double a = ((const struct pair_of *)x)->a, b = ((const struct pair_of *)y)->a;
    return (a > b) - (a < b);
}

/* Each number becomes its rank, equal ones their mean rank; then the sides
 * change places. */
static void to_ranks(struct pair_of *x, int64_t n)
{
    qsort(x, (size_t)n, sizeof(*x), by_first);
    for (int64_t i = 0, k; i < n; i = k) {
        for (k = i + 1; k < n && x[k].a == x[i].a;) k++;
        for (int64_t j = k; j-- > i;)
            x[j] = (struct pair_of){ x[j].b, (double)(i + k + 1) / 2 };
    }
}

void report_numbers(struct measure *s, peft_evaluation *out)
{
    double mse = 0, mae = 0, n = (double)s->used;
    for (int64_t i = 0; i < s->used; i++) {
        double d = s->x[i].a - s->x[i].b;
        mse += d * d / n;
        mae += fabs(d) / n;
    }
    metric_add(out, "mse", mse);
    metric_add(out, "mae", mae);
    metric_add(out, "pearson", pearson(s->x, s->used));
    to_ranks(s->x, s->used);
    to_ranks(s->x, s->used);
    metric_add(out, "spearman", pearson(s->x, s->used));
}

/* --- tokens */

/* A tag is its first letter, and its type what follows "-". */
struct chunk { char tag; const char *type; int64_t begin; };

static struct chunk tag_of(const struct measure *s, int64_t label)
{
    const char *name = label < 0 ? "O" : s->m->labels[label];
    const char *dash = *name ? strchr(name + 1, '-') : NULL;
    const char *type = dash ? dash + 1 : *name ? name + 1 : "";
    return (struct chunk){ *name, *type ? type : "_", 0 };
}

static int is_in(char c, const char *set) { return c && strchr(set, c); }

/* seqeval's rules of where chunks end and begin; at the end `now` is "O".  1 = one
 * ended before position i; it is in *ended. */
static int step_chunk(struct chunk *was, struct chunk now, int64_t i, struct chunk *ended)
{
    int other = strcmp(was->type, now.type) != 0;
    int ends = is_in(was->tag, "ES") || (is_in(was->tag, "BI") && is_in(now.tag, "BSO")) ||
               (!is_in(was->tag, "O.") && other);
    int begins = is_in(now.tag, "BS") || (is_in(was->tag, "ESO") && is_in(now.tag, "EI")) ||
                 (!is_in(now.tag, "O.") && other);
    *ended = *was;
    now.begin = begins ? i : was->begin;
    *was = now;
    return ends;
}

/* Adds the chunks of the tokens [from, to), of one text: right, said, true. */
static void note_chunks(const struct measure *s, const struct batch *b, const float *z,
                        int64_t from, int64_t to, int64_t chunks[3])
{
    struct chunk is = { 'O', "", 0 }, said = is, ended[2];
    for (int64_t row = from; row <= to; row++) {
        int64_t label = row == to ? -1 : b->target[row];
        int64_t best = row == to ? -1 : best_of(z + row * s->n, s->n);
        int a = step_chunk(&is, tag_of(s, label), row, &ended[0]);
        int c = step_chunk(&said, tag_of(s, best), row, &ended[1]);
        chunks[0] += a && c && ended[0].begin == ended[1].begin &&
                     !strcmp(ended[0].type, ended[1].type);
        chunks[1] += c;
        chunks[2] += a;
    }
}

int note_tokens(struct measure *s, const struct batch *b, const float *z)
{
    for (int64_t t = 0, row = 0, from = 0; t < b->n_seq; t++, from = row) {
        for (; row < b->n_target && b->rows[row] < b->start[t + 1]; row++)
            note_class(s, b->target[row], best_of(z + row * s->n, s->n));
        note_chunks(s, b, z, from, row, s->chunks);
    }
    return PEFT_OK;
}

void row_tokens(struct measure *s, const struct batch *b, const float *z, int64_t i, int64_t first,
                peft_eval_row *row)
{
    int64_t chunks[3] = { 0 };
    (void)i;
    for (int64_t k = 0; k < row->terms; k++)
        s->tags[k] = (int32_t)best_of(z + (first + k) * s->n, s->n);
    note_chunks(s, b, z, first, first + row->terms, chunks);
    row->labels = b->target + first;
    row->tags = s->tags;
    row->chunks_right = chunks[0];
    row->chunks_said = chunks[1];
    row->chunks = chunks[2];
}

void report_tokens(struct measure *s, peft_evaluation *out)
{
    double right = (double)s->chunks[0], said = (double)s->chunks[1], is = (double)s->chunks[2];
    struct scores r = scores_of(s, 0);
    int bio = 0;
    for (int64_t i = 0; i < s->n; i++) bio |= !strncmp(s->m->labels[i], "B-", 2);
    out->accuracy = r.accuracy;
    out->f1 = bio ? ratio(2 * right, said + is) : r.f;
    metric_add(out, "f1", out->f1);
    metric_add(out, "precision", bio ? ratio(right, said) : r.p);
    metric_add(out, "recall", bio ? ratio(right, is) : r.r);
    metric_add(out, "accuracy", r.accuracy);
}

/* --- pairs */

int note_pairs(struct measure *s, const struct batch *b, const float *z)
{
    for (int64_t i = 0; i < b->n_rows; i++) s->sum += (double)z[i] - (double)z[b->n_rows + i];
    return PEFT_OK;
}

void report_pairs(struct measure *s, peft_evaluation *out)
{
    out->accuracy = ratio((double)s->stats.hits, (double)s->stats.count);
    metric_add(out, "accuracy", out->accuracy);
    metric_add(out, "margin", ratio(s->sum, (double)s->stats.count));
}
