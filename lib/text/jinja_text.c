/* Jinja's strings: what Python's str can do, in characters. */
#include "text/jinja_node.h"
#include "text/unicode.h"

bool js_space(int32_t cp)
{
    return uni_space(cp) || (cp >= 0x1c && cp <= 0x1f);
}

static int64_t back(const char *s, int64_t i)
{
    do i--;
    while (i > 0 && ((uint8_t)s[i] & 0xc0) == 0x80);
    return i;
}

int64_t js_count(struct jrun *r, struct jv s)
{
    int64_t n = 0;
    if (!jr_charge(r, s.n / 256)) return 0;
    for (int64_t i = 0; i < s.n; i++) n += ((uint8_t)s.s[i] & 0xc0) != 0x80;
    return n;
}

int64_t js_offset(struct jv s, int64_t i)
{
    int64_t at = 0;
    for (; i > 0 && at < s.n; i--)
        do at++;
        while (at < s.n && ((uint8_t)s.s[at] & 0xc0) == 0x80);
    return at;
}

struct jv js_chars(struct jrun *r, struct jv s)
{
    int32_t cp;
    int64_t n = js_count(r, s);
    struct jv list = jr_charge(r, n / 16) ? jv_seq(r, JV_LIST, n) : jv_none();
    for (int64_t i = 0; i < s.n && r->rc == PEFT_OK;) {
        int len = uni_next(s.s + i, &cp);
        jv_push(r, list, jv_str(s.s + i, len));
        i += len;
    }
    return list;
}

int64_t js_find(struct jrun *r, struct jv s, struct jv what, bool last)
{
    if (!jr_charge(r, s.n / 256)) return -1;
    if (!what.n) return last ? s.n : 0;
    const char *hit = uni_find(s.s, s.n, what.s, what.n);
    if (!last) return hit ? hit - s.s : -1;
    int64_t at = -1;
    for (; hit && jr_charge(r, 1); hit = uni_find(hit + 1, s.s + s.n - hit - 1, what.s, what.n))
        at = hit - s.s;
    return at;
}

static bool in_set(struct jv chars, const char *s, int len, int32_t cp)
{
    if (chars.kind != JV_STR) return js_space(cp);
    return uni_find(chars.s, chars.n, s, len) != NULL;
}

struct jv js_strip(struct jrun *r, struct jv s, struct jv chars, bool left, bool right)
{
    int64_t from = 0, to = s.n;
    int32_t cp;
    if (chars.kind == JV_STR && !jr_charge(r, chars.n / 256 * (1 + s.n / 256))) return s;
    if (!jr_charge(r, s.n / 256)) return s;
    while (left && from < to) {
        int len = uni_next(s.s + from, &cp);
        if (!in_set(chars, s.s + from, len, cp)) break;
        from += len;
    }
    while (right && to > from) {
        int64_t last = back(s.s, to);
        uni_next(s.s + last, &cp);
        if (!in_set(chars, s.s + last, (int)(to - last), cp)) break;
        to = last;
    }
    s.s += from;
    s.n = to - from;
    return s;
}

/* --- case */

/* Whether a sigma at i ends its word: a letter before it, not before `start`,
 * and none behind. */
static bool final_sigma(struct jv s, int64_t i, int64_t start)
{
    int32_t cp;
    if (i <= start) return false;
    uni_next(s.s + back(s.s, i), &cp);
    if (!uni_letter(cp)) return false;
    if (i + 2 >= s.n) return true;
    uni_next(s.s + i + 2, &cp);
    return !uni_letter(cp);
}

static bool title_break(int32_t cp)
{
    return js_space(cp) || (cp < 0x80 && cp > 0 && strchr("-({[<", cp));
}

struct jv js_case(struct jrun *r, struct jv s, enum js_case how)
{
    struct buf b;
    bool first = true;
    int64_t start = 0;      /* |title lowers what is behind a first character alone */
    buf_init(&b, r->arena.mem);
    for (int64_t i = 0; i < s.n;) {
        int32_t cp;
        int len = uni_next(s.s + i, &cp);
        bool up = how == JS_UPPER || (how != JS_LOWER && first);
        if (up) uni_upper(&b, cp, how == JS_CAPITALIZE || how == JS_TITLE_WORDS);
        else if (cp == 0x3a3 && final_sigma(s, i, start)) uni_append(&b, 0x3c2);
        else uni_lower(&b, cp);
        first = how == JS_TITLE ? title_break(cp) : how == JS_TITLE_WORDS ? !uni_letter(cp) : false;
        i += len;
        if (up && how == JS_TITLE) start = i;
    }
    return jv_take(r, &b);
}

/* --- parts */

static void push_part(struct jrun *r, struct jv list, const char *from, const char *to)
{
    if (jr_charge(r, 1)) jv_push(r, list, jv_str(from, to - from));
}

static struct jv reversed(struct jrun *r, struct jv list)
{
    struct jv out = jv_seq(r, JV_LIST, list.seq->n);
    for (int64_t i = list.seq->n; i-- > 0;) jv_push(r, out, list.seq->v[i]);
    return out;
}

static struct jv split_words(struct jrun *r, struct jv s, int64_t max)
{
    struct jv list = jv_seq(r, JV_LIST, 0), none = jv_none();
    while (r->rc == PEFT_OK) {
        int64_t i = 0, len = 0;
        int32_t cp;
        s = js_strip(r, s, none, true, false);
        if (!s.n) break;
        if (max-- == 0) {
            s = js_strip(r, s, none, false, true);
            push_part(r, list, s.s, s.s + s.n);
            break;
        }
        while (i < s.n && (len = uni_next(s.s + i, &cp), !js_space(cp))) i += len;
        push_part(r, list, s.s, s.s + i);
        s.s += i;
        s.n -= i;
    }
    return list;
}

/* From the right: the last `max` words, then what is before them. */
static struct jv split_words_right(struct jrun *r, struct jv s, int64_t max)
{
    struct jv list = jv_seq(r, JV_LIST, 0), none = jv_none();
    while (r->rc == PEFT_OK) {
        int32_t cp;
        s = js_strip(r, s, none, false, true);
        if (!s.n) break;
        int64_t i = s.n;
        if (max-- == 0) {
            s = js_strip(r, s, none, true, false);
            push_part(r, list, s.s, s.s + s.n);
            break;
        }
        while (i > 0 && (uni_next(s.s + back(s.s, i), &cp), !js_space(cp))) i = back(s.s, i);
        push_part(r, list, s.s + i, s.s + s.n);
        s.n = i;
    }
    return r->rc < 0 ? list : reversed(r, list);
}

struct jv js_split(struct jrun *r, struct jv s, struct jv sep, int64_t max, bool right)
{
    if (r->rc < 0) return jv_none();
    if (max < 0) max = INT64_MAX;
    if (sep.kind != JV_STR) return right ? split_words_right(r, s, max) : split_words(r, s, max);
    struct jv list = jv_seq(r, JV_LIST, 0);
    if (!sep.n) jr_fail(r, PEFT_EDATA, "split: an empty separator");
    const char *from = s.s, *end = s.s + s.n;
    if (right) {
        while (r->rc == PEFT_OK && max-- > 0) {
            int64_t at = js_find(r, jv_str(from, end - from), sep, true);
            if (at < 0) break;
            push_part(r, list, from + at + sep.n, end);
            end = from + at;
        }
        push_part(r, list, from, end);
        return r->rc < 0 ? list : reversed(r, list);
    }
    while (r->rc == PEFT_OK && max-- > 0) {
        const char *hit = uni_find(from, end - from, sep.s, sep.n);
        if (!hit) break;
        push_part(r, list, from, hit);
        from = hit + sep.n;
    }
    push_part(r, list, from, end);
    return list;
}

static bool line_end(int32_t cp)
{
    return (cp >= 10 && cp <= 13) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

struct jv js_lines(struct jrun *r, struct jv s, bool keep_ends)
{
    struct jv list = jv_seq(r, JV_LIST, 0);
    int64_t from = 0, i = 0;
    while (i < s.n && r->rc == PEFT_OK) {
        int32_t cp;
        int64_t at = i;
        i += uni_next(s.s + i, &cp);
        if (!line_end(cp)) continue;
        if (cp == '\r' && i < s.n && s.s[i] == '\n') i++;
        push_part(r, list, s.s + from, s.s + (keep_ends ? i : at));
        from = i;
    }
    if (from < s.n) push_part(r, list, s.s + from, s.s + s.n);
    return list;
}

struct jv js_replace(struct jrun *r, struct jv s, struct jv from, struct jv to, int64_t max)
{
    struct buf b;
    int64_t at = 0;
    buf_init(&b, r->arena.mem);
    if (max < 0) max = INT64_MAX;
    while (max-- > 0 && jr_charge(r, (at & 63) == 0)) {
        const char *hit = from.n ? uni_find(s.s + at, s.n - at, from.s, from.n) : s.s + at;
        if (!hit) break;
        buf_put(&b, s.s + at, hit - s.s - at);
        buf_put(&b, to.s, to.n);
        if (b.n > jr_longest(r)) break;
        at = hit - s.s + from.n;
        if (from.n) continue;
        if (at >= s.n) break;
        int32_t cp;
        int len = uni_next(s.s + at, &cp);
        buf_put(&b, s.s + at, len);
        at += len;
    }
    buf_put(&b, s.s + at, s.n - at);
    return jv_take(r, &b);
}

struct jv js_escape(struct jrun *r, struct jv v)
{
    static const char marks[] = "&<>'\"";
    static const char *const means[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    struct buf b;
    if (v.kind == JV_STR && v.safe) return v;
    v = jv_string(r, v);
    buf_init(&b, r->arena.mem);
    for (int64_t i = 0; i < v.n; i++) {
        const char *hit = v.s[i] ? strchr(marks, v.s[i]) : NULL;
        if (hit) buf_puts(&b, means[hit - marks]);
        else buf_putc(&b, v.s[i]);
    }
    v = jv_take(r, &b);
    v.safe = true;
    return v;
}

struct jv js_indent(struct jrun *r, struct jv s, struct jv width, bool first, bool blank)
{
    struct buf b;
    int64_t spaces = 4;
    jv_integer(width, &spaces);
    spaces = MAX(0, MIN(spaces, 4096));
    struct jv lines = js_lines(r, jv_math(r, JT_ADD, s, jv_text("\n")), false);
    buf_init(&b, r->arena.mem);
    for (int64_t i = 0; r->rc == PEFT_OK && i < lines.seq->n && b.n <= jr_longest(r); i++) {
        struct jv line = lines.seq->v[i];
        if (i) buf_putc(&b, '\n');
        if (i ? blank || line.n : first) {
            if (width.kind == JV_STR) buf_put(&b, width.s, width.n);
            for (int64_t k = 0; width.kind != JV_STR && k < spaces; k++) buf_putc(&b, ' ');
        }
        buf_put(&b, line.s, line.n);
    }
    return jv_take(r, &b);
}

/* --- numbers in text */

static bool digit(char c) { return c >= '0' && c <= '9'; }

/* Brings Python's form into that of JSON ("+.5" is "0.5"), which a parser that
 * knows nothing of the locale reads. */
bool js_to_float(struct jv s, double *out)
{
    char text[72];
    size_t n = 0;
    int64_t i = 0;
    json *j = NULL;
    if (s.kind != JV_STR || s.n > 60) return false;
    if (i < s.n && (s.s[i] == '-' || s.s[i] == '+'))
        if (s.s[i++] == '-') text[n++] = '-';
    while (i + 1 < s.n && s.s[i] == '0' && digit(s.s[i + 1])) i++;
    if (i + 1 < s.n && s.s[i] == '.' && digit(s.s[i + 1])) text[n++] = '0';
    for (; i < s.n; i++) {
        bool between = i > 0 && i + 1 < s.n && digit(s.s[i - 1]) && digit(s.s[i + 1]);
        if (s.s[i] == '_' && between) continue;
        text[n++] = s.s[i];
        bool last = i + 1 == s.n || (s.s[i + 1] | 32) == 'e';
        if (s.s[i] == '.' && last && i > 0 && digit(s.s[i - 1])) text[n++] = '0';
    }
    bool ok = n > 0 && (digit(text[0]) || text[0] == '-') &&
              json_parse(text, (int64_t)n, "number", &j) == PEFT_OK;
    if (ok) *out = json_number(j, 0);
    json_free(j);
    return ok;
}

bool js_to_int(struct jv s, int64_t base, int64_t *out)
{
    static const char marks[] = "box";
    static const int bases[] = {2, 8, 16};
    int64_t i = 0, value = 0;
    bool minus = false, any = false;
    if (s.kind != JV_STR || base < 2 || base > 36) return false;
    if (i < s.n && (s.s[i] == '-' || s.s[i] == '+')) minus = s.s[i++] == '-';
    for (size_t k = 0; k < 3; k++)
        if (base == bases[k] && i + 1 < s.n && s.s[i] == '0' && (s.s[i + 1] | 32) == marks[k])
            i += 2;
    for (; i < s.n; i++) {
        char c = s.s[i];
        int v = digit(c) ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10 : 99;
        if (c == '_' && any && i + 1 < s.n && s.s[i + 1] != '_') continue;
        if (v >= base || !mul_ok(value, base, &value) || !add_ok(value, v, &value)) return false;
        any = true;
    }
    *out = minus ? -value : value;
    return any;
}

/* --- templates within strings */

/* format % args, with %s, %r, %d, %i and %%. */
struct jv js_percent(struct jrun *r, struct jv format, struct jv args)
{
    struct buf b;
    bool tuple = args.kind == JV_TUPLE;
    int64_t used = 0, n = tuple ? args.seq->n : 1, whole;
    double x;
    buf_init(&b, r->arena.mem);
    for (int64_t i = 0; i < format.n && r->rc == PEFT_OK; i++) {
        char c = format.s[i];
        if (c != '%' || (i + 1 < format.n && format.s[i + 1] == '%')) {
            buf_putc(&b, c);
            i += c == '%';
            continue;
        }
        c = i + 1 < format.n ? format.s[++i] : 0;
        if (!c || !strchr("srdi", c)) {
            jr_fail(r, PEFT_EUNSUPPORTED, "a format of \"%%%.1s\", known are %%s %%r %%d", &c);
        } else if (used >= n) {
            jr_fail(r, PEFT_EDATA, "a format with too few values");
        } else {
            struct jv v = tuple ? args.seq->v[used] : args;
            used++;
            if (c == 's') jv_print(r, &b, v);
            else if (c == 'r') jv_repr(r, &b, v);
            else if (jv_integer(v, &whole)) buf_printf(&b, "%lld", (long long)whole);
            else if (jv_number(v, &x) && x > -9e15 && x < 9e15)
                buf_printf(&b, "%lld", (long long)x);
            else jr_fail(r, PEFT_EDATA, "%%d needs a number, found %s", jv_type(v));
        }
    }
    bool open_ended = args.kind == JV_DICT || args.kind == JV_LIST || args.kind == JV_RANGE ||
                      args.kind == JV_UNDEFINED;
    if (used < n && !open_ended)
        jr_fail(r, PEFT_EDATA, "a format with too many values");
    return jv_take(r, &b);
}

/* The value that a field of str.format names, and in *next the automatic
 * numbering. */
static struct jv field_value(struct jrun *r, struct jv field, const struct jargs *args,
                             int64_t *next)
{
    int64_t i = 0;
    if (!field.n || js_to_int(field, 10, &i)) {
        if (!field.n) i = (*next)++;
        if (i >= 0 && i < args->n) return args->v[i];
        jr_fail(r, PEFT_EDATA, "format: no argument %lld", (long long)i);
        return jv_none();
    }
    for (int64_t k = 0; k < args->n_kw; k++)
        if (jv_is(field, args->kw[k].name)) return args->kw[k].value;
    jr_fail(r, PEFT_EUNSUPPORTED, "format: a field of \"%.*s\", known are {}, {0} and {name}",
            (int)MIN(field.n, 40), field.s);
    return jv_none();
}

struct jv js_format(struct jrun *r, struct jv format, const struct jargs *args)
{
    struct buf b;
    int64_t next = 0;
    buf_init(&b, r->arena.mem);
    for (int64_t i = 0; i < format.n && r->rc == PEFT_OK; i++) {
        char c = format.s[i];
        bool twice = i + 1 < format.n && format.s[i + 1] == c;
        if ((c != '{' && c != '}') || twice) {
            buf_putc(&b, c);
            i += c == '{' || c == '}';
            continue;
        }
        const char *end = memchr(format.s + i, '}', (size_t)(format.n - i));
        if (c == '}' || !end) {
            jr_fail(r, PEFT_EDATA, "format: a single brace");
            break;
        }
        int64_t to = end - format.s;
        jv_print(r, &b, field_value(r, jv_str(format.s + i + 1, to - i - 1), args, &next));
        i = to;
    }
    return jv_take(r, &b);
}
