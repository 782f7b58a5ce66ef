/* UTF-8 that was taken for Windows-1252 or Latin-1 and encoded again shows as "Ã©" for é: the
 * characters are bytes which in a row are UTF-8 once more.  Such a row is repaired only where
 * it makes a letter or mark of a usual script: "É»" is UTF-8 too, and means what it says. */
#include "prep/damage.h"

#include "text/unicode.h"

static const int32_t windows[32] = {
    0x20ac, 0,      0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021, 0x2c6,  0x2030, 0x160,
    0x2039, 0x152,  0,      0x17d,  0,      0,      0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
    0x2013, 0x2014, 0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0,      0x17e,  0x178};

/* The byte that a character stands for, or -1. */
static int byte_of(int32_t cp)
{
    if (cp < 0x100) return cp;
    for (int i = 0; i < 32 && cp < 0x2123; i++)
        if (windows[i] == cp) return 0x80 + i;
    return -1;
}

/* What a first byte announces, which characters are believed of it, and how many such must
 * follow each other. */
static const struct { int first, last; int32_t lo, hi; int least; } believed[] = {
    {0xc2, 0xc3, 0x80, 0xff, 1},        {0xc4, 0xc5, 0x100, 0x17f, 1},
    {0xc6, 0xc6, 0x192, 0x192, 1},      {0xcb, 0xcb, 0x2c6, 0x2dd, 1},
    {0xce, 0xcf, 0x386, 0x3ce, 2},      {0xd0, 0xd1, 0x400, 0x45f, 2},
    {0xd7, 0xd7, 0x5d0, 0x5ea, 2},      {0xd8, 0xd9, 0x621, 0x669, 2},
    {0xe0, 0xe0, 0x900, 0xe7f, 1},      {0xe1, 0xe1, 0x1e00, 0x1eff, 1},
    {0xe2, 0xe2, 0x2010, 0x203a, 1},    {0xe2, 0xe2, 0x20a0, 0x27bf, 1},
    {0xe3, 0xe3, 0x3000, 0x30ff, 1},    {0xe4, 0xe9, 0x4e00, 0x9fff, 1},
    {0xea, 0xed, 0xac00, 0xd7a3, 1},    {0xef, 0xef, 0xfe0f, 0xfe0f, 1},
    {0xef, 0xef, 0xff01, 0xff60, 1},    {0xf0, 0xf0, 0x1f000, 0x1faff, 1},
    {0xf0, 0xf0, 0x20000, 0x2ffff, 1},
};

/* Bytes of text that are one character encoded twice, 0 = none. */
static int64_t once_more(const char *s, int64_t n, int32_t *cp, int *least)
{
    int32_t c, value;
    int64_t i = uni_next(s, &c);
    int first = c < 0x100 ? c : 0, more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1, byte = 0;
    if (first < 0xc2 || first > 0xf4) return 0;
    value = first & (0x3f >> more);
    for (int k = 0; k < more; k++) {
        if (i >= n || (unsigned char)s[i] < 0x80) return 0;
        i += uni_next(s + i, &c);
        byte = byte_of(c);
        if (byte < 0x80 || byte > 0xbf) return 0;
        value = value << 6 | (byte & 63);
    }
    *cp = value;
    /* A quote behind a capital letter is just that, unless the word goes on. */
    bool quote = first < 0xcc && (byte == 0xab || byte == 0xbb || byte == 0x84 || byte == 0x85 ||
                               (byte >= 0x91 && byte <= 0x97));
    bool on = i < n && ((s[i] >= 'a' && s[i] <= 'z') || (s[i] & 0x80));
    if (quote && !on) return 0;
    for (size_t k = 0; k < ARRAY_LEN(believed); k++) {
        *least = believed[k].least;
        if (first >= believed[k].first && first <= believed[k].last && value >= believed[k].lo &&
            value <= believed[k].hi)
            return i;
    }
    return 0;
}

/* The length of what starts at s and is believed, as many characters as it needs. */
static int64_t twice_at(const char *s, int64_t n, int32_t *cp)
{
    int32_t next;
    int least = 1, other;
    int64_t k = once_more(s, n, cp, &least);
    if (k && least > 1 && !(k < n && once_more(s + k, n - k, &next, &other) && other == least))
        return -k;
    return k;
}

static bool is_accent(int32_t cp) { return cp >= 0xc0 && cp <= 0xff && cp != 0xd7 && cp != 0xf7; }

static void find_once(const char *s, int64_t n, struct damage *d, struct buf *out)
{
    enum { RUN = 5 };                   /* accents in a row that no language has */
    int64_t from = 0, run = 0, two = 0;
    *d = (struct damage){.at = -1};
    for (int64_t i = 0; i < n;) {
        int32_t cp, with = 0;
        if ((unsigned char)s[i] < 0x80) {
            run = 0;
            i++;
            continue;
        }
        int64_t k = uni_next(s + i, &cp), was = d->twice + d->control + d->lost;
        int64_t twice = cp >= 0xc2 && cp <= 0xf4 ? twice_at(s + i, n - i, &with) : 0;
        /* The last one of several has none behind it. */
        if (twice < 0) twice = two == i && i > 0 ? -twice : 0;
        if (twice > 0) {
            d->twice++;
            k = twice;
            two = i + k;
        } else {
            with = 0;
        }
        if (twice <= 0 && cp >= 0x80 && cp < 0xa0) {
            with = windows[cp - 0x80];
            d->control += with > 0;
        }
        run = is_accent(cp) && !with ? run + 1 : 0;
        d->lost += cp == 0xfffd || run == RUN;
        if (d->at < 0 && d->twice + d->control + d->lost > was) d->at = i;
        if (with && out) {
            buf_put(out, s + from, i - from);
            uni_append(out, with);
            from = i + k;
        }
        i += k;
    }
    if (out && d->twice + d->control > 0) buf_put(out, s + from, n - from);
}

void damage_find(const char *s, int64_t n, struct damage *d, struct buf *out)
{
    enum { ROUNDS = 3 };
    find_once(s, n, d, out);
    if (!out || !d->twice) return;
    /* What was encoded three times is encoded twice now. */
    struct buf again;
    buf_init(&again, out->mem);
    for (int round = 1; round < ROUNDS && !out->oom; round++) {
        struct damage more;
        buf_clear(&again);
        find_once(out->data, out->n, &more, &again);
        if (!more.twice && !more.control) break;
        buf_clear(out);
        buf_put(out, again.data, again.n);
        out->oom |= again.oom;
    }
    buf_free(&again);
}
