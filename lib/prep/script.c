/* Scripts by Unicode's blocks; of what stands in them only letters count. */
#include "prep/script.h"

#include "text/unicode.h"

enum {
    LATIN, GREEK, CYRILLIC, ARMENIAN, HEBREW, ARABIC, SYRIAC, THAANA, DEVANAGARI, BENGALI,
    GURMUKHI, GUJARATI, ORIYA, TAMIL, TELUGU, KANNADA, MALAYALAM, SINHALA, THAI, LAO, TIBETAN,
    MYANMAR, GEORGIAN, HANGUL, ETHIOPIC, CHEROKEE, KHMER, MONGOLIAN, KANA, HAN, BOPOMOFO, YI,
    JAPANESE, OTHER
};
static const char *const names[] = {
    "Latin", "Greek", "Cyrillic", "Armenian", "Hebrew", "Arabic", "Syriac", "Thaana",
    "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu", "Kannada",
    "Malayalam", "Sinhala", "Thai", "Lao", "Tibetan", "Myanmar", "Georgian", "Hangul",
    "Ethiopic", "Cherokee", "Khmer", "Mongolian", "Kana", "Han", "Bopomofo", "Yi",
    "Han and kana", "other",
};
_Static_assert(OTHER + 1 == SCRIPTS && ARRAY_LEN(names) == SCRIPTS, "a name for each");

static const struct { int32_t first, last; int script; } blocks[] = {
    {0x0041, 0x024f, LATIN},     {0x0250, 0x02af, LATIN},     {0x0370, 0x03ff, GREEK},
    {0x0400, 0x052f, CYRILLIC},  {0x0530, 0x058f, ARMENIAN},  {0x0590, 0x05ff, HEBREW},
    {0x0600, 0x06ff, ARABIC},    {0x0700, 0x074f, SYRIAC},    {0x0750, 0x077f, ARABIC},
    {0x0780, 0x07bf, THAANA},    {0x0860, 0x08ff, ARABIC},    {0x0900, 0x097f, DEVANAGARI},
    {0x0980, 0x09ff, BENGALI},   {0x0a00, 0x0a7f, GURMUKHI},  {0x0a80, 0x0aff, GUJARATI},
    {0x0b00, 0x0b7f, ORIYA},     {0x0b80, 0x0bff, TAMIL},     {0x0c00, 0x0c7f, TELUGU},
    {0x0c80, 0x0cff, KANNADA},   {0x0d00, 0x0d7f, MALAYALAM}, {0x0d80, 0x0dff, SINHALA},
    {0x0e00, 0x0e7f, THAI},      {0x0e80, 0x0eff, LAO},       {0x0f00, 0x0fff, TIBETAN},
    {0x1000, 0x109f, MYANMAR},   {0x10a0, 0x10ff, GEORGIAN},  {0x1100, 0x11ff, HANGUL},
    {0x1200, 0x139f, ETHIOPIC},  {0x13a0, 0x13ff, CHEROKEE},  {0x1780, 0x17ff, KHMER},
    {0x1800, 0x18af, MONGOLIAN}, {0x1c80, 0x1c8f, CYRILLIC},  {0x1c90, 0x1cbf, GEORGIAN},
    {0x1d00, 0x1dbf, LATIN},     {0x1e00, 0x1eff, LATIN},     {0x1f00, 0x1fff, GREEK},
    {0x2c60, 0x2c7f, LATIN},     {0x2d00, 0x2d2f, GEORGIAN},  {0x2d80, 0x2ddf, ETHIOPIC},
    {0x2de0, 0x2dff, CYRILLIC},  {0x2e80, 0x2fdf, HAN},       {0x3005, 0x3007, HAN},
    {0x3040, 0x30ff, KANA},      {0x3100, 0x312f, BOPOMOFO},  {0x3130, 0x318f, HANGUL},
    {0x31f0, 0x31ff, KANA},      {0x3400, 0x9fff, HAN},       {0xa000, 0xa4cf, YI},
    {0xa640, 0xa69f, CYRILLIC},  {0xa720, 0xa7ff, LATIN},     {0xa8e0, 0xa8ff, DEVANAGARI},
    {0xa960, 0xa97f, HANGUL},    {0xab30, 0xab6f, LATIN},     {0xac00, 0xd7ff, HANGUL},
    {0xf900, 0xfaff, HAN},       {0xfb00, 0xfb06, LATIN},     {0xfb13, 0xfb17, ARMENIAN},
    {0xfb1d, 0xfb4f, HEBREW},    {0xfb50, 0xfdff, ARABIC},    {0xfe70, 0xfeff, ARABIC},
    {0xff21, 0xff5a, LATIN},     {0xff66, 0xff9f, KANA},      {0xffa0, 0xffdc, HANGUL},
    {0x20000, 0x323af, HAN},
};

static int script_of(int32_t cp)
{
    size_t low = 0, high = ARRAY_LEN(blocks);
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (cp > blocks[middle].last) low = middle + 1;
        else high = middle;
    }
    return low < ARRAY_LEN(blocks) && cp >= blocks[low].first ? blocks[low].script : OTHER;
}

static bool ascii_space(uint8_t c) { return c == ' ' || (c >= 9 && c <= 13); }

void script_count(struct script_counts *c, const char *s, int64_t *chars, int64_t *words)
{
    bool word = false;
    int64_t latin = 0, n = 0;
    while (*s) {
        int32_t cp;
        bool space;
        s += uni_next(s, &cp);
        n++;
        if (cp < 0x80) {
            space = ascii_space((uint8_t)cp);
            latin += (cp | 32) >= 'a' && (cp | 32) <= 'z';
        } else {
            space = uni_space(cp);
            if (uni_letter(cp)) {
                c->letters[script_of(cp)]++;
                c->all++;
            }
        }
        *words += !space && !word;
        word = !space;
    }
    c->letters[LATIN] += latin;
    c->all += latin;
    *chars += n;
}

int script_main(const struct script_counts *c, bool *mixed)
{
    int64_t n[SCRIPTS];
    int first = 0, second = -1;
    *mixed = false;
    if (!c->all) return -1;
    memcpy(n, c->letters, sizeof n);
    if (n[KANA] * 10 >= n[HAN] + n[KANA]) {         /* Japanese is written with both */
        n[JAPANESE] = n[HAN] + n[KANA];
        n[HAN] = n[KANA] = 0;
    }
    for (int i = 1; i < SCRIPTS; i++)
        if (n[i] > n[first]) first = i;
    for (int i = 0; i < SCRIPTS; i++)
        if (i != first && (second < 0 || n[i] > n[second])) second = i;
    *mixed = n[second] * 10 >= c->all;
    return first;
}

const char *script_name(int script) { return script < 0 ? "no letters" : names[script]; }
