/* Inside data/: the readers of files of rows. */
#ifndef DATA_SOURCE_H
#define DATA_SOURCE_H

#include "data/row.h"

/* A row beyond this is a broken file (an unclosed quote), or no row at all. */
enum { ROW_LIMIT = 16 << 20 };

/* A kind of file.  `next` puts one row into s->row, or points s->at to it, and
 * says where it begins: 1, 0 at the end, or < 0 with the place in the message. */
struct row_reader {
    const char *name, *endings;     /* of its files, ".csv.tsv" */
    bool (*knows)(const char *head, int64_t n); /* any file by its beginning; or NULL */
    int (*open)(struct row_source *s);
    int (*next)(struct row_source *s);
    void (*close)(struct row_source *s);    /* or NULL */
};
struct row_source {
    struct host *host;
    struct source_opts o;
    char *path;
    const char *file;               /* being read: `path`, or one of its files */
    const char *unit;               /* what `line` counts: "line", or "row" */
    const struct row_reader *reader;
    void *own;                      /* the reader's */
    struct arena arena;             /* lives as long as the source */
    struct line_reader *lines;
    struct rename *renames;
    int32_t n_renames;
    struct buf row, other;          /* the row as it is, and with its columns' new names */
    const char *at;
    int64_t n, line, column;        /* of its beginning, from 1 */
    int64_t count;                  /* rows so far */
    char excerpt[100];
};
extern const struct row_reader read_array, read_csv, read_sqlite, read_texts;

/* "PATH line 3 column 7: problem". */
int source_fail_at(const struct row_source *s, int64_t line, int64_t column, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The next line, which is text: 1, 0 or < 0. */
int source_line(struct row_source *s, char **line, int64_t *n, int64_t *number);
/* PEFT_EFORMAT when n bytes at this place are no text. */
int source_check(const struct row_source *s, const char *text, int64_t n, int64_t line,
                 int64_t column);
bool is_blank(const char *s, int64_t n);
static inline bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
/* Appends a cell, which is text, to the row as the value of a column: as JSON
 * where it is that (`raw`), or where the column may be and the cell looks so. */
int source_cell(struct row_source *s, const char *column, const char *cell, int64_t n,
                bool raw);

/* --- folder.c */
#define PICTURE_ENDINGS ".png.jpg.jpeg"
bool has_ending(const char *path, const char *endings);
struct names {
    struct arena *arena;
    struct buf list;                /* of char * */
    int64_t n;
    bool oom;
};
/* The entries of a folder, sorted, hidden ones left out. */
int list_folder(struct host *h, const char *path, struct names *l);
char *name_at(const struct names *l, int64_t i);

#endif
