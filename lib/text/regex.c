/* Regular expressions that split.c has no scanner for.  The only door to PCRE2,
 * which is there if the library was built with it (-DPEFT_PCRE2).
 *
 * tokenizer.json's expressions are Oniguruma's, in Ruby's syntax.  Here they
 * are rewritten where PCRE2 means something else by the same text (\s, \w, \b,
 * \h, ^ and $, scripts), and refused where it cannot say the same.  Matching
 * has limits, so that a hostile expression ends with an error. */
#include "text/tok.h"

#ifdef PEFT_PCRE2
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Every try counts against the first limit; memory for backtracking is in KiB. */
enum { PATTERN_MAX = 1 << 16, TRIES_MAX = 20000000, NESTED_MAX = 1000000, HEAP_MAX_KIB = 65536 };

static int refuse(const char *pattern, const char *what, int64_t n)
{
    return fail(PEFT_EUNSUPPORTED, "tokenizer.json: the expression \"%.100s\" uses \"%.*s\", which "
                "only Oniguruma knows or reads differently", pattern, (int)MIN(n, 20), what);
}

struct regex {
    struct regex *next;
    pcre2_general_context *memory;
    pcre2_code *code;
    pcre2_match_context *limits;
};

/* Members of classes: White_Space, all others, and the word characters of UTS 18
 * with Latin 1's fractions and superscripts, which Oniguruma counts in. */
#define SPACES "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}" \
    "\\x{202f}\\x{205f}\\x{3000}"
#define NO_SPACES "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}" \
    "\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}" \
    "\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
#define WORDS "\\p{L}\\p{M}\\p{Nl}\\p{Nd}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}" \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define EDGE(in, out) "(?:(?<=[" in "])(?![" out "])|(?<![" in "])(?=[" out "]))"

static const struct { char letter; const char *outside, *inside; } escapes[] = {
    {'s', "[" SPACES "]", SPACES}, {'S', "[^" SPACES "]", NO_SPACES},
    {'w', "[" WORDS "]", WORDS}, {'W', "[^" WORDS "]", NULL},
    {'b', EDGE(WORDS, WORDS), "\\x{8}"},
    {'B', "(?!" EDGE(WORDS, WORDS) ")", NULL},
    {'h', "[0-9A-Fa-f]", "0-9A-Fa-f"}, {'H', "[^0-9A-Fa-f]", NULL},
    {'d', "\\p{Nd}", "\\p{Nd}"}, {'D', "\\P{Nd}", "\\P{Nd}"},
    {'v', "\\x{b}", "\\x{b}"}, {'n', "\\n", "\\n"}, {'r', "\\r", "\\r"}, {'t', "\\t", "\\t"},
    {'f', "\\f", "\\f"}, {'a', "\\a", "\\a"}, {'e', "\\e", "\\e"}, {'A', "\\A", NULL},
    {'z', "\\z", NULL}, {'Z', "\\Z", NULL}, {'G', "\\G", NULL}, {'R', "\\R", NULL},
    {'X', "\\X", NULL}, {'k', "\\k", NULL}, {'x', "\\x", "\\x"},
};

/* \p{...}: a category of one or two letters as it is, else a script. */
static int64_t put_property(struct buf *out, const char *s)
{
    const char *name = s + 3, *end = s[2] == '{' ? strchr(s, '}') : NULL;
    bool no = end && *name == '^';
    name += no;
    if (!end || end - name < 1 || end - name > 40) return 0;
    buf_printf(out, "\\%c{", no == (s[1] == 'p') ? 'P' : 'p');
#if PCRE2_MAJOR > 10 || PCRE2_MINOR >= 40
    if (end - name > 2 && strncmp(name, "Any}", 4)) buf_puts(out, "sc:");
#endif
    buf_put(out, name, end + 1 - name);
    return end + 1 - s;
}

/* Rewrites what begins with a backslash; its length, or 0 = refused. */
static int64_t put_escape(struct buf *out, const char *s, bool inside)
{
    char c = s[1];
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!c) return 0;
    if (c == 'p' || c == 'P') return put_property(out, s);
    if (c == 'u' && strspn(s + 2, "0123456789abcdefABCDEF") >= 4) {
        buf_printf(out, "\\x{%.4s}", s + 2);
        return 6;
    }
    for (size_t i = 0; i < ARRAY_LEN(escapes) && letter; i++) {
        const char *to = inside ? escapes[i].inside : escapes[i].outside;
        if (c != escapes[i].letter || !to) continue;
        buf_puts(out, to);
        return 2;
    }
    if (letter) return 0;
    buf_put(out, s, 2);
    return 2;
}

/* What follows "(?": groups, looks around, and the options i and x. */
static bool group_known(const char *s)
{
    static const char *const known[] = {":", "=", "!", ">", "<=", "<!", "#"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (!strncmp(s, known[i], strlen(known[i]))) return true;
    if (*s == '<') return (s[1] | 32) >= 'a' && (s[1] | 32) <= 'z';
    size_t n = strspn(s, "ix-");
    return n > 0 && (s[n] == ')' || s[n] == ':');
}

static bool quantifier_known(const char *s)
{
    size_t n = strspn(s + 1, "0123456789,");
    return s[1] != ',' && !(n > 0 && s[n + 1] == '}' && s[n + 2] == '+');
}

static int rewrite(const char *pattern, struct buf *out)
{
    bool inside = false;
    int64_t first = 0;          /* a "]" here is a member of the class */
    for (int64_t i = 0; pattern[i];) {
        const char *s = pattern + i;
        int64_t len = 1;
        bool known = true;
        if (*s == '\\') known = (len = put_escape(out, s, inside)) > 0;
        else if (inside) known = *s != '[' && strncmp(s, "&&", 2) != 0;
        else if (*s == '(') known = s[1] != '*' && (s[1] != '?' || group_known(s + 2));
        else if (*s == '{') known = quantifier_known(s);
        if (!known) return refuse(pattern, s, *s == '\\' || inside ? 2 : 4);
        if (*s != '\\') buf_putc(out, *s);
        if (!inside && *s == '[') {
            inside = true;
            first = i + 1 + (s[1] == '^');
            if (s[1] == '^') buf_putc(out, '^'), len = 2;
        } else if (inside && *s == ']' && i > first) {
            inside = false;
        } else if (inside && *s == ']') {
            return refuse(pattern, "[]", 2);
        }
        i += len;
    }
    return buf_check(out);
}

static void *pcre_alloc(size_t n, void *mem)
{
    return n <= INT64_MAX ? mem_alloc(mem, (int64_t)n) : NULL;
}

static void pcre_free(void *p, void *mem)
{
    mem_free(mem, p);
}

static int compile(struct regex *r, const char *pattern, const char *text, int64_t n)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_compile_context *c = pcre2_compile_context_create(r->memory);
    if (!c) return fail(PEFT_ENOMEM, "out of memory for an expression");
    pcre2_set_newline(c, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(c, 64);
    r->code = pcre2_compile((PCRE2_SPTR)text, (size_t)n, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE |
                            PCRE2_NEVER_BACKSLASH_C, &code, &at, c);
    pcre2_compile_context_free(c);
    if (r->code) return PEFT_OK;
    if (code == 121) return fail(PEFT_ENOMEM, "out of memory for an expression");
    char message[120] = "";
    pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
    return fail(PEFT_EUNSUPPORTED, "tokenizer.json: the expression \"%.100s\", as \"%.100s\": %s "
                "at offset %lld", pattern, text, message, (long long)at);
}

int regex_compile(struct tokenizer *t, const char *pattern, const struct regex **out)
{
    struct buf text;
    if (strlen(pattern) > PATTERN_MAX)
        return fail(PEFT_EUNSUPPORTED, "tokenizer.json: an expression of more than %d bytes",
                    PATTERN_MAX);
    struct regex *r = arena_alloc(&t->arena, sizeof *r);
    if (!r) return PEFT_ENOMEM;
    r->next = t->regexes;
    t->regexes = r;
    *out = r;
    r->memory = pcre2_general_context_create(pcre_alloc, pcre_free, &t->host->mem);
    r->limits = r->memory ? pcre2_match_context_create(r->memory) : NULL;
    if (!r->limits) return fail(PEFT_ENOMEM, "out of memory for an expression");
    pcre2_set_match_limit(r->limits, TRIES_MAX);
    pcre2_set_depth_limit(r->limits, NESTED_MAX);
    pcre2_set_heap_limit(r->limits, HEAP_MAX_KIB);
    buf_init(&text, &t->host->mem);
    int rc = rewrite(pattern, &text);
    if (rc == PEFT_OK) rc = compile(r, pattern, buf_str(&text), text.n);
    buf_free(&text);
    return rc;
}

void regex_free_all(struct tokenizer *t)
{
    for (struct regex *r = t->regexes; r; r = r->next) {
        pcre2_match_context_free(r->limits);
        pcre2_code_free(r->code);
        pcre2_general_context_free(r->memory);
    }
}

static int match_failed(int code)
{
    if (code == PCRE2_ERROR_NOMEMORY) return fail(PEFT_ENOMEM, "out of memory for an expression");
    return fail(PEFT_EDATA, "an expression of the tokenizer needs too %s for this text",
                code == PCRE2_ERROR_HEAPLIMIT ? "much memory" : "many steps");
}

/* Oniguruma's order of matches: an empty one does not follow another at once. */
static int scan(const struct regex *r, pcre2_match_data *data, const char *s, int64_t n,
                expr_each_fn *each, void *ctx)
{
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(data);
    int64_t done = 0, at = 0, last = -1;
    int rc = PEFT_OK;
    while (at <= n && rc == PEFT_OK) {
        int found = pcre2_match(r->code, (PCRE2_SPTR)s, (size_t)n, (size_t)at, PCRE2_NO_UTF_CHECK,
                                data, r->limits);
        if (found == PCRE2_ERROR_NOMATCH) break;
        if (found < 0) return match_failed(found);
        int64_t from = (int64_t)span[0], to = (int64_t)span[1];
        if (from == to && last == to) {
            int32_t cp;
            at += at < n ? uni_next(s + at, &cp) : 1;
            continue;
        }
        if (done < from) rc = each(ctx, done, from, false);
        if (rc == PEFT_OK) rc = each(ctx, from, to, true);
        done = at = last = to;
    }
    return rc == PEFT_OK && done < n ? each(ctx, done, n, false) : rc;
}

static int regex_scan(const struct regex *r, const char *s, int64_t n, expr_each_fn *each,
                      void *ctx)
{
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(r->code, r->memory);
    if (!data) return fail(PEFT_ENOMEM, "out of memory for an expression");
    int rc = scan(r, data, s, n, each, ctx);
    pcre2_match_data_free(data);
    return rc;
}

#else

int regex_compile(struct tokenizer *t, const char *pattern, const struct regex **out)
{
    (void)t;
    *out = NULL;
    return fail(PEFT_EUNSUPPORTED, "tokenizer.json: the expression \"%.200s\" needs PCRE2, which "
                "this library was built without (libpcre2-dev)", pattern);
}

void regex_free_all(struct tokenizer *t)
{
    (void)t;
}

static int regex_scan(const struct regex *r, const char *s, int64_t n, expr_each_fn *each,
                      void *ctx)
{
    (void)r, (void)s, (void)n, (void)each, (void)ctx;
    return PEFT_ESTATE;
}
#endif

/* --- either kind */

int expr_compile(struct tokenizer *t, const char *pattern, struct expr *out)
{
    *out = (struct expr){.find = split_regex(pattern)};
    return out->find ? PEFT_OK : regex_compile(t, pattern, &out->regex);
}

int expr_scan(const struct expr *x, const char *s, int64_t n, expr_each_fn *each, void *ctx)
{
    int rc = PEFT_OK;
    if (x->regex) return regex_scan(x->regex, s, n, each, ctx);
    for (int64_t at = 0, end; at < n && rc == PEFT_OK; at = end) {
        bool match;
        end = x->find(NULL, s, n, at, &match);
        rc = each(ctx, at, end, match);
    }
    return rc;
}
