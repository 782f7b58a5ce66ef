/* Counting what rules do, in file order, with the first examples of each. */
#ifndef PREP_REPORT_H
#define PREP_REPORT_H

#include "prep/fields.h"
#include "prep/flow.h"

enum { REPORT_RULES = 24, REPORT_EXAMPLES = 4 };
struct shown {
    int64_t line, of;               /* `of`: the row that it repeats, 0 = none */
    double similarity;
    char field[48], before[160], after[160];
};
struct report {
    struct report_rule {
        const char *name, *about, *action;
        int64_t rows, places;
        _Atomic int n_examples;
        struct shown example[REPORT_EXAMPLES];
    } rule[REPORT_RULES];
    int n;
    int64_t rows, kept, changed, fixed, bytes, leaked;
    double began;
};
/* Copies the part of a text around `at`, at most cap - 1 bytes of whole characters; dots
 * stand for what is left out. */
void text_around(char *out, size_t cap, const char *s, int64_t n, int64_t at);
/* An example of a change; `after` may be NULL, and then `at` is what was found. */
struct shown example_of(const struct field *f, const char *before, int64_t n, const char *after,
                          int64_t m, int64_t at);

/* Whether a rule has too few examples so far; any thread.  A row that it is true for is
 * shown only if it is among the first of the file. */
static inline bool report_wants(const struct report *report, int rule)
{
    return report->rule[rule].n_examples < REPORT_EXAMPLES;
}
/* What `work` found in a row is appended to r->more.  At most one example a rule and row is
 * of use. */
void finding_add(struct flow_row *r, int rule, int64_t places, const struct shown *e);
/* In `take`: counts the row's findings. */
void findings_take(const struct flow_row *r, struct report *report);
/* One example more, if there is room. */
void report_show(struct report *report, int rule, const struct shown *e);
int report_tables(const struct host *h, const struct report *report, peft_tables **out);

#endif
