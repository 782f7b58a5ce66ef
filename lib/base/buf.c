/* Growable bytes and ids.  An append that finds no memory sets `oom` and is
 * dropped, as are all later ones. */
#include "base/base.h"
#include "base/json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void buf_init(struct buf *b, struct mem *m)
{
    *b = (struct buf){.mem = m};
}

void buf_free(struct buf *b)
{
    mem_free(b->mem, b->data);
    *b = (struct buf){.mem = b->mem};
}

void buf_clear(struct buf *b)
{
    b->n = 0;
    b->oom = false;
    if (b->data) b->data[0] = 0;
}

/* Room for `more` bytes and the NUL. */
static bool buf_room(struct buf *b, int64_t more)
{
    if (b->oom) return false;
    int64_t need;
    if (more < 0 || !add_ok(b->n, more, &need) || !add_ok(need, 1, &need)) {
        b->oom = true;
        return false;
    }
    if (need <= b->cap) return true;
    int64_t cap = MAX(need, b->cap > INT64_MAX / 2 ? need : b->cap * 2);
    cap = MAX(cap, 64);
    char *data = mem_realloc(b->mem, b->data, cap);
    if (!data) {
        b->oom = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void buf_put(struct buf *b, const void *data, int64_t n)
{
    if (!buf_room(b, n)) return;
    if (n > 0) memcpy(b->data + b->n, data, (size_t)n);
    b->n += n;
    b->data[b->n] = 0;
}

void buf_puts(struct buf *b, const char *s)
{
    buf_put(b, s, (int64_t)strlen(s));
}

void buf_putc(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    if (n < 0) b->oom = true;
    else if (buf_room(b, n)) {
        vsnprintf(b->data + b->n, (size_t)n + 1, fmt, again);
        b->n += n;
    }
    va_end(again);
    va_end(args);
}

static void put_escaped(struct buf *b, const char *s, int64_t n)
{
    static const char hex[] = "0123456789abcdef";
    int64_t from = 0;
    for (int64_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) continue;
        buf_put(b, s + from, i - from);
        from = i + 1;
        char esc[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        switch (c) {
        case '"': case '\\': esc[1] = (char)c; break;
        case '\n': esc[1] = 'n'; break;
        case '\r': esc[1] = 'r'; break;
        case '\t': esc[1] = 't'; break;
        default: break;
        }
        buf_put(b, esc, esc[1] == 'u' ? 6 : 2);
    }
    buf_put(b, s + from, n - from);
}

void buf_json(struct buf *b, const char *s, int64_t n)
{
    buf_putc(b, '"');
    for (int64_t i = 0; i < n;) {
        int64_t good = utf8_check(s + i, n - i);
        put_escaped(b, s + i, good);
        i += good;
        if (i < n) {
            buf_puts(b, "\xef\xbf\xbd");
            i++;
        }
    }
    buf_putc(b, '"');
}

void buf_number(struct buf *b, double x)
{
    if (!isfinite(x)) {
        buf_puts(b, "null");
        return;
    }
    char text[48];
    for (int digits = 9; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    /* What is neither a digit, a sign nor an exponent is the decimal point of
     * the locale, of one byte or more. */
    bool point = false;
    for (const char *p = text; *p; p++) {
        if (strchr("0123456789+-e", *p)) buf_putc(b, *p);
        else if (!point) {
            buf_putc(b, '.');
            point = true;
        }
    }
}

void buf_real(struct buf *b, double x)
{
    int64_t from = b->n;
    buf_number(b, x);
    for (int64_t i = from; i < b->n; i++)
        if (strchr(".enu", b->data[i])) return;
    buf_puts(b, ".0");
}

int buf_check(const struct buf *b)
{
    return b->oom ? fail(PEFT_ENOMEM, "out of memory for a text of more than %lld bytes",
                         (long long)b->n) : PEFT_OK;
}

const char *buf_str(struct buf *b)
{
    return b->oom || b->n == 0 ? "" : b->data;
}

void ids_init(struct ids *a, struct mem *m)
{
    *a = (struct ids){.mem = m};
}

void ids_free(struct ids *a)
{
    mem_free(a->mem, a->v);
    *a = (struct ids){.mem = a->mem};
}

static bool ids_room(struct ids *a, int64_t more)
{
    int64_t need, bytes;
    if (a->oom) return false;
    if (!add_ok(a->n, more, &need) || need > INT64_MAX / 2) return !(a->oom = true);
    if (need <= a->cap) return true;
    int64_t cap = MAX(MAX(a->cap * 2, need), 32);
    int32_t *v = mul_ok(cap, (int64_t)sizeof *v, &bytes) ? mem_realloc(a->mem, a->v, bytes) : NULL;
    if (!v) return !(a->oom = true);
    a->v = v;
    a->cap = cap;
    return true;
}

void ids_push(struct ids *a, int32_t id)
{
    if (a->n < a->cap || ids_room(a, 1)) a->v[a->n++] = id;
}

void ids_put(struct ids *a, const int32_t *ids, int64_t n)
{
    if (!ids_room(a, n)) return;
    for (int64_t i = 0; i < n; i++) a->v[a->n++] = ids[i];
}

int ids_check(const struct ids *a)
{
    return a->oom ? fail(PEFT_ENOMEM, "out of memory for more than %lld ids", (long long)a->n)
                  : PEFT_OK;
}
