/* Options and results by size. */
#include "base/opts.h"

/* No struct of this library will be that large: the field was not filled in. */
enum { SIZE_LIMIT = 1 << 16 };

int take_options(void *mine, size_t size, const void *theirs)
{
    size_t given;
    memset(mine, 0, size);
    memcpy(mine, &size, sizeof(size));
    if (!theirs) return PEFT_OK;
    memcpy(&given, theirs, sizeof(given));
    if (given < sizeof(size_t) || given > SIZE_LIMIT)
        return fail(PEFT_EARG,
                    "options with size %zu, expected sizeof of their struct in the first field",
                    given);
    for (size_t i = size; i < given; i++)
        if (((const unsigned char *)theirs)[i])
            return fail(PEFT_EUNSUPPORTED,
                        "options have a field at byte %zu that this version does not know", i);
    memcpy(mine, theirs, MIN(size, given));
    memcpy(mine, &size, sizeof(size));
    return PEFT_OK;
}

int check_result(const void *theirs)
{
    size_t given;
    if (!theirs) return fail(PEFT_EARG, "no struct for the result given");
    memcpy(&given, theirs, sizeof(given));
    if (given < sizeof(size_t) || given > SIZE_LIMIT)
        return fail(PEFT_EARG,
                    "a result struct with size %zu, expected its sizeof in the first field", given);
    return PEFT_OK;
}

void give_result(void *theirs, void *mine, size_t size)
{
    size_t given;
    memcpy(&given, theirs, sizeof(given));
    memcpy(mine, &given, sizeof(given));
    memcpy(theirs, mine, MIN(size, given));
}
