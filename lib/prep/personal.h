/* Personal data and secrets in a text, by their form. */
#ifndef PREP_PERSONAL_H
#define PREP_PERSONAL_H

#include "prep/prep.h"

enum personal_kind { PERSONAL_MAIL, PERSONAL_PHONE, PERSONAL_CARD, PERSONAL_IBAN, PERSONAL_KEY,
                     PERSONAL_KINDS };
extern const char *const personal_masks[PERSONAL_KINDS];    /* "[MAIL]" */
struct personal {
    uint8_t class[256];
    uint8_t key[1 << 13];           /* bits of pairs of letters that keys begin with */
};
void personal_init(struct personal *p);
struct personal_place { int64_t from, to; enum personal_kind kind; };
/* The next place from `at` on, of the kinds whose bits are set: false = none. */
bool personal_next(const struct personal *p, const char *s, int64_t n, uint32_t kinds, int64_t at,
                   struct personal_place *out);

#endif
