/* Which columns, labels and schemas rows have.  Each thread counts its rows by itself; the
 * sum of two tallies does not depend on who counted which row. */
#ifndef PREP_TALLY_H
#define PREP_TALLY_H

#include "prep/prep.h"

enum { COLUMNS_HELD = 1 << 12, LABELS_HELD = 1 << 14, SHAPES_HELD = 1 << 12, KINDS = 6 };
struct tally_column {
    const char *name;
    int64_t first_line, place;      /* in that row */
    int64_t kinds[KINDS];           /* by enum json_kind; absent counts as none */
    int64_t blank, bytes;           /* empty texts and lists; of texts */
    double least, most;             /* of numbers */
};
struct tally_label { const char *name; int64_t first_line, rows; bool number; };
/* Rows of the same columns, of the same kinds, have the same schema. */
struct tally_shape {
    const char *key;
    struct schema_match schema;
    int64_t first_line, rows;
};
struct tally {
    struct arena names;
    struct map column_at, label_at, shape_at;
    struct tally_column *column;    /* [COLUMNS_HELD] and so on */
    struct tally_label *label;
    struct tally_shape *shape;
    int64_t n_columns, n_labels, n_shapes, more_columns, more_labels, labelled;
    int64_t label_line[2];          /* the first of a name, and of a number; 0 = none */
    const char *label_key;
    struct buf key;
};
int tally_init(struct tally *t, struct mem *mem);
void tally_free(struct tally *t);
int tally_row(struct tally *t, json *row, int64_t line);
/* Adds b's counts to a; tally_sort afterwards puts them in the order of the file. */
int tally_add(struct tally *a, const struct tally *b);
void tally_sort(struct tally *t);

#endif
