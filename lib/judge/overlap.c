/* How much of a wanted text a written one has: SQuAD's exact match and F1, ROUGE-1,
 * ROUGE-2 and ROUGE-L (Lin 2004; as the package rouge-score counts without a
 * stemmer: the mean of the rows' F1), BLEU (Papineni et al. 2002; as sacrebleu with
 * tokenizer 13a and exponential smoothing) and chrF (Popovic 2015; as sacrebleu:
 * six orders, beta 2).  The last two are of the whole set and run to 100. */
#include <math.h>
#include <stdlib.h>

#include "text/unicode.h"
#include "judge/figure.h"
#include "train/train.h"

/* ------------------------------------------------------- characters and words */

/* Characters of a text; a byte that is not UTF-8 is U+FFFD. */
static int characters(const char *s, struct ids *out)
{
    int64_t n = (int64_t)strlen(s), good = utf8_check(s, n);
    out->n = 0;
    for (int64_t i = 0; i < n;) {
        int32_t c = 0xfffd;
        if (i == good) {
            i++;
            good = i + utf8_check(s + i, n - i);
        } else
            i += uni_next(s + i, &c);
        ids_push(out, c);
    }
    return ids_check(out);
}

static bool ascii_digit(int32_t c) { return c >= '0' && c <= '9'; }
/* What Python's str.split() splits at. */
static bool blank_char(int32_t c) { return uni_space(c) || (c >= 0x1c && c <= 0x1f); }

/* Each word becomes a number, the same for the same word. */
struct numbered { struct map seen; struct ids chars[2], ids[2]; };

static void words_begin(struct numbered *w, struct mem *mem)
{
    map_init(&w->seen, mem);
    for (int i = 0; i < 2; i++) {
        ids_init(&w->chars[i], mem);
        ids_init(&w->ids[i], mem);
    }
}
static void words_end(struct numbered *w)
{
    map_free(&w->seen);
    for (int i = 0; i < 2; i++) {
        ids_free(&w->chars[i]);
        ids_free(&w->ids[i]);
    }
}

/* The words of chars[side], which must not change afterwards. */
static int words_split(struct numbered *w, int side)
{
    const struct ids *c = &w->chars[side];
    for (int64_t i = 0, k; i < c->n; i = k + 1) {
        for (k = i; k < c->n && !blank_char(c->v[k]);) k++;
        if (k == i) continue;
        const char *key = (const char *)(c->v + i);
        int64_t bytes = (k - i) * (int64_t)sizeof(*c->v);
        if (map_add(&w->seen, key, bytes, w->seen.n) < 0) return PEFT_ENOMEM;
        ids_push(&w->ids[side], (int32_t)map_get(&w->seen, key, bytes, 0));
    }
    return ids_check(&w->ids[side]);
}

/* ------------------------------------------------------------------- n-grams */

enum { MOST = 6 };
struct gram { int32_t id[MOST]; };

static int by_gram(const void *x, const void *y) { return memcmp(x, y, sizeof(struct gram)); }

static int64_t grams_of(const struct ids *a, int n) { return MAX(a->n - n + 1, 0); }

static struct gram *grams(struct gram *to, const struct ids *a, int n)
{
    int64_t count = grams_of(a, n);
    memset(to, 0, (size_t)count * sizeof(*to));
    for (int64_t i = 0; i < count; i++) memcpy(to[i].id, a->v + i, (size_t)n * sizeof(*a->v));
    qsort(to, (size_t)count, sizeof(*to), by_gram);
    return to + count;
}

/* Per order 1..orders: n-grams of a, of b, and in both as bags. */
static int count_grams(struct mem *mem, const struct ids *a, const struct ids *b, int orders,
                       double *out)
{
    struct gram *x = mem_array(mem, a->n + b->n, sizeof(*x));
    if (!x) return PEFT_ENOMEM;
    for (int n = 1; n <= orders; n++, out += 3) {
        struct gram *y = grams(x, a, n), *end = grams(y, b, n);
        out[0] = (double)(y - x);
        out[1] = (double)(end - y);
        out[2] = 0;
        for (struct gram *p = x, *q = y; p < y && q < end;) {
            int order = by_gram(p, q);
            out[2] += order == 0;
            p += order <= 0;
            q += order >= 0;
        }
    }
    mem_free(mem, x);
    return PEFT_OK;
}

/* -------------------------------------------------------------- SQuAD's pair */

static int squad(struct mem *mem, const char *said, const char *wanted, double *exact, double *f1)
{
    struct question q = { .answers = &wanted, .n_answers = 1 };
    struct buf two[2];
    for (int i = 0; i < 2; i++) buf_init(&two[i], mem);
    int rc = squad_scores(two, &q, said, (int64_t)strlen(said), exact, f1);
    for (int i = 0; i < 2; i++) buf_free(&two[i]);
    return rc;
}
static int count_exact(struct mem *mem, const char *said, const char *wanted, double *row)
{
    double f1;
    return squad(mem, said, wanted, row, &f1);
}
static int count_f1(struct mem *mem, const char *said, const char *wanted, double *row)
{
    double exact;
    return squad(mem, said, wanted, &exact, row);
}

/* --------------------------------------------------------------------- ROUGE */

/* Lower case, and a space for whatever is no letter or digit of ASCII.  Outside of
 * it two letters have one of ASCII in lower case, the first with a dot behind. */
static int rouge_plain(const char *text, struct ids *out)
{
    struct ids c;
    ids_init(&c, out->mem);
    int rc = characters(text, &c);
    for (int64_t i = 0; i < c.n; i++) {
        int32_t x = c.v[i];
        if (x >= 'A' && x <= 'Z') x += 'a' - 'A';
        if (x == 0x130) ids_push(out, 'i');
        ids_push(out, x == 0x212a ? 'k' : (x >= 'a' && x <= 'z') || ascii_digit(x) ? x : ' ');
    }
    ids_free(&c);
    return rc ? rc : ids_check(out);
}

static int rouge_words(struct numbered *w, struct mem *mem, const char *said, const char *wanted)
{
    const char *text[] = { said, wanted };
    int rc = PEFT_OK;
    words_begin(w, mem);
    for (int i = 0; i < 2 && !rc; i++)
        if (!(rc = rouge_plain(text[i], &w->chars[i]))) rc = words_split(w, i);
    return rc;
}

static double f_of(double both, double said, double wanted)
{
    return both > 0 ? 2 * both / (said + wanted) : 0;
}

static int rouge_n(struct mem *mem, const char *said, const char *wanted, int n, double *row)
{
    struct numbered w;
    double c[6] = { 0 };
    int rc = rouge_words(&w, mem, said, wanted);
    if (!rc) rc = count_grams(mem, &w.ids[0], &w.ids[1], n, c);
    double *last = c + 3 * (n - 1);
    *row = f_of(last[2], last[0], last[1]);
    words_end(&w);
    return rc;
}
static int count_rouge1(struct mem *mem, const char *said, const char *wanted, double *row)
{
    return rouge_n(mem, said, wanted, 1, row);
}
static int count_rouge2(struct mem *mem, const char *said, const char *wanted, double *row)
{
    return rouge_n(mem, said, wanted, 2, row);
}

/* Length of the longest common subsequence, by the rows of its table. */
static int common(struct mem *mem, const struct ids *a, const struct ids *b, double *out)
{
    int32_t *row = mem_array(mem, b->n + 1, sizeof(*row));
    if (!row) return PEFT_ENOMEM;
    for (int64_t i = 0; i < a->n; i++)
        for (int64_t k = 1, before = 0; k <= b->n; k++) {
            int32_t up = row[k];
            row[k] = a->v[i] == b->v[k - 1] ? (int32_t)before + 1 : MAX(up, row[k - 1]);
            before = up;
        }
    *out = row[b->n];
    mem_free(mem, row);
    return PEFT_OK;
}
static int count_rouge_l(struct mem *mem, const char *said, const char *wanted, double *row)
{
    struct numbered w;
    double both = 0;
    int rc = rouge_words(&w, mem, said, wanted);
    if (!rc) rc = common(mem, &w.ids[0], &w.ids[1], &both);
    *row = f_of(both, (double)w.ids[0].n, (double)w.ids[1].n);
    words_end(&w);
    return rc;
}

/* ---------------------------------------------------------------------- BLEU */

/* Every place of an ASCII word becomes another; the result is in `to`. */
static void replace(const struct ids *from, struct ids *to, const char *what, const char *by)
{
    int64_t n = (int64_t)strlen(what);
    to->n = 0;
    for (int64_t i = 0; i < from->n;) {
        int64_t k = 0;
        while (k < n && i + k < from->n && from->v[i + k] == what[k]) k++;
        if (k < n)
            ids_push(to, from->v[i++]);
        else
            i += n;
        for (const char *s = by; k == n && *s; s++) ids_push(to, *s);
    }
}

static void swap_ids(struct ids *a, struct ids *b)
{
    struct ids c = *a;
    *a = *b;
    *b = c;
}

static bool not_digit(int32_t c) { return !ascii_digit(c); }
static bool bleu_point(int32_t c) { return c == '.' || c == ','; }
static bool bleu_dash(int32_t c) { return c == '-'; }
static bool bleu_symbol(int32_t c)
{
    return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') ||
           (c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/';
}

/* Where the two stand next to each other, spaces go before, between and behind. */
static const struct bleu_apart { bool (*first)(int32_t), (*second)(int32_t); bool before, behind; }
bleu_apart[] = { { not_digit, bleu_point, 0, 1 },
                 { bleu_point, not_digit, 1, 0 },
                 { ascii_digit, bleu_dash, 0, 1 } };

static void set_apart(const struct ids *from, struct ids *to, const struct bleu_apart *r)
{
    to->n = 0;
    for (int64_t i = 0; i < from->n; i++) {
        if (i + 1 == from->n || !r->first(from->v[i]) || !r->second(from->v[i + 1])) {
            ids_push(to, from->v[i]);
            continue;
        }
        if (r->before) ids_push(to, ' ');
        ids_push(to, from->v[i++]);
        ids_push(to, ' ');
        ids_push(to, from->v[i]);
        if (r->behind) ids_push(to, ' ');
    }
}

/* mteval-v13a's tokenizer, as sacrebleu has it. */
static int bleu_plain(const char *text, struct ids *out)
{
    static const char *const marks[][2] = { { "<skipped>", "" }, { "-\n", "" }, { "\n", " " },
                                            { "&quot;", "\"" },  { "&amp;", "&" },
                                            { "&lt;", "<" },     { "&gt;", ">" } };
    struct ids other;
    ids_init(&other, out->mem);
    int rc = characters(text, out);
    while (out->n && blank_char(out->v[out->n - 1])) out->n--;
    for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
        replace(out, &other, marks[i][0], marks[i][1]);
        swap_ids(out, &other);
    }
    other.n = 0;
    ids_push(&other, ' ');
    for (int64_t i = 0; i < out->n; i++) {
        bool alone = bleu_symbol(out->v[i]);
        if (alone) ids_push(&other, ' ');
        ids_push(&other, out->v[i]);
        if (alone) ids_push(&other, ' ');
    }
    ids_push(&other, ' ');
    for (size_t i = 0; i < ARRAY_LEN(bleu_apart); i++) {
        swap_ids(out, &other);
        set_apart(out, &other, &bleu_apart[i]);
    }
    swap_ids(out, &other);
    if (!rc) rc = MIN(ids_check(out), ids_check(&other));
    ids_free(&other);
    return rc;
}

static int count_bleu(struct mem *mem, const char *said, const char *wanted, double *row)
{
    struct numbered w;
    words_begin(&w, mem);
    int rc = bleu_plain(said, &w.chars[0]);
    if (!rc) rc = bleu_plain(wanted, &w.chars[1]);
    for (int i = 0; i < 2 && !rc; i++) rc = words_split(&w, i);
    if (!rc) rc = count_grams(mem, &w.ids[0], &w.ids[1], 4, row);
    words_end(&w);
    return rc;
}

/* An order without a match counts as half a match, a quarter for the next such,
 * and so on. */
static double bleu(const struct figure *f, const double *sum, double rows)
{
    double logs = 0, part = 1, matches = 0;
    (void)f;
    (void)rows;
    for (int n = 0; n < 4; n++) matches += sum[3 * n + 2];
    if (!(matches > 0)) return 0;
    for (int n = 0; n < 4; n++) {
        double total = sum[3 * n], right = sum[3 * n + 2];
        if (!(total > 0)) return 0;
        if (!(right > 0)) right = part /= 2;
        logs += log(right / total) / 4;
    }
    return 100 * exp(MIN(1 - sum[1] / sum[0], 0) + logs);
}

/* ---------------------------------------------------------------------- chrF */

static int count_chrf(struct mem *mem, const char *said, const char *wanted, double *row)
{
    const char *text[] = { said, wanted };
    struct ids c[2];
    int rc = PEFT_OK;
    for (int i = 0; i < 2; i++) {
        ids_init(&c[i], mem);
        if (!rc) rc = characters(text[i], &c[i]);
        int64_t n = 0;
        for (int64_t k = 0; k < c[i].n; k++)
            if (!blank_char(c[i].v[k])) c[i].v[n++] = c[i].v[k];
        c[i].n = n;
    }
    if (!rc) rc = count_grams(mem, &c[0], &c[1], MOST, row);
    for (int n = 0; n < MOST && !rc; n++)        /* nothing wanted: nothing is wrong */
        if (!(row[3 * n + 1] > 0)) row[3 * n] = 0;
    for (int i = 0; i < 2; i++) ids_free(&c[i]);
    return rc;
}

static double chrf(const struct figure *f, const double *sum, double rows)
{
    double p = 0, r = 0, orders = 0;
    (void)f;
    (void)rows;
    for (int n = 0; n < MOST; n++, sum += 3) {
        if (!(sum[0] > 0 && sum[1] > 0)) continue;
        p += sum[2] / sum[0];
        r += sum[2] / sum[1];
        orders++;
    }
    return p + r > 0 ? 100 * 5 * p * r / (4 * p + r) / orders : 0;
}

const struct overlap_figure overlap_figures[] = {
    { { "exact_match", 1, 1, figure_mean, NULL }, count_exact },
    { { "f1", 1, 1, figure_mean, NULL }, count_f1 },
    { { "rouge1", 1, 1, figure_mean, NULL }, count_rouge1 },
    { { "rouge2", 1, 1, figure_mean, NULL }, count_rouge2 },
    { { "rougeL", 1, 1, figure_mean, NULL }, count_rouge_l },
    { { "bleu", 12, 12, bleu, NULL }, count_bleu },
    { { "chrf", 3 * MOST, 3 * MOST, chrf, NULL }, count_chrf },
    { { NULL, 0, 0, NULL, NULL }, NULL },
};
