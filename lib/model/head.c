/* What stands on the hidden states: language-model head, pooling and
 * classification head. */
#include <stdio.h>

#include "model/model.h"

const struct site *model_lm_head(const struct model *m)
{
    if (m->global[SLOT_LM_HEAD]) return m->global[SLOT_LM_HEAD];
    return m->arch->class_lm ? m->global[SLOT_EMBED] : NULL;
}

struct tensor *model_logits(struct pass *p, struct tensor *hidden)
{
    return nn_linear(p, model_lm_head(p->m), hidden);
}

struct tensor *model_pooled(struct pass *p, struct tensor *hidden)
{
    const struct model *m = p->m;
    if (m->pool_kind == POOL_MEAN) return g_pool_mean(p->g, hidden, p->start, p->n_seq);
    int32_t *rows = pass_index(p);
    for (int64_t s = 0; s < p->n_seq; s++)
        rows[s] = m->pool_kind == POOL_CLS ? p->start[s] : p->start[s + 1] - 1;
    struct tensor *x = g_rows(p->g, hidden, rows, p->n_seq);
    if (m->pool_kind == POOL_CLS && m->global[SLOT_POOLER])
        x = g_act(p->g, nn_linear(p, m->global[SLOT_POOLER], x), ACT_TANH);
    return x;
}

struct tensor *model_classify(struct pass *p, struct tensor *pooled)
{
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

/* Normal with the deviation that Hugging Face's initializer_range has. */
int model_head_add(struct model *m, const peft_head_opts *o)
{
    int32_t pool = 0;
    const struct slot_row *row = m->arch->slots;
    while (row->kind && row->slot != SLOT_CLASSIFIER) row++;
    if (o->labels < 1 || o->labels > 1 << 20)
        return fail(PEFT_EARG, "a head with %d labels, expected 1 or more", o->labels);
    if (m->head)
        return fail(PEFT_ESTATE, "the model has a head with %d labels already", (int)m->hp.labels);
    int rc = pool_by_name(m, o->pool, &pool);
    if (rc) return rc;

    struct site *s = arena_alloc(&m->arena, sizeof(*s));
    struct param *w = new_param(m, row->hf, ".weight", o->labels, m->hp.dim, 2), *b = NULL;
    if (!s || !w) goto no_memory;
    if (!(row->flags & SLOT_NO_BIAS) && !(b = new_param(m, row->hf, ".bias", 1, o->labels, 1)))
        goto no_memory;
    struct param **params =
        mem_realloc(&m->host.mem, m->params, (m->n_params + 2) * (int64_t)sizeof(*params));
    if (!params) goto no_memory;
    m->params = params;
    struct site **sites =
        mem_realloc(&m->host.mem, m->sites, (m->n_sites + 1) * (int64_t)sizeof(*sites));
    if (!sites) goto no_memory;
    m->sites = sites;
    if (model_set_labels(m, o->labels, o->names)) goto no_memory;

    rng_fill_normal(w->own, param_len(w), 0.02f, o->seed, rng_stream(RNG_INIT, 0xffffffffu));
    *s = (struct site){ .name = row->hf, .layer = -1, .slot = SLOT_CLASSIFIER, .kind = SITE_LINEAR,
                        .flags = row->flags, .w = w, .b = b };
    m->params[m->n_params++] = w;
    if (b) m->params[m->n_params++] = b;
    m->sites[m->n_sites++] = s;
    m->global[SLOT_CLASSIFIER] = m->head = s;
    m->pool_kind = pool;
    m->head_dropout = o->dropout;
    return PEFT_OK;
no_memory:
    if (w) mem_free(&m->host.mem, w->own);
    if (b) mem_free(&m->host.mem, b->own);
    return PEFT_ENOMEM;
}

void model_head_remove(struct model *m)
{
    struct site *s = m->head;
    if (!s || !s->w->is_new) return;
    mem_free(&m->host.mem, s->w->own);
    if (s->b) mem_free(&m->host.mem, s->b->own);
    m->n_params -= s->b ? 2 : 1;                 /* they are the last ones */
    m->n_sites--;
    m->global[SLOT_CLASSIFIER] = m->head = NULL;
    m->hp.labels = 0;
}
