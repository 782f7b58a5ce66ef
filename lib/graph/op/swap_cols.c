/* Columns that are others: y[:, index[k]] = d[:, k], the rest as x.
 * dd[:, k] = dy[:, index[k]], and dx = dy with zeros there.
 * x, y [N, D], d [N, K]. */
#include "graph/op.h"

struct swap_cols_args { const int32_t *index; };

static int shape_swap_cols(struct tensor *t, struct graph *g)
{
    const struct swap_cols_args *a = t->args;
    const struct tensor *x = t->in[0], *d = t->in[1];
    (void)g;
    t->rows = x->rows;
    t->cols = x->cols;
    if (d->rows != x->rows)
        return fail(PEFT_EARG, "columns of %lld rows among columns of %lld", (long long)d->rows,
                    (long long)x->rows);
    return op_index(a->index, d->cols, x->cols, "column");
}

static void swap_cols_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                          int worker)
{
    const struct swap_cols_args *a = t->args;
    int64_t n = t->in[1]->cols, cols = t->cols;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        float *y = tensor_f32(t) + i * cols;
        op_axpy(r, y, tensor_f32(t->in[0]) + i * cols, 1.0f, 0, cols);
        for (int64_t k = 0; k < n; k++) y[a->index[k]] = tensor_f32(t->in[1])[i * n + k];
    }
}

/* What was added to a gradient before stays there: it takes nothing from these
 * columns. */
static void swap_cols_back(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                          int worker)
{
    const struct swap_cols_args *a = t->args;
    int64_t n = t->in[1]->cols, cols = t->cols;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        const float *dy = t->g + i * cols;
        float *dd = wants(t, 1) ? t->in[1]->g + i * n : NULL, *dx = t->in[0]->g + i * cols;
        for (int64_t k = 0; dd && k < n; k++)
            dd[k] = dy[a->index[k]] + (adds(t, 1) ? dd[k] : 0.0f);
        if (!wants(t, 0)) continue;
        op_axpy(r, dx, dy, 1.0f, adds(t, 0), cols);
        for (int64_t k = 0; k < n; k++)
            dx[a->index[k]] = adds(t, 0) ? dx[a->index[k]] - dy[a->index[k]] : 0.0f;
    }
}

static void backward_swap_cols(const struct tensor *t, const struct run *r)
{
    op_parallel(t, r, t->rows, op_grain(t->cols), swap_cols_back);
}

const struct op op_swap_cols = {
    .name = "swap_cols",
    .rowwise = 1 | 2,
    .inplace = 1,
    .grad_inplace = 1,
    .cheap = 1,
    .shape = shape_swap_cols,
    .rows = swap_cols_part,
    .backward = backward_swap_cols,
};

tensor *g_swap_cols(graph *g, tensor *x, tensor *d, const int32_t *index)
{
    return graph_node(g, &op_swap_cols, (tensor *[]){ x, d }, 2, 0,
                      &(struct swap_cols_args){ index }, sizeof(struct swap_cols_args));
}
