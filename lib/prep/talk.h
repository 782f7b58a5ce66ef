/* A row as a conversation: the inner form between the formats of training data, which are
 * a table of how each is read and written. */
#ifndef PREP_TALK_H
#define PREP_TALK_H

#include "prep/prep.h"

/* CALL is an assistant's turn that calls functions: its text is JSON, {"name", "arguments"}
 * or a list of such. */
enum speaker { SYSTEM, USER, ASSISTANT, TOOL, CALL };
struct turn {
    enum speaker who;
    const char *text;               /* NULL: more than a text, which only lists of messages hold */
    const json *node;               /* the message object that it was, or NULL */
};
struct turns { struct turn *v; int64_t n; };

struct talk {
    struct arena *arena;
    struct turns all;               /* with the answer, of two the better one */
    int64_t prompt;                 /* turns before the answer */
    struct turns rejected;          /* n = 0: none */
    const char *input;              /* alpaca's: how the last question ends, behind '\n'; or NULL */
};

struct form {
    const char *name;
    const char *need[2];            /* columns by which it is known */
    const char *own[7];             /* that it reads; all others are passed on */
    int styles;                     /* ways to write the same, 0 is the usual one */
    int (*read)(const json *row, struct talk *t);
    /* Appends members; PEFT_EFORMAT says what cannot be held.  NULL: only read. */
    int (*write)(struct buf *b, const struct talk *t, int style);
};
extern const struct form forms[];               /* ends with a NULL name */
const struct form *form_named(const char *name);
/* The first form whose columns the row has, or NULL. */
const struct form *form_of(const json *row);
bool form_owns(const struct form *f, const char *column);

/* --- talk.c: what readers and writers share */
int turn_add(struct talk *t, struct turns *to, enum speaker who, const char *text,
             const json *node);
char *talk_text(struct talk *t, const char *a, const char *b, const char *c);   /* joined */
int talk_rejected(struct talk *t, const json *row);      /* its second answer alone */
/* The speaker by a name of `messages` or of ShareGPT. */
int speaker_named(const char *name, enum speaker *out);
extern const char *const message_roles[], *const sharegpt_roles[];

/* --- pairs.c: questions and answers in a text, and texts of them */
struct pairs {
    /* Gets each pair, NUL-terminated, valid during the call. */
    int (*found)(void *ctx, const char *question, const char *input, const char *answer);
    void *ctx;
};
/* By a template with {question} and {answer}; NULL: by what texts usually have, lines
 * "Q:" and "A:", headings or bold lines that end in "?", tables of questions and answers,
 * and the form that text_of writes. */
int pairs_find(struct mem *m, const char *text, int64_t n, const char *layout,
               const struct pairs *to);
/* A conversation as one text, by a template or in the form of Stanford Alpaca. */
int text_of(struct buf *b, const struct talk *t, const char *layout);
int layout_check(const char *layout);

#endif
