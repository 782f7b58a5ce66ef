/* LN tuning (Zhao et al. 2023): copies of the norms' weights and biases train,
 * as PEFT's LN_TUNING keeps them. */
#include "adapt/adapt.h"

const struct method method_ln = {
    .name = "ln",
    .peft_type = "LN_TUNING",
    .about = "the weights and biases of the norms",
    .keeps = "ln_tuning_layers",
    .at = SITE_NORM,
    .lr = 2e-3f
};
