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

#ifdef __cplusplus
}
#endif
#endif
