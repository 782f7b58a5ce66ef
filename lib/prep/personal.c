/* Mail addresses (RFC 5322's usual form), phone numbers (E.164 and national ways to write
 * them), cards (ISO/IEC 7812: prefix, length, Luhn's sum), accounts (ISO 13616: length by
 * country, remainder 1 of 97), keys (prefixes that their issuers document; what is assigned
 * to a name such as "api_key").  A number must stand by itself; what is more often a date, a
 * version or a measure is none. */
#include "prep/personal.h"

#include "text/unicode.h"

const char *const personal_masks[PERSONAL_KINDS] = {"[MAIL]", "[PHONE]", "[CARD]", "[IBAN]",
                                                    "[KEY]"};

/* What is part of a word stands last. */
enum { C_OTHER, C_PLUS, C_AT, C_DASH, C_DIGIT, C_LETTER, C_UPPER };

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_alpha(char c) { return (unsigned char)((c | 32) - 'a') < 26; }
static bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
static bool is_alnum(char c) { return is_digit(c) || is_alpha(c); }

struct view { const char *s; int64_t n; };
static inline char at(struct view v, int64_t i) { return i >= 0 && i < v.n ? v.s[i] : 0; }

/* --- mail: `i` is the place of the @ */

static bool mail_at(struct view v, int64_t i, int64_t least, struct personal_place *out)
{
    int64_t from = i, to = i + 1, dot = 0;
    while (from > least && i - from < 64 && at(v, from - 1) &&
           (is_alnum(v.s[from - 1]) || strchr("._%+-", v.s[from - 1]))) from--;
    while (from < i && strchr(".-+%", v.s[from])) from++;
    while (to < v.n && to - i < 254 && (is_alnum(v.s[to]) || v.s[to] == '-' || v.s[to] == '.')) {
        if (v.s[to] == '.') dot = to;
        to++;
    }
    while (to > i && (v.s[to - 1] == '.' || v.s[to - 1] == '-')) to--;
    for (dot = to - 1; dot > i && v.s[dot] != '.';) dot--;
    if (from == i || dot <= i + 1 || to - dot < 3 || v.s[i - 1] == '.') return false;
    for (int64_t k = dot + 1; k < to; k++)
        if (!is_alpha(v.s[k])) return false;
    *out = (struct personal_place){from, to, PERSONAL_MAIL};
    return true;
}

/* --- numbers: groups of digits with a separator or two between */

enum { GROUPS = 8, DIGITS = 24 };
struct number {
    int groups, digits;
    int length[GROUPS];
    int64_t end[GROUPS];            /* behind each group, and its closing bracket */
    char gap[GROUPS];               /* before each group */
    char d[DIGITS];
    bool plus, bracket;
};

static void read_number(struct view v, int64_t i, struct number *x)
{
    *x = (struct number){0};
    if (at(v, i) == '+') x->plus = true, i++;
    x->gap[0] = 0;
    for (;;) {
        char gap = 0;
        int64_t k = i;
        if (x->groups) {
            while (k - i < 3 && at(v, k) && strchr(" -./()", v.s[k])) gap = gap ? gap : v.s[k], k++;
            if (k == i) return;
        } else if (at(v, k) == '(') {
            x->bracket = true;
            k++;
        }
        int n = 0;
        while (is_digit(at(v, k + n))) n++;
        if (!n || x->groups == GROUPS || x->digits + n > DIGITS) return;
        memcpy(x->d + x->digits, v.s + k, (size_t)n);
        x->digits += n;
        x->length[x->groups] = n;
        x->gap[x->groups] = gap;
        i = x->end[x->groups++] = k + n;
    }
}

/* A letter or digit behind makes it part of something else. */
static bool ends_there(struct view v, int64_t end)
{
    return !is_alnum(at(v, end)) && at(v, end) != '_' && (unsigned char)at(v, end) < 0xc3;
}

static bool luhn(const char *d, int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++) {
        int x = d[n - 1 - i] - '0';
        if (i & 1) x = x > 4 ? 2 * x - 9 : 2 * x;
        sum += x;
    }
    return sum % 10 == 0;
}

/* Groups up to `groups` are as cards are printed: one, 4-4-4-4 and more, 4-6-5. */
static bool card_groups(const struct number *x, int groups)
{
    if (groups == 1) return true;
    if (groups == 3) return x->length[0] == 4 && x->length[1] == 6 && x->length[2] == 5;
    for (int g = 0; g < groups; g++)
        if (x->length[g] != 4 && !(g == 4 && x->length[g] < 4)) return false;
    return groups == 4 || groups == 5;
}

static bool card_of(struct view v, const struct number *x, int64_t *end)
{
    int n = 0;
    for (int g = 0; g < x->groups && !x->plus && !x->bracket; g++) {
        n += x->length[g];
        if (g && x->gap[g] != ' ' && x->gap[g] != '-') return false;
        int two = (x->d[0] - '0') * 10 + (x->d[1] - '0');
        bool issuer = x->d[0] == '4' || (two >= 51 && two <= 55) || (two >= 22 && two <= 27) ||
                      two == 34 || two == 37 || two == 30 || two == 36 || two == 38 || two == 35 ||
                      two == 60 || two == 62 || two == 64 || two == 65 || two == 50 || two == 67;
        if (n < 13 || n > 19 || !issuer || !card_groups(x, g + 1) || !luhn(x->d, n)) continue;
        if (!ends_there(v, x->end[g])) continue;
        *end = x->end[g];
        return true;
    }
    return false;
}

static bool phone_groups(const struct number *x, int groups, int digits)
{
    const int *l = x->length;
    char first = x->d[0];
    for (int g = 1; g < groups; g++)
        if (l[g] < 2 || (x->gap[g] == '.' && x->plus == false && x->gap[1] != '.')) return false;
    if (x->plus) return digits >= 8 && digits <= 15 && l[0] <= 13;
    bool us = groups >= 3 && l[groups - 3] == 3 && l[groups - 2] == 3 && l[groups - 1] == 4;
    if (us && (groups == 3 || (groups == 4 && l[0] == 1 && first == '1')))
        return x->d[groups == 4] >= '2';
    if (first == '1' && digits == 11 && x->d[1] >= '3' &&
        (groups == 1 || (groups == 3 && l[0] == 3 && l[1] == 4)))
        return true;                /* China's mobiles */
    if (x->d[0] == '0' && x->d[1] == '0' && l[0] >= 2)
        return digits >= 10 && digits <= 17 && groups > 1;
    bool date = groups >= 3 && l[0] == 2 && l[1] == 2 && l[2] == 4;
    return first == '0' && groups > 1 && l[0] >= 2 && l[0] <= 6 && digits >= 9 && digits <= 12 &&
           !date;
}

/* The longest run of groups that is a phone number. */
static bool phone_of(struct view v, const struct number *x, int64_t *end)
{
    int n = x->digits;
    for (int g = x->groups; g > 0; n -= x->length[--g]) {
        if (!phone_groups(x, g, n) || !ends_there(v, x->end[g - 1])) continue;
        *end = x->end[g - 1];
        return true;
    }
    return false;
}

static bool number_at(struct view v, int64_t i, uint32_t kinds, struct personal_place *out)
{
    struct number x;
    char before = at(v, i - 1);
    if (is_alnum(before) || (before && strchr("_.,/-#$=&", before)) ||
        (unsigned char)before >= 0x80 || (before == ' ' && is_digit(at(v, i - 2))))
        return false;
    read_number(v, i, &x);
    if (x.digits < 8) return false;
    out->from = i;
    out->kind = PERSONAL_CARD;
    if (kinds >> PERSONAL_CARD & 1 && card_of(v, &x, &out->to)) return true;
    out->kind = PERSONAL_PHONE;
    return kinds >> PERSONAL_PHONE & 1 && phone_of(v, &x, &out->to);
}

/* --- accounts */

static const char countries[] =
    "AD24 AE23 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 ES24 "
    "FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 HR21 HU28 IE22 IL23 IS26 IT27 JO30 KW30 KZ20 LB28 "
    "LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 "
    "RO24 RS22 SA24 SE24 SI19 SK24 SM27 TN24 TR26 UA29 VA22 VG24 XK20 ";

static bool iban_at(struct view v, int64_t i, struct personal_place *out)
{
    if (!is_upper(at(v, i)) || !is_upper(at(v, i + 1)) || !is_digit(at(v, i + 2)) ||
        !is_digit(at(v, i + 3)))
        return false;
    const char *c = countries;
    while (*c && (c[0] != v.s[i] || c[1] != v.s[i + 1])) c += 5;
    if (!*c) return false;
    int want = (c[2] - '0') * 10 + (c[3] - '0'), n = 0;
    char d[40];
    int64_t k = i;
    for (; n < want && k < v.n; k++) {
        if (v.s[k] == ' ' && n && n % 4 == 0 && v.s[k - 1] != ' ') continue;
        if (!is_digit(v.s[k]) && !is_upper(v.s[k])) return false;
        d[n++] = v.s[k];
    }
    if (n < want || !ends_there(v, k)) return false;
    int rest = 0;
    for (int j = 0; j < n; j++) {
        char x = d[(j + 4) % n];
        rest = (is_digit(x) ? rest * 10 + (x - '0') : rest * 100 + (x - 'A' + 10)) % 97;
    }
    *out = (struct personal_place){i, k, PERSONAL_IBAN};
    return rest == 1;
}

/* --- keys */

static const struct { const char *start; int least; } keys[] = {
    {"sk-", 20}, {"sk_live_", 16}, {"sk_test_", 16}, {"rk_live_", 16}, {"pk_live_", 16},
    {"ghp_", 30}, {"gho_", 30}, {"ghu_", 30}, {"ghs_", 30}, {"ghr_", 30}, {"github_pat_", 22},
    {"glpat-", 20}, {"AKIA", 16}, {"ASIA", 16}, {"AIza", 35}, {"xoxb-", 20}, {"xoxp-", 20},
    {"xoxa-", 20}, {"hf_", 30}, {"npm_", 36}, {"pypi-", 50}, {"ya29.", 20}, {"SG.", 40},
    {"dop_v1_", 40}, {"shpat_", 30}, {"eyJ", 60},
};
static const char *const secrets[] = {"api_key", "apikey", "api-key", "secret", "password",
                                      "passwd", "access_token", "auth_token", "client_secret"};

/* `most` bounds what is looked at before it is known to be a key. */
enum { KEY_LOOK = 256 };
static int64_t key_run(struct view v, int64_t i, int64_t most)
{
    int64_t k = i, end = MIN(v.n, i + most);
    while (k < end && (is_alnum(v.s[k]) || strchr("_-.+/=", v.s[k]))) k++;
    return k;
}

/* Letters and digits are mixed: no word and no number. */
static bool is_mixed(struct view v, int64_t from, int64_t to)
{
    bool digit = false, letter = false;
    for (int64_t i = from; i < to; i++) digit |= is_digit(v.s[i]), letter |= is_alpha(v.s[i]);
    return digit && letter;
}

/* name = "value", name: value. */
static int64_t assigned_at(struct view v, int64_t i)
{
    int64_t space = 0;
    while (at(v, i) && strchr("\"' ", v.s[i]) && space++ < 3) i++;
    if (at(v, i) != '=' && at(v, i) != ':') return -1;
    i++;
    for (space = 0; at(v, i) && strchr("\"' =>", v.s[i]) && space++ < 3;) i++;
    return i;
}

static bool key_at(struct view v, int64_t i, struct personal_place *out)
{
    out->kind = PERSONAL_KEY;
    for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
        if (keys[k].start[0] != v.s[i]) continue;
        int64_t n = (int64_t)strlen(keys[k].start);
        if (v.n - i < n || memcmp(v.s + i, keys[k].start, (size_t)n) != 0) continue;
        int64_t end = key_run(v, i + n, KEY_LOOK);
        if (end - i - n < keys[k].least || !is_mixed(v, i + n, end)) continue;
        end = key_run(v, end, v.n - end);
        out->from = i;
        out->to = end - (v.s[end - 1] == '.');
        return true;
    }
    for (size_t k = 0; k < ARRAY_LEN(secrets); k++) {
        int64_t n = 0;
        while (secrets[k][n] && (at(v, i + n) | 32) == (secrets[k][n] | 32)) n++;
        if (secrets[k][n]) continue;
        int64_t from = assigned_at(v, i + n), end = from < 0 ? 0 : key_run(v, from, KEY_LOOK);
        if (from < 0 || end - from < 8 || !is_mixed(v, from, end)) continue;
        out->from = from;
        out->to = key_run(v, end, v.n - end);
        return true;
    }
    return false;
}

/* -----BEGIN RSA PRIVATE KEY----- ... -----END RSA PRIVATE KEY-----, or all the rest. */
static bool pem_at(struct view v, int64_t i, struct personal_place *out)
{
    static const char begin[] = "-----BEGIN ", end[] = "-----END ", what[] = "PRIVATE KEY-----";
    enum { BEGIN = sizeof begin - 1, END = sizeof end - 1, WHAT = sizeof what - 1, NAME = 64 };
    if (v.n - i < BEGIN + WHAT || memcmp(v.s + i, begin, BEGIN) != 0) return false;
    const char *name = uni_find(v.s + i, MIN(v.n - i, NAME), what, WHAT), *last = v.s + v.n;
    if (!name) return false;
    const char *stop = uni_find(name, last - name, end, END);
    const char *tail = stop ? uni_find(stop, MIN(last - stop, NAME), what, WHAT) : NULL;
    *out = (struct personal_place){i, tail ? tail - v.s + WHAT : v.n, PERSONAL_KEY};
    return true;
}

static uint32_t pair_of(char a, char b) { return (uint32_t)((uint8_t)a << 8 | (uint8_t)b); }

void personal_init(struct personal *p)
{
    *p = (struct personal){{0}, {0}};
    for (int c = 0; c < 128; c++)
        p->class[c] = is_digit((char)c) ? C_DIGIT : is_upper((char)c) ? C_UPPER :
                      is_alpha((char)c) ? C_LETTER : c == '+' || c == '(' ? C_PLUS :
                      c == '@' ? C_AT : c == '-' ? C_DASH : C_OTHER;
    for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
        uint32_t at = pair_of(keys[k].start[0], keys[k].start[1]);
        p->key[at >> 3] |= (uint8_t)(1 << (at & 7));
    }
    for (size_t k = 0; k < 4 * ARRAY_LEN(secrets); k++) {
        const char *s = secrets[k / 4];
        uint32_t at = pair_of((char)(s[0] - (k & 1 ? 32 : 0)), (char)(s[1] - (k & 2 ? 32 : 0)));
        p->key[at >> 3] |= (uint8_t)(1 << (at & 7));
    }
}

/* Something of a kind whose first character, or @, this is. */
static bool begins_at(const struct personal *p, struct view v, int64_t i, uint32_t kinds,
                      struct personal_place *out)
{
    uint8_t class = p->class[(uint8_t)v.s[i]];
    bool keys_too = kinds >> PERSONAL_KEY & 1;
    if (class == C_DASH) return keys_too && pem_at(v, i, out);
    if (class == C_DIGIT || class == C_PLUS) return number_at(v, i, kinds, out);
    if (class == C_UPPER && kinds >> PERSONAL_IBAN & 1 && iban_at(v, i, out)) return true;
    uint32_t pair = pair_of(v.s[i], at(v, i + 1));
    return keys_too && p->key[pair >> 3] >> (pair & 7) & 1 && key_at(v, i, out);
}

bool personal_next(const struct personal *p, const char *s, int64_t n, uint32_t kinds, int64_t from,
                   struct personal_place *out)
{
    struct view v = {s, n};
    uint8_t before = from ? p->class[(uint8_t)s[from - 1]] : C_OTHER;
    for (int64_t i = from; i < n; i++) {
        uint8_t class = p->class[(uint8_t)s[i]];
        bool begins = class && (before < C_DIGIT || class == C_PLUS);
        before = class;
        if (class == C_AT && kinds >> PERSONAL_MAIL & 1 && mail_at(v, i, from, out)) return true;
        if (begins && class != C_AT && begins_at(p, v, i, kinds, out)) return true;
    }
    return false;
}
