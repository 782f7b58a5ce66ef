/* tune.html: the trials as parallel coordinates, the learning rate against the result, and
 * all runs as a table; without scripts or network. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train.h"

enum { WIDE = 1080, HIGH = 340, TOP = 34, EDGE = 70 };

/* An axis of the parallel coordinates: numbers, by their logarithm where they span much,
 * or texts one above the other. */
struct scale {
    const char *name;
    bool log, numbers;
    double low, high;
    const char *text[32];
    int n;
};

static double number_of(const char *text)
{
    char *end;
    double v = strtod(text, &end);
    return end == text || *end ? NAN : v;
}

static void scale_add(struct scale *s, double v)
{
    if (!isfinite(v))
        return;
    s->low = fmin(s->low, v);
    s->high = fmax(s->high, v);
}

static int scale_text(struct scale *s, const char *text)
{
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->text[i], text))
            return i;
    if (s->n < 32)
        s->text[s->n++] = text;
    return s->n - 1;
}

static struct scale scale_make(const peft_trial *trial, int n, int k)
{
    struct scale s = {.name = trial->name[k], .numbers = true, .low = INFINITY,
                      .high = -INFINITY};
    for (int i = 0; i < n; i++)
        s.numbers = s.numbers && !isnan(number_of(trial[i].value[k]));
    for (int i = 0; i < n; i++)
        if (s.numbers)
            scale_add(&s, number_of(trial[i].value[k]));
        else
            scale_text(&s, trial[i].value[k]);
    if (!s.numbers) {
        s.low = 0;
        s.high = s.n - 1;
    }
    s.log = s.numbers && s.low > 0 && s.high / s.low >= 8;
    return s;
}

/* Where a value lies, from the bottom (0) to the top (1). */
static double scale_at(const struct scale *s, double v)
{
    if (!(s->high > s->low))
        return 0.5;
    if (s->log)
        return log(v / s->low) / log(s->high / s->low);
    return (v - s->low) / (s->high - s->low);
}

static double y_of(double at)
{
    return HIGH - TOP - at * (HIGH - 2 * TOP);
}

static void put_tick(FILE *to, double x, double y, const char *text)
{
    fprintf(to, "<text class=\"tick\" x=\"%.0f\" y=\"%.1f\" text-anchor=\"middle\">", x, y);
    html_text(to, text);
    fputs("</text>\n", to);
}

static void put_axis(FILE *to, const struct scale *s, double x)
{
    fprintf(to, "<path class=\"axis\" d=\"M%.0f %dV%d\"/>\n", x, TOP, HIGH - TOP);
    put_tick(to, x, 12, s->name);
    for (int i = 0; !s->numbers && i < s->n; i++)
        put_tick(to, x, y_of(scale_at(s, i)) - 4, s->text[i]);
    for (int i = 0; s->numbers && i < 2; i++) {
        char *text = format("%.3g", i ? s->high : s->low);
        put_tick(to, x, i ? TOP - 6 : HIGH - TOP + 16, text);
        free(text);
    }
}

static void put_parallel(FILE *to, const peft_trial *trial, int n, const peft_trial *best,
                         const char *metric)
{
    int axes = trial->n + 1;
    struct scale scale[PEFT_KNOBS + 1], value = {.name = metric, .numbers = true,
                                                 .low = INFINITY, .high = -INFINITY};
    for (int k = 0; k < trial->n; k++)
        scale[k] = scale_make(trial, n, k);
    for (int i = 0; i < n; i++)
        scale_add(&value, trial[i].value_best);
    scale[axes - 1] = value;
    fprintf(to, "<figure><figcaption>Trials: settings, and the best evaluation of each run"
            "</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"trials\">\n", WIDE,
            HIGH);
    for (int pass = 0; pass < 2; pass++)       /* the best above the others */
        for (int i = 0; i < n; i++) {
            const peft_trial *t = &trial[i];
            bool is_best = t->trial == best->trial && t->rung == best->rung;
            if (is_best != (pass == 1) || !isfinite(t->value_best))
                continue;
            fprintf(to, "<path class=\"line %s\" d=\"", is_best ? "eval" : "raw");
            for (int k = 0; k < axes; k++) {
                struct scale *s = &scale[k];
                double v = k == axes - 1 ? t->value_best : s->numbers ?
                           number_of(t->value[k]) : scale_text(s, t->value[k]);
                fprintf(to, "%c%.1f %.1f", k ? 'L' : 'M', EDGE + k * (WIDE - 2.0 * EDGE) /
                        (axes - 1), y_of(scale_at(s, v)));
            }
            fprintf(to, "\"><title>trial %d, rung %d: %.4f</title></path>\n", t->trial, t->rung,
                    t->value_best);
        }
    for (int k = 0; k < axes; k++)
        put_axis(to, &scale[k], EDGE + k * (WIDE - 2.0 * EDGE) / (axes - 1));
    fputs("</svg></figure>\n", to);
}

/* One series of dots for each rung. */
static void put_scatter(FILE *to, const peft_trial *trial, int n, const char *metric)
{
    static const char *const styles[] = {"smooth", "other", "eval"};
    enum { RUNGS = 8 };
    int knob = -1, rungs = 0;
    for (int k = 0; k < trial->n; k++)
        knob = strcmp(trial->name[k], "lr") ? knob : k;
    if (knob < 0)
        return;
    struct series series[RUNGS];
    double *x = grow(NULL, (size_t)(RUNGS * n + 1) * sizeof *x);
    double *y = grow(NULL, (size_t)(RUNGS * n + 1) * sizeof *y);
    char *names[RUNGS];
    for (; rungs < RUNGS; rungs++) {
        double share = 0;
        struct series *s = &series[rungs];
        *s = (struct series){.x = x + rungs * n, .y = y + rungs * n, .dots = true,
                             .style = styles[rungs < 2 ? rungs : 2]};
        for (int i = 0; i < n; i++)
            if (trial[i].rung == rungs && isfinite(trial[i].value_best)) {
                x[rungs * n + s->n] = log10(number_of(trial[i].value[knob]));
                y[rungs * n + s->n++] = trial[i].value_best;
                share = trial[i].share;
            }
        if (!s->n)
            break;
        names[rungs] = format("%.0f %% of the steps", 100 * share);
        s->name = names[rungs];
    }
    char *title = format("Learning rate and %s", metric);
    struct chart chart = {title, "log10 of the learning rate", series, rungs, false};
    chart_draw(to, &chart);
    for (int i = 0; i < rungs; i++)
        free(names[i]);
    free(title);
    free(x);
    free(y);
}

static void put_cell(FILE *to, const char *text)
{
    fputs("<td>", to);
    html_text(to, text);
    fputs("</td>", to);
}

static void put_runs(FILE *to, const peft_trial *trial, int n, const peft_trial *best,
                     const char *metric)
{
    fputs("<h2>Runs</h2>\n<table><thead><tr><th>trial</th><th>rung</th>", to);
    for (int k = 0; k < trial->n; k++)
        fprintf(to, "<th>%s</th>", trial->name[k]);
    fprintf(to, "<th class=\"n\">steps</th><th class=\"n\">best at</th><th class=\"n\">loss</th>"
            "<th class=\"n\">%s</th><th class=\"n\">seconds</th><th></th></tr></thead><tbody>\n",
            metric);
    for (int i = 0; i < n; i++) {
        const peft_trial *t = &trial[i];
        bool is_best = t->trial == best->trial && t->rung == best->rung;
        fprintf(to, "<tr><td>%d</td><td>%d</td>", t->trial, t->rung);
        for (int k = 0; k < t->n; k++)
            put_cell(to, t->value[k]);
        fprintf(to, "<td class=\"n\">%lld</td><td class=\"n\">%lld</td><td class=\"n\">%.4f</td>"
                "<td class=\"n\">%.4f</td><td class=\"n\">%.1f</td>", (long long)t->steps,
                (long long)t->best_step, t->loss, t->value_best, t->seconds);
        put_cell(to, is_best ? "best" : t->ended);
        fputs("</tr>\n", to);
    }
    fputs("</tbody></table>\n", to);
}

void tune_report(FILE *to, const struct run *run, const peft_tuned *r, const peft_trial *trial,
                 int n, const char *command)
{
    const char *metric = run->args->metric ? run->args->metric : "loss";
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
          "<meta name=\"color-scheme\" content=\"light dark\"><title>", to);
    html_text(to, run->info.name);
    fprintf(to, ": trials</title><style>\n%s</style></head><body><main>\n<h1>", page_style);
    html_text(to, run->info.name);
    fprintf(to, "</h1>\n<p>%d trials, %d runs, %s%s. %s rows, %s for evaluation.</p>\n<p>",
            r->trials, r->runs, show_seconds(r->seconds),
            r->whole ? "" : " (the budget ended the search)", show_count(run->stats.rows),
            show_count(run->eval_stats.rows));
    html_text(to, metric);
    fprintf(to, " before: %.4f; with trial %d: %.4f.</p>\n<p><code>", r->first_value,
            r->best.trial, r->best.value_best);
    html_text(to, command);
    fputs("</code></p>\n<h2>Search</h2>\n", to);
    put_parallel(to, trial, n, &r->best, metric);
    fputs("<div class=\"grid2\">\n", to);
    put_scatter(to, trial, n, metric);
    fputs("</div>\n", to);
    put_runs(to, trial, n, &r->best, metric);
    fputs("</main></body></html>\n", to);
}
