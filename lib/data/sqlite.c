/* The only door to SQLite.  Built with PEFT_SQLITE; without it such files are
 * refused with the name of what is missing.
 *
 * Rows are those of a table or of one SELECT; the file is only read, and a
 * query can do nothing else.  A NULL and a blob count as absent.  SQLite opens
 * the file itself: a host's own file system is not asked. */
#include "data/source.h"

#define SQLITE_MAGIC "SQLite format 3"

static bool sqlite_knows(const char *head, int64_t n)
{
    return n > (int64_t)sizeof SQLITE_MAGIC && !memcmp(head, SQLITE_MAGIC, sizeof SQLITE_MAGIC);
}

#ifdef PEFT_SQLITE
#include <sqlite3.h>

struct database { sqlite3 *db; sqlite3_stmt *rows; bool denied; };

static int sqlite_failed(const struct row_source *s, const char *what)
{
    const struct database *d = s->own;
    return fail(sqlite3_errcode(d->db) == SQLITE_NOMEM ? PEFT_ENOMEM : PEFT_EFORMAT, "%s: %s%s",
                s->path, what, sqlite3_errmsg(d->db));
}

static int only_reading(void *ctx, int action, const char *a, const char *b, const char *c,
                        const char *e)
{
    struct database *d = ctx;
    (void)a, (void)b, (void)c, (void)e;
    bool fine = action == SQLITE_SELECT || action == SQLITE_READ || action == SQLITE_FUNCTION ||
                action == SQLITE_RECURSIVE;
    d->denied = d->denied || !fine;
    return fine ? SQLITE_OK : SQLITE_DENY;
}

/* "file:PATH?immutable=1": a file that nobody changes needs no locks.  One with
 * a log beside it is being written to, and the log's rows count too. */
static int open_database(struct row_source *s)
{
    struct database *d = s->own;
    struct buf *b = &s->row;
    buf_printf(b, "%s-wal", s->path);
    if (buf_check(b) < 0) return PEFT_ENOMEM;
    bool log = path_kind(s->host, buf_str(b)) == 1;
    buf_clear(b);
    buf_puts(b, "file:");
    for (const char *c = s->path; *c; c++)
        if (strchr("%?#", *c)) buf_printf(b, "%%%02x", (unsigned)*c);
        else buf_putc(b, *c);
    buf_puts(b, log ? "?mode=ro" : "?mode=ro&immutable=1");
    if (buf_check(b) < 0) return PEFT_ENOMEM;
    if (sqlite3_open_v2(b->data, &d->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI |
                        SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL))
        return d->db ? sqlite_failed(s, "") : fail(PEFT_ENOMEM, "%s: no memory", s->path);
    sqlite3_db_config(d->db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    sqlite3_db_config(d->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_limit(d->db, SQLITE_LIMIT_LENGTH, ROW_LIMIT);
    return PEFT_OK;
}

/* The only table's name into s->other; PEFT_EARG that lists them otherwise. */
static int only_table(struct row_source *s, const char *why)
{
    struct database *d = s->own;
    struct buf *b = &s->other;
    int64_t n = 0;
    buf_clear(b);
    if (sqlite3_prepare_v2(d->db, "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
                           "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name", -1, &d->rows,
                           NULL))
        return sqlite_failed(s, "");
    for (; sqlite3_step(d->rows) == SQLITE_ROW; n++)
        buf_printf(b, "%s%s", n ? ", " : "", (const char *)sqlite3_column_text(d->rows, 0));
    sqlite3_finalize(d->rows);
    d->rows = NULL;
    if (buf_check(b) < 0) return PEFT_ENOMEM;
    if (n == 1 && !*why) return PEFT_OK;
    return fail(PEFT_EARG, "%s: %s%s%s, expected the option table to name one or to be a query",
                s->path, why, n ? "has the tables " : "has no tables", buf_str(b));
}

/* SELECT * FROM "name", or the query that was given, into s->row. */
static int write_query(struct row_source *s)
{
    const char *t = s->o.table;
    buf_clear(&s->row);
    if (t && (strchr(t, ' ') || strchr(t, '\n'))) {
        buf_puts(&s->row, t);
        return buf_check(&s->row);
    }
    int rc = t ? PEFT_OK : only_table(s, "");
    if (rc < 0) return rc;
    buf_puts(&s->row, "SELECT * FROM \"");
    for (const char *c = t ? t : buf_str(&s->other); *c; c++)
        buf_puts(&s->row, (char[3]){*c, *c == '"' ? '"' : 0});
    buf_putc(&s->row, '"');
    return buf_check(&s->row);
}

static int sqlite_open(struct row_source *s)
{
    struct database *d = s->own = arena_alloc(&s->arena, sizeof *d);
    const char *rest = "";
    if (!d) return PEFT_ENOMEM;
    s->unit = "row";
    line_close(s->lines);
    s->lines = NULL;
    int rc = open_database(s);
    if (rc == PEFT_OK) rc = write_query(s);
    if (rc < 0) return rc;
    sqlite3_set_authorizer(d->db, only_reading, d);
    int failed = sqlite3_prepare_v2(d->db, buf_str(&s->row), -1, &d->rows, &rest);
    while (!failed && (is_space(*rest) || *rest == ';')) rest++;
    if (d->denied || (!failed && (*rest || !sqlite3_column_count(d->rows))))
        return fail(PEFT_EARG, "%s: \"%.100s\": expected one SELECT", s->path, s->o.table);
    if (!failed) return PEFT_OK;
    if (failed != SQLITE_ERROR || !s->o.table || strchr(s->o.table, ' '))
        return sqlite_failed(s, "");
    sqlite3_set_authorizer(d->db, NULL, NULL);
    return only_table(s, "no such table; ");
}

static int sqlite_next(struct row_source *s)
{
    struct database *d = s->own;
    int step = sqlite3_step(d->rows), rc = PEFT_OK;
    if (step == SQLITE_DONE) return 0;
    s->line = s->count + 1;
    if (step != SQLITE_ROW) return source_fail(s, sqlite_failed(s, ""));
    buf_clear(&s->row);
    for (int i = 0; i < sqlite3_column_count(d->rows) && rc == PEFT_OK; i++) {
        int kind = sqlite3_column_type(d->rows, i);
        const char *name = sqlite3_column_name(d->rows, i), *raw = NULL;
        int64_t whole = sqlite3_column_int64(d->rows, i);
        double real = sqlite3_column_double(d->rows, i);
        if (!name) return PEFT_ENOMEM;
        if (kind == SQLITE_NULL || kind == SQLITE_BLOB) continue;
        buf_clear(&s->other);
        if (kind == SQLITE_FLOAT) buf_real(&s->other, real);
        if (kind == SQLITE_INTEGER) buf_printf(&s->other, "%lld", (long long)whole);
        if (kind == SQLITE_FLOAT || (kind == SQLITE_INTEGER && whole <= 1LL << 53 &&
                                     whole >= -(1LL << 53)))
            raw = buf_str(&s->other);
        const char *text = raw ? raw : (const char *)sqlite3_column_text(d->rows, i);
        int64_t n = raw ? s->other.n : sqlite3_column_bytes(d->rows, i);
        if (!text) return PEFT_ENOMEM;
        rc = source_check(s, text, n, s->line, 1);
        if (rc == PEFT_OK) rc = source_cell(s, name, text, n, raw != NULL);
    }
    buf_puts(&s->row, s->row.n ? "}" : "{}");
    return rc < 0 ? rc : 1;
}

static void sqlite_close(struct row_source *s)
{
    struct database *d = s->own;
    sqlite3_finalize(d->rows);
    sqlite3_close(d->db);
}

#else

static int sqlite_open(struct row_source *s)
{
    return fail(PEFT_EUNSUPPORTED, "%s: an SQLite file, and libpeft was built without SQLite",
                s->path);
}
static int sqlite_next(struct row_source *s) { (void)s; return 0; }
static void sqlite_close(struct row_source *s) { (void)s; }

#endif

const struct row_reader read_sqlite = {
    .name = "SQLite", .endings = ".sqlite.sqlite3.db.db3", .knows = sqlite_knows,
    .open = sqlite_open, .next = sqlite_next, .close = sqlite_close
};
