/* What public functions do with their arguments: options and results are structs of any
 * size, which begin with it. */
#ifndef BASE_OPTS_H
#define BASE_OPTS_H

#include "base.h"

/* Copies options of the caller's size into `mine` (zero-filled): an older,
 * smaller struct leaves the rest at its default; a newer, larger one is
 * accepted when what we do not know is zero. */
int take_options(void *mine, size_t size, const void *theirs);
/* Result structs: checks the caller's size; copies at most that much back. */
int check_result(const void *theirs);
void give_result(void *theirs, void *mine, size_t size);

#define ARG(cond, ...) \
    do { \
        error_clear(); \
        if (!(cond)) return fail(PEFT_EARG, __VA_ARGS__); \
    } while (0)

#endif
