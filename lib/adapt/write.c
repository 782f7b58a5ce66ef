/* Writing adapters as Hugging Face PEFT reads them; see io.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "adapt/io.h"

/* --- names */

int adapter_is_shared(const struct model *m, const struct param *p)
{
    return !m->head && m->arch->style.causal && !m->global[SLOT_LM_HEAD] &&
        p == m->global[SLOT_EMBED]->w;
}

const char *adapter_tied_name(const struct model *m, char *to, size_t cap)
{
    const struct slot_row *row = slot_find(m->arch, SLOT_LM_HEAD);
    snprintf(to, cap, "%s.weight", row ? row->hf : "");
    return to;
}

/* Whether the experts are one parameter in the adapter's file. */
static int has_fused(const struct adapter *a)
{
    for (int64_t i = 0; i < a->n_sites; i++)
        if (a->sites[i].fused) return 1;
    return 0;
}

/* A module's name in the adapter's files: transformers' in memory.  Experts that
 * are modules of their own are of transformers before 5, whose names in memory
 * were those of files. */
static const char *written_name(const struct model *m, const struct adapter *a,
                                const struct site *s)
{
    return m->arch->style.fused && !has_fused(a) ? s->name : s->peft_name;
}

static const struct site *site_of(const struct model *m, const struct param *p)
{
    int64_t i = 0;
    while (m->sites[i]->w != p && m->sites[i]->b != p) i++;
    return m->sites[i];
}

/* --- adapter_config.json */

/* The shortest dotted ending of a module's name that names adapted modules
 * only, at their inputs or not as this one, so that PEFT adapts the same ones. */
static const char *target_name(const struct model *m, const struct adapter *a,
                               const struct site *site)
{
    const char *name = written_name(m, a, site);
    const struct adapted *mine = adapted_at(a, site), *d;
    for (const char *s = name + strlen(name); s > name; s--) {
        if (s[-1] != '.') continue;
        int ok = 1;
        for (int64_t i = 0; i < m->n_sites && ok; i++) {
            const struct site *t = m->sites[i];
            if (!(t->kind & a->method->at) || !adapter_has_ending(written_name(m, a, t), s))
                continue;
            ok = mine && (d = adapted_at(a, t)) && d->at_input == mine->at_input;
            for (int64_t j = 0; a->method->keeps && j < a->n_saved && !ok; j++)
                ok = a->saved[j].p == t->w;
        }
        if (ok) return s;
    }
    return model_file_name(m, name);
}

static int compare_names(const void *x, const void *y)
{
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

static void put_list(struct buf *b, const char **names, int64_t n)
{
    const char *last = "";
    qsort(names, (size_t)n, sizeof(*names), compare_names);
    buf_puts(b, "[");
    for (int64_t i = 0; i < n; i++) {
        if (!strcmp(names[i], last)) continue;
        buf_puts(b, *last ? ", " : "");
        buf_json(b, names[i], (int64_t)strlen(names[i]));
        last = names[i];
    }
    buf_puts(b, "]");
}

/* The adapted modules that have tensors of their own: of fused ones the first. */
static int is_first(const struct adapter *a, int64_t i)
{
    const struct adapted *d = &a->sites[i], *last = i ? d - 1 : NULL;
    return !d->fused || !last || last->fused != d->fused || last->site->layer != d->site->layer;
}

/* The name of a's i-th module or parameter in adapter_config.json. */
static const char *config_name(const struct model *m, const struct adapter *a, int64_t i, char *to,
                               size_t cap)
{
    const struct adapted *d = &a->sites[i];
    if (!d->fused) return model_file_name(m, written_name(m, a, d->site));
    fused_name(m->arch->style.fused + d->fused - 1, d->site->layer, to, cap);
    return to;
}

static int put_parameters(struct model *m, const struct adapter *a, struct buf *b, struct arena *t)
{
    const char **names = arena_alloc(t, a->n_sites * (int64_t)sizeof(*names));
    int64_t n = 0;
    char name[200];
    if (!names) return PEFT_ENOMEM;
    for (int64_t i = 0; i < a->n_sites; i++) {
        if (!a->sites[i].fused || !is_first(a, i)) continue;
        config_name(m, a, i, name, sizeof(name));
        if (!(names[n++] = arena_strndup(t, name, (int64_t)strlen(name)))) return PEFT_ENOMEM;
    }
    buf_puts(b, ",\n  \"target_parameters\": ");
    put_list(b, names, n);
    return PEFT_OK;
}

/* Module of a parameter: its name without ".weight" or ".bias"; of the parts of
 * a head the module that holds them, as PEFT keeps it whole. */
static char *module_of(struct arena *t, const struct model *m, const struct adapter *a,
                       const struct param *p)
{
    const struct site *s = site_of(m, p);
    const char *name = model_file_name(m, written_name(m, a, s)), *dot = NULL;
    if (s->flags & SLOT_OF_HEAD) dot = strchr(name, '.');
    return arena_strndup(t, name, dot ? dot - name : (int64_t)strlen(name));
}

/* Whether it is the method that keeps the parameter whole. */
static int is_kept_whole(const struct model *m, const struct adapter *a, const struct param *p)
{
    for (int64_t i = 0; i < m->n_sites && a->method->keeps; i++)
        if ((m->sites[i]->w == p || m->sites[i]->b == p) && (m->sites[i]->kind & a->method->at))
            return 1;
    return 0;
}

/* A difference to initial values has twice the rank; alpha keeps the scale. */
static int rank_factor(const struct adapter *a) { return a->shifts ? 2 : 1; }
static double alpha_factor(const struct adapter *a)
{
    return !a->shifts ? 1 : a->rslora ? sqrt(2) : 2;
}

static void put_pattern(struct buf *b, const struct model *m, const struct adapter *a, int rank,
                        int *members)
{
    int n = 0;
    put_member(b, rank ? "rank_pattern" : "alpha_pattern", members);
    buf_puts(b, "{");
    for (int64_t i = 0; i < a->n_sites; i++) {
        const struct adapted *d = &a->sites[i];
        char full[200];
        const char *name = config_name(m, a, i, full, sizeof(full));
        if (!is_first(a, i)) continue;
        if (rank ? d->rank == a->rank : d->alpha == a->alpha) continue;
        buf_puts(b, n++ ? ", " : "");
        buf_json(b, name, (int64_t)strlen(name));
        buf_puts(b, ": ");
        buf_number(b, rank ? d->rank * rank_factor(a) : d->alpha * alpha_factor(a));
    }
    buf_puts(b, "}");
}

static void put_head_labels(const struct model *m, struct buf *b, int *members)
{
    put_member(b, "libpeft_labels", members);
    for (int64_t i = 0; i < m->hp.labels; i++) {
        buf_puts(b, i ? ", " : "[");
        buf_json(b, m->labels[i], (int64_t)strlen(m->labels[i]));
    }
    buf_puts(b, "]");
    put_member(b, "libpeft_pool", members);
    buf_printf(b, "\"%s\"", pool_names[m->pool_kind]);
    put_member(b, "libpeft_head", members);
    buf_printf(b, "\"%s\"", head_kinds[m->kind].name);
}

/* modules_to_save and target_modules.  What a method keeps whole by itself is
 * of the latter. */
static int put_modules(struct model *m, const struct adapter *a, struct buf *b, struct arena *t,
                       int *members)
{
    const char **names = arena_alloc(t, (a->n_sites + a->n_saved + 1) * (int64_t)sizeof(*names));
    int64_t n = 0;
    if (!names) return PEFT_ENOMEM;
    for (int64_t i = 0; i < a->n_saved; i++) {
        if (is_kept_whole(m, a, a->saved[i].p)) continue;
        if (!(names[n++] = module_of(t, m, a, a->saved[i].p))) return PEFT_ENOMEM;
        if (!adapter_is_shared(m, a->saved[i].p)) continue;
        put_member(b, "ensure_weight_tying", members);
        buf_puts(b, "true");
    }
    put_member(b, "modules_to_save", members);
    if (n) put_list(b, names, n);
    else buf_puts(b, "null");
    if (a->method->virtual) return PEFT_OK;
    n = 0;
    for (int64_t i = 0; i < a->n_sites; i++)
        if (!a->sites[i].fused) names[n++] = target_name(m, a, a->sites[i].site);
    for (int64_t i = 0; i < m->n_sites && a->method->keeps; i++)
        for (int64_t j = 0; j < a->n_saved; j++)
            if (a->saved[j].p == m->sites[i]->w && is_kept_whole(m, a, a->saved[j].p))
                names[n++] = target_name(m, a, m->sites[i]);
    put_member(b, "target_modules", members);
    put_list(b, names, n);
    return PEFT_OK;
}

/* The list of the modules that are adapted at their inputs: names that target_modules
 * has too, as PEFT demands. */
static int input_names(struct model *m, const struct adapter *a, struct arena *t,
                       const char **out)
{
    struct buf b;
    buf_init(&b, &m->host.mem);
    for (int64_t i = 0; i < a->n_sites; i++) {
        const struct adapted *d = &a->sites[i];
        const char *name = d->at_input ? target_name(m, a, d->site) : NULL;
        if (!name || (b.n && adapter_targets(b.data, name))) continue;
        buf_printf(&b, "%s%s", b.n ? "," : "", name);
    }
    int rc = buf_check(&b);
    if (!rc && b.n && !(*out = arena_strndup(t, b.data, b.n))) rc = PEFT_ENOMEM;
    buf_free(&b);
    return rc;
}

static int put_adapter_config(struct model *m, const struct adapter *a, struct buf *b,
                              struct arena *t)
{
    const char *base = a->base ? a->base : store_format(m->store) == STORE_GGUF ? m->name : m->path;
    /* PEFT's tasks are of text: the others pass pixels on as they are. */
    const char *task = m->vision          ? NULL
                       : m->hp.enc_layers ? "SEQ_2_SEQ_LM"
                                          : head_kinds[m->kind].task_type;
    const char *quote = task ? "\"" : "";
    int n = 0;
    put_member(b, "base_model_name_or_path", &n);
    buf_json(b, base, (int64_t)strlen(base));
    buf_puts(b, ",\n  \"inference_mode\": true");
    if (m->head && a->n_saved) put_head_labels(m, b, &n);
    if (put_modules(m, a, b, t, &n)) return PEFT_ENOMEM;
    if (has_fused(a) && put_parameters(m, a, b, t)) return PEFT_ENOMEM;
    buf_printf(b, ",\n  \"peft_type\": \"%s\",\n  \"peft_version\": \"0.21.2\"",
               a->method->peft_type);
    if (a->method->mark) buf_printf(b, ",\n  \"%s\": true", a->method->mark);
    if (a->method->config) buf_printf(b, ",\n  %s", a->method->config);
    struct adapter whole = *a;
    whole.rank *= rank_factor(a);
    whole.alpha = (float)(whole.alpha * alpha_factor(a));
    int rc = input_names(m, a, t, &whole.names);
    if (rc) return rc;
    settings_write(&whole, b, &n);
    for (int k = 0; k < 2 && a->method->patterns; k++) put_pattern(b, m, a, k, &n);
    buf_printf(b, ",\n  \"revision\": null,\n  \"task_type\": %s%s%s\n}\n", quote,
               task ? task : "null", quote);
    return buf_check(b);
}

/* One tensor, its values as Hugging Face has them; `infix` comes between the
 * module's name and the ending, "" = nothing. */
static int add_out(struct model *m, const struct adapter *a, const char *module,
                   const char *infix, struct arena *t, struct store_out *o, const struct param *p,
                   const struct site *s, const float *values)
{
    const char *name = model_file_name(m, module), *ending = p->name + strlen(s->name);
    size_t n = sizeof(PREFIX) + strlen(name) + strlen(ending) + strlen(infix) + 1;
    char *full = arena_alloc(t, (int64_t)n);
    float *data = arena_alloc(t, param_len(p) * 4);
    struct param now = *p;
    if (!full || !data) return PEFT_ENOMEM;
    snprintf(full, n, "%s%s%s%s%s", adapter_prefix(a), name, *infix ? "." : "", infix, ending);
    now.data = values;
    now.type = &qtype_f32;
    param_read(m, &now, data);
    *o = (struct store_out){ .name = full, .type = &qtype_f32, .n_dims = p->n_dims, .data = data };
    o->dims[0] = p->n_dims == 1 || p->turned ? p->cols : p->rows;
    o->dims[1] = p->turned ? p->rows : p->cols;
    if (p->file_n_dims) {
        o->n_dims = p->file_n_dims;
        memcpy(o->dims, p->file_dims, sizeof(p->file_dims));
    }
    return PEFT_OK;
}

/* Part k and, along the rank after it, its initial values; of B negative. */
static int add_shifted_out(struct model *m, const struct adapter *a, struct arena *t,
                           struct store_out *o, const struct adapted *d, int k)
{
    struct param both = *d->part[k];
    const float *now = d->part[k]->own, *start = d->part[k + START]->own;
    int by_rows = a->method->parts[k].rows == PART_RANK;
    int64_t n = param_len(&both), cols = both.cols, r = d->rank;
    float *values = arena_alloc(t, 2 * n * 4);
    if (!values) return PEFT_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = by_rows ? i : i / cols * 2 * cols + i % cols;
        values[at] = now[i];
        values[at + (by_rows ? n : r)] = by_rows ? start[i] : -start[i];
    }
    if (by_rows) both.rows *= 2;
    else both.cols *= 2;
    return add_out(m, a, written_name(m, a, d->site), "", t, o, &both, d->site, values);
}

/* Part k of a layer's experts. */
static int add_fused_out(struct model *m, struct arena *t, struct store_out *o,
                         const struct adapted *d, int k)
{
    char module[240], name[300];
    int64_t rows, cols = fused_shape(m, d, k, &rows);
    float *data = arena_alloc(t, rows * cols * 4);
    fused_module(m, d, module, sizeof(module));
    int n = snprintf(name, sizeof(name), PREFIX "%s.%s", module,
                     d->adapter->method->parts[k].suffix);
    char *full = arena_strndup(t, name, n);
    if (!full || !data) return PEFT_ENOMEM;
    fused_move(m, d, k, data, 1);
    *o = (struct store_out){ .name = full, .type = &qtype_f32, .n_dims = 2, .dims = { rows, cols },
                             .data = data };
    return PEFT_OK;
}

static int collect_tensors(struct adapter_out *all)
{
    struct model *m = all->m;
    const struct adapter *a = all->a;
    struct arena *t = &all->t;
    struct store_out *out =
        arena_alloc(t, (a->n_sites * PARTS + 2 * a->n_saved + COMMON + 1) * (int64_t)sizeof(*out));
    int64_t n = 0;
    int rc = out ? PEFT_OK : PEFT_ENOMEM;
    if (!rc && a->method->virtual) rc = virtual_out(m, a->sites, t, &out[n++]);
    for (int64_t i = 0; i < a->n_sites && !rc && !a->method->virtual; i++)
        for (int k = 0; k < PARTS && !rc; k++) {
            const struct adapted *d = &a->sites[i];
            const struct param *p = is_first(a, i) ? d->part[k] : NULL;
            const struct site *of = d->site;
            if (p && (a->method->parts[k].flags & PART_START)) continue;
            if (p && a->shifts && k + START < PARTS && d->part[k + START])
                rc = add_shifted_out(m, a, t, &out[n++], d, k);
            else if (p && d->fused) rc = add_fused_out(m, t, &out[n++], d, k);
            else if (p) rc = add_out(m, a, written_name(m, a, of), "", t, &out[n++], p, of, p->own);
        }
    for (int k = 0; k < COMMON && a->common[k] && !rc; k++) {
        const struct param *p = a->common[k];
        char name[64];
        int len = snprintf(name, sizeof(name), COMMON_PREFIX "%s", p->name);
        out[n] = (struct store_out){ .name = arena_strndup(t, name, len), .type = &qtype_f32,
                                     .n_dims = 2, .dims = { p->rows, p->cols }, .data = p->own };
        rc = out[n++].name ? PEFT_OK : PEFT_ENOMEM;
    }
    for (int64_t i = 0; i < a->n_saved && !rc; i++) {
        const struct saved_module *s = &a->saved[i];
        const struct site *of = site_of(m, s->p);
        const char *infix = is_kept_whole(m, a, s->p) ? a->method->keeps : "";
        rc = add_out(m, a, written_name(m, a, of), infix, t, &out[n++], s->p, of, s->mine);
        if (rc || !adapter_is_shared(m, s->p)) continue;
        const struct slot_row *twin = slot_find(m->arch, SLOT_LM_HEAD);
        rc = add_out(m, a, twin->hf, "", t, &out[n++], s->p, of, s->mine);
    }
    all->out = out;
    all->n = n;
    return rc;
}

int adapter_put_folder(struct adapter_out *o, const char *dir, const struct buf *config,
                       const struct meta *meta, int n_meta)
{
    struct host *h = &o->m->host;
    char *tmp, *path = NULL, *tensors = NULL;
    int rc = dir_begin(h, dir, &tmp);
    if (rc) return rc;
    rc = path_join(h, tmp, "adapter_config.json", &path);
    if (!rc) rc = file_write(h, path, config->data, config->n);
    if (!rc) rc = path_join(h, tmp, o->format->tensors, &tensors);
    if (!rc) rc = safetensors_write(h, tensors, o->out, o->n, meta, n_meta);
    mem_free(&h->mem, path);
    mem_free(&h->mem, tensors);
    if (rc) dir_abort(h, tmp);
    else rc = dir_commit(h, dir, tmp);
    return rc;
}

int adapter_save_peft(struct adapter_out *o, const char *dir)
{
    static const struct meta meta = { "format", "pt" };
    struct buf b;
    buf_init(&b, &o->m->host.mem);
    int rc = put_adapter_config(o->m, o->a, &b, &o->t);
    if (!rc) rc = collect_tensors(o);
    if (!rc) adapter_cast(o);
    if (!rc) rc = adapter_put_folder(o, dir, &b, &meta, 1);
    buf_free(&b);
    return rc;
}

static int put_cast(const struct store_out *o, struct writer *w)
{
    const float *values = o->data;
    char packed[4096];
    int64_t count = 1;
    for (int32_t k = 0; k < o->n_dims; k++) count *= o->dims[k];
    for (int64_t i = 0; i < count; i += 1024) {
        int64_t n = MIN(count - i, 1024), bytes = 0;
        qtype_bytes(o->type, n, &bytes);
        o->type->from_f32(packed, values + i, n);
        writer_put(w, packed, bytes);
    }
    return PEFT_OK;
}

void adapter_cast(struct adapter_out *o)
{
    for (int64_t i = 0; i < o->n && o->type != &qtype_f32; i++) {
        o->out[i].type = o->type;
        o->out[i].put = put_cast;
    }
}

static const struct adapter_format *const adapter_formats[] = {
    &format_peft, &format_gguf, &format_mlx
};

int adapter_save(struct model *m, const struct adapter *a, const char *path,
                 const peft_adapter_save_opts *opts)
{
    static const struct { const char *name; const struct qtype *type; } types[] = {
        { "f32", &qtype_f32 }, { "f16", &qtype_f16 }, { "bf16", &qtype_bf16 }
    };
    size_t n = strlen(path);
    struct adapter_out o = { .m = m, .a = a, .type = &qtype_f32, .format = &format_peft };
    if (n > 5 && !strcmp(path + n - 5, ".gguf")) o.format = &format_gguf;
    if (opts->format) o.format = NULL;
    for (size_t i = 0; i < ARRAY_LEN(adapter_formats) && opts->format; i++)
        if (!strcmp(opts->format, adapter_formats[i]->name)) o.format = adapter_formats[i];
    if (!o.format)
        return fail(PEFT_EARG, "adapter format \"%s\", expected peft, gguf or mlx", opts->format);
    for (size_t i = 0; opts->dtype && i < ARRAY_LEN(types); i++) {
        o.type = !strcmp(opts->dtype, types[i].name) ? types[i].type : NULL;
        if (o.type) break;
    }
    if (!o.type)
        return fail(PEFT_EARG, "type \"%s\" of an adapter, expected f32, f16 or bf16",
                    opts->dtype);
    arena_init(&o.t, &m->host.mem);
    int rc = o.format->save(&o, path);
    arena_free(&o.t);
    return rc;
}
