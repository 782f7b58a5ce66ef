/* Prepared rows: what training needs of each, so that no text is read again.
 * One file (numbers little-endian, records begin at multiples of 8):
 *
 *   "PEFTROWS"
 *   records: struct record, then int32 or float32: ids[n] labels[n_labels]
 *     ends[n_ends] classes[n_classes]; a question before its windows: begin[n]
 *     end[n], then n_ends bytes: id, context and n_labels answers, each with a NUL
 *   the end: JSON with the settings that made the rows, then struct trailer
 *
 * Classes are places in the end's list of names until it is known which ids a
 * head gives them.  Nothing of a file is believed: places and counts are
 * checked while it is read through once. */
#include "data/shard.h"

#include "base/sha256.h"
#include "data/source.h"

#include <math.h>
#include <stdio.h>

#define SHARD_MAGIC "PEFTROWS"
enum { SHARD_VERSION = 1, RECORD_ROW = 1, RECORD_QUESTION = 2, ROW_ASKED = 1, ROW_VALUES = 2 };
struct record {
    int32_t kind, n, n_labels, n_ends, n_classes, flags;
    int32_t second, label, span[2], first, before;
    float value;
    int32_t zero;
    int64_t line;
};
struct trailer { uint8_t hash[SHA256_BYTES]; int64_t size; char magic[8]; };

/* --- what made the rows */

/* A hash of what the tokens stand for, and of how a probe is cut. */
static int tokenizer_hash(const struct coder *e, char hex[SHA256_HEX])
{
    static const char probe[] = "Tokens of 3,456 words: it's  a\tTEST\n\n\xc3\xa9\xe4\xbd\xa0"
                                "\xe5\xa5\xbd \xf0\x9f\x98\x80 https://x.org/?a=1 don't; x=y+1;";
    struct sha256 s;
    uint8_t sum[SHA256_BYTES];
    struct buf piece;
    struct ids ids;
    buf_init(&piece, &e->host->mem);
    ids_init(&ids, &e->host->mem);
    sha256_begin(&s);
    int rc = e->tok ? tok_encode(e->host, e->tok, probe, sizeof probe - 1, TOK_SPECIAL, &ids)
                    : PEFT_OK;
    sha256_add(&s, ids.v, ids.n * (int64_t)sizeof *ids.v);
    for (int32_t i = 0; e->tok && i < e->info->n_vocab && rc == PEFT_OK; i++) {
        buf_clear(&piece);
        rc = tok_piece(e->tok, i, &piece);
        sha256_add(&s, &piece.n, sizeof piece.n);
        sha256_add(&s, piece.data, piece.n);
    }
    sha256_end(&s, sum);
    sha256(sum, sizeof sum, hex);
    if (rc == PEFT_OK) rc = ids_check(&ids);
    ids_free(&ids);
    buf_free(&piece);
    return rc;
}

static void put_setting(struct buf *b, const char *key, const char *text)
{
    buf_printf(b, "%s\"%s\":", b->n && b->data[b->n - 1] != '{' ? "," : "", key);
    buf_json(b, text ? text : "", text ? (int64_t)strlen(text) : 0);
}

/* As an object, in which each member is compared when the rows are read. */
static int put_made_by(struct buf *b, const struct coder *e)
{
    const struct data_opts *o = e->o;
    char hash[SHA256_HEX], template[SHA256_HEX] = "";
    int rc = tokenizer_hash(e, hash);
    const char *source = e->info ? e->info->chat_template : NULL;
    if (source) sha256(source, (int64_t)strlen(source), template);
    buf_putc(b, '{');
    put_setting(b, "tokenizer", hash);
    put_setting(b, "chat template", template);
    put_setting(b, "system message", o->system);
    put_setting(b, "prefix", o->prefix);
    buf_printf(b, ",\"vocabulary\":%d,\"max_len\":%d,\"train_on_prompt\":%d,\"causal\":%d,"
               "\"encoder-decoder\":%d,\"start token\":%d,\"window\":%d,\"stride\":%d,"
               "\"label_all\":%d,\"head for ids\":%d}", o->vocab, o->max_len, !!o->train_on_prompt,
               !!o->causal, !!o->seq2seq, o->start, o->window, o->stride, !!o->label_all,
               (int)o->head);
    return rc < 0 ? rc : buf_check(b);
}

/* --- writing */

struct shard_writer {
    struct host *host;
    struct writer *file;
    const char *out;
    char *tmp;                      /* the folder in the making, or NULL */
    int64_t rows, n, files;         /* rows of a file; in this one; files so far */
    int64_t question;               /* the last one's number */
    int64_t truncated, skipped;     /* before this file */
    struct buf text;
};

/* Opens the next file. */
static int shard_file(struct shard_writer *w)
{
    char name[32], *path = NULL;
    snprintf(name, sizeof name, "part-%05lld.shard", (long long)++w->files);
    int rc = w->tmp ? path_join(w->host, w->tmp, name, &path) : PEFT_OK;
    if (rc == PEFT_OK) rc = writer_open(w->host, path ? path : w->out, &w->file);
    mem_free(&w->host->mem, path);
    if (rc < 0) return rc;
    writer_put(w->file, SHARD_MAGIC, 8);
    w->n = 0;
    w->question = -1;
    return PEFT_OK;
}

int shard_create(struct host *h, const char *out, int64_t rows, struct shard_writer **to)
{
    struct shard_writer *w = *to = mem_zalloc(&h->mem, sizeof *w);
    if (!w) return PEFT_ENOMEM;
    w->host = h;
    w->out = out;
    w->rows = rows;
    buf_init(&w->text, &h->mem);
    int rc = rows ? dir_begin(h, out, &w->tmp) : PEFT_OK;
    return rc < 0 ? rc : shard_file(w);
}

/* The file's end: the settings, what the rows are, the names of their classes. */
static int shard_finish(struct shard_writer *w, const struct coder *e, const struct dataset *d)
{
    const struct labels *l = e->label_set;
    struct buf *b = &w->text;
    struct trailer t = {.magic = SHARD_MAGIC};
    struct sha256 s;
    buf_clear(b);
    buf_puts(b, "{\"settings\":");
    int rc = put_made_by(b, e);
    put_setting(b, "file", d->file);
    put_setting(b, "hash", d->hash);
    put_setting(b, "schema", d->schema);
    buf_printf(b, ",\"version\":%d,\"task\":%d,\"texts\":%d,\"masks\":%d,\"rows\":%lld,"
               "\"truncated\":%lld,\"skipped\":%lld,\"kind\":%d,\"most\":%d,\"names\":[",
               (int)SHARD_VERSION, (int)d->task, d->texts, d->masks, (long long)w->n,
               (long long)(d->truncated - w->truncated), (long long)(d->skipped - w->skipped),
               (int)l->kind, MAX(l->most, 0));
    for (int32_t i = 0; i < l->n; i++) {
        buf_puts(b, i ? "," : "");
        buf_json(b, l->names[i], (int64_t)strlen(l->names[i]));
    }
    buf_puts(b, "]}");
    w->truncated = d->truncated;
    w->skipped = d->skipped;
    if (rc == PEFT_OK) rc = buf_check(b);
    if (rc < 0) return rc;
    sha256_begin(&s);
    sha256_add(&s, b->data, b->n);
    sha256_end(&s, t.hash);
    t.size = b->n;
    writer_put(w->file, b->data, b->n);
    writer_put(w->file, &t, sizeof t);
    rc = writer_commit(w->file);
    w->file = NULL;
    return rc;
}

static void put_words(struct shard_writer *w, const void *v, int64_t n)
{
    if (v) writer_put(w->file, v, n * 4);
}

static void put_padding(struct shard_writer *w)
{
    static const char zero[8];
    writer_put(w->file, zero, -writer_at(w->file) & 7);
}

static void put_question(struct shard_writer *w, const struct question *q)
{
    struct record r = {.kind = RECORD_QUESTION, .n = q->n, .n_labels = q->n_answers};
    buf_clear(&w->text);
    buf_put(&w->text, q->id, (int64_t)strlen(q->id) + 1);
    buf_put(&w->text, q->context, q->context_n + 1);
    for (int32_t i = 0; i < q->n_answers; i++)
        buf_put(&w->text, q->answers[i], (int64_t)strlen(q->answers[i]) + 1);
    r.n_ends = (int32_t)w->text.n;
    writer_put(w->file, &r, sizeof r);
    put_words(w, q->begin, q->n);
    put_words(w, q->end, q->n);
    writer_put(w->file, w->text.data, w->text.n);
    put_padding(w);
}

int shard_put(struct shard_writer *w, const struct coder *e, const struct example *x,
              const struct dataset *d, int64_t question)
{
    if (w->rows && w->n == w->rows) {
        int rc = shard_finish(w, e, d);
        if (rc == PEFT_OK) rc = shard_file(w);
        if (rc < 0) return rc;
    }
    if (x->question && question != w->question) {
        put_question(w, x->question);
        w->question = question;
    }
    struct record r = {
        .kind = RECORD_ROW, .n = x->n, .n_labels = x->labels ? x->n : 0,
        .n_ends = x->ends ? d->texts : 0, .n_classes = x->n_classes,
        .flags = (x->question ? ROW_ASKED : 0) | (x->values ? ROW_VALUES : 0),
        .second = x->second, .label = x->label, .span = { x->span[0], x->span[1] },
        .first = x->first, .before = x->before, .value = x->value, .line = x->line
    };
    writer_put(w->file, &r, sizeof r);
    put_words(w, x->ids, r.n);
    put_words(w, x->labels, r.n_labels);
    put_words(w, x->ends, r.n_ends);
    put_words(w, x->values ? (const void *)x->values : x->classes, r.n_classes);
    put_padding(w);
    w->n++;
    return buf_check(&w->text);
}

int shard_close(struct shard_writer *w, const struct coder *e, const struct dataset *d, int rc)
{
    struct host *h = w->host;
    if (rc == PEFT_OK) rc = shard_finish(w, e, d);
    writer_abort(w->file);
    if (w->tmp && rc == PEFT_OK) rc = dir_commit(h, w->out, w->tmp);
    else if (w->tmp) dir_abort(h, w->tmp);
    buf_free(&w->text);
    mem_free(&h->mem, w);
    return rc;
}

/* --- reading */

struct shard_reader {
    struct dataset *d;
    const struct coder *e;
    const char *path;               /* of the file */
    const uint8_t *data;
    int64_t n, at;                  /* records end at n */
    int32_t *place, n_names;        /* of the file's names in the labels */
    int32_t kind;
    const struct question *question;
};

static int shard_broken(const struct shard_reader *r, const char *what)
{
    return fail(PEFT_EFORMAT, "%s: %s at byte %lld", r->path, what, (long long)r->at);
}

/* The next n * `size` bytes, or NULL. */
static const void *shard_take(struct shard_reader *r, int64_t n, int64_t size)
{
    const uint8_t *at = r->data + r->at;
    int64_t bytes;
    if (n < 0 || !mul_ok(n, size, &bytes) || bytes > r->n - r->at) return NULL;
    r->at += bytes;
    return at;
}

static bool within(const int32_t *v, int64_t n, int32_t lo, int32_t hi)
{
    for (int64_t i = 0; i < n; i++)
        if (v[i] < lo || v[i] > hi) return false;
    return true;
}

static int read_question(struct shard_reader *r, const struct record *c)
{
    struct arena *a = &r->d->arena;
    struct question *q = arena_alloc(a, sizeof *q);
    int64_t texts = (int64_t)c->n_labels + 2, n = 0;
    const int32_t *at = shard_take(r, 2 * (int64_t)c->n, 4);
    const char *text = shard_take(r, c->n_ends, 1);
    if (!at || !text || c->n < 1 || c->n_labels < 0 || c->n_ends < texts || text[c->n_ends - 1])
        return shard_broken(r, "a broken question");
    const char *end = text + c->n_ends;
    if (!q) return PEFT_ENOMEM;
    *q = (struct question){.id = text, .n_answers = c->n_labels, .n = c->n, .begin = at,
                           .end = at + c->n};
    q->answers = arena_alloc(a, texts * (int64_t)sizeof *q->answers);
    if (!q->answers) return PEFT_ENOMEM;
    for (const char *s = text; s < end && n < texts; s += strlen(s) + 1, n++) {
        if (n == 1) q->context = s, q->context_n = (int64_t)strlen(s);
        if (n > 1) q->answers[n - 2] = s;
    }
    if (n < texts || !within(at, 2 * (int64_t)c->n, 0, (int32_t)q->context_n))
        return shard_broken(r, "a broken question");
    r->at += -r->at & 7;
    r->question = q;
    return PEFT_OK;
}

/* Names by their places here, numbers anew: the head may be another. */
static int place_labels(struct shard_reader *r, const struct record *c, struct example *x)
{
    struct arena *a = &r->d->arena;
    struct labels *l = r->e->label_set;
    int32_t most = r->kind == LABEL_NAME ? r->n_names - 1 : r->kind == LABEL_NUMBER ? 65535 :
                   r->e->o->n_labels - 1;
    bool tokens = r->d->task == TASK_TOKEN, multi = r->d->task == TASK_MULTI;
    x->label = -1;
    if (r->d->task == TASK_CLASS && r->kind == LABEL_NUMBER)
        return labels_number(l, (double)c->value, x);
    if (r->d->task == TASK_CLASS) {
        if (!r->place || c->label < 0 || c->label > most)
            return shard_broken(r, "an unknown class");
        x->label = r->place[c->label];
    }
    if (x->values && r->e->o->n_labels && c->n_classes != r->e->o->n_labels)
        return fail(PEFT_EDATA, "%s: %d numbers a row, expected one for each of the head's %d "
                    "labels", r->path, c->n_classes, r->e->o->n_labels);
    int32_t n = tokens ? x->n : multi && !x->values ? c->n_classes : 0;
    const int32_t *from = tokens ? x->labels : x->classes;
    if (!n) return PEFT_OK;
    int32_t *to = arena_alloc(a, n * (int64_t)sizeof *to);
    if (!to) return PEFT_ENOMEM;
    for (int32_t i = 0; i < n; i++) {
        if (tokens && from[i] == NOT_TRAINED) to[i] = NOT_TRAINED;
        else if (from[i] < 0 || from[i] > most) return shard_broken(r, "an unknown class");
        else to[i] = r->kind == LABEL_NAME ? r->place[from[i]] : from[i];
    }
    if (tokens) x->labels = to;
    else x->classes = to;
    return PEFT_OK;
}

/* Labels of tokens: some of them trained, and each one a token. */
static bool labels_fit(const struct dataset *d, const struct example *x)
{
    int64_t first;
    bool wanted = d->task == TASK_LM || d->task == TASK_SEQ2SEQ || d->task == TASK_TOKEN ||
                  d->task == TASK_MASKED;
    if (!x->labels) return !wanted;
    for (int64_t i = 0; d->task != TASK_TOKEN && i < x->n; i++)
        if (x->labels[i] != NOT_TRAINED && (x->labels[i] < 0 || x->labels[i] >= d->vocab))
            return false;
    return wanted && count_trained(x->labels, label_shift(d->task), x->n, &first) > 0;
}

static int read_record(struct shard_reader *r, const struct record *c)
{
    struct dataset *d = r->d;
    union { const void *file; int32_t *row; float *values; } ids, labels, ends, classes;
    ids.file = shard_take(r, c->n, 4);
    labels.file = shard_take(r, c->n_labels, 4);
    ends.file = shard_take(r, c->n_ends, 4);
    classes.file = shard_take(r, c->n_classes, 4);
    if (!ids.file || !labels.file || !ends.file || !classes.file || c->n < 1)
        return shard_broken(r, "a row beyond the file's end");
    bool asked = c->flags & ROW_ASKED, values = c->flags & ROW_VALUES;
    struct example x = {
        .ids = ids.row, .labels = c->n_labels ? labels.row : NULL,
        .ends = c->n_ends ? ends.row : NULL, .n = c->n, .second = c->second, .value = c->value,
        .classes = d->task == TASK_MULTI && !values ? classes.row : NULL,
        .values = d->task == TASK_MULTI && values ? classes.values : NULL,
        .n_classes = c->n_classes, .span = { c->span[0], c->span[1] },
        .question = asked ? r->question : NULL, .first = c->first, .before = c->before,
        .line = c->line
    };
    bool fits = within(x.ids, x.n, 0, d->vocab - 1) && (c->n_labels == 0 || c->n_labels == c->n) &&
                c->n_ends == (d->texts > 1 ? d->texts : 0) && labels_fit(d, &x) &&
                (c->n_classes == 0 || d->task == TASK_MULTI) && !isinf(c->value) &&
                c->second >= 0 && c->second <= c->n && c->span[0] >= 0 &&
                c->span[0] <= c->span[1] && c->span[1] < c->n && c->before >= 0 &&
                c->before <= c->n && c->first >= 0 &&
                asked == (d->task == TASK_SPAN && x.question) &&
                (!x.question || c->first <= x.question->n);
    for (int32_t t = 0; fits && t < c->n_ends; t++)
        fits = x.ends[t] >= (t ? x.ends[t - 1] : 0) && (t + 1 < c->n_ends || x.ends[t] == x.n);
    if (!fits) return shard_broken(r, "a row that does not fit the others or the model");
    int rc = place_labels(r, c, &x);
    r->at += -r->at & 7;
    return rc < 0 ? rc : dataset_push(d, &x);
}

static int read_records(struct shard_reader *r, int64_t rows)
{
    int64_t before = r->d->n, limit = r->e->o->source.limit;
    while (r->at < r->n && (!limit || r->d->n < limit)) {
        const struct record *c = shard_take(r, 1, sizeof *c);
        int rc = !c || (c->kind != RECORD_ROW && c->kind != RECORD_QUESTION) ?
                 shard_broken(r, "no record") : c->kind == RECORD_ROW ? read_record(r, c) :
                 read_question(r, c);
        if (rc < 0) return rc;
    }
    if (r->at < r->n || (r->at == r->n && r->d->n - before == rows)) return PEFT_OK;
    return fail(PEFT_EFORMAT, "%s: %lld rows, expected %lld", r->path,
                (long long)(r->d->n - before), (long long)rows);
}

/* Each setting must be what it was, but for a max_len that nobody asked for. */
static int same_settings(struct shard_reader *r, const json *theirs)
{
    struct buf mine, a, b;
    struct mem *m = &r->e->host->mem;
    json *ours = NULL;
    buf_init(&mine, m);
    buf_init(&a, m);
    buf_init(&b, m);
    int rc = put_made_by(&mine, r->e);
    if (rc == PEFT_OK) rc = json_parse(mine.data, mine.n, "settings", &ours);
    for (const json *v = json_first(ours); v && rc == PEFT_OK; v = json_next(v)) {
        bool hash = !strcmp(json_key(v), "tokenizer") || !strcmp(json_key(v), "chat template");
        bool len = !strcmp(json_key(v), "max_len") || !strcmp(json_key(v), "window");
        int64_t most = 0;
        if (len && json_int(theirs, json_key(v), 1, r->e->o->any_len, &most) > 0) continue;
        if (!strcmp(json_key(v), "head for ids") && strcmp(r->d->schema, "input_ids") != 0)
            continue;
        const json *other = json_get(theirs, json_key(v));
        buf_clear(&a);
        buf_clear(&b);
        json_write(&a, v);
        if (other) json_write(&b, other);
        if ((rc = buf_check(&a)) < 0 || (rc = buf_check(&b)) < 0) break;
        if (!strcmp(buf_str(&a), buf_str(&b))) continue;
        rc = hash ? fail(PEFT_EDATA, "%s: prepared with another %s than the model's", r->path,
                         json_key(v)) :
             fail(PEFT_EDATA, "%s: prepared with %s %.80s, and here it is %.80s", r->path,
                  json_key(v), buf_str(&b), buf_str(&a));
    }
    json_free(ours);
    buf_free(&mine);
    buf_free(&a);
    buf_free(&b);
    return rc;
}

static int read_classes(struct shard_reader *r, const json *list)
{
    struct labels *l = r->e->label_set;
    int64_t n = json_count(list);
    if (r->kind == LABEL_NONE) return PEFT_OK;
    if (l->kind != LABEL_NONE && (int32_t)l->kind != r->kind)
        return fail(PEFT_EFORMAT, "%s: labels are %s, expected %s as in the files before", r->path,
                    r->kind == LABEL_NAME ? "names" : "numbers",
                    r->kind == LABEL_NAME ? "numbers" : "names");
    l->kind = (enum label_kind)r->kind;
    if (r->kind == LABEL_NUMBER) return PEFT_OK;
    if (!(r->place = arena_alloc(&r->d->arena, (n + 1) * (int64_t)sizeof *r->place)))
        return PEFT_ENOMEM;
    for (const json *v = json_first(list); v; v = json_next(v)) {
        const char *name = json_string(v);
        int rc = name ? labels_name(l, name, &r->place[r->n_names++]) :
                 fail(PEFT_EFORMAT, "%s: a label is no string", r->path);
        if (rc < 0) return rc;
    }
    return PEFT_OK;
}

/* What the end says of the rows; the same for all files of a folder. */
static int read_end(struct shard_reader *r, const json *end, int64_t *rows)
{
    struct dataset *d = r->d;
    int64_t version = 0, task = -1, texts = 0, masks = 0, cut = 0, skipped = 0, kind = 0;
    int64_t most = 0;
    const char *schema = json_string(json_get(end, "schema"));
    const char *file = json_string(json_get(end, "file"));
    const char *hash = json_string(json_get(end, "hash"));
    if (json_int(end, "version", 1, SHARD_VERSION, &version) < 1)
        return fail(PEFT_EFORMAT, "%s: prepared by another version, expected %d", r->path,
                    (int)SHARD_VERSION);
    if (json_int(end, "task", TASK_LM, TASK_ALIKE, &task) < 1 ||
        json_int(end, "texts", 1, 65536, &texts) < 1 ||
        json_int(end, "masks", 0, 1, &masks) < 1 || json_int(end, "rows", 0, 1LL << 40, rows) < 1 ||
        json_int(end, "truncated", 0, 1LL << 40, &cut) < 1 ||
        json_int(end, "skipped", 0, 1LL << 40, &skipped) < 1 ||
        json_int(end, "kind", LABEL_NONE, LABEL_NUMBER, &kind) < 1 ||
        json_int(end, "most", 0, 65535, &most) < 1 || !schema || !file || !hash)
        return fail(PEFT_EFORMAT, "%s: its end lacks what the rows are", r->path);
    static const uint8_t least[] = {[TASK_SEQ2SEQ] = 2, [TASK_PAIR] = 2, [TASK_MATCH] = 2,
                                    [TASK_ALIKE] = 2};
    int64_t wanted = least[task];
    if ((wanted ? texts < wanted : texts != 1) || (masks && task != TASK_MASKED) ||
        (masks && (!r->e->info || r->e->info->mask < 0)) ||
        (d->n && (d->task != (enum task)task || d->texts != texts || d->masks != masks)))
        return fail(PEFT_EFORMAT, "%s: rows that do not fit the others or the model", r->path);
    d->task = (enum task)task;
    d->texts = (int32_t)texts;
    d->masks = (int32_t)masks;
    d->mask_id = r->e->info ? r->e->info->mask : -1;
    d->vocab = r->e->o->vocab;
    d->truncated += cut;
    d->skipped += skipped;
    snprintf(d->schema, sizeof d->schema, "%s", schema);
    snprintf(d->file, sizeof d->file, "%s", file);
    snprintf(d->hash, sizeof d->hash, "%s", hash);
    r->kind = (int32_t)kind;
    if (kind == LABEL_NUMBER)
        r->e->label_set->most = MAX(r->e->label_set->most, (int32_t)most);
    return PEFT_OK;
}

static int load_file(struct dataset *d, const struct coder *e, const char *path)
{
    struct shard_view *v = arena_alloc(&d->arena, sizeof *v);
    struct shard_reader r = {.d = d, .e = e, .path = path, .at = 8};
    struct trailer t;
    struct sha256 s;
    uint8_t sum[SHA256_BYTES];
    int64_t rows = 0;
    json *end = NULL;
    int rc = v ? file_open_view(e->host, path, true, &v->view) : PEFT_ENOMEM;
    if (rc < 0) return rc;
    v->next = d->views;
    d->views = v;
    r.data = v->view.data;
    r.n = v->view.n;
    if (r.n < 8 + (int64_t)sizeof t || memcmp(r.data, SHARD_MAGIC, 8) != 0)
        return shard_broken(&r, "no prepared rows, or a part of them");
    memcpy(&t, r.data + r.n - sizeof t, sizeof t);
    r.n -= sizeof t;
    if (memcmp(t.magic, SHARD_MAGIC, 8) != 0 || t.size < 2 || t.size > r.n - 8)
        return fail(PEFT_EFORMAT, "%s: the file's end is missing", path);
    r.n -= t.size;
    sha256_begin(&s);
    sha256_add(&s, r.data + r.n, t.size);
    sha256_end(&s, sum);
    if (memcmp(sum, t.hash, sizeof sum) != 0 || r.n % 8)
        return fail(PEFT_EFORMAT, "%s: the file's end is broken", path);
    rc = json_parse((const char *)r.data + r.n, t.size, path, &end);
    if (rc == PEFT_OK) rc = read_end(&r, end, &rows);
    if (rc == PEFT_OK) rc = same_settings(&r, json_get(end, "settings"));
    if (rc == PEFT_OK) rc = read_classes(&r, json_get(end, "names"));
    json_free(end);
    return rc < 0 ? rc : read_records(&r, rows);
}

bool shard_known(struct host *h, const char *path)
{
    struct line_reader *l;
    const char *head;
    int64_t n = 0;
    bool known = false;
    if (path_kind(h, path) == 1 && line_open(h, path, &l) == PEFT_OK) {
        known = line_peek(l, &head, &n) > 0 && n >= 8 && !memcmp(head, SHARD_MAGIC, 8);
        line_close(l);
    }
    char *first = NULL;
    if (path_kind(h, path) == 2 && path_join(h, path, "part-00001.shard", &first) == PEFT_OK)
        known = path_kind(h, first) == 1;
    mem_free(&h->mem, first);
    return known;
}

int shard_load(struct dataset *d, const struct coder *e, const char *path)
{
    struct names l = {.arena = &d->arena};
    if (path_kind(d->host, path) == 1) return load_file(d, e, path);
    buf_init(&l.list, &d->host->mem);
    int rc = list_folder(d->host, path, &l);
    for (int64_t i = 0; i < l.n && rc == PEFT_OK; i++) {
        char *file = NULL;
        if (!has_ending(name_at(&l, i), ".shard")) continue;
        rc = path_join(d->host, path, name_at(&l, i), &file);
        if (rc == PEFT_OK) rc = load_file(d, e, file);
        mem_free(&d->host->mem, file);
    }
    buf_free(&l.list);
    return rc;
}
