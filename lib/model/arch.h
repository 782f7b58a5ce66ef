/* A model family as data: names, settings and style over the one generic
 * transformer (transformer.c).  Presence is the flag: an optional tensor that
 * the file lacks is NULL and is skipped, so biases, q/k norms and heads need no
 * switches. */
#ifndef MODEL_ARCH_H
#define MODEL_ARCH_H

#include "kernel/kernel.h"
#include "store/store.h"

enum rope_kind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3 };

/* Settings of a model, from config.json or GGUF metadata. */
struct hparams {
    int64_t layers, dim, heads, kv_heads, head_dim, ff, vocab, max_len, types, window, rot;
    double eps, theta;
    enum rope_kind rope;
    double rope_factor, rope_low, rope_high, rope_original;   /* rope scaling */
    int64_t labels;
    enum act act;
    int tied;
};

/* One setting: where it goes and what it is called. Several rows for one
 * field are tried in order; the first that is found counts. */
struct key {
    uint16_t at;                 /* offset in struct hparams */
    char kind;                   /* 'i' int64, 'f' double */
    char need;                   /* 'r' required, 'o' optional */
    const char *hf;              /* dotted path in config.json, or NULL */
    const char *gguf;            /* without the "ARCH." prefix, or NULL */
    double absent;               /* value when optional and absent */
    int64_t hi;                  /* largest sane value of an int */
};

enum slot {
    SLOT_EMBED, SLOT_POS, SLOT_TYPE, SLOT_EMBED_NORM, SLOT_FINAL_NORM, SLOT_LM_HEAD, SLOT_POOLER,
    SLOT_CLASSIFIER, SLOT_ROPE_FREQS,
    SLOT_LAYER,                  /* the rest occur once a layer */
    SLOT_ATTN_NORM = SLOT_LAYER, SLOT_Q, SLOT_K, SLOT_V, SLOT_Q_NORM, SLOT_K_NORM, SLOT_O,
    SLOT_FFN_NORM, SLOT_GATE, SLOT_UP, SLOT_DOWN, SLOT_COUNT
};
enum { SITE_LINEAR = 1, SITE_EMBED = 2, SITE_NORM = 4 };
enum {
    SLOT_OPTIONAL = 1,
    SLOT_ROPE_ROWS = 2,          /* GGUF keeps the rows in interleaved rope order */
    SLOT_NO_BIAS = 4,            /* a tensor NAME.bias is never looked for */
    SLOT_HEAD = 8,               /* not part of the body: no default adapter target */
    SLOT_NOT_A_WEIGHT = 16       /* read, but neither counted, trained nor saved */
};
enum dim { DIM_ONE, DIM_MODEL, DIM_Q, DIM_KV, DIM_HEAD, DIM_FF, DIM_VOCAB, DIM_POS, DIM_TYPES,
           DIM_LABELS, DIM_ROT_HALF };
struct slot_row {
    uint8_t slot, kind, flags, rows, cols;
    const char *hf, *gguf;       /* module names, %d = layer; NULL = not in that format */
};

enum { NORM_RMS, NORM_LAYER };
enum { NORM_PRE, NORM_POST };
enum { POS_ROPE, POS_LEARNED };
enum { POOL_LAST, POOL_CLS, POOL_MEAN };
struct style {
    uint8_t norm, norm_at, pos, gated, causal, pool;
    uint8_t gguf_pair;           /* rope pairing of GGUF files: 1 = interleaved */
};
struct arch {
    const char *name;            /* config.json's model_type */
    const char *gguf;            /* general.architecture, or NULL */
    const char *class_lm, *class_cls, *class_base;   /* "LlamaForCausalLM", ... */
    const char *prefix;          /* of the body's names; absent in files of the bare body */
    struct style style;
    const struct key *keys;      /* ended by at == UINT16_MAX */
    const struct slot_row *slots;/* ended by hf == NULL && gguf == NULL */
};
extern const struct arch *const archs[];    /* NULL-terminated; rows in arch.def */

#endif
