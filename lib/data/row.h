/* Inside data/: a file's rows, what a row means, and its tokens. */
#ifndef DATA_ROW_H
#define DATA_ROW_H

#include "base/json.h"
#include "data/data.h"

enum { NOT_TRAINED = -100 };

/* --- source.c: a file as a stream of JSON objects, one row in memory at a
 * time, whatever it is: JSONL, a JSON array, CSV, texts, SQLite. */
struct row_source;
/* `o` may be NULL. */
int source_open(struct host *h, const char *path, const struct source_opts *o,
                struct row_source **out);
/* The next row as JSON text on one line, which may yet turn out to be broken: 1
 * with a text that is valid until the next call, 0 = end, < 0 failure, named by file, line
 * and column.  *line counts from 1: of a file its lines, else its rows. */
int source_next_text(struct row_source *s, const char **text, int64_t *n, int64_t *line);
/* The same as an object, which the caller frees. */
int source_next(struct row_source *s, json **row, int64_t *line);
/* The object in the text of a row that came from this line; any thread. */
int source_parse(const char *path, const char *text, int64_t n, int64_t line, json **row);
/* Puts the place of the present row before a failure's reason. */
int source_fail(const struct row_source *s, int rc);
/* The beginning of the present row for a message. */
const char *source_excerpt(struct row_source *s);
/* What the file was found to be: "JSONL", "CSV". */
const char *source_kind(const struct row_source *s);
/* Bytes of the present file so far; 0 where nobody knows. */
int64_t source_bytes(const struct row_source *s);
void source_close(struct row_source *s);

/* --- labels.c: names and numbers of classes, settled when all rows are read */
enum label_kind { LABEL_NONE, LABEL_NAME, LABEL_NUMBER };
struct labels {
    const struct data_opts *o;
    struct arena *arena;
    struct map index;               /* name -> its place in `names` */
    const char **names;
    int32_t n, cap;
    enum label_kind kind;
    char first[40];                 /* what the first one was, and its line */
    int64_t first_line;
    int32_t most;                   /* the highest class of numbers */
    int fraction;                   /* some number is no integer */
    int64_t odd_line;               /* first row whose integer is no class, or 0 */
    double odd;
};
int labels_init(struct labels *l, struct host *h, struct arena *a, const struct data_opts *o);
void labels_free(struct labels *l);
/* Puts the row's label into ex->label (a provisional place) and ex->value. */
int labels_read(struct labels *l, const json *value, struct example *ex);
int labels_name(struct labels *l, const char *name, int32_t *out);
int labels_number(struct labels *l, double x, struct example *ex);
/* Gives the rows their final ids and the data set its names. */
int labels_finish(struct labels *l, struct dataset *d);
/* Whether that can be done, before it is. */
int labels_check(const struct labels *l, const char *path, const struct dataset *d);

/* --- dataset.c: appends a row as it is */
int dataset_push(struct dataset *d, const struct example *x);

/* --- encode.c: text to tokens and what of them is trained */
struct coder {
    struct host *host;
    const struct tokenizer *tok;    /* NULL: rows must be ids */
    const struct tok_info *info;
    const struct data_opts *o;
    struct labels *label_set;       /* NULL: who takes the row reads its label */
    struct arena *arena;            /* of what a row keeps beside its tokens */
    struct arena scratch;           /* of one row */
    struct buf text;
    struct ids part;                /* tokens of a beginning of the text */
    struct ids spans;               /* of {% generation %} in the text */
    /* The row: labels.n is ids.n, or 0 without labels of tokens. */
    enum task task;
    struct ids ids, labels;
    struct ids ends;                /* of its texts; empty = one */
    struct example row;             /* its class or value */
    int32_t keep_last;              /* cutting keeps the closing [SEP] */
    int32_t masks;                  /* TASK_MASKED: labels say what may be masked */
    /* Where tokens come from, and a question in the making: all its tokens, how
     * many come before and after the context, and where the next window begins. */
    struct token_spans spans_of;
    struct ids whole;
    int32_t before, after, next, answer[2], second;
    const struct question *question;
    json *made;                     /* of this row, by a schema */
    int (*more)(struct coder *e);   /* the row's next window: 1, 0 = no more; or NULL */
};
struct chat {
    struct message *m;              /* [n] */
    const json **fields;            /* [n] the row's object, or NULL */
    const json *tools;              /* or NULL */
    uint8_t *train;                 /* [n] */
    int64_t n;
    bool by_hand;                   /* `train` or "train_detail" say more than roles do */
};
/* Each fills e->ids and e->labels. */
int coder_chat(struct coder *e, const struct chat *c);
int coder_text(struct coder *e, const char *text);
int coder_answer(struct coder *e, const char *prompt, const char *answer);
int coder_class(struct coder *e, const char *text, const char *pair);
/* A source text, behind the options' prefix, and its target. */
int coder_seq2seq(struct coder *e, const char *source, const char *target);
/* A source that is in e->ids, and the target's labels that are in e->labels. */
int coder_target(struct coder *e);
/* Labels what of e->ids may be masked: all but special tokens. */
int coder_masked(struct coder *e);
/* Appends a text of a pair: a prompt and its answer, or a conversation. */
int coder_add_answer(struct coder *e, const char *prompt, const char *answer);
int coder_add_chat(struct coder *e, const struct chat *c);
/* Positions p >= from that are trained; *first is the first of them. */
int64_t count_trained(const int32_t *labels, int64_t from, int64_t n, int64_t *first);
/* How far before its label the token stands whose hidden state predicts it. */
static inline int label_shift(enum task task)
{
    return task == TASK_LM || task == TASK_SEQ2SEQ;
}
/* Of n tokens that may be masked, how many are: 15 % (Devlin et al. 2019). */
static inline int32_t mask_count(int64_t n) { return (int32_t)MAX(n > 0, (n * 15 + 50) / 100); }

/* --- pictures.c: fills an empty data set from a folder or list of pictures */
int pictures_load(struct dataset *d, const char *path, const struct data_opts *o);

/* --- schema.c: which columns mean what */
struct schema {
    const char *name;
    const char *need[4];            /* columns that make a row one of these */
    enum task task;                 /* what its rows are unless `encode` says otherwise */
    int needs_tokenizer;
    int (*encode)(const struct schema *s, struct coder *e, const json *row);
    const char *kinds;              /* of `need`: 'l' list, 'b' true or false; NULL = any */
    const char *use;                /* what it is for, if nothing here learns from it */
};
extern const struct schema seq2seq_schemas[];       /* of encoder-decoder models; ends with NULL */
/* --- schema_task.c */
int encode_multi(const struct schema *s, struct coder *e, const json *row);
int encode_tokens(const struct schema *s, struct coder *e, const json *row);
int encode_entities(const struct schema *s, struct coder *e, const json *row);
int encode_question(const struct schema *s, struct coder *e, const json *row);
/* --- schema_embed.c */
int encode_match(const struct schema *s, struct coder *e, const json *row);
int encode_alike(const struct schema *s, struct coder *e, const json *row);
/* The list of numbers or names in `labels` as the row's classes. */
int multi_read(struct coder *e, const json *labels);
/* --- schema_chat.c */
int encode_chat(const struct schema *s, struct coder *e, const json *row);
int encode_completion(const struct schema *s, struct coder *e, const json *row);
int encode_alpaca(const struct schema *s, struct coder *e, const json *row);
int encode_segments(const struct schema *s, struct coder *e, const json *row);
int encode_pair(const struct schema *s, struct coder *e, const json *row);
int encode_pair_turns(const struct schema *s, struct coder *e, const json *row);
/* What a row is by its columns, for any model; false = nothing known. */
struct schema_match {
    const char *name, *use;         /* "alpaca", "language models"; or "" */
    bool trains;                    /* some objective learns from it */
    char why[120];                  /* the columns that decide: "instruction and output" */
    char near[200];                 /* what it nearly is: "alpaca but for output", or "" */
};
bool schema_of(const json *row, struct schema_match *out);
const char *schema_use(const struct schema *s);
/* A row that lacks columns of the first one's schema is PEFT_EFORMAT. */
int schema_same(const struct schema *s, const json *row, int64_t line);
/* The first row decides; PEFT_EFORMAT when its columns fit no schema, and
 * PEFT_EUNSUPPORTED when nothing learns from it. */
int schema_find(const struct data_opts *o, const json *row, const struct schema **out);
/* Encodes one row of this schema into `e`. */
int schema_encode(const struct schema *s, struct coder *e, const json *row);

/* --- reading members of a row (schema.c); each fails with what was expected */
const json *row_member(const json *row, const char *key);           /* null counts as absent */
/* A string; "" when an optional one is absent. */
int row_text(const json *row, const char *key, bool optional, const char **out);
/* A list of integers in [lo, hi], or `other`. */
int row_ids(const json *list, const char *key, int64_t lo, int64_t hi, int64_t other,
            struct ids *out);
/* Padding at the end of e->ids, and of labels of the same number, is dropped; a
 * hole elsewhere has no meaning. */
int row_drop_padding(struct coder *e, const json *mask);
/* The row's conversation, of any schema that is one: its chat, in e->scratch. */
int row_chat(struct coder *e, const json *row, struct chat *out);

#endif
