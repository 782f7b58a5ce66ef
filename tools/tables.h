/* Tables of results, of the kit or made here: on a terminal, in JSON and in a page. */
#ifndef TABLES_H
#define TABLES_H

#include "cli.h"

/* Facts and bars as wide as the terminal; lists as tables.  Titles stand above. */
void table_print(FILE *to, const peft_table *t);
/* A member of that name: an object of facts, a list of objects otherwise. */
void table_json(struct json *j, const peft_table *t);
/* A member for each. */
void tables_json(struct json *j, const peft_tables *tables);
/* A figure or table of a page with `page_style`; what is in it is escaped. */
void table_html(FILE *to, const peft_table *t);
/* The value of a fact, or NULL. */
const peft_cell *table_fact(const peft_table *t, const char *name);
/* A cell by its column's name, or NULL. */
const peft_cell *table_cell(const peft_table *t, int64_t row, const char *column);

/* A table that grows; its texts are copied. */
struct sheet {
    peft_table view;
    const char *columns[16];
    peft_cell *cells;
    int64_t n, cap;
};
void sheet_begin(struct sheet *s, int32_t kind, const char *name, const char *title,
                 const char *const *columns, int32_t n);
void sheet_text(struct sheet *s, const char *text);
void sheet_number(struct sheet *s, double x);
void sheet_fact(struct sheet *s, const char *name, double x);
const peft_table *sheet_view(struct sheet *s);
void sheet_free(struct sheet *s);

/* data_inspect.c: FILE or --eval's file, with --model's tokens. */
int32_t inspect_file(const struct args *args, const char *path, const peft_model *model,
                     const peft_source_opts *source, peft_tables **out);

#endif
