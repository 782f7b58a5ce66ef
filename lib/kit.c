/* The kit as one unit.  To build without make: compile this file with -Ilib -Iinclude and link
 * it with the library as lib/all.c makes it, as one program or one shared library. */

#include "judge/apply.c"
#include "judge/auto.c"
#include "judge/bootstrap.c"
#include "judge/check.c"
#include "judge/cost.c"
#include "judge/overlap.c"
#include "judge/range.c"
#include "judge/rows.c"
#include "judge/score.c"
#include "judge/split.c"
