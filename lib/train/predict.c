/* What a step will take. */
#include "train/train.h"

double predict_step(struct trainer *t)
{
    return t->flops * (double)trainer_micros(t) * 1e-11 * (1 + 0.03 * t->how.lean) + 1e-3 * t->how.parts;
}
