/* One expert of a mixture, for the rows that are routed to it: with s = column
 * `index` of the shares,
 *     y = s * Wd (act(Wg x) * Wu x)  where s != 0, else 0.
 * The rows with s != 0 are brought together first, so the others cost nothing.
 * Backward computes g = Wg x, u = Wu x and h = act(g) * u again:
 *     dh = dy Wd,  ds = dh . h,  (dg, du) from s dh,  dx = dg Wg + du Wu,
 *     dWd = (s dy)^T h,  dWg = dg^T x,  dWu = du^T x.
 * x, y [N, D], shares [N, experts], Wg, Wu [F, D], Wd [D, F] of any type. */
#include "graph/op.h"

struct expert_args { int64_t index; enum act act; };
enum { EX_X, EX_SHARES, EX_GATE, EX_UP, EX_DOWN };

static int shape_expert(struct tensor *t, struct graph *g)
{
    const struct expert_args *a = t->args;
    const struct tensor *x = t->in[EX_X], *s = t->in[EX_SHARES];
    const struct tensor *up = t->in[EX_UP], *down = t->in[EX_DOWN];
    int64_t d = x->cols, f = up->rows;
    (void)g;
    t->rows = x->rows;
    t->cols = d;
    t->work_bytes = t->rows * 4 * (2 * d + 2 * f + 1);
    t->temp_bytes = t->rows * 4 * (3 * d + 6 * f + 1);
    int rc = op_same(t->in[EX_GATE], up);
    for (int k = EX_GATE; k <= EX_DOWN && !rc; k++) rc = op_blockwise(t->in[k]);
    if (rc) return rc;
    if (up->cols == d && down->rows == d && down->cols == f && s->rows == x->rows &&
        a->index >= 0 && a->index < s->cols)
        return PEFT_OK;
    return fail(PEFT_EARG, "expert %lld of %lld: [%lld, %lld] and [%lld, %lld] on %lld columns",
                (long long)a->index, (long long)s->cols, (long long)f, (long long)up->cols,
                (long long)down->rows, (long long)down->cols, (long long)d);
}

static int64_t scratch_expert(const struct tensor *t)
{
    (void)t;
    return linear_scratch();
}

/* The rows of the call, and memory for them in t->temp. */
struct routed {
    int32_t *row;                        /* [n] */
    int64_t n, d, f;
    float *x, *y, *dx;                   /* [n, d]; y also holds dy */
    float *gate, *up, *h, *dh, *dgate, *dup;             /* [n, f]; h may be gate */
};

static float share(const struct tensor *t, int64_t row)
{
    const struct expert_args *a = t->args;
    return tensor_f32(t->in[EX_SHARES])[row * t->in[EX_SHARES]->cols + a->index];
}

static struct routed routed_rows(const struct tensor *t, const struct run *r)
{
    struct routed p = { .row = t->temp, .d = t->cols, .f = t->in[EX_UP]->rows };
    int64_t nd = t->rows * p.d, nf = t->rows * p.f;
    p.x = (float *)t->temp + t->rows;
    p.y = p.x + nd;
    p.gate = p.y + nd;
    p.up = p.gate + nf;
    p.h = p.up + nf;                     /* from here on in backward only */
    p.dh = p.h + nf;
    p.dgate = p.dh + nf;
    p.dup = p.dgate + nf;
    p.dx = p.dup + nf;
    for (int64_t i = 0; i < t->rows; i++)
        if (share(t, i) != 0.0f) p.row[p.n++] = (int32_t)i;
    const struct matrix x = op_matrix(t->in[EX_X]);
    op_gather(r, p.x, &x, p.row, p.n);
    return p;
}

static void expert_linear(const struct tensor *t, const struct run *r, int k, float *y,
                          const float *x, int64_t n)
{
    const struct matrix w = op_matrix(t->in[k]);
    linear_forward(r->c, y, x, &w, n, 1.0f, 0.0f);
}

static void forward_expert(const struct tensor *t, const struct run *r)
{
    const struct expert_args *a = t->args;
    struct routed p = routed_rows(t, r);
    r->k->fill(t->x, 0.0f, tensor_len(t));
    if (!p.n) return;
    expert_linear(t, r, EX_GATE, p.gate, p.x, p.n);
    expert_linear(t, r, EX_UP, p.up, p.x, p.n);
    r->k->glu(p.gate, p.gate, p.up, p.n * p.f, a->act);
    expert_linear(t, r, EX_DOWN, p.y, p.gate, p.n);
    for (int64_t i = 0; i < p.n; i++)
        r->k->axpy(tensor_f32(t) + p.row[i] * p.d, p.y + i * p.d, share(t, p.row[i]), 0, p.d);
}

/* h, the gradients of the shares, and dh and dy times them. */
static void expert_down_back(const struct tensor *t, const struct run *r, struct routed *p)
{
    const struct expert_args *a = t->args;
    const struct matrix w = op_matrix(t->in[EX_DOWN]), dy = { &qtype_f32, t->g, t->rows, t->cols };
    op_gather(r, p->y, &dy, p->row, p->n);
    expert_linear(t, r, EX_GATE, p->gate, p->x, p->n);
    expert_linear(t, r, EX_UP, p->up, p->x, p->n);
    r->k->glu(p->h, p->gate, p->up, p->n * p->f, a->act);
    linear_dx(r->c, p->dh, p->y, &w, p->n, 1.0f, 0.0f);
    for (int64_t i = 0; i < p->n; i++) {
        float *h = p->h + i * p->f, *dh = p->dh + i * p->f, s = share(t, p->row[i]);
        if (wants(t, EX_SHARES))
            t->in[EX_SHARES]->g[p->row[i] * t->in[EX_SHARES]->cols + a->index] +=
                r->k->dot(dh, h, p->f);
        r->k->axpy(dh, dh, s, 0, p->f);
        r->k->axpy(p->y + i * p->d, p->y + i * p->d, s, 0, p->d);
    }
}

static void backward_expert(const struct tensor *t, const struct run *r)
{
    const struct expert_args *a = t->args;
    const struct matrix gate = op_matrix(t->in[EX_GATE]), up = op_matrix(t->in[EX_UP]);
    struct routed p = routed_rows(t, r);
    for (int k = EX_X; k <= EX_DOWN; k++)
        if (wants(t, k)) op_clear(t, r, k);
    if (!p.n) return;
    expert_down_back(t, r, &p);
    if (wants(t, EX_DOWN)) linear_dw(r->c, t->in[EX_DOWN]->g, p.y, p.h, p.n, p.d, p.f, 1.0f);
    r->k->glu_back(p.dgate, p.dup, NULL, p.dh, p.gate, p.up, 0, 0, p.n * p.f, a->act);
    if (wants(t, EX_GATE)) linear_dw(r->c, t->in[EX_GATE]->g, p.dgate, p.x, p.n, p.f, p.d, 1.0f);
    if (wants(t, EX_UP)) linear_dw(r->c, t->in[EX_UP]->g, p.dup, p.x, p.n, p.f, p.d, 1.0f);
    if (!wants(t, EX_X)) return;
    linear_dx(r->c, p.dx, p.dgate, &gate, p.n, 1.0f, 0.0f);
    linear_dx(r->c, p.dx, p.dup, &up, p.n, 1.0f, 1.0f);
    for (int64_t i = 0; i < p.n; i++)
        r->k->axpy(t->in[EX_X]->g + p.row[i] * p.d, p.dx + i * p.d, 1.0f, 1, p.d);
}

/* As if all rows came; how many do is known only then. */
static double flops_expert(const struct tensor *t)
{
    return 2.0 * (double)tensor_len(t) * (double)t->in[EX_UP]->rows;
}

enum { EXPERT_SAVE = SAVE_IN0 | SAVE_IN1 | SAVE_IN2 | SAVE_IN3 | SAVE_IN4 };
const struct op op_expert = {
    .name = "expert",
    .rowwise = 1 | 2,
    .save = { EXPERT_SAVE, EXPERT_SAVE, EXPERT_SAVE, EXPERT_SAVE, EXPERT_SAVE },
    .stored = 1 << EX_GATE | 1 << EX_UP | 1 << EX_DOWN,
    .shape = shape_expert,
    .scratch = scratch_expert,
    .forward = forward_expert,
    .backward = backward_expert,
    .flops = flops_expert,
};

tensor *g_expert(graph *g, tensor *x, tensor *shares, tensor *const w[3], int64_t index,
                 enum act act)
{
    const struct expert_args a = { index, act };
    return graph_node(g, &op_expert, (tensor *[]){ x, shares, w[0], w[1], w[2] }, 5, 0, &a,
                      sizeof a);
}
