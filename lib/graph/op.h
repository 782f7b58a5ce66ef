/* For authors of ops: one const struct per op, in one file graph/op/NAME.c,
 * listed in ops.def.  docs/adding-an-op.md walks through it. */
#ifndef GRAPH_OP_H
#define GRAPH_OP_H

#include "graph/graph.h"

/* What the gradient of one operand reads, besides the output's gradient. */
enum { SAVE_IN0 = 1, SAVE_IN1 = 2, SAVE_IN2 = 4, SAVE_IN3 = 8, SAVE_IN4 = 16, SAVE_OUT = 32,
       SAVE_AUX = 64 };

struct run {
    const struct compute *c;
    const struct kernels *k;
    int training;                        /* a backward pass will follow */
    int64_t step;                        /* of ops that have `steps` */
};

/* The part [begin, end) of an op's work; parts depend on the shape alone. */
typedef void op_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                     int worker);

/* What one event of a node does at least: multiplications and additions, and bytes of
 * memory, each operand and result moved once; those of weights that do not train. */
struct cost { double flops, bytes, frozen; };

struct op {
    const char *name;
    uint8_t save[GRAPH_IN];              /* save[k]: what the gradient of in[k] reads */
    uint8_t inplace;                     /* bit k: the value may take over in[k]'s memory */
    uint8_t grad_inplace;                /* bit k: the gradient of in[k] may take over the memory of
                                            t->g (in[k]->g == t->g: written last, or left alone) */
    uint8_t grad_same;                   /* bit k: the gradient of in[k] is t->g as it is; it may
                                            have that memory beside others, left alone then */
    uint8_t stored;                      /* bit k: in[k] may be of any stored type, not only F32 */
    uint8_t root;                        /* bit k: forward makes the gradient of in[k], a leaf, on
                                            the assumption that the node is the loss */
    uint8_t cheap;                       /* costs no more than reading its operands: recomputed
                                            rather than kept (RECOMPUTE_CHEAP) */
    uint8_t rowwise;                     /* bit k: row i of the value takes of in[k] row i alone */
    uint8_t view;                        /* the value IS in[0]'s memory (reshape) */
    uint8_t packs;                       /* products of in[0] as it is, in any order */
    uint8_t later;                       /* bit k: the gradient of in[k], a leaf, may be left to the
                                            next backward of this op with the same in[0] */
    uint8_t part;                        /* bit k: of in[k] only as much is read as is written */
    /* Checks operands, sets rows, cols, aux_bytes, temp_bytes, work_bytes; may fail(). */
    int (*shape)(struct tensor *t, struct graph *g);
    /* Of a row-wise op whose arguments have something for each row: theirs become those of
     * rows index[n].  NULL = they have not. */
    int (*gather)(struct graph *g, void *args, const int32_t *index, int64_t n);
    /* Bytes of scratch that a worker needs; NULL = none. */
    int64_t (*scratch)(const struct tensor *t);
    /* Long forwards are cut so that a run can stop within: forward is called
     * with r->step = 0 .. steps - 1, temp staying as it is.  NULL = 1. */
    int64_t (*steps)(const struct tensor *t);
    void (*forward)(const struct tensor *t, const struct run *r);
    /* Instead of it: rows [begin, end) of the value.  Such ops that follow each other in a chain
     * are done together, a few rows at a time, so that memory is passed over once. */
    op_part *rows;
    /* For each k with in[k]->needs_grad: stores into in[k]->g, or adds when
     * bit k of t->adds is set.  NULL: no gradient (inference only). */
    void (*backward)(const struct tensor *t, const struct run *r);
    /* Of forward; NULL = 0.  Backward counts as much for each operand whose
     * gradient reads anything. */
    double (*flops)(const struct tensor *t);
    /* Corrects what op_cost makes of the fields above; NULL = it is right. */
    void (*cost)(const struct tensor *t, int backward, struct cost *c);
};
#define OP(name) extern const struct op op_##name;
#include "graph/ops.def"
#undef OP
extern const struct op *const ops_all[];        /* NULL-terminated */

struct glu_args { enum act kind; };      /* of op_glu */

/* What the nodes of a graph will run by. */
const struct compute *graph_compute(const struct graph *g);
/* Appends a node: operands in[0..n), `args` copied (may be NULL).  NULL when an
 * operand is NULL that is not in `optional` (bit mask) or the shape is wrong.
 * An operand that wants a gradient never shares memory with another one: the
 * second of two equal operands is replaced by a copy. */
struct tensor *graph_node(struct graph *g, const struct op *op, struct tensor *const *in, int n,
                          unsigned optional, const void *args, size_t args_size);
/* x's rows index[n]; and with each value below that nothing else needs made for these rows
 * alone, NULL = that saves nothing. */
struct tensor *graph_rows(struct graph *g, struct tensor *x, const int32_t *index, int64_t n);
struct tensor *graph_gather(struct graph *g, struct tensor *x, const int32_t *index, int64_t n);
/* at[index[i]] for i < n, in the graph's arena; NULL = no memory, or `at` is NULL. */
const int32_t *graph_pick(struct graph *g, const int32_t *at, const int32_t *index, int64_t n);
/* Sticky error for builders; returns NULL. */
struct tensor *graph_fail(struct graph *g, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Of the rows that an op would work on at a time, those that graph_chunks allows. */
int64_t graph_chunk_rows(const struct graph *g, int64_t rows, int64_t row_bytes);
static inline int wants(const struct tensor *t, int k) { return t->in[k] && t->in[k]->needs_grad; }
static inline int adds(const struct tensor *t, int k) { return t->adds >> k & 1; }
static inline bool by_rows(const struct tensor *t, int k)
{
    return t->op->rowwise >> k & 1 && t->in[k]->rows == t->rows;
}

/* Of forward (also replayed) or backward of a node (cost.c). */
struct cost op_cost(const struct tensor *t, int backward);
/* The operand that may be of any stored type, the weight; NULL = there is none. */
const struct tensor *op_weight(const struct tensor *t);

static inline struct matrix op_matrix(const struct tensor *w)
{
    return (struct matrix){ w->type, w->x, w->rows, w->cols };
}

/* ------------------------------------------------- helpers (op/common.c) */
void op_parallel(const struct tensor *t, const struct run *r, int64_t n, int64_t grain,
                 op_part *part);
enum { OP_TASK = 8192 };                 /* floats in a task of an elementwise op: 32 KB */
int64_t op_grain(int64_t cols);          /* the same in rows */
/* Forward of n nodes that follow each other, of which those after the first are views or read
 * by rows; each has a multiple of the least number of rows. */
void op_forward(struct tensor *const *t, int n, const struct run *r);
/* y (+)= a x.  Nothing when y is x and that changes nothing. */
void op_axpy(const struct run *r, float *y, const float *x, float a, int add, int64_t n);
/* Zeroes the gradient of in[k] unless it is added to; for ops that only add. */
void op_clear(const struct tensor *t, const struct run *r, int k);
/* g[c] (+)= sum over rows of dy[row][c] (* a[row][c] unless a is NULL), in row order. */
void op_sum_rows(const struct run *r, float *g, const float *dy, const float *a, int64_t rows,
                 int64_t cols, int add);
/* y[i] = x[index[i]], and g[index[i]] += scale * dy[i] in the order of i. */
void op_gather(const struct run *r, float *y, const struct matrix *x, const int32_t *index,
               int64_t n);
void op_scatter_add(const struct run *r, float *g, const float *dy, const int32_t *index,
                    int64_t n, int64_t cols, float scale);
/* Gradients of weights that rows contribute to: each block of op_block_rows()
 * rows has its partial sum in temp, `stride` floats apart; op_reduce adds them
 * in order to the gradient of in[k]. */
int64_t op_block_rows(int64_t rows);
int64_t op_blocks(int64_t rows);
void op_reduce(const struct tensor *t, const struct run *r, int k, const float *partial,
               int64_t blocks, int64_t stride);
/* A loss is one number, outside of the recompute segments: value = scale * sum,
 * and stats (may be NULL) += the sum of its `count` terms. */
void op_loss_shape(struct tensor *t);
void op_loss(const struct tensor *t, float scale, double sum, int64_t count, int64_t hits,
             struct loss_stats *stats);
/* Term i of it, for those who want each. */
static inline void op_term(struct loss_stats *stats, int64_t i, double loss, int right)
{
    if (stats && stats->each) stats->each[i] = (struct loss_term){ loss, right };
}
/* Checks for shape(); each fails with what was found. */
int op_same(const struct tensor *a, const struct tensor *b);
int op_vector(const struct tensor *v, int64_t cols);           /* v is [1, cols] */
int op_index(const int32_t *index, int64_t n, int64_t limit, const char *what);
int op_blockwise(const struct tensor *w);                      /* rows of whole blocks */

#endif
