/* JSON by RFC 8259, and stricter.  A scan of our own checks the whole text
 * first; cJSON then only builds the tree, which it cannot fail to do but for
 * want of memory. */
#include "base/json.h"

#include <cJSON.h>
#include <math.h>
#include <stdio.h>

int64_t utf8_check(const char *s, int64_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    int64_t i = 0;
    while (i < n) {
        unsigned char c = p[i];
        if (c < 0x80) {
            i++;
            continue;
        }
        int more = c >= 0xc2 && c <= 0xdf ? 1 : (c & 0xf0) == 0xe0 ? 2 :
                   c >= 0xf0 && c <= 0xf4 ? 3 : 0;
        if (more == 0 || n - i <= more) return i;
        /* Overlongs, surrogates and what is beyond U+10FFFF show in byte two. */
        unsigned char lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
        unsigned char hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        if (p[i + 1] < lo || p[i + 1] > hi) return i;
        for (int k = 2; k <= more; k++)
            if ((p[i + k] & 0xc0) != 0x80) return i;
        i += more + 1;
    }
    return n;
}

/* --- the scan */

enum {
    JSON_DEPTH = 64,
    JSON_DIGITS = 63,         /* cJSON reads no longer ones */
    HEAP_LEAST = 16,          /* what the heap adds to a short string */
    KEY_COST = 80             /* in the map that finds keys that occur twice */
};
struct scan {
    const char *text;
    int64_t n, at;
    const char *what;
    int64_t line, column;     /* of the text's beginning in its file, from 0 */
    int64_t memory, outside;  /* of the tree so far; when the list began that is left out */
    int depth;
    char open[JSON_DEPTH];    /* '[' or '{' */
    struct { int64_t at, n; } key[2];       /* of the outer two levels */
    const char *path;         /* of the list that is left out, or NULL */
    struct json_items *items; /* its place; from = 0 before it was found */
};

static int scan_fail(const struct scan *s, const char *problem)
{
    int64_t line = s->line + 1, column = s->column + 1;
    for (int64_t i = 0; i < MIN(s->at, s->n); i++) {
        column++;
        if (s->text[i] == '\n') line++, column = 1;
    }
    return fail(PEFT_EFORMAT, "%s line %lld column %lld: %s", s->what, (long long)line,
                (long long)column, problem);
}

static int peek(const struct scan *s)
{
    return s->at < s->n ? (unsigned char)s->text[s->at] : -1;
}

static void skip_space(struct scan *s)
{
    int c;
    while ((c = peek(s)) == ' ' || c == '\n' || c == '\r' || c == '\t') s->at++;
}

/* Four hexadecimal digits, or -1. */
static int scan_hex4(struct scan *s)
{
    int value = 0;
    for (int i = 0; i < 4; i++, s->at++) {
        int c = peek(s);
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
                    c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* After "\u". */
static int scan_unicode(struct scan *s)
{
    int unit = scan_hex4(s);
    if (unit < 0) return scan_fail(s, "expected four hexadecimal digits");
    if (unit == 0) return scan_fail(s, "\\u0000 is not allowed");
    if (unit >= 0xdc00 && unit <= 0xdfff) return scan_fail(s, "surrogate without its first half");
    if (unit < 0xd800 || unit > 0xdbff) return PEFT_OK;
    bool pair = s->n - s->at >= 6 && s->text[s->at] == '\\' && s->text[s->at + 1] == 'u';
    if (pair) {
        s->at += 2;
        unit = scan_hex4(s);
        pair = unit >= 0xdc00 && unit <= 0xdfff;
    }
    return pair ? PEFT_OK : scan_fail(s, "surrogate without its second half");
}

static int scan_string(struct scan *s)
{
    int64_t from = s->at++;
    for (;;) {
        int c = peek(s);
        if (c < 0) return scan_fail(s, "a string has no end");
        if (c < 0x20) return scan_fail(s, "control character in a string");
        s->at++;
        if (c == '"') {
            s->memory += HEAP_LEAST + s->at - from;
            return PEFT_OK;
        }
        if (c != '\\') continue;
        c = peek(s);
        if (c <= 0 || !strchr("\"\\/bfnrtu", c)) return scan_fail(s, "unknown escape");
        s->at++;
        if (c != 'u') continue;
        int rc = scan_unicode(s);
        if (rc < 0) return rc;
    }
}

static bool scan_digits(struct scan *s)
{
    int64_t from = s->at;
    while (peek(s) >= '0' && peek(s) <= '9') s->at++;
    return s->at > from;
}

static int scan_number(struct scan *s)
{
    int64_t from = s->at;
    if (peek(s) == '-') s->at++;
    bool zero = peek(s) == '0';
    int64_t first = s->at;
    bool ok = scan_digits(s) && !(zero && s->at - first > 1);
    if (ok && peek(s) == '.') {
        s->at++;
        ok = scan_digits(s);
    }
    if (ok && (peek(s) == 'e' || peek(s) == 'E')) {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-') s->at++;
        ok = scan_digits(s);
    }
    if (!ok) return scan_fail(s, "malformed number");
    return s->at - from > JSON_DIGITS ? scan_fail(s, "number of too many digits") : PEFT_OK;
}

static int scan_word(struct scan *s)
{
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        int64_t n = (int64_t)strlen(words[i]);
        if (s->n - s->at >= n && memcmp(s->text + s->at, words[i], (size_t)n) == 0) {
            s->at += n;
            return PEFT_OK;
        }
    }
    return scan_fail(s, "expected a value");
}

static int scan_key(struct scan *s)
{
    skip_space(s);
    if (peek(s) != '"') return scan_fail(s, "expected a key in quotes");
    int64_t from = s->at + 1;
    int rc = scan_string(s);
    if (rc < 0) return rc;
    if (s->depth <= 2) s->key[s->depth - 1].at = from, s->key[s->depth - 1].n = s->at - 1 - from;
    skip_space(s);
    if (peek(s) != ':') return scan_fail(s, "expected ':'");
    s->memory += KEY_COST;
    s->at++;
    return PEFT_OK;
}

/* Whether the list that opens here is the one to leave out. */
static bool is_left_out(const struct scan *s)
{
    if (!s->path || s->items->from || s->depth != 2 || s->open[0] != '{' || s->open[1] != '{')
        return false;
    const char *path = s->path;
    for (int i = 0; i < 2; i++) {
        int64_t n = (int64_t)strcspn(path, ".");
        if (n != s->key[i].n || memcmp(path, s->text + s->key[i].at, (size_t)n) != 0) return false;
        path += n + 1;
    }
    return true;
}

/* Directly in the list that is left out; of it only one item is ever a tree. */
static bool is_item(const struct scan *s)
{
    return s->items && s->items->from && !s->items->to && s->depth == 3;
}

/* Past the end of an object or array. */
static void scan_close(struct scan *s)
{
    if (is_item(s)) {               /* no further one: the list itself ends */
        s->items->to = s->at;
        s->memory = s->outside;
    }
    s->at++;
    s->depth--;
}

/* One value, or the opening of one.  1 = a value is complete, 0 = a member's
 * value follows. */
static int scan_value(struct scan *s)
{
    skip_space(s);
    int c = peek(s), rc;
    if (is_item(s)) {
        s->items->n++;
        s->memory = s->outside;
    }
    s->memory += (int64_t)sizeof(json);
    if ((s->memory - JSON_MEMORY) / JSON_TIMES > s->n)
        return scan_fail(s, "too many values for a text of this size");
    if (c == '{' || c == '[') {
        if (s->depth == JSON_DEPTH) return scan_fail(s, "nested deeper than 64");
        if (c == '[' && is_left_out(s)) {
            s->items->from = s->at + 1;
            s->outside = s->memory;
        }
        s->open[s->depth++] = (char)c;
        s->at++;
        skip_space(s);
        if (peek(s) == (c == '{' ? '}' : ']')) {
            scan_close(s);
            return 1;
        }
        rc = c == '{' ? scan_key(s) : PEFT_OK;
        return rc < 0 ? rc : 0;
    }
    if (c < 0) return scan_fail(s, "the text ends where a value is expected");
    rc = c == '"' ? scan_string(s) : c == '-' || (c >= '0' && c <= '9') ? scan_number(s)
                                                                       : scan_word(s);
    return rc < 0 ? rc : 1;
}

/* After a value: closes what ends here.  1 = all is closed, 0 = a further
 * value follows. */
static int scan_after(struct scan *s)
{
    while (s->depth > 0) {
        char open = s->open[s->depth - 1];
        skip_space(s);
        int c = peek(s);
        if (c == ',') {
            s->at++;
            int rc = open == '{' ? scan_key(s) : PEFT_OK;
            return rc < 0 ? rc : 0;
        }
        if (c != (open == '{' ? '}' : ']'))
            return scan_fail(s, open == '{' ? "expected ',' or '}'" : "expected ',' or ']'");
        scan_close(s);
    }
    return 1;
}

static int scan_text(struct scan *s)
{
    for (int done = 0; !done;) {
        int rc = scan_value(s);
        if (rc == 1) rc = scan_after(s);
        if (rc < 0) return rc;
        done = rc;
    }
    skip_space(s);
    return s->at < s->n ? scan_fail(s, "more text after the value") : PEFT_OK;
}

/* --- the tree */

enum { FEW_KEYS = 8 };

static int duplicate(const json *member, const char *what)
{
    return fail(PEFT_EFORMAT, "%s: key \"%.100s\" occurs twice", what, member->string);
}

static int check_keys(const json *object, struct mem *m, const char *what)
{
    int64_t n = 0;
    for (const json *a = object->child; a && n <= FEW_KEYS; a = a->next, n++)
        for (const json *b = object->child; b != a; b = b->next)
            if (strcmp(a->string, b->string) == 0) return duplicate(a, what);
    if (n <= FEW_KEYS) return PEFT_OK;
    struct map keys;
    map_init(&keys, m);
    int rc = 1;
    for (const json *a = object->child; a && rc > 0; a = a->next) {
        rc = map_add(&keys, a->string, (int64_t)strlen(a->string), 0);
        if (rc == 0) rc = duplicate(a, what);
    }
    map_free(&keys);
    return MIN(rc, 0);
}

/* A bit of cJSON's type above its own: the number is written as a real, 30.0,
 * which some readers tell from 30. */
enum { NUMBER_IS_REAL = 1 << 16 };

/* The next number of the text, which lies outside strings; past it then.  The
 * tree has the text's order. */
struct text { const char *at, *end; };
static int next_is_real(struct text *text)
{
    const char *c = text->at;
    int real = 0;
    for (; *c != '-' && !(*c >= '0' && *c <= '9'); c++)
        if (*c == '"')
            while (*++c != '"') c += *c == '\\';
    for (; c < text->end && *c && strchr("+-0123456789.eE", *c); c++)
        real |= *c == '.' || *c == 'e' || *c == 'E';
    text->at = c;
    return real;
}

/* Recursion is bounded by the depth that the scan let through. */
static int check_tree(json *j, struct mem *m, const char *what, struct text *text)
{
    if (cJSON_IsNumber(j) && !isfinite(j->valuedouble))
        return fail(PEFT_EFORMAT, "%s: a number is beyond the range of a double", what);
    if (cJSON_IsNumber(j) && next_is_real(text)) j->type |= NUMBER_IS_REAL;
    if (cJSON_IsObject(j)) {
        int rc = check_keys(j, m, what);
        if (rc < 0) return rc;
    }
    for (json *c = j->child; c; c = c->next) {
        int rc = check_tree(c, m, what, text);
        if (rc < 0) return rc;
    }
    return PEFT_OK;
}

static int build_tree(const char *text, int64_t n, const char *what, json **out)
{
    json *tree = cJSON_ParseWithLength(text, (size_t)n);
    if (!tree) return fail(PEFT_ENOMEM, "%s: out of memory for %lld bytes of JSON", what,
                           (long long)n);
    struct mem m;
    mem_init(&m, NULL, NULL);
    int rc = check_tree(tree, &m, what, &(struct text){ text, text + n });
    if (rc < 0) {
        cJSON_Delete(tree);
        return rc;
    }
    *out = tree;
    return PEFT_OK;
}

int json_parse(const char *text, int64_t n, const char *what, json **out)
{
    return json_parse_but(text, n, what, NULL, NULL, out);
}

int json_check_at(const char *text, int64_t n, const char *what, int64_t line, int64_t column)
{
    struct scan s = {.text = text, .n = n, .what = what, .line = line - 1, .column = column - 1};
    if ((s.at = utf8_check(text, n)) < n) return scan_fail(&s, "invalid UTF-8");
    s.at = 0;
    return scan_text(&s);
}

int json_parse_at(const char *text, int64_t n, const char *what, int64_t line, int64_t column,
                  json **out)
{
    char place[240];
    *out = NULL;
    int rc = json_check_at(text, n, what, line, column);
    if (rc < 0) return rc;
    snprintf(place, sizeof place, "%.200s line %lld", what, (long long)line);
    return build_tree(text, n, place, out);
}

int json_parse_but(const char *text, int64_t n, const char *what, const char *path,
                   struct json_items *items, json **out)
{
    *out = NULL;
    if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) text += 3, n -= 3;
    struct scan s = {.text = text, .n = n, .what = what, .path = path, .items = items};
    if (items) *items = (struct json_items){0};
    int64_t bad = utf8_check(text, n);
    if (bad < n) {
        s.at = bad;
        return scan_fail(&s, "invalid UTF-8");
    }
    int rc = scan_text(&s);
    if (rc < 0) return rc;
    if (!items || !items->n) return build_tree(text, n, what, out);
    /* The text without the list's inside. */
    struct buf b;
    struct mem m;
    mem_init(&m, NULL, NULL);
    buf_init(&b, &m);
    buf_put(&b, text, items->from);
    buf_put(&b, text + items->to, n - items->to);
    rc = buf_check(&b);
    if (rc == PEFT_OK) rc = build_tree(b.data, b.n, what, out);
    buf_free(&b);
    items->at = text + items->from;
    items->end = text + items->to;
    return rc;
}

const json *json_next_item(struct json_items *items)
{
    enum { ITEM_LIMIT = 1 << 16 };
    json_free(items->now);
    items->now = NULL;
    const char *at = items->at, *from = at, *end = items->end;
    int depth = 0;
    if (at == end) return NULL;
    for (; at < end && (depth > 0 || *at != ','); at++) {
        if (*at == '[' || *at == '{') depth++;
        if (*at == ']' || *at == '}') depth--;
        if (*at == '"')
            while (*++at != '"') at += *at == '\\';
    }
    items->at = at < end ? at + 1 : end;
    if (at - from > ITEM_LIMIT)
        items->rc = fail(PEFT_EFORMAT, "an item of %lld bytes, expected at most %d",
                         (long long)(at - from), (int)ITEM_LIMIT);
    else
        items->rc = json_parse(from, at - from, "an item", &items->now);
    return items->now;
}

void json_free(json *j)
{
    cJSON_Delete(j);
}

/* --- access */

static const struct { int type; enum json_kind kind; const char *name; } json_kinds[] = {
    {cJSON_NULL, JSON_NULL, "null"},         {cJSON_False, JSON_BOOL, "a boolean"},
    {cJSON_True, JSON_BOOL, "a boolean"},    {cJSON_Number, JSON_NUMBER, "a number"},
    {cJSON_String, JSON_STRING, "a string"}, {cJSON_Array, JSON_ARRAY, "an array"},
    {cJSON_Object, JSON_OBJECT, "an object"},
};

static size_t kind_row(const json *j)
{
    for (size_t i = 0; j && i < ARRAY_LEN(json_kinds); i++)
        if ((j->type & 0xff) == json_kinds[i].type) return i;
    return 0;
}

enum json_kind json_kind(const json *j)
{
    return json_kinds[kind_row(j)].kind;
}

const char *json_kind_name(const json *j)
{
    return j ? json_kinds[kind_row(j)].name : "nothing";
}

static const json *object_member(const json *object, const char *key, size_t n)
{
    if (!object || !cJSON_IsObject(object)) return NULL;
    for (const json *c = object->child; c; c = c->next)
        if (strncmp(c->string, key, n) == 0 && c->string[n] == 0) return c;
    return NULL;
}

const json *json_get(const json *j, const char *path)
{
    for (;;) {
        const json *whole = object_member(j, path, strlen(path));
        const char *dot = strchr(path, '.');
        if (whole || !dot) return whole;
        j = object_member(j, path, (size_t)(dot - path));
        if (!j) return NULL;
        path = dot + 1;
    }
}

const json *json_first(const json *j)
{
    return j ? j->child : NULL;
}

const json *json_next(const json *j)
{
    return j ? j->next : NULL;
}

const char *json_key(const json *j)
{
    return j ? j->string : NULL;
}

int64_t json_count(const json *j)
{
    int64_t n = 0;
    for (const json *c = json_first(j); c; c = c->next) n++;
    return n;
}

const char *json_string(const json *j)
{
    return json_kind(j) == JSON_STRING ? j->valuestring : NULL;
}

double json_number(const json *j, double absent)
{
    return json_kind(j) == JSON_NUMBER ? j->valuedouble : absent;
}

int json_bool(const json *j, int absent)
{
    return json_kind(j) == JSON_BOOL ? (j->type & 0xff) == cJSON_True : absent;
}

int json_int(const json *obj, const char *path, int64_t lo, int64_t hi, int64_t *out)
{
    const json *j = json_get(obj, path);
    if (!j) return 0;
    if (json_kind(j) != JSON_NUMBER)
        return fail(PEFT_EFORMAT, "\"%s\" is %s, expected an integer", path, json_kind_name(j));
    double x = j->valuedouble;
    /* 2^53 itself is also what 2^53 + 1 is read as. */
    if (!(fabs(x) < 0x1p53) || x != floor(x))
        return fail(PEFT_EFORMAT, "\"%s\" is %.17g, expected an exact integer", path, x);
    int64_t v = (int64_t)x;
    if (v < lo || v > hi)
        return fail(PEFT_EFORMAT, "\"%s\" is %lld, expected %lld to %lld", path, (long long)v,
                    (long long)lo, (long long)hi);
    *out = v;
    return 1;
}

int json_set_string(json *string, const char *s, int64_t n)
{
    char *copy = n < INT64_MAX ? cJSON_malloc((size_t)n + 1) : NULL;
    if (!copy) return fail(PEFT_ENOMEM, "out of memory for a string of %lld bytes", (long long)n);
    memcpy(copy, s, (size_t)n);
    copy[n] = 0;
    cJSON_free(string->valuestring);
    string->valuestring = copy;
    return PEFT_OK;
}

void json_write(struct buf *b, const json *j)
{
    const char *between = "";
    switch (json_kind(j)) {
    case JSON_NULL: buf_puts(b, "null"); return;
    case JSON_BOOL: buf_puts(b, json_bool(j, 0) ? "true" : "false"); return;
    case JSON_NUMBER:
        if (j->type & NUMBER_IS_REAL) buf_real(b, j->valuedouble);
        else buf_number(b, j->valuedouble);
        return;
    case JSON_STRING: buf_json(b, json_string(j), (int64_t)strlen(json_string(j))); return;
    default: break;
    }
    int object = json_kind(j) == JSON_OBJECT;
    buf_putc(b, object ? '{' : '[');
    for (const json *m = json_first(j); m; m = json_next(m)) {
        buf_puts(b, between);
        between = ", ";
        if (object) {
            buf_json(b, json_key(m), (int64_t)strlen(json_key(m)));
            buf_puts(b, ": ");
        }
        json_write(b, m);
    }
    buf_putc(b, object ? '}' : ']');
}
