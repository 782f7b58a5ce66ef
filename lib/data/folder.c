/* Plain text and Markdown: a file is rows of its paragraphs, a folder has one
 * row for each file, by name, sub-folders too: {"text", "file"}; of a picture
 * there {"image", "label"}, its class the folder that it lies in.  With the
 * option `chunk`, rows are as many paragraphs as fit into so many bytes; one
 * that is longer is cut between words. */
#include "data/source.h"

#include <stdlib.h>

/* --- names, sorted */

static int32_t take_entry(void *arg, const char *name)
{
    struct names *l = arg;
    if (*name == '.') return 0;
    char *copy = arena_strndup(l->arena, name, (int64_t)strlen(name));
    if (copy) buf_put(&l->list, &copy, sizeof copy);
    l->oom = l->oom || !copy || l->list.oom;
    l->n++;
    return l->oom;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int list_folder(struct host *h, const char *path, struct names *l)
{
    buf_clear(&l->list);
    l->n = 0;
    l->oom = false;
    int32_t err = h->io.list(h->io.ctx, path, take_entry, l);
    if (err < 0) return fail(PEFT_EIO, "%s: the folder cannot be read", path);
    if (l->oom) return fail(PEFT_ENOMEM, "out of memory for the names in %s", path);
    if (l->n) qsort(l->list.data, (size_t)l->n, sizeof(char *), by_text);
    return PEFT_OK;
}

char *name_at(const struct names *l, int64_t i)
{
    char *s;
    memcpy(&s, l->list.data + i * (int64_t)sizeof s, sizeof s);
    return s;
}

bool has_ending(const char *path, const char *endings)
{
    const char *dot = strrchr(path_base(path), '.');
    size_t n = dot ? strlen(dot) : 0;
    for (const char *e = endings; n > 1 && *e; e += 1 + strcspn(e + 1, ".")) {
        size_t same = 1;
        while (same < n && e[same] == (dot[same] | 0x20)) same++;
        if (same == n && (!e[n] || e[n] == '.')) return true;
    }
    return false;
}

/* --- rows */

#define TEXT_ENDINGS ".txt.md.markdown.text"
enum { FOLDER_DEPTH = 16, CHUNK_LEAST = 16 };
struct text_files {
    bool folder, ended;             /* ended: the present file is read */
    struct buf path;
    struct buf list;                /* of char *: the files' paths below the folder */
    char *name;                     /* of the present file */
    int64_t next, number;           /* in `list`; the paragraph's first line */
    int64_t from;                   /* of `part`: what is not in a row yet */
    struct buf text, part;          /* a row's text; the paragraph that did not fit into it */
};

static int add_files(struct row_source *s, const char *dir, const char *name, int depth);

/* Adds a file, or those below a folder. */
static int add_entry(struct row_source *s, const char *path, const char *name, int depth)
{
    struct text_files *t = s->own;
    if (path_kind(s->host, path) == 2)
        return depth < FOLDER_DEPTH ? add_files(s, path, name, depth + 1) : PEFT_OK;
    if (!has_ending(name, TEXT_ENDINGS PICTURE_ENDINGS)) return PEFT_OK;
    char *copy = arena_strndup(&s->arena, name, (int64_t)strlen(name));
    buf_put(&t->list, &copy, sizeof copy);
    return copy ? buf_check(&t->list) : PEFT_ENOMEM;
}

/* Adds the files below `dir`, which is at `name` below the folder, in order. */
static int add_files(struct row_source *s, const char *dir, const char *name, int depth)
{
    struct names l = {.arena = &s->arena};
    buf_init(&l.list, &s->host->mem);
    int rc = list_folder(s->host, dir, &l);
    for (int64_t i = 0; i < l.n && rc == PEFT_OK; i++) {
        char *path = NULL, *below = NULL;
        rc = path_join(s->host, dir, name_at(&l, i), &path);
        if (rc == PEFT_OK && *name) rc = path_join(s->host, name, name_at(&l, i), &below);
        if (rc == PEFT_OK) rc = add_entry(s, path, below ? below : name_at(&l, i), depth);
        mem_free(&s->host->mem, below);
        mem_free(&s->host->mem, path);
    }
    buf_free(&l.list);
    return rc;
}

static int text_files_open(struct row_source *s)
{
    struct text_files *t = s->own = arena_alloc(&s->arena, sizeof *t);
    if (!t) return PEFT_ENOMEM;
    t->folder = !s->lines;
    buf_init(&t->path, &s->host->mem);
    buf_init(&t->list, &s->host->mem);
    buf_init(&t->text, &s->host->mem);
    buf_init(&t->part, &s->host->mem);
    if (!t->folder) return PEFT_OK;
    int rc = add_files(s, s->path, "", 0);
    if (rc == PEFT_OK && !t->list.n)
        rc = fail(PEFT_EDATA, "%s: expected files .txt, .md, .png or .jpg in this folder", s->path);
    return rc;
}

/* Opens the next file of the folder: 1, 0 = no more, < 0. */
static int next_file(struct row_source *s)
{
    struct text_files *t = s->own;
    if (s->lines) line_close(s->lines);
    s->lines = NULL;
    t->ended = false;
    if (!t->folder || t->next * (int64_t)sizeof t->name == t->list.n) return 0;
    memcpy(&t->name, t->list.data + t->next++ * (int64_t)sizeof t->name, sizeof t->name);
    buf_clear(&t->path);
    buf_printf(&t->path, "%s/%s", s->path, t->name);
    s->file = buf_str(&t->path);
    int rc = buf_check(&t->path);
    if (rc == PEFT_OK && !has_ending(t->name, PICTURE_ENDINGS))
        rc = line_open(s->host, s->file, &s->lines);
    return rc < 0 ? rc : 1;
}

static void put_column(struct row_source *s, const char *key, const char *value, int64_t n)
{
    buf_printf(&s->row, "%s\"%s\":", s->row.n ? "," : "{", key);
    buf_json(&s->row, value, n);
}

static int picture_row(struct row_source *s)
{
    const struct text_files *t = s->own;
    const char *end = strrchr(t->name, '/'), *from = end;
    while (from && from > t->name && from[-1] != '/') from--;
    put_column(s, "image", t->name, (int64_t)strlen(t->name));
    if (end) put_column(s, "label", from, end - from);
    buf_putc(&s->row, '}');
    s->line = 1;
    return 1;
}

/* Where n bytes of text are cut, so that at most `most` of them come before. */
static int64_t cut_at(const char *text, int64_t n, int64_t most)
{
    int64_t at = most;
    if (n <= most) return n;
    while (at > most / 2 && !is_space(text[at])) at--;
    if (at > most / 2) return at;
    for (at = most; ((unsigned char)text[at] & 0xc0) == 0x80;) at--;
    return at;
}

/* Moves what fits of the waiting paragraph into the row's text: whether that
 * is complete. */
static bool take_paragraph(struct row_source *s)
{
    struct text_files *t = s->own;
    int64_t most = s->o.chunk ? MAX(s->o.chunk, CHUNK_LEAST) : 0, n = t->part.n - t->from;
    const char *from = t->part.data + t->from;
    while (n > 0 && is_space(from[n - 1])) n--;
    if (n > 0 && most && t->text.n && t->text.n + 2 + n > most) return true;
    if (most) n = cut_at(from, n, most);
    if (n > 0) {
        if (!t->text.n) s->line = t->number;
        buf_puts(&t->text, t->text.n ? "\n\n" : "");
        buf_put(&t->text, from, n);
    }
    for (t->from += n; t->from < t->part.n && is_space(t->part.data[t->from]);) t->from++;
    if (t->from == t->part.n) t->from = t->part.n = 0;
    return t->text.n && !most;
}

/* Reads a paragraph, or the file where it is one row: 1, 0 at the file's end. */
static int read_paragraph(struct row_source *s)
{
    struct text_files *t = s->own;
    bool whole = t->folder && !s->o.chunk;
    char *line;
    int64_t n, number;
    int rc;
    while ((rc = source_line(s, &line, &n, &number)) > 0) {
        bool blank = is_blank(line, n);
        if (blank && !t->part.n) continue;
        if (blank && !whole) return 1;
        if (!t->part.n) t->number = number;
        buf_put(&t->part, line, n);
        buf_putc(&t->part, '\n');
        if (t->part.n > ROW_LIMIT)
            return source_fail_at(s, t->number, 1, "more than 16 MiB without %s, expected the "
                                  "option chunk", whole ? "end" : "an empty line");
    }
    return rc < 0 ? rc : 0;
}

static int text_files_next(struct row_source *s)
{
    struct text_files *t = s->own;
    int rc;
    buf_clear(&s->row);
    buf_clear(&t->text);
    for (;;) {
        if (!t->part.n && s->lines && !t->ended) {
            if ((rc = read_paragraph(s)) < 0) return rc;
            t->ended = rc == 0;
        }
        if (take_paragraph(s)) break;
        if (t->part.n || (s->lines && !t->ended)) continue;
        if (t->text.n) break;
        if ((rc = next_file(s)) <= 0) return rc;
        if (!s->lines) return picture_row(s);
    }
    put_column(s, "text", t->text.data, t->text.n);
    if (t->folder) put_column(s, "file", t->name, (int64_t)strlen(t->name));
    buf_putc(&s->row, '}');
    rc = buf_check(&t->text);
    if (rc == PEFT_OK) rc = buf_check(&t->part);
    return rc < 0 ? rc : 1;
}

static void text_files_close(struct row_source *s)
{
    struct text_files *t = s->own;
    buf_free(&t->path);
    buf_free(&t->list);
    buf_free(&t->text);
    buf_free(&t->part);
}

const struct row_reader read_texts = {
    .name = "text", .endings = TEXT_ENDINGS, .open = text_files_open, .next = text_files_next,
    .close = text_files_close
};
