/* The figures of systems, as functions of sums over rows. */
#include <math.h>

#include "judge/board.h"

static double ratio_of(double a, double b) { return b > 0 ? a / b : 0; }

/* ------------------------------------------------------------------ the rows */

static void row_loss(const struct board_figure *f, const struct found *r, double *out)
{
    (void)f;
    out[0] = r->loss;
    out[1] = (double)r->terms;
}
static void row_right(const struct board_figure *f, const struct found *r, double *out)
{
    (void)f;
    out[0] = (double)r->right;
    out[1] = (double)r->terms;
}
static void row_bytes(const struct board_figure *f, const struct found *r, double *out)
{
    (void)f;
    out[0] = r->loss;
    out[1] = (double)r->bytes;
}
static void row_classes(const struct board_figure *f, const struct found *r, double *out)
{
    (void)f;
    out[0] = r->label;
    out[1] = r->said;
}
static void row_sure(const struct board_figure *f, const struct found *r, double *out)
{
    (void)f;
    out[0] = r->confidence;
    out[1] = r->label == r->said;
}
/* Of each label 1 where it is true, and 2 more where it was said. */
static void row_labels_of(const struct board_figure *f, const struct found *r, double *out)
{
    for (int64_t i = 0; i < f->n; i++)
        out[i] = (r->wanted[i] > 0.5f) + 2 * (r->scores[i] > 0.5f);
}
/* Sums of both, of their squares and product, of differences squared and not; and numbers. */
static void row_moments(const struct board_figure *f, const struct found *r, double *out)
{
    memset(out, 0, 8 * sizeof(*out));
    for (int64_t i = 0; i < f->n; i++) {
        double a = (double)r->scores[i], b = (double)r->wanted[i];
        const double x[] = { a, b, a * a, b * b, a * b, (a - b) * (a - b), fabs(a - b), 1 };
        for (int k = 0; k < 8; k++) out[k] += x[k];
    }
}
static void row_counts(const struct board_figure *f, const struct found *r, double *out)
{
    memset(out, 0, (size_t)(3 * f->n) * sizeof(*out));
    for (int k = 0; k < 3; k++)
        memcpy(out + k * f->n, r->counts + k * r->n, (size_t)r->n * sizeof(*out));
}
static void row_chunks(const struct board_figure *f, const struct found *r, double *out)
{
    (void)f;
    for (int k = 0; k < 3; k++) out[k] = (double)r->chunks[k];
}
static void row_exact(const struct board_figure *f, const struct found *r, double *out)
{
    (void)f;
    *out = 100 * r->exact;
}
static void row_f1(const struct board_figure *f, const struct found *r, double *out)
{
    (void)f;
    *out = 100 * r->f1;
}
static void row_margin(const struct board_figure *f, const struct found *r, double *out)
{
    (void)f;
    *out = r->margin;
}
static void row_gain(const struct board_figure *f, const struct found *r, double *out)
{
    (void)f;
    *out = r->rank <= 10 ? 1 / log2(1 + (double)r->rank) : 0;
}
static void row_reciprocal(const struct board_figure *f, const struct found *r, double *out)
{
    (void)f;
    *out = r->rank <= 10 ? 1 / (double)r->rank : 0;
}
static void row_recall_1(const struct board_figure *f, const struct found *r, double *out)
{
    (void)f;
    *out = r->rank <= 1;
}
static void row_recall_5(const struct board_figure *f, const struct found *r, double *out)
{
    (void)f;
    *out = r->rank <= 5;
}
static void row_recall_10(const struct board_figure *f, const struct found *r, double *out)
{
    (void)f;
    *out = r->rank <= 10;
}

/* ------------------------------------------------------------------ the sums */

static void add_classes(const struct figure *f, double *sum, const double *row)
{
    int64_t n = f->sums / 3, is = (int64_t)row[0], said = (int64_t)row[1];
    sum[is]++;
    sum[n + said]++;
    if (is == said) sum[2 * n + is]++;
}
static void add_labels(const struct figure *f, double *sum, const double *row)
{
    int64_t n = f->sums / 3;
    for (int64_t i = 0; i < n; i++) {
        int code = (int)row[i];
        sum[i] += code & 1;
        sum[n + i] += code >> 1;
        sum[2 * n + i] += code == 3;
    }
}
/* Bins of confidence ((m - 1) / M, m / M]: how many, how sure, how many right. */
enum { BINS = 15 };
static void add_bin(const struct figure *f, double *sum, const double *row)
{
    int64_t bins = f->sums / 3, bin = (int64_t)ceil(row[0] * (double)bins) - 1;
    double *at = sum + 3 * MIN(MAX(bin, 0), bins - 1);
    at[0]++;
    at[1] += row[0];
    at[2] += row[1];
}

/* ---------------------------------------------------------------- the values */

static double perplexity_of(const struct figure *f, const double *sum, double rows)
{
    (void)f;
    (void)rows;
    return exp(ratio_of(sum[0], sum[1]));
}
/* Likelihoods of models that cut a text into other tokens. */
static double bits_of(const struct figure *f, const double *sum, double rows)
{
    (void)f;
    (void)rows;
    return ratio_of(sum[0], sum[1]) / log(2);
}
static double share_of(const struct figure *f, const double *sum, double rows)
{
    (void)f;
    (void)rows;
    return ratio_of(sum[0], sum[1]);
}
/* Mean F1 of the labels that occur, by how often each is true, said, and both. */
static double macro_f1(const struct figure *f, const double *sum, double rows)
{
    int64_t n = f->sums / 3, some = 0;
    double all = 0;
    (void)rows;
    for (int64_t i = 0; i < n; i++) {
        some += sum[i] + sum[n + i] > 0;
        all += ratio_of(2 * sum[2 * n + i], sum[i] + sum[n + i]);
    }
    return ratio_of(all, (double)some);
}
static double all_f1(const struct figure *f, const double *sum, double rows)
{
    int64_t n = f->sums / 3;
    double all = 0;
    (void)rows;
    for (int64_t i = 0; i < n; i++)
        all += ratio_of(2 * sum[2 * n + i], sum[i] + sum[n + i]);
    return ratio_of(all, (double)n);
}
static double ece_of(const struct figure *f, const double *sum, double rows)
{
    double error = 0;
    for (int64_t m = 0; m < f->sums; m += 3) error += fabs(sum[m + 2] - sum[m + 1]);
    return ratio_of(error, rows);
}

double peft_calibration_error(const double *confidence, const int32_t *right, int64_t n,
                              int32_t bins)
{
    enum { MOST = 1000 };
    double sum[3 * MOST] = { 0 };
    const struct figure f = { "ece", 2, 3 * (int64_t)(bins ? bins : BINS), ece_of, add_bin };
    KIT_ARG(confidence && right && n > 0 && bins >= 0 && bins <= MOST,
            "no rows, or %d bins, expected 1 to %d", bins, (int)MOST);
    for (int64_t i = 0; i < n; i++) {
        KIT_ARG(confidence[i] >= 0 && confidence[i] <= 1 + 1e-6,
                "a confidence of %g in row %lld, expected 0 to 1", confidence[i], (long long)i);
        add_bin(&f, sum, (double[]){ confidence[i], right[i] != 0 });
    }
    return ece_of(&f, sum, (double)n);
}
static double mse_of(const struct figure *f, const double *sum, double rows)
{
    (void)f;
    (void)rows;
    return ratio_of(sum[5], sum[7]);
}
static double mae_of(const struct figure *f, const double *sum, double rows)
{
    (void)f;
    (void)rows;
    return ratio_of(sum[6], sum[7]);
}
static double pearson_of(const struct figure *f, const double *s, double rows)
{
    double n = s[7], cross = n * s[4] - s[0] * s[1];
    (void)f;
    (void)rows;
    double spread = (n * s[2] - s[0] * s[0]) * (n * s[3] - s[1] * s[1]);
    return spread > 0 ? cross / sqrt(spread) : 0;
}
static double chunk_f1(const struct figure *f, const double *sum, double rows)
{
    (void)f;
    (void)rows;
    return ratio_of(2 * sum[0], sum[1] + sum[2]);
}
static double chunk_precision(const struct figure *f, const double *sum, double rows)
{
    (void)f;
    (void)rows;
    return ratio_of(sum[0], sum[1]);
}
static double chunk_recall(const struct figure *f, const double *sum, double rows)
{
    (void)f;
    (void)rows;
    return ratio_of(sum[0], sum[2]);
}

#define FIGURE(known, name, lower, width, sums, width_each, sums_each, row, add, value) \
    { { name, width, sums, value, add }, width_each, sums_each, known, lower, row, NULL, 0 }
#define MEAN(known, name, lower, row) \
    FIGURE(known, name, lower, 2, 2, 0, 0, row, NULL, figure_mean)
#define MEAN_1(known, name, row) FIGURE(known, name, 0, 1, 1, 0, 0, row, NULL, figure_mean)
static const struct board_figure known_figures[] = {
    FIGURE(KNOWN_TOKENS, "perplexity", 1, 2, 2, 0, 0, row_loss, NULL, perplexity_of),
    FIGURE(KNOWN_TOKENS, "token_accuracy", 0, 2, 2, 0, 0, row_right, NULL, share_of),
    FIGURE(KNOWN_BYTES, "bits_per_byte", 1, 2, 2, 0, 0, row_bytes, NULL, bits_of),
    MEAN(KNOWN_CLASS, "accuracy", 0, row_right),
    FIGURE(KNOWN_CLASS, "f1", 0, 2, 0, 0, 3, row_classes, add_classes, macro_f1),
    FIGURE(KNOWN_CLASS, "ece", 1, 2, 3 * BINS, 0, 0, row_sure, add_bin, ece_of),
    MEAN(KNOWN_CLASS, "log_loss", 1, row_loss),
    FIGURE(KNOWN_MULTI, "f1", 0, 0, 0, 1, 3, row_labels_of, add_labels, all_f1),
    MEAN(KNOWN_MULTI, "accuracy", 0, row_right),
    MEAN(KNOWN_MULTI, "log_loss", 1, row_loss),
    FIGURE(KNOWN_NUMBERS, "mse", 1, 8, 8, 0, 0, row_moments, NULL, mse_of),
    FIGURE(KNOWN_NUMBERS, "mae", 1, 8, 8, 0, 0, row_moments, NULL, mae_of),
    FIGURE(KNOWN_NUMBERS, "pearson", 0, 8, 8, 0, 0, row_moments, NULL, pearson_of),
    FIGURE(KNOWN_CHUNKS, "f1", 0, 3, 3, 0, 0, row_chunks, NULL, chunk_f1),
    FIGURE(KNOWN_CHUNKS, "precision", 0, 3, 3, 0, 0, row_chunks, NULL, chunk_precision),
    FIGURE(KNOWN_CHUNKS, "recall", 0, 3, 3, 0, 0, row_chunks, NULL, chunk_recall),
    FIGURE(KNOWN_TAGS, "f1", 0, 0, 0, 3, 3, row_counts, NULL, macro_f1),
    FIGURE(KNOWN_TAGS, "accuracy", 0, 2, 2, 0, 0, row_right, NULL, share_of),
    FIGURE(KNOWN_CHUNKS, "accuracy", 0, 2, 2, 0, 0, row_right, NULL, share_of),
    MEAN_1(KNOWN_ANSWER, "f1", row_f1),
    MEAN_1(KNOWN_ANSWER, "exact", row_exact),
    MEAN(KNOWN_PAIR, "accuracy", 0, row_right),
    MEAN_1(KNOWN_PAIR, "margin", row_margin),
    MEAN_1(KNOWN_RANK, "ndcg_10", row_gain),
    MEAN_1(KNOWN_RANK, "mrr_10", row_reciprocal),
    MEAN_1(KNOWN_RANK, "recall_1", row_recall_1),
    MEAN_1(KNOWN_RANK, "recall_5", row_recall_5),
    MEAN_1(KNOWN_RANK, "recall_10", row_recall_10),
};

static int has(const struct system *s, enum known k) { return s->known >> k & 1; }

int board_figure(const struct peft_board *j, const struct system *s, int32_t i,
                 struct board_figure *out)
{
    for (size_t k = 0; k < ARRAY_LEN(known_figures); k++) {
        if (!has(s, known_figures[k].known) || i-- > 0) continue;
        *out = known_figures[k];
        int columns = out->known == KNOWN_MULTI || out->known == KNOWN_NUMBERS;
        out->n = columns ? s->n_numbers : j->n_labels;
        out->figure.width += out->n * out->width_each;
        out->figure.sums += out->n * out->sums_each;
        return 1;
    }
    for (const struct overlap_figure *o = overlap_figures; o->figure.name; o++) {
        if (!has(s, KNOWN_TEXT) || i-- > 0) continue;
        *out = (struct board_figure){ .figure = o->figure, .known = KNOWN_TEXT, .overlap = o };
        if (!strcmp(o->figure.name, "f1")) out->figure.name = "answer_f1";
        return 1;
    }
    return 0;
}

static int usable(const struct board_figure *f, const struct found *r)
{
    return f->known != KNOWN_TEXT || (r->text && r->reference);
}

int figure_rows(struct peft_board *j, const struct board_figure *f, const struct system *s,
                const struct system *with, double **out, int64_t *n)
{
    struct mem *mem = &j->host.mem;
    double *rows = mem_array(mem, MAX(s->n, 1), MAX(f->figure.width, 1) * (int64_t)sizeof(*rows));
    int rc = rows ? PEFT_OK : PEFT_ENOMEM;
    *n = 0;
    for (int64_t i = 0, k = 0; i < s->n && !rc; i++) {
        const struct found *r = &s->rows[i];
        while (with && k < with->n && with->rows[k].line < r->line) k++;
        int common = !with || (k < with->n && with->rows[k].line == r->line &&
                               usable(f, &with->rows[k]));
        if (!common || !usable(f, r)) continue;
        double *row = rows + (*n)++ * f->figure.width;
        if (f->overlap) rc = f->overlap->count(mem, r->text, r->reference, row);
        else f->row(f, r, row);
    }
    if (rc) mem_free(mem, rows);
    else *out = rows;
    return rc;
}
