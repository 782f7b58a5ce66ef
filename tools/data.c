/* The table of the commands of `peft data`, their options, and how they read rows. */
#include <stddef.h>
#include <time.h>

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

const struct option source_options[] = {
    {"columns", OPT_TEXT, "LIST", "names of the file's own: text=body,label=stars", AT(columns), 0,
     0},
    {"table", OPT_TEXT, "NAME", "of an SQLite file: a table, or a query SELECT ...", AT(table), 0,
     0},
    {"limit", OPT_INT, "N", "read only the first N rows", AT(limit), 1, 2147483647},
    {"threads", OPT_INT, "N", "worker threads (default: one per usable core)", AT(threads), 1, 32},
    {0}};
static const struct option split_options[] = {
    {"out", OPT_TEXT, "DIR|PREFIX", "where train.jsonl, valid.jsonl and test.jsonl go; a\n"
     "                         PREFIX ends in - _ or .", AT(out), 0, 0},
    {"ratio", OPT_TEXT, "LIST", "of train, valid, test (default 0.8,0.1,0.1)", AT(ratio), 0, 0},
    {"stratify", OPT_TEXT, "COLUMN", "each side gets the same shares of its values", AT(stratify),
     0, 0},
    {"group", OPT_TEXT, "COLUMN", "rows with the same value stay on one side; text: rows whose\n"
     "                         texts are equal or nearly so, and both: text,COLUMN", AT(group),
     0, 0},
    {"seed", OPT_SEED, "N", "of the draw (default 0)", AT(seed), 0, 0},
    {"overwrite", OPT_FLAG, NULL, "replace files that are there", AT(overwrite), 0, 0},
    {0}};
static const struct option normalize_options[] = {
    {"out", OPT_TEXT, "FILE", "JSONL; without it, only the report", AT(out), 0, 0},
    {"form", OPT_TEXT, "NAME", "Unicode normal form: nfc (default), nfkc, none", AT(form), 0, 0},
    {"rules", OPT_TEXT, "LIST", "adds html, markdown, boilerplate, repeated; leaves out, behind\n"
     "                         '-': lines, control, unicode, space: html,-space", AT(rules), 0, 0},
    {"repeated", OPT_NUMBER, "N", "removes lines that N rows have, below 1 that share of all",
     AT(repeated), 0, 1e15},
    {"overwrite", OPT_FLAG, NULL, "replace FILE", AT(overwrite), 0, 0},
    {0}};
static const struct option clean_options[] = {
    {"out", OPT_TEXT, "FILE", "JSONL; without it, only the report", AT(out), 0, 0},
    {"dropped", OPT_TEXT, "FILE", "JSONL of what is dropped: line, rule, of, row", AT(dropped), 0,
     0},
    {"against", OPT_TEXT, "FILE", "evaluation data, which must not be in FILE", AT(against), 0, 0},
    {"near", OPT_NUMBER, "X", "likeness of near duplicates (default 0.8)", AT(near), 0.3, 1},
    {"shingle", OPT_INT, "N", "words compared as one (default 3)", AT(shingle), 1, 64},
    {"mask", OPT_FLAG, NULL, "personal data and keys become [MAIL], [PHONE], [CARD], [IBAN],\n"
     "                         [KEY]", AT(mask), 0, 0},
    {"repair", OPT_FLAG, NULL, "text that was encoded twice is read right", AT(repair), 0, 0},
    {"contradictions", OPT_TEXT, "HOW", "one text with several labels: flag (default), drop,\n"
     "                         majority", AT(contradictions), 0, 0},
    {"min-chars", OPT_INT, "N", "shorter rows are dropped", AT(min_chars), 1, BIG},
    {"max-chars", OPT_INT, "N", "longer rows are dropped", AT(max_chars), 1, BIG},
    {"model", OPT_TEXT, "MODEL", "whose tokens are counted", AT(model), 0, 0},
    {"min-tokens", OPT_INT, "N", "rows of fewer are dropped", AT(min_tokens), 1, BIG},
    {"max-tokens", OPT_INT, "N", "rows of more are dropped", AT(max_tokens), 1, BIG},
    {"rule", OPT_LIST, "NAME=DO", "what a rule does: off, flag, drop, fix, mask; may be repeated",
     AT(rule), 0, 0},
    {"overwrite", OPT_FLAG, NULL, "replace files that are there", AT(overwrite), 0, 0},
    {0}};

const struct command data_commands[] = {
    {"data inspect", "Shows what a data file holds, and what is wrong with it.",
     "peft data inspect FILE|DIR [--model MODEL] [options]",
     "  peft data inspect chats.jsonl\n"
     "  peft data inspect reviews.csv --model model.gguf --max-len 512\n"
     "  peft data inspect reviews.csv --json | jq .labels\n",
     OPERAND_NEEDED, {inspect_options, model_options, common_options}, run_data_inspect,
     "data file"},
    {"data split", "Deals rows out to training, validation and test.",
     "peft data split FILE --out DIR|PREFIX [options]",
     "  peft data split reviews.csv --out data --stratify label\n"
     "  peft data split chats.jsonl --out data --ratio 0.9,0.1 --group user --seed 1\n"
     "  peft data split notes.jsonl --out notes- --group text\n",
     OPERAND_NEEDED, {split_options, source_options, common_options}, run_data_split,
     "data file"},
    {"data normalize", "Brings texts into one form: Unicode, control characters, white space.",
     "peft data normalize FILE --out FILE [options]",
     "  peft data normalize raw.jsonl --out tidy.jsonl\n"
     "  peft data normalize pages.jsonl --rules html,boilerplate --repeated 0.01 --out tidy.jsonl\n"
     "  peft data normalize raw.csv --form nfkc --json\n",
     OPERAND_NEEDED, {normalize_options, source_options, common_options}, run_data_normalize,
     "data file"},
    {"data clean", "Drops, flags or masks what training data should not have.",
     "peft data clean FILE --out FILE [options]",
     "  peft data clean raw.jsonl\n"
     "  peft data clean raw.jsonl --mask --repair --out clean.jsonl --dropped dropped.jsonl\n"
     "  peft data clean train.csv --against test.csv --near 0.7 --out clean.jsonl\n"
     "  peft data clean train.jsonl --contradictions majority --rule exact=flag --out clean.jsonl\n"
     "Rules: broken, empty, encoding, mail, phone, card, iban, key, short, long, leak, exact,\n"
     "contradiction, near.\n",
     OPERAND_NEEDED, {clean_options, source_options, common_options}, run_data_clean,
     "data file"},
    {0}};

/* ------------------------------------------------------------------ reading */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void on_log(void *ctx, int32_t level, const char *line)
{
    (void)ctx;
    if (level <= 1)
        note("%swarning:%s %s", paint(stderr, YELLOW), paint(stderr, PLAIN), line);
}

static int32_t on_progress(void *ctx, int64_t done, int64_t total)
{
    struct source *s = ctx;
    if (!s->began || done < s->done)
        s->began = now();
    s->done = done;
    double spent = now() - s->began;
    if (spent > 1 && total > done && done > 0)
        progress(false, "%s: %s of %s  %s/s  ETA %s", s->doing, show_bytes(done),
                 show_bytes(total), show_bytes((int64_t)((double)done / spent)),
                 show_seconds(spent * (double)(total - done) / (double)done));
    return interrupted();
}

void source_begin(const struct args *args, const char *doing, struct source *s)
{
    *s = (struct source){.doing = doing};
    s->host = (peft_load_opts){.size = sizeof s->host, .log = on_log};
    s->opts = (peft_source_opts){.size = sizeof s->opts, .columns = args->columns,
                                 .table = args->table, .limit = args->limit,
                                 .threads = args->threads, .host = &s->host,
                                 .progress = on_progress, .ctx = s};
    interrupt_catch(NULL);
}

int source_end(int32_t rc, const char *doing)
{
    interrupt_release();
    progress_end();
    if (rc == PEFT_ECANCELLED) {
        note("interrupted: nothing was written");
        return EXIT_INTERRUPTED;
    }
    if (rc == PEFT_EARG)
        return usage_error("%s", peft_errmsg());
    if (rc == PEFT_ESTATE)
        return usage_error("%s: --overwrite replaces it", peft_errmsg());
    return !rc ? EXIT_OK : rc == PEFT_EIO ? saving_error(rc, doing) : library_error(rc, doing);
}
