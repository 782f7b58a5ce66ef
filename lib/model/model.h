/* Rank 4: what the network is.  file -> parameters -> sites -> graph. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "model/arch.h"
#include "model/site.h"
#include "model/vision.h"
#include "base/rng.h"
#include "text/text.h"

struct wish;
struct prefix;
struct expert { struct site *at[SLOT_COUNT - SLOT_EXPERT]; };
struct layer {
    struct site *at[SLOT_EXPERT];   /* indexed by slot; NULL = absent */
    struct expert *experts;         /* [hp.experts], or NULL */
    int8_t local;                   /* attends within the window */
    int8_t rope;                    /* which rope table; -1 = none */
};

/* How a folder of sentence-transformers makes an embedding. */
struct sentence {
    int32_t pool;                   /* POOL_*, mean where nothing is said */
    int normalize;
    int64_t max_len;                /* tokens; 0 = the model's */
    const char *other;              /* a module that we do not have, or NULL */
};

struct model {
    struct host host;
    struct arena arena;             /* names, sites, params: the model's lifetime */
    struct pool *pool;
    struct blas *blas;
    struct compute compute;
    char blas_advice[320];
    enum cpu_level level;
    char *path;
    struct store *store;
    struct tokenizer *tok;          /* or NULL */
    const struct arch *arch;
    struct hparams hp;
    struct site **sites;            /* all, in forward order */
    int64_t n_sites, cap_sites;
    struct param **params;          /* of the sites */
    int64_t n_params, cap_params;
    struct site *global[SLOT_LAYER];
    struct layer *layers;           /* [hp.layers] */
    struct stack { int64_t first, end; int causal; } stack[STACKS];     /* whose layers are whose */
    enum head_id kind;              /* of what stands on the body */
    struct site *output;            /* the embedding as the output layer: a module of its own, as
                                       adapters see it; NULL: its tensor is its own, or there is
                                       no embedding */
    struct param *untied;           /* what its weight is while an adapter parts the two */
    struct site *head;              /* its classifier; NULL: a language model, or the body alone */
    int32_t pool_kind;              /* POOL_* of that head */
    float head_dropout;
    struct sentence sentence;
    const char **labels;            /* [hp.labels] or NULL */
    int rope_pair;                  /* 1 = interleaved */
    float *rope_table[2];           /* [rope_len][rot]: cosines then sines; of theta, local_theta.
                                       Of the arena, as suspended passes may read an older one */
    int64_t rope_len;
    float *slopes;                  /* [heads], ALiBi's; or NULL */
    int irregular;                  /* layers follow no period: GGUF cannot say it */
    struct adapter *adapters;
    uint64_t edits;                 /* counts changes of its weights, from 1: see method.derive */
    int any_base;                   /* adapters of other models may be loaded */
    int64_t rss_before;             /* bytes resident before it was loaded, and private ones */
    int64_t private_before;
    int trainers;                   /* alive: what trains must not change */
    struct prefix *prefix;          /* what one of them keeps of the frozen part; or NULL */
    struct graph *graph;            /* inference; made at first use */
    struct limited {                /* by a trainer's memory limit, for inference */
        struct graph *idle;         /* the trainer's between steps, whose memory it takes */
        int64_t room, chunks;       /* bytes; 0 = no limit.  Of logits: graph_chunks */
        int lean;                   /* mapped weights leave memory once read */
    } limited;
    struct pass_mem *mem;           /* index arrays of inference passes */
    struct gen_config *gen;         /* generation_config.json */
    const char *name;
    struct vision *vision;          /* how pictures become input, or NULL */
    const struct wish *quant;       /* what linear layers became at loading; or NULL */
};

/* --- load.c, save.c */
int model_load(const char *path, const peft_load_opts *opts, struct model **out);
void model_free(struct model *m);
int model_save(const struct model *m, const char *path, const peft_save_opts *o);
/* The module's name in a GGUF file, of an expert that of its layer's stack; 0 = none. */
int site_gguf_name(const struct model *m, const struct site *s, char *to, size_t cap);
/* Label names for `n` classes, copied; NULL names become "LABEL_i". */
int model_set_labels(struct model *m, int32_t n, const char *const *names);
int model_head_add(struct model *m, const peft_head_opts *o);
void model_head_remove(struct model *m);        /* undoes model_head_add; no effect without */
/* The head by its name; -1 = no such. */
int head_by_name(const char *name);
int pool_by_name(const char *name, int32_t *out);       /* a POOL kind */
/* Whether a row of the family's table counts with a head. */
int slot_with(const struct slot_row *row, enum head_id head);
/* The family's row for the last module of a head; NULL = it takes no such head. */
const struct slot_row *head_row(const struct arch *a, enum head_id head);
/* What the model is without a classifier. */
enum head_id model_bare_kind(const struct model *m);
/* Gives the body's names the prefix that they have below a head of this kind. */
int model_set_kind(struct model *m, enum head_id kind);
/* The module that gives the logits of a language model. */
const struct site *model_lm_head(const struct model *m);
/* Whether the embedding gives the logits too. */
int model_tied(const struct model *m);
/* All modules, and after them the tied output layer; NULL after the last. */
struct site *model_site(const struct model *m, int64_t i);
/* Makes m->output where the output layer has no tensor. */
int model_make_output(struct model *m);

/* --- param.c */
int glob_match(const char *globs, const char *name);
struct param *model_param(const struct model *m, const char *name);
/* Parameters of the model, then those of its adapters; NULL after the last. */
struct param *model_nth_param(const struct model *m, int64_t i);
void adapted_free(struct model *m, struct adapted *a);      /* its tensors */
/* The enabled adapters' copy of p that is `mine`, or above `old`; or NULL. */
struct saved_module *copy_where(const struct model *m, const struct param *p, const float *mine,
                                const float *old);
int model_freeze(struct model *m, const char *globs, int trainable);
int model_freeze_layers(struct model *m, int32_t first, int32_t last);
/* A parameter's or module's name in a Hugging Face file: a bare encoder (no
 * head) has names without the family's prefix. */
const char *model_file_name(const struct model *m, const char *name);
/* The activation where no setting says it. */
enum act model_act(const struct model *m);
/* A slot's first row in the family's table, or NULL. */
const struct slot_row *slot_find(const struct arch *a, int slot);
int64_t param_len(const struct param *p);
int64_t param_bytes(const struct param *p);      /* as held */
/* A float32 copy of p's values as the file of Hugging Face would hold them:
 * in its order of rows, [in, out] where it keeps that, norms less the 1. */
void param_read(const struct model *m, const struct param *p, float *to);
/* Makes p->own, float32; no effect when it is there. */
int param_own(struct model *m, struct param *p);
/* The order that the slot's rows have in GGUF files. */
enum row_order slot_order(const struct arch *a, const struct slot_row *row);
/* Row i of Hugging Face's order is row row_in_gguf(i) of GGUF's, and back. */
int64_t row_in_gguf(const struct hparams *hp, int order, int64_t i);
int64_t row_in_hf(const struct hparams *hp, int order, int64_t i);
/* Row i of Hugging Face's order is row param_row(i) of ours. */
int64_t param_row(const struct model *m, const struct param *p, int64_t i);
/* p's values in our order from a matrix or vector in Hugging Face's. */
void param_write(const struct model *m, const struct param *p, float *to, const struct qtype *type,
                 const void *from);
int model_to_float(struct model *m, const char *globs, int only_cost, int64_t *bytes);

/* --- passes: one graph over one batch */
struct pass_mem;                    /* growable index arrays, reused */
int pass_mem_new(struct host *h, struct pass_mem **out);
void pass_mem_free(struct pass_mem *m);
int pass_mem_reserve(struct pass_mem *m, int64_t tokens, int64_t seqs);
/* [n] of the pass's own for virtual tokens, valid until the next such call; or NULL. */
int32_t *pass_mem_virtual(struct pass_mem *m, int64_t n);
struct kv_cache { float *k, *v; };  /* one layer's: [cap, kv_heads * head_dim] */
struct range { const int32_t *lo, *hi; };
/* The part of a pass that one stack works on, and what its rows attend to. */
struct stream {
    int64_t first, n, seq, n_seq;   /* rows (virtual ones too) and sequences of the batch */
    struct range span[2], cross;    /* of global layers, of local ones, in the other text */
    const int32_t *self;            /* each row's own place among the keys */
    struct kv_cache *cache;
    const int32_t *bucket;          /* [distances] of the learned bias, where the model has one */
    int64_t distances, origin;
    struct tensor *bias;
};
/* Sequences next to each other on which the same adapters act. */
struct share { const struct adapter *const *list; int64_t n; };
/* How rows are shared out: share k has the rows cut[k] to cut[k + 1].  In what
 * order: of the streams' tokens, one for each text of the main one, of its patches. */
struct shares { const struct share *at; int64_t n; int32_t *cut; };
enum { ROWS_SOURCE, ROWS_MAIN, ROWS_TEXTS, ROWS_PATCHES, ROWS_KINDS };
struct pass {
    struct model *m;
    struct graph *g;
    struct pass_mem *mem;
    int training;                   /* trainable leaves get gradients, dropout is on */
    uint64_t seed, draw;            /* dropout: seed, and a number unique to the pass */
    uint32_t dropouts;              /* dropout nodes so far */
    const struct loss_opts *loss;   /* of the objective, or NULL (train.h) */
    void (*seen)(void *arg, const struct site *s, struct tensor *x);   /* nn_linear's inputs; */
    void *seen_arg;                                                    /* or NULL */
    /* the batch: n tokens of n_seq sequences that begin at rows start[0..n_seq] */
    int64_t n, n_seq;
    const int32_t *ids, *pos, *start;
    const float *patches;           /* pictures: [n - n_seq, channels * patch]; else NULL */
    const int32_t *types;           /* token types, or NULL = all 0 */
    int64_t length;                 /* of the longest sequence with its cache; 0 = as `pos` tells */
    const float *rope[2];           /* tables of global and local layers, by pass_begin */
    int64_t n_source;               /* so many of the sequences, the first, are an encoder's */
    int64_t reach;                  /* no text is longer; 0 = as long as the longest is */
    /* inference: the one adapter that acts on each sequence [n_seq], of which equal ones best
     * stand together; &adapter_base = none, NULL = those that are enabled, as without `acts` */
    const struct adapter *const *acts;
    /* What enters `layer` of a stack, [its rows, dim], is taken from x and not from the texts;
     * one more than its last layer: what leaves its norm; 0 = from the texts. */
    struct cut { int64_t layer; const float *x; } cut[STACKS];
    int64_t still[STACKS];          /* by the stack's run: the last layer whose input is the same in
                                       every pass, as below it nothing trains nor is drawn; as in
                                       `cut`; 0 = not even the first one's */
    int drawn;                      /* ... but for dropout it would be a later one */
    struct tensor **enters;         /* [layers] what enters each one, for who asks; or NULL */
    struct share_mem *share;
    struct shares rows[ROWS_KINDS], *shares;    /* by pass_begin; of the rows at hand */
    int copies;                     /* adapters of the shares may have weights of their own */
    /* while generating: caches of the main stack's layers [layers], of `room` rows; sequence i
     * has those from first_row[i] on, past[i] of them from before */
    struct kv_cache *cache;
    int64_t room;
    const int32_t *first_row, *past;
    struct kv_cache *cross;         /* [layers] of the source's n_cross tokens: filled by a pass
                                       with a source, used by one without */
    int64_t n_cross;
    struct stream stream[STACKS];   /* by pass_begin */
    struct {                        /* the batch with virtual rows among its own, by pass_begin */
        int64_t n, reach;
        const int32_t *pos, *types, *start;
    } all;
    struct virtual_rows {
        int64_t tokens;             /* before each text of `stack`; they are there already where
                                       the text has a past */
        int stack, how;             /* how: VIRTUAL_* */
        const struct adapted *by;   /* NULL = no text begins in this pass */
        const int32_t *index;       /* [n] where its rows, or keys, come from: virtual tokens, then
                                       the stack's own */
        const int32_t *place;       /* [n] where keys go in the cache */
        int64_t n;
        const int32_t *real;        /* where the batch's own rows are now, [real_n] */
        int64_t real_n;
        struct tensor *x;           /* the tokens */
    } virtual;
    struct tensor *wide;            /* the main stack's output with virtual rows, or NULL */
    struct tensor *source;          /* the encoder's output */
};
/* Resets the graph and makes the attention ranges. */
int pass_begin(struct pass *p);
int32_t *pass_index(struct pass *p);             /* [n_seq], for pooled rows */
const int32_t *pass_types(struct pass *p);       /* [n] zeros: token types */
const int32_t *pass_positions(struct pass *p);   /* [n], from hp.pos_offset on */
const int32_t *pass_patches(struct pass *p);     /* [n], rows of the class token and patches */
/* --- share.c: the memory of shares, and what pass_begin does for them */
struct share_mem {
    const struct adapter **enabled; /* in the order they were added */
    struct share *share;            /* [cap] */
    int32_t *cut;                   /* [ROWS_KINDS][cap + 1] */
    int64_t cap, cap_enabled;
};
void shares_free(struct mem *mem, struct share_mem *s);
int shares_begin(struct pass *p, struct share_mem *s);
/* Of the rows at hand, p->shares.  The values of q in share k: a copy that its
 * adapter has, or the model's own; whether they are others than in the first. */
struct tensor *share_leaf(struct pass *p, int64_t k, struct param *q);
int share_differs(const struct pass *p, int64_t k, const struct param *q);
/* Whether an adapter that derives something from its module's weight can act in
 * share k; else the graph has failed. */
int share_can(struct pass *p, int64_t k, const struct adapted *d);
/* Rows of x that share k has, and x with them replaced. */
struct tensor *share_rows(struct pass *p, struct tensor *x, int64_t k);
struct tensor *share_put(struct pass *p, struct tensor *x, struct tensor *rows, int64_t k);
struct tensor *nn_leaf(struct pass *p, struct param *q);   /* NULL gives NULL */
struct tensor *nn_linear(struct pass *p, const struct site *s, struct tensor *x);
struct tensor *nn_embed(struct pass *p, const struct site *s, const int32_t *ids, int64_t n);
/* Whether an adapter acts in nn_linear; and the one that does when it is alone and
 * all it does is to put rows in the place of the weight's. */
int nn_adapted(const struct pass *p, const struct site *s);
const struct adapted *nn_rows(const struct pass *p, const struct site *s);
struct tensor *nn_bias(struct pass *p, struct param *b, struct tensor *x);
struct tensor *nn_norm(struct pass *p, const struct site *s, struct tensor *x);
struct tensor *nn_dropout(struct pass *p, struct tensor *x, float rate);
/* Final hidden states of the batch's rows [n, dim] in the main stack, and of an encoder's
 * before it. */
struct tensor *model_hidden(struct pass *p);
/* What an embedding of each sequence is: of text the mean of its hidden states,
 * of a picture the class token's, through the projection where there is one. */
struct tensor *model_embedding(struct pass *p, struct tensor *hidden);
struct tensor *model_encoded(struct pass *p);
/* What enters a layer of a stack, as in pass.cut; of an encoder's before those of the main one. */
struct tensor *model_below(struct pass *p, int which, int64_t layer);
/* Rows of the batch as rows of the main stack's hidden states; one array a pass. */
const int32_t *pass_rows(struct pass *p, const int32_t *rows, int64_t n);
/* One row for each sequence by a POOL kind, [n_seq, dim]. */
struct tensor *model_pool(struct pass *p, struct tensor *hidden, int kind);
/* What the classification head reads, [n_seq, dim]. */
struct tensor *model_pooled(struct pass *p, struct tensor *hidden);
/* Of what was pooled, or of each token where the head reads tokens: [rows, labels] */
struct tensor *model_classify(struct pass *p, struct tensor *pooled);
/* What the language-model head's matrix reads. */
struct tensor *model_before_lm(struct pass *p, struct tensor *hidden);
/* Logits of the given rows, [n_rows, vocab]. */
struct tensor *model_logits(struct pass *p, struct tensor *hidden);
/* --- virtual.c */
/* The enabled adapter's tokens that are before every text; NULL and 0 = none. */
const struct adapted *model_virtual(const struct model *m);
int64_t model_virtual_tokens(const struct model *m);
int64_t virtual_before(const struct model *m, int stack);       /* of one stack's texts */
int64_t model_room(const struct model *m);       /* for a text's own tokens */
int64_t model_longest(const struct model *m);    /* as long as texts are cut to where nothing is
                                                    said */
int model_fits(const struct model *m, int64_t tokens);
int virtual_begin(struct pass *p);
/* Embeddings of a stack's rows, from those of its own; keys (part 0) or values (1)
 * of a layer; and the rows of the batch from all. */
struct tensor *virtual_embed(struct pass *p, const struct stream *s, struct tensor *x);
struct tensor *virtual_keys(struct pass *p, const struct stream *s, int64_t layer, int part,
                            struct tensor *x);
struct tensor *virtual_real(struct pass *p, struct tensor *x);
const int32_t *virtual_places(const struct pass *p, const struct stream *s);    /* of keys in the
                                                                                   cache */

/* Positions of texts, to which those of virtual tokens come. */
int rope_reserve(struct model *m, int64_t positions);
int rope_slopes(struct model *m);                /* ALiBi's slopes, where the family has them */
/* The longest sequence decides on the frequencies of all of its batch. */
int rope_by_length(const struct model *m);
/* A cache of `n - 1` tokens has other frequencies than one of `n` must have. */
int rope_switches(const struct model *m, int64_t n);
/* The inference graph, made at first use; every work on it begins with this.  `more` bytes of
 * the room are for what the caller keeps beside it. */
int model_graph(struct model *m);
int model_graph_and(struct model *m, int64_t more);
/* For graph_on_read: a mapped weight leaves memory. */
void model_forget(void *m, const struct tensor *leaf);

/* --- gen_config.c */
int gen_load(struct model *m);
int gen_save(struct model *m, const char *dir);     /* into a folder; nothing when there is none */
int gen_ends(const struct model *m, int32_t id);    /* by the file, config.json or the tokenizer */
void gen_sampling(const struct model *m, peft_generate_opts *o);

/* --- generate.c */
struct gen_request {
    const int32_t *prompt;          /* [n] */
    int64_t n;
    const peft_generate_opts *o;
    const struct adapter *adapter;  /* that acts, as in pass.acts */
    peft_generated *out;
    struct ids *ids;                /* receives the answer's tokens instead of its text; or NULL */
};
int model_generate(struct model *m, const struct gen_request *r);
/* --- serve.c: of n requests up to `batch` at once */
int model_serve(struct model *m, const struct gen_request *r, int64_t n, int64_t batch);

#endif
