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
/* What is known of a row, in their order. */
enum { NO_VERDICT = 0xff };
struct row_info {
    uint64_t text;                  /* hash of all its texts */
    uint32_t label;                 /* hash; 0 = none */
    uint32_t line;
    uint32_t of;                    /* the row that it repeats, or NO_ROW; when all is known that
                                       one's line, or 0 */
    uint8_t verdict;                /* the rule that has caught it, or NO_VERDICT */
    uint8_t equal;                  /* bins in common with `of` */
    bool changed;
};
/* What the first pass finds in a row. */
struct clean_note {
    struct row_info info;
    struct near_row near;
    uint64_t input;                 /* hash of what it asks */
    bool sketched, asks;
};
struct clean_late { int64_t line; struct row_info info; char reason[160]; };    /* is no text */

struct clean {
    struct host host;
    const char *in;
    peft_clean_opts o;
    peft_source_opts source;
    int shingle;
    double near;
    enum action act[CLEAN_RULES];
    struct personal personal;
    struct clean_worker worker[POOL_MAX];
    struct scratch scratch;
    int64_t memory;
    struct spill infos;             /* of struct row_info */
    struct near near_rows;
    struct sorter inputs;           /* (hash of what it asks, row) */
    bool evaluation;                /* its rows are being read */
    bool again;                     /* the second pass */
    int64_t first;                  /* rows before it are the evaluation data's */
    struct spill_reader known;      /* in the second pass what is known of the next rows */
    struct report report;
    struct writer *to, *dropped;
    struct buf late;                /* rows that are no text, ahead of their turn */
    int64_t late_at;                /* taken of these */
    int64_t done, total;            /* for progress */
    int64_t search;                 /* the search for what is alike counts as so many bytes */
};
/* --- clean_row.c */
int clean_look(void *ctx, struct flow_row *r, int worker);      /* `work` of the first pass */
int clean_again(void *ctx, struct flow_row *r, int worker);     /* of the second */
/* --- clean_repeat.c: verdicts on rows that repeat others, between the passes; after it c->infos
 * are those of the file alone */
int clean_repeats(struct clean *c);

#endif
