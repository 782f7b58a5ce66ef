/* Private to adapt/: what is true of an adapter's folder, by which readers.c judges. */
#ifndef ADAPT_READERS_H
#define ADAPT_READERS_H

#include "adapt/io.h"

enum fact {
    /* the folder */
    FACT_NO_CONFIG, FACT_NO_WEIGHTS, FACT_SHARDS, FACT_PICKLE, FACT_MLX, FACT_GGUF,
    FACT_GGUF_OTHER,
    /* adapter_config.json */
    FACT_NO_TYPE, FACT_UNKNOWN_TYPE, FACT_OTHER_TYPE, FACT_PROMPT, FACT_NO_RANK,
    FACT_NO_ALPHA, FACT_NO_TARGETS, FACT_NO_BASE, FACT_RSLORA, FACT_ALPHAS, FACT_SCALES,
    FACT_DORA, FACT_BIAS, FACT_SAVED, FACT_TOKENS, FACT_EXPERTS, FACT_ALORA, FACT_TURNED,
    FACT_TURNED_SQUARE, FACT_VARIANT, FACT_START, FACT_START_RANDOM, FACT_START_DATA,
    FACT_LARGE_RANK, FACT_HUGE_RANK,
    /* its tensors beside that */
    FACT_DORA_UNSAID, FACT_BIAS_UNSAID, FACT_TOKENS_UNSAID, FACT_RANK_UNSAID, FACT_UNCOVERED,
    FACT_OTHER_TARGETS, FACT_NO_PREFIX, FACT_NAMED, FACT_HALF, FACT_WHOLE, FACT_NORM,
    FACT_SAVED_ABSENT,
    /* and its base */
    FACT_NO_MODULE, FACT_BARE, FACT_SHAPE, FACT_TIED_HEAD,
    FACTS
};
struct facts {
    uint8_t has[FACTS];
    char found[FACTS][96];          /* where it was found first: a key or a tensor's name */
    char method[32];                /* "lora", or the file's peft_type */
    int64_t rank, tensors;
};

/* facts.c: of a folder, or a GGUF file; m is the base or NULL. */
int facts_collect(struct host *h, const struct model *m, const char *path, struct facts *f);

#endif
