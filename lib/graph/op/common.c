/* What several ops do: sharing work out, sums in a fixed order, gathering,
 * checks of operands. */
#include "graph/op.h"

struct part_job {
    const struct tensor *t;
    const struct run *r;
    op_part *part;
};

static void part_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct part_job *j = arg;
    j->part(j->t, j->r, begin, end, worker);
}

void op_parallel(const struct tensor *t, const struct run *r, int64_t n, int64_t grain,
                 op_part *part)
{
    struct part_job j = { t, r, part };
    compute_rows(r->c, n, grain, part_range, &j);
}

int64_t op_grain(int64_t cols)
{
    return MAX(1, OP_TASK / cols);
}

struct chain_job {
    struct tensor *const *t;
    int n;
    const struct run *r;
    int64_t units;
};

static void chain_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct chain_job *j = arg;
    for (int i = 0; i < j->n; i++) {
        const struct tensor *t = j->t[i];
        int64_t rows = t->rows / j->units;
        if (t->op->rows) t->op->rows(t, j->r, begin * rows, end * rows, worker);
    }
}

void op_forward(struct tensor *const *t, int n, const struct run *r)
{
    struct chain_job j = { t, n, r, t[0]->rows };
    int64_t len = 0;
    if (t[0]->op->forward) t[0]->op->forward(t[0], r);
    if (!t[0]->op->rows) return;
    for (int i = 0; i < n; i++) {
        j.units = MIN(j.units, t[i]->rows);
        len = MAX(len, tensor_len(t[i]));
    }
    compute_rows(r->c, j.units, op_grain(len / j.units), chain_range, &j);
}

struct axpy_job {
    const struct kernels *k;
    float *y;
    const float *x;
    float a;
    int add;
};

static void axpy_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct axpy_job *j = arg;
    (void)worker;
    j->k->axpy(j->y + begin, j->x + begin, j->a, j->add, end - begin);
}

void op_axpy(const struct run *r, float *y, const float *x, float a, int add, int64_t n)
{
    struct axpy_job j = { r->k, y, x, a, add };
    if (y == x && a == 1.0f && !add) return;
    compute_rows(r->c, n, OP_TASK, axpy_range, &j);
}

static void zero_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    memset((float *)arg + begin, 0, (size_t)(end - begin) * sizeof(float));
}

void op_clear(const struct tensor *t, const struct run *r, int k)
{
    if (!adds(t, k)) compute_rows(r->c, tensor_len(t->in[k]), OP_TASK, zero_range, t->in[k]->g);
}

/* --- sums over rows: a task owns some columns and takes the rows in order */

enum { COLUMNS = 64 };
struct sum_job {
    const struct kernels *k;
    float *g;
    const float *dy, *a;
    int64_t rows, cols;
    int add;
};

static void sum_columns(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct sum_job *j = arg;
    (void)worker;
    if (!j->add) j->k->fill(j->g + begin, 0.0f, end - begin);
    for (int64_t i = 0; i < j->rows; i++) {
        const float *dy = j->dy + i * j->cols + begin;
        if (j->a) j->k->mul(j->g + begin, dy, j->a + i * j->cols + begin, 1, end - begin);
        else j->k->add(j->g + begin, j->g + begin, dy, end - begin);
    }
}

void op_sum_rows(const struct run *r, float *g, const float *dy, const float *a, int64_t rows,
                 int64_t cols, int add)
{
    struct sum_job j = { r->k, g, dy, a, rows, cols, add };
    compute_rows(r->c, cols, COLUMNS, sum_columns, &j);
}

/* --- sums over blocks of rows */

int64_t op_block_rows(int64_t rows)
{
    return MAX(16, div_up(rows, 64));
}

int64_t op_blocks(int64_t rows)
{
    return div_up(rows, op_block_rows(rows));
}

void op_reduce(const struct tensor *t, const struct run *r, int k, const float *partial,
               int64_t blocks, int64_t stride)
{
    float *g = t->in[k]->g;
    int64_t n = tensor_len(t->in[k]);
    for (int64_t b = 0; b < blocks; b++)
        r->k->axpy(g, partial + b * stride, 1.0f, b || adds(t, k), n);
}

/* --- rows by index */

struct gather_job {
    const struct matrix *x;
    float *y;
    const int32_t *index;
};

static void gather_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct gather_job *j = arg;
    int64_t cols = j->x->cols;
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        qtype_expand(j->x->type, j->y + i * cols, j->x->data, j->index[i] * cols, cols);
}

void op_gather(const struct run *r, float *y, const struct matrix *x, const int32_t *index,
               int64_t n)
{
    struct gather_job j = { x, y, index };
    compute_rows(r->c, n, op_grain(x->cols), gather_rows, &j);
}

struct scatter_job {
    const struct kernels *k;
    float *g;
    const float *dy;
    const int32_t *index;
    int64_t n, cols;
    float scale;
};

static void scatter_columns(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct scatter_job *j = arg;
    (void)worker;
    for (int64_t i = 0; i < j->n; i++)
        j->k->axpy(j->g + j->index[i] * j->cols + begin, j->dy + i * j->cols + begin, j->scale, 1,
                   end - begin);
}

void op_scatter_add(const struct run *r, float *g, const float *dy, const int32_t *index,
                    int64_t n, int64_t cols, float scale)
{
    struct scatter_job j = { r->k, g, dy, index, n, cols, scale };
    compute_rows(r->c, cols, COLUMNS, scatter_columns, &j);
}

/* --- losses */

void op_loss_shape(struct tensor *t)
{
    t->rows = t->cols = 1;
    t->segment = -1;
}

void op_loss(const struct tensor *t, float scale, double sum, int64_t count, int64_t hits,
             struct loss_stats *stats)
{
    tensor_f32(t)[0] = (float)(scale * sum);
    if (!stats) return;
    stats->loss += sum;
    stats->count += count;
    stats->hits += hits;
}

/* --- checks */

int op_same(const struct tensor *a, const struct tensor *b)
{
    if (a->rows == b->rows && a->cols == b->cols) return PEFT_OK;
    return fail(PEFT_EARG, "[%lld, %lld] and [%lld, %lld], expected equal shapes",
                (long long)a->rows, (long long)a->cols, (long long)b->rows, (long long)b->cols);
}

int op_vector(const struct tensor *v, int64_t cols)
{
    if (v->rows == 1 && v->cols == cols) return PEFT_OK;
    return fail(PEFT_EARG, "%s is [%lld, %lld], expected [1, %lld]", v->name ? v->name : "a vector",
                (long long)v->rows, (long long)v->cols, (long long)cols);
}

int op_index(const int32_t *index, int64_t n, int64_t limit, const char *what)
{
    for (int64_t i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= limit)
            return fail(PEFT_EARG, "%s %d at %lld, expected 0 to %lld", what, (int)index[i],
                        (long long)i, (long long)(limit - 1));
    return PEFT_OK;
}

int op_blockwise(const struct tensor *w)
{
    if (w->cols % w->type->block == 0 || w->type->flat) return PEFT_OK;
    return fail(PEFT_EARG, "%s has %lld columns, expected a multiple of %s's block of %d",
                w->name ? w->name : "a weight", (long long)w->cols, w->type->name,
                (int)w->type->block);
}
