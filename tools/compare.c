/* peft eval with several systems: adapters, other models, and few-shot prompts of the
 * untouched model, side by side, with intervals and paired tests. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train.h"

enum { CONTENDERS = 14, FIGURES = 24 };
struct contender {
    char *name;
    const char *model, *adapter;       /* adapter NULL = none */
    bool tuned;                        /* by an adapter, or a run's own model */
    int32_t shots, system;             /* system: its number on the board */
    bool majority;
    peft_judged told;
    int64_t memory;
    peft_figure figure[FIGURES];
    int32_t n_figures;
};
struct contest {
    const struct args *args;
    peft_board *board;
    struct contender v[CONTENDERS];
    int n;
    const char *now;                   /* name of the one that runs */
    const char *figure[FIGURES];       /* names, in the order of the table */
    int n_figures;
};

bool eval_compares(const struct args *args)
{
    return args->with.n || args->others.n || args->few_shot || args->generate || args->out;
}

/* -------------------------------------------------------------- contenders */

static int add(struct contest *c, char *name, const char *model, const char *adapter, int shots)
{
    if (c->n == CONTENDERS) {
        free(name);
        return usage_error("more than %d systems", (int)CONTENDERS);
    }
    c->v[c->n++] = (struct contender){.name = name, .model = model, .adapter = adapter,
                                      .tuned = adapter || model != c->args->operand,
                                      .shots = shots, .system = -1};
    return 0;
}

/* NAME=PATH of an option. */
static int add_named(struct contest *c, const char *option, const char *given, bool adapter)
{
    const char *path = strchr(given, '=');
    if (!path || path == given || !path[1])
        return usage_error("--%s is \"%s\", expected NAME=PATH", option, given);
    char *name = format("%.*s", (int)(path - given), given);
    if (!adapter || is_model_folder(path + 1))
        return add(c, name, path + 1, NULL, 0);
    return add(c, name, c->args->operand, path + 1, 0);
}

/* "NAME=": what the untouched model, always the first, is called. */
static bool names_base(const char *given)
{
    const char *path = strchr(given, '=');
    return path && path > given && !path[1];
}

static int add_all(struct contest *c)
{
    const struct args *a = c->args;
    const char *base = "base";
    int named = -1;
    for (int i = 0; i < a->with.n && named < 0; i++)
        if (names_base(a->with.item[i]))
            named = i;
    if (named >= 0)
        base = a->with.item[named];
    int n = (int)strcspn(base, "="), rc = add(c, format("%.*s", n, base), a->operand, NULL, 0);
    if (!rc && a->few_shot)
        rc = add(c, format("%.*s, %d shot%s", n, base, a->few_shot, a->few_shot > 1 ? "s" : ""),
                 a->operand, NULL, a->few_shot);
    if (!rc && a->adapter)
        rc = add(c, format("adapter"), a->operand, a->adapter, 0);
    for (int i = 0; i < a->with.n && !rc; i++)
        if (i != named)
            rc = add_named(c, "with", a->with.item[i], true);
    for (int i = 0; i < a->others.n && !rc; i++)
        rc = add_named(c, "model", a->others.item[i], false);
    return rc;
}

static int32_t on_progress(void *ctx, const char *doing, int64_t done, int64_t rows)
{
    const struct contest *c = ctx;
    if (stderr_is_live())
        progress(false, "%s: %s %lld of %lld rows", c->now, doing, (long long)done,
                 (long long)rows);
    return interrupted();
}

static int measure(struct contest *c, struct contender *x)
{
    peft_model *model = NULL;
    peft_info info;
    int rc = x->majority ? 0 : open_model_at(c->args, x->model, &model, &info);
    c->now = x->name;
    if (!rc && x->adapter) {
        int32_t code = peft_adapter_load(model, "default", x->adapter);
        if (code)
            rc = library_error(code, format("cannot load %s", x->name));
    }
    if (rc) {
        peft_model_free(model);
        return rc;
    }
    x->told.size = sizeof x->told;
    x->system = peft_board_run(c->board, model, x->name, x->shots, &x->told);
    x->memory = memory_resident();
    peft_model_free(model);
    if (stderr_is_live())
        fprintf(stderr, "\r\033[K");
    if (interrupted())
        return EXIT_INTERRUPTED;
    if (x->system == PEFT_EUNSUPPORTED && !x->adapter) {
        if (!x->majority)
            note("%s cannot be measured on these rows: %s", x->name, peft_errmsg());
        return 0;
    }
    return x->system < 0 ? library_error(x->system, format("cannot measure %s", x->name)) : 0;
}

static void drop(struct contest *c, int at)
{
    free(c->v[at].name);
    memmove(c->v + at, c->v + at + 1, (size_t)(--c->n - at) * sizeof *c->v);
}

/* Those that have no answer to such rows leave; classes get the simplest answer of all. */
static int measure_all(struct contest *c)
{
    int rc = 0;
    bool classes = false;
    for (int i = 0; i < c->n && !rc;) {
        rc = measure(c, &c->v[i]);
        if (!rc && c->v[i].system < 0)
            drop(c, i);
        else
            classes |= c->v[i++].told.labels > 0;
    }
    if (!rc && !c->n)
        return runtime_error("there is nothing to compare");
    if (rc || !classes || (rc = add(c, format("majority"), NULL, NULL, 0)) != 0)
        return rc;
    c->v[c->n - 1].majority = true;
    rc = measure(c, &c->v[c->n - 1]);
    if (!rc && c->v[c->n - 1].system < 0)
        drop(c, c->n - 1);
    return rc;
}

static int find_figures(struct contest *c)
{
    for (int i = 0; i < c->n; i++)
        for (struct contender *x = &c->v[i]; x->n_figures < FIGURES; x->n_figures++) {
            peft_figure *f = &x->figure[x->n_figures];
            f->size = sizeof *f;
            int32_t rc = peft_board_figure(c->board, x->system, x->n_figures, f);
            if (rc == PEFT_EEND)
                break;
            if (rc)
                return library_error(rc, "cannot compute figures");
            int k = 0;
            while (k < c->n_figures && strcmp(c->figure[k], f->name))
                k++;
            if (k == c->n_figures && k < FIGURES)
                c->figure[c->n_figures++] = f->name;
        }
    return 0;
}

static const peft_figure *figure_of(const struct contender *x, const char *name)
{
    for (int i = 0; i < x->n_figures; i++)
        if (!strcmp(x->figure[i].name, name))
            return &x->figure[i];
    return NULL;
}

static bool versus(struct contest *c, int a, int b, const char *figure, peft_versus *v)
{
    *v = (peft_versus){.size = sizeof *v};
    return !peft_board_versus(c->board, c->v[a].system, c->v[b].system, figure, v);
}

/* ----------------------------------------------------------------- verdicts */

/* The figures that sentences are about: a language model's likelihood and what it writes,
 * else the first. */
static int telling(struct contest *c, const char *names[2])
{
    int n = 0;
    peft_versus v;
    names[n++] = c->figure[0];
    if (strcmp(c->figure[0], "perplexity"))
        return n;
    for (int i = 1; i < c->n; i++)     /* other tokens tell of another likelihood */
        if (!versus(c, 0, i, "perplexity", &v) && versus(c, 0, i, "bits_per_byte", &v))
            names[0] = "bits_per_byte";
    for (int i = 0; i < c->n_figures; i++)
        if (!strcmp(c->figure[i], "rougeL"))
            names[n++] = c->figure[i];
    return n;
}

/* The best of those that were tuned, or NULL. */
static int best_tuned(const struct contest *c, const char *figure)
{
    int best = -1;
    for (int i = 0; i < c->n; i++) {
        const peft_figure *f = figure_of(&c->v[i], figure);
        if (!f || !c->v[i].tuned)
            continue;
        const peft_figure *b = best < 0 ? NULL : figure_of(&c->v[best], figure);
        if (!b || (f->lower ? f->value < b->value : f->value > b->value))
            best = i;
    }
    return best;
}

typedef void say(void *to, const char *words);

static void verdicts(struct contest *c, say *out, void *to)
{
    const char *names[2];
    peft_versus v;
    for (int k = 0, n = telling(c, names); k < n; k++) {
        for (int i = 1; i < c->n; i++)
            if (!c->v[i].majority && versus(c, 0, i, names[k], &v))
                out(to, v.words);
        int best = best_tuned(c, names[k]);
        for (int i = 1; i < c->n && best > 0; i++)
            if ((c->v[i].shots || c->v[i].majority || c->v[i].tuned) && i != best &&
                versus(c, i, best, names[k], &v))
                out(to, v.words);
    }
}

static void print_line(void *to, const char *words)
{
    (void)to;
    printf("%s\n", words);
}

static void put_element(void *to, const char *words)
{
    json_text(to, NULL, words);
}

/* ------------------------------------------------------------------ outputs */

static const char *number(double x, char text[32])
{
    double size = fabs(x);
    snprintf(text, 32, "%.*f", size < 9.9995 ? 3 : size < 999.95 ? 2 : 0, x);
    return text;
}

/* "0.812 [0.780, 0.843] +": + and - tell that the first system is worse or better. */
static void put_cell(struct contest *c, int i, const char *figure, char cell[96])
{
    char x[3][32];
    const peft_figure *f = figure_of(&c->v[i], figure);
    peft_versus v;
    if (!f) {
        snprintf(cell, 96, "-  ");
        return;
    }
    bool known = i > 0 && versus(c, 0, i, figure, &v);
    snprintf(cell, 96, "%s [%s, %s]%s", number(f->value, x[0]), number(f->low, x[1]),
             number(f->high, x[2]), !known ? "  " : v.verdict > 0 ? " +" : v.verdict < 0 ? " -" :
             " =");
}

static const struct { const char *name; int what; } costs[] = {
    {"seconds", 0}, {"memory", 1}, {"tokens read", 2}, {"tokens written", 3}};

static void put_cost(const struct contender *x, int what, char cell[96])
{
    const peft_judged *t = &x->told;
    int64_t count = what == 2 ? t->prompt_tokens : t->tokens;
    if (what == 0)
        snprintf(cell, 96, "%.1f  ", t->seconds);
    else if (what == 1)
        snprintf(cell, 96, "%s  ", show_bytes(x->memory));
    else
        snprintf(cell, 96, "%s  ", count ? show_count(count) : "-");
}

static void print_table(struct contest *c)
{
    const char *cells[CONTENDERS + 1];
    char text[CONTENDERS][96];
    cells[0] = "";
    for (int i = 0; i < c->n; i++) {
        snprintf(text[i], sizeof text[i], ">%.60s  ", c->v[i].name);
        cells[i + 1] = text[i];
    }
    table_head(c->n + 1, cells);
    for (int k = 0; k < c->n_figures; k++) {
        cells[0] = c->figure[k];
        for (int i = 0; i < c->n; i++)
            put_cell(c, i, c->figure[k], text[i]);
        table_row(cells);
    }
    for (size_t k = 0; k < sizeof costs / sizeof *costs; k++) {
        bool some = false;
        cells[0] = costs[k].name;
        for (int i = 0; i < c->n; i++) {
            put_cost(&c->v[i], costs[k].what, text[i]);
            some |= text[i][0] != '-';
        }
        if (some)
            table_row(cells);
    }
    table_end(stdout);
    printf("\n");
    for (int i = 0; i < c->n; i++)
        if (c->v[i].told.how[0])
            printf("%s: %s\n", c->v[i].name, c->v[i].told.how);
    verdicts(c, print_line, NULL);
}

static void put_confusion(struct contest *c, struct json *j, const struct contender *x)
{
    int32_t n = peft_board_confusion(c->board, x->system, NULL);
    if (n < 1)
        return;
    int64_t *counts = grow(NULL, (size_t)n * (size_t)n * sizeof *counts);
    peft_board_confusion(c->board, x->system, counts);
    json_open(j, "confusion", '[');
    for (int32_t i = 0; i < n; i++) {
        json_open(j, NULL, '[');
        for (int32_t k = 0; k < n; k++)
            json_int(j, NULL, counts[i * n + k]);
        json_close(j);
    }
    json_close(j);
    free(counts);
}

static void put_system(struct contest *c, struct json *j, int at)
{
    const struct contender *x = &c->v[at];
    peft_versus v;
    json_open(j, NULL, '{');
    json_text(j, "name", x->name);
    if (x->told.how[0])
        json_text(j, "how", x->told.how);
    json_int(j, "shots", x->told.shots);
    json_int(j, "rows", x->told.rows);
    json_num(j, "seconds", x->told.seconds);
    json_int(j, "memory", x->memory);
    json_int(j, "prompt_tokens", x->told.prompt_tokens);
    json_int(j, "tokens", x->told.tokens);
    json_open(j, "figures", '{');
    for (int i = 0; i < x->n_figures; i++) {
        const peft_figure *f = &x->figure[i];
        json_open(j, f->name, '{');
        json_num(j, "value", f->value);
        json_num(j, "low", f->low);
        json_num(j, "high", f->high);
        if (at > 0 && versus(c, 0, at, f->name, &v)) {
            json_num(j, "gain", v.gain);
            json_num(j, "gain_low", v.low);
            json_num(j, "gain_high", v.high);
            json_num(j, "p", v.p);
            json_int(j, "verdict", v.verdict);
        }
        json_close(j);
    }
    json_close(j);
    put_confusion(c, j, x);
    json_close(j);
}

static void print_json(struct contest *c)
{
    struct json j;
    json_begin(&j, stdout);
    json_open(&j, NULL, '{');
    json_text(&j, "data", c->args->data);
    if (peft_board_label(c->board, 0)) {
        json_open(&j, "labels", '[');
        for (int32_t i = 0; peft_board_label(c->board, i); i++)
            json_text(&j, NULL, peft_board_label(c->board, i));
        json_close(&j);
    }
    json_open(&j, "systems", '[');
    for (int i = 0; i < c->n; i++)
        put_system(c, &j, i);
    json_close(&j);
    json_open(&j, "verdicts", '[');
    verdicts(c, put_element, &j);
    json_close(&j);
    json_close(&j);
}

static void put_prediction(struct json *j, const char *name, const peft_prediction *p)
{
    json_open(j, name, '{');
    if (p->said)
        json_text(j, "said", p->said);
    if (p->confidence > 0)
        json_num(j, "confidence", p->confidence);
    if (p->terms)
        json_num(j, "loss", p->loss / (double)p->terms);
    json_close(j);
}

/* Every system's answer to each row of the first one; whole or not at all. */
static int write_rows(struct contest *c)
{
    int64_t at[CONTENDERS] = {0};
    char *path = format("%s.tmp", c->args->out);
    FILE *to = fopen(path, "w");
    peft_prediction p = {.size = sizeof p}, q = {.size = sizeof q};
    for (int64_t i = 0; to && !peft_board_row(c->board, c->v[0].system, i, &p); i++) {
        struct json j;
        json_begin(&j, to);
        json_open(&j, NULL, '{');
        json_int(&j, "line", p.line);
        if (p.wanted)
            json_text(&j, "wanted", p.wanted);
        json_open(&j, "systems", '{');
        for (int k = 0; k < c->n; k++) {
            int32_t rc;
            while (!(rc = peft_board_row(c->board, c->v[k].system, at[k], &q)) && q.line < p.line)
                at[k]++;
            if (!rc && q.line == p.line)
                put_prediction(&j, c->v[k].name, &q);
        }
        json_close(&j);
        json_close(&j);
    }
    bool bad = !to || ferror(to);
    if (to && fclose(to))
        bad = true;
    if (bad || rename(path, c->args->out)) {
        remove(path);
        bad = true;
    }
    free(path);
    return bad ? runtime_error("cannot write %s", c->args->out) : 0;
}

/* ------------------------------------------------------------------ command */

int run_comparison(const struct args *args)
{
    static struct contest c;
    peft_dataset_opts data = data_opts(args);
    peft_board_opts o = {.size = sizeof o, .data = &data, .shots = args->shots,
                         .question = args->question, .generate = args->generate,
                         .max_tokens = args->max_tokens, .batch = args->batch,
                         .samples = args->samples, .level = args->confidence / 100,
                         .seed = args->seed, .progress = on_progress, .ctx = &c};
    c.args = args;
    if (args->few_shot && !args->shots)
        return usage_error("which examples?  --shots FILE");
    if (args->shots && !strcmp(args->shots, args->data))
        return usage_error("--shots are the rows that are measured: examples must be others");
    int rc = add_all(&c);
    int32_t code = rc ? 0 : peft_board_new(args->data, &o, &c.board);
    if (code)
        rc = library_error(code, "cannot compare");
    interrupt_catch(NULL);
    if (!rc)
        rc = measure_all(&c);
    interrupt_release();
    if (!rc)
        rc = find_figures(&c);
    if (!rc && args->out)
        rc = write_rows(&c);
    if (!rc && args->json)
        print_json(&c);
    else if (!rc)
        print_table(&c);
    for (int i = 0; i < c.n; i++)
        free(c.v[i].name);
    peft_board_free(c.board);
    return rc;
}
