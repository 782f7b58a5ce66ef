/* Reading adapters as Hugging Face PEFT writes them: adapter_config.json and
 * adapter_model.safetensors, whose tensors are called
 * base_model.model.<module>.<part>.  Generic over the methods' parts.  Other
 * formats (foreign.c) tell their settings and tensors in these words. */
#include <float.h>
#include <math.h>
#include <stdio.h>

#include "adapt/io.h"

/* Settings that change the arithmetic and that we do not have. */
static int refuse_unknown(const json *c)
{
    static const char *const must_be_off[] = {
        "use_qalora", "use_bdlora", "layer_replication",
        "alora_invocation_tokens", "kasa_config", "velora_config", "arrow_config",
        "monteclora_config", "block_share", "coft"
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
    static const char *const lost[] = { "pissa_niter", "corda", "loftq", "lora_ga" };
    for (size_t i = 0; i < ARRAY_LEN(lost) && init; i++)
        if (!strncmp(init, lost[i], strlen(lost[i])))
            return fail(PEFT_EUNSUPPORTED, "the adapter was made with init_lora_weights \"%s\", "
                        "which changed its base by values that are lost; save it in PEFT with "
                        "path_initial_model_for_weight_conversion", init);
    return PEFT_OK;
}

/* Settings that say that initial values were taken out of the base. */
static void read_start(struct adapter *a, const json *c)
{
    static const char *const kinds[] = { "pissa", "olora" };
    const char *init = json_string(json_get(c, "init_lora_weights"));
    for (size_t i = 0; i < ARRAY_LEN(kinds) && init && a->method->restart; i++)
        if (!strcmp(init, kinds[i])) {
            a->start = kinds[i];
            a->shifts = 1;
        }
}

static int read_adapter_config(struct load *l, const char *dir, json **root)
{
    struct file_view v;
    char *path;
    int rc = path_join(&l->m->host, dir, "adapter_config.json", &path);
    if (rc) return rc;
    rc = file_open_view(&l->m->host, path, false, &v);
    mem_free(&l->m->host.mem, path);
    if (rc) return rc;
    rc = json_parse((const char *)v.data, v.n, "adapter_config.json", root);
    file_close_view(&l->m->host, &v);
    return rc;
}

/* Which format it is: a file, or a folder whose settings tell it. */
static int read_config(struct load *l, const char *name, const char *path, json **root)
{
    int kind = path_kind(&l->m->host, path), rc = PEFT_OK;
    l->format = kind == 1 ? &format_gguf : &format_peft;
    if (kind != 1 && (rc = read_adapter_config(l, path, root))) return rc;
    if (*root && !json_get(*root, format_peft.mark) && json_get(*root, format_mlx.mark))
        l->format = &format_mlx;
    if (l->format->settings && (rc = l->format->settings(l, path, root))) return rc;
    const json *c = l->config = *root;
    const struct method *method;
    if ((rc = method_of_config(c, &method)) || (rc = refuse_unknown(c))) return rc;
    if ((rc = adapter_new(l->m, name, method, &l->a))) return rc;
    struct adapter *a = l->a;
    if ((rc = settings_read(l->m, a, c))) return rc;
    a->ties = (uint8_t)json_bool(json_get(c, "ensure_weight_tying"), 0);
    a->default_names = !a->names;
    a->ranks.fixed = json_kind(json_get(c, "rank_pattern")) == JSON_OBJECT;
    read_start(a, c);
    const char *base = json_string(json_get(c, "base_model_name_or_path"));
    if (base && !(a->base = arena_strndup(&a->arena, base, (int64_t)strlen(base))))
        return PEFT_ENOMEM;
    return PEFT_OK;
}

int adapter_has_ending(const char *module, const char *ending)
{
    size_t n = strlen(module), len = strlen(ending);
    return len <= n && !strcmp(module + n - len, ending) &&
        (len == n || module[n - len - 1] == '.');
}

/* The module of a tensor's name whose ending after it is a part of the method:
 * 1 = found. */
static int split_name(struct load *l, const char *name, const struct method *method, int64_t *site,
                      int *part)
{
    char full[240];
    size_t n = strlen(name);
    for (int k = 0; k < PARTS; k++) {
        const char *suffix = method->parts[k].suffix;
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

static int check_matrix(const struct store_tensor *t, int32_t n_dims, int64_t want_rows,
                        int64_t want_cols)
{
    int64_t rows = t->n_dims == 2 ? t->dims[0] : 1;
    int64_t cols = t->n_dims == 2 ? t->dims[1] : t->n_dims == 1 ? t->dims[0] : 0;
    if (t->n_dims != n_dims || rows != want_rows || cols != want_cols)
        return fail(PEFT_EFORMAT, "tensor %s is [%lld, %lld], expected [%lld, %lld]", t->name,
                    (long long)rows, (long long)cols, (long long)want_rows, (long long)want_cols);
    if (!t->type->is_float)
        return fail(PEFT_EUNSUPPORTED, "tensor %s has type %s, expected floats", t->name,
                    t->type->name);
    return PEFT_OK;
}

/* The adapted modules of a layer's parameter, made at first use. */
static int fused_first(struct load *l, const struct fused_row *row, int64_t layer,
                       const struct adapted **out)
{
    struct model *m = l->m;
    struct adapter *a = l->a;
    int kind = (int)(row - m->arch->style.fused) + 1, rc;
    int32_t rank;
    float alpha;
    char name[200];
    for (int64_t i = 0; i < a->n_sites; i++)
        if (a->sites[i].fused == kind && a->sites[i].site->layer == layer) {
            *out = &a->sites[i];
            return PEFT_OK;
        }
    fused_name(row, layer, name, sizeof(name));
    if ((rc = settings_rank(a, l->config, name, name, &rank, &alpha))) return rc;
    for (int64_t i = 0; i < m->n_sites; i++) {
        const struct site *s = m->sites[i];
        if (s->layer != layer || (s->slot != row->slots[0] && s->slot != row->slots[1])) continue;
        if (l->at[i])
            return fail(PEFT_EFORMAT, "the adapter has tensors for %s and for %s", s->name, name);
        l->at[i] = a->n_sites + 1;
    }
    *out = &a->sites[a->n_sites];
    return fused_attach(m, a, row, layer, rank, alpha);
}

/* 1 = a tensor of experts that are one parameter. */
static int load_fused(struct load *l, const struct store_tensor *t, const char *name)
{
    const struct fused_row *row;
    const struct adapted *d = NULL;
    char module[240];
    int64_t layer, rows, cols;
    size_t n = strlen(name);
    for (int k = 0; k < PARTS && l->parameters; k++) {
        const char *suffix = l->a->method->parts[k].suffix;
        size_t s = suffix ? strlen(suffix) : 0;
        if (!s || n <= s + 1 || name[n - s - 1] != '.' || strcmp(name + n - s, suffix)) continue;
        snprintf(module, sizeof(module), "%.*s", (int)(n - s - 1), name);
        if (!fused_find(l->m, module, l->parameters, &layer, &row)) return 0;
        int rc = fused_first(l, row, layer, &d);
        if (rc) return rc;
        if (!d->part[k]) return fail(PEFT_EFORMAT, "tensor %s was not asked for", t->name);
        cols = fused_shape(l->m, d, k, &rows);
        if ((rc = check_matrix(t, 2, rows, cols))) return rc;
        float *all = mem_array(&l->m->host.mem, t->count, 4);
        if (!all) return PEFT_ENOMEM;
        t->type->to_f32(all, t->data, t->count);
        fused_move(l->m, d, k, all, 0);
        rc = check_finite(t, all);
        mem_free(&l->m->host.mem, all);
        return rc ? rc : 1;
    }
    return 0;
}

/* A and B of the output layer are the embedding's, turned: 1 = they are, and of its shape. */
static int load_twin(const struct adapted *d, const struct store_tensor *t, int part)
{
    const struct param *p[2] = { NULL, NULL };
    for (int k = 0; k < PARTS; k++)
        if (d->borrowed >> k & 1 && d->part[k] && (!p[0] || !p[1])) p[p[0] != NULL] = d->part[k];
    if (d->method->puts_rows || !p[1] || part > 1) return 0;
    int rc = part == 0 ? check_matrix(t, 2, p[1]->cols, p[1]->rows)
                       : check_matrix(t, 2, p[0]->rows, p[0]->cols);
    for (int64_t i = 0; i < t->count && !rc; i++) {
        const struct param *q = p[part == 0];
        float x, y = q->own[part ? i : i % q->rows * q->cols + i / q->rows];
        t->type->to_f32(&x, (const char *)t->data + i * t->type->bytes, 1);
        if (fabsf(x - y) > 0.01f * (fabsf(x) + fabsf(y)))
            rc = fail(PEFT_EUNSUPPORTED, "tensor %s differs from the embedding's, which "
                      "ensure_weight_tying makes it", t->name);
    }
    return rc ? rc : 1;
}

/* Of a module without a rank that is left, which has one that counts for nothing here,
 * PEFT writes tensors without elements. */
static int is_empty(const struct adapted *d)
{
    return d->adapter->method->patterns == PATTERN_MASK && d->rank == 1 && !d->index[0];
}

/* The virtual tokens, [n, whatever fits the settings]. */
static int load_virtual(struct load *l, const struct store_tensor *t)
{
    struct adapter *a = l->a;
    struct site *s = l->m->global[SLOT_EMBED];
    struct adapted probe = { .adapter = a, .site = s, .rank = a->rank };
    int64_t rows, cols;
    if (a->n_sites) return fail(PEFT_EFORMAT, "tensor %s is there twice", t->name);
    int rc = a->method->begin(l->m, &probe);
    if (rc) return rc;
    a->method->shape(&probe, 0, &rows, &cols);
    if ((rc = check_matrix(t, 2, rows, cols))) return rc;
    struct adapted *d = &a->sites[a->n_sites++];
    if ((rc = adapter_attach(l->m, d, a, s, a->rank, a->alpha, NULL))) return rc;
    d->part[0]->is_new = 1;
    rc = virtual_in(l->m, d, t);
    return rc ? rc : check_finite(t, d->part[0]->own);
}

static int load_part(struct load *l, const struct store_tensor *t, int64_t site, int part)
{
    struct site *s = model_site(l->m, site);
    if (!(s->kind & l->a->method->at))
        return fail(PEFT_EUNSUPPORTED, "tensor %s: method %s does not adapt this kind of module",
                    t->name, l->a->method->name);
    if (l->a->turned && !s->w->turned && s->kind == SITE_LINEAR && s != l->m->output)
        return fail(PEFT_EUNSUPPORTED, "tensor %s: fan_in_fan_out is on, but the weight of %s is "
                    "[out, in]", t->name, s->name);
    if (!l->at[site]) {
        int32_t rank = l->rank;
        float alpha = l->alpha;
        int rc = rank ? PEFT_OK : settings_rank(l->a, l->config, s->name, s->peft_name, &rank,
                                                &alpha);
        if (rc) return rc;
        struct adapted *fresh = &l->a->sites[l->a->n_sites];
        int none = l->a->method->patterns == PATTERN_MASK && !rank;
        rc = adapter_attach(l->m, fresh, l->a, s, none ? 1 : rank, alpha, NULL);
        l->at[site] = ++l->a->n_sites;
        if (!rc) rc = adapter_attach_twin(l->m, l->a, fresh);
        if (fresh + 1 < l->a->sites + l->a->n_sites) l->at[l->m->n_sites] = l->a->n_sites;
        if (rc) return rc;
        if (none) fresh->index[0] = 0;
    }
    const struct adapted *d = &l->a->sites[l->at[site] - 1];
    struct param *p = d->fused || (d->borrowed >> part & 1) ? NULL : d->part[part];
    for (int k = part + 1; k < PARTS && !p && !d->fused; k++)
        if (d->part[k] && !strcmp(d->method->parts[k].suffix, d->method->parts[part].suffix))
            p = d->part[k];
    int twin = s == l->m->output && !p ? load_twin(d, t, part) : 0;
    if (twin) return MIN(twin, PEFT_OK);
    if (!p)
        return fail(PEFT_EFORMAT, "tensor %s is there, but adapter_config.json does not ask for it",
                    t->name);
    if (is_empty(d) && !t->count) {
        p->is_new = 1;
        return PEFT_OK;
    }
    int rc = p->turned ? check_matrix(t, p->n_dims, p->cols, p->rows)
                       : check_matrix(t, p->n_dims, p->rows, p->cols);
    if (rc) return rc;
    param_write(l->m, p, p->own, t->type, t->data);
    p->is_new = 1;                  /* seen; see check_complete */
    return check_finite(t, p->own);
}

/* The module's own weight, which PEFT writes beside adapters of embeddings and output
 * layers; it must be what the model has: 1 = it is, 0 = this is no such tensor. */
static int load_base(struct load *l, const struct store_tensor *t, const char *name)
{
    static const char ending[] = ".base_layer.weight";
    size_t n = strlen(name), k = sizeof(ending) - 1;
    int64_t i = n > k && !strcmp(name + n - k, ending)
                    ? map_get(&l->sites, name, (int64_t)(n - k), -1) : -1;
    const struct site *s = i < 0 ? NULL : model_site(l->m, i);
    if (!s || !(s->kind == SITE_EMBED || (s->flags & SLOT_HEAD)) || !t->type->is_float) return 0;
    int rc = check_matrix(t, 2, s->w->rows, s->w->cols);
    float a[64], b[64];
    double off = 0, size = 0;
    for (int64_t at = 0; at < t->count && !rc; at += 64) {
        int64_t len = MIN(t->count - at, 64);
        qtype_expand(t->type, a, t->data, at, len);
        qtype_expand(s->w->type, b, s->w->data, at, len);
        for (int64_t j = 0; j < len; j++) {
            off += fabs((double)a[j] - (double)b[j]);
            size += fabs((double)b[j]);
        }
    }
    if (rc) return rc;
    if (!(off <= (s->w->type->is_float ? 0.01 : 0.3) * size))
        return fail(PEFT_EUNSUPPORTED, "tensor %s differs from the model's: the adapter was made "
                    "for another base, or changed it", t->name);
    return 1;
}

/* The tensor of the model that an adapter keeps whole under the method's own
 * name for it ("norm.ln_tuning_layers.weight"). */
static const char *kept_name(const struct load *l, const char *name, char *to, size_t cap)
{
    const char *infix = l->a->method->keeps, *mark = infix ? strstr(name, infix) : NULL;
    if (!mark || mark == name || mark[-1] != '.' || mark[strlen(infix)] != '.') return name;
    snprintf(to, cap, "%.*s%s", (int)(mark - name), name, mark + strlen(infix) + 1);
    return to;
}

/* 1 = one of the tensors that all modules of the adapter share. */
static int load_common(struct load *l, const struct store_tensor *t)
{
    struct adapter *a = l->a;
    for (int k = 0; k < COMMON && a->method->common[k].suffix; k++) {
        char name[64];
        snprintf(name, sizeof(name), COMMON_PREFIX "%s", a->method->common[k].suffix);
        if (strcmp(t->name, name)) continue;
        int64_t rows = t->n_dims == 2 ? t->dims[0] : 0, cols = t->n_dims == 2 ? t->dims[1] : 0;
        int by_rank = a->method->common[k].rows == PART_RANK;
        int rc = check_matrix(t, 2, by_rank ? a->rank : rows, by_rank ? cols : a->rank);
        if (!rc && a->common[k]) rc = fail(PEFT_EFORMAT, "tensor %s is there twice", t->name);
        if (!rc) rc = adapter_common(l->m, a, k, rows, cols);
        if (rc) return rc;
        t->type->to_f32(a->common[k]->own, t->data, t->count);
        rc = check_finite(t, a->common[k]->own);
        return rc ? rc : 1;
    }
    return 0;
}

/* The model's tensor of this name, in Hugging Face's files or in memory, with
 * or without the body's prefix. */
struct param *load_find_param(const struct load *l, const char *name)
{
    const struct model *m = l->m;
    const char *dot = strrchr(name, '.');
    char full[240];
    struct param *p = model_param(m, name);
    for (int prefix = 0; prefix < 2 && !p; prefix++) {
        if (prefix && !m->arch->prefix) break;
        snprintf(full, sizeof(full), "%s%.*s", prefix ? m->arch->prefix : "",
                 dot ? (int)(dot - name) : 0, name);
        int64_t at = dot ? map_get(&l->sites, full, (int64_t)strlen(full), -1) : -1;
        if (at == m->n_sites) continue;
        if (at >= 0 && !strcmp(dot, ".weight")) p = m->sites[at]->w;
        if (at >= 0 && !strcmp(dot, ".bias")) p = m->sites[at]->b;
    }
    return p;
}

/* A whole tensor of the model (modules_to_save). */
static int load_module(struct load *l, const struct store_tensor *t, const char *name)
{
    struct model *m = l->m;
    char full[240];
    char kept[240];
    int tied = json_bool(json_get(l->config, "ensure_weight_tying"), 0);
    int base = load_base(l, t, name);
    if (base) return MIN(base, PEFT_OK);
    name = kept_name(l, name, kept, sizeof(kept));
    struct param *p = load_find_param(l, name);
    int output = !p && model_tied(m) && !strcmp(name, adapter_tied_name(m, full, sizeof(full)));
    if (output && tied) return PEFT_OK;
    if (output) p = m->untied;
    if (!p && strstr(name, ".base_layer."))
        return fail(PEFT_EUNSUPPORTED, "tensor %s: the adapter changes weights or biases below its "
                    "own, which is not supported", t->name);
    if (!p || (p->adapter && !output))
        return fail(PEFT_EFORMAT, "tensor %s fits no module of this model (%s)", t->name, m->name);
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
    if (!rc) rc = adapter_keep_module(l->m, l->a, p, values);
    if (rc) mem_free(&m->host.mem, values);
    return rc;
}

/* A classification head that the adapter brings along. */
static int add_head(struct load *l)
{
    const char *task = json_string(json_get(l->config, "task_type"));
    const char *ours = json_string(json_get(l->config, "libpeft_head"));
    const struct store_tensor *t = NULL;
    int best = -1, kind = 0;
    for (int k = HEAD_CLASS; k < HEAD_IDS && !l->m->head; k++) {
        const struct head_kind *h = &head_kinds[k];
        const struct slot_row *row = head_row(l->m->arch, (enum head_id)k);
        char name[160];
        int score = (task && h->task_type && !strcmp(task, h->task_type)) +
                    2 * (ours && !strcmp(ours, h->name));
        snprintf(name, sizeof(name), "%s%s.weight", adapter_prefix(l->a), row ? row->hf : "");
        const struct store_tensor *found = store_find(l->st, name);
        if (score <= best || !found || found->n_dims != 2 || found->dims[0] > 1 << 20) continue;
        t = found;
        best = score;
        kind = k;
    }
    if (!t) return PEFT_OK;
    const char **names = NULL;
    int32_t n = (int32_t)t->dims[0], i = 0;
    const json *list = json_get(l->config, "libpeft_labels");
    if (json_count(list) == n && !(names = arena_alloc(&l->a->arena, n * (int64_t)sizeof(*names))))
        return PEFT_ENOMEM;
    for (const json *j = names ? json_first(list) : NULL; j; j = json_next(j))
        names[i++] = json_string(j);
    peft_head_opts o = { .size = sizeof(o), .labels = n, .names = names,
                         .kind = head_kinds[kind].name,
                         .pool = json_string(json_get(l->config, "libpeft_pool")) };
    return model_head_add(l->m, &o);
}

/* What has to be there before the tensors are read: rows of tokens, and an embedding whose
 * output layer's tensors come first. */
static int attach_first(struct load *l)
{
    struct model *m = l->m;
    struct adapter *a = l->a;
    const struct site *embed = m->global[SLOT_EMBED];
    int rc = PEFT_OK;
    for (int k = 0; k < PARTS && !rc && a->ties && model_tied(m); k++) {
        const struct part *part = &a->method->parts[k];
        char name[240];
        if (part->at != SITE_EMBED) continue;
        snprintf(name, sizeof(name), PREFIX "%s.%s", embed->peft_name, part->suffix);
        const struct store_tensor *t = store_find(l->st, name);
        int64_t site = map_get(&l->sites, embed->name, (int64_t)strlen(embed->name), -1);
        if (t && site >= 0) rc = load_part(l, t, site, k);
    }
    if (!rc) rc = tokens_attach(m, a);
    for (int64_t i = 0; i < a->n_sites && !rc; i++)
        for (int64_t k = 0; k < a->n_tokens && a->sites[i].method->puts_rows; k++) {
            const char *name = a->sites[i].site->name;
            int64_t site = map_get(&l->sites, name, (int64_t)strlen(name), -1);
            if (site >= 0) l->at[site] = i + 1;
        }
    return rc;
}

static int check_complete(const struct load *l)
{
    if (l->a->method->virtual && !l->a->n_sites)
        return fail(PEFT_EFORMAT, "the adapter has no tensor " VIRTUAL_NAME);
    const struct part *common = l->a->method->common;
    for (int k = 0; k < COMMON && common[k].suffix; k++) {
        const struct param *p = l->a->common[k];
        for (int64_t i = 0; i < l->a->n_sites; i++) {
            const struct param *w = l->a->sites[i].site->w;
            if (p && common[k].rows == PART_OUT ? p->rows >= w->rows : p && p->cols >= w->cols)
                continue;
            return fail(PEFT_EFORMAT, "the adapter has no tensor " COMMON_PREFIX "%s that is as "
                        "large as %s needs", common[k].suffix, l->a->sites[i].site->name);
        }
    }
    for (int64_t i = 0; i < l->a->n_sites; i++)
        for (int k = 0; k < PARTS; k++) {
            struct param *p = adapted_owns(&l->a->sites[i], k) ? l->a->sites[i].part[k] : NULL;
            if (p && !p->is_new && !(l->a->sites[i].method->parts[k].flags & PART_START))
                return fail(PEFT_EFORMAT, "the adapter has no tensor " PREFIX "%s", p->name);
            if (p) p->is_new = 0;
        }
    return l->a->n_sites + l->a->n_saved ? PEFT_OK
                                         : fail(PEFT_EFORMAT, "the adapter file has no tensors");
}

static int read_parameters(struct load *l)
{
    const json *list = json_get(l->config, "target_parameters");
    struct buf b;
    buf_init(&b, &l->m->host.mem);
    for (const json *j = json_first(list); j; j = json_next(j)) {
        if (!json_string(j))
            return fail(PEFT_EFORMAT, "adapter_config.json: target_parameters holds %s, expected "
                        "names", json_kind_name(j));
        buf_printf(&b, "%s,", json_string(j));
    }
    int rc = buf_check(&b);
    if (!rc && b.n && !(l->parameters = arena_strndup(&l->a->arena, b.data, b.n)))
        rc = PEFT_ENOMEM;
    buf_free(&b);
    return rc;
}

int load_named(struct load *l, const struct store_tensor *t, const char *name)
{
    int64_t site;
    int part, rc = l->a->method->virtual ? PEFT_OK : load_fused(l, t, name);
    if (rc) return MIN(rc, PEFT_OK);
    if (l->a->method->virtual) return load_module(l, t, name);
    return split_name(l, name, l->a->method, &site, &part) ||
                   split_name(l, name, tokens_method(l->a), &site, &part)
               ? load_part(l, t, site, part) : load_module(l, t, name);
}

static int give_peft(struct load *l, const struct store_tensor *t)
{
    int rc = load_common(l, t);
    if (rc) return MIN(rc, PEFT_OK);
    if (l->a->method->virtual && !strcmp(t->name, VIRTUAL_NAME)) return load_virtual(l, t);
    const char *prefix = adapter_prefix(l->a);
    if (strncmp(t->name, prefix, strlen(prefix)))
        return fail(PEFT_EFORMAT, "tensor %s, expected a name that begins with %s", t->name,
                    prefix);
    return load_named(l, t, t->name + strlen(prefix));
}

const struct adapter_format format_peft = {
    .name = "peft", .tensors = "adapter_model.safetensors", .mark = "peft_type",
    .give = give_peft, .save = adapter_save_peft, .whole = 1, .card = 1
};

static int load_tensors(struct load *l)
{
    struct model *m = l->m;
    int rc = add_head(l);
    if (!rc) rc = read_parameters(l);
    const struct site *s;
    l->at = mem_array(&m->host.mem, m->n_sites + 1, sizeof(*l->at));
    if (rc || !l->at) return rc ? rc : PEFT_ENOMEM;
    rc = adapter_room(m, l->a, m->n_sites + 1);
    for (int64_t i = 0; (s = model_site(m, i)) && !rc; i++) {
        const char *const names[] = { s->name, s->peft_name };
        for (int k = 0; k < 2 && !rc; k++)
            if (map_add(&l->sites, names[k], (int64_t)strlen(names[k]), i) < 0) rc = PEFT_ENOMEM;
    }
    if (!rc && l->format->module) rc = foreign_begin(l);
    if (!rc) rc = attach_first(l);
    for (int64_t i = 0; i < store_count(l->st) && !rc; i++)
        rc = l->format->give(l, store_at(l->st, i));
    if (!rc) rc = check_complete(l);
    return rc ? rc : base_complete(m, l->a, l->config);
}

static int open_tensors(struct load *l, const char *dir)
{
    struct host *h = &l->m->host;
    char *path;
    int rc = path_join(h, dir, l->format->tensors, &path);
    if (rc) return rc;
    if (path_kind(h, path) != 1)
        rc = fail(PEFT_ENOTFOUND, "%s has no %s", dir, l->format->tensors);
    if (!rc) rc = store_open_safetensors(h, path, true, &l->st);
    mem_free(&h->mem, path);
    return rc;
}

static int read_adapter(struct model *m, const char *name, const char *dir)
{
    struct load l = { .m = m };
    json *root = NULL;
    int had_head = m->head != NULL;
    map_init(&l.sites, &m->host.mem);
    map_init(&l.modules, &m->host.mem);
    arena_init(&l.names, &m->host.mem);
    int rc = read_config(&l, name, dir, &root);
    if (!rc && !l.st) rc = open_tensors(&l, dir);
    /* Copies as floats, of one byte four; and what methods keep for each row of
     * the base. */
    if (!rc) mem_budget_more(&m->host.mem, 4 * store_bytes(l.st) + store_bytes(m->store));
    if (!rc) rc = base_check(m, l.a, l.st);
    if (!rc && (rc = load_tensors(&l)) != 0) rc = base_hint(m, l.a, l.st, rc);
    if (!rc && l.a->shifts) rc = adapter_restart(m, l.a);
    /* Beyond the name, what is wrong is wrong in the files. */
    if (rc == PEFT_EARG && l.a) rc = PEFT_EFORMAT;
    if (!rc) adapter_link(m, l.a);
    else if (l.a) adapter_drop(m, l.a);
    if (rc && !had_head) model_head_remove(m);
    mem_free(&m->host.mem, l.at);
    map_free(&l.sites);
    map_free(&l.modules);
    arena_free(&l.names);
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
