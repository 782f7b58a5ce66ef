/* Extractive answers: the best spans of a window, and SQuAD's exact match and
 * F1 (Rajpurkar et al. 2016, 2018) over the windows of each question. */
#include <math.h>

#include "train/train.h"

/* The n best (begin, end) among rows [from, to) of z [.., 2] by the sum of the
 * two, best first, at most `most` tokens long; returns how many. */
int32_t spans_best(const float *z, int64_t from, int64_t to, int64_t most, struct span_score *out,
                   int32_t n)
{
    int32_t used = 0;
    for (int64_t i = from; i < to; i++)
        for (int64_t k = i; k < MIN(to, i + most); k++) {
            float sum = z[2 * i] + z[2 * k + 1];
            if (used == n && !(sum > out[n - 1].score)) continue;
            int32_t at = used < n ? used++ : n - 1;
            for (; at > 0 && out[at - 1].score < sum; at--) out[at] = out[at - 1];
            out[at] = (struct span_score){ (int32_t)i, (int32_t)k, sum };
        }
    return used;
}

/* The question of which windows are being read. */
struct answers {
    const struct question *question;
    int32_t begin, end;             /* bytes of the best answer so far */
    float score, none;              /* of it, and of there being none */
    int refuses;                    /* some questions have no answer */
    double f1[2], exact[2];         /* sums: with an answer, without */
    int64_t count[2];
    struct buf said, wanted;
    peft_eval_row row;
};

int answers_new(struct measure *s)
{
    struct answers *a = s->answers = mem_zalloc(&s->host->mem, sizeof(*a));
    if (!a) return PEFT_ENOMEM;
    buf_init(&a->said, &s->host->mem);
    buf_init(&a->wanted, &s->host->mem);
    for (int64_t i = 0; i < s->d->n; i++)
        a->refuses |= s->d->rows[i].question && !s->d->rows[i].question->n_answers;
    return PEFT_OK;
}

void answers_free(struct measure *s)
{
    if (!s->answers) return;
    buf_free(&s->answers->said);
    buf_free(&s->answers->wanted);
    mem_free(&s->host->mem, s->answers);
}

/* Lower case, no punctuation, no articles, a space behind every word. */
static int normalise(struct buf *to, const char *text, int64_t n)
{
    static const char marks[] = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
    struct buf plain;
    buf_init(&plain, to->mem);
    for (int64_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c && strchr(marks, c)) continue;
        buf_putc(&plain, c <= ' ' ? ' ' : c >= 'A' && c <= 'Z' ? (char)(c + 32) : (char)c);
    }
    buf_clear(to);
    const char *s = buf_str(&plain);
    while (*s) {
        size_t len = strcspn(s, " ");
        int article = (len == 1 && *s == 'a') || (len == 2 && !memcmp(s, "an", 2)) ||
                      (len == 3 && !memcmp(s, "the", 3));
        if (len && !article) {
            buf_put(to, s, (int64_t)len);
            buf_putc(to, ' ');
        }
        s += len + (s[len] == ' ');
    }
    int rc = buf_check(&plain);
    buf_free(&plain);
    return rc ? rc : buf_check(to);
}

static int64_t count_words(const char *s, const char *word, size_t len)
{
    int64_t n = 0;
    for (const char *w = s; *w; w += strcspn(w, " ") + 1)
        n += !word || (strcspn(w, " ") == len && !memcmp(w, word, len));
    return n;
}

/* F1 of the words of two normalised texts, as bags. */
static double words_f1(const char *a, const char *b)
{
    int64_t na = count_words(a, NULL, 0), nb = count_words(b, NULL, 0), same = 0;
    if (!na || !nb) return na == nb;
    for (const char *w = a; *w; w += strcspn(w, " ") + 1) {
        size_t len = strcspn(w, " ");
        int64_t before = 0;         /* of the same word in a, up to here */
        for (const char *v = a; v <= w; v += strcspn(v, " ") + 1)
            before += strcspn(v, " ") == len && !memcmp(v, w, len);
        same += before <= count_words(b, w, len);
    }
    return 2.0 * (double)same / (double)(na + nb);
}

int squad_scores(struct buf two[2], const struct question *q, const char *said, int64_t n,
                 double *exact, double *f1)
{
    int rc = normalise(&two[0], said, n), some = 0;
    *exact = *f1 = 0;
    for (int32_t i = 0; i < q->n_answers && !rc; i++) {
        rc = normalise(&two[1], q->answers[i], (int64_t)strlen(q->answers[i]));
        if (rc || two[1].n == 0) continue;
        some = 1;
        *exact = MAX(*exact, !strcmp(buf_str(&two[0]), buf_str(&two[1])));
        *f1 = MAX(*f1, words_f1(buf_str(&two[0]), buf_str(&two[1])));
    }
    if (!some) *exact = *f1 = two[0].n == 0;
    return rc;
}

/* Scores the question whose windows have all been seen. */
static int finish_question(struct measure *s)
{
    struct answers *a = s->answers;
    const struct question *q = a->question;
    double exact, f1;
    if (!q) return PEFT_OK;
    int none = a->refuses && (double)a->none - (double)a->score > s->o->no_answer;
    struct buf two[2] = { a->said, a->wanted };
    int rc = squad_scores(two, q, q->context + a->begin, none ? 0 : a->end - a->begin, &exact, &f1);
    a->said = two[0];
    a->wanted = two[1];
    a->f1[!q->n_answers] += f1;
    a->exact[!q->n_answers] += exact;
    a->count[!q->n_answers]++;
    a->question = NULL;
    a->row.exact = exact;
    a->row.f1 = f1;
    a->row.answer = none || a->end == a->begin ? NULL : q->context + a->begin;
    a->row.answer_n = a->row.answer ? a->end - a->begin : 0;
    row_give(s, &a->row);
    return rc ? rc : s->rc;
}

static void note_window(struct measure *s, const struct batch *b, int64_t i)
{
    peft_eval_row *row = &s->answers->row;
    if (!s->stats.each) return;
    row->loss += s->stats.each[i].loss;
    row->right += s->stats.each[i].right;
    row->terms++;
    if (s->d->rows[b->example[i]].question) return;
    row->row = b->example[i];
    row->exact = row->f1 = (double)row->right;
    row_give(s, row);
    *row = (peft_eval_row){ 0 };
}

int note_spans(struct measure *s, const struct batch *b, const float *z)
{
    enum { MOST = 30 };             /* tokens of an answer, as in SQuAD's baselines */
    struct answers *a = s->answers;
    for (int64_t i = 0; i < b->n_rows; i++) {
        const struct example *x = &s->d->rows[b->example[i]];
        const struct question *q = x->question;
        struct span_score best;
        if (!q) {
            note_window(s, b, i);
            continue;
        }
        if (q != a->question) {
            int rc = finish_question(s);
            if (rc) return rc;
            a->question = q;
            a->row = (peft_eval_row){ .row = b->example[i] };
            a->score = -INFINITY;
            a->none = INFINITY;
            a->begin = a->end = 0;
        }
        note_window(s, b, i);
        const float *row = z + 2 * (int64_t)b->start[i];
        int64_t n = MIN(x->n - x->before, q->n - x->first);
        a->none = MIN(a->none, row[0] + row[1]);
        if (!spans_best(row, x->before, x->before + n, MOST, &best, 1) || best.score <= a->score)
            continue;
        a->score = best.score;
        a->begin = q->begin[x->first + best.begin - x->before];
        a->end = q->end[x->first + best.end - x->before];
    }
    return PEFT_OK;
}

void report_spans(struct measure *s, peft_evaluation *out)
{
    struct answers *a = s->answers;
    int64_t n;
    if (finish_question(s)) return;
    if (!(n = a->count[0] + a->count[1])) {
        out->accuracy = s->stats.count ? (double)s->stats.hits / (double)s->stats.count : 0;
        metric_add(out, "exact", 100 * out->accuracy);
        return;
    }
    out->f1 = (a->f1[0] + a->f1[1]) / (double)n;
    out->accuracy = (a->exact[0] + a->exact[1]) / (double)n;
    metric_add(out, "f1", 100 * out->f1);
    metric_add(out, "exact", 100 * out->accuracy);
    if (!a->count[0] || !a->count[1]) return;
    metric_add(out, "f1_answered", 100 * a->f1[0] / (double)a->count[0]);
    metric_add(out, "exact_answered", 100 * a->exact[0] / (double)a->count[0]);
    metric_add(out, "no_answer", 100 * a->exact[1] / (double)a->count[1]);
}
