/* Classes of text-label rows.  With a head, its names and their number bind;
 * without one, names get ids in sorted order, and integers 0, 1, 2 ... are the
 * ids.  Numbers with a fraction, or a head of one output, mean regression. */
#include "data/row.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { CLASSES_MAX = 65536 };

static int add_name(struct labels *l, const char *name, int64_t n)
{
    if (l->n == CLASSES_MAX)
        return fail(PEFT_EDATA, "more than %d different labels", CLASSES_MAX);
    if (l->n == l->cap) {
        int32_t cap = MAX(l->cap * 2, 16);
        const char **names = arena_alloc(l->arena, cap * (int64_t)sizeof *names);
        if (!names) return PEFT_ENOMEM;
        if (l->n) memcpy(names, l->names, (size_t)l->n * sizeof *names);
        l->names = names;
        l->cap = cap;
    }
    char *copy = arena_strndup(l->arena, name, n);
    int rc = copy ? map_add(&l->index, copy, n, l->n) : PEFT_ENOMEM;
    if (rc < 0) return rc;
    l->names[l->n++] = copy;
    return PEFT_OK;
}

int labels_init(struct labels *l, struct host *h, struct arena *a, const struct data_opts *o)
{
    *l = (struct labels){.o = o, .arena = a, .most = o->n_labels - 1};
    map_init(&l->index, &h->mem);
    int rc = PEFT_OK;
    for (int32_t i = 0; rc == PEFT_OK && o->labels && i < o->n_labels; i++)
        rc = add_name(l, o->labels[i], (int64_t)strlen(o->labels[i]));
    return rc;
}

void labels_free(struct labels *l)
{
    map_free(&l->index);
}

static int unknown_label(const struct labels *l, const char *name)
{
    char known[240] = "";
    size_t at = 0;
    for (int32_t i = 0; i < l->n && at < 160; i++) {
        snprintf(known + at, sizeof known - at, "%s%.60s", i ? ", " : "", l->names[i]);
        at = strlen(known);
    }
    return fail(PEFT_EDATA, "unknown label \"%.60s\", expected one of: %s%s", name, known,
                at < 160 ? "" : ", ...");
}

static int read_name(struct labels *l, const char *name, struct example *ex)
{
    int64_t n = (int64_t)strlen(name);
    if (l->o->n_labels == 1)
        return fail(PEFT_EDATA, "label \"%.60s\": expected a number, since the head has one output",
                    name);
    int64_t at = map_get(&l->index, name, n, -1);
    if (at < 0 && l->o->labels) return unknown_label(l, name);
    if (at < 0) {
        if (!name[0]) return fail(PEFT_EDATA, "the label is empty");
        at = l->n;
        int rc = add_name(l, name, n);
        if (rc < 0) return rc;
    }
    ex->label = (int32_t)at;
    ex->value = NAN;
    return PEFT_OK;
}

int labels_number(struct labels *l, double x, struct example *ex)
{
    int32_t classes = l->o->n_labels;
    ex->value = (float)x;
    if (!isfinite(ex->value)) return fail(PEFT_EDATA, "label %g is not a finite float", x);
    if (classes == 1) return PEFT_OK;
    bool whole = x == floor(x), valid = whole && x >= 0 && x < (classes ? classes : CLASSES_MAX);
    if (valid) ex->label = (int32_t)x;
    if (classes > 1 && l->o->labels && whole && fabs(x) < 1e9) {
        /* Names that look like numbers, "1" to "5", count as names. */
        struct buf text;
        buf_init(&text, l->index.mem);
        buf_number(&text, x);
        int64_t at = map_get(&l->index, buf_str(&text), text.n, -1);
        buf_free(&text);
        if (at >= 0) ex->label = (int32_t)at, valid = true;
    }
    l->most = MAX(l->most, ex->label);
    if (valid) return PEFT_OK;
    if (classes > 1)
        return fail(PEFT_EDATA, "label %.17g: expected an integer of 0 to %d", x, (int)classes - 1);
    if (!whole) l->fraction = 1;
    else if (!l->odd_line) l->odd_line = ex->line, l->odd = x;
    return PEFT_OK;
}

/* All labels are names, or all are numbers, unless a head says what they are. */
static int labels_kind(struct labels *l, enum label_kind kind, const char *text, int64_t line)
{
    static const char *const kinds[] = { "", "the name", "the number" };
    if (l->kind == LABEL_NONE) {
        l->first_line = line;
        snprintf(l->first, sizeof l->first, "%s", text);
    }
    if (!l->o->labels && l->kind != LABEL_NONE && l->kind != kind)
        return fail(PEFT_EFORMAT, "label: expected %s as in line %lld, which has \"%s\"; found %s "
                    "\"%.60s\"", l->kind == LABEL_NAME ? "a name" : "a number",
                    (long long)l->first_line, l->first, kinds[kind], text);
    l->kind = kind;
    return PEFT_OK;
}

int labels_name(struct labels *l, const char *name, int32_t *out)
{
    struct example x = {0};
    int rc = labels_kind(l, LABEL_NAME, name, 0);
    if (rc < 0) return rc;
    rc = read_name(l, name, &x);
    *out = x.label;
    return rc;
}

int labels_read(struct labels *l, const json *value, struct example *ex)
{
    enum json_kind k = json_kind(value);
    if (k != JSON_STRING && k != JSON_NUMBER && k != JSON_BOOL)
        return fail(PEFT_EFORMAT, "label: expected a string or a number, found %s",
                    json_kind_name(value));
    enum label_kind kind = k == JSON_STRING ? LABEL_NAME : LABEL_NUMBER;
    double x = k == JSON_BOOL ? json_bool(value, 0) : json_number(value, 0);
    char number[32];
    snprintf(number, sizeof number, "%g", x);
    int rc = labels_kind(l, kind, kind == LABEL_NAME ? json_string(value) : number, ex->line);
    if (rc < 0) return rc;
    return kind == LABEL_NAME ? read_name(l, json_string(value), ex) : labels_number(l, x, ex);
}

struct place { const char *name; int32_t was; };

static int by_name(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Rows hold places in the order of appearance; ids follow the sorted names. */
static int sort_names(struct labels *l, struct dataset *d)
{
    struct mem *m = &d->host->mem;
    struct place *p = mem_array(m, l->n, sizeof *p);
    int32_t *id = mem_array(m, l->n, sizeof *id);
    int rc = p && id ? PEFT_OK : PEFT_ENOMEM;
    if (rc == PEFT_OK) {
        for (int32_t i = 0; i < l->n; i++) p[i] = (struct place){l->names[i], i};
        qsort(p, (size_t)l->n, sizeof *p, by_name);
        for (int32_t i = 0; i < l->n; i++) {
            id[p[i].was] = i;
            l->names[i] = p[i].name;
        }
        for (int64_t i = 0; i < d->n; i++) {
            struct example *x = &d->rows[i];
            if (x->label >= 0) x->label = id[x->label];
            for (int32_t k = 0; d->task == TASK_TOKEN && k < x->n; k++)
                if (x->labels[k] >= 0) x->labels[k] = id[x->labels[k]];
            for (int32_t k = 0; x->classes && k < x->n_classes; k++)
                x->classes[k] = id[x->classes[k]];
        }
    }
    mem_free(m, p);
    mem_free(m, id);
    return rc;
}

static bool is_regression(const struct labels *l, const struct dataset *d)
{
    return d->task == TASK_CLASS && (l->o->n_labels == 1 || l->fraction);
}

/* Integer classes are named by their decimals. */
static int number_names(struct labels *l)
{
    struct buf text;
    buf_init(&text, l->index.mem);
    int rc = PEFT_OK;
    while (rc == PEFT_OK && l->n <= l->most) {
        buf_clear(&text);
        buf_printf(&text, "%d", (int)l->n);
        rc = add_name(l, buf_str(&text), text.n);
    }
    buf_free(&text);
    return rc;
}

int labels_check(const struct labels *l, const char *path, const struct dataset *d)
{
    if (l->kind == LABEL_NONE || is_regression(l, d)) return PEFT_OK;
    if (l->odd_line)
        return fail(PEFT_EDATA, "%s line %lld: label %.17g: expected classes 0, 1, 2 ...", path,
                    (long long)l->odd_line, l->odd);
    int32_t n = l->kind == LABEL_NAME || l->o->labels ? l->n : l->most + 1;
    if (l->o->n_labels <= 0 || n <= l->o->n_labels) return PEFT_OK;
    return fail(PEFT_EDATA, "%s: %d different labels, expected the head's %d", path, (int)n,
                (int)l->o->n_labels);
}

int labels_finish(struct labels *l, struct dataset *d)
{
    int rc = PEFT_OK;
    if (l->kind == LABEL_NONE) return PEFT_OK;
    if (is_regression(l, d)) {
        for (int64_t i = 0; i < d->n; i++) d->rows[i].label = -1;
        return PEFT_OK;
    }
    if (!l->o->labels) rc = l->kind == LABEL_NAME ? sort_names(l, d) : number_names(l);
    if (rc < 0) return rc;
    d->labels = l->names;
    d->n_labels = l->n;
    return PEFT_OK;
}
