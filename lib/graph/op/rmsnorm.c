/* Root mean square norm (Zhang and Sennrich 2019):
 * y = x * rstd * (w + plus),  rstd = 1 / sqrt(mean(x^2) + eps).
 * dx = rstd * (dy w' - x * rstd^2 * mean(dy w' x)) with w' = w + plus,
 * dw = sum over rows of dy * x * rstd.
 * x, y [N, D], w [1, D]; aux = rstd [N]. */
#include "graph/op.h"

struct rmsnorm_args { float eps, plus; };

static int shape_rmsnorm(struct tensor *t, struct graph *g)
{
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = t->in[0]->cols;
    t->aux_bytes = t->rows * 4;
    if (wants(t, 1)) t->temp_bytes = op_blocks(t->rows) * t->cols * 4;
    return op_vector(t->in[1], t->cols);
}

/* A row of dx that nobody wants. */
static int64_t scratch_rmsnorm(const struct tensor *t)
{
    return wants(t, 1) && !wants(t, 0) ? t->cols * 4 : 0;
}

static void rmsnorm_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                         int worker)
{
    const struct rmsnorm_args *a = t->args;
    int64_t at = begin * t->cols;
    (void)worker;
    r->k->rmsnorm(tensor_f32(t) + at, (float *)t->aux + begin, tensor_f32(t->in[0]) + at,
                  t->in[1]->x, end - begin, t->cols, a->eps, a->plus);
}

static void rmsnorm_back_rows(const struct tensor *t, const struct run *r, float *dx, float *dw,
                              int64_t begin, int64_t rows)
{
    const struct rmsnorm_args *a = t->args;
    int64_t at = begin * t->cols;
    r->k->rmsnorm_back(dx, dw, t->g + at, tensor_f32(t->in[0]) + at, t->in[1]->x,
                       (float *)t->aux + begin, adds(t, 0), rows, t->cols, a->plus);
}

static void rmsnorm_back_part(const struct tensor *t, const struct run *r, int64_t begin,
                              int64_t end, int worker)
{
    float *dw = NULL;
    if (wants(t, 1)) {
        dw = (float *)t->temp + begin / op_block_rows(t->rows) * t->cols;
        r->k->fill(dw, 0.0f, t->cols);
    }
    if (wants(t, 0)) {
        rmsnorm_back_rows(t, r, t->in[0]->g + begin * t->cols, dw, begin, end - begin);
        return;
    }
    for (int64_t i = begin; i < end; i++)
        rmsnorm_back_rows(t, r, compute_scratch(r->c, worker), dw, i, 1);
}

static void backward_rmsnorm(const struct tensor *t, const struct run *r)
{
    int64_t grain = wants(t, 1) ? op_block_rows(t->rows) : op_grain(t->cols);
    op_parallel(t, r, t->rows, grain, rmsnorm_back_part);
    if (wants(t, 1)) op_reduce(t, r, 1, t->temp, op_blocks(t->rows), t->cols);
}

const struct op op_rmsnorm = {
    .name = "rmsnorm",
    .rowwise = 1,
    .save = { SAVE_IN0 | SAVE_IN1 | SAVE_AUX, SAVE_IN0 | SAVE_IN1 | SAVE_AUX },
    .inplace = 1,
    .cheap = 1,
    .shape = shape_rmsnorm,
    .scratch = scratch_rmsnorm,
    .rows = rmsnorm_part,
    .backward = backward_rmsnorm,
};

tensor *g_rmsnorm(graph *g, tensor *x, tensor *w, float eps, float plus)
{
    return graph_node(g, &op_rmsnorm, (tensor *[]){ x, w }, 2, 0,
                      &(struct rmsnorm_args){ eps, plus }, sizeof(struct rmsnorm_args));
}
