/* LoRA in files that are not PEFT's: one tensor for A and one for B of each module,
 * under the module's name in that format.  What differs is in the format's row:
 *          module                           A          B          scale of B A x
 *   PEFT   model.layers.0.self_attn.q_proj  [r, in]    [out, r]   lora_alpha / r, by modules
 *   GGUF   blk.0.attn_q                     [r, in]    [out, r]   alpha / (r of this tensor)
 *   MLX    model.layers.0.self_attn.q_proj  [in, r]    [r, out]   scale
 * Of embeddings A is [vocab, r] in both; experts are one module a layer with
 * A [experts, r, in] and B [experts, out, r].
 *
 * A file has one alpha or scale, which is that of a module with the adapter's own rank
 * and alpha: B of the others is multiplied by what theirs is of it.  Where a format has
 * one rank for all modules, zeros fill up the smaller ones; so within layers of experts. */
#include <math.h>
#include <stdio.h>

#include "adapt/io.h"

/* Parts of LoRA and DoRA. */
enum { FOREIGN_A, FOREIGN_B, FOREIGN_M, FOREIGN_EMBED = 3 };

/* --- in */

int foreign_begin(struct load *l)
{
    struct model *m = l->m;
    char name[200];
    for (int64_t i = 0; i < m->n_sites; i++) {
        if (m->sites[i]->expert > 0) continue;
        if (!l->format->module(m, m->sites[i], name, sizeof(name))) continue;
        char *kept = arena_strndup(&l->names, name, (int64_t)strlen(name));
        if (!kept || map_add(&l->modules, kept, (int64_t)strlen(kept), i) < 0) return PEFT_ENOMEM;
    }
    return PEFT_OK;
}

/* PEFT's ending for a tensor of a module. */
static const char *foreign_part(const struct site *s, int k)
{
    static const char *const names[2][3] = {
        { "lora_A.weight", "lora_B.weight", "lora_magnitude_vector" },
        { "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector" }
    };
    return names[s->kind == SITE_EMBED][k];
}

/* What of the module runs along A's columns and B's rows. */
static int64_t foreign_side(const struct site *s, int k)
{
    return (s->kind == SITE_EMBED) == (k == FOREIGN_A) ? s->w->rows : s->w->cols;
}

/* The rank of the module whose k-th tensor is t, after its shape was checked. */
static int foreign_rank(struct load *l, const struct store_tensor *t, const struct site *s, int k,
                        int64_t *rank)
{
    int stack = s->expert >= 0, turned = !stack && l->format->turned[k][s->kind == SITE_EMBED];
    int along = (k == FOREIGN_A) == turned;             /* the dimension that is the rank */
    int64_t side = foreign_side(s, k), experts = l->m->hp.experts;
    if (t->n_dims != 2 + stack || (stack && t->dims[0] != experts) ||
        t->dims[stack + !along] != side)
        return fail(PEFT_EFORMAT, "tensor %s is [%lld, %lld, %lld, %lld] (%d dimensions), expected "
                    "%d dimensions with %lld in the %s", t->name, (long long)t->dims[0],
                    (long long)t->dims[1], (long long)t->dims[2], (long long)t->dims[3],
                    (int)t->n_dims, 2 + stack, (long long)side,
                    along ? "last but one" : "last");
    *rank = t->dims[stack + along];
    if (*rank < 1 || *rank > 1 << 16)
        return fail(PEFT_EFORMAT, "tensor %s is of rank %lld, expected 1 to 65536", t->name,
                    (long long)*rank);
    return PEFT_OK;
}

/* One matrix of t as PEFT has it: its transpose, or its rows in another order. */
static void foreign_read(const struct model *m, const struct store_tensor *t, int64_t first,
                         int turned, int order, float *row, float *to)
{
    int64_t rows = t->dims[t->n_dims - 2], cols = t->dims[t->n_dims - 1];
    for (int64_t i = 0; i < rows; i++) {
        float *at = turned ? row : to + row_in_hf(&m->hp, order, i) * cols;
        qtype_expand(t->type, at, t->data, (first * rows + i) * cols, cols);
        for (int64_t j = 0; j < cols && turned; j++) to[j * rows + i] = row[j];
    }
}

/* Gives the tensor as PEFT's, one of each expert. */
static int foreign_matrix(struct load *l, const struct store_tensor *t, const struct site *s, int k)
{
    struct model *m = l->m;
    int stack = s->expert >= 0, turned = !stack && l->format->turned[k][s->kind == SITE_EMBED];
    int order = l->format->ordered && k == FOREIGN_B ? slot_order(m->arch, s->row) : ROWS_PLAIN;
    int64_t rows = t->dims[stack], cols = t->dims[stack + 1];
    struct store_tensor one = { .name = t->name, .type = &qtype_f32, .n_dims = 2,
                                .dims = { turned ? cols : rows, turned ? rows : cols },
                                .count = rows * cols, .bytes = rows * cols * 4 };
    char name[300];
    float *values = mem_array(&m->host.mem, one.count + cols, 4);
    int rc = values ? PEFT_OK : PEFT_ENOMEM;
    one.data = values;
    for (int64_t e = 0; e < (stack ? m->hp.experts : 1) && !rc; e++) {
        if (stack) s = m->layers[s->layer].experts[e].at[s->slot - SLOT_EXPERT];
        foreign_read(m, t, e, turned, order, values + one.count, values);
        snprintf(name, sizeof(name), "%s.%s", s->name, foreign_part(s, k));
        rc = load_named(l, &one, name);
    }
    mem_free(&m->host.mem, values);
    return rc;
}

/* The first module's rank and alpha are the adapter's, as far as it has any. */
static void foreign_scale(struct load *l, int64_t rank)
{
    l->rank = (int32_t)rank;
    l->alpha = l->scale != 0 ? (float)(l->scale * (double)rank) : l->a->alpha;
    if (l->a->n_sites) return;
    l->a->rank = l->rank;
    l->a->alpha = l->alpha;
}

/* Embeddings that are the output layer too: PEFT's adapter leaves that as it was,
 * and what other formats are made for changes both, or fails. */
static int foreign_tied(const struct model *m, const struct adapter_format *f, const struct site *s)
{
    if (s->kind != SITE_EMBED || !adapter_is_shared(m, s->w)) return PEFT_OK;
    return fail(PEFT_EUNSUPPORTED, "%s is the output layer too, which adapters of the format %s "
                "cannot tell apart: merge it (peft_adapter_merge), or use peft", s->name, f->name);
}

static int foreign_factor(struct load *l, const struct store_tensor *t, const struct site *s, int k)
{
    char name[300];
    int64_t rank = 0;
    const struct store_tensor *a = t;
    if (k == FOREIGN_M) {
        size_t n = strlen(t->name) - strlen(l->format->endings[k]);
        snprintf(name, sizeof(name), "%.*s%s", (int)n, t->name, l->format->endings[FOREIGN_A]);
        if (!(a = store_find(l->st, name)))
            return fail(PEFT_EFORMAT, "tensor %s is there and %s is not", t->name, name);
    }
    int rc = foreign_tied(l->m, l->format, s);
    if (!rc) rc = foreign_rank(l, a, s, k == FOREIGN_M ? FOREIGN_A : k, &rank);
    if (rc) return rc;
    if (!t->type->to_f32 || a->type->flat || t->type->flat)
        return fail(PEFT_EUNSUPPORTED, "tensor %s has type %s, expected floats", t->name,
                    t->type->name);
    foreign_scale(l, rank);
    if (k != FOREIGN_M) return foreign_matrix(l, t, s, k);
    snprintf(name, sizeof(name), "%s.%s", s->name, foreign_part(s, k));
    return load_named(l, t, name);
}

/* A tensor of the model that is there whole, which PEFT holds as [in, out] in some
 * families. */
static int foreign_whole(struct load *l, const struct store_tensor *t, const char *name)
{
    const struct param *p = load_find_param(l, name);
    struct store_tensor other = *t;
    if (!p || !p->turned || t->n_dims != 2 || !t->type->is_float) return load_named(l, t, name);
    float *values = mem_array(&l->m->host.mem, t->count + t->dims[1], 4);
    if (!values) return PEFT_ENOMEM;
    foreign_read(l->m, t, 0, 1, ROWS_PLAIN, values + t->count, values);
    other.type = &qtype_f32;
    other.data = values;
    other.dims[0] = t->dims[1];
    other.dims[1] = t->dims[0];
    int rc = load_named(l, &other, name);
    mem_free(&l->m->host.mem, values);
    return rc;
}

int foreign_give(struct load *l, const struct store_tensor *t)
{
    const char *dot = strrchr(t->name, '.');
    size_t n = strlen(t->name);
    char name[300];
    for (int k = 0; k < 3; k++) {
        const char *ending = l->format->endings[k];
        size_t len = ending ? strlen(ending) : n;
        if (len >= n || strcmp(t->name + n - len, ending)) continue;
        int64_t i = map_get(&l->modules, t->name, (int64_t)(n - len), -1);
        if (i >= 0) return foreign_factor(l, t, l->m->sites[i], k);
    }
    int64_t i = dot ? map_get(&l->modules, t->name, dot - t->name, -1) : -1;
    if (i < 0 || !l->format->whole || l->m->sites[i]->expert >= 0)
        return fail(PEFT_EFORMAT, "tensor %s fits no module of this model (%s)", t->name,
                    l->m->name);
    snprintf(name, sizeof(name), "%s%s", l->m->sites[i]->name, dot);
    return foreign_whole(l, t, name);
}

/* --- out */

/* The site of the e-th expert beside s. */
static const struct site *foreign_expert(const struct model *m, const struct site *s, int64_t e)
{
    return s->expert < 0 ? s : m->layers[s->layer].experts[e].at[s->slot - SLOT_EXPERT];
}

static int32_t foreign_width(const struct adapted *d)
{
    return d ? d->rank * (d->adapter->shifts ? 2 : 1) : 0;
}

static double foreign_factor_of(const struct adapted *d)
{
    return (double)d->alpha / (d->adapter->rslora ? sqrt(d->rank) : d->rank);
}

/* Columns of A or rows of B, along the rank, times `by` to [rank, side] or [side, rank]. */
static void foreign_put(const struct adapter_out *o, const struct adapted *d, int k,
                        const float *from, float by, int64_t at, int64_t rank, float *to)
{
    const struct site *s = d->site;
    const struct param *p = d->part[k + (s->kind == SITE_EMBED ? FOREIGN_EMBED : 0)];
    int turned = s->expert < 0 && o->format->turned[k][s->kind == SITE_EMBED];
    int order = o->format->ordered && k == FOREIGN_B ? slot_order(o->m->arch, s->row) : ROWS_PLAIN;
    int64_t side = foreign_side(s, k);
    for (int64_t i = 0; i < side; i++)
        for (int64_t r = 0; r < d->rank; r++) {
            int64_t row = k == FOREIGN_A ? r : i, col = k == FOREIGN_A ? i : r, mine = row;
            if (p->order && !order) mine = param_row(o->m, p, row);
            else if (order && !p->order) mine = row_in_hf(&o->m->hp, order, row);
            float x = p->turned ? from[col * p->cols + mine] : from[mine * p->cols + col];
            int by_rank = (k == FOREIGN_A) != turned;
            to[by_rank ? (r + at) * side + i : i * rank + r + at] = x * by;
        }
}

static int foreign_tensor(struct adapter_out *o, const char *module, const char *ending,
                          struct store_out t, const float *values)
{
    size_t n = strlen(module) + strlen(ending) + 1;
    char *name = arena_alloc(&o->t, (int64_t)n);
    if (!name) return PEFT_ENOMEM;
    snprintf(name, n, "%s%s", module, ending);
    t.name = name;
    t.type = &qtype_f32;
    t.data = values;
    o->out[o->n++] = t;
    return PEFT_OK;
}

/* A or B of the module, or of its layer's experts. */
static int foreign_add(struct adapter_out *o, const struct site *s, const char *module, int k,
                       int32_t rank)
{
    int stack = s->expert >= 0, turned = !stack && o->format->turned[k][s->kind == SITE_EMBED];
    int64_t side = foreign_side(s, k), experts = stack ? o->m->hp.experts : 1;
    float *values = arena_alloc(&o->t, experts * side * rank * 4);
    double scale = o->format->one_rank ? o->scale : o->scale * o->rank / rank;
    struct store_out t = { .n_dims = 2 + stack, .dims = { experts } };
    int by_rank = (k == FOREIGN_A) != turned;
    if (!values) return PEFT_ENOMEM;
    t.dims[stack] = by_rank ? rank : side;
    t.dims[stack + 1] = by_rank ? side : rank;
    for (int64_t e = 0; e < experts; e++) {
        const struct adapted *d = adapted_at(o->a, foreign_expert(o->m, s, e));
        if (!d) continue;
        int at = k + (s->kind == SITE_EMBED ? FOREIGN_EMBED : 0);
        double by = k == FOREIGN_B ? foreign_factor_of(d) / scale : 1;
        float f = fabs(by - 1) < 1e-6 ? 1.0f : (float)by;
        float *to = values + e * side * rank;
        foreign_put(o, d, k, d->part[at]->own, f, 0, rank, to);
        if (d->adapter->shifts)
            foreign_put(o, d, k, d->part[at + START]->own, k == FOREIGN_B ? -f : 1, d->rank, rank,
                        to);
    }
    return foreign_tensor(o, module, o->format->endings[k], t, values);
}

static int foreign_module(struct adapter_out *o, const struct adapted *d)
{
    const struct site *s = d->site;
    const struct model *m = o->m;
    char module[200];
    int32_t rank = o->format->one_rank ? o->rank : foreign_width(d);
    for (int64_t e = 0; s->expert >= 0 && e < m->hp.experts; e++) {
        const struct adapted *other = adapted_at(o->a, foreign_expert(m, s, e));
        if (other && e < s->expert) return PEFT_OK;     /* with the first one */
        if (!o->format->one_rank) rank = MAX(rank, foreign_width(other));
    }
    if (!o->format->module(m, s, module, sizeof(module)))
        return fail(PEFT_EUNSUPPORTED, "the format %s has no name for %s: merge the adapter "
                    "(peft_adapter_merge), or save it as peft", o->format->name, s->name);
    int rc = foreign_tied(m, o->format, s);
    if (!rc) rc = foreign_add(o, s, module, FOREIGN_A, rank);
    if (!rc) rc = foreign_add(o, s, module, FOREIGN_B, rank);
    const struct param *p = d->part[FOREIGN_M];
    if (rc || s->kind == SITE_EMBED || !p) return rc;
    struct store_out t = { .n_dims = 1, .dims = { p->cols } };
    float *values = arena_alloc(&o->t, p->cols * 4);
    if (!values) return PEFT_ENOMEM;
    param_read(m, p, values);
    return foreign_tensor(o, module, o->format->endings[FOREIGN_M], t, values);
}

/* Modules that are kept whole. */
static int foreign_saved(struct adapter_out *o, const struct saved_module *saved)
{
    const struct model *m = o->m;
    const struct site *s = NULL;
    char module[200];
    for (int64_t i = 0; i < m->n_sites && !s; i++)
        if (m->sites[i]->w == saved->p || m->sites[i]->b == saved->p) s = m->sites[i];
    if (!s || s->expert >= 0 || !o->format->module(m, s, module, sizeof(module)))
        return fail(PEFT_EUNSUPPORTED, "the format %s cannot hold %s whole: save it as peft",
                    o->format->name, saved->p->name);
    struct param now = *saved->p;
    float *values = arena_alloc(&o->t, param_len(&now) * 4);
    if (!values) return PEFT_ENOMEM;
    now.data = saved->mine;
    now.type = &qtype_f32;
    now.turned = 0;
    param_read(m, &now, values);
    struct store_out t = { .n_dims = now.n_dims,
                           .dims = { now.n_dims == 1 ? now.cols : now.rows, now.cols } };
    return foreign_tensor(o, module, strrchr(now.name, '.'), t, values);
}

/* PEFT_EUNSUPPORTED where the format has no words for the adapter. */
static int foreign_check(const struct adapter_out *o)
{
    const struct adapter_format *f = o->format;
    const struct adapter *a = o->a;
    const char *what = NULL, *of = "";
    int known = 0;
    for (size_t i = 0; i < ARRAY_LEN(f->methods); i++)
        known |= f->methods[i] && !strcmp(a->method->name, f->methods[i]);
    if (!known) {
        what = "method ";
        of = a->method->name;
    } else if (a->bias) {
        what = "lora_bias";
    } else if (a->n_saved && !f->whole) {
        what = "modules_to_save, here ";
        of = a->saved[0].p->name;
    } else if (o->m->head) {
        what = "classification heads";
    }
    if (!what && !a->n_sites && !a->n_saved) what = "adapters without modules";
    if (!what) return PEFT_OK;
    return fail(PEFT_EUNSUPPORTED, "the format %s has no words for %s%s: merge the adapter "
                "(peft_adapter_merge) and save the model, or save it as peft", f->name, what, of);
}

int foreign_collect(struct adapter_out *o)
{
    const struct adapter *a = o->a;
    int rc = foreign_check(o);
    if (rc) return rc;
    o->out = arena_alloc(&o->t, (3 * a->n_sites + a->n_saved) * (int64_t)sizeof(*o->out));
    if (!o->out) return PEFT_ENOMEM;
    const struct adapted *common = a->n_sites ? &a->sites[0] : NULL;
    for (int64_t i = a->n_sites - 1; i >= 0; i--)
        if (a->sites[i].rank == a->rank && a->sites[i].alpha == a->alpha) common = &a->sites[i];
    o->rank = common ? foreign_width(common) : 1;
    o->scale = common ? foreign_factor_of(common) : 1;
    /* llama.cpp takes alpha 0 for a scale of 1. */
    if (o->scale == 0) o->scale = 1;
    for (int64_t i = 0; i < a->n_sites && o->format->one_rank; i++)
        o->rank = MAX(o->rank, foreign_width(&a->sites[i]));
    for (int64_t i = 0; i < a->n_sites && !rc; i++) rc = foreign_module(o, &a->sites[i]);
    for (int64_t i = 0; i < a->n_saved && !rc; i++) rc = foreign_saved(o, &a->saved[i]);
    return rc;
}
