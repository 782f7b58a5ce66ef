/* Line ends, control characters, Unicode's normal forms, white space. */
#include "prep/tidy.h"

const struct tidy_rule tidy_rules[] = {
    {"lines", "line ends of other systems, form feeds", true, false, tidy_lines},
    {"control", "control, invisible and direction characters", true, false, tidy_control},
    {"html", "tags, comments, entities", false, true, tidy_html},
    {"markdown", "marks of headings, emphasis, links, code", false, true, tidy_markdown},
    {"boilerplate", "lines known from web pages: cookies, copyright", false, true,
     tidy_boilerplate},
    {"repeated", "lines that many rows have", false, true, tidy_repeated},
    {"unicode", "normal form", true, false, tidy_unicode},
    {"space", "runs and ends of white space, blank lines", true, false, tidy_space},
    {0}};

/* --- line ends */

int64_t tidy_lines(struct tidy *t, const char *s, int64_t n, struct buf *out)
{
    (void)t;
    int64_t places = 0, from = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t k = 0;
        if (s[i] == '\r') k = 1 + (i + 1 < n && s[i + 1] == '\n');
        else if (s[i] == '\v' || s[i] == '\f') k = 1;
        else if (s[i] == '\xc2' && s[i + 1] == '\x85') k = 2;
        else if (s[i] == '\xe2' && s[i + 1] == '\x80' && (s[i + 2] | 1) == '\xa9') k = 3;
        if (!k) continue;
        buf_put(out, s + from, i - from);
        buf_putc(out, '\n');
        from = i + k;
        i = from - 1;
        places++;
    }
    if (places) buf_put(out, s + from, n - from);
    return places;
}

/* --- control characters */

static const int32_t invisible[][2] = {
    {0, 8}, {0xb, 0x1f}, {0x7f, 0x9f},      /* C0 and C1, but tab and line feed */
    {0xad, 0xad},                           /* soft hyphen */
    {0x61c, 0x61c}, {0x180e, 0x180e}, {0x200b, 0x200b}, {0x200e, 0x200f}, {0x202a, 0x202e},
    {0x2060, 0x206f},                       /* joiners, directions, and what was such */
    {0xfeff, 0xfeff}, {0xfff0, 0xfffb},
    {0xe0000, 0xe007f},                     /* tags: text that nobody sees */
};

/* Bytes that may begin one of them. */
static bool may_be_invisible(unsigned char c)
{
    return (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f || c == 0xc2 || c == 0xd8 ||
           c == 0xe1 || c == 0xe2 || c == 0xef || c == 0xf3;
}

static bool is_invisible(int32_t cp)
{
    for (size_t i = 0; i < ARRAY_LEN(invisible); i++)
        if (cp >= invisible[i][0] && cp <= invisible[i][1]) return true;
    return false;
}

/* Tags behind a black flag are that flag: Scotland. */
int64_t tidy_control(struct tidy *t, const char *s, int64_t n, struct buf *out)
{
    (void)t;
    int64_t places = 0, from = 0, flag = -1;
    for (int64_t i = 0; i < n;) {
        int32_t cp;
        int k = 1;
        if (!may_be_invisible((unsigned char)s[i])) {
            if (s[i] == '\xf0' && !memcmp(s + i, "\xf0\x9f\x8f\xb4", 4)) flag = i += 4;
            else i++;
            continue;
        }
        k = uni_next(s + i, &cp);
        bool of_flag = i == flag && cp >= 0xe0020;
        if (of_flag) flag += k;
        if (!of_flag && is_invisible(cp)) {
            buf_put(out, s + from, i - from);
            from = i + k;
            places++;
        }
        i += k;
    }
    if (places) buf_put(out, s + from, n - from);
    return places;
}

/* --- normal forms */

/* Characters that are their own NFC next to each other: the rest of Latin, Cyrillic, Hebrew's
 * letters, punctuation, kana, Han, Hangul's syllables, most emoji. */
static const int32_t composed[][2] = {
    {0, 0x2ff}, {0x400, 0x482}, {0x48a, 0x52f}, {0x5d0, 0x5ea}, {0x2010, 0x2027},
    {0x2030, 0x205e}, {0x20a0, 0x20bf}, {0x3001, 0x3029}, {0x3041, 0x3096}, {0x30a1, 0x30ff},
    {0x4e00, 0x9fff}, {0xac00, 0xd7a3}, {0x1f300, 0x1f64f},
};

static bool is_plain(const char *s, int64_t n, bool nfc)
{
    for (int64_t i = 0; i < n;) {
        if ((unsigned char)s[i] < 0x80) {
            i++;
            continue;
        }
        int32_t cp;
        bool known = false;
        i += uni_next(s + i, &cp);
        for (size_t k = 0; nfc && k < ARRAY_LEN(composed) && cp >= composed[k][0]; k++)
            known |= cp <= composed[k][1];
        if (!known) return false;
    }
    return true;
}

int64_t tidy_unicode(struct tidy *t, const char *s, int64_t n, struct buf *out)
{
    if (is_plain(s, n, t->form == UNI_NFC)) return 0;
    if (uni_normalize(t->mem, t->form, s, n, out, NULL) < 0) out->oom = true;
    return out->oom || out->n != n || memcmp(out->data, s, (size_t)n) != 0;
}

/* --- white space */

/* Bytes of the white space at s, or 0; a line feed is none. */
static int space_at(const char *s)
{
    unsigned char c = (unsigned char)*s;
    int32_t cp;
    if (c < 0x80) return c == ' ' || c == '\t';
    if (c != 0xc2 && c != 0xe1 && c != 0xe2 && c != 0xe3) return 0;
    int k = uni_next(s, &cp);
    return uni_space(cp) && cp != 0x85 && cp != 0x2028 && cp != 0x2029 ? k : 0;
}

struct gap { int64_t end, lines, line; };   /* where it ends, its line feeds, behind the last */

static struct gap gap_at(const char *s, int64_t n, int64_t i)
{
    struct gap g = {i, 0, i};
    for (int k; g.end < n; g.end += k) {
        k = s[g.end] == '\n' ? 1 : space_at(s + g.end);
        if (!k) break;
        if (s[g.end] == '\n') g.lines++, g.line = g.end + 1;
    }
    return g;
}

/* What a gap of white space becomes: a space; or one or two line feeds and the indentation,
 * in which only unusual spaces change. */
static void put_gap(struct buf *out, const char *s, struct gap g)
{
    if (!g.lines) {
        buf_putc(out, ' ');
        return;
    }
    buf_put(out, "\n\n", MIN(g.lines, 2));
    for (int64_t i = g.line; i < g.end; i += space_at(s + i))
        buf_putc(out, s[i] == '\t' ? '\t' : ' ');
}

int64_t tidy_space(struct tidy *t, const char *s, int64_t n, struct buf *out)
{
    int64_t places = 0, from = 0;
    bool ends = t->field && t->field->joined;
    for (int64_t i = 0; i < n;) {
        if ((unsigned char)s[i] > ' ' && (unsigned char)s[i] < 0x80) {
            i++;
            continue;
        }
        struct gap g = gap_at(s, n, i);
        bool single = g.end - i == 1 && (s[i] == ' ' || s[i] == '\n');
        bool at_end = i == 0 || g.end == n;
        if (g.end == i || (at_end && ends) || (single && !at_end)) {
            i = MAX(g.end, i + 1);
            continue;
        }
        buf_clear(&t->line);
        if (!at_end) put_gap(&t->line, s, g);
        if (t->line.n != g.end - i || memcmp(t->line.data, s + i, (size_t)t->line.n) != 0) {
            buf_put(out, s + from, i - from);
            buf_put(out, t->line.data, t->line.n);
            from = g.end;
            places++;
        }
        i = g.end;
    }
    if (places) buf_put(out, s + from, n - from);
    return places;
}
