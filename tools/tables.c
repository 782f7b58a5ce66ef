/* Tables of results.  What stands in them may come from anybody's data: control characters
 * do not reach a terminal, and mark-up does not reach a page. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tables.h"
#include "train.h"

/* ------------------------------------------------------------------- reading */

const peft_cell *table_cell(const peft_table *t, int64_t row, const char *column)
{
    for (int32_t c = 0; c < t->n_columns; c++)
        if (!strcmp(t->columns[c], column))
            return &t->cells[row * t->n_columns + c];
    return NULL;
}

const peft_cell *table_fact(const peft_table *t, const char *name)
{
    for (int64_t i = 0; i < t->n_rows; i++)
        if (t->cells[2 * i].text && !strcmp(t->cells[2 * i].text, name))
            return &t->cells[2 * i + 1];
    return NULL;
}

static double number_at(const peft_table *t, int64_t row, const char *column)
{
    const peft_cell *c = table_cell(t, row, column);
    return c ? c->number : 0;
}

static bool is_whole(double x)
{
    return x >= -9e15 && x <= 9e15 && x == floor(x);
}

/* "first_line" is "first line" for people; shares are per cent. */
static char *cell_words(const peft_cell *c, const char *column)
{
    if (c->text)
        return format("%s", c->text);
    if (isnan(c->number))
        return format("%s", "");
    if (!strcmp(column, "share") || !strcmp(column, "filled"))
        return format("%.*f %%", c->number < 0.0995 && c->number > 0 ? 1 : 0, 100 * c->number);
    if (is_whole(c->number))
        return format("%s", show_count((int64_t)c->number));
    return format("%.4g", c->number);
}

static char *spaced(const char *name)
{
    char *s = format("%s", name);
    for (char *p = s; *p; p++)
        if (*p == '_')
            *p = ' ';
    return s;
}

/* Characters that would move the cursor or turn the writing around do not reach a terminal. */
static char *tame(char *s)
{
    for (unsigned char *p = (unsigned char *)s; *p; p++) {
        bool c1 = *p == 0xC2 && p[1] >= 0x80 && p[1] < 0xA0;
        bool turns = *p == 0xE2 && ((p[1] == 0x80 && p[2] >= 0xAA && p[2] <= 0xAE) ||
                                    (p[1] == 0x81 && p[2] >= 0xA6 && p[2] <= 0xA9));
        if (*p < 32 || *p == 127)
            *p = ' ';
        else if (c1 || turns)
            memset(p, '?', turns ? 3 : 2);
    }
    return s;
}

static char *clip(char *s, int columns)
{
    int n = 0;
    for (char *p = s; *p; p++) {
        n += (*p & 0xC0) != 0x80;
        if (n == columns && text_columns(p) > 1) {
            char *cut = format("%.*s…", (int)(p - s), s);
            free(s);
            return cut;
        }
    }
    return s;
}

/* A column of nothing but zeros and gaps tells nothing. */
static bool is_idle(const peft_table *t, int32_t column)
{
    for (int64_t i = 0; i < t->n_rows; i++) {
        const peft_cell *c = &t->cells[i * t->n_columns + column];
        if (c->text ? *c->text : !isnan(c->number) && fabs(c->number) > 0)
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------ terminal */

static void print_facts(FILE *to, const peft_table *t)
{
    int width = 0;
    for (int64_t i = 0; i < t->n_rows; i++) {
        int n = text_columns(t->cells[2 * i].text);
        width = n > width ? n : width;
    }
    for (int64_t i = 0; i < t->n_rows; i++) {
        char *name = spaced(t->cells[2 * i].text);
        char *value = tame(cell_words(&t->cells[2 * i + 1], t->cells[2 * i].text));
        fprintf(to, "%s%*s  %s\n", name, width - text_columns(name), "", value);
        free(value);
        free(name);
    }
}

/* Eighths of a character's width. */
static void print_bar(FILE *to, double share, int width)
{
    static const char *const part[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    int eighths = (int)(share * width * 8 + 0.5);
    if (!eighths && share > 0)
        eighths = 1;
    for (int i = 0; i < eighths / 8; i++)
        fputs("█", to);
    fputs(part[eighths % 8], to);
    fprintf(to, "%*s", width - (eighths + 7) / 8, "");
}

static char *bar_name(const peft_table *t, int64_t i)
{
    if (t->kind == PEFT_TABLE_BARS)
        return clip(tame(cell_words(&t->cells[i * t->n_columns], t->columns[0])), 32);
    const char *from = show_count((int64_t)number_at(t, i, "from"));
    const char *last = show_count((int64_t)number_at(t, i, "to"));
    return strcmp(from, last) ? format("%s – %s", from, last) : format("%s", from);
}

static void print_bars(FILE *to, const peft_table *t)
{
    enum { MOST = 20 };
    int64_t shown = t->kind == PEFT_TABLE_BARS && t->n_rows > MOST ? MOST : t->n_rows;
    double most = 1, all = 0;
    int names = 0, room = terminal_columns(to);
    for (int64_t i = 0; i < t->n_rows; i++) {
        most = fmax(most, number_at(t, i, "rows"));
        all += number_at(t, i, "rows");
    }
    for (int64_t i = 0; i < shown; i++) {
        char *name = bar_name(t, i);
        int n = text_columns(name);
        names = n > names ? n : names;
        free(name);
    }
    int width = (room > 110 ? 110 : room) - names - 24;
    for (int64_t i = 0; i < shown; i++) {
        char *name = bar_name(t, i);
        double rows = number_at(t, i, "rows");
        int pad = names - text_columns(name);
        bool right = t->kind == PEFT_TABLE_HISTOGRAM;
        fprintf(to, "%*s%s%*s  %s", right ? pad : 0, "", name, right ? 0 : pad, "",
                paint(to, GREEN));
        print_bar(to, rows / most, width < 8 ? 8 : width);
        fprintf(to, "%s %s", paint(to, PLAIN), show_count((int64_t)rows));
        fprintf(to, "  %.*f %%\n", rows < 0.0995 * all ? 1 : 0, 100 * rows / fmax(all, 1));
        free(name);
    }
    if (shown < t->n_rows)
        fprintf(to, "and %s more\n", show_count(t->n_rows - shown));
}

static void print_list(FILE *to, const peft_table *t)
{
    enum { MOST = 16 };
    const char *cells[MOST];
    char *made[MOST];
    int32_t shown[MOST], n = 0;
    int room = terminal_columns(to);
    for (int32_t c = 0; c < t->n_columns && n < MOST; c++)
        if (!c || !is_idle(t, c))
            shown[n++] = c;
    for (int64_t i = -1; i < t->n_rows; i++) {
        for (int32_t k = 0; k < n; k++) {
            const char *name = t->columns[shown[k]];
            const peft_cell *cell = &t->cells[(i < 0 ? 0 : i) * t->n_columns + shown[k]];
            char *words = i < 0 ? spaced(name) : cell_words(cell, name);
            if (i >= 0)
                words = clip(tame(words), k < n - 1 ? 40 : room > 80 ? room - 30 : 50);
            cells[k] = made[k] = i < 0 ? format("%s%s", cell->text ? "" : ">", words) : words;
            if (i < 0)
                free(words);
        }
        if (i < 0)
            table_head(n, cells);
        else
            table_row(cells);
        for (int32_t k = 0; k < n; k++)
            free(made[k]);
    }
    table_end(to);
}

/* A level and a text. */
static bool is_notes(const peft_table *t)
{
    return t->n_columns == 2 && !strcmp(t->columns[0], "level");
}

static void print_notes(FILE *to, const peft_table *t)
{
    for (int64_t i = 0; i < t->n_rows; i++) {
        bool bad = !strcmp(t->cells[2 * i].text, "warning");
        char *text = tame(cell_words(&t->cells[2 * i + 1], ""));
        fprintf(to, "%s%s%s %s\n", paint(to, bad ? YELLOW : DIM), bad ? "!" : "·",
                paint(to, PLAIN), text);
        free(text);
    }
}

void table_print(FILE *to, const peft_table *t)
{
    if (!t->n_rows)
        return;
    fprintf(to, "\n%s%s%s\n", paint(to, BOLD), t->title, paint(to, PLAIN));
    if (t->kind == PEFT_TABLE_FACTS)
        print_facts(to, t);
    else if (t->kind != PEFT_TABLE_LIST)
        print_bars(to, t);
    else if (is_notes(t))
        print_notes(to, t);
    else
        print_list(to, t);
}

/* ---------------------------------------------------------------------- JSON */

static void cell_json(struct json *j, const char *key, const peft_cell *c)
{
    if (c->text)
        json_text(j, key, c->text);
    else if (is_whole(c->number))
        json_int(j, key, (int64_t)c->number);
    else
        json_num(j, key, c->number);
}

void table_json(struct json *j, const peft_table *t)
{
    bool facts = t->kind == PEFT_TABLE_FACTS;
    json_open(j, t->name, facts ? '{' : '[');
    for (int64_t i = 0; i < t->n_rows; i++) {
        const peft_cell *row = t->cells + i * t->n_columns;
        if (facts) {
            cell_json(j, row[0].text, &row[1]);
            continue;
        }
        json_open(j, NULL, '{');
        for (int32_t c = 0; c < t->n_columns; c++)
            cell_json(j, t->columns[c], &row[c]);
        json_close(j);
    }
    json_close(j);
}

/* ---------------------------------------------------------------------- HTML */

static void html_cell(FILE *to, const peft_cell *c, const char *column, const char *tag)
{
    char *words = cell_words(c, column);
    fprintf(to, "<%s%s>", tag, c->text ? "" : " class=\"n\"");
    html_text(to, words);
    fprintf(to, "</%.2s>", tag);
    free(words);
}

static void html_heads(FILE *to, const peft_table *t)
{
    fputs("<thead><tr>", to);
    for (int32_t c = 0; c < t->n_columns; c++) {
        if (c && is_idle(t, c))
            continue;
        char *name = spaced(t->columns[c]);
        peft_cell head = {name, 0};
        html_cell(to, &head, "", t->cells[c].text ? "th" : "th class=\"n\"");
        free(name);
    }
    fputs("</tr></thead>", to);
}

static void html_rows(FILE *to, const peft_table *t)
{
    fputs("<table>", to);
    html_heads(to, t);
    fputs("<tbody>\n", to);
    for (int64_t i = 0; i < t->n_rows; i++) {
        fputs("<tr>", to);
        for (int32_t c = 0; c < t->n_columns; c++)
            if (!c || !is_idle(t, c))
                html_cell(to, &t->cells[i * t->n_columns + c], t->columns[c], "td");
        fputs("</tr>\n", to);
    }
    fputs("</tbody></table>", to);
}

static void html_facts(FILE *to, const peft_table *t)
{
    fputs("<table class=\"facts\"><tbody>\n", to);
    for (int64_t i = 0; i < t->n_rows; i++) {
        char *name = spaced(t->cells[2 * i].text);
        peft_cell key = {name, 0};
        fputs("<tr>", to);
        html_cell(to, &key, "", "th scope=\"row\"");
        html_cell(to, &t->cells[2 * i + 1], t->cells[2 * i].text, "td");
        fputs("</tr>\n", to);
        free(name);
    }
    fputs("</tbody></table>", to);
}

/* One bar a row, named at its left. */
static void html_bars(FILE *to, const peft_table *t)
{
    enum { MOST = 40 };
    double most = 1;
    for (int64_t i = 0; i < t->n_rows; i++)
        most = fmax(most, number_at(t, i, "rows"));
    fputs("<div class=\"bars\">\n", to);
    for (int64_t i = 0; i < t->n_rows && i < MOST; i++) {
        char *name = bar_name(t, i);
        double rows = number_at(t, i, "rows");
        fputs("<span>", to);
        html_text(to, name);
        fprintf(to, "</span><i><b style=\"width:%.2f%%\"></b></i><span class=\"n\">%s</span>\n",
                100 * rows / most, show_count((int64_t)rows));
        free(name);
    }
    fputs("</div>", to);
    if (t->n_rows > MOST)
        fprintf(to, "<p>and %s more</p>", show_count(t->n_rows - MOST));
}

static void html_notes(FILE *to, const peft_table *t)
{
    fputs("<ul class=\"notes\">", to);
    for (int64_t i = 0; i < t->n_rows; i++) {
        fprintf(to, "<li class=\"%s\">", strcmp(t->cells[2 * i].text, "warning") ? "" : "bad");
        html_text(to, t->cells[2 * i + 1].text);
        fputs("</li>\n", to);
    }
    fputs("</ul>", to);
}

/* Its bars have one width, but for the last, which ends where the data does. */
static void html_histogram(FILE *to, const peft_table *t)
{
    int64_t *count = grow(NULL, (size_t)t->n_rows * sizeof *count);
    for (int64_t i = 0; i < t->n_rows; i++)
        count[i] = (int64_t)number_at(t, i, "rows");
    double from = number_at(t, 0, "from");
    double width = t->n_rows > 1 ? number_at(t, 1, "from") - from :
                   number_at(t, 0, "to") - from + 1;
    chart_bars(to, t->title, "", count, (int)t->n_rows, from, width);
    free(count);
}

void table_html(FILE *to, const peft_table *t)
{
    if (!t->n_rows)
        return;
    if (t->kind == PEFT_TABLE_HISTOGRAM) {
        html_histogram(to, t);
        return;
    }
    fputs("<figure><figcaption>", to);
    html_text(to, t->title);
    fputs("</figcaption><div class=\"wide\">", to);
    if (is_notes(t))
        html_notes(to, t);
    else if (t->kind == PEFT_TABLE_BARS)
        html_bars(to, t);
    else if (t->kind == PEFT_TABLE_FACTS)
        html_facts(to, t);
    else
        html_rows(to, t);
    fputs("</div></figure>\n", to);
}

/* -------------------------------------------------------------------- sheets */

void sheet_begin(struct sheet *s, int32_t kind, const char *name, const char *title,
                 const char *const *columns, int32_t n)
{
    *s = (struct sheet){.view = {.size = sizeof s->view, .name = name, .title = title,
                                 .kind = kind, .n_columns = n}};
    for (int32_t c = 0; c < n && c < 16; c++)
        s->columns[c] = columns[c];
}

static void sheet_add(struct sheet *s, peft_cell cell)
{
    if (s->n == s->cap)
        s->cells = grow(s->cells, (size_t)(s->cap = 2 * s->cap + 32) * sizeof *s->cells);
    s->cells[s->n++] = cell;
}

void sheet_text(struct sheet *s, const char *text)
{
    sheet_add(s, (peft_cell){format("%s", text ? text : ""), 0});
}

void sheet_number(struct sheet *s, double x)
{
    sheet_add(s, (peft_cell){NULL, x});
}

void sheet_fact(struct sheet *s, const char *name, double x)
{
    sheet_text(s, name);
    sheet_number(s, x);
}

const peft_table *sheet_view(struct sheet *s)
{
    s->view.columns = s->columns;
    s->view.cells = s->cells;
    s->view.n_rows = s->view.n_columns ? s->n / s->view.n_columns : 0;
    return &s->view;
}

void sheet_free(struct sheet *s)
{
    for (int64_t i = 0; i < s->n; i++)
        free((char *)s->cells[i].text);
    free(s->cells);
    memset(s, 0, sizeof *s);
}
