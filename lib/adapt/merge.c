/* Folding adapters into weights: for good, or so that it can be taken back. */
#include "adapt/io.h"

/* All memory before anything changes, so that a failure leaves every weight as it was. */
static int own_weights(struct model *m, const struct adapter *a)
{
    int rc = PEFT_OK, biases = a->bias || a->method->turns_bias;
    for (int64_t i = 0; i < a->n_sites && !rc; i++) {
        struct site *s = a->sites[i].site;
        rc = param_own(m, s->w);
        if (!rc && biases && s->b) rc = param_own(m, s->b);
    }
    return rc;
}

/* The output layer whose embedding is adapted: merging that one does for both,
 * unless it has parts of its own. */
static int is_merged_twin(const struct model *m, const struct adapter *a, int64_t i)
{
    const struct adapted *d = &a->sites[i];
    for (int k = 0; k < PARTS; k++)
        if (adapted_owns(d, k)) return 0;
    return d->site == m->output;
}

static int merges_tied(const struct model *m, const struct adapter *a, int64_t i)
{
    return i + 1 < a->n_sites && is_merged_twin(m, a, i + 1);
}

static int can_merge(const struct model *m, const struct adapter *a)
{
    if (!a->method->merge && !a->method->keeps)
        return fail(PEFT_EUNSUPPORTED, "method %s cannot be merged", a->method->name);
    for (int64_t i = 0; i < a->n_sites; i++) {
        const struct site *s = a->sites[i].site;
        if (is_merged_twin(m, a, i)) continue;
        if (a->bias && !s->b && a->sites[i].method == a->method)
            return fail(PEFT_EUNSUPPORTED,
                        "the adapter has a bias for %s, which has none, so it cannot be merged",
                        s->name);
        if (s == m->output || (adapter_is_shared(m, s->w) && !merges_tied(m, a, i)))
            return fail(PEFT_EUNSUPPORTED, "%s is the %s too, which the adapter does not change in "
                        "the same way, so it cannot be merged", s->w->name,
                        s == m->output ? "input embedding" : "output layer");
    }
    for (int64_t i = 0; i < a->n_saved; i++)
        if (a->saved[i].apart)
            return fail(PEFT_EUNSUPPORTED, "the adapter parts the embedding from the output layer, "
                        "which are one tensor in this model, so it cannot be merged; "
                        "ensure_weight_tying keeps them tied");
    return PEFT_OK;
}

static float *float_copy(struct model *m, const struct param *p)
{
    float *x = mem_alloc(&m->host.mem, param_len(p) * 4);
    if (x) qtype_expand(p->type, x, p->data, 0, param_len(p));
    return x;
}

static int merged_finite(struct model *m, const struct adapter *a, const struct param *p,
                         const float *x)
{
    if (!x || m->compute.k->finite(x, param_len(p))) return PEFT_OK;
    return fail(PEFT_ENONFINITE, "%s would not be finite with \"%s\" in it", p->name, a->name);
}

/* Copies of a module's weight and bias, with the adapter in them; *b NULL = unchanged.
 * Also after an error they are the caller's. */
static int merged_copies(struct model *m, struct adapter *a, struct adapted *d, float **w,
                         float **b)
{
    struct site *s = d->site;
    int biases = (a->bias || a->method->turns_bias) && s->b;
    *w = float_copy(m, s->w);
    *b = biases ? float_copy(m, s->b) : NULL;
    if (!*w || (biases && !*b)) return PEFT_ENOMEM;
    int rc = d->method->derive ? d->method->derive(m, d) : PEFT_OK;
    if (rc) return rc;
    d->method->merge(m, d, *w, *b);
    rc = merged_finite(m, a, s->w, *w);
    return rc ? rc : merged_finite(m, a, s->b, *b);
}

/* Whether every weight stays finite, one module after the other. */
static int check_merged(struct model *m, struct adapter *a)
{
    int rc = PEFT_OK;
    for (int64_t i = 0; i < a->n_saved && !rc; i++)
        rc = merged_finite(m, a, a->saved[i].p, a->saved[i].mine);
    for (int64_t i = 0; i < a->n_sites && !rc; i++) {
        float *w, *b;
        if (is_merged_twin(m, a, i)) continue;
        rc = merged_copies(m, a, &a->sites[i], &w, &b);
        mem_free(&m->host.mem, w);
        mem_free(&m->host.mem, b);
    }
    return rc;
}

int adapter_merge(struct model *m, struct adapter *a)
{
    int rc = can_merge(m, a), enabled = a->enabled, biases = a->bias || a->method->turns_bias;
    if (rc) return rc;
    adapter_enable(m, a, 1);
    rc = check_merged(m, a);
    if (!rc) rc = own_weights(m, a);
    if (rc) {
        adapter_enable(m, a, enabled);
        return rc;
    }
    for (int64_t i = 0; i < a->n_sites; i++) {
        struct site *s = a->sites[i].site;
        if (is_merged_twin(m, a, i)) continue;
        a->sites[i].method->merge(m, &a->sites[i], s->w->own, biases && s->b ? s->b->own : NULL);
    }
    m->edits++;
    adapter_enable(m, a, 0);
    for (int64_t i = 0; i < a->n_saved; i++) give_module(m, &a->saved[i]);
    a->n_saved = 0;
    adapter_remove(m, a);
    return PEFT_OK;
}

/* --- for a while: the weights with the adapter in them are copies above the
 * model's own values, which come back bit for bit. */

static int unmerge(struct model *m, struct adapter *a)
{
    for (int64_t i = 0; i < a->n_merged; i++)
        if (a->merged[i].p->own != a->merged[i].mine)
            return fail(PEFT_ESTATE, "%s has been changed since \"%s\" was merged: take that back "
                        "first", a->merged[i].p->name, a->name);
    for (int64_t i = 0; i < a->n_merged; i++) {
        take_module(m, &a->merged[i]);
        mem_free(&m->host.mem, a->merged[i].mine);
    }
    a->n_merged = 0;
    m->edits++;
    return PEFT_OK;
}

static int merge_site(struct model *m, struct adapter *a, struct adapted *d,
                      struct saved_module *to, int64_t *n)
{
    float *w, *b;
    int rc = merged_copies(m, a, d, &w, &b);
    to[(*n)++] = (struct saved_module){ .p = d->site->w, .mine = w };
    if (b) to[(*n)++] = (struct saved_module){ .p = d->site->b, .mine = b };
    return rc;
}

int adapter_set_merged(struct model *m, struct adapter *a, int on)
{
    int64_t n = 0, i;
    int enabled = a->enabled;
    if (!on || a->n_merged) return on ? PEFT_OK : unmerge(m, a);
    int rc = can_merge(m, a);
    if (rc) return rc;
    if (!a->method->merge)
        return fail(PEFT_EUNSUPPORTED, "method %s is in the weights already", a->method->name);
    for (const struct adapter *o = m->adapters; o; o = o->next)
        for (i = 0; o != a && o->enabled && !o->n_merged && i < a->n_sites; i++) {
            const struct adapted *d = adapted_at(o, a->sites[i].site);
            if (d && d->method->derive)
                return fail(PEFT_ESTATE, "\"%s\" depends on %s, which merging would change: "
                            "disable it first", o->name, a->sites[i].site->name);
        }
    struct saved_module *list = arena_alloc(&a->arena, 2 * a->n_sites * (int64_t)sizeof(*list));
    if (!list) return PEFT_ENOMEM;
    adapter_enable(m, a, 1);
    for (i = 0; i < a->n_sites && !rc; i++)
        if (!is_merged_twin(m, a, i)) rc = merge_site(m, a, &a->sites[i], list, &n);
    for (i = 0; i < n; i++) {
        if (rc) mem_free(&m->host.mem, list[i].mine);
        else put_module(&list[i]);
    }
    if (rc) {
        adapter_enable(m, a, enabled);
        return rc;
    }
    a->merged = list;
    a->n_merged = n;
    m->edits++;
    return PEFT_OK;
}

int adapter_set_weight(struct adapter *a, float weight)
{
    if (!a->method->set_scale)
        return fail(PEFT_EUNSUPPORTED, "method %s has no weight, as it does not add to the layers",
                    a->method->name);
    a->weight = weight;
    for (int64_t i = 0; i < a->n_sites; i++) {
        if (a->sites[i].method->set_scale) a->sites[i].method->set_scale(&a->sites[i]);
        a->sites[i].derived_at = 0;
    }
    return PEFT_OK;
}
