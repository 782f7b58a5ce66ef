/* The one block and the one stack, of which an encoder-decoder model has two.
 * What differs between families is style and the presence of tensors. */
#include <math.h>

#include "model/model.h"

static struct tensor *rope(struct pass *p, const struct stream *s, const struct layer *l,
                           struct tensor *x, int64_t heads)
{
    const struct model *m = p->m;
    if (m->arch->style.pos != POS_ROPE || l->rope < 0) return x;
    struct rope_args a = { p->rope[l->rope], p->all.pos + s->first, (int32_t)heads,
                           (int32_t)m->hp.head_dim, (int32_t)m->hp.rot, m->rope_pair };
    return g_rope(p->g, x, &a);
}

/* Norm of q or k: over each head (Qwen 3), or over all of them (OLMo 2), as
 * the weights tell. */
static struct tensor *head_norm(struct pass *p, const struct site *s, struct tensor *x)
{
    if (!s || !x || s->w->cols == x->cols) return nn_norm(p, s, x);
    int64_t rows = x->rows, cols = x->cols, d = s->w->cols;
    struct tensor *y = g_reshape(p->g, x, rows * (cols / d), d);
    return g_reshape(p->g, nn_norm(p, s, y), rows, cols);
}

/* Columns [first, first + n) of each of the `groups` parts of x's rows. */
static struct tensor *part(struct pass *p, struct tensor *x, int64_t groups, int64_t first,
                           int64_t n)
{
    int64_t rows = x ? x->rows : 0;
    if (!x || groups == 1) return g_slice_cols(p->g, x, first, n);
    x = g_reshape(p->g, x, rows * groups, x->cols / groups);
    return g_reshape(p->g, g_slice_cols(p->g, x, first, n), rows, groups * n);
}

/* q, k or v of one module's x: after each other, or interleaved by key head. */
static struct tensor *part_qkv(struct pass *p, const struct site *s, struct tensor *x, int which)
{
    const struct hparams *hp = &p->m->hp;
    int64_t groups = p->m->arch->style.qkv_groups && !s->w->order ? hp->kv_heads : 1;
    int64_t kv = hp->kv_heads / groups * hp->head_dim, q = hp->heads / groups * hp->head_dim;
    return part(p, x, groups, which ? q + (which - 1) * kv : 0, which ? kv : q);
}

/* Softmax attention of a stream's rows, over their own text or over `range`. */
static struct tensor *attend(struct pass *p, const struct stream *s, struct tensor *const qkv[3],
                             const struct range *range, int own)
{
    const struct hparams *hp = &p->m->hp;
    int64_t scalar = hp->attn_scalar ? hp->attn_scalar : hp->head_dim;
    struct attn a = { .nq = s->n, .nk = qkv[1] ? qkv[1]->rows : 0, .heads = (int32_t)hp->heads,
                      .kv_heads = (int32_t)hp->kv_heads, .head_dim = (int32_t)hp->head_dim,
                      .scale = 1.0f / sqrtf((float)scalar), .softcap = (float)hp->attn_cap,
                      .lo = range->lo, .hi = range->hi, .self = s->self,
                      .slopes = own ? p->m->slopes : NULL, .half_slopes = hp->alibi != 0 };
    struct tensor *bias = own ? s->bias : NULL;
    if (bias) {
        a.distances = s->distances;
        a.origin = s->origin;
    }
    return g_attention(p->g, qkv[0], qkv[1], qkv[2], bias, &a);
}

static struct tensor *attention(struct pass *p, const struct stream *s, const struct layer *l,
                                int64_t index, struct tensor *x)
{
    const struct hparams *hp = &p->m->hp;
    const struct site *fused = l->at[SLOT_QKV];
    struct tensor *qkv[3], *all = fused ? nn_linear(p, fused, x) : NULL;
    for (int k = 0; k < 3; k++) {
        qkv[k] = fused ? part_qkv(p, fused, all, k) : nn_linear(p, l->at[SLOT_Q + k], x);
        if (k < 2)
            qkv[k] = rope(p, s, l, head_norm(p, l->at[SLOT_Q_NORM + k], qkv[k]),
                          k ? hp->kv_heads : hp->heads);
    }
    for (int k = 0; k < 2; k++) qkv[1 + k] = virtual_keys(p, s, index, k, qkv[1 + k]);
    if (s->cache) {
        const int32_t *at = virtual_places(p, s);
        qkv[1] = g_cache(p->g, qkv[1], s->cache[index].k, at, p->room);
        qkv[2] = g_cache(p->g, qkv[2], s->cache[index].v, at, p->room);
    }
    return nn_linear(p, l->at[SLOT_O], attend(p, s, qkv, &s->span[l->local], 1));
}

/* Keys or values of the source for cross attention, or those that an earlier
 * pass left. */
static struct tensor *of_source(struct pass *p, const struct site *site, float *cache)
{
    p->shares = &p->rows[ROWS_SOURCE];
    struct tensor *x = p->source ? nn_linear(p, site, p->source) : NULL;
    p->shares = &p->rows[ROWS_MAIN];
    if (!cache) return x;
    if (p->source) return g_cache(p->g, x, cache, p->stream[STACK_ENCODER].self, x ? x->rows : 0);
    return graph_leaf(p->g, site->name, &qtype_f32, p->n_cross, site->w->rows, cache, NULL);
}

static struct tensor *cross_attention(struct pass *p, const struct stream *s,
                                      const struct layer *l, int64_t index, struct tensor *x)
{
    const struct kv_cache *kept = p->cross ? &p->cross[index] : NULL;
    struct tensor *qkv[3] = { nn_linear(p, l->at[SLOT_CROSS_Q], x),
                              of_source(p, l->at[SLOT_CROSS_K], kept ? kept->k : NULL),
                              of_source(p, l->at[SLOT_CROSS_V], kept ? kept->v : NULL) };
    return nn_linear(p, l->at[SLOT_CROSS_O], attend(p, s, qkv, &s->cross, 0));
}

/* One expert's part of the sum: fused, or where an adapter reaches into it by
 * its modules on all rows. */
static struct tensor *expert(struct pass *p, const struct expert *e, int64_t index,
                             struct tensor *x, struct tensor *shares)
{
    struct graph *g = p->g;
    struct tensor *w[3], *y;
    int fused = 1;
    for (int k = 0; k < 3; k++) fused &= !nn_adapted(p, e->at[k]) && !e->at[k]->b;
    if (fused) {
        for (int k = 0; k < 3; k++) w[k] = nn_leaf(p, e->at[k]->w);
        graph_name(g, e->at[0]->name);
        return g_expert(g, x, shares, w, index, p->m->hp.act);
    }
    y = g_glu(g, nn_linear(p, e->at[0], x), nn_linear(p, e->at[1], x), p->m->hp.act);
    return g_scale_rows(g, nn_linear(p, e->at[2], y), g_slice_cols(g, shares, index, 1));
}

static struct tensor *mixture(struct pass *p, const struct layer *l, struct tensor *x)
{
    const struct hparams *hp = &p->m->hp;
    struct tensor *shares = g_route(p->g, nn_linear(p, l->at[SLOT_ROUTER], x), hp->experts_used,
                                    hp->experts_norm != 0);
    struct tensor *sum = expert(p, &l->experts[0], 0, x, shares);
    for (int64_t e = 1; e < hp->experts; e++)
        sum = g_add(p->g, sum, expert(p, &l->experts[e], e, x, shares));
    return sum;
}

static struct tensor *feed_forward(struct pass *p, const struct layer *l, struct tensor *x)
{
    const struct hparams *hp = &p->m->hp;
    struct tensor *gate = NULL, *up, *y;
    if (l->at[SLOT_ROUTER]) return mixture(p, l, x);
    if (l->at[SLOT_GATE_UP]) {
        y = nn_linear(p, l->at[SLOT_GATE_UP], x);
        gate = g_slice_cols(p->g, y, 0, hp->ff);
        up = g_slice_cols(p->g, y, hp->ff, hp->ff);
    } else {
        up = nn_linear(p, l->at[SLOT_UP], x);
        if (l->at[SLOT_GATE]) gate = nn_linear(p, l->at[SLOT_GATE], x);
    }
    y = gate ? g_glu(p->g, gate, up, hp->act) : g_act(p->g, up, hp->act);
    return nn_linear(p, l->at[SLOT_DOWN], y);
}

static struct tensor *block(struct pass *p, const struct stream *s, const struct layer *l,
                            int64_t index, struct tensor *x)
{
    struct graph *g = p->g;
    if (p->m->hp.post_norm) {
        x = nn_norm(p, l->at[SLOT_ATTN_NORM], g_add(g, x, attention(p, s, l, index, x)));
        return nn_norm(p, l->at[SLOT_FFN_NORM], g_add(g, x, feed_forward(p, l, x)));
    }
    struct tensor *y = nn_norm(p, l->at[SLOT_ATTN_NORM], x);
    struct tensor *a = nn_norm(p, l->at[SLOT_ATTN_POST], attention(p, s, l, index, y));
    if (p->m->hp.parallel) {
        if (l->at[SLOT_FFN_NORM]) y = nn_norm(p, l->at[SLOT_FFN_NORM], x);
        return g_add(g, x, g_add(g, a, feed_forward(p, l, y)));
    }
    x = g_add(g, x, a);
    if (l->at[SLOT_CROSS_Q]) {
        y = nn_norm(p, l->at[SLOT_CROSS_NORM], x);
        x = g_add(g, x, cross_attention(p, s, l, index, y));
    }
    y = feed_forward(p, l, nn_norm(p, l->at[SLOT_FFN_NORM], x));
    return g_add(g, x, nn_norm(p, l->at[SLOT_FFN_POST], y));
}

/* Pictures: every patch is a row that a linear layer maps to dim (the
 * convolution of Hugging Face, whose step is its size), and a learned row
 * stands before those of each picture. */
static struct tensor *embed_patches(struct pass *p)
{
    struct site *const *at = p->m->global;
    static const int32_t first[1];
    struct tensor *x = graph_leaf(p->g, "patches", &qtype_f32, p->n - p->n_seq,
                                  at[SLOT_PATCH]->w->cols, p->patches, NULL);
    struct tensor *class = g_embed(p->g, nn_leaf(p, at[SLOT_CLASS]->w), first, 1);
    p->shares = &p->rows[ROWS_PATCHES];
    x = g_concat_rows(p->g, class, nn_linear(p, at[SLOT_PATCH], x));
    p->shares = &p->rows[ROWS_MAIN];
    return g_rows(p->g, x, pass_patches(p), p->n);
}

static struct tensor *embed(struct pass *p, const struct stream *s)
{
    struct site *const *at = p->m->global;
    struct graph *g = p->g;
    int64_t f = s->first, n = s->n, own = p->start[s->seq], end = p->start[s->seq + s->n_seq];
    struct tensor *x = at[SLOT_PATCH] ? embed_patches(p)
                                      : nn_embed(p, at[SLOT_EMBED], p->ids + own, end - own);
    if (p->m->arch->style.embed_scale) x = g_scale(g, x, sqrtf((float)p->m->hp.dim));
    x = virtual_embed(p, s, x);
    if (at[SLOT_EMBED_IN]) x = nn_linear(p, at[SLOT_EMBED_IN], x);
    if (at[SLOT_POS]) x = g_add(g, x, nn_embed(p, at[SLOT_POS], pass_positions(p) + f, n));
    if (at[SLOT_TYPE]) x = g_add(g, x, nn_embed(p, at[SLOT_TYPE], pass_types(p) + f, n));
    return nn_norm(p, at[SLOT_EMBED_NORM], x);
}

/* A layer's bias by distance is its own, or that of the nearest one below with any. */
static void take_bias(struct pass *p, struct stream *s, const struct layer *l)
{
    if (!l->at[SLOT_BIAS]) return;
    graph_segment(p->g, -1);
    graph_name(p->g, l->at[SLOT_BIAS]->name);
    s->bias = g_embed(p->g, nn_leaf(p, l->at[SLOT_BIAS]->w), s->bucket, s->distances);
}

/* x enters layer i, and is the same in every pass when no gradient and no drawn
 * number goes into it. */
static void note_still(struct pass *p, int which, int64_t i, uint32_t dropouts,
                       const struct tensor *x)
{
    if (!x || x->needs_grad) return;
    if (p->dropouts == dropouts) p->still[which] = i;
    else p->drawn = 1;
}

/* One stack over its stream, from the texts or from a cut, to what enters layer
 * `to`; the norm comes after the last layer. */
static struct tensor *run_stack(struct pass *p, int which, int64_t to)
{
    struct stream *s = &p->stream[which];
    const struct stack *stack = &p->m->stack[which];
    const struct cut *cut = &p->cut[which];
    int norm = which == STACK_ENCODER ? SLOT_ENC_NORM : SLOT_FINAL_NORM;
    uint32_t dropouts = p->dropouts;
    int64_t i = stack->first;
    p->shares = &p->rows[which == STACK_ENCODER ? ROWS_SOURCE : ROWS_MAIN];
    graph_segment(p->g, -1);
    struct tensor *x = cut->layer ? graph_leaf(p->g, "hidden states", &qtype_f32, s->n,
                                               p->m->hp.dim, cut->x, NULL)
                                  : embed(p, s);
    if (cut->layer > stack->end) return x;
    while (i < cut->layer) take_bias(p, s, &p->m->layers[i++]);
    for (;; i++) {
        note_still(p, which, i, dropouts, x);
        if (p->enters) p->enters[i] = x;
        if (i == MIN(to, stack->end)) break;
        const struct layer *l = &p->m->layers[i];
        take_bias(p, s, l);
        graph_segment(p->g, (int32_t)i);
        x = block(p, s, l, i - stack->first, x);
    }
    graph_segment(p->g, -1);
    if (to <= stack->end) return x;
    x = nn_norm(p, p->m->global[norm], x);
    note_still(p, which, i + 1, dropouts, x);
    return x;
}

struct tensor *model_below(struct pass *p, int which, int64_t layer)
{
    struct tensor *x = run_stack(p, which, layer);
    if (which == STACK_ENCODER) p->source = x;
    return x;
}

struct tensor *model_encoded(struct pass *p)
{
    return p->source = run_stack(p, STACK_ENCODER, INT64_MAX);
}

struct tensor *model_hidden(struct pass *p)
{
    if (p->stream[STACK_ENCODER].n) model_encoded(p);
    struct tensor *x = run_stack(p, STACK_MAIN, INT64_MAX);
    const struct site *out = p->m->global[SLOT_EMBED_OUT];
    if (out) x = nn_linear(p, out, x);
    if (p->m->hp.scale_out) x = g_scale(p->g, x, 1.0f / sqrtf((float)p->m->hp.dim));
    return virtual_real(p, x);
}
