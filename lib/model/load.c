/* File -> model: parameters bound to the mapped tensors, layers, head,
 * tokenizer.  Nothing is copied or expanded but vectors of 16 bits and weights
 * that Hugging Face keeps transposed. */
#include <stdio.h>

#include "model/load.h"
#include "model/quantise.h"
#include "model/rope.h"

/* --- parameters */

int64_t slot_dim(const struct hparams *hp, uint8_t d)
{
    switch (d) {
    case DIM_MODEL: return hp->dim;
    case DIM_EMBED: return hp->embed;
    case DIM_Q: return hp->heads * hp->head_dim;
    case DIM_KV: return hp->kv_heads * hp->head_dim;
    case DIM_QKV: return (hp->heads + 2 * hp->kv_heads) * hp->head_dim;
    case DIM_HEAD: return hp->head_dim;
    case DIM_FF: return hp->ff;
    case DIM_FF2: return 2 * hp->ff;
    case DIM_POS: return hp->max_len + hp->pos_offset;
    case DIM_EXPERTS: return hp->experts;
    case DIM_EXPERT_FF: return hp->expert_ff;
    case DIM_ROT_HALF: return hp->rot / 2;
    case DIM_PATCH: return hp->channels * hp->patch[0] * hp->patch[1];
    case DIM_PROJECTION: return hp->projection;
    case DIM_BUCKETS: return hp->buckets;
    case DIM_HEADS: return hp->heads;
    default: return d == DIM_ONE ? 1 : 0;       /* vocabulary, types, labels: the tensor tells */
    }
}

/* The first %d becomes the layer, the second the expert. */
static void module_name(const char *pattern, int64_t layer, int64_t expert, char *out, size_t cap)
{
    int64_t number[] = { layer, expert };
    size_t n = 0;
    const char *mark;
    *out = 0;
    for (int k = 0; pattern && k < 2 && (mark = strstr(pattern, "%d")); k++, pattern = mark + 2) {
        int len = snprintf(out + n, cap - n, "%.*s%d", (int)(mark - pattern), pattern,
                           (int)number[k]);
        n = MIN(n + (size_t)len, cap - 1);
    }
    if (pattern) snprintf(out + n, cap - n, "%s", pattern);
}

static const struct store_tensor *find_tensor(const struct model *m, const char *module,
                                              const char *suffix)
{
    char name[160];
    size_t skip = m->arch->prefix ? strlen(m->arch->prefix) : 0;
    snprintf(name, sizeof(name), "%s%s", module, suffix);
    const struct store_tensor *t = store_find(m->store, name);
    if (t || store_format(m->store) != STORE_SAFETENSORS || !skip ||
        strncmp(name, m->arch->prefix, skip))
        return t;
    t = store_find(m->store, name + skip);          /* a file of the bare body */
    if (t || !m->arch->style.span_prefix) return t;
    snprintf(name, sizeof(name), "%s%s%s", m->arch->style.span_prefix, module + skip, suffix);
    return store_find(m->store, name);
}

static int check_shape(struct model *m, const struct slot_row *row, const struct store_tensor *t,
                       int64_t rows, int64_t cols)
{
    int64_t want_rows = slot_dim(&m->hp, row->rows), want_cols = slot_dim(&m->hp, row->cols);
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

/* The file has the matrix as [in, out]; bitsandbytes turns what it quantises. */
static int held_turned(const struct model *m, const struct slot_row *row,
                       const struct store_tensor *t)
{
    return (row->flags & SLOT_TRANSPOSED) && store_format(m->store) != STORE_GGUF &&
        t->type->block == 1;
}

/* A matrix, a vector, or one expert's matrix of a stack of them (GGUF). */
struct shape { int64_t rows, cols; const char *data; };

/* A tensor of more dimensions than two: leading ones are dropped, the first of
 * the others are the rows (a vector is one row), the rest are columns. */
static int fold_shape(struct model *m, const struct slot_row *row, const struct store_tensor *t,
                      struct shape *out)
{
    const int64_t *d = t->dims, *end = d + t->n_dims;
    while (d < end - 1 && *d == 1) d++;
    out->rows = d < end - 1 ? *d : 1;
    out->cols = out->rows > 0 ? t->count / out->rows : 0;
    out->data = t->data;
    return check_shape(m, row, t, out->rows, out->cols);
}

static int read_shape(struct model *m, const struct slot_row *row, const struct store_tensor *t,
                      int bias, int64_t expert, struct shape *out)
{
    int one = t->n_dims == 1, stack = t->n_dims == 3 && row->slot >= SLOT_EXPERT;
    if ((row->flags & SLOT_FOLDED) && !bias) return fold_shape(m, row, t, out);
    const int64_t *d = t->dims + stack;
    int64_t size = slot_dim(&m->hp, row->kind & (SITE_NORM | SITE_BIAS) ? row->cols : row->rows);
    *out = (struct shape){ one ? 1 : d[0], one ? d[0] : d[1], t->data };
    if (t->n_dims < 1 || t->n_dims > 2 + stack || one != (bias || row->kind == SITE_NORM) ||
        (stack && (expert < 0 || d[-1] != m->hp.experts)))
        return fail(PEFT_EFORMAT, "%s: tensor %s has %d dimensions or a wrong count of experts",
                    m->path, t->name, t->n_dims);
    if (!t->type->to_f32)
        return fail(PEFT_EUNSUPPORTED, "%s: tensor %s has type %s, expected floats", m->path,
                    t->name, t->type->name);
    if (bias && size && out->cols != size)
        return fail(PEFT_EFORMAT, "%s: tensor %s has %lld elements, which does not fit its weight",
                    m->path, t->name, (long long)out->cols);
    if (stack) out->data += t->bytes / d[-1] * expert;
    if (!one && held_turned(m, row, t)) {
        out->rows = d[1];
        out->cols = d[0];
    }
    return bias ? PEFT_OK : check_shape(m, row, t, out->rows, out->cols);
}

/* A float copy of a matrix that the file holds as [in, out]. */
static int turn_param(struct model *m, struct param *p)
{
    float *own = mem_alloc(&m->host.mem, param_len(p) * 4);
    float *row = mem_alloc(&m->host.mem, p->rows * 4);
    const char *from = p->data;
    for (int64_t i = 0; own && row && i < p->cols; i++) {
        p->type->to_f32(row, from + i * (p->rows / p->type->block * p->type->bytes), p->rows);
        for (int64_t k = 0; k < p->rows; k++) own[k * p->cols + i] = row[k];
    }
    mem_free(&m->host.mem, row);
    if (!own || !row) {
        mem_free(&m->host.mem, own);
        return PEFT_ENOMEM;
    }
    p->data = p->own = own;
    p->type = &qtype_f32;
    p->turned = 1;
    return PEFT_OK;
}

static int add_param(struct model *m, const struct slot_row *row, const struct store_tensor *t,
                     const struct site *s, const char *suffix, int64_t expert, struct param **out)
{
    int bias = !strcmp(suffix, ".bias"), gguf = store_format(m->store) == STORE_GGUF;
    struct shape at;
    char name[200];
    int rc = read_shape(m, row, t, bias, expert, &at);
    if (!rc) rc = check_unscaled(m, t);
    if (rc) return rc;
    struct param *p = arena_alloc(&m->arena, sizeof(*p));
    int own_name = (row->flags & SLOT_TENSOR) && !bias;
    snprintf(name, sizeof(name), "%s%s", s->name, row->hf && !own_name ? suffix : "");
    char *kept = arena_strndup(&m->arena, row->hf ? name : t->name,
                               (int64_t)strlen(row->hf ? name : t->name));
    if (!p || !kept) return PEFT_ENOMEM;
    *p = (struct param){ .name = kept, .type = t->type, .rows = at.rows, .cols = at.cols,
                         .data = at.data, .layer = s->layer, .n_dims = MIN(t->n_dims, 2) };
    if (t->n_dims > 2 && (row->flags & SLOT_FOLDED)) {
        p->file_n_dims = (int8_t)t->n_dims;
        memcpy(p->file_dims, t->dims, sizeof(p->file_dims));
    }
    p->order = gguf ? slot_order(m->arch, row) : ROWS_PLAIN;
    p->plus = row->kind == SITE_NORM && m->arch->style.norm_plus && gguf;
    p->counted = !(row->flags & SLOT_NOT_A_WEIGHT);
    p->trainable = !(row->flags & (SLOT_NOT_A_WEIGHT | SLOT_IDLE));
    m->params[m->n_params++] = p;
    *out = p;
    if ((row->flags & SLOT_TRANSPOSED) && !bias) {
        if (held_turned(m, row, t)) rc = turn_param(m, p);
        p->turned = 1;
    }
    /* Vectors are read as float32 by every kernel; a 16-bit one is copied. */
    if (p->n_dims == 1 && p->type != &qtype_f32) rc = param_own(m, p);
    p->stored = t->type;
    return rc;
}

static struct site **site_at(struct model *m, int slot, int64_t layer, int64_t expert)
{
    if (layer < 0) return &m->global[slot];
    if (expert < 0) return &m->layers[layer].at[slot];
    return &m->layers[layer].experts[expert].at[slot - SLOT_EXPERT];
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

/* The module's name in memory of transformers, by the family's renames. */
static const char *peft_name(struct model *m, const char *name)
{
    const char *const(*r)[2] = m->arch->style.renames, *at;
    char text[200];
    for (; r && (*r)[0]; r++) {
        if (!(at = strstr(name, (*r)[0]))) continue;
        int n = snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - name), name, (*r)[1],
                         at + strlen((*r)[0]));
        name = arena_strndup(&m->arena, text, MIN(n, (int)sizeof(text) - 1));
        if (!name) return NULL;
    }
    return name;
}

/* Two names of Hugging Face's may have one in GGUF, where the first counts. */
static int is_taken(const struct model *m, const struct slot_row *row,
                    const struct store_tensor *w, int64_t layer)
{
    for (int k = SLOT_LAYER; layer >= 0 && w && k < row->slot && k < SLOT_EXPERT; k++) {
        const struct site *s = m->layers[layer].at[k];
        if (s && s->w->data == w->data) return 1;
    }
    return 0;
}

static int add_site(struct model *m, const struct slot_row *row, int64_t layer, int64_t expert)
{
    char hf[160], module[160];
    int gguf = store_format(m->store) == STORE_GGUF;
    struct site **at = site_at(m, row->slot, layer, expert);
    int64_t number = layer - m->stack[stack_of(row->flags)].first;
    if (*at || !slot_with(row, m->kind) ||
        ((row->flags & SLOT_GATED) && !m->layers[layer].at[SLOT_GATE]))
        return PEFT_OK;
    module_name(row->hf, number, expert, hf, sizeof(hf));
    module_name(gguf ? row->gguf : row->hf, number, expert, module, sizeof(module));
    const char *suffix = row->flags & SLOT_TENSOR ? "" : row->kind == SITE_BIAS ? ".bias"
                                                                                 : ".weight";
    const struct store_tensor *w = *module ? find_tensor(m, module, suffix) : NULL;
    const struct store_tensor *b = *module && !(row->flags & SLOT_NO_BIAS) && row->kind != SITE_BIAS
                                       ? find_tensor(m, module, ".bias") : NULL;
    /* Files made before transformers 1.0 call a norm's parts so. */
    if (!w && row->kind == SITE_NORM && !gguf && (w = find_tensor(m, module, ".gamma")))
        b = find_tensor(m, module, ".beta");
    if ((!w || tied_copy(m, row, w) || (gguf && is_taken(m, row, w, layer))) &&
        (row->flags & SLOT_OPTIONAL))
        return PEFT_OK;
    if (!w)
        return fail(PEFT_EFORMAT, "%s has no tensor %s%s, which %d layers of \"%s\" need",
                    m->path, module, suffix, (int)m->hp.layers, m->arch->name);
    struct site *s = arena_alloc(&m->arena, sizeof(*s));
    if (!s) return PEFT_ENOMEM;
    *s = (struct site){ .layer = (int32_t)layer, .slot = row->slot, .kind = row->kind,
                        .flags = (uint16_t)row->flags, .row = row, .expert = (int32_t)expert };
    s->name = arena_strndup(&m->arena, *hf ? hf : module, (int64_t)strlen(*hf ? hf : module));
    if (!s->name || !(s->peft_name = peft_name(m, s->name))) return PEFT_ENOMEM;
    int rc = add_param(m, row, w, s, suffix, expert, &s->w);
    if (!rc && b) rc = add_param(m, row, b, s, ".bias", expert, &s->b);
    if (rc) return rc;
    s->index = m->n_sites;
    m->sites[m->n_sites++] = s;
    *at = s;
    return PEFT_OK;
}

/* The slots of one layer, whose stack's rows begin at `row`. */
static int bind_layer(struct model *m, const struct slot_row *row, int64_t layer)
{
    struct layer *l = &m->layers[layer];
    int rc = PEFT_OK;
    if (m->hp.experts) {
        l->experts = arena_alloc(&m->arena, m->hp.experts * (int64_t)sizeof(*l->experts));
        if (!l->experts) return PEFT_ENOMEM;
    }
    int stack = stack_of(row->flags);
    for (; row->slot >= SLOT_LAYER && stack_of(row->flags) == stack && !rc; row++) {
        if (row->slot < SLOT_EXPERT) rc = add_site(m, row, layer, -1);
        else
            for (int64_t e = 0; e < m->hp.experts && !rc; e++) rc = add_site(m, row, layer, e);
    }
    return rc;
}

/* The vocabulary's size is that of the embedding. */
static int check_vocab(struct model *m)
{
    m->hp.vocab = m->global[SLOT_EMBED]->w->rows;
    if (m->hp.vocab > INT32_MAX)
        return fail(PEFT_EFORMAT, "%s: vocabulary of %lld", m->path, (long long)m->hp.vocab);
    int64_t told = m->hp.vocab;
    int rc = store_config(m->store) ? store_int(m->store, "vocab_size", 1, INT32_MAX, &told) : 0;
    if (rc < 0) return rc;
    if (told != m->hp.vocab)
        return fail(PEFT_EFORMAT, "%s: vocab_size is %lld, the embedding has %lld rows", m->path,
                    (long long)told, (long long)m->hp.vocab);
    const struct site *lm = m->global[SLOT_LM_HEAD], *bias = m->global[SLOT_LM_BIAS];
    int64_t rows = lm ? lm->w->rows : told;
    if (rows == told && bias) rows = bias->w->cols;
    if (rows != told)
        return fail(PEFT_EFORMAT, "%s: the head has %lld rows, the embedding %lld", m->path,
                    (long long)rows, (long long)told);
    return PEFT_OK;
}

static int bind_params(struct model *m)
{
    const struct slot_row *row;
    int64_t rows = 0;
    int rc = 0;
    for (row = m->arch->slots; row->kind; row++) rows++;
    int64_t most = rows * m->hp.layers * (m->hp.experts + 1);
    m->params = mem_array(&m->host.mem, most * 2, sizeof(*m->params));
    m->sites = mem_array(&m->host.mem, most, sizeof(*m->sites));
    if (!m->params || !m->sites) return PEFT_ENOMEM;
    /* In forward order: what comes before the layers, the layers, the rest. */
    int64_t done = 0;
    for (row = m->arch->slots; row->kind && !rc;) {
        if (row->slot < SLOT_LAYER) {
            rc = add_site(m, row++, -1, -1);
            continue;
        }
        int which = stack_of(row->flags);
        const struct stack *s = &m->stack[which];
        for (int64_t i = s->first; i < s->end && !rc; i++, done = m->n_sites) {
            rc = bind_layer(m, row, i);
            if (!rc) rc = quantise_sites(m, done);
        }
        while (row->slot >= SLOT_LAYER && stack_of(row->flags) == which) row++;
    }
    if (!rc) rc = quantise_sites(m, done);
    if (!rc) rc = quantise_check(m);
    if (rc) return rc;
    if (!store_config(m->store)) m->hp.act = model_act(m);
    return m->global[SLOT_EMBED] ? check_vocab(m) : PEFT_OK;
}

/* Whether the file holds the module that makes a head of this kind. */
static int has_head(const struct model *m, enum head_id kind)
{
    const struct slot_row *row = head_row(m->arch, kind);
    if (!row || store_format(m->store) == STORE_GGUF) return 0;
    if (kind != HEAD_MASKED) return find_tensor(m, row->hf, ".weight") != NULL;
    for (row = m->arch->slots; row->kind; row++)
        if ((row->slot == SLOT_LM_DENSE || row->slot == SLOT_POOLER) && slot_with(row, kind) &&
            (row->flags & SLOT_OF_HEAD) && find_tensor(m, row->hf, ".weight"))
            return 1;
    return 0;
}

/* The head that the class in config.json names, told from others of the same
 * class by the type of the problem; or the first whose module is there. */
static void find_head(struct model *m)
{
    const json *c = store_config(m->store);
    const char *class = json_string(json_first(json_get(c, "architectures")));
    const char *problem = json_string(json_get(c, "problem_type"));
    const char *ours = json_string(json_get(c, "libpeft_head"));
    int64_t best = -1, n = class ? (int64_t)strlen(class) : 0;
    m->kind = m->arch->class_lm ? HEAD_LM : HEAD_BODY;
    for (int k = HEAD_CLASS; k < HEAD_IDS; k++) {
        const struct head_kind *h = &head_kinds[k];
        int64_t len = (int64_t)strlen(h->suffix), score;
        score = 8 * (n > len && !strcmp(class + n - len, h->suffix)) +
                4 * (ours && !strcmp(ours, h->name)) +
                2 * (problem && h->problem && !strcmp(problem, h->problem));
        if (score <= best || !has_head(m, (enum head_id)k)) continue;
        best = score;
        m->kind = (enum head_id)k;
    }
}

/* A classification head that the file holds, and its label names. */
static int bind_head(struct model *m)
{
    struct site *s = m->global[SLOT_CLASSIFIER];
    const json *names = json_get(store_config(m->store), "id2label");
    const char **labels;
    if (!s) {
        m->hp.labels = 0;
        m->kind = model_bare_kind(m);
        const char *class = json_string(json_first(json_get(store_config(m->store),
                                                            "architectures")));
        if (m->arch->style.causal && m->kind == HEAD_BODY &&
            !(class && !strcmp(class, m->arch->class_base)))
            return fail(PEFT_EFORMAT, "%s has no lm_head.weight and its embeddings are not tied",
                        m->path);
        return PEFT_OK;
    }
    int32_t n = (int32_t)s->w->rows, fixed = head_kinds[m->kind].labels;
    enum head_id kind = m->kind == HEAD_CLASS && n == 1 ? HEAD_REGRESS : m->kind;
    m->kind = HEAD_CLASS;
    int rc = model_set_kind(m, kind);
    if (rc) return rc;
    if (fixed && n != fixed)
        return fail(PEFT_EFORMAT, "%s: the head has %d outputs, expected %d", m->path, n, fixed);
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
    if (!pool) pool = json_string(json_get(store_config(m->store), "classifier_pooling"));
    m->head = s;
    m->pool_kind = m->arch->style.pool;
    if (pool && pool_by_name(pool, &m->pool_kind))
        return fail_in(PEFT_EFORMAT, "%s: ", m->path);
    return model_set_labels(m, n, labels);
}

/* --- the whole */

char *model_folder(struct model *m)
{
    struct mem *mem = &m->host.mem;
    if (path_kind(&m->host, m->path) == 2) return mem_strdup(mem, m->path);
    int64_t n = path_base(m->path) - m->path;
    return n ? mem_strndup(mem, m->path, n) : mem_strdup(mem, ".");
}

static int open_tokenizer(struct model *m)
{
    int rc;
    if (store_format(m->store) == STORE_GGUF) {
        rc = tok_open_gguf(&m->host, m->store, &m->tok);
    } else {
        char *dir = model_folder(m);
        if (!dir) return PEFT_ENOMEM;
        rc = tok_open_folder(&m->host, dir, &m->tok);
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
    const char *kind = o && o->compute ? o->compute : "f32";
    m->compute.tile = tile_full(m->level);
    if (!strcmp(kind, "f32")) return PEFT_OK;
    int any = !strcmp(kind, "auto");
    if (!any && strcmp(kind, "bf16"))
        return fail(PEFT_EARG, "compute \"%s\", expected f32, bf16 or auto", kind);
    const struct tile *half = tile_half(m->level);
    if (half) m->compute.tile = half;
    return half || any ? PEFT_OK
        : fail(PEFT_EUNSUPPORTED, "compute bf16 wants a processor with AVX512-BF16 or AMX, and "
               "kernels of level avx512 (here: %s)", cpu_level_names[m->level]);
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
    m->private_before = os_rss_private();
    m->any_base = o && o->any_base;
    m->edits = 1;
    atomic_store(&m->host.mem.live, atomic_load(&host.mem.live));
    arena_init(&m->arena, &m->host.mem);
    if (!rc && !(m->path = mem_strdup(&m->host.mem, path))) rc = PEFT_ENOMEM;
    if (!rc) rc = set_compute(m, o);
    if (!rc && o && o->quant) rc = wish_find(o->quant, IN_MEMORY, "quant", &m->quant);
    bool began = mem_budget(&m->host.mem);
    if (!rc) rc = store_open(&m->host, path, !(o && o->no_map), &m->store);
    /* Copies as floats: of one byte four. */
    if (!rc && store_format(m->store) == STORE_SAFETENSORS)
        mem_budget_more(&m->host.mem, 4 * store_bytes(m->store));
    if (!rc) rc = load_arch(m);
    if (!rc) rc = load_settings(m);
    if (!rc) rc = load_layers(m);
    if (!rc) find_head(m);
    if (!rc) rc = bind_params(m);
    if (!rc) rc = scaling_bind(m);
    if (!rc) rc = rope_slopes(m);
    if (!rc) rc = model_make_output(m);
    if (!rc) rc = bind_head(m);
    if (!rc) rc = name_model(m);
    if (!rc) rc = m->hp.channels ? vision_open(m) : open_tokenizer(m);
    if (!rc) rc = load_sentence(m);
    if (!rc) rc = gen_load(m);
    mem_budget_end(&m->host.mem, began);
    if (rc) {
        model_free(m);
        return rc == PEFT_EARG ? rc : fail_path(rc, path);
    }
    m->rope_pair = store_format(m->store) == STORE_GGUF && m->arch->style.gguf_pair;
    *out = m;
    return PEFT_OK;
}

int model_graph_and(struct model *m, int64_t more)
{
    int rc = m->graph ? PEFT_OK : graph_new(&m->host, &m->compute, &m->graph);
    if (!rc && !m->mem) rc = pass_mem_new(&m->host, &m->mem);
    if (rc) return rc;
    const struct limited *l = &m->limited;
    if (l->idle) graph_release(l->idle);
    if (l->room && more >= l->room)
        return fail(PEFT_ENOMEM, "%lld bytes are needed, and the trainer's memory limit leaves "
                    "%lld", (long long)more, (long long)l->room);
    graph_limit(m->graph, l->room ? l->room - more : 0);
    graph_chunks(m->graph, l->chunks);
    graph_on_read(m->graph, l->lean ? model_forget : NULL, m);
    return PEFT_OK;
}

void model_forget(void *m, const struct tensor *leaf)
{
    int64_t bytes;
    if (!qtype_bytes(leaf->type, tensor_len(leaf), &bytes)) return;
    store_forget(((struct model *)m)->store, leaf->x, bytes);
}

int model_graph(struct model *m) { return model_graph_and(m, 0); }

void model_free(struct model *m)
{
    if (!m) return;
    struct mem mem;
    mem_init(&mem, m->host.mem.alloc, m->host.mem.ctx);
    for (int64_t i = 0; i < m->n_params; i++) {
        mem_free(&m->host.mem, m->params[i]->own);
        mem_free(&m->host.mem, m->params[i]->packed);
    }
    if (m->untied) mem_free(&m->host.mem, m->untied->own);
    for (struct adapter *a = m->adapters, *next; a; a = next) {
        struct arena arena = a->arena;
        next = a->next;
        for (int64_t i = 0; i < a->n_sites; i++) adapted_free(m, &a->sites[i]);
        for (int k = 0; k < COMMON; k++)
            if (a->common[k]) mem_free(&m->host.mem, a->common[k]->own);
        for (int64_t i = 0; i < a->n_saved; i++)
            mem_free(&m->host.mem, a->enabled ? a->saved[i].old_own : a->saved[i].mine);
        for (int64_t i = 0; i < a->n_merged; i++) mem_free(&m->host.mem, a->merged[i].old_own);
        arena_free(&arena);
    }
    graph_free(m->graph);
    pass_mem_free(m->mem);
    tok_free(m->tok);
    store_close(m->store);
    blas_close(&m->host, m->blas);
    pool_free(m->pool);
    mem_free(&m->host.mem, m->compute.scratch);
    mem_free(&m->host.mem, m->compute.panels);
    mem_free(&m->host.mem, m->params);
    mem_free(&m->host.mem, m->sites);
    mem_free(&m->host.mem, m->path);
    arena_free(&m->arena);
    mem_free(&mem, m);
}
