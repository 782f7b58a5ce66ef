/* A JSON array of objects, or objects one after the other, over as many or as
 * few lines as it may be: one object in memory at a time.  Only strings and
 * brackets are looked at here; the parser sees each object by itself. */
#include "data/source.h"

enum array_state { ARRAY_BEFORE, ARRAY_FIRST, ARRAY_VALUE, ARRAY_BEHIND, ARRAY_CLOSED };
struct array {
    enum array_state state;         /* VALUE: one must come; FIRST, BEHIND: the end may */
    bool bare;                      /* no array around the objects */
    int64_t line, column;           /* of the next byte */
};

static void array_step(struct array *a, char c)
{
    a->column++;
    if (c == '\n') a->line++, a->column = 1;
}

/* What c between the objects means: 1 = one begins, 0 = go on, < 0. */
static int array_between(struct row_source *s, char c)
{
    struct array *a = s->own;
    bool may_end = !a->bare && (a->state == ARRAY_FIRST || a->state == ARRAY_BEHIND);
    bool may_begin = a->bare || a->state == ARRAY_FIRST || a->state == ARRAY_VALUE;
    if (c == '{' && may_begin) return 1;
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n') return 0;
    if (c == '[' && a->state == ARRAY_BEFORE && !a->bare) a->state = ARRAY_FIRST;
    else if (c == ',' && a->state == ARRAY_BEHIND) a->state = ARRAY_VALUE;
    else if (c == ']' && may_end) a->state = ARRAY_CLOSED;
    else
        return source_fail_at(s, a->line, a->column, "expected %s", a->state == ARRAY_CLOSED ?
                              "nothing behind the array" : a->state == ARRAY_BEHIND && !a->bare ?
                              "',' or ']'" : "an object");
    return 0;
}

/* As far as the next object: 1, 0 at the end, < 0. */
static int array_seek(struct row_source *s)
{
    struct array *a = s->own;
    const char *at;
    int64_t n, i;
    int found = 0, rc;
    while (!found && (rc = line_peek(s->lines, &at, &n)) != 0) {
        if (rc < 0) return rc;
        for (i = 0; i < n && (found = array_between(s, at[i])) == 0; i++) array_step(a, at[i]);
        line_skip(s->lines, i);
    }
    if (found || a->state == ARRAY_CLOSED || (a->bare && a->state != ARRAY_VALUE)) return found;
    return source_fail_at(s, a->line, a->column, "the file ends inside the array");
}

static int array_next(struct row_source *s)
{
    struct array *a = s->own;
    const char *at;
    int64_t n, depth = 0;
    bool quoted = false, escaped = false;
    int rc = array_seek(s);
    if (rc <= 0) return rc;
    s->line = a->line;
    s->column = a->column;
    buf_clear(&s->row);
    do {
        if ((rc = line_peek(s->lines, &at, &n)) < 0) return rc;
        if (rc == 0 || s->row.n > ROW_LIMIT)
            return source_fail_at(s, s->line, s->column, rc ? "an object of more than 16 MiB" :
                                  "the file ends inside this object");
        int64_t i = 0;
        do {
            char c = at[i++];
            array_step(a, c);
            if (quoted) {
                quoted = escaped || c != '"';
                escaped = !escaped && c == '\\';
                continue;
            }
            quoted = c == '"';
            depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        } while (i < n && depth > 0);
        buf_put(&s->row, at, i);
        line_skip(s->lines, i);
    } while (depth > 0);
    a->state = ARRAY_BEHIND;
    if ((rc = buf_check(&s->row)) == PEFT_OK)
        rc = source_check(s, s->row.data, s->row.n, s->line, s->column);
    return rc < 0 ? rc : 1;
}

static int array_open(struct row_source *s)
{
    struct array *a = s->own = arena_alloc(&s->arena, sizeof *a);
    const char *at;
    int64_t n = 0, i = 0;
    if (!a) return PEFT_ENOMEM;
    int rc = line_peek(s->lines, &at, &n);
    while (i < n && is_space(at[i])) i++;
    *a = (struct array){.line = 1, .column = 1, .bare = i < n && at[i] == '{'};
    return rc < 0 ? rc : PEFT_OK;
}

/* An array, or an object that goes on behind its first line. */
static bool array_knows(const char *head, int64_t n)
{
    int64_t i = 0, depth = 0;
    bool quoted = false;
    while (i < n && is_space(head[i])) i++;
    if (i == n || head[i] != '{') return i < n && head[i] == '[';
    for (; i < n && head[i] != '\n'; i++) {
        if (head[i] == '"') quoted = !quoted;
        else if (quoted && head[i] == '\\') i++;
        else if (!quoted) depth += (head[i] == '{') - (head[i] == '}');
    }
    return i < n && depth > 0 && !quoted;
}

const struct row_reader read_array = {
    .name = "JSON array", .endings = "", .knows = array_knows, .open = array_open,
    .next = array_next
};
