/* report.html: one page that tells the whole run, without scripts or network.
 * Everything that comes from files or models is escaped. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "train.h"

const char page_style[] =
    ":root{--bg:#fbfbfa;--card:#fff;--fg:#1d2127;--soft:#626a76;--rule:#e3e5e8;--a:#2563c9;"
    "--b:#d9480f;--c:#0b8f6a}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171b;--card:#1b1f25;--fg:#e7e9ec;"
    "--soft:#98a1ad;--rule:#2d333b;--a:#6ea8fe;--b:#ff8a5c;--c:#45c9a0}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);"
    "font:16px/1.5 system-ui,sans-serif}\n"
    "main{max-width:1120px;margin:0 auto;padding:32px 20px 64px}h1{margin:0;font-size:1.7rem}"
    "h2{margin:44px 0 14px;font-size:1.15rem}p{margin:4px 0;color:var(--soft)}\n"
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;"
    "margin-top:24px}.cards div,figure,.qa{background:var(--card);border:1px solid var(--rule);"
    "border-radius:10px;padding:14px 16px}\n"
    ".cards b{display:block;font-size:1.2rem;font-weight:600;white-space:nowrap}"
    ".cards span{color:var(--soft);font-size:.85rem}\n"
    ".grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(430px,100%),1fr));"
    "gap:14px}figure{margin:0}figcaption{font-weight:600;font-size:.95rem;margin-bottom:6px}"
    "svg{width:100%;height:auto;display:block}\n"
    ".grid{stroke:var(--rule)}.axis{stroke:var(--soft);fill:none}.tick{fill:var(--soft);"
    "font:12px system-ui,sans-serif}.line{fill:none;stroke-width:2;stroke-linejoin:round}\n"
    ".raw{stroke:var(--a);stroke-width:1;opacity:.5}.smooth{stroke:var(--a)}"
    ".eval{stroke:var(--b);fill:var(--b)}.line.eval{fill:none}.other{stroke:var(--c)}"
    ".bar{fill:var(--a)}\n"
    "table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;"
    "width:100%}td,th{text-align:left;padding:5px 14px 5px 0;border-bottom:1px solid "
    "var(--rule);vertical-align:top;overflow-wrap:anywhere}th{font-weight:600}"
    "td.n,th.n{text-align:right}\n"
    ".qa{margin-bottom:12px}.qa h3{margin:0 0 8px;font-size:1rem}.qa .grid2>div{min-width:0}"
    ".qa span{font-size:.8rem;color:var(--soft)}.qa div p{color:inherit;white-space:pre-wrap;"
    "overflow-wrap:anywhere}.qa .after{border-left:3px solid var(--c);padding-left:12px}"
    ".qa .before{border-left:3px solid var(--rule);padding-left:12px}\n"
    "details{margin-top:14px}summary{cursor:pointer;color:var(--soft)}\n"
    ".wide{overflow-x:auto}main>figure,.part{margin-top:14px}"
    ".wide th{overflow-wrap:normal}.wide td{white-space:pre-wrap;"
    "overflow-wrap:break-word}.wide td:last-child{overflow-wrap:anywhere;min-width:10em}"
    ".wide td.n{min-width:0!important;"
    "white-space:nowrap}.facts td{text-align:left}.facts th{width:12em;font-weight:400;"
    "color:var(--soft)}nav a{color:var(--a);margin-right:14px}\n"
    ".bars{display:grid;grid-template-columns:minmax(3em,auto) 1fr auto;gap:4px 10px;"
    "font-size:.9rem;overflow-wrap:anywhere}.bars b{display:block;height:1.2em;min-width:1px;"
    "background:var(--a);border-radius:2px}.n{text-align:right;"
    "font-variant-numeric:tabular-nums}\n"
    ".notes{margin:0;padding-left:1.2em}.bad{color:var(--b)}\n";

/* -------------------------------------------------------------------- parts */

static void card(FILE *to, const char *value, const char *says)
{
    fputs("<div><b>", to);
    html_text(to, value);
    fputs("</b><span>", to);
    html_text(to, says);
    fputs("</span></div>\n", to);
}

static void row(FILE *to, const char *key, const char *value)
{
    fputs("<tr><th scope=\"row\">", to);
    html_text(to, key);
    fputs("</th><td>", to);
    html_text(to, value);
    fputs("</td></tr>\n", to);
}

/* A row whose value was made by format(). */
static void row_format(FILE *to, const char *key, char *value)
{
    row(to, key, value);
    free(value);
}

static void row_text(FILE *to, const char *text)
{
    fputs("<p>", to);
    html_text(to, text);
    fputs("</p>\n", to);
}

static void put_findings(FILE *to, const struct run *run)
{
    peft_notice n = {.size = sizeof n};
    for (int32_t i = 0; !peft_watch_notice(run->watch, i, &n); i++) {
        if (!i)
            fputs("<h2>Findings</h2>\n<table><thead><tr><th class=\"n\">step</th><th>what</th>"
                  "<th></th><th>try</th></tr></thead><tbody>\n", to);
        fprintf(to, "<tr><td class=\"n\">%lld</td><td>%s</td><td>", (long long)n.step, n.kind);
        html_text(to, n.what);
        fputs("</td><td>", to);
        html_text(to, n.advice);
        fputs("</td></tr>\n", to);
    }
    if (watch_state(run).n_notices)
        fputs("</tbody></table>\n", to);
}

static void put_head(FILE *to, const struct run *run)
{
    char date[40] = "";
    time_t t = time(NULL);
    struct tm utc;
    if (gmtime_r(&t, &utc))
        strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &utc);
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
          "<meta name=\"color-scheme\" content=\"light dark\"><title>", to);
    html_text(to, run->info.name);
    fprintf(to, ": training report</title><style>\n%s</style></head><body><main>\n<h1>",
            page_style);
    html_text(to, run->info.name);
    fprintf(to, "</h1>\n<p>Method %s, %lld steps, %s rows of training data. %s, libpeft "
            "%d.%d.%d.</p>\n", run->method, (long long)run->plan.steps,
            show_count(run->stats.rows), date, peft_version() / 10000,
            peft_version() / 100 % 100, peft_version() % 100);
    char *kept = kept_words(run), *ended = ended_words(run);
    if (ended)
        row_text(to, ended);
    if (kept)
        row_text(to, kept);
    free(kept);
    free(ended);
}

static void put_cards(FILE *to, const struct run *run)
{
    const struct history *h = &run->history;
    const peft_plan *p = &run->plan;
    fputs("<div class=\"cards\">\n", to);
    char *share = format("trainable of %s (%.3f %%)", show_count(p->total_params),
                         p->total_params ? 100.0 * (double)p->trainable_params /
                         (double)p->total_params : 0.0);
    card(to, show_count(p->trainable_params), share);
    free(share);
    if (h->n_evals) {
        const struct eval_row *a = h->eval, *b = result_eval(run);
        bool classes = run->info.labels > 0 && a->n && b->n;
        const char *what = classes ? a->metric[0].name : "loss";
        char *both = classes ? format("%.3f → %.3f", a->metric[0].value, b->metric[0].value) :
                     format("%.3f → %.3f", a->loss, b->loss);
        char *name = format("%s on evaluation data", what);
        card(to, both, name);
        free(name);
        free(both);
    }
    if (h->n_steps) {
        double speed = 0;
        for (int64_t i = 0; i < h->n_steps; i++)
            speed += isfinite(h->step[i].speed) ? h->step[i].speed : 0;
        char *last = format("%.3f", h->step[h->n_steps - 1].smooth);
        char *mean = format("%.0f", speed / (double)h->n_steps);
        card(to, last, "training loss at the end, smoothed");
        card(to, mean, "tokens a second");
        free(last);
        free(mean);
    }
    card(to, show_seconds(run->seconds), run->first_step ? "since it was resumed" : "training");
    card(to, show_bytes(memory_peak()), "peak memory");
    fputs("</div>\n", to);
}

/* ------------------------------------------------------------------- curves */

enum { X, LOSS, SMOOTH, LR, NORM, SPEED, EVAL_X, EVAL, METRIC, COLUMNS };

/* Which of an evaluation's metrics is drawn: that which decides, or the first; -1 = none. */
static int drawn_metric(const struct run *run)
{
    const struct eval_row *e = run->history.eval;
    const char *name = run->args->metric;
    for (int i = 0; e && name && i < e->n; i++)
        if (!strcmp(e->metric[i].name, name))
            return i;
    return e && e->n ? 0 : -1;
}

static double *column(const struct run *run, int which)
{
    const struct history *h = &run->history;
    int metric = drawn_metric(run);
    int64_t n = which >= EVAL_X ? h->n_evals : h->n_steps;
    double *v = grow(NULL, (size_t)(n + 1) * sizeof *v);
    for (int64_t i = 0; i < n; i++) {
        const struct step_row *s = which < EVAL_X ? &h->step[i] : NULL;
        v[i] = which == X ? (double)s->step : which == LOSS ? s->loss :
               which == SMOOTH ? s->smooth : which == LR ? s->lr :
               which == NORM ? s->grad_norm : which == SPEED ? s->speed :
               which == EVAL_X ? (double)h->eval[i].step :
               which == EVAL ? h->eval[i].loss :
               metric < h->eval[i].n && metric >= 0 ? h->eval[i].metric[metric].value : NAN;
    }
    return v;
}

static void put_curves(FILE *to, const struct run *run)
{
    const struct history *h = &run->history;
    double *v[COLUMNS];
    for (int i = 0; i < COLUMNS; i++)
        v[i] = column(run, i);
    int64_t n = h->n_steps, m = h->n_evals;
    const struct eval_row *kept = result_eval(run);
    double kept_x = kept ? (double)kept->step : 0, kept_y = kept ? kept->loss : 0;
    const struct series loss[] = {{"each step", "raw", v[X], v[LOSS], n, false},
                                  {"smoothed", "smooth", v[X], v[SMOOTH], n, false},
                                  {NULL, "eval", v[EVAL_X], v[EVAL], m, false},
                                  {"evaluation", "eval", v[EVAL_X], v[EVAL], m, true},
                                  {"kept", "other", &kept_x, &kept_y, run->kept_step > 0, true}};
    const struct series task[] = {{NULL, "other", v[EVAL_X], v[METRIC], m, false},
                                  {NULL, "other", v[EVAL_X], v[METRIC], m, true}};
    int which = drawn_metric(run);
    char *metric = format("Evaluation: %s", which < 0 ? "" : h->eval->metric[which].name);
    const struct series lr = {NULL, "other", v[X], v[LR], n, false};
    const struct series norm = {NULL, "smooth", v[X], v[NORM], n, false};
    const struct series speed = {NULL, "other", v[X], v[SPEED], n, false};
    const struct chart charts[] = {{"Loss", "step", loss, 5, false},
                                   {metric, "step", task, 2, false},
                                   {"Gradient norm, before clipping", "step", &norm, 1, true},
                                   {"Learning rate", "step", &lr, 1, true},
                                   {"Tokens a second", "step", &speed, 1, true}};
    fputs("<h2>Curves</h2>\n<div class=\"grid2\">\n", to);
    for (int i = 0; i < 5; i++)
        if (i != 1 || m > 1)
            chart_draw(to, &charts[i]);
    fputs("</div>\n", to);
    free(metric);
    for (int i = 0; i < COLUMNS; i++)
        free(v[i]);
}

static void put_figures(FILE *to, const struct run *run)
{
    enum { MOST = 60 };
    const struct history *h = &run->history;
    int64_t shown = h->n_steps < MOST ? h->n_steps : MOST;
    fprintf(to, "<details><summary>The curves as a table%s</summary><table><thead><tr>"
            "<th class=\"n\">step</th><th class=\"n\">loss</th><th class=\"n\">smoothed</th>"
            "<th class=\"n\">gradient norm</th><th class=\"n\">learning rate</th>"
            "<th class=\"n\">tokens/s</th></tr></thead><tbody>\n",
            shown < h->n_steps ? " (every row is in metrics.jsonl)" : "");
    for (int64_t k = 0; k < shown; k++) {
        const struct step_row *s = &h->step[shown > 1 ? k * (h->n_steps - 1) / (shown - 1) : 0];
        fprintf(to, "<tr><td class=\"n\">%lld</td><td class=\"n\">%.4f</td><td class=\"n\">%.4f"
                "</td><td class=\"n\">%.4g</td><td class=\"n\">%.3g</td><td class=\"n\">%.0f</td>"
                "</tr>\n", (long long)s->step, s->loss, s->smooth, s->grad_norm, s->lr, s->speed);
    }
    fputs("</tbody></table></details>\n", to);
}

static void put_evaluations(FILE *to, const struct run *run)
{
    const struct history *h = &run->history;
    if (!h->n_evals)
        return;
    fprintf(to, "<h2>Evaluations</h2>\n<p>%s rows.</p>\n<table><thead><tr>"
            "<th class=\"n\">step</th><th class=\"n\">epoch</th><th class=\"n\">loss</th>"
            "<th class=\"n\">%s</th><th class=\"n\">%s</th></tr></thead><tbody>\n",
            show_count(run->eval_stats.rows),
            h->eval->n > 0 ? h->eval->metric[0].name : "",
            h->eval->n > 1 ? h->eval->metric[1].name : "");
    for (int64_t i = 0; i < h->n_evals; i++) {
        const struct eval_row *e = &h->eval[i];
        fprintf(to, "<tr><td class=\"n\">%s%lld</td><td class=\"n\">%.2f</td><td class=\"n\">%.4f"
                "</td><td class=\"n\">%.4f</td><td class=\"n\">%.4f</td></tr>\n",
                run->kept_step && e->step == run->kept_step ? "kept: " : "", (long long)e->step,
                e->epoch, e->loss, e->metric[0].value, e->metric[1].value);
    }
    fputs("</tbody></table>\n", to);
}

/* --------------------------------------------------------- samples and data */

static void put_samples(FILE *to, const struct run *run)
{
    if (!run->n_samples)
        return;
    fputs("<h2>The same questions, before and after</h2>\n", to);
    for (int i = 0; i < run->n_samples; i++) {
        const struct sample *s = &run->sample[i];
        fputs("<div class=\"qa\"><h3>", to);
        html_text(to, s->prompt);
        fputs("</h3><div class=\"grid2\"><div class=\"before\"><span>before</span><p>", to);
        html_text(to, s->before);
        fputs("</p></div><div class=\"after\"><span>after</span><p>", to);
        html_text(to, s->after);
        fputs("</p></div></div></div>\n", to);
    }
}

static void put_lengths(FILE *to, const struct run *run)
{
    enum { BARS = 24 };
    int64_t count[BARS] = {0};
    int32_t low = run->stats.min_len, high = run->stats.max_len;
    int32_t width = (high - low) / BARS + 1;
    peft_row r = {.size = sizeof r};
    for (int64_t i = 0; i < run->stats.rows && !peft_dataset_row(run->data, i, &r); i++) {
        int32_t bar = (r.n - low) / width;
        if (bar >= 0 && bar < BARS)
            count[bar]++;
    }
    int bars = (high - low) / width + 1;
    chart_bars(to, "Lengths of the rows", "tokens", count, bars < BARS ? bars : BARS, low, width);
}

static void put_data(FILE *to, const struct run *run)
{
    const peft_dataset_stats *s = &run->stats;
    fputs("<h2>Data</h2>\n<div class=\"grid2\">\n", to);
    put_lengths(to, run);
    fputs("<figure><table><tbody>\n", to);
    row(to, "file", run->args->data);
    row(to, "schema", s->schema);
    row(to, "rows", show_count(s->rows));
    row(to, "tokens", show_count(s->tokens));
    row(to, "of them trained", show_count(s->trained_tokens));
    row_format(to, "length", format("%d to %d, median %d, mean %d, 95 %% within %d", s->min_len,
                                    s->max_len, s->median_len, s->mean_len, s->p95_len));
    row(to, "cut at the limit", show_count(s->truncated));
    row(to, "left out", show_count(s->skipped));
    for (int32_t i = 0; i < s->labels && i < 20; i++)
        row(to, i ? "" : "classes", peft_dataset_label(run->data, i));
    fputs("</tbody></table></figure></div>\n", to);
}

static void put_settings(FILE *to, const struct run *run)
{
    const peft_system *m = &run->sys;
    fputs("<h2>Settings, model and machine</h2>\n<div class=\"grid2\">\n<figure><table><tbody>\n",
          to);
    for (int i = 0; i < run->settings.n; i++)
        row(to, run->settings.item[i].key, run->settings.item[i].value);
    fputs("</tbody></table></figure>\n<figure><table><tbody>\n", to);
    row_format(to, "model", format("%s (%s)", run->info.name, run->info.family));
    row_format(to, "stored", format("%s as %s: %s", show_bytes(run->info.weight_bytes),
                                    run->info.format, run->info.types));
    row_format(to, "shape", format("%d layers of width %d, %d heads, vocabulary %s",
                                   run->info.layers, run->info.dim, run->info.heads,
                                   show_count(run->info.vocab)));
    row(to, "predicted memory", show_bytes(run->predicted_memory));
    row(to, "predicted time", show_seconds(run->predicted_seconds));
    row(to, "processor", m->cpu);
    row_format(to, "threads", format("%d of %d cores", run->threads, m->cores));
    row_format(to, "kernels", format("%s; %s %s", m->level, m->blas, m->blas_core));
    row_format(to, "speed", format("%.0f GFLOP/s a thread", m->gflops));
    row(to, "memory", show_bytes(m->memory_total));
    if (*m->advice)
        row(to, "advice", m->advice);
    fputs("</tbody></table></figure></div>\n", to);
}

int report_write(const struct run *run)
{
    char *path = folder_path(run, "report.html");
    FILE *to = folder_create(path);
    if (to) {
        put_head(to, run);
        put_cards(to, run);
        put_findings(to, run);
        put_curves(to, run);
        put_figures(to, run);
        put_evaluations(to, run);
        put_samples(to, run);
        put_data(to, run);
        put_settings(to, run);
        fputs("</main></body></html>\n", to);
    }
    int rc = folder_close(to, path);
    free(path);
    return rc;
}
