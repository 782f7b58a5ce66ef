/* Version, names of the failure codes, and the thread's message. */
#include "base/base.h"

static const struct { int32_t code; const char *name; } codes[] = {
    {PEFT_OK, "PEFT_OK"},
    {PEFT_EARG, "PEFT_EARG"},
    {PEFT_ENOMEM, "PEFT_ENOMEM"},
    {PEFT_EIO, "PEFT_EIO"},
    {PEFT_EFORMAT, "PEFT_EFORMAT"},
    {PEFT_EUNSUPPORTED, "PEFT_EUNSUPPORTED"},
    {PEFT_ENOTFOUND, "PEFT_ENOTFOUND"},
    {PEFT_ESTATE, "PEFT_ESTATE"},
    {PEFT_ENONFINITE, "PEFT_ENONFINITE"},
    {PEFT_ECANCELLED, "PEFT_ECANCELLED"},
    {PEFT_EEND, "PEFT_EEND"},
    {PEFT_EDATA, "PEFT_EDATA"},
};

int32_t peft_version(void)
{
    return PEFT_VERSION;
}

const char *peft_errname(int32_t code)
{
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (codes[i].code == code) return codes[i].name;
    return "PEFT_E?";
}

const char *peft_errmsg(void)
{
    return error_message();
}

int32_t peft_fail(int32_t code, const char *reason)
{
    return fail(code, "%s", reason ? reason : "");
}
