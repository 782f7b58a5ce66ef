/* Figures of systems with their intervals, and two systems compared. */
#include <math.h>
#include <stdio.h>

#include "judge/board.h"

int32_t peft_board_figure(peft_board *j, int32_t system, int32_t i, peft_figure *out)
{
    struct board_figure f;
    struct interval range = { 0, 0 };
    double *rows = NULL;
    int64_t n;
    KIT_SYSTEM(j, system);
    int rc = check_result(out);
    if (rc) return kit_end(rc);
    if (i < 0 || !board_figure(j, j->systems[system], i, &f)) return PEFT_EEND;
    peft_figure told = { .name = f.figure.name, .lower = f.lower };
    rc = figure_rows(j, &f, j->systems[system], NULL, &rows, &n);
    if (!rc && n) rc = bootstrap(&j->host.mem, &f.figure, rows, n, &j->draws, &range);
    if (!rc) rc = figure_of(&j->host.mem, &f.figure, rows, n, &told.value);
    mem_free(&j->host.mem, rows);
    told.low = range.low;
    told.high = range.high;
    if (!rc) give_result(out, &told, sizeof(told));
    return kit_end(rc);
}

static int find_figure(const struct peft_board *j, const struct system *s, const char *name,
                       struct board_figure *out)
{
    for (int32_t i = 0; board_figure(j, s, i, out); i++)
        if (!strcmp(out->figure.name, name)) return PEFT_OK;
    return fail(PEFT_ENOTFOUND, "%s has no figure \"%.40s\"", s->name, name);
}

/* Likelihoods of a text are comparable when it is cut into the same tokens. */
static int check_tokens(const struct system *a, const struct system *b)
{
    for (int64_t i = 0, k = 0; i < a->n; i++) {
        while (k < b->n && b->rows[k].line < a->rows[i].line) k++;
        if (k == b->n || b->rows[k].line != a->rows[i].line) continue;
        if (a->rows[i].terms != b->rows[k].terms)
            return fail(PEFT_EUNSUPPORTED, "line %lld is %lld tokens for %s and %lld for %s, which "
                        "leaves nothing to compare", (long long)a->rows[i].line,
                        (long long)a->rows[i].terms, a->name, (long long)b->rows[k].terms, b->name);
    }
    return PEFT_OK;
}

static void put_words(const struct system *a, const struct system *b, peft_versus *v)
{
    static const char *const told[] = { "is worse than", "does not differ from", "is better than" };
    char p[32];
    if (v->p < 0.001) snprintf(p, sizeof(p), "p < 0.001");
    else snprintf(p, sizeof(p), "p %.3f", v->p);
    snprintf(v->words, sizeof(v->words), "%.60s %s %.60s%s: %s %+.4g [%+.4g, %+.4g], %s, "
             "%lld rows", b->name,
             told[v->verdict + 1], a->name, v->verdict ? "" : " beyond chance", v->name, v->gain,
             v->low, v->high, p, (long long)v->rows);
}

int32_t peft_board_versus(peft_board *j, int32_t a, int32_t b, const char *figure, peft_versus *out)
{
    struct board_figure f[2];
    struct interval range = { 0, 0 };
    double *rows[2] = { NULL, NULL };
    int64_t n = 0;
    KIT_SYSTEM(j, a);
    KIT_SYSTEM(j, b);
    KIT_ARG(figure, "no figure named");
    const struct system *s[2] = { j->systems[a], j->systems[b] };
    peft_versus v = { .p = 1 };
    int rc = check_result(out);
    for (int k = 0; k < 2 && !rc; k++) rc = find_figure(j, s[k], figure, &f[k]);
    if (!rc && f[0].known != f[1].known)
        rc = fail(PEFT_ENOTFOUND, "\"%.40s\" is of other things for the two", figure);
    if (!rc && f[0].known == KNOWN_TOKENS) rc = check_tokens(s[0], s[1]);
    for (int k = 0; k < 2 && !rc; k++) rc = figure_rows(j, &f[k], s[k], s[!k], &rows[k], &n);
    if (!rc && !n) rc = fail(PEFT_EDATA, "%s and %s have no row in common", s[0]->name, s[1]->name);
    struct mem *mem = &j->host.mem;
    if (!rc) rc = figure_of(mem, &f[0].figure, rows[0], n, &v.value);
    if (!rc) rc = figure_of(mem, &f[0].figure, rows[1], n, &v.other);
    if (!rc)
        rc = bootstrap_pair(mem, &f[0].figure, rows[0], rows[1], n, &j->draws, &range, &v.p);
    for (int k = 0; k < 2; k++) mem_free(mem, rows[k]);
    if (rc) return kit_end(rc);
    v.name = f[0].figure.name;
    v.rows = n;
    v.gain = v.other - v.value;
    v.low = range.low;
    v.high = range.high;
    if ((v.low > 0 || v.high < 0) && v.p < 1 - j->draws.level)
        v.verdict = (v.gain > 0) != f[0].lower ? 1 : -1;
    put_words(s[0], s[1], &v);
    give_result(out, &v, sizeof(v));
    return kit_end(PEFT_OK);
}
