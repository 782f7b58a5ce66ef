/* libpeft_kit: data preparation.  From a heap of examples to files that training reads.
 *
 * A library of its own above libpeft: programs that only train or answer do not carry it.
 * The rules of peft.h hold here too: threads, ownership, errors (reasons are read by
 * peft_errmsg), options that begin with their size, text in UTF-8.  Everything works row by
 * row: memory does not grow with the file but for what a docstring says.  An output file
 * appears whole, or not at all.
 */
#ifndef PEFT_DATA_H
#define PEFT_DATA_H

#include "peft.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How rows are read, in every function here; the same as in peft_dataset_opts. */
typedef struct peft_source_opts {
    size_t size;
    const char *columns;      /* names of the file's own: "text=body,label=stars" reads column
                                 "body" as "text"; NULL = as they are */
    const char *table;        /* of an SQLite file: a table's name or a query; NULL = its only
                                 table */
    int64_t chunk;            /* of plain texts: bytes of a row at most, cut at ends of paragraphs;
                                 0 = a paragraph a row, of a folder a file a row */
    int64_t limit;            /* rows read; 0 = all */
    int32_t threads;          /* 0 = one per usable core; at most 32 */
    const peft_load_opts *host; /* memory and files (alloc, io, log); NULL = the system's */
    /* Called now and then, with bytes of the input; non-zero ends with PEFT_ECANCELLED. */
    int32_t (*progress)(void *ctx, int64_t done, int64_t total);
    void *ctx;
} peft_source_opts;

/* ------------------------------------------------------------ labels by hand
 * A session of labelling the rows of a file.  What is decided is the output file itself, JSONL
 * of the rows with their label, which after each decision is replaced as a whole: a process that
 * dies loses nothing, and a session that is opened again goes on.  Rows are the same by their
 * texts.  All rows are held in memory: see `limit` of the source. */

typedef struct peft_labeller peft_labeller;
typedef struct peft_label_opts {
    size_t size;
    const char *labels;       /* those that may be given, "positive,negative"; NULL = those that
                                 the rows have now */
    const char *by;           /* who gives them, kept as member "labeller"; NULL = nobody */
    const peft_source_opts *source;
} peft_label_opts;
/* PEFT_EARG without two labels, PEFT_ESTATE when `out` has a row that `path` has not. */
PEFT_API int32_t peft_labeller_open(const char *path, const char *out,
                                    const peft_label_opts *opts, peft_labeller **labeller);
PEFT_API void peft_labeller_free(peft_labeller *labeller);
/* The i-th label, or NULL. */
PEFT_API const char *peft_labeller_label(const peft_labeller *labeller, int32_t i);
typedef struct peft_label_row {
    size_t size;
    int64_t row, line;        /* from 0; in its file, from 1 */
    const char *text;         /* valid until the next call */
    const char *given;        /* the label that it has in the file; NULL = none */
    const char *likely;       /* the one in its member "likely", see peft_data_faults; or NULL */
    int64_t labelled, skipped, rows;
} peft_label_row;
/* The row to label now: the first that has no decision.  PEFT_EEND when all have one; the
 * counts are there all the same. */
PEFT_API int32_t peft_labeller_row(peft_labeller *labeller, peft_label_row *out);
/* Decides on it.  PEFT_EARG for a label that may not be given; PEFT_ESTATE, here and in
 * peft_labeller_undo, when another program has changed the file meanwhile. */
PEFT_API int32_t peft_labeller_give(peft_labeller *labeller, const char *label);
/* Leaves it for the next session. */
PEFT_API int32_t peft_labeller_skip(peft_labeller *labeller);
/* Takes back the last decision, or skip, of this session or of an earlier one: its row is the
 * one to label again.  PEFT_EEND when there is none. */
PEFT_API int32_t peft_labeller_undo(peft_labeller *labeller);

/* ------------------------------------------------- agreement of labellers */

enum { PEFT_LABELLERS = 16 };
/* Two of them, on the rows that both labelled. */
typedef struct peft_agree_pair {
    size_t size;
    int32_t a, b;             /* files, from 0 */
    int64_t rows;
    double agreement;         /* share of rows with the same label */
    double kappa;             /* Cohen's (1960): as scikit-learn's cohen_kappa_score; NaN where
                                 chance alone agrees always */
    int32_t n_labels;
    const char *const *labels; /* sorted */
    const int64_t *confusion; /* [n_labels, n_labels], rows: a's labels */
} peft_agree_pair;
/* A row on which they differ. */
typedef struct peft_agree_row {
    size_t size;
    int64_t line;             /* in the first file that has it */
    const char *text;
    int32_t n;                /* files */
    const char *const *labels; /* [n]; NULL = this one has none */
    const char *majority;     /* NULL = a tie */
} peft_agree_row;
typedef struct peft_agree_opts {
    size_t size;
    const char *out;          /* JSONL of the rows with the label that most gave, and the share
                                 who did as member "agreement"; rows with a tie are left out.
                                 NULL = none */
    int32_t least;            /* labels that a row of `out` must have; 0 = 2 */
    const peft_source_opts *source;
    /* Called for each pair, then for each row on which they differ; non-zero ends with
     * PEFT_ECANCELLED. */
    int32_t (*on_pair)(void *ctx, const peft_agree_pair *pair);
    int32_t (*on_row)(void *ctx, const peft_agree_row *row);
    void *ctx;
} peft_agree_opts;
typedef struct peft_agreement {
    size_t size;
    int64_t rows;             /* with a label by anyone */
    int64_t shared;           /* by two or more, */
    int64_t all;              /* and by all */
    int64_t same;             /* of the shared ones, where all who labelled agree */
    int64_t ties;             /* of them, without a majority */
    int64_t written;
    int32_t labels;
    double percent;           /* mean over pairs of labels of the rows that all labelled: share
                                 of them that are the same */
    double fleiss;            /* Fleiss' kappa (1971) of these rows, as statsmodels'
                                 fleiss_kappa; NaN as above, or without such rows */
} peft_agreement;
/* Compares the labels that 2 to PEFT_LABELLERS files give the same rows.  Rows are the same by
 * their texts, in any order; of equal ones the first meets the first.  PEFT_EDATA when no row
 * was labelled twice. */
PEFT_API int32_t peft_data_agree(const char *const *paths, int32_t n, const peft_agree_opts *opts,
                                 peft_agreement *out);

/* -------------------------------------------------- suspected label errors */

typedef struct peft_label_check {
    int32_t likely;           /* the class that it rather is; the given one if none is likelier */
    int32_t flagged;          /* 1 = a suspect */
    float confidence;         /* probability of the given label */
    float margin;             /* (it - the largest other one + 1) / 2 */
} peft_label_check;
/* Confident learning (Northcutt et al. 2021): what probabilities [n, labels], of models that
 * have not seen the row, say of the labels that were given.  A row is flagged when it counts off
 * the diagonal of the confident joint, as by cleanlab's filter "confident_learning".  order [n],
 * or NULL: the rows, least `rank` first: "confidence" (NULL) or "margin". */
PEFT_API int32_t peft_label_faults(const float *probabilities, const int32_t *given, int64_t n,
                                   int32_t labels, const char *rank, peft_label_check *out,
                                   int64_t *order);

typedef struct peft_label_fault {
    size_t size;
    int64_t rank;             /* from 1 */
    int64_t line;
    const char *text, *given, *likely;
    double confidence, likely_confidence, margin;
    int32_t flagged, suspect;
    /* Of rows with any number of labels, where `given` and `likely` name all of them with ", "
     * between, and confidence is of the worst one: that one and all that are flagged. */
    int32_t n_missing, n_wrong;
    const char *const *missing; /* [n_missing] rather should be there */
    const char *const *wrong; /* [n_wrong] rather should not */
} peft_label_fault;
typedef struct peft_faults_opts {
    size_t size;
    int32_t folds;            /* 0 = 5 */
    const char *rank;         /* as above; of several labels NULL = "margin" */
    double share;             /* suspects are this share of the rows, the first ones by rank;
                                 0 = those that are flagged */
    double l2;                /* of the heads; 0 = the one that makes held out labels likeliest */
    uint64_t seed;            /* of the parts */
    const char *pool;         /* as in peft_embed_opts, as are */
    int32_t max_len, batch;
    const char *out;          /* JSONL of the suspects, the worst first, with members "likely",
                                 "confidence", "margin", "line"; or NULL */
    const char *clean;        /* the other rows, in the order of the file; or NULL */
    const peft_source_opts *source; /* its progress is called with rows done, of all;
                                 with `tune` a row counts as often as the time it takes */
    /* Called for each row, the worst first; non-zero ends the calls. */
    int32_t (*on_fault)(void *ctx, const peft_label_fault *fault);
    void *ctx;
    int32_t tune;             /* epochs for which LoRA and a head are trained, too, on all parts
                                 but the one that is asked about; 0 = only heads are.  Of texts;
                                 the model has no head and no adapters, and a new head after it */
} peft_faults_opts;
typedef struct peft_faults {
    size_t size;
    int64_t rows, unlabelled; /* rows with a text and a label; the others, left out */
    int64_t flagged, suspects;
    int32_t labels;
    double accuracy;          /* of the heads, on rows they have not seen, by the given labels;
                                 of several labels a row their F1, all rows and labels together */
    double l2;                /* 0: each label has its own */
    int32_t several;          /* 1 = rows have any number of labels */
    int32_t rare;             /* of those labels: left out, as fewer rows than parts have or lack
                                 them */
} peft_faults;
/* Suspected label errors in a file of rows with one label each, or with a list of any number of
 * them (names, or 0 and 1 for each label).  The model runs once over every row, frozen; heads are
 * fitted to its hidden states at four depths (peft_embed_text; of pictures peft_embed_image) and
 * to hashed words and pairs of words, without a part of the rows, for each part in turn; again
 * without the rows, a tenth at most, whose labels were the least likely; and what they say of
 * the part, with `tune` the geometric mean of it and of what the tuned model says, goes through
 * peft_label_faults.  Any encoder or decoder; adapters that are enabled take part.
 * Of several labels each is a question of its own, one against the rest: a row is flagged where
 * one of its labels is, and ranked by its worst one.  Its margin is the probability of what is
 * given had it been even before the text was read, p (1 - q) / (p (1 - q) + (1 - p) q) with q
 * the share of rows that are given the same.  "likely" in `out` is the list with what is in doubt
 * changed.
 * Memory: the file, 4 bytes for each row, depth and column of an output, and 12 for each word
 * and pair; of several labels 17 for each row and label.  PEFT_EDATA with fewer than two labels
 * (of several: one), or fewer rows than twice the parts. */
PEFT_API int32_t peft_data_faults(const char *path, peft_model *model,
                                  const peft_faults_opts *opts, peft_faults *out);
/* ------------------------------------------------------------------ split */

enum { PEFT_TRAIN = 0, PEFT_VALID = 1, PEFT_TEST = 2, PEFT_SIDES = 3 };
typedef struct peft_split_opts {
    size_t size;
    const peft_source_opts *source; /* NULL = defaults */
    double ratio[3];          /* train, valid, test, relative to their sum; all 0 = 8, 1, 1 */
    const char *stratify;     /* column whose values each side has in equal shares, or NULL */
    const char *group;        /* column: rows with the same value stay on one side, or NULL */
    int32_t group_text;       /* 1 = so do rows whose texts are equal or nearly so */
    int32_t overwrite;        /* 1 = replace files that are there */
    uint64_t seed;
    /* Called once for each value of `stratify`, with its rows on each side. */
    void (*on_class)(void *ctx, const char *name, const int64_t *rows);
    void *ctx;
    int64_t memory;           /* bytes of what is kept of rows; 0 = 128 MiB */
} peft_split_opts;
typedef struct peft_split {
    size_t size;
    int64_t rows[3], groups[3]; /* on each side; a row without a group is one */
    int64_t classes;
    int64_t scarce;           /* classes that some side has no row of */
    int64_t shared;           /* texts that are on more than one side; case, spaces and
                                 punctuation do not count */
} peft_split;
/* Deals the rows of the file `path` out to train.jsonl, valid.jsonl and test.jsonl, in their
 * order; a side whose ratio is 0 has no file.  `out` is a folder, or where it ends in '-',
 * '_' or '.' the beginning of the names; NULL = it is only told what would be.  Each class gets
 * the largest remainders of its shares, exactly; groups, the large ones first, go where they
 * fit best, and of the last ones to sides that have none.  What is kept of rows goes into
 * temporary files beside `out` where it is more than `memory`: 16 bytes a row, 50 with a
 * group, 300 with group_text.  PEFT_EDATA when a side would stay empty; scarce classes are
 * named in the log. */
PEFT_API int32_t peft_data_split(const char *path, const char *out, const peft_split_opts *opts,
                                 peft_split *result);
/* --------------------------------------------- results, as named tables
 * The same for a terminal, a page and JSON. */

enum {
    PEFT_TABLE_FACTS,         /* columns "name" and "value" */
    PEFT_TABLE_LIST,
    PEFT_TABLE_BARS,          /* the first column names what column "rows" counts */
    PEFT_TABLE_HISTOGRAM      /* "from", "to" (both within) and "rows"; rows in order */
};
typedef struct peft_cell {
    const char *text;         /* NULL: a number */
    double number;            /* NaN = none */
} peft_cell;
typedef struct peft_table {
    size_t size;
    const char *name, *title; /* "lengths", "Lengths in tokens" */
    int32_t kind;
    int32_t n_columns;
    int64_t n_rows;
    const char *const *columns; /* [n_columns] */
    const peft_cell *cells;     /* [n_rows, n_columns] */
} peft_table;
typedef struct peft_tables peft_tables;
/* The i-th table, PEFT_EEND after the last; or the one of that name.  What it points to lives
 * as long as `t`.  Any thread. */
PEFT_API int32_t peft_tables_at(const peft_tables *t, int32_t i, peft_table *out);
PEFT_API int32_t peft_tables_find(const peft_tables *t, const char *name, peft_table *out);
PEFT_API void peft_tables_free(peft_tables *t);

/* ------------------------------------------------------------ inspection */

typedef struct peft_inspect_opts {
    size_t size;
    const peft_source_opts *source; /* how rows are read; NULL = defaults */
    const peft_model *model;  /* whose tokens are counted; NULL = characters and words alone */
    int32_t max_len;          /* tokens; rows beyond it are counted; 0 = none */
    int32_t examples;         /* broken rows that are told with their reasons; 0 = 10 */
    uint64_t seed;            /* of the rows that are shown */
} peft_inspect_opts;
/* Looks at all rows of a file or folder and changes nothing.  A broken row is counted and
 * the next one read; PEFT_EDATA when there is no row at all.  Tables, of which those
 * without a row are left out:
 *   summary    facts: file, rows, schema, why, for, broken, empty, duplicates (of texts and label;
 *              an estimate beyond three million different rows: duplicates_exact is 0),
 *              mixed_scripts (another one has a tenth of the letters or more), tokens, longer
 *              (than max_len), label_kind ("none", "classes", "numbers", "names and numbers"),
 *              label_column, labelled, labels, label_mean, label_least, label_most
 *   notes      level ("warning", "note"), text: what to look at before training
 *   schemas    schema ("unknown"), rows, first_line, why (the columns that decided, or what it
 *              nearly is), for (what learns from it), near
 *   columns    column, kind, filled (share of rows), texts, numbers, lists, others, blank (texts
 *              and lists), mean_bytes (of texts), least, most (of numbers); the first 256
 *   lengths    of (tokens, words, characters; width and height of pictures, which are decoded),
 *              mean, median, p95, least, most, longest_line
 *   tokens, words, characters    histograms; tokens as training has them, with the model's chat
 *              template and what its tokenizer adds (give or take one at the seams of texts)
 *   labels     label, rows, share: the most frequent first, at most 1000
 *   scripts    script, rows, share: writing systems, the first guess at languages
 *   broken     line, reason
 *   examples   line, label, text: five rows, drawn with the seed
 * Memory: 120 MB at most, whatever the file's size. */
PEFT_API int32_t peft_data_inspect(const char *path, const peft_inspect_opts *opts,
                                   peft_tables **out);

/* ---------------------------------------------------------------- convert */

typedef struct peft_data_convert_opts {
    size_t size;
    const peft_source_opts *source; /* NULL = defaults */
    const char *to;           /* "alpaca", "sharegpt", "messages", "prompt-completion",
                                 "preference" or "text" */
    const char *from;         /* one of these, or "question-answer"; NULL = as the first row is */
    const char *layout;       /* of texts, to read and to write: literal text with {question} and
                                 {answer}, perhaps {input} and {system}; NULL = what texts usually
                                 have, and to write Stanford Alpaca's form */
    int32_t skip;             /* 1 = rows that cannot be read or held are left out */
    int32_t drop;             /* 1 = what the format cannot hold is lost, not kept */
    int32_t overwrite;
} peft_data_convert_opts;
typedef struct peft_data_converted {
    size_t size;
    char from[24];            /* the format that was found */
    int64_t read, rows;       /* rows read, and written */
    int64_t skipped;
    int64_t kept;             /* rows whose way back needs more than the format holds */
    char columns[128];        /* members that are kept for it, or with `drop` are lost */
    int64_t restored, stale;  /* rows that had kept members: these are back, or are of no use
                                 since the texts have changed */
} peft_data_converted;
/* Turns the rows of `path` into another format.  Columns that belong to neither are passed
 * on.  What the new format cannot hold goes into the column "kept", from which the way back
 * restores it: A -> B -> A gives the same members.  What has no place at all (function calls
 * in alpaca, a preference without a second answer) is PEFT_EFORMAT with file and line, or
 * left out with `skip`.  From texts (files of text or Markdown, rows with "text") every
 * question with its answer becomes a row: by `layout`, or from lines "Q:" and "A:", headings
 * and bold lines that end in "?", and tables with the columns question and answer. */
PEFT_API int32_t peft_data_convert(const char *path, const char *out,
                                   const peft_data_convert_opts *opts, peft_data_converted *result);
/* ------------------------------------------------- normalizing, cleaning
 * What rules found and did is told as tables:
 *   summary    facts: rows, kept, dropped, changed, bytes (written), seconds ...
 *   rules      rule, action, rows (that it acted on), places (in their texts), about
 *   examples   rule, line, of (the line that it repeats, of the evaluation file for a leak),
 *              similarity (to that), field ("messages[2]"), before, after: a part of the text
 *              around what was found, of the first few rows of each rule
 */

typedef struct peft_normalize_opts {
    size_t size;
    const peft_source_opts *source;
    const char *form;         /* "nfc" (NULL), "nfkc" or "none": the Unicode normal form (UAX 15) */
    const char *rules;        /* names of rules to add or, behind '-', to leave out:
                                 "html,markdown,-space"; NULL = as listed below */
    double repeated;          /* of rule "repeated": rows that share a line before it counts as
                                 boilerplate, or their share when below 1; 0 = 0.02 */
} peft_normalize_opts;
/* Brings the texts of all rows into one form; labels, ids, numbers and all other members stay
 * as they are, and a row that needs nothing is written byte for byte.  `out` is JSONL and may
 * be `in`; NULL = only the report.  Rules in their order, those in brackets only by name:
 *
 *   lines        CR LF, CR, form feeds, U+2028 and their like become LF
 *   control      control, invisible and direction characters go, tabs and LF stay
 *   [html]       tags, comments, scripts and styles go; entities become characters
 *   [markdown]   marks of headings, emphasis, links, quotes and code go, their text stays
 *   [boilerplate] lines known from web pages go: notices of cookies, copyright, sharing
 *   [repeated]   lines go that many rows have, counted in a pass of its own (16 MiB; count-min
 *                sketch of Cormode and Muthukrishnan 2005, so rarely a line too many)
 *   unicode      the normal form
 *   space        runs of white space become one space, ends are cut, at most one blank line;
 *                indentation stays, and the ends of texts that meet others (prompt, completion)
 *
 * Texts in which other members hold positions (spans, answer_start) are left as they are and
 * counted.  *report may be NULL; free it with peft_tables_free. */
PEFT_API int32_t peft_data_normalize(const char *in, const char *out,
                                     const peft_normalize_opts *opts, peft_tables **report);

typedef struct peft_clean_opts {
    size_t size;
    const peft_source_opts *source;
    const char *actions;      /* what rules do, where not as listed below: "mail=mask,exact=flag" */
    const char *against;      /* evaluation data, whose rows must not be in `in`; NULL = none */
    const char *dropped;      /* JSONL of dropped rows: line, rule, of, similarity, row; or NULL */
    double near;              /* likeness from which on rows are near duplicates; 0 = 0.8 */
    int32_t shingle;          /* words that are compared as one; 0 = 3 */
    int64_t min_chars, max_chars; /* of all texts of a row; 0 = no such bound */
    const peft_model *model;  /* whose tokens are counted; may be NULL */
    int64_t min_tokens, max_tokens;
    int64_t memory;           /* bytes of what is kept of rows; 0 = 160 MiB */
} peft_clean_opts;
/* Finds what should not be in training data, and writes the rest to `out`, in its order, as
 * JSONL that may be `in` itself; NULL = only the report.  Rules, and what they can do (first:
 * what they do unless told otherwise):
 *
 *   broken         drop, fail: no JSON object, or no UTF-8
 *   empty          drop, flag, off: no text at all
 *   encoding       flag, fix, drop, off: UTF-8 encoded twice, Windows' quotes as control
 *                  characters (fix repairs these two), U+FFFD, accents that are no language
 *   mail, phone, card, iban, key
 *                  flag, mask, drop, off: personal data and secrets; mask writes "[MAIL]"
 *   short, long    drop, flag, off: beyond the bounds given
 *   leak           drop, flag, off: its texts, or what it asks, stand in `against`, equal or
 *                  nearly so
 *   exact          drop, flag, off: the same texts and label as a row before; case and white
 *                  space do not count
 *   contradiction  flag, drop (all), majority, off: the same texts with another label; majority
 *                  keeps the label that most rows have, and none of a tie
 *   near           drop, flag, off: almost the same words as a row before that stays, and the
 *                  same label
 *
 * Likeness is Jaccard's, of the sets of `shingle` words in a row (Broder 1997), estimated by
 * sketches with a standard error of 0.035 at 0.8; of pairs that reach `near` at most one in a
 * hundred is not looked at.  Where positions point into a text, masks are stars and nothing is
 * repaired.  The file is read twice.  What is kept of rows, some 110 bytes of each, goes into
 * temporary files beside `out` (without it beside `in`) where it is more than `memory`; in all
 * that is up to 350 bytes a row on the disk.  Any number of threads and any memory give the
 * same bytes. */
PEFT_API int32_t peft_data_clean(const char *in, const char *out, const peft_clean_opts *opts,
                                 peft_tables **report);
/* ---------------------------------------------------------------- augment */

enum { PEFT_AUGMENTS = 6 };
typedef struct peft_augment_opts {
    size_t size;
    const peft_source_opts *source; /* NULL = defaults */
    const char *methods;      /* of texts, with commas: "synonyms", "insert", "delete", "swap" (EDA,
                                 Wei and Zou 2019), "noise" (slips of the fingers),
                                 "back-translation"; NULL = delete and swap, with a thesaurus
                                 synonyms and insert too; with a model its translation alone */
    const char *thesaurus;    /* "word<TAB>synonym,synonym" lines, or MyThes' .dat, or NULL */
    double strength;          /* share of a text's words that change; 0 = 0.1 */
    double share;             /* of the rows that get copies; 0 = all */
    int32_t copies;           /* of each of them; 0 = 1, at most 32 */
    int32_t answers;          /* 1 = answers change too, not only questions and texts */
    const char *fixed;        /* words that stay as they are, with commas; or NULL */
    const char *eval;         /* evaluation data, whose texts are neither taken nor made; or NULL */
    peft_model *through;      /* back-translation: into the other language, or NULL */
    peft_model *back;         /* and back; NULL = the same one */
    const char *through_prompt, *back_prompt; /* with {text}; NULL = French and English, as T5 or
                                 a chat model is asked.  back_prompt "" = there is no way back: a
                                 paraphrase */
    const peft_generate_opts *generate; /* NULL = greedy */
    int32_t batch;            /* answers at a time; 0 = 16 */
    const char *pictures;     /* of pictures: as peft_train_opts.augment; NULL = "flip,rotate=10,
                                 crop=0.1,brightness=0.2,contrast=0.2" */
    uint64_t seed;
    int32_t overwrite;
} peft_augment_opts;
typedef struct peft_augmented {
    size_t size;
    int64_t rows, added;      /* rows read, all of which are written, and rows added to them */
    double share;             /* added / (rows + added) */
    const char *method[PEFT_AUGMENTS]; /* names; static */
    int64_t by_method[PEFT_AUGMENTS];
    int64_t guarded;          /* rows that belong to evaluation and got no copies */
    int64_t dropped;          /* copies that had become an evaluation text */
    int64_t unchanged;        /* copies in which nothing could change, or equal to another */
    int64_t broken;           /* pictures that cannot be read */
} peft_augmented;
/* Writes the rows of `path` to `out`, each followed by its changed copies, which have the
 * same label and an additional column "augmented" with the method's name.  Rows that are
 * evaluation data get none: their text is in `eval`, or a column "split" says validation,
 * valid, val, dev, eval or test; nor do rows that are copies themselves.  Texts to whose
 * letters other columns point stay as they are.
 * A folder of pictures, or a list of them with the column "image", becomes a folder `out`
 * of the files as they are and PNG files for the copies, in the same sub-folders; of a list
 * also list.jsonl. */
PEFT_API int32_t peft_data_augment(const char *path, const char *out,
                                   const peft_augment_opts *opts, peft_augmented *result);

#ifdef __cplusplus
}
#endif
#endif
