/* Passes and the small layers: leaf, linear, norm, dropout.  nn_linear and
 * nn_embed are the only places where adapters meet the network. */
#include "model/rope.h"

struct pass_mem {
    struct host *host;
    int32_t *ranges;                /* lo and hi of global layers, then of local ones, [cap] each */
    int32_t *index;                 /* one per sequence: pooled rows */
    int32_t *types;                 /* zeros: token types */
    int32_t *positions;             /* rows of the table of learned positions */
    int64_t cap, seqs;
    struct rope_cache rope[2];
};

int pass_mem_new(struct host *h, struct pass_mem **out)
{
    struct pass_mem *m = mem_zalloc(&h->mem, sizeof(*m));
    if (!m) return PEFT_ENOMEM;
    m->host = h;
    *out = m;
    return PEFT_OK;
}

void pass_mem_free(struct pass_mem *m)
{
    if (!m) return;
    mem_free(&m->host->mem, m->ranges);
    mem_free(&m->host->mem, m->index);
    mem_free(&m->host->mem, m->types);
    mem_free(&m->host->mem, m->positions);
    for (int k = 0; k < 2; k++) mem_free(&m->host->mem, m->rope[k].table);
    mem_free(&m->host->mem, m);
}

int pass_mem_reserve(struct pass_mem *m, int64_t tokens, int64_t seqs)
{
    struct mem *mem = &m->host->mem;
    if (tokens > m->cap) {
        mem_free(mem, m->ranges);
        mem_free(mem, m->types);
        mem_free(mem, m->positions);
        m->cap = 0;
        m->ranges = mem_array(mem, tokens, 4 * sizeof(int32_t));
        m->types = mem_array(mem, tokens, sizeof(int32_t));
        m->positions = mem_array(mem, tokens, sizeof(int32_t));
        if (!m->ranges || !m->types || !m->positions) return PEFT_ENOMEM;
        m->cap = tokens;
    }
    if (seqs > m->seqs) {
        mem_free(mem, m->index);
        m->seqs = 0;
        m->index = mem_array(mem, seqs, sizeof(int32_t));
        if (!m->index) return PEFT_ENOMEM;
        m->seqs = seqs;
    }
    return PEFT_OK;
}

/* Which keys each row sees: in global layers all of its sequence, or those up
 * to itself; in local layers those of them within the window. */
static void fill_spans(struct pass *p, int32_t *lo, int32_t *hi, int64_t window)
{
    int causal = p->m->arch->style.causal, local = window > 0;
    if (!causal) window /= 2;
    for (int64_t s = 0; s < p->n_seq; s++) {
        int32_t end = p->start[s + 1];
        for (int64_t i = p->start[s]; i < end; i++) {
            int64_t at = i + p->past, first = causal ? at + 1 - window : at - window;
            lo[i] = p->start[s];
            hi[i] = causal ? (int32_t)at + 1 : end;
            if (!local) continue;
            lo[i] = (int32_t)MAX(lo[i], first);
            if (!causal) hi[i] = (int32_t)MIN(end, at + window + 1);
        }
    }
}

/* What inference wants of the adapters, after their weights or the model's changed. */
static int derive_all(struct model *m)
{
    for (struct adapter *a = m->adapters; a; a = a->next) {
        if (!a->enabled || !a->method->derive) continue;
        for (int64_t i = 0; i < a->n_sites; i++) {
            struct adapted *d = &a->sites[i];
            if (d->derived_at == m->edits) continue;
            int rc = a->method->derive(m, d);
            if (rc) return rc;
            d->derived_at = m->edits;
        }
    }
    return PEFT_OK;
}

int pass_begin(struct pass *p)
{
    int64_t window = p->m->hp.window;
    int rc = pass_mem_reserve(p->mem, p->n, p->n_seq);
    if (!rc && !p->training) rc = derive_all(p->m);
    if (!rc) rc = rope_begin(p, p->mem->rope);
    if (rc) return rc;
    graph_reset(p->g);
    p->dropouts = 0;
    for (int k = 0; k < 2; k++) {
        int32_t *lo = p->mem->ranges + 2 * k * p->mem->cap, *hi = lo + p->mem->cap;
        fill_spans(p, lo, hi, k ? window : 0);
        p->span[k].lo = lo;
        p->span[k].hi = hi;
    }
    return PEFT_OK;
}

struct tensor *nn_leaf(struct pass *p, struct param *q)
{
    /* While a trainer plans, gradients and float copies do not exist yet; the
     * plan only asks whether there will be some. */
    static float planned;
    if (!q) return NULL;
    if (!p->training || !q->trainable)
        return graph_leaf(p->g, q->name, q->type, q->rows, q->cols, q->data, NULL);
    q->used = 1;
    return graph_leaf(p->g, q->name, &qtype_f32, q->rows, q->cols, q->data,
                      q->grad ? q->grad : &planned);
}

/* The adapters that act at a site used as a module of that kind. */
static const struct adapted *acting(const struct adapted *a)
{
    while (a && (!a->adapter->enabled || a->adapter->n_merged)) a = a->next;
    return a;
}

static const struct adapted *first_at(const struct site *s, unsigned kind)
{
    return s->kind == kind ? acting(s->first) : NULL;
}

int nn_adapted(const struct site *s) { return first_at(s, SITE_LINEAR) != NULL; }

struct tensor *nn_linear(struct pass *p, const struct site *s, struct tensor *x)
{
    const struct adapted *first = first_at(s, SITE_LINEAR), *a;
    for (a = first; a; a = acting(a->next))
        if (a->adapter->method->before) x = a->adapter->method->before(p, a, x);
    graph_name(p->g, s->name);
    struct tensor *y = g_linear(p->g, x, nn_leaf(p, s->w));
    for (a = first; a; a = acting(a->next))
        if (a->adapter->method->after) y = a->adapter->method->after(p, a, x, y);
    if (s->b) y = g_bias(p->g, y, nn_leaf(p, s->b));
    for (a = first; a; a = acting(a->next))
        if (a->adapter->method->last) y = a->adapter->method->last(p, a, y);
    return y;
}

struct tensor *nn_embed(struct pass *p, const struct site *s, const int32_t *ids)
{
    graph_name(p->g, s->name);
    struct tensor *y = g_embed(p->g, nn_leaf(p, s->w), ids, p->n);
    for (const struct adapted *a = first_at(s, SITE_EMBED); a; a = acting(a->next))
        if (a->adapter->method->embed) y = a->adapter->method->embed(p, a, ids, p->n, y);
    return y;
}

struct tensor *nn_norm(struct pass *p, const struct site *s, struct tensor *x)
{
    if (!s) return x;
    graph_name(p->g, s->name);
    const struct style *style = &p->m->arch->style;
    if (style->norm == NORM_LAYER)
        return g_layernorm(p->g, x, nn_leaf(p, s->w), nn_leaf(p, s->b), (float)p->m->hp.eps);
    float plus = style->norm_plus && !s->w->plus ? 1.0f : 0.0f;
    return g_rmsnorm(p->g, x, nn_leaf(p, s->w), (float)p->m->hp.eps, plus);
}

struct tensor *nn_dropout(struct pass *p, struct tensor *x, float rate)
{
    if (!p->training || rate <= 0) return x;
    uint64_t seed = p->seed + p->draw * 0x9E3779B97F4A7C15u;
    return g_dropout(p->g, x, rate, seed, rng_stream(RNG_DROPOUT, p->dropouts++));
}

int32_t *pass_index(struct pass *p) { return p->mem->index; }
const int32_t *pass_types(struct pass *p) { return p->types ? p->types : p->mem->types; }
const int32_t *pass_positions(struct pass *p)
{
    for (int64_t i = 0; i < p->n; i++)
        p->mem->positions[i] = p->pos[i] + (int32_t)p->m->hp.pos_offset;
    return p->mem->positions;
}
