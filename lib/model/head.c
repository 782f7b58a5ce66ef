/* What stands on the hidden states: language-model head, pooling and
 * classification head. */
#include <stdio.h>

#include "model/model.h"

const struct named head_kinds[] = {
    { "language model", "the next token's logits, of decoders" },
    { "classification", "one of several labels for a text, pooled last, first or mean" },
    { "regression", "one number for a text" },
    { NULL, NULL },
};

const struct site *model_lm_head(const struct model *m)
{
    if (m->global[SLOT_LM_HEAD]) return m->global[SLOT_LM_HEAD];
    return m->arch->class_lm ? m->global[SLOT_EMBED] : NULL;
}

struct tensor *model_logits(struct pass *p, struct tensor *hidden)
{
    struct tensor *z = nn_linear(p, model_lm_head(p->m), hidden);
    float cap = (float)p->m->hp.logit_cap;
    if (!(cap > 0)) return z;
    return g_scale(p->g, g_act(p->g, g_scale(p->g, z, 1.0f / cap), ACT_TANH), cap);
}

/* The layer before the classifier: BERT's pooler, which is of the body and
 * trained to read [CLS], or a part of the classification head. */
static struct tensor *before_classifier(struct pass *p, struct tensor *x)
{
    const struct model *m = p->m;
    x = g_act(p->g, nn_linear(p, m->global[SLOT_POOLER], x), (enum act)m->arch->style.head_act);
    return nn_norm(p, m->global[SLOT_HEAD_NORM], x);
}

struct tensor *model_pooled(struct pass *p, struct tensor *hidden)
{
    const struct model *m = p->m;
    const struct site *pooler = m->global[SLOT_POOLER];
    if (m->pool_kind == POOL_MEAN) return g_pool_mean(p->g, hidden, p->start, p->n_seq);
    int32_t *rows = pass_index(p);
    for (int64_t s = 0; s < p->n_seq; s++)
        rows[s] = m->pool_kind == POOL_CLS ? p->start[s] : p->start[s + 1] - 1;
    struct tensor *x = g_rows(p->g, hidden, rows, p->n_seq);
    int reads = pooler && m->pool_kind == POOL_CLS && !(pooler->flags & (SLOT_OF_HEAD | SLOT_IDLE));
    return reads ? before_classifier(p, x) : x;
}

struct tensor *model_embedding(struct pass *p, struct tensor *hidden)
{
    if (!p->m->global[SLOT_CLASS]) return g_pool_mean(p->g, hidden, p->start, p->n_seq);
    struct tensor *x = g_rows(p->g, hidden, p->start, p->n_seq);
    const struct site *projection = p->m->global[SLOT_PROJECTION];
    return projection ? nn_linear(p, projection, x) : x;
}

struct tensor *model_classify(struct pass *p, struct tensor *pooled)
{
    const struct site *pooler = p->m->global[SLOT_POOLER];
    if (pooler && (pooler->flags & SLOT_OF_HEAD)) {
        pooled = nn_dropout(p, pooled, p->m->head_dropout);
        pooled = before_classifier(p, pooled);
    }
    return nn_linear(p, p->m->head, nn_dropout(p, pooled, p->m->head_dropout));
}

int model_set_labels(struct model *m, int32_t n, const char *const *names)
{
    char text[32];
    const char **labels = arena_alloc(&m->arena, (int64_t)sizeof(*labels) * n);
    if (!labels) return PEFT_ENOMEM;
    for (int32_t i = 0; i < n; i++) {
        snprintf(text, sizeof(text), "LABEL_%d", i);
        const char *s = names && names[i] ? names[i] : text;
        if (!(labels[i] = arena_strndup(&m->arena, s, (int64_t)strlen(s)))) return PEFT_ENOMEM;
    }
    m->labels = labels;
    m->hp.labels = n;
    return PEFT_OK;
}

static struct param *new_param(struct model *m, const char *module, const char *suffix,
                               int64_t rows, int64_t cols, int n_dims)
{
    struct param *p = arena_alloc(&m->arena, sizeof(*p));
    int64_t n = (int64_t)strlen(module), k = (int64_t)strlen(suffix);
    char *name = arena_alloc(&m->arena, n + k + 1);
    float *own = mem_zalloc(&m->host.mem, rows * cols * 4);
    if (!p || !name || !own) {
        mem_free(&m->host.mem, own);
        return NULL;
    }
    memcpy(name, module, (size_t)n);
    memcpy(name + n, suffix, (size_t)k);
    *p = (struct param){ .name = name,
                         .type = &qtype_f32,
                         .stored = &qtype_f32,
                         .rows = rows,
                         .cols = cols,
                         .data = own,
                         .own = own,
                         .layer = -1,
                         .n_dims = n_dims,
                         .trainable = 1,
                         .counted = 1,
                         .is_new = 1 };
    return p;
}

static int pool_by_name(const struct model *m, const char *name, int32_t *out)
{
    static const char *const names[] = { "last", "cls", "mean" };
    if (!name) {
        *out = m->arch->style.pool;
        return PEFT_OK;
    }
    for (int32_t i = 0; i < 3; i++)
        if (!strcmp(name, names[i])) {
            *out = i;
            return PEFT_OK;
        }
    return fail(PEFT_EARG, "pooling \"%s\", expected last, cls or mean", name);
}

/* One module of a new head: linear weights are normal with the deviation that
 * Hugging Face's initializer_range has, norms are 1, biases 0. */
static int new_site(struct model *m, const struct slot_row *row, const peft_head_opts *o)
{
    int norm = row->kind == SITE_NORM;
    int64_t rows = row->slot == SLOT_CLASSIFIER ? o->labels : norm ? 1 : m->hp.embed;
    struct site *s = arena_alloc(&m->arena, sizeof(*s));
    struct param *w = NULL, *b = NULL;
    struct param **params =
        mem_realloc(&m->host.mem, m->params, (m->n_params + 2) * (int64_t)sizeof(*params));
    if (params) m->params = params;
    struct site **sites =
        mem_realloc(&m->host.mem, m->sites, (m->n_sites + 1) * (int64_t)sizeof(*sites));
    if (sites) m->sites = sites;
    if (!s || !params || !sites) return PEFT_ENOMEM;
    w = new_param(m, row->hf, ".weight", rows, m->hp.embed, norm ? 1 : 2);
    if (!w) return PEFT_ENOMEM;
    if (!(row->flags & SLOT_NO_BIAS) &&
        !(b = new_param(m, row->hf, ".bias", 1, norm ? m->hp.embed : rows, 1))) {
        mem_free(&m->host.mem, w->own);
        return PEFT_ENOMEM;
    }
    uint32_t stream = 0xffffffffu - (SLOT_CLASSIFIER - row->slot);
    if (norm) m->compute.k->fill(w->own, 1.0f, param_len(w));
    else rng_fill_normal(w->own, param_len(w), 0.02f, o->seed, rng_stream(RNG_INIT, stream));
    *s = (struct site){ .name = row->hf, .peft_name = row->hf, .layer = -1, .expert = -1,
                        .slot = row->slot, .kind = row->kind, .flags = row->flags, .row = row,
                        .w = w, .b = b };
    m->params[m->n_params++] = w;
    if (b) m->params[m->n_params++] = b;
    m->sites[m->n_sites++] = s;
    m->global[row->slot] = s;
    return PEFT_OK;
}

int model_head_add(struct model *m, const peft_head_opts *o)
{
    int32_t pool = 0;
    if (o->labels < 1 || o->labels > 1 << 20)
        return fail(PEFT_EARG, "a head with %d labels, expected 1 or more", o->labels);
    if (m->head)
        return fail(PEFT_ESTATE, "the model has a head with %d labels already", (int)m->hp.labels);
    if (!m->arch->class_cls)
        return fail(PEFT_EUNSUPPORTED, "models of the family %s take no classification head",
                    m->arch->name);
    int rc = pool_by_name(m, o->pool, &pool);
    if (!rc) rc = model_set_labels(m, o->labels, o->names);
    for (const struct slot_row *row = m->arch->slots; row->kind && !rc; row++)
        if ((row->flags & SLOT_OF_HEAD) && !m->global[row->slot]) rc = new_site(m, row, o);
    m->head = m->global[SLOT_CLASSIFIER];
    if (rc) {
        model_head_remove(m);
        return rc;
    }
    m->pool_kind = pool;
    m->head_dropout = o->dropout;
    return PEFT_OK;
}

/* What was made for the head stands last. */
void model_head_remove(struct model *m)
{
    while (m->n_sites && m->sites[m->n_sites - 1]->w->is_new) {
        struct site *s = m->sites[--m->n_sites];
        mem_free(&m->host.mem, s->w->own);
        if (s->b) mem_free(&m->host.mem, s->b->own);
        m->n_params -= s->b ? 2 : 1;
        m->global[s->slot] = NULL;
        if (s == m->head) m->head = NULL;
    }
    if (!m->head) m->hp.labels = 0;
}
