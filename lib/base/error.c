/* The failure message of each thread. */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>

enum { MESSAGE_CAP = 512 };
static _Thread_local char last_message[MESSAGE_CAP];

/* Makes text one printable line.  A cut by the capacity may fall inside a
 * UTF-8 character, whose first bytes are then dropped. */
static void clean_line(char *s, bool cut)
{
    size_t n = 0;
    for (; s[n]; n++) {
        unsigned char c = (unsigned char)s[n];
        if (c < 0x20 || c == 0x7f) s[n] = '?';
    }
    if (!cut) return;
    size_t i = n;
    while (i > 0 && n - i < 3 && ((unsigned char)s[i - 1] & 0xc0) == 0x80) i--;
    if (i == 0) return;
    unsigned char lead = (unsigned char)s[i - 1];
    size_t need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (n - (i - 1) < need) s[i - 1] = 0;
}

/* Arguments may point into the message itself, hence the copy.  The line
 * becomes fmt(args) followed by `tail`. */
static void set_message(const char *tail, const char *fmt, va_list args)
{
    char text[MESSAGE_CAP];
    int n = vsnprintf(text, sizeof text, fmt, args);
    if (n < 0) n = 0, text[0] = 0;
    size_t at = MIN((size_t)n, sizeof text - 1), left = strlen(tail);
    bool cut = (size_t)n + left >= sizeof text;
    left = MIN(left, sizeof text - 1 - at);
    memcpy(text + at, tail, left);
    text[at + left] = 0;
    clean_line(text, cut);
    memcpy(last_message, text, strlen(text) + 1);
}

int fail(int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    set_message("", fmt, args);
    va_end(args);
    return code;
}

int fail_in(int code, const char *fmt, ...)
{
    char old[MESSAGE_CAP];
    memcpy(old, last_message, sizeof old);
    va_list args;
    va_start(args, fmt);
    set_message(old, fmt, args);
    va_end(args);
    return code;
}

int fail_path(int code, const char *path)
{
    if (code >= 0 || strncmp(last_message, path, strlen(path)) == 0) return code;
    return fail_in(code, "%s: ", path);
}

const char *error_message(void)
{
    return last_message;
}

void error_clear(void)
{
    last_message[0] = 0;
}
