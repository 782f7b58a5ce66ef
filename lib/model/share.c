/* Which adapters act on which rows of a pass: on all those that are enabled, or
 * on each text one of its own.  Texts next to each other with the same ones are a
 * share; the base is multiplied once with all rows, adapters with those of theirs.
 * A copy that an adapter has of a module (modules_to_save, norms) counts in its
 * shares alone, where the others have what lies below the copies. */
#include "graph/op.h"
#include "model/model.h"

const struct adapter adapter_base = { .name = "" };

void shares_free(struct mem *mem, struct share_mem *s)
{
    mem_free(mem, s->enabled);
    mem_free(mem, s->share);
    mem_free(mem, s->cut);
}

static int reserve(struct mem *mem, struct share_mem *s, int64_t shares, int64_t adapters)
{
    if (adapters > s->cap_enabled) {
        mem_free(mem, s->enabled);
        s->cap_enabled = 0;
        s->enabled = mem_array(mem, adapters, sizeof(*s->enabled));
        if (!s->enabled) return PEFT_ENOMEM;
        s->cap_enabled = adapters;
    }
    if (shares > s->cap) {
        mem_free(mem, s->share);
        mem_free(mem, s->cut);
        s->cap = 0;
        s->share = mem_array(mem, shares, sizeof(*s->share));
        s->cut = mem_array(mem, shares + 1, ROWS_KINDS * sizeof(*s->cut));
        if (!s->share || !s->cut) return PEFT_ENOMEM;
        s->cap = shares;
    }
    return PEFT_OK;
}

/* The output layer is the embedding or not for all rows. */
static int check_apart(const struct adapter *a)
{
    for (int64_t i = 0; i < a->n_saved; i++)
        if (a->saved[i].apart)
            return fail(PEFT_EUNSUPPORTED, "\"%s\" parts the embedding from the output layer, so "
                        "it cannot be one text's alone", a->name);
    return PEFT_OK;
}

/* What was folded into the weights acts on all rows. */
static int check_acts(struct pass *p)
{
    int rc = PEFT_OK;
    p->copies = 0;
    for (const struct adapter *a = p->m->adapters; a && !rc; a = a->next) {
        p->copies |= a->enabled && (a->n_saved || a->n_merged);
        if (a->enabled) rc = check_apart(a);
    }
    if (rc) return rc;
    for (int64_t s = 0; s < p->n_seq; s++) {
        const struct adapter *a = p->acts[s];
        if (a && a->n_merged)
            return fail(PEFT_EUNSUPPORTED, "\"%s\" is in the weights, so it cannot be one text's "
                        "alone: expected peft_adapter_set_merged before", a->name);
        if (a && (rc = check_apart(a))) return rc;
        p->copies |= a && a->n_saved;
    }
    return PEFT_OK;
}

static void begin_share(struct pass *p, struct share *to, int64_t seq, const struct share *enabled)
{
    const struct adapter *const *one = p->acts ? p->acts + seq : NULL;
    *to = one && *one ? (struct share){ one, *one != &adapter_base } : *enabled;
}

/* The shares of one stack's sequences, and where their rows begin in what has rows
 * of its tokens, one row for each text, or one for each patch. */
static int64_t fill_shares(struct pass *p, int which, int64_t first, const struct share *enabled)
{
    const struct stream *s = &p->stream[which];
    struct shares *tokens = &p->rows[which == STACK_ENCODER ? ROWS_SOURCE : ROWS_MAIN];
    struct shares *texts = &p->rows[ROWS_TEXTS], *patches = &p->rows[ROWS_PATCHES];
    int64_t n = 0, end = s->seq + s->n_seq;
    for (int64_t q = s->seq; q <= end; q++) {
        int same = n && (!p->acts || (q < end && p->acts[q] == p->acts[q - 1]));
        if (same && q < end) continue;
        tokens->cut[n] = p->start[q] - (int32_t)s->first;
        texts->cut[n] = (int32_t)(q - s->seq);
        patches->cut[n] = p->start[q] - (int32_t)q;
        if (q < end) begin_share(p, &p->share->share[first + n++], q, enabled);
    }
    tokens->at = texts->at = patches->at = p->share->share + first;
    tokens->n = texts->n = patches->n = n;
    return n;
}

int shares_begin(struct pass *p, struct share_mem *s)
{
    int64_t all = 0, n = 0, shares = p->acts ? p->n_seq : STACKS;
    for (const struct adapter *a = p->m->adapters; a; a = a->next) all++;
    int rc = reserve(&p->m->host.mem, s, shares, all);
    p->copies = 0;
    if (!rc && p->acts) rc = check_acts(p);
    if (rc) return rc;
    for (const struct adapter *a = p->m->adapters; a; a = a->next)
        if (a->enabled && !a->n_merged) s->enabled[n++] = a;
    struct share enabled = { s->enabled, n };
    p->share = s;
    for (int k = 0; k < ROWS_KINDS; k++)
        p->rows[k] = (struct shares){ .cut = s->cut + k * (s->cap + 1) };
    n = p->n_source ? fill_shares(p, STACK_ENCODER, 0, &enabled) : 0;
    fill_shares(p, STACK_MAIN, n, &enabled);
    p->shares = &p->rows[ROWS_MAIN];
    return PEFT_OK;
}

/* The model's own values lie below the copies of enabled adapters. */
static const void *values_in(const struct pass *p, int64_t k, const struct param *q,
                             const struct qtype **type)
{
    const struct share *share = &p->shares->at[k];
    const void *data = q->data;
    *type = q->type;
    if (share->list == p->share->enabled) return data;
    for (int64_t i = 0; share->n && i < share->list[0]->n_saved; i++)
        if (share->list[0]->saved[i].p == q) {
            *type = &qtype_f32;
            return share->list[0]->saved[i].mine;
        }
    const struct saved_module *s = q->own ? copy_where(p->m, q, q->own, NULL) : NULL;
    while (s) {
        data = s->old_data;
        *type = s->old_type;
        s = s->old_own ? copy_where(p->m, q, s->old_own, NULL) : NULL;
    }
    return data;
}

int share_differs(const struct pass *p, int64_t k, const struct param *q)
{
    const struct qtype *type;
    return q && p->copies && values_in(p, k, q, &type) != values_in(p, 0, q, &type);
}

struct tensor *share_leaf(struct pass *p, int64_t k, struct param *q)
{
    const struct qtype *type;
    if (!q || !p->copies) return nn_leaf(p, q);
    const void *data = values_in(p, k, q, &type);
    return graph_leaf(p->g, q->name, type, q->rows, q->cols, data, NULL);
}

int share_can(struct pass *p, int64_t k, const struct adapted *d)
{
    const struct qtype *type;
    if (!p->copies || !d->method->derive) return 1;
    if (values_in(p, k, d->site->w, &type) == d->site->w->data) return 1;
    graph_fail(p->g, PEFT_EUNSUPPORTED, "\"%s\" depends on %s, which another adapter has changed: "
               "disable that one first", d->adapter->name, d->site->name);
    return 0;
}

/* Where share k begins in x, which may have several rows for one: its heads. */
static int64_t first_row(const struct pass *p, const struct tensor *x, int64_t k)
{
    return p->shares->cut[k] * (x->rows / p->shares->cut[p->shares->n]);
}

struct tensor *share_rows(struct pass *p, struct tensor *x, int64_t k)
{
    if (!x || p->shares->n == 1) return x;
    int64_t first = first_row(p, x, k);
    return g_slice_rows(p->g, x, first, first_row(p, x, k + 1) - first);
}

struct tensor *share_put(struct pass *p, struct tensor *x, struct tensor *rows, int64_t k)
{
    return !x || p->shares->n == 1 ? rows : g_put_rows(p->g, x, rows, first_row(p, x, k));
}
