/* What the commands of `peft` share: options, output, the model at hand.
 *
 * A command is a row of the table in main.c; its options are rows of tables
 * too, and one parser fills one struct args from them.  Data goes to stdout,
 * everything else to stderr. */
#ifndef CLI_H
#define CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "peft.h"
#include "peft_data.h"
#include "peft_judge.h"

enum {
    EXIT_OK = 0,
    EXIT_RUNTIME = 1,
    EXIT_USAGE = 2,
    EXIT_FILE = 3,        /* a file is missing, broken or not for us */
    EXIT_MEMORY = 4,
    EXIT_NONFINITE = 5,
    EXIT_REFUSED = 6,     /* adapter check: a reader refuses it */
    EXIT_MISREAD = 7,     /* adapter check: a reader misreads it */
    EXIT_INTERRUPTED = 130
};

/* --------------------------------------------------------------- options */

enum { LIST_MAX = 32 };
struct list {
    const char *item[LIST_MAX];
    int32_t n;
};

/* Every value that some option can set.  Zero is "not given" unless the
 * defaults in options.c say otherwise. */
struct args {
    const char *operand;                 /* MODEL or FILE */
    const char *second;                  /* OUT, of commands that take two */
    int argc;                            /* as typed, for the resume command */
    char **argv;

    int32_t help, json, quiet;
    int32_t threads, no_map;
    const char *level, *blas, *quant, *compute;

    const char *data, *eval, *system, *prefix, *columns, *table;
    int32_t max_len, train_on_prompt, limit, any_path;
    int32_t shard_rows;
    int64_t chunk;
    const char *augment, *objective;
    double scale, margin;
    struct list image;
    int32_t top;

    const char *method, *targets, *target_parameters, *adapter, *pool, *head, *settings, *init;
    const char *trainable_tokens, *modules_to_save;
    int32_t any_base;
    const char *init_model;
    struct list freeze, unfreeze;
    int32_t rank, last, rslora, to_float;
    double alpha, dropout, lr_ratio, rho;

    const char *replay, *probe, *go_on;
    double replay_share, drift_bound, anchor_weight;
    const char *optimizer, *optim_states, *schedule, *no_decay, *recompute;
    double lr, warmup, weight_decay, clip;
    int32_t batch, accumulate, packing, no_shuffle, epochs, steps;
    int64_t cache, cache_file_limit;
    const char *cache_file;
    int64_t memory_limit;
    const char *manner;
    uint64_t seed;

    const char *keep, *metric, *stop_on, *search;
    int32_t patience, trials, eta;
    uint64_t search_seed;
    const char *out, *sample_file;
    int32_t checkpoint_every, eval_every, resume, overwrite, sample_tokens;

    const char *prompt;
    struct list stop, with;
    const char *prompts;
    int32_t max_tokens, top_k, raw;
    double temperature, top_p, min_p, repeat_penalty, length_penalty;
    int32_t beams;
    const char *early_stopping;

    const char *text, *decode, *dtype, *question, *context, *aggregate;
    int32_t n_best, no_answer, stride, normalize;
    double threshold;
    const char *to, *calibrate, *budget;
    double bits;
    const char *reader, *base;
    int32_t merge;
    double limit_diff;
    int32_t markdown, no_special, plain, tensors, memory;
    int32_t roofline, length, paced;
    int32_t auto_on, refit, allow_leak, show_row;
    const char *price;
    const char *ratio, *stratify, *group;
    const char *from, *layout;
    int32_t skip, drop;
    const char *methods, *thesaurus, *fixed_words, *back_translate, *back_prompt;
    double strength;
    int32_t copies, answers;
    struct list files;                   /* operands of a command that takes several */
    const char *labels, *by, *rank_by, *clean;
    int32_t folds, tune, blind, least;
    double share;
    const char *model;                   /* beside a data file as the operand */
    int32_t examples;
    struct list others;                  /* peft eval: models beside it */
    const char *shots;
    int32_t few_shot, generate, samples;
    double confidence;
    const char *form, *rules;            /* data normalize, data clean */
    double repeated;
    const char *against, *dropped, *contradictions;
    struct list rule;
    int32_t mask, repair, shingle, min_chars, max_chars, min_tokens;
    double near;
};

enum option_kind {
    OPT_FLAG,     /* int32: 1 */
    OPT_SWITCH,   /* int32: --x is 1, --no-x is -1 */
    OPT_INT,      /* int32 in low..high */
    OPT_SEED,     /* uint64 */
    OPT_NUMBER,   /* double in low..high */
    OPT_SIZE,     /* int64: bytes as 600M, 1.5G, 512MiB */
    OPT_TEXT,     /* const char * */
    OPT_LIST      /* may be given several times */
};

struct option {
    const char *name;      /* without the dashes; NULL ends a table */
    enum option_kind kind;
    const char *arg;       /* what --help calls the value */
    const char *help;
    size_t at;             /* offset of the field in struct args */
    double low, high;
};

enum { OPERAND_NONE, OPERAND_NEEDED, OPERAND_OPTIONAL, OPERAND_TWO, OPERAND_SEVERAL };

struct command {
    const char *name, *summary, *usage, *examples;
    int operand;
    const struct option *groups[6];      /* tables; NULL ends them */
    int (*run)(const struct args *args);
    const char *of;                      /* what the operand is; NULL = a model */
};

/* The commands of `peft data`, in data.c, and what all of them take. */
extern const struct command data_commands[];
extern const struct option source_options[];

extern const struct option prompts_options[];
extern const struct option before_options[], plan_options[];
extern const struct option common_options[], model_options[], data_options[], adapter_options[],
    train_options[], generate_options[];

/* "600M", "1.5G", "512MiB", "1000": bytes. */
bool size_parse(const char *text, int64_t *bytes);
/* Fills *args; 0, or EXIT_USAGE after it has said what is wrong. */
int options_parse(const struct command *cmd, int argc, char **argv, struct args *args);
void options_help(const struct command *cmd);
/* NULL = there is none. */
const struct command *find_command(const char *name);
/* The operand and options that give *args, but for those named in `without` (NULL ends them). */
struct words { const char **word; int32_t n; };
void options_words(const struct command *cmd, const struct args *args, const char *const *without,
                   struct words *w);
void words_add(struct words *w, const char *word);      /* a copy */
void words_free(struct words *w);
/* The candidate most like `word`, or NULL when none is close. */
const char *nearest(const char *word, const char *const *candidates, int n);

/* ---------------------------------------------------------------- output */

/* Writes JSON: every call adds one member (with `key`) or element (NULL). */
struct json {
    FILE *to;
    int depth;
    bool first;
    char close[16];
};
void json_begin(struct json *j, FILE *to);
void json_open(struct json *j, const char *key, char bracket);   /* '{' or '[' */
void json_close(struct json *j);         /* ends a line after the outermost */
void json_text(struct json *j, const char *key, const char *s);
void json_bytes(struct json *j, const char *key, const char *s, size_t n);
void json_int(struct json *j, const char *key, int64_t v);
void json_num(struct json *j, const char *key, double v);        /* NaN: null */
void json_bool(struct json *j, const char *key, bool v);

/* The next code point of n bytes at s, U+FFFD for a broken sequence; *used
 * receives the bytes it took (1 or more). */
uint32_t utf8_next(const char *s, size_t n, size_t *used);
/* Columns that a text takes on a terminal, counted as code points. */
int text_columns(const char *s);
int terminal_columns(FILE *f);

/* Allocation in the command ends the process with EXIT_MEMORY on failure. */
void *grow(void *at, size_t bytes);
char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A whole file or stream as text with a NUL; NULL on failure. */
char *read_stream(FILE *from, size_t *n);
char *read_file(const char *path, size_t *n);

/* Numbers for people; each call uses one of a few static buffers. */
const char *show_count(int64_t n);       /* 4,884,480 */
const char *show_bytes(int64_t n);       /* 1.2 GB */
const char *show_seconds(double s);      /* 3 min 20 s */

/* A table with a ruler below its head; columns whose head begins with '>' are
 * set to the right. */
void table_head(int columns, const char *const *heads);
void table_row(const char *const *cells);
void table_end(FILE *to);

/* Two texts beside each other, wrapped at words. */
void side_by_side(FILE *to, const char *left, const char *right);

enum style { PLAIN, BOLD, DIM, RED, GREEN, YELLOW };
/* The escape sequence of a style, "" where colours are not wanted. */
const char *paint(FILE *to, enum style s);
void quiet_set(bool on);
/* One line to stderr, unless --quiet. */
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A line that is overwritten in place on a terminal; elsewhere a line every
 * few seconds.  progress_end moves on from it. */
void progress(bool last, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void progress_end(void);
bool stderr_is_live(void);
/* A word as a shell reads it. */
void put_shell_word(FILE *to, const char *s);

/* ---------------------------------------------------------------- errors */

/* Print a reason to stderr and return an exit code: of a wrong option, of a
 * library call, and of one that was writing (a full disk is no bad file). */
int usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int runtime_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int library_error(int32_t code, const char *doing);
int saving_error(int32_t code, const char *doing);

/* ----------------------------------------------------------------- model */

/* Loads what MODEL names with the options' hooks, and --adapter if given. */
int open_model(const struct args *args, peft_model **model, peft_info *info);
/* The model at `path` instead. */
int open_model_at(const struct args *args, const char *path, peft_model **model, peft_info *info);
/* What a run with --method head, last or full has left. */
bool is_model_folder(const char *path);
int open_adapter(const struct args *args, peft_model *model, peft_info *info);
peft_dataset_opts data_opts(const struct args *args);
int open_data(const struct args *args, const peft_model *model, const char *path,
              peft_dataset **data);
/* Warnings of the library wait until the first line is on screen. */
void warnings_hold(void);
void warnings_show(void);

/* An interruption asked for by SIGINT, SIGTERM or SIGHUP: the flag, and the
 * trainer (may be NULL) that shall end its step.  A second one ends at once. */
void interrupt_catch(peft_trainer *trainer);
void interrupt_release(void);
bool interrupted(void);

/* The string of that key in a line that is a JSON object, in the line's place; NULL =
 * there is none. */
char *string_of_line(char *line, const char *key);
/* peft generate --prompts: answers all of a file. */
int answer_prompts(const struct args *args, peft_model *model);
/* The reason that an answer ended with. */
const char *reason_name(int32_t reason);
/* A file, or a folder with something in it. */
bool is_occupied(const char *path);
bool is_path(const char *path);          /* there is something */
bool is_folder(const char *path);

/* Answers a question to memory; for samples and --json. */
int answer(peft_model *model, const peft_message *messages, int32_t n,
           const peft_generate_opts *opts, char **text, peft_generated *result);
/* Options of generation as given on the command line. */
void generate_setup(const struct args *args, peft_generate_opts *opts);
/* The same; without any option of sampling, the model's own advice counts. */
void generate_advised(const struct args *args, const peft_model *model, peft_generate_opts *opts);

/* ------------------------------------------------------------------ data */

/* How rows are read, as given: with progress under this name ("counting"), warnings, and
 * an end at Ctrl-C, which source_begin and source_end watch for. */
struct source {
    peft_source_opts opts;
    peft_load_opts host;
    const char *doing;
    double began;
    int64_t done;
};
void source_begin(const struct args *args, const char *doing, struct source *s);
/* The exit code of a call that read or wrote data; of one that failed, with its reason. */
int source_end(int32_t rc, const char *doing);

/* -------------------------------------------------------------- commands */

int run_doctor(const struct args *args);
int run_inspect(const struct args *args);
int run_train(const struct args *args);
int run_replay(const struct args *args);
int run_tune(const struct args *args);
int run_eval(const struct args *args);
/* Whether peft eval has several systems to measure, and that. */
bool eval_compares(const struct args *args);
int run_comparison(const struct args *args);
int run_generate(const struct args *args);
int run_chat(const struct args *args);
int run_convert(const struct args *args);
int run_quantize(const struct args *args);
int run_list(const struct args *args);
int run_tokenize(const struct args *args);
int run_plan(const struct args *args);
int run_bench(const struct args *args);
int run_classify(const struct args *args);
/* Classes of the pictures that --image names, to stdout. */
int classify_pictures(const struct args *args, peft_model *model, const peft_info *info);
int run_answer(const struct args *args);
int run_embed(const struct args *args);
int run_adapter_check(const struct args *args);
int run_adapter_convert(const struct args *args);
int run_data_tokenize(const struct args *args);
int run_data_split(const struct args *args);
int run_data_convert(const struct args *args);
int run_data_augment(const struct args *args);
int run_data_label(const struct args *args);
int run_data_agree(const struct args *args);
int run_data_faults(const struct args *args);
int run_data_inspect(const struct args *args);
int run_data_report(const struct args *args);
int run_data_normalize(const struct args *args);
int run_data_clean(const struct args *args);

#endif
