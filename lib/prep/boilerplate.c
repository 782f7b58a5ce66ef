/* Lines that are on every page and tell nothing: known ones, and such that many rows have. */
#include "prep/keys.h"
#include "prep/tidy.h"

/* --- lines of a text */

enum { LINE_LONGEST = 240 };

/* A line in small letters, its words parted by single spaces, without punctuation but what
 * stands in words.  False: too long or too short to be boilerplate. */
static bool plain_line(struct buf *to, const char *s, int64_t n)
{
    int64_t letters = 0;
    bool gap = false;
    buf_clear(to);
    if (n > LINE_LONGEST) return false;
    for (int64_t i = 0; i < n;) {
        int32_t cp;
        i += uni_next(s + i, &cp);
        bool word = cp < 0x80 ? uni_letter(cp) || uni_number(cp) || cp == '\''
                              : uni_word(cp) || cp == 0xa9 || cp == 0x2019;
        letters += word && (cp >= 0x80 || uni_letter(cp));
        if (word && gap && to->n) buf_putc(to, ' ');
        gap = !word;
        if (cp == 0x2019) cp = '\'';
        if (word) uni_lower(to, cp);
    }
    return letters >= 3 && !to->oom;
}

/* Leaves out the lines that `drop` wants, unless nothing else is in the text. */
static int64_t leave_out(struct tidy *t, const char *s, int64_t n, struct buf *out,
                         bool (*drop)(struct tidy *t, const char *line, int64_t n))
{
    int64_t places = 0, kept = 0;
    if (!memchr(s, '\n', (size_t)n)) return 0;
    for (int64_t i = 0; i < n;) {
        const char *end = memchr(s + i, '\n', (size_t)(n - i));
        int64_t next = end ? end - s + 1 : n;
        if (plain_line(&t->line, s + i, next - i - (end != NULL)) &&
            drop(t, t->line.data, t->line.n)) {
            places++;
        } else {
            buf_put(out, s + i, next - i);
            kept += t->line.n > 0 || next - i > LINE_LONGEST;
        }
        i = next;
    }
    return kept ? places : 0;
}

/* --- known lines */

enum match { WHOLE, START, ANY };
static const struct { enum match how; const char *text; } known[] = {
    {ANY, "accept all cookies"}, {ANY, "we use cookies"}, {ANY, "uses cookies to"},
    {ANY, "use of cookies"}, {WHOLE, "cookie settings"}, {WHOLE, "cookie policy"},
    {WHOLE, "manage cookies"}, {WHOLE, "accept cookies"}, {WHOLE, "privacy policy"},
    {WHOLE, "terms of service"}, {WHOLE, "terms of use"}, {WHOLE, "terms and conditions"},
    {ANY, "all rights reserved"}, {START, "copyright \xc2\xa9"}, {START, "\xc2\xa9 copyright"},
    {START, "skip to content"}, {START, "skip to main content"}, {WHOLE, "skip navigation"},
    {START, "share on facebook"}, {START, "share on twitter"}, {START, "share on linkedin"},
    {START, "share this article"}, {START, "share this post"}, {WHOLE, "share this"},
    {START, "click to share on"}, {WHOLE, "print this page"}, {WHOLE, "email this page"},
    {ANY, "subscribe to our newsletter"}, {ANY, "sign up for our newsletter"},
    {ANY, "sign up to our newsletter"}, {WHOLE, "subscribe now"}, {WHOLE, "log in"},
    {WHOLE, "sign in"}, {WHOLE, "sign up"}, {WHOLE, "log in sign up"}, {WHOLE, "read more"},
    {WHOLE, "continue reading"}, {WHOLE, "load more"}, {WHOLE, "show more"},
    {WHOLE, "back to top"}, {WHOLE, "advertisement"}, {WHOLE, "sponsored"},
    {WHOLE, "leave a comment"}, {WHOLE, "leave a reply"}, {ANY, "enable javascript"},
    {ANY, "javascript is disabled"}, {START, "your email address will not be published"},
    {START, "this site is protected by recaptcha"}, {START, "powered by wordpress"},
    {START, "related articles"}, {WHOLE, "related posts"}, {WHOLE, "you may also like"},
    {WHOLE, "contact us"}, {WHOLE, "about us"}, {WHOLE, "main menu"}, {WHOLE, "toggle navigation"},
    {ANY, "wir verwenden cookies"}, {ANY, "verwendet cookies"}, {WHOLE, "impressum"},
    {ANY, "alle rechte vorbehalten"}, {WHOLE, "datenschutz"},
    {WHOLE, "datenschutzerkl\xc3\xa4rung"},
    {START, "zum inhalt springen"}, {ANY, "nous utilisons des cookies"},
    {ANY, "utilise des cookies"}, {ANY, "tous droits r\xc3\xa9serv\xc3\xa9s"},
    {WHOLE, "mentions l\xc3\xa9gales"}, {ANY, "utilizamos cookies"}, {ANY, "utiliza cookies"},
    {ANY, "todos los derechos reservados"}, {ANY, "todos os direitos reservados"},
    {ANY, "utilizziamo i cookie"}, {ANY, "utilizza i cookie"}, {ANY, "tutti i diritti riservati"},
    {ANY, "gebruiken cookies"}, {ANY, "alle rechten voorbehouden"},
    {ANY, "wszelkie prawa zastrze\xc5\xbcone"},
    {ANY, "\xd0\xb2\xd1\x81\xd0\xb5 \xd0\xbf\xd1\x80\xd0\xb0\xd0\xb2\xd0\xb0 "
          "\xd0\xb7\xd0\xb0\xd1\x89\xd0\xb8\xd1\x89\xd0\xb5\xd0\xbd\xd1\x8b"},
};

static bool is_known(struct tidy *t, const char *line, int64_t n)
{
    (void)t;
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        int64_t k = (int64_t)strlen(known[i].text);
        if (k > n || (known[i].how == WHOLE && k != n)) continue;
        if (known[i].how == ANY ? uni_find(line, n, known[i].text, k) != NULL
                                : !memcmp(line, known[i].text, (size_t)k))
            return true;
    }
    return false;
}

int64_t tidy_boilerplate(struct tidy *t, const char *s, int64_t n, struct buf *out)
{
    return leave_out(t, s, n, out, is_known);
}

/* --- lines that many rows have */

static uint32_t *counter(const struct line_counts *c, uint64_t hash, int row)
{
    uint32_t at = (uint32_t)(hash >> row * 11) ^ (uint32_t)(hash >> 40);
    return &c->count[row * LINE_WIDTH + (int64_t)(at * 0x9e3779b1u >> 12)];
}

/* Only the counters that are least grow, which keeps the others' surplus small (Estan and
 * Varghese 2002). */
void line_count(struct line_counts *c, uint64_t hash)
{
    uint32_t least = UINT32_MAX;
    for (int k = 0; k < LINE_DEPTH; k++) least = MIN(least, *counter(c, hash, k));
    for (int k = 0; k < LINE_DEPTH && least < UINT32_MAX; k++)
        if (*counter(c, hash, k) == least) ++*counter(c, hash, k);
}

void line_hashes(struct buf *line, const char *s, int64_t n, struct buf *out)
{
    if (!memchr(s, '\n', (size_t)n)) return;
    for (int64_t i = 0; i < n;) {
        const char *end = memchr(s + i, '\n', (size_t)(n - i));
        int64_t next = end ? end - s + 1 : n;
        if (plain_line(line, s + i, next - i - (end != NULL))) {
            uint64_t hash = key_of(1, line->data, line->n);
            buf_put(out, &hash, sizeof hash);
        }
        i = next;
    }
}

static bool is_repeated(struct tidy *t, const char *line, int64_t n)
{
    uint64_t hash = key_of(1, line, n);
    uint32_t least = UINT32_MAX;
    for (int k = 0; k < LINE_DEPTH; k++) least = MIN(least, *counter(&t->lines, hash, k));
    return least >= t->repeated;
}

int64_t tidy_repeated(struct tidy *t, const char *s, int64_t n, struct buf *out)
{
    return t->lines.count ? leave_out(t, s, n, out, is_repeated) : 0;
}
