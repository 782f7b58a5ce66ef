/* Written texts against wanted ones. */
#include "judge/figure.h"

struct text_pairs { const char *const *said, *const *wanted; int64_t n; };

static int count_rows(struct mem *mem, const struct overlap_figure *f, struct text_pairs t,
                      double **out)
{
    double *rows = mem_array(mem, t.n, f->figure.width * (int64_t)sizeof(*rows));
    int rc = rows ? PEFT_OK : PEFT_ENOMEM;
    for (int64_t i = 0; i < t.n && !rc; i++)
        rc = f->count(mem, t.said[i], t.wanted[i], rows + i * f->figure.width);
    if (rc) mem_free(mem, rows);
    else *out = rows;
    return rc;
}

static int score(struct mem *mem, const struct overlap_figure *f, struct text_pairs t,
                 const peft_score_opts *o, peft_score *out)
{
    double *rows = NULL, *other = NULL;
    struct text_pairs second = { o->other, t.wanted, t.n };
    struct interval range = { 0 }, gain = { 0 };
    int rc = count_rows(mem, f, t, &rows);
    if (!rc && o->other) rc = count_rows(mem, f, second, &other);
    *out = (peft_score){ .name = f->figure.name, .p = 1 };
    struct draws d = { o->samples, o->level, o->seed };
    if (!rc) rc = bootstrap(mem, &f->figure, rows, t.n, &d, &range);
    if (!rc) rc = figure_of(mem, &f->figure, rows, t.n, &out->value);
    if (!rc && other) rc = figure_of(mem, &f->figure, other, t.n, &out->other);
    if (!rc && other)
        rc = bootstrap_pair(mem, &f->figure, rows, other, t.n, &d, &gain, &out->p);
    if (!rc) {
        out->low = range.low;
        out->high = range.high;
        out->gain = other ? out->other - out->value : 0;
        out->gain_low = gain.low;
        out->gain_high = gain.high;
    }
    mem_free(mem, rows);
    mem_free(mem, other);
    return rc;
}

int32_t peft_score_texts(const char *const *said, const char *const *wanted, int64_t n,
                         const peft_score_opts *opts, peft_scores *out)
{
    KIT_ARG(said && wanted && n > 0, "no texts given, expected at least one row");
    peft_score_opts o;
    peft_scores found = { .size = sizeof(found) };
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc) rc = check_result(out);
    if (rc) return kit_end(rc);
    struct draws d = { o.samples, o.level, o.seed };
    if ((rc = draws_check(&d)) != PEFT_OK) return kit_end(rc);
    o.samples = d.samples;
    o.level = d.level;
    for (int64_t i = 0; i < n; i++)
        KIT_ARG(said[i] && wanted[i] && (!o.other || o.other[i]),
                "no text in row %lld, expected one", (long long)i);
    struct mem mem;
    mem_init(&mem, NULL, NULL);
    for (const struct overlap_figure *f = overlap_figures; f->figure.name && !rc; f++)
        rc = score(&mem, f, (struct text_pairs){ said, wanted, n }, &o, &found.scores[found.n++]);
    if (!rc) give_result(out, &found, sizeof(found));
    return kit_end(rc);
}
