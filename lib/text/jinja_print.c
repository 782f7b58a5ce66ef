/* Jinja's values as text: Python's str() and repr(), and json.dumps with
 * ensure_ascii=False. */
#include "text/jinja_node.h"
#include "text/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static bool go_deeper(struct jrun *r)
{
    if (++r->depth > JINJA_DEPTH) jr_fail(r, PEFT_EDATA, "values nested too deep");
    return jr_charge(r, 1);
}

/* What is written also counts against the limits while it grows. */
static bool room(struct jrun *r, const struct buf *b)
{
    if (b->n > jr_longest(r))
        jr_fail(r, PEFT_EDATA, "a text of more than %lld MiB", (long long)jr_longest(r) >> 20);
    return r->rc == PEFT_OK;
}

/* --- numbers */

/* The shortest digits that read back to x, in Python's form: an exponent below
 * 1e-4 and from 1e16, else always a point. */
static void put_float(struct buf *b, double x)
{
    char text[40], digits[24];
    int n = 0;
    if (!isfinite(x)) {
        buf_puts(b, isnan(x) ? "nan" : x < 0 ? "-inf" : "inf");
        return;
    }
    for (int precision = 0; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, x);
        if (strtod(text, NULL) == x) break;
    }
    const char *p = text;
    for (; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    int e = *p ? (int)strtol(p + 1, NULL, 10) : 0;
    while (n > 1 && digits[n - 1] == '0') n--;
    if (signbit(x)) buf_putc(b, '-');
    if (e < -4 || e >= 16) {
        buf_putc(b, digits[0]);
        if (n > 1) buf_putc(b, '.');
        buf_put(b, digits + 1, n - 1);
        buf_printf(b, "e%c%02d", e < 0 ? '-' : '+', abs(e));
        return;
    }
    if (e < 0) buf_puts(b, "0.");
    for (int i = -1; i > e; i--) buf_putc(b, '0');
    for (int i = 0; i < MAX(n, e + 2); i++) {
        if (i == e + 1 && e >= 0) buf_putc(b, '.');
        if (i < n || e >= 0) buf_putc(b, i < n ? digits[i] : '0');
    }
}

/* --- strings */

static void put_quoted(struct buf *b, struct jv v)
{
    bool single = memchr(v.s, '\'', (size_t)v.n) != NULL;
    char quote = single && !memchr(v.s, '"', (size_t)v.n) ? '"' : '\'';
    buf_putc(b, quote);
    for (int64_t i = 0; i < v.n;) {
        int32_t cp;
        int len = uni_next(v.s + i, &cp);
        if (cp == '\n') buf_puts(b, "\\n");
        else if (cp == '\r') buf_puts(b, "\\r");
        else if (cp == '\t') buf_puts(b, "\\t");
        else if (cp == '\\' || cp == quote) buf_printf(b, "\\%c", (char)cp);
        else if (uni_printable(cp)) buf_put(b, v.s + i, len);
        else if (cp < 0x100) buf_printf(b, "\\x%02x", (unsigned)cp);
        else buf_printf(b, cp < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)cp);
        i += len;
    }
    buf_putc(b, quote);
}

static void put_json_string(struct buf *b, const char *s, int64_t n)
{
    static const char marks[] = "\"\\\b\f\n\r\t", means[] = "\"\\bfnrt";
    int64_t from = 0;
    buf_putc(b, '"');
    for (int64_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        buf_put(b, s + from, i - from);
        from = i + 1;
        const char *hit = c ? strchr(marks, c) : NULL;
        if (hit) buf_printf(b, "\\%c", means[hit - marks]);
        else buf_printf(b, "\\u%04x", c);
    }
    buf_put(b, s + from, n - from);
    buf_putc(b, '"');
}

/* --- str and repr */

static void put_items(struct jrun *r, struct buf *b, const struct jseq *seq, char open, char close)
{
    buf_putc(b, open);
    for (int64_t i = 0; i < seq->n && room(r, b); i++) {
        if (i) buf_puts(b, ", ");
        jv_repr(r, b, seq->v[i]);
    }
    if (open == '(' && seq->n == 1) buf_putc(b, ',');
    buf_putc(b, close);
}

static void put_pairs(struct jrun *r, struct buf *b, const struct jdict *d)
{
    buf_putc(b, '{');
    for (int64_t i = 0; i < d->n && room(r, b); i++) {
        if (i) buf_puts(b, ", ");
        jv_repr(r, b, d->v[i].key);
        buf_puts(b, ": ");
        jv_repr(r, b, d->v[i].value);
    }
    buf_putc(b, '}');
}

static void put_range(struct buf *b, const struct jseq *q)
{
    buf_printf(b, "range(%lld, %lld", (long long)q->start, (long long)q->stop);
    if (q->step != 1) buf_printf(b, ", %lld", (long long)q->step);
    buf_putc(b, ')');
}

void jv_repr(struct jrun *r, struct buf *b, struct jv v)
{
    if (!go_deeper(r)) {
        r->depth--;
        return;
    }
    switch (v.kind) {
    case JV_STR:
        if (v.safe) buf_puts(b, "Markup(");
        put_quoted(b, v);
        if (v.safe) buf_putc(b, ')');
        break;
    case JV_UNDEFINED: buf_puts(b, "Undefined"); break;
    case JV_NONE: buf_puts(b, "None"); break;
    case JV_BOOL: buf_puts(b, v.i ? "True" : "False"); break;
    case JV_INT: buf_printf(b, "%lld", (long long)v.i); break;
    case JV_FLOAT: put_float(b, v.f); break;
    case JV_LIST: put_items(r, b, v.seq, '[', ']'); break;
    case JV_TUPLE: put_items(r, b, v.seq, '(', ')'); break;
    case JV_RANGE: put_range(b, v.seq); break;
    case JV_VIEW:
        buf_printf(b, "dict_%s(", v.seq->view);
        put_items(r, b, v.seq, '[', ']');
        buf_putc(b, ')');
        break;
    case JV_DICT: put_pairs(r, b, v.dict); break;
    case JV_NAMESPACE:
        buf_puts(b, "<Namespace ");
        put_pairs(r, b, v.dict);
        buf_putc(b, '>');
        break;
    default: buf_printf(b, "<%s>", jv_type(v));
    }
    room(r, b);
    r->depth--;
}

void jv_print(struct jrun *r, struct buf *b, struct jv v)
{
    if (v.kind == JV_UNDEFINED || v.kind == JV_MISSING || r->rc < 0) return;
    if (v.kind != JV_STR) {
        jv_repr(r, b, v);
        return;
    }
    if (!jr_charge(r, v.n / 256)) return;
    buf_put(b, v.s, v.n);
    room(r, b);
}

struct jv jv_string(struct jrun *r, struct jv v)
{
    struct buf b;
    if (v.kind == JV_STR) return v;
    buf_init(&b, r->arena.mem);
    jv_print(r, &b, v);
    return jv_take(r, &b);
}

/* --- JSON */

struct dumper {
    struct jrun *r;
    struct buf *b;
    struct jv indent, comma, colon;     /* indent: string, or undefined = one line */
    bool sort;
    int level;
};
static void dump(struct dumper *d, struct jv v);

static void new_line(struct dumper *d)
{
    if (d->indent.kind != JV_STR) return;
    buf_putc(d->b, '\n');
    for (int i = 0; i < d->level && room(d->r, d->b); i++)
        buf_put(d->b, d->indent.s, d->indent.n);
}

static void dump_key(struct dumper *d, struct jv key)
{
    struct buf text;
    if (key.kind == JV_STR) {
        put_json_string(d->b, key.s, key.n);
        return;
    }
    if (key.kind < JV_NONE || key.kind > JV_FLOAT)
        jr_fail(d->r, PEFT_EDATA, "a %s cannot be a key of JSON", jv_type(key));
    buf_init(&text, d->b->mem);
    struct dumper one = {.r = d->r, .b = &text};
    dump(&one, key);
    put_json_string(d->b, buf_str(&text), text.n);
    buf_free(&text);
}

/* Places of the pairs in the order of their keys, by insertion. */
static int64_t *key_order(struct dumper *d, const struct jdict *dict)
{
    int64_t *at = jr_alloc(d->r, dict->n * (int64_t)sizeof *at);
    for (int64_t i = 0; at && i < dict->n; i++) {
        int64_t k = i;
        for (; k > 0 && d->sort && jr_charge(d->r, 1); k--) {
            if (jv_compare(d->r, dict->v[at[k - 1]].key, dict->v[i].key) <= 0) break;
            at[k] = at[k - 1];
        }
        at[k] = i;
    }
    return d->r->rc < 0 ? NULL : at;
}

static void dump_container(struct dumper *d, struct jv v)
{
    bool dict = v.kind == JV_DICT;
    int64_t n = dict ? v.dict->n : v.seq->n;
    const int64_t *at = dict ? key_order(d, v.dict) : NULL;
    if (dict && !at) return;
    buf_putc(d->b, dict ? '{' : '[');
    d->level++;
    for (int64_t i = 0; i < n && room(d->r, d->b); i++) {
        if (i) buf_put(d->b, d->comma.s, d->comma.n);
        new_line(d);
        if (dict) dump_key(d, v.dict->v[at[i]].key);
        if (dict) buf_put(d->b, d->colon.s, d->colon.n);
        dump(d, dict ? v.dict->v[at[i]].value : v.seq->v[i]);
    }
    d->level--;
    if (n) new_line(d);
    buf_putc(d->b, dict ? '}' : ']');
}

static void dump(struct dumper *d, struct jv v)
{
    if (go_deeper(d->r)) {
        switch (v.kind) {
        case JV_NONE: buf_puts(d->b, "null"); break;
        case JV_BOOL: buf_puts(d->b, v.i ? "true" : "false"); break;
        case JV_INT: buf_printf(d->b, "%lld", (long long)v.i); break;
        case JV_FLOAT:
            if (isfinite(v.f)) put_float(d->b, v.f);
            else buf_puts(d->b, isnan(v.f) ? "NaN" : v.f < 0 ? "-Infinity" : "Infinity");
            break;
        case JV_STR: put_json_string(d->b, v.s, v.n); break;
        case JV_LIST: case JV_TUPLE: case JV_DICT: dump_container(d, v); break;
        default: jr_fail(d->r, PEFT_EDATA, "a %s has no form in JSON", jv_type(v));
        }
    }
    d->r->depth--;
}

/* option: ensure_ascii (refused), indent, separators, sort_keys. */
void jv_tojson(struct jrun *r, struct buf *b, struct jv v, const struct jv option[4])
{
    struct dumper d = {.r = r, .b = b, .indent = option[1], .comma = jv_text(", "),
                       .colon = jv_text(": "), .sort = jv_true(option[3])};
    const struct jv *sep = &option[2];
    int64_t width;
    if (jv_true(option[0]))
        jr_fail(r, PEFT_EUNSUPPORTED, "tojson with ensure_ascii=true");
    if (jv_integer(option[1], &width)) {
        char spaces[64];
        memset(spaces, ' ', sizeof spaces);
        if (width > (int64_t)sizeof spaces) jr_fail(r, PEFT_EDATA, "tojson: indent beyond 64");
        else d.indent = jv_copy(r, spaces, MAX(width, 0));
    }
    if (d.indent.kind == JV_STR) d.comma = jv_text(",");
    if (sep->kind == JV_TUPLE || sep->kind == JV_LIST) {
        bool two = sep->seq->n == 2 && sep->seq->v[0].kind == JV_STR &&
                   sep->seq->v[1].kind == JV_STR;
        if (!two) jr_fail(r, PEFT_EDATA, "tojson: separators are two strings");
        else d.comma = sep->seq->v[0], d.colon = sep->seq->v[1];
    }
    if (r->rc == PEFT_OK) dump(&d, v);
}
