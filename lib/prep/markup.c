/* HTML and Markdown as plain text.
 *
 * Only names of HTML's own elements begin a tag, so that "a < b" and "List<String>" stay.
 * An end that is looked for in vain is not looked for again, which keeps time linear. */
#include "prep/tidy.h"

static bool is_letter(char c) { return (unsigned char)((c | 32) - 'a') < 26; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* --- HTML */

enum element { INLINE, BLOCK, CELL, HIDDEN };
static const struct { enum element kind; const char *names; } elements[] = {
    {BLOCK, " address article aside blockquote body br center dd details dialog dir div dl dt "
            "fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr html legend li "
            "main menu nav ol option p pre section summary table tbody tfoot thead tr ul head "},
    {INLINE, " a abbr acronym applet area audio b base basefont bdi bdo big button canvas caption "
             "cite code col colgroup data datalist del dfn em embed font frame frameset i iframe "
             "img input ins kbd label link map mark meta meter noframes object optgroup output "
             "param picture progress q rp rt ruby s samp select slot small source span strike "
             "strong sub sup svg path template textarea time title track tt u var video wbr "},
    {CELL, " td th "},
    {HIDDEN, " script style noscript "},
};

/* Latin-1's names from U+00A0 on, and some of the others. */
static const char latin1[] =
    "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn "
    "sup2 sup3 acute micro para middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave "
    "Aacute Acirc Atilde Auml Aring AElig Ccedil Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml "
    "ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave Uacute Ucirc Uuml Yacute THORN "
    "szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml igrave "
    "iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute "
    "ucirc uuml yacute thorn yuml ";
static const struct { const char *name; int32_t cp; } entities[] = {
    {"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}, {"hellip", 0x2026},
    {"mdash", 0x2014}, {"ndash", 0x2013}, {"lsquo", 0x2018}, {"rsquo", 0x2019},
    {"sbquo", 0x201a}, {"ldquo", 0x201c}, {"rdquo", 0x201d}, {"bdquo", 0x201e},
    {"lsaquo", 0x2039}, {"rsaquo", 0x203a}, {"bull", 0x2022}, {"trade", 0x2122},
    {"euro", 0x20ac}, {"dagger", 0x2020}, {"permil", 0x2030}, {"prime", 0x2032},
    {"ensp", 0x2002}, {"emsp", 0x2003}, {"thinsp", 0x2009}, {"zwnj", 0x200c}, {"zwj", 0x200d},
    {"larr", 0x2190}, {"uarr", 0x2191}, {"rarr", 0x2192}, {"darr", 0x2193}, {"minus", 0x2212},
    {"infin", 0x221e}, {"ne", 0x2260}, {"le", 0x2264}, {"ge", 0x2265}, {"asymp", 0x2248},
    {"radic", 0x221a}, {"sum", 0x2211}, {"alpha", 0x3b1}, {"beta", 0x3b2}, {"gamma", 0x3b3},
    {"delta", 0x3b4}, {"pi", 0x3c0}, {"mu", 0x3bc}, {"Omega", 0x3a9}, {"OElig", 0x152},
    {"oelig", 0x153}, {"Scaron", 0x160}, {"scaron", 0x161}, {"hearts", 0x2665},
    {"check", 0x2713}, {"star", 0x2606}, {"excl", '!'}, {"num", '#'}, {"lpar", '('},
    {"rpar", ')'}, {"comma", ','}, {"period", '.'}, {"colon", ':'}, {"semi", ';'},
    {"lsqb", '['}, {"rsqb", ']'}, {"nbsp", 0xa0}, {"newline", '\n'},
};
/* What Windows has where Latin-1 has controls; pages say &#150; and mean a dash. */
static const int32_t windows[32] = {
    0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021, 0x2c6,  0x2030, 0x160,
    0x2039, 0x152,  0x8d,   0x17d,  0x8f,   0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
    0x2013, 0x2014, 0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e,  0x178};

struct html {
    const char *s;
    int64_t n;
    bool no_tag, no_comment, no_end;    /* there is no further end of these */
};

/* "name " in a list of such. */
static const char *listed(const char *list, const char *name, int64_t n)
{
    char key[16];
    if (n > 12) return NULL;
    memcpy(key, name, (size_t)n);
    key[n] = ' ';
    key[n + 1] = 0;
    return strstr(list, key);
}

static const char *listed_lower(const char *list, const char *name, int64_t n)
{
    char key[16] = " ";
    if (n > 12) return NULL;
    for (int64_t i = 0; i < n; i++)
        key[1 + i] = is_letter(name[i]) ? (char)(name[i] | 32) : name[i];
    key[n + 1] = ' ';
    return strstr(list, key);
}

static int32_t entity_of(const char *name, int64_t n)
{
    const char *at = listed(latin1, name, n);
    if (at && (at == latin1 || at[-1] == ' ')) {
        int32_t cp = 0xa0;
        for (const char *p = latin1; p < at; p++) cp += *p == ' ';
        return cp;
    }
    for (size_t i = 0; i < ARRAY_LEN(entities); i++)
        if ((int64_t)strlen(entities[i].name) == n && !memcmp(entities[i].name, name, (size_t)n))
            return entities[i].cp;
    return -1;
}

/* Bytes of the entity at i, 0 = none; its character in *cp. */
static int64_t entity_at(const struct html *h, int64_t i, int32_t *cp)
{
    const char *s = h->s + i + 1;
    int64_t n = MIN(h->n - i - 1, 16), k = 0, value = 0;
    *cp = -1;
    if (n > 2 && s[0] == '#') {
        bool hex = (s[1] | 32) == 'x';
        for (k = 1 + hex;
             k < n && (is_digit(s[k]) || (hex && is_letter(s[k]) && (s[k] | 32) <= 'f'));
             k++)
            value = MIN(value * (hex ? 16 : 10) + (is_digit(s[k]) ? s[k] - '0' : (s[k] | 32) - 'W'),
                        0x110000);
        bool valid = k > 1 + hex && value > 0 && value < 0x110000 &&
                     !(value >= 0xd800 && value < 0xe000);
        if (valid) *cp = value >= 0x80 && value < 0xa0 ? windows[value - 0x80] : (int32_t)value;
    } else {
        while (k < n && (is_letter(s[k]) || is_digit(s[k]))) k++;
        if (k > 1 && k < n && s[k] == ';') *cp = entity_of(s, k);
    }
    return *cp >= 0 && k < n && s[k] == ';' ? k + 2 : 0;
}

/* Where `what` ends, from i on, or -1 and then never again. */
static int64_t end_behind(const struct html *h, int64_t i, const char *what, bool *never)
{
    int64_t k = (int64_t)strlen(what);
    const char *at = *never ? NULL : uni_find(h->s + i, h->n - i, what, k);
    if (!at) *never = true;
    return at ? at - h->s + k : -1;
}

/* Behind the '>' of the tag at i; quotes may hold one.  -1 = this is no tag. */
static int64_t tag_end(struct html *h, int64_t i)
{
    enum { LONGEST = 8192 };
    char quote = 0;
    int64_t most = MIN(h->n, i + LONGEST);
    for (int64_t k = i + 1; k < most; k++) {
        char c = h->s[k];
        if (quote) quote = c == quote ? 0 : quote;
        else if ((c == '"' || c == '\'') && h->s[k - 1] == '=') quote = c;
        else if (c == '>') return k + 1;
        else if (c == '<') return -1;
    }
    return -1;
}

/* Behind what hides its content: <script> ... </script>. */
static int64_t hidden_end(struct html *h, int64_t i, const char *name, int64_t n)
{
    for (int64_t at = i; (at = end_behind(h, at, "</", &h->no_end)) >= 0;) {
        int64_t k = 0;
        while (k < n && at + k < h->n && (h->s[at + k] | 32) == (name[k] | 32)) k++;
        if (k < n) continue;
        int64_t end = tag_end(h, at);
        return end < 0 ? i : end;
    }
    return i;
}

/* Behind the tag or comment at i, 0 = none; what stands in its place in *with. */
static int64_t tag_at(struct html *h, int64_t i, const char **with)
{
    const char *s = h->s + i + 1;
    int64_t n = h->n - i - 1, k = 0;
    *with = "";
    if (n > 3 && !memcmp(s, "!--", 3)) return MAX(end_behind(h, i + 4, "-->", &h->no_comment), 0);
    if (n > 8 && (!memcmp(s, "!DOCTYPE", 8) || !memcmp(s, "!doctype", 8) || !memcmp(s, "?xml ", 5)))
        return MAX(tag_end(h, i), 0);
    bool closing = n > 0 && s[0] == '/';
    s += closing;
    n -= closing;
    while (k < n && k < 12 && (is_letter(s[k]) || (k && is_digit(s[k])))) k++;
    if (!k || k == n || !strchr(" \t\r\n/>", s[k])) return 0;
    for (size_t e = 0; e < ARRAY_LEN(elements); e++) {
        if (!listed_lower(elements[e].names, s, k)) continue;
        int64_t end = tag_end(h, i);
        if (end < 0) return 0;
        *with = elements[e].kind == BLOCK ? "\n" : elements[e].kind == CELL ? " " : "";
        return elements[e].kind == HIDDEN && !closing ? hidden_end(h, end, s, k) : end;
    }
    return 0;
}

int64_t tidy_html(struct tidy *t, const char *s, int64_t n, struct buf *out)
{
    struct html h = {.s = s, .n = n};
    int64_t places = 0, from = 0;
    (void)t;
    for (int64_t i = 0; i < n;) {
        i += (int64_t)strcspn(s + i, "<&");
        if (i >= n) break;
        const char *with = "";
        int32_t cp = -1;
        int64_t k = s[i] == '&' ? entity_at(&h, i, &cp) : tag_at(&h, i, &with) - i;
        if (k <= 0) {
            i++;
            continue;
        }
        buf_put(out, s + from, i - from);
        if (cp >= 0) uni_append(out, cp);
        /* One line feed for the tags of several blocks. */
        else if (*with && out->n && out->data[out->n - 1] != *with) buf_puts(out, with);
        i = from = i + k;
        places++;
    }
    if (places) buf_put(out, s + from, n - from);
    return places;
}

/* --- Markdown, line by line */

struct marks { struct buf *out; int64_t places; };

static int64_t run_of(const char *s, int64_t n, char c)
{
    int64_t k = 0;
    while (k < n && s[k] == c) k++;
    return k;
}

static bool is_ascii_punct(char c) { return c > ' ' && c < 0x7f && !is_letter(c) && !is_digit(c); }

enum { LOOK = 1000 };                   /* how far an inline mark may be from its other half */

/* Where the run of k marks ends that closes the one before `from`, or -1: behind no space, and
 * not within a word: 2*3*4. */
static int64_t mark_close(const char *s, int64_t n, int64_t from, char c, int64_t k)
{
    int64_t most = MIN(n, from + LOOK);
    for (int64_t i = from; i < most; i++) {
        if (s[i] != c) continue;
        int64_t r = run_of(s + i, n - i, c);
        bool word = c != '`' && i + r < n && (is_letter(s[i + r]) || is_digit(s[i + r]));
        if (r == k && i > from && s[i - 1] != ' ' && !word) return i;
        i += r - 1;
    }
    return -1;
}

static void put_inline(struct marks *m, const char *s, int64_t n, int depth);

/* [text](target) or ![text](target); bytes, 0 = none. */
static int64_t put_link(struct marks *m, const char *s, int64_t n, int depth)
{
    int64_t from = s[0] == '!' ? 2 : 1, most = MIN(n, LOOK), open = 1, i = from;
    if (from >= n || s[from - 1] != '[') return 0;
    for (; i < most && open; i++) open += (s[i] == '[') - (s[i] == ']');
    if (open || i >= n || s[i] != '(') return 0;
    const char *end = memchr(s + i, ')', (size_t)MIN(n - i, LOOK));
    if (!end) return 0;
    put_inline(m, s + from, i - 1 - from, depth);
    return end - s + 1;
}

/* The mark at s[0] and what it marks; bytes, 0 = it is none. */
static int64_t put_mark(struct marks *m, const char *s, int64_t i, int64_t n, int depth)
{
    char c = s[i];
    const char *at = s + i;
    int64_t left = n - i, k = run_of(at, left, c);
    if (c == '\\' && left > 1 && is_ascii_punct(at[1])) {
        buf_putc(m->out, at[1]);
        return 2;
    }
    if (c == '[' || (c == '!' && left > 1 && at[1] == '[')) return put_link(m, at, left, depth);
    if (c == '<') {
        const char *end = memchr(at, '>', (size_t)MIN(left, LOOK));
        if (!end || (strncmp(at, "<http", 5) && strncmp(at, "<mailto:", 8))) return 0;
        buf_put(m->out, at + 1, end - at - 1);
        return end - at + 1;
    }
    bool inside = i > 0 && (is_letter(s[i - 1]) || is_digit(s[i - 1]));
    bool marks = (c == '`') || ((c == '*' || c == '_') && k <= 3) || (c == '~' && k == 2);
    if (!marks || k == left || (c != '`' && at[k] == ' ') || (c != '`' && inside)) return 0;
    int64_t close = mark_close(s, n, i + k, c, k);
    if (close < 0) return 0;
    if (c == '`') buf_put(m->out, at + k, close - i - k);
    else put_inline(m, at + k, close - i - k, depth);
    return close + k - i;
}

static void put_inline(struct marks *m, const char *s, int64_t n, int depth)
{
    int64_t from = 0;
    for (int64_t i = 0; i < n && depth < 8; i++) {
        if (!strchr("\\[!<*_~`", s[i])) continue;
        buf_put(m->out, s + from, i - from);
        int64_t k = put_mark(m, s, i, n, depth + 1);
        m->places += k > 0;
        from = i + k;
        i += k ? k - 1 : strchr("*_~`", s[i]) ? run_of(s + i, n - i, s[i]) - 1 : 0;
    }
    buf_put(m->out, s + from, n - from);
}

/* A line of nothing but at least three of one of these. */
static bool is_rule(const char *s, int64_t n)
{
    int64_t k = 0;
    if (n < 3 || !strchr("-*_=", s[0])) return false;
    for (int64_t i = 0; i < n; i++) {
        if (s[i] != s[0] && s[i] != ' ') return false;
        k += s[i] == s[0];
    }
    return k >= 3;
}

/* Bytes of a line's leading marks: quotes and headings. */
static int64_t line_marks(const char *s, int64_t n)
{
    int64_t i = 0;
    while (i < n && s[i] == '>') {
        i++;
        i += i < n && s[i] == ' ';
    }
    int64_t k = run_of(s + i, n - i, '#');
    return k >= 1 && k <= 6 && i + k < n && s[i + k] == ' ' ? i + k + 1 : i;
}

int64_t tidy_markdown(struct tidy *t, const char *s, int64_t n, struct buf *out)
{
    struct marks m = {out, 0};
    char fence = 0;
    (void)t;
    for (int64_t i = 0, next; i < n; i = next) {
        const char *end = memchr(s + i, '\n', (size_t)(n - i));
        int64_t stop = end ? end - s : n, from = i;
        next = end ? stop + 1 : n;
        while (from < stop && from < i + 3 && s[from] == ' ') from++;
        char c = from < stop && (s[from] == '`' || s[from] == '~') ? s[from] : 0;
        bool fences = c && run_of(s + from, stop - from, c) >= 3 && (!fence || c == fence);
        if (fences || (!fence && is_rule(s + from, stop - from))) {
            if (fences) fence = fence ? 0 : c;
            m.places++;
            continue;
        }
        if (fence) {
            buf_put(out, s + i, next - i);
            continue;
        }
        int64_t k = line_marks(s + from, stop - from);
        m.places += k > 0;
        if (!k) from = i;
        put_inline(&m, s + from + k, stop - from - k, 0);
        if (end) buf_putc(out, '\n');
    }
    return m.places;
}
