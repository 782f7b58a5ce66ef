/* AdamW (Loshchilov & Hutter 2019) with torch's order of operations; the
 * formula stands with the kernel in kernel.h. */
#include <math.h>

#include "train/train.h"

struct update { const struct kernels *k; struct adamw h; float *w, *m, *v; const float *g; };

static void piece(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct update *u = arg;
    (void)worker;
    u->k->adamw(u->w + begin, u->g + begin, u->m + begin, u->v + begin, end - begin, &u->h);
}

/* 0.999f is not 0.999: torch holds its betas as doubles, and 1 - beta^t of the
 * float would be off by 1e-5. */
static double correction(float beta, int64_t t)
{
    return 1.0 - pow(round((double)beta * 1e7) / 1e7, (double)t);
}

static void step(const struct compute *c, float *w, const float *g, float *const *state, int64_t n,
                 const struct hyper *h)
{
    struct update u = { c->k, { h->lr, h->beta1, h->beta2, h->eps, h->decay, h->gscale,
                                correction(h->beta1, h->t), correction(h->beta2, h->t) },
                        w, state[0], state[1], g };
    compute_rows(c, n, 16384, piece, &u);
}

static const struct optimizer adamw = { "adamw", 2, step };
const struct optimizer *const optimizers[] = { &adamw, NULL };
