/* File -> model: family, settings, parameters bound to the mapped tensors,
 * tokenizer.  Nothing is copied or expanded. */
#include <stdio.h>

#include "model/model.h"

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
    char list[256] = "";
    size_t n = 0;
    for (int i = 0; archs[i] && n < sizeof(list) - 32; i++)
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", archs[i]->name);
    return fail(PEFT_EUNSUPPORTED, "architecture \"%s\", expected one of: %s", found, list);
}

static int find_arch(struct model *m)
{
    const char *s;
    int64_t n;
    int gguf = store_format(m->store) == STORE_GGUF;
    int rc = store_string(m->store, gguf ? "general.architecture" : "model_type", &s, &n);
    if (rc < 0) return rc;
    if (!rc)
        return fail(PEFT_EFORMAT, "%s has no %s", m->path,
                    gguf ? "general.architecture" : "model_type");
    for (int i = 0; archs[i]; i++) {
        const char *name = gguf ? archs[i]->gguf : archs[i]->name;
        if (name && (int64_t)strlen(name) == n && !memcmp(name, s, (size_t)n)) {
            m->arch = archs[i];
            return PEFT_OK;
        }
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
    int rc = 0, gguf = store_format(m->store) == STORE_GGUF;
    if (k->kind == 'i' ? *i : *f != 0) return PEFT_OK;
    if (gguf && k->gguf)
        snprintf(name, sizeof(name),
                 strchr(k->gguf, '.') && !strncmp(k->gguf, "tokenizer.", 10) ? "%.0s%s" : "%s.%s",
                 m->arch->gguf, k->gguf);
    else
        snprintf(name, sizeof(name), "%s", k->hf ? k->hf : "");
    if (gguf ? k->gguf != NULL : k->hf != NULL)
        rc = k->kind == 'i' ? store_int(m->store, name, 0, k->hi, i)
                            : store_number(m->store, name, f);
    if (rc < 0) return rc;
    if (!rc && k->need == 'r') return fail(PEFT_EFORMAT, "%s has no setting %s", m->path, name);
    if (!rc && k->kind == 'i') *i = (int64_t)k->absent;
    if (!rc && k->kind == 'f') *f = k->absent;
    return PEFT_OK;
}

static int rope_settings(struct model *m)
{
    static const char *const at[] = { "rope_parameters", "rope_scaling" };
    struct hparams *hp = &m->hp;
    const char *s;
    int64_t n;
    if (store_format(m->store) == STORE_GGUF) {
        char key[96];
        snprintf(key, sizeof(key), "%s.rope.scaling.type", m->arch->gguf);
        int rc = store_string(m->store, key, &s, &n);
        if (rc <= 0 || (n == 4 && !memcmp(s, "none", 4))) return rc;
        if (n != 6 || memcmp(s, "linear", 6))
            return fail(PEFT_EUNSUPPORTED, "rope scaling \"%.*s\", expected linear or none",
                        (int)MIN(n, 24), s);
        hp->rope = ROPE_LINEAR;
        snprintf(key, sizeof(key), "%s.rope.scaling.factor", m->arch->gguf);
        rc = store_number(m->store, key, &hp->rope_factor);
        if (rc < 0) return rc;
        if (!rc || !(hp->rope_factor > 0))
            return fail(PEFT_EFORMAT, "%s: linear rope scaling without a factor above 0", m->path);
        return PEFT_OK;
    }
    for (size_t i = 0; i < ARRAY_LEN(at); i++) {
        const json *r = json_get(store_config(m->store), at[i]);
        if (json_kind(r) == JSON_NULL) continue;
        const json *kind = json_get(r, "rope_type");
        if (json_kind(kind) == JSON_NULL) kind = json_get(r, "type");
        const char *type = json_string(kind);
        if (json_kind(r) != JSON_OBJECT || (json_kind(kind) != JSON_NULL && !type))
            return fail(PEFT_EFORMAT, "%s: \"%s\" is no object with a type", m->path, at[i]);
        if (!type || !strcmp(type, "default")) continue;
        hp->rope_factor = json_number(json_get(r, "factor"), 0);
        hp->rope_low = json_number(json_get(r, "low_freq_factor"), 0);
        hp->rope_high = json_number(json_get(r, "high_freq_factor"), 0);
        hp->rope_original = json_number(json_get(r, "original_max_position_embeddings"), 0);
        if (!strcmp(type, "linear")) hp->rope = ROPE_LINEAR;
        else if (!strcmp(type, "llama3")) hp->rope = ROPE_LLAMA3;
        else
            return fail(PEFT_EUNSUPPORTED,
                        "rope scaling \"%s\", expected default, linear or llama3", type);
        if (!(hp->rope_factor > 0) || (hp->rope == ROPE_LLAMA3 &&
            (!(hp->rope_low > 0) || !(hp->rope_high > hp->rope_low) || !(hp->rope_original > 0))))
            return fail(PEFT_EFORMAT, "%s: rope scaling \"%s\" lacks its factors", m->path, type);
    }
    return PEFT_OK;
}

static int activation(struct model *m)
{
    static const struct { const char *name; enum act act; } table[] = {
        { "silu", ACT_SILU }, { "swish", ACT_SILU }, { "gelu", ACT_GELU }, { "relu", ACT_RELU },
        { "gelu_new", ACT_GELU_TANH }, { "gelu_pytorch_tanh", ACT_GELU_TANH },
        { "gelu_fast", ACT_GELU_TANH }
    };
    const char *s;
    int rc = store_config(m->store) ? store_string(m->store, "hidden_act", &s, NULL) : 0;
    m->hp.act = m->arch->style.gated ? ACT_SILU : ACT_GELU;
    if (rc <= 0) return rc;
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (!strcmp(s, table[i].name)) {
            m->hp.act = table[i].act;
            return PEFT_OK;
        }
    return fail(PEFT_EUNSUPPORTED, "activation \"%s\", expected silu, gelu, gelu_new or relu", s);
}

/* Qwen can give a window to the layers from max_window_layers on. */
static int refuse_mixed_windows(struct model *m)
{
    int windows = 0;
    int64_t first = 28;
    int rc = store_config(m->store) ? store_bool(m->store, "use_sliding_window", &windows) : 0;
    if (rc > 0 && windows) rc = store_int(m->store, "max_window_layers", 0, 1 << 30, &first);
    if (rc < 0) return rc;
    if (windows && !m->hp.window && first < m->hp.layers)
        return fail(PEFT_EUNSUPPORTED, "%s: windows from layer %d on, expected full attention in "
                    "every layer", m->path, (int)first);
    return PEFT_OK;
}

static int read_settings(struct model *m)
{
    struct hparams *hp = &m->hp;
    int rc = 0;
    for (const struct key *k = m->arch->keys; k->at != UINT16_MAX && !rc; k++) rc = read_key(m, k);
    if (!rc && m->arch->style.pos == POS_ROPE) rc = rope_settings(m);
    if (!rc) rc = activation(m);
    if (!rc) rc = refuse_mixed_windows(m);
    if (rc) return rc;
    if (hp->window && m->arch == &arch_llama) m->arch = &arch_mistral;
    if (!hp->kv_heads) hp->kv_heads = hp->heads;
    if (hp->layers < 1 || hp->dim < 1 || hp->heads < 1 || hp->ff < 1 || hp->max_len < 1)
        return fail(
            PEFT_EFORMAT,
            "%s: layers, hidden size, heads, feed-forward size and length must be 1 or more",
            m->path);
    if (!hp->head_dim) {
        if (hp->dim % hp->heads)
            return fail(PEFT_EFORMAT, "%s: hidden size %d is no multiple of %d heads", m->path,
                        (int)hp->dim, (int)hp->heads);
        hp->head_dim = hp->dim / hp->heads;
    }
    if (!hp->rot) hp->rot = hp->head_dim;
    if (hp->heads % hp->kv_heads)
        return fail(PEFT_EFORMAT, "%s: %d heads are no multiple of %d key-value heads", m->path,
                    (int)hp->heads, (int)hp->kv_heads);
    if (m->arch->style.pos == POS_ROPE && (hp->rot % 2 || hp->rot > hp->head_dim))
        return fail(PEFT_EFORMAT, "%s: %d rotary dimensions, expected an even number up to %d",
                    m->path, (int)hp->rot, (int)hp->head_dim);
    if (!(hp->eps >= 0 && hp->eps < 1) || (m->arch->style.pos == POS_ROPE && !(hp->theta > 0)))
        return fail(PEFT_EFORMAT, "%s: norm epsilon or rope base out of range", m->path);
    hp->tied = 1;
    if (store_config(m->store)) {
        int64_t labels = json_count(json_get(store_config(m->store), "id2label"));
        hp->tied = 0;
        rc = store_bool(m->store, "tie_word_embeddings", &hp->tied);
        hp->labels = labels > 0 ? labels : 0;
    }
    return MIN(rc, PEFT_OK);
}

/* --- parameters */

static int64_t dim_size(const struct hparams *hp, uint8_t d)
{
    switch (d) {
    case DIM_MODEL: return hp->dim;
    case DIM_Q: return hp->heads * hp->head_dim;
    case DIM_KV: return hp->kv_heads * hp->head_dim;
    case DIM_HEAD: return hp->head_dim;
    case DIM_FF: return hp->ff;
    case DIM_POS: return hp->max_len;
    case DIM_ROT_HALF: return hp->rot / 2;
    default: return d == DIM_ONE ? 1 : 0;       /* vocabulary, types, labels: the tensor tells */
    }
}

static void module_name(const char *pattern, int64_t layer, char *out, size_t cap)
{
    const char *mark = pattern ? strstr(pattern, "%d") : NULL;
    if (!pattern) out[0] = 0;
    else if (mark)
        snprintf(out, cap, "%.*s%d%s", (int)(mark - pattern), pattern, (int)layer, mark + 2);
    else snprintf(out, cap, "%s", pattern);
}

static const struct store_tensor *find_tensor(const struct model *m, const char *module,
                                              const char *suffix)
{
    char name[160];
    size_t skip = m->arch->prefix ? strlen(m->arch->prefix) : 0;
    snprintf(name, sizeof(name), "%s%s", module, suffix);
    const struct store_tensor *t = store_find(m->store, name);
    if (!t && store_format(m->store) == STORE_SAFETENSORS && skip &&
        !strncmp(name, m->arch->prefix, skip))
        t = store_find(m->store, name + skip);      /* a file of the bare body */
    return t;
}

static int check_shape(struct model *m, const struct slot_row *row, const struct store_tensor *t,
                       int64_t rows, int64_t cols)
{
    int64_t want_rows = dim_size(&m->hp, row->rows), want_cols = dim_size(&m->hp, row->cols);
    if ((want_rows && rows != want_rows) || (want_cols && cols != want_cols) || !rows || !cols)
        return fail(PEFT_EFORMAT,
                    "%s: tensor %s is [%lld, %lld], expected [%lld, %lld] by the settings", m->path,
                    t->name, (long long)rows, (long long)cols, (long long)want_rows,
                    (long long)want_cols);
    if (!t->type->to_f32)
        return fail(PEFT_EUNSUPPORTED, "%s: tensor %s has type %s, expected floats", m->path,
                    t->name, t->type->name);
    return PEFT_OK;
}

/* Checkpoints in FP8 often keep scales beside the weights; without them the
 * numbers would be wrong. */
static int check_unscaled(const struct model *m, const struct store_tensor *t)
{
    static const char *const suffixes[] = { "_scale", "_scale_inv" };
    char name[256];
    if (t->type->bytes > 1 || t->type->block > 1) return PEFT_OK;
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        snprintf(name, sizeof(name), "%s%s", t->name, suffixes[i]);
        if (store_find(m->store, name))
            return fail(PEFT_EUNSUPPORTED, "%s: tensor %s has its scales in %s, expected weights "
                        "without: convert the model to bf16", m->path, t->name, name);
    }
    return PEFT_OK;
}

static int add_param(struct model *m, const struct slot_row *row, const struct store_tensor *t,
                     const char *hf_module, const char *suffix, int64_t layer, struct param **out)
{
    int bias = !strcmp(suffix, ".bias"), one = t->n_dims == 1;
    int64_t rows = one ? 1 : t->dims[0], cols = one ? t->dims[0] : t->dims[1];
    if (t->n_dims < 1 || t->n_dims > 2 || one != (bias || row->kind == SITE_NORM))
        return fail(PEFT_EFORMAT, "%s: tensor %s has %d dimensions", m->path, t->name, t->n_dims);
    if (bias && (rows != 1 || (dim_size(&m->hp, row->kind == SITE_NORM ? row->cols : row->rows) &&
        cols != dim_size(&m->hp, row->kind == SITE_NORM ? row->cols : row->rows))))
        return fail(PEFT_EFORMAT, "%s: tensor %s has %lld elements, which does not fit its weight",
                    m->path, t->name, (long long)cols);
    int rc = bias ? PEFT_OK : check_shape(m, row, t, rows, cols);
    if (rc) return rc;
    if (!t->type->to_f32)
        return fail(PEFT_EUNSUPPORTED, "%s: tensor %s has type %s, expected floats", m->path,
                    t->name, t->type->name);
    rc = check_unscaled(m, t);
    if (rc) return rc;
    struct param *p = arena_alloc(&m->arena, sizeof(*p));
    char name[200];
    snprintf(name, sizeof(name), "%s%s", *hf_module ? hf_module : t->name,
             *hf_module ? suffix : "");
    char *kept = arena_strndup(&m->arena, name, (int64_t)strlen(name));
    if (!p || !kept) return PEFT_ENOMEM;
    *p = (struct param){ .name = kept, .type = t->type, .rows = rows, .cols = cols, .data = t->data,
                         .layer = (int32_t)layer, .n_dims = t->n_dims };
    p->rope_rows = store_format(m->store) == STORE_GGUF && (row->flags & SLOT_ROPE_ROWS);
    p->counted = p->trainable = !(row->flags & SLOT_NOT_A_WEIGHT);
    m->params[m->n_params++] = p;
    *out = p;
    /* Vectors are read as float32 by every kernel; a 16-bit one is copied. */
    if (p->n_dims == 1 && p->type != &qtype_f32) rc = param_own(m, p);
    p->stored = t->type;
    return rc;
}

/* A folder may hold a tied head once more.  As in transformers it is the
 * embedding then, and only other values make it a weight of its own. */
static int tied_copy(const struct model *m, const struct slot_row *row,
                     const struct store_tensor *w)
{
    if (row->slot != SLOT_LM_HEAD || !m->hp.tied || !store_config(m->store)) return 0;
    const struct param *embed = m->global[SLOT_EMBED]->w;
    return embed->type == w->type && w->n_dims == 2 && w->dims[0] == embed->rows &&
        w->dims[1] == embed->cols && !memcmp(w->data, embed->data, (size_t)w->bytes);
}

static int add_site(struct model *m, const struct slot_row *row, int64_t layer)
{
    char hf[160], module[160];
    int gguf = store_format(m->store) == STORE_GGUF;
    module_name(row->hf, layer, hf, sizeof(hf));
    module_name(gguf ? row->gguf : row->hf, layer, module, sizeof(module));
    const struct store_tensor *w = *module ? find_tensor(m, module, ".weight") : NULL;
    const struct store_tensor *b =
        *module && !(row->flags & SLOT_NO_BIAS) ? find_tensor(m, module, ".bias") : NULL;
    if ((!w || tied_copy(m, row, w)) && (row->flags & SLOT_OPTIONAL)) return PEFT_OK;
    if (!w)
        return fail(PEFT_EFORMAT, "%s has no tensor %s.weight, which %d layers of \"%s\" need",
                    m->path, module, (int)m->hp.layers, m->arch->name);
    struct site *s = arena_alloc(&m->arena, sizeof(*s));
    if (!s) return PEFT_ENOMEM;
    *s = (struct site){
        .layer = (int32_t)layer, .slot = row->slot, .kind = row->kind, .flags = row->flags
    };
    s->name = arena_strndup(&m->arena, *hf ? hf : module, (int64_t)strlen(*hf ? hf : module));
    if (!s->name) return PEFT_ENOMEM;
    int rc = add_param(m, row, w, hf, ".weight", layer, &s->w);
    if (!rc && b) rc = add_param(m, row, b, hf, ".bias", layer, &s->b);
    if (rc) return rc;
    m->sites[m->n_sites++] = s;
    if (layer < 0) m->global[row->slot] = s;
    else m->layers[layer].at[row->slot] = s;
    return PEFT_OK;
}

static int bind_params(struct model *m)
{
    const struct slot_row *row;
    int64_t rows = 0;
    int rc = 0;
    for (row = m->arch->slots; row->kind; row++) rows++;
    m->params = mem_array(&m->host.mem, rows * m->hp.layers * 2, sizeof(*m->params));
    m->sites = mem_array(&m->host.mem, rows * m->hp.layers, sizeof(*m->sites));
    m->layers = arena_alloc(&m->arena, m->hp.layers * (int64_t)sizeof(*m->layers));
    if (!m->params || !m->sites || !m->layers) return PEFT_ENOMEM;
    /* In forward order: what comes before the layers, the layers, the rest. */
    row = m->arch->slots;
    for (; row->kind && row->slot < SLOT_LAYER && !rc; row++) rc = add_site(m, row, -1);
    for (int64_t i = 0; i < m->hp.layers && !rc; i++)
        for (const struct slot_row *r = row; r->kind && r->slot >= SLOT_LAYER && !rc; r++)
            rc = add_site(m, r, i);
    while (row->kind && row->slot >= SLOT_LAYER) row++;
    for (; row->kind && !rc; row++) rc = add_site(m, row, -1);
    if (rc) return rc;
    m->hp.vocab = m->global[SLOT_EMBED]->w->rows;
    if (m->hp.vocab > INT32_MAX)
        return fail(PEFT_EFORMAT, "%s: vocabulary of %lld", m->path, (long long)m->hp.vocab);
    int64_t told = m->hp.vocab;
    if (store_config(m->store) && (rc = store_int(m->store, "vocab_size", 1, INT32_MAX, &told)) < 0)
        return rc;
    if (told != m->hp.vocab)
        return fail(PEFT_EFORMAT, "%s: vocab_size is %lld, the embedding has %lld rows", m->path,
                    (long long)told, (long long)m->hp.vocab);
    if (m->global[SLOT_LM_HEAD] && m->global[SLOT_LM_HEAD]->w->rows != m->hp.vocab)
        return fail(PEFT_EFORMAT, "%s: the head has %lld rows, the embedding %lld", m->path,
                    (long long)m->global[SLOT_LM_HEAD]->w->rows, (long long)m->hp.vocab);
    return PEFT_OK;
}

/* A classification head that the file holds, and its label names. */
static int bind_head(struct model *m)
{
    struct site *s = m->global[SLOT_CLASSIFIER];
    const json *names = json_get(store_config(m->store), "id2label");
    const char **labels;
    if (!s) {
        m->hp.labels = 0;
        if (m->arch->style.causal && !m->global[SLOT_LM_HEAD] && !m->hp.tied)
            return fail(PEFT_EFORMAT, "%s has no lm_head.weight and its embeddings are not tied",
                        m->path);
        return PEFT_OK;
    }
    int32_t n = (int32_t)s->w->rows;
    labels = arena_alloc(&m->arena, (int64_t)sizeof(*labels) * n);
    if (!labels) return PEFT_ENOMEM;
    for (const json *j = json_first(names); j; j = json_next(j)) {
        const char *key = json_key(j), *c = key ? key : "";
        int64_t id = 0;
        for (; *c >= '0' && *c <= '9' && id <= n; c++) id = id * 10 + *c - '0';
        if (!key || !*key || *c || id >= n || !json_string(j))
            return fail(PEFT_EFORMAT, "%s: id2label, expected names for \"0\" to \"%d\"", m->path,
                        n - 1);
        labels[id] = json_string(j);
    }
    const char *pool = json_string(json_get(store_config(m->store), "libpeft_pool"));
    m->head = s;
    m->pool_kind = pool && !strcmp(pool, "mean") ? POOL_MEAN : m->arch->style.pool;
    return model_set_labels(m, n, labels);
}

/* --- the whole */

static int open_tokenizer(struct model *m)
{
    int rc;
    if (store_format(m->store) == STORE_GGUF) {
        rc = tok_open_gguf(&m->host, m->store, &m->tok);
    } else if (path_kind(&m->host, m->path) == 2) {
        rc = tok_open_folder(&m->host, m->path, &m->tok);
    } else {
        char *dir = mem_strndup(&m->host.mem, m->path, MAX(0, path_base(m->path) - m->path));
        if (!dir) return PEFT_ENOMEM;
        rc = tok_open_folder(&m->host, *dir ? dir : ".", &m->tok);
        mem_free(&m->host.mem, dir);
    }
    if (rc == PEFT_ENOTFOUND) return PEFT_OK;
    if (rc) return rc;
    if (tok_info(m->tok)->n_vocab > m->hp.vocab)
        return fail(
            PEFT_EFORMAT,
            "the tokenizer has %lld tokens, the model's embedding only %lld rows: wrong tokenizer?",
            (long long)tok_info(m->tok)->n_vocab, (long long)m->hp.vocab);
    return PEFT_OK;
}

static int name_model(struct model *m)
{
    const char *s = NULL;
    int64_t n = 0;
    int rc = store_string(
        m->store, store_format(m->store) == STORE_GGUF ? "general.name" : "_name_or_path", &s, &n);
    if (rc <= 0 || n == 0) {
        s = path_base(m->path);
        n = (int64_t)strlen(s);
    }
    m->name = arena_strndup(&m->arena, s, n);
    return m->name ? PEFT_OK : PEFT_ENOMEM;
}

static int set_compute(struct model *m, const peft_load_opts *o)
{
    m->level = cpu_best();
    if (o && o->level) {
        int i = 0;
        while (i < CPU_LEVELS && strcmp(cpu_level_names[i], o->level)) i++;
        if (i == CPU_LEVELS || !cpu_has((enum cpu_level)i) || !kernels_get((enum cpu_level)i))
            return fail(PEFT_EARG,
                        "kernel level \"%s\", expected one that this processor has (best: %s)",
                        o->level, cpu_level_names[m->level]);
        m->level = (enum cpu_level)i;
    }
    int threads = o ? o->threads : 0;
    if (threads < 0 || threads > POOL_MAX)
        return fail(PEFT_EARG, "%d threads, expected 0 to %d", threads, POOL_MAX);
    int rc = pool_new(&m->host, threads ? threads : MIN(os_cores(), POOL_MAX), &m->pool);
    if (!rc)
        rc = blas_open(&m->host, o ? o->blas : NULL, &m->blas, m->blas_advice,
                       sizeof(m->blas_advice));
    if (rc) return rc;
    m->compute = (struct compute){ .k = kernels_get(m->level), .blas = m->blas, .pool = m->pool };
    return PEFT_OK;
}

int model_load(const char *path, const peft_load_opts *o, struct model **out)
{
    struct host host;
    int rc = host_init(&host, o);
    if (rc) return rc;
    struct model *m = mem_zalloc(&host.mem, sizeof(*m));
    if (!m) return PEFT_ENOMEM;
    rc = host_init(&m->host, o);
    m->rss_before = os_rss();
    atomic_store(&m->host.mem.live, atomic_load(&host.mem.live));
    arena_init(&m->arena, &m->host.mem);
    if (!rc && !(m->path = mem_strdup(&m->host.mem, path))) rc = PEFT_ENOMEM;
    if (!rc) rc = set_compute(m, o);
    if (!rc) rc = store_open(&m->host, path, !(o && o->no_map), &m->store);
    if (!rc) rc = find_arch(m);
    if (!rc) rc = read_settings(m);
    if (!rc) rc = bind_params(m);
    if (!rc) rc = bind_head(m);
    if (!rc) rc = name_model(m);
    if (!rc) rc = open_tokenizer(m);
    if (rc) {
        model_free(m);
        return rc;
    }
    m->rope_pair = store_format(m->store) == STORE_GGUF && m->arch->style.gguf_pair;
    *out = m;
    return PEFT_OK;
}

int model_graph(struct model *m)
{
    int rc = m->graph ? PEFT_OK : graph_new(&m->host, &m->compute, &m->graph);
    if (!rc && !m->mem) rc = pass_mem_new(&m->host, &m->mem);
    return rc;
}

void model_free(struct model *m)
{
    if (!m) return;
    struct mem mem;
    mem_init(&mem, m->host.mem.alloc, m->host.mem.ctx);
    for (int64_t i = 0; i < m->n_params; i++) mem_free(&m->host.mem, m->params[i]->own);
    for (struct adapter *a = m->adapters; a; a = a->next) {
        for (int64_t i = 0; i < a->n_sites; i++)
            for (int k = 0; k < PARTS; k++)
                if (a->sites[i].part[k]) mem_free(&m->host.mem, a->sites[i].part[k]->own);
        for (int64_t i = 0; i < a->n_saved; i++)
            mem_free(&m->host.mem, a->enabled ? a->saved[i].old_own : a->saved[i].mine);
    }
    graph_free(m->graph);
    pass_mem_free(m->mem);
    tok_free(m->tok);
    store_close(m->store);
    blas_close(&m->host, m->blas);
    pool_free(m->pool);
    mem_free(&m->host.mem, m->compute.scratch);
    mem_free(&m->host.mem, m->rope_table);
    mem_free(&m->host.mem, m->params);
    mem_free(&m->host.mem, m->sites);
    mem_free(&m->host.mem, m->path);
    arena_free(&m->arena);
    mem_free(&mem, m);
}
