/* Register tiles for 64-bit ARM: 16 of the 32 registers hold sums, which keeps four
 * pipes of latency four busy. */
#include "base/base.h"
#ifdef __aarch64__
#define TILE tile_neon
#define TILE_NAME "neon"
#define LANES 4
#define MR 8
#define NV 2
#include "kernel/tile.inc"
#endif
