/* The kit as one unit.  To build without make: compile this file with -Ilib -Iinclude and link
 * it with the library as lib/all.c makes it, as one program or one shared library. */

#include "prep/fields.c"
#include "prep/flow.c"
#include "prep/inspect.c"
#include "prep/inspect_row.c"
#include "prep/inspect_tables.c"
#include "prep/script.c"
#include "prep/sketch.c"
#include "prep/tables.c"
#include "prep/tally.c"
#include "judge/bootstrap.c"
#include "judge/overlap.c"
#include "judge/score.c"
