/* Rows of a file in file order, worked on by threads: memory is bounded by a few batches,
 * and what is made does not depend on the number of threads. */
#ifndef PREP_FLOW_H
#define PREP_FLOW_H

#include "prep/prep.h"

struct flow_row {
    const char *text;               /* the row as JSON text, a line of JSONL byte for byte */
    int64_t n;
    int64_t line, index;            /* of the file, from 1; among the rows, from 0 */
    json *row;                      /* by flow_parse; freed when `work` returns */
    struct buf *out;                /* appended to by `work`: the row as it shall be, or nothing
                                       when it stays as it is */
    int64_t out_at, out_n;          /* this row's share of it, known to `take` */
    void *note;                     /* flow.note zeroed bytes, from `work` for `take` */
    struct buf *more;               /* appended to by `work`: what else `take` shall know */
    int64_t more_at, more_n;
    const char *path;
};

struct flow {
    struct host *host;
    const char *path;
    const peft_source_opts *source; /* NULL = defaults */
    int64_t note;                   /* bytes */
    void *ctx;
    /* Each may be NULL.  `know` is called by the caller's thread in file order, before `work`
     * and without the text: it puts into the note what is known of the row.  `work` is called
     * by any thread, `take` by the caller's in file order.  A failure of one ends the run: the
     * first in file order is told. */
    int (*know)(void *ctx, struct flow_row *r);
    int (*work)(void *ctx, struct flow_row *r, int worker);
    int (*take)(void *ctx, struct flow_row *r);
    /* A row that cannot be read: error_message() says why, and the next one follows.  NULL =
     * it ends the run.  By the caller's thread, ahead of `take`. */
    int (*broken)(void *ctx, int64_t line);
    int64_t done, total;            /* for progress: bytes of runs before, of all; 0 = this one */
};
/* PEFT_ECANCELLED when the source's progress says so. */
int flow_run(struct flow *f);
/* Bytes of a file, for progress; 0 for what is none. */
int64_t flow_size(struct host *h, const char *path);
/* Threads that flow_run works with: workers are 0 .. n - 1. */
int flow_threads(const peft_source_opts *source);

/* The row as a tree in r->row, for `work`. */
int flow_parse(struct flow_row *r);
/* The changed r->row becomes the row's text. */
int flow_change(struct flow_row *r);
/* The row as a line of JSONL. */
void flow_put(struct writer *w, const struct flow_row *r);
/* Its text as it shall be. */
const char *flow_text(const struct flow_row *r, int64_t *n);

#endif
