/* Data sets of pictures: a folder with one sub-folder for each class, or a
 * list (JSONL, CSV) with the columns image and label.
 *
 * Each file is decoded while loading, so that a broken one is known before
 * training: it is left out, counted, and named in the log.  The bytes at the
 * model's size are kept up to PICTURES_KEPT; pictures beyond that are decoded
 * again for each batch.  A file of a list lies in the list's folder or below,
 * unless the options allow any place. */
#include "data/image.h"
#include "data/source.h"

#include <stdio.h>

/* --- loading */

struct picture_load {
    struct dataset *d;
    const struct data_opts *o;
    struct labels labels;
    struct names names;
    const char *path;
    int64_t kept, line;             /* bytes; of a list */
    char first[200];                /* why the first broken one is broken */
    uint8_t *px;
};

static int push_row(struct dataset *d, const struct example *x)
{
    if (d->n == d->cap) {
        int64_t cap = MAX(d->cap * 2, 64);
        struct example *rows = mem_realloc(&d->host->mem, d->rows, cap * (int64_t)sizeof *rows);
        if (!rows) return PEFT_ENOMEM;
        d->rows = rows;
        d->cap = cap;
    }
    d->rows[d->n++] = *x;
    d->max_len = x->n;
    return PEFT_OK;
}

static void note_broken(struct picture_load *l)
{
    enum { NAMED = 10 };
    if (!l->d->skipped) snprintf(l->first, sizeof l->first, "%.199s", error_message());
    if (l->d->skipped++ < NAMED)
        host_log(l->d->host, LOG_WARN, "left out: %s", error_message());
}

/* Takes over `file`, an allocated path. */
static int take_picture(struct picture_load *l, char *file, struct example *x)
{
    struct dataset *d = l->d;
    int64_t bytes = picture_bytes(d->vision);
    int rc = picture_open(d->host, d->vision, file, l->px);
    if (rc == PEFT_EFORMAT || rc == PEFT_EDATA) {
        note_broken(l);
        mem_free(&d->host->mem, file);
        return PEFT_OK;
    }
    x->picture = rc ? NULL : arena_strndup(&d->arena, file, (int64_t)strlen(file));
    mem_free(&d->host->mem, file);
    if (rc) return rc;
    if (l->kept + bytes <= PICTURES_KEPT) {
        uint8_t *px = arena_alloc(&d->arena, bytes);
        if (!px) return PEFT_ENOMEM;
        memcpy(px, l->px, (size_t)bytes);
        x->pixels = px;
        l->kept += bytes;
    }
    x->n = (int32_t)vision_tokens(d->vision);
    return x->picture ? push_row(d, x) : PEFT_ENOMEM;
}

/* --- a folder of classes */

struct class_files { const char *name; char **files; int64_t n, take; };

static int read_class(struct picture_load *l, struct arena *a, struct class_files *c)
{
    char *dir;
    int rc = path_join(l->d->host, l->path, c->name, &dir);
    if (rc) return rc;
    rc = path_kind(l->d->host, dir) == 2 ? list_folder(l->d->host, dir, &l->names) : PEFT_OK;
    mem_free(&l->d->host->mem, dir);
    if (rc) return rc;
    if (!(c->files = arena_alloc(a, (l->names.n + 1) * (int64_t)sizeof *c->files)))
        return PEFT_ENOMEM;
    for (int64_t i = 0; i < l->names.n; i++)
        if (has_ending(name_at(&l->names, i), PICTURE_ENDINGS))
            c->files[c->n++] = name_at(&l->names, i);
    return PEFT_OK;
}

/* With a limit, each class gives as many, as far as it has them. */
static void share_limit(struct class_files *c, int64_t n, int64_t limit)
{
    int64_t left = limit, given = 1;
    for (int64_t i = 0; i < n && !limit; i++) c[i].take = c[i].n;
    while (left > 0 && given > 0)
        for (int64_t i = given = 0; i < n && left > 0; i++)
            if (c[i].take < c[i].n) c[i].take++, left--, given++;
}

static int load_class(struct picture_load *l, const struct class_files *c)
{
    int rc = PEFT_OK;
    json *label = NULL;
    struct buf text;
    buf_init(&text, &l->d->host->mem);
    buf_json(&text, c->name, (int64_t)strlen(c->name));
    rc = buf_check(&text);
    if (!rc) rc = json_parse(text.data, text.n, "folder name", &label);
    for (int64_t i = 0; i < c->take && !rc; i++) {
        struct example x = {.label = -1, .line = i + 1};
        char *dir = NULL, *file = NULL;
        rc = labels_read(&l->labels, label, &x);
        if (rc) fail_in(rc, "%s: ", l->path);
        if (!rc) rc = path_join(l->d->host, l->path, c->name, &dir);
        if (!rc) rc = path_join(l->d->host, dir, c->files[i], &file);
        mem_free(&l->d->host->mem, dir);
        if (!rc) rc = take_picture(l, file, &x);
    }
    json_free(label);
    buf_free(&text);
    return rc;
}

static int load_folder(struct picture_load *l)
{
    struct arena a;
    int64_t all = 0;
    arena_init(&a, &l->d->host->mem);
    l->names.arena = &a;
    int rc = list_folder(l->d->host, l->path, &l->names);
    int64_t n = l->names.n;
    struct class_files *c = rc ? NULL : arena_alloc(&a, (n + 1) * (int64_t)sizeof *c);
    if (!rc && !c) rc = PEFT_ENOMEM;
    for (int64_t i = 0; i < n && !rc; i++) c[i].name = name_at(&l->names, i);
    for (int64_t i = 0; i < n && !rc; i++) {
        rc = read_class(l, &a, &c[i]);
        all += c[i].n;
    }
    if (!rc && !all)
        rc = fail(PEFT_EDATA, "%s: no pictures, expected one sub-folder for each class with .png "
                  "or .jpg files", l->path);
    if (!rc) share_limit(c, n, l->o->source.limit);
    for (int64_t i = 0; i < n && !rc; i++) rc = load_class(l, &c[i]);
    arena_free(&a);
    return rc;
}

/* --- a list */

static bool is_absolute(const char *path)
{
    return *path == '/' || *path == '\\' || (path[0] && path[1] == ':');
}

static int list_row(struct picture_load *l, const json *row)
{
    struct host *h = l->d->host;
    const char *name = json_string(json_get(row, "image"));
    const json *label = json_get(row, "label");
    struct example x = {.label = -1, .line = l->line};
    char *dir, *file = NULL;
    if (!name || !*name || json_kind(label) == JSON_NULL)
        return fail(PEFT_EFORMAT, "expected image (a file) and label");
    int rc = labels_read(&l->labels, label, &x);
    if (rc) return rc;
    if (!(dir = mem_strndup(&h->mem, l->path, path_base(l->path) - l->path))) return PEFT_ENOMEM;
    if (l->o->any_path) {
        struct buf b;
        buf_init(&b, &h->mem);
        buf_printf(&b, "%s%s", is_absolute(name) ? "" : dir, name);
        rc = buf_check(&b);
        if (!rc && !(file = mem_strdup(&h->mem, b.data))) rc = PEFT_ENOMEM;
        buf_free(&b);
    } else {
        rc = path_join(h, *dir ? dir : ".", name, &file);
        if (rc) fail_in(rc, "pictures of a list lie in its folder: ");
    }
    mem_free(&h->mem, dir);
    return rc ? rc : take_picture(l, file, &x);
}

static int load_list(struct picture_load *l)
{
    struct row_source *source = NULL;
    json *row = NULL;
    int rc = source_open(l->d->host, l->path, &l->o->source, &source);
    while (!rc) {
        int found = source_next(source, &row, &l->line);
        if (found <= 0) {
            rc = found;
            break;
        }
        rc = list_row(l, row);
        json_free(row);
        if (rc) source_fail(source, rc);
    }
    source_close(source);
    return rc;
}

int pictures_load(struct dataset *d, const char *path, const struct data_opts *o)
{
    struct picture_load l = {.d = d, .o = o, .path = path};
    int folder = path_kind(d->host, path) == 2;
    d->vision = o->vision;
    d->task = TASK_CLASS;
    d->texts = 1;
    snprintf(d->schema, sizeof d->schema, "%s", folder ? "image folder" : "image-label");
    buf_init(&l.names.list, &d->host->mem);
    int rc = labels_init(&l.labels, d->host, &d->arena, o);
    if (!rc && !(l.px = mem_alloc(&d->host->mem, picture_bytes(o->vision)))) rc = PEFT_ENOMEM;
    if (!rc) rc = folder ? load_folder(&l) : load_list(&l);
    if (!rc && !d->n)
        rc = d->skipped ? fail(PEFT_EDATA, "%s: every picture is broken: %s", path, l.first)
                        : fail(PEFT_EDATA, "%s: no rows", path);
    if (!rc) rc = labels_check(&l.labels, path, d);
    if (!rc) rc = labels_finish(&l.labels, d);
    mem_free(&d->host->mem, l.px);
    labels_free(&l.labels);
    buf_free(&l.names.list);
    return rc;
}
