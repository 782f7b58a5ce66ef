/* A folder or list of pictures with changed copies.  The arithmetic is that of training
 * (data/augment.c), at each picture's own size. */
#include "data/image.h"
#include "prep/augment.h"

#include <stdio.h>

static const char usual[] = "flip,rotate=10,crop=0.1,brightness=0.2,contrast=0.2";

struct pictured {
    struct augment_run *a;
    struct augment how;
    char *tmp, *dir;                /* of the new folder; where the pictures lie */
    struct buf list;                /* of a list: its rows */
    bool folder;
};

/* Folders on the way to a file that is in p->tmp. */
static int make_folders(struct pictured *p, const char *name)
{
    struct host *h = &p->a->host;
    int rc = PEFT_OK;
    for (const char *slash = strchr(name, '/'); slash && !rc; slash = strchr(slash + 1, '/')) {
        char *part = mem_strndup(&h->mem, name, slash - name), *path = NULL;
        rc = part ? path_join(h, p->tmp, part, &path) : PEFT_ENOMEM;
        if (!rc && !path_kind(h, path) && h->io.mkdir(h->io.ctx, path) < 0)
            rc = fail(PEFT_EIO, "%s: the folder cannot be made", path);
        mem_free(&h->mem, path);
        mem_free(&h->mem, part);
    }
    return rc;
}

static int put_file(struct pictured *p, const char *name, const void *data, int64_t n)
{
    struct host *h = &p->a->host;
    char *path = NULL;
    int rc = make_folders(p, name);
    if (!rc) rc = path_join(h, p->tmp, name, &path);
    if (!rc) rc = file_write(h, path, data, n);
    mem_free(&h->mem, path);
    return rc;
}

/* The row with another file, for the list. */
static int list_row(struct pictured *p, const json *row, const char *name, bool copy)
{
    const char *sep = "{";
    for (const json *v = json_first(row); v && !p->folder; v = json_next(v)) {
        bool image = !strcmp(json_key(v), "image");
        buf_puts(&p->list, sep);
        sep = ", ";
        buf_json(&p->list, json_key(v), (int64_t)strlen(json_key(v)));
        buf_puts(&p->list, ": ");
        if (image) buf_json(&p->list, name, (int64_t)strlen(name));
        else json_write(&p->list, v);
    }
    if (!p->folder) buf_printf(&p->list, "%s}\n", copy ? ", \"augmented\": \"picture\"" : "");
    return buf_check(&p->list);
}

static int write_copy(struct pictured *p, const json *row, const char *name, const struct image *im,
                      int64_t index, int copy)
{
    struct host *h = &p->a->host;
    struct vision v = {.w = im->w, .h = im->h, .channels = im->channels};
    struct image now;
    struct buf png, file;
    buf_init(&png, &h->mem);
    buf_init(&file, &h->mem);
    const char *dot = strrchr(path_base(name), '.');
    buf_put(&file, name, dot ? dot - name : (int64_t)strlen(name));
    buf_printf(&file, "-aug%d.png", copy + 1);
    int rc = image_alloc(h, im->w, im->h, im->channels, INT32_MAX, &now);
    if (!rc) {
        augment_picture(&p->how, &v, p->a->o.seed, copy, index, im->px, now.px);
        rc = png_encode(h, &now, &png);
    }
    if (!rc) rc = buf_check(&file);
    if (!rc) rc = put_file(p, file.data, png.data, png.n);
    if (!rc) rc = list_row(p, row, file.data, true);
    if (!rc) p->a->result.by_method[0]++;
    image_free(h, &now);
    buf_free(&png);
    buf_free(&file);
    return rc;
}

static int open_picture(struct augment_run *a, const char *dir, const json *row, const char **name,
                        struct file_view *v)
{
    char *path = NULL;
    *name = json_string(row_member(row, "image"));
    if (!*name || !**name) return fail(PEFT_EFORMAT, "no column \"image\", expected a file");
    int rc = path_join(&a->host, dir, *name, &path);
    if (!rc) rc = file_open_view(&a->host, path, true, v);
    mem_free(&a->host.mem, path);
    return rc;
}

static int augment_row_picture(struct pictured *p, json *row, int64_t index)
{
    struct augment_run *a = p->a;
    struct file_view v = {0};
    struct image im = {0};
    const char *name;
    int rc = open_picture(a, p->dir, row, &name, &v);
    if (rc) return rc;
    rc = image_decode(&a->host, v.data, v.n, 3, &im);
    if (rc == PEFT_EFORMAT) {
        if (a->result.broken++ < 10)
            host_log(&a->host, LOG_WARN, "left out: %s: %s", name, error_message());
        file_close_view(&a->host, &v);
        return PEFT_OK;
    }
    bool guarded = is_guarded(row) || (!rc && keys_has(&a->eval, key_of(0, (const char *)v.data,
                                                                         v.n)));
    a->result.rows++;
    a->result.guarded += guarded;
    if (!rc) rc = put_file(p, name, v.data, v.n);
    if (!rc) rc = list_row(p, row, name, false);
    for (int c = 0; c < MAX(a->o.copies, 1) && !rc && !guarded && is_chosen(a, index); c++)
        rc = write_copy(p, row, name, &im, index, c);
    image_free(&a->host, &im);
    file_close_view(&a->host, &v);
    return rc;
}

static int take_eval_picture(struct augment_run *a, const char *dir, const json *row)
{
    struct file_view v = {0};
    const char *name;
    uint32_t id;
    int rc = open_picture(a, dir, row, &name, &v);
    if (rc) return rc;
    rc = MIN(keys_add(&a->eval, key_of(0, (const char *)v.data, v.n), &id), PEFT_OK);
    file_close_view(&a->host, &v);
    return rc;
}

/* The folder itself, or the one that a list lies in; allocated. */
static char *folder_of(struct augment_run *a, const char *path)
{
    if (path_kind(&a->host, path) == 2) return mem_strdup(&a->host.mem, path);
    int64_t n = path_base(path) - path;
    return n ? mem_strndup(&a->host.mem, path, n) : mem_strdup(&a->host.mem, ".");
}

/* Each row of pictures: with p they are augmented, else taken for evaluation. */
static int each_picture(struct augment_run *a, struct pictured *p, const char *path)
{
    struct source_opts how = {.columns = a->source.columns, .table = a->source.table};
    struct row_source *rows = NULL;
    json *row = NULL;
    int64_t line, n = 0;
    char *dir = folder_of(a, path);
    int rc = dir ? source_open(&a->host, path, &how, &rows) : PEFT_ENOMEM, found = 0;
    while (!rc && !(p && a->source.limit && n == a->source.limit) &&
           (found = source_next(rows, &row, &line)) > 0) {
        rc = p ? augment_row_picture(p, row, n) : take_eval_picture(a, dir, row);
        json_free(row);
        if (rc) fail_in(rc, "%s line %lld: ", path, (long long)line);
        n++;
        if (!rc && a->source.progress && a->source.progress(a->source.ctx, n, 0))
            rc = fail(PEFT_ECANCELLED, "cancelled");
    }
    if (!rc && found < 0) rc = found;
    source_close(rows);
    mem_free(&a->host.mem, dir);
    return rc;
}

static int finish(struct pictured *p)
{
    struct augment_run *a = p->a;
    char *path = NULL;
    int rc = a->result.rows ? PEFT_OK : fail(PEFT_EDATA, "%s: no pictures", a->path);
    if (rc || p->folder) return rc;
    rc = path_join(&a->host, p->tmp, "list.jsonl", &path);
    if (!rc) rc = file_write(&a->host, path, buf_str(&p->list), p->list.n);
    mem_free(&a->host.mem, path);
    return rc;
}

int augment_pictures(struct augment_run *a, const char *out)
{
    struct pictured p = {.a = a, .folder = path_kind(&a->host, a->path) == 2};
    a->result.method[0] = "picture";
    int rc = augment_parse(a->o.pictures ? a->o.pictures : usual, &p.how);
    if (!rc && !p.how.on) rc = fail(PEFT_EARG, "no changes of pictures, expected flip or others");
    if (!rc && !a->o.overwrite && path_kind(&a->host, out))
        rc = fail(PEFT_ESTATE, "%s exists already", out);
    if (!rc && a->o.eval) rc = each_picture(a, NULL, a->o.eval);
    if (!rc && !(p.dir = folder_of(a, a->path))) rc = PEFT_ENOMEM;
    if (!rc) rc = dir_begin(&a->host, out, &p.tmp);
    buf_init(&p.list, &a->host.mem);
    if (!rc) rc = each_picture(a, &p, a->path);
    if (!rc) rc = finish(&p);
    if (p.tmp && rc) dir_abort(&a->host, p.tmp);
    else if (p.tmp) rc = dir_commit(&a->host, out, p.tmp);
    buf_free(&p.list);
    mem_free(&a->host.mem, p.dir);
    return rc;
}
