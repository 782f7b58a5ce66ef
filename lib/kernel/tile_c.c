/* Register tiles for any processor, with
 * 16-byte vectors. */
#define TILE tile_c
#define TILE_NAME "c"
#define LANES 4
#define MR 4
#define NV 2
#include "kernel/tile.inc"
