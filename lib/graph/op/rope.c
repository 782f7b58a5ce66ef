/* Rotary position embedding (Su et al. 2021): each pair of a head's first
 * `rot` elements is turned by its position's angle; the gradient turns back.
 * x, y [N, heads * head_dim]. */
#include "graph/op.h"

static int shape_rope(struct tensor *t, struct graph *g)
{
    const struct rope_args *a = t->args;
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = t->in[0]->cols;
    if (a->rot < 0 || a->rot % 2 || a->rot > a->head_dim)
        return fail(PEFT_EARG, "rotation of %d elements, expected an even number up to %d",
                    (int)a->rot, (int)a->head_dim);
    if (t->cols != (int64_t)a->heads * a->head_dim)
        return fail(PEFT_EARG, "x has %lld columns, expected %d heads of %d", (long long)t->cols,
                    (int)a->heads, (int)a->head_dim);
    return op_index(a->pos, t->rows, INT32_MAX, "position");
}

static int gather_rope(struct graph *g, void *args, const int32_t *index, int64_t n)
{
    struct rope_args *a = args;
    a->pos = graph_pick(g, a->pos, index, n);
    return a->pos ? PEFT_OK : PEFT_ENOMEM;
}

enum { ROPE_ROWS = 64 };
static void rope_rows(const struct tensor *t, const struct run *r, float *y, const float *x,
                      int dir, int add, int64_t begin, int64_t end)
{
    const struct rope_args *a = t->args;
    const float *tab[ROPE_ROWS];
    for (int64_t i = begin, n; i < end; i += n) {
        n = MIN(end - i, ROPE_ROWS);
        for (int64_t j = 0; j < n; j++) tab[j] = a->table + (int64_t)a->pos[i + j] * a->rot;
        r->k->rope(y + i * t->cols, x + i * t->cols, tab, n, a->heads, a->head_dim, a->rot,
                   a->pair, dir, add, t->cols);
    }
}

static void rope_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                      int worker)
{
    (void)worker;
    rope_rows(t, r, t->x, t->in[0]->x, 1, 0, begin, end);
}

static void rope_back_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                           int worker)
{
    (void)worker;
    rope_rows(t, r, t->in[0]->g, t->g, -1, adds(t, 0), begin, end);
}

static void backward_rope(const struct tensor *t, const struct run *r)
{
    op_parallel(t, r, t->rows, op_grain(t->cols), rope_back_part);
}

const struct op op_rope = {
    .name = "rope",
    .rowwise = 1,
    .gather = gather_rope,
    .inplace = 1,
    .grad_inplace = 1,
    .cheap = 1,
    .shape = shape_rope,
    .rows = rope_part,
    .backward = backward_rope,
};

tensor *g_rope(graph *g, tensor *x, const struct rope_args *a)
{
    return graph_node(g, &op_rope, (tensor *[]){ x }, 1, 0, a, sizeof *a);
}
