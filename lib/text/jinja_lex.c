/* Jinja's lexer.
 *
 *   text {{ expression }} text {% statement %} text {# comment #} text
 *
 * White space around tags: "{%-" and "-%}" strip all of it; else a statement or
 * comment also takes the blanks between the line's beginning and itself
 * (lstrip_blocks, off with "{%+") and the line end behind it (trim_blocks, off
 * with "+%}").  One line end at the end of the template is dropped. */
#include "text/jinja_node.h"
#include "text/unicode.h"

static int lex_fail(const struct jlexer *l, const char *problem)
{
    return fail(PEFT_EFORMAT, "chat template line %d: %s", l->line, problem);
}

int jlex_begin(struct jlexer *l, struct arena *a, const char *text, int64_t n)
{
    *l = (struct jlexer){.arena = a, .line = 1};
    if (n > JINJA_SOURCE)
        return fail(PEFT_EFORMAT, "chat template: %lld bytes, expected at most %d",
                    (long long)n, JINJA_SOURCE);
    if (utf8_check(text, n) < n) return fail(PEFT_EFORMAT, "chat template: not UTF-8");
    char *s = arena_strndup(a, text, n);
    if (!s) return PEFT_ENOMEM;
    int64_t to = 0;
    for (int64_t i = 0; i < n; i++) {
        if (s[i] != '\r') s[to++] = s[i];
        else if (i + 1 == n || s[i + 1] != '\n') s[to++] = '\n';
    }
    if (to > 0 && s[to - 1] == '\n') to--;
    s[to] = 0;
    l->s = s;
    l->n = to;
    return PEFT_OK;
}

/* Bytes of white space at i, 0 = none. */
static int lex_space(const struct jlexer *l, int64_t i)
{
    int32_t cp;
    if (i >= l->n) return 0;
    int len = uni_next(l->s + i, &cp);
    return js_space(cp) ? len : 0;
}

static int64_t skip_spaces(const struct jlexer *l, int64_t i)
{
    int len;
    while ((len = lex_space(l, i)) > 0) i += len;
    return i;
}

static bool lex_here(const struct jlexer *l, int64_t i, const char *what)
{
    int64_t n = (int64_t)strlen(what);
    return l->n - i >= n && !memcmp(l->s + i, what, (size_t)n);
}

static void move_to(struct jlexer *l, int64_t at)
{
    for (; l->counted < at; l->counted++) l->line += l->s[l->counted] == '\n';
    l->at = at;
}

/* The end of a tag's closing mark at i ("%}", "#}", "}}"), or -1. */
static int64_t tag_end(const struct jlexer *l, int64_t i, const char *mark)
{
    bool variable = mark[0] == '}';
    if (lex_here(l, i, "-") && lex_here(l, i + 1, mark)) return skip_spaces(l, i + 3);
    if (!variable && lex_here(l, i, "+") && lex_here(l, i + 1, mark)) return i + 3;
    if (!lex_here(l, i, mark)) return -1;
    return i + 2 + (!variable && i + 2 < l->n && l->s[i + 2] == '\n');
}

/* Behind "{% raw %}" or "{% endraw %}" that begins at i, or -1. */
static int64_t raw_tag(const struct jlexer *l, int64_t i, const char *word)
{
    if (!lex_here(l, i, "{%")) return -1;
    i += 2;
    if (lex_here(l, i, "-") || lex_here(l, i, "+")) i++;
    i = skip_spaces(l, i);
    if (!lex_here(l, i, word)) return -1;
    i = skip_spaces(l, i + (int64_t)strlen(word));
    if (word[0] == 'e') return tag_end(l, i, "%}");
    if (lex_here(l, i, "-%}")) return skip_spaces(l, i + 3);
    return lex_here(l, i, "%}") ? i + 2 : -1;
}

/* Where the text from..to ends once the tag at `to` has taken its share. */
static int64_t strip_before(const struct jlexer *l, int64_t from, int64_t to)
{
    char sign = to + 2 < l->n ? l->s[to + 2] : 0;
    int64_t end = from, line = from, i = from;
    bool starts = from == 0 || l->s[from - 1] == '\n';
    if (sign != '-' && (sign == '+' || l->s[to + 1] == '{')) return to;
    for (int len; i < to; i += len) {
        int32_t cp;
        len = uni_next(l->s + i, &cp);
        if (!js_space(cp)) end = i + len;
        if (cp != '\n') continue;
        line = i + 1;
        starts = true;
    }
    if (sign == '-') return end;
    return starts && end <= line ? line : to;
}

static struct jtoken text_token(const struct jlexer *l, int64_t from, int64_t to)
{
    return (struct jtoken){.type = JT_TEXT, .line = l->line, .s = l->s + from, .n = to - from};
}

static int64_t find_tag(const struct jlexer *l)
{
    for (int64_t i = l->at; i + 1 < l->n; i++)
        if (l->s[i] == '{' && (l->s[i + 1] == '{' || l->s[i + 1] == '%' || l->s[i + 1] == '#'))
            return i;
    return l->n;
}

static int skip_comment(struct jlexer *l)
{
    int64_t i = l->at + 2, end = -1;
    if (lex_here(l, i, "-") || lex_here(l, i, "+")) i++;
    for (; i < l->n && end < 0; i++) end = tag_end(l, i, "#}");
    if (end < 0) return lex_fail(l, "a comment is never closed");
    move_to(l, end);
    return PEFT_OK;
}

static int lex_raw(struct jlexer *l, int64_t from, struct jtoken *t)
{
    int64_t i = from, end = -1;
    move_to(l, from);
    for (; i < l->n; i++)
        if (l->s[i] == '{' && (end = raw_tag(l, i, "endraw")) >= 0) break;
    if (end < 0) return lex_fail(l, "{% raw %} is never closed");
    *t = text_token(l, from, strip_before(l, from, i));
    move_to(l, end);
    return PEFT_OK;
}

/* Text up to the next tag, or the opening of that tag. */
static int lex_outside(struct jlexer *l, struct jtoken *t)
{
    for (;;) {
        if (l->state == JL_TEXT) {
            int64_t from = l->at, tag = find_tag(l);
            int64_t to = tag < l->n ? strip_before(l, from, tag) : tag;
            *t = text_token(l, from, to);
            move_to(l, tag);
            if (tag < l->n) l->state = JL_TAG;
            if (t->n) return PEFT_OK;
            if (tag == l->n) {
                t->type = JT_END;
                return PEFT_OK;
            }
        }
        l->state = JL_TEXT;
        int64_t raw = raw_tag(l, l->at, "raw");
        char kind = l->s[l->at + 1];
        int rc = raw >= 0 ? lex_raw(l, raw, t) : kind == '#' ? skip_comment(l) : PEFT_OK;
        if (rc < 0 || (raw >= 0 && t->n)) return rc;
        if (raw >= 0 || kind == '#') continue;
        l->state = kind == '{' ? JL_VAR : JL_BLOCK;
        *t = (struct jtoken){.type = kind == '{' ? JT_VAR : JT_BLOCK, .line = l->line};
        l->at += 2;
        if (lex_here(l, l->at, "-") || lex_here(l, l->at, "+")) l->at++;
        l->n_open = 0;
        return PEFT_OK;
    }
}

/* --- inside tags */

static bool is_digit(char c, int base)
{
    int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
            c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
    return v < base;
}

/* Behind digits that may be parted by single underscores; `i` if none. */
static int64_t digits_end(const struct jlexer *l, int64_t i, int base)
{
    int64_t end = i;
    while (is_digit(l->s[end], base) ||
           (l->s[end] == '_' && end > i && is_digit(l->s[end + 1], base)))
        end++;
    return end;
}

/* Behind a floating-point literal, or -1. */
static int64_t float_end(const struct jlexer *l)
{
    int64_t i = digits_end(l, l->at, 10);
    bool real = false;
    if (l->at > 0 && l->s[l->at - 1] == '.') return -1;
    if (l->s[i] == '.' && is_digit(l->s[i + 1], 10)) {
        i = digits_end(l, i + 1, 10);
        real = true;
    }
    if ((l->s[i] | 32) == 'e') {
        int64_t k = i + 1 + (l->s[i + 1] == '+' || l->s[i + 1] == '-');
        int64_t end = digits_end(l, k, 10);
        if (end > k) return end;
    }
    return real ? i : -1;
}

static int lex_float(struct jlexer *l, int64_t end, struct jtoken *t)
{
    t->type = JT_FLOAT;
    bool ok = js_to_float(jv_str(l->s + l->at, end - l->at), &t->f);
    move_to(l, end);
    return ok ? PEFT_OK : lex_fail(l, "malformed number");
}

static int lex_int(struct jlexer *l, struct jtoken *t)
{
    static const struct { char mark; int base; } bases[] = {{'b', 2}, {'o', 8}, {'x', 16}};
    const char *s = l->s + l->at;
    int64_t from = l->at, end = from;
    int base = 10;
    for (size_t k = 0; s[0] == '0' && k < ARRAY_LEN(bases); k++) {
        int64_t first = from + 2 + (s[1] && s[2] == '_');
        if ((s[1] | 32) != bases[k].mark) continue;
        if ((end = digits_end(l, first, bases[k].base)) > first) {
            base = bases[k].base;
            from = first;
        } else {
            end = from;
        }
    }
    /* Python has no decimal integers that begin with 0, but 0 itself. */
    if (base == 10) end = digits_end(l, from, s[0] == '0' ? 1 : 10);
    t->type = JT_INT;
    for (int64_t i = from; i < end; i++) {
        char c = l->s[i];
        if (c == '_') continue;
        int v = c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
        if (!mul_ok(t->i, base, &t->i) || !add_ok(t->i, v, &t->i))
            return lex_fail(l, "an integer of more than 63 bits");
    }
    move_to(l, end);
    return PEFT_OK;
}

static bool name_char(int32_t cp)
{
    return cp == '_' || uni_letter(cp) || uni_number(cp) || (cp >= 0x80 && uni_word(cp));
}

static int lex_name(struct jlexer *l, struct jtoken *t)
{
    int64_t i = l->at;
    int32_t cp;
    while (i < l->n) {
        int len = uni_next(l->s + i, &cp);
        if (!name_char(cp)) break;
        i += len;
    }
    t->type = JT_NAME;
    t->n = i - l->at;
    t->s = arena_strndup(l->arena, l->s + l->at, t->n);
    l->at = i;
    return t->s ? PEFT_OK : PEFT_ENOMEM;
}

/* The value of `max` digits at most; *i ends behind them. */
static int32_t escape_digits(const char *s, int64_t *i, int64_t n, int base, int max)
{
    int32_t value = 0;
    for (int k = 0; k < max && *i < n && is_digit(s[*i], base); k++, ++*i) {
        char c = s[*i];
        if (value > 0x110000) continue;
        value = value * base + (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return value;
}

/* Decodes what follows a backslash at s[*i]; false = malformed. */
static bool unescape(const char *s, int64_t *i, int64_t n, char *out, int64_t *to)
{
    static const char plain[] = "\\'\"abfnrtv", means[] = "\\'\"\a\b\f\n\r\t\v";
    static const struct { char mark; int digits; } hex[] = {{'x', 2}, {'u', 4}, {'U', 8}};
    char c = s[(*i)++];
    const char *hit = memchr(plain, c, sizeof plain - 1);
    if (c == '\n') return true;
    if (hit) {
        out[(*to)++] = means[hit - plain];
        return true;
    }
    if (c == 'N') return false;
    if (is_digit(c, 8)) {
        --*i;
        *to += uni_put(out + *to, escape_digits(s, i, n, 8, 3));
        return true;
    }
    for (size_t k = 0; k < ARRAY_LEN(hex); k++) {
        if (c != hex[k].mark) continue;
        int64_t from = *i;
        int32_t cp = escape_digits(s, i, n, 16, hex[k].digits);
        if (*i - from < hex[k].digits || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
            return false;
        *to += uni_put(out + *to, cp);
        return true;
    }
    out[(*to)++] = '\\';
    out[(*to)++] = c;
    return true;
}

static int lex_string(struct jlexer *l, struct jtoken *t)
{
    const char *s = l->s;
    int64_t from = l->at + 1, end = from, to = 0;
    while (end < l->n && s[end] != s[l->at]) end += s[end] == '\\' ? 2 : 1;
    if (end >= l->n) return lex_fail(l, "a string is never closed");
    char *out = arena_alloc(l->arena, end - from + 1);
    if (!out) return PEFT_ENOMEM;
    for (int64_t i = from; i < end;) {
        if (s[i] != '\\') {
            out[to++] = s[i++];
            continue;
        }
        i++;
        if (!unescape(s, &i, end, out, &to)) return lex_fail(l, "unknown escape in a string");
    }
    t->type = JT_STRING;
    t->s = out;
    t->n = to;
    move_to(l, end + 1);
    return PEFT_OK;
}

static const struct { const char *s; enum jtok type; } operators[] = {
    {"**", JT_POW}, {"//", JT_FLOORDIV}, {"==", JT_EQ}, {"!=", JT_NE}, {"<=", JT_LE},
    {">=", JT_GE}, {"+", JT_ADD}, {"-", JT_SUB}, {"*", JT_MUL}, {"/", JT_DIV}, {"%", JT_MOD},
    {"<", JT_LT}, {">", JT_GT}, {"~", JT_TILDE}, {"=", JT_ASSIGN}, {".", JT_DOT},
    {":", JT_COLON}, {",", JT_COMMA}, {"|", JT_PIPE}, {";", JT_SEMICOLON}, {"(", JT_LPAREN},
    {")", JT_RPAREN}, {"[", JT_LBRACKET}, {"]", JT_RBRACKET}, {"{", JT_LBRACE},
    {"}", JT_RBRACE},
};

static int balance(struct jlexer *l, char c)
{
    if (strchr("([{", c)) {
        if (l->n_open == JINJA_NESTING) return lex_fail(l, "brackets nested deeper than 64");
        l->open[l->n_open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (strchr(")]}", c)) {
        if (!l->n_open || l->open[--l->n_open] != c)
            return lex_fail(l, "a closing bracket without its opening one");
    }
    return PEFT_OK;
}

static int lex_operator(struct jlexer *l, struct jtoken *t)
{
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        if (!lex_here(l, l->at, operators[i].s)) continue;
        t->type = operators[i].type;
        l->at += (int64_t)strlen(operators[i].s);
        return balance(l, operators[i].s[0]);
    }
    return fail(PEFT_EFORMAT, "chat template line %d: unexpected character \"%.1s\"", l->line,
                l->s + l->at);
}

static int lex_inside(struct jlexer *l, struct jtoken *t)
{
    bool variable = l->state == JL_VAR;
    int64_t end = l->n_open ? -1 : tag_end(l, l->at, variable ? "}}" : "%}");
    if (end < 0) {
        move_to(l, skip_spaces(l, l->at));
        end = l->n_open ? -1 : tag_end(l, l->at, variable ? "}}" : "%}");
    }
    *t = (struct jtoken){.line = l->line};
    if (end >= 0) {
        t->type = variable ? JT_VAR_END : JT_BLOCK_END;
        move_to(l, end);
        l->state = JL_TEXT;
        return PEFT_OK;
    }
    if (l->at >= l->n) return PEFT_OK;
    int32_t cp;
    char c = l->s[l->at];
    uni_next(l->s + l->at, &cp);
    if (is_digit(c, 10)) {
        end = float_end(l);
        return end >= 0 ? lex_float(l, end, t) : lex_int(l, t);
    }
    if (name_char(cp)) return lex_name(l, t);
    return c == '"' || c == '\'' ? lex_string(l, t) : lex_operator(l, t);
}

int jlex_next(struct jlexer *l, struct jtoken *t)
{
    bool outside = l->state == JL_TEXT || l->state == JL_TAG;
    return outside ? lex_outside(l, t) : lex_inside(l, t);
}
