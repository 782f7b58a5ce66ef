/* Built-in matrix product: any processor, 16-byte vectors. */
#define SGEMM sgemm_c
#define LANES 4
#ifdef __aarch64__
#define MR 8
#else
#define MR 4
#endif
#include "kernel/sgemm.inc"
