/* Inside data/: rows as tokens in files. */
#ifndef DATA_SHARD_H
#define DATA_SHARD_H

#include "data/row.h"

struct shard_writer;
/* A file, or with `rows` > 0 a folder of files with so many rows each. */
int shard_create(struct host *h, const char *out, int64_t rows, struct shard_writer **w);
/* Appends a row, of whose question `question` is the number. */
int shard_put(struct shard_writer *w, const struct coder *e, const struct example *x,
              const struct dataset *d, int64_t question);
/* Writes the last file's end, and all of it becomes visible; or, with rc < 0,
 * nothing.  Frees w. */
int shard_close(struct shard_writer *w, const struct coder *e, const struct dataset *d, int rc);
/* Whether the path is such a file, or a folder with some. */
bool shard_known(struct host *h, const char *path);
/* Fills an empty data set; its rows point into the mapped files. */
int shard_load(struct dataset *d, const struct coder *e, const char *path);

#endif
