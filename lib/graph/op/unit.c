/* Rows of length 1: y[i] = x[i] / max(|x[i]|, 1e-12).
 * dx[i] = (dy[i] - y[i] (y[i] . dy[i])) / |x[i]|.   x, y [N, D]; aux = lengths [N]. */
#include "graph/op.h"

#include <math.h>

static int shape_unit(struct tensor *t, struct graph *g)
{
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = t->in[0]->cols;
    t->aux_bytes = t->rows * 4;
    return PEFT_OK;
}

static void unit_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                      int worker)
{
    float *length = t->aux;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        const float *x = tensor_f32(t->in[0]) + i * t->cols;
        length[i] = fmaxf((float)sqrt(r->k->sum_squares(x, t->cols)), 1e-12f);
        r->k->axpy(tensor_f32(t) + i * t->cols, x, 1.0f / length[i], 0, t->cols);
    }
}

static void unit_back_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                           int worker)
{
    const float *length = t->aux;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        const float *y = tensor_f32(t) + i * t->cols, *dy = t->g + i * t->cols;
        float *dx = t->in[0]->g + i * t->cols, along = r->k->dot(y, dy, t->cols);
        r->k->axpy(dx, dy, 1.0f / length[i], adds(t, 0), t->cols);
        r->k->axpy(dx, y, -along / length[i], 1, t->cols);
    }
}

static void backward_unit(const struct tensor *t, const struct run *r)
{
    op_parallel(t, r, t->rows, op_grain(t->cols), unit_back_part);
}

const struct op op_unit = {
    .name = "unit",
    .rowwise = 1,
    .save = { SAVE_OUT | SAVE_AUX },
    .shape = shape_unit,
    .rows = unit_part,
    .backward = backward_unit,
};

tensor *g_unit(graph *g, tensor *x)
{
    return graph_node(g, &op_unit, (tensor *[]){ x }, 1, 0, NULL, 0);
}
