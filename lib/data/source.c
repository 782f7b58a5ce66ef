/* Data files as streams of JSON objects.
 *
 * JSONL: one object a line.  CSV: RFC 4180 with a header row; quoted cells may
 * hold commas, doubled quotes and line ends.  A CSV record is written as a JSON
 * object and read like a line of JSONL, so that everything after this file
 * knows one form only.  Blank lines are skipped. */
#include "data/row.h"

/* A row beyond this is a broken file (an unclosed quote), or no row at all. */
static const int64_t row_limit = 16 << 20;
enum { COLUMN_LIMIT = 65536 };

struct row_source {
    struct host *host;
    char *path;
    struct line_reader *lines;
    int csv;
    char *line;                     /* the present one */
    int64_t n, number;
    const char **columns;           /* of a CSV file */
    int64_t n_columns;
    struct arena names;
    struct buf cell, text;          /* text: the record as JSON */
    char excerpt[100];
};

/* Cells of these columns are JSON when they look so; all others are text. */
static const struct { const char *name; int list, number; } json_columns[] = {
    {"input_ids", 1, 0}, {"attention_mask", 1, 0}, {"labels", 1, 1}, {"label", 0, 1},
    {"messages", 1, 0}, {"conversations", 1, 0}, {"tokens", 1, 0}, {"tags", 1, 0},
    {"ner_tags", 1, 0}, {"spans", 1, 0}, {"entities", 1, 0}, {"answers", 1, 0}, {"score", 0, 1},
};

/* Reads the next line into s: 1, 0 at the end, or < 0. */
static int next_line(struct row_source *s)
{
    int rc = line_next(s->lines, &s->line, &s->n, &s->number);
    if (rc <= 0) return rc;
    int64_t good = utf8_check(s->line, s->n);
    if (good < s->n)
        return fail(PEFT_EFORMAT, "%s line %lld: byte %lld is not valid UTF-8", s->path,
                    (long long)s->number, (long long)good + 1);
    const char *nul = memchr(s->line, 0, (size_t)s->n);
    if (nul)
        return fail(PEFT_EFORMAT, "%s line %lld: byte %lld is NUL, expected text", s->path,
                    (long long)s->number, (long long)(nul - s->line) + 1);
    if (s->n > row_limit)
        return fail(PEFT_EFORMAT, "%s line %lld: %lld bytes, expected at most %lld", s->path,
                    (long long)s->number, (long long)s->n, (long long)row_limit);
    return 1;
}

static bool is_blank(const char *s, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r') return false;
    return true;
}

/* --- CSV */

/* Reads a quoted cell into s->cell from just behind its opening quote, going
 * on over lines.  *at ends behind the closing quote. */
static int quoted_cell(struct row_source *s, int64_t *at, int64_t first)
{
    for (;;) {
        const char *from = s->line + *at;
        const char *quote = memchr(from, '"', (size_t)(s->n - *at));
        buf_put(&s->cell, from, (quote ? quote - from : s->n - *at));
        if (quote) {
            *at = quote - s->line + 1;
            if (*at == s->n || s->line[*at] != '"') return PEFT_OK;
            buf_putc(&s->cell, '"');
            ++*at;
            continue;
        }
        buf_putc(&s->cell, '\n');
        int rc = s->cell.n > row_limit ? 0 : next_line(s);
        if (rc < 0) return rc;
        if (rc == 0)
            return fail(PEFT_EFORMAT, "%s line %lld: a quoted cell is never closed", s->path,
                        (long long)first);
        *at = 0;
    }
}

/* Reads one cell into s->cell.  *at ends behind its comma, or at -1 after the
 * record's last cell. */
static int next_cell(struct row_source *s, int64_t *at, int64_t first)
{
    buf_clear(&s->cell);
    if (*at < s->n && s->line[*at] == '"') {
        ++*at;
        int rc = quoted_cell(s, at, first);
        if (rc < 0) return rc;
        if (*at < s->n && s->line[*at] != ',')
            return fail(PEFT_EFORMAT, "%s line %lld: text behind a closing quote at byte %lld, "
                        "expected a comma", s->path, (long long)s->number, (long long)*at + 1);
    } else {
        const char *from = s->line + *at;
        const char *comma = memchr(from, ',', (size_t)(s->n - *at));
        buf_put(&s->cell, from, comma ? comma - from : s->n - *at);
        *at += s->cell.n;
    }
    *at = *at < s->n ? *at + 1 : -1;
    return buf_check(&s->cell);
}

static bool is_json_number(const char *s)
{
    json *j = NULL;
    if (!s[0] || strspn(s, "-+.0123456789eE") != strlen(s)) return false;
    bool yes = json_parse(s, (int64_t)strlen(s), "cell", &j) == PEFT_OK;
    json_free(j);
    return yes;
}

/* Appends the present cell as the value of column `name`. */
static int put_cell(struct row_source *s, const char *name)
{
    const char *cell = buf_str(&s->cell);
    bool raw = false;
    for (size_t i = 0; i < ARRAY_LEN(json_columns); i++) {
        if (strcmp(name, json_columns[i].name) != 0) continue;
        if (json_columns[i].list && cell[0] == '[') {
            json *j = NULL;
            int rc = json_parse(cell, s->cell.n, name, &j);
            json_free(j);
            if (rc < 0) return fail_in(rc, "%s line %lld: ", s->path, (long long)s->number);
            raw = true;
        }
        raw = raw || (json_columns[i].number && is_json_number(cell));
    }
    if (raw) buf_put(&s->text, cell, s->cell.n);
    else buf_json(&s->text, cell, s->cell.n);
    return PEFT_OK;
}

static int read_header(struct row_source *s)
{
    int rc;
    do rc = next_line(s);
    while (rc > 0 && is_blank(s->line, s->n));
    if (rc <= 0) return rc;
    int64_t most = 1, at = 0, first = s->number;
    for (int64_t i = 0; i < s->n; i++) most += s->line[i] == ',';
    if (most > COLUMN_LIMIT)
        return fail(PEFT_EFORMAT, "%s line %lld: %lld columns, expected at most %d", s->path,
                    (long long)first, (long long)most, (int)COLUMN_LIMIT);
    s->columns = arena_alloc(&s->names, most * (int64_t)sizeof *s->columns);
    struct map seen;
    map_init(&seen, &s->host->mem);
    rc = s->columns ? PEFT_OK : PEFT_ENOMEM;
    while (rc == PEFT_OK && at >= 0) {
        if ((rc = next_cell(s, &at, first)) < 0) break;
        char *name = arena_strndup(&s->names, buf_str(&s->cell), s->cell.n);
        int added = name ? map_add(&seen, name, s->cell.n, 1) : PEFT_ENOMEM;
        if (added < 0) rc = added;
        else if (s->number != first || (added == 0 && name[0]))
            rc = fail(PEFT_EFORMAT, "%s line %lld: the header row has column \"%.60s\" %s",
                      s->path, (long long)first, name, added ? "with a line end" : "twice");
        else s->columns[s->n_columns++] = name;
    }
    map_free(&seen);
    return rc < 0 ? rc : 1;
}

/* The next CSV record as JSON text. */
static int next_record(struct row_source *s, int64_t *first)
{
    int rc;
    if (!s->columns && (rc = read_header(s)) <= 0) return rc;
    do rc = next_line(s);
    while (rc > 0 && s->n == 0);
    if (rc <= 0) return rc;
    *first = s->number;
    buf_clear(&s->text);
    int64_t at = 0, i = 0;
    for (; at >= 0; i++) {
        if ((rc = next_cell(s, &at, *first)) < 0) return rc;
        /* A nameless column, such as an exported row index, has no meaning. */
        if (i >= s->n_columns || !s->columns[i][0]) continue;
        buf_putc(&s->text, s->text.n ? ',' : '{');
        buf_json(&s->text, s->columns[i], (int64_t)strlen(s->columns[i]));
        buf_putc(&s->text, ':');
        if ((rc = put_cell(s, s->columns[i])) < 0) return rc;
        if (s->text.n > row_limit)
            return fail(PEFT_EFORMAT, "%s line %lld: a record of more than %lld bytes", s->path,
                        (long long)*first, (long long)row_limit);
    }
    if (i != s->n_columns)
        return fail(PEFT_EFORMAT, "%s line %lld: expected %lld cells as in the header row, "
                    "found %lld", s->path, (long long)*first, (long long)s->n_columns,
                    (long long)i);
    buf_puts(&s->text, s->text.n ? "}" : "{}");
    rc = buf_check(&s->text);
    return rc < 0 ? rc : 1;
}

/* --- both */

int source_open(struct host *h, const char *path, struct row_source **out)
{
    *out = NULL;
    struct row_source *s = mem_zalloc(&h->mem, sizeof *s);
    if (!s) return PEFT_ENOMEM;
    s->host = h;
    arena_init(&s->names, &h->mem);
    buf_init(&s->cell, &h->mem);
    buf_init(&s->text, &h->mem);
    size_t n = strlen(path);
    s->csv = n > 4 && strcmp(path + n - 4, ".csv") == 0;
    s->path = mem_strdup(&h->mem, path);
    int rc = s->path ? line_open(h, path, &s->lines) : PEFT_ENOMEM;
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
    if (s->lines) line_close(s->lines);
    buf_free(&s->cell);
    buf_free(&s->text);
    arena_free(&s->names);
    mem_free(&s->host->mem, s->path);
    mem_free(&s->host->mem, s);
}

static const char *record_text(const struct row_source *s, int64_t *n)
{
    *n = s->csv ? s->text.n : s->n;
    return s->csv ? s->text.data : s->line;
}

int source_next_text(struct row_source *s, const char **text, int64_t *n, int64_t *line)
{
    int rc;
    *line = 0;
    if (s->csv) {
        rc = next_record(s, line);
    } else {
        do rc = next_line(s);
        while (rc > 0 && is_blank(s->line, s->n));
        *line = s->number;
    }
    if (rc > 0) *text = record_text(s, n);
    return rc;
}

int source_next(struct row_source *s, json **row, int64_t *line)
{
    const char *text;
    int64_t n;
    *row = NULL;
    int rc = source_next_text(s, &text, &n, line);
    if (rc <= 0) return rc;
    rc = json_parse(text, n, "JSON", row);
    if (rc < 0) return fail_in(rc, "%s line %lld: ", s->path, (long long)*line);
    if (json_kind(*row) != JSON_OBJECT) {
        rc = fail(PEFT_EFORMAT, "%s line %lld: expected a JSON object on each line, found %s",
                  s->path, (long long)*line, json_kind_name(*row));
        json_free(*row);
        *row = NULL;
        return rc;
    }
    return 1;
}

const char *source_excerpt(struct row_source *s)
{
    int64_t n, cap = (int64_t)sizeof s->excerpt - 4;
    const char *text = record_text(s, &n);
    int64_t keep = MIN(n, cap);
    /* Not inside a character. */
    while (keep < n && keep > 0 && ((unsigned char)text[keep] & 0xc0) == 0x80) keep--;
    memcpy(s->excerpt, text, (size_t)keep);
    memcpy(s->excerpt + keep, n > keep ? "..." : "", n > keep ? 4 : 1);
    return s->excerpt;
}
