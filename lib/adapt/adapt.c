/* Adapters: choosing sites, making parts, enabling, removing, merging.  Generic
 * over the methods' tables of parts. */
#include <math.h>
#include <stdio.h>

#include "adapt/io.h"

#define METHOD(name) extern const struct method method_##name;
#include "adapt/methods.def"
#undef METHOD
#define METHOD(name) &method_##name,
const struct method *const methods[] = {
#include "adapt/methods.def"
    NULL
};
#undef METHOD

const struct method *method_by_name(const char *name)
{
    for (int i = 0; methods[i]; i++)
        if (!strcmp(methods[i]->name, name)) return methods[i];
    return NULL;
}

int method_of_config(const json *config, const struct method **out)
{
    const char *type = json_string(json_get(config, "peft_type"));
    const struct method *plain = NULL;
    *out = NULL;
    for (int i = 0; methods[i] && type; i++) {
        if (strcmp(methods[i]->peft_type, type)) continue;
        const json *mark = methods[i]->mark ? json_get(config, methods[i]->mark) : NULL;
        if (mark && json_kind(mark) != JSON_BOOL && json_kind(mark) != JSON_NULL)
            return fail(PEFT_EFORMAT, "adapter_config.json: %s is %s, expected a boolean",
                        methods[i]->mark, json_kind_name(mark));
        if (!methods[i]->mark) plain = methods[i];
        else if (json_bool(json_get(config, methods[i]->mark), 0)) *out = methods[i];
    }
    if (!*out) *out = plain;
    if (*out) return PEFT_OK;
    return fail(PEFT_EUNSUPPORTED, "adapter_config.json: peft_type \"%s\", expected such as LORA",
                type ? type : "(none)");
}

struct adapter *adapter_find(const struct model *m, const char *name)
{
    for (struct adapter *a = m->adapters; a; a = a->next)
        if (!strcmp(a->name, name)) return a;
    return NULL;
}

int adapter_new(struct model *m, const char *name, const struct method *method,
                struct adapter **out)
{
    size_t n =
        name ? strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") : 0;
    if (!n || n > 64 || name[n])
        return fail(PEFT_EARG, "adapter name \"%s\", expected 1 to 64 letters, digits, '-' or '_'",
                    name ? name : "");
    if (adapter_find(m, name))
        return fail(PEFT_ESTATE, "the model has an adapter \"%s\" already", name);
    struct arena arena;
    arena_init(&arena, &m->host.mem);
    struct adapter *a = arena_alloc(&arena, sizeof(*a));
    char *kept = arena_strndup(&arena, name, (int64_t)n);
    if (!a || !kept) {
        arena_free(&arena);
        return PEFT_ENOMEM;
    }
    a->arena = arena;
    a->name = kept;
    a->method = method;
    a->rank = method->rank;
    a->weight = 1.0f;
    settings_default(a);
    *out = a;
    return PEFT_OK;
}

int adapter_room(struct model *m, struct adapter *a, int64_t n)
{
    a->sites = arena_alloc(&a->arena, n * (int64_t)sizeof(*a->sites));
    a->at = arena_alloc(&a->arena, (m->n_sites + 1) * (int64_t)sizeof(*a->at));
    if (!a->sites || !a->at) return PEFT_ENOMEM;
    a->n_at = m->n_sites + 1;
    return PEFT_OK;
}

static int64_t part_size(const struct site *s, int dim, int32_t rank)
{
    switch (dim) {
    case PART_IN: return s->w->cols;
    case PART_OUT: return s->w->rows;
    case PART_RANK: return rank;
    default: return 1;
    }
}

/* 0 = this module has no such part. */
static int part_shape(const struct adapted *d, int k, int64_t *rows, int64_t *cols)
{
    const struct part *part = &d->method->parts[k];
    if (!part->suffix || !(d->site->kind & (part->at ? part->at : SITE_LINEAR))) return 0;
    if ((part->flags & PART_IF_BIAS) && !d->adapter->bias) return 0;
    if ((part->flags & PART_START) && !d->adapter->shifts) return 0;
    *rows = part_size(d->site, part->rows, d->rank);
    *cols = part_size(d->site, part->cols, d->rank);
    if (d->method->shape) d->method->shape(d, k, rows, cols);
    return *rows > 0;
}

int adapter_common(struct model *m, struct adapter *a, int k, int64_t rows, int64_t cols)
{
    struct param *p = arena_alloc(&a->arena, sizeof(*p));
    if (!p) return PEFT_ENOMEM;
    *p = (struct param){ .name = a->method->common[k].suffix, .type = &qtype_f32,
                         .stored = &qtype_f32, .layer = -1, .n_dims = 2, .adapter = 1,
                         .rows = rows, .cols = cols };
    p->own = mem_zalloc(&m->host.mem, param_len(p) * 4);
    p->data = p->own;
    a->common[k] = p;
    return p->own ? PEFT_OK : PEFT_ENOMEM;
}

static struct param *make_part(struct model *m, const struct adapted *d, int k, int64_t rows,
                               int64_t cols)
{
    const struct part *part = &d->method->parts[k];
    const struct site *s = d->site;
    char name[240];
    int n = snprintf(name, sizeof(name), "%s.%s", s->name, part->suffix);
    struct param *p = arena_alloc(&d->adapter->arena, sizeof(*p));
    char *kept = arena_strndup(&d->adapter->arena, name, n);
    if (!p || !kept) return NULL;
    *p = (struct param){ .name = kept,
                         .type = &qtype_f32,
                         .stored = &qtype_f32,
                         .layer = s->layer,
                         .trainable = !(part->flags & PART_START),
                         .adapter = 1,
                         .states = d->method->states,
                         .counted = !(part->flags & PART_START) };
    p->rows = rows;
    p->cols = cols;
    p->n_dims = part->rows == PART_ONE && !(part->flags & PART_MATRIX) ? 1 : 2;
    p->turned = (part->flags & PART_TURNED) != 0;
    /* What runs along the outputs follows the order of W's rows. */
    if (part->rows == PART_OUT || (part->rows == PART_ONE && part->cols == PART_OUT))
        p->order = s->w->order;
    p->own = mem_zalloc(&m->host.mem, param_len(p) * 4);
    p->data = p->own;
    return p->own ? p : NULL;
}

int adapter_attach(struct model *m, struct adapted *d, struct adapter *owner, struct site *s,
                   int32_t rank, float alpha, const struct adapted *mate)
{
    return adapter_attach_as(m, d, owner->method, owner, s, rank, alpha, mate);
}

int adapter_attach_as(struct model *m, struct adapted *d, const struct method *method,
                      struct adapter *owner, struct site *s, int32_t rank, float alpha,
                      const struct adapted *mate)
{
    int64_t rows, cols;
    int twin = mate && mate->site != s && s == m->output;
    *d = (struct adapted){ .method = method, .adapter = owner, .site = s, .rank = rank,
                           .alpha = alpha };
    owner->at[s->index] = d;
    if (method->begin) {
        int rc = method->begin(m, d);
        if (rc) return rc;
    }
    for (int k = 0; k < PARTS; k++) {
        const struct part *part = &method->parts[k];
        if (twin && !(part->flags & PART_EACH)) {
            d->part[k] = mate->part[k];
            d->borrowed |= (uint8_t)(1u << k);
            continue;
        }
        if (!part_shape(d, k, &rows, &cols)) continue;
        if (mate && !twin && part->rows != PART_OUT && part->cols != PART_OUT) {
            d->part[k] = mate->part[k];
            d->borrowed |= (uint8_t)(1u << k);
            continue;
        }
        if (!(d->part[k] = make_part(m, d, k, rows, cols))) return PEFT_ENOMEM;
    }
    if (method->derive && !(d->derived = mem_array(&m->host.mem, method->derived_len(d), 4)))
        return PEFT_ENOMEM;
    if (method->set_scale) method->set_scale(d);
    return PEFT_OK;
}

int adapter_attach_twin(struct model *m, struct adapter *a, const struct adapted *mate)
{
    struct adapted *d = &a->sites[a->n_sites];
    int ties = a->ties || mate->method->puts_rows;
    if (!ties || !model_tied(m) || mate->site != m->global[SLOT_EMBED]) return PEFT_OK;
    a->n_sites++;
    int rc = adapter_attach_as(m, d, mate->method, a, m->output, mate->rank, mate->alpha, mate);
    d->index = mate->index;
    return rc ? rc : mate->method->init(m, d, a->seed, 0);
}

int adapter_targets(const char *targets, const char *name)
{
    size_t n = strlen(name);
    if (glob_match(targets, name)) return 1;
    for (const char *t = targets; *t;) {
        while (*t == ' ' || *t == ',') t++;
        size_t k = strcspn(t, ", ");
        if (k && k < n && name[n - k - 1] == '.' && !strncmp(name + n - k, t, k)) return 1;
        t += k;
    }
    return 0;
}

/* One that is kept tied is adapted as the embedding, by either name. */
static int wanted(const struct model *m, const struct adapter *a, const struct site *s,
                  const char *targets)
{
    const struct method *method = a->method;
    int tied = a->ties && (method->at & SITE_EMBED) && model_tied(m);
    if (method->virtual) return s->slot == SLOT_EMBED;
    if (!(s->kind & method->at) || method->puts_rows || (tied && s == m->output)) return 0;
    if (tied && s == m->global[SLOT_EMBED] && targets && adapter_targets(targets, m->output->name))
        return 1;
    if (targets && strcmp(targets, "all-linear"))
        return adapter_targets(targets, s->name) || adapter_targets(targets, s->peft_name);
    if (method->slots && !targets) return method->slots >> s->slot & 1;
    return !(s->flags & SLOT_HEAD) && (s->kind == SITE_LINEAR || method->at == s->kind);
}

int adapter_keep_module(struct model *m, struct adapter *a, struct param *p, float *values)
{
    for (int64_t i = 0; i < a->n_saved; i++)
        if (a->saved[i].p == p) return fail(PEFT_EFORMAT, "tensor %s is saved twice", p->name);
    struct saved_module *list = arena_alloc(&a->arena, (a->n_saved + 1) * (int64_t)sizeof(*list));
    if (!list) return PEFT_ENOMEM;
    if (a->n_saved) memcpy(list, a->saved, (size_t)a->n_saved * sizeof(*list));
    int apart = !a->ties && model_tied(m) && (p == m->output->w || p == m->untied);
    list[a->n_saved] = (struct saved_module){ .p = p, .mine = values, .apart = (uint8_t)apart };
    a->saved = list;
    a->n_saved++;
    return PEFT_OK;
}

static int keep_site(struct model *m, struct adapter *a, struct site *s)
{
    struct param *list[] = { s == m->output ? m->untied : s->w, s->b };
    for (int k = 0; k < 2; k++) {
        if (!list[k]) continue;
        float *values = mem_alloc(&m->host.mem, param_len(list[k]) * 4);
        if (!values) return PEFT_ENOMEM;
        qtype_expand(list[k]->type, values, list[k]->data, 0, param_len(list[k]));
        int rc = adapter_keep_module(m, a, list[k], values);
        if (rc) {
            mem_free(&m->host.mem, values);
            return rc;
        }
    }
    return PEFT_OK;
}

/* What the output layer of a tied model is when an adapter leaves it alone: the
 * embedding below the copies that are for the input only. */
static void untied_refresh(struct model *m)
{
    struct param *u = m->untied;
    if (!u || u->own) return;
    const struct param *e = m->global[SLOT_EMBED]->w;
    const struct saved_module *s = e->own ? copy_where(m, e, e->own, NULL) : NULL;
    u->data = e->data;
    u->type = e->type;
    for (; s && s->apart; s = s->old_own ? copy_where(m, e, s->old_own, NULL) : NULL) {
        u->data = s->old_data;
        u->type = s->old_type;
    }
}

/* Copies of the modules that train as a whole beside the adapter. */
static int keep_modules(struct model *m, struct adapter *a, const char *targets)
{
    int64_t hits = 0;
    struct site *s;
    untied_refresh(m);
    for (int64_t i = 0; (s = model_site(m, i)); i++) {
        int head = m->head && (s->flags & SLOT_OF_HEAD) && slot_with(s->row, m->kind);
        int tied = model_tied(m) && a->ties, both = tied && s == m->global[SLOT_EMBED];
        head = head || s->w->is_new;
        if (s == m->output && (tied || !model_tied(m))) continue;
        if (!head && !(targets && (adapter_targets(targets, s->name) ||
                                   (both && adapter_targets(targets, m->output->name)))))
            continue;
        hits += !head;
        int rc = keep_site(m, a, s);
        if (rc) return rc;
    }
    if (targets && !hits)
        return fail(PEFT_ENOTFOUND, "no module is called \"%s\" (modules_to_save)", targets);
    return PEFT_OK;
}

void put_module(struct saved_module *s)
{
    struct param *p = s->p;
    s->old_data = p->data;
    s->old_own = p->own;
    s->old_type = p->type;
    s->old_stored = p->stored;
    p->data = p->own = s->mine;
    p->type = p->stored = &qtype_f32;
}

void take_module(struct model *m, const struct saved_module *s)
{
    struct param *p = s->p;
    struct saved_module *above = copy_where(m, p, NULL, s->mine);
    if (above) {
        above->old_data = s->old_data;
        above->old_own = s->old_own;
        above->old_type = s->old_type;
        above->old_stored = s->old_stored;
    } else {
        p->data = s->old_data;
        p->own = s->old_own;
        p->type = s->old_type;
        p->stored = s->old_stored;
    }
}

/* The adapter's copy becomes the model's own values, below other adapters'. */
void give_module(struct model *m, const struct saved_module *s)
{
    struct param *p = s->p;
    struct saved_module *lowest = NULL, *next = copy_where(m, p, p->own, NULL);
    for (; next; next = copy_where(m, p, next->old_own, NULL)) lowest = next;
    mem_free(&m->host.mem, lowest ? lowest->old_own : p->own);
    if (lowest) {
        lowest->old_data = lowest->old_own = s->mine;
        lowest->old_type = lowest->old_stored = &qtype_f32;
    } else {
        p->data = p->own = s->mine;
        p->type = p->stored = &qtype_f32;
    }
}

static void output_refresh(struct model *m)
{
    const struct adapter *a;
    int apart = 0;
    if (!m->output) return;
    for (a = m->adapters; a; a = a->next)
        for (int64_t i = 0; a->enabled && i < a->n_saved; i++) apart |= a->saved[i].apart;
    m->output->w = apart ? m->untied : m->global[SLOT_EMBED]->w;
    untied_refresh(m);
}

void adapter_enable(struct model *m, struct adapter *a, int on)
{
    if (a->enabled == on) return;
    if (a->n_saved) m->edits++;
    untied_refresh(m);
    for (int64_t i = 0; i < a->n_saved; i++) {
        if (on) put_module(&a->saved[i]);
        else take_module(m, &a->saved[i]);
    }
    a->enabled = (uint8_t)on;
    output_refresh(m);
}

void adapter_link(struct model *m, struct adapter *a)
{
    struct adapter **end = &m->adapters;
    for (int64_t i = 0; !*end && i < m->n_params; i++) m->params[i]->trainable = 0;
    while (*end) end = &(*end)->next;
    *end = a;
    adapter_enable(m, a, 1);
    for (int64_t i = 0; i < a->n_saved; i++) {
        a->saved[i].was_trainable = a->saved[i].p->trainable;
        a->saved[i].p->trainable = 1;
    }
}

void adapter_drop(struct model *m, struct adapter *a)
{
    for (int64_t i = 0; i < a->n_sites; i++) adapted_free(m, &a->sites[i]);
    for (int k = 0; k < COMMON; k++)
        if (a->common[k]) mem_free(&m->host.mem, a->common[k]->own);
    for (int64_t i = 0; i < a->n_saved; i++) mem_free(&m->host.mem, a->saved[i].mine);
    struct arena arena = a->arena;
    arena_free(&arena);
}

/* Whether the module trains without the adapter that is being removed: it did
 * before, or another adapter keeps it too. */
static uint8_t keeps_module(struct model *m, struct saved_module *s)
{
    for (struct adapter *a = m->adapters; a; a = a->next)
        for (int64_t i = 0; i < a->n_saved; i++) {
            if (a->saved[i].p != s->p) continue;
            a->saved[i].was_trainable &= s->was_trainable;
            return 1;
        }
    return s->was_trainable;
}

void adapter_remove(struct model *m, struct adapter *a)
{
    struct adapter **at = &m->adapters;
    while (*at != a) at = &(*at)->next;
    *at = a->next;
    adapter_enable(m, a, 0);
    for (int64_t i = 0; i < a->n_saved; i++)
        a->saved[i].p->trainable = keeps_module(m, &a->saved[i]);
    adapter_drop(m, a);
}

/* Experts as one parameter; counts their modules, and attaches them if asked. */
static int add_fused(struct model *m, struct adapter *a, const char *targets, int attach,
                     int64_t *n)
{
    char name[200];
    int rc = PEFT_OK;
    for (const struct fused_row *row = fused_rows(m); targets && row->param; row++)
        for (int64_t l = 0; l < m->hp.layers && !rc; l++) {
            fused_name(row, l, name, sizeof(name));
            if (!adapter_targets(targets, name)) continue;
            *n += fused_sites(m, row);
            if (attach) rc = fused_attach(m, a, row, l, a->rank, a->alpha);
        }
    return rc;
}

static int is_attached(const struct adapter *a, int64_t n, const struct site *s)
{
    for (int64_t i = 0; i < n; i++)
        if (a->sites[i].site == s) return 1;
    return 0;
}

/* The options' values, over which the settings count. */
static int adapter_options(struct model *m, struct adapter *a, const peft_adapter_opts *o,
                           json **root)
{
    static const char *const starts[] = { "gaussian", "loftq", "pissa", "olora" };
    if (o->rank < 0 || o->rank > 1 << 16)
        return fail(PEFT_EARG, "rank %d, expected 1 to 65536", o->rank);
    if (!isfinite(o->alpha))
        return fail(PEFT_EARG, "alpha %g, expected a finite number", (double)o->alpha);
    if (!(o->dropout >= 0 && o->dropout < 1))
        return fail(PEFT_EARG, "dropout %g, expected 0 or more and below 1", (double)o->dropout);
    if (!(o->lr_ratio >= 0 && o->lr_ratio < 1e6f))
        return fail(PEFT_EARG, "lr_ratio %g, expected 0 or more", (double)o->lr_ratio);
    for (size_t i = 0; o->init && i < ARRAY_LEN(starts); i++)
        if (a->method->patterns == PATTERN_NUMBER && !strcmp(o->init, starts[i]))
            a->start = starts[i];
    if (o->init && !a->start && strcmp(o->init, "kaiming"))
        return fail(PEFT_EARG, "init \"%s\" of method %s, expected kaiming, or of LoRA gaussian, "
                    "pissa, olora, loftq (and eva by peft_adapter_init_eva)", o->init,
                    a->method->name);
    a->shifts = a->start && (a->start == starts[2] || a->start == starts[3]);
    int loftq = a->start == starts[1], random = !a->start || a->start == starts[0];
    if ((a->shifts && a->method->mark) || (loftq && strcmp(a->method->peft_type, "LORA")) ||
        (!random && o->target_parameters))
        return fail(PEFT_EARG, "init %s is of plain LoRA on linear layers", a->start);
    if (o->init_model && !loftq)
        return fail(PEFT_EARG, "init_model is given, which is of init loftq");
    if (o->rank && !a->method->rank)
        return fail(PEFT_EARG, "method %s has no rank", a->method->name);
    a->rank = o->rank ? o->rank : a->method->rank;
    a->alpha = o->alpha != 0 ? o->alpha : 2.0f * (float)a->rank;
    a->dropout = o->dropout;
    a->rslora = o->rslora >= 0;
    a->seed = o->seed;
    a->lr_ratio = o->lr_ratio;
    a->ties = 1;
    a->virtual.encodes = 1;
    if (a->method->virtual && o->targets)
        return fail(PEFT_EARG, "method %s has no targets", a->method->name);
    int rc = settings_parse(m, a, o->settings, root);
    if (!rc && o->trainable_tokens)
        rc = tokens_parse(m, a, o->trainable_tokens, a->method->puts_rows ? o->targets : NULL);
    a->default_names = !a->names;
    return rc;
}

/* The tensors that the modules share are as large as the largest needs. */
static int add_common(struct model *m, struct adapter *a, const char *targets)
{
    int64_t in = 0, out = 0;
    int rc = PEFT_OK;
    struct site *s;
    for (int64_t i = 0; (s = model_site(m, i)); i++) {
        if (!wanted(m, a, s, targets)) continue;
        in = MAX(in, s->w->cols);
        out = MAX(out, s->w->rows);
    }
    for (int k = 0; k < COMMON && a->method->common[k].suffix && !rc; k++) {
        int by_rank = a->method->common[k].rows == PART_RANK;
        rc = adapter_common(m, a, k, by_rank ? a->rank : out, by_rank ? in : a->rank);
        if (rc) return rc;
        /* Uniform with the variance 2 / columns (He et al. 2015). */
        struct param *p = a->common[k];
        float bound = sqrtf(6.0f / (float)p->cols);
        rng_fill_uniform(p->own, param_len(p), -bound, bound, a->seed,
                         rng_stream(RNG_INIT, (uint32_t)(2 * m->n_sites + k)));
    }
    return rc;
}

/* Makes the parts at the sites that are asked for. */
static int add_sites(struct model *m, struct adapter *a, const peft_adapter_opts *o,
                     const json *config, int64_t n)
{
    const struct method *method = a->method;
    int64_t n_fused = 0, i;
    struct site *s;
    int rc;
    if ((rc = adapter_room(m, a, n + 2 * a->n_tokens + 2))) return rc;
    if ((rc = add_common(m, a, o->targets))) return rc;
    rc = add_fused(m, a, o->target_parameters, 1, &n_fused);
    n_fused = a->n_sites;
    for (i = 0; i < n_fused && !rc; i++)
        if (!a->sites[i].borrowed)
            rc = method->init(m, &a->sites[i], a->seed,
                              rng_stream(RNG_INIT, (uint32_t)(m->n_sites + i)));
    for (i = 0; (s = model_site(m, i)) && !rc; i++) {
        int32_t rank;
        float alpha;
        if (!wanted(m, a, s, o->targets) || is_attached(a, n_fused, s)) continue;
        if (method->keeps) {
            rc = keep_site(m, a, s);
            continue;
        }
        a->turned |= s->w->turned;
        struct adapted *d = &a->sites[a->n_sites];
        if ((rc = settings_rank(a, config, s->name, s->peft_name, &rank, &alpha))) break;
        a->n_sites++;
        rc = adapter_attach(m, d, a, s, rank, alpha, NULL);
        if (!rc) rc = method->init(m, d, a->seed, rng_stream(RNG_INIT, (uint32_t)i));
        if (!rc) rc = adapter_attach_twin(m, a, d);
    }
    return rc;
}

int adapter_add(struct model *m, const char *name, const peft_adapter_opts *o)
{
    const struct method *method = method_by_name(o->method ? o->method : "lora");
    int64_t n = 0, n_fused = 0, i;
    struct adapter *a = NULL;
    struct site *s;
    json *config = NULL;
    if (!method)
        return fail(PEFT_EUNSUPPORTED, "adapter method \"%s\", expected such as lora (peft_list "
                    "\"methods\")", o->method);
    int rc = adapter_new(m, name, method, &a);
    if (!rc) rc = adapter_options(m, a, o, &config);
    if (!rc) {
        add_fused(m, a, o->target_parameters, 0, &n_fused);
        if (o->target_parameters && !n_fused)
            rc = fail(PEFT_ENOTFOUND, "no parameter of experts is called \"%s\", expected such as "
                      "\"mlp.experts.gate_up_proj\" in a mixture", o->target_parameters);
    }
    for (i = 0; (s = model_site(m, i)) && !rc; i++) n += wanted(m, a, s, o->targets);
    if (!rc && method->puts_rows && !a->n_tokens)
        rc = fail(PEFT_EARG, "method %s without tokens, expected trainable_tokens", method->name);
    if (!rc && !n && !n_fused && !method->puts_rows)
        rc = fail(PEFT_ENOTFOUND,
                  "no layer for method %s is called \"%s\"; this model has layers such as \"%s\"",
                  method->name, o->targets ? o->targets : "", m->layers[0].at[SLOT_O]->name);
    if (!rc && a->start && !strcmp(a->start, "loftq"))
        rc = loftq_open(m, o->init_model, &a->floats);
    if (!rc) rc = add_sites(m, a, o, config, n + n_fused);
    if (a) {
        model_free(a->floats);
        a->floats = NULL;
    }
    if (!rc) rc = keep_modules(m, a, o->modules_to_save);
    if (!rc) rc = tokens_attach(m, a);
    if (!rc) adapter_link(m, a);
    else if (a) adapter_drop(m, a);
    if (!rc) a->born = card_weights(a);
    json_free(config);
    return rc;
}
