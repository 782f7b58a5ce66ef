/* The kit as one unit.  To build without make: compile this file with -Ilib -Iinclude and link
 * it with the library as lib/all.c makes it, as one program or one shared library. */

#include "judge/bootstrap.c"
#include "judge/overlap.c"
#include "judge/score.c"
#include "judge/watch.c"
