/* libpeft: parameter-efficient fine-tuning as an embeddable C library.
 *
 * The header follows the flow of the data: file -> model -> what is trained
 * -> data set -> trainer -> adapter or model file -> generation.
 *
 * Threads    A function taking `const T *` may run concurrently with other
 *            such functions on the same object; a function taking `T *` needs
 *            the object for itself.  Distinct models share no mutable state.
 *            Data sets and trainers belong to the model they were made from.
 * Ownership  What `*_load` and `*_new` return is yours; release it with the
 *            matching `*_free`, which accepts NULL.  Strings and views that
 *            are returned live as long as the object they came from.  Free
 *            trainers before their data sets, and both before their model.
 * Errors     Every function that can fail returns PEFT_OK (0) or a negative
 *            PEFT_E* code and leaves a one-line reason in peft_errmsg() of
 *            the calling thread.  A failed call leaves its objects and files
 *            as they were.  The library never prints, exits, aborts, reads
 *            environment variables or installs signal handlers.
 * Options    An options struct begins with `size_t size` = sizeof(struct);
 *            zero in any other field means its default, and a NULL pointer
 *            means all defaults.  Result structs begin with `size` too and
 *            are filled up to the size that the caller gives.
 * Text       UTF-8, by pointer and length or NUL-terminated as stated.
 */
#ifndef PEFT_H
#define PEFT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef PEFT_API
#if defined(__GNUC__)
#define PEFT_API __attribute__((visibility("default")))
#else
#define PEFT_API
#endif
#endif

#define PEFT_VERSION 100 /* 0.1.0: major * 10000 + minor * 100 + patch */

enum {
    PEFT_OK = 0,
    PEFT_EARG = -1,          /* an argument is out of its documented range */
    PEFT_ENOMEM = -2,        /* the allocator returned NULL, or a limit was met */
    PEFT_EIO = -3,           /* a file could not be read or written */
    PEFT_EFORMAT = -4,       /* a file's content breaks its format */
    PEFT_EUNSUPPORTED = -5,  /* well formed, but not something we can do */
    PEFT_ENOTFOUND = -6,     /* no such file, tensor, adapter, label ... */
    PEFT_ESTATE = -7,        /* the call does not fit the object's state */
    PEFT_ENONFINITE = -8,    /* a loss or gradient is NaN or infinite */
    PEFT_ECANCELLED = -9,    /* peft_trainer_cancel or a callback asked to stop */
    PEFT_EEND = -10,         /* there is no further training step */
    PEFT_EDATA = -11         /* a training row cannot be used */
};

/* The version of the library that is linked, as PEFT_VERSION.  Any thread. */
PEFT_API int32_t peft_version(void);
/* The name of a code, "PEFT_EIO"; "PEFT_E?" for an unknown one.  Any thread. */
PEFT_API const char *peft_errname(int32_t code);
/* The reason of the last failure in this thread; "" when there was none.
 * Valid until the next libpeft call in this thread. */
PEFT_API const char *peft_errmsg(void);

/* Makes `reason` the message of this thread and returns `code`: for callbacks that fail, and
 * for libraries above this one. */
PEFT_API int32_t peft_fail(int32_t code, const char *reason);

/* ------------------------------------------------------------------ host */

/* File access for hosts with their own file system; also what the fault
 * tests replace.  Every function returns a negative errno value on failure
 * (open: through *err).  Functions may be called from one thread at a time. */
typedef struct peft_io {
    size_t size;
    void *ctx;
    void *(*open)(void *ctx, const char *path, int32_t write, int32_t *err);
    int64_t (*length)(void *ctx, void *file);
    int64_t (*read)(void *ctx, void *file, int64_t offset, void *to, int64_t n);
    int64_t (*write)(void *ctx, void *file, const void *from, int64_t n);
    int32_t (*sync)(void *ctx, void *file);
    int32_t (*close)(void *ctx, void *file);
    /* Maps a whole file read-only; NULL function or NULL result: the library
     * reads the file into allocated memory. */
    const void *(*map)(void *ctx, void *file, int64_t n);
    void (*unmap)(void *ctx, const void *at, int64_t n);
    int32_t (*rename)(void *ctx, const char *from, const char *to);
    int32_t (*remove)(void *ctx, const char *path); /* file or empty folder */
    int32_t (*mkdir)(void *ctx, const char *path);
    int32_t (*sync_dir)(void *ctx, const char *path);
    int32_t (*kind)(void *ctx, const char *path); /* 0 none, 1 file, 2 folder */
    /* Calls `each` with every entry's name; stops when it returns non-zero. */
    int32_t (*list)(void *ctx, const char *path,
                    int32_t (*each)(void *arg, const char *name), void *arg);
} peft_io;
/* Fills *out (its `size` set by the caller) with the operating system's. */
PEFT_API int32_t peft_io_default(peft_io *out);

/* ----------------------------------------------------------------- system */

typedef struct peft_system {
    size_t size;
    char cpu[64];        /* the processor's own name */
    char level[16];      /* kernel level in use: "avx512", "avx2", "neon", "c" */
    int32_t cores;       /* usable ones: affinity and cgroup quota respected */
    char blas[160];      /* what answers matrix products, and its version */
    char blas_core[32];  /* the kernel set that it picked for this processor */
    char advice[320];    /* "" when nothing is wrong; else what to do */
    double gflops;       /* one thread's sgemm speed, measured in some 30 ms */
    int64_t memory_total, memory_available; /* bytes, cgroup limit respected */
} peft_system;
/* What the library found on this machine.  Any thread. */
PEFT_API int32_t peft_system_info(peft_system *out);

/* One row of what the library works with.  Fields that do not apply are "". */
typedef struct peft_entry {
    size_t size;
    char name[32];       /* "llama", "Q4_1", "GGUF" */
    char kind[32];       /* families: "decoder", "encoder"; types: "4.5 bits" */
    char hf[160];        /* classes, or the container in Hugging Face's layout */
    char gguf[32];       /* general.architecture; types: "yes" */
    char about[160];     /* for people */
} peft_entry;
/* Row i, from 0, of the table "families", "formats", "types" (of stored tensors),
 * "tokenizers" or "heads".  PEFT_EEND after the last.  Any thread. */
PEFT_API int32_t peft_list(const char *table, int32_t i, peft_entry *out);

/* ------------------------------------------------------------------ model */

typedef struct peft_model peft_model;
typedef struct peft_dataset peft_dataset;
typedef struct peft_trainer peft_trainer;

typedef struct peft_load_opts {
    size_t size;
    int32_t threads;      /* 0 = one per usable core; at most 32 */
    int32_t no_map;       /* 1 = read the weights into memory instead of mapping */
    const char *level;    /* kernel level: NULL = best; "c", "avx2", "avx512" */
    const char *blas;     /* NULL = best found; "none" = built in; or a file */
    /* realloc-like: new_size 0 frees and returns NULL; NULL on failure. */
    void *(*alloc)(void *ctx, void *ptr, size_t old_size, size_t new_size);
    void *alloc_ctx;
    const peft_io *io;    /* copied */
    void (*log)(void *ctx, int32_t level, const char *line); /* 1 warn, 2 info */
    void *log_ctx;
    /* Linear layers of floats are quantised while loading, one by one; embeddings,
     * norms, routers and heads stay as they are, and so do tensors that are quantised
     * already.  NULL = none; "nf4", "fp4", "nf4_dq", "fp4_dq": as bitsandbytes' Linear4bit
     * (QLoRA, Dettmers et al. 2023), _dq with double quantisation; "q4_0", "q4_1", "q4_k",
     * "q5_0", "q5_1", "q5_k", "q6_k", "q8_0": GGML's blocks (rows that are no whole
     * blocks get a larger type).  PEFT_EARG for other names, PEFT_EUNSUPPORTED when
     * there is no layer to quantise. */
    const char *quant;
    /* Matrix products: NULL = "f32", where there is AMX by it, each number being the exact sum of
     * three of bfloat16 (Henry, Tang & Heinecke 2019), those below 2^-126 zeros; "bf16": of
     * numbers rounded to bfloat16, by AMX or AVX512-BF16 (PEFT_EUNSUPPORTED without); "auto": bf16
     * where the processor has it. */
    const char *compute;
    int32_t any_base;     /* 1 = adapters load that were trained on other weights than this
                             model's, if their shapes fit: see peft_adapter_load */
} peft_load_opts;

/* Loads a GGUF file, a *.safetensors file beside its config.json, or a folder
 * in Hugging Face layout (config.json, *.safetensors or its sharded index,
 * tokenizer files if any).  Weights stay as stored and are mapped, so loading
 * costs little.  As in PyTorch, everything counts as trainable until frozen;
 * the first adapter freezes the rest.
 * Errors: PEFT_ENOTFOUND, PEFT_EIO, PEFT_EFORMAT, PEFT_EUNSUPPORTED (unknown
 * architecture or tensor type, pickles), PEFT_ENOMEM. */
PEFT_API int32_t peft_model_load(const char *path, const peft_load_opts *opts,
                                 peft_model **out);
PEFT_API void peft_model_free(peft_model *model);

typedef struct peft_save_opts {
    size_t size;
    const char *dtype;    /* float tensors: NULL = as held, "f32", "f16", "bf16";
                             in GGUF also "q8_0", "q6_k", "q5_k", "q5_1", "q5_0",
                             "q4_k", "q4_1", "q4_0" (rows that are no whole blocks
                             get a larger type, as in llama.cpp); in folders also
                             "nf4", "fp4", "nf4_dq", "fp4_dq": linear layers as
                             bitsandbytes keeps them in 4 bits, _dq with double
                             quantisation (Dettmers et al. 2023), or "held": those
                             that are in such blocks now */
    int64_t shard_bytes;  /* 0 = 5 GB a file */
    /* Called after each tensor, in bytes; non-zero ends with PEFT_ECANCELLED. */
    int32_t (*progress)(void *ctx, int64_t done, int64_t total);
    void *ctx;
} peft_save_opts;
/* Writes the model with what was trained or merged: to a folder in Hugging
 * Face layout, or to one GGUF file when `path` ends in ".gguf".  A folder gets
 * quantised tensors as floats, since safetensors has no such types, and what
 * transformers reads beside the weights: generation_config.json and tokenizer
 * files as they were, or made.  The old file or folder is replaced only once the
 * new one is whole. */
PEFT_API int32_t peft_model_save(const peft_model *model, const char *path,
                                 const peft_save_opts *opts);

typedef struct peft_info {
    size_t size;
    char family[32];         /* "llama", "bert", ... */
    char name[96];           /* the model's own name, else its file's */
    char format[32];         /* "gguf", "safetensors" */
    char types[96];          /* stored types: "Q4_1 x210, F32 x61" */
    int32_t layers, dim, heads, kv_heads, head_dim, ff_dim;
    int32_t vocab;           /* rows of the embedding */
    int32_t max_len;         /* positions the model was made for */
    int32_t labels;          /* of the classification head; 0 = language model */
    int32_t has_tokenizer, has_chat_template;
    int32_t causal;          /* 1 = decoder, 0 = encoder */
    int64_t params;          /* weights of the model, adapters not counted */
    int64_t trainable;       /* weights a trainer would change now */
    int64_t params_total;    /* model, head and adapters together */
    int64_t weight_bytes;    /* as stored */
    int32_t n_tensors, n_adapters;
    int32_t bos, eos, pad;   /* token ids; -1 = none */
    int32_t image_height, image_width, channels; /* a model of pictures; else 0 */
    int32_t embed_dim;       /* of peft_embed and peft_embed_image */
    int32_t encoder_layers;  /* of an encoder-decoder model, the first of `layers`; else 0 */
    int32_t decoder_start;   /* the token that its targets begin with; -1 = none */
    char head[32];           /* as peft_head_opts.kind; "language-model", or "embedding" for the
                                body alone */
    int32_t outputs;         /* columns of peft_forward, 0 = none */
    int32_t each_token;      /* 1 = peft_forward has a row for each token */
} peft_info;
PEFT_API int32_t peft_model_info(const peft_model *model, peft_info *out);

typedef struct peft_param {
    size_t size;
    const char *name;        /* Hugging Face's name, whatever the file */
    const char *type;        /* "F32", "Q4_1", ... as held now */
    int64_t rows, cols;      /* [out, in]; vectors are [1, n] */
    int32_t layer;           /* 0-based; -1 = not in a layer */
    int32_t trainable;
} peft_param;
/* The i-th tensor, 0 <= i < n_tensors, adapters' tensors after the model's. */
PEFT_API int32_t peft_model_param(const peft_model *model, int32_t i,
                                  peft_param *out);
/* Copies a tensor as float32, row-major; `cap` in floats.  Returns rows*cols,
 * also when `to` is NULL (to ask for the size). */
PEFT_API int64_t peft_model_read(const peft_model *model, const char *name,
                                 float *to, int64_t cap);

/* The way back, of a tensor that a trainer has trained: `n` must be rows*cols.  PEFT_ENOTFOUND
 * for any other, PEFT_ESTATE while a trainer is alive. */
PEFT_API int32_t peft_model_write(peft_model *model, const char *name, const float *from,
                                  int64_t n);

/* --------------------------------------------------------- what is trained */

/* Weights of the layers first..last train no more: 0-based, both inclusive,
 * negative counting from the end (-1 = last); an encoder's come before its
 * decoder's.  Embeddings and head are not part of a layer: freeze them by name. */
PEFT_API int32_t peft_freeze_layers(peft_model *model, int32_t first, int32_t last);
/* Globs match Hugging Face names; `*` and `?` cross dots, and commas separate
 * alternatives: "*.bias", "model.layers.2?.*,lm_head.*".  PEFT_ENOTFOUND when
 * nothing matches.  Only float tensors train: see peft_to_float. */
PEFT_API int32_t peft_freeze(peft_model *model, const char *glob);
PEFT_API int32_t peft_unfreeze(peft_model *model, const char *glob);

/* Turns matching tensors that are not float32 into float32 copies, the form in
 * which they can train.  *bytes (may be NULL) receives the memory it takes;
 * with `only_cost` 1 nothing else is done. */
PEFT_API int32_t peft_to_float(peft_model *model, const char *glob,
                               int32_t only_cost, int64_t *bytes);

typedef struct peft_head_opts {
    size_t size;
    int32_t labels;               /* number of classes, >= 2 (1: regression) */
    const char *const *names;     /* their names, or NULL */
    const char *pool;             /* NULL = the family's: "last", "cls", "mean" */
    float dropout;                /* before the head while training */
    uint64_t seed;                /* of its initial values */
    const char *kind;             /* NULL = "classification" (one label: "regression"),
                                     "multi-label", "regression", "reward", "tokens",
                                     "question-answering", "masked-lm" */
} peft_head_opts;
/* Adds a new last layer that maps the pooled hidden state to `labels` logits
 * and takes the place of the language-model head.  It is trainable.  The name
 * is the family's in Hugging Face ("score.weight", "classifier.weight"). */
PEFT_API int32_t peft_head_add(peft_model *model, const peft_head_opts *opts);
/* The name of class `i`, or NULL when there is no such class. */
PEFT_API const char *peft_label_name(const peft_model *model, int32_t i);

typedef struct peft_adapter_opts {
    size_t size;
    const char *method;           /* NULL = "lora"; peft_list("methods") has all */
    const char *targets;          /* comma-separated module names or globs;
                                     NULL = every linear layer but the head */
    int32_t rank;                 /* 0 = the method's, 16 of LoRA, 12 of AdaLoRA, which begins
                                     with it; of prompt, ptuning and prefix the number of
                                     virtual tokens, 20 */
    float alpha;                  /* 0 = 2 * rank */
    float dropout;                /* on the adapter's input while training */
    int32_t rslora;               /* 0 = default (on), 1 = on, -1 = off */
    const char *modules_to_save;  /* full modules trained beside; NULL = none,
                                     the classification head always; of several
                                     enabled adapters that keep the same module
                                     the one enabled last counts */
    uint64_t seed;
    const char *target_parameters; /* experts as one parameter, as PEFT adapts them in
                                     transformers 5: "mlp.experts.gate_up_proj,
                                     mlp.experts.down_proj"; NULL = none.  What it
                                     names is left out of `targets`; without dropout */
    const char *settings;         /* JSON object of the method's members of PEFT's
                                     adapter_config.json, which count over the fields
                                     here: "{\"rank_pattern\": {\"q_proj\": 8}}"; NULL = none */
    const char *init;             /* of LoRA: "kaiming" (NULL), "gaussian", "pissa",
                                     "olora"; the base is never changed, and the last
                                     two save as rank-2r difference adapters.  "loftq" (Li
                                     et al. 2023): on a quantised base, scale B A as near
                                     as can be to what quantising took from each weight.
                                     EVA: peft_adapter_init_eva */
    float lr_ratio;               /* LoRA+ (Hayou et al. 2024): learning rate of B over
                                     that of A; 0 = 1 */
    const char *init_model;       /* of loftq: the float model's file or folder; NULL = the
                                     base's own, when it was quantised by peft_load_opts.quant
                                     or peft_quantize (else PEFT_EARG) */
    const char *trainable_tokens; /* rows of the input embedding that train, whole, beside LoRA
                                     or DoRA, or alone with method "tokens": ids or texts of
                                     tokens, "<|im_start|>,<|im_end|>,17"; NULL = none.  Other
                                     modules: `settings`, {"trainable_token_indices":
                                     {"lm_head": [1, 2]}} */
} peft_adapter_opts;
/* Adds a trainable adapter.  Methods with virtual tokens (prompt, ptuning, prefix) put
 * them before every text, which leaves the model less room for its own tokens; of
 * these adapters one can be enabled at a time (else PEFT_ESTATE).  An adapter of a
 * model that has none freezes all other weights but the classification head's, as PEFT does;
 * peft_unfreeze can follow.
 * Names: letters, digits, '-', '_'; "default" is what PEFT calls its own. */
PEFT_API int32_t peft_adapter_add(peft_model *model, const char *name,
                                  const peft_adapter_opts *opts);
/* Reads an adapter.  It is enabled and trainable.  `path` is one of
 * - a folder with adapter_config.json + adapter_model.safetensors, as written by
 *   PEFT or by us: every method;
 * - a folder with adapter_config.json + adapters.safetensors, as written by
 *   MLX-LM: LoRA, DoRA and whole tensors;
 * - a GGUF file with general.type "adapter", as llama.cpp loads it: LoRA.
 * Ranks and scales are those that the file's own reader computes with.
 * Tensors that fit no module, modules without tensors, shapes that differ and
 * values that are not finite are PEFT_EFORMAT, and the message hints at the model
 * it may be for.  Our own folders know theirs by its size and some of its weights:
 * an adapter of other weights is PEFT_EFORMAT too, unless the model was loaded with
 * any_base; the same model in other types, or trained further, counts as the same.
 * Of PEFT's files a name of the base that differs is a warning in the log. */
PEFT_API int32_t peft_adapter_load(peft_model *model, const char *name,
                                   const char *path);
/* Writes the folder that Hugging Face PEFT loads or, where `path` ends in ".gguf",
 * the file that llama.cpp loads beside the base. */
PEFT_API int32_t peft_adapter_save(const peft_model *model, const char *name,
                                   const char *path);
typedef struct peft_adapter_save_opts {
    size_t size;
    const char *format;           /* "peft", "gguf", "mlx"; NULL = by the path, as above */
    const char *dtype;            /* of its tensors: "f32" (NULL), "f16", "bf16" */
} peft_adapter_save_opts;
/* The same with options (NULL = all as above).  GGUF and MLX files have one scale
 * for all modules; where modules differ, B is multiplied by the rest, and what
 * PiSSA and OLoRA began with becomes rank-2r LoRA.  PEFT_EUNSUPPORTED, with the
 * way out, for what a format cannot say: in GGUF other methods than LoRA, lora_bias,
 * modules_to_save, and modules for which llama.cpp has no name; in MLX other methods
 * than LoRA and DoRA, lora_bias, classification heads. */
PEFT_API int32_t peft_adapter_save_as(const peft_model *model, const char *name,
                                      const char *path, const peft_adapter_save_opts *opts);
/* PEFT_ESTATE when it has virtual tokens and another enabled adapter has. */
PEFT_API int32_t peft_adapter_enable(peft_model *model, const char *name);
PEFT_API int32_t peft_adapter_disable(peft_model *model, const char *name);
PEFT_API int32_t peft_adapter_remove(peft_model *model, const char *name);
/* Adds the adapter into the weights and removes it.  Quantised tensors become
 * float32 copies (peft_to_float tells what that costs).  PEFT_ENONFINITE, here and
 * below, when a weight would not stay finite; nothing has changed then. */
PEFT_API int32_t peft_adapter_merge(peft_model *model, const char *name);
/* on 1: folds the adapter into float32 copies of the weights, in which it then
 * runs at no cost; 0: takes it out again, which leaves the weights as they were,
 * bit for bit.  Several come out in the reverse order (else PEFT_ESTATE).  While
 * it is in, it cannot be trained, enabled, disabled, weighted or removed. */
PEFT_API int32_t peft_adapter_set_merged(peft_model *model, const char *name, int32_t on);
/* Multiplies what an adapter adds (LoRA, DoRA's direction, LoHa, LoKr): 1 = as
 * trained, 0 = nothing, -1 = the opposite.  Enabled adapters add up.  Files do
 * not hold it.  PEFT_EUNSUPPORTED for methods that add nothing. */
PEFT_API int32_t peft_adapter_set_weight(peft_model *model, const char *name, float weight);
typedef struct peft_combine_opts {
    size_t size;
    const char *how;          /* "linear" (NULL), "cat" (the exact sum), "svd", "ties",
                                 "magnitude_prune", "dare_linear", "dare_ties" */
    float density;            /* share of values that the last four keep; 0 = 1 */
    int32_t rank;             /* of svd; 0 = the largest */
    uint64_t seed;            /* of dare */
} peft_combine_opts;
/* Makes the LoRA adapter `name` of n others (1 to 64), weights[i] times each, as
 * PEFT's add_weighted_adapter; it is enabled and the others stay as they are, so
 * they are usually disabled or removed next.  All but cat and svd need equal
 * ranks.  PEFT_EUNSUPPORTED for adapters that are not plain LoRA. */
PEFT_API int32_t peft_adapter_combine(peft_model *model, const char *name,
                                      const char *const *names, const float *weights,
                                      int32_t n, const peft_combine_opts *opts);

/* ------------------------------------------- adapter files and their readers */

enum { PEFT_LOADS = 0, PEFT_REFUSES = 1, PEFT_MISREADS = 2 };
typedef struct peft_finding {
    const char *reader;      /* whose it is */
    int32_t verdict;         /* what follows from it; PEFT_LOADS: only worth knowing */
    char found[96];          /* the member of adapter_config.json, or the tensor */
    const char *why, *fix;   /* one line each; fix may be "" */
} peft_finding;
enum { PEFT_READERS = 3, PEFT_FINDINGS = 48 };
typedef struct peft_adapter_report {
    size_t size;
    char method[32];         /* "lora", "dora", or the file's peft_type */
    int64_t rank;            /* of a LoRA */
    int64_t tensors;
    int32_t n_readers;       /* that were asked for */
    const char *readers[PEFT_READERS];
    int32_t verdicts[PEFT_READERS];  /* PEFT_LOADS: with the values that were trained */
    int32_t n_findings;
    peft_finding findings[PEFT_FINDINGS];
} peft_adapter_report;
typedef struct peft_check_opts {
    size_t size;
    const char *reader;      /* "peft" (Hugging Face, 0.21), "vllm", "llama.cpp" (through its
                                convert_lora_to_gguf.py); NULL = all three */
    const peft_model *base;  /* whose modules and shapes the tensors must be; or NULL */
    const peft_load_opts *host; /* memory and files where there is no base; or NULL */
} peft_check_opts;
/* Whether other programs load an adapter's folder (or a GGUF file of a LoRA), refuse
 * it, or load it without an error and compute something else: by a table of what
 * their sources do (lib/adapt/readers.c).  A folder that readers refuse is no failure
 * of this call; PEFT_EFORMAT is a file of it that is broken, PEFT_ENOTFOUND no such
 * folder, PEFT_EARG an unknown reader. */
PEFT_API int32_t peft_adapter_check(const char *dir, const peft_check_opts *opts,
                                    peft_adapter_report *out);

typedef struct peft_convert_opts {
    size_t size;
    const char *reader;      /* for which it is, as above; "peft" keeps what only PEFT reads;
                                NULL = for all three */
    const char *format;      /* "peft", "gguf", "mlx", as in peft_adapter_save_as; NULL = by path */
    const char *dtype;       /* of tensors: "f32", "f16", "bf16" (NULL = "f32"); of merged weights
                                as in peft_save_opts (NULL = as held) */
    int32_t merge;           /* 1 = the base with the adapter in its weights: a folder, or a GGUF
                                file when the path ends in ".gguf" */
    int32_t rank;            /* > 0: what cannot be folded, or has a larger rank, becomes a LoRA of
                                this rank, by SVD of what merging would add to each weight */
    const char *const *texts; /* that prove it, [n_texts]; NULL = built in, random ids where the
                                 model has no tokenizer */
    int32_t n_texts;
    double limit;            /* largest logit difference; 0 = 1e-4, with an SVD any */
} peft_convert_opts;
typedef struct peft_converted {
    size_t size;
    char kind[16];           /* "lora", "merged", or the method where it stayed as it was */
    int32_t rank;            /* of a LoRA */
    int32_t texts;           /* that were compared */
    int64_t tokens;
    double max_logit_diff;   /* of the original and the file that was written, on them */
    double weight_error;     /* of an SVD: |W' - W - s B A| / |W' - W| over all modules, else 0 */
} peft_converted;
/* Turns the adapter at `path` into one that a reader reads right, and writes it to
 * `out`: a LoRA of one rank with alpha / rank as its scale (rsLoRA's root and patterns
 * go into alpha and B, PiSSA's and OLoRA's initial values into a difference of rank
 * 2r), or merged weights.  What was written is loaded again and compared on some
 * texts; PEFT_EUNSUPPORTED, and no file stays, where the logits differ by more than
 * the limit, and where folding is not possible (then merge, or a rank).  The model is
 * the adapter's base, without adapters (else PEFT_ESTATE); it is as before when the
 * call returns, but for a head that the adapter brought along and for `merge`, after
 * which only peft_model_free is of use. */
PEFT_API int32_t peft_adapter_convert(peft_model *model, const char *path, const char *out,
                                      const peft_convert_opts *opts, peft_converted *result);

/* Functions for several texts take for each the name of the adapter that acts on it
 * alone, enabled or not; PEFT_BASE: none; NULL: those that are enabled.  The base runs
 * once over all of them and is shared, each adapter runs on its texts, and a text's
 * result is what it would be by itself with that adapter enabled.  Copies of modules
 * (modules_to_save, a classifier's head, norms) count for their texts too.
 * PEFT_EUNSUPPORTED for an adapter that is folded in (peft_adapter_set_merged), for
 * copies of what a batch has in common (an expert, a table of positions' biases), and
 * for DoRA on a module of which an enabled adapter has a copy. */
#define PEFT_BASE ""

/* ------------------------------------------------------------ text, logits */

enum {
    PEFT_TOK_SPECIAL = 1,  /* add what the tokenizer adds: BOS, [CLS] ... */
    PEFT_TOK_PLAIN = 2     /* special tokens' names in the text are plain text */
};
/* Encodes n bytes.  Returns the number of ids, and writes at most `cap` of
 * them; `ids` may be NULL to ask.  Text that is not UTF-8 (a stray or missing
 * continuation byte, an overlong form, a surrogate, a character past U+10FFFF)
 * is refused as a whole with PEFT_EFORMAT, whose message names the first such
 * byte and its offset: nothing is replaced or left out. */
PEFT_API int64_t peft_tokenize(const peft_model *model, const char *text,
                               size_t n, int32_t flags, int32_t *ids,
                               int64_t cap);
/* The same, and offsets [cap, 2]: id i stands for the bytes from offsets[2 i]
 * up to, without it, offsets[2 i + 1] of the text; 0, 0 for what the tokenizer
 * adds.  These are the offsets of Hugging Face's tokenizers, in bytes: whole
 * characters, of which several ids may share one; what a normalizer made
 * stands for what it was made from; without the spaces at the ends where the
 * tokenizer says so (trim_offsets).  Either array may be NULL. */
PEFT_API int64_t peft_tokenize_offsets(const peft_model *model,
                                       const char *text, size_t n,
                                       int32_t flags, int32_t *ids,
                                       int32_t *offsets, int64_t cap);
enum { PEFT_DETOK_SKIP = 1 /* leave special tokens out */ };
/* Decodes.  Returns the number of bytes, writes at most `cap` (no NUL). */
PEFT_API int64_t peft_detokenize(const peft_model *model, const int32_t *ids,
                                 int64_t n, int32_t flags, char *text,
                                 int64_t cap);

typedef struct peft_message { const char *role, *content; } peft_message;
/* Renders a conversation with the model's chat template; with `prompt` 1 it
 * ends with the opening of the assistant's turn.  Returns bytes as above. */
PEFT_API int64_t peft_chat_render(const peft_model *model,
                                  const peft_message *messages, int32_t n,
                                  int32_t prompt, char *text, int64_t cap);

/* logits [n, vocab], or [labels] with a classification head, or [n, labels]
 * with one for tokens (2 for answers: begin and end), for one sequence of n ids.
 * Adapters that are enabled take part.  PEFT_ESTATE for an encoder-decoder
 * model, which needs peft_forward_pair. */
PEFT_API int32_t peft_forward(peft_model *model, const int32_t *ids, int32_t n,
                              float *logits);
/* The same for n sequences at once: text i has lengths[i] ids, after those of the one
 * before, and its logits follow theirs.  adapters [n], or NULL: see PEFT_BASE. */
PEFT_API int32_t peft_forward_batch(peft_model *model, const int32_t *ids,
                                    const int32_t *lengths, int32_t n,
                                    const char *const *adapters, float *logits);
/* How likely the ends of n sequences are, by a language model that is no encoder: of text i,
 * which has lengths[i] ids, those from number from[i] (1 or more) on.  logp [n]: the sum of
 * log p(id | those before it).  right [n], or NULL: how many of them were the likeliest. */
PEFT_API int32_t peft_logprob(peft_model *model, const int32_t *ids, const int32_t *lengths,
                              const int32_t *from, int32_t n, double *logp, int32_t *right);
/* The same of single tokens that could follow n ids: logp[i] = log p(next[i] | ids), [k]. */
PEFT_API int32_t peft_logprob_next(peft_model *model, const int32_t *ids, int32_t n,
                                   const int32_t *next, int32_t k, double *logp);
/* Of an encoder-decoder model: logits [n, vocab] for the n ids of a target, whose
 * first is the decoder's start token, after a source of n_source ids. */
PEFT_API int32_t peft_forward_pair(peft_model *model, const int32_t *source,
                                   int32_t n_source, const int32_t *ids,
                                   int32_t n, float *logits);
/* The mean of the last hidden states, [dim]: a sentence embedding.  Of an
 * encoder-decoder model those of its encoder. */
PEFT_API int32_t peft_embed(peft_model *model, const int32_t *ids, int32_t n,
                            int32_t normalize, float *embedding);

/* Pictures.  `pixels` are n pictures [channels, height, width] of float32 as the
 * model reads them, normalised; logits [n, labels], embeddings [n, embed_dim]:
 * the class token's last hidden state, for CLIP projected.  PEFT_ESTATE for a
 * model that reads text. */
PEFT_API int32_t peft_forward_pixels(peft_model *model, const float *pixels,
                                     int32_t n, float *logits);
PEFT_API int32_t peft_embed_pixels(peft_model *model, const float *pixels,
                                   int32_t n, int32_t normalize,
                                   float *embeddings);
/* One PNG or JPEG picture, a file or (path NULL) n bytes in memory, brought
 * into the model's form as preprocessor_config.json says: turned upright by
 * EXIF, RGB without alpha, resized as Pillow does, cropped, normalised.
 * Broken content and more than 2^26 pixels are PEFT_EFORMAT; PEFT_EUNSUPPORTED
 * when the library was built without that format. */
PEFT_API int32_t peft_image_read(peft_model *model, const char *path,
                                 const void *bytes, size_t n, float *pixels);
/* The probability of each class, [labels] (one output: its value). */
PEFT_API int32_t peft_classify_image(peft_model *model, const char *path,
                                     const void *bytes, size_t n,
                                     float *probabilities);
PEFT_API int32_t peft_embed_image(peft_model *model, const char *path,
                                  const void *bytes, size_t n,
                                  int32_t normalize, float *embedding);

/* ------------------------------------------------------- answers of heads
 * Texts in, what the head says out; long texts are cut or read in windows.
 * Positions are bytes of the text that was given.  PEFT_ESTATE when the model
 * has another head. */

typedef struct peft_classify_opts {
    size_t size;
    const char *const *pairs; /* second texts [n]; NULL = none */
    int32_t max_len;          /* tokens, longer texts are cut; 0 = the model's */
    int32_t batch;            /* texts at a time; 0 = 8 */
    int32_t raw;              /* 1 = the head's outputs as they are */
    const char *const *adapters; /* [n] of each text, see PEFT_BASE; NULL = those enabled */
} peft_classify_opts;
/* scores [n, labels] of n texts: probabilities that sum to 1; of "multi-label"
 * one for each label; of "regression" and "reward" the numbers.  labels [n]
 * (may be NULL): the label with the best score. */
PEFT_API int32_t peft_classify(peft_model *model, const char *const *texts,
                               int32_t n, const peft_classify_opts *opts,
                               float *scores, int32_t *labels);

typedef struct peft_tag_opts {
    size_t size;
    const char *aggregate;    /* "none": every token; NULL = "simple": neighbours of
                                 one type are one; "first", "average", "max": so for
                                 whole words, by the pieces' scores */
    int32_t max_len;          /* tokens of a window; 0 = the model's, at most 512 */
    int32_t all;              /* 1 = those labelled "O" too */
} peft_tag_opts;
typedef struct peft_tag {
    const char *label;        /* the model's; without B- or I- unless "none" */
    int32_t begin, end;       /* bytes [begin, end) of the text */
    float score;              /* probability; of several tokens the mean */
} peft_tag;
/* The parts of a text that have labels, as the pipeline of transformers gives
 * them.  Returns their number and writes at most `cap`. */
PEFT_API int64_t peft_tag_text(peft_model *model, const char *text, size_t n,
                               const peft_tag_opts *opts, peft_tag *tags,
                               int64_t cap);

typedef struct peft_answer_opts {
    size_t size;
    int32_t n_best;           /* 0 = 1 */
    int32_t max_answer;       /* tokens; 0 = 15 */
    int32_t max_len;          /* tokens of a window; 0 = 384, at most the model's */
    int32_t stride;           /* tokens that two windows share; 0 = 128 */
    int32_t no_answer;        /* 1 = "none" is one of the answers: begin = end = 0 */
} peft_answer_opts;
typedef struct peft_answer_span {
    int32_t begin, end;       /* bytes of the context */
    float score;              /* probability of begin times that of end, of the window */
} peft_answer_span;
/* The best answers to a question that stand in the context, best first.
 * Returns their number, at most n_best and `cap`. */
PEFT_API int32_t peft_answer(peft_model *model, const char *question,
                             const char *context,
                             const peft_answer_opts *opts,
                             peft_answer_span *answers, int32_t cap);

typedef struct peft_filled {
    int32_t mask;             /* the text's first, second ... mask token, from 0 */
    int32_t id;               /* token */
    float score;              /* probability */
} peft_filled;
/* The top_k tokens for each mask token ("[MASK]", "<mask>") of a text, by a
 * "masked-lm" head.  Returns masks * top_k and writes at most `cap`. */
PEFT_API int64_t peft_fill_mask(peft_model *model, const char *text, size_t n,
                                int32_t top_k, peft_filled *filled,
                                int64_t cap);

typedef struct peft_embed_opts {
    size_t size;
    const char *pool;         /* "mean", "cls", "last", "weighted" (token i counts i
                                 times, SGPT); NULL = as the folder's modules.json of
                                 sentence-transformers says, else "mean" */
    int32_t normalize;        /* 1 = to length 1, -1 = not, 0 = as the folder says,
                                 else not */
    int32_t max_len;          /* tokens; 0 = the folder's, else the model's */
    int32_t batch;            /* texts at a time; 0 = 8 */
    const char *prefix;       /* put before each text ("query: "); NULL = none */
    const char *const *adapters; /* [n] of each text, see PEFT_BASE; NULL = those enabled */
    int32_t depths;           /* hidden states after so many layers, evenly spread, the last of
                                 them the output; 0 = 1; more where hidden states are of dim */
} peft_embed_opts;
/* embeddings [n, depths, dim] of n texts. */
PEFT_API int32_t peft_embed_text(peft_model *model, const char *const *texts,
                                 int32_t n, const peft_embed_opts *opts,
                                 float *embeddings);

typedef struct peft_generate_opts {
    size_t size;
    int32_t max_tokens;       /* 0 = 256 */
    float temperature;        /* 0 = greedy */
    int32_t top_k;            /* 0 = off */
    float top_p, min_p;       /* 0 = off */
    float repeat_penalty;     /* 0 = off; 1.1 is mild */
    uint64_t seed;
    const char *const *stop;  /* stop strings, n_stop of them; not emitted */
    int32_t n_stop;
    int32_t raw;              /* 1 = prompt as it is, no chat template */
    /* Called with each piece of whole UTF-8 text; non-zero return stops. */
    int32_t (*on_text)(void *ctx, const char *piece, size_t n);
    void *ctx;
    /* Beam search as in Hugging Face's generate, of up to PEFT_BEAMS_MAX beams;
     * it samples nothing, and the text comes when it is all found. */
    int32_t num_beams;        /* 0, 1 = off */
    float length_penalty;     /* scores are divided by length^this: above 0 favours
                                 long answers; 0 = 1.0 (1e-9: none) */
    int32_t early_stopping;   /* 0 = stop when a better answer is unlikely, 1 = when
                                 num_beams answers are found, 2 = when none can be
                                 better ("never") */
} peft_generate_opts;
enum { PEFT_BEAMS_MAX = 64 };
/* Sets temperature, top_k, top_p, min_p, repeat_penalty and beams of *opts (its `size`
 * set by the caller) as the model's generation_config.json advises: 0, greedy,
 * where it has none or says do_sample false.  peft_generate itself uses only
 * the options it is given.  Whatever they are, an answer ends at any of the
 * file's eos_token_id and at the tokenizer's ends of a turn. */
PEFT_API int32_t peft_generate_defaults(const peft_model *model,
                                        peft_generate_opts *opts);
typedef struct peft_generated {
    size_t size;
    int32_t prompt_tokens, tokens;
    int32_t reason;           /* PEFT_STOP_* */
    double prompt_seconds, seconds;
} peft_generated;
enum { PEFT_STOP_EOS = 0, PEFT_STOP_LENGTH = 1, PEFT_STOP_STRING = 2,
       PEFT_STOP_CALLBACK = 3, PEFT_STOP_CONTEXT = 4 };
/* Answers a conversation of n messages (or continues messages[n-1].content
 * when `raw`).  `out` may be NULL.  An encoder-decoder model reads it as its
 * source: by the chat template if there is one, a single message as it is, else
 * as lines "role: content". */
PEFT_API int32_t peft_generate(peft_model *model, const peft_message *messages,
                               int32_t n, const peft_generate_opts *opts,
                               peft_generated *out);

/* The same from n token ids (of a prompt, or an encoder's source with its end
 * of sequence) to token ids, for which no tokenizer is needed.  Returns their
 * number and writes at most `cap` of them; the one that ended the answer is not
 * among them.  Stop strings and on_text have no effect. */
PEFT_API int64_t peft_generate_ids(peft_model *model, const int32_t *ids, int32_t n,
                                   const peft_generate_opts *opts, int32_t *to,
                                   int64_t cap, peft_generated *out);

/* One of several answers.  What is asked for is a conversation of n messages, or
 * (messages NULL) n token ids. */
typedef struct peft_request {
    size_t size;              /* the same in all of an array, whose elements it sets apart */
    const peft_message *messages;
    const int32_t *ids;
    int32_t n;
    const char *adapter;      /* that answers, enabled or not; PEFT_BASE = none, NULL = those
                                 that are enabled at each token */
    const peft_generate_opts *opts; /* its own, with its own on_text and ctx */
    int32_t *to;              /* receives the answer's ids instead of on_text: [cap]; or NULL */
    int64_t cap;
    peft_generated *out;      /* or NULL */
} peft_request;
/* Answers n requests, up to `batch` (0 = 16) at once: a pass of the model has the next
 * token of each, or what is new of its prompt, and when one is at its end the next
 * request takes its place.  Greedy answers are those of peft_generate with the adapter
 * enabled.  Each of the `batch` has a cache as long as the longest prompt and answer.
 * Beams, encoder-decoder models and models whose positions depend on the text's length
 * (dynamic or long RoPE) are answered one after the other.  Fails as a whole, with the
 * message naming the request.
 *
 * Callbacks, here and in peft_generate, may use the model: run it, enable, disable, add,
 * load, weight and remove adapters; what they change counts from the next token on, and
 * keys and values of earlier tokens stay as they were computed.  An adapter that a
 * request names cannot be removed or merged meanwhile (PEFT_ESTATE). */
PEFT_API int32_t peft_generate_batch(peft_model *model, const peft_request *requests,
                                     int32_t n, int32_t batch);

/* ------------------------------------------------------------------- data */

typedef struct peft_dataset_opts {
    size_t size;
    int32_t max_len;          /* tokens an example; 0 = min(1024, the model's) */
    int32_t train_on_prompt;  /* 1 = prompt tokens are trained too */
    const char *system;       /* a system message put before each conversation
                                 that has none; NULL = none */
    int32_t limit;            /* rows read; 0 = all; of a folder of pictures as
                                 many of each class */
    int32_t any_path;         /* 1 = a list of pictures may name files anywhere,
                                 else only in its folder and below */
    const char *prefix;       /* encoder-decoder: put before each source text,
                                 "summarize: "; NULL = none */
    int32_t stride;           /* questions: tokens that two windows of a long context share;
                                 0 = 128, at most half a window's (max_len 0: 384) */
    int32_t label_all;        /* words with tags: 1 = every piece of a word has its tag, pieces
                                 after the first B-X as I-X; 0 = the first piece only */
    const char *columns;      /* names of the file's own: "text=body,label=stars" reads column
                                 "body" as "text"; NULL = as they are */
    const char *table;        /* of an SQLite file: a table's name or a query; NULL = its only
                                 table */
    int64_t chunk;            /* of plain texts: bytes of a row at most, cut at ends of paragraphs;
                                 0 = a paragraph a row, of a folder a file a row */
    const char *text;         /* rows in memory, JSONL, CSV, TSV or a JSON array, in place of a
                                 file; `path` is their name and says by its ending which */
    size_t text_n;            /* bytes of it */
    int64_t shard_rows;       /* peft_dataset_prepare: rows of a file, and `to` is a folder of
                                 files; 0 = one file */
    /* Called now and then with the rows read so far, and the bytes of the present file;
     * non-zero ends with PEFT_ECANCELLED. */
    int32_t (*progress)(void *ctx, int64_t rows, int64_t bytes);
    void *ctx;
} peft_dataset_opts;
/* Reads JSONL, a JSON array, CSV, TSV, SQLite, plain text and Markdown, a folder of
 * texts, or what peft_dataset_prepare wrote, known by ending and content; UTF-8, or
 * UTF-16 with a byte order mark: messages, prompt/completion,
 * instruction/input/output, text, text/label, text/labels (several), tokens/tags
 * (or ner_tags), text/spans, question/context/answers (SQuAD's columns),
 * chosen/rejected (with or without prompt), anchor/positive with any negatives,
 * sentence1/sentence2/score, or input_ids/labels as Hugging Face means them
 * (same length, shifted inside, -100 = not trained).  Labels
 * get the head's ids when there is a head, else ids by sorted name.
 * A model of pictures takes a folder with one sub-folder of .png and .jpg
 * files for each class, or JSONL or CSV with image (a path relative to the
 * file) and label.  Broken pictures are left out, counted in `skipped` and
 * named in the log.  Decoded pictures are kept up to 1 GB, others read again
 * for each batch.
 * Rows of an encoder-decoder model are a source and a target, each of up to
 * max_len tokens: prompt/completion, instruction/input/output, text, document or
 * dialogue/summary, article/highlights, source/target, translation (an object
 * of two texts), question/context/answer, messages that end with the
 * assistant's, or input_ids and the target's labels as Hugging Face means them
 * (-100 at the end is padding; one that is not trained in between is read as
 * the start token).
 * Errors: PEFT_EFORMAT with file, line and what was expected; PEFT_EDATA when
 * nothing would be trained, every answer is cut off, or BOS is doubled. */
PEFT_API int32_t peft_dataset_load(const peft_model *model, const char *path,
                                   const peft_dataset_opts *opts,
                                   peft_dataset **out);
PEFT_API void peft_dataset_free(peft_dataset *data);
/* Moves a share (0..1) of the rows, chosen by seed, into *eval. */
PEFT_API int32_t peft_dataset_split(peft_dataset *data, double share,
                                    uint64_t seed, peft_dataset **eval);
/* A data set of the n rows `rows` (0-based), in this order; a row may be repeated.  Tokens
 * and pictures are shared with `data`, which keeps its rows; either may be freed first.
 * PEFT_EARG for no rows and for one that there is not. */
PEFT_API int32_t peft_dataset_subset(const peft_dataset *data, const int64_t *rows, int64_t n,
                                     peft_dataset **out);
/* A data set of all rows of `data` and n rows of `other`, chosen by seed: old rows that are
 * repeated while new ones are learned (replay).  It shares them, and all three are freed in any
 * order.  PEFT_EARG for data of other models, tasks or labels, PEFT_ESTATE for mixtures. */
PEFT_API int32_t peft_dataset_mix(const peft_dataset *data, const peft_dataset *other, int64_t n,
                                  uint64_t seed, peft_dataset **out);
typedef struct peft_dataset_stats {
    size_t size;
    char schema[32];          /* "messages", "text-label", ... */
    int64_t rows, tokens, trained_tokens;
    int32_t min_len, median_len, mean_len, p95_len, max_len; /* in tokens */
    int64_t truncated;        /* rows cut at max_len */
    int64_t skipped;          /* rows with nothing left to train */
    int32_t labels;           /* classes found; 0 = none */
    char head[32];            /* what these rows train, as peft_head_opts.kind, or
                                 "language-model" */
} peft_dataset_stats;
PEFT_API int32_t peft_dataset_info(const peft_dataset *data,
                                   peft_dataset_stats *out);
/* Writes the rows of `path` as tokens into the file, or folder, `to`, whole or not at all,
 * a row in memory at a time.  peft_dataset_load takes it as any other data and maps it:
 * the rows are the same, bit by bit, as if `path` were read.  It holds for this
 * tokenizer and chat template and these options, and is refused, with the reason, for
 * others (PEFT_EDATA); max_len 0 there takes what it was here.  Labels are names until
 * they are read, so a head may be added or changed.  *out (may be NULL) as of
 * peft_dataset_info.  Errors: as of peft_dataset_load; PEFT_EUNSUPPORTED for pictures. */
PEFT_API int32_t peft_dataset_prepare(const peft_model *model, const char *path,
                                      const peft_dataset_opts *opts, const char *to,
                                      peft_dataset_stats *out);
PEFT_API const char *peft_dataset_label(const peft_dataset *data, int32_t i);
typedef struct peft_row {
    size_t size;
    int64_t line;             /* in its file, from 1 */
    int32_t n;                /* tokens; of a pair, both texts' */
    const int32_t *ids;       /* [n] */
    const int32_t *labels;    /* [n], -100 = not trained; NULL with `label` */
    int32_t label;            /* class; -1 = none */
    const char *picture;      /* its file; NULL = a row of text */
} peft_row;
PEFT_API int32_t peft_dataset_row(const peft_dataset *data, int64_t i,
                                  peft_row *out);

typedef struct peft_eva_opts {
    size_t size;
    float rho;                /* a module's rank may grow by this; 0 = 2; 1 = ranks stay */
    float tau;                /* cosine from which a vector counts as found; 0 = 0.99 */
    int32_t whiten;           /* 1 = A's rows by the roots of their singular values */
    int32_t keep_alpha;       /* 1 = alpha stays where the rank changes; 0 = alpha / rank does */
    int32_t all_tokens;       /* 1 = prompts count too, not only what is trained */
    int32_t batch;            /* rows at a time; 0 = 4 */
    uint64_t seed;            /* of the order of the rows */
    /* Called after each batch with the inputs whose vectors are found, of all; non-zero
     * ends with PEFT_ECANCELLED. */
    int32_t (*progress)(void *ctx, int64_t done, int64_t total);
    void *ctx;
} peft_eva_opts;
/* EVA (Paischer et al. 2024): starts a LoRA or DoRA adapter that has not been trained from
 * the data.  A [rank, in] of each linear layer becomes the first right singular vectors of
 * what the layer reads (incremental PCA, batch by batch until the vectors stay, at most 16
 * times over the data); B stays zero.  The sum of the ranks is kept, but goes to the vectors
 * that explain the largest shares of variance, at most rho times its rank to a module; those
 * that get none leave the adapter.  As PEFT's initialize_lora_eva_weights; files are plain
 * LoRA with rank_pattern.  PEFT_ESTATE when B is not zero or a trainer is alive,
 * PEFT_EDATA when no batch has as many tokens as rank times rho. */
PEFT_API int32_t peft_adapter_init_eva(peft_model *model, const char *name,
                                       const peft_dataset *data, const peft_eva_opts *opts);

/* --------------------------------------------------------------- training */

typedef struct peft_train_opts {
    size_t size;
    const char *optimizer;    /* NULL = "adamw" */
    const char *schedule;     /* NULL = "cosine"; "linear", "constant"; "exponential": rises from
                                 lr / sqrt(1000) to lr * sqrt(1000), to find one (Smith 2017) */
    float lr;                 /* 0 = the adapter method's (LoRA 2e-4), 1e-3 a head,
                                 5e-3 biases and norms alone (BitFit), 2e-5 the rest */
    float beta1, beta2, eps;  /* 0 = 0.9, 0.999, 1e-8 */
    float weight_decay;       /* decoupled; 0 = none */
    const char *no_decay;     /* globs of tensors without decay; NULL = none */
    float warmup;             /* < 1: share of the steps; >= 1: steps; 0 = none */
    float clip;               /* global gradient norm; 0 = 1.0, < 0 = none */
    int32_t batch;            /* examples (packs with `packing`); 0 = 4 */
    int32_t accumulate;       /* batches a step; 0 = 1 */
    int32_t packing;          /* 1 = fill packs of max_len with whole examples */
    int32_t max_len;          /* of a pack; 0 = the longest example's */
    int32_t epochs;           /* 0 = 1, unless steps is given */
    int32_t steps;            /* 0 = from epochs */
    int32_t no_shuffle;       /* 1 = rows in file order */
    int32_t recompute;        /* PEFT_RECOMPUTE_* */
    int64_t feature_cache;    /* bytes for a frozen part's outputs, which are computed once
                                 for each example when there is more than one epoch; 0 =
                                 256 MB, < 0 = none.  Examples beyond are computed anew
                                 unless there is a cache_file; see peft_trainer_cache */
    uint64_t seed;
    const char *augment;      /* changes of training pictures, drawn anew for each
                                 epoch by seed: "flip,rotate=10,crop=0.1,
                                 shift=0.1,brightness=0.2,contrast=0.2,
                                 saturation=0.2,hue=0.05" (chance; degrees;
                                 shares, of hue of its circle, at most 0.5, the
                                 last two as torchvision's ColorJitter); NULL =
                                 none.  Outputs of a frozen part are not cached then */
    const char *objective;    /* NULL = by the data and the model's head; embeddings: "match" (or
                                 "triplet") for a text, one that fits and some that do not;
                                 "cosent" (or "cosine") for pairs with a score */
    float scale;              /* of cosines in match and cosent; 0 = 20 */
    float margin;             /* of triplet; 0 = 5 */
    int64_t memory_limit;     /* bytes that the process may have resident while it trains,
                                 evaluates between steps and saves; 0 = any.  The fastest way that
                                 fits is chosen: batches are worked off in parts (whose sum is the
                                 batch's, but for rounding), layers computed twice (unless
                                 `recompute` says how), losses taken in smaller chunks, mapped
                                 weights released once read, fewer features cached.  What is
                                 chosen depends on timings; see `manner` */
    const char *optimizer_states; /* NULL = "f32"; "bf16": rounded up or down at random (by seed);
                                 "8bit": 256 numbers share a scale (Dettmers et al. 2022).
                                 Tensors of less than 4096 numbers keep float32; weights and
                                 gradients do in any case */
    const char *cache_file;   /* where a frozen part's outputs are kept for runs to come, and
                                 those beyond feature_cache in this one; NULL = nowhere.  A
                                 file for other weights, data, settings or kernels is never
                                 used; one that is no cache is PEFT_EFORMAT */
    int64_t cache_file_limit; /* bytes of it; 0 = as many as it takes */
    peft_dataset *anchor;     /* texts on which a language model shall stay as it is when the run
                                 begins, or NULL: each step adds anchor_weight times the mean of
                                 KL(before || now) a token of one of its rows */
    float anchor_weight;      /* 0 = 1 */
    float drift_bound;        /* nats a token, > 0: the weight rises while that KL is above, and
                                 falls while it is below */
    const char *manner;       /* with a memory_limit: peft_plan.manner of an earlier run, which is
                                 taken and so gives the same bits again; NULL = chosen */
} peft_train_opts;
enum {
    PEFT_RECOMPUTE_AUTO = 0,   /* as CHEAP */
    PEFT_RECOMPUTE_NONE = 1,   /* keep every activation */
    PEFT_RECOMPUTE_CHEAP = 2,  /* norms and activations are computed again */
    PEFT_RECOMPUTE_LAYERS = 3  /* whole layers are: least memory, +1/3 time */
};
typedef struct peft_step {
    size_t size;
    int64_t step, steps;       /* of this one, from 1; of the whole run */
    double epoch;              /* passes over the data after this step */
    double loss;               /* mean over the step's trained tokens or rows */
    double grad_norm;          /* before clipping */
    double lr;                 /* used by this step */
    int64_t tokens;            /* this step's, trained or not */
    int64_t trained_tokens;
    int64_t tokens_seen;       /* since the run began */
    double seconds;            /* this step's own */
    int32_t more;              /* run_for: 1 = the budget ended within the step */
    double drift, drift_weight; /* with an anchor: KL on this step's row, and its weight */
} peft_step;
typedef struct peft_plan {
    size_t size;
    int64_t weights;      /* bytes: mapped or read from the model's files, or quantised */
    int64_t trainable;    /* float32 copies that train, and adapters */
    int64_t gradients, optimizer, activations, scratch, data;
    int64_t features;     /* cached outputs of a frozen part */
    int64_t process;      /* resident now, beside the above */
    int64_t peak;         /* the sum: peak resident memory */
    int64_t evaluation;   /* what peft_eval with the same batch adds meanwhile */
    int64_t steps, tokens_per_step; /* the largest step's tokens */
    double flops_per_step;
    int64_t trainable_params, total_params;
    double seconds_per_step, seconds; /* predicted: of a mean step, of all steps */
    int32_t micro_batch;      /* examples (packs) at a time, of `batch` */
    int32_t recompute_layers; /* the first so many are computed twice, of the others what is
                                 cheap; -1 = nothing is */
    int64_t memory_least;     /* the smallest memory_limit that works; 0 = none was given */
    char choice[240];         /* with a limit: what was chosen, in words */
    int64_t tokens;           /* of all steps, as often as they are read */
    char manner[64];          /* with a limit: what was chosen, for peft_train_opts.manner */
    double lr;                /* the learning rate: as given, or what 0 stands for */
} peft_plan;

/* Prepares a run; the model and the data set must outlive it.  Copies of the
 * trainable weights, gradients and optimizer states are made at the first
 * step.  PEFT_ESTATE when nothing is trainable; PEFT_EUNSUPPORTED when a
 * trainable tensor is quantised; PEFT_EARG when data and head do not fit;
 * PEFT_ENOMEM, with the smallest one that works, when memory_limit is too small. */
PEFT_API int32_t peft_trainer_new(peft_model *model, peft_dataset *data,
                                  const peft_train_opts *opts,
                                  peft_trainer **out);
PEFT_API void peft_trainer_free(peft_trainer *trainer);
/* Exact bytes by kind, before anything runs. */
PEFT_API int32_t peft_trainer_plan(const peft_trainer *trainer, peft_plan *out);
/* What is kept of the frozen part: the values at the deepest point of the model below
 * which nothing trains and nothing is drawn at random, at the head's input or between two
 * layers.  Evaluations of other data meanwhile keep theirs too. */
typedef struct peft_cache {
    size_t size;
    char what[96];            /* "the output of 26 layers"; "" = nothing is kept */
    const char *why;          /* what keeps it from being kept; "" */
    int64_t rows, kept;       /* of the training data; whose values are there now */
    int64_t bytes;            /* of all rows' values, */
    int64_t memory;           /* those of them that memory is for, */
    int64_t file;             /* and of the file as it is now */
    int64_t used, made;       /* rows that steps and evaluations had; that were computed */
} peft_cache;
PEFT_API int32_t peft_trainer_cache(const peft_trainer *trainer, peft_cache *out);
/* One optimizer step; PEFT_EEND after the last.  On PEFT_ENONFINITE and
 * PEFT_ECANCELLED the weights are those of before the step. */
PEFT_API int32_t peft_train_step(peft_trainer *trainer, peft_step *out);
/* Works for about `microseconds` (the budget plus one operation) and returns;
 * the next call goes on.  out->more is 0 when a step was finished.  The bits
 * are those of peft_train_step. */
PEFT_API int32_t peft_train_run_for(peft_trainer *trainer, int64_t microseconds,
                                    peft_step *out);
/* From any thread: the step in flight, or the next one, ends with
 * PEFT_ECANCELLED within one operation and is undone. */
PEFT_API int32_t peft_trainer_cancel(peft_trainer *trainer);
/* Where the time of steps goes.  on 1: every operation is timed from now on, what was
 * counted is forgotten; 0: no longer, at no cost.  Not while a step is in flight
 * (PEFT_ESTATE). */
PEFT_API int32_t peft_trainer_profile(peft_trainer *trainer, int32_t on);
/* Operations of one name, on weights of one type and shape, in one direction. */
typedef struct peft_work {
    size_t size;
    char name[32];        /* "linear", "attention", "clip and optimizer" ... */
    char type[16];        /* of the weight, "Q4_1"; "" = it has none */
    int64_t inputs, outputs; /* of the weight; without one outputs are the result's columns */
    int32_t backward;     /* 1 = the gradients */
    int32_t half;         /* 1 = by products in bfloat16 */
    int64_t calls, rows;
    double seconds;
    double flops;         /* multiplications and additions */
    double bytes;         /* of operands and results, each once */
} peft_work;
/* Row i, the longest time first; PEFT_EEND after the last, PEFT_ESTATE without a
 * profile. */
PEFT_API int32_t peft_trainer_work(const peft_trainer *trainer, int32_t i, peft_work *out);
typedef struct peft_peaks {
    size_t size;
    double gflops;        /* float32 products, of operands that the first cache holds */
    double gflops_bf16;   /* the same in bfloat16; 0 = the processor has none */
    double gflops_blas;   /* 512 x 512 x 512 by BLAS, on each thread */
    double gbytes;        /* copied, read and written ones counted, from memory */
    char kernels[32], kernels_bf16[32];
} peft_peaks;
/* What the machine can do at most with the model's threads, kernel level and BLAS: half a
 * second of measuring, in 128 MB. */
PEFT_API int32_t peft_model_peaks(peft_model *model, peft_peaks *out);
/* A checkpoint folder: weights, optimizer states, position.  Replaced whole. */
PEFT_API int32_t peft_trainer_save(const peft_trainer *trainer, const char *dir);
/* Into a trainer made with the same model, data and options; the further run
 * has the bits of one that was never interrupted. */
PEFT_API int32_t peft_trainer_resume(peft_trainer *trainer, const char *dir);
/* The same in memory: keeps a copy of weights, optimizer states and position in place of
 * the last one, and puts it back, as often as wanted, bit for bit; steps after it have the
 * bits that those after keep had.  It takes 4 bytes a trained number and its optimizer
 * states until the trainer ends.  The last evaluation, which a saved adapter's README.md
 * tells, comes back too.  PEFT_ESTATE while a step is in flight, and when nothing was kept. */
PEFT_API int32_t peft_trainer_keep(peft_trainer *trainer);
PEFT_API int32_t peft_trainer_back(peft_trainer *trainer);

/* What an evaluation found of one row.  Fields that are not of its task are 0 or NULL. */
typedef struct peft_eval_row {
    size_t size;
    int64_t row, line;        /* in the data set, from 0; in its file, from 1 */
    int64_t terms, right;     /* of its loss: tokens that count, windows of a question, else 1;
                                 and those of them where the likeliest is the right one */
    double loss;              /* the sum of its terms */
    int32_t label, said;      /* classification: the true class, and the likeliest */
    int32_t n;                /* classes, labels, or numbers that the head gives; else 0 */
    const float *scores;      /* [n] the probability of each class or label, or the numbers;
                                 embeddings with scores: the cosine */
    const float *wanted;      /* [n] of several labels (0 or 1) and of numbers, else NULL */
    const int32_t *labels, *tags; /* [terms] of tokens: the true classes and the likeliest */
    int64_t chunks_right, chunks_said, chunks; /* tokens, as in seqeval */
    double margin;            /* reward: of the better text less that of the worse */
    double exact, f1;         /* questions: 0..1, of */
    const char *answer;       /* what was said: bytes of the context, NULL = there is none */
    int64_t answer_n;
    int64_t rank;             /* embeddings: of the row's own second text among all, from 1 */
} peft_eval_row;

typedef struct peft_eval_opts {
    size_t size;
    int32_t batch;            /* 0 = 4 */
    int64_t *confusion;       /* [labels * labels], row = true class; or NULL */
    /* Called after each batch; non-zero ends with PEFT_ECANCELLED. */
    int32_t (*progress)(void *ctx, int64_t done, int64_t rows);
    void *ctx;
    double no_answer;         /* questions: there is none when its score (a sum of two
                                 logits) exceeds the best answer's by more */
    const char *objective;    /* as in peft_train_opts, whose default scale and margin it has */
    /* Called with each row in the order of the file, a question's windows being one row, that
     * of the first; what it points to is valid until it returns.  Non-zero ends with
     * PEFT_ECANCELLED.  Not of peft_compare. */
    int32_t (*on_row)(void *ctx, const peft_eval_row *row);
} peft_eval_opts;
/* One figure of an evaluation.  Names by task:
 * classification: accuracy, f1, precision, recall (means over the classes that
 *   occur: macro), f1_micro, f1_weighted, matthews, brier (the mean of
 *   sum over classes of (p - y)^2);
 * multi-label: f1, f1_micro, precision_micro, recall_micro, f1_weighted,
 *   accuracy (rows without a mistake), at a threshold of 1/2;
 * regression: mse, mae, pearson, spearman;
 * tokens: f1, precision, recall of chunks (seqeval; only with BIO names),
 *   accuracy of tokens;
 * question-answering: f1, exact (SQuAD's, in percent), f1_answered,
 *   exact_answered, no_answer (of questions with, and without an answer);
 * reward: accuracy (pairs in the right order), margin (mean difference);
 * embeddings: ndcg_10, mrr_10, recall_1, recall_5, recall_10 (each row's first
 *   text looks for its second one among the others of all rows), or with scores
 *   as regression, of the cosine;
 * language models: perplexity, token_accuracy. */
typedef struct peft_metric { const char *name; double value; } peft_metric;
enum { PEFT_METRICS = 16 };
typedef struct peft_evaluation {
    size_t size;
    int64_t rows, tokens;     /* tokens: those that count */
    double loss, perplexity, token_accuracy;
    double accuracy, f1;      /* with a head; f1 is the mean over classes */
    double seconds;
    const char *task;         /* the head's kind: "language-model", "tokens", ... */
    int32_t n_metrics;
    peft_metric metrics[PEFT_METRICS]; /* what the task has, the most telling first */
} peft_evaluation;
PEFT_API int32_t peft_eval(peft_model *model, const peft_dataset *data,
                           const peft_eval_opts *opts, peft_evaluation *out);

/* ----------------------------------------------------- fewer bits, measured */

typedef struct peft_comparison {
    size_t size;
    int64_t rows, tokens;     /* tokens: next tokens that were compared */
    double kl;                /* mean of KL(reference || model) a token, in nats */
    double max_logit_diff;    /* largest difference of any two logits */
    double same_token;        /* share of tokens where the likeliest is the same */
    double perplexity, reference_perplexity;
    double cosine;            /* encoders: mean cosine of peft_embed's vectors */
    double seconds;
} peft_comparison;
/* How far a model is from a reference on the same text: what quantising or merging
 * changed.  Language models by the distribution of every token that the data trains;
 * others by the mean hidden state of each text.  Adapters that are enabled take part,
 * in either.  `data` may have been read for the one or the other, whose vocabularies
 * must be the same; `confusion` is not used. */
PEFT_API int32_t peft_compare(peft_model *model, peft_model *reference,
                              const peft_dataset *data, const peft_eval_opts *opts,
                              peft_comparison *out);

typedef struct peft_quantize_opts {
    size_t size;
    const char *types;        /* what a tensor may become: NULL = GGML's blocks "q4_0,q4_1,q4_k,
                                 q5_0,q5_1,q5_k,q6_k,q8_0,bf16"; or a choice of these, or
                                 "nf4,bf16" */
    int64_t budget;           /* bytes of all tensors together, or */
    double bits;              /* mean bits a weight; both 0: 5 bits */
    int32_t batch;            /* rows at a time; 0 = 1 */
    int64_t gradient_bytes;   /* most memory for gradients at a time; 0 = 256 MB */
    /* Called now and then, of a total of 1000; non-zero ends with PEFT_ECANCELLED. */
    int32_t (*progress)(void *ctx, int64_t done, int64_t total);
    void *ctx;
} peft_quantize_opts;
typedef struct peft_quantized {
    size_t size;
    int64_t bytes;            /* of all tensors now */
    int64_t least;            /* the same with the smallest types */
    double kl, least_kl;      /* KL a token on the data, of both; of models that are no
                                 language models 1 - cosine, the mean of all texts */
    double perplexity, reference_perplexity; /* of language models, else 0 */
    int32_t tensors;          /* that could be chosen for */
    char rule[32];            /* the estimate whose choice measured better */
} peft_quantized;
/* Gives every matrix of floats, linear layers and token embeddings, the type of its
 * own that makes KL(the model as it was || quantised) on the data least within the
 * budget; for encoders 1 - cosine of the mean hidden state of each text takes KL's
 * place, and heads and poolers, which it does not see, stay as they are.  With all at
 * their smallest types the gradient g of KL is computed; the type T of a tensor is
 * estimated to cost
 *     "gradient"  <g, W_T - W_least>, or
 *     "energy"    <g, W_least - W> |W_T - W|^2 / |W_least - W|^2,
 * and the choice of either (a multiple-choice knapsack, by Lagrange multiplier and
 * then greedily) is measured; the better one stays in the model.  peft_model_save
 * without a dtype writes GGUF files so; folders with dtype "held", for which the
 * other floats are rounded to the embeddings' type where nf4 or fp4 was chosen
 * beside F16 or BF16 ones.  Adapters must be merged or removed before.  PEFT_EARG
 * when the budget is below `least`, PEFT_ESTATE with adapters, PEFT_EUNSUPPORTED
 * without matrices of floats.  The data is best what the model will be used for. */
PEFT_API int32_t peft_quantize(peft_model *model, const peft_dataset *data,
                               const peft_quantize_opts *opts, peft_quantized *out);

#ifdef __cplusplus
}
#endif
#endif
