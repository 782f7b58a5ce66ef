/* y = a * b elementwise; a b of one row is applied to each row of a.
 * da = dy * b,  db = dy * a (summed over the rows when b has one).
 * a, y [N, D], b [N, D] or [1, D]. */
#include "graph/op.h"

static bool one_row(const struct tensor *t)
{
    return t->in[1]->rows == 1 && t->rows > 1;
}

static int shape_mul(struct tensor *t, struct graph *g)
{
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = t->in[0]->cols;
    return one_row(t) ? op_vector(t->in[1], t->cols) : op_same(t->in[0], t->in[1]);
}

/* out (+)= x * b for some rows. */
static void mul_rows(const struct tensor *t, const struct run *r, float *out, const float *x,
                     int add, int64_t begin, int64_t end)
{
    const float *b = t->in[1]->x;
    int64_t step = one_row(t) ? 0 : t->cols;
    for (int64_t i = begin; i < end; i++)
        r->k->mul(out + i * t->cols, x + i * t->cols, b + i * step, add, t->cols);
}

static void mul_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                     int worker)
{
    (void)worker;
    mul_rows(t, r, t->x, t->in[0]->x, 0, begin, end);
}

/* da comes last: it may take dy's memory. */
static void mul_back_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                          int worker)
{
    int64_t at = begin * t->cols, n = (end - begin) * t->cols;
    (void)worker;
    if (wants(t, 1) && !one_row(t))
        r->k->mul(t->in[1]->g + at, t->g + at, tensor_f32(t->in[0]) + at, adds(t, 1), n);
    if (wants(t, 0)) mul_rows(t, r, t->in[0]->g, t->g, adds(t, 0), begin, end);
}

static void backward_mul(const struct tensor *t, const struct run *r)
{
    if (wants(t, 1) && one_row(t))
        op_sum_rows(r, t->in[1]->g, t->g, t->in[0]->x, t->rows, t->cols, adds(t, 1));
    op_parallel(t, r, t->rows, op_grain(t->cols), mul_back_part);
}

const struct op op_mul = {
    .name = "mul",
    .rowwise = 1 | 2,
    .save = { SAVE_IN1, SAVE_IN0 },
    .inplace = 1 | 2,
    .grad_inplace = 1,
    .cheap = 1,
    .shape = shape_mul,
    .rows = mul_part,
    .backward = backward_mul,
};

tensor *g_mul(graph *g, tensor *a, tensor *b)
{
    return graph_node(g, &op_mul, (tensor *[]){ a, b }, 2, 0, NULL, 0);
}
