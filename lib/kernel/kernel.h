/* Rank 1: mathematics on raw pointers.  Nothing here allocates or fails.
 *
 * `struct kernels` is a table of single-threaded bodies, one per processor
 * level, compiled from the same plain C (vec.inc, row.inc) with the level's
 * flags.  `struct compute` adds threads, BLAS and scratch; the functions that
 * take it split their work by shape alone, so the bits do not depend on the
 * number of threads. */
#ifndef KERNEL_KERNEL_H
#define KERNEL_KERNEL_H

#include "base/base.h"
#include "base/cpu.h"
#include "base/pool.h"
#include "kernel/quant.h"

enum act {
    ACT_NONE,
    ACT_SILU,
    ACT_GELU,
    ACT_GELU_TANH,
    ACT_RELU,
    ACT_TANH,
    ACT_SIGMOID,
    ACT_QUICK_GELU,
    ACT_COUNT
};
extern const char *const act_names[ACT_COUNT];

/* Contracts: pointers are 4-byte aligned; n >= 0 of any value; outputs may be
 * the same pointer as an input of the same shape but not overlap otherwise.
 * `add` 0 stores into the gradient, 1 adds to it. */
struct adamw;
struct tile;
enum { STATE_BLOCK = 256, STATE_DRAWS = 128 };
struct kernels {
    const char *name;
    /* --- vectors of n */
    void (*fill)(float *y, float a, int64_t n);
    void (*add)(float *y, const float *a, const float *b, int64_t n);     /* y = a + b */
    void (*axpy)(float *y, const float *x, float a, int add, int64_t n);  /* y (+)= a x */
    void (*mul)(float *y, const float *a, const float *b, int add, int64_t n);
    float (*dot)(const float *a, const float *b, int64_t n);
    double (*sum_squares)(const float *x, int64_t n);    /* accumulated in double */
    int (*finite)(const float *x, int64_t n);            /* 1 = no NaN, no Inf */
    void (*act)(float *y, const float *x, int64_t n, enum act kind);
    /* dx (+)= dy * act'(x) */
    void (*act_back)(float *dx, const float *dy, const float *x, int add, int64_t n, enum act kind);
    /* y = act(gate) * up */
    void (*glu)(float *y, const float *gate, const float *up, int64_t n, enum act kind);
    /* any of dgate, dup and y, the value again, may be NULL */
    void (*glu_back)(float *dgate, float *dup, float *y, const float *dy, const float *gate,
                     const float *up, int add_gate, int add_up, int64_t n, enum act kind);
    /* One AdamW update (Loshchilov & Hutter 2019) as torch computes it:
     * w -= lr*wd*w;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;
     * w -= lr/(1-b1^t) * m / (sqrt(v)/sqrt(1-b2^t) + eps), with g scaled by gscale first. */
    void (*adamw)(float *w, const float *g, float *m, float *v, int64_t n, const struct adamw *h);
    /* Optimizer states in 8 bits, in blocks of STATE_BLOCK as levels of tree_levels times the
     * block's largest magnitude.  plain: no number is below zero, and those above it do not
     * become zero. */
    void (*pack8)(uint8_t *q, float *largest, const float *x, int64_t n, int plain);
    void (*unpack8)(float *y, const uint8_t *q, const float *largest, const float level[256],
                    int64_t n);
    /* In bfloat16, rounded at random with the draws of a stream from `block` on, of which
     * STATE_DRAWS numbers take 16: word i / 16 % 4 of block i % 16, the low half first. */
    void (*round16)(uint16_t *y, const float *x, int64_t n, uint64_t seed, uint64_t stream,
                    uint64_t block);
    /* --- rows of n columns; one call handles `rows` rows */
    /* y = x * rstd * (w + plus); rstd[rows] kept.  eps inside the root. */
    void (*rmsnorm)(float *y, float *rstd, const float *x, const float *w, int64_t rows, int64_t n,
                    float eps, float plus);
    /* dx (+)=; dw (NULL = frozen) is always added to. */
    void (*rmsnorm_back)(float *dx, float *dw, const float *dy, const float *x, const float *w,
                         const float *rstd, int add, int64_t rows, int64_t n, float plus);
    /* y = (x - mean) * rstd * w + b; w or b may be NULL; stats[rows][2] = mean, rstd. */
    void (*layernorm)(float *y, float *stats, const float *x, const float *w, const float *b,
                      int64_t rows, int64_t n, float eps);
    void (*layernorm_back)(float *dx, float *dw, float *db, const float *dy, const float *x,
                           const float *w, const float *stats, int add, int64_t rows, int64_t n);
    /* In place: row <- softmax(row); returns nothing.  For attention and sampling. */
    void (*softmax)(float *x, int64_t rows, int64_t n, int64_t stride);
    /* For each row of logits z: loss[r] = logsumexp(z) - z[target]; hit[r] = argmax == target;
     * z <- (softmax(z) - onehot(target)) * scale.  With scale 0 z is left undefined. */
    void (*xent)(float *z, float *loss, uint8_t *hit, const int32_t *target, int64_t rows,
                 int64_t n, int64_t stride, float scale);
    /* Rotary embedding (Su et al. 2021) on `heads` heads of head_dim in each row, first `rot`
     * elements of a head; tab[row] points at rot/2 cosines then rot/2 sines of the row's
     * position.  pair 0: (i, i + rot/2) as Hugging Face; 1: (2i, 2i+1) as GGUF's llama.
     * dir -1 turns back (the gradient).  y (+)= rotated x; y may be x when add is 0. */
    void (*rope)(float *y, const float *x, const float *const *tab, int64_t rows, int64_t heads,
                 int64_t head_dim, int64_t rot, int pair, int dir, int add, int64_t stride);
};
struct adamw { float lr, beta1, beta2, eps, decay, gscale; double bias1, bias2; /* 1 - beta^t */ };

/* The table of a level, or NULL when it is not compiled in. */
const struct kernels *kernels_get(enum cpu_level level);
/* The best tiles by units of this processor beside a level: of bfloat16, or of float32.
 * NULL = it has none. */
const struct tile *tile_half(enum cpu_level level);
const struct tile *tile_full(enum cpu_level level);

/* A matrix product: the BLAS that was found, or the built-in one.
 * C[m,n] = alpha op(A)[m,k] op(B)[k,n] + beta C, row-major, leading dimensions in elements. */
struct blas {
    char name[160], core[32];
    void *lib;                                          /* NULL = built in */
    void (*sgemm)(int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                  int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
};
/* `wish`: NULL = best found, "none" = built in, else a file.  Never fails for NULL and "none":
 * what cannot be used (too old, not single-threaded, broken 0.3.30) is passed over, and
 * *advice says what would be better ("" = nothing). */
int blas_open(struct host *h, const char *wish, struct blas **out, char *advice, size_t cap);
void blas_close(struct host *h, struct blas *b);

struct compute {
    const struct kernels *k;
    const struct blas *blas;
    const struct tile *tile;        /* of products with weights and of attention; NULL: k's */
    struct pool *pool;
    float *scratch;                 /* scratch_each bytes for every worker */
    int64_t scratch_each;
    float *panels;                  /* what they share in a product */
    int64_t panels_bytes;
    int again;                      /* x is that of the forward product before, and unchanged */
};
/* Whether products are of bfloat16. */
bool compute_half(const struct compute *c);
float *compute_scratch(const struct compute *c, int worker);
/* fn(arg, begin, end, worker) over [0, n) in pieces of `grain`. */
typedef void range_fn(void *arg, int64_t begin, int64_t end, int worker);
void compute_rows(const struct compute *c, int64_t n, int64_t grain, range_fn *fn, void *arg);

/* --- what this machine can do with all threads of c, in about half a second; the best of some
 * rounds.  By the tiles `full` and, if not NULL, `half`, of bfloat16.  The memory is as large as
 * what is copied and its copy: some times the caches. */
struct peaks {
    double tile, half, blas;        /* flops a second: register tiles on packed operands, which the
                                       first cache holds, of float32 and of bfloat16; and BLAS */
    double copy;                    /* bytes a second, read and written ones */
};
enum { PEAKS_MEMORY = 1 << 27 };    /* bytes */
void peaks_measure(const struct compute *c, const struct tile *full, const struct tile *half,
                   void *memory, struct peaks *out);

/* --- linear layers: W [out, in] in any stored type, x [n, in], y [n, out] (leading dimensions are
 * the column counts).  A quantised or 16-bit W is expanded block by block into scratch. */
struct matrix { const struct qtype *type; const void *data; int64_t rows, cols; };
int64_t linear_scratch(void);                                    /* bytes a worker needs */
/* Bytes of panels that serve n rows best; any from PANELS_MIN on do. */
enum { PANELS_MIN = 1 << 18 };
int64_t linear_panels(int64_t n, int64_t in, int64_t out);
enum { LOW_RANK = 128 };             /* the largest that is made in one pass */
/* y = alpha x W^T + beta y */
void linear_forward(const struct compute *c, float *y, const float *x, const struct matrix *w,
                    int64_t n, float alpha, float beta);
/* dx = alpha dy W + beta dx */
void linear_dx(const struct compute *c, float *dx, const float *dy, const struct matrix *w,
               int64_t n, float alpha, float beta);
/* dw [out, in] += alpha dy^T x */
void linear_dw(const struct compute *c, float *dw, const float *dy, const float *x, int64_t n,
               int64_t out, int64_t in, float alpha);
/* The same of some small ones in one pass over x: each dw [r, in] += dy^T x with dy [n, r].
 * Several may have the same dw. */
enum { THINS = 4 };                  /* at most */
struct thin { float *dw; const float *dy; int64_t r; };
void thin_dws(const struct compute *c, const struct thin *t, int thins, const float *x, int64_t n,
              int64_t in);
/* With a low-rank term, A [r, in] and B [out, r] of floats, in one pass over x or dy:
 * low [n, r] = s x A^T,  y = x W^T + low B^T */
void low_rank_forward(const struct compute *c, float *y, float *low, const float *x,
                      const struct matrix *w, const struct matrix *a, const struct matrix *b,
                      int64_t n, float s);
/* dlow [n, r] = s dy B,  dx = dy W + dlow A + beta dx, and unless db is NULL
 * db [out, r] += dy^T low */
void low_rank_dx(const struct compute *c, float *dx, float *dlow, const float *dy,
                 const struct matrix *w, const struct matrix *a, const struct matrix *b,
                 int64_t n, float s, float beta, float *db, const float *low);

/* The same of an x = act(gate) * up [n, in] that is nowhere stored.  Only where low_rank_gated
 * says so; low_rank_dx and then gated_backward are the way back. */
struct gated { const float *gate, *up; enum act kind; };
int low_rank_gated(const struct compute *c, int64_t r);
void gated_forward(const struct compute *c, float *y, float *low, const struct gated *x,
                   const struct matrix *w, const struct matrix *a, const struct matrix *b,
                   int64_t n, float s);
/* From x, the gradient of act(gate) * up [n, in], those of gate and up, in whose memory x may
 * lie; and a [r, in] += low^T (act(gate) * up) with low [n, r], unless a is NULL. */
struct gated_grads { float *gate, *up, *a; const float *x, *low; int add_gate, add_up; };
void gated_backward(const struct compute *c, const struct gated *x, const struct gated_grads *g,
                    int64_t n, int64_t in, int64_t r);

/* --- cross entropy of z = h W^T + bias, without z: of each row loss = logsumexp(z) - z[target],
 * hit = argmax z is the target, and with dh its gradient, scale (softmax(z) - onehot) W.
 * h, dh [n, D], W [V, D] of any stored type; bias [V] or NULL. */
struct head {
    const float *h, *bias;
    const struct matrix *w;
    const int32_t *target;
    int64_t n;
    float scale, *loss, *dh;
    uint8_t *hit;
};
int64_t head_scratch(const struct matrix *w);                    /* bytes a worker needs */
int64_t head_work(const struct matrix *w, int64_t n, int gradient);   /* and bytes of `work` */
/* In `steps` calls, step = 0, 1, .. steps - 1, between which `work` stays as it is. */
void head_loss(const struct compute *c, const struct head *h, void *work, int step, int steps);

/* norm[begin..end) = lengths of the rows of W + s B A; A [r, in], B [out, r], temp
 * [LORA_NORM_ROWS, in]. */
enum { LORA_NORM_ROWS = 16 };
void lora_row_norms(const struct compute *c, float *norm, const struct matrix *w, const float *a,
                    const float *b, int64_t r, float s, int64_t begin, int64_t end, float *temp);
/* norm [in] = lengths of the columns of W [out, in] + s A B^T; A [out, r], B [in, r], temp of
 * lora_col_temp(w) floats. */
int64_t lora_col_temp(const struct matrix *w);
void lora_col_norms(const struct compute *c, float *norm, const struct matrix *w, const float *a,
                    const float *b, int64_t r, float s, float *temp);

/* Recurrent layers: a direction of one, n rows of `in` inputs, whose h lie `stride` floats
 * apart; `back`: from the last row on.  state: LSTM_STATE * hidden floats a row (gates, c). */
enum { LSTM_STATE = 5 };
struct lstm { int64_t n, in, hidden, stride; int back; };
int64_t lstm_len(int64_t in, int64_t hidden);       /* floats of a direction's weights */
void lstm_forward(const struct kernels *k, const struct lstm *l, const float *w, const float *x,
                  float *h, float *state);
/* da [n, 4 hidden], the gradients of W x + b + ..; temp: 3 hidden floats; and dw += theirs. */
void lstm_backward(const struct kernels *k, const struct lstm *l, const float *w, const float *dh,
                   const float *state, float *da, float *temp);
void lstm_weights(const struct kernels *k, const struct lstm *l, const float *x, const float *h,
                  const float *da, float *dw);
/* Orthogonal b x b matrices from b (b - 1) / 2 numbers; temp: cayley_temp floats. */
int64_t cayley_temp(int64_t b, int terms);
void cayley_forward(const struct compute *c, float *r, const float *v, int64_t b, int terms,
                    float *temp);
void cayley_backward(const struct compute *c, float *dv, const float *dr, const float *v,
                     int64_t b, int terms, int add, float *temp);

/* --- attention, blockwise with the row log-sum-exp kept (Dao et al. 2022): never T x T.
 * q [nq, heads*head_dim], k and v [nk, kv_heads*head_dim], out like q, lse [nq, heads].
 * Query row i attends to keys lo[i] <= j < hi[i]; both arrays are non-decreasing within a segment
 * and segments follow each other, so causal, bidirectional, packed, windowed, cached and cross
 * attention are one case.  An empty range gives zeros. */
struct attn {
    int64_t nq, nk;
    int32_t heads, kv_heads, head_dim;
    float scale;
    float softcap;                  /* 0 = none; else scores = cap * tanh(scores / cap) */
    const int32_t *lo, *hi;         /* [nq] */
    const float *slopes;            /* [heads] or NULL: scores += slope * (key - last key of the
                                       row's range) (ALiBi, Press et al. 2021) */
    /* A learned bias by distance, read only when the calls get one: scores +=
     * bias[key - self[row] + origin][head].  Ranges stay within its rows. */
    const int32_t *self;            /* [nq] the key that stands where the query does */
    int64_t distances, origin;      /* rows of the bias; the row of distance 0 */
    int half_slopes;                /* Falcon's: slopes of bfloat16 times the key's index within
                                       the range, rounded to bfloat16, and scaled as q k is */
};
int64_t attn_scratch(const struct attn *a);                      /* bytes a worker needs */
int64_t attn_forward_work(const struct attn *a);                 /* and bytes of a call's `work` */
int64_t attn_backward_work(const struct attn *a);
/* bias [distances, heads], or NULL. */
void attn_forward(const struct compute *c, float *out, float *lse, const float *q, const float *k,
                  const float *v, const float *bias, const struct attn *a, void *work);
/* Gradients of q, k, v and bias, any of which may be NULL, and whether they are
 * added to. */
struct attn_grads { float *q, *k, *v, *bias; int add_q, add_k, add_v, add_bias; };
void attn_backward(const struct compute *c, const struct attn_grads *g, const float *dout,
                   const float *q, const float *k, const float *v, const float *bias,
                   const float *out, const float *lse, const struct attn *a, void *work);
#endif
