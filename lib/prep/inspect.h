/* Inside the inspection of data: what is known of one row, and of all. */
#ifndef PREP_INSPECT_H
#define PREP_INSPECT_H

#include "prep/flow.h"
#include "prep/script.h"
#include "prep/sketch.h"
#include "prep/tables.h"
#include "prep/tally.h"

enum { EXAMPLES = 5, EXCERPT = 400, WHY = 240 };

/* --- inspect_row.c: what a row says by itself; any thread */
struct facts {
    int64_t chars, words, tokens;   /* tokens: with a model */
    uint64_t hash;                  /* of all texts and the label */
    double label;                   /* a number, else NaN */
    int32_t width, height;          /* of its picture, 0 = none */
    int script;
    bool mixed, empty, broken;
    char why[WHY];                  /* of a broken row */
};
struct inspect_reader {
    struct host *host;
    const peft_model *model;
    bool chat, causal;
    char *folder;                   /* that names of pictures begin in */
};
/* PEFT_EFORMAT or PEFT_ENOTFOUND for a picture that cannot be read. */
int row_facts(const struct inspect_reader *r, json *row, struct facts *out);
/* Its texts one after the other, for an example; cleared before. */
int row_words(json *row, struct buf *out);

/* --- inspect.c */
struct example_row { int64_t line; const char *text, *label; };
struct broken_row { int64_t line; const char *why; };
struct inspection {
    struct host host;
    const char *path;
    bool many;                      /* a folder: its rows are counted, not lines */
    peft_inspect_opts o;
    peft_source_opts source;
    struct inspect_reader reader;
    struct tally tally[POOL_MAX];   /* each thread's; at the end the first is the sum */
    int n_tallies;
    struct arena names;
    struct buf text;
    double label_sum, label_least, label_most;
    int64_t numbers;                /* labels that are one */
    bool label_fraction;
    struct lengths chars, words, tokens, width, height;
    struct distinct distinct;
    int64_t script[SCRIPTS + 1], mixed, mixed_line;             /* the last: without letters */
    struct example_row example[EXAMPLES];
    struct broken_row *broken_row;  /* [o.examples] */
    int64_t rows, empty, empty_line, broken, bytes;
};

/* --- inspect_tables.c */
int inspect_tables(const struct inspection *x, struct peft_tables *t);

#endif
