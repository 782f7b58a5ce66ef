/* Rank 2: automatic differentiation.  Knows no model.
 *
 * A graph is an append-only array of nodes; creation order is forward order
 * and its reverse is backward order.  Life of a graph:
 *
 *     graph_reset -> g_*() builders -> graph_plan -> graph_start -> graph_run
 *
 * Builders never fail loudly: a wrong shape gives NULL, NULL operands give
 * NULL, and graph_plan reports the first reason.  Once planned, running cannot
 * fail and allocates nothing.
 *
 * Tensors are matrices [rows, cols], row-major and contiguous.  Tokens of all
 * sequences of a batch follow each other in the rows ([N, dim]); which rows
 * see each other is told to attention by ranges, so padding does not exist.
 */
#ifndef GRAPH_GRAPH_H
#define GRAPH_GRAPH_H

#include "kernel/kernel.h"

enum { GRAPH_IN = 5 };                   /* operands of an op, at most */

struct op;
struct tensor {
    const struct op *op;                 /* NULL = leaf */
    struct tensor *in[GRAPH_IN];         /* NULL = absent */
    void *args;                          /* the op's own, in the graph's arena */
    int64_t args_bytes;
    const struct qtype *type;            /* F32 for all nodes; leaves any */
    int64_t rows, cols;
    void *x;                             /* value */
    float *g;                            /* gradient, or NULL */
    void *aux;                           /* what forward leaves for backward */
    int64_t aux_bytes;
    int64_t temp_bytes;                  /* memory of one backward call, zero-filled never */
    int64_t work_bytes;                  /* the same of one forward call */
    void *temp;                          /* that memory, while the call lasts */
    const struct tensor *left;           /* whose backward left work to this one's, and temp */
    const char *name;
    int32_t id, segment;
    uint8_t needs_grad;
    uint8_t adds;                        /* bit k: the gradient of in[k] is added to, not stored */
    uint8_t keep;                        /* the value stays readable after the run */
    uint8_t external;                    /* x is memory of the caller's */
    uint8_t watched;                     /* graph_watch's function looks at the value */
    uint8_t leaves;                      /* is another's `left` */
};
static inline int64_t tensor_len(const struct tensor *t) { return t->rows * t->cols; }
static inline float *tensor_f32(const struct tensor *t) { return t->x; }

struct graph;
int graph_new(struct host *h, struct compute *c, struct graph **out);
void graph_free(struct graph *g);
/* Forgets all nodes, keeps the memory. */
void graph_reset(struct graph *g);

/* A leaf of any stored type; `grad` NULL = frozen, else rows*cols floats that
 * backward adds to (the caller zeroes them). */
struct tensor *graph_leaf(struct graph *g, const char *name, const struct qtype *type,
                          int64_t rows, int64_t cols, const void *data, float *grad);
/* Names the next node for messages and profiles; and the recompute segment
 * (a layer's index; -1 = none) of the nodes that follow. */
void graph_name(struct graph *g, const char *name);
void graph_segment(struct graph *g, int32_t segment);
/* How many bytes of logits a loss may have at once, of the nodes that follow and of all later
 * graphs; 0 = as its op likes. */
void graph_chunks(struct graph *g, int64_t bytes);
/* Asks for a node's value to stay readable after the run. */
void graph_keep(struct tensor *t);

/* see(arg, t) is called during runs as soon as a node that is `watched` has its value, which
 * need not live any longer than that.  Forgotten by graph_reset. */
void graph_watch(struct graph *g, void (*see)(void *arg, const struct tensor *t), void *arg);

/* What is made a second time rather than kept: of the segments below this number all, of the
 * others what is cheap; or nothing. */
enum recompute { RECOMPUTE_NONE = -1, RECOMPUTE_CHEAP = 0, RECOMPUTE_LAYERS = INT32_MAX };
struct plan_report {
    int64_t slab;                        /* bytes: values, gradients, aux, temp */
    int64_t scratch, panels;             /* bytes a worker; that all share (linear_panels) */
    int32_t nodes, backward_nodes, replayed;
    double flops, bytes, frozen;         /* forward + backward + replayed: see struct cost */
};
/* Plans forward and, with `loss` non-NULL, backward from it; the loss (NULL:
 * the last node) is kept.  Nodes that no kept node needs are not run.  report
 * may be NULL.  The previous plan is used again when nothing has changed. */
int graph_plan(struct graph *g, struct tensor *loss, enum recompute policy,
               struct plan_report *report);
/* Gets the memory of the present plan (or of `slab`/`scratch` bytes if that is
 * more); the only call that allocates large memory.  Scratch goes to the
 * compute, which graphs may share: whoever made the compute frees it. */
int graph_reserve(struct graph *g, int64_t slab, int64_t scratch);
/* Gives the slab back until the next graph_reserve; not within a run.  And the most bytes that
 * graph_reserve may take for it, beyond which it fails; 0 = any. */
void graph_release(struct graph *g);
void graph_limit(struct graph *g, int64_t slab);
/* In all runs from now on, read(arg, leaf) is called when an event that has read a leaf is
 * over; NULL = no longer. */
void graph_on_read(struct graph *g, void (*read)(void *arg, const struct tensor *leaf), void *arg);
/* Begins a run; the loss gradient is 1.  graph_reserve must have succeeded. */
void graph_start(struct graph *g);
/* Works until the end (1), the deadline in os_seconds (0; <= 0: none; at least
 * one node is run), or until *stop is non-zero (0).  stop may be NULL. */
int graph_run(struct graph *g, double deadline, const _Atomic int *stop);
/* plan + reserve + start + run without backward. */
int graph_forward(struct graph *g);
/* First value or gradient that is not finite, for the message: NULL = none.
 * Most values of a finished run are overwritten, so the run is repeated and
 * looked at node by node; gradients and loss_stats are worthless afterwards. */
const char *graph_find_nonfinite(struct graph *g);
/* Calls each(ctx, t) with every leaf that the planned nodes need. */
void graph_leaves(const struct graph *g, void (*each)(void *, const struct tensor *), void *ctx);
int graph_error(const struct graph *g);          /* the sticky code */

/* Where time goes, by kinds of work: an op's forward or backward on one shape of weight
 * (by the number of columns where there is none), or what a name stands for. */
struct work {
    const char *name, *type;             /* type: of the weight, "" = none */
    int64_t in, out;                     /* the weight's columns; the result's */
    int32_t backward, half;              /* half: by products in bfloat16 */
    int64_t calls, rows;                 /* rows of all calls */
    double seconds, flops, bytes;
};
enum { PROFILE_WORKS = 160 };            /* what is beyond is added to the last one */
struct profile { int64_t n; struct work work[PROFILE_WORKS]; };
void profile_add(struct profile *p, const struct work *w);
/* From now on every node that runs is timed into *p, which is the caller's; NULL = none is. */
void graph_profile(struct graph *g, struct profile *p);

/* ------------------------------------------------------------- builders
 * N tokens (rows), D columns.  Index arrays are the caller's and must live
 * until the run is over. */
typedef struct graph graph;
typedef struct tensor tensor;

tensor *g_linear(graph *g, tensor *x, tensor *w);                 /* [N,in],[out,in] -> [N,out] */
/* y + scale * x W^T, in y's memory when nobody else reads y. */
tensor *g_linear_add(graph *g, tensor *y, tensor *x, tensor *w, float scale);
tensor *g_low_rank(graph *g, tensor *y, tensor *x, tensor *a, tensor *b, float scale);
/* m[i] / |row i of W + scale B A|, [1,out]; W, A [r,in] and B [out,r] are constants. */
tensor *g_magnitude(graph *g, tensor *m, tensor *w, tensor *a, tensor *b, float scale);
/* The same by columns: m[j] / |column j of W + scale A B^T|, [1,in]; A [out,r], B [in,r]. */
tensor *g_magnitude_cols(graph *g, tensor *m, tensor *w, tensor *a, tensor *b, float scale);
/* Orthogonal blocks [n * block, block] from v [n, block (block - 1) / 2]; and x times
 * the block-diagonal matrix of such blocks. */
tensor *g_cayley(graph *g, tensor *v, int64_t block, int terms);
tensor *g_rotate(graph *g, tensor *x, tensor *w);
/* A layer of LSTM in both directions, [N,in] -> [N,2 hidden]; its weights lie in w [1,..]
 * from `first` on, lstm_len of each direction. */
tensor *g_lstm(graph *g, tensor *x, tensor *w, int64_t hidden, int64_t first);
tensor *g_embed(graph *g, tensor *w, const int32_t *ids, int64_t n);     /* rows of w */
tensor *g_bias(graph *g, tensor *x, tensor *b);                   /* b [1,D] */
tensor *g_add(graph *g, tensor *a, tensor *b);
tensor *g_mul(graph *g, tensor *a, tensor *b);                    /* b [N,D] or [1,D] */
tensor *g_scale(graph *g, tensor *x, float s);
tensor *g_act(graph *g, tensor *x, enum act kind);
tensor *g_glu(graph *g, tensor *gate, tensor *up, enum act kind); /* act(gate) * up */
/* Routing: softmax of each row, of which the k largest stay (divided by their
 * sum: norm); and one expert, w = { gate, up, down }, on the rows whose share
 * in column `index` is not 0, times it. */
tensor *g_route(graph *g, tensor *x, int64_t k, int norm);
tensor *g_expert(graph *g, tensor *x, tensor *shares, tensor *const w[3], int64_t index,
                 enum act act);
tensor *g_scale_rows(graph *g, tensor *a, tensor *b);             /* b [N,1] */
tensor *g_rmsnorm(graph *g, tensor *x, tensor *w, float eps, float plus);
tensor *g_layernorm(graph *g, tensor *x, tensor *w, tensor *b, float eps);
/* pos[N] indexes `table`: rows of rot/2 cosines then rot/2 sines. */
struct rope_args { const float *table; const int32_t *pos; int32_t heads, head_dim, rot, pair; };
tensor *g_rope(graph *g, tensor *x, const struct rope_args *a);
/* bias [distances, heads] of the scores, or NULL: see struct attn. */
tensor *g_attention(graph *g, tensor *q, tensor *k, tensor *v, tensor *bias, const struct attn *a);
/* Inverted dropout; the mask is Philox(seed, stream) at the element's index, so
 * replaying gives it again. */
tensor *g_dropout(graph *g, tensor *x, float p, uint64_t seed, uint64_t stream);
/* Gathers rows; indices may repeat.  Of fewer rows than x has, values that nothing else needs
 * are made for these alone (gather.c). */
tensor *g_rows(graph *g, tensor *x, const int32_t *index, int64_t n);
/* Mean over the rows [start[s], start[s+1]) of each of n segments -> [n, D];
 * weighted: the i-th row of a segment counts i times. */
tensor *g_pool_mean(graph *g, tensor *x, const int32_t *start, int64_t n, int weighted);
tensor *g_concat_rows(graph *g, tensor *a, tensor *b);
tensor *g_concat_cols(graph *g, tensor *a, tensor *b);
tensor *g_slice_cols(graph *g, tensor *x, int64_t first, int64_t n);
tensor *g_reshape(graph *g, tensor *x, int64_t rows, int64_t cols);      /* same memory */
/* Rows of a look-up, or columns of a product, that are others'.  x's row i is d's row k where
 * ids[i] is index[k]; x's column index[k] is d's column k.  index [2 K] of g_swap_rows: K ids that
 * differ, then the numbers 0 to K - 1 by ascending id. */
tensor *g_swap_rows(graph *g, tensor *x, tensor *d, const int32_t *ids, const int32_t *index);
tensor *g_swap_cols(graph *g, tensor *x, tensor *d, const int32_t *index);
tensor *g_turn(graph *g, tensor *x);                              /* x^T */
/* Inference only: rows of x, and x with some replaced, in its memory when nobody else
 * reads it; and x's row i copied to row at[i] of `cache` (external memory, [rows, D]),
 * which is the result. */
tensor *g_slice_rows(graph *g, tensor *x, int64_t first, int64_t n);
tensor *g_put_rows(graph *g, tensor *x, tensor *b, int64_t first);
tensor *g_cache(graph *g, tensor *x, float *cache, const int32_t *at, int64_t rows);
/* What a loss reports beside its value; sums over the run. */
struct loss_stats {
    double loss;
    int64_t count, hits;
    struct loss_term { double loss; int right; } *each;     /* of the graph's terms, or NULL */
};
/* Language-model head, softmax and cross entropy in one: rows[n] of h (NULL: all n) are
 * multiplied with w [V,D] in chunks, so [N,V] never exists.  Value [1,1] =
 * scale * sum of -log p(target); the gradient of h, and of w when it trains,
 * is made in the same pass, for which the node must be the loss of the graph
 * when w or b trains. b: [1,V] or NULL. stats (may be NULL) += unscaled sums. */
tensor *g_xent_head(graph *g, tensor *h, tensor *w, tensor *b, const int32_t *rows,
                    const int32_t *target, int64_t n, float scale, struct loss_stats *stats);
/* The same with logits z replaced by cap * tanh(z / cap) (Gemma 2), 0 = not; and with rows of
 * w, [K,D] with the numbers index[K], that take the place of its own and train like it; NULL. */
struct head_opts { float cap; tensor *rows; const int32_t *index; };
tensor *g_xent_head_with(graph *g, tensor *h, tensor *w, tensor *b, const int32_t *rows,
                         const int32_t *target, int64_t n, float scale, struct head_opts o,
                         struct loss_stats *stats);
/* How far h W^T + b is from a reference's ref ref_w^T + b: scale * sum over rows of
 * KL(softmax of the reference || softmax), in chunks; cap as above.  The gradients of h,
 * and of w on the conditions of g_xent_head.  target[N] or NULL: for the losses. */
struct kl_stats {
    double kl, loss, ref_loss;           /* sums; -log p(target) of both */
    double most;                         /* largest difference of two logits */
    int64_t count, same;                 /* rows; those where the likeliest is the same */
};
tensor *g_kl_head(graph *g, tensor *h, tensor *w, tensor *b, tensor *ref, tensor *ref_w,
                  const int32_t *target, float scale, float cap, struct kl_stats *stats);
/* The same from logits [n,C]. */
tensor *g_xent(graph *g, tensor *logits, const int32_t *target, float scale,
               struct loss_stats *stats);
/* scale * sum over the n rows of the mean of (x - target)^2; target [n, C] as x. */
tensor *g_mse(graph *g, tensor *x, const float *target, float scale, struct loss_stats *stats);
tensor *g_unit(graph *g, tensor *x);                              /* rows of length 1 */
tensor *g_dot_rows(graph *g, tensor *a, tensor *b);               /* a[i] . b[i], [N,1] */
/* Losses of embeddings.  match: z [n,C], candidate i is row i's own, and others
 * with the same number in same[C] are left out.  cosent: s [n,1] is to be
 * ordered as target[n].  triplet: a [N,D] nearer to p than to n by `margin`. */
tensor *g_match(graph *g, tensor *z, const int32_t *same, float scale, struct loss_stats *stats);
tensor *g_cosent(graph *g, tensor *s, const float *target, float scale, struct loss_stats *stats);
tensor *g_triplet(graph *g, tensor *a, tensor *p, tensor *n, float margin, float scale,
                  struct loss_stats *stats);
/* scale * sum over the n rows of the mean binary cross entropy of sigmoid(x)
 * with target [n, C]. */
tensor *g_bce(graph *g, tensor *x, const float *target, float scale, struct loss_stats *stats);
/* scale * sum over i < n of -log sigmoid(x[i] - x[n + i] - margin[i]) for x [2n, 1];
 * margin NULL = 0.  hits: pairs in the right order. */
tensor *g_rank(graph *g, tensor *x, const float *margin, float scale, struct loss_stats *stats);
/* Extractive answers: for n segments of x [N, 2], scale * sum of half the cross
 * entropies of the softmax of column 0 at row span[2s] and of column 1 at row
 * span[2s + 1], over the rows [start[s], start[s + 1]).  hits: both right. */
tensor *g_span(graph *g, tensor *x, const int32_t *start, const int32_t *span, int64_t n,
               float scale, struct loss_stats *stats);
/* --- pace.c: nodes measured one at a time, and plans predicted by them */
struct pace;
int pace_new(struct host *h, struct pace **out);
void pace_free(struct pace *p);
/* Runs one node of each kind in the planned graph, of the op `only` if it is not NULL, until
 * `deadline` (os_seconds), with no more than `memory` bytes at a time.  Weights are read, nothing
 * but memory of its own is written.  Graphs of two sizes tell what is fixed and what grows. */
int pace_measure(struct pace *p, struct graph *g, const char *only, double deadline,
                 int64_t memory);
/* Seconds of the present plan; and of moving bytes. */
double pace_plan(const struct pace *p, const struct graph *g);
double pace_bytes(const struct pace *p, double bytes);
double pace_fresh(const struct pace *p, double bytes);          /* written first */
double pace_mapped(double bytes);        /* of a file whose pages the system has, read first */
#endif
