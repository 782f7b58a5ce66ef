/* Private to base/: what reading and writing share. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "host.h"

/* "path: cannot read: no space left on device" for a negative errno value.
 * PEFT_ENOTFOUND for ENOENT, PEFT_ENOMEM for ENOMEM, else PEFT_EIO. */
int io_fail(int64_t err, const char *path, const char *what);
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
