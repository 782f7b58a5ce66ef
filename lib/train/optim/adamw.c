/* AdamW (Loshchilov & Hutter 2019) with torch's order of operations; the
 * formula stands with the kernel in kernel.h. */
#include "train/train.h"

static void step(const struct kernels *k, float *w, const float *g, float *const *state, int64_t n,
                 const struct hyper *h)
{
    const struct adamw a = { h->lr, h->beta1, h->beta2, h->eps, h->decay, h->gscale, h->bias1,
                             h->bias2 };
    k->adamw(w, g, state[0], state[1], n, &a);
}

/* The second state is a mean of squares. */
static const struct optimizer adamw = { "adamw", 2, 1 << 1, step };
const struct optimizer *const optimizers[] = { &adamw, NULL };
