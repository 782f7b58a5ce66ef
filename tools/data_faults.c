/* peft data faults and peft data agree: what is wrong with labels. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

/* ------------------------------------------------------------------ cells */

/* A text in one line of so many columns at most, as a table's cell; in a ring. */
static const char *cell_text(const char *text, int columns)
{
    static char ring[4][512];
    static int next;
    char *to = ring[next++ % 4];
    size_t n = strlen(text), at = 0, used;
    int shown = 0;
    for (size_t i = 0; i < n && at < sizeof *ring - 8; i += used, shown++) {
        utf8_next(text + i, n - i, &used);
        if (shown == columns - 1 && i + used < n) {
            memcpy(to + at, "\u2026", 3);
            at += 3;
            break;
        }
        bool plain = used > 1 || (unsigned char)text[i] >= ' ';
        memcpy(to + at, plain ? text + i : " ", used);
        at += used;
    }
    to[at] = 0;
    return to;
}

static int text_room(int taken)
{
    int room = terminal_columns(stdout) - taken;
    return room < 20 ? 20 : room;
}

/* ----------------------------------------------------------------- faults */

enum { SWAPS = 256 };
struct swap { char given[48], likely[48]; int64_t rows; };

struct shown {
    const struct args *args;
    struct swap swap[SWAPS];     /* which labels are taken for which */
    int swaps;
    struct json j;
    bool begun;
    int32_t rows, top;
    double began;
};

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int32_t show_reading(void *ctx, int64_t done, int64_t rows)
{
    struct shown *s = ctx;
    double spent = seconds_now() - s->began;
    if (spent > 1 && done < rows && s->args->tune)
        progress(false, "the model reads and is tuned: %.0f %%  ETA %s", 100 * (double)done /
                 (double)rows, show_seconds(spent * (double)(rows - done) / (double)done));
    else if (spent > 1 && done < rows)
        progress(false, "the model reads: row %lld of %lld  ETA %s", (long long)done,
                 (long long)rows, show_seconds(spent * (double)(rows - done) / (double)done));
    return interrupted();
}

/* Nothing is on stdout before something was found. */
static void json_list(struct json *j, const char *name, bool *begun)
{
    if (*begun)
        return;
    *begun = true;
    json_begin(j, stdout);
    json_open(j, NULL, '{');
    json_open(j, name, '[');
}

static void count_swap(struct shown *s, const char *given, const char *likely)
{
    struct swap x = {.rows = 1};
    snprintf(x.given, sizeof x.given, "%s", given);
    snprintf(x.likely, sizeof x.likely, "%s", likely);
    int i = 0;
    while (i < s->swaps && (strcmp(s->swap[i].given, x.given) ||
                            strcmp(s->swap[i].likely, x.likely)))
        i++;
    if (i == SWAPS || !strcmp(x.given, x.likely))
        return;
    if (i < s->swaps)
        s->swap[i].rows++;
    else
        s->swap[s->swaps++] = x;
}

static void count_swaps(struct shown *s, const peft_label_fault *f)
{
    for (int32_t i = 0; i < f->n_missing; i++)
        count_swap(s, f->missing[i], "missing");
    for (int32_t i = 0; i < f->n_wrong; i++)
        count_swap(s, f->wrong[i], "wrong");
    if (!f->missing)
        count_swap(s, f->given, f->likely);
}

static int by_rows(const void *a, const void *b)
{
    const struct swap *x = a, *y = b;
    return x->rows != y->rows ? (x->rows < y->rows ? 1 : -1) : strcmp(x->given, y->given);
}

static void show_swaps(struct shown *s, bool several)
{
    qsort(s->swap, (size_t)s->swaps, sizeof *s->swap, by_rows);
    printf("Most often: ");
    for (int i = 0; i < s->swaps && i < 3; i++)
        printf("%s%s%s %s (%s)", i ? ", " : "", s->swap[i].given, several ? "" :
               " that rather are", s->swap[i].likely, show_count(s->swap[i].rows));
    printf("\n");
}

static void names_json(struct json *j, const char *key, const char *const *names, int32_t n)
{
    json_open(j, key, '[');
    for (int32_t i = 0; i < n; i++)
        json_text(j, NULL, names[i]);
    json_close(j);
}

/* What a row with several labels rather should have, and not have: "+anger -joy". */
static const char *show_change(const peft_label_fault *f)
{
    static char text[160];
    size_t at = 0;
    text[0] = 0;
    for (int32_t i = 0; i < f->n_missing + f->n_wrong && at < sizeof text - 60; i++) {
        bool missing = i < f->n_missing;
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%c%.48s", at ? " " : "",
                               missing ? '+' : '-', missing ? f->missing[i] :
                               f->wrong[i - f->n_missing]);
    }
    return text;
}

static int32_t show_fault(void *ctx, const peft_label_fault *f)
{
    struct shown *s = ctx;
    if (!f->suspect)
        return 0;
    count_swaps(s, f);
    if (s->args->json) {
        json_list(&s->j, "faults", &s->begun);
        json_open(&s->j, NULL, '{');
        json_int(&s->j, "line", f->line);
        json_text(&s->j, "given", f->given);
        json_text(&s->j, "likely", f->likely);
        if (f->missing) {
            names_json(&s->j, "missing", f->missing, f->n_missing);
            names_json(&s->j, "wrong", f->wrong, f->n_wrong);
        }
        json_num(&s->j, "confidence", f->confidence);
        json_num(&s->j, "likely_confidence", f->likely_confidence);
        json_num(&s->j, "margin", f->margin);
        json_text(&s->j, "text", f->text);
        json_close(&s->j);
        return 0;
    }
    const char *const heads[] = {">line", "given", f->missing ? "change" : "likely",
                                 ">p(given)", ">margin", "text"};
    char line[32], own[32], margin[32];
    if (s->rows == s->top)
        return 0;
    progress_end();
    if (!s->rows++)
        table_head(6, heads);
    snprintf(line, sizeof line, "%lld", (long long)f->line);
    snprintf(own, sizeof own, "%.2f", f->confidence);
    snprintf(margin, sizeof margin, "%.2f", f->margin);
    const char *cells[] = {line, f->missing ? cell_text(f->given, 24) : f->given,
                           f->missing ? show_change(f) : f->likely, own, margin,
                           cell_text(f->text, text_room(f->missing ? 72 : 54))};
    table_row(cells);
    return 0;
}

static void show_faults(const struct args *args, const peft_faults *r, struct shown *s)
{
    if (args->json) {
        json_list(&s->j, "faults", &s->begun);
        json_close(&s->j);
        json_int(&s->j, "rows", r->rows);
        json_int(&s->j, "unlabelled", r->unlabelled);
        json_int(&s->j, "labels", r->labels);
        json_int(&s->j, "flagged", r->flagged);
        json_int(&s->j, "suspects", r->suspects);
        json_num(&s->j, "accuracy", r->accuracy);
        json_num(&s->j, "l2", r->l2);
        json_int(&s->j, "rare", r->rare);
        json_close(&s->j);
        return;
    }
    if (s->rows)
        table_end(stdout);
    printf("%s%s of %s %s are suspects (%.1f %%)", s->rows ? "\n" : "",
           show_count(r->suspects), show_count(r->rows), r->several ? "rows' labels" : "labels",
           100.0 * (double)r->suspects / (double)r->rows);
    printf(r->several ? "; heads find labels that they have not seen with an F1 of %.1f %%\n" :
           "; heads agree with %.1f %% of labels they have not seen\n", 100 * r->accuracy);
    if (s->swaps)
        show_swaps(s, r->several);
    if (r->rare)
        note("%d of %d labels were not judged: too few rows have or lack them", (int)r->rare,
             (int)r->labels);
    if (r->unlabelled)
        note("%s rows have no label or no text and were left out", show_count(r->unlabelled));
    if (r->suspects > s->rows && !args->out)
        note("%d are shown; --out FILE writes all, for `peft data label`", (int)s->rows);
    if (args->out && r->several)
        note("suspects are in %s; \"likely\" is the list that their labels rather are", args->out);
    else if (args->out)
        note("suspects are in %s; peft data label %s --out CHECKED.jsonl goes through them",
             args->out, args->out);
    if (r->accuracy < (r->several ? 0.3 : 0.6))
        note("%swarning:%s the heads are wrong too often to judge labels by: another --model may "
             "know this task better", paint(stderr, YELLOW), paint(stderr, PLAIN));
}

int run_data_faults(const struct args *args)
{
    peft_model *model = NULL;
    peft_info info;
    struct source source;
    struct shown s = {.args = args, .top = args->top ? args->top : 20};
    peft_faults result = {.size = sizeof result};
    if (!args->model)
        return usage_error("data faults needs --model MODEL, an encoder or decoder");
    int rc = open_model_at(args, args->model, &model, &info);
    if (!rc)
        rc = open_adapter(args, model, &info);
    if (!rc) {
        peft_faults_opts opts = {.size = sizeof opts, .folds = args->folds, .rank = args->rank_by,
                                 .tune = args->tune, .share = args->share,
                                 .seed = args->seed, .pool = args->pool, .max_len = args->max_len,
                                 .batch = args->batch, .out = args->out, .clean = args->clean,
                                 .on_fault = show_fault, .ctx = &s};
        source_begin(args, "reading", &source);
        source.opts.progress = show_reading;
        source.opts.ctx = &s;
        opts.source = &source.opts;
        s.began = seconds_now();
        rc = source_end(peft_data_faults(args->operand, model, &opts, &result),
                        "cannot look for faults");
    }
    if (!rc)
        show_faults(args, &result, &s);
    peft_model_free(model);
    return rc;
}

/* ------------------------------------------------------------------ agree */

struct agreed {
    const struct args *args;
    struct json j;
    int32_t rows, top;
    int64_t left;
    bool begun, in_rows;
};

static const char *file_name(const struct args *args, int32_t i)
{
    const char *name = strrchr(args->files.item[i], '/');
    return name ? name + 1 : args->files.item[i];
}

static void number_cell(char to[32], double x, double times)
{
    if (isnan(x))
        snprintf(to, 32, "-");
    else
        snprintf(to, 32, "%.*f", times > 1 ? 1 : 3, x * times);
}

static void pair_json(struct agreed *s, const peft_agree_pair *p)
{
    json_list(&s->j, "pairs", &s->begun);
    json_open(&s->j, NULL, '{');
    json_text(&s->j, "a", s->args->files.item[p->a]);
    json_text(&s->j, "b", s->args->files.item[p->b]);
    json_int(&s->j, "rows", p->rows);
    json_num(&s->j, "agreement", p->agreement);
    json_num(&s->j, "kappa", p->kappa);
    json_open(&s->j, "labels", '[');
    for (int32_t k = 0; k < p->n_labels; k++)
        json_text(&s->j, NULL, p->labels[k]);
    json_close(&s->j);
    json_open(&s->j, "confusion", '[');
    for (int32_t k = 0; k < p->n_labels; k++) {
        json_open(&s->j, NULL, '[');
        for (int32_t i = 0; i < p->n_labels; i++)
            json_int(&s->j, NULL, p->confusion[k * p->n_labels + i]);
        json_close(&s->j);
    }
    json_close(&s->j);
    json_close(&s->j);
}

/* A pair's confusion: the rows are the first one's labels. */
static void show_confusion(const struct agreed *s, const peft_agree_pair *p)
{
    const char *heads[13] = {""}, *cells[13];
    static char text[12][32], head[12][72];
    int32_t n = p->n_labels < 12 ? p->n_labels : 12;
    for (int32_t k = 0; k < n; k++) {
        snprintf(head[k], sizeof *head, ">%.60s", p->labels[k]);
        heads[k + 1] = head[k];
    }
    printf("%s%s (down) and %s (across)%s", paint(stdout, BOLD), file_name(s->args, p->a),
           file_name(s->args, p->b), paint(stdout, PLAIN));
    printf(": %lld rows, agreement %.1f %%, Cohen's kappa ", (long long)p->rows,
           100 * p->agreement);
    printf(isnan(p->kappa) ? "-\n" : "%.3f\n", p->kappa);
    if (p->n_labels > n) {
        printf("%d labels: --json has the table\n\n", (int)p->n_labels);
        return;
    }
    table_head(n + 1, heads);
    for (int32_t k = 0; k < n; k++) {
        cells[0] = p->labels[k];
        for (int32_t i = 0; i < n; i++) {
            snprintf(text[i], sizeof *text, "%lld", (long long)p->confusion[k * n + i]);
            cells[i + 1] = text[i];
        }
        table_row(cells);
    }
    table_end(stdout);
    printf("\n");
}

static int32_t on_pair(void *ctx, const peft_agree_pair *p)
{
    struct agreed *s = ctx;
    if (s->args->json)
        pair_json(s, p);
    else if (p->rows)
        show_confusion(s, p);
    else
        printf("%s and %s: no row in common\n\n", file_name(s->args, p->a),
               file_name(s->args, p->b));
    return interrupted();
}

static void text_or_null(struct json *j, const char *key, const char *s)
{
    if (s)
        json_text(j, key, s);
    else
        json_num(j, key, NAN);
}

static void row_json(struct agreed *s, const peft_agree_row *r)
{
    if (!s->in_rows) {
        json_close(&s->j);
        json_open(&s->j, "disagreements", '[');
    }
    s->in_rows = true;
    json_open(&s->j, NULL, '{');
    json_int(&s->j, "line", r->line);
    text_or_null(&s->j, "majority", r->majority);
    json_open(&s->j, "labels", '[');
    for (int32_t k = 0; k < r->n; k++)
        text_or_null(&s->j, NULL, r->labels[k]);
    json_close(&s->j);
    json_text(&s->j, "text", r->text);
    json_close(&s->j);
}

static int32_t on_row(void *ctx, const peft_agree_row *r)
{
    struct agreed *s = ctx;
    if (s->args->json) {
        row_json(s, r);
        return interrupted();
    }
    static const char *const heads[] = {">line", "labels", "majority", "text"};
    if (s->rows == s->top) {
        s->left++;
        return 0;
    }
    if (!s->rows++)
        table_head(4, heads);
    char line[32], given[128] = "";
    size_t at = 0;
    for (int32_t k = 0; k < r->n && at < sizeof given - 40; k++)
        at += (size_t)snprintf(given + at, sizeof given - at, "%s%.30s", k ? " " : "",
                               r->labels[k] ? r->labels[k] : "-");
    snprintf(line, sizeof line, "%lld", (long long)r->line);
    const char *cells[] = {line, given, r->majority ? r->majority : "(tie)",
                           cell_text(r->text, text_room(30 + (int)at))};
    table_row(cells);
    return interrupted();
}

static void show_agreement(const struct args *args, struct agreed *s, const peft_agreement *r)
{
    if (args->json) {
        if (!s->in_rows) {
            json_close(&s->j);
            json_open(&s->j, "disagreements", '[');
        }
        json_close(&s->j);
        json_int(&s->j, "rows", r->rows);
        json_int(&s->j, "shared", r->shared);
        json_int(&s->j, "labelled_by_all", r->all);
        json_int(&s->j, "unanimous", r->same);
        json_int(&s->j, "ties", r->ties);
        json_int(&s->j, "labels", r->labels);
        json_num(&s->j, "agreement", r->percent);
        json_num(&s->j, "fleiss_kappa", r->fleiss);
        json_int(&s->j, "written", r->written);
        json_close(&s->j);
        return;
    }
    char percent[32], fleiss[32];
    number_cell(percent, r->percent, 100);
    number_cell(fleiss, r->fleiss, 1);
    if (s->rows) {
        table_end(stdout);
        printf("\n");
    }
    if (s->left)
        note("%s more rows of disagreement: --top N shows them", show_count(s->left));
    printf("%s rows labelled by all %d: agreement %s %%, Fleiss' kappa %s\n", show_count(r->all),
           (int)args->files.n, percent, fleiss);
    printf("%s of ", show_count(r->same));
    printf("%s rows with two labels or more are unanimous", show_count(r->shared));
    printf(r->ties == 1 ? ", %s is a tie\n" : ", %s are ties\n", show_count(r->ties));
    if (args->out)
        note("%s rows with their majority are in %s%s", show_count(r->written), args->out,
             r->ties ? "; ties were left out" : "");
}

int run_data_agree(const struct args *args)
{
    struct agreed s = {.args = args, .top = args->top ? args->top : 20};
    struct source source;
    peft_agreement result = {.size = sizeof result};
    peft_agree_opts opts = {.size = sizeof opts, .out = args->out, .least = args->least,
                            .on_pair = on_pair, .on_row = on_row, .ctx = &s};
    if (args->files.n < 2)
        return usage_error("data agree needs the files of two labellers or more");
    source_begin(args, "reading", &source);
    opts.source = &source.opts;
    int rc = source_end(peft_data_agree(args->files.item, args->files.n, &opts, &result),
                        "cannot compare labels");
    if (!rc)
        show_agreement(args, &s, &result);
    return rc;
}
