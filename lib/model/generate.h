/* Private to model/: generation, token by token (generate.c), by several beams at
 * once (beam.c), or of several answers at once (serve.c). */
#ifndef MODEL_GENERATE_H
#define MODEL_GENERATE_H

#include "model/model.h"

struct candidate { float p; int32_t id; };
struct gen {
    struct model *m;
    const peft_generate_opts *o;
    const struct adapter *acts[PEFT_BEAMS_MAX];     /* of each sequence of a pass, all the same */
    peft_generated *out;
    int64_t layers, width;          /* of the main stack; floats of a cached row */
    int64_t beams, cap;             /* sequences, and the room of each */
    const struct adapted *virtual;  /* whose tokens are in the caches */
    int64_t each;                   /* rows of a cache for each sequence, of virtual tokens too */
    int64_t limit;                  /* new tokens */
    int64_t n_source, n_cross;      /* tokens of an encoder's text, and with virtual ones */
    struct kv_cache *cache, *cross; /* [layers] */
    float *memory;                  /* all caches in one block */
    int64_t row, rows;              /* where the sequence begins in a cache, and all there are */
    int32_t *pos, *tokens;          /* of the source, then [cap]: prompt and answer */
    int64_t n;                      /* tokens, behind the source */
    struct candidate *order;        /* [vocab], for sampling */
    struct ids *ids;                /* the answer's tokens, or NULL */
    struct buf text;                /* the answer so far */
    struct buf piece;               /* what of it is handed out, as UTF-8 */
    int64_t emitted;                /* bytes of it */
    double began;
};

/* Begins an answer, all of whose memory but caches, pos, tokens and `order` it gets,
 * from a prompt that has room. */
void gen_begin(struct gen *g, struct model *m, const struct gen_request *r);
/* How many tokens the prompt and the answer can have; < 0: the prompt does not fit. */
int64_t gen_cap(const struct model *m, const struct gen_request *r);
/* Caches of g->rows rows, and the source's. */
int gen_make_cache(struct gen *g);
/* Whether the virtual tokens are those of the beginning. */
int gen_goes_on(const struct gen *g);
/* Whether there is room for no more, which g->out tells. */
int gen_full(struct gen *g);
int32_t gen_sample(struct gen *g, float *z);
/* Takes the next token: 1 = the answer is at its end. */
int gen_take(struct gen *g, int32_t id);
/* The rest of the text, if it went well; and frees what gen_begin got. */
int gen_end(struct gen *g, int rc);
/* All tokens from `at` on; *logits of the last one, unless logits is NULL. */
int gen_catch_up(struct gen *g, int64_t at, float **logits);
/* Token `at` of each beam, run [beams][cap]; logits [beams, vocab]. */
int gen_advance_beams(struct gen *g, int64_t at, const int32_t *run, float **logits);
/* Keskar et al. 2019, as Hugging Face applies it: once for each token seen. */
void gen_penalise(const struct gen *g, const int32_t *seen, int64_t n, float *z);
/* Gives one token out: 1 = the answer is at its end, which g->out tells. */
int gen_say(struct gen *g, int32_t id);
/* The best answer by beam search, from the logits of the prompt's last token. */
int beam_answer(struct gen *g, const float *z);

#endif
