/* Text that was read or written in the wrong encoding. */
#ifndef PREP_DAMAGE_H
#define PREP_DAMAGE_H

#include "prep/prep.h"

struct damage {
    int64_t twice;                  /* characters encoded more than once: "\xc3\x83\xc2\xa9" */
    int64_t control;                /* Windows' quotes and dashes as control characters */
    int64_t lost;                   /* U+FFFD, and runs of accents that are another alphabet */
    int64_t at;                     /* the first of all */
};
/* With `out` also the text with what can be repaired repaired, appended when there is such:
 * twice + control > 0. */
void damage_find(const char *s, int64_t n, struct damage *d, struct buf *out);

#endif
