/* What stands on the hidden states: language-model head, pooling and
 * classification head. */
#include <stdio.h>

#include "model/load.h"

const struct head_kind head_kinds[HEAD_IDS] = {
    [HEAD_LM] = { "language-model", NULL, NULL, "CAUSAL_LM", 0, 1,
                  "the next token's logits, of decoders" },
    [HEAD_BODY] = { "embedding", NULL, NULL, "FEATURE_EXTRACTION", 0, 1,
                    "no head: a vector for a text, pooled mean, cls, last or weighted" },
    [HEAD_CLASS] = { "classification", "ForSequenceClassification", "single_label_classification",
                     "SEQ_CLS", 0, 0, "one of several labels for a text" },
    [HEAD_MULTI] = { "multi-label", "ForSequenceClassification", "multi_label_classification",
                     "SEQ_CLS", 0, 0, "any number of labels for a text" },
    [HEAD_REGRESS] = { "regression", "ForSequenceClassification", "regression", "SEQ_CLS", 0, 0,
                       "one number for a text, or several" },
    [HEAD_REWARD] = { "reward", "ForSequenceClassification", NULL, "SEQ_CLS", 1, 0,
                      "how good an answer is, learned from pairs" },
    [HEAD_TOKENS] = { "tokens", "ForTokenClassification", NULL, "TOKEN_CLS", 0, 1,
                      "a label for each token: names, parts of speech" },
    [HEAD_SPAN] = { "question-answering", "ForQuestionAnswering", NULL, "QUESTION_ANS", 2, 1,
                    "where in a text the answer to a question stands" },
    [HEAD_MASKED] = { "masked-lm", "ForMaskedLM", NULL, NULL, 0, 1,
                      "the logits of masked tokens, of encoders" },
};

int head_by_name(const char *name)
{
    for (int i = 0; i < HEAD_IDS; i++)
        if (!strcmp(head_kinds[i].name, name)) return i;
    return -1;
}

int slot_with(const struct slot_row *row, enum head_id head)
{
    uint32_t heads = row->flags / SLOT_FOR;
    return !heads || (heads >> head & 1);
}

const struct slot_row *head_row(const struct arch *a, enum head_id head)
{
    int slot = head == HEAD_MASKED ? SLOT_LM_BIAS : SLOT_CLASSIFIER;
    for (const struct slot_row *row = a->slots; row->kind; row++)
        if (row->slot == slot && slot_with(row, head)) return row;
    return NULL;
}

enum head_id model_bare_kind(const struct model *m)
{
    if (m->arch->class_lm && (m->global[SLOT_LM_HEAD] || m->hp.tied)) return HEAD_LM;
    return m->global[SLOT_LM_DENSE] || m->global[SLOT_LM_BIAS] ? HEAD_MASKED : HEAD_BODY;
}

static int rename_to(struct model *m, const char **name, const char *from, const char *to)
{
    char text[256];
    size_t n = strlen(from);
    if (strncmp(*name, from, n)) return PEFT_OK;
    int k = snprintf(text, sizeof(text), "%s%s", to, *name + n);
    const char *kept = arena_strndup(&m->arena, text, MIN(k, (int)sizeof(text) - 1));
    if (!kept) return PEFT_ENOMEM;
    *name = kept;
    return PEFT_OK;
}

int model_set_kind(struct model *m, enum head_id kind)
{
    const char *other = m->arch->style.span_prefix;
    const char *from = m->kind == HEAD_SPAN && other ? other : m->arch->prefix;
    const char *to = kind == HEAD_SPAN && other ? other : m->arch->prefix;
    struct param *p;
    int rc = PEFT_OK;
    m->kind = kind;
    if (from == to) return PEFT_OK;
    for (int64_t i = 0; i < m->n_sites && !rc; i++) {
        rc = rename_to(m, &m->sites[i]->name, from, to);
        if (!rc) rc = rename_to(m, &m->sites[i]->peft_name, from, to);
    }
    for (int64_t i = 0; (p = model_nth_param(m, i)) && !rc; i++)
        rc = rename_to(m, &p->name, from, to);
    return rc;
}

const struct site *model_lm_head(const struct model *m)
{
    if (m->global[SLOT_LM_HEAD]) return m->global[SLOT_LM_HEAD];
    return model_bare_kind(m) != HEAD_BODY ? m->output : NULL;
}

int model_tied(const struct model *m)
{
    return !m->head && m->output && model_lm_head(m) == m->output;
}

struct site *model_site(const struct model *m, int64_t i)
{
    if (i < m->n_sites) return m->sites[i];
    return i == m->n_sites ? m->output : NULL;
}

int model_make_output(struct model *m)
{
    const struct slot_row *row = slot_find(m->arch, SLOT_LM_HEAD);
    const struct site *embed = m->global[SLOT_EMBED];
    char name[160];
    if (m->global[SLOT_LM_HEAD] || !embed) return PEFT_OK;
    struct site *s = arena_alloc(&m->arena, sizeof(*s));
    struct param *p = arena_alloc(&m->arena, sizeof(*p));
    if (!s || !p) return PEFT_ENOMEM;
    *s = (struct site){ .name = row ? row->hf : "lm_head", .layer = -1, .expert = -1,
                        .slot = SLOT_LM_HEAD, .kind = SITE_LINEAR, .flags = SLOT_HEAD, .row = row,
                        .w = embed->w, .index = m->n_sites };
    s->peft_name = s->name;
    *p = *embed->w;
    p->own = NULL;
    p->packed = NULL;
    p->adapter = 1;
    p->trainable = 0;
    int n = snprintf(name, sizeof(name), "%s.weight", s->name);
    if (!(p->name = arena_strndup(&m->arena, name, n))) return PEFT_ENOMEM;
    m->output = s;
    m->untied = p;
    return PEFT_OK;
}

/* Masked language models have a layer of their own before the embeddings; that
 * of ModernBERT is the one of its classifiers. */
struct tensor *model_before_lm(struct pass *p, struct tensor *x)
{
    struct site *const *at = p->m->global;
    int shared = p->m->kind == HEAD_MASKED && !at[SLOT_LM_DENSE];
    const struct site *dense = at[shared ? SLOT_POOLER : SLOT_LM_DENSE];
    if (!dense) return x;
    x = g_act(p->g, nn_linear(p, dense, x), p->m->hp.act);
    return nn_norm(p, at[shared ? SLOT_HEAD_NORM : SLOT_LM_NORM], x);
}

struct tensor *model_logits(struct pass *p, struct tensor *hidden)
{
    const struct site *bias = p->m->global[SLOT_LM_BIAS];
    struct tensor *z = nn_linear(p, model_lm_head(p->m), model_before_lm(p, hidden));
    if (bias) z = nn_bias(p, bias->w, z);
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

/* As transformers and sentence-transformers read a text with virtual rows: they
 * are of it, and the first of them stands where [CLS] did. */
struct tensor *model_pool(struct pass *p, struct tensor *hidden, int kind)
{
    const int32_t *start = p->all.start;
    if (p->wide) hidden = p->wide;
    p->shares = &p->rows[ROWS_TEXTS];
    if (kind == POOL_MEAN || kind == POOL_WEIGHTED)
        return g_pool_mean(p->g, hidden, start, p->n_seq, kind == POOL_WEIGHTED);
    int32_t *rows = pass_index(p);
    for (int64_t s = 0; s < p->n_seq; s++)
        rows[s] = kind == POOL_CLS ? start[s] : start[s + 1] - 1;
    return g_rows(p->g, hidden, rows, p->n_seq);
}

struct tensor *model_pooled(struct pass *p, struct tensor *hidden)
{
    const struct model *m = p->m;
    const struct site *pooler = m->global[SLOT_POOLER];
    struct tensor *x = model_pool(p, hidden, m->pool_kind);
    int reads = pooler && m->pool_kind == POOL_CLS && !(pooler->flags & (SLOT_OF_HEAD | SLOT_IDLE));
    return reads ? before_classifier(p, x) : x;
}

struct tensor *model_embedding(struct pass *p, struct tensor *hidden)
{
    p->shares = &p->rows[ROWS_TEXTS];
    if (!p->m->global[SLOT_CLASS]) return g_pool_mean(p->g, hidden, p->start, p->n_seq, 0);
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

const char *const pool_names[POOL_KINDS] = { "last", "cls", "mean", "weighted" };

int pool_by_name(const char *name, int32_t *out)
{
    for (int32_t i = 0; i < POOL_KINDS; i++)
        if (!strcmp(name, pool_names[i])) {
            *out = i;
            return PEFT_OK;
        }
    return fail(PEFT_EARG, "pooling \"%.40s\", expected last, cls, mean or weighted", name);
}

static int64_t new_dim(const struct model *m, uint8_t dim, int32_t labels)
{
    return dim == DIM_LABELS ? labels : dim == DIM_VOCAB ? m->hp.vocab : slot_dim(&m->hp, dim);
}

/* One module of a new head: linear weights are normal with the deviation that
 * Hugging Face's initializer_range has, norms are 1, biases 0. */
static int new_site(struct model *m, const struct slot_row *row, const peft_head_opts *o)
{
    int norm = row->kind == SITE_NORM, linear = row->kind == SITE_LINEAR;
    int64_t rows = new_dim(m, row->rows, o->labels), cols = new_dim(m, row->cols, o->labels);
    struct site *s = arena_alloc(&m->arena, sizeof(*s));
    struct param *w = NULL, *b = NULL;
    struct param **params =
        mem_realloc(&m->host.mem, m->params, (m->n_params + 2) * (int64_t)sizeof(*params));
    if (params) m->params = params;
    struct site **sites =
        mem_realloc(&m->host.mem, m->sites, (m->n_sites + 1) * (int64_t)sizeof(*sites));
    if (sites) m->sites = sites;
    if (!s || !params || !sites) return PEFT_ENOMEM;
    w = new_param(m, row->hf, row->kind == SITE_BIAS ? ".bias" : ".weight", rows, cols, 1 + linear);
    if (!w) return PEFT_ENOMEM;
    if ((linear || norm) && !(row->flags & SLOT_NO_BIAS) &&
        !(b = new_param(m, row->hf, ".bias", 1, norm ? cols : rows, 1))) {
        mem_free(&m->host.mem, w->own);
        return PEFT_ENOMEM;
    }
    uint32_t stream = 0xffffffffu - (SLOT_CLASSIFIER - row->slot);
    if (norm) m->compute.k->fill(w->own, 1.0f, param_len(w));
    else if (linear)
        rng_fill_normal(w->own, param_len(w), 0.02f, o->seed, rng_stream(RNG_INIT, stream));
    *s = (struct site){ .name = row->hf, .peft_name = row->hf, .layer = -1, .expert = -1,
                        .slot = row->slot, .kind = row->kind, .flags = (uint16_t)row->flags,
                        .row = row, .w = w, .b = b, .index = m->n_sites };
    m->params[m->n_params++] = w;
    if (b) m->params[m->n_params++] = b;
    m->sites[m->n_sites++] = s;
    m->global[row->slot] = s;
    return PEFT_OK;
}

/* The kind that is asked for, and how many outputs it has. */
static int choose_kind(peft_head_opts *o, int *kind)
{
    *kind = o->kind ? head_by_name(o->kind) : o->labels == 1 ? HEAD_REGRESS : HEAD_CLASS;
    if (*kind <= HEAD_BODY)
        return fail(PEFT_EARG, "a head of the kind \"%.40s\", expected classification, multi-"
                    "label, regression, reward, tokens, question-answering or masked-lm",
                    o->kind);
    if (*kind == HEAD_CLASS && o->labels == 1) *kind = HEAD_REGRESS;
    int32_t fixed = head_kinds[*kind].labels;
    if (fixed && o->labels && o->labels != fixed)
        return fail(PEFT_EARG, "a head of the kind \"%s\" with %d labels, expected %d",
                    head_kinds[*kind].name, o->labels, fixed);
    if (fixed) o->labels = fixed;
    if (*kind == HEAD_REGRESS && !o->labels) o->labels = 1;
    if (*kind != HEAD_MASKED && (o->labels < 1 || o->labels > 1 << 20))
        return fail(PEFT_EARG, "a head with %d labels, expected 1 or more", o->labels);
    return PEFT_OK;
}

int model_head_add(struct model *m, const peft_head_opts *o)
{
    int32_t pool = 0;
    int kind = 0, masked = 0;
    peft_head_opts given = *o;
    int rc = choose_kind(&given, &kind);
    if (rc) return rc;
    o = &given;
    masked = kind == HEAD_MASKED;
    if (m->head)
        return fail(PEFT_ESTATE, "the model has a head with %d labels already", (int)m->hp.labels);
    if (masked && m->kind == HEAD_MASKED)
        return fail(PEFT_ESTATE, "the model is a masked language model already");
    if (!head_row(m->arch, (enum head_id)kind))
        return fail(PEFT_EUNSUPPORTED, "models of the family %s take no head of the kind \"%s\"",
                    m->arch->name, head_kinds[kind].name);
    pool = m->arch->style.pool;
    if (o->pool) rc = pool_by_name(o->pool, &pool);
    if (!rc && !masked) rc = model_set_labels(m, o->labels, o->names);
    for (const struct slot_row *row = m->arch->slots; row->kind && !rc; row++)
        if ((row->flags & SLOT_OF_HEAD) && slot_with(row, (enum head_id)kind) &&
            !m->global[row->slot])
            rc = new_site(m, row, o);
    m->head = m->global[SLOT_CLASSIFIER];
    if (!rc) rc = model_set_kind(m, (enum head_id)kind);
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
    if (m->head) return;
    m->hp.labels = 0;
    model_set_kind(m, model_bare_kind(m));
}
