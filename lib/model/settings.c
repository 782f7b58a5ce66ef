/* File -> family and settings: config.json's members or GGUF's metadata, read by
 * the family's table of keys and then checked against each other. */
#include <stdio.h>

#include "model/load.h"
#include "model/rope.h"

#define ARCH(name) extern const struct arch arch_##name;
#include "model/arch.def"
#undef ARCH
#define ARCH(name) &arch_##name,
const struct arch *const archs[] = {
#include "model/arch.def"
    NULL
};
#undef ARCH

/* --- family */

static int known_archs(const char *found)
{
    char list[512] = "";
    size_t n = 0;
    for (int i = 0; archs[i] && n < sizeof(list) - 32; i++)
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", archs[i]->name);
    return fail(PEFT_EUNSUPPORTED, "architecture \"%s\", expected one of: %s", found, list);
}

static int has_setting(struct model *m, const struct arch *a)
{
    char key[96];
    int64_t value = 0;
    if (!a->gguf_if) return 1;
    if (*a->gguf_if == '!') return !store_find(m->store, a->gguf_if + 1);
    snprintf(key, sizeof(key), "%s.%s", a->gguf, a->gguf_if);
    int rc = store_int(m->store, key, 0, INT64_MAX, &value);
    return rc < 0 ? rc : value > 0;
}

/* config.json's class is the family's, where that is what tells families apart. */
static int has_class(struct model *m, const struct arch *a)
{
    const json *list = json_get(store_config(m->store), "architectures");
    const char *class = json_string(json_first(list));
    return !a->style.hf_class || (class && !strcmp(class, a->style.hf_class));
}

int load_arch(struct model *m)
{
    const char *s;
    int64_t n;
    int gguf = store_format(m->store) == STORE_GGUF;
    int rc = store_string(m->store, gguf ? "general.architecture" : "model_type", &s, &n);
    const char *type;
    if (rc < 0) return rc;
    if (gguf && store_string(m->store, "general.type", &type, NULL) > 0 && !strcmp(type, "adapter"))
        return fail(PEFT_EFORMAT, "%s is an adapter, expected its base model", m->path);
    if (!rc)
        return fail(PEFT_EFORMAT, "%s has no %s", m->path,
                    gguf ? "general.architecture" : "model_type");
    for (int i = 0; archs[i]; i++) {
        const char *name = gguf ? archs[i]->gguf : archs[i]->name;
        if (!name || (int64_t)strlen(name) != n || memcmp(name, s, (size_t)n)) continue;
        if ((rc = gguf ? has_setting(m, archs[i]) : has_class(m, archs[i])) < 0) return rc;
        if (!rc) continue;
        m->arch = archs[i];
        return PEFT_OK;
    }
    char found[48];
    snprintf(found, sizeof(found), "%.*s", (int)MIN(n, 40), s);
    return known_archs(found);
}

/* --- settings */

static int read_key(struct model *m, const struct key *k)
{
    char name[96];
    int64_t *i = (int64_t *)((char *)&m->hp + k->at);
    double *f = (double *)((char *)&m->hp + k->at);
    int rc = 0, on = 0, gguf = store_format(m->store) == STORE_GGUF;
    if (k->kind != 'x' && (k->kind == 'f' ? *f != 0 : *i != 0)) return PEFT_OK;
    if (gguf && k->gguf)
        snprintf(name, sizeof(name), strncmp(k->gguf, "tokenizer.", 10) ? "%s.%s" : "%.0s%s",
                 m->arch->gguf, k->gguf);
    else snprintf(name, sizeof(name), "%s", k->hf ? k->hf : "");
    if (gguf ? k->gguf != NULL : k->hf != NULL)
        rc = k->kind == 'i' || k->kind == 'd' ? store_int(m->store, name, 0, k->hi, i)
             : k->kind == 'f' ? store_number(m->store, name, f)
                              : store_bool(m->store, name, &on);
    if (rc < 0) return rc;
    if (k->kind == 'x' && on)
        return fail(PEFT_EUNSUPPORTED, "%s: %s is on, expected off", m->path, name);
    if (k->kind == 'x') return PEFT_OK;
    if (!rc && k->need == 'r') return fail(PEFT_EFORMAT, "%s has no setting %s", m->path, name);
    if (k->kind == 'b') *i = on;
    if (!rc && k->kind == 'f') *f = k->absent;
    if (!rc && k->kind != 'f') *i = (int64_t)k->absent;
    return PEFT_OK;
}

static int activation(struct model *m)
{
    static const struct { const char *name; enum act act; } table[] = {
        { "silu", ACT_SILU }, { "swish", ACT_SILU }, { "gelu", ACT_GELU }, { "relu", ACT_RELU },
        { "gelu_new", ACT_GELU_TANH }, { "gelu_pytorch_tanh", ACT_GELU_TANH },
        { "gelu_fast", ACT_GELU_TANH }, { "quick_gelu", ACT_QUICK_GELU },
        { "gated-gelu", ACT_GELU_TANH }
    };
    static const char *const keys[] = { "hidden_activation", "hidden_act", "activation_function",
                                        "activation" };
    const char *s;
    int rc = 0;
    if (m->arch->style.act_key && store_config(m->store))
        rc = store_string(m->store, m->arch->style.act_key, &s, NULL);
    for (size_t i = 0; i < ARRAY_LEN(keys) && store_config(m->store) && !rc; i++)
        rc = store_string(m->store, keys[i], &s, NULL);
    m->hp.act = (enum act)m->arch->style.act;
    if (rc <= 0) return rc;
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (!strcmp(s, table[i].name) ||
            (m->arch->style.act_key && !strncmp(s, "gated-", 6) && !strcmp(s + 6, table[i].name) &&
             table[i].act != ACT_GELU)) {
            m->hp.act = table[i].act;
            return PEFT_OK;
        }
    return fail(PEFT_EUNSUPPORTED, "activation \"%s\", expected silu, gelu, gelu_new or relu", s);
}

/* Rotary dimensions, given as a number, as a share, or not at all. */
static int rotary_dims(struct model *m)
{
    struct hparams *hp = &m->hp;
    if (m->arch->style.pos != POS_ROPE) return PEFT_OK;
    if (!(hp->rot_share >= 0 && hp->rot_share <= 1))
        return fail(PEFT_EFORMAT, "%s: a share of %g rotary dimensions, expected 0 to 1", m->path,
                    hp->rot_share);
    if (!hp->rot)
        hp->rot = hp->rot_share > 0 ? (int64_t)((double)hp->head_dim * hp->rot_share)
                                    : hp->head_dim;
    if (hp->rot % 2 || hp->rot < 2 || hp->rot > hp->head_dim)
        return fail(PEFT_EFORMAT, "%s: %d rotary dimensions, expected an even number up to %d",
                    m->path, (int)hp->rot, (int)hp->head_dim);
    hp->rot_share = (double)hp->rot / (double)hp->head_dim;
    return PEFT_OK;
}

int64_t gguf_scalar(const struct hparams *hp)
{
    return hp->layers == 46 || hp->layers == 62 ? hp->dim / hp->heads : hp->head_dim;
}

int load_settings(struct model *m)
{
    struct hparams *hp = &m->hp;
    int rc = 0;
    hp->post_norm = m->arch->style.norm_at == NORM_POST;
    for (const struct key *k = m->arch->keys; k->at != UINT16_MAX && !rc; k++) rc = read_key(m, k);
    if (!rc && m->arch->settle) rc = m->arch->settle(m->store, hp);
    if (!rc) rc = activation(m);
    if (rc) return rc;
    if (!hp->kv_heads) hp->kv_heads = hp->heads;
    if (!hp->ff) hp->ff = 4 * hp->dim;
    if (!hp->embed) hp->embed = hp->dim;
    if (hp->layers < 1 || hp->dim < 1 || hp->heads < 1 || hp->ff < 1 || hp->max_len < 1)
        return fail(
            PEFT_EFORMAT,
            "%s: layers, hidden size, heads, feed-forward size and length must be 1 or more",
            m->path);
    if (hp->layers > store_count(m->store))
        return fail(PEFT_EFORMAT, "%s: %d layers, but %d tensors", m->path, (int)hp->layers,
                    (int)store_count(m->store));
    if (!hp->head_dim) {
        if (hp->dim % hp->heads)
            return fail(PEFT_EFORMAT, "%s: hidden size %d is no multiple of %d heads", m->path,
                        (int)hp->dim, (int)hp->heads);
        hp->head_dim = hp->dim / hp->heads;
    }
    if (hp->heads % hp->kv_heads)
        return fail(PEFT_EFORMAT, "%s: %d heads are no multiple of %d key-value heads", m->path,
                    (int)hp->heads, (int)hp->kv_heads);
    if (m->arch->style.scalar && !store_config(m->store)) hp->attn_scalar = gguf_scalar(hp);
    if ((rc = rotary_dims(m)) || (rc = scaling_read(m))) return rc;
    if (!(hp->eps >= 0 && hp->eps < 1) || !(hp->local_theta >= 0) ||
        (m->arch->style.pos == POS_ROPE && !(hp->theta > 0)))
        return fail(PEFT_EFORMAT, "%s: norm epsilon or rope base out of range", m->path);
    if (!(hp->attn_cap >= 0) || !(hp->logit_cap >= 0))
        return fail(PEFT_EFORMAT, "%s: a soft cap below 0", m->path);
    if (hp->experts && (hp->experts_used < 1 || hp->experts_used > hp->experts))
        return fail(PEFT_EFORMAT, "%s: %d of %d experts are used", m->path, (int)hp->experts_used,
                    (int)hp->experts);
    hp->tied = 1;
    if (store_config(m->store)) {
        int64_t labels = json_count(json_get(store_config(m->store), "id2label"));
        hp->tied = m->arch->style.tied;
        rc = store_bool(m->store, "tie_word_embeddings", &hp->tied);
        hp->labels = labels > 0 ? labels : 0;
    }
    return MIN(rc, PEFT_OK);
}

/* --- layers */

/* The period that config.json's list of kinds has, or 0 when it has none and
 * the model is marked as irregular. */
static int64_t find_period(struct model *m)
{
    int64_t n = m->hp.layers, first = m->arch->style.global_first, p = 1;
    while (p < n + !first && m->layers[first ? p : p - 1].local) p++;
    for (int64_t i = 0; i < n; i++)
        m->irregular |= m->layers[i].local != (i % p != (first ? 0 : p - 1));
    return p;
}

static int local_by_name(struct model *m, const json *kind, int64_t i)
{
    const char *s = json_string(kind);
    if (!s || (strcmp(s, "full_attention") && strcmp(s, "sliding_attention")))
        return fail(PEFT_EUNSUPPORTED, "%s: layer_types[%d] is \"%s\", expected "
                    "\"full_attention\" or \"sliding_attention\"", m->path, (int)i,
                    s ? s : json_kind_name(kind));
    m->layers[i].local = *s == 's';
    return PEFT_OK;
}

int load_layers(struct model *m)
{
    struct hparams *hp = &m->hp;
    const json *root = store_config(m->store);
    const json *kinds = hp->period || hp->full_layers ? json_get(root, "layer_types") : NULL;
    const json *ropes = hp->nope_period ? json_get(root, "no_rope_layers") : NULL;
    const json *kind = json_first(kinds), *rope = json_first(ropes);
    if ((kind && json_count(kinds) != hp->layers) || (rope && json_count(ropes) != hp->layers))
        return fail(PEFT_EFORMAT, "%s: layer_types or no_rope_layers, expected %d entries", m->path,
                    (int)hp->layers);
    m->layers = arena_alloc(&m->arena, hp->layers * (int64_t)sizeof(*m->layers));
    if (!m->layers) return PEFT_ENOMEM;
    for (int64_t i = 0; i < hp->layers; i++) {
        struct layer *l = &m->layers[i];
        int64_t at = m->arch->style.global_first ? i : i + 1;
        l->local = (!hp->period || at % hp->period != 0) && i >= hp->full_layers;
        if (kind && local_by_name(m, kind, i)) return PEFT_EUNSUPPORTED;
        l->rope = hp->nope_period && (i + 1) % hp->nope_period == 0 ? -1 : 0;
        if (rope) {
            int8_t has = json_number(rope, 1) != 0 ? 0 : -1;
            m->irregular |= has != l->rope;
            l->rope = has;
        }
        if (!l->rope && l->local && hp->local_theta > 0) l->rope = 1;
        if (hp->alibi) l->rope = -1;
        kind = json_next(kind);
        rope = json_next(rope);
    }
    m->stack[STACK_ENCODER] = (struct stack){ 0, hp->enc_layers, 0 };
    m->stack[STACK_MAIN] = (struct stack){ hp->enc_layers, hp->layers, m->arch->style.causal };
    /* llama.cpp knows one distance from which all are one. */
    if (hp->buckets && hp->far != 128) m->irregular = 1;
    if (hp->full_layers && hp->window) m->irregular = 1;
    else if (kinds && hp->period) hp->period = find_period(m);
    return PEFT_OK;
}
