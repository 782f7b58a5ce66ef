/* Records beyond memory: lists and sorted sequences that lie in memory as long as they are
 * small, and then in temporary files, which are gone in any case when they are freed, and
 * those of the system's own file access when the process is killed.  What they hold does not
 * depend on where they do. */
#ifndef PREP_SPILL_H
#define PREP_SPILL_H

#include "prep/prep.h"

/* Where the files go.  They are read and written by one thread at a time. */
struct scratch {
    struct host *host;
    char *beside;                   /* what their names begin with */
    struct os_mutex *mutex;
};
/* `beside`: a file or folder in whose folder they are made. */
int scratch_begin(struct scratch *s, struct host *h, const char *beside);
void scratch_end(struct scratch *s);

/* A file that is written, turned, and read at any place.  `fleeting`: the system removes it,
 * however the process ends. */
struct scratch_file { struct scratch *to; char *path; void *file; int64_t n; bool fleeting; };

/* --- a list of records of one size */
struct spill {
    struct scratch_file f;
    int64_t size, most;             /* bytes of a record; bytes in memory, some */
    int64_t n, block;               /* records; of them in a block */
    struct buf blocks;              /* of char *: all, or the one that is being written */
};
void spill_begin(struct spill *s, struct scratch *to, int64_t size, int64_t most);
int spill_put(struct spill *s, const void *record);
/* Nothing more is put, and reading begins. */
int spill_turn(struct spill *s);
/* The i-th: in memory where it lies, or read into `room`; NULL = failure.  Any thread. */
const void *spill_at(struct spill *s, int64_t i, void *room);
void spill_free(struct spill *s);
/* All of them in order; each thread has its own. */
struct spill_reader { struct spill *s; char *data; int64_t at, from, n; };
void spill_read(struct spill_reader *r, struct spill *s);
/* The next one, valid until the next call: 1, 0 = none is left. */
int spill_next(struct spill_reader *r, const void **record);
void spill_close(struct spill_reader *r);

/* --- records of one or two words, which come back by their first word, and of equal ones as
 * they were put */
struct sorter {
    struct scratch_file f;
    int words;
    int low;                        /* bits of the first word by which they are in order anyway */
    uint64_t *list, *other;         /* [cap * words] */
    int64_t n, cap, most;           /* records in `list`; `most`: of cap */
    struct buf runs;                /* of struct sorter_run */
    struct sorter_head *heap;       /* of runs, that of the least record first */
    int64_t n_heap, at;
};
/* Of about so many bytes in memory. */
void sorter_begin(struct sorter *s, struct scratch *to, int words, int low, int64_t bytes);
int sorter_put(struct sorter *s, uint64_t a, uint64_t b);
int sorter_turn(struct sorter *s);
/* The next one, record[words]: 1, 0 = none is left. */
int sorter_next(struct sorter *s, uint64_t *record);
/* Records that belong to rows, whose numbers are the upper halves of their first words: of row
 * after row those that it has. */
struct sorter_rows { struct sorter *s; uint64_t next[2]; int more; };
int sorter_rows(struct sorter_rows *r, struct sorter *s);       /* turns s */
/* The next record of this row: 1, 0 = it has none, or no further one. */
int sorter_row(struct sorter_rows *r, int64_t row, uint64_t *record);
void sorter_free(struct sorter *s);

#endif
