/* y[i] = b[i] a[i]: each row times its own number.
 * da = b dy,  db[i] = dy[i] . a[i].   a, y [N, D], b [N, 1]. */
#include "graph/op.h"

static int shape_scale_rows(struct tensor *t, struct graph *g)
{
    const struct tensor *a = t->in[0], *b = t->in[1];
    (void)g;
    t->rows = a->rows;
    t->cols = a->cols;
    if (b->rows == a->rows && b->cols == 1) return PEFT_OK;
    return fail(PEFT_EARG, "factors are [%lld, %lld], expected [%lld, 1]", (long long)b->rows,
                (long long)b->cols, (long long)a->rows);
}

static void scale_rows_part(const struct tensor *t, const struct run *r, int64_t begin,
                            int64_t end, int worker)
{
    const float *a = t->in[0]->x, *b = t->in[1]->x;
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        r->k->axpy(tensor_f32(t) + i * t->cols, a + i * t->cols, b[i], 0, t->cols);
}

/* da comes last: it may take dy's memory. */
static void scale_rows_back_part(const struct tensor *t, const struct run *r, int64_t begin,
                                 int64_t end, int worker)
{
    const float *a = t->in[0]->x, *b = t->in[1]->x;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        const float *dy = t->g + i * t->cols;
        if (wants(t, 1)) {
            float d = r->k->dot(dy, a + i * t->cols, t->cols);
            t->in[1]->g[i] = adds(t, 1) ? t->in[1]->g[i] + d : d;
        }
        if (wants(t, 0))
            r->k->axpy(t->in[0]->g + i * t->cols, dy, b[i], adds(t, 0), t->cols);
    }
}

static void backward_scale_rows(const struct tensor *t, const struct run *r)
{
    op_parallel(t, r, t->rows, op_grain(t->cols), scale_rows_back_part);
}

const struct op op_scale_rows = {
    .name = "scale_rows",
    .rowwise = 1 | 2,
    .save = { SAVE_IN1, SAVE_IN0 },
    .inplace = 1,
    .grad_inplace = 1,
    .cheap = 1,
    .shape = shape_scale_rows,
    .rows = scale_rows_part,
    .backward = backward_scale_rows,
};

tensor *g_scale_rows(graph *g, tensor *a, tensor *b)
{
    return graph_node(g, &op_scale_rows, (tensor *[]){ a, b }, 2, 0, NULL, 0);
}
