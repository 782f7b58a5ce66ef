/* The regular expressions of known pre-tokenizers, scanned by hand: linear
 * time, and no engine.  Each scanner's comment is the expression itself. */
#include "text/tok.h"

enum char_class { CLASS_LETTER, CLASS_NUMBER, CLASS_SPACE, CLASS_OTHER };

static inline enum char_class class_at(const char *s, int *len)
{
    int32_t cp = (uint8_t)*s;
    *len = 1;
    if ((uint32_t)((cp | 32) - 'a') < 26) return CLASS_LETTER;
    if (cp < 0x80 && (uint32_t)(cp - '0') < 10) return CLASS_NUMBER;
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13) ? CLASS_SPACE : CLASS_OTHER;
    *len = uni_next(s, &cp);
    if (uni_letter(cp)) return CLASS_LETTER;
    if (uni_number(cp)) return CLASS_NUMBER;
    return uni_space(cp) ? CLASS_SPACE : CLASS_OTHER;
}

/* End of the run of one class that goes on at `at`. */
static int64_t class_run(const char *s, int64_t n, int64_t at, enum char_class c)
{
    int len;
    while (at < n && class_at(s + at, &len) == c) at += len;
    return at;
}

/* 's|'t|'re|'ve|'m|'ll|'d: the length, or 0.  When case is ignored, U+017F is
 * an s too. */
static int contraction(const char *s, int64_t n, bool fold)
{
    if (n < 2 || s[0] != '\'') return 0;
    if (fold && n >= 3 && memcmp(s + 1, "\xc5\xbf", 2) == 0) return 3;
    char a = s[1], b = n > 2 ? s[2] : 0;
    if (fold && a >= 'A' && a <= 'Z') a = (char)(a + 32);
    if (fold && b >= 'A' && b <= 'Z') b = (char)(b + 32);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if ((a == 'r' || a == 'v') && b == 'e') return 3;
    return a == 'l' && b == 'l' ? 3 : 0;
}

/* \s+(?!\S)|\s+: spaces give their last one to the word that follows. */
static int64_t space_run(const char *s, int64_t n, int64_t at)
{
    int len = 0, last = 0;
    int64_t end = at;
    while (end < n && class_at(s + end, &len) == CLASS_SPACE) end += len, last = len;
    return end < n && end - last > at ? end - last : end;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
int64_t find_gpt2(const struct split_step *p, const char *s, int64_t n, int64_t at, bool *match)
{
    (void)p;
    *match = true;
    int len = contraction(s + at, n - at, false);
    if (len) return at + len;
    int64_t from = at;
    enum char_class c = class_at(s + at, &len);
    if (s[at] == ' ' && at + 1 < n) c = class_at(s + at + 1, &len), from = at + 1;
    return c == CLASS_SPACE ? space_run(s, n, at) : class_run(s, n, from, c);
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}|
 *  ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static int64_t scan_tiktoken(const char *s, int64_t n, int64_t at, int digits)
{
    int len = contraction(s + at, n - at, true), next_len;
    if (len) return at + len;
    enum char_class c = class_at(s + at, &len), next = CLASS_SPACE;
    bool newline = s[at] == '\r' || s[at] == '\n';
    if (at + len < n) next = class_at(s + at + len, &next_len);
    if (c == CLASS_LETTER) return class_run(s, n, at, c);
    if (c != CLASS_NUMBER && !newline && next == CLASS_LETTER)
        return class_run(s, n, at + len, CLASS_LETTER);
    if (c == CLASS_NUMBER) {
        for (int k = 0; k < digits && at < n && class_at(s + at, &len) == CLASS_NUMBER; k++)
            at += len;
        return at;
    }
    if (c == CLASS_OTHER || (s[at] == ' ' && next == CLASS_OTHER)) {
        at = class_run(s, n, at + len, CLASS_OTHER);
        while (at < n && (s[at] == '\r' || s[at] == '\n')) at++;
        return at;
    }
    int64_t after_newline = -1, end = at;
    while (end < n && class_at(s + end, &len) == CLASS_SPACE) {
        if (s[end] == '\r' || s[end] == '\n') after_newline = end + 1;
        end += len;
    }
    return after_newline >= 0 ? after_newline : space_run(s, n, at);
}

static int64_t find_llama3(const struct split_step *p, const char *s, int64_t n, int64_t at,
                           bool *match)
{
    (void)p;
    *match = true;
    return scan_tiktoken(s, n, at, 3);
}

static int64_t find_qwen2(const struct split_step *p, const char *s, int64_t n, int64_t at,
                          bool *match)
{
    (void)p;
    *match = true;
    return scan_tiktoken(s, n, at, 1);
}

/* One character of a class, or the gap up to the next one. */
static int64_t one_or_gap(bool (*is)(int32_t), const char *s, int64_t n, int64_t at, bool *match)
{
    int32_t cp;
    int len = uni_next(s + at, &cp);
    *match = is(cp);
    for (at += len; !*match && at < n; at += len) {
        len = uni_next(s + at, &cp);
        if (is(cp)) break;
    }
    return at;
}

/* \p{N} */
int64_t find_number(const struct split_step *p, const char *s, int64_t n, int64_t at, bool *match)
{
    (void)p;
    return one_or_gap(uni_number, s, n, at, match);
}

/* \p{N}{1,3} */
static int64_t find_number3(const struct split_step *p, const char *s, int64_t n, int64_t at,
                            bool *match)
{
    int64_t end = find_number(p, s, n, at, match);
    bool more = *match;
    for (int k = 1; k < 3 && more && end < n; k++) {
        int64_t next = find_number(p, s, n, end, &more);
        if (more) end = next;
    }
    return end;
}

static bool three_digits(const char *s, int64_t n)
{
    if (n < 3) return false;
    for (int k = 0; k < 3; k++)
        if (s[k] < '0' || s[k] > '9') return false;
    return true;
}

/* [0-9][0-9][0-9] */
static int64_t find_three(const struct split_step *p, const char *s, int64_t n, int64_t at,
                          bool *match)
{
    (void)p;
    *match = three_digits(s + at, n - at);
    if (*match) return at + 3;
    for (at++; at < n && !three_digits(s + at, n - at);) at++;
    return at;
}

int64_t find_space(const struct split_step *p, const char *s, int64_t n, int64_t at, bool *match)
{
    (void)p;
    return one_or_gap(uni_space, s, n, at, match);
}

int64_t find_punct(const struct split_step *p, const char *s, int64_t n, int64_t at, bool *match)
{
    (void)p;
    return one_or_gap(uni_punct, s, n, at, match);
}

/* \s+ */
static int64_t find_spaces(const struct split_step *p, const char *s, int64_t n, int64_t at,
                           bool *match)
{
    int64_t end = find_space(p, s, n, at, match);
    return *match ? class_run(s, n, end, CLASS_SPACE) : end;
}

static int word_class(const char *s, int *len)
{
    int32_t cp;
    *len = uni_next(s, &cp);
    return uni_space(cp) ? 0 : uni_word(cp) ? 1 : 2;
}

/* \w+|[^\w\s]+ */
int64_t find_words(const struct split_step *p, const char *s, int64_t n, int64_t at, bool *match)
{
    (void)p;
    int len, c = word_class(s + at, &len);
    *match = c != 0;
    for (at += len; at < n && word_class(s + at, &len) == c;) at += len;
    return at;
}

static bool bloom_char(const char *s, int *len)
{
    static const int32_t none[] = {'(', '|', '.', ',', '!', '?', ')', 0x2026, 0x3002, 0xff0c,
                                   0x3001, 0x964, 0x6d4, 0x60c};
    int32_t cp;
    *len = uni_next(s, &cp);
    for (size_t i = 0; i < ARRAY_LEN(none); i++)
        if (cp == none[i]) return false;
    return !uni_space(cp);
}

/*  ?[^(\s|[.,!?…。，、।۔،])]+ */
static int64_t find_bloom(const struct split_step *p, const char *s, int64_t n, int64_t at,
                          bool *match)
{
    (void)p;
    int len;
    int64_t from = at + (s[at] == ' ' && at + 1 < n);
    *match = bloom_char(s + from, &len);
    if (*match) {
        for (at = from; at < n && bloom_char(s + at, &len);) at += len;
        return at;
    }
    for (bloom_char(s + at, &len), at += len; at < n; at += len) {
        if (bloom_char(s + at, &len)) break;
        int after;
        if (s[at] == ' ' && at + 1 < n && bloom_char(s + at + 1, &after)) break;
    }
    return at;
}

/*  {2,}: two or more spaces */
static int64_t find_spaces2(const struct split_step *p, const char *s, int64_t n, int64_t at,
                            bool *match)
{
    (void)p;
    int64_t end = at;
    while (end < n && s[end] == ' ') end++;
    *match = end - at >= 2;
    if (*match) return end;
    const char *hit = uni_find(s + end, n - end, "  ", 2);
    return hit ? hit - s : n;
}

/* A literal text. */
int64_t find_literal(const struct split_step *p, const char *s, int64_t n, int64_t at,
                     bool *match)
{
    const char *hit = uni_find(s + at, n - at, p->text, p->n_text);
    *match = hit == s + at;
    if (*match) return at + p->n_text;
    return hit ? hit - s : n;
}

/* n_text characters, or what is left. */
int64_t find_length(const struct split_step *p, const char *s, int64_t n, int64_t at, bool *match)
{
    int32_t cp;
    *match = true;
    for (int64_t k = 0; k < p->n_text && at < n; k++) at += uni_next(s + at, &cp);
    return at;
}

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3 CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QWEN2 CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* The same language as LLAMA3, as tiktoken writes it. */
#define CL100K CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}" \
    "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
#define BLOOM " ?[^(\\s|[.,!?\xe2\x80\xa6\xe3\x80\x82\xef\xbc\x8c" \
    "\xe3\x80\x81\xe0\xa5\xa4\xdb\x94\xd8\x8c])]+"

static const struct { const char *regex; find_fn *find; } split_regexes[] = {
    {GPT2, find_gpt2},
    {LLAMA3, find_llama3},
    {CL100K, find_llama3},
    {QWEN2, find_qwen2},
    {"\\p{N}", find_number},
    {"\\p{N}{1,3}", find_number3},
    {"[0-9][0-9][0-9]", find_three},
    {"\\s+", find_spaces},
    {" {2,}", find_spaces2},
    {"\\s", find_space},
    {"\\w+|[^\\w\\s]+", find_words},
    {BLOOM, find_bloom},
};

find_fn *split_regex(const char *regex)
{
    for (size_t i = 0; i < ARRAY_LEN(split_regexes); i++)
        if (!strcmp(regex, split_regexes[i].regex)) return split_regexes[i].find;
    return NULL;
}

/* The first row of several equal ones is the one that is written. */
static const struct split_pre split_pres[] = {
    {"gpt-2", {GPT2}, false, false},
    {"smollm", {"\\p{N}", GPT2}, false, false},
    {"llama-bpe", {LLAMA3}, false, true},
    {"dbrx", {LLAMA3}, false, false},
    {"qwen2", {QWEN2}, true, false},
    {"llama3", {LLAMA3}, false, true},
    {"llama-v3", {LLAMA3}, false, true},
    {"smaug-bpe", {LLAMA3}, false, false},
    {"phi-2", {GPT2}, false, false},
    {"olmo", {GPT2}, false, false},
    {"mpt", {GPT2}, false, false},
    {"roberta-bpe", {GPT2}, false, false},
    {"jina-es", {GPT2}, false, false},
    {"jina-de", {GPT2}, false, false},
    {"starcoder", {"\\p{N}", GPT2}, false, false},
    {"refact", {"\\p{N}", GPT2}, false, false},
    {"command-r", {"\\p{N}", GPT2}, false, false},
    {"codeshell", {"\\p{N}", GPT2}, false, false},
};

const struct split_pre *split_pre_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(split_pres); i++)
        if (!strcmp(name, split_pres[i].name)) return &split_pres[i];
    return NULL;
}

const char *split_pre_name(const struct tokenizer *t)
{
    for (size_t i = 0; i < ARRAY_LEN(split_pres); i++) {
        const struct split_pre *p = &split_pres[i];
        int n = p->regex[1] ? 2 : 1;
        bool same = t->n_split == n + 1 && t->split[n].kind == SPLIT_BYTES &&
                    t->bpe.ignore_merges == p->ignore_merges;
        for (int k = 0; k < n && same; k++)
            same = t->split[k].kind == SPLIT_FIND && t->split[k].how == HOW_ISOLATED &&
                   t->split[k].find == split_regex(p->regex[k]);
        if (same) return p->name;
    }
    return NULL;
}
