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
static const struct option report_options[] = {
    {"out", OPT_TEXT, "FILE", "the page: report.html", AT(out), 0, 0},
    {"eval", OPT_TEXT, "FILE", "rows to be judged by: looked at too, and what leaks into them",
     AT(eval), 0, 0},
    {"overwrite", OPT_FLAG, NULL, "replace a file that is no page", AT(overwrite), 0, 0},
    {0}};
static const struct option split_options[] = {
    {"out", OPT_TEXT, "DIR|PREFIX", "where train.jsonl, valid.jsonl and test.jsonl go; a\n"
     "                         PREFIX ends in - _ or .; without it nothing is written", AT(out),
     0, 0},
    {"ratio", OPT_TEXT, "LIST", "of train, valid, test (default 0.8,0.1,0.1)", AT(ratio), 0, 0},
    {"stratify", OPT_TEXT, "COLUMN", "each side gets the same shares of its values", AT(stratify),
     0, 0},
    {"group", OPT_TEXT, "COLUMN", "rows with the same value stay on one side; text: rows whose\n"
     "                         texts are equal or nearly so, and both: text,COLUMN", AT(group),
     0, 0},
    {"seed", OPT_SEED, "N", "of the draw (default 0)", AT(seed), 0, 0},
    {"memory", OPT_SIZE, "SIZE", "for what is kept of rows; the rest goes into temporary\n"
     "                         files beside --out (default 128M)", AT(memory_limit), 0, 0},
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
    {"memory", OPT_SIZE, "SIZE", "for what is kept of rows; the rest goes into temporary\n"
     "                         files beside --out (default 160M)", AT(memory_limit), 0, 0},
    {"overwrite", OPT_FLAG, NULL, "replace files that are there", AT(overwrite), 0, 0},
    {0}};

static const struct option label_options[] = {
    {"labels", OPT_TEXT, "LIST", "those that may be given: positive,negative (default: those that\n"
     "                         the rows have)", AT(labels), 0, 0},
    {"out", OPT_TEXT, "FILE", "JSONL of what is labelled; where it exists, the session goes on",
     AT(out), 0, 0},
    {"by", OPT_TEXT, "NAME", "who labels, kept with each row", AT(by), 0, 0},
    {"blind", OPT_FLAG, NULL, "do not show labels that rows have already", AT(blind), 0, 0},
    {"model", OPT_TEXT, "MODEL", "whose head suggests a label", AT(model), 0, 0},
    {"max-len", OPT_INT, "N", "tokens that it reads of a row", AT(max_len), 1, BIG},
    {0}};
static const struct option agree_options[] = {
    {"out", OPT_TEXT, "FILE", "JSONL of the rows with the label that most gave", AT(out), 0, 0},
    {"least", OPT_INT, "N", "labels that such a row must have (default 2)", AT(least), 1, 16},
    {"top", OPT_INT, "N", "rows of disagreement that are shown (default 20)", AT(top), 1, BIG},
    {0}};
static const struct option faults_options[] = {
    {"model", OPT_TEXT, "MODEL", "encoder or decoder that reads the rows", AT(model), 0, 0},
    {"out", OPT_TEXT, "FILE", "JSONL of the suspects, the worst first", AT(out), 0, 0},
    {"clean", OPT_TEXT, "FILE", "the other rows, as they are", AT(clean), 0, 0},
    {"folds", OPT_INT, "N", "parts, each judged by a head fitted to the others (default 5)",
     AT(folds), 2, 100},
    {"tune", OPT_INT, "EPOCHS", "train LoRA too for each part: finds more, takes much longer",
     AT(tune), 1, 100},
    {"share", OPT_NUMBER, "S", "suspects are this share of the rows (default: those that\n"
     "                         confident learning flags)", AT(share), 0, 1},
    {"rank", OPT_TEXT, "KIND", "confidence: of the given label (default); margin: to the others\n"
     "                         (default of several labels: by what the text adds)",
     AT(rank_by), 0, 0},
    {"top", OPT_INT, "N", "suspects that are shown (default 20)", AT(top), 1, BIG},
    {"seed", OPT_SEED, "N", "of the parts (default 0)", AT(seed), 0, 0},
    {"pool", OPT_TEXT, "KIND", "mean, cls, last, weighted (default: the model's)", AT(pool), 0, 0},
    {"compute", OPT_TEXT, "KIND", "products: f32, bf16, or auto (default: f32)", AT(compute), 0, 0},
    {"max-len", OPT_INT, "N", "tokens that are read of a row", AT(max_len), 1, BIG},
    {"batch", OPT_INT, "N", "rows at a time (default 8)", AT(batch), 1, 65536},
    {0}};

static const struct option convert_options[] = {
    {"to", OPT_TEXT, "FORMAT", "alpaca, sharegpt, messages, prompt-completion, preference, text",
     AT(to), 0, 0},
    {"out", OPT_TEXT, "FILE", "JSONL", AT(out), 0, 0},
    {"from", OPT_TEXT, "FORMAT", "one of these, or question-answer (default: as the first row is)",
     AT(from), 0, 0},
    {"template", OPT_TEXT, "FILE", "of texts: literal text with {question} and {answer}, perhaps\n"
     "                         {input} and {system}", AT(layout), 0, 0},
    {"skip", OPT_FLAG, NULL, "leave out rows that cannot be read or held", AT(skip), 0, 0},
    {"drop", OPT_FLAG, NULL, "no column \"kept\": lose what the format cannot hold", AT(drop), 0,
     0},
    {"overwrite", OPT_FLAG, NULL, "replace what --out names", AT(overwrite), 0, 0},
    {0}};

static const struct option augment_options[] = {
    {"out", OPT_TEXT, "FILE|DIR", "JSONL: the rows and their copies; of pictures a folder", AT(out),
     0, 0},
    {"methods", OPT_TEXT, "LIST", "synonyms, insert, delete, swap, noise, back-translation\n"
     "                         (default: delete,swap; with a thesaurus the first four)",
     AT(methods), 0, 0},
    {"thesaurus", OPT_TEXT, "FILE", "lines word<TAB>synonym,synonym, or MyThes' th_*.dat",
     AT(thesaurus), 0, 0},
    {"strength", OPT_NUMBER, "X", "share of a text's words that change (default 0.1)", AT(strength),
     0, 1},
    {"share", OPT_NUMBER, "X", "share of the rows that get copies (default 1)", AT(share), 0, 1},
    {"copies", OPT_INT, "N", "of each of them (default 1)", AT(copies), 1, 32},
    {"eval", OPT_TEXT, "FILE", "evaluation data: its texts get no copies, and no copy becomes one",
     AT(eval), 0, 0},
    {"answers", OPT_FLAG, NULL, "answers change too, not only questions and texts", AT(answers), 0,
     0},
    {"keep", OPT_TEXT, "WORDS", "that never change: refund,invoice", AT(fixed_words), 0,
     0},
    {"back-translate", OPT_TEXT, "MODEL", "into another language and back: one model, or two as\n"
     "                         MODEL,MODEL", AT(back_translate), 0, 0},
    {"prompt", OPT_TEXT, "TEXT", "of the first, with {text} (default: into French)", AT(prompt), 0,
     0},
    {"back-prompt", OPT_TEXT, "TEXT", "of the second (default: into English; \"\": none, the\n"
     "                         first model paraphrases)", AT(back_prompt), 0, 0},
    {"max-tokens", OPT_INT, "N", "of a translation (default 256)", AT(max_tokens), 1, BIG},
    {"temperature", OPT_NUMBER, "X", "of a translation (default 0: the likeliest)", AT(temperature),
     0, 100},
    {"beams", OPT_INT, "N", "of a translation", AT(beams), 1, PEFT_BEAMS_MAX},
    {"batch", OPT_INT, "N", "translations at once (default 16)", AT(batch), 1, 65536},
    {"pictures", OPT_TEXT, "LIST", "flip,rotate=10,crop=0.1,brightness=0.2,contrast=0.2 (these by\n"
     "                         default), shift=0.1,saturation=0.2,hue=0.05",
     AT(augment), 0, 0},
    {"seed", OPT_SEED, "N", "of everything random (default 0)", AT(seed), 0, 0},
    {"overwrite", OPT_FLAG, NULL, "replace what --out names", AT(overwrite), 0, 0},
    {0}};
static const struct option tokenize_options[] = {
    {"out", OPT_TEXT, "FILE", "the prepared rows: rows.shard", AT(out), 0, 0},
    {"shard-rows", OPT_INT, "N", "rows of a file; --out is a folder then", AT(shard_rows), 1, BIG},
    {"overwrite", OPT_FLAG, NULL, "replace what is there", AT(overwrite), 0, 0},
    {0}};

const struct command data_commands[] = {
    {"data inspect", "Shows what a data file holds, and what is wrong with it.",
     "peft data inspect FILE|DIR [--model MODEL] [options]",
     "  peft data inspect chats.jsonl\n"
     "  peft data inspect reviews.csv --model model.gguf --max-len 512\n"
     "  peft data inspect reviews.csv --json | jq .labels\n",
     OPERAND_NEEDED, {inspect_options, source_options, common_options}, run_data_inspect,
     "data file"},
    {"data augment", "Adds changed copies of training rows or pictures.",
     "peft data augment FILE|DIR --out FILE|DIR [options]",
     "  peft data augment train.jsonl --out more.jsonl --share 0.3 --eval valid.jsonl\n"
     "  peft data augment train.jsonl --out more.jsonl --thesaurus th_en_US_v2.dat --copies 4\n"
     "  peft data augment train.jsonl --out more.jsonl --back-translate model.gguf\n"
     "  peft data augment photos --out more --pictures flip,rotate=15 --copies 3\n",
     OPERAND_NEEDED, {augment_options, source_options, model_options, common_options},
     run_data_augment, "data file"},
    {"data convert", "Turns a data file into another format, or a FAQ into questions and answers.",
     "peft data convert FILE|DIR --to FORMAT --out FILE [options]",
     "  peft data convert alpaca.json --to messages --out chats.jsonl\n"
     "  peft data convert chats.jsonl --to sharegpt --out sharegpt.jsonl --skip\n"
     "  peft data convert FAQ.md --to messages --out faq.jsonl\n"
     "  peft data convert manual.txt --to alpaca --template qa.txt --out qa.jsonl\n",
     OPERAND_NEEDED, {convert_options, source_options, common_options}, run_data_convert,
     "data file"},
    {"data report", "Puts all that is known of a data file on one page.",
     "peft data report FILE --out report.html [--model MODEL] [--eval FILE] [options]",
     "  peft data report reviews.csv --out report.html\n"
     "  peft data report train.jsonl --eval test.jsonl --model MiniLM --out report.html\n"
     "  peft data report reviews.csv --json | jq .inspect.labels\n",
     OPERAND_NEEDED, {report_options, inspect_options, source_options, common_options},
     run_data_report, "data file"},
    {"data split", "Deals rows out to training, validation and test.",
     "peft data split FILE [--out DIR|PREFIX] [options]",
     "  peft data split reviews.csv --out data --stratify label\n"
     "  peft data split chats.jsonl --out data --ratio 0.9,0.1 --group user --seed 1\n"
     "  peft data split notes.jsonl --out notes- --group text\n",
     OPERAND_NEEDED, {split_options, source_options, common_options}, run_data_split,
     "data file"},
    {"data tokenize", "Turns rows into tokens once, in a file that training maps.",
     "peft data tokenize MODEL --data FILE --out FILE.shard [options]",
     "  peft data tokenize model.gguf --data chats.jsonl --out chats.shard --max-len 512\n"
     "  peft train model.gguf --data chats.shard --out adapter\n"
     "  peft data tokenize model.gguf --data big.jsonl --out big --shard-rows 1000000\n",
     OPERAND_NEEDED, {tokenize_options, data_options, common_options}, run_data_tokenize, NULL},
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
    {"data label", "Labels rows by hand: one key a label.",
     "peft data label FILE --labels A,B,C --out LABELLED.jsonl [options]",
     "  peft data label tweets.csv --labels positive,negative,neutral --out ann.jsonl --by ann\n"
     "  peft data label tweets.csv --labels positive,negative,neutral --out ann.jsonl --model run\n"
     "  peft data label suspects.jsonl --out checked.jsonl\n",
     OPERAND_NEEDED, {label_options, source_options, adapter_options, common_options},
     run_data_label, "data file"},
    {"data agree", "Compares what several people labelled.",
     "peft data agree FILE FILE ... [--out MAJORITY.jsonl]",
     "  peft data agree ann.jsonl bob.jsonl\n"
     "  peft data agree ann.jsonl bob.jsonl eve.jsonl --out majority.jsonl\n",
     OPERAND_SEVERAL, {agree_options, source_options, common_options}, run_data_agree,
     "data files"},
    {"data faults", "Finds labels that are probably wrong.",
     "peft data faults FILE --model MODEL [--out SUSPECTS.jsonl] [options]",
     "  peft data faults reviews.csv --model all-MiniLM-L6-v2\n"
     "  peft data faults reviews.csv --model model.gguf --out suspects.jsonl --clean rest.jsonl\n",
     OPERAND_NEEDED, {faults_options, source_options, adapter_options, common_options},
     run_data_faults, "data file"},
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
    if (total <= 0)
        return interrupted();
    if (!s->began || done < s->done || !done)
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
