/* Reuse of what is frozen.  Where nothing trains below some point of the forward
 * pass, the values there, the cut, are the same in every epoch, and are computed
 * once for each example.
 *
 * The bits of a product's rows may depend on how many rows it has, and so on the
 * batch.  Values are therefore made in groups of examples that follow each other in
 * the file, always the same ones, whichever of them a batch asks for: they depend on
 * the data alone, not on order, seed, resuming, nor where they are kept. */
#ifndef TRAIN_PREFIX_H
#define TRAIN_PREFIX_H

#include "base/sha256.h"
#include "data/data.h"

struct objective;
struct kept_file;
enum { FEATURE_CACHE = 256 << 20 };                 /* bytes, where nothing is said */
enum { GROUP_TOKENS = 1024, GROUP_ROWS = 64 };       /* of a group; one example may have more */
enum kept { KEPT_ABSENT, KEPT_MEMORY, KEPT_FILE, KEPT_NOT };    /* NOT: made anew for each batch */

/* The values of one data set's examples.  Those of an example follow each other,
 * text after text, row after row. */
struct kept_rows {
    const struct dataset *d;
    uint64_t serial;                /* of d when this was made; 0 = nothing here */
    struct batcher *batcher;        /* of groups, and of what a batch has that is not kept */
    int64_t n, n_groups;
    int64_t *first;                 /* [n_groups + 1] examples */
    int32_t *group;                 /* [n] */
    int64_t *at;                    /* [n + 1] floats of all examples before */
    int64_t *in_file;               /* [n] where an example's record begins, 0 = nowhere; or NULL */
    uint8_t *state;                 /* [n] enum kept */
    uint8_t *digest;                /* [n_groups][SHA256_BYTES] of the examples; or NULL */
    float *data;                    /* [cap]; the examples that end within it live here */
    int64_t cap;
    const struct batch *batch;      /* that was run last */
    struct batch_size room;         /* of the largest one */
    int32_t *list;                  /* [rows of it] */
    struct kept_piece *piece;       /* [texts of it], the present batch's */
};

struct prefix {
    struct model *m;
    const struct objective *objective;
    int on;
    const char *why;                /* nothing is kept; "" = nothing is frozen */
    int64_t layer[STACKS];          /* as in pass.cut; none: the cut is at the features */
    int64_t width;                  /* floats of a row */
    int64_t limit, file_limit;      /* bytes */
    const char *path;               /* of the file, or NULL */
    struct kept_file *file;
    uint64_t edits;                 /* the model's, which are ours as well */
    int begun;
    int busy;                       /* a step is in flight: its batches and values stay */
    struct kept_rows train, eval;   /* eval: of the data set that was evaluated last */
    struct tensor *below[STACKS];   /* what the graph of a group makes */
    float *gather;                  /* a training batch's values */
    float *spare;                   /* [spare_n] one example's values, of those beyond the memory */
    int64_t spare_n;
    int64_t used, made;             /* examples that batches had, and that were computed */
};

/* What is to be run before a batch is there: a group, or */
enum { PREFIX_READY = -1, PREFIX_REST = -2 };

/* Finds the cut when the graph of a training step has been built. */
void prefix_find(struct prefix *x, const struct pass *p, const struct tensor *features);
/* Tables for a data set; `most` is its largest batch.  `bytes` limits the memory. */
int prefix_rows(struct prefix *x, const struct dataset *d, const struct batch_size *most,
                int64_t bytes, struct kept_rows *k);
int64_t prefix_gather_rows(const struct prefix *x, const struct batch_size *most);
int64_t prefix_bytes(const struct prefix *x, const struct batch_size *most);    /* as planned */
/* Opens the file, if any, and gets the memory. */
int prefix_begin(struct prefix *x, struct kept_rows *k);
int64_t prefix_eval_bytes(const struct prefix *x);          /* what an evaluation may add */
/* Before each step or evaluation: what was kept is forgotten if others changed the weights. */
void prefix_check(struct prefix *x);
/* Takes the pass's stacks, or returns the features, from `values` [rows, width]. */
struct tensor *prefix_cut(const struct prefix *x, struct pass *p, const struct batch *b,
                          const float *values);
/* The graph up to the cut, behind pass_begin. */
void prefix_below(struct prefix *x, struct pass *p, const struct batch *b);
/* For the n examples of a batch: which group is to be run next, or PREFIX_*.  `rest` = that has
 * been run.  prefix_batch makes its batch, and prefix_store keeps what came out. */
int64_t prefix_next(struct prefix *x, const struct kept_rows *k, const int32_t *rows, int64_t n,
                    int rest);
const struct batch *prefix_batch(struct kept_rows *k, int64_t job, const int32_t *rows, int64_t n);
void prefix_store(struct prefix *x, struct kept_rows *k, int64_t job);
/* The batch's values; 0 = the file lacks some after all, which are to be computed. */
int prefix_gather(struct prefix *x, struct kept_rows *k, const struct batch *b, float *to);
/* A data set that is evaluated: NULL = nothing is kept of it; *rc tells failures. */
struct kept_rows *prefix_eval(struct prefix *x, const struct dataset *d,
                              const struct objective *o, const struct batch_size *most, int *rc);
void prefix_info(const struct prefix *x, peft_cache *out);
void prefix_free(struct prefix *x);

/* --- prefix_file.c: rows in a file, for runs to come.  Nothing of it fails a run: what
 * cannot be read is computed, what cannot be written is not kept. */
int kept_file_open(struct prefix *x, struct kept_file **out);
/* Finds the records of k's examples. */
int kept_file_find(struct prefix *x, struct kept_rows *k);
/* Appends an example's values; where its record is, or -1 when it cannot be read again. */
int64_t kept_file_put(struct prefix *x, const struct kept_rows *k, int64_t example,
                      const float *values);
/* 1 = `to` holds the values of the example that k has in the file; 0 = they are not there. */
int kept_file_get(struct prefix *x, const struct kept_rows *k, int64_t example, float *to);
int64_t kept_file_bytes(const struct kept_file *f);
void kept_file_close(struct kept_file *f);

#endif
