/* What several public functions check. */
#include "api/api.h"

int no_trainers(const struct model *m)
{
    if (!m->trainers) return PEFT_OK;
    return fail(PEFT_ESTATE, "a trainer is alive on this model, expected it to be freed first");
}
