/* What a step found, as named tables whose cells are filled one after the other.  Texts are
 * copied.  Failures to allocate are kept until tables_check. */
#ifndef PREP_TABLES_H
#define PREP_TABLES_H

#include "prep/prep.h"

/* `heads`: names with spaces between them. */
void tables_add(struct peft_tables *t, int32_t kind, const char *name, const char *title,
                const char *heads);
void tables_text(struct peft_tables *t, const char *text);
void tables_number(struct peft_tables *t, double x);
/* A row of PEFT_TABLE_FACTS. */
void tables_fact(struct peft_tables *t, const char *name, double x);
void tables_fact_text(struct peft_tables *t, const char *name, const char *text);
int tables_new(const struct host *h, struct peft_tables **out);
int tables_check(struct peft_tables *t);

/* The beginning of a text, of whole characters, with dots where it is cut; in the arena. */
const char *excerpt(struct arena *a, const char *s, int64_t n, int64_t most);

#endif
