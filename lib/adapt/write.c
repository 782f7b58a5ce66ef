/* Writing adapters as Hugging Face PEFT reads them; see io.c. */
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
 * only, so that PEFT adapts the same ones. */
static const char *target_name(const struct model *m, const struct adapter *a,
                               const struct site *site)
{
    const char *name = written_name(m, a, site);
    for (const char *s = name + strlen(name); s > name; s--) {
        if (s[-1] != '.') continue;
        int ok = 1;
        for (int64_t i = 0; i < m->n_sites && ok; i++) {
            const struct site *t = m->sites[i];
            if (t->kind != SITE_LINEAR || !adapter_has_ending(written_name(m, a, t), s)) continue;
            ok = 0;
            for (const struct adapted *d = t->first; d && !ok; d = d->next) ok = d->adapter == a;
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

static void put_pattern(struct buf *b, const struct model *m, const struct adapter *a, int rank)
{
    int n = 0;
    buf_printf(b, "  \"%s\": {", rank ? "rank_pattern" : "alpha_pattern");
    for (int64_t i = 0; i < a->n_sites; i++) {
        const struct adapted *d = &a->sites[i];
        char full[200];
        const char *name = config_name(m, a, i, full, sizeof(full));
        if (!is_first(a, i)) continue;
        if (rank ? d->rank == a->rank : d->alpha == a->alpha) continue;
        buf_puts(b, n++ ? ", " : "");
        buf_json(b, name, (int64_t)strlen(name));
        buf_puts(b, ": ");
        buf_number(b, rank ? d->rank : d->alpha);
    }
    buf_puts(b, "},\n");
}

static int put_adapter_config(struct model *m, const struct adapter *a, struct buf *b,
                              struct arena *t)
{
    const char **names = arena_alloc(t, (a->n_sites + a->n_saved + 1) * (int64_t)sizeof(*names));
    if (!names) return PEFT_ENOMEM;
    const char *base = a->base ? a->base : store_format(m->store) == STORE_GGUF ? m->name : m->path;
    buf_puts(b, "{\n");
    put_pattern(b, m, a, 0);
    buf_puts(b, "  \"base_model_name_or_path\": ");
    buf_json(b, base, (int64_t)strlen(base));
    int turned = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < a->n_sites; i++) turned |= a->sites[i].site->w->turned;
    buf_printf(b,
               ",\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": %s,\n  \"inference_mode\": true,\n"
               "  \"init_lora_weights\": true,\n", turned ? "true" : "false");
    if (m->head && a->n_saved) {
        buf_puts(b, "  \"libpeft_labels\": [");
        for (int64_t i = 0; i < m->hp.labels; i++) {
            buf_puts(b, i ? ", " : "");
            buf_json(b, m->labels[i], (int64_t)strlen(m->labels[i]));
        }
        buf_printf(b, "],\n  \"libpeft_head\": \"%s\",\n  \"libpeft_pool\": \"%s\",\n",
                   head_kinds[m->kind].name, pool_names[m->pool_kind]);
    }
    buf_puts(b, "  \"lora_alpha\": ");
    buf_number(b, a->alpha);
    buf_printf(b, ",\n  \"lora_bias\": %s,\n  \"lora_dropout\": ", a->bias ? "true" : "false");
    buf_number(b, a->dropout);
    for (int64_t i = 0; i < a->n_saved; i++)
        if (adapter_is_shared(m, a->saved[i].p)) buf_puts(b, ",\n  \"ensure_weight_tying\": true");
    buf_puts(b, ",\n  \"modules_to_save\": ");
    for (int64_t i = 0; i < a->n_saved; i++)
        if (!(names[i] = module_of(t, m, a, a->saved[i].p))) return PEFT_ENOMEM;
    if (a->n_saved) put_list(b, names, a->n_saved);
    else buf_puts(b, "null");
    buf_printf(b, ",\n  \"peft_type\": \"%s\",\n  \"peft_version\": \"0.21.2\",\n  \"r\": %d,\n",
               a->method->peft_type, a->rank);
    put_pattern(b, m, a, 1);
    buf_puts(b, "  \"revision\": null,\n  \"target_modules\": ");
    for (int64_t i = 0; i < a->n_sites; i++)
        if (!a->sites[i].fused) names[n++] = target_name(m, a, a->sites[i].site);
    put_list(b, names, n);
    if (has_fused(a) && put_parameters(m, a, b, t)) return PEFT_ENOMEM;
    /* PEFT's tasks are of text: the others pass pixels on as they are. */
    const char *task = m->vision          ? NULL
                       : m->hp.enc_layers ? "SEQ_2_SEQ_LM"
                                          : head_kinds[m->kind].task_type;
    const char *quote = task ? "\"" : "";
    buf_printf(b, ",\n  \"task_type\": %s%s%s,\n  \"use_dora\": false,\n  \"use_rslora\": %s\n}\n",
               quote, task ? task : "null", quote, a->rslora ? "true" : "false");
    return buf_check(b);
}

/* One tensor, its values as Hugging Face has them. */
static int add_out(struct model *m, const char *module, struct arena *t, struct store_out *o,
                   const struct param *p, const struct site *s, const float *values)
{
    const char *name = model_file_name(m, module), *ending = p->name + strlen(s->name);
    size_t n = sizeof(PREFIX) + strlen(name) + strlen(ending);
    char *full = arena_alloc(t, (int64_t)n);
    float *data = arena_alloc(t, param_len(p) * 4);
    struct param now = *p;
    if (!full || !data) return PEFT_ENOMEM;
    snprintf(full, n, PREFIX "%s%s", name, ending);
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

static int put_files(struct model *m, const struct adapter *a, const char *dir, struct buf *b,
                     struct arena *t)
{
    static const struct meta meta = { "format", "pt" };
    struct store_out *out =
        arena_alloc(t, (a->n_sites * PARTS + a->n_saved + 1) * (int64_t)sizeof(*out));
    int64_t n = 0;
    char *path;
    int rc = out ? put_adapter_config(m, a, b, t) : PEFT_ENOMEM;
    for (int64_t i = 0; i < a->n_sites && !rc; i++)
        for (int k = 0; k < PARTS && !rc; k++) {
            const struct adapted *d = &a->sites[i];
            const struct param *p = is_first(a, i) ? d->part[k] : NULL;
            if (p && d->fused) rc = add_fused_out(m, t, &out[n++], d, k);
            else if (p)
                rc = add_out(m, written_name(m, a, d->site), t, &out[n++], p, d->site, p->own);
        }
    for (int64_t i = 0; i < a->n_saved && !rc; i++) {
        const struct saved_module *s = &a->saved[i];
        const struct site *of = site_of(m, s->p);
        rc = add_out(m, written_name(m, a, of), t, &out[n++], s->p, of, s->mine);
        if (rc || !adapter_is_shared(m, s->p)) continue;
        const struct slot_row *twin = slot_find(m->arch, SLOT_LM_HEAD);
        rc = add_out(m, twin->hf, t, &out[n++], s->p, of, s->mine);
    }
    if (rc || (rc = path_join(&m->host, dir, "adapter_config.json", &path))) return rc;
    rc = file_write(&m->host, path, b->data, b->n);
    mem_free(&m->host.mem, path);
    if (rc || (rc = path_join(&m->host, dir, "adapter_model.safetensors", &path))) return rc;
    rc = safetensors_write(&m->host, path, out, n, &meta, 1);
    mem_free(&m->host.mem, path);
    return rc;
}

int adapter_save(struct model *m, const struct adapter *a, const char *dir)
{
    struct buf b;
    struct arena t;
    char *tmp;
    int rc = dir_begin(&m->host, dir, &tmp);
    if (rc) return rc;
    buf_init(&b, &m->host.mem);
    arena_init(&t, &m->host.mem);
    rc = put_files(m, a, tmp, &b, &t);
    if (rc) dir_abort(&m->host, tmp);
    else rc = dir_commit(&m->host, dir, tmp);
    buf_free(&b);
    arena_free(&t);
    return rc;
}
