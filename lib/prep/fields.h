/* The texts of a row, whatever its schema: what normalizing, cleaning, augmenting and
 * inspecting work on.  Labels, ids, numbers, tool calls and names are no texts. */
#ifndef PREP_FIELDS_H
#define PREP_FIELDS_H

#include "prep/prep.h"

enum field_role {
    FIELD_TEXT,                     /* of no side: "text", "sentence1", "segments" */
    FIELD_INPUT,                    /* what is asked: "prompt", a user's message */
    FIELD_ANSWER,                   /* what is to be said: "completion", an assistant's message */
    FIELD_SYSTEM,                   /* the frame around: "system", a system message */
    FIELD_ROLES
};
extern const char *const field_role_names[FIELD_ROLES];

struct field {
    json *node;                     /* a string; json_set_string changes it */
    const char *column;             /* the row's member that holds it */
    int32_t at;                     /* which string of a list or conversation, else -1 */
    enum field_role role;
    bool fixed;                     /* other members hold positions in it: leave it as it is */
    bool word;                      /* one of a text that is a list of words */
    bool joined;                    /* meets another text as it is: white space at
                                       its ends counts */
};
/* The row's texts in the order of the file: their number; of more than `cap` only the
 * first are given.  A row without any known column gives all its own strings but those
 * that are called ids or labels. */
int64_t fields_of(json *row, struct field *out, int64_t cap);
/* All of them in a list that grows; *list and *cap begin as NULL and 0. */
int fields_list(struct mem *m, json *row, struct field **list, int64_t *cap, int64_t *n);
/* "messages[2]" or "text". */
void field_name(const struct field *f, char *out, size_t cap);
/* What the row is labelled with, a string, number, bool or list; or NULL. */
const json *field_label(const json *row);

#endif
