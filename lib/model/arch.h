/* A model family as data: names, settings and style over the one generic
 * transformer (transformer.c).  Presence is the flag: an optional tensor that
 * the file lacks is NULL and is skipped, so biases, norms of q and k, norms
 * after a sub-layer and heads need no switches. */
#ifndef MODEL_ARCH_H
#define MODEL_ARCH_H

#include "kernel/kernel.h"
#include "store/store.h"

/* How the angles of a rotary table differ from the plain ones (rope.c). */
struct rope_kind;
struct rope_scaling {
    const struct rope_kind *kind;       /* NULL = as they are */
    double factor, original;            /* original: the length before the scaling */
    double low, high;                   /* llama3's factors; yarn's slow and fast rotations */
    double attention;                   /* multiplies cosines and sines; 0 = 1 */
    double mscale, mscale_all;          /* yarn: give `attention` where it is not said */
    int64_t exact;                      /* yarn: its range is not rounded */
    const float *divide[2];             /* [rot / 2]: divisors of the frequencies, and those beyond
                                           `original` (longrope); or NULL */
};

/* Settings of a model, from config.json or GGUF metadata. */
struct hparams {
    int64_t layers, dim, heads, kv_heads, head_dim, ff, vocab, max_len, types;
    /* attention */
    int64_t window;              /* keys that a local layer sees (bidirectional: half of them to
                                    each side); 0 = all */
    int64_t full_layers;         /* so many layers at the beginning are global */
    int64_t period;              /* every period-th layer is global, 0 = none (see global_first) */
    int64_t attn_scalar;         /* scores are divided by its root; 0 = head_dim */
    double attn_cap, logit_cap;  /* soft caps, 0 = none */
    /* positions */
    int64_t rot;                 /* rotary dimensions of a head */
    double rot_share;            /* the same as a share of head_dim */
    double theta, local_theta;   /* rope bases; local_theta 0 = the same */
    int64_t nope_period;         /* every nope_period-th layer has no rope, 0 = none */
    int64_t pos_offset;          /* learned positions begin at this row */
    /* pictures; 0 = the input is text */
    int64_t image[2], patch[2];  /* height, width */
    int64_t channels;
    int64_t projection;          /* columns of an embedding; 0 = dim */
    int64_t buckets, far;        /* of distances with a learned bias; from `far` on all are one */
    struct rope_scaling rope[2]; /* of theta, and of local_theta */
    int64_t room;                /* the longest sequence: max_len, or what scaling makes of it */
    /* block */
    int64_t post_norm;           /* norms follow the sums; the family's, or as the file says */
    int64_t embed;               /* width of embeddings and of what the head reads: dim */
    int64_t alibi;               /* ALiBi as Falcon has it, instead of rotary positions */
    int64_t parallel;            /* attention and feed-forward read the same input */
    int64_t experts, experts_used, expert_ff;   /* 0 = one dense feed-forward */
    int64_t experts_norm;        /* the chosen experts' shares are scaled to sum to 1 */
    double eps;
    enum act act;
    int64_t labels;
    int tied;
    /* encoder-decoder models: their layers together are `layers`, the encoder's first */
    int64_t enc_layers, dec_layers;
    int64_t start_id;            /* what a target begins with */
    int64_t scale_out;           /* the decoder's output is divided by the root of dim */
    int64_t encdec;              /* is_encoder_decoder of config.json */
};

/* One setting: where it goes and what it is called.  Several rows for one
 * field are tried in order; the first that is found counts.  A row without
 * names is the family's constant. */
struct key {
    uint16_t at;                 /* offset in struct hparams */
    char kind;                   /* 'i' int64, 'd' the same where 0 is a value (a token's id), 'f'
                                    double, 'b' boolean into int64; 'x' belongs to no field: a
                                    boolean that must be false or absent */
    char need;                   /* 'r' required, 'o' optional */
    const char *hf;              /* dotted path in config.json, or NULL */
    const char *gguf;            /* without the "ARCH." prefix, or NULL */
    double absent;               /* value when optional and absent */
    int64_t hi;                  /* largest sane value of an int */
};

enum slot {
    SLOT_EMBED, SLOT_POS, SLOT_TYPE, SLOT_EMBED_NORM, SLOT_FINAL_NORM, SLOT_LM_HEAD,
    SLOT_LM_DENSE, SLOT_LM_NORM, SLOT_LM_BIAS,   /* of masked language models */
    SLOT_POOLER, SLOT_HEAD_NORM, SLOT_CLASSIFIER, SLOT_ROPE_FREQS, SLOT_ROPE_SHORT, SLOT_ROPE_LONG,
    SLOT_PATCH, SLOT_CLASS, SLOT_PROJECTION,
    SLOT_ENC_NORM,
    SLOT_EMBED_IN, SLOT_EMBED_OUT,  /* between embeddings of another width and the layers */
    SLOT_LAYER,                  /* the rest occur once a layer */
    SLOT_ATTN_NORM = SLOT_LAYER, SLOT_QKV, SLOT_Q, SLOT_K, SLOT_V, SLOT_Q_NORM, SLOT_K_NORM, SLOT_O,
    SLOT_ATTN_POST,              /* norm of the sub-layer's output, before it is added */
    SLOT_BIAS,                   /* of scores by distance: this layer's and those after it */
    SLOT_CROSS_NORM, SLOT_CROSS_Q, SLOT_CROSS_K, SLOT_CROSS_V, SLOT_CROSS_O,
    SLOT_FFN_NORM, SLOT_GATE_UP, SLOT_GATE, SLOT_UP, SLOT_DOWN, SLOT_FFN_POST, SLOT_ROUTER,
    SLOT_EXPERT,                 /* the rest occur once an expert */
    SLOT_X_GATE = SLOT_EXPERT, SLOT_X_UP, SLOT_X_DOWN, SLOT_COUNT
};
/* SITE_BIAS: a vector NAME.bias without a weight. */
enum { SITE_LINEAR = 1, SITE_EMBED = 2, SITE_NORM = 4, SITE_CONV = 8, SITE_BIAS = 16 };
enum {
    SLOT_OPTIONAL = 1,
    SLOT_ROPE_ROWS = 2,          /* GGUF keeps the rows in interleaved rope order */
    SLOT_NO_BIAS = 4,            /* a tensor NAME.bias is never looked for */
    SLOT_HEAD = 8,               /* not part of the body: no default adapter target */
    SLOT_NOT_A_WEIGHT = 16,      /* read, but neither counted, trained nor saved */
    SLOT_OF_HEAD = 32,           /* of the classification head: made and trained with it */
    SLOT_TRANSPOSED = 64,        /* Hugging Face keeps W as [in, out] (GPT-2's Conv1D) */
    SLOT_TENSOR = 128,           /* the name is the tensor's own, without ".weight" */
    SLOT_FOLDED = 256,           /* more dimensions in the file, in the order of [rows, cols] */
    SLOT_IDLE = 512,             /* kept for saving, read by nothing that we compute */
    SLOT_ENCODER = 1024,         /* of the layers of an encoder-decoder model's encoder */
    SLOT_GATED = 2048,           /* only where the layer has a gate, whose row comes before */
    SLOT_FOR = 65536             /* << enum head_id: the row counts with these heads only; none of
                                    these bits: with all */
};
enum dim { DIM_ONE, DIM_MODEL, DIM_Q, DIM_KV, DIM_QKV, DIM_HEAD, DIM_FF, DIM_FF2, DIM_VOCAB,
           DIM_POS, DIM_TYPES, DIM_LABELS, DIM_ROT_HALF, DIM_EMBED, DIM_EXPERTS, DIM_EXPERT_FF,
           DIM_PATCH, DIM_PROJECTION, DIM_BUCKETS, DIM_HEADS };
/* An encoder-decoder model has two stacks of layers, others the main one only. */
enum { STACK_MAIN, STACK_ENCODER, STACKS };
static inline int stack_of(uint32_t flags)
{
    return flags & SLOT_ENCODER ? STACK_ENCODER : STACK_MAIN;
}
/* Several rows for one slot are tried in order; only the last need be required. */
struct slot_row {
    uint8_t slot, kind;
    uint32_t flags;
    uint8_t rows, cols;
    const char *hf, *gguf;       /* module names, the first %d = layer of its stack, the second =
                                    expert; NULL = not in that format */
};

/* What stands on the body. */
enum head_id { HEAD_LM, HEAD_BODY, HEAD_CLASS, HEAD_MULTI, HEAD_REGRESS, HEAD_REWARD, HEAD_TOKENS,
               HEAD_SPAN, HEAD_MASKED, HEAD_IDS };
struct head_kind {
    const char *name;            /* peft_head_opts.kind */
    const char *suffix;          /* of the class in transformers; NULL: by the family's own names */
    const char *problem;         /* config.json's problem_type, or NULL */
    const char *task_type;       /* adapter_config.json's, or NULL */
    int32_t labels;              /* outputs; 0 = as many as there are labels */
    uint8_t each_token;          /* outputs for every token, not for the sequence */
    const char *about;
};
extern const struct head_kind head_kinds[HEAD_IDS];
/* Experts that transformers 5 holds as one parameter [experts, out, in], and PEFT
 * adapts as such (target_parameters).  In the order of the module's parameters. */
struct fused_row {
    const char *module, *param;  /* "model.layers.%d.mlp.experts", "gate_up_proj"; NULL = end */
    uint8_t slots[2];            /* whose outputs follow each other; the second may be 0 */
};

enum { NORM_RMS, NORM_LAYER };
enum { NORM_PRE, NORM_POST };    /* POST: of the sum with the residual */
enum { POS_ROPE, POS_LEARNED, POS_ALIBI, POS_DISTANCE };
enum { POOL_LAST, POOL_CLS, POOL_MEAN, POOL_WEIGHTED, POOL_KINDS };
enum image_style { IMAGE_NONE, IMAGE_VIT, IMAGE_CLIP };
extern const char *const pool_names[POOL_KINDS];   /* peft_head_opts.pool */
struct style {
    uint8_t norm, norm_at, pos, causal, pool;
    uint8_t norm_plus;           /* Hugging Face's norms multiply by 1 + w, GGUF's by w */
    uint8_t embed_scale;         /* embeddings are multiplied by the root of dim */
    uint8_t act;                 /* where the file does not say; enum act */
    uint8_t tied;                /* embeddings are tied where config.json does not say */
    uint8_t qkv_groups;          /* Hugging Face's fused q, k, v are interleaved by key head; GGUF's
                                    follow each other */
    uint8_t global_first;        /* the global layer begins a period instead of ending it */
    uint8_t head_act;            /* after SLOT_POOLER; enum act */
    const char *span_prefix;     /* of the body's names below a head for answers; NULL = as ever */
    uint8_t gguf_pair;           /* rope pairing of GGUF files: 1 = interleaved */
    uint8_t gated_act;           /* where the file does not say and there is a gate; 0 = `act` */
    const char *act_key;         /* config.json's name of the activation, which has "gated-" before
                                    it where there is a gate; NULL = "hidden_act" */
    const char *hf_class;        /* of families that share a model_type: this one has only models of
                                    this class; NULL = any */
    uint8_t gguf_bare;           /* GGUF has no biases of this family */
    uint8_t scalar;              /* scores have a divisor of their own; see gguf_scalar */
    uint8_t image;               /* enum image_style: defaults of the preprocessor */
    /* Pieces of names in Hugging Face's files and what stands for them in
     * transformers' memory, and so in PEFT's files; applied in order, ended by
     * NULL.  NULL = the names are the same. */
    const char *const (*renames)[2];
    const char *class_projection;    /* the body's class with SLOT_PROJECTION */
    const struct fused_row *fused;      /* or NULL */
};
/* What the tensors of a model from GGUF tell. */
struct told { int bias, two_norms; };
struct arch {
    const char *name;            /* config.json's model_type */
    const char *gguf;            /* general.architecture, or NULL */
    const char *gguf_if;         /* of families that share it the first counts whose setting of this
                                    name is there and not 0, or, as "!NAME", which lacks that
                                    tensor; NULL = any */
    const char *class_lm, *class_cls, *class_base;   /* "LlamaForCausalLM", ... */
    const char *prefix;          /* of the body's names; absent in files of the bare body */
    struct style style;
    const struct key *keys;      /* ended by at == UINT16_MAX */
    const struct slot_row *slots;/* ended by kind == 0 */
    /* What no key can say, after the keys were read; NULL = nothing. */
    int (*settle)(const struct store *s, struct hparams *hp);
    /* The inverse: config.json's members that settle reads; NULL = nothing. */
    void (*tell)(const struct hparams *hp, const struct told *t, struct buf *b, int *n);
};
void put_member(struct buf *b, const char *key, int *n);    /* of config.json; save.c */
extern const struct arch *const archs[];    /* NULL-terminated; rows in arch.def */

#endif
