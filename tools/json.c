/* A JSON writer for results and logs.  Text that is not valid UTF-8, such as
 * the half of a character that a single token may be, has U+FFFD in its place,
 * so every line that leaves the command is valid JSON. */
#include <math.h>
#include <string.h>

#include "cli.h"

void json_begin(struct json *j, FILE *to)
{
    memset(j, 0, sizeof *j);
    j->to = to;
    j->first = true;
}

uint32_t utf8_next(const char *s, size_t n, size_t *used)
{
    const unsigned char *p = (const unsigned char *)s;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = p[0] < 0x80 ? 1 : p[0] >= 0xF0 && p[0] < 0xF5 ? 4 : p[0] >= 0xE0 && p[0] < 0xF0 ?
                 3 : p[0] >= 0xC2 && p[0] < 0xE0 ? 2 : 0;
    *used = 1;
    if (len == 1)
        return p[0];
    if (!len || len > n)
        return 0xFFFD;
    uint32_t c = p[0] & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0xFFFD;
        c = c << 6 | (p[i] & 0x3Fu);
    }
    if (c < least[len] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
        return 0xFFFD;
    *used = len;
    return c;
}

static void put_string(FILE *to, const char *s, size_t n)
{
    putc('"', to);
    for (size_t i = 0, used; i < n; i += used) {
        uint32_t c = utf8_next(s + i, n - i, &used);
        if (c == '"' || c == '\\')
            fprintf(to, "\\%c", (int)c);
        else if (c == 0xFFFD)
            fputs("\xEF\xBF\xBD", to);
        else if (c >= 8 && c <= 13 && c != 11)
            fprintf(to, "\\%c", "btnvfr"[c - 8]);
        else if (c < 32 || c == 127)
            fprintf(to, "\\u%04x", (unsigned)c);
        else
            fwrite(s + i, 1, used, to);
    }
    putc('"', to);
}

static void put_key(struct json *j, const char *key)
{
    if (!j->first)
        fputs(", ", j->to);
    j->first = false;
    if (!key)
        return;
    put_string(j->to, key, strlen(key));
    fputs(": ", j->to);
}

void json_open(struct json *j, const char *key, char bracket)
{
    put_key(j, key);
    putc(bracket, j->to);
    j->close[j->depth++] = bracket == '{' ? '}' : ']';
    j->first = true;
}

void json_close(struct json *j)
{
    putc(j->close[--j->depth], j->to);
    j->first = false;
    if (!j->depth) {
        putc('\n', j->to);
        j->first = true;
    }
}

void json_bytes(struct json *j, const char *key, const char *s, size_t n)
{
    put_key(j, key);
    put_string(j->to, s, n);
}

void json_text(struct json *j, const char *key, const char *s)
{
    json_bytes(j, key, s ? s : "", s ? strlen(s) : 0);
}

void json_int(struct json *j, const char *key, int64_t v)
{
    put_key(j, key);
    fprintf(j->to, "%lld", (long long)v);
}

void json_num(struct json *j, const char *key, double v)
{
    put_key(j, key);
    if (isfinite(v))
        fprintf(j->to, "%.10g", v);
    else
        fputs("null", j->to);
}

void json_bool(struct json *j, const char *key, bool v)
{
    put_key(j, key);
    fputs(v ? "true" : "false", j->to);
}
