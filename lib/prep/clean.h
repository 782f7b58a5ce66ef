/* Cleaning in two passes over the file: the first looks at each row by itself and keeps of it
 * what tells repeated ones, the second writes what stays. */
#ifndef PREP_CLEAN_H
#define PREP_CLEAN_H

#include "prep/near.h"
#include "prep/personal.h"
#include "prep/report.h"

enum clean_rule {
    RULE_BROKEN, RULE_EMPTY, RULE_ENCODING, RULE_PERSONAL, RULE_SHORT = RULE_PERSONAL +
    PERSONAL_KINDS, RULE_LONG, RULE_LEAK, RULE_EXACT, RULE_CONTRADICTION, RULE_NEAR, CLEAN_RULES
};
/* What a rule does with a row that it catches. */
enum action { ACT_OFF, ACT_FLAG, ACT_DROP, ACT_FIX, ACT_MASK, ACT_MAJORITY, ACT_FAIL, ACTIONS };

/* What one thread needs. */
struct clean_worker {
    struct words words, input;
    struct field *fields;
    int64_t cap;
    struct buf text[2], label;
};
/* What the first pass finds in a row. */
struct clean_note { struct row_info info; struct sketch sketch; };
struct clean_input { uint64_t hash; uint32_t row; };    /* of a row of the evaluation data */
struct clean_late { int64_t index, line; char reason[160]; };   /* a row that is no text */

struct clean {
    struct host host;
    peft_clean_opts o;
    peft_source_opts source;
    int shingle;
    double near;
    enum action act[CLEAN_RULES];
    struct personal personal;
    struct clean_worker worker[POOL_MAX];
    struct rows rows;
    bool evaluation;                /* its rows are being read */
    int64_t first;                  /* rows before it are the evaluation data's */
    struct clean_input *inputs;     /* [n_inputs], by hash: what is asked there */
    int64_t n_inputs, cap_inputs;
    struct report report;
    struct writer *to, *dropped;
    struct buf late;                /* rows that are no text, ahead of their turn */
    int64_t late_at, at;            /* taken of these; rows taken in this pass */
    int64_t done, total;            /* for progress */
};
/* --- clean_row.c */
int clean_look(void *ctx, struct flow_row *r, int worker);      /* `work` of the first pass */
int clean_again(void *ctx, struct flow_row *r, int worker);     /* of the second */
/* --- clean_repeat.c: verdicts on rows that repeat others, between the passes */
int clean_repeats(struct clean *c);

#endif
