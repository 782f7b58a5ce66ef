/* Layer norm (Ba et al. 2016): y = h * w + b,  h = (x - mean) * rstd.
 * dx = rstd * (dy w - mean(dy w) - h * mean(dy w h)),
 * dw = sum over rows of dy * h,  db = sum over rows of dy.
 * x, y [N, D], w and b [1, D] or absent; aux = mean and rstd [N, 2]. */
#include "graph/op.h"

struct layernorm_args { float eps; };

static bool layernorm_trains(const struct tensor *t)
{
    return wants(t, 1) || wants(t, 2);
}

static int shape_layernorm(struct tensor *t, struct graph *g)
{
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = t->in[0]->cols;
    t->aux_bytes = t->rows * 2 * 4;
    if (layernorm_trains(t)) t->temp_bytes = op_blocks(t->rows) * 2 * t->cols * 4;
    int rc = t->in[1] ? op_vector(t->in[1], t->cols) : PEFT_OK;
    return rc || !t->in[2] ? rc : op_vector(t->in[2], t->cols);
}

/* A row of dx that nobody wants. */
static int64_t scratch_layernorm(const struct tensor *t)
{
    return layernorm_trains(t) && !wants(t, 0) ? t->cols * 4 : 0;
}

static const float *layernorm_weight(const struct tensor *t, int k)
{
    return t->in[k] ? t->in[k]->x : NULL;
}

static void layernorm_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                           int worker)
{
    const struct layernorm_args *a = t->args;
    int64_t at = begin * t->cols;
    (void)worker;
    r->k->layernorm(tensor_f32(t) + at, (float *)t->aux + 2 * begin, tensor_f32(t->in[0]) + at,
                    layernorm_weight(t, 1), layernorm_weight(t, 2), end - begin, t->cols, a->eps);
}

static void layernorm_back_rows(const struct tensor *t, const struct run *r, float *dx, float *dw,
                                float *db, int64_t begin, int64_t rows)
{
    int64_t at = begin * t->cols;
    r->k->layernorm_back(dx, dw, db, t->g + at, tensor_f32(t->in[0]) + at, layernorm_weight(t, 1),
                         (float *)t->aux + 2 * begin, adds(t, 0), rows, t->cols);
}

/* A block's partial sums of dw and db lie behind one another in temp. */
static void layernorm_back_part(const struct tensor *t, const struct run *r, int64_t begin,
                                int64_t end, int worker)
{
    float *dw = NULL, *db = NULL;
    if (layernorm_trains(t)) {
        float *sums = (float *)t->temp + begin / op_block_rows(t->rows) * 2 * t->cols;
        r->k->fill(sums, 0.0f, 2 * t->cols);
        dw = wants(t, 1) ? sums : NULL;
        db = wants(t, 2) ? sums + t->cols : NULL;
    }
    if (wants(t, 0)) {
        layernorm_back_rows(t, r, t->in[0]->g + begin * t->cols, dw, db, begin, end - begin);
        return;
    }
    for (int64_t i = begin; i < end; i++)
        layernorm_back_rows(t, r, compute_scratch(r->c, worker), dw, db, i, 1);
}

static void backward_layernorm(const struct tensor *t, const struct run *r)
{
    const float *sums = t->temp;
    int64_t blocks = op_blocks(t->rows);
    int64_t grain = layernorm_trains(t) ? op_block_rows(t->rows) : op_grain(t->cols);
    op_parallel(t, r, t->rows, grain, layernorm_back_part);
    if (wants(t, 1)) op_reduce(t, r, 1, sums, blocks, 2 * t->cols);
    if (wants(t, 2)) op_reduce(t, r, 2, sums + t->cols, blocks, 2 * t->cols);
}

const struct op op_layernorm = {
    .name = "layernorm",
    .rowwise = 1,
    .save = { SAVE_IN0 | SAVE_IN1 | SAVE_AUX, SAVE_IN0 | SAVE_IN1 | SAVE_AUX,
              SAVE_IN0 | SAVE_IN1 | SAVE_AUX },
    .inplace = 1,
    .cheap = 1,
    .shape = shape_layernorm,
    .scratch = scratch_layernorm,
    .rows = layernorm_part,
    .backward = backward_layernorm,
};

tensor *g_layernorm(graph *g, tensor *x, tensor *w, tensor *b, float eps)
{
    return graph_node(g, &op_layernorm, (tensor *[]){ x, w, b }, 3, 1 << 1 | 1 << 2,
                      &(struct layernorm_args){ eps }, sizeof(struct layernorm_args));
}
