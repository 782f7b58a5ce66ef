/* Passes and the small layers: leaf, linear, norm, dropout.  Adapters meet the
 * network in nn_linear and nn_embed alone. */
#include <math.h>
#include <stdlib.h>

#include "graph/op.h"
#include "model/rope.h"

struct pass_mem {
    struct host *host;
    int32_t *ranges;                /* lo and hi of global layers, of local ones and of the other
                                       text, and own places: [cap] each */
    int32_t *index;                 /* one per sequence: pooled rows */
    int32_t *types;                 /* zeros: token types */
    int32_t *positions;             /* rows of the table of learned positions, or pass_rows */
    int32_t *patches;               /* rows of a batch of pictures: 0 = the class token */
    int32_t *virtual;
    int64_t virtual_n;
    int32_t *bucket[STACKS];        /* of the distances -reach + 1 to reach - 1 */
    int64_t reach;
    int64_t cap, seqs;
    struct rope_cache rope[2];
    struct share_mem share;
};

enum { LO, HI, LOCAL_LO, LOCAL_HI, CROSS_LO, CROSS_HI, SELF, RANGES };

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
    mem_free(&m->host->mem, m->patches);
    mem_free(&m->host->mem, m->virtual);
    for (int k = 0; k < STACKS; k++) mem_free(&m->host->mem, m->bucket[k]);
    for (int k = 0; k < 2; k++) mem_free(&m->host->mem, m->rope[k].table);
    shares_free(&m->host->mem, &m->share);
    mem_free(&m->host->mem, m);
}

int pass_mem_reserve(struct pass_mem *m, int64_t tokens, int64_t seqs)
{
    struct mem *mem = &m->host->mem;
    if (tokens > m->cap) {
        mem_free(mem, m->ranges);
        mem_free(mem, m->types);
        mem_free(mem, m->positions);
        mem_free(mem, m->patches);
        m->cap = 0;
        m->ranges = mem_array(mem, tokens, RANGES * sizeof(int32_t));
        m->types = mem_array(mem, tokens, sizeof(int32_t));
        m->positions = mem_array(mem, tokens, sizeof(int32_t));
        m->patches = mem_array(mem, tokens, sizeof(int32_t));
        if (!m->ranges || !m->types || !m->positions || !m->patches) return PEFT_ENOMEM;
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

int32_t *pass_mem_virtual(struct pass_mem *m, int64_t n)
{
    if (n <= m->virtual_n) return m->virtual;
    mem_free(&m->host->mem, m->virtual);
    m->virtual = mem_array(&m->host->mem, n, sizeof(int32_t));
    m->virtual_n = m->virtual ? n : 0;
    return m->virtual;
}

/* Buckets of relative positions (Raffel et al. 2020): half of them are single
 * distances, the other half grow with their logarithm up to `far`; a stack that
 * looks both ways has one half of all for each side.  In float32, as torch. */
static int32_t bucket_of(const struct hparams *hp, int causal, int64_t distance)
{
    int64_t n = causal ? hp->buckets : hp->buckets / 2, exact = n / 2;
    int64_t side = !causal && distance > 0 ? n : 0;
    int64_t d = causal ? MAX(-distance, 0) : llabs(distance);
    if (d < exact) return (int32_t)(side + d);
    float share = logf((float)d / (float)exact) / (float)log((double)hp->far / (double)exact);
    return (int32_t)(side + MIN(exact + (int64_t)(share * (float)(n - exact)), n - 1));
}

/* The buckets of all distances in texts of up to `reach` tokens. */
static int reserve_buckets(struct pass *p, int64_t reach)
{
    struct pass_mem *m = p->mem;
    if (!p->m->hp.buckets || reach <= m->reach) return PEFT_OK;
    m->reach = 0;
    for (int k = 0; k < STACKS; k++) {
        mem_free(&m->host->mem, m->bucket[k]);
        m->bucket[k] = mem_array(&m->host->mem, 2 * reach - 1, sizeof(int32_t));
        if (!m->bucket[k]) return PEFT_ENOMEM;
        for (int64_t d = 1 - reach; d < reach; d++)
            m->bucket[k][d + reach - 1] = bucket_of(&p->m->hp, p->m->stack[k].causal, d);
    }
    m->reach = reach;
    return PEFT_OK;
}

/* Which keys each row sees: in global layers all of its sequence, or those up
 * to itself; in local layers those of them within the window; and in cross
 * attention all of its source. */
static void fill_stream(struct pass *p, int which)
{
    struct stream *s = &p->stream[which];
    const struct stream *source = &p->stream[STACK_ENCODER];
    int causal = p->m->stack[which].causal;
    const struct virtual_rows *v = &p->virtual;
    int64_t virtual = v->stack == which ? v->tokens : 0, local = p->m->hp.window;
    int64_t keys = v->how == VIRTUAL_KEYS ? virtual : 0;
    int64_t window = causal ? local : local / 2;
    int32_t *at[RANGES];
    for (int k = 0; k < RANGES; k++) at[k] = p->mem->ranges + k * p->mem->cap + s->first;
    s->span[0] = (struct range){ at[LO], at[HI] };
    s->span[1] = (struct range){ at[LOCAL_LO], at[LOCAL_HI] };
    s->cross = (struct range){ at[CROSS_LO], at[CROSS_HI] };
    s->self = at[SELF];
    for (int64_t q = 0; q < s->n_seq; q++) {
        const int32_t *start = p->all.start + s->seq + q, *other = p->all.start + source->seq + q;
        int64_t row = start[0] - s->first, n = start[1] - start[0];
        int64_t past = s->cache ? p->past[q] : 0;
        past += past ? virtual : keys;
        int64_t key = s->cache ? p->first_row[q] : row + q * keys, end = key + past + n;
        for (int64_t i = row; i < row + n; i++) {
            int64_t self = key + past + i - row, first = causal ? self + 1 - window : self - window;
            at[SELF][i] = (int32_t)self;
            at[LO][i] = at[LOCAL_LO][i] = (int32_t)key;
            at[HI][i] = at[LOCAL_HI][i] = (int32_t)(causal ? self + 1 : end);
            at[CROSS_LO][i] = source->n ? other[0] - (int32_t)source->first : 0;
            at[CROSS_HI][i] = source->n ? other[1] - (int32_t)source->first : (int32_t)p->n_cross;
            if (!local) continue;
            at[LOCAL_LO][i] = (int32_t)MAX(key, first);
            if (!causal) at[LOCAL_HI][i] = (int32_t)MIN(end, self + window + 1);
        }
    }
    if (!p->m->hp.buckets) return;
    s->origin = p->all.reach - 1;
    s->distances = causal ? p->all.reach : 2 * p->all.reach - 1;
    s->bucket = p->mem->bucket[which] + (p->mem->reach - p->all.reach);
}

/* What inference wants of an adapter, after its weights or the model's changed. */
static int derive(struct model *m, const struct adapter *a)
{
    for (int64_t i = 0; i < a->n_sites; i++) {
        struct adapted *d = &a->sites[i];
        if (!d->method->derive || d->derived_at == m->edits) continue;
        int rc = d->method->derive(m, d);
        if (rc) return rc;
        d->derived_at = m->edits;
    }
    return PEFT_OK;
}

static int derive_all(struct pass *p)
{
    int rc = PEFT_OK;
    for (int k = ROWS_SOURCE; k <= ROWS_MAIN; k++)
        for (int64_t i = 0; i < p->rows[k].n; i++)
            for (int64_t j = 0; j < p->rows[k].at[i].n && !rc; j++)
                rc = derive(p->m, p->rows[k].at[i].list[j]);
    return rc;
}

int pass_begin(struct pass *p)
{
    int rc = virtual_begin(p);
    if (!rc) rc = pass_mem_reserve(p->mem, p->all.n, p->n_seq);
    if (!rc) rc = rope_begin(p, p->mem->rope);
    if (rc) return rc;
    graph_reset(p->g);
    p->dropouts = 0;
    p->source = NULL;
    memset(p->still, 0, sizeof(p->still));
    p->drawn = 0;
    int64_t split = p->n_source ? p->all.start[p->n_source] : 0;
    p->stream[STACK_ENCODER] = (struct stream){ .n = split, .n_seq = p->n_source };
    p->stream[STACK_MAIN] = (struct stream){ .first = split, .n = p->all.n - split,
                                             .seq = p->n_source, .n_seq = p->n_seq - p->n_source,
                                             .cache = p->cache };
    if (!rc) rc = reserve_buckets(p, p->all.reach);
    if (!rc) rc = shares_begin(p, &p->mem->share);
    if (!rc && !p->training) rc = derive_all(p);
    if (rc) return rc;
    for (int k = 0; k < STACKS; k++)
        if (p->stream[k].n) fill_stream(p, k);
    return PEFT_OK;
}

const int32_t *pass_rows(struct pass *p, const int32_t *rows, int64_t n)
{
    int64_t first = p->start[p->n_source];
    if (!first) return rows;
    for (int64_t i = 0; i < n; i++) p->mem->positions[i] = rows[i] - (int32_t)first;
    return p->mem->positions;
}

struct tensor *nn_leaf(struct pass *p, struct param *q)
{
    /* While a trainer plans, gradients and float copies do not exist yet; the
     * plan only asks whether there will be some. */
    static float planned;
    if (!q) return NULL;
    for (int64_t k = 1; k < p->shares->n && p->copies && !q->adapter; k++)
        if (share_differs(p, k, q))
            return graph_fail(p->g, PEFT_EUNSUPPORTED, "an adapter has a copy of %s, which all "
                              "texts of a batch have in common", q->name);
    if (p->copies && !q->adapter) return share_leaf(p, 0, q);
    if (!p->training || !q->trainable)
        return graph_leaf(p->g, q->name, q->type, q->rows, q->cols, q->data, NULL);
    q->used = 1;
    return graph_leaf(p->g, q->name, q->grad ? q->type : &qtype_f32, q->rows, q->cols, q->data,
                      q->grad ? q->grad : &planned);
}

enum hook { BEFORE, AFTER, LAST };

static int has_hook(const struct method *m, enum hook h)
{
    return h == BEFORE ? m->before != NULL : h == AFTER ? m->after != NULL : m->last != NULL;
}

/* One of the hooks of all adapters that act at a linear layer, on their rows of y. */
static struct tensor *adapt(struct pass *p, const struct site *s, enum hook h, struct tensor *x,
                            struct tensor *y)
{
    for (int64_t k = 0; k < p->shares->n && s->kind == SITE_LINEAR; k++) {
        const struct share *share = &p->shares->at[k];
        struct tensor *in = NULL, *out = NULL;
        for (int64_t i = 0; i < share->n; i++) {
            const struct adapted *d = adapted_at(share->list[i], s);
            const struct method *m = d ? d->method : NULL;
            if (!d || !has_hook(m, h) || !share_can(p, k, d)) continue;
            if (!out) {
                in = share_rows(p, x, k);
                out = share_rows(p, y, k);
            }
            out = h == BEFORE ? m->before(p, d, out)
                  : h == AFTER ? m->after(p, d, in, out) : m->last(p, d, out);
        }
        if (out) y = share_put(p, y, out, k);
    }
    return y;
}

int nn_adapted(const struct pass *p, const struct site *s)
{
    for (int64_t k = 0; k < p->shares->n && s->kind == SITE_LINEAR; k++)
        for (int64_t i = 0; i < p->shares->at[k].n; i++)
            if (adapted_at(p->shares->at[k].list[i], s)) return 1;
    return 0;
}

const struct adapted *nn_rows(const struct pass *p, const struct site *s)
{
    const struct share *share = p->shares->at;
    const struct adapted *only = NULL, *d;
    int n = 0;
    for (int64_t i = 0; i < share->n && s->kind == SITE_LINEAR; i++)
        if ((d = adapted_at(share->list[i], s))) only = d, n++;
    return p->shares->n == 1 && n == 1 && only->method->puts_rows ? only : NULL;
}

struct tensor *nn_linear(struct pass *p, const struct site *s, struct tensor *x)
{
    if (p->seen && x) p->seen(p->seen_arg, s, x);
    x = adapt(p, s, BEFORE, NULL, x);
    graph_name(p->g, s->name);
    struct tensor *y = g_linear(p->g, x, share_leaf(p, 0, s->w));
    for (int64_t k = 1; k < p->shares->n; k++)
        if (share_differs(p, k, s->w))
            y = share_put(p, y, g_linear(p->g, share_rows(p, x, k), share_leaf(p, k, s->w)), k);
    y = adapt(p, s, AFTER, x, y);
    if (s->b) y = nn_bias(p, s->b, y);
    return adapt(p, s, LAST, NULL, y);
}

struct tensor *nn_bias(struct pass *p, struct param *b, struct tensor *x)
{
    struct tensor *y = g_bias(p->g, x, share_leaf(p, 0, b));
    for (int64_t k = 1; k < p->shares->n; k++)
        if (share_differs(p, k, b))
            y = share_put(p, y, g_bias(p->g, share_rows(p, x, k), share_leaf(p, k, b)), k);
    return y;
}

struct tensor *nn_embed(struct pass *p, const struct site *s, const int32_t *ids, int64_t n)
{
    graph_name(p->g, s->name);
    struct tensor *y = g_embed(p->g, share_leaf(p, 0, s->w), ids, n);
    for (int64_t k = 0; k < p->shares->n; k++) {
        const struct share *share = &p->shares->at[k];
        int64_t first = p->shares->n == 1 ? 0 : p->shares->cut[k];
        int64_t rows = p->shares->n == 1 ? n : p->shares->cut[k + 1] - first;
        struct tensor *out = NULL;
        if (share_differs(p, k, s->w))
            out = g_embed(p->g, share_leaf(p, k, s->w), ids + first, rows);
        for (int64_t i = 0; i < share->n && s->kind == SITE_EMBED; i++) {
            const struct adapted *d = adapted_at(share->list[i], s);
            if (!d || !d->method->embed) continue;
            if (!out) out = share_rows(p, y, k);
            out = d->method->embed(p, d, ids + first, rows, out);
        }
        if (out) y = share_put(p, y, out, k);
    }
    return y;
}

static struct tensor *norm(struct pass *p, const struct site *s, struct tensor *x, int64_t k)
{
    const struct style *style = &p->m->arch->style;
    struct tensor *w = share_leaf(p, k, s->w);
    if (style->norm == NORM_LAYER)
        return g_layernorm(p->g, x, w, share_leaf(p, k, s->b), (float)p->m->hp.eps);
    float plus = style->norm_plus && !s->w->plus ? 1.0f : 0.0f;
    return g_rmsnorm(p->g, x, w, (float)p->m->hp.eps, plus);
}

struct tensor *nn_norm(struct pass *p, const struct site *s, struct tensor *x)
{
    if (!s) return x;
    graph_name(p->g, s->name);
    struct tensor *y = norm(p, s, x, 0);
    for (int64_t k = 1; k < p->shares->n; k++)
        if (share_differs(p, k, s->w) || share_differs(p, k, s->b))
            y = share_put(p, y, norm(p, s, share_rows(p, x, k), k), k);
    return y;
}

struct tensor *nn_dropout(struct pass *p, struct tensor *x, float rate)
{
    if (!p->training || rate <= 0) return x;
    uint64_t seed = p->seed + p->draw * 0x9E3779B97F4A7C15u;
    return g_dropout(p->g, x, rate, seed, rng_stream(RNG_DROPOUT, p->dropouts++));
}

int32_t *pass_index(struct pass *p) { return p->mem->index; }
const int32_t *pass_types(struct pass *p) { return p->all.types ? p->all.types : p->mem->types; }
const int32_t *pass_positions(struct pass *p)
{
    for (int64_t i = 0; i < p->all.n; i++)
        p->mem->positions[i] = p->all.pos[i] + (int32_t)p->m->hp.pos_offset;
    return p->mem->positions;
}
const int32_t *pass_patches(struct pass *p)
{
    int32_t next = 1, *rows = p->mem->patches;
    for (int64_t s = 0; s < p->n_seq; s++)
        for (int32_t i = p->start[s]; i < p->start[s + 1]; i++)
            rows[i] = i == p->start[s] ? 0 : next++;
    return rows;
}
