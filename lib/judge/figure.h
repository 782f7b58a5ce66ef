/* Figures that are functions of sums over rows: a row is told by `width` numbers,
 * which `add` to `sums` of all rows, and whatever rows are drawn, the figure is
 * `value` of their sums.  So one bootstrap and one paired test serve all of them
 * (bootstrap.c). */
#ifndef JUDGE_FIGURE_H
#define JUDGE_FIGURE_H

#include "judge/judge.h"

struct figure {
    const char *name;
    int64_t width, sums;
    double (*value)(const struct figure *f, const double *sum, double rows);
    void (*add)(const struct figure *f, double *sum, const double *row);  /* NULL: sum += row */
};
/* The first sum over all rows. */
double figure_mean(const struct figure *f, const double *sum, double rows);

/* --- overlap.c: figures of a text that was written against one that was wanted */
struct overlap_figure {
    struct figure figure;
    int (*count)(struct mem *mem, const char *said, const char *wanted, double *row);
};
extern const struct overlap_figure overlap_figures[];       /* ends with a NULL name */

/* --- bootstrap.c: rows are [n, figure->width].  The interval holds `level` of the
 * figure's values over `samples` draws with replacement (percentiles; Efron &
 * Tibshirani 1993). */
struct draws { int64_t samples; double level; uint64_t seed; };
struct interval { double low, high; };
int figure_of(struct mem *mem, const struct figure *f, const double *rows, int64_t n, double *out);
int bootstrap(struct mem *mem, const struct figure *f, const double *rows, int64_t n,
              const struct draws *d, struct interval *out);
/* b less a on the same rows: the interval from common draws (Koehn 2004), and the
 * two-sided p of approximate randomisation, which exchanges the two systems' rows
 * at random (Riezler & Maxwell 2005). */
int bootstrap_pair(struct mem *mem, const struct figure *f, const double *a, const double *b,
                   int64_t n, const struct draws *d, struct interval *out, double *p);
/* 0 samples and level 0 are the defaults; fails when they are out of range. */
int draws_check(struct draws *d);

#endif
