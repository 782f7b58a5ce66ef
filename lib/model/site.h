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
    const void *data;               /* mapped, `own` or `packed` */
    float *own;                     /* float32 copy, allocated; or NULL */
    void *packed;                   /* blocks that were made at loading, allocated; or NULL */
    float *grad;                    /* while a trainer runs, else NULL */
    float *state;                   /* then, too: the method's own, `states` times as many floats */
    int32_t layer;                  /* -1 = none */
    int32_t n_dims;
    float lr_ratio;                 /* learning rate over the run's; 0 = 1 */
    uint8_t trainable;
    uint8_t states;                 /* as the method's */
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
    int64_t index;                  /* among the model's */
};

/* One adapter's tensors at one site. */
enum { PARTS = 8, START = 5, COMMON = 2 };
struct adapted {
    const struct method *method;    /* the adapter's, or that of chosen rows beside it */
    struct adapter *adapter;
    struct site *site;
    struct param *part[PARTS];      /* as the method's parts; NULL = absent */
    float *derived;                 /* what inference uses in their stead: see method.derive */
    uint64_t derived_at;            /* the model's `edits` when it was made; 0 = not made */
    int32_t *index;                 /* the method's own, in the adapter's arena; or NULL */
    int32_t rank;
    float alpha, scale;             /* scale: what multiplies the update */
    uint8_t fused;                  /* 1 + the row of arch->fused whose file tensors hold it */
    uint8_t borrowed;               /* bit k: part k belongs to the adapted before it */
    uint8_t at_input;               /* acts on the module's input where it could on its output */
};

static inline int adapted_owns(const struct adapted *a, int k)
{
    return a->part[k] != NULL && !(a->borrowed >> k & 1);
}

enum part_dim { PART_ONE, PART_IN, PART_OUT, PART_RANK };
enum {
    PART_IF_BIAS = 1,               /* there when the adapter has a bias */
    PART_TURNED = 2,                /* files hold it as [cols, rows] */
    PART_START = 8,                 /* frozen initial values, there when the adapter `shifts`; files
                                       hold them with part k - START, whose rank they double, as
                                       the difference adapters that PEFT converts to */
    PART_MATRIX = 4,                /* has two dimensions in files though it has one row */
    PART_EACH = 16                  /* the embedding as output layer has one of its own, where it
                                       shares the other parts */
};
struct part {
    const char *suffix;             /* "lora_A.weight" */
    uint8_t rows, cols;             /* enum part_dim; vectors are [1, n] */
    uint8_t flags;
    uint8_t at;                     /* SITE_* that have it; 0 = linear layers */
};
/* One of a method's settings: a member of adapter_config.json and a field of
 * struct adapter.  Kinds: i int32, f float, b uint8 that is 0 or 1, n a list of
 * names, kept separated by commas, s a string or NULL. */
struct method_setting {
    const char *key;
    char kind;
    uint16_t at;
    double absent, lo, hi;          /* value when absent; the sane range */
};
/* What a method is told of the step that has just been made. */
struct made_step {
    int64_t step, steps;            /* from 0; of the whole run */
    float gscale;                   /* what clipping multiplied the gradients with */
};
/* What rank_pattern says of a module: a number; or AdaLoRA's mask of the ranks that
 * are left, which a->index [rank] holds. */
enum { PATTERN_NONE, PATTERN_NUMBER, PATTERN_MASK };
/* Virtual tokens stand before each text (virtual.c): as rows of embeddings, in
 * front of the encoder's texts where there is one, or as keys and values in every
 * layer. */
enum { VIRTUAL_ROWS = 1, VIRTUAL_KEYS };
struct method {
    const char *name;               /* "lora" */
    const char *peft_type;          /* adapter_config.json: "LORA" */
    const char *mark;               /* a boolean there that tells it from others of that type */
    const char *about;
    const char *config;             /* members of that file that are always the same, or NULL */
    const struct method_setting *settings; /* ended by key NULL */
    struct part parts[PARTS];       /* drives allocation, files and counts */
    struct part common[COMMON];     /* tensors that all modules share, frozen; or none */
    uint64_t slots;                 /* adapted when nothing is asked for; 0 = linear, no head */
    unsigned at;                    /* SITE_LINEAR | ... */
    int32_t rank;                   /* default */
    float lr;                       /* default learning rate */
    uint8_t fused;                  /* can adapt experts that PEFT sees as one parameter */
    uint8_t patterns;               /* rank and alpha may differ by module: PATTERN_* */
    uint8_t states;                 /* floats for each weight that training keeps beside the
                                       optimizer's: param.state, in checkpoints with a->index */
    uint8_t turns_bias;             /* merging changes the module's bias too */
    uint8_t puts_rows;              /* part 0 are rows in the place of the weight's, whose numbers
                                       are `index`, as in g_swap_rows */
    const char *keeps;              /* instead of parts: the module's tensors train whole, and files
                                       have this before "weight" */
    uint8_t virtual;                /* VIRTUAL_*: it adds tokens, as many as the rank, and has its
                                       parts at the embeddings; 0 = it changes modules */
    uint8_t act;                    /* enum act between the layers of the tokens' encoder, */
    float encoder_lr;               /* and the default learning rate with it */
    /* The virtual tokens: [rank or more, width of an embedding], or [rank, layers * (keys,
     * values)]. */
    struct tensor *(*tokens)(struct pass *p, const struct adapted *a);
    /* Changes a part's rows and columns; 0 rows = absent.  NULL = nothing to change. */
    void (*shape)(const struct adapted *a, int k, int64_t *rows, int64_t *cols);
    /* Tables of its own, after the parts are there; NULL = none. */
    int (*begin)(struct model *m, struct adapted *a);
    /* Initial values; the parts are zero before.  `stream` keeps sites apart. */
    int (*init)(struct model *m, struct adapted *a, uint64_t seed, uint64_t stream);
    /* The parts PART_START as `init` made them in PEFT; NULL = it has none. */
    int (*restart)(struct model *m, const struct adapted *a);
    void (*set_scale)(struct adapted *a);
    /* What depends on parts and weights alone is not made anew for every token:
     * derive fills a->derived [derived_len] before inference when something has
     * changed.  NULL = nothing. */
    int64_t (*derived_len)(const struct adapted *a);
    int (*derive)(struct model *m, struct adapted *a);
    /* Build-time hooks of nn_linear: x before, y = W x before the bias, and y with
     * it; and of nn_embed.  NULL = none. */
    struct tensor *(*before)(struct pass *p, const struct adapted *a, struct tensor *x);
    struct tensor *(*after)(struct pass *p, const struct adapted *a, struct tensor *x,
                            struct tensor *y);
    struct tensor *(*last)(struct pass *p, const struct adapted *a, struct tensor *y);
    struct tensor *(*embed)(struct pass *p, const struct adapted *a, const int32_t *ids, int64_t n,
                            struct tensor *y);
    /* Training, NULL = nothing.  Before a run of `steps`, which may fail; the gradients of
     * what is added to the step's loss, which is the result; after the optimizer, while
     * gradients are there. */
    int (*run)(struct model *m, struct adapter *a, int64_t steps);
    double (*regularise)(struct model *m, struct adapter *a);
    void (*stepped)(struct model *m, struct adapter *a, const struct made_step *s);
    /* w [out, in] and b [out] (NULL = the module has none) become what module and
     * adapter are together, from parts and derived; NULL = cannot be merged. */
    void (*merge)(struct model *m, const struct adapted *a, float *w, float *b);
};
extern const struct method *const methods[];       /* adapt/: NULL-terminated */

/* AdaLoRA's schedule, and working memory while it trains. */
struct ranks {
    int32_t target, first, last, every, total;
    float beta1, beta2, orthogonal;
    uint8_t by_run;                 /* `total` is the run's steps */
    uint8_t fixed;                  /* the ranks came with its file */
    float *room;                    /* of the adapter's arena */
};
struct saved_module;
struct token_list { struct site *site; int32_t *ids; int64_t n; };
/* What trained an adapter: for README.md. */
struct card {
    char data[96], hash[65];        /* the training file and its SHA-256, or "" */
    const char *optimizer, *schedule;
    int64_t rows, steps, batch, accumulate, eval_rows;
    uint64_t seed;
    double loss, epochs, lr, decay, eval_loss;
    peft_metric metrics[6];
    int32_t n_metrics;
};
struct adapter {
    struct adapter *next;
    struct arena arena;             /* itself, and all of it but the tensors' values */
    const char *name;
    const struct method *method;
    /* settings; which of them count is the method's to say */
    int32_t rank;
    float alpha, dropout;
    uint8_t rslora, bias;           /* bias: lora_B has one */
    int32_t block, terms, factor;
    float d_initial;
    uint8_t both, neumann;
    uint8_t ties;                   /* ensure_weight_tying: acts on both uses of an embedding that
                                       is the output layer too */
    struct token_list *tokens;      /* rows that train beside it, or alone, [n_tokens] */
    int64_t n_tokens;
    struct ranks ranks;
    uint8_t default_names;          /* those that the method would choose */
    const char *names;              /* modules that the method treats in another way, or NULL */
    struct {                        /* of virtual tokens, as adapter_config.json has them */
        int32_t width, layers, heads, hidden;
        int32_t stacks;             /* num_transformer_submodules: 2 = an encoder has them too */
        int32_t depth;              /* encoder_num_layers, of LSTMs */
        uint8_t projects;           /* prefix_projection */
        uint8_t encodes;            /* an encoder makes the tokens: not once they were saved */
        const char *init, *text, *tokenizer, *kind;
    } virtual;
    struct param *common[COMMON];   /* as the method's */
    uint8_t turned;                 /* fan_in_fan_out: files of its base hold W as [in, out] */
    uint8_t enabled;
    int32_t users;                  /* answers being made with it, which it must outlive */
    float lr_ratio;                 /* LoRA+: learning rate of B over that of A; 0 = 1 */
    const char *start;              /* initial values where the method has several; or NULL */
    struct model *floats;           /* loftq, while it starts: the base before it was quantised */
    uint8_t shifts;                 /* they are taken from the weight: what is added is the
                                       difference to them */
    uint64_t seed;
    struct adapted *sites;          /* [n_sites] */
    int64_t n_sites;
    struct adapted **at;            /* [n_at] the same by the sites' index, NULL where none is */
    int64_t n_at;
    float weight;                   /* multiplies what it adds; 1 = as trained */
    struct saved_module *saved;     /* modules_to_save, [n_saved] */
    int64_t n_saved;
    struct saved_module *merged;    /* weights that hold it while it is folded in, [n_merged] */
    int64_t n_merged;
    struct card *card;              /* of the last training step, or NULL */
    uint64_t born;                  /* card_weights of a new one; 0 = it is from a file */
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
    uint8_t apart;                  /* of the input embedding or the output layer only, which are
                                       one tensor in the model */
};

extern const struct adapter adapter_base;       /* stands for none: the model as it is */

static inline struct adapted *adapted_at(const struct adapter *a, const struct site *s)
{
    struct adapted *d = s->index < a->n_at ? a->at[s->index] : NULL;
    return d && d->site == s ? d : NULL;
}

#endif
