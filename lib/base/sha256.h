/* SHA-256 (FIPS 180-4) of a file, to name data by. */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include "base/host.h"

enum { SHA256_HEX = 65, SHA256_BYTES = 32 };
struct sha256 { uint32_t h[8]; uint8_t block[64]; int64_t n; bool fast; /* cpu_has_sha */ };
void sha256_begin(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, int64_t n);
void sha256_end(struct sha256 *s, uint8_t out[SHA256_BYTES]);
/* The hash in lower-case hexadecimal, NUL-terminated. */
void sha256(const void *data, int64_t n, char hex[SHA256_HEX]);
int sha256_file(struct host *h, const char *path, char hex[SHA256_HEX]);

#endif
