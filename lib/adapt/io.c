/* Adapter files as Hugging Face PEFT writes and reads them: adapter_config.json
 * and adapter_model.safetensors, whose tensors are called
 * base_model.model.<module>.<part>.  Generic over the methods' parts. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "adapt/adapt.h"

#define PREFIX "base_model.model."

/* Embeddings that give the logits too.  PEFT's copy of a module leaves the
 * other use as it was, unless ensure_weight_tying says that both change; then
 * the file holds it under both names. */
static int is_shared(const struct model *m, const struct param *p)
{
    return !m->head && m->arch->style.causal && !m->global[SLOT_LM_HEAD] &&
        p == m->global[SLOT_EMBED]->w;
}

static const char *tied_name(const struct model *m, char *to, size_t cap)
{
    const struct slot_row *row = slot_find(m->arch, SLOT_LM_HEAD);
    snprintf(to, cap, "%s.weight", row ? row->hf : "");
    return to;
}

/* --- reading */

struct load {
    struct model *m;
    struct adapter *a;
    struct store *st;
    const json *config;
    int fan_in_fan_out;             /* the base's weights are [in, out], as GPT-2's */
    struct map sites;               /* module name -> index in m->sites */
    int64_t *at;                    /* site -> 1 + index in a->sites, or 0 */
};

/* Settings that change the arithmetic and that we do not have. */
static int refuse_unknown(const json *c)
{
    static const char *const must_be_off[] = {
        "use_dora", "use_qalora", "use_bdlora", "trainable_token_indices", "layer_replication",
        "target_parameters", "alora_invocation_tokens", "kasa_config",
        "velora_config", "arrow_config", "monteclora_config"
    };
    for (size_t i = 0; i < ARRAY_LEN(must_be_off); i++) {
        const json *j = json_get(c, must_be_off[i]);
        int off = json_kind(j) == JSON_BOOL ? !json_bool(j, 0)
                                            : json_kind(j) == JSON_ARRAY && !json_count(j);
        if (j && json_kind(j) != JSON_NULL && !off)
            return fail(PEFT_EUNSUPPORTED, "adapter_config.json uses %s, which is not supported",
                        must_be_off[i]);
    }
    const char *init = json_string(json_get(c, "init_lora_weights"));
    if (init && (!strncmp(init, "pissa", 5) || !strcmp(init, "olora")))
        return fail(PEFT_EUNSUPPORTED,
                    "the adapter was made with init_lora_weights \"%s\", which changed its base; "
                    "save it in PEFT with path_initial_model_for_weight_conversion",
                    init);
    return PEFT_OK;
}

/* The kinds of the settings that are read; null counts as absent. */
static int check_kinds(const json *c)
{
    static const struct { const char *key; enum json_kind kind; } keys[] = {
        { "lora_alpha", JSON_NUMBER }, { "lora_dropout", JSON_NUMBER }, { "use_rslora", JSON_BOOL },
        { "lora_bias", JSON_BOOL }, { "rank_pattern", JSON_OBJECT },
        { "alpha_pattern", JSON_OBJECT }
    };
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const json *j = json_get(c, keys[i].key), *k;
        if (json_kind(j) == JSON_NULL) continue;
        int ok = json_kind(j) == keys[i].kind;
        for (k = json_first(j); k; k = json_next(k)) ok = ok && json_kind(k) == JSON_NUMBER;
        if (!ok)
            return fail(PEFT_EFORMAT, "adapter_config.json: %s has the wrong kind of value",
                        keys[i].key);
    }
    return PEFT_OK;
}

static int read_config(struct load *l, const char *name, const char *dir, json **root)
{
    struct file_view v;
    char *path;
    int64_t r = 0;
    int rc = path_join(&l->m->host, dir, "adapter_config.json", &path);
    if (rc) return rc;
    rc = file_open_view(&l->m->host, path, false, &v);
    mem_free(&l->m->host.mem, path);
    if (rc) return rc;
    rc = json_parse((const char *)v.data, v.n, "adapter_config.json", root);
    file_close_view(&l->m->host, &v);
    if (rc) return rc;
    const json *c = l->config = *root;
    const char *type = json_string(json_get(c, "peft_type"));
    const struct method *method = type ? method_by_name(type) : NULL;
    if (!method)
        return fail(PEFT_EUNSUPPORTED, "adapter_config.json: peft_type \"%s\", expected LORA",
                    type ? type : "(none)");
    if ((rc = refuse_unknown(c)) || (rc = check_kinds(c))) return rc;
    if ((rc = json_int(c, "r", 1, 1 << 16, &r)) < 0) return rc;
    if ((rc = adapter_new(l->m, name, method, &l->a))) return rc;
    struct adapter *a = l->a;
    a->rank = r ? (int32_t)r : 8;                     /* PEFT's defaults */
    a->alpha = (float)json_number(json_get(c, "lora_alpha"), 8);
    a->dropout = (float)json_number(json_get(c, "lora_dropout"), 0);
    a->rslora = (uint8_t)json_bool(json_get(c, "use_rslora"), 0);
    a->bias = (uint8_t)json_bool(json_get(c, "lora_bias"), 0);
    l->fan_in_fan_out = json_bool(json_get(c, "fan_in_fan_out"), 0);
    if (!(a->dropout >= 0 && a->dropout < 1) || !isfinite(a->alpha))
        return fail(PEFT_EFORMAT, "adapter_config.json: lora_dropout %g, lora_alpha %g",
                    (double)a->dropout, (double)a->alpha);
    const char *base = json_string(json_get(c, "base_model_name_or_path"));
    if (base && !(a->base = arena_strndup(&l->m->arena, base, (int64_t)strlen(base))))
        return PEFT_ENOMEM;
    return PEFT_OK;
}

/* rank_pattern and alpha_pattern: the key is a module's name or its ending. */
static double pattern(const json *config, const char *key, const char *module, double absent)
{
    size_t n = strlen(module);
    for (const json *j = json_first(json_get(config, key)); j; j = json_next(j)) {
        const char *k = json_key(j);
        k += *k == '^';
        size_t len = strlen(k);
        if (len <= n && !strcmp(module + n - len, k) && (len == n || module[n - len - 1] == '.'))
            return json_number(j, absent);
    }
    return absent;
}

/* The module of a tensor's name whose ending after it is a part of the method:
 * 1 = found. */
static int split_name(struct load *l, const char *name, int64_t *site, int *part)
{
    char full[240];
    size_t n = strlen(name);
    for (int k = 0; k < PARTS; k++) {
        const char *suffix = l->a->method->parts[k].suffix;
        size_t s = suffix ? strlen(suffix) : 0;
        if (!s || n <= s + 1 || name[n - s - 1] != '.' || strcmp(name + n - s, suffix)) continue;
        *part = k;
        *site = map_get(&l->sites, name, (int64_t)(n - s - 1), -1);
        if (*site < 0 && l->m->arch->prefix) {        /* made for the bare body */
            int len =
                snprintf(full, sizeof(full), "%s%.*s", l->m->arch->prefix, (int)(n - s - 1), name);
            *site = map_get(&l->sites, full, MIN(len, (int)sizeof(full) - 1), -1);
        }
        return *site >= 0;
    }
    return 0;
}

static int check_finite(const struct store_tensor *t, const float *x)
{
    for (int64_t i = 0; i < t->count; i++)
        if (!isfinite(x[i]))
            return fail(PEFT_EFORMAT, "tensor %s holds values that are not finite", t->name);
    return PEFT_OK;
}

static int load_part(struct load *l, const struct store_tensor *t, int64_t site, int part)
{
    struct site *s = l->m->sites[site];
    if (!(s->kind & l->a->method->at))
        return fail(PEFT_EUNSUPPORTED, "tensor %s: method %s does not adapt this kind of module",
                    t->name, l->a->method->name);
    if (l->fan_in_fan_out && !s->w->turned)
        return fail(PEFT_EUNSUPPORTED, "tensor %s: fan_in_fan_out is on, but the weight of %s is "
                    "[out, in]", t->name, s->name);
    if (!l->at[site]) {
        double rank = pattern(l->config, "rank_pattern", s->name, l->a->rank);
        double alpha = pattern(l->config, "alpha_pattern", s->name, l->a->alpha);
        if (!(rank >= 1 && rank <= 1 << 16) || rank != floor(rank) || !(fabs(alpha) < FLT_MAX))
            return fail(PEFT_EFORMAT, "adapter_config.json gives %s rank %g and alpha %g", s->name,
                        rank, alpha);
        int rc = adapter_attach(l->m, &l->a->sites[l->a->n_sites], l->a, s, (int32_t)rank,
                                (float)alpha);
        l->at[site] = ++l->a->n_sites;
        if (rc) return rc;
    }
    struct param *p = l->a->sites[l->at[site] - 1].part[part];
    if (!p)
        return fail(PEFT_EFORMAT, "tensor %s is there, but adapter_config.json does not ask for it",
                    t->name);
    int64_t rows = t->n_dims == 2 ? t->dims[0] : 1, cols = t->n_dims == 2   ? t->dims[1]
                                                           : t->n_dims == 1 ? t->dims[0]
                                                                            : 0;
    if (t->n_dims != p->n_dims || rows != p->rows || cols != p->cols)
        return fail(PEFT_EFORMAT, "tensor %s is [%lld, %lld], expected [%lld, %lld]", t->name,
                    (long long)rows, (long long)cols, (long long)p->rows, (long long)p->cols);
    if (!t->type->is_float)
        return fail(PEFT_EUNSUPPORTED, "tensor %s has type %s, expected floats", t->name,
                    t->type->name);
    param_write(l->m, p, p->own, t->type, t->data);
    p->is_new = 1;                  /* seen; see check_complete */
    return check_finite(t, p->own);
}

/* A whole tensor of the model (modules_to_save). */
static int load_module(struct load *l, const struct store_tensor *t, const char *name)
{
    struct model *m = l->m;
    char full[240];
    int tied = json_bool(json_get(l->config, "ensure_weight_tying"), 0);
    struct param *p = model_param(m, name);
    if (!p && m->arch->prefix) {
        snprintf(full, sizeof(full), "%s%s", m->arch->prefix, name);
        p = model_param(m, full);
    }
    if (!p && tied && !strcmp(name, tied_name(m, full, sizeof(full)))) return PEFT_OK;
    if (!p && strstr(name, ".base_layer."))
        return fail(PEFT_EUNSUPPORTED, "tensor %s: the adapter changes weights or biases below its "
                    "own, which is not supported", t->name);
    if (!p || p->adapter)
        return fail(PEFT_EFORMAT, "tensor %s fits no module of this model (%s)", t->name, m->name);
    if (is_shared(m, p) && !tied)
        return fail(PEFT_EUNSUPPORTED, "tensor %s: the embeddings of this model are its output "
                    "layer too, and the adapter changes one only (ensure_weight_tying is off)",
                    t->name);
    int64_t rows = p->turned ? p->cols : p->rows;
    if (t->count != param_len(p) || (t->n_dims == 2 && t->dims[0] != rows))
        return fail(PEFT_EFORMAT, "tensor %s has %lld elements, expected %lld", t->name,
                    (long long)t->count, (long long)param_len(p));
    if (!t->type->is_float)
        return fail(PEFT_EUNSUPPORTED, "tensor %s has type %s, expected floats", t->name,
                    t->type->name);
    float *values = mem_alloc(&m->host.mem, param_len(p) * 4);
    if (!values) return PEFT_ENOMEM;
    param_write(m, p, values, t->type, t->data);
    int rc = check_finite(t, values);
    if (!rc) rc = adapter_keep_module(m, l->a, p, values);
    if (rc) mem_free(&m->host.mem, values);
    return rc;
}

/* A classification head that the adapter brings along. */
static int add_head(struct load *l)
{
    const struct slot_row *row = slot_find(l->m->arch, SLOT_CLASSIFIER);
    char name[160];
    if (!row || l->m->head) return PEFT_OK;
    snprintf(name, sizeof(name), PREFIX "%s.weight", row->hf);
    const struct store_tensor *t = store_find(l->st, name);
    if (!t || t->n_dims != 2 || t->dims[0] > 1 << 20) return PEFT_OK;
    const char **names = NULL;
    int32_t n = (int32_t)t->dims[0], i = 0;
    const json *list = json_get(l->config, "libpeft_labels");
    if (json_count(list) == n && !(names = arena_alloc(&l->m->arena, n * (int64_t)sizeof(*names))))
        return PEFT_ENOMEM;
    for (const json *j = names ? json_first(list) : NULL; j; j = json_next(j))
        names[i++] = json_string(j);
    peft_head_opts o = { .size = sizeof(o), .labels = n, .names = names,
                         .pool = json_string(json_get(l->config, "libpeft_pool")) };
    return model_head_add(l->m, &o);
}

static int check_complete(const struct load *l)
{
    for (int64_t i = 0; i < l->a->n_sites; i++)
        for (int k = 0; k < PARTS; k++) {
            struct param *p = l->a->sites[i].part[k];
            if (p && !p->is_new)
                return fail(PEFT_EFORMAT, "the adapter has no tensor " PREFIX "%s", p->name);
            if (p) p->is_new = 0;
        }
    return l->a->n_sites + l->a->n_saved ? PEFT_OK
                                         : fail(PEFT_EFORMAT, "the adapter file has no tensors");
}

static int load_tensors(struct load *l)
{
    struct model *m = l->m;
    int rc = add_head(l);
    l->at = mem_array(&m->host.mem, m->n_sites, sizeof(*l->at));
    l->a->sites = arena_alloc(&m->arena, m->n_sites * (int64_t)sizeof(*l->a->sites));
    if (!l->at || !l->a->sites) return PEFT_ENOMEM;
    for (int64_t i = 0; i < m->n_sites && !rc; i++)
        if (map_add(&l->sites, m->sites[i]->name, (int64_t)strlen(m->sites[i]->name), i) < 0)
            rc = PEFT_ENOMEM;
    for (int64_t i = 0; i < store_count(l->st) && !rc; i++) {
        const struct store_tensor *t = store_at(l->st, i);
        const char *name = t->name;
        int64_t site;
        int part;
        if (strncmp(name, PREFIX, strlen(PREFIX)))
            return fail(PEFT_EFORMAT, "tensor %s, expected a name that begins with " PREFIX, name);
        name += strlen(PREFIX);
        rc = split_name(l, name, &site, &part) ? load_part(l, t, site, part)
                                               : load_module(l, t, name);
    }
    return rc ? rc : check_complete(l);
}

static int read_adapter(struct model *m, const char *name, const char *dir)
{
    struct load l = { .m = m };
    json *root = NULL;
    char *path = NULL;
    int had_head = m->head != NULL;
    map_init(&l.sites, &m->host.mem);
    int rc = read_config(&l, name, dir, &root);
    if (!rc) rc = path_join(&m->host, dir, "adapter_model.safetensors", &path);
    if (!rc && path_kind(&m->host, path) != 1)
        rc = fail(PEFT_ENOTFOUND, "%s has no adapter_model.safetensors", dir);
    if (!rc) rc = store_open_safetensors(&m->host, path, true, &l.st);
    /* Copies as floats: of one byte four. */
    if (!rc) mem_budget_more(&m->host.mem, 4 * store_bytes(l.st));
    if (!rc) rc = load_tensors(&l);
    if (!rc) adapter_link(m, l.a);
    else if (l.a) adapter_drop(m, l.a);
    if (rc && !had_head) model_head_remove(m);
    mem_free(&m->host.mem, l.at);
    mem_free(&m->host.mem, path);
    map_free(&l.sites);
    store_close(l.st);
    json_free(root);
    return rc;
}

int adapter_load(struct model *m, const char *name, const char *dir)
{
    bool began = mem_budget(&m->host.mem);
    int rc = read_adapter(m, name, dir);
    mem_budget_end(&m->host.mem, began);
    return fail_path(rc, dir);
}

/* --- writing */

/* The shortest dotted ending of a module's name that names adapted modules
 * only, so that PEFT adapts the same ones. */
static const char *target_name(const struct model *m, const struct adapter *a, const char *name)
{
    for (const char *s = name + strlen(name); s > name; s--) {
        if (s[-1] != '.') continue;
        int ok = 1;
        size_t n = strlen(s);
        for (int64_t i = 0; i < m->n_sites && ok; i++) {
            const struct site *t = m->sites[i];
            size_t k = strlen(t->name);
            if (t->kind != SITE_LINEAR || k < n || strcmp(t->name + k - n, s) ||
                (k > n && t->name[k - n - 1] != '.'))
                continue;
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

/* Module of a parameter: its name without ".weight" or ".bias"; of the parts of
 * a head the module that holds them, as PEFT keeps it whole. */
static char *module_of(struct arena *t, const struct model *m, const struct param *p)
{
    const char *name = model_file_name(m, p->name), *dot = strrchr(name, '.');
    for (int64_t i = 0; i < m->n_sites; i++)
        if ((m->sites[i]->w == p || m->sites[i]->b == p) && (m->sites[i]->flags & SLOT_OF_HEAD))
            dot = strchr(name, '.');
    return arena_strndup(t, name, dot ? dot - name : (int64_t)strlen(name));
}

static void put_pattern(struct buf *b, const struct model *m, const struct adapter *a, int rank)
{
    int n = 0;
    buf_printf(b, "  \"%s\": {", rank ? "rank_pattern" : "alpha_pattern");
    for (int64_t i = 0; i < a->n_sites; i++) {
        const struct adapted *d = &a->sites[i];
        const char *name = model_file_name(m, d->site->name);
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
        buf_printf(b, "],\n  \"libpeft_pool\": \"%s\",\n",
                   m->pool_kind == POOL_MEAN ? "mean" : m->pool_kind == POOL_CLS ? "cls" : "last");
    }
    buf_puts(b, "  \"lora_alpha\": ");
    buf_number(b, a->alpha);
    buf_printf(b, ",\n  \"lora_bias\": %s,\n  \"lora_dropout\": ", a->bias ? "true" : "false");
    buf_number(b, a->dropout);
    for (int64_t i = 0; i < a->n_saved; i++)
        if (is_shared(m, a->saved[i].p)) buf_puts(b, ",\n  \"ensure_weight_tying\": true");
    buf_puts(b, ",\n  \"modules_to_save\": ");
    for (int64_t i = 0; i < a->n_saved; i++)
        if (!(names[i] = module_of(t, m, a->saved[i].p))) return PEFT_ENOMEM;
    if (a->n_saved) put_list(b, names, a->n_saved);
    else buf_puts(b, "null");
    buf_printf(b, ",\n  \"peft_type\": \"%s\",\n  \"peft_version\": \"0.21.2\",\n  \"r\": %d,\n",
               a->method->peft_type, a->rank);
    put_pattern(b, m, a, 1);
    buf_puts(b, "  \"revision\": null,\n  \"target_modules\": ");
    for (int64_t i = 0; i < a->n_sites; i++) names[i] = target_name(m, a, a->sites[i].site->name);
    put_list(b, names, a->n_sites);
    const char *task = m->head                 ? "\"SEQ_CLS\""
                       : m->arch->style.causal ? "\"CAUSAL_LM\""
                                               : "\"FEATURE_EXTRACTION\"";
    buf_printf(b, ",\n  \"task_type\": %s,\n  \"use_dora\": false,\n  \"use_rslora\": %s\n}\n",
               task, a->rslora ? "true" : "false");
    return buf_check(b);
}

/* One tensor, its values as Hugging Face has them. */
static int add_out(struct model *m, struct arena *t, struct store_out *o, const struct param *p,
                   const float *values)
{
    const char *name = model_file_name(m, p->name);
    int64_t n = (int64_t)strlen(name);
    char *full = arena_alloc(t, n + (int64_t)sizeof(PREFIX));
    float *data = arena_alloc(t, param_len(p) * 4);
    struct param now = *p;
    if (!full || !data) return PEFT_ENOMEM;
    memcpy(full, PREFIX, sizeof(PREFIX) - 1);
    memcpy(full + sizeof(PREFIX) - 1, name, (size_t)n);
    now.data = values;
    now.type = &qtype_f32;
    param_read(m, &now, data);
    *o = (struct store_out){ .name = full, .type = &qtype_f32, .n_dims = p->n_dims, .data = data };
    o->dims[0] = p->n_dims == 1 || p->turned ? p->cols : p->rows;
    o->dims[1] = p->turned ? p->rows : p->cols;
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
            const struct param *p = a->sites[i].part[k];
            if (p) rc = add_out(m, t, &out[n++], p, p->own);
        }
    for (int64_t i = 0; i < a->n_saved && !rc; i++) {
        const struct saved_module *s = &a->saved[i];
        rc = add_out(m, t, &out[n++], s->p, s->mine);
        if (rc || !is_shared(m, s->p)) continue;
        char name[160];
        struct param twin = *s->p;
        twin.name = tied_name(m, name, sizeof(name));
        rc = add_out(m, t, &out[n++], &twin, s->mine);
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
