/* Columns, labels and schemas, counted. */
#include "prep/tally.h"

#include "prep/fields.h"
#include "prep/tables.h"

#include <stdlib.h>

enum { TALLY_NAME = 120 };

int tally_init(struct tally *t, struct mem *mem)
{
    *t = (struct tally){.n_columns = 0};
    arena_init(&t->names, mem);
    map_init(&t->column_at, mem);
    map_init(&t->label_at, mem);
    map_init(&t->shape_at, mem);
    buf_init(&t->key, mem);
    t->column = mem_array(mem, COLUMNS_HELD, sizeof *t->column);
    t->label = mem_array(mem, LABELS_HELD, sizeof *t->label);
    t->shape = mem_array(mem, SHAPES_HELD, sizeof *t->shape);
    return t->column && t->label && t->shape ? PEFT_OK : PEFT_ENOMEM;
}

void tally_free(struct tally *t)
{
    struct mem *mem = t->names.mem;
    if (!mem) return;
    mem_free(mem, t->column);
    mem_free(mem, t->label);
    mem_free(mem, t->shape);
    map_free(&t->column_at);
    map_free(&t->label_at);
    map_free(&t->shape_at);
    buf_free(&t->key);
    arena_free(&t->names);
}

/* The key's number: 1 = it is new and the next one, 0 = it was there, or there is no room for
 * another (*at is -1). */
static int tally_place(struct tally *t, struct map *m, const char *key, int64_t n, int64_t *next,
                    int64_t most, int64_t *at)
{
    *at = map_get(m, key, n, -1);
    if (*at >= 0 || *next == most) return 0;
    char *copy = arena_strndup(&t->names, key, n);
    int rc = copy ? map_add(m, copy, n, *next) : PEFT_ENOMEM;
    if (rc > 0) *at = (*next)++;
    return rc;
}

/* Of a text of the row. */
static const char *told(struct tally *t, const char *s, int64_t n)
{
    return excerpt(&t->names, s, n, TALLY_NAME);
}

/* ------------------------------------------------------------------- columns */

static int tally_column_of(struct tally *t, const char *key, struct tally_column **out)
{
    int64_t n = (int64_t)strlen(key), at;
    int rc = tally_place(t, &t->column_at, key, n, &t->n_columns, COLUMNS_HELD, &at);
    *out = at < 0 ? NULL : &t->column[at];
    if (rc > 0 && !((*out)->name = told(t, key, n))) return PEFT_ENOMEM;
    return rc;
}

static void see_value(struct tally_column *c, const json *v)
{
    const char *s = json_string(v);
    c->blank += s ? !s[strspn(s, " \t\r\n")] : json_kind(v) == JSON_ARRAY && !json_first(v);
    c->bytes += s ? (int64_t)strlen(s) : 0;
    if (json_kind(v) == JSON_NUMBER) {
        double x = json_number(v, 0);
        bool first = !c->kinds[JSON_NUMBER];
        c->least = first ? x : MIN(c->least, x);
        c->most = first ? x : MAX(c->most, x);
    }
    c->kinds[json_kind(v)]++;
}

static int see_columns(struct tally *t, const json *row, int64_t line)
{
    int64_t place = 0;
    for (const json *v = json_first(row); v; v = json_next(v), place++) {
        struct tally_column *c;
        int rc = tally_column_of(t, json_key(v), &c);
        if (rc < 0) return rc;
        if (rc > 0) {
            c->first_line = line;
            c->place = place;
        }
        if (c) see_value(c, v);
        else t->more_columns++;
    }
    return PEFT_OK;
}

/* -------------------------------------------------------------------- labels */

/* A number and a name that look the same are two labels. */
static int tally_label_of(struct tally *t, const char *name, bool number, struct tally_label **out)
{
    int64_t n = (int64_t)strlen(name), at;
    buf_clear(&t->key);
    buf_put(&t->key, name, n);
    buf_putc(&t->key, number ? '#' : '$');
    int rc = buf_check(&t->key);
    if (rc < 0) return rc;
    rc = tally_place(t, &t->label_at, buf_str(&t->key), n + 1, &t->n_labels, LABELS_HELD, &at);
    *out = at < 0 ? NULL : &t->label[at];
    if (rc > 0 && !((*out)->name = told(t, name, n))) return PEFT_ENOMEM;
    if (rc > 0) (*out)->number = number;
    return rc;
}

static int see_label(struct tally *t, const json *v, int64_t line)
{
    bool number = json_kind(v) == JSON_NUMBER;
    struct buf text;
    struct tally_label *l;
    buf_init(&text, t->names.mem);
    if (json_string(v)) buf_puts(&text, json_string(v));
    else json_write(&text, v);
    int rc = buf_check(&text);
    if (rc == PEFT_OK) rc = tally_label_of(t, buf_str(&text), number, &l);
    buf_free(&text);
    if (rc < 0) return rc;
    if (!t->label_line[number]) t->label_line[number] = line;
    if (rc > 0) l->first_line = line;
    if (l) l->rows++;
    else t->more_labels++;
    return PEFT_OK;
}

static int see_labels(struct tally *t, const json *row, int64_t line)
{
    const json *label = field_label(row);
    if (!label) return PEFT_OK;
    int rc = PEFT_OK;
    const char *key = json_key(label);
    t->labelled++;
    if (!t->label_key && !(t->label_key = told(t, key, (int64_t)strlen(key)))) return PEFT_ENOMEM;
    if (json_kind(label) != JSON_ARRAY) return see_label(t, label, line);
    for (const json *v = json_first(label); v && rc == PEFT_OK; v = json_next(v))
        rc = see_label(t, v, line);
    return rc;
}

/* ------------------------------------------------------------------- schemas */

static int tally_shape_of(struct tally *t, const char *key, int64_t n, struct tally_shape **out)
{
    int64_t at;
    int rc = tally_place(t, &t->shape_at, key, n, &t->n_shapes, SHAPES_HELD, &at);
    *out = at < 0 ? NULL : &t->shape[at];
    if (rc > 0 && !((*out)->key = arena_strndup(&t->names, key, n))) return PEFT_ENOMEM;
    return rc;
}

static int see_shape(struct tally *t, const json *row, int64_t line)
{
    struct tally_shape *s;
    buf_clear(&t->key);
    for (const json *v = json_first(row); v; v = json_next(v)) {
        if (json_kind(v) == JSON_NULL) continue;
        buf_puts(&t->key, json_key(v));
        buf_putc(&t->key, '\n');
        buf_putc(&t->key, (char)('0' + json_kind(v)));
    }
    int rc = buf_check(&t->key);
    if (rc == PEFT_OK) rc = tally_shape_of(t, buf_str(&t->key), t->key.n, &s);
    if (rc > 0) {
        s->first_line = line;
        schema_of(row, &s->schema);
    }
    if (rc < 0) return rc;
    if (s) s->rows++;
    return PEFT_OK;
}

int tally_row(struct tally *t, json *row, int64_t line)
{
    int rc = see_columns(t, row, line);
    if (rc == PEFT_OK) rc = see_labels(t, row, line);
    return rc == PEFT_OK ? see_shape(t, row, line) : rc;
}

/* ----------------------------------------------------------------------- sum */

static void add_column(struct tally_column *a, const struct tally_column *b, bool fresh)
{
    if (fresh || b->first_line < a->first_line) {
        a->first_line = b->first_line;
        a->place = b->place;
    }
    if (b->kinds[JSON_NUMBER]) {
        bool first = !a->kinds[JSON_NUMBER];
        a->least = first ? b->least : MIN(a->least, b->least);
        a->most = first ? b->most : MAX(a->most, b->most);
    }
    for (int i = 0; i < KINDS; i++) a->kinds[i] += b->kinds[i];
    a->blank += b->blank;
    a->bytes += b->bytes;
}

/* The first of two lines, of which 0 is none. */
static int64_t earlier(int64_t a, int64_t b) { return !a ? b : !b ? a : MIN(a, b); }

static int add_shapes(struct tally *a, const struct tally *b)
{
    for (int64_t i = 0; i < b->n_shapes; i++) {
        const struct tally_shape *from = &b->shape[i];
        struct tally_shape *to;
        int rc = tally_shape_of(a, from->key, (int64_t)strlen(from->key), &to);
        if (rc < 0) return rc;
        if (!to) continue;
        to->rows += from->rows;
        to->first_line = earlier(to->first_line, from->first_line);
        to->schema = from->schema;
    }
    return PEFT_OK;
}

int tally_add(struct tally *a, const struct tally *b)
{
    for (int64_t i = 0; i < b->n_columns; i++) {
        struct tally_column *c;
        int rc = tally_column_of(a, b->column[i].name, &c);
        if (rc < 0) return rc;
        if (c) add_column(c, &b->column[i], rc > 0);
        else a->more_columns++;
    }
    for (int64_t i = 0; i < b->n_labels; i++) {
        struct tally_label *l;
        int rc = tally_label_of(a, b->label[i].name, b->label[i].number, &l);
        if (rc < 0) return rc;
        if (l) l->first_line = earlier(l->first_line, b->label[i].first_line);
        if (l) l->rows += b->label[i].rows;
        else a->more_labels += b->label[i].rows;
    }
    for (int i = 0; i < 2; i++) a->label_line[i] = earlier(a->label_line[i], b->label_line[i]);
    if (!a->label_key && b->label_key &&
        !(a->label_key = told(a, b->label_key, (int64_t)strlen(b->label_key))))
        return PEFT_ENOMEM;
    a->more_columns += b->more_columns;
    a->more_labels += b->more_labels;
    a->labelled += b->labelled;
    return add_shapes(a, b);
}

static int by_line(int64_t a, int64_t b) { return (a > b) - (a < b); }
static int column_order(const void *a, const void *b)
{
    const struct tally_column *x = a, *y = b;
    int order = by_line(x->first_line, y->first_line);
    return order ? order : by_line(x->place, y->place);
}
static int shape_order(const void *a, const void *b)
{
    const struct tally_shape *x = a, *y = b;
    return by_line(x->first_line, y->first_line);
}
static int label_order(const void *a, const void *b)
{
    const struct tally_label *x = a, *y = b;
    int order = by_line(y->rows, x->rows);
    return order ? order : by_line(x->first_line, y->first_line) ? by_line(x->first_line,
           y->first_line) : strcmp(x->name, y->name);
}

void tally_sort(struct tally *t)
{
    qsort(t->column, (size_t)t->n_columns, sizeof *t->column, column_order);
    qsort(t->shape, (size_t)t->n_shapes, sizeof *t->shape, shape_order);
    qsort(t->label, (size_t)t->n_labels, sizeof *t->label, label_order);
}
