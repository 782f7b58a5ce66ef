/* Register tiles for any processor, with
 * 16-byte vectors. */
#define TILE tile_c
#define TILE_NAME "c"
#define LANES 4
#ifdef __aarch64__
#define MR 8
#define NV 3
#else
#define MR 4
#define NV 2
#endif
#include "kernel/tile.inc"
