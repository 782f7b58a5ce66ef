/* CSV by RFC 4180 with a header row: quoted cells may hold commas, doubled
 * quotes and line ends.  In .tsv files tabs stand for the commas.  A record is
 * written as a JSON object, so that everything after it knows one form only. */
#include "data/source.h"

#include <stdio.h>

enum { COLUMN_LIMIT = 65536 };

struct csv {
    char comma;
    char *line;                     /* the present one */
    int64_t n, number;
    const char **columns;
    int64_t n_columns;
    struct buf cell;
};

static int csv_line(struct row_source *s)
{
    struct csv *c = s->own;
    return source_line(s, &c->line, &c->n, &c->number);
}

/* Reads a quoted cell into c->cell from just behind its opening quote, going
 * on over lines.  *at ends behind the closing quote. */
static int quoted_cell(struct row_source *s, int64_t *at)
{
    struct csv *c = s->own;
    int64_t line = c->number, column = *at;
    for (;;) {
        const char *from = c->line + *at;
        const char *quote = memchr(from, '"', (size_t)(c->n - *at));
        buf_put(&c->cell, from, (quote ? quote - from : c->n - *at));
        if (quote) {
            *at = quote - c->line + 1;
            if (*at == c->n || c->line[*at] != '"') return PEFT_OK;
            buf_putc(&c->cell, '"');
            ++*at;
            continue;
        }
        buf_putc(&c->cell, '\n');
        int rc = c->cell.n > ROW_LIMIT ? 0 : csv_line(s);
        if (rc < 0) return rc;
        if (rc == 0) return source_fail_at(s, line, column, "a quoted cell is never closed");
        *at = 0;
    }
}

/* Reads one cell into c->cell.  *at ends behind its comma, or at -1 after the
 * record's last cell. */
static int next_cell(struct row_source *s, int64_t *at)
{
    struct csv *c = s->own;
    buf_clear(&c->cell);
    if (*at < c->n && c->line[*at] == '"') {
        ++*at;
        int rc = quoted_cell(s, at);
        if (rc < 0) return rc;
        if (*at < c->n && c->line[*at] != c->comma)
            return source_fail_at(s, c->number, *at + 1, "text behind a closing quote, expected a "
                                  "%s; quotes inside a cell are doubled",
                                  c->comma == ',' ? "comma" : "tab");
    } else {
        const char *from = c->line + *at;
        const char *comma = memchr(from, c->comma, (size_t)(c->n - *at));
        buf_put(&c->cell, from, comma ? comma - from : c->n - *at);
        *at += c->cell.n;
    }
    *at = *at < c->n ? *at + 1 : -1;
    return buf_check(&c->cell);
}

static int read_header(struct row_source *s)
{
    struct csv *c = s->own;
    int rc;
    do rc = csv_line(s);
    while (rc > 0 && is_blank(c->line, c->n));
    if (rc <= 0) return rc;
    int64_t most = 1, at = 0, first = c->number;
    for (int64_t i = 0; i < c->n; i++) most += c->line[i] == c->comma;
    if (most > COLUMN_LIMIT)
        return source_fail_at(s, first, 1, "%lld columns, expected at most %d", (long long)most,
                              (int)COLUMN_LIMIT);
    c->columns = arena_alloc(&s->arena, most * (int64_t)sizeof *c->columns);
    struct map seen;
    map_init(&seen, &s->host->mem);
    rc = c->columns ? PEFT_OK : PEFT_ENOMEM;
    while (rc == PEFT_OK && at >= 0) {
        int64_t from = at + 1;
        if ((rc = next_cell(s, &at)) < 0) break;
        char *name = arena_strndup(&s->arena, buf_str(&c->cell), c->cell.n);
        int added = name ? map_add(&seen, name, c->cell.n, 1) : PEFT_ENOMEM;
        if (added < 0) rc = added;
        else if (c->number != first || (added == 0 && name[0]))
            rc = source_fail_at(s, first, from, "the header row has column \"%.60s\" %s", name,
                                added ? "with a line end" : "twice");
        else c->columns[c->n_columns++] = name;
    }
    map_free(&seen);
    return rc < 0 ? rc : 1;
}

static int csv_next(struct row_source *s)
{
    struct csv *c = s->own;
    int rc;
    if (!c->columns && (rc = read_header(s)) <= 0) return rc;
    do rc = csv_line(s);
    while (rc > 0 && c->n == 0);
    s->line = c->number;
    if (rc <= 0) return rc;
    buf_clear(&s->row);
    int64_t at = 0, i = 0;
    for (; at >= 0; i++) {
        if ((rc = next_cell(s, &at)) < 0) return rc;
        /* A nameless column, such as an exported row index, has no meaning. */
        if (i >= c->n_columns || !c->columns[i][0]) continue;
        rc = source_cell(s, c->columns[i], buf_str(&c->cell), c->cell.n, false);
        if (rc < 0) return rc;
    }
    if (i != c->n_columns)
        return source_fail_at(s, s->line, c->n + 1, "expected %lld cells as in the header row, "
                              "found %lld", (long long)c->n_columns, (long long)i);
    buf_puts(&s->row, s->row.n ? "}" : "{}");
    return 1;
}

static int csv_open(struct row_source *s)
{
    struct csv *c = s->own = arena_alloc(&s->arena, sizeof *c);
    if (!c) return PEFT_ENOMEM;
    const char *ending = strrchr(s->path, '.');
    c->comma = ending && (ending[1] | 0x20) == 't' ? '\t' : ',';
    buf_init(&c->cell, &s->host->mem);
    return PEFT_OK;
}

static void csv_close(struct row_source *s)
{
    struct csv *c = s->own;
    buf_free(&c->cell);
}

const struct row_reader read_csv = {
    .name = "CSV", .endings = ".csv.tsv.tab", .open = csv_open, .next = csv_next,
    .close = csv_close
};
