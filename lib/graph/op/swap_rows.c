/* Rows of a table that are others: y[i] = d[k] where ids[i] is index[k], else
 * x[i].  dd[k] += dy[i], and dx[i] = dy[i] for the rest.
 * x, y [N, D], d [K, D]; index [2 K]: the K ids, then their places by ascending id. */
#include "graph/op.h"

struct swap_rows_args { const int32_t *ids, *index; };

static int shape_swap_rows(struct tensor *t, struct graph *g)
{
    const struct tensor *x = t->in[0], *d = t->in[1];
    (void)g;
    t->rows = x->rows;
    t->cols = x->cols;
    if (d->cols == x->cols) return PEFT_OK;
    return fail(PEFT_EARG, "rows of %lld columns among rows of %lld", (long long)d->cols,
                (long long)x->cols);
}

/* The row of d that takes the place of row i; -1 = none. */
static int64_t row_put(const struct tensor *t, int64_t i)
{
    const struct swap_rows_args *a = t->args;
    int64_t n = t->in[1]->rows, lo = 0, hi = n;
    const int32_t *by_id = a->index + n;
    while (lo < hi) {
        int64_t mid = (lo + hi) / 2;
        if (a->index[by_id[mid]] < a->ids[i]) lo = mid + 1;
        else hi = mid;
    }
    return lo < n && a->index[by_id[lo]] == a->ids[i] ? by_id[lo] : -1;
}

static void swap_rows_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                          int worker)
{
    int64_t cols = t->cols;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        int64_t k = row_put(t, i);
        const struct tensor *from = t->in[k >= 0];
        op_axpy(r, tensor_f32(t) + i * cols, tensor_f32(from) + (k >= 0 ? k : i) * cols, 1.0f, 0,
                cols);
    }
}

static void swap_rows_back(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                          int worker)
{
    int64_t cols = t->cols;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        float *dx = t->in[0]->g + i * cols;
        if (row_put(t, i) < 0) op_axpy(r, dx, t->g + i * cols, 1.0f, adds(t, 0), cols);
        else if (!adds(t, 0)) r->k->fill(dx, 0.0f, cols);
    }
}

static void backward_swap_rows(const struct tensor *t, const struct run *r)
{
    if (wants(t, 1)) {
        op_clear(t, r, 1);
        for (int64_t i = 0; i < t->rows; i++) {
            int64_t k = row_put(t, i);
            if (k >= 0)
                r->k->axpy(t->in[1]->g + k * t->cols, t->g + i * t->cols, 1.0f, 1, t->cols);
        }
    }
    if (wants(t, 0)) op_parallel(t, r, t->rows, op_grain(t->cols), swap_rows_back);
}

const struct op op_swap_rows = {
    .name = "swap_rows",
    .inplace = 1,
    .grad_inplace = 1,
    .cheap = 1,
    .shape = shape_swap_rows,
    .rows = swap_rows_part,
    .backward = backward_swap_rows,
};

tensor *g_swap_rows(graph *g, tensor *x, tensor *d, const int32_t *ids, const int32_t *index)
{
    const struct swap_rows_args a = { ids, index };
    return graph_node(g, &op_swap_rows, (tensor *[]){ x, d }, 2, 0, &a, sizeof a);
}
