/* Private to base/: what reading and writing share. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "host.h"

static inline bool is_slash(char c)
{
#ifdef _WIN32
    return c == '/' || c == '\\';
#else
    return c == '/';
#endif
}
/* The folder a path lies in, "." when it names none; allocated. */
char *path_parent(struct host *h, const char *path);

#endif
