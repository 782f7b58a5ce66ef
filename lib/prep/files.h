/* Several files that appear together, each whole, or not at all. */
#ifndef PREP_FILES_H
#define PREP_FILES_H

#include "base/host.h"

enum { FILES_MAX = 3 };
struct files {
    struct host *host;
    int n;
    bool made;                      /* the folder is ours */
    char *dir, *path[FILES_MAX];
    struct writer *to[FILES_MAX];
};
/* `out` names a folder, which may not exist yet, or where it ends in '-', '_' or '.' the
 * beginning of the names.  Files that exist are refused unless `overwrite`. */
int files_open(struct files *f, struct host *h, const char *out, const char *const *names, int n,
               bool overwrite);
/* Frees *f in any case. */
int files_commit(struct files *f);
void files_abort(struct files *f);

#endif
