/* y = a beside b; the gradient is cut at the same column.
 * a [N, Da], b [N, Db], y [N, Da + Db]. */
#include "graph/op.h"

static int shape_concat_cols(struct tensor *t, struct graph *g)
{
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = t->in[0]->cols + t->in[1]->cols;
    if (t->in[1]->rows == t->rows) return PEFT_OK;
    return fail(PEFT_EARG, "%lld and %lld rows, expected equal", (long long)t->rows,
                (long long)t->in[1]->rows);
}

static void concat_cols_part(const struct tensor *t, const struct run *r, int64_t begin,
                             int64_t end, int worker)
{
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        float *y = tensor_f32(t) + i * t->cols;
        for (int k = 0; k < 2; y += t->in[k++]->cols) {
            int64_t d = t->in[k]->cols;
            r->k->axpy(y, tensor_f32(t->in[k]) + i * d, 1.0f, 0, d);
        }
    }
}

static void concat_cols_back_part(const struct tensor *t, const struct run *r, int64_t begin,
                                  int64_t end, int worker)
{
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        const float *dy = t->g + i * t->cols;
        for (int k = 0; k < 2; dy += t->in[k++]->cols) {
            int64_t d = t->in[k]->cols;
            if (wants(t, k)) r->k->axpy(t->in[k]->g + i * d, dy, 1.0f, adds(t, k), d);
        }
    }
}

static void backward_concat_cols(const struct tensor *t, const struct run *r)
{
    op_parallel(t, r, t->rows, op_grain(t->cols), concat_cols_back_part);
}

const struct op op_concat_cols = {
    .name = "concat_cols",
    .rowwise = 1 | 2,
    .cheap = 1,
    .shape = shape_concat_cols,
    .rows = concat_cols_part,
    .backward = backward_concat_cols,
};

tensor *g_concat_cols(graph *g, tensor *a, tensor *b)
{
    return graph_node(g, &op_concat_cols, (tensor *[]){ a, b }, 2, 0, NULL, 0);
}
