/* Named tables: how results leave data preparation. */
#include "prep/tables.h"

enum { TABLES_MOST = 24, TABLE_COLUMNS = 12 };

struct one_table {
    peft_table view;
    const char *columns[TABLE_COLUMNS];
    peft_cell *cells;
    int64_t n, cap;                     /* cells */
};
struct peft_tables {
    struct host host;
    struct arena texts;
    struct one_table table[TABLES_MOST];
    int32_t n;
    bool full;
};

int tables_new(const struct host *h, struct peft_tables **out)
{
    struct mem mem;
    mem_init(&mem, h->mem.alloc, h->mem.ctx);
    struct peft_tables *t = *out = mem_zalloc(&mem, sizeof *t);
    if (!t) return PEFT_ENOMEM;
    t->host = *h;
    mem_init(&t->host.mem, h->mem.alloc, h->mem.ctx);
    arena_init(&t->texts, &t->host.mem);
    return PEFT_OK;
}

void peft_tables_free(peft_tables *t)
{
    if (!t) return;
    for (int32_t i = 0; i < t->n; i++) mem_free(&t->host.mem, t->table[i].cells);
    arena_free(&t->texts);
    struct mem mem;
    mem_init(&mem, t->host.mem.alloc, t->host.mem.ctx);
    mem_free(&mem, t);
}

static const char *keep(struct peft_tables *t, const char *s, int64_t n)
{
    const char *copy = arena_strndup(&t->texts, s, n);
    t->full |= !copy;
    return copy ? copy : "";
}

void tables_add(struct peft_tables *t, int32_t kind, const char *name, const char *title,
                const char *heads)
{
    if (t->n == TABLES_MOST) {
        t->full = true;
        return;
    }
    struct one_table *x = &t->table[t->n++];
    x->view = (peft_table){.size = sizeof x->view, .kind = kind, .columns = x->columns};
    x->view.name = keep(t, name, (int64_t)strlen(name));
    x->view.title = keep(t, title, (int64_t)strlen(title));
    for (const char *s = heads; *s && x->view.n_columns < TABLE_COLUMNS;) {
        size_t n = strcspn(s, " ");
        x->columns[x->view.n_columns++] = keep(t, s, (int64_t)n);
        s += n + (s[n] == ' ');
    }
}

static void add_cell(struct peft_tables *t, peft_cell cell)
{
    struct one_table *x = &t->table[MAX(t->n, 1) - 1];
    if (x->n == x->cap) {
        int64_t cap = MAX(2 * x->cap, 64);
        peft_cell *now = mem_realloc(&t->host.mem, x->cells, cap * (int64_t)sizeof *now);
        t->full |= !now;
        if (!now) return;
        x->cells = now;
        x->cap = cap;
    }
    x->cells[x->n++] = cell;
}
void tables_text(struct peft_tables *t, const char *text)
{
    add_cell(t, (peft_cell){keep(t, text, (int64_t)strlen(text)), 0});
}
void tables_number(struct peft_tables *t, double x) { add_cell(t, (peft_cell){NULL, x}); }

void tables_fact(struct peft_tables *t, const char *name, double x)
{
    tables_text(t, name);
    tables_number(t, x);
}
void tables_fact_text(struct peft_tables *t, const char *name, const char *text)
{
    tables_text(t, name);
    tables_text(t, text);
}

int tables_check(struct peft_tables *t)
{
    return t->full ? fail(PEFT_ENOMEM, "no memory for the tables of a result") : PEFT_OK;
}

int32_t peft_tables_at(const peft_tables *t, int32_t i, peft_table *out)
{
    KIT_ARG(t && i >= 0, "table %d, expected one from 0", (int)i);
    int rc = check_result(out);
    if (rc || i >= t->n) return kit_end(rc ? rc : PEFT_EEND);
    peft_table view = t->table[i].view;
    view.cells = t->table[i].cells;
    view.n_rows = t->table[i].n / MAX(view.n_columns, 1);
    give_result(out, &view, sizeof view);
    return PEFT_OK;
}

int32_t peft_tables_find(const peft_tables *t, const char *name, peft_table *out)
{
    KIT_ARG(t && name, "no table named, expected a name");
    for (int32_t i = 0; i < t->n; i++)
        if (strcmp(t->table[i].view.name, name) == 0) return peft_tables_at(t, i, out);
    return kit_end(fail(PEFT_ENOTFOUND, "no table \"%.60s\"", name));
}

const char *excerpt(struct arena *a, const char *s, int64_t n, int64_t most)
{
    int64_t keep_n = MIN(n, most);
    while (keep_n < n && keep_n > 0 && ((unsigned char)s[keep_n] & 0xc0) == 0x80) keep_n--;
    char *to = arena_alloc(a, keep_n + 4);
    if (!to) return NULL;
    memcpy(to, s, (size_t)keep_n);
    memcpy(to + keep_n, keep_n < n ? "..." : "", keep_n < n ? 4 : 1);
    return to;
}
