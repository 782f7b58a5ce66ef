/* y = a + b.   da = dy,  db = dy.   a, b, y [N, D]. */
#include "graph/op.h"

static int shape_add(struct tensor *t, struct graph *g)
{
    (void)g;
    t->rows = t->in[0]->rows;
    t->cols = t->in[0]->cols;
    return op_same(t->in[0], t->in[1]);
}

static void add_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                     int worker)
{
    int64_t at = begin * t->cols;
    (void)worker;
    r->k->add(tensor_f32(t) + at, tensor_f32(t->in[0]) + at, tensor_f32(t->in[1]) + at,
              (end - begin) * t->cols);
}

/* Where da or db has dy's own memory it already has its value. */
static void backward_add(const struct tensor *t, const struct run *r)
{
    for (int k = 0; k < 2; k++)
        if (wants(t, k)) op_axpy(r, t->in[k]->g, t->g, 1.0f, adds(t, k), tensor_len(t));
}

const struct op op_add = {
    .name = "add",
    .rowwise = 1 | 2,
    .inplace = 1 | 2,
    .grad_same = 1 | 2,
    .cheap = 1,
    .shape = shape_add,
    .rows = add_part,
    .backward = backward_add,
};

tensor *g_add(graph *g, tensor *a, tensor *b)
{
    return graph_node(g, &op_add, (tensor *[]){ a, b }, 2, 0, NULL, 0);
}
