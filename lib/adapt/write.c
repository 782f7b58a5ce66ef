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
    if (p == m->untied) return m->output;
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

/* The output layer that an adapted embedding is, which adapter_config.json does not
 * name, and rows of tokens, which it names elsewhere. */
static int is_unnamed(const struct model *m, const struct adapted *d)
{
    return (d->site == m->output && d->borrowed) || d->method != d->adapter->method;
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
        if (!is_first(a, i) || is_unnamed(m, d)) continue;
        if (rank ? d->rank == a->rank : d->alpha == a->alpha) continue;
        buf_puts(b, n++ ? ", " : "");
        buf_json(b, name, (int64_t)strlen(name));
        buf_puts(b, ": ");
        buf_number(b, rank ? d->rank * rank_factor(a) : d->alpha * alpha_factor(a));
    }
    buf_puts(b, "}");
}

/* AdaLoRA: which of the ranks at first are left, once some are not. */
static void put_masks(struct buf *b, const struct model *m, const struct adapter *a, int *members)
{
    int64_t gone = a->ranks.fixed;
    for (int64_t i = 0; i < a->n_sites; i++)
        for (int32_t k = 0; k < a->sites[i].rank; k++) gone += !a->sites[i].index[k];
    put_member(b, "rank_pattern", members);
    buf_puts(b, gone ? "{" : "null");
    for (int64_t i = 0; i < a->n_sites && gone; i++) {
        const struct adapted *d = &a->sites[i];
        buf_printf(b, "%s\"%s.lora_E\": [", i ? ", " : "",
                   model_file_name(m, written_name(m, a, d->site)));
        for (int32_t k = 0; k < a->rank; k++)
            buf_printf(b, "%s%s", k ? ", " : "", k < d->rank && d->index[k] ? "true" : "false");
        buf_puts(b, "]");
    }
    if (gone) buf_puts(b, "}");
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
    int tied = 0;
    if (!names) return PEFT_ENOMEM;
    for (int64_t i = 0; i < a->n_saved; i++) {
        if (is_kept_whole(m, a, a->saved[i].p)) continue;
        if (!(names[n++] = module_of(t, m, a, a->saved[i].p))) return PEFT_ENOMEM;
        tied |= adapter_is_shared(m, a->saved[i].p) && !a->saved[i].apart;
    }
    for (int64_t i = 0; i < a->n_sites; i++)
        tied |= is_unnamed(m, &a->sites[i]) && !a->sites[i].method->puts_rows;
    if (tied) {
        put_member(b, "ensure_weight_tying", members);
        buf_puts(b, "true");
    }
    put_member(b, "modules_to_save", members);
    if (n) put_list(b, names, n);
    else buf_puts(b, "null");
    if (a->method->virtual) return PEFT_OK;
    n = 0;
    for (int64_t i = 0; i < a->n_sites; i++)
        if (!a->sites[i].fused && !is_unnamed(m, &a->sites[i]))
            names[n++] = target_name(m, a, a->sites[i].site);
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
    const char *base = a->base ? a->base : base_name(m);
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
    tokens_write(m, a, b, &n);
    for (int k = 0; k < 2 && a->method->patterns == PATTERN_NUMBER; k++)
        put_pattern(b, m, a, k, &n);
    if (a->method->patterns == PATTERN_MASK) put_masks(b, m, a, &n);
    buf_printf(b, ",\n  \"revision\": null,\n  \"task_type\": %s%s%s\n}\n", quote,
               task ? task : "null", quote);
    return buf_check(b);
}

/* --- adapter_model.safetensors: tensors are written row by row, so that none is
 * held a second time. */

struct part_out {
    struct model *m;
    const struct adapted *d;        /* of fused experts and of shifted parts */
    int k;
    struct param p;
    const float *values;
};

/* n values, in the type of the tensor. */
static void put_numbers(const struct store_out *o, struct writer *w, const float *x, int64_t n)
{
    char packed[4096];
    if (o->type == &qtype_f32) writer_put(w, x, n * 4);
    for (int64_t i = 0; i < n && o->type != &qtype_f32; i += 1024) {
        int64_t some = MIN(n - i, 1024), bytes = 0;
        qtype_bytes(o->type, some, &bytes);
        o->type->from_f32(packed, x + i, some);
        writer_put(w, packed, bytes);
    }
}

/* The values as Hugging Face has them. */
static void put_values(const struct store_out *o, const float *values, int64_t rows,
                       struct writer *w)
{
    const struct part_out *s = o->arg;
    const struct param *p = &s->p;
    int bias = p->order && p->rows == 1;
    int64_t cols = bias ? 1 : p->cols;
    float part[256];
    for (int64_t i = 0; i < (bias ? p->cols : rows) && !p->turned && !p->plus; i++)
        put_numbers(o, w, values + param_row(s->m, p, i) * cols, cols);
    int64_t n = p->turned || p->plus ? p->rows * p->cols : 0, filled = 0;
    for (int64_t i = 0; i < n; i++) {
        part[filled++] = values[p->turned ? i % p->rows * p->cols + i / p->rows : i] -
            (p->plus ? 1.0f : 0.0f);
        if (filled < 256 && i + 1 < n) continue;
        put_numbers(o, w, part, filled);
        filled = 0;
    }
}

static int put_whole(const struct store_out *o, struct writer *w)
{
    const struct part_out *s = o->arg;
    put_values(o, s->values, s->p.rows, w);
    return PEFT_OK;
}

/* Part k and, along the rank after it, its initial values; of B negative. */
static int put_shifted(const struct store_out *o, struct writer *w)
{
    const struct part_out *s = o->arg;
    const struct param *p = &s->p;
    const float *start = s->d->part[s->k + START]->own;
    if (s->d->method->parts[s->k].rows == PART_RANK) {
        put_values(o, s->values, p->rows, w);
        put_values(o, start, p->rows, w);
        return PEFT_OK;
    }
    for (int64_t i = 0; i < p->rows; i++) {
        int64_t at = param_row(s->m, p, i) * p->cols;
        put_numbers(o, w, s->values + at, p->cols);
        for (int64_t j = 0; j < p->cols; j++) {
            float x = -start[at + j];
            put_numbers(o, w, &x, 1);
        }
    }
    return PEFT_OK;
}

/* Part k of a layer's experts. */
static int put_fused(const struct store_out *o, struct writer *w)
{
    const struct part_out *s = o->arg;
    int64_t n = o->dims[0] * o->dims[1];
    float *all = mem_array(&s->m->host.mem, n, 4);
    if (!all) return PEFT_ENOMEM;
    fused_move(s->m, s->d, s->k, all, 1);
    put_numbers(o, w, all, n);
    mem_free(&s->m->host.mem, all);
    return PEFT_OK;
}

/* A tensor of module `module`: p with `values`, called `suffix` there. */
static struct part_out *add_out(struct adapter_out *to, const char *module, const char *suffix,
                                const struct param *p, const float *values)
{
    const char *name = model_file_name(to->m, module);
    size_t n = sizeof(PREFIX) + strlen(name) + strlen(suffix) + 2;
    struct part_out *s = arena_alloc(&to->t, sizeof(*s));
    char *full = arena_alloc(&to->t, (int64_t)n);
    if (!s || !full) return NULL;
    snprintf(full, n, "%s%s%s%s", adapter_prefix(to->a), name, *suffix ? "." : "", suffix);
    *s = (struct part_out){ .m = to->m, .p = *p, .values = values };
    struct store_out *o = &to->out[to->n++];
    *o = (struct store_out){ .name = full, .type = &qtype_f32, .n_dims = p->n_dims,
                             .put = put_whole, .arg = s };
    o->dims[0] = p->n_dims == 1 || p->turned ? p->cols : p->rows;
    o->dims[1] = p->turned ? p->rows : p->cols;
    if (p->file_n_dims) {
        o->n_dims = p->file_n_dims;
        memcpy(o->dims, p->file_dims, sizeof(p->file_dims));
    }
    return s;
}

static int add_part_out(struct adapter_out *to, const struct adapted *d, int k)
{
    const struct part *part = &d->method->parts[k];
    char module[240];
    snprintf(module, sizeof(module), "%s", written_name(to->m, to->a, d->site));
    if (d->fused) fused_module(to->m, d, module, sizeof(module));
    struct part_out *s = add_out(to, module, part->suffix, d->part[k], d->part[k]->own);
    struct store_out *o = &to->out[to->n - 1];
    if (!s) return PEFT_ENOMEM;
    s->d = d;
    s->k = k;
    if (d->fused) {
        o->put = put_fused;
        o->dims[1] = fused_shape(to->m, d, k, &o->dims[0]);
    } else if (k + START < PARTS && (d->method->parts[k + START].flags & PART_START) &&
               d->part[k + START]) {
        o->put = put_shifted;
        o->dims[part->rows != PART_RANK] *= 2;
    }
    return PEFT_OK;
}

/* Part k without the ranks that are gone. */
static int add_masked_out(struct adapter_out *to, const struct adapted *d, int k)
{
    struct param left = *d->part[k];
    const struct part *part = &d->method->parts[k];
    int by_rows = part->rows == PART_RANK;
    int64_t n = 0, ranks = 0;
    float *values = arena_alloc(&to->t, param_len(&left) * 4);
    if (!values) return PEFT_ENOMEM;
    for (int64_t i = 0; i < param_len(&left); i++)
        if (d->index[by_rows ? i / left.cols : i % left.cols]) values[n++] = left.own[i];
    for (int32_t r = 0; r < d->rank; r++) ranks += d->index[r] != 0;
    if (by_rows) left.rows = ranks;
    else left.cols = ranks;
    const char *module = written_name(to->m, to->a, d->site);
    return add_out(to, module, part->suffix, &left, values) ? PEFT_OK : PEFT_ENOMEM;
}

/* A and B of an output layer are the embedding's, turned, and PEFT has both. */
static int add_twin_out(struct adapter_out *to, const struct adapted *d)
{
    struct param p[2];
    int n = 0;
    for (int k = 0; k < PARTS; k++)
        if (d->part[k] && d->borrowed >> k & 1) p[1 - n++] = *d->part[k];
    p[0].turned = 1;
    p[1].turned = 0;
    for (int k = 0; k < 2; k++)
        if (!add_out(to, d->site->peft_name, d->method->parts[k].suffix, &p[k], p[k].own))
            return PEFT_ENOMEM;
    return PEFT_OK;
}

static int add_site_outs(struct adapter_out *to, int64_t i)
{
    const struct adapted *d = &to->a->sites[i];
    int rc = PEFT_OK, twin = d->site == to->m->output && d->borrowed;
    if (!is_first(to->a, i)) return PEFT_OK;
    if (twin && !d->method->puts_rows) rc = add_twin_out(to, d);
    for (int k = 0; k < PARTS && !rc; k++)
        if (d->part[k] && !(d->method->parts[k].flags & PART_START) &&
            !(twin && d->borrowed >> k & 1))
            rc = d->method->patterns == PATTERN_MASK ? add_masked_out(to, d, k)
                                                     : add_part_out(to, d, k);
    return rc;
}

static int add_saved_outs(struct adapter_out *to, const struct saved_module *s)
{
    const struct site *of = site_of(to->m, s->p);
    const char *name = written_name(to->m, to->a, of), *ending = s->p->name + strlen(of->name);
    char suffix[160];
    int whole = is_kept_whole(to->m, to->a, s->p);
    snprintf(suffix, sizeof(suffix), "%s%s%s", whole ? to->a->method->keeps : "", whole ? "." : "",
             ending + (*ending == '.'));
    if (!add_out(to, name, suffix, s->p, s->mine)) return PEFT_ENOMEM;
    if (!adapter_is_shared(to->m, s->p) || s->apart) return PEFT_OK;
    return add_out(to, to->m->output->peft_name, suffix, s->p, s->mine) ? PEFT_OK : PEFT_ENOMEM;
}

static int add_common_out(struct adapter_out *to, const struct param *p)
{
    char name[64];
    int len = snprintf(name, sizeof(name), COMMON_PREFIX "%s", p->name);
    struct store_out *o = &to->out[to->n++];
    *o = (struct store_out){ .name = arena_strndup(&to->t, name, len), .type = &qtype_f32,
                             .n_dims = 2, .dims = { p->rows, p->cols }, .data = p->own };
    return o->name ? PEFT_OK : PEFT_ENOMEM;
}

static int collect_tensors(struct adapter_out *o)
{
    const struct adapter *a = o->a;
    int64_t most = a->n_sites * PARTS + 2 * a->n_saved + COMMON + 1;
    int rc = PEFT_OK, virtual = a->method->virtual;
    if (!(o->out = arena_alloc(&o->t, most * (int64_t)sizeof(*o->out)))) return PEFT_ENOMEM;
    if (virtual) rc = virtual_out(o->m, a->sites, &o->t, &o->out[o->n++]);
    for (int64_t i = 0; i < a->n_sites && !rc && !virtual; i++) rc = add_site_outs(o, i);
    for (int k = 0; k < COMMON && a->common[k] && !rc; k++) rc = add_common_out(o, a->common[k]);
    for (int64_t i = 0; i < a->n_saved && !rc; i++) rc = add_saved_outs(o, &a->saved[i]);
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
    if (!rc && o->format->card) rc = card_write(o->m, o->a, dir, tmp);
    mem_free(&h->mem, path);
    mem_free(&h->mem, tensors);
    if (rc) dir_abort(h, tmp);
    else rc = dir_commit(h, dir, tmp);
    return rc;
}

int adapter_save_peft(struct adapter_out *o, const char *dir)
{
    struct meta meta[] = { { "format", "pt" }, { "libpeft_base", NULL } };
    struct buf b, base;
    buf_init(&b, &o->m->host.mem);
    buf_init(&base, &o->m->host.mem);
    int rc = put_adapter_config(o->m, o->a, &b, &o->t);
    if (!rc) rc = collect_tensors(o);
    if (!rc) adapter_cast(o);
    if (!rc) rc = base_write(o->m, &base);
    meta[1].value = base.data;
    if (!rc) rc = adapter_put_folder(o, dir, &b, meta, 2);
    buf_free(&b);
    buf_free(&base);
    return rc;
}

static int put_cast(const struct store_out *o, struct writer *w)
{
    int64_t n = 1;
    for (int32_t k = 0; k < o->n_dims; k++) n *= o->dims[k];
    put_numbers(o, w, o->data, n);
    return PEFT_OK;
}

void adapter_cast(struct adapter_out *o)
{
    for (int64_t i = 0; i < o->n && o->type != &qtype_f32; i++) {
        o->out[i].type = o->type;
        if (!o->out[i].put) o->out[i].put = put_cast;
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
    if (!rc && a->born && card_weights(a) == a->born)
        host_log(&m->host, 1, "adapter \"%s\" is saved as it was made: none of its weights has "
                 "changed", a->name);
    return rc;
}
