/* Which writing systems a text is in: the first guess at its language. */
#ifndef PREP_SCRIPT_H
#define PREP_SCRIPT_H

#include "prep/prep.h"

enum { SCRIPTS = 34 };
struct script_counts { int64_t letters[SCRIPTS], all; };
/* Adds a text's letters; its characters and its words, which spaces part, are added to *chars
 * and *words. */
void script_count(struct script_counts *c, const char *s, int64_t *chars, int64_t *words);
/* The script of most letters, -1 without any; *mixed: another has a tenth of them or more. */
int script_main(const struct script_counts *c, bool *mixed);
const char *script_name(int script);

#endif
