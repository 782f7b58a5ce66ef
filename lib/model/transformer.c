/* The one block and the one stack.  What differs between families is style
 * and the presence of tensors. */
#include <math.h>

#include "model/model.h"

static struct tensor *rope(struct pass *p, struct tensor *x, int64_t heads)
{
    const struct model *m = p->m;
    struct rope_args a = { m->rope_table, p->pos, (int32_t)heads, (int32_t)m->hp.head_dim,
                           (int32_t)m->hp.rot, m->rope_pair };
    return g_rope(p->g, x, &a);
}

/* RMS norm over each head (Qwen 3): rows of head_dim. */
static struct tensor *head_norm(struct pass *p, const struct site *s, struct tensor *x)
{
    if (!s || !x) return x;
    int64_t rows = x->rows, cols = x->cols, d = p->m->hp.head_dim;
    struct tensor *y = g_reshape(p->g, x, rows * (cols / d), d);
    return g_reshape(p->g, nn_norm(p, s, y), rows, cols);
}

static struct tensor *attention(struct pass *p, const struct layer *l, int64_t index,
                                struct tensor *x)
{
    const struct hparams *hp = &p->m->hp;
    struct tensor *q = head_norm(p, l->at[SLOT_Q_NORM], nn_linear(p, l->at[SLOT_Q], x));
    struct tensor *k = head_norm(p, l->at[SLOT_K_NORM], nn_linear(p, l->at[SLOT_K], x));
    struct tensor *v = nn_linear(p, l->at[SLOT_V], x);
    if (p->m->arch->style.pos == POS_ROPE) {
        q = rope(p, q, hp->heads);
        k = rope(p, k, hp->kv_heads);
    }
    if (p->cache) {
        k = g_cache(p->g, k, p->cache[index].k, p->past);
        v = g_cache(p->g, v, p->cache[index].v, p->past);
    }
    struct attn a = { .nq = p->n, .nk = p->n + p->past, .heads = (int32_t)hp->heads,
                      .kv_heads = (int32_t)hp->kv_heads, .head_dim = (int32_t)hp->head_dim,
                      .scale = 1.0f / sqrtf((float)hp->head_dim), .lo = p->lo, .hi = p->hi };
    return nn_linear(p, l->at[SLOT_O], g_attention(p->g, q, k, v, &a));
}

static struct tensor *feed_forward(struct pass *p, const struct layer *l, struct tensor *x)
{
    struct tensor *up = nn_linear(p, l->at[SLOT_UP], x), *y;
    if (p->m->arch->style.gated)
        y = g_glu(p->g, nn_linear(p, l->at[SLOT_GATE], x), up, p->m->hp.act);
    else
        y = g_act(p->g, up, p->m->hp.act);
    return nn_linear(p, l->at[SLOT_DOWN], y);
}

static struct tensor *block(struct pass *p, const struct layer *l, int64_t index, struct tensor *x)
{
    struct graph *g = p->g;
    if (p->m->arch->style.norm_at == NORM_POST) {
        x = nn_norm(p, l->at[SLOT_ATTN_NORM], g_add(g, x, attention(p, l, index, x)));
        return nn_norm(p, l->at[SLOT_FFN_NORM], g_add(g, x, feed_forward(p, l, x)));
    }
    x = g_add(g, x, attention(p, l, index, nn_norm(p, l->at[SLOT_ATTN_NORM], x)));
    return g_add(g, x, feed_forward(p, l, nn_norm(p, l->at[SLOT_FFN_NORM], x)));
}

static struct tensor *embed(struct pass *p)
{
    struct site *const *at = p->m->global;
    struct graph *g = p->g;
    struct tensor *x = g_embed(g, nn_leaf(p, at[SLOT_EMBED]->w), p->ids, p->n);
    if (at[SLOT_POS]) x = g_add(g, x, g_embed(g, nn_leaf(p, at[SLOT_POS]->w), p->pos, p->n));
    if (at[SLOT_TYPE])
        x = g_add(g, x, g_embed(g, nn_leaf(p, at[SLOT_TYPE]->w), pass_types(p), p->n));
    return nn_norm(p, at[SLOT_EMBED_NORM], x);
}

struct tensor *model_hidden(struct pass *p)
{
    graph_segment(p->g, -1);
    struct tensor *x = embed(p);
    for (int64_t i = 0; i < p->m->hp.layers; i++) {
        graph_segment(p->g, (int32_t)i);
        x = block(p, &p->m->layers[i], i, x);
    }
    graph_segment(p->g, -1);
    return nn_norm(p, p->m->global[SLOT_FINAL_NORM], x);
}
