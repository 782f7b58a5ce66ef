/* libpeft_kit: data preparation.  From a heap of examples to files that training reads.
 *
 * A library of its own above libpeft: programs that only train or answer do not carry it.
 * The rules of peft.h hold here too: threads, ownership, errors (reasons are read by
 * peft_errmsg), options that begin with their size, text in UTF-8.  Everything works row by
 * row: memory does not grow with the file but for what a docstring says.  An output file
 * appears whole, or not at all.
 */
#ifndef PEFT_DATA_H
#define PEFT_DATA_H

#include "peft.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How rows are read, in every function here; the same as in peft_dataset_opts. */
typedef struct peft_source_opts {
    size_t size;
    const char *columns;      /* names of the file's own: "text=body,label=stars" reads column
                                 "body" as "text"; NULL = as they are */
    const char *table;        /* of an SQLite file: a table's name or a query; NULL = its only
                                 table */
    int64_t chunk;            /* of plain texts: bytes of a row at most, cut at ends of paragraphs;
                                 0 = a paragraph a row, of a folder a file a row */
    int64_t limit;            /* rows read; 0 = all */
    int32_t threads;          /* 0 = one per usable core; at most 32 */
    const peft_load_opts *host; /* memory and files (alloc, io, log); NULL = the system's */
    /* Called now and then, with bytes of the input; non-zero ends with PEFT_ECANCELLED. */
    int32_t (*progress)(void *ctx, int64_t done, int64_t total);
    void *ctx;
} peft_source_opts;

/* ------------------------------------------------------------------ split */

enum { PEFT_TRAIN = 0, PEFT_VALID = 1, PEFT_TEST = 2, PEFT_SIDES = 3 };
typedef struct peft_split_opts {
    size_t size;
    const peft_source_opts *source; /* NULL = defaults */
    double ratio[3];          /* train, valid, test, relative to their sum; all 0 = 8, 1, 1 */
    const char *stratify;     /* column whose values each side has in equal shares, or NULL */
    const char *group;        /* column: rows with the same value stay on one side, or NULL */
    int32_t group_text;       /* 1 = so do rows whose texts are equal or nearly so */
    int32_t overwrite;        /* 1 = replace files that are there */
    uint64_t seed;
    /* Called once for each value of `stratify`, with its rows on each side. */
    void (*on_class)(void *ctx, const char *name, const int64_t *rows);
    void *ctx;
} peft_split_opts;
typedef struct peft_split {
    size_t size;
    int64_t rows[3], groups[3]; /* on each side; a row without a group is one */
    int64_t classes;
    int64_t scarce;           /* classes that some side has no row of */
    int64_t shared;           /* texts that are on more than one side; case, spaces and
                                 punctuation do not count */
} peft_split;
/* Deals the rows of the file `path` out to train.jsonl, valid.jsonl and test.jsonl, in their
 * order; a side whose ratio is 0 has no file.  `out` is a folder, or where it ends in '-',
 * '_' or '.' the beginning of the names.  Each class gets the largest remainders of its
 * shares, exactly; groups, the large ones first, go where they fit best.  Memory: nothing
 * for a row, some 40 bytes for a text or group that is not yet known.  PEFT_EDATA when a
 * side would stay empty; scarce classes are named in the log. */
PEFT_API int32_t peft_data_split(const char *path, const char *out, const peft_split_opts *opts,
                                 peft_split *result);
/* --------------------------------------------- results, as named tables
 * The same for a terminal, a page and JSON. */

enum {
    PEFT_TABLE_FACTS,         /* columns "name" and "value" */
    PEFT_TABLE_LIST,
    PEFT_TABLE_BARS,          /* the first column names what column "rows" counts */
    PEFT_TABLE_HISTOGRAM      /* "from", "to" (both within) and "rows"; rows in order */
};
typedef struct peft_cell {
    const char *text;         /* NULL: a number */
    double number;            /* NaN = none */
} peft_cell;
typedef struct peft_table {
    size_t size;
    const char *name, *title; /* "lengths", "Lengths in tokens" */
    int32_t kind;
    int32_t n_columns;
    int64_t n_rows;
    const char *const *columns; /* [n_columns] */
    const peft_cell *cells;     /* [n_rows, n_columns] */
} peft_table;
typedef struct peft_tables peft_tables;
/* The i-th table, PEFT_EEND after the last; or the one of that name.  What it points to lives
 * as long as `t`.  Any thread. */
PEFT_API int32_t peft_tables_at(const peft_tables *t, int32_t i, peft_table *out);
PEFT_API int32_t peft_tables_find(const peft_tables *t, const char *name, peft_table *out);
PEFT_API void peft_tables_free(peft_tables *t);

/* ------------------------------------------------------------ inspection */

typedef struct peft_inspect_opts {
    size_t size;
    const peft_source_opts *source; /* how rows are read; NULL = defaults */
    const peft_model *model;  /* whose tokens are counted; NULL = characters and words alone */
    int32_t max_len;          /* tokens; rows beyond it are counted; 0 = none */
    int32_t examples;         /* broken rows that are told with their reasons; 0 = 10 */
    uint64_t seed;            /* of the rows that are shown */
} peft_inspect_opts;
/* Looks at all rows of a file or folder and changes nothing.  A broken row is counted and
 * the next one read; PEFT_EDATA when there is no row at all.  Tables, of which those
 * without a row are left out:
 *   summary    facts: file, bytes, rows, schema, why, broken, empty, duplicates (of texts and
 *              label; an estimate beyond three million different rows: duplicates_exact is 0),
 *              mixed_scripts, label_kind, ...
 *   notes      level ("warning", "note"), text: what to look at before training
 *   schemas    schema, columns, rows, first_line: what kinds of rows there are
 *   columns    column, kind, filled (share of rows), texts, numbers, lists, others, empty, mean,
 *              least, most
 *   tokens, characters, words   histograms; their facts are in
 *   lengths    of, mean, median, p95, least, most, longest_line
 *   labels     label, rows, share: the most frequent first
 *   scripts    script, rows, share: writing systems, the first guess at languages
 *   broken     line, reason
 *   examples   line, label, text: some rows, drawn with the seed
 * Memory: some 100 MB at most, whatever the file's size. */
PEFT_API int32_t peft_data_inspect(const char *path, const peft_inspect_opts *opts,
                                   peft_tables **out);

/* ------------------------------------------------- normalizing, cleaning
 * What rules found and did is told as tables:
 *   summary    facts: rows, kept, dropped, changed, bytes (written), seconds ...
 *   rules      rule, action, rows (that it acted on), places (in their texts), about
 *   examples   rule, line, of (the line that it repeats, of the evaluation file for a leak),
 *              similarity (to that), field ("messages[2]"), before, after: a part of the text
 *              around what was found, of the first few rows of each rule
 */

typedef struct peft_normalize_opts {
    size_t size;
    const peft_source_opts *source;
    const char *form;         /* "nfc" (NULL), "nfkc" or "none": the Unicode normal form (UAX 15) */
    const char *rules;        /* names of rules to add or, behind '-', to leave out:
                                 "html,markdown,-space"; NULL = as listed below */
    double repeated;          /* of rule "repeated": rows that share a line before it counts as
                                 boilerplate, or their share when below 1; 0 = 0.02 */
} peft_normalize_opts;
/* Brings the texts of all rows into one form; labels, ids, numbers and all other members stay
 * as they are, and a row that needs nothing is written byte for byte.  `out` is JSONL and may
 * be `in`; NULL = only the report.  Rules in their order, those in brackets only by name:
 *
 *   lines        CR LF, CR, form feeds, U+2028 and their like become LF
 *   control      control, invisible and direction characters go, tabs and LF stay
 *   [html]       tags, comments, scripts and styles go; entities become characters
 *   [markdown]   marks of headings, emphasis, links, quotes and code go, their text stays
 *   [boilerplate] lines known from web pages go: notices of cookies, copyright, sharing
 *   [repeated]   lines go that many rows have, counted in a pass of its own (16 MiB; count-min
 *                sketch of Cormode and Muthukrishnan 2005, so rarely a line too many)
 *   unicode      the normal form
 *   space        runs of white space become one space, ends are cut, at most one blank line;
 *                indentation stays, and the ends of texts that meet others (prompt, completion)
 *
 * Texts in which other members hold positions (spans, answer_start) are left as they are and
 * counted.  *report may be NULL; free it with peft_tables_free. */
PEFT_API int32_t peft_data_normalize(const char *in, const char *out,
                                     const peft_normalize_opts *opts, peft_tables **report);

typedef struct peft_clean_opts {
    size_t size;
    const peft_source_opts *source;
    const char *actions;      /* what rules do, where not as listed below: "mail=mask,exact=flag" */
    const char *against;      /* evaluation data, whose rows must not be in `in`; NULL = none */
    const char *dropped;      /* JSONL of dropped rows: line, rule, of, similarity, row; or NULL */
    double near;              /* likeness from which on rows are near duplicates; 0 = 0.8 */
    int32_t shingle;          /* words that are compared as one; 0 = 3 */
    int64_t min_chars, max_chars; /* of all texts of a row; 0 = no such bound */
    const peft_model *model;  /* whose tokens are counted; may be NULL */
    int64_t min_tokens, max_tokens;
} peft_clean_opts;
/* Finds what should not be in training data, and writes the rest to `out`, in its order, as
 * JSONL that may be `in` itself; NULL = only the report.  Rules, and what they can do (first:
 * what they do unless told otherwise):
 *
 *   broken         drop, fail: no JSON object, or no UTF-8
 *   empty          drop, flag, off: no text at all
 *   encoding       flag, fix, drop, off: UTF-8 encoded twice, Windows' quotes as control
 *                  characters (fix repairs these two), U+FFFD, accents that are no language
 *   mail, phone, card, iban, key
 *                  flag, mask, drop, off: personal data and secrets; mask writes "[MAIL]"
 *   short, long    drop, flag, off: beyond the bounds given
 *   leak           drop, flag, off: its texts, or what it asks, stand in `against`, equal or
 *                  nearly so
 *   exact          drop, flag, off: the same texts and label as a row before; case and white
 *                  space do not count
 *   contradiction  flag, drop (all), majority, off: the same texts with another label; majority
 *                  keeps the label that most rows have, and none of a tie
 *   near           drop, flag, off: almost the same words as a row before that stays, and the
 *                  same label
 *
 * Likeness is Jaccard's, of the sets of `shingle` words in a row (Broder 1997), estimated by
 * sketches with a standard error of 0.035 at 0.8; of pairs that reach `near` at most one in a
 * hundred is not looked at.  Where positions point into a text, masks are stars and nothing is
 * repaired.  The file is read twice.  Memory: 92 bytes a row, 24 without rule "near", and some
 * 50 MB.  Any number of threads gives the same bytes. */
PEFT_API int32_t peft_data_clean(const char *in, const char *out, const peft_clean_opts *opts,
                                 peft_tables **report);

#ifdef __cplusplus
}
#endif
#endif
