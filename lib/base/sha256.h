/* SHA-256 (FIPS 180-4) of a file, to name data by. */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include "base/host.h"

enum { SHA256_HEX = 65 };
/* The hash in lower-case hexadecimal, NUL-terminated. */
void sha256(const void *data, int64_t n, char hex[SHA256_HEX]);
int sha256_file(struct host *h, const char *path, char hex[SHA256_HEX]);

#endif
