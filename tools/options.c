/* One table-driven parser for all commands: `--name VALUE`, `--name=VALUE`,
 * `--flag`, `--no-switch`; options and the operand in any order, `--` ends the
 * options.  A value may begin with '-', as in `--freeze -2:-1`; one that begins
 * with "--" needs the form with '='. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define AT(field) offsetof(struct args, field)
#define BIG 2147483647.0

const struct option common_options[] = {
    {"json", OPT_FLAG, NULL, "machine-readable result on stdout", AT(json), 0, 0},
    {"quiet", OPT_FLAG, NULL, "no messages on stderr but errors", AT(quiet), 0, 0},
    {"help", OPT_FLAG, NULL, "this text", AT(help), 0, 0},
    {0}};

const struct option model_options[] = {
    {"threads", OPT_INT, "N", "worker threads (default: one per usable core)", AT(threads), 1, 32},
    {"level", OPT_TEXT, "NAME", "kernels: c, avx2, avx512 (default: the best)", AT(level), 0, 0},
    {"blas", OPT_TEXT, "FILE", "BLAS library, or `none` for the built-in one", AT(blas), 0, 0},
    {"quant", OPT_TEXT, "NAME", "linear layers while loading: nf4, fp4, nf4_dq, fp4_dq, q4_k,\n"
     "                         q5_k, q6_k, q8_0, q4_0, q4_1, q5_0, q5_1", AT(quant), 0, 0},
    {"compute", OPT_TEXT, "KIND", "products: f32, bf16 (AMX, AVX512-BF16), or auto: bf16\n"
     "                         where the processor has it (default: f32)", AT(compute), 0, 0},
    {"no-map", OPT_FLAG, NULL, "read the weights instead of mapping them", AT(no_map), 0, 0},
    {0}};

const struct option data_options[] = {
    {"data", OPT_TEXT, "FILE", "JSONL, a JSON array, CSV, TSV, SQLite, texts or a\n"
     "                         folder of them; of pictures a folder of classes", AT(data), 0,
     0},
    {"max-len", OPT_INT, "N", "tokens an example, and a pack (default 1024)", AT(max_len), 1, BIG},
    {"system", OPT_TEXT, "TEXT", "system message for conversations without one", AT(system), 0,
     0},
    {"prefix", OPT_TEXT, "TEXT", "encoder-decoder: before each source, \"summarize: \"",
     AT(prefix), 0, 0},
    {"train-on-prompt", OPT_FLAG, NULL, "prompts count too, not only answers",
     AT(train_on_prompt), 0, 0},
    {"limit", OPT_INT, "N", "read only the first N rows", AT(limit), 1, BIG},
    {"columns", OPT_TEXT, "LIST", "names of the file's own: text=body,label=stars", AT(columns), 0,
     0},
    {"table", OPT_TEXT, "NAME", "of an SQLite file: a table, or a query SELECT ...", AT(table), 0,
     0},
    {"chunk", OPT_SIZE, "BYTES", "plain text: rows of so many bytes, cut at paragraphs\n"
     "                         (default: a paragraph, of a folder a file)", AT(chunk), 0, 0},
    {"any-path", OPT_FLAG, NULL, "a list of pictures may name files outside of its folder",
     AT(any_path), 0, 0},
    {0}};

const struct option adapter_options[] = {
    {"adapter", OPT_TEXT, "PATH", "adapter: folder of PEFT or MLX-LM, or GGUF file", AT(adapter), 0,
     0},
    {"any-base", OPT_FLAG, NULL, "load an adapter that was trained on other weights", AT(any_base),
     0, 0},
    {0}};

const struct option prompts_options[] = {
    {"prompts", OPT_TEXT, "FILE", "many at once: JSONL of \"prompt\" and \"adapter\" (a\n"
     "                         name, \"\": the model as it is), or lines of text", AT(prompts), 0,
     0},
    {"batch", OPT_INT, "N", "answers at once (default 16)", AT(batch), 1, 65536},
    {"with", OPT_LIST, "NAME=PATH", "adapter for prompts that name it; may be repeated", AT(with),
     0, 0},
    {0}};

const struct option train_options[] = {
    {"eval", OPT_TEXT, "FILE|RATIO", "evaluation data, or the share to set aside", AT(eval), 0, 0},
    {"method", OPT_TEXT, "NAME", "lora (default), dora ... (peft list methods), full, head,\n"
     "                         last (layers), bitfit (biases), none", AT(method), 0, 0},
    {"last", OPT_INT, "N", "layers that --method last trains (default 2)", AT(last), 1, 4096},
    {"freeze", OPT_LIST, "A-B", "layers that do not train; from the end: -2:-1", AT(freeze), 0, 0},
    {"unfreeze", OPT_LIST, "GLOB", "tensors that train in any case", AT(unfreeze), 0, 0},
    {"to-float", OPT_FLAG, NULL, "turn quantised tensors that train into float32", AT(to_float),
     0, 0},
    {"rank", OPT_INT, "N", "LoRA rank (default 16); of prompt, ptuning, prefix the\n"
     "                         number of virtual tokens (default 20)", AT(rank), 1, 65536},
    {"alpha", OPT_NUMBER, "X", "LoRA scale (default 2 * rank)", AT(alpha), 0, 1e9},
    {"rslora", OPT_SWITCH, NULL, "scale by alpha / sqrt(rank) (default on)", AT(rslora), 0, 0},
    {"dropout", OPT_NUMBER, "X", "on the adapter's or the head's input", AT(dropout), 0, 0.999},
    {"targets", OPT_TEXT, "GLOBS", "modules that get LoRA (default: all linear)", AT(targets), 0,
     0},
    {"settings", OPT_TEXT, "JSON", "of the method, as in PEFT's adapter_config.json", AT(settings),
     0, 0},
    {"init", OPT_TEXT, "NAME", "of LoRA: kaiming (default), gaussian, pissa, olora;\n"
     "                         eva: from the data; loftq: on a quantised base", AT(init), 0, 0},
    {"init-model", OPT_TEXT, "PATH", "of loftq: the float model (default: the base's own\n"
     "                         with --quant)", AT(init_model), 0, 0},
    {"rho", OPT_NUMBER, "X", "of eva: a module's rank may grow by this (default 2)", AT(rho), 1,
     1000},
    {"lr-ratio", OPT_NUMBER, "X", "LoRA+: learning rate of B over that of A", AT(lr_ratio), 0, 1e6},
    {"trainable-tokens", OPT_TEXT, "LIST", "rows of the embedding that train too: tokens or ids,\n"
     "                         \"<|im_start|>,<|im_end|>,17\"", AT(trainable_tokens), 0, 0},
    {"modules-to-save", OPT_TEXT, "NAMES", "modules that train whole beside the adapter",
     AT(modules_to_save), 0, 0},
    {"target-parameters", OPT_TEXT, "NAMES", "experts that get LoRA as one parameter",
     AT(target_parameters), 0, 0},
    {"adapter", OPT_TEXT, "PATH", "go on from this adapter", AT(adapter), 0, 0},
    {"any-base", OPT_FLAG, NULL, "load an adapter that was trained on other weights", AT(any_base),
     0, 0},
    {"head", OPT_TEXT, "KIND", "of a new head (default: by the data): classification,\n"
     "                         multi-label, regression, tokens, question-answering,\n"
     "                         reward, masked-lm",
     AT(head), 0, 0},
    {"pool", OPT_TEXT, "NAME", "what a new head reads: last, cls, mean, weighted", AT(pool), 0, 0},
    {"optimizer", OPT_TEXT, "NAME", "adamw", AT(optimizer), 0, 0},
    {"optim-states", OPT_TEXT, "HOW", "f32 (default), bf16, 8bit: what the optimizer keeps",
     AT(optim_states), 0, 0},
    {"lr", OPT_NUMBER, "X", "learning rate (default by method)", AT(lr), 0, 1e6},
    {"schedule", OPT_TEXT, "NAME", "cosine (default), linear, constant", AT(schedule), 0, 0},
    {"warmup", OPT_NUMBER, "X", "share of the steps, or steps from 1 on", AT(warmup), 0, BIG},
    {"weight-decay", OPT_NUMBER, "X", "decoupled (default 0)", AT(weight_decay), 0, 1e6},
    {"no-decay", OPT_TEXT, "GLOBS", "tensors without decay", AT(no_decay), 0, 0},
    {"clip", OPT_NUMBER, "X", "gradient norm limit (default 1, 0 = none)", AT(clip), 0, 1e30},
    {"batch", OPT_INT, "N", "examples at a time (default 4)", AT(batch), 1, 65536},
    {"accumulate", OPT_INT, "N", "batches a step (default 1)", AT(accumulate), 1, 65536},
    {"packing", OPT_FLAG, NULL, "fill packs of --max-len tokens", AT(packing), 0, 0},
    {"no-shuffle", OPT_FLAG, NULL, "rows in file order", AT(no_shuffle), 0, 0},
    {"epochs", OPT_INT, "N", "passes over the data (default 1)", AT(epochs), 1, BIG},
    {"steps", OPT_INT, "N", "optimizer steps, instead of --epochs", AT(steps), 1, BIG},
    {"seed", OPT_SEED, "N", "of everything random (default 0)", AT(seed), 0, 0},
    {"replay", OPT_TEXT, "FILE", "old rows, of which a sample is mixed in", AT(replay), 0, 0},
    {"replay-share", OPT_NUMBER, "X", "so many for each new row (default 0.2)", AT(replay_share),
     0, 1000},
    {"probe", OPT_TEXT, "FILE", "texts on which forgetting is measured (default: built in;\n"
     "                         none: not at all)", AT(probe), 0, 0},
    {"drift-bound", OPT_NUMBER, "X", "the model shall not go further from its base there: KL a\n"
     "                         token, 0.05", AT(drift_bound), 0, 1e6},
    {"anchor-weight", OPT_NUMBER, "X", "of that KL in the loss (default 1, with a bound: what\n"
     "                         holds it)", AT(anchor_weight), 0, 1e6},
    {"objective", OPT_TEXT, "NAME", "of embeddings: match, triplet; with scores: cosent, cosine",
     AT(objective), 0, 0},
    {"scale", OPT_NUMBER, "X", "of cosines in match and cosent (default 20)", AT(scale), 0, 1e6},
    {"margin", OPT_NUMBER, "X", "of triplet (default 5)", AT(margin), 0, 1e6},
    {"augment", OPT_TEXT, "LIST", "of training pictures: flip,rotate=10,crop=0.1,shift=0.1,\n"
     "                         brightness=0.2,contrast=0.2,saturation=0.2,hue=0.05", AT(augment),
     0, 0},
    {"recompute", OPT_TEXT, "HOW", "none, cheap (default), layers: less memory", AT(recompute), 0,
     0},
    {"cache", OPT_SIZE, "SIZE", "memory for outputs of what is frozen, which are computed\n"
     "                         once: 1G (default 256M), 0 = none", AT(cache), 0, 0},
    {"cache-file", OPT_TEXT, "FILE", "keep them there for runs to come", AT(cache_file), 0, 0},
    {"cache-file-limit", OPT_SIZE, "SIZE", "of that file (default none)", AT(cache_file_limit), 0,
     0},
    {"memory", OPT_SIZE, "SIZE", "resident memory that is never exceeded, 600M or 1.5G: the\n"
     "                         fastest way that fits is chosen", AT(memory_limit), 0, 0},
    {"manner", OPT_TEXT, "TEXT", "with --memory: the way an earlier run had chosen, for the\n"
     "                         same bytes (memory_manner in its training_args.json)", AT(manner),
     0, 0},
    {0}};

const struct option before_options[] = {
    {"auto", OPT_SWITCH, NULL, "choose what is not given: method, rank, batch, lr, epochs\n"
     "                         (default: where none of them is given)", AT(auto_on), 0, 0},
    {"refit", OPT_SWITCH, NULL, "train on the rows too that --auto set aside to choose by\n"
     "                         (default on; off: they end the training)", AT(refit), 0, 0},
    {"allow-leak", OPT_FLAG, NULL, "go on though evaluation rows are training rows too",
     AT(allow_leak), 0, 0},
    {"show-row", OPT_INT, "N", "show row N with the trained tokens marked", AT(show_row), 1, BIG},
    {0}};

const struct option plan_options[] = {
    {"price", OPT_TEXT, "PRICE", "of tokens or time: 0.5/M, 2e-6, 1.20/h", AT(price), 0, 0}, {0}};

const struct option generate_options[] = {
    {"system", OPT_TEXT, "TEXT", "system message", AT(system), 0, 0},
    {"max-tokens", OPT_INT, "N", "length of an answer (default 256)", AT(max_tokens), 1, BIG},
    {"temperature", OPT_NUMBER, "X", "0 takes the likeliest token (default: what the\n"
     "                         model's generation_config.json advises, else 0)", AT(temperature),
     0, 100},
    {"top-k", OPT_INT, "N", "sample among the N likeliest", AT(top_k), 0, BIG},
    {"top-p", OPT_NUMBER, "X", "sample within this probability mass", AT(top_p), 0, 1},
    {"min-p", OPT_NUMBER, "X", "drop tokens below X times the likeliest", AT(min_p), 0, 1},
    {"repeat-penalty", OPT_NUMBER, "X", "1.1 is mild (default off)", AT(repeat_penalty), 0, 100},
    {"beams", OPT_INT, "N", "beam search, which does not sample", AT(beams), 1, PEFT_BEAMS_MAX},
    {"length-penalty", OPT_NUMBER, "X", "of beams: above 0 longer answers (default 1)",
     AT(length_penalty), -100, 100},
    {"early-stopping", OPT_TEXT, "HOW", "of beams: no (default), yes, never", AT(early_stopping),
     0, 0},
    {"seed", OPT_SEED, "N", "of the sampling (default 0)", AT(seed), 0, 0},
    {"stop", OPT_LIST, "TEXT", "end before this text; may be repeated", AT(stop), 0, 0},
    {0}};

/* ---------------------------------------------------------------- nearest */

/* Levenshtein's distance, for words shorter than 32 bytes. */
static int distance(const char *a, const char *b)
{
    enum { MAX = 32 };
    size_t na = strlen(a), nb = strlen(b);
    if (na >= MAX || nb >= MAX)
        return MAX;
    int row[MAX + 1];
    for (size_t j = 0; j <= nb; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[nb];
}

const char *nearest(const char *word, const char *const *candidates, int n)
{
    const char *best = NULL;
    int least = (int)strlen(word) / 3 + 2;
    for (int i = 0; i < n; i++) {
        int d = distance(word, candidates[i]);
        if (d < least) {
            least = d;
            best = candidates[i];
        }
    }
    return best;
}

static const struct option *find_option(const struct command *cmd, const char *name, size_t n,
                                        bool *negated)
{
    for (int g = 0; g < 6 && cmd->groups[g]; g++)
        for (const struct option *o = cmd->groups[g]; o->name; o++) {
            *negated = false;
            if (strlen(o->name) == n && !memcmp(o->name, name, n))
                return o;
            *negated = true;
            if (o->kind == OPT_SWITCH && n == strlen(o->name) + 3 && !memcmp(name, "no-", 3) &&
                !memcmp(name + 3, o->name, n - 3))
                return o;
        }
    return NULL;
}

static int unknown_option(const struct command *cmd, const char *word, size_t n)
{
    const char *names[128], *hint;
    int count = 0;
    for (int g = 0; g < 6 && cmd->groups[g]; g++)
        for (const struct option *o = cmd->groups[g]; o->name && count < 128; o++)
            names[count++] = o->name;
    char name[40];
    snprintf(name, sizeof name, "%.*s", (int)n, word);
    hint = nearest(name, names, count);
    if (hint)
        return usage_error("%s has no option --%.*s; did you mean --%s?", cmd->name, (int)n,
                           word, hint);
    return usage_error("%s has no option --%.*s; see peft %s --help", cmd->name, (int)n, word,
                       cmd->name);
}

/* ------------------------------------------------------------------ values */

static int parse_number(const struct option *o, const char *value, double *out)
{
    char *end;
    errno = 0;
    *out = strtod(value, &end);
    if (end == value || *end || !isfinite(*out))
        return usage_error("--%s is \"%s\", expected a number", o->name, value);
    if (*out < o->low || *out > o->high)
        return usage_error("--%s is %s, expected %g to %g", o->name, value, o->low, o->high);
    return 0;
}

static int parse_int(const struct option *o, const char *value, int32_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || *end)
        return usage_error("--%s is \"%s\", expected a whole number", o->name, value);
    if (errno || (double)v < o->low || (double)v > o->high)
        return usage_error("--%s is %s, expected %.0f to %.0f", o->name, value, o->low, o->high);
    *out = (int32_t)v;
    return 0;
}

static int parse_seed(const struct option *o, const char *value, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(value, &end, 10);
    if (end == value || *end || errno || *value == '-')
        return usage_error("--%s is \"%s\", expected a whole number from 0", o->name, value);
    *out = v;
    return 0;
}

bool size_parse(const char *text, int64_t *bytes)
{
    static const char units[] = "KMGT";
    char *end;
    double v = strtod(text, &end);
    const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    bool binary = unit && end[1] == 'i';
    for (int i = 0; unit && i <= unit - units; i++)
        v *= binary ? 1024 : 1000;
    const char *rest = unit ? end + 1 + binary : end;
    if (end == text || (*rest && strcmp(rest, "B") && strcmp(rest, "b")) || !(v >= 0 && v <= 1e15))
        return false;
    *bytes = (int64_t)v;
    return true;
}

static int set_value(const struct option *o, const char *value, struct args *args)
{
    void *to = (char *)args + o->at;
    struct list *list = to;
    switch (o->kind) {
    case OPT_INT:
        return parse_int(o, value, to);
    case OPT_SEED:
        return parse_seed(o, value, to);
    case OPT_NUMBER:
        return parse_number(o, value, to);
    case OPT_SIZE:
        if (size_parse(value, to))
            return 0;
        return usage_error("--%s is \"%s\", expected bytes as 600M, 1.5G or 512MiB", o->name,
                           value);
    case OPT_TEXT:
        *(const char **)to = value;
        return 0;
    case OPT_LIST:
        if (list->n == LIST_MAX)
            return usage_error("--%s is given more than %d times", o->name, LIST_MAX);
        list->item[list->n++] = value;
        return 0;
    default:
        return 0;
    }
}

/* Takes one option, and its value if it has one; *i moves on. */
static int take_option(const struct command *cmd, int argc, char **argv, int *i,
                       struct args *args)
{
    const char *word = argv[*i] + 2, *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    bool negated;
    const struct option *o = find_option(cmd, word, n, &negated);
    if (!o)
        return unknown_option(cmd, word, n);
    if (o->kind == OPT_FLAG || o->kind == OPT_SWITCH) {
        if (equals)
            return usage_error("--%s takes no value", o->name);
        *(int32_t *)((char *)args + o->at) = negated ? -1 : 1;
        return 0;
    }
    if (equals)
        return set_value(o, equals + 1, args);
    if (*i + 1 >= argc || !strncmp(argv[*i + 1], "--", 2))
        return usage_error("--%s needs a value: --%s %s", o->name, o->name, o->arg);
    return set_value(o, argv[++*i], args);
}

static void defaults(struct args *args)
{
    memset(args, 0, sizeof *args);
    args->clip = 1;
    args->cache = -1;            /* not given */
    args->replay_share = -1;     /* the same */
    args->temperature = -1;      /* not given: the model may advise */
}

int options_parse(const struct command *cmd, int argc, char **argv, struct args *args)
{
    defaults(args);
    args->argc = argc;
    args->argv = argv;
    bool options = true;
    for (int i = 2; i < argc; i++) {
        const char *word = argv[i];
        int rc = 0;
        if (options && !strcmp(word, "--"))
            options = false;
        else if (options && !strcmp(word, "-h"))
            args->help = 1;
        else if (options && !strncmp(word, "--", 2))
            rc = take_option(cmd, argc, argv, &i, args);
        else if (options && *word == '-' && word[1])
            rc = usage_error("unknown option %s; options are written --name", word);
        else if (cmd->operand == OPERAND_NONE)
            rc = usage_error("%s takes no file, found \"%s\"", cmd->name, word);
        else if (args->operand && !args->second && cmd->operand == OPERAND_TWO)
            args->second = word;
        else if (cmd->operand == OPERAND_SEVERAL && args->files.n == LIST_MAX)
            rc = usage_error("%s takes at most %d files", cmd->name, LIST_MAX);
        else if (cmd->operand == OPERAND_SEVERAL)
            args->operand = args->files.item[args->files.n++] = word;
        else if (args->operand)
            rc = usage_error("%s takes one model, found \"%s\" after \"%s\"", cmd->name, word,
                             args->operand);
        else
            args->operand = word;
        if (rc)
            return rc;
    }
    if (cmd->operand == OPERAND_TWO && args->operand && !args->second && !args->help)
        return usage_error("where to?  usage: %s", cmd->usage);
    if (cmd->operand != OPERAND_NONE && cmd->operand != OPERAND_OPTIONAL && !args->operand &&
        !args->help)
        return usage_error("which %s?  usage: %s", cmd->of ? cmd->of : "model", cmd->usage);
    return 0;
}

void options_help(const struct command *cmd)
{
    printf("%sExamples%s\n%s\n", paint(stdout, BOLD), paint(stdout, PLAIN), cmd->examples);
    printf("%sUsage%s\n  %s\n\n%s\n\n%sOptions%s\n", paint(stdout, BOLD), paint(stdout, PLAIN),
           cmd->usage, cmd->summary, paint(stdout, BOLD), paint(stdout, PLAIN));
    for (int g = 0; g < 6 && cmd->groups[g]; g++)
        for (const struct option *o = cmd->groups[g]; o->name; o++) {
            char left[64];
            snprintf(left, sizeof left, "--%s%s%s%s", o->kind == OPT_SWITCH ? "[no-]" : "",
                     o->name, o->arg ? " " : "", o->arg ? o->arg : "");
            printf("  %-22s %s\n", left, o->help);
        }
}

/* ------------------------------------------------------------------- words */

void words_add(struct words *w, const char *word)
{
    if (w->n % 64 == 0)
        w->word = grow(w->word, (size_t)(w->n + 64) * sizeof *w->word);
    w->word[w->n++] = format("%s", word);
}

void words_free(struct words *w)
{
    for (int32_t i = 0; i < w->n; i++)
        free((char *)(uintptr_t)w->word[i]);
    free(w->word);
}

/* The option as words, when it is not as in `plain`. */
static void put_option(const struct option *o, const struct args *a, const struct args *plain,
                       struct words *w)
{
    const char *now = (const char *)a + o->at, *was = (const char *)plain + o->at;
    char text[64] = "";
    double x;
    switch (o->kind) {
    case OPT_FLAG:
    case OPT_SWITCH:
        if (*(const int32_t *)now != *(const int32_t *)was) {
            snprintf(text, sizeof text, "--%s%s", *(const int32_t *)now < 0 ? "no-" : "", o->name);
            words_add(w, text);
        }
        return;
    case OPT_LIST:
        for (int32_t i = 0; i < ((const struct list *)now)->n; i++) {
            char *both = format("--%s=%s", o->name, ((const struct list *)now)->item[i]);
            words_add(w, both);
            free(both);
        }
        return;
    case OPT_TEXT:
        if (*(const char *const *)now) {
            char *both = format("--%s=%s", o->name, *(const char *const *)now);
            words_add(w, both);
            free(both);
        }
        return;
    case OPT_INT:
        if (*(const int32_t *)now != *(const int32_t *)was)
            snprintf(text, sizeof text, "--%s=%d", o->name, *(const int32_t *)now);
        break;
    case OPT_SEED:
        if (*(const uint64_t *)now != *(const uint64_t *)was)
            snprintf(text, sizeof text, "--%s=%llu", o->name,
                     (unsigned long long)*(const uint64_t *)now);
        break;
    case OPT_SIZE:
        if (*(const int64_t *)now != *(const int64_t *)was)
            snprintf(text, sizeof text, "--%s=%lld", o->name,
                     (long long)*(const int64_t *)now);
        break;
    case OPT_NUMBER:
        x = *(const double *)now;
        if (memcmp(now, was, sizeof x) == 0)
            break;
        snprintf(text, sizeof text, "--%s=%.9g", o->name, x);
        if (strtod(strchr(text, '=') + 1, NULL) - x != 0)
            snprintf(text, sizeof text, "--%s=%.17g", o->name, x);
        break;
    }
    if (*text)
        words_add(w, text);
}

void options_words(const struct command *cmd, const struct args *args, const char *const *without,
                   struct words *w)
{
    struct args plain;
    defaults(&plain);
    words_add(w, args->operand);
    for (int g = 0; g < 6 && cmd->groups[g]; g++)
        for (const struct option *o = cmd->groups[g]; o->name; o++) {
            bool out = false;
            for (int i = 0; without[i]; i++)
                out = out || !strcmp(without[i], o->name);
            if (!out)
                put_option(o, args, &plain, w);
        }
}
