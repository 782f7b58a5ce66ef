/* Lengths of the rows of W + s B A, by panels: W may be of any stored type and
 * is never expanded as a whole. */
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
