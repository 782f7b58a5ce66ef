/* The table of the commands of `peft data`, and their options. */
#include <stddef.h>

#include "cli.h"

#define AT(field) offsetof(struct args, field)
#define BIG 2147483647.0

static const struct option inspect_options[] = {
    {"model", OPT_TEXT, "MODEL", "whose tokens are counted", AT(model), 0, 0},
    {"max-len", OPT_INT, "N", "tokens that an example may have; those beyond are counted",
     AT(max_len), 1, BIG},
    {"limit", OPT_INT, "N", "read only the first N rows", AT(limit), 1, BIG},
    {"examples", OPT_INT, "N", "broken rows that are shown (default 10)", AT(examples), 1, 100000},
    {"seed", OPT_SEED, "N", "of the rows that are shown (default 0)", AT(seed), 0, 0},
    {0}};

const struct command data_commands[] = {
    {"data inspect", "Shows what a data file holds, and what is wrong with it.",
     "peft data inspect FILE|DIR [--model MODEL] [options]",
     "  peft data inspect chats.jsonl\n"
     "  peft data inspect reviews.csv --model model.gguf --max-len 512\n"
     "  peft data inspect reviews.csv --json | jq .labels\n",
     OPERAND_NEEDED, {inspect_options, model_options, common_options}, run_data_inspect,
     "data file"},
    {0}};
