/* Rules that bring one text into a common form: each a function from text to text. */
#ifndef PREP_TIDY_H
#define PREP_TIDY_H

#include "prep/fields.h"
#include "text/unicode.h"

/* How many rows have a line, about: four rows of counters (Cormode and Muthukrishnan 2005),
 * of which the least is never too small. */
enum { LINE_DEPTH = 4, LINE_WIDTH = 1 << 20 };
struct line_counts { uint32_t *count; };

struct tidy {
    struct mem *mem;
    enum uni_form form;
    struct line_counts lines;
    int64_t repeated;               /* rows from which on a line is boilerplate */
    const struct field *field;      /* which the text is of */
    struct buf line;
};
struct tidy_rule {
    const char *name, *about;
    bool by_default;
    bool whole;                     /* not for a single word */
    /* Places that were changed, 0 = none; then `out`, which was empty, holds the text. */
    int64_t (*apply)(struct tidy *t, const char *s, int64_t n, struct buf *out);
};
extern const struct tidy_rule tidy_rules[];         /* ends with NULL */

int64_t tidy_lines(struct tidy *t, const char *s, int64_t n, struct buf *out);
int64_t tidy_control(struct tidy *t, const char *s, int64_t n, struct buf *out);
int64_t tidy_unicode(struct tidy *t, const char *s, int64_t n, struct buf *out);
int64_t tidy_space(struct tidy *t, const char *s, int64_t n, struct buf *out);
/* --- markup.c */
int64_t tidy_html(struct tidy *t, const char *s, int64_t n, struct buf *out);
int64_t tidy_markdown(struct tidy *t, const char *s, int64_t n, struct buf *out);
/* --- boilerplate.c */
int64_t tidy_boilerplate(struct tidy *t, const char *s, int64_t n, struct buf *out);
int64_t tidy_repeated(struct tidy *t, const char *s, int64_t n, struct buf *out);
/* The hashes of a text's lines that might be boilerplate, appended to `out` as uint64_t. */
void line_hashes(struct buf *line, const char *s, int64_t n, struct buf *out);
void line_count(struct line_counts *c, uint64_t hash);

#endif
