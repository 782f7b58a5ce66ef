/* Data files as streams of JSON objects.  What a file is, its ending and its
 * beginning say; a reader of that kind gives its rows as JSON text, and columns
 * get their new names here.
 *
 * JSONL: one object a line; blank lines are skipped. */
#include "data/source.h"

#include <stdarg.h>
#include <stdio.h>

/* --- what readers share */

int source_fail_at(const struct row_source *s, int64_t line, int64_t column, const char *fmt, ...)
{
    char why[200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    return fail(PEFT_EFORMAT, "%s %s %lld column %lld: %s", s->file, s->unit, (long long)line,
                (long long)column, why);
}

int source_check(const struct row_source *s, const char *text, int64_t n, int64_t line,
                 int64_t column)
{
    const char *nul = memchr(text, 0, (size_t)n);
    int64_t good = utf8_check(text, n), bad = nul ? MIN(good, nul - text) : good;
    for (int64_t i = 0; bad < n && i < bad; i++) {
        column++;
        if (text[i] == '\n') line++, column = 1;
    }
    if (bad == n) return PEFT_OK;
    return source_fail_at(s, line, column, good == bad ? "not valid UTF-8" : "a NUL byte, expected "
                          "text; UTF-16 needs a byte order mark at the file's beginning");
}

int source_line(struct row_source *s, char **line, int64_t *n, int64_t *number)
{
    int rc = line_next(s->lines, line, n, number);
    if (rc > 0 && (rc = source_check(s, *line, *n, *number, 1)) == PEFT_OK) rc = 1;
    return rc;
}

bool is_blank(const char *s, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r') return false;
    return true;
}

/* --- new names */

struct rename { const char *to, *from; int64_t n; bool seen; };

static int wrong_columns_option(const struct row_source *s)
{
    return fail(PEFT_EARG, "columns \"%.100s\": expected new=old,new=old, each once",
                s->o.columns);
}

static int read_renames(struct row_source *s)
{
    int32_t most = 1;
    for (const char *c = s->o.columns; c && *c; c++) most += *c == ',';
    s->renames = arena_alloc(&s->arena, most * (int64_t)sizeof *s->renames);
    if (!s->renames) return PEFT_ENOMEM;
    for (const char *c = s->o.columns; c && *c;) {
        int64_t n = (int64_t)strcspn(c, ","), to = (int64_t)strcspn(c, "=");
        if (to == 0 || to + 1 >= n) return wrong_columns_option(s);
        struct rename *r = &s->renames[s->n_renames++];
        r->to = arena_strndup(&s->arena, c, to);
        r->from = arena_strndup(&s->arena, c + to + 1, n - to - 1);
        if (!r->to || !r->from) return PEFT_ENOMEM;
        r->n = n - to - 1;
        for (const struct rename *b = s->renames; b < r; b++)
            if (!strcmp(b->to, r->to) || !strcmp(b->from, r->from)) return wrong_columns_option(s);
        c += n + (c[n] == ',');
    }
    return PEFT_OK;
}

/* The new name of a column; "" when its name is now another's, NULL = its own. */
static const char *renamed(struct row_source *s, const char *name, int64_t n)
{
    const char *to = NULL;
    for (int32_t i = 0; i < s->n_renames; i++) {
        struct rename *r = &s->renames[i];
        bool same = r->n == n && !memcmp(r->from, name, (size_t)n);
        if (same) r->seen = true;
        if (same) return r->to;
        if ((int64_t)strlen(r->to) == n && !memcmp(r->to, name, (size_t)n)) to = "";
    }
    return to;
}

/* Where the value or key that begins at p ends, at depth 0 of what follows. */
static const char *skip_value(const char *p, const char *end)
{
    for (int64_t depth = 0; p < end; p++) {
        if (*p == '"') {
            for (p++; p < end && *p != '"'; p++) p += *p == '\\';
            continue;
        }
        if (depth == 0 && (*p == ',' || *p == ':' || *p == '}')) break;
        depth += *p == '{' || *p == '[';
        depth -= *p == '}' || *p == ']';
    }
    return MIN(p, end);
}

/* Copies an object with the new names of its members. */
static int rename_row(struct row_source *s)
{
    const char *p = s->at, *end = p + s->n, *sep = "{";
    while (p < end && is_blank(p, 1)) p++;
    if (p == end || *p != '{') return PEFT_OK;
    buf_clear(&s->other);
    for (p++; p < end && *p != '}';) {
        const char *key = p, *colon = skip_value(p, end), *stop;
        while (key < colon && *key != '"') key++;
        const char *last = colon;
        while (last[-1] != '"') last--;
        stop = skip_value(colon + 1, end);
        const char *to = renamed(s, key + 1, last - key - 2);
        if (!to || *to) {
            buf_puts(&s->other, sep);
            if (to) buf_json(&s->other, to, (int64_t)strlen(to));
            else buf_put(&s->other, key, last - key);
            buf_put(&s->other, colon, stop - colon);
            sep = ",";
        }
        p = stop + (stop < end && *stop == ',');
    }
    if (*sep == '{') buf_puts(&s->other, sep);
    buf_put(&s->other, p, end - p);
    s->at = s->other.data;
    s->n = s->other.n;
    return buf_check(&s->other);
}

/* A name that the first row does not have is a slip. */
static int check_renames(const struct row_source *s)
{
    for (int32_t i = 0; s->count == 1 && i < s->n_renames; i++)
        if (!s->renames[i].seen)
            return fail(PEFT_ENOTFOUND, "%s: columns \"%.60s\": the first row has no \"%.60s\": "
                        "%.100s", s->path, s->o.columns, s->renames[i].from, s->at);
    return PEFT_OK;
}

/* Cells of these columns are JSON when they look so; all others are text. */
static const struct { const char *name; int list, number; } json_columns[] = {
    {"input_ids", 1, 0}, {"attention_mask", 1, 0}, {"labels", 1, 1}, {"label", 0, 1},
    {"messages", 1, 0}, {"conversations", 1, 0}, {"tokens", 1, 0}, {"tags", 1, 0},
    {"ner_tags", 1, 0}, {"spans", 1, 0}, {"entities", 1, 0}, {"answers", 1, 0}, {"score", 0, 1},
};

static bool is_json_number(const char *s)
{
    json *j = NULL;
    if (!s[0] || strspn(s, "-+.0123456789eE") != strlen(s)) return false;
    bool yes = json_parse(s, (int64_t)strlen(s), "cell", &j) == PEFT_OK;
    json_free(j);
    return yes;
}

int source_cell(struct row_source *s, const char *column, const char *cell, int64_t n,
                bool raw)
{
    const char *to = renamed(s, column, (int64_t)strlen(column)), *name = to ? to : column;
    buf_putc(&s->row, s->row.n ? ',' : '{');
    buf_json(&s->row, column, (int64_t)strlen(column));
    buf_putc(&s->row, ':');
    for (size_t i = 0; i < ARRAY_LEN(json_columns); i++) {
        if (strcmp(name, json_columns[i].name) != 0) continue;
        if (json_columns[i].list && cell[0] == '[') {
            json *j = NULL;
            int rc = json_parse(cell, n, column, &j);
            json_free(j);
            if (rc < 0) return source_fail(s, rc);
            raw = true;
        }
        raw = raw || (json_columns[i].number && is_json_number(cell));
    }
    if (raw) buf_put(&s->row, cell, n);
    else buf_json(&s->row, cell, n);
    if (s->row.n > ROW_LIMIT)
        return source_fail_at(s, s->line, 1, "a record of more than %d bytes", (int)ROW_LIMIT);
    return buf_check(&s->row);
}

/* --- lines of JSON */

static int lines_next(struct row_source *s)
{
    char *line;
    int rc;
    do rc = source_line(s, &line, &s->n, &s->line);
    while (rc > 0 && is_blank(line, s->n));
    s->at = line;
    return rc;
}

static const struct row_reader read_lines = { .name = "JSONL", .endings = "", .next = lines_next };

/* --- which reader */

/* The first that knows the beginning, the ending, or else nothing of both. */
static const struct row_reader *const row_readers[] = {
    &read_sqlite, &read_texts, &read_csv, &read_array, &read_lines
};

enum { FIRST_OF_LINES = 2 };           /* those before open files of their own */

static int choose_reader(struct row_source *s)
{
    const char *head = "";
    int64_t n = 0;
    size_t i = 0;
    int rc = PEFT_OK;
    s->reader = &read_texts;
    if (s->o.text || path_kind(s->host, s->path) != 2) {
        if (s->o.text) i = FIRST_OF_LINES;
        rc = line_open_text(s->host, s->path, s->o.text, s->o.text_n, &s->lines);
        if (rc == PEFT_OK) rc = line_peek(s->lines, &head, &n);
        while (i + 1 < ARRAY_LEN(row_readers) && !has_ending(s->path, row_readers[i]->endings) &&
               !(row_readers[i]->knows && row_readers[i]->knows(head, n))) i++;
        s->reader = row_readers[i];
    }
    if (rc >= 0 && s->o.table && s->reader != &read_sqlite)
        rc = fail(PEFT_EARG, "%s: table \"%.60s\" is given, and this is no SQLite file but %s",
                  s->path, s->o.table, s->reader->name);
    return rc >= 0 && s->reader->open ? s->reader->open(s) : rc;
}

/* --- rows */

int source_open(struct host *h, const char *path, const struct source_opts *o,
                struct row_source **out)
{
    *out = NULL;
    struct row_source *s = mem_zalloc(&h->mem, sizeof *s);
    if (!s) return PEFT_ENOMEM;
    s->host = h;
    arena_init(&s->arena, &h->mem);
    buf_init(&s->row, &h->mem);
    buf_init(&s->other, &h->mem);
    if (o) s->o = *o;
    s->unit = "line";
    s->column = 1;
    s->file = s->path = arena_strndup(&s->arena, path, (int64_t)strlen(path));
    int rc = s->path ? read_renames(s) : PEFT_ENOMEM;
    if (rc == PEFT_OK) rc = choose_reader(s);
    if (rc < 0) {
        source_close(s);
        return rc;
    }
    *out = s;
    return PEFT_OK;
}

void source_close(struct row_source *s)
{
    if (!s) return;
    if (s->own && s->reader->close) s->reader->close(s);
    if (s->lines) line_close(s->lines);
    buf_free(&s->row);
    buf_free(&s->other);
    arena_free(&s->arena);
    mem_free(&s->host->mem, s);
}

const char *source_kind(const struct row_source *s)
{
    return s->reader->name;
}

int64_t source_bytes(const struct row_source *s)
{
    return s->lines ? line_bytes(s->lines) : 0;
}

int source_fail(const struct row_source *s, int rc)
{
    return fail_in(rc, "%s %s %lld: ", s->file, s->unit, (long long)s->line);
}

int source_next_text(struct row_source *s, const char **text, int64_t *n, int64_t *line)
{
    if (s->o.limit > 0 && s->count >= s->o.limit) return 0;
    s->at = NULL;
    int rc = s->reader->next(s);
    *line = s->line;
    if (rc <= 0) return rc;
    if (!s->at) {
        s->at = s->row.data;
        s->n = s->row.n;
        if ((rc = buf_check(&s->row)) < 0) return rc;
    }
    s->count++;
    bool lines = memchr(s->at, '\n', (size_t)s->n) != NULL;
    if (lines || s->n_renames) rc = json_check_at(s->at, s->n, s->file, s->line, s->column);
    /* Where the text is JSON, line ends are blanks: one line is what others expect. */
    for (int64_t i = 0; lines && i < s->row.n; i++)
        if (s->row.data[i] == '\n') s->row.data[i] = ' ';
    if (rc >= 0 && s->n_renames) rc = rename_row(s);
    if (rc >= 0 && s->n_renames) rc = check_renames(s);
    if (rc < 0) return rc;
    *text = s->at;
    *n = s->n;
    return 1;
}

static int parse_row(const char *path, const char *text, int64_t n, int64_t line, int64_t column,
                     json **row)
{
    int rc = json_parse_at(text, n, path, line, column, row);
    if (rc < 0 || json_kind(*row) == JSON_OBJECT) return rc;
    rc = fail(PEFT_EFORMAT, "%s line %lld: expected a JSON object on each line, found %s", path,
              (long long)line, json_kind_name(*row));
    json_free(*row);
    *row = NULL;
    return rc;
}

int source_parse(const char *path, const char *text, int64_t n, int64_t line, json **row)
{
    return parse_row(path, text, n, line, 1, row);
}

int source_next(struct row_source *s, json **row, int64_t *line)
{
    const char *text;
    int64_t n;
    *row = NULL;
    int rc = source_next_text(s, &text, &n, line);
    if (rc > 0) rc = parse_row(s->file, text, n, s->line, s->column, row);
    return rc < 0 ? rc : *row != NULL;
}

const char *source_excerpt(struct row_source *s)
{
    int64_t keep = MIN(s->n, (int64_t)sizeof s->excerpt - 4);
    /* Not inside a character. */
    while (keep < s->n && keep > 0 && ((unsigned char)s->at[keep] & 0xc0) == 0x80) keep--;
    memcpy(s->excerpt, s->at, (size_t)keep);
    memcpy(s->excerpt + keep, s->n > keep ? "..." : "", s->n > keep ? 4 : 1);
    return s->excerpt;
}
