/* Whether a data set is fit to be trained on: what max_len cuts, rows of which
 * nothing trains, evaluation rows that are training rows too. */
#include <stdarg.h>
#include <stdio.h>

#include "judge/rows.h"

struct checking {
    const peft_model *model;
    const peft_dataset *data;
    const peft_judge_opts *o;
    struct mem mem;
    peft_info info;
    peft_dataset_stats stats;
    peft_checked found;
};

enum kind { ANSWER_LOST, ANSWER_CUT, CUT, EMPTY, LEAK };
static const char *const names[] = { "answer-lost", "answer-cut", "cut", "empty", "leak" };

static void fault_line(peft_flaw *f, int64_t line, int64_t other)
{
    f->rows++;
    if (f->n == PEFT_NAMED) return;
    f->lines[f->n] = line;
    f->others[f->n++] = other;
}

__attribute__((format(printf, 3, 4)))
static void fault_says(peft_flaw *f, int refuses, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(f->text, sizeof(f->text), fmt, args);
    va_end(args);
    f->refuses = refuses;
}

/* --- what max_len cuts */

/* Where of a row training begins and ends: its first and last token that counts. */
static void span_of(const peft_row *r, int32_t *first, int32_t *last)
{
    *first = *last = 0;
    for (int32_t k = 1; r->labels && k < r->n; k++) {
        if (r->labels[k] < 0) continue;
        if (!*first) *first = k;
        *last = k;
    }
}

/* Whether rows have prompts, which are not trained: the first token never is. */
static int has_answers(const peft_dataset *data, int64_t rows)
{
    peft_row r;
    int32_t first, last;
    for (int64_t i = 0; i < rows && !row_get(data, i, &r); i++) {
        span_of(&r, &first, &last);
        if (first > 1) return 1;
    }
    return 0;
}

/* One row as it is without a limit. */
static void sort_row(peft_flaw *f, const peft_row *r, int32_t max_len, int answers)
{
    int32_t first, last;
    if (r->n <= max_len) return;
    span_of(r, &first, &last);
    if (answers && last < max_len) return;            /* nothing that is learnt */
    peft_flaw *to = &f[first >= max_len ? ANSWER_LOST
                        : answers ? ANSWER_CUT : CUT];
    fault_line(to, r->line, 0);
    to->max_len = MAX(to->max_len, r->n);
}

/* The rows once more, as long as the model takes them; f stays empty where that does not help. */
static int read_whole(struct checking *c, peft_flaw *f)
{
    peft_dataset_opts o = { .size = sizeof(o) };
    peft_dataset_stats whole;
    peft_dataset *data = NULL;
    peft_row r;
    int rc = c->o->read ? take_options(&o, sizeof(o), c->o->read) : PEFT_OK;
    if (rc) return rc;
    int32_t max_len = o.max_len ? o.max_len : MIN(1024, c->info.max_len);
    o.size = sizeof(o);
    o.max_len = c->info.max_len;
    if (!c->o->path || c->info.encoder_layers || max_len >= o.max_len) return PEFT_OK;
    if (peft_dataset_load(c->model, c->o->path, &o, &data)) return PEFT_OK;
    rc = stats_get(data, &whole);
    int answers = !rc && has_answers(data, whole.rows);
    for (int64_t i = 0; i < whole.rows && !rc; i++)
        if (!(rc = row_get(data, i, &r))) sort_row(f, &r, max_len, answers);
    for (int k = ANSWER_LOST; k <= CUT; k++)
        if (whole.truncated || whole.skipped > c->stats.skipped) f[k].max_len = 0;
    f[EMPTY].rows = whole.skipped;
    peft_dataset_free(data);
    return rc;
}

static int check_lengths(struct checking *c, peft_flaw *f)
{
    if (!c->stats.truncated && !c->stats.skipped) return PEFT_OK;
    f[EMPTY].rows = -1;
    int rc = read_whole(c, f);
    if (rc) return rc;
    if (f[EMPTY].rows < 0) {                /* not read again: what is known of all */
        f[CUT].rows = c->stats.truncated;
        f[EMPTY].rows = c->stats.skipped;
    }
    int64_t answers = f[ANSWER_LOST].rows + f[ANSWER_CUT].rows;
    int refuses = answers * 2 > c->found.rows;
    fault_says(&f[ANSWER_LOST], refuses, "%lld rows are left out: their answers begin beyond "
               "the last token that is read", (long long)f[ANSWER_LOST].rows);
    fault_says(&f[ANSWER_CUT], refuses, "%lld answers are cut off: their ends would not be learnt",
               (long long)f[ANSWER_CUT].rows);
    fault_says(&f[CUT], 0, "%lld texts are cut", (long long)f[CUT].rows);
    fault_says(&f[EMPTY], f[EMPTY].rows * 2 > c->found.rows,
               "%lld rows are left out: they have nothing to train", (long long)f[EMPTY].rows);
    return PEFT_OK;
}

/* --- leaks */

struct seen {
    struct map places;              /* text -> the first row of it */
    struct arena texts;
    int64_t *first, *line;          /* [rows] the row with the same text; a training row's line */
};

static int note_eval(struct seen *s, struct row_text *t, const peft_dataset *eval, int64_t i)
{
    int rc = row_key(t, eval, i);
    s->first[i] = -1;
    if (rc <= 0) return rc;
    s->first[i] = map_get(&s->places, t->text.data, t->text.n, i);
    if (s->first[i] < i) return PEFT_OK;
    char *own = arena_strndup(&s->texts, t->text.data, t->text.n);
    return own && map_add(&s->places, own, t->text.n, i) >= 0 ? PEFT_OK : PEFT_ENOMEM;
}

static int match_rows(struct checking *c, struct seen *s, struct row_text *t, peft_flaw *f)
{
    peft_dataset_stats eval;
    peft_row r;
    int rc = stats_get(c->o->eval, &eval);
    if (rc) return rc;
    s->first = mem_array(&c->mem, eval.rows + 1, sizeof(*s->first));
    s->line = mem_array(&c->mem, eval.rows + 1, sizeof(*s->line));
    if (!s->first || !s->line) return PEFT_ENOMEM;
    for (int64_t i = 0; i < eval.rows && !rc; i++) rc = note_eval(s, t, c->o->eval, i);
    for (int64_t i = 0; i < c->stats.rows && rc >= 0; i++) {
        if ((rc = row_key(t, c->data, i)) <= 0) continue;
        int64_t at = map_get(&s->places, t->text.data, t->text.n, -1);
        if (at < 0 || s->line[at]) continue;
        if ((rc = row_get(c->data, i, &r)) == 0) s->line[at] = r.line;
    }
    for (int64_t i = 0; i < eval.rows && rc >= 0; i++)
        if (s->first[i] >= 0 && s->line[s->first[i]] && (rc = row_get(c->o->eval, i, &r)) == 0)
            fault_line(f, r.line, s->line[s->first[i]]);
    fault_says(f, f->rows > 0, "%lld rows of the evaluation data are training rows too",
               (long long)f->rows);
    return rc < 0 ? rc : PEFT_OK;
}

static int check_leaks(struct checking *c, peft_flaw *f)
{
    struct seen s = { 0 };
    struct row_text t;
    if (!c->o->eval) return PEFT_OK;
    map_init(&s.places, &c->mem);
    arena_init(&s.texts, &c->mem);
    int rc = row_text_init(&t, c->model, &c->mem);
    if (!rc) rc = match_rows(c, &s, &t, f);
    row_text_free(&t);
    map_free(&s.places);
    arena_free(&s.texts);
    mem_free(&c->mem, s.first);
    mem_free(&c->mem, s.line);
    return rc;
}

int32_t peft_judge_check(const peft_model *model, const peft_dataset *data,
                         const peft_judge_opts *opts, peft_checked *out)
{
    KIT_ARG(model && data, "no model or data set given");
    peft_judge_opts o;
    peft_flaw f[LEAK + 1] = { { 0 } };
    struct checking c = { .model = model, .data = data, .o = &o };
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc) rc = check_result(out);
    if (rc) return kit_end(rc);
    mem_init(&c.mem, NULL, NULL);
    rc = info_get(model, &c.info);
    if (!rc) rc = stats_get(data, &c.stats);
    c.found.rows = c.stats.rows + c.stats.skipped;
    if (!rc) rc = check_lengths(&c, f);
    if (!rc) rc = check_leaks(&c, &f[LEAK]);
    for (int k = 0; k <= LEAK; k++) {
        f[k].name = names[k];
        if (f[k].rows > 0) c.found.flaws[c.found.n++] = f[k];
        c.found.refuses |= f[k].rows > 0 && f[k].refuses;
    }
    c.found.size = sizeof(c.found);
    if (!rc) give_result(out, &c.found, sizeof(c.found));
    return kit_end(rc);
}
