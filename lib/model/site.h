/* Where adapters meet the model.  The interface lies here, low; the methods
 * that implement it lie above, in adapt/method/. */
#ifndef MODEL_SITE_H
#define MODEL_SITE_H

#include "graph/graph.h"

struct model;
struct pass;
struct slot_row;

/* Orders of rows that GGUF files have and Hugging Face's do not: the halves of
 * each head interleaved, and fused q, k, v following each other. */
enum row_order { ROWS_PLAIN, ROWS_ROPE, ROWS_QKV };

/* A tensor of weights: the model's, or an adapter's. */
struct param {
    const char *name;               /* Hugging Face's full name */
    const struct qtype *type;       /* of `data` */
    const struct qtype *stored;     /* what saving writes when nothing else is asked for */
    int64_t rows, cols;             /* [out, in]; vectors are [1, n] */
    const void *data;               /* mapped, or `own` */
    float *own;                     /* float32 copy, allocated; or NULL */
    float *grad;                    /* while a trainer runs, else NULL */
    int32_t layer;                  /* -1 = none */
    int32_t n_dims;
    uint8_t trainable;
    uint8_t order;                  /* enum row_order: how our rows differ from Hugging Face's */
    uint8_t turned;                 /* Hugging Face holds it as [in, out] */
    uint8_t plus;                   /* a norm that exceeds Hugging Face's by 1 */
    uint8_t adapter;                /* belongs to an adapter */
    uint8_t counted;                /* 0 = no weight of its own (rope factors) */
    uint8_t is_new;                 /* not in the model's file: a head that was added */
    uint8_t used;                   /* a leaf of the graph that was planned last */
    int8_t file_n_dims;             /* of the tensor in a file where they are not rows and cols; */
    int64_t file_dims[4];           /* or 0 */
};

/* A module: every linear layer, embedding and norm. */
struct site {
    const char *name;               /* "model.layers.0.self_attn.q_proj" */
    int32_t layer, expert;          /* -1 = none */
    const char *peft_name;          /* in PEFT's files; mostly the same */
    uint8_t slot, kind;
    uint16_t flags;
    const struct slot_row *row;     /* where it stands in the family's table */
    struct param *w, *b;            /* NULL = absent */
    struct adapted *first;          /* adapters, in the order they were added */
};

/* One adapter's tensors at one site. */
enum { PARTS = 4 };
struct adapted {
    struct adapted *next;           /* at the same site */
    struct adapter *adapter;
    struct site *site;
    struct param *part[PARTS];      /* as the method's parts; NULL = absent */
    int32_t rank;
    float alpha, scale;             /* scale: what multiplies the update */
    uint8_t fused;                  /* 1 + the row of arch->fused whose file tensors hold it */
    uint8_t borrowed;               /* bit k: part k belongs to the adapted before it */
};

static inline int adapted_owns(const struct adapted *a, int k)
{
    return a->part[k] != NULL && !(a->borrowed >> k & 1);
}

enum part_dim { PART_ONE, PART_IN, PART_OUT, PART_RANK };
struct part {
    const char *suffix;             /* "lora_A.weight" */
    uint8_t rows, cols;             /* enum part_dim; vectors are [1, n] */
    uint8_t optional;
};
struct method {
    const char *name;               /* "lora" */
    const char *peft_type;          /* adapter_config.json: "LORA" */
    unsigned at;                    /* SITE_LINEAR | ... */
    struct part parts[PARTS];       /* drives allocation, files and counts */
    /* Initial values; the parts are zero before. `stream` keeps sites apart. */
    void (*init)(struct adapted *a, uint64_t seed, uint64_t stream);
    void (*set_scale)(struct adapted *a);
    /* Build-time hooks of nn_linear; NULL = none. */
    struct tensor *(*before)(struct pass *p, const struct adapted *a, struct tensor *x);
    struct tensor *(*after)(struct pass *p, const struct adapted *a, struct tensor *x,
                            struct tensor *y);
    /* w [out, in] and b [out] (NULL when the adapter has no bias) += sign * what
     * the adapter adds; NULL = cannot be merged. */
    void (*merge)(const struct adapted *a, const struct compute *c, float *w, float *b, float sign);
    uint8_t fused;                  /* can adapt experts that PEFT sees as one parameter */
};
extern const struct method *const methods[];       /* adapt/: NULL-terminated */

struct saved_module;
struct adapter {
    struct adapter *next;
    const char *name;
    const struct method *method;
    int32_t rank;
    float alpha, dropout;
    uint8_t rslora, bias, enabled;  /* bias: lora_B has one */
    uint64_t seed;
    struct adapted *sites;          /* [n_sites] */
    int64_t n_sites;
    struct saved_module *saved;     /* modules_to_save, [n_saved] */
    int64_t n_saved;
    char *base;                     /* base_model_name_or_path of its file, or NULL */
};
/* A tensor that the adapter replaces as a whole (modules_to_save): while the
 * adapter is enabled the model's parameter holds `mine`, or a copy that another
 * adapter, enabled later, put above it. */
struct saved_module {
    struct param *p;
    float *mine;
    const void *old_data;           /* what was there before; while enabled */
    float *old_own;
    const struct qtype *old_type, *old_stored;
    uint8_t was_trainable;          /* before the adapter came */
};

#endif
