/* Passes and the small layers: leaf, linear, norm, dropout.  nn_linear is the
 * only place where adapters meet the network. */
#include "model/model.h"

struct pass_mem {
    struct host *host;
    int32_t *ranges;                /* lo then hi, [cap] each */
    int32_t *index;                 /* one per sequence: pooled rows */
    int32_t *types;                 /* zeros: token types */
    int64_t cap, seqs;
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
    mem_free(&m->host->mem, m);
}

int pass_mem_reserve(struct pass_mem *m, int64_t tokens, int64_t seqs)
{
    struct mem *mem = &m->host->mem;
    if (tokens > m->cap) {
        mem_free(mem, m->ranges);
        mem_free(mem, m->types);
        m->cap = 0;
        m->ranges = mem_array(mem, tokens, 2 * sizeof(int32_t));
        m->types = mem_array(mem, tokens, sizeof(int32_t));
        if (!m->ranges || !m->types) return PEFT_ENOMEM;
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

int pass_begin(struct pass *p)
{
    const struct arch *arch = p->m->arch;
    int64_t window = p->m->hp.window;
    int rc = pass_mem_reserve(p->mem, p->n, p->n_seq);
    if (rc) return rc;
    graph_reset(p->g);
    p->dropouts = 0;
    int32_t *lo = p->mem->ranges, *hi = lo + p->mem->cap;
    for (int64_t s = 0; s < p->n_seq; s++) {
        for (int64_t i = p->start[s]; i < p->start[s + 1]; i++) {
            int64_t at = i + p->past;
            lo[i] = p->start[s];
            hi[i] = (int32_t)(arch->style.causal ? at + 1 : p->start[s + 1]);
            if (window > 0 && at + 1 - window > lo[i]) lo[i] = (int32_t)(at + 1 - window);
        }
    }
    p->lo = lo;
    p->hi = hi;
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

struct tensor *nn_linear(struct pass *p, const struct site *s, struct tensor *x)
{
    struct adapted *a;
    for (a = s->first; a; a = a->next)
        if (a->adapter->enabled && a->adapter->method->before)
            x = a->adapter->method->before(p, a, x);
    graph_name(p->g, s->name);
    struct tensor *y = g_linear(p->g, x, nn_leaf(p, s->w));
    for (a = s->first; a; a = a->next)
        if (a->adapter->enabled && a->adapter->method->after)
            y = a->adapter->method->after(p, a, x, y);
    return s->b ? g_bias(p->g, y, nn_leaf(p, s->b)) : y;
}

struct tensor *nn_norm(struct pass *p, const struct site *s, struct tensor *x)
{
    if (!s) return x;
    graph_name(p->g, s->name);
    if (p->m->arch->style.norm == NORM_LAYER)
        return g_layernorm(p->g, x, nn_leaf(p, s->w), nn_leaf(p, s->b), (float)p->m->hp.eps);
    return g_rmsnorm(p->g, x, nn_leaf(p, s->w), (float)p->m->hp.eps, 0.0f);
}

struct tensor *nn_dropout(struct pass *p, struct tensor *x, float rate)
{
    if (!p->training || rate <= 0) return x;
    uint64_t seed = p->seed + p->draw * 0x9E3779B97F4A7C15u;
    return g_dropout(p->g, x, rate, seed, rng_stream(RNG_DROPOUT, p->dropouts++));
}

int32_t *pass_index(struct pass *p) { return p->mem->index; }
const int32_t *pass_types(struct pass *p) { return p->types ? p->types : p->mem->types; }
