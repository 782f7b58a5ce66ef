/* Suspected label errors: rows -> features of a frozen model -> heads that have not seen the
 * row -> confident learning. */
#include "prep/flow.h"
#include "prep/labels.h"

#include <math.h>

enum { FAULT_CHUNK = 64, FAULT_CLASSES = 4096, FAULT_DEPTHS = 4 };

/* What labels are, in all rows of a file alike. */
enum { ONE_LABEL = 1, LABEL_NAMES, LABEL_NUMBERS };
static const char *const label_kinds[] = {
    "", "one label", "a list of labels", "a list of 0 and 1 for each label",
};

struct faults {
    struct host *host;
    const char *path;
    peft_model *model;
    peft_faults_opts o;
    peft_source_opts source;
    peft_info info;
    struct arena arena;
    struct buf text, name_of;
    struct map names;
    struct ids given;
    const char **name;              /* [labels] */
    struct labelled *rows;
    int64_t n, cap, unlabelled, flagged, suspects;
    int32_t kind;
    float *x, *p, *tuned;
    int64_t work;                   /* in rows read once */
    uint8_t *has;                   /* [n, labels] of several; */
    struct several several;
    const char **names_of[2];       /* [labels] those that a row lacks, and has, by mistake */
    int32_t width, depths;
    struct bag words;
    struct heads heads;
    peft_label_check *found;
    int64_t *order;
    uint8_t *suspect;
};

/* --- rows */

static int fault_room(struct faults *f)
{
    if (f->n < f->cap) return PEFT_OK;
    int64_t cap = MAX(2 * f->cap, 256);
    struct labelled *rows = mem_realloc(&f->host->mem, f->rows,
                                        cap * (int64_t)sizeof *f->rows);
    if (!rows) return PEFT_ENOMEM;
    f->rows = rows;
    f->cap = cap;
    return f->cap > INT32_MAX ? fail(PEFT_EUNSUPPORTED, "more than 2^31 rows") : PEFT_OK;
}

static int fault_class(struct faults *f, const struct buf *name, int32_t *out)
{
    int64_t at = map_get(&f->names, name->data, name->n, -1);
    if (at < 0) {
        at = f->names.n;
        if (at == FAULT_CLASSES)
            return fail(PEFT_EDATA, "more than %d different labels, expected classes",
                        FAULT_CLASSES);
        char *copy = arena_strndup(&f->arena, name->data, name->n);
        int rc = copy ? map_add(&f->names, copy, name->n, at) : PEFT_ENOMEM;
        if (rc < 0) return rc;
        f->name[at] = copy;
    }
    *out = (int32_t)at;
    return PEFT_OK;
}

static int fault_kind(struct faults *f, int32_t kind)
{
    if (!f->kind) f->kind = kind;
    return f->kind == kind ? PEFT_OK :
           fail(PEFT_EDATA, "label: expected %s as in the rows before, found %s",
                label_kinds[f->kind], label_kinds[kind]);
}

/* A label that the row has, or with `has` false only knows of. */
static int fault_give(struct faults *f, const struct buf *name, bool has)
{
    int32_t label = 0;
    int rc = buf_check(name);
    if (!rc) rc = fault_class(f, name, &label);
    if (!rc && has) ids_push(&f->given, label);
    return rc;
}

static int fault_item(struct faults *f, const json *v, int64_t at)
{
    bool named = f->kind == LABEL_NAMES, truth = json_kind(v) == JSON_BOOL;
    double x = truth ? (double)json_bool(v, false) : json_number(v, -1);
    const char *name = json_string(v);
    if (named ? !name : x != 0 && x != 1)
        return fail(PEFT_EDATA, "label: expected %s, found %s in it", label_kinds[f->kind],
                    json_kind(v) == JSON_NUMBER ? "another number" : json_kind_name(v));
    buf_clear(&f->name_of);
    if (named) buf_puts(&f->name_of, name);
    else buf_printf(&f->name_of, "%lld", (long long)at);
    return fault_give(f, &f->name_of, named || x > 0);
}

static int fault_list(struct faults *f, json *row, const json *list)
{
    const json *v = json_first(list);
    struct field first;
    int64_t n = json_count(list), at = 0;
    bool names = !v || json_kind(v) == JSON_STRING;
    if (fields_of(row, &first, 1) && first.word)
        return fail(PEFT_EDATA, "labels of words, expected labels of texts");
    int rc = fault_kind(f, names ? LABEL_NAMES : LABEL_NUMBERS);
    if (!rc && !names && f->names.n && n != f->names.n)
        rc = fail(PEFT_EDATA, "label: a list of %lld, expected %lld as in the rows before",
                  (long long)n, (long long)f->names.n);
    for (; !rc && v; v = json_next(v)) rc = fault_item(f, v, at++);
    return rc;
}

/* A picture's path is relative to the file that names it, unless that is a folder. */
static int picture_of(struct faults *f, const json *row)
{
    const char *image = json_string(json_get(row, "image")), *end = path_base(f->path);
    char *path = NULL;
    if (!image) return fail(PEFT_EDATA, "no image, expected one for a model of pictures");
    bool folder = path_kind(f->host, f->path) == 2;
    char *dir = folder ? mem_strdup(&f->host->mem, f->path) : end == f->path ?
                mem_strdup(&f->host->mem, ".") :
                mem_strndup(&f->host->mem, f->path, end - f->path - 1);
    int rc = dir ? path_join(f->host, dir, image, &path) : PEFT_ENOMEM;
    if (!rc) buf_puts(&f->text, path);
    mem_free(&f->host->mem, dir);
    mem_free(&f->host->mem, path);
    return rc;
}

static int fault_labelled(struct faults *f, struct flow_row *r)
{
    const json *label = field_label(r->row);
    bool list = label && json_kind(label) == JSON_ARRAY;
    buf_clear(&f->text);
    buf_clear(&f->name_of);
    int rc = list ? 1 : label_name(r->row, &f->name_of);
    if (rc > 0) rc = f->info.image_height ? picture_of(f, r->row) : label_text(r->row, &f->text);
    if (rc < 0) return rc;
    if (!f->text.n) f->unlabelled++;
    if (!f->text.n) return PEFT_OK;
    rc = list ? fault_list(f, r->row, label) : fault_kind(f, ONE_LABEL);
    if (!rc && !list) rc = fault_give(f, &f->name_of, true);
    if (rc < 0 || (rc = fault_room(f)) < 0) return rc;
    struct labelled *x = &f->rows[f->n++];
    *x = (struct labelled){arena_strndup(&f->arena, r->text, r->n),
                           arena_strndup(&f->arena, f->text.data, f->text.n), r->n, r->line,
                           f->given.n};
    return x->json && x->text ? ids_check(&f->given) : PEFT_ENOMEM;
}

static int fault_take(void *ctx, struct flow_row *r)
{
    int rc = flow_parse(r);
    if (rc >= 0) {
        rc = fault_labelled(ctx, r);
        if (rc < 0) fail_in(rc, "%s line %lld: ", r->path, (long long)r->line);
    }
    json_free(r->row);
    r->row = NULL;
    return rc;
}

static int fault_rows(struct faults *f)
{
    struct flow flow = {.host = f->host, .path = f->path, .source = &f->source, .ctx = f,
                        .take = fault_take};
    int32_t (*progress)(void *, int64_t, int64_t) = f->source.progress;
    f->source.progress = NULL;      /* which is told of rows, below */
    int rc = flow_run(&flow);
    f->source.progress = progress;
    if (rc < 0) return rc;
    if (f->names.n < (f->kind == ONE_LABEL ? 2 : 1))
        return fail(PEFT_EDATA, "%s: %lld different labels in %lld rows, expected at least 2",
                    f->path, (long long)f->names.n, (long long)f->n + f->unlabelled);
    if (f->n < 2 * f->o.folds)
        return fail(PEFT_EDATA, "%s: %lld rows with a label, expected at least %d for %d parts",
                    f->path, (long long)f->n, 2 * f->o.folds, f->o.folds);
    return PEFT_OK;
}

/* --- features */

static int features_of(struct faults *f, int64_t from, int64_t n, float *to)
{
    const char *texts[FAULT_CHUNK];
    peft_embed_opts o = {.size = sizeof o, .pool = f->o.pool, .max_len = f->o.max_len,
                         .batch = f->o.batch, .depths = f->depths};
    for (int64_t i = 0; i < n; i++) texts[i] = f->rows[from + i].text;
    int32_t rc = f->info.image_height ? PEFT_OK :
                 peft_embed_text(f->model, texts, (int32_t)n, &o, to);
    for (int64_t i = 0; !rc && f->info.image_height && i < n; i++)
        rc = peft_embed_image(f->model, texts[i], NULL, 0, 0, to + i * f->info.embed_dim);
    return rc ? kit_failed(rc) : PEFT_OK;
}

static int all_features(struct faults *f)
{
    f->work = f->n + (f->o.tune ? tuned_work(f->n, f->o.folds, f->o.tune) : 0);
    int32_t dim = f->info.embed_dim * f->depths;
    struct mem *mem = &f->host->mem;
    f->width = heads_width(dim);
    f->x = mem_array(mem, f->n, f->width * (int64_t)sizeof *f->x);
    float *part = mem_array(mem, FAULT_CHUNK, dim * (int64_t)sizeof *part);
    int rc = f->x && part ? PEFT_OK : PEFT_ENOMEM;
    for (int64_t at = 0; !rc && at < f->n; at += FAULT_CHUNK) {
        int64_t n = MIN(FAULT_CHUNK, f->n - at);
        rc = features_of(f, at, n, part);
        for (int64_t i = 0; !rc && !f->info.image_height && i < n; i++)
            rc = bag_add(&f->words, f->rows[at + i].text);
        for (int64_t i = 0; !rc && i < n; i++)
            memcpy(f->x + (at + i) * f->width, part + i * dim, (size_t)dim * sizeof *part);
        if (!rc && f->source.progress && f->source.progress(f->source.ctx, at + n, f->work))
            rc = fail(PEFT_ECANCELLED, "%s: cancelled at row %lld", f->path, (long long)(at + n));
    }
    mem_free(mem, part);
    return rc;
}

/* --- what is found */

/* Heads take a moment, and a host may end the call. */
static int32_t heads_progress(void *ctx, int64_t done, int64_t total)
{
    const struct faults *f = ctx;
    (void)done;
    (void)total;
    return f->source.progress(f->source.ctx, f->work, f->work);
}

static int32_t tuned_progress(void *ctx, int64_t done)
{
    const struct faults *f = ctx;
    return f->source.progress(f->source.ctx, f->n + done, f->work);
}

static int tune_model(struct faults *f, int32_t labels)
{
    struct mem *mem = &f->host->mem;
    int32_t *part = mem_array(mem, f->n, sizeof *part), *none = NULL;
    struct tuned t = {.model = f->model, .rows = f->rows, .given = f->given.v, .part = part,
                      .name = f->name, .n = f->n, .labels = labels, .folds = f->o.folds,
                      .epochs = f->o.tune, .max_len = f->o.max_len, .seed = f->o.seed,
                      .several = f->kind != ONE_LABEL, .ctx = f,
                      .progress = f->source.progress ? tuned_progress : NULL};
    f->tuned = mem_array(mem, f->n, labels * (int64_t)sizeof *f->tuned);
    if (t.several) f->heads.given = none = mem_array(mem, f->n, sizeof *none);
    int rc = part && f->tuned && f->heads.given ? PEFT_OK : PEFT_ENOMEM;
    if (!rc) rc = deal_parts(mem, &f->heads, part);
    if (!rc) rc = tuned_cross(f->host, &t, f->tuned);
    mem_free(mem, part);
    mem_free(mem, none);
    return rc;
}

/* Those that are flagged, or so many of the first by rank. */
static int choose_suspects(struct faults *f)
{
    int64_t first = (int64_t)ceil(f->o.share * (double)f->n - 1e-9);
    if (!(f->suspect = mem_zalloc(&f->host->mem, f->n))) return PEFT_ENOMEM;
    for (int64_t k = 0; k < f->n; k++) {
        int64_t i = f->order[k];
        f->flagged += f->found[i].flagged;
        f->suspect[i] = first ? k < first : f->found[i].flagged != 0;
        f->suspects += f->suspect[i];
    }
    return PEFT_OK;
}

static int judge_one(struct faults *f, int32_t labels)
{
    struct mem *mem = &f->host->mem;
    f->p = mem_array(mem, f->n, labels * (int64_t)sizeof *f->p);
    int rc = f->p ? bag_weigh(&f->words, labels) : PEFT_ENOMEM;
    if (!rc) rc = heads_cross(f->host, &f->heads, f->p);
    if (!rc && f->tuned) tuned_join(f->p, f->tuned, f->n, labels);
    struct judged j = {f->p, f->given.v, f->n, labels};
    return rc ? rc : confident(mem, &j, f->o.rank, f->found, f->order);
}

static int judge_several(struct faults *f, int32_t labels)
{
    struct mem *mem = &f->host->mem;
    struct several *s = &f->several;
    f->has = mem_array(mem, f->n, labels);
    s->cell = mem_array(mem, f->n, labels * (int64_t)sizeof *s->cell);
    for (int m = 0; m < 2; m++) f->names_of[m] = mem_array(mem, labels, sizeof **f->names_of);
    if (!f->has || !s->cell || !f->names_of[0] || !f->names_of[1]) return PEFT_ENOMEM;
    for (int64_t i = 0, at = 0; i < f->n; i++)
        for (; at < f->rows[i].end; at++) f->has[i * labels + f->given.v[at]] = 1;
    s->has = f->has;
    s->tuned = f->tuned;
    s->labels = labels;
    s->margin = !f->o.rank || strcmp(f->o.rank, "confidence");
    int rc = bag_weigh(&f->words, 2);
    return rc ? rc : several(f->host, &f->heads, s, f->found, f->order);
}

static int judge_rows(struct faults *f)
{
    struct mem *mem = &f->host->mem;
    int32_t labels = (int32_t)f->names.n;
    f->found = mem_array(mem, f->n, sizeof *f->found);
    f->order = mem_array(mem, f->n, sizeof *f->order);
    if (!f->found || !f->order) return PEFT_ENOMEM;
    f->heads = (struct heads){.x = f->x, .words = f->info.image_height ? NULL : &f->words,
                              .given = f->given.v, .n = f->n, .width = f->width,
                              .labels = labels, .folds = f->o.folds, .l2 = f->o.l2,
                              .threads = f->source.threads, .seed = f->o.seed,
                              .progress = f->source.progress ? heads_progress : NULL, .ctx = f};
    int rc = f->o.tune ? tune_model(f, labels) : PEFT_OK;
    if (!rc) rc = f->kind == ONE_LABEL ? judge_one(f, labels) : judge_several(f, labels);
    return rc ? rc : choose_suspects(f);
}

/* --- what is told */

/* A row's labels that are flagged, and the one that its rank is of. */
static bool in_doubt(const struct faults *f, int64_t i, int32_t k)
{
    const peft_label_check *c = &f->several.cell[i * f->several.labels + k];
    return c->flagged || (f->found[i].likely == k && c->margin < 0.5f);
}

/* The i-th row's labels as given, or as they rather are. */
static bool has_label(const struct faults *f, int64_t i, int32_t k, bool likely)
{
    return (f->has[i * f->several.labels + k] != 0) != (likely && in_doubt(f, i, k));
}

static void put_labels(struct buf *to, const struct faults *f, int64_t i)
{
    const char *before = "[";
    for (int32_t k = 0; k < f->several.labels; k++) {
        bool has = has_label(f, i, k, true), number = f->kind == LABEL_NUMBERS;
        if (!has && !number) continue;
        buf_puts(to, before);
        if (number) buf_putc(to, has ? '1' : '0');
        else buf_json(to, f->name[k], (int64_t)strlen(f->name[k]));
        before = ", ";
    }
    buf_puts(to, *before == '[' ? "[]" : "]");
}

static void put_fault(struct buf *to, const struct faults *f, int64_t i, const json *row)
{
    const peft_label_check *c = &f->found[i];
    const char *likely = f->name[c->likely];
    bool one = f->kind == ONE_LABEL;
    label_open(to, row, one ? f->name[f->given.v[i]] : NULL);
    buf_puts(to, ", \"likely\": ");
    if (one) buf_json(to, likely, (int64_t)strlen(likely));
    else put_labels(to, f, i);
    buf_puts(to, ", \"confidence\": ");
    buf_number(to, round((double)c->confidence * 1e4) / 1e4);
    buf_puts(to, ", \"margin\": ");
    buf_number(to, round((double)c->margin * 1e4) / 1e4);
    buf_printf(to, ", \"line\": %lld}\n", (long long)f->rows[i].line);
}

static int put_suspect(struct faults *f, int64_t i)
{
    json *row = NULL;
    int rc = json_parse(f->rows[i].json, f->rows[i].json_n, f->path, &row);
    if (!rc) put_fault(&f->text, f, i, row);
    json_free(row);
    return rc;
}

/* The suspects by rank, or the other rows as they are and in their order. */
static int write_faults(struct faults *f, const char *path, bool suspects)
{
    struct writer *w = NULL;
    int rc = path ? writer_open(f->host, path, &w) : PEFT_OK;
    for (int64_t k = 0; w && !rc && k < f->n; k++) {
        int64_t i = suspects ? f->order[k] : k;
        if (suspects != f->suspect[i]) continue;
        buf_clear(&f->text);
        if (suspects) rc = put_suspect(f, i);
        else buf_printf(&f->text, "%s\n", f->rows[i].json);
        if (!rc) rc = buf_check(&f->text);
        if (!rc) writer_put(w, f->text.data, f->text.n);
    }
    if (w && rc) writer_abort(w);
    return w && !rc ? writer_commit(w) : rc;
}

/* Of several labels: all that are given, and likely, as texts, and those in doubt. */
static int name_several(struct faults *f, int64_t i, peft_label_fault *x)
{
    struct buf *text[] = {&f->name_of, &f->text};
    int32_t n[2] = {0, 0};
    for (int likely = 0; likely < 2; likely++) {
        buf_clear(text[likely]);
        for (int32_t k = 0; k < f->several.labels; k++) {
            if (!has_label(f, i, k, likely)) continue;
            if (text[likely]->n) buf_puts(text[likely], ", ");
            buf_puts(text[likely], f->name[k]);
        }
    }
    for (int32_t k = 0; k < f->several.labels; k++) {
        bool has = has_label(f, i, k, false);
        if (in_doubt(f, i, k)) f->names_of[has][n[has]++] = f->name[k];
    }
    x->given = buf_str(text[0]);
    x->likely = buf_str(text[1]);
    x->likely_confidence = 1 - x->confidence;
    x->missing = f->names_of[0];
    x->wrong = f->names_of[1];
    x->n_missing = n[0];
    x->n_wrong = n[1];
    return MIN(buf_check(text[0]), buf_check(text[1]));
}

static void name_one(const struct faults *f, int64_t i, peft_label_fault *x)
{
    int32_t likely = f->found[i].likely;
    x->given = f->name[f->given.v[i]];
    x->likely = f->name[likely];
    x->likely_confidence = (double)f->p[i * f->names.n + likely];
}

static int tell_rows(struct faults *f)
{
    int rc = PEFT_OK;
    for (int64_t k = 0; !rc && k < f->n; k++) {
        int64_t i = f->order[k];
        const peft_label_check *c = &f->found[i];
        peft_label_fault x = {.size = sizeof x, .rank = k + 1, .line = f->rows[i].line,
                              .text = f->rows[i].text, .confidence = (double)c->confidence,
                              .margin = (double)c->margin, .flagged = c->flagged,
                              .suspect = f->suspect[i]};
        if (f->kind == ONE_LABEL) name_one(f, i, &x);
        else rc = name_several(f, i, &x);
        if (!rc && f->o.on_fault(f->o.ctx, &x)) break;
    }
    return rc;
}

static void tell_faults(const struct faults *f, peft_faults *out)
{
    for (int64_t i = 0; i < f->n; i++) out->accuracy += f->found[i].margin >= 0.5f;
    out->accuracy /= (double)f->n;
    if (f->kind != ONE_LABEL) out->accuracy = f->several.f1;
    out->several = f->kind != ONE_LABEL;
    out->rare = f->several.rare;
    out->rows = f->n;
    out->flagged = f->flagged;
    out->suspects = f->suspects;
    out->unlabelled = f->unlabelled;
    out->labels = (int32_t)f->names.n;
    out->l2 = f->heads.l2;
}

static int find_faults(struct faults *f, peft_faults *out)
{
    struct mem *mem = &f->host->mem;
    arena_init(&f->arena, mem);
    buf_init(&f->text, mem);
    buf_init(&f->name_of, mem);
    map_init(&f->names, mem);
    ids_init(&f->given, mem);
    bag_init(&f->words, mem);
    f->name = mem_array(mem, FAULT_CLASSES, sizeof *f->name);
    int rc = f->name ? fault_rows(f) : PEFT_ENOMEM;
    if (!rc) rc = all_features(f);
    if (!rc) rc = judge_rows(f);
    if (!rc) rc = write_faults(f, f->o.out, true);
    if (!rc) rc = write_faults(f, f->o.clean, false);
    if (!rc && f->o.on_fault) rc = tell_rows(f);
    if (!rc) tell_faults(f, out);
    mem_free(mem, f->name);
    mem_free(mem, f->rows);
    mem_free(mem, f->x);
    mem_free(mem, f->p);
    mem_free(mem, f->tuned);
    mem_free(mem, f->has);
    mem_free(mem, f->several.cell);
    mem_free(mem, f->names_of[0]);
    mem_free(mem, f->names_of[1]);
    mem_free(mem, f->found);
    mem_free(mem, f->order);
    mem_free(mem, f->suspect);
    ids_free(&f->given);
    bag_free(&f->words);
    map_free(&f->names);
    buf_free(&f->text);
    buf_free(&f->name_of);
    arena_free(&f->arena);
    return rc;
}

int32_t peft_data_faults(const char *path, peft_model *model, const peft_faults_opts *opts,
                         peft_faults *out)
{
    KIT_ARG(path && *path && model, "no file or model given");
    struct faults f = {.path = path, .model = model, .info = {.size = sizeof f.info}};
    struct host host;
    peft_faults found = {.size = sizeof found};
    int rc = take_options(&f.o, sizeof f.o, opts);
    if (!rc) rc = take_options(&f.source, sizeof f.source, f.o.source);
    if (!rc) rc = check_result(out);
    if (!rc) rc = host_init(&host, f.source.host);
    if (rc) return kit_end(rc);
    if (!f.o.folds) f.o.folds = 5;
    KIT_ARG(f.o.folds >= 2 && f.o.folds <= 100, "%d parts, expected 2 to 100", (int)f.o.folds);
    KIT_ARG(!f.o.rank || !strcmp(f.o.rank, "confidence") || !strcmp(f.o.rank, "margin"),
            "rank \"%s\", expected confidence or margin", f.o.rank);
    KIT_ARG(f.o.share >= 0 && f.o.share <= 1, "a share of %g, expected 0 to 1", f.o.share);
    KIT_ARG(f.o.tune >= 0 && f.o.tune <= 100, "%d epochs, expected 0 to 100", (int)f.o.tune);
    KIT_ARG(f.o.l2 >= 0 && f.o.l2 <= 100, "l2 %g, expected 0 to 100", f.o.l2);
    if (peft_model_info(model, &f.info)) return PEFT_EARG;
    KIT_ARG(!f.o.tune || (!f.info.image_height && !f.info.n_adapters && !f.info.labels),
            "tuning for labels takes a model of texts without a head or adapters");
    f.depths = f.info.image_height || f.info.embed_dim != f.info.dim ? 1 :
               MIN(f.info.layers, FAULT_DEPTHS);
    f.host = &host;
    rc = find_faults(&f, &found);
    if (!rc) give_result(out, &found, sizeof found);
    return kit_end(rc);
}
