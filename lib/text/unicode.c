/* Characters: classes, case, normal forms, and GPT-2's alphabet of bytes. */
#include "text/text.h"
#include "text/unicode.h"

#include <utf8proc.h>

int uni_put(char out[4], int32_t cp)
{
    uint32_t c = (uint32_t)cp;
    if (c < 0x80) return out[0] = (char)c, 1;
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

void uni_append(struct buf *b, int32_t cp)
{
    char bytes[4];
    int n = uni_put(bytes, cp);
    buf_put(b, bytes, n);
}

static bool in_categories(int32_t cp, uint32_t set)
{
    return set >> utf8proc_category(cp) & 1;
}

#define CATEGORY(c) (1u << UTF8PROC_CATEGORY_##c)
#define LETTERS (CATEGORY(LU) | CATEGORY(LL) | CATEGORY(LT) | CATEGORY(LM) | CATEGORY(LO))
#define NUMBERS (CATEGORY(ND) | CATEGORY(NL) | CATEGORY(NO))
#define MARKS (CATEGORY(MN) | CATEGORY(MC) | CATEGORY(ME))
#define PUNCTUATION (CATEGORY(PC) | CATEGORY(PD) | CATEGORY(PS) | CATEGORY(PE) | CATEGORY(PI) | \
                     CATEGORY(PF) | CATEGORY(PO))

bool uni_letter(int32_t cp)
{
    if (cp < 0x80) return (uint32_t)((cp | 32) - 'a') < 26;
    return in_categories(cp, LETTERS);
}

bool uni_number(int32_t cp)
{
    if (cp < 0x80) return (uint32_t)(cp - '0') < 10;
    return in_categories(cp, NUMBERS);
}

bool uni_space(int32_t cp)
{
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13);
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

/* Alphabetic, marks, decimal digits, connectors and joiners (UTS 18, annex C).
 * Letters in circles and squares are alphabetic without being \p{L}. */
bool uni_word(int32_t cp)
{
    if (cp == 0x200c || cp == 0x200d) return true;
    if ((cp >= 0x24b6 && cp <= 0x24e9) || (cp >= 0x1f130 && cp <= 0x1f149) ||
        (cp >= 0x1f150 && cp <= 0x1f169) || (cp >= 0x1f170 && cp <= 0x1f189))
        return true;
    return in_categories(cp, LETTERS | MARKS | CATEGORY(ND) | CATEGORY(NL) | CATEGORY(PC));
}

bool uni_punct(int32_t cp)
{
    if (cp < 0x80) return cp > ' ' && cp < 0x7f && !uni_letter(cp) && !uni_number(cp);
    return in_categories(cp, PUNCTUATION);
}

bool uni_mark(int32_t cp)
{
    return in_categories(cp, MARKS);
}

bool uni_mark_nonspacing(int32_t cp)
{
    return cp >= 0x300 && in_categories(cp, CATEGORY(MN));
}

bool uni_control(int32_t cp)
{
    if (cp == '\t' || cp == '\n' || cp == '\r') return false;
    return in_categories(cp, CATEGORY(CC) | CATEGORY(CF) | CATEGORY(CO));
}

/* The ranges of BERT, in which 2b820-2b91f is missing. */
bool uni_han(int32_t cp)
{
    static const int32_t ranges[][2] = {
        {0x3400, 0x4dbf}, {0x4e00, 0x9fff}, {0xf900, 0xfaff}, {0x20000, 0x2a6df},
        {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f}, {0x2b920, 0x2ceaf}, {0x2f800, 0x2fa1f},
    };
    if (cp < 0x3400) return false;
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        if (cp >= ranges[i][0] && cp <= ranges[i][1]) return true;
    return false;
}

void uni_lower(struct buf *out, int32_t cp)
{
    if (cp < 0x80) {
        buf_putc(out, (char)((uint32_t)(cp - 'A') < 26 ? cp + 32 : cp));
        return;
    }
    /* The only character whose full lower case differs from the simple one. */
    if (cp == 0x130) {
        buf_puts(out, "i\xcc\x87");
        return;
    }
    uni_append(out, utf8proc_tolower(cp));
}

/* Characters whose full upper case is several characters; those of Greek with
 * iota and of Armenian ligatures are left as they are. */
static const struct { int32_t cp; const char *upper, *title; } full_upper[] = {
    {0xdf, "SS", "Ss"}, {0x149, "\xca\xbcN", "\xca\xbcN"}, {0x1f0, "J\xcc\x8c", "J\xcc\x8c"},
    {0xfb00, "FF", "Ff"}, {0xfb01, "FI", "Fi"}, {0xfb02, "FL", "Fl"}, {0xfb03, "FFI", "Ffi"},
    {0xfb04, "FFL", "Ffl"}, {0xfb05, "ST", "St"}, {0xfb06, "ST", "St"},
};

void uni_upper(struct buf *out, int32_t cp, bool title)
{
    if (cp < 0x80) {
        buf_putc(out, (char)((uint32_t)(cp - 'a') < 26 ? cp - 32 : cp));
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(full_upper); i++) {
        if (cp != full_upper[i].cp) continue;
        buf_puts(out, title ? full_upper[i].title : full_upper[i].upper);
        return;
    }
    uni_append(out, title ? utf8proc_totitle(cp) : utf8proc_toupper(cp));
}

bool uni_is_upper(int32_t cp, bool title)
{
    return in_categories(cp, CATEGORY(LU) | (title ? CATEGORY(LT) : 0));
}

bool uni_is_lower(int32_t cp)
{
    return in_categories(cp, CATEGORY(LL)) || cp == 0xaa || cp == 0xba;
}

bool uni_decimal(int32_t cp)
{
    return in_categories(cp, CATEGORY(ND));
}

bool uni_printable(int32_t cp)
{
    return cp == ' ' || !in_categories(cp, CATEGORY(CC) | CATEGORY(CF) | CATEGORY(CS) |
                                       CATEGORY(CO) | CATEGORY(CN) | CATEGORY(ZL) |
                                       CATEGORY(ZP) | CATEGORY(ZS));
}

/* A character on its way to a normal form; `change` as uni_normalize gives. */
struct mark { int32_t cp, change; };

static int combining(int32_t cp)
{
    return cp < 0x300 ? 0 : utf8proc_get_property(cp)->combining_class;
}

/* Stable sort by combining class of a run of marks: insertion for the usual
 * few, counting for a hostile many.  `tmp` has room for n. */
static void sort_marks(struct mark *v, int64_t n, struct mark *tmp)
{
    if (n < 16) {
        for (int64_t i = 1; i < n; i++) {
            struct mark x = v[i];
            int key = combining(x.cp);
            int64_t j = i;
            for (; j > 0 && combining(v[j - 1].cp) > key; j--) v[j] = v[j - 1];
            v[j] = x;
        }
        return;
    }
    int64_t start[257] = {0};
    for (int64_t i = 0; i < n; i++) start[combining(v[i].cp) + 1]++;
    for (int k = 0; k < 256; k++) start[k + 1] += start[k];
    for (int64_t i = 0; i < n; i++) tmp[start[combining(v[i].cp)]++] = v[i];
    memcpy(v, tmp, (size_t)n * sizeof *v);
}

static void order_marks(struct mark *v, int64_t n, struct mark *tmp)
{
    for (int64_t i = 0; i < n;) {
        int64_t end = i;
        while (end < n && combining(v[end].cp) != 0) end++;
        if (end - i > 1) sort_marks(v + i, end - i, tmp);
        i = end + 1;
    }
}

/* The character that two compose to, or -1. */
static int32_t composed(int32_t a, int32_t b)
{
    if (b < 0x300) return -1;
    int32_t two[2] = {a, b};
    utf8proc_ssize_t n = utf8proc_normalize_utf32(two, 2, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    return n == 1 ? two[0] : -1;
}

/* Canonical composition (the Unicode Standard, section 3.11, D117): a character
 * joins the last starter unless one in between has its class or a higher one. */
static int64_t compose_marks(struct mark *v, int64_t n)
{
    int64_t starter = -1, out = 0;
    int last = -1;
    for (int64_t i = 0; i < n; i++) {
        int class = combining(v[i].cp);
        int32_t joined = starter >= 0 && last < class ? composed(v[starter].cp, v[i].cp) : -1;
        if (joined >= 0) {
            v[starter].cp = joined;
            v[starter].change += v[i].change - 1;
            continue;
        }
        if (class == 0) starter = out;
        last = class == 0 ? -1 : class;
        v[out++] = v[i];
    }
    return out;
}

/* The longest decomposition, that of U+FDFA, has 18 characters. */
enum { DECOMPOSED_MAX = 32 };

/* Appends the decomposition of a character, as struct mark. */
static void decompose(struct buf *marks, int32_t cp, utf8proc_option_t options)
{
    int32_t parts[DECOMPOSED_MAX];
    struct mark x[DECOMPOSED_MAX];
    int boundclass = 0;
    int64_t k = cp < 0x80 ? 0 : utf8proc_decompose_char(cp, parts, DECOMPOSED_MAX, options,
                                                        &boundclass);
    if (k <= 0 || k > DECOMPOSED_MAX) parts[0] = cp, k = 1;
    for (int64_t j = 0; j < k; j++) x[j] = (struct mark){parts[j], j > 0};
    buf_put(marks, x, k * (int64_t)sizeof *x);
}

int uni_normalize(struct mem *m, enum uni_form form, const char *s, int64_t n, struct buf *out,
                  struct ids *changes)
{
    struct buf marks, tmp;
    buf_init(&marks, m);
    buf_init(&tmp, m);
    int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    if (form == UNI_NFKC || form == UNI_NFKD) options |= UTF8PROC_COMPAT;
    for (int64_t i = 0; i < n && !marks.oom;) {
        int32_t cp;
        i += uni_next(s + i, &cp);
        decompose(&marks, cp, (utf8proc_option_t)options);
    }
    buf_put(&tmp, marks.data, marks.n);
    int rc = buf_check(&marks) < 0 ? PEFT_ENOMEM : buf_check(&tmp);
    if (rc == PEFT_OK) {
        struct mark *v = (struct mark *)(void *)marks.data;
        int64_t count = marks.n / (int64_t)sizeof *v;
        order_marks(v, count, (struct mark *)(void *)tmp.data);
        if (form == UNI_NFC || form == UNI_NFKC) count = compose_marks(v, count);
        for (int64_t i = 0; i < count; i++) uni_append(out, v[i].cp);
        for (int64_t i = 0; changes && i < count; i++) ids_push(changes, v[i].change);
        rc = buf_check(out);
        if (rc == PEFT_OK && changes) rc = ids_check(changes);
    }
    buf_free(&marks);
    buf_free(&tmp);
    return rc;
}

/* Length of the valid character at s, or 0 and in *bad the length of the part
 * that can begin no character. */
static int valid_char(const uint8_t *s, int64_t n, int *bad)
{
    static const struct { uint8_t lo, hi, first, last; int len; } rows[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    *bad = 1;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (s[0] < rows[i].lo || s[0] > rows[i].hi) continue;
        for (int k = 1; k < rows[i].len; k++) {
            uint8_t lo = k == 1 ? rows[i].first : 0x80, hi = k == 1 ? rows[i].last : 0xbf;
            if (k >= n || s[k] < lo || s[k] > hi) return *bad = k, 0;
        }
        return rows[i].len;
    }
    return 0;
}

void uni_append_lossy(struct buf *out, const char *s, int64_t n)
{
    int64_t start = 0, i = 0;
    while (i < n) {
        int bad, len = valid_char((const uint8_t *)s + i, n - i, &bad);
        if (len) {
            i += len;
            continue;
        }
        buf_put(out, s + start, i - start);
        buf_puts(out, "\xef\xbf\xbd");
        start = i += bad;
    }
    buf_put(out, s + start, n - start);
}

int64_t uni_grapheme(const char *s, int64_t n)
{
    int32_t cp, next, state = 0;
    int64_t at = uni_next(s, &cp);
    for (; at < n; cp = next) {
        int len = uni_next(s + at, &next);
        if (utf8proc_grapheme_break_stateful(cp, next, &state)) break;
        at += len;
    }
    return at;
}

const char *uni_find(const char *s, int64_t n, const char *what, int64_t n_what)
{
    while (n_what > 0 && n >= n_what) {
        const char *hit = memchr(s, what[0], (size_t)(n - n_what + 1));
        if (!hit || memcmp(hit, what, (size_t)n_what) == 0) return hit;
        n -= hit + 1 - s;
        s = hit + 1;
    }
    return NULL;
}

int32_t uni_of_byte(uint8_t b)
{
    if ((b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b != 0xad)) return b;
    if (b <= 0x20) return 0x100 + b;
    if (b <= 0xa0) return 0x100 + 33 + (b - 0x7f);
    return 0x100 + 67;
}

int uni_to_byte(int32_t cp)
{
    if (cp < 0x100) return cp >= 0 && uni_of_byte((uint8_t)cp) == cp ? cp : -1;
    if (cp <= 0x120) return cp - 0x100;
    if (cp <= 0x142) return cp - 0x100 - 33 + 0x7f;
    return cp == 0x143 ? 0xad : -1;
}
