/* The table of the commands of `peft data`, and their options. */
#include <stddef.h>

#include "cli.h"

const struct command data_commands[] = {
    {0}};
