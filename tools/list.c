/* peft list: the library's own tables of what works. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const struct column {
    const char *head;
    size_t at;
} columns[] = {{"name", offsetof(peft_entry, name)},
               {"kind", offsetof(peft_entry, kind)},
               {"Hugging Face", offsetof(peft_entry, hf)},
               {"GGUF", offsetof(peft_entry, gguf)},
               {"", offsetof(peft_entry, about)}};
enum { COLUMNS = sizeof columns / sizeof *columns };

static const char *cell(const peft_entry *e, int column)
{
    return (const char *)e + columns[column].at;
}

static void print_table(const peft_entry *rows, int n)
{
    const char *cells[COLUMNS];
    int shown[COLUMNS], count = 0;
    for (int c = 0; c < COLUMNS; c++) {
        bool any = false;
        for (int i = 0; i < n; i++)
            any |= *cell(&rows[i], c) != 0;
        if (any) {
            cells[count] = columns[c].head;
            shown[count++] = c;
        }
    }
    table_head(count, cells);
    for (int i = 0; i < n; i++) {
        for (int c = 0; c < count; c++)
            cells[c] = cell(&rows[i], shown[c]);
        table_row(cells);
    }
    table_end(stdout);
}

static void print_json(const peft_entry *rows, int n)
{
    static const char *const keys[COLUMNS] = {"name", "kind", "hugging_face", "gguf", "about"};
    struct json j;
    json_begin(&j, stdout);
    json_open(&j, NULL, '[');
    for (int i = 0; i < n; i++) {
        json_open(&j, NULL, '{');
        for (int c = 0; c < COLUMNS; c++)
            if (*cell(&rows[i], c))
                json_text(&j, keys[c], cell(&rows[i], c));
        json_close(&j);
    }
    json_close(&j);
}

/* One row of a README's table: names with the same remark stand together. */
static void print_markdown(const char *table, const peft_entry *rows, int n)
{
    printf("| %s | ", table);
    for (int i = 0, groups = 0; i < n; i++) {
        bool first = true;
        for (int k = 0; k < i; k++)
            first &= strcmp(rows[k].about, rows[i].about) != 0;
        if (!first)
            continue;
        printf("%s`%s`", groups++ ? "; " : "", rows[i].name);
        for (int k = i + 1; k < n; k++)
            if (!strcmp(rows[k].about, rows[i].about))
                printf(", `%s`", rows[k].name);
        if (*rows[i].about)
            printf(": %s", rows[i].about);
    }
    printf(" |\n");
}

int run_list(const struct args *args)
{
    peft_entry *rows = NULL;
    int n = 0;
    int32_t rc;
    do {
        rows = grow(rows, (size_t)(n + 1) * sizeof *rows);
        rows[n] = (peft_entry){.size = sizeof *rows};
        rc = peft_list(args->operand, n, &rows[n]);
    } while (!rc && ++n);
    if (rc == PEFT_EEND) {
        if (args->json)
            print_json(rows, n);
        else if (args->markdown)
            print_markdown(args->operand, rows, n);
        else
            print_table(rows, n);
    }
    free(rows);
    return rc == PEFT_EEND ? EXIT_OK : library_error(rc, "cannot list");
}
