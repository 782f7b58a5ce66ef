/* What people see: numbers with units, tables, colours, the progress line and
 * error messages.  Colours and the live line need a terminal; NO_COLOR and
 * TERM=dumb switch them off (https://no-color.org). */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

/* ------------------------------------------------------------------ memory */

void *grow(void *at, size_t bytes)
{
    void *p = realloc(at, bytes ? bytes : 1);
    if (!p) {
        fprintf(stderr, "peft: out of memory\n");
        exit(EXIT_MEMORY);
    }
    return p;
}

char *format(const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = grow(NULL, (size_t)(n < 0 ? 0 : n) + 1);
    s[0] = 0;
    if (n > 0)
        vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

char *read_stream(FILE *from, size_t *n)
{
    size_t cap = 1 << 12, used = 0, got;
    char *text = grow(NULL, cap);
    while ((got = fread(text + used, 1, cap - used - 1, from)) > 0) {
        used += got;
        if (cap - used < 2)
            text = grow(text, cap *= 2);
    }
    text[used] = 0;
    if (n)
        *n = used;
    if (!ferror(from))
        return text;
    free(text);
    return NULL;
}

char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    char *text = read_stream(f, n);
    fclose(f);
    return text;
}

/* ----------------------------------------------------------------- numbers */

enum { NUMBER_BUFFERS = 8 };
static char number[NUMBER_BUFFERS][40];
static int number_next;

static char *number_buffer(void)
{
    number_next = (number_next + 1) % NUMBER_BUFFERS;
    return number[number_next];
}

const char *show_count(int64_t n)
{
    char digits[24], *s = number_buffer(), *to = s;
    int len = snprintf(digits, sizeof digits, "%lld", (long long)n);
    for (int i = 0; i < len; i++) {
        *to++ = digits[i];
        int left = len - 1 - i;
        if (left && left % 3 == 0 && digits[i] != '-')
            *to++ = ',';
    }
    *to = 0;
    return s;
}

const char *show_bytes(int64_t n)
{
    static const char *const unit[] = {"B", "KB", "MB", "GB", "TB"};
    double v = (double)n;
    int u = 0;
    for (; v >= 999.5 && u < 4; u++)
        v /= 1000;
    char *s = number_buffer();
    snprintf(s, sizeof number[0], "%.*f %s", u && v < 10 ? 2 : u > 2 && v < 100 ? 1 : 0, v,
             unit[u]);
    return s;
}

const char *show_seconds(double t)
{
    char *s = number_buffer();
    int64_t n = (int64_t)(t + 0.5);
    if (!(t >= 0 && t < 1e9))
        snprintf(s, sizeof number[0], "?");
    else if (t < 9.95)
        snprintf(s, sizeof number[0], "%.1f s", t);
    else if (n < 60)
        snprintf(s, sizeof number[0], "%d s", (int)n);
    else if (n < 3600)
        snprintf(s, sizeof number[0], "%d min %02d s", (int)(n / 60), (int)(n % 60));
    else
        snprintf(s, sizeof number[0], "%lld h %02d min", (long long)(n / 3600),
                 (int)(n % 3600 / 60));
    return s;
}

/* ------------------------------------------------------------------ tables */

static struct {
    int columns, rows;
    bool right[16];
    char **cell;
} table;

int text_columns(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += (*s & 0xC0) != 0x80;
    return n;
}

void table_row(const char *const *cells)
{
    size_t at = (size_t)table.rows * (size_t)table.columns;
    table.cell = grow(table.cell, (at + (size_t)table.columns) * sizeof *table.cell);
    for (int c = 0; c < table.columns; c++)
        table.cell[at + (size_t)c] = format("%s", cells[c] ? cells[c] : "");
    table.rows++;
}

void table_head(int columns, const char *const *heads)
{
    const char *clean[16];
    table.columns = columns;
    for (int c = 0; c < columns; c++) {
        table.right[c] = heads[c][0] == '>';
        clean[c] = heads[c] + table.right[c];
    }
    table_row(clean);
}

static void put_spaces(FILE *to, int n)
{
    if (n > 0)
        fprintf(to, "%*s", n, "");
}

void table_end(FILE *to)
{
    int width[16] = {0};
    for (int i = 0; i < table.rows * table.columns; i++) {
        int n = text_columns(table.cell[i]), c = i % table.columns;
        if (n > width[c])
            width[c] = n;
    }
    for (int i = 0; i < table.rows * table.columns; i++) {
        int c = i % table.columns, pad = width[c] - text_columns(table.cell[i]);
        bool last = c == table.columns - 1;
        fputs(i < table.columns ? paint(to, BOLD) : "", to);
        put_spaces(to, table.right[c] ? pad : 0);
        fputs(table.cell[i], to);
        put_spaces(to, table.right[c] || last ? 0 : pad);
        fputs(i < table.columns ? paint(to, PLAIN) : "", to);
        fputs(last ? "\n" : "  ", to);
        free(table.cell[i]);
    }
    free(table.cell);
    memset(&table, 0, sizeof table);
}

/* ---------------------------------------------------------------- terminal */

static bool quiet, line_open;

void quiet_set(bool on)
{
    quiet = on;
}

static bool smart_terminal(FILE *f)
{
    const char *term = getenv("TERM");
    return isatty(fileno(f)) && term && strcmp(term, "dumb") != 0;
}

bool stderr_is_live(void)
{
    return !quiet && smart_terminal(stderr);
}

const char *paint(FILE *to, enum style s)
{
    static const char *const code[] = {"\033[0m", "\033[1m", "\033[2m", "\033[31m", "\033[32m",
                                       "\033[33m"};
    const char *no_color = getenv("NO_COLOR");
    return (no_color && *no_color) || !smart_terminal(to) ? "" : code[s];
}

void progress_end(void)
{
    if (line_open)
        fputs("\n", stderr);
    line_open = false;
}

void note(const char *fmt, ...)
{
    if (quiet)
        return;
    progress_end();
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    putc('\n', stderr);
}

int terminal_columns(FILE *f)
{
    struct winsize w;
    bool known = !ioctl(fileno(f), TIOCGWINSZ, &w) && w.ws_col >= 40;
    return known ? w.ws_col : 100;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The bytes of s that fill at most `columns` columns. */
static int fit(const char *s, int columns)
{
    int n = 0, i = 0;
    for (; s[i]; i++) {
        n += (s[i] & 0xC0) != 0x80;
        if (n > columns)
            break;
    }
    return i;
}

void progress(bool last, const char *fmt, ...)
{
    static double shown = -1e9;
    double t = now();
    bool live = stderr_is_live();
    if (quiet || (!last && t - shown < (live ? 0.1 : 5)))
        return;
    shown = t;
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (!live) {
        fprintf(stderr, "%s\n", line);
        return;
    }
    fprintf(stderr, "\r\033[K%.*s", fit(line, terminal_columns(stderr) - 1), line);
    line_open = true;
}

/* The bytes of the next line of a text that is wrapped at `columns`; *next is
 * where the line after it begins. */
static int wrap(const char *s, int columns, const char **next)
{
    int n = fit(s, columns), end = (int)strcspn(s, "\n");
    if (end > n && s[n] != ' ')
        for (int i = n; i > 0; i--)
            if (s[i - 1] == ' ') {
                n = i;
                break;
            }
    n = end < n ? end : n;
    *next = s + n;
    while (**next == ' ')
        ++*next;
    *next += **next == '\n';
    return n;
}

void side_by_side(FILE *to, const char *left, const char *right)
{
    int width = terminal_columns(to);
    width = ((width > 120 ? 120 : width) - 7) / 2;
    while (*left || *right) {
        const char *a = left, *b = right;
        int na = wrap(a, width, &left), nb = wrap(b, width, &right);
        char line[512];
        snprintf(line, sizeof line, "%.*s", na, a);
        fprintf(to, "  %s", line);
        put_spaces(to, width - text_columns(line));
        fprintf(to, " %s|%s %.*s\n", paint(to, DIM), paint(to, PLAIN), nb, b);
    }
}

/* ------------------------------------------------------------------ errors */

static int complain(int code, const char *fmt, va_list ap)
{
    progress_end();
    fflush(stdout);
    fprintf(stderr, "%speft:%s ", paint(stderr, RED), paint(stderr, PLAIN));
    vfprintf(stderr, fmt, ap);
    putc('\n', stderr);
    return code;
}

int usage_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = complain(EXIT_USAGE, fmt, ap);
    va_end(ap);
    return rc;
}

int runtime_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = complain(EXIT_RUNTIME, fmt, ap);
    va_end(ap);
    return rc;
}

static int code_error(int exit_code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    complain(exit_code, fmt, ap);
    va_end(ap);
    return exit_code;
}

static int exit_code(int32_t code)
{
    switch (code) {
    case PEFT_EARG:
        return EXIT_USAGE;
    case PEFT_ENOMEM:
        return EXIT_MEMORY;
    case PEFT_EIO:
    case PEFT_EFORMAT:
    case PEFT_EUNSUPPORTED:
    case PEFT_ENOTFOUND:
    case PEFT_EDATA:
        return EXIT_FILE;
    case PEFT_ENONFINITE:
        return EXIT_NONFINITE;
    case PEFT_ECANCELLED:
        return EXIT_INTERRUPTED;
    default:
        return EXIT_RUNTIME;
    }
}

int library_error(int32_t code, const char *doing)
{
    const char *why = peft_errmsg();
    return code_error(exit_code(code), "%s: %s", doing, *why ? why : peft_errname(code));
}

int saving_error(int32_t code, const char *doing)
{
    const char *why = peft_errmsg();
    return code_error(code == PEFT_ENOMEM ? EXIT_MEMORY : EXIT_RUNTIME, "%s: %s", doing,
                      *why ? why : peft_errname(code));
}

void put_shell_word(FILE *to, const char *s)
{
    if (*s && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                        "-_./=,:+%@") == strlen(s)) {
        fputs(s, to);
        return;
    }
    putc('\'', to);
    for (; *s; s++)
        if (*s == '\'')
            fputs("'\\''", to);
        else
            putc(*s, to);
    putc('\'', to);
}
