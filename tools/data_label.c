/* peft data label: rows on the screen, one key a label. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "screen.h"

enum { LABELS_MAX = 60, KEYS_TAKEN = 128 };

struct labelling {
    const struct args *args;
    peft_labeller *session;
    peft_model *model;
    const char *label[LABELS_MAX];
    int key[LABELS_MAX], letter[LABELS_MAX];  /* letter: which byte of the label it is, or -1 */
    int n;
    peft_label_row row;
    bool more;                   /* there is a row */
    const char *likely;          /* what Enter gives; NULL = nothing */
    char reason[160];
    int page;                    /* of a text that is longer than the screen */
    int64_t first, given;        /* labelled before; in this session */
    double began;
};

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ------------------------------------------------------------------- keys */

/* A label's key is its first letter that is free, else a digit or letter of its own.  u, s
 * and q have meanings. */
static int take_keys(struct labelling *l)
{
    static const char others[] = "1234567890abcdefghijklmnoprtvwxyz";
    bool taken[KEYS_TAKEN] = {['u'] = true, ['s'] = true, ['q'] = true};
    for (const char *s; (s = peft_labeller_label(l->session, l->n)) != NULL; l->n++) {
        if (l->n == LABELS_MAX)
            return usage_error("more than %d labels, expected as many as there are keys",
                               LABELS_MAX);
        l->label[l->n] = s;
        l->letter[l->n] = -1;
        for (int i = 0; s[i] && l->letter[l->n] < 0; i++) {
            int c = tolower((unsigned char)s[i]);
            if (c < KEYS_TAKEN && isalpha(c) && !taken[c])
                l->letter[l->n] = i;
        }
        if (l->letter[l->n] >= 0)
            taken[l->key[l->n] = tolower((unsigned char)s[l->letter[l->n]])] = true;
    }
    for (int k = 0; k < l->n; k++) {
        const char *c = others;
        while (l->letter[k] < 0 && *c && taken[(int)*c])
            c++;
        if (l->letter[k] < 0 && !*c)
            return usage_error("%d labels, expected as many as there are keys", l->n);
        if (l->letter[k] < 0)
            taken[l->key[k] = *c] = true;
    }
    return 0;
}

/* -1 = no label has this key.  Digits count the labels where they are no keys. */
static int label_of(const struct labelling *l, int key)
{
    for (int k = 0; k < l->n; k++)
        if (l->key[k] == key || l->key[k] == (key < KEYS_TAKEN ? tolower(key) : key))
            return k;
    return key >= '1' && key <= '9' && key - '1' < l->n ? key - '1' : -1;
}

/* ---------------------------------------------------------------- drawing */

static int put_line(const char *s, int columns)
{
    const char *next = s;
    int lines = 0;
    do {
        const char *at = next;
        screen_text(at, screen_wrap(at, columns, &next));
        fputc('\n', stderr);
        lines++;
    } while (*next);
    return lines;
}

static void put_keys(const struct labelling *l, int columns)
{
    int at = 0;
    for (int k = 0; k < l->n; k++) {
        const char *s = l->label[k], *rest = l->letter[k] < 0 ? s : s + l->letter[k] + 1;
        int letter = l->letter[k], wide = text_columns(s) + (letter < 0 ? 4 : 2);
        if (at && at + 2 + wide > columns) {
            fputc('\n', stderr);
            at = 0;
        }
        fputs(at ? "  " : "", stderr);
        at += (at ? 2 : 0) + wide;
        screen_text(s, letter < 0 ? 0 : (size_t)letter);
        fprintf(stderr, "%s(%c)%s", paint(stderr, BOLD), letter < 0 ? l->key[k] : s[letter],
                paint(stderr, PLAIN));
        fputs(letter < 0 ? " " : "", stderr);
        screen_text(rest, strlen(rest));
    }
    fputc('\n', stderr);
}

static void put_head(const struct labelling *l, int columns)
{
    char head[160];
    int64_t left = l->row.rows - l->row.labelled - l->row.skipped;
    size_t n = (size_t)snprintf(head, sizeof head, "%lld of %lld labelled",
                                (long long)l->row.labelled, (long long)l->row.rows);
    if (l->row.skipped)
        n += (size_t)snprintf(head + n, sizeof head - n, ", %lld skipped",
                              (long long)l->row.skipped);
    if (l->given >= 5 && left)
        snprintf(head + n, sizeof head - n, ", %s left",
                 show_seconds((seconds_now() - l->began) / (double)l->given * (double)left));
    fputs(paint(stderr, DIM), stderr);
    put_line(head, columns);
    fputs(paint(stderr, PLAIN), stderr);
}

/* The page of the text that fits; Tab turns over. */
static void put_text(struct labelling *l, int columns, int lines)
{
    const char *s = l->row.text, *next = s;
    int all = 0, shown = 0;
    for (; *next; all++)
        screen_wrap(next, columns, &next);
    if (l->page * lines >= all)
        l->page = 0;
    next = s;
    for (int i = 0; i < all && shown < lines; i++) {
        const char *at = next;
        size_t n = screen_wrap(at, columns, &next);
        if (i < l->page * lines)
            continue;
        screen_text(at, n);
        fputc('\n', stderr);
        shown++;
    }
    if (all > lines)
        fprintf(stderr, "%s(Tab: %d more lines)%s\n", paint(stderr, DIM), all - shown,
                paint(stderr, PLAIN));
}

static void draw(struct labelling *l)
{
    int columns = screen_columns(), room = screen_lines() - 9 - l->n * 14 / columns;
    if (l->args->quiet && !screen_is_live())
        return;
    screen_clear();
    put_head(l, columns);
    fputc('\n', stderr);
    if (l->more)
        put_text(l, columns, room < 1 ? 1 : room);
    else
        put_line(l->row.skipped ? "Every row has a label or was skipped; skipped ones come again "
                 "next time." : "Every row has a label.", columns);
    fputc('\n', stderr);
    if (*l->reason) {
        fputs(paint(stderr, YELLOW), stderr);
        put_line(l->reason, columns);
        fputs(paint(stderr, PLAIN), stderr);
    }
    if (l->more)
        put_keys(l, columns);
    fputs(paint(stderr, DIM), stderr);
    put_line(l->more ? "u undo  s skip  q quit" : "u undo  q quit", columns);
    fputs(paint(stderr, PLAIN), stderr);
    if (!screen_is_live())
        fputc('\n', stderr);
    fflush(stderr);
}

/* ------------------------------------------------------------ suggestions */

static const char *own_label(const struct labelling *l, const char *name)
{
    for (int k = 0; k < l->n && name; k++)
        if (!strcmp(l->label[k], name))
            return l->label[k];
    return NULL;
}

static int ask_model(struct labelling *l)
{
    enum { CLASSES = 4096 };
    static float score[CLASSES];
    peft_classify_opts opts = {.size = sizeof opts, .max_len = l->args->max_len};
    int32_t best = 0, rc = peft_classify(l->model, &l->row.text, 1, &opts, score, &best);
    if (rc)
        return rc;
    l->likely = own_label(l, peft_label_name(l->model, best));
    if (l->likely)
        snprintf(l->reason, sizeof l->reason, "Enter: %.60s (the model, %.0f %%)", l->likely,
                 100 * (double)score[best]);
    return 0;
}

/* What Enter would give: what the model says, else what the file says. */
static int suggest(struct labelling *l)
{
    l->likely = NULL;
    *l->reason = 0;
    l->page = 0;
    if (!l->more)
        return 0;
    if (l->model)
        return ask_model(l);
    if (l->args->blind)
        return 0;
    const char *given = own_label(l, l->row.given), *likely = own_label(l, l->row.likely);
    l->likely = likely ? likely : given;
    if (likely && l->row.given)
        snprintf(l->reason, sizeof l->reason, "Enter: %.40s (the file says %.40s)", likely,
                 l->row.given);
    else if (l->likely)
        snprintf(l->reason, sizeof l->reason, "Enter: %.40s (as in the file)", l->likely);
    return 0;
}

static int next_row(struct labelling *l)
{
    l->row = (peft_label_row){.size = sizeof l->row};
    int32_t rc = peft_labeller_row(l->session, &l->row);
    l->more = rc == PEFT_OK;
    return rc && rc != PEFT_EEND ? rc : suggest(l);
}

/* ------------------------------------------------------------------- loop */

/* What a key does: PEFT_OK and *moved where there is another row to show. */
static int32_t press(struct labelling *l, int key, bool *moved)
{
    int k = label_of(l, key);
    const char *label = k >= 0 ? l->label[k] : key == '\n' || key == '\r' ? l->likely : NULL;
    int32_t rc = PEFT_EEND;
    *moved = true;
    if (key == 'u' || key == KEY_LEFT || key == 127 || key == 8) {
        rc = peft_labeller_undo(l->session);
        l->given -= !rc && l->given > 0;
    } else if (l->more && (key == 's' || key == KEY_RIGHT))
        rc = peft_labeller_skip(l->session);
    else if (l->more && label) {
        rc = peft_labeller_give(l->session, label);
        l->given += !rc;
    } else if (l->more && key == '\t') {
        l->page++;
        *moved = false;
        return PEFT_OK;
    }
    if (rc != PEFT_EEND)
        return rc;
    *moved = false;
    screen_bell();
    return PEFT_OK;
}

static int label_rows(struct labelling *l)
{
    bool moved = false;
    int32_t rc = next_row(l);
    int key = 0;
    draw(l);
    while (!rc && (key = screen_key()) != 'q' && key != KEY_END && key != KEY_STOP && key != 4) {
        /* Line ends between keys of a pipe mean nothing where nothing is suggested. */
        if (!screen_is_live() && (key == '\n' || key == '\r') && !l->likely)
            continue;
        rc = key == KEY_REDRAW ? PEFT_OK : press(l, key, &moved);
        if (!rc && moved && key != KEY_REDRAW)
            rc = next_row(l);
        if (!rc && (moved || screen_is_live()))
            draw(l);
    }
    return rc ? rc : key == KEY_STOP ? PEFT_ECANCELLED : PEFT_OK;
}

static int open_suggestions(const struct args *args, struct labelling *l)
{
    peft_info info;
    int rc = args->model ? open_model_at(args, args->model, &l->model, &info) : 0;
    if (!rc && l->model)
        rc = open_adapter(args, l->model, &info);
    if (rc || !l->model)
        return rc;
    for (int32_t i = 0; i < info.labels; i++)
        if (own_label(l, peft_label_name(l->model, i)))
            return 0;
    return usage_error("the model's head knows none of the labels, expected one of classification "
                       "with their names");
}

static void report(const struct labelling *l)
{
    if (l->args->json) {
        struct json j;
        json_begin(&j, stdout);
        json_open(&j, NULL, '{');
        json_int(&j, "rows", l->row.rows);
        json_int(&j, "labelled", l->row.labelled);
        json_int(&j, "labelled_now", l->given);
        json_int(&j, "skipped", l->row.skipped);
        json_text(&j, "out", l->args->out);
        json_close(&j);
    }
    note("%lld of %lld rows are labelled, in %s%s", (long long)l->row.labelled,
         (long long)l->row.rows, l->args->out,
         l->row.labelled < l->row.rows ? "; the same command goes on" : "");
}

int run_data_label(const struct args *args)
{
    struct labelling l = {.args = args};
    struct source source;
    if (!args->out)
        return usage_error("data label needs --out LABELLED.jsonl");
    peft_label_opts opts = {.size = sizeof opts, .labels = args->labels, .by = args->by};
    source_begin(args, "reading", &source);
    opts.source = &source.opts;
    int32_t code = peft_labeller_open(args->operand, args->out, &opts, &l.session);
    interrupt_release();
    int rc = code == PEFT_EARG || code == PEFT_ESTATE ? usage_error("%s", peft_errmsg()) :
             code ? library_error(code, "cannot label") : take_keys(&l);
    if (!rc)
        rc = open_suggestions(args, &l);
    if (!rc) {
        screen_enter();
        l.began = seconds_now();
        code = label_rows(&l);
        char *reason = format("%s", peft_errmsg());
        screen_leave();
        if (code && code != PEFT_ECANCELLED) {
            runtime_error("cannot label: %s", reason);
            rc = EXIT_RUNTIME;
        } else {
            peft_labeller_row(l.session, &l.row);
            report(&l);
            rc = code ? EXIT_INTERRUPTED : EXIT_OK;
        }
        free(reason);
    }
    peft_labeller_free(l.session);
    peft_model_free(l.model);
    return rc;
}
