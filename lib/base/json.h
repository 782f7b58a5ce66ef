/* The strict face of cJSON, and its only door.  Duplicate keys, trailing
 * garbage, invalid UTF-8, \u0000 and nesting deeper than 64 are refused;
 * integers are exact up to 2^53.  Look-ups are case-sensitive and linear:
 * walk a vocabulary once with json_first/json_next. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "host.h"

typedef struct cJSON json;
/* `what` names the text in messages ("config.json").  The tree holds its own
 * copy of all strings. */
int json_parse(const char *text, int64_t n, const char *what, json **out);
/* The same of a text that begins at a line and byte column, from 1, of the file `what`. */
int json_parse_at(const char *text, int64_t n, const char *what, int64_t line, int64_t column,
                  json **out);
/* Whether it is JSON, but for keys that occur twice. */
int json_check_at(const char *text, int64_t n, const char *what, int64_t line, int64_t column);
void json_free(json *j);

/* The same, but the list at `path` ("model.merges": a key and a key in it) is
 * left empty and its items come one at a time: a tree of half a million would
 * be far larger than its text, which must outlive *items.  items->n is their
 * number, 0 without such a list. */
struct json_items {
    const char *at, *end;
    int64_t n, from, to;                     /* from, to: where in the text */
    json *now;
    int rc;                                  /* why there was no further item */
};
int json_parse_but(const char *text, int64_t n, const char *what, const char *path,
                   struct json_items *items, json **out);
/* The next item, valid until the next call; NULL at the end or on failure. */
const json *json_next_item(struct json_items *items);

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };
enum json_kind json_kind(const json *j);
const char *json_kind_name(const json *j);   /* "a string", "an object" ... */
/* Member of an object, or NULL; `path` may be dotted: "rope_scaling.factor". */
const json *json_get(const json *j, const char *path);
const json *json_first(const json *j);       /* of an array or object; or NULL */
const json *json_next(const json *j);
const char *json_key(const json *j);         /* a member's key, else NULL */
int64_t json_count(const json *j);
/* Values; NULL or `absent` when the kind differs (or j is NULL). */
const char *json_string(const json *j);
double json_number(const json *j, double absent);
int json_bool(const json *j, int absent);
/* An exact integer within [lo, hi] into *out: 1 = found, 0 = no such member,
 * < 0 = PEFT_EFORMAT with the path, what was found and what was expected. */
int json_int(const json *obj, const char *path, int64_t lo, int64_t hi, int64_t *out);

/* Changes what a string holds, to n bytes of UTF-8 without NUL. */
int json_set_string(json *string, const char *s, int64_t n);

/* Appends the value as JSON text; the depth is that of the parse, at most 64. */
void json_write(struct buf *b, const json *j);

/* UTF-8 without surrogates and overlongs.  Returns the offset of the first bad
 * byte, or n. */
int64_t utf8_check(const char *s, int64_t n);

#endif
