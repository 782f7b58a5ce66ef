/* Lengths of the rows of W + s B A, and of the columns of W + s A B^T, by panels:
 * W may be of any stored type and is never expanded as a whole. */
#include <math.h>

#include "kernel/kernel.h"

void lora_row_norms(const struct compute *c, float *norm, const struct matrix *w, const float *a,
                    const float *b, int64_t r, float s, int64_t begin, int64_t end, float *temp)
{
    for (int64_t i = begin; i < end; i += LORA_NORM_ROWS) {
        int64_t n = MIN(LORA_NORM_ROWS, end - i);
        qtype_expand(w->type, temp, w->data, i * w->cols, n * w->cols);
        c->blas->sgemm(0, 0, n, w->cols, r, s, b + i * r, r, a, w->cols, 1.0f, temp, w->cols);
        for (int64_t k = 0; k < n; k++)
            norm[i + k] = (float)sqrt(c->k->sum_squares(temp + k * w->cols, w->cols));
    }
}

enum { LORA_COL_ROWS = 4096 };

struct cols_job {
    const struct compute *c;
    const struct matrix *w;
    const float *a, *b;
    int64_t r;
    float s, *temp;
};

int64_t lora_col_temp(const struct matrix *w)
{
    return div_up(w->rows, LORA_COL_ROWS) * (LORA_NORM_ROWS + 1) * w->cols;
}

/* Sums of squares of some rows, in front of the panel that they are made in. */
static void cols_part(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct cols_job *j = arg;
    int64_t d = j->w->cols;
    float *sum = j->temp + begin / LORA_COL_ROWS * (LORA_NORM_ROWS + 1) * d, *panel = sum + d;
    (void)worker;
    j->c->k->fill(sum, 0.0f, d);
    for (int64_t i = begin; i < end; i += LORA_NORM_ROWS) {
        int64_t n = MIN(LORA_NORM_ROWS, end - i);
        qtype_expand(j->w->type, panel, j->w->data, i * d, n * d);
        j->c->blas->sgemm(0, 1, n, d, j->r, j->s, j->a + i * j->r, j->r, j->b, j->r, 1.0f, panel,
                          d);
        for (int64_t k = 0; k < n; k++) j->c->k->mul(sum, panel + k * d, panel + k * d, 1, d);
    }
}

void lora_col_norms(const struct compute *c, float *norm, const struct matrix *w, const float *a,
                    const float *b, int64_t r, float s, float *temp)
{
    struct cols_job j = { c, w, a, b, r, s, temp };
    int64_t stride = (LORA_NORM_ROWS + 1) * w->cols;
    compute_rows(c, w->rows, LORA_COL_ROWS, cols_part, &j);
    for (int64_t i = 0; i < w->cols; i++) {
        double sum = 0;
        for (int64_t k = 0; k < div_up(w->rows, LORA_COL_ROWS); k++)
            sum += (double)temp[k * stride + i];
        norm[i] = (float)sqrt(sum);
    }
}
