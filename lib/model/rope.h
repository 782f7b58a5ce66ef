/* Private to model/: scalings of rotary positions, and their settings in files. */
#ifndef MODEL_ROPE_H
#define MODEL_ROPE_H

#include "model/model.h"

enum rope_type { ROPE_LINEAR, ROPE_DYNAMIC, ROPE_LLAMA3, ROPE_YARN, ROPE_LONG, ROPE_TYPES };
enum rope_room { ROOM_SAME, ROOM_ANY, ROOM_TIMES_MAX, ROOM_TIMES_ORIGINAL };
struct rope_kind {
    const char *name, *gguf;        /* rope_type in config.json; rope.scaling.type, NULL = none */
    uint8_t room;                   /* what `factor` says about the longest sequence */
    /* What multiplies cosines and sines where no setting says it; NULL = 1. */
    double (*attention)(const struct rope_scaling *s);
    /* Scales the plain frequencies f [rot / 2] for sequences of `length`; NULL =
     * the divisors do. */
    void (*fill)(const struct hparams *hp, const struct rope_scaling *s, double theta,
                 int64_t length, double *f);
};
extern const struct rope_kind rope_kinds[ROPE_TYPES];

/* Frequencies f [rot / 2] of sequences of `length`. */
void rope_frequencies(const struct hparams *hp, const struct rope_scaling *s, double theta,
                      int64_t length, double *f);
double rope_yarn_mscale(double factor, double by);

/* Tables for one pass after another, where lengths change them; room is kept. */
struct rope_cache { float *table; int64_t rows, key; };
int rope_begin(struct pass *p, struct rope_cache cache[2]);

/* --- scaling.c */
int scaling_read(struct model *m);              /* settings -> hp.rope, hp.room */
int scaling_bind(struct model *m);              /* divisors that are tensors of a GGUF file */
int scaling_put_config(const struct model *m, struct buf *b, int *n);
/* NULL, or what of the scaling GGUF cannot say. */
const char *scaling_beyond_gguf(const struct model *m);
struct scaling_sink {                           /* one per written member */
    void (*number)(void *ctx, const char *key, double x);
    void (*string)(void *ctx, const char *key, const char *value);
    void *ctx;
};
void scaling_put_gguf(const struct model *m, const struct scaling_sink *to);
/* Divisors as tensors of a GGUF file: i-th of them, [rot / 2] in `a`; 1 = there is one. */
int scaling_tensor(const struct model *m, struct arena *a, int i, const char **name,
                   const float **values);
void put_member(struct buf *b, const char *key, int *n);       /* save_config.c */

#endif
