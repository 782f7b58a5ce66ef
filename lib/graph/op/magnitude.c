/* c = m / |W + s B A|, the lengths of the rows being constants: dm = dc / length.
 * m, c [1, out], W [out, in] of any stored type, A [r, in], B [out, r].  aux: the
 * inverse lengths; a row of zeros gives 0.
 * By columns, of an embedding: lengths of the columns of W + s A B^T; m, c [1, in],
 * A [out, r], B [in, r]. */
#include "graph/op.h"

struct magnitude_args { float scale; int cols; };

static int shape_magnitude(struct tensor *t, struct graph *g)
{
    const struct magnitude_args *args = t->args;
    const struct tensor *w = t->in[1], *a = t->in[2], *b = t->in[3];
    const struct matrix matrix = op_matrix(w);
    int64_t n = args->cols ? w->cols : w->rows;
    int fits = args->cols ? a->rows == w->rows && b->rows == w->cols && a->cols == b->cols
                          : a->cols == w->cols && b->rows == w->rows && a->rows == b->cols;
    (void)g;
    if (wants(t, 1) || wants(t, 2) || wants(t, 3))
        return fail(PEFT_EARG, "lengths of rows are constants, but W, A or B wants a gradient");
    if (!fits)
        return fail(PEFT_EARG, "W is [%lld, %lld], A is [%lld, %lld], B is [%lld, %lld]",
                    (long long)w->rows, (long long)w->cols, (long long)a->rows,
                    (long long)a->cols, (long long)b->rows, (long long)b->cols);
    t->rows = 1;
    t->cols = n;
    t->aux_bytes = n * 4;
    if (args->cols) t->work_bytes = lora_col_temp(&matrix) * 4;
    int rc = op_vector(t->in[0], n);
    return rc ? rc : op_blockwise(w);
}

static int64_t scratch_magnitude(const struct tensor *t)
{
    return LORA_NORM_ROWS * t->in[1]->cols * 4;
}

static void magnitude_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                           int worker)
{
    const struct magnitude_args *args = t->args;
    const struct matrix w = op_matrix(t->in[1]);
    const float *m = t->in[0]->x;
    float *norm = t->aux, *c = t->x;
    if (!args->cols)
        lora_row_norms(r->c, norm, &w, t->in[2]->x, t->in[3]->x, t->in[2]->rows, args->scale,
                       begin, end, compute_scratch(r->c, worker));
    for (int64_t i = begin; i < end; i++) {
        norm[i] = norm[i] > 0 ? 1.0f / norm[i] : 0.0f;
        c[i] = m[i] * norm[i];
    }
}

static void forward_magnitude(const struct tensor *t, const struct run *r)
{
    const struct magnitude_args *args = t->args;
    const struct matrix w = op_matrix(t->in[1]);
    if (args->cols)
        lora_col_norms(r->c, t->aux, &w, t->in[2]->x, t->in[3]->x, t->in[2]->cols, args->scale,
                       t->temp);
    op_parallel(t, r, t->cols, LORA_NORM_ROWS, magnitude_part);
}

static void backward_magnitude(const struct tensor *t, const struct run *r)
{
    if (wants(t, 0)) r->k->mul(t->in[0]->g, t->g, t->aux, adds(t, 0), t->cols);
}

static double flops_magnitude(const struct tensor *t)
{
    return 2.0 * (double)tensor_len(t->in[1]) * (double)(t->in[3]->cols + 1);
}

const struct op op_magnitude = {
    .name = "magnitude",
    .save = { SAVE_AUX },
    .stored = 1 << 1,
    .shape = shape_magnitude,
    .scratch = scratch_magnitude,
    .forward = forward_magnitude,
    .backward = backward_magnitude,
    .flops = flops_magnitude,
};

tensor *g_magnitude(graph *g, tensor *m, tensor *w, tensor *a, tensor *b, float scale)
{
    return graph_node(g, &op_magnitude, (tensor *[]){ m, w, a, b }, 4, 0,
                      &(struct magnitude_args){ scale, 0 }, sizeof(struct magnitude_args));
}

tensor *g_magnitude_cols(graph *g, tensor *m, tensor *w, tensor *a, tensor *b, float scale)
{
    return graph_node(g, &op_magnitude, (tensor *[]){ m, w, a, b }, 4, 0,
                      &(struct magnitude_args){ scale, 1 }, sizeof(struct magnitude_args));
}
